/* One pass of a packed micro-batch through the model in act=f32: forward with saved activations, loss on the selected
 * positions, backward to the adapter. Inside lm only; trainer.c and grad.c drive it.
 *
 * Sequences stand one after the other, no padding: tokens seg[i] .. seg[i+1]-1 are row i, positions from 0. Every number of a
 * row is a function of that row alone (and, in the summed gradient, of the rows before it), so that the bits do not depend on
 * what shares a pass. */
#ifndef LOAM_LM_PASS_H
#define LOAM_LM_PASS_H

#include "gpu/ops.h"
#include "lm/adapter.h"
#include "lm/data.h"
#include "lm/grad.h"

struct lm_view_layer {
    const float *attn_norm, *ffn_norm;     /* [C] */
    struct gpu_weight w[LM_LINEARS];       /* N x K each */
    const float *bias[LM_LINEARS];         /* [N] or NULL */
    const float *q_norm, *k_norm;          /* [D] or NULL: of each head, before RoPE (Qwen3, Gemma 3) */
    const float *post_attn_norm, *post_ffn_norm; /* [C] or NULL: of what a half adds to x (Gemma 3) */
    const float *cos_table, *sin_table;    /* [positions][d_rot / 2] */
    uint32_t window;                       /* tokens that attention sees back; 0: all */
};

/* What a pass keeps of each layer from forward to backward; the rest is computed again, with the same bits. */
enum lm_keep {
    LM_KEEP_ALL,    /* everything that backward reads */
    LM_KEEP_MOST,   /* not gate and up, half of it all: their two products are done twice */
    LM_KEEP_INPUTS, /* only each layer's input: the whole forward is done twice */
    LM_KEEPS
};

/* What a pass needs to know of a model; borrowed from it. */
struct lm_view {
    uint32_t layers, width, ffn, vocab;    /* L, C, F, V */
    struct gpu_attn attn;                  /* H, G, D, scale; the window is the layer's */
    uint32_t d_rot;
    enum gpu_rope_style style;
    uint32_t positions;                    /* rows of the tables: the longest row that can be trained */
    float eps, embed_scale;                /* embeddings times this; 1: none */
    enum gpu_act act;
    const struct gpu_weight *embed, *head;
    const float *final_norm;               /* [C] */
    const struct lm_view_layer *layer;     /* [L] */
};

/* positions: the longest row. Lives as long as m at most. */
enum loam_status lm_view_new(struct lm_view **out, struct lm_model *m, uint32_t positions, struct err *err) LOAM_MUST_USE;
void lm_view_free(struct lm_view *v);

struct lm_dropout { /* p == 0: off */
    float p;
    uint32_t key[2]; /* philox stream "dropout" */
    uint64_t first;  /* running number in the whole run of the first row of this pass; a row and tensor draw at index
                        (row's number * tensors + tensor) */
};

struct lm_pass;

/* Bytes a pass of so many tokens and trained tokens takes. saved: the part that keeps activations. */
size_t lm_pass_bytes(const struct lm_view *v, const struct lm_adapter *a, uint32_t tokens, uint32_t targets, bool backward,
                     enum lm_keep keep, size_t *saved);
/* Allocates all of it. v and a (may be NULL: the base model) are borrowed. backward false: forward only. */
enum loam_status lm_pass_new(struct lm_pass **out, struct gpu *g, const struct lm_view *v, const struct lm_adapter *a,
                             uint32_t tokens, uint32_t targets, bool backward, enum lm_keep keep, struct err *err) LOAM_MUST_USE;
void lm_pass_free(struct lm_pass *p);

/* Forward and loss of ex[0..n): nll[i] is the fp64 sum, in order, of the fp32 NLLs of row i's trained tokens. LOAM_ENONFINITE
 * names row and position. LOAM_ELIMIT: more tokens or targets than allocated. */
enum loam_status lm_pass_forward(struct lm_pass *p, const struct lm_example *const *ex, uint32_t n, bool backward,
                                 const struct lm_dropout *drop, double *nll, struct err *err) LOAM_MUST_USE;
/* Backward of the last forward (given backward = true). grad (laid out as the adapter's data, NULL: none) gets each row's
 * gradient added, rows in order. sink (NULL: none) gets factors or gradients of B; `first` is the data set position of ex[0]. */
enum loam_status lm_pass_backward(struct lm_pass *p, float *grad, const struct lm_grad_sink *sink, size_t first,
                                  struct err *err) LOAM_MUST_USE;
/* The same with each row's gradient by itself: row i's is added at grad + i * stride. */
enum loam_status lm_pass_backward_rows(struct lm_pass *p, float *grad, size_t stride, struct err *err) LOAM_MUST_USE;
/* Logits of one position (row i of the last forward, token t) for tests: out [V]. */
enum loam_status lm_pass_logits(struct lm_pass *p, uint32_t row, uint32_t t, float *out, struct err *err) LOAM_MUST_USE;

#endif
