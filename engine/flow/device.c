#include "flow/device.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/option.h"
#include "base/text.h"
#include "flow/train.h"
#include "gpu/cuda.h"
#include "gpu/ops.h"
#include "node/node.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define COMPUTE_NICE 5 /* beside two computing threads a waking one waited 10 to 11 ms at the median; so 0.1 to 8 (a loaded machine) */

const char *flow_backend(struct node *n) {
    static const char *const names[] = {"ref",    "cuda",   "cuda:1", "cuda:2", "cuda:3", "cuda:4", "cuda:5", "cuda:6", "cuda:7"};
    char text[OPTION_TEXT_MAX];
    option_str(n->opt, "compute.backend", text);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(text, names[i]))
            return names[i];
    return NULL;
}

bool flow_fallback(struct node *n) {
    return option_bool(n->opt, "compute.fallback");
}

enum loam_status flow_gpu_open(struct gpu **out, struct node *n, struct err *err) {
    /* All of it is training or gradients, on a job's own thread: keys and answers go first. */
    struct gpu_config c = {flow_backend(n), (int)option_uint(n->opt, "compute.threads"), COMPUTE_NICE};
    enum loam_status s = gpu_open(out, &c, err);
    if (s && c.backend && flow_fallback(n)) {
        if (err)
            log_warn("compute", "%s: %s; the CPU computes instead", c.backend, err->text);
        c.backend = NULL;
        s = gpu_open(out, &c, err);
    }
    return s;
}

enum loam_status flow_gpu_list(struct node *n, json_t **out, struct err *err) {
    struct cuda_device *d = mem_zarray(CUDA_DEVICES_MAX, sizeof *d);
    struct err why = {LOAM_OK, ""};
    const char *used = flow_backend(n);
    json_t *cpu = json_array(), *devices = json_array();
    int count = 0;
    *out = NULL;
    for (const char *const *b = gpu_backends(); *b; b++)
        json_array_append_new(cpu, json_string(*b));
    enum loam_status s = d && cpu && devices ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory"), none = s ? s : cuda_list(d, &count, &why);
    for (int i = 0; !s && !none && i < count; i++) {
        char name[2 * sizeof d->name], device[16], compute[16];
        text_clean_cut(name, sizeof name, d[i].name, strlen(d[i].name));
        snprintf(device, sizeof device, i ? "cuda:%d" : "cuda", d[i].index);
        snprintf(compute, sizeof compute, "%d.%d", d[i].major, d[i].minor);
        json_array_append_new(devices, json_pack("{s:s s:s s:s s:i s:I s:I}", "device", device, "name", name, "compute", compute, "processors",
                                                 d[i].processors, "memory", (json_int_t)d[i].memory, "free", (json_int_t)d[i].free));
    }
    mem_free(d);
    if (!s) {
        *out = json_pack("{s:s s:b s:o s:o}", "used", used ? used : "cpu", "fallback", flow_fallback(n), "cpu", cpu, "devices", devices);
        if (!*out || (none && json_object_set_new(*out, "no_devices", json_string(why.text)))) {
            json_decref(*out);
            *out = NULL;
            s = err_set(err, LOAM_ENOMEM, "no memory");
        }
        return s;
    }
    json_decref(cpu);
    json_decref(devices);
    return s;
}

enum loam_status flow_gpu_try(const char *backend, json_t **what, struct err *err) {
    struct gpu *g;
    *what = NULL;
    enum loam_status s = gpu_open(&g, &(struct gpu_config){!strcmp(backend, "cpu") || !strcmp(backend, "auto") ? NULL : backend, 1}, err);
    if (s)
        return s;
    *what = json_pack("{s:s s:s s:I}", "backend", backend, "kernels", g->name, "free", (json_int_t)(g->dev_room ? g->dev_room(g) : 0));
    gpu_close(g);
    return *what ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
}
