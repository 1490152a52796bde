#include "flow/ranks.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "lm/ranks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/banned.h"

#define LINE_MAX_BYTES 1024
#define TICK_MS 50
#define PATIENCE_US (60 * 1000000ull) /* from the wish to stop to SIGTERM */

extern char **environ;

struct child {
    pid_t pid;
    int in, out, said;           /* pipes; -1: closed */
    char line[LINE_MAX_BYTES];   /* of a report, so far */
    size_t line_len;
    char words[RANKS_SAID_MAX];  /* the end of standard error */
    size_t words_len;
    struct lm_train_metrics m;
    uint64_t first_tokens;
    bool any;
};

/* loam-rank beside the running program. NULL: not there. */
static char *rank_program(void) {
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0)
        return NULL;
    path[n] = 0;
    char *slash = strrchr(path, '/'), *p = slash ? mem_printf("%.*s/loam-rank", (int)(slash - path), path) : NULL;
    if (p && access(p, X_OK)) {
        mem_free(p);
        p = NULL;
    }
    return p;
}

static enum loam_status spawn(struct child *c, const struct ranks_opt *o, const char *program, struct err *err) {
    int in[2] = {-1, -1}, out[2] = {-1, -1}, said[2] = {-1, -1};
    char count[16];
    const char *argv[16];
    int n = 0;
    size_t vars = 0;
    snprintf(count, sizeof count, "%u", o->ranks);
    argv[n++] = "mpirun";
    argv[n++] = "-n";
    argv[n++] = count;
    if (o->hosts) {
        argv[n++] = "--hostfile";
        argv[n++] = o->hosts;
    }
    argv[n++] = program;
    argv[n++] = "--report";
    if (o->backend) {
        argv[n++] = "--backend";
        argv[n++] = o->backend;
    }
    argv[n++] = o->dir;
    argv[n] = NULL;
    while (environ[vars])
        vars++;
    char **env = mem_array(vars + 2, sizeof *env);
    if (!env)
        return err_set(err, LOAM_ENOMEM, "no memory");
    memcpy(env, environ, vars * sizeof *env);
    if (!o->hosts) /* on one machine more ranks than cores are the user's own choice */
        env[vars++] = (char *)(uintptr_t) "OMPI_MCA_rmaps_base_oversubscribe=1";
    env[vars] = NULL;
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none;
    sigemptyset(&none);
    enum loam_status s = LOAM_OK;
    int e = posix_spawn_file_actions_init(&files), ea = posix_spawnattr_init(&attr);
    if (e || ea || pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(said, O_CLOEXEC))
        s = err_errno(err, LOAM_EIO, "starting mpirun");
    /* A session of its own: a signal to the node's terminal is the node's, which stops the ranks by closing their input. */
    if (!s && ((e = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK)) || (e = posix_spawnattr_setsigmask(&attr, &none)) ||
               (e = posix_spawn_file_actions_adddup2(&files, in[0], 0)) || (e = posix_spawn_file_actions_adddup2(&files, out[1], 1)) ||
               (e = posix_spawn_file_actions_adddup2(&files, said[1], 2)) ||
               (e = posix_spawnp(&c->pid, "mpirun", &files, &attr, (char *const *)(uintptr_t)argv, env))))
        s = e == ENOENT ? err_set(err, LOAM_ENOTBUILT, "training by several ranks needs mpirun, which is not installed (Debian: openmpi-bin)")
                        : err_set(err, LOAM_EIO, "starting mpirun: %s", strerror(e));
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    if (s) {
        for (int i = 0; i < 2; i++) {
            if (in[i] >= 0)
                close(in[i]);
            if (out[i] >= 0)
                close(out[i]);
            if (said[i] >= 0)
                close(said[i]);
        }
        mem_free(env);
        return s;
    }
    mem_free(env);
    close(in[0]);
    close(out[1]);
    close(said[1]);
    c->in = in[1];
    c->out = out[0];
    c->said = said[0];
    return LOAM_OK;
}

static void take(struct child *c, const char *p, size_t n, const struct lm_train_hooks *hooks) {
    for (size_t i = 0; i < n; i++) {
        if (p[i] != '\n') {
            if (c->line_len < sizeof c->line - 1)
                c->line[c->line_len++] = p[i];
            continue;
        }
        c->line[c->line_len] = 0;
        c->line_len = 0;
        if (lm_ranks_step_read(&c->m, c->line, NULL))
            continue; /* mpirun's own words */
        if (!c->any)
            c->first_tokens = c->m.tokens;
        c->any = true;
        if (hooks && hooks->metrics)
            hooks->metrics(hooks->ctx, &c->m);
    }
}

static void hear(struct child *c, const char *p, size_t n) {
    if (n > sizeof c->words) {
        p += n - sizeof c->words;
        n = sizeof c->words;
    }
    size_t keep = c->words_len < sizeof c->words - n ? c->words_len : sizeof c->words - n;
    memmove(c->words, c->words + c->words_len - keep, keep);
    memcpy(c->words + keep, p, n);
    c->words_len = keep + n;
}

/* Reads what is there; closes at the end. */
static void drain(struct child *c, int *fd, const struct lm_train_hooks *hooks) {
    char b[4096];
    ssize_t n = read(*fd, b, sizeof b);
    if (n < 0 && errno == EINTR)
        return;
    if (n <= 0) {
        close(*fd);
        *fd = -1;
    } else if (fd == &c->out)
        take(c, b, (size_t)n, hooks);
    else
        hear(c, b, (size_t)n);
}

/* What loam-rank said, else the last of what mpirun said. */
static void reason(const struct child *c, char *out, size_t cap) {
    static const char mark[] = "loam-rank: ";
    size_t from = 0, to = c->words_len;
    for (size_t i = 0; i + sizeof mark - 1 <= c->words_len; i++)
        if (!memcmp(c->words + i, mark, sizeof mark - 1)) {
            from = i + sizeof mark - 1;
            const char *end = memchr(c->words + from, '\n', c->words_len - from);
            to = end ? (size_t)(end - c->words) : c->words_len;
            break; /* the first word is the cause; the others were ended for it */
        }
    if (!from && c->words_len > cap - 1)
        from = c->words_len - (cap - 1);
    text_clean_cut(out, cap, c->words + from, to - from);
}

enum loam_status ranks_train(const struct ranks_opt *o, const struct lm_train_hooks *hooks, double *tok_s, double *seconds, struct err *err) {
    char *program = rank_program(), why[400];
    uint64_t began = clock_mono_us(), asked = 0;
    *tok_s = *seconds = 0;
    if (!program)
        return err_set(err, LOAM_ENOTBUILT, "training by several ranks needs loam-rank beside loam; it is built where configure finds MPI "
                                            "(Debian: libopenmpi-dev)");
    struct child *c = mem_zalloc(sizeof *c);
    enum loam_status s = c ? spawn(c, o, program, err) : err_set(err, LOAM_ENOMEM, "no memory");
    mem_free(program);
    if (s) {
        mem_free(c);
        return s;
    }
    while (c->out >= 0 || c->said >= 0) {
        struct pollfd p[2] = {{c->out, POLLIN, 0}, {c->said, POLLIN, 0}};
        if (poll(p, 2, TICK_MS) > 0) {
            if (p[0].revents)
                drain(c, &c->out, hooks);
            if (p[1].revents)
                drain(c, &c->said, hooks);
        }
        if (!asked && hooks && hooks->ask && hooks->ask(hooks->ctx) != LM_GO_ON) {
            close(c->in); /* rank 0 sees it between two operations and saves */
            c->in = -1;
            asked = clock_mono_us();
        } else if (asked && clock_mono_us() - asked > PATIENCE_US) {
            kill(c->pid, SIGTERM);
            asked = UINT64_MAX - PATIENCE_US; /* once */
        }
    }
    int status = 0;
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (c->in >= 0)
        close(c->in);
    *seconds = (double)(clock_mono_us() - began) / 1e6;
    *tok_s = c->any && *seconds > 0 ? (double)(c->m.tokens - c->first_tokens) / *seconds : 0;
    if (asked)
        s = err_set(err, LOAM_ECANCEL, "training by %u ranks stopped at step %llu of %llu; started again it goes on there", o->ranks,
                    (unsigned long long)c->m.step, (unsigned long long)c->m.steps);
    else if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        reason(c, why, sizeof why);
        s = err_set(err, LOAM_EIO, "training by %u ranks ended at step %llu of %llu: %s; the run's last state is kept, and the same command goes on "
                    "from it", o->ranks, (unsigned long long)c->m.step, (unsigned long long)c->m.steps, *why ? why : "mpirun said nothing");
    }
    mem_free(c);
    return s;
}
