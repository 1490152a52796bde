/* Signed heads: messages of the sequencer, from a feed. */
#include "net/chain_int.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

static enum loam_status keep_message(struct seen *s, const struct payload_message *m, uint64_t number, const struct hash32 *hash, struct err *err) {
    payload_message_clear(&s->m);
    s->number = number;
    s->hash = *hash;
    memcpy(s->m.sig, m->sig, 65);
    buf_init(&s->m.bytes, PAYLOAD_MAX);
    return buf_add(&s->m.bytes, m->bytes.data, m->bytes.len, err);
}

static enum loam_status add_message(struct buf *b, const struct payload_message *m, struct err *err) {
    uint8_t len[4];
    enum loam_status s;
    put_le32(len, (uint32_t)m->bytes.len);
    if ((s = buf_add(b, m->sig, 65, err)) || (s = buf_add(b, len, 4, err)))
        return s;
    return buf_add(b, m->bytes.data, m->bytes.len, err);
}

static size_t evidence_count(struct chain *c) {
    struct buf b = BUF_INIT(8);
    size_t n = 0;
    if (!c->store.get(c->store.ctx, &b, "evidence", NULL) && b.len == 8)
        n = (size_t)le64(b.data);
    buf_clear(&b);
    return n;
}
size_t chain_evidence_count(struct chain *c) {
    return evidence_count(c);
}
enum loam_status chain_evidence(struct chain *c, struct buf *out, size_t i, struct err *err) {
    char key[40];
    snprintf(key, sizeof key, "evidence/%zu", i);
    return c->store.get(c->store.ctx, out, key, err);
}

static void keep_evidence(struct chain *c, const struct payload_message *a, const struct payload_message *b) {
    struct buf out = BUF_INIT(2 * (PAYLOAD_MAX + 80));
    char key[40];
    uint8_t count[8];
    size_t n = evidence_count(c);
    if (n < CHAIN_EVIDENCE_MAX && !add_message(&out, a, NULL) && !add_message(&out, b, NULL)) {
        snprintf(key, sizeof key, "evidence/%zu", n);
        put_le64(count, n + 1);
        if (!c->store.put(c->store.ctx, key, out.data, out.len, NULL) && c->store.put(c->store.ctx, "evidence", count, 8, NULL))
            n = 0; /* the next one takes its place */
    }
    buf_clear(&out);
}

static enum loam_status take(struct chain *c, const struct payload_message *m, unsigned version, struct err *err) {
    struct payload p;
    struct header ours;
    const struct seen *other = NULL;
    unsigned at_height = 0;
    enum loam_status s = payload_verify(&p, m, version, c->cfg.chain_id, &c->cfg.rules, clock_unix_ms() / 1000, c->cfg.signers,
                                        c->cfg.signer_count, err);
    struct header h = p.h;
    payload_clear(&p);
    if (s)
        return s;
    for (size_t i = 0; i < CHAIN_SEEN; i++)
        if (c->seen[i].m.bytes.len && c->seen[i].number == h.number) {
            if (hash_eq(&c->seen[i].hash, &h.hash))
                return LOAM_OK; /* seen */
            other = &c->seen[i];
            at_height++;
        }
    if (other) {
        if (at_height < PAYLOAD_PER_HEIGHT)
            keep_evidence(c, &other->m, m);
        return err_set(err, LOAM_EEQUIVOCATION, "the sequencer signed two blocks of height %llu; both are kept", (unsigned long long)h.number);
    }
    s = c->store.by_number(c->store.ctx, &ours, h.number, NULL);
    if (!s && !hash_eq(&ours.hash, &h.hash)) {
        uv_mutex_lock(&c->lock);
        bool old = h.number <= c->signed_to;
        uv_mutex_unlock(&c->lock);
        return old ? err_set(err, LOAM_EREPLAY, "a signed message of block %llu that is not in the chain", (unsigned long long)h.number)
                   : err_set(err, LOAM_EDISAGREE, "block %llu: the sequencer signed another one than the RPCs have", (unsigned long long)h.number);
    }
    if (s && (s = chain_adopt(c, &h, err)))
        return s;
    if ((s = keep_message(&c->seen[c->seen_next++ % CHAIN_SEEN], m, h.number, &h.hash, err)))
        return s;
    uv_mutex_lock(&c->lock);
    bool news = h.number > c->signed_to;
    if (news)
        c->signed_to = h.number;
    uv_mutex_unlock(&c->lock);
    if (news) {
        chain_keep_known(c);
        chain_publish_tip(c);
    }
    return LOAM_OK;
}

void chain_signer_set(struct chain *c, const struct addr20 *signer) {
    uv_mutex_lock(&c->sync);
    bool known = c->cfg.signer_count && addr_eq(&c->cfg.signers[0], signer);
    if (!known) {
        c->cfg.signers[1] = c->cfg.signers[0];
        c->cfg.signer_count = c->cfg.signer_count ? 2 : 1;
        c->cfg.signers[0] = *signer;
    }
    uv_mutex_unlock(&c->sync);
}

enum loam_status chain_signed(struct chain *c, const struct payload_message *m, unsigned version, struct err *err) {
    uv_mutex_lock(&c->sync);
    enum loam_status s = take(c, m, version, err);
    uv_mutex_unlock(&c->sync);
    return s;
}

enum loam_status chain_feed_poll(struct chain *c, struct err *err) {
    struct http_response r;
    struct payload_message m;
    if (!c->cfg.feed)
        return err_set(err, LOAM_ENOTFOUND, "this chain has no feed");
    char *url = mem_printf("%s/latest", c->cfg.feed);
    if (!url)
        return err_set(err, LOAM_ENOMEM, "feed");
    struct http_request q = {.url = url, .timeout_ms = 10000, .max_body = 3 * PAYLOAD_MAX, .cancel = &c->cancel};
    enum loam_status s = http_fetch_wait(rpc_http(c->rpc), &r, &q, err);
    mem_free(url);
    if (!s)
        s = http_check(&r, err);
    if (!s && !r.body.len)
        s = err_set(err, LOAM_EEMPTY, "feed: an empty answer");
    json_t *o = s ? NULL : json_loadb((const char *)r.body.data, r.body.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    http_response_clear(&r);
    if (!s && !o)
        s = err_set(err, LOAM_EJSON, "feed: not JSON");
    if (!s) {
        s = payload_from_helios(&m, o, err);
        if (!s)
            s = chain_signed(c, &m, 0, err);
        payload_message_clear(&m);
    }
    json_decref(o);
    return s;
}
