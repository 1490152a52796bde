/* Blobs: files named by the keccak of their bytes, DATA/blobs/ab/cdef… (64 digits in all, 0600). A blob that is there is whole:
 * it is written to DATA/blobs/tmp, synced, and only then renamed to its name. Any thread; a writer belongs to one thread.
 * Errors everywhere: LOAM_ENOSPACE, LOAM_EIO, LOAM_ENOMEM. */
#ifndef LOAM_STORE_BLOB_H
#define LOAM_STORE_BLOB_H

#include "base/bytes.h"
#include "base/file.h"
#include "base/keccak.h"
#include "record/types.h"

#define BLOB_MAX (1ull << 36) /* 64 GiB: a full gradient store of a large model is below it */

struct blobs;

/* Makes the folders; removes what an earlier life left in tmp. */
enum loam_status blobs_open(struct blobs **out, const char *dir, struct err *err) LOAM_MUST_USE;
void blobs_close(struct blobs *b);

/* Streamed writing. */
struct blob_writer {
    struct blobs *blobs;
    char *path; /* in tmp */
    int fd;
    uint64_t len;
    struct keccak hash;
};
enum loam_status blob_begin(struct blob_writer *w, struct blobs *b, struct err *err) LOAM_MUST_USE;
/* After an error only blob_abandon is allowed. */
enum loam_status blob_write(struct blob_writer *w, const void *p, size_t n, struct err *err) LOAM_MUST_USE;
/* Gives the blob its name. If expected is not NULL and differs, nothing is kept: LOAM_EHASH. *out gets the hash (may be
 * NULL). Ends the writer in any case. A blob that is there already stays as it is. */
enum loam_status blob_finish(struct blob_writer *w, struct hash32 *out, const struct hash32 *expected, struct err *err) LOAM_MUST_USE;
void blob_abandon(struct blob_writer *w);

enum loam_status blob_put(struct blobs *b, struct hash32 *out, const void *p, size_t n, struct err *err) LOAM_MUST_USE;
/* A file's bytes, copied in. */
enum loam_status blob_put_file(struct blobs *b, struct hash32 *out, const char *path, struct err *err) LOAM_MUST_USE;
bool blob_has(struct blobs *b, const struct hash32 *h);
/* LOAM_ENOTFOUND. */
enum loam_status blob_size(struct blobs *b, const struct hash32 *h, uint64_t *out, struct err *err) LOAM_MUST_USE;
/* The whole blob, its hash checked (LOAM_EHASH; the bad file is moved aside to tmp so that it can be fetched again). */
enum loam_status blob_get(struct blobs *b, const struct hash32 *h, struct buf *out, struct err *err) LOAM_MUST_USE;
/* n bytes from offset into out, fewer at the end (*got); the hash is not checked: for ranges of an API. */
enum loam_status blob_range(struct blobs *b, const struct hash32 *h, uint64_t offset, void *out, size_t n, size_t *got,
                            struct err *err) LOAM_MUST_USE;
/* Mapped; check: hash it first (reads all of it). file_unmap it. */
enum loam_status blob_map(struct blobs *b, const struct hash32 *h, bool check, struct file_map *out, struct err *err) LOAM_MUST_USE;
/* A missing blob is fine. */
enum loam_status blob_del(struct blobs *b, const struct hash32 *h, struct err *err) LOAM_MUST_USE;
/* The path it has, for programs that take a file (mem_free). NULL without memory. */
char *blob_path(struct blobs *b, const struct hash32 *h);
/* Return true to go on. */
typedef bool blob_each_fn(void *ctx, const struct hash32 *h, uint64_t size);
enum loam_status blob_each(struct blobs *b, blob_each_fn *fn, void *ctx, struct err *err) LOAM_MUST_USE;

#endif
