/* adapter list | info | export | import */
#include "cmd/flows.h"
#include "flow/train.h"

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
    json_t *out = NULL;
    enum loam_status s = flow_adapter_info(cmd_node(c), &out, cmd_str(c, "adapter"), err);
    return flow_result(c, s, out);
}
const struct cmd entry_adapter_info = {
    .noun = "adapter", .verb = "info", .args = which, .help = "all about one adapter; its file is checked", .example = "adapter info facts", .run = info};

static const struct cmd_arg out_args[] = {{"adapter", CMD_MODEL, CMD_REQUIRED, NULL, "name of the adapter", NULL},
                                          {"to", CMD_PATH, CMD_REQUIRED, NULL, "folder (peft) or file (gguf) to write", NULL},
                                          {"format", CMD_CHOICE, CMD_NAMED, "peft", "whose form it gets: PEFT's or llama.cpp's", "peft|gguf"},
                                          {NULL}};

static enum loam_status export(struct cmd_call *c, struct err *err) {
    json_t *out = NULL;
    enum loam_status s = flow_adapter_export(cmd_node(c), &out, cmd_str(c, "adapter"), cmd_str(c, "to"), cmd_str(c, "format"), err);
    return flow_result(c, s, out);
}
const struct cmd entry_adapter_export = {.noun = "adapter",
                                         .verb = "export",
                                         .args = out_args,
                                         .help = "write an adapter as PEFT or llama.cpp has it",
                                         .text = "peft: a folder with adapter_config.json and adapter_model.safetensors. gguf: one file for llama.cpp's "
                                                 "--lora; it is read back and compared.",
                                         .example = "adapter export facts out/facts",
                                         .run = export};

static const struct cmd_arg in_args[] = {{"folder", CMD_PATH, CMD_REQUIRED, NULL, "PEFT folder, or a GGUF adapter (.gguf)", NULL},
                                         {"name", CMD_STR, CMD_REQUIRED, NULL, "name it gets here", NULL},
                                         {"base", CMD_MODEL, CMD_NAMED, NULL, "base model it belongs to; the only one when absent", NULL},
                                         {NULL}};

static enum loam_status import(struct cmd_call *c, struct err *err) {
    json_t *out = NULL;
    enum loam_status s = flow_adapter_import(cmd_node(c), &out, cmd_str(c, "folder"), cmd_str(c, "name"), cmd_str(c, "base"), err);
    return flow_result(c, s, out);
}
const struct cmd entry_adapter_import = {.noun = "adapter",
                                         .verb = "import",
                                         .args = in_args,
                                         .help = "take in an adapter that PEFT or llama.cpp wrote",
                                         .example = "adapter import out/facts theirs",
                                         .run = import};
