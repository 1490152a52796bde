/* model list | info | add */
#include "cmd/cmd.h"
#include "flow/models.h"
#include "node/node.h"

#include "base/banned.h"

static enum loam_status list(struct cmd_call *c, struct err *err) {
    (void)err;
    cmd_result(c, flow_model_list(cmd_node(c)));
    return LOAM_OK;
}
const struct cmd entry_model_list = {.noun = "model", .verb = "list", .help = "base models and adapters of this node", .example = "model list", .run = list};

static const struct cmd_arg info_args[] = {{"model", CMD_MODEL, 0, NULL, "base, adapter or BASE+ADAPTER", NULL}, {NULL}};

static enum loam_status info(struct cmd_call *c, struct err *err) {
    json_t *o;
    enum loam_status s = flow_model_info(&o, cmd_node(c), cmd_str(c, "model"), err);
    if (!s)
        cmd_result(c, o);
    return s;
}
const struct cmd entry_model_info = {.noun = "model",
                                     .verb = "info",
                                     .args = info_args,
                                     .help = "what a model is, and the hashes that name it",
                                     .example = "model info SmolLM2-135M-Instruct.Q4_1",
                                     .run = info};

static const struct cmd_arg add_args[] = {{"file", CMD_PATH, CMD_REQUIRED, NULL, "GGUF file", NULL},
                                          {"name", CMD_STR, CMD_NAMED, NULL, "its name here; else the file's", NULL},
                                          {NULL}};

static enum loam_status add(struct cmd_call *c, struct err *err) {
    return flow_model_add(cmd_node(c), cmd_str(c, "file"), cmd_str(c, "name"), err);
}
const struct cmd entry_model_add = {.noun = "model",
                                    .verb = "add",
                                    .args = add_args,
                                    .help = "take a GGUF file into the data folder",
                                    .text = "The file is opened and checked first, then linked into DATA/models (copied where that is another disk).",
                                    .example = "model add SmolLM2-135M-Instruct.Q4_1.gguf",
                                    .run = add};
