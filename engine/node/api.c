#include "node/api.h"

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/job.h"
#include "node/private.h"
#include "node/topic.h"
#include "store/blob.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/banned.h"

#define BLOB_PIECE (256u << 10) /* bytes read at once for a reply */

struct api {
    struct server *server;
    struct server_route routes[API_ROUTES_MAX + 1];
    size_t count;
    char host[128];
    uint16_t port;
    bool closing;
};

enum loam_status api_route(struct node *n, const char *method, const char *path, server_fn fn, void *arg,
                           struct err *err) {
    struct api *a = n->api;
    if (a->count == API_ROUTES_MAX)
        return err_set(err, LOAM_ELIMIT, "more than %d API paths", API_ROUTES_MAX);
    a->routes[a->count++] = (struct server_route){method, path, fn, arg};
    return LOAM_OK;
}

void api_error(struct server_reply *r, int http, enum loam_status s, const char *text) {
    json_t *o = json_pack("{s:{s:s s:s s:s}}", "error", "message", text, "type", status_text(s), "code",
                          status_name(s));
    char *body = o ? json_dumps(o, JSON_COMPACT) : NULL;
    server_send(r, http, "application/json", body ? body : "{}", body ? strlen(body) : 2);
    mem_free(body);
    json_decref(o);
}

static void on_status(const struct server_request *q, struct server_reply *r) {
    struct node *n = q->arg;
    json_t *v = topic_get(n, "node"), *chain = topic_get(n, "chain");
    /* for other nodes: no folder, no pid */
    json_t *o = json_pack("{s:s s:O? s:O?}", "version", PACKAGE_VERSION, "state", json_object_get(v, "state"),
                          "chain_id", json_object_get(chain, "chain_id"));
    char *body = o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (body)
        server_send(r, 200, "application/json", body, strlen(body));
    else
        api_error(r, 500, LOAM_ENOMEM, "no memory");
    mem_free(body);
    json_decref(o);
    json_decref(v);
    json_decref(chain);
}

/* "bytes=a-b", "bytes=a-", "bytes=-n" of a blob of `size` bytes. False: not one that we serve. */
static bool parse_range(const char *t, uint64_t size, uint64_t *from, uint64_t *to) {
    char *end;
    if (strncmp(t, "bytes=", 6) != 0 || !size)
        return false;
    t += 6;
    if (*t == '-') {
        uint64_t last = strtoull(t + 1, &end, 10);
        if (end == t + 1 || *end || !last)
            return false;
        *from = last < size ? size - last : 0;
        *to = size - 1;
        return true;
    }
    *from = strtoull(t, &end, 10);
    if (end == t || *end != '-')
        return false;
    t = end + 1;
    *to = *t ? strtoull(t, &end, 10) : size - 1;
    if (*t && *end)
        return false;
    if (*to >= size)
        *to = size - 1;
    return *from <= *to;
}

struct send {
    struct node *n;
    struct server_reply *r;
    struct hash32 h;
    uint64_t from, to;
    int status;
    char range[96];
};

/* On a job's thread: the disk and a slow peer may make it wait. */
static enum loam_status send_blob(struct job *j, void *arg, struct err *err) {
    struct send *d = arg;
    const char *const headers[] = {"Accept-Ranges: bytes", d->status == 206 ? d->range : NULL, NULL};
    uint8_t *piece = mem_alloc(BLOB_PIECE);
    enum loam_status s = piece ? server_begin(d->r, d->status, "application/octet-stream",
                                              (int64_t)(d->to + 1 - d->from), headers, err)
                               : err_set(err, LOAM_ENOMEM, "no memory for a blob");
    while (!s && d->from <= d->to && !job_cancelled(j)) {
        size_t want = d->to - d->from + 1 < BLOB_PIECE ? (size_t)(d->to - d->from + 1) : BLOB_PIECE, got = 0;
        s = blob_range(d->n->blobs, &d->h, d->from, piece, want, &got, err);
        if (!s && !got)
            s = err_set(err, LOAM_EIO, "a blob ended early");
        if (!s)
            s = server_write(d->r, piece, got, err);
        d->from += got;
    }
    mem_free(piece);
    if (d->from <= d->to)
        server_abort(d->r);
    else
        server_end(d->r);
    d->r = NULL;
    return s;
}

static void sent_blob(struct job *j, void *arg, enum loam_status s, const struct err *err) {
    (void)j;
    (void)s;
    (void)err;
    mem_free(arg);
}

static void on_blob(const struct server_request *q, struct server_reply *r) {
    struct node *n = q->arg;
    struct send d = {.n = n, .r = r, .status = 200};
    struct err e;
    uint64_t size;
    if (hash_parse(&d.h, q->rest, NULL)) {
        api_error(r, 400, LOAM_EINVAL, "a blob's name is its keccak: 64 hex digits");
        return;
    }
    if (blob_size(n->blobs, &d.h, &size, &e)) {
        api_error(r, 404, LOAM_ENOTFOUND, "no such blob here");
        return;
    }
    const char *range = server_header(q, "Range");
    d.to = size - 1;
    if (range) {
        if (!parse_range(range, size, &d.from, &d.to)) {
            api_error(r, 416, LOAM_ERANGE, "range not satisfiable");
            return;
        }
        d.status = 206;
        snprintf(d.range, sizeof d.range, "Content-Range: bytes %llu-%llu/%llu", (unsigned long long)d.from,
                 (unsigned long long)d.to, (unsigned long long)size);
    }
    if (!size || strcmp(q->method, "HEAD") == 0) {
        server_send(r, d.status, "application/octet-stream", "", 0);
        return;
    }
    struct send *copy = mem_dup(&d, sizeof d);
    struct job_def def = {.title = "api blob", .run = send_blob, .end = sent_blob, .arg = copy};
    uint64_t id;
    if (!copy || job_start(n, &id, &def, &e)) {
        mem_free(copy);
        api_error(r, 503, LOAM_EBUSY, "too busy");
    }
}

enum loam_status api_open(struct node *n, struct err *err) {
    struct api *a = mem_zalloc(sizeof *a);
    if (!a)
        return err_set(err, LOAM_ENOMEM, "no memory for the API");
    n->api = a;
    enum loam_status s = api_route(n, "GET", "/loam/v1/status", on_status, n, err);
    if (!s)
        s = api_route(n, "GET", "/loam/v1/blob/*", on_blob, n, err);
    return s;
}

/* Names and addresses of option api.hosts, separated by commas; read for each request, so that `set` holds at once. */
static bool host_ok(const char *host, void *arg) {
    struct node *n = arg;
    char t[OPTION_TEXT_MAX], *save = NULL;
    option_str(n->opt, "api.hosts", t);
    for (char *w = strtok_r(t, ", ", &save); w; w = strtok_r(NULL, ", ", &save))
        if (!strcasecmp(w, host))
            return true;
    return false;
}

enum loam_status api_listen(struct node *n, struct err *err) {
    struct api *a = n->api;
    char t[OPTION_TEXT_MAX], *end;
    option_str(n->opt, "api.listen", t);
    if (!*t)
        return LOAM_OK;
    char *colon = strrchr(t, ':');
    unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (!colon || end == colon + 1 || *end || port > 65535 || (size_t)(colon - t) >= sizeof a->host)
        return err_set(err, LOAM_EINVAL, "api.listen: \"%s\" is not host:port", t);
    *colon = 0;
    snprintf(a->host, sizeof a->host, "%s", *t ? t : "127.0.0.1");
    struct server_config cfg = {.host = a->host, .port = (uint16_t)port, .routes = a->routes, .host_ok = host_ok, .host_arg = n};
    enum loam_status s = server_new(&a->server, n->loop, &cfg, err);
    if (s)
        return err_prefix(err, s, "the API cannot listen at %s:%lu (option api.listen)", a->host, port);
    a->port = server_port(a->server);
    return LOAM_OK;
}

const char *api_url(struct node *n, char *out, size_t cap) {
    struct api *a = n->api;
    if (!a || !a->server)
        return NULL;
    snprintf(out, cap, strchr(a->host, ':') ? "http://[%s]:%u" : "http://%s:%u", a->host, a->port);
    return out;
}

void api_close(struct node *n) {
    struct api *a = n->api;
    if (a && a->server) {
        server_close(a->server, NULL, NULL);
        a->server = NULL;
    }
}

void api_free(struct node *n) {
    mem_free(n->api);
    n->api = NULL;
}
