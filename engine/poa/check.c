#include "poa/check.h"

#include "base/mem.h"
#include "poa/fisher.h"
#include "poa/plan.h"
#include "poa/trace.h"

#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

/* ---- spot checks ---- */

enum loam_status poa_check_init(struct poa_check *c, const struct poa_store *s, struct gpu *g, const uint64_t *rows, uint64_t count, struct err *err) {
    memset(c, 0, sizeof *c);
    if (!s->plan.keep_gradients)
        return err_set(err, LOAM_ESTATE, "this gradient store keeps no gradients to compare with");
    size_t widest = 0;
    for (uint32_t l = 0; l < s->plan.tensors; l++)
        widest = s->t[l].d > widest ? s->t[l].d : widest;
    *c = (struct poa_check){.store = s, .gpu = g, .rows = rows, .count = rows ? count : s->plan.rows,
                            .signs = mem_zalloc(sizeof *c->signs), .scratch = mem_aligned(64, widest * sizeof(float)),
                            .q = mem_aligned(64, widest)};
    enum loam_status st = c->signs && c->scratch && c->q ? poa_signs_init(c->signs, &s->plan, g, err)
                                                         : err_set(err, LOAM_ENOMEM, "attribution: a check");
    if (st)
        poa_check_clear(c);
    return st;
}

void poa_check_clear(struct poa_check *c) {
    if (c->signs)
        poa_signs_clear(c->signs);
    mem_free(c->signs);
    mem_free(c->scratch);
    mem_free(c->q);
    memset(c, 0, sizeof *c);
}

static enum loam_status compare_row(void *ctx, const struct lm_grad_tensor *g, struct err *err) {
    struct poa_check *c = ctx;
    const struct poa_plan *p = &c->store->plan;
    if (g->row >= c->count || g->tensor >= p->tensors)
        return err_set(err, LOAM_EINVAL, "attribution: row %zu, tensor %u is outside what is checked", g->row, g->tensor);
    uint64_t row = c->rows ? c->rows[g->row] : g->row;
    if (row >= p->rows)
        return err_set(err, LOAM_EINVAL, "attribution: row %llu of %llu", (unsigned long long)row, (unsigned long long)p->rows);
    const struct poa_tensor *t = &c->store->t[g->tensor];
    char what[64];
    enum loam_status st;
    if ((st = poa_gradient(c->scratch, c->signs, p, g, err)) ||
        (st = c->gpu->ops->finite(c->gpu, c->scratch, t->d, "a gradient", err)) ||
        (st = c->gpu->ops->quant_pow2(c->gpu, c->q, c->scratch, t->d, t->e_g, err)))
        return st;
    c->compared++;
    snprintf(what, sizeof what, "gradient of row %llu, tensor %u", (unsigned long long)row, g->tensor);
    return poa_compare(what, POA_I8, c->q, t->d, t->g + row * t->d, t->d, err);
}

struct lm_grad_sink poa_check_sink(struct poa_check *c) {
    return (struct lm_grad_sink){.ctx = c, .full = poa_plan_full(&c->store->plan), .tensor = compare_row};
}

/* ---- the solve again ---- */

enum loam_status poa_fine_tensor(int32_t *h32, int *e_f, int64_t *n, const struct poa_store *s, uint32_t tensor, struct gpu *g, struct err *err) {
    const struct poa_plan *p = &s->plan;
    struct poa_fisher f;
    if (tensor >= p->tensors)
        return err_set(err, LOAM_ERANGE, "attribution: tensor %u of %u", tensor, p->tensors);
    if (!p->keep_gradients)
        return err_set(err, LOAM_ESTATE, "this gradient store keeps no gradients to solve with");
    enum loam_status st = poa_fisher_init(&f, p->rows, s->t[tensor].d, err);
    if (st)
        return st;
    st = poa_fisher_tensor(h32, e_f, n, &f, g, s->t[tensor].g, p->rows, s->t[tensor].d, p->rho_log2, err);
    poa_fisher_clear(&f);
    return st;
}

enum loam_status poa_check_tensor(const struct poa_store *s, uint32_t tensor, struct gpu *g, struct err *err) {
    if (tensor >= s->plan.tensors)
        return err_set(err, LOAM_ERANGE, "attribution: tensor %u of %u", tensor, s->plan.tensors);
    const struct poa_tensor *t = &s->t[tensor];
    size_t count = s->plan.rows * t->d;
    int32_t *h32 = mem_array(count, sizeof *h32);
    int8_t *h8 = mem_array(count, 1);
    int64_t n;
    int e_f;
    char what[64];
    enum loam_status st = h32 && h8 ? poa_fine_tensor(h32, &e_f, &n, s, tensor, g, err)
                                    : err_set(err, LOAM_ENOMEM, "attribution: a check of %zu numbers", count);
    snprintf(what, sizeof what, "damping of tensor %u", tensor);
    if (!st)
        st = poa_compare(what, POA_I64, &n, 1, &t->n, 1, err);
    if (!st) {
        int32_t mine[2], theirs[2] = {(int32_t)t->x, t->e_h};
        mine[0] = (int32_t)poa_shrink(h8, h32, count);
        mine[1] = t->e_g + e_f + mine[0];
        snprintf(what, sizeof what, "scales of tensor %u", tensor);
        st = poa_compare(what, POA_I32, mine, 2, theirs, 2, err);
    }
    snprintf(what, sizeof what, "Fisher rows of tensor %u (%zu a row)", tensor, t->d);
    if (!st)
        st = poa_compare(what, POA_I8, h8, count, t->h, count, err);
    mem_free(h32);
    mem_free(h8);
    return st;
}

/* ---- what a contract can decide ---- */

enum loam_status poa_check_residual(const int32_t *column, const int64_t *k_row, uint64_t rows, uint64_t i, int8_t g, int64_t n, int e_f, struct err *err) {
    if (i >= rows || rows > POA_ROWS_MAX || n < 0)
        return err_set(err, LOAM_EINVAL, "residual: row %llu of %llu", (unsigned long long)i, (unsigned long long)rows);
    /* n < 2^62 and |g| < 2^7: the right side fits 126 bits for e_f from -56 on. */
    if (e_f > 0 || e_f < -56)
        return err_set(err, LOAM_ERANGE, "residual: a fine scale of 2^%d", e_f);
    __int128 left = (__int128)n * column[i], right = (__int128)n * g * ((__int128)1 << -e_f), sum = 0, reach = 0;
    for (uint64_t j = 0; j < rows; j++) {
        if (k_row[j] > 1ll << 46 || k_row[j] < -(1ll << 46))
            return err_set(err, LOAM_ERANGE, "residual: K[%llu][%llu] is past every sum of products", (unsigned long long)i, (unsigned long long)j);
        sum += (__int128)k_row[j] * column[j]; /* 2^46 · 2^31 · 2^16 rows: below 2^93 */
        reach += llabs(k_row[j]);
    }
    __int128 r = left + sum * (1 << POA_N_FRACTION) - right, bound = n + reach * (1 << POA_N_FRACTION);
    if (r > bound || r < -bound)
        return err_set(err, LOAM_EVERIFY, "residual at row %llu: %.3g times its bound; this H does not solve (n I + K) H = n G",
                       (unsigned long long)i, (double)(r < 0 ? -r : r) / (double)bound);
    return LOAM_OK;
}
