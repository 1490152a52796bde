#include "record/types.h"

#include "base/bytes.h"
#include "base/keccak.h"

#include <ctype.h>

#include "base/banned.h"

bool hash_is_zero(const struct hash32 *h) {
    uint8_t any = 0;
    for (int i = 0; i < 32; i++)
        any |= h->b[i];
    return !any;
}

bool addr_is_zero(const struct addr20 *a) {
    uint8_t any = 0;
    for (int i = 0; i < 20; i++)
        any |= a->b[i];
    return !any;
}

struct hash32 hash_of(const void *p, size_t n) {
    struct hash32 h;
    keccak256(h.b, p, n);
    return h;
}

static char *hex_0x(char *out, const uint8_t *p, size_t n) {
    out[0] = '0';
    out[1] = 'x';
    hex_encode(out + 2, p, n);
    return out;
}

char *hash_hex(char out[HASH_HEX_MAX], const struct hash32 *h) {
    return hex_0x(out, h->b, 32);
}

char *sig_hex(char out[SIG_HEX_MAX], const struct sig65 *s) {
    return hex_0x(out, s->b, 65);
}

char *addr_hex(char out[ADDR_HEX_MAX], const struct addr20 *a) {
    hex_0x(out, a->b, 20);
    struct hash32 h = hash_of(out + 2, 40);
    for (int i = 0; i < 40; i++) {
        int nibble = h.b[i / 2] >> (i % 2 ? 0 : 4) & 15;
        if (nibble >= 8)
            out[2 + i] = (char)toupper((unsigned char)out[2 + i]);
    }
    return out;
}

enum loam_status hash_parse(struct hash32 *out, const char *s, struct err *err) {
    return hex_decode(out->b, 32, s, err);
}

enum loam_status sig_parse(struct sig65 *out, const char *s, struct err *err) {
    return hex_decode(out->b, 65, s, err);
}

enum loam_status addr_parse(struct addr20 *out, const char *s, struct err *err) {
    enum loam_status st = hex_decode(out->b, 20, s, err);
    if (st)
        return st;
    if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X'))
        s += 2;
    bool lower = false, upper = false;
    for (int i = 0; i < 40; i++) {
        lower |= s[i] >= 'a' && s[i] <= 'f';
        upper |= s[i] >= 'A' && s[i] <= 'F';
    }
    if (lower && upper) {
        char good[ADDR_HEX_MAX];
        if (memcmp(addr_hex(good, out) + 2, s, 40))
            return err_set(err, LOAM_EPARSE, "address 0x%.40s: the checksum of its letters is wrong (EIP-55); a digit may be mistyped", s);
    }
    return LOAM_OK;
}

struct u256 i256_from(int64_t v) {
    uint64_t high = v < 0 ? UINT64_MAX : 0;
    return (struct u256){{(uint64_t)v, high, high, high}};
}

bool i256_is_negative(struct u256 v) {
    return v.w[3] >> 63;
}

enum loam_status i256_to_i64(int64_t *out, struct u256 v, struct err *err) {
    int64_t low = (int64_t)v.w[0];
    if (u256_cmp(i256_from(low), v))
        return err_set(err, LOAM_ERANGE, "a signed number does not fit in 64 bits");
    *out = low;
    return LOAM_OK;
}

char *i256_format(char out[U256_DEC_MAX + 1], struct u256 v) {
    if (!i256_is_negative(v)) {
        u256_format(out, v);
        return out;
    }
    struct u256 abs;
    (void)u256_sub(&abs, U256_ZERO, v);
    out[0] = '-';
    u256_format(out + 1, abs);
    return out;
}

enum loam_status i256_parse(struct u256 *out, const char *s, struct err *err) {
    bool minus = s[0] == '-';
    struct u256 abs;
    enum loam_status st = u256_parse(&abs, s + minus, err);
    if (st)
        return st;
    bool top = abs.w[3] >> 63;
    bool least = abs.w[3] == 1ull << 63 && !abs.w[2] && !abs.w[1] && !abs.w[0];
    if (top && !(minus && least))
        return err_set(err, LOAM_ERANGE, "%.80s does not fit in a signed 256-bit number", s);
    if (minus)
        (void)u256_sub(&abs, U256_ZERO, abs);
    *out = abs;
    return LOAM_OK;
}
