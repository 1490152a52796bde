/* adapter list | info | export | import */
#include "base/mem.h"
#include "cmd/flows.h"
#include "flow/train.h"
#include "lm/peft.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

static const char *text(const json_t *o, const char *k) {
    const char *s = json_string_value(json_object_get(o, k));
    return s ? s : "-";
}

static enum loam_status list(struct cmd_call *c, struct err *err) {
    json_t *all, *out = json_array(), *o;
    size_t i;
    enum loam_status s = flow_trained_list(cmd_node(c), &all, err);
    if (s) {
        json_decref(out);
        return s;
    }
    json_array_foreach(all, i, o) {
        json_array_append_new(out, json_pack("{s:s s:s s:I s:I s:O s:s}", "name", text(o, "name"), "base", text(o, "base"), "model",
                                             (json_int_t)json_integer_value(json_object_get(o, "model")), "rows",
                                             (json_int_t)json_integer_value(json_object_get(o, "rows")), "loss", json_object_get(o, "loss"), "hash",
                                             text(o, "adapter_hash")));
    }
    json_decref(all);
    cmd_result(c, out);
    return LOAM_OK;
}
const struct cmd entry_adapter_list = {
    .noun = "adapter", .verb = "list", .help = "adapters that were trained or imported", .example = "adapter list", .run = list};

static const struct cmd_arg which[] = {{"adapter", CMD_MODEL, CMD_REQUIRED, NULL, "name of the adapter", NULL}, {NULL}};

static enum loam_status info(struct cmd_call *c, struct err *err) {
    json_t *o;
    struct lm_adapter *a;
    enum loam_status s = flow_trained_get(cmd_node(c), &o, cmd_str(c, "adapter"), err);
    if (s)
        return s;
    if (!(s = lm_adapter_load(&a, text(o, "adapter_path"), err))) {
        uint8_t h[32];
        struct hash32 now;
        char hex[HASH_HEX_MAX], targets[64] = "";
        uint32_t set = 0;
        lm_adapter_hash(h, a);
        memcpy(now.b, h, 32);
        for (uint32_t i = 0; i < a->count; i++)
            set |= 1u << a->t[i].kind;
        for (uint32_t k = 0; k < LM_LINEARS; k++)
            if (set >> k & 1) {
                size_t n = strlen(targets);
                snprintf(targets + n, sizeof targets - n, "%s%s", n ? "," : "", lm_linear_name(k) + (k <= LM_O ? 5 : 4));
            }
        json_object_set_new(o, "file", json_pack("{s:I s:f s:f s:b s:s s:I s:I s:s s:b}", "rank", (json_int_t)a->rank, "alpha", (double)a->alpha, "scale",
                                                 (double)a->scale, "rslora", a->rslora, "targets", targets, "tensors", (json_int_t)a->count,
                                                 "parameters", (json_int_t)a->size, "hash", hash_hex(hex, &now), "as_recorded",
                                                 !strcmp(hex, text(o, "adapter_hash"))));
        lm_adapter_free(a);
        json_object_del(o, "hyper");
        cmd_result(c, o);
        return LOAM_OK;
    }
    json_decref(o);
    return s;
}
const struct cmd entry_adapter_info = {
    .noun = "adapter", .verb = "info", .args = which, .help = "all about one adapter; its file is checked", .example = "adapter info facts", .run = info};

static const struct cmd_arg out_args[] = {{"adapter", CMD_MODEL, CMD_REQUIRED, NULL, "name of the adapter", NULL},
                                          {"folder", CMD_PATH, CMD_REQUIRED, NULL, "folder that gets the files", NULL},
                                          {NULL}};

static enum loam_status export(struct cmd_call *c, struct err *err) {
    struct flow_model *m = NULL;
    struct node *n = cmd_node(c);
    json_t *o = NULL;
    struct lm_adapter *a = NULL;
    const char *dir = cmd_str(c, "folder");
    enum loam_status s = flow_trained_get(n, &o, cmd_str(c, "adapter"), err);
    if (!s)
        s = flow_model_get(&m, n, text(o, "base"), err);
    if (!s)
        s = lm_adapter_load(&a, text(o, "adapter_path"), err);
    if (!s)
        s = lm_peft_export(a, m->base, dir, m->base->name, err);
    if (!s)
        cmd_result(c, json_pack("{s:s s:s s:s}", "format", "peft", "folder", dir, "hash", text(o, "adapter_hash")));
    lm_adapter_free(a);
    flow_model_put(m);
    json_decref(o);
    return s;
}
const struct cmd entry_adapter_export = {.noun = "adapter",
                                         .verb = "export",
                                         .args = out_args,
                                         .help = "write an adapter as PEFT has it (safetensors and its configuration)",
                                         .example = "adapter export facts out/facts",
                                         .run = export};
