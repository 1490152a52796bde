/* engine/node: jobs, scheduler, topics, control socket, lock, paths. A node runs on a thread of the test. */
#include "tests/test.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/cmd.h"
#include "node/job.h"
#include "node/node.h"
#include "node/sched.h"
#include "node/socket.h"
#include "node/topic.h"

#include <ftw.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct err e;

static int remove_one(const char *p, const struct stat *st, int kind, struct FTW *f) {
    (void)st;
    (void)kind;
    (void)f;
    return remove(p);
}

struct fixture {
    char dir[256];
    struct node *n;
    uv_thread_t thread;
    bool running;
    enum loam_status how;
};

static void *main_of(struct fixture *f) {
    f->how = node_run(f->n, NULL);
    return NULL;
}
static void thread_of(void *arg) {
    main_of(arg);
}

static enum loam_status open_node(struct fixture *f, bool commands) {
    struct options *o;
    OK(options_new(&o, &e));
    OK(option_put(o, "api.listen", "", OPTION_ARGUMENT, &e));
    OK(option_put(o, "key.cost", "light", OPTION_ARGUMENT, &e));
    struct node_config cfg = {.dir = f->dir, .opt = o, .inside = true};
    enum loam_status s = node_open(&f->n, &cfg, &e);
    if (s) {
        options_free(o);
        return s;
    }
    if (commands)
        OK(cmd_attach(f->n, &e));
    return LOAM_OK;
}

static void start(struct fixture *f) {
    assert_int_equal(uv_thread_create(&f->thread, thread_of, f), 0);
    f->running = true;
}

static void stop(struct fixture *f) {
    if (f->running) {
        node_stop(f->n);
        uv_thread_join(&f->thread);
        f->running = false;
    }
    node_close(f->n);
    f->n = NULL;
}

static int set_up(void **state) {
    struct fixture *f = mem_zalloc(sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/loam-node-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    log_to_nowhere();
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    if (f->n)
        stop(f);
    nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    mem_free(f);
    return 0;
}

/* ---- jobs
 * ----------------------------------------------------------------------------------------------------------
 */

struct work {
    atomic_int steps;
    atomic_bool go;
    enum loam_status end;
    atomic_int ended;
};

static enum loam_status step_until_go(struct job *j, void *arg, struct err *err) {
    struct work *w = arg;
    while (!atomic_load(&w->go)) {
        enum loam_status s = job_sleep_ms(j, 2, err);
        if (s)
            return s;
        atomic_fetch_add(&w->steps, 1);
        job_progress(j, (uint64_t)atomic_load(&w->steps), 0, NULL);
    }
    return w->end ? err_set(err, w->end, "as told") : LOAM_OK;
}

static void count_end(struct job *j, void *arg, enum loam_status s, const struct err *err) {
    struct work *w = arg;
    (void)j;
    (void)s;
    (void)err;
    atomic_fetch_add(&w->ended, 1);
}

static void until(atomic_int *v, int least) {
    for (int i = 0; i < 5000 && atomic_load(v) < least; i++)
        uv_sleep(1);
    assert_true(atomic_load(v) >= least);
}

static void test_jobs(void **state) {
    struct fixture *f = *state;
    OK(open_node(f, false));
    start(f);
    struct work w = {0};
    uint64_t id, id2;
    enum loam_status how;
    struct job_def def = {.title = "work", .listed = true, .run = step_until_go, .end = count_end, .arg = &w};
    OK(job_start(f->n, &id, &def, &e));
    until(&w.steps, 3);
    OK(job_pause(f->n, id, &e));
    json_t *o = NULL;
    for (int i = 0; i < 2000; i++) {
        o = job_show(f->n, id);
        if (strcmp(json_string_value(json_object_get(o, "state")), "paused") == 0)
            break;
        json_decref(o);
        o = NULL;
        uv_sleep(1);
    }
    assert_non_null(o);
    json_decref(o);
    int at = atomic_load(&w.steps);
    uv_sleep(20);
    assert_int_equal(atomic_load(&w.steps), at);
    assert_int_equal(job_running(f->n), 1);
    OK(job_resume(f->n, id, &e));
    until(&w.steps, at + 2);
    FAILS(LOAM_ETIMEOUT, job_wait_ms(f->n, id, 5, &how, &e));
    OK(job_cancel(f->n, id, &e));
    OK(job_wait(f->n, id, &how, &e));
    assert_int_equal(how, LOAM_ECANCEL);
    FAILS(LOAM_ESTATE, job_cancel(f->n, id, &e));
    FAILS(LOAM_ENOTFOUND, job_cancel(f->n, 999, &e));
    until(&w.ended, 1);
    w.go = true;
    w.end = LOAM_EIO;
    OK(job_start(f->n, &id2, &def, &e));
    assert_true(id2 > id);
    OK(job_wait(f->n, id2, &how, &e));
    assert_int_equal(how, LOAM_EIO);
    json_t *list = job_list(f->n);
    assert_int_equal(json_array_size(list), 2);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "id")), id2);
    json_decref(list);
    until(&w.ended, 2);
}

static void test_durable(void **state) {
    struct fixture *f = *state;
    struct work w = {0};
    uint64_t id;
    OK(open_node(f, false));
    start(f);
    json_t *record = json_pack("{s:s}", "what", "kept");
    struct job_def def = {.title = "work",
                          .durable = true,
                          .record = record,
                          .run = step_until_go,
                          .end = count_end,
                          .arg = &w};
    OK(job_start(f->n, &id, &def, &e));
    until(&w.steps, 1);
    stop(f); /* the node stops: the job's record stays "running" */
    assert_int_equal(atomic_load(&w.ended), 1);
    OK(open_node(f, false));
    json_t *left = job_unfinished(f->n);
    assert_int_equal(json_array_size(left), 1);
    json_t *o = json_array_get(left, 0);
    assert_int_equal(json_integer_value(json_object_get(o, "id")), id);
    assert_string_equal(json_string_value(json_object_get(json_object_get(o, "record"), "what")), "kept");
    char flow[128];
    snprintf(flow, sizeof flow, "%s", json_string_value(json_object_get(o, "flow")));
    json_decref(left);
    start(f);
    uint64_t again;
    struct job_def next = def;
    next.id = id;
    next.flow = flow;
    w.go = true;
    OK(job_start(f->n, &again, &next, &e));
    assert_int_equal(again, id);
    enum loam_status how;
    OK(job_wait(f->n, id, &how, &e));
    assert_int_equal(how, LOAM_OK);
    stop(f);
    OK(open_node(f, false)); /* done: nothing is left */
    left = job_unfinished(f->n);
    assert_int_equal(json_array_size(left), 0);
    json_decref(left);
    json_decref(record);
    start(f);
    OK(job_start(f->n, &again,
                 &(struct job_def){.title = "next", .listed = true, .run = step_until_go, .arg = &w}, &e));
    assert_true(again > id); /* numbers are never used twice */
    OK(job_wait(f->n, again, &how, &e));
}

/* ---- scheduler ---- */

struct turn {
    struct sched *s;
    enum sched_class c;
    atomic_int *order;
    int got;
};

static void take_turn(void *arg) {
    struct turn *t = arg;
    assert_int_equal(sched_enter(t->s, t->c, NULL, NULL), LOAM_OK);
    t->got = atomic_fetch_add(t->order, 1);
    sched_leave(t->s);
}

static void wait_for_waiting(struct sched *s, enum sched_class c, unsigned n) {
    double sec[SCHED_CLASSES];
    unsigned w[SCHED_CLASSES];
    for (int i = 0; i < 5000; i++) {
        sched_stats(s, sec, w);
        if (w[c] >= n)
            return;
        uv_sleep(1);
    }
    fail_msg("nobody waits");
}

static void test_sched(void **state) {
    (void)state;
    struct sched *s;
    atomic_int order = 0;
    OK(sched_new(&s, &e));
    OK(sched_enter(s, SCHED_TRAIN, NULL, &e));
    assert_false(sched_wanted(s));
    struct turn t[4] = {{s, SCHED_TRAIN, &order, -1},
                        {s, SCHED_VALIDATE, &order, -1},
                        {s, SCHED_ASK, &order, -1},
                        {s, SCHED_ASK, &order, -1}};
    uv_thread_t th[4];
    unsigned waiting[SCHED_CLASSES] = {0};
    for (int i = 0; i < 4; i++) {
        uv_thread_create(&th[i], take_turn, &t[i]);
        wait_for_waiting(s, t[i].c, ++waiting[t[i].c]);
    }
    assert_true(sched_wanted(s));
    OK(sched_yield_turn(
        s, NULL, &e)); /* ask, ask, validate go first; the training that waits is no higher, but earlier */
    sched_leave(s);
    for (int i = 0; i < 4; i++)
        uv_thread_join(&th[i]);
    assert_int_equal(t[2].got, 0);
    assert_int_equal(t[3].got, 1);
    assert_int_equal(t[1].got, 2);
    assert_int_equal(t[0].got, 3);
    sched_free(s);
}

/* ---- a client ---- */

struct peer {
    int fd;
    struct buf in;
};

static void peer_open(struct peer *p, struct fixture *f) {
    char *path;
    OK(node_socket_path(&path, f->dir, &e));
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    mem_free(path);
    p->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    buf_init(&p->in, 64u << 20);
    assert_int_equal(connect(p->fd, (struct sockaddr *)&a, sizeof a), 0);
}
static void peer_close(struct peer *p) {
    close(p->fd);
    buf_clear(&p->in);
}
static void say(struct peer *p, const char *text) {
    size_t n = strlen(text);
    assert_int_equal(send(p->fd, text, n, MSG_NOSIGNAL), n);
    assert_int_equal(send(p->fd, "\n", 1, MSG_NOSIGNAL), 1);
}
/* NULL: the node closed. */
static json_t *hear(struct peer *p) {
    for (;;) {
        uint8_t *nl = p->in.len ? memchr(p->in.data, '\n', p->in.len) : NULL;
        if (nl) {
            size_t n = (size_t)(nl - p->in.data);
            json_t *o = json_loadb((char *)p->in.data, n, 0, NULL);
            assert_non_null(o);
            buf_consume(&p->in, n + 1);
            return o;
        }
        OK(buf_reserve(&p->in, 65536, &e));
        ssize_t r = recv(p->fd, p->in.data + p->in.len, 65536, 0);
        if (r <= 0)
            return NULL;
        p->in.len += (size_t)r;
    }
}
/* The response to id; notifications before it are dropped, except that *note (if not NULL) gets the last one
 * of method. */
static json_t *response(struct peer *p, int id, const char *method, json_t **note) {
    for (;;) {
        json_t *o = hear(p);
        assert_non_null(o);
        const char *m = json_string_value(json_object_get(o, "method"));
        if (m && note && strcmp(m, method) == 0) {
            json_decref(*note);
            *note = json_incref(json_object_get(o, "params"));
        }
        if (!m && json_integer_value(json_object_get(o, "id")) == id)
            return o;
        json_decref(o);
    }
}
static int code(const json_t *o) {
    return (int)json_integer_value(json_object_get(json_object_get(o, "error"), "code"));
}
static void hello(struct peer *p) {
    say(p, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\",\"params\":{\"protocol\":1,\"version\":\"t\","
           "\"client\":\"test\"}}");
    json_t *o = response(p, 1, NULL, NULL);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "result"), "pid")), getpid());
    json_decref(o);
}

static void test_protocol(void **state) {
    struct fixture *f = *state;
    OK(open_node(f, true));
    start(f);
    struct peer p;
    json_t *o;
    /* nothing before hello; another version is named */
    peer_open(&p, f);
    say(&p, "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"job.list\"}");
    o = response(&p, 5, NULL, NULL);
    assert_int_equal(code(o), status_rpc(LOAM_EPROTO));
    json_decref(o);
    say(&p, "{\"jsonrpc\":\"2.0\",\"id\":6,\"method\":\"hello\",\"params\":{\"protocol\":99,\"version\":\"9."
            "9\"}}");
    o = response(&p, 6, NULL, NULL);
    assert_int_equal(code(o), status_rpc(LOAM_EVERSION));
    assert_non_null(
        strstr(json_string_value(json_object_get(json_object_get(o, "error"), "message")), "9.9"));
    json_decref(o);
    hello(&p);
    /* a command: output, then the answer */
    json_t *out = NULL;
    say(&p, "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"command.run\",\"params\":{\"line\":\"version\"}}");
    o = response(&p, 7, "out", &out);
    assert_non_null(strstr(json_string_value(json_object_get(out, "text")), PACKAGE_VERSION));
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(json_object_get(o, "result"), "result"), "loam")),
        PACKAGE_VERSION);
    json_decref(out);
    json_decref(o);
    /* the word at fault */
    say(&p, "{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"command.run\",\"params\":{\"argv\":[\"job\",\"show\","
            "\"x\"]}}");
    o = response(&p, 8, NULL, NULL);
    assert_int_equal(code(o), status_rpc(LOAM_EINVAL));
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(json_object_get(o, "error"), "data"), "word")), 2);
    json_decref(o);
    /* a question, refused; then answered */
    json_t *ask = NULL;
    say(&p, "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"command.run\",\"params\":{\"line\":\"key new "
            "alice\",\"tty\":false}}");
    o = response(&p, 9, NULL, NULL);
    assert_int_equal(code(o), status_rpc(LOAM_EPERM));
    json_decref(o);
    say(&p,
        "{\"jsonrpc\":\"2.0\",\"id\":10,\"method\":\"command.run\",\"params\":{\"line\":\"key new alice\"}}");
    for (int i = 0; i < 2; i++) {
        do {
            json_decref(ask);
            ask = hear(&p);
        } while (strcmp(json_string_value(json_object_get(ask, "method"))
                            ? json_string_value(json_object_get(ask, "method"))
                            : "",
                        "ask") != 0);
        assert_string_equal(json_string_value(json_object_get(json_object_get(ask, "params"), "kind")),
                            "secret");
        char text[200];
        snprintf(
            text, sizeof text,
            "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"answer\",\"params\":{\"id\":%lld,\"value\":\"pw\"}}",
            20 + i, (long long)json_integer_value(json_object_get(json_object_get(ask, "params"), "id")));
        say(&p, text);
    }
    json_decref(ask);
    o = response(&p, 10, NULL, NULL);
    assert_null(json_object_get(o, "error"));
    json_decref(o);
    /* what is no message */
    static const char *const bad[] = {
        "{",
        "[]",
        "\"x\"",
        "{\"id\":3}",
        "{\"id\":3,\"method\":\"nothing\"}",
        "{\"id\":3,\"method\":\"topic.subscribe\",\"params\":{\"topics\":[\"x\"]}}",
        "{\"id\":3,\"method\":\"command.run\",\"params\":{}}",
        "{\"id\":3,\"method\":\"answer\",\"params\":{\"id\":77}}",
        "{\"id\":3,\"method\":\"command.cancel\",\"params\":{\"call\":44}}",
        "{\"id\":3,\"method\":\"option.set\",\"params\":{\"name\":\"x\"}}",
        "{\"id\":3,\"method\":7}",
        "{\"id\":3,\"method\":\"hello\",\"params\":[]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        say(&p, bad[i]);
        do
            o = hear(&p);
        while (o && json_object_get(o, "method") && (json_decref(o), 1));
        assert_non_null(o);
        assert_non_null(json_object_get(o, "error"));
        json_decref(o);
    }
    say(&p, "{\"jsonrpc\":\"2.0\",\"id\":30,\"method\":\"option.set\",\"params\":{\"name\":\"log.level\","
            "\"value\":\"error\"}}");
    o = response(&p, 30, NULL, NULL);
    assert_null(json_object_get(o, "error"));
    json_decref(o);
    say(&p, "{\"jsonrpc\":\"2.0\",\"id\":31,\"method\":\"command.complete\",\"params\":{\"line\":\"key "
            "ne\",\"cursor\":6}}");
    o = response(&p, 31, NULL, NULL);
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(json_object_get(o, "result"), 0), "text")), "new");
    json_decref(o);
    peer_close(&p);
}

static void test_too_long(void **state) {
    struct fixture *f = *state;
    OK(open_node(f, true));
    start(f);
    struct peer p;
    peer_open(&p, f);
    hello(&p);
    char *big = mem_alloc(1u << 20);
    memset(big, 'x', 1u << 20);
    for (int i = 0; i < 6; i++)
        if (send(p.fd, big, 1u << 20, MSG_NOSIGNAL) <= 0)
            break;
    mem_free(big);
    json_t *o = hear(&p);
    if (o) /* the refusal may be lost with the connection */
        assert_int_equal(code(o), status_rpc(LOAM_ELIMIT));
    json_decref(o);
    assert_null(hear(&p));
    peer_close(&p);
    peer_open(&p, f); /* the node is up */
    hello(&p);
    peer_close(&p);
}

static void test_topics(void **state) {
    struct fixture *f = *state;
    OK(open_node(f, true));
    start(f);
    struct peer p;
    topic_set(f->n, "train", json_pack("{s:i}", "step", 1));
    peer_open(&p, f);
    hello(&p);
    say(&p, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"topic.subscribe\",\"params\":{\"topics\":[\"train\","
            "\"ask\"]}}");
    json_t *t = NULL, *o;
    for (;;) { /* the snapshot */
        o = hear(&p);
        t = json_object_get(o, "params");
        if (json_object_get(o, "method"))
            break;
        json_decref(o);
    }
    assert_string_equal(json_string_value(json_object_get(t, "name")), "train");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(t, "value"), "step")), 1);
    json_decref(o);
    for (int i = 2; i <= 1000; i++)
        topic_set(f->n, "train", json_pack("{s:i}", "step", i));
    int seen = 0, last = 0;
    while (last != 1000) { /* the newest arrives; those in between may not */
        o = hear(&p);
        last = (int)json_integer_value(
            json_object_get(json_object_get(json_object_get(o, "params"), "value"), "step"));
        seen++;
        json_decref(o);
    }
    assert_true(seen < 100);
    for (int i = 0; i < 10; i++)
        topic_emit(f->n, "ask", json_pack("{s:i}", "n", i));
    for (int i = 0; i < 10; i++) { /* streams lose nothing */
        o = hear(&p);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "params"), "seq")), i + 1);
        json_decref(o);
    }
    peer_close(&p);
}

/* A client that reads nothing while much is said: the node goes on, the client gets a snapshot later, with a
 * gap. */
static void test_slow(void **state) {
    struct fixture *f = *state;
    OK(open_node(f, true));
    start(f);
    struct peer slow, quick;
    peer_open(&slow, f);
    peer_open(&quick, f);
    hello(&slow);
    hello(&quick);
    say(&slow, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"topic.subscribe\",\"params\":{\"topics\":[\"log\","
               "\"train\"]}}");
    json_decref(response(&slow, 2, NULL, NULL));
    say(&quick, "{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"topic.subscribe\",\"params\":{\"topics\":[\"train\"]}}");
    json_decref(response(&quick, 4, NULL, NULL));
    char *text = mem_zalloc(20001);
    memset(text, 'y', 20000);
    json_int_t last = 0;
    /* Again and again: in the first rounds the node's memory grows, which is a state of its own and brings the others along. */
    for (int step = 7; step < 11; step++) {
        for (int i = 0; i < 1000; i++) { /* 20 MB */
            topic_emit(f->n, "log", json_pack("{s:s s:i}", "text", text, "n", i));
            if (i % 50 == 0) {
                say(&quick, "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"node.status\"}");
                json_decref(response(&quick, 3, NULL, NULL));
            }
        }
        /* Said while the slow one takes nothing: the quick one has heard it, so the slow one was passed over. It gets it all the same. */
        topic_set(f->n, "train", json_pack("{s:i}", "step", step));
        json_t *told = hear(&quick);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(json_object_get(told, "params"), "value"), "step")), step);
        json_decref(told);
        json_int_t gaps = 0;
        bool newest = false;
        while (!newest || !gaps) { /* in either order */
            json_t *o = hear(&slow), *p = json_object_get(o, "params");
            assert_non_null(o);
            if (strcmp(json_string_value(json_object_get(p, "name")), "log") == 0) {
                json_int_t seq = json_integer_value(json_object_get(p, "seq"));
                gaps += seq != last + 1;
                last = seq;
            } else {
                newest = json_integer_value(json_object_get(json_object_get(p, "value"), "step")) == step;
            }
            json_decref(o);
        }
    }
    mem_free(text);
    peer_close(&slow);
    peer_close(&quick);
}

/* ---- folders ---- */

static void test_two_nodes(void **state) {
    struct fixture *f = *state, other = {0};
    OK(open_node(f, false));
    snprintf(other.dir, sizeof other.dir, "%s", f->dir);
    FAILS(LOAM_EBUSY, open_node(&other, false));
    char pid[32];
    snprintf(pid, sizeof pid, "pid %ld", (long)getpid());
    assert_non_null(strstr(e.text, pid));
    assert_non_null(strstr(e.text, PACKAGE_VERSION));
    struct stat st;
    assert_int_equal(stat(f->dir, &st), 0);
    char sock[300];
    snprintf(sock, sizeof sock, "%s/node.sock", f->dir);
    assert_int_equal(stat(sock, &st), 0); /* the first one's socket stands */
    assert_int_equal(st.st_mode & 0777, 0600);
    stop(f);
    assert_int_not_equal(stat(sock, &st), 0);
    OK(open_node(f, false)); /* free again */
}

static void test_long_path(void **state) {
    struct fixture *f = *state;
    char root[256];
    snprintf(root, sizeof root, "%s", f->dir);
    int n = snprintf(f->dir, sizeof f->dir, "%s/%s/%s", root,
                     "a-folder-with-quite-a-long-name-so-that-the-address-of-a-socket-cannot-hold-it",
                     "and-another-one-below-it");
    assert_true(n < (int)sizeof f->dir);
    OK(file_mkdirs(f->dir, &e));
    OK(open_node(f, true));
    start(f);
    struct peer p;
    peer_open(&p, f);
    hello(&p);
    peer_close(&p);
    stop(f);
    snprintf(f->dir, sizeof f->dir, "%s", root);
}

static void test_bad_config(void **state) {
    struct fixture *f = *state;
    char path[300];
    snprintf(path, sizeof path, "%s/config", f->dir);
    OK(file_write(path, "log.level = loud\n", 17, 0600, &e));
    FAILS(LOAM_EINVAL, open_node(f, false));
    assert_non_null(strstr(e.text, "config:1"));
    OK(file_write(path, "log.level = warn\n", 17, 0600, &e));
    OK(open_node(f, false));
}

/* Each allocation of opening fails in turn: an error, no crash, nothing left locked. */
static void test_no_memory(void **state) {
    struct fixture *f = *state;
    int failures = 0;
    for (long i = 1; i < 4000; i++) {
        struct options *o;
        OK(options_new(&o, &e));
        struct node_config cfg = {.dir = f->dir, .opt = o, .inside = true};
        mem_fail_after(i);
        enum loam_status s = node_open(&f->n, &cfg, &e);
        mem_fail_after(0);
        if (s == LOAM_OK) {
            node_close(f->n);
            f->n = NULL;
            /* some allocations are not needed to open (a topic's text): go on until 20 in a row went well */
            if (++failures > 20)
                return;
            continue;
        }
        failures = 0;
        f->n = NULL;
        options_free(o);
    }
    fail_msg("opening never succeeded");
}

/* Allocations fail while commands run: an error or a lost client, never a lost node. */
static void test_commands_without_memory(void **state) {
    struct fixture *f = *state;
    static const char *const lines[] = {"option list", "key list", "job list", "node status",
                                        "help",        "doctor",   "disk",     "chain status"};
    OK(open_node(f, true));
    start(f);
    for (long i = 1; i < 400; i++) {
        struct peer p;
        char text[200];
        peer_open(&p, f);
        hello(&p);
        snprintf(text, sizeof text,
                 "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"command.run\",\"params\":{\"line\":\"%s\"}}\n",
                 lines[i % (long)(sizeof lines / sizeof *lines)]);
        mem_fail_after(i);
        assert_int_equal(send(p.fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
        uv_sleep(3);
        mem_fail_after(0);
        peer_close(&p);
    }
    struct peer p;
    peer_open(&p, f);
    hello(&p);
    say(&p, "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"command.run\",\"params\":{\"line\":\"version\"}}");
    json_t *o = response(&p, 3, NULL, NULL);
    assert_null(json_object_get(o, "error"));
    json_decref(o);
    peer_close(&p);
}

int main(void) {
    json_set_alloc_funcs(mem_alloc, mem_free);
    const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
        T(test_jobs),      T(test_durable),    T(test_sched),     T(test_protocol),
        T(test_too_long),  T(test_topics),     T(test_slow),      T(test_two_nodes),
        T(test_long_path), T(test_bad_config), T(test_no_memory), T(test_commands_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
