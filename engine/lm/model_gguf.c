/* GGUF files as models: which keys and tensor names mean what. */
#include "base/mem.h"
#include "base/text.h"
#include "gpu/arith.h"
#include "lm/model_in.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

struct reader {
    struct lm_model *m;
    const struct gguf *g;
    uint8_t *used; /* a flag a tensor of the file */
    struct err *err;
};

static const struct arch {
    const char *name;
    enum gpu_rope_style rope;
    bool qk_norm;
} archs[] = {
    {"llama", GPU_ROPE_NORM, false}, /* Llama, SmolLM2, Mistral: q and k stored for neighbouring pairs */
    {"qwen2", GPU_ROPE_NEOX, false},
    {"qwen3", GPU_ROPE_NEOX, true},
    {"gemma3", GPU_ROPE_NEOX, true},
};

static void tensor(struct reader *r, struct lm_tensor *t, const char *name) {
    *t = (struct lm_tensor){0};
    const struct gguf_tensor *x = gguf_tensor_find(r->g, name);
    if (!x)
        return;
    r->used[x - r->g->tensors] = 1;
    t->name = x->name;
    t->type = x->type;
    t->cols = (uint32_t)x->ne[0];
    t->rows = (uint32_t)(x->ne[1] * x->ne[2] * x->ne[3]); /* the reader bounded the product */
    t->data = x->data;
    t->bytes = x->bytes;
    t->row_bytes = x->bytes / t->rows;
}

static enum loam_status needed(struct reader *r, struct lm_tensor *t, const char *name) {
    tensor(r, t, name);
    return t->data ? LOAM_OK : err_set(r->err, LOAM_EPARSE, "the model lacks tensor %s", name);
}

static enum loam_status layer(struct reader *r, struct lm_layer *y, uint32_t l) {
    const bool gemma = !strcmp(r->m->config.arch, "gemma3");
    static const char *const names[LM_LINEARS] = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
    char n[64];
    enum loam_status s = LOAM_OK;
    for (int w = 0; w < LM_LINEARS && !s; w++) {
        snprintf(n, sizeof n, "blk.%u.%s.weight", l, names[w]);
        s = needed(r, &y->w[w], n);
        if (w <= LM_V) {
            snprintf(n, sizeof n, "blk.%u.%s.bias", l, names[w]);
            tensor(r, &y->bias[w], n);
        }
    }
    struct {
        const char *name;
        struct lm_tensor *t;
        bool must;
    } norms[] = {{"attn_norm", &y->attn_norm, true}, {"ffn_norm", &y->ffn_norm, true}, {"attn_q_norm", &y->q_norm, false}, {"attn_k_norm", &y->k_norm, false},
                 {gemma ? "post_attention_norm" : "none", &y->post_attn_norm, gemma}, {gemma ? "post_ffw_norm" : "none", &y->post_ffn_norm, gemma}};
    for (size_t i = 0; i < sizeof norms / sizeof *norms && !s; i++) {
        snprintf(n, sizeof n, "blk.%u.%s.weight", l, norms[i].name);
        tensor(r, norms[i].t, n);
        if (norms[i].must && !norms[i].t->data)
            s = err_set(r->err, LOAM_EPARSE, "the model lacks tensor %s", n);
    }
    return s;
}

static enum loam_status config(struct reader *r, struct lm_config *c) {
    const struct gguf *g = r->g;
    struct gguf_str name;
    enum loam_status s = gguf_string(&name, g, "general.architecture", r->err);
    if (s)
        return s;
    char shown[64], key[96];
    const struct arch *a = NULL;
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        if (gguf_str_is(name, archs[i].name))
            a = &archs[i];
    if (!a)
        return err_set(r->err, LOAM_EUNSUPPORTED, "the model's architecture is \"%s\"; llama, qwen2, qwen3 and gemma3 are known",
                       name.s ? text_clean_cut(shown, sizeof shown, name.s, name.len) : "(missing)");
    snprintf(c->arch, sizeof c->arch, "%s", a->name);
    c->rope = a->rope;
    c->embed_scale = 1;
    uint32_t rot = 0, vlen = 0, experts = 0;
    double eps, factor;
#define U32(field, what, def)                                                                                      \
    do {                                                                                                           \
        snprintf(key, sizeof key, "%s.%s", a->name, what);                                                         \
        if ((s = gguf_u32(&(field), g, key, def, r->err)))                                                         \
            return s;                                                                                              \
    } while (0)
#define F64(field, what, def)                                                                                      \
    do {                                                                                                           \
        snprintf(key, sizeof key, "%s.%s", a->name, what);                                                         \
        if ((s = gguf_f64(&(field), g, key, def, r->err)))                                                         \
            return s;                                                                                              \
    } while (0)
    U32(c->L, "block_count", 0);
    U32(c->C, "embedding_length", 0);
    U32(c->F, "feed_forward_length", 0);
    U32(c->H, "attention.head_count", 0);
    U32(c->G, "attention.head_count_kv", c->H);
    U32(c->context, "context_length", 0);
    if (c->H == 0 || c->C == 0)
        return err_set(r->err, LOAM_EPARSE, "the model's %s is 0 or missing", c->H ? "embedding_length" : "attention.head_count");
    U32(c->D, "attention.key_length", c->C / c->H);
    U32(vlen, "attention.value_length", c->D);
    U32(rot, "rope.dimension_count", c->D);
    U32(experts, "expert_count", 0);
    U32(c->window, "attention.sliding_window", 0);
    F64(c->rope_base, "rope.freq_base", 10000.0);
    F64(eps, "attention.layer_norm_rms_epsilon", 0);
    c->norm_eps = (float)eps;
    if (experts)
        return err_set(r->err, LOAM_EUNSUPPORTED, "the model is a mixture of %u experts", experts);
    if (vlen != c->D || rot != c->D)
        return err_set(r->err, LOAM_EUNSUPPORTED, "the model's keys (%u), values (%u) and RoPE (%u) differ in size", c->D, vlen, rot);
    struct gguf_str scaling;
    snprintf(key, sizeof key, "%s.rope.scaling.type", a->name);
    if ((s = gguf_string(&scaling, g, key, r->err)))
        return s;
    F64(factor, "rope.scaling.factor", 1.0);
    U32(c->scaling_context, "rope.scaling.original_context_length", 0);
    c->scaling_factor = factor;
    if (!scaling.s || gguf_str_is(scaling, "none"))
        c->scaling = LM_SCALING_NONE;
    else if (gguf_str_is(scaling, "linear"))
        c->scaling = LM_SCALING_LINEAR;
    else if (gguf_str_is(scaling, "yarn")) {
        double extra;
        c->scaling = LM_SCALING_YARN;
        F64(c->scaling_low, "rope.scaling.yarn_beta_fast", 32.0);
        F64(c->scaling_high, "rope.scaling.yarn_beta_slow", 1.0);
        F64(extra, "rope.scaling.attn_factor", 1.0);
        if (extra != 1) /* llama.cpp multiplies it with YaRN's own */
            c->scaling_attn = extra * (factor <= 1 ? 1.0 : 0.1 * arith_log64(factor) + 1.0);
        F64(extra, "rope.scaling.yarn_log_multiplier", 0.0);
        if (extra != 0 || !(factor > 0) || !(c->scaling_low > 0) || !(c->scaling_high > 0) || !c->scaling_context)
            return err_set(r->err, LOAM_EUNSUPPORTED, "the model's YaRN has a log multiplier, no original context or no factor");
    } else
        return err_set(r->err, LOAM_EUNSUPPORTED, "the model's RoPE scaling is \"%s\"; none, linear and yarn are known in GGUF files",
                       text_clean_cut(shown, sizeof shown, scaling.s, scaling.len));
    if (!strcmp(a->name, "gemma3")) {
        F64(c->rope_base_local, "rope.freq_base_swa", 10000.0);
        U32(c->window_pattern, "attention.sliding_window_pattern", 6);
        c->gelu = true; /* the file's norms have their 1 added already */
        c->embed_scale = (float)sqrt((double)c->C);
    }
#undef U32
#undef F64
    const struct gguf_tensor *e = gguf_tensor_find(g, "token_embd.weight");
    if (!e || e->dims != 2)
        return err_set(r->err, LOAM_EPARSE, "the model lacks tensor token_embd.weight");
    c->V = (uint32_t)e->ne[1];
    c->tied = !gguf_tensor_find(g, "output.weight");
    /* Gemma 3 27B, told by its 62 layers as in llama.cpp: its file does not say the number */
    model_attn_scale(c, !strcmp(a->name, "gemma3") && c->L == 62 ? (double)c->C / c->H : (double)c->D);
    return model_check_config(c, r->err);
}

static enum loam_status read_all(struct reader *r) {
    struct lm_model *m = r->m;
    const struct gguf *g = r->g;
    enum loam_status s = config(r, &m->config);
    if (s)
        return s;
    m->layers = mem_zarray(m->config.L, sizeof *m->layers);
    r->used = mem_zalloc(g->n_tensors ? g->n_tensors : 1);
    if (!m->layers || !r->used)
        return err_set(r->err, LOAM_ENOMEM, "no memory for %u layers", m->config.L);
    if ((s = needed(r, &m->embed, "token_embd.weight")) || (s = needed(r, &m->out_norm, "output_norm.weight")))
        return s;
    tensor(r, &m->head, "output.weight");
    if (m->config.tied)
        m->head = m->embed;
    tensor(r, &m->rope_freqs, "rope_freqs.weight");
    for (uint32_t l = 0; l < m->config.L && !s; l++)
        s = layer(r, &m->layers[l], l);
    for (uint64_t i = 0; i < g->n_tensors && !s; i++)
        if (!r->used[i])
            s = err_set(r->err, LOAM_EUNSUPPORTED, "tensor %s has no meaning for %s models", g->tensors[i].name, m->config.arch);
    if (!s)
        s = lm_tokenizer_gguf(&m->own->tokenizer, g, r->err);
    if (s)
        return s;
    m->tokenizer = m->own->tokenizer;
    struct gguf_str text;
    if ((s = gguf_string(&text, g, "general.name", r->err)))
        return s;
    if (text.s && text.len)
        text_clean_cut(m->name, sizeof m->name, text.s, text.len);
    if ((s = gguf_string(&text, g, "tokenizer.chat_template", r->err)))
        return s;
    /* A model with an unknown template still answers plain prompts: chat says then what is wrong. */
    if (text.s) {
        s = lm_template_new(&m->own->tmpl, text.s, text.len, m->tokenizer, r->err);
        if (s == LOAM_EUNSUPPORTED)
            s = LOAM_OK;
        m->tmpl = m->own->tmpl;
    }
    return s;
}

enum loam_status model_from_gguf(struct lm_model *m, const char *path, struct err *err) {
    enum loam_status s = gguf_open(&m->own->gguf, path, err);
    if (s)
        return s;
    struct reader r = {.m = m, .g = &m->own->gguf, .err = err};
    s = read_all(&r);
    mem_free(r.used);
    return s;
}
