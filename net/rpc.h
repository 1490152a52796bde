/* JSON-RPC 2.0 over HTTP to one or several endpoints, with ids matched, limits, time-outs, per-endpoint health and
 * back-off. Nothing said here is believed: net/chain.h verifies. */
#ifndef LOAM_NET_RPC_H
#define LOAM_NET_RPC_H

#include "net/http.h"

#include <jansson.h>

#define RPC_ENDPOINTS_MAX 8
#define RPC_ANY (-1) /* the healthiest endpoint; another one after a failure */

struct rpc;

struct rpc_config {
    const char *const *urls; /* NULL-terminated, 1 to RPC_ENDPOINTS_MAX */
    uint64_t timeout_ms;     /* a call; 0: 10 s */
    size_t max_body;         /* bytes of an answer; 0: HTTP_BODY_DEFAULT */
    uint64_t byte_budget;    /* most bytes received from one endpoint in an hour; 0: no limit */
};
/* http must outlive it and runs the sockets. Thread-safe from here on. */
enum loam_status rpc_new(struct rpc **out, struct http *http, const struct rpc_config *cfg, struct err *err) LOAM_MUST_USE;
/* One endpoint more, asked from now on. Any thread. LOAM_ELIMIT. */
enum loam_status rpc_add(struct rpc *r, const char *url, struct err *err) LOAM_MUST_USE;
/* No call may be under way. */
void rpc_free(struct rpc *r);

struct rpc_opts {
    int endpoint; /* RPC_ANY or an index */
    uint64_t timeout_ms;
    size_t max_body;
    const struct http_cancel *cancel;
    int *used;              /* gets the index of the endpoint that answered; may be NULL */
    struct buf *error_data; /* gets the bytes of error.data (a revert's data) where the RPC answered an error; may be NULL */
};
/* Asks and waits; any thread but the loop's. params: a JSON array or NULL, stolen. *result: the caller's (json_decref).
 * LOAM_ERPC: the RPC answered an error object (its message is in err); LOAM_EJSON, LOAM_ERPCID, LOAM_ENULL never: a null
 * result is given as json_null. opts may be NULL. With RPC_ANY, network faults are tried once on each other endpoint. */
enum loam_status rpc_call_wait(struct rpc *r, json_t **result, const char *method, json_t *params, const struct rpc_opts *opts,
                               struct err *err) LOAM_MUST_USE;
/* n calls of one method in one JSON-RPC batch to one endpoint (opts->endpoint, or the best). params[i] are stolen; results[i] are the
 * caller's, all of them or none. LOAM_EUNSUPPORTED where the endpoint says that it does not take batches (remembered for ten minutes, then one is tried
 * again); any other fault is the endpoint's and says nothing about batches. */
enum loam_status rpc_batch_wait(struct rpc *r, json_t **results, const char *method, json_t **params, size_t n, const struct rpc_opts *opts,
                                struct err *err) LOAM_MUST_USE;
/* rpc_call_wait without waiting; loop thread only. result is borrowed during done. */
typedef void (*rpc_done)(void *arg, enum loam_status s, json_t *result, const struct err *e);
enum loam_status rpc_call(struct rpc *r, const char *method, json_t *params, const struct rpc_opts *opts, rpc_done done,
                          void *arg, struct err *err) LOAM_MUST_USE;

/* Health. score: 100 at the start, halved by a lie, lowered by faults, rises with good answers; an endpoint under 10 rests
 * until its back-off ends. */
struct rpc_health {
    char url[256]; /* without query and user part */
    int score;
    uint64_t calls, faults, lies, bytes_in;
    uint64_t latency_us;  /* moving average */
    uint64_t rest_ms;     /* until it is asked again; 0: now */
    char last_error[160]; /* clean text, "" if none */
};
size_t rpc_count(const struct rpc *r);
struct http *rpc_http(struct rpc *r);
void rpc_health(struct rpc_health *out, struct rpc *r, size_t endpoint);
/* Whoever verified an answer and found it false says so here; e (NULL is fine) then names the endpoint. */
void rpc_blame(struct rpc *r, int endpoint, enum loam_status what, struct err *e);

#endif
