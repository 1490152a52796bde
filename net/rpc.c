#include "net/rpc.h"

#include "base/clock.h"
#include "base/entropy.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/hexjson.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

/* A revert's message may carry the raw bytes of a custom error, zeros among them (anvil does): the reply is still a reply. Texts
 * are read as C strings and end there. */
#define RPC_JSON (JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL)

#define REST_FIRST_MS 250
#define REST_MAX_MS 60000
#define HOUR_US 3600000000ull
#define SCORE_REST 10
#define BATCH_REST_US 600000000ull /* an endpoint that does not take batches is asked for one again after ten minutes */

struct endpoint {
    char *url;
    char shown[256];
    int score;
    unsigned run; /* faults in a row */
    uint64_t no_batch_until_us; /* it said that it does not take batches */
    uint64_t calls, faults, lies, bytes, latency_us, rest_until_us;
    uint64_t window_begin_us, window_bytes;
    char last[160];
};

struct rpc {
    struct http *http;
    uint64_t timeout_ms, budget;
    size_t max_body;
    atomic_size_t n; /* of e; only grows, after the endpoint stands there */
    uv_mutex_t lock; /* guards all below */
    struct endpoint e[RPC_ENDPOINTS_MAX];
    uint64_t next_id;
};

enum loam_status rpc_add(struct rpc *r, const char *url, struct err *err) {
    struct url parsed;
    enum loam_status s = url_parse(&parsed, url, err);
    if (s)
        return s;
    uv_mutex_lock(&r->lock);
    size_t n = atomic_load(&r->n);
    struct endpoint *e = &r->e[n];
    if (n == RPC_ENDPOINTS_MAX)
        s = err_set(err, LOAM_ELIMIT, "more than %d RPC endpoints", RPC_ENDPOINTS_MAX);
    else if (!(e->url = mem_strdup(url)))
        s = err_set(err, LOAM_ENOMEM, "RPC client");
    if (!s) {
        e->score = 100;
        /* Keys of RPC services stand in the path or the query: only scheme and host are ever shown. */
        snprintf(e->shown, sizeof e->shown, "%s://%.200s:%u", parsed.tls ? "https" : "http", parsed.host, parsed.port);
        atomic_store(&r->n, n + 1);
    }
    uv_mutex_unlock(&r->lock);
    return s;
}

enum loam_status rpc_new(struct rpc **out, struct http *http, const struct rpc_config *cfg, struct err *err) {
    struct rpc *r = mem_zalloc(sizeof *r);
    enum loam_status s = LOAM_OK;
    if (!r)
        return err_set(err, LOAM_ENOMEM, "RPC client");
    if (uv_mutex_init(&r->lock))
        loam_abort(__FILE__, __LINE__, "mutex");
    r->http = http;
    r->timeout_ms = cfg->timeout_ms ? cfg->timeout_ms : 10000;
    r->max_body = cfg->max_body;
    r->budget = cfg->byte_budget;
    for (const char *const *u = cfg->urls; u && *u && !s; u++)
        s = rpc_add(r, *u, err);
    if (!s && !r->n)
        s = err_set(err, LOAM_EINVAL, "no RPC endpoint is configured");
    if (s) {
        rpc_free(r);
        return s;
    }
    *out = r;
    return LOAM_OK;
}

void rpc_free(struct rpc *r) {
    if (!r)
        return;
    for (size_t i = 0; i < r->n; i++)
        mem_free(r->e[i].url);
    uv_mutex_destroy(&r->lock);
    mem_free(r);
}

struct http *rpc_http(struct rpc *r) {
    return r->http;
}

size_t rpc_count(const struct rpc *r) {
    return atomic_load(&r->n);
}

void rpc_health(struct rpc_health *out, struct rpc *r, size_t i) {
    uint64_t now = clock_mono_us();
    memset(out, 0, sizeof *out);
    if (i >= r->n)
        return;
    uv_mutex_lock(&r->lock);
    const struct endpoint *e = &r->e[i];
    memcpy(out->url, e->shown, sizeof out->url);
    out->score = e->score;
    out->calls = e->calls;
    out->faults = e->faults;
    out->lies = e->lies;
    out->bytes_in = e->bytes;
    out->latency_us = e->latency_us;
    out->rest_ms = e->rest_until_us > now ? (e->rest_until_us - now) / 1000 : 0;
    memcpy(out->last_error, e->last, sizeof out->last_error);
    uv_mutex_unlock(&r->lock);
}

/* Under the lock. */
static void rest(struct endpoint *e, uint64_t at_least_ms) {
    uint64_t ms = REST_FIRST_MS;
    uint8_t j = 128;
    for (unsigned i = 0; i < e->run && ms < REST_MAX_MS; i++)
        ms *= 2;
    if (ms > REST_MAX_MS)
        ms = REST_MAX_MS;
    if (entropy_fill(&j, 1, NULL))
        j = 128;
    ms = ms / 2 + ms * j / 256; /* jitter: 0.5 to 1.5 times */
    if (ms < at_least_ms)
        ms = at_least_ms;
    e->rest_until_us = clock_mono_us() + 1000 * ms;
}

/* Puts the endpoint's name before the message, unless that names its host already. */
static void name_endpoint(const struct endpoint *e, enum loam_status s, struct err *err) {
    const char *host = strstr(e->shown, "://");
    char h[sizeof e->shown];
    host = host ? host + 3 : e->shown;
    snprintf(h, sizeof h, "%.*s", (int)(*host == '[' ? strcspn(host, "]") : strcspn(host, ":/?")), host);
    if (err && !strstr(err->text, h))
        err_prefix(err, s, "%s", e->shown);
}

void rpc_blame(struct rpc *r, int i, enum loam_status what, struct err *err) {
    if (i < 0 || (size_t)i >= r->n)
        return;
    uv_mutex_lock(&r->lock);
    struct endpoint *e = &r->e[i];
    e->lies++;
    e->run++;
    e->score /= 2;
    text_clean_cut(e->last, sizeof e->last, err && *err->text ? err->text : status_text(what),
                   strlen(err && *err->text ? err->text : status_text(what)));
    rest(e, 0);
    name_endpoint(e, what, err);
    uv_mutex_unlock(&r->lock);
}

static void note(struct rpc *r, int i, enum loam_status s, const struct http_response *resp, const struct err *err) {
    uv_mutex_lock(&r->lock);
    struct endpoint *e = &r->e[i];
    uint64_t now = clock_mono_us();
    e->calls++;
    e->bytes += resp->body.len;
    if (now - e->window_begin_us > HOUR_US) {
        e->window_begin_us = now;
        e->window_bytes = 0;
    }
    e->window_bytes += resp->body.len;
    if (s && s != LOAM_ERPC && s != LOAM_ECANCEL) {
        e->faults++;
        e->score = e->score > 10 ? e->score - 10 : e->score / 2;
        text_clean_cut(e->last, sizeof e->last, err ? err->text : status_text(s), strlen(err ? err->text : status_text(s)));
        rest(e, 1000 * (resp->retry_after_s < 3600 ? resp->retry_after_s : 3600));
        e->run++;
    } else if (!s) {
        e->run = 0;
        e->rest_until_us = 0;
        if (e->score < 100)
            e->score++;
        e->latency_us = e->latency_us ? (7 * e->latency_us + resp->wall_us) / 8 : resp->wall_us;
    }
    if (r->budget && e->window_bytes > r->budget) {
        e->rest_until_us = e->window_begin_us + HOUR_US;
        snprintf(e->last, sizeof e->last, "its hourly byte budget is used up");
    }
    uv_mutex_unlock(&r->lock);
}

/* The best endpoint whose bit is not in tried. */
static int choose(struct rpc *r, unsigned tried) {
    uint64_t now = clock_mono_us();
    int best = -1;
    uv_mutex_lock(&r->lock);
    for (int pass = 0; pass < 2 && best < 0; pass++) /* second pass: resting ones too, rather than nobody */
        for (size_t i = 0; i < r->n; i++) {
            const struct endpoint *e = &r->e[i];
            if (tried >> i & 1 || (!pass && (e->rest_until_us > now || e->score < SCORE_REST)))
                continue;
            if (best < 0 || e->score > r->e[best].score || (e->score == r->e[best].score && e->latency_us < r->e[best].latency_us))
                best = (int)i;
        }
    uv_mutex_unlock(&r->lock);
    return best;
}

static enum loam_status make_body(char **out, uint64_t *id, struct rpc *r, const char *method, json_t *params, struct err *err) {
    uv_mutex_lock(&r->lock);
    *id = ++r->next_id;
    uv_mutex_unlock(&r->lock);
    json_t *m = json_pack("{s:s,s:I,s:s,s:O?}", "jsonrpc", "2.0", "id", (json_int_t)*id, "method", method, "params", params);
    if (m && !params)
        json_object_set_new(m, "params", json_array());
    char *text = m ? json_dumps(m, JSON_COMPACT) : NULL;
    json_decref(m);
    if (!text)
        return err_set(err, LOAM_ENOMEM, "RPC request %s", method);
    *out = text; /* jansson's malloc */
    return LOAM_OK;
}

/* What the peer answered, checked as far as JSON-RPC goes. */
static enum loam_status read_answer(json_t **result, const struct http_response *resp, uint64_t id, const char *method, struct buf *data,
                                    struct err *err) {
    char cut[200];
    json_error_t je;
    bool good = resp->status >= 200 && resp->status < 300;
    *result = NULL;
    if (!resp->body.len)
        return good ? err_set(err, LOAM_EEMPTY, "%s: an empty answer", method) : http_check(resp, err);
    json_t *m = json_loadb((const char *)resp->body.data, resp->body.len, RPC_JSON, &je);
    if (!m)
        return good ? err_set(err, LOAM_EJSON, "%s: %s", method, text_clean_cut(cut, sizeof cut, je.text, strlen(je.text))) : http_check(resp, err);
    enum loam_status s = LOAM_OK;
    json_t *got = json_object_get(m, "id"), *e = json_object_get(m, "error"), *v = json_object_get(m, "result");
    if (!json_is_object(m)) {
        s = err_set(err, LOAM_EJSON, "%s: the answer is not an object", method);
    } else if (!json_is_integer(got) || (uint64_t)json_integer_value(got) != id) {
        /* An error about the request as a whole may come with id null. */
        s = !good                                        ? http_check(resp, err)
            : json_is_object(e) && (!got || json_is_null(got)) ? LOAM_OK
                                                         : err_set(err, LOAM_ERPCID, "%s: the answer has another id", method);
    }
    if (!s && e && !json_is_null(e)) {
        const char *text = json_string_value(json_object_get(e, "message"));
        json_int_t code = json_integer_value(json_object_get(e, "code"));
        json_t *d = json_object_get(e, "data");
        if (data && json_is_string(d) && hj_str_bytes(data, d, "error data", NULL))
            buf_reset(data);
        if (!text)
            text = "without a message";
        s = err_set(err, code == 3 ? LOAM_EREVERT : LOAM_ERPC, "%s: %s (%lld)", method, text_clean_cut(cut, sizeof cut, text, strlen(text)), (long long)code);
    } else if (!s && !v) {
        s = err_set(err, LOAM_EJSON, "%s: neither result nor error", method);
    } else if (!s && !good) {
        s = http_check(resp, err);
    }
    if (!s)
        *result = json_incref(v);
    json_decref(m);
    return s;
}

static const char *const headers[] = {"Content-Type: application/json", "Accept: application/json", NULL};

static void fill(struct http_request *q, const struct rpc *r, int i, const char *body, const struct rpc_opts *o) {
    memset(q, 0, sizeof *q);
    q->method = "POST";
    q->url = r->e[i].url;
    q->headers = headers;
    q->body = body;
    q->body_len = strlen(body);
    q->timeout_ms = o && o->timeout_ms ? o->timeout_ms : r->timeout_ms;
    q->max_body = o && o->max_body ? o->max_body : r->max_body;
    q->cancel = o ? o->cancel : NULL;
}

enum loam_status rpc_call_wait(struct rpc *r, json_t **result, const char *method, json_t *params, const struct rpc_opts *o,
                               struct err *err) {
    enum loam_status s = LOAM_ENET;
    unsigned tried = 0;
    *result = NULL;
    if (o && o->endpoint >= (int)r->n) {
        json_decref(params);
        return err_set(err, LOAM_EINVAL, "there is no RPC endpoint %d", o->endpoint);
    }
    for (;;) {
        int i = o && o->endpoint >= 0 ? o->endpoint : choose(r, tried);
        struct http_request q;
        struct http_response resp;
        struct err e;
        char *body;
        uint64_t id;
        if (i < 0 || tried >> i & 1)
            break; /* all tried: the last error stands */
        tried |= 1u << i;
        if ((s = make_body(&body, &id, r, method, params, err)))
            break;
        e.text[0] = 0;
        fill(&q, r, i, body, o);
        s = http_fetch_wait(r->http, &resp, &q, &e);
        if (!s)
            s = read_answer(result, &resp, id, method, o ? o->error_data : NULL, &e);
        else
            err_prefix(&e, s, "%s", method);
        note(r, i, s == LOAM_EREVERT ? LOAM_ERPC : s, &resp, &e);
        http_response_clear(&resp);
        free(body);
        if (o && o->used)
            *o->used = i;
        if (s && s != LOAM_EREVERT && s != LOAM_ECANCEL && s != LOAM_ENOMEM)
            name_endpoint(&r->e[i], s, &e);
        if (s && err)
            *err = e;
        if (!s || s == LOAM_EREVERT || s == LOAM_ERPC || s == LOAM_ECANCEL || s == LOAM_ENOMEM || (o && o->endpoint >= 0))
            break;
    }
    json_decref(params);
    return s;
}

/* What an endpoint answers that does not take batches, or not this large: an object whose error is about the request (one about a limit is not), or
 * one of these statuses. Faults that pass (401, 429, 5xx) are the endpoint's, not the batch's. */
static bool batch_refused(int status) {
    return status == 400 || status == 405 || status == 413 || status == 415 || status == 422 || status == 501;
}

/* The batch's answers, in any order, each id exactly once. LOAM_EUNSUPPORTED: batches are not taken. */
static enum loam_status read_batch(json_t **results, const struct http_response *resp, uint64_t first, size_t n, const char *method, struct err *err) {
    char cut[160];
    json_error_t je;
    size_t i;
    json_t *e;
    if (batch_refused(resp->status))
        return err_set(err, LOAM_EUNSUPPORTED, "%s: batches are not taken: HTTP %d", method, resp->status);
    if (resp->status < 200 || resp->status > 299)
        return http_check(resp, err);
    if (!resp->body.len)
        return err_set(err, LOAM_EEMPTY, "%s: an empty answer", method);
    json_t *m = json_loadb((const char *)resp->body.data, resp->body.len, RPC_JSON, &je), *whole = json_object_get(m, "error");
    enum loam_status s = LOAM_OK;
    if (!m)
        return err_set(err, LOAM_EJSON, "%s: %s", method, text_clean_cut(cut, sizeof cut, je.text, strlen(je.text)));
    json_int_t code = json_integer_value(json_object_get(whole, "code"));
    if (json_is_object(m) && (code == -32005 || code == 429)) { /* "limit exceeded": the method's own answer is no other */
        const char *text = json_string_value(json_object_get(whole, "message"));
        s = err_set(err, LOAM_ERATE, "%s: %s", method, text_clean_cut(cut, sizeof cut, text ? text : "limit exceeded", strlen(text ? text : "limit exceeded")));
    } else if (json_is_object(m) && json_is_object(whole))
        s = err_set(err, LOAM_EUNSUPPORTED, "%s: batches are not taken", method);
    else if (!json_is_array(m))
        s = err_set(err, LOAM_EJSON, "%s: the answer to a batch is not an array", method);
    else if (json_array_size(m) != n)
        s = err_set(err, LOAM_ERPCID, "%s: %zu answers to %zu questions", method, json_array_size(m), n);
    json_array_foreach(m, i, e) {
        json_t *id = json_object_get(e, "id"), *v = json_object_get(e, "result"), *x = json_object_get(e, "error");
        uint64_t k = json_is_integer(id) ? (uint64_t)json_integer_value(id) - first : n;
        if (s)
            break;
        if (x && !json_is_null(x)) {
            const char *text = json_string_value(json_object_get(x, "message"));
            s = err_set(err, LOAM_ERPC, "%s: %s", method, text_clean_cut(cut, sizeof cut, text ? text : "error", strlen(text ? text : "error")));
        } else if (k >= n || results[k]) {
            s = err_set(err, LOAM_ERPCID, "%s: an answer to no question, or a second one", method);
        } else if (!v) {
            s = err_set(err, LOAM_EJSON, "%s: neither result nor error", method);
        } else {
            results[k] = json_incref(v);
        }
    }
    json_decref(m);
    for (i = 0; s && i < n; i++) {
        json_decref(results[i]);
        results[i] = NULL;
    }
    return s;
}

enum loam_status rpc_batch_wait(struct rpc *r, json_t **results, const char *method, json_t **params, size_t n, const struct rpc_opts *o,
                                struct err *err) {
    json_t *m = json_array();
    struct http_request q;
    struct http_response resp;
    struct err e;
    enum loam_status s;
    int i = o && o->endpoint >= 0 && o->endpoint < (int)r->n ? o->endpoint : choose(r, 0);
    uv_mutex_lock(&r->lock);
    uint64_t first = r->next_id + 1;
    r->next_id += n;
    bool refused = clock_mono_us() < r->e[i].no_batch_until_us;
    uv_mutex_unlock(&r->lock);
    for (size_t k = 0; k < n; k++) {
        results[k] = NULL;
        json_array_append_new(m, json_pack("{s:s,s:I,s:s,s:o}", "jsonrpc", "2.0", "id", (json_int_t)(first + k), "method", method, "params", params[k]));
    }
    char *body = refused ? NULL : json_dumps(m, JSON_COMPACT);
    json_decref(m);
    if (o && o->used)
        *o->used = i;
    if (!body)
        return refused ? err_set(err, LOAM_EUNSUPPORTED, "%s: batches are not taken", method) : err_set(err, LOAM_ENOMEM, "RPC request %s", method);
    fill(&q, r, i, body, o);
    e.text[0] = 0;
    s = http_fetch_wait(r->http, &resp, &q, &e);
    if (!s)
        s = read_batch(results, &resp, first, n, method, &e);
    if (s == LOAM_EUNSUPPORTED) {
        uv_mutex_lock(&r->lock);
        r->e[i].no_batch_until_us = clock_mono_us() + BATCH_REST_US;
        uv_mutex_unlock(&r->lock);
    } else {
        note(r, i, s, &resp, &e);
    }
    http_response_clear(&resp);
    free(body);
    if (s && err)
        *err = e;
    return s;
}

struct call {
    struct rpc *r;
    int endpoint;
    uint64_t id;
    char method[64];
    rpc_done done;
    void *arg;
};

static void call_done(void *arg, enum loam_status s, struct http_response *resp, const struct err *e) {
    struct call *c = arg;
    struct err mine;
    json_t *result = NULL;
    if (e)
        mine = *e;
    else
        err_clear(&mine);
    if (!s)
        s = read_answer(&result, resp, c->id, c->method, NULL, &mine);
    note(c->r, c->endpoint, s == LOAM_EREVERT ? LOAM_ERPC : s, resp, &mine);
    c->done(c->arg, s, result, s ? &mine : NULL);
    json_decref(result);
    mem_free(c);
}

enum loam_status rpc_call(struct rpc *r, const char *method, json_t *params, const struct rpc_opts *o, rpc_done done, void *arg,
                          struct err *err) {
    struct call *c = mem_zalloc(sizeof *c);
    struct http_request q;
    char *body = NULL;
    enum loam_status s;
    int i = o && o->endpoint >= 0 && o->endpoint < (int)r->n ? o->endpoint : choose(r, 0);
    if (!c) {
        json_decref(params);
        return err_set(err, LOAM_ENOMEM, "RPC request");
    }
    c->r = r;
    c->endpoint = i;
    snprintf(c->method, sizeof c->method, "%s", method);
    c->done = done;
    c->arg = arg;
    if (!(s = make_body(&body, &c->id, r, method, params, err))) {
        fill(&q, r, i, body, o);
        s = http_fetch(r->http, &q, call_done, c, err);
        free(body);
    }
    json_decref(params);
    if (s)
        mem_free(c);
    return s;
}
