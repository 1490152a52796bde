#include "lm/fast_session.h"

#include "base/mem.h"
#include "gpu/arith.h"
#include "gpu/cuda.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

#define SLOTS LM_BATCH_MAX
#define FEW 4u        /* tokens that read bf16 weights by gemv; more go to cuBLASLt */
#define FEW_PACKED 16u /* the same for other weights, which cuBLASLt needs unpacked first */
#define HEAD_ROWS LM_BATCH_MAX /* rows of logits computed together */
#define LONG_MIN 512u /* a graph holds for sequences up to this long, then up to twice as long, and so on */

/* Linears that share their input are one weight. */
enum { QKV, O, GU, DOWN, GROUPS };
static const enum lm_linear first_of[GROUPS] = {LM_Q, LM_O, LM_GATE, LM_DOWN};
static const uint32_t slices_of[GROUPS] = {3, 1, 2, 1};

struct layer {
    struct fast_weight w[GROUPS];
    uint16_t *bias; /* of QKV, or NULL */
    uint16_t *norm1, *norm2;
};
struct graph {
    void *graph;
    uint32_t longest; /* what it holds for; 0: never run */
};

struct lm_fast {
    const struct fast_ops *op;
    struct fast *f;
    struct lm_model *m;
    struct lm_fast_opt opt;
    bool lost;
    uint64_t weight_bytes, work_bytes;
    uint32_t positions; /* of the RoPE tables: what a session can hold */
    struct layer *layers;
    struct fast_weight head;
    uint16_t *embed, *norm;
    float *cos_table, *sin_table;
    /* page p: [L][2 of k, v][G][GPU_KV_PAGE][D] */
    uint16_t *pool;
    size_t part; /* elements of one layer's k of a page */
    /* work, for opt.rows tokens */
    uint16_t *x, *xn, *qkv, *o, *gu, *act, *tmp, *xh, *unpacked;
    float *logits, *lse;
    uint32_t *ids, *pos, *len, *seg; /* cut out of one block, as the host's */
    int32_t *map, *table;
    uint32_t *h_block; /* host: ids, pos, len, seg (rows + 1), map */
    int32_t *h_table;
    uint32_t table_ld;
    /* adapters */
    struct fast_adapter *list, *h_list; /* [L * GROUPS][SLOTS] */
    uint16_t *slot[SLOTS];
    struct graph graphs[2][LM_BATCH_MAX + 1]; /* without and with adapters, by sequences */
    uint64_t most_rows, most_parts;           /* what scratch memory has seen: graphs keep its address */
};

static enum loam_status seen(struct lm_fast *f, enum loam_status s) {
    f->lost |= s == LOAM_EIO || s == LOAM_ENOMEM;
    return s;
}
#define TRY(call)                                                                                                   \
    do {                                                                                                            \
        enum loam_status try_ = (call);                                                                             \
        if (try_)                                                                                                   \
            return seen(f, try_);                                                                                   \
    } while (0)
#define ON(name, ...) TRY(f->op->name(f->f, __VA_ARGS__, err))

static uint32_t width(const struct lm_config *c, int g) {
    return g == QKV ? (c->H + 2 * c->G) * c->D : g == GU ? 2 * c->F : c->C;
}
static uint32_t inner(const struct lm_config *c, int g) {
    return g == O ? c->H * c->D : g == DOWN ? c->F : c->C;
}

static enum loam_status supported(const struct lm_model *m, struct err *err) {
    const struct lm_config *c = &m->config;
    const struct lm_layer *l = &m->layers[0];
    const char *what = l->q_norm.data || l->k_norm.data                     ? "norms of heads"
                       : l->post_attn_norm.data || l->post_ffn_norm.data    ? "norms after halves of a layer"
                       : c->gelu                                            ? "GELU"
                       : c->norm_plus_one                                   ? "norms stored as w - 1"
                       : c->embed_scale != 1.0f                             ? "scaled embeddings"
                       : c->rope_base_local != 0                            ? "a RoPE base of sliding layers"
                       : c->C % 64 || c->F % 64 || c->H * c->D % 64         ? "widths that are no multiple of 64"
                       : c->V % 8                                           ? "a vocabulary that is no multiple of 8"
                       : c->D != 32 && c->D != 64 && c->D != 128            ? "heads of that size (32, 64 and 128 can be had)"
                                                                            : NULL;
    return what ? err_set(err, LOAM_EUNSUPPORTED, "%s (%s): the fast mode has no kernels for %s; compute.mode referee computes it", m->name, c->arch, what)
                : LOAM_OK;
}

/* ---- making it ---- */

static void *room(struct lm_fast *f, uint64_t bytes, uint64_t *count) {
    void *p = f->op->alloc(f->f, bytes);
    *count += bytes;
    return p;
}
#define NO_ROOM(f, err) (seen(f, LOAM_ENOMEM), err_set(err, LOAM_ENOMEM, "the device's memory is full: another program may hold it"))

/* Rows of `n` tensors, one after the other, as the device reads them. */
static enum loam_status weight(struct lm_fast *f, struct fast_weight *w, enum fast_type type, const struct lm_tensor *const *t, uint32_t n, struct err *err) {
    uint32_t rows = 0, k = t[0]->cols, at = 0;
    for (uint32_t i = 0; i < n; i++)
        rows += t[i]->rows;
    size_t wb = fast_weight_bytes(type, 1, k), sb = fast_scale_bytes(type, 1, k);
    unsigned char *hw = mem_array(rows, wb), *hs = mem_array(rows, sb ? sb : 1);
    float *row = mem_array(k, sizeof *row);
    void *dw = room(f, rows * wb, &f->weight_bytes), *ds = sb ? room(f, rows * sb, &f->weight_bytes) : NULL;
    enum loam_status s = !hw || !hs || !row ? err_set(err, LOAM_ENOMEM, "no memory to convert %s", t[0]->name) : !dw || (sb && !ds) ? NO_ROOM(f, err) : LOAM_OK;
    for (uint32_t i = 0; !s && i < n; i++)
        for (uint32_t r = 0; r < t[i]->rows; r++, at++) {
            lm_tensor_row(row, t[i], r);
            fast_quantise(hw + at * wb, hs + at * sb, type, 1, k, row);
        }
    if (!s)
        s = seen(f, f->op->put(f->f, dw, hw, rows * wb, err));
    if (!s && sb)
        s = seen(f, f->op->put(f->f, ds, hs, rows * sb, err));
    mem_free(hw);
    mem_free(hs);
    mem_free(row);
    *w = (struct fast_weight){type, rows, k, dw, ds};
    return s;
}
static enum loam_status vector(struct lm_fast *f, uint16_t **out, const struct lm_tensor *const *t, uint32_t n, struct err *err) {
    uint32_t len = 0, at = 0;
    for (uint32_t i = 0; i < n; i++)
        len += t[i]->cols;
    float *row = mem_array(len, sizeof *row);
    uint16_t *h = mem_array(len, sizeof *h);
    *out = room(f, len * sizeof *h, &f->weight_bytes);
    enum loam_status s = !row || !h ? err_set(err, LOAM_ENOMEM, "no memory to convert %s", t[0]->name) : !*out ? NO_ROOM(f, err) : LOAM_OK;
    for (uint32_t i = 0; !s && i < n; at += t[i++]->cols)
        lm_tensor_row(row + at, t[i], 0);
    for (uint32_t i = 0; !s && i < len; i++)
        h[i] = arith_to_bf16(row[i]);
    if (!s)
        s = seen(f, f->op->put(f->f, *out, h, len * sizeof *h, err));
    mem_free(row);
    mem_free(h);
    return s;
}

static enum loam_status weights(struct lm_fast *f, struct err *err) {
    struct lm_model *m = f->m;
    for (uint32_t l = 0; l < m->config.L; l++) {
        struct lm_layer *from = &m->layers[l];
        struct layer *to = &f->layers[l];
        const struct lm_tensor *t[3];
        for (int g = 0; g < GROUPS; g++) {
            for (uint32_t i = 0; i < slices_of[g]; i++)
                t[i] = &from->w[(uint32_t)first_of[g] + i];
            TRY(weight(f, &to->w[g], f->opt.weights, t, slices_of[g], err));
        }
        for (uint32_t i = 0; i < 3; i++)
            t[i] = &from->bias[i];
        if (t[0]->data)
            TRY(vector(f, &to->bias, t, 3, err));
        TRY(vector(f, &to->norm1, &(const struct lm_tensor *){&from->attn_norm}, 1, err));
        TRY(vector(f, &to->norm2, &(const struct lm_tensor *){&from->ffn_norm}, 1, err));
    }
    TRY(vector(f, &f->norm, &(const struct lm_tensor *){&m->out_norm}, 1, err));
    struct fast_weight e;
    TRY(weight(f, &e, FAST_BF16, &(const struct lm_tensor *){&m->embed}, 1, err));
    f->embed = (uint16_t *)(uintptr_t)e.w;
    if (m->config.tied && f->opt.weights == FAST_BF16)
        f->head = e;
    else
        TRY(weight(f, &f->head, f->opt.weights, &(const struct lm_tensor *){&m->head}, 1, err));
    return LOAM_OK;
}

static enum loam_status rope(struct lm_fast *f, struct err *err) {
    const struct lm_config *c = &f->m->config;
    size_t n = (size_t)f->positions * (c->D / 2);
    double *freq = mem_array(c->D / 2, sizeof *freq);
    float *cs = mem_array(n, sizeof *cs), *sn = mem_array(n, sizeof *sn);
    f->cos_table = room(f, n * sizeof *cs, &f->work_bytes);
    f->sin_table = room(f, n * sizeof *sn, &f->work_bytes);
    enum loam_status s = !freq || !cs || !sn ? err_set(err, LOAM_ENOMEM, "no memory for the RoPE table of %u positions", f->positions)
                         : !f->cos_table || !f->sin_table ? NO_ROOM(f, err)
                                                          : LOAM_OK;
    if (!s) {
        lm_model_rope(freq, f->m, false);
        gpu_rope_table(cs, sn, f->positions, c->D, freq);
        s = seen(f, f->op->put(f->f, f->cos_table, cs, n * sizeof *cs, err));
    }
    if (!s)
        s = seen(f, f->op->put(f->f, f->sin_table, sn, n * sizeof *sn, err));
    mem_free(freq);
    mem_free(cs);
    mem_free(sn);
    return s;
}

#define BLOCK(f) (5 * (size_t)(f)->opt.rows + 1) /* u32 of ids, pos, len, map, seg */

/* What work memory takes; with put set, allocates it. */
static enum loam_status work(struct lm_fast *f, bool put, uint64_t *bytes, struct err *err) {
    const struct lm_config *c = &f->m->config;
    uint64_t rows = f->opt.rows, big = 0;
    for (int g = 0; g < GROUPS; g++)
        big = (uint64_t)width(c, g) * inner(c, g) > big ? (uint64_t)width(c, g) * inner(c, g) : big;
    big = (uint64_t)c->V * c->C > big ? (uint64_t)c->V * c->C : big;
    const struct {
        void **p;
        uint64_t bytes;
    } parts[] = {{(void **)&f->x, rows * c->C * 2},
                 {(void **)&f->xn, rows * c->C * 2},
                 {(void **)&f->tmp, rows * c->C * 2},
                 {(void **)&f->qkv, rows * width(c, QKV) * 2},
                 {(void **)&f->o, rows * inner(c, O) * 2},
                 {(void **)&f->gu, rows * c->F * 4},
                 {(void **)&f->act, rows * c->F * 2},
                 {(void **)&f->lse, rows * c->H * 4},
                 {(void **)&f->xh, (uint64_t)HEAD_ROWS * c->C * 2},
                 {(void **)&f->logits, (uint64_t)HEAD_ROWS * c->V * 4},
                 {(void **)&f->unpacked, f->opt.weights == FAST_BF16 ? 16 : big * 2},
                 {(void **)&f->ids, BLOCK(f) * 4},
                 {(void **)&f->table, rows * f->table_ld * 4},
                 {(void **)&f->list, (uint64_t)c->L * GROUPS * SLOTS * sizeof *f->list},
                 {(void **)&f->pool, f->opt.pages * f->part * 2 * c->L * 2}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (put && !(*parts[i].p = f->op->alloc(f->f, parts[i].bytes)))
            return NO_ROOM(f, err);
        *bytes += parts[i].bytes;
    }
    return LOAM_OK;
}

/* Said before anything is allocated. */
static enum loam_status plan(struct lm_fast *f, int device, struct err *err) {
    const struct lm_config *c = &f->m->config;
    uint64_t w = (uint64_t)c->V * c->C * 2, k = 0, cache = f->opt.pages * f->part * 2 * c->L * 2, free = UINT64_MAX;
    for (int g = 0; g < GROUPS; g++)
        w += c->L * (fast_weight_bytes(f->opt.weights, width(c, g), inner(c, g)) + fast_scale_bytes(f->opt.weights, width(c, g), inner(c, g)));
    if (!c->tied || f->opt.weights != FAST_BF16)
        w += fast_weight_bytes(f->opt.weights, c->V, c->C) + fast_scale_bytes(f->opt.weights, c->V, c->C);
    TRY(work(f, false, &k, err));
    k += (uint64_t)f->positions * c->D * sizeof(float) - cache;
    struct cuda_device *d = mem_zarray(CUDA_DEVICES_MAX, sizeof *d);
    int n = 0;
    enum loam_status s = d ? cuda_list(d, &n, err) : err_set(err, LOAM_ENOMEM, "no memory");
    for (int i = 0; !s && i < n; i++)
        if (d[i].index == device)
            free = d[i].free;
    mem_free(d);
    if (!s && w + k + cache > free) {
        f->lost = true;
        s = err_set(err, LOAM_ENOMEM,
                    "answers in the fast mode take %llu MiB of the device (weights %llu, cache %llu, work %llu), %llu are free; lower model.cache or choose smaller "
                    "compute.weights",
                    (unsigned long long)((w + k + cache) >> 20), (unsigned long long)(w >> 20), (unsigned long long)(cache >> 20), (unsigned long long)(k >> 20),
                    (unsigned long long)(free >> 20));
    }
    return s;
}

enum loam_status lm_fast_new(struct lm_fast **out, struct lm_model *m, const struct lm_fast_opt *opt, struct err *err) {
    const struct lm_config *c = &m->config;
    char *end = NULL;
    *out = NULL;
    const char *b = opt->backend ? opt->backend : "auto";
    long device = !strcmp(b, "cuda") ? 0 : !strncmp(b, "cuda:", 5) ? strtol(b + 5, &end, 10) : -1;
    if (device < 0 || device >= CUDA_DEVICES_MAX || (end && (*end || end == b + 5)))
        return err_set(err, LOAM_EINVAL, "the fast mode needs an NVIDIA device, and compute.backend is %.32s; `gpu use cuda` sets it", b);
    enum loam_status s = supported(m, err);
    if (s)
        return s;
    struct lm_fast *f = mem_zalloc(sizeof *f);
    if (!f)
        return err_set(err, LOAM_ENOMEM, "no memory for an engine");
    f->m = m;
    f->opt = *opt;
    f->part = (size_t)c->G * GPU_KV_PAGE * c->D;
    f->positions = opt->pages < c->context / GPU_KV_PAGE + 1 ? (uint32_t)opt->pages * GPU_KV_PAGE : c->context;
    f->table_ld = (f->positions + GPU_KV_PAGE - 1) / GPU_KV_PAGE;
    f->layers = mem_zarray(c->L, sizeof *f->layers);
    f->h_block = mem_zarray(BLOCK(f), sizeof *f->h_block);
    f->h_table = mem_zarray((size_t)opt->rows * f->table_ld, sizeof *f->h_table);
    f->h_list = mem_zarray((size_t)c->L * GROUPS * SLOTS, sizeof *f->h_list);
    if (!f->layers || !f->h_block || !f->h_table || !f->h_list)
        s = err_set(err, LOAM_ENOMEM, "no memory for an engine");
    if (!s)
        s = plan(f, (int)device, err);
    if (!s)
        s = fast_ops(&f->op, err);
    if (!s)
        s = f->op->open(&f->f, (int)device, err);
    if (!s)
        s = work(f, true, &f->work_bytes, err);
    if (!s) {
        f->pos = f->ids + opt->rows;
        f->len = f->pos + opt->rows;
        f->map = (int32_t *)(f->len + opt->rows);
        f->seg = (uint32_t *)f->map + opt->rows;
        s = rope(f, err);
    }
    if (!s)
        s = weights(f, err);
    if (s) {
        lm_fast_free(f);
        return s;
    }
    *out = f;
    return LOAM_OK;
}

static void graphs_drop(struct lm_fast *f) {
    for (int a = 0; a < 2; a++)
        for (uint32_t n = 0; n <= LM_BATCH_MAX; n++) {
            if (f->graphs[a][n].graph)
                f->op->graph_free(f->f, f->graphs[a][n].graph);
            f->graphs[a][n] = (struct graph){0};
        }
}

void lm_fast_free(struct lm_fast *f) {
    if (!f)
        return;
    if (f->f) {
        graphs_drop(f);
        f->op->close(f->f);
    }
    mem_free(f->layers);
    mem_free(f->h_block);
    mem_free(f->h_table);
    mem_free(f->h_list);
    mem_free(f);
}

bool lm_fast_lost(const struct lm_fast *f) {
    return f->lost;
}

void lm_fast_memory(const struct lm_fast *f, uint64_t *weight_bytes, uint64_t *work_bytes) {
    *weight_bytes = f->weight_bytes;
    *work_bytes = f->work_bytes - f->opt.pages * f->part * 2 * f->m->config.L * 2;
}

uint16_t *lm_fast_page(struct lm_fast *f, uint64_t i) {
    LOAM_ASSERT(i < f->opt.pages);
    return f->pool + i * f->part * 2 * f->m->config.L;
}

enum loam_status lm_fast_page_copy(struct lm_fast *f, uint16_t *to, const uint16_t *from, struct err *err) {
    ON(copy, to, from, f->part * 2 * f->m->config.L * sizeof *to);
    return LOAM_OK;
}

/* ---- adapters ---- */

enum loam_status lm_fast_adapter_new(int32_t *slot, struct lm_fast *f, const struct lm_adapter *a, struct err *err) {
    const struct lm_config *c = &f->m->config;
    uint32_t r = (a->rank + 7) / 8 * 8;
    int32_t at = 0;
    *slot = -1;
    if (r > 64)
        return err_set(err, LOAM_EUNSUPPORTED, "an adapter of rank %u; the fast mode has kernels for at most 64, compute.mode referee for all", a->rank);
    while (at < SLOTS && f->slot[at])
        at++;
    if (at == SLOTS)
        return err_set(err, LOAM_ELIMIT, "more than %d adapters at once in the fast mode", SLOTS);
    struct lm_shape shape;
    lm_model_shape(&shape, f->m);
    size_t one = 0, put = 0;
    for (int i = 0; i < LM_LINEARS; i++)
        one += (size_t)r * (shape.in[i] + shape.out[i]);
    uint16_t *h = mem_zarray(one * c->L, sizeof *h), *d = f->op->alloc(f->f, one * c->L * sizeof *d);
    enum loam_status s = !h ? err_set(err, LOAM_ENOMEM, "no memory for an adapter") : !d ? NO_ROOM(f, err) : LOAM_OK;
    for (uint32_t l = 0; !s && l < c->L; l++)
        for (int g = 0; g < GROUPS; g++) {
            struct fast_adapter *to = &f->h_list[(l * GROUPS + (uint32_t)g) * SLOTS + (uint32_t)at];
            *to = (struct fast_adapter){.r = 0, .scale = a->scale}; /* r 0: no linear of the group is adapted */
            for (uint32_t i = 0; i < slices_of[g]; i++) {
                uint32_t kind = (uint32_t)first_of[g] + i, in = shape.in[kind], rows = shape.out[kind];
                const struct lm_lora *t = lm_adapter_find(a, l, kind);
                to->a[i] = d + put;
                to->b[i] = d + put + (size_t)r * in;
                for (size_t j = 0; t && j < (size_t)a->rank * in; j++)
                    h[put + j] = arith_to_bf16(t->a[j]);
                for (size_t j = 0; t && j < (size_t)rows * a->rank; j++)
                    h[put + (size_t)r * in + j / a->rank * r + j % a->rank] = arith_to_bf16(t->b[j]);
                to->r = t ? r : to->r;
                put += (size_t)r * (in + rows);
            }
        }
    if (!s)
        s = seen(f, f->op->put(f->f, d, h, one * c->L * sizeof *d, err));
    if (!s)
        s = seen(f, f->op->put(f->f, f->list, f->h_list, (size_t)c->L * GROUPS * SLOTS * sizeof *f->list, err));
    mem_free(h);
    if (s) {
        f->op->free(f->f, d);
        return s;
    }
    f->slot[at] = d;
    *slot = at;
    return LOAM_OK;
}

void lm_fast_adapter_free(struct lm_fast *f, int32_t slot) {
    if (slot < 0)
        return;
    f->op->free(f->f, f->slot[slot]);
    f->slot[slot] = NULL;
}

/* ---- a round ---- */

struct pass {
    uint32_t t, n_seg, longest;
    bool flash, lora;
    const struct lm_fast_round *r; /* NULL while a graph is recorded: nobody is asked between layers */
};

/* y (bf16, or fp32 where f32) = x W^T (+ bias). */
static enum loam_status linear(struct lm_fast *f, void *y, bool f32, const uint16_t *x, uint32_t t, const struct fast_weight *w, const uint16_t *bias,
                               struct err *err) {
    if (t <= (w->type == FAST_BF16 ? FEW : FEW_PACKED)) {
        for (uint32_t i = 0; bias && i < t; i++)
            ON(copy, (uint16_t *)y + (size_t)i * w->n, bias, (size_t)w->n * sizeof *bias);
        for (uint32_t at = 0; at < t; at += 8)
            ON(gemv, (char *)y + (size_t)at * w->n * (f32 ? 4 : 2), f32, w->n, x + (size_t)at * w->k, w->k, t - at < 8 ? t - at : 8, w, bias != NULL);
        return LOAM_OK;
    }
    const uint16_t *b = w->w;
    if (w->type != FAST_BF16) {
        ON(dequant, f->unpacked, w);
        b = f->unpacked;
    }
    const struct fast_gemm g = {.m = t, .n = w->n, .k = w->k, .a = x, .lda = w->k, .b = b, .ldb = w->k, .b_t = true, .c_f32 = f32, .c = y, .ldc = w->n, .alpha = 1, .bias = bias};
    ON(gemm, &g);
    return LOAM_OK;
}

static enum loam_status group(struct lm_fast *f, const struct pass *p, uint32_t l, int g, uint16_t *y, const uint16_t *x, struct err *err) {
    const struct lm_config *c = &f->m->config;
    const struct fast_weight *w = &f->layers[l].w[g];
    TRY(linear(f, y, false, x, p->t, w, g == QKV ? f->layers[l].bias : NULL, err));
    if (!p->lora)
        return LOAM_OK;
    struct fast_lora a = {.list = f->list + (l * GROUPS + (uint32_t)g) * SLOTS, .map = f->map, .slices = slices_of[g], .k = w->k};
    for (uint32_t i = 0, at = 0; i < a.slices; at += a.n[i++]) {
        a.n[i] = g == QKV ? (i ? c->G : c->H) * c->D : g == GU ? c->F : c->C;
        a.y_at[i] = at;
    }
    ON(lora, y, w->n, x, w->k, p->t, &a);
    return LOAM_OK;
}

/* ids to normed states in xn. */
static enum loam_status forward(struct lm_fast *f, const struct pass *p, struct err *err) {
    const struct lm_config *c = &f->m->config;
    const uint32_t T = p->t, nq = c->H * c->D, nk = c->G * c->D, N = nq + 2 * nk;
    ON(embed, f->x, f->embed, f->ids, T, c->C);
    for (uint32_t l = 0; l < c->L; l++) {
        const struct layer *w = &f->layers[l];
        const bool sliding = c->window && !(c->window_pattern && (l + 1) % c->window_pattern == 0);
        const uint32_t window = sliding ? c->window : 0;
        if (p->r && p->r->yield)
            p->r->yield(p->r->yield_ctx);
        if (p->r && p->r->cancel && atomic_load_explicit(p->r->cancel, memory_order_relaxed))
            return err_set(err, LOAM_ECANCEL, "cancelled between two layers");
        ON(norm, f->xn, NULL, f->x, l ? f->tmp : NULL, w->norm1, T, c->C, c->norm_eps);
        TRY(group(f, p, l, QKV, f->qkv, f->xn, err));
        ON(rope, f->qkv, N, T, c->H + c->G, c->D, f->cos_table, f->sin_table, f->pos, c->rope, false);
        const struct fast_kv kv = {c->H,     c->G,        c->D,   window, lm_attn_scale(c), f->pool + (size_t)l * 2 * f->part, f->pool + ((size_t)l * 2 + 1) * f->part,
                                   f->table, f->table_ld, f->len, T,      p->longest};
        ON(kv_put, f->qkv + nq, f->qkv + nq + nk, N, &kv);
        if (p->flash) {
            const struct fast_attn a = {c->H, c->G, c->D, window, lm_attn_scale(c), f->seg, p->n_seg, T, p->longest, N, N, nq};
            ON(attn, f->o, f->lse, f->qkv, f->qkv + nq, f->qkv + nq + nk, &a);
        } else {
            ON(attn_kv, f->o, nq, f->qkv, N, &kv);
        }
        TRY(group(f, p, l, O, f->tmp, f->o, err));
        ON(norm, f->xn, NULL, f->x, f->tmp, w->norm2, T, c->C, c->norm_eps);
        TRY(group(f, p, l, GU, f->gu, f->xn, err));
        ON(swiglu, f->act, f->gu, T, c->F);
        TRY(group(f, p, l, DOWN, f->tmp, f->act, err));
    }
    ON(norm, f->xn, NULL, f->x, f->tmp, f->norm, T, c->C, c->norm_eps);
    return LOAM_OK;
}

static enum loam_status take(struct lm_fast *f, float *const *to, uint32_t n, struct err *err) {
    uint32_t V = f->m->config.V;
    for (uint32_t i = 0; i < n; i++) {
        ON(get, to[i], f->logits + (size_t)i * V, (size_t)V * sizeof(float));
        for (uint32_t j = 0; j < V; j++)
            if (!(arith_float(arith_bits(to[i][j]) & 0x7fffffffu) <= FLT_MAX))
                return err_set(err, LOAM_ENONFINITE, "logits: element %u is not finite (fast mode)", j);
    }
    return LOAM_OK;
}

/* One token a sequence: directly, or as a graph where the same was run before. */
static enum loam_status decode(struct lm_fast *f, struct pass *p, const struct lm_fast_round *r, struct err *err) {
    struct graph *g = &f->graphs[p->lora][p->t];
    float *to[LM_BATCH_MAX];
    if (g->longest != p->longest) { /* sizes scratch memory and finds the products' plans */
        if (g->graph)
            f->op->graph_free(f->f, g->graph);
        *g = (struct graph){.longest = p->longest};
        p->r = r;
        TRY(forward(f, p, err));
        TRY(linear(f, f->logits, true, f->xn, p->t, &f->head, NULL, err));
    } else {
        if (!g->graph) {
            TRY(f->op->graph_begin(f->f, err));
            enum loam_status s = forward(f, p, err), end;
            if (!s)
                s = linear(f, f->logits, true, f->xn, p->t, &f->head, NULL, err);
            end = f->op->graph_end(f->f, &g->graph, s ? NULL : err); /* in any case: a recording must not stay open */
            TRY(s ? s : end);
        }
        if (r->yield)
            r->yield(r->yield_ctx);
        ON(graph_run, g->graph);
    }
    for (uint32_t i = 0; i < r->n; i++)
        to[i] = r->item[i]->logits;
    return take(f, to, r->n, err);
}

enum loam_status lm_fast_step(struct lm_fast *f, const struct lm_fast_round *r, struct err *err) {
    const struct lm_config *c = &f->m->config;
    const uint32_t rows = f->opt.rows;
    uint32_t *ids = f->h_block, *pos = ids + rows, *len = pos + rows, *map = len + rows, *seg = map + rows;
    struct pass p = {.t = r->t, .n_seg = r->n, .flash = c->D != 32, .r = r};
    bool one = true;
    uint32_t t = 0, longest = 0, longest_row = 0;
    LOAM_ASSERT(r->t <= rows && r->n <= LM_BATCH_MAX);
    const size_t page = f->part * 2 * c->L;
    for (uint32_t i = 0; i < r->n; i++) {
        const struct gpu_kv_item *kv = &r->kv[i];
        uint32_t end = kv->pos + kv->t;
        if (end > f->positions)
            return err_set(err, LOAM_ELIMIT, "%u tokens do not fit the cache's budget (option model.cache)", end);
        one &= kv->t == 1 && r->item[i]->logits && !r->item[i]->all;
        p.flash &= !kv->pos;
        p.lora |= r->slot[i] >= 0;
        longest = end > longest ? end : longest;
        longest_row = kv->t > longest_row ? kv->t : longest_row;
        seg[i] = t;
        for (uint32_t j = 0; j < kv->t; j++, t++) {
            ids[t] = r->item[i]->tokens[r->from[i] + j];
            pos[t] = kv->pos + j;
            len[t] = kv->pos + j + 1;
            map[t] = (uint32_t)r->slot[i];
            for (uint32_t k = 0; k < (end + GPU_KV_PAGE - 1) / GPU_KV_PAGE; k++)
                f->h_table[(size_t)t * f->table_ld + k] = (int32_t)((size_t)(kv->pages[k] - f->pool) / page * 2 * c->L);
        }
    }
    seg[r->n] = t;
    for (p.longest = LONG_MIN; p.longest < longest;)
        p.longest *= 2;
    p.flash &= !one;
    if (p.flash)
        p.longest = longest_row;
    /* Graphs hold the address of scratch memory, which moves when it grows. */
    uint64_t parts = (uint64_t)t * ((p.longest + 255) / 256);
    if ((p.lora && t > f->most_rows) || (!p.flash && parts > f->most_parts)) {
        graphs_drop(f);
        f->most_rows = p.lora && t > f->most_rows ? t : f->most_rows;
        f->most_parts = !p.flash && parts > f->most_parts ? parts : f->most_parts;
    }
    ON(put, f->ids, f->h_block, BLOCK(f) * sizeof(uint32_t));
    ON(put, f->table, f->h_table, (size_t)t * f->table_ld * sizeof(int32_t));
    if (one) {
        p.r = NULL;
        return decode(f, &p, r, err);
    }
    TRY(forward(f, &p, err));
    float *to[LM_BATCH_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        const struct lm_item *it = r->item[i];
        for (uint32_t j = 0; it->logits && j < r->kv[i].t; j++) {
            uint32_t at = r->from[i] + j;
            if (!it->all && at + 1 != it->n)
                continue;
            ON(copy, f->xh + (size_t)n * c->C, f->xn + (size_t)(seg[i] + j) * c->C, (size_t)c->C * sizeof *f->xh);
            to[n++] = it->all ? it->logits + (size_t)at * c->V : it->logits;
            if (n == HEAD_ROWS) {
                TRY(linear(f, f->logits, true, f->xh, n, &f->head, NULL, err));
                TRY(take(f, to, n, err));
                n = 0;
            }
        }
    }
    if (!n) { /* faults are this step's, not the next one's */
        TRY(f->op->sync(f->f, err));
        return LOAM_OK;
    }
    TRY(linear(f, f->logits, true, f->xh, n, &f->head, NULL, err));
    return take(f, to, n, err);
}
