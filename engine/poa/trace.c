#include "poa/trace.h"

#include "base/keccak.h"
#include "base/mem.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/banned.h"

void poa_trace_init(struct poa_trace *t) {
    memset(t, 0, sizeof *t);
}

void poa_trace_clear(struct poa_trace *t) {
    mem_free(t->entry);
    poa_trace_init(t);
}

LOAM_PRINTF(5, 0)
static enum loam_status add(struct poa_trace *t, const struct hash32 *h, uint64_t elements, struct err *err, const char *name, va_list ap) {
    if (t->count == POA_TRACE_MAX)
        return err_set(err, LOAM_ELIMIT, "trace: more than %u entries", POA_TRACE_MAX);
    if (t->count == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        struct poa_trace_entry *p = mem_resize(t->entry, cap, sizeof *p);
        if (!p)
            return err_set(err, LOAM_ENOMEM, "trace: %zu entries", cap);
        t->entry = p;
        t->cap = cap;
    }
    struct poa_trace_entry *e = &t->entry[t->count];
    memset(e, 0, sizeof *e);
    int n = vsnprintf(e->name, sizeof e->name, name, ap);
    if (n <= 0 || (size_t)n >= sizeof e->name || strpbrk(e->name, "\t\n"))
        return err_set(err, LOAM_EINVAL, "trace: a name of %d bytes", n);
    e->elements = elements;
    e->hash = *h;
    t->count++;
    return LOAM_OK;
}

enum loam_status poa_trace_add_hash(struct poa_trace *t, const struct hash32 *h, uint64_t elements, struct err *err, const char *name, ...) {
    va_list ap;
    va_start(ap, name);
    enum loam_status st = add(t, h, elements, err, name, ap);
    va_end(ap);
    return st;
}

enum loam_status poa_trace_add(struct poa_trace *t, const void *bytes, uint64_t elements, size_t size, struct err *err, const char *name, ...) {
    va_list ap;
    struct hash32 h = hash_of(bytes, (size_t)elements * size);
    va_start(ap, name);
    enum loam_status st = add(t, &h, elements, err, name, ap);
    va_end(ap);
    return st;
}

struct hash32 poa_trace_root(const struct poa_trace *t) {
    struct tree_stream s;
    tree_stream_init(&s);
    for (size_t i = 0; i < t->count; i++) {
        const struct poa_trace_entry *e = &t->entry[i];
        uint8_t b[4 + POA_TRACE_NAME_MAX + 8 + 32];
        size_t n = strlen(e->name);
        put_be32(b, (uint32_t)n);
        memcpy(b + 4, e->name, n);
        put_be64(b + 4 + n, e->elements);
        memcpy(b + 12 + n, e->hash.b, 32);
        tree_stream_add(&s, b, 44 + n);
    }
    return tree_stream_root(&s);
}

enum loam_status poa_trace_write(struct buf *out, const struct poa_trace *t, struct err *err) {
    enum loam_status st = LOAM_OK;
    for (size_t i = 0; !st && i < t->count; i++) {
        char hex[HASH_HEX_MAX];
        st = buf_printf(out, err, "%s\t%" PRIu64 "\t%s\n", t->entry[i].name, t->entry[i].elements, hash_hex(hex, &t->entry[i].hash));
    }
    return st;
}

static enum loam_status read_line(struct poa_trace *out, const char *line, size_t n, struct err *err) {
    const char *tab = memchr(line, '\t', n), *second = tab ? memchr(tab + 1, '\t', n - (size_t)(tab + 1 - line)) : NULL;
    char digits[24] = "", hex[HASH_HEX_MAX] = "";
    struct u256 count;
    struct hash32 h;
    size_t name = tab ? (size_t)(tab - line) : 0;
    if (!second || !name || name >= POA_TRACE_NAME_MAX || (size_t)(second - tab) > sizeof digits ||
        n - (size_t)(second + 1 - line) != 66 || !utf8_valid((const uint8_t *)line, name, NULL) || memchr(line, 0, n))
        return err_set(err, LOAM_EPARSE, "trace: line %zu is not name, count, hash", out->count + 1);
    memcpy(digits, tab + 1, (size_t)(second - tab) - 1);
    memcpy(hex, second + 1, 66);
    if (u256_parse(&count, digits, NULL) || !u256_fits_u64(count) || hash_parse(&h, hex, NULL))
        return err_set(err, LOAM_EPARSE, "trace: line %zu is not name, count, hash", out->count + 1);
    return poa_trace_add_hash(out, &h, count.w[0], err, "%.*s", (int)name, line);
}

enum loam_status poa_trace_read(struct poa_trace *out, const char *text, size_t n, struct err *err) {
    enum loam_status st = LOAM_OK;
    poa_trace_init(out);
    while (!st && n) {
        const char *end = memchr(text, '\n', n);
        size_t len = end ? (size_t)(end - text) : n;
        st = end ? read_line(out, text, len, err) : err_set(err, LOAM_EPARSE, "trace: its last line does not end");
        text += len + 1;
        n -= end ? len + 1 : n;
    }
    if (st)
        poa_trace_clear(out);
    return st;
}

enum loam_status poa_trace_compare(const struct poa_trace *a, const struct poa_trace *b, size_t *at, struct err *err) {
    for (size_t i = 0; i < a->count || i < b->count; i++) {
        if (at)
            *at = i;
        if (i >= a->count || i >= b->count)
            return err_set(err, LOAM_EVERIFY, "the traces differ: %s is only in the %s one", (i < a->count ? a : b)->entry[i].name,
                           i < a->count ? "first" : "second");
        const struct poa_trace_entry *x = &a->entry[i], *y = &b->entry[i];
        if (strcmp(x->name, y->name))
            return err_set(err, LOAM_EVERIFY, "the traces differ at entry %zu: %s and %s", i, x->name, y->name);
        if (x->elements != y->elements)
            return err_set(err, LOAM_EVERIFY, "the traces differ: %s has %" PRIu64 " and %" PRIu64 " elements", x->name, x->elements, y->elements);
        if (!hash_eq(&x->hash, &y->hash))
            return err_set(err, LOAM_EVERIFY, "the traces differ first in %s (entry %zu of %zu)", x->name, i + 1, a->count);
    }
    return LOAM_OK;
}

size_t poa_first_difference(const void *a, const void *b, size_t n, size_t size) {
    const uint8_t *x = a, *y = b;
    /* Blocks first: most of what is compared is equal. */
    size_t step = 4096 / size ? 4096 / size : 1, i = 0;
    while (i + step <= n && !memcmp(x + i * size, y + i * size, step * size))
        i += step;
    while (i < n && !memcmp(x + i * size, y + i * size, size))
        i++;
    return i;
}

enum loam_status poa_compare(const char *what, enum poa_kind kind, const void *mine, size_t n, const void *theirs, size_t m, struct err *err) {
    static const size_t sizes[] = {[POA_I8] = 1, [POA_I32] = 4, [POA_I64] = 8, [POA_F32] = 4, [POA_U32] = 4};
    size_t i = poa_first_difference(mine, theirs, n < m ? n : m, sizes[kind]);
    if (i == n && i == m)
        return LOAM_OK;
    if (i == n || i == m)
        return err_set(err, LOAM_EVERIFY, "%s: %zu here, %zu there; equal up to the shorter one's end", what, n, m);
    switch (kind) {
    case POA_I8:
        return err_set(err, LOAM_EVERIFY, "%s[%zu]: %d here, %d there", what, i, ((const int8_t *)mine)[i], ((const int8_t *)theirs)[i]);
    case POA_I32:
        return err_set(err, LOAM_EVERIFY, "%s[%zu]: %d here, %d there", what, i, ((const int32_t *)mine)[i], ((const int32_t *)theirs)[i]);
    case POA_I64:
        return err_set(err, LOAM_EVERIFY, "%s[%zu]: %" PRId64 " here, %" PRId64 " there", what, i, ((const int64_t *)mine)[i],
                       ((const int64_t *)theirs)[i]);
    case POA_U32:
        return err_set(err, LOAM_EVERIFY, "%s[%zu]: %u here, %u there", what, i, ((const uint32_t *)mine)[i], ((const uint32_t *)theirs)[i]);
    case POA_F32:
        break;
    }
    return err_set(err, LOAM_EVERIFY, "%s[%zu]: %a here, %a there", what, i, (double)((const float *)mine)[i], (double)((const float *)theirs)[i]);
}
