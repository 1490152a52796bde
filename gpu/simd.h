/* One vector of W fp32 lanes for each instruction set, so that a kernel is written once (gpu/cpu_body.h). Included by
 * cpu_avx512.c, cpu_avx2.c, cpu_neon.c, cpu_neon_dot.c and cpu_plain.c after they defined SIMD_AVX512, SIMD_AVX2, SIMD_NEON or
 * none.
 * Every function is the single rounding its name says; vf_exp is arith_exp lane by lane. */
#ifndef LOAM_GPU_SIMD_H
#define LOAM_GPU_SIMD_H

#include "gpu/arith.h"

#define INL static inline __attribute__((always_inline))

#if defined(SIMD_AVX512)
#define W 16
typedef __m512 vf;
typedef __m512i vi;
INL vf vf_set(float x) { return _mm512_set1_ps(x); }
INL vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
INL void vf_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
INL vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
INL vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
INL vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
INL vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
INL vf vf_sqrt(vf a) { return _mm512_sqrt_ps(a); }
INL vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INL vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); } /* a > b ? a : b */
INL vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); } /* a < b ? a : b */
INL vi vi_set(int x) { return _mm512_set1_epi32(x); }
INL vi vi_load(const void *p) { return _mm512_loadu_si512(p); }
INL vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
INL vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
INL vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
INL vi vi_shl(vi a, int n) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n)); }
INL vi vi_shr(vi a, int n) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n)); }
INL vi vi_sar(vi a, int n) { return _mm512_sra_epi32(a, _mm_cvtsi32_si128(n)); }
INL vi vi_bits(vf a) { return _mm512_castps_si512(a); }
INL vf vf_bits(vi a) { return _mm512_castsi512_ps(a); }
INL vf vf_of(vi a) { return _mm512_cvtepi32_ps(a); }
INL vi vi_rint(vf a) { return _mm512_cvtps_epi32(a); }
INL vf vf_half(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
INL void vf_to_half(uint16_t *p, vf a) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
INL vf vf_bf16(const uint16_t *p) {
    return vf_bits(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
INL vi vi_i8(const int8_t *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)); }
INL void vi_to_i8(int8_t *p, vi a) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(a)); }
INL vf vf_pick(vf a, vf b, vf x, vf y) { /* a < b ? x : y */
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
#elif defined(SIMD_AVX2)
#define W 8
typedef __m256 vf;
typedef __m256i vi;
INL vf vf_set(float x) { return _mm256_set1_ps(x); }
INL vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
INL void vf_store(float *p, vf a) { _mm256_storeu_ps(p, a); }
INL vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
INL vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
INL vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
INL vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
INL vf vf_sqrt(vf a) { return _mm256_sqrt_ps(a); }
INL vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
INL vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
INL vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
INL vi vi_set(int x) { return _mm256_set1_epi32(x); }
INL vi vi_load(const void *p) { return _mm256_loadu_si256(p); }
INL vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
INL vi vi_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
INL vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
INL vi vi_shl(vi a, int n) { return _mm256_sll_epi32(a, _mm_cvtsi32_si128(n)); }
INL vi vi_shr(vi a, int n) { return _mm256_srl_epi32(a, _mm_cvtsi32_si128(n)); }
INL vi vi_sar(vi a, int n) { return _mm256_sra_epi32(a, _mm_cvtsi32_si128(n)); }
INL vi vi_bits(vf a) { return _mm256_castps_si256(a); }
INL vf vf_bits(vi a) { return _mm256_castsi256_ps(a); }
INL vf vf_of(vi a) { return _mm256_cvtepi32_ps(a); }
INL vi vi_rint(vf a) { return _mm256_cvtps_epi32(a); }
INL vf vf_half(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
INL void vf_to_half(uint16_t *p, vf a) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
INL vf vf_bf16(const uint16_t *p) {
    return vf_bits(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
INL vi vi_i8(const int8_t *p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
INL void vi_to_i8(int8_t *p, vi a) { /* values fit */
    __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(w, w));
}
INL vf vf_pick(vf a, vf b, vf x, vf y) { return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
#elif defined(SIMD_NEON)
/* Two registers of four lanes, so that everything above sees AVX2's width. max and min are compare and select: the
 * instructions of that name order -0 below +0 and return NaN, which x86 and C do not. */
#define W 8
typedef struct { float32x4_t a, b; } vf;
typedef struct { int32x4_t a, b; } vi;
#define VF2(f) ((vf){f(x.a, y.a), f(x.b, y.b)})
#define VI2(f) ((vi){f(x.a, y.a), f(x.b, y.b)})
INL vf vf_set(float x) { return (vf){vdupq_n_f32(x), vdupq_n_f32(x)}; }
INL vf vf_load(const float *p) { return (vf){vld1q_f32(p), vld1q_f32(p + 4)}; }
INL void vf_store(float *p, vf x) {
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
}
INL vf vf_add(vf x, vf y) { return VF2(vaddq_f32); }
INL vf vf_sub(vf x, vf y) { return VF2(vsubq_f32); }
INL vf vf_mul(vf x, vf y) { return VF2(vmulq_f32); }
INL vf vf_div(vf x, vf y) { return VF2(vdivq_f32); }
INL vf vf_sqrt(vf x) { return (vf){vsqrtq_f32(x.a), vsqrtq_f32(x.b)}; }
INL vf vf_fma(vf x, vf y, vf z) { return (vf){vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b)}; }
INL vf vf_max(vf x, vf y) { return (vf){vbslq_f32(vcgtq_f32(x.a, y.a), x.a, y.a), vbslq_f32(vcgtq_f32(x.b, y.b), x.b, y.b)}; }
INL vf vf_min(vf x, vf y) { return (vf){vbslq_f32(vcltq_f32(x.a, y.a), x.a, y.a), vbslq_f32(vcltq_f32(x.b, y.b), x.b, y.b)}; }
INL vi vi_set(int x) { return (vi){vdupq_n_s32(x), vdupq_n_s32(x)}; }
INL vi vi_load(const void *p) {
    const uint8_t *b = (const uint8_t *)p;
    return (vi){vreinterpretq_s32_u8(vld1q_u8(b)), vreinterpretq_s32_u8(vld1q_u8(b + 16))};
}
INL vi vi_add(vi x, vi y) { return VI2(vaddq_s32); }
INL vi vi_sub(vi x, vi y) { return VI2(vsubq_s32); }
INL vi vi_and(vi x, vi y) { return VI2(vandq_s32); }
INL vi vi_shl(vi x, int n) { return (vi){vshlq_s32(x.a, vdupq_n_s32(n)), vshlq_s32(x.b, vdupq_n_s32(n))}; }
INL vi vi_sar(vi x, int n) { return (vi){vshlq_s32(x.a, vdupq_n_s32(-n)), vshlq_s32(x.b, vdupq_n_s32(-n))}; }
INL vi vi_shr(vi x, int n) {
    return (vi){vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(x.a), vdupq_n_s32(-n))),
                vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(x.b), vdupq_n_s32(-n)))};
}
INL vi vi_bits(vf x) { return (vi){vreinterpretq_s32_f32(x.a), vreinterpretq_s32_f32(x.b)}; }
INL vf vf_bits(vi x) { return (vf){vreinterpretq_f32_s32(x.a), vreinterpretq_f32_s32(x.b)}; }
INL vf vf_of(vi x) { return (vf){vcvtq_f32_s32(x.a), vcvtq_f32_s32(x.b)}; }
INL vi vi_rint(vf x) { return (vi){vcvtnq_s32_f32(x.a), vcvtnq_s32_f32(x.b)}; }
INL vf vf_half(const uint16_t *p) {
    return (vf){vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))), vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4)))};
}
INL void vf_to_half(uint16_t *p, vf x) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x.a)));
    vst1_u16(p + 4, vreinterpret_u16_f16(vcvt_f16_f32(x.b)));
}
INL vf vf_bf16(const uint16_t *p) {
    return (vf){vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)), vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4), 16))};
}
INL vi vi_i8(const int8_t *p) {
    int16x8_t w = vmovl_s8(vld1_s8(p));
    return (vi){vmovl_s16(vget_low_s16(w)), vmovl_s16(vget_high_s16(w))};
}
INL void vi_to_i8(int8_t *p, vi x) { vst1_s8(p, vmovn_s16(vcombine_s16(vmovn_s32(x.a), vmovn_s32(x.b)))); } /* values fit */
INL vf vf_pick(vf a, vf b, vf x, vf y) {
    return (vf){vbslq_f32(vcltq_f32(a.a, b.a), x.a, y.a), vbslq_f32(vcltq_f32(a.b, b.b), x.b, y.b)};
}
#else
/* Plain C: loops over lanes that the compiler may or may not turn into vectors. */
#define W 8
typedef struct { float x[W]; } vf;
typedef struct { int32_t x[W]; } vi;
#define LANES for (int i_ = 0; i_ < W; i_++)
#define VF(e) do { vf r_; LANES r_.x[i_] = (e); return r_; } while (0)
#define VI(e) do { vi r_; LANES r_.x[i_] = (int32_t)(e); return r_; } while (0)
INL vf vf_set(float x) { VF(x); }
INL vf vf_load(const float *p) { VF(p[i_]); }
INL void vf_store(float *p, vf a) { LANES p[i_] = a.x[i_]; }
INL vf vf_add(vf a, vf b) { VF(a.x[i_] + b.x[i_]); }
INL vf vf_sub(vf a, vf b) { VF(a.x[i_] - b.x[i_]); }
INL vf vf_mul(vf a, vf b) { VF(a.x[i_] * b.x[i_]); }
INL vf vf_div(vf a, vf b) { VF(a.x[i_] / b.x[i_]); }
INL vf vf_sqrt(vf a) { VF(sqrtf(a.x[i_])); }
INL vf vf_fma(vf a, vf b, vf c) { VF(arith_fma(a.x[i_], b.x[i_], c.x[i_])); }
INL vf vf_max(vf a, vf b) { VF(a.x[i_] > b.x[i_] ? a.x[i_] : b.x[i_]); }
INL vf vf_min(vf a, vf b) { VF(a.x[i_] < b.x[i_] ? a.x[i_] : b.x[i_]); }
INL vi vi_set(int x) { VI(x); }
INL vi vi_load(const void *p) { vi r; memcpy(&r, p, sizeof r); return r; }
INL vi vi_add(vi a, vi b) { VI((uint32_t)a.x[i_] + (uint32_t)b.x[i_]); }
INL vi vi_sub(vi a, vi b) { VI((uint32_t)a.x[i_] - (uint32_t)b.x[i_]); }
INL vi vi_and(vi a, vi b) { VI(a.x[i_] & b.x[i_]); }
INL vi vi_shl(vi a, int n) { VI((uint32_t)a.x[i_] << n); }
INL vi vi_shr(vi a, int n) { VI((uint32_t)a.x[i_] >> n); }
INL vi vi_sar(vi a, int n) { VI(a.x[i_] >> n); }
INL vi vi_bits(vf a) { vi r; memcpy(&r, &a, sizeof r); return r; }
INL vf vf_bits(vi a) { vf r; memcpy(&r, &a, sizeof r); return r; }
INL vf vf_of(vi a) { VF((float)a.x[i_]); }
INL vi vi_rint(vf a) { VI(rintf(a.x[i_])); }
INL vf vf_half(const uint16_t *p) { VF(arith_half(p[i_])); }
INL void vf_to_half(uint16_t *p, vf a) { LANES p[i_] = arith_to_half(a.x[i_]); }
INL vf vf_bf16(const uint16_t *p) { VF(arith_bf16(p[i_])); }
INL vi vi_i8(const int8_t *p) { VI(p[i_]); }
INL void vi_to_i8(int8_t *p, vi a) { LANES p[i_] = (int8_t)a.x[i_]; }
INL vf vf_pick(vf a, vf b, vf x, vf y) { VF(a.x[i_] < b.x[i_] ? x.x[i_] : y.x[i_]); }
#endif

/* Largest lane, for lanes that are not negative zero; and the sum of int32 lanes, exact in any order. */
#if defined(SIMD_AVX512)
INL float vf_top(vf a) { return _mm512_reduce_max_ps(a); }
INL int vi_sum(vi a) { return _mm512_reduce_add_epi32(a); }
#elif defined(SIMD_AVX2)
INL float vf_top(vf a) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
INL int vi_sum(vi a) {
    __m128i m = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    m = _mm_add_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(m, _mm_shuffle_epi32(m, 0xb1)));
}
#elif defined(SIMD_NEON)
INL float vf_top(vf x) { return vmaxvq_f32(vmaxq_f32(x.a, x.b)); }
INL int vi_sum(vi x) { return vaddvq_s32(vaddq_s32(x.a, x.b)); }
#else
INL float vf_top(vf a) {
    float m = a.x[0];
    LANES m = a.x[i_] > m ? a.x[i_] : m;
    return m;
}
INL int vi_sum(vi a) {
    int s = 0;
    LANES s += a.x[i_];
    return s;
}
#endif

INL vf vf_zero(void) { return vf_set(0.0f); }
INL vf vf_neg(vf a) { return vf_bits(vi_add(vi_bits(a), vi_set((int)0x80000000u))); } /* flips the sign bit */
INL vf vf_abs(vf a) { return vf_bits(vi_and(vi_bits(a), vi_set(0x7fffffff))); }

INL vf vf_exp(vf x) {
    x = vf_max(vf_set(ARITH_EXP_LO), x);
    x = vf_min(vf_set(ARITH_EXP_HI), x);
    vf t = vf_fma(x, vf_set(ARITH_LOG2E), vf_set(ARITH_MAGIC));
    vf n = vf_sub(t, vf_set(ARITH_MAGIC));
    vi i = vi_sub(vi_bits(t), vi_set(0x4b400000));
    vf r = vf_fma(n, vf_set(-ARITH_LN2_HI), x);
    r = vf_fma(n, vf_set(-ARITH_LN2_LO), r);
    vf p = vf_fma(vf_set(ARITH_E6), r, vf_set(ARITH_E5));
    p = vf_fma(p, r, vf_set(ARITH_E4));
    p = vf_fma(p, r, vf_set(ARITH_E3));
    p = vf_fma(p, r, vf_set(ARITH_E2));
    p = vf_fma(p, vf_mul(r, r), r);
    p = vf_add(p, vf_set(1.0f));
    vi h = vi_sar(i, 1);
    p = vf_mul(p, vf_bits(vi_shl(vi_add(h, vi_set(127)), 23)));
    return vf_mul(p, vf_bits(vi_shl(vi_add(vi_sub(i, h), vi_set(127)), 23)));
}
INL vf vf_sigmoid(vf x) {
    vf one = vf_set(1.0f);
    return vf_div(one, vf_add(one, vf_exp(vf_neg(x))));
}
INL vf vf_tanh(vf x) {
    vf a = vf_abs(x), z = vf_mul(x, x), one = vf_set(1.0f);
    vf p = vf_fma(vf_set(ARITH_T5), z, vf_set(ARITH_T4));
    p = vf_fma(p, z, vf_set(ARITH_T3));
    p = vf_fma(p, z, vf_set(ARITH_T2));
    p = vf_fma(p, z, vf_set(ARITH_T1));
    vf small = vf_fma(vf_mul(x, z), p, x);
    vf big = vf_sub(one, vf_div(vf_set(2.0f), vf_add(vf_exp(vf_add(a, a)), one)));
    /* big is in [0, 1]: its sign bit is free to take x's */
    big = vf_bits(vi_add(vi_bits(big), vi_and(vi_bits(x), vi_set((int)0x80000000u))));
    return vf_pick(a, vf_set(0.625f), small, big);
}

#endif
