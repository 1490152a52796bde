#include "sim.h"

#include "test.h"

#include "base/keccak.h"
#include "base/mem.h"
#include "net/abi.h"
#include "net/bloom.h"
#include "net/hexjson.h"
#include "net/rlp.h"

#include <snappy-c.h>

const uint8_t sim_user_key[32] = {[31] = 0x11}, sim_sequencer_key[32] = {[31] = 0x22};
const struct addr20 sim_ledger = {{0x1e, 0xd6, 0xe5, [19] = 1}};
const struct addr20 sim_system_config = {{0x5c, [19] = 1}}, sim_factory = {{0xfa, [19] = 3}}, sim_registry = {{0xa5, [19] = 6}},
                    sim_portal = {{0x90, [19] = 8}}, sim_token = {{0x70, [19] = 9}};
static const struct addr20 l1block = {{0x42, [19] = 0x15}}, passer = {{0x42, [19] = 0x16}};

struct sim_account *sim_account(struct sim *s, const struct addr20 *a) {
    for (size_t i = 0; i < s->accs; i++)
        if (addr_eq(&s->acc[i].addr, a))
            return &s->acc[i];
    assert_true(s->accs < SIM_ACCOUNTS);
    struct sim_account *x = &s->acc[s->accs++];
    memset(x, 0, sizeof *x);
    x->addr = *a;
    x->nonce = 1;
    return x;
}

void sim_set(struct sim *s, const struct addr20 *a, const struct hash32 *slot, struct u256 v) {
    struct sim_account *x = sim_account(s, a);
    for (size_t i = 0; i < x->slots; i++)
        if (hash_eq(&x->slot[i], slot)) {
            x->value[i] = v;
            return;
        }
    assert_true(x->slots < SIM_SLOTS);
    x->slot[x->slots] = *slot;
    x->value[x->slots++] = v;
}

struct leafs {
    struct trie_entry e[64];
    uint8_t key[64][32];
    struct buf val[64];
    size_t n;
};
static void leaf(struct leafs *l, const void *key, size_t n, const struct buf *v) {
    keccak256(l->key[l->n], key, n);
    l->val[l->n] = *v;
    l->e[l->n] = (struct trie_entry){{l->key[l->n], 32}, {v->data, v->len}};
    l->n++;
}
static void leafs_clear(struct leafs *l) {
    for (size_t i = 0; i < l->n; i++)
        buf_clear(&l->val[i]);
}

static void storage_leafs(struct leafs *l, const struct sim_account *a) {
    struct err e;
    l->n = 0;
    for (size_t i = 0; i < a->slots; i++) {
        struct buf v = BUF_INIT(64);
        if (u256_is_zero(a->value[i]))
            continue;
        OK(rlp_put_u256(&v, a->value[i], &e));
        leaf(l, a->slot[i].b, 32, &v);
    }
}
static void storage_root(struct hash32 *out, const struct sim_account *a) {
    static struct leafs l;
    struct err e;
    storage_leafs(&l, a);
    OK(trie_root(out, l.e, l.n, &e));
    leafs_clear(&l);
}
static void code_hash(struct hash32 *out, const struct sim_account *a) {
    keccak256(out->b, a->code, a->code_len);
}
static void state_leafs(struct leafs *l, const struct sim_account *acc, size_t n) {
    struct err e;
    l->n = 0;
    for (size_t i = 0; i < n; i++) {
        struct buf v = BUF_INIT(256);
        struct hash32 h;
        OK(rlp_put_u64(&v, acc[i].nonce, &e));
        OK(rlp_put_u256(&v, acc[i].balance, &e));
        storage_root(&h, &acc[i]);
        OK(rlp_put(&v, h.b, 32, &e));
        code_hash(&h, &acc[i]);
        OK(rlp_put(&v, h.b, 32, &e));
        OK(rlp_wrap(&v, 0, &e));
        leaf(l, acc[i].addr.b, 20, &v);
    }
}

static json_t *receipt_json(struct sim_block *b, size_t i, unsigned type, uint64_t gas, bool log) {
    uint8_t bloom[256] = {0}, topic[32] = {[31] = 7}, data[32] = {0};
    struct hash32 th;
    keccak256(th.b, b->tx[i].data, b->tx[i].len);
    json_t *logs = json_array();
    put_be64(data + 24, b->h.number);
    if (log) {
        bloom_add(bloom, sim_ledger.b, 20);
        bloom_add(bloom, topic, 32);
        json_array_append_new(logs, json_pack("{s:o,s:[o],s:o}", "address", hj_new_bytes(sim_ledger.b, 20), "topics", hj_new_bytes(topic, 32), "data",
                                              hj_new_bytes(data, 32)));
    }
    json_t *o = json_pack("{s:o,s:s,s:o,s:o,s:o,s:o}", "type", hj_new_u64(type), "status", "0x1", "cumulativeGasUsed", hj_new_u64(gas), "logsBloom",
                          hj_new_bytes(bloom, 256), "logs", logs, "transactionHash", hj_new_bytes(th.b, 32));
    if (type == 0x7e) {
        json_object_set_new(o, "depositNonce", hj_new_u64(b->h.number));
        json_object_set_new(o, "depositReceiptVersion", json_string("0x1"));
    }
    for (size_t k = 0; k < 256; k++)
        b->h.bloom[k] |= bloom[k];
    return o;
}

/* ---- what transactions do ---- */

static void pay(struct sim *s, const struct addr20 *from, const struct addr20 *to, struct u256 v) {
    struct sim_account *a = sim_account(s, from);
    if (u256_cmp(a->balance, v) < 0)
        return;
    u256_sub(&a->balance, a->balance, v);
    a = sim_account(s, to);
    u256_add(&a->balance, a->balance, v);
}

/* TransactionDeposited of the portal, in the receipt. */
static void deposit_event(struct sim_block *b, json_t *receipt, const struct addr20 *portal, const struct addr20 *from, const struct tx *t) {
    struct abi_doc d;
    struct buf opaque = BUF_INIT(1 << 18), data = BUF_INIT(1 << 18);
    struct addr20 to;
    struct u256 mint = t->value, value;
    uint64_t gas;
    const uint8_t *p;
    size_t n;
    uint8_t w[73] = {0}, bloom[256] = {0};
    struct err e;
    size_t first = 0;
    bool erc20 = !abi_decode(&d, "(address,uint256,uint256,uint64,bool,bytes)", t->data + 4, t->data_len - 4, &e);
    if (!erc20 && abi_decode(&d, "(address,uint256,uint64,bool,bytes)", t->data + 4, t->data_len - 4, &e))
        return;
    OK(abi_get_addr(&to, &d.item[0], &e));
    if (erc20)
        OK(abi_get_u256(&mint, &d.item[++first], &e));
    OK(abi_get_u256(&value, &d.item[first + 1], &e));
    OK(abi_get_u64(&gas, &d.item[first + 2], &e));
    OK(abi_get_bytes(&p, &n, &d.item[first + 4], &e));
    u256_to_be(w, mint);
    u256_to_be(w + 32, value);
    put_be64(w + 64, gas);
    w[72] = d.item[first + 3].word[31];
    OK(buf_add(&opaque, w, 73, &e));
    if (n)
        OK(buf_add(&opaque, p, n, &e));
    OK(abi_encode(&data, ABI(abi_bytes(opaque.data, opaque.len)), &e));
    struct hash32 topic[4] = {{{0}}};
    static const char sig[] = "TransactionDeposited(address,address,uint256,bytes)";
    keccak256(topic[0].b, sig, strlen(sig));
    memcpy(topic[1].b + 12, from->b, 20);
    memcpy(topic[2].b + 12, to.b, 20);
    json_t *topics = json_array();
    bloom_add(bloom, portal->b, 20);
    for (int i = 0; i < 4; i++) {
        bloom_add(bloom, topic[i].b, 32);
        json_array_append_new(topics, hj_new_bytes(topic[i].b, 32));
    }
    json_object_set_new(receipt, "logs", json_pack("[{s:o,s:o,s:o}]", "address", hj_new_bytes(portal->b, 20), "topics", topics, "data",
                                                   hj_new_bytes(data.data, data.len)));
    json_object_set_new(receipt, "logsBloom", hj_new_bytes(bloom, 256));
    for (size_t k = 0; k < 256; k++)
        b->h.bloom[k] |= bloom[k];
    buf_clear(&opaque);
    buf_clear(&data);
    abi_clear(&d);
}

static void run_pooled(struct sim *s, struct sim_block *b) {
    struct err e;
    for (size_t i = 0; i < s->pooled; i++) {
        struct tx t;
        if (b->txs < SIM_TXS && !tx_decode(&t, s->pool[i].data, s->pool[i].len, &e) && !tx_sender(&t, &e) && t.nonce == sim_account(s, &t.from)->nonce) {
            OK(buf_add(&b->tx[b->txs++], s->pool[i].data, s->pool[i].len, &e));
            sim_account(s, &t.from)->nonce++;
            pay(s, &t.from, &t.to, t.value);
            b->h.gas_used += 30000;
            json_t *rec = receipt_json(b, b->txs - 1, t.type, b->h.gas_used, false);
            if (s->l1 && addr_eq(&t.to, &s->portal) && t.data_len > 4)
                deposit_event(b, rec, &s->portal, &t.from, &t);
            json_array_append_new(b->receipts, rec);
        }
        buf_clear(&s->pool[i]);
    }
    s->pooled = 0;
}

/* The L1 blocks that came since: their deposits, in order. */
static void run_derived(struct sim *s, struct sim_block *b) {
    struct err e;
    for (; s->parent && s->derived < s->parent->n; s->derived++) {
        struct sim_block *o = &s->parent->b[s->derived];
        size_t index = 0, i, j, k;
        json_t *rec, *l, *x;
        json_array_foreach(o->receipts, i, rec) {
            json_array_foreach(json_object_get(rec, "logs"), j, l) {
                struct log lg = {.block_hash = o->h.hash, .log_index = index++};
                struct buf data = BUF_INIT(1 << 18);
                struct tx t;
                OK(hj_fixed(lg.addr.b, 20, l, "address", &e));
                json_array_foreach(json_object_get(l, "topics"), k, x) OK(hj_str_fixed(lg.topics[lg.topic_count++].b, 32, x, "topic", &e));
                OK(hj_bytes(&data, l, "data", &e));
                lg.data = data.data;
                lg.data_len = data.len;
                if (b->txs < SIM_TXS && !l1_force_tx(&t, &lg, &s->portal, &e)) {
                    struct sim_account *a = sim_account(s, &t.from);
                    OK(tx_encode(&b->tx[b->txs++], &t, &e));
                    u256_add(&a->balance, a->balance, t.mint);
                    json_t *r = receipt_json(b, b->txs - 1, 0x7e, b->h.gas_used += 30000, false);
                    json_object_set_new(r, "depositNonce", hj_new_u64(a->nonce++));
                    json_object_set_new(r, "depositReceiptVersion", hj_new_u64(1));
                    json_array_append_new(b->receipts, r);
                    pay(s, &t.from, &t.to, t.value);
                }
                buf_clear(&data);
            }
        }
        s->l1_origin = o->h;
    }
}

void sim_mine(struct sim *s, bool with_tx) {
    struct err e;
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 16;
        s->b = mem_resize(s->b, s->cap, sizeof *s->b);
    }
    struct sim_block *b = &s->b[s->n];
    const struct header *p = s->n ? &s->b[s->n - 1].h : NULL;
    struct header *h = &b->h;
    memset(b, 0, sizeof *b);
    for (size_t i = 0; i < SIM_TXS; i++)
        buf_init(&b->tx[i], 1 << 16);
    h->number = s->n;
    if (p)
        h->parent = p->hash;
    h->uncles = header_empty_uncles;
    h->gas_limit = 30000000;
    h->timestamp = p ? p->timestamp + (s->l1 ? 12 : 2) : s->l1_origin.timestamp;
    h->mix_hash.b[0] = s->salt;
    const struct fork_times *f = &s->rules.forks;
    const uint64_t now = h->timestamp;
    h->fields = s->l1 || now >= f->isthmus ? 21 : now >= f->ecotone ? 20 : now >= f->canyon ? 17 : 16;
    h->requests_hash = header_empty_requests;
    h->withdrawals_root = header_empty_root;
    if (!s->l1 && now >= f->holocene) { /* Jovian adds a least base fee, and the bytes' gas in place of the blobs' */
        static const uint8_t extra[17] = {[4] = 250, [8] = 6, [15] = 3, [16] = 232};
        memcpy(h->extra, extra, 17);
        h->extra[0] = now >= f->jovian;
        h->extra_len = now >= f->jovian ? 17 : 9;
        h->blob_gas_used = now >= f->jovian ? 70000 : 0;
    }
    if (p)
        OK(header_next_base_fee(&h->base_fee, p, h->timestamp, &s->rules, &e));
    else
        h->base_fee = u256_from(1000000000);
    /* state: a counter in the ledger */
    struct hash32 slot0 = {{0}};
    sim_set(s, &sim_ledger, &slot0, u256_from(1000 + s->n));
    b->receipts = json_array();
    if (!s->l1 && s->n) {
        /* the attributes deposit, Isthmus form */
        uint8_t cd[176] = {0x09, 0x89, 0x99, 0xbe};
        put_be32(cd + 4, 2);
        put_be32(cd + 8, 3);
        put_be64(cd + 20, s->l1_origin.timestamp);
        put_be64(cd + 28, s->l1_origin.number);
        u256_to_be(cd + 36, u256_from(1000000000));
        u256_to_be(cd + 68, u256_from(10000000));
        memcpy(cd + 100, s->l1_origin.hash.b, 32);
        struct tx t = {.type = TX_DEPOSIT, .to = l1block, .gas = 1000000, .data = cd, .data_len = 176};
        memset(t.from.b, 0, 20);
        static const uint8_t from[20] = {0xde, 0xad, 0xde, 0xad, 0xde, 0xad, 0xde, 0xad, 0xde, 0xad, 0xde, 0xad, 0xde, 0xad, 0xde, 0xad, 0xde, 0xad, 0x00, 0x01};
        memcpy(t.from.b, from, 20);
        t.source_hash.b[0] = (uint8_t)s->n;
        OK(tx_encode(&b->tx[b->txs++], &t, &e));
        json_array_append_new(b->receipts, receipt_json(b, 0, 0x7e, 46000, false));
        h->gas_used = 46000;
    }
    if (with_tx) {
        struct tx_signer who;
        OK(tx_signer_from_key(&who, sim_user_key, &e));
        struct tx t = {.type = TX_1559, .chain_id = s->chain_id, .nonce = s->n, .gas = 50000, .gas_price = u256_from(3000000000), .priority = u256_from(1), .to = sim_ledger, .value = u256_from(s->n)};
        OK(tx_sign(&b->tx[b->txs++], NULL, &t, &who, &e));
        h->gas_used += 30000;
        json_array_append_new(b->receipts, receipt_json(b, b->txs - 1, 2, h->gas_used, true));
    }
    run_derived(s, b);
    run_pooled(s, b);
    struct bytes_view v[SIM_TXS], rv[SIM_TXS];
    struct buf enc[SIM_TXS];
    for (size_t i = 0; i < b->txs; i++) {
        struct receipt r;
        v[i] = (struct bytes_view){b->tx[i].data, b->tx[i].len};
        OK(receipt_from_json(&r, json_array_get(b->receipts, i), &e));
        buf_init(&enc[i], 1 << 16);
        OK(receipt_encode(&enc[i], &r, &e));
        rv[i] = (struct bytes_view){enc[i].data, enc[i].len};
        receipt_clear(&r);
    }
    OK(trie_ordered_root(&h->tx_root, v, b->txs, &e));
    OK(trie_ordered_root(&h->receipts_root, rv, b->txs, &e));
    for (size_t i = 0; i < b->txs; i++)
        buf_clear(&enc[i]);
    static struct leafs l;
    state_leafs(&l, s->acc, s->accs);
    OK(trie_root(&h->state_root, l.e, l.n, &e));
    leafs_clear(&l);
    if (!s->l1 && now >= f->isthmus)
        storage_root(&h->withdrawals_root, sim_account(s, &passer));
    OK(header_hash(h, &e));
    memcpy(b->acc, s->acc, sizeof s->acc);
    b->accs = s->accs;
    s->n++;
}

void sim_init(struct sim *s, uint64_t chain_id, bool l1, uint64_t time) {
    sim_init_forks(s, chain_id, l1, time, &(struct fork_times){0, 0, 0, 0, 0, 0, FORK_NEVER});
}

void sim_init_forks(struct sim *s, uint64_t chain_id, bool l1, uint64_t time, const struct fork_times *forks) {
    struct tx_signer who;
    struct err e;
    memset(s, 0, sizeof *s);
    s->chain_id = chain_id;
    s->l1 = l1;
    s->rules = (struct header_rules){.forks = *forks, .elasticity = 6, .denominator = 50, .denominator_canyon = 250, .block_time = 2, .l1 = l1};
    s->l1_origin.timestamp = time;
    OK(tx_signer_from_key(&who, sim_user_key, &e));
    sim_account(s, &who.addr)->balance = u256_from(UINT64_MAX);
    struct sim_account *x = sim_account(s, &sim_ledger);
    x->code_len = 20;
    memset(x->code, 0x5b, 20);
    for (uint8_t i = 1; i < 12; i++) {
        struct hash32 k = {{0}};
        k.b[31] = i;
        sim_set(s, &sim_ledger, &k, u256_from(100u * i));
    }
    sim_account(s, &passer)->nonce = 0;
    struct hash32 one = {{[31] = 1}};
    sim_set(s, &passer, &one, u256_from(77));
    for (uint8_t i = 0; i < 4; i++) { /* others, so that the trie has branches */
        struct addr20 a = {{(uint8_t)(0x50 + i), i}};
        sim_account(s, &a)->balance = u256_from(i + 1u);
    }
    sim_mine(s, false);
}

static void block_clear(struct sim_block *b) {
    for (size_t i = 0; i < SIM_TXS; i++)
        buf_clear(&b->tx[i]);
    json_decref(b->receipts);
}

void sim_clear(struct sim *s) {
    for (size_t i = 0; i < s->pooled; i++)
        buf_clear(&s->pool[i]);
    buf_clear(&s->kept);
    for (size_t i = 0; i < s->n; i++)
        block_clear(&s->b[i]);
    mem_free(s->b);
    memset(s, 0, sizeof *s);
}

void sim_reorg(struct sim *s, size_t depth, size_t grow) {
    for (size_t i = 0; i < depth; i++)
        block_clear(&s->b[--s->n]);
    memcpy(s->acc, s->b[s->n - 1].acc, sizeof s->acc);
    s->accs = s->b[s->n - 1].accs;
    s->salt++;
    for (size_t i = 0; i < depth + grow; i++)
        sim_mine(s, i % 2);
}

/* ---- L1's contracts ---- */

static struct hash32 slot_named(const char *name, uint64_t minus) {
    struct hash32 h;
    struct u256 v;
    keccak256(h.b, name, strlen(name));
    u256_sub(&v, u256_from_be(h.b), u256_from(minus));
    u256_to_be(h.b, v);
    return h;
}
static void put_slot(struct sim *s, const struct addr20 *a, struct hash32 h, struct u256 v) {
    sim_set(s, a, &h, v);
}
static void put_n(struct sim *s, const struct addr20 *a, uint64_t slot, struct u256 v) {
    struct hash32 h = {{0}};
    put_be64(h.b + 24, slot);
    sim_set(s, a, &h, v);
}
static struct u256 word_of(const struct addr20 *a) {
    return u256_from_ben(a->b, 20);
}

void sim_l1_contracts(struct sim *l1, const struct sim *l2, uint64_t resolved, uint64_t proposed, const struct addr20 *signer) {
    const uint64_t number[2] = {resolved, proposed};
    struct err e;
    put_slot(l1, &sim_system_config, slot_named("systemconfig.unsafeblocksigner", 0), word_of(signer));
    put_slot(l1, &sim_system_config, slot_named("systemconfig.optimismportal", 1), word_of(&sim_portal));
    put_slot(l1, &sim_system_config, slot_named("systemconfig.disputegamefactory", 1), word_of(&sim_factory));
    if (!addr_is_zero(&l1->token)) {
        uint8_t w[32] = {[11] = 18};
        memcpy(w + 12, l1->token.b, 20);
        put_slot(l1, &sim_system_config, slot_named("opstack.gaspayingtoken", 1), u256_from_be(w));
    }
    put_n(l1, &sim_factory, 104, u256_from(2));
    uint64_t now = l1->b[l1->n - 1].h.timestamp;
    for (uint64_t i = 0; i < 2; i++) {
        struct addr20 game = {{0x91, (uint8_t)(i + 1)}};
        struct hash32 root, h, base = {{[31] = 103}}, extra = {{0}};
        struct buf b = BUF_INIT(512);
        uint8_t w[32] = {0}, g[32] = {0};
        const struct header *x = &l2->b[number[i]].h;
        header_output_root(&root, x, &x->withdrawals_root);
        put_be64(extra.b + 24, number[i]);
        put_be64(w + 4, now - 40); /* type 0, created, proxy */
        memcpy(w + 12, game.b, 20);
        chain_slot_array(&h, 104, i);
        sim_set(l1, &sim_factory, &h, u256_from_be(w));
        OK(abi_encode(&b, ABI(abi_u64(0), abi_b32(&root), abi_bytes(extra.b, 32)), &e));
        keccak256(h.b, b.data, b.len);
        buf_clear(&b);
        struct hash32 uuid = h;
        chain_slot_map(&h, uuid.b, &base);
        sim_set(l1, &sim_factory, &h, u256_from_be(w));
        put_be64(g + 24, now - 40);
        if (!i) {
            put_be64(g + 16, now - 10);
            g[15] = 2;
        }
        put_n(l1, &game, 0, u256_from_be(g));
        /* the claim stands behind the code: creator, root, L1 head, block number, length */
        struct sim_account *a = sim_account(l1, &game);
        memset(a->code, 0x5b, 10);
        memset(a->code + 10, 0, 118);
        memcpy(a->code + 30, root.b, 32);
        memcpy(a->code + 94, extra.b, 32);
        a->code[127] = 118;
        a->code_len = 128;
        if (!i)
            put_n(l1, &sim_registry, 2, word_of(&game));
    }
    uint8_t r6[32] = {0};
    put_be64(r6 + 20, 1); /* nothing is retired; type 0 is respected */
    put_n(l1, &sim_registry, 6, u256_from_be(r6));
}

json_t *sim_header_json(const struct header *h) {
    json_t *o = json_object();
#define B(k, f, n) json_object_set_new(o, k, hj_new_bytes(f, n))
#define Q(k, v) json_object_set_new(o, k, hj_new_u64(v))
    B("hash", h->hash.b, 32);
    B("parentHash", h->parent.b, 32);
    B("sha3Uncles", h->uncles.b, 32);
    B("miner", h->miner.b, 20);
    B("stateRoot", h->state_root.b, 32);
    B("transactionsRoot", h->tx_root.b, 32);
    B("receiptsRoot", h->receipts_root.b, 32);
    B("logsBloom", h->bloom, 256);
    json_object_set_new(o, "difficulty", hj_new_u256(h->difficulty));
    Q("number", h->number);
    Q("gasLimit", h->gas_limit);
    Q("gasUsed", h->gas_used);
    Q("timestamp", h->timestamp);
    B("extraData", h->extra, h->extra_len);
    B("mixHash", h->mix_hash.b, 32);
    B("nonce", h->nonce, 8);
    if (h->fields >= 16)
        json_object_set_new(o, "baseFeePerGas", hj_new_u256(h->base_fee));
    if (h->fields >= 17)
        B("withdrawalsRoot", h->withdrawals_root.b, 32);
    if (h->fields >= 20) {
        Q("blobGasUsed", h->blob_gas_used);
        Q("excessBlobGas", h->excess_blob_gas);
        B("parentBeaconBlockRoot", h->beacon_root.b, 32);
    }
    if (h->fields >= 21)
        B("requestsHash", h->requests_hash.b, 32);
    return o;
}

void sim_header_rehash(json_t *o) {
    struct header h;
    json_object_del(o, "hash");
    if (!header_from_json(&h, o, NULL))
        json_object_set_new(o, "hash", hj_new_bytes(h.hash.b, 32));
}

static json_t *tx_json(const struct buf *raw) {
    struct tx t;
    struct err e;
    OK(tx_decode(&t, raw->data, raw->len, &e));
    OK(tx_sender(&t, &e));
    json_t *o = json_object();
    B("hash", t.hash.b, 32);
    B("from", t.from.b, 20);
    B("to", t.to.b, 20);
    B("input", t.data, t.data_len);
    Q("type", t.type);
    Q("gas", t.gas);
    json_object_set_new(o, "value", hj_new_u256(t.value));
    json_object_set_new(o, "r", hj_new_u256(t.r));
    json_object_set_new(o, "s", hj_new_u256(t.s));
    Q("v", t.v);
    if (t.type == TX_DEPOSIT) {
        B("sourceHash", t.source_hash.b, 32);
        json_object_set_new(o, "mint", hj_new_u256(t.mint));
    } else {
        Q("nonce", t.nonce);
        Q("chainId", t.chain_id);
        json_object_set_new(o, "maxFeePerGas", hj_new_u256(t.gas_price));
        json_object_set_new(o, "maxPriorityFeePerGas", hj_new_u256(t.priority));
        json_object_set_new(o, "accessList", json_array());
        Q("yParity", t.v);
    }
    return o;
}
#undef B
#undef Q

static json_t *proof_list(const struct leafs *l, const void *key, size_t n) {
    uint8_t k[32];
    size_t lens[TRIE_PROOF_NODES_MAX], count, at = 0;
    struct buf b = BUF_INIT(1 << 20);
    struct hash32 root;
    struct err e;
    json_t *a = json_array();
    keccak256(k, key, n);
    OK(trie_prove(&root, &b, lens, &count, l->e, l->n, k, 32, &e));
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(a, hj_new_bytes(b.data + at, lens[i]));
        at += lens[i];
    }
    buf_clear(&b);
    return a;
}

static json_t *proof_json(const struct sim_block *b, const struct addr20 *addr, const json_t *slots) {
    static struct leafs l;
    struct sim_account none = {.addr = *addr};
    const struct sim_account *x = &none;
    struct hash32 h;
    struct err e;
    size_t i;
    json_t *s, *o = json_object(), *list = json_array();
    for (i = 0; i < b->accs; i++)
        if (addr_eq(&b->acc[i].addr, addr))
            x = &b->acc[i];
    state_leafs(&l, b->acc, b->accs);
    json_object_set_new(o, "accountProof", proof_list(&l, addr->b, 20));
    leafs_clear(&l);
    json_object_set_new(o, "address", hj_new_bytes(addr->b, 20));
    json_object_set_new(o, "balance", hj_new_u256(x->balance));
    json_object_set_new(o, "nonce", hj_new_u64(x->nonce));
    storage_root(&h, x);
    json_object_set_new(o, "storageHash", hj_new_bytes(h.b, 32));
    code_hash(&h, x);
    json_object_set_new(o, "codeHash", hj_new_bytes(h.b, 32));
    storage_leafs(&l, x);
    json_array_foreach(slots, i, s) {
        struct u256 v = U256_ZERO;
        OK(hj_str_fixed(h.b, 32, s, "slot", &e));
        for (size_t k = 0; k < x->slots; k++)
            if (hash_eq(&x->slot[k], &h))
                v = x->value[k];
        json_array_append_new(list, json_pack("{s:o,s:o,s:o}", "key", hj_new_bytes(h.b, 32), "value", hj_new_u256(v), "proof", proof_list(&l, h.b, 32)));
    }
    leafs_clear(&l);
    json_object_set_new(o, "storageProof", list);
    return o;
}

static struct sim_block *by_ref(struct sim *s, const json_t *v) {
    struct hash32 h;
    uint64_t n;
    if (json_is_object(v))
        v = json_object_get(v, "blockHash");
    if (json_is_string(v) && json_string_length(v) == 66) {
        if (hj_str_fixed(h.b, 32, v, "hash", NULL))
            return NULL;
        for (size_t i = 0; i < s->n; i++)
            if (hash_eq(&s->b[i].h.hash, &h))
                return &s->b[i];
        return NULL;
    }
    if (json_is_string(v) && (!strcmp(json_string_value(v), "latest") || !strcmp(json_string_value(v), "finalized")))
        return &s->b[s->n - 1];
    return hj_str_u64(&n, v, "number", NULL) || n >= s->n ? NULL : &s->b[n];
}

json_t *sim_answer(struct sim *s, const char *method, const json_t *params) {
    const json_t *p0 = json_array_get(params, 0), *p1 = json_array_get(params, 1);
    struct err e;
    struct addr20 a;
    if (!strcmp(method, "eth_chainId"))
        return hj_new_u64(s->chain_id);
    if (!strcmp(method, "eth_blockNumber"))
        return hj_new_u64(s->n - 1);
    if (!strcmp(method, "web3_clientVersion"))
        return json_string("simulator");
    if (!strcmp(method, "eth_estimateGas"))
        return json_string("0xea60");
    if (!strcmp(method, "eth_maxPriorityFeePerGas"))
        return json_string("0x1");
    if (!strcmp(method, "eth_getTransactionCount")) {
        OK(hj_str_fixed(a.b, 20, p0, "address", &e));
        for (size_t i = 0; i < s->accs; i++)
            if (addr_eq(&s->acc[i].addr, &a))
                return hj_new_u64(s->acc[i].nonce);
        return json_string("0x0");
    }
    if (!strncmp(method, "eth_getBlockBy", 14)) {
        struct sim_block *b = by_ref(s, p0);
        if (!b)
            return json_null();
        json_t *o = sim_header_json(&b->h), *txs = json_array();
        for (size_t i = 0; i < b->txs; i++) {
            struct hash32 h;
            keccak256(h.b, b->tx[i].data, b->tx[i].len);
            json_array_append_new(txs, json_is_true(p1) ? tx_json(&b->tx[i]) : hj_new_bytes(h.b, 32));
        }
        json_object_set_new(o, "transactions", txs);
        return o;
    }
    if (!strcmp(method, "eth_getBlockReceipts")) {
        struct sim_block *b = by_ref(s, p0);
        return b ? json_deep_copy(b->receipts) : json_null();
    }
    if (!strcmp(method, "eth_getTransactionReceipt")) {
        for (size_t i = 0; i < s->n; i++)
            for (size_t j = 0; j < s->b[i].txs; j++) {
                struct hash32 h, want;
                keccak256(h.b, s->b[i].tx[j].data, s->b[i].tx[j].len);
                if (hj_str_fixed(want.b, 32, p0, "hash", NULL) || !hash_eq(&h, &want))
                    continue;
                json_t *o = json_deep_copy(json_array_get(s->b[i].receipts, j));
                json_object_set_new(o, "blockHash", hj_new_bytes(s->b[i].h.hash.b, 32));
                return o;
            }
        return json_null();
    }
    if (!strcmp(method, "eth_getProof")) {
        struct sim_block *b = by_ref(s, json_array_get(params, 2));
        OK(hj_str_fixed(a.b, 20, p0, "address", &e));
        if (b && s->no_old_proofs && b != &s->b[s->n - 1])
            return NULL; /* "no such method" stands for "missing trie node": an RPC error */
        return b ? proof_json(b, &a, p1) : json_null();
    }
    if (!strcmp(method, "eth_getCode")) {
        struct sim_block *b = by_ref(s, p1);
        OK(hj_str_fixed(a.b, 20, p0, "address", &e));
        for (size_t i = 0; b && i < b->accs; i++)
            if (addr_eq(&b->acc[i].addr, &a))
                return hj_new_bytes(b->acc[i].code, b->acc[i].code_len);
        return json_string("0x");
    }
    if (!strcmp(method, "eth_call")) { /* one getter: the word at slot 0xee…00 of the contract */
        struct sim_block *b = by_ref(s, p1);
        struct hash32 k = {{0xee}}, h = {{0}};
        OK(hj_fixed(a.b, 20, p0, "to", &e));
        for (size_t i = 0; b && i < b->accs; i++)
            for (size_t j = 0; addr_eq(&b->acc[i].addr, &a) && j < b->acc[i].slots; j++)
                if (hash_eq(&b->acc[i].slot[j], &k))
                    u256_to_be(h.b, b->acc[i].value[j]);
        return hj_new_bytes(h.b, 32);
    }
    if (!strcmp(method, "eth_sendRawTransaction")) {
        struct buf b = BUF_INIT(1 << 20);
        OK(hj_str_bytes(&b, p0, "raw", &e));
        keccak256(s->sent.b, b.data, b.len);
        if (s->censors) {
            buf_clear(&s->kept);
            buf_init(&s->kept, 1 << 18);
            OK(buf_add(&s->kept, b.data, b.len, &e));
        } else if (s->pools && s->pooled < SIM_POOL) {
            buf_init(&s->pool[s->pooled], 1 << 18);
            OK(buf_add(&s->pool[s->pooled++], b.data, b.len, &e));
        }
        buf_clear(&b);
        return hj_new_bytes(s->sent.b, 32);
    }
    return NULL;
}

static void signed_block(struct buf *m, uint8_t sig[65], struct sim *s, size_t n, const uint8_t key[32], uint64_t chain_id) {
    struct sim_block *b = &s->b[n];
    struct bytes_view v[SIM_TXS];
    struct tx_signer who;
    struct hash32 d;
    struct err e;
    for (size_t i = 0; i < b->txs; i++)
        v[i] = (struct bytes_view){b->tx[i].data, b->tx[i].len};
    OK(payload_encode(m, &b->h, v, b->txs, b->h.fields >= 21 ? 4 : 3, &e));
    OK(tx_signer_from_key(&who, key, &e));
    payload_signing_hash(&d, chain_id, m->data, m->len);
    OK(who.sign(who.ctx, sig, &d, &e));
}

json_t *sim_feed(struct sim *s, size_t n, const uint8_t key[32], uint64_t chain_id) {
    struct buf m = BUF_INIT(PAYLOAD_MAX);
    uint8_t sig[65];
    signed_block(&m, sig, s, n, key, chain_id);
    json_t *o = json_pack("{s:o,s:{s:o,s:o,s:o}}", "data", hj_new_bytes(m.data, m.len), "signature", "r", hj_new_u256(u256_from_be(sig)), "s",
                          hj_new_u256(u256_from_be(sig + 32)), "yParity", hj_new_u64(sig[64]));
    buf_clear(&m);
    return o;
}

void sim_gossip(struct buf *out, struct sim *s, size_t n, const uint8_t key[32], uint64_t chain_id) {
    struct buf m = BUF_INIT(PAYLOAD_MAX), all = BUF_INIT(PAYLOAD_MAX);
    uint8_t sig[65];
    struct err e;
    signed_block(&m, sig, s, n, key, chain_id);
    OK(buf_add(&all, sig, 65, &e));
    OK(buf_add(&all, m.data, m.len, &e));
    size_t len = snappy_max_compressed_length(all.len);
    OK(buf_reserve(out, len, &e));
    assert_int_equal(snappy_compress((const char *)all.data, all.len, (char *)out->data + out->len, &len), SNAPPY_OK);
    out->len += len;
    buf_clear(&m);
    buf_clear(&all);
}
