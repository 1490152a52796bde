/* The general printer: a result as text for people. Objects give "key: value" lines, lists of objects tables;
 * fields that end in _wei are shown as OPEN, _ms as times, _ppm as per cent. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "cmd/private.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define COLUMNS_MAX 24
#define CELL_MAX 68 /* columns; a hash with 0x fits */

static bool ends(const char *s, const char *tail) {
    size_t a = strlen(s), b = strlen(tail);
    return a >= b && strcmp(s + a - b, tail) == 0;
}

static bool is_time(const char *key, const json_t *v) {
    return ends(key, "_ms") && json_is_integer(v) &&
           json_integer_value(v) > 1000000000000; /* durations are shorter */
}

/* The heading without what the value's form says already. */
static void heading(char out[64], const char *key) {
    size_t n = strlen(key);
    if (ends(key, "_wei") || ends(key, "_ppm"))
        n -= 4;
    else if (ends(key, "_ms"))
        n -= 3;
    snprintf(out, 64, "%.*s", (int)(n < 63 ? n : 63), key);
    for (char *p = out; *p; p++)
        if (*p == '_')
            *p = ' ';
}

static enum loam_status scalar(struct buf *out, const char *key, const json_t *v, struct err *err) {
    if (json_is_string(v)) {
        struct u256 wei;
        char coin[U256_DEC_MAX + 2];
        if (ends(key, "_wei") && !u256_parse(&wei, json_string_value(v), NULL)) {
            u256_format_coin(coin, wei);
            return buf_printf(out, err, "%s OPEN", coin);
        }
        return text_clean(out, json_string_value(v), json_string_length(v), 0, err);
    }
    if (json_is_integer(v)) {
        long long i = (long long)json_integer_value(v);
        if (is_time(key, v)) {
            char when[24];
            clock_format(when, (uint64_t)i);
            return buf_str(out, when, err);
        }
        if (ends(key, "_ppm"))
            return buf_printf(out, err, "%.2f %%", (double)i / 1e4);
        return buf_printf(out, err, "%lld", i);
    }
    if (json_is_real(v))
        return buf_printf(out, err, "%.6g", json_real_value(v));
    if (json_is_boolean(v))
        return buf_str(out, json_is_true(v) ? "yes" : "no", err);
    if (json_is_null(v))
        return buf_str(out, "-", err);
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    enum loam_status s =
        text ? text_clean(out, text, strlen(text), 0, err) : err_set(err, LOAM_ENOMEM, "no memory to print");
    mem_free(text);
    return s;
}

static size_t columns_of(const uint8_t *p, size_t n) {
    size_t w = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t k = utf8_decode(&cp, p + i, n - i);
        if (!k)
            break;
        int c = text_width(cp);
        w += c > 0 ? (size_t)c : 0;
        i += k;
    }
    return w;
}

static enum loam_status pad(struct buf *out, size_t n, struct err *err) {
    enum loam_status s = LOAM_OK;
    while (!s && n--)
        s = buf_byte(out, ' ', err);
    return s;
}

static enum loam_status table(struct buf *out, const json_t *rows, int indent, struct err *err) {
    const char *keys[COLUMNS_MAX];
    size_t width[COLUMNS_MAX], n = 0, i, k;
    json_t *row;
    json_array_foreach(rows, i, row) {
        const char *key;
        json_t *v;
        json_object_foreach(row, key, v) {
            for (k = 0; k < n && strcmp(keys[k], key) != 0; k++)
                ;
            if (k == n && n < COLUMNS_MAX && !json_is_object(v) && !json_is_array(v))
                keys[n++] = key;
        }
    }
    struct buf cell = BUF_INIT(1u << 20);
    enum loam_status s = LOAM_OK;
    char head[64];
    for (k = 0; k < n; k++) {
        heading(head, keys[k]);
        width[k] = strlen(head);
        json_array_foreach(rows, i, row) {
            const json_t *v = json_object_get(row, keys[k]);
            buf_reset(&cell);
            if (v && !s)
                s = scalar(&cell, keys[k], v, err);
            size_t w = columns_of(cell.data, cell.len);
            if (w > width[k])
                width[k] = w < CELL_MAX ? w : CELL_MAX;
        }
    }
    for (size_t line = 0; !s && line <= json_array_size(rows); line++) {
        s = pad(out, (size_t)indent, err);
        for (k = 0; !s && k < n; k++) {
            buf_reset(&cell);
            const json_t *v = line ? json_object_get(json_array_get(rows, line - 1), keys[k]) : NULL;
            if (!line) {
                heading(head, keys[k]);
                s = buf_str(&cell, head, err);
            } else if (v) {
                s = scalar(&cell, keys[k], v, err);
            }
            if (!s && cell.len)
                s = buf_add(out, cell.data, cell.len, err);
            size_t w = columns_of(cell.data, cell.len);
            if (!s && k + 1 < n)
                s = pad(out, (w < width[k] ? width[k] - w : 0) + 2, err);
        }
        if (!s)
            s = buf_byte(out, '\n', err);
    }
    buf_clear(&cell);
    return s;
}

static enum loam_status print(struct buf *out, const json_t *v, int indent, struct err *err) {
    enum loam_status s = LOAM_OK;
    if (indent > 16)
        return buf_str(out, "…\n", err);
    if (json_is_array(v)) {
        if (!json_array_size(v)) {
            s = pad(out, (size_t)indent, err);
            return s ? s : buf_str(out, "none\n", err);
        }
        if (json_is_object(json_array_get(v, 0)))
            return table(out, v, indent, err);
        size_t i;
        json_t *e;
        json_array_foreach(v, i, e) {
            if (!s)
                s = pad(out, (size_t)indent, err);
            if (!s)
                s = scalar(out, "", e, err);
            if (!s)
                s = buf_byte(out, '\n', err);
        }
        return s;
    }
    if (!json_is_object(v)) {
        s = pad(out, (size_t)indent, err);
        if (!s)
            s = scalar(out, "", v, err);
        return s ? s : buf_byte(out, '\n', err);
    }
    size_t widest = 0;
    const char *key;
    json_t *e;
    char head[64];
    json_object_foreach((json_t *)(uintptr_t)v, key, e) {
        heading(head, key);
        if (strlen(head) > widest)
            widest = strlen(head);
    }
    json_object_foreach((json_t *)(uintptr_t)v, key, e) {
        bool nested = (json_is_object(e) && json_object_size(e)) || (json_is_array(e) && json_array_size(e));
        heading(head, key);
        if (!s)
            s = pad(out, (size_t)indent, err);
        if (!s)
            s = nested ? buf_printf(out, err, "%s:\n", head)
                       : buf_printf(out, err, "%s:%*s", head, (int)(widest - strlen(head) + 1), "");
        if (!s && nested) {
            s = print(out, e, indent + 2, err);
        } else if (!s) {
            if (json_is_object(e) || json_is_array(e))
                s = buf_str(out, "none", err);
            else
                s = scalar(out, key, e, err);
            if (!s)
                s = buf_byte(out, '\n', err);
        }
    }
    return s;
}

enum loam_status cmd_print(struct buf *out, const json_t *v, struct err *err) {
    if (json_is_object(v) && json_object_size(v) == 1 && json_is_array(json_object_get(v, "list")))
        return print(out, json_object_get(v, "list"), 0, err);
    return print(out, v, 0, err);
}
