/* The light client against a real anvil --optimism. LOAM_ANVIL names the program; without it (and without one in PATH) the
 * tests are skipped. */
#include "test.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "net/abi.h"
#include "net/chain.h"
#include "net/hexjson.h"
#include "net/ws.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* Anvil's first published key: worth nothing anywhere. */
static const uint8_t dev_key[32] = {0xac, 0x09, 0x74, 0xbe, 0xc3, 0x9a, 0x17, 0xe3, 0x6b, 0xa4, 0xa6, 0xb4, 0xd2, 0x38, 0xff, 0x94,
                                    0x4b, 0xac, 0xb4, 0x78, 0xcb, 0xed, 0x5e, 0xfc, 0xae, 0x78, 0x4d, 0x7b, 0xf4, 0xf2, 0xff, 0x80};

static uv_loop_t loop;
static uv_thread_t loop_thread;
static uv_async_t quit, call;
static uv_sem_t called;
static void (*call_fn)(void);
static struct http *http;
static pid_t anvil_pid;
static unsigned port;
static char url[64];

static void http_gone(void *arg) {
    uv_close((uv_handle_t *)&quit, NULL);
    uv_close((uv_handle_t *)&call, NULL);
}
static void on_call(uv_async_t *a) {
    if (call_fn)
        call_fn();
    call_fn = NULL;
    uv_sem_post(&called);
}
static void on_loop(void (*fn)(void)) {
    call_fn = fn;
    uv_async_send(&call);
    uv_sem_wait(&called);
}
static void on_quit(uv_async_t *a) {
    http_close(http, http_gone, NULL);
}
static void run_loop(void *arg) {
    uv_run(&loop, UV_RUN_DEFAULT);
}

static const char *anvil_program(void) {
    const char *p = getenv("LOAM_ANVIL");
    if (p && !access(p, X_OK))
        return p;
    static char found[512];
    const char *src = getenv("srcdir");
    snprintf(found, sizeof found, "%s/contrib/contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil", src ? src : ".");
    if (!access(found, X_OK))
        return found;
    const char *path = getenv("PATH");
    while (path && *path) {
        size_t n = strcspn(path, ":");
        snprintf(found, sizeof found, "%.*s/anvil", (int)n, path);
        if (!access(found, X_OK))
            return found;
        path += n + (path[n] == ':');
    }
    return NULL;
}

static int setup(void **state) {
    struct err e;
    const char *prog = anvil_program();
    if (!prog)
        return 0;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_async_init(&loop, &quit, on_quit), 0);
    assert_int_equal(uv_async_init(&loop, &call, on_call), 0);
    uv_sem_init(&called, 0);
    OK(http_new(&http, &loop, &(struct http_config){.no_proxy = true}, &e));
    uv_thread_create(&loop_thread, run_loop, NULL);
    for (unsigned again = 0; again < 4; again++) { /* a port may be somebody's */
        port = 20000 + ((unsigned)getpid() + 4567 * again) % 20000;
        snprintf(url, sizeof url, "http://127.0.0.1:%u", port);
        anvil_pid = fork();
        if (!anvil_pid) {
            char p[12];
            snprintf(p, sizeof p, "%u", port);
            if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
                _exit(126);
            execl(prog, prog, "--optimism", "--port", p, "--silent", (char *)NULL);
            _exit(127);
        }
        for (int i = 0; i < 200; i++) {
            struct http_response r;
            struct http_request q = {.url = url, .body = "{}", .body_len = 2};
            enum loam_status s = http_fetch_wait(http, &r, &q, &e);
            http_response_clear(&r);
            if (!s)
                return 0;
            if (waitpid(anvil_pid, NULL, WNOHANG) == anvil_pid)
                break;
            usleep(50000);
        }
        kill(anvil_pid, SIGKILL);
        (void)waitpid(anvil_pid, NULL, 0);
    }
    return -1;
}

static int teardown(void **state) {
    if (!anvil_pid)
        return 0;
    kill(anvil_pid, SIGKILL);
    waitpid(anvil_pid, NULL, 0);
    uv_async_send(&quit);
    uv_thread_join(&loop_thread);
    return uv_loop_close(&loop);
}

#define NEED_ANVIL()                                                                                                                      \
    if (!anvil_pid) {                                                                                                                     \
        printf("# skipped: no anvil (LOAM_ANVIL)\n");                                                                                     \
        skip();                                                                                                                           \
    }

struct fixture {
    struct rpc *rpc;
    struct chain *c;
    struct chain_store store;
    unsigned reorgs;
    struct chain_reorg last;
};

static enum loam_status on_reorg(void *arg, const struct chain_reorg *r, struct err *err) {
    struct fixture *f = arg;
    f->reorgs++;
    f->last = *r;
    return LOAM_OK;
}

static void begin(struct fixture *f) {
    struct err e;
    memset(f, 0, sizeof *f);
    OK(rpc_new(&f->rpc, http, &(struct rpc_config){.urls = (const char *const[]){url, NULL}}, &e));
    OK(chain_store_memory(&f->store, &e));
    struct chain_config cfg = {.chain_id = 31337, .rules = {.anvil = true}};
    struct chain_events ev = {.arg = f, .reorg = on_reorg};
    OK(chain_new(&f->c, &cfg, f->rpc, &f->store, &ev, &e));
}
static void finish(struct fixture *f) {
    chain_free(f->c);
    chain_store_memory_free(&f->store);
    rpc_free(f->rpc);
}

static void rpc_do(struct fixture *f, const char *method, const char *params) {
    struct err e;
    json_t *r;
    OK(rpc_call_wait(f->rpc, &r, method, json_loads(params, 0, NULL), NULL, &e));
    json_decref(r);
}

static void send_tx(struct fixture *f, struct chain_receipt *r, const struct addr20 *to, const void *data, size_t n, uint64_t value) {
    struct err e;
    struct tx_signer signer;
    struct buf raw = BUF_INIT(1 << 20);
    struct hash32 hash;
    OK(tx_signer_from_key(&signer, dev_key, &e));
    struct tx t = {.type = TX_1559, .chain_id = 31337, .create = !to, .data = data, .data_len = n, .value = u256_from(value)};
    if (to)
        t.to = *to;
    OK(chain_nonce(f->c, &t.nonce, &signer.addr, &e));
    OK(chain_gas(f->c, &t.gas, NULL, &signer.addr, to, data, n, t.value, &e));
    OK(chain_fees(f->c, &t.gas_price, &t.priority, &e));
    OK(tx_sign(&raw, NULL, &t, &signer, &e));
    OK(chain_send(f->c, &hash, raw.data, raw.len, &e));
    assert_memory_equal(hash.b, t.hash.b, 32);
    struct hash32 again;
    if (chain_send(f->c, &again, raw.data, raw.len, &e)) /* mined at once: anvil knows it, or calls its nonce used */
        assert_int_equal(e.code, LOAM_ENONCE);
    OK(chain_receipt_wait(f->c, r, &hash, 0, 60000, NULL, &e));
    buf_clear(&raw);
}

static void test_sync_and_read(void **state) {
    struct fixture f;
    struct err e;
    struct chain_head h;
    struct account a;
    struct tx_signer signer;
    NEED_ANVIL();
    begin(&f);
    FAILS(LOAM_ENOTFOUND, chain_head(f.c, &h, &e));
    rpc_do(&f, "anvil_mine", "[\"0x64\"]");
    OK(chain_check(f.c, &e));
    OK(chain_sync(f.c, &e));
    OK(chain_head(f.c, &h, &e));
    assert_true(h.h.number >= 100);
    assert_int_equal(h.h.fields, 21);
    assert_int_equal(h.how, KNOWN_AGREED);
    assert_int_equal(h.agree_k, 1);
    assert_int_equal(h.agree_n, 1);
    OK(tx_signer_from_key(&signer, dev_key, &e));
    OK(chain_account(f.c, &a, &signer.addr, NULL, &e));
    assert_true(a.exists);
    assert_false(u256_is_zero(a.balance));
    struct addr20 nobody = {{0x12, 0x34, 0x56}};
    OK(chain_account(f.c, &a, &nobody, NULL, &e));
    assert_false(a.exists);
    finish(&f);
}

/* constructor: stores 42 at slot 0; runtime: LOG1(topic 7) of calldata's first word, and stores it at slot 1. */
static const uint8_t creation[] = {0x60, 0x2a, 0x60, 0x00, 0x55, 0x60, 0x14, 0x60, 0x11, 0x60, 0x00, 0x39, 0x60, 0x14, 0x60, 0x00, 0xf3,
                                   /* runtime, 20 bytes */ 0x60, 0x00, 0x35, 0x60, 0x00, 0x52, 0x60, 0x07, 0x60, 0x20, 0x60, 0x00, 0xa1,
                                   0x60, 0x00, 0x35, 0x60, 0x01, 0x55, 0x00};

static enum loam_status count_log(void *arg, const struct log *l, struct err *err) {
    unsigned *n = arg;
    ++*n;
    assert_int_equal(l->topic_count, 1);
    assert_int_equal(l->topics[0].b[31], 7);
    assert_int_equal(l->data_len, 32);
    return LOAM_OK;
}

static void test_contract(void **state) {
    struct fixture f;
    struct err e;
    struct chain_receipt r;
    struct u256 v[3];
    struct buf code = BUF_INIT(65536);
    NEED_ANVIL();
    begin(&f);
    OK(chain_sync(f.c, &e));
    send_tx(&f, &r, NULL, creation, sizeof creation, 0);
    assert_true(r.ok);
    struct addr20 at = r.created;
    uint64_t first = r.block;
    chain_receipt_clear(&r);
    OK(chain_code(f.c, &code, &at, NULL, &e));
    assert_int_equal(code.len, 20);
    assert_memory_equal(code.data, creation + 17, 20);
    buf_clear(&code);
    uint8_t word[32] = {0};
    for (uint8_t i = 1; i <= 3; i++) {
        word[31] = i;
        send_tx(&f, &r, &at, word, 32, 0);
        assert_true(r.ok);
        assert_int_equal(r.log_count, 1);
        assert_int_equal(r.logs[0].data[31], i);
        chain_receipt_clear(&r);
    }
    struct hash32 slots[3] = {{{0}}, {{0}}, {{0}}};
    slots[1].b[31] = 1;
    slots[2].b[31] = 2;
    OK(chain_slots(f.c, v, &at, slots, 3, NULL, &e));
    assert_int_equal(v[0].w[0], 42);
    assert_int_equal(v[1].w[0], 3);
    assert_true(u256_is_zero(v[2]));
    /* An old block's state is read at that block. */
    struct header h;
    OK(chain_header(f.c, &h, first, &e));
    OK(chain_slots(f.c, v, &at, slots, 3, &h, &e));
    assert_int_equal(v[0].w[0], 42);
    assert_int_equal(v[1].w[0], 0);
    struct chain_head head;
    OK(chain_head(f.c, &head, &e));
    unsigned n = 0;
    struct chain_filter filter = {.addrs = &at, .addr_count = 1};
    OK(chain_logs(f.c, 0, head.h.number, &filter, count_log, &n, &e));
    assert_int_equal(n, 3);
    /* A filter that nothing matches reads no block at all. */
    struct addr20 other = {{9}};
    filter.addrs = &other;
    n = 0;
    OK(chain_logs(f.c, 0, head.h.number, &filter, count_log, &n, &e));
    assert_int_equal(n, 0);
    finish(&f);
}

static void test_reorg(void **state) {
    struct fixture f;
    struct err e;
    struct chain_head a, b;
    NEED_ANVIL();
    begin(&f);
    rpc_do(&f, "anvil_mine", "[\"0x50\"]");
    OK(chain_sync(f.c, &e));
    OK(chain_head(f.c, &a, &e));
    rpc_do(&f, "anvil_reorg", "[64, []]");
    rpc_do(&f, "anvil_mine", "[\"0x3\"]");
    OK(chain_sync(f.c, &e));
    OK(chain_head(f.c, &b, &e));
    assert_int_equal(f.reorgs, 1);
    assert_int_equal(f.last.common, a.h.number - 64);
    assert_int_equal(f.last.old_tip, a.h.number);
    struct header x;
    FAILS(LOAM_ENOTFOUND, chain_header_by_hash(f.c, &x, &a.h.hash, &e));
    OK(chain_header_by_hash(f.c, &x, &b.h.hash, &e));
    assert_int_equal(b.reorgs, 1);
    /* The same height with another block, without a longer chain. */
    rpc_do(&f, "anvil_reorg", "[5, []]");
    OK(chain_sync(f.c, &e));
    assert_int_equal(f.reorgs, 2);
    /* A chain that only lost blocks: given up after it was denied twice. */
    OK(chain_head(f.c, &a, &e));
    rpc_do(&f, "anvil_rollback", "[4]");
    OK(chain_sync(f.c, &e));
    assert_int_equal(f.reorgs, 2);
    OK(chain_sync(f.c, &e));
    assert_int_equal(f.reorgs, 3);
    OK(chain_head(f.c, &b, &e));
    assert_int_equal(b.h.number, a.h.number - 4);
    finish(&f);
}

static void test_follow(void **state) {
    struct fixture f;
    struct err e;
    struct chain_head h;
    NEED_ANVIL();
    begin(&f);
    OK(chain_start(f.c, &e));
    OK(chain_wait(f.c, 1, 60000, NULL, &e));
    OK(chain_head(f.c, &h, &e));
    uint64_t n = h.h.number;
    rpc_do(&f, "anvil_mine", "[\"0x2\"]");
    chain_poke(f.c);
    OK(chain_wait(f.c, n + 2, 60000, NULL, &e));
    FAILS(LOAM_ETIMEOUT, chain_wait(f.c, n + 1000, 200, NULL, &e));
    finish(&f);
}

static void test_wrong_chain(void **state) {
    struct fixture f;
    struct err e;
    NEED_ANVIL();
    begin(&f);
    OK(chain_sync(f.c, &e));
    struct chain *c;
    struct chain_config cfg = {.chain_id = 1612, .rules = {.anvil = true}};
    OK(chain_new(&c, &cfg, f.rpc, &f.store, NULL, &e));
    FAILS(LOAM_ECHAIN, chain_check(c, &e));
    chain_free(c);
    cfg.chain_id = 31337;
    cfg.has_genesis = true;
    OK(chain_new(&c, &cfg, f.rpc, &f.store, NULL, &e));
    FAILS(LOAM_EGENESIS, chain_check(c, &e));
    chain_free(c);
    finish(&f);
}

/* runtime reverts with Error("no"): built by the ABI */
static void test_revert(void **state) {
    struct fixture f;
    struct err e;
    struct buf b = BUF_INIT(1024), out = BUF_INIT(4096);
    struct tx_signer signer;
    uint64_t gas;
    char text[64];
    NEED_ANVIL();
    begin(&f);
    OK(chain_sync(f.c, &e));
    OK(tx_signer_from_key(&signer, dev_key, &e));
    /* codecopy(0, 12, n) revert(0, n), then the reason */
    static const uint8_t head[] = {0x60, 0x64, 0x60, 0x0c, 0x60, 0x00, 0x39, 0x60, 0x64, 0x60, 0x00, 0xfd};
    OK(buf_add(&b, head, sizeof head, &e));
    OK(abi_call(&b, "Error(string)", ABI(abi_str("no")), &e));
    FAILS(LOAM_EREVERT, chain_gas(f.c, &gas, &out, &signer.addr, NULL, b.data, b.len, U256_ZERO, &e));
    assert_string_equal(abi_revert(text, sizeof text, out.data, out.len, NULL), "no");
    buf_clear(&b);
    buf_clear(&out);
    finish(&f);
}

static struct ws_watch *watch;
static struct chain *watched;
static struct ws_watch_state watch_state;
static char ws_url[64];
static void watch_begin(void) {
    struct err e;
    if (ws_watch_new(&watch, http, ws_url, watched, &e))
        abort();
}
static void watch_look(void) {
    ws_watch_state(&watch_state, watch);
}
static void watch_end(void) {
    ws_watch_close(watch);
}

/* newHeads over WebSocket: the head moves without polling. */
static void test_new_heads(void **state) {
    struct fixture f;
    struct err e;
    struct chain_head h;
    NEED_ANVIL();
    begin(&f);
    chain_free(f.c);
    struct chain_config cfg = {.chain_id = 31337, .rules = {.anvil = true}, .poll_ms = 3600000};
    OK(chain_new(&f.c, &cfg, f.rpc, &f.store, NULL, &e));
    OK(chain_start(f.c, &e));
    OK(chain_wait(f.c, 1, 60000, NULL, &e));
    snprintf(ws_url, sizeof ws_url, "ws://127.0.0.1:%u", port);
    watched = f.c;
    on_loop(watch_begin);
    for (int i = 0; i < 100 && !watch_state.subscribed; i++) {
        usleep(20000);
        on_loop(watch_look);
    }
    assert_true(watch_state.connected && watch_state.subscribed);
    OK(chain_head(f.c, &h, &e));
    for (uint64_t i = 1; i <= 5; i++) {
        rpc_do(&f, "anvil_mine", "[\"0x1\"]");
        OK(chain_wait(f.c, h.h.number + i, 60000, NULL, &e));
    }
    for (int i = 0; i < 250 && watch_state.heads < 5; i++) { /* the last message may come after the poll it caused */
        usleep(20000);
        on_loop(watch_look);
    }
    assert_true(watch_state.heads >= 5);
    on_loop(watch_end);
    finish(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sync_and_read), cmocka_unit_test(test_contract), cmocka_unit_test(test_reorg),
        cmocka_unit_test(test_follow),        cmocka_unit_test(test_wrong_chain), cmocka_unit_test(test_revert),
        cmocka_unit_test(test_new_heads),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
