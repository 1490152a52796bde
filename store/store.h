/* The store: LMDB tables in DATA/store.
 *
 * Caveats first. One process a folder (the node's lock sees to that); never open twice; never use after fork; not on a
 * network disk. A read transaction that stays open keeps old pages from being reused and the file grows: so reads here
 * are short, and a callback of store_each must not wait for anything.
 *
 * Reads: any thread. Writes: one store thread does them all; writes that arrive while it works are committed together
 * (one fsync). A batch is atomic: all of it is durable when store_commit returns LOAM_OK, or nothing of it. Batches are
 * applied in the order in which they were handed over; a batch that fails does not touch its neighbours.
 *
 * Keys 1 to STORE_KEY_MAX bytes, values up to STORE_VALUE_MAX (larger things are blobs, blob.h).
 * Errors everywhere: LOAM_ENOSPACE disk full, LOAM_EIO, LOAM_ENOMEM, LOAM_EINVAL key size. After LOAM_ENOSPACE the store is
 * as it was before the batch and goes on working. */
#ifndef LOAM_STORE_STORE_H
#define LOAM_STORE_STORE_H

#include "base/bytes.h"

#include <stdbool.h>

#define STORE_FORMAT 1
#define STORE_KEY_MAX 500               /* LMDB's limit is 511 */
#define STORE_VALUE_MAX (16u << 20)
#define STORE_BATCH_MAX (64u << 20)     /* keys and values of one batch: what one job may hold in memory */
#define STORE_MAP_FIRST (256u << 20)    /* address space to begin with; doubled when full, the file grows only as used */

enum store_table {
#define T(name, text) TABLE_##name,
#include "store/tables.def"
#undef T
    TABLE_COUNT,
};
const char *store_table_name(enum store_table t);

struct store;

/* Opens or makes dir (0700). LOAM_EVERSION for a newer format (older ones are migrated), LOAM_EBUSY when another process
 * has it open. Starts the store thread. */
enum loam_status store_open(struct store **out, const char *dir, struct err *err) LOAM_MUST_USE;
/* Finishes what was handed over, ends the thread. NULL is fine. */
void store_close(struct store *s);

/* Replaces *out's content (out->max is the limit). LOAM_ENOTFOUND. */
enum loam_status store_get(struct store *s, enum store_table t, const void *key, size_t klen, struct buf *out, struct err *err) LOAM_MUST_USE;
/* LOAM_OK, LOAM_ENOTFOUND or an error. */
enum loam_status store_has(struct store *s, enum store_table t, const void *key, size_t klen, struct err *err) LOAM_MUST_USE;

/* key and value point into the map and are valid during the callback only, which must not call the store. */
struct store_item {
    const uint8_t *key, *value;
    size_t klen, vlen;
};
/* Return true to go on. */
typedef bool store_each_fn(void *ctx, const struct store_item *item);
/* Items whose key begins with prefix (plen 0: all), in key order, or backwards. `after` (NULL: none; alen bytes) starts behind
 * that key: for pages, so that no read lasts long. */
struct store_range {
    const void *prefix, *after;
    size_t plen, alen;
    bool backwards;
};
enum loam_status store_each(struct store *s, enum store_table t, const struct store_range *r, store_each_fn *fn, void *ctx,
                            struct err *err) LOAM_MUST_USE;
/* The highest key with this prefix, into key_out (replaced); LOAM_ENOTFOUND. value_out may be NULL. */
enum loam_status store_last(struct store *s, enum store_table t, const void *prefix, size_t plen, struct buf *key_out,
                            struct buf *value_out, struct err *err) LOAM_MUST_USE;

/* Lets go of the pages of the file that this process has mapped (they stay in the system's cache): they would count as its resident
 * memory, the whole file in the end. Any thread, any time; costs a fault for each page that is read again. */
void store_release(struct store *s);

/* A batch under construction: copies what it is given. Used by one thread. */
struct store_batch;
enum loam_status store_batch_new(struct store_batch **out, struct err *err) LOAM_MUST_USE;
void store_batch_free(struct store_batch *b);
enum loam_status store_batch_put(struct store_batch *b, enum store_table t, const void *key, size_t klen, const void *value,
                                 size_t vlen, struct err *err) LOAM_MUST_USE;
/* The batch fails with LOAM_EEXIST if the key is there. */
enum loam_status store_batch_put_new(struct store_batch *b, enum store_table t, const void *key, size_t klen, const void *value,
                                     size_t vlen, struct err *err) LOAM_MUST_USE;
/* The batch fails with LOAM_ESTATE unless the key holds exactly this value (value NULL: unless it is absent). */
enum loam_status store_batch_expect(struct store_batch *b, enum store_table t, const void *key, size_t klen, const void *value,
                                    size_t vlen, struct err *err) LOAM_MUST_USE;
/* A missing key is fine. */
enum loam_status store_batch_del(struct store_batch *b, enum store_table t, const void *key, size_t klen, struct err *err) LOAM_MUST_USE;
/* Every key with this prefix. */
enum loam_status store_batch_del_prefix(struct store_batch *b, enum store_table t, const void *prefix, size_t plen, struct err *err) LOAM_MUST_USE;

/* Hands the batch over (it is freed, also on failure) and waits until it is durable. Job threads only: it waits for the disk. */
enum loam_status store_commit(struct store *s, struct store_batch *b, struct err *err) LOAM_MUST_USE;
/* The same without waiting, for the loop: done (may be NULL) is called on the store thread with the result and must only pass
 * it on (uv_async, a queue). On any return value but LOAM_OK done is not called. The batch is freed. */
typedef void store_done_fn(void *ctx, enum loam_status st, const struct err *err);
enum loam_status store_commit_later(struct store *s, struct store_batch *b, store_done_fn *done, void *ctx, struct err *err) LOAM_MUST_USE;

/* One-entry batches, waiting. */
enum loam_status store_put(struct store *s, enum store_table t, const void *key, size_t klen, const void *value, size_t vlen,
                           struct err *err) LOAM_MUST_USE;
enum loam_status store_del(struct store *s, enum store_table t, const void *key, size_t klen, struct err *err) LOAM_MUST_USE;

/* For `disk` and `doctor`. */
struct store_use {
    uint64_t entries[TABLE_COUNT], bytes[TABLE_COUNT]; /* pages of each table, in bytes */
    uint64_t file_bytes, map_bytes;
};
enum loam_status store_usage(struct store *s, struct store_use *out, struct err *err) LOAM_MUST_USE;

/* Tests: the next n-th commit of the store thread fails as if the disk were full; 0 switches it off. */
void store_test_fail_commit(struct store *s, int n);
/* Tests: the map's size at the next store_open, so that growing can be seen; 0 gives STORE_MAP_FIRST back. */
void store_test_first_map(size_t bytes);

#endif
