/* gpu list, gpu use: the processors that can compute, and which one does. */
#include "base/option.h"
#include "cmd/private.h"
#include "flow/device.h"

#include <string.h>

#include "base/banned.h"

static enum loam_status list(struct cmd_call *c, struct err *err) {
    json_t *out;
    enum loam_status s = flow_gpu_list(cmd_node(c), &out, err);
    if (!s)
        cmd_result(c, out);
    return s;
}

static const char *text(const json_t *o, const char *k) {
    const char *s = json_string_value(json_object_get(o, k));
    return s ? s : "-";
}

static void print_list(struct cmd_call *c, const json_t *r) {
    const json_t *d;
    size_t i;
    cmd_out(c, "computes    %s%s", text(r, "used"), json_is_true(json_object_get(r, "fallback")) ? ", the CPU where it fails" : "");
    json_array_foreach(json_object_get(r, "cpu"), i, d) {
        cmd_out(c, "cpu         %s%s", json_string_value(d), i ? "" : " (the best of this machine)");
    }
    json_array_foreach(json_object_get(r, "devices"), i, d) {
        cmd_out(c, "%-11s %s, compute capability %s, %lld processors, %lld MiB, %lld free", text(d, "device"), text(d, "name"), text(d, "compute"),
                (long long)json_integer_value(json_object_get(d, "processors")), (long long)(json_integer_value(json_object_get(d, "memory")) >> 20),
                (long long)(json_integer_value(json_object_get(d, "free")) >> 20));
    }
    if (json_object_get(r, "no_devices"))
        cmd_out(c, "no device   %s", text(r, "no_devices"));
}
const struct cmd entry_gpu_list = {.noun = "gpu",
                                   .verb = "list",
                                   .help = "what can compute here: the CPU's kernels and NVIDIA devices, and which is used",
                                   .example = "gpu list",
                                   .run = list,
                                   .print = print_list};

static const struct cmd_arg use_args[] = {
    {"device", CMD_CHOICE, CMD_REQUIRED, NULL, "as gpu list names it; cpu: the best of the CPU", "cpu|cuda|cuda:1|cuda:2|cuda:3|cuda:4|cuda:5|cuda:6|cuda:7"},
    {"fallback", CMD_FLAG, CMD_NAMED, NULL, "where the device is not there or is lost, the CPU goes on", NULL},
    {NULL}};

static enum loam_status use(struct cmd_call *c, struct err *err) {
    const char *name = cmd_str(c, "device");
    json_t *what;
    enum loam_status s = flow_gpu_try(name, &what, err);
    if (s)
        return s;
    s = node_set_option(cmd_node(c), "compute.backend", name, err);
    if (!s)
        s = node_set_option(cmd_node(c), "compute.fallback", cmd_flag(c, "fallback") ? "yes" : "no", err);
    if (s) {
        json_decref(what);
        return s;
    }
    cmd_note(c, "training and attribution take it from now on; models that are open answer as before until the node is started again");
    cmd_result(c, what);
    return LOAM_OK;
}
const struct cmd entry_gpu_use = {.noun = "gpu",
                                  .verb = "use",
                                  .args = use_args,
                                  .help = "choose what computes; it is tried first, and kept if it works",
                                  .text = "An NVIDIA device computes in arith-1 with the bits of the CPU (its referee kernels; a faster mode is not built). Without "
                                          "--fallback a job ends with an error where the device is missing or lost, its state kept; with it the CPU goes on.",
                                  .example = "gpu use cuda --fallback",
                                  .run = use};
