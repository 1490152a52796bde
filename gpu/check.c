/* Checks of arguments that all backends share. */
#include "gpu/op.h"

#include "base/banned.h"

enum loam_status gpu_check_outs(const struct gpu_out *outs, int n, uint32_t k, bool quantised, struct err *err) {
    if (n < 1 || n > 16)
        return err_set(err, LOAM_EINVAL, "%d outputs of one product; 1 to 16", n);
    for (int i = 0; i < n; i++) {
        const struct gpu_weight *w = outs[i].w;
        if (!gpu_pack_bytes(w->type, w->n, w->k) || outs[i].ldy < w->n)
            return err_set(err, LOAM_EINVAL, "a %u x %u weight of type %u into rows of %zu", w->n, w->k, w->type,
                           outs[i].ldy);
        if (w->k != outs[0].w->k || (k && w->k != k))
            return err_set(err, LOAM_EINVAL, "a weight has %u columns, its input %u", w->k, k ? k : outs[0].w->k);
        if (quantised && !gpu_type_quantised(w->type))
            return err_set(err, LOAM_EINVAL, "act=q8 needs a quantised weight, not %s", gpu_type_name(w->type));
    }
    return LOAM_OK;
}

enum loam_status gpu_check_attn(const struct gpu_attn *a, struct err *err) {
    if (!a->h || !a->g || a->h % a->g || !a->d || a->d % 8 || a->d > 256)
        return err_set(err, LOAM_EINVAL, "attention with %u heads, %u kv heads of size %u is not supported", a->h, a->g,
                       a->d);
    return LOAM_OK;
}

enum loam_status gpu_check_gemm(const struct gpu_gemm *p, struct err *err) {
    if (p->epi == GPU_CHAIN && !(p->alpha >= 1.0f && p->alpha <= 1.0f))
        return err_set(err, LOAM_EINVAL, "a continued chain takes no factor");
    if (p->epi > GPU_FMA || p->c_i < p->n)
        return err_set(err, LOAM_EINVAL, "a product of %u columns into rows of %zu", p->n, p->c_i);
    return LOAM_OK;
}

enum loam_status gpu_check_lora(const struct gpu_lora *list, int n_list, const int32_t *map, uint32_t t, bool *any,
                                struct err *err) {
    *any = false;
    for (int i = 1; i < n_list; i++)
        if (list[i].n != list[0].n || list[i].k != list[0].k)
            return err_set(err, LOAM_EINVAL, "adapters of one batch differ in shape");
    for (int i = 0; i < n_list; i++)
        if (!list[i].r || list[i].r > 1024)
            return err_set(err, LOAM_EINVAL, "adapter rank %u; 1 to 1024", list[i].r);
    if (!map) {
        *any = n_list > 0 && t;
        return LOAM_OK;
    }
    for (uint32_t i = 0; i < t; i++) {
        if (map[i] >= n_list)
            return err_set(err, LOAM_EINVAL, "token %u names adapter %d of %d", i, (int)map[i], n_list);
        *any |= map[i] >= 0;
    }
    return LOAM_OK;
}

enum loam_status gpu_check_seg(const uint32_t *seg, uint32_t n_seg, struct err *err) {
    for (uint32_t i = 0; i < n_seg; i++)
        if (seg[i + 1] < seg[i] || seg[0])
            return err_set(err, LOAM_EINVAL, "segment %u runs from %u to %u", i, seg[i], seg[i + 1]);
    return LOAM_OK;
}
