#include "lm/peft.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "gpu/ops.h"
#include "lm/model.h"
#include "lm/tokenizer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define CONFIG_MAX (1u << 20)
#define HEADER_MAX (64u << 20)

static const char *const modules[LM_LINEARS] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                                "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

/* Hugging Face's row of GGUF row r of a matrix with heads of D rows. */
static uint32_t hf_row(uint32_t r, uint32_t D) {
    uint32_t h = r / D, at = r % D;
    return h * D + at % 2 * (D / 2) + at / 2;
}

static bool permuted(const struct lm_model *m, uint32_t kind) {
    return m->config.rope == GPU_ROPE_NORM && (kind == LM_Q || kind == LM_K);
}

/* ---------------------------------------------------------------- out */

static enum loam_status header(struct buf *b, const struct lm_adapter *a, struct err *err) {
    uint64_t at = 0;
    enum loam_status s = buf_str(b, "{\"__metadata__\":{\"format\":\"pt\"}", err);
    for (uint32_t i = 0; !s && i < a->count; i++)
        for (int half = 0; !s && half < 2; half++) {
            const struct lm_lora *t = &a->t[i];
            uint32_t rows = half ? t->out : a->rank, cols = half ? a->rank : t->in;
            uint64_t n = (uint64_t)rows * cols * 4;
            s = buf_printf(b, err,
                           ",\"base_model.model.model.layers.%u.%s.lora_%c.weight\":{\"dtype\":\"F32\",\"shape\":[%u,%u],"
                           "\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
                           t->layer, modules[t->kind], half ? 'B' : 'A', rows, cols, at, at + n);
            at += n;
        }
    if (!s)
        s = buf_str(b, "}", err);
    while (!s && b->len % 8) /* the numbers begin aligned */
        s = buf_byte(b, ' ', err);
    return s;
}

static enum loam_status write_tensors(const struct lm_adapter *a, const struct lm_model *m, const char *path, struct err *err) {
    struct buf h = BUF_INIT(HEADER_MAX);
    enum loam_status s = header(&h, a, err);
    size_t total = 8 + h.len + a->size * 4;
    uint8_t *p = s ? NULL : mem_zalloc(total);
    if (!s && !p)
        s = err_set(err, LOAM_ENOMEM, "no memory to write %s", path);
    if (!s) {
        put_le64(p, h.len);
        memcpy(p + 8, h.data, h.len);
        uint8_t *to = p + 8 + h.len;
        for (uint32_t i = 0; i < a->count; i++) {
            const struct lm_lora *t = &a->t[i];
            size_t na = (size_t)a->rank * t->in * 4, row = (size_t)a->rank * 4;
            memcpy(to, t->a, na);
            to += na;
            for (uint32_t r = 0; r < t->out; r++)
                memcpy(to + (permuted(m, t->kind) ? hf_row(r, m->config.D) : r) * row, t->b + (size_t)r * a->rank, row);
            to += t->out * row;
        }
        s = file_write(path, p, total, 0600, err);
    }
    mem_free(p);
    buf_clear(&h);
    return s;
}

static enum loam_status write_config(const struct lm_adapter *a, const char *path, const char *base_name, struct err *err) {
    struct buf b = BUF_INIT(CONFIG_MAX);
    enum loam_status s = buf_str(&b, "{\n  \"peft_type\": \"LORA\",\n  \"task_type\": \"CAUSAL_LM\",\n  \"base_model_name_or_path\": ", err);
    if (!s)
        s = js_write_str(&b, base_name, strlen(base_name), err);
    if (!s)
        s = buf_printf(&b, err, ",\n  \"r\": %u,\n  \"lora_alpha\": ", a->rank);
    if (!s)
        s = js_write_num(&b, (double)a->alpha, err);
    if (!s)
        s = buf_printf(&b, err, ",\n  \"lora_dropout\": 0.0,\n  \"use_rslora\": %s,\n  \"use_dora\": false,\n  \"bias\": \"none\",\n"
                       "  \"fan_in_fan_out\": false,\n  \"inference_mode\": true,\n  \"modules_to_save\": null,\n  \"target_modules\": [",
                       a->rslora ? "true" : "false");
    bool first = true;
    for (uint32_t k = 0; !s && k < LM_LINEARS; k++) {
        bool there = false;
        for (uint32_t i = 0; i < a->count; i++)
            there |= a->t[i].kind == k;
        if (there) {
            s = buf_printf(&b, err, "%s\"%s\"", first ? "" : ", ", strchr(modules[k], '.') + 1);
            first = false;
        }
    }
    if (!s)
        s = buf_str(&b, "]\n}\n", err);
    if (!s)
        s = file_write(path, b.data, b.len, 0600, err);
    buf_clear(&b);
    return s;
}

enum loam_status lm_peft_export(const struct lm_adapter *a, const struct lm_model *m, const char *dir, const char *base_name,
                                struct err *err) {
    struct lm_shape shape;
    lm_model_shape(&shape, m);
    enum loam_status s = lm_adapter_fits(a, &shape, err);
    if (!s)
        s = file_mkdirs(dir, err);
    char *tensors = mem_printf("%s/adapter_model.safetensors", dir), *config = mem_printf("%s/adapter_config.json", dir);
    if (!s && (!tensors || !config))
        s = err_set(err, LOAM_ENOMEM, "no memory to export");
    if (!s)
        s = write_tensors(a, m, tensors, err);
    if (!s)
        s = write_config(a, config, base_name, err);
    mem_free(tensors);
    mem_free(config);
    return s;
}

/* ---------------------------------------------------------------- in */

struct peft_config {
    uint32_t rank;
    double alpha;
    bool rslora;
    struct js_doc doc;
};

static enum loam_status refuse(struct err *err, const char *what) {
    return err_set(err, LOAM_EUNSUPPORTED, "the adapter uses %s, which loam has not", what);
}

static bool set(const struct js_val *v) {
    return v && v->type != JS_NULL && !(v->type == JS_BOOL && !v->boolean) && !((v->type == JS_ARRAY || v->type == JS_OBJECT) && !v->n);
}

static enum loam_status read_config(struct peft_config *c, const char *path, struct err *err) {
    struct buf b = BUF_INIT(CONFIG_MAX);
    enum loam_status s = file_read(&b, path, err);
    if (!s)
        s = js_parse(&c->doc, b.data, b.len, err);
    buf_clear(&b);
    if (s)
        return err_prefix(err, s, "%s", path);
    const struct js_val *o = c->doc.root;
    /* What says nothing about the arithmetic, or is read here. Anything else that is set may change what the adapter computes. */
    static const char *const known[] = {
        "peft_type", "task_type", "peft_version", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping", "r", "lora_alpha", "lora_dropout",
        "use_rslora", "rank_pattern", "alpha_pattern", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "bias",
        "init_lora_weights", "megatron_core", "qalora_group_size", "runtime_config"};
    if (!o || o->type != JS_OBJECT)
        return err_set(err, LOAM_EPARSE, "%s is no object", path);
    if (!js_is_str(js_get(o, "peft_type"), "LORA"))
        return refuse(err, "another method than LoRA (peft_type)");
    for (const struct js_val *v = o->first; v; v = v->next) {
        bool ok = !set(v);
        for (size_t i = 0; i < sizeof known / sizeof *known && !ok; i++)
            ok = !strcmp(v->key, known[i]);
        char clean[64];
        if (!ok)
            return refuse(err, text_clean_cut(clean, sizeof clean, v->key, v->key_len));
    }
    /* PiSSA, OLoRA, LoftQ and the like change the base's weights when they begin: the adapter alone is half of it. */
    const struct js_val *init = js_get(o, "init_lora_weights");
    if (init && init->type == JS_STRING && !js_is_str(init, "gaussian") && !js_is_str(init, "orthogonal"))
        return err_set(err, LOAM_EUNSUPPORTED, "the adapter began from a changed base (init_lora_weights); convert it to plain LoRA with PEFT first");
    const struct js_val *bias = js_get(o, "bias");
    if (bias && !js_is_str(bias, "none"))
        return refuse(err, "trained biases (bias)");
    int64_t r;
    if ((s = js_get_int(&r, o, "r", 8, err)) || (s = js_get_num(&c->alpha, o, "lora_alpha", 8, err)) ||
        (s = js_get_bool(&c->rslora, o, "use_rslora", false, err)))
        return s;
    if (r < 1 || r > LM_RANK_MAX || !(c->alpha > 0))
        return err_set(err, LOAM_ERANGE, "%s: rank %lld, alpha %g", path, (long long)r, c->alpha);
    c->rank = (uint32_t)r;
    return LOAM_OK;
}

/* PEFT takes a pattern where the module's name ends with ".KEY" or is KEY; no expressions here. */
static enum loam_status pattern(double *out, const struct peft_config *c, const char *which, const char *name, struct err *err) {
    const struct js_val *o = js_get(c->doc.root, which);
    for (const struct js_val *v = o && o->type == JS_OBJECT ? o->first : NULL; v; v = v->next) {
        size_t n = strlen(name), k = v->key_len;
        if (strpbrk(v->key, "^$*+?()[]{}|\\"))
            return err_set(err, LOAM_EUNSUPPORTED, "%s holds the expression \"%s\"; only plain names are read", which, v->key);
        if (v->type != JS_NUMBER)
            return err_set(err, LOAM_EPARSE, "%s of %s is no number", which, v->key);
        if (n >= k && !memcmp(name + n - k, v->key, k) && (n == k || name[n - k - 1] == '.')) {
            *out = v->d;
            break; /* the first that fits counts */
        }
    }
    return LOAM_OK;
}

struct found { /* one matrix of the file */
    const uint8_t *p;
    uint32_t type, rows, cols;
};

static enum loam_status place(uint32_t *layer, uint32_t *kind, int *half, const char *key, struct err *err) {
    static const char *const heads[] = {"base_model.model.model.layers.", "base_model.model.layers.", "model.layers."};
    unsigned l = 0;
    int used = 0;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        size_t n = strlen(heads[i]);
        if (strncmp(key, heads[i], n) || sscanf(key + n, "%6u.%n", &l, &used) != 1 || !used)
            continue;
        const char *rest = key + n + used;
        for (uint32_t k = 0; k < LM_LINEARS; k++) {
            size_t len = strlen(modules[k]);
            if (strncmp(rest, modules[k], len))
                continue;
            const char *tail = rest + len;
            if (!strcmp(tail, ".lora_A.weight") || !strcmp(tail, ".lora_A.default.weight"))
                *half = 0;
            else if (!strcmp(tail, ".lora_B.weight") || !strcmp(tail, ".lora_B.default.weight"))
                *half = 1;
            else
                break;
            *layer = l;
            *kind = k;
            return LOAM_OK;
        }
    }
    char clean[160];
    return err_set(err, LOAM_EUNSUPPORTED, "the adapter holds the tensor %s, which loam has no place for",
                   text_clean_cut(clean, sizeof clean, key, strlen(key)));
}

static enum loam_status read_entry(struct found *f, const struct js_val *v, const uint8_t *data, size_t n, struct err *err) {
    const struct js_val *shape = js_get(v, "shape"), *at = js_get(v, "data_offsets");
    static const struct {
        const char *name;
        uint32_t type, size;
    } types[] = {{"F32", GPU_F32, 4}, {"F16", GPU_F16, 2}, {"BF16", GPU_BF16, 2}};
    uint32_t size = 0;
    for (size_t i = 0; i < 3; i++)
        if (js_is_str(js_get(v, "dtype"), types[i].name)) {
            f->type = types[i].type;
            size = types[i].size;
        }
    if (!size)
        return err_set(err, LOAM_EUNSUPPORTED, "%s: its numbers are not F32, F16 or BF16", v->key);
    if (!shape || shape->type != JS_ARRAY || shape->n != 2 || !at || at->type != JS_ARRAY || at->n != 2)
        return err_set(err, LOAM_EPARSE, "%s: shape or place is malformed", v->key);
    const struct js_val *r = shape->first, *c = r->next, *from = at->first, *to = from->next;
    if (!r->integral || !c->integral || r->i < 1 || c->i < 1 || r->i > 1 << 20 || c->i > 1 << 20 || !from->integral || !to->integral ||
        from->i < 0 || to->i < from->i || (uint64_t)to->i > n || to->i - from->i != r->i * c->i * size)
        return err_set(err, LOAM_EPARSE, "%s: shape and place do not fit the file", v->key);
    f->rows = (uint32_t)r->i;
    f->cols = (uint32_t)c->i;
    f->p = data + from->i;
    return LOAM_OK;
}

static enum loam_status fill(struct lm_adapter *a, const struct lm_model *m, const struct found *f, const double *scale,
                             struct err *err) {
    float *row = mem_array((size_t)1 << 20, sizeof *row);
    if (!row)
        return err_set(err, LOAM_ENOMEM, "no memory to read an adapter");
    enum loam_status s = LOAM_OK;
    for (uint32_t i = 0; !s && i < a->count; i++) {
        struct lm_lora *t = &a->t[i];
        const struct found *x = &f[(t->layer * LM_LINEARS + t->kind) * 2], *y = x + 1;
        uint32_t R = x->rows;
        double sc = scale[t->layer * LM_LINEARS + t->kind], factor = (float)sc == a->scale ? 1 : sc / (double)a->scale;
        for (uint32_t r = 0; r < R; r++)
            gpu_dequant(t->a + (size_t)r * t->in, x->type, x->p + (size_t)r * t->in * (x->type == GPU_F32 ? 4 : 2), t->in);
        for (uint32_t o = 0; o < t->out; o++) {
            uint32_t from = permuted(m, t->kind) ? hf_row(o, m->config.D) : o;
            gpu_dequant(row, y->type, y->p + (size_t)from * R * (y->type == GPU_F32 ? 4 : 2), R);
            for (uint32_t r = 0; r < R; r++)
                t->b[(size_t)o * a->rank + r] = factor == 1 ? row[r] : (float)((double)row[r] * factor);
        }
        for (size_t j = t->a_at; !s && j < t->b_at + (size_t)a->rank * t->out; j++)
            if (!isfinite(a->data[j]))
                s = err_set(err, LOAM_ENONFINITE, "layer %u %s holds a number that is not finite", t->layer, lm_linear_name(t->kind));
    }
    mem_free(row);
    return s;
}

static enum loam_status assemble(struct lm_adapter **out, struct lm_model *m, struct peft_config *c, const struct js_val *o,
                                 const uint8_t *data, size_t n, struct found *f, double *scale, struct err *err) {
    uint32_t L = m->config.L, rank = 0, targets = 0;
    struct lm_shape shape;
    enum loam_status s = LOAM_OK;
    lm_model_shape(&shape, m);
    for (const struct js_val *v = o->first; v; v = v->next) {
        uint32_t l = 0, k = 0;
        int half = 0;
        if (!strcmp(v->key, "__metadata__"))
            continue;
        if ((s = place(&l, &k, &half, v->key, err)))
            return s;
        if (l >= L)
            return err_set(err, LOAM_EINVAL, "the adapter has a layer %u, the model has %u", l, L);
        if ((s = read_entry(&f[(l * LM_LINEARS + k) * 2 + (uint32_t)half], v, data, n, err)))
            return s;
        targets |= 1u << k;
    }
    for (uint32_t l = 0; l < L; l++)
        for (uint32_t k = 0; k < LM_LINEARS; k++) {
            struct found *x = &f[(l * LM_LINEARS + k) * 2], *y = x + 1;
            char name[64];
            double r = c->rank, alpha = c->alpha;
            if (!x->p && !y->p)
                continue;
            snprintf(name, sizeof name, "model.layers.%u.%s", l, modules[k]);
            if (!x->p || !y->p || x->rows != y->cols || x->cols != shape.in[k] || y->rows != shape.out[k])
                return err_set(err, LOAM_EINVAL, "%s: its two matrices do not fit the model", name);
            if ((s = pattern(&r, c, "rank_pattern", name, err)) || (s = pattern(&alpha, c, "alpha_pattern", name, err)))
                return s;
            if (r != x->rows || x->rows > LM_RANK_MAX)
                return err_set(err, LOAM_EINVAL, "%s: rank %u in the file, %g in its configuration", name, x->rows, r);
            scale[l * LM_LINEARS + k] = c->rslora ? alpha / sqrt(r) : alpha / r;
            if (x->rows > rank)
                rank = x->rows;
        }
    if (!rank)
        return err_set(err, LOAM_EINVAL, "the adapter is empty");
    struct lm_hashes h;
    struct lm_adapter *a;
    if ((s = lm_model_hashes(&h, m, err)))
        return s;
    /* One scale for all: that of the configuration at the adapter's rank. */
    double alpha = c->rank == rank ? c->alpha : c->rslora ? c->alpha / sqrt(c->rank) * sqrt(rank) : c->alpha / c->rank * rank;
    if ((s = lm_adapter_new(&a, &shape, h.base, rank, (float)alpha, c->rslora, targets, err)))
        return s;
    for (uint32_t l = 0; l < L; l++) /* a module that the file has not stays zero: it adds nothing */
        for (uint32_t k = 0; k < LM_LINEARS; k++)
            if ((targets >> k & 1) && !f[(l * LM_LINEARS + k) * 2].p)
                s = err_set(err, LOAM_EUNSUPPORTED, "only some layers have %s adapted", modules[k]);
    a->eot = lm_token_eos(m->tokenizer);
    if (!s)
        s = fill(a, m, f, scale, err);
    if (s)
        lm_adapter_free(a);
    else
        *out = a;
    return s;
}

enum loam_status lm_peft_import(struct lm_adapter **out, struct lm_model *m, const char *dir, struct err *err) {
    struct peft_config c = {0};
    struct file_map f = {0};
    struct js_doc doc = {0};
    size_t slots = (size_t)m->config.L * LM_LINEARS;
    *out = NULL;
    char *tensors = mem_printf("%s/adapter_model.safetensors", dir), *config = mem_printf("%s/adapter_config.json", dir);
    struct found *found = mem_zarray(slots * 2, sizeof *found);
    double *scale = mem_zarray(slots, sizeof *scale);
    enum loam_status s = tensors && config && found && scale ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory to import");
    if (!s)
        s = read_config(&c, config, err);
    if (!s)
        s = file_map(&f, tensors, err);
    if (!s && (f.len < 8 || le64(f.data) > f.len - 8 || le64(f.data) > HEADER_MAX))
        s = err_set(err, LOAM_EPARSE, "%s is no safetensors file", tensors);
    if (!s && (s = js_parse(&doc, f.data + 8, le64(f.data), err)))
        s = err_prefix(err, s, "%s", tensors);
    if (!s && doc.root->type != JS_OBJECT)
        s = err_set(err, LOAM_EPARSE, "%s: its header is no object", tensors);
    if (!s)
        s = assemble(out, m, &c, doc.root, f.data + 8 + le64(f.data), f.len - 8 - (size_t)le64(f.data), found, scale, err);
    js_free(&doc);
    js_free(&c.doc);
    file_unmap(&f);
    mem_free(found);
    mem_free(scale);
    mem_free(tensors);
    mem_free(config);
    return s;
}
