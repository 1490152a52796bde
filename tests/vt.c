#include "tests/vt.h"

#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RAW_MAX (4u << 20)

uint64_t vt_now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

#define ALIVE_MAX 16
static pid_t alive[ALIVE_MAX]; /* 0: free */

static void note(pid_t from, pid_t to) {
    for (int i = 0; i < ALIVE_MAX; i++)
        if (alive[i] == from) {
            alive[i] = to;
            return;
        }
}

void vt_kill_all(void) {
    for (int i = 0; i < ALIVE_MAX; i++)
        if (alive[i]) {
            kill(alive[i], SIGKILL);
            waitpid(alive[i], NULL, 0);
            alive[i] = 0;
        }
}

void vt_start(struct vt *v, int rows, int cols, struct fake *fake, int (*child)(void *arg), void *arg) {
    struct winsize ws = {(unsigned short)rows, (unsigned short)cols, 0, 0};
    *v = (struct vt){.rows = rows, .cols = cols, .fake = fake, .answer = true};
    v->raw = malloc(RAW_MAX);
    fflush(NULL);
    v->pid = forkpty(&v->fd, NULL, NULL, &ws);
    if (v->pid < 0)
        fail_msg("forkpty: %s", strerror(errno));
    if (!v->pid) {
        setenv("TZ", "UTC", 1);
        if (fake) {
            close(fake->listen);
            for (int i = 0; i < FAKE_CLIENTS; i++)
                if (fake->client[i].fd >= 0)
                    close(fake->client[i].fd);
        }
        for (int s = 1; s < 32; s++) /* not cmocka's handlers */
            if (s != SIGKILL && s != SIGSTOP)
                signal(s, SIG_DFL);
        _exit(child(arg));
    }
    note(0, v->pid);
    fcntl(v->fd, F_SETFL, O_NONBLOCK);
    fcntl(v->fd, F_SETFD, FD_CLOEXEC);
    v->term = vterm_new(rows, cols);
    vterm_set_utf8(v->term, 1);
    v->screen = vterm_obtain_screen(v->term);
    vterm_screen_enable_altscreen(v->screen, 1);
    vterm_screen_reset(v->screen, 1);
}

int vt_pump(struct vt *v, int ms) {
    struct pollfd p[2 + FAKE_CLIENTS];
    char b[16384], o[512];
    int n = v->fake ? fake_fds(v->fake, p + 1, 1 + FAKE_CLIENTS) : 0;
    p[0] = (struct pollfd){v->dead ? -1 : v->fd, POLLIN, 0};
    if (poll(p, (nfds_t)n + 1, ms) <= 0)
        return v->dead ? -1 : 0;
    if (n)
        fake_serve(v->fake);
    if (v->dead || !p[0].revents)
        return v->dead ? -1 : 1;
    ssize_t k = read(v->fd, b, sizeof b);
    if (k <= 0) {
        v->dead = true;
        return -1;
    }
    v->bytes += (size_t)k;
    if (v->raw_n + (size_t)k <= RAW_MAX) {
        memcpy(v->raw + v->raw_n, b, (size_t)k);
        v->raw_n += (size_t)k;
    }
    vterm_input_write(v->term, b, (size_t)k);
    size_t out = vterm_output_read(v->term, o, sizeof o);
    if (out && v->answer && write(v->fd, o, out) < 0)
        return 1;
    return 1;
}

static size_t put(char *out, uint32_t u) {
    if (u < 0x80) {
        out[0] = (char)u;
        return 1;
    }
    if (u < 0x800) {
        out[0] = (char)(0xc0 | u >> 6);
        out[1] = (char)(0x80 | (u & 63));
        return 2;
    }
    if (u < 0x10000) {
        out[0] = (char)(0xe0 | u >> 12);
        out[1] = (char)(0x80 | (u >> 6 & 63));
        out[2] = (char)(0x80 | (u & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | u >> 18);
    out[1] = (char)(0x80 | (u >> 12 & 63));
    out[2] = (char)(0x80 | (u >> 6 & 63));
    out[3] = (char)(0x80 | (u & 63));
    return 4;
}

void vt_row(struct vt *v, int y, char *out, size_t cap) {
    size_t n = 0, keep = 0;
    for (int x = 0; x < v->cols && n + 32 < cap; x++) {
        VTermScreenCell c;
        vterm_screen_get_cell(v->screen, (VTermPos){y, x}, &c);
        if (c.chars[0] == (uint32_t)-1)
            continue;
        if (!c.chars[0]) /* never written: the rest of the array is not set */
            out[n++] = ' ';
        for (int i = 0; i < VTERM_MAX_CHARS_PER_CELL && c.chars[0] && c.chars[i]; i++)
            n += put(out + n, c.chars[i]);
        if (c.chars[0] && c.chars[0] != ' ')
            keep = n;
    }
    out[keep] = 0;
}

char *vt_text(struct vt *v) {
    static char all[1 << 20];
    size_t n = 0;
    for (int y = 0; y < v->rows && n + 8192 < sizeof all; y++) {
        vt_row(v, y, all + n, 8000);
        n += strlen(all + n);
        all[n++] = '\n';
    }
    all[n] = 0;
    return all;
}

int vt_find(struct vt *v, const char *s) {
    char t[8192];
    for (int y = 0; y < v->rows; y++) {
        vt_row(v, y, t, sizeof t);
        if (strstr(t, s))
            return y;
    }
    return -1;
}

static void give_up(struct vt *v, const char *what, const char *s) {
    fprintf(stderr, "---- %s \"%s\"; the screen (%dx%d)%s:\n%s----\n", what, s, v->cols, v->rows, v->dead ? ", program gone" : "", vt_text(v));
    fail_msg("%s \"%s\"", what, s);
}

int vt_wait(struct vt *v, const char *s) {
    uint64_t end = vt_now_us() + VT_LIMIT_MS * 1000ull;
    for (int y;;) {
        if ((y = vt_find(v, s)) >= 0)
            return y;
        if (vt_now_us() > end || vt_pump(v, 50) < 0) {
            if ((y = vt_find(v, s)) >= 0)
                return y;
            give_up(v, "never came:", s);
        }
    }
}

void vt_wait_gone(struct vt *v, const char *s) {
    uint64_t end = vt_now_us() + VT_LIMIT_MS * 1000ull;
    while (vt_find(v, s) >= 0)
        if (vt_now_us() > end || vt_pump(v, 50) < 0)
            give_up(v, "never went:", s);
}

bool vt_until(struct vt *v, bool (*cond)(struct vt *v, void *arg), void *arg) {
    uint64_t end = vt_now_us() + VT_LIMIT_MS * 1000ull;
    while (!cond(v, arg))
        if (vt_now_us() > end || vt_pump(v, 20) < 0)
            return cond(v, arg);
    return true;
}

void vt_keys(struct vt *v, const char *s) {
    size_t n = strlen(s), at = 0;
    while (at < n) {
        ssize_t k = write(v->fd, s + at, n - at);
        if (k > 0)
            at += (size_t)k;
        else if (errno != EAGAIN || vt_pump(v, 50) < 0)
            break;
    }
}

void vt_resize(struct vt *v, int rows, int cols) {
    struct winsize ws = {(unsigned short)rows, (unsigned short)cols, 0, 0};
    v->rows = rows;
    v->cols = cols;
    vterm_set_size(v->term, rows, cols);
    ioctl(v->fd, TIOCSWINSZ, &ws);
}

void vt_quiet(struct vt *v, int ms) {
    while (vt_pump(v, ms) > 0) {
    }
}

int vt_exit(struct vt *v) {
    uint64_t end = vt_now_us() + VT_LIMIT_MS * 1000ull;
    while (v->pid) {
        vt_pump(v, 10);
        if (waitpid(v->pid, &v->status, WNOHANG) == v->pid) {
            note(v->pid, 0);
            v->pid = 0;
            while (!v->dead && vt_pump(v, 0) > 0) {
            }
            break;
        }
        if (vt_now_us() > end)
            give_up(v, "the program did not end", "");
    }
    return WIFEXITED(v->status) ? WEXITSTATUS(v->status) : -WTERMSIG(v->status);
}

bool vt_raw_has(struct vt *v, const char *s) {
    return memmem(v->raw, v->raw_n, s, strlen(s)) != NULL;
}

void vt_end(struct vt *v) {
    if (v->pid) {
        kill(v->pid, SIGKILL);
        waitpid(v->pid, &v->status, 0);
        note(v->pid, 0);
    }
    close(v->fd);
    vterm_free(v->term);
    free(v->raw);
    *v = (struct vt){.fd = -1};
}
