/* Plain mode: lines that are only ever appended, for screen readers, logs and pipes. No cursor movement, no colour, no
 * box; what changes is said in words, and not more often than one can listen. */
#include "tui/app.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/banned.h"

#define QUEUE_MAX (256u << 10)  /* bytes not yet taken by the other side; beyond it news is dropped */
#define SAY_AGAIN_MS 10000      /* between two lines about the same changing thing */
#define FLUSH_MS 1000           /* the farewell waits this long for a stalled reader */

struct plain {
    struct tui *t;
    uv_poll_t in;
    uv_timer_t again;
    uv_signal_t sig[3];
    int handles;
    bool polled, tty, ended, asking, in_answer, lost;
    struct buf out, line;
    struct termios saved;
    bool echo_off;
    struct {
        char text[256];
        uint64_t at_ms;
    } said[TOPICS];
    void (*done)(void *arg);
};

static void on_again(uv_timer_t *h);

static void push(struct plain *p) {
    while (p->out.len) {
        struct pollfd f = {p->t->o.out, POLLOUT, 0};
        if (poll(&f, 1, 0) != 1 || !(f.revents & (POLLOUT | POLLERR | POLLHUP)))
            break;
        ssize_t k = write(p->t->o.out, p->out.data, p->out.len < 256 ? p->out.len : 256);
        if (k > 0) {
            buf_consume(&p->out, (size_t)k);
        } else if (k < 0 && errno != EAGAIN && errno != EINTR) {
            buf_reset(&p->out);
            tui_end(p->t, LOAM_ECANCEL, "the reader is gone");
            return;
        } else if (k < 0 && errno == EAGAIN) {
            break;
        }
    }
    if (p->out.len && !p->t->closing)
        uv_timer_start(&p->again, on_again, 50, 0);
}

static void on_again(uv_timer_t *h) {
    push(h->data);
}

static void add(struct plain *p, const char *s, size_t n) {
    if (p->out.len + n > QUEUE_MAX || text_clean(&p->out, s, n, TEXT_LINES, NULL))
        p->lost = true;
    else if (p->lost && !buf_str(&p->out, "(some lines were left out: the reader is slow)\n", NULL))
        p->lost = false;
    push(p);
}

void plain_say(struct tui *t, const char *fmt, ...) {
    char s[4096];
    va_list ap;
    if (t->plain->in_answer) { /* not into the middle of an answer's line */
        t->plain->in_answer = false;
        add(t->plain, "\n", 1);
    }
    va_start(ap, fmt);
    int n = vsnprintf(s, sizeof s, fmt, ap);
    va_end(ap);
    if (n > 0)
        add(t->plain, s, strlen(s));
}

void plain_topic(struct tui *t, enum topic_id id) {
    char s[256];
    const struct pane *d = NULL;
    for (int i = 0; i < PANES; i++)
        if (panes[i]->topic == id)
            d = panes[i];
    if (!d || !d->line || !d->line(t, s, sizeof s) || !strcmp(s, t->plain->said[id].text))
        return;
    uint64_t now = clock_mono_us() / 1000, before = t->plain->said[id].at_ms;
    bool state = strcspn(s, ",") != strcspn(t->plain->said[id].text, ",") || strncmp(s, t->plain->said[id].text, strcspn(s, ","));
    if (before && !state && now - before < SAY_AGAIN_MS)
        return;
    snprintf(t->plain->said[id].text, sizeof t->plain->said[id].text, "%s", s);
    t->plain->said[id].at_ms = now ? now : 1;
    plain_say(t, "%s\n", s);
}

void plain_ask(struct tui *t, const json_t *e) {
    const char *ev = jstr(e, "event");
    if (!t->first_hello)
        return;
    if (!strcmp(ev, "start")) {
        plain_say(t, "question: %s\nanswer: ", jstr(e, "prompt"));
        t->plain->in_answer = true;
    } else if (!strcmp(ev, "token")) {
        add(t->plain, jstr(e, "text"), strlen(jstr(e, "text")));
        t->plain->in_answer = true;
    } else if (!strcmp(ev, "end")) {
        plain_say(t, "answer ends.\n");
    } else {
        plain_say(t, "error: %s\n", jstr(e, "error"));
    }
}

static void echo(struct plain *p, bool on) {
    if (!p->tty || p->echo_off == !on)
        return;
    struct termios m = p->saved;
    if (!on)
        m.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(p->t->o.in, TCSANOW, &m);
    p->echo_off = !on;
}

void plain_question(struct tui *t) {
    bool confirm = !strcmp(t->question.kind, "confirm"), secret = !strcmp(t->question.kind, "secret");
    t->plain->asking = true;
    if (secret) /* before it is asked: fast fingers answer at once */
        echo(t->plain, false);
    plain_say(t, "%s%s\n", t->question.text ? t->question.text : "", confirm ? " (yes or no)" : secret ? " (not shown)" : "");
}

static void take_line(struct plain *p, const char *s) {
    struct tui *t = p->t;
    if (p->asking) {
        bool yes = strcmp(t->question.kind, "confirm") || !strcmp(s, "y") || !strcmp(s, "yes");
        p->asking = false;
        echo(p, true);
        conn_call(t->conn, "answer", json_pack("{s:I, s:s?}", "id", (json_int_t)t->question.id, "value",
                                               yes ? (strcmp(t->question.kind, "confirm") ? s : "yes") : NULL), NULL, NULL);
        return;
    }
    if (p->tty && t->first_hello) { /* a person may want to pause what still runs */
        run_line(t, s, false);
    } else if (!buf_str(&t->script, s, NULL) && !buf_byte(&t->script, '\n', NULL)) {
        run_next(t);
    }
}

static void input(struct plain *p, const char *s, size_t n) {
    for (size_t i = 0; i < n && !p->t->closing; i++) {
        if (s[i] != '\n') {
            if (p->line.len < LINE_BYTES_MAX - 1 && s[i] != '\r' && buf_byte(&p->line, (uint8_t)s[i], NULL))
                return;
            continue;
        }
        char *l = mem_strdup(p->line.data ? (char *)p->line.data : "");
        mem_wipe(p->line.data, p->line.len);
        buf_reset(&p->line);
        if (l) {
            take_line(p, l);
            mem_wipe(l, strlen(l));
        }
        mem_free(l);
    }
}

/* No more lines will come: leave once what was asked for is done. */
void plain_idle(struct tui *t) {
    struct plain *p = t->plain;
    if (!p->ended || t->closing || t->script.len || !t->first_hello)
        return;
    for (int i = 0; i < RUNS_MAX; i++)
        if (t->run[i].call)
            return;
    tui_end(t, LOAM_OK, "");
}

static void on_in(uv_poll_t *h, int status, int events) {
    struct plain *p = h->data;
    char b[4096];
    (void)events;
    ssize_t n = status < 0 ? 0 : read(p->t->o.in, b, sizeof b);
    if (n > 0) {
        input(p, b, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        uv_poll_stop(&p->in);
        if (p->line.len)
            input(p, "\n", 1);
        p->ended = true;
        plain_idle(p->t);
    }
}

static void on_sig(uv_signal_t *h, int sig) {
    struct plain *p = h->data;
    tui_end(p->t, LOAM_ECANCEL, sig == SIGINT ? "interrupted" : sig == SIGHUP ? "the terminal hung up" : "terminated");
}

enum loam_status plain_open(struct tui *t, struct err *err) {
    struct plain *p = mem_zalloc(sizeof *p);
    struct stat st;
    if (!p)
        return err_set(err, LOAM_ENOMEM, "console");
    p->t = t;
    t->plain = p;
    buf_init(&p->out, 2 * QUEUE_MAX);
    buf_init(&p->line, LINE_BYTES_MAX);
    uv_timer_init(t->loop, &p->again);
    p->again.data = p;
    p->handles = 1;
    static const int sigs[3] = {SIGTERM, SIGINT, SIGHUP};
    for (int i = 0; i < 3; i++) {
        if (uv_signal_init(t->loop, &p->sig[i]))
            return err_set(err, LOAM_ENOMEM, "signals");
        p->sig[i].data = p;
        p->handles++;
        uv_signal_start(&p->sig[i], on_sig, sigs[i]);
    }
    p->tty = isatty(t->o.in) && !tcgetattr(t->o.in, &p->saved);
    if (!fstat(t->o.in, &st) && S_ISREG(st.st_mode)) { /* epoll knows no files: they are always ready anyway */
        char b[4096];
        for (ssize_t n; (n = read(t->o.in, b, sizeof b)) > 0;)
            if (buf_add(&t->script, b, (size_t)n, err))
                return LOAM_ELIMIT;
        p->ended = true;
        return LOAM_OK;
    }
    if (!uv_poll_init(t->loop, &p->in, t->o.in)) {
        p->polled = true;
        p->handles++;
        p->in.data = p;
        uv_poll_start(&p->in, UV_READABLE, on_in);
    } else { /* /dev/null and the like */
        p->ended = true;
    }
    return LOAM_OK;
}

static void closed(uv_handle_t *h) {
    struct plain *p = h->data;
    if (--p->handles)
        return;
    struct tui *t = p->t;
    void (*done)(void *) = p->done;
    buf_clear(&p->out);
    mem_wipe(p->line.data, p->line.len);
    buf_clear(&p->line);
    mem_free(p);
    t->plain = NULL;
    done(t);
}

void plain_close(struct tui *t, void (*done)(void *arg)) {
    struct plain *p = t->plain;
    p->done = done;
    echo(p, true);
    uint64_t until = clock_mono_us() + FLUSH_MS * 1000;
    while (p->out.len && clock_mono_us() < until) {
        struct pollfd f = {t->o.out, POLLOUT, 0};
        if (poll(&f, 1, 100) == 1)
            push(p);
    }
    int n = p->handles - 1 - p->polled;
    uv_close((uv_handle_t *)&p->again, closed);
    for (int i = 0; i < n; i++)
        uv_close((uv_handle_t *)&p->sig[i], closed);
    if (p->polled)
        uv_close((uv_handle_t *)&p->in, closed);
}
