/* model list | info | add */
#include "base/mem.h"
#include "cmd/cmd.h"
#include "flow/models.h"
#include "lm/template.h"
#include "node/node.h"

#include <string.h>

#include "base/banned.h"

static enum loam_status list(struct cmd_call *c, struct err *err) {
    (void)err;
    cmd_result(c, flow_model_list(cmd_node(c)));
    return LOAM_OK;
}
const struct cmd entry_model_list = {.noun = "model", .verb = "list", .help = "base models and adapters of this node", .example = "model list", .run = list};

static json_t *hex(const uint8_t h[32]) {
    char t[67] = "0x";
    hex_encode(t + 2, h, 32);
    return json_string(t);
}

static const struct cmd_arg info_args[] = {{"model", CMD_MODEL, 0, NULL, "base, adapter or BASE+ADAPTER", NULL}, {NULL}};

static enum loam_status info(struct cmd_call *c, struct err *err) {
    struct flow_model *m;
    struct lm_hashes h;
    enum loam_status s = flow_model_get(&m, cmd_node(c), cmd_str(c, "model"), err);
    if (s)
        return s;
    s = lm_model_hashes(&h, m->base, err);
    if (!s) {
        const struct lm_config *k = &m->base->config;
        json_t *o = json_pack("{s:s s:s s:s s:s s:I s:I s:I s:I s:I s:I s:I s:I s:I s:I s:f s:s s:s s:s s:b}", "name", m->name, "base", m->base_name, "title",
                              m->base->name, "architecture", k->arch, "parameters", (json_int_t)m->base->params, "bytes", (json_int_t)m->base->bytes,
                              "layers", (json_int_t)k->L, "width", (json_int_t)k->C, "heads", (json_int_t)k->H, "kv_heads", (json_int_t)k->G, "head_size",
                              (json_int_t)k->D, "ffn", (json_int_t)k->F, "vocabulary", (json_int_t)k->V, "context", (json_int_t)k->context, "rope_base",
                              k->rope_base, "quant", gpu_type_name(m->base->layers[0].w[LM_Q].type), "tokenizer", lm_tokenizer_kind(m->base->tokenizer),
                              "template", m->base->tmpl ? lm_template_name(m->base->tmpl) : "none", "q8", m->base->quantised);
        if (o) {
            json_object_set_new(o, "base_hash", hex(h.base));
            json_object_set_new(o, "tokenizer_hash", hex(h.tokenizer));
            json_object_set_new(o, "template_hash", hex(h.tmpl));
        }
        if (o && m->adapter) {
            json_object_set_new(o, "adapter", json_string(m->adapter_name));
            json_object_set_new(o, "adapter_hash", hex(m->adapter_hash));
            json_object_set_new(o, "rank", json_integer(m->adapter->rank));
            json_object_set_new(o, "model", json_integer((json_int_t)m->model_id));
        }
        cmd_result(c, o);
    }
    flow_model_put(m);
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
