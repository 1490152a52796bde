/* The node's HTTP API (net/server.h), on loopback by default:
 *   /v1/models, /v1/chat/completions                 registered by engine/flow
 *   /loam/v1/blob/<keccak hex>  (Range allowed), /loam/v1/status            here
 *   /loam/v1/batch/<id>                              registered by engine/flow
 * Whoever registers a path does so after node_open and before node_run, or from the loop thread. */
#ifndef LOAM_NODE_API_H
#define LOAM_NODE_API_H

#include "base/status.h"
#include "net/server.h"

struct node;

#define API_ROUTES_MAX 32

/* As struct server_route; method and path must outlive the node. LOAM_ELIMIT. */
enum loam_status api_route(struct node *n, const char *method, const char *path, server_fn fn, void *arg, struct err *err) LOAM_MUST_USE;
/* An error in the form that OpenAI clients read; ends the reply. */
void api_error(struct server_reply *r, int http, enum loam_status s, const char *text);
/* "http://127.0.0.1:8571" into out; NULL when there is no API. */
const char *api_url(struct node *n, char *out, size_t cap);

/* node.c */
enum loam_status api_open(struct node *n, struct err *err) LOAM_MUST_USE;
enum loam_status api_listen(struct node *n, struct err *err) LOAM_MUST_USE;
void api_close(struct node *n);
void api_free(struct node *n);

#endif
