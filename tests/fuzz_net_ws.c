/* WebSocket frames: a real handshake (the client's key answered as RFC 6455 has it), then the input as what the server sends, in one piece or, by
 * its first byte, in two. The client of an RPC's newHeads; one loop, loopback sockets. */
#include "net/ws.h"

#include <arpa/inet.h>
#include <mbedtls/base64.h>
#include <mbedtls/sha1.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static uv_loop_t *loop;
static struct http *http;
static int listener;
static unsigned port;
static bool over;

static void w_open(void *arg) {
}
static void w_text(void *arg, const char *p, size_t n) {
    LOAM_ASSERT(n <= WS_MESSAGE_MAX);
}
static void w_end(void *arg, enum loam_status s, const struct err *e) {
    over = true;
}

static void begin(void) {
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof a;
    loop = uv_default_loop();
    LOAM_ASSERT(!http_new(&http, loop, &(struct http_config){.no_proxy = true}, NULL));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    LOAM_ASSERT(!bind(listener, (struct sockaddr *)&a, n) && !listen(listener, 8) && !getsockname(listener, (struct sockaddr *)&a, &n));
    port = ntohs(a.sin_port);
}

static void turn(int times) {
    for (int i = 0; i < times && !over; i++)
        uv_run(loop, UV_RUN_NOWAIT);
}

/* Reads the client's request and answers 101. */
static bool shake(int fd) {
    char req[2048] = "", out[256], accept[32], key[64];
    unsigned char sha[20];
    size_t n = 0, len;
    for (int i = 0; i < 400 && !strstr(req, "\r\n\r\n"); i++) {
        uv_run(loop, UV_RUN_NOWAIT);
        ssize_t k = recv(fd, req + n, sizeof req - 1 - n, MSG_DONTWAIT);
        if (k > 0)
            req[n += (size_t)k] = 0;
        else
            usleep(20);
    }
    const char *p = strstr(req, "Sec-WebSocket-Key: ");
    if (!p || sscanf(p + 19, "%24s", key) != 1)
        return false;
    len = (size_t)snprintf(out, sizeof out, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    mbedtls_sha1_ret((const unsigned char *)out, len, sha);
    mbedtls_base64_encode((unsigned char *)accept, sizeof accept, &n, sha, sizeof sha);
    len = (size_t)snprintf(out, sizeof out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
    return send(fd, out, len, MSG_NOSIGNAL) == (ssize_t)len;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    static const struct ws_events ev = {w_open, w_text, w_end};
    char url[64], sink[4096];
    struct ws *w = NULL;
    if (!loop)
        begin();
    if (!n || n > 60000)
        return 0;
    size_t cut = p[0] < n - 1 ? p[0] : n - 1;
    p++;
    n--;
    over = false;
    snprintf(url, sizeof url, "ws://127.0.0.1:%u/", port);
    if (ws_open(&w, http, url, &ev, NULL, NULL))
        return 0;
    int fd = -1;
    for (int i = 0; i < 400 && fd < 0 && !over; i++) {
        uv_run(loop, UV_RUN_NOWAIT);
        fd = accept(listener, NULL, NULL);
        if (fd < 0)
            usleep(20);
    }
    if (fd >= 0 && shake(fd)) {
        turn(4);
        if (cut && send(fd, p, cut, MSG_NOSIGNAL) < 0) {
        }
        turn(4);
        if (n > cut && send(fd, p + cut, n - cut, MSG_NOSIGNAL) < 0) {
        }
        turn(6);
        while (recv(fd, sink, sizeof sink, MSG_DONTWAIT) > 0)
            ;
    }
    if (fd >= 0)
        close(fd);
    for (int i = 0; i < 200 && !over; i++) {
        uv_run(loop, UV_RUN_NOWAIT);
        if (i > 20)
            usleep(50);
    }
    if (!over)
        ws_close(w);
    for (int i = 0; i < 4; i++)
        uv_run(loop, UV_RUN_NOWAIT);
    return 0;
}
