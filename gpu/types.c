/* Number formats of weights: the file's blocks, what they mean, and the packed form. Block formats as GGUF defines them
 * (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and the block structures of ggml-common.h). */
#include "gpu/arith.h"
#include "gpu/ops.h"
#include "gpu/pack.h"

#include "base/banned.h"

static const struct {
    uint32_t type;
    const char *name;
    uint32_t elems, bytes;
    struct pack_layout layout;
} types[] = {
    {GPU_F32, "F32", 1, 4, {PACK_PLAIN, 0, 0, 0, 4, 0}},
    {GPU_F16, "F16", 1, 2, {PACK_PLAIN, 0, 0, 0, 2, 0}},
    {GPU_BF16, "BF16", 1, 2, {PACK_PLAIN, 0, 0, 0, 2, 0}},
    {GPU_Q4_0, "Q4_0", 32, 18, {PACK_U4, PACK_H1, 32, 256, 0, 8}},
    {GPU_Q4_1, "Q4_1", 32, 20, {PACK_U4, PACK_H2, 64, 256, 0, 0}},
    {GPU_Q5_0, "Q5_0", 32, 22, {PACK_S8, PACK_H1, 32, 512, 0, 0}},
    {GPU_Q5_1, "Q5_1", 32, 24, {PACK_S8, PACK_H2, 64, 512, 0, 0}},
    {GPU_Q8_0, "Q8_0", 32, 34, {PACK_S8, PACK_H1, 32, 512, 0, 0}},
    {GPU_Q4_K, "Q4_K", 256, 144, {PACK_U4, PACK_F2, 128, 256, 0, 0}},
    {GPU_Q5_K, "Q5_K", 256, 176, {PACK_S8, PACK_F2, 128, 512, 0, 0}},
    {GPU_Q6_K, "Q6_K", 256, 210, {PACK_S8, PACK_HS, 64, 512, 0, 0}},
};
#define N_TYPES (sizeof types / sizeof types[0])

static int find(uint32_t type) {
    for (size_t i = 0; i < N_TYPES; i++)
        if (types[i].type == type)
            return (int)i;
    return -1;
}

const char *gpu_type_name(uint32_t type) {
    int i = find(type);
    return i < 0 ? NULL : types[i].name;
}
uint32_t gpu_type_elems(uint32_t type) {
    int i = find(type);
    return i < 0 ? 0 : types[i].elems;
}
uint32_t gpu_type_bytes(uint32_t type) {
    int i = find(type);
    return i < 0 ? 0 : types[i].bytes;
}
size_t gpu_row_bytes(uint32_t type, size_t k) {
    int i = find(type);
    return i < 0 || k % types[i].elems || k > (size_t)1 << 32 ? 0 : k / types[i].elems * types[i].bytes;
}
bool gpu_type_quantised(uint32_t type) {
    int i = find(type);
    return i >= 0 && types[i].layout.code != PACK_PLAIN;
}
const struct pack_layout *pack_layout(uint32_t type) {
    int i = find(type);
    return i < 0 ? NULL : &types[i].layout;
}

static uint16_t get16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

/* Scale and minimum j (6 bits each) of the 12 bytes that Q4_K and Q5_K share. */
static void k_scale(const uint8_t *s, int j, int *sc, int *mn) {
    if (j < 4) {
        *sc = s[j] & 63;
        *mn = s[j + 4] & 63;
    } else {
        *sc = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        *mn = s[j + 4] >> 4 | (s[j] >> 6) << 4;
    }
}

/* What a block of 32 looks like in every quantised format: codes as packed, and the scales' sources. */
struct raw32 {
    int q[32];     /* as stored in the packed form (Q4_0: 0..15) */
    uint16_t d, m; /* fp16 */
    float fd, fm;  /* F2 */
    int sc[2];
};

/* block: number of 32 elements from the row's start. */
static void raw_get(struct raw32 *r, uint32_t type, const uint8_t *row, size_t block) {
    r->m = 0;
    r->sc[0] = r->sc[1] = 1;
    r->fd = r->fm = 0;
    switch (type) {
    case GPU_Q4_0:
    case GPU_Q4_1: {
        const uint8_t *p = row + block * (type == GPU_Q4_0 ? 18 : 20);
        r->d = get16(p);
        p += 2;
        if (type == GPU_Q4_1) {
            r->m = get16(p);
            p += 2;
        }
        for (int i = 0; i < 16; i++) {
            r->q[i] = p[i] & 15;
            r->q[i + 16] = p[i] >> 4;
        }
        break;
    }
    case GPU_Q5_0:
    case GPU_Q5_1: {
        const uint8_t *p = row + block * (type == GPU_Q5_0 ? 22 : 24);
        r->d = get16(p);
        p += 2;
        if (type == GPU_Q5_1) {
            r->m = get16(p);
            p += 2;
        }
        uint32_t h = (uint32_t)get16(p) | (uint32_t)get16(p + 2) << 16;
        int z = type == GPU_Q5_0 ? 16 : 0;
        for (int i = 0; i < 16; i++) {
            r->q[i] = (int)((p[4 + i] & 15) | (h >> i & 1) << 4) - z;
            r->q[i + 16] = (int)(p[4 + i] >> 4 | (h >> (i + 16) & 1) << 4) - z;
        }
        break;
    }
    case GPU_Q8_0: {
        const uint8_t *p = row + block * 34;
        r->d = get16(p);
        for (int i = 0; i < 32; i++)
            r->q[i] = (int8_t)p[2 + i];
        break;
    }
    case GPU_Q4_K:
    case GPU_Q5_K: {
        const uint8_t *p = row + block / 8 * (type == GPU_Q4_K ? 144 : 176);
        int j = (int)(block % 8), sc, mn;
        k_scale(p + 4, j, &sc, &mn);
        r->d = get16(p);
        r->m = get16(p + 2);
        r->fd = arith_half(r->d) * (float)sc;
        r->fm = -(arith_half(r->m) * (float)mn);
        const uint8_t *qs = p + (type == GPU_Q4_K ? 16 : 48) + j / 2 * 32;
        for (int i = 0; i < 32; i++) {
            r->q[i] = j & 1 ? qs[i] >> 4 : qs[i] & 15;
            if (type == GPU_Q5_K)
                r->q[i] |= (p[16 + i] >> j & 1) << 4;
        }
        break;
    }
    default: { /* GPU_Q6_K */
        const uint8_t *p = row + block / 8 * 210;
        int j = (int)(block % 8), half = j / 4, part = j % 4;
        const uint8_t *ql = p + half * 64 + (part & 1) * 32, *qh = p + 128 + half * 32;
        for (int i = 0; i < 32; i++)
            r->q[i] = (int)((part >= 2 ? ql[i] >> 4 : ql[i] & 15) | (qh[i] >> 2 * part & 3) << 4) - 32;
        const uint8_t *sc = p + 192 + half * 8 + part * 2;
        r->sc[0] = (int8_t)sc[0];
        r->sc[1] = (int8_t)sc[1];
        r->d = get16(p + 208);
        break;
    }
    }
}

static float value(const struct pack_layout *l, int q, float d, float m, int sc) {
    switch (l->scale) {
    case PACK_H1: return d * (float)q;
    case PACK_HS: return d * (float)sc * (float)q;
    default: return arith_fma(d, (float)q, m);
    }
}

void gpu_dequant(float *out, uint32_t type, const void *src, size_t n) {
    const uint8_t *p = src;
    const struct pack_layout *l = pack_layout(type);
    if (!l)
        return;
    if (type == GPU_F32) {
        memcpy(out, src, n * 4);
    } else if (type == GPU_F16) {
        for (size_t i = 0; i < n; i++)
            out[i] = arith_half(get16(p + 2 * i));
    } else if (type == GPU_BF16) {
        for (size_t i = 0; i < n; i++)
            out[i] = arith_bf16(get16(p + 2 * i));
    } else {
        for (size_t b = 0; b < n / 32; b++) {
            struct raw32 r;
            raw_get(&r, type, p, b);
            float d = l->scale == PACK_F2 ? r.fd : arith_half(r.d), m = l->scale == PACK_F2 ? r.fm : arith_half(r.m);
            for (int i = 0; i < 32; i++)
                out[32 * b + (size_t)i] = value(l, r.q[i] - l->zero, d, m, r.sc[i / 16]);
        }
    }
}

enum loam_status gpu_quantise(void *dst, uint32_t type, const float *src, size_t n, struct err *err) {
    uint8_t *p = dst;
    int t = find(type);
    if (t < 0 || n % types[t].elems)
        return err_set(err, LOAM_EINVAL, "cannot write %zu elements as type %u", n, type);
    for (size_t i = 0; i < n; i++)
        if (!arith_finite(src[i]))
            return err_set(err, LOAM_ENONFINITE, "element %zu is not finite", i);
    if (type == GPU_F32) {
        memcpy(dst, src, n * 4);
        return LOAM_OK;
    }
    if (type == GPU_F16 || type == GPU_BF16) {
        for (size_t i = 0; i < n; i++) {
            uint16_t h = type == GPU_F16 ? arith_to_half(src[i]) : arith_to_bf16(src[i]);
            memcpy(p + 2 * i, &h, 2);
        }
        return LOAM_OK;
    }
    if (types[t].elems != 32)
        return err_set(err, LOAM_EUNSUPPORTED, "writing %s is not supported (reading is)", types[t].name);
    for (size_t b = 0; b < n / 32; b++, src += 32, p += types[t].bytes) {
        float lo = src[0], hi = src[0], big = src[0];
        for (int i = 0; i < 32; i++) {
            lo = src[i] < lo ? src[i] : lo;
            hi = src[i] > hi ? src[i] : hi;
            big = fabsf(src[i]) > fabsf(big) ? src[i] : big;
        }
        int levels, zero = 0, at = 2, q[32];
        float d, m = 0;
        switch (type) {
        case GPU_Q8_0: levels = 127; d = fabsf(big) / 127.0f; break;
        case GPU_Q4_0: levels = 15; zero = 8; d = big / -8.0f; break;
        case GPU_Q5_0: levels = 31; zero = 16; d = big / -16.0f; break;
        case GPU_Q4_1: levels = 15; d = (hi - lo) / 15.0f; m = lo; break;
        default: levels = 31; d = (hi - lo) / 31.0f; m = lo; break;
        }
        uint16_t hd = arith_to_half(d), hm = arith_to_half(m);
        memcpy(p, &hd, 2);
        if (type == GPU_Q4_1 || type == GPU_Q5_1) {
            memcpy(p + 2, &hm, 2);
            at = 4;
            m = arith_half(hm);
        }
        d = arith_half(hd); /* codes fit the stored scale */
        for (int i = 0; i < 32; i++) {
            float v = d != 0 ? rintf((src[i] - m) / d) + (float)zero : (float)zero;
            float low = type == GPU_Q8_0 ? -127.0f : 0.0f;
            q[i] = (int)(v < low ? low : v > (float)levels ? (float)levels : v);
        }
        if (type == GPU_Q8_0) {
            for (int i = 0; i < 32; i++)
                p[2 + i] = (uint8_t)(int8_t)q[i];
            continue;
        }
        if (levels == 31) {
            uint32_t h = 0;
            for (int i = 0; i < 32; i++)
                h |= (uint32_t)(q[i] >> 4) << i;
            memcpy(p + at, &h, 4);
            at += 4;
        }
        for (int i = 0; i < 16; i++)
            p[at + i] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
    }
    return LOAM_OK;
}

/* ---------------------------------------------------------------- packing */

#define PACK_MAX ((size_t)1 << 40) /* bytes of one matrix */

size_t gpu_pack_bytes(uint32_t type, size_t n, size_t k) {
    const struct pack_layout *l = pack_layout(type);
    if (!l || !n || !k || !gpu_row_bytes(type, k) || n >> 32 || k >> 32)
        return 0;
    size_t groups = (n + 15) / 16, bytes = pack_group_bytes(l, k);
    return bytes > PACK_MAX / groups ? 0 : groups * bytes;
}

static bool half_finite(uint16_t h) {
    return (h & 0x7c00) != 0x7c00;
}

static uint32_t word_at(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* The formats that real files are full of, a row's block by whole words (packing is most of a model's start-up). d, m and
 * codes point at this row's place in the packed block. Returns false where a scale is not finite. */
static bool pack_words(uint8_t *d, uint8_t *m, uint8_t *codes, uint32_t type, const uint8_t *p) {
    memcpy(d, p, 2);
    bool good = half_finite(get16(p));
    p += 2;
    if (type == GPU_Q8_0) {
        for (int g = 0; g < 8; g++)
            memcpy(codes + 64 * g, p + 4 * g, 4);
        return good;
    }
    if (type == GPU_Q4_1) {
        memcpy(m, p, 2);
        good &= half_finite(get16(p));
        p += 2;
    }
    for (int j = 0; j < 4; j++) { /* low nibbles are k 0..15, high ones 16..31 */
        uint32_t a = word_at(p + 8 * (j & 1)), b = word_at(p + 8 * (j & 1) + 4);
        uint32_t v = j < 2 ? (a & 0x0f0f0f0fu) | (b & 0x0f0f0f0fu) << 4 : (a >> 4 & 0x0f0f0f0fu) | (b & 0xf0f0f0f0u);
        memcpy(codes + 64 * j, &v, 4);
    }
    return good;
}

enum loam_status gpu_pack(void *packed, uint32_t type, size_t n, size_t k, const void *src, struct err *err) {
    const struct pack_layout *l = pack_layout(type);
    size_t total = gpu_pack_bytes(type, n, k), row_bytes = gpu_row_bytes(type, k);
    if (!total)
        return err_set(err, LOAM_EINVAL, "a matrix of %zu x %zu cannot have type %u", n, k, type);
    if (l->code == PACK_PLAIN || gpu_type_elems(type) != 32 || type == GPU_Q5_0 || type == GPU_Q5_1) {
        memset(packed, 0, total);
    } else { /* all else is written below */
        size_t group = pack_group_bytes(l, k), used = k / 32 * l->scale_bytes;
        for (size_t g = 0; g < n / 16; g++)
            memset((uint8_t *)packed + g * group + used, 0, pack_scales_bytes(l, k) - used);
        if (n % 16)
            memset((uint8_t *)packed + n / 16 * group, 0, group);
    }
    for (size_t row = 0; row < n; row++) {
        const uint8_t *s = (const uint8_t *)src + row * row_bytes;
        uint8_t *g = (uint8_t *)packed + row / 16 * pack_group_bytes(l, k);
        size_t lane = row % 16;
        if (l->code == PACK_PLAIN) {
            for (size_t i = 0; i < k; i++) {
                float f;
                gpu_dequant(&f, type, s + i * l->elem, 1);
                if (!arith_finite(f))
                    return err_set(err, LOAM_ENONFINITE, "row %zu, column %zu is not finite", row, i);
                memcpy(g + (i * 16 + lane) * l->elem, s + i * l->elem, l->elem);
            }
            continue;
        }
        uint8_t *codes = g + pack_scales_bytes(l, k);
        if (type == GPU_Q4_0 || type == GPU_Q4_1 || type == GPU_Q8_0) {
            const size_t block = gpu_type_bytes(type);
            for (size_t b = 0; b < k / 32; b++) {
                uint8_t *sc = g + b * l->scale_bytes + 2 * lane;
                if (!pack_words(sc, sc + 32, codes + b * l->code_bytes + 4 * lane, type, s + b * block))
                    return err_set(err, LOAM_ENONFINITE, "row %zu, block %zu has a scale that is not finite", row, b);
            }
            continue;
        }
        for (size_t b = 0; b < k / 32; b++) {
            struct raw32 r;
            raw_get(&r, type, s, b);
            if (!half_finite(r.d) || !half_finite(r.m))
                return err_set(err, LOAM_ENONFINITE, "row %zu, block %zu has a scale that is not finite", row, b);
            uint8_t *sc = g + b * l->scale_bytes, *c = codes + b * l->code_bytes;
            if (l->scale == PACK_F2) {
                memcpy(sc + 4 * lane, &r.fd, 4);
                memcpy(sc + 64 + 4 * lane, &r.fm, 4);
            } else {
                memcpy(sc + 2 * lane, &r.d, 2);
                if (l->scale == PACK_H2)
                    memcpy(sc + 32 + 2 * lane, &r.m, 2);
                if (l->scale == PACK_HS) {
                    sc[32 + lane] = (uint8_t)(int8_t)r.sc[0];
                    sc[48 + lane] = (uint8_t)(int8_t)r.sc[1];
                }
            }
            for (int i = 0; i < 32; i++) {
                if (l->code == PACK_S8)
                    c[(size_t)(i / 4) * 64 + lane * 4 + (size_t)(i % 4)] = (uint8_t)(int8_t)r.q[i];
                else
                    c[(size_t)(i / 8) * 64 + lane * 4 + (size_t)(i % 4)] |= (uint8_t)(r.q[i] << (i & 4));
            }
        }
    }
    return LOAM_OK;
}

void pack_block(struct pack_block *out, const struct gpu_weight *w, size_t row, size_t b) {
    const struct pack_layout *l = pack_layout(w->type);
    const uint8_t *g = (const uint8_t *)w->packed + row / 16 * pack_group_bytes(l, w->k);
    const uint8_t *sc = g + b * l->scale_bytes, *c = g + pack_scales_bytes(l, w->k) + b * l->code_bytes;
    size_t lane = row % 16;
    out->sc[0] = out->sc[1] = 1;
    out->m = 0;
    out->has_m = l->scale == PACK_H2 || l->scale == PACK_F2;
    if (l->scale == PACK_F2) {
        memcpy(&out->d, sc + 4 * lane, 4);
        memcpy(&out->m, sc + 64 + 4 * lane, 4);
    } else {
        out->d = arith_half(get16(sc + 2 * lane));
        if (l->scale == PACK_H2)
            out->m = arith_half(get16(sc + 32 + 2 * lane));
        if (l->scale == PACK_HS) {
            out->sc[0] = (int8_t)sc[32 + lane];
            out->sc[1] = (int8_t)sc[48 + lane];
        }
    }
    for (int i = 0; i < 32; i++)
        if (l->code == PACK_S8)
            out->q[i] = (int8_t)c[(size_t)(i / 4) * 64 + lane * 4 + (size_t)(i % 4)];
        else
            out->q[i] = (c[(size_t)(i / 8) * 64 + lane * 4 + (size_t)(i % 4)] >> (i & 4) & 15) - l->zero;
}

void pack_row(float *out, const struct gpu_weight *w, size_t row) {
    const struct pack_layout *l = pack_layout(w->type);
    if (l->code == PACK_PLAIN) {
        const uint8_t *g = (const uint8_t *)w->packed + row / 16 * pack_group_bytes(l, w->k) + row % 16 * l->elem;
        for (size_t i = 0; i < w->k; i++)
            gpu_dequant(out + i, w->type, g + i * 16 * l->elem, 1);
        return;
    }
    for (size_t b = 0; b < w->k / 32; b++) {
        struct pack_block k;
        pack_block(&k, w, row, b);
        for (int i = 0; i < 32; i++)
            out[32 * b + (size_t)i] = value(l, k.q[i], k.d, k.m, k.sc[i / 16]);
    }
}

void gpu_lora_pack(float *at, float *bt, const float *a, const float *b, size_t r, size_t n, size_t k) {
    size_t rp = gpu_lora_pad(r), np = gpu_lora_pad(n);
    memset(at, 0, k * rp * 4);
    memset(bt, 0, r * np * 4);
    for (size_t i = 0; i < r; i++)
        for (size_t j = 0; j < k; j++)
            at[j * rp + i] = a[i * k + j];
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < r; j++)
            bt[j * np + i] = b[i * r + j];
}

/* ---------------------------------------------------------------- tables of the host, fp64 */

void gpu_rope_freqs(double *inv_freq, uint32_t d_rot, double base) {
    for (uint32_t i = 0; i < d_rot / 2; i++)
        inv_freq[i] = arith_pow64(base, -(double)(2 * i) / (double)d_rot);
}

void gpu_rope_table(float *cos_table, float *sin_table, uint32_t n, uint32_t d_rot, const double *inv_freq) {
    uint32_t h = d_rot / 2;
    for (uint32_t p = 0; p < n; p++)
        for (uint32_t i = 0; i < h; i++) {
            double s, c;
            arith_sincos64((double)p * inv_freq[i], &s, &c);
            cos_table[(size_t)p * h + i] = (float)c;
            sin_table[(size_t)p * h + i] = (float)s;
        }
}

void gpu_adamw_correct(struct gpu_adamw *how, uint64_t step) {
    how->correct1 = (float)(1.0 - arith_pow64((double)how->beta1, (double)step));
    how->correct2 = (float)(1.0 - arith_pow64((double)how->beta2, (double)step));
}
