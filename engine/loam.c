/* The front door.
 *
 *   loam                    console of the data folder's node; starts one when none runs
 *   loam WORDS…             one command, run by the node (started when none runs)
 *   loam -                  commands from standard input, one a line
 *   loam node               the node itself, in the foreground
 *   loam stop               ends the node
 *   loam --inside           node and console in one process */
#include "base/log.h"
#include "base/mem.h"
#include "client.h"
#include "cmd/cmd.h"
#include "flow/models.h"
#include "node/node.h"
#include "node/socket.h"
#include "tui/tui.h"

#include <jansson.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/banned.h"

#define SETS_MAX 64

struct front {
    struct client_options client;
    const char *sets[SETS_MAX];
    size_t set_count;
    bool inside, from_console;
    struct tui_options tui;
};

static const char usage[] =
    "usage: loam [--data DIR] [WORDS…]\n"
    "  loam                 console (starts a node when none runs)\n"
    "  loam WORDS…          run a command; `loam help` lists them\n"
    "  loam -               run the commands of standard input\n"
    "  loam node            run a node in the foreground\n"
    "  loam stop            end the node\n"
    "  loam --inside        node and console in one process\n"
    "options before or after the words:\n"
    "  --data DIR  --json  --yes  --no-wait  --no-start  --password-file FILE  --set NAME=VALUE (node)\n"
    "  console: --plain  --readonly  --no-color  --ascii  --cast FILE  --pane NAME\n"
                            "           --theme NAME  --plot KIND  --mouse\n";

static int bad_use(const char *what, const char *word) {
    fprintf(stderr, "loam: %s %s\n%s", what, word, usage);
    return status_exit(LOAM_EINVAL);
}

static enum loam_status options_of(struct options **out, const struct front *f, struct err *err) {
    enum loam_status s = options_new(out, err);
    for (size_t i = 0; !s && i < f->set_count; i++) {
        const char *eq = strchr(f->sets[i], '=');
        char name[64];
        if (!eq || (size_t)(eq - f->sets[i]) >= sizeof name)
            s = err_set(err, LOAM_EINVAL, "--set needs NAME=VALUE");
        if (!s) {
            snprintf(name, sizeof name, "%.*s", (int)(eq - f->sets[i]), f->sets[i]);
            s = option_put(*out, name, eq + 1, OPTION_ARGUMENT, err);
        }
    }
    /* The file's name, never its content: keys are opened with it when they are needed. */
    if (!s && f->client.password_file && strcmp(f->client.password_file, "-") != 0) {
        char *path = realpath(f->client.password_file, NULL);
        s = path ? option_put(*out, "key.password-file", path, OPTION_ARGUMENT, err)
                 : err_errno(err, LOAM_EIO, "%s", f->client.password_file);
        free(path);
    }
    if (s)
        options_free(*out);
    return s;
}

static enum loam_status open_node(struct node **n, const struct front *f, bool inside, struct err *err) {
    struct options *opt;
    enum loam_status s = options_of(&opt, f, err);
    if (s)
        return s;
    struct node_config cfg = {
        .dir = f->client.dir, .opt = opt, .started_by_console = f->from_console, .inside = inside};
    s = node_open(n, &cfg, err);
    if (s) {
        options_free(opt);
        return s;
    }
    s = cmd_attach(*n, err);
    if (!s)
        s = flow_attach(*n, err);
    if (s)
        node_close(*n);
    return s;
}

static enum loam_status log_in_folder(struct node *n, struct err *err) {
    char *path = node_path(n, "log");
    enum loam_status s = path ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for a path");
    if (!s && mkdir(path, 0700) != 0) { /* there already */
    }
    mem_free(path);
    path = s ? NULL : node_path(n, "log/node.log");
    if (!s && !path)
        s = err_set(err, LOAM_ENOMEM, "no memory for a path");
    if (!s)
        s = log_to_file(path, err);
    mem_free(path);
    return s;
}

static int run_node(const struct front *f) {
    struct node *n;
    struct err e = {LOAM_OK, ""};
    enum loam_status s = open_node(&n, f, false, &e);
    if (s)
        return client_fail(s, &e);
    if (f->from_console) {
        /* The console that started us reads our stderr only until we are up. */
        s = log_in_folder(n, &e);
        if (s)
            client_fail(s, &e);
        else if (!freopen("/dev/null", "w", stderr)) {
        }
    }
    s = node_run(n, &e);
    if (s) {
        client_fail(s, &e);
        _exit(status_exit(s)); /* a thread still runs: nothing can be freed under it */
    }
    node_close(n);
    log_close();
    return 0;
}

struct inside {
    struct node *n;
    enum loam_status how;
    char text[512];
};

static void console_ended(void *arg, enum loam_status how, const char *text) {
    struct inside *in = arg;
    in->how = how;
    snprintf(in->text, sizeof in->text, "%s", text ? text : "");
    node_stop(in->n);
}

static int run_inside(struct front *f) {
    struct inside in = {0};
    struct err e = {LOAM_OK, ""};
    int pair[2];
    enum loam_status s = open_node(&in.n, f, true, &e);
    if (s)
        return client_fail(s, &e);
    s = log_in_folder(in.n, &e);
    if (!s && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
        s = err_errno(&e, LOAM_EIO, "socketpair");
    if (!s)
        s = control_adopt(in.n, pair[0], &e);
    struct tui *t;
    f->tui.fd = pair[1];
    f->tui.inside = true;
    f->tui.data = in.n->dir;
    if (!s)
        s = tui_open(&t, in.n->loop, &f->tui, console_ended, &in, &e);
    if (s) {
        node_close(in.n);
        return client_fail(s, &e);
    }
    s = node_run(in.n, &e);
    if (s) {
        client_fail(s, &e);
        _exit(status_exit(s));
    }
    node_close(in.n);
    log_close();
    if (in.how && in.how != LOAM_ECANCEL) {
        err_set(&e, in.how, "%s", in.text);
        return client_fail(in.how, &e);
    }
    return 0;
}

static int run_console(struct front *f) {
    struct err e = {LOAM_OK, ""};
    bool started;
    int fd;
    enum loam_status s = client_connect(&fd, &started, &f->client, &e);
    if (s)
        return client_fail(s, &e);
    char *dir = NULL;
    if (!f->client.dir)
        s = node_default_dir(&dir, &e);
    char *path = NULL; /* to come back to the node when the link is lost */
    if (!s)
        s = node_socket_path(&path, f->client.dir ? f->client.dir : dir, &e);
    f->tui.fd = fd;
    f->tui.socket = path;
    f->tui.data = f->client.dir ? f->client.dir : dir;
    f->tui.started = started;
    if (!s)
        s = tui_run(&f->tui, &e);
    mem_free(path);
    mem_free(dir);
    return s ? client_fail(s, &e) : 0;
}

/* help and version need no node. */
static int run_local(char **words, size_t n) {
    if (strcmp(words[0], "version") == 0) {
        printf("loam %s (control protocol %d)\n", PACKAGE_VERSION, LOAM_PROTOCOL);
        return 0;
    }
    struct buf b = BUF_INIT(1u << 20);
    struct err e = {LOAM_OK, ""};
    enum loam_status s = LOAM_OK;
    if (n == 1)
        fputs(usage, stdout);
    if (n == 1)
        fputs("\ncommands:\n", stdout);
    s = cmd_help(&b, n > 1 ? words[1] : NULL, n > 2 ? words[2] : NULL, &e);
    if (!s)
        fputs((const char *)b.data, stdout);
    buf_clear(&b);
    return s ? client_fail(s, &e) : 0;
}

int main(int argc, char **argv) {
    setlocale(LC_CTYPE, "");
    json_set_alloc_funcs(mem_alloc, mem_free);
    json_object_seed(0);
    umask(077);
    struct front f = {.client = {.start = true}};
    tui_options_init(&f.tui);
    static char **words; /* lives as long as the program, on every way out */
    words = mem_zarray((size_t)argc + 1, sizeof *words);
    size_t n = 0;
    if (!words)
        return status_exit(LOAM_ENOMEM);
    bool rest = false;
    for (int i = 1; i < argc; i++) {
        char *w = argv[i];
        static const char *const with_value[] = {"--data", "--password-file", "--set",
                                                 "--cast", "--pane",          "--theme", "--plot", NULL};
        int k = 0;
        if (strcmp(w, "--") == 0)
            rest = true;
        while (!rest && with_value[k] && strcmp(with_value[k], w) != 0)
            k++;
        if (rest || (!with_value[k] && w[0] == '-' && w[1] != '-') || w[0] != '-') {
            words[n++] = w;
        } else if (with_value[k]) {
            if (i + 1 >= argc)
                return bad_use("a value is missing after", w);
            char *v = argv[++i];
            if (k == 0)
                f.client.dir = v;
            else if (k == 1)
                f.client.password_file = v;
            else if (k == 2 && f.set_count < SETS_MAX)
                f.sets[f.set_count++] = v;
            else if (k == 3)
                f.tui.cast = v;
            else if (k == 4)
                f.tui.pane = v;
            else if (k == 5)
                f.tui.theme = v;
            else if (k == 6)
                f.tui.plot = v;
        } else if (strcmp(w, "--json") == 0) {
            f.client.json = true;
        } else if (strcmp(w, "--yes") == 0) {
            f.client.yes = true;
        } else if (strcmp(w, "--no-wait") == 0) {
            f.client.no_wait = true;
        } else if (strcmp(w, "--no-start") == 0) {
            f.client.start = false;
        } else if (strcmp(w, "--inside") == 0) {
            f.inside = true;
        } else if (strcmp(w, "--from-console") == 0) {
            f.from_console = true;
        } else if (strcmp(w, "--plain") == 0) {
            f.tui.plain = true;
        } else if (strcmp(w, "--readonly") == 0) {
            f.tui.readonly = true;
        } else if (strcmp(w, "--no-color") == 0) {
            f.tui.no_color = true;
        } else if (strcmp(w, "--mouse") == 0) {
            f.tui.mouse = true;
        } else if (strcmp(w, "--ascii") == 0) {
            f.tui.ascii = true;
        } else if (strcmp(w, "--help") == 0 && n == 0) {
            fputs(usage, stdout);
            return 0;
        } else if (strcmp(w, "--version") == 0 && n == 0) {
            words[n++] = (char *)(uintptr_t) "version";
        } else if (n == 0) {
            return bad_use("unknown option", w);
        } else {
            words[n++] = w; /* the command's own */
        }
    }
    int x;
    if (f.inside)
        x = run_inside(&f);
    else if (n == 0)
        x = isatty(0) || f.tui.plain ? run_console(&f) : client_stdin(&f.client);
    else if (n == 1 && strcmp(words[0], "-") == 0)
        x = client_stdin(&f.client);
    else if (n == 1 && strcmp(words[0], "node") == 0)
        x = run_node(&f);
    else if (n == 1 && strcmp(words[0], "stop") == 0)
        x = client_stop(&f.client);
    else if (!f.client.json &&
             (strcmp(words[0], "help") == 0 || (n == 1 && strcmp(words[0], "version") == 0)))
        x = run_local(words, n);
    else
        x = client_command(&f.client, words, n);
    mem_free(words);
    return x;
}
