#include "tui/screen.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "tui/theme.h"

#include <curses.h>
#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <term.h>
#include <termios.h>
#include <unistd.h>
#include <uv.h>
#include <wchar.h>

#include "base/banned.h"

#define FRAME_BYTES_MAX (16u << 20) /* a whole repaint of the largest frame with a colour change in every cell */
#define RESTORE_MAX 512
#define SYNC_MODE 2026 /* DEC private mode: hold the picture until the frame is whole */

enum { SIG_WINCH, SIG_TERM, SIG_HUP, SIG_INT, SIG_TSTP, SIG_CONT, SIGS };
static const int signals[SIGS] = {SIGWINCH, SIGTERM, SIGHUP, SIGINT, SIGTSTP, SIGCONT};

struct screen {
    struct screen_events ev;
    uv_loop_t *loop;
    int fd;           /* the terminal, non-blocking, ours */
    int flags;        /* the descriptor's flags before, when it could not be opened again; -1: it was */
    int mem;          /* memfd that ncurses writes to */
    FILE *mem_file;
    SCREEN *curses;
    uv_poll_t poll;
    uv_timer_t esc;
    uv_signal_t sig[SIGS];
    int handles;      /* not yet closed */
    struct termios raw;
    struct keydec dec;
    struct buf out;   /* bytes not yet taken by the terminal: out.data[sent ..] */
    size_t sent;
    uint64_t row[FRAME_ROWS_MAX]; /* a hash of what curses was told of each row; it compares cells itself */
    int shown_rows, shown_cols;
    int rows, cols;
    bool ascii, ascii_locale, may_colour, colour, modern, mouse, inside, sync, closing, gone, in_poll;
    char fallback[96];
    FILE *cast;
    uint64_t cast_start, frames, skipped, bytes;
    struct role_look look[ST_ROLES];
    void (*done)(void *arg);
    void *done_arg;
};

/* What the crash handler needs: plain memory, filled before it is armed. */
static struct {
    volatile sig_atomic_t armed;
    int fd;
    struct termios saved;
    char bytes[RESTORE_MAX];
    size_t n;
    struct sigaction before[5];
} way_back;
static const int fatal[5] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

/* Only async-signal-safe calls. A stalled terminal gets a fifth of a second, then the process goes on dying. */
static void restore_now(void) {
    if (!way_back.armed)
        return;
    way_back.armed = 0;
    for (size_t at = 0; at < way_back.n;) {
        ssize_t k = write(way_back.fd, way_back.bytes + at, way_back.n - at);
        if (k > 0) {
            at += (size_t)k;
            continue;
        }
        struct pollfd p = {way_back.fd, POLLOUT, 0};
        if ((k < 0 && errno != EAGAIN && errno != EINTR) || poll(&p, 1, 200) <= 0)
            break;
    }
    tcsetattr(way_back.fd, TCSANOW, &way_back.saved);
}

static void on_fatal(int sig) {
    restore_now();
    for (int i = 0; i < 5; i++)
        sigaction(fatal[i], &way_back.before[i], NULL);
    raise(sig); /* delivered when this handler returns: the default action, core and all */
}

static void arm(void) {
    static unsigned char stack[32768]; /* SIGSTKSZ is no constant any more */
    stack_t ss = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&ss, NULL);
    struct sigaction a = {.sa_handler = on_fatal, .sa_flags = SA_ONSTACK};
    sigemptyset(&a.sa_mask);
    for (int i = 0; i < 5; i++)
        sigaction(fatal[i], &a, &way_back.before[i]);
    loam_abort_hook = restore_now;
    way_back.armed = 1;
}

static void disarm(void) {
    for (int i = 0; i < 5; i++)
        sigaction(fatal[i], &way_back.before[i], NULL);
    loam_abort_hook = NULL;
    way_back.armed = 0;
}

static void back_add(const char *s) {
    size_t n = s && s != (char *)-1 ? strlen(s) : 0;
    if (n <= RESTORE_MAX - way_back.n) {
        memcpy(way_back.bytes + way_back.n, s ? s : "", n);
        way_back.n += n;
    }
}

bool screen_usable(int in, int out, const char *name) {
    if (!name || !*name)
        name = getenv("TERM");
    return isatty(in) && isatty(out) && name && strcmp(name, "dumb");
}

void screen_size(const struct screen *t, int *rows, int *cols) {
    *rows = t->rows;
    *cols = t->cols;
}
bool screen_ascii(const struct screen *t) {
    return t->ascii;
}
const char *screen_fallback(const struct screen *t) {
    return t->fallback[0] ? t->fallback : NULL;
}
bool screen_busy(const struct screen *t) {
    return t->sent < t->out.len;
}
uint64_t screen_frames(const struct screen *t) {
    return t->frames;
}
uint64_t screen_skipped(const struct screen *t) {
    return t->skipped;
}
uint64_t screen_bytes(const struct screen *t) {
    return t->bytes;
}

static void read_size(struct screen *t) {
    struct winsize w = {0};
    t->rows = 24;
    t->cols = 80;
    if (!ioctl(t->fd, TIOCGWINSZ, &w) && w.ws_row && w.ws_col) {
        t->rows = w.ws_row > FRAME_ROWS_MAX ? FRAME_ROWS_MAX : w.ws_row;
        t->cols = w.ws_col > FRAME_COLS_MAX ? FRAME_COLS_MAX : w.ws_col;
        if (t->rows * t->cols > FRAME_CELLS_MAX)
            t->rows = FRAME_CELLS_MAX / t->cols;
    }
}

/* ---- the cast ----------------------------------------------------------------------------------------------------- */

static void cast_write(struct screen *t, char kind, const uint8_t *p, size_t n) {
    if (!t->cast)
        return;
    fprintf(t->cast, "[%.6f, \"%c\", \"", (double)(clock_mono_us() - t->cast_start) / 1e6, kind);
    for (size_t i = 0; i < n; i++) { /* our own output is valid UTF-8; JSON needs only these escapes */
        if (p[i] == '"' || p[i] == '\\')
            fprintf(t->cast, "\\%c", p[i]);
        else if (p[i] < 0x20 || p[i] == 0x7f)
            fprintf(t->cast, "\\u%04x", p[i]);
        else
            putc(p[i], t->cast);
    }
    fputs("\"]\n", t->cast);
}

/* ---- output ------------------------------------------------------------------------------------------------------- */

static void on_poll(uv_poll_t *p, int status, int events);

static void watch(struct screen *t) {
    if (!t->closing && !t->gone)
        uv_poll_start(&t->poll, UV_READABLE | UV_DISCONNECT | (screen_busy(t) ? UV_WRITABLE : 0), on_poll);
}

static void gone(struct screen *t, enum loam_status why, const char *text) {
    if (t->gone || t->closing)
        return;
    t->gone = true;
    if (t->handles)
        uv_poll_stop(&t->poll);
    t->ev.gone(t->ev.arg, why, text);
}

static void push(struct screen *t) {
    while (screen_busy(t)) {
        ssize_t k = write(t->fd, t->out.data + t->sent, t->out.len - t->sent);
        if (k > 0) {
            t->sent += (size_t)k;
            t->bytes += (uint64_t)k;
        } else if (k < 0 && errno == EINTR) {
            continue;
        } else {
            if (k < 0 && errno != EAGAIN)
                gone(t, LOAM_ECANCEL, "the terminal is gone");
            break;
        }
    }
}

/* Moves what curses drew from the memfd to t->out. */
static void collect(struct screen *t, bool sync) {
    off_t n = lseek(t->mem, 0, SEEK_CUR);
    if (n <= 0)
        return;
    size_t start = t->out.len;
    if (sync && buf_str(&t->out, "\033[?2026h", NULL))
        return;
    if (!buf_reserve(&t->out, (size_t)n + 16, NULL)) {
        ssize_t k = pread(t->mem, t->out.data + t->out.len, (size_t)n, 0);
        if (k > 0)
            t->out.len += (size_t)k;
        t->out.data[t->out.len] = 0;
    }
    if (sync && buf_str(&t->out, "\033[?2026l", NULL))
        t->out.len = start;
    if (lseek(t->mem, 0, SEEK_SET) < 0 || ftruncate(t->mem, 0) < 0)
        t->out.len = start;
    if (t->out.len > start) /* without memory there may be no bytes at all */
        cast_write(t, 'o', t->out.data + start, t->out.len - start);
}

static void set_cell(cchar_t *out, const struct screen *t, const struct cell *c) {
    wchar_t w[4] = {0};
    int n = 0;
    for (int i = 0; i < 2 && c->ch[i]; i++)
        if (!i || wcwidth((wchar_t)c->ch[i]) == 0)
            w[n++] = (wchar_t)c->ch[i];
    /* Where libc and our table disagree about a width, the picture would shift: draw a mark instead. */
    if (c->ch[0] > 0x7e && wcwidth(w[0]) != c->width) {
        w[0] = '?';
        w[1] = 0;
    }
    const struct role_look *l = &t->look[c->style & ST_ROLE];
    unsigned at = l->attrs | c->style;
    attr_t a = (at & ST_BOLD ? A_BOLD : 0) | (at & ST_REVERSE ? A_REVERSE : 0) | (at & ST_UNDERLINE ? A_UNDERLINE : 0) |
               (at & ST_DIM ? A_DIM : 0);
    setcchar(out, w, a, (short)(t->colour && l->fg8 >= 0 ? 1 + (c->style & ST_ROLE) : t->colour && l->fg256 >= 0 && COLORS >= 256 ? 1 + (c->style & ST_ROLE) : 0),
             NULL);
}

static uint64_t row_hash(const struct cell *c, int n) {
    uint64_t h = 0x9e3779b97f4a7c15u;
    for (int i = 0; i < n; i++) {
        h = (h ^ ((uint64_t)c[i].ch[0] << 32 | (uint32_t)c[i].style << 16 | c[i].width)) * 0xff51afd7ed558ccdu;
        h = (h ^ c[i].ch[1] ^ h >> 29) * 0xc4ceb9fe1a85ec53u;
    }
    return h;
}

bool screen_frame(struct screen *t, const struct frame *f, bool full) {
    if (t->closing || t->gone)
        return false;
    if (screen_busy(t)) {
        t->skipped++;
        return false;
    }
    buf_reset(&t->out);
    t->sent = 0;
    full = full || t->shown_rows != f->rows || t->shown_cols != f->cols;
    t->shown_rows = f->rows;
    t->shown_cols = f->cols;
    if (full)
        clearok(curscr, TRUE);
    int h = LINES < f->rows ? LINES : f->rows, w = COLS < f->cols ? COLS : f->cols;
    for (int y = 0; y < h; y++) {
        const struct cell *now = f->cells + y * f->cols;
        uint64_t hash = row_hash(now, w);
        if (hash == t->row[y] && !full)
            continue;
        t->row[y] = hash;
        cchar_t row[FRAME_COLS_MAX];
        int n = 0;
        for (int x = 0; x < w; x++)
            if (now[x].width)
                set_cell(&row[n++], t, &now[x]);
        mvwadd_wchnstr(newscr, y, 0, row, n);
    }
    curs_set(f->cursor ? 1 : 0);
    wmove(newscr, f->cur_y < h ? f->cur_y : h - 1, f->cur_x < w ? f->cur_x : w - 1);
    doupdate();
    collect(t, t->sync);
    t->frames++;
    push(t);
    watch(t);
    return true;
}

/* ---- input -------------------------------------------------------------------------------------------------------- */

static void give(struct screen *t, const struct key *k) {
    if (k->code == TK_MODE) {
        if (k->x == SYNC_MODE)
            t->sync = k->y == 1 || k->y == 2;
        return;
    }
    if (!t->closing && !t->gone)
        t->ev.key(t->ev.arg, k);
}

static void on_esc(uv_timer_t *h) {
    struct screen *t = h->data;
    struct key k;
    if (key_flush(&t->dec, &k)) {
        give(t, &k);
        if (!t->closing && !t->gone)
            t->ev.keys_end(t->ev.arg);
    }
}

static void on_poll(uv_poll_t *p, int status, int events) {
    struct screen *t = p->data;
    if (status < 0) {
        gone(t, LOAM_ECANCEL, "the terminal is gone");
        return;
    }
    if (events & UV_WRITABLE && screen_busy(t)) {
        push(t);
        if (!screen_busy(t)) {
            watch(t);
            t->ev.drained(t->ev.arg);
        }
    }
    if (t->gone || t->closing)
        return;
    if (events & UV_READABLE) {
        uint8_t b[4096];
        ssize_t n = read(t->fd, b, sizeof b);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            gone(t, LOAM_ECANCEL, "the terminal is gone");
            return;
        }
        struct key k;
        for (ssize_t i = 0; i < n && !t->closing && !t->gone; i++)
            if (key_feed(&t->dec, &k, b[i]))
                give(t, &k);
        if (t->closing || t->gone)
            return;
        if (key_pending(&t->dec))
            uv_timer_start(&t->esc, on_esc, TK_ESC_MS, 0);
        else
            uv_timer_stop(&t->esc);
        if (n > 0)
            t->ev.keys_end(t->ev.arg);
        return;
    }
    if (events & UV_DISCONNECT)
        gone(t, LOAM_ECANCEL, "the terminal is gone");
}

/* ---- signals ------------------------------------------------------------------------------------------------------ */

static void enter(struct screen *t) {
    tcsetattr(t->fd, TCSANOW, &t->raw);
    if (t->modern) {
        enum loam_status s = buf_str(&t->out, "\033[?2004h", NULL);
        if (!s && t->mouse)
            s = buf_str(&t->out, "\033[?1000h\033[?1006h", NULL);
        if (!s && !t->sync)
            s = buf_str(&t->out, "\033[?2026$p", NULL); /* asked, never guessed from the environment */
        (void)s;
        push(t);
    }
}

/* Curses sets the scrolling region for the size it found in terminfo (24 lines), and never again: in a taller terminal its line
 * deletions below that would be ignored, and what it believes to be blank would not be. It moves the cursor: the next frame must be
 * a whole one. */
static void whole_region(struct screen *t) {
    const char *s = change_scroll_region ? tparm(change_scroll_region, 0, t->rows - 1) : NULL;
    if (!s || buf_str(&t->out, s, NULL))
        return;
    cast_write(t, 'o', (const uint8_t *)s, strlen(s));
    push(t);
    watch(t);
}

void screen_suspend(struct screen *t) {
    if (t->inside || t->closing || t->gone)
        return;
    restore_now();
    kill(0, SIGSTOP);
    /* here again: somebody sent SIGCONT */
    way_back.armed = 1;
    buf_reset(&t->out);
    t->sent = 0;
    struct buf *b = &t->out;
    if (enter_ca_mode && buf_str(b, enter_ca_mode, NULL))
        return;
    enter(t);
    read_size(t);
    whole_region(t);
    t->ev.resized(t->ev.arg, t->rows, t->cols);
}

static void on_signal(uv_signal_t *h, int sig) {
    struct screen *t = h->data;
    if (t->closing || t->gone)
        return;
    switch (sig) {
    case SIGWINCH:
        read_size(t);
        resizeterm(t->rows, t->cols);
        whole_region(t);
        wresize(stdscr, 1, 1);
        if (t->cast) {
            char s[32];
            int n = snprintf(s, sizeof s, "%dx%d", t->cols, t->rows);
            cast_write(t, 'r', (uint8_t *)s, (size_t)n);
        }
        /* also when the size is the same: that is how dtach and abduco ask for a repaint */
        t->ev.resized(t->ev.arg, t->rows, t->cols);
        break;
    case SIGTSTP:
        screen_suspend(t);
        break;
    case SIGCONT:
        if (way_back.armed) { /* stopped by SIGSTOP: the shell may have changed the modes */
            tcsetattr(t->fd, TCSANOW, &t->raw);
            t->ev.resized(t->ev.arg, t->rows, t->cols);
        }
        break;
    case SIGHUP:
        gone(t, LOAM_ECANCEL, "the terminal hung up");
        break;
    default:
        gone(t, LOAM_ECANCEL, sig == SIGINT ? "interrupted" : "terminated");
    }
}

/* ---- life --------------------------------------------------------------------------------------------------------- */

static bool modern_name(const char *n) {
    static const char *const known[] = {"xterm",   "screen", "tmux",    "rxvt",   "alacritty", "kitty", "foot", "wezterm",
                                        "ghostty", "contour", "st-",    "konsole", "gnome",    "vte",   "putty", "iterm",
                                        "mintty",  "mlterm"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strncmp(n, known[i], strlen(known[i])))
            return true;
    return false;
}

static bool same_terminal(int in, int out) {
    char a[256], b[256];
    return !ttyname_r(in, a, sizeof a) && !ttyname_r(out, b, sizeof b) && !strcmp(a, b);
}

static void free_screen(struct screen *t) {
    if (t->cast)
        fclose(t->cast);
    if (t->curses)
        delscreen(t->curses);
    if (t->mem_file)
        fclose(t->mem_file);
    else if (t->mem >= 0)
        close(t->mem);
    if (t->flags >= 0)
        fcntl(t->fd, F_SETFL, t->flags);
    if (t->fd >= 0)
        close(t->fd);
    buf_clear(&t->out);
    mem_free(t);
}

/* Takes a theme: colours where there may be some, else the same marks without. */
static void dress(struct screen *t, const struct role_look *look) {
    t->colour = t->may_colour && look != theme_find("mono");
    memcpy(t->look, t->colour ? look : theme_find("mono"), sizeof t->look);
    for (short r = 0; t->colour && r < ST_ROLES; r++)
        init_pair((short)(r + 1), COLORS >= 256 ? look[r].fg256 : look[r].fg8, -1);
}

static void way_back_build(struct screen *t) {
    way_back.n = 0;
    if (t->modern) /* CAN breaks off a half-sent sequence; then every mode of ours ends */
        back_add("\030\033[?2026l\033[?2004l");
    if (t->modern && t->mouse)
        back_add("\033[?1006l\033[?1000l");
    back_add(exit_attribute_mode);
    back_add(tiparm(cursor_address ? cursor_address : "", t->rows - 1, 0));
    back_add(exit_ca_mode);
    back_add(cursor_normal);
    if (!exit_ca_mode)
        back_add("\r\n");
}

bool screen_restyle(struct screen *t, const char *theme, bool ascii, bool mouse) {
    const struct role_look *look = theme ? theme_find(theme) : NULL;
    if (theme && !look)
        return false;
    if (look)
        dress(t, look);
    t->ascii = t->ascii_locale || ascii;
    if (t->modern && mouse != t->mouse && !buf_str(&t->out, mouse ? "\033[?1000h\033[?1006h" : "\033[?1006l\033[?1000l", NULL)) {
        t->mouse = mouse;
        way_back_build(t);
        push(t);
        watch(t);
    }
    return true;
}

enum loam_status screen_open(struct screen **out, struct uv_loop_s *loop, const struct screen_options *o,
                           const struct screen_events *ev, struct err *err) {
    *out = NULL;
    const struct role_look *look = theme_find(o->theme);
    if (!look)
        return err_set(err, LOAM_EINVAL, "no theme \"%s\" (auto, dark, light, mono)", o->theme);
    if (!isatty(o->in) || !isatty(o->out))
        return err_set(err, LOAM_EINVAL, "standard input and output must be a terminal here; --plain writes lines");
    struct screen *t = mem_zalloc(sizeof *t);
    if (!t)
        return err_set(err, LOAM_ENOMEM, "terminal");
    t->ev = *ev;
    t->loop = loop;
    t->fd = t->mem = t->flags = -1;
    t->inside = o->inside;
    t->mouse = o->mouse;
    buf_init(&t->out, FRAME_BYTES_MAX);
    memcpy(t->look, look, sizeof t->look);

    enum loam_status s;
    char path[256];
    if (same_terminal(o->in, o->out) && !ttyname_r(o->in, path, sizeof path))
        t->fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (t->fd < 0) { /* no right to open it (su, sudo): share the descriptor, and give its flags back later */
        t->fd = fcntl(o->in, F_DUPFD_CLOEXEC, 3);
        if (t->fd < 0 || (t->flags = fcntl(t->fd, F_GETFL)) < 0 || fcntl(t->fd, F_SETFL, t->flags | O_NONBLOCK) < 0) {
            s = err_errno(err, LOAM_EIO, "terminal");
            goto fail;
        }
    }
    if (tcgetattr(t->fd, &way_back.saved)) {
        s = err_errno(err, LOAM_EIO, "terminal modes");
        goto fail;
    }
    t->raw = way_back.saved;
    cfmakeraw(&t->raw);
    read_size(t);
    t->ascii_locale = strcmp(nl_langinfo(CODESET), "UTF-8");
    t->ascii = t->ascii_locale || o->ascii;

    t->mem = memfd_create("frame", MFD_CLOEXEC);
    if (t->mem < 0 || !(t->mem_file = fdopen(t->mem, "w"))) {
        s = err_errno(err, LOAM_EIO, "memory for frames");
        goto fail;
    }
    for (int i = 0; i < SIGS; i++) { /* before newterm, which takes only the signals that nobody has */
        if (uv_signal_init(loop, &t->sig[i])) {
            s = err_set(err, LOAM_ENOMEM, "signals");
            goto fail_handles;
        }
        t->sig[i].data = t;
        t->handles++;
        uv_signal_start(&t->sig[i], on_signal, signals[i]);
    }
    const char *name = o->name && *o->name ? o->name : getenv("TERM");
    const char *tries[] = {name, "xterm", "vt100", "ansi"};
    use_env(FALSE);
    for (int i = 0; i < 4 && !t->curses; i++)
        if (tries[i] && *tries[i] && (t->curses = newterm((char *)(uintptr_t)tries[i], t->mem_file, stdin))) {
            t->modern = modern_name(tries[i]);
            if (i) {
                char c[40];
                text_clean_cut(c, sizeof c, name ? name : "", name ? strlen(name) : 0);
                snprintf(t->fallback, sizeof t->fallback, "TERM=%s is not known here: drawn as %s", c, tries[i]);
            }
        }
    if (!t->curses) {
        s = err_set(err, LOAM_EUNSUPPORTED, "no terminal description fits TERM=%s; --plain works everywhere", name ? name : "");
        goto fail_handles;
    }
    resizeterm(t->rows, t->cols);
    wresize(stdscr, 1, 1); /* not drawn on: frames go straight to newscr, which is a third of curses' memory less */
    typeahead(-1);
    nonl();
    const char *nc = getenv("NO_COLOR");
    t->may_colour = !o->no_color && !(nc && *nc) && has_colors() && start_color() == OK && use_default_colors() == OK;
    dress(t, look);

    way_back.fd = t->fd;
    way_back_build(t);

    if (o->cast) {
        int fd = open(o->cast, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0 || !(t->cast = fdopen(fd, "w"))) {
            s = err_errno(err, LOAM_EIO, "cast file %s", o->cast);
            goto fail_handles;
        }
        t->cast_start = clock_mono_us();
        char c[40];
        text_clean_cut(c, sizeof c, name ? name : "", name ? strlen(name) : 0);
        for (char *p = c; *p; p++)
            if (*p == '"' || *p == '\\')
                *p = '_';
        fprintf(t->cast, "{\"version\": 2, \"width\": %d, \"height\": %d, \"timestamp\": %llu, \"env\": {\"TERM\": \"%s\"}}\n",
                t->cols, t->rows, (unsigned long long)(clock_unix_ms() / 1000), c);
    }
    uv_timer_init(loop, &t->esc);
    t->esc.data = t;
    t->handles++;
    if (uv_poll_init(loop, &t->poll, t->fd)) {
        s = err_set(err, LOAM_EIO, "the terminal cannot be polled");
        goto fail_handles;
    }
    t->poll.data = t;
    t->handles++;
    arm();
    doupdate(); /* how curses begins */
    collect(t, false);
    enter(t);
    whole_region(t);
    watch(t);
    *out = t;
    return LOAM_OK;

fail_handles:
    if (t->handles) { /* the handles need a turn of the loop before the memory may go */
        *out = NULL;
        screen_close(t, NULL, NULL);
        return s;
    }
fail:
    free_screen(t);
    return s;
}

static void on_closed(uv_handle_t *h) {
    struct screen *t = h->data;
    if (--t->handles)
        return;
    void (*done)(void *) = t->done;
    void *arg = t->done_arg;
    free_screen(t);
    if (done)
        done(arg);
}

void screen_close(struct screen *t, void (*done)(void *arg), void *arg) {
    if (t->closing)
        return;
    bool was_armed = way_back.armed;
    t->closing = true;
    t->done = done;
    t->done_arg = arg;
    if (was_armed) {
        restore_now();
        disarm();
        if (t->cast)
            cast_write(t, 'o', (uint8_t *)way_back.bytes, way_back.n);
    }
    int n = t->handles, k = 0;
    for (int i = 0; i < SIGS && k < n; i++, k++)
        uv_close((uv_handle_t *)&t->sig[i], on_closed);
    if (k < n) {
        k++;
        uv_close((uv_handle_t *)&t->esc, on_closed);
    }
    if (k < n)
        uv_close((uv_handle_t *)&t->poll, on_closed);
}
