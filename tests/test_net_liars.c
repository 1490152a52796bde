/* A scripted lying RPC and feed: each lie is refused with its own code, costs the endpoint its score, and the client goes on
 * with an honest one. The unaltered answers pass (run first, and beside every lie). */
#include "test.h"

#include "base/clock.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "net/abi.h"
#include "net/anchor.h"
#include "net/bloom.h"
#include "net/hexjson.h"
#include "net/server.h"
#include "sim.h"

#define BLOCKS 40

static uv_loop_t loop;
static uv_thread_t loop_thread;
static uv_async_t quit;
static struct http *http;
static struct server *server;
static uv_mutex_t lock; /* guards sim and the script */
static struct sim sim, l1;
static char honest_url[64], liar_url[64], feed_url[64], old_url[64];
static bool archive_lies;

/* What the liar does to one method's answer. twist gets the honest result and may replace it. */
struct lie;
typedef void (*twist_fn)(json_t **result, const json_t *params);
enum op { SYNC, CHECK, SLOTS, CODE, BLOCK, RECEIPT, SEND, LOGS, FEED };
struct lie {
    const char *name, *method;
    twist_fn twist;
    int raw; /* instead: a transport lie */
    enum op op;
    enum loam_status code;
    bool costs; /* the score falls (an honest "no" does not) */
};
static const struct lie *script;
static json_t *feed_next;
static struct buf gossip_next = BUF_INIT(PAYLOAD_MAX);

enum { RAW_NONE, RAW_EMPTY, RAW_NOT_JSON, RAW_ARRAY, RAW_DUPLICATE, RAW_ID, RAW_NOTHING, RAW_ERROR, RAW_500, RAW_429, RAW_302, RAW_GZIP, RAW_ENDLESS, RAW_CUT, RAW_SLOW, RAW_BIG_HEADER, RAW_HTML, RAW_TRUNCATED_JSON };

/* ---- the server ---- */

static struct server_reply *held[64]; /* answers that never come; freed at the end */
static size_t held_n;

static bool raw_answer(int raw, struct server_reply *r, json_int_t id) {
    char text[256];
    static const char *const gz[] = {"Content-Encoding: gzip", NULL};
    static const char *const to[] = {"Location: http://127.0.0.1:1/", NULL};
    const char *type = "application/json";
    switch (raw) {
    case RAW_EMPTY: server_send(r, 200, type, "", 0); return true;
    case RAW_NOT_JSON: server_send(r, 200, type, "{nonsense", 9); return true;
    case RAW_TRUNCATED_JSON: server_send(r, 200, type, "{\"jsonrpc\":\"2.0\",\"id\":", 22); return true;
    case RAW_HTML: server_send(r, 200, "text/html", "<html>busy</html>", 17); return true;
    case RAW_ARRAY: server_send(r, 200, type, "[1]", 3); return true;
    case RAW_DUPLICATE:
        snprintf(text, sizeof text, "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"id\":%lld,\"result\":\"0x1\"}", (long long)id, (long long)id);
        server_send(r, 200, type, text, strlen(text));
        return true;
    case RAW_ID:
        snprintf(text, sizeof text, "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"result\":null}", (long long)id + 1);
        server_send(r, 200, type, text, strlen(text));
        return true;
    case RAW_NOTHING:
        snprintf(text, sizeof text, "{\"jsonrpc\":\"2.0\",\"id\":%lld}", (long long)id);
        server_send(r, 200, type, text, strlen(text));
        return true;
    case RAW_ERROR:
        snprintf(text, sizeof text, "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"error\":{\"code\":-32000,\"message\":\"no\\u001b[31m\"}}", (long long)id);
        server_send(r, 200, type, text, strlen(text));
        return true;
    case RAW_500: server_send(r, 500, "text/plain", "boom", 4); return true;
    case RAW_429: server_send(r, 429, "text/plain", "slow down", 9); return true;
    case RAW_302:
        if (!server_begin(r, 302, type, 0, to, NULL))
            server_end(r);
        return true;
    case RAW_GZIP:
        if (!server_begin(r, 200, type, 2, gz, NULL) && !server_write(r, "\x1f\x8b", 2, NULL))
            server_end(r);
        return true;
    case RAW_ENDLESS:
        if (!server_begin(r, 200, type, -1, NULL, NULL)) {
            char *big = calloc(1, 1 << 20);
            for (int i = 0; i < 10; i++)
                if (server_write(r, big, 1 << 20, NULL))
                    break;
            free(big);
            server_end(r);
        }
        return true;
    case RAW_CUT:
        if (!server_begin(r, 200, type, 100, NULL, NULL) && !server_write(r, "{\"jsonrpc\"", 10, NULL))
            held[held_n++ % 64] = r; /* closed by a timer of the test: see cut_later */
        return true;
    case RAW_SLOW: held[held_n++ % 64] = r; return true;
    case RAW_BIG_HEADER: {
        char *h = malloc(7000);
        memset(h, 'a', 6999);
        memcpy(h, "X-Long: ", 8);
        h[6999] = 0;
        const char *const hs[] = {h, NULL};
        if (!server_begin(r, 200, type, 0, hs, NULL))
            server_end(r);
        free(h);
        return true;
    }
    default: return false;
    }
}

/* One question's answer. */
static json_t *answer(json_t *m, bool liar, struct sim *chain) {
    const char *method = json_string_value(json_object_get(m, "method"));
    json_t *params = json_object_get(m, "params");
    json_int_t id = json_integer_value(json_object_get(m, "id"));
    uv_mutex_lock(&lock);
    json_t *result = sim_answer(chain, method, params);
    if (liar && script && script->twist && (!script->method || !strcmp(script->method, method)))
        script->twist(&result, params);
    uv_mutex_unlock(&lock);
    return result ? json_pack("{s:s,s:I,s:o}", "jsonrpc", "2.0", "id", id, "result", result)
                  : json_pack("{s:s,s:I,s:{s:i,s:s}}", "jsonrpc", "2.0", "id", id, "error", "code", -32601, "message", "no such method");
}

static unsigned batches, singles;
static int batch_lie; /* 1: one answer left out, 2: one twice, 3: another id, 4: an error inside */
static unsigned refused;   /* batches that were not taken */
static int batch_status;   /* HTTP status that batches get; 0: they are taken */
static int batch_code;     /* code of the error object that /single answers to a batch */

static void rpc_handler(const struct server_request *q, struct server_reply *r) {
    bool old = q->arg == &old_url, liar = q->arg == &sim || (old && archive_lies), was = sim.no_old_proofs, one_by_one = !strcmp(q->path, "/single");
    json_t *m = json_loadb((const char *)q->body, q->body_len, 0, NULL), *first = json_is_array(m) ? json_array_get(m, 0) : m, *a, *x;
    const char *method = json_string_value(json_object_get(first, "method"));
    json_int_t id = json_integer_value(json_object_get(first, "id"));
    size_t i;
    uv_mutex_lock(&lock);
    int raw = liar && script && (!script->method || !strcmp(script->method, method)) ? script->raw : 0;
    uv_mutex_unlock(&lock);
    if (raw) {
        raw_answer(raw, r, id);
        json_decref(m);
        return;
    }
    if (old) {
        uv_mutex_lock(&lock);
        sim.no_old_proofs = false;
        uv_mutex_unlock(&lock);
    }
    if (json_is_array(m) && batch_status) {
        refused++;
        server_send(r, batch_status, "text/plain", "no", 2);
        json_decref(m);
        return;
    }
    if (json_is_array(m) && one_by_one) {
        refused++;
        a = json_pack("{s:s,s:n,s:{s:i,s:s}}", "jsonrpc", "2.0", "id", "error", "code", batch_code, "message", "no batches");
    } else if (json_is_array(m)) {
        batches++;
        a = json_array();
        json_array_foreach(m, i, x) json_array_insert_new(a, 0, answer(x, liar, q->arg == &l1 ? &l1 : &sim)); /* in another order */
        if (batch_lie == 1)
            json_array_remove(a, 0);
        if (batch_lie == 2)
            json_array_set(a, 0, json_array_get(a, 1));
        if (batch_lie == 3)
            json_object_set_new(json_array_get(a, 0), "id", json_integer(1));
        if (batch_lie == 4)
            json_object_set_new(json_array_get(a, 0), "error", json_pack("{s:i,s:s}", "code", -32000, "message", "busy"));
    } else {
        singles++;
        a = answer(m, liar, q->arg == &l1 ? &l1 : &sim);
    }
    if (old) {
        uv_mutex_lock(&lock);
        sim.no_old_proofs = was;
        uv_mutex_unlock(&lock);
    }
    char *text = json_dumps(a, JSON_COMPACT);
    server_send(r, 200, "application/json", text, strlen(text));
    free(text);
    json_decref(a);
    json_decref(m);
}

static void feed_handler(const struct server_request *q, struct server_reply *r) {
    uv_mutex_lock(&lock);
    char *text = json_dumps(feed_next ? feed_next : json_null(), JSON_COMPACT | JSON_ENCODE_ANY);
    uv_mutex_unlock(&lock);
    server_send(r, 200, "application/json", text, strlen(text));
    free(text);
}

static void gossip_handler(const struct server_request *q, struct server_reply *r) {
    uv_mutex_lock(&lock);
    server_send(r, 200, "application/octet-stream", gossip_next.len ? gossip_next.data : (const uint8_t *)"", gossip_next.len);
    uv_mutex_unlock(&lock);
}

static const struct server_route routes[] = {
    {"POST", "/honest", rpc_handler, NULL}, {"POST", "/liar", rpc_handler, &sim}, {"POST", "/l1", rpc_handler, &l1}, {"POST", "/single", rpc_handler, NULL}, {"POST", "/old", rpc_handler, &old_url}, {"GET", "/feed/latest", feed_handler, NULL}, {"GET", "/gossip/latest", gossip_handler, NULL}, {0}};

static void http_gone(void *arg) {
    uv_close((uv_handle_t *)&quit, NULL);
}
static void server_gone_cb(void *arg) {
    for (size_t i = 0; i < held_n && i < 64; i++)
        server_abort(held[i]);
    http_close(http, http_gone, NULL);
}
static void on_quit(uv_async_t *a) {
    server_close(server, server_gone_cb, NULL);
}
static void run_loop(void *arg) {
    uv_run(&loop, UV_RUN_DEFAULT);
}

static int setup(void **state) {
    struct err e;
    uv_mutex_init(&lock);
    uv_loop_init(&loop);
    uv_async_init(&loop, &quit, on_quit);
    OK(http_new(&http, &loop, &(struct http_config){.no_proxy = true}, &e));
    OK(server_new(&server, &loop, &(struct server_config){.routes = routes}, &e));
    snprintf(honest_url, sizeof honest_url, "http://127.0.0.1:%u/honest", server_port(server));
    snprintf(liar_url, sizeof liar_url, "http://127.0.0.1:%u/liar", server_port(server));
    snprintf(old_url, sizeof old_url, "http://127.0.0.1:%u/old", server_port(server));
    snprintf(feed_url, sizeof feed_url, "http://127.0.0.1:%u/feed", server_port(server));
    sim_init(&sim, 1301, false, clock_unix_ms() / 1000 - 2 * BLOCKS);
    for (int i = 1; i < BLOCKS; i++)
        sim_mine(&sim, i % 3 == 0);
    uv_thread_create(&loop_thread, run_loop, NULL);
    return 0;
}
static int teardown(void **state) {
    uv_async_send(&quit);
    uv_thread_join(&loop_thread);
    sim_clear(&sim);
    buf_clear(&gossip_next);
    json_decref(feed_next);
    return uv_loop_close(&loop);
}

/* ---- clients ---- */

struct client {
    struct rpc *rpc;
    struct chain *c;
    struct chain_store store;
    unsigned reorgs;
};
static enum loam_status on_reorg(void *arg, const struct chain_reorg *r, struct err *err) {
    struct client *k = arg;
    k->reorgs++;
    return LOAM_OK;
}
/* Honest answers may come late on a busy machine: only who is asked to be slow is given up early. */
#define PATIENT_MS 60000
#define HASTY_MS 400
static void open_client_timed(struct client *k, const char *const *urls, const struct chain_config *more, uint64_t timeout_ms) {
    struct err e;
    memset(k, 0, sizeof *k);
    OK(rpc_new(&k->rpc, http, &(struct rpc_config){.urls = urls, .timeout_ms = timeout_ms, .max_body = 4 << 20}, &e));
    OK(chain_store_memory(&k->store, &e));
    struct chain_config cfg = {0};
    if (more)
        cfg = *more;
    cfg.chain_id = 1301;
    cfg.rules = sim.rules;
    struct tx_signer seq;
    OK(tx_signer_from_key(&seq, sim_sequencer_key, &e));
    cfg.signers[0] = seq.addr;
    cfg.signer_count = 1;
    cfg.feeds[0] = feed_url;
    cfg.feed_count = 1;
    struct chain_events ev = {.arg = k, .reorg = on_reorg};
    OK(chain_new(&k->c, &cfg, k->rpc, &k->store, &ev, &e));
}
static void open_client(struct client *k, const char *const *urls, const struct chain_config *more) {
    open_client_timed(k, urls, more, PATIENT_MS);
}
static void close_client(struct client *k) {
    chain_free(k->c);
    chain_store_memory_free(&k->store);
    rpc_free(k->rpc);
}

static enum loam_status count_log(void *arg, const struct log *l, struct err *err) {
    ++*(unsigned *)arg;
    return LOAM_OK;
}

static enum loam_status act(struct client *k, enum op op, struct err *e) {
    struct hash32 slots[3] = {{{0}}, {{[31] = 5}}, {{[31] = 99}}};
    struct u256 v[3];
    struct header h;
    struct chain_block b;
    struct chain_receipt r;
    enum loam_status s = LOAM_OK;
    struct buf code = BUF_INIT(65536);
    struct hash32 tx, hash;
    switch (op) {
    case SYNC: return chain_sync(k->c, e);
    case CHECK: return chain_check(k->c, e);
    case SLOTS:
        if (!(s = chain_slots(k->c, v, &sim_ledger, slots, 3, NULL, e))) {
            assert_int_equal(v[0].w[0], 1000 + sim.n - 1);
            assert_int_equal(v[1].w[0], 500);
            assert_int_equal(v[2].w[0], 0);
        }
        return s;
    case CODE:
        if (!(s = chain_code(k->c, &code, &sim_ledger, NULL, e)))
            assert_int_equal(code.len, 20);
        buf_clear(&code);
        return s;
    case BLOCK:
        if ((s = chain_header(k->c, &h, 9, e)))
            return s;
        if (!(s = chain_block(k->c, &b, &h, e))) {
            assert_int_equal(b.count, 2);
            assert_int_equal(b.receipts[1].log_count, 1);
            chain_block_clear(&b);
        }
        return s;
    case RECEIPT:
        keccak256(tx.b, sim.b[9].tx[1].data, sim.b[9].tx[1].len);
        if (!(s = chain_receipt(k->c, &r, &tx, e))) {
            assert_int_equal(r.block, 9);
            assert_int_equal(r.gas_used, 30000);
            chain_receipt_clear(&r);
        }
        return s;
    case LOGS: {
        unsigned n = 0;
        struct chain_filter f = {.addrs = &sim_ledger, .addr_count = 1};
        if (!(s = chain_logs(k->c, 1, 12, &f, count_log, &n, e)))
            assert_int_equal(n, 4);
        return s;
    }
    case SEND: return chain_send(k->c, &hash, "\x02\xc0", 2, e);
    case FEED: return chain_feed_poll(k->c, e);
    }
    return s;
}

/* ---- twists ---- */

static void set(json_t *o, const char *key, const char *v) {
    json_object_set_new(o, key, json_string(v));
}
static void flip(json_t *o, const char *key) { /* one bit of a hex string's last digit */
    char *s = strdup(json_string_value(json_object_get(o, key)));
    size_t n = strlen(s) - 1;
    s[n] = s[n] == '0' ? '1' : '0';
    set(o, key, s);
    free(s);
}
#define HEADER(name, ...)                                                                                                                 \
    static void name(json_t **r, const json_t *p) {                                                                                       \
        if (json_is_object(*r) && strcmp(json_string_value(json_object_get(*r, "number")), "0x0")) {                                      \
            json_t *o = *r;                                                                                                               \
            (void)o;                                                                                                                      \
            __VA_ARGS__;                                                                                                                  \
        }                                                                                                                                 \
    }
HEADER(h_hash, flip(o, "hash"))
HEADER(h_state, flip(o, "stateRoot"))
HEADER(h_parent, flip(o, "parentHash"); sim_header_rehash(o))
HEADER(h_number, const char *q = json_string_value(json_array_get(p, 0)); if (strcmp(q, "latest")) { set(o, "number", "0x5555"); sim_header_rehash(o); })
HEADER(h_time, set(o, "timestamp", "0x10"); sim_header_rehash(o))
HEADER(h_fee, set(o, "baseFeePerGas", "0x77"); sim_header_rehash(o))
HEADER(h_fork, json_object_del(o, "requestsHash"); sim_header_rehash(o))
HEADER(h_extra, set(o, "extraData", "0x0102"); sim_header_rehash(o))
HEADER(h_excess, set(o, "excessBlobGas", "0x1"); sim_header_rehash(o))
HEADER(h_blobgas, set(o, "blobGasUsed", "0x20000"); sim_header_rehash(o))
HEADER(h_requests, flip(o, "requestsHash"); sim_header_rehash(o))
HEADER(h_gap_fields, json_object_del(o, "withdrawalsRoot"))
HEADER(h_missing, json_object_del(o, "stateRoot"))
HEADER(h_odd, set(o, "parentHash", "0x123"))
HEADER(h_lead, set(o, "gasUsed", "0x01"))
HEADER(h_huge, set(o, "timestamp", "0x10000000000000000"))
HEADER(h_neg, set(o, "gasUsed", "-0x1"))
HEADER(h_int, json_object_set_new(o, "gasUsed", json_integer(5)))
HEADER(h_gas, set(o, "gasUsed", "0xffffffff"); sim_header_rehash(o))
HEADER(h_extra33, set(o, "extraData", "0x000000000000000000000000000000000000000000000000000000000000000000"))
HEADER(h_uncles, flip(o, "sha3Uncles"); sim_header_rehash(o))
HEADER(h_difficulty, set(o, "difficulty", "0x1"); sim_header_rehash(o))
HEADER(h_str, json_decref(o); *r = json_string("0xabc"))
static void h_null(json_t **r, const json_t *p) {
    json_decref(*r);
    *r = json_null();
}
static void h_gap(json_t **r, const json_t *p) {
    if (!strcmp(json_string_value(json_array_get(p, 0)), "0x14"))
        h_null(r, p);
}
static void h_genesis(json_t **r, const json_t *p) {
    if (!strcmp(json_string_value(json_array_get(p, 0)), "0x0")) {
        flip(*r, "stateRoot");
        sim_header_rehash(*r);
    }
}
static void chain_other(json_t **r, const json_t *p) {
    json_decref(*r);
    *r = json_string("0xa");
}

static json_t *proof_of(json_t *r, int slot) {
    return slot < 0 ? json_object_get(r, "accountProof") : json_object_get(json_array_get(json_object_get(r, "storageProof"), (size_t)slot), "proof");
}
static void flip_last(json_t *list) {
    size_t n = json_array_size(list) - 1;
    char *s = strdup(json_string_value(json_array_get(list, n)));
    s[20] = s[20] == '0' ? '1' : '0';
    json_array_set_new(list, n, json_string(s));
    free(s);
}
static void p_node(json_t **r, const json_t *p) {
    flip_last(proof_of(*r, -1));
}
static void p_slot_node(json_t **r, const json_t *p) {
    flip_last(proof_of(*r, 1));
}
static void p_swap(json_t **r, const json_t *p) {
    json_t *l = proof_of(*r, -1), *a = json_incref(json_array_get(l, 0));
    json_array_set(l, 0, json_array_get(l, 1));
    json_array_set_new(l, 1, a);
}
static void p_short(json_t **r, const json_t *p) {
    json_t *l = proof_of(*r, -1);
    json_array_remove(l, json_array_size(l) - 1);
}
static void p_slot_short(json_t **r, const json_t *p) {
    json_t *l = proof_of(*r, 1);
    json_array_remove(l, json_array_size(l) - 1);
}
static void p_long(json_t **r, const json_t *p) {
    json_t *l = proof_of(*r, -1);
    json_array_append(l, json_array_get(l, 0));
}
static void p_slot_long(json_t **r, const json_t *p) {
    json_array_append_new(proof_of(*r, 0), json_string("0xc0"));
}
static void p_block(json_t **r, const json_t *p) { /* of the block before */
    json_t *q = json_deep_copy(p);
    json_object_set_new(json_array_get(q, 2), "blockHash", hj_new_bytes(sim.b[sim.n - 2].h.hash.b, 32));
    json_decref(*r);
    *r = sim_answer(&sim, "eth_getProof", q);
    json_decref(q);
}
static void p_addr(json_t **r, const json_t *p) {
    set(*r, "address", "0x4200000000000000000000000000000000000016");
}
static void p_other_account(json_t **r, const json_t *p) { /* another account's proof under the right name */
    json_t *q = json_deep_copy(p);
    json_array_set_new(q, 0, json_string("0x4200000000000000000000000000000000000016"));
    json_decref(*r);
    *r = sim_answer(&sim, "eth_getProof", q);
    json_object_set_new(*r, "address", hj_new_bytes(sim_ledger.b, 20));
    json_decref(q);
}
static void p_slot_missing(json_t **r, const json_t *p) {
    json_array_remove(json_object_get(*r, "storageProof"), 1);
}
static void p_slot_twice(json_t **r, const json_t *p) {
    json_t *l = json_object_get(*r, "storageProof");
    json_array_append(l, json_array_get(l, 0));
}
static void p_slot_key(json_t **r, const json_t *p) {
    flip(json_array_get(json_object_get(*r, "storageProof"), 1), "key");
}
static void p_slot_order(json_t **r, const json_t *p) {
    json_t *l = json_object_get(*r, "storageProof"), *a = json_incref(json_array_get(l, 0));
    json_array_set(l, 0, json_array_get(l, 1));
    json_array_set_new(l, 1, a);
}
static void p_value(json_t **r, const json_t *p) {
    set(json_array_get(json_object_get(*r, "storageProof"), 1), "value", "0x1f5");
}
static void p_absent(json_t **r, const json_t *p) { /* "nothing there", with another slot's exclusion proof */
    json_t *l = json_object_get(*r, "storageProof"), *e = json_array_get(l, 1);
    set(e, "value", "0x0");
    json_object_set(e, "proof", json_object_get(json_array_get(l, 2), "proof"));
}
static void p_absent_empty(json_t **r, const json_t *p) {
    json_t *e = json_array_get(json_object_get(*r, "storageProof"), 1);
    set(e, "value", "0x0");
    json_object_set_new(e, "proof", json_array());
}
static void p_present(json_t **r, const json_t *p) { /* a value for an absent slot */
    set(json_array_get(json_object_get(*r, "storageProof"), 2), "value", "0x5");
}
static void p_balance(json_t **r, const json_t *p) {
    set(*r, "balance", "0xffffffff");
}
static void p_nonce(json_t **r, const json_t *p) {
    set(*r, "nonce", "0x63");
}
static void p_codehash(json_t **r, const json_t *p) {
    flip(*r, "codeHash");
}
static void p_storagehash(json_t **r, const json_t *p) {
    flip(*r, "storageHash");
}
static void p_odd(json_t **r, const json_t *p) {
    json_array_set_new(proof_of(*r, -1), 0, json_string("0xabc"));
}
static void p_noproof(json_t **r, const json_t *p) {
    json_object_del(*r, "accountProof");
}
static void c_code(json_t **r, const json_t *p) {
    json_decref(*r);
    *r = json_string("0x5b5b");
}
static void c_none(json_t **r, const json_t *p) {
    json_decref(*r);
    *r = json_string("0x");
}

static json_t *log_of(json_t *r) {
    return json_array_get(json_object_get(json_array_get(r, 1), "logs"), 0);
}
static void rebloom(json_t *receipt) {
    uint8_t bloom[256] = {0}, tmp[32];
    size_t i, j;
    json_t *l, *t;
    json_array_foreach(json_object_get(receipt, "logs"), i, l) {
        if (!hj_fixed(tmp, 20, l, "address", NULL))
            bloom_add(bloom, tmp, 20);
        json_array_foreach(json_object_get(l, "topics"), j, t) if (!hj_str_fixed(tmp, 32, t, "t", NULL)) bloom_add(bloom, tmp, 32);
    }
    json_object_set_new(receipt, "logsBloom", hj_new_bytes(bloom, 256));
}
static bool long_enough(json_t *r) {
    return json_array_size(r) > 1;
}
#define RECEIPTS(name, ...)                                                                                                               \
    static void name(json_t **r, const json_t *p) {                                                                                       \
        if (!long_enough(*r))                                                                                                             \
            return;                                                                                                                       \
        json_t *o = json_array_get(*r, 1);                                                                                                \
        (void)o;                                                                                                                          \
        __VA_ARGS__;                                                                                                                      \
    }
RECEIPTS(r_order, json_t *a = json_incref(json_array_get(*r, 0)); json_array_set(*r, 0, o); json_array_set_new(*r, 1, a))
RECEIPTS(r_omit_plain, json_array_clear(json_object_get(o, "logs")))
RECEIPTS(r_omit, json_array_clear(json_object_get(o, "logs")); rebloom(o))
RECEIPTS(r_invent, json_array_append_new(json_object_get(o, "logs"), json_deep_copy(log_of(*r))); rebloom(o))
RECEIPTS(r_data, set(log_of(*r), "data", "0x00000000000000000000000000000000000000000000000000000000000000ff"))
RECEIPTS(r_topic, json_array_set_new(json_object_get(log_of(*r), "topics"), 0, json_string("0x0000000000000000000000000000000000000000000000000000000000000008")); rebloom(o))
RECEIPTS(r_addr, set(log_of(*r), "address", "0x4200000000000000000000000000000000000016"); rebloom(o))
RECEIPTS(r_status, set(o, "status", "0x0"))
RECEIPTS(r_status2, set(o, "status", "0x2"))
RECEIPTS(r_gas, set(o, "cumulativeGasUsed", "0x1"))
RECEIPTS(r_type, set(o, "type", "0x0"))
RECEIPTS(r_fewer, json_array_remove(*r, 1))
RECEIPTS(r_nonce, set(json_array_get(*r, 0), "depositNonce", "0x63"))
RECEIPTS(r_version, json_object_del(json_array_get(*r, 0), "depositReceiptVersion"))
RECEIPTS(r_topics5, json_t *t = json_object_get(log_of(*r), "topics"); for (int i = 0; i < 5; i++) json_array_append(t, json_array_get(t, 0)))
RECEIPTS(r_nologs, json_object_set_new(o, "logs", json_null()))
static void r_null(json_t **r, const json_t *p) {
    json_decref(*r);
    *r = json_null();
}
#define BODY(name, ...)                                                                                                                   \
    static void name(json_t **r, const json_t *p) {                                                                                       \
        json_t *txs = json_object_get(*r, "transactions"), *o = json_array_get(txs, 1);                                                   \
        (void)o;                                                                                                                          \
        __VA_ARGS__;                                                                                                                      \
    }
BODY(t_hash, flip(o, "hash"))
BODY(t_value, set(o, "value", "0x1234"))
BODY(t_from, set(o, "from", "0x4200000000000000000000000000000000000016"))
BODY(t_omit, json_array_remove(txs, 1))
BODY(t_order, json_t *a = json_incref(json_array_get(txs, 0)); json_array_set(txs, 0, o); json_array_set_new(txs, 1, a))
BODY(t_type, set(o, "type", "0x6"))
BODY(t_none, json_object_set_new(*r, "transactions", json_null()))
BODY(t_other, json_decref(*r); json_t *q = json_pack("[s,b]", "0x5", 1); *r = sim_answer(&sim, "eth_getBlockByNumber", q); json_decref(q))
static void x_place(json_t **r, const json_t *p) { /* says: in another block */
    json_object_set_new(*r, "blockHash", hj_new_bytes(sim.b[12].h.hash.b, 32));
}
static void x_odd(json_t **r, const json_t *p) {
    set(*r, "blockHash", "0x12");
}
static void s_hash(json_t **r, const json_t *p) {
    json_decref(*r);
    *r = json_string("0x1111111111111111111111111111111111111111111111111111111111111111");
}

#define BY_NUMBER "eth_getBlockByNumber"
#define PROOF "eth_getProof"
#define RECEIPTS_OF "eth_getBlockReceipts"
#define BY_HASH "eth_getBlockByHash"
static const struct lie lies[] = {
    {"header: hash altered", BY_NUMBER, h_hash, 0, SYNC, LOAM_EHEADER, true},
    {"header: state root altered", BY_NUMBER, h_state, 0, SYNC, LOAM_EHEADER, true},
    {"header: parent altered, hash fitted", BY_NUMBER, h_parent, 0, SYNC, LOAM_ELINK, true},
    {"header: another number than asked", BY_NUMBER, h_number, 0, SYNC, LOAM_EWRONGBLOCK, true},
    {"header: time before its parent's", BY_NUMBER, h_time, 0, SYNC, LOAM_ETIMESTAMP, true},
    {"header: base fee altered, hash fitted", BY_NUMBER, h_fee, 0, SYNC, LOAM_EBASEFEE, true},
    {"header: of an older fork", BY_NUMBER, h_fork, 0, SYNC, LOAM_EFORK, true},
    {"header: extra data of no fork", BY_NUMBER, h_extra, 0, SYNC, LOAM_EFORK, true},
    {"header: excess blob gas", BY_NUMBER, h_excess, 0, SYNC, LOAM_EFORK, true},
    {"header: blob gas before Jovian", BY_NUMBER, h_blobgas, 0, SYNC, LOAM_EFORK, true},
    {"header: requests on an L2", BY_NUMBER, h_requests, 0, SYNC, LOAM_EFORK, true},
    {"header: a field in the middle missing", BY_NUMBER, h_gap_fields, 0, SYNC, LOAM_EHEADER, true},
    {"header: state root missing", BY_NUMBER, h_missing, 0, SYNC, LOAM_ENULL, true},
    {"header: odd count of digits", BY_NUMBER, h_odd, 0, SYNC, LOAM_EHEX, true},
    {"header: leading zero", BY_NUMBER, h_lead, 0, SYNC, LOAM_EHEX, true},
    {"header: number over 64 bits", BY_NUMBER, h_huge, 0, SYNC, LOAM_EHEX, true},
    {"header: negative number", BY_NUMBER, h_neg, 0, SYNC, LOAM_EHEX, true},
    {"header: JSON integer for hex", BY_NUMBER, h_int, 0, SYNC, LOAM_EHEX, true},
    {"header: more gas than its limit", BY_NUMBER, h_gas, 0, SYNC, LOAM_EFORK, true},
    {"header: 33 bytes of extra data", BY_NUMBER, h_extra33, 0, SYNC, LOAM_EHEADER, true},
    {"header: uncles", BY_NUMBER, h_uncles, 0, SYNC, LOAM_EFORK, true},
    {"header: difficulty", BY_NUMBER, h_difficulty, 0, SYNC, LOAM_EFORK, true},
    {"header: a string", BY_NUMBER, h_str, 0, SYNC, LOAM_EJSON, true},
    {"header: null head", BY_NUMBER, h_null, 0, SYNC, LOAM_ENULL, true},
    {"header: gap in the middle", BY_NUMBER, h_gap, 0, SYNC, LOAM_ENULL, true},
    {"another genesis", BY_NUMBER, h_genesis, 0, CHECK, LOAM_EGENESIS, true},
    {"another chain id", "eth_chainId", chain_other, 0, CHECK, LOAM_ECHAIN, true},
    {"answer with another id", NULL, NULL, RAW_ID, SYNC, LOAM_ERPCID, true},
    {"neither result nor error", NULL, NULL, RAW_NOTHING, SYNC, LOAM_EJSON, true},
    {"not JSON", NULL, NULL, RAW_NOT_JSON, SYNC, LOAM_EJSON, true},
    {"JSON cut", NULL, NULL, RAW_TRUNCATED_JSON, SYNC, LOAM_EJSON, true},
    {"a web page", NULL, NULL, RAW_HTML, SYNC, LOAM_EJSON, true},
    {"an array", NULL, NULL, RAW_ARRAY, SYNC, LOAM_EJSON, true},
    {"a key twice", NULL, NULL, RAW_DUPLICATE, SYNC, LOAM_EJSON, true},
    {"empty 200", NULL, NULL, RAW_EMPTY, SYNC, LOAM_EEMPTY, true},
    {"error with control characters", NULL, NULL, RAW_ERROR, SYNC, LOAM_ERPC, false},
    {"HTTP 500", NULL, NULL, RAW_500, SYNC, LOAM_ESTATUS, true},
    {"HTTP 429", NULL, NULL, RAW_429, SYNC, LOAM_ERATE, true},
    {"redirect", NULL, NULL, RAW_302, SYNC, LOAM_ESTATUS, true},
    {"gzip unasked", NULL, NULL, RAW_GZIP, SYNC, LOAM_EENCODING, true},
    {"endless body", NULL, NULL, RAW_ENDLESS, SYNC, LOAM_ELIMIT, true},
    {"never answers", NULL, NULL, RAW_SLOW, SYNC, LOAM_ETIMEOUT, true},
    {"half an answer, then silence", NULL, NULL, RAW_CUT, SYNC, LOAM_ETIMEOUT, true},
    {"proof: node altered", PROOF, p_node, 0, SLOTS, LOAM_EPROOF, true},
    {"proof: nodes swapped", PROOF, p_swap, 0, SLOTS, LOAM_EPROOF, true},
    {"proof: cut", PROOF, p_short, 0, SLOTS, LOAM_EPROOFSHORT, true},
    {"proof: node too many", PROOF, p_long, 0, SLOTS, LOAM_EPROOFLONG, true},
    {"proof: of another block", PROOF, p_block, 0, SLOTS, LOAM_EPROOF, true},
    {"proof: another address", PROOF, p_addr, 0, SLOTS, LOAM_EWRONGADDR, true},
    {"proof: another account under this name", PROOF, p_other_account, 0, SLOTS, LOAM_EPROOF, true},
    {"proof: missing", PROOF, p_noproof, 0, SLOTS, LOAM_ENULL, true},
    {"proof: odd hex", PROOF, p_odd, 0, SLOTS, LOAM_EHEX, true},
    {"proof: null", PROOF, h_null, 0, SLOTS, LOAM_ENULL, true},
    {"proof: slot left out", PROOF, p_slot_missing, 0, SLOTS, LOAM_EWRONGSLOT, true},
    {"proof: slot twice", PROOF, p_slot_twice, 0, SLOTS, LOAM_EWRONGSLOT, true},
    {"proof: another slot", PROOF, p_slot_key, 0, SLOTS, LOAM_EWRONGSLOT, true},
    {"proof: slots in another order", PROOF, p_slot_order, 0, SLOTS, LOAM_EWRONGSLOT, true},
    {"proof: slot's node altered", PROOF, p_slot_node, 0, SLOTS, LOAM_EPROOF, true},
    {"proof: slot's proof cut", PROOF, p_slot_short, 0, SLOTS, LOAM_EPROOFSHORT, true},
    {"proof: slot's node too many", PROOF, p_slot_long, 0, SLOTS, LOAM_EPROOFLONG, true},
    {"proof: value altered", PROOF, p_value, 0, SLOTS, LOAM_EVALUE, true},
    {"proof: value for an absent slot", PROOF, p_present, 0, SLOTS, LOAM_EVALUE, true},
    {"proof: absence with another slot's proof", PROOF, p_absent, 0, SLOTS, LOAM_EPROOFSHORT, true},
    {"proof: absence without a proof", PROOF, p_absent_empty, 0, SLOTS, LOAM_EPROOFSHORT, true},
    {"proof: balance altered", PROOF, p_balance, 0, SLOTS, LOAM_EVALUE, true},
    {"proof: nonce altered", PROOF, p_nonce, 0, SLOTS, LOAM_EVALUE, true},
    {"proof: code hash altered", PROOF, p_codehash, 0, SLOTS, LOAM_EVALUE, true},
    {"proof: storage hash altered", PROOF, p_storagehash, 0, SLOTS, LOAM_EVALUE, true},
    {"code altered", "eth_getCode", c_code, 0, CODE, LOAM_ECODE, true},
    {"code left out", "eth_getCode", c_none, 0, CODE, LOAM_ECODE, true},
    {"receipts reordered", RECEIPTS_OF, r_order, 0, BLOCK, LOAM_ERECEIPT, true},
    {"log omitted", RECEIPTS_OF, r_omit_plain, 0, LOGS, LOAM_EBLOOM, true},
    {"log omitted, bloom fitted", RECEIPTS_OF, r_omit, 0, LOGS, LOAM_ERECEIPT, true},
    {"log invented", RECEIPTS_OF, r_invent, 0, LOGS, LOAM_ERECEIPT, true},
    {"log's data altered", RECEIPTS_OF, r_data, 0, BLOCK, LOAM_ERECEIPT, true},
    {"log's topic altered", RECEIPTS_OF, r_topic, 0, BLOCK, LOAM_ERECEIPT, true},
    {"log's address altered", RECEIPTS_OF, r_addr, 0, BLOCK, LOAM_ERECEIPT, true},
    {"log with six topics", RECEIPTS_OF, r_topics5, 0, BLOCK, LOAM_EJSON, true},
    {"receipt: logs null", RECEIPTS_OF, r_nologs, 0, BLOCK, LOAM_ENULL, true},
    {"receipt: status altered", RECEIPTS_OF, r_status, 0, RECEIPT, LOAM_ERECEIPT, true},
    {"receipt: status 2", RECEIPTS_OF, r_status2, 0, RECEIPT, LOAM_ERECEIPT, true},
    {"receipt: gas altered", RECEIPTS_OF, r_gas, 0, BLOCK, LOAM_ERECEIPT, true},
    {"receipt: type altered", RECEIPTS_OF, r_type, 0, BLOCK, LOAM_ERECEIPT, true},
    {"receipt: deposit nonce altered", RECEIPTS_OF, r_nonce, 0, BLOCK, LOAM_ERECEIPT, true},
    {"receipt: deposit version left out", RECEIPTS_OF, r_version, 0, BLOCK, LOAM_ERECEIPT, true},
    {"receipt left out", RECEIPTS_OF, r_fewer, 0, BLOCK, LOAM_ERECEIPT, true},
    {"receipts null", RECEIPTS_OF, r_null, 0, BLOCK, LOAM_ENULL, true},
    {"transaction: hash altered", BY_HASH, t_hash, 0, BLOCK, LOAM_ETXHASH, true},
    {"transaction: value altered", BY_HASH, t_value, 0, BLOCK, LOAM_ETXHASH, true},
    {"transaction: sender altered", BY_HASH, t_from, 0, BLOCK, LOAM_ESIG, true},
    {"transaction: unknown type", BY_HASH, t_type, 0, BLOCK, LOAM_EUNSUPPORTED, true},
    {"transaction left out", BY_HASH, t_omit, 0, BLOCK, LOAM_ETXROOT, true},
    {"transactions reordered", BY_HASH, t_order, 0, BLOCK, LOAM_ETXROOT, true},
    {"transactions null", BY_HASH, t_none, 0, BLOCK, LOAM_EJSON, true},
    {"another block's body", BY_HASH, t_other, 0, BLOCK, LOAM_EWRONGBLOCK, true},
    {"block null", BY_HASH, h_null, 0, BLOCK, LOAM_ENULL, true},
    {"receipt placed in another block", "eth_getTransactionReceipt", x_place, 0, RECEIPT, LOAM_EWRONGBLOCK, true},
    {"receipt with odd block hash", "eth_getTransactionReceipt", x_odd, 0, RECEIPT, LOAM_EHEX, true},
    {"sent under another hash", "eth_sendRawTransaction", s_hash, 0, SEND, LOAM_ETXHASH, true},
};
#define LIES (sizeof lies / sizeof *lies)

static void say(const struct lie *l) {
    uv_mutex_lock(&lock);
    script = l;
    uv_mutex_unlock(&lock);
}

static void test_honest(void **state) {
    struct client k;
    struct err e;
    struct chain_head h;
    say(NULL);
    open_client(&k, (const char *const[]){liar_url, NULL}, NULL);
    OK(chain_check(k.c, &e));
    for (enum op op = SYNC; op <= LOGS; op++)
        OK(act(&k, op, &e));
    OK(chain_head(k.c, &h, &e));
    assert_int_equal(h.h.number, BLOCKS - 1);
    struct rpc_health hl;
    rpc_health(&hl, k.rpc, 0);
    assert_int_equal(hl.lies + hl.faults, 0);
    assert_int_equal(hl.score, 100);
    close_client(&k);
}

static void test_lies(void **state) {
    unsigned wrong = 0; /* all are tried before the test fails */
    for (size_t i = 0; i < LIES; i++) {
        const struct lie *l = &lies[i];
        struct client k;
        struct err e;
        struct rpc_health hl;
        bool synced = l->op != SYNC, slow = l->code == LOAM_ETIMEOUT;
        /* alone: its own code */
        say(NULL);
        open_client_timed(&k, (const char *const[]){liar_url, NULL}, NULL, slow ? HASTY_MS : PATIENT_MS);
        if (synced)
            OK(chain_sync(k.c, &e));
        say(l);
        enum loam_status s = act(&k, l->op, &e);
        if (s != l->code)
            wrong += (print_error("%s: %s (%s), not %s\n", l->name, status_name(s), e.text, status_name(l->code)), 1u);
        for (const char *p = e.text; *p; p++)
            assert_true((unsigned char)*p >= 0x20 && (unsigned char)*p != 0x7f);
        rpc_health(&hl, k.rpc, 0);
        if (l->costs && !(hl.score < 100 && hl.lies + hl.faults > 0 && *hl.last_error))
            wrong += (print_error("%s: cost nothing\n", l->name), 1u);
        /* nothing false was kept */
        struct chain_head h;
        say(NULL);
        if (!chain_head(k.c, &h, NULL))
            assert_memory_equal(h.h.hash.b, sim.b[h.h.number].h.hash.b, 32);
        /* and told the truth afterwards, it goes on (a hasty one may need a few tries on a busy machine) */
        for (int tries = 0; slow && tries < 100 && chain_sync(k.c, &e); tries++)
            uv_sleep(50);
        OK(chain_sync(k.c, &e));
        OK(act(&k, l->op, &e));
        close_client(&k);
        /* beside an honest one: it goes on with that (checks of every endpoint excepted) */
        if (l->op == CHECK || l->raw == RAW_SLOW || l->raw == RAW_CUT || l->code == LOAM_ERPC || l->op == SEND)
            continue;
        open_client(&k, (const char *const[]){liar_url, honest_url, NULL}, NULL);
        if (synced)
            OK(chain_sync(k.c, &e));
        say(l);
        for (int tries = 0; tries < 3; tries++)
            if (!(s = act(&k, l->op, &e)))
                break;
        if (s)
            wrong += (print_error("%s, with an honest one beside: %s (%s)\n", l->name, status_name(s), e.text), 1u);
        say(NULL);
        close_client(&k);
    }
    assert_int_equal(wrong, 0);
    print_message("# %zu lies refused\n", LIES);
}

/* k of n: two must agree; one lies consistently, one is behind. */
static void test_agreement(void **state) {
    struct client k;
    struct err e;
    struct chain_head h;
    say(NULL);
    static const struct lie alter = {"consistent other head", BY_NUMBER, h_fee, 0, SYNC, LOAM_EDISAGREE, true};
    open_client(&k, (const char *const[]){liar_url, honest_url, NULL}, &(struct chain_config){.agree_k = 2});
    OK(chain_sync(k.c, &e));
    OK(chain_head(k.c, &h, &e));
    assert_int_equal(h.agree_k, 2);
    assert_int_equal(h.agree_n, 2);
    say(&alter);
    uv_mutex_lock(&lock);
    sim_mine(&sim, true);
    uv_mutex_unlock(&lock);
    FAILS(LOAM_EDISAGREE, chain_sync(k.c, &e));
    say(NULL);
    OK(chain_sync(k.c, &e));
    close_client(&k);
    /* a stale head */
    open_client(&k, (const char *const[]){honest_url, NULL}, &(struct chain_config){.stale_s = 1});
    clock_set(clock_mono_us(), clock_unix_ms() + 3600000);
    FAILS(LOAM_ESTALE, chain_sync(k.c, &e));
    clock_set(0, 0);
    OK(chain_head(k.c, &h, &e));
    assert_true(h.stale);
    close_client(&k);
}

static void test_reorgs(void **state) {
    struct client k;
    struct err e;
    struct chain_head h;
    say(NULL);
    open_client(&k, (const char *const[]){honest_url, NULL}, NULL);
    OK(chain_sync(k.c, &e));
    for (size_t depth = 1; depth <= 32; depth *= 2) {
        uv_mutex_lock(&lock);
        sim_reorg(&sim, depth, depth == 4 ? 0 : 2);
        uv_mutex_unlock(&lock);
        OK(chain_sync(k.c, &e));
        OK(chain_head(k.c, &h, &e));
        assert_memory_equal(h.h.hash.b, sim.b[sim.n - 1].h.hash.b, 32);
    }
    assert_int_equal(k.reorgs, 6);
    for (size_t i = 0; i < sim.n; i++) {
        struct header x;
        OK(chain_header(k.c, &x, i, &e));
        assert_memory_equal(x.hash.b, sim.b[i].h.hash.b, 32);
    }
    close_client(&k);
}

static void feed(json_t *o) {
    uv_mutex_lock(&lock);
    json_decref(feed_next);
    feed_next = o;
    uv_mutex_unlock(&lock);
}

static void test_feed(void **state) {
    struct client k;
    struct err e;
    struct chain_head h;
    static const uint8_t other_key[32] = {[31] = 0x33};
    say(NULL);
    /* fresh blocks: their times must lie within the window */
    uv_mutex_lock(&lock);
    sim_clear(&sim);
    sim_init(&sim, 1301, false, clock_unix_ms() / 1000 - 2 * 12);
    for (int i = 1; i < 12; i++)
        sim_mine(&sim, i % 2);
    uv_mutex_unlock(&lock);
    open_client(&k, (const char *const[]){honest_url, NULL}, NULL);
    feed(NULL);
    FAILS(LOAM_ENULL, chain_feed_poll(k.c, &e));
    OK(chain_sync(k.c, &e));
    OK(chain_head(k.c, &h, &e));
    assert_int_equal(h.how, KNOWN_AGREED);
    feed(sim_feed(&sim, 11, other_key, 1301));
    FAILS(LOAM_ESIGNER, chain_feed_poll(k.c, &e));
    feed(sim_feed(&sim, 11, sim_sequencer_key, 10));
    FAILS(LOAM_ESIGNER, chain_feed_poll(k.c, &e)); /* of another chain */
    feed(sim_feed(&sim, 11, sim_sequencer_key, 1301));
    OK(chain_feed_poll(k.c, &e));
    OK(chain_head(k.c, &h, &e));
    assert_int_equal(h.how, KNOWN_SIGNED);
    enum known how, to;
    chain_known(k.c, 5, &how, &to);
    assert_int_equal(how, KNOWN_LINKED);
    assert_int_equal(to, KNOWN_SIGNED);
    OK(chain_feed_poll(k.c, &e)); /* the same again: nothing new, nothing wrong */
    /* ahead of the RPCs' next round: the feed alone moves the head, and fills the gap before it */
    uv_mutex_lock(&lock);
    sim_mine(&sim, true);
    sim_mine(&sim, false);
    uv_mutex_unlock(&lock);
    feed(sim_feed(&sim, 13, sim_sequencer_key, 1301));
    OK(chain_feed_poll(k.c, &e));
    OK(chain_head(k.c, &h, &e));
    assert_int_equal(h.h.number, 13);
    assert_int_equal(h.how, KNOWN_SIGNED);
    /* equivocation: another block of that height, signed too */
    uv_mutex_lock(&lock);
    sim_reorg(&sim, 1, 0);
    uv_mutex_unlock(&lock);
    feed(sim_feed(&sim, 13, sim_sequencer_key, 1301));
    FAILS(LOAM_EEQUIVOCATION, chain_feed_poll(k.c, &e));
    assert_int_equal(chain_evidence_count(k.c), 1);
    struct buf ev = BUF_INIT(1 << 20);
    OK(chain_evidence(k.c, &ev, 0, &e));
    assert_true(ev.len > 2 * (65 + 4 + 592));
    uint32_t n1 = le32(ev.data + 65);
    assert_int_equal(ev.len, 65 + 4 + n1 + 65 + 4 + le32(ev.data + 65 + 4 + n1 + 65));
    buf_clear(&ev);
    /* an old message that is not in the chain */
    struct sim old;
    sim_init(&old, 1301, false, clock_unix_ms() / 1000 - 2 * 12);
    old.salt = 9;
    for (int i = 1; i < 9; i++)
        sim_mine(&old, false);
    feed(sim_feed(&old, 8, sim_sequencer_key, 1301));
    FAILS(LOAM_EREPLAY, chain_feed_poll(k.c, &e));
    sim_clear(&old);
    /* too old, too new */
    sim_init(&old, 1301, false, clock_unix_ms() / 1000 - 200);
    feed(sim_feed(&old, 0, sim_sequencer_key, 1301));
    FAILS(LOAM_ETIMESTAMP, chain_feed_poll(k.c, &e));
    sim_clear(&old);
    sim_init(&old, 1301, false, clock_unix_ms() / 1000 + 100);
    feed(sim_feed(&old, 0, sim_sequencer_key, 1301));
    FAILS(LOAM_ETIMESTAMP, chain_feed_poll(k.c, &e));
    sim_clear(&old);
    /* malformed */
    json_t *o = sim_feed(&sim, 5, sim_sequencer_key, 1301);
    set(o, "data", "0x12345");
    feed(o);
    FAILS(LOAM_EHEX, chain_feed_poll(k.c, &e));
    feed(json_pack("{s:s}", "data", "0x12"));
    FAILS(LOAM_EJSON, chain_feed_poll(k.c, &e));
    o = sim_feed(&sim, 5, sim_sequencer_key, 1301);
    set(json_object_get(o, "signature"), "yParity", "0x7");
    feed(o);
    FAILS(LOAM_ESIG, chain_feed_poll(k.c, &e));
    close_client(&k);
}

static void gossip(size_t n) {
    uv_mutex_lock(&lock);
    buf_reset(&gossip_next);
    sim_gossip(&gossip_next, &sim, n, sim_sequencer_key, 1301);
    uv_mutex_unlock(&lock);
}

/* Two feeds at once: JSON and snappy messages. A lying one costs its own score, the other one carries on. */
static void test_feeds(void **state) {
    struct client k;
    struct err e;
    struct chain_head h;
    struct rpc_health a, b;
    char url[64];
    say(NULL);
    uv_mutex_lock(&lock);
    sim_clear(&sim);
    sim_init(&sim, 1301, false, clock_unix_ms() / 1000 - 2 * 12);
    for (int i = 1; i < 12; i++)
        sim_mine(&sim, i % 2);
    uv_mutex_unlock(&lock);
    open_client(&k, (const char *const[]){honest_url, NULL}, NULL);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/gossip", server_port(server));
    struct chain_config cfg = {.chain_id = 1301, .rules = sim.rules, .feeds = {feed_url, url}, .feed_count = 2, .poll_ms = 50};
    struct tx_signer seq;
    OK(tx_signer_from_key(&seq, sim_sequencer_key, &e));
    cfg.signers[0] = seq.addr;
    cfg.signer_count = 1;
    chain_free(k.c);
    OK(chain_new(&k.c, &cfg, k.rpc, &k.store, NULL, &e));
    OK(chain_sync(k.c, &e));
    feed(json_string("nonsense"));
    gossip(10);
    OK(chain_feed_poll(k.c, &e));
    OK(chain_head(k.c, &h, &e));
    assert_int_equal(h.signed_to, 10);
    assert_true(chain_feed_health(&a, k.c, 0) && chain_feed_health(&b, k.c, 1));
    assert_true(a.score < 100 && a.lies == 1 && a.rest_ms > 0 && *a.last_error);
    assert_true(b.score == 100 && !b.lies && b.calls == 1);
    assert_false(chain_feed_health(&a, k.c, 2));
    /* the other way round, malformed in the ways of the message form */
    feed(sim_feed(&sim, 11, sim_sequencer_key, 1301));
    static const uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 0}, tiny[] = {4, 0x0c, 'a', 'b', 'c', 'd'};
    static const struct {
        const uint8_t *p;
        size_t n;
    } bad[] = {{huge, sizeof huge}, {tiny, sizeof tiny}, {(const uint8_t *)"\x05", 1}, {NULL, 0}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uv_mutex_lock(&lock);
        buf_reset(&gossip_next);
        if (bad[i].n)
            OK(buf_add(&gossip_next, bad[i].p, bad[i].n, &e));
        uv_mutex_unlock(&lock);
        OK(chain_feed_poll(k.c, &e));
        chain_feed_health(&b, k.c, 1);
        assert_int_equal(b.lies, i + 1);
    }
    OK(chain_head(k.c, &h, &e));
    assert_int_equal(h.signed_to, 11);
    gossip(11);
    uv_mutex_lock(&lock);
    gossip_next.data[gossip_next.len - 9] ^= 0x40; /* one bit of the message */
    uv_mutex_unlock(&lock);
    feed(NULL);
    assert_true(chain_feed_poll(k.c, &e) != LOAM_OK);
    /* on threads of their own */
    uv_mutex_lock(&lock);
    sim_mine(&sim, true);
    uv_mutex_unlock(&lock);
    gossip(12);
    OK(chain_start(k.c, &e));
    for (int i = 0; i < 3000; i++) {
        OK(chain_head(k.c, &h, &e));
        if (h.signed_to == 12)
            break;
        uv_sleep(20);
    }
    assert_int_equal(h.signed_to, 12);
    close_client(&k);
    feed(NULL);
}

/* The state of older blocks: from an archive; without one the word is "unavailable". What an archive says is checked too. */
static void test_archive(void **state) {
    struct client k;
    struct err e;
    struct header h;
    struct hash32 slot = {{0}};
    struct u256 v;
    struct rpc *archive;
    say(NULL);
    open_client(&k, (const char *const[]){honest_url, NULL}, NULL);
    OK(chain_sync(k.c, &e));
    OK(chain_header(k.c, &h, 4, &e));
    OK(chain_slots(k.c, &v, &sim_ledger, &slot, 1, &h, &e));
    assert_int_equal(v.w[0], 1004);
    uv_mutex_lock(&lock);
    sim.no_old_proofs = true;
    uv_mutex_unlock(&lock);
    FAILS(LOAM_EUNAVAILABLE, chain_slots(k.c, &v, &sim_ledger, &slot, 1, &h, &e));
    assert_non_null(strstr(e.text, "unavailable"));
    struct rpc_health hl;
    rpc_health(&hl, k.rpc, 0);
    assert_int_equal(hl.lies, 0); /* an honest no */
    OK(chain_slots(k.c, &v, &sim_ledger, &slot, 1, NULL, &e));
    chain_free(k.c);
    OK(rpc_new(&archive, http, &(struct rpc_config){.urls = (const char *const[]){old_url, NULL}}, &e));
    struct chain_config cfg = {.chain_id = 1301, .rules = sim.rules, .archive = archive};
    OK(chain_new(&k.c, &cfg, k.rpc, &k.store, NULL, &e));
    OK(chain_sync(k.c, &e));
    OK(chain_slots(k.c, &v, &sim_ledger, &slot, 1, &h, &e));
    assert_int_equal(v.w[0], 1004);
    static const struct lie alter = {"archive lies", PROOF, p_node, 0, SLOTS, LOAM_EPROOF, true};
    archive_lies = true;
    say(&alter);
    FAILS(LOAM_EPROOF, chain_slots(k.c, &v, &sim_ledger, &slot, 1, &h, &e));
    rpc_health(&hl, archive, 0);
    assert_int_equal(hl.lies, 1);
    archive_lies = false;
    say(NULL);
    close_client(&k);
    rpc_free(archive);
    uv_mutex_lock(&lock);
    sim.no_old_proofs = false;
    uv_mutex_unlock(&lock);
}

/* Headers come in batches; what is wrong with a batch; an RPC without batches. */
static void test_batches(void **state) {
    struct client k;
    struct err e;
    char url[64];
    static const enum loam_status codes[] = {LOAM_OK, LOAM_ERPCID, LOAM_ERPCID, LOAM_ERPCID, LOAM_ERPC};
    say(NULL);
    for (batch_lie = 0; batch_lie < 5; batch_lie++) {
        open_client(&k, (const char *const[]){honest_url, NULL}, NULL);
        batches = singles = 0;
        FAILS(codes[batch_lie], chain_sync(k.c, &e));
        if (!batch_lie)
            assert_true(batches >= 1 && singles == 2); /* head, genesis, and all the rest at once */
        close_client(&k);
    }
    batch_lie = 0;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/single", server_port(server));
    batch_code = -32600;
    open_client(&k, (const char *const[]){url, NULL}, NULL);
    batches = singles = refused = 0;
    OK(chain_sync(k.c, &e));
    assert_int_equal(batches, 0);
    assert_int_equal(singles, sim.n);
    assert_int_equal(refused, 1);
    /* What says that batches are not taken is remembered for ten minutes, what says something else is not. */
    json_t *p[2], *r[2];
    for (int i = 0; i < 2; i++) {
        p[0] = json_pack("[s,b]", "0x1", 0);
        p[1] = json_pack("[s,b]", "0x2", 0);
        if (i)
            clock_set(clock_mono_us() + 601000000ull, clock_unix_ms());
        FAILS(LOAM_EUNSUPPORTED, rpc_batch_wait(k.rpc, r, "eth_getBlockByNumber", p, 2, NULL, &e));
        clock_set(0, 0);
        assert_int_equal(refused, 1 + i);
    }
    close_client(&k);
    batch_code = -32005;
    open_client(&k, (const char *const[]){url, NULL}, NULL);
    for (refused = 0; refused < 2;) {
        unsigned was = refused;
        p[0] = json_pack("[s,b]", "0x1", 0);
        p[1] = json_pack("[s,b]", "0x2", 0);
        FAILS(LOAM_ERATE, rpc_batch_wait(k.rpc, r, "eth_getBlockByNumber", p, 2, NULL, &e));
        assert_int_equal(refused, was + 1);
    }
    close_client(&k);
    static const struct {
        int status;
        enum loam_status s;
        bool remembered;
    } no[] = {{400, LOAM_EUNSUPPORTED, true}, {405, LOAM_EUNSUPPORTED, true}, {413, LOAM_EUNSUPPORTED, true}, {501, LOAM_EUNSUPPORTED, true},
              {401, LOAM_ESTATUS, false},     {429, LOAM_ERATE, false},       {500, LOAM_ESTATUS, false},     {503, LOAM_ESTATUS, false}};
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        batch_status = no[i].status;
        open_client(&k, (const char *const[]){honest_url, NULL}, NULL);
        refused = 0;
        for (int turn = 0; turn < 2; turn++) {
            p[0] = json_pack("[s,b]", "0x1", 0);
            p[1] = json_pack("[s,b]", "0x2", 0);
            FAILS(no[i].s, rpc_batch_wait(k.rpc, r, "eth_getBlockByNumber", p, 2, NULL, &e));
        }
        assert_int_equal(refused, no[i].remembered ? 1 : 2);
        batch_status = 0;
        p[0] = json_pack("[s,b]", "0x1", 0);
        p[1] = json_pack("[s,b]", "0x2", 0);
        if (no[i].remembered) {
            FAILS(LOAM_EUNSUPPORTED, rpc_batch_wait(k.rpc, r, "eth_getBlockByNumber", p, 2, NULL, &e));
        } else { /* over: batches at once again */
            OK(rpc_batch_wait(k.rpc, r, "eth_getBlockByNumber", p, 2, NULL, &e));
            json_decref(r[0]);
            json_decref(r[1]);
        }
        close_client(&k);
    }
    /* A server that fails at every batch and not at single questions is followed all the same, one by one. */
    batch_status = 500;
    open_client(&k, (const char *const[]){honest_url, NULL}, NULL);
    batches = singles = 0;
    OK(chain_sync(k.c, &e));
    assert_int_equal(singles, sim.n);
    close_client(&k);
    batch_status = 0;
}

/* A store from an earlier run: the client resumes, and refuses to go on with another chain. */
static void test_resume(void **state) {
    struct client k;
    struct err e;
    struct chain_head h;
    say(NULL);
    open_client(&k, (const char *const[]){honest_url, NULL}, NULL);
    OK(chain_sync(k.c, &e));
    chain_free(k.c);
    struct chain_config cfg = {.chain_id = 1301, .rules = sim.rules};
    OK(chain_new(&k.c, &cfg, k.rpc, &k.store, NULL, &e));
    OK(chain_head(k.c, &h, &e)); /* known before any question */
    assert_int_equal(h.h.number, sim.n - 1);
    uv_mutex_lock(&lock);
    sim_clear(&sim);
    sim_init(&sim, 1301, false, clock_unix_ms() / 1000 - 400);
    for (int i = 1; i < 30; i++)
        sim_mine(&sim, i % 2);
    uv_mutex_unlock(&lock);
    FAILS(LOAM_EGENESIS, chain_sync(k.c, &e));
    FAILS(LOAM_EGENESIS, chain_check(k.c, &e));
    close_client(&k);
}

static void test_config(void **state) {
    struct chain_config c;
    struct err e;
    json_t *o = json_loads("{\"chain_id\": 1612, \"profile\": \"op\", \"start\": \"head\", \"block_time\": 2, \"agree\": 2, \"stale_s\": 60,"
                           " \"forks\": {\"canyon\": 0, \"ecotone\": 0, \"fjord\": 1767744001, \"isthmus\": null},"
                           " \"contracts\": {\"Ledger\": {\"address\": \"0x1111111111111111111111111111111111111111\", \"code_hash\":"
                           " \"0x2222222222222222222222222222222222222222222222222222222222222222\"}, \"Other\": {\"address\": \"0x33\"}},"
                           " \"signers\": [\"0x4444444444444444444444444444444444444444\"], \"feed\": \"https://feed.example.org\", \"urls\": [1]}",
                           0, NULL);
    assert_non_null(o);
    OK(chain_config_from_json(&c, o, &e));
    assert_int_equal(c.chain_id, 1612);
    assert_true(c.from_head && c.agree_k == 2 && c.code_count == 1 && c.signer_count == 1 && c.rules.block_time == 2);
    assert_int_equal(c.rules.forks.fjord, 1767744001);
    assert_true(c.rules.forks.isthmus == FORK_NEVER && c.rules.forks.jovian == FORK_NEVER);
    assert_string_equal(c.codes[0].name, "Ledger");
    assert_int_equal(c.feed_count, 1);
    assert_string_equal(c.feeds[0], "https://feed.example.org");
    chain_config_clear(&c);
    static const struct {
        const char *key, *value;
        enum loam_status code;
    } bad[] = {{"chain_id", "null", LOAM_EPARSE},     {"chain_id", "-1", LOAM_EPARSE},   {"profile", "\"evm\"", LOAM_EPARSE}, {"genesis", "\"0x12\"", LOAM_EHEX},
               {"start", "\"middle\"", LOAM_EPARSE}, {"agree", "99", LOAM_ERANGE},      {"signers", "[5]", LOAM_EHEX},       {"feed", "\"ftp://x\"", LOAM_EINVAL}, {"feed", "[\"http://a\", 5]", LOAM_EPARSE},
               {"feed", "[\"http://a\", \"http://b\", \"http://c\", \"http://d\", \"http://e\"]", LOAM_EPARSE},
               {"forks", "{\"canyon\": \"x\"}", LOAM_EPARSE}, {"anchor", "{\"number\": 5}", LOAM_ENULL}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *x = json_copy(o);
        json_object_set_new(x, bad[i].key, json_loads(bad[i].value, JSON_DECODE_ANY, NULL));
        FAILS(bad[i].code, chain_config_from_json(&c, x, &e));
        chain_config_clear(&c);
        json_decref(x);
    }
    json_decref(o);
    /* the files that are shipped */
    static const uint64_t ids[] = {10, 1612, 161201, 11155420};
    for (size_t i = 0; i < 4; i++) {
        char path[600];
        const char *src = getenv("srcdir");
        snprintf(path, sizeof path, "%s/contrib/chains/%llu.json", src ? src : "../net", (unsigned long long)ids[i]);
        o = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(o);
        OK(chain_config_from_json(&c, o, &e));
        assert_int_equal(c.chain_id, ids[i]);
        assert_true(c.from_head);
        assert_int_equal(c.rules.forks.canyon == FORK_UNKNOWN, ids[i] == 1612 || ids[i] == 161201);
        chain_config_clear(&c);
        json_decref(o);
    }
}

static void test_history(void **state) {
    static const struct addr20 history = {
        {0x00, 0x00, 0xf9, 0x08, 0x27, 0xf1, 0xc5, 0x3a, 0x10, 0xcb, 0x7a, 0x02, 0x33, 0x5b, 0x17, 0x53, 0x20, 0x00, 0x29, 0x35}};
    struct client k;
    struct err e;
    struct header h;
    struct hash32 slot = {{0}}, got;
    say(NULL);
    uv_mutex_lock(&lock);
    put_be64(slot.b + 24, 7);
    sim_set(&sim, &history, &slot, u256_from_be(sim.b[7].h.hash.b));
    put_be64(slot.b + 24, 8);
    sim_set(&sim, &history, &slot, u256_from_be(sim.b[9].h.hash.b)); /* wrong on purpose */
    sim_mine(&sim, false);
    uv_mutex_unlock(&lock);
    open_client(&k, (const char *const[]){honest_url, NULL}, NULL);
    OK(chain_sync(k.c, &e));
    OK(chain_history_hash(k.c, &got, 7, NULL, &e));
    assert_memory_equal(got.b, sim.b[7].h.hash.b, 32);
    OK(chain_history_header(k.c, &h, 7, NULL, &e));
    assert_int_equal(h.number, 7);
    FAILS(LOAM_EWRONGBLOCK, chain_history_header(k.c, &h, 8, NULL, &e));
    FAILS(LOAM_ENOTFOUND, chain_history_hash(k.c, &got, 9, NULL, &e));
    FAILS(LOAM_ERANGE, chain_history_hash(k.c, &got, 9999, NULL, &e));
    close_client(&k);
}

/* ---- L1 ---- */

static struct hash32 slot_named(const char *name, uint64_t minus) {
    struct hash32 h;
    struct u256 v;
    keccak256(h.b, name, strlen(name));
    u256_sub(&v, u256_from_be(h.b), u256_from(minus));
    u256_to_be(h.b, v);
    return h;
}
static struct u256 addr_word(const struct addr20 *a) {
    return u256_from_ben(a->b, 20);
}
static struct hash32 slot_u64(uint64_t n) {
    struct hash32 h = {{0}};
    put_be64(h.b + 24, n);
    return h;
}
static struct u256 game_word(uint32_t type, uint64_t created, const struct addr20 *proxy) {
    uint8_t w[32];
    put_be32(w, type);
    put_be64(w + 4, created);
    memcpy(w + 12, proxy->b, 20);
    return u256_from_be(w);
}

static void test_anchor(void **state) {
    static const struct addr20 sc = {{0x5c, 1}}, oracle = {{0x0a, 2}}, factory = {{0xfa, 3}}, game1 = {{0x91, 4}}, game2 = {{0x92, 5}}, registry = {{0xa5, 6}};
    static const struct addr20 signer = {{0x51, 7}}, portal = {{0x90, 8}}, inbox = {{0xff, 9}}, batcher = {{0xba, 10}};
    struct client k2;
    struct err e;
    struct chain *c1;
    struct rpc *r1;
    struct chain_store st1;
    char url[64];
    say(NULL);
    uv_mutex_lock(&lock);
    sim_clear(&sim);
    sim_init(&l1, 1, true, clock_unix_ms() / 1000 - 12 * 8);
    for (int i = 1; i < 6; i++)
        sim_mine(&l1, false);
    sim_init(&sim, 1301, false, clock_unix_ms() / 1000 - 2 * 12);
    sim.l1_origin = l1.b[3].h;
    for (int i = 1; i < 12; i++)
        sim_mine(&sim, i % 2);
    /* L1's contracts */
    struct hash32 h = slot_named("systemconfig.unsafeblocksigner", 0);
    sim_set(&l1, &sc, &h, addr_word(&signer));
    h = slot_named("systemconfig.optimismportal", 1);
    sim_set(&l1, &sc, &h, addr_word(&portal));
    h = slot_named("systemconfig.disputegamefactory", 1);
    sim_set(&l1, &sc, &h, addr_word(&factory));
    h = slot_named("systemconfig.batchinbox", 1);
    sim_set(&l1, &sc, &h, addr_word(&inbox));
    h = slot_u64(103);
    sim_set(&l1, &sc, &h, addr_word(&batcher));
    h = slot_u64(104);
    sim_set(&l1, &sc, &h, u256_from(30000000));
    struct hash32 root5, root9;
    header_output_root(&root5, &sim.b[5].h, &sim.b[5].h.withdrawals_root);
    header_output_root(&root9, &sim.b[9].h, &sim.b[9].h.withdrawals_root);
    uint64_t now = clock_unix_ms() / 1000;
    /* oracle: two outputs, the last for block 5 */
    h = slot_u64(3);
    sim_set(&l1, &oracle, &h, u256_from(2));
    uint8_t w[32] = {0};
    put_be64(w + 8, 5);
    put_be64(w + 24, now - 50);
    chain_slot_array(&h, 3, 2);
    sim_set(&l1, &oracle, &h, u256_from_be(root5.b));
    chain_slot_array(&h, 3, 3);
    sim_set(&l1, &oracle, &h, u256_from_be(w));
    /* factory: game 0 for block 5 (resolved for the defender), game 1 for block 9 (in progress) */
    h = slot_u64(104);
    sim_set(&l1, &factory, &h, u256_from(2));
    const struct addr20 *games[2] = {&game1, &game2};
    const struct hash32 *roots[2] = {&root5, &root9};
    for (uint64_t i = 0; i < 2; i++) {
        struct buf b = BUF_INIT(512);
        struct hash32 uuid, base = slot_u64(103), extra = slot_u64(i ? 9 : 5), k = {{0xee}};
        chain_slot_array(&h, 104, i);
        sim_set(&l1, &factory, &h, game_word(0, now - 40, games[i]));
        OK(abi_encode(&b, ABI(abi_u64(0), abi_b32(roots[i]), abi_bytes(extra.b, 32)), &e));
        keccak256(uuid.b, b.data, b.len);
        buf_clear(&b);
        chain_slot_map(&h, uuid.b, &base);
        sim_set(&l1, &factory, &h, game_word(0, now - 40, games[i]));
        sim_set(&l1, games[i], &k, u256_from(i ? 9 : 5));
        uint8_t g[32] = {0};
        put_be64(g + 24, now - 40);
        if (!i) {
            put_be64(g + 16, now - 10);
            g[15] = 2;
        }
        h = slot_u64(0);
        sim_set(&l1, games[i], &h, u256_from_be(g));
    }
    /* registry, old and new */
    chain_slot_map_u64(&h, 0, 1);
    sim_set(&l1, &registry, &h, u256_from_be(root5.b));
    struct u256 next;
    u256_add(&next, u256_from_be(h.b), u256_from(1));
    u256_to_be(h.b, next);
    sim_set(&l1, &registry, &h, u256_from(5));
    h = slot_u64(2);
    sim_set(&l1, &registry, &h, addr_word(&game1));
    sim_mine(&l1, false);
    uv_mutex_unlock(&lock);

    snprintf(url, sizeof url, "http://127.0.0.1:%u/l1", server_port(server));
    OK(rpc_new(&r1, http, &(struct rpc_config){.urls = (const char *const[]){url, NULL}}, &e));
    OK(chain_store_memory(&st1, &e));
    OK(chain_new(&c1, &(struct chain_config){.chain_id = 1, .rules = {.l1 = true}, .has_anchor = true, .anchor_number = 2, .anchor_hash = l1.b[2].h.hash}, r1, &st1, NULL, &e));
    OK(chain_sync(c1, &e));
    open_client(&k2, (const char *const[]){honest_url, NULL}, NULL);
    OK(chain_sync(k2.c, &e));

    struct anchor_parts p;
    OK(anchor_discover(&p, c1, &sc, NULL, &e));
    assert_true(addr_eq(&p.signer, &signer) && addr_eq(&p.portal, &portal) && addr_eq(&p.factory, &factory) && addr_eq(&p.inbox, &inbox) && addr_eq(&p.batcher, &batcher));
    assert_int_equal(p.gas_limit, 30000000);
    FAILS(LOAM_ENOTFOUND, anchor_discover(&p, c1, &oracle, NULL, &e));

    /* through the oracle: proposed, then final */
    struct anchor_output o;
    struct chain_head hd;
    enum known how, to;
    struct anchor_config ac = {.has_oracle = true, .oracle = oracle, .final_s = 1000};
    OK(anchor_round(&o, k2.c, c1, &ac, &e));
    assert_int_equal(o.number, 5);
    assert_false(o.resolved);
    chain_known(k2.c, 5, &how, &to);
    assert_int_equal(how, KNOWN_PROPOSED);
    chain_known(k2.c, 3, &how, &to);
    assert_true(how == KNOWN_LINKED && to == KNOWN_PROPOSED);
    OK(chain_head(k2.c, &hd, &e));
    assert_int_equal(hd.anchored, 5);
    ac.final_s = 1;
    OK(anchor_round(&o, k2.c, c1, &ac, &e));
    assert_true(o.resolved);
    chain_known(k2.c, 5, &how, &to);
    assert_int_equal(how, KNOWN_RESOLVED);
    chain_known(k2.c, 3, &how, &to);
    assert_true(how == KNOWN_LINKED && to == KNOWN_RESOLVED);

    /* through the games, found from the SystemConfig */
    struct client k3;
    open_client(&k3, (const char *const[]){honest_url, NULL}, NULL);
    OK(chain_sync(k3.c, &e));
    ac = (struct anchor_config){.has_system_config = true, .system_config = sc};
    OK(anchor_round(&o, k3.c, c1, &ac, &e));
    assert_int_equal(o.number, 9);
    assert_false(o.resolved);
    chain_known(k3.c, 9, &how, &to);
    assert_int_equal(how, KNOWN_PROPOSED);
    chain_known(k3.c, 5, &how, &to);
    assert_int_equal(how, KNOWN_RESOLVED);
    chain_known(k3.c, 7, &how, &to);
    assert_true(how == KNOWN_LINKED && to == KNOWN_PROPOSED);
    struct anchor_game g;
    OK(anchor_game(&g, c1, &factory, 0, &root5, 5, NULL, &e));
    assert_int_equal(g.status, 2);
    FAILS(LOAM_ENOTFOUND, anchor_game(&g, c1, &factory, 0, &root5, 6, NULL, &e));
    FAILS(LOAM_ENOTFOUND, anchor_game(&g, c1, &factory, 1, &root5, 5, NULL, &e));
    struct addr20 ga;
    OK(anchor_registry(&o, &ga, c1, &registry, 0, false, NULL, &e));
    assert_int_equal(o.number, 5);
    assert_true(hash_eq(&o.root, &root5));
    OK(anchor_registry(&o, &ga, c1, &registry, 0, true, NULL, &e));
    assert_true(addr_eq(&ga, &game1));
    close_client(&k3);

    /* the same as a service, from the chain's file; it also learns the sequencer's key, so that the feed is taken */
    char text[512], hex[ADDR_HEX_MAX];
    struct anchor_service *sv;
    struct anchor_state as = {0};
    open_client(&k3, (const char *const[]){honest_url, NULL}, NULL);
    OK(chain_sync(k3.c, &e));
    snprintf(text, sizeof text, "{\"urls\": [\"%s\"], \"chain_id\": 1, \"system_config\": \"%s\", \"signer\": true, \"period_s\": 1}", url, addr_hex(hex, &sc));
    json_t *conf = json_loads(text, 0, NULL);
    OK(anchor_service_new(&sv, http, k3.c, conf, NULL, &e));
    for (int i = 0; i < 3000 && !as.last.number; i++) {
        uv_sleep(20);
        anchor_service_state(&as, sv);
    }
    assert_int_equal(as.last.number, 9);
    assert_int_equal(as.status, LOAM_OK);
    assert_int_equal(as.agree_k, 1);
    anchor_service_free(sv);
    json_object_del(conf, "system_config");
    FAILS(LOAM_EPARSE, anchor_service_new(&sv, http, k3.c, conf, NULL, &e));
    json_decref(conf);
    chain_known(k3.c, 5, &how, &to);
    assert_int_equal(how, KNOWN_RESOLVED);
    feed(sim_feed(&sim, 11, sim_sequencer_key, 1301)); /* the configured key is now the one before: still good */
    OK(chain_feed_poll(k3.c, &e));
    close_client(&k3);

    /* each block's L1 origin */
    struct l1_attributes at;
    struct header h2;
    OK(chain_header(k2.c, &h2, 7, &e));
    OK(anchor_origin(&at, k2.c, &h2, c1, &e));
    assert_int_equal(at.number, 3);
    OK(chain_header(k2.c, &h2, 0, &e));
    FAILS(LOAM_EORIGIN, anchor_origin(&at, k2.c, &h2, c1, &e)); /* no deposit in it */
    close_client(&k2);

    /* the L1 fee of a transaction: by the chain's fork, from proven slots */
    struct u256 fee, want, op;
    uint8_t raw[500], w3[32] = {0}, w8[32] = {0};
    memset(raw, 0xa5, sizeof raw);
    for (size_t i = 0; i < sizeof raw; i += 3)
        raw[i] = (uint8_t)(i * 7);
    open_client(&k3, (const char *const[]){honest_url, NULL}, NULL);
    OK(chain_sync(k3.c, &e));
    OK(anchor_data_fee(&fee, k3.c, raw, sizeof raw, 21000, &e));
    assert_true(u256_is_zero(fee)); /* no predeploy there */
    close_client(&k3);
    uv_mutex_lock(&lock);
    put_be32(w3 + 16, 5227);   /* base fee scalar */
    put_be32(w3 + 20, 1014213); /* blob base fee scalar */
    put_be64(w8 + 24, 77);     /* operator fee constant */
    put_be32(w8 + 20, 2000000);
    h = slot_u64(1);
    sim_set(&sim, &l1_block_predeploy, &h, u256_from(9000000000));
    h = slot_u64(3);
    sim_set(&sim, &l1_block_predeploy, &h, u256_from_be(w3));
    h = slot_u64(7);
    sim_set(&sim, &l1_block_predeploy, &h, u256_from(1500000));
    h = slot_u64(8);
    sim_set(&sim, &l1_block_predeploy, &h, u256_from_be(w8));
    sim_mine(&sim, false);
    uv_mutex_unlock(&lock);
    open_client(&k3, (const char *const[]){honest_url, NULL}, NULL);
    OK(chain_sync(k3.c, &e));
    OK(anchor_data_fee(&fee, k3.c, raw, sizeof raw, 21000, &e));
    at = (struct l1_attributes){.form = L1_ISTHMUS, .base_fee = u256_from(9000000000), .blob_base_fee = u256_from(1500000), .base_fee_scalar = 5227, .blob_base_fee_scalar = 1014213, .operator_fee_scalar = 2000000, .operator_fee_constant = 77};
    OK(l1_fee(&want, &at, L1_FEE_FJORD, raw, sizeof raw, &e));
    OK(l1_operator_fee(&op, &at, 21000, &e));
    assert_int_equal(op.w[0], 42077);
    u256_add(&want, want, op);
    assert_int_equal(u256_cmp(fee, want), 0);
    assert_false(u256_is_zero(fee));
    close_client(&k3);

    /* the L2 shows another block than the one proposed: EANCHOR; one that names a false L1 block: EORIGIN */
    uv_mutex_lock(&lock);
    sim.l1_origin.hash.b[0] ^= 1;
    sim_reorg(&sim, 9, 0);
    uv_mutex_unlock(&lock);
    open_client(&k3, (const char *const[]){honest_url, NULL}, NULL);
    OK(chain_sync(k3.c, &e));
    FAILS(LOAM_EANCHOR, anchor_round(&o, k3.c, c1, &ac, &e));
    ac = (struct anchor_config){.has_oracle = true, .oracle = oracle, .final_s = 1};
    FAILS(LOAM_EANCHOR, anchor_round(&o, k3.c, c1, &ac, &e));
    OK(chain_header(k3.c, &h2, 7, &e));
    FAILS(LOAM_EORIGIN, anchor_origin(&at, k3.c, &h2, c1, &e));
    close_client(&k3);
    /* a chain too long to link from its genesis */
    struct chain_config cfg = {.chain_id = 1301, .rules = sim.rules, .from_head = true};
    struct chain_store st3;
    struct chain *c3;
    OK(rpc_new(&k3.rpc, http, &(struct rpc_config){.urls = (const char *const[]){honest_url, NULL}}, &e));
    OK(chain_store_memory(&st3, &e));
    OK(chain_new(&c3, &cfg, k3.rpc, &st3, NULL, &e));
    OK(chain_sync(c3, &e));
    FAILS(LOAM_ENOTFOUND, chain_header(c3, &h2, 3, &e));
    chain_free(c3);
    chain_store_memory_free(&st3);
    rpc_free(k3.rpc);

    chain_free(c1);
    chain_store_memory_free(&st1);
    rpc_free(r1);
    uv_mutex_lock(&lock);
    sim_clear(&l1);
    uv_mutex_unlock(&lock);
}

/* The claims in the games' code, the registry in its new layout, a game by somebody else, origins of every block, L1's window. */
static void test_anchor_service(void **state) {
    struct client k;
    struct err e;
    struct anchor_service *sv;
    struct anchor_state as = {0};
    struct anchor_output o;
    char url[64], text[512], hex[ADDR_HEX_MAX], hex2[ADDR_HEX_MAX];
    struct tx_signer seq;
    enum known how, to;
    OK(tx_signer_from_key(&seq, sim_sequencer_key, &e));
    say(NULL);
    uv_mutex_lock(&lock);
    sim_clear(&sim);
    sim_init(&l1, 1, true, clock_unix_ms() / 1000 - 12 * 100);
    l1.portal = sim_portal;
    for (int i = 1; i < 80; i++)
        sim_mine(&l1, false);
    sim_init(&sim, 1301, false, clock_unix_ms() / 1000 - 2 * 12);
    sim.l1_origin = l1.b[77].h;
    for (int i = 1; i < 14; i++)
        sim_mine(&sim, i % 2);
    sim_l1_contracts(&l1, &sim, 5, 9, &seq.addr);
    sim_mine(&l1, false);
    uv_mutex_unlock(&lock);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/l1", server_port(server));
    open_client(&k, (const char *const[]){honest_url, NULL}, NULL);
    OK(chain_sync(k.c, &e));
    snprintf(text, sizeof text, "{\"urls\": [\"%s\"], \"chain_id\": 1, \"system_config\": \"%s\", \"registry\": \"%s\", \"period_s\": 1}", url,
             addr_hex(hex, &sim_system_config), addr_hex(hex2, &sim_registry));
    json_t *conf = json_loads(text, 0, NULL);
    OK(anchor_service_new(&sv, http, k.c, conf, NULL, &e));
    for (int i = 0; i < 3000 && !as.last.number; i++) {
        uv_sleep(20);
        anchor_service_state(&as, sv);
    }
    assert_int_equal(as.status, LOAM_OK);
    assert_int_equal(as.last.number, 9);
    assert_int_equal(as.origin_to, 13); /* its origin, block 77, is older than the first L1 head that was agreed on */
    chain_known(k.c, 9, &how, &to);
    assert_int_equal(how, KNOWN_PROPOSED);
    chain_known(k.c, 5, &how, &to);
    assert_int_equal(how, KNOWN_RESOLVED);
    struct header h;
    OK(chain_header(anchor_service_l1(sv), &h, l1.n - 1 - ANCHOR_L1_BACK, &e));
    FAILS(LOAM_ENOTFOUND, chain_header(anchor_service_l1(sv), &h, l1.n - 2 - ANCHOR_L1_BACK, &e));
    struct anchor_parts p;
    OK(anchor_service_parts(&p, sv, &e));
    assert_true(addr_eq(&p.portal, &sim_portal) && addr_is_zero(&p.gas_token));
    /* every new block is looked at; one that names a false L1 block is told */
    uv_mutex_lock(&lock);
    for (int i = 0; i < 5; i++)
        sim_mine(&sim, i % 2);
    uv_mutex_unlock(&lock);
    OK(chain_sync(k.c, &e));
    for (int i = 0; i < 3000 && as.origin_to < 18; i++) {
        uv_sleep(20);
        anchor_service_state(&as, sv);
    }
    assert_int_equal(as.origin_to, 18);
    assert_int_equal(as.origins, 6);
    uv_mutex_lock(&lock);
    sim.l1_origin.hash.b[3] ^= 1;
    sim_mine(&sim, false);
    uv_mutex_unlock(&lock);
    OK(chain_sync(k.c, &e));
    for (int i = 0; i < 3000 && as.status != LOAM_EORIGIN; i++) {
        uv_sleep(5);
        anchor_service_state(&as, sv);
    }
    assert_int_equal(as.status, LOAM_EORIGIN);
    anchor_service_free(sv);
    json_decref(conf);

    /* a game by somebody else with another root: while it is in progress the good one counts; resolved for its claim it is an alarm */
    struct rpc *r1;
    struct chain *c1;
    struct chain_store st1;
    OK(rpc_new(&r1, http, &(struct rpc_config){.urls = (const char *const[]){url, NULL}}, &e));
    OK(chain_store_memory(&st1, &e));
    OK(chain_new(&c1, &(struct chain_config){.chain_id = 1, .rules = {.l1 = true}, .from_head = true}, r1, &st1, NULL, &e));
    struct anchor_config ac = {.has_factory = true, .factory = sim_factory};
    static const struct addr20 foreign = {{0x91, 9}};
    struct hash32 slot, root;
    uint8_t w[32] = {0}, g[32] = {0};
    uint64_t now = l1.b[l1.n - 1].h.timestamp;
    uv_mutex_lock(&lock);
    slot = slot_u64(104);
    sim_set(&l1, &sim_factory, &slot, u256_from(3));
    chain_slot_array(&slot, 104, 2);
    put_be64(w + 4, now);
    memcpy(w + 12, foreign.b, 20);
    sim_set(&l1, &sim_factory, &slot, u256_from_be(w));
    struct sim_account *a = sim_account(&l1, &foreign);
    a->code_len = 128;
    a->code[30] = 0x66; /* the root it claims */
    put_be64(a->code + 94 + 24, 11);
    a->code[127] = 118;
    put_be64(g + 24, now);
    slot = slot_u64(0);
    sim_set(&l1, &foreign, &slot, u256_from_be(g));
    sim_mine(&l1, false);
    uv_mutex_unlock(&lock);
    struct client k2;
    open_client(&k2, (const char *const[]){honest_url, NULL}, NULL);
    OK(chain_sync(k2.c, &e));
    OK(chain_sync(c1, &e));
    uint64_t n;
    OK(anchor_claim(&root, &n, c1, &foreign, NULL, &e));
    assert_int_equal(n, 11);
    assert_int_equal(root.b[0], 0x66);
    FAILS(LOAM_EUNSUPPORTED, anchor_claim(&root, &n, c1, &sim_ledger, NULL, &e));
    OK(anchor_round(&o, k2.c, c1, &ac, &e));
    assert_int_equal(o.number, 9);
    uv_mutex_lock(&lock);
    put_be64(g + 16, now);
    g[15] = 2;
    sim_set(&l1, &foreign, &slot, u256_from_be(g));
    sim_mine(&l1, false);
    uv_mutex_unlock(&lock);
    OK(chain_sync(c1, &e));
    FAILS(LOAM_EANCHOR, anchor_round(&o, k2.c, c1, &ac, &e));
    /* … unless the registry has it on its blacklist, or retired it */
    ac.has_registry = true;
    ac.registry = sim_registry;
    FAILS(LOAM_EANCHOR, anchor_round(&o, k2.c, c1, &ac, &e));
    uv_mutex_lock(&lock);
    struct hash32 black;
    chain_slot_map_addr(&black, &foreign, 5);
    sim_set(&l1, &sim_registry, &black, u256_from(1));
    sim_mine(&l1, false);
    uv_mutex_unlock(&lock);
    OK(chain_sync(c1, &e));
    OK(anchor_round(&o, k2.c, c1, &ac, &e));
    assert_int_equal(o.number, 9);
    uv_mutex_lock(&lock);
    memset(w, 0, 32);
    put_be64(w + 20, now); /* all that was created until now is retired: the registry's own anchor is what is left */
    slot = slot_u64(6);
    sim_set(&l1, &sim_registry, &slot, u256_from_be(w));
    sim_mine(&l1, false);
    uv_mutex_unlock(&lock);
    OK(chain_sync(c1, &e));
    OK(anchor_round(&o, k2.c, c1, &ac, &e));
    assert_int_equal(o.number, 5);
    assert_true(o.resolved);
    /* the game is not final before its delay is over */
    ac = (struct anchor_config){.has_factory = true, .factory = sim_factory, .final_s = 100000, .look_back = 3};
    struct client k3;
    open_client(&k3, (const char *const[]){honest_url, NULL}, NULL);
    OK(chain_sync(k3.c, &e));
    OK(anchor_round(&o, k3.c, c1, &ac, &e));
    chain_known(k3.c, 5, &how, &to);
    assert_true(how == KNOWN_LINKED && to == KNOWN_PROPOSED);
    close_client(&k3);
    close_client(&k2);
    chain_free(c1);
    chain_store_memory_free(&st1);
    rpc_free(r1);
    close_client(&k);
    uv_mutex_lock(&lock);
    sim_clear(&l1);
    uv_mutex_unlock(&lock);
}

/* Only the newest headers are kept: what L1 needs for weeks. */
static void test_window(void **state) {
    struct chain_store st;
    struct header h, *x = calloc(100, sizeof *x);
    struct err e;
    OK(chain_store_memory_most(&st, 50, &e));
    for (uint64_t i = 0; i < 1000; i++) {
        memset(x, 0, sizeof *x);
        x->number = 7 + i;
        put_be64(x->hash.b, i);
        OK(st.apply(st.ctx, 7 + i, x, 1, &e));
        OK(st.tip(st.ctx, &h, &e));
        assert_int_equal(h.number, 7 + i);
        if (i > 50)
            OK(st.by_number(st.ctx, &h, 7 + i - 49, &e));
        if (i > 100)
            FAILS(LOAM_ENOTFOUND, st.by_number(st.ctx, &h, 7 + i - 100, &e));
    }
    OK(st.apply(st.ctx, 1000, NULL, 0, &e)); /* a reorganisation within the window */
    OK(st.tip(st.ctx, &h, &e));
    assert_int_equal(h.number, 999);
    chain_store_memory_free(&st);
    free(x);
}

/* A chain that goes through all its forks while it is followed: headers of 16, 17, 20 and 21 fields, the extra data of Holocene and
 * Jovian, signed payloads of each, receipts and proofs on both sides. A client that has a fork's time wrong refuses the first block of it. */
static void test_forks(void **state) {
    static const struct {
        uint64_t at; /* block in which it begins */
        unsigned fields, extra;
    } fork[] = {{0, 16, 0}, {4, 17, 0}, {8, 20, 0}, {12, 20, 9}, {16, 21, 9}, {20, 21, 17}};
    uint64_t t0 = clock_unix_ms() / 1000 - 2 * 24;
    const struct fork_times f = {.canyon = t0 + 8, .ecotone = t0 + 16, .fjord = t0 + 16, .granite = t0 + 16, .holocene = t0 + 24, .isthmus = t0 + 32, .jovian = t0 + 40};
    struct client k, late;
    struct chain_head head;
    struct header h;
    struct err e;
    say(NULL);
    uv_mutex_lock(&lock);
    sim_clear(&sim);
    sim_init_forks(&sim, 1301, false, t0, &f);
    uv_mutex_unlock(&lock);
    open_client(&k, (const char *const[]){honest_url, NULL}, NULL);
    for (size_t i = 0; i < sizeof fork / sizeof *fork; i++) {
        uint64_t last = fork[i].at + 3;
        uv_mutex_lock(&lock);
        while (sim.n <= last)
            sim_mine(&sim, sim.n % 2);
        uv_mutex_unlock(&lock);
        OK(chain_sync(k.c, &e));
        OK(chain_head(k.c, &head, &e));
        assert_int_equal(head.h.number, last);
        OK(chain_header(k.c, &h, last, &e));
        assert_int_equal(h.fields, fork[i].fields);
        assert_int_equal(h.extra_len, fork[i].extra);
        static const enum op ops[] = {CHECK, SLOTS, CODE, BLOCK, RECEIPT}; /* the last two: of block 9 */
        for (size_t j = 0; j < (last > 9 ? 5 : 3); j++)
            OK(act(&k, ops[j], &e));
        if (h.fields >= 20) { /* signed payloads are taken from Ecotone on */
            feed(sim_feed(&sim, last, sim_sequencer_key, 1301));
            OK(chain_feed_poll(k.c, &e));
            OK(chain_head(k.c, &head, &e));
            assert_int_equal(head.signed_to, last);
        }
    }
    for (size_t i = 1; i < sizeof fork / sizeof *fork; i++) {
        uint64_t *const time[] = {&sim.rules.forks.canyon, &sim.rules.forks.ecotone, &sim.rules.forks.holocene, &sim.rules.forks.isthmus, &sim.rules.forks.jovian};
        *time[i - 1] += 2;
        open_client(&late, (const char *const[]){honest_url, NULL}, NULL);
        *time[i - 1] -= 2;
        FAILS(LOAM_EFORK, chain_sync(late.c, &e));
        close_client(&late);
    }
    close_client(&k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_honest), cmocka_unit_test(test_lies),   cmocka_unit_test(test_agreement), cmocka_unit_test(test_batches), cmocka_unit_test(test_reorgs),
        cmocka_unit_test(test_feed),   cmocka_unit_test(test_resume), cmocka_unit_test(test_history), cmocka_unit_test(test_config),
        cmocka_unit_test(test_anchor), cmocka_unit_test(test_feeds), cmocka_unit_test(test_archive), cmocka_unit_test(test_anchor_service), cmocka_unit_test(test_window),
        cmocka_unit_test(test_forks),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
