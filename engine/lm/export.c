#include "lm/export.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "lm/export_in.h"
#include "lm/gguf.h"
#include "lm/pass.h"
#include "lm/session.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define HEADER_MAX (64u << 20)

static const char *const hf_linear[LM_LINEARS] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                                  "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

static bool llama(const struct lm_model *m) {
    return !strcmp(m->config.arch, "llama");
}

/* ---- a tensor's rows, with what an adapter adds ---- */

void export_row(float *out, const struct part *p, uint32_t r, const struct lm_adapter *a, uint32_t D, double *work) {
    const struct lm_tensor *t = p->t;
    uint32_t from = p->turn && t->rows > 1 ? p->turn(r, D) : r;
    lm_tensor_row(out, t, from);
    if (p->lora) {
        const float *b = p->lora->b + (size_t)from * a->rank;
        memset(work, 0, t->cols * sizeof *work);
        for (uint32_t k = 0; k < a->rank; k++) {
            double f = (double)b[k];
            const float *x = p->lora->a + (size_t)k * t->cols;
            for (uint32_t i = 0; i < t->cols; i++)
                work[i] += f * (double)x[i];
        }
        for (uint32_t i = 0; i < t->cols; i++)
            out[i] = (float)((double)out[i] + (double)a->scale * work[i]);
    }
    if (p->add != 0)
        for (uint32_t i = 0; i < t->cols; i++)
            out[i] += p->add;
}

struct parts {
    struct part *p;
    size_t n, cap;
};

static void part_add(struct parts *l, const struct lm_tensor *t, const struct lm_lora *lora, bool turned, float add, const char *name) {
    if (!t->data)
        return;
    LOAM_ASSERT(l->n < l->cap);
    struct part *p = &l->p[l->n++];
    *p = (struct part){.t = t, .lora = lora, .turn = turned ? export_gguf_row : NULL, .add = add};
    snprintf(p->name, sizeof p->name, "%s", name);
}

static enum loam_status parts_of(struct parts *l, const struct lm_model *m, const struct lm_adapter *a, struct err *err) {
    const struct lm_config *c = &m->config;
    bool heads = c->rope == GPU_ROPE_NORM, gemma = !strcmp(c->arch, "gemma3");
    float norm = gemma && !c->norm_plus_one ? -1.0f : 0.0f;
    char name[96];
    l->cap = 3 + (size_t)c->L * (2 * LM_LINEARS + 6);
    l->p = mem_zarray(l->cap, sizeof *l->p);
    if (!l->p)
        return err_set(err, LOAM_ENOMEM, "no memory for a list of tensors");
    part_add(l, &m->embed, NULL, false, 0, "model.embed_tokens.weight");
    for (uint32_t i = 0; i < c->L; i++) {
        const struct lm_layer *y = &m->layers[i];
        for (uint32_t k = 0; k < LM_LINEARS; k++) {
            snprintf(name, sizeof name, "model.layers.%u.%s.weight", i, hf_linear[k]);
            part_add(l, &y->w[k], a ? lm_adapter_find(a, i, k) : NULL, heads && (k == LM_Q || k == LM_K), 0, name);
            snprintf(name, sizeof name, "model.layers.%u.%s.bias", i, hf_linear[k]);
            part_add(l, &y->bias[k], NULL, heads && (k == LM_Q || k == LM_K), 0, name);
        }
        const struct {
            const char *name;
            const struct lm_tensor *t;
        } norms[] = {{"input_layernorm", &y->attn_norm}, {gemma ? "pre_feedforward_layernorm" : "post_attention_layernorm", &y->ffn_norm},
                     {"post_attention_layernorm", &y->post_attn_norm}, {"post_feedforward_layernorm", &y->post_ffn_norm},
                     {"self_attn.q_norm", &y->q_norm}, {"self_attn.k_norm", &y->k_norm}};
        for (size_t k = 0; k < sizeof norms / sizeof *norms; k++) {
            snprintf(name, sizeof name, "model.layers.%u.%s.weight", i, norms[k].name);
            part_add(l, norms[k].t, NULL, false, norm, name);
        }
    }
    part_add(l, &m->out_norm, NULL, false, norm, "model.norm.weight");
    if (!c->tied)
        part_add(l, &m->head, NULL, false, 0, "lm_head.weight");
    return LOAM_OK;
}

/* ---- safetensors ---- */

static enum loam_status st_header(struct buf *b, const struct parts *l, uint32_t type, struct err *err) {
    const char *dtype = type == GPU_F32 ? "F32" : type == GPU_F16 ? "F16" : "BF16";
    uint64_t at = 0;
    enum loam_status s = buf_str(b, "{\"__metadata__\":{\"format\":\"pt\"}", err);
    for (size_t i = 0; i < l->n && !s; i++) {
        const struct lm_tensor *t = l->p[i].t;
        uint64_t n = (uint64_t)t->rows * gpu_row_bytes(type, t->cols);
        s = buf_printf(b, err, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", l->p[i].name, dtype);
        if (!s && t->rows > 1)
            s = buf_printf(b, err, "%u,", t->rows);
        if (!s)
            s = buf_printf(b, err, "%u],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", t->cols, at, at + n);
        at += n;
    }
    if (!s)
        s = buf_str(b, "}", err);
    while (!s && b->len % 8) /* the numbers begin aligned */
        s = buf_byte(b, ' ', err);
    return s;
}

static enum loam_status st_write(const struct parts *l, const struct lm_model *m, const struct lm_adapter *a, const char *path, uint32_t type,
                                 struct err *err) {
    struct buf head = BUF_INIT(HEADER_MAX);
    struct file_out f = {.fd = -1};
    uint8_t len[8];
    uint32_t widest = 1;
    for (size_t i = 0; i < l->n; i++)
        widest = l->p[i].t->cols > widest ? l->p[i].t->cols : widest;
    float *row = mem_array(widest, sizeof *row), *turned = mem_array(widest, sizeof *turned);
    double *work = mem_array(widest, sizeof *work);
    void *out = mem_array(widest, 4);
    enum loam_status s = row && turned && work && out ? st_header(&head, l, type, err) : err_set(err, LOAM_ENOMEM, "no memory for a row of %u values", widest);
    if (!s)
        s = file_out_begin(&f, path, 0600, err);
    if (!s) {
        put_le64(len, head.len);
        s = file_out_add(&f, len, 8, err);
    }
    if (!s)
        s = file_out_add(&f, head.data, head.len, err);
    for (size_t i = 0; i < l->n && !s; i++) {
        const struct part *p = &l->p[i];
        for (uint32_t r = 0; r < p->t->rows && !s; r++) {
            export_row(row, p, r, a, m->config.D, work);
            const float *x = row;
            if (p->turn && p->t->rows == 1) { /* a bias */
                for (uint32_t k = 0; k < p->t->cols; k++)
                    turned[k] = row[p->turn(k, m->config.D)];
                x = turned;
            }
            s = gpu_quantise(out, type, x, p->t->cols, err);
            if (s)
                s = err_prefix(err, s, "tensor %s", p->name);
            else
                s = file_out_add(&f, out, gpu_row_bytes(type, p->t->cols), err);
        }
    }
    if (!s)
        s = file_out_end(&f, err);
    else
        file_out_drop(&f);
    mem_free(row);
    mem_free(turned);
    mem_free(work);
    mem_free(out);
    buf_clear(&head);
    return s;
}

static enum loam_status copy_if_there(const char *from, const char *dir, const char *name, struct err *err) {
    char *a = mem_printf("%s/%s", from, name), *b = mem_printf("%s/%s", dir, name);
    struct file_map map;
    enum loam_status s = a && b ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for a path");
    if (!s && file_exists(a) && !(s = file_map(&map, a, err))) {
        s = file_write(b, map.data, map.len, 0600, err);
        file_unmap(&map);
    }
    mem_free(a);
    mem_free(b);
    return s;
}

static enum loam_status write_text(const char *dir, const char *name, const struct buf *b, struct err *err) {
    char *path = mem_printf("%s/%s", dir, name);
    enum loam_status s = path ? file_write(path, b->data, b->len, 0600, err) : err_set(err, LOAM_ENOMEM, "no memory for a path");
    mem_free(path);
    return s;
}

enum loam_status lm_export_folder(struct lm_model *m, const struct lm_adapter *a, const char *from, const char *dir, uint32_t type,
                                  struct err *err) {
    struct parts l = {0};
    struct lm_shape shape;
    struct buf text = BUF_INIT(EXPORT_TEXT_MAX);
    bool folder = file_is_folder(from);
    char *config = mem_printf("%s/config.json", dir), *weights = mem_printf("%s/model.safetensors", dir);
    enum loam_status s = config && weights ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for a path");
    lm_model_shape(&shape, m);
    if (!s && type != GPU_F32 && type != GPU_F16 && type != GPU_BF16)
        s = err_set(err, LOAM_EUNSUPPORTED, "safetensors are written as F32, F16 or BF16, not as %s", gpu_type_name(type));
    if (!s && a)
        s = lm_adapter_fits(a, &shape, err);
    if (!s && file_exists(config))
        s = err_set(err, LOAM_EEXIST, "%s holds a model already", dir);
    /* what can be refused is refused before anything is written */
    if (!s)
        s = export_config(&text, m, type, err);
    if (!s)
        s = parts_of(&l, m, a, err);
    if (!s)
        s = file_mkdirs(dir, err);
    if (!s)
        s = st_write(&l, m, a, weights, type, err);
    if (!s && folder) {
        static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "chat_template.jinja", "tokenizer.model"};
        for (size_t i = 0; i < sizeof names / sizeof *names && !s; i++)
            s = copy_if_there(from, dir, names[i], err);
    } else if (!s) {
        struct buf b = BUF_INIT(EXPORT_TEXT_MAX);
        s = export_tokenizer(&b, m->tokenizer, err);
        if (!s)
            s = write_text(dir, "tokenizer.json", &b, err);
        buf_reset(&b);
        if (!s)
            s = export_tokenizer_config(&b, m, from, err);
        if (!s)
            s = write_text(dir, "tokenizer_config.json", &b, err);
        buf_reset(&b);
        if (!s)
            s = export_generation_config(&b, m->tokenizer, err);
        if (!s)
            s = write_text(dir, "generation_config.json", &b, err);
        buf_clear(&b);
    }
    if (!s) /* last: a folder with it is whole */
        s = write_text(dir, "config.json", &text, err);
    buf_clear(&text);
    mem_free(l.p);
    mem_free(config);
    mem_free(weights);
    return s;
}

/* ---- GGUF ---- */

enum loam_status lm_export_gguf(struct lm_model *m, const struct lm_adapter *a, const char *from, const char *to, uint32_t type, struct err *err) {
    struct gguf g = {0};
    struct gguf_writer *w = NULL;
    struct parts l = {0};
    struct lm_shape shape;
    lm_model_shape(&shape, m);
    enum loam_status s = a ? lm_adapter_fits(a, &shape, err) : LOAM_OK;
    if (!s && file_exists(to))
        s = err_set(err, LOAM_EEXIST, "%s is there already", to);
    if (!s && file_is_folder(from))
        return export_gguf_of_folder(m, a, from, to, type, type, err);
    if (!s)
        s = gguf_open(&g, from, err);
    if (s)
        return s;
    void **keep = mem_zarray(g.n_tensors ? g.n_tensors : 1, sizeof *keep);
    float *row = NULL;
    double *work = NULL;
    s = keep ? parts_of(&l, m, a, err) : err_set(err, LOAM_ENOMEM, "no memory for a table");
    if (!s)
        s = gguf_writer_new(&w, err);
    for (uint64_t i = 0; i < g.n_pairs && !s; i++)
        if (!gguf_str_is(g.pairs[i].key, "general.file_type") && !gguf_str_is(g.pairs[i].key, "general.alignment"))
            s = gguf_put_pair(w, &g.pairs[i], err);
    for (uint64_t i = 0; i < g.n_tensors && !s; i++) {
        const struct gguf_tensor *t = &g.tensors[i];
        struct part *p = NULL;
        for (size_t k = 0; k < l.n && !p; k++)
            if (l.p[k].lora && !strcmp(l.p[k].t->name, t->name))
                p = &l.p[k];
        if (!p) {
            s = gguf_put_tensor(w, t->name, t->type, t->ne, t->dims, t->data, t->bytes, err);
            continue;
        }
        uint32_t as = p->t->cols % gpu_type_elems(type) ? GPU_F16 : type; /* rows that are no whole blocks */
        size_t bytes = gpu_row_bytes(as, p->t->cols);
        p->turn = NULL; /* the file's own order stays */
        mem_free(row);
        mem_free(work);
        row = mem_array(p->t->cols, sizeof *row);
        work = mem_array(p->t->cols, sizeof *work);
        unsigned char *out = keep[i] = mem_array(p->t->rows, bytes);
        if (!row || !work || !out)
            s = err_set(err, LOAM_ENOMEM, "no memory for tensor %s", t->name);
        for (uint32_t r = 0; r < p->t->rows && !s; r++) {
            export_row(row, p, r, a, m->config.D, work);
            s = gpu_quantise(out + r * bytes, as, row, p->t->cols, err);
            if (s)
                s = err_prefix(err, s, "tensor %s", t->name);
        }
        if (!s)
            s = gguf_put_tensor(w, t->name, as, t->ne, t->dims, out, p->t->rows * bytes, err);
    }
    if (!s)
        s = gguf_write(w, to, err);
    for (uint64_t i = 0; keep && i < g.n_tensors; i++)
        mem_free(keep[i]);
    mem_free(keep);
    mem_free(row);
    mem_free(work);
    mem_free(l.p);
    gguf_writer_free(w);
    gguf_clear(&g);
    return s;
}

/* ---- comparison ---- */

static const char check_text[] = "The river ends in a lake that nobody has drawn on a map. In 1907 three sisters built a mill there, and they said "
                                 "they would never sell it: \"We'll grind until the wheel is worn to half of what it was.\" Their cousin "
                                 "counted 128 sacks, wrote f(x) = 3x + 1 on the door, and left for the coast.";

enum { CHECK_ROWS = 32, CHECK_TOKENS = 128 };

/* One model's logits: by training's fp32 path where the model has one, else through the engine, whose fp16 cache adds a noise of
 * some 1e-2 to the difference of two models that differ at all. */
struct side {
    struct lm_engine *e;
    struct lm_session *s;
    struct gpu *gpu;
    struct lm_view *v;
    struct lm_pass *p;
    uint8_t train[CHECK_TOKENS]; /* the pass looks at the example as long as it is asked for logits */
    struct lm_example ex;
    const struct lm_example *list[1];
    float *logits; /* [CHECK_ROWS × V] */
};

static enum loam_status side_open(struct side *d, struct lm_model *m, const struct lm_adapter *a, const struct lm_ids *ids, bool exact, unsigned threads,
                                  struct err *err) {
    enum loam_status s = LOAM_OK;
    if (!(d->logits = mem_array((size_t)CHECK_ROWS * m->config.V, sizeof *d->logits)))
        return err_set(err, LOAM_ENOMEM, "no memory for logits");
    if (!exact) {
        s = lm_engine_new(&d->e, m, &(struct lm_engine_opt){.act = LM_ACT_F32, .threads = threads}, err);
        return s ? s : lm_session_new(&d->s, d->e, a, ids->n, err);
    }
    double nll;
    d->train[ids->n - 1] = 1;
    d->ex = (struct lm_example){.tokens = ids->ids, .train = d->train, .n = ids->n, .targets = 1};
    d->list[0] = &d->ex;
    s = lm_view_new(&d->v, m, ids->n, err);
    if (!s)
        s = gpu_open(&d->gpu, &(struct gpu_config){.threads = threads}, err);
    if (!s)
        s = lm_pass_new(&d->p, d->gpu, d->v, a, ids->n, 1, false, LM_KEEP_ALL, err);
    return s ? s : lm_pass_forward(d->p, d->list, 1, false, NULL, &nll, err);
}

static enum loam_status side_logits(struct side *d, const struct lm_ids *ids, uint32_t at, uint32_t n, uint32_t V, const atomic_int *cancel, struct err *err) {
    if (d->e)
        return lm_step(d->e, &(struct lm_item){d->s, ids->ids + at, n, true, d->logits}, 1, cancel, err);
    enum loam_status s = LOAM_OK;
    for (uint32_t i = 0; i < n && !s; i++)
        s = lm_pass_logits(d->p, 0, at + i, d->logits + (size_t)i * V, err);
    return s;
}

static void side_close(struct side *d) {
    lm_session_free(d->s);
    lm_engine_free(d->e);
    lm_pass_free(d->p);
    gpu_close(d->gpu);
    lm_view_free(d->v);
    mem_free(d->logits);
}

static uint32_t highest(const float *l, uint32_t V) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < V; i++)
        best = l[i] > l[best] ? i : best;
    return best;
}

enum loam_status lm_export_check(struct lm_export_check *out, struct lm_model *m, const struct lm_adapter *a, const char *path, unsigned threads,
                                 const atomic_int *cancel, struct err *err) {
    struct lm_model *other = NULL;
    struct lm_ids ids = {0}, again = {0};
    struct side d[2] = {{0}, {0}};
    uint32_t V = m->config.V;
    double sum = 0;
    *out = (struct lm_export_check){0};
    enum loam_status s = lm_model_open(&other, path, err);
    if (!s && other->config.V != V)
        s = err_set(err, LOAM_EHASH, "the written model has %u tokens, the source %u", other->config.V, V);
    if (!s)
        s = lm_encode(&ids, m->tokenizer, check_text, sizeof check_text - 1, LM_ENCODE_BOS, err);
    if (!s)
        s = lm_encode(&again, other->tokenizer, check_text, sizeof check_text - 1, LM_ENCODE_BOS, err);
    if (!s && (ids.n != again.n || memcmp(ids.ids, again.ids, ids.n * sizeof *ids.ids)))
        s = err_set(err, LOAM_EHASH, "the written tokenizer cuts a text into other tokens than the source's");
    if (!s && ids.n > CHECK_TOKENS)
        ids.n = CHECK_TOKENS;
    if (!s && ids.n > m->config.context)
        ids.n = m->config.context;
    if (!s && ids.n < 2)
        s = err_set(err, LOAM_ELIMIT, "a context of %u tokens is too short for a comparison", m->config.context);
    if (!s) {
        struct lm_view *v = NULL;
        out->exact = lm_view_new(&v, m, ids.n, err) == LOAM_OK;
        lm_view_free(v);
    }
    if (!s)
        s = side_open(&d[0], m, a, &ids, out->exact, threads, err);
    if (!s)
        s = side_open(&d[1], other, NULL, &ids, out->exact, threads, err);
    for (uint32_t at = 0; at < ids.n && !s; at += CHECK_ROWS) {
        uint32_t n = ids.n - at < CHECK_ROWS ? ids.n - at : CHECK_ROWS;
        for (int k = 0; k < 2 && !s; k++)
            s = side_logits(&d[k], &ids, at, n, V, cancel, err);
        for (uint32_t r = 0; r < n && !s; r++) {
            const float *x = d[0].logits + (size_t)r * V, *y = d[1].logits + (size_t)r * V;
            uint32_t bx = highest(x, V), by = highest(y, V);
            for (uint32_t i = 0; i < V; i++) {
                double diff = fabs((double)x[i] - (double)y[i]);
                sum += diff;
                out->max = diff > out->max ? diff : out->max;
            }
            out->same += bx == by;
            out->clearest = bx != by && (double)(x[bx] - x[by]) > out->clearest ? (double)(x[bx] - x[by]) : out->clearest;
            out->positions++;
        }
    }
    if (!s)
        out->mean = sum / ((double)out->positions * V);
    side_close(&d[0]);
    side_close(&d[1]);
    lm_ids_clear(&ids);
    lm_ids_clear(&again);
    lm_model_free(other);
    return s;
}

/* ---- GGUF adapters ---- */

/* Rows of B leave in the order that GGUF files of this architecture have. */
static bool turns(const struct lm_model *m, uint32_t kind) {
    return llama(m) && m->config.rope == GPU_ROPE_NEOX && (kind == LM_Q || kind == LM_K);
}

enum loam_status lm_gguf_adapter_export(const struct lm_adapter *a, struct lm_model *m, const char *path, struct err *err) {
    struct gguf_writer *w = NULL;
    struct lm_adapter *back = NULL;
    struct lm_shape shape;
    lm_model_shape(&shape, m);
    enum loam_status s = lm_adapter_fits(a, &shape, err);
    float **keep = mem_zarray(a->count ? a->count : 1, sizeof *keep);
    if (!s && !keep)
        s = err_set(err, LOAM_ENOMEM, "no memory for a table");
    if (!s && file_exists(path))
        s = err_set(err, LOAM_EEXIST, "%s is there already", path);
    if (!s)
        s = gguf_writer_new(&w, err);
    if (!s)
        s = gguf_put_string(w, "general.type", "adapter", err);
    if (!s)
        s = gguf_put_string(w, "general.architecture", m->config.arch, err);
    if (!s)
        s = gguf_put_string(w, "adapter.type", "lora", err);
    if (!s)
        s = gguf_put_f32(w, "adapter.lora.alpha", a->rslora ? (float)((double)a->scale * a->rank) : a->alpha, err);
    for (uint32_t i = 0; i < a->count && !s; i++) {
        const struct lm_lora *t = &a->t[i];
        char name[GGUF_NAME_MAX + 1];
        const float *b = t->b;
        uint64_t na[2] = {t->in, a->rank}, nb[2] = {a->rank, t->out};
        if (turns(m, t->kind)) {
            float *p = keep[i] = mem_array((size_t)t->out * a->rank, sizeof *p);
            if (!p) {
                s = err_set(err, LOAM_ENOMEM, "no memory for an adapter");
                break;
            }
            for (uint32_t r = 0; r < t->out; r++)
                memcpy(p + (size_t)r * a->rank, t->b + (size_t)export_hf_row(r, m->config.D) * a->rank, a->rank * sizeof *p);
            b = p;
        }
        snprintf(name, sizeof name, "blk.%u.%s.weight.lora_a", t->layer, lm_linear_name(t->kind));
        s = gguf_put_tensor(w, name, GPU_F32, na, 2, t->a, (uint64_t)a->rank * t->in * 4, err);
        snprintf(name, sizeof name, "blk.%u.%s.weight.lora_b", t->layer, lm_linear_name(t->kind));
        if (!s)
            s = gguf_put_tensor(w, name, GPU_F32, nb, 2, b, (uint64_t)t->out * a->rank * 4, err);
    }
    if (!s)
        s = gguf_write(w, path, err);
    if (!s)
        s = lm_gguf_adapter_import(&back, m, path, err);
    if (!s && (back->count != a->count || back->rank != a->rank || back->size != a->size || memcmp(back->data, a->data, a->size * sizeof *a->data)))
        s = err_set(err, LOAM_EHASH, "%s read back is another adapter", path);
    lm_adapter_free(back);
    for (uint32_t i = 0; keep && i < a->count; i++)
        mem_free(keep[i]);
    mem_free(keep);
    gguf_writer_free(w);
    return s;
}

struct half {
    const struct gguf_tensor *t;
};

/* blk.L.NAME.weight.lora_a: which matrix and which half. */
static enum loam_status place(uint32_t *layer, uint32_t *kind, int *half, const char *name, struct err *err) {
    unsigned l = 0;
    int used = 0;
    if (sscanf(name, "blk.%6u.%n", &l, &used) == 1 && used)
        for (uint32_t k = 0; k < LM_LINEARS; k++) {
            const char *linear = lm_linear_name(k), *rest = name + used;
            size_t n = strlen(linear);
            if (strncmp(rest, linear, n))
                continue;
            *half = !strcmp(rest + n, ".weight.lora_a") ? 0 : !strcmp(rest + n, ".weight.lora_b") ? 1 : -1;
            if (*half < 0)
                continue;
            *layer = l;
            *kind = k;
            return LOAM_OK;
        }
    return err_set(err, LOAM_EUNSUPPORTED, "the adapter holds the tensor %s, which loam has no place for", name);
}

static enum loam_status fill(struct lm_adapter *a, const struct lm_model *m, const struct half *f, double alpha, struct err *err) {
    float row[LM_RANK_MAX];
    for (uint32_t i = 0; i < a->count; i++) {
        struct lm_lora *t = &a->t[i];
        const struct gguf_tensor *x = f[(t->layer * LM_LINEARS + t->kind) * 2].t, *y = f[(t->layer * LM_LINEARS + t->kind) * 2 + 1].t;
        uint32_t R = (uint32_t)x->ne[1];
        float own = (float)(alpha / R);
        double factor = own == a->scale ? 1 : alpha / R / (double)a->scale;
        for (uint32_t r = 0; r < R; r++)
            gpu_dequant(t->a + (size_t)r * t->in, x->type, x->data + r * gpu_row_bytes(x->type, t->in), t->in);
        for (uint32_t o = 0; o < t->out; o++) {
            uint32_t from = turns(m, t->kind) ? export_gguf_row(o, m->config.D) : o;
            gpu_dequant(row, y->type, y->data + from * gpu_row_bytes(y->type, R), R);
            for (uint32_t r = 0; r < R; r++)
                t->b[(size_t)o * a->rank + r] = factor == 1 ? row[r] : (float)((double)row[r] * factor);
        }
        for (size_t j = t->a_at; j < t->b_at + (size_t)a->rank * t->out; j++)
            if (!isfinite(a->data[j]))
                return err_set(err, LOAM_ENONFINITE, "layer %u %s holds a number that is not finite", t->layer, lm_linear_name(t->kind));
    }
    return LOAM_OK;
}

static enum loam_status adapter_of(struct lm_adapter **out, struct lm_model *m, const struct gguf *g, struct half *f, struct err *err) {
    struct gguf_str type, kind, arch;
    struct lm_shape shape;
    struct lm_hashes h;
    uint32_t rank = 0, targets = 0;
    double alpha;
    lm_model_shape(&shape, m);
    enum loam_status s = gguf_string(&type, g, "general.type", err);
    if (!s)
        s = gguf_string(&kind, g, "adapter.type", err);
    if (!s)
        s = gguf_string(&arch, g, "general.architecture", err);
    if (!s)
        s = gguf_f64(&alpha, g, "adapter.lora.alpha", 0, err);
    if (s)
        return s;
    if (!gguf_str_is(type, "adapter") || !gguf_str_is(kind, "lora"))
        return err_set(err, LOAM_EUNSUPPORTED, "the file is no LoRA adapter (general.type adapter, adapter.type lora)");
    if (!gguf_str_is(arch, m->config.arch))
        return err_set(err, LOAM_EUNSUPPORTED, "the adapter is for another architecture (general.architecture) than the base's %s", m->config.arch);
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        uint32_t l = 0, k = 0;
        int half = 0;
        if ((s = place(&l, &k, &half, t->name, err)))
            return s;
        if (l >= m->config.L)
            return err_set(err, LOAM_EINVAL, "the adapter has a layer %u, the model has %u", l, m->config.L);
        if (t->dims != 2 || (t->type != GPU_F32 && t->type != GPU_F16 && t->type != GPU_BF16))
            return err_set(err, LOAM_EUNSUPPORTED, "tensor %s is no matrix of F32, F16 or BF16", t->name);
        f[(l * LM_LINEARS + k) * 2 + (uint32_t)half].t = t;
        targets |= 1u << k;
    }
    for (uint32_t l = 0; l < m->config.L; l++)
        for (uint32_t k = 0; k < LM_LINEARS; k++) {
            const struct gguf_tensor *x = f[(l * LM_LINEARS + k) * 2].t, *y = f[(l * LM_LINEARS + k) * 2 + 1].t;
            if (!x && !y && !(targets >> k & 1))
                continue;
            if (!x && !y)
                return err_set(err, LOAM_EUNSUPPORTED, "only some layers have %s adapted", lm_linear_name(k));
            if (!x || !y || x->ne[0] != shape.in[k] || y->ne[1] != shape.out[k] || x->ne[1] != y->ne[0] || x->ne[1] > LM_RANK_MAX)
                return err_set(err, LOAM_EINVAL, "layer %u %s: its two matrices do not fit the model", l, lm_linear_name(k));
            rank = x->ne[1] > rank ? (uint32_t)x->ne[1] : rank;
        }
    if (!rank)
        return err_set(err, LOAM_EINVAL, "the adapter is empty");
    if (alpha == 0) /* as llama.cpp: then the scale is 1, whatever the rank */
        return err_set(err, LOAM_EUNSUPPORTED, "the adapter has no adapter.lora.alpha");
    if (!(alpha > 0) || alpha > 1e6)
        return err_set(err, LOAM_ERANGE, "adapter.lora.alpha is %g", alpha);
    struct lm_adapter *a;
    if ((s = lm_model_hashes(&h, m, err)) || (s = lm_adapter_new(&a, &shape, h.base, rank, (float)alpha, false, targets, err)))
        return s;
    a->eot = lm_token_eos(m->tokenizer);
    s = fill(a, m, f, alpha, err);
    if (s)
        lm_adapter_free(a);
    else
        *out = a;
    return s;
}

enum loam_status lm_gguf_adapter_import(struct lm_adapter **out, struct lm_model *m, const char *path, struct err *err) {
    struct gguf g;
    *out = NULL;
    enum loam_status s = gguf_open(&g, path, err);
    if (s)
        return s;
    struct half *f = mem_zarray((size_t)m->config.L * LM_LINEARS * 2, sizeof *f);
    s = f ? adapter_of(out, m, &g, f, err) : err_set(err, LOAM_ENOMEM, "no memory to import");
    mem_free(f);
    gguf_clear(&g);
    return s ? err_prefix(err, s, "%s", path) : LOAM_OK;
}
