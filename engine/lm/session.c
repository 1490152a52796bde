#include "lm/session.h"
#include "base/mem.h"
#include "lm/fast_session.h"

#include <string.h>

#include "base/banned.h"

#define CHUNK 512u      /* tokens that go through the layers together; longer steps take several rounds */
#define LOGIT_ROWS 32u  /* rows of logits computed together */
#define KV_DEFAULT ((uint64_t)1 << 30)

/* An adapter in the kernels' layout, shared by the sessions that use it. */
struct packed {
    const struct lm_adapter *adapter;
    unsigned refs;
    struct gpu_lora *lora; /* [L × LM_LINEARS]; r 0: not adapted */
    float *floats;
    struct packed *next;
    int32_t slot; /* its number in the running step, or -1; fast mode: on the device, for as long as it lives */
};

struct lm_engine {
    struct lm_model *model;
    const struct lm_weights *w;
    struct gpu *gpu;
    struct lm_fast *fast; /* the fast mode's model; then w and gpu are NULL, and pages are places on its device */
    struct lm_engine_opt opt;
    struct gpu_attn attn;
    struct packed *adapters;
    unsigned sessions;
    /* RoPE tables for positions below rope_n */
    double *freq, *freq_local; /* local: of sliding layers with a base of their own, or NULL */
    float *cos_table, *sin_table, *cos_local, *sin_local;
    uint32_t rope_n;
    /* pages: each holds all layers of GPU_KV_PAGE positions */
    uint64_t page_bytes, pages_n, pages_max;
    uint16_t **free_pages;
    uint64_t n_free, cap_free;
    /* work memory for cap_t tokens; see struct work */
    uint32_t cap_t;
    void *work;
    uint64_t work_bytes;
    float *x, *xn, *q, *k, *v, *o, *gate, *up, *tmp, *logits;
    struct gpu_q8 q8;
    uint32_t *ids, *pos;
    int32_t *map;      /* adapter's slot of each token, or -1 */
    int32_t *map_some; /* the same for one linear */
    struct gpu_lora *list; /* [LM_BATCH_MAX] */
    const atomic_int *cancel;
};

struct lm_session {
    struct lm_engine *e;
    struct packed *adapter;
    uint32_t context, length;
    struct lm_ids tokens; /* [length] */
    uint16_t **pages;
    uint32_t n_pages, cap_pages;
};

const char *lm_act_name(enum lm_act a) {
    return a == LM_ACT_Q8 ? "q8" : "f32";
}

static bool engine_yield(void *arg) {
    struct lm_engine *e = arg;
    return e->cancel && atomic_load_explicit(e->cancel, memory_order_relaxed);
}

enum loam_status lm_engine_new(struct lm_engine **out, struct lm_model *m, const struct lm_engine_opt *opt, struct err *err) {
    *out = NULL;
    if (opt->act == LM_ACT_Q8 && !m->quantised && !opt->fast)
        return err_set(err, LOAM_EUNSUPPORTED, "%s is not fully quantised: act=q8 is not possible, use act=f32", m->name);
    struct lm_engine *e = mem_zalloc(sizeof *e);
    if (!e)
        return err_set(err, LOAM_ENOMEM, "no memory for an engine");
    e->model = m;
    e->opt = *opt;
    const struct lm_config *c = &m->config;
    e->attn = (struct gpu_attn){.h = c->H, .g = c->G, .d = c->D, .scale = lm_attn_scale(c), .window = c->window};
    e->page_bytes = gpu_kv_page_elems(&e->attn) * sizeof(uint16_t) * c->L;
    e->pages_max = (opt->kv_bytes_max ? opt->kv_bytes_max : KV_DEFAULT) / e->page_bytes;
    if (e->pages_max == 0)
        e->pages_max = 1;
    if (opt->fast) {
        enum loam_status f = lm_fast_new(&e->fast, m, &(struct lm_fast_opt){opt->backend, opt->weights, CHUNK, e->pages_max}, err);
        if (f)
            lm_engine_free(e);
        else
            *out = e;
        return f;
    }
    enum loam_status s = lm_model_weights(&e->w, m, err);
    if (!s)
        s = gpu_open(&e->gpu, &(struct gpu_config){.backend = opt->backend, .threads = (int)opt->threads}, err);
    if (!s) {
        e->gpu->yield = engine_yield;
        e->gpu->yield_arg = e;
        e->freq = mem_array(c->D / 2, sizeof *e->freq);
        e->freq_local = c->rope_base_local != 0 ? mem_array(c->D / 2, sizeof *e->freq) : NULL;
        e->list = mem_zarray(LM_BATCH_MAX, sizeof *e->list);
        if (!e->freq || !e->list || (c->rope_base_local != 0 && !e->freq_local))
            s = err_set(err, LOAM_ENOMEM, "no memory for an engine");
        else
            lm_model_rope(e->freq, m, false);
        if (!s && e->freq_local)
            lm_model_rope(e->freq_local, m, true);
    }
    if (s) {
        lm_engine_free(e);
        return s;
    }
    *out = e;
    return LOAM_OK;
}

void lm_engine_free(struct lm_engine *e) {
    if (!e)
        return;
    LOAM_ASSERT(e->sessions == 0);
    for (uint64_t i = 0; !e->fast && i < e->n_free; i++)
        gpu_free(e->gpu, e->free_pages[i]);
    lm_fast_free(e->fast);
    mem_free(e->free_pages);
    if (e->gpu) {
        gpu_free(e->gpu, e->work);
        gpu_free(e->gpu, e->cos_table);
        gpu_free(e->gpu, e->sin_table);
        gpu_free(e->gpu, e->cos_local);
        gpu_free(e->gpu, e->sin_local);
    }
    gpu_close(e->gpu);
    mem_free(e->freq);
    mem_free(e->freq_local);
    mem_free(e->list);
    mem_free(e);
}

bool lm_engine_lost(const struct lm_engine *e) {
    return e->fast ? lm_fast_lost(e->fast) : e->gpu->lost;
}

struct lm_model *lm_engine_model(const struct lm_engine *e) {
    return e->model;
}

enum lm_act lm_engine_act(const struct lm_engine *e) {
    return e->opt.act;
}

void lm_engine_memory(struct lm_engine_memory *out, const struct lm_engine *e) {
    if (e->fast) {
        *out = (struct lm_engine_memory){.kv = e->pages_n * e->page_bytes, .kv_max = e->pages_max * e->page_bytes};
        lm_fast_memory(e->fast, &out->weights, &out->work);
        return;
    }
    *out = (struct lm_engine_memory){.weights = e->w->bytes,
                                     .work = e->work_bytes + (uint64_t)e->rope_n * e->model->config.D * sizeof(float),
                                     .kv = e->pages_n * e->page_bytes,
                                     .kv_max = e->pages_max * e->page_bytes};
}

#define TRY(call)                                                                                                   \
    do {                                                                                                            \
        enum loam_status try_ = (call);                                                                             \
        if (try_)                                                                                                   \
            return try_;                                                                                            \
    } while (0)

/* ---- memory that grows ---- */

static enum loam_status table(struct lm_engine *e, float **cos_table, float **sin_table, uint32_t cap, const double *freq, struct err *err) {
    uint32_t D = e->model->config.D;
    size_t bytes = (size_t)cap * (D / 2) * sizeof(float);
    float *cs = gpu_alloc(e->gpu, bytes), *sn = gpu_alloc(e->gpu, bytes);
    if (!cs || !sn) {
        gpu_free(e->gpu, cs);
        gpu_free(e->gpu, sn);
        return err_set(err, LOAM_ENOMEM, "no memory for the RoPE table of %u positions", cap);
    }
    gpu_rope_table(cs, sn, cap, D, freq);
    gpu_free(e->gpu, *cos_table);
    gpu_free(e->gpu, *sin_table);
    *cos_table = cs;
    *sin_table = sn;
    return LOAM_OK;
}

static enum loam_status rope_up_to(struct lm_engine *e, uint32_t n, struct err *err) {
    if (n <= e->rope_n)
        return LOAM_OK;
    uint32_t cap = e->rope_n ? e->rope_n : 512;
    while (cap < n)
        cap *= 2;
    TRY(table(e, &e->cos_table, &e->sin_table, cap, e->freq, err));
    if (e->freq_local)
        TRY(table(e, &e->cos_local, &e->sin_local, cap, e->freq_local, err));
    e->rope_n = cap;
    return LOAM_OK;
}

/* All work arrays for t tokens, cut out of one block. */
static enum loam_status work_for(struct lm_engine *e, uint32_t t, struct err *err) {
    if (t <= e->cap_t)
        return LOAM_OK;
    const struct lm_config *c = &e->model->config;
    uint64_t cap = e->cap_t ? e->cap_t : 8;
    while (cap < t)
        cap *= 2;
    uint64_t qd = (uint64_t)c->H * c->D, kd = (uint64_t)c->G * c->D, wide = c->C;
    wide = wide < qd ? qd : wide;
    wide = wide < c->F ? c->F : wide;
    uint32_t rows = cap < LOGIT_ROWS ? (uint32_t)cap : LOGIT_ROWS;
    struct {
        void **p;
        uint64_t bytes;
    } parts[] = {
        {(void **)&e->x, cap * c->C * 4},      {(void **)&e->xn, cap * c->C * 4},    {(void **)&e->tmp, cap * c->C * 4},
        {(void **)&e->q, cap * qd * 4},        {(void **)&e->o, cap * qd * 4},       {(void **)&e->k, cap * kd * 4},
        {(void **)&e->v, cap * kd * 4},        {(void **)&e->gate, cap * c->F * 4},  {(void **)&e->up, cap * c->F * 4},
        {(void **)&e->q8.q, cap * wide},       {(void **)&e->q8.d, cap * wide / 8},  {(void **)&e->q8.s, cap * wide / 8},
        {(void **)&e->ids, cap * 4},           {(void **)&e->pos, cap * 4},          {(void **)&e->map, cap * 4},
        {(void **)&e->map_some, cap * 4},
        {(void **)&e->logits, (uint64_t)rows * c->V * 4},
    };
    uint64_t total = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        total += (parts[i].bytes + 63) / 64 * 64;
    unsigned char *block = gpu_alloc(e->gpu, total);
    if (!block)
        return err_set(err, LOAM_ENOMEM, "no memory (%llu MB) to work on %llu tokens at once", (unsigned long long)(total >> 20),
                       (unsigned long long)cap);
    gpu_free(e->gpu, e->work);
    e->work = block;
    e->work_bytes = total;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].p = block;
        block += (parts[i].bytes + 63) / 64 * 64;
    }
    e->cap_t = (uint32_t)cap;
    return LOAM_OK;
}

static enum loam_status page_get(struct lm_engine *e, uint16_t **out, struct err *err) {
    if (e->n_free) {
        *out = e->free_pages[--e->n_free];
        return LOAM_OK;
    }
    if (e->pages_n >= e->pages_max)
        return err_set(err, LOAM_ELIMIT, "the cache's budget of %llu MB is full", (unsigned long long)(e->pages_max * e->page_bytes >> 20));
    /* Room to take it back is made now, so that giving back cannot fail. */
    if (e->pages_n >= e->cap_free) {
        uint64_t cap = e->cap_free ? 2 * e->cap_free : 64;
        void *p = mem_resize(e->free_pages, cap, sizeof *e->free_pages);
        if (!p)
            return err_set(err, LOAM_ENOMEM, "no memory for the cache's page table");
        e->free_pages = p;
        e->cap_free = cap;
    }
    *out = e->fast ? lm_fast_page(e->fast, e->pages_n) : gpu_alloc(e->gpu, e->page_bytes);
    if (!*out)
        return err_set(err, LOAM_ENOMEM, "no memory for a cache page of %llu kB", (unsigned long long)(e->page_bytes >> 10));
    e->pages_n++;
    return LOAM_OK;
}

static void pages_keep(struct lm_session *s, uint32_t n) {
    while (s->n_pages > n)
        s->e->free_pages[s->e->n_free++] = s->pages[--s->n_pages];
}

static enum loam_status pages_for(struct lm_session *s, uint32_t positions, struct err *err) {
    uint32_t want = (positions + GPU_KV_PAGE - 1) / GPU_KV_PAGE;
    if (want > s->cap_pages) {
        uint32_t cap = s->cap_pages ? s->cap_pages : 8;
        while (cap < want)
            cap *= 2;
        void *p = mem_resize(s->pages, cap, sizeof *s->pages);
        if (!p)
            return err_set(err, LOAM_ENOMEM, "no memory for a page table");
        s->pages = p;
        s->cap_pages = cap;
    }
    while (s->n_pages < want) {
        enum loam_status st = page_get(s->e, &s->pages[s->n_pages], err);
        if (st)
            return st;
        s->n_pages++;
    }
    return LOAM_OK;
}

/* ---- adapters ---- */

static struct packed *adapter_add(struct lm_engine *e, struct packed *p, const struct lm_adapter *a) {
    p->adapter = a;
    p->refs = 1;
    p->next = e->adapters;
    e->adapters = p;
    return p;
}

static enum loam_status adapter_get(struct lm_engine *e, struct packed **out, const struct lm_adapter *a, struct err *err) {
    for (struct packed *p = e->adapters; p; p = p->next)
        if (p->adapter == a) {
            p->refs++;
            *out = p;
            return LOAM_OK;
        }
    struct lm_shape shape;
    lm_model_shape(&shape, e->model);
    enum loam_status s = lm_adapter_fits(a, &shape, err);
    if (s)
        return s;
    if (e->fast) {
        struct packed *p = mem_zalloc(sizeof *p);
        if (!p)
            return err_set(err, LOAM_ENOMEM, "no memory for an adapter");
        s = lm_fast_adapter_new(&p->slot, e->fast, a, err);
        if (s)
            mem_free(p);
        else
            *out = adapter_add(e, p, a);
        return s;
    }
    size_t floats = 0;
    for (uint32_t i = 0; i < a->count; i++)
        floats += (a->t[i].in * gpu_lora_pad(a->rank) + a->rank * gpu_lora_pad(a->t[i].out) + 15) / 16 * 16;
    struct packed *p = mem_zalloc(sizeof *p);
    if (p) {
        p->lora = mem_zarray((size_t)e->model->config.L * LM_LINEARS, sizeof *p->lora);
        p->floats = mem_aligned(64, floats * sizeof(float));
    }
    if (!p || !p->lora || !p->floats) {
        if (p) {
            mem_free(p->lora);
            mem_free(p->floats);
        }
        mem_free(p);
        return err_set(err, LOAM_ENOMEM, "no memory for an adapter");
    }
    float *f = p->floats;
    for (uint32_t i = 0; i < a->count; i++) {
        const struct lm_lora *t = &a->t[i];
        float *at = f, *bt = at + t->in * gpu_lora_pad(a->rank);
        gpu_lora_pack(at, bt, t->a, t->b, a->rank, t->out, t->in);
        p->lora[(size_t)t->layer * LM_LINEARS + t->kind] =
            (struct gpu_lora){.r = a->rank, .n = t->out, .k = t->in, .scale = a->scale, .at = at, .bt = bt};
        f += (t->in * gpu_lora_pad(a->rank) + a->rank * gpu_lora_pad(t->out) + 15) / 16 * 16;
    }
    p->slot = -1;
    *out = adapter_add(e, p, a);
    return LOAM_OK;
}

static void adapter_put(struct lm_engine *e, struct packed *p) {
    if (!p || --p->refs)
        return;
    struct packed **at = &e->adapters;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    if (e->fast)
        lm_fast_adapter_free(e->fast, p->slot);
    mem_free(p->lora);
    mem_free(p->floats);
    mem_free(p);
}

/* ---- sessions ---- */

enum loam_status lm_session_new(struct lm_session **out, struct lm_engine *e, const struct lm_adapter *adapter, uint32_t context,
                                struct err *err) {
    *out = NULL;
    uint32_t most = e->model->config.context;
    if (context > most)
        return err_set(err, LOAM_ERANGE, "a context of %u tokens; the model has %u", context, most);
    struct lm_session *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(err, LOAM_ENOMEM, "no memory for a session");
    s->e = e;
    s->context = context ? context : most;
    if (adapter) {
        enum loam_status st = adapter_get(e, &s->adapter, adapter, err);
        if (st) {
            mem_free(s);
            return st;
        }
    }
    e->sessions++;
    *out = s;
    return LOAM_OK;
}

void lm_session_free(struct lm_session *s) {
    if (!s)
        return;
    pages_keep(s, 0);
    adapter_put(s->e, s->adapter);
    s->e->sessions--;
    mem_free(s->pages);
    lm_ids_clear(&s->tokens);
    mem_free(s);
}

uint32_t lm_session_length(const struct lm_session *s) {
    return s->length;
}

uint32_t lm_session_context(const struct lm_session *s) {
    return s->context;
}

const uint32_t *lm_session_tokens(const struct lm_session *s) {
    return s->tokens.ids;
}

void lm_session_truncate(struct lm_session *s, uint32_t n) {
    if (n >= s->length)
        return;
    s->length = s->tokens.n = n;
    pages_keep(s, (n + GPU_KV_PAGE - 1) / GPU_KV_PAGE);
}

enum loam_status lm_session_copy(struct lm_session *s, const struct lm_session *from, uint32_t n, struct err *err) {
    LOAM_ASSERT(s->e == from->e && s->adapter == from->adapter && n <= from->length && s != from);
    lm_session_truncate(s, 0);
    if (n > s->context)
        return err_set(err, LOAM_ELIMIT, "%u tokens do not fit a context of %u", n, s->context);
    enum loam_status st = pages_for(s, n, err);
    if (!st)
        st = lm_ids_append(&s->tokens, from->tokens.ids, n, err);
    if (st) {
        pages_keep(s, 0);
        return st;
    }
    for (uint32_t i = 0; i < s->n_pages && !st; i++)
        if (s->e->fast)
            st = lm_fast_page_copy(s->e->fast, s->pages[i], from->pages[i], err);
        else
            memcpy(s->pages[i], from->pages[i], s->e->page_bytes);
    if (st) {
        lm_ids_clear(&s->tokens);
        pages_keep(s, 0);
        return st;
    }
    s->length = n;
    return LOAM_OK;
}

const struct lm_adapter *lm_session_adapter(const struct lm_session *s) {
    return s->adapter ? s->adapter->adapter : NULL;
}

uint64_t lm_session_pages_for(const struct lm_session *s, uint32_t n) {
    uint64_t want = ((uint64_t)s->length + n + GPU_KV_PAGE - 1) / GPU_KV_PAGE;
    return want > s->n_pages ? want - s->n_pages : 0;
}

uint64_t lm_engine_pages_left(const struct lm_engine *e) {
    return e->pages_max - e->pages_n + e->n_free;
}

/* ---- one round through the layers ---- */

/* The tokens of a round, in order: pieces of items. */
struct round {
    struct gpu_kv_item kv[LM_BATCH_MAX];
    const struct lm_item *item[LM_BATCH_MAX];
    uint32_t from[LM_BATCH_MAX]; /* first token of the item that is in this round */
    uint32_t n, t;
    struct packed *adapters[LM_BATCH_MAX]; /* the different ones */
    int n_adapters;
};

/* Several weights on one input: products, then adapters on the unquantised input, then biases. */
static enum loam_status linears(struct lm_engine *e, const struct round *r, uint32_t layer, enum lm_linear first, int n, float *const *y,
                                const float *x, struct err *err) {
    const struct lm_layer_weights *lw = &e->w->layers[layer];
    const struct gpu_ops *ops = e->gpu->ops;
    struct gpu_out outs[3];
    uint32_t K = lw->w[first].k;
    for (int i = 0; i < n; i++)
        outs[i] = (struct gpu_out){y[i], lw->w[(int)first + i].n, &lw->w[(int)first + i]};
    if (e->opt.act == LM_ACT_Q8) {
        e->q8.t = r->t;
        e->q8.k = K;
        TRY(ops->quant(e->gpu, &e->q8, x, K, err));
        TRY(ops->matmul_q8(e->gpu, outs, n, &e->q8, err));
    } else {
        TRY(ops->matmul(e->gpu, outs, n, x, K, r->t, err));
    }
    for (int i = 0; i < n; i++) {
        int w = (int)first + i;
        int32_t slot[LM_BATCH_MAX];
        int n_list = 0;
        for (int a = 0; a < r->n_adapters; a++) {
            const struct gpu_lora *lora = &r->adapters[a]->lora[(size_t)layer * LM_LINEARS + (size_t)w];
            slot[a] = lora->r ? n_list : -1;
            if (lora->r)
                e->list[n_list++] = *lora;
        }
        const int32_t *map = e->map;
        if (n_list && n_list < r->n_adapters) { /* some adapters leave this linear alone */
            for (uint32_t t = 0; t < r->t; t++)
                e->map_some[t] = e->map[t] < 0 ? -1 : slot[e->map[t]];
            map = e->map_some;
        }
        if (n_list)
            TRY(ops->lora(e->gpu, y[i], lw->w[w].n, x, K, r->t, e->list, n_list, map, err));
        if (lw->bias[w])
            TRY(ops->add_row(e->gpu, y[i], lw->w[w].n, lw->bias[w], r->t, lw->w[w].n, err));
    }
    return LOAM_OK;
}

static enum loam_status layer_forward(struct lm_engine *e, struct round *r, uint32_t l, struct err *err) {
    const struct lm_config *c = &e->model->config;
    const struct lm_layer_weights *lw = &e->w->layers[l];
    struct gpu *g = e->gpu;
    const struct gpu_ops *ops = g->ops;
    const uint32_t T = r->t, qd = c->H * c->D, kd = c->G * c->D;
    const bool sliding = c->window && !(c->window_pattern && (l + 1) % c->window_pattern == 0);
    const float *cs = sliding && e->cos_local ? e->cos_local : e->cos_table, *sn = sliding && e->sin_local ? e->sin_local : e->sin_table;
    struct gpu_attn attn = e->attn;
    attn.window = sliding ? c->window : 0;
    TRY(ops->rmsnorm(g, e->xn, NULL, e->x, lw->attn_norm, T, c->C, c->norm_eps, err));
    TRY(linears(e, r, l, LM_Q, 3, (float *[]){e->q, e->k, e->v}, e->xn, err));
    if (lw->q_norm)
        TRY(ops->rmsnorm(g, e->q, NULL, e->q, lw->q_norm, T * c->H, c->D, c->norm_eps, err));
    if (lw->k_norm)
        TRY(ops->rmsnorm(g, e->k, NULL, e->k, lw->k_norm, T * c->G, c->D, c->norm_eps, err));
    TRY(ops->rope(g, e->q, qd, T, c->H, c->D, c->D, cs, sn, e->pos, c->rope, false, err));
    TRY(ops->rope(g, e->k, kd, T, c->G, c->D, c->D, cs, sn, e->pos, c->rope, false, err));
    for (uint32_t i = 0; i < r->n; i++)
        r->kv[i].off = gpu_kv_page_elems(&e->attn) * l;
    TRY(ops->kv_store(g, e->k, e->v, kd, &attn, r->kv, r->n, err));
    TRY(ops->attn_kv(g, e->o, qd, e->q, qd, &attn, r->kv, r->n, err));
    TRY(linears(e, r, l, LM_O, 1, (float *[]){e->tmp}, e->o, err));
    if (lw->post_attn_norm)
        TRY(ops->rmsnorm(g, e->tmp, NULL, e->tmp, lw->post_attn_norm, T, c->C, c->norm_eps, err));
    TRY(ops->add(g, e->x, e->x, e->tmp, (size_t)T * c->C, err));
    TRY(ops->rmsnorm(g, e->xn, NULL, e->x, lw->ffn_norm, T, c->C, c->norm_eps, err));
    TRY(linears(e, r, l, LM_GATE, 2, (float *[]){e->gate, e->up}, e->xn, err));
    TRY(ops->glu(g, e->gate, e->gate, e->up, (size_t)T * c->F, c->gelu ? GPU_GELU_TANH : GPU_SILU, err));
    TRY(linears(e, r, l, LM_DOWN, 1, (float *[]){e->tmp}, e->gate, err));
    if (lw->post_ffn_norm)
        TRY(ops->rmsnorm(g, e->tmp, NULL, e->tmp, lw->post_ffn_norm, T, c->C, c->norm_eps, err));
    return ops->add(g, e->x, e->x, e->tmp, (size_t)T * c->C, err);
}

/* Logits of n rows whose normed states stand in xn; copied to where they are wanted. */
static enum loam_status head_rows(struct lm_engine *e, uint32_t n, float *const *to, struct err *err) {
    const struct lm_config *c = &e->model->config;
    struct gpu *g = e->gpu;
    struct gpu_out out = {e->logits, c->V, &e->w->head};
    TRY(g->ops->rmsnorm(g, e->xn, NULL, e->xn, e->w->out_norm, n, c->C, c->norm_eps, err));
    if (e->opt.act == LM_ACT_Q8) {
        e->q8.t = n;
        e->q8.k = c->C;
        TRY(g->ops->quant(g, &e->q8, e->xn, c->C, err));
        TRY(g->ops->matmul_q8(g, &out, 1, &e->q8, err));
    } else {
        TRY(g->ops->matmul(g, &out, 1, e->xn, c->C, n, err));
    }
    TRY(g->ops->finite(g, e->logits, (size_t)n * c->V, "logits", err));
    for (uint32_t i = 0; i < n; i++)
        memcpy(to[i], e->logits + (size_t)i * c->V, (size_t)c->V * sizeof(float));
    return LOAM_OK;
}

static enum loam_status round_fast(struct lm_engine *e, const struct round *r, struct err *err) {
    int32_t slot[LM_BATCH_MAX];
    for (uint32_t i = 0; i < r->n; i++)
        slot[i] = r->item[i]->session->adapter ? r->item[i]->session->adapter->slot : -1;
    return lm_fast_step(e->fast, &(struct lm_fast_round){r->kv, r->item, r->from, slot, r->n, r->t, e->cancel, e->opt.yield, e->opt.yield_ctx}, err);
}

static enum loam_status round_forward(struct lm_engine *e, struct round *r, struct err *err) {
    const struct lm_config *c = &e->model->config;
    struct gpu *g = e->gpu;
    uint32_t t = 0;
    r->n_adapters = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        struct packed *a = r->item[i]->session->adapter;
        if (a && a->slot < 0) {
            a->slot = r->n_adapters;
            r->adapters[r->n_adapters++] = a;
        }
        for (uint32_t j = 0; j < r->kv[i].t; j++, t++) {
            e->ids[t] = r->item[i]->tokens[r->from[i] + j];
            e->pos[t] = r->kv[i].pos + j;
            e->map[t] = a ? a->slot : -1;
        }
    }
    for (int a = 0; a < r->n_adapters; a++)
        r->adapters[a]->slot = -1;
    TRY(g->ops->embed(g, e->x, c->C, &e->w->embed, e->ids, r->t, err));
    if (c->embed_scale != 1.0f)
        TRY(g->ops->scale(g, e->x, e->x, c->embed_scale, (size_t)r->t * c->C, err));
    for (uint32_t l = 0; l < c->L; l++) {
        if (e->opt.yield)
            e->opt.yield(e->opt.yield_ctx);
        TRY(layer_forward(e, r, l, err));
    }
    float *to[LOGIT_ROWS];
    uint32_t rows = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        const struct lm_item *it = r->item[i];
        for (uint32_t j = 0; it->logits && j < r->kv[i].t; j++) {
            uint32_t at = r->from[i] + j;
            if (!it->all && at + 1 != it->n)
                continue;
            memcpy(e->xn + (size_t)rows * c->C, e->x + (size_t)(r->kv[i].row + j) * c->C, (size_t)c->C * sizeof(float));
            to[rows++] = it->all ? it->logits + (size_t)at * c->V : it->logits;
            if (rows == LOGIT_ROWS) {
                TRY(head_rows(e, rows, to, err));
                rows = 0;
            }
        }
    }
    return rows ? head_rows(e, rows, to, err) : LOAM_OK;
}

static enum loam_status check(struct lm_engine *e, const struct lm_item *items, size_t n, uint64_t *total, struct err *err) {
    if (n == 0 || n > LM_BATCH_MAX)
        return err_set(err, LOAM_EINVAL, "a step of %zu sequences (1 to %d)", n, LM_BATCH_MAX);
    *total = 0;
    uint32_t V = e->model->config.V;
    for (size_t i = 0; i < n; i++) {
        const struct lm_session *s = items[i].session;
        LOAM_ASSERT(s->e == e);
        for (size_t j = 0; j < i; j++)
            if (items[j].session == s)
                return err_set(err, LOAM_EINVAL, "one session twice in a step");
        if (items[i].n == 0)
            return err_set(err, LOAM_EINVAL, "sequence %zu of a step has no tokens", i);
        if (items[i].n > s->context - s->length)
            return err_set(err, LOAM_ELIMIT, "sequence %zu: %u tokens after %u do not fit the context of %u", i, items[i].n, s->length,
                           s->context);
        for (uint32_t j = 0; j < items[i].n; j++)
            if (items[i].tokens[j] >= V)
                return err_set(err, LOAM_ERANGE, "token %u is past the vocabulary of %u", items[i].tokens[j], V);
        *total += items[i].n;
    }
    return *total > LM_STEP_TOKENS_MAX ? err_set(err, LOAM_ELIMIT, "a step of more than %u tokens", LM_STEP_TOKENS_MAX) : LOAM_OK;
}

enum loam_status lm_step(struct lm_engine *e, const struct lm_item *items, size_t n, const atomic_int *cancel, struct err *err) {
    uint64_t total = 0;
    enum loam_status s = check(e, items, n, &total, err);
    if (s)
        return s;
    s = e->fast ? LOAM_OK : work_for(e, total < CHUNK ? (uint32_t)total : CHUNK, err);
    for (size_t i = 0; i < n && !s; i++) {
        struct lm_session *ss = items[i].session;
        uint32_t end = ss->length + items[i].n;
        s = pages_for(ss, end, err);
        if (!s && !e->fast)
            s = rope_up_to(e, end, err);
        if (!s) { /* room for the tokens now: nothing may fail after the work is done */
            s = lm_ids_append(&ss->tokens, items[i].tokens, items[i].n, err);
            ss->tokens.n = ss->length;
        }
    }
    e->cancel = cancel;
    struct round r;
    size_t at = 0;
    uint32_t from = 0;
    while (!s && at < n) {
        r.n = r.t = 0;
        while (at < n && r.t < CHUNK) {
            const struct lm_item *it = &items[at];
            uint32_t take = it->n - from < CHUNK - r.t ? it->n - from : CHUNK - r.t;
            r.item[r.n] = it;
            r.from[r.n] = from;
            r.kv[r.n++] = (struct gpu_kv_item){.pages = it->session->pages, .row = r.t, .pos = it->session->length + from, .t = take};
            r.t += take;
            from += take;
            if (from == it->n) {
                at++;
                from = 0;
            }
        }
        s = e->fast ? round_fast(e, &r, err) : round_forward(e, &r, err);
    }
    e->cancel = NULL;
    for (size_t i = 0; i < n; i++) {
        struct lm_session *ss = items[i].session;
        if (!s)
            ss->length = ss->tokens.n = ss->length + items[i].n;
        else
            pages_keep(ss, (ss->length + GPU_KV_PAGE - 1) / GPU_KV_PAGE);
    }
    if (s == LOAM_ECANCEL)
        return err_set(err, LOAM_ECANCEL, "cancelled between two layers");
    return s;
}
