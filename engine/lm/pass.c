#include "lm/pass.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

#include "base/banned.h"

/* Logits of at most so many bytes exist at a time; a chunk has at least CHUNK_ROWS_MIN rows. Every chunk goes through the head's
 * weights twice, so a row of 256 trained tokens over a vocabulary of 49152 is one chunk. */
#define CHUNK_BYTES ((size_t)48 << 20)
#define CHUNK_ROWS_MIN 16u

struct saved { /* of one layer, for backward; T tokens each */
    float *x;              /* [T][C] input of the layer */
    float *r1, *r2;        /* [T] the norms' factors */
    float *q, *k, *v, *o;  /* [T][HD], [T][GD] twice (turned), [T][HD] */
    float *m, *l;          /* [T][H] of the softmax */
    float *xm;             /* [T][C] after attention */
    float *gate, *up;      /* [T][F] */
    float *h[LM_LINEARS];  /* [T][R] where adapted */
    /* Where the model has such norms: what went in, and their factors. */
    float *qx, *rq, *kx, *rk; /* [T][HD], [T][H], [T][GD], [T][G] */
    float *ax, *r3, *fx, *r4; /* [T][C], [T] twice */
};

struct lm_pass {
    struct gpu *g;
    const struct lm_view *v;
    const struct lm_adapter *a;
    uint32_t cap, cap_targets, rows_cap, chunk;
    bool backward;
    enum lm_keep keep;
    float *mem;             /* everything below, one block */
    struct saved *s;        /* [L + 1]; the last has x only */
    float *xn, *act, *tmp;  /* [T][C or HD], [T][F], [T][max in] (dropout) */
    float *dx, *dn, *dy;    /* [T][C]; dy: behind a norm that follows a layer's half */
    float *da, *dq, *dk, *dv, *d_o; /* [T][F], as q k v o */
    float *dh;              /* [T][R] */
    float *gb;              /* [max out][R]: one row's gradient for the sink */
    float *xs, *xsn, *rs, *dxs; /* selected positions: [S][C] twice, [S], [S][C] */
    float *logits, *nll;    /* [chunk][V], [S] */
    uint32_t *ids, *pos, *seg, *sel, *want; /* [T], [T], [rows + 1], [S], [S] */
    /* of the last forward */
    const struct lm_example **ex;
    uint32_t n, t, nsel;
    uint32_t shared; /* first tokens that all rows have in common, computed once in forward; 0: none */
    uint32_t tc;     /* tokens in the forward's layout: row 0 whole, then each row without the shared ones */
    struct lm_dropout drop;
};

/* One block is laid out twice: once to measure (mem NULL), once for real. */
struct layout {
    float *mem;
    size_t at;
};

static float *take(struct layout *o, size_t n) {
    float *p = o->mem ? o->mem + o->at : NULL;
    o->at += (n + 15) / 16 * 16;
    return p;
}

static const struct lm_lora *tensor_of(const struct lm_adapter *a, uint32_t layer, uint32_t kind) {
    return a ? lm_adapter_find(a, layer, kind) : NULL;
}

static bool gate_or_up(uint32_t kind) {
    return kind == LM_GATE || kind == LM_UP;
}

/* What is computed again where LM_KEEP_MOST holds; one copy for all layers. */
static void take_wide(struct layout *o, struct saved *s, const struct lm_view *v, const struct lm_adapter *a, size_t T, uint32_t layer) {
    s->gate = take(o, T * v->ffn);
    s->up = take(o, T * v->ffn);
    for (uint32_t k = LM_GATE; k <= LM_UP; k++)
        s->h[k] = a && (layer == UINT32_MAX || tensor_of(a, layer, k)) ? take(o, T * a->rank) : NULL;
}

/* layer: UINT32_MAX: for any. */
static void take_saved(struct layout *o, struct saved *s, const struct lm_view *v, const struct lm_adapter *a, size_t T,
                       uint32_t layer) {
    const struct lm_view_layer *w = &v->layer[layer == UINT32_MAX ? 0 : layer];
    size_t hd = (size_t)v->attn.h * v->attn.d, gd = (size_t)v->attn.g * v->attn.d;
    s->r1 = take(o, T);
    s->r2 = take(o, T);
    s->q = take(o, T * hd);
    s->k = take(o, T * gd);
    s->v = take(o, T * gd);
    s->o = take(o, T * hd);
    s->m = take(o, T * v->attn.h);
    s->l = take(o, T * v->attn.h);
    s->xm = take(o, T * v->width);
    for (uint32_t k = 0; k < LM_LINEARS; k++)
        if (!gate_or_up(k))
            s->h[k] = a && (layer == UINT32_MAX || tensor_of(a, layer, k)) ? take(o, T * a->rank) : NULL;
    if (w->q_norm) {
        s->qx = take(o, T * hd);
        s->rq = take(o, T * v->attn.h);
    }
    if (w->k_norm) {
        s->kx = take(o, T * gd);
        s->rk = take(o, T * v->attn.g);
    }
    if (w->post_attn_norm) {
        s->ax = take(o, T * v->width);
        s->r3 = take(o, T);
    }
    if (w->post_ffn_norm) {
        s->fx = take(o, T * v->width);
        s->r4 = take(o, T);
    }
}

static size_t lay_out(struct lm_pass *p, float *mem, size_t *saved_bytes) {
    struct layout o = {mem, 0};
    const struct lm_view *v = p->v;
    size_t T = p->cap, S = p->cap_targets, C = v->width, F = v->ffn, hd = (size_t)v->attn.h * v->attn.d,
           gd = (size_t)v->attn.g * v->attn.d, widest = F > hd ? F : hd;
    if (C > widest)
        widest = C;
    struct saved one = {0};
    bool share = !p->backward || p->keep == LM_KEEP_INPUTS;
    if (share)
        take_saved(&o, &one, v, p->a, T, UINT32_MAX);
    if (share || p->keep == LM_KEEP_MOST)
        take_wide(&o, &one, v, p->a, T, UINT32_MAX);
    float *x[2] = {NULL, NULL};
    if (!p->backward)
        for (int i = 0; i < 2; i++)
            x[i] = take(&o, T * C);
    for (uint32_t l = 0; l <= v->layers; l++) {
        struct saved s = one;
        if (!share && l < v->layers) {
            take_saved(&o, &s, v, p->a, T, l);
            if (p->keep == LM_KEEP_ALL)
                take_wide(&o, &s, v, p->a, T, l);
        }
        s.x = p->backward ? take(&o, T * C) : x[l & 1];
        if (mem)
            p->s[l] = s;
    }
    if (saved_bytes)
        *saved_bytes = o.at * sizeof(float);
    p->xn = take(&o, T * (C > hd ? C : hd));
    p->act = take(&o, T * F);
    p->tmp = take(&o, T * widest);
    p->xs = take(&o, S * C);
    p->xsn = take(&o, S * C);
    p->rs = take(&o, S);
    p->nll = take(&o, S);
    p->logits = take(&o, (size_t)p->chunk * v->vocab);
    p->ids = (uint32_t *)take(&o, T);
    p->pos = (uint32_t *)take(&o, T);
    p->seg = (uint32_t *)take(&o, T + 1);
    p->sel = (uint32_t *)take(&o, S);
    p->want = (uint32_t *)take(&o, S);
    if (p->backward) {
        size_t R = p->a ? p->a->rank : 0;
        p->dx = take(&o, T * C);
        p->dn = take(&o, T * (C > hd ? C : hd));
        p->da = take(&o, T * F);
        p->dq = take(&o, T * hd);
        p->dk = take(&o, T * gd);
        p->dv = take(&o, T * gd);
        p->d_o = take(&o, T * hd);
        p->dh = take(&o, T * R);
        p->dy = v->layer[0].post_attn_norm || v->layer[0].post_ffn_norm ? take(&o, T * C) : NULL;
        p->gb = take(&o, widest * R);
        p->dxs = take(&o, S * C);
    }
    return o.at * sizeof(float);
}

static uint32_t chunk_rows(const struct lm_view *v, uint32_t targets) {
    size_t n = CHUNK_BYTES / sizeof(float) / v->vocab;
    if (n < CHUNK_ROWS_MIN)
        n = CHUNK_ROWS_MIN;
    return (uint32_t)(n < targets ? n : targets ? targets : 1);
}

size_t lm_pass_bytes(const struct lm_view *v, const struct lm_adapter *a, uint32_t tokens, uint32_t targets, bool backward,
                     enum lm_keep keep, size_t *saved) {
    struct lm_pass p = {.v = v, .a = a, .cap = tokens, .cap_targets = targets, .backward = backward, .keep = keep};
    p.chunk = chunk_rows(v, targets);
    return lay_out(&p, NULL, saved);
}

enum loam_status lm_pass_new(struct lm_pass **out, struct gpu *g, const struct lm_view *v, const struct lm_adapter *a,
                             uint32_t tokens, uint32_t targets, bool backward, enum lm_keep keep, struct err *err) {
    *out = NULL;
    if (!tokens || !targets || targets > tokens)
        return err_set(err, LOAM_EINVAL, "a pass of %u tokens with %u trained ones", tokens, targets);
    if (backward && !a)
        return err_set(err, LOAM_EINVAL, "backward needs an adapter");
    struct lm_pass *p = mem_zalloc(sizeof *p);
    if (!p)
        return err_set(err, LOAM_ENOMEM, "no memory for a training pass");
    p->g = g;
    p->v = v;
    p->a = a;
    p->cap = tokens;
    p->cap_targets = targets;
    p->backward = backward;
    p->keep = keep;
    p->chunk = chunk_rows(v, targets);
    p->s = mem_zarray((size_t)v->layers + 1, sizeof *p->s);
    p->ex = mem_zarray(tokens, sizeof *p->ex);
    size_t bytes = lay_out(p, NULL, NULL);
    p->mem = gpu_alloc(g, bytes);
    if (!p->s || !p->ex || !p->mem) {
        lm_pass_free(p);
        return err_set(err, LOAM_ENOMEM, "no memory for a training pass of %u tokens (%zu bytes)", tokens, bytes);
    }
    lay_out(p, p->mem, NULL);
    *out = p;
    return LOAM_OK;
}

void lm_pass_free(struct lm_pass *p) {
    if (!p)
        return;
    gpu_free(p->g, p->mem);
    mem_free(p->s);
    mem_free(p->ex);
    mem_free(p);
}

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        enum loam_status try_ = (call);                                                                                \
        if (try_)                                                                                                      \
            return try_;                                                                                               \
    } while (0)

static enum loam_status gemm(struct lm_pass *p, uint32_t m, uint32_t n, uint32_t k, const float *a, size_t a_i, size_t a_p,
                             const float *b, size_t b_p, size_t b_j, float *c, size_t c_i, enum gpu_epi epi, float alpha,
                             struct err *err) {
    struct gpu_gemm q = {m, n, k, a, a_i, a_p, b, b_p, b_j, c, c_i, epi, alpha};
    return p->g->ops->gemm(p->g, &q, err);
}

/* x [T][in] as the adapter of this tensor sees it: itself, or dropped out into p->tmp, row by row with the row's own numbers. */
static enum loam_status dropped(struct lm_pass *p, const float **out, const struct lm_lora *t, const float *x, struct err *err) {
    *out = x;
    if (p->drop.p <= 0)
        return LOAM_OK;
    for (uint32_t i = 0; i < p->n; i++) {
        size_t at = (size_t)p->seg[i] * t->in, n = (size_t)(p->seg[i + 1] - p->seg[i]) * t->in;
        uint64_t index = (p->drop.first + i) * p->a->count + (uint64_t)(t - p->a->t);
        TRY(p->g->ops->dropout(p->g, p->tmp + at, x + at, n, p->drop.p, p->drop.key, index, err));
    }
    *out = p->tmp;
    return LOAM_OK;
}

/* Rows of a template begin with the same tokens, whose numbers are the same in every row: forward computes them once, in a
 * layout where row 0 is whole and the others lack them. What backward reads is then spread to the full layout, in place and
 * from the end (a row's full place never lies before its short one). */
static void spread(const struct lm_pass *p, float *a, size_t width) {
    if (!p->shared || !a)
        return;
    uint32_t from = p->tc;
    for (uint32_t i = p->n; i-- > 1;) {
        uint32_t len = p->seg[i + 1] - p->seg[i] - p->shared;
        from -= len;
        memmove(a + ((size_t)p->seg[i] + p->shared) * width, a + (size_t)from * width, len * width * sizeof *a);
        memcpy(a + (size_t)p->seg[i] * width, a, p->shared * width * sizeof *a);
    }
}

/* The other way, into `to`. */
static const float *gather(const struct lm_pass *p, float *to, const float *a, size_t width) {
    if (!p->shared)
        return a;
    uint32_t at = p->seg[1];
    memcpy(to, a, at * width * sizeof *a);
    for (uint32_t i = 1; i < p->n; i++) {
        uint32_t len = p->seg[i + 1] - p->seg[i] - p->shared;
        memcpy(to + (size_t)at * width, a + ((size_t)p->seg[i] + p->shared) * width, len * width * sizeof *a);
        at += len;
    }
    return to;
}

static enum loam_status linear_epilogue(struct lm_pass *p, uint32_t layer, uint32_t kind, float *y, const float *x, float *h,
                                        struct err *err) {
    const struct gpu_weight *w = &p->v->layer[layer].w[kind];
    const float *bias = p->v->layer[layer].bias[kind];
    const struct lm_lora *t = tensor_of(p->a, layer, kind);
    if (t) { /* product, adapter, bias: the order of session.c */
        uint32_t R = p->a->rank;
        TRY(dropped(p, &x, t, x, err));
        TRY(gemm(p, p->tc, R, t->in, x, t->in, 1, t->a, 1, t->in, h, R, GPU_SET, 1, err));
        TRY(gemm(p, p->tc, t->out, R, h, R, 1, t->b, 1, R, y, t->out, GPU_FMA, p->a->scale, err));
    }
    return bias ? p->g->ops->add_row(p->g, y, w->n, bias, p->tc, w->n, err) : LOAM_OK;
}

static struct gpu_attn attn_of(const struct lm_view *v, const struct lm_view_layer *w) {
    struct gpu_attn a = v->attn;
    a.window = w->window;
    return a;
}

/* gate and up from what the second norm gives (xn). */
static enum loam_status gate_up(struct lm_pass *p, uint32_t l, struct err *err) {
    const struct lm_view *v = p->v;
    const struct lm_view_layer *w = &v->layer[l];
    struct saved *s = &p->s[l];
    const struct gpu_out gu[2] = {{s->gate, v->ffn, &w->w[LM_GATE]}, {s->up, v->ffn, &w->w[LM_UP]}};
    TRY(p->g->ops->matmul(p->g, gu, 2, p->xn, v->width, p->tc, err));
    TRY(linear_epilogue(p, l, LM_GATE, s->gate, p->xn, s->h[LM_GATE], err));
    return linear_epilogue(p, l, LM_UP, s->up, p->xn, s->h[LM_UP], err);
}

static enum loam_status layer_forward(struct lm_pass *p, uint32_t l, float *x_out, struct err *err) {
    const struct lm_view *v = p->v;
    const struct lm_view_layer *w = &v->layer[l];
    const struct gpu_ops *ops = p->g->ops;
    const struct gpu_attn attn = attn_of(v, w);
    struct saved *s = &p->s[l];
    uint32_t T = p->tc, C = v->width, H = attn.h, G = attn.g, D = attn.d, hd = H * D, gd = G * D;
    float *q = w->q_norm ? s->qx : s->q, *k = w->k_norm ? s->kx : s->k; /* before their norms */
    TRY(ops->rmsnorm(p->g, p->xn, s->r1, s->x, w->attn_norm, T, C, v->eps, err));
    const struct gpu_out qkv[3] = {{q, hd, &w->w[LM_Q]}, {k, gd, &w->w[LM_K]}, {s->v, gd, &w->w[LM_V]}};
    TRY(ops->matmul(p->g, qkv, 3, p->xn, C, T, err));
    TRY(linear_epilogue(p, l, LM_Q, q, p->xn, s->h[LM_Q], err));
    TRY(linear_epilogue(p, l, LM_K, k, p->xn, s->h[LM_K], err));
    TRY(linear_epilogue(p, l, LM_V, s->v, p->xn, s->h[LM_V], err));
    if (w->q_norm)
        TRY(ops->rmsnorm(p->g, s->q, s->rq, q, w->q_norm, T * H, D, v->eps, err));
    if (w->k_norm)
        TRY(ops->rmsnorm(p->g, s->k, s->rk, k, w->k_norm, T * G, D, v->eps, err));
    TRY(ops->rope(p->g, s->q, hd, T, H, D, v->d_rot, w->cos_table, w->sin_table, p->pos, v->style, false, err));
    TRY(ops->rope(p->g, s->k, gd, T, G, D, v->d_rot, w->cos_table, w->sin_table, p->pos, v->style, false, err));
    spread(p, s->q, hd);
    spread(p, s->k, gd);
    spread(p, s->v, gd);
    TRY(ops->attn(p->g, s->o, s->m, s->l, s->q, s->k, s->v, &attn, p->seg, p->n, err));
    float *y = w->post_attn_norm ? s->ax : s->xm;
    const struct gpu_out o = {y, C, &w->w[LM_O]};
    const float *mixed = gather(p, p->tmp, s->o, hd);
    TRY(ops->matmul(p->g, &o, 1, mixed, hd, T, err));
    TRY(linear_epilogue(p, l, LM_O, y, mixed, s->h[LM_O], err));
    if (w->post_attn_norm)
        TRY(ops->rmsnorm(p->g, s->xm, s->r3, y, w->post_attn_norm, T, C, v->eps, err));
    TRY(ops->add(p->g, s->xm, s->x, s->xm, (size_t)T * C, err));

    TRY(ops->rmsnorm(p->g, p->xn, s->r2, s->xm, w->ffn_norm, T, C, v->eps, err));
    TRY(gate_up(p, l, err));
    TRY(ops->glu(p->g, p->act, s->gate, s->up, (size_t)T * v->ffn, v->act, err));
    y = w->post_ffn_norm ? s->fx : x_out;
    const struct gpu_out d = {y, C, &w->w[LM_DOWN]};
    TRY(ops->matmul(p->g, &d, 1, p->act, v->ffn, T, err));
    TRY(linear_epilogue(p, l, LM_DOWN, y, p->act, s->h[LM_DOWN], err));
    if (w->post_ffn_norm)
        TRY(ops->rmsnorm(p->g, x_out, s->r4, y, w->post_ffn_norm, T, C, v->eps, err));
    TRY(ops->add(p->g, x_out, s->xm, x_out, (size_t)T * C, err));
    spread(p, s->x, C);
    spread(p, s->r1, 1);
    spread(p, s->r2, 1);
    spread(p, s->xm, C);
    spread(p, s->gate, v->ffn);
    spread(p, s->up, v->ffn);
    spread(p, s->qx, hd);
    spread(p, s->rq, H);
    spread(p, s->kx, gd);
    spread(p, s->rk, G);
    spread(p, s->ax, C);
    spread(p, s->r3, 1);
    spread(p, s->fx, C);
    spread(p, s->r4, 1);
    for (uint32_t i = 0; i < LM_LINEARS; i++)
        if (tensor_of(p->a, l, i))
            spread(p, s->h[i], p->a->rank);
    return LOAM_OK;
}

static enum loam_status fill(struct lm_pass *p, const struct lm_example *const *ex, uint32_t n, struct err *err) {
    p->n = n;
    p->t = p->nsel = 0;
    p->seg[0] = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct lm_example *e = ex[i];
        if (e->n > p->v->positions)
            return err_set(err, LOAM_ELIMIT, "a row of %u tokens; the model has %u positions", e->n, p->v->positions);
        if (!e->n || e->n > p->cap - p->t || e->targets > p->cap_targets - p->nsel)
            return err_set(err, LOAM_ELIMIT, "a pass of more than %u tokens", p->cap);
        p->ex[i] = e;
        for (uint32_t t = 0; t < e->n; t++) {
            p->ids[p->t + t] = e->tokens[t];
            p->pos[p->t + t] = t;
            if (t && e->train[t]) {
                if (p->nsel == p->cap_targets)
                    return err_set(err, LOAM_ELIMIT, "a pass of more than %u trained tokens", p->cap_targets);
                p->sel[p->nsel] = p->t + t - 1;
                p->want[p->nsel++] = e->tokens[t];
            }
        }
        p->seg[i + 1] = p->t += e->n;
    }
    return LOAM_OK;
}

/* Tokens that every row begins with; each row keeps one of its own at least. Dropout differs from row to row. */
static uint32_t common_start(const struct lm_pass *p) {
    if (p->n < 2 || p->drop.p > 0)
        return 0;
    const struct lm_example *a = p->ex[0];
    uint32_t len = a->n - 1;
    for (uint32_t i = 1; i < p->n; i++) {
        const struct lm_example *b = p->ex[i];
        uint32_t k = 0;
        while (k < len && k < b->n - 1 && a->tokens[k] == b->tokens[k])
            k++;
        len = k;
    }
    return len;
}

/* ids and positions of the forward's layout. */
static void shorten(struct lm_pass *p) {
    p->shared = common_start(p);
    p->tc = p->t;
    if (!p->shared)
        return;
    uint32_t at = p->seg[1];
    for (uint32_t i = 1; i < p->n; i++) {
        uint32_t len = p->seg[i + 1] - p->seg[i] - p->shared;
        memmove(p->ids + at, p->ids + p->seg[i] + p->shared, len * sizeof *p->ids);
        memmove(p->pos + at, p->pos + p->seg[i] + p->shared, len * sizeof *p->pos);
        at += len;
    }
    p->tc = at;
}

/* Backward works on all tokens. */
static void lengthen(struct lm_pass *p) {
    p->shared = 0;
    p->tc = p->t;
    for (uint32_t i = 0; i < p->n; i++)
        for (uint32_t t = 0; t < p->ex[i]->n; t++)
            p->pos[p->seg[i] + t] = t;
}

/* Loss of the selected positions; with backward dx becomes the gradient of the last layer's output. */
static enum loam_status head(struct lm_pass *p, bool backward, struct err *err) {
    const struct lm_view *v = p->v;
    const struct gpu_ops *ops = p->g->ops;
    uint32_t C = v->width;
    const float *x = p->s[v->layers].x;
    for (uint32_t i = 0; i < p->nsel; i++)
        memcpy(p->xs + (size_t)i * C, x + (size_t)p->sel[i] * C, C * sizeof(float));
    TRY(ops->rmsnorm(p->g, p->xsn, p->rs, p->xs, v->final_norm, p->nsel, C, v->eps, err));
    for (uint32_t at = 0; at < p->nsel; at += p->chunk) {
        uint32_t rows = p->nsel - at < p->chunk ? p->nsel - at : p->chunk;
        const struct gpu_out o = {p->logits, v->vocab, v->head};
        TRY(ops->matmul(p->g, &o, 1, p->xsn + (size_t)at * C, C, rows, err));
        TRY(ops->xent(p->g, p->nll + at, p->logits, v->vocab, rows, v->vocab, p->want + at, backward, err));
        if (backward)
            TRY(ops->matmul_dx(p->g, p->dxs + (size_t)at * C, C, p->logits, v->vocab, rows, v->head, GPU_SET, err));
    }
    if (!backward)
        return LOAM_OK;
    TRY(ops->rmsnorm_dx(p->g, p->dxs, p->dxs, p->xs, p->rs, v->final_norm, p->nsel, C, false, err));
    memset(p->dx, 0, (size_t)p->t * C * sizeof(float));
    for (uint32_t i = 0; i < p->nsel; i++)
        memcpy(p->dx + (size_t)p->sel[i] * C, p->dxs + (size_t)i * C, C * sizeof(float));
    return LOAM_OK;
}

enum loam_status lm_pass_forward(struct lm_pass *p, const struct lm_example *const *ex, uint32_t n, bool backward,
                                 const struct lm_dropout *drop, double *nll, struct err *err) {
    const struct lm_view *v = p->v;
    LOAM_ASSERT(!backward || p->backward);
    p->drop = drop ? *drop : (struct lm_dropout){0};
    TRY(fill(p, ex, n, err));
    shorten(p);
    TRY(p->g->ops->embed(p->g, p->s[0].x, v->width, v->embed, p->ids, p->tc, err));
    if (v->embed_scale != 1.0f)
        TRY(p->g->ops->scale(p->g, p->s[0].x, p->s[0].x, v->embed_scale, (size_t)p->tc * v->width, err));
    for (uint32_t l = 0; l < v->layers; l++)
        TRY(layer_forward(p, l, p->s[l + 1].x, err));
    spread(p, p->s[v->layers].x, v->width);
    lengthen(p);
    TRY(head(p, backward, err));
    for (uint32_t i = 0, at = 0; i < n; i++) {
        double sum = 0;
        for (uint32_t t = 1; t < ex[i]->n; t++)
            if (ex[i]->train[t]) {
                float f = p->nll[at++];
                if (!isfinite(f))
                    return err_set(err, LOAM_ENONFINITE, "the loss of row %llu at token %u is not finite",
                                   (unsigned long long)ex[i]->id, t);
                sum += (double)f;
            }
        nll[i] = sum;
    }
    return LOAM_OK;
}

struct backward {
    float *grad;
    size_t stride; /* from a row's gradient to the next row's; 0: they add up */
    const struct lm_grad_sink *sink;
    size_t first;
};

/* Gradients of one tensor from dy [T][out] and x [T][in], and its part of dx (NULL: nothing below is adapted). */
static enum loam_status lora_backward(struct lm_pass *p, const struct backward *b, uint32_t l, uint32_t kind, const float *dy,
                                      const float *x, float *dx, struct err *err) {
    const struct lm_lora *t = tensor_of(p->a, l, kind);
    if (!t)
        return LOAM_OK;
    uint32_t R = p->a->rank;
    const float *h = p->s[l].h[kind];
    if (b->grad || dx)
        TRY(gemm(p, p->t, R, t->out, dy, t->out, 1, t->b, R, 1, p->dh, R, GPU_SET, p->a->scale, err));
    if (b->grad)
        TRY(dropped(p, &x, t, x, err));
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t at = p->seg[i], n = p->seg[i + 1] - at;
        const float *u = dy + (size_t)at * t->out, *hi = h + (size_t)at * R;
        if (b->grad) {
            float *grad = b->grad + i * b->stride;
            TRY(gemm(p, t->out, R, n, u, 1, t->out, hi, R, 1, grad + t->b_at, R, GPU_ADD, p->a->scale, err));
            TRY(gemm(p, R, t->in, n, p->dh + (size_t)at * R, 1, R, x + (size_t)at * t->in, t->in, 1, grad + t->a_at, t->in,
                     GPU_ADD, 1, err));
        }
        if (b->sink) {
            if (b->sink->full)
                TRY(gemm(p, t->out, R, n, u, 1, t->out, hi, R, 1, p->gb, R, GPU_SET, p->a->scale, err));
            const struct lm_grad_tensor g = {.row = b->first + i,
                                             .id = p->ex[i]->id,
                                             .tensor = (uint32_t)(t - p->a->t),
                                             .rank = R,
                                             .out = t->out,
                                             .tokens = n,
                                             .scale = p->a->scale,
                                             .u = u,
                                             .h = hi,
                                             .g = b->sink->full ? p->gb : NULL};
            TRY(b->sink->tensor(b->sink->ctx, &g, err));
        }
    }
    if (!dx)
        return LOAM_OK;
    if (p->drop.p <= 0)
        return gemm(p, p->t, t->in, R, p->dh, R, 1, t->a, t->in, 1, dx, t->in, GPU_CHAIN, 1, err);
    TRY(gemm(p, p->t, t->in, R, p->dh, R, 1, t->a, t->in, 1, p->tmp, t->in, GPU_SET, 1, err));
    const float *back;
    TRY(dropped(p, &back, t, p->tmp, err));
    return p->g->ops->add(p->g, dx, dx, back, (size_t)p->t * t->in, err);
}

static enum loam_status layer_backward(struct lm_pass *p, const struct backward *b, uint32_t l, bool lowest, struct err *err) {
    const struct lm_view *v = p->v;
    const struct lm_view_layer *w = &v->layer[l];
    const struct gpu_ops *ops = p->g->ops;
    const struct gpu_attn attn = attn_of(v, w);
    struct saved *s = &p->s[l];
    uint32_t T = p->t, C = v->width, F = v->ffn, H = attn.h, G = attn.g, D = attn.d, hd = H * D, gd = G * D;
    const float *dy = p->dx; /* of what the half adds to x */
    bool attn_adapted = tensor_of(p->a, l, LM_Q) || tensor_of(p->a, l, LM_K) || tensor_of(p->a, l, LM_V) || tensor_of(p->a, l, LM_O);
    bool below = !lowest || attn_adapted; /* does anything under the ffn of this layer want a gradient? */

    if (p->keep == LM_KEEP_MOST) {
        TRY(ops->rmsnorm(p->g, p->xn, s->r2, s->xm, w->ffn_norm, T, C, v->eps, err));
        TRY(gate_up(p, l, err));
    }
    TRY(ops->glu(p->g, p->act, s->gate, s->up, (size_t)T * F, v->act, err));
    if (w->post_ffn_norm) {
        TRY(ops->rmsnorm_dx(p->g, p->dy, p->dx, s->fx, s->r4, w->post_ffn_norm, T, C, false, err));
        dy = p->dy;
    }
    TRY(ops->matmul_dx(p->g, p->da, F, dy, C, T, &w->w[LM_DOWN], GPU_SET, err));
    TRY(lora_backward(p, b, l, LM_DOWN, dy, p->act, p->da, err));
    TRY(ops->glu_dx(p->g, s->gate, s->up, p->da, s->gate, s->up, (size_t)T * F, v->act, err));
    TRY(ops->rmsnorm(p->g, p->xn, s->r2, s->xm, w->ffn_norm, T, C, v->eps, err));
    if (below)
        TRY(ops->matmul_dx(p->g, p->dn, C, s->gate, F, T, &w->w[LM_GATE], GPU_SET, err));
    TRY(lora_backward(p, b, l, LM_GATE, s->gate, p->xn, below ? p->dn : NULL, err));
    if (below)
        TRY(ops->matmul_dx(p->g, p->dn, C, s->up, F, T, &w->w[LM_UP], GPU_CHAIN, err));
    TRY(lora_backward(p, b, l, LM_UP, s->up, p->xn, below ? p->dn : NULL, err));
    if (!below)
        return LOAM_OK;
    TRY(ops->rmsnorm_dx(p->g, p->dx, p->dn, s->xm, s->r2, w->ffn_norm, T, C, true, err));

    dy = p->dx;
    if (w->post_attn_norm) {
        TRY(ops->rmsnorm_dx(p->g, p->dy, p->dx, s->ax, s->r3, w->post_attn_norm, T, C, false, err));
        dy = p->dy;
    }
    TRY(ops->matmul_dx(p->g, p->d_o, hd, dy, C, T, &w->w[LM_O], GPU_SET, err));
    TRY(lora_backward(p, b, l, LM_O, dy, s->o, p->d_o, err));
    TRY(ops->attn_dx(p->g, p->dq, p->dk, p->dv, p->d_o, s->o, s->m, s->l, s->q, s->k, s->v, &attn, p->seg, p->n, err));
    TRY(ops->rope(p->g, p->dq, hd, T, H, D, v->d_rot, w->cos_table, w->sin_table, p->pos, v->style, true, err));
    TRY(ops->rope(p->g, p->dk, gd, T, G, D, v->d_rot, w->cos_table, w->sin_table, p->pos, v->style, true, err));
    if (w->q_norm)
        TRY(ops->rmsnorm_dx(p->g, p->dq, p->dq, s->qx, s->rq, w->q_norm, T * H, D, false, err));
    if (w->k_norm)
        TRY(ops->rmsnorm_dx(p->g, p->dk, p->dk, s->kx, s->rk, w->k_norm, T * G, D, false, err));
    TRY(ops->rmsnorm(p->g, p->xn, s->r1, s->x, w->attn_norm, T, C, v->eps, err));
    float *dn = lowest ? NULL : p->dn;
    const float *dqkv[3] = {p->dq, p->dk, p->dv};
    for (uint32_t k = LM_Q; k <= LM_V; k++) { /* one chain: q's outputs, q's adapter, k's, ... */
        if (dn)
            TRY(ops->matmul_dx(p->g, dn, C, dqkv[k], k == LM_Q ? hd : gd, T, &w->w[k], k == LM_Q ? GPU_SET : GPU_CHAIN, err));
        TRY(lora_backward(p, b, l, k, dqkv[k], p->xn, dn, err));
    }
    if (!dn)
        return LOAM_OK;
    return ops->rmsnorm_dx(p->g, p->dx, dn, s->x, s->r1, w->attn_norm, T, C, true, err);
}

static enum loam_status backward(struct lm_pass *p, const struct backward *b, struct err *err) {
    uint32_t lowest = p->a->t[0].layer; /* no gradient goes below the first adapter */
    for (uint32_t l = p->v->layers; l-- > lowest;) {
        if (p->keep == LM_KEEP_INPUTS) /* the next layer's input gets the same bits a second time */
            TRY(layer_forward(p, l, p->s[l + 1].x, err));
        TRY(layer_backward(p, b, l, l == lowest, err));
    }
    return LOAM_OK;
}

enum loam_status lm_pass_backward(struct lm_pass *p, float *grad, const struct lm_grad_sink *sink, size_t first, struct err *err) {
    return backward(p, &(struct backward){grad, 0, sink, first}, err);
}

enum loam_status lm_pass_backward_rows(struct lm_pass *p, float *grad, size_t stride, struct err *err) {
    return backward(p, &(struct backward){grad, stride, NULL, 0}, err);
}

enum loam_status lm_pass_logits(struct lm_pass *p, uint32_t row, uint32_t t, float *out, struct err *err) {
    const struct lm_view *v = p->v;
    LOAM_ASSERT(row < p->n && t < p->ex[row]->n);
    const float *x = p->s[v->layers].x + ((size_t)p->seg[row] + t) * v->width;
    TRY(p->g->ops->rmsnorm(p->g, p->xs, p->rs, x, v->final_norm, 1, v->width, v->eps, err));
    const struct gpu_out o = {out, v->vocab, v->head};
    return p->g->ops->matmul(p->g, &o, 1, p->xs, v->width, 1, err);
}
