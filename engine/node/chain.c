#include "node/chain.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/anchor.h"
#include "net/chain.h"
#include "net/http.h"
#include "net/ws.h"
#include "node/job.h"
#include "node/private.h"
#include "node/topic.h"
#include "store/store.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

#define FILE_MAX (1u << 20)
#define RETRY_MS 2000
#define WAIT_MS 5000      /* of one wait for a block; then the job's cancel flag is looked at again */
#define EVIDENCE_MAX 1000 /* lies kept; the oldest go */
/* Headers (a power of two) after which the store's mapped pages are let go. The keys of hashes fall anywhere in the tree, and the kernel maps
 * sixteen pages around each that is read: 64 headers bring 4 MB. */
#define RELEASE_EVERY 64
#define EVIDENCE_PAUSE_US 10000000

/* chains/ID.json holds what net/chain.h's chain_config_from_json reads, "l1" as net/anchor.h has it, and of
 * the node's own: urls: [RPC…], name, deploy_block, explorer, faucet, ws: a WebSocket RPC whose newHeads make
 * the client look at once, proof_urls: [RPC…] that keep the state of old blocks */

struct chain_service {
    struct node *n;
    uv_mutex_t lock; /* file, ready, error */
    struct http *http;
    struct rpc *rpc, *archive;
    struct chain *light;
    struct chain_store store;
    struct chain_config cfg;
    struct ws_watch *watch;        /* loop's thread; NULL: no "ws" in the chain's file */
    struct anchor_service *anchor; /* NULL: the chain's file names no L1 */
    json_t *file;                  /* NULL: no chain is configured */
    char **urls;
    uint64_t id;
    bool dev;
    bool checked, started;  /* chain id, genesis and codes were checked; it follows the head */
    enum loam_status wrong; /* why not */
    struct err error;
    struct hash32 said; /* the head that the stream heads got last, and its word */
    enum known said_how;
    uv_mutex_t lies; /* the two below; faults come from the light client's, the feeds' and L1's threads */
    uint64_t evidence, evidence_no, evidence_us;
    enum loam_status evidence_last;
    /* the end */
    uv_thread_t stopper;
    bool stopping, joined;
    atomic_bool down;
};

/* ---- headers in the store ---- */

/* "h" number -> RLP, "H" hash -> number, "v" name -> value. */
static void number_key(uint8_t k[9], uint64_t number) {
    k[0] = 'h';
    put_be64(k + 1, number);
}

static enum loam_status by_number(void *ctx, struct header *out, uint64_t number, struct err *err) {
    struct node *n = ctx;
    uint8_t k[9];
    struct buf b = BUF_INIT(HEADER_RLP_MAX);
    number_key(k, number);
    enum loam_status s = store_get(n->store, TABLE_CHAIN, k, sizeof k, &b, err);
    if (!s)
        s = header_from_rlp(out, b.data, b.len, err);
    buf_clear(&b);
    return s;
}

static enum loam_status by_hash(void *ctx, struct header *out, const struct hash32 *hash, struct err *err) {
    struct node *n = ctx;
    uint8_t k[33] = {'H'};
    struct buf b = BUF_INIT(8);
    memcpy(k + 1, hash->b, 32);
    enum loam_status s = store_get(n->store, TABLE_CHAIN, k, sizeof k, &b, err);
    if (!s && b.len != 8)
        s = err_set(err, LOAM_EIO, "the index of headers is damaged");
    if (!s)
        s = by_number(ctx, out, be64(b.data), err);
    buf_clear(&b);
    return s;
}

static enum loam_status tip(void *ctx, struct header *out, struct err *err) {
    struct node *n = ctx;
    struct buf k = BUF_INIT(STORE_KEY_MAX), b = BUF_INIT(HEADER_RLP_MAX);
    enum loam_status s = store_last(n->store, TABLE_CHAIN, "h", 1, &k, &b, err);
    if (!s)
        s = header_from_rlp(out, b.data, b.len, err);
    buf_clear(&k);
    buf_clear(&b);
    return s;
}

static enum loam_status apply(void *ctx, uint64_t first, const struct header *h, size_t count,
                              struct err *err) {
    struct node *n = ctx;
    struct store_batch *batch;
    struct header old, top;
    uint8_t k[9], kh[33] = {'H'}, number[8];
    enum loam_status s = store_batch_new(&batch, err);
    if (s)
        return s;
    enum loam_status t = tip(ctx, &top, NULL);
    for (uint64_t i = first; !s && t == LOAM_OK && i <= top.number; i++) {
        if (by_number(ctx, &old, i, NULL) == LOAM_OK) {
            memcpy(kh + 1, old.hash.b, 32);
            s = store_batch_del(batch, TABLE_CHAIN, kh, sizeof kh, err);
        }
        number_key(k, i);
        if (!s)
            s = store_batch_del(batch, TABLE_CHAIN, k, sizeof k, err);
    }
    struct buf rlp = BUF_INIT(HEADER_RLP_MAX);
    for (size_t i = 0; !s && i < count; i++) {
        buf_reset(&rlp);
        s = header_to_rlp(&rlp, &h[i], err);
        number_key(k, first + i);
        put_be64(number, first + i);
        memcpy(kh + 1, h[i].hash.b, 32);
        if (!s)
            s = store_batch_put(batch, TABLE_CHAIN, k, sizeof k, rlp.data, rlp.len, err);
        if (!s)
            s = store_batch_put(batch, TABLE_CHAIN, kh, sizeof kh, number, sizeof number, err);
    }
    buf_clear(&rlp);
    if (s) {
        store_batch_free(batch);
        return s;
    }
    s = store_commit(n->store, batch, err);
    static atomic_ullong kept;
    if (!s && (atomic_fetch_add(&kept, count ? count : 1) & ~(unsigned long long)(RELEASE_EVERY - 1)) !=
                  (atomic_load(&kept) & ~(unsigned long long)(RELEASE_EVERY - 1)))
        store_release(n->store);
    return s;
}

static enum loam_status put(void *ctx, const char *key, const void *p, size_t len, struct err *err) {
    struct node *n = ctx;
    char k[STORE_KEY_MAX];
    int r = snprintf(k, sizeof k, "v%s", key);
    if (r < 0 || (size_t)r >= sizeof k)
        return err_set(err, LOAM_EINVAL, "key too long");
    return store_put(n->store, TABLE_CHAIN, k, (size_t)r, p, len, err);
}

static enum loam_status get(void *ctx, struct buf *out, const char *key, struct err *err) {
    struct node *n = ctx;
    char k[STORE_KEY_MAX];
    int r = snprintf(k, sizeof k, "v%s", key);
    if (r < 0 || (size_t)r >= sizeof k)
        return err_set(err, LOAM_EINVAL, "key too long");
    struct buf b = BUF_INIT(STORE_VALUE_MAX);
    enum loam_status s = store_get(n->store, TABLE_CHAIN, k, (size_t)r, &b, err);
    if (!s)
        s = buf_add(out, b.data, b.len, err);
    buf_clear(&b);
    return s;
}

/* ---- what consoles see ---- */

static json_t *hash_json(const struct hash32 *h) {
    char hex[HASH_HEX_MAX];
    return json_string(hash_hex(hex, h));
}

static void describe_how(char out[160], const struct chain_head *h) {
    if (h->how == KNOWN_LINKED)
        snprintf(out, 160, "linked to a block that is %s (%u of %u)", known_word(h->link_to), h->agree_k,
                 h->agree_n);
    else if (h->how == KNOWN_AGREED)
        snprintf(out, 160, "agreed, %u of %u", h->agree_k, h->agree_n);
    else
        snprintf(out, 160, "%s", known_word(h->how));
}

static json_t *head_json(const struct chain_head *h) {
    char how[160], fee[U256_DEC_MAX];
    describe_how(how, h);
    u256_format(fee, h->h.base_fee);
    return json_pack("{s:s s:I s:o s:I s:s s:s s:b s:s}", "name", "latest", "number", (json_int_t)h->h.number,
                     "hash", hash_json(&h->h.hash), "time_ms", (json_int_t)(h->h.timestamp * 1000), "known",
                     known_word(h->how), "how", how, "stale", h->stale, "base_fee_wei", fee);
}

static void add_peer(json_t *a, const struct rpc_health *h, const char *kind) {
    json_array_append_new(a, json_pack("{s:s s:s s:b s:i s:I s:I s:I s:I s:s}", "url", h->url, "kind", kind, "ok",
                                       h->score >= 10 && !h->rest_ms, "score", h->score, "calls",
                                       (json_int_t)h->calls, "faults", (json_int_t)h->faults, "lies",
                                       (json_int_t)h->lies, "latency_us", (json_int_t)h->latency_us,
                                       "error", h->last_error));
}

static void add_peers(json_t *a, struct rpc *rpc, const char *kind) {
    for (size_t i = 0; a && rpc && i < rpc_count(rpc); i++) {
        struct rpc_health h;
        rpc_health(&h, rpc, i);
        add_peer(a, &h, kind);
    }
}

json_t *node_chain_peers(struct node *n) {
    json_t *a = json_array();
    struct chain *light = node_chain_light(n);
    struct anchor_service *l1;
    struct rpc_health h;
    add_peers(a, node_chain_rpc(n), "rpc");
    for (size_t i = 0; a && light && chain_feed_health(&h, light, i); i++)
        add_peer(a, &h, "feed");
    if (light)
        add_peers(a, n->chain->archive, "archive");
    if (!node_chain_l1(n, &l1, NULL))
        add_peers(a, chain_endpoints(anchor_service_l1(l1)), "l1");
    return a;
}

static json_t *named_head(const char *name, uint64_t number, const char *known, const char *how) {
    return json_pack("{s:s s:I s:s s:s}", "name", name, "number", (json_int_t)number, "known", known, "how", how);
}

/* The chain topic. The peers' counters move with every call and are left out, so that a quiet chain publishes
 * nothing. */
static void publish(struct chain_service *c) {
    struct node *n = c->n;
    json_t *v = json_object(), *contracts = json_object(), *peers = json_array(), *heads = json_array();
    uv_mutex_lock(&n->p->publish);
    uv_mutex_lock(&c->lock);
    json_object_set_new(v, "configured", json_boolean(c->file != NULL));
    if (c->file) {
        const char *name = json_string_value(json_object_get(c->file, "name")), *key;
        json_t *o;
        json_object_set_new(v, "chain_id", json_integer((json_int_t)c->id));
        json_object_set_new(v, "name", json_string(name ? name : c->dev ? "development chain" : "chain"));
        json_object_set_new(v, "dev", json_boolean(c->dev));
        json_object_foreach(json_object_get(c->file, "contracts"), key, o) {
            json_object_set(contracts, key, json_object_get(o, "address"));
        }
        json_object_set_new(v, "ok", json_boolean(c->started && !c->wrong));
        json_object_set_new(v, "error", c->wrong ? json_string(c->error.text) : json_null());
    }
    json_object_set_new(v, "evidence", json_integer((json_int_t)c->evidence));
    struct chain *light = c->light;
    bool started = c->started;
    uv_mutex_unlock(&c->lock);
    for (size_t i = 0; c->rpc && i < rpc_count(c->rpc); i++) {
        struct rpc_health h;
        rpc_health(&h, c->rpc, i);
        json_array_append_new(peers, json_pack("{s:s s:b s:s}", "url", h.url, "ok",
                                               h.score >= 10 && !h.rest_ms, "error", h.last_error));
    }
    struct chain_head h;
    if (started && chain_head(light, &h, NULL) == LOAM_OK) {
        char fee[U256_DEC_MAX];
        u256_format(fee, h.h.base_fee);
        json_array_append_new(heads, head_json(&h));
        json_object_set_new(v, "base_fee_wei", json_string(fee));
        json_object_set_new(v, "reorgs", json_integer((json_int_t)h.reorgs));
        if (h.signed_to)
            json_array_append_new(heads, named_head("signed", h.signed_to, "signed", "signed by the sequencer"));
        if (h.proposed)
            json_array_append_new(heads, named_head("proposed", h.proposed, "anchored (proposed)", "its output root is proposed on L1"));
        if (h.resolved)
            json_array_append_new(heads, named_head("resolved", h.resolved, "anchored (resolved)", "its output root was resolved on L1"));
        struct anchor_state a;
        uv_mutex_lock(&c->lock);
        bool has_l1 = c->anchor != NULL;
        if (has_l1)
            anchor_service_state(&a, c->anchor);
        uv_mutex_unlock(&c->lock);
        if (has_l1)
            json_object_set_new(v, "l1",
                                json_pack("{s:I s:i s:i s:I s:I s:I s:I s:s}", "head", (json_int_t)a.l1_head, "agree_k",
                                          (int)a.agree_k, "agree_n", (int)a.agree_n, "output",
                                          (json_int_t)a.last.number, "origin_to", (json_int_t)a.origin_to, "origins_checked",
                                          (json_int_t)a.origins, "origins_skipped", (json_int_t)a.origins_skipped, "error",
                                          a.status ? a.error : ""));
        if (!h.following)
            json_object_set_new(
                v, "sync", json_pack("{s:I s:I}", "at", (json_int_t)h.h.number, "to", (json_int_t)h.target));
    }
    json_object_set_new(v, "heads", heads);
    json_object_set_new(v, "peers", peers);
    json_object_set_new(v, "contracts", contracts);
    topic_update(n, "chain", v); /* the outbox keeps "pending" there */
    uv_mutex_unlock(&n->p->publish);
}

/* ---- the light client's events, on its thread ---- */

static void on_head(void *arg, const struct chain_head *h) {
    struct chain_service *c = arg;
    uv_mutex_lock(&c->lock);
    c->wrong = LOAM_OK;
    /* The light client calls after every look, also when nothing moved; the stream gets each head once, and again
     * when it is known by another word. */
    bool news = !hash_eq(&c->said, &h->h.hash) || c->said_how != h->how;
    c->said = h->h.hash;
    c->said_how = h->how;
    uv_mutex_unlock(&c->lock);
    if (news) {
        json_t *e = head_json(h);
        if (e) {
            json_object_del(e, "name");
            json_object_set_new(e, "parent", hash_json(&h->h.parent));
        }
        topic_emit(c->n, "heads", e);
    }
    publish(c);
}

static enum loam_status on_reorg(void *arg, const struct chain_reorg *r, struct err *err) {
    struct chain_service *c = arg;
    log_warn("chain", "reorganisation: blocks %llu to %llu were replaced", (unsigned long long)r->common + 1,
             (unsigned long long)r->old_tip);
    topic_emit(c->n, "heads",
               json_pack("{s:I s:o s:I s:I}", "number", (json_int_t)r->new_tip, "hash",
                         hash_json(&r->new_hash), "reorg", (json_int_t)(r->old_tip - r->common), "time_ms",
                         (json_int_t)r->at_unix_ms));
    return outbox_undo(c->n, false, r->common, err);
}

/* L1's own: nothing of the head's word rests on it, what was sent there does. */
static enum loam_status on_l1_reorg(void *arg, const struct chain_reorg *r, struct err *err) {
    struct chain_service *c = arg;
    log_warn("chain", "L1: blocks %llu to %llu were replaced", (unsigned long long)r->common + 1, (unsigned long long)r->old_tip);
    return outbox_undo(c->n, true, r->common, err);
}

static bool is_lie(enum loam_status s) {
    return chain_is_lie(s) && s != LOAM_ESTALE && s != LOAM_ENULL;
}

/* The oldest go when there are too many. */
struct oldest {
    uint8_t key[16];
    bool there;
};
static bool take_first(void *ctx, const struct store_item *item) {
    struct oldest *o = ctx;
    o->there = item->klen == sizeof o->key;
    if (o->there)
        memcpy(o->key, item->key, sizeof o->key);
    return false;
}
static void drop_oldest(struct chain_service *c) {
    struct oldest o = {.there = false};
    struct store_range all = {0};
    if (!store_each(c->n->store, TABLE_EVIDENCE, &all, take_first, &o, NULL) && o.there &&
        !store_del(c->n->store, TABLE_EVIDENCE, o.key, sizeof o.key, NULL))
        c->evidence--;
}

static void keep_lie(struct chain_service *c, enum loam_status s, const char *whose, const struct err *e) {
    char line[ERR_TEXT_MAX + 16];
    snprintf(line, sizeof line, "%s%s", whose, e->text);
    json_t *o = json_pack("{s:I s:s s:s}", "time_ms", (json_int_t)clock_unix_ms(), "status", status_name(s), "text", line);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    uint8_t k[16];
    struct err se;
    uv_mutex_lock(&c->lies);
    /* The same again within seconds, as from an endpoint that is asked every second: once is enough. */
    bool again = c->evidence_last == s && clock_mono_us() - c->evidence_us < EVIDENCE_PAUSE_US;
    c->evidence_last = s;
    if (again) {
        uv_mutex_unlock(&c->lies);
        mem_free(text);
        json_decref(o);
        return;
    }
    c->evidence_us = clock_mono_us();
    put_be64(k, clock_unix_ms());
    put_be64(k + 8, ++c->evidence_no);
    if (c->evidence >= EVIDENCE_MAX)
        drop_oldest(c);
    if (text && c->evidence < EVIDENCE_MAX && !store_put(c->n->store, TABLE_EVIDENCE, k, sizeof k, text, strlen(text), &se))
        c->evidence++;
    uv_mutex_unlock(&c->lies);
    mem_free(text);
    json_decref(o);
}

static void on_l1_fault(void *arg, enum loam_status s, const struct err *e) {
    struct chain_service *c = arg;
    log_warn("chain", "L1: %s", e->text);
    if (is_lie(s))
        keep_lie(c, s, "L1: ", e);
    publish(c);
}

static void on_fault(void *arg, enum loam_status s, const struct err *e) {
    struct chain_service *c = arg;
    uv_mutex_lock(&c->lock);
    bool again = c->wrong == s;
    c->wrong = s;
    c->error = *e;
    uv_mutex_unlock(&c->lock);
    if (!again)
        log_warn("chain", "%s", e->text);
    if (is_lie(s))
        keep_lie(c, s, "", e);
    publish(c);
}

/* ---- configuration ---- */

static enum loam_status read_file(json_t **out, const char *path, struct err *err) {
    struct buf b = BUF_INIT(FILE_MAX);
    json_error_t je;
    enum loam_status s = file_read(&b, path, err);
    if (!s) {
        *out = json_loadb((const char *)b.data, b.len, JSON_REJECT_DUPLICATES, &je);
        if (!*out || !json_is_object(*out)) {
            json_decref(*out);
            *out = NULL;
            s = err_set(err, LOAM_EPARSE, "%s:%d: %s", path, je.line, je.text);
        }
    }
    buf_clear(&b);
    return s;
}

static char *chain_path(struct node *n, uint64_t id) {
    return mem_printf("%s/chains/%llu.json", n->dir, (unsigned long long)id);
}

/* The chain of the options, or the only file in chains/. 0: none. */
static enum loam_status pick(struct node *n, uint64_t *id, struct err *err) {
    *id = option_uint(n->opt, "chain.id");
    char *dir = node_path(n, "chains");
    if (!dir)
        return err_set(err, LOAM_ENOMEM, "no memory for a path");
    enum loam_status s = file_mkdirs(dir, err);
    DIR *d = *id || s ? NULL : opendir(dir);
    unsigned found = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        char *end;
        unsigned long long v = strtoull(e->d_name, &end, 10);
        if (end != e->d_name && strcmp(end, ".json") == 0) {
            *id = v;
            found++;
        }
    }
    if (d)
        closedir(d);
    mem_free(dir);
    if (found > 1)
        return err_set(err, LOAM_EINVAL,
                       "%s/chains holds %u chains; one data folder is for one chain: `set chain.id N`",
                       n->dir, found);
    return s;
}

static void urls_free(char **urls) {
    for (size_t i = 0; urls && urls[i]; i++)
        mem_free(urls[i]);
    mem_free(urls);
}

static enum loam_status read_urls(struct node *n, const json_t *file, char ***out, struct err *err) {
    char t[OPTION_TEXT_MAX];
    char **urls = mem_zarray(RPC_ENDPOINTS_MAX + 1, sizeof *urls);
    size_t count = 0, i;
    if (!urls)
        return err_set(err, LOAM_ENOMEM, "no memory for RPC addresses");
    option_str(n->opt, "chain.rpc", t);
    for (char *p = t; *p && count < RPC_ENDPOINTS_MAX;) {
        p += strspn(p, ", ");
        size_t len = strcspn(p, ", ");
        if (len)
            urls[count++] = mem_strndup(p, len);
        p += len;
    }
    json_t *v;
    if (!count)
        json_array_foreach(json_object_get(file, "urls"), i, v) {
            if (json_is_string(v) && count < RPC_ENDPOINTS_MAX)
                urls[count++] = mem_strdup(json_string_value(v));
        }
    if (!count) {
        mem_free(urls);
        return err_set(err, LOAM_EINVAL, "the chain has no RPC address; `set chain.rpc URL`");
    }
    *out = urls;
    return LOAM_OK;
}

/* Makes rpc and light client from a chain's file (taken over). */
static enum loam_status configure(struct node *n, json_t *file, struct err *err) {
    struct chain_service *c = n->chain;
    enum loam_status s = chain_config_from_json(&c->cfg, file, err);
    if (!s)
        c->cfg.poll_ms = (uint64_t)(option_real(n->opt, "chain.poll") * 1000);
    if (!s)
        s = read_urls(n, file, &c->urls, err);
    struct rpc_config rc = {.urls = (const char *const *)c->urls,
                            .timeout_ms = (uint64_t)(option_real(n->opt, "chain.timeout") * 1000)};
    if (!s)
        s = rpc_new(&c->rpc, c->http, &rc, err);
    const char *archive[RPC_ENDPOINTS_MAX + 1] = {NULL};
    size_t archives = 0, i;
    json_t *v;
    json_array_foreach(json_object_get(file, "proof_urls"), i, v) {
        if (json_is_string(v) && archives < RPC_ENDPOINTS_MAX)
            archive[archives++] = json_string_value(v);
    }
    if (!s && archives)
        s = rpc_new(&c->archive, c->http, &(struct rpc_config){.urls = archive}, err);
    c->cfg.archive = c->archive;
    c->store = (struct chain_store){n, apply, by_number, by_hash, tip, put, get};
    struct chain_events ev = {c, on_head, on_reorg, on_fault};
    if (!s)
        s = chain_new(&c->light, &c->cfg, c->rpc, &c->store, &ev, err);
    if (s) {
        json_decref(file);
        return s;
    }
    const char *profile = json_string_value(json_object_get(file, "profile"));
    uv_mutex_lock(&c->lock);
    c->file = file;
    c->id = c->cfg.chain_id;
    c->dev = profile && strcmp(profile, "anvil") == 0;
    uv_mutex_unlock(&c->lock);
    return LOAM_OK;
}

static bool count_evidence(void *ctx, const struct store_item *item) {
    (void)item;
    (*(uint64_t *)ctx)++;
    return true;
}

enum loam_status node_chain_open(struct node *n, struct err *err) {
    struct chain_service *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(err, LOAM_ENOMEM, "no memory for the chain");
    n->chain = c;
    c->n = n;
    uv_mutex_init(&c->lock);
    uv_mutex_init(&c->lies);
    atomic_store(&c->down, true);
    struct store_range all = {0};
    enum loam_status s = store_each(n->store, TABLE_EVIDENCE, &all, count_evidence, &c->evidence, err);
    if (!s)
        s = http_new(&c->http, n->loop, NULL, err);
    if (!s)
        atomic_store(&c->down, false);
    uint64_t id = 0;
    if (!s)
        s = pick(n, &id, err);
    if (!s && id) {
        char *path = chain_path(n, id);
        json_t *file = NULL;
        s = path ? read_file(&file, path, err) : err_set(err, LOAM_ENOMEM, "no memory for a path");
        if (!s)
            s = configure(n, file, err);
        if (s && path)
            s = err_prefix(err, s, "%s", path);
        mem_free(path);
    }
    if (!s)
        publish(c);
    return s;
}

/* anvil's genesis header states the empty state root although its accounts are funded, so nothing can be
 * proven there: its first block must be made before anything is read. */
static enum loam_status first_block_of_anvil(struct chain_service *c, struct err *err) {
    json_t *r = NULL;
    enum loam_status s = rpc_call_wait(c->rpc, &r, "eth_blockNumber", NULL, NULL, err);
    bool none = !s && json_is_string(r) && strcmp(json_string_value(r), "0x0") == 0;
    json_decref(r);
    r = NULL;
    if (none)
        s = rpc_call_wait(c->rpc, &r, "evm_mine", NULL, NULL, err);
    json_decref(r);
    return s;
}

/* newHeads by WebSocket: the client looks at once instead of at the next poll. */
static void start_watch(struct node *n, void *arg) {
    (void)arg;
    struct chain_service *c = n->chain;
    struct err e;
    uv_mutex_lock(&c->lock);
    const char *url = json_string_value(json_object_get(c->file, "ws"));
    if (url && !c->watch && !c->stopping && c->http && ws_watch_new(&c->watch, c->http, url, c->light, &e)) {
        c->watch = NULL;
        log_warn("chain", "newHeads: %s", e.text);
    }
    uv_mutex_unlock(&c->lock);
}

/* Checks chain id, genesis and codes, then follows the head. Tried again while no endpoint answers; a wrong
 * chain is not followed at all. */
static enum loam_status bring_up(struct job *j, void *arg, struct err *err) {
    struct chain_service *c = arg;
    for (;;) {
        struct err e = {LOAM_OK, ""};
        enum loam_status s = chain_check(c->light, &e);
        if (!s && c->dev)
            s = first_block_of_anvil(c, &e);
        if (!s) /* the head of an earlier life may be gone: nothing is read before it was looked at */
            s = chain_sync(c->light, &e);
        if (!s)
            s = chain_start(c->light, &e);
        const json_t *l1 = json_object_get(c->file, "l1"); /* contracts_set keeps it */
        struct anchor_service *anchor = NULL;
        if (!s && json_is_object(l1))
            s = anchor_service_new(&anchor, c->http, c->light, l1, &(struct chain_events){c, NULL, on_l1_reorg, on_l1_fault}, &e);
        uv_mutex_lock(&c->lock);
        c->wrong = s;
        c->error = e;
        c->started = c->checked = s == LOAM_OK;
        c->anchor = anchor;
        uv_mutex_unlock(&c->lock);
        publish(c);
        if (!s) {
            uv_mutex_lock(&c->lock);
            bool ws = json_is_string(json_object_get(c->file, "ws"));
            uv_mutex_unlock(&c->lock);
            if (ws && node_post(c->n, start_watch, NULL, &e))
                log_warn("chain", "newHeads: %s", e.text);
            return LOAM_OK;
        }
        if (s == LOAM_ECHAIN || s == LOAM_EGENESIS || s == LOAM_ECODE)
            log_error("chain", "not followed: %s", e.text);
        else
            log_warn("chain", "%s; trying again", e.text);
        s = job_sleep_ms(j, RETRY_MS, err);
        if (s)
            return s;
    }
}

static void start_job(struct node *n) {
    struct job_def def = {.title = "chain", .run = bring_up, .arg = n->chain};
    uint64_t id;
    struct err e;
    if (job_start(n, &id, &def, &e))
        log_error("chain", "%s", e.text);
}

void node_chain_start(struct node *n) {
    if (n->chain->light)
        start_job(n);
}

/* ---- the end: the light client's thread is joined off the loop, since it may wait for an answer that the
 * loop brings --- */

static void on_http_closed(void *arg) {
    struct chain_service *c = arg;
    c->http = NULL;
    atomic_store(&c->down, true);
    node_wake(c->n);
}

static void close_http(struct node *n, void *arg) {
    (void)arg;
    struct chain_service *c = n->chain;
    if (!c->joined) {
        uv_thread_join(&c->stopper);
        c->joined = true;
    }
    if (c->watch)
        ws_watch_close(c->watch);
    c->watch = NULL;
    if (c->http)
        http_close(c->http, on_http_closed, c);
}

static void stop_thread(void *arg) {
    struct chain_service *c = arg;
    uv_mutex_lock(&c->lock);
    struct anchor_service *anchor = c->anchor; /* whoever waits for L1 is told so; freed when no job is left: node_chain_close */
    uv_mutex_unlock(&c->lock);
    anchor_service_stop(anchor);
    if (c->light)
        chain_stop(c->light);
    enum loam_status s = node_post(c->n, close_http, NULL, NULL);
    (void)s; /* no memory: node_close closes it */
}

bool node_chain_down(struct node *n) {
    struct chain_service *c = n->chain;
    if (!c || atomic_load(&c->down))
        return true;
    if (!c->stopping) {
        c->stopping = uv_thread_create(&c->stopper, stop_thread, c) == 0;
        if (!c->stopping && !c->light && !c->anchor) { /* no memory for a thread, and nothing that would need one */
            c->stopping = c->joined = true;
            close_http(n, NULL);
        } /* else: tried again, each second, while the node stops */
    }
    return false;
}

void node_chain_shut(struct node *n) {
    struct chain_service *c = n->chain;
    if (c && c->http && !c->stopping)
        http_close(c->http, on_http_closed, c);
}

void node_chain_close(struct node *n) {
    struct chain_service *c = n->chain;
    if (!c)
        return;
    if (c->stopping && !c->joined)
        uv_thread_join(&c->stopper);
    anchor_service_free(c->anchor);
    chain_free(c->light);
    if (c->rpc)
        rpc_free(c->rpc);
    rpc_free(c->archive);
    chain_config_clear(&c->cfg);
    urls_free(c->urls);
    json_decref(c->file);
    uv_mutex_destroy(&c->lies);
    uv_mutex_destroy(&c->lock);
    mem_free(c);
    n->chain = NULL;
}

/* ---- for flows and commands ---- */

bool node_chain_configured(struct node *n) {
    return node_chain_id(n) != 0;
}

uint64_t node_chain_id(struct node *n) {
    uv_mutex_lock(&n->chain->lock);
    uint64_t id = n->chain->id;
    uv_mutex_unlock(&n->chain->lock);
    return id;
}

bool node_chain_is_dev(struct node *n) {
    uv_mutex_lock(&n->chain->lock);
    bool dev = n->chain->dev;
    uv_mutex_unlock(&n->chain->lock);
    return dev;
}

uint64_t node_chain_head_number(struct node *n) {
    struct chain_service *c = n->chain;
    struct chain_head h;
    uv_mutex_lock(&c->lock);
    struct chain *light = c->started ? c->light : NULL;
    uv_mutex_unlock(&c->lock);
    return light && chain_head(light, &h, NULL) == LOAM_OK ? h.h.number : 0;
}

bool node_chain_is_up(struct node *n) {
    return node_chain_head_number(n) != 0;
}

struct chain *node_chain_light(struct node *n) {
    return node_chain_configured(n) ? n->chain->light : NULL;
}
struct rpc *node_chain_rpc(struct node *n) {
    return node_chain_configured(n) ? n->chain->rpc : NULL;
}
struct http *node_http(struct node *n) {
    return n->chain->http;
}

enum loam_status node_chain_l1(struct node *n, struct anchor_service **out, struct err *err) {
    struct chain_service *c = n->chain;
    enum loam_status s = LOAM_OK;
    uv_mutex_lock(&c->lock);
    bool named = c->file && json_is_object(json_object_get(c->file, "l1"));
    if (!(*out = c->anchor))
        s = err_set(err, LOAM_ESTATE, named ? "L1 is not up yet; try again" : "the chain's file names no L1 (l1: {urls, chain_id, system_config or portal})");
    uv_mutex_unlock(&c->lock);
    return s;
}

json_t *node_chain_file(struct node *n) {
    uv_mutex_lock(&n->chain->lock);
    json_t *f = n->chain->file ? json_deep_copy(n->chain->file) : NULL;
    uv_mutex_unlock(&n->chain->lock);
    return f;
}

enum loam_status node_chain_need(struct node *n, struct chain **out, struct err *err) {
    struct chain_service *c = n->chain;
    enum loam_status s = LOAM_OK;
    uv_mutex_lock(&c->lock);
    if (!c->file)
        s = err_set(err, LOAM_ESTATE, "no chain is configured; `chain use URL`");
    else if (!c->started)
        s = c->wrong ? err_set(err, c->wrong, "%s", c->error.text)
                     : err_set(err, LOAM_EBUSY, "the chain is being checked; try again");
    else
        *out = c->light;
    uv_mutex_unlock(&c->lock);
    return s;
}

/* What happens within seconds of the start is waited for. */
enum loam_status node_chain_ready(struct node *n, struct chain **out, struct job *j, struct err *err) {
    for (int i = 0;; i++) {
        enum loam_status s = node_chain_need(n, out, err);
        if (s != LOAM_EBUSY || i == 100)
            return s;
        if (j && (s = job_sleep_ms(j, 50, err)))
            return s;
        if (!j)
            uv_sleep(50);
    }
}

enum loam_status node_chain_contract(struct node *n, const char *name, struct addr20 *out, struct err *err) {
    char hex[ADDR_HEX_MAX] = "";
    uv_mutex_lock(&n->chain->lock);
    const char *a = json_string_value(
        json_object_get(json_object_get(json_object_get(n->chain->file, "contracts"), name), "address"));
    if (a)
        snprintf(hex, sizeof hex, "%s", a);
    uv_mutex_unlock(&n->chain->lock);
    if (!*hex)
        return err_set(err, LOAM_ENOTFOUND,
                       "the contract %s is not known on this chain; `chain deploy`, or take over the chain's "
                       "file of another node",
                       name);
    return addr_parse(out, hex, err);
}

static enum loam_status save(struct node *n, const json_t *file, uint64_t id, struct err *err) {
    char *text = json_dumps(file, JSON_INDENT(2) | JSON_SORT_KEYS), *path = chain_path(n, id);
    enum loam_status s = text && path ? file_write(path, text, strlen(text), 0600, err)
                                      : err_set(err, LOAM_ENOMEM, "no memory for the chain's file");
    mem_free(text);
    mem_free(path);
    return s;
}

/* The codes that the chain proves for these addresses are the expected ones: at every start (chain_check), and here at once. */
static enum loam_status codes_check(struct node *n, const json_t *contracts, struct err *err) {
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)contracts, name, v) {
        const char *at = json_string_value(json_object_get(v, "address")), *code = json_string_value(json_object_get(v, "code_hash"));
        struct chain *light;
        struct account a;
        struct addr20 addr;
        struct hash32 want;
        enum loam_status s;
        if (!code)
            continue;
        if ((s = addr_parse(&addr, at ? at : "", err)) || (s = hash_parse(&want, code, err)) || (s = node_chain_ready(n, &light, NULL, err)) ||
            (s = chain_account(light, &a, &addr, NULL, err)))
            return s;
        if (!hash_eq(&a.code_hash, &want))
            return err_set(err, LOAM_ECODE, "%s at %s does not have the code that was deployed", name, at);
    }
    return LOAM_OK;
}

enum loam_status node_chain_contracts_set(struct node *n, const json_t *contracts, uint64_t deploy_block,
                                          struct err *err) {
    struct chain_service *c = n->chain;
    enum loam_status s = codes_check(n, contracts, err);
    if (s)
        return s;
    uv_mutex_lock(&c->lock);
    json_t *next = c->file ? json_deep_copy(c->file) : NULL;
    uint64_t id = c->id;
    uv_mutex_unlock(&c->lock);
    if (!next)
        return err_set(err, LOAM_ESTATE, "no chain is configured; `chain use URL`");
    json_t *all = json_object_get(next, "contracts");
    if (!all) {
        all = json_object();
        json_object_set_new(next, "contracts", all);
    }
    json_object_update(all, (json_t *)(uintptr_t)contracts);
    json_object_set_new(next, "deploy_block", json_integer((json_int_t)deploy_block));
    s = save(n, next, id, err);
    if (s) {
        json_decref(next);
        return s;
    }
    uv_mutex_lock(&c->lock);
    json_t *old = c->file;
    c->file = next;
    uv_mutex_unlock(&c->lock);
    json_decref(old);
    publish(c);
    return LOAM_OK;
}

uint64_t node_chain_deploy_block(struct node *n) {
    uv_mutex_lock(&n->chain->lock);
    json_int_t b = json_integer_value(json_object_get(n->chain->file, "deploy_block"));
    uv_mutex_unlock(&n->chain->lock);
    return b > 0 ? (uint64_t)b : 0;
}

enum loam_status node_chain_balance(struct node *n, struct u256 *wei, uint64_t *nonce, const struct addr20 *a,
                                    struct err *err) {
    struct chain *light;
    struct account acc;
    enum loam_status s = node_chain_ready(n, &light, NULL, err);
    if (!s)
        s = chain_account(light, &acc, a, NULL, err);
    if (!s) {
        *wei = acc.balance;
        if (nonce)
            *nonce = acc.nonce;
    }
    return s;
}

enum loam_status node_chain_storage(struct node *n, struct hash32 *values, const struct addr20 *a,
                                    const struct hash32 *slots, size_t count, struct err *err) {
    struct chain *light;
    struct u256 v[SLOTS_MAX];
    LOAM_ASSERT(count <= SLOTS_MAX);
    enum loam_status s = node_chain_ready(n, &light, NULL, err);
    if (!s)
        s = chain_slots(light, v, a, slots, count, NULL, err);
    for (size_t i = 0; !s && i < count; i++)
        u256_to_be(values[i].b, v[i]);
    return s;
}

static bool cancelled(void *arg) {
    return arg && job_cancelled(arg);
}

enum loam_status node_chain_wait_block(struct node *n, uint64_t number, struct job *j, struct err *err) {
    struct chain *light;
    enum loam_status s = node_chain_ready(n, &light, j, err);
    struct http_cancel cancel = {cancelled, j};
    while (!s) {
        s = chain_wait(light, number, WAIT_MS, &cancel, err);
        if (s != LOAM_ETIMEOUT)
            return s;
        s = j ? job_check(j, err) : LOAM_OK;
    }
    return s;
}

/* ---- chain use ---- */

struct probe {
    struct rpc *rpc;
    const char *const *urls;
    enum loam_status s;
    struct err *err;
};

static void make_rpc(struct node *n, void *arg) {
    struct probe *p = arg;
    struct rpc_config rc = {.urls = p->urls, .timeout_ms = (uint64_t)(option_real(n->opt, "chain.timeout") * 1000)};
    p->s = rpc_new(&p->rpc, n->chain->http, &rc, p->err);
}

struct setup {
    json_t *file;
    enum loam_status s;
    struct err *err;
};

static void configure_on_loop(struct node *n, void *arg) {
    struct setup *u = arg;
    u->s = configure(n, u->file, u->err);
}

/* Asks the endpoint what chain it serves: id, genesis header (its hash is recomputed), and whether it is
 * anvil. */
static enum loam_status ask_chain(struct rpc *rpc, uint64_t *id, struct header *genesis, bool *anvil,
                                  struct err *err) {
    json_t *r = NULL;
    struct u256 v;
    enum loam_status s = rpc_call_wait(rpc, &r, "eth_chainId", NULL, NULL, err);
    if (!s) {
        const char *t = json_string_value(r);
        s = t                 ? u256_parse_quantity(&v, t, err)
            : json_is_null(r) ? err_set(err, LOAM_ENULL, "eth_chainId: null")
                              : err_set(err, LOAM_EJSON, "eth_chainId: no string");
    }
    json_decref(r);
    if (!s && (!u256_fits_u64(v) || v.w[0] > INT64_MAX))
        s = err_set(err, LOAM_ERANGE, "the chain id does not fit");
    if (s) {
        rpc_blame(rpc, 0, s, err);
        return s;
    }
    *id = v.w[0];
    r = NULL;
    s = rpc_call_wait(rpc, &r, "eth_getBlockByNumber", json_pack("[s b]", "0x0", 0), NULL, err);
    if (!s && (s = header_from_json(genesis, r, err)))
        rpc_blame(rpc, 0, s, err);
    json_decref(r);
    r = NULL;
    if (!s && !rpc_call_wait(rpc, &r, "web3_clientVersion", NULL, NULL, NULL))
        *anvil = json_is_string(r) && strncmp(json_string_value(r), "anvil/", 6) == 0;
    json_decref(r);
    return s;
}

/* Keeps the file (taken over) and follows its chain. */
static enum loam_status take_over(struct node *n, struct setup *u, uint64_t id, struct job *j,
                                  struct err *err) {
    enum loam_status s = save(n, u->file, id, err);
    if (s)
        json_decref(u->file);
    else
        s = node_call(n, configure_on_loop, u, err);
    if (!s)
        s = u->s;
    if (s)
        return s;
    start_job(n);
    struct chain *light;
    return node_chain_ready(n, &light, j, err);
}

enum loam_status node_chain_use(struct node *n, const char *url, const char *name, struct job *j,
                                struct err *err) {
    struct chain_service *c = n->chain;
    const char *const urls[] = {url, NULL};
    struct probe p = {NULL, urls, LOAM_OK, err};
    struct header genesis;
    uint64_t id = 0;
    bool anvil = false;
    enum loam_status s = node_call(n, make_rpc, &p, err);
    if (!s)
        s = p.s;
    if (!s)
        s = ask_chain(p.rpc, &id, &genesis, &anvil, err);
    if (p.rpc)
        rpc_free(p.rpc);
    if (s)
        return s;
    uint64_t have = node_chain_id(n);
    if (have && have != id)
        return err_set(err, LOAM_ECHAIN,
                       "this data folder is for chain %llu, %s serves chain %llu; use another --data for it",
                       (unsigned long long)have, url, (unsigned long long)id);
    if (have) {
        if (c->cfg.has_genesis && !hash_eq(&genesis.hash, &c->cfg.genesis))
            return err_set(err, LOAM_EGENESIS, "%s serves a chain %llu with another genesis", url, (unsigned long long)id);
        /* The same chain: one address more, asked at once. */
        uv_mutex_lock(&c->lock);
        json_t *next = json_deep_copy(c->file), *v;
        uv_mutex_unlock(&c->lock);
        json_t *list = json_object_get(next, "urls");
        size_t i;
        bool known = false;
        json_array_foreach(list, i, v) {
            known = known || strcmp(json_string_value(v), url) == 0;
        }
        if (!known && !(s = rpc_add(c->rpc, url, err))) {
            json_array_append_new(list, json_string(url));
            s = save(n, next, id, err);
            uv_mutex_lock(&c->lock);
            json_t *old = c->file;
            c->file = next;
            next = old;
            uv_mutex_unlock(&c->lock);
            log_info("chain", "RPC added; it is asked from now on");
            publish(c);
        }
        json_decref(next);
        return s;
    }
    char hex[HASH_HEX_MAX];
    struct setup u = {json_pack("{s:I s:s s:s s:[s] s:s? s:s?}", "chain_id", (json_int_t)id, "profile",
                                anvil ? "anvil" : "op", "genesis", hash_hex(hex, &genesis.hash), "urls", url,
                                "name", name, "start", anvil ? NULL : "head"),
                      LOAM_OK, err};
    if (!u.file)
        return err_set(err, LOAM_ENOMEM, "no memory for the chain's file");
    return take_over(n, &u, id, j, err);
}

enum loam_status node_chain_use_file(struct node *n, const char *path, struct job *j, struct err *err) {
    struct chain_config cfg = {0};
    struct setup u = {NULL, LOAM_OK, err};
    enum loam_status s = read_file(&u.file, path, err);
    if (!s)
        s = chain_config_from_json(&cfg, u.file, err);
    uint64_t id = cfg.chain_id, have = node_chain_id(n);
    if (!s)
        chain_config_clear(&cfg);
    if (!s && have)
        s = err_set(err, LOAM_ECHAIN,
                    "this data folder is for chain %llu already; use another --data for chain %llu",
                    (unsigned long long)have, (unsigned long long)id);
    if (s) {
        json_decref(u.file);
        return err_prefix(err, s, "%s", path);
    }
    return take_over(n, &u, id, j, err);
}

static bool add_evidence(void *ctx, const struct store_item *item) {
    json_array_append_new(ctx, json_loadb((const char *)item->value, item->vlen, 0, NULL));
    return json_array_size(ctx) < EVIDENCE_MAX;
}

/* Two messages: signature 65, u32le length, signed bytes. */
static json_t *equivocation(struct chain *light, size_t i) {
    struct buf b = BUF_INIT(STORE_VALUE_MAX);
    struct err e = {LOAM_OK, ""};
    json_t *blocks = json_array(), *number = NULL;
    enum loam_status s = chain_evidence(light, &b, i, &e);
    for (size_t at = 0; !s && at + 69 <= b.len;) {
        struct payload p;
        char hash[HASH_HEX_MAX], sig[2 * 65 + 1];
        size_t len = le32(b.data + at + 65);
        if (len > b.len - at - 69)
            break;
        if (!payload_decode(&p, b.data + at + 69, len, 0, &e)) {
            hex_encode(sig, b.data + at, 65);
            json_array_append_new(blocks, json_pack("{s:s s:s+}", "hash", hash_hex(hash, &p.h.hash), "signature", "0x", sig));
            if (!number)
                number = json_integer((json_int_t)p.h.number);
        }
        payload_clear(&p);
        at += 69 + len;
    }
    buf_clear(&b);
    return json_pack("{s:s s:s s:o s:o}", "status", status_name(LOAM_EEQUIVOCATION), "text", "the sequencer signed two blocks of one height",
                     "number", number ? number : json_null(), "blocks", blocks);
}

json_t *node_chain_evidence(struct node *n) {
    json_t *a = json_array();
    struct store_range all = {.backwards = true};
    if (a && store_each(n->store, TABLE_EVIDENCE, &all, add_evidence, a, NULL)) {
        json_decref(a);
        return NULL;
    }
    struct chain *light = node_chain_light(n);
    for (size_t i = 0; a && light && i < chain_evidence_count(light); i++)
        json_array_append_new(a, equivocation(light, i));
    return a;
}
