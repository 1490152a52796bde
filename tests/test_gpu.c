/* gpu/: every backend of this machine equals the reference bit for bit, over random shapes, with 1, 2, 3 and 5 threads;
 * the reference equals its committed golden vectors and plain mathematics. */
#include "tests/test.h"

#include "base/bytes.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "gpu/arith.h"
#include "gpu/ops.h"
#include "gpu/pack.h"

#include <math.h>

/* With LOAM_GPU_CUDA the device of gpu/cuda.h is compared too (loam-cuda.so, or the emulated one of tests/cuda_emu);
 * then every array lies in its memory, as gpu/ops.h asks. */
static struct gpu *home;
static void *room(size_t bytes) {
    return home ? gpu_alloc(home, bytes) : mem_aligned(64, bytes);
}
static void give(void *p) {
    if (home)
        gpu_free(home, p);
    else
        mem_free(p);
}

static uint32_t seed = 1;
static uint32_t word(void) {
    uint32_t c[4] = {seed++, 0, 0, 0}, key[2] = {7, 9}, out[4];
    arith_philox(c, key, out);
    return out[0];
}
static uint32_t upto(uint32_t lo, uint32_t hi) {
    return lo + word() % (hi - lo + 1);
}
/* Mostly ordinary numbers; some zeros, negative zeros, denormals and large ones. */
static float number(void) {
    uint32_t k = word() % 64;
    float u = (float)(int32_t)word() * 0x1p-31f;
    if (k == 0)
        return 0.0f;
    if (k == 1)
        return -0.0f;
    if (k == 2)
        return u * 0x1p-130f;
    if (k == 3)
        return u * 64.0f;
    return u;
}
static float *numbers(size_t n) {
    float *p = room((n + 64) * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++)
        p[i] = number();
    return p;
}
static void *copy(const void *p, size_t bytes) {
    void *q = room(bytes + 256);
    assert_non_null(q);
    memcpy(q, p, bytes);
    return q;
}
/* One line of the final table: an operation on one backend. With LOAM_GPU_JSON=FILE (make gpu-check) a difference is counted
 * and the run goes on; the table is printed last and written to FILE. */
static struct {
    char what[40];
    const char *backend;
    unsigned cases, bad;
} table[512];
static int n_table;

static bool count(const char *what, const struct gpu *g, bool good) {
    int i = 0;
    while (i < n_table && (strcmp(table[i].what, what) || strcmp(table[i].backend, g->name)))
        i++;
    if (i == n_table && n_table < (int)(sizeof table / sizeof table[0])) {
        snprintf(table[i].what, sizeof table[i].what, "%s", what);
        table[i].backend = g->name;
        n_table++;
    }
    if (i < n_table) {
        table[i].cases++;
        table[i].bad += !good;
    }
    return good || getenv("LOAM_GPU_JSON");
}

static int report(void) {
    const char *path = getenv("LOAM_GPU_JSON");
    unsigned bad = 0;
    FILE *f = path ? fopen(path, "w") : NULL;
    if (!path)
        return 0;
    if (f)
        fprintf(f, "[");
    printf("%-24s %-10s %8s %8s\n", "operation", "backend", "cases", "unequal");
    for (int i = 0; i < n_table; i++) {
        printf("%-24s %-10s %8u %8u\n", table[i].what, table[i].backend, table[i].cases, table[i].bad);
        if (f)
            fprintf(f, "%s\n {\"suite\": \"gpu-check\", \"name\": \"%s\", \"backend\": \"%s\", \"cases\": %u, \"unequal\": %u}", i ? "," : "",
                    table[i].what, table[i].backend, table[i].cases, table[i].bad);
        bad += table[i].bad;
    }
    if (f) {
        fprintf(f, "\n]\n");
        fclose(f);
    }
    printf("%s\n", bad ? "NOT EQUAL: this machine does not compute arith-1" : "all equal, bit for bit");
    return bad != 0;
}

static void same(const char *what, const struct gpu *g, const void *a, const void *b, size_t bytes) {
    if (count(what, g, !memcmp(a, b, bytes)))
        return;
    const uint8_t *x = a, *y = b;
    size_t i = 0;
    while (x[i] == y[i])
        i++;
    i = i / 4 * 4;
    float u, v;
    memcpy(&u, x + i, 4);
    memcpy(&v, y + i, 4);
    fail_msg("%s: %s with %d threads differs from ref at word %zu: %a, ref %a", what, g->name, g->threads, i / 4,
             (double)v, (double)u);
}

/* LOAM_GPU_SMALL: fewer cases, for slow checkers such as compute-sanitizer. */
static int times(int n) {
    return getenv("LOAM_GPU_SMALL") ? (n + 3) / 4 : n;
}

static struct gpu *ref;
static struct gpu *all[20];
static int n_all;

static int setup(void **state) {
    struct err e;
    OK(gpu_open(&ref, &(struct gpu_config){.backend = "ref", .threads = 1}, &e));
    for (const char *const *n = gpu_backends(); *n; n++)
        for (int t = 1; t <= 5 && strcmp(*n, "ref"); t += t < 3 ? 1 : 2)
            OK(gpu_open(&all[n_all++], &(struct gpu_config){.backend = *n, .threads = t}, &e));
    if (getenv("LOAM_GPU_CUDA")) {
        OK(gpu_open(&home, &(struct gpu_config){.backend = getenv("LOAM_GPU_CUDA")}, &e));
        all[n_all++] = home;
    }
    return 0;
}
static int teardown(void **state) {
    gpu_close(ref);
    for (int i = 0; i < n_all; i++)
        gpu_close(all[i]);
    home = NULL;
    return report();
}

/* Runs `call` (an expression over g and the copies) on ref, then on every backend with fresh copies of the outputs. */
#define MAX_OUT 4
struct outs {
    void *p[MAX_OUT];
    size_t bytes[MAX_OUT];
    int n;
};
static void compare(const char *what, struct outs *o, enum loam_status (*f)(struct gpu *g, void **out, void *arg, struct err *e),
                    void *arg) {
    struct err e;
    void *want[MAX_OUT];
    for (int i = 0; i < o->n; i++)
        want[i] = copy(o->p[i], o->bytes[i]);
    OK(f(ref, want, arg, &e));
    for (int b = 0; b < n_all; b++) {
        void *got[MAX_OUT];
        for (int i = 0; i < o->n; i++)
            got[i] = copy(o->p[i], o->bytes[i]);
        OK(f(all[b], got, arg, &e));
        for (int i = 0; i < o->n; i++) {
            same(what, all[b], want[i], got[i], o->bytes[i]);
            give(got[i]);
        }
    }
    for (int i = 0; i < o->n; i++)
        give(want[i]);
}

static const uint32_t plain_types[] = {GPU_F32, GPU_F16, GPU_BF16};
static const uint32_t quant_types[] = {GPU_Q8_0, GPU_Q4_0, GPU_Q4_1, GPU_Q5_0, GPU_Q5_1, GPU_Q4_K, GPU_Q5_K, GPU_Q6_K};

/* A random weight; K-quants get random codes and small scales. */
static struct gpu_weight weight(uint32_t type, uint32_t n, uint32_t k) {
    struct err e;
    size_t row = gpu_row_bytes(type, k), bytes = gpu_pack_bytes(type, n, k);
    assert_true(row && bytes);
    uint8_t *src = room(row * n);
    if (gpu_type_elems(type) == 256) {
        for (size_t i = 0; i < row * n; i++)
            src[i] = (uint8_t)word();
        for (size_t b = 0; b < row * n / gpu_type_bytes(type); b++) {
            uint8_t *p = src + b * gpu_type_bytes(type);
            uint16_t d = arith_to_half(number() * 0.01f), m = arith_to_half(number() * 0.01f);
            memcpy(type == GPU_Q6_K ? p + 208 : p, &d, 2);
            if (type != GPU_Q6_K)
                memcpy(p + 2, &m, 2);
        }
    } else {
        float *f = numbers((size_t)n * k);
        OK(gpu_quantise(src, type, f, (size_t)n * k, &e));
        give(f);
    }
    void *packed = room(bytes);
    OK(gpu_pack(packed, type, n, k, src, &e));
    /* the packed rows mean the same as the file's */
    float *a = room(k * 4), *b = room(k * 4);
    for (uint32_t r = 0; r < n; r += 1 + n / 7) {
        struct gpu_weight w = {type, n, k, packed};
        gpu_dequant(a, type, src + r * row, k);
        pack_row(b, &w, r);
        assert_memory_equal(a, b, k * 4);
    }
    give(a);
    give(b);
    give(src);
    return (struct gpu_weight){type, n, k, packed};
}

static void free_weight(struct gpu_weight *w) {
    give((void *)(uintptr_t)w->packed);
}

/* ---------------------------------------------------------------- products */

struct mm {
    struct gpu_weight w[3];
    int n;
    float *x;
    size_t ldx;
    uint32_t t;
    enum gpu_epi epi;
    struct gpu_q8 q;
};
static enum loam_status do_matmul(struct gpu *g, void **out, void *arg, struct err *e) {
    struct mm *m = arg;
    struct gpu_out o[3];
    for (int i = 0; i < m->n; i++)
        o[i] = (struct gpu_out){out[i], m->w[i].n + 3, &m->w[i]};
    return g->ops->matmul(g, o, m->n, m->x, m->ldx, m->t, e);
}
static enum loam_status do_matmul_q8(struct gpu *g, void **out, void *arg, struct err *e) {
    struct mm *m = arg;
    struct gpu_out o[3];
    for (int i = 0; i < m->n; i++)
        o[i] = (struct gpu_out){out[i], m->w[i].n + 3, &m->w[i]};
    return g->ops->matmul_q8(g, o, m->n, &m->q, e);
}
static enum loam_status do_matmul_dx(struct gpu *g, void **out, void *arg, struct err *e) {
    struct mm *m = arg;
    return g->ops->matmul_dx(g, out[0], m->w[0].k + 5, m->x, m->ldx, m->t, &m->w[0], m->epi, e);
}
static enum loam_status do_quant(struct gpu *g, void **out, void *arg, struct err *e) {
    struct mm *m = arg;
    struct gpu_q8 q = {m->t, m->w[0].k, out[0], out[1], out[2]};
    return g->ops->quant(g, &q, m->x, m->ldx, e);
}
/* rows: most outputs of a weight. */
static void products(uint32_t type, uint32_t t, int n_outs, uint32_t rows) {
    struct mm m = {.n = n_outs, .t = t};
    bool quantised = gpu_type_quantised(type);
    uint32_t k = quantised ? gpu_type_elems(type) * upto(1, 256 / gpu_type_elems(type) + 1) : upto(1, 150);
    struct outs o = {.n = n_outs};
    for (int i = 0; i < n_outs; i++) {
        m.w[i] = weight(type, upto(rows > 90 ? rows - 20 : 1, rows), k);
        o.bytes[i] = (size_t)t * (m.w[i].n + 3) * 4;
        o.p[i] = numbers(o.bytes[i] / 4);
    }
    m.ldx = k + upto(0, 3);
    m.x = numbers(m.ldx * t);
    if (t > 1 && k >= 32) /* a block of zeros, one of denormals */
        for (int i = 0; i < 32; i++) {
            m.x[i] = 0.0f;
            m.x[m.ldx + (size_t)i] = (float)i * 0x1p-145f;
        }
    compare("matmul", &o, do_matmul, &m);
    if (quantised) {
        struct outs qo = {.n = 3};
        qo.bytes[0] = (size_t)t * k;
        qo.bytes[1] = qo.bytes[2] = (size_t)t * (k / 32) * 4;
        for (int i = 0; i < 3; i++)
            qo.p[i] = room(qo.bytes[i]);
        compare("quant", &qo, do_quant, &m);
        struct err e;
        m.q = (struct gpu_q8){t, k, qo.p[0], qo.p[1], qo.p[2]};
        OK(ref->ops->quant(ref, &m.q, m.x, m.ldx, &e));
        compare("matmul_q8", &o, do_matmul_q8, &m);
        for (int i = 0; i < 3; i++)
            give(qo.p[i]);
    }
    give(m.x);
    m.ldx = m.w[0].n + 1;
    m.x = numbers(m.ldx * t);
    struct outs d = {.n = 1, .bytes = {(size_t)t * (k + 5) * 4}, .p = {numbers((size_t)t * (k + 5))}};
    m.epi = GPU_SET;
    compare("matmul_dx", &d, do_matmul_dx, &m);
    m.epi = GPU_CHAIN;
    compare("matmul_dx chain", &d, do_matmul_dx, &m);
    give(d.p[0]);
    give(m.x);
    for (int i = 0; i < n_outs; i++) {
        free_weight(&m.w[i]);
        give(o.p[i]);
    }
}
static void test_products(void **state) {
    for (int i = 0; i < times(6); i++) {
        for (size_t t = 0; t < 3; t++)
            products(plain_types[t], i < 3 ? upto(1, 9) : upto(10, 70), 1 + i % 3, 90);
        for (size_t t = 0; t < 8; t++)
            products(quant_types[t], i < 3 ? upto(1, 9) : upto(10, 40), 1 + i % 3, 90);
    }
    for (size_t t = 0; t < 8; t++) /* weights of several bands (gpu/cpu_q8.h) */
        products(quant_types[t], 11, 1, 1500);
}

struct gm {
    struct gpu_gemm p;
};
static enum loam_status do_gemm(struct gpu *g, void **out, void *arg, struct err *e) {
    struct gpu_gemm p = *(struct gpu_gemm *)arg;
    p.c = out[0];
    return g->ops->gemm(g, &p, e);
}
static void test_gemm(void **state) {
    for (int i = 0; i < times(60); i++) {
        struct gpu_gemm p = {.m = upto(1, 80), .n = upto(1, 80), .k = i % 20 == 19 ? 2100 : upto(1, 90)};
        p.epi = (enum gpu_epi)(word() % 4);
        p.alpha = p.epi == GPU_CHAIN || word() % 2 ? 1.0f : number();
        bool ta = word() % 2, tb = word() % 2;
        p.a_i = ta ? 1 : p.k + 2;
        p.a_p = ta ? p.m + 1 : 1;
        p.b_p = tb ? 1 : p.n + 2;
        p.b_j = tb ? p.k + 1 : 1;
        p.c_i = p.n + upto(0, 4);
        float *a = numbers((size_t)(p.m + 2) * (p.k + 2)), *b = numbers((size_t)(p.n + 2) * (p.k + 2));
        p.a = a;
        p.b = b;
        struct outs o = {.n = 1, .bytes = {(size_t)p.m * p.c_i * 4}, .p = {numbers((size_t)p.m * p.c_i)}};
        compare("gemm", &o, do_gemm, &p);
        give(a);
        give(b);
        give(o.p[0]);
    }
}

struct lo {
    struct gpu_lora list[3];
    int n_list;
    int32_t *map;
    float *x;
    uint32_t t;
};
static enum loam_status do_lora(struct gpu *g, void **out, void *arg, struct err *e) {
    struct lo *l = arg;
    return g->ops->lora(g, out[0], l->list[0].n + 2, l->x, l->list[0].k + 1, l->t, l->list, l->n_list, l->map, e);
}
static void test_lora(void **state) {
    for (int i = 0; i < times(12); i++) {
        uint32_t n = upto(1, 200), k = upto(1, 100), t = upto(1, 12);
        struct lo l = {.n_list = 1 + i % 3, .t = t, .x = numbers((size_t)t * (k + 1))};
        float *at[3], *bt[3];
        for (int j = 0; j < l.n_list; j++) {
            uint32_t r = upto(1, 40);
            float *a = numbers((size_t)r * k), *b = numbers((size_t)r * n);
            at[j] = room(k * gpu_lora_pad(r) * 4);
            bt[j] = room(r * gpu_lora_pad(n) * 4);
            gpu_lora_pack(at[j], bt[j], a, b, r, n, k);
            l.list[j] = (struct gpu_lora){r, n, k, 2.0f, at[j], bt[j]};
            give(a);
            give(b);
        }
        int32_t map[12];
        for (uint32_t j = 0; j < t; j++)
            map[j] = (int32_t)(word() % (uint32_t)(l.n_list + 1)) - 1;
        l.map = i % 4 ? map : NULL;
        struct outs o = {.n = 1, .bytes = {(size_t)t * (n + 2) * 4}, .p = {numbers((size_t)t * (n + 2))}};
        compare("lora", &o, do_lora, &l);
        if (!l.map) { /* the training form gives the same bits */
            float *h = numbers((size_t)t * 40), *y = copy(o.p[0], o.bytes[0]);
            struct err e;
            const struct gpu_lora *a = &l.list[0];
            size_t rp = gpu_lora_pad(a->r), np = gpu_lora_pad(n);
            struct gpu_gemm p = {.m = t, .n = a->r, .k = k, .a = l.x, .a_i = k + 1, .a_p = 1, .b = a->at, .b_p = rp,
                                 .b_j = 1, .c = h, .c_i = 40, .epi = GPU_SET, .alpha = 1.0f};
            OK(all[0]->ops->gemm(all[0], &p, &e));
            p = (struct gpu_gemm){.m = t, .n = n, .k = a->r, .a = h, .a_i = 40, .a_p = 1, .b = a->bt, .b_p = np,
                                  .b_j = 1, .c = y, .c_i = n + 2, .epi = GPU_FMA, .alpha = a->scale};
            OK(all[0]->ops->gemm(all[0], &p, &e));
            void *want = copy(o.p[0], o.bytes[0]);
            OK(do_lora(ref, &want, &l, &e));
            same("lora as gemm", all[0], want, y, o.bytes[0]);
            give(want);
            give(h);
            give(y);
        }
        give(o.p[0]);
        give(l.x);
        for (int j = 0; j < l.n_list; j++) {
            give(at[j]);
            give(bt[j]);
        }
    }
}

/* ---------------------------------------------------------------- rows and elements */

struct rw {
    float *a, *b, *c, *d;
    uint32_t rows, n;
    int kind;
    uint32_t *ids;
    struct gpu_weight w;
    float alpha;
};
static enum loam_status do_row(struct gpu *g, void **out, void *arg, struct err *e) {
    struct rw *r = arg;
    const struct gpu_ops *f = g->ops;
    size_t n = (size_t)r->rows * r->n;
    uint32_t key[2] = {3, 4};
    struct gpu_adamw how = {1e-3f, 0.9f, 0.999f, 1e-8f, 0.01f, 0, 0, r->alpha};
    gpu_adamw_correct(&how, 3);
    switch (r->kind) {
    case 0: return f->rmsnorm(g, out[0], out[1], r->a, r->b, r->rows, r->n, 1e-5f, e);
    case 1: return f->rmsnorm(g, out[0], NULL, r->a, NULL, r->rows, r->n, 1e-6f, e);
    case 2: return f->rmsnorm_dx(g, out[0], r->c, r->a, r->d, r->b, r->rows, r->n, true, e);
    case 3: return f->rmsnorm_dx(g, out[0], r->c, r->a, r->d, NULL, r->rows, r->n, false, e);
    case 4: return f->glu(g, out[0], r->a, r->c, n, GPU_SILU, e);
    case 5: return f->glu(g, out[0], r->a, r->c, n, GPU_GELU_TANH, e);
    case 6: return f->glu_dx(g, out[0], out[1], r->c, r->a, out[1], n, GPU_SILU, e);
    case 7: return f->glu_dx(g, out[0], out[1], r->c, r->a, out[1], n, GPU_GELU_TANH, e);
    case 8: return f->add(g, out[0], out[0], r->a, n, e);
    case 9: return f->add_row(g, out[0], r->n, r->b, r->rows, r->n, e);
    case 10: return f->scale(g, out[0], r->a, r->alpha, n, e);
    case 11: return f->axpy(g, out[0], r->alpha, r->a, n, e);
    case 12: return f->dropout(g, out[0], r->a, n, 0.3f, key, 77, e);
    case 13: return f->adamw(g, out[0], out[1], out[2], r->c, n, &how, e);
    case 14: return f->sumsq(g, out[0], r->a, n, e);
    case 15: return f->absmax(g, out[0], r->a, n, e);
    case 16: return f->quant_pow2(g, out[0], r->a, n, -6, e);
    case 17: return f->xent(g, out[1], out[0], r->n, r->rows, r->n, r->ids, true, e);
    case 18: return f->xent(g, out[1], out[0], r->n, r->rows, r->n, r->ids, false, e);
    default: return f->embed(g, out[0], r->n, &r->w, r->ids, r->rows, e);
    }
}
static void test_rows(void **state) {
    for (int i = 0; i < times(60); i++) {
        struct rw r = {.rows = i < 40 ? upto(1, 7) : upto(8, 60), .n = i % 20 == 0 ? 2000 + upto(0, 99) : upto(1, 150),
                       .alpha = 0.37f};
        size_t n = (size_t)r.rows * r.n;
        r.a = numbers(n);
        r.b = numbers(r.n);
        r.c = numbers(n);
        r.d = numbers(r.rows);
        r.ids = room(r.rows * 4);
        for (uint32_t k = 0; k < r.rows; k++)
            r.ids[k] = word() % r.n;
        struct outs o = {.n = 3, .bytes = {n * 4, n * 4, n * 4}};
        for (int k = 0; k < 3; k++)
            o.p[k] = numbers(n + r.rows);
        for (size_t k = 0; k < n; k++) { /* v of AdamW is not negative */
            ((float *)o.p[2])[k] = fabsf(((float *)o.p[2])[k]);
            ((float *)o.p[1])[k] *= 0.5f;
        }
        o.bytes[1] = o.bytes[1] < r.rows * 4 ? r.rows * 4 : o.bytes[1];
        for (r.kind = 0; r.kind < 19; r.kind++) {
            static const char *const names[] = {
                "rmsnorm",  "rmsnorm no weight", "rmsnorm_dx add", "rmsnorm_dx", "glu silu", "glu gelu",   "glu_dx silu",
                "glu_dx gelu", "add",            "add_row",        "scale",      "axpy",     "dropout",    "adamw",
                "sumsq",    "absmax",            "quant_pow2",     "xent gradient", "xent",
            };
            compare(names[r.kind], &o, do_row, &r);
        }
        if (i < 11) {
            static const uint32_t types[] = {0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 30};
            uint32_t k = types[i] == GPU_F32 ? 33 : 256;
            struct rw em = r;
            em.w = weight(types[i], r.n, k);
            em.n = k;
            struct outs eo = {.n = 1, .bytes = {(size_t)r.rows * k * 4}, .p = {numbers((size_t)r.rows * k)}};
            em.kind = 19;
            compare("embed", &eo, do_row, &em);
            free_weight(&em.w);
            give(eo.p[0]);
        }
        for (int k = 0; k < 3; k++)
            give(o.p[k]);
        give(r.a);
        give(r.b);
        give(r.c);
        give(r.d);
        give(r.ids);
    }
}

struct ro {
    uint32_t t, heads, d, d_rot, pos[20];
    float *c, *s;
    enum gpu_rope_style style;
    bool inverse;
};
static enum loam_status do_rope(struct gpu *g, void **out, void *arg, struct err *e) {
    struct ro *r = arg;
    return g->ops->rope(g, out[0], r->heads * r->d + 1, r->t, r->heads, r->d, r->d_rot, r->c, r->s, r->pos, r->style,
                        r->inverse, e);
}
static void test_rope(void **state) {
    for (int i = 0; i < times(24); i++) {
        struct ro r = {.t = upto(1, 20), .heads = upto(1, 4), .d = 8 * upto(1, 16), .style = i % 2, .inverse = i / 2 % 2};
        r.d_rot = i % 3 ? r.d : r.d / 2 / 2 * 2;
        double freq[128];
        gpu_rope_freqs(freq, r.d_rot, 10000.0);
        r.c = room(300 * r.d_rot * 2);
        r.s = room(300 * r.d_rot * 2);
        gpu_rope_table(r.c, r.s, 300, r.d_rot, freq);
        for (uint32_t k = 0; k < r.t; k++)
            r.pos[k] = word() % 300;
        for (uint32_t k = 0; k < 300 * r.d_rot / 2; k += 17) { /* the tables are cos and sin */
            double a = (double)(k / (r.d_rot / 2)) * pow(10000.0, -2.0 * (k % (r.d_rot / 2)) / r.d_rot);
            assert_true(fabs((double)r.c[k] - cos(a)) < 1e-7 && fabs((double)r.s[k] - sin(a)) < 1e-7);
        }
        size_t n = (size_t)r.t * (r.heads * r.d + 1);
        struct outs o = {.n = 1, .bytes = {n * 4}, .p = {numbers(n)}};
        compare("rope", &o, do_rope, &r);
        give(o.p[0]);
        give(r.c);
        give(r.s);
    }
}

/* ---------------------------------------------------------------- attention */

struct at {
    struct gpu_attn a;
    uint32_t seg[6], n_seg, total;
    float *q, *k, *v, *go, *o, *m, *l;
};
static enum loam_status do_attn(struct gpu *g, void **out, void *arg, struct err *e) {
    struct at *t = arg;
    return g->ops->attn(g, out[0], out[1], out[2], t->q, t->k, t->v, &t->a, t->seg, t->n_seg, e);
}
static enum loam_status do_attn_dx(struct gpu *g, void **out, void *arg, struct err *e) {
    struct at *t = arg;
    return g->ops->attn_dx(g, out[0], out[1], out[2], t->go, t->o, t->m, t->l, t->q, t->k, t->v, &t->a, t->seg, t->n_seg, e);
}
static void test_attention(void **state) {
    for (int i = 0; i < times(16); i++) {
        struct err e;
        uint32_t g = upto(1, 3);
        struct at t = {.a = {.h = g * upto(1, 3), .g = g, .d = 8 * upto(1, 10), .scale = 0.125f,
                             .window = i % 4 == 3 ? upto(1, 30) : 0}};
        t.n_seg = upto(1, 4);
        for (uint32_t s = 0; s < t.n_seg; s++)
            t.seg[s + 1] = t.seg[s] + (i % 5 == 0 && s == 1 ? 0 : upto(1, i < 8 ? 40 : 90));
        t.total = t.seg[t.n_seg];
        size_t nq = (size_t)t.total * t.a.h * t.a.d, nk = (size_t)t.total * t.a.g * t.a.d, nh = (size_t)t.total * t.a.h;
        t.q = numbers(nq);
        t.k = numbers(nk);
        t.v = numbers(nk);
        t.go = numbers(nq);
        struct outs o = {.n = 3, .bytes = {nq * 4, nh * 4, nh * 4}, .p = {numbers(nq), numbers(nh), numbers(nh)}};
        compare("attn", &o, do_attn, &t);
        t.o = o.p[0];
        t.m = o.p[1];
        t.l = o.p[2];
        void *out[3] = {t.o, t.m, t.l};
        OK(do_attn(ref, out, &t, &e));
        struct outs d = {.n = 3, .bytes = {nq * 4, nk * 4, nk * 4}, .p = {numbers(nq), numbers(nk), numbers(nk)}};
        compare("attn_dx", &d, do_attn_dx, &t);
        float *all_p[] = {t.q, t.k, t.v, t.go, t.o, t.m, t.l, d.p[0], d.p[1], d.p[2]};
        for (int k = 0; k < 10; k++)
            give(all_p[k]);
    }
}

struct kv {
    struct gpu_attn a;
    struct gpu_kv_item it[3];
    uint32_t n, rows;
    float *q, *k, *v;
    uint16_t **pages; /* of ref */
};
static uint16_t **kv_pages(const struct kv *s, uint32_t count) {
    uint16_t **p = room((count) * (sizeof *p));
    for (uint32_t i = 0; i < count; i++)
        p[i] = room(gpu_kv_page_elems(&s->a) * 2 + 64);
    return p;
}
static void test_kv(void **state) {
    for (int i = 0; i < times(16); i++) {
        struct err e;
        uint32_t g = upto(1, 3);
        struct kv s = {.a = {.h = g * upto(1, 3), .g = g, .d = 8 * upto(1, 10), .scale = 0.2f,
                             .window = i % 4 == 1 ? upto(1, 70) : 0}, .n = upto(1, 3)};
        uint32_t per = 5, row = 0;
        for (uint32_t n = 0; n < s.n; n++) {
            s.it[n].pos = word() % 3 ? upto(0, 200) : 0;
            s.it[n].t = i % 2 ? 1 : upto(1, 20);
            s.it[n].row = row;
            s.it[n].off = 0;
            row += s.it[n].t;
        }
        uint32_t maxpos = 220;
        size_t nq = (size_t)row * s.a.h * s.a.d, nk = (size_t)row * s.a.g * s.a.d, np = (size_t)maxpos * s.a.g * s.a.d;
        s.q = numbers(nq);
        s.k = numbers(nk);
        s.v = numbers(nk);
        float *past_k = numbers(np), *past_v = numbers(np);
        float *want = numbers(nq), *got = numbers(nq);
        uint16_t **pages[2][3];
        for (int b = -1; b < n_all; b++) {
            struct gpu *dev = b < 0 ? ref : all[b];
            struct gpu_kv_item it[3], past[3];
            for (uint32_t n = 0; n < s.n; n++) {
                pages[b >= 0][n] = kv_pages(&s, per);
                it[n] = s.it[n];
                it[n].pages = pages[b >= 0][n];
                past[n] = (struct gpu_kv_item){it[n].pages, 0, 0, 0, it[n].pos};
            }
            OK(dev->ops->kv_store(dev, past_k, past_v, (size_t)s.a.g * s.a.d, &s.a, past, s.n, &e));
            OK(dev->ops->kv_store(dev, s.k, s.v, (size_t)s.a.g * s.a.d, &s.a, it, s.n, &e));
            OK(dev->ops->attn_kv(dev, b < 0 ? want : got, (size_t)s.a.h * s.a.d, s.q, (size_t)s.a.h * s.a.d, &s.a, it, s.n, &e));
            if (b >= 0) {
                same("attn_kv", dev, want, got, nq * 4);
                for (uint32_t n = 0; n < s.n; n++)
                    for (uint32_t p = 0; p < per; p++) {
                        same("kv_store", dev, pages[0][n][p], pages[1][n][p], gpu_kv_page_elems(&s.a) * 2);
                        give(pages[1][n][p]);
                    }
                for (uint32_t n = 0; n < s.n; n++)
                    give(pages[1][n]);
            }
        }
        for (uint32_t n = 0; n < s.n; n++) {
            for (uint32_t p = 0; p < per; p++)
                give(pages[0][n][p]);
            give(pages[0][n]);
        }
        float *fs[] = {s.q, s.k, s.v, past_k, past_v, want, got};
        for (int k = 0; k < 7; k++)
            give(fs[k]);
    }
}

/* ---------------------------------------------------------------- attribution */

struct di {
    int8_t *r, *q;
    double *m;
    uint32_t n, nq;
    size_t len;
};
static enum loam_status do_dot(struct gpu *g, void **out, void *arg, struct err *e) {
    struct di *d = arg;
    return g->ops->dot_i8(g, out[0], d->nq + 1, d->r, d->len + 3, d->n, d->q, d->len + 1, d->nq, d->len, e);
}
static enum loam_status do_f64(struct gpu *g, void **out, void *arg, struct err *e) {
    struct di *d = arg;
    return g->ops->gemm_f64i8(g, out[0], d->len + 1, d->m, d->n + 2, d->nq, d->n, d->r, d->len + 3, d->len, e);
}
static void test_integers(void **state) {
    for (int i = 0; i < times(12); i++) {
        struct di d = {.n = upto(1, 20), .nq = upto(1, 9), .len = i == 3 ? 140000 : upto(1, 700)};
        d.r = room(d.n * (d.len + 3) + 64);
        d.q = room(d.nq * (d.len + 1) + 64);
        d.m = room(((size_t)d.nq * (d.n + 2)) * (8));
        for (size_t k = 0; k < d.n * (d.len + 3); k++)
            d.r[k] = (int8_t)(i == 3 ? -127 : (int)(word() % 255) - 127);
        for (size_t k = 0; k < d.nq * (d.len + 1); k++)
            d.q[k] = (int8_t)(i == 3 ? 127 : (int)(word() % 255) - 127);
        for (size_t k = 0; k < (size_t)d.nq * (d.n + 2); k++)
            d.m[k] = (double)(int32_t)word() * 0x1p-31 + (double)(int32_t)word() * 0x1p-60;
        size_t bytes = (size_t)d.n * (d.nq + 1) * 8;
        struct outs o = {.n = 1, .bytes = {bytes}, .p = {room(bytes)}};
        compare("dot_i8", &o, do_dot, &d);
        struct err e;
        if (i == 3) {
            int64_t *r = o.p[0];
            OK(do_dot(all[0], o.p, &d, &e));
            assert_true(r[0] == -(int64_t)140000 * 127 * 127);
        }
        bytes = (size_t)d.nq * (d.len + 1) * 8;
        if (i != 3) {
            struct outs p = {.n = 1, .bytes = {bytes}, .p = {room(bytes)}};
            compare("gemm_f64i8", &p, do_f64, &d);
            give(p.p[0]);
        }
        give(o.p[0]);
        give(d.r);
        give(d.q);
        give(d.m);
    }
}

/* ---------------------------------------------------------------- refusals, functions, gradients */

static void test_refused(void **state) {
    struct err e;
    struct gpu *g;
    FAILS(LOAM_ENOTFOUND, gpu_open(&g, &(struct gpu_config){.backend = "abacus"}, &e));
    FAILS(LOAM_ERANGE, gpu_open(&g, &(struct gpu_config){.backend = "plain", .threads = 100000}, &e));
    float *x = room(64 * sizeof *x);
    memset(x, 0, 64 * sizeof *x);
    for (int b = -1; b < n_all; b++) {
        g = b < 0 ? ref : all[b];
        x[40] = 0.0f;
        OK(g->ops->finite(g, x, 64, "x", &e));
        x[40] = NAN;
        FAILS(LOAM_ENONFINITE, g->ops->finite(g, x, 64, "hidden state of layer 3", &e));
        assert_non_null(strstr(e.text, "hidden state of layer 3: element 40"));
        x[40] = -INFINITY;
        FAILS(LOAM_ENONFINITE, g->ops->finite(g, x, 64, "x", &e));
    }
    /* weights: scales that are not finite, sizes that make no sense */
    uint8_t block[34] = {0, 0x7c}, packed[4096];
    FAILS(LOAM_ENONFINITE, gpu_pack(packed, GPU_Q8_0, 1, 32, block, &e));
    float bad[32] = {0};
    bad[5] = NAN;
    FAILS(LOAM_ENONFINITE, gpu_pack(packed, GPU_F32, 1, 32, bad, &e));
    FAILS(LOAM_ENONFINITE, gpu_quantise(block, GPU_Q8_0, bad, 32, &e));
    assert_true(gpu_pack_bytes(GPU_Q8_0, 4, 33) == 0);
    assert_true(gpu_pack_bytes(GPU_Q4_K, 4, 32) == 0);
    assert_true(gpu_pack_bytes(5, 4, 32) == 0);
    assert_true(gpu_pack_bytes(GPU_F32, (size_t)1 << 31, (size_t)1 << 31) == 0);
    FAILS(LOAM_EUNSUPPORTED, gpu_quantise(packed, GPU_Q4_K, x, 0, &e));
    give(x);
}

static bool stop(void *arg) {
    return true;
}
static void test_cancel(void **state) {
    struct err e;
    float *x = numbers(64);
    for (int b = 0; b < n_all; b++) {
        all[b]->yield = stop;
        FAILS(LOAM_ECANCEL, all[b]->ops->add(all[b], x, x, x, 64, &e));
        all[b]->yield = NULL;
        OK(all[b]->ops->add(all[b], x, x, x, 64, &e));
    }
    give(x);
}

static void test_functions(void **state) {
    for (double x = -87; x < 88; x += 0.0137) {
        double want = exp((double)(float)x);
        assert_true(fabs((double)arith_exp((float)x) - want) <= 1.2e-7 * want);
    }
    assert_true(arith_exp(-200.0f) <= 0.0f && isinf(arith_exp(200.0f)) && arith_exp(-INFINITY) <= 0.0f);
    assert_true(arith_exp(0.0f) >= 1.0f && arith_exp(0.0f) <= 1.0f && isnan(arith_exp(NAN)));
    for (double x = -9; x < 9; x += 0.00137)
        assert_true(fabs((double)arith_tanh((float)x) - tanh((double)(float)x)) <= 2e-7 * fabs(tanh(x)) + 1e-30);
    for (double x = 1e-30; x < 1e30; x *= 1.37) {
        assert_true(fabs(arith_log64(x) - log(x)) <= 4e-15 * fabs(log(x)) + 1e-15);
        assert_true(fabs((double)arith_log((float)x) - log((double)(float)x)) <= 1e-7 * fabs(log(x)));
        assert_true(fabs(arith_exp64(log(x)) - x) <= 4e-14 * x);
    }
    for (double x = -1e6; x < 1e6; x += 1234.567) {
        double s, c;
        arith_sincos64(x, &s, &c);
        assert_true(fabs(s - sin(x)) < 1e-15 && fabs(c - cos(x)) < 1e-15);
    }
    for (uint32_t h = 0; h < 65536; h++) {
        float f = arith_half((uint16_t)h);
        if (!isnan(f))
            assert_int_equal(arith_to_half(f), h);
        f = arith_bf16((uint16_t)h);
        if (!isnan(f))
            assert_int_equal(arith_to_bf16(f), h);
    }
    /* halfway cases go to even; between denormals too; overflow to infinity */
    assert_int_equal(arith_to_half(1.0f + 0x1p-11f), 0x3c00);
    assert_int_equal(arith_to_half(1.0f + 3 * 0x1p-11f), 0x3c02);
    assert_int_equal(arith_to_half(0x1p-25f), 0);
    assert_int_equal(arith_to_half(3 * 0x1p-25f), 2);
    assert_int_equal(arith_to_half(65519.0f), 0x7bff);
    assert_int_equal(arith_to_half(65520.0f), 0x7c00);
    /* Random123's known answers */
    uint32_t out[4], zero[4] = {0}, zkey[2] = {0};
    arith_philox(zero, zkey, out);
    assert_true(out[0] == 0x6627e8d5 && out[1] == 0xe169c58d && out[2] == 0xbc57ac4c && out[3] == 0x9b00dbd8);
    uint32_t pc[4] = {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, pk[2] = {0xa4093822, 0x299f31d0};
    arith_philox(pc, pk, out);
    assert_true(out[0] == 0xd16cfe09 && out[1] == 0x94fdcceb && out[2] == 0x5001e420 && out[3] == 0x24126ea1);
}

/* Analytic gradients against central differences of the reference, in the direction of random vectors. */
static double loss_of(const float *y, const float *dy, size_t n) {
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += (double)y[i] * (double)dy[i];
    return s;
}
static void test_gradients(void **state) {
    struct err e;
    struct gpu *g = ref;
    enum { R = 3, C = 40 };
    float x[R * C], w[C], dy[R * C], y[R * C], r[R], dx[R * C], up[R * C], dup[R * C];
    for (int i = 0; i < R * C; i++) {
        x[i] = (float)(int32_t)word() * 0x1p-31f;
        up[i] = (float)(int32_t)word() * 0x1p-31f;
        dy[i] = (float)(int32_t)word() * 0x1p-31f;
        w[i % C] = (float)(int32_t)word() * 0x1p-31f;
    }
    const float h = 0x1p-9f;
#define DIFF(array, forward, gradient)                                                                                \
    for (int i = 0; i < R * C; i += 7) {                                                                              \
        float keep = array[i];                                                                                        \
        array[i] = keep + h;                                                                                          \
        OK(forward);                                                                                                  \
        double hi = loss_of(y, dy, R * C);                                                                            \
        array[i] = keep - h;                                                                                          \
        OK(forward);                                                                                                  \
        double lo = loss_of(y, dy, R * C);                                                                            \
        array[i] = keep;                                                                                              \
        double d = (hi - lo) / (2 * (double)h);                                                                       \
        if (fabs(d - (double)gradient[i]) > 2e-3 * (1 + fabs(d)))                                                     \
            fail_msg("gradient of %s, element %d: %g, by differences %g", #forward, i, (double)gradient[i], d);       \
    }
    OK(g->ops->rmsnorm(g, y, r, x, w, R, C, 1e-5f, &e));
    OK(g->ops->rmsnorm_dx(g, dx, dy, x, r, w, R, C, false, &e));
    DIFF(x, g->ops->rmsnorm(g, y, NULL, x, w, R, C, 1e-5f, &e), dx);
    for (enum gpu_act act = GPU_SILU; act <= GPU_GELU_TANH; act++) {
        OK(g->ops->glu_dx(g, dx, dup, dy, x, up, R * C, act, &e));
        DIFF(x, g->ops->glu(g, y, x, up, R * C, act, &e), dx);
        DIFF(up, g->ops->glu(g, y, x, up, R * C, act, &e), dup);
    }
    /* attention: R * C as 15 tokens of one head of 8 */
    struct gpu_attn a = {1, 1, 8, 0.35f, 0};
    uint32_t seg[3] = {0, 6, 15};
    float k[R * C], v[R * C], m[15], l[15], dq[R * C], dk[R * C], dv[R * C];
    for (int i = 0; i < R * C; i++) {
        k[i] = (float)(int32_t)word() * 0x1p-31f;
        v[i] = (float)(int32_t)word() * 0x1p-31f;
    }
    OK(g->ops->attn(g, y, m, l, x, k, v, &a, seg, 2, &e));
    OK(g->ops->attn_dx(g, dq, dk, dv, dy, y, m, l, x, k, v, &a, seg, 2, &e));
    DIFF(x, g->ops->attn(g, y, m, l, x, k, v, &a, seg, 2, &e), dq);
    DIFF(k, g->ops->attn(g, y, m, l, x, k, v, &a, seg, 2, &e), dk);
    DIFF(v, g->ops->attn(g, y, m, l, x, k, v, &a, seg, 2, &e), dv);
    /* cross-entropy */
    float nll[R], up1[R], dn1[R], z[R * C];
    uint32_t target[R] = {0, 17, 39};
    memcpy(z, x, sizeof z);
    OK(g->ops->xent(g, nll, z, C, R, C, target, true, &e));
    for (int i = 0; i < R * C; i += 3) {
        memcpy(y, x, sizeof y);
        y[i] = x[i] + h;
        OK(g->ops->xent(g, up1, y, C, R, C, target, false, &e));
        y[i] = x[i] - h;
        OK(g->ops->xent(g, dn1, y, C, R, C, target, false, &e));
        double d = ((double)up1[i / C] - (double)dn1[i / C]) / (2 * (double)h);
        assert_true(fabs(d - (double)z[i]) < 1e-3);
    }
}

/* ---------------------------------------------------------------- golden vectors
 * keccak-256 of the reference's output for inputs that this function of (name, index) gives. They freeze arith-1: a
 * digest that changes is a new arithmetic and needs a new name. To print them: LOAM_GOLDEN=1 tests/test_gpu. */
static const struct {
    const char *name, *digest;
} golden[] = {
    {"", ""},
#include "tests/gpu_golden.def"
};

static void golden_check(const char *name, const void *p, size_t n) {
    uint8_t d[32];
    char hex[65];
    keccak256(d, p, n);
    hex_encode(hex, d, 32);
    if (getenv("LOAM_GOLDEN")) {
        printf("    {\"%s\", \"%s\"},\n", name, hex);
        return;
    }
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++)
        if (!strcmp(golden[i].name, name)) {
            if (strcmp(golden[i].digest, hex))
                fail_msg("%s: the reference gives %s, arith-1 is %s", name, hex, golden[i].digest);
            return;
        }
    fail_msg("no golden vector for %s", name);
}

static void test_golden(void **state) {
    struct err e;
    seed = 1000000; /* inputs do not depend on the tests before */
    enum { T = 5, N = 37, K = 256, R = 6 };
    static const uint32_t types[] = {0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 30};
    float *x = numbers((size_t)T * K), *y = numbers((size_t)T * K), *z = numbers((size_t)T * K), *v = numbers((size_t)T * K);
    int8_t q[T * K];
    float qd[T * K / 32], qs[T * K / 32];
    struct gpu_q8 q8 = {T, K, q, qd, qs};
    OK(ref->ops->quant(ref, &q8, x, K, &e));
    golden_check("quant q", q, sizeof q);
    golden_check("quant d", qd, sizeof qd);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char name[64];
        struct gpu_weight w = weight(types[i], N, K);
        struct gpu_out o = {y, N, &w};
        OK(ref->ops->matmul(ref, &o, 1, x, K, T, &e));
        snprintf(name, sizeof name, "matmul %s", gpu_type_name(types[i]));
        golden_check(name, y, (size_t)T * N * 4);
        OK(ref->ops->matmul_dx(ref, z, K, y, N, T, &w, GPU_SET, &e));
        snprintf(name, sizeof name, "matmul_dx %s", gpu_type_name(types[i]));
        golden_check(name, z, (size_t)T * K * 4);
        if (gpu_type_quantised(types[i])) {
            OK(ref->ops->matmul_q8(ref, &o, 1, &q8, &e));
            snprintf(name, sizeof name, "matmul_q8 %s", gpu_type_name(types[i]));
            golden_check(name, y, (size_t)T * N * 4);
        }
        free_weight(&w);
    }
    float *w = numbers(K), r[T], nll[T];
    OK(ref->ops->rmsnorm(ref, y, r, x, w, T, K, 1e-5f, &e));
    golden_check("rmsnorm", y, (size_t)T * K * 4);
    OK(ref->ops->rmsnorm_dx(ref, z, y, x, r, w, T, K, false, &e));
    golden_check("rmsnorm_dx", z, (size_t)T * K * 4);
    for (enum gpu_act act = GPU_SILU; act <= GPU_GELU_TANH; act++) {
        OK(ref->ops->glu(ref, y, x, z, T * K, act, &e));
        golden_check(act ? "glu gelu" : "glu silu", y, (size_t)T * K * 4);
        OK(ref->ops->glu_dx(ref, y, v, z, x, z, T * K, act, &e));
        golden_check(act ? "glu_dx gelu" : "glu_dx silu", y, (size_t)T * K * 4);
    }
    double freq[32];
    float ct[100 * 32], st[100 * 32];
    uint32_t pos[T] = {0, 99, 7, 50, 3}, target[T] = {0, 255, 31, 32, 33};
    gpu_rope_freqs(freq, 64, 100000.0);
    gpu_rope_table(ct, st, 100, 64, freq);
    golden_check("rope table", ct, sizeof ct);
    memcpy(y, x, (size_t)T * K * 4);
    OK(ref->ops->rope(ref, y, K, T, 4, 64, 64, ct, st, pos, GPU_ROPE_NORM, false, &e));
    golden_check("rope norm", y, (size_t)T * K * 4);
    OK(ref->ops->rope(ref, y, K, T, 4, 64, 64, ct, st, pos, GPU_ROPE_NEOX, true, &e));
    golden_check("rope neox inverse", y, (size_t)T * K * 4);
    memcpy(y, x, (size_t)T * K * 4);
    OK(ref->ops->xent(ref, nll, y, K, T, K, target, true, &e));
    golden_check("xent loss", nll, sizeof nll);
    golden_check("xent gradient", y, (size_t)T * K * 4);
    OK(ref->ops->sumsq(ref, r, x, T * K, &e));
    golden_check("sumsq", r, 4);
    struct gpu_adamw how = {1e-3f, 0.9f, 0.999f, 1e-8f, 0.01f, 0, 0, 0.25f};
    gpu_adamw_correct(&how, 7);
    memset(v, 0, (size_t)T * K * 4);
    for (int i = 0; i < 3; i++)
        OK(ref->ops->adamw(ref, y, z, v, x, T * K, &how, &e));
    golden_check("adamw", y, (size_t)T * K * 4);
    uint32_t key[2] = {1, 2};
    OK(ref->ops->dropout(ref, y, x, T * K, 0.1f, key, 5, &e));
    golden_check("dropout", y, (size_t)T * K * 4);
    /* attention: 40 tokens in two segments, 4 heads over 2 of size 8, twice x's length of numbers */
    enum { S = 40, H = 4, G = 2, D = 8 };
    struct gpu_attn a = {H, G, D, 0.35355339f, 0};
    uint32_t seg[3] = {0, 33, S};
    float *qq = numbers(S * H * D), *kk = numbers(S * G * D), *vv = numbers(S * G * D), *go = numbers(S * H * D);
    float *oo = numbers(S * H * D), *dq = numbers(S * H * D), *dk = numbers(S * G * D), *dv = numbers(S * G * D);
    float mm[S * H], ll[S * H];
    OK(ref->ops->attn(ref, oo, mm, ll, qq, kk, vv, &a, seg, 2, &e));
    golden_check("attn", oo, S * H * D * 4);
    OK(ref->ops->attn_dx(ref, dq, dk, dv, go, oo, mm, ll, qq, kk, vv, &a, seg, 2, &e));
    golden_check("attn_dx dq", dq, S * H * D * 4);
    golden_check("attn_dx dk", dk, S * G * D * 4);
    golden_check("attn_dx dv", dv, S * G * D * 4);
    struct kv s = {.a = a};
    struct gpu_kv_item it = {kv_pages(&s, 1), 0, 0, 0, S};
    OK(ref->ops->kv_store(ref, kk, vv, G * D, &a, &it, 1, &e));
    OK(ref->ops->attn_kv(ref, oo, H * D, qq, H * D, &a, &it, 1, &e));
    golden_check("attn_kv", oo, S * H * D * 4);
    give(it.pages[0]);
    give((void *)(uintptr_t)it.pages);
    float *rank_a = numbers((size_t)R * K), *rank_b = numbers((size_t)R * N), *at = numbers((size_t)K * 16), *bt = numbers((size_t)R * 48);
    gpu_lora_pack(at, bt, rank_a, rank_b, R, N, K);
    struct gpu_lora lora = {R, N, K, 2.0f, at, bt};
    memset(y, 0, (size_t)T * N * 4);
    OK(ref->ops->lora(ref, y, N, x, K, T, &lora, 1, NULL, &e));
    golden_check("lora", y, (size_t)T * N * 4);
    float *fs[] = {x, y, z, v, w, qq, kk, vv, go, oo, dq, dk, dv, rank_a, rank_b, at, bt};
    for (size_t i = 0; i < sizeof fs / sizeof fs[0]; i++)
        give(fs[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_functions), cmocka_unit_test(test_refused),   cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_products),  cmocka_unit_test(test_gemm),      cmocka_unit_test(test_lora),
        cmocka_unit_test(test_rows),      cmocka_unit_test(test_rope),      cmocka_unit_test(test_attention),
        cmocka_unit_test(test_kv),        cmocka_unit_test(test_integers),  cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_golden),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
