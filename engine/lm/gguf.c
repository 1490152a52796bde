#include "lm/gguf.h"
#include "base/mem.h"
#include "base/text.h"
#include "gpu/ops.h"

#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

#define MAGIC 0x46554747u /* "GGUF" read as little-endian */
#define ARRAY_MAX (1u << 24)

struct cursor {
    const unsigned char *base;
    uint64_t at, len;
    struct err *err;
};

static const uint8_t kind_size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static enum loam_status need(struct cursor *c, uint64_t n, const char *what) {
    if (c->len - c->at < n)
        return err_set(c->err, LOAM_EPARSE, "GGUF: the file ends inside %s at offset %llu (%llu bytes wanted, %llu left)", what,
                       (unsigned long long)c->at, (unsigned long long)n, (unsigned long long)(c->len - c->at));
    return LOAM_OK;
}

static enum loam_status get_u32(struct cursor *c, uint32_t *v, const char *what) {
    enum loam_status s = need(c, 4, what);
    if (s)
        return s;
    *v = le32(c->base + c->at);
    c->at += 4;
    return LOAM_OK;
}

static enum loam_status get_u64(struct cursor *c, uint64_t *v, const char *what) {
    enum loam_status s = need(c, 8, what);
    if (s)
        return s;
    *v = le64(c->base + c->at);
    c->at += 8;
    return LOAM_OK;
}

static enum loam_status get_str(struct cursor *c, struct gguf_str *v, const char *what) {
    enum loam_status s = get_u64(c, &v->len, what);
    if (!s)
        s = need(c, v->len, what);
    if (s)
        return s;
    v->s = (const char *)c->base + c->at;
    c->at += v->len;
    return LOAM_OK;
}

/* Moves past one value that is no array. */
static enum loam_status skip_scalar(struct cursor *c, enum gguf_kind kind, const char *what) {
    if (kind == GGUF_STRING) {
        struct gguf_str v;
        return get_str(c, &v, what);
    }
    enum loam_status s = need(c, kind_size[kind], what);
    if (s)
        return s;
    if (kind == GGUF_BOOL && c->base[c->at] > 1)
        return err_set(c->err, LOAM_EPARSE, "GGUF: %s at offset %llu is no boolean (%u)", what, (unsigned long long)c->at,
                       c->base[c->at]);
    c->at += kind_size[kind];
    return LOAM_OK;
}

static enum loam_status get_pair(struct cursor *c, struct gguf_pair *p) {
    uint64_t start = c->at;
    enum loam_status s = get_str(c, &p->key, "a key");
    if (s)
        return s;
    if (p->key.len == 0 || p->key.len > GGUF_NAME_MAX)
        return err_set(c->err, LOAM_EPARSE, "GGUF: a key of %llu bytes at offset %llu (1 to %u)",
                       (unsigned long long)p->key.len, (unsigned long long)start, GGUF_NAME_MAX);
    char key[GGUF_NAME_MAX + 1];
    text_clean_cut(key, sizeof key, p->key.s, p->key.len);
    uint32_t kind;
    if ((s = get_u32(c, &kind, key)))
        return s;
    if (kind > GGUF_F64)
        return err_set(c->err, LOAM_EPARSE, "GGUF: %s has unknown value type %u at offset %llu", key, kind,
                       (unsigned long long)(c->at - 4));
    p->kind = (enum gguf_kind)kind;
    p->n = 1;
    if (p->kind != GGUF_ARRAY) {
        p->data = c->base + c->at;
        return skip_scalar(c, p->kind, key);
    }
    uint32_t of;
    if ((s = get_u32(c, &of, key)) || (s = get_u64(c, &p->n, key)))
        return s;
    if (of > GGUF_F64 || of == GGUF_ARRAY)
        return err_set(c->err, LOAM_EUNSUPPORTED, "GGUF: %s is an array of type %u at offset %llu", key, of,
                       (unsigned long long)(c->at - 12));
    if (p->n > ARRAY_MAX)
        return err_set(c->err, LOAM_ELIMIT, "GGUF: %s has %llu elements (at most %u) at offset %llu", key,
                       (unsigned long long)p->n, ARRAY_MAX, (unsigned long long)(c->at - 8));
    p->of = (enum gguf_kind)of;
    p->data = c->base + c->at;
    if (p->of == GGUF_STRING || p->of == GGUF_BOOL) {
        for (uint64_t i = 0; i < p->n; i++)
            if ((s = skip_scalar(c, p->of, key)))
                return s;
        return LOAM_OK;
    }
    if ((s = need(c, p->n * kind_size[p->of], key)))
        return s;
    c->at += p->n * kind_size[p->of];
    return LOAM_OK;
}

static enum loam_status get_tensor(struct cursor *c, struct gguf_tensor *t) {
    uint64_t start = c->at;
    struct gguf_str name;
    enum loam_status s = get_str(c, &name, "a tensor's name");
    if (s)
        return s;
    if (name.len == 0 || name.len > GGUF_NAME_MAX || memchr(name.s, 0, name.len))
        return err_set(c->err, LOAM_EPARSE, "GGUF: a tensor's name at offset %llu is empty, too long or holds NUL",
                       (unsigned long long)start);
    text_clean_cut(t->name, sizeof t->name, name.s, name.len);
    if ((s = get_u32(c, &t->dims, t->name)))
        return s;
    if (t->dims == 0 || t->dims > GGUF_DIMS_MAX)
        return err_set(c->err, LOAM_EPARSE, "GGUF: tensor %s has %u dimensions (1 to %d) at offset %llu", t->name, t->dims,
                       GGUF_DIMS_MAX, (unsigned long long)(c->at - 4));
    uint64_t rows = 1;
    for (uint32_t i = 0; i < GGUF_DIMS_MAX; i++) {
        t->ne[i] = 1;
        if (i >= t->dims)
            continue;
        if ((s = get_u64(c, &t->ne[i], t->name)))
            return s;
        if (t->ne[i] == 0 || t->ne[i] > UINT32_MAX || (i && rows > UINT32_MAX / t->ne[i]))
            return err_set(c->err, LOAM_ELIMIT, "GGUF: tensor %s: dimension %u is %llu at offset %llu", t->name, i,
                           (unsigned long long)t->ne[i], (unsigned long long)(c->at - 8));
        if (i)
            rows *= t->ne[i];
    }
    if ((s = get_u32(c, &t->type, t->name)))
        return s;
    uint32_t elems = gpu_type_elems(t->type);
    if (!elems)
        return err_set(c->err, LOAM_EUNSUPPORTED, "GGUF: tensor %s has type %u at offset %llu, which is not known", t->name,
                       t->type, (unsigned long long)(c->at - 4));
    if (t->ne[0] % elems)
        return err_set(c->err, LOAM_EPARSE, "GGUF: tensor %s: rows of %llu values are not whole blocks of %s", t->name,
                       (unsigned long long)t->ne[0], gpu_type_name(t->type));
    uint64_t row = t->ne[0] / elems * gpu_type_bytes(t->type);
    if (rows > c->len / row) /* row is not 0: ne[0] is not, and is a multiple of elems */
        return err_set(c->err, LOAM_EPARSE, "GGUF: tensor %s (%llu rows of %llu bytes) is larger than the file", t->name,
                       (unsigned long long)rows, (unsigned long long)row);
    t->bytes = rows * row;
    return get_u64(c, &t->offset, t->name);
}

/* Names are compared pairwise through a sorted index, so that 65 536 of them stay cheap. */
static int by_name(const void *a, const void *b) {
    const struct gguf_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static enum loam_status no_twins(const struct gguf *g, struct err *err) {
    if (g->n_tensors < 2)
        return LOAM_OK;
    const struct gguf_tensor **idx = mem_array(g->n_tensors, sizeof *idx);
    if (!idx)
        return err_set(err, LOAM_ENOMEM, "GGUF: no memory for %llu tensors", (unsigned long long)g->n_tensors);
    for (uint64_t i = 0; i < g->n_tensors; i++)
        idx[i] = &g->tensors[i];
    qsort(idx, g->n_tensors, sizeof *idx, by_name);
    enum loam_status s = LOAM_OK;
    for (uint64_t i = 1; i < g->n_tensors && !s; i++)
        if (!strcmp(idx[i - 1]->name, idx[i]->name))
            s = err_set(err, LOAM_EPARSE, "GGUF: two tensors are named %s", idx[i]->name);
    mem_free(idx);
    return s;
}

static enum loam_status parse(struct gguf *g, const unsigned char *data, uint64_t n, struct err *err) {
    struct cursor c = {data, 0, n, err};
    uint32_t magic;
    enum loam_status s = get_u32(&c, &magic, "the magic number");
    if (s)
        return s;
    if (magic != MAGIC)
        return err_set(err, LOAM_EPARSE, "GGUF: the file does not begin with \"GGUF\" (offset 0)");
    if ((s = get_u32(&c, &g->version, "the version")))
        return s;
    if (g->version != 2 && g->version != 3)
        return err_set(err, LOAM_EUNSUPPORTED, g->version > 0xffff ? "GGUF: the file is big-endian (version field %u at offset 4)"
                                                                   : "GGUF: version %u at offset 4; 2 and 3 are read", g->version);
    if ((s = get_u64(&c, &g->n_tensors, "the count of tensors")) || (s = get_u64(&c, &g->n_pairs, "the count of pairs")))
        return s;
    uint64_t tensors = g->n_tensors, pairs = g->n_pairs;
    g->n_tensors = g->n_pairs = 0;
    if (tensors > GGUF_TENSORS_MAX || pairs > GGUF_PAIRS_MAX)
        return err_set(err, LOAM_ELIMIT, "GGUF: %llu tensors and %llu pairs (offset 8; at most %u and %u)",
                       (unsigned long long)tensors, (unsigned long long)pairs, GGUF_TENSORS_MAX, GGUF_PAIRS_MAX);
    /* The smallest pair takes 14 bytes, the smallest tensor 33: a count the file cannot hold allocates nothing. */
    if (pairs > n / 14 || tensors > n / 33)
        return err_set(err, LOAM_EPARSE, "GGUF: %llu tensors and %llu pairs do not fit a file of %llu bytes (offset 8)",
                       (unsigned long long)tensors, (unsigned long long)pairs, (unsigned long long)n);
    g->pairs = mem_zarray(pairs ? pairs : 1, sizeof *g->pairs);
    g->tensors = mem_zarray(tensors ? tensors : 1, sizeof *g->tensors);
    if (!g->pairs || !g->tensors)
        return err_set(err, LOAM_ENOMEM, "GGUF: no memory for the table of tensors");
    for (uint64_t i = 0; i < pairs; i++) {
        if ((s = get_pair(&c, &g->pairs[i])))
            return s;
        g->n_pairs = i + 1;
    }
    uint32_t align;
    if ((s = gguf_u32(&align, g, "general.alignment", 32, err)))
        return s;
    if (align == 0 || align > 65536 || (align & (align - 1)))
        return err_set(err, LOAM_EPARSE, "GGUF: general.alignment is %u, no power of two up to 65536", align);
    g->alignment = align;
    for (uint64_t i = 0; i < tensors; i++) {
        if ((s = get_tensor(&c, &g->tensors[i])))
            return s;
        g->n_tensors = i + 1;
    }
    g->data_start = (c.at + align - 1) / align * align;
    for (uint64_t i = 0; i < tensors; i++) {
        struct gguf_tensor *t = &g->tensors[i];
        if (t->offset % align)
            return err_set(err, LOAM_EPARSE, "GGUF: tensor %s stands at %llu, not a multiple of %u", t->name,
                           (unsigned long long)t->offset, align);
        if (g->data_start > n || t->offset > n - g->data_start || t->bytes > n - g->data_start - t->offset)
            return err_set(err, LOAM_EPARSE, "GGUF: tensor %s (%llu bytes at offset %llu) reaches past the end of the file (%llu)",
                           t->name, (unsigned long long)t->bytes, (unsigned long long)(g->data_start + t->offset),
                           (unsigned long long)n);
        t->offset += g->data_start;
        t->data = data + t->offset;
    }
    return no_twins(g, err);
}

enum loam_status gguf_parse(struct gguf *g, const void *data, size_t n, struct err *err) {
    memset(g, 0, sizeof *g);
    enum loam_status s = parse(g, data, n, err);
    if (s)
        gguf_clear(g);
    return s;
}

enum loam_status gguf_open(struct gguf *g, const char *path, struct err *err) {
    memset(g, 0, sizeof *g);
    struct file_map map;
    enum loam_status s = file_map(&map, path, err);
    if (s)
        return s;
    s = gguf_parse(g, map.data, map.len, err);
    if (s) {
        file_unmap(&map);
        return err_prefix(err, s, "%s", path);
    }
    g->map = map;
    return LOAM_OK;
}

void gguf_clear(struct gguf *g) {
    mem_free(g->pairs);
    mem_free(g->tensors);
    if (g->map.data)
        file_unmap(&g->map);
    memset(g, 0, sizeof *g);
}

bool gguf_str_is(struct gguf_str s, const char *text) {
    return s.s && s.len == strlen(text) && !memcmp(s.s, text, s.len);
}

const struct gguf_pair *gguf_find(const struct gguf *g, const char *key) {
    for (uint64_t i = 0; i < g->n_pairs; i++)
        if (gguf_str_is(g->pairs[i].key, key))
            return &g->pairs[i];
    return NULL;
}

const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name) {
    for (uint64_t i = 0; i < g->n_tensors; i++)
        if (!strcmp(g->tensors[i].name, name))
            return &g->tensors[i];
    return NULL;
}

static int64_t int_from(enum gguf_kind k, const unsigned char *p) {
    switch (k) {
    case GGUF_U8:
    case GGUF_BOOL:
        return p[0];
    case GGUF_I8:
        return (int8_t)p[0];
    case GGUF_U16:
        return le16(p);
    case GGUF_I16:
        return (int16_t)le16(p);
    case GGUF_U32:
        return le32(p);
    case GGUF_I32:
        return (int32_t)le32(p);
    case GGUF_U64:
    case GGUF_I64:
        return (int64_t)le64(p);
    default: /* no integer: the caller looks first */
        return 0;
    }
}

static double num_from(enum gguf_kind k, const unsigned char *p) {
    if (k == GGUF_F32) {
        uint32_t u = le32(p);
        float f;
        memcpy(&f, &u, 4);
        return f;
    }
    if (k == GGUF_F64) {
        uint64_t u = le64(p);
        double d;
        memcpy(&d, &u, 8);
        return d;
    }
    return (double)int_from(k, p);
}

static bool is_int(enum gguf_kind k) {
    return k <= GGUF_I32 || k == GGUF_U64 || k == GGUF_I64;
}

int64_t gguf_int_at(const struct gguf_pair *p, uint64_t i) {
    enum gguf_kind k = p->kind == GGUF_ARRAY ? p->of : p->kind;
    return int_from(k, p->data + i * kind_size[k]);
}

double gguf_num_at(const struct gguf_pair *p, uint64_t i) {
    enum gguf_kind k = p->kind == GGUF_ARRAY ? p->of : p->kind;
    return num_from(k, p->data + i * kind_size[k]);
}

enum loam_status gguf_u32(uint32_t *out, const struct gguf *g, const char *key, uint32_t def, struct err *err) {
    const struct gguf_pair *p = gguf_find(g, key);
    *out = def;
    if (!p)
        return LOAM_OK;
    if (!is_int(p->kind))
        return err_set(err, LOAM_EPARSE, "GGUF: %s is no integer", key);
    int64_t v = int_from(p->kind, p->data);
    if (v < 0 || v > UINT32_MAX)
        return err_set(err, LOAM_EPARSE, "GGUF: %s is %lld, out of range", key, (long long)v);
    *out = (uint32_t)v;
    return LOAM_OK;
}

enum loam_status gguf_f64(double *out, const struct gguf *g, const char *key, double def, struct err *err) {
    const struct gguf_pair *p = gguf_find(g, key);
    *out = def;
    if (!p)
        return LOAM_OK;
    if (p->kind != GGUF_F32 && p->kind != GGUF_F64 && !is_int(p->kind))
        return err_set(err, LOAM_EPARSE, "GGUF: %s is no number", key);
    *out = num_from(p->kind, p->data);
    return LOAM_OK;
}

enum loam_status gguf_bool(bool *out, const struct gguf *g, const char *key, bool def, struct err *err) {
    const struct gguf_pair *p = gguf_find(g, key);
    *out = def;
    if (!p)
        return LOAM_OK;
    if (p->kind != GGUF_BOOL)
        return err_set(err, LOAM_EPARSE, "GGUF: %s is no boolean", key);
    *out = p->data[0] != 0;
    return LOAM_OK;
}

enum loam_status gguf_string(struct gguf_str *out, const struct gguf *g, const char *key, struct err *err) {
    const struct gguf_pair *p = gguf_find(g, key);
    *out = (struct gguf_str){NULL, 0};
    if (!p)
        return LOAM_OK;
    if (p->kind != GGUF_STRING)
        return err_set(err, LOAM_EPARSE, "GGUF: %s is no string", key);
    const unsigned char *at = p->data;
    *out = gguf_next_string(&at);
    return LOAM_OK;
}

struct gguf_str gguf_next_string(const unsigned char **at) {
    struct gguf_str v = {(const char *)*at + 8, le64(*at)};
    *at += 8 + v.len;
    return v;
}

/* ---- writing ---- */

#define META_MAX ((size_t)256 << 20)

struct gguf_writer {
    struct buf pairs, tensors;
    uint64_t n_pairs, n_tensors, data;
    struct {
        const void *p;
        uint64_t bytes;
    } *blobs;
};

enum loam_status gguf_writer_new(struct gguf_writer **out, struct err *err) {
    struct gguf_writer *w = mem_zalloc(sizeof *w);
    if (!w)
        return err_set(err, LOAM_ENOMEM, "GGUF: no memory for a writer");
    buf_init(&w->pairs, META_MAX);
    buf_init(&w->tensors, META_MAX);
    *out = w;
    return LOAM_OK;
}

void gguf_writer_free(struct gguf_writer *w) {
    if (!w)
        return;
    buf_clear(&w->pairs);
    buf_clear(&w->tensors);
    mem_free(w->blobs);
    mem_free(w);
}

static enum loam_status add_u32(struct buf *b, uint32_t v, struct err *err) {
    uint8_t t[4];
    put_le32(t, v);
    return buf_add(b, t, 4, err);
}

static enum loam_status add_u64(struct buf *b, uint64_t v, struct err *err) {
    uint8_t t[8];
    put_le64(t, v);
    return buf_add(b, t, 8, err);
}

static enum loam_status add_str(struct buf *b, const char *s, uint64_t n, struct err *err) {
    enum loam_status st = add_u64(b, n, err);
    return st ? st : buf_add(b, s, n, err);
}

static enum loam_status head(struct gguf_writer *w, const char *key, enum gguf_kind kind, struct err *err) {
    enum loam_status s = add_str(&w->pairs, key, strlen(key), err);
    w->n_pairs++;
    return s ? s : add_u32(&w->pairs, kind, err);
}

enum loam_status gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v, struct err *err) {
    enum loam_status s = head(w, key, GGUF_U32, err);
    return s ? s : add_u32(&w->pairs, v, err);
}

enum loam_status gguf_put_f32(struct gguf_writer *w, const char *key, float v, struct err *err) {
    uint32_t u;
    memcpy(&u, &v, 4);
    enum loam_status s = head(w, key, GGUF_F32, err);
    return s ? s : add_u32(&w->pairs, u, err);
}

enum loam_status gguf_put_bool(struct gguf_writer *w, const char *key, bool v, struct err *err) {
    enum loam_status s = head(w, key, GGUF_BOOL, err);
    return s ? s : buf_byte(&w->pairs, v, err);
}

enum loam_status gguf_put_string(struct gguf_writer *w, const char *key, const char *v, struct err *err) {
    enum loam_status s = head(w, key, GGUF_STRING, err);
    return s ? s : add_str(&w->pairs, v, strlen(v), err);
}

static enum loam_status array(struct gguf_writer *w, const char *key, enum gguf_kind of, uint64_t n, struct err *err) {
    enum loam_status s = head(w, key, GGUF_ARRAY, err);
    if (!s)
        s = add_u32(&w->pairs, of, err);
    return s ? s : add_u64(&w->pairs, n, err);
}

enum loam_status gguf_put_strings(struct gguf_writer *w, const char *key, const struct gguf_str *v, uint64_t n, struct err *err) {
    enum loam_status s = array(w, key, GGUF_STRING, n, err);
    for (uint64_t i = 0; i < n && !s; i++)
        s = add_str(&w->pairs, v[i].s, v[i].len, err);
    return s;
}

enum loam_status gguf_put_i32s(struct gguf_writer *w, const char *key, const int32_t *v, uint64_t n, struct err *err) {
    enum loam_status s = array(w, key, GGUF_I32, n, err);
    for (uint64_t i = 0; i < n && !s; i++)
        s = add_u32(&w->pairs, (uint32_t)v[i], err);
    return s;
}

enum loam_status gguf_put_f32s(struct gguf_writer *w, const char *key, const float *v, uint64_t n, struct err *err) {
    enum loam_status s = array(w, key, GGUF_F32, n, err);
    for (uint64_t i = 0; i < n && !s; i++) {
        uint32_t u;
        memcpy(&u, &v[i], 4);
        s = add_u32(&w->pairs, u, err);
    }
    return s;
}

enum loam_status gguf_put_pair(struct gguf_writer *w, const struct gguf_pair *p, struct err *err) {
    enum gguf_kind k = p->kind == GGUF_ARRAY ? p->of : p->kind;
    const unsigned char *end = p->data;
    if (k == GGUF_STRING)
        for (uint64_t i = 0; i < p->n; i++)
            (void)gguf_next_string(&end);
    else
        end += p->n * kind_size[k];
    enum loam_status s = add_str(&w->pairs, p->key.s, p->key.len, err);
    if (!s)
        s = add_u32(&w->pairs, p->kind, err);
    if (!s && p->kind == GGUF_ARRAY) {
        s = add_u32(&w->pairs, p->of, err);
        if (!s)
            s = add_u64(&w->pairs, p->n, err);
    }
    w->n_pairs++;
    return s ? s : buf_add(&w->pairs, p->data, (size_t)(end - p->data), err);
}

enum loam_status gguf_put_tensor(struct gguf_writer *w, const char *name, uint32_t type, const uint64_t *ne, uint32_t dims,
                                 const void *data, uint64_t bytes, struct err *err) {
    if (w->n_tensors >= GGUF_TENSORS_MAX)
        return err_set(err, LOAM_ELIMIT, "GGUF: more than %u tensors", GGUF_TENSORS_MAX);
    void *more = mem_resize(w->blobs, w->n_tensors + 1, sizeof *w->blobs);
    if (!more)
        return err_set(err, LOAM_ENOMEM, "GGUF: no memory for a tensor's entry");
    w->blobs = more;
    w->blobs[w->n_tensors].p = data;
    w->blobs[w->n_tensors].bytes = bytes;
    enum loam_status s = add_str(&w->tensors, name, strlen(name), err);
    if (!s)
        s = add_u32(&w->tensors, dims, err);
    for (uint32_t i = 0; i < dims && !s; i++)
        s = add_u64(&w->tensors, ne[i], err);
    if (!s)
        s = add_u32(&w->tensors, type, err);
    if (!s)
        s = add_u64(&w->tensors, w->data, err);
    w->n_tensors++;
    w->data += (bytes + 31) / 32 * 32;
    return s;
}

enum loam_status gguf_write(struct gguf_writer *w, const char *path, struct err *err) {
    struct buf b = BUF_INIT(SIZE_MAX / 2);
    static const uint8_t zero[32];
    enum loam_status s = add_u32(&b, MAGIC, err);
    if (!s)
        s = add_u32(&b, 3, err);
    if (!s)
        s = add_u64(&b, w->n_tensors, err);
    if (!s)
        s = add_u64(&b, w->n_pairs, err);
    if (!s)
        s = buf_add(&b, w->pairs.data, w->pairs.len, err);
    if (!s)
        s = buf_add(&b, w->tensors.data, w->tensors.len, err);
    if (!s)
        s = buf_add(&b, zero, (32 - b.len % 32) % 32, err);
    if (!s)
        s = buf_reserve(&b, w->data, err);
    for (uint64_t i = 0; i < w->n_tensors && !s; i++) {
        s = buf_add(&b, w->blobs[i].p, w->blobs[i].bytes, err);
        if (!s)
            s = buf_add(&b, zero, (32 - b.len % 32) % 32, err);
    }
    if (!s)
        s = file_write(path, b.data, b.len, 0600, err);
    buf_clear(&b);
    return s;
}
