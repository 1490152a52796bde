#include "node/outbox.h"

#include "base/clock.h"
#include "base/keccak.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/abi.h"
#include "net/anchor.h"
#include "net/chain.h"
#include "net/tx.h"
#include "node/chain.h"
#include "node/job.h"
#include "node/keys.h"
#include "node/private.h"
#include "node/topic.h"
#include "store/store.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define POLL_MS 200 /* between looks for a receipt; a development chain answers at once */
#define REBROADCAST_MS 10000
#define REPLACE_MAX 8  /* times a fee is raised: 12.5 % each, the least nodes take, is 2.6 times in all */
#define KEEPER_MS 5000 /* how often transactions that nobody waits for are looked after */
#define HURRY_MS 500   /* the same while what a reorganisation took comes back */
#define ATTEMPTS_MAX 16 /* transactions that may revert under one key */
#define ENTRY_MAX (8u << 20) /* bytes of an entry: calldata as hex, once for each transaction sent under it */
#define PLAIN_GAS 21000      /* of a transaction that does nothing */
#define TAKEN_BACK "taken-back/"
#define LOST_HELD 128        /* blocks (and tx.retry-depth) for which what would revert after a reorganisation is held back */

/* OUTBOX table, by key: JSON {key, from, address, nonce, to|null, value, data (hex), gas, what, digest, layer (1: on L1; else absent),
 * state, sent_ms, txs: [{hash, raw (hex), max_fee, tip}] (or {hash, forced: true}: the deposit that does the same; void: true: one that does nothing, since it was out too long), earlier: [{tx, block, nonce, txs}]
 * that reverted (without block: a reorganisation took it, and its outcome is open again), lost: the block after which a reorganisation took what
 * was confirmed, and, confirmed: {tx, block, block_hash, index,
 * gas_used, ok, fee, created, logs}}. NONCE table, by chain id (u64 be) and address: next nonce (u64 be).
 * Both change in one batch, before anything is sent. */
struct outbox {
    uv_mutex_t lock; /* nonces are given one after another */
    atomic_size_t pending;
    json_t *open; /* key -> {key, tx, nonce, sent_ms, what} of those without a receipt; under open_lock */
    uv_mutex_t open_lock;
    const char *const *errors;
    uint64_t keeper_us;
    atomic_bool hurry; /* a reorganisation took something: not only at the next turn */
    atomic_bool keeping;
};

/* ---- entries ---- */

static json_t *hex_json(const uint8_t *p, size_t n) {
    char *text = mem_alloc(2 * n + 3);
    if (!text)
        return NULL;
    text[0] = '0';
    text[1] = 'x';
    hex_encode(text + 2, p, n);
    json_t *v = json_string(text);
    mem_free(text);
    return v;
}

static const char *text_of(const json_t *o, const char *key) {
    const char *t = json_string_value(json_object_get(o, key));
    return t ? t : "";
}

static enum loam_status load(struct node *n, json_t **out, const char *key, struct err *err) {
    struct buf b = BUF_INIT(ENTRY_MAX);
    enum loam_status s = store_get(n->store, TABLE_OUTBOX, key, strlen(key), &b, err);
    if (!s && !(*out = json_loadb((const char *)b.data, b.len, 0, NULL)))
        s = err_set(err, LOAM_EIO, "the outbox entry %s is damaged", key);
    buf_clear(&b);
    return s;
}

static bool is_open(const json_t *e) {
    return strcmp(text_of(e, "state"), "signed") == 0 || strcmp(text_of(e, "state"), "sent") == 0;
}

/* Keeps the list of those that are out, so that nobody need walk the table for it. */
static void note(struct node *n, const json_t *e) {
    struct outbox *o = n->outbox;
    json_t *txs = json_object_get(e, "txs");
    uv_mutex_lock(&o->open_lock);
    if (is_open(e))
        json_object_set_new(o->open, text_of(e, "key"),
                            json_pack("{s:s s:s s:I s:I s:s}", "key", text_of(e, "key"), "tx",
                                      text_of(json_array_get(txs, json_array_size(txs) - 1), "hash"), "nonce",
                                      json_integer_value(json_object_get(e, "nonce")), "sent_ms",
                                      json_integer_value(json_object_get(e, "sent_ms")), "what",
                                      text_of(e, "what")));
    else
        json_object_del(o->open, text_of(e, "key"));
    atomic_store(&o->pending, json_object_size(o->open));
    uv_mutex_unlock(&o->open_lock);
}

static enum loam_status batch_entry(struct store_batch *b, const json_t *e, bool fresh, struct err *err) {
    char *text = json_dumps(e, JSON_COMPACT);
    const char *key = text_of(e, "key");
    enum loam_status s = LOAM_ENOMEM;
    if (!text)
        s = err_set(err, LOAM_ENOMEM, "no memory for the outbox");
    else if (fresh)
        s = store_batch_put_new(b, TABLE_OUTBOX, key, strlen(key), text, strlen(text), err);
    else
        s = store_batch_put(b, TABLE_OUTBOX, key, strlen(key), text, strlen(text), err);
    mem_free(text);
    return s;
}

static enum loam_status save(struct node *n, const json_t *e, struct err *err) {
    struct store_batch *b;
    enum loam_status s = store_batch_new(&b, err);
    if (s)
        return s;
    s = batch_entry(b, e, false, err);
    if (s) {
        store_batch_free(b);
        return s;
    }
    s = store_commit(n->store, b, err);
    if (!s)
        note(n, e);
    return s;
}

static bool on_l1(const json_t *e) {
    return json_integer_value(json_object_get(e, "layer")) == 1;
}

static enum loam_status chain_of(struct node *n, bool l1, struct chain **out, struct job *j, struct err *err) {
    struct anchor_service *a;
    enum loam_status s = node_chain_ready(n, out, j, err);
    if (!s && l1 && !(s = node_chain_l1(n, &a, err)))
        *out = anchor_service_l1(a);
    return s;
}

/* What is broadcast: the newest that has bytes. */
static json_t *newest(const json_t *e) {
    json_t *txs = json_object_get(e, "txs");
    for (size_t i = json_array_size(txs); i--;)
        if (*text_of(json_array_get(txs, i), "raw"))
            return json_array_get(txs, i);
    return NULL;
}

static void nonce_key(uint8_t k[28], const struct chain *c, const struct addr20 *a) {
    put_be64(k, chain_network(c));
    memcpy(k + 8, a->b, 20);
}

/* What a transaction does, apart from who pays how much gas: the same key must always mean the same. */
static struct hash32 digest_of(const struct outbox_tx *tx, const struct addr20 *from) {
    struct keccak k;
    uint8_t w[32];
    struct hash32 h;
    keccak_init(&k);
    keccak_add(&k, from->b, 20);
    w[0] = (uint8_t)((tx->to != NULL) | (tx->l1 ? 2 : 0));
    keccak_add(&k, w, 1);
    if (tx->to)
        keccak_add(&k, tx->to->b, 20);
    u256_to_be(w, tx->value);
    keccak_add(&k, w, 32);
    keccak_add(&k, tx->data, tx->len);
    keccak_end(&k, h.b);
    return h;
}

/* ---- results ---- */

void outbox_result_clear(struct outbox_result *r) {
    for (size_t i = 0; r->logs && i < r->log_count; i++)
        mem_free(r->logs[i].data);
    mem_free(r->logs);
    *r = (struct outbox_result){0};
}

static json_t *result_json(const struct outbox_result *r) {
    char hex[HASH_HEX_MAX], bh[HASH_HEX_MAX], addr[ADDR_HEX_MAX], fee[U256_DEC_MAX];
    json_t *logs = json_array();
    for (size_t i = 0; logs && i < r->log_count; i++) {
        json_t *topics = json_array();
        for (size_t k = 0; k < r->logs[i].topic_count; k++)
            json_array_append_new(topics, json_string(hash_hex(hex, &r->logs[i].topics[k])));
        json_array_append_new(logs,
                              json_pack("{s:s s:o s:o}", "address", addr_hex(addr, &r->logs[i].address),
                                        "topics", topics, "data", hex_json(r->logs[i].data, r->logs[i].len)));
    }
    u256_format(fee, r->fee);
    return json_pack("{s:s s:I s:s s:I s:I s:b s:s s:s s:o}", "tx", hash_hex(hex, &r->tx), "block",
                     (json_int_t)r->block, "block_hash", hash_hex(bh, &r->block_hash), "index",
                     (json_int_t)r->index, "gas_used", (json_int_t)r->gas_used, "ok", r->ok, "fee", fee,
                     "created", addr_hex(addr, &r->created), "logs", logs);
}

static enum loam_status result_parse(struct outbox_result *r, const json_t *o, struct err *err) {
    *r = (struct outbox_result){0};
    json_t *logs = json_object_get(o, "logs"), *l, *t;
    r->block = (uint64_t)json_integer_value(json_object_get(o, "block"));
    r->index = (uint64_t)json_integer_value(json_object_get(o, "index"));
    r->gas_used = (uint64_t)json_integer_value(json_object_get(o, "gas_used"));
    r->ok = json_is_true(json_object_get(o, "ok"));
    enum loam_status s = hash_parse(&r->tx, text_of(o, "tx"), err);
    if (!s)
        s = hash_parse(&r->block_hash, text_of(o, "block_hash"), err);
    if (!s)
        s = addr_parse(&r->created, text_of(o, "created"), err);
    if (!s)
        s = u256_parse(&r->fee, text_of(o, "fee"), err);
    size_t n = json_array_size(logs), i, k;
    if (!s && !(r->logs = mem_zarray(n ? n : 1, sizeof *r->logs)))
        s = err_set(err, LOAM_ENOMEM, "no memory for logs");
    json_array_foreach(logs, i, l) {
        if (s)
            break;
        struct outbox_log *g = &r->logs[i];
        r->log_count = i + 1;
        s = addr_parse(&g->address, text_of(l, "address"), err);
        json_array_foreach(json_object_get(l, "topics"), k, t) {
            if (!s && k < 4) {
                s = hash_parse(&g->topics[k], json_is_string(t) ? json_string_value(t) : "", err);
                g->topic_count = k + 1;
            }
        }
        struct buf b = BUF_INIT(LOG_DATA_MAX);
        const char *hex = text_of(l, "data");
        if (!s)
            s = hex_decode_buf(&b, hex, strlen(hex), err);
        g->data = buf_take(&b, &g->len);
        buf_clear(&b);
    }
    if (s)
        outbox_result_clear(r);
    return s;
}

static enum loam_status result_of(struct outbox_result *r, const struct chain_receipt *c, struct u256 price,
                                  struct err *err) {
    *r = (struct outbox_result){.tx = c->tx_hash,
                                .block_hash = c->block_hash,
                                .block = c->block,
                                .index = c->index,
                                .gas_used = c->gas_used,
                                .ok = c->ok,
                                .created = c->created};
    if (u256_mul(&r->fee, price, u256_from(c->gas_used)))
        return err_set(err, LOAM_ERANGE, "the fee does not fit");
    r->logs = mem_zarray(c->log_count ? c->log_count : 1, sizeof *r->logs);
    if (!r->logs)
        return err_set(err, LOAM_ENOMEM, "no memory for logs");
    for (size_t i = 0; i < c->log_count; i++) {
        struct outbox_log *g = &r->logs[i];
        const struct log *l = &c->logs[i];
        g->address = l->addr;
        g->topic_count = l->topic_count;
        memcpy(g->topics, l->topics, sizeof g->topics);
        g->len = l->data_len;
        g->data = mem_dup(l->data, l->data_len);
        r->log_count = i + 1;
        if (!g->data) {
            outbox_result_clear(r);
            return err_set(err, LOAM_ENOMEM, "no memory for logs");
        }
    }
    return LOAM_OK;
}

/* ---- listing ---- */

struct walk {
    json_t *list;
    bool open_only;
};

static bool add_entry(void *ctx, const struct store_item *item) {
    struct walk *w = ctx;
    json_t *e = json_loadb((const char *)item->value, item->vlen, 0, NULL);
    if (e && (!w->open_only || is_open(e))) {
        json_array_append_new(w->list, e);
        return true;
    }
    json_decref(e);
    return true;
}

static json_t *entries(struct node *n, bool open_only) {
    struct walk w = {json_array(), open_only};
    struct store_range all = {0};
    if (w.list && store_each(n->store, TABLE_OUTBOX, &all, add_entry, &w, NULL)) {
        json_decref(w.list);
        return NULL;
    }
    return w.list;
}

json_t *outbox_list(struct node *n) {
    json_t *all = entries(n, false), *out = json_array(), *e;
    size_t i;
    json_array_foreach(all, i, e) {
        json_t *r = json_object_get(e, "result"), *txs = json_object_get(e, "txs");
        const char *hash = text_of(json_array_get(txs, json_array_size(txs) - 1), "hash");
        json_t *o =
            json_pack("{s:s s:s s:I s:s s:s s:s s:I}", "key", text_of(e, "key"), "from", text_of(e, "from"),
                      "nonce", json_integer_value(json_object_get(e, "nonce")), "tx",
                      r ? text_of(r, "tx") : hash, "state", text_of(e, "state"), "what", text_of(e, "what"),
                      "sent_ms", json_integer_value(json_object_get(e, "sent_ms")));
        if (o && r)
            json_object_set(o, "block", json_object_get(r, "block"));
        size_t at = 0; /* newest first */
        while (at < json_array_size(out) &&
               json_integer_value(json_object_get(json_array_get(out, at), "sent_ms")) >
                   json_integer_value(json_object_get(e, "sent_ms")))
            at++;
        json_array_insert_new(out, at, o);
    }
    json_decref(all);
    return out;
}

static void publish(struct node *n) {
    struct outbox *o = n->outbox;
    json_t *list = json_array(), *e;
    const char *key;
    uv_mutex_lock(&n->p->publish);
    uv_mutex_lock(&o->open_lock);
    json_object_foreach(o->open, key, e) {
        json_array_append_new(list, json_deep_copy(e));
    }
    uv_mutex_unlock(&o->open_lock);
    topic_update(n, "chain", json_pack("{s:o}", "pending", list));
    uv_mutex_unlock(&n->p->publish);
}

size_t outbox_pending(struct node *n) {
    return n->outbox ? atomic_load(&n->outbox->pending) : 0;
}

void outbox_errors(struct node *n, const char *const *signatures) {
    n->outbox->errors = signatures;
}

enum loam_status outbox_open(struct node *n, struct err *err) {
    n->outbox = mem_zalloc(sizeof *n->outbox);
    if (!n->outbox)
        return err_set(err, LOAM_ENOMEM, "no memory for the outbox");
    uv_mutex_init(&n->outbox->lock);
    uv_mutex_init(&n->outbox->open_lock);
    json_t *left = entries(n, true), *e;
    size_t i;
    n->outbox->open = json_object();
    if (!left || !n->outbox->open) {
        json_decref(left);
        return err_set(err, LOAM_ENOMEM, "no memory for the outbox");
    }
    json_array_foreach(left, i, e) {
        note(n, e);
    }
    json_decref(left);
    publish(n);
    if (outbox_pending(n))
        log_info("outbox", "%zu transactions are still out", outbox_pending(n));
    return LOAM_OK;
}

void outbox_close(struct node *n) {
    if (!n->outbox)
        return;
    json_decref(n->outbox->open);
    uv_mutex_destroy(&n->outbox->open_lock);
    uv_mutex_destroy(&n->outbox->lock);
    mem_free(n->outbox);
    n->outbox = NULL;
}

/* ---- sending ---- */

static enum loam_status sign_by_keys(void *ctx, uint8_t sig[65], const struct hash32 *digest,
                                     struct err *err);
struct signing {
    struct node *n;
    const char *key;
};
static enum loam_status sign_by_keys(void *ctx, uint8_t sig[65], const struct hash32 *digest,
                                     struct err *err) {
    struct signing *g = ctx;
    return keys_sign(g->n, g->key, digest, sig, err);
}

/* Signs the entry's transaction with these fees and appends it to its txs. */
static enum loam_status add_signed(struct node *n, const struct chain *c, json_t *e, struct u256 max_fee, struct u256 tip,
                                   struct err *err) {
    struct signing g = {n, text_of(e, "from")};
    struct tx_signer signer = {.sign = sign_by_keys, .ctx = &g};
    struct tx t = {.type = TX_1559,
                   .chain_id = chain_network(c),
                   .nonce = (uint64_t)json_integer_value(json_object_get(e, "nonce")),
                   .gas = (uint64_t)json_integer_value(json_object_get(e, "gas")),
                   .gas_price = max_fee,
                   .priority = tip};
    struct buf data = BUF_INIT(OUTBOX_DATA_MAX), raw = BUF_INIT(OUTBOX_DATA_MAX + 1024);
    struct hash32 hash;
    const char *hex = text_of(e, "data");
    enum loam_status s = hex_decode_buf(&data, hex, strlen(hex), err);
    if (!s)
        s = addr_parse(&signer.addr, text_of(e, "address"), err);
    if (!s)
        s = u256_parse(&t.value, text_of(e, "value"), err);
    if (!s && json_is_string(json_object_get(e, "to")))
        s = addr_parse(&t.to, text_of(e, "to"), err);
    else
        t.create = true;
    t.data = data.data;
    t.data_len = data.len;
    if (!s)
        s = tx_sign(&raw, &hash, &t, &signer, err);
    if (!s) {
        char h[HASH_HEX_MAX], f[U256_DEC_MAX], p[U256_DEC_MAX];
        u256_format(f, max_fee);
        u256_format(p, tip);
        json_t *one = json_pack("{s:s s:o s:s s:s}", "hash", hash_hex(h, &hash), "raw",
                                hex_json(raw.data, raw.len), "max_fee", f, "tip", p);
        if (!one || json_array_append_new(json_object_get(e, "txs"), one) != 0)
            s = err_set(err, LOAM_ENOMEM, "no memory for the outbox");
    }
    buf_clear(&data);
    buf_clear(&raw);
    return s;
}

static enum loam_status revert_reason(struct node *n, enum loam_status s, const struct buf *data,
                                      struct err *err) {
    char reason[300];
    if (s != LOAM_EREVERT || !data->len)
        return s;
    return err_set(err, s, "reverted: %s",
                   abi_revert(reason, sizeof reason, data->data, data->len, n->outbox->errors));
}

static enum loam_status gas_price_limit(struct node *n, struct u256 *out, struct err *err) {
    return u256_mul(out, u256_from(option_uint(n->opt, "tx.gas-price-limit")), u256_from(1000000000))
               ? err_set(err, LOAM_ERANGE, "tx.gas-price-limit")
               : LOAM_OK;
}

/* Fees offered; never above the option's limit. */
static enum loam_status fees_now(struct node *n, struct chain *c, struct u256 *max_fee, struct u256 *tip,
                                 struct err *err) {
    struct u256 limit;
    enum loam_status s = gas_price_limit(n, &limit, err);
    if (!s)
        s = chain_fees(c, max_fee, tip, err);
    if (!s && u256_cmp(*max_fee, limit) > 0)
        *max_fee = limit;
    if (!s && u256_cmp(*tip, *max_fee) > 0)
        *tip = *max_fee;
    return s;
}

static enum loam_status next_nonce(struct node *n, struct chain *c, uint64_t *out, const struct addr20 *from,
                                   struct err *err) {
    uint8_t k[28];
    struct buf b = BUF_INIT(8);
    uint64_t chains;
    enum loam_status s = chain_nonce(c, &chains, from, err);
    if (s)
        return s;
    nonce_key(k, c, from);
    s = store_get(n->store, TABLE_NONCE, k, sizeof k, &b, err);
    if (s == LOAM_ENOTFOUND || (!s && b.len != 8)) {
        *out = chains;
        s = LOAM_OK;
    } else if (!s) {
        /* Ours may be ahead (sent, not mined yet, or lost by a reorganisation and sent again); the chain's
         * may be, when the key was used elsewhere. */
        uint64_t own = be64(b.data);
        *out = own > chains ? own : chains;
    }
    buf_clear(&b);
    return s;
}

/* What the L2 takes for L1 besides: by the data and, for what signing adds, 128 incompressible bytes. */
static enum loam_status add_l1_fee(struct u256 *need, struct chain *c, const struct outbox_tx *tx, uint64_t gas, struct err *err) {
    uint8_t rest[128];
    struct buf raw = BUF_INIT(OUTBOX_DATA_MAX + sizeof rest);
    struct u256 fee;
    for (size_t i = 0; i < sizeof rest; i++)
        rest[i] = (uint8_t)(i * 151 + 1);
    enum loam_status s = tx->len ? buf_add(&raw, tx->data, tx->len, err) : LOAM_OK;
    if (!s)
        s = buf_add(&raw, rest, sizeof rest, err);
    if (!s)
        s = anchor_data_fee(&fee, c, raw.data, raw.len, gas, err);
    if (!s && u256_add(need, *need, fee))
        s = err_set(err, LOAM_ERANGE, "the amount does not fit");
    buf_clear(&raw);
    return s;
}

static enum loam_status funds(struct node *n, struct chain *c, const struct outbox_tx *tx,
                              const struct addr20 *from, struct u256 max_fee, uint64_t gas, struct err *err) {
    struct account a;
    struct u256 cost, need;
    if (u256_mul(&cost, max_fee, u256_from(gas)) || u256_add(&need, cost, tx->value))
        return err_set(err, LOAM_ERANGE, "the amount does not fit");
    enum loam_status s = add_l1_fee(&need, c, tx, gas, err);
    if (!s)
        s = chain_account(c, &a, from, NULL, err);
    if (!s && u256_cmp(a.balance, need) < 0) {
        char hex[ADDR_HEX_MAX], have[U256_DEC_MAX + 2], want[U256_DEC_MAX + 2];
        u256_format_coin(have, a.balance);
        u256_format_coin(want, need);
        return err_set(err, LOAM_EFUNDS, "%s: %s (key %s) has %s %s, %s are needed with gas", tx->what,
                       addr_hex(hex, from), tx->from, have, tx->l1 ? "ether on L1" : "OPEN", want);
    }
    if (!s)
        s = keys_spend(n, tx->from, need, err);
    return s;
}

/* A new entry: nonce, signature, durable. Under the lock. old (NULL: none) is the entry of an attempt that reverted, which it takes the place
 * of; what was sent stays listed in it under "earlier". */
static enum loam_status prepare(struct node *n, struct chain *c, json_t **out, const char *key,
                                const struct outbox_tx *tx, const struct addr20 *from,
                                const struct hash32 *digest, const json_t *old, struct err *err) {
    struct u256 max_fee, tip;
    uint64_t gas = tx->gas, nonce;
    struct buf revert = BUF_INIT(1u << 20);
    char addr[ADDR_HEX_MAX], to[ADDR_HEX_MAX], value[U256_DEC_MAX], dig[HASH_HEX_MAX];
    enum loam_status s = fees_now(n, c, &max_fee, &tip, err);
    if (!s && !gas)
        s = revert_reason(n, chain_gas(c, &gas, &revert, from, tx->to, tx->data, tx->len, tx->value, err),
                          &revert, err);
    buf_clear(&revert);
    if (!s)
        s = next_nonce(n, c, &nonce, from, err);
    if (!s)
        s = funds(n, c, tx, from, max_fee, gas, err);
    if (s)
        return s;
    u256_format(value, tx->value);
    json_t *e = json_pack(
        "{s:s s:s s:s s:I s:s? s:s s:o s:I s:s s:s s:s s:I s:[]}", "key", key, "from", tx->from, "address",
        addr_hex(addr, from), "nonce", (json_int_t)nonce, "to", tx->to ? addr_hex(to, tx->to) : NULL, "value",
        value, "data", hex_json(tx->data, tx->len), "gas", (json_int_t)gas, "what", tx->what, "digest",
        hash_hex(dig, digest), "state", "signed", "sent_ms", (json_int_t)clock_unix_ms(), "txs");
    if (!e)
        return err_set(err, LOAM_ENOMEM, "no memory for the outbox");
    if (tx->l1)
        json_object_set_new(e, "layer", json_integer(1));
    if (old) {
        json_t *earlier = json_object_get(old, "earlier"), *r = json_object_get(old, "result");
        earlier = earlier ? json_deep_copy(earlier) : json_array();
        if (!earlier || json_array_append_new(earlier, json_pack("{s:O? s:O? s:O? s:O?}", "tx", json_object_get(r, "tx"), "block", json_object_get(r, "block"),
                                                                 "nonce", json_object_get(old, "nonce"), "txs", json_object_get(old, "txs"))) ||
            json_object_set_new(e, "earlier", earlier)) {
            json_decref(e);
            return err_set(err, LOAM_ENOMEM, "no memory for the outbox");
        }
    }
    s = add_signed(n, c, e, max_fee, tip, err);
    struct store_batch *b = NULL;
    if (!s)
        s = store_batch_new(&b, err);
    if (!s) {
        uint8_t k[28], v[8];
        nonce_key(k, c, from);
        put_be64(v, nonce + 1);
        s = batch_entry(b, e, !old, err);
        if (!s)
            s = store_batch_put(b, TABLE_NONCE, k, sizeof k, v, sizeof v, err);
        if (s)
            store_batch_free(b);
        else
            s = store_commit(n->store, b, err);
    }
    if (s) {
        json_decref(e);
        return s;
    }
    note(n, e);
    *out = e;
    return LOAM_OK;
}

static enum loam_status send_newest(struct chain *c, const json_t *e, struct err *err) {
    const char *hex = text_of(newest(e), "raw");
    struct buf raw = BUF_INIT(OUTBOX_DATA_MAX + 1024);
    struct hash32 hash;
    enum loam_status s = hex_decode_buf(&raw, hex, strlen(hex), err);
    if (!s)
        s = chain_send(c, &hash, raw.data, raw.len, err);
    buf_clear(&raw);
    return s;
}

/* What a reorganisation took may rest on what it took of others, and would revert before that is back. Such a one is held for a while: its nonce
 * is used up by a revert, and whoever sent it was told that it was done. */
static bool too_early(struct node *n, struct chain *c, const json_t *e) {
    json_t *lost = json_object_get(e, "lost");
    struct chain_head h;
    struct addr20 from, to;
    struct u256 value;
    struct buf data = BUF_INIT(OUTBOX_DATA_MAX);
    const char *hex = text_of(e, "data");
    uint64_t gas;
    struct err le;
    if (!lost || !json_is_string(json_object_get(e, "to")) || chain_head(c, &h, NULL) ||
        h.h.number > (uint64_t)json_integer_value(lost) + LOST_HELD + option_uint(n->opt, "tx.retry-depth"))
        return false;
    bool early = !hex_decode_buf(&data, hex, strlen(hex), NULL) && !addr_parse(&from, text_of(e, "address"), NULL) &&
                 !addr_parse(&to, text_of(e, "to"), NULL) && !u256_parse(&value, text_of(e, "value"), NULL) &&
                 chain_gas(c, &gas, NULL, &from, &to, data.data, data.len, value, &le) == LOAM_EREVERT;
    if (early)
        log_debug("outbox", "%s: it would revert on the new branch as yet; held back", text_of(e, "key"));
    buf_clear(&data);
    return early;
}

/* Sends the newest bytes of an entry. While reverted attempts that a reorganisation took are open, those instead: their nonces come first, without
 * them nothing later of this address can be mined, and should one of them execute now, the later one must not. What the RPC says against it is
 * remembered, not final: another one may have it. */
static enum loam_status broadcast(struct node *n, struct chain *c, const json_t *e, struct err *err) {
    size_t i;
    json_t *t;
    bool open = false;
    enum loam_status s = LOAM_OK;
    json_array_foreach(json_object_get(e, "earlier"), i, t) {
        if (!json_object_get(t, "block") && json_object_get(t, "txs")) {
            open = true;
            s = send_newest(c, t, err);
        }
    }
    if (open)
        return s == LOAM_ENONCE ? LOAM_OK : s;
    return too_early(n, c, e) ? LOAM_OK : send_newest(c, e, err);
}

/* Price paid for a unit of gas: min(max fee, base fee + tip) of the transaction that was mined. */
static struct u256 price_paid(const json_t *txs, const struct hash32 *tx, struct chain *c,
                              const struct chain_receipt *r) {
    struct u256 max_fee = U256_ZERO, tip = U256_ZERO, sum;
    char hex[HASH_HEX_MAX];
    struct header h;
    size_t i;
    json_t *t;
    hash_hex(hex, tx);
    json_array_foreach((json_t *)(uintptr_t)txs, i, t) {
        if (strcmp(text_of(t, "hash"), hex) == 0 &&
            (u256_parse(&max_fee, text_of(t, "max_fee"), NULL) || u256_parse(&tip, text_of(t, "tip"), NULL)))
            return U256_ZERO;
    }
    if (chain_header_by_hash(c, &h, &r->block_hash, NULL) || u256_add(&sum, h.base_fee, tip))
        return max_fee;
    return u256_cmp(sum, max_fee) < 0 ? sum : max_fee;
}

/* A receipt of any of these transactions, all of one nonce. LOAM_ENOTFOUND: none yet. */
static enum loam_status receipt_of(struct chain *c, json_t *txs, struct outbox_result *out, struct err *err) {
    enum loam_status s = LOAM_ENOTFOUND;
    size_t i;
    json_t *t;
    json_array_foreach(txs, i, t) {
        struct hash32 h;
        struct chain_receipt r = {0};
        s = hash_parse(&h, text_of(t, "hash"), err);
        if (!s)
            s = chain_receipt(c, &r, &h, err);
        if (!s) {
            s = result_of(out, &r, price_paid(txs, &h, c, &r), err);
            chain_receipt_clear(&r);
            return s;
        }
        if (s != LOAM_ENOTFOUND)
            return s;
    }
    return s;
}

static enum loam_status stand_in(struct node *n, struct chain *c, json_t **out, const json_t *e, struct err *err);
static bool is_void(const json_t *e, const struct hash32 *tx);

/* Attempts that reverted and whose blocks a reorganisation took: on the new branch they may come out otherwise. One that executes there is the
 * entry's result, and what was sent after it must not count besides. LOAM_ENOTFOUND: none did. */
static enum loam_status look_earlier(struct node *n, struct chain *c, json_t *e, struct outbox_result *out, struct err *err) {
    size_t i;
    json_t *t, *later = NULL;
    json_array_foreach(json_object_get(e, "earlier"), i, t) {
        if (json_object_get(t, "block") || !json_object_get(t, "txs"))
            continue;
        enum loam_status s = receipt_of(c, json_object_get(t, "txs"), out, err);
        if (s == LOAM_ENOTFOUND)
            continue;
        if (s)
            return s;
        json_object_set_new(t, "block", json_integer((json_int_t)out->block));
        if (!out->ok || is_void(t, &out->tx)) { /* again */
            outbox_result_clear(out);
            if ((s = save(n, e, err)))
                return s;
            continue;
        }
        struct err le;
        log_warn("outbox", "%s: after a reorganisation the first transaction executed; the one sent after it is taken back", text_of(e, "key"));
        if (stand_in(n, c, &later, e, &le))
            log_warn("outbox", "%s: it could not be: %s", text_of(e, "key"), le.text);
        json_object_set_new(e, "result", result_json(out));
        json_object_set_new(e, "state", json_string("confirmed"));
        s = save(n, e, err);
        publish(n);
        if (later && send_newest(c, later, &le) == LOAM_OK)
            log_info("outbox", "%s: sent", text_of(later, "key"));
        json_decref(later);
        return s;
    }
    return LOAM_ENOTFOUND;
}

/* Looks for a verified receipt of any of the entry's transactions. LOAM_ENOTFOUND: none yet. */
static enum loam_status look(struct node *n, struct chain *c, json_t *e, struct outbox_result *out,
                             struct err *err) {
    enum loam_status s = look_earlier(n, c, e, out, err);
    if (s != LOAM_ENOTFOUND)
        return s;
    if ((s = receipt_of(c, json_object_get(e, "txs"), out, err)))
        return s;
    char hex[HASH_HEX_MAX];
    if (out->ok && !strncmp(text_of(e, "key"), TAKEN_BACK, strlen(TAKEN_BACK)) && strcmp(hash_hex(hex, &out->tx), text_of(newest(e), "hash")) != 0)
        log_error("outbox", "%s executed besides an earlier one of the same order: it was mined before it could be taken back", hex);
    if (is_void(e, &out->tx))
        out->ok = false;
    json_t *j = result_json(out);
    if (!j)
        return err_set(err, LOAM_ENOMEM, "no memory for the receipt");
    json_object_set_new(e, "result", j);
    json_object_set_new(e, "state", json_string(out->ok ? "confirmed" : "failed"));
    json_object_del(e, "lost");
    s = save(n, e, err);
    publish(n);
    return s;
}

/* The newest transaction's fees an eighth higher: nodes take nothing less for a replacement. */
static enum loam_status raised(struct node *n, struct chain *c, const json_t *e, struct u256 *fee, struct u256 *tip, struct u256 *limit, struct err *err) {
    const json_t *last = newest(e);
    struct u256 more, now_fee, now_tip;
    enum loam_status s = u256_parse(fee, text_of(last, "max_fee"), err);
    if (!s)
        s = u256_parse(tip, text_of(last, "tip"), err);
    if (!s)
        s = fees_now(n, c, &now_fee, &now_tip, err);
    if (!s)
        s = gas_price_limit(n, limit, err);
    if (s)
        return s;
    u256_divmod(&more, NULL, *fee, u256_from(7));
    u256_add(fee, *fee, more);
    u256_add(fee, *fee, u256_from(1));
    u256_divmod(&more, NULL, *tip, u256_from(7));
    u256_add(tip, *tip, more);
    u256_add(tip, *tip, u256_from(1));
    if (u256_cmp(now_fee, *fee) > 0)
        *fee = now_fee;
    if (u256_cmp(now_tip, *tip) > 0)
        *tip = now_tip;
    return LOAM_OK;
}

/* As e, with its nonce and its transactions, and one more of higher fees that does nothing. */
static enum loam_status make_void(struct node *n, struct chain *c, json_t **out, const json_t *e, struct err *err) {
    struct u256 fee, tip, limit;
    char dig[HASH_HEX_MAX];
    struct addr20 at;
    enum loam_status s = raised(n, c, e, &fee, &tip, &limit, err);
    *out = NULL;
    if (!s)
        s = addr_parse(&at, text_of(e, "address"), err);
    if (!s)
        s = keys_unlocked(n, text_of(e, "from")) ? LOAM_OK : keys_unlock_unattended(n, text_of(e, "from"), err);
    if (s)
        return s;
    struct outbox_tx tx = {.from = text_of(e, "from"), .to = &at, .l1 = on_l1(e)};
    struct hash32 digest = digest_of(&tx, &at);
    json_t *v = json_pack("{s:s s:s s:s s:O s:s s:s s:s s:I s:s s:s s:s s:I s:o}", "key", text_of(e, "key"), "from", text_of(e, "from"), "address",
                          text_of(e, "address"), "nonce", json_object_get(e, "nonce"), "to", text_of(e, "address"), "value", "0", "data", "0x", "gas",
                          (json_int_t)PLAIN_GAS, "what", "instead of a transaction that is not wanted any more", "digest", hash_hex(dig, &digest), "state", "sent",
                          "sent_ms", (json_int_t)clock_unix_ms(), "txs", json_deep_copy(json_object_get(e, "txs")));
    if (!v)
        return err_set(err, LOAM_ENOMEM, "no memory for the outbox");
    if (tx.l1)
        json_object_set_new(v, "layer", json_integer(1));
    if ((s = add_signed(n, c, v, fee, tip, err))) {
        json_decref(v);
        return s;
    }
    *out = v;
    return LOAM_OK;
}

/* In the place of e's transaction, which is not wanted any more: one that does nothing, as an entry of its own that either of the two confirms. */
static enum loam_status stand_in(struct node *n, struct chain *c, json_t **out, const json_t *e, struct err *err) {
    char key[OUTBOX_KEY_MAX];
    enum loam_status s = make_void(n, c, out, e, err);
    if (s)
        return s;
    snprintf(key, sizeof key, TAKEN_BACK "%s/%lld", text_of(e, "address"), (long long)json_integer_value(json_object_get(e, "nonce")));
    json_object_set_new(*out, "key", json_string(key));
    if ((s = save(n, *out, err))) {
        json_decref(*out);
        *out = NULL;
    }
    return s;
}

/* Option tx.expire: a transaction that no block took for so long is taken back by one of the same nonce that does nothing. Whichever is mined
 * decides; the entry failed when it is the empty one, and may be sent anew. */
static bool expired(struct node *n, const json_t *e) {
    uint64_t s = option_uint(n->opt, "tx.expire"), now = clock_unix_ms(), sent = (uint64_t)json_integer_value(json_object_get(e, "sent_ms"));
    return s && now > sent && now - sent > 1000 * s && newest(e) && !json_is_true(json_object_get(newest(e), "void")) && !json_object_get(e, "lost");
}
static enum loam_status expire(struct node *n, struct chain *c, json_t *e, struct err *err) {
    json_t *v = NULL, *txs;
    enum loam_status s = make_void(n, c, &v, e, err);
    if (s)
        return s;
    txs = json_object_get(v, "txs");
    json_object_set_new(json_array_get(txs, json_array_size(txs) - 1), "void", json_true());
    json_object_set(e, "txs", txs);
    json_decref(v);
    if (!(s = save(n, e, err))) {
        log_warn("outbox", "%s: no block took it for %llu s (option tx.expire): taken back", text_of(e, "key"), (unsigned long long)option_uint(n->opt, "tx.expire"));
        s = send_newest(c, e, err);
    }
    return s;
}

/* Whether the receipt is that of the transaction that does nothing. */
static bool is_void(const json_t *e, const struct hash32 *tx) {
    char hex[HASH_HEX_MAX];
    size_t i;
    json_t *t;
    hash_hex(hex, tx);
    json_array_foreach(json_object_get(e, "txs"), i, t) {
        if (json_is_true(json_object_get(t, "void")) && strcmp(text_of(t, "hash"), hex) == 0)
            return true;
    }
    return false;
}

/* The same nonce with higher fees. */
static enum loam_status replace(struct node *n, struct chain *c, json_t *e, struct err *err) {
    struct u256 fee, tip, limit;
    if (json_array_size(json_object_get(e, "txs")) > REPLACE_MAX || json_is_true(json_object_get(newest(e), "void")))
        return LOAM_OK;
    enum loam_status s = raised(n, c, e, &fee, &tip, &limit, err);
    if (s)
        return s;
    if (u256_cmp(fee, limit) > 0)
        return LOAM_OK; /* as much as the user allows is out already */
    s = add_signed(n, c, e, fee, tip, err);
    if (!s)
        s = save(n, e, err);
    if (!s) {
        log_info("outbox", "%s: fee raised", text_of(e, "key"));
        s = broadcast(n, c, e, err);
    }
    return s;
}

static enum loam_status reverted(struct node *n, struct chain *c, const json_t *e, struct err *err) {
    /* The chain keeps no reason; the same call at the head mostly gives it. */
    struct addr20 from, to;
    struct u256 value;
    struct buf data = BUF_INIT(OUTBOX_DATA_MAX), back = BUF_INIT(1u << 20);
    const char *hex = text_of(e, "data");
    char reason[300] = "no reason known";
    struct hash32 tx;
    if (!hash_parse(&tx, text_of(json_object_get(e, "result"), "tx"), NULL) && is_void(e, &tx))
        return err_set(err, LOAM_ETIMEOUT, "%s: no block took it in time (option tx.expire), and it was taken back by %s; nothing was done", text_of(e, "what"),
                       text_of(json_object_get(e, "result"), "tx"));
    if (!hex_decode_buf(&data, hex, strlen(hex), NULL) && !addr_parse(&from, text_of(e, "address"), NULL) &&
        !addr_parse(&to, text_of(e, "to"), NULL) && !u256_parse(&value, text_of(e, "value"), NULL) &&
        chain_call(c, &back, &from, &to, data.data, data.len, value, NULL) == LOAM_EREVERT)
        abi_revert(reason, sizeof reason, back.data, back.len, n->outbox->errors);
    buf_clear(&data);
    buf_clear(&back);
    return err_set(err, LOAM_EREVERT, "%s: transaction %s reverted: %s", text_of(e, "what"),
                   text_of(json_object_get(e, "result"), "tx"), reason);
}

/* The entry as it stands now: another job may have forced it in. */
static enum loam_status again(struct node *n, json_t **e, struct err *err) {
    json_t *now = NULL;
    enum loam_status s = load(n, &now, text_of(*e, "key"), err);
    if (s)
        return s;
    json_decref(*e);
    *e = now;
    return LOAM_OK;
}

static enum loam_status wait_for(struct node *n, struct chain *c, json_t **at, struct outbox_result *out,
                                 struct job *j, struct err *err) {
    json_t *e = *at;
    uint64_t sent = clock_mono_us(), raised = sent;
    struct err said = {LOAM_OK, ""};
    enum loam_status b = broadcast(n, c, e, &said);
    if (!b && strcmp(text_of(e, "state"), "signed") == 0) {
        uv_mutex_lock(&n->outbox->lock);
        enum loam_status s = again(n, at, err);
        e = *at;
        if (!s && strcmp(text_of(e, "state"), "signed") == 0) {
            json_object_set_new(e, "state", json_string("sent"));
            s = save(n, e, err);
        }
        uv_mutex_unlock(&n->outbox->lock);
        if (s)
            return s;
    }
    if (b && b != LOAM_ENONCE)
        log_warn("outbox", "%s: %s", text_of(e, "key"), said.text);
    for (;;) {
        uv_mutex_lock(&n->outbox->lock);
        enum loam_status s = again(n, at, err);
        uv_mutex_unlock(&n->outbox->lock);
        e = *at;
        if (s)
            return s;
        if (!is_open(e)) { /* confirmed by whoever looked first */
            s = result_parse(out, json_object_get(e, "result"), err);
            return s ? s : out->ok ? LOAM_OK : reverted(n, c, e, err);
        }
        s = look(n, c, e, out, err);
        if (s == LOAM_OK)
            return out->ok ? LOAM_OK : reverted(n, c, e, err);
        if (s != LOAM_ENOTFOUND)
            log_warn("outbox", "%s: %s", text_of(e, "key"), err ? err->text : status_text(s));
        uint64_t now = clock_mono_us();
        if (b == LOAM_ENONCE && now - sent > REBROADCAST_MS * 1000ull)
            return err_set(err, LOAM_ENONCE,
                           "%s: nonce %lld of %s was used by a transaction that this node did not send, or "
                           "its receipt is withheld; nothing more is sent under %s",
                           text_of(e, "what"), (long long)json_integer_value(json_object_get(e, "nonce")),
                           text_of(e, "address"), text_of(e, "key"));
        if (b != LOAM_ENONCE && now - raised > option_uint(n->opt, "tx.replace-after") * 1000000ull) {
            struct err re;
            uv_mutex_lock(&n->outbox->lock);
            enum loam_status rs = again(n, at, &re);
            e = *at;
            if (rs || (is_open(e) && (rs = expired(n, e) ? expire(n, c, e, &re) : replace(n, c, e, &re))))
                log_warn("outbox", "%s: %s", text_of(e, "key"), re.text);
            uv_mutex_unlock(&n->outbox->lock);
            raised = sent = now;
        } else if (b != LOAM_ENONCE && now - sent > REBROADCAST_MS * 1000ull) {
            b = broadcast(n, c, e, &said);
            sent = now;
        }
        s = j ? job_sleep_ms(j, POLL_MS, err) : LOAM_OK;
        if (s)
            return s; /* the transaction stays out; the same key finds it again */
        if (!j)
            uv_sleep(POLL_MS);
    }
}

/* A transaction that reverted did nothing but pay gas, so that its key may be used anew, with other contents too: under a later nonce, which
 * cannot count together with it unless its block goes. That is waited for on chains where blocks go, and an attempt that would revert again is
 * not sent: prepare says why. Should a deeper reorganisation take both, both are sent again in their order, and the one that executes first is
 * the result: look_earlier. */
static enum loam_status retry_allowed(struct node *n, struct chain *c, const json_t *e, const char *what, struct err *err) {
    json_t *r = json_object_get(e, "result");
    struct chain_head h;
    enum loam_status s = chain_head(c, &h, err);
    if (s)
        return s;
    uint64_t block = (uint64_t)json_integer_value(json_object_get(r, "block")), head = h.h.number,
             depth = node_chain_is_dev(n) ? 0 : option_uint(n->opt, "tx.retry-depth");
    if (json_array_size(json_object_get(e, "earlier")) >= ATTEMPTS_MAX)
        return err_set(err, LOAM_ELIMIT, "%s: %d transactions reverted under the key %s; nothing more is sent under it", what, ATTEMPTS_MAX + 1, text_of(e, "key"));
    if (head < block + depth)
        return err_set(err, LOAM_EREVERT,
                       "%s: transaction %s reverted in block %llu; another is sent from block %llu on (option tx.retry-depth), when no reorganisation "
                       "can make both count",
                       what, text_of(r, "tx"), (unsigned long long)block, (unsigned long long)(block + depth));
    return LOAM_OK;
}

enum loam_status outbox_send(struct node *n, struct outbox_result *out, const char *key,
                             const struct outbox_tx *tx, struct job *j, struct err *err) {
    struct chain *c;
    struct addr20 from;
    json_t *e = NULL;
    *out = (struct outbox_result){0};
    if (!*key || strlen(key) > OUTBOX_KEY_MAX)
        return err_set(err, LOAM_EINVAL, "outbox keys have 1 to %d bytes", OUTBOX_KEY_MAX);
    if (tx->len > OUTBOX_DATA_MAX)
        return err_set(err, LOAM_ELIMIT, "%s: %zu bytes of calldata; the most is %u", tx->what, tx->len,
                       OUTBOX_DATA_MAX);
    enum loam_status s = keys_address(n, tx->from, &from, err);
    if (!s)
        s = chain_of(n, tx->l1, &c, j, err);
    if (!s && tx->l1 && (s = chain_sync(c, err)) == LOAM_ESTALE) /* its head is looked at once a minute */
        s = LOAM_OK;
    if (s)
        return s;
    struct hash32 digest = digest_of(tx, &from);
    uv_mutex_lock(&n->outbox->lock);
    s = load(n, &e, key, err);
    json_t *old = NULL;
    if (s == LOAM_OK && strcmp(text_of(e, "state"), "failed") == 0) {
        old = e;
        e = NULL;
        s = retry_allowed(n, c, old, tx->what, err);
        if (!s) {
            log_info("outbox", "%s: %s reverted; sent anew", key, text_of(json_object_get(old, "result"), "tx"));
            s = LOAM_ENOTFOUND;
        }
    } else if (s == LOAM_OK) {
        char hex[HASH_HEX_MAX];
        if (strcmp(text_of(e, "digest"), hash_hex(hex, &digest)) != 0)
            s = err_set(err, LOAM_ESTATE, "%s: another transaction was sent under the key %s", tx->what, key);
    }
    if (s == LOAM_ENOTFOUND) {
        s = keys_unlocked(n, tx->from) ? LOAM_OK : keys_unlock_unattended(n, tx->from, err);
        if (!s)
            s = prepare(n, c, &e, key, tx, &from, &digest, old, err);
    }
    json_decref(old);
    uv_mutex_unlock(&n->outbox->lock);
    if (!s)
        publish(n);
    if (!s && !is_open(e)) {
        s = result_parse(out, json_object_get(e, "result"), err);
        if (!s && !out->ok)
            s = reverted(n, c, e, err);
    } else if (!s) {
        s = wait_for(n, c, &e, out, j, err);
    }
    json_decref(e);
    return s;
}

enum loam_status outbox_stuck(struct node *n, json_t **entry, const char *key, struct err *err) {
    enum loam_status s = LOAM_ENOTFOUND;
    json_t *open = entries(n, true), *e, *first;
    size_t i;
    *entry = NULL;
    if (key) {
        s = load(n, entry, key, err);
    } else {
        json_array_foreach(open, i, e) {
            if (!on_l1(e) && (!*entry || json_integer_value(json_object_get(e, "sent_ms")) < json_integer_value(json_object_get(*entry, "sent_ms"))))
                *entry = e;
        }
        json_incref(*entry);
        s = *entry ? LOAM_OK : err_set(err, LOAM_ENOTFOUND, "no transaction is out; see: chain pending");
    }
    first = *entry;
    json_array_foreach(open, i, e) {
        if (!s && !on_l1(e) && strcmp(text_of(e, "address"), text_of(first, "address")) == 0 &&
            json_integer_value(json_object_get(e, "nonce")) < json_integer_value(json_object_get(first, "nonce")))
            first = e;
    }
    if (!s && first != *entry && is_open(*entry) && !on_l1(*entry)) {
        if (key) {
            s = err_set(err, LOAM_ESTATE, "%s of the same key comes before it; send that first: chain force %s", text_of(first, "key"), text_of(first, "key"));
            json_decref(*entry);
            *entry = NULL;
        } else {
            json_decref(*entry);
            *entry = json_incref(first);
        }
    }
    json_decref(open);
    if (!s && (!is_open(*entry) || on_l1(*entry))) {
        s = err_set(err, LOAM_ESTATE, on_l1(*entry) ? "%s goes to L1 itself" : "%s is confirmed already", text_of(*entry, "key"));
        json_decref(*entry);
        *entry = NULL;
    }
    return s == LOAM_ENOTFOUND && key ? err_set(err, s, "no transaction was sent under the key %s; see: chain pending", key) : s;
}

enum loam_status outbox_forced(struct node *n, const char *key, const struct hash32 *tx, struct err *err) {
    json_t *e = NULL, *t;
    char hex[HASH_HEX_MAX];
    size_t i;
    bool known = false;
    hash_hex(hex, tx);
    uv_mutex_lock(&n->outbox->lock);
    enum loam_status s = load(n, &e, key, err);
    json_array_foreach(json_object_get(e, "txs"), i, t) {
        known = known || strcmp(text_of(t, "hash"), hex) == 0;
    }
    if (!s && !known && is_open(e)) {
        if (json_array_append_new(json_object_get(e, "txs"), json_pack("{s:s s:b}", "hash", hex, "forced", 1)))
            s = err_set(err, LOAM_ENOMEM, "no memory for the outbox");
        else
            s = save(n, e, err);
    }
    uv_mutex_unlock(&n->outbox->lock);
    json_decref(e);
    return s;
}

/* Under the lock. */
static enum loam_status sign_anew(struct node *n, struct chain *c, json_t *e, struct err *err) {
    struct u256 fee, tip;
    struct addr20 from;
    struct store_batch *b = NULL;
    uint64_t nonce;
    uint8_t k[28], v[8];
    enum loam_status s = addr_parse(&from, text_of(e, "address"), err);
    if (!s)
        s = keys_unlocked(n, text_of(e, "from")) ? LOAM_OK : keys_unlock_unattended(n, text_of(e, "from"), err);
    if (!s)
        s = fees_now(n, c, &fee, &tip, err);
    if (!s)
        s = next_nonce(n, c, &nonce, &from, err);
    if (s)
        return s;
    json_object_set_new(e, "nonce", json_integer((json_int_t)nonce));
    json_object_set_new(e, "txs", json_array());
    if ((s = add_signed(n, c, e, fee, tip, err)) || (s = store_batch_new(&b, err)))
        return s;
    nonce_key(k, c, &from);
    put_be64(v, nonce + 1);
    if ((s = batch_entry(b, e, false, err)) || (s = store_batch_put(b, TABLE_NONCE, k, sizeof k, v, sizeof v, err))) {
        store_batch_free(b);
        return s;
    }
    if (!(s = store_commit(n->store, b, err)))
        note(n, e);
    return s;
}

enum loam_status outbox_used(struct node *n, const struct addr20 *address, uint64_t nonce, const char *except, struct err *err) {
    char hex[ADDR_HEX_MAX];
    struct chain *c;
    struct err le;
    json_t *open, *e;
    size_t i;
    enum loam_status s = chain_of(n, false, &c, NULL, err);
    if (s)
        return s;
    addr_hex(hex, address);
    uv_mutex_lock(&n->outbox->lock);
    open = entries(n, true);
    json_array_foreach(open, i, e) {
        if (s || on_l1(e) || strcmp(text_of(e, "address"), hex) != 0 || (uint64_t)json_integer_value(json_object_get(e, "nonce")) != nonce ||
            strcmp(text_of(e, "key"), except) == 0)
            continue;
        if ((s = sign_anew(n, c, e, err)))
            break;
        log_info("outbox", "%s: its nonce %llu was used by a deposit; signed anew", text_of(e, "key"), (unsigned long long)nonce);
        if (send_newest(c, e, &le))
            log_warn("outbox", "%s: %s", text_of(e, "key"), le.text);
    }
    uv_mutex_unlock(&n->outbox->lock);
    json_decref(open);
    publish(n);
    return s;
}

enum loam_status outbox_wait(struct node *n, struct outbox_result *out, const char *key, struct job *j, struct err *err) {
    struct chain *c;
    json_t *e = NULL;
    *out = (struct outbox_result){0};
    enum loam_status s = load(n, &e, key, err);
    if (!s)
        s = chain_of(n, on_l1(e), &c, j, err);
    if (!s)
        s = wait_for(n, c, &e, out, j, err);
    json_decref(e);
    return s;
}

enum loam_status outbox_find(struct node *n, struct outbox_result *out, const char *key, struct err *err) {
    json_t *e = NULL;
    *out = (struct outbox_result){0};
    enum loam_status s = load(n, &e, key, err);
    if (!s)
        s = is_open(e) ? err_set(err, LOAM_ESTATE, "%s is not confirmed yet", key)
                       : result_parse(out, json_object_get(e, "result"), err);
    json_decref(e);
    return s;
}

enum loam_status outbox_call(struct node *n, uint8_t **out, size_t *len, const struct addr20 *to,
                             const uint8_t *data, size_t data_len, struct err *err) {
    struct chain *c;
    struct buf b = BUF_INIT(ABI_DATA_MAX);
    enum loam_status s = node_chain_ready(n, &c, NULL, err);
    if (!s)
        s = revert_reason(n, chain_call(c, &b, NULL, to, data, data_len, U256_ZERO, err), &b, err);
    if (!s && !b.data)
        s = buf_reserve(&b, 1, err);
    if (!s)
        *out = buf_take(&b, len);
    buf_clear(&b);
    return s;
}

/* ---- what nobody waits for ---- */

static enum loam_status keep(struct job *j, void *arg, struct err *err) {
    struct node *n = arg;
    struct chain *c;
    json_t *open, *e;
    size_t i;
    enum loam_status s = node_chain_need(n, &c, err);
    if (s)
        return s;
    open = entries(n, true);
    json_array_foreach(open, i, e) {
        struct outbox_result r = {0};
        struct err le;
        if (job_cancelled(j))
            break;
        if (json_object_get(e, "lost"))
            atomic_store(&n->outbox->hurry, true);
        if (chain_of(n, on_l1(e), &c, NULL, &le))
            continue;
        s = look(n, c, e, &r, &le);
        if (s == LOAM_ENOTFOUND && (json_object_get(e, "lost") || clock_unix_ms() - (uint64_t)json_integer_value(json_object_get(e, "sent_ms")) > REBROADCAST_MS))
            s = broadcast(n, c, e, &le);
        if (s == LOAM_ENOTFOUND && expired(n, e)) {
            uv_mutex_lock(&n->outbox->lock);
            json_t *now = json_incref(e);
            if (again(n, &now, &le) || (is_open(now) && expired(n, now) && expire(n, c, now, &le)))
                log_warn("outbox", "%s: %s", text_of(e, "key"), le.text);
            json_decref(now);
            uv_mutex_unlock(&n->outbox->lock);
        }
        outbox_result_clear(&r);
    }
    json_decref(open);
    return LOAM_OK;
}

static void kept(struct job *j, void *arg, enum loam_status s, const struct err *err) {
    struct node *n = arg;
    (void)j;
    (void)s;
    (void)err;
    atomic_store(&n->outbox->keeping, false);
}

void outbox_tick(struct node *n) {
    struct outbox *o = n->outbox;
    uint64_t now = clock_mono_us();
    if (!outbox_pending(n) || node_stopping(n) || now - o->keeper_us < (atomic_load(&o->hurry) ? HURRY_MS : KEEPER_MS) * 1000ull ||
        atomic_exchange(&o->keeping, true))
        return;
    o->keeper_us = now;
    atomic_store(&o->hurry, false);
    struct job_def def = {.title = "outbox", .run = keep, .end = kept, .arg = n};
    uint64_t id;
    if (job_start(n, &id, &def, NULL))
        atomic_store(&o->keeping, false);
}

/* On the light client's thread, before the headers go. */
enum loam_status outbox_undo(struct node *n, bool l1, uint64_t common, struct err *err) {
    json_t *all = entries(n, false), *e;
    size_t i;
    enum loam_status s = all ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for the outbox");
    json_array_foreach(all, i, e) {
        json_t *r = json_object_get(e, "result"), *t;
        size_t k;
        bool lost = r && (uint64_t)json_integer_value(json_object_get(r, "block")) > common, open = false;
        if (s || on_l1(e) != l1)
            continue;
        json_array_foreach(json_object_get(e, "earlier"), k, t) {
            if (json_object_get(t, "block") && (uint64_t)json_integer_value(json_object_get(t, "block")) > common)
                open = json_object_del(t, "block") == 0;
        }
        if (!lost && !open)
            continue;
        log_warn("outbox", "%s: its block was replaced; it is sent again", text_of(e, "key"));
        if (lost) {
            json_object_set_new(e, "state", json_string("sent"));
            json_object_del(e, "result");
            json_object_set_new(e, "lost", json_integer((json_int_t)common));
        }
        s = save(n, e, err);
    }
    json_decref(all);
    publish(n);
    atomic_store(&n->outbox->hurry, true);
    return s;
}
