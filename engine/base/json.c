#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Two arenas of fixed chunks: values and text never move, so that pointers stay valid while parsing goes on. */
#define CHUNK (256u << 10)

struct chunk {
    struct chunk *next;
    size_t used, cap;
    unsigned char data[];
};

struct parser {
    const unsigned char *p, *end, *start;
    struct chunk *chunks;
    size_t values;
    int depth;
    struct err *err;
};

static void *take(struct parser *ps, size_t n) {
    n = (n + 15) & ~(size_t)15;
    if (!ps->chunks || ps->chunks->cap - ps->chunks->used < n) {
        size_t cap = n > CHUNK ? n : CHUNK;
        struct chunk *c = mem_alloc(sizeof *c + cap);
        if (!c)
            return NULL;
        c->next = ps->chunks;
        c->used = 0;
        c->cap = cap;
        ps->chunks = c;
    }
    void *p = ps->chunks->data + ps->chunks->used;
    ps->chunks->used += n;
    return p;
}

static enum loam_status bad(struct parser *ps, const unsigned char *at, const char *what) {
    size_t line = 1, col = 1;
    for (const unsigned char *q = ps->start; q < at; q++) {
        if (*q == '\n') {
            line++;
            col = 1;
        } else {
            col++;
        }
    }
    return err_set(ps->err, LOAM_EPARSE, "JSON: %s at line %zu, column %zu (byte %zu)", what, line, col,
                   (size_t)(at - ps->start));
}

static void space(struct parser *ps) {
    while (ps->p < ps->end && (*ps->p == ' ' || *ps->p == '\t' || *ps->p == '\n' || *ps->p == '\r'))
        ps->p++;
}

static int hex4(const unsigned char *p) {
    int v = 0;
    for (int i = 0; i < 4; i++) {
        int d = hex_digit(p[i]);
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

/* At the opening quote. The decoded text is never longer than its source. */
static enum loam_status string(struct parser *ps, const char **out, size_t *out_len) {
    const unsigned char *open = ps->p++, *q = ps->p;
    while (q < ps->end && *q != '"')
        q += *q == '\\' ? 2 : 1;
    if (q >= ps->end)
        return bad(ps, open, "a string does not end");
    unsigned char *w = take(ps, (size_t)(q - ps->p) + 1), *w0 = w;
    if (!w)
        return err_set(ps->err, LOAM_ENOMEM, "JSON: no memory for a string");
    while (ps->p < q) {
        unsigned char c = *ps->p;
        if (c < 0x20)
            return bad(ps, ps->p, "a control character inside a string");
        if (c == '\\') {
            static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
            unsigned char e = ps->p[1];
            const char *f = e ? strchr(from, e) : NULL;
            if (f) {
                *w++ = (unsigned char)to[f - from];
                ps->p += 2;
                continue;
            }
            if (e != 'u' || q - ps->p < 6)
                return bad(ps, ps->p, "an unknown escape");
            int u = hex4(ps->p + 2);
            uint32_t cp = (uint32_t)u;
            const unsigned char *esc = ps->p;
            ps->p += 6;
            if (u >= 0xd800 && u < 0xdc00) {
                int lo = q - ps->p >= 6 && ps->p[0] == '\\' && ps->p[1] == 'u' ? hex4(ps->p + 2) : -1;
                if (lo < 0xdc00 || lo > 0xdfff)
                    return bad(ps, esc, "half a surrogate pair");
                cp = 0x10000 + ((cp - 0xd800) << 10) + ((uint32_t)lo - 0xdc00);
                ps->p += 6;
            }
            unsigned char utf[4];
            size_t n = u < 0 ? 0 : utf8_encode(utf, cp);
            if (!n)
                return bad(ps, esc, "a bad \\u escape");
            memcpy(w, utf, n);
            w += n;
        } else if (c < 0x80) {
            *w++ = c;
            ps->p++;
        } else {
            uint32_t cp;
            size_t n = utf8_decode(&cp, ps->p, (size_t)(q - ps->p));
            if (!n)
                return bad(ps, ps->p, "bad UTF-8");
            memcpy(w, ps->p, n);
            w += n;
            ps->p += n;
        }
    }
    *w = 0;
    ps->p = q + 1;
    *out = (const char *)w0;
    *out_len = (size_t)(w - w0);
    return LOAM_OK;
}

static enum loam_status number(struct parser *ps, struct js_val *v) {
    const unsigned char *s = ps->p, *p = s, *e = ps->end;
    bool plain = true;
#define DIGITS()                                                                                                   \
    do {                                                                                                           \
        if (p >= e || *p < '0' || *p > '9')                                                                        \
            return bad(ps, p, "a digit is missing");                                                               \
        while (p < e && *p >= '0' && *p <= '9')                                                                    \
            p++;                                                                                                   \
    } while (0)
    if (*p == '-')
        p++;
    if (p < e && *p == '0')
        p++;
    else
        DIGITS();
    if (p < e && *p == '.') {
        plain = false;
        p++;
        DIGITS();
    }
    if (p < e && (*p == 'e' || *p == 'E')) {
        plain = false;
        p++;
        if (p < e && (*p == '+' || *p == '-'))
            p++;
        DIGITS();
    }
#undef DIGITS
    char t[512];
    size_t n = (size_t)(p - s);
    if (n >= sizeof t)
        return bad(ps, s, "a number longer than 511 characters");
    memcpy(t, s, n);
    t[n] = 0;
    v->type = JS_NUMBER;
    v->d = strtod(t, NULL); /* LC_NUMERIC is never set (the program sets LC_CTYPE only) */
    if (!isfinite(v->d))
        return bad(ps, s, "a number past the range of a double");
    if (plain) {
        errno = 0;
        long long i = strtoll(t, NULL, 10);
        if (!errno) {
            v->integral = true;
            v->i = i;
        }
    }
    ps->p = p;
    return LOAM_OK;
}

static enum loam_status value(struct parser *ps, struct js_val *v);

static enum loam_status container(struct parser *ps, struct js_val *v) {
    bool obj = *ps->p == '{';
    unsigned char close = obj ? '}' : ']';
    const unsigned char *open = ps->p++;
    v->type = obj ? JS_OBJECT : JS_ARRAY;
    if (++ps->depth > JS_DEPTH_MAX)
        return err_set(ps->err, LOAM_ELIMIT, "JSON: nested deeper than %d at byte %zu", JS_DEPTH_MAX,
                       (size_t)(open - ps->start));
    struct js_val **tail = &v->first;
    space(ps);
    if (ps->p < ps->end && *ps->p == close) {
        ps->p++;
        ps->depth--;
        return LOAM_OK;
    }
    for (;;) {
        if (++ps->values > JS_VALUES_MAX)
            return err_set(ps->err, LOAM_ELIMIT, "JSON: more than %u values", JS_VALUES_MAX);
        struct js_val *c = take(ps, sizeof *c);
        if (!c)
            return err_set(ps->err, LOAM_ENOMEM, "JSON: no memory for a value");
        memset(c, 0, sizeof *c);
        space(ps);
        if (obj) {
            size_t kl = 0;
            const unsigned char *at = ps->p;
            if (ps->p >= ps->end || *ps->p != '"')
                return bad(ps, ps->p, "a key is missing");
            enum loam_status s = string(ps, &c->key, &kl);
            if (s)
                return s;
            if (kl > UINT32_MAX)
                return bad(ps, at, "a key is too long");
            c->key_len = (uint32_t)kl;
            if (v->n < JS_DUP_MAX)
                for (const struct js_val *o = v->first; o; o = o->next)
                    if (o->key_len == kl && !memcmp(o->key, c->key, kl))
                        return bad(ps, at, "a key stands twice in one object");
            space(ps);
            if (ps->p >= ps->end || *ps->p != ':')
                return bad(ps, ps->p, "':' is missing");
            ps->p++;
        }
        enum loam_status s = value(ps, c);
        if (s)
            return s;
        *tail = c;
        tail = &c->next;
        v->n++;
        space(ps);
        if (ps->p < ps->end && *ps->p == ',') {
            ps->p++;
            continue;
        }
        if (ps->p < ps->end && *ps->p == close) {
            ps->p++;
            ps->depth--;
            return LOAM_OK;
        }
        return bad(ps, ps->p < ps->end ? ps->p : open, ps->p < ps->end ? "',' or the end of the list is missing" : "a list does not end");
    }
}

static enum loam_status value(struct parser *ps, struct js_val *v) {
    space(ps);
    if (ps->p >= ps->end)
        return bad(ps, ps->p, "a value is missing");
    switch (*ps->p) {
    case '{':
    case '[':
        return container(ps, v);
    case '"':
        v->type = JS_STRING;
        return string(ps, &v->s, &v->len);
    case '-':
    case '0': case '1': case '2': case '3': case '4':
    case '5': case '6': case '7': case '8': case '9':
        return number(ps, v);
    default:
        break;
    }
    static const struct {
        const char *word;
        enum js_type type;
        bool b;
    } words[] = {{"null", JS_NULL, false}, {"true", JS_BOOL, true}, {"false", JS_BOOL, false}};
    for (size_t i = 0; i < 3; i++) {
        size_t n = strlen(words[i].word);
        if ((size_t)(ps->end - ps->p) >= n && !memcmp(ps->p, words[i].word, n)) {
            v->type = words[i].type;
            v->boolean = words[i].b;
            ps->p += n;
            return LOAM_OK;
        }
    }
    return bad(ps, ps->p, "no JSON value starts so");
}

static void free_chunks(struct chunk *c) {
    while (c) {
        struct chunk *n = c->next;
        mem_free(c);
        c = n;
    }
}

enum loam_status js_parse(struct js_doc *doc, const void *text, size_t n, struct err *err) {
    static const unsigned char none[1] = {0};
    struct parser ps = {.err = err, .p = n ? text : none};
    ps.start = ps.p;
    ps.end = ps.p + n;
    *doc = (struct js_doc){0};
    struct js_val *root = take(&ps, sizeof *root);
    if (!root)
        return err_set(err, LOAM_ENOMEM, "JSON: no memory");
    memset(root, 0, sizeof *root);
    enum loam_status s = value(&ps, root);
    if (!s) {
        space(&ps);
        if (ps.p != ps.end)
            s = bad(&ps, ps.p, "bytes after the value");
    }
    if (s) {
        free_chunks(ps.chunks);
        return s;
    }
    doc->root = root;
    doc->arena = ps.chunks;
    return LOAM_OK;
}

void js_free(struct js_doc *doc) {
    if (!doc)
        return;
    free_chunks(doc->arena);
    *doc = (struct js_doc){0};
}

const struct js_val *js_get(const struct js_val *v, const char *key) {
    if (!v || v->type != JS_OBJECT)
        return NULL;
    size_t n = strlen(key);
    for (const struct js_val *c = v->first; c; c = c->next)
        if (c->key_len == n && !memcmp(c->key, key, n))
            return c;
    return NULL;
}

/* The member, or NULL where it is absent or null. */
static const struct js_val *present(const struct js_val *obj, const char *key) {
    const struct js_val *v = js_get(obj, key);
    return v && v->type != JS_NULL ? v : NULL;
}

enum loam_status js_get_int(int64_t *out, const struct js_val *obj, const char *key, int64_t def, struct err *err) {
    const struct js_val *v = present(obj, key);
    *out = def;
    if (!v)
        return LOAM_OK;
    if (v->type != JS_NUMBER || !v->integral)
        return err_set(err, LOAM_EPARSE, "JSON: \"%s\" is no whole number", key);
    *out = v->i;
    return LOAM_OK;
}

enum loam_status js_get_num(double *out, const struct js_val *obj, const char *key, double def, struct err *err) {
    const struct js_val *v = present(obj, key);
    *out = def;
    if (!v)
        return LOAM_OK;
    if (v->type != JS_NUMBER)
        return err_set(err, LOAM_EPARSE, "JSON: \"%s\" is no number", key);
    *out = v->d;
    return LOAM_OK;
}

enum loam_status js_get_bool(bool *out, const struct js_val *obj, const char *key, bool def, struct err *err) {
    const struct js_val *v = present(obj, key);
    *out = def;
    if (!v)
        return LOAM_OK;
    if (v->type != JS_BOOL)
        return err_set(err, LOAM_EPARSE, "JSON: \"%s\" is neither true nor false", key);
    *out = v->boolean;
    return LOAM_OK;
}

enum loam_status js_get_str(const char **out, const struct js_val *obj, const char *key, const char *def, struct err *err) {
    const struct js_val *v = present(obj, key);
    *out = def;
    if (!v)
        return LOAM_OK;
    if (v->type != JS_STRING || strlen(v->s) != v->len)
        return err_set(err, LOAM_EPARSE, "JSON: \"%s\" is no string", key);
    *out = v->s;
    return LOAM_OK;
}

bool js_is_str(const struct js_val *v, const char *s) {
    return v && v->type == JS_STRING && v->len == strlen(s) && !memcmp(v->s, s, v->len);
}

enum loam_status js_write_str(struct buf *out, const char *s, size_t n, struct err *err) {
    size_t at;
    if (!utf8_valid((const uint8_t *)s, n, &at))
        return err_set(err, LOAM_EPARSE, "JSON: bad UTF-8 at byte %zu of a string", at);
    enum loam_status st = buf_byte(out, '"', err);
    for (size_t i = 0, from = 0; !st && i <= n; i++) {
        unsigned char c = i < n ? (unsigned char)s[i] : 0;
        if (i < n && c != '"' && c != '\\' && c >= 0x20)
            continue;
        st = buf_add(out, s + from, i - from, err);
        from = i + 1;
        if (st || i == n)
            continue;
        static const char names[] = "btn?fr"; /* 8 to 13; 11 has no short form */
        if (c == '"' || c == '\\')
            st = buf_printf(out, err, "\\%c", c);
        else if (c >= 8 && c <= 13 && c != 11)
            st = buf_printf(out, err, "\\%c", names[c - 8]);
        else
            st = buf_printf(out, err, "\\u%04x", c);
    }
    return st ? st : buf_byte(out, '"', err);
}

enum loam_status js_write_num(struct buf *out, double d, struct err *err) {
    if (!isfinite(d))
        return err_set(err, LOAM_ENONFINITE, "JSON: a number is not finite");
    char t[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(t, sizeof t, "%.*g", digits, d);
        if (strtod(t, NULL) == d)
            break;
    }
    return buf_str(out, t, err);
}
