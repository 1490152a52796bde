#include "net/stream.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/banned.h"

#define CONNECT_REPLY_MAX 8192
#define PLAIN_MAX (4u << 20) /* decrypted at once: what one read brought */
#define CIPHER_MAX (64u << 20)

struct stream {
    struct stream_net *net;
    struct stream_events ev;
    void *arg;
    uv_tcp_t tcp;
    uv_getaddrinfo_t dns;
    uv_connect_t connect;
    struct addrinfo *addrs, *next_addr;
    bool dns_busy, tcp_init, connecting, closing, dead; /* dead: no more callbacks */
    bool tls_on, tunnel, absolute, tunnel_wait, told_open;
    struct url target, via;
    struct tls *tls;
    struct buf reply; /* of CONNECT */
    struct buf plain, cipher;
    size_t unsent;
    char inbuf[65536];
};

struct write {
    uv_write_t req;
    struct stream *s;
    size_t n;
    uint8_t *data;
};

static char *env_dup(const char *a, const char *b) {
    const char *v = getenv(a);
    if (!v || !*v)
        v = getenv(b);
    return v && *v ? mem_strdup(v) : NULL;
}

enum loam_status stream_net_init(struct stream_net *n, uv_loop_t *loop, const struct http_config *cfg, struct err *err) {
    memset(n, 0, sizeof *n);
    n->loop = loop;
    n->tls_insecure = cfg && cfg->tls_insecure;
    n->no_proxy = cfg && cfg->no_proxy;
    if (cfg && cfg->ca_file && !(n->ca_file = mem_strdup(cfg->ca_file)))
        return err_set(err, LOAM_ENOMEM, "net");
    if (!n->no_proxy) {
        n->http_proxy = env_dup("http_proxy", "http_proxy"); /* HTTP_PROXY can be set by a CGI request: not read */
        n->https_proxy = env_dup("https_proxy", "HTTPS_PROXY");
        n->except = env_dup("no_proxy", "NO_PROXY");
    }
    return LOAM_OK;
}

void stream_net_clear(struct stream_net *n) {
    tls_ctx_free(n->tls);
    mem_free(n->ca_file);
    mem_free(n->http_proxy);
    mem_free(n->https_proxy);
    mem_free(n->except);
    memset(n, 0, sizeof *n);
}

static bool excepted(const struct stream_net *n, const char *host) {
    const char *p = n->except;
    size_t hl = strlen(host);
    while (p && *p) {
        size_t len = strcspn(p, ", ");
        const char *d = p;
        size_t dl = len;
        if (dl && *d == '.') {
            d++;
            dl--;
        }
        if (dl == 1 && *d == '*')
            return true;
        if (dl && dl <= hl && !strncasecmp(host + hl - dl, d, dl) && (dl == hl || host[hl - dl - 1] == '.'))
            return true;
        p += len;
        p += strspn(p, ", ");
    }
    return false;
}

static void maybe_free(struct stream *s) {
    if (s->dns_busy || s->tcp_init)
        return;
    struct stream_net *n = s->net;
    tls_free(s->tls);
    if (s->addrs)
        uv_freeaddrinfo(s->addrs);
    buf_clear(&s->reply);
    buf_clear(&s->plain);
    buf_clear(&s->cipher);
    mem_free(s);
    if (--n->open == 0 && n->all_closed)
        n->all_closed(n->arg);
}

static void on_closed(uv_handle_t *h) {
    struct stream *s = h->data;
    s->tcp_init = false;
    maybe_free(s);
}

static void shut(struct stream *s) {
    if (s->closing)
        return;
    s->closing = true;
    s->dead = true;
    if (s->dns_busy)
        uv_cancel((uv_req_t *)&s->dns);
    if (!s->tcp_init)
        maybe_free(s);
    else if (!uv_is_closing((uv_handle_t *)&s->tcp)) /* else on_tcp_closed_retry frees */
        uv_close((uv_handle_t *)&s->tcp, on_closed);
}

static void end(struct stream *s, enum loam_status st, const struct err *e) {
    bool tell = !s->dead;
    s->dead = true;
    if (tell)
        s->ev.end(s->arg, st, e);
    shut(s);
}

void stream_close(struct stream *s) {
    s->dead = true;
    shut(s);
}

static void on_written(uv_write_t *r, int rc) {
    struct write *w = r->data;
    struct stream *s = w->s;
    s->unsent -= w->n;
    mem_free(w->data);
    mem_free(w);
    if (rc && rc != UV_ECANCELED && !s->closing) {
        struct err e;
        end(s, err_set(&e, LOAM_ENET, "write to %s: %s", s->via.host, uv_strerror(rc)), &e);
    }
}

/* Takes data (mem_free). */
static enum loam_status raw_write(struct stream *s, uint8_t *data, size_t n, struct err *err) {
    struct write *w = mem_zalloc(sizeof *w);
    if (!w || !data) {
        mem_free(w);
        mem_free(data);
        return err_set(err, LOAM_ENOMEM, "write of %zu bytes", n);
    }
    w->s = s;
    w->n = n;
    w->data = data;
    w->req.data = w;
    uv_buf_t b = uv_buf_init((char *)data, (unsigned)n);
    s->unsent += n;
    int rc = uv_write(&w->req, (uv_stream_t *)&s->tcp, &b, 1, on_written);
    if (rc) {
        s->unsent -= n;
        mem_free(data);
        mem_free(w);
        return err_set(err, LOAM_ENET, "write to %s: %s", s->via.host, uv_strerror(rc));
    }
    return LOAM_OK;
}

static enum loam_status flush_cipher(struct stream *s, struct err *err) {
    size_t n = s->cipher.len;
    if (!n)
        return LOAM_OK;
    uint8_t *p = buf_take(&s->cipher, &n);
    return raw_write(s, p, n, err);
}

enum loam_status stream_write(struct stream *s, const void *p, size_t n, struct err *err) {
    if (s->closing)
        return err_set(err, LOAM_ENET, "%s: closed", s->target.host);
    if (!n)
        return LOAM_OK;
    if (s->tls) {
        enum loam_status st = tls_write(s->tls, p, n, &s->cipher, err);
        return st ? st : flush_cipher(s, err);
    }
    return raw_write(s, mem_dup(p, n), n, err);
}

size_t stream_unsent(const struct stream *s) {
    return s->unsent;
}
bool stream_absolute(const struct stream *s) {
    return s->absolute;
}

static void got(struct stream *s, const void *p, size_t n) {
    struct err e;
    enum loam_status st;
    if (s->tunnel_wait) {
        if (buf_add(&s->reply, p, n, &e)) {
            end(s, err_set(&e, LOAM_EHTTP, "proxy %s: its reply is too long", s->via.host), &e);
            return;
        }
        const char *eoh = strstr((char *)s->reply.data, "\r\n\r\n");
        if (!eoh)
            return;
        if (strncmp((char *)s->reply.data, "HTTP/1.", 7) || strncmp((char *)s->reply.data + 8, " 200", 4)) {
            end(s, err_set(&e, LOAM_ENET, "proxy %s refused to connect to %s", s->via.host, s->target.host), &e);
            return;
        }
        s->tunnel_wait = false;
        /* Nothing may follow before we speak: both TLS and HTTP clients begin. */
        if (!s->tls_on) {
            s->ev.open(s->arg);
            return;
        }
        n = 0;
        if ((st = tls_new(&s->tls, s->net->tls, s->target.host, &e))) {
            end(s, st, &e);
            return;
        }
    }
    if (!s->tls) {
        if (n)
            s->ev.data(s->arg, p, n);
        return;
    }
    bool open = false, eof = false;
    buf_reset(&s->plain);
    st = tls_feed(s->tls, p, n, &s->plain, &s->cipher, &open, &eof, &e);
    struct err e2;
    enum loam_status sw = flush_cipher(s, &e2);
    if (st || sw) {
        end(s, st ? st : sw, st ? &e : &e2);
        return;
    }
    if (open && !s->told_open) {
        s->told_open = true;
        s->ev.open(s->arg);
        if (s->closing)
            return;
    }
    if (s->plain.len) {
        s->ev.data(s->arg, s->plain.data, s->plain.len);
        if (s->closing)
            return;
    }
    if (eof)
        end(s, LOAM_OK, NULL);
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b) {
    struct stream *s = h->data;
    *b = uv_buf_init(s->inbuf, sizeof s->inbuf);
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *b) {
    struct stream *s = h->data;
    struct err e;
    if (s->closing)
        return;
    if (n > 0)
        got(s, b->base, (size_t)n);
    else if (n == UV_EOF)
        end(s, LOAM_OK, NULL);
    else if (n < 0)
        end(s, err_set(&e, LOAM_ENET, "%s: %s", s->target.host, uv_strerror((int)n)), &e);
}

static void try_next(struct stream *s, int last);

static void on_tcp_closed_retry(uv_handle_t *h) {
    struct stream *s = h->data;
    s->tcp_init = false;
    if (s->closing)
        maybe_free(s);
    else
        try_next(s, UV_ECONNREFUSED);
}

static void on_connect(uv_connect_t *r, int rc) {
    struct stream *s = r->data;
    struct err e;
    enum loam_status st;
    s->connecting = false;
    if (s->closing)
        return;
    if (rc) {
        if (s->next_addr) {
            uv_close((uv_handle_t *)&s->tcp, on_tcp_closed_retry);
            return;
        }
        end(s, err_set(&e, LOAM_ENET, "connect to %s port %u: %s", s->via.host, s->via.port, uv_strerror(rc)), &e);
        return;
    }
    uv_tcp_nodelay(&s->tcp, 1);
    if ((rc = uv_read_start((uv_stream_t *)&s->tcp, on_alloc, on_read))) {
        end(s, err_set(&e, LOAM_ENET, "%s: %s", s->via.host, uv_strerror(rc)), &e);
        return;
    }
    if (s->tunnel) {
        char *m = mem_printf("CONNECT %s:%u HTTP/1.1\r\nHost: %s:%u\r\n\r\n", s->target.host, s->target.port, s->target.host, s->target.port);
        s->tunnel_wait = true;
        if ((st = raw_write(s, (uint8_t *)m, m ? strlen(m) : 0, &e)))
            end(s, st, &e);
        return;
    }
    if (s->tls_on) {
        if ((st = tls_new(&s->tls, s->net->tls, s->target.host, &e)))
            end(s, st, &e);
        else
            got(s, "", 0);
        return;
    }
    s->ev.open(s->arg);
}

static void try_next(struct stream *s, int last) {
    struct addrinfo *a = s->next_addr;
    struct err e;
    int rc = last;
    if (a) {
        s->next_addr = a->ai_next;
        if (!(rc = uv_tcp_init(s->net->loop, &s->tcp))) {
            s->tcp_init = true;
            s->tcp.data = s;
            s->connect.data = s;
            if (!(rc = uv_tcp_connect(&s->connect, &s->tcp, a->ai_addr, on_connect))) {
                s->connecting = true;
                return;
            }
        }
    }
    end(s, err_set(&e, LOAM_ENET, "connect to %s port %u: %s", s->via.host, s->via.port, uv_strerror(rc)), &e);
}

static void on_dns(uv_getaddrinfo_t *r, int rc, struct addrinfo *res) {
    struct stream *s = r->data;
    struct err e;
    s->dns_busy = false;
    s->addrs = res;
    if (s->closing) {
        maybe_free(s);
        return;
    }
    if (rc) {
        end(s, err_set(&e, LOAM_ENET, "%s: %s", s->via.host, uv_strerror(rc)), &e);
        return;
    }
    s->next_addr = res;
    try_next(s, UV_ENOENT);
}

enum loam_status stream_open(struct stream **out, struct stream_net *n, const struct url *u, bool tunnel, const struct stream_events *ev,
                             void *arg, struct err *err) {
    enum loam_status st;
    if (u->tls && !n->tls && (st = tls_ctx_new(&n->tls, n->ca_file, n->tls_insecure, err)))
        return st;
    struct stream *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(err, LOAM_ENOMEM, "connection");
    s->net = n;
    s->ev = *ev;
    s->arg = arg;
    s->target = s->via = *u;
    s->tls_on = u->tls;
    buf_init(&s->reply, CONNECT_REPLY_MAX);
    buf_init(&s->plain, PLAIN_MAX);
    buf_init(&s->cipher, CIPHER_MAX);
    const char *proxy = u->tls ? n->https_proxy : n->http_proxy;
    if (proxy && !host_loopback(u->host) && !excepted(n, u->host)) {
        struct url p;
        char with[600];
        if (!strstr(proxy, "://")) {
            snprintf(with, sizeof with, "http://%s", proxy);
            proxy = with;
        }
        if ((st = url_parse(&p, proxy, err)) || p.tls) {
            mem_free(s);
            return st ? err_prefix(err, st, "proxy") : err_set(err, LOAM_EUNSUPPORTED, "a proxy by https is not supported");
        }
        s->via = p;
        s->tunnel = u->tls || tunnel;
        s->absolute = !s->tunnel;
    }
    char port[8];
    snprintf(port, sizeof port, "%u", s->via.port);
    struct addrinfo hints;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    s->dns.data = s;
    int rc = uv_getaddrinfo(n->loop, &s->dns, on_dns, s->via.host, port, &hints);
    if (rc) {
        mem_free(s);
        return err_set(err, LOAM_ENET, "%s: %s", u->host, uv_strerror(rc));
    }
    s->dns_busy = true;
    n->open++;
    *out = s;
    return LOAM_OK;
}
