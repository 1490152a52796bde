/* disk: what the data folder uses, and what is left. */
#include "node/disk.h"
#include "base/mem.h"
#include "cmd/private.h"

#include <string.h>
#include <sys/statvfs.h>

#include "base/banned.h"

static enum loam_status run(struct cmd_call *c, struct err *err) {
    struct node *n = cmd_node(c);
    json_t *parts = NULL;
    uint64_t total = 0;
    enum loam_status s = node_disk_use(n, &parts, &total, err);
    struct statvfs v;
    if (!s && statvfs(n->dir, &v) != 0)
        s = err_errno(err, LOAM_EIO, "%s", n->dir);
    if (s) {
        json_decref(parts);
        return s;
    }
    cmd_result(c, json_pack("{s:s s:I s:I s:o}", "folder", n->dir, "bytes", (json_int_t)total, "free_bytes",
                            (json_int_t)((uint64_t)v.f_bavail * v.f_frsize), "parts", parts));
    return LOAM_OK;
}

const struct cmd entry_disk = {
    .noun = "disk", .help = "what the data folder uses, part by part", .example = "disk", .run = run};
