#include "net/payload.h"

#include "base/keccak.h"
#include "base/mem.h"
#include "net/hexjson.h"
#include "net/tx.h"

#include <snappy-c.h>
#include <string.h>

#include "base/banned.h"

/* SSZ: offsets of the fixed part, little-endian throughout. */
enum {
    O_PARENT = 0,
    O_MINER = 32,
    O_STATE = 52,
    O_RECEIPTS = 84,
    O_BLOOM = 116,
    O_RANDAO = 372,
    O_NUMBER = 404,
    O_GAS_LIMIT = 412,
    O_GAS_USED = 420,
    O_TIME = 428,
    O_EXTRA = 436,
    O_BASE_FEE = 440,
    O_HASH = 472,
    O_TXS = 504,
    O_WITHDRAWALS = 508,
    O_BLOB_GAS = 512,
    O_EXCESS = 520,
    O_WROOT = 528,
};
static const uint32_t fixed_size[5] = {0, 508, 512, 528, 560};

#define BAD(...) err_set(err, LOAM_ESSZ, "payload: " __VA_ARGS__)

static struct u256 u256_le(const uint8_t *p) {
    return (struct u256){{le64(p), le64(p + 8), le64(p + 16), le64(p + 24)}};
}

static enum loam_status read_txs(struct payload *out, const uint8_t *p, size_t n, struct err *err) {
    if (!n)
        return LOAM_OK;
    if (n < 4)
        return BAD("%zu bytes of transactions", n);
    uint32_t first = le32(p);
    if (first % 4 || !first || first > n || first / 4 > PAYLOAD_TXS_MAX)
        return BAD("the first transaction's offset is %u of %zu", first, n);
    size_t count = first / 4;
    if (!(out->tx = mem_array(count, sizeof *out->tx)))
        return err_set(err, LOAM_ENOMEM, "payload of %zu transactions", count);
    for (size_t i = 0; i < count; i++) {
        uint32_t a = le32(p + 4 * i), b = i + 1 < count ? le32(p + 4 * (i + 1)) : (uint32_t)n;
        if (a > b || b > n)
            return BAD("transaction %zu lies from %u to %u of %zu", i, a, b, n);
        if (a == b)
            return BAD("transaction %zu is empty", i);
        out->tx[i] = (struct bytes_view){p + a, b - a};
    }
    out->tx_count = count;
    return LOAM_OK;
}

enum loam_status payload_decode(struct payload *out, const uint8_t *bytes, size_t n, unsigned version, struct err *err) {
    enum loam_status s;
    const uint8_t *p = bytes;
    memset(out, 0, sizeof *out);
    if (n > PAYLOAD_MAX)
        return err_set(err, LOAM_ELIMIT, "payload of %zu bytes, at most %u", n, PAYLOAD_MAX);
    if (!version) {
        if (n < 32 + O_EXTRA + 4)
            return BAD("%zu bytes are too few", n);
        uint32_t first = le32(bytes + 32 + O_EXTRA);
        version = first == fixed_size[4] ? 4 : 3;
    }
    if (version < 1 || version > 4)
        return err_set(err, LOAM_EUNSUPPORTED, "payload version %u", version);
    struct header *h = &out->h;
    out->version = version;
    if (version >= 3) {
        if (n < 32)
            return BAD("%zu bytes are too few", n);
        memcpy(h->beacon_root.b, p, 32);
        p += 32;
        n -= 32;
    }
    uint32_t fixed = fixed_size[version];
    if (n < fixed)
        return BAD("%zu bytes, the fixed part of version %u has %u", n, version, fixed);
    uint32_t extra = le32(p + O_EXTRA), txs = le32(p + O_TXS), wd = version >= 2 ? le32(p + O_WITHDRAWALS) : (uint32_t)n;
    if (extra != fixed)
        return BAD("the first offset is %u, the fixed part of version %u ends at %u", extra, version, fixed);
    if (txs < extra || wd < txs || wd > n)
        return BAD("offsets %u, %u, %u of %zu bytes", extra, txs, wd, n);
    if (txs - extra > HEADER_EXTRA_MAX)
        return BAD("%u bytes of extra data", txs - extra);
    if (version >= 2 && wd != n)
        return BAD("%zu bytes of withdrawals: an L2 has none", n - wd);
    memcpy(h->parent.b, p + O_PARENT, 32);
    h->uncles = header_empty_uncles;
    memcpy(h->miner.b, p + O_MINER, 20);
    memcpy(h->state_root.b, p + O_STATE, 32);
    memcpy(h->receipts_root.b, p + O_RECEIPTS, 32);
    memcpy(h->bloom, p + O_BLOOM, 256);
    memcpy(h->mix_hash.b, p + O_RANDAO, 32);
    h->number = le64(p + O_NUMBER);
    h->gas_limit = le64(p + O_GAS_LIMIT);
    h->gas_used = le64(p + O_GAS_USED);
    h->timestamp = le64(p + O_TIME);
    h->extra_len = (uint8_t)(txs - extra);
    memcpy(h->extra, p + extra, h->extra_len);
    h->base_fee = u256_le(p + O_BASE_FEE);
    h->fields = version == 1 ? 16 : version == 2 ? 17 : version == 3 ? 20 : 21;
    h->withdrawals_root = header_empty_root;
    h->requests_hash = header_empty_requests;
    if (version >= 3) {
        h->blob_gas_used = le64(p + O_BLOB_GAS);
        h->excess_blob_gas = le64(p + O_EXCESS);
    }
    if (version >= 4)
        memcpy(h->withdrawals_root.b, p + O_WROOT, 32);
    if ((s = read_txs(out, p + txs, wd - txs, err)) || (s = trie_ordered_root(&h->tx_root, out->tx, out->tx_count, err)) ||
        (s = header_hash(h, err)))
        return s;
    if (memcmp(h->hash.b, p + O_HASH, 32)) {
        struct hash32 claimed;
        char a[HASH_HEX_MAX], b[HASH_HEX_MAX];
        memcpy(claimed.b, p + O_HASH, 32);
        return err_set(err, LOAM_EHEADER, "payload of block %llu hashes to %s, it says %s", (unsigned long long)h->number, hash_hex(a, &h->hash),
                       hash_hex(b, &claimed));
    }
    return LOAM_OK;
}

void payload_clear(struct payload *p) {
    mem_free(p->tx);
    p->tx = NULL;
    p->tx_count = 0;
}

enum loam_status payload_encode(struct buf *out, const struct header *h, const struct bytes_view *tx, size_t count, unsigned version,
                                struct err *err) {
    uint8_t f[560] = {0}, off[4];
    enum loam_status s;
    if (version < 1 || version > 4)
        return err_set(err, LOAM_EUNSUPPORTED, "payload version %u", version);
    uint32_t fixed = fixed_size[version], at = fixed;
    size_t total = 4 * count;
    for (size_t i = 0; i < count; i++)
        total += tx[i].n;
    if (total > PAYLOAD_MAX)
        return err_set(err, LOAM_ELIMIT, "payload of %zu bytes", total);
    memcpy(f + O_PARENT, h->parent.b, 32);
    memcpy(f + O_MINER, h->miner.b, 20);
    memcpy(f + O_STATE, h->state_root.b, 32);
    memcpy(f + O_RECEIPTS, h->receipts_root.b, 32);
    memcpy(f + O_BLOOM, h->bloom, 256);
    memcpy(f + O_RANDAO, h->mix_hash.b, 32);
    put_le64(f + O_NUMBER, h->number);
    put_le64(f + O_GAS_LIMIT, h->gas_limit);
    put_le64(f + O_GAS_USED, h->gas_used);
    put_le64(f + O_TIME, h->timestamp);
    put_le32(f + O_EXTRA, at);
    at += h->extra_len;
    for (int i = 0; i < 4; i++)
        put_le64(f + O_BASE_FEE + 8 * i, h->base_fee.w[i]);
    memcpy(f + O_HASH, h->hash.b, 32);
    put_le32(f + O_TXS, at);
    at += (uint32_t)total;
    if (version >= 2)
        put_le32(f + O_WITHDRAWALS, at);
    if (version >= 3) {
        put_le64(f + O_BLOB_GAS, h->blob_gas_used);
        put_le64(f + O_EXCESS, h->excess_blob_gas);
        if ((s = buf_add(out, h->beacon_root.b, 32, err)))
            return s;
    }
    if (version >= 4)
        memcpy(f + O_WROOT, h->withdrawals_root.b, 32);
    if ((s = buf_add(out, f, fixed, err)) || (h->extra_len && (s = buf_add(out, h->extra, h->extra_len, err))))
        return s;
    size_t next = 4 * count;
    for (size_t i = 0; i < count; i++) {
        put_le32(off, (uint32_t)next);
        if ((s = buf_add(out, off, 4, err)))
            return s;
        next += tx[i].n;
    }
    for (size_t i = 0; i < count; i++)
        if ((s = buf_add(out, tx[i].p, tx[i].n, err)))
            return s;
    return LOAM_OK;
}

void payload_signing_hash(struct hash32 *out, uint64_t chain_id, const uint8_t *bytes, size_t n) {
    uint8_t m[96] = {0};
    put_be64(m + 56, chain_id);
    keccak256(m + 64, bytes, n);
    keccak256(out->b, m, sizeof m);
}

void payload_message_clear(struct payload_message *m) {
    buf_clear(&m->bytes);
}

enum loam_status payload_from_snappy(struct payload_message *out, const uint8_t *data, size_t n, struct err *err) {
    size_t len = 0;
    enum loam_status s;
    memset(out, 0, sizeof *out);
    buf_init(&out->bytes, PAYLOAD_MAX + 65);
    if (snappy_uncompressed_length((const char *)data, n, &len) != SNAPPY_OK)
        return err_set(err, LOAM_ESNAPPY, "message: no snappy length");
    if (len > PAYLOAD_MAX)
        return err_set(err, LOAM_ELIMIT, "message of %zu bytes, at most %u", len, PAYLOAD_MAX);
    if (len < 65)
        return err_set(err, LOAM_ESSZ, "message of %zu bytes has no signature", len);
    if ((s = buf_reserve(&out->bytes, len, err)))
        return s;
    size_t got = len;
    if (snappy_uncompress((const char *)data, n, (char *)out->bytes.data, &got) != SNAPPY_OK || got != len)
        return err_set(err, LOAM_ESNAPPY, "message: snappy data is broken");
    out->bytes.len = len;
    memcpy(out->sig, out->bytes.data, 65);
    buf_consume(&out->bytes, 65);
    return LOAM_OK;
}

enum loam_status payload_from_helios(struct payload_message *out, const json_t *o, struct err *err) {
    struct u256 r, sv;
    uint64_t v;
    enum loam_status s;
    memset(out, 0, sizeof *out);
    buf_init(&out->bytes, PAYLOAD_MAX);
    if (!o || json_is_null(o))
        return err_set(err, LOAM_ENULL, "feed: null");
    const json_t *g = json_object_get(o, "signature");
    if (!json_is_object(o) || !json_is_object(g))
        return err_set(err, LOAM_EJSON, "feed: not {data, signature}");
    if ((s = hj_bytes(&out->bytes, o, "data", err)) || (s = hj_u256(&r, g, "r", err)) || (s = hj_u256(&sv, g, "s", err)))
        return err_prefix(err, s, "feed");
    if (!hj_has(g, "yParity") && !hj_has(g, "v"))
        return err_set(err, LOAM_ENULL, "feed: the signature has no parity");
    if ((s = hj_u64(&v, g, hj_has(g, "yParity") ? "yParity" : "v", err)))
        return err_prefix(err, s, "feed");
    if (v >= 27)
        v -= 27;
    if (v > 1)
        return err_set(err, LOAM_ESIG, "feed: parity %llu", (unsigned long long)v);
    u256_to_be(out->sig, r);
    u256_to_be(out->sig + 32, sv);
    out->sig[64] = (uint8_t)v;
    return LOAM_OK;
}

enum loam_status payload_verify(struct payload *out, const struct payload_message *m, unsigned version, uint64_t chain_id,
                                const struct header_rules *rules, uint64_t now_s, const struct addr20 *signers, size_t signer_count,
                                struct err *err) {
    struct hash32 digest;
    struct addr20 who;
    char a[ADDR_HEX_MAX];
    enum loam_status s = payload_decode(out, m->bytes.data ? m->bytes.data : (const uint8_t *)"", m->bytes.len, version, err);
    if (s)
        return s;
    const struct header *h = &out->h;
    if (now_s && h->timestamp + PAYLOAD_PAST_S < now_s)
        return err_set(err, LOAM_ETIMESTAMP, "block %llu was made %llu s ago, more than %d", (unsigned long long)h->number,
                       (unsigned long long)(now_s - h->timestamp), PAYLOAD_PAST_S);
    if (now_s && h->timestamp > now_s + PAYLOAD_FUTURE_S)
        return err_set(err, LOAM_ETIMESTAMP, "block %llu is %llu s ahead of this machine's clock", (unsigned long long)h->number,
                       (unsigned long long)(h->timestamp - now_s));
    if ((s = header_check(h, rules, err)))
        return s;
    payload_signing_hash(&digest, chain_id, m->bytes.data, m->bytes.len);
    if ((s = tx_recover(&who, &digest, m->sig, err)))
        return err_prefix(err, s, "payload");
    for (size_t i = 0; i < signer_count; i++)
        if (addr_eq(&who, &signers[i]))
            return LOAM_OK;
    return err_set(err, LOAM_ESIGNER, "block %llu is signed by %s, who is not the sequencer", (unsigned long long)h->number, addr_hex(a, &who));
}
