/* Reference: attention. Formulas at the end of gpu/arith.h. Slow, readable, normative. */
#include "gpu/ref.h"

#include "base/banned.h"

static float dot(const float *a, const float *b, uint32_t d) {
    float acc = 0.0f;
    for (uint32_t i = 0; i < d; i++)
        acc = arith_fma(a[i], b[i], acc);
    return acc;
}

enum loam_status ref_attn(struct gpu *g, float *o, float *m, float *l, const float *q, const float *k, const float *v,
                          const struct gpu_attn *a, const uint32_t *seg, uint32_t n_seg, struct err *err) {
    GPU_BEGIN(g);
    enum loam_status st = gpu_check_attn(a, err);
    if (!st)
        st = gpu_check_seg(seg, n_seg, err);
    if (st)
        return st;
    size_t ldq = (size_t)a->h * a->d, ldk = (size_t)a->g * a->d;
    for (uint32_t e = 0; e < n_seg; e++)
        for (uint32_t i = 0; i < seg[e + 1] - seg[e]; i++)
            for (uint32_t h = 0; h < a->h; h++) {
                size_t row = seg[e] + i;
                const float *qi = q + row * ldq + h * a->d;
                const float *kh = k + seg[e] * ldk + h / (a->h / a->g) * a->d;
                const float *vh = v + seg[e] * ldk + h / (a->h / a->g) * a->d;
                uint32_t from = gpu_attn_from(a, i);
                float big = -INFINITY, lanes[32] = {0}, *oi = o + row * ldq + h * a->d;
                for (uint32_t j = from; j <= i; j++) {
                    float s = a->scale * dot(qi, kh + j * ldk, a->d);
                    big = s > big ? s : big;
                }
                for (uint32_t c = 0; c < a->d; c++)
                    oi[c] = 0.0f;
                for (uint32_t j = from; j <= i; j++) {
                    float p = arith_exp(a->scale * dot(qi, kh + j * ldk, a->d) - big);
                    lanes[j % 32] = lanes[j % 32] + p;
                    for (uint32_t c = 0; c < a->d; c++)
                        oi[c] = arith_fma(p, vh[j * ldk + c], oi[c]);
                }
                float sum = arith_tree(lanes);
                for (uint32_t c = 0; c < a->d; c++)
                    oi[c] = oi[c] / sum + 0.0f;
                m[row * a->h + h] = big + 0.0f;
                l[row * a->h + h] = sum;
            }
    return LOAM_OK;
}

enum loam_status ref_attn_dx(struct gpu *g, float *dq, float *dk, float *dv, const float *d_o, const float *o,
                             const float *m, const float *l, const float *q, const float *k, const float *v,
                             const struct gpu_attn *a, const uint32_t *seg, uint32_t n_seg, struct err *err) {
    GPU_BEGIN(g);
    enum loam_status st = gpu_check_attn(a, err);
    if (!st)
        st = gpu_check_seg(seg, n_seg, err);
    if (st)
        return st;
    size_t ldq = (size_t)a->h * a->d, ldk = (size_t)a->g * a->d, total = seg[n_seg];
    for (size_t i = 0; i < total * ldq; i++)
        dq[i] = 0.0f;
    for (size_t i = 0; i < total * ldk; i++)
        dk[i] = dv[i] = 0.0f;
    for (uint32_t e = 0; e < n_seg; e++)
        for (uint32_t h = 0; h < a->h; h++)
            for (uint32_t i = 0; i < seg[e + 1] - seg[e]; i++) {
                size_t row = seg[e] + i, kv = seg[e] * ldk + h / (a->h / a->g) * a->d;
                const float *qi = q + row * ldq + h * a->d, *gi = d_o + row * ldq + h * a->d;
                const float *oi = o + row * ldq + h * a->d;
                float *dqi = dq + row * ldq + h * a->d, lanes[32] = {0};
                float big = m[row * a->h + h], inv = 1.0f / l[row * a->h + h];
                for (uint32_t c = 0; c < a->d; c++)
                    lanes[c % 32] = arith_fma(gi[c], oi[c], lanes[c % 32]);
                float total_d = arith_tree(lanes);
                for (uint32_t j = gpu_attn_from(a, i); j <= i; j++) {
                    const float *kj = k + kv + j * ldk, *vj = v + kv + j * ldk;
                    float *dkj = dk + kv + j * ldk, *dvj = dv + kv + j * ldk;
                    float w = arith_exp(a->scale * dot(qi, kj, a->d) - big) * inv;
                    float z = w * (dot(gi, vj, a->d) - total_d) * a->scale;
                    for (uint32_t c = 0; c < a->d; c++) {
                        dqi[c] = arith_fma(z, kj[c], dqi[c]);
                        dkj[c] = arith_fma(z, qi[c], dkj[c]);
                        dvj[c] = arith_fma(w, gi[c], dvj[c]);
                    }
                }
            }
    for (size_t i = 0; i < total * ldq; i++)
        dq[i] = dq[i] + 0.0f;
    for (size_t i = 0; i < total * ldk; i++) {
        dk[i] = dk[i] + 0.0f;
        dv[i] = dv[i] + 0.0f;
    }
    return LOAM_OK;
}

enum loam_status ref_kv_store(struct gpu *g, const float *k, const float *v, size_t ldkv, const struct gpu_attn *a,
                              const struct gpu_kv_item *items, uint32_t n_items, struct err *err) {
    GPU_BEGIN(g);
    for (uint32_t n = 0; n < n_items; n++)
        for (uint32_t i = 0; i < items[n].t; i++)
            for (uint32_t h = 0; h < a->g; h++)
                for (uint32_t c = 0; c < a->d; c++) {
                    size_t at = (items[n].row + i) * ldkv + h * a->d + c;
                    gpu_kv_k(a, &items[n], items[n].pos + i, h)[16 * c] = arith_to_half(k[at]);
                    gpu_kv_v(a, &items[n], items[n].pos + i, h)[c] = arith_to_half(v[at]);
                }
    return LOAM_OK;
}

enum loam_status ref_attn_kv(struct gpu *g, float *o, size_t ldo, const float *q, size_t ldq, const struct gpu_attn *a,
                             const struct gpu_kv_item *items, uint32_t n_items, struct err *err) {
    GPU_BEGIN(g);
    enum loam_status st = gpu_check_attn(a, err);
    if (st)
        return st;
    for (uint32_t n = 0; n < n_items; n++)
        for (uint32_t t = 0; t < items[n].t; t++)
            for (uint32_t h = 0; h < a->h; h++) {
                const struct gpu_kv_item *it = &items[n];
                const float *qi = q + (it->row + t) * ldq + h * a->d;
                float *oi = o + (it->row + t) * ldo + h * a->d, big = -INFINITY, lanes[32] = {0};
                uint32_t i = it->pos + t, kv = h / (a->h / a->g);
                for (int pass = 0; pass < 2; pass++)
                    for (uint32_t j = gpu_attn_from(a, i); j <= i; j++) {
                        const uint16_t *kj = gpu_kv_k(a, it, j, kv), *vj = gpu_kv_v(a, it, j, kv);
                        float acc = 0.0f;
                        for (uint32_t c = 0; c < a->d; c++)
                            acc = arith_fma(qi[c], arith_half(kj[16 * c]), acc);
                        float s = a->scale * acc;
                        if (!pass) {
                            big = s > big ? s : big;
                            continue;
                        }
                        float p = arith_exp(s - big);
                        lanes[j % 32] = lanes[j % 32] + p;
                        for (uint32_t c = 0; c < a->d; c++)
                            oi[c] = arith_fma(p, arith_half(vj[c]), j == gpu_attn_from(a, i) ? 0.0f : oi[c]);
                    }
                float sum = arith_tree(lanes);
                for (uint32_t c = 0; c < a->d; c++)
                    oi[c] = oi[c] / sum + 0.0f;
            }
    return LOAM_OK;
}
