/* Reference: products. Slow, readable, normative: each loop is the definition of its operation's bits. */
#include "gpu/ref.h"

#include "base/banned.h"

enum loam_status ref_embed(struct gpu *g, float *y, size_t ldy, const struct gpu_weight *w, const uint32_t *ids,
                           uint32_t t, struct err *err) {
    GPU_BEGIN(g);
    for (uint32_t i = 0; i < t; i++) {
        if (ids[i] >= w->n)
            return err_set(err, LOAM_ERANGE, "token %u is past the vocabulary of %u", ids[i], w->n);
        pack_row(y + i * ldy, w, ids[i]);
    }
    return LOAM_OK;
}

/* acc on its way into *y. */
static void put(float *y, float acc, enum gpu_epi epi, float alpha) {
    switch (epi) {
    case GPU_SET: *y = alpha * acc; break;
    case GPU_CHAIN: *y = acc; break;
    case GPU_ADD: *y = *y + alpha * acc; break;
    default: *y = arith_fma(alpha, acc, *y); break;
    }
}

enum loam_status ref_gemm(struct gpu *g, const struct gpu_gemm *p, struct err *err) {
    GPU_BEGIN(g);
    enum loam_status s = gpu_check_gemm(p, err);
    if (s)
        return s;
    for (uint32_t i = 0; i < p->m; i++)
        for (uint32_t j = 0; j < p->n; j++) {
            float *c = p->c + i * p->c_i + j, acc = p->epi == GPU_CHAIN ? *c : 0.0f;
            for (uint32_t k = 0; k < p->k; k++)
                acc = arith_fma(p->a[i * p->a_i + k * p->a_p], p->b[k * p->b_p + j * p->b_j], acc);
            put(c, acc, p->epi, p->alpha);
        }
    return LOAM_OK;
}

enum loam_status ref_matmul(struct gpu *g, const struct gpu_out *outs, int n_outs, const float *x, size_t ldx, uint32_t t,
                            struct err *err) {
    GPU_BEGIN(g);
    enum loam_status s = gpu_check_outs(outs, n_outs, 0, false, err);
    if (s)
        return s;
    uint32_t k = outs[0].w->k;
    float *row = mem_array(k, sizeof *row);
    if (!row)
        return err_set(err, LOAM_ENOMEM, "no memory for a row of %u", k);
    for (int o = 0; o < n_outs; o++)
        for (uint32_t n = 0; n < outs[o].w->n; n++) {
            pack_row(row, outs[o].w, n);
            for (uint32_t i = 0; i < t; i++) {
                float acc = 0.0f;
                for (uint32_t j = 0; j < k; j++)
                    acc = arith_fma(x[i * ldx + j], row[j], acc);
                outs[o].y[i * outs[o].ldy + n] = acc;
            }
        }
    mem_free(row);
    return LOAM_OK;
}

enum loam_status ref_matmul_dx(struct gpu *g, float *dx, size_t lddx, const float *dy, size_t lddy, uint32_t t,
                               const struct gpu_weight *w, enum gpu_epi epi, struct err *err) {
    GPU_BEGIN(g);
    if (epi != GPU_SET && epi != GPU_CHAIN)
        return err_set(err, LOAM_EINVAL, "dX is set or continued");
    float *row = mem_array(w->k, sizeof *row);
    if (!row)
        return err_set(err, LOAM_ENOMEM, "no memory for a row of %u", w->k);
    if (epi == GPU_SET)
        for (uint32_t i = 0; i < t; i++)
            for (uint32_t j = 0; j < w->k; j++)
                dx[i * lddx + j] = 0.0f;
    for (uint32_t n = 0; n < w->n; n++) {
        pack_row(row, w, n);
        for (uint32_t i = 0; i < t; i++)
            for (uint32_t j = 0; j < w->k; j++)
                dx[i * lddx + j] = arith_fma(dy[i * lddy + n], row[j], dx[i * lddx + j]);
    }
    mem_free(row);
    return LOAM_OK;
}

enum loam_status ref_quant(struct gpu *g, const struct gpu_q8 *q, const float *x, size_t ldx, struct err *err) {
    GPU_BEGIN(g);
    if (q->k % 32)
        return err_set(err, LOAM_EINVAL, "act=q8 needs a width that is a multiple of 32, not %u", q->k);
    uint32_t nb = q->k / 32;
    for (uint32_t t = 0; t < q->t; t++)
        for (uint32_t b = 0; b < nb; b++) {
            const float *p = x + t * ldx + b * 32;
            float big = 0.0f;
            for (int i = 0; i < 32; i++)
                big = fabsf(p[i]) > big ? fabsf(p[i]) : big;
            float s = big / 127.0f;
            int sum = 0;
            for (int i = 0; i < 32; i++) {
                int v = s == 0.0f ? 0 : arith_q8(p[i], s);
                q->q[(size_t)t * q->k + b * 32 + (uint32_t)i] = (int8_t)v;
                sum += v;
            }
            q->d[(size_t)t * nb + b] = s;
            q->s[(size_t)t * nb + b] = (float)sum;
        }
    return LOAM_OK;
}

enum loam_status ref_matmul_q8(struct gpu *g, const struct gpu_out *outs, int n_outs, const struct gpu_q8 *x,
                               struct err *err) {
    GPU_BEGIN(g);
    enum loam_status st = gpu_check_outs(outs, n_outs, x->k, true, err);
    if (st)
        return st;
    uint32_t nb = x->k / 32;
    for (int o = 0; o < n_outs; o++)
        for (uint32_t n = 0; n < outs[o].w->n; n++)
            for (uint32_t t = 0; t < x->t; t++) {
                float acc = 0.0f;
                for (uint32_t b = 0; b < nb; b++) {
                    struct pack_block k;
                    pack_block(&k, outs[o].w, n, b);
                    const int8_t *q = x->q + (size_t)t * x->k + b * 32;
                    float dx = x->d[(size_t)t * nb + b], sx = x->s[(size_t)t * nb + b];
                    int half[2] = {0, 0};
                    for (int i = 0; i < 32; i++)
                        half[i / 16] += k.q[i] * q[i];
                    acc = arith_fma((float)(k.sc[0] * half[0] + k.sc[1] * half[1]), k.d * dx, acc);
                    if (k.has_m)
                        acc = arith_fma(sx, k.m * dx, acc);
                }
                outs[o].y[t * outs[o].ldy + n] = acc;
            }
    return LOAM_OK;
}

enum loam_status ref_lora(struct gpu *g, float *y, size_t ldy, const float *x, size_t ldx, uint32_t t,
                          const struct gpu_lora *list, int n_list, const int32_t *map, struct err *err) {
    bool any;
    enum loam_status s = gpu_check_lora(list, n_list, map, t, &any, err);
    if (s || !any)
        return s;
    GPU_BEGIN(g);
    for (uint32_t i = 0; i < t; i++) {
        if (map && map[i] < 0)
            continue;
        const struct gpu_lora *a = &list[map ? map[i] : 0];
        size_t rp = gpu_lora_pad(a->r), np = gpu_lora_pad(a->n);
        float h[1024];
        for (uint32_t r = 0; r < a->r; r++) {
            h[r] = 0.0f;
            for (uint32_t k = 0; k < a->k; k++)
                h[r] = arith_fma(x[i * ldx + k], a->at[k * rp + r], h[r]);
        }
        for (uint32_t n = 0; n < a->n; n++) {
            float acc = 0.0f;
            for (uint32_t r = 0; r < a->r; r++)
                acc = arith_fma(h[r], a->bt[r * np + n], acc);
            y[i * ldy + n] = arith_fma(a->scale, acc, y[i * ldy + n]);
        }
    }
    return LOAM_OK;
}
