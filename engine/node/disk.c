#include "node/disk.h"

#include "base/file.h"
#include "base/mem.h"
#include "node/node.h"
#include "store/store.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/banned.h"

#define DEPTH_MAX 16

/* A file with several names counts once, as du has it. Kept: the first INODES_MAX of them; beyond, a name is a file. */
#define INODES_MAX 4096
struct count {
    uint64_t bytes, files, unread;
    struct {
        dev_t dev;
        ino_t ino;
    } *seen;
    size_t n_seen;
};

static bool counted_before(struct count *c, const struct stat *st) {
    if (st->st_nlink < 2)
        return false;
    for (size_t i = 0; i < c->n_seen; i++)
        if (c->seen[i].dev == st->st_dev && c->seen[i].ino == st->st_ino)
            return true;
    if (c->n_seen < INODES_MAX) {
        c->seen[c->n_seen].dev = st->st_dev;
        c->seen[c->n_seen++].ino = st->st_ino;
    }
    return false;
}

/* Disk blocks, not lengths: the store's file is sparse. Folders have blocks of their own. */
static void walk(const char *path, int depth, struct count *c) {
    struct stat st;
    if (lstat(path, &st) != 0) {
        c->unread += errno != ENOENT; /* gone in between: no fault */
        return;
    }
    if (!S_ISDIR(st.st_mode)) {
        if (!counted_before(c, &st))
            c->bytes += (uint64_t)st.st_blocks * 512;
        c->files++;
        return;
    }
    c->bytes += (uint64_t)st.st_blocks * 512;
    DIR *d = depth < DEPTH_MAX ? opendir(path) : NULL;
    if (!d) {
        c->unread++;
        return;
    }
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        char *sub = mem_printf("%s/%s", path, e->d_name);
        if (sub)
            walk(sub, depth + 1, c);
        else
            c->unread++;
        mem_free(sub);
    }
    closedir(d);
}

/* What grew in c since the last call becomes one row. */
static void row(json_t *a, struct count *c, struct count *before, const char *name, const char *what) {
    json_array_append_new(a, json_pack("{s:s s:I s:I s:s}", "part", name, "files", (json_int_t)(c->files - before->files),
                                       "bytes", (json_int_t)(c->bytes - before->bytes), "what", what));
    *before = *c;
}

enum loam_status node_disk_use(struct node *n, json_t **parts, uint64_t *total, struct err *err) {
    static const struct {
        const char *name, *what;
    } known[] = {{"store", "tables: chain, statements, jobs' results"},
                 {"blobs", "rows, adapters, gradient stores, by hash"},
                 {"models", "model files"},
                 {"images", "models' weights as the kernels read them; made again where missing (option model.images)"},
                 {"runs", "training runs: checkpoints, until the adapter stands"},
                 {"adapters", "adapters, ready to serve"},
                 {"keys", "encrypted keys"},
                 {"jobs", "records of unfinished jobs"},
                 {"log", "log files"},
                 {"chains", "chains and their contracts"}};
    enum { KNOWN = sizeof known / sizeof *known };
    struct count c = {0}, before = {0};
    json_t *a = json_array();
    DIR *d = opendir(n->dir);
    c.seen = mem_zarray(INODES_MAX, sizeof *c.seen);
    if (!a || !c.seen || !d) {
        enum loam_status s = d ? err_set(err, LOAM_ENOMEM, "no memory") : err_errno(err, LOAM_EIO, "%s", n->dir);
        if (d)
            closedir(d);
        json_decref(a);
        mem_free(c.seen);
        return s;
    }
    before.seen = c.seen;
    for (size_t i = 0; i < KNOWN; i++) {
        char *path = node_path(n, known[i].name);
        if (path && file_exists(path))
            walk(path, 1, &c);
        mem_free(path);
        row(a, &c, &before, known[i].name, known[i].what);
    }
    for (struct dirent *e; (e = readdir(d));) {
        bool named = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
        for (size_t i = 0; i < KNOWN && !named; i++)
            named = strcmp(e->d_name, known[i].name) == 0;
        char *path = named ? NULL : node_path(n, e->d_name);
        if (path)
            walk(path, 1, &c);
        mem_free(path);
    }
    closedir(d);
    struct stat st;
    if (lstat(n->dir, &st) == 0) /* the folder itself */
        c.bytes += (uint64_t)st.st_blocks * 512;
    row(a, &c, &before, "other", "configuration, lock, what else lies here");
    if (c.unread)
        json_array_append_new(a, json_pack("{s:s s:I s:s}", "part", "not read", "files", (json_int_t)c.unread, "what",
                                           "could not be looked at: permissions, or over 16 folders deep"));
    mem_free(c.seen);
    uint64_t all = c.bytes;
    *total = all;
    *parts = a;
    return LOAM_OK;
}
