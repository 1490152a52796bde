/* The reference operations (gpu/ops.h says what each does). Not for use outside gpu/ and tests. */
#ifndef LOAM_GPU_REF_H
#define LOAM_GPU_REF_H

#include "gpu/op.h"

enum loam_status ref_embed(struct gpu *g, float *y, size_t ldy, const struct gpu_weight *w,
                           const uint32_t *ids, uint32_t t, struct err *err) LOAM_MUST_USE;
enum loam_status ref_matmul(struct gpu *g, const struct gpu_out *outs, int n_outs, const float *x, size_t ldx,
                            uint32_t t, struct err *err) LOAM_MUST_USE;
enum loam_status ref_matmul_dx(struct gpu *g, float *dx, size_t lddx, const float *dy, size_t lddy,
                               uint32_t t, const struct gpu_weight *w, enum gpu_epi epi,
                               struct err *err) LOAM_MUST_USE;
enum loam_status ref_gemm(struct gpu *g, const struct gpu_gemm *p, struct err *err) LOAM_MUST_USE;
enum loam_status ref_quant(struct gpu *g, const struct gpu_q8 *q, const float *x, size_t ldx,
                           struct err *err) LOAM_MUST_USE;
enum loam_status ref_matmul_q8(struct gpu *g, const struct gpu_out *outs, int n_outs, const struct gpu_q8 *x,
                               struct err *err) LOAM_MUST_USE;
enum loam_status ref_lora(struct gpu *g, float *y, size_t ldy, const float *x, size_t ldx, uint32_t t,
                          const struct gpu_lora *list, int n_list, const int32_t *map,
                          struct err *err) LOAM_MUST_USE;
enum loam_status ref_rmsnorm(struct gpu *g, float *y, float *r, const float *x, const float *w, uint32_t rows,
                             uint32_t c, float eps, struct err *err) LOAM_MUST_USE;
enum loam_status ref_rmsnorm_dx(struct gpu *g, float *dx, const float *dy, const float *x, const float *r,
                                const float *w, uint32_t rows, uint32_t c, bool add,
                                struct err *err) LOAM_MUST_USE;
enum loam_status ref_rope(struct gpu *g, float *x, size_t ldx, uint32_t t, uint32_t heads, uint32_t d,
                          uint32_t d_rot, const float *cos_table, const float *sin_table, const uint32_t *pos,
                          enum gpu_rope_style style, bool inverse, struct err *err) LOAM_MUST_USE;
enum loam_status ref_glu(struct gpu *g, float *y, const float *gate, const float *up, size_t n,
                         enum gpu_act act, struct err *err) LOAM_MUST_USE;
enum loam_status ref_glu_dx(struct gpu *g, float *dgate, float *dup, const float *dy, const float *gate,
                            const float *up, size_t n, enum gpu_act act, struct err *err) LOAM_MUST_USE;
enum loam_status ref_add(struct gpu *g, float *y, const float *a, const float *b, size_t n,
                         struct err *err) LOAM_MUST_USE;
enum loam_status ref_add_row(struct gpu *g, float *y, size_t ldy, const float *b, uint32_t t, uint32_t n,
                             struct err *err) LOAM_MUST_USE;
enum loam_status ref_scale(struct gpu *g, float *y, const float *x, float alpha, size_t n,
                           struct err *err) LOAM_MUST_USE;
enum loam_status ref_axpy(struct gpu *g, float *y, float alpha, const float *x, size_t n,
                          struct err *err) LOAM_MUST_USE;
enum loam_status ref_dropout(struct gpu *g, float *y, const float *x, size_t n, float p,
                             const uint32_t key[2], uint64_t index, struct err *err) LOAM_MUST_USE;
enum loam_status ref_attn(struct gpu *g, float *o, float *m, float *l, const float *q, const float *k,
                          const float *v, const struct gpu_attn *a, const uint32_t *seg, uint32_t n_seg,
                          struct err *err) LOAM_MUST_USE;
enum loam_status ref_attn_dx(struct gpu *g, float *dq, float *dk, float *dv, const float *d_o, const float *o,
                             const float *m, const float *l, const float *q, const float *k, const float *v,
                             const struct gpu_attn *a, const uint32_t *seg, uint32_t n_seg,
                             struct err *err) LOAM_MUST_USE;
enum loam_status ref_kv_store(struct gpu *g, const float *k, const float *v, size_t ldkv,
                              const struct gpu_attn *a, const struct gpu_kv_item *items, uint32_t n_items,
                              struct err *err) LOAM_MUST_USE;
enum loam_status ref_attn_kv(struct gpu *g, float *o, size_t ldo, const float *q, size_t ldq,
                             const struct gpu_attn *a, const struct gpu_kv_item *items, uint32_t n_items,
                             struct err *err) LOAM_MUST_USE;
enum loam_status ref_xent(struct gpu *g, float *nll, float *logits, size_t ld, uint32_t rows, uint32_t v,
                          const uint32_t *target, bool grad, struct err *err) LOAM_MUST_USE;
enum loam_status ref_sumsq(struct gpu *g, float *out, const float *x, size_t n,
                           struct err *err) LOAM_MUST_USE;
enum loam_status ref_adamw(struct gpu *g, float *p, float *m, float *v, const float *grad, size_t n,
                           const struct gpu_adamw *how, struct err *err) LOAM_MUST_USE;
enum loam_status ref_absmax(struct gpu *g, float *out, const float *x, size_t n,
                            struct err *err) LOAM_MUST_USE;
enum loam_status ref_quant_pow2(struct gpu *g, int8_t *q, const float *x, size_t n, int e,
                                struct err *err) LOAM_MUST_USE;
enum loam_status ref_dot_i8(struct gpu *g, int64_t *out, size_t ldo, const int8_t *rows, size_t ldr,
                            uint32_t n_rows, const int8_t *q, size_t ldq, uint32_t n_q, size_t len,
                            struct err *err) LOAM_MUST_USE;
enum loam_status ref_gemm_f64i8(struct gpu *g, double *out, size_t ldo, const double *m, size_t ldm,
                                uint32_t n, uint32_t k, const int8_t *x, size_t ldx, size_t len,
                                struct err *err) LOAM_MUST_USE;
enum loam_status ref_finite(struct gpu *g, const float *x, size_t n, const char *what,
                            struct err *err) LOAM_MUST_USE;

#endif
