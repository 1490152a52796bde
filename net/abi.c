#include "net/abi.h"

#include "base/keccak.h"
#include "base/mem.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

/* ---- values ---- */

static struct abi_value word(void) {
    struct abi_value v;
    memset(&v, 0, sizeof v);
    return v;
}
struct abi_value abi_u64(uint64_t n) {
    struct abi_value v = word();
    put_be64(v.word + 24, n);
    return v;
}
struct abi_value abi_u256(struct u256 n) {
    struct abi_value v = word();
    u256_to_be(v.word, n);
    return v;
}
struct abi_value abi_i64(int64_t n) {
    struct abi_value v = word();
    memset(v.word, n < 0 ? 0xff : 0, 24);
    put_be64(v.word + 24, (uint64_t)n);
    return v;
}
struct abi_value abi_bool(bool b) {
    return abi_u64(b);
}
struct abi_value abi_addr(const struct addr20 *a) {
    struct abi_value v = word();
    memcpy(v.word + 12, a->b, 20);
    return v;
}
struct abi_value abi_b32(const struct hash32 *h) {
    struct abi_value v = word();
    memcpy(v.word, h->b, 32);
    return v;
}
struct abi_value abi_bytesn(const void *p, size_t n) {
    struct abi_value v = word();
    memcpy(v.word, p, n < 32 ? n : 32);
    return v;
}
struct abi_value abi_bytes(const void *p, size_t n) {
    struct abi_value v = word();
    v.kind = ABI_BYTES;
    v.p = p;
    v.n = n;
    return v;
}
struct abi_value abi_str(const char *s) {
    return abi_bytes(s, strlen(s));
}
struct abi_value abi_tuple(const struct abi_value *items, size_t n) {
    struct abi_value v = word();
    v.kind = ABI_TUPLE;
    v.item = items;
    v.n = n;
    return v;
}
struct abi_value abi_array(const struct abi_value *items, size_t n) {
    struct abi_value v = abi_tuple(items, n);
    v.kind = ABI_ARRAY;
    return v;
}

/* ---- types ---- */

enum base_type { T_UINT, T_INT, T_ADDR, T_BOOL, T_FIXED, T_BYTES, T_STRING, T_TUPLE, T_ARRAY, T_VECTOR };

struct type {
    enum base_type base;
    unsigned size;      /* bits of integers, bytes of bytesN, count of T[k] */
    struct type *item;  /* first member, or element */
    struct type *next;  /* next member of the same tuple */
    const char *name;   /* into the signature; not terminated */
    size_t name_len;
    bool indexed;
};

struct chunk {
    struct chunk *next;
};
struct abi_arena {
    struct chunk *chunks;
    size_t values;
};

static void *take(struct abi_arena *a, size_t n, size_t size, struct err *err) {
    size_t bytes;
    struct chunk *c = NULL;
    if (!__builtin_mul_overflow(n, size, &bytes) && bytes < SIZE_MAX - sizeof *c - 16)
        c = mem_zalloc(sizeof *c + 8 + bytes);
    if (!c) {
        err_set(err, LOAM_ENOMEM, "abi: %zu values", n);
        return NULL;
    }
    c->next = a->chunks;
    a->chunks = c;
    return (uint8_t *)c + sizeof *c + 8;
}
static void arena_free(struct abi_arena *a) {
    while (a->chunks) {
        struct chunk *c = a->chunks;
        a->chunks = c->next;
        mem_free(c);
    }
}

static bool is_word_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$';
}
static void spaces(const char **s) {
    while (**s == ' ')
        ++*s;
}

#define BAD_SIG(s) err_set(err, LOAM_EINVAL, "abi: malformed signature at \"%.40s\"", s)

static enum loam_status parse_list(struct type **first, const char **s, struct abi_arena *a, unsigned depth, struct err *err);

static enum loam_status parse_type(struct type **out, const char **s, struct abi_arena *a, unsigned depth, struct err *err) {
    struct type *t = take(a, 1, sizeof *t, err);
    enum loam_status st;
    if (!t)
        return LOAM_ENOMEM;
    if (depth > ABI_DEPTH_MAX)
        return err_set(err, LOAM_ELIMIT, "abi: types nested deeper than %d", ABI_DEPTH_MAX);
    spaces(s);
    if (**s == '(' || !strncmp(*s, "tuple(", 6)) {
        if (**s == 't')
            *s += 5;
        t->base = T_TUPLE;
        if ((st = parse_list(&t->item, s, a, depth + 1, err)))
            return st;
    } else {
        const char *w = *s;
        while (is_word_char(**s))
            ++*s;
        size_t n = (size_t)(*s - w), stem = 0;
        while (stem < n && w[stem] >= 'a' && w[stem] <= 'z')
            stem++;
        unsigned num = 0;
        for (size_t i = stem; i < n; i++) {
            if (w[i] < '0' || w[i] > '9' || num > 999)
                return BAD_SIG(w);
            num = num * 10 + (unsigned)(w[i] - '0');
        }
#define IS(x) (stem == sizeof(x) - 1 && !memcmp(w, x, stem))
        if (IS("uint") || IS("int")) {
            t->base = IS("int") ? T_INT : T_UINT;
            t->size = stem == n ? 256 : num;
            if (!t->size || t->size > 256 || t->size % 8)
                return BAD_SIG(w);
        } else if (IS("address") && stem == n) {
            t->base = T_ADDR;
        } else if (IS("bool") && stem == n) {
            t->base = T_BOOL;
        } else if (IS("string") && stem == n) {
            t->base = T_STRING;
        } else if (IS("bytes")) {
            t->base = stem == n ? T_BYTES : T_FIXED;
            t->size = num;
            if (stem != n && (!num || num > 32))
                return BAD_SIG(w);
        } else {
            return BAD_SIG(w);
        }
#undef IS
    }
    while (**s == '[') {
        struct type *arr = take(a, 1, sizeof *arr, err);
        if (!arr)
            return LOAM_ENOMEM;
        ++*s;
        unsigned num = 0;
        arr->base = **s == ']' ? T_ARRAY : T_VECTOR;
        while (**s >= '0' && **s <= '9' && num < ABI_VALUES_MAX)
            num = num * 10 + (unsigned)(*(*s)++ - '0');
        if (**s != ']' || (arr->base == T_VECTOR && !num) || num > ABI_VALUES_MAX || ++depth > ABI_DEPTH_MAX)
            return BAD_SIG(*s);
        ++*s;
        arr->size = num;
        arr->item = t;
        t = arr;
    }
    *out = t;
    return LOAM_OK;
}

/* "(type [indexed] [name], …)" */
static enum loam_status parse_list(struct type **first, const char **s, struct abi_arena *a, unsigned depth, struct err *err) {
    struct type **tail = first;
    enum loam_status st;
    *first = NULL;
    spaces(s);
    if (**s != '(')
        return BAD_SIG(*s);
    ++*s;
    spaces(s);
    if (**s == ')') {
        ++*s;
        return LOAM_OK;
    }
    for (;;) {
        if ((st = parse_type(tail, s, a, depth, err)))
            return st;
        struct type *t = *tail;
        for (;;) {
            spaces(s);
            const char *w = *s;
            while (is_word_char(**s))
                ++*s;
            size_t n = (size_t)(*s - w);
            if (!n)
                break;
            if (n == 7 && !memcmp(w, "indexed", 7)) {
                t->indexed = true;
            } else if (!((n == 6 && !memcmp(w, "memory", 6)) || (n == 8 && !memcmp(w, "calldata", 8)))) {
                t->name = w;
                t->name_len = n;
            }
        }
        tail = &t->next;
        if (**s == ')') {
            ++*s;
            return LOAM_OK;
        }
        if (**s != ',')
            return BAD_SIG(*s);
        ++*s;
    }
}

/* "name(…)" or "(…)"; *name_len 0 for the latter. */
static enum loam_status parse_sig(struct type **first, size_t *name_len, const char *sig, struct abi_arena *a, struct err *err) {
    const char *s = sig;
    while (is_word_char(*s))
        s++;
    *name_len = (size_t)(s - sig);
    enum loam_status st = parse_list(first, &s, a, 0, err);
    if (st)
        return st;
    spaces(&s);
    return *s ? BAD_SIG(s) : LOAM_OK;
}

static enum loam_status canonical(struct buf *b, const struct type *t, struct err *err) {
    enum loam_status s;
    switch (t->base) {
    case T_UINT: return buf_printf(b, err, "uint%u", t->size);
    case T_INT: return buf_printf(b, err, "int%u", t->size);
    case T_ADDR: return buf_str(b, "address", err);
    case T_BOOL: return buf_str(b, "bool", err);
    case T_FIXED: return buf_printf(b, err, "bytes%u", t->size);
    case T_BYTES: return buf_str(b, "bytes", err);
    case T_STRING: return buf_str(b, "string", err);
    case T_ARRAY: return (s = canonical(b, t->item, err)) ? s : buf_str(b, "[]", err);
    case T_VECTOR: return (s = canonical(b, t->item, err)) ? s : buf_printf(b, err, "[%u]", t->size);
    case T_TUPLE: break;
    }
    if ((s = buf_byte(b, '(', err)))
        return s;
    for (const struct type *m = t->item; m; m = m->next)
        if ((s = canonical(b, m, err)) || (m->next && (s = buf_byte(b, ',', err))))
            return s;
    return buf_byte(b, ')', err);
}

static enum loam_status hash_sig(struct hash32 *out, const char *sig, size_t name_len, struct type *first, struct err *err) {
    struct buf b = BUF_INIT(65536);
    struct type top = {.base = T_TUPLE, .item = first};
    enum loam_status s = buf_add(&b, sig, name_len, err);
    if (!s)
        s = canonical(&b, &top, err);
    if (!s)
        keccak256(out->b, b.data, b.len);
    buf_clear(&b);
    return s;
}

enum loam_status abi_hash(struct hash32 *out, const char *sig, struct err *err) {
    struct abi_arena a = {0};
    struct type *first;
    size_t n;
    enum loam_status s = parse_sig(&first, &n, sig, &a, err);
    if (!s && !n)
        s = err_set(err, LOAM_EINVAL, "abi: a signature without a name");
    if (!s)
        s = hash_sig(out, sig, n, first, err);
    arena_free(&a);
    return s;
}

/* ---- encoding ---- */

static bool dynamic(const struct abi_value *v) {
    if (v->kind == ABI_TUPLE)
        for (size_t i = 0; i < v->n; i++)
            if (dynamic(&v->item[i]))
                return true;
    return v->kind == ABI_BYTES || v->kind == ABI_ARRAY;
}
static size_t static_size(const struct abi_value *v) {
    if (v->kind != ABI_TUPLE)
        return 32;
    size_t n = 0;
    for (size_t i = 0; i < v->n; i++)
        n += static_size(&v->item[i]);
    return n;
}

static enum loam_status put_seq(struct buf *b, const struct abi_value *v, size_t n, struct err *err);

static enum loam_status put_word(struct buf *b, uint64_t v, struct err *err) {
    uint8_t w[32] = {0};
    put_be64(w + 24, v);
    return buf_add(b, w, 32, err);
}

static enum loam_status put_value(struct buf *b, const struct abi_value *v, struct err *err) {
    static const uint8_t zero[32];
    enum loam_status s;
    switch (v->kind) {
    case ABI_WORD: return buf_add(b, v->word, 32, err);
    case ABI_BYTES:
        if ((s = put_word(b, v->n, err)) || (v->n && (s = buf_add(b, v->p, v->n, err))))
            return s;
        return v->n % 32 ? buf_add(b, zero, 32 - v->n % 32, err) : LOAM_OK;
    case ABI_ARRAY:
        if ((s = put_word(b, v->n, err)))
            return s;
        break;
    case ABI_TUPLE: break;
    }
    return put_seq(b, v->item, v->n, err);
}

/* Heads, then the tails that their offsets point to. */
static enum loam_status put_seq(struct buf *b, const struct abi_value *v, size_t n, struct err *err) {
    size_t base = b->len, at = 0;
    enum loam_status s;
    for (size_t i = 0; i < n; i++)
        if ((s = dynamic(&v[i]) ? put_word(b, 0, err) : put_value(b, &v[i], err)))
            return s;
    for (size_t i = 0; i < n; i++) {
        if (!dynamic(&v[i])) {
            at += static_size(&v[i]);
            continue;
        }
        put_be64(b->data + base + at + 24, b->len - base);
        at += 32;
        if ((s = put_value(b, &v[i], err)))
            return s;
    }
    return LOAM_OK;
}

enum loam_status abi_encode(struct buf *out, const struct abi_value *items, size_t n, struct err *err) {
    return put_seq(out, items, n, err);
}

static bool fits(const struct type *t, const struct abi_value *v) {
    switch (t->base) {
    case T_BYTES:
    case T_STRING: return v->kind == ABI_BYTES;
    case T_ARRAY:
        if (v->kind != ABI_ARRAY)
            return false;
        for (size_t i = 0; i < v->n; i++)
            if (!fits(t->item, &v->item[i]))
                return false;
        return true;
    case T_VECTOR:
        if (v->kind != ABI_TUPLE || v->n != t->size)
            return false;
        for (size_t i = 0; i < v->n; i++)
            if (!fits(t->item, &v->item[i]))
                return false;
        return true;
    case T_TUPLE: {
        size_t i = 0;
        if (v->kind != ABI_TUPLE)
            return false;
        for (const struct type *m = t->item; m; m = m->next, i++)
            if (i == v->n || !fits(m, &v->item[i]))
                return false;
        return i == v->n;
    }
    default: return v->kind == ABI_WORD;
    }
}

enum loam_status abi_call(struct buf *out, const char *sig, const struct abi_value *items, size_t n, struct err *err) {
    struct abi_arena a = {0};
    struct type *first;
    struct hash32 h;
    size_t name;
    enum loam_status s = parse_sig(&first, &name, sig, &a, err);
    if (!s) {
        struct type top = {.base = T_TUPLE, .item = first};
        struct abi_value v = abi_tuple(items, n);
        if (!fits(&top, &v))
            s = err_set(err, LOAM_EINVAL, "abi: the values do not fit \"%.200s\"", sig);
    }
    if (!s)
        s = hash_sig(&h, sig, name, first, err);
    if (!s && name)
        s = buf_add(out, h.b, 4, err);
    if (!s)
        s = put_seq(out, items, n, err);
    arena_free(&a);
    return s;
}

/* ---- decoding ---- */

static bool type_dynamic(const struct type *t) {
    if (t->base == T_BYTES || t->base == T_STRING || t->base == T_ARRAY)
        return true;
    if (t->base == T_VECTOR)
        return type_dynamic(t->item);
    if (t->base == T_TUPLE)
        for (const struct type *m = t->item; m; m = m->next)
            if (type_dynamic(m))
                return true;
    return false;
}
static size_t type_size(const struct type *t) {
    size_t n = 0;
    if (t->base == T_VECTOR) /* vectors of vectors could overflow: cut far above any data */
        return __builtin_mul_overflow(type_size(t->item), (size_t)t->size, &n) || n > ABI_DATA_MAX ? ABI_DATA_MAX + 1 : n;
    if (t->base != T_TUPLE)
        return 32;
    for (const struct type *m = t->item; m && n <= ABI_DATA_MAX; m = m->next)
        n += type_size(m);
    return n;
}

struct dec {
    const uint8_t *data;
    size_t n;
    struct abi_arena *a;
};
#define BAD(...) err_set(err, LOAM_EPARSE, "abi: " __VA_ARGS__)

static bool same(const uint8_t *p, size_t n, uint8_t v) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != v)
            return false;
    return true;
}

static enum loam_status check_word(const struct type *t, const uint8_t *w, struct err *err) {
    size_t pad;
    switch (t->base) {
    case T_UINT: return same(w, 32 - t->size / 8, 0) ? LOAM_OK : BAD("a uint%u is too large", t->size);
    case T_INT:
        pad = 32 - t->size / 8;
        return same(w, pad, w[pad & 31] & 0x80 ? 0xff : 0) || !pad ? LOAM_OK : BAD("an int%u is too large", t->size);
    case T_ADDR: return same(w, 12, 0) ? LOAM_OK : BAD("an address of more than 20 bytes");
    case T_BOOL: return same(w, 31, 0) && w[31] < 2 ? LOAM_OK : BAD("a bool that is neither 0 nor 1");
    case T_FIXED: return same(w + t->size, 32 - t->size, 0) ? LOAM_OK : BAD("bytes%u with more bytes", t->size);
    default: return BAD("no word");
    }
}

/* A length or offset word that must be at most max. */
static enum loam_status small(size_t *out, const struct dec *d, size_t at, size_t max, struct err *err) {
    if (at > d->n || d->n - at < 32)
        return BAD("the data ends at %zu, a word at %zu is missing", d->n, at);
    if (!same(d->data + at, 24, 0) || be64(d->data + at + 24) > max)
        return BAD("an offset or length past the data");
    *out = (size_t)be64(d->data + at + 24);
    return LOAM_OK;
}

static enum loam_status decode_value(struct abi_value *v, const struct dec *d, const struct type *t, size_t at, struct err *err);

/* A tuple's or an array's items; offsets count from base. */
static enum loam_status decode_items(struct abi_value *v, const struct dec *d, const struct type *t, size_t count, size_t base, struct err *err) {
    enum loam_status s;
    bool many = t->base == T_ARRAY || t->base == T_VECTOR;
    const struct type *m = t->item;
    if (count > ABI_VALUES_MAX || (d->a->values += count) > ABI_VALUES_MAX)
        return err_set(err, LOAM_ELIMIT, "abi: more than %d values", ABI_VALUES_MAX);
    struct abi_value *items = take(d->a, count + 1, sizeof *items, err);
    if (!items)
        return LOAM_ENOMEM;
    size_t head = base;
    for (size_t i = 0; i < count; i++) {
        size_t at = head;
        if (type_dynamic(m)) {
            if ((s = small(&at, d, head, d->n - base, err)))
                return s;
            at += base;
            head += 32;
        } else {
            head += type_size(m);
        }
        if ((s = decode_value(&items[i], d, m, at, err)))
            return s;
        if (!many)
            m = m->next;
    }
    v->item = items;
    v->n = count;
    return LOAM_OK;
}

static enum loam_status decode_value(struct abi_value *v, const struct dec *d, const struct type *t, size_t at, struct err *err) {
    enum loam_status s;
    size_t n = 0;
    *v = word();
    switch (t->base) {
    case T_BYTES:
    case T_STRING:
        if ((s = small(&n, d, at, d->n, err)))
            return s;
        at += 32;
        if (n > d->n - at)
            return BAD("%zu bytes where %zu are left", n, d->n - at);
        v->kind = ABI_BYTES;
        v->p = d->data + at;
        v->n = n;
        if (n % 32) {
            size_t pad = 32 - n % 32;
            if (pad > d->n - at - n || !same(d->data + at + n, pad, 0))
                return BAD("bytes are not padded with zeros");
        }
        return LOAM_OK;
    case T_ARRAY:
        if ((s = small(&n, d, at, ABI_VALUES_MAX, err)))
            return s;
        at += 32;
        if (type_size(t->item) && n > (d->n - at) / (type_dynamic(t->item) ? 32 : type_size(t->item)))
            return BAD("an array of %zu where %zu bytes are left", n, d->n - at);
        v->kind = ABI_ARRAY;
        return decode_items(v, d, t, n, at, err);
    case T_VECTOR: n = t->size; break;
    case T_TUPLE:
        for (const struct type *m = t->item; m; m = m->next)
            n++;
        break;
    default:
        if (at > d->n || d->n - at < 32)
            return BAD("the data ends at %zu, a word at %zu is missing", d->n, at);
        if ((s = check_word(t, d->data + at, err)))
            return s;
        memcpy(v->word, d->data + at, 32);
        return LOAM_OK;
    }
    if (at > d->n)
        return BAD("an offset past the data");
    v->kind = ABI_TUPLE;
    return decode_items(v, d, t, n, at, err);
}

static enum loam_status names(struct abi_doc *doc, const struct type *first, struct err *err) {
    size_t i = 0;
    doc->name = take(doc->arena, doc->n + 1, sizeof *doc->name, err);
    if (!doc->name)
        return LOAM_ENOMEM;
    for (const struct type *m = first; m; m = m->next) {
        char *s = take(doc->arena, m->name_len + 1, 1, err);
        if (!s)
            return LOAM_ENOMEM;
        if (m->name_len)
            memcpy(s, m->name, m->name_len);
        doc->name[i++] = s;
    }
    return LOAM_OK;
}

static enum loam_status doc_begin(struct abi_doc *doc, struct dec *d, const uint8_t *data, size_t n, struct err *err) {
    memset(doc, 0, sizeof *doc);
    if (n > ABI_DATA_MAX)
        return err_set(err, LOAM_ELIMIT, "abi: %zu bytes, at most %u", n, ABI_DATA_MAX);
    if (!(doc->arena = mem_zalloc(sizeof *doc->arena)))
        return err_set(err, LOAM_ENOMEM, "abi");
    uint8_t *copy = take(doc->arena, n + 1, 1, err);
    if (!copy)
        return LOAM_ENOMEM;
    if (n)
        memcpy(copy, data, n);
    *d = (struct dec){copy, n, doc->arena};
    return LOAM_OK;
}

static enum loam_status decode_typed(struct abi_doc *out, struct type **first, const char *types, const uint8_t *data, size_t n,
                                     struct err *err) {
    struct dec d;
    struct abi_value v;
    size_t name;
    enum loam_status s;
    *first = NULL;
    if ((s = doc_begin(out, &d, data, n, err)) || (s = parse_sig(first, &name, types, d.a, err)))
        goto fail;
    struct type top = {.base = T_TUPLE, .item = *first};
    if ((s = decode_value(&v, &d, &top, 0, err)))
        goto fail;
    union {
        const struct abi_value *in;
        struct abi_value *out;
    } u = {.in = v.item}; /* ours: made by decode_items */
    out->item = u.out;
    out->n = v.n;
    if ((s = names(out, *first, err)))
        goto fail;
    return LOAM_OK;
fail:
    abi_clear(out);
    return s;
}

enum loam_status abi_decode(struct abi_doc *out, const char *types, const uint8_t *data, size_t n, struct err *err) {
    struct type *first;
    return decode_typed(out, &first, types, data, n, err);
}

enum loam_status abi_event(struct abi_doc *out, const char *sig, const struct hash32 *topics, size_t topic_count,
                           const uint8_t *data, size_t n, struct err *err) {
    struct dec d;
    struct type *first, *m;
    struct hash32 h;
    size_t name, count = 0, indexed = 0;
    enum loam_status s;
    if ((s = doc_begin(out, &d, data, n, err)) || (s = parse_sig(&first, &name, sig, d.a, err)) ||
        (s = hash_sig(&h, sig, name, first, err)))
        goto fail;
    for (m = first; m; m = m->next) {
        count++;
        indexed += m->indexed;
    }
    if (!topic_count || !hash_eq(&topics[0], &h) || topic_count != indexed + 1) {
        s = err_set(err, LOAM_EPARSE, "abi: not the event \"%.100s\"", sig);
        goto fail;
    }
    out->item = take(d.a, count + 1, sizeof *out->item, err);
    if (!out->item) {
        s = LOAM_ENOMEM;
        goto fail;
    }
    out->n = count;
    size_t i = 0, topic = 1, head = 0;
    for (m = first; m; m = m->next, i++) {
        if (m->indexed) {
            out->item[i] = word();
            memcpy(out->item[i].word, topics[topic++].b, 32);
            bool hashed = type_dynamic(m) || m->base == T_TUPLE || m->base == T_VECTOR;
            if (!hashed && (s = check_word(m, out->item[i].word, err)))
                goto fail;
            continue;
        }
        size_t at = head;
        if (type_dynamic(m)) {
            if ((s = small(&at, &d, head, d.n, err)))
                goto fail;
            head += 32;
        } else {
            head += type_size(m);
        }
        if ((s = decode_value(&out->item[i], &d, m, at, err)))
            goto fail;
    }
    if ((s = names(out, first, err)))
        goto fail;
    return LOAM_OK;
fail:
    abi_clear(out);
    return s;
}

void abi_clear(struct abi_doc *d) {
    if (d->arena) {
        arena_free(d->arena);
        mem_free(d->arena);
    }
    memset(d, 0, sizeof *d);
}

const struct abi_value *abi_field(const struct abi_doc *d, const char *name) {
    for (size_t i = 0; i < d->n; i++)
        if (!strcmp(d->name[i], name))
            return &d->item[i];
    return NULL;
}

static enum loam_status need(const struct abi_value *v, enum abi_kind kind, struct err *err) {
    return !v ? BAD("no such value") : v->kind != kind ? BAD("a value of another kind") : LOAM_OK;
}
enum loam_status abi_get_u64(uint64_t *out, const struct abi_value *v, struct err *err) {
    enum loam_status s = need(v, ABI_WORD, err);
    if (s)
        return s;
    if (!same(v->word, 24, 0))
        return err_set(err, LOAM_ERANGE, "abi: a number over 64 bits");
    *out = be64(v->word + 24);
    return LOAM_OK;
}
enum loam_status abi_get_u256(struct u256 *out, const struct abi_value *v, struct err *err) {
    enum loam_status s = need(v, ABI_WORD, err);
    if (!s)
        *out = u256_from_be(v->word);
    return s;
}
enum loam_status abi_get_addr(struct addr20 *out, const struct abi_value *v, struct err *err) {
    enum loam_status s = need(v, ABI_WORD, err);
    if (s)
        return s;
    if (!same(v->word, 12, 0))
        return err_set(err, LOAM_ERANGE, "abi: not an address");
    memcpy(out->b, v->word + 12, 20);
    return LOAM_OK;
}
enum loam_status abi_get_b32(struct hash32 *out, const struct abi_value *v, struct err *err) {
    enum loam_status s = need(v, ABI_WORD, err);
    if (!s)
        memcpy(out->b, v->word, 32);
    return s;
}
enum loam_status abi_get_bool(bool *out, const struct abi_value *v, struct err *err) {
    uint64_t n;
    enum loam_status s = abi_get_u64(&n, v, err);
    if (s)
        return s;
    if (n > 1)
        return err_set(err, LOAM_ERANGE, "abi: not a bool");
    *out = n;
    return LOAM_OK;
}
enum loam_status abi_get_bytes(const uint8_t **p, size_t *n, const struct abi_value *v, struct err *err) {
    enum loam_status s = need(v, ABI_BYTES, err);
    if (s)
        return s;
    *p = v->p;
    *n = v->n;
    return LOAM_OK;
}

/* ---- reverts ---- */

static enum loam_status print_value(struct buf *b, const struct type *t, const struct abi_value *v) {
    char num[U256_DEC_MAX + 1], hex[67];
    size_t n;
    struct u256 u;
    switch (t->base) {
    case T_UINT:
        u256_format(num, u256_from_be(v->word));
        return buf_str(b, num, NULL);
    case T_INT:
        u = u256_from_be(v->word);
        if (v->word[0] & 0x80) {
            u256_sub(&u, U256_ZERO, u);
            if (buf_byte(b, '-', NULL))
                return LOAM_ELIMIT;
        }
        u256_format(num, u);
        return buf_str(b, num, NULL);
    case T_BOOL: return buf_str(b, v->word[31] ? "true" : "false", NULL);
    case T_ADDR:
        hex_encode(hex, v->word + 12, 20);
        return buf_printf(b, NULL, "0x%s", hex);
    case T_FIXED:
        hex_encode(hex, v->word, t->size);
        return buf_printf(b, NULL, "0x%s", hex);
    case T_STRING: return text_clean(b, v->p, v->n, 0, NULL);
    case T_BYTES:
        n = v->n < 32 ? v->n : 32;
        hex_encode(hex, v->p, n);
        return buf_printf(b, NULL, "0x%s%s", hex, n < v->n ? "..." : "");
    default: return buf_printf(b, NULL, "[%zu]", v->n);
    }
}

static bool print_custom(struct buf *b, const char *sig, const uint8_t *data, size_t n) {
    struct hash32 h;
    struct abi_doc d;
    struct type *first;
    bool ok = false;
    if (n < 4 || abi_hash(&h, sig, NULL) || memcmp(h.b, data, 4) || decode_typed(&d, &first, sig, data + 4, n - 4, NULL))
        return false;
    size_t len = strcspn(sig, "("), i = 0;
    if (buf_add(b, sig, len, NULL) || (d.n && buf_byte(b, '(', NULL)))
        goto done;
    for (const struct type *m = first; m; m = m->next, i++) {
        if ((m->name_len && (buf_add(b, m->name, m->name_len, NULL) || buf_byte(b, ' ', NULL))) ||
            print_value(b, m, &d.item[i]) || buf_str(b, m->next ? ", " : ")", NULL))
            goto done;
    }
    ok = true;
done:
    abi_clear(&d);
    return ok;
}

static const char *panic_text(uint64_t code) {
    switch (code) {
    case 0x01: return "an assertion failed";
    case 0x11: return "arithmetic overflow";
    case 0x12: return "division by zero";
    case 0x21: return "bad enum value";
    case 0x22: return "bad storage encoding";
    case 0x31: return "pop of an empty array";
    case 0x32: return "array index out of bounds";
    case 0x41: return "out of memory";
    case 0x51: return "call of an unset function";
    default: return "unknown code";
    }
}

char *abi_revert(char *out, size_t cap, const uint8_t *data, size_t n, const char *const *errors) {
    struct abi_doc d;
    struct buf b = BUF_INIT(4096);
    uint64_t code;
    if (!n) {
        text_clean_cut(out, cap, "no reason given", 15);
        return out;
    }
    if (n >= 4 && be32(data) == 0x08c379a0 && !abi_decode(&d, "Error(string)", data + 4, n - 4, NULL)) {
        text_clean_cut(out, cap, d.item[0].p, d.item[0].n);
        abi_clear(&d);
        return out;
    }
    if (n >= 4 && be32(data) == 0x4e487b71 && !abi_decode(&d, "Panic(uint256)", data + 4, n - 4, NULL)) {
        if (abi_get_u64(&code, &d.item[0], NULL))
            code = 0;
        abi_clear(&d);
        snprintf(out, cap, "panic 0x%02llx: %s", (unsigned long long)code, panic_text(code));
        return out;
    }
    for (; errors && *errors; errors++) {
        buf_reset(&b);
        if (print_custom(&b, *errors, data, n)) {
            text_clean_cut(out, cap, b.data, b.len);
            buf_clear(&b);
            return out;
        }
    }
    buf_clear(&b);
    char hex[129];
    size_t show = n < 64 ? n : 64;
    hex_encode(hex, data, show);
    snprintf(out, cap, "0x%s%s", hex, show < n ? "..." : "");
    return out;
}
