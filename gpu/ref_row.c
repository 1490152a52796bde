/* Reference: norms, RoPE, activations, loss, optimiser, attribution's integers. Slow, readable, normative. */
#include "gpu/ref.h"

#include "base/banned.h"

enum loam_status ref_rmsnorm(struct gpu *g, float *y, float *r, const float *x, const float *w, uint32_t rows, uint32_t c,
                             float eps, struct err *err) {
    GPU_BEGIN(g);
    for (uint32_t t = 0; t < rows; t++) {
        const float *p = x + (size_t)t * c;
        float lanes[32] = {0};
        for (uint32_t i = 0; i < c; i++)
            lanes[i % 32] = arith_fma(p[i], p[i], lanes[i % 32]);
        float rr = arith_rms(arith_tree(lanes), c, eps);
        for (uint32_t i = 0; i < c; i++)
            y[(size_t)t * c + i] = w ? p[i] * rr * w[i] : p[i] * rr;
        if (r)
            r[t] = rr;
    }
    return LOAM_OK;
}

enum loam_status ref_rmsnorm_dx(struct gpu *g, float *dx, const float *dy, const float *x, const float *r, const float *w,
                                uint32_t rows, uint32_t c, bool add, struct err *err) {
    GPU_BEGIN(g);
    for (uint32_t t = 0; t < rows; t++) {
        size_t at = (size_t)t * c;
        float lanes[32] = {0};
        for (uint32_t i = 0; i < c; i++)
            lanes[i % 32] = arith_fma(w ? dy[at + i] * w[i] : dy[at + i], x[at + i], lanes[i % 32]);
        float f = arith_rms_dx_factor(arith_tree(lanes), r[t], c);
        for (uint32_t i = 0; i < c; i++) {
            float v = arith_rms_dx(w ? dy[at + i] * w[i] : dy[at + i], x[at + i], r[t], f);
            dx[at + i] = add ? dx[at + i] + v : v;
        }
    }
    return LOAM_OK;
}

enum loam_status ref_rope(struct gpu *g, float *x, size_t ldx, uint32_t t, uint32_t heads, uint32_t d, uint32_t d_rot,
                          const float *cos_table, const float *sin_table, const uint32_t *pos, enum gpu_rope_style style,
                          bool inverse, struct err *err) {
    GPU_BEGIN(g);
    if (d_rot > d || d_rot % 2)
        return err_set(err, LOAM_EINVAL, "RoPE over %u of %u elements", d_rot, d);
    uint32_t half = d_rot / 2;
    for (uint32_t i = 0; i < t; i++)
        for (uint32_t h = 0; h < heads; h++)
            for (uint32_t j = 0; j < half; j++) {
                float *a = x + i * ldx + (size_t)h * d + (style == GPU_ROPE_NORM ? 2 * j : j);
                float *b = style == GPU_ROPE_NORM ? a + 1 : a + half;
                float c = cos_table[(size_t)pos[i] * half + j], s = sin_table[(size_t)pos[i] * half + j];
                float u = *a, v = *b;
                s = inverse ? -s : s;
                *a = arith_rope_a(u, v, c, s);
                *b = arith_rope_b(u, v, c, s);
            }
    return LOAM_OK;
}

enum loam_status ref_glu(struct gpu *g, float *y, const float *gate, const float *up, size_t n, enum gpu_act act,
                         struct err *err) {
    GPU_BEGIN(g);
    for (size_t i = 0; i < n; i++)
        y[i] = (act == GPU_SILU ? arith_silu(gate[i]) : arith_gelu(gate[i])) * up[i];
    return LOAM_OK;
}

enum loam_status ref_glu_dx(struct gpu *g, float *dgate, float *dup, const float *dy, const float *gate, const float *up,
                            size_t n, enum gpu_act act, struct err *err) {
    GPU_BEGIN(g);
    for (size_t i = 0; i < n; i++) {
        float a = act == GPU_SILU ? arith_silu(gate[i]) : arith_gelu(gate[i]);
        float d = act == GPU_SILU ? arith_silu_d(gate[i]) : arith_gelu_d(gate[i]);
        float y = dy[i], u = up[i];
        dgate[i] = y * u * d;
        dup[i] = y * a;
    }
    return LOAM_OK;
}

enum loam_status ref_add(struct gpu *g, float *y, const float *a, const float *b, size_t n, struct err *err) {
    GPU_BEGIN(g);
    for (size_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
    return LOAM_OK;
}

enum loam_status ref_add_row(struct gpu *g, float *y, size_t ldy, const float *b, uint32_t t, uint32_t n,
                             struct err *err) {
    GPU_BEGIN(g);
    for (uint32_t i = 0; i < t; i++)
        for (uint32_t j = 0; j < n; j++)
            y[i * ldy + j] = y[i * ldy + j] + b[j];
    return LOAM_OK;
}

enum loam_status ref_scale(struct gpu *g, float *y, const float *x, float alpha, size_t n, struct err *err) {
    GPU_BEGIN(g);
    for (size_t i = 0; i < n; i++)
        y[i] = alpha * x[i];
    return LOAM_OK;
}

enum loam_status ref_axpy(struct gpu *g, float *y, float alpha, const float *x, size_t n, struct err *err) {
    GPU_BEGIN(g);
    for (size_t i = 0; i < n; i++)
        y[i] = arith_fma(alpha, x[i], y[i]);
    return LOAM_OK;
}

enum loam_status ref_dropout(struct gpu *g, float *y, const float *x, size_t n, float p, const uint32_t key[2],
                             uint64_t index, struct err *err) {
    GPU_BEGIN(g);
    if (!(p >= 0.0f && p < 1.0f) || n >> 34)
        return err_set(err, LOAM_EINVAL, "dropout of %g on %zu elements", (double)p, n);
    float inv = 1.0f / (1.0f - p);
    for (size_t i = 0; i < n; i += 4) {
        uint32_t w[4];
        arith_philox_block(key, index, (uint32_t)(i / 4), w);
        for (size_t j = i; j < n && j < i + 4; j++)
            y[j] = arith_keep(w[j - i], p) ? x[j] * inv : 0.0f;
    }
    return LOAM_OK;
}

enum loam_status ref_xent(struct gpu *g, float *nll, float *logits, size_t ld, uint32_t rows, uint32_t v,
                          const uint32_t *target, bool grad, struct err *err) {
    GPU_BEGIN(g);
    for (uint32_t t = 0; t < rows; t++) {
        float *x = logits + t * ld, m = x[0], lanes[32] = {0};
        if (target[t] >= v)
            return err_set(err, LOAM_ERANGE, "target %u is past the vocabulary of %u", target[t], v);
        for (uint32_t i = 1; i < v; i++)
            m = x[i] > m ? x[i] : m;
        for (uint32_t i = 0; i < v; i++)
            lanes[i % 32] = lanes[i % 32] + arith_exp(x[i] - m);
        float s = arith_tree(lanes), inv = 1.0f / s;
        nll[t] = arith_log(s) - (x[target[t]] - m);
        if (grad) {
            for (uint32_t i = 0; i < v; i++)
                x[i] = arith_exp(x[i] - m) * inv;
            x[target[t]] = x[target[t]] - 1.0f;
        }
    }
    return LOAM_OK;
}

enum loam_status ref_sumsq(struct gpu *g, float *out, const float *x, size_t n, struct err *err) {
    GPU_BEGIN(g);
    float lanes[32] = {0};
    for (size_t i = 0; i < n; i++)
        lanes[i % 32] = arith_fma(x[i], x[i], lanes[i % 32]);
    *out = arith_tree(lanes);
    return LOAM_OK;
}

enum loam_status ref_adamw(struct gpu *g, float *p, float *m, float *v, const float *grad, size_t n,
                           const struct gpu_adamw *how, struct err *err) {
    GPU_BEGIN(g);
    struct arith_adam a = {how->lr,    how->beta1,    how->beta2,    how->eps,
                           how->decay, how->correct1, how->correct2, how->g_scale};
    for (size_t i = 0; i < n; i++)
        arith_adamw(p + i, m + i, v + i, grad[i], &a);
    return LOAM_OK;
}

enum loam_status ref_absmax(struct gpu *g, float *out, const float *x, size_t n, struct err *err) {
    GPU_BEGIN(g);
    float big = 0.0f;
    for (size_t i = 0; i < n; i++)
        big = fabsf(x[i]) > big ? fabsf(x[i]) : big;
    *out = big;
    return LOAM_OK;
}

enum loam_status ref_quant_pow2(struct gpu *g, int8_t *q, const float *x, size_t n, int e, struct err *err) {
    GPU_BEGIN(g);
    if (e < -126 || e > 126)
        return err_set(err, LOAM_ERANGE, "scale 2^%d; -126 to 126", e);
    float inv = arith_float((uint32_t)(127 - e) << 23);
    for (size_t i = 0; i < n; i++)
        q[i] = (int8_t)arith_q_pow2(x[i], inv);
    return LOAM_OK;
}

enum loam_status ref_dot_i8(struct gpu *g, int64_t *out, size_t ldo, const int8_t *rows, size_t ldr, uint32_t n_rows,
                            const int8_t *q, size_t ldq, uint32_t n_q, size_t len, struct err *err) {
    GPU_BEGIN(g);
    for (uint32_t i = 0; i < n_rows; i++)
        for (uint32_t j = 0; j < n_q; j++) {
            int64_t s = 0;
            for (size_t k = 0; k < len; k++)
                s += (int64_t)rows[i * ldr + k] * q[j * ldq + k];
            out[i * ldo + j] += s;
        }
    return LOAM_OK;
}

enum loam_status ref_gemm_f64i8(struct gpu *g, double *out, size_t ldo, const double *m, size_t ldm, uint32_t n, uint32_t k,
                                const int8_t *x, size_t ldx, size_t len, struct err *err) {
    GPU_BEGIN(g);
    for (uint32_t i = 0; i < n; i++)
        for (size_t p = 0; p < len; p++) {
            double acc = 0.0;
            for (uint32_t j = 0; j < k; j++)
                acc = arith_fma64(m[i * ldm + j], (double)x[j * ldx + p], acc);
            out[i * ldo + p] = acc;
        }
    return LOAM_OK;
}

enum loam_status ref_finite(struct gpu *g, const float *x, size_t n, const char *what, struct err *err) {
    GPU_BEGIN(g);
    for (size_t i = 0; i < n; i++)
        if (!arith_finite(x[i]))
            return err_set(err, LOAM_ENONFINITE, "%s: element %zu is not finite", what, i);
    return LOAM_OK;
}

const struct gpu_ops gpu_ops_ref = OPS_OF(ref);
