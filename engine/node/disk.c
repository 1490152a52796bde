#include "node/disk.h"

#include "base/mem.h"
#include "node/node.h"
#include "store/store.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/banned.h"

#define DEPTH_MAX 16

/* Disk blocks, not lengths: the store's file is sparse. */
static void walk(const char *path, int depth, uint64_t *bytes, uint64_t *files) {
    struct stat st;
    if (lstat(path, &st) != 0)
        return;
    if (!S_ISDIR(st.st_mode)) {
        *bytes += (uint64_t)st.st_blocks * 512;
        (*files)++;
        return;
    }
    DIR *d = depth < DEPTH_MAX ? opendir(path) : NULL;
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        char *sub = mem_printf("%s/%s", path, e->d_name);
        if (sub)
            walk(sub, depth + 1, bytes, files);
        mem_free(sub);
    }
    closedir(d);
}

enum loam_status node_disk_use(struct node *n, json_t **parts, uint64_t *total, struct err *err) {
    static const struct {
        const char *name, *what;
    } known[] = {{"store", "tables: chain, statements, jobs' results"},
                 {"blobs", "rows, adapters, gradient stores, by hash"},
                 {"models", "model files"},
                 {"keys", "encrypted keys"},
                 {"jobs", "records of unfinished jobs"},
                 {"log", "log files"},
                 {"chains", "chains and their contracts"}};
    json_t *a = json_array();
    *total = 0;
    if (!a)
        return err_set(err, LOAM_ENOMEM, "no memory");
    uint64_t counted = 0, all = 0, all_files = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint64_t bytes = 0, files = 0;
        char *path = node_path(n, known[i].name);
        if (path)
            walk(path, 0, &bytes, &files);
        mem_free(path);
        counted += bytes;
        json_array_append_new(a, json_pack("{s:s s:I s:I s:s}", "part", known[i].name, "files",
                                           (json_int_t)files, "bytes", (json_int_t)bytes, "what",
                                           known[i].what));
    }
    walk(n->dir, 0, &all, &all_files);
    if (all > counted)
        json_array_append_new(a, json_pack("{s:s s:I s:s}", "part", "other", "bytes",
                                           (json_int_t)(all - counted), "what",
                                           "configuration, runs, everything else"));
    *total = all;
    *parts = a;
    return LOAM_OK;
}
