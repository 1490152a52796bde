/* The gradient store: one file a checkpoint, holding for every row and LoRA tensor the int8 gradient g and its Fisher row h.
 *
 * Letters: C checkpoints, L tensors (the adapter's order), N rows (training examples, manifest order), R rank,
 * out_l outputs of tensor l, k_l = numbers kept of a gradient's output side, d_l = k_l · R numbers a row and tensor.
 *
 * What is computed, per checkpoint and tensor (contrib/doc/arithmetic.md, Attribution):
 *   g      the B tensor's gradient of the row's summed NLL, fp32 [k_l][R]: whole (k_l = out_l), or projected: with signs
 *          s[o][j] = ±1 from Philox (stream "poa-sign" of the plan's seed, index l): bit number b = o · k + j is bit b mod 32
 *          of word b / 32 mod 4 of block b / 128; 1 means -1
 *            v[t][j] = sum over o ascending of fl(v + s[o][j] · u[t][o]),  g[j][r] = fl(scale · chain over t of fma(v[t][j], h[t][r], ·))
 *   G      int8 [N][d_l] = clamp(rint(g · 2^-e_g), ±127); e_g the least exponent with max |g| · 2^-e_g <= 127
 *   K      int64 [N][N] = G G'
 *   n      fixed point with POA_N_FRACTION bits: floor(2^POA_N_FRACTION · trace(K) · 2^rho_log2 / N); rho_log2 = -2
 *   H      n (n I + K)^-1 G by fp64 Cholesky (solve.h); zero where trace(K) is 0
 *   H32    rint(H · 2^-e_f), e_f the least exponent with max |H| · 2^-e_f < 2^30 (e_f in G's integer units)
 *   H8     clamp(round half even(H32 / 2^x), ±127), x the least with max |H32| <= 127 · 2^x; kept; value = H8 · 2^e_h,
 *          e_h = e_g + e_f + x
 * A tensor with out_l <= k is kept whole; since a projection multiplies products by k on average, it then counts 2^log2(k).
 *
 * File, little-endian ("LOAMPOA1"): 8 magic · u32 version 1 · u32 header bytes · header · padding to 64 · data · 32 keccak of
 * all before. Header: 32 seed · u64 N · u32 L · u32 R · u32 k (0: all whole) · i32 rho_log2 · u32 flags (1: G is kept) · i32
 * weight_log2 · 32 fine root · 64-byte records a tensor: u32 out, u32 k_l, i32 e_g, i32 e_h, u32 x, i32 shift, i64 n, u64
 * offset of H8, u64 offset of G (0 if not kept), u64 d_l, u64 0.
 * Data: H8 [N][d_l] and G [N][d_l] a tensor, each from a multiple of 64. */
#ifndef LOAM_POA_STORE_H
#define LOAM_POA_STORE_H

#include "base/file.h"
#include "gpu/ops.h"
#include "lm/grad.h"
#include "record/types.h"

#define POA_N_FRACTION 16
#define POA_RHO_LOG2 (-2)        /* rho = 1/4: contrib/doc/design.md, section 6 */
/* A checkpoint's weight makes its mean |score| about 1, but never counts it more than 2^this times the least weighted one: where
 * the rows are learnt by heart (loss 0.005) gradients are a thousandth of what they were and mostly noise. Measured with the
 * demo's 100 rows on SmolLM2-135M, 12 epochs: source row first 98.4 % -> 100 %, its contributor's share 85.3 % -> 89.0 %. */
#define POA_WEIGHT_SPAN 2
#define POA_BUDGET_DEFAULT (1ull << 30)
#define POA_ROWS_MAX (1u << 16)  /* K is N x N int64: 32 GiB there; larger sets are projected and split by datanet */
#define POA_TENSORS_MAX LM_ADAPTER_TENSORS_MAX
#define POA_CHECKPOINTS_MAX 32
#define POA_EXPONENT_MAX 100     /* |e_g| : fp32 gradients outside 2^±100 are an error of the model */

/* How the gradients of one model are kept; the same for all its checkpoints and its queries. */
struct poa_plan {
    uint64_t rows;            /* N */
    uint32_t tensors, rank;   /* L, R */
    uint32_t out[POA_TENSORS_MAX];
    uint32_t k;               /* a power of two; 0: whole gradients */
    int32_t rho_log2;
    bool keep_gradients;      /* G beside H: TracIn, Grad-Dot and disputes need it */
    uint8_t seed[32];         /* of the signs: the training's seed */
};

/* The largest k, up to whole rows, whose files for all `checkpoints` fit into budget bytes (0: POA_BUDGET_DEFAULT).
 * LOAM_ELIMIT names the least budget that would do. The seed and everything else is filled from the arguments. */
enum loam_status poa_plan_make(struct poa_plan *out, const struct lm_adapter *a, uint64_t rows, uint32_t checkpoints,
                               uint64_t budget, bool keep_gradients, const uint8_t seed[32], struct err *err) LOAM_MUST_USE;
uint32_t poa_plan_k(const struct poa_plan *p, uint32_t tensor);      /* k_l */
size_t poa_plan_width(const struct poa_plan *p, uint32_t tensor);    /* d_l */
uint64_t poa_plan_bytes(const struct poa_plan *p);                   /* data bytes of one checkpoint's file */
bool poa_plan_full(const struct poa_plan *p);                        /* does any tensor need the whole gradient? */

/* ---- building one checkpoint's file ---- */

struct poa_build;
/* Scratch: 4 · N · (sum of d_l) bytes, in an unlinked file in scratch_dir (NULL: in memory). g computes and is borrowed, as is
 * the plan. LOAM_ENOSPACE where the disk has no room for the scratch. */
enum loam_status poa_build_new(struct poa_build **out, const struct poa_plan *plan, struct gpu *g, const char *scratch_dir,
                               struct err *err) LOAM_MUST_USE;
void poa_build_free(struct poa_build *b); /* NULL is fine */
/* The sink to give to lm_grad_rows; every (row, tensor) once, rows 0 .. N-1. Valid as long as b. */
struct lm_grad_sink poa_build_sink(struct poa_build *b);
/* Quantises, solves, writes path (atomic). fine: also the root over H32 leaves (more hashing; zeros otherwise).
 * progress may be NULL; returns true to cancel. LOAM_ESTATE if a row is missing, LOAM_ENONFINITE, LOAM_ENOSPACE. */
enum loam_status poa_build_write(struct poa_build *b, const char *path, bool fine,
                                 bool (*progress)(void *ctx, uint32_t tensor, uint32_t tensors), void *ctx,
                                 struct err *err) LOAM_MUST_USE;

/* ---- reading ---- */

struct poa_tensor {
    uint32_t out, k;
    int32_t e_g, e_h;
    uint32_t x;        /* H8 = H32 / 2^x */
    int32_t shift;     /* 0, or log2(k) for a whole tensor beside projected ones */
    int64_t n;         /* fixed point, POA_N_FRACTION */
    size_t d;
    const int8_t *h;   /* [N][d] */
    const int8_t *g;   /* [N][d], or NULL */
};

/* One checkpoint, mapped read-only. */
struct poa_store {
    struct file_map map;
    struct poa_plan plan;
    int32_t weight_log2;       /* of this checkpoint: about 1 / mean |s| over pairs of training rows; see POA_WEIGHT_SPAN */
    struct hash32 fine_root;
    struct poa_tensor *t;      /* [L]; owned */
};
/* LOAM_EPARSE, LOAM_EHASH; check: hash the whole file. */
enum loam_status poa_store_open(struct poa_store *out, const char *path, bool check, struct err *err) LOAM_MUST_USE;
void poa_store_close(struct poa_store *s);

/* Leaf bytes of the tree of H8 rows: u32be checkpoint ‖ u32be tensor ‖ u64be row ‖ int8[d]. Order: checkpoint, tensor, row. */
enum loam_status poa_rows_root(struct hash32 *out, const struct poa_store *const *s, uint32_t checkpoints, struct err *err) LOAM_MUST_USE;
/* The checkpoints' fine roots in order, each a leaf. A checkpoint's fine root: the tree over leaves u32be tensor ‖ u64be row ‖
 * i32be[d] of H32, tensors ascending, then rows. */
struct hash32 poa_fine_root(const struct poa_store *const *s, uint32_t checkpoints);
/* Leaves: u32be checkpoint ‖ u32be tensor ‖ i32be e_g ‖ i32be e_h ‖ u32be x ‖ i32be shift ‖ i64be n ‖ i32be weight_log2. */
struct hash32 poa_damping_root(const struct poa_store *const *s, uint32_t checkpoints);

#endif
