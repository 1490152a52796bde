/* What gpu/ reaches on this machine, and in the same run what the machine can do at all: read bandwidth, fp32 fma, int8
 * dot products. Shapes are SmolLM2-135M's (30 layers, width 576, 9 heads and 3 kv heads of 64, ffn 1536, vocabulary 49152),
 * weights random. One JSON object a line: {suite, name, value, unit, better, goal, peer, peer_value, command}; goal, peer
 * and peer_value are null where there is none. Peers' figures are of two Zen 3 cores (engine notes) and not of this run.
 *
 * usage: [BENCH_CPU_TIME=1] bench_gpu [threads [backend [filter]]] */
#include "base/clock.h"
#include "base/mem.h"
#include "gpu/arith.h"
#include "gpu/ops.h"
#include "gpu/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/banned.h"

enum { L = 30, C = 576, F = 1536, V = 49152, H = 9, G = 3, D = 64 };

static struct gpu *g;
static const char *filter;

static void die(struct err *e) {
    fprintf(stderr, "bench_gpu: %s\n", e->text);
    exit(1);
}
#define DO(call)                                                                                                      \
    do {                                                                                                              \
        struct err e_;                                                                                                \
        enum loam_status s_ = g->ops->call;                                                                           \
        if (s_)                                                                                                       \
            die(&e_);                                                                                                 \
    } while (0)
#define E &e_

/* Wall clock; with BENCH_CPU_TIME set the process's processor time, for one thread on a machine that is busy. */
static bool cpu_time;
static double now(void) {
    return cpu_time ? (double)clock() / CLOCKS_PER_SEC : (double)clock_mono_us() * 1e-6;
}
static void line(const char *name, double value, const char *unit, double goal, const char *peer, double peer_value) {
    printf("{\"suite\":\"gpu\",\"name\":\"%s\",\"value\":%.4g,\"unit\":\"%s\",\"better\":\"%s\",", name, value, unit,
           strcmp(unit, "ms") ? "higher" : "lower");
    if (goal > 0)
        printf("\"goal\":%g,", goal);
    else
        printf("\"goal\":null,");
    if (peer)
        printf("\"peer\":\"%s\",\"peer_value\":%g,", peer, peer_value);
    else
        printf("\"peer\":null,\"peer_value\":null,");
    printf("\"command\":\"bench_gpu %d %s\"}\n", g->threads, g->name);
    fflush(stdout);
}
static bool want(const char *name) {
    return !filter || strstr(name, filter);
}

static uint32_t state = 1;
static float noise(void) {
    state = state * 1664525u + 1013904223u;
    return (float)(int32_t)state * 0x1p-31f;
}
static float *floats(size_t n) {
    float *p = gpu_alloc(g, n * sizeof *p);
    if (!p)
        exit(1);
    for (size_t i = 0; i < n; i++)
        p[i] = noise();
    return p;
}
static struct gpu_weight weight(uint32_t type, uint32_t n, uint32_t k) {
    size_t bytes = gpu_pack_bytes(type, n, k);
    uint8_t *src = mem_alloc(gpu_row_bytes(type, k) * n), *p = gpu_alloc(g, bytes);
    float row[F];
    struct err e;
    if (!src || !p)
        exit(1);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < k; j++)
            row[j] = noise() * 0.05f;
        if (gpu_quantise(src + i * gpu_row_bytes(type, k), type, row, k, &e))
            die(&e);
    }
    if (gpu_pack(p, type, n, k, src, &e))
        die(&e);
    mem_free(src);
    return (struct gpu_weight){type, n, k, p};
}

/* best of several runs of `body`, seconds */
#define BEST(seconds, least, body)                                                                                    \
    do {                                                                                                              \
        double t0_ = now();                                                                                           \
        seconds = 1e9;                                                                                                \
        for (int i_ = 0; i_ < 3 || now() - t0_ < (least); i_++) {                                                     \
            double t_ = now();                                                                                        \
            body;                                                                                                     \
            t_ = now() - t_;                                                                                          \
            seconds = t_ < seconds ? t_ : seconds;                                                                    \
        }                                                                                                             \
    } while (0)

/* ---------------------------------------------------------------- the machine */

static uint8_t *big;
static const size_t big_bytes = (size_t)256 << 20;
static volatile uint64_t sink;

static void read_task(void *arg, uint32_t task, int thread) {
    size_t n = big_bytes / 64; /* 64 tasks, each in four streams */
    const uint64_t *p = (const uint64_t *)(const void *)(big + n * task);
    size_t q = n / 32;
    uint64_t a[4][8] = {{0}};
    for (size_t i = 0; i < q; i += 8)
        for (size_t s = 0; s < 4; s++) {
            __builtin_prefetch(p + s * q + i + 256);
            for (size_t k = 0; k < 8; k++)
                a[s][k] ^= p[s * q + i + k];
        }
    uint64_t x = 0;
    for (int i = 0; i < 32; i++)
        x ^= a[i / 8][i % 8];
    sink ^= x;
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void fma512(int n) {
    __m512 a[12], x = _mm512_set1_ps(1e-9f);
    for (int i = 0; i < 12; i++)
        a[i] = _mm512_set1_ps((float)i);
    for (int j = 0; j < n; j++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            a[i] = _mm512_fmadd_ps(x, x, a[i]);
        __asm__ volatile("" : "+v"(x));
    }
    for (int i = 1; i < 12; i++)
        a[0] = _mm512_add_ps(a[0], a[i]);
    sink ^= (uint64_t)_mm512_reduce_add_ps(a[0]);
}
__attribute__((target("avx2,fma"))) static void fma256(int n) {
    __m256 a[12], x = _mm256_set1_ps(1e-9f);
    for (int i = 0; i < 12; i++)
        a[i] = _mm256_set1_ps((float)i);
    for (int j = 0; j < n; j++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            a[i] = _mm256_fmadd_ps(x, x, a[i]);
        __asm__ volatile("" : "+x"(x));
    }
    for (int i = 1; i < 12; i++)
        a[0] = _mm256_add_ps(a[0], a[i]);
    float f[8];
    _mm256_storeu_ps(f, a[0]);
    sink ^= (uint64_t)f[0];
}
__attribute__((target("avx512f,avx512vnni"))) static void vnni512(int n) {
    __m512i a[12], x = _mm512_set1_epi8(3);
    for (int i = 0; i < 12; i++)
        a[i] = _mm512_set1_epi32(i);
    for (int j = 0; j < n; j++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            a[i] = _mm512_dpbusd_epi32(a[i], x, x);
        __asm__ volatile("" : "+v"(x));
    }
    for (int i = 1; i < 12; i++)
        a[0] = _mm512_add_epi32(a[0], a[i]);
    sink ^= (uint64_t)_mm512_reduce_add_epi32(a[0]);
}
static void peak_task(void *arg, uint32_t task, int thread) {
    const int *kind = arg;
    if (*kind == 0)
        fma256(2000000);
    else if (*kind == 1)
        fma512(2000000);
    else
        vnni512(2000000);
}
#endif

static double fma_peak, bandwidth;

static void machine(void) {
    double s;
    big = gpu_alloc(g, big_bytes);
    if (!big)
        exit(1);
    memset(big, 1, big_bytes);
    BEST(s, 1.5, pool_run(g->pool, 64, read_task, NULL));
    bandwidth = (double)big_bytes / s * 1e-9;
    line("read bandwidth", bandwidth, "GB/s", 0, NULL, 0);
    gpu_free(g, big);
#if defined(__x86_64__)
    int wide = !strcmp(g->name, "avx512");
    int kind = wide;
    BEST(s, 0.2, pool_run(g->pool, (uint32_t)g->threads, peak_task, &kind));
    fma_peak = g->threads * 2e6 * 12 * (wide ? 16 : 8) * 2 / s * 1e-9;
    line("fp32 fma peak", fma_peak, "GFLOP/s", 0, NULL, 0);
    if (wide) {
        kind = 2;
        BEST(s, 0.2, pool_run(g->pool, (uint32_t)g->threads, peak_task, &kind));
        line("int8 dot peak (VNNI)", g->threads * 2e6 * 12 * 64 * 2 / s * 1e-9, "Gop/s", 0, NULL, 0);
    }
#endif
}

/* ---------------------------------------------------------------- a model's matrices */

struct layer {
    struct gpu_weight q, k, v, o, gate, up, down;
};
static struct layer layers[L];
static struct gpu_weight head;
static size_t weight_bytes;

static void model_new(uint32_t type, uint32_t head_type) {
    weight_bytes = 0;
    for (int l = 0; l < L; l++) {
        struct gpu_weight w[7] = {weight(type, C, C), weight(type, G * D, C), weight(type, G * D, C), weight(type, C, C),
                                  weight(type, F, C), weight(type, F, C),     weight(type, C, F)};
        layers[l] = (struct layer){w[0], w[1], w[2], w[3], w[4], w[5], w[6]};
        for (int i = 0; i < 7; i++)
            weight_bytes += gpu_pack_bytes(type, w[i].n, w[i].k);
    }
    head = weight(head_type, V, C);
    weight_bytes += gpu_pack_bytes(head_type, V, C);
}
static void model_free(void) {
    for (int l = 0; l < L; l++) {
        const struct gpu_weight *w = &layers[l].q;
        for (int i = 0; i < 7; i++)
            gpu_free(g, (void *)(uintptr_t)w[i].packed);
    }
    gpu_free(g, (void *)(uintptr_t)head.packed);
}

static float *x, *h, *ff, *qkv, *logits;
static struct gpu_q8 xq, fq;

static void q8(struct gpu_q8 *q, uint32_t t, uint32_t k, const float *from) {
    q->t = t;
    q->k = k;
    DO(quant(g, q, from, k, E));
}

/* One forward of the linear layers, norms and activations (no attention) for t tokens; the head for `heads` of them. */
static void forward(uint32_t t, uint32_t heads, bool act_q8) {
    for (int l = 0; l < L; l++) {
        const struct layer *y = &layers[l];
        struct gpu_out o1[3] = {{qkv, C, &y->q}, {qkv + t * C, G * D, &y->k}, {qkv + t * (C + G * D), G * D, &y->v}};
        struct gpu_out o2[1] = {{h, C, &y->o}}, o3[2] = {{ff, F, &y->gate}, {ff + t * F, F, &y->up}}, o4[1] = {{h, C, &y->down}};
        DO(rmsnorm(g, h, NULL, x, x, t, C, 1e-5f, E));
        if (act_q8) {
            q8(&xq, t, C, h);
            DO(matmul_q8(g, o1, 3, &xq, E));
            q8(&xq, t, C, qkv);
            DO(matmul_q8(g, o2, 1, &xq, E));
        } else {
            DO(matmul(g, o1, 3, h, C, t, E));
            DO(matmul(g, o2, 1, qkv, C, t, E));
        }
        DO(rmsnorm(g, h, NULL, x, x, t, C, 1e-5f, E));
        if (act_q8) {
            q8(&xq, t, C, h);
            DO(matmul_q8(g, o3, 2, &xq, E));
        } else {
            DO(matmul(g, o3, 2, h, C, t, E));
        }
        DO(glu(g, ff, ff, ff + t * F, (size_t)t * F, GPU_SILU, E));
        if (act_q8) {
            q8(&fq, t, F, ff);
            DO(matmul_q8(g, o4, 1, &fq, E));
        } else {
            DO(matmul(g, o4, 1, ff, F, t, E));
        }
        DO(add(g, h, h, x, (size_t)t * C, E));
    }
    struct gpu_out oh[1] = {{logits, V, &head}};
    if (act_q8) {
        q8(&xq, heads, C, h);
        DO(matmul_q8(g, oh, 1, &xq, E));
    } else {
        DO(matmul(g, oh, 1, h, C, heads, E));
    }
}

static void inference(uint32_t type, uint32_t head_type, double goal_decode, double goal_prefill, const char *peer,
                      double peer_decode, double peer_prefill) {
    char name[96];
    bool act_q8 = gpu_type_quantised(type);
    double s;
    snprintf(name, sizeof name, "decode matrices %s", gpu_type_name(type));
    if (!want(name))
        return;
    model_new(type, head_type);
    BEST(s, 1.0, forward(1, 1, act_q8));
    line(name, 1 / s, "tok/s", goal_decode, peer, peer_decode);
    snprintf(name, sizeof name, "decode matrices %s, share of read bandwidth", gpu_type_name(type));
    line(name, (double)weight_bytes / s * 1e-9 / bandwidth * 100, "%", 75, NULL, 0);
    BEST(s, 0.5, forward(8, 8, act_q8));
    snprintf(name, sizeof name, "8 sequences %s", gpu_type_name(type));
    line(name, 8 / s, "tok/s", 0, NULL, 0);
    BEST(s, 0.5, forward(512, 1, act_q8));
    snprintf(name, sizeof name, "prefill matrices %s, 512", gpu_type_name(type));
    line(name, 512 / s, "tok/s", goal_prefill, peer, peer_prefill);
    model_free();
}

/* ---------------------------------------------------------------- training shapes */

static void product(const char *name, struct gpu_gemm p) {
    double s;
    if (!want(name))
        return;
    size_t na = (p.m - 1) * p.a_i + (p.k - 1) * p.a_p + 1, nb = (p.k - 1) * p.b_p + (p.n - 1) * p.b_j + 1;
    float *a = floats(na), *b = floats(nb), *c = floats((size_t)p.m * p.c_i);
    p.a = a;
    p.b = b;
    p.c = c;
    BEST(s, 0.3, DO(gemm(g, &p, E)));
    double rate = 2.0 * p.m * p.n * p.k / s * 1e-9;
    char full[128];
    line(name, rate, "GFLOP/s", 0, NULL, 0);
    if (fma_peak > 0) {
        snprintf(full, sizeof full, "%s, share of peak", name);
        line(full, rate / fma_peak * 100, "%", 0, NULL, 0);
    }
    gpu_free(g, a);
    gpu_free(g, b);
    gpu_free(g, c);
}

static void training(void) {
    enum { T = 1024, R = 16 };
    double s;
    product("gemm 1024x1536x576", (struct gpu_gemm){.m = T, .n = F, .k = C, .a_i = C, .a_p = 1, .b_p = 1, .b_j = C, .c_i = F,
                                                    .epi = GPU_SET, .alpha = 1});
    product("gemm 1024x576x1536", (struct gpu_gemm){.m = T, .n = C, .k = F, .a_i = F, .a_p = 1, .b_p = 1, .b_j = F, .c_i = C,
                                                    .epi = GPU_SET, .alpha = 1});
    product("lora h = x A^T 1024x16x576", (struct gpu_gemm){.m = T, .n = R, .k = C, .a_i = C, .a_p = 1, .b_p = 1, .b_j = C,
                                                            .c_i = R, .epi = GPU_SET, .alpha = 1});
    product("lora y += h B^T 1024x576x16", (struct gpu_gemm){.m = T, .n = C, .k = R, .a_i = R, .a_p = 1, .b_p = 1, .b_j = R,
                                                             .c_i = C, .epi = GPU_FMA, .alpha = 2});
    product("lora dh = dy B 1024x16x576", (struct gpu_gemm){.m = T, .n = R, .k = C, .a_i = C, .a_p = 1, .b_p = R, .b_j = 1,
                                                            .c_i = R, .epi = GPU_SET, .alpha = 2});
    product("lora dB = dy^T h 576x16x256", (struct gpu_gemm){.m = C, .n = R, .k = 256, .a_i = 1, .a_p = C, .b_p = R, .b_j = 1,
                                                             .c_i = R, .epi = GPU_SET, .alpha = 2});
    product("lora dA = dh^T x 16x576x256", (struct gpu_gemm){.m = R, .n = C, .k = 256, .a_i = 1, .a_p = R, .b_p = C, .b_j = 1,
                                                             .c_i = C, .epi = GPU_SET, .alpha = 1});
    product("lora dA of a row of 60 tokens", (struct gpu_gemm){.m = R, .n = C, .k = 60, .a_i = 1, .a_p = R, .b_p = C, .b_j = 1,
                                                               .c_i = C, .epi = GPU_SET, .alpha = 1});
    if (want("matmul weights")) {
        struct gpu_weight w = weight(GPU_Q4_1, F, C);
        float *a = floats((size_t)T * F), *b = floats((size_t)T * F);
        struct gpu_out o = {b, F, &w};
        BEST(s, 0.3, DO(matmul(g, &o, 1, a, C, T, E)));
        line("matmul Q4_1 weights act=f32 1024x1536x576", 2.0 * T * F * C / s * 1e-9, "GFLOP/s", 0, NULL, 0);
        BEST(s, 0.3, DO(matmul_dx(g, a, C, b, F, T, &w, GPU_SET, E)));
        line("matmul_dx Q4_1 weights 1024x576x1536", 2.0 * T * F * C / s * 1e-9, "GFLOP/s", 0, NULL, 0);
        gpu_free(g, a);
        gpu_free(g, b);
        gpu_free(g, (void *)(uintptr_t)w.packed);
    }
    if (want("attention")) {
        struct gpu_attn a = {H, G, D, 0.125f, 0};
        uint32_t seg[5] = {0, 256, 512, 768, 1024};
        float *q = floats((size_t)T * C), *k = floats((size_t)T * G * D), *v = floats((size_t)T * G * D), *o = floats((size_t)T * C);
        float *dq = floats((size_t)T * C), *dk = floats((size_t)T * G * D), *dv = floats((size_t)T * G * D);
        float *m = floats(T * H), *l = floats(T * H);
        BEST(s, 0.3, DO(attn(g, o, m, l, q, k, v, &a, seg, 4, E)));
        line("attention forward 4x256, a layer", s * 1e3, "ms", 0, NULL, 0);
        BEST(s, 0.3, DO(attn_dx(g, dq, dk, dv, q, o, m, l, q, k, v, &a, seg, 4, E)));
        line("attention backward 4x256, a layer", s * 1e3, "ms", 0, NULL, 0);
        float *p[] = {q, k, v, o, dq, dk, dv, m, l};
        for (int i = 0; i < 9; i++)
            gpu_free(g, p[i]);
    }
    if (want("rows")) {
        float *a = floats((size_t)T * F), *b = floats((size_t)T * F), *c = floats((size_t)T * F);
        BEST(s, 0.2, DO(glu(g, a, a, b, (size_t)T * F, GPU_SILU, E)));
        line("rows: swiglu 1024x1536", s * 1e3, "ms", 0, NULL, 0);
        BEST(s, 0.2, DO(glu_dx(g, a, b, c, a, b, (size_t)T * F, GPU_SILU, E)));
        line("rows: swiglu backward 1024x1536", s * 1e3, "ms", 0, NULL, 0);
        BEST(s, 0.2, DO(rmsnorm(g, c, NULL, a, b, T, C, 1e-5f, E)));
        line("rows: rmsnorm 1024x576", s * 1e3, "ms", 0, NULL, 0);
        BEST(s, 0.2, DO(rmsnorm_dx(g, c, c, a, a, b, T, C, true, E)));
        line("rows: rmsnorm backward 1024x576", s * 1e3, "ms", 0, NULL, 0);
        uint32_t pos[T];
        double freq[32];
        float *ct = floats((size_t)256 * 32), *st = floats((size_t)256 * 32);
        for (int i = 0; i < T; i++)
            pos[i] = (uint32_t)i % 256;
        gpu_rope_freqs(freq, D, 100000.0);
        gpu_rope_table(ct, st, 256, D, freq);
        BEST(s, 0.2, DO(rope(g, c, C, T, H, D, D, ct, st, pos, GPU_ROPE_NORM, false, E)));
        line("rows: rope 1024x9x64", s * 1e3, "ms", 0, NULL, 0);
        float *z = floats((size_t)128 * V), nll[128];
        uint32_t target[128] = {0};
        BEST(s, 0.3, DO(xent(g, nll, z, V, 128, V, target, true, E)));
        line("rows: cross-entropy 128x49152", s * 1e3, "ms", 0, NULL, 0);
        float *p[] = {a, b, c, ct, st, z};
        for (int i = 0; i < 6; i++)
            gpu_free(g, p[i]);
    }
}

static void attribution(void) {
    if (!want("scores"))
        return;
    uint32_t n = 20000;
    size_t len = 4096;
    int8_t *r = gpu_alloc(g, n * len), *q = gpu_alloc(g, len);
    int64_t *out = gpu_alloc(g, n * 8);
    double s;
    if (!r || !q || !out)
        exit(1);
    for (size_t i = 0; i < n * len; i += 64)
        r[i] = (int8_t)(i % 251 - 125);
    BEST(s, 0.5, DO(dot_i8(g, out, 1, r, len, n, q, len, 1, len, E)));
    line("scores: int8 rows of 4096, one query", n * len / s * 1e-9, "GB/s", 0, NULL, 0);
    gpu_free(g, r);
    gpu_free(g, q);
    gpu_free(g, out);
}

int main(int argc, char **argv) {
    struct gpu_config c = {.threads = argc > 1 ? atoi(argv[1]) : 0, .backend = argc > 2 ? argv[2] : NULL};
    struct err e;
    cpu_time = getenv("BENCH_CPU_TIME") != NULL;
    filter = argc > 3 ? argv[3] : NULL;
    if (gpu_open(&g, &c, &e))
        die(&e);
    machine();
    x = floats((size_t)512 * C);
    h = floats((size_t)512 * C);
    qkv = floats((size_t)512 * (C + 2 * G * D));
    ff = floats((size_t)512 * 2 * F);
    logits = floats((size_t)8 * V);
    xq = (struct gpu_q8){512, C, gpu_alloc(g, 512 * C), floats(512 * C / 32), floats(512 * C / 32)};
    fq = (struct gpu_q8){512, F, gpu_alloc(g, 512 * F), floats(512 * F / 32), floats(512 * F / 32)};
    inference(GPU_Q4_1, GPU_Q8_0, 320, 1500, "llama.cpp, Zen 3", 157, 411);
    inference(GPU_Q4_0, GPU_Q8_0, 330, 1500, "ik_llama.cpp, Zen 3", 181, 501);
    inference(GPU_Q8_0, GPU_Q8_0, 220, 1000, "ik_llama.cpp, Zen 3", 122, 438);
    inference(GPU_F16, GPU_F16, 120, 750, "ik_llama.cpp, Zen 3", 63, 380);
    training();
    attribution();
    gpu_close(g);
    return 0;
}
