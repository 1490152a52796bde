/* model list | info | add | remove | quantize | export | perplexity */
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
                                    .text = "The file is opened and checked first, then copied into DATA/models.",
                                    .example = "model add SmolLM2-135M-Instruct.Q4_1.gguf",
                                    .run = add};

static const struct cmd_arg remove_args[] = {{"model", CMD_MODEL, CMD_REQUIRED, NULL, "base model", NULL}, {NULL}};

static enum loam_status remove_model(struct cmd_call *c, struct err *err) {
    return flow_model_remove(cmd_node(c), cmd_str(c, "model"), err);
}
const struct cmd entry_model_remove = {.noun = "model",
                                       .verb = "remove",
                                       .args = remove_args,
                                       .help = "take a base model and its packed image out of the data folder",
                                       .text = "Refused while a question or a job uses the model, and where adapters were trained on it: they are named. "
                                               "A link in DATA/models is removed, not what it points to.",
                                       .example = "model remove SmolLM2-135M-Instruct.Q4_1-Q8_0",
                                       .run = remove_model};

static const struct cmd_arg quantize_args[] = {{"model", CMD_MODEL, CMD_REQUIRED, NULL, "base model to start from", NULL},
                                               {"type", CMD_CHOICE, CMD_REQUIRED, NULL, "format of the matrices", "F32|F16|BF16|Q8_0|Q5_1|Q5_0|Q4_1|Q4_0"},
                                               {"name", CMD_STR, CMD_NAMED, NULL, "name of the new model; else BASE-TYPE", NULL},
                                               {"head", CMD_CHOICE, CMD_NAMED, "Q8_0", "format of embedding and head", "F32|F16|BF16|Q8_0|Q5_1|Q5_0|Q4_1|Q4_0"},
                                               {NULL}};

static enum loam_status quantize(struct cmd_call *c, struct err *err) {
    char name[FLOW_MODEL_NAME_MAX];
    enum loam_status s = flow_model_quantize(name, cmd_node(c), cmd_str(c, "model"), cmd_str(c, "type"), cmd_str(c, "head"), cmd_str(c, "name"), err);
    if (!s)
        cmd_result(c, json_pack("{s:s}", "name", name));
    return s;
}
const struct cmd entry_model_quantize = {.noun = "model",
                                         .verb = "quantize",
                                         .args = quantize_args,
                                         .flags = CMD_LONG,
                                         .help = "write a base model in another format of weights",
                                         .text = "Values are dequantised exactly and rounded once to the new format, a GGUF file, whether the base is one or a folder. The result is a base model of its own with a "
                                                 "hash of its own: adapters trained on one do not belong to the other.",
                                         .example = "model quantize SmolLM2-135M-Instruct.Q4_1 Q8_0",
                                         .run = quantize};

static const struct cmd_arg export_args[] = {{"model", CMD_MODEL, CMD_REQUIRED, NULL, "base, adapter or BASE+ADAPTER", NULL},
                                             {"to", CMD_PATH, CMD_REQUIRED, NULL, "folder (safetensors) or file (gguf) to write", NULL},
                                             {"format", CMD_CHOICE, CMD_NAMED, "safetensors", "what is written", "safetensors|gguf"},
                                             {"type", CMD_CHOICE, CMD_NAMED, NULL, "format of the weights; F32 in safetensors, F16 for merged matrices in gguf, a folder's own for its base in gguf",
                                              "F32|F16|BF16|Q8_0|Q5_1|Q5_0|Q4_1|Q4_0"},
                                             {NULL}};

static enum loam_status export(struct cmd_call *c, struct err *err) {
    json_t *o = NULL;
    enum loam_status s = flow_model_export(&o, cmd_node(c), cmd_job(c), cmd_str(c, "model"), cmd_str(c, "to"), cmd_str(c, "format"), cmd_str(c, "type"), err);
    if (!s)
        cmd_result(c, o);
    return s;
}
const struct cmd entry_model_export = {.noun = "model",
                                       .verb = "export",
                                       .args = export_args,
                                       .flags = CMD_LONG,
                                       .help = "write a base, or a base with its adapter merged in, for other programs",
                                       .text = "safetensors: a folder that transformers loads, every value dequantised. gguf: the base's file with the adapted "
                                               "matrices merged; a base that is a folder becomes a file, with its tokenizer and chat template, alone or "
                                               "merged. What was written is opened again and computes a text beside the source: "
                                               "max_logit_difference says how far the two are apart.",
                                       .example = "model export SmolLM2-135M-Instruct.Q4_1 out/smollm2",
                                       .run = export};

static const struct cmd_arg perplexity_args[] = {{"file", CMD_PATH, CMD_REQUIRED, NULL, "UTF-8 text", NULL},
                                                 {"model", CMD_MODEL, CMD_NAMED, NULL, "base, adapter or BASE+ADAPTER", NULL},
                                                 {"act", CMD_CHOICE, CMD_NAMED, "f32", "arithmetic of activations", "f32|q8"},
                                                 {"window", CMD_UINT, CMD_NAMED, "512", "tokens of one window", "2..65536"},
                                                 {"tokens", CMD_UINT, CMD_NAMED, "0", "most tokens of the text; 0: all", "0..100000000"},
                                                 {NULL}};

static enum loam_status perplexity(struct cmd_call *c, struct err *err) {
    json_t *o;
    enum loam_status s = flow_perplexity(&o, cmd_node(c), cmd_job(c), cmd_str(c, "model"), cmd_str(c, "file"), cmd_str(c, "act"), (uint32_t)cmd_uint(c, "window"),
                                         (uint32_t)cmd_uint(c, "tokens"), err);
    if (!s)
        cmd_result(c, o);
    return s;
}
const struct cmd entry_model_perplexity = {.noun = "model",
                                           .verb = "perplexity",
                                           .args = perplexity_args,
                                           .flags = CMD_LONG,
                                           .help = "how well a model predicts a text",
                                           .text = "The text is cut into windows; in each, every token but the first is predicted from those before it. "
                                                   "perplexity = exp(mean negative log-likelihood).",
                                           .example = "model perplexity text.txt --tokens 2048",
                                           .run = perplexity};
