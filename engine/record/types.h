/* The plain values that statements are made of. All are passed by pointer or value, own nothing and compare with memcmp. */
#ifndef LOAM_RECORD_TYPES_H
#define LOAM_RECORD_TYPES_H

#include "base/status.h"
#include "base/u256.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct hash32 {
    uint8_t b[32]; /* big-endian where it is read as a number */
};

struct addr20 {
    uint8_t b[20];
};

/* r (32, big-endian) ‖ s (32, big-endian, at most half the group order) ‖ v (27 or 28), as OpenZeppelin's ECDSA takes it. */
struct sig65 {
    uint8_t b[65];
};

/* Accounts with a fixed id (contrib/doc/protocol.md, Money). Ids of users start at ACCOUNT_FIRST_USER. */
enum {
    ACCOUNT_BURN = 0,     /* paid to 0x…dEaD: what no row earned */
    ACCOUNT_PLATFORM = 1, /* registered at deployment */
    ACCOUNT_STAKERS = 2,  /* paid to the Validators contract, which shares it by stake */
    ACCOUNT_FIRST_USER = 3,
};

#define HASH_HEX_MAX 67 /* "0x", 64 digits, NUL */
#define ADDR_HEX_MAX 43 /* "0x", 40 digits, NUL */
#define SIG_HEX_MAX 133

static inline bool hash_eq(const struct hash32 *a, const struct hash32 *b) {
    return memcmp(a->b, b->b, 32) == 0;
}
static inline bool addr_eq(const struct addr20 *a, const struct addr20 *b) {
    return memcmp(a->b, b->b, 20) == 0;
}
bool hash_is_zero(const struct hash32 *h);
bool addr_is_zero(const struct addr20 *a);

struct hash32 hash_of(const void *p, size_t n); /* keccak-256 */
/* "0x" and lower-case digits. Returns out. */
char *hash_hex(char out[HASH_HEX_MAX], const struct hash32 *h);
/* EIP-55: the case of each letter is a checksum. Returns out. */
char *addr_hex(char out[ADDR_HEX_MAX], const struct addr20 *a);
char *sig_hex(char out[SIG_HEX_MAX], const struct sig65 *s);
/* Exactly 64 hex digits, "0x" optional; LOAM_EPARSE. */
enum loam_status hash_parse(struct hash32 *out, const char *s, struct err *err) LOAM_MUST_USE;
/* 40 hex digits, "0x" optional. Digits of mixed case must carry the right EIP-55 checksum; LOAM_EPARSE. */
enum loam_status addr_parse(struct addr20 *out, const char *s, struct err *err) LOAM_MUST_USE;
enum loam_status sig_parse(struct sig65 *out, const char *s, struct err *err) LOAM_MUST_USE;

/* int256 travels as its two's complement in a struct u256. */
struct u256 i256_from(int64_t v);
bool i256_is_negative(struct u256 v);
/* LOAM_ERANGE where v does not fit. */
enum loam_status i256_to_i64(int64_t *out, struct u256 v, struct err *err) LOAM_MUST_USE;
/* "-12"; out holds a sign, the digits of 2^255 and the NUL. */
char *i256_format(char out[U256_DEC_MAX + 1], struct u256 v);
enum loam_status i256_parse(struct u256 *out, const char *s, struct err *err) LOAM_MUST_USE;

#endif
