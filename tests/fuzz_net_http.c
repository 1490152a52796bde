/* HTTP and WebSocket: the input is what a server sends to our client (first byte: which), or what a client sends to our server. One loop,
 * loopback sockets; each input runs until the connection is over. */
#include "base/clock.h"
#include "net/server.h"
#include "net/ws.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static uv_loop_t *loop;
static struct http *http;
static struct server *server;
static int listener;
static unsigned port;
static bool over;

static void reply(const struct server_request *q, struct server_reply *r) {
    char x[16];
    server_query(x, sizeof x, q, "x");
    server_send(r, 200, "text/plain", q->body, q->body_len);
}
static const struct server_route routes[] = {{NULL, "/*", reply, NULL}, {0}};

static void done(void *arg, enum loam_status s, struct http_response *r, const struct err *e) {
    over = true;
}
static void w_open(void *arg) {
}
static void w_text(void *arg, const char *p, size_t n) {
}
static void w_end(void *arg, enum loam_status s, const struct err *e) {
    over = true;
}

static int dial(unsigned to) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)to)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    LOAM_ASSERT(fd >= 0 && !connect(fd, (struct sockaddr *)&a, sizeof a));
    return fd;
}

static void begin(void) {
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof a;
    loop = uv_default_loop();
    LOAM_ASSERT(!http_new(&http, loop, &(struct http_config){.no_proxy = true}, NULL));
    LOAM_ASSERT(!server_new(&server, loop, &(struct server_config){.routes = routes, .max_body = 4096}, NULL));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    LOAM_ASSERT(!bind(listener, (struct sockaddr *)&a, n) && !listen(listener, 8) && !getsockname(listener, (struct sockaddr *)&a, &n));
    port = ntohs(a.sin_port);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    char url[64], sink[4096];
    if (!loop)
        begin();
    if (!n || n > 60000)
        return 0;
    unsigned what = p[0] % 3;
    p++;
    n--;
    if (what == 0) {
        int fd = dial(server_port(server));
        if (n && send(fd, p, n, MSG_NOSIGNAL) < 0) {
        }
        for (int i = 0; i < 6; i++)
            uv_run(loop, UV_RUN_NOWAIT);
        while (recv(fd, sink, sizeof sink, MSG_DONTWAIT) > 0)
            ;
        close(fd);
        for (int i = 0; i < 4; i++)
            uv_run(loop, UV_RUN_NOWAIT);
        return 0;
    }
    over = false;
    static const struct ws_events ev = {w_open, w_text, w_end};
    struct ws *w = NULL;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", port);
    struct http_request q = {.url = url, .timeout_ms = 200, .max_body = 10000};
    if (what == 1 ? http_fetch(http, &q, done, NULL, NULL) : ws_open(&w, http, url, &ev, NULL, NULL))
        return 0;
    int fd = -1;
    for (int i = 0; i < 400 && fd < 0; i++) {
        uv_run(loop, UV_RUN_NOWAIT);
        fd = accept(listener, NULL, NULL);
        if (fd < 0)
            usleep(50);
    }
    if (fd >= 0) {
        for (int i = 0; i < 5; i++)
            uv_run(loop, UV_RUN_NOWAIT);
        while (recv(fd, sink, sizeof sink, MSG_DONTWAIT) > 0)
            ;
        if (n && send(fd, p, n, MSG_NOSIGNAL) < 0) {
        }
        close(fd);
    }
    for (int i = 0; i < 2000 && !over; i++) {
        uv_run(loop, UV_RUN_NOWAIT);
        if (i > 20)
            usleep(200);
    }
    if (!over && w)
        ws_close(w);
    for (int i = 0; i < 4; i++)
        uv_run(loop, UV_RUN_NOWAIT);
    return 0;
}
