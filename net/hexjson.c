#include "net/hexjson.h"

#include "base/mem.h"
#include "base/text.h"

#include <string.h>

#include "base/banned.h"

bool hj_has(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    return v && !json_is_null(v);
}

/* The digits behind 0x of a JSON string. */
static enum loam_status digits(const char **out, size_t *n, const json_t *v, const char *what, struct err *err) {
    if (!v || json_is_null(v))
        return err_set(err, LOAM_ENULL, "%s: null or missing", what);
    if (!json_is_string(v))
        return err_set(err, LOAM_EHEX, "%s: not a string", what);
    const char *s = json_string_value(v);
    *n = json_string_length(v);
    if (*n < 2 || s[0] != '0' || s[1] != 'x')
        return err_set(err, LOAM_EHEX, "%s: does not begin with 0x", what);
    *out = s + 2;
    *n -= 2;
    return LOAM_OK;
}

enum loam_status hj_str_u256(struct u256 *out, const json_t *v, const char *what, struct err *err) {
    const char *d;
    size_t n;
    enum loam_status s = digits(&d, &n, v, what, err);
    if (s)
        return s;
    if (!n || n > 64)
        return err_set(err, LOAM_EHEX, "%s: a number of %zu hex digits", what, n);
    if (n > 1 && d[0] == '0')
        return err_set(err, LOAM_EHEX, "%s: a quantity with a leading zero", what);
    uint8_t be[32] = {0};
    for (size_t i = 0; i < n; i++) {
        int x = hex_digit(d[n - 1 - i]);
        if (x < 0)
            return err_set(err, LOAM_EHEX, "%s: not a hex digit", what);
        be[31 - i / 2] |= (uint8_t)(i % 2 ? x << 4 : x);
    }
    *out = u256_from_be(be);
    return LOAM_OK;
}

enum loam_status hj_str_u64(uint64_t *out, const json_t *v, const char *what, struct err *err) {
    struct u256 w;
    enum loam_status s = hj_str_u256(&w, v, what, err);
    if (s)
        return s;
    if (!u256_fits_u64(w))
        return err_set(err, LOAM_EHEX, "%s: a number over 64 bits", what);
    *out = w.w[0];
    return LOAM_OK;
}

static enum loam_status decode(uint8_t *out, const char *d, size_t n, const char *what, struct err *err) {
    for (size_t i = 0; i < n; i++) {
        int hi = hex_digit(d[2 * i]), lo = hex_digit(d[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return err_set(err, LOAM_EHEX, "%s: not a hex digit", what);
        out[i] = (uint8_t)(hi << 4 | lo);
    }
    return LOAM_OK;
}

enum loam_status hj_str_fixed(void *out, size_t n, const json_t *v, const char *what, struct err *err) {
    const char *d;
    size_t len;
    enum loam_status s = digits(&d, &len, v, what, err);
    if (s)
        return s;
    if (len != 2 * n)
        return err_set(err, LOAM_EHEX, "%s: %zu hex digits, not %zu", what, len, 2 * n);
    return decode(out, d, n, what, err);
}

enum loam_status hj_str_bytes(struct buf *out, const json_t *v, const char *what, struct err *err) {
    const char *d;
    size_t len;
    enum loam_status s = digits(&d, &len, v, what, err);
    buf_reset(out);
    if (s)
        return s;
    if (len % 2)
        return err_set(err, LOAM_EHEX, "%s: an odd count of hex digits (%zu)", what, len);
    if ((s = buf_reserve(out, len / 2, err)))
        return s;
    if (len && (s = decode(out->data, d, len / 2, what, err)))
        return s;
    out->len = len / 2;
    return LOAM_OK;
}

enum loam_status hj_u64(uint64_t *out, const json_t *o, const char *key, struct err *err) {
    return hj_str_u64(out, json_object_get(o, key), key, err);
}
enum loam_status hj_u256(struct u256 *out, const json_t *o, const char *key, struct err *err) {
    return hj_str_u256(out, json_object_get(o, key), key, err);
}
enum loam_status hj_fixed(void *out, size_t n, const json_t *o, const char *key, struct err *err) {
    return hj_str_fixed(out, n, json_object_get(o, key), key, err);
}
enum loam_status hj_bytes(struct buf *out, const json_t *o, const char *key, struct err *err) {
    return hj_str_bytes(out, json_object_get(o, key), key, err);
}

json_t *hj_new_bytes(const void *p, size_t n) {
    char *s = mem_array(n + 2, 2);
    if (!s)
        return NULL;
    s[0] = '0';
    s[1] = 'x';
    hex_encode(s + 2, p, n);
    json_t *v = json_stringn(s, 2 * n + 2);
    mem_free(s);
    return v;
}

json_t *hj_new_u256(struct u256 v) {
    static const char hexd[] = "0123456789abcdef";
    uint8_t be[32];
    char s[67] = "0x";
    size_t n = 2;
    u256_to_be(be, v);
    for (size_t i = 0; i < 64; i++) {
        unsigned d = i % 2 ? be[i / 2] & 15u : be[i / 2] >> 4;
        if (d || n > 2 || i == 63)
            s[n++] = hexd[d];
    }
    return json_stringn(s, n);
}

json_t *hj_new_u64(uint64_t v) {
    return hj_new_u256(u256_from(v));
}
