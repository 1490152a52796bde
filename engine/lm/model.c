#include "lm/model.h"
#include "base/clock.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "base/text.h"
#include "gpu/arith.h"
#include "lm/image.h"
#include "lm/model_in.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/banned.h"

enum loam_status model_new(struct lm_model **out, struct err *err) {
    struct lm_model *m = mem_zalloc(sizeof *m);
    struct lm_model_own *own = m ? mem_zalloc(sizeof *own) : NULL;
    if (!own) {
        mem_free(m);
        return err_set(err, LOAM_ENOMEM, "no memory for a model");
    }
    pthread_mutex_init(&own->lock, NULL);
    m->own = own;
    *out = m;
    return LOAM_OK;
}

void lm_model_free(struct lm_model *m) {
    if (!m)
        return;
    struct lm_model_own *o = m->own;
    lm_template_free(o->tmpl);
    lm_tokenizer_free(o->tokenizer);
    if (o->weights)
        mem_free(o->weights->layers);
    mem_free(o->weights);
    mem_free(o->image);
    mem_free(o->floats);
    file_unmap(&o->packed);
    mem_free(o->path);
    mem_free(o->images);
    gguf_clear(&o->gguf);
    for (size_t i = 0; i < o->n_maps; i++)
        file_unmap(&o->maps[i]);
    mem_free(o->maps);
    mem_free(o->tensors);
    pthread_mutex_destroy(&o->lock);
    mem_free(o);
    mem_free(m->layers);
    mem_free(m);
}

enum loam_status model_check_config(const struct lm_config *c, struct err *err) {
    const struct {
        const char *what;
        uint32_t v, max;
    } sizes[] = {
        {"layers", c->L, MODEL_LAYERS_MAX}, {"width", c->C, MODEL_WIDTH_MAX}, {"heads", c->H, 4096},
        {"key/value heads", c->G, 4096},    {"head size", c->D, 256},         {"ffn width", c->F, MODEL_FFN_MAX},
        {"vocabulary", c->V, LM_VOCAB_MAX}, {"context", c->context, MODEL_CONTEXT_MAX},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].v == 0 || sizes[i].v > sizes[i].max)
            return err_set(err, LOAM_EPARSE, "the model's %s: %u, not in 1 to %u", sizes[i].what, sizes[i].v, sizes[i].max);
    if (c->H % c->G)
        return err_set(err, LOAM_EPARSE, "the model has %u heads, not a multiple of its %u key/value heads", c->H, c->G);
    if (c->D % 8)
        return err_set(err, LOAM_EUNSUPPORTED, "the model's head size %u is not a multiple of 8", c->D);
    if (!(c->norm_eps > 0) || c->norm_eps > 1)
        return err_set(err, LOAM_EPARSE, "the model's norm epsilon %g is not in (0, 1]", (double)c->norm_eps);
    if (!(c->rope_base >= 1) || c->rope_base > 1e12 || (c->rope_base_local != 0 && !(c->rope_base_local >= 1)))
        return err_set(err, LOAM_EPARSE, "the model's RoPE base %g is not in 1 to 1e12", c->rope_base);
    if (!isfinite(c->scaling_factor) || !isfinite(c->scaling_low) || !isfinite(c->scaling_high) || !isfinite(c->embed_scale) ||
        !isfinite(c->attn_scale) || (c->scaling != LM_SCALING_NONE && !(c->scaling_factor > 0)))
        return err_set(err, LOAM_EPARSE, "a scaling factor of the model is not a positive number");
    return LOAM_OK;
}

void model_attn_scale(struct lm_config *c, double size) {
    double scale = 1.0 / sqrt(size > 0 ? size : 1.0);
    if (c->scaling == LM_SCALING_YARN) {
        /* cos and sin of q and k are both multiplied by it: the scores by its square */
        double f = c->scaling_attn > 0 ? c->scaling_attn : c->scaling_factor <= 1 ? 1.0 : 0.1 * arith_log64(c->scaling_factor) + 1.0;
        scale *= f * f;
    }
    c->attn_scale = (float)scale;
}

void lm_model_shape(struct lm_shape *out, const struct lm_model *m) {
    const struct lm_config *c = &m->config;
    const uint32_t q = c->H * c->D, kv = c->G * c->D;
    *out = (struct lm_shape){
        .layers = c->L,
        .in = {[LM_Q] = c->C, [LM_K] = c->C, [LM_V] = c->C, [LM_O] = q, [LM_GATE] = c->C, [LM_UP] = c->C, [LM_DOWN] = c->F},
        .out = {[LM_Q] = q, [LM_K] = kv, [LM_V] = kv, [LM_O] = c->C, [LM_GATE] = c->F, [LM_UP] = c->F, [LM_DOWN] = c->C},
    };
}

struct shape_check {
    struct lm_model *m;
    struct err *err;
    enum loam_status s;
};

static void want(struct shape_check *k, const struct lm_tensor *t, uint32_t rows, uint32_t cols, bool needed) {
    if (k->s || (!t->data && !needed))
        return;
    if (!t->data)
        k->s = err_set(k->err, LOAM_EPARSE, "the model lacks tensor %s", t->name ? t->name : "(unnamed)");
    else if (t->rows != rows || t->cols != cols)
        k->s = err_set(k->err, LOAM_EPARSE, "tensor %s is %u x %u; the configuration wants %u x %u", t->name, t->rows, t->cols,
                       rows, cols);
    k->m->params += (uint64_t)t->rows * t->cols;
    k->m->bytes += t->bytes;
}

enum loam_status model_check_tensors(struct lm_model *m, struct err *err) {
    const struct lm_config *c = &m->config;
    struct shape_check k = {m, err, LOAM_OK};
    struct lm_shape shape;
    lm_model_shape(&shape, m);
    m->params = m->bytes = 0;
    want(&k, &m->embed, c->V, c->C, true);
    if (!c->tied)
        want(&k, &m->head, c->V, c->C, true);
    want(&k, &m->out_norm, 1, c->C, true);
    want(&k, &m->rope_freqs, 1, c->D / 2, false);
    m->quantised = gpu_type_quantised(m->head.type);
    for (uint32_t l = 0; l < c->L; l++) {
        struct lm_layer *y = &m->layers[l];
        want(&k, &y->attn_norm, 1, c->C, true);
        want(&k, &y->ffn_norm, 1, c->C, true);
        for (int w = 0; w < LM_LINEARS; w++) {
            want(&k, &y->w[w], shape.out[w], shape.in[w], true);
            want(&k, &y->bias[w], 1, shape.out[w], false);
            if (!gpu_type_quantised(y->w[w].type) || shape.in[w] % 32)
                m->quantised = false;
        }
        want(&k, &y->q_norm, 1, c->D, false);
        want(&k, &y->k_norm, 1, c->D, false);
        want(&k, &y->post_attn_norm, 1, c->C, false);
        want(&k, &y->post_ffn_norm, 1, c->C, false);
    }
    if (!k.s && m->tokenizer && lm_tokenizer_size(m->tokenizer) > c->V)
        k.s = err_set(err, LOAM_EPARSE, "the tokenizer has %u tokens, the embedding only %u rows",
                      lm_tokenizer_size(m->tokenizer), c->V);
    return k.s;
}

enum loam_status lm_model_open(struct lm_model **out, const char *path, struct err *err) {
    return lm_model_open_images(out, path, NULL, err);
}

enum loam_status lm_model_open_images(struct lm_model **out, const char *path, const char *images, struct err *err) {
    struct lm_model *m;
    *out = NULL;
    enum loam_status s = model_new(&m, err);
    if (s)
        return s;
    const char *base = strrchr(path, '/');
    text_clean_cut(m->name, sizeof m->name, base ? base + 1 : path, strlen(base ? base + 1 : path));
    s = file_is_folder(path) ? model_from_folder(m, path, err) : model_from_gguf(m, path, err);
    if (!s)
        s = model_check_tensors(m, err);
    m->own->path = mem_strdup(path);
    m->own->images = images ? mem_strdup(images) : NULL;
    if (!s && (!m->own->path || (images && !m->own->images)))
        s = err_set(err, LOAM_ENOMEM, "no memory for a path");
    if (s) {
        lm_model_free(m);
        return err_prefix(err, s, "%s", path);
    }
    *out = m;
    return LOAM_OK;
}

void lm_tensor_row(float *out, const struct lm_tensor *t, uint32_t r) {
    gpu_dequant(out, t->type, t->data + (uint64_t)r * t->row_bytes, t->cols);
}

/* ---- RoPE ---- */

#define PI 3.14159265358979323846

void lm_model_rope(double *inv_freq, const struct lm_model *m, bool local) {
    const struct lm_config *c = &m->config;
    uint32_t n = c->D / 2;
    gpu_rope_freqs(inv_freq, c->D, local && c->rope_base_local != 0 ? c->rope_base_local : c->rope_base);
    if (local)
        return;
    if (m->rope_freqs.data) {
        float f[128];
        gpu_dequant(f, m->rope_freqs.type, m->rope_freqs.data, n);
        for (uint32_t i = 0; i < n; i++)
            inv_freq[i] /= (double)f[i];
        return;
    }
    if (c->scaling == LM_SCALING_YARN) {
        /* "YaRN", 2023, section 3.2, as transformers rounds it: dimensions that turn often keep their speed, slow ones are
         * stretched, a ramp between. */
        double span = 2 * arith_log64(c->rope_base), ctx = (double)c->scaling_context;
        double low = floor(c->D * arith_log64(ctx / (c->scaling_low * 2 * PI)) / span);
        double high = ceil(c->D * arith_log64(ctx / (c->scaling_high * 2 * PI)) / span);
        low = low < 0 ? 0 : low;
        high = high > c->D - 1.0 ? c->D - 1.0 : high;
        high = high == low ? low + 0.001 : high;
        for (uint32_t i = 0; i < n; i++) {
            double ramp = ((double)i - low) / (high - low);
            ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
            inv_freq[i] = inv_freq[i] / c->scaling_factor * ramp + inv_freq[i] * (1 - ramp);
        }
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (c->scaling == LM_SCALING_LINEAR) {
            inv_freq[i] /= c->scaling_factor;
        } else if (c->scaling == LM_SCALING_LLAMA3) {
            /* Llama 3.1's rule: long waves are stretched, short ones kept, those between blended. */
            double wave = 2 * PI / inv_freq[i], old = c->scaling_context, low = old / c->scaling_low, high = old / c->scaling_high;
            if (wave > low) {
                inv_freq[i] /= c->scaling_factor;
            } else if (wave > high) {
                double smooth = (old / wave - c->scaling_low) / (c->scaling_high - c->scaling_low);
                inv_freq[i] = (1 - smooth) * inv_freq[i] / c->scaling_factor + smooth * inv_freq[i];
            }
        }
    }
}

/* ---- hashes ---- */

static void add_u32(struct keccak *k, uint32_t v) {
    uint8_t b[4];
    put_le32(b, v);
    keccak_add(k, b, 4);
}

static void add_f64(struct keccak *k, double d) {
    uint64_t u;
    uint8_t b[8];
    memcpy(&u, &d, 8);
    put_le64(b, u);
    keccak_add(k, b, 8);
}

static void add_f32(struct keccak *k, float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    add_u32(k, u);
}

static void release(struct lm_model_own *o);

#define HASH_PIECE ((size_t)4 << 20) /* hashed, then let go: the model is never in memory twice */

/* table: shapes and types only. */
static void add_tensor(struct keccak *k, const struct lm_model *m, const struct lm_tensor *t, bool table) {
    if (!t->data)
        return;
    uint8_t h[32];
    add_u32(k, t->type);
    add_u32(k, t->rows);
    add_u32(k, t->cols);
    if (table)
        return;
    struct keccak of;
    keccak_init(&of);
    for (size_t at = 0; at < t->bytes; at += HASH_PIECE) {
        keccak_add(&of, t->data + at, t->bytes - at < HASH_PIECE ? t->bytes - at : HASH_PIECE);
        release(m->own);
    }
    keccak_end(&of, h);
    keccak_add(k, h, 32);
}

static void base_hash(uint8_t out[32], const struct lm_model *m, bool table) {
    const struct lm_config *c = &m->config;
    struct keccak k;
    keccak_init(&k);
    keccak_add(&k, "loam.base.1", 11);
    add_u32(&k, (uint32_t)strlen(c->arch));
    keccak_add(&k, c->arch, strlen(c->arch));
    const uint32_t sizes[] = {c->L, c->C, c->H, c->G, c->D, c->F, c->V, c->context};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        add_u32(&k, sizes[i]);
    add_f32(&k, c->norm_eps);
    add_f64(&k, c->rope_base);
    add_u32(&k, c->rope);
    add_u32(&k, c->scaling);
    add_f64(&k, c->scaling_factor);
    add_f64(&k, c->scaling_low);
    add_f64(&k, c->scaling_high);
    add_f64(&k, c->scaling_attn);
    add_u32(&k, c->scaling_context);
    add_f64(&k, c->rope_base_local);
    const uint32_t rest[] = {c->window, c->window_pattern, c->tied, c->gelu, c->norm_plus_one};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
        add_u32(&k, rest[i]);
    add_f32(&k, c->embed_scale);
    add_f32(&k, c->attn_scale);
    add_tensor(&k, m, &m->embed, table);
    for (uint32_t l = 0; l < c->L; l++) {
        const struct lm_layer *y = &m->layers[l];
        add_tensor(&k, m, &y->attn_norm, table);
        for (int w = LM_Q; w <= LM_O; w++)
            add_tensor(&k, m, &y->w[w], table);
        add_tensor(&k, m, &y->ffn_norm, table);
        for (int w = LM_GATE; w <= LM_DOWN; w++)
            add_tensor(&k, m, &y->w[w], table);
        for (int w = 0; w < LM_LINEARS; w++)
            add_tensor(&k, m, &y->bias[w], table);
        add_tensor(&k, m, &y->q_norm, table);
        add_tensor(&k, m, &y->k_norm, table);
        add_tensor(&k, m, &y->post_attn_norm, table);
        add_tensor(&k, m, &y->post_ffn_norm, table);
    }
    add_tensor(&k, m, &m->out_norm, table);
    if (!c->tied)
        add_tensor(&k, m, &m->head, table);
    add_tensor(&k, m, &m->rope_freqs, table);
    keccak_end(&k, out);
}

/* What names the files as they are now, without reading their weights: the configuration, shapes, and what the system says of each file. */
static void ident(uint8_t out[32], uint64_t *changed_ms, const struct lm_model *m) {
    const struct lm_model_own *o = m->own;
    struct keccak k;
    uint8_t h[32], b[8];
    *changed_ms = 0;
    base_hash(h, m, true);
    keccak_init(&k);
    keccak_add(&k, h, 32);
    for (size_t i = 0; i <= o->n_maps; i++) {
        const struct file_map *f = i < o->n_maps ? &o->maps[i] : &o->gguf.map;
        const uint64_t v[] = {f->id.dev, f->id.ino, f->id.size, f->id.mtime_ns, f->id.ctime_ns};
        for (size_t j = 0; j < sizeof v / sizeof *v; j++) {
            put_le64(b, v[j]);
            keccak_add(&k, b, 8);
        }
        if (f->id.ctime_ns / 1000000 > *changed_ms)
            *changed_ms = f->id.ctime_ns / 1000000;
    }
    keccak_end(&k, out);
}

/* Under the lock. */
static void hash_all(struct lm_model *m) {
    struct lm_model_own *o = m->own;
    uint8_t id[32];
    uint64_t changed, now = clock_unix_ms();
    if (o->hashed)
        return;
    if (o->images)
        ident(id, &changed, m);
    if (!o->images || !image_known(o->hashes.base, o->images, o->path, id, changed)) {
        base_hash(o->hashes.base, m, false);
        release(o);
        if (o->images)
            image_remember(o->images, o->path, id, o->hashes.base, now);
    }
    lm_tokenizer_hash(o->hashes.tokenizer, m->tokenizer);
    if (m->tmpl)
        lm_template_hash(o->hashes.tmpl, m->tmpl);
    o->hashed = true;
}

enum loam_status lm_model_hashes(struct lm_hashes *out, struct lm_model *m, struct err *err) {
    (void)err;
    struct lm_model_own *o = m->own;
    pthread_mutex_lock(&o->lock);
    hash_all(m);
    *out = o->hashes;
    pthread_mutex_unlock(&o->lock);
    return LOAM_OK;
}

/* ---- weights as the kernels read them ---- */

#define ALIGN 64u

static uint64_t padded(uint64_t n) {
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

/* Two passes over the same walk: the first (image NULL) counts, the second fills. */
struct packer {
    struct lm_model *m;
    unsigned char *image;
    float *floats;
    bool packed; /* image and floats hold the weights already: pointers are set and nothing is written */
    uint64_t image_at, floats_at;
    struct err *err;
    enum loam_status s;
};

static void matrix(struct packer *p, struct gpu_weight *w, const struct lm_tensor *t) {
    if (p->s)
        return;
    size_t n = gpu_pack_bytes(t->type, t->rows, t->cols);
    if (!n) {
        p->s = err_set(p->err, LOAM_EUNSUPPORTED, "tensor %s (%s, %u x %u) cannot be packed", t->name, gpu_type_name(t->type),
                       t->rows, t->cols);
        return;
    }
    if (p->image) {
        void *to = p->image + p->image_at;
        *w = (struct gpu_weight){t->type, t->rows, t->cols, to};
        if (!p->packed) {
            p->s = gpu_pack(to, t->type, t->rows, t->cols, t->data, p->err);
            if (p->s)
                err_prefix(p->err, p->s, "tensor %s", t->name);
            release(p->m->own);
        }
    }
    p->image_at += padded(n);
}

static void vector(struct packer *p, const float **v, const struct lm_tensor *t) {
    if (p->s || !t->data)
        return;
    if (p->floats) {
        float *f = p->floats + p->floats_at;
        if (!p->packed)
            gpu_dequant(f, t->type, t->data, t->cols);
        for (uint32_t i = 0; !p->packed && i < t->cols; i++) {
            if (p->m->config.norm_plus_one) /* Gemma, which has no biases */
                f[i] += 1.0f;
            if (!isfinite(f[i])) {
                p->s = err_set(p->err, LOAM_ENONFINITE, "tensor %s: value %u is not finite", t->name, i);
                return;
            }
        }
        *v = f;
    }
    p->floats_at += padded(t->cols);
}

static void walk(struct packer *p, struct lm_weights *w) {
    struct lm_model *m = p->m;
    matrix(p, &w->embed, &m->embed);
    if (m->config.tied)
        w->head = w->embed;
    else
        matrix(p, &w->head, &m->head);
    vector(p, &w->out_norm, &m->out_norm);
    for (uint32_t l = 0; l < m->config.L; l++) {
        struct lm_layer *y = &m->layers[l];
        struct lm_layer_weights *z = &w->layers[l];
        for (int i = 0; i < LM_LINEARS; i++) {
            matrix(p, &z->w[i], &y->w[i]);
            vector(p, &z->bias[i], &y->bias[i]);
        }
        vector(p, &z->attn_norm, &y->attn_norm);
        vector(p, &z->ffn_norm, &y->ffn_norm);
        vector(p, &z->q_norm, &y->q_norm);
        vector(p, &z->k_norm, &y->k_norm);
        vector(p, &z->post_attn_norm, &y->post_attn_norm);
        vector(p, &z->post_ffn_norm, &y->post_ffn_norm);
    }
}

/* The kernels read the image: the file's own pages would only double the memory. */
static void release(struct lm_model_own *o) {
    file_map_release(&o->gguf.map);
    for (size_t i = 0; i < o->n_maps; i++)
        file_map_release(&o->maps[i]);
}

/* Takes the weights from a mapped image. */
static void use_image(struct packer *p, struct lm_weights *w, const struct file_map *map, uint64_t matrices) {
    p->packed = true;
    p->image = (unsigned char *)map->data + IMAGE_HEADER; /* only read from here on */
    p->floats = (float *)(void *)(p->image + matrices);
    p->image_at = p->floats_at = 0;
    walk(p, w);
    p->m->own->packed = *map;
}

static enum loam_status fill(struct packer *p, struct lm_weights *w) {
    struct lm_model_own *o = p->m->own;
    walk(p, w);
    if (p->s)
        return p->s;
    struct image_want want = {.dir = o->images, .matrices = p->image_at, .floats = p->floats_at * sizeof *p->floats};
    struct file_map map;
    struct err *note = &o->image_note;
    w->bytes = want.matrices;
    if (want.dir) {
        hash_all(p->m);
        memcpy(want.base, o->hashes.base, 32);
        enum loam_status s = image_open(&map, &want, note);
        if (!s) {
            note->text[0] = 0;
            use_image(p, w, &map, want.matrices);
            return p->s;
        }
        if (s == LOAM_ENOTFOUND)
            note->text[0] = 0; /* none was made yet */
    }
    o->image = mem_aligned(ALIGN, want.matrices);
    o->floats = mem_aligned(ALIGN, want.floats);
    if (!o->image || !o->floats)
        return err_set(p->err, LOAM_ENOMEM, "no memory for %llu MB of weights", (unsigned long long)(want.matrices >> 20));
    p->image = o->image;
    p->floats = o->floats;
    p->image_at = p->floats_at = 0;
    walk(p, w);
    if (p->s || !want.dir)
        return p->s;
    struct err e;
    enum loam_status s = image_make(&want, o->image, o->floats, &e);
    if (!s)
        s = image_open(&map, &want, &e);
    if (s) {
        *note = e;
        return LOAM_OK;
    }
    use_image(p, w, &map, want.matrices);
    mem_free(o->image);
    mem_free(o->floats);
    o->image = NULL;
    o->floats = NULL;
    return p->s;
}

static enum loam_status pack(struct lm_model *m, struct err *err) {
    struct lm_model_own *o = m->own;
    struct lm_weights *w = mem_zalloc(sizeof *w);
    struct lm_layer_weights *layers = w ? mem_zarray(m->config.L, sizeof *layers) : NULL;
    struct packer p = {.m = m, .err = err};
    if (!layers) {
        mem_free(w);
        return err_set(err, LOAM_ENOMEM, "no memory for a model's weights");
    }
    w->layers = layers;
    enum loam_status s = fill(&p, w);
    if (s) {
        mem_free(o->image);
        mem_free(o->floats);
        o->image = NULL;
        o->floats = NULL;
        mem_free(layers);
        mem_free(w);
        return s;
    }
    o->weights = w;
    release(o);
    return LOAM_OK;
}

bool lm_model_mapped(const struct lm_model *m, struct err *note) {
    struct lm_model_own *o = m->own;
    pthread_mutex_lock(&o->lock);
    *note = o->image_note;
    bool mapped = o->packed.data != NULL;
    pthread_mutex_unlock(&o->lock);
    return mapped;
}

enum loam_status lm_model_weights(const struct lm_weights **out, struct lm_model *m, struct err *err) {
    struct lm_model_own *o = m->own;
    enum loam_status s = LOAM_OK;
    pthread_mutex_lock(&o->lock);
    if (!o->weights)
        s = pack(m, err);
    *out = o->weights;
    pthread_mutex_unlock(&o->lock);
    return s;
}
