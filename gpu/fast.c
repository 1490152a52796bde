/* The fast mode's weight formats on the host (gpu/fast.h). */
#include "gpu/fast.h"

#include "gpu/arith.h"

#include <string.h>

#include "base/banned.h"

static const float nf4[16] = {-1.0f,       -0.6961928f, -0.52507305f, -0.39491749f, -0.28444138f, -0.18477343f, -0.09105004f, 0.0f,
                              0.0795803f,  0.1609302f,  0.2461123f,   0.33791524f,  0.44070983f,  0.562617f,    0.72295684f,  1.0f};

size_t fast_weight_bytes(enum fast_type type, size_t n, size_t k) {
    return n * k * (type == FAST_BF16 ? 4u : type == FAST_F8 || type == FAST_Q8 ? 2u : 1u) / 2;
}
size_t fast_scale_bytes(enum fast_type type, size_t n, size_t k) {
    switch (type) {
    case FAST_BF16: return 0;
    case FAST_F8: return n * sizeof(float);
    case FAST_Q8: return n * (k / 32) * 2;
    case FAST_Q4: return n * (k / 32) * 4;
    case FAST_NF4: return n * (k / 64) * 2;
    }
    return 0;
}

/* e4m3: 1 sign, 4 exponent bits (bias 7), 3 of fraction; no infinities, 0x7f is no number. */
static float f8_value(uint8_t v) {
    return arith_float((uint32_t)(v & 0x7f) << 20 | (uint32_t)(v & 0x80) << 24) * 0x1p120f;
}
static uint8_t to_f8(float x) {
    uint32_t sign = arith_bits(x) >> 24 & 0x80;
    float a = arith_float(arith_bits(x) & 0x7fffffffu);
    uint8_t best = 0;
    if (a >= 448.0f)
        return (uint8_t)(sign | 0x7e);
    /* the codes rise with their values: the last one not above, then the nearer of two, the even one between them */
    uint8_t lo = 0, hi = 0x7e;
    while (hi - lo > 1) {
        uint8_t mid = (uint8_t)((lo + hi) / 2);
        if (f8_value(mid) <= a)
            lo = mid;
        else
            hi = mid;
    }
    float down = a - f8_value(lo), up = f8_value(hi) - a;
    best = down < up || (!(up < down) && !(lo & 1)) ? lo : hi;
    return (uint8_t)(sign | best);
}

static float absmax(const float *x, size_t n) {
    float m = 0;
    for (size_t i = 0; i < n; i++)
        m = fabsf(x[i]) > m ? fabsf(x[i]) : m;
    return m;
}

/* 4-bit codes of 32 elements: j low, j + 16 high. */
static void put4(uint8_t *p, const uint8_t *code) {
    for (int j = 0; j < 16; j++)
        p[j] = (uint8_t)(code[j] | code[j + 16] << 4);
}

static void row_q4(uint8_t *w, uint16_t *s, const float *x, size_t k) {
    for (size_t b = 0; b < k / 32; b++, x += 32, w += 16, s += 2) {
        float lo = x[0], hi = x[0];
        for (int i = 1; i < 32; i++) {
            lo = x[i] < lo ? x[i] : lo;
            hi = x[i] > hi ? x[i] : hi;
        }
        s[0] = arith_to_half((hi - lo) / 15);
        s[1] = arith_to_half(lo);
        float d = arith_half(s[0]), m = arith_half(s[1]);
        uint8_t code[32];
        for (int i = 0; i < 32; i++) {
            float q = d > 0 ? rintf((x[i] - m) / d) : 0;
            code[i] = (uint8_t)(q < 0 ? 0 : q > 15 ? 15 : q);
        }
        put4(w, code);
    }
}
static void row_nf4(uint8_t *w, uint16_t *s, const float *x, size_t k) {
    for (size_t b = 0; b < k / 64; b++, x += 64, s++) {
        *s = arith_to_half(absmax(x, 64));
        float d = arith_half(*s);
        for (int half = 0; half < 2; half++, w += 16) {
            uint8_t code[32];
            for (int i = 0; i < 32; i++) {
                float v = d > 0 ? x[32 * half + i] / d : 0;
                code[i] = 0;
                for (uint8_t c = 1; c < 16; c++)
                    if (fabsf(v - nf4[c]) < fabsf(v - nf4[code[i]]))
                        code[i] = c;
            }
            put4(w, code);
        }
    }
}

void fast_quantise(void *w, void *scale, enum fast_type type, size_t n, size_t k, const float *src) {
    for (size_t r = 0; r < n; r++, src += k) {
        if (type == FAST_BF16)
            for (size_t i = 0; i < k; i++)
                ((uint16_t *)w)[r * k + i] = arith_to_bf16(src[i]);
        if (type == FAST_F8) {
            float s = absmax(src, k) / 448.0f;
            ((float *)scale)[r] = s;
            for (size_t i = 0; i < k; i++)
                ((uint8_t *)w)[r * k + i] = to_f8(s > 0 ? src[i] / s : 0);
        }
        if (type == FAST_Q8)
            for (size_t b = 0; b < k / 32; b++) {
                uint16_t s = arith_to_half(absmax(src + 32 * b, 32) / 127.0f);
                float d = arith_half(s);
                ((uint16_t *)scale)[r * (k / 32) + b] = s;
                for (size_t i = 0; i < 32; i++)
                    ((int8_t *)w)[r * k + 32 * b + i] = (int8_t)(d > 0 ? arith_q8(src[32 * b + i], d) : 0);
            }
        if (type == FAST_Q4)
            row_q4((uint8_t *)w + r * k / 2, (uint16_t *)scale + r * (k / 32) * 2, src, k);
        if (type == FAST_NF4)
            row_nf4((uint8_t *)w + r * k / 2, (uint16_t *)scale + r * (k / 64), src, k);
    }
}

void fast_dequantise(float *out, enum fast_type type, size_t n, size_t k, const void *w, const void *scale) {
    const uint8_t *p = w;
    const uint16_t *s = scale;
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < k; i++) {
            size_t at = r * k + i, code = r * k / 2 + i / 32 * 16 + i % 16;
            float *o = out + at;
            switch (type) {
            case FAST_BF16: *o = arith_bf16(((const uint16_t *)w)[at]); break;
            case FAST_F8: *o = f8_value(p[at]) * ((const float *)scale)[r]; break;
            case FAST_Q8: *o = arith_half(s[at / 32]) * (float)((const int8_t *)w)[at]; break;
            case FAST_Q4: *o = arith_half(s[at / 32 * 2]) * (float)(p[code] >> (i % 32 / 16 * 4) & 15) + arith_half(s[at / 32 * 2 + 1]); break;
            case FAST_NF4: *o = arith_half(s[at / 64]) * nf4[p[code] >> (i % 32 / 16 * 4) & 15]; break;
            }
        }
}
