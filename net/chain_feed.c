/* Signed heads: messages of the sequencer, from a feed. */
#include "net/chain_int.h"

#include "base/clock.h"
#include "base/entropy.h"
#include "base/mem.h"
#include "base/text.h"

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


/* ---- feeds ---- */

#define FEED_TIMEOUT_MS 10000
#define FEED_REST_MAX_MS 60000

/* V1 and V2 carry no root in front, so their form cannot be told from the bytes alone: by the fork schedule. 0: V3 or V4. */
static unsigned version_now(const struct chain *c) {
    const struct fork_times *f = &c->cfg.rules.forks;
    uint64_t now = clock_unix_ms() / 1000;
    if (f->canyon == FORK_UNKNOWN || now >= f->ecotone)
        return 0;
    return now >= f->canyon ? 2 : 1;
}

static enum loam_status ask_feed(struct chain *c, size_t i, uint64_t *bytes, uint64_t *wall_us, struct err *err) {
    struct http_response r;
    struct payload_message m;
    char *url = mem_printf("%s/latest", c->cfg.feeds[i]);
    if (!url)
        return err_set(err, LOAM_ENOMEM, "feed");
    struct http_request q = {.url = url, .timeout_ms = FEED_TIMEOUT_MS, .max_body = 3 * PAYLOAD_MAX, .cancel = &c->cancel};
    enum loam_status s = http_fetch_wait(rpc_http(c->rpc), &r, &q, err);
    mem_free(url);
    *bytes = r.body.len;
    *wall_us = r.wall_us;
    if (!s)
        s = http_check(&r, err);
    if (!s && !r.body.len)
        s = err_set(err, LOAM_EEMPTY, "feed: an empty answer");
    if (!s && !strncmp(r.content_type, "application/octet-stream", 24)) {
        s = payload_from_snappy(&m, r.body.data, r.body.len, err);
    } else if (!s) {
        json_t *o = json_loadb((const char *)r.body.data, r.body.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
        if (!o)
            s = err_set(err, LOAM_EJSON, "feed: not JSON");
        else
            s = payload_from_helios(&m, o, err);
        json_decref(o);
        if (s == LOAM_EJSON && !o) {
            http_response_clear(&r);
            return s;
        }
    } else {
        http_response_clear(&r);
        return s;
    }
    http_response_clear(&r);
    if (!s)
        s = chain_signed(c, &m, version_now(c), err);
    payload_message_clear(&m);
    return s;
}

/* What it said costs or earns it: as with RPCs. An equivocation is the sequencer's, and a disagreement may be the RPCs'. */
static enum loam_status feed_once(struct chain *c, size_t i, struct err *err) {
    struct feed *f = &c->feed[i];
    uint64_t bytes = 0, wall = 0;
    struct err e;
    err_clear(&e);
    enum loam_status s = ask_feed(c, i, &bytes, &wall, &e);
    bool lie = chain_is_lie(s) && s != LOAM_EEQUIVOCATION && s != LOAM_EDISAGREE && s != LOAM_ENULL;
    uv_mutex_lock(&c->lock);
    f->h.calls++;
    f->h.bytes_in += bytes;
    if (!s) {
        f->run = 0;
        f->rest_until_us = 0;
        f->h.score += f->h.score < 100;
        f->h.latency_us = f->h.latency_us ? (7 * f->h.latency_us + wall) / 8 : wall;
    } else if (s != LOAM_ECANCEL && s != LOAM_EEQUIVOCATION && s != LOAM_EDISAGREE) {
        uint64_t ms = 500;
        uint8_t j = 128;
        if (lie)
            f->h.lies++;
        else
            f->h.faults++;
        f->h.score = lie ? f->h.score / 2 : f->h.score > 10 ? f->h.score - 10 : f->h.score / 2;
        text_clean_cut(f->h.last_error, sizeof f->h.last_error, e.text, strlen(e.text));
        for (unsigned k = 0; k < f->run && ms < FEED_REST_MAX_MS; k++)
            ms *= 2;
        f->run++;
        if (entropy_fill(&j, 1, NULL))
            j = 128;
        ms = ms < FEED_REST_MAX_MS ? ms : FEED_REST_MAX_MS;
        f->rest_until_us = clock_mono_us() + 1000 * (ms / 2 + ms * j / 256);
    }
    uv_mutex_unlock(&c->lock);
    if (s && err)
        *err = e;
    return s;
}

enum loam_status chain_feed_poll(struct chain *c, struct err *err) {
    enum loam_status s = err_set(err, LOAM_ENOTFOUND, "this chain has no feed"), good = LOAM_ENOTFOUND;
    struct err e;
    for (size_t i = 0; i < c->cfg.feed_count; i++) {
        s = feed_once(c, i, &e);
        if (!s)
            good = LOAM_OK;
        else if (err)
            *err = e;
    }
    return good ? s : LOAM_OK;
}

bool chain_feed_health(struct rpc_health *out, struct chain *c, size_t i) {
    struct url u;
    if (i >= c->cfg.feed_count)
        return false;
    uint64_t now = clock_mono_us();
    uv_mutex_lock(&c->lock);
    *out = c->feed[i].h;
    out->rest_ms = c->feed[i].rest_until_us > now ? (c->feed[i].rest_until_us - now) / 1000 : 0;
    uv_mutex_unlock(&c->lock);
    if (!url_parse(&u, c->cfg.feeds[i], NULL))
        snprintf(out->url, sizeof out->url, "%s://%.200s:%u", u.tls ? "https" : "http", u.host, u.port);
    return true;
}

static void feed_run(void *arg) {
    struct feed *f = arg;
    struct chain *c = f->c;
    size_t i = (size_t)(f - c->feed);
    while (!atomic_load(&c->stop)) {
        struct err e;
        enum loam_status s = feed_once(c, i, &e);
        if (s && s != LOAM_ECANCEL && c->ev.fault)
            c->ev.fault(c->ev.arg, s, &e);
        uint64_t until = clock_mono_us() + 1000 * c->cfg.poll_ms;
        uv_mutex_lock(&c->lock);
        if (f->rest_until_us > until)
            until = f->rest_until_us;
        while (!atomic_load(&c->stop) && clock_mono_us() < until)
            uv_cond_timedwait(&c->cond, &c->lock, 1000 * (until - clock_mono_us() + 1));
        uv_mutex_unlock(&c->lock);
    }
}

enum loam_status chain_feeds_start(struct chain *c, struct err *err) {
    for (size_t i = 0; i < c->cfg.feed_count; i++) {
        if (uv_thread_create(&c->feed[i].thread, feed_run, &c->feed[i]))
            return err_set(err, LOAM_ENOMEM, "a feed's thread");
        c->feed[i].running = true;
    }
    return LOAM_OK;
}

void chain_feeds_join(struct chain *c) {
    for (size_t i = 0; i < CHAIN_FEEDS_MAX; i++)
        if (c->feed[i].running) {
            uv_thread_join(&c->feed[i].thread);
            c->feed[i].running = false;
        }
}
