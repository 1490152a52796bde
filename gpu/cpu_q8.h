/* act=q8 products: integer dot products a block, joined by the two fma of arith-1. Part of cpu_body.h.
 *
 * Lanes are output rows: a 64-byte load of codes holds 4 consecutive k of 16 rows, so one dot-product instruction against
 * a broadcast of 4 activations advances 16 rows, and no chain is ever split. The integers are exact in any order.
 *
 * Each block prefetches its counterpart of the next group of rows: a group is only a few kB in two short streams, too short
 * for the hardware's prefetcher (decode of Q4_1 on one core: 180 tok/s without, 305 with). */

#define Q8_T 8 /* most tokens of one tile */

/* Tile: 16 rows x nt tokens (a constant), all blocks. out[t * 16 + row]. */
#if defined(SIMD_AVX512)
INL void q8_tile(const int nt, const enum pack_code code, const enum pack_scale scale, const int zero, const uint8_t *sc,
                 const uint8_t *codes, size_t nb, const int8_t *q, size_t ldq, const float *d, const float *s, float *out) {
    const __m512i low = _mm512_set1_epi8(15), flip = _mm512_set1_epi8((char)0x80);
    const size_t sc_bytes = scale == PACK_H1 ? 32 : scale == PACK_F2 ? 128 : 64;
    const size_t ahead = (sc_bytes + (code == PACK_U4 ? 256 : 512)) * nb; /* the next group, give or take a line */
#define EACH_T(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define DECL(u) vf acc##u = vf_zero();
    EACH_T(DECL)
#undef DECL
    for (size_t b = 0; b < nb; b++) {
        __m512i v0, v1, v2, v3, v4, v5, v6, v7;
        if (code == PACK_U4) {
            __m512i z0 = vi_load(codes), z1 = vi_load(codes + 64), z2 = vi_load(codes + 128), z3 = vi_load(codes + 192);
            for (int i = 0; i < 256; i += 64)
                __builtin_prefetch(codes + ahead + i);
            codes += 256;
            v0 = _mm512_and_si512(z0, low);
            v1 = _mm512_and_si512(_mm512_srli_epi16(z0, 4), low);
            v2 = _mm512_and_si512(z1, low);
            v3 = _mm512_and_si512(_mm512_srli_epi16(z1, 4), low);
            v4 = _mm512_and_si512(z2, low);
            v5 = _mm512_and_si512(_mm512_srli_epi16(z2, 4), low);
            v6 = _mm512_and_si512(z3, low);
            v7 = _mm512_and_si512(_mm512_srli_epi16(z3, 4), low);
        } else { /* signed codes become unsigned by + 128; 128 * sum of q is taken off again */
            v0 = _mm512_xor_si512(vi_load(codes), flip);
            v1 = _mm512_xor_si512(vi_load(codes + 64), flip);
            v2 = _mm512_xor_si512(vi_load(codes + 128), flip);
            v3 = _mm512_xor_si512(vi_load(codes + 192), flip);
            v4 = _mm512_xor_si512(vi_load(codes + 256), flip);
            v5 = _mm512_xor_si512(vi_load(codes + 320), flip);
            v6 = _mm512_xor_si512(vi_load(codes + 384), flip);
            v7 = _mm512_xor_si512(vi_load(codes + 448), flip);
            for (int i = 0; i < 512; i += 64)
                __builtin_prefetch(codes + ahead + i);
            codes += 512;
        }
        vf wd, wm = vf_zero();
        __m512i s0 = _mm512_setzero_si512(), s1 = s0;
        if (scale == PACK_F2) {
            wd = vf_load((const float *)(const void *)sc);
            wm = vf_load((const float *)(const void *)sc + 16);
        } else {
            wd = vf_half((const uint16_t *)(const void *)sc);
            if (scale == PACK_H2)
                wm = vf_half((const uint16_t *)(const void *)sc + 16);
            if (scale == PACK_HS) {
                s0 = vi_i8((const int8_t *)sc + 32);
                s1 = vi_i8((const int8_t *)sc + 48);
            }
        }
        __builtin_prefetch(sc + ahead);
        sc += sc_bytes;
#define X4(g) _mm512_set1_epi32(x[g])
#define STEP(u)                                                                                                       \
    if (u < nt) {                                                                                                     \
        const int32_t *x = (const int32_t *)(const void *)(q + u * ldq) + 8 * b;                                      \
        vf dx = vf_set(d[u * (ldq / 32) + b]);                                                                        \
        __m512i i = _mm512_dpbusd_epi32(_mm512_setzero_si512(), v0, X4(0));                                           \
        i = _mm512_dpbusd_epi32(i, v1, X4(1));                                                                        \
        i = _mm512_dpbusd_epi32(i, v2, X4(2));                                                                        \
        i = _mm512_dpbusd_epi32(i, v3, X4(3));                                                                        \
        vf f;                                                                                                         \
        if (scale == PACK_HS) {                                                                                       \
            __m512i h = _mm512_dpbusd_epi32(_mm512_setzero_si512(), v4, X4(4));                                       \
            h = _mm512_dpbusd_epi32(h, v5, X4(5));                                                                    \
            h = _mm512_dpbusd_epi32(h, v6, X4(6));                                                                    \
            h = _mm512_dpbusd_epi32(h, v7, X4(7));                                                                    \
            __m512i o = _mm512_dpbusd_epi32(_mm512_setzero_si512(), flip, X4(0));                                     \
            o = _mm512_dpbusd_epi32(o, flip, X4(1));                                                                  \
            o = _mm512_dpbusd_epi32(o, flip, X4(2));                                                                  \
            o = _mm512_dpbusd_epi32(o, flip, X4(3));                                                                  \
            __m512i oh = _mm512_dpbusd_epi32(_mm512_setzero_si512(), flip, X4(4));                                    \
            oh = _mm512_dpbusd_epi32(oh, flip, X4(5));                                                                \
            oh = _mm512_dpbusd_epi32(oh, flip, X4(6));                                                                \
            oh = _mm512_dpbusd_epi32(oh, flip, X4(7));                                                                \
            i = _mm512_mullo_epi32(_mm512_sub_epi32(i, o), s0);                                                       \
            f = vf_of(_mm512_add_epi32(i, _mm512_mullo_epi32(_mm512_sub_epi32(h, oh), s1)));                          \
        } else {                                                                                                      \
            i = _mm512_dpbusd_epi32(i, v4, X4(4));                                                                    \
            i = _mm512_dpbusd_epi32(i, v5, X4(5));                                                                    \
            i = _mm512_dpbusd_epi32(i, v6, X4(6));                                                                    \
            i = _mm512_dpbusd_epi32(i, v7, X4(7));                                                                    \
            f = vf_of(i); /* below 2^24: exact, and so is the subtraction */                                          \
            if (code == PACK_S8)                                                                                      \
                f = vf_sub(f, vf_set(128.0f * s[u * (ldq / 32) + b]));                                                \
            else if (zero)                                                                                            \
                f = vf_sub(f, vf_set((float)zero * s[u * (ldq / 32) + b]));                                           \
        }                                                                                                             \
        acc##u = vf_fma(f, vf_mul(wd, dx), acc##u);                                                                   \
        if (scale == PACK_H2 || scale == PACK_F2)                                                                     \
            acc##u = vf_fma(vf_set(s[u * (ldq / 32) + b]), vf_mul(wm, dx), acc##u);                                   \
    }
        EACH_T(STEP)
#undef STEP
#undef X4
    }
#define SAVE(u)                                                                                                       \
    if (u < nt)                                                                                                       \
        vf_store(out + 16 * u, acc##u);
    EACH_T(SAVE)
#undef SAVE
#undef EACH_T
}
#define Q8_TILE 8
#elif defined(SIMD_AVX2)
/* Memory is asked for a fixed distance ahead, in one line: scales and codes of a group and the next group stand in a row.
 * (One core of a Zen 3 VM, decode of Q4_1: 134 tok/s with the counterpart in the next group, 160 so.) */
#define Q8_AHEAD 4096
/* All 16 rows in one pass: each line of the weights is met once, in order, and a broadcast of activations serves both halves
 * of the rows (loads, not arithmetic, are what this loop has too few of). The codes are unpacked once for all tokens; tokens
 * are the inner loop, so that only their integer sums stay in registers. 4-bit: 16-bit sums over the whole block cannot
 * overflow (8 * 2 * 15 * 127 = 30480). 8-bit: |w| * sign(q, w), a pair of which is at most 2 * 128 * 127 = 32512. */
#define EACH_T(X) X(0) X(1) X(2) X(3)
/* Keeps gcc from re-ordering the integer sums: it makes trees of them, whose leaves (32 vectors) do not fit the registers. */
#define IN_ORDER(v) __asm__("" : "+x"(v))
/* A block's integers of 8 rows, joined to their chains. */
INL vf q8_join(const enum pack_scale scale, const int zero, __m256i i, vf wd, vf wm, float dx, float sx, vf acc) {
    vf f = vf_of(i);
    if (zero) /* both below 2^24: exact */
        f = vf_sub(f, vf_set((float)zero * sx));
    acc = vf_fma(f, vf_mul(wd, vf_set(dx)), acc);
    if (scale == PACK_H2 || scale == PACK_F2)
        acc = vf_fma(vf_set(sx), vf_mul(wm, vf_set(dx)), acc);
    return acc;
}
INL void q8_tile(const int nt, const enum pack_code code, const enum pack_scale scale, const int zero, const uint8_t *sc,
                 const uint8_t *codes, size_t nb, const int8_t *q, size_t ldq, const float *d, const float *s, float *out) {
    const __m256i low = _mm256_set1_epi8(15), one = _mm256_set1_epi16(1), none = _mm256_setzero_si256();
    const size_t sc_bytes = scale == PACK_H1 ? 32 : scale == PACK_F2 ? 128 : 64, bytes = code == PACK_U4 ? 256 : 512;
    const size_t each = sc_bytes + bytes;
    const uint8_t *soon = sc + Q8_AHEAD;
#define DECL(u) vf a##u = vf_zero(), b##u = a##u;
    EACH_T(DECL)
#undef DECL
    for (size_t b = 0; b < nb; b++, codes += bytes, sc += sc_bytes, soon += each) {
        const int8_t *xb = q + 32 * b;
        for (size_t i = 0; i < each; i += 64)
            __builtin_prefetch(soon + i);
#define X4(u, g) _mm256_set1_epi32(((const int32_t *)(const void *)(xb + u * ldq))[g])
#define DECL(u) __m256i i##u = none, j##u = none, h##u = none, k##u = none;
        EACH_T(DECL)
#undef DECL
        if (code == PACK_U4) {
            __m256i v, w, x;
#define STEP(u)                                                                                                       \
    if (u < nt) {                                                                                                     \
        x = X4(u, g);                                                                                                 \
        i##u = _mm256_add_epi16(i##u, _mm256_maddubs_epi16(v, x));                                                    \
        j##u = _mm256_add_epi16(j##u, _mm256_maddubs_epi16(w, x));                                                    \
        IN_ORDER(i##u);                                                                                               \
        IN_ORDER(j##u);                                                                                               \
    }
#define LOW_HIGH(n)                                                                                                   \
    do {                                                                                                              \
        __m256i y = vi_load(codes + 64 * (n)), z = vi_load(codes + 64 * (n) + 32);                                    \
        int g = 2 * (n);                                                                                              \
        v = _mm256_and_si256(y, low);                                                                                 \
        w = _mm256_and_si256(z, low);                                                                                 \
        EACH_T(STEP)                                                                                                  \
        g++;                                                                                                          \
        v = _mm256_and_si256(_mm256_srli_epi16(y, 4), low);                                                           \
        w = _mm256_and_si256(_mm256_srli_epi16(z, 4), low);                                                           \
        EACH_T(STEP)                                                                                                  \
    } while (0)
            LOW_HIGH(0);
            LOW_HIGH(1);
            LOW_HIGH(2);
            LOW_HIGH(3);
#undef LOW_HIGH
#undef STEP
#define STEP(u)                                                                                                       \
    if (u < nt) {                                                                                                     \
        i##u = _mm256_madd_epi16(i##u, one);                                                                          \
        j##u = _mm256_madd_epi16(j##u, one);                                                                          \
    }
            EACH_T(STEP)
#undef STEP
        } else {
#define STEP(u)                                                                                                       \
    if (u < nt) {                                                                                                     \
        __m256i x = X4(u, g);                                                                                         \
        i##u = vi_add(i##u, _mm256_madd_epi16(_mm256_maddubs_epi16(va, _mm256_sign_epi8(x, v)), one));                \
        j##u = vi_add(j##u, _mm256_madd_epi16(_mm256_maddubs_epi16(wa, _mm256_sign_epi8(x, w)), one));                \
        IN_ORDER(i##u);                                                                                               \
        IN_ORDER(j##u);                                                                                               \
    }
#define FOUR(n)                                                                                                       \
    do {                                                                                                              \
        const int g = (n);                                                                                            \
        __m256i v = vi_load(codes + 64 * g), w = vi_load(codes + 64 * g + 32);                                        \
        __m256i va = _mm256_abs_epi8(v), wa = _mm256_abs_epi8(w);                                                     \
        EACH_T(STEP)                                                                                                  \
    } while (0)
            FOUR(0);
            FOUR(1);
            FOUR(2);
            FOUR(3);
#define KEEP(u)                                                                                                       \
    if (u < nt && scale == PACK_HS) {                                                                                 \
        h##u = _mm256_mullo_epi32(i##u, vi_i8((const int8_t *)sc + 32));                                              \
        k##u = _mm256_mullo_epi32(j##u, vi_i8((const int8_t *)sc + 40));                                              \
        i##u = j##u = none;                                                                                           \
    }
            EACH_T(KEEP)
#undef KEEP
            FOUR(4);
            FOUR(5);
            FOUR(6);
            FOUR(7);
#undef FOUR
#undef STEP
#define KEEP(u)                                                                                                       \
    if (u < nt && scale == PACK_HS) {                                                                                 \
        i##u = vi_add(h##u, _mm256_mullo_epi32(i##u, vi_i8((const int8_t *)sc + 48)));                                \
        j##u = vi_add(k##u, _mm256_mullo_epi32(j##u, vi_i8((const int8_t *)sc + 56)));                                \
    }
            EACH_T(KEEP)
#undef KEEP
        }
#undef X4
        vf d0, d8, m0 = vf_zero(), m8 = m0;
        if (scale == PACK_F2) {
            const float *f = (const float *)(const void *)sc;
            d0 = vf_load(f);
            d8 = vf_load(f + 8);
            m0 = vf_load(f + 16);
            m8 = vf_load(f + 24);
        } else {
            const uint16_t *f = (const uint16_t *)(const void *)sc;
            d0 = vf_half(f);
            d8 = vf_half(f + 8);
            if (scale == PACK_H2) {
                m0 = vf_half(f + 16);
                m8 = vf_half(f + 24);
            }
        }
#define STEP(u)                                                                                                       \
    if (u < nt) {                                                                                                     \
        float dx = d[u * (ldq / 32) + b], sx = s[u * (ldq / 32) + b];                                                 \
        a##u = q8_join(scale, zero, i##u, d0, m0, dx, sx, a##u);                                                      \
        b##u = q8_join(scale, zero, j##u, d8, m8, dx, sx, b##u);                                                      \
    }
        EACH_T(STEP)
#undef STEP
    }
#define SAVE(u)                                                                                                       \
    if (u < nt) {                                                                                                     \
        vf_store(out + 16 * u, a##u);                                                                                 \
        vf_store(out + 16 * u + 8, b##u);                                                                             \
    }
    EACH_T(SAVE)
#undef SAVE
#undef EACH_T
#undef IN_ORDER
}
#define Q8_TILE 4
#elif defined(SIMD_NEON)
/* 4 rows x 4 k added to 4 sums, exactly. Without the dot product instruction: products of bytes fit 16 bits. */
INL int32x4_t q8_dot(int32x4_t i, int8x16_t v, int8x16_t x) {
#if defined(SIMD_DOTPROD)
    return vdotq_s32(i, v, x);
#else
    int16x8_t lo = vmull_s8(vget_low_s8(v), vget_low_s8(x)), hi = vmull_high_s8(v, x);
    return vaddq_s32(i, vpaddq_s32(vpaddlq_s16(lo), vpaddlq_s16(hi)));
#endif
}
/* 8 of the 16 rows at a time. Codes of 4 bits are small enough to count as signed. */
INL void q8_half(const int nt, const enum pack_code code, const enum pack_scale scale, const int zero, const uint8_t *sc,
                 const uint8_t *codes, size_t nb, const int8_t *q, size_t ldq, const float *d, const float *s, float *out,
                 const int at) {
    const uint8x16_t low = vdupq_n_u8(15);
    const size_t sc_bytes = scale == PACK_H1 ? 32 : scale == PACK_F2 ? 128 : 64;
    const size_t ahead = (sc_bytes + (code == PACK_U4 ? 256 : 512)) * nb;
    codes += 4 * at;
#define EACH_T(X) X(0) X(1) X(2) X(3)
#define DECL(u) vf acc##u = vf_zero();
    EACH_T(DECL)
#undef DECL
    for (size_t b = 0; b < nb; b++) {
        vf wd, wm = vf_zero();
        vi s0 = vi_set(0), s1 = s0;
        if (scale == PACK_F2) {
            wd = vf_load((const float *)(const void *)sc + at);
            wm = vf_load((const float *)(const void *)sc + 16 + at);
        } else {
            wd = vf_half((const uint16_t *)(const void *)sc + at);
            if (scale == PACK_H2)
                wm = vf_half((const uint16_t *)(const void *)sc + 16 + at);
            if (scale == PACK_HS) {
                s0 = vi_i8((const int8_t *)sc + 32 + at);
                s1 = vi_i8((const int8_t *)sc + 48 + at);
            }
        }
        sc += sc_bytes;
#define DECL(u) vi i##u = vi_set(0), h##u = i##u;
        EACH_T(DECL)
#undef DECL
        /* tokens are the inner loop: their sums do not wait for each other */
        for (int g = 0; g < 8; g++) {
            int8x16_t va, vb;
            if (code == PACK_U4) {
                uint8x16_t za = vld1q_u8(codes + 64 * (g / 2)), zb = vld1q_u8(codes + 64 * (g / 2) + 16);
                va = vreinterpretq_s8_u8(g % 2 ? vshrq_n_u8(za, 4) : vandq_u8(za, low));
                vb = vreinterpretq_s8_u8(g % 2 ? vshrq_n_u8(zb, 4) : vandq_u8(zb, low));
                if (!at && g % 2 == 0)
                    __builtin_prefetch(codes + ahead + 32 * g);
            } else {
                va = vreinterpretq_s8_u8(vld1q_u8(codes + 64 * g));
                vb = vreinterpretq_s8_u8(vld1q_u8(codes + 64 * g + 16));
                if (!at)
                    __builtin_prefetch(codes + ahead + 64 * g);
            }
#define STEP(u)                                                                                                       \
    if (u < nt) {                                                                                                     \
        int8x16_t x = vreinterpretq_s8_s32(vld1q_dup_s32((const int32_t *)(const void *)(q + u * ldq) + 8 * b + g));  \
        if (scale == PACK_HS && g >= 4) {                                                                             \
            h##u.a = q8_dot(h##u.a, va, x);                                                                           \
            h##u.b = q8_dot(h##u.b, vb, x);                                                                           \
        } else {                                                                                                      \
            i##u.a = q8_dot(i##u.a, va, x);                                                                           \
            i##u.b = q8_dot(i##u.b, vb, x);                                                                           \
        }                                                                                                             \
    }
            EACH_T(STEP)
#undef STEP
        }
        codes += code == PACK_U4 ? 256 : 512;
#define STEP(u)                                                                                                       \
    if (u < nt) {                                                                                                     \
        vf dx = vf_set(d[u * (ldq / 32) + b]), f;                                                                     \
        if (scale == PACK_HS) {                                                                                       \
            i##u.a = vmlaq_s32(vmulq_s32(i##u.a, s0.a), h##u.a, s1.a);                                                \
            i##u.b = vmlaq_s32(vmulq_s32(i##u.b, s0.b), h##u.b, s1.b);                                                \
        }                                                                                                             \
        f = vf_of(i##u);                                                                                              \
        if (zero) /* both below 2^24: exact */                                                                        \
            f = vf_sub(f, vf_set((float)zero * s[u * (ldq / 32) + b]));                                               \
        acc##u = vf_fma(f, vf_mul(wd, dx), acc##u);                                                                   \
        if (scale == PACK_H2 || scale == PACK_F2)                                                                     \
            acc##u = vf_fma(vf_set(s[u * (ldq / 32) + b]), vf_mul(wm, dx), acc##u);                                   \
    }
        EACH_T(STEP)
#undef STEP
    }
#define SAVE(u)                                                                                                       \
    if (u < nt)                                                                                                       \
        vf_store(out + 16 * u + at, acc##u);
    EACH_T(SAVE)
#undef SAVE
#undef EACH_T
}
INL void q8_tile(const int nt, const enum pack_code code, const enum pack_scale scale, const int zero, const uint8_t *sc,
                 const uint8_t *codes, size_t nb, const int8_t *q, size_t ldq, const float *d, const float *s, float *out) {
    q8_half(nt, code, scale, zero, sc, codes, nb, q, ldq, d, s, out, 0);
    q8_half(nt, code, scale, zero, sc, codes, nb, q, ldq, d, s, out, 8);
}
#define Q8_TILE 4
#else
INL void q8_tile(const int nt, const enum pack_code code, const enum pack_scale scale, const int zero, const uint8_t *sc,
                 const uint8_t *codes, size_t nb, const int8_t *q, size_t ldq, const float *d, const float *s, float *out) {
    const size_t sc_bytes = scale == PACK_H1 ? 32 : scale == PACK_F2 ? 128 : 64, code_bytes = code == PACK_U4 ? 256 : 512;
    for (int u = 0; u < nt; u++)
        for (int r = 0; r < 16; r++) {
            float acc = 0.0f;
            for (size_t b = 0; b < nb; b++) {
                const uint8_t *c = codes + b * code_bytes + 4 * r, *z = sc + b * sc_bytes;
                const int8_t *x = q + (size_t)u * ldq + 32 * b;
                int half[2] = {0, 0};
                for (int i = 0; i < 32; i++) {
                    int v = code == PACK_U4 ? (c[64 * (i / 8) + i % 4] >> (i & 4) & 15) - zero
                                            : (int8_t)c[64 * (i / 4) + i % 4];
                    half[i / 16] += v * x[i];
                }
                float wd, wm = 0.0f, dx = d[(size_t)u * (ldq / 32) + b];
                if (scale == PACK_F2) {
                    memcpy(&wd, z + 4 * r, 4);
                    memcpy(&wm, z + 64 + 4 * r, 4);
                } else {
                    uint16_t h;
                    memcpy(&h, z + 2 * r, 2);
                    wd = arith_half(h);
                    memcpy(&h, z + (scale == PACK_H2 ? 32 : 0) + 2 * r, 2);
                    wm = arith_half(h);
                }
                int i = scale == PACK_HS ? half[0] * (int8_t)z[32 + r] + half[1] * (int8_t)z[48 + r] : half[0] + half[1];
                acc = arith_fma((float)i, wd * dx, acc);
                if (scale == PACK_H2 || scale == PACK_F2)
                    acc = arith_fma(s[(size_t)u * (ldq / 32) + b], wm * dx, acc);
            }
            out[16 * u + r] = acc;
        }
}
#define Q8_TILE 4
#endif

/* One function a format and count of tokens. */
typedef void q8_fn(const uint8_t *sc, const uint8_t *codes, size_t nb, const int8_t *q, size_t ldq, const float *d,
                   const float *s, float *out);
#define Q8_FN(name, nt, code, scale, zero)                                                                            \
    static void name##_##nt(const uint8_t *sc, const uint8_t *codes, size_t nb, const int8_t *q, size_t ldq,          \
                            const float *d, const float *s, float *out) {                                             \
        q8_tile(nt, code, scale, zero, sc, codes, nb, q, ldq, d, s, out);                                             \
    }
#if Q8_TILE == 8
#define Q8_FORMAT(name, code, scale, zero)                                                                            \
    Q8_FN(name, 1, code, scale, zero)                                                                                 \
    Q8_FN(name, 2, code, scale, zero)                                                                                 \
    Q8_FN(name, 3, code, scale, zero)                                                                                 \
    Q8_FN(name, 4, code, scale, zero)                                                                                 \
    Q8_FN(name, 5, code, scale, zero)                                                                                 \
    Q8_FN(name, 6, code, scale, zero)                                                                                 \
    Q8_FN(name, 7, code, scale, zero)                                                                                 \
    Q8_FN(name, 8, code, scale, zero)
#define Q8_LIST(name) {name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8}
#else
#define Q8_FORMAT(name, code, scale, zero)                                                                            \
    Q8_FN(name, 1, code, scale, zero)                                                                                 \
    Q8_FN(name, 2, code, scale, zero)                                                                                 \
    Q8_FN(name, 3, code, scale, zero)                                                                                 \
    Q8_FN(name, 4, code, scale, zero)
#define Q8_LIST(name) {name##_1, name##_2, name##_3, name##_4}
#endif
Q8_FORMAT(q8_u4h1, PACK_U4, PACK_H1, 8)
Q8_FORMAT(q8_u4h2, PACK_U4, PACK_H2, 0)
Q8_FORMAT(q8_u4f2, PACK_U4, PACK_F2, 0)
Q8_FORMAT(q8_s8h1, PACK_S8, PACK_H1, 0)
Q8_FORMAT(q8_s8h2, PACK_S8, PACK_H2, 0)
Q8_FORMAT(q8_s8f2, PACK_S8, PACK_F2, 0)
Q8_FORMAT(q8_s8hs, PACK_S8, PACK_HS, 0)

static q8_fn *q8_kernel(uint32_t type, uint32_t nt) {
    static q8_fn *const u4h1[] = Q8_LIST(q8_u4h1), *const u4h2[] = Q8_LIST(q8_u4h2), *const u4f2[] = Q8_LIST(q8_u4f2);
    static q8_fn *const s8h1[] = Q8_LIST(q8_s8h1), *const s8h2[] = Q8_LIST(q8_s8h2), *const s8f2[] = Q8_LIST(q8_s8f2);
    static q8_fn *const s8hs[] = Q8_LIST(q8_s8hs);
    switch (type) {
    case GPU_Q4_0: return u4h1[nt - 1];
    case GPU_Q4_1: return u4h2[nt - 1];
    case GPU_Q4_K: return u4f2[nt - 1];
    case GPU_Q5_1: return s8h2[nt - 1];
    case GPU_Q5_K: return s8f2[nt - 1];
    case GPU_Q6_K: return s8hs[nt - 1];
    default: return s8h1[nt - 1]; /* Q8_0, Q5_0 */
    }
}

struct q8_job {
    const struct gpu_out *outs;
    int n_outs;
    const struct gpu_q8 *x;
};

#define Q8_BAND ((size_t)160 << 10) /* weights that are kept near while the tokens pass */
#define Q8_PIECE ((size_t)16 << 10)

static void q8_task(void *arg, uint32_t at, uint32_t to, int thread) {
    const struct q8_job *j = arg;
    const struct gpu_q8 *x = j->x;
    uint32_t base = 0;
    size_t nb = x->k / 32;
    for (int o = 0; o < j->n_outs; o++) {
        const struct gpu_weight *w = j->outs[o].w;
        const struct pack_layout *l = pack_layout(w->type);
        size_t bytes = pack_group_bytes(l, w->k), sc_bytes = pack_scales_bytes(l, w->k);
        uint32_t n = (w->n + 15) / 16, band = (uint32_t)(Q8_BAND / bytes) + 1;
        while (at < to && at < base + n) {
            uint32_t end = at + band < to ? at + band : to;
            end = end < base + n ? end : base + n;
            for (uint32_t t = 0; t < x->t; t += Q8_TILE) {
                uint32_t nt = x->t - t < Q8_TILE ? x->t - t : Q8_TILE;
                q8_fn *f = q8_kernel(w->type, nt);
                for (uint32_t i = at; i < end; i++) {
                    const uint8_t *p = (const uint8_t *)w->packed + (i - base) * bytes;
                    size_t row = (size_t)(i - base) * 16, rows = w->n - row < 16 ? w->n - row : 16;
                    float *y = j->outs[o].y + t * j->outs[o].ldy + row;
                    _Alignas(64) float tile[Q8_TILE * 16];
                    f(p, p + sc_bytes, nb, x->q + (size_t)t * x->k, x->k, x->d + t * nb, x->s + t * nb, tile);
                    if (rows == 16)
                        for (uint32_t u = 0; u < nt; u++)
                            memcpy(y + u * j->outs[o].ldy, tile + 16 * u, 64);
                    else
                        for (uint32_t u = 0; u < nt; u++)
                            memcpy(y + u * j->outs[o].ldy, tile + 16 * u, rows * sizeof *tile);
                }
            }
            at = end;
        }
        base += n;
    }
}

static enum loam_status cpu_matmul_q8(struct gpu *g, const struct gpu_out *outs, int n_outs, const struct gpu_q8 *x,
                                      struct err *err) {
    GPU_BEGIN(g);
    enum loam_status s = gpu_check_outs(outs, n_outs, x->k, true, err);
    if (s || !x->t)
        return s;
    struct q8_job j = {outs, n_outs, x};
    uint32_t groups = 0;
    for (int o = 0; o < n_outs; o++)
        groups += (outs[o].w->n + 15) / 16;
    /* Few tokens: memory is the limit, a piece is about 20 kB. Many: pieces that share the tokens' tiles. */
    uint32_t grain = x->t <= 2 * Q8_TILE ? (uint32_t)(Q8_PIECE / pack_group_bytes(pack_layout(outs[0].w->type), x->k)) + 1
                                         : (groups + 8 * (uint32_t)g->threads - 1) / (8 * (uint32_t)g->threads);
    pool_ranges(g->pool, groups, grain, q8_task, &j);
    return LOAM_OK;
}

struct quant_job {
    const struct gpu_q8 *q;
    const float *x;
    size_t ldx;
    uint32_t per; /* tokens of a task */
};

static void quant_task(void *arg, uint32_t task, int thread) {
    const struct quant_job *j = arg;
    uint32_t nb = j->q->k / 32;
    for (uint32_t t = task * j->per; t < (task + 1) * j->per && t < j->q->t; t++)
        for (uint32_t b = 0; b < nb; b++) {
            const float *p = j->x + t * j->ldx + b * 32;
            int8_t *q = j->q->q + (size_t)t * j->q->k + b * 32;
            vf m = vf_zero();
            for (int i = 0; i < 32; i += W)
                m = vf_max(vf_abs(vf_load(p + i)), m);
            float s = vf_top(m) / 127.0f;
            int sum = 0;
            if (s == 0.0f) {
                memset(q, 0, 32);
            } else {
                vi total = vi_set(0);
                for (int i = 0; i < 32; i += W) {
                    vf v = vf_div(vf_load(p + i), vf_set(s));
                    v = vf_max(vf_min(v, vf_set(127.0f)), vf_set(-127.0f));
                    vi r = vi_rint(v);
                    vi_to_i8(q + i, r);
                    total = vi_add(total, r);
                }
                sum = vi_sum(total);
            }
            j->q->d[(size_t)t * nb + b] = s;
            j->q->s[(size_t)t * nb + b] = (float)sum;
        }
}

static enum loam_status cpu_quant(struct gpu *g, const struct gpu_q8 *q, const float *x, size_t ldx, struct err *err) {
    GPU_BEGIN(g);
    if (q->k % 32)
        return err_set(err, LOAM_EINVAL, "act=q8 needs a width that is a multiple of 32, not %u", q->k);
    struct quant_job j = {q, x, ldx, 16};
    if (q->t < 32 && q->t >= 8) /* few tokens: shared out all the same; fewer are not worth waking anyone */
        j.per = (q->t + (uint32_t)g->threads - 1) / (uint32_t)g->threads;
    pool_run(g->pool, (q->t + j.per - 1) / j.per, quant_task, &j);
    return LOAM_OK;
}
