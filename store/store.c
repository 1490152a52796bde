#include "store/store.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/banned.h"

/* Readers at once: job threads, the API's, the loop. LMDB's own limit is 126. */
enum { READERS_MAX = 512 };
/* Batches that share one commit: bounds how long the first of them waits and how large a transaction grows. */
enum { GROUP_MAX = 256 };

static const char *const names[TABLE_COUNT] = {
#define T(name, text) text,
#include "store/tables.def"
#undef T
};

const char *store_table_name(enum store_table t) {
    return t < TABLE_COUNT ? names[t] : "?";
}

enum op { OP_PUT, OP_PUT_NEW, OP_EXPECT, OP_EXPECT_NONE, OP_DEL, OP_DEL_PREFIX };

/* Operations one behind the other: op (1), table (1), key length (2, le), value length (4, le), key, value. */
struct store_batch {
    struct buf ops;
};
enum { OP_HEAD = 8 };

struct request {
    struct request *next;
    struct store_batch *batch;
    store_done_fn *done; /* NULL with waits false: nobody is told */
    void *ctx;
    bool waits, finished; /* finished: under the store's lock */
    enum loam_status st;
    struct err err;
};

struct store {
    MDB_env *env;
    MDB_dbi dbi[TABLE_COUNT];
    int lock_fd;
    char *dir;
    size_t map_bytes; /* store thread only, after the start */
    /* Read transactions hold it shared; growing the map, which moves it, holds it alone. */
    pthread_rwlock_t map_lock;
    pthread_mutex_t lock; /* all below */
    pthread_cond_t arrived, finished;
    struct request *first, **last;
    bool stop;
    int fail_commit; /* tests */
    pthread_t thread;
    bool started;
};

static size_t first_map = STORE_MAP_FIRST;

void store_test_first_map(size_t bytes) {
    first_map = bytes ? bytes : STORE_MAP_FIRST;
}

static enum loam_status mdb_error(struct err *err, int rc, const char *what) {
    enum loam_status st = rc == ENOSPC || rc == EDQUOT || rc == EFBIG ? LOAM_ENOSPACE
                          : rc == ENOMEM || rc == MDB_MAP_FULL ? LOAM_ENOMEM
                          : rc == MDB_VERSION_MISMATCH         ? LOAM_EVERSION
                          : rc == MDB_READERS_FULL             ? LOAM_EBUSY
                                                                : LOAM_EIO;
    return err_set(err, st, "store: cannot %s: %s", what, mdb_strerror(rc));
}

/* ---- batches ---- */

enum loam_status store_batch_new(struct store_batch **out, struct err *err) {
    struct store_batch *b = mem_zalloc(sizeof *b);
    if (!b)
        return err_set(err, LOAM_ENOMEM, "store: a batch");
    buf_init(&b->ops, STORE_BATCH_MAX);
    *out = b;
    return LOAM_OK;
}

void store_batch_free(struct store_batch *b) {
    if (!b)
        return;
    buf_clear(&b->ops);
    mem_free(b);
}

static enum loam_status add_op(struct store_batch *b, enum op op, enum store_table t, const void *key, size_t klen, const void *value,
                               size_t vlen, struct err *err) {
    LOAM_ASSERT(t < TABLE_COUNT);
    if (klen > STORE_KEY_MAX || (!klen && op != OP_DEL_PREFIX))
        return err_set(err, LOAM_EINVAL, "store: a key of %zu bytes, from 1 to %d allowed", klen, STORE_KEY_MAX);
    if (vlen > STORE_VALUE_MAX)
        return err_set(err, LOAM_ELIMIT, "store: a value of %zu bytes in table %s, at most %u (blobs take more)", vlen,
                       names[t], STORE_VALUE_MAX);
    uint8_t head[OP_HEAD] = {(uint8_t)op, (uint8_t)t, (uint8_t)klen, (uint8_t)(klen >> 8)};
    put_le32(head + 4, (uint32_t)vlen);
    enum loam_status st = buf_reserve(&b->ops, OP_HEAD + klen + vlen, err);
    if (!st && !(st = buf_add(&b->ops, head, OP_HEAD, err)) && !(st = buf_add(&b->ops, key, klen, err)))
        st = buf_add(&b->ops, value, vlen, err);
    return st;
}

enum loam_status store_batch_put(struct store_batch *b, enum store_table t, const void *key, size_t klen, const void *value,
                                 size_t vlen, struct err *err) {
    return add_op(b, OP_PUT, t, key, klen, value, vlen, err);
}

enum loam_status store_batch_put_new(struct store_batch *b, enum store_table t, const void *key, size_t klen, const void *value,
                                     size_t vlen, struct err *err) {
    return add_op(b, OP_PUT_NEW, t, key, klen, value, vlen, err);
}

enum loam_status store_batch_expect(struct store_batch *b, enum store_table t, const void *key, size_t klen, const void *value,
                                    size_t vlen, struct err *err) {
    return add_op(b, value ? OP_EXPECT : OP_EXPECT_NONE, t, key, klen, value, value ? vlen : 0, err);
}

enum loam_status store_batch_del(struct store_batch *b, enum store_table t, const void *key, size_t klen, struct err *err) {
    return add_op(b, OP_DEL, t, key, klen, NULL, 0, err);
}

enum loam_status store_batch_del_prefix(struct store_batch *b, enum store_table t, const void *prefix, size_t plen, struct err *err) {
    return add_op(b, OP_DEL_PREFIX, t, prefix, plen, NULL, 0, err);
}

/* ---- the store thread ---- */

static bool has_prefix(const MDB_val *key, const void *prefix, size_t plen) {
    return key->mv_size >= plen && (!plen || !memcmp(key->mv_data, prefix, plen));
}

static int del_prefix(MDB_txn *txn, MDB_dbi dbi, const MDB_val *prefix) {
    MDB_cursor *cur;
    int rc = mdb_cursor_open(txn, dbi, &cur);
    if (rc)
        return rc;
    /* Sought anew each time: where a cursor stands after it deleted the last entry of a page is no contract of LMDB's. */
    for (;;) {
        MDB_val k = *prefix, v;
        rc = mdb_cursor_get(cur, &k, &v, prefix->mv_size ? MDB_SET_RANGE : MDB_FIRST);
        if (rc || !has_prefix(&k, prefix->mv_data, prefix->mv_size) || (rc = mdb_cursor_del(cur, 0)))
            break;
    }
    mdb_cursor_close(cur);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* Applies a batch. *rc carries LMDB's own errors (MDB_MAP_FULL is the caller's business). */
static enum loam_status apply(struct store *s, MDB_txn *txn, const struct store_batch *b, int *rc, struct err *err) {
    *rc = 0;
    for (size_t at = 0; at < b->ops.len;) {
        const uint8_t *h = b->ops.data + at;
        enum op op = h[0];
        enum store_table t = h[1];
        size_t klen = h[2] | (size_t)h[3] << 8, vlen = le32(h + 4);
        MDB_val k = {klen, (void *)(h + OP_HEAD)}, v = {vlen, (void *)(h + OP_HEAD + klen)}, old;
        at += OP_HEAD + klen + vlen;
        switch (op) {
        case OP_PUT:
            *rc = mdb_put(txn, s->dbi[t], &k, &v, 0);
            break;
        case OP_PUT_NEW:
            *rc = mdb_put(txn, s->dbi[t], &k, &v, MDB_NOOVERWRITE);
            if (*rc == MDB_KEYEXIST)
                return err_set(err, LOAM_EEXIST, "store: the key is there already in table %s", names[t]);
            break;
        case OP_EXPECT:
        case OP_EXPECT_NONE:
            *rc = mdb_get(txn, s->dbi[t], &k, &old);
            if (*rc && *rc != MDB_NOTFOUND)
                break;
            bool same = op == OP_EXPECT_NONE ? *rc == MDB_NOTFOUND
                                             : !*rc && old.mv_size == vlen && (!vlen || !memcmp(old.mv_data, v.mv_data, vlen));
            if (!same)
                return err_set(err, LOAM_ESTATE, "store: another value than expected in table %s", names[t]);
            *rc = 0;
            break;
        case OP_DEL:
            *rc = mdb_del(txn, s->dbi[t], &k, NULL);
            if (*rc == MDB_NOTFOUND)
                *rc = 0;
            break;
        case OP_DEL_PREFIX:
            *rc = del_prefix(txn, s->dbi[t], &k);
            break;
        }
        if (*rc)
            return mdb_error(err, *rc, "write");
    }
    return LOAM_OK;
}

static int grow(struct store *s) {
    size_t bytes = s->map_bytes * 2;
    if (bytes < s->map_bytes || bytes > (size_t)1 << 46) /* past any disk and half of a process's address space */
        return MDB_MAP_FULL;
    pthread_rwlock_wrlock(&s->map_lock);
    int rc = mdb_env_set_mapsize(s->env, bytes);
    pthread_rwlock_unlock(&s->map_lock);
    if (!rc)
        s->map_bytes = bytes;
    return rc;
}

void store_release(struct store *s) {
    /* Where LMDB has put the map it does not tell: found by the file's device and inode. */
    struct stat st;
    mdb_filehandle_t fd;
    char line[512];
    pthread_rwlock_rdlock(&s->map_lock);
    FILE *f = !mdb_env_get_fd(s->env, &fd) && !fstat(fd, &st) ? fopen("/proc/self/maps", "re") : NULL;
    while (f && fgets(line, sizeof line, f)) {
        unsigned long long from, to, offset, inode;
        if (sscanf(line, "%llx-%llx %*s %llx %*s %llu", &from, &to, &offset, &inode) == 4 && inode == (unsigned long long)st.st_ino && strstr(line, "data.mdb") &&
            madvise((void *)(uintptr_t)from, (size_t)(to - from), MADV_DONTNEED))
            break; /* advice only */
    }
    if (f)
        fclose(f);
    pthread_rwlock_unlock(&s->map_lock);
}

static void fail_all(struct request *first, int rc, const char *what) {
    for (struct request *r = first; r; r = r->next)
        if (!r->st)
            r->st = mdb_error(&r->err, rc, what);
}

/* One transaction for the whole group; each batch nested in it, so that one that fails leaves the others alone. */
static void commit_group(struct store *s, struct request *first) {
    MDB_txn *txn, *nested;
    int rc;
again:
    for (struct request *r = first; r; r = r->next)
        r->st = LOAM_OK;
    if ((rc = mdb_txn_begin(s->env, NULL, 0, &txn))) {
        fail_all(first, rc, "begin a write");
        return;
    }
    for (struct request *r = first; r; r = r->next) {
        if ((rc = mdb_txn_begin(s->env, txn, 0, &nested))) {
            r->st = mdb_error(&r->err, rc, "begin a write");
            continue;
        }
        r->st = apply(s, nested, r->batch, &rc, &r->err);
        if (r->st)
            mdb_txn_abort(nested);
        else if ((rc = mdb_txn_commit(nested)))
            r->st = mdb_error(&r->err, rc, "write");
        if (rc == MDB_MAP_FULL) {
            mdb_txn_abort(txn);
            if ((rc = grow(s))) {
                fail_all(first, rc, "grow");
                return;
            }
            goto again;
        }
    }
    pthread_mutex_lock(&s->lock);
    bool fail = s->fail_commit && !--s->fail_commit;
    pthread_mutex_unlock(&s->lock);
    if (fail) {
        mdb_txn_abort(txn);
        rc = ENOSPC;
    } else {
        rc = mdb_txn_commit(txn);
    }
    if (rc == MDB_MAP_FULL && !(rc = grow(s)))
        goto again;
    if (rc)
        fail_all(first, rc, "commit");
}

static void *run(void *arg) {
    struct store *s = arg;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->first && !s->stop)
            pthread_cond_wait(&s->arrived, &s->lock);
        if (!s->first)
            break;
        struct request *group = s->first, *end = group;
        for (int n = 1; n < GROUP_MAX && end->next; n++)
            end = end->next;
        s->first = end->next;
        if (!s->first)
            s->last = &s->first;
        end->next = NULL;
        pthread_mutex_unlock(&s->lock);
        commit_group(s, group);
        for (struct request *r = group; r; r = r->next) {
            store_batch_free(r->batch);
            r->batch = NULL;
            if (r->done)
                r->done(r->ctx, r->st, &r->err);
        }
        pthread_mutex_lock(&s->lock);
        for (struct request *r = group, *next; r; r = next) {
            next = r->next;
            if (r->waits)
                r->finished = true; /* on the waiter's stack: not ours after the broadcast */
            else
                mem_free(r);
        }
        pthread_cond_broadcast(&s->finished);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static enum loam_status hand_over(struct store *s, struct request *r, struct err *err) {
    if (s->stop)
        return err_set(err, LOAM_ESTATE, "store: it is being closed");
    r->next = NULL;
    *s->last = r;
    s->last = &r->next;
    pthread_cond_signal(&s->arrived);
    return LOAM_OK;
}

enum loam_status store_commit(struct store *s, struct store_batch *b, struct err *err) {
    struct request r = {.batch = b, .waits = true};
    pthread_mutex_lock(&s->lock);
    enum loam_status st = hand_over(s, &r, err);
    while (!st && !r.finished)
        pthread_cond_wait(&s->finished, &s->lock);
    pthread_mutex_unlock(&s->lock);
    if (st) {
        store_batch_free(b);
        return st;
    }
    if (r.st && err)
        *err = r.err;
    return r.st;
}

enum loam_status store_commit_later(struct store *s, struct store_batch *b, store_done_fn *done, void *ctx, struct err *err) {
    struct request *r = mem_zalloc(sizeof *r);
    if (!r) {
        store_batch_free(b);
        return err_set(err, LOAM_ENOMEM, "store: a request");
    }
    *r = (struct request){.batch = b, .done = done, .ctx = ctx};
    pthread_mutex_lock(&s->lock);
    enum loam_status st = hand_over(s, r, err);
    pthread_mutex_unlock(&s->lock);
    if (st) {
        store_batch_free(b);
        mem_free(r);
    }
    return st;
}

static enum loam_status one(struct store *s, enum op op, enum store_table t, const void *key, size_t klen, const void *value,
                            size_t vlen, struct err *err) {
    struct store_batch *b = NULL;
    enum loam_status st = store_batch_new(&b, err);
    if (st)
        return st;
    if ((st = add_op(b, op, t, key, klen, value, vlen, err))) {
        store_batch_free(b);
        return st;
    }
    return store_commit(s, b, err);
}

enum loam_status store_put(struct store *s, enum store_table t, const void *key, size_t klen, const void *value, size_t vlen,
                           struct err *err) {
    return one(s, OP_PUT, t, key, klen, value, vlen, err);
}

enum loam_status store_del(struct store *s, enum store_table t, const void *key, size_t klen, struct err *err) {
    return one(s, OP_DEL, t, key, klen, NULL, 0, err);
}

void store_test_fail_commit(struct store *s, int n) {
    pthread_mutex_lock(&s->lock);
    s->fail_commit = n;
    pthread_mutex_unlock(&s->lock);
}

/* ---- reads ---- */

static enum loam_status read_begin(struct store *s, MDB_txn **txn, struct err *err) {
    pthread_rwlock_rdlock(&s->map_lock);
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, txn);
    if (!rc)
        return LOAM_OK;
    pthread_rwlock_unlock(&s->map_lock);
    return mdb_error(err, rc, "begin a read");
}

static void read_end(struct store *s, MDB_txn *txn) {
    mdb_txn_abort(txn);
    pthread_rwlock_unlock(&s->map_lock);
}

static enum loam_status check_key(size_t klen, struct err *err) {
    if (!klen || klen > STORE_KEY_MAX)
        return err_set(err, LOAM_EINVAL, "store: a key of %zu bytes, from 1 to %d allowed", klen, STORE_KEY_MAX);
    return LOAM_OK;
}

static enum loam_status get(struct store *s, enum store_table t, const void *key, size_t klen, struct buf *out, struct err *err) {
    LOAM_ASSERT(t < TABLE_COUNT);
    MDB_txn *txn;
    enum loam_status st = check_key(klen, err);
    if (st || (st = read_begin(s, &txn, err)))
        return st;
    MDB_val k = {klen, (void *)key}, v;
    int rc = mdb_get(txn, s->dbi[t], &k, &v);
    if (rc == MDB_NOTFOUND)
        st = err_set(err, LOAM_ENOTFOUND, "store: no such entry in table %s", names[t]);
    else if (rc)
        st = mdb_error(err, rc, "read");
    else if (out) {
        buf_reset(out);
        st = buf_add(out, v.mv_data, v.mv_size, err);
    }
    read_end(s, txn);
    return st;
}

enum loam_status store_get(struct store *s, enum store_table t, const void *key, size_t klen, struct buf *out, struct err *err) {
    return get(s, t, key, klen, out, err);
}

enum loam_status store_has(struct store *s, enum store_table t, const void *key, size_t klen, struct err *err) {
    return get(s, t, key, klen, NULL, err);
}

/* The cursor at the last key below everything that begins with `bound` and more, i.e. at the last key with the prefix, or
 * before it: the first key behind the prefix, then one back. */
static int seek_last(MDB_cursor *cur, const uint8_t *prefix, size_t plen, MDB_val *k, MDB_val *v) {
    uint8_t next[STORE_KEY_MAX];
    if (plen)
        memcpy(next, prefix, plen);
    while (plen && next[plen - 1] == 0xff)
        plen--;
    if (!plen)
        return mdb_cursor_get(cur, k, v, MDB_LAST);
    next[plen - 1]++;
    *k = (MDB_val){plen, next};
    int rc = mdb_cursor_get(cur, k, v, MDB_SET_RANGE);
    return rc == MDB_NOTFOUND ? mdb_cursor_get(cur, k, v, MDB_LAST) : rc ? rc : mdb_cursor_get(cur, k, v, MDB_PREV);
}

static int seek(MDB_cursor *cur, const struct store_range *r, MDB_val *k, MDB_val *v) {
    MDB_val after = {r->alen, (void *)r->after};
    int rc;
    if (!r->backwards) {
        if (!r->after) {
            *k = (MDB_val){r->plen, (void *)r->prefix};
            return mdb_cursor_get(cur, k, v, r->plen ? MDB_SET_RANGE : MDB_FIRST);
        }
        *k = after;
        rc = mdb_cursor_get(cur, k, v, MDB_SET_RANGE);
        if (!rc && k->mv_size == r->alen && !memcmp(k->mv_data, r->after, r->alen))
            rc = mdb_cursor_get(cur, k, v, MDB_NEXT);
        return rc;
    }
    if (!r->after)
        return seek_last(cur, r->prefix, r->plen, k, v);
    *k = after;
    rc = mdb_cursor_get(cur, k, v, MDB_SET_RANGE);
    return rc == MDB_NOTFOUND ? mdb_cursor_get(cur, k, v, MDB_LAST) : rc ? rc : mdb_cursor_get(cur, k, v, MDB_PREV);
}

enum loam_status store_each(struct store *s, enum store_table t, const struct store_range *range, store_each_fn *fn, void *ctx,
                            struct err *err) {
    LOAM_ASSERT(t < TABLE_COUNT);
    static const struct store_range all;
    const struct store_range *r = range ? range : &all;
    if (r->plen > STORE_KEY_MAX || (r->after && (!r->alen || r->alen > STORE_KEY_MAX)))
        return err_set(err, LOAM_EINVAL, "store: a range by keys that are too long");
    MDB_txn *txn;
    MDB_cursor *cur;
    enum loam_status st = read_begin(s, &txn, err);
    if (st)
        return st;
    int rc = mdb_cursor_open(txn, s->dbi[t], &cur);
    if (rc) {
        read_end(s, txn);
        return mdb_error(err, rc, "read");
    }
    MDB_val k, v;
    rc = seek(cur, r, &k, &v);
    while (!rc && has_prefix(&k, r->prefix, r->plen)) {
        struct store_item item = {k.mv_data, v.mv_data, k.mv_size, v.mv_size};
        if (!fn(ctx, &item))
            break;
        rc = mdb_cursor_get(cur, &k, &v, r->backwards ? MDB_PREV : MDB_NEXT);
    }
    mdb_cursor_close(cur);
    read_end(s, txn);
    return rc && rc != MDB_NOTFOUND ? mdb_error(err, rc, "read") : LOAM_OK;
}

struct last {
    struct buf *key, *value;
    struct err *err;
    enum loam_status st;
};

static bool take_last(void *ctx, const struct store_item *item) {
    struct last *l = ctx;
    buf_reset(l->key);
    l->st = buf_add(l->key, item->key, item->klen, l->err);
    if (!l->st && l->value) {
        buf_reset(l->value);
        l->st = buf_add(l->value, item->value, item->vlen, l->err);
    }
    return false;
}

enum loam_status store_last(struct store *s, enum store_table t, const void *prefix, size_t plen, struct buf *key_out,
                            struct buf *value_out, struct err *err) {
    struct last l = {key_out, value_out, err, LOAM_ENOTFOUND};
    struct store_range r = {.prefix = prefix, .plen = plen, .backwards = true};
    enum loam_status st = store_each(s, t, &r, take_last, &l, err);
    if (!st && l.st == LOAM_ENOTFOUND)
        return err_set(err, LOAM_ENOTFOUND, "store: no such entry in table %s", names[t]);
    return st ? st : l.st;
}

enum loam_status store_usage(struct store *s, struct store_use *out, struct err *err) {
    MDB_txn *txn;
    MDB_envinfo info;
    MDB_stat stat;
    memset(out, 0, sizeof *out);
    enum loam_status st = read_begin(s, &txn, err);
    if (st)
        return st;
    int rc = mdb_env_info(s->env, &info);
    for (int i = 0; !rc && i < TABLE_COUNT; i++)
        if (!(rc = mdb_stat(txn, s->dbi[i], &stat))) {
            out->entries[i] = stat.ms_entries;
            out->bytes[i] = (uint64_t)stat.ms_psize * (stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages);
            out->file_bytes = (uint64_t)stat.ms_psize * (info.me_last_pgno + 1);
            out->map_bytes = info.me_mapsize;
        }
    read_end(s, txn);
    return rc ? mdb_error(err, rc, "read its figures") : LOAM_OK;
}

/* ---- life ---- */

/* Makes the tables and checks the format number. */
static enum loam_status prepare(struct store *s, struct err *err) {
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc)
        return mdb_error(err, rc, "begin");
    for (int i = 0; !rc && i < TABLE_COUNT; i++)
        rc = mdb_dbi_open(txn, names[i], MDB_CREATE, &s->dbi[i]);
    MDB_val k = {6, (void *)"format"}, v;
    uint8_t number[4];
    if (!rc && (rc = mdb_get(txn, s->dbi[TABLE_META], &k, &v)) == MDB_NOTFOUND) {
        put_be32(number, STORE_FORMAT);
        v = (MDB_val){4, number};
        rc = mdb_put(txn, s->dbi[TABLE_META], &k, &v, 0);
    } else if (!rc) {
        /* Format 1 is the first; a later one brings its migration from the one before here. */
        uint32_t found = v.mv_size == 4 ? be32(v.mv_data) : 0;
        if (found != STORE_FORMAT) {
            mdb_txn_abort(txn);
            return err_set(err, LOAM_EVERSION, "store %s has format %u; this program knows format %d: use the program that made it, or a newer one",
                           s->dir, found, STORE_FORMAT);
        }
    }
    if (rc) {
        mdb_txn_abort(txn);
        return mdb_error(err, rc, "make its tables");
    }
    rc = mdb_txn_commit(txn);
    return rc ? mdb_error(err, rc, "commit its tables") : LOAM_OK;
}

/* LMDB found pages that contradict each other. It aborts after this; what it says by itself names no file. */
static void damaged(MDB_env *env, const char *what) {
    const char *dir = "";
    (void)!mdb_env_get_path(env, &dir);
    log_error("store", "%s/data.mdb is damaged (%s): put a copy of it back, or move it away to begin anew; keys and blobs lie elsewhere", dir, what);
}

static enum loam_status open_env(struct store *s, struct err *err) {
    char *path = mem_printf("%s/lock", s->dir);
    if (!path)
        return err_set(err, LOAM_ENOMEM, "store: a path");
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    enum loam_status st = LOAM_OK;
    if (s->lock_fd < 0)
        st = err_errno(err, LOAM_EIO, "store: cannot open %s", path);
    else if (flock(s->lock_fd, LOCK_EX | LOCK_NB))
        st = errno == EWOULDBLOCK ? err_set(err, LOAM_EBUSY, "store %s is open in another process", s->dir)
                                  : err_errno(err, LOAM_EIO, "store: cannot lock %s", path);
    mem_free(path);
    if (st)
        return st;
    int rc = mdb_env_create(&s->env);
    if (rc)
        return mdb_error(err, rc, "begin");
    s->map_bytes = first_map;
    if ((rc = mdb_env_set_maxdbs(s->env, TABLE_COUNT)) || (rc = mdb_env_set_maxreaders(s->env, READERS_MAX)) ||
        (rc = mdb_env_set_mapsize(s->env, s->map_bytes)) ||
        /* NOTLS: a read belongs to its transaction, not to a thread, and threads come and go here. */
        (rc = mdb_env_set_assert(s->env, damaged)) || (rc = mdb_env_open(s->env, s->dir, MDB_NOTLS | MDB_NORDAHEAD, 0600))) {
        if (rc == MDB_INVALID || rc == MDB_CORRUPTED)
            return err_set(err, LOAM_EIO, "%s/data.mdb is damaged (%s): put a copy of it back, or move it away to begin anew; keys and blobs lie elsewhere",
                           s->dir, mdb_strerror(rc));
        return mdb_error(err, rc, "open");
    }
    /* A file larger than the size asked for opens with its own size. */
    MDB_envinfo info;
    if ((rc = mdb_env_info(s->env, &info)))
        return mdb_error(err, rc, "read its figures");
    s->map_bytes = info.me_mapsize;
    return LOAM_OK;
}

enum loam_status store_open(struct store **out, const char *dir, struct err *err) {
    enum loam_status st = file_mkdirs(dir, err);
    if (st)
        return st;
    struct store *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(err, LOAM_ENOMEM, "store");
    s->lock_fd = -1;
    s->last = &s->first;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->arrived, NULL);
    pthread_cond_init(&s->finished, NULL);
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    /* Many short readers must not keep the map from growing. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&s->map_lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    if (!(s->dir = mem_strdup(dir)))
        st = err_set(err, LOAM_ENOMEM, "store: a path");
    if (!st && !(st = open_env(s, err)) && !(st = prepare(s, err))) {
        /* Signals belong to the loop's thread. */
        sigset_t all, old;
        sigfillset(&all);
        sigdelset(&all, SIGBUS); /* a fault of the thread itself, which only it can take */
        pthread_sigmask(SIG_SETMASK, &all, &old);
        int rc = pthread_create(&s->thread, NULL, run, s);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        s->started = !rc;
        if (rc)
            st = err_set(err, LOAM_ENOMEM, "store: cannot start its thread: %s", mdb_strerror(rc));
    }
    if (st) {
        store_close(s);
        return st;
    }
    *out = s;
    return LOAM_OK;
}

void store_close(struct store *s) {
    if (!s)
        return;
    if (s->started) {
        pthread_mutex_lock(&s->lock);
        s->stop = true;
        pthread_cond_signal(&s->arrived);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
    }
    if (s->env)
        mdb_env_close(s->env);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    pthread_rwlock_destroy(&s->map_lock);
    pthread_cond_destroy(&s->finished);
    pthread_cond_destroy(&s->arrived);
    pthread_mutex_destroy(&s->lock);
    mem_free(s->dir);
    mem_free(s);
}
