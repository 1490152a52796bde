#include "node/node.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/keccak.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/api.h"
#include "node/chain.h"
#include "node/job.h"
#include "node/keys.h"
#include "node/outbox.h"
#include "node/private.h"
#include "node/sched.h"
#include "node/socket.h"
#include "node/topic.h"
#include "store/blob.h"
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/banned.h"

#define FIRST_CLIENT_MS 5000 /* who started the node gets this long to connect */
#define STOP_LIMIT_MS                                                                                        \
    20000 /* a job that ignores its cancel flag for so long is left behind (systemd would kill us at 90 s)   \
           */

/* ---- paths
 * ---------------------------------------------------------------------------------------------------------
 */

enum loam_status node_default_dir(char **out, struct err *err) {
    const char *own = getenv("LOAM_DATA"), *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    if (own && *own)
        *out = mem_strdup(own);
    else if (xdg && *xdg == '/') /* a relative one is to be ignored: XDG base directory specification 0.8 */
        *out = mem_printf("%s/loam", xdg);
    else if (home && *home)
        *out = mem_printf("%s/.local/share/loam", home);
    else
        return err_set(err, LOAM_EINVAL, "no data folder: HOME is not set; name one with --data");
    return *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for a path");
}

char *node_path(struct node *n, const char *a) {
    return mem_printf("%s/%s", n->dir, a);
}

/* Absolute, without trailing slashes; the folder must exist. */
static enum loam_status absolute(char **out, const char *dir, struct err *err) {
    char *real = realpath(dir, NULL);
    if (!real)
        return err_errno(err, LOAM_EIO, "data folder %s", dir);
    *out = mem_strdup(real);
    free(real);
    return *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for a path");
}

enum loam_status node_socket_path(char **out, const char *dir, struct err *err) {
    char *abs;
    enum loam_status s = absolute(&abs, dir, err);
    if (s)
        return s;
    char *path = mem_printf("%s/node.sock", abs);
    if (path && strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path) {
        /* Too long for a socket address. A folder of our own in /tmp holds one named after the data folder;
         * it must be a real folder of this user that nobody else may enter, or somebody could put a socket of
         * theirs there. */
        uint8_t h[32];
        char hex[33], folder[64];
        keccak256(h, abs, strlen(abs));
        hex_encode(hex, h, 16);
        snprintf(folder, sizeof folder, "/tmp/loam-%lu", (unsigned long)getuid());
        struct stat st;
        if (mkdir(folder, 0700) != 0 && errno != EEXIST)
            s = err_errno(err, LOAM_EIO, "make %s", folder);
        else if (lstat(folder, &st) != 0)
            s = err_errno(err, LOAM_EIO, "%s", folder);
        else if (!S_ISDIR(st.st_mode) || st.st_uid != getuid() || (st.st_mode & 077))
            s = err_set(
                err, LOAM_EPERM,
                "%s is not a folder of this user alone (mode 0700); remove it, or use a shorter --data",
                folder);
        mem_free(path);
        path = s ? NULL : mem_printf("%s/%s.sock", folder, hex);
    }
    mem_free(abs);
    if (!s && !path)
        s = err_set(err, LOAM_ENOMEM, "no memory for a path");
    *out = path;
    return s;
}

/* ---- a mapped file that is cut short
 * ---------------------------------------------------------------------------------------------------------
 */

/* The store and the models are mapped. When such a file is cut under us, or its disk fails, reading it is a bus error: the node
 * cannot go on, but it says which file it was. Only calls that a signal handler may make. */
static void on_bus_error(int number, siginfo_t *info, void *context) {
    static const char a[] = "loam: a file that is mapped was cut short, or its disk failed: ",
                      b[] = "\n      put the file back as it was (a copy; for a model `model add`), then start the node again\n";
    uintptr_t at = (uintptr_t)info->si_addr, from = 0, to = 0;
    char piece[512], path[512] = "unknown", *end = path;
    enum { FROM, TO, REST, PATH } part = FROM;
    bool found = false;
    (void)number;
    (void)context;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (ssize_t got; !found && fd >= 0 && (got = read(fd, piece, sizeof piece)) > 0;)
        for (ssize_t i = 0; i < got && !found; i++) {
            char c = piece[i];
            int d = hex_digit(c);
            if (c == '\n') {
                found = part == PATH && at >= from && at < to;
                *end = 0;
                end = found ? end : path;
                from = to = 0;
                part = FROM;
            } else if (part == FROM) {
                from = d >= 0 ? from << 4 | (unsigned)d : from;
                part = d >= 0 ? FROM : TO;
            } else if (part == TO) {
                to = d >= 0 ? to << 4 | (unsigned)d : to;
                part = d >= 0 ? TO : REST;
            } else if (part == REST ? c == '/' : end < path + sizeof path - 1) {
                part = PATH;
                *end++ = c;
            }
        }
    const char *name = found ? path : "unknown";
    int out[] = {STDERR_FILENO, log_descriptor()};
    for (size_t i = 0; i < 2; i++)
        if (out[i] >= 0 && (i == 0 || out[i] != out[0]) && write(out[i], a, sizeof a - 1) > 0 && write(out[i], name, strlen(name)) > 0 &&
            write(out[i], b, sizeof b - 1) < 0)
            break;
    _exit(status_exit(LOAM_EIO));
}

/* ---- lock
 * ----------------------------------------------------------------------------------------------------------
 */

static enum loam_status lock_take(struct node *n, struct err *err) {
    char *path = node_path(n, "lock");
    if (!path)
        return err_set(err, LOAM_ENOMEM, "no memory for a path");
    enum loam_status s = LOAM_OK;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        s = err_errno(err, LOAM_EIO, "open %s", path);
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        char who[128] = "";
        ssize_t r = errno == EWOULDBLOCK ? read(fd, who, sizeof who - 1) : -1;
        if (r < 0) {
            s = err_errno(err, LOAM_EIO, "lock %s", path);
        } else {
            who[strcspn(who, "\n")] = 0;
            s = err_set(
                err, LOAM_EBUSY,
                "another node holds the data folder %s (%s); use it, or end it with `loam stop --data %s`",
                n->dir, *who ? who : "just starting", n->dir);
        }
        close(fd);
    } else {
        char text[64];
        int len = snprintf(text, sizeof text, "pid %ld, loam %s\n", (long)getpid(), PACKAGE_VERSION);
        if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)len, 0) != len) {
            s = err_errno(err, LOAM_EIO, "write %s", path);
            close(fd);
        } else {
            n->p->lock_fd = fd;
        }
    }
    mem_free(path);
    return s;
}

/* ---- posts
 * ---------------------------------------------------------------------------------------------------------
 */

/* Under the lock: a wake-up sent to a handle that another thread closes in between makes libuv abort, since the
 * loop's descriptor is gone by then. `ended` is set under the same lock before any handle is closed. */
void node_wake(struct node *n) {
    uv_mutex_lock(&n->p->lock);
    if (n->p->handles && !n->p->ended)
        uv_async_send(&n->p->wake);
    uv_mutex_unlock(&n->p->lock);
}

enum loam_status node_post(struct node *n, void (*fn)(struct node *, void *), void *arg, struct err *err) {
    struct post *p = mem_alloc(sizeof *p);
    if (!p)
        return err_set(err, LOAM_ENOMEM, "no memory for a message to the loop");
    *p = (struct post){NULL, fn, arg};
    uv_mutex_lock(&n->p->lock);
    bool ended = n->p->ended;
    if (!ended) {
        *n->p->last = p;
        n->p->last = &p->next;
        uv_async_send(&n->p->wake);
    }
    uv_mutex_unlock(&n->p->lock);
    if (ended) {
        mem_free(p);
        return err_set(err, LOAM_ESTATE, "the node has ended");
    }
    return LOAM_OK;
}

struct call {
    void (*fn)(struct node *, void *);
    void *arg;
    bool done;
};

static void run_call(struct node *n, void *arg) {
    struct call *c = arg;
    c->fn(n, c->arg);
    uv_mutex_lock(&n->p->lock);
    c->done = true;
    uv_cond_broadcast(&n->p->cond);
    uv_mutex_unlock(&n->p->lock);
}

enum loam_status node_call(struct node *n, void (*fn)(struct node *, void *), void *arg, struct err *err) {
    struct call c = {fn, arg, false};
    enum loam_status s = node_post(n, run_call, &c, err);
    if (s)
        return s;
    uv_mutex_lock(&n->p->lock);
    while (!c.done)
        uv_cond_wait(&n->p->cond, &n->p->lock);
    uv_mutex_unlock(&n->p->lock);
    return LOAM_OK;
}

static void run_posts(struct node *n, bool last) {
    for (;;) {
        uv_mutex_lock(&n->p->lock);
        struct post *p = n->p->first;
        n->p->first = NULL;
        n->p->last = &n->p->first;
        if (!p && last)
            n->p->ended = true;
        uv_mutex_unlock(&n->p->lock);
        if (!p)
            return;
        while (p) {
            struct post *next = p->next;
            p->fn(n, p->arg);
            mem_free(p);
            p = next;
        }
    }
}

/* ---- the loop ---- */

/* What a console without anything to show suggests. */
static const char *next_step(struct node *n) {
    if (!node_chain_configured(n)) { /* a model of one's own needs no chain */
        json_t *m = topic_get(n, "models"), *list = json_object_get(m, "list"), *v;
        bool adapter = false;
        size_t i, count = json_array_size(list);
        json_array_foreach(list, i, v) {
            const char *kind = json_string_value(json_object_get(v, "kind"));
            adapter |= kind && strcmp(kind, "adapter") == 0;
        }
        json_decref(m);
        return !count ? "model add FILE.gguf" : !adapter ? "train NAME --files ROWS.jsonl" : "ask QUESTION";
    }
    json_t *keys = keys_list(n), *chain = topic_get(n, "chain"), *models = topic_get(n, "models"),
           *nets = topic_get(n, "datanets");
    const char *next = !json_array_size(keys)                                   ? "key new NAME"
                       : !json_object_size(json_object_get(chain, "contracts")) ? "chain deploy"
                       : !json_array_size(json_object_get(models, "list"))      ? "model add FILE.gguf"
                       : !json_array_size(json_object_get(nets, "list"))        ? "datanet create NAME"
                                                                                : "ask";
    json_decref(keys);
    json_decref(chain);
    json_decref(models);
    json_decref(nets);
    return next;
}

static void publish_node(struct node *n) {
    double seconds[SCHED_CLASSES];
    unsigned waiting[SCHED_CLASSES];
    sched_stats(n->sched, seconds, waiting);
    char api[128];
    json_t *compute = json_pack("{s:f s:f s:f}", "ask_s", seconds[SCHED_ASK], "validate_s",
                                seconds[SCHED_VALIDATE], "train_s", seconds[SCHED_TRAIN]);
    /* memory in whole megabytes, so that an idle node publishes nothing new */
    json_t *v = json_pack("{s:s s:I s:s s:I s:I s:I s:s s:b s:s? s:I s:o s:s}", "version", PACKAGE_VERSION,
                          "pid", (json_int_t)getpid(), "dir", n->dir, "started_ms", (json_int_t)n->started_ms,
                          "jobs", (json_int_t)job_running(n), "clients", (json_int_t)control_clients(n),
                          "state", node_stopping(n) ? "stopping" : "running", "started_by_console",
                          n->started_by_console, "api", api_url(n, api, sizeof api), "memory_bytes",
                          (json_int_t)(mem_resident() >> 20 << 20), "compute", compute, "next", next_step(n));
    json_t *old = topic_get(n, "node"); /* fields that others set (backend, threads, next) stay */
    if (old && v) {
        json_object_update_missing(v, old);
    }
    json_decref(old);
    topic_set(n, "node", v);
}

static void on_topic_timer(uv_timer_t *t) {
    struct node *n = t->data;
    bool state, stream;
    topics_dirty(n, &state, &stream);
    control_flush(n, true, true);
}

static void finish_if_ready(struct node *n);

static void on_wake(uv_async_t *a) {
    struct node *n = a->data;
    run_posts(n, false);
    bool state, stream;
    topics_dirty(n, &state, &stream);
    if (state && !uv_is_active((uv_handle_t *)&n->p->topic_timer))
        uv_timer_start(&n->p->topic_timer, on_topic_timer, TOPIC_INTERVAL_MS, 0);
    control_flush(n, false, true);
    finish_if_ready(n);
}

static bool nothing_left(struct node *n) {
    uv_mutex_lock(&n->p->lock);
    bool held = n->p->holds > 0;
    uv_mutex_unlock(&n->p->lock);
    return !held && control_clients(n) == 0 && job_running(n) == 0 && outbox_pending(n) == 0;
}

static void on_idle(uv_timer_t *t) {
    struct node *n = t->data;
    if (nothing_left(n)) {
        log_info("node", "nothing is left to do; a node that a console started ends then");
        node_stop(n);
    }
}

static void check_idle(struct node *n, void *arg) {
    (void)arg;
    if (!n->p->closing) {
        publish_node(n);
        uint64_t after = option_uint(n->opt, "node.idle") * 1000;
        if (after < FIRST_CLIENT_MS && !n->p->had_client)
            after = FIRST_CLIENT_MS;
        n->p->had_client = n->p->had_client || control_clients(n) > 0;
        if (n->started_by_console && nothing_left(n))
            uv_timer_start(&n->p->idle_timer, on_idle, after, 0);
    }
}

void node_maybe_idle(struct node *n) {
    enum loam_status s = node_post(n, check_idle, NULL, NULL);
    (void)s; /* the loop has ended: nothing to end */
}

void node_hold(struct node *n) {
    uv_mutex_lock(&n->p->lock);
    n->p->holds++;
    uv_mutex_unlock(&n->p->lock);
}

void node_release(struct node *n) {
    uv_mutex_lock(&n->p->lock);
    n->p->holds--;
    uv_mutex_unlock(&n->p->lock);
    node_maybe_idle(n);
}

static void on_second(uv_timer_t *t) {
    struct node *n = t->data;
    publish_node(n);
    outbox_tick(n);
    keys_tick(n);
    if (n->tick)
        n->tick(n);
}

bool node_stopping(struct node *n) {
    return atomic_load(&n->p->stopping);
}

#define LAST_CHANCE_MS 5000
static void on_stop_timer(uv_timer_t *t) {
    struct node *n = t->data;
    if (jobs_idle(n) && !n->p->last_chance) { /* only a client that does not read, or the light client, is left */
        n->p->last_chance = true;
        uv_timer_start(&n->p->stop_timer, on_stop_timer, LAST_CHANCE_MS, 0);
        control_end(n);
        finish_if_ready(n);
        return;
    }
    n->p->timed_out = true;
    log_error("node",
              "%s did not end within %d s; it is left behind (a durable job resumes at the next start)",
              jobs_idle(n) ? "the light client" : "a job", STOP_LIMIT_MS / 1000);
    uv_stop(n->loop);
}

static void begin_stop(struct node *n, void *arg) {
    (void)arg;
    if (n->p->closing)
        return;
    n->p->closing = true;
    log_info("node", "stopping");
    publish_node(n);
    jobs_stop(n);
    api_close(n);
    uv_timer_start(&n->p->stop_timer, on_stop_timer, STOP_LIMIT_MS, 0);
    finish_if_ready(n);
}

void node_stop(struct node *n) {
    if (!atomic_exchange(&n->p->stopping, true)) {
        enum loam_status s = node_post(n, begin_stop, NULL, NULL);
        (void)s; /* the loop has ended already */
    }
}

/* Jobs have ended and clients got their answers: close every handle, so that uv_run returns. */
static void finish_if_ready(struct node *n) {
    struct node_private *p = n->p;
    if (!p->closing || !p->handles || !jobs_idle(n))
        return;
    if (control_clients(n) && !control_drained(n))
        return; /* control_flush wakes us when its queue is empty */
    control_end(n);
    if (!node_chain_down(n))
        return; /* it wakes us */
    p->handles = false;
    uv_handle_t *all[] = {(uv_handle_t *)&p->wake,       (uv_handle_t *)&p->topic_timer,
                          (uv_handle_t *)&p->idle_timer, (uv_handle_t *)&p->stop_timer,
                          (uv_handle_t *)&p->second,     (uv_handle_t *)&p->sigterm,
                          (uv_handle_t *)&p->sigint,     (uv_handle_t *)&p->sighup};
    run_posts(n, true);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!uv_is_closing(all[i]))
            uv_close(all[i], NULL);
}

static void on_signal(uv_signal_t *s, int number) {
    struct node *n = s->data;
    if (number == SIGHUP)
        return; /* the loss of a terminal never touches the node */
    log_info("node", "%s", number == SIGTERM ? "SIGTERM" : "SIGINT");
    node_stop(n);
}

static void log_to_topic(void *ctx, enum log_level level, const char *room, const char *text, uint64_t ms) {
    topic_emit(ctx, "log",
               json_pack("{s:I s:s s:s s:s}", "time_ms", (json_int_t)ms, "level", log_level_name(level),
                         "room", room, "text", text));
}

static void apply_log_level(struct node *n) {
    char t[OPTION_TEXT_MAX];
    option_str(n->opt, "log.level", t);
    for (int l = LOG_ERROR; l <= LOG_DEBUG; l++)
        if (strcmp(t, log_level_name((enum log_level)l)) == 0)
            log_level_set((enum log_level)l);
}

enum loam_status node_set_option(struct node *n, const char *name, const char *value, struct err *err) {
    enum loam_status s = option_put(n->opt, name, value, OPTION_SET, err);
    if (s)
        return s;
    apply_log_level(n);
    char *path = node_path(n, "config");
    s = path ? options_save(n->opt, path, err) : err_set(err, LOAM_ENOMEM, "no memory for a path");
    mem_free(path);
    return s;
}

static enum loam_status open_handles(struct node *n, bool inside, struct err *err) {
    struct node_private *p = n->p;
    int rc = uv_loop_init(&p->loop);
    if (rc)
        return err_set(err, LOAM_EIO, "event loop: %s", uv_strerror(rc));
    n->loop = &p->loop;
    uv_async_init(n->loop, &p->wake, on_wake);
    uv_timer_init(n->loop, &p->topic_timer);
    uv_timer_init(n->loop, &p->idle_timer);
    uv_timer_init(n->loop, &p->stop_timer);
    uv_timer_init(n->loop, &p->second);
    uv_signal_init(n->loop, &p->sigterm);
    uv_signal_init(n->loop, &p->sigint);
    uv_signal_init(n->loop, &p->sighup);
    p->wake.data = p->topic_timer.data = p->idle_timer.data = p->stop_timer.data = p->second.data = n;
    p->sigterm.data = p->sigint.data = p->sighup.data = n;
    p->handles = true;
    if (!inside) {
        uv_signal_start(&p->sigterm, on_signal, SIGTERM);
        uv_signal_start(&p->sigint, on_signal, SIGINT);
        uv_signal_start(&p->sighup, on_signal, SIGHUP);
    }
    return LOAM_OK;
}

static enum loam_status open_services(struct node *n, const struct node_config *cfg, struct err *err) {
    enum loam_status s = lock_take(n, err);
    if (s)
        return s;
    /* The lock is ours: what lies half written is a killed node's. */
    static const char *const written[] = {"", "jobs", "keys", "models", "adapters", "chains"};
    for (size_t i = 0; i < sizeof written / sizeof *written; i++) {
        char *folder = node_path(n, written[i]);
        if (folder)
            file_sweep(folder);
        mem_free(folder);
    }
    char *config = node_path(n, "config"), *store = node_path(n, "store"), *blobs = node_path(n, "blobs");
    n->opt = cfg->opt;
    if (!config || !store || !blobs)
        s = err_set(err, LOAM_ENOMEM, "no memory for a path");
    if (!s && !n->opt)
        s = options_new(&n->opt, err);
    if (!s)
        s = options_load(n->opt, config, err);
    if (!s)
        s = open_handles(n, cfg->inside, err);
    if (!s)
        s = topics_open(n, err);
    if (!s) {
        apply_log_level(n);
        log_hook(log_to_topic, n);
        s = sched_new(&n->sched, err);
    }
    if (!s)
        s = jobs_open(n, err);
    if (!s)
        s = store_open(&n->store, store, err);
    if (!s)
        s = blobs_open(&n->blobs, blobs, err);
    if (!s)
        s = keys_open(n, err);
    if (!s)
        s = node_chain_open(n, err);
    if (!s)
        s = outbox_open(n, err);
    if (!s)
        s = control_open(n, err);
    if (!s)
        s = api_open(n, err);
    mem_free(config);
    mem_free(store);
    mem_free(blobs);
    return s;
}

enum loam_status node_open(struct node **out, const struct node_config *cfg, struct err *err) {
    umask(077);
    signal(SIGPIPE, SIG_IGN);
    struct sigaction bus = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_RESETHAND};
    sigaction(SIGBUS, &bus, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file over the limit of `ulimit -f` fails as on a full disk */
    struct node *n = mem_zalloc(sizeof *n);
    if (n)
        n->p = mem_zalloc(sizeof *n->p);
    if (!n || !n->p) {
        mem_free(n);
        return err_set(err, LOAM_ENOMEM, "no memory for the node");
    }
    n->p->last = &n->p->first;
    n->p->lock_fd = -1;
    uv_mutex_init(&n->p->lock);
    uv_mutex_init(&n->p->publish);
    uv_cond_init(&n->p->cond);
    n->started_by_console = cfg->started_by_console;
    n->started_ms = clock_unix_ms();
    n->p->inside = cfg->inside;
    char *dir = NULL;
    enum loam_status s =
        cfg->dir
            ? ((dir = mem_strdup(cfg->dir)) ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for a path"))
            : node_default_dir(&dir, err);
    if (!s)
        s = file_mkdirs(dir, err);
    if (!s)
        s = absolute(&n->dir, dir, err);
    mem_free(dir);
    if (!s)
        s = open_services(n, cfg, err);
    if (s) {
        if (n->opt == cfg->opt)
            n->opt = NULL; /* stays the caller's */
        node_close(n);
        return s;
    }
    *out = n;
    return LOAM_OK;
}

enum loam_status node_run(struct node *n, struct err *err) {
    struct err api_err;
    if (api_listen(n, &api_err)) { /* a port in use must not keep the node from its work */
        log_error("api", "%s", api_err.text);
        topic_update(n, "node", json_pack("{s:s}", "api_error", api_err.text));
    }
    publish_node(n);
    uv_timer_start(&n->p->second, on_second, 1000, 1000);
    node_chain_start(n);
    if (n->front && n->front->resume)
        n->front->resume(n);
    check_idle(n, NULL);
    log_info("node", "loam %s, pid %ld, data folder %s", PACKAGE_VERSION, (long)getpid(), n->dir);
    uv_run(n->loop, UV_RUN_DEFAULT);
    if (n->p->timed_out)
        return err_set(err, LOAM_ETIMEOUT, "a job did not end");
    return LOAM_OK;
}

/* Every handle that still stands after a failed node_open. */
static void close_leftover(uv_handle_t *h, void *arg) {
    (void)arg;
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

enum loam_status node_at_close(struct node *n, void (*fn)(void *arg), void *arg, struct err *err) {
    struct at_close *a = mem_alloc(sizeof *a);
    if (!a)
        return err_set(err, LOAM_ENOMEM, "no memory for a closing step");
    *a = (struct at_close){n->p->at_close, fn, arg};
    n->p->at_close = a;
    return LOAM_OK;
}

void node_close(struct node *n) {
    if (!n)
        return;
    struct node_private *p = n->p;
    atomic_store(&p->stopping, true);
    if (n->jobs) {
        jobs_stop(n);
        jobs_close(n);
    }
    while (p->at_close) {
        struct at_close *a = p->at_close;
        p->at_close = a->next;
        a->fn(a->arg);
        mem_free(a);
    }
    log_hook(NULL, NULL);
    if (n->loop) {
        if (p->handles) {
            p->closing = true;
            api_close(n);
            if (n->control)
                control_end(n);
            node_chain_shut(n);
            p->handles = false;
            run_posts(n, true);
            uv_run(n->loop, UV_RUN_NOWAIT);
            uv_walk(n->loop, close_leftover, NULL);
        }
        uv_run(n->loop, UV_RUN_DEFAULT);
        if (uv_loop_close(n->loop))
            log_warn("node", "a handle was left open");
    }
    api_free(n);
    control_close(n);
    outbox_close(n);
    node_chain_close(n);
    keys_close(n);
    blobs_close(n->blobs);
    store_close(n->store);
    topics_close(n);
    sched_free(n->sched);
    options_free(n->opt);
    uv_cond_destroy(&p->cond);
    uv_mutex_destroy(&p->lock);
    uv_mutex_destroy(&p->publish);
    if (p->lock_fd >= 0)
        close(
            p->lock_fd); /* lets the lock go; the file stays, so that no two processes lock different files */
    mem_free(p);
    mem_free(n->front);
    mem_free(n->dir);
    mem_free(n);
}
