#include "net/rlp.h"

#include <string.h>

#include "base/banned.h"

/* Length bytes of a long form: big-endian, no leading zero, at least 56 (or the short form would do). */
static enum loam_status long_len(size_t *out, const uint8_t *p, size_t left, unsigned count, struct err *err) {
    uint64_t v = 0;
    if (left < count)
        return err_set(err, LOAM_ERLP, "RLP: the length itself is cut off");
    if (p[0] == 0)
        return err_set(err, LOAM_ERLP, "RLP: a length begins with a zero byte");
    for (unsigned i = 0; i < count; i++)
        v = v << 8 | p[i];
    if (v < 56)
        return err_set(err, LOAM_ERLP, "RLP: long form for %u bytes", (unsigned)v);
    if (v > left - count)
        return err_set(err, LOAM_ERLP, "RLP: an item of %llu bytes runs past its %zu", (unsigned long long)v, left - count);
    *out = (size_t)v;
    return LOAM_OK;
}

enum loam_status rlp_next(struct rlp *out, const uint8_t **at, size_t *left, struct err *err) {
    const uint8_t *p = *at;
    size_t n = *left, head = 1, len = 0;
    enum loam_status s;
    if (!n)
        return err_set(err, LOAM_ERLP, "RLP: an item is missing");
    uint8_t b = p[0];
    out->list = b >= 0xc0;
    if (b < 0x80) {
        head = 0;
        len = 1;
    } else if (b < 0xb8 || (b >= 0xc0 && b < 0xf8)) {
        if (b >= 0xc0)
            len = b - 0xc0u;
        else
            len = b - 0x80u;
        if (len > n - 1)
            return err_set(err, LOAM_ERLP, "RLP: an item of %zu bytes runs past its %zu", len, n - 1);
        if (b == 0x81 && p[1] < 0x80)
            return err_set(err, LOAM_ERLP, "RLP: byte 0x%02x stands for itself", p[1]);
    } else {
        unsigned count = b < 0xc0 ? b - 0xb7u : b - 0xf7u;
        if ((s = long_len(&len, p + 1, n - 1, count, err)))
            return s;
        head = 1 + count;
    }
    out->p = p + head;
    out->n = len;
    out->raw = p;
    out->raw_n = head + len;
    *at = p + head + len;
    *left = n - head - len;
    return LOAM_OK;
}

enum loam_status rlp_parse(struct rlp *out, const uint8_t *in, size_t n, struct err *err) {
    enum loam_status s = rlp_next(out, &in, &n, err);
    if (s)
        return s;
    return n ? err_set(err, LOAM_ERLP, "RLP: %zu bytes after the item", n) : LOAM_OK;
}

static enum loam_status check(const uint8_t *in, size_t n, unsigned depth, struct err *err) {
    struct rlp it;
    enum loam_status s;
    if (depth > RLP_DEPTH_MAX)
        return err_set(err, LOAM_ERLP, "RLP: nested deeper than %d", RLP_DEPTH_MAX);
    while (n) {
        if ((s = rlp_next(&it, &in, &n, err)))
            return s;
        if (it.list && (s = check(it.p, it.n, depth + 1, err)))
            return s;
    }
    return LOAM_OK;
}

enum loam_status rlp_check(const uint8_t *in, size_t n, struct err *err) {
    struct rlp it;
    enum loam_status s = rlp_parse(&it, in, n, err);
    if (s || !it.list)
        return s;
    return check(it.p, it.n, 1, err);
}

enum loam_status rlp_items(struct rlp *out, size_t max, size_t *count, const struct rlp *item, struct err *err) {
    if (!item->list)
        return err_set(err, LOAM_ERLP, "RLP: a string where a list must stand");
    const uint8_t *at = item->p;
    size_t left = item->n, n = 0;
    while (left) {
        if (n == max)
            return err_set(err, LOAM_ERLP, "RLP: a list of more than %zu items", max);
        enum loam_status s = rlp_next(&out[n], &at, &left, err);
        if (s)
            return s;
        n++;
    }
    *count = n;
    return LOAM_OK;
}

static enum loam_status integer(const struct rlp *it, size_t max, const char *what, struct err *err) {
    if (it->list)
        return err_set(err, LOAM_ERLP, "%s: a list where a number must stand", what);
    if (it->n > max)
        return err_set(err, LOAM_ERLP, "%s: a number of %zu bytes, at most %zu", what, it->n, max);
    if (it->n && !it->p[0])
        return err_set(err, LOAM_ERLP, "%s: a number with a leading zero byte", what);
    return LOAM_OK;
}

enum loam_status rlp_u64(uint64_t *out, const struct rlp *item, const char *what, struct err *err) {
    enum loam_status s = integer(item, 8, what, err);
    if (s)
        return s;
    uint64_t v = 0;
    for (size_t i = 0; i < item->n; i++)
        v = v << 8 | item->p[i];
    *out = v;
    return LOAM_OK;
}

enum loam_status rlp_u256(struct u256 *out, const struct rlp *item, const char *what, struct err *err) {
    enum loam_status s = integer(item, 32, what, err);
    if (!s)
        *out = u256_from_ben(item->p, item->n);
    return s;
}

enum loam_status rlp_fixed(uint8_t *out, size_t n, const struct rlp *item, const char *what, struct err *err) {
    if (item->list || item->n != n)
        return err_set(err, LOAM_ERLP, "%s: %s of %zu bytes, not %zu", what, item->list ? "a list" : "a string", item->n, n);
    memcpy(out, item->p, n);
    return LOAM_OK;
}

static size_t head_bytes(uint8_t out[9], size_t n, uint8_t base) {
    if (n < 56) {
        out[0] = (uint8_t)(base + n);
        return 1;
    }
    size_t count = 0;
    for (size_t v = n; v; v >>= 8)
        count++;
    out[0] = (uint8_t)(base + 55 + count);
    for (size_t i = 0; i < count; i++)
        out[1 + i] = (uint8_t)(n >> 8 * (count - 1 - i));
    return 1 + count;
}

enum loam_status rlp_put(struct buf *b, const void *p, size_t n, struct err *err) {
    uint8_t head[9];
    enum loam_status s;
    if (n == 1 && *(const uint8_t *)p < 0x80)
        return buf_byte(b, *(const uint8_t *)p, err);
    if ((s = buf_add(b, head, head_bytes(head, n, 0x80), err)))
        return s;
    return n ? buf_add(b, p, n, err) : LOAM_OK;
}

enum loam_status rlp_put_u64(struct buf *b, uint64_t v, struct err *err) {
    uint8_t be[8];
    size_t skip = 0;
    put_be64(be, v);
    while (skip < 8 && !be[skip])
        skip++;
    return rlp_put(b, be + skip, 8 - skip, err);
}

enum loam_status rlp_put_u256(struct buf *b, struct u256 v, struct err *err) {
    uint8_t be[32];
    size_t skip = 0;
    u256_to_be(be, v);
    while (skip < 32 && !be[skip])
        skip++;
    return rlp_put(b, be + skip, 32 - skip, err);
}

enum loam_status rlp_wrap(struct buf *b, size_t mark, struct err *err) {
    uint8_t head[9];
    size_t n = b->len - mark, h = head_bytes(head, n, 0xc0);
    enum loam_status s = buf_add(b, head, h, err); /* makes room; the bytes are overwritten below */
    if (s)
        return s;
    memmove(b->data + mark + h, b->data + mark, n);
    memcpy(b->data + mark, head, h);
    return LOAM_OK;
}
