/* The OpenAI-shaped part of the API: GET /v1/models, GET /v1/models/NAME, POST /v1/chat/completions (whole, or streamed as
 * server-sent events). Every request is a job of its own; its answer is stored like that of `ask`, and the reply names it
 * in "loam". What a request asks for and this server cannot do is refused by name, never ignored.
 *
 * Temperature is 0 where the request gives none (OpenAI: 1), so that a plain question has one answer. Beyond OpenAI's:
 * top_k, min_p, repeat_penalty, act ("f32", "q8"). With n, answers are made one after the other; each after the first has its own
 * part of the seed. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/option.h"
#include "flow/ask.h"
#include "flow/pay.h"
#include "node/api.h"
#include "node/job.h"
#include "node/node.h"
#include "node/outbox.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define BODY_MAX ((size_t)4 << 20)
#define CHOICES_MAX 16 /* answers to one request (n) */

static void send_json(struct server_reply *r, int status, json_t *o) {
    char *t = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (t)
        server_send(r, status, "application/json", t, strlen(t));
    else
        server_abort(r);
    free(t);
}

struct http_error {
    int status;
    const char *type, *code;
};

static struct http_error error_of(enum loam_status s) {
    switch (s) {
    case LOAM_ENOTFOUND:
        return (struct http_error){404, "invalid_request_error", "model_not_found"};
    case LOAM_ELIMIT:
        return (struct http_error){400, "invalid_request_error", "context_length_exceeded"};
    case LOAM_EINVAL:
    case LOAM_ERANGE:
    case LOAM_EPARSE:
    case LOAM_EUNSUPPORTED:
        return (struct http_error){400, "invalid_request_error", NULL};
    case LOAM_EBUSY:
    case LOAM_ENOMEM:
        return (struct http_error){503, "server_error", "overloaded"};
    default:
        return (struct http_error){500, "server_error", NULL};
    }
}

static json_t *error_json(enum loam_status s, const char *text, const char *param) {
    struct http_error h = error_of(s);
    return json_pack("{s:{s:s s:s s:s? s:s?}}", "error", "message", text, "type", h.type, "param", param, "code", h.code);
}

static void send_error(struct server_reply *r, enum loam_status s, const char *text, const char *param) {
    send_json(r, error_of(s).status, error_json(s, text, param));
}

/* ---- models ---- */

struct listing {
    struct node *n;
    struct server_reply *r;
    char name[FLOW_MODEL_NAME_MAX]; /* one model, or "" for all */
};

static json_t *model_json(const json_t *m) {
    return json_pack("{s:O s:s s:i s:s}", "id", json_object_get(m, "name"), "object", "model", "created", 0, "owned_by", "loam");
}

static enum loam_status listing_run(struct job *j, void *arg, struct err *err) {
    struct listing *l = arg;
    (void)j;
    (void)err;
    json_t *all = flow_model_list(l->n), *data = json_array(), *m, *one = NULL;
    size_t i;
    json_array_foreach(all, i, m) {
        if (!l->name[0])
            json_array_append_new(data, model_json(m));
        else if (!strcmp(l->name, json_string_value(json_object_get(m, "name"))))
            one = model_json(m);
    }
    if (!l->name[0]) {
        send_json(l->r, 200, json_pack("{s:s s:o}", "object", "list", "data", data));
    } else {
        json_decref(data);
        if (one)
            send_json(l->r, 200, one);
        else
            send_error(l->r, LOAM_ENOTFOUND, "there is no such model", "model");
    }
    json_decref(all);
    return LOAM_OK;
}

static void listing_end(struct job *j, void *arg, enum loam_status s, const struct err *err) {
    (void)j;
    (void)s;
    (void)err;
    mem_free(arg);
}

static void models_route(const struct server_request *q, struct server_reply *r) {
    struct listing *l = mem_zalloc(sizeof *l);
    struct err e;
    uint64_t id;
    if (!l) {
        send_error(r, LOAM_ENOMEM, "no memory", NULL);
        return;
    }
    l->n = q->arg;
    l->r = r;
    if (q->rest)
        snprintf(l->name, sizeof l->name, "%s", q->rest);
    struct job_def def = {.title = "api models", .run = listing_run, .end = listing_end, .arg = l};
    if (job_start(l->n, &id, &def, &e)) {
        mem_free(l);
        send_error(r, LOAM_EBUSY, e.text, NULL);
    }
}

/* ---- chat ---- */

struct chat {
    struct node *n;
    struct server_reply *r;
    uint8_t *raw; /* the request as it came: read on the job's thread, since a large one takes longer than the loop may */
    size_t raw_len;
    json_t *body, *messages;
    struct flow_ask ask;
    bool stream, usage, begun, gone;
    bool fast;                  /* told by flow_ask */
    unsigned n_choices, choice; /* wanted; the one in the making */
    bool role_sent;             /* of this choice */
    char id[48], model[FLOW_MODEL_NAME_MAX];
    uint64_t created;
    const struct lm_tokenizer *tok; /* of the model, while the job runs */
    json_t *logprobs; /* [content] so far, where asked for and not streamed */
};

static void chat_free(struct chat *c) {
    mem_free(c->raw);
    json_decref(c->body);
    json_decref(c->messages);
    json_decref(c->logprobs);
    mem_free(c);
}

static enum loam_status sse(struct chat *c, json_t *o) {
    char *t = o ? json_dumps(o, JSON_COMPACT) : NULL;
    struct err e;
    enum loam_status s = t ? LOAM_OK : LOAM_ENOMEM;
    json_decref(o);
    if (!s && !c->begun) {
        static const char *const headers[] = {"Cache-Control: no-cache", NULL};
        s = server_begin(c->r, 200, "text/event-stream; charset=utf-8", -1, headers, &e);
        c->begun = !s;
    }
    struct buf b = BUF_INIT(BODY_MAX);
    if (!s)
        s = buf_printf(&b, &e, "data: %s\n\n", t);
    if (!s)
        s = server_write(c->r, b.data, b.len, &e);
    buf_clear(&b);
    free(t);
    return s;
}

static json_t *chunk(struct chat *c, json_t *delta, const char *finish, json_t *logprobs) {
    return json_pack("{s:s s:s s:I s:s s:s s:[{s:i s:o s:o? s:s?}]}", "id", c->id, "object", "chat.completion.chunk", "created", (json_int_t)c->created,
                     "model", c->model, "system_fingerprint", c->fast ? LM_ARITHMETIC_FAST : LM_ARITHMETIC, "choices", "index", (int)c->choice, "delta", delta, "logprobs", logprobs,
                     "finish_reason", finish);
}

/* OpenAI's form of one token: its text, probability, bytes. Text that is no UTF-8 by itself is shown with U+FFFD. */
static json_t *token_json(const struct lm_tokenizer *tok, uint32_t id, float logprob) {
    struct buf b = BUF_INIT(4096);
    json_t *bytes = json_array(), *o = NULL;
    if (bytes && !lm_decode(&b, tok, &id, 1, true, NULL)) {
        for (size_t i = 0; i < b.len; i++)
            json_array_append_new(bytes, json_integer(b.data[i]));
        json_t *text = b.len ? json_stringn((const char *)b.data, b.len) : json_string("");
        o = json_pack("{s:o s:f s:O}", "token", text ? text : json_string("\xef\xbf\xbd"), "logprob", (double)logprob, "bytes", bytes);
    }
    json_decref(bytes);
    buf_clear(&b);
    return o;
}

static json_t *logprob_json(const struct lm_tokenizer *tok, const struct lm_token_event *t) {
    json_t *o = token_json(tok, t->id, t->logprob), *top = json_array();
    for (uint32_t i = 0; top && i < t->n_top; i++)
        json_array_append_new(top, token_json(tok, t->top[i].id, t->top[i].logprob));
    if (o)
        json_object_set_new(o, "top_logprobs", top);
    else
        json_decref(top);
    return o;
}

static int chat_token(void *ctx, const struct lm_token_event *t) {
    struct chat *c = ctx;
    if (server_gone(c->r))
        return c->gone = true;
    if (c->stream && !c->role_sent && sse(c, chunk(c, json_pack("{s:s s:s}", "role", "assistant", "content", ""), NULL, NULL)))
        return c->gone = true;
    c->role_sent = true;
    json_t *lp = t->top ? logprob_json(c->tok, t) : NULL;
    if (c->stream && (t->text_len || lp)) {
        json_t *content = lp ? json_pack("{s:[o] s:n}", "content", lp, "refusal") : NULL;
        if (sse(c, chunk(c, json_pack("{s:s%}", "content", t->text, t->text_len), NULL, content)))
            c->gone = true;
    } else if (lp) {
        json_array_append_new(c->logprobs, lp);
    }
    return c->gone;
}

static const char *finish_of(const char *stop) {
    return stop && (!strcmp(stop, "length") || !strcmp(stop, "context")) ? "length" : "stop";
}

static json_t *usage_of(const json_t *records) {
    const json_t *first = json_array_get(records, 0), *r;
    json_int_t in = json_integer_value(json_object_get(first, "tokens_in")), out = 0;
    size_t i;
    json_array_foreach((json_t *)records, i, r) out += json_integer_value(json_object_get(r, "tokens_out"));
    return json_pack("{s:I s:I s:I s:{s:O}}", "prompt_tokens", in, "completion_tokens", out, "total_tokens", in + out, "prompt_tokens_details",
                     "cached_tokens", json_object_get(first, "tokens_cached"));
}

static json_t *choice_json(struct chat *c, const json_t *rec) {
    json_t *lp = c->logprobs ? json_pack("{s:O s:n}", "content", c->logprobs, "refusal") : NULL;
    return json_pack("{s:i s:{s:s s:O s:n} s:o? s:s}", "index", (int)c->choice, "message", "role", "assistant", "content", json_object_get(rec, "text"), "refusal",
                     "logprobs", lp, "finish_reason", finish_of(json_string_value(json_object_get(rec, "stop"))));
}

/* One answer; its record goes to records, its choice to choices or to the stream. */
static enum loam_status chat_one(struct chat *c, struct job *j, json_t *records, json_t *choices, struct err *e) {
    json_t *rec = NULL;
    c->role_sent = false;
    if (c->logprobs)
        json_array_clear(c->logprobs);
    if (c->choice) /* each answer its own numbers; the first has those of the seed alone */
        put_be64(c->ask.sampler.seed + 16, c->choice);
    enum loam_status s = flow_ask(&rec, c->n, j, &c->ask, e);
    if (s)
        return s;
    json_array_append_new(records, rec);
    if (!c->stream) {
        json_t *lp = c->logprobs;
        json_array_append_new(choices, choice_json(c, rec));
        if (lp && c->choice + 1 < c->n_choices) { /* the list went into the choice */
            c->logprobs = json_array();
            json_decref(lp);
        }
        return LOAM_OK;
    }
    json_t *last = chunk(c, json_object(), finish_of(json_string_value(json_object_get(rec, "stop"))), NULL);
    if (last)
        json_object_set_new(last, "loam", json_pack("{s:O?}", "answer", json_object_get(rec, "id")));
    return sse(c, last);
}

static enum loam_status chat_read(struct chat *c, struct err *err);

static enum loam_status chat_run(struct job *j, void *arg, struct err *err) {
    struct chat *c = arg;
    struct flow_model *m;
    struct err local = {LOAM_OK, ""}, *e = err ? err : &local;
    enum loam_status s = chat_read(c, e);
    if (s)
        return s; /* said to the client */
    json_t *records = json_array(), *choices = json_array();
    /* The name in every chunk is the model's own, also where the request left it open. */
    s = flow_model_get(&m, c->n, c->ask.model, e);
    if (!s) {
        snprintf(c->model, sizeof c->model, "%s", m->name);
        c->tok = m->base->tokenizer;
        if (c->ask.act == LM_ACT_Q8 && !m->base->quantised)
            s = err_set(e, LOAM_EUNSUPPORTED, "model %s is not quantised: act q8 is not possible", m->name);
        for (c->choice = 0; c->choice < c->n_choices && !s && !c->gone; c->choice++)
            s = chat_one(c, j, records, choices, e);
        flow_model_put(m);
    }
    if (s && !c->begun && !c->gone) {
        send_error(c->r, s, e->text, s == LOAM_ENOTFOUND ? "model" : NULL);
    } else if (s || c->gone) {
        if (c->begun && !c->gone)
            (void)!sse(c, error_json(s, e->text, NULL));
        server_abort(c->r);
        s = s ? s : LOAM_ECANCEL;
    } else if (!c->stream) {
        const json_t *rec = json_array_get(records, 0);
        json_t *answers = json_array(), *r;
        size_t i;
        json_array_foreach(records, i, r) json_array_append(answers, json_object_get(r, "id"));
        send_json(c->r, 200,
                  json_pack("{s:s s:s s:I s:s s:s s:O s:o s:{s:O? s:o s:O s:O}}", "id", c->id, "object", "chat.completion", "created", (json_int_t)c->created, "model",
                            c->model, "system_fingerprint", json_string_value(json_object_get(rec, "arithmetic")), "choices", choices, "usage", usage_of(records), "loam", "answer",
                            json_object_get(rec, "id"), "answers", answers, "act", json_object_get(rec, "act"), "seed", json_object_get(rec, "seed")));
    } else {
        if (c->usage) {
            json_t *u = json_pack("{s:s s:s s:I s:s s:[] s:o}", "id", c->id, "object", "chat.completion.chunk", "created", (json_int_t)c->created, "model",
                                  c->model, "choices", "usage", usage_of(records));
            s = sse(c, u);
        }
        if (!s)
            s = server_write(c->r, "data: [DONE]\n\n", 14, e);
        server_end(c->r);
    }
    json_decref(records);
    json_decref(choices);
    return s;
}

static void chat_end(struct job *j, void *arg, enum loam_status s, const struct err *err) {
    (void)j;
    (void)s;
    (void)err;
    chat_free(arg);
}

/* A content is a string, or a list of {"type":"text","text":"…"} parts, which are joined. */
static json_t *content_of(const json_t *v) {
    if (json_is_string(v))
        return json_incref((json_t *)v);
    if (!json_is_array(v))
        return NULL;
    struct buf b = BUF_INIT(BODY_MAX);
    const json_t *part;
    size_t i;
    bool bad = false;
    json_array_foreach((json_t *)v, i, part) {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *text = json_object_get(part, "text");
        bad |= !type || strcmp(type, "text") || !json_is_string(text) || buf_add(&b, json_string_value(text), json_string_length(text), NULL);
        if (bad)
            break;
    }
    json_t *s = bad ? NULL : json_stringn(b.data ? (const char *)b.data : "", b.len);
    buf_clear(&b);
    return s;
}

static enum loam_status chat_messages(struct chat *c, const char **param, struct err *err) {
    const json_t *list = json_object_get(c->body, "messages"), *m;
    size_t i;
    *param = "messages";
    c->messages = json_array();
    if (!json_is_array(list) || !json_array_size(list))
        return err_set(err, LOAM_EINVAL, "messages: a list with at least one message is needed");
    json_array_foreach((json_t *)list, i, m) {
        const char *role = json_string_value(json_object_get(m, "role"));
        json_t *content = content_of(json_object_get(m, "content"));
        if (role && !strcmp(role, "developer"))
            role = "system";
        if (!role || !content) {
            json_decref(content);
            return err_set(err, LOAM_EINVAL, "messages[%zu]: a role, and a content that is text, are needed", i);
        }
        json_array_append_new(c->messages, json_pack("{s:s s:o}", "role", role, "content", content));
    }
    c->ask.messages = c->messages;
    return LOAM_OK;
}

static enum loam_status chat_params(struct chat *c, const char **param, struct err *err) {
    /* Members that say nothing about the answer, or only what holds here anyway. */
    static const char *const harmless[] = {"user", "store", "metadata", "stream", "stream_options", "model", "messages", "n", "seed", "stop",
                                           "logprobs", "top_logprobs", "act", "response_format", "logit_bias", "service_tier", "safety_identifier",
                                           "prompt_cache_key", "parallel_tool_calls", "tools", "tool_choice"};
    static const struct {
        const char *key, *to;
    } numbers[] = {{"temperature", "temperature"}, {"top_p", "top_p"}, {"top_k", "top_k"}, {"min_p", "min_p"}, {"repeat_penalty", "repeat_penalty"},
                   {"presence_penalty", "presence_penalty"}, {"frequency_penalty", "frequency_penalty"}, {"max_tokens", "max_tokens"},
                   {"max_completion_tokens", "max_tokens"}};
    json_t *sampler = json_object(), *v;
    const char *key;
    enum loam_status s = LOAM_OK;
    json_object_foreach(c->body, key, v) {
        bool known = false;
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
            if (!strcmp(key, numbers[i].key)) {
                known = true;
                if (!json_is_null(v))
                    json_object_set(sampler, numbers[i].to, v);
            }
        for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
            known |= !strcmp(key, harmless[i]);
        if (!known && !json_is_null(v)) {
            *param = key;
            json_decref(sampler);
            return err_set(err, LOAM_EUNSUPPORTED, "%s is not known here", key);
        }
    }
    json_t *stop = json_object_get(c->body, "stop");
    if (json_is_string(stop))
        json_object_set_new(sampler, "stop", json_pack("[O]", stop));
    else if (stop && !json_is_null(stop))
        json_object_set(sampler, "stop", stop);
    *param = NULL;
    c->ask.sampler.repeat = 1;
    c->ask.max_tokens = 0;
    s = flow_sampler_read(&c->ask, sampler, err);
    /* Stop strings are borrowed from the JSON: the wrapped one lives as long as the body does. */
    if (!s && json_is_string(stop))
        c->ask.stop[0] = json_string_value(stop);
    json_decref(sampler);
    return s;
}

static enum loam_status chat_rest(struct chat *c, const char **param, struct err *err) {
    const json_t *b = c->body, *v;
    char act[OPTION_TEXT_MAX];
    if ((v = json_object_get(b, "model")) && !json_is_null(v)) {
        *param = "model";
        if (!json_is_string(v))
            return err_set(err, LOAM_EINVAL, "model is no string");
        c->ask.model = json_string_value(v);
    }
    c->n_choices = 1;
    if ((v = json_object_get(b, "n")) && !json_is_null(v)) {
        *param = "n";
        if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > CHOICES_MAX)
            return err_set(err, LOAM_EINVAL, "n is not in 1 to %d", CHOICES_MAX);
        c->n_choices = (unsigned)json_integer_value(v);
    }
    static const char *const refused[] = {"tools", "tool_choice", "logit_bias"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        v = json_object_get(b, refused[i]);
        if (v && !json_is_null(v) && !(json_is_array(v) && !json_array_size(v)) && !(json_is_object(v) && !json_object_size(v)) &&
            !(json_is_string(v) && !strcmp(json_string_value(v), "none"))) {
            *param = refused[i];
            return err_set(err, LOAM_EUNSUPPORTED, "%s is not supported", refused[i]);
        }
    }
    v = json_object_get(b, "response_format");
    if (v && !json_is_null(v) && (!json_is_string(json_object_get(v, "type")) || strcmp(json_string_value(json_object_get(v, "type")), "text"))) {
        *param = "response_format";
        return err_set(err, LOAM_EUNSUPPORTED, "response_format: only text");
    }
    if ((v = json_object_get(b, "seed")) && !json_is_null(v)) {
        *param = "seed";
        if (!json_is_integer(v))
            return err_set(err, LOAM_EINVAL, "seed is no integer");
        put_be64(c->ask.sampler.seed + 24, (uint64_t)json_integer_value(v));
        c->ask.seeded = true;
    }
    *param = "stream";
    v = json_object_get(b, "stream");
    if (v && !json_is_boolean(v) && !json_is_null(v))
        return err_set(err, LOAM_EINVAL, "stream is neither true nor false");
    c->stream = json_is_true(v);
    c->usage = json_is_true(json_object_get(json_object_get(b, "stream_options"), "include_usage"));
    *param = "top_logprobs";
    c->ask.logprobs = json_is_true(json_object_get(b, "logprobs"));
    if ((v = json_object_get(b, "top_logprobs")) && !json_is_null(v)) {
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > 20 || !c->ask.logprobs)
            return err_set(err, LOAM_EINVAL, "top_logprobs: 0 to 20, and only with logprobs");
        c->ask.top_logprobs = (uint32_t)json_integer_value(v);
    }
    if (c->ask.logprobs && !c->stream)
        c->logprobs = json_array();
    *param = "act";
    option_str(c->n->opt, "model.act", act);
    const char *a = act;
    if ((v = json_object_get(b, "act")) && !json_is_null(v))
        a = json_string_value(v);
    if (!a || (strcmp(a, "f32") && strcmp(a, "q8")))
        return err_set(err, LOAM_EINVAL, "act is neither f32 nor q8");
    c->ask.act = !strcmp(a, "q8") ? LM_ACT_Q8 : LM_ACT_F32;
    *param = NULL;
    return LOAM_OK;
}

/* What the request says, into c->ask; its own errors are sent. */
static enum loam_status chat_read(struct chat *c, struct err *err) {
    json_error_t je;
    const char *param = NULL;
    c->body = json_loadb((const char *)c->raw, c->raw_len, JSON_REJECT_DUPLICATES, &je);
    mem_free(c->raw);
    c->raw = NULL;
    enum loam_status s = LOAM_OK;
    if (!json_is_object(c->body))
        s = err_set(err, LOAM_EPARSE, "the request is no JSON object: %s", c->body ? "another value" : je.text);
    if (!s)
        s = chat_messages(c, &param, err);
    if (!s)
        s = chat_params(c, &param, err);
    if (!s)
        s = chat_rest(c, &param, err);
    if (s)
        send_error(c->r, s, err->text, param);
    return s;
}

static void chat_route(const struct server_request *q, struct server_reply *r) {
    struct err e = {LOAM_OK, ""};
    uint64_t id;
    if (q->body_len > BODY_MAX) {
        send_json(r, 413, error_json(LOAM_EINVAL, "the request is larger than 4 MiB", NULL));
        return;
    }
    struct chat *c = mem_zalloc(sizeof *c);
    if (!c || !(c->raw = mem_dup(q->body, q->body_len))) {
        mem_free(c);
        send_error(r, LOAM_ENOMEM, "no memory", NULL);
        return;
    }
    c->raw_len = q->body_len;
    c->n = q->arg;
    c->r = r;
    c->created = clock_unix_ms() / 1000;
    c->ask.token = chat_token;
    c->ask.ctx = c;
    c->ask.fast = &c->fast;
    struct job_def def = {.title = "api chat", .run = chat_run, .end = chat_end, .arg = c};
    static uint64_t serial; /* the loop's thread only */
    snprintf(c->id, sizeof c->id, "chatcmpl-%llx-%llu", (unsigned long long)clock_unix_ms(), (unsigned long long)++serial);
    if (job_start(c->n, &id, &def, &e)) {
        send_error(r, LOAM_EBUSY, e.text, NULL);
        chat_free(c);
    }
}

static const char *const contract_errors[] = {
#define E(sig) sig,
#include "flow/errors.def"
#undef E
    NULL};

enum loam_status flow_serve(struct node *n, struct err *err) {
    outbox_errors(n, contract_errors);
    enum loam_status s = api_route(n, "GET", "/v1/models", models_route, n, err);
    if (!s)
        s = api_route(n, "GET", "/v1/models/*", models_route, n, err);
    if (!s)
        s = api_route(n, "POST", "/v1/chat/completions", chat_route, n, err);
    if (!s)
        s = flow_pay_routes(n, err);
    return s;
}
