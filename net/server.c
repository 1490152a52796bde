#include "net/server.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/http.h"

#include <http_parser.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/banned.h"

#define HEADERS_MAX 64
#define TICK_MS 1000
#define REPLY_HEAD_MAX 8192
#define HOST_MAX 256             /* a name in the Host field: 253 by DNS */
#define DRAIN_MS 5000            /* a refused request is read on (and thrown away) for so long … */
#define DRAIN_MAX (256ull << 20) /* … and so far, so that its sender gets to read why */

struct sconn;

/* Shared between the loop and whoever answers. Freed when both have let go: the handler by server_end, the loop when the
 * connection has sent it or is gone. */
struct server_reply {
    uv_mutex_t lock;
    uv_cond_t room;
    atomic_int refs;
    /* under lock */
    struct buf out;   /* bytes to be sent, headers included */
    bool begun, ended, aborted, gone, chunked, sending;
    int64_t left;     /* bytes still owed when the length was given; -1 */
    size_t unsent;    /* handed to the socket */
    /* loop */
    struct server *s; /* valid while !gone */
    struct sconn *c;
    bool head_only, keep;
    struct server_reply *wake_next;
    bool wake_set; /* under the server's lock */
    uv_thread_t loop_thread;
};

struct sconn {
    struct sconn *next;
    struct server *s;
    uv_tcp_t tcp;
    http_parser parser;
    struct buf head, body; /* head: method path NUL, then name NUL value NUL … */
    size_t head_bytes;
    struct {
        size_t name, value;
    } h[HEADERS_MAX];
    size_t hn;
    bool in_value, complete, keep, closing, loopback, refused, draining;
    uint64_t drained;
    int refuse_status;
    struct server_reply *r; /* being answered */
    struct buf early;       /* bytes of the next request, arrived while answering */
    uint64_t since_us;      /* of the last progress */
    bool idle;
    char in[16384];
};

struct server {
    uv_loop_t *loop;
    uv_tcp_t tcp;
    uv_async_t wake;
    uv_timer_t tick;
    uv_mutex_t lock;
    struct server_reply *woken; /* under lock */
    const struct server_route *routes;
    bool (*host_ok)(const char *host, void *arg);
    void *host_arg;
    size_t max_body, conns_n;
    struct sconn *conns;
    uint16_t port;
    unsigned handles;
    bool closing;
    void (*closed)(void *arg);
    void *closed_arg;
};

static void service(struct server_reply *r);
static void parse(struct sconn *c, const char *p, size_t n);

static void reply_drop(struct server_reply *r) {
    if (atomic_fetch_sub(&r->refs, 1) == 1) {
        uv_mutex_destroy(&r->lock);
        uv_cond_destroy(&r->room);
        buf_clear(&r->out);
        mem_free(r);
    }
}

/* ---- connections ---- */

static void all_gone(struct server *s) {
    if (!s->closing || s->handles || s->conns)
        return;
    void (*closed)(void *) = s->closed;
    void *arg = s->closed_arg;
    while (s->woken) { /* replies that were over before their wake-up came */
        struct server_reply *r = s->woken;
        s->woken = r->wake_next;
        reply_drop(r);
    }
    uv_mutex_destroy(&s->lock);
    mem_free(s);
    if (closed)
        closed(arg);
}

static void conn_closed(uv_handle_t *h) {
    struct sconn *c = h->data;
    struct server *s = c->s;
    for (struct sconn **p = &s->conns; *p; p = &(*p)->next)
        if (*p == c) {
            *p = c->next;
            break;
        }
    s->conns_n--;
    buf_clear(&c->head);
    buf_clear(&c->body);
    buf_clear(&c->early);
    mem_free(c);
    all_gone(s);
}

static void conn_close(struct sconn *c) {
    if (c->closing)
        return;
    c->closing = true;
    if (c->r) {
        struct server_reply *r = c->r;
        c->r = NULL;
        uv_mutex_lock(&r->lock);
        r->gone = true;
        r->c = NULL;
        uv_cond_broadcast(&r->room);
        uv_mutex_unlock(&r->lock);
        /* Out of the wake list, since the server may be freed before the handler lets go. */
        struct server *s = c->s;
        uv_mutex_lock(&s->lock);
        for (struct server_reply **p = &s->woken; *p; p = &(*p)->wake_next)
            if (*p == r) {
                *p = r->wake_next;
                r->wake_set = false;
                reply_drop(r); /* never the last: the connection's is dropped below */
                break;
            }
        uv_mutex_unlock(&s->lock);
        reply_drop(r);
    }
    uv_close((uv_handle_t *)&c->tcp, conn_closed);
}

static void begin_request(struct sconn *c) {
    http_parser_init(&c->parser, HTTP_REQUEST);
    c->parser.data = c;
    buf_reset(&c->head);
    buf_reset(&c->body);
    c->head_bytes = c->hn = 0;
    c->in_value = c->complete = c->refused = false;
    c->idle = true;
    c->since_us = clock_mono_us();
}

static int refuse(struct sconn *c, int status) {
    c->refused = true;
    c->refuse_status = status;
    return -1;
}

static int add_head(struct sconn *c, const char *p, size_t n) {
    c->head_bytes += n;
    if (c->head_bytes > SERVER_HEAD_MAX || buf_add(&c->head, p, n, NULL))
        return refuse(c, 431);
    return 0;
}

static int cb_url(http_parser *p, const char *at, size_t n) {
    return add_head(p->data, at, n);
}
static int cb_field(http_parser *p, const char *at, size_t n) {
    struct sconn *c = p->data;
    if (!c->hn || c->in_value) {
        if (c->hn == HEADERS_MAX)
            return refuse(c, 431);
        if (buf_byte(&c->head, 0, NULL))
            return refuse(c, 431);
        c->h[c->hn].name = c->head.len;
        c->h[c->hn].value = 0;
        c->hn++;
        c->in_value = false;
    }
    return add_head(c, at, n);
}
static int cb_value(http_parser *p, const char *at, size_t n) {
    struct sconn *c = p->data;
    if (!c->in_value) {
        if (!c->hn || buf_byte(&c->head, 0, NULL))
            return refuse(c, 431);
        c->h[c->hn - 1].value = c->head.len;
        c->in_value = true;
    }
    return add_head(c, at, n);
}
static void raw_send(struct sconn *c, const char *text);

/* The host of "name", "name:port", "[v6]" or "[v6]:port", without a name's last dot. Whatever port: it may be forwarded. */
static bool host_part(char out[HOST_MAX], const char *v) {
    struct url u;
    char text[HOST_MAX + 16];
    int n = snprintf(text, sizeof text, "http://%s", v);
    if (n >= (int)sizeof text || url_parse(&u, text, NULL) || *u.path || (size_t)snprintf(out, HOST_MAX, "%s", u.host) >= HOST_MAX)
        return false;
    size_t len = strlen(out);
    if (*v != '[' && len > 1 && out[len - 1] == '.')
        out[len - 1] = 0;
    return true;
}

/* A name of this machine that no foreign name server can give: a loopback name or address, the address that this connection
 * came in at, or what the owner named. */
static bool own_host(const struct sconn *c, const char *host) {
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_storage at;
    int len = sizeof at;
    if (host_loopback(host))
        return true;
    bool known = uv_tcp_getsockname(&c->tcp, (struct sockaddr *)&at, &len) == 0;
    if (!uv_ip4_addr(host, 0, &v4)) {
        const struct in6_addr *six = &((struct sockaddr_in6 *)&at)->sin6_addr;
        const void *four = !known ? NULL : at.ss_family == AF_INET ? (void *)&((struct sockaddr_in *)&at)->sin_addr :
                           IN6_IS_ADDR_V4MAPPED(six) ? (void *)&six->s6_addr[12] : NULL; /* of a listener at [::] */
        if (four && !memcmp(&v4.sin_addr, four, sizeof v4.sin_addr))
            return true;
    } else if (!uv_ip6_addr(host, 0, &v6)) {
        if (known && at.ss_family == AF_INET6 && !memcmp(&v6.sin6_addr, &((struct sockaddr_in6 *)&at)->sin6_addr, sizeof v6.sin6_addr))
            return true;
    }
    return c->s->host_ok && c->s->host_ok(host, c->s->host_arg);
}

/* Who may ask (RFC 9110, 7.2; RFC 6454): 0, or the status to refuse with. A page of another site reaches a server on loopback by a
 * name of its own that it lets point here (DNS rebinding): the Host is then that name. Or it just sends: the Origin is then another. */
static int foreign(struct sconn *c) {
    const char *host = NULL, *origin = NULL;
    char name[HOST_MAX];
    for (size_t i = 0; i < c->hn; i++) {
        const char *n = (char *)c->head.data + c->h[i].name;
        const char *v = c->h[i].value ? (char *)c->head.data + c->h[i].value : "";
        if (!strcasecmp(n, "host")) {
            if (host)
                return 400;
            host = v;
        } else if (!strcasecmp(n, "origin")) {
            if (origin)
                return 400;
            origin = v;
        }
    }
    if (!host) /* HTTP/1.0 may leave it out; no browser does */
        return c->parser.http_major == 1 && !c->parser.http_minor && !origin ? 0 : 400;
    if (!host_part(name, host))
        return 400;
    if (!own_host(c, name))
        return 421;
    if (!origin)
        return 0;
    size_t scheme = !strncasecmp(origin, "http://", 7) ? 7 : !strncasecmp(origin, "https://", 8) ? 8 : 0;
    return scheme && !strcasecmp(origin + scheme, host) ? 0 : 403;
}

static int cb_headers(http_parser *p) {
    struct sconn *c = p->data;
    int status;
    if (buf_byte(&c->head, 0, NULL))
        return refuse(c, 431);
    if ((status = foreign(c)))
        return refuse(c, status);
    if (p->content_length != UINT64_MAX && p->content_length > c->s->max_body)
        return refuse(c, 413);
    for (size_t i = 0; i < c->hn; i++)
        if (!strcasecmp((char *)c->head.data + c->h[i].name, "expect") && c->h[i].value &&
            !strcasecmp((char *)c->head.data + c->h[i].value, "100-continue"))
            raw_send(c, "HTTP/1.1 100 Continue\r\n\r\n");
    return 0;
}
static int cb_body(http_parser *p, const char *at, size_t n) {
    struct sconn *c = p->data;
    return buf_add(&c->body, at, n, NULL) ? refuse(c, 413) : 0;
}
static int cb_complete(http_parser *p) {
    struct sconn *c = p->data;
    c->complete = true;
    c->keep = http_should_keep_alive(p);
    http_parser_pause(p, 1);
    return 0;
}
static const http_parser_settings settings = {
    .on_url = cb_url,
    .on_header_field = cb_field,
    .on_header_value = cb_value,
    .on_headers_complete = cb_headers,
    .on_body = cb_body,
    .on_message_complete = cb_complete,
};

/* ---- writing ---- */

struct write {
    uv_write_t req;
    struct sconn *c;
    struct server_reply *r; /* referenced */
    uint8_t *data;
    size_t n;
};

static void on_written(uv_write_t *q, int rc) {
    struct write *w = q->data;
    struct sconn *c = w->c;
    struct server_reply *r = w->r;
    c->since_us = clock_mono_us();
    if (r) {
        uv_mutex_lock(&r->lock);
        r->unsent -= w->n;
        r->sending = false;
        uv_cond_broadcast(&r->room);
        uv_mutex_unlock(&r->lock);
    }
    mem_free(w->data);
    mem_free(w);
    if (rc && !c->closing)
        conn_close(c);
    else if (r && c->r == r && !c->closing)
        service(r);
    if (r)
        reply_drop(r);
}

static bool sock_write(struct sconn *c, struct server_reply *r, uint8_t *data, size_t n) {
    struct write *w = mem_zalloc(sizeof *w);
    if (!w || !data) {
        mem_free(w);
        mem_free(data);
        return false;
    }
    w->c = c;
    w->r = r;
    w->data = data;
    w->n = n;
    w->req.data = w;
    uv_buf_t b = uv_buf_init((char *)data, (unsigned)n);
    if (r)
        atomic_fetch_add(&r->refs, 1);
    if (uv_write(&w->req, (uv_stream_t *)&c->tcp, &b, 1, on_written)) {
        if (r)
            reply_drop(r);
        mem_free(data);
        mem_free(w);
        return false;
    }
    return true;
}

static void raw_send(struct sconn *c, const char *text) {
    sock_write(c, NULL, mem_dup(text, strlen(text)), strlen(text));
}

static void on_shutdown(uv_shutdown_t *q, int rc) {
    (void)rc;
    mem_free(q);
}

/* The refusal is out, but the client may still be sending: closed now, the kernel would answer its bytes with a reset, and the
 * refusal would be lost with them. So our side ends and theirs is read to its end, within limits. */
static void drain(struct sconn *c, struct server_reply *r) {
    uv_shutdown_t *q = mem_alloc(sizeof *q);
    if (!q || uv_shutdown(q, (uv_stream_t *)&c->tcp, on_shutdown)) {
        mem_free(q);
        conn_close(c);
        return;
    }
    c->draining = true;
    c->since_us = clock_mono_us();
    c->r = NULL;
    r->c = NULL;
    reply_drop(r);
}

/* Loop: moves what a reply has ready to the socket, and ends it when all is sent. */
static void service(struct server_reply *r) {
    struct sconn *c = r->c;
    uint8_t *data = NULL;
    size_t n = 0;
    if (!c || c->closing || c->r != r)
        return;
    uv_mutex_lock(&r->lock);
    bool cut = r->aborted;
    if (!r->sending && r->out.len) {
        data = buf_take(&r->out, &n);
        r->unsent += n;
        r->sending = true;
    }
    bool over = r->ended && !r->sending && !r->out.len;
    bool keep = r->keep && !cut && (r->chunked || r->left == 0 || r->head_only);
    uv_mutex_unlock(&r->lock);
    if (cut) { /* what was said already goes out, as far as the socket takes it at once */
        uv_buf_t b = uv_buf_init((char *)data, (unsigned)n);
        if (n && uv_try_write((uv_stream_t *)&c->tcp, &b, 1) < 0)
            n = 0;
        mem_free(data);
        conn_close(c);
        return;
    }
    if (n) {
        c->since_us = clock_mono_us();
        if (!sock_write(c, r, data, n)) {
            conn_close(c);
            return;
        }
        return;
    }
    if (!over)
        return;
    if (!keep || c->s->closing) {
        if (c->refused && !c->s->closing)
            drain(c, r);
        else
            conn_close(c);
        return;
    }
    c->r = NULL;
    r->c = NULL;
    reply_drop(r);
    begin_request(c);
    if (c->early.len) {
        struct buf b = c->early;
        buf_init(&c->early, SERVER_HEAD_MAX + c->s->max_body);
        parse(c, (char *)b.data, b.len);
        buf_clear(&b);
    }
}

static void on_wake(uv_async_t *a) {
    struct server *s = a->data;
    for (;;) {
        uv_mutex_lock(&s->lock);
        struct server_reply *r = s->woken;
        if (r) {
            s->woken = r->wake_next;
            r->wake_next = NULL;
            r->wake_set = false;
        }
        uv_mutex_unlock(&s->lock);
        if (!r)
            return;
        service(r);
        reply_drop(r);
    }
}

/* Any thread, with r->lock held: while not gone the server lives (conn_close marks gone under this lock). */
static void poke(struct server_reply *r) {
    if (r->gone)
        return;
    struct server *s = r->s;
    uv_mutex_lock(&s->lock);
    if (!r->wake_set) {
        r->wake_set = true;
        atomic_fetch_add(&r->refs, 1); /* the list's */
        r->wake_next = s->woken;
        s->woken = r;
    }
    uv_mutex_unlock(&s->lock);
    uv_async_send(&s->wake);
}

/* ---- replies ---- */

static const char *reason(int status) {
    switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 416: return "Range Not Satisfiable";
    case 418: return "I'm a teapot";
    case 421: return "Misdirected Request";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    default: return "Status";
    }
}

enum loam_status server_begin(struct server_reply *r, int status, const char *content_type, int64_t length, const char *const *headers,
                              struct err *err) {
    struct buf b = BUF_INIT(REPLY_HEAD_MAX);
    enum loam_status s;
    if (r->begun)
        return err_set(err, LOAM_ESTATE, "the reply has begun already");
    if ((s = buf_printf(&b, err, "HTTP/1.1 %d %s\r\n", status, reason(status))) ||
        (content_type && (s = buf_printf(&b, err, "Content-Type: %s\r\n", content_type))) ||
        (s = buf_str(&b, "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n", err)))
        goto done;
    for (; headers && *headers; headers++) {
        if (strpbrk(*headers, "\r\n")) {
            s = err_set(err, LOAM_EINVAL, "a reply's header has a line break");
            goto done;
        }
        if ((s = buf_printf(&b, err, "%s\r\n", *headers)))
            goto done;
    }
    if (length >= 0)
        s = buf_printf(&b, err, "Content-Length: %lld\r\n", (long long)length);
    else
        s = buf_str(&b, "Transfer-Encoding: chunked\r\n", err);
    if (s || (s = buf_str(&b, r->keep ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n", err)))
        goto done;
    uv_mutex_lock(&r->lock);
    r->begun = true;
    r->chunked = length < 0;
    r->left = length;
    if (r->gone)
        s = err_set(err, LOAM_ENET, "the client has left");
    else if (!(s = buf_add(&r->out, b.data, b.len, err)))
        poke(r);
    uv_mutex_unlock(&r->lock);
done:
    buf_clear(&b);
    return s;
}

enum loam_status server_write(struct server_reply *r, const void *p, size_t n, struct err *err) {
    enum loam_status s = LOAM_OK;
    char head[20];
    uv_thread_t self = uv_thread_self();
    bool on_loop = uv_thread_equal(&self, &r->loop_thread);
    if (!n)
        return LOAM_OK;
    uv_mutex_lock(&r->lock);
    while (!r->gone && !on_loop && r->out.len + r->unsent > SERVER_QUEUE_MAX)
        uv_cond_wait(&r->room, &r->lock);
    if (!r->begun || r->ended) {
        s = err_set(err, LOAM_ESTATE, "the reply has not begun, or has ended");
    } else if (r->gone) {
        s = err_set(err, LOAM_ENET, "the client has left");
    } else if (!r->chunked && (int64_t)n > r->left) {
        s = err_set(err, LOAM_EINVAL, "more bytes than the length that was said");
    } else if (!r->head_only) {
        size_t mark = r->out.len;
        if (!r->chunked) {
            s = buf_add(&r->out, p, n, err);
        } else {
            snprintf(head, sizeof head, "%zx\r\n", n);
            if ((s = buf_str(&r->out, head, err)) || (s = buf_add(&r->out, p, n, err)) || (s = buf_str(&r->out, "\r\n", err)))
                r->out.len = mark;
        }
    }
    if (!s) {
        if (!r->chunked)
            r->left -= (int64_t)n;
        poke(r);
    }
    uv_mutex_unlock(&r->lock);
    return s;
}

static void finish(struct server_reply *r, bool abort) {
    uv_mutex_lock(&r->lock);
    if (!r->begun || (!r->chunked && r->left && !r->head_only))
        abort = true; /* the client must not take it for whole */
    if (!abort && r->chunked && !r->head_only && buf_str(&r->out, "0\r\n\r\n", NULL))
        abort = true;
    r->ended = true;
    r->aborted = abort;
    poke(r);
    uv_mutex_unlock(&r->lock);
    reply_drop(r);
}

void server_end(struct server_reply *r) {
    finish(r, false);
}
void server_abort(struct server_reply *r) {
    finish(r, true);
}
bool server_gone(struct server_reply *r) {
    uv_mutex_lock(&r->lock);
    bool g = r->gone;
    uv_mutex_unlock(&r->lock);
    return g;
}

void server_send(struct server_reply *r, int status, const char *type, const void *p, size_t n) {
    if (!server_begin(r, status, type, (int64_t)n, NULL, NULL) && n) {
        /* Bigger than the queue: on the loop the buffer's own limit holds. */
        if (server_write(r, p, n, NULL)) {
            server_abort(r);
            return;
        }
    }
    server_end(r);
}

/* ---- requests ---- */

/* %xx in place; false for malformed ones and for NUL. */
static bool unescape(char *s, bool plus) {
    char *o = s;
    for (; *s; s++) {
        if (*s == '%') {
            int a = hex_digit(s[1]), b = a < 0 ? -1 : hex_digit(s[2]);
            if (b < 0 || !(a << 4 | b))
                return false;
            *o++ = (char)(a << 4 | b);
            s += 2;
        } else {
            *o++ = plus && *s == '+' ? ' ' : *s;
        }
    }
    *o = 0;
    return true;
}

const char *server_header(const struct server_request *q, const char *name) {
    for (size_t i = 0; i < q->header_count; i++)
        if (!strcasecmp(q->headers[i].name, name))
            return q->headers[i].value;
    return NULL;
}

bool server_query(char *out, size_t cap, const struct server_request *q, const char *name) {
    size_t nl = strlen(name);
    for (const char *p = q->query; *p;) {
        size_t n = strcspn(p, "&");
        if (n > nl && !strncmp(p, name, nl) && p[nl] == '=') {
            size_t v = n - nl - 1;
            if (v >= cap)
                return false;
            memcpy(out, p + nl + 1, v);
            out[v] = 0;
            return unescape(out, true);
        }
        p += n + (p[n] == '&');
    }
    return false;
}

static struct server_reply *new_reply(struct sconn *c) {
    struct server_reply *r = mem_zalloc(sizeof *r);
    if (!r)
        return NULL;
    if (uv_mutex_init(&r->lock) || uv_cond_init(&r->room))
        loam_abort(__FILE__, __LINE__, "mutex");
    atomic_store(&r->refs, 2); /* the handler's and the connection's */
    buf_init(&r->out, 16u * SERVER_QUEUE_MAX);
    r->left = -1;
    r->s = c->s;
    r->c = c;
    r->keep = c->keep;
    r->head_only = c->parser.method == HTTP_HEAD;
    r->loop_thread = uv_thread_self();
    c->r = r;
    return r;
}

/* What the server itself refuses, in the shape of the API's other errors. */
static void plain(struct sconn *c, int status) {
    struct server_reply *r = new_reply(c);
    char text[384], why[224];
    const char *code = "null";
    if (!r) {
        conn_close(c);
        return;
    }
    if (c->refused || status == 400)
        r->keep = false;
    if (status == 413)
        snprintf(why, sizeof why, "the body is larger than %zu bytes", c->s->max_body);
    else if (status == 431)
        snprintf(why, sizeof why, "the head is larger than %u bytes or has over %d fields", SERVER_HEAD_MAX, HEADERS_MAX);
    else if (status == 421) {
        snprintf(why, sizeof why, "the Host field names another machine than this; ask by a loopback name or address, or let the owner name the host (option api.hosts)");
        code = "\"host_not_allowed\"";
    } else if (status == 403) {
        snprintf(why, sizeof why, "the Origin field names another site; pages of other sites may not use this API");
        code = "\"origin_not_allowed\"";
    } else
        snprintf(why, sizeof why, "%s", status == 404 ? "no such path here" : status == 405 ? "this path takes another method" : "malformed HTTP request");
    snprintf(text, sizeof text, "{\"error\":{\"message\":\"%s: %s\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":%s}}\n", reason(status), why, code);
    server_send(r, status, "application/json", text, strlen(text));
}

static void dispatch(struct sconn *c) {
    struct server *s = c->s;
    struct server_header h[HEADERS_MAX];
    struct server_request q;
    char *base = (char *)c->head.data, *query;
    memset(&q, 0, sizeof q);
    q.method = http_method_str((enum http_method)c->parser.method);
    q.path = base;
    query = strchr(base, '?');
    if (query) {
        *query++ = 0;
        q.query = query;
    } else {
        q.query = "";
    }
    if (base[0] != '/' || !unescape(base, false)) {
        plain(c, 400);
        return;
    }
    for (size_t i = 0; i < c->hn; i++)
        h[i] = (struct server_header){base + c->h[i].name, c->h[i].value ? base + c->h[i].value : ""};
    q.headers = h;
    q.header_count = c->hn;
    q.body = c->body.len ? c->body.data : (const uint8_t *)"";
    q.body_len = c->body.len;
    q.loopback = c->loopback;
    q.rest = "";
    bool other_method = false;
    for (const struct server_route *r = s->routes; r->path; r++) {
        size_t n = strlen(r->path);
        bool prefix = n && r->path[n - 1] == '*';
        if (prefix ? strncmp(q.path, r->path, n - 1) : strcmp(q.path, r->path))
            continue;
        if (r->method && strcmp(r->method, q.method) && !(!strcmp(r->method, "GET") && !strcmp(q.method, "HEAD"))) {
            other_method = true;
            continue;
        }
        if (prefix)
            q.rest = q.path + n - 1;
        q.arg = r->arg;
        struct server_reply *reply = new_reply(c);
        if (!reply) {
            conn_close(c);
            return;
        }
        r->fn(&q, reply);
        return;
    }
    plain(c, other_method ? 405 : 404);
}

static void parse(struct sconn *c, const char *p, size_t n) {
    if (c->refused)
        return; /* of a request that is refused, nothing more is looked at */
    if (c->r) { /* pipelined: kept until the answer is out */
        if (buf_add(&c->early, p, n, NULL))
            conn_close(c);
        return;
    }
    if (c->idle && n) {
        c->idle = false;
        c->since_us = clock_mono_us();
    }
    size_t used = http_parser_execute(&c->parser, &settings, p, n);
    if (c->refused) {
        c->keep = false;
        plain(c, c->refuse_status);
        return;
    }
    if (c->complete) {
        if (c->parser.upgrade)
            c->keep = false;
        if (used < n && buf_add(&c->early, p + used, n - used, NULL)) {
            conn_close(c);
            return;
        }
        dispatch(c);
        return;
    }
    if (HTTP_PARSER_ERRNO(&c->parser) != HPE_OK) {
        c->refused = true;
        c->keep = false;
        plain(c, 400);
    }
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b) {
    struct sconn *c = h->data;
    *b = uv_buf_init(c->in, sizeof c->in);
}
static void on_read(uv_stream_t *st, ssize_t n, const uv_buf_t *b) {
    struct sconn *c = st->data;
    if (c->closing)
        return;
    if (n > 0 && c->draining)
        c->drained += (uint64_t)n;
    if (n < 0 || c->drained > DRAIN_MAX)
        conn_close(c);
    else if (n > 0 && !c->draining)
        parse(c, b->base, (size_t)n);
}

static bool peer_is_loopback(const uv_tcp_t *t) {
    struct sockaddr_storage a;
    int len = sizeof a;
    if (uv_tcp_getpeername(t, (struct sockaddr *)&a, &len))
        return false;
    if (a.ss_family == AF_INET)
        return ((const uint8_t *)&((struct sockaddr_in *)&a)->sin_addr)[0] == 127;
    if (a.ss_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)&a)->sin6_addr);
    return false;
}

/* Room for a new one: the connection that has asked for nothing the longest ends. False: all are at work. */
static bool make_room(struct server *s) {
    struct sconn *oldest = NULL;
    size_t open = 0;
    for (struct sconn *c = s->conns; c; c = c->next) {
        open += !c->closing;
        if (!c->closing && !c->r && c->idle && (!oldest || c->since_us < oldest->since_us))
            oldest = c;
    }
    if (open < SERVER_CONNECTIONS_MAX)
        return true;
    if (oldest)
        conn_close(oldest);
    return oldest != NULL;
}

static void on_connection(uv_stream_t *st, int rc) {
    struct server *s = st->data;
    if (rc || s->closing)
        return;
    struct sconn *c = mem_zalloc(sizeof *c);
    if (!c)
        return;
    bool room = make_room(s);
    c->s = s;
    buf_init(&c->head, SERVER_HEAD_MAX + 4 * HEADERS_MAX + 16);
    buf_init(&c->body, s->max_body);
    buf_init(&c->early, SERVER_HEAD_MAX + s->max_body);
    if (uv_tcp_init(s->loop, &c->tcp)) {
        mem_free(c);
        return;
    }
    c->tcp.data = c;
    c->next = s->conns;
    s->conns = c;
    s->conns_n++;
    bool accepted = uv_accept(st, (uv_stream_t *)&c->tcp) == 0;
    if (accepted && !room) {
        static char busy[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 100\r\nConnection: close\r\n\r\n"
                             "{\"error\":{\"message\":\"too many connections\",\"type\":\"server_error\",\"param\":null,\"code\":\"overloaded\"}}\n";
        uv_buf_t b = uv_buf_init(busy, sizeof busy - 1);
        (void)!uv_try_write((uv_stream_t *)&c->tcp, &b, 1); /* it closes either way */
    }
    if (!accepted || !room || uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read)) {
        conn_close(c);
        return;
    }
    uv_tcp_nodelay(&c->tcp, 1);
    c->loopback = peer_is_loopback(&c->tcp);
    begin_request(c);
}

static void on_tick(uv_timer_t *t) {
    struct server *s = t->data;
    uint64_t now = clock_mono_us();
    for (struct sconn *c = s->conns, *n; c; c = n) {
        n = c->next;
        if (c->closing)
            continue;
        uint64_t age = (now - c->since_us) / 1000;
        if (c->r) {
            uv_mutex_lock(&c->r->lock);
            bool stalled = c->r->sending && age > SERVER_STALL_MS;
            uv_mutex_unlock(&c->r->lock);
            if (stalled)
                conn_close(c);
        } else if (c->draining ? age > DRAIN_MS : c->idle ? age > SERVER_IDLE_MS : age > SERVER_READ_MS) {
            conn_close(c);
        }
    }
}

static void on_handle_closed(uv_handle_t *h) {
    struct server *s = h->data;
    s->handles--;
    all_gone(s);
}

enum loam_status server_new(struct server **out, uv_loop_t *loop, const struct server_config *cfg, struct err *err) {
    struct sockaddr_storage a;
    const char *host = cfg->host ? cfg->host : "127.0.0.1";
    int rc;
    if (uv_ip4_addr(host, cfg->port, (struct sockaddr_in *)&a) && uv_ip6_addr(host, cfg->port, (struct sockaddr_in6 *)&a))
        return err_set(err, LOAM_EINVAL, "the API's address \"%s\" is not an IP address", host);
    struct server *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(err, LOAM_ENOMEM, "HTTP server");
    s->loop = loop;
    s->routes = cfg->routes;
    s->host_ok = cfg->host_ok;
    s->host_arg = cfg->host_arg;
    s->max_body = cfg->max_body ? cfg->max_body : 32u << 20;
    if (uv_mutex_init(&s->lock) || uv_tcp_init(loop, &s->tcp) || uv_async_init(loop, &s->wake, on_wake) || uv_timer_init(loop, &s->tick))
        loam_abort(__FILE__, __LINE__, "uv handles");
    s->tcp.data = s->wake.data = s->tick.data = s;
    s->handles = 3;
    if ((rc = uv_tcp_bind(&s->tcp, (struct sockaddr *)&a, 0)) || (rc = uv_listen((uv_stream_t *)&s->tcp, 128, on_connection))) {
        server_close(s, NULL, NULL);
        return err_set(err, rc == UV_EADDRINUSE ? LOAM_EBUSY : LOAM_ENET, "listen on %s port %u: %s", host, cfg->port, uv_strerror(rc));
    }
    int len = sizeof a;
    uv_tcp_getsockname(&s->tcp, (struct sockaddr *)&a, &len);
    s->port = a.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&a)->sin6_port) : ntohs(((struct sockaddr_in *)&a)->sin_port);
    uv_timer_start(&s->tick, on_tick, TICK_MS, TICK_MS);
    uv_unref((uv_handle_t *)&s->tick);
    *out = s;
    return LOAM_OK;
}

uint16_t server_port(const struct server *s) {
    return s->port;
}

void server_close(struct server *s, void (*closed)(void *arg), void *arg) {
    s->closed = closed;
    s->closed_arg = arg;
    s->closing = true;
    for (struct sconn *c = s->conns; c; c = c->next)
        conn_close(c);
    uv_close((uv_handle_t *)&s->tcp, on_handle_closed);
    uv_close((uv_handle_t *)&s->wake, on_handle_closed);
    uv_close((uv_handle_t *)&s->tick, on_handle_closed);
}
