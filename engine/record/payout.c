#include "record/payout.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "record/tree.h"

#include <stdlib.h>

#include "base/banned.h"

struct rest {
    struct u256 remainder;
    uint64_t account;
    size_t index;
};

/* Largest remainder first, ties to the lower account. */
static int by_rest(const void *a, const void *b) {
    const struct rest *x = a, *y = b;
    int c = u256_cmp(y->remainder, x->remainder);
    return c ? c : (x->account > y->account) - (x->account < y->account);
}

static int by_account(const void *a, const void *b) {
    uint64_t x = ((const struct rest *)a)->account, y = ((const struct rest *)b)->account;
    return (x > y) - (x < y);
}

enum loam_status split_weights(struct u256 *amount, struct u256 total, const uint64_t *account, const struct u256 *weight, size_t n,
                               struct err *err) {
    if (!n)
        return u256_is_zero(total) ? LOAM_OK : err_set(err, LOAM_EINVAL, "split: an amount and nobody to give it to");
    struct u256 sum = U256_ZERO;
    for (size_t i = 0; i < n; i++)
        if (u256_add(&sum, sum, weight[i]))
            return err_set(err, LOAM_EINVAL, "split: the weights' sum is past 2^256 - 1");
    if (u256_is_zero(sum))
        return err_set(err, LOAM_EINVAL, "split: all weights are zero");
    struct rest *r = mem_array(n, sizeof *r);
    if (!r)
        return err_set(err, LOAM_ENOMEM, "split: %zu parts", n);
    for (size_t i = 0; i < n; i++)
        r[i] = (struct rest){U256_ZERO, account[i], i};
    qsort(r, n, sizeof *r, by_account);
    for (size_t i = 1; i < n; i++)
        if (r[i].account == r[i - 1].account) {
            uint64_t twice = r[i].account;
            mem_free(r);
            return err_set(err, LOAM_EINVAL, "split: account %llu stands twice", (unsigned long long)twice);
        }
    struct u256 left = total;
    for (size_t i = 0; i < n; i++) {
        size_t k = r[i].index;
        struct u256 product, back;
        /* weight <= sum, so the quotient is at most total. */
        (void)u256_muldiv(&amount[k], total, weight[k], sum);
        /* The remainder is below sum < 2^256, so arithmetic modulo 2^256 gives it exactly. */
        (void)u256_mul(&product, total, weight[k]);
        (void)u256_mul(&back, amount[k], sum);
        (void)u256_sub(&r[i].remainder, product, back);
        (void)u256_sub(&left, left, amount[k]);
    }
    qsort(r, n, sizeof *r, by_rest);
    /* left = sum of remainders / sum of weights, which is less than the count of non-zero remainders. */
    for (size_t i = 0; !u256_is_zero(left); i++) {
        LOAM_ASSERT(i < n && !u256_is_zero(r[i].remainder));
        (void)u256_add(&amount[r[i].index], amount[r[i].index], u256_from(1));
        (void)u256_sub(&left, left, u256_from(1));
    }
    mem_free(r);
    return LOAM_OK;
}

enum loam_status split_fee(struct split *out, struct u256 fee, const struct split_rule *rule, struct err *err) {
    if ((uint64_t)rule->platform + rule->model + rule->stakers + rule->contributors != SPLIT_UNIT)
        return err_set(err, LOAM_EINVAL, "split rule %u/%u/%u/%u: the parts must add up to %d", rule->platform, rule->model,
                       rule->stakers, rule->contributors, SPLIT_UNIT);
    static const uint64_t order[4] = {0, 1, 2, 3};
    struct u256 amount[4], weight[4] = {u256_from(rule->platform), u256_from(rule->model), u256_from(rule->stakers),
                                        u256_from(rule->contributors)};
    enum loam_status st = split_weights(amount, fee, order, weight, 4, err);
    if (!st)
        *out = (struct split){amount[0], amount[1], amount[2], amount[3]};
    return st;
}

enum loam_status split_influence(struct u256 *amount, struct u256 *burnt, struct u256 pool, const struct influence *in, size_t n,
                                 struct err *err) {
    /* The burn takes part in the split as account 0, so that rounding has one rule for all. */
    struct u256 *weight = mem_zarray(n + 1, sizeof *weight), *part = mem_zarray(n + 1, sizeof *part);
    uint64_t *account = mem_array(n + 1, sizeof *account);
    enum loam_status st = LOAM_OK;
    bool above = false;
    if (!weight || !part || !account) {
        st = err_set(err, LOAM_ENOMEM, "split: %zu accounts", n);
        goto out;
    }
    account[n] = ACCOUNT_BURN;
    for (size_t i = 0; i < n; i++) {
        account[i] = in[i].account;
        if (in[i].account == ACCOUNT_BURN) {
            st = err_set(err, LOAM_EINVAL, "split: account 0 cannot have rows");
            goto out;
        }
        if (in[i].net <= 0)
            continue;
        uint64_t net = (uint64_t)in[i].net;
        bool earns = net > in[i].floor;
        above |= earns;
        struct u256 *w = earns ? &weight[i] : &weight[n];
        (void)u256_add(w, *w, u256_from(net)); /* at most 2^63 · n */
    }
    if (!above) {
        memset(weight, 0, n * sizeof *weight);
        weight[n] = u256_from(1);
    }
    if ((st = split_weights(part, pool, account, weight, n + 1, err)))
        goto out;
    memcpy(amount, part, n * sizeof *part);
    *burnt = part[n];
out:
    mem_free(weight);
    mem_free(part);
    mem_free(account);
    return st;
}

void payouts_init(struct payouts *p) {
    *p = (struct payouts){0};
}

void payouts_clear(struct payouts *p) {
    mem_free(p->line);
    payouts_init(p);
}

enum loam_status payouts_copy(struct payouts *out, const struct payouts *p, struct err *err) {
    payouts_init(out);
    if (!p->count)
        return LOAM_OK;
    if (!(out->line = mem_dup(p->line, p->count * sizeof *p->line)))
        return err_set(err, LOAM_ENOMEM, "payouts: %zu lines", p->count);
    out->count = out->cap = p->count;
    out->total = p->total;
    return LOAM_OK;
}

/* First line whose account is not below the given one. */
static size_t place_of(const struct payouts *p, uint64_t account) {
    size_t low = 0, high = p->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (p->line[mid].account < account)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

const struct payout *payouts_find(const struct payouts *p, uint64_t account) {
    size_t i = place_of(p, account);
    return i < p->count && p->line[i].account == account ? &p->line[i] : NULL;
}

enum loam_status payouts_add(struct payouts *p, uint64_t account, struct u256 amount, struct err *err) {
    struct u256 total;
    if (u256_add(&total, p->total, amount))
        return err_set(err, LOAM_ERANGE, "payouts: the total is past 2^256 - 1");
    size_t i = place_of(p, account);
    if (i == p->count || p->line[i].account != account) {
        if (u256_is_zero(amount))
            return LOAM_OK;
        if (p->count == PAYOUTS_MAX)
            return err_set(err, LOAM_ELIMIT, "payouts: more than %u lines", PAYOUTS_MAX);
        if (p->count == p->cap) {
            size_t cap = p->cap ? p->cap * 2 : 16;
            struct payout *q = mem_resize(p->line, cap, sizeof *q);
            if (!q)
                return err_set(err, LOAM_ENOMEM, "payouts: %zu lines", cap);
            p->line = q;
            p->cap = cap;
        }
        memmove(&p->line[i + 1], &p->line[i], (p->count - i) * sizeof *p->line);
        p->line[i] = (struct payout){.account = account};
        p->count++;
    }
    (void)u256_add(&p->line[i].cumulative, p->line[i].cumulative, amount); /* no overflow: at most total */
    p->total = total;
    struct u256 prefix = i ? p->line[i - 1].prefix : U256_ZERO;
    if (i)
        (void)u256_add(&prefix, prefix, p->line[i - 1].cumulative);
    for (; i < p->count; i++) {
        p->line[i].index = i;
        p->line[i].prefix = prefix;
        (void)u256_add(&prefix, prefix, p->line[i].cumulative);
    }
    return LOAM_OK;
}

void payout_leaf(uint8_t out[PAYOUT_LEAF_BYTES], const struct payout *p) {
    memset(out, 0, 64);
    put_be64(out + 24, p->index);
    put_be64(out + 56, p->account);
    u256_to_be(out + 64, p->prefix);
    u256_to_be(out + 96, p->cumulative);
}

enum loam_status payout_leaf_parse(struct payout *out, const uint8_t in[PAYOUT_LEAF_BYTES], struct err *err) {
    for (int i = 0; i < 24; i++)
        if (in[i] | in[32 + i])
            return err_set(err, LOAM_EPARSE, "payout leaf: an index or account past 64 bits");
    *out = (struct payout){be64(in + 24), be64(in + 56), u256_from_be(in + 64), u256_from_be(in + 96)};
    return LOAM_OK;
}

struct hash32 payouts_root(const struct payouts *p) {
    struct tree_stream t;
    uint8_t leaf[PAYOUT_LEAF_BYTES];
    tree_stream_init(&t);
    for (size_t i = 0; i < p->count; i++) {
        payout_leaf(leaf, &p->line[i]);
        tree_stream_add(&t, leaf, sizeof leaf);
    }
    return tree_stream_root(&t);
}

void score_leaf(uint8_t out[SCORE_LEAF_BYTES], const struct hash32 *row_hash, int64_t score) {
    memcpy(out, row_hash->b, 32);
    u256_to_be(out + 32, i256_from(score));
}

void net_leaf(uint8_t out[NET_LEAF_BYTES], const struct influence *in) {
    memset(out, 0, NET_LEAF_BYTES);
    put_be64(out + 24, in->account);
    u256_to_be(out + 32, i256_from(in->net));
    put_be64(out + 64 + 24, in->floor);
    put_be64(out + 96 + 24, in->rows);
}

void share_leaf(uint8_t out[SHARE_LEAF_BYTES], uint64_t account, struct u256 amount) {
    memset(out, 0, 32);
    put_be64(out + 24, account);
    u256_to_be(out + 32, amount);
}
