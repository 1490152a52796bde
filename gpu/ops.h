/* The one table of tensor operations: what engine/lm and engine/poa compute with. Every backend (ref, plain, avx2,
 * avx512, neon, cuda referee) gives the same bits for every operation, for any number of threads: the formulas stand in
 * gpu/arith.h and contrib/doc/arithmetic.md (arith-1), and gpu/ref_*.c spells each one out, slowly.
 *
 * Letters: T tokens, C width, H query heads, G key/value heads, D head size, F ffn width, V vocabulary, R rank,
 * N outputs (rows of a weight), K inputs (columns of a weight). Matrices are row-major; ldx is the distance between
 * rows in elements. Arrays that an operation reads or writes come from gpu_alloc (any memory will do on a CPU; a
 * device needs its own), are aligned to 4 bytes at least, and overlap only where a comment says "in place".
 * All operations have finished when they return.
 *
 * Errors of every operation: LOAM_EINVAL for sizes that make no sense, LOAM_ENOMEM for scratch, LOAM_ECANCEL when the
 * yield hook asked to stop (outputs are then undefined). Numbers are not checked on the way: call ops->finite where a
 * job wants to know (after a step's loss, after logits). A struct gpu serves one thread at a time.
 *
 * Include with the C++ compiler too (cuda_*.cu). */
#ifndef LOAM_GPU_OPS_H
#define LOAM_GPU_OPS_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- the device */

struct gpu_pool;
struct gpu_ops;
struct gpu_adamw;

struct gpu {
    const struct gpu_ops *ops;
    struct gpu_pool *pool; /* the threads; NULL for a device that has its own */
    const char *name;      /* "ref", "plain", "avx2", "avx512", "neon", "neon-dot", "cuda" */
    int threads;
    /* Asked before each operation on the caller's thread, and between chunks of long ones. True: the operation returns
     * LOAM_ECANCEL. It may block (to yield to a more urgent job). NULL allowed. */
    bool (*yield)(void *arg);
    void *yield_arg;
    void *impl; /* the backend's own */
    /* Memory of a device that is not the CPU; NULL for the CPU. Used through gpu_alloc, gpu_free, gpu_close. */
    void *(*dev_alloc)(struct gpu *g, size_t bytes);
    void (*dev_free)(struct gpu *g, void *p);
    void (*dev_close)(struct gpu *g);
    uint64_t (*dev_room)(struct gpu *g); /* bytes free on it now; 0: not known */
    bool lost; /* an operation failed because of the device (gone, busy, out of memory), not of its arguments: what is computed can
                  go on from its last state on another one, with the same bits */
};

struct gpu_config {
    /* NULL, "auto" or "cpu": the best of this machine's CPU; else a name. "cuda" or "cuda:N": device N by loam-cuda.so (gpu/cuda.h
     * says where it is looked for and what can go wrong). */
    const char *backend;
    int threads;         /* 0: one a core that may be used */
    int nice;            /* 0; or, for work that may wait (training): how far the workers and the calling thread, for good, give way */
};

/* LOAM_ENOTFOUND for an unknown name, LOAM_EUNSUPPORTED for one this machine cannot run (err says what is missing). */
enum loam_status gpu_open(struct gpu **out, const struct gpu_config *config, struct err *err) LOAM_MUST_USE;
void gpu_close(struct gpu *g); /* NULL allowed */
/* Zeroed, aligned to 64 bytes, readable and writable by the CPU between operations. NULL: out of memory. */
void *gpu_alloc(struct gpu *g, size_t bytes);
void gpu_free(struct gpu *g, void *p);
/* Names of the backends that gpu_open takes here, NULL-terminated, best first ("avx512", "avx2", "plain", "ref"). */
const char *const *gpu_backends(void);

/* ---------------------------------------------------------------- weights */

/* Numbers are GGUF's (ggml_type). */
enum gpu_type {
    GPU_F32 = 0,
    GPU_F16 = 1,
    GPU_Q4_0 = 2,
    GPU_Q4_1 = 3,
    GPU_Q5_0 = 6,
    GPU_Q5_1 = 7,
    GPU_Q8_0 = 8,
    GPU_Q4_K = 12,
    GPU_Q5_K = 13,
    GPU_Q6_K = 14,
    GPU_BF16 = 30
};

/* "Q4_1"; NULL for a type that is not known (any other number). */
const char *gpu_type_name(uint32_t type);
/* Elements and bytes of one block of the file format; 0 for unknown types. Q8_0: 32 elements, 34 bytes. */
uint32_t gpu_type_elems(uint32_t type);
uint32_t gpu_type_bytes(uint32_t type);
/* Bytes of one row of K elements in the file format; 0 if the type is unknown or K not a multiple of its block. */
size_t gpu_row_bytes(uint32_t type, size_t k);
bool gpu_type_quantised(uint32_t type); /* true: act=q8 can use it */

/* A weight matrix W, N x K, packed for the kernels: 16 rows interleaved (gpu/pack.h says how). One layout on all
 * machines, so a packed image can be stored in a file and mapped. The struct only borrows `packed`. */
struct gpu_weight {
    uint32_t type; /* enum gpu_type */
    uint32_t n, k;
    const void *packed; /* gpu_pack_bytes(type, n, k), aligned to 64 */
};

#define GPU_PACK_VERSION 1 /* changes with the layout: part of a packed image's name */
/* 0: unknown type, K not a multiple of its block, or too large. */
size_t gpu_pack_bytes(uint32_t type, size_t n, size_t k);
/* src: n rows in the file format (any alignment). LOAM_ENONFINITE if a scale or value is not finite. */
enum loam_status gpu_pack(void *packed, uint32_t type, size_t n, size_t k, const void *src, struct err *err) LOAM_MUST_USE;
/* One stated formula a type (gpu/arith.h): n elements from the file format, a multiple of the type's block. */
void gpu_dequant(float *out, uint32_t type, const void *src, size_t n);
/* The other way: fp32 to F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1; LOAM_EUNSUPPORTED for the rest. For tests and
 * `model quantize`. n as above. */
enum loam_status gpu_quantise(void *dst, uint32_t type, const float *src, size_t n, struct err *err) LOAM_MUST_USE;

/* ---------------------------------------------------------------- activations */

/* Activations as act=q8 reads them: blocks of 32 along K. K is a multiple of 32. All arrays are the caller's. */
struct gpu_q8 {
    uint32_t t, k;
    int8_t *q; /* t x k */
    float *d;  /* t x k/32: s of the block */
    float *s;  /* t x k/32: (float) sum of q of the block */
};

/* What happens to a product `acc` (one fma chain, ascending) on its way into y; alpha multiplies as the line says. */
enum gpu_epi {
    GPU_SET,   /* y = alpha * acc              (alpha 1: acc itself) */
    GPU_CHAIN, /* the chain starts at y instead of +0; alpha must be 1 */
    GPU_ADD,   /* y = y + (alpha * acc), two roundings */
    GPU_FMA    /* y = fma(alpha, acc, y) */
};

/* y (T x N of w) = x W^T for several weights that share x: q, k, v or gate, up. */
struct gpu_out {
    float *y;
    size_t ldy;
    const struct gpu_weight *w;
};

/* C (m x n) from A (m x k) and B (k x n), all fp32 with any strides, in elements:
 * element (i, j): a[i*a_i + p*a_p], b[p*b_p + j*b_j], c[i*c_i + j]. One chain an element: fma(a, b, acc), p ascending.
 * LoRA in training:
 *   h  (T x R) = x A^T          A: R x K   a=x, a_i=K, a_p=1;  b=A, b_p=1, b_j=K       GPU_SET
 *   y += s h B^T                B: N x R   a=h, a_i=R, a_p=1;  b=B, b_p=1, b_j=R       GPU_FMA, alpha = s
 *   dh (T x R) = s (dy B)                  a=dy,a_i=N, a_p=1;  b=B, b_p=R, b_j=1       GPU_SET, alpha = s
 *   dB (N x R) = s (dy^T h)                a=dy,a_i=1, a_p=N;  b=h, b_p=R, b_j=1       GPU_SET, alpha = s
 *   dA (R x K) = dh^T x                    a=dh,a_i=1, a_p=R;  b=x, b_p=K, b_j=1       GPU_SET
 *   dx (T x K) continues its chain         a=dh,a_i=R, a_p=1;  b=A, b_p=K, b_j=1       GPU_CHAIN
 * dA and dB over one example's tokens; a batch then adds examples in manifest order (ops->add, or GPU_ADD). */
struct gpu_gemm {
    uint32_t m, n, k;
    const float *a;
    size_t a_i, a_p;
    const float *b;
    size_t b_p, b_j;
    float *c;
    size_t c_i;
    enum gpu_epi epi;
    float alpha;
};

/* One adapter of one weight, as inference reads it: y_t += by fma(scale, (B h)_n, y). Arrays made by gpu_lora_pack. */
struct gpu_lora {
    uint32_t r, n, k;
    float scale;
    const float *at; /* A transposed: k rows of gpu_lora_pad(r) floats */
    const float *bt; /* B transposed: r rows of gpu_lora_pad(n) floats */
};
static inline size_t gpu_lora_pad(size_t n) {
    return (n + 15) / 16 * 16;
}
/* a: R x K, b: N x R row-major -> at (k * pad(r) floats), bt (r * pad(n) floats), zeros in the padding. */
void gpu_lora_pack(float *at, float *bt, const float *a, const float *b, size_t r, size_t n, size_t k);

/* ---------------------------------------------------------------- attention */

struct gpu_attn {
    uint32_t h, g, d; /* query heads, key/value heads (h a multiple of g), head size (a multiple of 8, <= 256) */
    float scale;      /* s = fl(scale * q.k), usually 1/sqrt(D) */
    uint32_t window;  /* a position sees itself and the window - 1 before it; 0: all before it */
};

/* Key/value cache in fp16, in pages of GPU_KV_PAGE positions. A page of one layer holds gpu_kv_page_elems(a) uint16:
 * keys as [g][PAGE/16][d][16 positions], values as [g][PAGE][d]. Pages must be zeroed once when allocated. */
#define GPU_KV_PAGE 64
static inline size_t gpu_kv_page_elems(const struct gpu_attn *a) {
    return (size_t)2 * a->g * GPU_KV_PAGE * a->d;
}
/* One sequence's part of a batch: its t new tokens stand in rows row .. row + t - 1 of q, k, v and o, at positions
 * pos .. pos + t - 1. Position p lives in pages[p / PAGE], at element `off` of that page's memory on (this layer). */
struct gpu_kv_item {
    uint16_t *const *pages; /* (pos + t + PAGE - 1) / PAGE pointers */
    size_t off;
    uint32_t row, pos, t;
};

enum gpu_rope_style {
    GPU_ROPE_NORM, /* pairs (2i, 2i+1): Llama as GGUF stores it */
    GPU_ROPE_NEOX  /* pairs (i, i + D/2): Qwen, Gemma, and Hugging Face's layout */
};
enum gpu_act {
    GPU_SILU,
    GPU_GELU_TANH
};

/* ---------------------------------------------------------------- the table */

#define GPU_OP(name, ...) enum loam_status (*name)(struct gpu * g, __VA_ARGS__, struct err *err) LOAM_MUST_USE

struct gpu_ops {
    /* y (T x K) = rows ids[t] of the embedding w (dequantised). LOAM_ERANGE if an id is >= w->n. */
    GPU_OP(embed, float *y, size_t ldy, const struct gpu_weight *w, const uint32_t *ids, uint32_t t);

    /* --- act=f32: weights of any type, dequantised exactly; used by training, gradients, losses, F16/BF16/F32 models */
    /* outs[i].y (T x N) = x (T x K) W^T. */
    GPU_OP(matmul, const struct gpu_out *outs, int n_outs, const float *x, size_t ldx, uint32_t t);
    /* dx (T x K) = dy (T x N) W, chain over outputs ascending; epi GPU_SET or GPU_CHAIN. */
    GPU_OP(matmul_dx, float *dx, size_t lddx, const float *dy, size_t lddy, uint32_t t, const struct gpu_weight *w,
           enum gpu_epi epi);
    GPU_OP(gemm, const struct gpu_gemm *p);

    /* --- act=q8: quantised weights only (LOAM_EINVAL else); generation */
    /* q->t rows of q->k; fills q->q, q->d, q->s. */
    GPU_OP(quant, const struct gpu_q8 *q, const float *x, size_t ldx);
    GPU_OP(matmul_q8, const struct gpu_out *outs, int n_outs, const struct gpu_q8 *x);

    /* y_t = fma(scale, B (A x_t), y_t) with adapter map[t] (index into list; -1: none; map NULL: list[0] for all).
     * list entries may have different ranks; all share n and k. Nothing is done where no token has an adapter. */
    GPU_OP(lora, float *y, size_t ldy, const float *x, size_t ldx, uint32_t t, const struct gpu_lora *list, int n_list,
           const int32_t *map);

    /* --- norms, RoPE, activations. rows x c; x and y may be the same array. */
    /* y = (x * r) * w, r = 1/sqrt(mean + eps) saved in r[rows] unless NULL. w NULL: y = x * r. */
    GPU_OP(rmsnorm, float *y, float *r, const float *x, const float *w, uint32_t rows, uint32_t c, float eps);
    /* dx = or += (add true: dx + result) the gradient; x and r of the forward. dx may be dy itself if add is false. */
    GPU_OP(rmsnorm_dx, float *dx, const float *dy, const float *x, const float *r, const float *w, uint32_t rows,
           uint32_t c, bool add);
    /* In place: x holds T rows of `heads` heads of d, ldx apart; pairs of the first d_rot elements turn by the angle of
     * pos[t] in the table (rows of d_rot/2; see gpu_rope_table). inverse: turns back (the backward). */
    GPU_OP(rope, float *x, size_t ldx, uint32_t t, uint32_t heads, uint32_t d, uint32_t d_rot, const float *cos_table,
           const float *sin_table, const uint32_t *pos, enum gpu_rope_style style, bool inverse);
    /* y = act(gate) * up; n elements; in place on gate or up allowed. */
    GPU_OP(glu, float *y, const float *gate, const float *up, size_t n, enum gpu_act act);
    /* dgate, dup from dy; dgate may be gate, dup may be up or dy. */
    GPU_OP(glu_dx, float *dgate, float *dup, const float *dy, const float *gate, const float *up, size_t n,
           enum gpu_act act);
    GPU_OP(add, float *y, const float *a, const float *b, size_t n);        /* y = a + b; in place allowed */
    GPU_OP(add_row, float *y, size_t ldy, const float *b, uint32_t t, uint32_t n); /* y_t += b: a bias */
    GPU_OP(scale, float *y, const float *x, float alpha, size_t n);         /* y = alpha * x; in place allowed */
    GPU_OP(axpy, float *y, float alpha, const float *x, size_t n);          /* y = fma(alpha, x, y) */
    /* y_i = keep_i ? x_i * (1 / (1 - p)) : 0; keep_i from word i mod 4 of Philox block i / 4 of (key, index), see
     * arith_keep; n < 2^34. In place allowed. The same call on the gradient is the backward. */
    GPU_OP(dropout, float *y, const float *x, size_t n, float p, const uint32_t key[2], uint64_t index);

    /* --- attention in fp32 over packed sequences (training). Sequence i is tokens seg[i] .. seg[i+1]-1 of q (T x H*D),
     * k and v (T x G*D); seg[0] = 0, seg[n_seg] = T. o: T x H*D. m and l (T x H): max and sum of the softmax, for the
     * backward. */
    GPU_OP(attn, float *o, float *m, float *l, const float *q, const float *k, const float *v, const struct gpu_attn *a,
           const uint32_t *seg, uint32_t n_seg);
    /* dq, dk, dv are overwritten. */
    GPU_OP(attn_dx, float *dq, float *dk, float *dv, const float *d_o, const float *o, const float *m, const float *l,
           const float *q, const float *k, const float *v, const struct gpu_attn *a, const uint32_t *seg,
           uint32_t n_seg);
    /* --- attention over the fp16 cache (inference, prefill and decode alike). */
    /* Writes k and v (rows of G*D, ldkv apart) of the items' new tokens into their pages, to nearest even. */
    GPU_OP(kv_store, const float *k, const float *v, size_t ldkv, const struct gpu_attn *a,
           const struct gpu_kv_item *items, uint32_t n_items);
    GPU_OP(attn_kv, float *o, size_t ldo, const float *q, size_t ldq, const struct gpu_attn *a,
           const struct gpu_kv_item *items, uint32_t n_items);

    /* --- loss. logits: rows x V, ld apart; nll[i] = log sum exp - logit of target. With grad the logits become
     * p - [v == target] in place (the gradient of the summed NLL). Call it on chunks of rows: logits need never be whole. */
    GPU_OP(xent, float *nll, float *logits, size_t ld, uint32_t rows, uint32_t v, const uint32_t *target, bool grad);

    /* --- optimiser */
    GPU_OP(sumsq, float *out, const float *x, size_t n); /* 32 lanes of fma(x, x, lane), then the tree */
    /* g' = g * g_scale (clip and 1/tokens in one factor), then AdamW as in arith.h; p, m, v in place. */
    GPU_OP(adamw, float *p, float *m, float *v, const float *grad, size_t n, const struct gpu_adamw *how);

    /* --- attribution: integers */
    GPU_OP(absmax, float *out, const float *x, size_t n);
    /* q = clamp(rint(x * 2^-e), -127, 127). */
    GPU_OP(quant_pow2, int8_t *q, const float *x, size_t n, int e);
    /* out[i*ldo + j] += <rows_i, q_j>, int64, exact. rows: n_rows of len, ldr apart; q: n_q of len, ldq apart. */
    GPU_OP(dot_i8, int64_t *out, size_t ldo, const int8_t *rows, size_t ldr, uint32_t n_rows, const int8_t *q,
           size_t ldq, uint32_t n_q, size_t len);
    /* out (n x len, fp64) = M (n x k) rows, one fma chain over k ascending: out[i][p] = sum_k M[i][k] * (double)x[k][p]. */
    GPU_OP(gemm_f64i8, double *out, size_t ldo, const double *m, size_t ldm, uint32_t n, uint32_t k, const int8_t *x,
           size_t ldx, size_t len);

    /* LOAM_ENONFINITE naming `what` and the first index where x is not finite. */
    GPU_OP(finite, const float *x, size_t n, const char *what);
};

/* p, m, v after one step; lr and the bias corrections are computed on the host in fp64 and rounded once to fp32. */
struct gpu_adamw {
    float lr, beta1, beta2, eps, decay; /* decay: decoupled, times lr */
    float correct1, correct2;           /* 1 - beta^step */
    float g_scale;
};
/* Fills correct1 and correct2 for step (1 is the first) by own fp64 arithmetic. */
void gpu_adamw_correct(struct gpu_adamw *how, uint64_t step);

/* cos and sin, positions 0 .. n-1 by d_rot/2 angles: angle = pos * inv_freq[i] in fp64, own polynomials, rounded once. */
void gpu_rope_table(float *cos_table, float *sin_table, uint32_t n, uint32_t d_rot, const double *inv_freq);
/* inv_freq[i] = base^(-2i/d_rot), fp64 by own exp and log. Scalings (Llama 3, YaRN, linear) change these afterwards. */
void gpu_rope_freqs(double *inv_freq, uint32_t d_rot, double base);

#ifdef __cplusplus
}
#endif
#endif
