/* Solidity's ABI: calls, return values, events, custom errors and revert reasons. Encoding takes a tree of values and
 * needs no types; with a signature the shapes are checked against it. Decoding is strict: padding must be zero, offsets
 * in range, counts within the data (LOAM_EPARSE).
 *
 *     abi_call(&b, "withdraw(uint64,address)", ABI(abi_u64(7), abi_addr(&to)), err)
 *     abi_call(&b, "post((uint64,bytes32,string),bytes[])", ABI(ABI_TUPLE(abi_u64(1), abi_b32(&h), abi_str("x")),
 *                                                          ABI_ARRAY(abi_bytes(p, n))), err)
 */
#ifndef LOAM_NET_ABI_H
#define LOAM_NET_ABI_H

#include "base/bytes.h"
#include "base/u256.h"
#include "record/types.h"

#include <stdbool.h>

#define ABI_DATA_MAX (1u << 20) /* most bytes decoded or made at once */
#define ABI_VALUES_MAX 65536    /* most values of one decoded document */
#define ABI_DEPTH_MAX 8

enum abi_kind {
    ABI_WORD,  /* any static value: 32 bytes, big-endian or left-aligned (bytesN) */
    ABI_BYTES, /* bytes, string */
    ABI_TUPLE, /* also T[k] */
    ABI_ARRAY, /* T[] */
};

/* Encoding: made by the functions below, borrows what it points to until the encode call returns. Decoding: points into
 * the document's data. */
struct abi_value {
    enum abi_kind kind;
    uint8_t word[32];
    const uint8_t *p;             /* ABI_BYTES */
    size_t n;                     /* bytes, or count of items */
    const struct abi_value *item; /* ABI_TUPLE, ABI_ARRAY */
};

struct abi_value abi_u64(uint64_t v);
struct abi_value abi_u256(struct u256 v);
struct abi_value abi_i64(int64_t v); /* sign-extended, any intN */
struct abi_value abi_bool(bool v);
struct abi_value abi_addr(const struct addr20 *a);
struct abi_value abi_b32(const struct hash32 *h);
struct abi_value abi_bytesn(const void *p, size_t n); /* bytes1 … bytes32 */
struct abi_value abi_bytes(const void *p, size_t n);
struct abi_value abi_str(const char *s);
struct abi_value abi_tuple(const struct abi_value *items, size_t n);
struct abi_value abi_array(const struct abi_value *items, size_t n);

/* "items, count" for the calls below. ABI_NONE: no arguments. */
#define ABI(...) (const struct abi_value[]){__VA_ARGS__}, sizeof((const struct abi_value[]){__VA_ARGS__}) / sizeof(struct abi_value)
#define ABI_NONE NULL, 0
#define ABI_TUPLE(...) abi_tuple(ABI(__VA_ARGS__))
#define ABI_ARRAY(...) abi_array(ABI(__VA_ARGS__))

/* Appends abi.encode(items…) to out. */
enum loam_status abi_encode(struct buf *out, const struct abi_value *items, size_t n, struct err *err) LOAM_MUST_USE;
/* Appends selector and arguments. sig: "name(type,…)"; LOAM_EINVAL when the items do not fit its types. */
enum loam_status abi_call(struct buf *out, const char *sig, const struct abi_value *items, size_t n, struct err *err) LOAM_MUST_USE;
/* keccak of the canonical signature: `sig` may have spaces, parameter names and "indexed". Selector = its first 4 bytes,
 * topic 0 of an event = all 32. */
enum loam_status abi_hash(struct hash32 *out, const char *sig, struct err *err) LOAM_MUST_USE;

/* A decoded document: item[i] is the i-th parameter. Holds a copy of the data; abi_clear frees. */
struct abi_doc {
    struct abi_value *item;
    size_t n;
    char **name; /* parameter names, "" where the signature has none; NULL items past n */
    struct abi_arena *arena;
};
/* types: "(uint64,bytes32[])" or "name(uint64 id, bytes32[] roots)"; data without selector. */
enum loam_status abi_decode(struct abi_doc *out, const char *types, const uint8_t *data, size_t n, struct err *err) LOAM_MUST_USE;
/* An event: topics[0] must be the signature's hash. Indexed dynamic parameters come as the word of their hash. */
enum loam_status abi_event(struct abi_doc *out, const char *sig, const struct hash32 *topics, size_t topic_count,
                           const uint8_t *data, size_t n, struct err *err) LOAM_MUST_USE;
void abi_clear(struct abi_doc *d);
/* By name; NULL if there is none of that name. */
const struct abi_value *abi_field(const struct abi_doc *d, const char *name);
/* Values out: LOAM_EPARSE where the kind differs, LOAM_ERANGE where the number does not fit. NULL v is LOAM_EPARSE. */
enum loam_status abi_get_u64(uint64_t *out, const struct abi_value *v, struct err *err) LOAM_MUST_USE;
enum loam_status abi_get_u256(struct u256 *out, const struct abi_value *v, struct err *err) LOAM_MUST_USE;
enum loam_status abi_get_addr(struct addr20 *out, const struct abi_value *v, struct err *err) LOAM_MUST_USE;
enum loam_status abi_get_b32(struct hash32 *out, const struct abi_value *v, struct err *err) LOAM_MUST_USE;
enum loam_status abi_get_bool(bool *out, const struct abi_value *v, struct err *err) LOAM_MUST_USE;
/* *p borrows from the document. */
enum loam_status abi_get_bytes(const uint8_t **p, size_t *n, const struct abi_value *v, struct err *err) LOAM_MUST_USE;

/* A revert's data as one clean line: Error(string)'s text, Panic's meaning, or a custom error with its values, e.g.
 * "BondTooSmall(have 5, need 10)". errors: NULL-terminated signatures, e.g. "BondTooSmall(uint256 have, uint256 need)"; may
 * be NULL. Unknown data gives its hex, cut. Returns out. */
char *abi_revert(char *out, size_t cap, const uint8_t *data, size_t n, const char *const *errors);

#endif
