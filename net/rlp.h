/* RLP, Ethereum's serialisation (Yellow Paper, appendix B). Reading is canonical and bounded: an item that has a
 * shorter encoding, runs past its container or nests deeper than RLP_DEPTH_MAX is LOAM_ERLP. Readers borrow: every
 * pointer lives as long as the bytes given to rlp_parse. */
#ifndef LOAM_NET_RLP_H
#define LOAM_NET_RLP_H

#include "base/bytes.h"
#include "base/u256.h"
#include "record/types.h"

#include <stdbool.h>

#define RLP_DEPTH_MAX 32 /* rlp_check; real data nests 4 deep */

/* One item. p, n: its payload (for a list: the encoded items one after another). raw, raw_n: with its own header. */
struct rlp {
    const uint8_t *p, *raw;
    size_t n, raw_n;
    bool list;
};

/* Exactly one item in in[0..n). */
enum loam_status rlp_parse(struct rlp *out, const uint8_t *in, size_t n, struct err *err) LOAM_MUST_USE;
/* Takes the next item off the front of *at (*left bytes). LOAM_ERLP also when nothing is left. */
enum loam_status rlp_next(struct rlp *out, const uint8_t **at, size_t *left, struct err *err) LOAM_MUST_USE;
/* The whole item and all in it is canonical. */
enum loam_status rlp_check(const uint8_t *in, size_t n, struct err *err) LOAM_MUST_USE;
/* The items of a list, at most max; *count gets their number. LOAM_ERLP if item is no list or has more. */
enum loam_status rlp_items(struct rlp *out, size_t max, size_t *count, const struct rlp *item, struct err *err) LOAM_MUST_USE;
/* A string item as integer (no leading zero byte) or as exactly n bytes. `what` names the field in messages. */
enum loam_status rlp_u64(uint64_t *out, const struct rlp *item, const char *what, struct err *err) LOAM_MUST_USE;
enum loam_status rlp_u256(struct u256 *out, const struct rlp *item, const char *what, struct err *err) LOAM_MUST_USE;
enum loam_status rlp_fixed(uint8_t *out, size_t n, const struct rlp *item, const char *what, struct err *err) LOAM_MUST_USE;

/* Writing appends to b (whose max is the limit). Lists: mark = b->len before the first item, rlp_wrap afterwards. */
enum loam_status rlp_put(struct buf *b, const void *p, size_t n, struct err *err) LOAM_MUST_USE;
enum loam_status rlp_put_u64(struct buf *b, uint64_t v, struct err *err) LOAM_MUST_USE;
enum loam_status rlp_put_u256(struct buf *b, struct u256 v, struct err *err) LOAM_MUST_USE;
/* Turns the bytes from mark to the end into one list. */
enum loam_status rlp_wrap(struct buf *b, size_t mark, struct err *err) LOAM_MUST_USE;

#endif
