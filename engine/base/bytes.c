#include "base/bytes.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

void buf_init(struct buf *b, size_t max) {
    *b = (struct buf)BUF_INIT(max);
}
void buf_clear(struct buf *b) {
    mem_free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}
void buf_reset(struct buf *b) {
    b->len = 0;
    if (b->data)
        b->data[0] = 0;
}

enum loam_status buf_reserve(struct buf *b, size_t more, struct err *err) {
    if (more > b->max || b->len > b->max - more)
        return err_set(err, LOAM_ELIMIT, "buffer would grow to %zu bytes, limit %zu", b->len + more, b->max);
    size_t need = b->len + more + 1;
    if (need <= b->cap)
        return LOAM_OK;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap = cap > ((size_t)-1) / 2 ? need : cap * 2;
    if (cap > b->max + 1)
        cap = b->max + 1;
    uint8_t *p = mem_resize(b->data, cap, 1);
    if (!p)
        return err_set(err, LOAM_ENOMEM, "no memory for a buffer of %zu bytes", cap);
    b->data = p;
    b->cap = cap;
    return LOAM_OK;
}

enum loam_status buf_add(struct buf *b, const void *p, size_t n, struct err *err) {
    enum loam_status s = buf_reserve(b, n, err);
    if (s)
        return s;
    if (n)
        memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = 0;
    return LOAM_OK;
}
enum loam_status buf_byte(struct buf *b, uint8_t v, struct err *err) {
    return buf_add(b, &v, 1, err);
}
enum loam_status buf_str(struct buf *b, const char *s, struct err *err) {
    return buf_add(b, s, strlen(s), err);
}
enum loam_status buf_printf(struct buf *b, struct err *err, const char *fmt, ...) {
    va_list ap, aq;
    va_start(ap, fmt);
    va_copy(aq, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    enum loam_status s = n < 0 ? err_set(err, LOAM_EINVAL, "bad format") : buf_reserve(b, (size_t)n, err);
    if (!s) {
        vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, aq);
        b->len += (size_t)n;
    }
    va_end(aq);
    return s;
}
void buf_consume(struct buf *b, size_t n) {
    LOAM_ASSERT(n <= b->len);
    b->len -= n;
    if (b->len)
        memmove(b->data, b->data + n, b->len);
    if (b->data)
        b->data[b->len] = 0;
}
uint8_t *buf_take(struct buf *b, size_t *len) {
    uint8_t *p = b->data;
    if (len)
        *len = b->len;
    b->data = NULL;
    b->len = b->cap = 0;
    return p;
}

void hex_encode(char *out, const uint8_t *in, size_t n) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[in[i] >> 4];
        out[2 * i + 1] = digits[in[i] & 15];
    }
    out[2 * n] = 0;
}

int hex_digit(int c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static enum loam_status decode(uint8_t *out, size_t n, const char *s, size_t slen, struct err *err) {
    if (slen != 2 * n)
        return err_set(err, LOAM_EPARSE, "hex: %zu digits where %zu are needed", slen, 2 * n);
    for (size_t i = 0; i < n; i++) {
        int h = hex_digit(s[2 * i]), l = hex_digit(s[2 * i + 1]);
        if (h < 0 || l < 0)
            return err_set(err, LOAM_EPARSE, "hex: bad digit at position %zu", 2 * i + (h >= 0));
        out[i] = (uint8_t)(h << 4 | l);
    }
    return LOAM_OK;
}

enum loam_status hex_decode(uint8_t *out, size_t n, const char *s, struct err *err) {
    if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X'))
        s += 2;
    return decode(out, n, s, strlen(s), err);
}

enum loam_status hex_decode_buf(struct buf *b, const char *s, size_t slen, struct err *err) {
    if (slen >= 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
        s += 2;
        slen -= 2;
    }
    if (slen % 2)
        return err_set(err, LOAM_EPARSE, "hex: odd count of digits (%zu)", slen);
    enum loam_status st = buf_reserve(b, slen / 2, err);
    if (st)
        return st;
    if ((st = decode(b->data + b->len, slen / 2, s, slen, err)))
        return st;
    b->len += slen / 2;
    b->data[b->len] = 0;
    return LOAM_OK;
}
