#include "flow/models.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/option.h"
#include "base/text.h"
#include "flow/ask.h"
#include "flow/board.h"
#include "flow/device.h"
#include "flow/flow.h"
#include "gpu/arith.h"
#include "lm/export.h"
#include "lm/gguf.h"
#include "lm/image.h"
#include "lm/quantize.h"
#include "lm/template.h"
#include "node/job.h"
#include "node/node.h"
#include "node/sched.h"
#include "node/topic.h"
#include "store/store.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/banned.h"

/* One request of flow_batch. */
struct pending {
    struct pending *next;
    struct lm_request *r;
    atomic_int cancel;
    bool settled, lost; /* lost: by the device's fault, not its own */
};

#define SERVINGS 3
#define SERVING_FAST 2 /* after those of enum lm_act */

/* The batch of one base and act, or of the fast mode. Whoever leads computes; the others wait. */
struct serving {
    uv_mutex_t lock; /* guards all but engine and batch, which are the leader's */
    uv_cond_t cond;
    bool led;
    struct pending *incoming, *running;
    struct lm_engine *engine; /* NULL until first used */
    struct lm_batch *batch;
};

struct flow_base {
    struct flow_base *next;
    char *path;
    struct lm_model *m;
    unsigned refs;
    uint64_t used_us;
    struct flow_engine *idle;
    unsigned n_idle;
    struct serving serving[SERVINGS];
    atomic_bool on_cpu; /* its device failed while answering, and the CPU may go on */
};

struct flow_adapter {
    struct flow_adapter *next;
    struct lm_adapter *a;
    uint8_t hash[32];
    unsigned refs; /* models in use and sessions of idle engines */
    uint64_t used_us;
};

struct flow_models {
    struct node *n;
    uv_mutex_t lock; /* guards everything below; held while a file is opened, so that two never open the same one twice */
    struct flow_base *bases;
    struct flow_adapter *adapters;
};

/* ---- opening and letting go (under the lock) ---- */

static struct flow_adapter *adapter_of(struct flow_models *s, const struct lm_adapter *a) {
    struct flow_adapter *x = s->adapters;
    while (x && x->a != a)
        x = x->next;
    return x;
}

static void engine_free(struct flow_models *s, struct flow_engine *e) {
    struct flow_adapter *a = e->adapter ? adapter_of(s, e->adapter) : NULL;
    lm_session_free(e->session);
    lm_engine_free(e->engine);
    if (a)
        a->refs--;
    mem_free(e);
}

static void base_free(struct flow_models *s, struct flow_base *b) {
    while (b->idle) {
        struct flow_engine *e = b->idle;
        b->idle = e->next;
        engine_free(s, e);
    }
    for (int i = 0; i < SERVINGS; i++) {
        lm_batch_free(b->serving[i].batch);
        lm_engine_free(b->serving[i].engine);
        uv_cond_destroy(&b->serving[i].cond);
        uv_mutex_destroy(&b->serving[i].lock);
    }
    lm_model_free(b->m);
    mem_free(b->path);
    mem_free(b);
}

/* Takes an adapter out of every batch's prefix cache; false where a batch is running just now. */
static bool forget_adapter(struct flow_models *s, const struct lm_adapter *a) {
    bool all = true;
    for (struct flow_base *b = s->bases; b; b = b->next)
        for (int i = 0; i < SERVINGS; i++) {
            struct serving *v = &b->serving[i];
            uv_mutex_lock(&v->lock);
            if (v->led)
                all = false;
            else if (v->batch)
                lm_batch_forget(v->batch, a, false);
            uv_mutex_unlock(&v->lock);
        }
    return all;
}

/* Closes what nobody uses until fewer than the limits are open. */
static void trim(struct flow_models *s) {
    for (;;) {
        unsigned open = 0;
        struct flow_base **oldest = NULL;
        for (struct flow_base **p = &s->bases; *p; p = &(*p)->next) {
            open++;
            if (!(*p)->refs && (!oldest || (*p)->used_us < (*oldest)->used_us))
                oldest = p;
        }
        if (open < FLOW_MODELS_OPEN_MAX || !oldest)
            break;
        struct flow_base *b = *oldest;
        *oldest = b->next;
        base_free(s, b);
    }
    for (;;) {
        unsigned open = 0;
        struct flow_adapter **oldest = NULL;
        for (struct flow_adapter **p = &s->adapters; *p; p = &(*p)->next) {
            open++;
            if (!(*p)->refs && (!oldest || (*p)->used_us < (*oldest)->used_us))
                oldest = p;
        }
        if (open < FLOW_ADAPTERS_OPEN_MAX || !oldest || !forget_adapter(s, (*oldest)->a))
            break;
        struct flow_adapter *a = *oldest;
        *oldest = a->next;
        lm_adapter_free(a->a);
        mem_free(a);
    }
}

static enum loam_status base_get(struct flow_models *s, struct flow_base **out, const char *path, struct err *err) {
    for (struct flow_base *b = s->bases; b; b = b->next)
        if (!strcmp(b->path, path)) {
            b->refs++;
            b->used_us = clock_mono_us();
            *out = b;
            return LOAM_OK;
        }
    trim(s);
    struct flow_base *b = mem_zalloc(sizeof *b);
    if (b)
        b->path = mem_strdup(path);
    if (!b || !b->path) {
        mem_free(b);
        return err_set(err, LOAM_ENOMEM, "no memory for a model");
    }
    char *images = option_bool(s->n->opt, "model.images") ? node_path(s->n, "images") : NULL;
    enum loam_status st = lm_model_open_images(&b->m, path, images, err);
    mem_free(images);
    if (st) {
        mem_free(b->path);
        mem_free(b);
        return st;
    }
    for (int i = 0; i < SERVINGS; i++) {
        uv_mutex_init(&b->serving[i].lock);
        uv_cond_init(&b->serving[i].cond);
    }
    b->refs = 1;
    b->used_us = clock_mono_us();
    b->next = s->bases;
    s->bases = b;
    *out = b;
    log_info("flow", "model %s opened: %llu million weights", b->m->name, (unsigned long long)(b->m->params / 1000000));
    return LOAM_OK;
}

static enum loam_status adapter_get(struct flow_models *s, struct flow_adapter **out, const char *path, const uint8_t hash[32],
                                    struct err *err) {
    for (struct flow_adapter *a = s->adapters; a; a = a->next)
        if (!memcmp(a->hash, hash, 32)) {
            a->refs++;
            a->used_us = clock_mono_us();
            *out = a;
            return LOAM_OK;
        }
    trim(s);
    struct flow_adapter *a = mem_zalloc(sizeof *a);
    if (!a)
        return err_set(err, LOAM_ENOMEM, "no memory for an adapter");
    enum loam_status st = lm_adapter_load(&a->a, path, err);
    if (!st) {
        lm_adapter_hash(a->hash, a->a);
        if (memcmp(a->hash, hash, 32)) {
            lm_adapter_free(a->a);
            st = err_set(err, LOAM_EHASH, "adapter %s is not the one its record names", path);
        }
    }
    if (st) {
        mem_free(a);
        return st;
    }
    a->refs = 1;
    a->used_us = clock_mono_us();
    a->next = s->adapters;
    s->adapters = a;
    *out = a;
    return LOAM_OK;
}

/* ---- names ---- */

static bool plain_name(const char *name, size_t n) {
    if (!n || n >= FLOW_MODEL_NAME_MAX || name[0] == '.')
        return false;
    for (size_t i = 0; i < n; i++)
        if (name[i] == '/' || name[i] == '+' || (unsigned char)name[i] < 0x21 || (unsigned char)name[i] == 0x7f)
            return false;
    return true;
}

/* DATA/models/NAME.gguf, or the folder DATA/models/NAME where that holds a model and the file is not there; a fresh string. */
static char *file_of(struct node *n, const char *name) {
    char *rel = mem_printf("models/%s.gguf", name), *path = rel ? node_path(n, rel) : NULL;
    mem_free(rel);
    if (path && file_exists(path))
        return path;
    char *inner = mem_printf("models/%s/config.json", name), *config = inner ? node_path(n, inner) : NULL;
    if (config && file_exists(config)) {
        mem_free(path);
        config[strlen(config) - strlen("/config.json")] = 0;
        path = config;
        config = NULL;
    }
    mem_free(inner);
    mem_free(config);
    return path;
}

bool flow_model_is_base(struct node *n, const char *name) {
    char *path = plain_name(name, strlen(name)) ? file_of(n, name) : NULL;
    bool is = path && file_exists(path);
    mem_free(path);
    return is;
}

struct names {
    char name[64][FLOW_MODEL_NAME_MAX];
    unsigned n;
};

/* Base models there are: at most 64 are looked at. */
static void bases_of(struct node *n, struct names *out) {
    char *dir = node_path(n, "models");
    DIR *d = dir ? opendir(dir) : NULL;
    out->n = 0;
    for (struct dirent *e; d && (e = readdir(d)) && out->n < 64;) {
        size_t len = strlen(e->d_name);
        if (len > 5 && !strcmp(e->d_name + len - 5, ".gguf") && plain_name(e->d_name, len - 5)) {
            snprintf(out->name[out->n++], FLOW_MODEL_NAME_MAX, "%.*s", (int)(len - 5), e->d_name);
        } else if (plain_name(e->d_name, len)) {
            char *config = mem_printf("%s/%s/config.json", dir, e->d_name);
            if (config && file_exists(config))
                snprintf(out->name[out->n++], FLOW_MODEL_NAME_MAX, "%s", e->d_name);
            mem_free(config);
        }
    }
    if (d)
        closedir(d);
    mem_free(dir);
    for (unsigned i = 1; i < out->n; i++) /* by name: readdir has no order */
        for (unsigned j = i; j && strcmp(out->name[j - 1], out->name[j]) > 0; j--) {
            char t[FLOW_MODEL_NAME_MAX];
            memcpy(t, out->name[j], sizeof t);
            memcpy(out->name[j], out->name[j - 1], sizeof t);
            memcpy(out->name[j - 1], t, sizeof t);
        }
}

/* The MODEL record of an adapter; new reference, or NULL. */
static json_t *record_of(struct node *n, const char *name) {
    struct buf b = BUF_INIT(FLOW_JSON_MAX);
    json_t *r = NULL;
    if (!store_get(n->store, TABLE_MODEL, name, strlen(name), &b, NULL))
        r = json_loadb((const char *)b.data, b.len, 0, NULL);
    buf_clear(&b);
    return r;
}

struct newest {
    char name[FLOW_MODEL_NAME_MAX];
    json_int_t created;
};

static bool newer(void *ctx, const struct store_item *it) {
    struct newest *w = ctx;
    json_t *r = json_loadb((const char *)it->value, it->vlen, 0, NULL);
    json_int_t t = json_integer_value(json_object_get(r, "created_ms"));
    if (json_is_string(json_object_get(r, "adapter_path")) && it->klen < FLOW_MODEL_NAME_MAX && (!w->name[0] || t >= w->created)) {
        snprintf(w->name, sizeof w->name, "%.*s", (int)it->klen, (const char *)it->key);
        w->created = t;
    }
    json_decref(r);
    return true;
}

static enum loam_status default_name(struct node *n, char out[FLOW_MODEL_NAME_MAX], struct err *err) {
    char opt[OPTION_TEXT_MAX];
    option_str(n->opt, "model.default", opt);
    struct newest w = {.name = ""};
    if (opt[0]) {
        snprintf(out, FLOW_MODEL_NAME_MAX, "%.*s", FLOW_MODEL_NAME_MAX - 1, opt);
        return LOAM_OK;
    }
    enum loam_status s = store_each(n->store, TABLE_MODEL, &(struct store_range){0}, newer, &w, err);
    if (s)
        return s;
    if (w.name[0]) {
        memcpy(out, w.name, FLOW_MODEL_NAME_MAX);
        return LOAM_OK;
    }
    struct names *names = mem_alloc(sizeof *names);
    if (!names)
        return err_set(err, LOAM_ENOMEM, "no memory for names");
    bases_of(n, names);
    if (names->n == 1)
        memcpy(out, names->name[0], FLOW_MODEL_NAME_MAX);
    else if (!names->n)
        s = err_set(err, LOAM_ENOTFOUND, "there is no model yet: `model add FILE.gguf` takes one in");
    else
        s = err_set(err, LOAM_ENOTFOUND, "there are %u models; say which with --model (`model list`), or `set model.default NAME`", names->n);
    mem_free(names);
    return s;
}

static enum loam_status unknown(struct node *n, const char *name, struct err *err) {
    struct names *names = mem_alloc(sizeof *names);
    char list[256] = "", clean[FLOW_MODEL_NAME_MAX];
    if (names) {
        bases_of(n, names);
        for (unsigned i = 0; i < names->n && i < 8; i++) {
            size_t at = strlen(list);
            snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", names->name[i]);
        }
    }
    mem_free(names);
    return err_set(err, LOAM_ENOTFOUND, "there is no model \"%s\"; bases: %s; `model list` shows all",
                   text_clean_cut(clean, sizeof clean, name, strlen(name)), list[0] ? list : "none");
}

static enum loam_status resolve(struct flow_models *s, struct flow_model *m, const char *name, struct err *err) {
    struct node *n = s->n;
    const char *plus = strchr(name, '+');
    size_t first = plus ? (size_t)(plus - name) : strlen(name);
    if (!plain_name(name, first) || (plus && !plain_name(plus + 1, strlen(plus + 1))))
        return unknown(n, name, err);
    char base[FLOW_MODEL_NAME_MAX], adapter[FLOW_MODEL_NAME_MAX] = "";
    snprintf(base, sizeof base, "%.*s", (int)first, name);
    json_t *rec = record_of(n, plus ? plus + 1 : base);
    char *path = NULL, *adapter_path = NULL;
    enum loam_status st = LOAM_OK;
    if (plus && !rec)
        return unknown(n, name, err);
    if (rec) {
        const char *b = json_string_value(json_object_get(rec, "base")), *bp = json_string_value(json_object_get(rec, "base_path")),
                   *ap = json_string_value(json_object_get(rec, "adapter_path")),
                   *ah = json_string_value(json_object_get(rec, "adapter_hash"));
        snprintf(adapter, sizeof adapter, "%s", plus ? plus + 1 : base);
        if (!b || !plain_name(b, strlen(b)) || !ap || !ah || hex_decode(m->adapter_hash, 32, ah, NULL))
            st = err_set(err, LOAM_ESTATE, "the record of model %s has no base, adapter_path or adapter_hash", adapter);
        else if (plus && strcmp(base, b))
            st = err_set(err, LOAM_EINVAL, "adapter %s was trained on %s, not on %s", adapter, b, base);
        if (!st) {
            snprintf(base, sizeof base, "%s", b);
            path = file_of(n, base);
            if (path && !file_exists(path) && bp) {
                mem_free(path);
                path = bp[0] == '/' ? mem_strdup(bp) : node_path(n, bp);
            }
            adapter_path = ap[0] == '/' ? mem_strdup(ap) : node_path(n, ap);
            m->model_id = (uint64_t)json_integer_value(json_object_get(rec, "model"));
            if (!path || !adapter_path)
                st = err_set(err, LOAM_ENOMEM, "no memory for a path");
        }
    } else {
        path = file_of(n, base);
        if (!path)
            st = err_set(err, LOAM_ENOMEM, "no memory for a path");
        else if (!file_exists(path))
            st = unknown(n, name, err);
    }
    json_decref(rec);
    if (!st)
        st = base_get(s, &m->in_base, path, err);
    if (!st)
        m->base = m->in_base->m;
    if (!st && adapter_path)
        st = adapter_get(s, &m->in_adapter, adapter_path, m->adapter_hash, err);
    if (!st && adapter_path) {
        /* An adapter on another base answers nonsense and says nothing of it. */
        struct lm_hashes h;
        m->adapter = m->in_adapter->a;
        st = lm_model_hashes(&h, m->base, err);
        if (!st && memcmp(h.base, m->adapter->base_hash, 32))
            st = err_set(err, LOAM_EHASH, "adapter %s was trained on another base than the file %s holds", adapter, path);
    }
    snprintf(m->base_name, sizeof m->base_name, "%s", base);
    snprintf(m->adapter_name, sizeof m->adapter_name, "%s", adapter);
    snprintf(m->name, sizeof m->name, "%s", adapter[0] ? adapter : base);
    mem_free(path);
    mem_free(adapter_path);
    return st;
}

static void let_go(struct flow_model *m) {
    if (m->in_base) {
        m->in_base->refs--;
        m->in_base->used_us = clock_mono_us();
    }
    if (m->in_adapter)
        m->in_adapter->refs--;
    mem_free(m);
}

enum loam_status flow_model_get(struct flow_model **out, struct node *n, const char *name, struct err *err) {
    struct flow_models *s = n->models;
    char def[FLOW_MODEL_NAME_MAX];
    *out = NULL;
    if (!name || !name[0]) {
        enum loam_status st = default_name(n, def, err);
        if (st)
            return st;
        name = def;
    }
    struct flow_model *m = mem_zalloc(sizeof *m);
    if (!m)
        return err_set(err, LOAM_ENOMEM, "no memory for a model");
    uv_mutex_lock(&s->lock);
    enum loam_status st = resolve(s, m, name, err);
    if (st)
        let_go(m);
    uv_mutex_unlock(&s->lock);
    if (!st) {
        *out = m;
        m->owner = s;
    }
    return st;
}

enum loam_status flow_model_get_path(struct flow_model **out, struct node *n, const char *path, struct err *err) {
    struct flow_models *s = n->models;
    struct flow_model *m = mem_zalloc(sizeof *m);
    *out = NULL;
    if (!m)
        return err_set(err, LOAM_ENOMEM, "no memory for a model");
    uv_mutex_lock(&s->lock);
    enum loam_status st = base_get(s, &m->in_base, path, err);
    if (st) {
        let_go(m);
    } else {
        const char *slash = strrchr(path, '/');
        snprintf(m->name, sizeof m->name, "%.*s", FLOW_MODEL_NAME_MAX - 1, slash ? slash + 1 : path);
        memcpy(m->base_name, m->name, sizeof m->name);
        m->base = m->in_base->m;
        m->owner = s;
        *out = m;
    }
    uv_mutex_unlock(&s->lock);
    return st;
}

void flow_model_put(struct flow_model *m) {
    if (!m)
        return;
    struct flow_models *s = m->owner;
    uv_mutex_lock(&s->lock);
    let_go(m);
    uv_mutex_unlock(&s->lock);
}

/* ---- engines ---- */

static void engine_yield(void *arg) {
    struct flow_engine *e = arg;
    if (e->yield)
        e->yield(e->yield_ctx);
}

static struct lm_engine_opt engine_opt(struct node *n, enum lm_act act) {
    return (struct lm_engine_opt){.act = act,
                                  .threads = (unsigned)option_uint(n->opt, "compute.threads"),
                                  .backend = flow_backend(n),
                                  .kv_bytes_max = option_uint(n->opt, "model.cache")};
}

/* On the CPU where the device cannot be had and the options say so. */
static enum loam_status engine_new(struct lm_engine **out, struct node *n, struct lm_model *m, struct lm_engine_opt *o, struct err *err) {
    enum loam_status s = lm_engine_new(out, m, o, err);
    if (s && o->backend && flow_fallback(n)) {
        if (err)
            log_warn("compute", "%s: %s; the CPU answers instead", o->backend, err->text);
        o->backend = NULL;
        s = lm_engine_new(out, m, o, err);
    }
    return s;
}

enum loam_status flow_engine_take(struct flow_engine **out, struct node *n, struct flow_model *m, enum lm_act act, struct err *err) {
    struct flow_models *s = n->models;
    struct flow_base *b = m->in_base;
    *out = NULL;
    uv_mutex_lock(&s->lock);
    struct flow_engine **best = NULL;
    for (struct flow_engine **p = &b->idle; *p; p = &(*p)->next)
        if ((*p)->act == act && (!best || (*p)->adapter == m->adapter))
            best = p;
    struct flow_engine *e = best ? *best : NULL;
    if (e) {
        *best = e->next;
        b->n_idle--;
        if (e->adapter != m->adapter) {
            struct flow_adapter *a = e->adapter ? adapter_of(s, e->adapter) : NULL;
            lm_session_free(e->session);
            e->session = NULL;
            e->adapter = NULL;
            if (a)
                a->refs--;
        }
    }
    uv_mutex_unlock(&s->lock);
    enum loam_status st = LOAM_OK;
    if (!e) {
        e = mem_zalloc(sizeof *e);
        if (!e)
            return err_set(err, LOAM_ENOMEM, "no memory for an engine");
        e->act = act;
        struct lm_engine_opt o = engine_opt(n, act);
        o.yield = engine_yield;
        o.yield_ctx = e;
        st = engine_new(&e->engine, n, m->base, &o, err);
    }
    if (!st && !e->session)
        st = lm_session_new(&e->session, e->engine, m->adapter, 0, err);
    uv_mutex_lock(&s->lock);
    if (st) {
        engine_free(s, e);
    } else {
        if (m->in_adapter && e->adapter != m->adapter)
            m->in_adapter->refs++;
        e->adapter = m->adapter;
        *out = e;
    }
    uv_mutex_unlock(&s->lock);
    return st;
}

void flow_engine_give(struct flow_model *m, struct flow_engine *e) {
    if (!e)
        return;
    struct flow_models *s = m->owner;
    struct flow_base *b = m->in_base;
    e->yield = NULL;
    bool gone = lm_engine_lost(e->engine);
    uv_mutex_lock(&s->lock);
    if (gone) { /* it computes no more: the next one opens its own */
        engine_free(s, e);
        uv_mutex_unlock(&s->lock);
        return;
    }
    e->next = b->idle;
    b->idle = e;
    if (++b->n_idle > FLOW_ENGINES_IDLE_MAX) {
        struct flow_engine **p = &b->idle;
        while ((*p)->next)
            p = &(*p)->next;
        struct flow_engine *last = *p;
        *p = NULL;
        b->n_idle--;
        engine_free(s, last);
    }
    uv_mutex_unlock(&s->lock);
}

/* ---- many answers at once ---- */

#define FOLLOW_NS (50u * 1000 * 1000) /* how late a waiting request notices that its job was cancelled */

static enum fast_type fast_weights(struct node *n) {
    static const char *const names[] = {[FAST_BF16] = "bf16", [FAST_F8] = "fp8", [FAST_Q8] = "q8", [FAST_Q4] = "q4", [FAST_NF4] = "nf4"};
    char text[OPTION_TEXT_MAX];
    option_str(n->opt, "compute.weights", text);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(text, names[i]))
            return (enum fast_type)i;
    return FAST_BF16;
}

static enum loam_status serving_open(struct node *n, struct flow_model *m, enum lm_act act, struct serving *v, struct err *err) {
    enum loam_status s = LOAM_OK;
    struct lm_engine_opt o = engine_opt(n, act);
    o.fast = v == &m->in_base->serving[SERVING_FAST];
    o.weights = fast_weights(n);
    if (atomic_load(&m->in_base->on_cpu))
        o.backend = NULL;
    if (!v->engine && o.fast) /* what takes its place is another batch's engine: flow_batch */
        s = lm_engine_new(&v->engine, m->base, &o, err);
    else if (!v->engine)
        s = engine_new(&v->engine, n, m->base, &o, err);
    if (!s && !v->batch)
        s = lm_batch_new(&v->batch, v->engine, err);
    return s;
}

/* With v->lock held: hands what came in to the batch, and lets go of what is done. */
static void exchange(struct serving *v) {
    struct pending **p = &v->running;
    while (*p) {
        struct pending *x = *p;
        if (x->r->done) {
            *p = x->next;
            x->settled = true;
        } else {
            p = &x->next;
        }
    }
    while (v->incoming) {
        struct pending *x = v->incoming;
        v->incoming = x->next;
        x->next = NULL;
        *p = x;
        p = &x->next;
        lm_batch_add(v->batch, x->r);
    }
}

/* With v->lock held, by the leader: an engine whose device failed is closed; who waited for it hears why, or is computed elsewhere. */
static void serving_drop(struct serving *v, const struct err *why) {
    for (struct pending *x = v->running; x; x = x->next)
        x->lost = true;
    lm_batch_free(v->batch);
    lm_engine_free(v->engine);
    v->batch = NULL;
    v->engine = NULL;
    for (struct pending *x = v->running; x; x = x->next) {
        if (x->r->status == LOAM_ECANCEL) {
            x->r->err = *why;
            x->r->status = LOAM_EIO;
        }
        x->settled = true;
    }
    v->running = NULL;
}

/* Steps the batch until mine is done. v->led is set by us; the lock is held on entry and return. */
static void lead(struct node *n, struct flow_model *m, enum lm_act act, struct serving *v, struct pending *mine, struct job *j) {
    struct err e = {LOAM_OK, ""};
    uv_mutex_unlock(&v->lock);
    /* Not cancelled while it waits: others may have joined meanwhile. */
    enum loam_status s = sched_enter(n->sched, SCHED_ASK, NULL, &e);
    bool held = !s;
    if (!s)
        s = serving_open(n, m, act, v, &e);
    uv_mutex_lock(&v->lock);
    if (s) { /* nobody can be served: all that wait hear it */
        for (struct pending *x = v->incoming; x; x = x->next) {
            x->r->err = e;
            x->r->status = s;
            x->r->done = x->settled = true;
            x->lost = held && v == &m->in_base->serving[SERVING_FAST]; /* the others fell back themselves */
        }
        v->incoming = NULL;
    } else {
        for (exchange(v); !mine->settled; exchange(v)) {
            uv_mutex_unlock(&v->lock);
            if (j && job_cancelled(j))
                atomic_store(&mine->cancel, 1);
            (void)lm_batch_step(v->batch, NULL);
            uv_mutex_lock(&v->lock);
            if (lm_engine_lost(v->engine)) {
                (void)err_set(&e, LOAM_EIO, "the device failed while it answered");
                serving_drop(v, &e);
                uv_cond_broadcast(&v->cond);
                break;
            }
            uv_cond_broadcast(&v->cond);
        }
    }
    if (held) {
        uv_mutex_unlock(&v->lock);
        sched_leave(n->sched);
        uv_mutex_lock(&v->lock);
    }
    v->led = false;
    uv_cond_broadcast(&v->cond);
}

static enum loam_status batch_on(struct serving *v, struct node *n, struct flow_model *m, enum lm_act act, struct lm_request *r, struct job *j, bool *lost) {
    struct pending mine = {.r = r};
    r->opt.cancel = &mine.cancel;
    r->adapter = m->adapter;
    uv_mutex_lock(&v->lock);
    struct pending **p = &v->incoming;
    while (*p)
        p = &(*p)->next;
    *p = &mine;
    while (!mine.settled) {
        if (!v->led) {
            v->led = true;
            lead(n, m, act, v, &mine, j);
        } else {
            (void)uv_cond_timedwait(&v->cond, &v->lock, FOLLOW_NS);
            if (j && job_cancelled(j))
                atomic_store(&mine.cancel, 1);
        }
    }
    uv_mutex_unlock(&v->lock);
    *lost = mine.lost;
    return r->status;
}

enum loam_status flow_batch(struct node *n, struct flow_model *m, enum lm_act act, bool *fast, struct lm_request *r, struct job *j, struct err *err) {
    struct flow_base *b = m->in_base;
    bool lost;
    *fast = *fast && !atomic_load(&b->on_cpu);
    enum loam_status s = batch_on(&b->serving[*fast ? SERVING_FAST : (int)act], n, m, act, r, j, &lost);
    /* Words that somebody has read are not said again: such an answer ends with the message. */
    if (s && lost && !r->begun && flow_backend(n) && flow_fallback(n)) {
        log_warn("compute", "%s: %s; the CPU answers instead", flow_backend(n), r->err.text);
        atomic_store(&b->on_cpu, true);
        *fast = r->done = false;
        r->status = LOAM_OK;
        s = batch_on(&b->serving[act], n, m, act, r, j, &lost);
    }
    if (s && err)
        *err = r->err;
    return s;
}

/* ---- lists ---- */

/* Is the API to answer for what this node has? (node.api says whether it does) */
static bool serving(struct node *n) {
    char t[OPTION_TEXT_MAX];
    return *option_str(n->opt, "api.listen", t) != 0;
}

static json_t *base_json(struct node *n, const char *name) {
    struct gguf g;
    struct err e;
    char *path = file_of(n, name);
    json_t *o = json_pack("{s:s s:s s:b}", "name", name, "kind", "base", "served", serving(n));
    if (o && path && file_is_folder(path)) {
        json_object_set_new(o, "file", json_string(path));
        json_object_set_new(o, "quant", json_string("safetensors"));
    } else if (o && path && !gguf_open(&g, path, &e)) {
        uint64_t params = 0, bytes = 0, by_type[64] = {0}, most = 0;
        uint32_t type = 0;
        for (uint64_t i = 0; i < g.n_tensors; i++) {
            const struct gguf_tensor *t = &g.tensors[i];
            params += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
            bytes += t->bytes;
            if (t->type < 64 && (by_type[t->type] += t->bytes) > most) {
                most = by_type[t->type];
                type = t->type;
            }
        }
        json_object_set_new(o, "file", json_string(path));
        json_object_set_new(o, "parameters", json_integer((json_int_t)params));
        json_object_set_new(o, "bytes", json_integer((json_int_t)bytes));
        json_object_set_new(o, "quant", json_string(gpu_type_name(type)));
        gguf_clear(&g);
    } else if (o && path) {
        json_object_set_new(o, "file", json_string(path));
        json_object_set_new(o, "error", json_string(e.text));
    }
    mem_free(path);
    return o;
}

struct adapters {
    json_t *list;
    bool serving;
};

static bool add_adapter(void *ctx, const struct store_item *it) {
    struct adapters *x = ctx;
    json_t *r = json_loadb((const char *)it->value, it->vlen, 0, NULL);
    const char *base = json_string_value(json_object_get(r, "base")), *hash = json_string_value(json_object_get(r, "adapter_hash"));
    if (base && hash && json_is_string(json_object_get(r, "adapter_path")))
        json_array_append_new(x->list, json_pack("{s:s% s:s s:s s:s s:I s:I s:I s:O* s:b}", "name", (const char *)it->key, it->klen, "kind", "adapter",
                                             "base", base, "hash", hash, "id", json_integer_value(json_object_get(r, "model")), "datanet",
                                             json_integer_value(json_object_get(r, "datanet")), "rows",
                                             json_integer_value(json_object_get(r, "rows")), "loss", json_object_get(r, "loss"), "served", x->serving));
    json_decref(r);
    return true;
}

json_t *flow_model_list(struct node *n) {
    struct names *names = mem_alloc(sizeof *names);
    json_t *list = json_array();
    if (names && list) {
        bases_of(n, names);
        for (unsigned i = 0; i < names->n; i++)
            json_array_append_new(list, base_json(n, names->name[i]));
        struct adapters x = {list, serving(n)};
        struct err e;
        if (store_each(n->store, TABLE_MODEL, &(struct store_range){0}, add_adapter, &x, &e))
            log_warn("flow", "the list of adapters is not whole: %s", e.text);
    }
    mem_free(names);
    topic_set(n, "models", json_pack("{s:O}", "list", list));
    return list;
}

enum loam_status flow_model_add(struct node *n, const char *path, const char *name, struct err *err) {
    char own[FLOW_MODEL_NAME_MAX];
    if (!name) {
        const char *slash = strrchr(path, '/');
        slash = slash ? slash + 1 : path;
        size_t len = strlen(slash);
        len -= len > 5 && !strcmp(slash + len - 5, ".gguf") ? 5 : 0;
        snprintf(own, sizeof own, "%.*s", (int)(len < sizeof own ? len : sizeof own - 1), slash);
        name = own;
    }
    if (!plain_name(name, strlen(name)))
        return err_set(err, LOAM_EINVAL, "a model's name has no spaces, '/' or '+', does not begin with '.', and is shorter than %d", FLOW_MODEL_NAME_MAX);
    json_t *rec = record_of(n, name);
    char *to = file_of(n, name), *dir = node_path(n, "models");
    struct lm_model *m = NULL;
    enum loam_status s = to && dir ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for a path");
    if (!s && (rec || file_exists(to)))
        s = err_set(err, LOAM_EEXIST, "there is a model %s already", name);
    if (!s && file_is_folder(path))
        s = err_set(err, LOAM_EINVAL, "%s is a folder: put it, or a link to it, into %s yourself", path, dir);
    if (!s)
        s = lm_model_open(&m, path, err);
    lm_model_free(m);
    if (!s)
        s = file_mkdirs(dir, err);
    if (!s) { /* a copy, never a link: the model is mapped while it serves, and the user's file may be cut or written again */
        struct file_map map;
        s = file_map(&map, path, err);
        if (!s) {
            s = file_write(to, map.data, map.len, 0600, err);
            file_unmap(&map);
        }
    }
    json_decref(rec);
    mem_free(to);
    mem_free(dir);
    if (!s)
        json_decref(flow_model_list(n));
    return s;
}

static json_t *hex(const uint8_t h[32]) {
    char t[67] = "0x";
    hex_encode(t + 2, h, 32);
    return json_string(t);
}

enum loam_status flow_model_info(json_t **out, struct node *n, const char *name, struct err *err) {
    struct flow_model *m;
    struct lm_hashes h;
    *out = NULL;
    enum loam_status s = flow_model_get(&m, n, name, err);
    if (s)
        return s;
    s = lm_model_hashes(&h, m->base, err);
    if (!s) {
        const struct lm_config *k = &m->base->config;
        json_t *o = json_pack("{s:s s:s s:s s:s s:I s:I s:I s:I s:I s:I s:I s:I s:I s:I s:f s:s s:s s:s s:b}", "name", m->name, "base", m->base_name, "title",
                              m->base->name, "architecture", k->arch, "parameters", (json_int_t)m->base->params, "bytes", (json_int_t)m->base->bytes,
                              "layers", (json_int_t)k->L, "width", (json_int_t)k->C, "heads", (json_int_t)k->H, "kv_heads", (json_int_t)k->G, "head_size",
                              (json_int_t)k->D, "ffn", (json_int_t)k->F, "vocabulary", (json_int_t)k->V, "context", (json_int_t)k->context, "rope_base",
                              k->rope_base, "quant", gpu_type_name(m->base->layers[0].w[LM_Q].type), "tokenizer", lm_tokenizer_kind(m->base->tokenizer),
                              "template", m->base->tmpl ? lm_template_name(m->base->tmpl) : "none", "q8", m->base->quantised);
        if (o) {
            json_object_set_new(o, "base_hash", hex(h.base));
            json_object_set_new(o, "tokenizer_hash", hex(h.tokenizer));
            json_object_set_new(o, "template_hash", hex(h.tmpl));
        }
        char *dir = node_path(n, "images"), *image = dir ? image_path(dir, h.base) : NULL;
        struct stat st;
        struct err note;
        bool mapped = lm_model_mapped(m->base, &note);
        if (o && image && !stat(image, &st)) {
            json_object_set_new(o, "image_bytes", json_integer((json_int_t)st.st_size));
            json_object_set_new(o, "image", json_string(image));
        }
        if (o) {
            json_object_set_new(o, "image_mapped", json_boolean(mapped));
            if (note.text[0])
                json_object_set_new(o, "image_note", json_string(note.text));
        }
        mem_free(image);
        mem_free(dir);
        if (o) { /* what a token of context costs, and how many the budget of all open answers holds */
            const struct gpu_attn at = {.h = k->H, .g = k->G, .d = k->D};
            uint64_t page = gpu_kv_page_elems(&at) * sizeof(uint16_t) * k->L, budget = option_uint(n->opt, "model.cache");
            json_object_set_new(o, "cache_page_tokens", json_integer(GPU_KV_PAGE));
            json_object_set_new(o, "cache_page_bytes", json_integer((json_int_t)page));
            json_object_set_new(o, "cache_budget_bytes", json_integer((json_int_t)budget));
            json_object_set_new(o, "cache_budget_tokens", json_integer((json_int_t)(budget / page * GPU_KV_PAGE)));
        }
        if (o && m->adapter) {
            json_object_set_new(o, "adapter", json_string(m->adapter_name));
            json_object_set_new(o, "adapter_hash", hex(m->adapter_hash));
            json_object_set_new(o, "rank", json_integer(m->adapter->rank));
            json_object_set_new(o, "model", json_integer((json_int_t)m->model_id));
        }
        *out = o;
        if (!o)
            s = err_set(err, LOAM_ENOMEM, "no memory for what is known of a model");
    }
    flow_model_put(m);
    return s;
}

struct dependents {
    const char *base;
    char list[256];
    unsigned n;
};

static bool add_dependent(void *ctx, const struct store_item *it) {
    struct dependents *d = ctx;
    json_t *r = json_loadb((const char *)it->value, it->vlen, 0, NULL);
    const char *base = json_string_value(json_object_get(r, "base"));
    if (base && !strcmp(base, d->base)) {
        size_t at = strlen(d->list);
        if (d->n++ < 8)
            snprintf(d->list + at, sizeof d->list - at, "%s%.*s", at ? ", " : "", (int)it->klen, (const char *)it->key);
    }
    json_decref(r);
    return true;
}

/* A model's folder: the files in it, then itself. One that holds a folder is left as it is: that is no model's, and nothing is half removed. */
static enum loam_status remove_folder(const char *path, struct err *err) {
    enum loam_status s = LOAM_OK;
    for (int really = 0; !s && really < 2; really++) {
        DIR *d = opendir(path);
        if (!d)
            return err_errno(err, LOAM_EIO, "%s", path);
        for (struct dirent *e; !s && (e = readdir(d));) {
            struct stat st;
            if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
                continue;
            char *file = mem_printf("%s/%s", path, e->d_name);
            if (!file)
                s = err_set(err, LOAM_ENOMEM, "no memory for a path");
            else if (really ? unlink(file) : lstat(file, &st))
                s = err_errno(err, LOAM_EIO, really ? "cannot remove %s" : "%s", file);
            else if (!really && S_ISDIR(st.st_mode))
                s = err_set(err, LOAM_ESTATE, "%s is a folder, which no model here has; nothing was removed: remove it by hand first", file);
            mem_free(file);
        }
        closedir(d);
    }
    if (!s && rmdir(path))
        s = err_errno(err, LOAM_EIO, "cannot remove %s", path);
    return s;
}

static enum loam_status remove_base(struct node *n, const char *path, struct err *err) {
    struct flow_models *fm = n->models;
    for (struct flow_base **p = &fm->bases; *p; p = &(*p)->next)
        if (!strcmp((*p)->path, path)) {
            struct flow_base *b = *p;
            if (b->refs)
                return err_set(err, LOAM_ESTATE, "%s is in use by %u questions or jobs (`job list`); try again when they have ended", path, b->refs);
            *p = b->next;
            base_free(fm, b);
            break;
        }
    struct stat st;
    if (lstat(path, &st))
        return err_errno(err, LOAM_EIO, "%s", path);
    if (S_ISDIR(st.st_mode))
        return remove_folder(path, err);
    return unlink(path) ? err_errno(err, LOAM_EIO, "cannot remove %s", path) : LOAM_OK; /* a link is removed, never what it points to */
}

static enum loam_status no_dependents(struct node *n, const char *name, struct err *err) {
    struct dependents d = {.base = name};
    enum loam_status s = store_each(n->store, TABLE_MODEL, &(struct store_range){0}, add_dependent, &d, err);
    if (s || !d.n)
        return s;
    return err_set(err, LOAM_ESTATE, "%s stays: %u adapter%s trained on it need%s it: %s%s", name, d.n, d.n > 1 ? "s" : "", d.n > 1 ? "" : "s", d.list,
                   d.n > 8 ? ", ..." : "");
}

enum loam_status flow_model_remove(struct node *n, const char *name, struct err *err) {
    struct flow_models *fm = n->models;
    char opt[OPTION_TEXT_MAX];
    if (!flow_model_is_base(n, name)) {
        json_t *rec = record_of(n, name);
        bool adapter = rec != NULL;
        json_decref(rec);
        return adapter ? err_set(err, LOAM_EUNSUPPORTED, "%s is an adapter: records and claims name it, so it stays; `model remove` is for bases", name) : unknown(n, name, err);
    }
    option_str(n->opt, "model.default", opt);
    if (!strcmp(opt, name))
        return err_set(err, LOAM_ESTATE, "%s stays: option model.default names it; `set model.default \"\"` first", name);
    char *path = file_of(n, name), *dir = node_path(n, "images");
    enum loam_status s = path && dir ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for a path");
    uv_mutex_lock(&fm->lock); /* who writes an adapter's record holds its base meanwhile: either is seen */
    if (!s)
        s = no_dependents(n, name, err);
    if (!s)
        s = remove_base(n, path, err);
    uv_mutex_unlock(&fm->lock);
    if (!s) {
        lm_images_sweep(dir); /* its image, unless another file holds the same model */
        json_decref(flow_model_list(n));
    }
    mem_free(path);
    mem_free(dir);
    return s;
}

enum loam_status flow_model_quantize(char out[FLOW_MODEL_NAME_MAX], struct node *n, const char *base, const char *type, const char *head,
                                     const char *name, struct err *err) {
    uint32_t t, h;
    enum loam_status s = lm_type_parse(&t, type, err);
    if (!s)
        s = lm_type_parse(&h, head, err);
    if (s)
        return s;
    if (name)
        snprintf(out, FLOW_MODEL_NAME_MAX, "%s", name);
    else
        snprintf(out, FLOW_MODEL_NAME_MAX, "%.*s-%s", FLOW_MODEL_NAME_MAX - 8, base, gpu_type_name(t));
    if (!plain_name(base, strlen(base)) || !plain_name(out, strlen(out)))
        return err_set(err, LOAM_EINVAL, "a base model's name, and a plain name for the new one, are needed");
    char *from = file_of(n, base), *to = file_of(n, out);
    if (!from || !to)
        s = err_set(err, LOAM_ENOMEM, "no memory for a path");
    else if (!file_exists(from))
        s = unknown(n, base, err);
    else if (file_exists(to))
        s = err_set(err, LOAM_EEXIST, "there is a model %s already", out);
    if (!s)
        s = lm_quantize(from, to, t, h, err);
    mem_free(from);
    mem_free(to);
    if (!s)
        json_decref(flow_model_list(n));
    return s;
}

enum loam_status flow_model_export(json_t **out, struct node *n, struct job *j, const char *model, const char *to, const char *format,
                                   const char *type, struct err *err) {
    struct flow_model *m = NULL;
    struct lm_export_check k;
    bool gguf = !strcmp(format, "gguf"), turn = false;
    uint32_t t;
    *out = NULL;
    enum loam_status s = lm_type_parse(&t, type ? type : gguf ? "F16" : "F32", err);
    if (!s)
        s = flow_model_get(&m, n, model, err);
    bool folder = !s && file_is_folder(m->in_base->path);
    if (!s && gguf && folder && !m->adapter && !type)
        t = m->base->layers[0].w[LM_Q].type; /* the base's numbers as they are */
    if (!s && gguf && !folder && !m->adapter)
        s = err_set(err, LOAM_EINVAL, "%s has no adapter to merge: its GGUF file is the base itself (`model info`); `model quantize` writes it in another format", m->name);
    if (!s) {
        s = sched_enter(n->sched, SCHED_TRAIN, j, err);
        turn = !s;
    }
    if (!s)
        s = gguf ? lm_export_gguf(m->base, m->adapter, m->in_base->path, to, t, err) : lm_export_folder(m->base, m->adapter, m->in_base->path, to, t, err);
    if (!s)
        s = lm_export_check(&k, m->base, m->adapter, to, (unsigned)option_uint(n->opt, "compute.threads"), NULL, err);
    if (turn)
        sched_leave(n->sched);
    if (!s) {
        *out = json_pack("{s:s s:s s:s s:s s:b s:I s:I s:f s:f s:s}", "model", m->name, "format", format, "to", to, "type", gpu_type_name(t), "merged",
                         m->adapter != NULL, "positions", (json_int_t)k.positions, "same_highest", (json_int_t)k.same, "max_logit_difference", k.max,
                         "mean_logit_difference", k.mean, "compared_in", k.exact ? "fp32" : "act=f32 with the fp16 cache");
        if (!*out)
            s = err_set(err, LOAM_ENOMEM, "no memory for a result");
    }
    flow_model_put(m);
    return s;
}

struct resting {
    struct node *n;
    struct job *j;
    bool lost; /* cancelled while another class computed: no turn is held */
};

static void rest(void *ctx) {
    struct resting *r = ctx;
    if (!r->lost && sched_wanted(r->n->sched) && sched_yield_turn(r->n->sched, r->j, NULL))
        r->lost = true;
}

/* Sum of the negative log-likelihoods of ids[1..n) given what stands before each. */
static enum loam_status window_nll(double *nll, struct flow_engine *e, const uint32_t *ids, uint32_t n, float *logits, uint32_t V, struct err *err) {
    enum { ROWS = 32 };
    lm_session_truncate(e->session, 0);
    for (uint32_t at = 0; at < n; at += ROWS) {
        uint32_t rows = n - at < ROWS ? n - at : ROWS;
        enum loam_status s = lm_step(e->engine, &(struct lm_item){e->session, ids + at, rows, true, logits}, 1, NULL, err);
        if (s)
            return s;
        for (uint32_t i = 0; i < rows && at + i + 1 < n; i++) {
            float lp;
            lm_logprobs(&lp, NULL, 0, logits + (size_t)i * V, V, ids[at + i + 1]);
            *nll -= (double)lp;
        }
    }
    return LOAM_OK;
}

enum loam_status flow_perplexity(json_t **out, struct node *n, struct job *j, const char *model, const char *path, const char *act, uint32_t window,
                                 uint32_t tokens, struct err *err) {
    struct buf text = BUF_INIT(FLOW_PERPLEXITY_MAX);
    struct flow_model *m = NULL;
    struct flow_engine *e = NULL;
    struct lm_ids ids = {0};
    float *logits = NULL;
    double nll = 0;
    uint64_t count = 0, windows = 0, t0 = clock_mono_us();
    *out = NULL;
    enum loam_status s = file_read(&text, path, err);
    if (!s)
        s = flow_model_get(&m, n, model, err);
    if (!s && window > m->base->config.context)
        s = err_set(err, LOAM_ERANGE, "a window of %u tokens; the model has %u", window, m->base->config.context);
    if (!s)
        s = lm_encode(&ids, m->base->tokenizer, (const char *)text.data, text.len, 0, err);
    if (!s && tokens && ids.n > tokens)
        ids.n = tokens;
    if (!s && ids.n < 2)
        s = err_set(err, LOAM_EINVAL, "%s has fewer than two tokens", path);
    if (!s)
        s = flow_engine_take(&e, n, m, !strcmp(act, "q8") ? LM_ACT_Q8 : LM_ACT_F32, err);
    if (!s && !(logits = mem_array((size_t)32 * m->base->config.V, sizeof *logits)))
        s = err_set(err, LOAM_ENOMEM, "no memory for logits");
    struct resting r = {.n = n, .j = j, .lost = true};
    if (!s && !(s = sched_enter(n->sched, SCHED_TRAIN, j, err)))
        r.lost = false;
    if (!s) {
        e->yield = rest;
        e->yield_ctx = &r;
    }
    for (uint32_t at = 0; at + 1 < ids.n && !s; at += window) {
        uint32_t len = ids.n - at < window ? ids.n - at : window;
        if (len < 2)
            break;
        s = window_nll(&nll, e, ids.ids + at, len, logits, m->base->config.V, err);
        count += len - 1;
        windows++;
        if (!s && (r.lost || (j && job_cancelled(j))))
            s = err_set(err, LOAM_ECANCEL, "cancelled");
        if (j)
            job_progress(j, at + len, ids.n, NULL);
    }
    if (!r.lost)
        sched_leave(n->sched);
    if (!s) {
        double sec = (double)(clock_mono_us() - t0) * 1e-6, mean = nll / (double)count;
        *out = json_pack("{s:s s:s s:I s:I s:I s:f s:f s:f}", "model", m->name, "act", act, "tokens", (json_int_t)count, "windows", (json_int_t)windows, "window",
                         (json_int_t)window, "nll", mean, "perplexity", arith_exp64(mean), "tokens_per_s", (double)count / sec);
        if (!*out)
            s = err_set(err, LOAM_ENOMEM, "no memory for a result");
    }
    if (e)
        flow_engine_give(m, e);
    flow_model_put(m);
    mem_free(logits);
    lm_ids_clear(&ids);
    buf_clear(&text);
    return s;
}

/* ---- the service ---- */

static void close_all(void *arg) {
    struct flow_models *s = arg;
    while (s->bases) {
        struct flow_base *b = s->bases;
        s->bases = b->next;
        base_free(s, b);
    }
    while (s->adapters) {
        struct flow_adapter *a = s->adapters;
        s->adapters = a->next;
        lm_adapter_free(a->a);
        mem_free(a);
    }
    s->n->models = NULL;
    uv_mutex_destroy(&s->lock);
    mem_free(s);
}

enum loam_status flow_attach(struct node *n, struct err *err) {
    struct flow_models *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(err, LOAM_ENOMEM, "no memory for the models");
    s->n = n;
    uv_mutex_init(&s->lock);
    enum loam_status st = node_at_close(n, close_all, s, err);
    if (st) {
        uv_mutex_destroy(&s->lock);
        mem_free(s);
        return st;
    }
    n->models = s;
    char *images = node_path(n, "images");
    if (images)
        lm_images_sweep(images); /* of models that are gone */
    mem_free(images);
    json_decref(flow_model_list(n));
    if ((st = board_attach(n, err)))
        return st;
    return flow_serve(n, err);
}
