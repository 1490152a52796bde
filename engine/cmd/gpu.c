/* gpu list: the NVIDIA devices that the driver shows. */
#include "base/file.h"
#include "base/mem.h"
#include "cmd/private.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

static enum loam_status run(struct cmd_call *c, struct err *err) {
    json_t *a = json_array();
    DIR *d = opendir("/proc/driver/nvidia/gpus");
    for (struct dirent *e; a && d && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        char path[512], model[128] = "";
        struct buf b = BUF_INIT(65536);
        snprintf(path, sizeof path, "/proc/driver/nvidia/gpus/%s/information", e->d_name);
        if (!file_read(&b, path, NULL)) {
            const char *m = strstr((const char *)b.data, "Model:");
            if (m) {
                m += 6 + strspn(m + 6, " \t");
                snprintf(model, sizeof model, "%.*s", (int)strcspn(m, "\n"), m);
            }
        }
        buf_clear(&b);
        json_array_append_new(a, json_pack("{s:s s:s}", "bus", e->d_name, "model", model));
    }
    if (d)
        closedir(d);
    if (a && !json_array_size(a))
        cmd_note(c, "no NVIDIA device with a loaded driver; everything runs on the CPU");
    (void)err;
    cmd_result(c, a);
    return LOAM_OK;
}

const struct cmd entry_gpu_list = {
    .noun = "gpu", .verb = "list", .help = "the GPUs of this machine", .example = "gpu list", .run = run};
