/* HTTP client against raw sockets that misbehave, TLS with certificates made here, WebSocket, the server transport, and the
 * EigenDA proxy client against a simulator of the proxy. */
#include "test.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "net/da.h"
#include "net/http.h"
#include "net/rpc.h"
#include "net/server.h"
#include "net/ws.h"

#include <arpa/inet.h>
#include <errno.h>
#include <mbedtls/base64.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/sha1.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_cache.h>
#include <mbedtls/x509_crt.h>
#include <mbedtls/net_sockets.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

static uv_loop_t loop;
static uv_thread_t loop_thread;
static uv_async_t quit, call;
static struct http *http;
static struct server *server;
static void (*call_fn)(void);
static uv_sem_t called;

/* ---- a raw server: one thread, blocking ---- */

struct piece {
    const char *text;
    unsigned pause_ms;
};
struct raw {
    int fd;
    unsigned port;
    uv_thread_t t;
    const struct piece *pieces; /* ends with text NULL */
    int connections;            /* to serve, one after another, each with all pieces */
    bool read_first, hold;      /* hold: keep it open at the end */
    unsigned seen;
    atomic_bool done; /* ends the holding */
};
static void raw_run(void *arg) {
    struct raw *r = arg;
    for (int i = 0; i < r->connections; i++) {
        int c = accept(r->fd, NULL, NULL);
        if (c < 0)
            return;
        r->seen++;
        char buf[4096];
        if (r->read_first && read(c, buf, sizeof buf) < 0)
            break;
        for (const struct piece *p = r->pieces; p->text; p++) {
            usleep(1000 * p->pause_ms);
            if (send(c, p->text, strlen(p->text), MSG_NOSIGNAL) < 0)
                break;
        }
        struct timeval tv = {0, 50000};
        setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
        for (ssize_t k = 1; r->hold && !r->done && k;)
            if ((k = read(c, buf, sizeof buf)) < 0 && errno != EAGAIN)
                break;
        close(c);
    }
}
static void raw_listen(struct raw *r) {
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof a;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    r->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(r->fd >= 0 && !bind(r->fd, (struct sockaddr *)&a, n) && !listen(r->fd, 8) && !getsockname(r->fd, (struct sockaddr *)&a, &n));
    r->port = ntohs(a.sin_port);
}
static void raw_start(struct raw *r, const struct piece *p, bool hold) {
    memset(r, 0, sizeof *r);
    raw_listen(r);
    r->pieces = p;
    r->connections = 1;
    r->read_first = true;
    r->hold = hold;
    uv_thread_create(&r->t, raw_run, r);
}
static void raw_stop(struct raw *r) {
    r->done = true;
    shutdown(r->fd, SHUT_RDWR);
    uv_thread_join(&r->t);
    close(r->fd);
}

/* ---- our server ---- */

static struct server_reply *kept;
static uv_thread_t streamer;

static void h_echo(const struct server_request *q, struct server_reply *r) {
    char v[64] = "";
    struct buf b = BUF_INIT(1 << 20);
    server_query(v, sizeof v, q, "x");
    const char *h = server_header(q, "x-test");
    if (!buf_printf(&b, NULL, "%s %s rest=%s x=%s h=%s loop=%d ", q->method, q->path, q->rest, v, h ? h : "", q->loopback) &&
        !buf_add(&b, q->body, q->body_len, NULL))
        server_send(r, 200, "text/plain", b.data, b.len);
    buf_clear(&b);
}
static void stream_events(void *arg) {
    struct server_reply *r = arg;
    char text[64];
    for (int i = 0; i < 5; i++) {
        snprintf(text, sizeof text, "data: %d\n\n", i);
        if (server_write(r, text, strlen(text), NULL))
            break;
        usleep(5000);
    }
    server_end(r);
}
static void h_stream(const struct server_request *q, struct server_reply *r) {
    if (server_begin(r, 200, "text/event-stream", -1, NULL, NULL)) {
        server_end(r);
        return;
    }
    uv_thread_create(&streamer, stream_events, r);
}
static size_t pushed;
static void push_much(void *arg) {
    struct server_reply *r = arg;
    char *big = calloc(1, 1 << 16);
    for (pushed = 0; pushed < (256u << 20); pushed += 1 << 16)
        if (server_write(r, big, 1 << 16, NULL))
            break;
    free(big);
    server_end(r);
}
static void h_much(const struct server_request *q, struct server_reply *r) {
    if (!server_begin(r, 200, "application/octet-stream", -1, NULL, NULL))
        uv_thread_create(&streamer, push_much, r);
}
static void h_keep(const struct server_request *q, struct server_reply *r) {
    kept = r;
}
static void h_short(const struct server_request *q, struct server_reply *r) { /* says 10 bytes, gives 4 */
    if (!server_begin(r, 200, "text/plain", 10, NULL, NULL) && !server_write(r, "four", 4, NULL))
        server_end(r);
}

/* EigenDA proxy: put, get, the statuses. The key byte of a generic commitment is random; a map of one. */
static uint8_t da_blob[1 << 16];
static size_t da_len;
static int da_status;
static bool da_alter, da_empty;
static void h_da(const struct server_request *q, struct server_reply *r) {
    static const uint8_t generic[] = {1, 0, 0, 0xc1, 0x80}; /* V1 certificate: any RLP list */
    if (da_status) {
        static const char drop[] = "{\"StatusCode\":3,\"Msg\":\"invalid cert\"}";
        server_send(r, da_status, "application/json", drop, strlen(drop));
    } else if (!strcmp(q->method, "POST")) {
        memcpy(da_blob, q->body, q->body_len);
        da_len = q->body_len;
        if (!strncmp(q->path, "/da/put/0x00", 12))
            server_send(r, 200, "application/octet-stream", "", 0);
        else
            server_send(r, 200, "application/octet-stream", da_empty ? "" : (const char *)generic + (strstr(q->query, "standard") ? 2 : 0), da_empty ? 0 : strstr(q->query, "standard") ? 3 : 5);
    } else {
        if (da_alter)
            da_blob[0] ^= 1;
        server_send(r, 200, "application/octet-stream", da_blob, da_empty ? 0 : da_len);
    }
}

static const struct server_route routes[] = {
    {"GET", "/echo", h_echo, NULL},     {"POST", "/echo", h_echo, NULL},   {"GET", "/prefix/*", h_echo, NULL}, {"GET", "/stream", h_stream, NULL},
    {"GET", "/keep", h_keep, NULL},     {"GET", "/short", h_short, NULL},  {NULL, "/da/*", h_da, NULL},        {"GET", "/much", h_much, NULL},
    {0}};

static void http_gone(void *arg) {
    uv_close((uv_handle_t *)&quit, NULL);
    uv_close((uv_handle_t *)&call, NULL);
}
static bool named(const char *host, void *arg) {
    return !strcmp(host, "box.example");
}
static void server_closed(void *arg) {
    http_close(http, http_gone, NULL);
}
static void on_quit(uv_async_t *a) {
    server_close(server, server_closed, NULL);
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
static void run_loop(void *arg) {
    uv_run(&loop, UV_RUN_DEFAULT);
}

static char ca_path[256];
static mbedtls_x509_crt srv_crt, old_crt;
static mbedtls_pk_context srv_key;
static mbedtls_ctr_drbg_context drbg;
static mbedtls_entropy_context entropy;

static void make_cert(mbedtls_x509_crt *out, const char *name, const char *from, const char *to, const char *file) {
    mbedtls_x509write_cert w;
    mbedtls_mpi serial;
    unsigned char pem[4096];
    struct err e;
    mbedtls_x509write_crt_init(&w);
    mbedtls_mpi_init(&serial);
    mbedtls_x509_crt_init(out);
    assert_int_equal(mbedtls_mpi_lset(&serial, 1), 0);
    mbedtls_x509write_crt_set_md_alg(&w, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&w, &srv_key);
    mbedtls_x509write_crt_set_issuer_key(&w, &srv_key);
    assert_int_equal(mbedtls_x509write_crt_set_subject_name(&w, name), 0);
    assert_int_equal(mbedtls_x509write_crt_set_issuer_name(&w, name), 0);
    mbedtls_x509write_crt_set_version(&w, MBEDTLS_X509_CRT_VERSION_3);
    assert_int_equal(mbedtls_x509write_crt_set_serial(&w, &serial), 0);
    assert_int_equal(mbedtls_x509write_crt_set_validity(&w, from, to), 0);
    assert_int_equal(mbedtls_x509write_crt_set_basic_constraints(&w, 1, -1), 0);
    assert_int_equal(mbedtls_x509write_crt_pem(&w, pem, sizeof pem, mbedtls_ctr_drbg_random, &drbg), 0);
    assert_int_equal(mbedtls_x509_crt_parse(out, pem, strlen((char *)pem) + 1), 0);
    if (file)
        OK(file_write(file, pem, strlen((char *)pem), 0600, &e));
    mbedtls_x509write_crt_free(&w);
    mbedtls_mpi_free(&serial);
}

static int setup(void **state) {
    struct err e;
    signal(SIGPIPE, SIG_IGN);
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&drbg);
    mbedtls_pk_init(&srv_key);
    assert_int_equal(mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, NULL, 0), 0);
    assert_int_equal(mbedtls_pk_setup(&srv_key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), 0);
    assert_int_equal(mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(srv_key), mbedtls_ctr_drbg_random, &drbg), 0);
    snprintf(ca_path, sizeof ca_path, "/tmp/loam-test-ca-%d.pem", (int)getpid());
    make_cert(&srv_crt, "CN=localhost", "20200101000000", "20991231235959", ca_path);
    uv_sem_init(&called, 0);
    uv_loop_init(&loop);
    uv_async_init(&loop, &quit, on_quit);
    uv_async_init(&loop, &call, on_call);
    OK(http_new(&http, &loop, &(struct http_config){.no_proxy = true, .ca_file = ca_path}, &e));
    OK(server_new(&server, &loop, &(struct server_config){.routes = routes, .max_body = 1 << 20, .host_ok = named}, &e));
    uv_thread_create(&loop_thread, run_loop, NULL);
    return 0;
}
static int teardown(void **state) {
    uv_async_send(&quit);
    uv_thread_join(&loop_thread);
    unlink(ca_path);
    mbedtls_x509_crt_free(&srv_crt);
    mbedtls_pk_free(&srv_key);
    mbedtls_ctr_drbg_free(&drbg);
    mbedtls_entropy_free(&entropy);
    uv_sem_destroy(&called);
    return uv_loop_close(&loop);
}

/* Hasty only where the time-out is what is tested: a busy machine is slow by itself. */
static enum loam_status get_from(unsigned port, const char *path, struct http_response *r, size_t max, bool hasty, struct err *e) {
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", port, path);
    struct http_request q = {.url = url, .timeout_ms = hasty ? 600 : 60000, .max_body = max};
    return http_fetch_wait(http, r, &q, e);
}

/* ---- client ---- */

static void test_bad_servers(void **state) {
    static char huge[80000];
    memset(huge, 'h', sizeof huge - 1);
    memcpy(huge, "HTTP/1.1 200 OK\r\nX: ", 20);
    static const struct {
        const char *name;
        struct piece p[4];
        bool hold;
        enum loam_status code;
        const char *body;
    } cases[] = {
        {"good", {{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 0}}, true, LOAM_OK, "ok"},
        {"split", {{"HTTP/1.1 2", 0}, {"00 OK\r\nContent-Le", 20}, {"ngth: 2\r\n\r\no", 20}}, false, LOAM_ECUT, NULL},
        {"split and whole", {{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r", 0}, {"\na", 20}, {"bc", 20}}, true, LOAM_OK, "abc"},
        {"chunked", {{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 0}, {"2;x=y\r\nde\r\n0\r\n\r\n", 5}}, true, LOAM_OK, "abcde"},
        {"until the end", {{"HTTP/1.0 200 OK\r\n\r\nall of it", 0}}, false, LOAM_OK, "all of it"},
        {"chunked, cut", {{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", 0}}, false, LOAM_ECUT, NULL},
        {"bad chunk", {{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab", 0}}, true, LOAM_EHTTP, NULL},
        {"nonsense", {{"SSH-2.0-OpenSSH_9.2\r\n", 0}}, true, LOAM_EHTTP, NULL},
        {"no answer", {{"", 0}}, false, LOAM_ENET, NULL},
        {"two lengths", {{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", 0}}, true, LOAM_EHTTP, NULL},
        {"negative length", {{"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 0}}, true, LOAM_EHTTP, NULL},
        {"length of 2^64", {{"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n", 0}}, true, LOAM_EHTTP, NULL},
        {"body over the limit", {{"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", 0}}, true, LOAM_ELIMIT, NULL},
        {"headers without end", {{huge, 0}}, true, LOAM_ELIMIT, NULL},
        {"compressed", {{"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nab", 0}}, true, LOAM_EENCODING, NULL},
        {"upgrade unasked", {{"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 0}}, true, LOAM_EHTTP, NULL},
        {"100 first", {{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 0}}, true, LOAM_OK, "x"},
        {"drip", {{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 0}, {"a", 300}, {"b", 500}}, true, LOAM_ETIMEOUT, NULL},
        {"silence", {{"", 0}}, true, LOAM_ETIMEOUT, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct raw r;
        struct http_response a;
        struct err e;
        struct piece p[5] = {{0}};
        memcpy(p, cases[i].p, sizeof cases[i].p);
        raw_start(&r, p, cases[i].hold);
        e.text[0] = 0;
        enum loam_status s = get_from(r.port, "/", &a, 4096, cases[i].code == LOAM_ETIMEOUT, &e);
        if (s != cases[i].code)
            fail_msg("%s: %s (%s)", cases[i].name, status_name(s), e.text);
        if (!s)
            assert_string_equal((char *)a.body.data, cases[i].body);
        http_response_clear(&a);
        raw_stop(&r);
    }
    struct http_response a;
    struct err e;
    FAILS(LOAM_ENET, get_from(1, "/", &a, 0, false, &e));
    http_response_clear(&a);
}

static void test_urls(void **state) {
    struct url u;
    struct err e;
    OK(url_parse(&u, "https://rpc.example.org/v1?k=2", &e));
    assert_true(u.tls && u.port == 443 && !strcmp(u.host, "rpc.example.org") && !strcmp(u.path, "/v1?k=2"));
    OK(url_parse(&u, "http://[::1]:8545", &e));
    assert_true(!u.tls && u.port == 8545 && !strcmp(u.host, "::1") && !strcmp(u.path, ""));
    static const char *const bad[] = {"", "ftp://x", "http://", "http://:80", "http://h:0", "http://h:65536", "http://h:8x", "http://u:p@h/", "http://a b/", "http://[::1", "http://h/\r\nX: y"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        FAILS(LOAM_EINVAL, url_parse(&u, bad[i], &e));
}

static atomic_bool stop_now;
static bool is_cancelled(void *arg) {
    return stop_now;
}
static void cancel_soon(void *arg) {
    usleep(150000);
    stop_now = true;
}
static void test_cancel(void **state) {
    struct raw r;
    struct err e;
    struct http_response a;
    char url[64];
    uv_thread_t t;
    static const struct piece none[] = {{NULL, 0}};
    raw_start(&r, none, true);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", r.port);
    struct http_cancel c = {is_cancelled, NULL};
    struct http_request q = {.url = url, .timeout_ms = 20000, .cancel = &c};
    uv_thread_create(&t, cancel_soon, NULL);
    uint64_t at = clock_mono_us();
    FAILS(LOAM_ECANCEL, http_fetch_wait(http, &a, &q, &e));
    assert_true(clock_mono_us() - at < 2000000);
    uv_thread_join(&t);
    raw_stop(&r);
}

/* ---- server ---- */

static void test_server(void **state) {
    struct http_response a;
    struct err e;
    unsigned port = server_port(server);
    char url[128];
    OK(get_from(port, "/echo?x=a%20b+c&y=1", &a, 0, false, &e));
    assert_int_equal(a.status, 200);
    assert_string_equal((char *)a.body.data, "GET /echo rest= x=a b c h= loop=1 ");
    http_response_clear(&a);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/echo", port);
    struct http_request q = {.url = url, .body = "hello", .body_len = 5, .headers = (const char *const[]){"X-Test: yes", NULL}};
    for (int i = 0; i < 20; i++) { /* kept alive */
        OK(http_fetch_wait(http, &a, &q, &e));
        assert_string_equal((char *)a.body.data, "POST /echo rest= x= h=yes loop=1 hello");
        http_response_clear(&a);
    }
    OK(get_from(port, "/prefix/abc%2Fdef", &a, 0, false, &e));
    assert_string_equal((char *)a.body.data, "GET /prefix/abc/def rest=abc/def x= h= loop=1 ");
    http_response_clear(&a);
    OK(get_from(port, "/none", &a, 0, false, &e));
    assert_int_equal(a.status, 404);
    FAILS(LOAM_ENOTFOUND, http_check(&a, &e));
    http_response_clear(&a);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/stream", port);
    q = (struct http_request){.url = url, .method = "PUT", .body = "x", .body_len = 1};
    OK(http_fetch_wait(http, &a, &q, &e));
    assert_int_equal(a.status, 405);
    http_response_clear(&a);
    OK(get_from(port, "/%zz", &a, 0, false, &e));
    assert_int_equal(a.status, 400);
    http_response_clear(&a);
    OK(get_from(port, "/stream", &a, 0, false, &e));
    uv_thread_join(&streamer);
    assert_string_equal((char *)a.body.data, "data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n");
    assert_string_equal(a.content_type, "text/event-stream");
    http_response_clear(&a);
    FAILS(LOAM_ECUT, get_from(port, "/short", &a, 0, false, &e));
    http_response_clear(&a);
    /* a body over the server's limit */
    char *big = calloc(1, 2 << 20);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/echo", port);
    q = (struct http_request){.url = url, .body = big, .body_len = 2 << 20};
    enum loam_status s = http_fetch_wait(http, &a, &q, &e);
    assert_true((!s && a.status == 413) || s == LOAM_ENET || s == LOAM_ECUT);
    http_response_clear(&a);
    free(big);
    /* a handler that never answers: the client gives up, the reply learns of it */
    FAILS(LOAM_ETIMEOUT, get_from(port, "/keep", &a, 0, true, &e));
    http_response_clear(&a);
    for (int i = 0; i < 100 && !server_gone(kept); i++)
        usleep(10000);
    assert_true(server_gone(kept));
    FAILS(LOAM_ENET, server_begin(kept, 200, "text/plain", 1, NULL, &e));
    server_end(kept);
}

static enum loam_status slow_taker(void *arg, const void *p, size_t n) {
    size_t *got = arg;
    *got += n;
    return *got > (24u << 20) ? LOAM_ECANCEL : LOAM_OK;
}
static void test_backpressure(void **state) {
    struct http_response a;
    struct err e;
    char url[128];
    size_t got = 0;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/much", server_port(server));
    struct http_request q = {.url = url, .on_body = slow_taker, .body_arg = &got, .timeout_ms = 20000};
    FAILS(LOAM_ECANCEL, http_fetch_wait(http, &a, &q, &e)); /* the receiver stops; the server's job notices */
    http_response_clear(&a);
    uv_thread_join(&streamer);
    assert_true(pushed < (256u << 20));
    assert_true(got > (24u << 20));
}

static void talk(unsigned port, const char *text, char *out, size_t cap) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval tv = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    size_t n = 0;
    ssize_t k;
    while (n + 1 < cap && (k = recv(fd, out + n, cap - 1 - n, 0)) > 0)
        n += (size_t)k;
    out[n] = 0;
    close(fd);
}
static void test_server_raw(void **state) {
    char out[8192];
    unsigned port = server_port(server);
    talk(port, "GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\nGET /echo?x=2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", out, sizeof out); /* pipelined */
    assert_non_null(strstr(out, "x= h="));
    assert_non_null(strstr(out, "x=2 h="));
    talk(port, "nonsense\r\n\r\n", out, sizeof out);
    assert_non_null(strstr(out, "400 Bad Request"));
    static char big[20000];
    memset(big, 'a', sizeof big - 1);
    memcpy(big, "GET /", 5);
    talk(port, big, out, sizeof out);
    assert_true(!*out || strstr(out, "431"));
    talk(port, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n", out, sizeof out);
    assert_non_null(strstr(out, "413"));
    talk(port, "GET relative HTTP/1.1\r\nHost: localhost\r\n\r\n", out, sizeof out);
    assert_non_null(strstr(out, "400"));
    talk(port, "HEAD /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", out, sizeof out);
    assert_non_null(strstr(out, "200 OK"));
    assert_null(strstr(out, "rest="));
}

/* Who may ask: every refusal beside the same request unaltered. */
static void test_server_hosts(void **state) {
    static const struct {
        const char *lines;
        int status;
    } asked[] = {
        {"Host: localhost:%u\r\n", 200}, /* (%u is the port, where it stands) */
        {"Host: LocalHost\r\n", 200},
        {"Host: localhost.\r\n", 200},
        {"Host: 127.0.0.1:%u\r\n", 200},
        {"Host: 127.9.8.7\r\n", 200},
        {"Host: [::1]:%u\r\n", 200},
        {"Host: [::1]\r\n", 200},
        {"Host: box.example:%u\r\n", 200}, /* named by the owner */
        {"Host: evil.example\r\n", 421},
        {"Host: evil.example:%u\r\n", 421},
        {"Host: localhost.evil.example\r\n", 421},
        {"Host: 127.0.0.1.evil.example\r\n", 421},
        {"Host: 192.0.2.1\r\n", 421}, /* not the address that it came in at */
        {"Host: [2001:db8::1]\r\n", 421},
        {"Host: 0.0.0.0:%u\r\n", 421},
        {"Host: 2130706433\r\n", 421}, /* 127.0.0.1 as one number: no address by the rules of a URL's text */
        {"Host: user@localhost\r\n", 400},
        {"Host: localhost/evil\r\n", 400},
        {"Host: [::1]:80x\r\n", 400},
        {"Host: localhost:80x\r\n", 400},
        {"Host: [::1\r\n", 400},
        {"Host: [::1]x\r\n", 400},
        {"Host:\r\n", 400},
        {"", 400},
        {"Host: localhost\r\nHost: localhost\r\n", 400},
        {"Host: localhost\r\nhost: evil.example\r\n", 400},
        {"Host: localhost:%u\r\nOrigin: http://localhost:%u\r\n", 200},
        {"Host: box.example\r\nOrigin: https://box.example\r\n", 200}, /* behind a proxy that speaks TLS */
        {"Host: localhost:%u\r\nOrigin: http://evil.example\r\n", 403},
        {"Host: localhost:%u\r\nOrigin: http://localhost:1\r\n", 403},
        {"Host: localhost:%u\r\nOrigin: http://localhost:%u.evil.example\r\n", 403},
        {"Host: localhost\r\nOrigin: null\r\n", 403},
        {"Host: localhost\r\nOrigin: file://\r\n", 403},
        {"Host: localhost\r\nOrigin:\r\n", 403},
        {"Host: localhost\r\nOrigin: http://localhost\r\nOrigin: http://localhost\r\n", 400},
    };
    char out[8192], text[512], lines[256], want[32];
    unsigned port = server_port(server);
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        size_t n = 0;
        for (const char *p = asked[i].lines; *p; p++)
            if (p[0] == '%') {
                n += (size_t)snprintf(lines + n, sizeof lines - n, "%u", port);
                p++;
            } else {
                lines[n++] = *p;
            }
        lines[n] = 0;
        snprintf(text, sizeof text, "POST /echo HTTP/1.1\r\n%sContent-Length: 5\r\nConnection: close\r\n\r\nhello", lines);
        snprintf(want, sizeof want, "HTTP/1.1 %d ", asked[i].status);
        talk(port, text, out, sizeof out);
        if (strncmp(out, want, strlen(want)))
            fail_msg("%s: not %d but %.60s", lines, asked[i].status, out);
        assert_null(strcasestr(out, "access-control"));
        if (asked[i].status == 200)
            assert_non_null(strstr(out, "loop=1 hello"));
        else
            assert_non_null(strstr(out, "{\"error\":{\"message\":\""));
        if (asked[i].status == 421)
            assert_non_null(strstr(out, "\"code\":\"host_not_allowed\""));
        if (asked[i].status == 403)
            assert_non_null(strstr(out, "\"code\":\"origin_not_allowed\""));
    }
    /* a refused request's body is not taken for a request, and what a browser asks before it sends elsewhere is answered with no leave */
    talk(port, "POST /echo HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 60\r\n\r\nGET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n", out, sizeof out);
    assert_non_null(strstr(out, "421"));
    assert_null(strstr(out, "200 OK"));
    talk(port, "OPTIONS /stream HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n\r\n", out, sizeof out);
    assert_non_null(strstr(out, "403 Forbidden"));
    assert_null(strcasestr(out, "access-control"));
    talk(port, "GET /echo HTTP/1.0\r\n\r\n", out, sizeof out);
    assert_non_null(strstr(out, "200 OK"));
    talk(port, "GET /echo HTTP/1.0\r\nOrigin: http://evil.example\r\n\r\n", out, sizeof out);
    assert_non_null(strstr(out, "400"));
    /* over 64 fields */
    char *many = calloc(1, 4096), *p = many;
    p += sprintf(p, "GET /echo HTTP/1.1\r\nHost: localhost\r\n");
    for (int i = 0; i < 64; i++)
        p += sprintf(p, "x%d: y\r\n", i);
    sprintf(p, "\r\n");
    talk(port, many, out, sizeof out);
    assert_non_null(strstr(out, "431"));
    free(many);
}

static struct server *twice;
static enum loam_status twice_status;
static void try_twice(void) {
    static const struct server_route none[] = {{0}};
    twice_status = server_new(&twice, &loop, &(struct server_config){.routes = none, .port = server_port(server)}, NULL);
}
static void test_port_in_use(void **state) {
    on_loop(try_twice);
    assert_int_equal(twice_status, LOAM_EBUSY);
}

/* ---- TLS ---- */

struct tls_server {
    struct raw r;
    mbedtls_x509_crt *crt;
    const char *body;
};
/* The server's kept sessions: a client that offers one of them resumes. */
static mbedtls_ssl_cache_context kept_sessions;
static unsigned resumed, full;
static int kept_get(void *arg, mbedtls_ssl_session *s) {
    int rc = mbedtls_ssl_cache_get(arg, s);
    resumed += !rc;
    return rc;
}
static int kept_set(void *arg, const mbedtls_ssl_session *s) {
    full++;
    return mbedtls_ssl_cache_set(arg, s);
}
static void tls_run(void *arg) {
    struct tls_server *t = arg;
    mbedtls_ssl_config conf;
    mbedtls_ssl_context ssl;
    for (int i = 0; i < t->r.connections; i++) {
        mbedtls_net_context c = {accept(t->r.fd, NULL, NULL)};
        if (c.fd < 0)
            return;
        mbedtls_ssl_config_init(&conf);
        mbedtls_ssl_init(&ssl);
        mbedtls_ssl_config_defaults(&conf, MBEDTLS_SSL_IS_SERVER, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
        mbedtls_ssl_conf_rng(&conf, mbedtls_ctr_drbg_random, &drbg);
        mbedtls_ssl_conf_session_cache(&conf, &kept_sessions, kept_get, kept_set);
        if (mbedtls_ssl_conf_own_cert(&conf, t->crt, &srv_key) || mbedtls_ssl_setup(&ssl, &conf))
            abort();
        mbedtls_ssl_set_bio(&ssl, &c, mbedtls_net_send, mbedtls_net_recv, NULL);
        if (!mbedtls_ssl_handshake(&ssl)) {
            unsigned char buf[4096];
            char out[256];
            if (mbedtls_ssl_read(&ssl, buf, sizeof buf) > 0) {
                snprintf(out, sizeof out, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s", strlen(t->body), t->body);
                mbedtls_ssl_write(&ssl, (unsigned char *)out, strlen(out));
                mbedtls_ssl_close_notify(&ssl);
            }
        }
        mbedtls_ssl_free(&ssl);
        mbedtls_ssl_config_free(&conf);
        close(c.fd);
    }
}
static enum loam_status tls_get(mbedtls_x509_crt *crt, const char *host, char *out, size_t cap, struct err *e) {
    struct tls_server t = {.crt = crt, .body = "over TLS"};
    struct http_response a;
    char url[128];
    raw_listen(&t.r);
    t.r.connections = 1;
    uv_thread_create(&t.r.t, tls_run, &t);
    snprintf(url, sizeof url, "https://%s:%u/x", host, t.r.port);
    struct http_request q = {.url = url, .timeout_ms = 60000};
    enum loam_status s = http_fetch_wait(http, &a, &q, e);
    snprintf(out, cap, "%s", a.body.len ? (char *)a.body.data : "");
    http_response_clear(&a);
    raw_stop(&t.r);
    return s;
}
static void test_tls(void **state) {
    struct err e;
    char out[64];
    mbedtls_x509_crt other;
    mbedtls_ssl_cache_init(&kept_sessions);
    resumed = full = 0;
    OK(tls_get(&srv_crt, "localhost", out, sizeof out, &e));
    assert_string_equal(out, "over TLS");
    assert_true(!resumed && full == 1);
    for (unsigned i = 1; i <= 3; i++) { /* the session is resumed: no certificate, no key exchange */
        OK(tls_get(&srv_crt, "localhost", out, sizeof out, &e));
        assert_string_equal(out, "over TLS");
        assert_int_equal(resumed, i);
    }
    mbedtls_ssl_cache_free(&kept_sessions); /* a server that forgot it (restart): a full handshake again, nothing fails */
    mbedtls_ssl_cache_init(&kept_sessions);
    OK(tls_get(&srv_crt, "localhost", out, sizeof out, &e));
    assert_int_equal(resumed, 3);
    clock_set(clock_mono_us() + 2 * 3600000000ull, clock_unix_ms()); /* an old session is not offered any more */
    OK(tls_get(&srv_crt, "localhost", out, sizeof out, &e));
    clock_set(0, 0);
    assert_int_equal(resumed, 3);
    mbedtls_ssl_cache_free(&kept_sessions);
    mbedtls_ssl_cache_init(&kept_sessions);
    FAILS(LOAM_ECERT, tls_get(&srv_crt, "127.0.0.1", out, sizeof out, &e)); /* for another host */
    make_cert(&old_crt, "CN=localhost", "20100101000000", "20110101000000", NULL);
    FAILS(LOAM_ECERT, tls_get(&old_crt, "localhost", out, sizeof out, &e)); /* expired; its issuer is the trusted key */
    mbedtls_x509_crt_free(&old_crt);
    make_cert(&other, "CN=rpc.example.org", "20200101000000", "20991231235959", NULL);
    FAILS(LOAM_ECERT, tls_get(&other, "localhost", out, sizeof out, &e));
    mbedtls_x509_crt_free(&other);
    /* a server that does not speak TLS */
    struct raw r;
    static const struct piece p[] = {{"HTTP/1.1 400 Bad Request\r\n\r\n", 0}, {NULL, 0}};
    struct http_response a;
    char url[64];
    raw_start(&r, p, false);
    snprintf(url, sizeof url, "https://localhost:%u/", r.port);
    struct http_request q = {.url = url, .timeout_ms = 60000};
    FAILS(LOAM_ETLS, http_fetch_wait(http, &a, &q, &e));
    http_response_clear(&a);
    raw_stop(&r);
    mbedtls_ssl_cache_free(&kept_sessions);
}

/* ---- proxies of the environment ---- */

struct proxy {
    struct raw r;
    mbedtls_x509_crt *crt; /* after CONNECT: TLS with this; NULL: plain */
    const char *reply;
    char seen_text[512];
};
static void proxy_run(void *arg) {
    struct proxy *p = arg;
    int c = accept(p->r.fd, NULL, NULL);
    size_t n = 0;
    ssize_t k;
    if (c < 0)
        return;
    while (n + 1 < sizeof p->seen_text && (k = read(c, p->seen_text + n, sizeof p->seen_text - 1 - n)) > 0) {
        n += (size_t)k;
        p->seen_text[n] = 0;
        if (strstr(p->seen_text, "\r\n\r\n"))
            break;
    }
    if (send(c, p->reply, strlen(p->reply), MSG_NOSIGNAL) < 0) {
    }
    if (p->crt) { /* what the far end would say through the tunnel */
        mbedtls_ssl_config conf;
        mbedtls_ssl_context ssl;
        mbedtls_net_context net = {c};
        unsigned char buf[4096];
        static const char out[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\ntunnel";
        mbedtls_ssl_config_init(&conf);
        mbedtls_ssl_init(&ssl);
        mbedtls_ssl_config_defaults(&conf, MBEDTLS_SSL_IS_SERVER, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
        mbedtls_ssl_conf_rng(&conf, mbedtls_ctr_drbg_random, &drbg);
        if (mbedtls_ssl_conf_own_cert(&conf, p->crt, &srv_key) || mbedtls_ssl_setup(&ssl, &conf))
            abort();
        mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
        if (!mbedtls_ssl_handshake(&ssl) && mbedtls_ssl_read(&ssl, buf, sizeof buf) > 0) {
            mbedtls_ssl_write(&ssl, (const unsigned char *)out, sizeof out - 1);
            mbedtls_ssl_close_notify(&ssl);
        }
        mbedtls_ssl_free(&ssl);
        mbedtls_ssl_config_free(&conf);
    }
    close(c);
}

static struct http *via;
static char via_ca[256];
static uv_sem_t via_closed;
static void via_open(void) {
    if (http_new(&via, &loop, &(struct http_config){.ca_file = via_ca}, NULL))
        abort();
}
static void via_gone(void *arg) {
    uv_sem_post(&via_closed);
}
static void via_close(void) {
    http_close(via, via_gone, NULL);
}

static enum loam_status through(struct proxy *p, const char *url, char *out, size_t cap, struct err *e) {
    struct http_response a;
    char text[64];
    raw_listen(&p->r);
    snprintf(text, sizeof text, "127.0.0.1:%u", p->r.port); /* without a scheme: http */
    setenv("http_proxy", text, 1);
    setenv("https_proxy", text, 1);
    setenv("no_proxy", "localhost, .example.org,10.0.0.1", 1);
    on_loop(via_open);
    unsetenv("http_proxy");
    unsetenv("https_proxy");
    unsetenv("no_proxy");
    uv_thread_create(&p->r.t, proxy_run, p);
    struct http_request q = {.url = url, .timeout_ms = 60000};
    enum loam_status s = http_fetch_wait(via, &a, &q, e);
    snprintf(out, cap, "%s", a.body.len ? (char *)a.body.data : "");
    http_response_clear(&a);
    uv_sem_init(&via_closed, 0);
    on_loop(via_close);
    uv_sem_wait(&via_closed);
    uv_sem_destroy(&via_closed);
    raw_stop(&p->r);
    return s;
}

static void test_proxy(void **state) {
    struct err e;
    char out[64];
    mbedtls_x509_crt far;
    snprintf(via_ca, sizeof via_ca, "/tmp/loam-test-far-%d.pem", (int)getpid());
    make_cert(&far, "CN=far.invalid", "20200101000000", "20991231235959", via_ca);
    struct proxy p = {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nvia"};
    OK(through(&p, "http://far.invalid:8545/path?q=1", out, sizeof out, &e));
    assert_string_equal(out, "via");
    assert_int_equal(strncmp(p.seen_text, "GET http://far.invalid:8545/path?q=1 HTTP/1.1\r\nHost: far.invalid:8545\r\n", 71), 0);
    p = (struct proxy){.reply = "HTTP/1.1 200 Connection established\r\n\r\n", .crt = &far};
    OK(through(&p, "https://far.invalid/x", out, sizeof out, &e));
    assert_string_equal(out, "tunnel");
    assert_int_equal(strncmp(p.seen_text, "CONNECT far.invalid:443 HTTP/1.1\r\n", 34), 0);
    p = (struct proxy){.reply = "HTTP/1.1 403 Forbidden\r\n\r\n"};
    FAILS(LOAM_ENET, through(&p, "https://far.invalid/x", out, sizeof out, &e));
    assert_non_null(strstr(e.text, "refused"));
    /* the certificate is the far end's, not the proxy's */
    p = (struct proxy){.reply = "HTTP/1.1 200 OK\r\n\r\n", .crt = &srv_crt};
    FAILS(LOAM_ECERT, through(&p, "https://far.invalid/x", out, sizeof out, &e));
    /* excepted hosts and loopback go directly: the proxy sees nothing */
    p = (struct proxy){.reply = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nvia"};
    if (!through(&p, "http://10.0.0.1:1/", out, sizeof out, &e)) /* nobody should be there; some sandboxes answer everything */
        assert_string_not_equal(out, "via");
    assert_int_equal(p.seen_text[0], 0);
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/echo", server_port(server));
    p = (struct proxy){.reply = "HTTP/1.1 500 no\r\n\r\n"};
    OK(through(&p, url, out, sizeof out, &e));
    assert_int_equal(p.seen_text[0], 0);
    mbedtls_x509_crt_free(&far);
    unlink(via_ca);
}

/* ---- WebSocket ---- */

struct ws_server {
    struct raw r;
    const char *status;  /* NULL: a right handshake */
    bool bad_accept;
    const uint8_t *frames;
    size_t frames_n;
};
static void ws_run(void *arg) {
    struct ws_server *s = arg;
    for (int i = 0; i < s->r.connections; i++) {
        int c = accept(s->r.fd, NULL, NULL);
        char buf[4096], cat[128], out[512];
        unsigned char sha[20], acc[64];
        size_t n = 0;
        ssize_t k;
        if (c < 0)
            return;
        while (n + 1 < sizeof buf && (k = read(c, buf + n, sizeof buf - 1 - n)) > 0) {
            n += (size_t)k;
            buf[n] = 0;
            if (strstr(buf, "\r\n\r\n"))
                break;
        }
        char *key = strstr(buf, "Sec-WebSocket-Key: ");
        if (!key)
            abort();
        key += 19;
        snprintf(cat, sizeof cat, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", (int)strcspn(key, "\r"), key);
        mbedtls_sha1_ret((unsigned char *)cat, strlen(cat), sha);
        mbedtls_base64_encode(acc, sizeof acc, &n, sha, 20);
        if (s->bad_accept)
            acc[0] ^= 1;
        if (s->status)
            snprintf(out, sizeof out, "HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n", s->status);
        else
            snprintf(out, sizeof out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", acc);
        if (send(c, out, strlen(out), MSG_NOSIGNAL) < 0 || (s->frames_n && send(c, s->frames, s->frames_n, MSG_NOSIGNAL) < 0)) {
        }
        usleep(50000);
        close(c);
    }
}
static struct {
    struct ws *w;
    char url[64], got[256];
    size_t n_text;
    bool opened;
    enum loam_status s;
    uv_sem_t ended;
} W;
static void w_open_cb(void *arg) {
    W.opened = true;
}
static void w_text_cb(void *arg, const char *p, size_t n) {
    W.n_text++;
    snprintf(W.got, sizeof W.got, "%.*s", (int)(n < 200 ? n : 200), p);
}
static void w_end_cb(void *arg, enum loam_status s, const struct err *e) {
    W.s = s;
    uv_sem_post(&W.ended);
}
static void ws_begin(void) {
    static const struct ws_events ev = {w_open_cb, w_text_cb, w_end_cb};
    struct err e;
    enum loam_status s = ws_open(&W.w, http, W.url, &ev, NULL, &e);
    if (s) {
        W.s = s;
        uv_sem_post(&W.ended);
    }
}
static enum loam_status ws_try(struct ws_server *s) {
    raw_listen(&s->r);
    s->r.connections = 1;
    uv_thread_create(&s->r.t, ws_run, s);
    memset(&W, 0, sizeof W);
    uv_sem_init(&W.ended, 0);
    snprintf(W.url, sizeof W.url, "ws://127.0.0.1:%u/ws?k=1", s->r.port);
    on_loop(ws_begin);
    uv_sem_wait(&W.ended);
    uv_sem_destroy(&W.ended);
    raw_stop(&s->r);
    return W.s;
}
static void test_ws(void **state) {
    static const uint8_t good[] = {0x81, 5, 'h', 'e', 'l', 'l', 'o', 0x01, 2, 'a', 'b', 0x80, 1, 'c', 0x89, 0, 0x88, 2, 3, 0xe8};
    static const uint8_t masked[] = {0x81, 0x85, 1, 2, 3, 4, 0, 0, 0, 0, 0};
    static const uint8_t reserved[] = {0xf1, 1, 'x'};
    static const uint8_t opcode[] = {0x83, 1, 'x'};
    static const uint8_t endless[] = {0x81, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 'x'};
    static const uint8_t bigping[] = {0x89, 126, 0, 200};
    static const uint8_t utf8[] = {0x81, 2, 0xc3, 0x28};
    static const uint8_t half[] = {0x81, 100, 'x'};
    static const uint8_t closed_bad[] = {0x88, 2, 3, 0xea};
    struct ws_server s = {.frames = good, .frames_n = sizeof good};
    assert_int_equal(ws_try(&s), LOAM_OK);
    assert_true(W.opened);
    assert_int_equal(W.n_text, 2);
    assert_string_equal(W.got, "abc");
    static const struct {
        const uint8_t *p;
        size_t n;
        enum loam_status code;
    } bad[] = {
        {masked, sizeof masked, LOAM_EFRAME},   {reserved, sizeof reserved, LOAM_EFRAME}, {opcode, sizeof opcode, LOAM_EFRAME},
        {endless, sizeof endless, LOAM_EFRAME}, {bigping, sizeof bigping, LOAM_EFRAME},   {utf8, sizeof utf8, LOAM_EFRAME},
        {half, sizeof half, LOAM_ECUT},         {closed_bad, sizeof closed_bad, LOAM_EPROTO},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        s = (struct ws_server){.frames = bad[i].p, .frames_n = bad[i].n};
        enum loam_status got = ws_try(&s);
        if (got != bad[i].code)
            fail_msg("frame case %zu: %s", i, status_name(got));
    }
    s = (struct ws_server){.bad_accept = true};
    assert_int_equal(ws_try(&s), LOAM_EUPGRADE);
    s = (struct ws_server){.status = "403 Forbidden"};
    assert_int_equal(ws_try(&s), LOAM_EUPGRADE);
    s = (struct ws_server){.status = "200 OK"};
    assert_int_equal(ws_try(&s), LOAM_EUPGRADE);
}

/* ---- EigenDA ---- */

static void test_da_proxy(void **state) {
    char url[64];
    struct buf c = BUF_INIT(4096), out = BUF_INIT(1 << 20);
    struct err e;
    struct da_commitment dc;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/da", server_port(server));
    static const char data[] = "a batch of loam";
    static const enum da_mode modes[] = {DA_OP_GENERIC, DA_OP_KECCAK, DA_STANDARD};
    for (int i = 0; i < 3; i++) {
        buf_reset(&c);
        buf_reset(&out);
        OK(da_put(http, &c, url, modes[i], data, sizeof data, NULL, &e));
        OK(da_commitment_parse(&dc, c.data, c.len, modes[i] == DA_STANDARD, &e));
        OK(da_get(http, &out, url, modes[i], c.data, c.len, 0, NULL, &e));
        assert_int_equal(out.len, sizeof data);
        assert_memory_equal(out.data, data, sizeof data);
        assert_string_equal(da_word(&dc), i == 1 ? "keccak verified" : "retrieved; KZG and quorum not checked");
    }
    buf_reset(&c);
    OK(da_put(http, &c, url, DA_OP_KECCAK, data, sizeof data, NULL, &e));
    da_alter = true;
    FAILS(LOAM_EHASH, da_get(http, &out, url, DA_OP_KECCAK, c.data, c.len, 0, NULL, &e));
    da_alter = false;
    da_empty = true;
    FAILS(LOAM_EEMPTY, da_get(http, &out, url, DA_OP_KECCAK, c.data, c.len, 0, NULL, &e));
    FAILS(LOAM_EEMPTY, da_put(http, &out, url, DA_OP_GENERIC, data, sizeof data, NULL, &e));
    da_empty = false;
    static const struct {
        int status;
        enum loam_status code;
    } st[] = {{400, LOAM_ECOMMITMENT}, {403, LOAM_EDISABLED}, {404, LOAM_ENOTFOUND}, {418, LOAM_EDADROP}, {429, LOAM_ERATE}, {500, LOAM_ESTATUS}, {503, LOAM_EDAFAIL}};
    for (size_t i = 0; i < sizeof st / sizeof *st; i++) {
        da_status = st[i].status;
        FAILS(st[i].code, da_get(http, &out, url, DA_OP_KECCAK, c.data, c.len, 0, NULL, &e));
        FAILS(st[i].code, da_put(http, &out, url, DA_OP_GENERIC, data, sizeof data, NULL, &e));
    }
    da_status = 0;
    FAILS(LOAM_ECOMMITMENT, da_get(http, &out, url, DA_OP_GENERIC, (const uint8_t *)"\x05", 1, 0, NULL, &e));
    FAILS(LOAM_EINVAL, da_put(http, &out, url, DA_OP_GENERIC, data, 0, NULL, &e));
    buf_clear(&c);
    buf_clear(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_servers), cmocka_unit_test(test_urls),         cmocka_unit_test(test_cancel), cmocka_unit_test(test_server),
        cmocka_unit_test(test_backpressure), cmocka_unit_test(test_server_raw), cmocka_unit_test(test_server_hosts), cmocka_unit_test(test_port_in_use), cmocka_unit_test(test_tls),
        cmocka_unit_test(test_proxy),       cmocka_unit_test(test_ws),          cmocka_unit_test(test_da_proxy),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
