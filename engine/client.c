#include "client.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/banned.h"

#define START_MS 15000 /* a node opens its store and its chain in well under this */
#define STOP_MS 60000
#define PASSWORD_BYTES 1024
#define SCRIPT_MAX (4u << 20) /* bytes of commands read from standard input */
#define PLAIN_PROGRESS_MS 10000 /* without a terminal: one line of progress in this time, none for short commands */

struct session {
    const struct client_options *o;
    int fd;
    struct buf in;
    json_int_t next_id;
    uint64_t job; /* of the command under way, 0 not known */
    bool goes_on; /* it goes on when we leave */
    bool enough;    /* whoever reads our output has gone */
    bool bar;     /* a progress line stands on the terminal */
    bool tty;     /* questions can be answered here */
    uint64_t said_us; /* when the last plain line of progress was printed, or the command was sent */
};

static volatile sig_atomic_t interrupted;

static void on_sigint(int s) {
    (void)s;
    interrupted = 1;
}

int client_fail(enum loam_status s, const struct err *err) {
    char text[ERR_TEXT_MAX];
    const char *raw = err && err->text[0] ? err->text : status_text(s);
    fprintf(stderr, "loam: %s\n", text_clean_cut(text, sizeof text, raw, strlen(raw)));
    if (*status_remedy(s))
        fprintf(stderr, "      %s\n", status_remedy(s));
    return status_exit(s);
}

/* ---- connecting ---- */

static enum loam_status connect_path(int *out, const char *path, struct err *err) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n >= sizeof a.sun_path)
        return err_set(err, LOAM_EINVAL, "socket path too long: %s", path);
    memcpy(a.sun_path, path, n + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(err, LOAM_EIO, "socket");
    if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
        enum loam_status s = errno == ENOENT || errno == ECONNREFUSED
                                 ? err_set(err, LOAM_ENET, "no node runs for this data folder (%s)", path)
                                 : err_errno(err, LOAM_ENET, "connect to %s", path);
        close(fd);
        return s;
    }
    *out = fd;
    return LOAM_OK;
}

/* A node of its own session, its stderr on a pipe until it is up, so that its reason reaches the user when it
 * fails. */
static enum loam_status start_node(pid_t *pid, int *words, const char *dir, struct err *err) {
    int p[2];
    if (pipe(p) != 0)
        return err_errno(err, LOAM_EIO, "pipe");
    fflush(NULL);
    *pid = fork();
    if (*pid < 0) {
        close(p[0]);
        close(p[1]);
        return err_errno(err, LOAM_ENOMEM, "fork");
    }
    if (*pid == 0) {
        setsid();
        int null = open("/dev/null", O_RDWR);
        if (null >= 0) {
            dup2(null, 0);
            dup2(null, 1);
        }
        dup2(p[1], 2);
        for (int i = 3; i < 256; i++)
            close(i);
        execl("/proc/self/exe", "loam", "--data", dir, "node", "--from-console", (char *)NULL);
        fprintf(stderr, "exec: %s\n", strerror(errno));
        _exit(127);
    }
    close(p[1]);
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    fcntl(p[0], F_SETFD, FD_CLOEXEC);
    *words = p[0];
    return LOAM_OK;
}

enum loam_status client_connect(int *fd, bool *started, const struct client_options *o, struct err *err) {
    char *dir = NULL, *path = NULL;
    *started = false;
    enum loam_status s = o->dir
                             ? ((dir = mem_strdup(o->dir)) ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory"))
                             : node_default_dir(&dir, err);
    if (!s && !file_exists(dir)) {
        if (o->start)
            s = file_mkdirs(dir, err);
        else
            s = err_set(err, LOAM_ENET, "no node runs for the data folder %s (there is no such folder)", dir);
    }
    if (!s)
        s = node_socket_path(&path, dir, err);
    if (!s)
        s = connect_path(fd, path, err);
    if (s == LOAM_ENET && o->start && path) {
        pid_t pid = 0;
        int words = -1;
        struct buf said = BUF_INIT(16384);
        s = start_node(&pid, &words, dir, err);
        uint64_t end = clock_mono_us() + START_MS * 1000;
        while (!s) {
            struct pollfd p = {words, POLLIN, 0};
            poll(&p, 1, 20);
            char piece[1024];
            ssize_t r = read(words, piece, sizeof piece);
            if (r > 0) {
                enum loam_status b = buf_add(&said, piece, (size_t)r, NULL);
                (void)b; /* more words than fit are not needed */
            }
            if (connect_path(fd, path, NULL) == LOAM_OK) {
                *started = true;
                break;
            }
            int how;
            if (waitpid(pid, &how, WNOHANG) == pid) {
                /* It ended: maybe another one was faster and holds the folder. */
                if (connect_path(fd, path, NULL) == LOAM_OK)
                    break;
                while ((r = read(words, piece, sizeof piece)) > 0 && !buf_add(&said, piece, (size_t)r, NULL))
                    ;
                char shown[400];
                text_clean_cut(shown, sizeof shown, said.data ? (char *)said.data : "", said.len);
                s = err_set(err, LOAM_ENET, "the node could not start: %s",
                            *shown ? shown : "it said nothing");
            } else if (clock_mono_us() > end) {
                s = err_set(err, LOAM_ETIMEOUT, "the node (pid %ld) does not answer", (long)pid);
            }
        }
        buf_clear(&said);
        if (words >= 0)
            close(words);
    }
    mem_free(dir);
    mem_free(path);
    return s;
}

/* ---- messages ---- */

static enum loam_status send_json(struct session *c, json_t *msg, struct err *err) {
    char *text = msg ? json_dumps(msg, JSON_COMPACT) : NULL;
    json_decref(msg);
    if (!text)
        return err_set(err, LOAM_ENOMEM, "no memory for a message");
    size_t n = strlen(text), at = 0;
    text[n] = '\n';
    enum loam_status s = LOAM_OK;
    while (!s && at < n + 1) {
        ssize_t w = send(c->fd, text + at, n + 1 - at, MSG_NOSIGNAL);
        if (w > 0)
            at += (size_t)w;
        else if (errno != EINTR)
            s = err_errno(err, LOAM_ENET, "the node has gone");
    }
    mem_wipe(text, n + 1); /* it may hold a password */
    mem_free(text);
    return s;
}

static enum loam_status request(struct session *c, json_int_t *id, const char *method, json_t *params,
                                struct err *err) {
    *id = ++c->next_id;
    return send_json(c,
                     json_pack("{s:s s:I s:s s:o}", "jsonrpc", "2.0", "id", *id, "method", method, "params",
                               params ? params : json_object()),
                     err);
}

/* The next message; NULL with *s: LOAM_ECANCEL interrupted, LOAM_ENET the node has gone. */
static json_t *receive(struct session *c, enum loam_status *s, struct err *err) {
    for (;;) {
        uint8_t *nl = c->in.len ? memchr(c->in.data, '\n', c->in.len) : NULL;
        if (nl) {
            size_t n = (size_t)(nl - c->in.data);
            json_t *m = json_loadb((const char *)c->in.data, n, 0, NULL);
            buf_consume(&c->in, n + 1);
            if (!m) {
                *s = err_set(err, LOAM_EPROTO, "the node sent what is no JSON");
                return NULL;
            }
            return m;
        }
        if (interrupted) {
            *s = err_set(err, LOAM_ECANCEL, "interrupted");
            return NULL;
        }
        *s = buf_reserve(&c->in, 65536, err);
        if (*s)
            return NULL;
        struct pollfd p = {c->fd, POLLIN, 0};
        if (poll(&p, 1, -1) < 0)
            continue; /* a signal: looked at above */
        ssize_t r = read(c->fd, c->in.data + c->in.len, 65536);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0) {
            *s = err_set(err, LOAM_ENET, "the node has gone; what it did resumes when it is started again");
            return NULL;
        }
        c->in.len += (size_t)r;
    }
}

/* ---- output ---- */

static void bar_clear(struct session *c) {
    if (c->bar)
        fputs("\r\033[K", stderr);
    c->bar = false;
}

static void show_out(struct session *c, const json_t *p) {
    const char *stream = json_string_value(json_object_get(p, "stream")),
               *text = json_string_value(json_object_get(p, "text"));
    if (!text)
        return;
    bar_clear(c);
    FILE *f = stream && strcmp(stream, "stderr") == 0 ? stderr : stdout;
    fputs(text, f); /* the node has cleaned it */
    if (fflush(f) != 0 && errno == EPIPE && f == stdout)
        c->enough = true;
}

static void show_progress(struct session *c, const json_t *p) {
    bool plain = !isatty(2); /* a log, a pipe: whole lines, few of them */
    uint64_t now = clock_mono_us();
    if (plain && now - c->said_us < PLAIN_PROGRESS_MS * UINT64_C(1000))
        return;
    c->said_us = now;
    json_int_t done = json_integer_value(json_object_get(p, "done")),
               total = json_integer_value(json_object_get(p, "total"));
    const char *text = json_string_value(json_object_get(json_object_get(p, "detail"), "text"));
    char clean[120];
    text_clean_cut(clean, sizeof clean, text ? text : "", text ? strlen(text) : 0);
    const char *before = plain ? "" : "\r\033[K", *after = plain ? "\n" : "";
    if (total > 0)
        fprintf(stderr, "%s%lld/%lld (%lld %%) %s%s", before, (long long)done, (long long)total,
                (long long)(done * 100 / total), clean, after);
    else
        fprintf(stderr, "%s%lld %s%s", before, (long long)done, clean, after);
    fflush(stderr);
    c->bar = !plain;
}

/* Reads a line from the terminal, without echo for secrets. out: mem_wipe, mem_free; NULL: none came. */
static char *read_terminal(const char *question, bool secret) {
    FILE *t = fopen("/dev/tty", "r+");
    if (!t)
        return NULL;
    struct termios old, quiet;
    bool set = secret && tcgetattr(fileno(t), &old) == 0;
    if (set) {
        quiet = old;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(fileno(t), TCSAFLUSH, &quiet);
    }
    fputs(question, t);
    fflush(t);
    char line[PASSWORD_BYTES + 2];
    bool got = fgets(line, sizeof line, t) != NULL;
    if (set) {
        tcsetattr(fileno(t), TCSAFLUSH, &old);
        fputc('\n', t);
    }
    fclose(t);
    if (got)
        line[strcspn(line, "\r\n")] = 0;
    char *copy = got ? mem_strdup(line) : NULL;
    mem_wipe(line, sizeof line);
    return copy;
}

static char *read_password_file(const char *path) {
    struct buf b = BUF_INIT(PASSWORD_BYTES * 4);
    char *copy = NULL;
    if (strcmp(path, "-") == 0) {
        char line[PASSWORD_BYTES + 2];
        if (fgets(line, sizeof line, stdin))
            copy = mem_strndup(line, strcspn(line, "\r\n"));
        mem_wipe(line, sizeof line);
        return copy;
    }
    struct err e;
    if (!file_read_pipe(&b, path, &e))
        copy = mem_strndup((const char *)b.data, strcspn((const char *)b.data, "\r\n"));
    else
        fprintf(stderr, "loam: %s\n", e.text);
    mem_wipe(b.data, b.len);
    buf_clear(&b);
    return copy;
}

static enum loam_status answer(struct session *c, const json_t *p, struct err *err) {
    const char *kind = json_string_value(json_object_get(p, "kind")),
               *text = json_string_value(json_object_get(p, "text"));
    char clean[1200], *value = NULL;
    bar_clear(c);
    text_clean_cut(clean, sizeof clean - 16, text ? text : "", text ? strlen(text) : 0);
    if (kind && strcmp(kind, "secret") == 0) {
        value = c->o->password_file ? read_password_file(c->o->password_file) : read_terminal(clean, true);
    } else {
        size_t n = strlen(clean);
        snprintf(clean + n, sizeof clean - n, " [y/N] ");
        value = read_terminal(clean, false);
    }
    json_t *params = json_pack("{s:O s:s?}", "id", json_object_get(p, "id"), "value", value);
    if (value) {
        mem_wipe(value, strlen(value));
        mem_free(value);
    }
    json_int_t id;
    return request(c, &id, "answer", params, err);
}

/* Waits for the response to id, handling what comes meanwhile. *result is new; on an error object, err and *s
 * are set and *exit its exit status. */
static enum loam_status await(struct session *c, json_int_t id, json_t **result, int *exit_status,
                              struct err *err) {
    enum loam_status s = LOAM_OK;
    *exit_status = 0;
    for (;;) {
        json_t *m = receive(c, &s, err);
        if (!m) {
            bar_clear(c);
            *exit_status = status_exit(s);
            return s;
        }
        const char *method = json_string_value(json_object_get(m, "method"));
        json_t *p = json_object_get(m, "params");
        if (method && strcmp(method, "out") == 0) {
            show_out(c, p);
        } else if (method && strcmp(method, "progress") == 0) {
            show_progress(c, p);
        } else if (method && strcmp(method, "started") == 0) {
            c->job = (uint64_t)json_integer_value(json_object_get(p, "job"));
            c->goes_on = json_is_true(json_object_get(p, "long"));
        } else if (method && strcmp(method, "ask") == 0) {
            s = answer(c, p, err);
        } else if (!method && (json_integer_value(json_object_get(m, "id")) == id ||
                               json_is_null(json_object_get(m, "id")))) {
            bar_clear(c);
            json_t *e = json_object_get(m, "error");
            if (e) {
                const char *text = json_string_value(json_object_get(e, "message"));
                json_t *data = json_object_get(e, "data");
                s = err_set(err, status_from_rpc((int)json_integer_value(json_object_get(e, "code"))), "%s",
                            text ? text : "");
                json_t *x = json_object_get(data, "exit");
                *exit_status = json_is_integer(x) ? (int)json_integer_value(x) : status_exit(s);
            } else {
                *result = json_incref(json_object_get(m, "result"));
            }
            json_decref(m);
            return s;
        }
        json_decref(m);
        if (s) {
            *exit_status = status_exit(s);
            return s;
        }
    }
}

static enum loam_status hello(struct session *c, struct err *err) {
    json_int_t id;
    json_t *r = NULL;
    int x;
    enum loam_status s = request(
        c, &id, "hello",
        json_pack("{s:i s:s s:s}", "protocol", LOAM_PROTOCOL, "version", PACKAGE_VERSION, "client", "loam"),
        err);
    if (!s)
        s = await(c, id, &r, &x, err);
    json_decref(r);
    return s;
}

static enum loam_status open_session(struct session *c, const struct client_options *o, struct err *err) {
    bool started;
    *c = (struct session){.o = o, .fd = -1};
    buf_init(&c->in, 64u << 20);
    int t = open("/dev/tty", O_RDWR | O_CLOEXEC);
    c->tty = t >= 0 || o->password_file;
    if (t >= 0)
        close(t);
    enum loam_status s = client_connect(&c->fd, &started, o, err);
    if (!s)
        s = hello(c, err);
    return s;
}

static void close_session(struct session *c) {
    if (c->fd >= 0)
        close(c->fd);
    buf_clear(&c->in);
}

/* params: argv or line; stolen. Prints everything; returns the exit status. */
static int run(struct session *c, json_t *params) {
    struct err e = {LOAM_OK, ""};
    json_int_t id;
    json_t *r = NULL;
    int x = 0;
    char *cwd = realpath(".", NULL);
    if (params) {
        json_object_set_new(params, "json", json_boolean(c->o->json));
        json_object_set_new(params, "yes", json_boolean(c->o->yes));
        json_object_set_new(params, "wait", json_boolean(!c->o->no_wait));
        json_object_set_new(params, "tty", json_boolean(c->tty));
        if (cwd)
            json_object_set_new(params, "cwd", json_string(cwd));
    }
    free(cwd);
    c->job = 0;
    c->said_us = clock_mono_us();
    enum loam_status s = request(c, &id, "command.run", params, &e);
    if (!s)
        s = await(c, id, &r, &x, &e);
    else
        x = status_exit(s);
    if (s == LOAM_ECANCEL && interrupted) {
        if (c->job && c->goes_on)
            fprintf(stderr,
                    "\njob %llu goes on; `loam job cancel %llu` ends it, `loam job show %llu` follows it\n",
                    (unsigned long long)c->job, (unsigned long long)c->job, (unsigned long long)c->job);
        else
            fputs("\ncancelled\n", stderr);
        x = status_exit(LOAM_ECANCEL);
    } else if (s) {
        if (c->o->json) {
            json_t *o = json_pack("{s:{s:s s:s s:s}}", "error", "status", status_name(s), "message", e.text,
                                  "remedy", status_remedy(s));
            if (o)
                json_dumpf(o, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
            fputc('\n', stdout);
            json_decref(o);
        }
        client_fail(s, &e);
    } else {
        json_t *job = json_object_get(r, "job"), *result = json_object_get(r, "result");
        if (c->o->json) {
            if (c->o->no_wait && !result)
                result = r;
            /* escapes keep what is no printable ASCII away from the terminal */
            json_dumpf(result ? result : json_null(), stdout,
                       JSON_INDENT(2) | JSON_ENSURE_ASCII | JSON_ENCODE_ANY);
            fputc('\n', stdout);
        } else if (c->o->no_wait && job) {
            printf("%lld\n", (long long)json_integer_value(job));
        }
    }
    json_decref(r);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        if (errno == EPIPE || c->enough) /* whoever read has seen enough */
            return x ? x : status_exit(LOAM_EIO);
        fprintf(stderr, "loam: standard output cannot be written\n");
        return x ? x : status_exit(LOAM_EIO);
    }
    return x;
}

static void catch_interrupts(void) {
    struct sigaction a = {.sa_handler = on_sigint};
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    signal(SIGPIPE, SIG_IGN);
}

int client_command(const struct client_options *o, char *const *argv, size_t argc) {
    struct session c;
    struct err e = {LOAM_OK, ""};
    catch_interrupts();
    enum loam_status s = open_session(&c, o, &e);
    int x;
    if (s) {
        x = client_fail(s, &e);
    } else {
        json_t *a = json_array();
        for (size_t i = 0; a && i < argc; i++) {
            json_t *w = json_string(argv[i]);
            if (!w) {
                json_decref(a);
                close_session(&c);
                err_set(&e, LOAM_EINVAL, "word %zu is not UTF-8", i + 1);
                return client_fail(LOAM_EINVAL, &e);
            }
            json_array_append_new(a, w);
        }
        x = run(&c, json_pack("{s:o}", "argv", a));
    }
    close_session(&c);
    return x;
}

int client_stdin(const struct client_options *o) {
    struct session c;
    struct err e = {LOAM_OK, ""};
    catch_interrupts();
    enum loam_status s = open_session(&c, o, &e);
    int x = s ? client_fail(s, &e) : 0;
    struct buf line = BUF_INIT(SCRIPT_MAX);
    size_t number = 0;
    for (int ch = 0; !x && ch != EOF;) {
        buf_reset(&line);
        size_t first = number + 1;
        while ((ch = getchar()) != EOF && !(ch == '\n' && (!line.len || line.data[line.len - 1] != '\\'))) {
            number += ch == '\n';
            if ((s = buf_byte(&line, (uint8_t)ch, &e)))
                break;
        }
        number++;
        if (s) {
            x = client_fail(s, &e);
            break;
        }
        const char *t = line.data ? (const char *)line.data + strspn((const char *)line.data, " \t") : "";
        if (!*t || *t == '#')
            continue;
        x = run(&c, json_pack("{s:s}", "line", t));
        if (x)
            fprintf(stderr, "loam: standard input, line %zu\n", first);
    }
    buf_clear(&line);
    close_session(&c);
    return x;
}

int client_stop(const struct client_options *o) {
    struct client_options q = *o;
    struct err e = {LOAM_OK, ""};
    struct session c;
    q.start = false;
    json_int_t id;
    json_t *r = NULL;
    int x;
    catch_interrupts();
    enum loam_status s = open_session(&c, &q, &e);
    if (!s)
        s = request(&c, &id, "node.stop", NULL, &e);
    if (!s)
        s = await(&c, id, &r, &x, &e);
    json_decref(r);
    if (s) {
        close_session(&c);
        return client_fail(s, &e);
    }
    /* Gone when its lock is free. */
    char *dir = NULL, *path = NULL;
    if (o->dir)
        dir = mem_strdup(o->dir);
    else if ((s = node_default_dir(&dir, &e)))
        return client_fail(s, &e);
    path = dir ? mem_printf("%s/lock", dir) : NULL;
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    uint64_t end = clock_mono_us() + (uint64_t)STOP_MS * 1000;
    bool free_now = fd < 0;
    while (!free_now && !interrupted && clock_mono_us() < end) {
        free_now = flock(fd, LOCK_EX | LOCK_NB) == 0;
        if (!free_now)
            poll(NULL, 0, 20);
    }
    if (fd >= 0)
        close(fd);
    mem_free(dir);
    mem_free(path);
    close_session(&c);
    if (!free_now) {
        err_set(&e, LOAM_ETIMEOUT, "the node was asked to end and still runs");
        return client_fail(LOAM_ETIMEOUT, &e);
    }
    return 0;
}
