#include "lm/batch.h"
#include "base/clock.h"
#include "base/mem.h"
#include "lm/generate_in.h"

#include <string.h>

#include "base/banned.h"

struct lm_sequence {
    struct lm_session *session;
    struct gen gen;
    uint64_t start_us, first_us; /* admitted; first token's logits */
};

struct idle {
    struct lm_session *session;
    uint64_t used; /* serial: the lowest goes first */
};

struct lm_batch {
    struct lm_engine *e;
    struct lm_request *queue, **queue_end;    /* wait for a place */
    struct lm_request *active[LM_BATCH_MAX];  /* oldest first */
    size_t n_active;
    struct idle idle[LM_BATCH_IDLE];
    size_t n_idle;
    uint64_t serial;
    void *work; /* lm_sample's */
};

enum loam_status lm_batch_new(struct lm_batch **out, struct lm_engine *e, struct err *err) {
    struct lm_batch *b = mem_zalloc(sizeof *b);
    *out = NULL;
    if (b)
        b->work = mem_array(lm_engine_model(e)->config.V, 8);
    if (!b || !b->work) {
        mem_free(b);
        return err_set(err, LOAM_ENOMEM, "no memory for a batch");
    }
    b->e = e;
    b->queue_end = &b->queue;
    *out = b;
    return LOAM_OK;
}

size_t lm_batch_open(const struct lm_batch *b) {
    size_t n = b->n_active;
    for (const struct lm_request *r = b->queue; r; r = r->next)
        n++;
    return n;
}

void lm_batch_add(struct lm_batch *b, struct lm_request *r) {
    r->done = false;
    r->status = LOAM_OK;
    r->next = NULL;
    r->sequence = NULL;
    *b->queue_end = r;
    b->queue_end = &r->next;
}

/* ---- ended sequences ---- */

static void idle_drop(struct lm_batch *b, size_t i) {
    lm_session_free(b->idle[i].session);
    b->idle[i] = b->idle[--b->n_idle];
}

static bool idle_drop_oldest(struct lm_batch *b) {
    size_t old = 0;
    if (!b->n_idle)
        return false;
    for (size_t i = 1; i < b->n_idle; i++)
        if (b->idle[i].used < b->idle[old].used)
            old = i;
    idle_drop(b, old);
    return true;
}

static void idle_keep(struct lm_batch *b, struct lm_session *s) {
    if (b->n_idle == LM_BATCH_IDLE)
        idle_drop_oldest(b);
    b->idle[b->n_idle++] = (struct idle){s, ++b->serial};
}

void lm_batch_forget(struct lm_batch *b, const struct lm_adapter *a, bool all) {
    for (size_t i = b->n_idle; i-- > 0;)
        if (all || lm_session_adapter(b->idle[i].session) == a)
            idle_drop(b, i);
}

static uint32_t common(const struct lm_session *s, const uint32_t *ids, uint32_t n) {
    const uint32_t *have = lm_session_tokens(s);
    uint32_t len = lm_session_length(s), i = 0;
    while (i < len && i < n && have[i] == ids[i])
        i++;
    return i;
}

/* A session for r that already holds as much of its prompt as anybody does. */
static enum loam_status session_for(struct lm_batch *b, struct lm_request *r, struct lm_session **out) {
    uint32_t n = r->n - 1, best = 0; /* the last token is computed in any case: its logits are wanted */
    const struct lm_session *from = NULL;
    size_t take = SIZE_MAX;
    for (size_t i = 0; i < b->n_idle; i++) {
        uint32_t c = lm_session_adapter(b->idle[i].session) == r->adapter ? common(b->idle[i].session, r->prompt, n) : 0;
        if (c > best) {
            best = c;
            from = b->idle[i].session;
            take = i;
        }
    }
    for (size_t i = 0; i < b->n_active; i++) {
        const struct lm_session *s = b->active[i]->sequence->session;
        uint32_t c = lm_session_adapter(s) == r->adapter ? common(s, r->prompt, n) : 0;
        if (c > best) {
            best = c;
            from = s;
            take = SIZE_MAX;
        }
    }
    /* A sequence that goes on beyond the common beginning is copied, so that its rest stays useful; one that this prompt
     * continues is taken over. */
    if (take != SIZE_MAX && best + 8 >= lm_session_length(from)) {
        *out = b->idle[take].session;
        b->idle[take] = b->idle[--b->n_idle];
        lm_session_truncate(*out, best);
        return LOAM_OK;
    }
    enum loam_status s = lm_session_new(out, b->e, r->adapter, 0, &r->err);
    if (!s && from && best >= 8 && (best + GPU_KV_PAGE - 1) / GPU_KV_PAGE <= lm_engine_pages_left(b->e) &&
        lm_session_copy(*out, from, best, &r->err))
        lm_session_truncate(*out, 0); /* computed instead */
    return s;
}

/* ---- requests ---- */

static void finish(struct lm_batch *b, struct lm_request *r, enum loam_status s) {
    struct lm_sequence *q = r->sequence;
    if (q) {
        uint64_t now = clock_mono_us();
        r->answer.prefill_us = (q->first_us ? q->first_us : now) - q->start_us;
        r->answer.decode_us = q->first_us ? now - q->first_us : 0;
        gen_clear(&q->gen);
        if (q->session) {
            if (s == LOAM_OK)
                idle_keep(b, q->session);
            else
                lm_session_free(q->session);
        }
        mem_free(q);
        r->sequence = NULL;
    }
    r->begun = r->answer.ids.n > 0;
    if (s)
        lm_answer_clear(&r->answer);
    r->status = s;
    r->done = true;
}

static void remove_active(struct lm_batch *b, size_t i) {
    memmove(&b->active[i], &b->active[i + 1], (b->n_active - i - 1) * sizeof *b->active);
    b->n_active--;
}

/* Takes the next request from the queue into the batch. */
static void admit(struct lm_batch *b) {
    struct lm_request *r = b->queue;
    b->queue = r->next;
    if (!b->queue)
        b->queue_end = &b->queue;
    r->next = NULL;
    if (r->sequence) { /* it gave way earlier and comes back */
        enum loam_status s = lm_session_new(&r->sequence->session, b->e, r->adapter, 0, &r->err);
        if (s)
            finish(b, r, s);
        else
            b->active[b->n_active++] = r;
        return;
    }
    struct lm_sequence *q = mem_zalloc(sizeof *q);
    enum loam_status s = q ? gen_start(&q->gen, &r->answer, lm_engine_model(b->e), lm_engine_model(b->e)->config.context, r->prompt, r->n, &r->opt, &r->err)
                           : err_set(&r->err, LOAM_ENOMEM, "no memory for an answer");
    if (s) {
        mem_free(q);
        r->status = s;
        r->done = true;
        return;
    }
    r->sequence = q;
    q->start_us = clock_mono_us();
    s = session_for(b, r, &q->session);
    if (s) {
        finish(b, r, s);
        return;
    }
    r->answer.cached_tokens = lm_session_length(q->session);
    b->active[b->n_active++] = r;
}

/* The youngest answer gives its pages back and waits at the front of the queue. */
static void give_way(struct lm_batch *b) {
    struct lm_request *r = b->active[--b->n_active];
    lm_session_free(r->sequence->session);
    r->sequence->session = NULL;
    r->next = b->queue;
    if (!b->queue)
        b->queue_end = &r->next;
    b->queue = r;
}

static bool is_cancelled(const struct lm_request *r) {
    return r->opt.cancel && atomic_load_explicit(r->opt.cancel, memory_order_relaxed);
}

size_t lm_batch_step(struct lm_batch *b, const atomic_int *cancel) {
    struct lm_item items[LM_BATCH_MAX];
    struct lm_request *of[LM_BATCH_MAX];
    size_t n = 0;
    for (size_t i = b->n_active; i-- > 0;)
        if (is_cancelled(b->active[i])) {
            struct lm_request *r = b->active[i];
            remove_active(b, i);
            r->answer.stop = LM_STOP_CANCEL;
            finish(b, r, LOAM_OK);
        }
    while (b->queue && b->n_active < LM_BATCH_MAX) {
        /* Somebody must run; beyond that, only what leaves a page for each of the others. */
        uint64_t pages = (b->queue->n + GPU_KV_PAGE) / GPU_KV_PAGE;
        while (b->n_active && pages + b->n_active > lm_engine_pages_left(b->e) && idle_drop_oldest(b)) {
        }
        if (b->n_active && pages + b->n_active > lm_engine_pages_left(b->e))
            break;
        admit(b);
    }
    uint32_t prefill = LM_BATCH_PREFILL;
    uint64_t pages = 0;
    for (size_t i = 0; i < b->n_active; i++) {
        struct lm_request *r = b->active[i];
        struct lm_sequence *q = r->sequence;
        uint32_t at = lm_session_length(q->session), left = q->gen.seen.n - at, take = left;
        if (left > 1) {
            take = left < prefill ? left : prefill;
            prefill -= take;
        }
        if (!take)
            continue;
        uint64_t need = lm_session_pages_for(q->session, take);
        while (pages + need > lm_engine_pages_left(b->e) && idle_drop_oldest(b)) {
        }
        if (pages + need > lm_engine_pages_left(b->e)) {
            if (i + 1 < b->n_active) { /* a younger one gives way; this one is looked at again */
                give_way(b);
                i--;
                prefill += left > 1 ? take : 0;
                continue;
            }
            if (n == 0 && b->n_active == 1) { /* alone, and the whole budget is not enough */
                remove_active(b, i);
                finish(b, r, err_set(&r->err, LOAM_ELIMIT, "%u tokens do not fit the cache's budget (option model.cache)", q->gen.seen.n));
                break;
            }
            give_way(b);
            break;
        }
        pages += need;
        of[n] = r;
        items[n++] = (struct lm_item){.session = q->session, .tokens = q->gen.seen.ids + at, .n = take, .logits = take == left ? q->gen.logits : NULL};
    }
    if (!n)
        return lm_batch_open(b);
    struct err err;
    enum loam_status s = lm_step(b->e, items, n, cancel, &err);
    if (s == LOAM_ECANCEL)
        return lm_batch_open(b);
    for (size_t i = 0; i < n; i++) {
        struct lm_request *r = of[i];
        bool end = false;
        enum loam_status one = s;
        if (s)
            r->err = err;
        if (!s && items[i].logits) {
            if (!r->sequence->first_us)
                r->sequence->first_us = clock_mono_us();
            one = gen_next(&r->sequence->gen, b->work, &end);
        }
        if (one || end) {
            for (size_t j = 0; j < b->n_active; j++)
                if (b->active[j] == r) {
                    remove_active(b, j);
                    break;
                }
            finish(b, r, one);
        }
    }
    return lm_batch_open(b);
}

void lm_batch_free(struct lm_batch *b) {
    if (!b)
        return;
    while (b->n_active) {
        struct lm_request *r = b->active[--b->n_active];
        finish(b, r, err_set(&r->err, LOAM_ECANCEL, "the model is being closed"));
    }
    while (b->queue) {
        struct lm_request *r = b->queue;
        b->queue = r->next;
        finish(b, r, err_set(&r->err, LOAM_ECANCEL, "the model is being closed"));
    }
    lm_batch_forget(b, NULL, true);
    mem_free(b->work);
    mem_free(b);
}
