/* Shared by the backends: the start of every operation, and the declarations of all operations of one backend. */
#ifndef LOAM_GPU_OP_H
#define LOAM_GPU_OP_H

#include "base/mem.h"
#include "gpu/arith.h"
#include "gpu/ops.h"
#include "gpu/pack.h"

/* First line of every operation. */
#define GPU_BEGIN(g)                                                                                                  \
    do {                                                                                                              \
        if ((g)->yield && (g)->yield((g)->yield_arg))                                                                 \
            return err_set(err, LOAM_ECANCEL, "cancelled");                                                           \
    } while (0)

/* The arguments are checked by these, the same in every backend. */
enum loam_status gpu_check_outs(const struct gpu_out *outs, int n, uint32_t k, bool quantised, struct err *err)
    LOAM_MUST_USE;
enum loam_status gpu_check_attn(const struct gpu_attn *a, struct err *err) LOAM_MUST_USE;
enum loam_status gpu_check_gemm(const struct gpu_gemm *p, struct err *err) LOAM_MUST_USE;
enum loam_status gpu_check_lora(const struct gpu_lora *list, int n_list, const int32_t *map, uint32_t t, bool *any,
                                struct err *err) LOAM_MUST_USE;
enum loam_status gpu_check_seg(const uint32_t *seg, uint32_t n_seg, struct err *err) LOAM_MUST_USE;

/* The table in the order of gpu/ops.h: OPS_OF(ref) is {ref_embed, ref_matmul, ...}. */
#define OPS_OF(p)                                                                                                     \
    {                                                                                                                 \
        p##_embed, p##_matmul, p##_matmul_dx, p##_gemm, p##_quant, p##_matmul_q8, p##_lora, p##_rmsnorm,              \
            p##_rmsnorm_dx, p##_rope, p##_glu, p##_glu_dx, p##_add, p##_add_row, p##_scale, p##_axpy, p##_dropout,    \
            p##_attn, p##_attn_dx, p##_kv_store, p##_attn_kv, p##_xent, p##_sumsq, p##_adamw, p##_absmax,             \
            p##_quant_pow2, p##_dot_i8, p##_gemm_f64i8, p##_finite                                                    \
    }

extern const struct gpu_ops gpu_ops_ref, gpu_ops_plain, gpu_ops_avx2, gpu_ops_avx512, gpu_ops_neon, gpu_ops_neon_dot;

/* Where position pos of kv head h lies in a sequence's pages: key element dd at [0] of the first, with stride 16 per d;
 * value elements contiguous from the second. */
static inline uint16_t *gpu_kv_k(const struct gpu_attn *a, const struct gpu_kv_item *it, uint32_t pos, uint32_t h) {
    uint32_t in = pos % GPU_KV_PAGE;
    return it->pages[pos / GPU_KV_PAGE] + it->off + (size_t)h * GPU_KV_PAGE * a->d + (size_t)(in / 16) * 16 * a->d +
           in % 16;
}
static inline uint16_t *gpu_kv_v(const struct gpu_attn *a, const struct gpu_kv_item *it, uint32_t pos, uint32_t h) {
    return it->pages[pos / GPU_KV_PAGE] + it->off + (size_t)a->g * GPU_KV_PAGE * a->d +
           ((size_t)h * GPU_KV_PAGE + pos % GPU_KV_PAGE) * a->d;
}
/* First position that position i sees. */
static inline uint32_t gpu_attn_from(const struct gpu_attn *a, uint32_t i) {
    return a->window && i + 1 > a->window ? i + 1 - a->window : 0;
}

#endif
