#include "node/socket.h"

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "node/job.h"
#include "node/private.h"
#include "node/topic.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/banned.h"

#define CALLS_MAX 64               /* unanswered command.run of one client */
#define QUEUE_HARD_MAX (32u << 20) /* answers are never dropped; a client that leaves so much unread is */
#define ASK_POLL_NS (200ull * 1000 * 1000)

struct client {
    struct client *next;
    struct node *n;
    uv_pipe_t pipe;
    struct buf in;
    bool hello, closing;
    bool readonly; /* said so in hello: it may look, and nothing it sends changes anything */
    uint64_t seen[TOPICS_MAX];
    bool subscribed[TOPICS_MAX];
    bool behind; /* a state was not sent because too much waited: it is when there is room again */
    /* under control.lock */
    struct buf out;     /* waits for the write in flight */
    size_t in_flight;   /* bytes handed to libuv */
    bool gone, dropped; /* dropped: output was lost since the last note about it */
    int refs;           /* the connection and each call */
    size_t calls;
};

struct control_call {
    struct control_call *next;
    struct control *control;
    struct client *client;
    json_t *id, *params;
    bool detached, cancelled, goes_on;
    uint64_t job; /* 0: not started yet */
    int refs;
    /* a question under way */
    uint64_t ask_id;
    bool asking, answered;
    char *value;
};

struct control {
    struct node *n;
    uv_mutex_t lock;
    uv_cond_t cond;
    uv_pipe_t listener;
    bool listening;
    char *path;
    struct client *clients;
    size_t count;
    struct control_call *calls;
    uint64_t next_ask;
};

/* ---- sending ---- */

static void client_unref_locked(struct client *c) {
    if (--c->refs)
        return;
    buf_clear(&c->in);
    buf_clear(&c->out);
    mem_free(c);
}

static size_t queued(struct client *c) {
    return c->out.len + c->in_flight;
}

/* Appends one message. droppable: left out when the client is behind. */
static void send_locked(struct client *c, json_t *msg, bool droppable) {
    char *text = msg ? json_dumps(msg, JSON_COMPACT) : NULL;
    json_decref(msg);
    if (!c->gone && text && (!droppable || queued(c) < CONTROL_QUEUE_MAX)) {
        enum loam_status s = buf_str(&c->out, text, NULL);
        if (!s)
            s = buf_byte(&c->out, '\n', NULL);
        if (s)
            c->gone = true; /* past the hard limit or no memory: the loop closes it */
    } else if (droppable) {
        c->dropped = true;
    }
    mem_free(text);
}

static json_t *notification(const char *method, json_t *params) {
    return json_pack("{s:s s:s s:o}", "jsonrpc", "2.0", "method", method, "params",
                     params ? params : json_object());
}

static json_t *response(json_t *id, json_t *result) {
    return json_pack("{s:s s:O? s:o}", "jsonrpc", "2.0", "id", id, "result", result ? result : json_object());
}

static json_t *failure(json_t *id, enum loam_status s, const char *text, long word, uint64_t job) {
    json_t *data = json_pack("{s:s s:s s:i}", "status", status_name(s), "remedy", status_remedy(s), "exit",
                             status_exit(s));
    if (data && word >= 0)
        json_object_set_new(data, "word", json_integer(word));
    if (data && job)
        json_object_set_new(data, "job", json_integer((json_int_t)job));
    return json_pack("{s:s s:o s:{s:i s:s s:o}}", "jsonrpc", "2.0", "id", id ? json_incref(id) : json_null(),
                     "error", "code", status_rpc(s), "message", text && *text ? text : status_text(s), "data",
                     data);
}

struct write {
    uv_write_t req;
    struct client *c;
    uint8_t *bytes;
};

static void client_close(struct client *c);
static void client_pump(struct client *c);

static void on_written(uv_write_t *req, int status) {
    struct write *w = (struct write *)req;
    struct client *c = w->c;
    struct node *n = c->n;
    uv_mutex_lock(&n->control->lock);
    c->in_flight = 0;
    if (status)
        c->gone = true;
    uv_mutex_unlock(&n->control->lock);
    mem_free(w->bytes);
    mem_free(w);
    if (!c->closing) {
        client_pump(c);
        node_wake(n); /* a slow client may take topics again; a stopping node looks whether all is out */
    }
}

/* Hands what is queued to libuv, one write at a time. Loop thread. */
static void client_pump(struct client *c) {
    struct control *ct = c->n->control;
    uv_mutex_lock(&ct->lock);
    bool gone = c->gone;
    struct write *w = NULL;
    size_t len = 0;
    if (!gone && !c->in_flight && c->out.len && (w = mem_alloc(sizeof *w))) {
        w->c = c;
        w->bytes = buf_take(&c->out, &len);
        c->in_flight = len;
    }
    uv_mutex_unlock(&ct->lock);
    if (gone) {
        client_close(c);
    } else if (w) {
        uv_buf_t b = uv_buf_init((char *)w->bytes, (unsigned)len);
        if (uv_write(&w->req, (uv_stream_t *)&c->pipe, &b, 1, on_written)) {
            mem_free(w->bytes);
            mem_free(w);
            client_close(c);
        }
    }
}

static void client_topics(struct client *c, bool state, bool stream) {
    struct control *ct = c->n->control;
    state |= c->behind;
    c->behind = false;
    for (size_t i = 0; i < TOPICS_MAX && topics_name(i); i++) {
        if (!c->subscribed[i] || !(topic_is_stream(topics_name(i)) ? stream : state))
            continue;
        for (;;) {
            uv_mutex_lock(&ct->lock);
            bool full = c->gone || queued(c) >= CONTROL_QUEUE_MAX;
            uv_mutex_unlock(&ct->lock);
            if (full) { /* seen[] stays: it gets a fresh snapshot, or a gap in a stream, when it has caught up */
                c->behind = state;
                return;
            }
            char *text = topics_next(c->n, i, &c->seen[i]);
            if (!text)
                break;
            uv_mutex_lock(&ct->lock);
            enum loam_status s = buf_printf(&c->out, NULL,
                                            "{\"jsonrpc\":\"2.0\",\"method\":\"topic\",\"params\":{\"name\":"
                                            "\"%s\",\"seq\":%llu,\"value\":%s}}\n",
                                            topics_name(i), (unsigned long long)c->seen[i], text);
            if (s)
                c->gone = true;
            uv_mutex_unlock(&ct->lock);
            mem_free(text);
        }
    }
}

void control_flush(struct node *n, bool state, bool stream) {
    struct control *ct = n->control;
    if (!ct)
        return;
    for (struct client *c = ct->clients, *next; c; c = next) {
        next = c->next;
        if (c->closing)
            continue;
        client_topics(c, state, stream);
        client_pump(c);
    }
}

/* ---- calls
 * ---------------------------------------------------------------------------------------------------------
 */

static void call_free(struct control_call *call) {
    json_decref(call->id);
    json_decref(call->params);
    if (call->value) {
        mem_wipe(call->value, strlen(call->value));
        mem_free(call->value);
    }
    mem_free(call);
}

bool control_call_readonly(struct control_call *c) {
    return c->client && c->client->readonly;
}

const json_t *control_call_params(struct control_call *call) {
    return call->params;
}

void control_call_out(struct control_call *call, int stream, const char *text, size_t len) {
    struct control *ct = call->control;
    uv_mutex_lock(&ct->lock);
    struct client *c = call->client;
    bool skip = call->detached || c->gone;
    if (!skip) {
        if (c->dropped && queued(c) < CONTROL_QUEUE_MAX / 2) {
            c->dropped = false;
            send_locked(
                c,
                notification("out", json_pack("{s:O s:s s:s}", "call", call->id, "stream", "stderr", "text",
                                              "[output was dropped: this client read too slowly]\n")),
                false);
        }
        send_locked(c,
                    notification("out", json_pack("{s:O s:s s:s%}", "call", call->id, "stream",
                                                  stream == 1 ? "stdout" : "stderr", "text", text, len)),
                    true);
    }
    uv_mutex_unlock(&ct->lock);
    if (!skip)
        node_wake(ct->n);
}

void control_call_started(struct control_call *call, uint64_t job, bool goes_on) {
    uv_mutex_lock(&call->control->lock);
    if (!call->detached)
        send_locked(call->client,
                    notification("started", json_pack("{s:O s:I s:b}", "call", call->id, "job",
                                                      (json_int_t)job, "long", goes_on)),
                    false);
    uv_mutex_unlock(&call->control->lock);
    node_wake(call->control->n);
}

void control_call_progress(struct control_call *call, uint64_t job, uint64_t done, uint64_t total,
                           json_t *detail) {
    struct control *ct = call->control;
    uv_mutex_lock(&ct->lock);
    bool skip = call->detached || call->client->gone;
    if (!skip) {
        json_t *p = json_pack("{s:O s:I s:I s:I s:O?}", "call", call->id, "job", (json_int_t)job, "done",
                              (json_int_t)done, "total", (json_int_t)total, "detail", detail);
        send_locked(call->client, notification("progress", p), true);
        call->client->dropped = false; /* a lost progress line is no loss */
    }
    uv_mutex_unlock(&ct->lock);
    json_decref(detail);
    if (!skip)
        node_wake(ct->n);
}

bool control_call_gone(struct control_call *call) {
    uv_mutex_lock(&call->control->lock);
    bool g = call->client->gone || call->cancelled;
    uv_mutex_unlock(&call->control->lock);
    return g;
}

void control_call_job(struct control_call *call, uint64_t job, bool goes_on) {
    uv_mutex_lock(&call->control->lock);
    call->job = job;
    call->goes_on = goes_on;
    uv_mutex_unlock(&call->control->lock);
}

void control_call_hold(struct control_call *call) {
    uv_mutex_lock(&call->control->lock);
    call->refs++;
    uv_mutex_unlock(&call->control->lock);
}

void control_call_release(struct control_call *call) {
    struct control *ct = call->control;
    uv_mutex_lock(&ct->lock);
    bool last = --call->refs == 0;
    uv_mutex_unlock(&ct->lock);
    if (last)
        call_free(call);
}

/* Lock held. It may have ended just now: then there is nothing to cancel. */
static void cancel_locked(struct control_call *k) {
    if (k->job) {
        enum loam_status s = job_cancel(k->control->n, k->job, NULL);
        (void)s;
    }
}

enum loam_status control_call_ask(struct control_call *call, char **value, const char *kind, const char *text,
                                  bool (*cancelled)(void *), void *ctx, struct err *err) {
    struct control *ct = call->control;
    const json_t *tty = json_object_get(call->params, "tty");
    if (json_is_false(tty))
        return err_set(err, LOAM_EPERM,
                       "nobody can be asked (\"%s\"): no terminal; see --yes and --password-file", text);
    uv_mutex_lock(&ct->lock);
    enum loam_status s = LOAM_OK;
    if (call->detached || call->client->gone) {
        s = err_set(err, LOAM_EPERM, "nobody can be asked (\"%s\"): the client has left", text);
    } else {
        call->ask_id = ++ct->next_ask;
        call->asking = true;
        call->answered = false;
        send_locked(call->client,
                    notification("ask", json_pack("{s:O s:I s:s s:s}", "call", call->id, "id",
                                                  (json_int_t)call->ask_id, "kind", kind, "text", text)),
                    false);
        node_wake(ct->n);
        while (!call->answered && !call->client->gone && !call->cancelled && !(cancelled && cancelled(ctx)))
            uv_cond_timedwait(&ct->cond, &ct->lock, ASK_POLL_NS);
        call->asking = false;
        if (call->answered && call->value) {
            *value = call->value;
            call->value = NULL;
        } else if (call->client->gone) {
            s = err_set(err, LOAM_EPERM, "nobody answered (\"%s\"): the client has left", text);
        } else {
            s = err_set(err, LOAM_ECANCEL, "refused");
        }
    }
    uv_mutex_unlock(&ct->lock);
    return s;
}

void control_call_detach(struct control_call *call, uint64_t job) {
    struct control *ct = call->control;
    uv_mutex_lock(&ct->lock);
    if (!call->detached) {
        call->detached = true;
        send_locked(call->client,
                    response(call->id, json_pack("{s:I s:s}", "job", (json_int_t)job, "status", "LOAM_OK")),
                    false);
    }
    uv_mutex_unlock(&ct->lock);
    node_wake(ct->n);
}

void control_call_end(struct control_call *call, enum loam_status s, const struct err *err, json_t *result,
                      uint64_t job, long word) {
    struct control *ct = call->control;
    struct node *n = ct->n;
    uv_mutex_lock(&ct->lock);
    for (struct control_call **p = &ct->calls; *p; p = &(*p)->next)
        if (*p == call) {
            *p = call->next;
            break;
        }
    struct client *c = call->client;
    c->calls--;
    if (!call->detached && !c->gone) {
        if (s == LOAM_OK) {
            json_t *r = json_pack("{s:s s:O?}", "status", "LOAM_OK", "result", result);
            if (r && job)
                json_object_set_new(r, "job", json_integer((json_int_t)job));
            send_locked(c, response(call->id, r), false);
        } else {
            send_locked(c, failure(call->id, s, err ? err->text : NULL, word, job), false);
        }
    }
    client_unref_locked(c);
    bool last = --call->refs == 0;
    uv_mutex_unlock(&ct->lock);
    json_decref(result);
    if (last)
        call_free(call);
    node_wake(n);
}

/* ---- requests ---- */

static void reply(struct client *c, json_t *msg) {
    uv_mutex_lock(&c->n->control->lock);
    send_locked(c, msg, false);
    uv_mutex_unlock(&c->n->control->lock);
}

static enum loam_status do_hello(struct client *c, json_t *id, json_t *p, struct err *err) {
    json_int_t protocol = json_integer_value(json_object_get(p, "protocol"));
    const char *version = json_string_value(json_object_get(p, "version"));
    if (protocol != LOAM_PROTOCOL)
        return err_set(err, LOAM_EVERSION,
                       "this node is loam %s (protocol %d), the client %s (protocol %lld): end the node with "
                       "its own `loam stop`, "
                       "or use the client of its version",
                       PACKAGE_VERSION, LOAM_PROTOCOL, version ? version : "unknown", (long long)protocol);
    c->hello = true;
    c->readonly = c->readonly || json_is_true(json_object_get(p, "readonly")); /* not undone by another hello */
    reply(c, response(id, json_pack("{s:i s:s s:I s:s s:b}", "protocol", LOAM_PROTOCOL, "version",
                                    PACKAGE_VERSION, "pid", (json_int_t)getpid(), "dir", c->n->dir,
                                    "started_by_console", c->n->started_by_console)));
    return LOAM_OK;
}

static enum loam_status do_run(struct client *c, json_t *id, json_t *p, struct err *err) {
    struct control *ct = c->n->control;
    if (!c->n->front || node_stopping(c->n))
        return err_set(err, LOAM_ESTATE, "the node is stopping");
    if (!id)
        return err_set(err, LOAM_EINVAL, "command.run needs an id");
    struct control_call *call = mem_zalloc(sizeof *call);
    if (!call)
        return err_set(err, LOAM_ENOMEM, "no memory for a command");
    call->control = ct;
    call->client = c;
    call->refs = 1;
    call->id = json_incref(id);
    call->params = json_incref(p);
    uv_mutex_lock(&ct->lock);
    bool full = c->calls >= CALLS_MAX;
    if (!full) {
        c->calls++;
        c->refs++;
        call->next = ct->calls;
        ct->calls = call;
    }
    uv_mutex_unlock(&ct->lock);
    if (full) {
        call_free(call);
        return err_set(err, LOAM_EBUSY, "this client runs %d commands already", CALLS_MAX);
    }
    c->n->front->run(c->n, call);
    return LOAM_OK;
}

static enum loam_status only_looks(struct err *err) {
    return err_set(err, LOAM_EPERM, "this client said that it only looks (--readonly)");
}

static enum loam_status do_cancel(struct client *c, json_t *id, json_t *p, struct err *err) {
    struct control *ct = c->n->control;
    json_t *which = json_object_get(p, "call"), *job = json_object_get(p, "job");
    if (json_is_integer(job) && c->readonly)
        return only_looks(err);
    if (json_is_integer(job)) {
        enum loam_status s = job_cancel(c->n, (uint64_t)json_integer_value(job), err);
        if (!s)
            reply(c, response(id, NULL));
        return s;
    }
    bool found = false;
    uv_mutex_lock(&ct->lock);
    for (struct control_call *k = ct->calls; k; k = k->next)
        if (k->client == c && json_equal(k->id, which)) {
            found = true;
            k->cancelled = true;
            cancel_locked(k);
            break;
        }
    uv_cond_broadcast(&ct->cond);
    uv_mutex_unlock(&ct->lock);
    if (!found)
        return err_set(err, LOAM_ENOTFOUND, "no such running call");
    reply(c, response(id, NULL));
    return LOAM_OK;
}

static enum loam_status do_answer(struct client *c, json_t *id, json_t *p, struct err *err) {
    struct control *ct = c->n->control;
    json_int_t ask = json_integer_value(json_object_get(p, "id"));
    const char *value = json_string_value(json_object_get(p, "value"));
    char *copy = value ? mem_strdup(value) : NULL;
    bool found = false;
    uv_mutex_lock(&ct->lock);
    for (struct control_call *k = ct->calls; k; k = k->next)
        if (k->client == c && k->asking && !k->answered && (json_int_t)k->ask_id == ask) {
            found = true;
            k->answered = true;
            k->value = copy;
            copy = NULL;
        }
    uv_cond_broadcast(&ct->cond);
    uv_mutex_unlock(&ct->lock);
    if (copy) {
        mem_wipe(copy, strlen(copy));
        mem_free(copy);
    }
    if (!found)
        return err_set(err, LOAM_ENOTFOUND, "no such open question");
    reply(c, response(id, NULL));
    return LOAM_OK;
}

static enum loam_status do_subscribe(struct client *c, json_t *id, json_t *p, bool on, struct err *err) {
    json_t *list = json_object_get(p, "topics"), *v;
    size_t i;
    json_array_foreach(list, i, v) {
        const char *name = json_string_value(v);
        if (!name || !topic_known(name)) {
            char shown[64];
            return err_set(err, LOAM_ENOTFOUND, "no topic \"%s\"",
                           text_clean_cut(shown, sizeof shown, name ? name : "", name ? strlen(name) : 0));
        }
    }
    json_array_foreach(list, i, v) {
        size_t k = topics_index(json_string_value(v));
        if (on && !c->subscribed[k])
            c->seen[k] = 0;
        c->subscribed[k] = on;
    }
    reply(c, response(id, NULL));
    if (on)
        client_topics(c, true, true);
    return LOAM_OK;
}

static json_t *option_json(struct node *n, const struct option_def *d) {
    static const char *const types[] = {"bool", "uint", "bytes", "real", "coin", "choice", "string"};
    char value[OPTION_TEXT_MAX];
    return json_pack("{s:s s:s s:s s:s s:s s:s s:s s:f s:f s:s? s:b}", "name", d->name, "value",
                     option_str(n->opt, d->name, value), "type", types[d->type], "default", d->def, "source",
                     option_source_name(option_where(n->opt, d->name)), "unit", d->unit, "text", d->text,
                     "min", d->min, "max", d->max, "choices", d->choices, "restart", d->restart);
}

struct option_task {
    struct client *c;
    json_t *id;
    char *name, *value;
};

/* option.set writes a file, so it runs as a job; the answer comes from there. */
static enum loam_status option_task_run(struct job *j, void *arg, struct err *err) {
    struct option_task *t = arg;
    (void)j;
    return node_set_option(t->c->n, t->name, t->value, err);
}

static void option_task_end(struct job *j, void *arg, enum loam_status s, const struct err *err) {
    struct option_task *t = arg;
    struct node *n = t->c->n;
    (void)j;
    json_t *msg = s ? failure(t->id, s, err->text, -1, 0) : response(t->id, NULL);
    uv_mutex_lock(&n->control->lock);
    send_locked(t->c, msg, false);
    client_unref_locked(t->c);
    json_decref(t->id);
    uv_mutex_unlock(&n->control->lock);
    mem_free(t->name);
    mem_free(t->value);
    mem_free(t);
    node_wake(n);
}

static enum loam_status do_option(struct client *c, json_t *id, const char *verb, json_t *p,
                                  struct err *err) {
    struct node *n = c->n;
    const char *name = json_string_value(json_object_get(p, "name"));
    const char *value = json_string_value(json_object_get(p, "value"));
    if (strcmp(verb, "list") == 0) {
        json_t *a = json_array();
        for (size_t i = 0; i < option_count; i++)
            json_array_append_new(a, option_json(n, &option_table[i]));
        reply(c, response(id, a));
        return LOAM_OK;
    }
    const struct option_def *d = name ? option_find(name) : NULL;
    if (!d) {
        char shown[64];
        return err_set(err, LOAM_ENOTFOUND, "no option \"%s\"",
                       text_clean_cut(shown, sizeof shown, name ? name : "", name ? strlen(name) : 0));
    }
    if (strcmp(verb, "get") == 0) {
        reply(c, response(id, option_json(n, d)));
        return LOAM_OK;
    }
    if (c->readonly)
        return only_looks(err);
    if (!value)
        return err_set(err, LOAM_EINVAL, "option.set needs a value (text)");
    struct option_task *t = mem_zalloc(sizeof *t);
    if (!t || !(t->name = mem_strdup(name)) || !(t->value = mem_strdup(value))) {
        if (t)
            mem_free(t->name);
        mem_free(t);
        return err_set(err, LOAM_ENOMEM, "no memory for a request");
    }
    t->c = c;
    t->id = id ? json_incref(id) : NULL;
    uv_mutex_lock(&n->control->lock);
    c->refs++;
    uv_mutex_unlock(&n->control->lock);
    struct job_def def = {.title = "option set", .run = option_task_run, .end = option_task_end, .arg = t};
    uint64_t job;
    enum loam_status s = job_start(n, &job, &def, err);
    if (s) {
        uv_mutex_lock(&n->control->lock);
        client_unref_locked(c);
        uv_mutex_unlock(&n->control->lock);
        json_decref(t->id);
        mem_free(t->name);
        mem_free(t->value);
        mem_free(t);
    }
    return s;
}

static enum loam_status do_complete(struct client *c, json_t *id, json_t *p, struct err *err) {
    const char *line = json_string_value(json_object_get(p, "line"));
    json_t *cursor = json_object_get(p, "cursor");
    if (!line || !c->n->front)
        return err_set(err, LOAM_EINVAL, "command.complete needs a line");
    size_t at = json_is_integer(cursor) && json_integer_value(cursor) >= 0
                    ? (size_t)json_integer_value(cursor)
                    : strlen(line);
    if (at > strlen(line))
        at = strlen(line);
    reply(c,
          response(id, c->n->front->complete(c->n, line, at, json_string_value(json_object_get(p, "cwd")))));
    return LOAM_OK;
}

static enum loam_status dispatch(struct client *c, const char *m, json_t *id, json_t *p, struct err *err) {
    if (strcmp(m, "hello") == 0)
        return do_hello(c, id, p, err);
    if (!c->hello)
        return err_set(err, LOAM_EPROTO, "the first message must be hello");
    if (strcmp(m, "command.run") == 0)
        return do_run(c, id, p, err);
    if (strcmp(m, "command.cancel") == 0)
        return do_cancel(c, id, p, err);
    if (strcmp(m, "command.complete") == 0)
        return do_complete(c, id, p, err);
    if (strcmp(m, "command.table") == 0 && c->n->front) {
        reply(c, response(id, c->n->front->table()));
        return LOAM_OK;
    }
    if (strcmp(m, "answer") == 0)
        return do_answer(c, id, p, err);
    if (strcmp(m, "topic.subscribe") == 0)
        return do_subscribe(c, id, p, true, err);
    if (strcmp(m, "topic.unsubscribe") == 0)
        return do_subscribe(c, id, p, false, err);
    if (strcmp(m, "option.list") == 0 || strcmp(m, "option.get") == 0 || strcmp(m, "option.set") == 0)
        return do_option(c, id, m + 7, p, err);
    if (strcmp(m, "job.list") == 0) {
        reply(c, response(id, job_list(c->n)));
        return LOAM_OK;
    }
    if (strcmp(m, "node.status") == 0) {
        reply(c, response(id, topic_get(c->n, "node")));
        return LOAM_OK;
    }
    if (strcmp(m, "node.stop") == 0 && c->readonly)
        return only_looks(err);
    if (strcmp(m, "node.stop") == 0) {
        reply(c, response(id, NULL));
        node_stop(c->n);
        return LOAM_OK;
    }
    char shown[64];
    return err_set(err, LOAM_EINVAL, "no method \"%s\"", text_clean_cut(shown, sizeof shown, m, strlen(m)));
}

static void on_line(struct client *c, const char *text, size_t len) {
    json_error_t je;
    struct err e = {LOAM_OK, ""};
    json_t *msg = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
    if (!msg || !json_is_object(msg)) {
        reply(c, failure(NULL, LOAM_EPARSE, msg ? "a message must be an object" : je.text, -1, 0));
        json_decref(msg);
        return;
    }
    json_t *id = json_object_get(msg, "id"), *params = json_object_get(msg, "params");
    const char *method = json_string_value(json_object_get(msg, "method"));
    json_t *none = NULL;
    if (!params)
        params = none = json_object();
    enum loam_status s = method && json_is_object(params)
                             ? dispatch(c, method, id, params, &e)
                             : err_set(&e, LOAM_EPROTO, "a message needs a method, and params as an object");
    if (s)
        reply(c, failure(id, s, e.text, -1, 0));
    json_decref(none);
    json_decref(msg);
}

/* ---- clients ---- */

static void on_closed(uv_handle_t *h) {
    struct client *c = h->data;
    struct node *n = c->n;
    struct control *ct = n->control;
    for (struct client **p = &ct->clients; *p; p = &(*p)->next)
        if (*p == c) {
            *p = c->next;
            break;
        }
    uv_mutex_lock(&ct->lock);
    client_unref_locked(c);
    uv_mutex_unlock(&ct->lock);
}

static void client_close(struct client *c) {
    struct control *ct = c->n->control;
    if (c->closing)
        return;
    c->closing = true;
    ct->count--;
    uv_mutex_lock(&ct->lock);
    c->gone = true;
    for (struct control_call *k = ct->calls; k; k = k->next)
        if (k->client == c && !k->detached && !k->goes_on)
            cancel_locked(k);
    uv_cond_broadcast(&ct->cond);
    uv_mutex_unlock(&ct->lock);
    uv_close((uv_handle_t *)&c->pipe, on_closed);
    node_maybe_idle(c->n);
}

static void on_alloc(uv_handle_t *h, size_t want, uv_buf_t *b) {
    struct client *c = h->data;
    (void)want;
    if (buf_reserve(&c->in, 65536, NULL)) {
        *b = uv_buf_init(NULL, 0);
        return;
    }
    *b = uv_buf_init((char *)c->in.data + c->in.len, 65536);
}

static void on_read(uv_stream_t *st, ssize_t got, const uv_buf_t *b) {
    struct client *c = st->data;
    (void)b;
    if (got < 0) {
        if (got == UV_ENOBUFS) {
            log_warn("node", "a client sent a message over %u bytes; it was dropped", CONTROL_LINE_MAX);
            reply(c, failure(NULL, LOAM_ELIMIT, "message too long", -1, 0));
            client_pump(c);
        }
        client_close(c);
        return;
    }
    if (!got)
        return;
    size_t from = c->in.len;
    c->in.len += (size_t)got;
    size_t start = 0;
    for (size_t i = from; i < c->in.len && !c->closing; i++)
        if (c->in.data[i] == '\n') {
            if (i > start)
                on_line(c, (const char *)c->in.data + start, i - start);
            start = i + 1;
        }
    mem_wipe(c->in.data, start); /* answers hold passwords */
    buf_consume(&c->in, start);
    if (!c->closing)
        client_pump(c);
}

static enum loam_status client_start(struct node *n, struct client **out, struct err *err) {
    struct control *ct = n->control;
    struct client *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(err, LOAM_ENOMEM, "no memory for a client");
    c->n = n;
    c->refs = 1;
    buf_init(&c->in, CONTROL_LINE_MAX + 65536);
    buf_init(&c->out, QUEUE_HARD_MAX);
    uv_pipe_init(n->loop, &c->pipe, 0);
    c->pipe.data = c;
    c->next = ct->clients;
    ct->clients = c;
    ct->count++;
    *out = c;
    return LOAM_OK;
}

/* The kernel's word on who connected: only this user (and root) may command the node. */
static bool peer_allowed(uv_pipe_t *pipe) {
    uv_os_fd_t fd;
    struct ucred cred;
    socklen_t len = sizeof cred;
    if (uv_fileno((uv_handle_t *)pipe, &fd) || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
        return false;
    return cred.uid == getuid() || cred.uid == 0;
}

static void on_connection(uv_stream_t *server, int status) {
    struct node *n = server->data;
    struct client *c;
    struct err e;
    if (status || client_start(n, &c, &e))
        return;
    if (uv_accept(server, (uv_stream_t *)&c->pipe) || !peer_allowed(&c->pipe)) {
        log_warn("node", "a connection of another user was refused");
        client_close(c);
        return;
    }
    uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
    if (n->control->count > CONTROL_CLIENTS_MAX) {
        reply(c, failure(NULL, LOAM_EBUSY, "too many clients", -1, 0));
        client_pump(c);
        client_close(c);
        return;
    }
    node_maybe_idle(n);
}

enum loam_status control_adopt(struct node *n, int fd, struct err *err) {
    struct client *c;
    enum loam_status s = client_start(n, &c, err);
    if (s)
        return s;
    int rc = uv_pipe_open(&c->pipe, fd);
    if (rc) {
        client_close(c);
        return err_set(err, LOAM_EIO, "socketpair: %s", uv_strerror(rc));
    }
    uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
    return LOAM_OK;
}

size_t control_watchers(struct node *n, const char *topic) {
    size_t k = topics_index(topic), count = 0;
    for (struct client *c = n->control && k < TOPICS_MAX ? n->control->clients : NULL; c; c = c->next)
        count += c->subscribed[k] && !c->closing;
    return count;
}

size_t control_clients(struct node *n) {
    return n->control ? n->control->count : 0;
}

bool control_drained(struct node *n) {
    bool empty = true;
    uv_mutex_lock(&n->control->lock);
    for (struct client *c = n->control->clients; c; c = c->next)
        empty = empty && (c->closing || c->gone || queued(c) == 0);
    uv_mutex_unlock(&n->control->lock);
    return empty;
}

enum loam_status control_open(struct node *n, struct err *err) {
    struct control *ct = mem_zalloc(sizeof *ct);
    if (!ct)
        return err_set(err, LOAM_ENOMEM, "no memory for the control socket");
    n->control = ct;
    ct->n = n;
    uv_mutex_init(&ct->lock);
    uv_cond_init(&ct->cond);
    enum loam_status s = node_socket_path(&ct->path, n->dir, err);
    if (s)
        return s;
    /* The lock is ours, so a socket that lies there is a dead node's. */
    if (unlink(ct->path) != 0 && errno != ENOENT)
        return err_errno(err, LOAM_EIO, "remove the old socket %s", ct->path);
    uv_pipe_init(n->loop, &ct->listener, 0);
    ct->listener.data = n;
    ct->listening = true;
    int rc = uv_pipe_bind(&ct->listener, ct->path);
    if (!rc && chmod(ct->path, 0600) != 0)
        return err_errno(err, LOAM_EIO, "mode of %s", ct->path);
    if (!rc)
        rc = uv_listen((uv_stream_t *)&ct->listener, 128, on_connection);
    if (rc)
        return err_set(err, rc == UV_EADDRINUSE ? LOAM_EBUSY : LOAM_EIO, "control socket %s: %s", ct->path,
                       uv_strerror(rc));
    return LOAM_OK;
}

void control_end(struct node *n) {
    struct control *ct = n->control;
    if (!ct)
        return;
    if (ct->listening) {
        ct->listening = false;
        unlink(ct->path);
        uv_close((uv_handle_t *)&ct->listener, NULL);
    }
    for (struct client *c = ct->clients; c; c = c->next)
        client_close(c);
}

void control_close(struct node *n) {
    struct control *ct = n->control;
    if (!ct)
        return;
    uv_cond_destroy(&ct->cond);
    uv_mutex_destroy(&ct->lock);
    mem_free(ct->path);
    mem_free(ct);
    n->control = NULL;
}
