#include "base/log.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum where { TO_STDERR, TO_FILE, TO_NOWHERE };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static enum where where = TO_STDERR;
static enum log_level most = LOG_INFO;
static int fd = -1;
static char *file_path;
static size_t file_size;
static void (*hook)(void *, enum log_level, const char *, const char *, uint64_t);
static void *hook_ctx;
static unsigned hooks_running; /* calls of the hook under way */
static pthread_cond_t hooks_done = PTHREAD_COND_INITIALIZER;

const char *log_level_name(enum log_level l) {
    static const char *const names[] = {"error", "warn", "info", "debug"};
    return (unsigned)l < 4 ? names[l] : "?";
}

void log_level_set(enum log_level m) {
    pthread_mutex_lock(&lock);
    most = m;
    pthread_mutex_unlock(&lock);
}

void log_hook(void (*fn)(void *, enum log_level, const char *, const char *, uint64_t), void *ctx) {
    pthread_mutex_lock(&lock);
    hook = fn;
    hook_ctx = ctx;
    while (hooks_running)
        pthread_cond_wait(&hooks_done, &lock);
    pthread_mutex_unlock(&lock);
}

static void close_locked(void) {
    if (fd >= 0)
        close(fd);
    fd = -1;
    mem_free(file_path);
    file_path = NULL;
    file_size = 0;
}

static int open_append(const char *path, size_t *size) {
    int f = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat st;
    *size = f >= 0 && fstat(f, &st) == 0 ? (size_t)st.st_size : 0;
    return f;
}

enum loam_status log_to_file(const char *path, struct err *err) {
    size_t size;
    int f = open_append(path, &size);
    if (f < 0)
        return err_errno(err, LOAM_EIO, "open log %s", path);
    char *copy = mem_strdup(path);
    if (!copy) {
        close(f);
        return err_set(err, LOAM_ENOMEM, "no memory for the log's path");
    }
    pthread_mutex_lock(&lock);
    close_locked();
    fd = f;
    file_path = copy;
    file_size = size;
    where = TO_FILE;
    pthread_mutex_unlock(&lock);
    return LOAM_OK;
}

void log_to_stderr(void) {
    pthread_mutex_lock(&lock);
    close_locked();
    where = TO_STDERR;
    pthread_mutex_unlock(&lock);
}

void log_to_nowhere(void) {
    pthread_mutex_lock(&lock);
    close_locked();
    where = TO_NOWHERE;
    pthread_mutex_unlock(&lock);
}

int log_descriptor(void) {
    return where == TO_FILE ? fd : where == TO_STDERR ? STDERR_FILENO : -1;
}

void log_close(void) {
    log_to_stderr();
}

/* Moves the full file aside and starts a new one; if that fails the old one goes on growing, since losing the
 * log is worse. */
static void rotate_locked(void) {
    char old[4096];
    int n = snprintf(old, sizeof old, "%s.1", file_path);
    if (n < 0 || (size_t)n >= sizeof old || rename(file_path, old) != 0)
        return;
    size_t size;
    int f = open_append(file_path, &size);
    if (f < 0)
        return;
    close(fd);
    fd = f;
    file_size = size;
}

void log_line(enum log_level level, const char *room, const char *fmt, ...) {
    pthread_mutex_lock(&lock);
    int drop = level > most;
    pthread_mutex_unlock(&lock);
    if (drop)
        return;
    char raw[LOG_LINE_MAX], text[LOG_LINE_MAX], when[24], line[LOG_LINE_MAX + 64];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    size_t len = (size_t)n < sizeof raw ? (size_t)n : sizeof raw - 1;
    text_clean_cut(text, sizeof text, raw, len);
    uint64_t now = clock_unix_ms();
    clock_format(when, now);
    n = snprintf(line, sizeof line, "%s %-5s %s: %s\n", when, log_level_name(level), room, text);
    if (n < 0)
        return;
    len = (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;

    pthread_mutex_lock(&lock);
    int f = where == TO_FILE ? fd : where == TO_STDERR ? 2 : -1;
    if (where == TO_FILE && file_size + len > LOG_FILE_MAX) {
        rotate_locked();
        f = fd;
    }
    if (f >= 0) {
        ssize_t w = write(f, line, len); /* a full disk must not stop the node: the line is lost */
        if (w > 0 && where == TO_FILE)
            file_size += (size_t)w;
    }
    void (*h)(void *, enum log_level, const char *, const char *, uint64_t) = hook;
    void *ctx = hook_ctx;
    hooks_running += h != NULL;
    pthread_mutex_unlock(&lock);
    if (!h)
        return;
    h(ctx, level, room, text, now);
    pthread_mutex_lock(&lock);
    if (!--hooks_running)
        pthread_cond_broadcast(&hooks_done);
    pthread_mutex_unlock(&lock);
}
