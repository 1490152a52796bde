/* A byte stream to a host: name lookup, connect, proxy (CONNECT), TLS, reads, writes. Loop thread only. Used by http and ws. */
#ifndef LOAM_NET_STREAM_H
#define LOAM_NET_STREAM_H

#include "net/http.h"
#include "net/tls.h"

struct stream;

/* What the streams of one client share. */
struct stream_net {
    uv_loop_t *loop;
    struct tls_ctx *tls; /* made at the first https */
    char *ca_file;
    bool tls_insecure, no_proxy;
    char *http_proxy, *https_proxy, *except; /* of the environment; NULL if unset */
    size_t open;                            /* streams not yet freed */
    void (*all_closed)(void *arg);          /* called when open falls to 0 */
    void *arg;
};
enum loam_status stream_net_init(struct stream_net *n, uv_loop_t *loop, const struct http_config *cfg, struct err *err) LOAM_MUST_USE;
void stream_net_clear(struct stream_net *n); /* when open is 0 */
struct stream_net *http_net(struct http *h);  /* http.c: of a client, for ws */

struct stream_events {
    void (*open)(void *arg);
    void (*data)(void *arg, const void *p, size_t n); /* may call stream_close */
    /* Once, when the stream ended by itself: s LOAM_OK for an orderly end. The stream is gone afterwards. */
    void (*end)(void *arg, enum loam_status s, const struct err *e);
};
/* tunnel: use CONNECT also for plain http through a proxy. No callback comes before this returns. */
enum loam_status stream_open(struct stream **out, struct stream_net *n, const struct url *u, bool tunnel, const struct stream_events *ev,
                             void *arg, struct err *err) LOAM_MUST_USE;
/* The request line must name the whole URL (plain http through a proxy). */
bool stream_absolute(const struct stream *s);
/* Copies. */
enum loam_status stream_write(struct stream *s, const void *p, size_t n, struct err *err) LOAM_MUST_USE;
size_t stream_unsent(const struct stream *s);
/* No callback comes any more; frees itself later. */
void stream_close(struct stream *s);

#endif
