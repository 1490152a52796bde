/* A small strict JSON reader (RFC 8259) and string writer for the rooms that must build with a C compiler alone
 * (lm, poa): tokenizer.json, config.json, adapter_config.json, safetensors headers. Other rooms use jansson; the prefix
 * js_ keeps the two apart.
 *
 * Strict: UTF-8 must be well-formed, \u surrogates must come in pairs, numbers follow the grammar, one value, no
 * trailing bytes, no comments, no duplicate keys in one object (an object of more than JS_DUP_MAX members is not checked
 * for duplicates; the first member found wins). Depth, bytes and count of values are bounded.
 *
 * A document is one arena: every js_val pointer stays valid until js_free. Nothing is written to after js_parse. */
#ifndef LOAM_BASE_JSON_H
#define LOAM_BASE_JSON_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

#define JS_DEPTH_MAX 64
#define JS_VALUES_MAX (16u << 20)
#define JS_DUP_MAX 4096

enum js_type { JS_NULL, JS_BOOL, JS_NUMBER, JS_STRING, JS_ARRAY, JS_OBJECT };

/* One value. Containers: `first` is the first child, each child's `next` the one after it (NULL at the end), `n` the
 * count. A member of an object also has key, key_len. Strings are decoded, NUL-terminated, and may hold NUL inside:
 * use len. */
struct js_val {
    enum js_type type;
    bool boolean;     /* JS_BOOL */
    bool integral;    /* JS_NUMBER without fraction or exponent that fits int64: i is exact */
    uint32_t key_len; /* bytes of key */
    const char *key;  /* NULL unless a member of an object */
    struct js_val *next;
    union {
        struct {
            const char *s;
            size_t len;
        };
        struct {
            struct js_val *first;
            size_t n;
        };
        struct {
            int64_t i;
            double d; /* always set for JS_NUMBER (correctly rounded) */
        };
    };
};

struct js_doc {
    struct js_val *root;
    void *arena; /* owned */
};

/* Parses exactly n bytes. LOAM_EPARSE (with line, column and byte offset), LOAM_ELIMIT, LOAM_ENOMEM. On failure *doc is
 * cleared. text need not outlive the call. */
enum loam_status js_parse(struct js_doc *doc, const void *text, size_t n, struct err *err) LOAM_MUST_USE;
void js_free(struct js_doc *doc);

/* Member by name, or NULL (also where v is NULL or no object). Linear. */
const struct js_val *js_get(const struct js_val *v, const char *key);
/* Typed members: absent or null gives the default; another type is LOAM_EPARSE naming the key. */
enum loam_status js_get_int(int64_t *out, const struct js_val *obj, const char *key, int64_t def, struct err *err) LOAM_MUST_USE;
enum loam_status js_get_num(double *out, const struct js_val *obj, const char *key, double def, struct err *err) LOAM_MUST_USE;
enum loam_status js_get_bool(bool *out, const struct js_val *obj, const char *key, bool def, struct err *err) LOAM_MUST_USE;
/* *out borrows from the document; def may be NULL. A string with a NUL inside is LOAM_EPARSE. */
enum loam_status js_get_str(const char **out, const struct js_val *obj, const char *key, const char *def, struct err *err) LOAM_MUST_USE;
bool js_is_str(const struct js_val *v, const char *s);

/* Appends s as a JSON string with its quotes: ", \, and bytes below 0x20 are escaped, everything else is copied.
 * LOAM_EPARSE where s is not UTF-8. */
enum loam_status js_write_str(struct buf *out, const char *s, size_t n, struct err *err) LOAM_MUST_USE;
/* Appends the shortest decimal text that reads back as exactly d (17 digits at most); LOAM_ENONFINITE otherwise. */
enum loam_status js_write_num(struct buf *out, double d, struct err *err) LOAM_MUST_USE;

#endif
