#include "net/l1.h"

#include "base/bytes.h"
#include "base/keccak.h"
#include "net/abi.h"

#include <string.h>

#include "base/banned.h"

const struct addr20 l1_block_predeploy = {{0x42, [19] = 0x15}}, l1_passer_predeploy = {{0x42, [19] = 0x16}};

static struct u256 word(const uint8_t *p) {
    return u256_from_be(p);
}

enum loam_status l1_attributes_decode(struct l1_attributes *a, const uint8_t *d, size_t n, struct err *err) {
    memset(a, 0, sizeof *a);
    if (n < 4)
        return err_set(err, LOAM_EORIGIN, "attributes deposit: %zu bytes of data", n);
    uint32_t selector = be32(d);
    size_t want = selector == 0x015d8eb9 ? 260 : selector == 0x440a5e20 ? 164 : selector == 0x098999be ? 176 : selector == 0x3db6be2b ? 178 : 0;
    if (!want || n != want)
        return err_set(err, LOAM_EORIGIN, "attributes deposit: selector 0x%08x, %zu bytes", selector, n);
    if (selector == 0x015d8eb9) { /* setL1BlockValues: eight ABI words */
        const uint8_t *w = d + 4;
        struct u256 num = word(w), time = word(w + 32), seq = word(w + 128);
        if (!u256_fits_u64(num) || !u256_fits_u64(time) || !u256_fits_u64(seq))
            return err_set(err, LOAM_EORIGIN, "attributes deposit: a number over 64 bits");
        a->form = L1_BEDROCK;
        a->number = num.w[0];
        a->timestamp = time.w[0];
        a->base_fee = word(w + 64);
        memcpy(a->hash.b, w + 96, 32);
        a->sequence = seq.w[0];
        memcpy(a->batcher.b, w + 160, 32);
        a->overhead = word(w + 192);
        a->scalar = word(w + 224);
        return LOAM_OK;
    }
    a->form = n == 164 ? L1_ECOTONE : n == 176 ? L1_ISTHMUS : L1_JOVIAN;
    a->base_fee_scalar = be32(d + 4);
    a->blob_base_fee_scalar = be32(d + 8);
    a->sequence = be64(d + 12);
    a->timestamp = be64(d + 20);
    a->number = be64(d + 28);
    a->base_fee = word(d + 36);
    a->blob_base_fee = word(d + 68);
    memcpy(a->hash.b, d + 100, 32);
    memcpy(a->batcher.b, d + 132, 32);
    if (n >= 176) {
        a->operator_fee_scalar = be32(d + 164);
        a->operator_fee_constant = be64(d + 168);
    }
    if (n >= 178)
        a->da_footprint_scalar = (uint16_t)(d[176] << 8 | d[177]);
    return LOAM_OK;
}

void l1_attributes_from_slots(struct l1_attributes *a, const struct u256 v[L1_BLOCK_SLOTS], enum l1_form form) {
    uint8_t b[L1_BLOCK_SLOTS][32];
    memset(a, 0, sizeof *a);
    for (int i = 0; i < L1_BLOCK_SLOTS; i++)
        u256_to_be(b[i], v[i]);
    a->form = form;
    a->number = be64(b[0] + 24);
    a->timestamp = be64(b[0] + 16);
    a->base_fee = v[1];
    memcpy(a->hash.b, b[2], 32);
    a->sequence = be64(b[3] + 24);
    a->blob_base_fee_scalar = be32(b[3] + 20);
    a->base_fee_scalar = be32(b[3] + 16);
    memcpy(a->batcher.b, b[4], 32);
    a->overhead = v[5];
    a->scalar = v[6];
    a->blob_base_fee = v[7];
    if (form >= L1_ISTHMUS) {
        a->operator_fee_constant = be64(b[8] + 24);
        a->operator_fee_scalar = be32(b[8] + 20);
    }
    if (form >= L1_JOVIAN)
        a->da_footprint_scalar = (uint16_t)(b[8][18] << 8 | b[8][19]);
}

/* ---- FastLZ ---- */

#define LZ_SLOTS 8192
#define LZ_NEAR 8191   /* farthest match */
#define LZ_RUN 32      /* literals behind one control byte */
#define LZ_LONGEST 262 /* bytes one match instruction covers */

static uint32_t three(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
}
static uint32_t slot_of(uint32_t v) {
    return (v * 2654435769u) >> 19 & (LZ_SLOTS - 1);
}
static uint32_t literal_cost(uint32_t n) {
    return n / LZ_RUN * (LZ_RUN + 1) + (n % LZ_RUN ? n % LZ_RUN + 1 : 0);
}
static uint32_t match_cost(uint32_t len) {
    uint32_t rest = len - 1;
    return rest / LZ_LONGEST * 3 + (rest % LZ_LONGEST >= 6 ? 3 : 2);
}

uint32_t l1_fastlz_size(const uint8_t *p, size_t len) {
    uint32_t table[LZ_SLOTS] = {0}, size = 0, done = 0, n = (uint32_t)len;
    uint32_t limit = n < 13 ? 0 : n - 13;
    uint32_t at = 2;
    while (at < limit) {
        uint32_t from, seq;
        /* Go forward until three bytes were seen before, near enough. */
        for (;;) {
            seq = three(p + at);
            uint32_t *slot = &table[slot_of(seq)];
            from = *slot;
            *slot = at;
            if (at >= limit)
                break;
            at++;
            if (at - 1 - from <= LZ_NEAR && seq == three(p + from))
                break;
        }
        if (at >= limit)
            break;
        at--;
        if (at > done)
            size += literal_cost(at - done);
        uint32_t same = 0, most = limit + 9 - (at + 3);
        while (same < most && p[from + 3 + same] == p[at + 3 + same])
            same++;
        /* The reference counts the byte at which the comparison failed, too. */
        if (same < most)
            same++;
        size += match_cost(same);
        at += same;
        table[slot_of(three(p + at))] = at;
        at++;
        table[slot_of(three(p + at))] = at;
        at++;
        done = at;
    }
    return size + literal_cost(n - done);
}

/* ---- fees ---- */

#define OVER(x)                                                                                                                            \
    if (x)                                                                                                                                 \
    return err_set(err, LOAM_ERANGE, "L1 fee: overflow")

static uint64_t data_gas(const uint8_t *p, size_t n) {
    uint64_t g = 0;
    for (size_t i = 0; i < n; i++)
        g += p[i] ? 16 : 4;
    return g;
}

/* 16 * base fee scalar * base fee + blob scalar * blob base fee */
static enum loam_status price(struct u256 *out, const struct l1_attributes *a, struct err *err) {
    struct u256 x, y;
    OVER(u256_mul(&x, a->base_fee, u256_from(16ull * a->base_fee_scalar)));
    OVER(u256_mul(&y, a->blob_base_fee, u256_from(a->blob_base_fee_scalar)));
    OVER(u256_add(out, x, y));
    return LOAM_OK;
}

enum loam_status l1_fee(struct u256 *out, const struct l1_attributes *a, enum l1_fee_rule rule, const void *raw, size_t n, struct err *err) {
    struct u256 x;
    enum loam_status s;
    if (rule == L1_FEE_BEDROCK || rule == L1_FEE_REGOLITH) {
        /* Before Regolith 68 non-zero bytes were added for a signature. */
        OVER(u256_add(&x, a->overhead, u256_from(data_gas(raw, n) + (rule == L1_FEE_BEDROCK ? 68 * 16 : 0))));
        OVER(u256_mul(&x, x, a->base_fee));
        OVER(u256_muldiv(out, x, a->scalar, u256_from(1000000)));
        return LOAM_OK;
    }
    if ((s = price(&x, a, err)))
        return s;
    if (rule == L1_FEE_ECOTONE) {
        OVER(u256_muldiv(out, x, u256_from(data_gas(raw, n)), u256_from(16000000)));
        return LOAM_OK;
    }
    /* Fjord: a linear model of the compressed size, scaled by 10^6, never under 100 bytes. */
    int64_t estimate = -42585600 + 836500 * (int64_t)l1_fastlz_size(raw, n);
    if (estimate < 100000000)
        estimate = 100000000;
    OVER(u256_muldiv(out, x, u256_from((uint64_t)estimate), u256_from(1000000000000)));
    return LOAM_OK;
}

enum loam_status l1_operator_fee(struct u256 *out, const struct l1_attributes *a, uint64_t gas, struct err *err) {
    struct u256 x = U256_ZERO;
    if (a->form < L1_ISTHMUS) {
        *out = U256_ZERO;
        return LOAM_OK;
    }
    OVER(u256_mul(&x, u256_from(gas), u256_from(a->operator_fee_scalar)));
    if (a->form >= L1_JOVIAN) {
        OVER(u256_mul(&x, x, u256_from(100)));
    } else {
        u256_divmod(&x, NULL, x, u256_from(1000000));
    }
    OVER(u256_add(out, x, u256_from(a->operator_fee_constant)));
    return LOAM_OK;
}

/* ---- deposits ---- */

static void source(struct hash32 *out, uint64_t domain, const struct hash32 *block, uint64_t n) {
    uint8_t m[64] = {0};
    memcpy(m, block->b, 32);
    put_be64(m + 56, n);
    keccak256(m + 32, m, 64);
    memset(m, 0, 32);
    put_be64(m + 24, domain);
    keccak256(out->b, m, 64);
}
void l1_source_user(struct hash32 *out, const struct hash32 *block, uint64_t log_index) {
    source(out, 0, block, log_index);
}
void l1_source_attributes(struct hash32 *out, const struct hash32 *block, uint64_t sequence) {
    source(out, 1, block, sequence);
}

void l1_alias(struct addr20 *out, const struct addr20 *a) {
    static const uint8_t offset[20] = {0x11, 0x11, [18] = 0x11, [19] = 0x11};
    unsigned carry = 0;
    for (int i = 20; i--;) {
        unsigned v = a->b[i] + offset[i] + carry;
        out->b[i] = (uint8_t)v;
        carry = v >> 8;
    }
}

enum loam_status l1_force_call(struct buf *out, const struct addr20 *to, struct u256 value, uint64_t gas, const void *data, size_t n,
                               struct err *err) {
    struct addr20 none = {{0}};
    /* The portal asks for 21000 and 40 gas a byte at least. */
    if (n > 120000)
        return err_set(err, LOAM_ELIMIT, "a deposit of %zu bytes, the portal takes at most 120000", n);
    if (gas < 21000 + 40 * n)
        return err_set(err, LOAM_ERANGE, "a deposit of %zu bytes needs at least %zu gas", n, 21000 + 40 * n);
    return abi_call(out, "depositTransaction(address,uint256,uint64,bool,bytes)",
                    ABI(abi_addr(to ? to : &none), abi_u256(value), abi_u64(gas), abi_bool(!to), abi_bytes(data, n)), err);
}

enum loam_status l1_force_tx(struct tx *t, const struct log *l, const struct addr20 *portal, struct err *err) {
    static const char event[] = "TransactionDeposited(address indexed from, address indexed to, uint256 indexed version, bytes opaqueData)";
    struct abi_doc d;
    struct buf raw = BUF_INIT(1u << 20);
    const uint8_t *p;
    size_t n;
    uint64_t version;
    memset(t, 0, sizeof *t);
    if (!addr_eq(&l->addr, portal))
        return err_set(err, LOAM_EPARSE, "deposit: not an event of the portal");
    enum loam_status s = abi_event(&d, event, l->topics, l->topic_count, l->data, l->data_len, err);
    if (s)
        return s;
    t->type = TX_DEPOSIT;
    if ((s = abi_get_addr(&t->from, abi_field(&d, "from"), err)) || (s = abi_get_addr(&t->to, abi_field(&d, "to"), err)) ||
        (s = abi_get_u64(&version, abi_field(&d, "version"), err)) || (s = abi_get_bytes(&p, &n, abi_field(&d, "opaqueData"), err)))
        goto done;
    /* version 0: mint(32) value(32) gas(8) creation(1) data */
    if (version || n < 73 || p[72] > 1) {
        s = err_set(err, LOAM_EPARSE, "deposit: version %llu, %zu bytes", (unsigned long long)version, n);
        goto done;
    }
    t->mint = u256_from_be(p);
    t->value = u256_from_be(p + 32);
    t->gas = be64(p + 64);
    t->create = p[72];
    /* The document's copy goes: point into the log, where the same bytes stand behind offset and length. */
    t->data = l->data + 64 + 73;
    t->data_len = n - 73;
    if (memcmp(p, l->data + 64, n)) {
        s = err_set(err, LOAM_EPARSE, "deposit: its data stands at another offset than the portal writes");
        goto done;
    }
    l1_source_user(&t->source_hash, &l->block_hash, l->log_index);
    if (!(s = tx_encode(&raw, t, err)))
        keccak256(t->hash.b, raw.data, raw.len);
done:
    buf_clear(&raw);
    abi_clear(&d);
    return s;
}
