/* The light client's figures on one core: headers linked, signed payload heads, account proofs, beside what they rest on
 * (Keccak, ecrecover). One JSON object a figure (contrib/bench/run). */
#include "base/keccak.h"
#include "base/mem.h"
#include "net/chain.h"
#include "net/hexjson.h"
#include "net/payload.h"
#include "net/rlp.h"
#include "net/tx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/banned.h"

enum { HEADERS = 20000, PROOF_DEPTH = 8, ROUNDS_US = 700000 };

static void must(enum loam_status st, const struct err *e) {
    if (!st)
        return;
    fprintf(stderr, "bench_net: %s\n", e->text);
    exit(status_exit(st));
}

static void figure(const char *name, double value, const char *unit, const char *better, const char *goal, const char *peer, const char *peer_value) {
    printf("{\"suite\": \"net\", \"name\": \"%s\", \"value\": %.5g, \"unit\": \"%s\", \"better\": \"%s\", \"goal\": %s, \"peer\": %s, "
           "\"peer_value\": %s, \"command\": \"bench_net\"}\n",
           name, value, unit, better, goal, peer, peer_value);
    fflush(stdout);
}

/* Microseconds of processor time: what one core does, whoever else uses the machine. */
static uint64_t cpu_us(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000u + (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static double per_second(uint64_t n, uint64_t from) {
    return (double)n / ((double)(cpu_us() - from) / 1e6);
}

static uint64_t seed = 88172645463325252u;
static void noise(uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        p[i] = (uint8_t)seed;
    }
}

static struct header_rules rules = {.forks = {0, 0, 0, 0, 0, 0, FORK_NEVER}, .elasticity = 6, .denominator = 50, .denominator_canyon = 250, .block_time = 2};

static void keccak_bench(void) {
    static uint8_t big[1 << 16];
    uint8_t h[32];
    uint64_t n = 0, from = cpu_us();
    while (cpu_us() - from < ROUNDS_US)
        for (int i = 0; i < 16; i++, n++)
            keccak256(h, big, sizeof big);
    figure("keccak-256, 64 KiB", per_second(n, from) * sizeof big / 1e6, "MB/s", "higher", "null", "null", "null");
#if defined __x86_64__
    /* in cycles of the time stamp counter: what one byte costs on this machine */
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 200; i++) {
        uint64_t c = __builtin_ia32_rdtsc();
        keccak256(h, big, sizeof big);
        c = __builtin_ia32_rdtsc() - c;
        least = c < least ? c : least;
    }
    figure("keccak-256, best", (double)least / sizeof big, "TSC cycles/byte", "lower", "null", "null", "null");
#endif
}

static void first_header(struct header *h) {
    static const uint8_t extra[9] = {0, 0, 0, 0, 250, 0, 0, 0, 6};
    memset(h, 0, sizeof *h);
    noise(h->state_root.b, 32);
    noise(h->bloom, 256);
    h->uncles = header_empty_uncles;
    h->tx_root = h->receipts_root = header_empty_root;
    h->gas_limit = 60000000;
    h->gas_used = 9000000;
    h->timestamp = 1760000000;
    h->number = 35000000;
    h->fields = 21;
    h->base_fee = u256_from(1000000);
    memcpy(h->extra, extra, 9);
    h->extra_len = 9;
    h->requests_hash = header_empty_requests;
    noise(h->withdrawals_root.b, 32);
}

static void header_bench(void) {
    struct err e;
    struct buf *rlp = mem_zarray(HEADERS, sizeof *rlp);
    struct header h, prev;
    json_t **js = mem_zarray(1000, sizeof *js);
    if (!rlp || !js)
        exit(12);
    first_header(&h);
    for (size_t i = 0; i < HEADERS; i++) {
        must(header_hash(&h, &e), &e);
        buf_init(&rlp[i], HEADER_RLP_MAX);
        must(header_to_rlp(&rlp[i], &h, &e), &e);
        prev = h;
        h.parent = prev.hash;
        h.number++;
        h.timestamp += 2;
        noise(h.state_root.b, 32);
        must(header_next_base_fee(&h.base_fee, &prev, h.timestamp, &rules, &e), &e);
    }
    uint64_t n = 0, from = cpu_us();
    while (cpu_us() - from < ROUNDS_US) {
        must(header_from_rlp(&prev, rlp[0].data, rlp[0].len, &e), &e);
        for (size_t i = 1; i < HEADERS; i++, n++) {
            must(header_from_rlp(&h, rlp[i].data, rlp[i].len, &e), &e);
            must(header_check(&h, &rules, &e), &e);
            must(header_follows(&h, &prev, &rules, &e), &e);
            prev = h;
        }
    }
    figure("headers linked, from RLP", per_second(n, from), "1/s", "higher", "200000", "null", "null");
    /* from JSON text, as an RPC sends them */
    char *text[64];
    for (size_t i = 0; i < 64; i++) {
        struct header x;
        must(header_from_rlp(&x, rlp[i].data, rlp[i].len, &e), &e);
        json_t *o = json_object();
#define B(k, f, len) json_object_set_new(o, k, hj_new_bytes(f, len))
        B("parentHash", x.parent.b, 32);
        B("sha3Uncles", x.uncles.b, 32);
        B("miner", x.miner.b, 20);
        B("stateRoot", x.state_root.b, 32);
        B("transactionsRoot", x.tx_root.b, 32);
        B("receiptsRoot", x.receipts_root.b, 32);
        B("logsBloom", x.bloom, 256);
        json_object_set_new(o, "difficulty", hj_new_u64(0));
        json_object_set_new(o, "number", hj_new_u64(x.number));
        json_object_set_new(o, "gasLimit", hj_new_u64(x.gas_limit));
        json_object_set_new(o, "gasUsed", hj_new_u64(x.gas_used));
        json_object_set_new(o, "timestamp", hj_new_u64(x.timestamp));
        B("extraData", x.extra, x.extra_len);
        B("mixHash", x.mix_hash.b, 32);
        B("nonce", x.nonce, 8);
        json_object_set_new(o, "baseFeePerGas", hj_new_u256(x.base_fee));
        B("withdrawalsRoot", x.withdrawals_root.b, 32);
        json_object_set_new(o, "blobGasUsed", hj_new_u64(0));
        json_object_set_new(o, "excessBlobGas", hj_new_u64(0));
        B("parentBeaconBlockRoot", x.beacon_root.b, 32);
        B("requestsHash", x.requests_hash.b, 32);
        B("hash", x.hash.b, 32);
#undef B
        text[i] = json_dumps(o, JSON_COMPACT);
        json_decref(o);
    }
    n = 0;
    from = cpu_us();
    while (cpu_us() - from < ROUNDS_US)
        for (size_t i = 1; i < 64; i++, n++) {
            json_t *o = json_loads(text[i], JSON_REJECT_DUPLICATES, NULL);
            must(header_from_json(&h, o, &e), &e);
            must(header_check(&h, &rules, &e), &e);
            json_decref(o);
        }
    figure("headers checked, from JSON text", per_second(n, from), "1/s", "higher", "null", "null", "null");
    for (size_t i = 0; i < 64; i++)
        free(text[i]);
    for (size_t i = 0; i < HEADERS; i++)
        buf_clear(&rlp[i]);
    mem_free(rlp);
    mem_free(js);
}

/* A proof as mainnets have it: full branches of 532 bytes above one leaf. */
static void proof_bench(void) {
    struct err e;
    struct addr20 addr;
    uint8_t key[32], child[32];
    struct buf node[PROOF_DEPTH + 1];
    struct bytes_view v[PROOF_DEPTH + 1];
    struct hash32 root;
    struct account a;
    noise(addr.b, 20);
    keccak256(key, addr.b, 20);
    /* leaf: odd or even path of 64 - PROOF_DEPTH nibbles, value rlp[nonce, balance, root, code hash] */
    struct buf val = BUF_INIT(256);
    must(rlp_put_u64(&val, 5, &e), &e);
    must(rlp_put_u64(&val, 123456789, &e), &e);
    must(rlp_put(&val, header_empty_root.b, 32, &e), &e);
    must(rlp_put(&val, account_empty_code.b, 32, &e), &e);
    must(rlp_wrap(&val, 0, &e), &e);
    uint8_t path[33];
    size_t n = 0;
    path[n++] = 0x20;
    for (size_t i = PROOF_DEPTH; i < 64; i += 2)
        path[n++] = key[i / 2];
    for (size_t i = 0; i <= PROOF_DEPTH; i++)
        buf_init(&node[i], 1024);
    must(rlp_put(&node[PROOF_DEPTH], path, n, &e), &e);
    must(rlp_put(&node[PROOF_DEPTH], val.data, val.len, &e), &e);
    must(rlp_wrap(&node[PROOF_DEPTH], 0, &e), &e);
    keccak256(child, node[PROOF_DEPTH].data, node[PROOF_DEPTH].len);
    for (size_t d = PROOF_DEPTH; d--;) {
        unsigned nib = d % 2 ? key[d / 2] & 15u : key[d / 2] >> 4;
        for (unsigned k = 0; k < 16; k++) {
            uint8_t other[32];
            noise(other, 32);
            must(rlp_put(&node[d], k == nib ? child : other, 32, &e), &e);
        }
        must(rlp_put(&node[d], "", 0, &e), &e);
        must(rlp_wrap(&node[d], 0, &e), &e);
        keccak256(child, node[d].data, node[d].len);
    }
    memcpy(root.b, child, 32);
    for (size_t i = 0; i <= PROOF_DEPTH; i++)
        v[i] = (struct bytes_view){node[i].data, node[i].len};
    uint64_t count = 0, from = cpu_us();
    while (cpu_us() - from < ROUNDS_US)
        for (int i = 0; i < 256; i++, count++)
            must(trie_account(&a, &root, &addr, v, PROOF_DEPTH + 1, &e), &e);
    figure("account proofs, 8 branches and a leaf", per_second(count, from), "1/s", "higher", "60000", "null", "null");
    for (size_t i = 0; i <= PROOF_DEPTH; i++)
        buf_clear(&node[i]);
    buf_clear(&val);
}

static void payload_bench(void) {
    static const uint8_t key[32] = {[31] = 9};
    struct err e;
    struct header h;
    struct tx_signer who;
    struct buf raw[2] = {BUF_INIT(4096), BUF_INIT(4096)};
    struct bytes_view v[2];
    struct payload_message m = {.bytes = BUF_INIT(PAYLOAD_MAX)};
    struct hash32 d;
    uint8_t cd[176] = {0x09, 0x89, 0x99, 0xbe};
    must(tx_signer_from_key(&who, key, &e), &e);
    struct tx dep = {.type = TX_DEPOSIT, .to = l1_block_predeploy, .gas = 1000000, .data = cd, .data_len = sizeof cd};
    must(tx_encode(&raw[0], &dep, &e), &e);
    struct tx t = {.type = TX_1559, .chain_id = 1612, .gas = 21000, .gas_price = u256_from(1000), .to = {{1}}, .value = u256_from(1)};
    must(tx_sign(&raw[1], NULL, &t, &who, &e), &e);
    for (int i = 0; i < 2; i++)
        v[i] = (struct bytes_view){raw[i].data, raw[i].len};
    first_header(&h);
    must(trie_ordered_root(&h.tx_root, v, 2, &e), &e);
    must(header_hash(&h, &e), &e);
    must(payload_encode(&m.bytes, &h, v, 2, 4, &e), &e);
    payload_signing_hash(&d, 1612, m.bytes.data, m.bytes.len);
    must(who.sign(who.ctx, m.sig, &d, &e), &e);
    uint64_t n = 0, from = cpu_us();
    while (cpu_us() - from < ROUNDS_US)
        for (int i = 0; i < 64; i++, n++) {
            struct addr20 a;
            must(tx_recover(&a, &d, m.sig, &e), &e);
        }
    figure("ecrecover", per_second(n, from), "1/s", "higher", "null", "null", "null");
    n = 0;
    from = cpu_us();
    while (cpu_us() - from < ROUNDS_US)
        for (int i = 0; i < 64; i++, n++) {
            struct payload p;
            must(payload_verify(&p, &m, 0, 1612, &rules, h.timestamp, &who.addr, 1, &e), &e);
            payload_clear(&p);
        }
    figure("signed payload heads, 2 transactions", per_second(n, from), "1/s", "higher", "15000", "null", "null");
    payload_message_clear(&m);
    buf_clear(&raw[0]);
    buf_clear(&raw[1]);
}

int main(void) {
    keccak_bench();
    header_bench();
    proof_bench();
    payload_bench();
    return 0;
}
