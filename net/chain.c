#include "net/chain_int.h"

#include "base/clock.h"
#include "base/mem.h"
#include "net/hexjson.h"

#include <string.h>

#include "base/banned.h"

#define MISSING_ROUNDS 2      /* the RPCs deny our tip that often before it is given up */
#define SYNC_RETRY_MAX_MS 30000
#define REORG_BRANCH_MAX 4096 /* headers of a new branch held at once, all verified before the old one is dropped */

const char *known_word(enum known k) {
    static const char *const words[] = {"not known", "agreed", "linked", "anchored (proposed)", "anchored (resolved)", "signed"};
    return words[k <= KNOWN_SIGNED ? k : 0];
}

bool chain_is_lie(enum loam_status s) {
    switch (s) {
    case LOAM_OK:
    case LOAM_ENOMEM:
    case LOAM_ECANCEL:
    case LOAM_ETIMEOUT:
    case LOAM_ENET:
    case LOAM_ESTATUS:
    case LOAM_ERATE:
    case LOAM_ECUT:
    case LOAM_ERPC:
    case LOAM_EREVERT:
    case LOAM_EUNAVAILABLE:
    case LOAM_ENOTFOUND:
    case LOAM_EREORG:
    case LOAM_EIO:
    case LOAM_ENOSPACE:
    case LOAM_EINVAL:
    case LOAM_ESTATE:
    case LOAM_EHTTP:
    case LOAM_ECERT:
    case LOAM_ETLS: return false;
    default: return true;
    }
}

enum loam_status chain_ask(struct chain *c, json_t **out, const char *method, json_t *params, int endpoint, int *used, struct err *err) {
    struct rpc_opts o = {.endpoint = endpoint, .used = used, .cancel = &c->cancel};
    if (used)
        *used = endpoint;
    return rpc_call_wait(c->rpc, out, method, params, &o, err);
}

enum loam_status chain_fetch_header(struct chain *c, struct header *out, uint64_t number, int endpoint, int *used, struct err *err) {
    json_t *r, *p = json_array();
    enum loam_status s;
    json_array_append_new(p, number == UINT64_MAX ? json_string("latest") : hj_new_u64(number));
    json_array_append_new(p, json_false());
    if ((s = chain_ask(c, &r, "eth_getBlockByNumber", p, endpoint, used, err)))
        return s;
    if (json_is_null(r))
        s = err_set(err, LOAM_ENULL, "block %llu: null", (unsigned long long)number);
    else
        s = header_from_json(out, r, err);
    json_decref(r);
    if (!s && number != UINT64_MAX && out->number != number)
        s = err_set(err, LOAM_EWRONGBLOCK, "asked for block %llu, got %llu", (unsigned long long)number, (unsigned long long)out->number);
    if (!s)
        s = header_check(out, &c->cfg.rules, err);
    return s;
}

/* ---- life ---- */

static bool stopping(void *arg) {
    struct chain *c = arg;
    return atomic_load(&c->stop);
}

enum loam_status chain_new(struct chain **out, const struct chain_config *cfg, struct rpc *rpc, const struct chain_store *store,
                           const struct chain_events *ev, struct err *err) {
    struct chain *c = mem_zalloc(sizeof *c);
    struct buf b = BUF_INIT(64);
    enum loam_status s = LOAM_OK;
    if (!c)
        return err_set(err, LOAM_ENOMEM, "light client");
    c->cfg = *cfg;
    c->rpc = rpc;
    c->cancel = (struct http_cancel){stopping, c};
    c->store = *store;
    if (ev)
        c->ev = *ev;
    if (!c->cfg.agree_k)
        c->cfg.agree_k = 1;
    if (!c->cfg.poll_ms)
        c->cfg.poll_ms = 1000;
    if (uv_mutex_init(&c->sync) || uv_mutex_init(&c->lock) || uv_cond_init(&c->cond))
        loam_abort(__FILE__, __LINE__, "mutex");
    if (c->cfg.agree_k > rpc_count(rpc))
        s = err_set(err, LOAM_EINVAL, "%u RPCs must agree and only %zu are configured", c->cfg.agree_k, rpc_count(rpc));
    c->codes = mem_zarray(cfg->code_count + 1, sizeof *c->codes);
    if (!s && !c->codes)
        s = err_set(err, LOAM_ENOMEM, "light client");
    for (size_t i = 0; i < CHAIN_FEEDS_MAX; i++) {
        c->feed[i].c = c;
        c->feed[i].h.score = 100;
    }
    c->cfg.codes = c->codes;
    c->cfg.code_count = 0;
    for (size_t i = 0; i < cfg->code_count && !s; i++) {
        c->codes[i] = cfg->codes[i];
        if (!(c->codes[i].name = mem_strdup(cfg->codes[i].name)))
            s = err_set(err, LOAM_ENOMEM, "light client");
        else
            c->cfg.code_count++;
    }
    /* What an earlier run of this data folder knew. */
    if (!s && !c->cfg.has_genesis) {
        enum loam_status g = c->store.get(c->store.ctx, &b, "genesis", NULL);
        if (!g && b.len == 32) {
            memcpy(c->cfg.genesis.b, b.data, 32);
            c->cfg.has_genesis = true;
        }
    }
    buf_reset(&b);
    if (!s && !c->store.get(c->store.ctx, &b, "known", NULL) && b.len == 24) {
        c->signed_to = le64(b.data);
        c->proposed_to = le64(b.data + 8);
        c->resolved_to = le64(b.data + 16);
    }
    buf_clear(&b);
    if (s) {
        chain_free(c);
        return s;
    }
    *out = c;
    return LOAM_OK;
}

void chain_free(struct chain *c) {
    if (!c)
        return;
    chain_stop(c);
    chain_cache_clear(c);
    for (size_t i = 0; i < CHAIN_SEEN; i++)
        payload_message_clear(&c->seen[i].m);
    for (size_t i = 0; i < c->cfg.code_count; i++) {
        union {
            const char *in;
            void *out;
        } u = {.in = c->codes[i].name};
        mem_free(u.out);
    }
    mem_free(c->codes);
    uv_mutex_destroy(&c->sync);
    uv_mutex_destroy(&c->lock);
    uv_cond_destroy(&c->cond);
    mem_free(c);
}

uint64_t chain_network(const struct chain *c) {
    return c->cfg.chain_id;
}
struct rpc *chain_endpoints(struct chain *c) {
    return c->rpc;
}

/* ---- heads ---- */

struct vote {
    bool ok;
    struct header h; /* at the target height */
};

/* Asks every endpoint for its head; *out is the block that at least k of them name at the highest height k of them reach. */
static enum loam_status agree(struct chain *c, struct header *out, unsigned *votes, unsigned *asked, int *source, struct err *err) {
    size_t n = rpc_count(c->rpc);
    struct vote v[RPC_ENDPOINTS_MAX];
    uint64_t heights[RPC_ENDPOINTS_MAX];
    size_t got = 0;
    enum loam_status s = LOAM_ENET, last = LOAM_ENET;
    struct err e;
    memset(v, 0, sizeof v);
    for (size_t i = 0; i < n; i++) {
        struct rpc_health hl;
        rpc_health(&hl, c->rpc, i);
        if (n > c->cfg.agree_k && hl.rest_ms && got + (n - i - 1) >= c->cfg.agree_k)
            continue; /* resting, and there are others enough */
        if ((s = chain_fetch_header(c, &v[i].h, UINT64_MAX, (int)i, NULL, &e))) {
            if (chain_is_lie(s)) {
                rpc_blame(c->rpc, (int)i, s, &e);
                if (c->ev.fault)
                    c->ev.fault(c->ev.arg, s, &e);
            }
            last = s;
            if (err)
                *err = e;
            continue;
        }
        v[i].ok = true;
        heights[got++] = v[i].h.number;
    }
    *asked = (unsigned)n;
    if (got < c->cfg.agree_k)
        return got || n > 1 ? err_prefix(err, last, "only %zu of the %u RPCs needed answered", got, c->cfg.agree_k) : last;
    /* The k-th highest height. */
    for (size_t i = 1; i < got; i++)
        for (size_t j = i; j && heights[j] > heights[j - 1]; j--) {
            uint64_t t = heights[j];
            heights[j] = heights[j - 1];
            heights[j - 1] = t;
        }
    uint64_t target = heights[c->cfg.agree_k - 1];
    size_t best = 0;
    unsigned best_n = 0;
    for (size_t i = 0; i < n; i++) {
        if (!v[i].ok || v[i].h.number < target) {
            v[i].ok = false;
            continue;
        }
        if (v[i].h.number > target && (s = chain_fetch_header(c, &v[i].h, target, (int)i, NULL, &e))) {
            v[i].ok = false;
            if (chain_is_lie(s))
                rpc_blame(c->rpc, (int)i, s, &e);
        }
    }
    for (size_t i = 0; i < n; i++) {
        unsigned same = 0;
        for (size_t j = 0; v[i].ok && j < n; j++)
            same += v[j].ok && hash_eq(&v[i].h.hash, &v[j].h.hash);
        if (same > best_n) {
            best_n = same;
            best = i;
        }
    }
    if (best_n < c->cfg.agree_k)
        return err_set(err, LOAM_EDISAGREE, "block %llu: at most %u of %zu RPCs name the same one, %u must", (unsigned long long)target, best_n, n,
                       c->cfg.agree_k);
    *out = v[best].h;
    *votes = best_n;
    *source = (int)best;
    return LOAM_OK;
}

/* The chain must begin where the configuration says. */
static enum loam_status first_block(struct chain *c, const struct header *head, int source, struct err *err) {
    struct header h;
    if (c->cfg.from_head && !c->cfg.has_anchor)
        return c->store.apply(c->store.ctx, head->number, head, 1, err);
    uint64_t number = c->cfg.has_anchor ? c->cfg.anchor_number : 0;
    enum loam_status s = chain_fetch_header(c, &h, number, source, NULL, err);
    if (s)
        return s;
    if (c->cfg.has_anchor && !hash_eq(&h.hash, &c->cfg.anchor_hash))
        return err_set(err, LOAM_EGENESIS, "block %llu is not the configured anchor", (unsigned long long)number);
    if (!number) {
        if (c->cfg.has_genesis && !hash_eq(&h.hash, &c->cfg.genesis)) {
            char a[HASH_HEX_MAX], b[HASH_HEX_MAX];
            return err_set(err, LOAM_EGENESIS, "genesis is %s, this chain's is %s", hash_hex(a, &h.hash), hash_hex(b, &c->cfg.genesis));
        }
        if (!c->cfg.has_genesis) {
            if ((s = c->store.put(c->store.ctx, "genesis", h.hash.b, 32, err)))
                return s;
            c->cfg.genesis = h.hash;
            c->cfg.has_genesis = true;
        }
    }
    return c->store.apply(c->store.ctx, number, &h, 1, err);
}

static void fill_known(struct chain *c, uint64_t number, enum known *how, enum known *link_to);

static void publish(struct chain *c, const struct header *h, unsigned votes, unsigned asked, uint64_t target) {
    struct chain_head copy;
    uint64_t now = clock_unix_ms() / 1000;
    uv_mutex_lock(&c->lock);
    struct chain_head *d = &c->head;
    d->h = *h;
    d->agree_k = votes;
    d->agree_n = asked;
    d->lag_s = now > h->timestamp ? now - h->timestamp : 0;
    d->stale = c->cfg.stale_s && d->lag_s > c->cfg.stale_s;
    d->following = h->number >= target;
    d->target = target;
    d->anchored = c->proposed_to > c->resolved_to ? c->proposed_to : c->resolved_to;
    d->signed_to = c->signed_to;
    d->proposed = c->proposed_to;
    d->resolved = c->resolved_to;
    fill_known(c, h->number, &d->how, &d->link_to);
    c->has_head = true;
    copy = *d;
    uv_cond_broadcast(&c->cond);
    uv_mutex_unlock(&c->lock);
    if (c->ev.head)
        c->ev.head(c->ev.arg, &copy);
}

/* Under c->lock. */
static void fill_known(struct chain *c, uint64_t number, enum known *how, enum known *link_to) {
    *link_to = KNOWN_NOT;
    if (number && number == c->signed_to)
        *how = KNOWN_SIGNED;
    else if (number && number == c->resolved_to)
        *how = KNOWN_RESOLVED;
    else if (number && number == c->proposed_to)
        *how = KNOWN_PROPOSED;
    else if (number < c->signed_to || number < c->resolved_to || number < c->proposed_to) {
        *how = KNOWN_LINKED;
        *link_to = number < c->resolved_to ? KNOWN_RESOLVED : number < c->signed_to ? KNOWN_SIGNED : KNOWN_PROPOSED;
    } else {
        *how = KNOWN_AGREED; /* what stands above every stronger word is known by agreement of the RPCs only */
    }
}

void chain_known(struct chain *c, uint64_t number, enum known *how, enum known *link_to) {
    uv_mutex_lock(&c->lock);
    fill_known(c, number, how, link_to);
    uv_mutex_unlock(&c->lock);
}

/* ---- linking ---- */

/* Headers first … first + n - 1 in one batch, each checked by itself. Where batches are not taken, and this once where the server fails at one: one
 * by one. */
static enum loam_status fetch_many(struct chain *c, struct header *out, uint64_t first, size_t n, int source, struct err *err) {
    json_t *params[CHAIN_FETCH_BATCH], *results[CHAIN_FETCH_BATCH];
    struct rpc_opts o = {.endpoint = source, .cancel = &c->cancel};
    enum loam_status s = LOAM_EUNSUPPORTED;
    if (n > 1) {
        for (size_t i = 0; i < n; i++) {
            params[i] = json_array();
            json_array_append_new(params[i], hj_new_u64(first + i));
            json_array_append_new(params[i], json_false());
        }
        s = rpc_batch_wait(c->rpc, results, "eth_getBlockByNumber", params, n, &o, err);
        for (size_t i = 0; !s && i < n; i++) {
            if (json_is_null(results[i]))
                s = err_set(err, LOAM_ENULL, "block %llu: null", (unsigned long long)(first + i));
            else if (!(s = header_from_json(&out[i], results[i], err)) && out[i].number != first + i)
                s = err_set(err, LOAM_EWRONGBLOCK, "asked for block %llu, got %llu", (unsigned long long)(first + i), (unsigned long long)out[i].number);
            else if (!s)
                s = header_check(&out[i], &c->cfg.rules, err);
            if (s)
                while (i < n)
                    json_decref(results[i++]);
            else
                json_decref(results[i]);
        }
    }
    if (s == LOAM_EUNSUPPORTED || s == LOAM_ESTATUS) {
        s = LOAM_OK;
        for (size_t i = 0; i < n && !s; i++)
            s = chain_fetch_header(c, &out[i], first + i, source, NULL, err);
    }
    return s;
}

/* Fetches and checks number after prev. */
static enum loam_status next_header(struct chain *c, struct header *out, const struct header *prev, int source, struct err *err) {
    enum loam_status s = chain_fetch_header(c, out, prev->number + 1, source, NULL, err);
    return s ? s : header_follows(out, prev, &c->cfg.rules, err);
}

/* The RPC's chain and ours part somewhere below: find where, verify the new branch, then undo and switch. */
static enum loam_status reorg(struct chain *c, const struct header *tip, const struct header *head, int source, struct err *err) {
    struct header ours, theirs, prev;
    uint64_t n = tip->number < head->number ? tip->number : head->number;
    enum loam_status s;
    bool child_known = false;
    for (uint64_t steps = 0;; steps++) {
        if (steps > CHAIN_REORG_MAX)
            return err_set(err, LOAM_EREORG, "no common block within %u", CHAIN_REORG_MAX);
        s = c->store.by_number(c->store.ctx, &ours, n, err);
        if (s == LOAM_ENOTFOUND)
            return err_set(err, LOAM_EGENESIS, "the RPC's chain shares no block with ours, not even the first: another chain, or begun anew "
                                               "(a development chain that was reset needs a new data folder)");
        if (s || (s = chain_fetch_header(c, &theirs, n, source, NULL, err)))
            return s;
        if (child_known && !hash_eq(&prev.parent, &theirs.hash))
            return err_set(err, LOAM_ELINK, "walking back: block %llu is not the parent of %llu", (unsigned long long)n, (unsigned long long)n + 1);
        if (hash_eq(&ours.hash, &theirs.hash))
            break;
        prev = theirs;
        child_known = true;
        if (!n)
            return err_set(err, LOAM_EGENESIS, "the RPC's genesis is another one");
        n--;
    }
    uint64_t want = head->number - n;
    size_t count = want < REORG_BRANCH_MAX ? (size_t)want : REORG_BRANCH_MAX;
    struct header *branch = mem_array(count + 1, sizeof *branch);
    if (!branch)
        return err_set(err, LOAM_ENOMEM, "new branch of %zu headers", count);
    const struct header *before = &ours;
    for (size_t i = 0; i < count; i++) {
        if ((s = next_header(c, &branch[i], before, source, err)))
            goto done;
        before = &branch[i];
    }
    if (count == want && count && !hash_eq(&branch[count - 1].hash, &head->hash)) {
        s = err_set(err, LOAM_ELINK, "the new branch does not lead to the head");
        goto done;
    }
    struct chain_reorg r = {
        .common = n, .old_tip = tip->number, .new_tip = head->number, .old_hash = tip->hash, .new_hash = head->hash, .at_unix_ms = clock_unix_ms()};
    if (c->ev.reorg && (s = c->ev.reorg(c->ev.arg, &r, err)))
        goto done;
    if ((s = c->store.apply(c->store.ctx, n + 1, branch, count, err)))
        goto done;
    uv_mutex_lock(&c->lock);
    c->head.reorgs++;
    /* Words above the common block rested on lost blocks. */
    if (c->signed_to > n)
        c->signed_to = n;
    if (c->proposed_to > n)
        c->proposed_to = 0;
    if (c->resolved_to > n)
        c->resolved_to = 0;
    uv_mutex_unlock(&c->lock);
    chain_cache_clear(c);
done:
    mem_free(branch);
    return s;
}

/* Brings the store to head, which source names. */
static enum loam_status link_to(struct chain *c, const struct header *head, int source, unsigned votes, unsigned asked, struct err *err) {
    struct header tip, ours;
    enum loam_status s = c->store.tip(c->store.ctx, &tip, err);
    if (s == LOAM_ENOTFOUND) {
        if ((s = first_block(c, head, source, err)))
            return s;
        s = c->store.tip(c->store.ctx, &tip, err);
    }
    if (s)
        return s;
    if (head->number <= tip.number) {
        s = c->store.by_number(c->store.ctx, &ours, head->number, err);
        if (s && s != LOAM_ENOTFOUND)
            return s;
        if (!s && hash_eq(&ours.hash, &head->hash)) {
            if (head->number == tip.number) {
                c->missing = 0;
                publish(c, &tip, votes, asked, head->number);
                return LOAM_OK;
            }
            /* Behind us on our own chain: an RPC that lags, or a chain that lost its last blocks (anvil after a kill). Only if
             * it denies our tip, and more than once, is the tip given up. */
            json_t *r, *p = json_array();
            json_array_append_new(p, hj_new_bytes(tip.hash.b, 32));
            json_array_append_new(p, json_false());
            if ((s = chain_ask(c, &r, "eth_getBlockByHash", p, source, NULL, err)))
                return s;
            bool gone = json_is_null(r);
            json_decref(r);
            if (!gone || ++c->missing < MISSING_ROUNDS) {
                publish(c, &tip, votes, asked, tip.number);
                return LOAM_OK;
            }
        }
        c->missing = 0;
        if ((s = reorg(c, &tip, head, source, err)))
            return s;
        if ((s = c->store.tip(c->store.ctx, &tip, err)))
            return s;
        publish(c, &tip, votes, asked, head->number);
        return LOAM_OK;
    }
    c->missing = 0;
    while (tip.number < head->number) {
        static const size_t room = CHAIN_FETCH_BATCH;
        struct header batch[CHAIN_FETCH_BATCH];
        size_t n = 0;
        const struct header *prev = &tip;
        uint64_t ahead = head->number - tip.number;
        size_t want = ahead < room ? (size_t)ahead : room;
        /* The head itself is held already. */
        s = fetch_many(c, batch, tip.number + 1, want - (want == ahead), source, err);
        if (s)
            return s;
        if (want == ahead)
            batch[want - 1] = *head;
        while (n < want) {
            s = header_follows(&batch[n], prev, &c->cfg.rules, err);
            if (s == LOAM_ELINK && !n) {
                /* Our tip may have been replaced: ask for what stands at its height now. */
                struct header there;
                struct err e;
                enum loam_status t = chain_fetch_header(c, &there, tip.number, source, NULL, &e);
                if (!t && !hash_eq(&there.hash, &tip.hash)) {
                    if ((s = reorg(c, &tip, head, source, err)))
                        return s;
                    if ((s = c->store.tip(c->store.ctx, &tip, err)))
                        return s;
                    n = SIZE_MAX;
                    break;
                }
            }
            if (s)
                return s;
            prev = &batch[n++];
        }
        if (n == SIZE_MAX) {
            publish(c, &tip, votes, asked, head->number);
            continue;
        }
        if ((s = c->store.apply(c->store.ctx, tip.number + 1, batch, n, err)))
            return s;
        tip = batch[n - 1];
        if (atomic_load(&c->stop))
            return err_set(err, LOAM_ECANCEL, "the light client is stopping");
        publish(c, &tip, votes, asked, head->number);
    }
    return LOAM_OK;
}

enum loam_status chain_adopt(struct chain *c, const struct header *h, struct err *err) {
    unsigned k, n;
    int source = 0;
    uv_mutex_lock(&c->lock);
    k = c->head.agree_k;
    n = c->head.agree_n;
    uv_mutex_unlock(&c->lock);
    return link_to(c, h, source, k, n, err);
}

void chain_publish_tip(struct chain *c) {
    struct header tip;
    uv_mutex_lock(&c->lock);
    unsigned k = c->head.agree_k, n = c->head.agree_n;
    uv_mutex_unlock(&c->lock);
    if (!c->store.tip(c->store.ctx, &tip, NULL))
        publish(c, &tip, k, n, tip.number);
}

void chain_keep_known(struct chain *c) {
    uint8_t b[24];
    uv_mutex_lock(&c->lock);
    put_le64(b, c->signed_to);
    put_le64(b + 8, c->proposed_to);
    put_le64(b + 16, c->resolved_to);
    uv_mutex_unlock(&c->lock);
    if (c->store.put(c->store.ctx, "known", b, sizeof b, NULL))
        return; /* found out again after a restart */
}

enum loam_status chain_sync(struct chain *c, struct err *err) {
    struct header head;
    unsigned votes = 0, asked = 0;
    int source = 0;
    enum loam_status s;
    uv_mutex_lock(&c->sync);
    if (!(s = agree(c, &head, &votes, &asked, &source, err))) {
        s = link_to(c, &head, source, votes, asked, err);
        if (chain_is_lie(s))
            rpc_blame(c->rpc, source, s, err);
    }
    if (!s) {
        uv_mutex_lock(&c->lock);
        if (c->head.stale)
            s = err_set(err, LOAM_ESTALE, "the head, block %llu, is %llu s old", (unsigned long long)c->head.h.number,
                        (unsigned long long)c->head.lag_s);
        uv_mutex_unlock(&c->lock);
    }
    uv_mutex_unlock(&c->sync);
    return s;
}

static void follow(void *arg) {
    struct chain *c = arg;
    uint64_t wait = c->cfg.poll_ms;
    uv_mutex_lock(&c->lock);
    while (!c->stop) {
        struct err e;
        uv_mutex_unlock(&c->lock);
        enum loam_status s = chain_sync(c, &e);
        if (s && s != LOAM_ECANCEL && c->ev.fault)
            c->ev.fault(c->ev.arg, s, &e);
        wait = s && s != LOAM_ESTALE ? (2 * wait < SYNC_RETRY_MAX_MS ? 2 * wait : SYNC_RETRY_MAX_MS) : c->cfg.poll_ms;
        uv_mutex_lock(&c->lock);
        uint64_t until = clock_mono_us() + 1000 * wait;
        while (!c->stop && !c->poked && clock_mono_us() < until)
            uv_cond_timedwait(&c->cond, &c->lock, wait * 1000000u);
        c->poked = false;
    }
    uv_mutex_unlock(&c->lock);
}

enum loam_status chain_start(struct chain *c, struct err *err) {
    if (c->running)
        return LOAM_OK;
    atomic_store(&c->stop, false);
    int rc = uv_thread_create(&c->thread, follow, c);
    if (rc)
        return err_set(err, LOAM_ENOMEM, "light client's thread: %s", uv_strerror(rc));
    c->running = true;
    enum loam_status s = chain_feeds_start(c, err);
    if (s)
        chain_stop(c);
    return s;
}

void chain_poke(struct chain *c) {
    uv_mutex_lock(&c->lock);
    c->poked = true;
    uv_cond_broadcast(&c->cond);
    uv_mutex_unlock(&c->lock);
}

void chain_stop(struct chain *c) {
    if (!c->running)
        return;
    uv_mutex_lock(&c->lock);
    atomic_store(&c->stop, true);
    uv_cond_broadcast(&c->cond);
    uv_mutex_unlock(&c->lock);
    uv_thread_join(&c->thread);
    chain_feeds_join(c);
    c->running = false;
}

enum loam_status chain_head(struct chain *c, struct chain_head *out, struct err *err) {
    struct header tip;
    uv_mutex_lock(&c->lock);
    bool ok = c->has_head;
    if (ok)
        *out = c->head;
    uv_mutex_unlock(&c->lock);
    if (ok)
        return LOAM_OK;
    /* Before the first round: what the store holds from an earlier run. */
    enum loam_status s = c->store.tip(c->store.ctx, &tip, err);
    if (s)
        return s;
    memset(out, 0, sizeof *out);
    out->h = tip;
    out->target = tip.number;
    chain_known(c, tip.number, &out->how, &out->link_to);
    uint64_t now = clock_unix_ms() / 1000;
    out->lag_s = now > tip.timestamp ? now - tip.timestamp : 0;
    out->stale = c->cfg.stale_s && out->lag_s > c->cfg.stale_s;
    return LOAM_OK;
}

enum loam_status chain_wait(struct chain *c, uint64_t number, uint64_t timeout_ms, const struct http_cancel *cancel, struct err *err) {
    uint64_t until = clock_mono_us() + 1000 * timeout_ms;
    enum loam_status s = LOAM_OK;
    uv_mutex_lock(&c->lock);
    while (!c->has_head || c->head.h.number < number) {
        if (clock_mono_us() >= until) {
            s = err_set(err, LOAM_ETIMEOUT, "block %llu did not come within %llu ms", (unsigned long long)number, (unsigned long long)timeout_ms);
            break;
        }
        uv_cond_timedwait(&c->cond, &c->lock, 100000000u);
        if (cancel && cancel->cancelled(cancel->arg)) {
            s = err_set(err, LOAM_ECANCEL, "cancelled while waiting for block %llu", (unsigned long long)number);
            break;
        }
    }
    uv_mutex_unlock(&c->lock);
    return s;
}

enum loam_status chain_header(struct chain *c, struct header *out, uint64_t number, struct err *err) {
    return c->store.by_number(c->store.ctx, out, number, err);
}
enum loam_status chain_header_by_hash(struct chain *c, struct header *out, const struct hash32 *hash, struct err *err) {
    return c->store.by_hash(c->store.ctx, out, hash, err);
}

enum loam_status chain_at(struct chain *c, const struct header **out, struct header *tmp, const struct header *at, struct err *err) {
    struct chain_head h;
    if (at) {
        *out = at;
        return LOAM_OK;
    }
    enum loam_status s = chain_head(c, &h, err);
    if (s)
        return s;
    *tmp = h.h;
    *out = tmp;
    return LOAM_OK;
}

enum loam_status chain_check(struct chain *c, struct err *err) {
    size_t answered = 0;
    enum loam_status s = LOAM_ENET, last = LOAM_ENET;
    for (size_t i = 0; i < rpc_count(c->rpc); i++) {
        json_t *r;
        uint64_t id;
        struct header h;
        struct err e;
        if ((s = chain_ask(c, &r, "eth_chainId", NULL, (int)i, NULL, &e))) {
            last = s;
            if (err)
                *err = e;
            continue;
        }
        s = hj_str_u64(&id, r, "chain id", err);
        json_decref(r);
        if (s)
            return s;
        if (id != c->cfg.chain_id) {
            s = err_set(err, LOAM_ECHAIN, "RPC %zu serves chain %llu, this data folder is of chain %llu", i, (unsigned long long)id,
                        (unsigned long long)c->cfg.chain_id);
            rpc_blame(c->rpc, (int)i, s, err);
            return s;
        }
        if (c->cfg.has_genesis) {
            if ((s = chain_fetch_header(c, &h, 0, (int)i, NULL, err)))
                return s;
            if (!hash_eq(&h.hash, &c->cfg.genesis)) {
                s = err_set(err, LOAM_EGENESIS, "RPC %zu serves a chain with another genesis", i);
                rpc_blame(c->rpc, (int)i, s, err);
                return s;
            }
        }
        answered++;
    }
    if (!answered)
        return last;
    for (size_t i = 0; i < c->cfg.code_count; i++) {
        const struct chain_code *k = &c->codes[i];
        struct account a;
        char x[ADDR_HEX_MAX];
        if ((s = chain_account(c, &a, &k->addr, NULL, err)))
            return s == LOAM_ENOTFOUND ? LOAM_OK : s; /* no head yet: checked after the first round */
        if (!hash_eq(&a.code_hash, &k->code_hash))
            return err_set(err, LOAM_ECODE, "%s at %s does not have the code this data folder expects", k->name, addr_hex(x, &k->addr));
    }
    return LOAM_OK;
}
