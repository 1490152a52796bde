/* Gradients for attribution: of each row's summed NLL (trained tokens only, dropout off) with respect to every B tensor, at a
 * given adapter. One extra forward and backward over the rows; nothing is kept here, each gradient goes to the sink as soon as
 * it is there.
 *
 * B's gradient of one row and tensor is the sum over the row's tokens, ascending, one fp32 chain an element:
 *     g[o][r] = fl(scale * sum_t u[t][o] * h[t][r]),   u = dL/dy [T][out],  h = A x [T][R]
 * The sink gets u and h too, so that a projection P g = scale * sum_t (P u[t]) h[t]' is made of the factors, never from g. */
#ifndef LOAM_LM_GRAD_H
#define LOAM_LM_GRAD_H

#include "lm/adapter.h"
#include "lm/data.h"

struct gpu;
struct lm_model;

struct lm_grad_tensor {
    size_t row;             /* position in the data set */
    uint64_t id;            /* the row's id */
    uint32_t tensor;        /* position in the adapter (adapter.h's order); layers arrive from the last to the first */
    uint32_t rank, out;     /* R, out */
    uint32_t tokens;        /* T of this row */
    float scale;            /* the adapter's */
    const float *u;         /* [T][out], gradient of the linear layer's output; borrowed until the call returns */
    const float *h;         /* [T][R] */
    const float *g;         /* [out][R], or NULL when the sink said it needs only the factors */
};

struct lm_grad_sink {
    void *ctx;
    bool full;              /* compute g */
    /* Every (row, tensor) exactly once, from one thread at a time; rows of a pass are interleaved. */
    enum loam_status (*tensor)(void *ctx, const struct lm_grad_tensor *g, struct err *err);
    /* After the last tensor of a row: its summed NLL. May be NULL. */
    enum loam_status (*row)(void *ctx, size_t row, uint64_t id, double nll, uint32_t targets, struct err *err);
    /* Cancel asked? May be NULL. */
    bool (*cancelled)(void *ctx);
};

/* Rows first .. first + count - 1 of d. micro_tokens: most tokens in flight (0 = 512). The bits do not depend on it. */
enum loam_status lm_grad_rows(struct gpu *g, struct lm_model *m, const struct lm_adapter *a,
                              const struct lm_data *d, size_t first, size_t count, uint32_t micro_tokens, const struct lm_grad_sink *sink, struct err *err)
    LOAM_MUST_USE;
/* Forward only: summed NLL and trained tokens of each row (for evaluation). nll[count], may not be NULL. a may be NULL (base). */
enum loam_status lm_nll_rows(struct gpu *g, struct lm_model *m, const struct lm_adapter *a,
                             const struct lm_data *d, size_t first, size_t count, uint32_t micro_tokens, double *nll, struct err *err) LOAM_MUST_USE;

#endif
