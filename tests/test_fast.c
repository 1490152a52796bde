/* The fast mode (gpu/fast.h): each operation against the same computed in fp64 from the same rounded inputs, by its normalised
 * squared error; outputs are poisoned first and must not be left or passed. With LOAM_GPU_CUDA=cuda or cuda:N the device of
 * loam-cuda.so (or the emulated one of tests/cuda_emu) is checked; without, only what the host does with weights.
 * LOAM_FAST_JSON=FILE: one object an operation. LOAM_GPU_SMALL: small shapes only. */
#include "tests/test.h"

#include "base/mem.h"
#include "gpu/arith.h"
#include "gpu/fast.h"

#include <math.h>

static const struct fast_ops *op;
static struct fast *f;
static struct err e;

static uint32_t seed = 1;
static uint32_t word(void) {
    uint32_t c[4] = {seed++, 0, 0, 0}, key[2] = {5, 3}, out[4];
    arith_philox(c, key, out);
    return out[0];
}
static uint32_t upto(uint32_t lo, uint32_t hi) {
    return lo + word() % (hi - lo + 1);
}
static float unit(void) {
    return (float)(int32_t)word() * 0x1p-31f;
}
static bool small(void) {
    return getenv("LOAM_GPU_SMALL") != NULL;
}

/* ---- the table ---- */

static struct line {
    const char *name;
    double bound, worst;
    unsigned cases, bad;
} table[64];
static int lines;

static void judge(const char *name, double bound, const float *got, const double *want, size_t n) {
    int i = 0;
    double d = 0, w = 0;
    for (size_t j = 0; j < n; j++) {
        d += ((double)got[j] - want[j]) * ((double)got[j] - want[j]);
        w += want[j] * want[j];
    }
    double nmse = w > 0 ? d / w : d;
    while (i < lines && strcmp(table[i].name, name) != 0)
        i++;
    if (i == lines)
        table[lines++] = (struct line){name, bound, 0, 0, 0};
    table[i].cases++;
    if (!(nmse <= table[i].worst)) /* NaN too */
        table[i].worst = nmse;
    if (!(nmse <= bound)) {
        table[i].bad++;
        fail_msg("%s: NMSE %.3g, at most %.3g", name, nmse, bound);
    }
}
static int report(void) {
    FILE *j = getenv("LOAM_FAST_JSON") ? fopen(getenv("LOAM_FAST_JSON"), "w") : NULL;
    unsigned bad = 0;
    printf("%-24s %6s %10s %10s\n", "fast mode", "cases", "NMSE", "bound");
    for (int i = 0; i < lines; i++) {
        printf("%-24s %6u %10.2g %10.2g%s\n", table[i].name, table[i].cases, table[i].worst, table[i].bound, table[i].bad ? "  TOO LARGE" : "");
        if (j)
            fprintf(j, "%s\n {\"suite\": \"gpu-check-fast\", \"name\": \"%s\", \"cases\": %u, \"nmse\": %.3g, \"bound\": %.3g, \"bad\": %u}", i ? "," : "[",
                    table[i].name, table[i].cases, table[i].worst, table[i].bound, table[i].bad);
        bad += table[i].bad;
    }
    if (j) {
        fprintf(j, "\n]\n");
        fclose(j);
    }
    printf("%s\n", bad ? "errors past their bounds" : "fast mode: all errors within their bounds");
    return bad != 0;
}

/* ---- arrays ---- */

#define GUARD 64 /* bytes behind every output */
static void *device(const void *host, size_t bytes) {
    void *p = op->alloc(f, bytes + GUARD);
    uint8_t *poison = mem_alloc(bytes + GUARD);
    assert_non_null(p);
    memset(poison, 0xff, bytes + GUARD); /* a NaN in every format */
    OK(op->put(f, p, poison, bytes + GUARD, &e));
    if (host)
        OK(op->put(f, p, host, bytes, &e));
    mem_free(poison);
    return p;
}
/* n random numbers, rounded to bf16: on the device; the same as fp32 in *host. */
static uint16_t *numbers(float **host, size_t n, float scale) {
    uint16_t *h = mem_array(n, sizeof *h);
    *host = mem_array(n, sizeof **host);
    for (size_t i = 0; i < n; i++) {
        h[i] = arith_to_bf16(unit() * scale);
        (*host)[i] = arith_bf16(h[i]);
    }
    uint16_t *d = device(h, n * sizeof *h);
    mem_free(h);
    return d;
}
static float *back(void *d, size_t n, bool f32) {
    size_t each = f32 ? 4 : 2;
    uint8_t *h = mem_alloc(n * each + GUARD);
    float *out = mem_array(n, sizeof *out);
    OK(op->get(f, h, d, n * each + GUARD, &e));
    for (size_t i = 0; i < GUARD; i++)
        if (h[n * each + i] != 0xff)
            fail_msg("an output of %zu elements was written past its end", n);
    for (size_t i = 0; i < n; i++) {
        if (f32)
            memcpy(&out[i], h + 4 * i, 4);
        else
            out[i] = arith_bf16((uint16_t)(h[2 * i] | h[2 * i + 1] << 8));
    }
    mem_free(h);
    return out;
}
static void check(const char *name, double bound, void *d, const double *want, size_t n, bool f32) {
    float *got = back(d, n, f32);
    judge(name, bound, got, want, n);
    mem_free(got);
}
/* Frees host and device arrays by turns of pairs. */
static void drop(void *d, void *h) {
    op->free(f, d);
    mem_free(h);
}

#define BF 1.2e-5 /* one rounding to bf16: (2^-9)^2 / 3 and room for what comes before it */

/* ---- products ---- */

static void gemm(void **state) {
    (void)state;
    for (int i = 0; i < (small() ? 10 : 40); i++) {
        struct fast_gemm g = {.m = upto(1, 9) * 8, .n = upto(1, 9) * 8, .k = upto(1, 20) * 8, .a_t = word() & 1, .b_t = word() & 1, .c_f32 = word() & 1, .alpha = 1};
        if (!small())
            g.m *= upto(1, 8), g.n *= upto(1, 8), g.k *= upto(1, 8);
        float *a, *b, *c, *bias;
        g.alpha = i & 1 ? 1 : 0.5f;
        g.beta = i % 3 == 2 ? 1 : 0;
        g.lda = g.a_t ? g.m : g.k;
        g.ldb = g.b_t ? g.k : g.n;
        g.ldc = g.n + (i & 2 ? 8u : 0u);
        uint16_t *da = numbers(&a, (size_t)g.m * g.k, 1), *db = numbers(&b, (size_t)g.n * g.k, 1), *dbias = numbers(&bias, g.n, 1);
        size_t nc = (size_t)(g.m - 1) * g.ldc + g.n;
        uint16_t *dc16 = numbers(&c, nc, 1);
        void *dc = g.c_f32 ? device(c, nc * 4) : dc16;
        double *want = mem_array(nc, sizeof *want);
        g.a = da;
        g.b = db;
        g.c = dc;
        g.bias = i % 4 == 1 ? dbias : NULL;
        for (size_t j = 0; j < nc; j++)
            want[j] = (double)c[j]; /* between the rows nothing changes */
        for (uint32_t r = 0; r < g.m; r++)
            for (uint32_t s = 0; s < g.n; s++) {
                double sum = 0;
                for (uint32_t k = 0; k < g.k; k++)
                    sum += (double)a[g.a_t ? k * g.lda + r : r * g.lda + k] * (double)b[g.b_t ? s * g.ldb + k : k * g.ldb + s];
                double *w = &want[r * g.ldc + s];
                *w = (double)g.alpha * sum + (double)g.beta * *w + (g.bias ? (double)bias[s] : 0);
            }
        OK(op->gemm(f, &g, &e));
        check("gemm (cuBLASLt)", BF, dc, want, nc, g.c_f32);
        if (g.c_f32)
            op->free(f, dc);
        drop(da, a), drop(db, b), drop(dbias, bias), drop(dc16, c);
        mem_free(want);
    }
}

static const char *const type_names[] = {"bf16", "fp8", "Q8", "Q4", "NF4"};

static void weights(void **state) { /* the host's part */
    (void)state;
    static const double bounds[] = {5e-6, 1.2e-3, 4e-5, 8e-3, 1.2e-2};
    size_t n = 5, k = 256;
    float *x = mem_array(n * k, sizeof *x), *y = mem_array(n * k, sizeof *y);
    for (int t = 0; t <= FAST_NF4; t++) {
        double d = 0, w = 0;
        for (size_t i = 0; i < n * k; i++)
            x[i] = (unit() + unit() + unit()) * (float)(1 + i / k); /* nearly normal */
        memset(x + 2 * k, 0, 64 * sizeof *x);
        void *c = mem_alloc(fast_weight_bytes((enum fast_type)t, n, k)), *s = mem_alloc(fast_scale_bytes((enum fast_type)t, n, k) + 1);
        fast_quantise(c, s, (enum fast_type)t, n, k, x);
        fast_dequantise(y, (enum fast_type)t, n, k, c, s);
        for (size_t i = 0; i < n * k; i++) {
            d += (double)(x[i] - y[i]) * (double)(x[i] - y[i]);
            w += (double)x[i] * (double)x[i];
        }
        if (!(d / w <= bounds[t]))
            fail_msg("%s keeps a weight to %.3g; at most %.3g", type_names[t], d / w, bounds[t]);
        mem_free(c);
        mem_free(s);
    }
    mem_free(x);
    mem_free(y);
}

static void gemv(void **state) {
    (void)state;
    for (int i = 0; i < (small() ? 15 : 60); i++) {
        enum fast_type type = (enum fast_type)(i % 5);
        uint32_t n = upto(1, small() ? 40 : 300), k = upto(1, small() ? 6 : 40) * 64, t = i % 3 == 0 ? 1 : upto(2, 8);
        bool f32 = word() & 1, add = word() & 1;
        char name[2][32];
        static char names[2 * 5][32];
        float *x, *y, *w = mem_array((size_t)n * k, sizeof *w);
        snprintf(names[type], sizeof names[0], "gemv %s", type_names[type]);
        snprintf(names[5 + type], sizeof names[0], "dequant %s", type_names[type]);
        (void)name;
        for (size_t j = 0; j < (size_t)n * k; j++)
            w[j] = unit();
        size_t wb = fast_weight_bytes(type, n, k), sb = fast_scale_bytes(type, n, k);
        void *hw = mem_alloc(wb), *hs = mem_alloc(sb + 1);
        fast_quantise(hw, hs, type, n, k, w);
        fast_dequantise(w, type, n, k, hw, hs);
        struct fast_weight fw = {type, n, k, device(hw, wb), device(hs, sb)};
        uint16_t *dx = numbers(&x, (size_t)t * k, 1), *dy = numbers(&y, (size_t)t * n, 1);
        void *out = f32 ? device(y, (size_t)t * n * 4) : dy;
        double *want = mem_array((size_t)n * (t > k ? t : k), sizeof *want);
        for (uint32_t r = 0; r < t; r++)
            for (uint32_t c = 0; c < n; c++) {
                double s = add ? (double)y[r * n + c] : 0;
                for (uint32_t j = 0; j < k; j++)
                    s += (double)x[r * k + j] * (double)w[(size_t)c * k + j];
                want[r * n + c] = s;
            }
        OK(op->gemv(f, out, f32, n, dx, k, t, &fw, add, &e));
        check(names[type], BF, out, want, (size_t)t * n, f32);
        uint16_t *dq = device(NULL, (size_t)n * k * 2);
        OK(op->dequant(f, dq, &fw, &e));
        for (size_t j = 0; j < (size_t)n * k; j++)
            want[j] = (double)w[j];
        check(names[5 + type], BF, dq, want, (size_t)n * k, false);
        op->free(f, dq);
        op->free(f, (void *)(uintptr_t)fw.w);
        op->free(f, (void *)(uintptr_t)fw.scale);
        if (f32)
            op->free(f, out);
        drop(dx, x), drop(dy, y);
        mem_free(w), mem_free(hw), mem_free(hs), mem_free(want);
    }
}

/* ---- attention ---- */

static void attention(void **state) {
    (void)state;
    static const uint32_t shapes[][3] = {{2, 1, 64}, {4, 2, 128}, {1, 1, 128}, {6, 2, 64}}; /* H, G, D */
    for (int i = 0; i < (small() ? 4 : 16); i++) {
        uint32_t seg[4] = {0}, H = shapes[i % 4][0], G = shapes[i % 4][1], D = shapes[i % 4][2], longest = 0;
        for (int s = 0; s < 3; s++) {
            uint32_t len = s == 1 && i % 2 ? 1 : upto(2, small() ? 75 : 300);
            seg[s + 1] = seg[s] + len;
            longest = len > longest ? len : longest;
        }
        uint32_t T = seg[3];
        size_t nq = (size_t)T * H * D, nk = (size_t)T * G * D;
        struct fast_attn a = {.h = H, .g = G, .d = D, .window = i % 4 == 3 ? 20 : 0, .scale = 1 / sqrtf((float)D), .seg = device(seg, sizeof seg), .n_seg = 3,
                              .t = T, .longest = longest, .ldq = (size_t)H * D, .ldkv = (size_t)G * D, .ldo = (size_t)H * D};
        float *q, *k, *v, *go, *o;
        uint16_t *dq_ = numbers(&q, nq, 2), *dk_ = numbers(&k, nk, 2), *dv_ = numbers(&v, nk, 1), *dgo = numbers(&go, nq, 1), *d_o = device(NULL, nq * 2);
        float *lse = device(NULL, (size_t)T * H * 4), *dd = device(NULL, (size_t)T * H * 4);
        double *wo = mem_zarray(nq, sizeof *wo), *wdq = mem_zarray(nq, sizeof *wdq), *wdk = mem_zarray(nk, sizeof *wdk), *wdv = mem_zarray(nk, sizeof *wdv);
        double *p = mem_array(longest, sizeof *p);
        OK(op->attn(f, d_o, lse, dq_, dk_, dv_, &a, &e));
        o = back(d_o, nq, false); /* the backward takes the rounded output */
        for (int s = 0; s < 3; s++)
            for (uint32_t h = 0; h < H; h++)
                for (uint32_t r = 0; r < seg[s + 1] - seg[s]; r++) {
                    size_t qa = ((size_t)(seg[s] + r) * H + h) * D, base = (size_t)seg[s] * G * D + (size_t)(h / (H / G)) * D, ld = (size_t)G * D;
                    uint32_t from = a.window && r + 1 > a.window ? r + 1 - a.window : 0;
                    double top = -1e30, sum = 0, dsum = 0;
                    for (uint32_t j = from; j <= r; j++) {
                        p[j] = 0;
                        for (uint32_t c = 0; c < D; c++)
                            p[j] += (double)q[qa + c] * (double)k[base + j * ld + c];
                        p[j] *= (double)a.scale;
                        top = p[j] > top ? p[j] : top;
                    }
                    for (uint32_t j = from; j <= r; j++)
                        sum += p[j] = exp(p[j] - top);
                    for (uint32_t c = 0; c < D; c++) {
                        for (uint32_t j = from; j <= r; j++)
                            wo[qa + c] += p[j] / sum * (double)v[base + j * ld + c];
                        dsum += (double)go[qa + c] * wo[qa + c];
                    }
                    for (uint32_t j = from; j <= r; j++) {
                        double g = 0, w = p[j] / sum;
                        for (uint32_t c = 0; c < D; c++)
                            g += (double)go[qa + c] * (double)v[base + j * ld + c];
                        double z = w * (g - dsum) * (double)a.scale;
                        for (uint32_t c = 0; c < D; c++) {
                            wdq[qa + c] += z * (double)k[base + j * ld + c];
                            wdk[base + j * ld + c] += z * (double)q[qa + c];
                            wdv[base + j * ld + c] += w * (double)go[qa + c];
                        }
                    }
                }
        judge("attn", 2e-5, o, wo, nq);
        uint16_t *ddq = device(NULL, nq * 2), *ddk = device(NULL, nk * 2), *ddv = device(NULL, nk * 2);
        OK(op->attn_dx(f, ddq, ddk, ddv, dd, dgo, d_o, lse, dq_, dk_, dv_, &a, &e));
        check("attn_dx dq", 1e-4, ddq, wdq, nq, false);
        check("attn_dx dk", 1e-4, ddk, wdk, nk, false);
        check("attn_dx dv", 4e-5, ddv, wdv, nk, false);
        op->free(f, (void *)(uintptr_t)a.seg);
        drop(dq_, q), drop(dk_, k), drop(dv_, v), drop(dgo, go), drop(d_o, o), drop(lse, wo), drop(dd, wdq), drop(ddq, wdk), drop(ddk, wdv), drop(ddv, p);
    }
    struct fast_attn bad = {.h = 2, .g = 1, .d = 80, .n_seg = 1, .t = 1, .longest = 1, .ldq = 160, .ldkv = 80, .ldo = 160};
    FAILS(LOAM_EUNSUPPORTED, op->attn(f, NULL, NULL, NULL, NULL, NULL, &bad, &e));
}

static void paged(void **state) {
    (void)state;
    for (int i = 0; i < (small() ? 3 : 12); i++) {
        uint32_t n = 3, D = i & 1 ? 64 : 128, G = i % 3 ? 2 : 1, H = G * (1 + i % 4), ldt = 12, longest = small() ? 330 : 700, len[3];
        int32_t map[36];
        size_t page = (size_t)G * GPU_KV_PAGE * D, all = page * 36, nk = (size_t)n * G * D, nq = (size_t)n * H * D;
        float *k, *v, *q, *nkh, *nvh;
        for (uint32_t j = 0; j < 36; j++)
            map[j] = (int32_t)((j * 7 + (uint32_t)i) % 36); /* every page once, out of order */
        len[0] = 1;
        len[1] = longest;
        len[2] = upto(2, longest);
        uint16_t *dk = numbers(&k, all, 2), *dv = numbers(&v, all, 1), *dq = numbers(&q, nq, 2), *dnk = numbers(&nkh, nk, 2), *dnv = numbers(&nvh, nk, 1);
        uint16_t *dout = device(NULL, nq * 2);
        struct fast_kv kv = {.h = H, .g = G, .d = D, .window = i % 4 == 2 ? 70 : 0, .scale = 1 / sqrtf((float)D), .k_pages = dk, .v_pages = dv,
                             .table = device(map, sizeof map), .table_ld = ldt, .len = device(len, sizeof len), .n = n, .longest = longest};
        double *want = mem_zarray(nq, sizeof *want), *p = mem_array(longest, sizeof *p);
        OK(op->kv_put(f, dnk, dnv, (size_t)G * D, &kv, &e));
        OK(op->attn_kv(f, dout, (size_t)H * D, dq, (size_t)H * D, &kv, &e));
        for (uint32_t s = 0; s < n; s++)
            for (uint32_t h = 0; h < H; h++) {
                uint32_t kvh = h / (H / G), from = kv.window && len[s] > kv.window ? len[s] - kv.window : 0;
                double top = -1e30, sum = 0;
                for (int turn = 0; turn < 2; turn++)
                    for (uint32_t j = from; j < len[s]; j++) {
                        size_t at = (size_t)map[s * ldt + j / GPU_KV_PAGE] * page + ((size_t)kvh * GPU_KV_PAGE + j % GPU_KV_PAGE) * D;
                        const float *kk = j + 1 == len[s] ? nkh + ((size_t)s * G + kvh) * D : k + at, *vv = j + 1 == len[s] ? nvh + ((size_t)s * G + kvh) * D : v + at;
                        if (!turn) {
                            p[j] = 0;
                            for (uint32_t c = 0; c < D; c++)
                                p[j] += (double)q[((size_t)s * H + h) * D + c] * (double)kk[c] * (double)kv.scale;
                            top = p[j] > top ? p[j] : top;
                            continue;
                        }
                        double w = exp(p[j] - top);
                        sum += w;
                        for (uint32_t c = 0; c < D; c++)
                            want[((size_t)s * H + h) * D + c] += w * (double)vv[c];
                    }
                for (uint32_t c = 0; c < D; c++)
                    want[((size_t)s * H + h) * D + c] /= sum;
            }
        check("attn_kv, kv_put", BF, dout, want, nq, false);
        op->free(f, (void *)(uintptr_t)kv.table);
        op->free(f, (void *)(uintptr_t)kv.len);
        drop(dk, k), drop(dv, v), drop(dq, q), drop(dnk, nkh), drop(dnv, nvh), drop(dout, want);
        mem_free(p);
    }
}

/* ---- rows ---- */

static void rows(void **state) {
    (void)state;
    for (int i = 0; i < (small() ? 3 : 15); i++) {
        uint32_t T = upto(1, 7), C = upto(1, small() ? 40 : 300) * 8, F = C, ids[7], pos[7], V = 50;
        size_t n = (size_t)T * C;
        float *x, *r, *w, *dy, *gu, *tab, *acc;
        uint16_t *dx_ = numbers(&x, n, 2), *dr = numbers(&r, n, 1), *dw = numbers(&w, C, 1), *dy_ = numbers(&dy, n, 1), *dgu = numbers(&gu, 2 * n, 3),
                 *dtab = numbers(&tab, (size_t)V * C, 1), *dacc = numbers(&acc, n, 1), *y = device(NULL, n * 2);
        float *rstd = device(NULL, T * 4);
        double *want = mem_array(2 * n, sizeof *want), *rs = mem_array(T, sizeof *rs);
        bool residual = i & 1;
        OK(op->norm(f, y, rstd, dx_, residual ? dr : NULL, dw, T, C, 1e-5f, &e));
        for (uint32_t t = 0; t < T; t++) {
            double s = 0;
            for (uint32_t c = 0; c < C; c++) {
                if (residual)
                    x[t * C + c] = arith_bf16(arith_to_bf16(x[t * C + c] + r[t * C + c]));
                s += (double)x[t * C + c] * (double)x[t * C + c];
            }
            rs[t] = 1 / sqrt(s / C + 1e-5);
            for (uint32_t c = 0; c < C; c++)
                want[t * C + c] = (double)x[t * C + c] * rs[t] * (double)w[c];
        }
        check("norm, residual", BF, y, want, n, false);
        check("norm rstd", 1e-10, rstd, rs, T, true);
        OK(op->norm_dx(f, dacc, dy_, dx_, rstd, dw, T, C, i % 3 == 0, &e));
        for (uint32_t t = 0; t < T; t++) {
            double u = 0;
            for (uint32_t c = 0; c < C; c++)
                u += (double)dy[t * C + c] * (double)w[c] * (double)x[t * C + c];
            for (uint32_t c = 0; c < C; c++)
                want[t * C + c] = (double)dy[t * C + c] * (double)w[c] * rs[t] - u * rs[t] * rs[t] * rs[t] / C * (double)x[t * C + c] +
                                  (i % 3 == 0 ? (double)acc[t * C + c] : 0);
        }
        check("norm_dx", BF, dacc, want, n, false);

        OK(op->swiglu(f, y, dgu, T, F, &e));
        for (uint32_t t = 0; t < T; t++)
            for (uint32_t c = 0; c < F; c++) {
                double g = (double)gu[t * 2 * F + c];
                want[t * F + c] = g / (1 + exp(-g)) * (double)gu[t * 2 * F + F + c];
            }
        check("swiglu", BF, y, want, n, false);
        OK(op->swiglu_dx(f, dgu, dy_, dgu, T, F, &e)); /* in place */
        for (uint32_t t = 0; t < T; t++)
            for (uint32_t c = 0; c < F; c++) {
                double g = (double)gu[t * 2 * F + c], u = (double)gu[t * 2 * F + F + c], d = (double)dy[t * F + c], s = 1 / (1 + exp(-g));
                want[t * 2 * F + c] = d * u * s * (1 + g * (1 - s));
                want[t * 2 * F + F + c] = d * g * s;
            }
        check("swiglu_dx", BF, dgu, want, 2 * n, false);

        for (uint32_t t = 0; t < T; t++) {
            ids[t] = upto(0, V - 1);
            pos[t] = upto(0, 9);
        }
        uint32_t *dids = device(ids, sizeof ids), *dpos = device(pos, sizeof pos);
        OK(op->embed(f, y, dtab, dids, T, C, &e));
        for (size_t j = 0; j < n; j++)
            want[j] = (double)tab[ids[j / C] * C + j % C];
        check("embed", 0, y, want, n, false);

        uint32_t D = 16, heads = C / D;
        if (heads) {
            float ct[10 * 8], st[10 * 8];
            double freq[8];
            gpu_rope_freqs(freq, D, 10000);
            gpu_rope_table(ct, st, 10, D, freq);
            float *dct = device(ct, sizeof ct), *dst = device(st, sizeof st);
            enum gpu_rope_style style = i & 1 ? GPU_ROPE_NORM : GPU_ROPE_NEOX;
            for (size_t j = 0; j < n; j++)
                want[j] = (double)x[j];
            for (uint32_t t = 0; t < T; t++)
                for (uint32_t h = 0; h < heads; h++)
                    for (uint32_t j = 0; j < D / 2; j++) {
                        size_t a = (size_t)t * C + h * D + (style == GPU_ROPE_NORM ? 2 * j : j), b = style == GPU_ROPE_NORM ? a + 1 : a + D / 2;
                        double c = (double)ct[pos[t] * 8 + j], s = (double)st[pos[t] * 8 + j] * (i % 3 ? 1 : -1), u = want[a], v = want[b];
                        want[a] = u * c - v * s;
                        want[b] = u * s + v * c;
                    }
            OK(op->rope(f, dx_, C, T, heads, D, dct, dst, dpos, style, i % 3 == 0, &e));
            check("rope", BF, dx_, want, n, false);
            op->free(f, dct);
            op->free(f, dst);
        }
        op->free(f, dids);
        op->free(f, dpos);
        drop(dx_, x), drop(dr, r), drop(dw, w), drop(dy_, dy), drop(dgu, gu), drop(dtab, tab), drop(dacc, acc), drop(y, want), drop(rstd, rs);
    }
}

static void loss(void **state) {
    (void)state;
    for (int i = 0; i < (small() ? 3 : 10); i++) {
        uint32_t R = upto(1, 5), V = upto(2, small() ? 150 : 4000) * 8, target[5];
        size_t n = (size_t)R * V;
        float *x, scale = 0.25f, *nll = device(NULL, R * 4);
        uint16_t *dx = numbers(&x, n, 12);
        double *want = mem_zarray(n, sizeof *want), wn[5];
        for (uint32_t r = 0; r < R; r++) {
            double top = -1e30, sum = 0;
            target[r] = r == 1 ? UINT32_MAX : upto(0, V - 1);
            wn[r] = 0;
            for (uint32_t v = 0; v < V; v++)
                top = (double)x[r * V + v] > top ? (double)x[r * V + v] : top;
            for (uint32_t v = 0; v < V; v++)
                sum += exp((double)x[r * V + v] - top);
            if (r == 1)
                continue;
            wn[r] = log(sum) + top - (double)x[r * V + target[r]];
            for (uint32_t v = 0; v < V; v++)
                want[r * V + v] = (double)scale * (exp((double)x[r * V + v] - top) / sum - (v == target[r]));
        }
        uint32_t *dt = device(target, sizeof target);
        OK(op->xent(f, nll, dx, V, R, V, dt, scale, true, &e));
        check("xent nll", 1e-10, nll, wn, R, true);
        check("xent gradient", BF, dx, want, n, false);
        op->free(f, dt);
        drop(dx, x), drop(nll, want);
    }
}

static void adapters(void **state) {
    (void)state;
    for (int i = 0; i < (small() ? 3 : 10); i++) {
        uint32_t T = upto(1, 6), K = upto(1, 40) * 8, slices = upto(1, 3), N[3], at[3], ldy = 0;
        int32_t map[6];
        struct fast_adapter ad[2];
        float *ha[2][3], *hb[2][3], *x, *y;
        for (uint32_t s = 0; s < slices; s++) {
            N[s] = upto(1, 50);
            at[s] = ldy;
            ldy += N[s];
        }
        for (int a = 0; a < 2; a++) {
            ad[a].r = upto(1, 4) * 8;
            ad[a].scale = 0.5f * (float)(a + 1);
            for (uint32_t s = 0; s < slices; s++) {
                ad[a].a[s] = numbers(&ha[a][s], (size_t)ad[a].r * K, 1);
                ad[a].b[s] = numbers(&hb[a][s], (size_t)ad[a].r * N[s], 1);
            }
        }
        for (uint32_t t = 0; t < T; t++)
            map[t] = (int32_t)upto(0, 2) - 1;
        size_t n = (size_t)T * ldy;
        uint16_t *dx = numbers(&x, (size_t)T * K, 1), *dy = numbers(&y, n, 1);
        double *want = mem_array(n, sizeof *want);
        for (uint32_t t = 0; t < T; t++)
            for (uint32_t s = 0; s < slices; s++)
                for (uint32_t o = 0; o < N[s]; o++) {
                    double sum = (double)y[t * ldy + at[s] + o];
                    for (uint32_t r = 0; map[t] >= 0 && r < ad[map[t]].r; r++) {
                        double h = 0;
                        for (uint32_t k = 0; k < K; k++)
                            h += (double)x[t * K + k] * (double)ha[map[t]][s][r * K + k];
                        sum += (double)ad[map[t]].scale * h * (double)hb[map[t]][s][o * ad[map[t]].r + r];
                    }
                    want[t * ldy + at[s] + o] = sum;
                }
        struct fast_lora l = {.list = device(ad, sizeof ad), .map = device(map, sizeof map), .slices = slices, .k = K};
        memcpy(l.n, N, sizeof N);
        memcpy(l.y_at, at, sizeof at);
        OK(op->lora(f, dy, ldy, dx, K, T, &l, &e));
        check("lora", BF, dy, want, n, false);
        op->free(f, (void *)(uintptr_t)l.list);
        op->free(f, (void *)(uintptr_t)l.map);
        for (int a = 0; a < 2; a++)
            for (uint32_t s = 0; s < slices; s++) {
                drop((void *)(uintptr_t)ad[a].a[s], ha[a][s]);
                drop((void *)(uintptr_t)ad[a].b[s], hb[a][s]);
            }
        drop(dx, x), drop(dy, y);
        mem_free(want);
    }
}

static void adamw(void **state) {
    (void)state;
    size_t n = 1000;
    float *p = mem_array(n, 4), *m = mem_zarray(n, 4), *v = mem_zarray(n, 4), *g = mem_array(n, 4);
    double *want = mem_array(n, sizeof *want);
    for (size_t i = 0; i < n; i++) {
        p[i] = unit();
        g[i] = unit();
    }
    float *dp = device(p, n * 4), *dm = device(m, n * 4), *dv = device(v, n * 4), *dg = device(g, n * 4);
    uint16_t *d16 = device(NULL, n * 2);
    struct gpu_adamw how = {.lr = 1e-2f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .decay = 0.01f, .g_scale = 1};
    gpu_adamw_correct(&how, 1);
    OK(op->adamw(f, dp, d16, dm, dv, dg, n, &how, &e));
    for (size_t i = 0; i < n; i++)
        want[i] = (double)p[i] * (1 - 1e-4) - 1e-2 * (g[i] > 0 ? 1 : -1); /* the first step goes by the sign */
    check("adamw", 1e-10, dp, want, n, true);
    check("adamw, bf16 copy", BF, d16, want, n, false);
    drop(dp, p), drop(dm, m), drop(dv, v), drop(dg, g), drop(d16, want);
}

/* Recorded once, run twice: a running sum grows by the same each time. */
static void graph(void **state) {
    (void)state;
    uint32_t n = 24, k = 64;
    float *x, *w;
    uint16_t *dx = numbers(&x, k, 1), *dw = numbers(&w, (size_t)n * k, 1);
    float *zero = mem_zarray(n, 4), *y = device(zero, n * 4);
    struct fast_weight fw = {FAST_BF16, n, k, dw, NULL};
    double *want = mem_zarray(n, sizeof *want);
    void *gr;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < k; j++)
            want[i] += 2 * (double)x[j] * (double)w[i * k + j];
    OK(op->graph_begin(f, &e));
    OK(op->gemv(f, y, true, n, dx, k, 1, &fw, true, &e));
    OK(op->graph_end(f, &gr, &e));
    OK(op->graph_run(f, gr, &e));
    OK(op->graph_run(f, gr, &e));
    OK(op->sync(f, &e));
    check("graph", 1e-10, y, want, n, true);
    op->graph_free(f, gr);
    drop(dx, x), drop(dw, w), drop(y, want);
    mem_free(zero);
}

int main(void) {
    const struct CMUnitTest host[] = {cmocka_unit_test(weights)};
    const struct CMUnitTest dev[] = {cmocka_unit_test(gemm),  cmocka_unit_test(gemv), cmocka_unit_test(attention), cmocka_unit_test(paged), cmocka_unit_test(rows),
                                     cmocka_unit_test(loss),  cmocka_unit_test(adapters), cmocka_unit_test(adamw), cmocka_unit_test(graph)};
    const char *name = getenv("LOAM_GPU_CUDA");
    int bad = cmocka_run_group_tests(host, NULL, NULL);
    if (!name)
        return bad;
    if (fast_ops(&op, &e) || op->open(&f, strchr(name, ':') ? atoi(strchr(name, ':') + 1) : 0, &e)) {
        printf("the fast mode was not checked: %s\n", e.text);
        return e.code == LOAM_EUNSUPPORTED || e.code == LOAM_ENOTFOUND ? bad : 1;
    }
    bad |= cmocka_run_group_tests(dev, NULL, NULL);
    op->close(f);
    return report() | bad;
}
