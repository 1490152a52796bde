/* Figures of an NVIDIA device, one JSON object a line: what the device itself reaches first, then the fast mode (gpu/fast.h) on
 * models of Llama's shapes with random weights, then the referee. Medians of device events. contrib/gpu-bench builds and runs it
 * with its peers; contrib/bench/gpu.md keeps what was measured, where.
 *
 * bench_cuda [--device N] [--shape 1b|3b|8b] [--quick]     all shapes that fit without --shape
 * bench_cuda --trains                                      no figures: a tiny model learns one batch by heart, or exit status 1. Also on the
 *                                                          emulated device of tests/cuda_emu: proves the step's wiring. */
#include "base/mem.h"
#include "gpu/arith.h"
#include "gpu/fast.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct err e;
static const struct fast_ops *op;
static struct fast *f;
static bool quick;

static void die(const char *what) {
    fprintf(stderr, "bench_cuda: %s: %s\n", what, e.text);
    exit(1);
}
#define R(call)                                                                                                    \
    do {                                                                                                           \
        if (call)                                                                                                  \
            die(#call);                                                                                            \
    } while (0)

static void *room(size_t bytes) {
    void *p = op->alloc(f, bytes);
    if (!p) {
        snprintf(e.text, sizeof e.text, "%zu MiB more than the device has", bytes >> 20);
        die("memory");
    }
    return p;
}

static void figure(const char *shape, const char *name, double value, const char *unit, double goal, const char *of, double share) {
    printf("{\"suite\": \"gpu\", \"name\": \"%s%s%s\", \"value\": %.4g, \"unit\": \"%s\", \"better\": \"%s\", \"share_of\": \"%s\", \"share\": %.4g, \"goal_share\": %.4g, "
           "\"command\": \"make gpu-bench\"}\n", shape, *shape ? " " : "", name, value, unit, strcmp(unit, "ms") ? "more" : "less", of, share, goal);
    fflush(stdout);
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}
/* Median milliseconds of n calls after two that are not counted. */
static double median(int n, void (*run)(void *), void *arg) {
    float ms[64];
    run(arg);
    run(arg);
    for (int i = 0; i < n; i++) {
        R(op->clock_start(f, &e));
        run(arg);
        R(op->clock_stop(f, &ms[i], &e));
    }
    qsort(ms, (size_t)n, sizeof *ms, by_value);
    return (double)ms[n / 2];
}

/* ---- random arrays: a block of random numbers, repeated on the device ---- */

#define BLOCK ((size_t)1 << 22)
static uint16_t *noise; /* BLOCK bf16, about unit variance / 32 */
static void noise_make(void) {
    uint16_t *h = mem_array(BLOCK, sizeof *h);
    uint32_t key[2] = {1, 2}, w[4];
    if (!h)
        die("memory");
    for (size_t i = 0; i < BLOCK; i += 4) {
        arith_philox_block(key, 0, (uint32_t)(i / 4), w);
        for (int j = 0; j < 4; j++)
            h[i + (size_t)j] = arith_to_bf16((float)(int32_t)w[j] * 0x1p-31f * 0.054f); /* uniform, deviation 1/32 */
    }
    noise = room(BLOCK * 2);
    R(op->put(f, noise, h, BLOCK * 2, &e));
    mem_free(h);
}
static void *filled(size_t bytes) { /* any bytes make a weight: codes too */
    char *p = room(bytes);
    for (size_t at = 0; at < bytes; at += BLOCK * 2)
        R(op->copy(f, p + at, noise, bytes - at < BLOCK * 2 ? bytes - at : BLOCK * 2, &e));
    return p;
}
static void *constant(uint16_t v, size_t n) {
    uint16_t *h = mem_array(n, sizeof *h), *p = room(n * 2);
    for (size_t i = 0; i < n; i++)
        h[i] = v;
    R(op->put(f, p, h, n * 2, &e));
    mem_free(h);
    return p;
}

/* ---- models ---- */

struct shape {
    const char *name;
    uint32_t C, L, H, G, D, F, V;
    double goal_decode, goal_train;
};
static const struct shape shapes[] = {{"1B", 2048, 16, 32, 8, 64, 8192, 128256, 0.8, 0.5},
                                      {"3B", 3072, 28, 24, 8, 128, 8192, 128256, 0.9, 0.6},
                                      {"8B", 4096, 32, 32, 8, 128, 14336, 128256, 0.9, 0.6},
                                      {"tiny", 128, 2, 2, 1, 64, 192, 512, 0, 0}};
static double parameters(const struct shape *s) { /* that a token multiplies with: the head, not the embedding */
    double qkv = (double)(s->H + 2 * s->G) * s->D;
    return (double)s->L * s->C * (qkv + (double)s->H * s->D + 3.0 * s->F) + (double)s->V * s->C;
}

enum { QKV, O, GU, DOWN, GROUPS };
struct layer {
    struct fast_weight w[GROUPS];
    uint16_t *norm1, *norm2;
};
struct model {
    const struct shape *s;
    struct layer *l;
    struct fast_weight head;
    uint16_t *norm, *embed;
    float *ct, *st;
    double bytes; /* of weights that a token reads */
};

static struct fast_weight weight(struct model *m, enum fast_type type, uint32_t n, uint32_t k) {
    struct fast_weight w = {type, n, k, filled(fast_weight_bytes(type, n, k)), NULL};
    size_t sb = fast_scale_bytes(type, n, k);
    if (sb)
        w.scale = type == FAST_F8 ? filled(sb) : constant(arith_to_half(0x1p-10f), sb / 2);
    m->bytes += (double)fast_weight_bytes(type, n, k) + (double)sb;
    return w;
}
static uint32_t width(const struct shape *s, int g) {
    return g == QKV ? (s->H + 2 * s->G) * s->D : g == O || g == DOWN ? s->C : 2 * s->F;
}
static uint32_t inner(const struct shape *s, int g) {
    return g == O ? s->H * s->D : g == DOWN ? s->F : s->C;
}
static void model_make(struct model *m, const struct shape *s, enum fast_type type, uint32_t positions) {
    *m = (struct model){.s = s, .l = mem_zarray(s->L, sizeof *m->l)};
    for (uint32_t l = 0; l < s->L; l++) {
        for (int g = 0; g < GROUPS; g++)
            m->l[l].w[g] = weight(m, type, width(s, g), inner(s, g));
        m->l[l].norm1 = constant(arith_to_bf16(1), s->C);
        m->l[l].norm2 = constant(arith_to_bf16(1), s->C);
    }
    m->head = weight(m, type, s->V, s->C);
    m->norm = constant(arith_to_bf16(1), s->C);
    m->embed = filled((size_t)s->V * s->C * 2);
    size_t n = (size_t)positions * s->D / 2;
    float *c = mem_array(n, 4), *si = mem_array(n, 4);
    double *freq = mem_array(s->D / 2, sizeof *freq);
    gpu_rope_freqs(freq, s->D, 500000);
    gpu_rope_table(c, si, positions, s->D, freq);
    m->ct = room(n * 4);
    m->st = room(n * 4);
    R(op->put(f, m->ct, c, n * 4, &e));
    R(op->put(f, m->st, si, n * 4, &e));
    mem_free(c);
    mem_free(si);
    mem_free(freq);
}
static void weight_free(struct fast_weight *w) {
    op->free(f, (void *)(uintptr_t)w->w);
    op->free(f, (void *)(uintptr_t)w->scale);
}
static void model_free(struct model *m) {
    for (uint32_t l = 0; l < m->s->L; l++) {
        for (int g = 0; g < GROUPS; g++)
            weight_free(&m->l[l].w[g]);
        op->free(f, m->l[l].norm1);
        op->free(f, m->l[l].norm2);
    }
    weight_free(&m->head);
    op->free(f, m->norm);
    op->free(f, m->embed);
    op->free(f, m->ct);
    op->free(f, m->st);
    mem_free(m->l);
}

static void linear(const struct model *m, uint16_t *y, size_t ldy, const uint16_t *x, uint32_t t, const struct fast_weight *w, bool add) {
    (void)m;
    if (w->type != FAST_BF16 || t <= 4) { /* few tokens: each weight once, at the memory's speed */
        for (uint32_t at = 0; at < t; at += 8)
            R(op->gemv(f, y + at * ldy, false, ldy, x + (size_t)at * w->k, w->k, t - at < 8 ? t - at : 8, w, add, &e));
        return;
    }
    const struct fast_gemm g = {.m = t, .n = w->n, .k = w->k, .a = x, .lda = w->k, .b = w->w, .ldb = w->k, .b_t = true, .c = y, .ldc = ldy, .alpha = 1, .beta = add};
    R(op->gemm(f, &g, &e));
}

/* ---- decode: n sequences of one new token, recorded as a graph ---- */

struct decode {
    struct model *m;
    uint32_t n, len;
    uint16_t *x, *xn, *qkv, *o, *gu, *act, *logits, *tmp;
    uint16_t *k, *v;
    struct fast_kv kv;
    uint32_t *ids, *pos;
    const struct fast_lora *lora; /* [L][GROUPS]; NULL: no adapter */
    void *graph;
};
static void decode_step(struct decode *d) {
    const struct shape *s = d->m->s;
    uint32_t n = d->n, nq = s->H * s->D, nk = s->G * s->D, N = nq + 2 * nk;
    R(op->embed(f, d->x, d->m->embed, d->ids, n, s->C, &e));
    for (uint32_t l = 0; l < s->L; l++) {
        struct layer *w = &d->m->l[l];
        struct fast_kv kv = d->kv;
        size_t pages = (size_t)d->n * d->kv.table_ld * s->G * GPU_KV_PAGE * s->D;
        kv.k_pages = d->k + l * pages;
        kv.v_pages = d->v + l * pages;
        R(op->norm(f, d->xn, NULL, d->x, l ? d->tmp : NULL, w->norm1, n, s->C, 1e-5f, &e));
        linear(d->m, d->qkv, N, d->xn, n, &w->w[QKV], false);
        if (d->lora)
            R(op->lora(f, d->qkv, N, d->xn, s->C, n, &d->lora[l * GROUPS + QKV], &e));
        R(op->rope(f, d->qkv, N, n, s->H + s->G, s->D, d->m->ct, d->m->st, d->pos, GPU_ROPE_NEOX, false, &e));
        R(op->kv_put(f, d->qkv + nq, d->qkv + nq + nk, N, &kv, &e));
        R(op->attn_kv(f, d->o, nq, d->qkv, N, &kv, &e));
        linear(d->m, d->tmp, s->C, d->o, n, &w->w[O], false);
        if (d->lora)
            R(op->lora(f, d->tmp, s->C, d->o, nq, n, &d->lora[l * GROUPS + O], &e));
        R(op->norm(f, d->xn, NULL, d->x, d->tmp, w->norm2, n, s->C, 1e-5f, &e));
        linear(d->m, d->gu, 2 * s->F, d->xn, n, &w->w[GU], false);
        if (d->lora)
            R(op->lora(f, d->gu, 2 * s->F, d->xn, s->C, n, &d->lora[l * GROUPS + GU], &e));
        R(op->swiglu(f, d->act, d->gu, n, s->F, &e));
        linear(d->m, d->tmp, s->C, d->act, n, &w->w[DOWN], false);
        if (d->lora)
            R(op->lora(f, d->tmp, s->C, d->act, s->F, n, &d->lora[l * GROUPS + DOWN], &e));
    }
    R(op->norm(f, d->xn, NULL, d->x, d->tmp, d->m->norm, n, s->C, 1e-5f, &e));
    linear(d->m, d->logits, s->V, d->xn, n, &d->m->head, false);
}
static void decode_run(void *arg) {
    struct decode *d = arg;
    R(op->graph_run(f, d->graph, &e));
}
/* Milliseconds a step of n sequences that are `len` long (they stay so: each step writes the same position again). */
static double decode(struct model *m, uint32_t n, uint32_t len, const struct fast_lora *lora) {
    const struct shape *s = m->s;
    struct decode d = {.m = m, .n = n, .len = len, .lora = lora};
    uint32_t pages = (len + GPU_KV_PAGE - 1) / GPU_KV_PAGE, nq = s->H * s->D, N = nq + 2 * s->G * s->D;
    size_t kv = (size_t)s->L * n * pages * s->G * GPU_KV_PAGE * s->D;
    int32_t *table = mem_array((size_t)n * pages, sizeof *table);
    uint32_t *lens = mem_array(n, 4), *pos = mem_array(n, 4), *ids = mem_array(n, 4);
    for (uint32_t i = 0; i < n * pages; i++)
        table[i] = (int32_t)i;
    for (uint32_t i = 0; i < n; i++) {
        lens[i] = len;
        pos[i] = len - 1;
        ids[i] = i + 7;
    }
    d.k = filled(kv * 2);
    d.v = filled(kv * 2);
    d.x = room((size_t)n * s->C * 2), d.xn = room((size_t)n * s->C * 2), d.tmp = room((size_t)n * s->C * 2);
    d.qkv = room((size_t)n * N * 2), d.o = room((size_t)n * nq * 2), d.gu = room((size_t)n * 4 * s->F), d.act = room((size_t)n * s->F * 2);
    d.logits = room((size_t)n * s->V * 2);
    int32_t *dt = room((size_t)n * pages * 4);
    uint32_t *dl = room(n * 4);
    d.ids = room(n * 4), d.pos = room(n * 4);
    R(op->put(f, dt, table, (size_t)n * pages * 4, &e));
    R(op->put(f, dl, lens, n * 4, &e));
    R(op->put(f, d.pos, pos, n * 4, &e));
    R(op->put(f, d.ids, ids, n * 4, &e));
    d.kv = (struct fast_kv){.h = s->H, .g = s->G, .d = s->D, .scale = 1.0f / 8, .table = dt, .table_ld = pages, .len = dl, .n = n, .longest = len};
    decode_step(&d); /* sizes scratch memory, finds the products' plans */
    R(op->sync(f, &e));
    R(op->graph_begin(f, &e));
    decode_step(&d);
    R(op->graph_end(f, &d.graph, &e));
    double ms = median(quick ? 5 : 21, decode_run, &d);
    op->graph_free(f, d.graph);
    void *all[] = {d.k, d.v, d.x, d.xn, d.tmp, d.qkv, d.o, d.gu, d.act, d.logits, dt, dl, d.ids, d.pos};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        op->free(f, all[i]);
    mem_free(table), mem_free(lens), mem_free(pos), mem_free(ids);
    return ms;
}

/* ---- training: LoRA on all linears; forward saves, backward takes ---- */

#define RANK 16u
#define SCALE 2.0f
static const int slices_of[GROUPS] = {3, 1, 2, 1};
static uint32_t slice(const struct shape *s, int g, int i, uint32_t *at) {
    uint32_t nq = s->H * s->D, nk = s->G * s->D;
    *at = g == QKV ? (i == 0 ? 0 : i == 1 ? nq : nq + nk) : g == GU ? (uint32_t)i * s->F : 0;
    return g == QKV ? (i ? nk : nq) : g == GU ? s->F : s->C;
}
struct saved {
    uint16_t *x, *xm, *xn1, *xn2, *qkv, *o, *gu, *h[GROUPS]; /* x: the stream before the layer; xm: after attention */
    float *r1, *r2, *lse;
};
struct train {
    struct model *m;
    uint32_t t, n_seg, chunk;
    struct saved *s;
    uint16_t *x_end, *xf, *y, *act, *dx, *dn, *dqkv, *d_o, *dgu, *dact, *dh, *logits;
    float *rf, *dd, *nll, *p, *mo, *vo, *grad; /* adapters: A [slices R][K], B [N][R] a group */
    uint16_t *p16;
    size_t n, a_at[4], b_at[4], per_layer;
    uint32_t *ids, *target, *pos, *seg;
    bool forward_only;
    float lr;
    uint64_t step;
};
static void gemm(uint32_t m, uint32_t n, uint32_t k, const uint16_t *a, size_t lda, bool a_t, const uint16_t *b, size_t ldb, bool b_t, void *c, size_t ldc, bool f32,
                 float alpha, float beta) {
    const struct fast_gemm g = {.m = m, .n = n, .k = k, .a = a, .lda = lda, .a_t = a_t, .b = b, .ldb = ldb, .b_t = b_t, .c = c, .ldc = ldc, .c_f32 = f32, .alpha = alpha, .beta = beta};
    R(op->gemm(f, &g, &e));
}
static void forward_group(struct train *t, uint32_t l, int g, uint16_t *y, const uint16_t *x) {
    const struct shape *s = t->m->s;
    uint32_t N = width(s, g), K = inner(s, g), S = (uint32_t)slices_of[g];
    const uint16_t *a = t->p16 + l * t->per_layer + t->a_at[g], *b = t->p16 + l * t->per_layer + t->b_at[g];
    linear(t->m, y, N, x, t->t, &t->m->l[l].w[g], false);
    gemm(t->t, S * RANK, K, x, K, false, a, K, true, t->s[l].h[g], S * RANK, false, 1, 0);
    for (uint32_t i = 0, at, n; i < S; i++) {
        n = slice(s, g, (int)i, &at);
        gemm(t->t, n, RANK, t->s[l].h[g] + i * RANK, S * RANK, false, b + (size_t)at * RANK, RANK, true, y + at, N, false, SCALE, 1);
    }
}
/* dx (NULL: not wanted) = dy W + its adapter's part. */
static void backward_group(struct train *t, uint32_t l, int g, uint16_t *dx, const uint16_t *dy, const uint16_t *x) {
    const struct shape *s = t->m->s;
    uint32_t N = width(s, g), K = inner(s, g), S = (uint32_t)slices_of[g];
    size_t base = l * t->per_layer;
    const uint16_t *a = t->p16 + base + t->a_at[g], *b = t->p16 + base + t->b_at[g];
    for (uint32_t i = 0, at, n; i < S; i++) {
        n = slice(s, g, (int)i, &at);
        gemm(t->t, RANK, n, dy + at, N, false, b + (size_t)at * RANK, RANK, false, t->dh + i * RANK, S * RANK, false, SCALE, 0);
        gemm(n, RANK, t->t, dy + at, N, true, t->s[l].h[g] + i * RANK, S * RANK, false, t->grad + base + t->b_at[g] + (size_t)at * RANK, RANK, true, SCALE, 0);
    }
    gemm(S * RANK, K, t->t, t->dh, S * RANK, true, x, K, false, t->grad + base + t->a_at[g], K, true, 1, 0);
    if (!dx)
        return;
    gemm(t->t, K, N, dy, N, false, t->m->l[l].w[g].w, K, false, dx, K, false, 1, 0);
    gemm(t->t, K, S * RANK, t->dh, S * RANK, false, a, K, false, dx, K, false, 1, 1);
}
static void train_step(void *arg) {
    struct train *t = arg;
    const struct shape *s = t->m->s;
    uint32_t T = t->t, C = s->C, nq = s->H * s->D, nk = s->G * s->D, N = nq + 2 * nk;
    struct fast_attn at = {.h = s->H, .g = s->G, .d = s->D, .scale = 1.0f / (s->D == 64 ? 8.0f : 11.3137085f), .seg = t->seg, .n_seg = t->n_seg, .t = T,
                           .longest = T / t->n_seg, .ldq = N, .ldkv = N, .ldo = nq};
    R(op->embed(f, t->s[0].x, t->m->embed, t->ids, T, C, &e));
    for (uint32_t l = 0; l < s->L; l++) {
        struct saved *v = &t->s[l];
        uint16_t *next = l + 1 < s->L ? t->s[l + 1].x : t->x_end;
        R(op->norm(f, v->xn1, v->r1, v->x, NULL, t->m->l[l].norm1, T, C, 1e-5f, &e));
        forward_group(t, l, QKV, v->qkv, v->xn1);
        R(op->rope(f, v->qkv, N, T, s->H + s->G, s->D, t->m->ct, t->m->st, t->pos, GPU_ROPE_NEOX, false, &e));
        R(op->attn(f, v->o, v->lse, v->qkv, v->qkv + nq, v->qkv + nq + nk, &at, &e));
        forward_group(t, l, O, t->y, v->o);
        R(op->copy(f, v->xm, v->x, (size_t)T * C * 2, &e));
        R(op->norm(f, v->xn2, v->r2, v->xm, t->y, t->m->l[l].norm2, T, C, 1e-5f, &e));
        forward_group(t, l, GU, v->gu, v->xn2);
        R(op->swiglu(f, t->act, v->gu, T, s->F, &e));
        forward_group(t, l, DOWN, t->y, t->act);
        R(op->copy(f, next, v->xm, (size_t)T * C * 2, &e));
        /* the residual is added here for the saved stream: xf serves as the norm's unused output */
        R(op->norm(f, t->xf, t->rf, next, t->y, t->m->norm, T, C, 1e-5f, &e));
    }
    for (uint32_t i = 0; i < T; i += t->chunk) { /* logits never whole */
        uint32_t n = T - i < t->chunk ? T - i : t->chunk;
        linear(t->m, t->logits, s->V, t->xf + (size_t)i * C, n, &t->m->head, false);
        R(op->xent(f, t->nll + i, t->logits, s->V, n, s->V, t->target + i, 1.0f / (float)T, !t->forward_only, &e));
        if (!t->forward_only)
            gemm(n, C, s->V, t->logits, s->V, false, t->m->head.w, C, false, t->dn + (size_t)i * C, C, false, 1, 0);
    }
    if (t->forward_only)
        return;
    R(op->norm_dx(f, t->dx, t->dn, t->x_end, t->rf, t->m->norm, T, C, false, &e));
    for (uint32_t l = s->L; l-- > 0;) {
        struct saved *v = &t->s[l];
        R(op->swiglu(f, t->act, v->gu, T, s->F, &e)); /* cheap: not kept */
        backward_group(t, l, DOWN, t->dact, t->dx, t->act);
        R(op->swiglu_dx(f, t->dgu, t->dact, v->gu, T, s->F, &e));
        backward_group(t, l, GU, t->dn, t->dgu, v->xn2);
        R(op->norm_dx(f, t->dx, t->dn, v->xm, v->r2, t->m->l[l].norm2, T, C, true, &e));
        backward_group(t, l, O, t->d_o, t->dx, v->o);
        R(op->attn_dx(f, t->dqkv, t->dqkv + nq, t->dqkv + nq + nk, t->dd, t->d_o, v->o, v->lse, v->qkv, v->qkv + nq, v->qkv + nq + nk, &at, &e));
        R(op->rope(f, t->dqkv, N, T, s->H + s->G, s->D, t->m->ct, t->m->st, t->pos, GPU_ROPE_NEOX, true, &e));
        backward_group(t, l, QKV, l ? t->dn : NULL, t->dqkv, v->xn1);
        if (l)
            R(op->norm_dx(f, t->dx, t->dn, v->x, v->r1, t->m->l[l].norm1, T, C, true, &e));
    }
    struct gpu_adamw how = {.lr = t->lr, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .g_scale = 1};
    gpu_adamw_correct(&how, ++t->step);
    R(op->adamw(f, t->p, t->p16, t->mo, t->vo, t->grad, t->n, &how, &e));
}

static double mib_held;
static void *hold(size_t bytes) {
    mib_held += (double)bytes / 1048576;
    return room(bytes);
}
static void train_make(struct train *t, struct model *m, uint32_t n_seg, uint32_t len) {
    const struct shape *s = m->s;
    uint32_t T = n_seg * len, C = s->C, nq = s->H * s->D, N = nq + 2 * s->G * s->D;
    *t = (struct train){.m = m, .t = T, .n_seg = n_seg, .chunk = T < 1024 ? T : 1024, .s = mem_zarray(s->L, sizeof *t->s), .lr = 2e-3f};
    mib_held = m->bytes / 1048576;
    for (int g = 0; g < GROUPS; g++) {
        t->a_at[g] = t->per_layer;
        t->per_layer += (size_t)slices_of[g] * RANK * inner(s, g);
        t->b_at[g] = t->per_layer;
        t->per_layer += (size_t)width(s, g) * RANK;
    }
    t->n = t->per_layer * s->L;
    float *p = mem_zarray(t->n, 4);
    uint16_t *p16 = mem_zarray(t->n, 2);
    uint32_t key[2] = {3, 4}, w[4];
    for (uint32_t l = 0; l < s->L; l++)
        for (int g = 0; g < GROUPS; g++) /* A random, B zero, as LoRA begins */
            for (size_t i = t->a_at[g]; i < t->b_at[g]; i++) {
                arith_philox_block(key, l, (uint32_t)i, w);
                p[l * t->per_layer + i] = (float)(int32_t)w[0] * 0x1p-31f / 16;
                p16[l * t->per_layer + i] = arith_to_bf16(p[l * t->per_layer + i]);
            }
    t->p = hold(t->n * 4), t->mo = hold(t->n * 4), t->vo = hold(t->n * 4), t->grad = hold(t->n * 4), t->p16 = hold(t->n * 2);
    R(op->put(f, t->p, p, t->n * 4, &e));
    R(op->put(f, t->p16, p16, t->n * 2, &e));
    memset(p, 0, t->n * 4);
    R(op->put(f, t->mo, p, t->n * 4, &e));
    R(op->put(f, t->vo, p, t->n * 4, &e));
    mem_free(p);
    mem_free(p16);
    for (uint32_t l = 0; l < s->L; l++) {
        struct saved *v = &t->s[l];
        v->x = hold((size_t)T * C * 2), v->xm = hold((size_t)T * C * 2), v->xn1 = hold((size_t)T * C * 2), v->xn2 = hold((size_t)T * C * 2);
        v->qkv = hold((size_t)T * N * 2), v->o = hold((size_t)T * nq * 2), v->gu = hold((size_t)T * s->F * 4);
        v->r1 = hold(T * 4), v->r2 = hold(T * 4), v->lse = hold((size_t)T * s->H * 4);
        for (int g = 0; g < GROUPS; g++)
            v->h[g] = hold((size_t)T * (size_t)slices_of[g] * RANK * 2);
    }
    t->x_end = hold((size_t)T * C * 2), t->xf = hold((size_t)T * C * 2), t->y = hold((size_t)T * C * 2), t->act = hold((size_t)T * s->F * 2);
    t->dx = hold((size_t)T * C * 2), t->dn = hold((size_t)T * C * 2), t->dqkv = hold((size_t)T * N * 2), t->d_o = hold((size_t)T * nq * 2);
    t->dgu = hold((size_t)T * s->F * 4), t->dact = hold((size_t)T * s->F * 2), t->dh = hold((size_t)T * 3 * RANK * 2);
    t->logits = hold((size_t)t->chunk * s->V * 2), t->rf = hold(T * 4), t->dd = hold((size_t)T * s->H * 4), t->nll = hold(T * 4);
    t->ids = hold(T * 4), t->target = hold(T * 4), t->pos = hold(T * 4), t->seg = hold((n_seg + 1) * 4);
    uint32_t *h = mem_array(T + 1, 4);
    for (uint32_t i = 0; i < T; i++)
        h[i] = (i * 2654435761u >> 7) % s->V;
    R(op->put(f, t->ids, h, T * 4, &e));
    for (uint32_t i = 0; i < T; i++)
        h[i] = ((i + 1) * 2654435761u >> 7) % s->V;
    R(op->put(f, t->target, h, T * 4, &e));
    for (uint32_t i = 0; i < T; i++)
        h[i] = i % len;
    R(op->put(f, t->pos, h, T * 4, &e));
    for (uint32_t i = 0; i <= n_seg; i++)
        h[i] = i * len;
    R(op->put(f, t->seg, h, (n_seg + 1) * 4, &e));
    mem_free(h);
}
static double loss(struct train *t) {
    float *h = mem_array(t->t, 4);
    double sum = 0;
    R(op->get(f, h, t->nll, t->t * 4, &e));
    for (uint32_t i = 0; i < t->t; i++)
        sum += (double)h[i] / t->t;
    mem_free(h);
    return sum;
}

/* It must learn, and along its own gradient the loss must rise by the gradient's length. */
static int trains(void) {
    struct model m;
    struct train t;
    noise_make();
    model_make(&m, &shapes[3], FAST_BF16, 64);
    train_make(&t, &m, 2, 20);
    train_step(&t);
    double first = loss(&t), side[2], len = 0;
    for (int i = 0; i < 12; i++)
        train_step(&t);
    t.lr = 0;
    train_step(&t);
    double last = loss(&t);
    float *g = mem_array(t.n, 4), *p = mem_array(t.n, 4);
    uint16_t *q = mem_array(t.n, 2);
    R(op->get(f, g, t.grad, t.n * 4, &e));
    R(op->get(f, p, t.p, t.n * 4, &e));
    for (size_t i = 0; i < t.n; i++)
        len += (double)g[i] * (double)g[i];
    len = sqrt(len);
    t.forward_only = true;
    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < t.n; i++)
            q[i] = arith_to_bf16(p[i] + (float)((k ? -0.1 : 0.1) / len / len * (double)g[i])); /* 0.1 nats each way */
        R(op->put(f, t.p16, q, t.n * 2, &e));
        train_step(&t);
        side[k] = loss(&t);
    }
    double slope = (side[0] - side[1]) / 0.2 * len;
    printf("loss %.3f to %.3f in 13 steps; slope %.4g along a gradient of %.4g\n", first, last, slope, len);
    mem_free(g), mem_free(p), mem_free(q);
    return last < 0.9 * first && slope > 0.9 * len && slope < 1.1 * len ? 0 : 1;
}

/* ---- the device itself, and the rest ---- */

struct two {
    char *a, *b;
    size_t bytes;
    struct fast_gemm g;
};
static void copy_run(void *arg) {
    struct two *t = arg;
    R(op->copy(f, t->a, t->b, t->bytes, &e));
}
static void gemm_run(void *arg) {
    struct two *t = arg;
    R(op->gemm(f, &t->g, &e));
}

static void one_shape(const struct shape *s, double copy, double rate) {
    static const struct {
        enum fast_type type;
        const char *name;
    } types[] = {{FAST_BF16, "bf16"}, {FAST_F8, "fp8"}, {FAST_Q8, "Q8"}, {FAST_Q4, "4-bit"}};
    struct model m;
    char name[64];
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        model_make(&m, s, types[i].type, 8192);
        double ms = decode(&m, 1, 1024, NULL);
        snprintf(name, sizeof name, "decode 1, %s, 1024 positions", types[i].name);
        figure(s->name, name, 1e3 / ms, "tok/s", s->goal_decode, "copy bandwidth, in weight bytes", m.bytes / (ms * 1e6) / copy);
        if (types[i].type == FAST_BF16) {
            /* 32 sequences with 32 adapters, with one, with none */
            struct fast_adapter *ad = mem_zarray(32, sizeof *ad);
            struct fast_lora *lo = mem_zarray((size_t)s->L * GROUPS, sizeof *lo);
            int32_t map[2][32];
            double bytes = 0;
            void *maps[2], **lists = mem_zarray((size_t)s->L * GROUPS, sizeof *lists);
            for (int k = 0; k < 32; k++) {
                map[0][k] = k;
                map[1][k] = 0;
            }
            for (int k = 0; k < 2; k++) {
                maps[k] = room(sizeof map[0]);
                R(op->put(f, maps[k], map[k], sizeof map[0], &e));
            }
            for (uint32_t l = 0; l < s->L; l++)
                for (int g = 0; g < GROUPS; g++) {
                    struct fast_lora *q = &lo[l * GROUPS + (uint32_t)g];
                    uint32_t K = inner(s, g), N = width(s, g);
                    *q = (struct fast_lora){.slices = (uint32_t)slices_of[g], .k = K};
                    for (int k = 0; k < 32; k++) {
                        uint16_t *p = filled(((size_t)slices_of[g] * RANK * K + (size_t)N * RANK) * 2);
                        ad[k].r = RANK;
                        ad[k].scale = SCALE;
                        for (int i2 = 0; i2 < slices_of[g]; i2++) {
                            q->n[i2] = slice(s, g, i2, &q->y_at[i2]);
                            ad[k].a[i2] = p + (size_t)i2 * RANK * K;
                            ad[k].b[i2] = p + (size_t)slices_of[g] * RANK * K + (size_t)q->y_at[i2] * RANK;
                        }
                    }
                    bytes += ((double)slices_of[g] * RANK * K + (double)N * RANK) * 2;
                    lists[l * GROUPS + (uint32_t)g] = room(32 * sizeof *ad);
                    R(op->put(f, lists[l * GROUPS + (uint32_t)g], ad, 32 * sizeof *ad, &e));
                    q->list = lists[l * GROUPS + (uint32_t)g];
                    q->map = maps[0];
                }
            double none = decode(&m, 32, 512, NULL), many = decode(&m, 32, 512, lo);
            for (uint32_t j = 0; j < s->L * GROUPS; j++)
                lo[j].map = maps[1];
            double one = decode(&m, 32, 512, lo);
            double bound = (m.bytes + bytes) / (m.bytes + 32 * bytes);
            figure(s->name, "decode 32, no adapter", 32e3 / none, "tok/s", 0, "", 0);
            figure(s->name, "decode 32, one adapter", 32e3 / one, "tok/s", 0, "no adapter", none / one);
            figure(s->name, "decode 32, 32 adapters", 32e3 / many, "tok/s", 0.95, "byte bound of one adapter's rate", one / many / bound);
            for (uint32_t j = 0; j < s->L * GROUPS; j++)
                op->free(f, lists[j]);
            op->free(f, maps[0]);
            op->free(f, maps[1]);
            mem_free(lists), mem_free(lo), mem_free(ad);
        }
        model_free(&m);
    }
    struct train t;
    model_make(&m, s, FAST_BF16, 8192);
    train_make(&t, &m, 2, 4096);
    t.forward_only = true;
    double P = parameters(s), T = t.t, ms = median(quick ? 3 : 9, train_step, &t);
    figure(s->name, "prefill 2 x 4096, with adapters and loss", T / ms * 1e3, "tok/s", 0.7, "GEMM rate, 2P FLOPs", 2 * P * T / (ms * 1e9) / rate);
    t.forward_only = false;
    ms = median(quick ? 3 : 9, train_step, &t);
    figure(s->name, "LoRA r16 all linears, 2 x 4096", T / ms * 1e3, "tok/s", s->goal_train, "GEMM rate, 4P FLOPs", 4 * P * T / (ms * 1e9) / rate);
    figure(s->name, "LoRA memory held", mib_held, "MiB", 0.6, "PEFT (see its line)", 0);
    printf("{\"suite\": \"gpu\", \"name\": \"%s LoRA loss\", \"value\": %.4f, \"unit\": \"nats\"}\n", s->name, loss(&t));
}

/* The referee, by the clock of the host around calls that end with the device's work. */
static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}
static void referee(int device, double copy) {
    struct gpu *g;
    char name[16];
    snprintf(name, sizeof name, "cuda:%d", device);
    R(gpu_open(&g, &(struct gpu_config){name, 1}, &e));
    size_t rows = quick ? 100000 : 1000000, len = 4096;
    int8_t *r = gpu_alloc(g, rows * len), *q = gpu_alloc(g, len);
    int64_t *out = gpu_alloc(g, rows * sizeof *out);
    if (!r || !q || !out)
        die("memory of the scores");
    memset(r, 3, rows * len);
    memset(q, 1, len);
    float best[3][16];
    for (int i = 0; i < 10; i++) {
        double t = now();
        R(g->ops->dot_i8(g, out, 1, r, len, (uint32_t)rows, q, len, 1, len, &e));
        best[0][i] = (float)(now() - t);
    }
    qsort(best[0] + 2, 8, sizeof(float), by_value); /* the first two bring the pages to the device */
    double ms = (double)best[0][6];
    figure("", "scores, 10^6 rows of 4096 int8", (double)rows * (double)len / (ms * 1e6), "GB/s", 0.8, "copy bandwidth", (double)rows * (double)len / (ms * 1e6) / copy);
    gpu_free(g, r), gpu_free(g, q), gpu_free(g, out);
    uint32_t n = 4096;
    float *a = gpu_alloc(g, (size_t)n * n * 4), *b = gpu_alloc(g, (size_t)n * n * 4), *c = gpu_alloc(g, (size_t)n * n * 4);
    if (!a || !b || !c)
        die("memory of a product");
    const struct gpu_gemm p = {n, n, n, a, n, 1, b, n, 1, c, n, GPU_SET, 1};
    for (int i = 0; i < 7; i++) {
        double t = now();
        R(g->ops->gemm(g, &p, &e));
        best[1][i] = (float)(now() - t);
    }
    qsort(best[1] + 2, 5, sizeof(float), by_value);
    figure("", "referee fp32 product 4096^3", 2.0 * n * n * n / ((double)best[1][4] * 1e9), "TFLOP/s", 0.7, "SGEMM without TF32 (PyTorch's line)", 0);
    gpu_free(g, a), gpu_free(g, b), gpu_free(g, c);
    gpu_close(g);
}

int main(int argc, char **argv) {
    int device = 0;
    const char *only = NULL;
    bool train_check = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--quick"))
            quick = true;
        else if (!strcmp(argv[i], "--trains"))
            train_check = true;
        else if (!strcmp(argv[i], "--device") && i + 1 < argc)
            device = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--shape") && i + 1 < argc)
            only = argv[++i];
        else {
            fprintf(stderr, "usage: bench_cuda [--device N] [--shape 1b|3b|8b] [--quick] | --trains\n");
            return 2;
        }
    }
    R(fast_ops(&op, &e));
    R(op->open(&f, device, &e));
    if (train_check) {
        int x = trains();
        op->close(f);
        return x;
    }
    noise_make();
    struct two t = {.bytes = (size_t)2 << 30};
    t.a = room(t.bytes);
    t.b = room(t.bytes);
    double ms = median(21, copy_run, &t), copy = 2 * (double)t.bytes / (ms * 1e6);
    figure("", "device-to-device copy, read and write", copy, "GB/s", 0, "", 0);
    op->free(f, t.a);
    op->free(f, t.b);
    uint32_t n = 8192;
    t.g = (struct fast_gemm){.m = n, .n = n, .k = n, .a = filled((size_t)n * n * 2), .lda = n, .b = filled((size_t)n * n * 2), .ldb = n, .b_t = true, .c = room((size_t)n * n * 2), .ldc = n, .alpha = 1};
    ms = median(21, gemm_run, &t);
    double rate = 2.0 * n * n * n / (ms * 1e9);
    figure("", "bf16 product 8192^3", rate, "TFLOP/s", 0, "", 0);
    op->close(f);
    for (size_t i = 0; i < 3; i++) {
        if (only && (only[0] != shapes[i].name[0]))
            continue;
        R(op->open(&f, device, &e)); /* what one shape held is given back */
        noise_make();
        one_shape(&shapes[i], copy, rate);
        op->close(f);
    }
    f = NULL;
    referee(device, copy);
    return 0;
}
