#include "net/da.h"

#include "base/keccak.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/rlp.h"

#include <jansson.h>
#include <string.h>

#include "base/banned.h"

#define BAD(...) err_set(err, LOAM_ECOMMITMENT, "DA commitment: " __VA_ARGS__)

/* Version 3: [[root, reference], inclusion info, …]; version 4 the same with one more; version 2: inclusion info first. */
static enum loam_status read_cert(struct da_commitment *c, struct err *err) {
    struct rlp top, f[8], h[2];
    size_t n, m;
    if (rlp_check(c->cert, c->cert_len, NULL) || rlp_parse(&top, c->cert, c->cert_len, NULL) || !top.list)
        return BAD("the certificate is not canonical RLP");
    if (c->cert_version == 1)
        return LOAM_OK;
    if (rlp_items(f, 8, &n, &top, NULL) || n < 4)
        return BAD("the certificate has not the fields of version %u", c->cert_version);
    const struct rlp *head = &f[c->cert_version == 2 ? 1 : 0];
    if (c->cert_version == 4 && n != 5)
        return BAD("a certificate of version 4 with %zu fields", n);
    if (c->cert_version < 4 && n != 4)
        return BAD("a certificate of version %u with %zu fields", c->cert_version, n);
    if (rlp_items(h, 2, &m, head, NULL) || m != 2 || rlp_fixed(c->batch_root.b, 32, &h[0], "batch root", NULL) ||
        rlp_u64(&c->reference_block, &h[1], "reference block", NULL))
        return BAD("the certificate's batch header");
    c->has_reference = true;
    return LOAM_OK;
}

enum loam_status da_commitment_parse(struct da_commitment *c, const uint8_t *p, size_t n, bool standard, struct err *err) {
    memset(c, 0, sizeof *c);
    if (!n || n > DA_COMMITMENT_MAX)
        return BAD("%zu bytes", n);
    if (!standard) {
        if (p[0] == 0x00) {
            if (n != 33)
                return BAD("a keccak commitment of %zu bytes", n);
            c->kind = DA_KECCAK;
            memcpy(c->keccak.b, p + 1, 32);
            return LOAM_OK;
        }
        if (p[0] != 0x01 || n < 3)
            return BAD("type 0x%02x, %zu bytes", p[0], n);
        c->layer = p[1];
        p += 2;
        n -= 2;
    }
    c->kind = DA_GENERIC;
    if (c->layer != 0) /* Avail, Celestia …: known by name only */
        return c->layer == 0x0a || c->layer == 0x0c ? err_set(err, LOAM_EUNSUPPORTED, "DA layer 0x%02x is not supported", c->layer)
                                                    : BAD("unknown DA layer 0x%02x", c->layer);
    if (p[0] > 3)
        return BAD("EigenDA certificate version byte %u", p[0]);
    c->cert_version = p[0] + 1u;
    c->cert = p + 1;
    c->cert_len = n - 1;
    return read_cert(c, err);
}

enum loam_status da_from_calldata(struct da_commitment *c, const uint8_t *p, size_t n, struct err *err) {
    if (n < 2 || p[0] != 0x01)
        return BAD("calldata does not begin with 0x01: plain frames, or nothing of DA");
    return da_commitment_parse(c, p + 1, n - 1, false, err);
}

enum loam_status da_recency(const struct da_commitment *c, uint64_t l1, uint64_t window, struct err *err) {
    if (!c->has_reference || !l1)
        return LOAM_OK;
    if (c->reference_block > l1)
        return BAD("its reference block %llu is after its inclusion at %llu", (unsigned long long)c->reference_block, (unsigned long long)l1);
    if (window && l1 - c->reference_block > window)
        return err_set(err, LOAM_ESTALE, "DA commitment: included %llu blocks after its reference block, at most %llu",
                       (unsigned long long)(l1 - c->reference_block), (unsigned long long)window);
    return LOAM_OK;
}

const char *da_word(const struct da_commitment *c) {
    return c->kind == DA_KECCAK ? "keccak verified" : "retrieved; KZG and quorum not checked";
}

enum loam_status da_encode(struct buf *out, const void *p, size_t n, struct err *err) {
    if (n > DA_PAYLOAD_MAX)
        return err_set(err, LOAM_ELIMIT, "payload of %zu bytes, EigenDA takes at most %u", n, DA_PAYLOAD_MAX);
    size_t words = 1 + (n + 30) / 31, total = 1;
    while (total < words)
        total *= 2;
    enum loam_status s = buf_reserve(out, 32 * total, err);
    if (s)
        return s;
    uint8_t *o = out->data + out->len;
    memset(o, 0, 32 * total);
    put_be32(o + 2, (uint32_t)n);
    for (size_t i = 0; i < n; i += 31)
        memcpy(o + 32 + i / 31 * 32 + 1, (const uint8_t *)p + i, n - i < 31 ? n - i : 31);
    out->len += 32 * total;
    return LOAM_OK;
}

enum loam_status da_decode(struct buf *out, const void *data, size_t n, struct err *err) {
    const uint8_t *p = data;
    enum loam_status s;
    if (n < 32 || n % 32)
        return err_set(err, LOAM_EPARSE, "encoded payload of %zu bytes", n);
    if ((n / 32) & (n / 32 - 1))
        return err_set(err, LOAM_EPARSE, "encoded payload: %zu words are not a power of two", n / 32);
    if (p[0] || p[1])
        return err_set(err, LOAM_EPARSE, "encoded payload: header %u, version %u", p[0], p[1]);
    for (size_t i = 6; i < 32; i++)
        if (p[i])
            return err_set(err, LOAM_EPARSE, "encoded payload: header padding");
    size_t len = be32(p + 2);
    if (len > DA_PAYLOAD_MAX || len > (n / 32 - 1) * 31)
        return err_set(err, LOAM_EPARSE, "encoded payload says %zu bytes and has room for %zu", len, (n / 32 - 1) * 31);
    for (size_t w = 1; w < n / 32; w++) {
        const uint8_t *q = p + 32 * w;
        size_t at = 31 * (w - 1), here = at >= len ? 0 : len - at < 31 ? len - at : 31;
        if (*q)
            return err_set(err, LOAM_EPARSE, "encoded payload: word %zu does not begin with 0", w);
        for (size_t i = 1 + here; i < 32; i++)
            if (q[i])
                return err_set(err, LOAM_EPARSE, "encoded payload: bytes after its end");
        if (here && (s = buf_add(out, q + 1, here, err)))
            return s;
    }
    return LOAM_OK;
}

/* The statuses of the proxy's README, each its own code. */
static enum loam_status proxy_status(const struct http_response *r, struct err *err) {
    char cut[160];
    text_clean_cut(cut, sizeof cut, r->body.len ? (const char *)r->body.data : "", r->body.len);
    switch (r->status) {
    case 400: return err_set(err, LOAM_ECOMMITMENT, "EigenDA proxy: bad request: %s", cut);
    case 403: return err_set(err, LOAM_EDISABLED, "EigenDA proxy: this API is not enabled");
    case 418: {
        static const char *const why[] = {"", "its certificate does not parse", "it is not recent", "its certificate is not valid",
                                          "its blob does not decode"};
        json_t *o = json_loadb(r->body.len ? (const char *)r->body.data : "", r->body.len, 0, NULL);
        json_int_t n = json_integer_value(json_object_get(o, "StatusCode"));
        json_decref(o);
        return err_set(err, LOAM_EDADROP, "EigenDA proxy: drop this batch: %s (%lld)", n > 0 && n < 5 ? why[n] : "no reason", (long long)n);
    }
    case 429: return err_set(err, LOAM_ERATE, "EigenDA proxy: rate limited");
    case 503: return err_set(err, LOAM_EDAFAIL, "EigenDA proxy: fail over: %s", cut);
    default: {
        enum loam_status s = http_check(r, err);
        return s ? err_prefix(err, s, "EigenDA proxy") : LOAM_OK;
    }
    }
}

enum loam_status da_put(struct http *h, struct buf *commitment, const char *url, enum da_mode mode, const void *p, size_t n,
                        const struct http_cancel *cancel, struct err *err) {
    static const char *const headers[] = {"Content-Type: application/octet-stream", NULL};
    char hex[65] = "";
    uint8_t k[32];
    struct http_response r;
    struct da_commitment c;
    if (!n || n > DA_PAYLOAD_MAX)
        return err_set(err, n ? LOAM_ELIMIT : LOAM_EINVAL, "payload of %zu bytes, EigenDA takes 1 to %u", n, DA_PAYLOAD_MAX);
    keccak256(k, p, n);
    hex_encode(hex, k, 32);
    char *full = mode == DA_OP_KECCAK ? mem_printf("%s/put/0x00%s", url, hex) : mem_printf("%s/put%s", url, mode == DA_STANDARD ? "?commitment_mode=standard" : "");
    if (!full)
        return err_set(err, LOAM_ENOMEM, "EigenDA");
    struct http_request q = {.method = "POST", .url = full, .headers = headers, .body = p, .body_len = n, .timeout_ms = 120000, .max_body = DA_COMMITMENT_MAX, .cancel = cancel};
    enum loam_status s = http_fetch_wait(h, &r, &q, err);
    mem_free(full);
    if (!s)
        s = proxy_status(&r, err);
    if (!s && mode == DA_OP_KECCAK) {
        uint8_t own[33] = {0};
        memcpy(own + 1, k, 32); /* the key is ours: whatever the proxy answers */
        s = buf_add(commitment, own, 33, err);
    } else if (!s && !r.body.len) {
        s = err_set(err, LOAM_EEMPTY, "EigenDA proxy: an empty commitment");
    } else if (!s && !(s = da_commitment_parse(&c, r.body.data, r.body.len, mode == DA_STANDARD, err))) {
        s = buf_add(commitment, r.body.data, r.body.len, err);
    }
    http_response_clear(&r);
    return s;
}

enum loam_status da_get(struct http *h, struct buf *out, const char *url, enum da_mode mode, const uint8_t *commitment, size_t n,
                        uint64_t l1, const struct http_cancel *cancel, struct err *err) {
    struct da_commitment c;
    struct http_response r;
    struct buf u = BUF_INIT(2 * DA_COMMITMENT_MAX + 1024);
    enum loam_status s = da_commitment_parse(&c, commitment, n, mode == DA_STANDARD, err);
    char *hex = s ? NULL : mem_array(n + 1, 2);
    if (s)
        return s;
    if (!hex)
        return err_set(err, LOAM_ENOMEM, "EigenDA");
    if ((s = da_recency(&c, l1, c.cert_version == 4 ? DA_RECENCY_WINDOW : 0, err))) {
        mem_free(hex);
        return s;
    }
    hex_encode(hex, commitment, n);
    s = buf_printf(&u, err, "%s/get/0x%s%s", url, hex, mode == DA_STANDARD ? "?commitment_mode=standard" : "");
    if (!s && l1)
        s = buf_printf(&u, err, "%sl1_inclusion_block_number=%llu", mode == DA_STANDARD ? "&" : "?", (unsigned long long)l1);
    mem_free(hex);
    struct http_request q = {.url = (char *)u.data, .timeout_ms = 60000, .max_body = DA_PAYLOAD_MAX, .cancel = cancel};
    memset(&r, 0, sizeof r);
    if (!s)
        s = http_fetch_wait(h, &r, &q, err);
    buf_clear(&u);
    if (!s)
        s = proxy_status(&r, err);
    if (!s && !r.body.len) /* malformed commitments were once answered so (eigenda-proxy #282) */
        s = err_set(err, LOAM_EEMPTY, "EigenDA proxy: an empty payload");
    if (!s && c.kind == DA_KECCAK) {
        uint8_t k[32];
        keccak256(k, r.body.data, r.body.len);
        if (memcmp(k, c.keccak.b, 32))
            s = err_set(err, LOAM_EHASH, "EigenDA proxy: the payload does not hash to its commitment");
    }
    if (!s)
        s = buf_add(out, r.body.data, r.body.len, err);
    http_response_clear(&r);
    return s;
}
