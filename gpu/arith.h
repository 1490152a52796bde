/* arith-1 in C: every formula that decides bits, once, for the CPU and for CUDA. gpu/ref_*.c builds the operations from
 * these functions; the fast kernels repeat the same sequence of roundings in vectors.
 *
 * Rules: IEEE-754 fp32 (fp64 where a name says 64), round to nearest even, denormals kept, no contraction: a fused
 * multiply-add stands only where arith_fma is written. No function of libm takes part (fma and sqrt are single
 * correctly rounded operations of the machine; where the machine has no fma, C's fmaf gives the same bits).
 *
 * Sources of method: Cody and Waite, Software Manual for the Elementary Functions (1980) for the reductions; the
 * polynomials were fitted for this project at Chebyshev nodes in 60-digit arithmetic (contrib/bench/fit.py). */
#ifndef LOAM_GPU_ARITH_H
#define LOAM_GPU_ARITH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define ARITH_FN static __host__ __device__ __forceinline__
#else
#define ARITH_FN static inline
#endif

#define ARITH_NAME "arith-1"

ARITH_FN float arith_fma(float a, float b, float c) {
    return fmaf(a, b, c);
}
ARITH_FN double arith_fma64(double a, double b, double c) {
    return fma(a, b, c);
}
ARITH_FN uint32_t arith_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}
ARITH_FN float arith_float(uint32_t u) {
    float x;
    memcpy(&x, &u, 4);
    return x;
}
ARITH_FN int arith_finite(float x) {
    return (arith_bits(x) & 0x7f800000u) != 0x7f800000u;
}
ARITH_FN double arith_double(uint64_t u) {
    double x;
    memcpy(&x, &u, 8);
    return x;
}

/* ---------------------------------------------------------------- fp16 and bf16 */

/* Exact. */
ARITH_FN float arith_half(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 1023;
    if (e == 31)
        return arith_float(sign | 0x7f800000u | m << 13 | (m ? 0x400000u : 0));
    if (e)
        return arith_float(sign | (e + 112) << 23 | m << 13);
    float x = (float)m * 0x1p-24f; /* exact: denormals of fp16 are normal in fp32 */
    return sign ? -x : x;
}
/* To nearest even; past 65504 + half a unit: infinity. */
ARITH_FN uint16_t arith_to_half(float f) {
    uint32_t u = arith_bits(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffffu;
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x477ff000u)
        return (uint16_t)(sign | 0x7c00);
    if (a < 0x38800000u) { /* below 2^-14: a multiple of 2^-24 */
        float x = arith_float(a) + 0x1p-1f; /* the unit of 0.5 is 2^-24: the addition rounds to nearest even */
        return (uint16_t)(sign | (arith_bits(x) - 0x3f000000u));
    }
    a += 0xc8000fffu + (a >> 13 & 1); /* exponent - 112, and round */
    return (uint16_t)(sign | a >> 13);
}
ARITH_FN float arith_bf16(uint16_t h) {
    return arith_float((uint32_t)h << 16);
}
ARITH_FN uint16_t arith_to_bf16(float f) {
    uint32_t u = arith_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 64);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

/* ---------------------------------------------------------------- exp and its family, fp32 */

#define ARITH_EXP_LO (-104.0f) /* below: 0 */
#define ARITH_EXP_HI 89.0f     /* above: infinity */
#define ARITH_LOG2E 0x1.715476p+0f
#define ARITH_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer, to nearest even */
#define ARITH_LN2_HI 0x1.62e43p-1f
#define ARITH_LN2_LO (-0x1.05c61p-29f)
#define ARITH_E2 5.000000000e-01f
#define ARITH_E3 1.666657685e-01f
#define ARITH_E4 4.166655444e-02f
#define ARITH_E5 8.363202972e-03f
#define ARITH_E6 1.392621347e-03f

/* exp: x clamped to [-104, 89]; t = fma(x, log2 e, magic), n = t - magic; r = fma(n, -ln2_hi, x), r = fma(n, -ln2_lo, r);
 * p = Horner of degree 4; y = fma(fma(p, r * r, r)...) as written; times 2^(n/2) times 2^(n - n/2) (n/2 rounds down).
 * Only the last product can round. Within 1 unit in the last place. */
ARITH_FN float arith_exp(float x) {
    x = ARITH_EXP_LO > x ? ARITH_EXP_LO : x;
    x = ARITH_EXP_HI < x ? ARITH_EXP_HI : x;
    float t = arith_fma(x, ARITH_LOG2E, ARITH_MAGIC);
    float n = t - ARITH_MAGIC;
    int32_t i = (int32_t)(arith_bits(t) - 0x4b400000u);
    float r = arith_fma(n, -ARITH_LN2_HI, x);
    r = arith_fma(n, -ARITH_LN2_LO, r);
    float p = arith_fma(ARITH_E6, r, ARITH_E5);
    p = arith_fma(p, r, ARITH_E4);
    p = arith_fma(p, r, ARITH_E3);
    p = arith_fma(p, r, ARITH_E2);
    p = arith_fma(p, r * r, r);
    p = p + 1.0f;
    int32_t h = i >> 1;
    p = p * arith_float((uint32_t)(h + 127) << 23);
    return p * arith_float((uint32_t)(i - h + 127) << 23);
}
ARITH_FN float arith_sigmoid(float x) {
    return 1.0f / (1.0f + arith_exp(-x));
}

#define ARITH_T1 (-3.333332894e-01f)
#define ARITH_T2 1.333276974e-01f
#define ARITH_T3 (-5.385090958e-02f)
#define ARITH_T4 2.099717900e-02f
#define ARITH_T5 (-6.096714166e-03f)
/* tanh: |x| < 0.625: fma(x z, P(z), x) with z = x x; else sign(x) (1 - 2 / (exp(2|x|) + 1)). */
ARITH_FN float arith_tanh(float x) {
    float a = arith_float(arith_bits(x) & 0x7fffffffu);
    float z = x * x;
    float p = arith_fma(ARITH_T5, z, ARITH_T4);
    p = arith_fma(p, z, ARITH_T3);
    p = arith_fma(p, z, ARITH_T2);
    p = arith_fma(p, z, ARITH_T1);
    float small = arith_fma(x * z, p, x);
    float big = 1.0f - 2.0f / (arith_exp(a + a) + 1.0f);
    big = arith_float(arith_bits(big) | (arith_bits(x) & 0x80000000u));
    return a < 0.625f ? small : big;
}

/* ---------------------------------------------------------------- fp64: tables, learning rates, logarithms */

#define ARITH_LN2_HI64 0x1.62e42fefa39efp-1
#define ARITH_LN2_LO64 0x1.abc9e3b39803fp-56
#define ARITH_MAGIC64 6755399441055744.0 /* 1.5 * 2^52 */

/* exp for |x| <= 700 (outside: clamped there). Taylor to the 13th power after x = n ln 2 + r. */
ARITH_FN double arith_exp64(double x) {
    x = x < -700.0 ? -700.0 : x;
    x = x > 700.0 ? 700.0 : x;
    double n = arith_fma64(x, 0x1.71547652b82fep+0, ARITH_MAGIC64) - ARITH_MAGIC64;
    double r = arith_fma64(n, -ARITH_LN2_HI64, x);
    r = arith_fma64(n, -ARITH_LN2_LO64, r);
    double p = 1.0;
    for (int k = 13; k >= 1; k--)
        p = arith_fma64(p, r / (double)k, 1.0);
    return p * arith_double((uint64_t)((int64_t)n + 1023) << 52);
}
/* Natural logarithm of a positive normal x. x = 2^e m, m in [sqrt(1/2), sqrt 2); s = (m-1)/(m+1);
 * log m = 2 s (1 + s^2/3 + ... + s^22/23). */
ARITH_FN double arith_log64(double x) {
    uint64_t u;
    memcpy(&u, &x, 8);
    int64_t e = (int64_t)(u >> 52 & 2047) - 1023;
    double m = arith_double((u & 0xfffffffffffffull) | 0x3ff0000000000000ull);
    if (m > 1.4142135623730951) {
        m = m * 0.5;
        e = e + 1;
    }
    double s = (m - 1.0) / (m + 1.0), z = s * s, p = 1.0 / 23.0;
    for (int k = 21; k >= 1; k -= 2)
        p = arith_fma64(p, z, 1.0 / (double)k);
    double y = arith_fma64((double)e, ARITH_LN2_LO64, (s + s) * p);
    return arith_fma64((double)e, ARITH_LN2_HI64, y);
}
/* fp32 logarithm of a positive x (denormals too): the fp64 one, rounded once. */
ARITH_FN float arith_log(float x) {
    return (float)arith_log64((double)x);
}
/* base^y for base > 0. */
ARITH_FN double arith_pow64(double base, double y) {
    return arith_exp64(y * arith_log64(base));
}
/* sin and cos of |x| < 2^30: x = n pi/2 + r in three parts of pi/2, then Taylor to the 19th and 18th power. */
ARITH_FN void arith_sincos64(double x, double *sine, double *cosine) {
    double n = arith_fma64(x, 0x1.45f306dc9c883p-1, ARITH_MAGIC64) - ARITH_MAGIC64;
    double r = arith_fma64(n, -0x1.921fb54442d18p+0, x);
    r = arith_fma64(n, -0x1.1a62633145c07p-54, r);
    r = arith_fma64(n, 0x1.f1976b7ed8fbcp-110, r);
    double z = r * r, s = 1.0, c = 1.0;
    for (int k = 18; k >= 2; k -= 2)
        s = arith_fma64(s, -(z / (double)(k * (k + 1))), 1.0);
    for (int k = 18; k >= 2; k -= 2)
        c = arith_fma64(c, -(z / (double)(k * (k - 1))), 1.0);
    s = s * r;
    int q = (int)((int64_t)n & 3);
    *sine = q == 0 ? s : q == 1 ? c : q == 2 ? -s : -c;
    *cosine = q == 0 ? c : q == 1 ? -s : q == 2 ? -c : s;
}

/* ---------------------------------------------------------------- Philox4x32-10 */

/* Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). */
ARITH_FN void arith_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int i = 0; i < 10; i++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}
/* Four words of a stream: counter (index low, index high, block, 0). Element i of a dropout mask is word i mod 4 of
 * block i / 4; it is kept where (float)(word >> 8) * 2^-24 >= p. */
ARITH_FN void arith_philox_block(const uint32_t key[2], uint64_t index, uint32_t block, uint32_t out[4]) {
    uint32_t c[4] = {(uint32_t)index, (uint32_t)(index >> 32), block, 0};
    arith_philox(c, key, out);
}
ARITH_FN int arith_keep(uint32_t word, float p) {
    return (float)(word >> 8) * 0x1p-24f >= p;
}

/* ---------------------------------------------------------------- reductions */

/* The tree over 32 lanes: 16, 8, 4, 2, 1. lanes is overwritten. Element i of a sum belongs to lane i mod 32, ascending. */
ARITH_FN float arith_tree(float lanes[32]) {
    for (int s = 16; s; s >>= 1)
        for (int i = 0; i < s; i++)
            lanes[i] = lanes[i] + lanes[i + s];
    return lanes[0];
}

/* ---------------------------------------------------------------- formulas of single elements */

/* act=q8: s = max|x| / 127 (fp32 division); q = rint(x / s) clamped to +-127; all zero where s is 0. (The clamp only
 * matters where s is denormal.) */
ARITH_FN int arith_q8(float x, float s) {
    float v = rintf(x / s);
    v = v > 127.0f ? 127.0f : v;
    v = v < -127.0f ? -127.0f : v;
    return (int)v;
}
/* RMSNorm: r = 1 / sqrt(sum / (float)c + eps). y = (x r) w. */
ARITH_FN float arith_rms(float sum, uint32_t c, float eps) {
    return 1.0f / sqrtf(sum / (float)c + eps);
}
/* RMSNorm backward: u = sum over lanes of fma(dy w, x, lane); f = (((u r) r) r) / (float)c; dx = fma(-f, x, (dy w) r). */
ARITH_FN float arith_rms_dx_factor(float u, float r, uint32_t c) {
    return u * r * r * r / (float)c;
}
ARITH_FN float arith_rms_dx(float dyw, float x, float r, float f) {
    return arith_fma(-f, x, dyw * r);
}
/* RoPE: (a, b) turns by the angle with cosine c and sine s: a' = fma(a, c, -(b s)), b' = fma(a, s, b c). The backward
 * takes -s. */
ARITH_FN float arith_rope_a(float a, float b, float c, float s) {
    return arith_fma(a, c, -(b * s));
}
ARITH_FN float arith_rope_b(float a, float b, float c, float s) {
    return arith_fma(a, s, b * c);
}
/* silu(g) = g sigmoid(g); its derivative: sg (1 + g (1 - sg)) = sg fma(g, 1 - sg, 1). */
ARITH_FN float arith_silu(float g) {
    return g * arith_sigmoid(g);
}
ARITH_FN float arith_silu_d(float g) {
    float s = arith_sigmoid(g);
    return s * arith_fma(g, 1.0f - s, 1.0f);
}
/* gelu by tanh: t = tanh(k (g + 0.044715 g^3)); gelu = (0.5 g) (1 + t). */
#define ARITH_GELU_K 0x1.988454p-1f
#define ARITH_GELU_C 0.044715f
ARITH_FN float arith_gelu(float g) {
    float u = ARITH_GELU_K * arith_fma(ARITH_GELU_C * (g * g), g, g);
    return 0.5f * g * (1.0f + arith_tanh(u));
}
/* d gelu = 0.5 (1 + t) + 0.5 g (1 - t^2) k (1 + 3 * 0.044715 g^2). */
ARITH_FN float arith_gelu_d(float g) {
    float g2 = g * g;
    float u = ARITH_GELU_K * arith_fma(ARITH_GELU_C * g2, g, g);
    float t = arith_tanh(u);
    float du = ARITH_GELU_K * arith_fma(3.0f * ARITH_GELU_C, g2, 1.0f);
    return arith_fma(0.5f * g * du, arith_fma(-t, t, 1.0f), 0.5f * (1.0f + t));
}
/* AdamW of one element. one_m = 1 - beta in fp32. Order: m, v, decay, step. */
struct arith_adam {
    float lr, beta1, beta2, eps, decay, correct1, correct2, g_scale;
};
ARITH_FN void arith_adamw(float *p, float *m, float *v, float grad, const struct arith_adam *a) {
    float g = grad * a->g_scale;
    *m = arith_fma(a->beta1, *m, (1.0f - a->beta1) * g);
    *v = arith_fma(a->beta2, *v, (1.0f - a->beta2) * g * g);
    float q = arith_fma(-(a->lr * a->decay), *p, *p);
    float den = sqrtf(*v / a->correct2) + a->eps;
    *p = arith_fma(-a->lr, *m / a->correct1 / den, q);
}
/* int8 with a power-of-two scale: q = rint(x 2^-e) clamped to +-127; inv = 2^-e exactly. */
ARITH_FN int arith_q_pow2(float x, float inv) {
    float v = rintf(x * inv);
    v = v > 127.0f ? 127.0f : v;
    v = v < -127.0f ? -127.0f : v;
    return (int)v;
}

/* ---------------------------------------------------------------- attention
 * s_ij = scale * (chain over d ascending of q_i[d] k_j[d]); j runs over the positions i sees (causal, window).
 * m_i = max_j s_ij; p_ij = exp(s_ij - m_i); l_i = sum in lanes j mod 32 (j: position in the segment), tree;
 * o_i[d] = (chain over j ascending of p_ij v_j[d]) / l_i + 0.
 * Backward: inv_i = 1 / l_i; w_ij = p_ij inv_i; D_i = sum in lanes d mod 32 of fma(dO_i[d], O_i[d], lane);
 * g_ij = chain over d ascending of dO_i[d] v_j[d]; z_ij = (w_ij (g_ij - D_i)) scale;
 * dq_i[d] = chain over j ascending of z_ij k_j[d]; dk_j[d] = chain over heads of the group, then i ascending, of
 * z_ij q_i[d]; dv_j[d] the same of w_ij dO_i[d]; each + 0 at the end.
 * The "+ 0" turns -0 into +0: then products with masked zeros may be taken or left out.
 *
 * Cross-entropy of a row: m = max, s = sum in lanes v mod 32 of exp(x_v - m), nll = log(s) - (x_target - m);
 * gradient: inv = 1 / s; exp(x_v - m) inv, minus 1 at the target. */

#endif
