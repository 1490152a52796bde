#include "tui/conn.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "node/protocol.h"

#include <string.h>
#include <uv.h>

#include "base/banned.h"

struct conn {
    uv_pipe_t pipe;
    uv_connect_t connect;
    struct conn_events ev;
    struct buf in;  /* bytes of a line that is not whole yet */
    size_t scanned; /* of in: no newline before here */
    uint64_t next_id;
    size_t queued;
    bool up, ended, closing;
    struct {
        uint64_t id;
        conn_answer *answer;
        void *arg;
    } call[CONN_CALLS_MAX];
    int calls;
    void (*done)(void *arg);
    void *done_arg;
};

struct send {
    uv_write_t req;
    struct conn *c;
    size_t n;
    char *text;
};

static void end(struct conn *c, enum loam_status why, const char *text) {
    if (c->ended || c->closing)
        return;
    c->ended = true;
    c->up = false;
    uv_read_stop((uv_stream_t *)&c->pipe);
    int n = c->calls;
    c->calls = 0;
    for (int i = 0; i < n; i++)
        if (c->call[i].answer)
            c->call[i].answer(c->call[i].arg, c->call[i].id, NULL, NULL);
    if (!c->closing)
        c->ev.down(c->ev.arg, why, text);
}

static void message(struct conn *c, const char *s, size_t n) {
    json_t *m = json_loadb(s, n, JSON_REJECT_DUPLICATES, NULL);
    if (!m || !json_is_object(m)) {
        json_decref(m);
        end(c, LOAM_EPROTO, "the node sent what is no JSON-RPC message");
        return;
    }
    const char *method = json_string_value(json_object_get(m, "method"));
    json_t *id = json_object_get(m, "id");
    if (method && !id) {
        c->ev.notify(c->ev.arg, method, json_object_get(m, "params"));
    } else if (json_is_integer(id)) {
        uint64_t want = (uint64_t)json_integer_value(id);
        for (int i = 0; i < c->calls; i++)
            if (c->call[i].id == want) {
                conn_answer *f = c->call[i].answer;
                void *arg = c->call[i].arg;
                c->call[i] = c->call[--c->calls];
                const json_t *e = json_object_get(m, "error"), *r = json_object_get(m, "result");
                if (f)
                    f(arg, want, e ? NULL : r ? r : m, e);
                break;
            }
    }
    json_decref(m);
}

static void on_alloc(uv_handle_t *h, size_t want, uv_buf_t *out) {
    static char b[65536]; /* one read at a time, used before the next one */
    (void)h;
    (void)want;
    *out = uv_buf_init(b, sizeof b);
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *b) {
    struct conn *c = h->data;
    if (n == 0 || c->ended || c->closing)
        return;
    if (n < 0) {
        end(c, LOAM_ENET, "the node is gone");
        return;
    }
    enum loam_status s = buf_add(&c->in, b->base, (size_t)n, NULL);
    if (s) {
        end(c, s, s == LOAM_ELIMIT ? "the node sent a message larger than the protocol allows" : "no memory for a message");
        return;
    }
    size_t done = 0;
    for (;;) {
        uint8_t *nl = memchr(c->in.data + c->scanned, '\n', c->in.len - c->scanned);
        if (!nl) {
            c->scanned = c->in.len;
            break;
        }
        size_t at = (size_t)(nl - c->in.data);
        if (at > done)
            message(c, (char *)c->in.data + done, at - done);
        if (c->ended || c->closing)
            return;
        done = c->scanned = at + 1;
    }
    buf_consume(&c->in, done);
    c->scanned -= done;
    if (!c->in.len && c->in.cap > 65536) /* a large snapshot passed: give its memory back */
        buf_clear(&c->in), buf_init(&c->in, CONTROL_LINE_MAX);
}

static void started(struct conn *c) {
    c->up = true;
    if (uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read)) {
        end(c, LOAM_ENET, "the node's socket cannot be read");
        return;
    }
    c->ev.up(c->ev.arg);
}

static void on_connect(uv_connect_t *r, int status) {
    struct conn *c = r->data;
    if (c->closing)
        return;
    if (status < 0)
        end(c, LOAM_ENET, uv_strerror(status));
    else
        started(c);
}

static void on_closed(uv_handle_t *h) {
    struct conn *c = h->data;
    void (*done)(void *) = c->done;
    void *arg = c->done_arg;
    buf_clear(&c->in);
    mem_free(c);
    if (done)
        done(arg);
}

enum loam_status conn_open(struct conn **out, struct uv_loop_s *loop, const char *path, int fd,
                           const struct conn_events *ev, struct err *err) {
    struct conn *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(err, LOAM_ENOMEM, "connection");
    c->ev = *ev;
    buf_init(&c->in, CONTROL_LINE_MAX);
    c->connect.data = c;
    if (uv_pipe_init(loop, &c->pipe, 0)) {
        mem_free(c);
        return err_set(err, LOAM_ENOMEM, "connection");
    }
    c->pipe.data = c;
    if (fd >= 0) {
        int r = uv_pipe_open(&c->pipe, fd);
        if (r) {
            uv_close((uv_handle_t *)&c->pipe, on_closed);
            return err_set(err, LOAM_ENET, "socketpair: %s", uv_strerror(r));
        }
        *out = c;
        started(c);
        return LOAM_OK;
    }
    *out = c;
    uv_pipe_connect(&c->connect, &c->pipe, path, on_connect);
    return LOAM_OK;
}

static void on_sent(uv_write_t *r, int status) {
    struct send *s = (struct send *)r;
    s->c->queued -= s->n;
    if (status < 0 && status != UV_ECANCELED)
        end(s->c, LOAM_ENET, "the node is gone");
    mem_wipe(s->text, s->n); /* answers to secret questions pass here */
    mem_free(s->text);
    mem_free(s);
}

uint64_t conn_call(struct conn *c, const char *method, json_t *params, conn_answer *answer, void *arg) {
    uint64_t id = c->next_id + 1;
    json_t *m = json_pack("{s:s, s:I, s:s, s:o}", "jsonrpc", "2.0", "id", (json_int_t)id, "method", method, "params",
                          params ? params : json_object());
    char *text = m && c->up && c->calls < CONN_CALLS_MAX ? json_dumps(m, JSON_COMPACT) : NULL;
    json_decref(m);
    size_t n = text ? strlen(text) : 0;
    struct send *s = text && n < CONTROL_LINE_MAX && c->queued + n < CONN_SEND_MAX ? mem_zalloc(sizeof *s) : NULL;
    char *line = s ? mem_alloc(n + 1) : NULL;
    if (line) {
        memcpy(line, text, n);
        line[n] = '\n';
    }
    if (text) {
        mem_wipe(text, n);
        void (*release)(void *);
        json_get_alloc_funcs(NULL, &release);
        release(text);
    }
    if (!line) {
        mem_free(s);
        return 0;
    }
    s->c = c;
    s->n = n + 1;
    s->text = line;
    c->queued += s->n;
    c->next_id = id;
    c->call[c->calls].id = id;
    c->call[c->calls].answer = answer;
    c->call[c->calls++].arg = arg;
    uv_buf_t b = uv_buf_init(line, (unsigned)s->n);
    if (uv_write(&s->req, (uv_stream_t *)&c->pipe, &b, 1, on_sent)) {
        c->calls--;
        c->queued -= s->n;
        mem_free(line);
        mem_free(s);
        return 0;
    }
    return id;
}

bool conn_is_up(const struct conn *c) {
    return c && c->up;
}

void conn_close(struct conn *c, void (*done)(void *arg), void *arg) {
    if (c->closing)
        return;
    c->closing = true;
    c->up = false;
    c->done = done;
    c->done_arg = arg;
    uv_close((uv_handle_t *)&c->pipe, on_closed);
}
