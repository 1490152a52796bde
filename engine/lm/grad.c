#include "lm/grad.h"

#include "base/mem.h"
#include "lm/model.h"
#include "lm/pass.h"

#include "base/banned.h"

#define MICRO_DEFAULT 512u /* past this the products gain no more speed on a CPU */

struct rows_run {
    struct lm_view *v;
    struct lm_pass *p;
    const struct lm_example **ex;
    double *nll;
    uint32_t micro;
};

static void rows_end(struct rows_run *r) {
    lm_pass_free(r->p);
    lm_view_free(r->v);
    mem_free(r->ex);
    mem_free(r->nll);
}

static enum loam_status rows_start(struct rows_run *r, struct gpu *g, struct lm_model *m, const struct lm_adapter *a,
                                   const struct lm_data *d, size_t first, size_t count, uint32_t micro, bool backward,
                                   struct err *err) {
    uint32_t longest = 0;
    *r = (struct rows_run){0};
    if (first > d->count || count > d->count - first || !count)
        return err_set(err, LOAM_EINVAL, "rows %zu to %zu of %zu", first, first + count, d->count);
    uint64_t tokens = 0, targets = 0;
    for (size_t i = first; i < first + count; i++) {
        if (d->rows[i].n > longest)
            longest = d->rows[i].n;
        tokens += d->rows[i].n;
        targets += d->rows[i].targets;
    }
    if (longest > m->config.context)
        return err_set(err, LOAM_ELIMIT, "a row of %u tokens; the model takes %u", longest, m->config.context);
    if (!micro)
        micro = MICRO_DEFAULT;
    if (micro < longest)
        micro = longest;
    if (micro > tokens)
        micro = (uint32_t)tokens;
    r->micro = micro;
    if (a) {
        struct lm_shape shape;
        lm_model_shape(&shape, m);
        enum loam_status s = lm_adapter_fits(a, &shape, err);
        if (s)
            return s;
    }
    enum loam_status s = lm_view_new(&r->v, m, longest, err);
    if (!s)
        s = lm_pass_new(&r->p, g, r->v, a, micro, targets < micro ? (uint32_t)targets : micro, backward, LM_KEEP_ALL, err);
    r->ex = mem_array(count, sizeof *r->ex);
    r->nll = mem_array(count, sizeof *r->nll);
    if (!s && (!r->ex || !r->nll))
        s = err_set(err, LOAM_ENOMEM, "no memory for %zu rows", count);
    if (s)
        rows_end(r);
    else
        for (size_t i = 0; i < count; i++)
            r->ex[i] = &d->rows[first + i];
    return s;
}

/* Rows from `at` on that fit one pass. */
static uint32_t rows_of_pass(const struct rows_run *r, size_t at, size_t count) {
    uint32_t n = 0;
    for (uint32_t tokens = 0; at + n < count && r->ex[at + n]->n <= r->micro - tokens; n++)
        tokens += r->ex[at + n]->n;
    return n;
}

enum loam_status lm_grad_rows(struct gpu *g, struct lm_model *m, const struct lm_adapter *a, const struct lm_data *d,
                              size_t first, size_t count, uint32_t micro_tokens, const struct lm_grad_sink *sink,
                              struct err *err) {
    struct rows_run r;
    enum loam_status s = rows_start(&r, g, m, a, d, first, count, micro_tokens, true, err);
    if (s)
        return s;
    for (size_t at = 0; !s && at < count;) {
        uint32_t n = rows_of_pass(&r, at, count);
        if (sink->cancelled && sink->cancelled(sink->ctx))
            s = err_set(err, LOAM_ECANCEL, "cancelled at row %zu of %zu", at, count);
        if (!s)
            s = lm_pass_forward(r.p, r.ex + at, n, true, NULL, r.nll, err);
        if (!s)
            s = lm_pass_backward(r.p, NULL, sink, first + at, err);
        for (uint32_t i = 0; !s && sink->row && i < n; i++)
            s = sink->row(sink->ctx, first + at + i, r.ex[at + i]->id, r.nll[i], r.ex[at + i]->targets, err);
        at += n;
    }
    rows_end(&r);
    return s;
}

enum loam_status lm_nll_rows(struct gpu *g, struct lm_model *m, const struct lm_adapter *a, const struct lm_data *d,
                             size_t first, size_t count, uint32_t micro_tokens, double *nll, struct err *err) {
    struct rows_run r;
    enum loam_status s = rows_start(&r, g, m, a, d, first, count, micro_tokens, false, err);
    if (s)
        return s;
    for (size_t at = 0; !s && at < count;) {
        uint32_t n = rows_of_pass(&r, at, count);
        s = lm_pass_forward(r.p, r.ex + at, n, false, NULL, nll + at, err);
        at += n;
    }
    rows_end(&r);
    return s;
}
