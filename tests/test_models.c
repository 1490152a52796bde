/* lm: small models of every family, made of the same numbers as contrib/models/golden_models.py has them: their logits are those of
 * transformers, read from safetensors (whole, sharded, fp32, fp16, bf16) and from GGUF files, and after `export`; what is not
 * known is refused by name. */
#include "tests/test.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "lm/export.h"
#include "lm/gguf.h"
#include "lm/pass.h"
#include "lm/peft.h"
#include "lm/quantize.h"
#include "lm/session.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#define CLOSE 2e-3  /* of the fp32 path */
#define CACHED 5e-3 /* with the fp16 cache */

static struct err e;
static struct js_doc golden;
static char dir[64], gguf_path[80], out_dir[80];

static int load(struct js_doc *d, const char *name) {
    char path[1024];
    const char *src = getenv("srcdir");
    struct buf b = BUF_INIT(1 << 24);
    snprintf(path, sizeof path, "%s/tests/golden/%s", src ? src : ".", name);
    int bad = file_read(&b, path, &e) || js_parse(d, b.data, b.len, &e);
    buf_clear(&b);
    return bad;
}

static int set_up(void **st) {
    (void)st;
    snprintf(dir, sizeof dir, "/tmp/loam-test-models-%ld", (long)getpid());
    snprintf(gguf_path, sizeof gguf_path, "%s/m.gguf", dir);
    snprintf(out_dir, sizeof out_dir, "%s/out", dir);
    return load(&golden, "models.json") || file_mkdirs(dir, &e) ? -1 : 0;
}

static void empty(const char *in) {
    static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors",
                                        "model.safetensors.index.json", "part0.safetensors", "part1.safetensors", "part2.safetensors", "m.gguf",
                                        "adapter.gguf", "merged.gguf"};
    char p[160];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(p, sizeof p, "%s/%s", in, names[i]);
        unlink(p);
    }
}

static int tear_down(void **st) {
    (void)st;
    empty(out_dir);
    rmdir(out_dir);
    empty(dir);
    rmdir(dir);
    js_free(&golden);
    return 0;
}

static void write_in(const char *name, const void *p, size_t n) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    OK(file_write(path, p, n, 0600, &e));
}

/* ---- the numbers ---- */

static void weight(float *out, const char *name, size_t n, bool norm_one) {
    uint64_t h = 0xcbf29ce484222325u;
    for (const char *c = name; *c; c++)
        h = (h ^ (unsigned char)*c) * 0x100000001b3u;
    for (size_t i = 0; i < n; i++) {
        uint64_t z = h + (i + 1) * 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        z = z ^ z >> 31;
        out[i] = (2 * ((float)(z >> 40) * 0x1p-24f) - 1) * 0.25f;
        if (norm_one)
            out[i] += 1;
    }
}

static uint32_t dtype_of(const struct js_val *m) {
    const struct js_val *d = js_get(m, "dtype");
    return js_is_str(d, "F32") ? GPU_F32 : js_is_str(d, "F16") ? GPU_F16 : GPU_BF16;
}

static bool is_gemma(const struct js_val *m) {
    return js_is_str(js_get(js_get(m, "config"), "model_type"), "gemma3_text");
}

struct made { /* one tensor */
    const char *name;
    uint32_t rows, cols;
    uint32_t type;
    float *f;
    void *bytes;
    size_t n;
};

static struct made make(const struct js_val *m, const struct js_val *t) {
    const struct js_val *name = t->first, *a = name->next, *b = a->next;
    struct made x = {.name = name->s, .rows = b ? (uint32_t)a->i : 1, .cols = (uint32_t)(b ? b->i : a->i), .type = dtype_of(m)};
    size_t count = (size_t)x.rows * x.cols;
    x.n = x.rows * gpu_row_bytes(x.type, x.cols);
    x.f = mem_array(count, sizeof *x.f);
    x.bytes = mem_alloc(x.n);
    assert_true(x.f && x.bytes);
    weight(x.f, x.name, count, strstr(x.name, "norm") && !is_gemma(m));
    OK(gpu_quantise(x.bytes, x.type, x.f, count, &e));
    gpu_dequant(x.f, x.type, x.bytes, count);
    return x;
}

static void made_free(struct made *x) {
    mem_free(x->f);
    mem_free(x->bytes);
}

/* ---- as a folder ---- */

static void js_text(struct buf *b, const struct js_val *v) {
    switch (v->type) {
    case JS_NULL:
        OK(buf_str(b, "null", &e));
        break;
    case JS_BOOL:
        OK(buf_str(b, v->boolean ? "true" : "false", &e));
        break;
    case JS_NUMBER:
        if (v->integral)
            OK(buf_printf(b, &e, "%lld", (long long)v->i));
        else
            OK(buf_printf(b, &e, "%.17g", v->d));
        break;
    case JS_STRING:
        OK(js_write_str(b, v->s, v->len, &e));
        break;
    default:
        OK(buf_str(b, v->type == JS_ARRAY ? "[" : "{", &e));
        for (const struct js_val *c = v->first; c; c = c->next) {
            if (c != v->first)
                OK(buf_str(b, ",", &e));
            if (v->type == JS_OBJECT) {
                OK(js_write_str(b, c->key, c->key_len, &e));
                OK(buf_str(b, ":", &e));
            }
            js_text(b, c);
        }
        OK(buf_str(b, v->type == JS_ARRAY ? "]" : "}", &e));
    }
}

/* A byte-level tokenizer whose ids end below the models' 320: the bytes alone. */
static void write_tokenizer(void) {
    struct buf b = BUF_INIT(1 << 16);
    OK(buf_str(&b, "{\"added_tokens\":[{\"id\":0,\"content\":\"<a>\",\"special\":true},{\"id\":1,\"content\":\"<s>\",\"special\":true},{\"id\":2,\"content\":\"</s>\",\"special\":true}],"
                   "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},\"post_processor\":null,\"model\":{\"type\":\"BPE\",\"vocab\":{",
               &e));
    uint32_t extra = 256;
    for (uint32_t i = 0; i < 256; i++) {
        uint8_t u[4];
        bool plain = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
        size_t n = utf8_encode(u, plain ? i : extra++);
        OK(buf_str(&b, i ? "," : "", &e));
        OK(js_write_str(&b, (const char *)u, n, &e));
        OK(buf_printf(&b, &e, ":%u", i + 3));
    }
    OK(buf_str(&b, "},\"merges\":[]}}", &e));
    write_in("tokenizer.json", b.data, b.len);
    buf_clear(&b);
}

static void write_folder(const struct js_val *m) {
    struct buf c = BUF_INIT(1 << 16), index = BUF_INIT(1 << 16), head[3] = {BUF_INIT(1 << 16), BUF_INIT(1 << 16), BUF_INIT(1 << 16)},
               data[3] = {BUF_INIT(1 << 24), BUF_INIT(1 << 24), BUF_INIT(1 << 24)};
    unsigned shards = (unsigned)js_get(m, "shards")->i, k = 0;
    const char *dtype = js_get(m, "dtype")->s;
    empty(dir);
    js_text(&c, js_get(m, "config"));
    write_in("config.json", c.data, c.len);
    write_tokenizer();
    OK(buf_str(&index, "{\"weight_map\":{", &e));
    for (const struct js_val *t = js_get(m, "tensors")->first; t; t = t->next, k++) {
        struct made x = make(m, t);
        unsigned s = k % shards;
        OK(buf_printf(&head[s], &e, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", head[s].len ? "," : "{", x.name, dtype));
        if (x.rows > 1)
            OK(buf_printf(&head[s], &e, "%u,", x.rows));
        OK(buf_printf(&head[s], &e, "%u],\"data_offsets\":[%zu,%zu]}", x.cols, data[s].len, data[s].len + x.n));
        OK(buf_add(&data[s], x.bytes, x.n, &e));
        OK(buf_printf(&index, &e, "%s\"%s\":\"part%u.safetensors\"", k ? "," : "", x.name, s));
        made_free(&x);
    }
    OK(buf_str(&index, "}}", &e));
    for (unsigned s = 0; s < shards; s++) {
        struct buf file = BUF_INIT(1 << 24);
        uint8_t len[8];
        char name[40];
        OK(buf_str(&head[s], "}", &e));
        put_le64(len, head[s].len);
        OK(buf_add(&file, len, 8, &e));
        OK(buf_add(&file, head[s].data, head[s].len, &e));
        OK(buf_add(&file, data[s].data, data[s].len, &e));
        snprintf(name, sizeof name, "part%u.safetensors", s);
        write_in(shards > 1 ? name : "model.safetensors", file.data, file.len);
        buf_clear(&file);
    }
    if (shards > 1)
        write_in("model.safetensors.index.json", index.data, index.len);
    for (unsigned s = 0; s < 3; s++) {
        buf_clear(&head[s]);
        buf_clear(&data[s]);
    }
    buf_clear(&index);
    buf_clear(&c);
}

/* ---- as a GGUF file, by the rules of llama.cpp's converter ---- */

static uint32_t u32_of(const struct js_val *c, const char *key, uint32_t def) {
    int64_t v;
    OK(js_get_int(&v, c, key, def, &e));
    return (uint32_t)v;
}

static double num_of(const struct js_val *c, const char *key, double def) {
    double v;
    OK(js_get_num(&v, c, key, def, &e));
    return v;
}

static void put_n(struct gguf_writer *w, const char *arch, const char *key, uint32_t v) {
    char k[96];
    snprintf(k, sizeof k, "%s.%s", arch, key);
    OK(gguf_put_u32(w, k, v, &e));
}

static void put_f(struct gguf_writer *w, const char *arch, const char *key, double v) {
    char k[96];
    snprintf(k, sizeof k, "%s.%s", arch, key);
    OK(gguf_put_f32(w, k, (float)v, &e));
}

static const char *arch_of(const struct js_val *m) {
    const char *t = js_get(js_get(m, "config"), "model_type")->s;
    return !strcmp(t, "gemma3_text") ? "gemma3" : !strcmp(t, "mistral") ? "llama" : t;
}

static void gguf_name(char out[96], const char *hf, bool gemma) {
    static const char *const names[][2] = {
        {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"}, {"self_attn.o_proj", "attn_output"},
        {"mlp.gate_proj", "ffn_gate"}, {"mlp.up_proj", "ffn_up"}, {"mlp.down_proj", "ffn_down"}, {"input_layernorm", "attn_norm"},
        {"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm", "attn_k_norm"}, {"pre_feedforward_layernorm", "ffn_norm"},
        {"post_feedforward_layernorm", "post_ffw_norm"}};
    unsigned l;
    int at = 0;
    const char *rest = NULL;
    if (sscanf(hf, "model.layers.%u.%n", &l, &at) == 1)
        rest = hf + at;
    if (!rest) {
        snprintf(out, 96, "%s", !strcmp(hf, "model.norm.weight") ? "output_norm.weight" : !strcmp(hf, "lm_head.weight") ? "output.weight" : "token_embd.weight");
        return;
    }
    const char *dot = strrchr(rest, '.');
    size_t n = (size_t)(dot - rest);
    const char *to = strncmp(rest, "post_attention_layernorm", n) ? NULL : gemma ? "post_attention_norm" : "ffn_norm";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i][0]) == n && !memcmp(names[i][0], rest, n))
            to = names[i][1];
    assert_non_null(to);
    snprintf(out, 96, "blk.%u.%s%s", l, to, dot);
}

static void write_gguf(const struct js_val *m) {
    const struct js_val *c = js_get(m, "config"), *rs = js_get(c, "rope_scaling");
    const char *arch = arch_of(m);
    struct gguf_writer *w;
    uint32_t H = u32_of(c, "num_attention_heads", 0), C = u32_of(c, "hidden_size", 0), D = u32_of(c, "head_dim", C / H), V = u32_of(c, "vocab_size", 0), k = 0;
    struct made made[128];
    float factors[64];
    if (!rs)
        rs = js_get(c, "rope_parameters");
    OK(gguf_writer_new(&w, &e));
    OK(gguf_put_string(w, "general.architecture", arch, &e));
    put_n(w, arch, "block_count", u32_of(c, "num_hidden_layers", 0));
    put_n(w, arch, "embedding_length", C);
    put_n(w, arch, "feed_forward_length", u32_of(c, "intermediate_size", 0));
    put_n(w, arch, "attention.head_count", H);
    put_n(w, arch, "attention.head_count_kv", u32_of(c, "num_key_value_heads", H));
    put_n(w, arch, "attention.key_length", D);
    put_n(w, arch, "attention.value_length", D);
    put_n(w, arch, "rope.dimension_count", D);
    put_n(w, arch, "context_length", u32_of(c, "max_position_embeddings", 0));
    put_f(w, arch, "attention.layer_norm_rms_epsilon", num_of(c, "rms_norm_eps", 0));
    put_f(w, arch, "rope.freq_base", num_of(c, "rope_theta", 10000));
    if (js_get(c, "sliding_window") && js_get(c, "sliding_window")->type == JS_NUMBER)
        put_n(w, arch, "attention.sliding_window", u32_of(c, "sliding_window", 0));
    const struct js_val *type = js_get(rs, "rope_type");
    if (js_is_str(type, "linear") || js_is_str(type, "yarn")) {
        char key[96];
        snprintf(key, sizeof key, "%s.rope.scaling.type", arch);
        OK(gguf_put_string(w, key, type->s, &e));
        put_f(w, arch, "rope.scaling.factor", num_of(rs, "factor", 1));
        if (js_is_str(type, "yarn"))
            put_n(w, arch, "rope.scaling.original_context_length", u32_of(rs, "original_max_position_embeddings", 0));
    }
    OK(gguf_put_string(w, "tokenizer.ggml.model", "gpt2", &e));
    OK(gguf_put_string(w, "tokenizer.ggml.pre", "gpt-2", &e));
    struct gguf_str piece[320];
    int32_t types[320];
    char text[320][8];
    uint32_t extra = 256;
    for (uint32_t i = 0; i < V; i++) {
        int32_t b = (int32_t)i - 3;
        if (i < 3 || i >= 259) {
            snprintf(text[i], 8, "<%u>", i);
        } else {
            bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
            text[i][utf8_encode((uint8_t *)text[i], plain ? (uint32_t)b : extra++)] = 0;
        }
        piece[i] = (struct gguf_str){text[i], strlen(text[i])};
        types[i] = i < 3 || i >= 259 ? 3 : 1;
    }
    OK(gguf_put_strings(w, "tokenizer.ggml.tokens", piece, V, &e));
    OK(gguf_put_i32s(w, "tokenizer.ggml.token_type", types, V, &e));
    OK(gguf_put_strings(w, "tokenizer.ggml.merges", piece, 0, &e));
    for (const struct js_val *t = js_get(m, "tensors")->first; t; t = t->next) {
        assert_true(k < 128);
        struct made *x = &made[k++];
        char name[96];
        *x = make(m, t);
        gguf_name(name, x->name, is_gemma(m));
        if (!strcmp(arch, "llama") && (strstr(name, "attn_q.") || strstr(name, "attn_k."))) {
            float *p = mem_array((size_t)x->rows * x->cols, sizeof *p);
            for (uint32_t r = 0; r < x->rows; r++) {
                uint32_t at = r % D, from = r / D * D + at % 2 * (D / 2) + at / 2;
                memcpy(p + (size_t)r * x->cols, x->f + (size_t)from * x->cols, x->cols * sizeof *p);
            }
            mem_free(x->f);
            x->f = p;
        }
        if (x->rows == 1) { /* vectors stay fp32 there */
            for (uint32_t i = 0; is_gemma(m) && i < x->cols; i++)
                x->f[i] += 1;
            OK(gguf_put_tensor(w, name, GPU_F32, (uint64_t[]){x->cols}, 1, x->f, x->cols * 4, &e));
        } else {
            OK(gpu_quantise(x->bytes, x->type, x->f, (size_t)x->rows * x->cols, &e));
            OK(gguf_put_tensor(w, name, x->type, (uint64_t[]){x->cols, x->rows}, 2, x->bytes, x->n, &e));
        }
    }
    const struct js_val *f = js_get(m, "factors");
    if (f) {
        uint32_t n = 0;
        for (const struct js_val *v = f->first; v; v = v->next)
            factors[n++] = (float)v->d;
        OK(gguf_put_tensor(w, "rope_freqs.weight", GPU_F32, (uint64_t[]){n}, 1, factors, n * 4, &e));
    }
    OK(gguf_write(w, gguf_path, &e));
    gguf_writer_free(w);
    while (k)
        made_free(&made[--k]);
}

/* ---- comparison ---- */

struct ids {
    uint32_t v[64], n;
};

static struct ids golden_ids(void) {
    struct ids r = {.n = 0};
    for (const struct js_val *v = js_get(golden.root, "ids")->first; v; v = v->next)
        r.v[r.n++] = (uint32_t)v->i;
    return r;
}

/* Largest difference from transformers' logits: through the engine, and by the fp32 path (negative where there is none). */
static void differences(double *engine, double *exact, const char *path, const struct js_val *m) {
    struct lm_model *model;
    struct lm_engine *en;
    struct lm_session *s;
    struct ids ids = golden_ids();
    const char *name = js_get(m, "name")->s;
    if (lm_model_open(&model, path, &e))
        fail_msg("%s: %s", name, e.text);
    uint32_t V = model->config.V;
    float *l = mem_array((size_t)ids.n * V, sizeof *l);
    OK(lm_engine_new(&en, model, &(struct lm_engine_opt){.act = LM_ACT_F32, .threads = 1}, &e));
    OK(lm_session_new(&s, en, NULL, 0, &e));
    OK(lm_step(en, &(struct lm_item){s, ids.v, ids.n, true, l}, 1, NULL, &e));
    *engine = 0;
    for (const struct js_val *v = js_get(m, "logits")->first; v; v = v->next) {
        const struct js_val *id = v->first->next;
        *engine = fmax(*engine, fabs((double)l[v->first->i * V + id->i] - id->next->d));
    }
    const struct js_val *margin = js_get(m, "margins")->first;
    uint32_t t = 0;
    for (const struct js_val *v = js_get(m, "highest")->first; v; v = v->next, margin = margin->next, t++) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < V; i++)
            best = l[t * V + i] > l[t * V + best] ? i : best;
        if (best != v->i && margin->d > CACHED)
            fail_msg("%s: at %u the highest is %u, not %lld", name, t, best, (long long)v->i);
    }
    lm_session_free(s);
    lm_engine_free(en);
    *exact = -1;
    struct lm_view *view;
    if (!lm_view_new(&view, model, ids.n, &e)) {
        struct gpu *g;
        struct lm_pass *p;
        double nll;
        uint8_t train[64] = {0};
        train[ids.n - 1] = 1;
        struct lm_example ex = {.tokens = ids.v, .train = train, .n = ids.n, .targets = 1};
        const struct lm_example *list[1] = {&ex};
        OK(gpu_open(&g, &(struct gpu_config){.threads = 1}, &e));
        OK(lm_pass_new(&p, g, view, NULL, ids.n, 1, false, LM_KEEP_ALL, &e));
        OK(lm_pass_forward(p, list, 1, false, NULL, &nll, &e));
        *exact = 0;
        for (const struct js_val *v = js_get(m, "logits")->first; v; v = v->next) {
            const struct js_val *id = v->first->next;
            OK(lm_pass_logits(p, 0, (uint32_t)v->first->i, l, &e));
            *exact = fmax(*exact, fabs((double)l[id->i] - id->next->d));
        }
        lm_pass_free(p);
        gpu_close(g);
        lm_view_free(view);
    }
    mem_free(l);
    lm_model_free(model);
}

static void close_enough(const char *how, const char *path, const struct js_val *m) {
    double engine, exact;
    differences(&engine, &exact, path, m);
    print_message("# %-24s %-11s fp16 cache %.5f", js_get(m, "name")->s, how, engine);
    if (exact >= 0)
        print_message(", fp32 %.6f\n", exact);
    else
        print_message("\n");
    if (!(engine <= CACHED && exact <= CLOSE))
        fail_msg("%s (%s) is too far from transformers", js_get(m, "name")->s, how);
}

/* The folder in dir as a GGUF file: transformers' logits again. One thing such files cannot say here: layers that slide by a period, but for
 * Gemma's. */
static void folder_as_gguf(struct lm_model *model, const struct js_val *m) {
    char path[96];
    struct lm_export_check k;
    const struct lm_config *c = &model->config;
    snprintf(path, sizeof path, "%s/merged.gguf", dir);
    if (c->window && c->window_pattern && !is_gemma(m)) {
        FAILS(LOAM_EUNSUPPORTED, lm_export_gguf(model, NULL, dir, path, GPU_F32, &e));
        assert_non_null(strstr(e.text, "layer_types"));
        return;
    }
    if (lm_export_gguf(model, NULL, dir, path, dtype_of(m), &e)) /* the folder's own type: no value changes */
        fail_msg("%s: as GGUF: %s", js_get(m, "name")->s, e.text);
    close_enough("folder as GGUF", path, m);
    OK(lm_export_check(&k, model, NULL, path, 1, NULL, &e));
    assert_true(k.positions > 100 && k.max < (k.exact ? 1e-4 : CACHED) && k.same == k.positions);
    FAILS(LOAM_EEXIST, lm_export_gguf(model, NULL, dir, path, GPU_F32, &e));
    unlink(path);
    OK(lm_quantize(dir, path, GPU_Q8_0, GPU_F16, &e));
    OK(lm_export_check(&k, model, NULL, path, 1, NULL, &e));
    print_message("# %-24s as Q8_0 from the folder: %.4f\n", js_get(m, "name")->s, k.max);
    assert_true(k.max > 0 && k.max < 0.5);
    unlink(path);
}

static void test_logits(void **st) {
    (void)st;
    for (const struct js_val *m = js_get(golden.root, "models")->first; m; m = m->next) {
        struct lm_model *model;
        write_folder(m);
        close_enough("safetensors", dir, m);
        /* out again, through the fp32 of the source: the same logits */
        OK(lm_model_open(&model, dir, &e));
        if (lm_export_folder(model, NULL, dir, out_dir, GPU_F32, &e))
            fail_msg("%s: export: %s", js_get(m, "name")->s, e.text);
        close_enough("exported", out_dir, m);
        FAILS(LOAM_EEXIST, lm_export_folder(model, NULL, dir, out_dir, GPU_F32, &e));
        empty(out_dir);
        folder_as_gguf(model, m);
        lm_model_free(model);
        write_gguf(m);
        close_enough("GGUF", gguf_path, m);
        OK(lm_model_open(&model, gguf_path, &e));
        OK(lm_export_folder(model, NULL, gguf_path, out_dir, GPU_F32, &e));
        close_enough("from GGUF", out_dir, m);
        struct lm_export_check k;
        OK(lm_export_check(&k, model, NULL, out_dir, 1, NULL, &e));
        assert_true(k.positions > 100 && k.max < CACHED);
        lm_model_free(model);
        empty(out_dir);
    }
}

/* ---- adapters and merged models ---- */

static struct lm_adapter *some_adapter(struct lm_model *m, bool rslora) {
    struct lm_shape shape;
    struct lm_hashes h;
    struct lm_adapter *a;
    OK(lm_model_hashes(&h, m, &e));
    lm_model_shape(&shape, m);
    OK(lm_adapter_new(&a, &shape, h.base, 4, 6, rslora, (1u << LM_LINEARS) - 1, &e));
    weight(a->data, "adapter", a->size, false);
    return a;
}

static void test_merged(void **st) {
    (void)st;
    char adapter[96], merged[96];
    snprintf(adapter, sizeof adapter, "%s/adapter.gguf", dir);
    snprintf(merged, sizeof merged, "%s/merged.gguf", dir);
    unsigned seen = 0;
    for (const struct js_val *m = js_get(golden.root, "models")->first; m; m = m->next) {
        static const char *const names[] = {"llama, tied", "qwen2", "qwen3", "gemma3"};
        bool wanted = false;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            wanted |= js_is_str(js_get(m, "name"), names[i]);
        if (!wanted)
            continue;
        seen++;
        write_folder(m);
        write_gguf(m);
        for (int from = 0; from < 2; from++) {
            const char *source = from ? gguf_path : dir;
            struct lm_model *model;
            struct lm_export_check k;
            OK(lm_model_open(&model, source, &e));
            struct lm_adapter *a = some_adapter(model, from == 0), *back;
            /* the adapter alone: written, read back, the same; rsLoRA becomes its scale */
            OK(lm_gguf_adapter_export(a, model, adapter, &e));
            OK(lm_gguf_adapter_import(&back, model, adapter, &e));
            assert_memory_equal(back->data, a->data, a->size * sizeof *a->data);
            assert_true(fabs((double)(back->scale / a->scale) - 1) < 1e-6);
            lm_adapter_free(back);
            FAILS(LOAM_EEXIST, lm_gguf_adapter_export(a, model, adapter, &e));
            unlink(adapter);
            OK(lm_export_folder(model, a, source, out_dir, GPU_F32, &e));
            OK(lm_export_check(&k, model, a, out_dir, 1, NULL, &e));
            assert_true(k.max < (k.exact ? CLOSE : CACHED));
            OK(lm_export_check(&k, model, NULL, out_dir, 1, NULL, &e));
            assert_true(k.max > 0.1); /* the adapter does something, and the check can fail */
            empty(out_dir);
            OK(lm_export_gguf(model, a, source, merged, GPU_F32, &e));
            OK(lm_export_check(&k, model, a, merged, 1, NULL, &e));
            assert_true(k.max < (k.exact ? CLOSE : CACHED));
            OK(lm_export_check(&k, model, NULL, merged, 1, NULL, &e));
            assert_true(k.max > 0.1);
            FAILS(LOAM_EEXIST, lm_export_gguf(model, a, source, merged, GPU_F32, &e));
            unlink(merged);
            OK(lm_export_gguf(model, a, source, merged, GPU_Q8_0, &e));
            OK(lm_export_check(&k, model, a, merged, 1, NULL, &e));
            assert_true(k.max < 0.5);
            unlink(merged);
            lm_adapter_free(a);
            lm_model_free(model);
        }
    }
    assert_int_equal(seen, 4);
}

/* ---- PEFT folders ---- */

/* The exported folder with the first `from` of one of its files replaced; what import says. */
static enum loam_status peft_with(struct lm_adapter **a, struct lm_model *m, const char *file, const char *from, const char *to) {
    char path[160];
    struct buf b = BUF_INIT(1 << 24), changed = BUF_INIT(1 << 24);
    size_t n = strlen(from), at = 0;
    snprintf(path, sizeof path, "%s/%s", out_dir, file);
    OK(file_read(&b, path, &e));
    while (at + n <= b.len && memcmp(b.data + at, from, n))
        at++;
    if (at + n > b.len)
        fail_msg("%s has no %s", file, from);
    OK(buf_add(&changed, b.data, at, &e));
    OK(buf_str(&changed, to, &e));
    OK(buf_add(&changed, b.data + at + n, b.len - at - n, &e));
    OK(file_write(path, changed.data, changed.len, 0600, &e));
    enum loam_status s = lm_peft_import(a, m, out_dir, &e);
    char text[sizeof e.text];
    memcpy(text, e.text, sizeof text);
    OK(file_write(path, b.data, b.len, 0600, &e));
    memcpy(e.text, text, sizeof text);
    buf_clear(&b);
    buf_clear(&changed);
    return s;
}

static const float *b_of(const struct lm_adapter *a, uint32_t layer, uint32_t kind) {
    return lm_adapter_find(a, layer, kind)->b;
}

static void test_peft(void **st) {
    (void)st;
    static const char config[] = "adapter_config.json", tensors[] = "adapter_model.safetensors";
    /* each setting is refused by its name */
    static const char *const refused[][2] = {
        {"\"use_dora\": false", "use_dora"}, {"\"modules_to_save\": null", "modules_to_save"}, {"\"fan_in_fan_out\": false", "fan_in_fan_out"}};
    static const char *const unknown[][2] = {
        {"\"lora_bias\": true,", "lora_bias"}, {"\"layer_replication\": [[0,1]],", "layer_replication"}, {"\"use_qalora\": true,", "use_qalora"},
        {"\"kasa_config\": {\"a\": 1},", "kasa_config"}, {"\"target_parameters\": [\"x\"],", "target_parameters"}, {"\"trainable_token_indices\": [1],", "trainable_token_indices"},
        {"\"never_heard_of\": 3,", "never_heard_of"}, {"\"init_lora_weights\": \"pissa\",", "init_lora_weights"}, {"\"alora_invocation_tokens\": [5],", "alora_invocation_tokens"}};
    const struct js_val *gm = js_get(golden.root, "models")->first;
    struct lm_model *m;
    write_folder(gm);
    OK(lm_model_open(&m, dir, &e));
    for (int rs = 0; rs < 2; rs++) {
        struct lm_adapter *a = some_adapter(m, rs), *b;
        OK(lm_peft_export(a, m, out_dir, "base", &e));
        OK(lm_peft_import(&b, m, out_dir, &e));
        assert_memory_equal(&a->scale, &b->scale, 4); /* alpha / r, or alpha / sqrt(r) */
        assert_int_equal(b->rslora, rs);
        assert_memory_equal(a->data, b->data, a->size * sizeof *a->data);
        lm_adapter_free(b);
        /* alpha of single modules: q's is twice the others', of layer 1 three times; the first key that fits counts */
        OK(peft_with(&b, m, config, "\"use_dora\"", "\"alpha_pattern\": {\"layers.1.self_attn.q_proj\": 18, \"q_proj\": 12}, \"use_dora\""));
        for (uint32_t l = 0; l < 2; l++)
            for (uint32_t i = 0; i < 16; i++) {
                float want = (float)((double)b_of(a, l, LM_Q)[i] * (l ? 3 : 2));
                assert_true(fabsf(b_of(b, l, LM_Q)[i] - want) <= 1e-6f * fabsf(want));
                assert_true(b_of(b, l, LM_K)[i] == b_of(a, l, LM_K)[i]);
            }
        lm_adapter_free(b);
        lm_adapter_free(a);
    }
    struct lm_adapter *b;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char to[64];
        snprintf(to, sizeof to, "\"%s\": %s", refused[i][1], i == 1 ? "[\"lm_head\"]" : "true");
        FAILS(LOAM_EUNSUPPORTED, peft_with(&b, m, config, refused[i][0], to));
        assert_non_null(strstr(e.text, refused[i][1]));
    }
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        char to[96];
        snprintf(to, sizeof to, "%s \"use_dora\"", unknown[i][0]);
        FAILS(LOAM_EUNSUPPORTED, peft_with(&b, m, config, "\"use_dora\"", to));
        if (!strstr(e.text, unknown[i][1]))
            fail_msg("%s is not named: %s", unknown[i][1], e.text);
    }
    FAILS(LOAM_EUNSUPPORTED, peft_with(&b, m, config, "\"LORA\"", "\"LOHA\""));
    assert_non_null(strstr(e.text, "peft_type"));
    FAILS(LOAM_EUNSUPPORTED, peft_with(&b, m, config, "\"none\"", "\"all\""));
    assert_non_null(strstr(e.text, "bias"));
    FAILS(LOAM_EINVAL, peft_with(&b, m, config, "\"r\": 4", "\"r\": 8")); /* not the file's rank */
    FAILS(LOAM_ERANGE, peft_with(&b, m, config, "\"r\": 4", "\"r\": 0"));
    FAILS(LOAM_ERANGE, peft_with(&b, m, config, "\"lora_alpha\": 6", "\"lora_alpha\": -6"));
    FAILS(LOAM_EINVAL, peft_with(&b, m, config, "\"use_dora\"", "\"rank_pattern\": {\"v_proj\": 2}, \"use_dora\""));
    assert_non_null(strstr(e.text, "v_proj"));
    FAILS(LOAM_EUNSUPPORTED, peft_with(&b, m, config, "\"use_dora\"", "\"rank_pattern\": {\".*v_proj\": 2}, \"use_dora\""));
    assert_non_null(strstr(e.text, ".*v_proj"));
    FAILS(LOAM_EUNSUPPORTED, peft_with(&b, m, tensors, "q_proj.lora_A", "q_proj.lora_Z"));
    assert_non_null(strstr(e.text, "q_proj.lora_Z"));
    FAILS(LOAM_EUNSUPPORTED, peft_with(&b, m, tensors, "0.self_attn.q_proj", "0.self_attn.x_proj"));
    FAILS(LOAM_EINVAL, peft_with(&b, m, tensors, "layers.0.", "layers.7."));
    char path[160];
    snprintf(path, sizeof path, "%s/%s", out_dir, config);
    unlink(path);
    snprintf(path, sizeof path, "%s/%s", out_dir, tensors);
    unlink(path);
    lm_model_free(m);
}

/* ---- blocks ---- */

/* Each format's blocks are dequantised to the bits of the gguf package. */
static void test_blocks(void **st) {
    (void)st;
    struct js_doc d;
    unsigned n = 0;
    assert_int_equal(load(&d, "blocks.json"), 0);
    for (const struct js_val *v = d.root->first; v; v = v->next, n++) {
        const struct js_val *in = js_get(v, "bytes"), *want = js_get(v, "values");
        uint32_t type = 0;
        while (type < 64 && (!gpu_type_name(type) || strcmp(gpu_type_name(type), js_get(v, "type")->s)))
            type++;
        assert_true(type < 64);
        size_t bytes = in->len / 2, count = want->len / 8;
        assert_int_equal(bytes / gpu_type_bytes(type) * gpu_type_elems(type), count);
        uint8_t *raw = mem_alloc(bytes), *exact = mem_alloc(count * 4);
        float *got = mem_array(count, sizeof *got);
        assert_true(raw && exact && got);
        OK(hex_decode(raw, bytes, in->s, &e));
        OK(hex_decode(exact, count * 4, want->s, &e));
        gpu_dequant(got, type, raw, count);
        for (size_t i = 0; i < count; i++) {
            float w;
            memcpy(&w, exact + 4 * i, 4);
            if (!(got[i] == w)) /* zeros may differ in sign: fma(d, q, m) against d q + m */
                fail_msg("%s: value %zu is %a, not %a", js_get(v, "type")->s, i, (double)got[i], (double)w);
        }
        mem_free(raw);
        mem_free(exact);
        mem_free(got);
    }
    assert_int_equal(n, 11);
    js_free(&d);
}

/* ---- refusals ---- */

static enum loam_status gguf_adapter(struct lm_model *m, const char *type, const char *arch, const char *tensor, uint64_t cols, uint64_t rows, float alpha, const char *says) {
    static float zero[4096];
    char path[96];
    struct gguf_writer *w;
    struct lm_adapter *a;
    snprintf(path, sizeof path, "%s/adapter.gguf", dir);
    OK(gguf_writer_new(&w, &e));
    OK(gguf_put_string(w, "general.type", "adapter", &e));
    OK(gguf_put_string(w, "adapter.type", type, &e));
    OK(gguf_put_string(w, "general.architecture", arch, &e));
    if (alpha != 0)
        OK(gguf_put_f32(w, "adapter.lora.alpha", alpha, &e));
    OK(gguf_put_tensor(w, tensor, GPU_F32, (uint64_t[]){cols, rows}, 2, zero, cols * rows * 4, &e));
    OK(gguf_write(w, path, &e));
    gguf_writer_free(w);
    enum loam_status s = lm_gguf_adapter_import(&a, m, path, &e);
    unlink(path);
    assert_true(s != LOAM_OK);
    if (!strstr(e.text, says))
        fail_msg("the refusal does not say \"%s\": %s", says, e.text);
    return s;
}

static void test_refused(void **st) {
    (void)st;
    const struct js_val *m = js_get(golden.root, "models")->first;
    struct lm_model *model;
    write_folder(m);
    OK(lm_model_open(&model, dir, &e));
    FAILS(LOAM_EUNSUPPORTED, gguf_adapter(model, "lora", "llama", "blk.0.attn_q.weight.lora_c", 64, 4, 4, "lora_c"));
    FAILS(LOAM_EUNSUPPORTED, gguf_adapter(model, "lora", "llama", "token_embd.weight.lora_a", 64, 4, 4, "token_embd"));
    FAILS(LOAM_EUNSUPPORTED, gguf_adapter(model, "control", "llama", "blk.0.attn_q.weight.lora_a", 64, 4, 4, "adapter.type"));
    FAILS(LOAM_EUNSUPPORTED, gguf_adapter(model, "lora", "qwen2", "blk.0.attn_q.weight.lora_a", 64, 4, 4, "architecture"));
    FAILS(LOAM_EINVAL, gguf_adapter(model, "lora", "llama", "blk.9.attn_q.weight.lora_a", 64, 4, 4, "layer 9"));
    FAILS(LOAM_EINVAL, gguf_adapter(model, "lora", "llama", "blk.0.attn_q.weight.lora_a", 64, 4, 4, "two matrices"));
    FAILS(LOAM_EUNSUPPORTED, lm_export_folder(model, NULL, dir, out_dir, GPU_Q8_0, &e));
    /* cut and damaged files: refused, or read as something, never more */
    char path[96];
    struct buf b = BUF_INIT(1 << 22);
    struct lm_adapter *a = some_adapter(model, false), *back;
    snprintf(path, sizeof path, "%s/adapter.gguf", dir);
    OK(lm_gguf_adapter_export(a, model, path, &e));
    OK(file_read(&b, path, &e));
    for (size_t n = 0; n < b.len; n += 1 + n / 9) {
        OK(file_write(path, b.data, n, 0600, &e));
        assert_true(lm_gguf_adapter_import(&back, model, path, &e) != LOAM_OK && !back);
    }
    for (size_t i = 0; i < 300; i++) {
        size_t at = i < 200 ? i * 17 % 2500 : i * 7919 % b.len;
        b.data[at] ^= (uint8_t)(1u << i % 8);
        OK(file_write(path, b.data, b.len, 0600, &e));
        if (!lm_gguf_adapter_import(&back, model, path, &e))
            lm_adapter_free(back);
        b.data[at] ^= (uint8_t)(1u << i % 8);
    }
    unlink(path);
    buf_clear(&b);
    lm_adapter_free(a);
    lm_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_logits), cmocka_unit_test(test_merged), cmocka_unit_test(test_peft), cmocka_unit_test(test_blocks), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
