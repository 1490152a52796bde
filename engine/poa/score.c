#include "poa/score.h"

#include "base/keccak.h"
#include "base/mem.h"
#include "poa/plan.h"
#include "record/tree.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

static const char *const names[POA_METHODS] = {"fisher", "tracin", "graddot", "bm25", "span"};

const char *poa_method_name(enum poa_method m) {
    return m < POA_METHODS ? names[m] : "?";
}

bool poa_method_find(enum poa_method *m, const char *name) {
    for (int i = 0; i < POA_METHODS; i++)
        if (!strcmp(names[i], name)) {
            *m = (enum poa_method)i;
            return true;
        }
    return false;
}

/* ---- the answer's gradients ---- */


enum loam_status poa_query_init(struct poa_query *q, const struct poa_plan *plan, uint32_t checkpoints, struct gpu *g, struct err *err) {
    memset(q, 0, sizeof *q);
    if (!checkpoints || checkpoints > POA_CHECKPOINTS_MAX)
        return err_set(err, LOAM_EINVAL, "attribution over %u checkpoints", checkpoints);
    q->plan = plan;
    q->checkpoints = checkpoints;
    q->gpu = g;
    q->width = poa_plan_offset(plan, plan->tensors);
    size_t widest = 0;
    for (uint32_t l = 0; l < plan->tensors; l++)
        widest = poa_plan_width(plan, l) > widest ? poa_plan_width(plan, l) : widest;
    q->q = mem_zarray(checkpoints, q->width);
    q->e = mem_zarray(checkpoints, plan->tensors * sizeof *q->e);
    q->have = mem_zarray(checkpoints, plan->tensors);
    q->scratch = mem_aligned(64, widest * sizeof *q->scratch);
    q->signs = mem_zalloc(sizeof *q->signs);
    enum loam_status st = q->q && q->e && q->have && q->scratch && q->signs
                              ? poa_signs_init(q->signs, plan, g, err)
                              : err_set(err, LOAM_ENOMEM, "attribution: an answer's gradients");
    if (st)
        poa_query_clear(q);
    return st;
}

void poa_query_clear(struct poa_query *q) {
    mem_free(q->q);
    mem_free(q->e);
    mem_free(q->have);
    mem_free(q->scratch);
    if (q->signs)
        poa_signs_clear(q->signs);
    mem_free(q->signs);
    memset(q, 0, sizeof *q);
}

static int8_t *query_at(const struct poa_query *q, uint32_t c, uint32_t l) {
    return q->q + c * q->width + poa_plan_offset(q->plan, l);
}

static enum loam_status take(void *ctx, const struct lm_grad_tensor *g, struct err *err) {
    struct poa_query *q = ctx;
    uint32_t c = q->current;
    if (g->row || g->tensor >= q->plan->tensors)
        return err_set(err, LOAM_EINVAL, "attribution: row %zu, tensor %u of an answer", g->row, g->tensor);
    size_t d = poa_plan_width(q->plan, g->tensor), at = (size_t)c * q->plan->tensors + g->tensor;
    const struct gpu_ops *ops = q->gpu->ops;
    float max;
    enum loam_status st;
    if ((st = poa_gradient(q->scratch, q->signs, q->plan, g, err)) ||
        (st = ops->finite(q->gpu, q->scratch, d, "an answer's gradient", err)) ||
        (st = ops->absmax(q->gpu, &max, q->scratch, d, err)))
        return st;
    q->e[at] = poa_exponent((double)max);
    if (abs(q->e[at]) > POA_EXPONENT_MAX)
        return err_set(err, LOAM_ERANGE, "attribution: the answer's gradient of tensor %u reaches %g", g->tensor, (double)max);
    q->have[at] = max > 0.0f ? 1 : 2;
    return ops->quant_pow2(q->gpu, query_at(q, c, g->tensor), q->scratch, d, q->e[at], err);
}

struct lm_grad_sink poa_query_sink(struct poa_query *q, uint32_t checkpoint) {
    LOAM_ASSERT(checkpoint < q->checkpoints);
    q->current = checkpoint;
    return (struct lm_grad_sink){.ctx = q, .full = poa_plan_full(q->plan), .tensor = take};
}

struct hash32 poa_query_hash(const struct poa_query *q, uint32_t checkpoint) {
    struct keccak k;
    struct hash32 h;
    uint8_t e[4];
    keccak_init(&k);
    for (uint32_t l = 0; l < q->plan->tensors; l++) {
        put_be32(e, (uint32_t)q->e[checkpoint * q->plan->tensors + l]);
        keccak_add(&k, e, 4);
        keccak_add(&k, query_at(q, checkpoint, l), poa_plan_width(q->plan, l));
    }
    keccak_end(&k, h.b);
    return h;
}

/* ---- scores ---- */

static bool same_plan(const struct poa_plan *a, const struct poa_plan *b) {
    return a->rows == b->rows && a->tensors == b->tensors && a->rank == b->rank && a->k == b->k &&
           !memcmp(a->seed, b->seed, 32) && !memcmp(a->out, b->out, a->tensors * sizeof *a->out);
}

static enum loam_status check(enum poa_method m, const struct poa_store *const *s, uint32_t checkpoints, const struct poa_query *q,
                              struct err *err) {
    if (m != POA_FISHER && m != POA_TRACIN && m != POA_GRADDOT)
        return err_set(err, LOAM_EINVAL, "attribution: %s is not made of gradients", poa_method_name(m));
    if (checkpoints != q->checkpoints)
        return err_set(err, LOAM_EINVAL, "attribution: %u checkpoints, the answer has %u", checkpoints, q->checkpoints);
    for (uint32_t c = 0; c < checkpoints; c++) {
        if (!same_plan(&s[c]->plan, q->plan))
            return err_set(err, LOAM_EINVAL, "attribution: checkpoint %u was stored after another plan", c);
        if (m != POA_FISHER && !s[c]->plan.keep_gradients)
            return err_set(err, LOAM_ESTATE, "attribution by %s: the gradient store keeps no gradients", poa_method_name(m));
        for (uint32_t l = 0; l < q->plan->tensors; l++)
            if (!q->have[c * q->plan->tensors + l])
                return err_set(err, LOAM_ESTATE, "attribution: the answer's gradient of checkpoint %u, tensor %u is missing", c, l);
    }
    return LOAM_OK;
}

/* What checkpoint c counts, as a power of two: its own weight, at most 2^POA_WEIGHT_SPAN times the least of all. */
static int weight_of(const struct poa_store *const *s, uint32_t checkpoints, uint32_t c) {
    int least = s[0]->weight_log2;
    for (uint32_t i = 1; i < checkpoints; i++)
        least = s[i]->weight_log2 < least ? s[i]->weight_log2 : least;
    return s[c]->weight_log2 - least > POA_WEIGHT_SPAN ? least + POA_WEIGHT_SPAN : s[c]->weight_log2;
}

/* Exponent of the products of (c, l) before the window; false where they count nothing. */
static bool raw_shift(int *out, enum poa_method m, const struct poa_store *const *s, uint32_t checkpoints, const struct poa_query *q,
                      uint32_t c, uint32_t l) {
    const struct poa_tensor *t = &s[c]->t[l];
    size_t at = (size_t)c * q->plan->tensors + l;
    if (q->have[at] != 1 || (m == POA_GRADDOT && c != checkpoints - 1))
        return false;
    *out = q->e[at] + t->shift + (m == POA_FISHER ? t->e_h + weight_of(s, checkpoints, c) : t->e_g);
    return true;
}

/* E of score.h. */
static int base_exponent(enum poa_method m, const struct poa_store *const *s, uint32_t checkpoints, const struct poa_query *q) {
    int max = INT_MIN, shift, bits = 0;
    size_t d = 0;
    for (uint32_t l = 0; l < q->plan->tensors; l++)
        d = poa_plan_width(q->plan, l) > d ? poa_plan_width(q->plan, l) : d;
    for (uint32_t c = 0; c < checkpoints; c++)
        for (uint32_t l = 0; l < q->plan->tensors; l++)
            if (raw_shift(&shift, m, s, checkpoints, q, c, l) && shift > max)
                max = shift;
    __int128 bound = (__int128)127 * 127 * (__int128)d * q->plan->tensors * checkpoints * (__int128)q->plan->rows;
    while (bits < 126 && ((__int128)1 << bits) < bound)
        bits++;
    return max == INT_MIN ? 0 : max - (62 - bits);
}

static int64_t shifted(int64_t dot, int shift) {
    if (shift >= 0)
        return dot * ((int64_t)1 << shift);
    return dot >> (shift < -63 ? 63 : -shift);
}

enum loam_status poa_score(int64_t *score, int *exponent, enum poa_method m, const struct poa_store *const *s,
                           uint32_t checkpoints, const struct poa_query *q, struct err *err) {
    enum loam_status st = check(m, s, checkpoints, q, err);
    if (st)
        return st;
    uint64_t N = q->plan->rows;
    int64_t *dot = mem_array(N, sizeof *dot);
    if (!dot)
        return err_set(err, LOAM_ENOMEM, "attribution: scores of %llu rows", (unsigned long long)N);
    int base = base_exponent(m, s, checkpoints, q), shift;
    memset(score, 0, N * sizeof *score);
    for (uint32_t c = 0; !st && c < checkpoints; c++)
        for (uint32_t l = 0; !st && l < q->plan->tensors; l++) {
            if (!raw_shift(&shift, m, s, checkpoints, q, c, l))
                continue;
            const struct poa_tensor *t = &s[c]->t[l];
            memset(dot, 0, N * sizeof *dot);
            st = q->gpu->ops->dot_i8(q->gpu, dot, 1, m == POA_FISHER ? t->h : t->g, t->d, (uint32_t)N, query_at(q, c, l), t->d, 1,
                                     t->d, err);
            for (uint64_t i = 0; !st && i < N; i++)
                score[i] += shifted(dot[i], shift - base);
        }
    *exponent = base;
    mem_free(dot);
    return st;
}

enum loam_status poa_score_part(int64_t *dot, int *shift, const struct poa_store *const *s, uint32_t checkpoints,
                                const struct poa_query *q, uint32_t checkpoint, uint32_t tensor, uint64_t row, struct err *err) {
    enum loam_status st = check(POA_FISHER, s, checkpoints, q, err);
    if (st)
        return st;
    if (checkpoint >= checkpoints || tensor >= q->plan->tensors || row >= q->plan->rows)
        return err_set(err, LOAM_ERANGE, "attribution: checkpoint %u, tensor %u, row %llu", checkpoint, tensor, (unsigned long long)row);
    const struct poa_tensor *t = &s[checkpoint]->t[tensor];
    const int8_t *h = t->h + row * t->d, *x = query_at(q, checkpoint, tensor);
    *dot = 0;
    *shift = 0;
    if (!raw_shift(shift, POA_FISHER, s, checkpoints, q, checkpoint, tensor))
        return LOAM_OK;
    *shift -= base_exponent(POA_FISHER, s, checkpoints, q);
    for (size_t i = 0; i < t->d; i++)
        *dot += (int64_t)h[i] * x[i];
    return LOAM_OK;
}

/* ---- shares ---- */

static int by_u64(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t isqrt(uint64_t n) {
    uint64_t r = 0;
    for (uint64_t bit = 1ull << 31; bit; bit >>= 1)
        if ((r + bit) * (r + bit) <= n)
            r += bit;
    return r;
}

static uint64_t magnitude(int64_t v) {
    return v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
}

/* ppm by the same rule as money. */
static enum loam_status fill_ppm(struct poa_shares *s, struct err *err) {
    struct u256 *part = mem_array(s->count, sizeof *part), burnt;
    if (!part)
        return err_set(err, LOAM_ENOMEM, "attribution: %zu shares", s->count);
    enum loam_status st = split_influence(part, &burnt, u256_from(1000000), s->account, s->count, err);
    for (size_t i = 0; !st && i < s->count; i++)
        s->ppm[i] = (uint32_t)part[i].w[0];
    if (!st)
        s->burnt_ppm = (uint32_t)burnt.w[0];
    mem_free(part);
    return st;
}

enum loam_status poa_shares_make(struct poa_shares *out, const int64_t *score, const uint64_t *account, uint64_t rows, struct err *err) {
    memset(out, 0, sizeof *out);
    if (!rows || rows > POA_ROWS_MAX)
        return err_set(err, LOAM_EINVAL, "attribution: shares of %llu rows", (unsigned long long)rows);
    uint64_t *sorted = mem_array(rows, sizeof *sorted);
    out->account = mem_zarray(rows, sizeof *out->account);
    out->ppm = mem_zarray(rows, sizeof *out->ppm);
    enum loam_status st = LOAM_OK;
    if (!sorted || !out->account || !out->ppm) {
        st = err_set(err, LOAM_ENOMEM, "attribution: shares of %llu rows", (unsigned long long)rows);
        goto out;
    }
    for (uint64_t i = 0; i < rows; i++)
        sorted[i] = magnitude(score[i]);
    qsort(sorted, rows, sizeof *sorted, by_u64);
    uint64_t median = sorted[(rows - 1) / 2]; /* the lower one of an even count */
    if (median > INT64_MAX / 3) {
        st = err_set(err, LOAM_ERANGE, "attribution: a median score of %llu", (unsigned long long)median);
        goto out;
    }
    out->floor = (int64_t)(3 * median);
    memcpy(sorted, account, rows * sizeof *sorted);
    qsort(sorted, rows, sizeof *sorted, by_u64);
    for (uint64_t i = 0; i < rows; i++)
        if (!i || sorted[i] != sorted[i - 1])
            out->account[out->count++].account = sorted[i];
    for (uint64_t i = 0; !st && i < rows; i++) {
        struct influence key = {.account = account[i]};
        struct influence *a = bsearch(&key, out->account, out->count, sizeof key, by_u64);
        LOAM_ASSERT(a);
        a->rows++;
        if (__builtin_add_overflow(a->net, score[i], &a->net))
            st = err_set(err, LOAM_ERANGE, "attribution: the scores of account %llu overflow", (unsigned long long)a->account);
    }
    for (size_t i = 0; !st && i < out->count; i++)
        if (__builtin_mul_overflow((uint64_t)out->floor, isqrt(out->account[i].rows), &out->account[i].floor))
            out->account[i].floor = UINT64_MAX;
    if (!st)
        st = fill_ppm(out, err);
out:
    mem_free(sorted);
    if (st)
        poa_shares_clear(out);
    return st;
}

void poa_shares_clear(struct poa_shares *s) {
    mem_free(s->account);
    mem_free(s->ppm);
    memset(s, 0, sizeof *s);
}

struct ranked {
    int64_t score;
    uint64_t row;
};

static int by_score(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score) : (x->row > y->row) - (x->row < y->row);
}

enum loam_status poa_rank(uint64_t *order, const int64_t *score, uint64_t rows, struct err *err) {
    struct ranked *r = mem_array(rows, sizeof *r);
    if (!r)
        return err_set(err, LOAM_ENOMEM, "attribution: ranks of %llu rows", (unsigned long long)rows);
    for (uint64_t i = 0; i < rows; i++)
        r[i] = (struct ranked){score[i], i};
    qsort(r, rows, sizeof *r, by_score);
    for (uint64_t i = 0; i < rows; i++)
        order[i] = r[i].row;
    mem_free(r);
    return LOAM_OK;
}

enum loam_status poa_score_root(struct hash32 *out, const struct hash32 *row_hash, const int64_t *score, uint64_t rows, struct err *err) {
    struct tree_stream t;
    (void)err;
    tree_stream_init(&t);
    for (uint64_t i = 0; i < rows; i++) {
        uint8_t leaf[SCORE_LEAF_BYTES];
        score_leaf(leaf, &row_hash[i], score[i]);
        tree_stream_add(&t, leaf, sizeof leaf);
    }
    *out = tree_stream_root(&t);
    return LOAM_OK;
}

struct hash32 poa_net_root(const struct poa_shares *s) {
    struct tree_stream t;
    tree_stream_init(&t);
    for (size_t i = 0; i < s->count; i++) {
        uint8_t leaf[NET_LEAF_BYTES];
        net_leaf(leaf, &s->account[i]);
        tree_stream_add(&t, leaf, sizeof leaf);
    }
    return tree_stream_root(&t);
}

struct hash32 poa_share_root(const struct poa_shares *s, const struct u256 *amount, struct u256 burnt) {
    struct tree_stream t;
    uint8_t leaf[SHARE_LEAF_BYTES];
    tree_stream_init(&t);
    if (!u256_is_zero(burnt)) { /* account 0: the lowest */
        share_leaf(leaf, ACCOUNT_BURN, burnt);
        tree_stream_add(&t, leaf, sizeof leaf);
    }
    for (size_t i = 0; i < s->count; i++)
        if (!u256_is_zero(amount[i])) {
            share_leaf(leaf, s->account[i].account, amount[i]);
            tree_stream_add(&t, leaf, sizeof leaf);
        }
    return tree_stream_root(&t);
}

struct hash32 poa_parameters_hash(enum poa_method m, const struct poa_store *const *s, uint32_t checkpoints) {
    struct keccak k;
    struct hash32 h = poa_damping_root(s, checkpoints);
    const struct poa_plan *p = &s[0]->plan;
    uint8_t b[8 + 7 * 4];
    keccak_init(&k);
    keccak_add(&k, "loam poa 2", 10);
    keccak_add(&k, poa_method_name(m), strlen(poa_method_name(m)) + 1);
    put_be64(b, p->rows);
    put_be32(b + 8, p->tensors);
    put_be32(b + 12, p->rank);
    put_be32(b + 16, p->k);
    put_be32(b + 20, (uint32_t)p->rho_log2);
    put_be32(b + 24, checkpoints);
    put_be32(b + 28, POA_N_FRACTION);
    put_be32(b + 32, POA_WEIGHT_SPAN);
    keccak_add(&k, b, sizeof b);
    keccak_add(&k, p->seed, 32);
    keccak_add(&k, h.b, 32);
    keccak_end(&k, h.b);
    return h;
}
