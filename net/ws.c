#include "net/ws.h"

#include "base/clock.h"
#include "base/entropy.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/stream.h"

#include <mbedtls/base64.h>
#include <mbedtls/sha1.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <wslay/wslay.h>

#include "base/banned.h"

#define HEAD_MAX 8192
#define TICK_MS 1000
#define RETRY_FIRST_MS 500
#define RETRY_MAX_MS 60000

struct ws {
    struct ws_events ev;
    void *arg;
    struct stream *s;
    struct url url;
    char *path; /* with the query, from the URL */
    uv_timer_t timer;
    wslay_event_context_ptr ctx;
    struct buf head, in;
    char accept[32]; /* what the server must answer to our key */
    char key[32];
    bool open, dead;
    uint64_t begun_us, heard_us, pinged_us;
    enum loam_status fault;
    struct err e;
};

static void timer_closed(uv_handle_t *t) {
    struct ws *w = t->data;
    if (w->ctx)
        wslay_event_context_free(w->ctx);
    buf_clear(&w->head);
    buf_clear(&w->in);
    mem_free(w->path);
    mem_free(w);
}

void ws_close(struct ws *w) {
    if (w->dead)
        return;
    w->dead = true;
    if (w->s)
        stream_close(w->s);
    w->s = NULL;
    uv_close((uv_handle_t *)&w->timer, timer_closed);
}

static void end(struct ws *w, enum loam_status s, const struct err *e) {
    if (w->dead)
        return;
    struct err mine;
    if (e)
        mine = *e;
    void (*fn)(void *, enum loam_status, const struct err *) = w->ev.end;
    void *arg = w->arg;
    ws_close(w);
    fn(arg, s, e ? &mine : NULL);
}

/* ---- wslay ---- */

static ssize_t cb_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags, void *arg) {
    struct ws *w = arg;
    if (!w->in.len) {
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    if (len > w->in.len)
        len = w->in.len;
    memcpy(buf, w->in.data, len);
    buf_consume(&w->in, len);
    return (ssize_t)len;
}
static ssize_t cb_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t len, int flags, void *arg) {
    struct ws *w = arg;
    if (!w->s || stream_write(w->s, data, len, &w->e)) {
        wslay_event_set_error(ctx, WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
    }
    return (ssize_t)len;
}
static int cb_mask(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, void *arg) {
    return entropy_fill(buf, len, NULL) ? -1 : 0;
}
static void cb_msg(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *m, void *arg) {
    struct ws *w = arg;
    if (w->dead || m->opcode != WSLAY_TEXT_FRAME)
        return;
    w->ev.text(w->arg, (const char *)m->msg, m->msg_length);
}

static void pump(struct ws *w) {
    struct err e;
    int rc = wslay_event_recv(w->ctx);
    if (w->dead)
        return;
    if (!rc)
        rc = wslay_event_send(w->ctx); /* pongs, the close reply */
    if (w->dead)
        return;
    if (rc) {
        end(w, err_set(&e, LOAM_EFRAME, "%s: broken WebSocket frame", w->url.host), &e);
    } else if (wslay_event_get_close_received(w->ctx)) {
        unsigned code = wslay_event_get_status_code_received(w->ctx);
        if (code == WSLAY_CODE_NORMAL_CLOSURE || code == WSLAY_CODE_GOING_AWAY || code == WSLAY_CODE_NO_STATUS_RCVD)
            end(w, LOAM_OK, NULL);
        else
            end(w, err_set(&e, LOAM_EPROTO, "%s: closed with code %u", w->url.host, code), &e);
    } else if (!wslay_event_get_read_enabled(w->ctx) || wslay_event_get_close_sent(w->ctx)) {
        /* wslay answers a frame it refuses by closing; we ourselves never ask it to close */
        end(w, err_set(&e, LOAM_EFRAME, "%s: broken WebSocket frame", w->url.host), &e);
    }
}

/* ---- handshake ---- */

static bool header_is(const char *head, const char *name, const char *want, bool list) {
    size_t nl = strlen(name);
    for (const char *p = strstr(head, "\r\n"); p; p = strstr(p, "\r\n")) {
        p += 2;
        if (strncasecmp(p, name, nl) || p[nl] != ':')
            continue;
        const char *v = p + nl + 1;
        v += strspn(v, " \t");
        size_t n = strcspn(v, "\r");
        while (n && (v[n - 1] == ' ' || v[n - 1] == '\t'))
            n--;
        if (!list)
            return n == strlen(want) && (!strcasecmp(name, "sec-websocket-accept") ? !strncmp(v, want, n) : !strncasecmp(v, want, n));
        for (size_t i = 0; i + strlen(want) <= n; i++)
            if (!strncasecmp(v + i, want, strlen(want)))
                return true;
    }
    return false;
}

static void on_data(void *arg, const void *p, size_t n) {
    struct ws *w = arg;
    struct err e;
    w->heard_us = clock_mono_us();
    if (!w->open) {
        if (buf_add(&w->head, p, n, NULL)) {
            end(w, err_set(&e, LOAM_EUPGRADE, "%s: its answer is too long", w->url.host), &e);
            return;
        }
        char *eoh = strstr((char *)w->head.data, "\r\n\r\n");
        if (!eoh)
            return;
        size_t used = (size_t)(eoh + 4 - (char *)w->head.data);
        eoh[2] = 0;
        const char *h = (char *)w->head.data;
        if (strncmp(h, "HTTP/1.1 101", 12) || !header_is(h, "upgrade", "websocket", false) || !header_is(h, "connection", "upgrade", true) ||
            !header_is(h, "sec-websocket-accept", w->accept, false) || header_is(h, "sec-websocket-extensions", "", true)) {
            char cut[80];
            end(w, err_set(&e, LOAM_EUPGRADE, "%s: %s", w->url.host, text_clean_cut(cut, sizeof cut, h, strcspn(h, "\r"))), &e);
            return;
        }
        w->open = true;
        if (buf_add(&w->in, w->head.data + used, w->head.len - used, &e)) {
            end(w, e.code, &e);
            return;
        }
        w->ev.open(w->arg);
        if (!w->dead && w->in.len)
            pump(w);
        return;
    }
    if (buf_add(&w->in, p, n, &e)) {
        end(w, e.code, &e);
        return;
    }
    pump(w);
}

static void on_open(void *arg) {
    struct ws *w = arg;
    struct err e;
    char port[8] = "";
    if (w->url.port != (w->url.tls ? 443 : 80))
        snprintf(port, sizeof port, ":%u", w->url.port);
    char *m = mem_printf("GET %s%s HTTP/1.1\r\nHost: %s%s\r\nUser-Agent: loam\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n",
                         *w->path == '/' ? "" : "/", w->path, w->url.host, port, w->key);
    enum loam_status s = m ? stream_write(w->s, m, strlen(m), &e) : err_set(&e, LOAM_ENOMEM, "WebSocket");
    mem_free(m);
    if (s)
        end(w, s, &e);
}

static void on_end(void *arg, enum loam_status s, const struct err *e) {
    struct ws *w = arg;
    struct err mine;
    w->s = NULL;
    if (!s) {
        s = err_set(&mine, w->open ? LOAM_ECUT : LOAM_EUPGRADE, "%s: connection closed", w->url.host);
        e = &mine;
    }
    end(w, s, e);
}

static void on_tick(uv_timer_t *t) {
    struct ws *w = t->data;
    struct err e;
    uint64_t now = clock_mono_us(), quiet = now - w->heard_us;
    if (!w->open) {
        if (now - w->begun_us > 1000ull * WS_OPEN_MS)
            end(w, err_set(&e, LOAM_ETIMEOUT, "%s: no WebSocket within %d ms", w->url.host, WS_OPEN_MS), &e);
        return;
    }
    if (quiet > 1000ull * WS_SILENCE_MS) {
        end(w, err_set(&e, LOAM_ETIMEOUT, "%s: silent for %d ms", w->url.host, WS_SILENCE_MS), &e);
    } else if (quiet > 1000ull * WS_PING_MS && now - w->pinged_us > 1000ull * WS_PING_MS) {
        struct wslay_event_msg ping = {.opcode = WSLAY_PING};
        w->pinged_us = now;
        if (!wslay_event_queue_msg(w->ctx, &ping))
            pump(w);
    }
}

enum loam_status ws_open(struct ws **out, struct http *http, const char *url, const struct ws_events *ev, void *arg, struct err *err) {
    static const struct wslay_event_callbacks cb = {cb_recv, cb_send, cb_mask, NULL, NULL, NULL, cb_msg};
    static const struct stream_events sev = {on_open, on_data, on_end};
    uint8_t raw[16], sha[20];
    char cat[64];
    size_t n;
    struct url u;
    enum loam_status s;
    if ((s = url_parse(&u, url, err)) || (s = entropy_fill(raw, 16, err)))
        return s;
    struct ws *w = mem_zalloc(sizeof *w);
    if (!w)
        return err_set(err, LOAM_ENOMEM, "WebSocket");
    w->ev = *ev;
    w->arg = arg;
    w->begun_us = w->heard_us = clock_mono_us();
    buf_init(&w->head, HEAD_MAX);
    buf_init(&w->in, 2 * WS_MESSAGE_MAX);
    mbedtls_base64_encode((unsigned char *)w->key, sizeof w->key, &n, raw, 16);
    snprintf(cat, sizeof cat, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", w->key);
    mbedtls_sha1_ret((unsigned char *)cat, strlen(cat), sha);
    mbedtls_base64_encode((unsigned char *)w->accept, sizeof w->accept, &n, sha, 20);
    w->url = u;
    w->url.path = "";
    struct stream_net *net = http_net(http);
    if (uv_timer_init(net->loop, &w->timer))
        loam_abort(__FILE__, __LINE__, "uv timer");
    w->timer.data = w;
    if (wslay_event_context_client_init(&w->ctx, &cb, w)) {
        w->ctx = NULL;
        s = err_set(err, LOAM_ENOMEM, "WebSocket");
    } else {
        wslay_event_config_set_max_recv_msg_length(w->ctx, WS_MESSAGE_MAX);
        if (!(w->path = mem_strdup(u.path)))
            s = err_set(err, LOAM_ENOMEM, "WebSocket");
        else
            s = stream_open(&w->s, net, &u, true, &sev, w, err);
    }
    if (s) {
        ws_close(w);
        return s;
    }
    uv_timer_start(&w->timer, on_tick, TICK_MS, TICK_MS);
    uv_unref((uv_handle_t *)&w->timer);
    *out = w;
    return LOAM_OK;
}

enum loam_status ws_send(struct ws *w, const char *text, size_t n, struct err *err) {
    struct wslay_event_msg m = {.opcode = WSLAY_TEXT_FRAME, .msg = (const uint8_t *)text, .msg_length = n};
    if (w->dead || !w->open)
        return err_set(err, LOAM_ESTATE, "the WebSocket is not open");
    if (wslay_event_queue_msg(w->ctx, &m) || wslay_event_send(w->ctx))
        return err_set(err, LOAM_ENET, "%s: WebSocket send failed", w->url.host);
    return LOAM_OK;
}

/* ---- newHeads ---- */

struct ws_watch {
    struct http *http;
    char *url;
    struct chain *c;
    struct ws *ws;
    uv_timer_t retry;
    unsigned failures;
    bool closed;
    struct ws_watch_state st;
};

static void connect_again(struct ws_watch *w);

static void w_open(void *arg) {
    static const char sub[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eth_subscribe\",\"params\":[\"newHeads\"]}";
    struct ws_watch *w = arg;
    w->st.connected = true;
    if (!ws_send(w->ws, sub, sizeof sub - 1, NULL) && w->c)
        chain_poke(w->c); /* heads missed while away */
}

static void w_text(void *arg, const char *p, size_t n) {
    struct ws_watch *w = arg;
    json_t *m = json_loadb(p, n, JSON_REJECT_DUPLICATES, NULL);
    const char *method = json_string_value(json_object_get(m, "method"));
    if (method && !strcmp(method, "eth_subscription")) {
        w->st.heads++;
        w->failures = 0;
        if (w->c)
            chain_poke(w->c);
    } else if (json_is_integer(json_object_get(m, "id")) && json_is_string(json_object_get(m, "result"))) {
        w->st.subscribed = true;
    }
    json_decref(m);
}

static void w_end(void *arg, enum loam_status s, const struct err *e) {
    struct ws_watch *w = arg;
    w->ws = NULL;
    w->st.connected = w->st.subscribed = false;
    if (e)
        text_clean_cut(w->st.last_error, sizeof w->st.last_error, e->text, strlen(e->text));
    if (!w->closed)
        connect_again(w);
}

static void try_connect(uv_timer_t *t) {
    static const struct ws_events ev = {w_open, w_text, w_end};
    struct ws_watch *w = t->data;
    struct err e;
    if (ws_open(&w->ws, w->http, w->url, &ev, w, &e)) {
        w->ws = NULL;
        text_clean_cut(w->st.last_error, sizeof w->st.last_error, e.text, strlen(e.text));
        connect_again(w);
    }
}

static void connect_again(struct ws_watch *w) {
    uint64_t ms = RETRY_FIRST_MS;
    uint8_t j = 128;
    for (unsigned i = 0; i < w->failures && ms < RETRY_MAX_MS; i++)
        ms *= 2;
    if (ms > RETRY_MAX_MS)
        ms = RETRY_MAX_MS;
    if (entropy_fill(&j, 1, NULL))
        j = 128;
    w->failures++;
    w->st.reconnects++;
    uv_timer_start(&w->retry, try_connect, ms / 2 + ms * j / 256, 0);
}

enum loam_status ws_watch_new(struct ws_watch **out, struct http *http, const char *url, struct chain *c, struct err *err) {
    struct url u;
    enum loam_status s = url_parse(&u, url, err);
    if (s)
        return s;
    struct ws_watch *w = mem_zalloc(sizeof *w);
    if (!w || !(w->url = mem_strdup(url))) {
        mem_free(w);
        return err_set(err, LOAM_ENOMEM, "newHeads watch");
    }
    w->http = http;
    w->c = c;
    if (uv_timer_init(http_net(http)->loop, &w->retry))
        loam_abort(__FILE__, __LINE__, "uv timer");
    w->retry.data = w;
    uv_unref((uv_handle_t *)&w->retry);
    uv_timer_start(&w->retry, try_connect, 0, 0);
    *out = w;
    return LOAM_OK;
}

static void watch_closed(uv_handle_t *t) {
    struct ws_watch *w = t->data;
    mem_free(w->url);
    mem_free(w);
}

void ws_watch_close(struct ws_watch *w) {
    w->closed = true;
    if (w->ws)
        ws_close(w->ws);
    uv_close((uv_handle_t *)&w->retry, watch_closed);
}

void ws_watch_state(struct ws_watch_state *out, const struct ws_watch *w) {
    *out = w->st;
}
