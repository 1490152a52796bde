/* Files: whole reads with a limit, atomic writes, folders. Failures of the disk can be injected by tests. */
#ifndef LOAM_BASE_FILE_H
#define LOAM_BASE_FILE_H

#include "base/bytes.h"

#include <stdbool.h>

/* The whole file into out (whose max is the limit). Folders, pipes and sockets are refused (LOAM_EINVAL) and never waited for. */
enum loam_status file_read(struct buf *out, const char *path, struct err *err) LOAM_MUST_USE;
/* The same, but pipes are read to their end, however long that takes: for a program's own user, as in --password-file <(pass x). */
enum loam_status file_read_pipe(struct buf *out, const char *path, struct err *err) LOAM_MUST_USE;
/* Writes beside the target, fsyncs, renames over it: after a crash the old or the new content is there, never half.
 * mode as for open(2), e.g. 0600. */
enum loam_status file_write(const char *path, const void *p, size_t n, unsigned mode, struct err *err) LOAM_MUST_USE;
/* The same for content that comes piece by piece: begin, add as often as needed, then end (which puts the file in place) or
 * drop (which leaves what was there). After a failed add only drop is allowed; end drops by itself where it fails. */
struct file_out {
    char *path, *tmp;
    int fd; /* -1: not open */
    struct buf part;
};
enum loam_status file_out_begin(struct file_out *f, const char *path, unsigned mode, struct err *err) LOAM_MUST_USE;
enum loam_status file_out_add(struct file_out *f, const void *p, size_t n, struct err *err) LOAM_MUST_USE;
enum loam_status file_out_end(struct file_out *f, struct err *err) LOAM_MUST_USE;
void file_out_drop(struct file_out *f); /* also on a cleared or ended one */
/* Makes path and its missing parents, 0700. */
enum loam_status file_mkdirs(const char *path, struct err *err) LOAM_MUST_USE;
/* Removes what a file_write that was killed left in a folder (NAME.tmp-PID-N). Only for folders that nobody else writes to. */
void file_sweep(const char *dir);
bool file_exists(const char *path);
bool file_is_folder(const char *path); /* a link to one too */

/* What tells one state of a file from another without reading it, as it was when the file was mapped. */
struct file_id {
    uint64_t dev, ino, size, mtime_ns, ctime_ns;
};
/* A file mapped read-only. Valid until file_unmap. An empty file maps to data NULL, len 0. */
struct file_map {
    const unsigned char *data;
    size_t len;
    struct file_id id;
};
enum loam_status file_map(struct file_map *out, const char *path, struct err *err) LOAM_MUST_USE;
void file_unmap(struct file_map *m);
/* Lets go of the memory that the map's pages take in this process; they are read again from the file where touched. */
void file_map_release(const struct file_map *m);
/* Brings the whole map in at once where the system can: cheaper than a fault a page. */
void file_map_populate(const struct file_map *m);

#endif
