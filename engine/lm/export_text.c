/* The JSON files of an exported folder. */
#include "base/json.h"
#include "base/mem.h"
#include "lm/export_in.h"
#include "lm/gguf.h"
#include "lm/tokenizer_in.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

/* A writer that stops at the first failure. */
struct out {
    struct buf *b;
    struct err *err;
    enum loam_status s;
};

static void put(struct out *o, const char *text) {
    if (!o->s)
        o->s = buf_str(o->b, text, o->err);
}

static void put_str(struct out *o, const char *s, size_t n) {
    if (!o->s)
        o->s = js_write_str(o->b, s, n, o->err);
}

static void put_key(struct out *o, const char *key) {
    put(o, o->b->len && o->b->data[o->b->len - 1] != '{' ? ",\n  \"" : "\n  \"");
    put(o, key);
    put(o, "\": ");
}

static void put_int(struct out *o, const char *key, uint32_t v) {
    char text[16];
    snprintf(text, sizeof text, "%u", v);
    put_key(o, key);
    put(o, text);
}

/* With a point or an exponent, so that no reader takes it for a whole number. */
static void put_real(struct out *o, const char *key, double v) {
    put_key(o, key);
    size_t from = o->b->len;
    if (!o->s)
        o->s = js_write_num(o->b, v, o->err);
    if (!o->s && !memchr(o->b->data + from, '.', o->b->len - from) && !memchr(o->b->data + from, 'e', o->b->len - from))
        put(o, ".0");
}

static void put_bool(struct out *o, const char *key, bool v) {
    put_key(o, key);
    put(o, v ? "true" : "false");
}

static void put_text(struct out *o, const char *key, const char *v) {
    put_key(o, key);
    put_str(o, v, strlen(v));
}

/* ---- config.json ---- */

/* GGUF files give Llama 3's scaling as factors only. Its rule with the published low and high factors (1 and 4) makes them from
 * two numbers: is there a power of two as original context that gives just these? */
static bool llama3_numbers(double *factor, uint32_t *context, const struct lm_model *m) {
    const struct lm_config *c = &m->config;
    uint32_t n = c->D / 2;
    float f[128];
    double freq[128];
    gpu_dequant(f, m->rope_freqs.type, m->rope_freqs.data, n);
    *factor = (double)f[n - 1];
    gpu_rope_freqs(freq, c->D, c->rope_base);
    for (*context = 1u << 20; *context >= 16; *context /= 2) {
        bool same = *factor > 1;
        for (uint32_t i = 0; i < n && same; i++) {
            double wave = 6.283185307179586 / freq[i], old = *context, want = 1;
            if (wave > old) {
                want = *factor;
            } else if (wave > old / 4) {
                double smooth = (old / wave - 1) / 3;
                want = 1 / ((1 - smooth) / *factor + smooth);
            }
            same = fabs((double)f[i] / want - 1) < 1e-4;
        }
        if (same)
            return true;
    }
    return false;
}

static void scaling(struct out *o, const struct lm_model *m) {
    const struct lm_config *c = &m->config;
    struct out in = *o;
    double factor = c->scaling_factor;
    uint32_t context = c->scaling_context;
    bool llama3 = c->scaling == LM_SCALING_LLAMA3, from_file = m->rope_freqs.data != NULL;
    if (from_file && !llama3_numbers(&factor, &context, m)) {
        o->s = err_set(o->err, LOAM_EUNSUPPORTED, "the model's RoPE factors (rope_freqs.weight) are not made by Llama 3's rule: config.json cannot say them");
        return;
    }
    if (!from_file && c->scaling == LM_SCALING_NONE)
        return;
    put_key(&in, "rope_scaling");
    put(&in, "{");
    put_text(&in, "rope_type", llama3 || from_file ? "llama3" : c->scaling == LM_SCALING_YARN ? "yarn" : "linear");
    put_real(&in, "factor", factor);
    if (llama3 || from_file) {
        put_real(&in, "low_freq_factor", from_file ? 1 : c->scaling_low);
        put_real(&in, "high_freq_factor", from_file ? 4 : c->scaling_high);
        put_int(&in, "original_max_position_embeddings", context);
    } else if (c->scaling == LM_SCALING_YARN) {
        put_real(&in, "beta_fast", c->scaling_low);
        put_real(&in, "beta_slow", c->scaling_high);
        put_int(&in, "original_max_position_embeddings", context);
        if (c->scaling_attn > 0)
            put_real(&in, "attention_factor", c->scaling_attn);
    }
    put(&in, "}");
    *o = in;
}

static void end_ids(struct out *o, const struct lm_tokenizer *t) {
    char id[16];
    put_key(o, "eos_token_id");
    put(o, "[");
    bool first = true;
    for (uint32_t i = 0; i < lm_tokenizer_size(t); i++)
        if (lm_token_ends(t, i)) {
            snprintf(id, sizeof id, "%s%u", first ? "" : ", ", i);
            put(o, id);
            first = false;
        }
    put(o, "]");
}

static void tokens(struct out *o, const struct lm_tokenizer *t) {
    if (lm_token_bos(t) != LM_NO_TOKEN)
        put_int(o, "bos_token_id", lm_token_bos(t));
    if (lm_token_eos(t) != LM_NO_TOKEN)
        put_int(o, "eos_token_id", lm_token_eos(t));
}

enum loam_status export_config(struct buf *b, const struct lm_model *m, uint32_t type, struct err *err) {
    const struct lm_config *c = &m->config;
    static const struct {
        const char *arch, *type, *class;
    } archs[] = {{"llama", "llama", "LlamaForCausalLM"}, {"llama", "mistral", "MistralForCausalLM"}, {"qwen2", "qwen2", "Qwen2ForCausalLM"},
                 {"qwen3", "qwen3", "Qwen3ForCausalLM"}, {"gemma3", "gemma3_text", "Gemma3ForCausalLM"}};
    struct out o = {b, err, LOAM_OK};
    size_t a = 0;
    while (a < sizeof archs / sizeof *archs && strcmp(archs[a].arch, c->arch))
        a++;
    LOAM_ASSERT(a < sizeof archs / sizeof *archs);
    bool gemma = !strcmp(c->arch, "gemma3");
    if (a == 0 && c->window)
        a = 1;
    if (a == 0 && (m->layers[0].q_norm.data || m->layers[0].k_norm.data))
        return err_set(err, LOAM_EUNSUPPORTED, "config.json has no llama with norms of q and k");
    put(&o, "{\n  \"architectures\": [");
    put_str(&o, archs[a].class, strlen(archs[a].class));
    put(&o, "]");
    put_text(&o, "model_type", archs[a].type);
    put_text(&o, "torch_dtype", type == GPU_F32 ? "float32" : type == GPU_F16 ? "float16" : "bfloat16");
    put_int(&o, "num_hidden_layers", c->L);
    put_int(&o, "hidden_size", c->C);
    put_int(&o, "intermediate_size", c->F);
    put_int(&o, "num_attention_heads", c->H);
    put_int(&o, "num_key_value_heads", c->G);
    put_int(&o, "head_dim", c->D);
    put_int(&o, "vocab_size", c->V);
    put_int(&o, "max_position_embeddings", c->context);
    /* fp32 to the shortest decimal that is the same fp32: 1e-05, not its 17 digits */
    char eps[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(eps, sizeof eps, "%.*g", digits, (double)c->norm_eps);
        if (strtof(eps, NULL) == c->norm_eps)
            break;
    }
    put_key(&o, "rms_norm_eps");
    put(&o, eps);
    put_real(&o, "rope_theta", c->rope_base);
    if (!o.s)
        scaling(&o, m);
    put_bool(&o, "tie_word_embeddings", c->tied);
    put_text(&o, gemma ? "hidden_activation" : "hidden_act", gemma ? "gelu_pytorch_tanh" : "silu");
    put_bool(&o, "attention_bias", a == 0 && m->layers[0].bias[LM_Q].data);
    if (a == 0)
        put_bool(&o, "mlp_bias", false);
    if (gemma) {
        put_real(&o, "rope_local_base_freq", c->rope_base_local != 0 ? c->rope_base_local : c->rope_base);
        /* the number the file had: attn_scale = 1 / sqrt of it, rounded */
        double q = 1.0 / ((double)c->attn_scale * (double)c->attn_scale);
        put_real(&o, "query_pre_attn_scalar", fabs(q - rint(q)) < 1e-3 ? rint(q) : q);
    }
    if (c->window) {
        put_int(&o, "sliding_window", c->window);
        if (!strcmp(c->arch, "qwen2") || !strcmp(c->arch, "qwen3"))
            put_bool(&o, "use_sliding_window", true);
    } else if (a == 1) {
        put_key(&o, "sliding_window");
        put(&o, "null");
    }
    if (c->window && a != 1) {
        put_key(&o, "layer_types");
        put(&o, "[");
        for (uint32_t l = 0; l < c->L; l++) {
            put(&o, l ? ", " : "");
            put(&o, c->window_pattern && (l + 1) % c->window_pattern == 0 ? "\"full_attention\"" : "\"sliding_attention\"");
        }
        put(&o, "]");
    }
    tokens(&o, m->tokenizer);
    put(&o, "\n}\n");
    return o.s;
}

enum loam_status export_generation_config(struct buf *b, const struct lm_tokenizer *t, struct err *err) {
    struct out o = {b, err, LOAM_OK};
    put(&o, "{");
    if (lm_token_bos(t) != LM_NO_TOKEN)
        put_int(&o, "bos_token_id", lm_token_bos(t));
    end_ids(&o, t);
    put(&o, "\n}\n");
    return o.s;
}

enum loam_status export_tokenizer_config(struct buf *b, const struct lm_model *m, const char *from, struct err *err) {
    const struct lm_tokenizer *t = m->tokenizer;
    struct out o = {b, err, LOAM_OK};
    struct gguf g;
    struct gguf_str text;
    size_t n;
    put(&o, "{");
    put_text(&o, "tokenizer_class", "PreTrainedTokenizerFast");
    const struct {
        const char *key;
        uint32_t id;
    } ids[] = {{"bos_token", lm_token_bos(t)}, {"eos_token", lm_token_eos(t)}, {"unk_token", t->unk}};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (ids[i].id != LM_NO_TOKEN) {
            const char *s = lm_token_piece(t, ids[i].id, &n);
            put_key(&o, ids[i].key);
            put_str(&o, s, n);
        }
    put_bool(&o, "clean_up_tokenization_spaces", false);
    put_int(&o, "model_max_length", m->config.context);
    if (!o.s && !(o.s = gguf_open(&g, from, err))) {
        o.s = gguf_string(&text, &g, "tokenizer.chat_template", err);
        if (!o.s && text.s) {
            put_key(&o, "chat_template");
            put_str(&o, text.s, text.len);
        }
        gguf_clear(&g);
    }
    put(&o, "\n}\n");
    return o.s;
}

/* ---- tokenizer.json ---- */

static int by_order(const void *a, const void *b) {
    const struct export_pair *x = a, *y = b;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* SentencePiece's merges as Hugging Face writes them: every way to put a piece together of two others, better scores first;
 * of equal ones the earlier piece, then the cut with the lower ids. */
static enum loam_status pairs_of_scores(struct export_pair **out, size_t *n, const struct lm_tokenizer *t, struct err *err) {
    size_t cap = 0;
    for (uint32_t i = 0; i < t->n; i++)
        cap += t->piece[i].type == TOK_NORMAL ? t->piece[i].n : 0;
    struct export_pair *p = mem_array(cap ? cap : 1, sizeof *p);
    struct export_pair *by_score = mem_array(t->n, sizeof *by_score);
    *n = 0;
    if (!p || !by_score) {
        mem_free(p);
        mem_free(by_score);
        return err_set(err, LOAM_ENOMEM, "no memory for the merges of %u pieces", t->n);
    }
    for (uint32_t i = 0; i < t->n; i++) {
        uint32_t u;
        memcpy(&u, &t->score[i], 4);
        u = u >> 31 ? ~u : u | 0x80000000u; /* ascending with the float */
        by_score[i] = (struct export_pair){i, 0, (uint64_t)~u << 32 | i};
    }
    qsort(by_score, t->n, sizeof *by_score, by_order);
    for (uint32_t i = 0; i < t->n; i++) {
        const struct tok_piece *x = &t->piece[by_score[i].left];
        const char *s = t->text + x->at;
        size_t first = *n;
        if (x->type != TOK_NORMAL)
            continue;
        for (uint32_t cut = 1; cut < x->n; cut++) {
            if (((unsigned char)s[cut] & 0xc0) == 0x80)
                continue;
            uint32_t l = tok_find(t, s, cut), r = tok_find(t, s + cut, x->n - cut);
            if (l == LM_NO_TOKEN || r == LM_NO_TOKEN || t->piece[l].type != TOK_NORMAL || t->piece[r].type != TOK_NORMAL)
                continue;
            size_t at = (*n)++; /* insert by ids: few cuts a piece */
            for (; at > first && (p[at - 1].left > l || (p[at - 1].left == l && p[at - 1].right > r)); at--)
                p[at] = p[at - 1];
            p[at] = (struct export_pair){l, r, 0};
        }
    }
    mem_free(by_score);
    *out = p;
    return LOAM_OK;
}

enum loam_status export_merges(struct export_pair **out, size_t *n, const struct lm_tokenizer *t, struct err *err) {
    struct export_pair *p = mem_array(t->n_merges ? t->n_merges : 1, sizeof *p);
    *n = 0;
    if (!p)
        return err_set(err, LOAM_ENOMEM, "no memory for %u merges", t->n_merges);
    for (uint32_t i = 0; i < t->merge_size; i++)
        if (t->merge[i].left != LM_NO_TOKEN)
            p[(*n)++] = (struct export_pair){t->merge[i].left, t->merge[i].right, t->merge[i].rank};
    qsort(p, *n, sizeof *p, by_order);
    *out = p;
    return LOAM_OK;
}

#define BYTE_LEVEL(regex) "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":" regex "}"
#define SPLIT3(digits)                                                                                             \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"           \
    "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}" digits "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|"                     \
    "\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false}," BYTE_LEVEL("false") "]}"
#define DIGITS "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true}," BYTE_LEVEL("true") "]}"

static const struct {
    const char *kind, *pre;
} pres[] = {{"gpt2/gpt-2", BYTE_LEVEL("true")}, {"gpt2/smollm", DIGITS}, {"gpt2/starcoder", DIGITS}, {"gpt2/refact", DIGITS}, {"gpt2/command-r", DIGITS},
            {"gpt2/llama-bpe", SPLIT3("{1,3}")}, {"gpt2/llama3", SPLIT3("{1,3}")}, {"gpt2/qwen2", SPLIT3("")}};

enum loam_status export_tokenizer(struct buf *b, const struct lm_tokenizer *t, struct err *err) {
    struct out o = {b, err, LOAM_OK};
    const char *pre = NULL;
    struct export_pair *pairs = NULL;
    size_t n = 0, len;
    char id[32];
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++)
        if (!strcmp(t->kind, pres[i].kind))
            pre = pres[i].pre;
    if (!pre && strcmp(t->kind, "spm"))
        return err_set(err, LOAM_EUNSUPPORTED, "a tokenizer of kind %s is not written as tokenizer.json", t->kind);
    o.s = t->score ? pairs_of_scores(&pairs, &n, t, err) : export_merges(&pairs, &n, t, err);
    put(&o, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [");
    bool first = true;
    for (uint32_t i = 0; i < t->n && !o.s; i++) {
        uint8_t type = t->piece[i].type;
        if ((type != TOK_CONTROL && type != TOK_USER && type != TOK_UNKNOWN) || !t->piece[i].n)
            continue;
        snprintf(id, sizeof id, "%s\n    {\"id\": %u", first ? "" : ",", i);
        put(&o, id);
        put(&o, ", \"content\": ");
        put_str(&o, t->text + t->piece[i].at, t->piece[i].n);
        put(&o, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": ");
        put(&o, type == TOK_USER ? "false}" : "true}");
        first = false;
    }
    put(&o, "],\n  \"normalizer\": ");
    if (!pre && t->add_prefix)
        put(&o, "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"},"
                "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}]}");
    else if (!pre)
        put(&o, "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}");
    else
        put(&o, t->nfc ? "{\"type\":\"NFC\"}" : "null");
    put(&o, ",\n  \"pre_tokenizer\": ");
    put(&o, pre ? pre : "null");
    put(&o, ",\n  \"post_processor\": ");
    if (t->add_bos && t->bos != LM_NO_TOKEN) {
        const char *s = lm_token_piece(t, t->bos, &len);
        put(&o, "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":");
        put_str(&o, s, len);
        put(&o, ",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
                "{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],\"special_tokens\":{");
        put_str(&o, s, len);
        put(&o, ":{\"id\":");
        put_str(&o, s, len);
        snprintf(id, sizeof id, ",\"ids\":[%u],\"tokens\":[", t->bos);
        put(&o, id);
        put_str(&o, s, len);
        put(&o, "]}}}");
    } else {
        put(&o, pre ? BYTE_LEVEL("false") : "null");
    }
    put(&o, ",\n  \"decoder\": ");
    if (pre)
        put(&o, BYTE_LEVEL("true"));
    else {
        put(&o, "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xe2\x96\x81\"},\"content\":\" \"},"
                "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}");
        put(&o, t->add_prefix ? ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}" : "]}");
    }
    put(&o, ",\n  \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": ");
    if (!pre && t->unk != LM_NO_TOKEN) {
        const char *s = lm_token_piece(t, t->unk, &len);
        put_str(&o, s, len);
    } else {
        put(&o, "null");
    }
    put(&o, ", \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": ");
    put(&o, pre ? "false" : "true");
    put(&o, ", \"byte_fallback\": ");
    put(&o, pre ? "false" : "true");
    put(&o, ", \"ignore_merges\": ");
    put(&o, t->whole ? "true" : "false");
    put(&o, ", \"vocab\": {");
    first = true;
    for (uint32_t i = 0; i < t->n && !o.s; i++) {
        const struct tok_piece *p = &t->piece[i];
        if (tok_find(t, t->text + p->at, p->n) != i)
            continue; /* a name that an earlier id has */
        put(&o, first ? "\n    " : ",\n    ");
        put_str(&o, t->text + p->at, p->n);
        snprintf(id, sizeof id, ": %u", i);
        put(&o, id);
        first = false;
    }
    put(&o, "},\n  \"merges\": [");
    for (size_t i = 0; i < n && !o.s; i++) {
        put(&o, i ? ",\n    [" : "\n    [");
        put_str(&o, t->text + t->piece[pairs[i].left].at, t->piece[pairs[i].left].n);
        put(&o, ", ");
        put_str(&o, t->text + t->piece[pairs[i].right].at, t->piece[pairs[i].right].n);
        put(&o, "]");
    }
    put(&o, "]}\n}\n");
    mem_free(pairs);
    return o.s;
}
