#include "net/http.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/stream.h"

#include <ctype.h>
#include <http_parser.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/banned.h"

#define HEADERS_MAX 32
#define CANCEL_POLL_MS 100

struct conn;

/* One request, from the call to done. Lives on the loop; posted from other threads under the client's lock. */
struct req {
    struct req *next;
    struct url url;
    char *url_text, *method, *head; /* head: the caller's header lines, joined */
    uint8_t *body;
    size_t body_len, max_body;
    uint64_t timeout_us, begun_us, deadline_us;
    enum loam_status (*on_body)(void *arg, const void *p, size_t n);
    void *body_arg;
    http_done done;
    void *arg;
    struct conn *conn;
    atomic_bool cancel;
    bool retried;
    struct http_response r;
};

struct conn {
    struct conn *next;
    struct http *h;
    struct stream *s;
    struct url url;
    bool open, busy, reused, got_bytes;
    struct req *q;
    uint64_t idle_until_us;
    http_parser parser;
    size_t head_bytes;
    char field[64], value[256];
    size_t field_len, value_len;
    bool in_value, headers_done, complete, keep;
    enum loam_status fault;
    struct err e;
};

struct http {
    struct stream_net net;
    uv_async_t wake;
    uv_timer_t timer;
    uv_mutex_t lock;
    struct req *posted;          /* by other threads, under lock; newest first */
    struct req *waiting, *active; /* loop thread; waiting is oldest first */
    struct conn *conns;
    unsigned handles;
    bool closing, pumping;
    void (*closed)(void *arg);
    void *closed_arg;
};

struct stream_net *http_net(struct http *h) {
    return &h->net;
}

/* ---- url ---- */

bool host_loopback(const char *host) {
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (!uv_ip4_addr(host, 0, &v4))
        return ((const uint8_t *)&v4.sin_addr)[0] == 127;
    return uv_ip6_addr(host, 0, &v6) ? !strcasecmp(host, "localhost") : IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

enum loam_status url_parse(struct url *out, const char *s, struct err *err) {
    char clean[120];
    memset(out, 0, sizeof *out);
    const char *p = s;
    if (!strncasecmp(p, "https://", 8) || !strncasecmp(p, "wss://", 6)) {
        out->tls = true;
        p = strstr(p, "://") + 3;
    } else if (!strncasecmp(p, "http://", 7) || !strncasecmp(p, "ws://", 5)) {
        p = strstr(p, "://") + 3;
    } else {
        return err_set(err, LOAM_EINVAL, "url \"%s\": not http or https", text_clean_cut(clean, sizeof clean, s, strlen(s)));
    }
    size_t n = strcspn(p, "/?#"), hl;
    for (const char *c = p; *c; c++)
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f)
            return err_set(err, LOAM_EINVAL, "url \"%s\": a character that must be escaped", text_clean_cut(clean, sizeof clean, s, strlen(s)));
    if (memchr(p, '@', n))
        return err_set(err, LOAM_EINVAL, "url: user and password in it are not taken");
    const char *host = p, *rest; /* rest: the port, or nothing */
    if (*p == '[') {
        const char *q = memchr(p, ']', n);
        if (!q)
            return err_set(err, LOAM_EINVAL, "url: [ without ]");
        host = p + 1;
        hl = (size_t)(q - host);
        rest = q + 1;
        if (rest < p + n && *rest != ':')
            return err_set(err, LOAM_EINVAL, "url: text after ]");
    } else {
        const char *colon = memchr(p, ':', n);
        rest = colon ? colon : p + n;
        hl = (size_t)(rest - p);
    }
    out->port = out->tls ? 443 : 80;
    if (rest < p + n) {
        char *e;
        long v = strtol(rest + 1, &e, 10);
        if (e != p + n || !isdigit((unsigned char)rest[1]) || v < 1 || v > 65535)
            return err_set(err, LOAM_EINVAL, "url \"%s\": bad port", text_clean_cut(clean, sizeof clean, s, strlen(s)));
        out->port = (uint16_t)v;
    }
    if (!hl || hl >= sizeof out->host)
        return err_set(err, LOAM_EINVAL, "url \"%s\": no host, or too long", text_clean_cut(clean, sizeof clean, s, strlen(s)));
    memcpy(out->host, host, hl);
    out->path = p + n;
    return LOAM_OK;
}

void http_response_clear(struct http_response *r) {
    buf_clear(&r->body);
    memset(r, 0, sizeof *r);
}

enum loam_status http_check(const struct http_response *r, struct err *err) {
    char cut[160];
    if (r->status >= 200 && r->status < 300)
        return LOAM_OK;
    text_clean_cut(cut, sizeof cut, r->body.len ? (const char *)r->body.data : "", r->body.len);
    if (r->status == 429)
        return err_set(err, LOAM_ERATE, "HTTP 429%s%s", *cut ? ": " : "", cut);
    if (r->status == 404)
        return err_set(err, LOAM_ENOTFOUND, "HTTP 404%s%s", *cut ? ": " : "", cut);
    return err_set(err, LOAM_ESTATUS, "HTTP %d%s%s", r->status, *cut ? ": " : "", cut);
}

/* ---- requests ---- */

static void pump(struct http *h);
static void rearm(struct http *h);

static void req_free(struct req *q) {
    mem_free(q->url_text);
    mem_free(q->method);
    mem_free(q->head);
    mem_free(q->body);
    buf_clear(&q->r.body);
    mem_free(q);
}

static void unlink_req(struct req **list, struct req *q) {
    for (; *list; list = &(*list)->next)
        if (*list == q) {
            *list = q->next;
            q->next = NULL;
            return;
        }
}

static void finish(struct http *h, struct req *q, enum loam_status s, const struct err *e) {
    unlink_req(&h->waiting, q);
    unlink_req(&h->active, q);
    q->r.wall_us = clock_mono_us() - q->begun_us;
    q->done(q->arg, s, &q->r, e);
    req_free(q);
}

static enum loam_status make_req(struct req **out, const struct http_request *q, http_done done, void *arg, struct err *err) {
    struct req *r = mem_zalloc(sizeof *r);
    struct buf head = BUF_INIT(HTTP_HEAD_MAX);
    enum loam_status s = LOAM_OK;
    if (!r)
        return err_set(err, LOAM_ENOMEM, "request");
    r->url_text = mem_strdup(q->url);
    r->method = mem_strdup(q->method ? q->method : q->body ? "POST" : "GET");
    r->body_len = q->body ? q->body_len : 0;
    r->body = q->body ? mem_dup(q->body, q->body_len) : NULL;
    if (!r->url_text || !r->method || (q->body && !r->body))
        s = err_set(err, LOAM_ENOMEM, "request");
    for (size_t i = 0; !s && q->headers && q->headers[i]; i++) {
        if (i == HEADERS_MAX || strpbrk(q->headers[i], "\r\n"))
            s = err_set(err, LOAM_EINVAL, "request: bad headers");
        else if (!(s = buf_str(&head, q->headers[i], err)))
            s = buf_str(&head, "\r\n", err);
    }
    if (!s && !head.data)
        s = buf_str(&head, "", err);
    if (!s)
        s = url_parse(&r->url, r->url_text, err);
    r->head = (char *)buf_take(&head, NULL);
    if (!s && !r->head && !(r->head = mem_strdup("")))
        s = err_set(err, LOAM_ENOMEM, "request");
    if (s) {
        req_free(r);
        return s;
    }
    r->timeout_us = 1000 * (q->timeout_ms ? q->timeout_ms : HTTP_TIMEOUT_DEFAULT);
    r->max_body = q->max_body ? q->max_body : HTTP_BODY_DEFAULT;
    r->on_body = q->on_body;
    r->body_arg = q->body_arg;
    r->done = done;
    r->arg = arg;
    buf_init(&r->r.body, r->max_body);
    r->begun_us = clock_mono_us();
    r->deadline_us = r->begun_us + r->timeout_us;
    *out = r;
    return LOAM_OK;
}

enum loam_status http_fetch(struct http *h, const struct http_request *q, http_done done, void *arg, struct err *err) {
    struct req *r;
    enum loam_status s;
    if (h->closing)
        return err_set(err, LOAM_ECANCEL, "the HTTP client is closing");
    if ((s = make_req(&r, q, done, arg, err)))
        return s;
    struct req **tail = &h->waiting;
    while (*tail)
        tail = &(*tail)->next;
    *tail = r;
    uv_async_send(&h->wake);
    return LOAM_OK;
}

/* ---- waiting from another thread ---- */

struct waiter {
    uv_mutex_t lock;
    uv_cond_t cond;
    atomic_int refs;
    bool finished, left;
    enum loam_status s;
    struct err e;
    struct http_response r;
};

static void waiter_drop(struct waiter *w) {
    if (atomic_fetch_sub(&w->refs, 1) == 1) {
        uv_mutex_destroy(&w->lock);
        uv_cond_destroy(&w->cond);
        http_response_clear(&w->r);
        mem_free(w);
    }
}

static void waiter_done(void *arg, enum loam_status s, struct http_response *r, const struct err *e) {
    struct waiter *w = arg;
    uv_mutex_lock(&w->lock);
    w->finished = true;
    w->s = s;
    if (e)
        w->e = *e;
    if (!w->left) {
        w->r = *r;
        memset(r, 0, sizeof *r);
    }
    uv_cond_signal(&w->cond);
    uv_mutex_unlock(&w->lock);
    waiter_drop(w);
}

enum loam_status http_fetch_wait(struct http *h, struct http_response *out, const struct http_request *q, struct err *err) {
    struct waiter *w = mem_zalloc(sizeof *w);
    struct req *r;
    enum loam_status s;
    memset(out, 0, sizeof *out);
    if (!w)
        return err_set(err, LOAM_ENOMEM, "request");
    if ((s = make_req(&r, q, waiter_done, w, err))) {
        mem_free(w);
        return s;
    }
    if (uv_mutex_init(&w->lock) || uv_cond_init(&w->cond))
        loam_abort(__FILE__, __LINE__, "mutex");
    atomic_store(&w->refs, 2);
    uv_mutex_lock(&h->lock);
    bool closing = h->closing;
    if (!closing) {
        r->next = h->posted;
        h->posted = r;
        uv_async_send(&h->wake);
    }
    uv_mutex_unlock(&h->lock);
    if (closing) {
        req_free(r);
        atomic_store(&w->refs, 1);
        waiter_drop(w);
        return err_set(err, LOAM_ECANCEL, "the HTTP client is closing");
    }
    /* r is the loop's from here on: it must not be touched once finished. The cancel flag is set under the lock. */
    bool cancelled = false;
    uv_mutex_lock(&w->lock);
    while (!w->finished) {
        uv_cond_timedwait(&w->cond, &w->lock, (uint64_t)CANCEL_POLL_MS * 1000000u);
        if (!w->finished && q->cancel && q->cancel->cancelled(q->cancel->arg)) {
            atomic_store(&r->cancel, true);
            w->left = cancelled = true;
            break;
        }
    }
    if (!cancelled) {
        s = w->s;
        if (s && err)
            *err = w->e;
        *out = w->r;
        memset(&w->r, 0, sizeof w->r);
    }
    uv_mutex_unlock(&w->lock);
    waiter_drop(w);
    if (cancelled) {
        uv_async_send(&h->wake);
        return err_set(err, LOAM_ECANCEL, "cancelled while waiting for %s", q->url);
    }
    return s;
}

/* ---- connections ---- */

static void unlink_conn(struct http *h, struct conn *c) {
    for (struct conn **p = &h->conns; *p; p = &(*p)->next)
        if (*p == c) {
            *p = c->next;
            return;
        }
}

static void conn_drop(struct conn *c) {
    unlink_conn(c->h, c);
    if (c->s)
        stream_close(c->s);
    mem_free(c);
}

/* The connection broke under its request. */
static void conn_failed(struct conn *c, enum loam_status s, const struct err *e) {
    struct http *h = c->h;
    struct req *q = c->q;
    c->q = NULL;
    bool again = q && c->reused && !c->got_bytes && !q->retried && !h->closing;
    conn_drop(c);
    if (again) {
        /* The server closed a kept connection as we wrote: once more on a fresh one. */
        q->retried = true;
        q->conn = NULL;
        unlink_req(&h->active, q);
        q->next = h->waiting;
        h->waiting = q;
    } else if (q) {
        finish(h, q, s, e);
    }
    uv_async_send(&h->wake);
}

static int fault(struct conn *c, enum loam_status s) {
    c->fault = s;
    return -1;
}

static int header_end(struct conn *c) {
    struct req *q = c->q;
    c->field[c->field_len] = c->value[c->value_len] = 0;
    if (!strcasecmp(c->field, "content-encoding") && *c->value && strcasecmp(c->value, "identity"))
        return fault(c, err_set(&c->e, LOAM_EENCODING, "%s: the answer is compressed", q->url.host));
    if (!strcasecmp(c->field, "content-type"))
        text_clean_cut(q->r.content_type, sizeof q->r.content_type, c->value, strlen(c->value));
    if (!strcasecmp(c->field, "retry-after"))
        q->r.retry_after_s = strtoull(c->value, NULL, 10);
    c->field_len = c->value_len = 0;
    c->in_value = false;
    return 0;
}

static int too_long(struct conn *c, size_t n) {
    c->head_bytes += n;
    if (c->head_bytes > HTTP_HEAD_MAX)
        return fault(c, err_set(&c->e, LOAM_ELIMIT, "%s: headers of more than %u bytes", c->url.host, HTTP_HEAD_MAX));
    return 0;
}

static int cb_status(http_parser *p, const char *at, size_t n) {
    return too_long(p->data, n);
}
static int cb_field(http_parser *p, const char *at, size_t n) {
    struct conn *c = p->data;
    if (c->in_value && header_end(c))
        return -1;
    for (size_t i = 0; i < n && c->field_len + 1 < sizeof c->field; i++)
        c->field[c->field_len++] = at[i];
    return too_long(c, n);
}
static int cb_value(http_parser *p, const char *at, size_t n) {
    struct conn *c = p->data;
    c->in_value = true;
    for (size_t i = 0; i < n && c->value_len + 1 < sizeof c->value; i++)
        c->value[c->value_len++] = at[i];
    return too_long(c, n);
}
static int cb_headers(http_parser *p) {
    struct conn *c = p->data;
    struct req *q = c->q;
    if (c->field_len && header_end(c))
        return -1;
    c->field_len = c->value_len = 0;
    c->in_value = false;
    q->r.status = p->status_code;
    c->headers_done = true;
    if (p->upgrade || p->status_code < 200) {
        if (p->status_code == 100)
            return 0;
        return fault(c, err_set(&c->e, LOAM_EHTTP, "%s: status %d was not asked for", q->url.host, p->status_code));
    }
    if (!(p->flags & F_CHUNKED) && p->content_length != UINT64_MAX && p->content_length > q->max_body && !q->on_body)
        return fault(c, err_set(&c->e, LOAM_ELIMIT, "%s: an answer of %llu bytes, at most %zu are taken", q->url.host,
                                (unsigned long long)p->content_length, q->max_body));
    return !strcmp(q->method, "HEAD");
}
static int cb_body(http_parser *p, const char *at, size_t n) {
    struct conn *c = p->data;
    struct req *q = c->q;
    if (q->on_body && q->r.status >= 200 && q->r.status < 300) {
        enum loam_status s = q->on_body(q->body_arg, at, n);
        if (s)
            return fault(c, err_set(&c->e, s, "%s: the receiver stopped", q->url.host));
        return 0;
    }
    if (n > q->max_body - q->r.body.len)
        return fault(c, err_set(&c->e, LOAM_ELIMIT, "%s: an answer of more than %zu bytes", q->url.host, q->max_body));
    enum loam_status s = buf_add(&q->r.body, at, n, &c->e);
    return s ? fault(c, s) : 0;
}
static int cb_complete(http_parser *p) {
    struct conn *c = p->data;
    if (c->q->r.status == 100) { /* an interim answer: the real one follows */
        c->q->r.status = 0;
        c->headers_done = false;
        return 0;
    }
    c->complete = true;
    c->keep = http_should_keep_alive(p);
    http_parser_pause(p, 1); /* whatever comes after it belongs to nobody */
    return 0;
}

static const http_parser_settings settings = {
    .on_status = cb_status,
    .on_header_field = cb_field,
    .on_header_value = cb_value,
    .on_headers_complete = cb_headers,
    .on_body = cb_body,
    .on_message_complete = cb_complete,
};

static void answered(struct conn *c, bool clean) {
    struct http *h = c->h;
    struct req *q = c->q;
    c->q = NULL;
    c->busy = false;
    q->conn = NULL;
    if (c->keep && clean && !h->closing) {
        c->reused = true;
        c->idle_until_us = clock_mono_us() + 1000ull * HTTP_IDLE_MS;
    } else {
        conn_drop(c);
    }
    finish(h, q, LOAM_OK, NULL);
    uv_async_send(&h->wake);
}

static void on_data(void *arg, const void *p, size_t n) {
    struct conn *c = arg;
    if (!c->q) { /* nothing was asked: a server that talks out of turn */
        conn_drop(c);
        return;
    }
    c->got_bytes = true;
    size_t used = http_parser_execute(&c->parser, &settings, p, n);
    enum http_errno no = HTTP_PARSER_ERRNO(&c->parser);
    if (c->fault) {
        struct err e = c->e;
        conn_failed(c, c->fault, &e);
        return;
    }
    if (c->complete) {
        answered(c, used >= n);
        return;
    }
    if (no != HPE_OK) {
        struct err e;
        enum loam_status s = no == HPE_HEADER_OVERFLOW ? LOAM_ELIMIT : LOAM_EHTTP;
        conn_failed(c, err_set(&e, s, "%s: %s", c->url.host, http_errno_description(no)), &e);
    }
}

static void on_end(void *arg, enum loam_status s, const struct err *e) {
    struct conn *c = arg;
    struct err mine;
    c->s = NULL; /* gone */
    if (!c->q) {
        unlink_conn(c->h, c);
        mem_free(c);
        return;
    }
    if (!s) {
        /* A body without a length ends with the connection. */
        if (c->headers_done)
            http_parser_execute(&c->parser, &settings, NULL, 0);
        if (c->complete) {
            c->keep = false;
            answered(c, true);
            return;
        }
        if (c->fault) {
            mine = c->e;
            conn_failed(c, c->fault, &mine);
            return;
        }
        if (!c->got_bytes)
            s = err_set(&mine, LOAM_ENET, "%s: closed without an answer", c->url.host);
        else
            s = err_set(&mine, LOAM_ECUT, "%s: closed in the middle of the answer", c->url.host);
        e = &mine;
    } else if (s == LOAM_ENET && c->got_bytes) {
        s = err_set(&mine, LOAM_ECUT, "%s: connection lost in the middle of the answer", c->url.host);
        e = &mine;
    }
    mine = *e;
    conn_failed(c, s, &mine);
}

static void send_request(struct conn *c) {
    struct req *q = c->q;
    struct buf b = BUF_INIT(HTTP_HEAD_MAX + q->body_len + 4096);
    struct err e;
    bool v6 = strchr(q->url.host, ':'), port = q->url.port != (q->url.tls ? 443 : 80);
    size_t path_len = strcspn(q->url.path, "#");
    enum loam_status s;
    char portstr[8] = "";
    if (port)
        snprintf(portstr, sizeof portstr, ":%u", q->url.port);
    http_parser_init(&c->parser, HTTP_RESPONSE);
    c->parser.data = c;
    c->head_bytes = c->field_len = c->value_len = 0;
    c->in_value = c->headers_done = c->complete = c->got_bytes = false;
    c->fault = LOAM_OK;
    const char *slash = path_len && q->url.path[0] == '/' ? "" : "/";
    if ((s = buf_printf(&b, &e, "%s ", q->method)))
        goto bad;
    if (stream_absolute(c->s) && (s = buf_printf(&b, &e, "http://%s%s%s%s", v6 ? "[" : "", q->url.host, v6 ? "]" : "", portstr)))
        goto bad;
    if ((s = buf_printf(&b, &e, "%s%.*s HTTP/1.1\r\nHost: %s%s%s%s\r\nUser-Agent: loam\r\nAccept-Encoding: identity\r\n%s", slash, (int)path_len, q->url.path,
                        v6 ? "[" : "", q->url.host, v6 ? "]" : "", portstr, q->head)))
        goto bad;
    if (q->body && (s = buf_printf(&b, &e, "Content-Length: %zu\r\n", q->body_len)))
        goto bad;
    if ((s = buf_str(&b, "\r\n", &e)) || (q->body_len && (s = buf_add(&b, q->body, q->body_len, &e))))
        goto bad;
    s = stream_write(c->s, b.data, b.len, &e);
bad:
    buf_clear(&b);
    if (s)
        conn_failed(c, s, &e);
}

static void on_open(void *arg) {
    struct conn *c = arg;
    c->open = true;
    if (c->q)
        send_request(c);
}

static bool same_host(const struct conn *c, const struct req *q) {
    return c->url.tls == q->url.tls && c->url.port == q->url.port && !strcmp(c->url.host, q->url.host);
}

static void start(struct http *h, struct req *q) {
    static const struct stream_events ev = {on_open, on_data, on_end};
    struct conn *c, *idle = NULL;
    unsigned n = 0;
    for (c = h->conns; c; c = c->next)
        if (same_host(c, q)) {
            n++;
            if (!c->busy && !idle && !q->retried)
                idle = c;
        }
    if (!idle && n >= HTTP_PER_HOST_MAX) {
        /* A retry wants a fresh connection: an idle one makes place. */
        for (c = h->conns; c && q->retried; c = c->next)
            if (same_host(c, q) && !c->busy) {
                conn_drop(c);
                n--;
                break;
            }
        if (n >= HTTP_PER_HOST_MAX)
            return;
    }
    unlink_req(&h->waiting, q);
    q->next = h->active;
    h->active = q;
    if (idle) {
        idle->busy = true;
        idle->q = q;
        q->conn = idle;
        send_request(idle);
        return;
    }
    struct err e;
    enum loam_status s;
    if (!(c = mem_zalloc(sizeof *c))) {
        finish(h, q, err_set(&e, LOAM_ENOMEM, "connection"), &e);
        return;
    }
    c->h = h;
    c->url = q->url;
    c->url.path = "";
    c->busy = true;
    if ((s = stream_open(&c->s, &h->net, &q->url, false, &ev, c, &e))) {
        mem_free(c);
        finish(h, q, s, &e);
        return;
    }
    c->next = h->conns;
    h->conns = c;
    c->q = q;
    q->conn = c;
}

/* ---- the client ---- */

static void on_timer(uv_timer_t *t) {
    pump(t->data);
}

static void abandon(struct http *h, struct req *q, enum loam_status s, const struct err *e) {
    if (q->conn) {
        q->conn->q = NULL;
        conn_drop(q->conn);
    }
    finish(h, q, s, e);
}

static bool expire(struct http *h, struct req *list, uint64_t now) {
    for (struct req *q = list; q; q = q->next) {
        struct err e;
        if (atomic_load(&q->cancel)) {
            abandon(h, q, err_set(&e, LOAM_ECANCEL, "cancelled"), &e);
            return true;
        }
        if (now >= q->deadline_us) {
            abandon(h, q,
                    err_set(&e, LOAM_ETIMEOUT, "%s: no %sanswer within %llu ms", q->url.host, q->r.status ? "whole " : "",
                            (unsigned long long)(q->timeout_us / 1000)),
                    &e);
            return true;
        }
    }
    return false;
}

static void rearm(struct http *h) {
    uint64_t next = UINT64_MAX, now = clock_mono_us();
    for (struct req *q = h->waiting; q; q = q->next)
        next = q->deadline_us < next ? q->deadline_us : next;
    for (struct req *q = h->active; q; q = q->next)
        next = q->deadline_us < next ? q->deadline_us : next;
    for (struct conn *c = h->conns; c; c = c->next)
        if (!c->busy && c->idle_until_us < next)
            next = c->idle_until_us;
    if (next == UINT64_MAX)
        uv_timer_stop(&h->timer);
    else
        uv_timer_start(&h->timer, on_timer, next > now ? (next - now) / 1000 + 1 : 1, 0);
}

static void pump(struct http *h) {
    struct req *in, *q, *next;
    if (h->pumping || h->closing)
        return;
    h->pumping = true;
    uv_mutex_lock(&h->lock);
    in = h->posted;
    h->posted = NULL;
    uv_mutex_unlock(&h->lock);
    struct req *ordered = NULL;
    while (in) { /* newest first: turn round */
        next = in->next;
        in->next = ordered;
        ordered = in;
        in = next;
    }
    struct req **tail = &h->waiting;
    while (*tail)
        tail = &(*tail)->next;
    *tail = ordered;
    uint64_t now = clock_mono_us();
    while (expire(h, h->active, now) || expire(h, h->waiting, now))
        ;
    for (struct conn *c = h->conns, *cn; c; c = cn) {
        cn = c->next;
        if (!c->busy && now >= c->idle_until_us)
            conn_drop(c);
    }
    for (q = h->waiting; q && !h->closing; q = next) {
        next = q->next;
        start(h, q);
    }
    h->pumping = false;
    if (!h->closing)
        rearm(h);
}

static void on_wake(uv_async_t *a) {
    pump(a->data);
}

enum loam_status http_new(struct http **out, uv_loop_t *loop, const struct http_config *cfg, struct err *err) {
    struct http *h = mem_zalloc(sizeof *h);
    enum loam_status s;
    if (!h)
        return err_set(err, LOAM_ENOMEM, "HTTP client");
    if ((s = stream_net_init(&h->net, loop, cfg, err))) {
        mem_free(h);
        return s;
    }
    if (uv_mutex_init(&h->lock))
        loam_abort(__FILE__, __LINE__, "mutex");
    if (uv_async_init(loop, &h->wake, on_wake) || uv_timer_init(loop, &h->timer))
        loam_abort(__FILE__, __LINE__, "uv handles");
    h->wake.data = h->timer.data = h;
    h->handles = 2;
    uv_unref((uv_handle_t *)&h->wake);
    uv_unref((uv_handle_t *)&h->timer);
    *out = h;
    return LOAM_OK;
}

static void all_gone(void *arg) {
    struct http *h = arg;
    if (!h->closing || h->handles || h->net.open)
        return;
    void (*closed)(void *) = h->closed;
    void *a = h->closed_arg;
    stream_net_clear(&h->net);
    uv_mutex_destroy(&h->lock);
    mem_free(h);
    if (closed)
        closed(a);
}

static void on_handle_closed(uv_handle_t *x) {
    struct http *h = x->data;
    h->handles--;
    all_gone(h);
}

void http_close(struct http *h, void (*closed)(void *arg), void *arg) {
    struct err e;
    h->closed = closed;
    h->closed_arg = arg;
    uv_mutex_lock(&h->lock);
    h->closing = true;
    struct req *posted = h->posted;
    h->posted = NULL;
    uv_mutex_unlock(&h->lock);
    err_set(&e, LOAM_ECANCEL, "the HTTP client is closing");
    while (posted) {
        struct req *n = posted->next;
        posted->next = NULL;
        finish(h, posted, LOAM_ECANCEL, &e);
        posted = n;
    }
    while (h->active)
        abandon(h, h->active, LOAM_ECANCEL, &e);
    while (h->waiting)
        abandon(h, h->waiting, LOAM_ECANCEL, &e);
    while (h->conns)
        conn_drop(h->conns);
    h->net.all_closed = all_gone;
    h->net.arg = h;
    uv_close((uv_handle_t *)&h->wake, on_handle_closed);
    uv_close((uv_handle_t *)&h->timer, on_handle_closed);
}
