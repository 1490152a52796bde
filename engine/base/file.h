/* Files: whole reads with a limit, atomic writes, folders. Failures of the disk can be injected by tests. */
#ifndef LOAM_BASE_FILE_H
#define LOAM_BASE_FILE_H

#include "base/bytes.h"

#include <stdbool.h>

/* The whole file into out (whose max is the limit). */
enum loam_status file_read(struct buf *out, const char *path, struct err *err) LOAM_MUST_USE;
/* Writes beside the target, fsyncs, renames over it: after a crash the old or the new content is there, never half.
 * mode as for open(2), e.g. 0600. */
enum loam_status file_write(const char *path, const void *p, size_t n, unsigned mode, struct err *err) LOAM_MUST_USE;
/* Makes path and its missing parents, 0700. */
enum loam_status file_mkdirs(const char *path, struct err *err) LOAM_MUST_USE;
bool file_exists(const char *path);

/* A file mapped read-only. Valid until file_unmap. An empty file maps to data NULL, len 0. */
struct file_map {
    const unsigned char *data;
    size_t len;
};
enum loam_status file_map(struct file_map *out, const char *path, struct err *err) LOAM_MUST_USE;
void file_unmap(struct file_map *m);

#endif
