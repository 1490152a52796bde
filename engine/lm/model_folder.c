/* Folders as models: config.json, *.safetensors (one, or sharded by model.safetensors.index.json), tokenizer.json, and the
 * chat template of tokenizer_config.json or chat_template.jinja. Names and layouts are Hugging Face's. */
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "lm/model_in.h"
#include "lm/safetensors.h"
#include "lm/tokenizer_in.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

#define JSON_MAX ((size_t)256 << 20)
#define FILES_MAX 64

struct reader {
    struct lm_model *m;
    const char *dir;
    struct js_doc config;
    uint8_t *used;
    struct err *err;
};

static const struct arch {
    const char *type, *arch;
    bool gemma;
} archs[] = {{"llama", "llama", false}, {"mistral", "llama", false}, {"qwen2", "qwen2", false}, {"qwen3", "qwen3", false}, {"gemma3_text", "gemma3", true}};

static char *inside(struct reader *r, const char *name) {
    return mem_printf("%s/%s", r->dir, name);
}

/* A JSON file of the folder; LOAM_ENOTFOUND where it is missing. */
static enum loam_status load(struct reader *r, struct js_doc *doc, const char *name) {
    char *path = inside(r, name);
    struct buf b = BUF_INIT(JSON_MAX);
    enum loam_status s = path ? file_read(&b, path, r->err) : err_set(r->err, LOAM_ENOMEM, "no memory for a path");
    if (!s) {
        s = js_parse(doc, b.data, b.len, r->err);
        if (s)
            err_prefix(r->err, s, "%s", name);
    }
    buf_clear(&b);
    mem_free(path);
    return s;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct st_tensor *)a)->name, ((const struct st_tensor *)b)->name);
}

static enum loam_status map_file(struct reader *r, const char *name) {
    struct lm_model_own *o = r->m->own;
    if (o->n_maps == FILES_MAX)
        return err_set(r->err, LOAM_ELIMIT, "more than %d files of weights", FILES_MAX);
    if (!o->maps && !(o->maps = mem_zarray(FILES_MAX, sizeof *o->maps)))
        return err_set(r->err, LOAM_ENOMEM, "no memory for files");
    for (const char *p = name; *p; p++)
        if (*p == '/')
            return err_set(r->err, LOAM_EPARSE, "a file of weights lies outside the folder");
    char *path = inside(r, name);
    enum loam_status s = path ? file_map(&o->maps[o->n_maps], path, r->err) : err_set(r->err, LOAM_ENOMEM, "no memory for a path");
    mem_free(path);
    if (s)
        return s;
    const struct file_map *m = &o->maps[o->n_maps++];
    s = st_parse(&o->tensors, &o->n_tensors, m->data, m->len, r->err);
    return s ? err_prefix(r->err, s, "%s", name) : LOAM_OK;
}

static enum loam_status weights(struct reader *r) {
    struct lm_model_own *o = r->m->own;
    struct js_doc index;
    enum loam_status s = load(r, &index, "model.safetensors.index.json");
    if (s == LOAM_ENOTFOUND) {
        s = map_file(r, "model.safetensors");
    } else if (!s) {
        const struct js_val *map = js_get(index.root, "weight_map");
        const char *seen[FILES_MAX];
        size_t n = 0;
        for (const struct js_val *v = map && map->type == JS_OBJECT ? map->first : NULL; v && !s; v = v->next) {
            bool known = v->type != JS_STRING;
            for (size_t i = 0; i < n && !known; i++)
                known = !strcmp(seen[i], v->s);
            if (known)
                continue;
            if (n == FILES_MAX)
                s = err_set(r->err, LOAM_ELIMIT, "more than %d files of weights", FILES_MAX);
            else
                s = map_file(r, seen[n++] = v->s);
        }
        js_free(&index);
    }
    if (s)
        return s;
    if (!o->n_tensors)
        return err_set(r->err, LOAM_EPARSE, "the folder holds no tensors");
    qsort(o->tensors, o->n_tensors, sizeof *o->tensors, by_name);
    for (size_t i = 1; i < o->n_tensors; i++)
        if (!strcmp(o->tensors[i - 1].name, o->tensors[i].name))
            return err_set(r->err, LOAM_EPARSE, "tensor %s is there twice", o->tensors[i].name);
    r->used = mem_zalloc(o->n_tensors);
    return r->used ? LOAM_OK : err_set(r->err, LOAM_ENOMEM, "no memory for a table");
}

static void tensor(struct reader *r, struct lm_tensor *t, const char *name) {
    struct lm_model_own *o = r->m->own;
    struct st_tensor key;
    *t = (struct lm_tensor){0};
    snprintf(key.name, sizeof key.name, "%s", name);
    const struct st_tensor *x = bsearch(&key, o->tensors, o->n_tensors, sizeof *o->tensors, by_name);
    if (!x)
        return;
    r->used[x - o->tensors] = 1;
    *t = (struct lm_tensor){.name = x->name, .type = x->type, .rows = x->rows, .cols = x->cols, .data = x->data, .bytes = x->bytes, .row_bytes = x->bytes / x->rows};
}

static enum loam_status needed(struct reader *r, struct lm_tensor *t, const char *name) {
    tensor(r, t, name);
    return t->data ? LOAM_OK : err_set(r->err, LOAM_EPARSE, "the model lacks tensor %s", name);
}

/* ---- configuration ---- */

static enum loam_status u32(struct reader *r, uint32_t *out, const struct js_val *o, const char *key, uint32_t def) {
    int64_t v;
    enum loam_status s = js_get_int(&v, o, key, def, r->err);
    if (!s && (v < 0 || v > UINT32_MAX))
        s = err_set(r->err, LOAM_EPARSE, "config.json: %s is %lld", key, (long long)v);
    *out = (uint32_t)v;
    return s;
}

static enum loam_status rope_scaling(struct reader *r, struct lm_config *c, const struct js_val *o) {
    const struct js_val *type = js_get(o, "rope_type");
    double factor, low, high, attn;
    if (!o || o->type != JS_OBJECT)
        return LOAM_OK;
    if (!type)
        type = js_get(o, "type");
    enum loam_status s = js_get_num(&factor, o, "factor", 1, r->err);
    if (!s)
        s = js_get_num(&c->rope_base, o, "rope_theta", c->rope_base, r->err);
    if (s || !type || js_is_str(type, "default"))
        return s;
    c->scaling_factor = factor;
    if (js_is_str(type, "linear")) {
        c->scaling = LM_SCALING_LINEAR;
        return LOAM_OK;
    }
    bool yarn = js_is_str(type, "yarn");
    if (!yarn && !js_is_str(type, "llama3"))
        return err_set(r->err, LOAM_EUNSUPPORTED, "config.json: RoPE scaling other than linear, llama3 and yarn");
    c->scaling = yarn ? LM_SCALING_YARN : LM_SCALING_LLAMA3;
    s = js_get_num(&low, o, yarn ? "beta_fast" : "low_freq_factor", yarn ? 32 : 1, r->err);
    if (!s)
        s = js_get_num(&high, o, yarn ? "beta_slow" : "high_freq_factor", yarn ? 1 : 4, r->err);
    if (!s)
        s = js_get_num(&attn, o, "attention_factor", 0, r->err);
    if (!s)
        s = u32(r, &c->scaling_context, o, "original_max_position_embeddings", c->context);
    if (s)
        return s;
    if (!(factor > 0) || !(low > 0) || !(high > 0) || low == high || !c->scaling_context || js_get(o, "mscale") || js_get(o, "mscale_all_dim"))
        return err_set(r->err, LOAM_EUNSUPPORTED, "config.json: a RoPE scaling that is not known");
    c->scaling_low = low;
    c->scaling_high = high;
    c->scaling_attn = attn;
    return LOAM_OK;
}

/* Which layers see everything: every p-th, or all. */
static enum loam_status window_pattern(struct reader *r, struct lm_config *c, const struct js_val *o) {
    const struct js_val *types = js_get(o, "layer_types");
    if (!types || types->type != JS_ARRAY)
        return u32(r, &c->window_pattern, o, "sliding_window_pattern", c->window ? 6 : 0);
    uint32_t l = 0, first = 0, sliding = 0;
    for (const struct js_val *v = types->first; v; v = v->next, l++) {
        if (js_is_str(v, "sliding_attention"))
            sliding++;
        else if (!js_is_str(v, "full_attention"))
            return err_set(r->err, LOAM_EUNSUPPORTED, "config.json: a layer_types entry that is not known");
        else if (!first)
            first = l + 1;
    }
    if (!sliding) {
        c->window = 0;
        return LOAM_OK;
    }
    c->window_pattern = first;
    l = 0;
    for (const struct js_val *v = types->first; v; v = v->next, l++)
        if (js_is_str(v, "full_attention") != (first && (l + 1) % first == 0))
            return err_set(r->err, LOAM_EUNSUPPORTED, "config.json: layer_types without a period");
    return LOAM_OK;
}

static enum loam_status config(struct reader *r) {
    struct lm_config *c = &r->m->config;
    const struct js_val *o = r->config.root, *type = js_get(o, "model_type");
    const struct arch *a = NULL;
    char shown[64];
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        if (js_is_str(type, archs[i].type))
            a = &archs[i];
    if (!a)
        return err_set(r->err, LOAM_EUNSUPPORTED, "config.json: model_type \"%s\"; llama, mistral, qwen2, qwen3 and gemma3_text are known",
                       type && type->type == JS_STRING ? text_clean_cut(shown, sizeof shown, type->s, type->len) : "(missing)");
    snprintf(c->arch, sizeof c->arch, "%s", a->arch);
    double eps, q = 0;
    bool tied, use_window, bias;
    const char *act;
    enum loam_status s = u32(r, &c->L, o, "num_hidden_layers", 0);
    if (!s)
        s = u32(r, &c->C, o, "hidden_size", 0);
    if (!s)
        s = u32(r, &c->F, o, "intermediate_size", 0);
    if (!s)
        s = u32(r, &c->H, o, "num_attention_heads", 0);
    if (!s)
        s = u32(r, &c->G, o, "num_key_value_heads", c->H);
    if (!s)
        s = u32(r, &c->D, o, "head_dim", c->H ? c->C / c->H : 0);
    if (!s)
        s = u32(r, &c->V, o, "vocab_size", 0);
    if (!s)
        s = u32(r, &c->context, o, "max_position_embeddings", 0);
    if (!s)
        s = js_get_num(&eps, o, "rms_norm_eps", 1e-6, r->err);
    if (!s)
        s = js_get_num(&c->rope_base, o, "rope_theta", a->gemma ? 1e6 : 1e4, r->err);
    if (!s)
        s = js_get_bool(&tied, o, "tie_word_embeddings", a->gemma, r->err);
    if (!s)
        s = js_get_bool(&use_window, o, "use_sliding_window", strcmp(a->arch, "qwen2") && strcmp(a->arch, "qwen3"), r->err);
    if (!s)
        s = js_get_bool(&bias, o, "mlp_bias", false, r->err);
    if (!s)
        s = u32(r, &c->window, o, "sliding_window", 0);
    if (!s)
        s = js_get_str(&act, o, a->gemma ? "hidden_activation" : "hidden_act", a->gemma ? "gelu_pytorch_tanh" : "silu", r->err);
    if (s)
        return s;
    if (strcmp(act, a->gemma ? "gelu_pytorch_tanh" : "silu") || bias)
        return err_set(r->err, LOAM_EUNSUPPORTED, "config.json: activation \"%s\" or biases of the feed-forward layers", act);
    c->norm_eps = (float)eps;
    c->rope = GPU_ROPE_NEOX;
    c->scaling_factor = 1;
    c->embed_scale = 1;
    if (!use_window)
        c->window = 0;
    const struct js_val *rp = js_get(o, "rope_parameters");
    const struct js_val *full = js_get(rp, "full_attention"), *local = js_get(rp, "sliding_attention");
    s = rope_scaling(r, c, full ? full : rp ? rp : js_get(o, "rope_scaling"));
    if (!s && (c->window || a->gemma))
        s = window_pattern(r, c, o);
    if (!s && a->gemma) {
        s = js_get_num(&c->rope_base_local, local ? local : o, local ? "rope_theta" : "rope_local_base_freq", 1e4, r->err);
        if (!s)
            s = js_get_num(&q, o, "query_pre_attn_scalar", c->D, r->err);
        if (!s && (js_get(o, "attn_logit_softcapping") && js_get(o, "attn_logit_softcapping")->type != JS_NULL))
            s = err_set(r->err, LOAM_EUNSUPPORTED, "config.json: attn_logit_softcapping");
        if (!s && (js_get(o, "final_logit_softcapping") && js_get(o, "final_logit_softcapping")->type != JS_NULL))
            s = err_set(r->err, LOAM_EUNSUPPORTED, "config.json: final_logit_softcapping");
        c->gelu = c->norm_plus_one = true;
        c->embed_scale = (float)sqrt((double)c->C);
    } else if (!strcmp(a->type, "mistral")) {
        c->window_pattern = 0;
    }
    if (s)
        return s;
    c->tied = tied;
    model_attn_scale(c, q > 0 ? q : (double)c->D);
    return model_check_config(c, r->err);
}

static enum loam_status layer(struct reader *r, struct lm_layer *y, uint32_t l, bool gemma) {
    static const char *const names[LM_LINEARS] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                                  "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
    char n[96];
    enum loam_status s = LOAM_OK;
    for (int w = 0; w < LM_LINEARS && !s; w++) {
        snprintf(n, sizeof n, "model.layers.%u.%s.weight", l, names[w]);
        s = needed(r, &y->w[w], n);
        snprintf(n, sizeof n, "model.layers.%u.%s.bias", l, names[w]);
        if (w <= LM_V)
            tensor(r, &y->bias[w], n);
    }
    const struct {
        const char *name;
        struct lm_tensor *t;
        bool must;
    } norms[] = {{"input_layernorm", &y->attn_norm, true},
                 {gemma ? "pre_feedforward_layernorm" : "post_attention_layernorm", &y->ffn_norm, true},
                 {gemma ? "post_attention_layernorm" : "none", &y->post_attn_norm, gemma},
                 {gemma ? "post_feedforward_layernorm" : "none", &y->post_ffn_norm, gemma},
                 {"self_attn.q_norm", &y->q_norm, false},
                 {"self_attn.k_norm", &y->k_norm, false}};
    for (size_t i = 0; i < sizeof norms / sizeof *norms && !s; i++) {
        snprintf(n, sizeof n, "model.layers.%u.%s.weight", l, norms[i].name);
        tensor(r, norms[i].t, n);
        if (norms[i].must && !norms[i].t->data)
            s = err_set(r->err, LOAM_EPARSE, "the model lacks tensor %s", n);
    }
    return s;
}

/* ---- tokenizer and template ---- */

static void end_token(struct lm_tokenizer *t, const struct js_val *id) {
    if (id && id->type == JS_NUMBER && id->integral && id->i >= 0 && id->i < t->n) {
        if (t->eos == LM_NO_TOKEN)
            t->eos = (uint32_t)id->i;
        if (t->n_end < sizeof t->end / sizeof *t->end)
            t->end[t->n_end++] = (uint32_t)id->i;
    }
}

enum loam_status model_folder_template(struct buf *out, const char *dir, struct err *err) {
    struct reader r = {.dir = dir, .err = err};
    struct js_doc tc = {0};
    char *path = inside(&r, "chat_template.jinja");
    enum loam_status s = path ? file_read(out, path, err) : err_set(err, LOAM_ENOMEM, "no memory for a path");
    mem_free(path);
    if (s != LOAM_ENOTFOUND)
        return s;
    s = load(&r, &tc, "tokenizer_config.json");
    if (s)
        return s == LOAM_ENOTFOUND ? LOAM_OK : s;
    const struct js_val *v = js_get(tc.root, "chat_template");
    if (v && v->type == JS_STRING)
        s = buf_add(out, v->s, v->len, err);
    js_free(&tc);
    return s;
}

static enum loam_status tokenizer(struct reader *r) {
    struct lm_model *m = r->m;
    char *path = inside(r, "tokenizer.json");
    struct buf b = BUF_INIT(JSON_MAX);
    enum loam_status s = path ? file_read(&b, path, r->err) : err_set(r->err, LOAM_ENOMEM, "no memory for a path");
    if (!s)
        s = lm_tokenizer_json(&m->own->tokenizer, (const char *)b.data, b.len, r->err);
    buf_clear(&b);
    mem_free(path);
    if (s)
        return s;
    m->tokenizer = m->own->tokenizer;
    struct js_doc gen;
    const struct js_val *eos = js_get(r->config.root, "eos_token_id");
    if (eos && eos->type == JS_ARRAY)
        for (const struct js_val *v = eos->first; v; v = v->next)
            end_token(m->own->tokenizer, v);
    else
        end_token(m->own->tokenizer, eos);
    if (!load(r, &gen, "generation_config.json")) {
        eos = js_get(gen.root, "eos_token_id");
        if (eos && eos->type == JS_ARRAY)
            for (const struct js_val *v = eos->first; v; v = v->next)
                end_token(m->own->tokenizer, v);
        else
            end_token(m->own->tokenizer, eos);
        js_free(&gen);
    }
    buf_init(&b, JSON_MAX);
    s = model_folder_template(&b, r->dir, r->err);
    if (!s && b.len) {
        s = lm_template_new(&m->own->tmpl, (const char *)b.data, b.len, m->tokenizer, r->err);
        if (s == LOAM_EUNSUPPORTED)
            s = LOAM_OK; /* chat then says that there is none */
        m->tmpl = m->own->tmpl;
    }
    buf_clear(&b);
    return s;
}

static enum loam_status read_all(struct reader *r) {
    struct lm_model *m = r->m;
    enum loam_status s = load(r, &r->config, "config.json");
    if (!s)
        s = config(r);
    if (!s)
        s = weights(r);
    if (s)
        return s;
    bool gemma = !strcmp(m->config.arch, "gemma3");
    m->layers = mem_zarray(m->config.L, sizeof *m->layers);
    if (!m->layers)
        return err_set(r->err, LOAM_ENOMEM, "no memory for %u layers", m->config.L);
    if ((s = needed(r, &m->embed, "model.embed_tokens.weight")) || (s = needed(r, &m->out_norm, "model.norm.weight")))
        return s;
    tensor(r, &m->head, "lm_head.weight");
    if (m->config.tied)
        m->head = m->embed;
    else if (!m->head.data)
        return err_set(r->err, LOAM_EPARSE, "the model lacks tensor lm_head.weight");
    for (uint32_t l = 0; l < m->config.L && !s; l++)
        s = layer(r, &m->layers[l], l, gemma);
    for (size_t i = 0; i < m->own->n_tensors && !s; i++)
        if (!r->used[i] && !strstr(m->own->tensors[i].name, "rotary_emb.inv_freq"))
            s = err_set(r->err, LOAM_EUNSUPPORTED, "tensor %s has no meaning for %s models", m->own->tensors[i].name, m->config.arch);
    return s ? s : tokenizer(r);
}

enum loam_status model_from_folder(struct lm_model *m, const char *dir, struct err *err) {
    struct reader r = {.m = m, .dir = dir, .err = err};
    enum loam_status s = read_all(&r);
    js_free(&r.config);
    mem_free(r.used);
    return s;
}
