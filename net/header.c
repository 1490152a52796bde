#include "net/header.h"

#include "base/keccak.h"
#include "net/hexjson.h"
#include "net/rlp.h"

#include <string.h>

#include "base/banned.h"

const struct hash32 header_empty_root = {{0x56, 0xe8, 0x1f, 0x17, 0x1b, 0xcc, 0x55, 0xa6, 0xff, 0x83, 0x45, 0xe6, 0x92, 0xc0, 0xf8, 0x6e,
                                          0x5b, 0x48, 0xe0, 0x1b, 0x99, 0x6c, 0xad, 0xc0, 0x01, 0x62, 0x2f, 0xb5, 0xe3, 0x63, 0xb4, 0x21}};
const struct hash32 header_empty_uncles = {{0x1d, 0xcc, 0x4d, 0xe8, 0xde, 0xc7, 0x5d, 0x7a, 0xab, 0x85, 0xb5, 0x67, 0xb6, 0xcc, 0xd4, 0x1a,
                                            0xd3, 0x12, 0x45, 0x1b, 0x94, 0x8a, 0x74, 0x13, 0xf0, 0xa1, 0x42, 0xfd, 0x40, 0xd4, 0x93, 0x47}};
const struct hash32 header_empty_requests = {{0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
                                              0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55}};

/* Encoding goes into a fixed array: hashing a header allocates nothing. */
struct out {
    uint8_t *p;
};
static void w_str(struct out *o, const uint8_t *p, size_t n) {
    if (n == 1 && *p < 0x80) {
        *o->p++ = *p;
        return;
    }
    if (n < 56) {
        *o->p++ = (uint8_t)(0x80 + n);
    } else if (n < 256) {
        *o->p++ = 0xb8;
        *o->p++ = (uint8_t)n;
    } else {
        *o->p++ = 0xb9;
        *o->p++ = (uint8_t)(n >> 8);
        *o->p++ = (uint8_t)n;
    }
    memcpy(o->p, p, n);
    o->p += n;
}
static void w_u256(struct out *o, struct u256 v) {
    uint8_t be[32];
    size_t skip = 0;
    u256_to_be(be, v);
    while (skip < 32 && !be[skip])
        skip++;
    w_str(o, be + skip, 32 - skip);
}
static void w_u64(struct out *o, uint64_t v) {
    uint8_t be[8];
    size_t skip = 0;
    put_be64(be, v);
    while (skip < 8 && !be[skip])
        skip++;
    w_str(o, be + skip, 8 - skip);
}

/* Returns the first byte of the encoding inside tmp; *n its length. */
static uint8_t *encode(uint8_t tmp[HEADER_RLP_MAX], size_t *n, const struct header *h) {
    struct out o = {tmp + 3};
    w_str(&o, h->parent.b, 32);
    w_str(&o, h->uncles.b, 32);
    w_str(&o, h->miner.b, 20);
    w_str(&o, h->state_root.b, 32);
    w_str(&o, h->tx_root.b, 32);
    w_str(&o, h->receipts_root.b, 32);
    w_str(&o, h->bloom, 256);
    w_u256(&o, h->difficulty);
    w_u64(&o, h->number);
    w_u64(&o, h->gas_limit);
    w_u64(&o, h->gas_used);
    w_u64(&o, h->timestamp);
    w_str(&o, h->extra, h->extra_len);
    w_str(&o, h->mix_hash.b, 32);
    w_str(&o, h->nonce, 8);
    if (h->fields >= 16)
        w_u256(&o, h->base_fee);
    if (h->fields >= 17)
        w_str(&o, h->withdrawals_root.b, 32);
    if (h->fields >= 20) {
        w_u64(&o, h->blob_gas_used);
        w_u64(&o, h->excess_blob_gas);
        w_str(&o, h->beacon_root.b, 32);
    }
    if (h->fields >= 21)
        w_str(&o, h->requests_hash.b, 32);
    size_t len = (size_t)(o.p - (tmp + 3)); /* always 256 to 65535: the bloom alone is more than 255 */
    tmp[0] = 0xf9;
    tmp[1] = (uint8_t)(len >> 8);
    tmp[2] = (uint8_t)len;
    *n = len + 3;
    return tmp;
}

static enum loam_status well_formed(const struct header *h, struct err *err) {
    if (h->extra_len > HEADER_EXTRA_MAX)
        return err_set(err, LOAM_EHEADER, "header: %u bytes of extra data", h->extra_len);
    if (h->fields != 15 && h->fields != 16 && h->fields != 17 && h->fields != 20 && h->fields != 21)
        return err_set(err, LOAM_EHEADER, "header: %u fields", h->fields);
    return LOAM_OK;
}

enum loam_status header_hash(struct header *h, struct err *err) {
    uint8_t tmp[HEADER_RLP_MAX];
    size_t n;
    enum loam_status s = well_formed(h, err);
    if (s)
        return s;
    const uint8_t *p = encode(tmp, &n, h);
    keccak256(h->hash.b, p, n);
    return LOAM_OK;
}

enum loam_status header_to_rlp(struct buf *out, const struct header *h, struct err *err) {
    uint8_t tmp[HEADER_RLP_MAX];
    size_t n;
    enum loam_status s = well_formed(h, err);
    if (s)
        return s;
    const uint8_t *p = encode(tmp, &n, h);
    return buf_add(out, p, n, err);
}

enum loam_status header_from_rlp(struct header *h, const uint8_t *in, size_t n, struct err *err) {
    struct rlp top, f[21];
    size_t c;
    enum loam_status s;
    memset(h, 0, sizeof *h);
    if ((s = rlp_parse(&top, in, n, err)) || (s = rlp_items(f, 21, &c, &top, err)))
        return err_prefix(err, s, "header");
    h->fields = (uint8_t)c;
    if (c != 15 && c != 16 && c != 17 && c != 20 && c != 21)
        return err_set(err, LOAM_EHEADER, "header: %zu fields", c);
    if (f[12].list || f[12].n > HEADER_EXTRA_MAX)
        return err_set(err, LOAM_EHEADER, "header: %zu bytes of extra data, at most %d", f[12].n, HEADER_EXTRA_MAX);
    if ((s = rlp_fixed(h->parent.b, 32, &f[0], "parentHash", err)) || (s = rlp_fixed(h->uncles.b, 32, &f[1], "sha3Uncles", err)) ||
        (s = rlp_fixed(h->miner.b, 20, &f[2], "miner", err)) || (s = rlp_fixed(h->state_root.b, 32, &f[3], "stateRoot", err)) ||
        (s = rlp_fixed(h->tx_root.b, 32, &f[4], "transactionsRoot", err)) ||
        (s = rlp_fixed(h->receipts_root.b, 32, &f[5], "receiptsRoot", err)) ||
        (s = rlp_fixed(h->bloom, 256, &f[6], "logsBloom", err)) || (s = rlp_u256(&h->difficulty, &f[7], "difficulty", err)) ||
        (s = rlp_u64(&h->number, &f[8], "number", err)) || (s = rlp_u64(&h->gas_limit, &f[9], "gasLimit", err)) ||
        (s = rlp_u64(&h->gas_used, &f[10], "gasUsed", err)) || (s = rlp_u64(&h->timestamp, &f[11], "timestamp", err)) ||
        (s = rlp_fixed(h->mix_hash.b, 32, &f[13], "mixHash", err)) || (s = rlp_fixed(h->nonce, 8, &f[14], "nonce", err)))
        return err_prefix(err, s, "header");
    h->extra_len = (uint8_t)f[12].n;
    memcpy(h->extra, f[12].p, f[12].n);
    if (c >= 16 && (s = rlp_u256(&h->base_fee, &f[15], "baseFeePerGas", err)))
        return err_prefix(err, s, "header");
    if (c >= 17 && (s = rlp_fixed(h->withdrawals_root.b, 32, &f[16], "withdrawalsRoot", err)))
        return err_prefix(err, s, "header");
    if (c >= 20 &&
        ((s = rlp_u64(&h->blob_gas_used, &f[17], "blobGasUsed", err)) || (s = rlp_u64(&h->excess_blob_gas, &f[18], "excessBlobGas", err)) ||
         (s = rlp_fixed(h->beacon_root.b, 32, &f[19], "parentBeaconBlockRoot", err))))
        return err_prefix(err, s, "header");
    if (c >= 21 && (s = rlp_fixed(h->requests_hash.b, 32, &f[20], "requestsHash", err)))
        return err_prefix(err, s, "header");
    keccak256(h->hash.b, in, n);
    return LOAM_OK;
}

enum loam_status header_from_json(struct header *h, const json_t *o, struct err *err) {
    enum loam_status s;
    memset(h, 0, sizeof *h);
    if (!o || json_is_null(o))
        return err_set(err, LOAM_ENULL, "header: null");
    if (!json_is_object(o))
        return err_set(err, LOAM_EJSON, "header: not an object");
    struct buf extra = BUF_INIT(HEADER_EXTRA_MAX);
    s = hj_bytes(&extra, o, "extraData", err);
    if (s == LOAM_ELIMIT)
        s = err_set(err, LOAM_EHEADER, "header: more than %d bytes of extra data", HEADER_EXTRA_MAX);
    if (!s && extra.len > HEADER_EXTRA_MAX)
        s = err_set(err, LOAM_EHEADER, "header: more than %d bytes of extra data", HEADER_EXTRA_MAX);
    if (!s) {
        h->extra_len = (uint8_t)extra.len;
        if (extra.len)
            memcpy(h->extra, extra.data, extra.len);
    }
    buf_clear(&extra);
    if (s || (s = hj_fixed(h->parent.b, 32, o, "parentHash", err)) || (s = hj_fixed(h->uncles.b, 32, o, "sha3Uncles", err)) ||
        (s = hj_fixed(h->miner.b, 20, o, "miner", err)) || (s = hj_fixed(h->state_root.b, 32, o, "stateRoot", err)) ||
        (s = hj_fixed(h->tx_root.b, 32, o, "transactionsRoot", err)) || (s = hj_fixed(h->receipts_root.b, 32, o, "receiptsRoot", err)) ||
        (s = hj_fixed(h->bloom, 256, o, "logsBloom", err)) || (s = hj_u64(&h->number, o, "number", err)) ||
        (s = hj_u64(&h->gas_limit, o, "gasLimit", err)) || (s = hj_u64(&h->gas_used, o, "gasUsed", err)) ||
        (s = hj_u64(&h->timestamp, o, "timestamp", err)) || (s = hj_fixed(h->mix_hash.b, 32, o, "mixHash", err)) ||
        (s = hj_fixed(h->nonce, 8, o, "nonce", err)) || (s = hj_u256(&h->difficulty, o, "difficulty", err)))
        return err_prefix(err, s, "header");
    h->fields = 15;
    if (hj_has(o, "baseFeePerGas")) {
        if ((s = hj_u256(&h->base_fee, o, "baseFeePerGas", err)))
            return err_prefix(err, s, "header");
        h->fields = 16;
    }
    if (hj_has(o, "withdrawalsRoot")) {
        if ((s = hj_fixed(h->withdrawals_root.b, 32, o, "withdrawalsRoot", err)))
            return err_prefix(err, s, "header");
        if (h->fields != 16)
            return err_set(err, LOAM_EHEADER, "header: withdrawalsRoot without baseFeePerGas");
        h->fields = 17;
    }
    if (hj_has(o, "blobGasUsed") || hj_has(o, "excessBlobGas") || hj_has(o, "parentBeaconBlockRoot")) {
        if ((s = hj_u64(&h->blob_gas_used, o, "blobGasUsed", err)) || (s = hj_u64(&h->excess_blob_gas, o, "excessBlobGas", err)) ||
            (s = hj_fixed(h->beacon_root.b, 32, o, "parentBeaconBlockRoot", err)))
            return err_prefix(err, s, "header");
        if (h->fields != 17)
            return err_set(err, LOAM_EHEADER, "header: blob fields without withdrawalsRoot");
        h->fields = 20;
    }
    if (hj_has(o, "requestsHash")) {
        if ((s = hj_fixed(h->requests_hash.b, 32, o, "requestsHash", err)))
            return err_prefix(err, s, "header");
        if (h->fields != 20)
            return err_set(err, LOAM_EHEADER, "header: requestsHash without blob fields");
        h->fields = 21;
    }
    if ((s = header_hash(h, err)))
        return s;
    if (hj_has(o, "hash")) {
        struct hash32 named;
        if ((s = hj_fixed(named.b, 32, o, "hash", err)))
            return err_prefix(err, s, "header");
        if (!hash_eq(&named, &h->hash)) {
            char a[HASH_HEX_MAX], b[HASH_HEX_MAX];
            return err_set(err, LOAM_EHEADER, "header %llu: its fields hash to %s, it says %s", (unsigned long long)h->number,
                           hash_hex(a, &h->hash), hash_hex(b, &named));
        }
    }
    return LOAM_OK;
}

static bool all_zero(const uint8_t *p, size_t n) {
    uint8_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= p[i];
    return !v;
}

#define FAULT(...) return err_set(err, LOAM_EFORK, "header " __VA_ARGS__)

enum loam_status header_check(const struct header *h, const struct header_rules *r, struct err *err) {
    unsigned long long no = h->number;
    if (h->gas_used > h->gas_limit)
        FAULT("%llu: gas used %llu of %llu", no, (unsigned long long)h->gas_used, (unsigned long long)h->gas_limit);
    if (h->gas_limit > INT64_MAX)
        FAULT("%llu: gas limit over 2^63 - 1", no);
    if (r->anvil)
        return h->fields < 16 ? err_set(err, LOAM_EFORK, "header %llu: %u fields", no, h->fields) : LOAM_OK;
    if (!hash_eq(&h->uncles, &header_empty_uncles))
        FAULT("%llu: has uncles", no);
    if (!u256_is_zero(h->difficulty) || !all_zero(h->nonce, 8))
        FAULT("%llu: difficulty or nonce is not zero", no);
    if (r->l1)
        return h->fields < 16 ? err_set(err, LOAM_EFORK, "header %llu: %u fields", no, h->fields) : LOAM_OK;
    if (h->fields < 16)
        FAULT("%llu: %u fields", no, h->fields);
    const struct fork_times *f = &r->forks;
    if (f->canyon == FORK_UNKNOWN)
        return LOAM_OK;
    uint64_t t = h->timestamp;
    unsigned want = t >= f->isthmus ? 21 : t >= f->ecotone ? 20 : t >= f->canyon ? 17 : 16;
    if (h->fields != want)
        FAULT("%llu: %u fields where its fork has %u", no, h->fields, want);
    if (want >= 17 && want < 21 && !hash_eq(&h->withdrawals_root, &header_empty_root))
        FAULT("%llu: withdrawals root before Isthmus is not that of no withdrawals", no);
    if (want >= 20 && h->excess_blob_gas)
        FAULT("%llu: excess blob gas on an OP Stack chain", no);
    if (want >= 20 && t < f->jovian && h->blob_gas_used)
        FAULT("%llu: blob gas used before Jovian", no);
    if (want >= 21 && !hash_eq(&h->requests_hash, &header_empty_requests))
        FAULT("%llu: requests on an OP Stack chain", no);
    const uint8_t *x = h->extra;
    if (t >= f->jovian) {
        if (h->extra_len != 17 || x[0] != 1 || !be32(x + 1))
            FAULT("%llu: extra data is not Jovian's", no);
    } else if (t >= f->holocene) {
        if (h->extra_len != 9 || x[0] != 0 || !be32(x + 1))
            FAULT("%llu: extra data is not Holocene's", no);
    } else if (h->extra_len && no) {
        FAULT("%llu: extra data before Holocene", no);
    }
    return LOAM_OK;
}

enum loam_status header_next_base_fee(struct u256 *out, const struct header *p, uint64_t child_time, const struct header_rules *r,
                                      struct err *err) {
    uint64_t elasticity, denominator, used = p->gas_used, min_fee = 0;
    const struct fork_times *f = &r->forks;
    if (r->l1) {
        elasticity = 2;
        denominator = 8;
    } else if (p->timestamp >= f->holocene) {
        if (p->extra_len < 9)
            return err_set(err, LOAM_EFORK, "header %llu: no fee parameters in its extra data", (unsigned long long)p->number);
        denominator = be32(p->extra + 1);
        elasticity = be32(p->extra + 5);
        if (p->timestamp >= f->jovian) {
            if (p->extra_len != 17)
                return err_set(err, LOAM_EFORK, "header %llu: extra data is not Jovian's", (unsigned long long)p->number);
            min_fee = be64(p->extra + 9);
            if (p->blob_gas_used > used)
                used = p->blob_gas_used;
        }
    } else {
        elasticity = r->elasticity;
        denominator = child_time >= f->canyon ? r->denominator_canyon : r->denominator;
    }
    if (!elasticity || !denominator)
        return err_set(err, LOAM_EINVAL, "chain config: base fee elasticity and denominator must not be 0");
    uint64_t target = p->gas_limit / elasticity;
    struct u256 fee = p->base_fee, delta, q;
    if (!target)
        return err_set(err, LOAM_EFORK, "header %llu: gas limit %llu gives no target", (unsigned long long)p->number,
                       (unsigned long long)p->gas_limit);
    if (used != target) {
        uint64_t d = used > target ? used - target : target - used;
        if (u256_fits_u64(fee)) { /* always so in practice; the same floors in machine words */
            unsigned __int128 x = (unsigned __int128)fee.w[0] * d / target / denominator;
            q = (struct u256){{(uint64_t)x, (uint64_t)(x >> 64), 0, 0}};
        } else {
            if (u256_muldiv(&delta, fee, u256_from(d), u256_from(target)))
                return err_set(err, LOAM_EBASEFEE, "header %llu: base fee overflows", (unsigned long long)p->number);
            u256_divmod(&q, NULL, delta, u256_from(denominator));
        }
        if (used > target) {
            if (u256_is_zero(q))
                q = u256_from(1);
            if (u256_add(&fee, fee, q))
                return err_set(err, LOAM_EBASEFEE, "header %llu: base fee overflows", (unsigned long long)p->number);
        } else if (u256_sub(&fee, fee, q)) {
            fee = U256_ZERO;
        }
    }
    if (u256_cmp(fee, u256_from(min_fee)) < 0)
        fee = u256_from(min_fee);
    *out = fee;
    return LOAM_OK;
}

enum loam_status header_follows(const struct header *h, const struct header *p, const struct header_rules *r, struct err *err) {
    unsigned long long no = h->number;
    char a[HASH_HEX_MAX], b[HASH_HEX_MAX];
    if (h->number != p->number + 1)
        return err_set(err, LOAM_ELINK, "header %llu does not come after %llu", no, (unsigned long long)p->number);
    if (!hash_eq(&h->parent, &p->hash))
        return err_set(err, LOAM_ELINK, "header %llu: parent is %s, the header before is %s", no, hash_hex(a, &h->parent), hash_hex(b, &p->hash));
    if (r->anvil ? h->timestamp < p->timestamp : h->timestamp <= p->timestamp)
        return err_set(err, LOAM_ETIMESTAMP, "header %llu: time %llu is not after its parent's %llu", no, (unsigned long long)h->timestamp,
                       (unsigned long long)p->timestamp);
    if (!r->anvil && !r->l1 && r->block_time && h->timestamp - p->timestamp != r->block_time)
        return err_set(err, LOAM_ETIMESTAMP, "header %llu: %llu s after its parent, the chain makes one every %llu s", no,
                       (unsigned long long)(h->timestamp - p->timestamp), (unsigned long long)r->block_time);
    if (r->l1) { /* Yellow Paper (50): at most 1/1024 from the parent's, never under 5000 */
        uint64_t d = h->gas_limit > p->gas_limit ? h->gas_limit - p->gas_limit : p->gas_limit - h->gas_limit;
        if (d >= p->gas_limit / 1024 || h->gas_limit < 5000)
            return err_set(err, LOAM_EFORK, "header %llu: gas limit %llu after %llu", no, (unsigned long long)h->gas_limit,
                           (unsigned long long)p->gas_limit);
    }
    if (!r->l1 && r->forks.canyon == FORK_UNKNOWN)
        return LOAM_OK;
    /* anvil follows 6/250, but begins with its configured fee and keeps the lost branch's after anvil_reorg. */
    if (p->fields < 16 || r->anvil)
        return LOAM_OK;
    struct u256 want;
    enum loam_status s = header_next_base_fee(&want, p, h->timestamp, r, err);
    if (s)
        return s;
    if (u256_cmp(want, h->base_fee)) {
        char x[U256_DEC_MAX], y[U256_DEC_MAX];
        u256_format(x, h->base_fee);
        u256_format(y, want);
        return err_set(err, LOAM_EBASEFEE, "header %llu: base fee %s, its parent demands %s", no, x, y);
    }
    return LOAM_OK;
}

void header_output_root(struct hash32 *out, const struct header *h, const struct hash32 *passer_root) {
    uint8_t m[128] = {0};
    memcpy(m + 32, h->state_root.b, 32);
    memcpy(m + 64, passer_root->b, 32);
    memcpy(m + 96, h->hash.b, 32);
    keccak256(out->b, m, sizeof m);
}
