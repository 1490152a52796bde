/* The fast mode of an NVIDIA device: bf16 on tensor cores, fp32 sums, for people who need no proof. Its numbers are close to
 * arith-1's, not equal (contrib/doc/arithmetic.md, last line): records made with it say so and are not paid by it. Every operation
 * has a bound on its normalised squared error, checked by tests/test_fast.c (emulated in `make check`, on a device by gpu-check).
 *
 * Needs compute capability 8.0. Products go through cuBLASLt, found at run time (libcublasLt); all else is gpu/cuda_fast.cu.
 *
 * Letters as in gpu/ops.h. bf16 arrays are uint16_t. All pointers are the device's (alloc) unless a line says host; rows are `ld`
 * elements apart, row starts aligned to 16 bytes (K, D, F, V and ld multiples of 8). An operation enqueues on the device's one
 * stream and returns; LOAM_OK means launched. `sync` waits and reports what went wrong on the way. Between graph_begin and
 * graph_end operations are recorded instead, and launched together by graph_run: everything they read is read then.
 *
 * Errors: LOAM_EINVAL sizes; LOAM_EUNSUPPORTED a head size other than 64 and 128 (with a cache 32
 * too); the rest as gpu/cuda.h. */
#ifndef LOAM_GPU_FAST_H
#define LOAM_GPU_FAST_H

#include "gpu/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fast;

/* C (m x n, row-major) = alpha op(A) op(B) + beta C, plus bias (n, bf16; NULL: none). A and B bf16; a_t: A is stored k x m;
 * b_t: B is stored n x k. c_f32: C is fp32, else bf16. Linear layer: y = x W^T is {t, n, k, x, W, b_t}; dx = dy W is
 * {t, k, n, dy, W}; dW = dy^T x is {n, k, t, dy, x, a_t}. */
struct fast_gemm {
    uint32_t m, n, k;
    const uint16_t *a, *b;
    size_t lda, ldb;
    bool a_t, b_t, c_f32;
    void *c;
    size_t ldc;
    float alpha, beta;
    const uint16_t *bias;
};

/* Packed sequences, causal: sequence s is rows seg[s] .. seg[s+1]-1. */
struct fast_attn {
    uint32_t h, g, d, window;
    float scale;
    const uint32_t *seg; /* device, n_seg + 1 */
    uint32_t n_seg, t, longest; /* t = seg[n_seg] */
    size_t ldq, ldkv, ldo;      /* of q and dq; of k, v, dk, dv; of o and do */
};

/* Decode: one new token a sequence over a cache in pages of GPU_KV_PAGE positions, bf16: page p of this layer holds, from
 * element p * g * GPU_KV_PAGE * d on, [g][GPU_KV_PAGE][d], in k_pages and v_pages alike. */
struct fast_kv {
    uint32_t h, g, d, window;
    float scale;
    uint16_t *k_pages, *v_pages;
    const int32_t *table; /* [n][table_ld] page numbers of each sequence */
    uint32_t table_ld;
    const uint32_t *len;  /* [n] positions, the new one included */
    uint32_t n, longest;  /* longest: a bound on every len, for as long as the graph lives */
};

enum fast_type {
    FAST_BF16, /* [n][k] */
    FAST_F8,   /* e4m3 [n][k], scale fp32 [n] */
    FAST_Q8,   /* int8 [n][k], scale fp16 [n][k/32] */
    FAST_Q4,   /* [n][k/32][16]: code j low, j + 16 high; scale pairs d, m fp16 [n][k/32][2]: d q + m (Q4_0: m = -8 d) */
    FAST_NF4   /* codes as Q4, of the 16 levels of a normal distribution (QLoRA); scale fp16 [n][k/64] */
};
struct fast_weight {
    enum fast_type type;
    uint32_t n, k; /* k a multiple of 64 */
    const void *w, *scale;
};
size_t fast_weight_bytes(enum fast_type type, size_t n, size_t k);  /* of w */
size_t fast_scale_bytes(enum fast_type type, size_t n, size_t k);   /* of scale */
/* Host: rounds n x k fp32 (host) to the format (host arrays of the sizes above). */
void fast_quantise(void *w, void *scale, enum fast_type type, size_t n, size_t k, const float *src);
/* Host: what the device reads from them, n x k fp32. */
void fast_dequantise(float *out, enum fast_type type, size_t n, size_t k, const void *w, const void *scale);

/* Adapters of a weight or of several that share x (q, k, v; gate, up): slice i adds to columns y_at[i] .. + n[i]. */
#define FAST_SLICES 3
struct fast_adapter {
    const uint16_t *a[FAST_SLICES], *b[FAST_SLICES]; /* A: R x K, B: N x R */
    uint32_t r;                                      /* at most 64, a multiple of 8 */
    float scale;
};
struct fast_lora {
    const struct fast_adapter *list; /* device */
    const int32_t *map;              /* device, [t]: which, -1 none */
    uint32_t slices, k, n[FAST_SLICES], y_at[FAST_SLICES];
};

#define FAST_OP(name, ...) enum loam_status (*name)(struct fast * f, __VA_ARGS__, struct err *err) LOAM_MUST_USE
struct fast_ops {
    /* LOAM_ENOTFOUND: no libcublasLt here (LOAM_CUBLASLT names one elsewhere). */
    enum loam_status (*open)(struct fast **out, int device, struct err *err) LOAM_MUST_USE;
    void (*close)(struct fast *f); /* NULL allowed; frees all memory */
    void *(*alloc)(struct fast *f, size_t bytes); /* not zeroed; NULL: the device's memory is full */
    void (*free)(struct fast *f, void *p);
    FAST_OP(put, void *device, const void *host, size_t bytes);
    FAST_OP(get, void *host, const void *device, size_t bytes); /* waits */
    FAST_OP(copy, void *to, const void *from, size_t bytes);    /* on the device; does not wait */
    enum loam_status (*sync)(struct fast *f, struct err *err) LOAM_MUST_USE;
    enum loam_status (*graph_begin)(struct fast *f, struct err *err) LOAM_MUST_USE;
    FAST_OP(graph_end, void **graph);
    FAST_OP(graph_run, void *graph);
    void (*graph_free)(struct fast *f, void *graph);
    /* Milliseconds between the two, by device events; stop waits. */
    enum loam_status (*clock_start)(struct fast *f, struct err *err) LOAM_MUST_USE;
    FAST_OP(clock_stop, float *ms);

    FAST_OP(gemm, const struct fast_gemm *p);
    /* y (bf16 or, y_f32, fp32; T x N) = x W^T (+ y where add), T at most 8: reads each weight once, at the memory's speed. */
    FAST_OP(gemv, void *y, bool y_f32, size_t ldy, const uint16_t *x, size_t ldx, uint32_t t, const struct fast_weight *w, bool add);
    FAST_OP(dequant, uint16_t *out, const struct fast_weight *w); /* for gemm: n x k bf16 */
    FAST_OP(embed, uint16_t *y, const uint16_t *table, const uint32_t *ids, uint32_t t, uint32_t c);
    /* x += r (r NULL: not), y = x / rms(x) w; rstd[rows] for the backward (NULL: not kept). */
    FAST_OP(norm, uint16_t *y, float *rstd, uint16_t *x, const uint16_t *r, const uint16_t *w, uint32_t rows, uint32_t c, float eps);
    FAST_OP(norm_dx, uint16_t *dx, const uint16_t *dy, const uint16_t *x, const float *rstd, const uint16_t *w, uint32_t rows, uint32_t c,
            bool add);
    /* In place on `heads` heads of d (q and k of a fused row together); tables of gpu_rope_table, [positions][d/2] fp32. */
    FAST_OP(rope, uint16_t *x, size_t ldx, uint32_t t, uint32_t heads, uint32_t d, const float *cos_table, const float *sin_table,
            const uint32_t *pos, enum gpu_rope_style style, bool inverse);
    FAST_OP(swiglu, uint16_t *y, const uint16_t *gate_up, uint32_t t, uint32_t ffn);                     /* gate_up: T x 2F */
    FAST_OP(swiglu_dx, uint16_t *dgate_up, const uint16_t *dy, const uint16_t *gate_up, uint32_t t, uint32_t ffn); /* in place allowed */
    FAST_OP(attn, uint16_t *o, float *lse, const uint16_t *q, const uint16_t *k, const uint16_t *v, const struct fast_attn *a); /* lse: T x H */
    /* dd: T x H scratch. Deterministic: no sum depends on what block runs first. */
    FAST_OP(attn_dx, uint16_t *dq, uint16_t *dk, uint16_t *dv, float *dd, const uint16_t *d_o, const uint16_t *o, const float *lse,
            const uint16_t *q, const uint16_t *k, const uint16_t *v, const struct fast_attn *a);
    FAST_OP(kv_put, const uint16_t *k, const uint16_t *v, size_t ldkv, const struct fast_kv *kv); /* row i: the new token of sequence i */
    FAST_OP(attn_kv, uint16_t *o, size_t ldo, const uint16_t *q, size_t ldq, const struct fast_kv *kv);
    /* logits (bf16, rows x V): nll[i] fp32; in place the gradient of scale * nll (grad). Rows whose target is UINT32_MAX: 0. */
    FAST_OP(xent, float *nll, uint16_t *logits, size_t ld, uint32_t rows, uint32_t v, const uint32_t *target, float scale, bool grad);
    FAST_OP(lora, uint16_t *y, size_t ldy, const uint16_t *x, size_t ldx, uint32_t t, const struct fast_lora *l);
    FAST_OP(adamw, float *p, uint16_t *p16, float *m, float *v, const float *grad, size_t n, const struct gpu_adamw *how); /* p16: rounded copy, NULL: none */
};

/* The table of loam-cuda.so; errors as cuda_list (gpu/cuda.h), LOAM_ENOTBUILT where the module has none. */
enum loam_status fast_ops(const struct fast_ops **out, struct err *err) LOAM_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
