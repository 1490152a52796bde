/* A folder of safetensors as one GGUF file: keys, names, order of rows and layouts as llama.cpp's converter has them. What such a file
 * cannot say is refused by name. */
#include "base/file.h"
#include "base/mem.h"
#include "gpu/arith.h"
#include "lm/export.h"
#include "lm/export_in.h"
#include "lm/gguf.h"
#include "lm/model_in.h"
#include "lm/tokenizer_in.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

/* A writer that stops at the first failure. */
struct out {
    struct gguf_writer *w;
    struct lm_model *m;
    struct err *err;
    enum loam_status s;
};

static const char *key_of(char key[96], const struct out *o, const char *name) {
    snprintf(key, 96, "%s.%s", o->m->config.arch, name);
    return key;
}

static void put_u32(struct out *o, const char *name, uint32_t v) {
    char key[96];
    if (!o->s)
        o->s = gguf_put_u32(o->w, key_of(key, o, name), v, o->err);
}

static void put_f32(struct out *o, const char *name, double v) {
    char key[96];
    if (!o->s)
        o->s = gguf_put_f32(o->w, key_of(key, o, name), (float)v, o->err);
}

static void put_text(struct out *o, const char *key, const char *v) {
    if (!o->s)
        o->s = gguf_put_string(o->w, key, v, o->err);
}

static void refuse(struct out *o, const char *what) {
    if (!o->s)
        o->s = err_set(o->err, LOAM_EUNSUPPORTED, "a GGUF file cannot say this model's %s; `model export` to a folder keeps it", what);
}

/* ---- configuration ---- */

static void scaling(struct out *o) {
    const struct lm_config *c = &o->m->config;
    char key[96];
    if (c->scaling != LM_SCALING_LINEAR && c->scaling != LM_SCALING_YARN)
        return; /* Llama 3's is a tensor */
    put_text(o, key_of(key, o, "rope.scaling.type"), c->scaling == LM_SCALING_YARN ? "yarn" : "linear");
    put_f32(o, "rope.scaling.factor", c->scaling_factor);
    if (c->scaling == LM_SCALING_LINEAR)
        return;
    put_u32(o, "rope.scaling.original_context_length", c->scaling_context);
    if (c->scaling_low != 32)
        put_f32(o, "rope.scaling.yarn_beta_fast", c->scaling_low);
    if (c->scaling_high != 1)
        put_f32(o, "rope.scaling.yarn_beta_slow", c->scaling_high);
    if (c->scaling_attn > 0) /* there the factor multiplies YaRN's own */
        put_f32(o, "rope.scaling.attn_factor", c->scaling_attn / (c->scaling_factor <= 1 ? 1.0 : 0.1 * arith_log64(c->scaling_factor) + 1.0));
}

static void configuration(struct out *o, uint32_t type) {
    static const struct {
        uint32_t type, number; /* llama.cpp's llama_ftype */
    } files[] = {{GPU_F32, 0}, {GPU_F16, 1}, {GPU_Q4_0, 2}, {GPU_Q4_1, 3}, {GPU_Q8_0, 7}, {GPU_Q5_0, 8}, {GPU_Q5_1, 9}, {GPU_BF16, 32}};
    const struct lm_config *c = &o->m->config;
    bool gemma = !strcmp(c->arch, "gemma3");
    struct lm_config read = *c;
    model_attn_scale(&read, gemma && c->L == 62 ? (double)c->C / c->H : (double)c->D); /* as a reader of the file takes it */
    if (read.attn_scale != c->attn_scale)
        refuse(o, "query_pre_attn_scalar");
    if (!gemma && c->window && c->window_pattern)
        refuse(o, "layer_types (some layers slide)");
    if (!strcmp(c->arch, "llama") && (o->m->layers[0].q_norm.data || o->m->layers[0].k_norm.data))
        refuse(o, "norms of q and k");
    put_text(o, "general.architecture", c->arch);
    put_text(o, "general.type", "model");
    put_text(o, "general.name", o->m->name);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (files[i].type == type && !o->s)
            o->s = gguf_put_u32(o->w, "general.file_type", files[i].number, o->err);
    if (!o->s)
        o->s = gguf_put_u32(o->w, "general.quantization_version", 2, o->err);
    put_u32(o, "block_count", c->L);
    put_u32(o, "context_length", c->context);
    put_u32(o, "embedding_length", c->C);
    put_u32(o, "feed_forward_length", c->F);
    put_u32(o, "attention.head_count", c->H);
    put_u32(o, "attention.head_count_kv", c->G);
    put_u32(o, "attention.key_length", c->D);
    put_u32(o, "attention.value_length", c->D);
    put_u32(o, "rope.dimension_count", c->D);
    put_u32(o, "vocab_size", c->V);
    put_f32(o, "attention.layer_norm_rms_epsilon", (double)c->norm_eps);
    put_f32(o, "rope.freq_base", c->rope_base);
    if ((double)(float)c->rope_base != c->rope_base)
        refuse(o, "rope_theta (no fp32 number)");
    if (c->window)
        put_u32(o, "attention.sliding_window", c->window);
    if (gemma) {
        put_f32(o, "rope.freq_base_swa", c->rope_base_local);
        put_u32(o, "attention.sliding_window_pattern", c->window_pattern);
    }
    scaling(o);
}

/* ---- tokenizer ---- */

static void put_id(struct out *o, const char *key, uint32_t id) {
    if (!o->s && id != LM_NO_TOKEN)
        o->s = gguf_put_u32(o->w, key, id, o->err);
}

/* Tokens that end an answer and that a reader of the file does not know by their text. */
static void ends(struct out *o, const struct lm_tokenizer *t) {
    static const char *const keys[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    size_t n = 0;
    for (uint32_t i = 0; i < t->n_end; i++) {
        bool again = t->end[i] == t->eos || tok_ends_by_text(t, t->end[i]);
        for (uint32_t k = 0; k < i; k++)
            again |= t->end[k] == t->end[i];
        if (again)
            continue;
        if (n == sizeof keys / sizeof *keys) {
            refuse(o, "eos_token_id (too many)");
            return;
        }
        put_id(o, keys[n++], t->end[i]);
    }
}

/* "LEFT RIGHT" a merge, by rank. */
static void merges(struct out *o, const struct lm_tokenizer *t, const struct export_pair *p, size_t n) {
    struct gguf_str *list = mem_array(n ? n : 1, sizeof *list);
    size_t bytes = 1, at = 0;
    for (size_t i = 0; i < n; i++)
        bytes += t->piece[p[i].left].n + 1 + t->piece[p[i].right].n;
    char *text = mem_alloc(bytes);
    if (!list || !text) {
        o->s = err_set(o->err, LOAM_ENOMEM, "no memory for %zu merges", n);
    } else {
        for (size_t i = 0; i < n; i++) {
            const struct tok_piece *l = &t->piece[p[i].left], *r = &t->piece[p[i].right];
            list[i] = (struct gguf_str){text + at, l->n + 1 + r->n};
            memcpy(text + at, t->text + l->at, l->n);
            text[at + l->n] = ' ';
            memcpy(text + at + l->n + 1, t->text + r->at, r->n);
            at += l->n + 1 + r->n;
        }
        o->s = gguf_put_strings(o->w, "tokenizer.ggml.merges", list, n, o->err);
    }
    mem_free(list);
    mem_free(text);
}

/* Scores that make SentencePiece's rule (the pair whose whole scores highest) merge as the list of merges does: each piece's is its first
 * rank, negated. That holds where the list has every pair of pieces that makes a piece and names a piece's pairs one after the other, as
 * lists made from scores do. */
static void scores(struct out *o, const struct lm_tokenizer *t, const struct export_pair *p, size_t n) {
    float *score = mem_zarray(o->m->config.V, sizeof *score);
    uint32_t last = LM_NO_TOKEN, rank = 0;
    if (!score)
        o->s = err_set(o->err, LOAM_ENOMEM, "no memory for %u scores", o->m->config.V);
    for (size_t i = 0; i < n && !o->s; i++) {
        uint32_t to = tok_merge_find(t, p[i].left, p[i].right)->to;
        if (to == last)
            continue;
        if (score[to] != 0)
            refuse(o, "merges (a piece's are not together)");
        score[last = to] = -(float)++rank; /* exact: fewer than 2^24 pieces */
    }
    for (uint32_t i = 0; i < t->n && !o->s; i++)
        for (uint32_t cut = 1; t->piece[i].type == TOK_NORMAL && cut < t->piece[i].n && !o->s; cut++) {
            const char *s = t->text + t->piece[i].at;
            if (((unsigned char)s[cut] & 0xc0) == 0x80)
                continue;
            uint32_t l = tok_find(t, s, cut), r = tok_find(t, s + cut, t->piece[i].n - cut);
            if (l != LM_NO_TOKEN && r != LM_NO_TOKEN && t->piece[l].type == TOK_NORMAL && t->piece[r].type == TOK_NORMAL && !tok_merge_find(t, l, r))
                refuse(o, "merges (some pairs of pieces stay apart)");
        }
    if (!o->s)
        o->s = gguf_put_f32s(o->w, "tokenizer.ggml.scores", score, o->m->config.V, o->err);
    mem_free(score);
}

/* The pieces by id; ids without one, and those up to the width of the embedding, get a name that no text has. */
static void pieces(struct out *o, const struct lm_tokenizer *t) {
    uint32_t V = o->m->config.V;
    struct gguf_str *piece = mem_array(V, sizeof *piece);
    int32_t *type = mem_array(V, sizeof *type);
    char(*pad)[20] = mem_array(V, sizeof *pad);
    if (!piece || !type || !pad) {
        o->s = err_set(o->err, LOAM_ENOMEM, "no memory for %u tokens", V);
    } else {
        for (uint32_t i = 0; i < V; i++) {
            bool there = i < t->n && t->piece[i].n;
            snprintf(pad[i], sizeof *pad, "[PAD%u]", i);
            piece[i] = there ? (struct gguf_str){t->text + t->piece[i].at, t->piece[i].n} : (struct gguf_str){pad[i], strlen(pad[i])};
            type[i] = there ? t->piece[i].type : TOK_UNUSED;
        }
        o->s = gguf_put_strings(o->w, "tokenizer.ggml.tokens", piece, V, o->err);
        if (!o->s)
            o->s = gguf_put_i32s(o->w, "tokenizer.ggml.token_type", type, V, o->err);
    }
    mem_free(piece);
    mem_free(type);
    mem_free(pad);
}

static void tokenizer(struct out *o) {
    const struct lm_tokenizer *t = o->m->tokenizer;
    const char *pre = tok_pre(t);
    struct export_pair *p = NULL;
    size_t n = 0;
    bool bytes = true;
    for (unsigned b = 0; b < 256; b++)
        bytes &= t->byte[b] != LM_NO_TOKEN;
    if (!t->spm && !pre)
        refuse(o, "pre-tokenizer (no value of tokenizer.ggml.pre has its expressions)");
    if (!t->spm && (t->add_prefix || (t->unk_bytes && !bytes)))
        refuse(o, t->add_prefix ? "add_prefix_space" : "unk_token for single bytes");
    if (t->spm && (t->n_stages || t->nfc || t->whole || !t->fallback))
        refuse(o, "tokenizer (splitting, NFC or ignore_merges beside SentencePiece's merges, or no byte_fallback)");
    if (t->spm && t->prefix_first)
        refuse(o, "tokenizer (prepend_scheme first: the space is put before the whole text only)");
    if (o->s)
        return;
    put_text(o, "tokenizer.ggml.model", t->spm ? "llama" : "gpt2");
    put_text(o, "tokenizer.ggml.pre", t->spm ? "default" : pre);
    if (!o->s)
        pieces(o, t);
    if (!o->s)
        o->s = export_merges(&p, &n, t, o->err);
    if (!o->s)
        (t->spm ? scores : merges)(o, t, p, n);
    mem_free(p);
    put_id(o, "tokenizer.ggml.bos_token_id", t->bos);
    put_id(o, "tokenizer.ggml.eos_token_id", t->eos);
    put_id(o, "tokenizer.ggml.unknown_token_id", t->unk);
    if (!o->s)
        ends(o, t);
    if (!o->s)
        o->s = gguf_put_bool(o->w, "tokenizer.ggml.add_bos_token", t->add_bos, o->err);
    if (!o->s)
        o->s = gguf_put_bool(o->w, "tokenizer.ggml.add_eos_token", false, o->err);
    if (!o->s)
        o->s = gguf_put_bool(o->w, "tokenizer.ggml.add_space_prefix", t->add_prefix, o->err);
}

static void chat_template(struct out *o, const char *from) {
    struct buf b = BUF_INIT(EXPORT_TEXT_MAX);
    if (!o->s)
        o->s = model_folder_template(&b, from, o->err);
    if (!o->s && b.len && !(o->s = buf_byte(&b, 0, o->err)))
        put_text(o, "tokenizer.chat_template", (const char *)b.data);
    buf_clear(&b);
}

/* ---- tensors ---- */

struct keep {
    void **p;
    size_t n, cap;
};

static void tensor(struct out *o, struct keep *k, const struct part *p, const struct lm_adapter *a, uint32_t type) {
    const struct lm_tensor *t = p->t;
    if (!t->data || o->s)
        return;
    bool vector = t->rows == 1;
    uint32_t as = vector ? GPU_F32 : t->cols % gpu_type_elems(type) ? GPU_F16 : type, D = o->m->config.D;
    size_t bytes = gpu_row_bytes(as, t->cols);
    float *row = mem_array(t->cols, sizeof *row), *turned = mem_array(t->cols, sizeof *turned);
    double *work = mem_array(t->cols, sizeof *work);
    unsigned char *out = mem_array(t->rows, bytes);
    if (!row || !turned || !work || !out)
        o->s = err_set(o->err, LOAM_ENOMEM, "no memory for tensor %s", p->name);
    for (uint32_t r = 0; r < t->rows && !o->s; r++) {
        const float *x = row;
        export_row(row, p, r, a, D, work);
        if (p->turn && vector) { /* a bias */
            for (uint32_t i = 0; i < t->cols; i++)
                turned[i] = row[p->turn(i, D)];
            x = turned;
        }
        if ((o->s = gpu_quantise(out + r * bytes, as, x, t->cols, o->err)))
            o->s = err_prefix(o->err, o->s, "tensor %s as %s", p->name, gpu_type_name(as));
    }
    mem_free(row);
    mem_free(turned);
    mem_free(work);
    if (!o->s)
        o->s = gguf_put_tensor(o->w, p->name, as, (uint64_t[]){t->cols, t->rows}, vector ? 1 : 2, out, t->rows * bytes, o->err);
    LOAM_ASSERT(k->n < k->cap);
    k->p[k->n++] = out;
}

/* Llama 3's scaling: the factors that divide the frequencies, as a tensor. */
static void rope_freqs(struct out *o, struct keep *k) {
    const struct lm_config *c = &o->m->config;
    double plain[128], scaled[128]; /* heads have 256 values at most */
    if (c->scaling != LM_SCALING_LLAMA3 || o->s)
        return;
    LOAM_ASSERT(c->D / 2 <= 128 && k->n < k->cap);
    float *f = k->p[k->n++] = mem_array(c->D / 2, sizeof *f);
    if (!f) {
        o->s = err_set(o->err, LOAM_ENOMEM, "no memory for RoPE factors");
        return;
    }
    gpu_rope_freqs(plain, c->D, c->rope_base);
    lm_model_rope(scaled, o->m, false);
    for (uint32_t i = 0; i < c->D / 2; i++)
        f[i] = (float)(plain[i] / scaled[i]);
    o->s = gguf_put_tensor(o->w, "rope_freqs.weight", GPU_F32, (uint64_t[]){c->D / 2}, 1, f, c->D / 2 * sizeof *f, o->err);
}

static void tensors(struct out *o, struct keep *k, const struct lm_adapter *a, uint32_t type, uint32_t head_type) {
    const struct lm_model *m = o->m;
    bool llama = !strcmp(m->config.arch, "llama");
    float one = m->config.norm_plus_one ? 1.0f : 0.0f; /* Gemma's norms have their 1 added in such files */
    struct part p = {.t = &m->embed, .name = "token_embd.weight"};
    tensor(o, k, &p, a, head_type);
    p = (struct part){.t = &m->out_norm, .add = one, .name = "output_norm.weight"};
    tensor(o, k, &p, a, type);
    p = (struct part){.t = &m->head, .name = "output.weight"};
    if (!m->config.tied)
        tensor(o, k, &p, a, head_type);
    rope_freqs(o, k);
    for (uint32_t i = 0; i < m->config.L; i++) {
        const struct lm_layer *y = &m->layers[i];
        for (uint32_t w = 0; w < LM_LINEARS; w++) {
            p = (struct part){.t = &y->w[w], .lora = a ? lm_adapter_find(a, i, w) : NULL, .turn = llama && w <= LM_K ? export_hf_row : NULL};
            snprintf(p.name, sizeof p.name, "blk.%u.%s.weight", i, lm_linear_name(w));
            tensor(o, k, &p, a, type);
            p.t = &y->bias[w];
            p.lora = NULL;
            snprintf(p.name, sizeof p.name, "blk.%u.%s.bias", i, lm_linear_name(w));
            tensor(o, k, &p, a, type);
        }
        const struct {
            const char *name;
            const struct lm_tensor *t;
        } norms[] = {{"attn_norm", &y->attn_norm}, {"ffn_norm", &y->ffn_norm}, {"post_attention_norm", &y->post_attn_norm},
                     {"post_ffw_norm", &y->post_ffn_norm}, {"attn_q_norm", &y->q_norm}, {"attn_k_norm", &y->k_norm}};
        for (size_t n = 0; n < sizeof norms / sizeof *norms; n++) {
            p = (struct part){.t = norms[n].t, .add = one};
            snprintf(p.name, sizeof p.name, "blk.%u.%s.weight", i, norms[n].name);
            tensor(o, k, &p, a, type);
        }
    }
}

enum loam_status export_gguf_of_folder(struct lm_model *m, const struct lm_adapter *a, const char *from, const char *to, uint32_t type,
                                       uint32_t head_type, struct err *err) {
    struct out o = {.m = m, .err = err};
    struct keep k = {.cap = 4 + (size_t)m->config.L * (2 * LM_LINEARS + 6)};
    k.p = mem_zarray(k.cap, sizeof *k.p);
    o.s = k.p ? gguf_writer_new(&o.w, err) : err_set(err, LOAM_ENOMEM, "no memory for a list of tensors");
    if (!o.s) {
        configuration(&o, type);
        tokenizer(&o);
        chat_template(&o, from);
        tensors(&o, &k, a, type, head_type);
    }
    if (!o.s)
        o.s = gguf_write(o.w, to, err);
    for (size_t i = 0; i < k.n; i++)
        mem_free(k.p[i]);
    mem_free(k.p);
    gguf_writer_free(o.w);
    return o.s;
}
