#include "lm/safetensors.h"
#include "base/bytes.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "gpu/ops.h"

#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

#define TENSORS_MAX 65536u

static enum loam_status tensor(struct st_tensor *t, const struct js_val *v, const unsigned char *data, uint64_t len, struct err *err) {
    if (!v->key_len || v->key_len > ST_NAME_MAX || strlen(v->key) != v->key_len)
        return err_set(err, LOAM_EPARSE, "safetensors: a tensor's name is empty, too long or holds NUL");
    text_clean_cut(t->name, sizeof t->name, v->key, v->key_len);
    static const struct {
        const char *name;
        uint32_t type, size;
    } types[] = {{"F32", GPU_F32, 4}, {"F16", GPU_F16, 2}, {"BF16", GPU_BF16, 2}};
    const struct js_val *dtype = js_get(v, "dtype"), *shape = js_get(v, "shape"), *off = js_get(v, "data_offsets");
    uint32_t size = 0;
    for (size_t i = 0; i < 3; i++)
        if (js_is_str(dtype, types[i].name)) {
            t->type = types[i].type;
            size = types[i].size;
        }
    if (!size)
        return err_set(err, LOAM_EUNSUPPORTED, "safetensors: tensor %s is none of F32, F16, BF16", t->name);
    if (!shape || shape->type != JS_ARRAY || shape->n < 1 || shape->n > ST_DIMS_MAX)
        return err_set(err, LOAM_EUNSUPPORTED, "safetensors: tensor %s is neither a vector nor a matrix", t->name);
    uint64_t dim[2] = {1, 1};
    size_t d = shape->n == 1 ? 1 : 0;
    for (const struct js_val *x = shape->first; x; x = x->next, d++) {
        if (x->type != JS_NUMBER || !x->integral || x->i < 1 || x->i > UINT32_MAX)
            return err_set(err, LOAM_EPARSE, "safetensors: a dimension of tensor %s is not in 1 to 2^32 - 1", t->name);
        dim[d] = (uint64_t)x->i;
    }
    t->rows = (uint32_t)dim[0];
    t->cols = (uint32_t)dim[1];
    if (dim[0] > UINT64_MAX / size / dim[1])
        return err_set(err, LOAM_ELIMIT, "safetensors: tensor %s is too large", t->name);
    t->bytes = dim[0] * dim[1] * size;
    const struct js_val *a = off && off->type == JS_ARRAY && off->n == 2 ? off->first : NULL, *b = a ? a->next : NULL;
    if (!a || a->type != JS_NUMBER || !a->integral || b->type != JS_NUMBER || !b->integral || a->i < 0 || b->i < a->i ||
        (uint64_t)b->i > len || (uint64_t)(b->i - a->i) != t->bytes)
        return err_set(err, LOAM_EPARSE, "safetensors: data_offsets of tensor %s do not hold its %llu bytes inside the file's %llu", t->name,
                       (unsigned long long)t->bytes, (unsigned long long)len);
    t->data = data + a->i;
    return LOAM_OK;
}

static int by_place(const void *a, const void *b) {
    const struct st_tensor *x = a, *y = b;
    return x->data < y->data ? -1 : x->data > y->data;
}

/* The format's own rule: the tensors cover the data without holes or overlaps. */
static enum loam_status covered(struct st_tensor *t, size_t n, const unsigned char *data, uint64_t len, struct err *err) {
    const unsigned char *at = data;
    qsort(t, n, sizeof *t, by_place);
    for (size_t i = 0; i < n; i++) {
        if (t[i].data != at)
            return err_set(err, LOAM_EPARSE, "safetensors: a hole or an overlap before tensor %s", t[i].name);
        at += t[i].bytes;
    }
    return at == data + len ? LOAM_OK : err_set(err, LOAM_EPARSE, "safetensors: %llu bytes belong to no tensor", (unsigned long long)(len - (uint64_t)(at - data)));
}

enum loam_status st_parse(struct st_tensor **list, size_t *n, const void *data, size_t len, struct err *err) {
    const unsigned char *p = data;
    const size_t first = *n;
    if (len < 8)
        return err_set(err, LOAM_EPARSE, "safetensors: the file ends inside its header's length");
    uint64_t head = le64(p);
    if (head > ST_HEADER_MAX)
        return err_set(err, LOAM_ELIMIT, "safetensors: a header of %llu bytes (offset 0; at most %u)", (unsigned long long)head, ST_HEADER_MAX);
    if (head > len - 8)
        return err_set(err, LOAM_EPARSE, "safetensors: the file ends inside its header (%llu bytes at offset 8)", (unsigned long long)head);
    struct js_doc doc;
    enum loam_status s = js_parse(&doc, p + 8, head, err);
    if (s)
        return err_prefix(err, s, "safetensors header");
    if (doc.root->type != JS_OBJECT || doc.root->n > TENSORS_MAX || *n > TENSORS_MAX)
        s = err_set(err, LOAM_EPARSE, "safetensors: the header is no object of at most %u tensors", TENSORS_MAX);
    struct st_tensor *more = s ? NULL : mem_resize(*list, *n + doc.root->n + 1, sizeof **list);
    if (!s && !more)
        s = err_set(err, LOAM_ENOMEM, "no memory for %zu tensors", doc.root->n);
    if (more)
        *list = more;
    for (const struct js_val *v = s ? NULL : doc.root->first; v && !s; v = v->next) {
        if (v->key_len == 12 && !memcmp(v->key, "__metadata__", 12))
            continue;
        struct st_tensor t = {.name = ""};
        s = tensor(&t, v, p + 8 + head, len - 8 - head, err);
        if (!s)
            (*list)[(*n)++] = t;
    }
    js_free(&doc);
    return s ? s : covered(*list + first, *n - first, p + 8 + head, len - 8 - head, err);
}
