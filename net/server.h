/* HTTP/1.1 server on libuv for a node's API: a table of handlers, bounded requests, keep-alive, whole and streamed
 * replies (chunked; server-sent events are just text/event-stream). It knows no path and no JSON: engine/node/api.c does. */
#ifndef LOAM_NET_SERVER_H
#define LOAM_NET_SERVER_H

#include "base/bytes.h"

#include <stdbool.h>
#include <uv.h>

#define SERVER_HEAD_MAX (16u << 10)
#define SERVER_CONNECTIONS_MAX 256
#define SERVER_READ_MS 30000         /* a request must be complete within this */
#define SERVER_IDLE_MS 60000         /* kept connections */
#define SERVER_QUEUE_MAX (4u << 20)  /* unsent bytes of one reply before server_write waits (or refuses on the loop) */
#define SERVER_STALL_MS 30000        /* a client that takes nothing for so long is dropped */

struct server;
struct server_reply;

struct server_request {
    const char *method, *path; /* decoded path without query */
    const char *query;         /* raw, without '?'; "" if none */
    const char *rest;          /* what '*' of the handler's path matched */
    const uint8_t *body;
    size_t body_len;
    bool loopback; /* the peer's address is of this machine */
    void *arg;     /* of the handler */
    const struct server_header {
        const char *name, *value;
    } *headers;
    size_t header_count;
};
/* Case-insensitive; NULL if absent. */
const char *server_header(const struct server_request *q, const char *name);
/* The decoded value of a query parameter into out; false if absent or too long. */
bool server_query(char *out, size_t cap, const struct server_request *q, const char *name);

/* Called on the loop when the whole request is there. The request is borrowed for the call; the reply is the handler's: it
 * must call server_end (or server_abort) on it once, then or later, from any thread. */
typedef void (*server_fn)(const struct server_request *q, struct server_reply *r);

struct server_route {
    const char *method; /* "GET", "POST", …; NULL: any */
    const char *path;   /* "/v1/models", or "/loam/v1/blob/ *" (without the space): a prefix */
    server_fn fn;
    void *arg;
};
struct server_config {
    const char *host; /* NULL: 127.0.0.1 */
    uint16_t port;    /* 0: any free one */
    const struct server_route *routes; /* borrowed until closed; ends with path NULL */
    /* Beside loopback names and the address that a connection came in at, the names that a request's Host field may have (421
     * otherwise). Called on the loop; NULL: no others. A request with an Origin other than its Host is refused with 403. */
    bool (*host_ok)(const char *host, void *arg);
    void *host_arg;
    size_t max_body;  /* LOAM: 413 past it; 0: 32 MiB */
};
/* LOAM_EBUSY: the port is in use. */
enum loam_status server_new(struct server **out, uv_loop_t *loop, const struct server_config *cfg, struct err *err) LOAM_MUST_USE;
uint16_t server_port(const struct server *s);
/* Loop thread. Open replies end; closed(arg) when all handles are. Replies still held by jobs stay valid (writes: LOAM_ENET). */
void server_close(struct server *s, void (*closed)(void *arg), void *arg);

/* Replies: any thread. Order: server_begin once, server_write any number of times, server_end. */
/* length: bytes that will follow, or -1 for chunked. headers: NULL-terminated "Name: value" lines beside Content-Type; may
 * be NULL. */
enum loam_status server_begin(struct server_reply *r, int status, const char *content_type, int64_t length,
                              const char *const *headers, struct err *err) LOAM_MUST_USE;
/* Copies. Off the loop it waits while more than SERVER_QUEUE_MAX is unsent; on the loop that is LOAM_ELIMIT. LOAM_ENET: the client
 * has gone: stop the work, then server_end. */
enum loam_status server_write(struct server_reply *r, const void *p, size_t n, struct err *err) LOAM_MUST_USE;
/* Ends the reply and lets go of it: r is invalid afterwards. */
void server_end(struct server_reply *r);
/* The same, closing the connection at once, so that the client sees that the answer is cut. */
void server_abort(struct server_reply *r);
bool server_gone(struct server_reply *r); /* the client has left */
/* begin, write, end in one. */
void server_send(struct server_reply *r, int status, const char *content_type, const void *p, size_t n);

#endif
