/* Unsigned 256-bit integers, the chain's number type. w[0] holds the lowest 64 bits. */
#ifndef LOAM_BASE_U256_H
#define LOAM_BASE_U256_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct u256 {
    uint64_t w[4];
};

#define U256_DEC_MAX 80 /* digits of 2^256 and the NUL */
#define U256_ZERO ((struct u256){{0, 0, 0, 0}})

static inline struct u256 u256_from(uint64_t v) { return (struct u256){{v, 0, 0, 0}}; }
struct u256 u256_from_be(const uint8_t in[32]);
/* n <= 32 big-endian bytes. */
struct u256 u256_from_ben(const uint8_t *in, size_t n);
void u256_to_be(uint8_t out[32], struct u256 v);
int u256_cmp(struct u256 a, struct u256 b); /* -1, 0, 1 */
bool u256_is_zero(struct u256 a);
/* The arithmetic functions return true on overflow (or borrow); *out then holds the result modulo 2^256. */
bool u256_add(struct u256 *out, struct u256 a, struct u256 b);
bool u256_sub(struct u256 *out, struct u256 a, struct u256 b);
bool u256_mul(struct u256 *out, struct u256 a, struct u256 b);
/* Quotient and remainder; b must not be 0 (invariant). Either output may be NULL. */
void u256_divmod(struct u256 *q, struct u256 *r, struct u256 a, struct u256 b);
/* floor(a * b / c) with a 512-bit product; returns true if the quotient does not fit. c must not be 0. */
bool u256_muldiv(struct u256 *out, struct u256 a, struct u256 b, struct u256 c);
bool u256_fits_u64(struct u256 a);

/* Decimal, whole string; LOAM_EPARSE, or LOAM_ERANGE past 2^256 - 1. */
enum loam_status u256_parse(struct u256 *out, const char *s, struct err *err) LOAM_MUST_USE;
/* "0x…" quantity as JSON-RPC writes it: no leading zero digits unless the value is 0. */
enum loam_status u256_parse_quantity(struct u256 *out, const char *s, struct err *err) LOAM_MUST_USE;
void u256_format(char out[U256_DEC_MAX], struct u256 v);
/* Amounts of the native coin (18 decimals): "1", "0.125", "0.000000000000000001". Trailing zeros are dropped. */
enum loam_status u256_parse_coin(struct u256 *wei, const char *s, struct err *err) LOAM_MUST_USE;
void u256_format_coin(char out[U256_DEC_MAX + 2], struct u256 wei);

#endif
