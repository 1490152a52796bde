/* What gpu/ reaches on this machine, and in the same run what the machine can do at all: read bandwidth, fp32 fma, int8
 * dot products. Shapes are SmolLM2-135M's (30 layers, width 576, 9 heads and 3 kv heads of 64, ffn 1536, vocabulary 49152),
 * weights random, no attention and no cache: bench_infer measures whole models. One JSON object a line (contrib/bench/bench.h).
 *
 * usage: [BENCH_CPU_TIME=1] bench_gpu [threads [backend [filter]]] */
#include "bench.h"
#include "gpu/arith.h"

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

static struct bench_machine machine;
static void line(const char *name, double value, const char *unit, double limit, const char *limit_is) {
    bench_line(&(struct bench_row){.suite = "gpu", .name = name, .value = value, .unit = unit, .better = strcmp(unit, "ms") ? "higher" : "lower",
                                   .limit = limit, .limit_is = limit_is});
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

/* median of several runs of `body`, seconds */
#define MEDIAN(seconds, most, body)                                                                                   \
    do {                                                                                                              \
        struct bench_sample sample_ = {.n = 0};                                                                       \
        while (bench_more(&sample_, 7, most)) {                                                                       \
            bench_start(&sample_);                                                                                    \
            body;                                                                                                     \
            bench_stop(&sample_, 1);                                                                                  \
        }                                                                                                             \
        seconds = 1 / bench_median(&sample_);                                                                         \
    } while (0)

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

static void inference(uint32_t type, uint32_t head_type) {
    char name[96];
    bool act_q8 = gpu_type_quantised(type);
    double s, linear = 2.0 * L * (C * (2.0 * C + 2 * G * D) + 3.0 * C * F), top = 2.0 * C * V, peak = act_q8 ? machine.int8 : machine.fma;
    snprintf(name, sizeof name, "decode matrices %s", gpu_type_name(type));
    if (!want(name))
        return;
    model_new(type, head_type);
    MEDIAN(s, 60, forward(1, 1, act_q8));
    line(name, 1 / s, "tok/s", machine.read / (double)weight_bytes, "weights over read bandwidth");
    MEDIAN(s, 30, forward(8, 8, act_q8));
    snprintf(name, sizeof name, "8 sequences %s", gpu_type_name(type));
    line(name, 8 / s, "tok/s", peak / (linear + top), "operations over peak");
    MEDIAN(s, 20, forward(512, 1, act_q8));
    snprintf(name, sizeof name, "prefill matrices %s, 512", gpu_type_name(type));
    line(name, 512 / s, "tok/s", peak / (linear + top / 512), "operations over peak");
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
    MEDIAN(s, 40, DO(gemm(g, &p, E)));
    double rate = 2.0 * p.m * p.n * p.k / s * 1e-9;
    line(name, rate, "GFLOP/s", machine.fma * 1e-9, "fma peak");
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
        MEDIAN(s, 40, DO(matmul(g, &o, 1, a, C, T, E)));
        line("matmul Q4_1 weights act=f32 1024x1536x576", 2.0 * T * F * C / s * 1e-9, "GFLOP/s", machine.fma * 1e-9, "fma peak");
        MEDIAN(s, 40, DO(matmul_dx(g, a, C, b, F, T, &w, GPU_SET, E)));
        line("matmul_dx Q4_1 weights 1024x576x1536", 2.0 * T * F * C / s * 1e-9, "GFLOP/s", machine.fma * 1e-9, "fma peak");
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
        MEDIAN(s, 40, DO(attn(g, o, m, l, q, k, v, &a, seg, 4, E)));
        line("attention forward 4x256, a layer", s * 1e3, "ms", 0, NULL);
        MEDIAN(s, 40, DO(attn_dx(g, dq, dk, dv, q, o, m, l, q, k, v, &a, seg, 4, E)));
        line("attention backward 4x256, a layer", s * 1e3, "ms", 0, NULL);
        float *p[] = {q, k, v, o, dq, dk, dv, m, l};
        for (int i = 0; i < 9; i++)
            gpu_free(g, p[i]);
    }
    if (want("rows")) {
        float *a = floats((size_t)T * F), *b = floats((size_t)T * F), *c = floats((size_t)T * F);
        MEDIAN(s, 40, DO(glu(g, a, a, b, (size_t)T * F, GPU_SILU, E)));
        line("rows: swiglu 1024x1536", s * 1e3, "ms", 0, NULL);
        MEDIAN(s, 40, DO(glu_dx(g, a, b, c, a, b, (size_t)T * F, GPU_SILU, E)));
        line("rows: swiglu backward 1024x1536", s * 1e3, "ms", 0, NULL);
        MEDIAN(s, 40, DO(rmsnorm(g, c, NULL, a, b, T, C, 1e-5f, E)));
        line("rows: rmsnorm 1024x576", s * 1e3, "ms", 0, NULL);
        MEDIAN(s, 40, DO(rmsnorm_dx(g, c, c, a, a, b, T, C, true, E)));
        line("rows: rmsnorm backward 1024x576", s * 1e3, "ms", 0, NULL);
        uint32_t pos[T];
        double freq[32];
        float *ct = floats((size_t)256 * 32), *st = floats((size_t)256 * 32);
        for (int i = 0; i < T; i++)
            pos[i] = (uint32_t)i % 256;
        gpu_rope_freqs(freq, D, 100000.0);
        gpu_rope_table(ct, st, 256, D, freq);
        MEDIAN(s, 40, DO(rope(g, c, C, T, H, D, D, ct, st, pos, GPU_ROPE_NORM, false, E)));
        line("rows: rope 1024x9x64", s * 1e3, "ms", 0, NULL);
        float *z = floats((size_t)128 * V), nll[128];
        uint32_t target[128] = {0};
        MEDIAN(s, 40, DO(xent(g, nll, z, V, 128, V, target, true, E)));
        line("rows: cross-entropy 128x49152", s * 1e3, "ms", 0, NULL);
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
    MEDIAN(s, 40, DO(dot_i8(g, out, 1, r, len, n, q, len, 1, len, E)));
    line("scores: int8 rows of 4096, one query", n * len / s * 1e-9, "GB/s", machine.read * 1e-9, "read bandwidth");
    gpu_free(g, r);
    gpu_free(g, q);
    gpu_free(g, out);
}

int main(int argc, char **argv) {
    struct gpu_config c = {.threads = argc > 1 ? atoi(argv[1]) : 0, .backend = argc > 2 ? argv[2] : NULL};
    struct err e;
    bench_cpu_time = getenv("BENCH_CPU_TIME") != NULL;
    filter = argc > 3 ? argv[3] : NULL;
    if (gpu_open(&g, &c, &e))
        die(&e);
    snprintf(bench_command, sizeof bench_command, "%sbench_gpu %d %s", bench_cpu_time ? "BENCH_CPU_TIME=1 " : "", g->threads, g->name);
    bench_machine(&machine, g);
    bench_machine_lines("gpu", &machine, g);
    x = floats((size_t)512 * C);
    h = floats((size_t)512 * C);
    qkv = floats((size_t)512 * (C + 2 * G * D));
    ff = floats((size_t)512 * 2 * F);
    logits = floats((size_t)8 * V);
    xq = (struct gpu_q8){512, C, gpu_alloc(g, 512 * C), floats(512 * C / 32), floats(512 * C / 32)};
    fq = (struct gpu_q8){512, F, gpu_alloc(g, 512 * F), floats(512 * F / 32), floats(512 * F / 32)};
    inference(GPU_Q4_1, GPU_Q8_0);
    inference(GPU_Q4_0, GPU_Q8_0);
    inference(GPU_Q8_0, GPU_Q8_0);
    inference(GPU_F16, GPU_F16);
    training();
    attribution();
    gpu_close(g);
    return 0;
}
