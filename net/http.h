/* HTTP/1.1 client on libuv, parsed by http-parser: keep-alive, chunked bodies, TLS, proxies from the environment (http_proxy,
 * https_proxy, no_proxy), time-outs on everything, bounded bodies. Compressed answers are refused (LOAM_EENCODING): none
 * is asked for. Redirects are not followed.
 *
 * The sockets live on one loop. http_fetch may be called from that loop's thread only; http_fetch_wait from any other. */
#ifndef LOAM_NET_HTTP_H
#define LOAM_NET_HTTP_H

#include "base/bytes.h"

#include <stdbool.h>
#include <uv.h>

#define HTTP_HEAD_MAX (64u << 10)      /* status line and headers of an answer */
#define HTTP_BODY_DEFAULT (64u << 20)  /* most bytes of a body where the request names no limit */
#define HTTP_TIMEOUT_DEFAULT 20000     /* ms */
#define HTTP_IDLE_MS 30000             /* an idle kept connection is closed after this */
#define HTTP_PER_HOST_MAX 8            /* open connections to one host; further requests queue */

struct http;

struct http_config {
    const char *ca_file;  /* PEM with trusted roots; NULL: the system's */
    bool tls_insecure;    /* tests only */
    bool no_proxy;        /* ignore the environment's proxies */
};

/* cfg may be NULL. The loop must outlive the client. */
enum loam_status http_new(struct http **out, uv_loop_t *loop, const struct http_config *cfg, struct err *err) LOAM_MUST_USE;
/* Loop thread. Ends every request with LOAM_ECANCEL (waiting threads too), closes the handles, frees when the loop has
 * closed them, then calls closed(arg) (may be NULL). Run the loop until then. */
void http_close(struct http *h, void (*closed)(void *arg), void *arg);

struct http_request {
    const char *method; /* NULL: GET, or POST with a body */
    const char *url;    /* http:// or https://, host, optional port, path; no credentials */
    const char *const *headers; /* NULL-terminated "Name: value" lines; may be NULL */
    const void *body;           /* copied */
    size_t body_len;
    uint64_t timeout_ms; /* the whole exchange; 0: HTTP_TIMEOUT_DEFAULT */
    size_t max_body;     /* LOAM_ELIMIT past it; 0: HTTP_BODY_DEFAULT */
    /* Called with each piece of a 2xx body instead of collecting it (loop thread). Non-zero ends the request with that
     * status. May be NULL. */
    enum loam_status (*on_body)(void *arg, const void *p, size_t n);
    void *body_arg;
    const struct http_cancel *cancel; /* http_fetch_wait only; may be NULL */
};
/* Asked every 100 ms by a waiting call. */
struct http_cancel {
    bool (*cancelled)(void *arg);
    void *arg;
};
struct http_response {
    int status;        /* 0 if no answer came */
    struct buf body;   /* owned by whoever holds the response */
    char content_type[64];
    uint64_t retry_after_s; /* 0 if the answer names none */
    uint64_t wall_us;  /* from the call to the last byte */
};
void http_response_clear(struct http_response *r);

/* done is called once, on the loop, never before http_fetch has returned. The response is borrowed for the call (its body
 * may be taken with buf_take). s is LOAM_OK whenever a whole answer came, whatever its HTTP status; e says why not. */
typedef void (*http_done)(void *arg, enum loam_status s, struct http_response *r, const struct err *e);
enum loam_status http_fetch(struct http *h, const struct http_request *q, http_done done, void *arg, struct err *err) LOAM_MUST_USE;
/* The same from another thread, waiting. out is filled also where the HTTP status is an error: see http_check. */
enum loam_status http_fetch_wait(struct http *h, struct http_response *out, const struct http_request *q, struct err *err) LOAM_MUST_USE;
/* LOAM_OK for 2xx, else LOAM_ESTATUS (429: LOAM_ERATE, 404: LOAM_ENOTFOUND) with a clean excerpt of the body. */
enum loam_status http_check(const struct http_response *r, struct err *err) LOAM_MUST_USE;

struct url {
    bool tls;
    char host[256]; /* without brackets */
    uint16_t port;
    const char *path; /* into the string parsed: begins with '/', or is "" */
};
enum loam_status url_parse(struct url *out, const char *s, struct err *err) LOAM_MUST_USE;
/* "localhost", 127.0.0.0/8 or ::1, as a url's host is written: what no foreign name server can point elsewhere. */
bool host_loopback(const char *host);

#endif
