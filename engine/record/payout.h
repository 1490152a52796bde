/* Money in integers: the split of a fee, shares by weight, and the poster's cumulative payout table. Amounts are wei.
 *
 * Largest remainder: part i = floor(total · weight_i / sum of weights); the wei left over go one each to the largest
 * remainders, ties to the lower account id. The parts add up to the total exactly. */
#ifndef LOAM_RECORD_PAYOUT_H
#define LOAM_RECORD_PAYOUT_H

#include "record/types.h"

#define SPLIT_UNIT 10000 /* weights of a fee split are parts of ten thousand */

struct split_rule {
    uint32_t platform, model, stakers, contributors; /* sum SPLIT_UNIT */
};
#define SPLIT_DEFAULT ((struct split_rule){1000, 2000, 2000, 5000}) /* 10 / 20 / 20 / 50 % */

struct split {
    struct u256 platform, model, stakers, contributors; /* sum = fee */
};
/* Ties of remainders go in the order platform, model, stakers, contributors. LOAM_EINVAL if the rule's sum is wrong. */
enum loam_status split_fee(struct split *out, struct u256 fee, const struct split_rule *rule, struct err *err) LOAM_MUST_USE;

/* amount[i] = the part of account[i] by weight[i]; n of each. Accounts must be distinct (LOAM_EINVAL) but may come in any
 * order. A sum of weights of 0 with n > 0, or one past 2^256 - 1, is LOAM_EINVAL. n 0 is LOAM_EINVAL unless total is 0. */
enum loam_status split_weights(struct u256 *amount, struct u256 total, const uint64_t *account, const struct u256 *weight, size_t n,
                               struct err *err) LOAM_MUST_USE;

/* What the rows of one account did to one answer. */
struct influence {
    uint64_t account;
    int64_t net;    /* N_a: signed sum of the account's row scores */
    uint64_t floor; /* floor_a = 3 · median |s| · isqrt(rows of a): N_a must be above it to earn */
    uint64_t rows;
};
/* Shares of `pool` (the contributors' half of a fee): accounts with net > floor (and > 0) earn by net, the others' nets
 * that are positive but within the noise are burnt with the same weight, negative nets weigh nothing; where no account is
 * above its floor all is burnt. amount[i] belongs to in[i]; *burnt to ACCOUNT_BURN; together they are the pool.
 * Golden case: fee 1 OPEN, one account with 25 % of the weight: 0.125 OPEN. */
enum loam_status split_influence(struct u256 *amount, struct u256 *burnt, struct u256 pool, const struct influence *in, size_t n,
                                 struct err *err) LOAM_MUST_USE;

/* One line of a poster's payout table. */
struct payout {
    uint64_t index;
    uint64_t account;       /* ascending with index, distinct */
    struct u256 prefix;     /* sum of cumulative of the lines before */
    struct u256 cumulative; /* everything this poster has ever settled for the account */
};
#define PAYOUT_LEAF_BYTES 128
#define PAYOUTS_MAX (1u << 20)

/* The table, accounts ascending. Owns lines. */
struct payouts {
    struct payout *line;
    size_t count, cap;
    struct u256 total; /* sum of cumulative */
};
void payouts_init(struct payouts *p);
void payouts_clear(struct payouts *p);
enum loam_status payouts_copy(struct payouts *out, const struct payouts *p, struct err *err) LOAM_MUST_USE;
/* Adds amount to the account's line, made if missing; indexes, prefixes and total follow. LOAM_ERANGE on overflow. Adding
 * 0 to an account without a line makes none. */
enum loam_status payouts_add(struct payouts *p, uint64_t account, struct u256 amount, struct err *err) LOAM_MUST_USE;
const struct payout *payouts_find(const struct payouts *p, uint64_t account); /* NULL if there is none */
/* abi.encode(uint64 index, uint64 account, uint256 prefix, uint256 cumulative): leaf bytes of both trees. */
void payout_leaf(uint8_t out[PAYOUT_LEAF_BYTES], const struct payout *p);
enum loam_status payout_leaf_parse(struct payout *out, const uint8_t in[PAYOUT_LEAF_BYTES], struct err *err) LOAM_MUST_USE;
/* Root of the position-ordered tree over the lines (record/tree.h). */
struct hash32 payouts_root(const struct payouts *p);

/* Leaves of an Attribution's trees, all as ABI words so that the contracts can read them:
 *   score: abi.encode(bytes32 row hash, int256 score)           one a row, in manifest order
 *   net:   abi.encode(uint64 account, int256 net, uint256 floor, uint64 rows)   accounts ascending
 *   share: abi.encode(uint64 account, uint256 amount in wei)     accounts ascending; burnt = account 0; zero amounts left out */
#define SCORE_LEAF_BYTES 64
#define NET_LEAF_BYTES 128
#define SHARE_LEAF_BYTES 64
void score_leaf(uint8_t out[SCORE_LEAF_BYTES], const struct hash32 *row_hash, int64_t score);
void net_leaf(uint8_t out[NET_LEAF_BYTES], const struct influence *in);
void share_leaf(uint8_t out[SHARE_LEAF_BYTES], uint64_t account, struct u256 amount);

#endif
