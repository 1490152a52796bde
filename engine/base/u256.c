#include "base/u256.h"

#include "base/bytes.h"

#include <string.h>

typedef unsigned __int128 u128;

struct u256 u256_from_be(const uint8_t in[32]) {
    struct u256 v;
    for (int i = 0; i < 4; i++)
        v.w[i] = be64(in + 24 - 8 * i);
    return v;
}
struct u256 u256_from_ben(const uint8_t *in, size_t n) {
    uint8_t t[32] = {0};
    LOAM_ASSERT(n <= 32);
    memcpy(t + 32 - n, in, n);
    return u256_from_be(t);
}
void u256_to_be(uint8_t out[32], struct u256 v) {
    for (int i = 0; i < 4; i++)
        put_be64(out + 24 - 8 * i, v.w[i]);
}
int u256_cmp(struct u256 a, struct u256 b) {
    for (int i = 3; i >= 0; i--)
        if (a.w[i] != b.w[i])
            return a.w[i] < b.w[i] ? -1 : 1;
    return 0;
}
bool u256_is_zero(struct u256 a) {
    return !(a.w[0] | a.w[1] | a.w[2] | a.w[3]);
}
bool u256_fits_u64(struct u256 a) {
    return !(a.w[1] | a.w[2] | a.w[3]);
}
bool u256_add(struct u256 *out, struct u256 a, struct u256 b) {
    u128 c = 0;
    for (int i = 0; i < 4; i++) {
        c += (u128)a.w[i] + b.w[i];
        out->w[i] = (uint64_t)c;
        c >>= 64;
    }
    return c != 0;
}
bool u256_sub(struct u256 *out, struct u256 a, struct u256 b) {
    uint64_t borrow = 0;
    for (int i = 0; i < 4; i++) {
        u128 d = (u128)a.w[i] - b.w[i] - borrow;
        out->w[i] = (uint64_t)d;
        borrow = (uint64_t)(d >> 64) & 1;
    }
    return borrow != 0;
}

static void mul512(uint64_t p[8], struct u256 a, struct u256 b) {
    memset(p, 0, 8 * sizeof *p);
    for (int i = 0; i < 4; i++) {
        u128 c = 0;
        for (int j = 0; j < 4; j++) {
            c += (u128)a.w[i] * b.w[j] + p[i + j];
            p[i + j] = (uint64_t)c;
            c >>= 64;
        }
        p[i + 4] = (uint64_t)c;
    }
}

bool u256_mul(struct u256 *out, struct u256 a, struct u256 b) {
    uint64_t p[8];
    mul512(p, a, b);
    memcpy(out->w, p, sizeof out->w);
    return (p[4] | p[5] | p[6] | p[7]) != 0;
}

/* Bit by bit: nothing here is hot, and it is easy to see that it is right. r < b holds at every step; the carry out
 * of the shift means r >= 2^256 > b, so one subtraction modulo 2^256 is again right. */
static void div512(uint64_t q[8], struct u256 *r, const uint64_t n[8], struct u256 b) {
    struct u256 rem = U256_ZERO;
    memset(q, 0, 8 * sizeof *q);
    for (int i = 511; i >= 0; i--) {
        bool carry = rem.w[3] >> 63;
        for (int k = 3; k > 0; k--)
            rem.w[k] = rem.w[k] << 1 | rem.w[k - 1] >> 63;
        rem.w[0] = rem.w[0] << 1 | (n[i / 64] >> (i % 64) & 1);
        if (carry || u256_cmp(rem, b) >= 0) {
            u256_sub(&rem, rem, b);
            q[i / 64] |= (uint64_t)1 << (i % 64);
        }
    }
    *r = rem;
}

void u256_divmod(struct u256 *q, struct u256 *r, struct u256 a, struct u256 b) {
    LOAM_ASSERT(!u256_is_zero(b));
    if (u256_fits_u64(b)) {
        u128 rem = 0;
        struct u256 t;
        for (int i = 3; i >= 0; i--) {
            rem = rem << 64 | a.w[i];
            t.w[i] = (uint64_t)(rem / b.w[0]);
            rem %= b.w[0];
        }
        if (q)
            *q = t;
        if (r)
            *r = u256_from((uint64_t)rem);
        return;
    }
    uint64_t n[8] = {a.w[0], a.w[1], a.w[2], a.w[3]}, quot[8];
    struct u256 rem;
    div512(quot, &rem, n, b);
    if (q)
        memcpy(q->w, quot, sizeof q->w);
    if (r)
        *r = rem;
}

bool u256_muldiv(struct u256 *out, struct u256 a, struct u256 b, struct u256 c) {
    LOAM_ASSERT(!u256_is_zero(c));
    uint64_t p[8], q[8];
    struct u256 r;
    mul512(p, a, b);
    div512(q, &r, p, c);
    memcpy(out->w, q, sizeof out->w);
    return (q[4] | q[5] | q[6] | q[7]) != 0;
}

static enum loam_status digits(struct u256 *v, const char *s, size_t n, const char *whole, struct err *err) {
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return err_set(err, LOAM_EPARSE, "'%.90s' is not a decimal number", whole);
        if (u256_mul(v, *v, u256_from(10)) || u256_add(v, *v, u256_from((uint64_t)(s[i] - '0'))))
            return err_set(err, LOAM_ERANGE, "'%.90s' does not fit in 256 bits", whole);
    }
    return LOAM_OK;
}

enum loam_status u256_parse(struct u256 *out, const char *s, struct err *err) {
    *out = U256_ZERO;
    if (!*s)
        return err_set(err, LOAM_EPARSE, "empty where a number is needed");
    return digits(out, s, strlen(s), s, err);
}

enum loam_status u256_parse_quantity(struct u256 *out, const char *s, struct err *err) {
    *out = U256_ZERO;
    size_t n = strlen(s);
    if (n < 3 || s[0] != '0' || s[1] != 'x' || n > 66 || (s[2] == '0' && n > 3))
        return err_set(err, LOAM_EPARSE, "'%.90s' is not a quantity (0x, no leading zeros)", s);
    uint8_t b[32];
    char padded[65];
    memset(padded, '0', 64);
    memcpy(padded + 64 - (n - 2), s + 2, n - 2);
    padded[64] = 0;
    enum loam_status st = hex_decode(b, 32, padded, err);
    if (!st)
        *out = u256_from_be(b);
    return st;
}

void u256_format(char out[U256_DEC_MAX], struct u256 v) {
    char t[U256_DEC_MAX];
    int i = U256_DEC_MAX;
    t[--i] = 0;
    do {
        struct u256 r;
        u256_divmod(&v, &r, v, u256_from(10));
        t[--i] = (char)('0' + r.w[0]);
    } while (!u256_is_zero(v));
    memcpy(out, t + i, (size_t)(U256_DEC_MAX - i));
}

enum loam_status u256_parse_coin(struct u256 *wei, const char *s, struct err *err) {
    const char *dot = strchr(s, '.');
    size_t whole = dot ? (size_t)(dot - s) : strlen(s), frac = dot ? strlen(dot + 1) : 0;
    *wei = U256_ZERO;
    if (!whole || (dot && !frac) || frac > 18)
        return err_set(err, LOAM_EPARSE, "'%.90s' is not an amount (like 1 or 0.125; at most 18 decimals)", s);
    enum loam_status st = digits(wei, s, whole, s, err);
    if (!st && dot)
        st = digits(wei, dot + 1, frac, s, err);
    for (size_t i = frac; !st && i < 18; i++)
        if (u256_mul(wei, *wei, u256_from(10)))
            st = err_set(err, LOAM_ERANGE, "'%.90s' does not fit in 256 bits", s);
    return st;
}

void u256_format_coin(char out[U256_DEC_MAX + 2], struct u256 wei) {
    char d[U256_DEC_MAX];
    struct u256 whole, frac;
    u256_divmod(&whole, &frac, wei, u256_from(1000000000000000000u));
    u256_format(out, whole);
    if (u256_is_zero(frac))
        return;
    u256_format(d, frac);
    size_t n = strlen(d), at = strlen(out);
    out[at++] = '.';
    for (size_t i = n; i < 18; i++)
        out[at++] = '0';
    memcpy(out + at, d, n + 1);
    for (at += n; out[at - 1] == '0'; at--)
        out[at - 1] = 0;
}
