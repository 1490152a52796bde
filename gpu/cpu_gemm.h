/* fp32 products: an outer-product micro-kernel in which every element of C is one fma chain over k, ascending. Part of
 * cpu_body.h.
 *
 * A is packed once for the whole product into panels [k][MR] (shared by the threads), B into one panel [k][NR] at a time in
 * the thread's own cache; for weights that is where they are dequantised, each element once. C's accumulators stay in
 * registers over all of k (or a block of k: then they are stored as fp32 and continued, which changes nothing). */

#if defined(SIMD_AVX512)
#define MR 12
#define NR 32
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#elif defined(SIMD_AVX2) || defined(SIMD_NEON)
#define MR 6
#define NR 16
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5)
#else
#define MR 4
#define NR 16
#define EACH_ROW(X) X(0) X(1) X(2) X(3)
#endif
#define KC 2048 /* longest k that one B panel holds where the epilogue allows to stop in between */

INL vf plain_load(const uint8_t *p, uint32_t type) {
    if (type == GPU_F16)
        return vf_half((const uint16_t *)(const void *)p);
    if (type == GPU_BF16)
        return vf_bf16((const uint16_t *)(const void *)p);
    return vf_load((const float *)(const void *)p);
}

/* One tile: mr rows (a constant), both or the first of the two vectors of columns. A's element (i, p) is a[i * a_i + p * a_p]; c holds
 * NR floats a row, ldc apart; load: the chain starts at c. (Registers are named one by one: gcc 12 spills an array of them.) */
INL void micro(const int mr, const int nv, const int load, size_t k, const float *a, size_t a_i, size_t a_p, const float *b, float *c,
               size_t ldc) {
#define DECL(i)                                                                                                       \
    const float *a##i = a + (i < mr ? i : 0) * a_i;                                                                   \
    vf u##i = vf_zero(), v##i = vf_zero();                                                                            \
    if (load && i < mr) {                                                                                             \
        u##i = vf_load(c + i * ldc);                                                                                  \
        if (nv > 1)                                                                                                   \
            v##i = vf_load(c + i * ldc + W);                                                                          \
    }
    EACH_ROW(DECL)
#undef DECL
    for (size_t p = 0; p < k * a_p; p += a_p, b += NR) {
        vf x = vf_load(b), y = nv > 1 ? vf_load(b + W) : vf_zero();
#define STEP(i)                                                                                                       \
    if (i < mr) {                                                                                                     \
        vf s = vf_set(a##i[p]);                                                                                       \
        u##i = vf_fma(s, x, u##i);                                                                                    \
        if (nv > 1)                                                                                                   \
            v##i = vf_fma(s, y, v##i);                                                                                \
    }
        EACH_ROW(STEP)
#undef STEP
    }
#define SAVE(i)                                                                                                       \
    if (i < mr) {                                                                                                     \
        vf_store(c + i * ldc, u##i);                                                                                  \
        if (nv > 1)                                                                                                   \
            vf_store(c + i * ldc + W, v##i);                                                                          \
    }
    EACH_ROW(SAVE)
#undef SAVE
}

/* One function a count of rows, so that the last panel does not compute padding; for A in panels, whose steps are constants, and for A
 * where it stands: where B is one panel, each element of A is met once, and packing it would cost as much as the product. */
#define MICRO_OF(name, i, a_i, a_p)                                                                                   \
    static void name##_##i(int nv, int load, size_t k, const float *a, size_t step_i, size_t step_p, const float *b,  \
                           float *c, size_t ldc) {                                                                    \
        (void)step_i, (void)step_p;                                                                                   \
        if (nv > 1) {                                                                                                 \
            if (load)                                                                                                 \
                micro(i + 1, 2, 1, k, a, a_i, a_p, b, c, ldc);                                                        \
            else                                                                                                      \
                micro(i + 1, 2, 0, k, a, a_i, a_p, b, c, ldc);                                                        \
        } else if (load) {                                                                                            \
            micro(i + 1, 1, 1, k, a, a_i, a_p, b, c, ldc);                                                            \
        } else {                                                                                                      \
            micro(i + 1, 1, 0, k, a, a_i, a_p, b, c, ldc);                                                            \
        }                                                                                                             \
    }
#define MICRO(i) MICRO_OF(micro_packed, i, 1, MR) MICRO_OF(micro_there, i, step_i, step_p)
EACH_ROW(MICRO)
#undef MICRO
#undef MICRO_OF
#define PACKED(i) micro_packed_##i,
#define THERE(i) micro_there_##i,
static void (*const micros[2][MR])(int nv, int load, size_t k, const float *a, size_t a_i, size_t a_p, const float *b, float *c,
                                   size_t ldc) = {{EACH_ROW(PACKED)}, {EACH_ROW(THERE)}}; /* [A where it stands][rows - 1] */
#undef PACKED
#undef THERE

/* The same tile with B read straight from two columns of a packed plain weight (16 rows apart k): for few rows of A the panel
 * would cost more than it saves. type is a constant. */
INL void micro_plain(const int mr, const uint32_t type, const size_t elem, size_t k, const float *a, const uint8_t *bx,
                     const uint8_t *by, float *c, size_t ldc) {
#define DECL(i) vf u##i = vf_zero(), v##i = vf_zero();
    EACH_ROW(DECL)
#undef DECL
    for (size_t p = 0; p < k; p++, a += MR, bx += 16 * elem, by += 16 * elem) {
        vf x = plain_load(bx, type), y = plain_load(by, type);
#define STEP(i)                                                                                                       \
    if (i < mr) {                                                                                                     \
        vf s = vf_set(a[i]);                                                                                          \
        u##i = vf_fma(s, x, u##i);                                                                                    \
        v##i = vf_fma(s, y, v##i);                                                                                    \
    }
        EACH_ROW(STEP)
#undef STEP
    }
#define SAVE(i)                                                                                                       \
    if (i < mr) {                                                                                                     \
        vf_store(c + i * ldc, u##i);                                                                                  \
        vf_store(c + i * ldc + W, v##i);                                                                              \
    }
    EACH_ROW(SAVE)
#undef SAVE
}
#define MICRO(i)                                                                                                      \
    static void micro_plain_##i(uint32_t type, size_t k, const float *a, const uint8_t *bx, const uint8_t *by,        \
                                float *c, size_t ldc) {                                                               \
        if (type == GPU_F16)                                                                                          \
            micro_plain(i + 1, GPU_F16, 2, k, a, bx, by, c, ldc);                                                     \
        else if (type == GPU_BF16)                                                                                    \
            micro_plain(i + 1, GPU_BF16, 2, k, a, bx, by, c, ldc);                                                    \
        else                                                                                                          \
            micro_plain(i + 1, GPU_F32, 4, k, a, bx, by, c, ldc);                                                     \
    }
EACH_ROW(MICRO)
#undef MICRO
#define NAME(i) micro_plain_##i,
static void (*const micros_plain[MR])(uint32_t type, size_t k, const float *a, const uint8_t *bx, const uint8_t *by, float *c,
                                      size_t ldc) = {EACH_ROW(NAME)};
#undef NAME
#define PLAIN_ROWS (4 * MR) /* most rows of A for which it is used */

/* dst[j * ldd + i] = src[i * lds + j], i and j below 8, j ascending; rows of src from n on are zeros. */
#if defined(SIMD_AVX2) || defined(SIMD_AVX512)
INL void transpose8(float *dst, size_t ldd, const float *src, size_t lds, size_t n) {
    /* Registers named one by one: gcc takes an array of them through memory. */
#define ROW(i) __m256 r##i = i < n ? _mm256_loadu_ps(src + i * lds) : _mm256_setzero_ps()
    ROW(0); ROW(1); ROW(2); ROW(3); ROW(4); ROW(5); ROW(6); ROW(7);
#undef ROW
#define PAIR(i, j) __m256 l##i = _mm256_unpacklo_ps(r##i, r##j), h##i = _mm256_unpackhi_ps(r##i, r##j)
    PAIR(0, 1); PAIR(2, 3); PAIR(4, 5); PAIR(6, 7);
#undef PAIR
    /* columns j and j + 4 of rows 0 .. 3 and of rows 4 .. 7 */
#define COLUMN(j, x, imm) __m256 a##j = _mm256_shuffle_ps(x##0, x##2, imm), b##j = _mm256_shuffle_ps(x##4, x##6, imm)
    COLUMN(0, l, 0x44); COLUMN(1, l, 0xee); COLUMN(2, h, 0x44); COLUMN(3, h, 0xee);
#undef COLUMN
#define SAVE(j, at, half) _mm256_storeu_ps(dst + (at) * ldd, _mm256_permute2f128_ps(a##j, b##j, half))
    SAVE(0, 0, 0x20); SAVE(1, 1, 0x20); SAVE(2, 2, 0x20); SAVE(3, 3, 0x20);
    SAVE(0, 4, 0x31); SAVE(1, 5, 0x31); SAVE(2, 6, 0x31); SAVE(3, 7, 0x31);
#undef SAVE
}
#else
INL void transpose8(float *dst, size_t ldd, const float *src, size_t lds, size_t n) {
    for (size_t j = 0; j < 8; j++)
        for (size_t i = 0; i < 8; i++)
            dst[j * ldd + i] = i < n ? src[i * lds + j] : 0.0f;
}
#endif

/* Where B's panels come from. */
struct b_source {
    const struct gpu_weight *w; /* columns are w's rows (by_k false) or its k (by_k true); NULL: plain fp32 */
    bool by_k;
    const float *b;
    size_t b_p, b_j;
};

/* Values k0 .. k1 - 1 (multiples of 8) of one block of 16 rows x 32 k, dequantised: out[(k - k0) * ld + row]. */
INL void dequant_block(float *out, size_t ld, const struct pack_layout *l, const uint8_t *sc, const uint8_t *codes, int k0, int k1) {
    for (int at = 0; at < 16; at += W) {
        vf d, m = vf_zero(), d1 = vf_zero();
        switch (l->scale) {
        case PACK_F2:
            d = vf_load((const float *)(const void *)sc + at);
            m = vf_load((const float *)(const void *)sc + 16 + at);
            break;
        case PACK_H2:
            d = vf_half((const uint16_t *)(const void *)sc + at);
            m = vf_half((const uint16_t *)(const void *)sc + 16 + at);
            break;
        case PACK_HS:
            d = vf_half((const uint16_t *)(const void *)sc + at);
            d1 = vf_mul(d, vf_of(vi_i8((const int8_t *)sc + 48 + at)));
            d = vf_mul(d, vf_of(vi_i8((const int8_t *)sc + 32 + at)));
            break;
        default: d = vf_half((const uint16_t *)(const void *)sc + at); break;
        }
        bool has_m = l->scale == PACK_H2 || l->scale == PACK_F2;
        if (l->code == PACK_U4) {
            for (int j = k0 / 8; j < k1 / 8; j++) {
                vi v = vi_load(codes + 64 * j + 4 * at);
#pragma GCC unroll 8
                for (int b = 0; b < 8; b++) { /* nibble b & 1 of byte b >> 1 */
                    vi q = vi_sub(vi_and(vi_shr(v, 4 * b), vi_set(15)), vi_set(l->zero));
                    vf x = has_m ? vf_fma(d, vf_of(q), m) : vf_mul(d, vf_of(q));
                    vf_store(out + (size_t)(8 * j - k0 + 4 * (b & 1) + b / 2) * ld + at, x);
                }
            }
        } else {
            for (int g = k0 / 4; g < k1 / 4; g++) {
                vi v = vi_load(codes + 64 * g + 4 * at);
                vf ds = l->scale == PACK_HS && g >= 4 ? d1 : d;
#pragma GCC unroll 4
                for (int b = 0; b < 4; b++) {
                    vi q = vi_sar(vi_shl(v, 24 - 8 * b), 24);
                    vf x = has_m ? vf_fma(ds, vf_of(q), m) : vf_mul(ds, vf_of(q));
                    vf_store(out + (size_t)(4 * g - k0 + b) * ld + at, x);
                }
            }
        }
    }
}

/* dst [p1 - p0][NR]: columns j0 .. j0 + jn - 1 of B, rows p0 .. p1 - 1; the rest of the NR columns gets finite values. */
static void fill_panel(const struct b_source *s, float *dst, size_t j0, size_t jn, size_t p0, size_t p1) {
    if (!s->w) {
        if (s->b_p == 1 && jn == NR) /* transposed */
            for (; p0 + 8 <= p1; p0 += 8, dst += 8 * NR)
                for (size_t j = 0; j < NR; j += 8)
                    transpose8(dst + j, NR, s->b + p0 + (j0 + j) * s->b_j, s->b_j, 8);
        for (size_t p = p0; p < p1; p++, dst += NR) {
            const float *b = s->b + p * s->b_p + j0 * s->b_j;
            if (s->b_j == 1 && jn == NR) {
                memcpy(dst, b, NR * sizeof *dst);
                continue;
            }
            for (size_t j = 0; j < jn; j++)
                dst[j] = b[j * s->b_j];
            for (size_t j = jn; j < NR; j++)
                dst[j] = 0.0f;
        }
        return;
    }
    const struct gpu_weight *w = s->w;
    const struct pack_layout *l = pack_layout(w->type);
    size_t group = pack_group_bytes(l, w->k), sc_bytes = l->code == PACK_PLAIN ? 0 : pack_scales_bytes(l, w->k);
    const uint8_t *base = w->packed;
    if (!s->by_k) { /* columns are rows of W: groups of 16 side by side. p0 is a multiple of 32 or the format is plain. */
        for (size_t off = 0; off < NR; off += 16) {
            if (off >= jn) {
                for (size_t p = 0; p < p1 - p0; p++)
                    memset(dst + p * NR + off, 0, 16 * sizeof *dst);
                continue;
            }
            const uint8_t *g = base + (j0 + off) / 16 * group;
            if (l->code == PACK_PLAIN) {
                for (size_t p = p0; p < p1; p++)
                    for (size_t at = 0; at < 16; at += W)
                        vf_store(dst + (p - p0) * NR + off + at, plain_load(g + (p * 16 + at) * l->elem, w->type));
            } else {
                for (size_t p = p0; p < p1; p += 32)
                    dequant_block(dst + (p - p0) * NR + off, NR, l, g + p / 32 * l->scale_bytes,
                                  g + sc_bytes + p / 32 * l->code_bytes, 0, 32);
            }
        }
        return;
    }
    /* columns are k of W, rows its rows: transposed through a tile in the first cache */
    _Alignas(64) float tile[32 * 16];
    for (size_t p = p0; p < p1;) {
        size_t lane = p % 16, n = 16 - lane < p1 - p ? 16 - lane : p1 - p;
        const uint8_t *g = base + p / 16 * group;
        size_t top = w->k - j0 < NR ? w->k - j0 : NR;
        const float *from = tile;
        if (w->type == GPU_F32 && top == NR) {
            from = (const float *)(const void *)g + j0 * 16;
        } else if (l->code == PACK_PLAIN) {
            for (size_t k = 0; k < top; k++)
                for (size_t at = 0; at < 16; at += W)
                    vf_store(tile + k * 16 + at, plain_load(g + ((j0 + k) * 16 + at) * l->elem, w->type));
            for (size_t k = top; k < NR; k++)
                memset(tile + k * 16, 0, 16 * sizeof *tile);
        } else { /* k is a multiple of 32, NR 16 or 32: within one block */
            int in = (int)(j0 % 32);
            dequant_block(tile, 16, l, g + j0 / 32 * l->scale_bytes, g + sc_bytes + j0 / 32 * l->code_bytes, in, in + NR);
        }
        float *to = dst + (p - p0) * NR;
        if (n == 16) {
            for (size_t i = 0; i < 16; i += 8)
                for (size_t k = 0; k < NR; k += 8)
                    transpose8(to + i * NR + k, NR, from + k * 16 + i, 16, 8);
        } else {
            for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < NR; k++)
                    to[i * NR + k] = from[k * 16 + lane + i];
        }
        p += n;
    }
}

/* Panel i of A: [k][MR], rows past m are zeros. */
static void pack_a(float *dst, const float *a, size_t a_i, size_t a_p, size_t m0, size_t m, size_t k) {
    size_t n = m - m0 < MR ? m - m0 : MR;
    a += m0 * a_i;
    if (n == MR && a_i == 1) {
        for (size_t p = 0; p < k; p++, dst += MR, a += a_p)
            memcpy(dst, a, MR * sizeof *dst);
        return;
    }
    if (n == MR && a_p == 1) {
#if defined(SIMD_AVX512)
        /* 16 columns at a time, transposed in registers. A store writes 16 lanes and the next overwrites the last 4: the
         * remaining columns below keep the last store within the panel. */
        for (; k > 16; k -= 16, a += 16, dst += 16 * MR) {
            __m512i r[16], t[16];
            for (int i = 0; i < 12; i++)
                r[i] = vi_load(a + (size_t)i * a_i);
            for (int i = 12; i < 16; i++)
                r[i] = _mm512_setzero_si512();
            for (int i = 0; i < 16; i += 2) {
                t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
                t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
            }
            for (int i = 0; i < 16; i += 4) {
                r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
                r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
                r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
                r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
            }
            for (int i = 0; i < 4; i++) { /* r[4 q + i]: rows 4 q .. 4 q + 3 of columns i, 4 + i, 8 + i, 12 + i */
                t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
                t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
                t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
                t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
            }
            for (int i = 0; i < 4; i++) { /* ascending columns */
                r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
                r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
                r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
                r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
            }
            for (int i = 0; i < 16; i++)
                _mm512_storeu_si512(dst + i * MR, r[i]);
        }
#endif
#if MR < 8
        /* The same with 8 columns: a store writes 8 lanes. */
        for (; k > 8; k -= 8, a += 8, dst += 8 * MR)
            transpose8(dst, MR, a, a_i, MR);
#endif
        for (size_t p = 0; p < k; p++, dst += MR, a++)
            for (size_t i = 0; i < MR; i++)
                dst[i] = a[i * a_i];
        return;
    }
    for (size_t p = 0; p < k; p++, dst += MR) {
        for (size_t i = 0; i < n; i++)
            dst[i] = a[i * a_i + p * a_p];
        for (size_t i = n; i < MR; i++)
            dst[i] = 0.0f;
    }
}

struct gemm_job {
    uint32_t m, n, k;
    const float *a;
    size_t a_i, a_p;
    struct b_source b;
    float *c;
    size_t c_i;
    enum gpu_epi epi;
    float alpha;
    float *pa;              /* A packed; NULL: it is read where it stands */
    uint32_t panels_m, split_m, kc;
    struct gpu_pool *pool;
};

static void gemm_pack_task(void *arg, uint32_t task, int thread) {
    struct gemm_job *j = arg;
    for (uint32_t i = task * 8; i < task * 8 + 8 && i < j->panels_m; i++)
        pack_a(j->pa + (size_t)i * MR * j->k, j->a, j->a_i, j->a_p, (size_t)i * MR, j->m, j->k);
}

/* acc (NR wide, MR rows) into C by the epilogue, which is a constant. */
INL void epilogue_of(const enum gpu_epi epi, float *c, size_t c_i, const float *acc, size_t rows, size_t cols, float alpha) {
    const vf va = vf_set(alpha);
    for (size_t i = 0; i < rows; i++, c += c_i, acc += NR) {
        size_t j = 0;
        for (; j + W <= cols; j += W) {
            vf x = vf_load(acc + j);
            vf_store(c + j, epi == GPU_CHAIN ? x : epi == GPU_SET ? vf_mul(va, x)
                            : epi == GPU_ADD ? vf_add(vf_load(c + j), vf_mul(va, x)) : vf_fma(va, x, vf_load(c + j)));
        }
        for (; j < cols; j++) {
            float x = acc[j];
            c[j] = epi == GPU_CHAIN ? x : epi == GPU_SET ? alpha * x : epi == GPU_ADD ? c[j] + alpha * x : arith_fma(alpha, x, c[j]);
        }
    }
}
static void epilogue(float *c, size_t c_i, const float *acc, size_t rows, size_t cols, enum gpu_epi epi, float alpha) {
    switch (epi) {
    case GPU_CHAIN: epilogue_of(GPU_CHAIN, c, c_i, acc, rows, cols, alpha); break;
    case GPU_SET: epilogue_of(GPU_SET, c, c_i, acc, rows, cols, alpha); break;
    case GPU_ADD: epilogue_of(GPU_ADD, c, c_i, acc, rows, cols, alpha); break;
    case GPU_FMA: epilogue_of(GPU_FMA, c, c_i, acc, rows, cols, alpha); break;
    }
}

/* What the panel of columns j0 will be filled from, in `of` equal parts: asks for one into the second cache, while a tile of the
 * panel before it is computed, so that memory is read during the arithmetic and not between. */
static void panel_ahead(const struct gemm_job *j, size_t j0, uint32_t part, uint32_t of) {
    const struct gpu_weight *w = j->b.w;
    const struct pack_layout *l = pack_layout(w->type);
    const size_t group = pack_group_bytes(l, w->k), sc_bytes = l->code == PACK_PLAIN ? 0 : pack_scales_bytes(l, w->k);
    if (!j->b.by_k) { /* groups of 16 rows, side by side */
        size_t lines = (j->n - j0 > 16 ? NR / 16 : 1) * (group / 64), to = lines * (part + 1) / of;
        for (size_t i = lines * part / of; i < to; i++)
            __builtin_prefetch((const uint8_t *)w->packed + j0 / 16 * group + i * 64, 0, 2);
        return;
    }
    size_t groups = (w->n + 15) / 16, to = groups * (part + 1) / of;
    for (size_t i = groups * part / of; i < to; i++) { /* a piece of every group */
        const uint8_t *g = (const uint8_t *)w->packed + i * group;
        if (l->code != PACK_PLAIN) {
            __builtin_prefetch(g + j0 / 32 * l->scale_bytes, 0, 2);
            g += sc_bytes + j0 / 32 * l->code_bytes;
        } else {
            g += j0 * 16 * l->elem;
        }
        size_t bytes = l->code == PACK_PLAIN ? NR * 16 * l->elem : l->code_bytes;
        for (size_t b = 0; b < bytes; b += 64)
            __builtin_prefetch(g + b, 0, 2);
    }
}

/* ahead: the panel after this one is likely the same thread's next. */
static void gemm_cols(const struct gemm_job *j, float *panel, size_t j0, uint32_t m_from, uint32_t m_to, bool ahead) {
    size_t jn = j->n - j0 < NR ? j->n - j0 : NR;
    int nv = jn > W ? 2 : 1;
    if (j->b.w && !j->b.by_k && j->m <= PLAIN_ROWS && !gpu_type_quantised(j->b.w->type)) {
        const struct gpu_weight *w = j->b.w;
        const struct pack_layout *l = pack_layout(w->type);
        size_t group = pack_group_bytes(l, w->k);
        const uint8_t *bx = (const uint8_t *)w->packed + j0 / 16 * group;
        const uint8_t *by = W < 16 ? bx + W * l->elem : jn > 16 ? bx + group : bx;
        _Alignas(64) float out[MR * NR];
        for (uint32_t i = m_from; i < m_to; i++) {
            size_t rows = j->m - (size_t)i * MR < MR ? j->m - (size_t)i * MR : MR;
            micros_plain[rows - 1](w->type, j->k, j->pa + (size_t)i * MR * j->k, bx, by, out, NR);
            for (size_t r = 0; r < rows; r++)
                memcpy(j->c + ((size_t)i * MR + r) * j->c_i + j0, out + r * NR, jn * sizeof *out);
        }
        return;
    }
    uint32_t part = 0, parts = (m_to - m_from) * (uint32_t)((j->k + j->kc - 1) / j->kc); /* tiles */
    ahead = ahead && j->b.w && j0 + NR < j->n;
    bool direct = jn == (size_t)nv * W && (j->epi == GPU_CHAIN || (j->epi == GPU_SET && j->alpha == 1.0f));
    for (size_t p0 = 0; p0 < j->k || !p0; p0 += j->kc) {
        size_t kn = j->k - p0 < j->kc ? j->k - p0 : j->kc;
        fill_panel(&j->b, panel, j0, jn, p0, p0 + kn);
        bool load = p0 || j->epi == GPU_CHAIN;
        for (uint32_t i = m_from; i < m_to; i++) {
            size_t rows = j->m - (size_t)i * MR < MR ? j->m - (size_t)i * MR : MR;
            const float *a = j->pa ? j->pa + (size_t)i * MR * j->k + p0 * MR : j->a + (size_t)i * MR * j->a_i + p0 * j->a_p;
            float *c = j->c + (size_t)i * MR * j->c_i + j0;
            if (ahead)
                panel_ahead(j, j0 + NR, part++, parts);
            if (direct) {
                micros[!j->pa][rows - 1](nv, load, kn, a, j->a_i, j->a_p, panel, c, j->c_i);
                continue;
            }
            _Alignas(64) float tile[MR * NR];
            if (load)
                for (size_t r = 0; r < rows; r++)
                    for (size_t x = 0; x < (size_t)nv * W; x++)
                        tile[r * NR + x] = x < jn ? c[r * j->c_i + x] : 0.0f;
            micros[!j->pa][rows - 1](nv, load, kn, a, j->a_i, j->a_p, panel, tile, NR);
            epilogue(c, j->c_i, tile, rows, jn, j->epi, j->alpha);
        }
    }
}

/* Units are a panel's parts of rows, panel after panel. */
static void gemm_task(void *arg, uint32_t unit, uint32_t end, int thread) {
    const struct gemm_job *j = arg;
    for (; unit < end; unit++) {
        uint32_t part = unit % j->split_m;
        uint32_t from = (uint32_t)((uint64_t)j->panels_m * part / j->split_m);
        uint32_t to = (uint32_t)((uint64_t)j->panels_m * (part + 1) / j->split_m);
        if (from < to)
            gemm_cols(j, pool_each(j->pool, thread), (size_t)(unit / j->split_m) * NR, from, to, j->split_m == 1);
    }
}

/* Runs the product on the pool. `packed`: pa is there already (several products of one A). */
static enum loam_status gemm_run(struct gpu *g, struct gemm_job *j, bool packed, struct err *err) {
    if (!j->m || !j->n)
        return LOAM_OK;
    j->pool = g->pool;
    j->panels_m = (j->m + MR - 1) / MR;
    /* stopping in between needs the plain accumulator in C */
    bool plain = j->epi == GPU_CHAIN || (j->epi == GPU_SET && j->alpha == 1.0f);
    j->kc = plain && j->k > KC ? KC : j->k ? j->k : 1;
    uint32_t panels_n = (j->n + NR - 1) / NR, threads = (uint32_t)g->threads;
    j->split_m = 1;
    if (threads > 1 && panels_n < 4 * threads) {
        j->split_m = (4 * threads + panels_n - 1) / panels_n;
        if (j->split_m > (j->panels_m + 3) / 4)
            j->split_m = (j->panels_m + 3) / 4;
    }
    bool few = j->b.w && !j->b.by_k && j->m <= PLAIN_ROWS && !gpu_type_quantised(j->b.w->type); /* micros_plain wants it packed */
    if (!packed && panels_n == 1 && !few) {
        enum loam_status s = pool_scratch(g->pool, 0, (size_t)j->kc * NR * sizeof(float), err);
        if (s)
            return s;
        j->pa = NULL;
    } else if (!packed) {
        size_t pa = (size_t)j->panels_m * MR * j->k * sizeof(float);
        enum loam_status s = pool_scratch(g->pool, pa, (size_t)j->kc * NR * sizeof(float), err);
        if (s)
            return s;
        j->pa = pool_shared(g->pool);
        pool_run(g->pool, (j->panels_m + 7) / 8, gemm_pack_task, j);
    }
    pool_ranges(g->pool, panels_n * j->split_m, 1, gemm_task, j);
    return LOAM_OK;
}

static enum loam_status cpu_gemm(struct gpu *g, const struct gpu_gemm *p, struct err *err) {
    GPU_BEGIN(g);
    enum loam_status s = gpu_check_gemm(p, err);
    if (s)
        return s;
    struct gemm_job j = {.m = p->m, .n = p->n, .k = p->k, .a = p->a, .a_i = p->a_i, .a_p = p->a_p, .c = p->c,
                         .c_i = p->c_i, .epi = p->epi, .alpha = p->alpha};
    j.b.b = p->b;
    j.b.b_p = p->b_p;
    j.b.b_j = p->b_j;
    return gemm_run(g, &j, false, err);
}

static enum loam_status cpu_matmul_dx(struct gpu *g, float *dx, size_t lddx, const float *dy, size_t lddy, uint32_t t,
                                      const struct gpu_weight *w, enum gpu_epi epi, struct err *err) {
    GPU_BEGIN(g);
    if (epi != GPU_SET && epi != GPU_CHAIN)
        return err_set(err, LOAM_EINVAL, "dX is set or continued");
    struct gemm_job j = {.m = t, .n = w->k, .k = w->n, .a = dy, .a_i = lddy, .a_p = 1, .c = dx, .c_i = lddx, .epi = epi,
                         .alpha = 1.0f};
    j.b.w = w;
    j.b.by_k = true;
    return gemm_run(g, &j, false, err);
}

/* Few tokens, weights of 16 or 32 bits: stream the weights once, 16 rows x up to 4 tokens in registers. */
#define STREAM_T 4
struct stream_job {
    const struct gpu_out *outs;
    int n_outs;
    const float *x;
    size_t ldx;
    uint32_t t;
};

INL void stream_tile(const int nt, uint32_t type, const uint8_t *w, size_t elem, const float *x, size_t ldx, size_t k,
                     float *out) {
    for (int at = 0; at < 16; at += W) {
        vf c0 = vf_zero(), c1 = vf_zero(), c2 = vf_zero(), c3 = vf_zero();
        for (size_t p = 0; p < k; p++) {
            vf v = plain_load(w + (p * 16 + (size_t)at) * elem, type);
            c0 = vf_fma(vf_set(x[p]), v, c0);
            if (nt > 1)
                c1 = vf_fma(vf_set(x[ldx + p]), v, c1);
            if (nt > 2)
                c2 = vf_fma(vf_set(x[2 * ldx + p]), v, c2);
            if (nt > 3)
                c3 = vf_fma(vf_set(x[3 * ldx + p]), v, c3);
        }
        vf_store(out + at, c0);
        if (nt > 1)
            vf_store(out + 16 + at, c1);
        if (nt > 2)
            vf_store(out + 32 + at, c2);
        if (nt > 3)
            vf_store(out + 48 + at, c3);
    }
}

/* Four groups at a time for one token: independent chains hide the latency of the fma. All 16 rows in one pass where they are
 * two registers, so that each line is met once. */
INL void stream_four(uint32_t type, const uint8_t *w, size_t stride, size_t elem, const float *x, size_t k, float *out) {
    const int parts = W < 16 ? 2 : 1, step = W * parts;
    for (int at = 0; at < 16; at += step) {
        vf c0 = vf_zero(), c1 = c0, c2 = c0, c3 = c0, d0 = c0, d1 = c0, d2 = c0, d3 = c0;
        const uint8_t *p0 = w + (size_t)at * elem, *p1 = p0 + stride, *p2 = p1 + stride, *p3 = p2 + stride;
        for (size_t p = 0; p < k * 16 * elem; p += 16 * elem) {
            vf v = vf_set(*x++);
            c0 = vf_fma(v, plain_load(p0 + p, type), c0);
            c1 = vf_fma(v, plain_load(p1 + p, type), c1);
            c2 = vf_fma(v, plain_load(p2 + p, type), c2);
            c3 = vf_fma(v, plain_load(p3 + p, type), c3);
            if (parts > 1) {
                d0 = vf_fma(v, plain_load(p0 + p + W * elem, type), d0);
                d1 = vf_fma(v, plain_load(p1 + p + W * elem, type), d1);
                d2 = vf_fma(v, plain_load(p2 + p + W * elem, type), d2);
                d3 = vf_fma(v, plain_load(p3 + p + W * elem, type), d3);
            }
        }
        x -= k;
        vf_store(out + at, c0);
        vf_store(out + 16 + at, c1);
        vf_store(out + 32 + at, c2);
        vf_store(out + 48 + at, c3);
        if (parts > 1) {
            vf_store(out + at + W, d0);
            vf_store(out + 16 + at + W, d1);
            vf_store(out + 32 + at + W, d2);
            vf_store(out + 48 + at + W, d3);
        }
    }
}

static void stream_one(const int nt, const struct gpu_weight *w, size_t group, const float *x, size_t ldx, float *out) {
    const struct pack_layout *l = pack_layout(w->type);
    const uint8_t *p = (const uint8_t *)w->packed + group * pack_group_bytes(l, w->k);
#define TYPES(call)                                                                                                   \
    switch (w->type) {                                                                                                \
    case GPU_F16: call(GPU_F16, 2); break;                                                                            \
    case GPU_BF16: call(GPU_BF16, 2); break;                                                                          \
    default: call(GPU_F32, 4); break;                                                                                 \
    }
#define ONE(type, elem) stream_tile(nt, type, p, elem, x, ldx, w->k, out)
    TYPES(ONE)
#undef ONE
}

static void stream_quad(const struct gpu_weight *w, size_t group, const float *x, float *out) {
    const struct pack_layout *l = pack_layout(w->type);
    size_t stride = pack_group_bytes(l, w->k);
    const uint8_t *p = (const uint8_t *)w->packed + group * stride;
#define FOUR(type, elem) stream_four(type, p, stride, elem, x, w->k, out)
    TYPES(FOUR)
#undef FOUR
#undef TYPES
}

static void stream_put(const struct gpu_out *o, size_t group, uint32_t t, const float *tile) {
    size_t n = o->w->n - group * 16 < 16 ? o->w->n - group * 16 : 16;
    memcpy(o->y + t * o->ldy + group * 16, tile, n * sizeof *tile);
}

static void stream_task(void *arg, uint32_t at, uint32_t to, int thread) {
    const struct stream_job *j = arg;
    uint32_t base = 0;
    _Alignas(64) float tile[STREAM_T * 16];
    for (int o = 0; o < j->n_outs; o++) {
        uint32_t n = (j->outs[o].w->n + 15) / 16;
        while (at < to && at < base + n) {
            uint32_t g = at - base;
            if (j->t == 1 && at + 4 <= to && at + 4 <= base + n) {
                stream_quad(j->outs[o].w, g, j->x, tile);
                for (uint32_t i = 0; i < 4; i++)
                    stream_put(&j->outs[o], g + i, 0, tile + 16 * i);
                at += 4;
                continue;
            }
            for (uint32_t t = 0; t < j->t; t += STREAM_T) {
                uint32_t nt = j->t - t < STREAM_T ? j->t - t : STREAM_T;
                const float *x = j->x + t * j->ldx;
                switch (nt) {
                case 1: stream_one(1, j->outs[o].w, g, x, j->ldx, tile); break;
                case 2: stream_one(2, j->outs[o].w, g, x, j->ldx, tile); break;
                case 3: stream_one(3, j->outs[o].w, g, x, j->ldx, tile); break;
                default: stream_one(4, j->outs[o].w, g, x, j->ldx, tile); break;
                }
                for (uint32_t i = 0; i < nt; i++)
                    stream_put(&j->outs[o], g, t + i, tile + 16 * i);
            }
            at++;
        }
        base += n;
    }
}

static enum loam_status cpu_matmul(struct gpu *g, const struct gpu_out *outs, int n_outs, const float *x, size_t ldx,
                                   uint32_t t, struct err *err) {
    GPU_BEGIN(g);
    enum loam_status s = gpu_check_outs(outs, n_outs, 0, false, err);
    if (s || !t)
        return s;
    bool plain = true;
    for (int o = 0; o < n_outs; o++)
        plain &= !gpu_type_quantised(outs[o].w->type);
    if (plain && t <= STREAM_T) {
        struct stream_job j = {outs, n_outs, x, ldx, t};
        uint32_t groups = 0;
        for (int o = 0; o < n_outs; o++)
            groups += (outs[o].w->n + 15) / 16;
        pool_ranges(g->pool, groups, 4, stream_task, &j);
        return LOAM_OK;
    }
    float *pa = NULL;
    for (int o = 0; o < n_outs; o++) {
        const struct gpu_weight *w = outs[o].w;
        struct gemm_job j = {.m = t, .n = w->n, .k = w->k, .a = x, .a_i = ldx, .a_p = 1, .c = outs[o].y,
                             .c_i = outs[o].ldy, .epi = GPU_SET, .alpha = 1.0f, .pa = pa};
        j.b.w = w;
        s = gemm_run(g, &j, pa != NULL, err);
        if (s)
            return s;
        pa = j.pa;
    }
    return LOAM_OK;
}
