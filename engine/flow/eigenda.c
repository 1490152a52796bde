#include "flow/eigenda.h"

#include "base/keccak.h"
#include "base/mem.h"
#include "flow/fetch.h"
#include "net/da.h"
#include "net/http.h"
#include "node/chain.h"
#include "node/job.h"
#include "store/blob.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define TRIES 3
#define PAUSE_MS 500 /* doubled at each try */
#define MARK "eigenda:"
#define ADDRESS_ROOM 300 /* of the locator, for the poster's address behind it */

static const char *const modes[] = {[DA_OP_GENERIC] = "generic", [DA_OP_KECCAK] = "keccak", [DA_STANDARD] = "standard"};

static bool cancelled(void *arg) { return job_cancelled(arg); }

/* false: none is configured. */
static bool proxy_of(struct flow *f, char url[OPTION_TEXT_MAX], enum da_mode *mode) {
    char m[OPTION_TEXT_MAX];
    option_str(f->node->opt, "da.proxy", url);
    option_str(f->node->opt, "da.mode", m);
    *mode = !strcmp(m, "keccak") ? DA_OP_KECCAK : !strcmp(m, "generic") ? DA_OP_GENERIC : DA_STANDARD;
    for (size_t n = strlen(url); n && url[n - 1] == '/';)
        url[--n] = 0;
    return *url;
}

static const char *unchecked(const struct da_commitment *c) {
    return c->kind == DA_KECCAK ? "keccak commitment verified" : "KZG and quorum not checked";
}

/* Goes away by itself, perhaps: worth another try. */
static bool passing(enum loam_status s) {
    return s == LOAM_ERATE || s == LOAM_ESTATUS || s == LOAM_ENET || s == LOAM_ETIMEOUT || s == LOAM_ECUT || s == LOAM_EEMPTY;
}

static enum loam_status get(struct flow *f, struct buf *out, const char *url, enum da_mode mode, const uint8_t *c, size_t n, const struct hash32 *want,
                            struct err *err) {
    struct http_cancel cancel = {cancelled, f->job};
    uint8_t k[32];
    enum loam_status s = LOAM_OK;
    for (unsigned i = 0; i < TRIES; i++) {
        buf_reset(out);
        s = da_get(node_http(f->node), out, url, mode, c, n, 0, f->job ? &cancel : NULL, err);
        if (!passing(s) || i + 1 == TRIES)
            break;
        if ((s = flow_sleep(f, PAUSE_MS << i, err)))
            return s;
    }
    if (s)
        return s;
    keccak256(k, out->data, out->len);
    return memcmp(k, want->b, 32) ? err_set(err, LOAM_EHASH, "EigenDA gave %zu bytes that are not the batch's", out->len) : LOAM_OK;
}

enum loam_status eigenda_publish(struct flow *f, char locator[LOCATOR_MAX], const struct hash32 *blob, struct err *err) {
    char url[OPTION_TEXT_MAX];
    enum da_mode mode;
    struct buf data = BUF_INIT(DA_PAYLOAD_MAX), back = BUF_INIT(DA_PAYLOAD_MAX), c = BUF_INIT(DA_COMMITMENT_MAX);
    struct http_cancel cancel = {cancelled, f->job};
    struct da_commitment parsed;
    struct err e;
    *locator = 0;
    if (!proxy_of(f, url, &mode))
        return LOAM_OK;
    if (!node_http(f->node))
        return err_set(err, LOAM_ESTATE, "no chain is configured; run: chain use URL");
    enum loam_status s = blob_get(f->node->blobs, blob, &data, err);
    if (s == LOAM_ELIMIT) {
        flow_note(f, "the batch is larger than the %u bytes that EigenDA takes: this node serves it", DA_PAYLOAD_MAX);
        s = LOAM_OK;
        goto out;
    }
    if (s)
        goto out;
    for (unsigned i = 0; i < TRIES; i++) {
        buf_reset(&c);
        s = da_put(node_http(f->node), &c, url, mode, data.data, data.len, f->job ? &cancel : NULL, &e);
        if (!passing(s) || i + 1 == TRIES)
            break;
        if ((s = flow_sleep(f, PAUSE_MS << i, err)))
            goto out;
    }
    if (!s)
        s = get(f, &back, url, mode, c.data, c.len, blob, &e);
    if (!s)
        s = da_commitment_parse(&parsed, c.data, c.len, mode == DA_STANDARD, &e);
    if (!s && strlen(MARK) + strlen(modes[mode]) + 3 + 2 * c.len + ADDRESS_ROOM > LOCATOR_MAX)
        s = err_set(&e, LOAM_ELIMIT, "a commitment of %zu bytes, the statement has room for %d", c.len, (LOCATOR_MAX - ADDRESS_ROOM - 32) / 2);
    if (s == LOAM_ECOMMITMENT || s == LOAM_EDISABLED || s == LOAM_ECANCEL || s == LOAM_ENOMEM) {
        if (err)
            *err = e;
        goto out;
    }
    if (s) { /* 503: fail over; 418, 429, 500, other bytes, no answer: not through EigenDA this time */
        flow_note(f, "not published through EigenDA (%s): this node serves the batch", e.text);
        s = LOAM_OK;
        goto out;
    }
    size_t at = (size_t)snprintf(locator, LOCATOR_MAX, MARK "%s:0x", modes[mode]);
    hex_encode(locator + at, c.data, c.len);
    locator[at + 2 * c.len] = ' ';
    locator[at + 2 * c.len + 1] = 0;
    flow_note(f, "published through EigenDA, %zu bytes: retrieved, hash matched; %s", data.len, unchecked(&parsed));
out:
    buf_clear(&data);
    buf_clear(&back);
    buf_clear(&c);
    return s;
}

enum loam_status eigenda_fetch(struct flow *f, const char *locator, const struct hash32 *blob, struct err *err) {
    const char *p = locator ? strstr(locator, MARK) : NULL;
    char url[OPTION_TEXT_MAX];
    enum da_mode mode;
    struct buf c = BUF_INIT(DA_COMMITMENT_MAX), data = BUF_INIT(DA_PAYLOAD_MAX);
    struct da_commitment parsed;
    struct hash32 got;
    if (blob_has(f->node->blobs, blob))
        return LOAM_OK;
    if (!p || !proxy_of(f, url, &mode))
        return err_set(err, LOAM_ENOTFOUND, p ? "the batch is in EigenDA; name a proxy: set da.proxy http://HOST:PORT" : "the batch is not in EigenDA");
    if (!node_http(f->node))
        return err_set(err, LOAM_ESTATE, "no chain is configured; run: chain use URL");
    p += strlen(MARK);
    enum loam_status s = LOAM_ECOMMITMENT;
    for (size_t m = 0; m < sizeof modes / sizeof *modes && s; m++) {
        size_t n = strlen(modes[m]);
        if (strncmp(p, modes[m], n) == 0 && p[n] == ':') {
            mode = (enum da_mode)m;
            p += n + 1;
            s = LOAM_OK;
            break;
        }
    }
    size_t n = strcspn(p, " ");
    s = s ? err_set(err, s, "the batch's locator names no mode of EigenDA's that is known") : hex_decode_buf(&c, p, n, err);
    if (!s)
        s = da_commitment_parse(&parsed, c.data, c.len, mode == DA_STANDARD, err);
    if (!s)
        s = get(f, &data, url, mode, c.data, c.len, blob, err);
    if (!s && !(s = blob_put(f->node->blobs, &got, data.data, data.len, err)))
        flow_note(f, "batch data from EigenDA: retrieved, hash matched; %s", unchecked(&parsed));
    buf_clear(&c);
    buf_clear(&data);
    return s;
}

enum loam_status fetch_located(struct flow *f, const char *peer, const char *locator, const struct hash32 *blob, struct err *err) {
    struct err e;
    enum loam_status s = eigenda_fetch(f, locator, blob, &e);
    if (!s)
        return s;
    if (s == LOAM_ECANCEL || (s != LOAM_ENOTFOUND && !peer)) {
        if (err)
            *err = e;
        return s;
    }
    if (s != LOAM_ENOTFOUND || (locator && strstr(locator, MARK) && !peer))
        flow_note(f, "%s", e.text);
    return fetch_blob(f, peer, blob, err);
}
