/* chain_store in memory: for tests and for looking at a chain without a data folder. */
#include "net/chain.h"

#include "base/mem.h"

#include <string.h>

#include "base/banned.h"

struct kv {
    struct kv *next;
    char *key;
    void *p;
    size_t n;
};
struct memory {
    uv_mutex_t lock;
    struct header *h; /* canonical, numbers base, base + 1, … */
    size_t n, cap;
    uint64_t base;
    size_t most; /* 0: all are kept */
    struct kv *kv;
};

static enum loam_status m_apply(void *ctx, uint64_t first, const struct header *h, size_t n, struct err *err) {
    struct memory *m = ctx;
    enum loam_status s = LOAM_OK;
    uv_mutex_lock(&m->lock);
    if (m->n && first < m->base)
        m->n = 0;
    else if (m->n && first - m->base < m->n)
        m->n = (size_t)(first - m->base);
    if (n && !m->n)
        m->base = first;
    if (m->most && m->n + n > 2 * m->most && m->n > m->most) { /* the oldest go */
        size_t go = m->n - m->most;
        memmove(m->h, m->h + go, m->most * sizeof *m->h);
        m->base += go;
        m->n = m->most;
    }
    if (n && first != m->base + m->n) {
        s = err_set(err, LOAM_EINVAL, "headers from %llu leave a gap", (unsigned long long)first);
    } else if (m->n + n > m->cap) {
        size_t cap = m->cap ? 2 * m->cap : 64;
        while (cap < m->n + n)
            cap *= 2;
        struct header *x = mem_resize(m->h, cap, sizeof *x);
        if (!x) {
            s = err_set(err, LOAM_ENOMEM, "headers");
        } else {
            m->h = x;
            m->cap = cap;
        }
    }
    if (!s && n) {
        memcpy(m->h + m->n, h, n * sizeof *h);
        m->n += n;
    }
    uv_mutex_unlock(&m->lock);
    return s;
}

static enum loam_status m_by_number(void *ctx, struct header *out, uint64_t number, struct err *err) {
    struct memory *m = ctx;
    uv_mutex_lock(&m->lock);
    bool ok = m->n && number >= m->base && number - m->base < m->n;
    if (ok)
        *out = m->h[number - m->base];
    uv_mutex_unlock(&m->lock);
    return ok ? LOAM_OK : err_set(err, LOAM_ENOTFOUND, "block %llu is not known", (unsigned long long)number);
}

static enum loam_status m_by_hash(void *ctx, struct header *out, const struct hash32 *hash, struct err *err) {
    struct memory *m = ctx;
    bool ok = false;
    uv_mutex_lock(&m->lock);
    for (size_t i = m->n; i-- && !ok;)
        if (hash_eq(&m->h[i].hash, hash)) {
            *out = m->h[i];
            ok = true;
        }
    uv_mutex_unlock(&m->lock);
    return ok ? LOAM_OK : err_set(err, LOAM_ENOTFOUND, "the block is not known");
}

static enum loam_status m_tip(void *ctx, struct header *out, struct err *err) {
    struct memory *m = ctx;
    uv_mutex_lock(&m->lock);
    bool ok = m->n;
    if (ok)
        *out = m->h[m->n - 1];
    uv_mutex_unlock(&m->lock);
    return ok ? LOAM_OK : err_set(err, LOAM_ENOTFOUND, "no block is known yet");
}

static enum loam_status m_put(void *ctx, const char *key, const void *p, size_t n, struct err *err) {
    struct memory *m = ctx;
    struct kv *k;
    void *copy = mem_dup(p, n);
    if (!copy)
        return err_set(err, LOAM_ENOMEM, "chain store");
    uv_mutex_lock(&m->lock);
    for (k = m->kv; k && strcmp(k->key, key); k = k->next)
        ;
    if (!k && (k = mem_zalloc(sizeof *k))) {
        k->key = mem_strdup(key);
        k->next = m->kv;
        if (k->key) {
            m->kv = k;
        } else {
            mem_free(k);
            k = NULL;
        }
    }
    if (k) {
        mem_free(k->p);
        k->p = copy;
        k->n = n;
    }
    uv_mutex_unlock(&m->lock);
    if (!k)
        mem_free(copy);
    return k ? LOAM_OK : err_set(err, LOAM_ENOMEM, "chain store");
}

static enum loam_status m_get(void *ctx, struct buf *out, const char *key, struct err *err) {
    struct memory *m = ctx;
    struct kv *k;
    enum loam_status s;
    uv_mutex_lock(&m->lock);
    for (k = m->kv; k && strcmp(k->key, key); k = k->next)
        ;
    s = k ? buf_add(out, k->p, k->n, err) : err_set(err, LOAM_ENOTFOUND, "%s is not there", key);
    uv_mutex_unlock(&m->lock);
    return s;
}

enum loam_status chain_store_memory(struct chain_store *out, struct err *err) {
    return chain_store_memory_most(out, 0, err);
}

enum loam_status chain_store_memory_most(struct chain_store *out, size_t most, struct err *err) {
    struct memory *m = mem_zalloc(sizeof *m);
    if (!m)
        return err_set(err, LOAM_ENOMEM, "chain store");
    if (uv_mutex_init(&m->lock))
        loam_abort(__FILE__, __LINE__, "mutex");
    m->most = most;
    *out = (struct chain_store){m, m_apply, m_by_number, m_by_hash, m_tip, m_put, m_get};
    return LOAM_OK;
}

void chain_store_memory_free(struct chain_store *s) {
    struct memory *m = s->ctx;
    if (!m)
        return;
    while (m->kv) {
        struct kv *k = m->kv;
        m->kv = k->next;
        mem_free(k->key);
        mem_free(k->p);
        mem_free(k);
    }
    mem_free(m->h);
    uv_mutex_destroy(&m->lock);
    mem_free(m);
    s->ctx = NULL;
}
