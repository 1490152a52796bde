/* The console: its life, its loop, who gets which key, how the screen is put together. */
#include "tui/app.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "node/protocol.h"

#include <locale.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/banned.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif

#define FRAME_MS 33  /* between two frames that data caused: 30 a second */
#define GATHER_MS 15 /* topics of one moment come as several messages: wait for them, draw once */
#define FIRST_MS 1   /* the first picture with data should not wait */
#define RETRY_MS 1000
#define STATE_FILE_MAX 4096
#define TITLE_MAX 24 /* of a job in the farewell: its line fits 80 columns */

const char *const topic_names[TOPICS] = {"node",      "chain",    "train",  "attribution", "rewards",
                                         "validator", "datanets", "models", "jobs",        "keys"};

static void draw_now(struct tui *t);

/* ---- small services ------------------------------------------------------------------------------------------------ */

void tui_status(struct tui *t, unsigned style, const char *fmt, ...) {
    char raw[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    text_clean_cut(t->status, sizeof t->status, raw, n < 0 ? 0 : strlen(raw));
    t->status_style = style;
    if (t->plain)
        plain_say(t, "%s%s\n", style == ST_BAD ? "error: " : style == ST_WARN ? "note: " : "", t->status);
    tui_dirty(t);
}

static void on_frame(uv_timer_t *h) {
    draw_now(h->data);
}

void tui_dirty(struct tui *t) {
    t->dirty = true;
    if (!t->screen || t->closing || uv_is_active((uv_handle_t *)&t->frame_timer))
        return;
    uint64_t since = (clock_mono_us() - t->last_frame_us) / 1000;
    uint64_t wait = !t->shown_data ? FIRST_MS : since + GATHER_MS >= FRAME_MS ? GATHER_MS : FRAME_MS - since;
    uv_timer_start(&t->frame_timer, on_frame, wait, 0);
}

void tui_focus(struct tui *t, enum pane_id p) {
    t->focus = p;
    tui_dirty(t);
}

/* ---- the picture --------------------------------------------------------------------------------------------------- */

static void draw_tabs(struct tui *t, const struct view *v) {
    static const char *const brief[PANES] = {"Chain", "Train", "Ask", "Attrib", "Reward", "Valid", "Nets", "Models", "Log"};
    int wide = 6;
    for (int p = 0; p < PANES; p++)
        wide += (int)strlen(panes[p]->title) + 4;
    int x = 0;
    bool full = wide + 12 <= v->w;
    if (v->w >= 64 || full) {
        for (int p = 0; p < PANES; p++) {
            bool on = p == (int)t->focus;
            x += view_printf(v, 0, x, on ? ST_FOCUS : ST_NORMAL, on ? "[%d %s]" : full ? " %d %s " : " %d%s ", p + 1,
                             full || on ? panes[p]->title : brief[p]);
        }
    } else {
        x += view_printf(v, 0, x, ST_FOCUS, "[%d %s]", t->focus + 1, panes[t->focus]->title);
        x += view_text(v, 0, x, ST_SOFT, " 1-9 panes");
    }
    const char *say = !conn_is_up(t->conn) ? "no node" : !strcmp(jstr(t->topic[TOP_NODE], "state"), "stopping") ? "stopping" : "";
    char right[64];
    long long jobs = (long long)jint(t->topic[TOP_NODE], "jobs", 0);
    if (!*say && jobs)
        snprintf(right, sizeof right, "%lld job%s", jobs, jobs == 1 ? "" : "s");
    else
        snprintf(right, sizeof right, "%s", say);
    int w = (int)strlen(right);
    if (w && x + w + 1 < v->w)
        view_text(v, 0, v->w - w - 1, *say ? ST_BAD | ST_BOLD : ST_SOFT, right);
}

static void draw_bottom(struct tui *t, const struct view *v) {
    int x = 0;
    char right[160] = "";
    const struct run *r = run_last(t);
    if (r && r->total)
        snprintf(right, sizeof right, "%.20s %s %.0f%%", r->line ? r->line : "", r->detail,
                 100.0 * (double)r->done / (double)r->total);
    int rw = text_columns(right, strlen(right));
    if (t->over == OV_FILTER) {
        x += view_text(v, 0, 0, ST_TITLE, "/");
        x += view_text(v, 0, x, ST_NORMAL, t->list[t->focus].filter);
        view_cursor(v, 0, x, true);
        return;
    }
    if (t->status[0]) {
        x = view_textn(v, 0, 0, t->status_style, t->status, strlen(t->status), rw && rw + 20 < v->w ? v->w - rw - 3 : -1);
    } else {
        const char *next = jstr(t->topic[TOP_NODE], "next");
        if (!rw && *next) {
            snprintf(right, sizeof right, "next: :%.100s", next);
            rw = text_columns(right, strlen(right));
        }
        if (t->topic[TOP_KEYS] && !jcount(t->topic[TOP_KEYS], "list") && !jcount(t->topic[TOP_MODELS], "list") && v->w >= 60) {
            char k[64]; /* nothing is here yet: where to begin */
            keymap_keys(&t->keys, ACT_FORMS, k, sizeof k);
            k[strcspn(k, " ")] = 0;
            x += view_text(v, 0, x, ST_ACCENT | ST_BOLD, "Begin here: ");
            x += view_text(v, 0, x, ST_TITLE, k) + 1;
            x += view_text(v, 0, x, ST_NORMAL, "lists what to do, in order") + 3;
            rw = 0;
        }
        static const struct {
            enum action a;
            const char *say;
        } hint[] = {{ACT_HELP, "help"},      {ACT_PROMPT, "command"}, {ACT_FORMS, "forms"},       {ACT_DETACH, "detach"},
                    {ACT_MAXIMISE, "maximise"}, {ACT_OVERVIEW, "overview"}, {ACT_FILTER, "filter"}, {ACT_NEXT, "next"}};
        int room = rw && rw + 50 < v->w ? v->w - rw - 2 : v->w; /* the first four are worth more than what stands right */
        for (size_t i = 0; i < sizeof hint / sizeof *hint && x + 14 < room; i++) {
            char k[64];
            keymap_keys(&t->keys, hint[i].a, k, sizeof k);
            k[strcspn(k, " ")] = 0;
            x += view_text(v, 0, x, ST_TITLE, k) + 1;
            x += view_text(v, 0, x, ST_SOFT, hint[i].say) + 2;
        }
    }
    if (rw && x + rw + 2 < v->w)
        view_text(v, 0, v->w - rw - 1, ST_ACCENT, right);
}

static void draw_pane(struct tui *t, const struct view *all, enum pane_id p) {
    struct rect r = t->layout.pane[p];
    if (r.h < 1 || r.w < 1)
        return;
    bool focus = p == t->focus && t->over != OV_ASK, small = t->layout.small >> p & 1;
    struct view v = view_sub(all, r.y, r.x, r.h, r.w);
    if (r.h >= 2) {
        unsigned st = p == t->focus ? ST_FOCUS : ST_TITLE;
        int x = 0;
        if (p == t->focus) {
            view_glyph(&v, 0, x++, st, G_FOCUS);
            x += view_printf(&v, 0, x, st, "%d %s ", p + 1, panes[p]->title);
        } else {
            view_glyph(&v, 0, x++, ST_SOFT, G_HLINE);
            x += view_printf(&v, 0, x, st, "%d %s ", p + 1, panes[p]->title);
        }
        view_rule(&v, 0, x, r.w - x, ST_SOFT, G_HLINE);
        if (focus)
            view_cursor(&v, 0, 0, true);
        v = view_sub(&v, 1, 0, r.h - 1, r.w);
    }
    if (r.x > 0)
        for (int y = 0; y < r.h; y++)
            view_glyph(all, r.y + y, r.x - 1, ST_SOFT, G_VLINE);
    pane_draw(t, p, &v, small, focus);
}

void tui_compose(struct tui *t) {
    frame_clear(&t->frame);
    struct view all = view_all(&t->frame);
    layout_compute(&t->layout, t->frame.rows, t->frame.cols, t->mode, t->focus);
    if (t->layout.tabs.h) {
        struct view tabs = view_sub(&all, 0, 0, 1, all.w);
        draw_tabs(t, &tabs);
    }
    for (int p = 0; p < PANES; p++)
        if (p != (int)t->focus)
            draw_pane(t, &all, (enum pane_id)p);
    draw_pane(t, &all, t->focus); /* last: it owns the cursor */
    struct rect b = t->layout.prompt;
    struct view row = b.h ? view_sub(&all, b.y, b.x, b.h, b.w) : view_sub(&all, all.h - 1, 0, 1, all.w);
    struct view body = view_sub(&all, 0, 0, b.h ? all.h - 1 : all.h, all.w);
    if (t->over == OV_PROMPT) {
        prompt_draw(t, &body, &row);
        return;
    }
    overlay_draw(t, &body);
    if (b.h)
        draw_bottom(t, &row);
}

static void draw_now(struct tui *t) {
    if (!t->dirty || !t->screen || t->closing || screen_busy(t->screen))
        return; /* busy: `drained` comes here again */
    uv_timer_stop(&t->frame_timer);
    tui_compose(t);
    if (screen_frame(t->screen, &t->frame, t->full)) {
        t->dirty = t->full = false;
        bool before = t->shown_data;
        t->shown_data = t->shown_data || t->topic[TOP_KEYS]; /* the last of a snapshot */
#ifdef __GLIBC__
        if (t->own_loop && t->shown_data && !before)
            malloc_trim(0); /* what taking the snapshot needed */
#else
        (void)before;
#endif
        t->last_frame_us = clock_mono_us();
    }
}

/* ---- the node ------------------------------------------------------------------------------------------------------ */

static void on_table(void *arg, uint64_t id, const json_t *result, const json_t *error) {
    struct tui *t = arg;
    (void)id;
    (void)error;
    if (t->closing || !json_is_array(result))
        return;
    void (*release)(void *);
    json_get_alloc_funcs(NULL, &release);
    json_t *old = t->table;
    t->table = NULL;
    if (t->table_text)
        release(t->table_text);
    t->table_text = json_dumps(result, JSON_COMPACT);
    form_table_changed(t);
    json_decref(old);
    tui_dirty(t);
}

/* The options of the console, kept by the node; what the command line said goes before. */
void tui_options_told(void *arg, uint64_t id, const json_t *result, const json_t *error) {
    struct tui *t = arg;
    static const char *const own[] = {"console.keys", "console.plot", "console.theme", "console.ascii", "console.mouse"};
    const char *theme = NULL;
    bool ascii = t->o.ascii, mouse = t->o.mouse, look = false;
    (void)id;
    (void)error;
    if (t->closing)
        return;
    json_decref(t->options);
    t->options = json_array();
    for (size_t i = 0; i < json_array_size(result); i++) {
        const json_t *o = json_array_get(result, i);
        const char *name = jstr(o, "name"), *v = jstr(o, "value");
        if (form_sets(name))
            json_array_append(t->options, (json_t *)(uintptr_t)o);
        size_t k = 0;
        while (k < sizeof own / sizeof *own && strcmp(own[k], name))
            k++;
        if (k == sizeof own / sizeof *own || (!t->told[k] && !strcmp(jstr(o, "source"), "default")))
            continue; /* not the console's; or never set: what the console remembers stands */
        t->told[k] = true;
        struct err e;
        bool yes = !strcmp(v, "true") || !strcmp(v, "on") || !strcmp(v, "yes") || !strcmp(v, "1");
        if (k == 0 && !t->o.keys) {
            keymap_init(&t->keys);
            if (keymap_remap(&t->keys, v, &e))
                tui_status(t, ST_BAD, "option console.keys: %s", e.text);
        } else if (k == 1 && !t->o.plot)
            plot_parse(&t->plot, v);
        else if (k == 2 && !t->o.theme)
            theme = v;
        else if (k == 3)
            ascii = ascii || yes;
        else if (k == 4)
            mouse = mouse || yes;
        look |= k >= 2;
    }
    if (t->screen && look) {
        if (!screen_restyle(t->screen, theme, ascii, mouse))
            tui_status(t, ST_BAD, "option console.theme: no theme \"%s\"", theme);
        t->frame.ascii = screen_ascii(t->screen);
        t->full = true;
        tui_dirty(t);
    }
}

static void on_hello(void *arg, uint64_t id, const json_t *result, const json_t *error) {
    struct tui *t = arg;
    (void)id;
    if (t->closing)
        return;
    if (error) {
        char s[256];
        snprintf(s, sizeof s, "%s%s%s", jstr(error, "message"), *jstr(error, "data.remedy") ? "; " : "", jstr(error, "data.remedy"));
        tui_end(t, jint(error, "code", 0) == status_rpc(LOAM_EVERSION) ? LOAM_EVERSION : LOAM_EPROTO, s);
        return;
    }
    if (!result)
        return;
    if (jint(result, "protocol", -1) != LOAM_PROTOCOL) {
        char s[256];
        snprintf(s, sizeof s,
                 "the node (version %s, pid %lld) speaks protocol %lld, this console (version %s) %d; end it with `loam stop` "
                 "and start it again, or use the console of its version",
                 jstr(result, "version"), (long long)jint(result, "pid", 0), (long long)jint(result, "protocol", -1),
                 PACKAGE_VERSION, LOAM_PROTOCOL);
        tui_end(t, LOAM_EVERSION, s);
        return;
    }
    if (jint(t->hello, "pid", 0) != jint(result, "pid", -1)) /* another node, that counts from one again */
        memset(t->stream_seq, 0, sizeof t->stream_seq);
    json_decref(t->hello);
    t->hello = json_incref((json_t *)(uintptr_t)result);
    t->away = t->ending = false;
    if (t->first_hello)
        tui_status(t, ST_GOOD, "connected again");
    else if (t->plain)
        plain_say(t, "attached to the node (pid %lld); type commands, `help` lists them, `detach` leaves\n",
                  (long long)jint(result, "pid", 0));
    t->first_hello = true;
    if (t->plain) { /* lines that were there before the node answered */
        run_next(t);
        plain_idle(t);
    }
    tui_dirty(t);
}

static void on_up(void *arg) {
    struct tui *t = arg;
    conn_call(t->conn, "hello",
              json_pack("{s:i, s:s, s:s, s:b}", "protocol", LOAM_PROTOCOL, "version", PACKAGE_VERSION, "client", "console", "readonly", t->o.readonly), on_hello, t);
    json_t *list = json_array();
    for (int i = 0; i < TOPICS; i++)
        json_array_append_new(list, json_string(topic_names[i]));
    json_array_append_new(list, json_string("log"));
    json_array_append_new(list, json_string("ask"));
    json_array_append_new(list, json_string("heads"));
    conn_call(t->conn, "topic.subscribe", json_pack("{s:o}", "topics", list), NULL, NULL);
    conn_call(t->conn, "command.table", NULL, on_table, t);
    conn_call(t->conn, "option.list", NULL, tui_options_told, t);
    tui_dirty(t);
}

static void on_topic(struct tui *t, const json_t *p) {
    const char *name = jstr(p, "name");
    json_t *v = (json_t *)(uintptr_t)json_object_get(p, "value");
    for (int i = 0; i < TOPICS; i++)
        if (!strcmp(topic_names[i], name)) {
            json_decref(t->topic[i]);
            t->topic[i] = json_is_object(v) ? json_incref(v) : NULL;
            if (i == TOP_REWARDS)
                fmt_names(jget(t->topic[i], "names"));
            if (i == TOP_ATTRIBUTION) {
                attribution_changed(t);
                ask_on_attribution(t);
            }
            if (t->plain)
                plain_topic(t, (enum topic_id)i);
            tui_dirty(t);
            return;
        }
    if (!json_is_object(v))
        return;
    /* streams are numbered: what came before (a link that was down brings the newest ones again) is not taken twice */
    int stream = !strcmp(name, "log") ? 0 : !strcmp(name, "ask") ? 1 : 2;
    int64_t seq = jint(p, "seq", 0), last = t->stream_seq[stream];
    if (seq && seq <= last)
        return;
    if (seq && last && seq > last + 1 && stream == 0)
        log_local(t, "warn", "(some lines were left out: this console was too slow)");
    t->stream_seq[stream] = seq;
    if (!strcmp(name, "log")) {
        log_add(t, v);
        if (t->plain && (!strcmp(jstr(v, "level"), "error") || !strcmp(jstr(v, "level"), "warn")))
            plain_say(t, "%s: %s\n", jstr(v, "level"), jstr(v, "text"));
    } else if (!strcmp(name, "ask")) {
        if (t->plain)
            plain_ask(t, v);
        ask_on_event(t, v);
        const struct turn *n = t->turns ? &t->turn[t->turns - 1] : NULL;
        /* the answer stands: ask whose rows it came from (only for what was asked here) */
        if (n && !strcmp(jstr(v, "event"), "end") && *n->answer && !n->source && t->asked > 0 && !t->o.readonly) {
            t->asked--;
            run_argv(t, json_pack("[s, s]", "attribute", n->answer), "attribute", true);
        }
    } else if (!strcmp(name, "heads")) {
        if (!t->heads)
            t->heads = json_array();
        /* a head comes again when more is known of it */
        for (size_t i = 0; i < json_array_size(t->heads) && i < 8; i++)
            if (!strcmp(jstr(json_array_get(t->heads, i), "hash"), jstr(v, "hash")) && *jstr(v, "hash")) {
                json_object_update(json_array_get(t->heads, i), v);
                tui_dirty(t);
                return;
            }
        json_array_insert(t->heads, 0, v);
        if (json_array_size(t->heads) > HEADS_KEPT)
            json_array_remove(t->heads, HEADS_KEPT);
    }
    tui_dirty(t);
}

static void on_notify(void *arg, const char *method, json_t *p) {
    struct tui *t = arg;
    if (t->closing || !json_is_object(p))
        return;
    if (!strcmp(method, "topic"))
        on_topic(t, p);
    else if (!strcmp(method, "out"))
        run_out(t, p);
    else if (!strcmp(method, "progress"))
        run_progress(t, p);
    else if (!strcmp(method, "ask"))
        question_ask(t, p);
    else if (!strcmp(method, "started"))
        run_started(t, p);
}

static void connect_again(uv_timer_t *h);
static void on_down(void *arg, enum loam_status why, const char *text);

static enum loam_status connect_now(struct tui *t, struct err *err) {
    struct conn_events ev = {t, on_up, on_down, on_notify};
    int fd = t->o.fd;
    t->o.fd = -1;
    return conn_open(&t->conn, t->loop, t->o.socket, fd, &ev, err);
}

static void conn_gone(void *arg) {
    struct tui *t = arg;
    if (!t->closing)
        uv_timer_start(&t->retry, connect_again, RETRY_MS, 0);
}

static void connect_again(uv_timer_t *h) {
    struct tui *t = h->data;
    struct err e;
    if (!t->conn && connect_now(t, &e))
        tui_end(t, e.code, e.text);
}

static void on_down(void *arg, enum loam_status why, const char *text) {
    struct tui *t = arg;
    if (t->closing)
        return;
    if (!t->first_hello || !t->o.socket || t->plain) {
        char s[300];
        snprintf(s, sizeof s, t->first_hello ? "%s" : "no node answers at %s: %s",
                 t->first_hello ? text : t->o.socket ? t->o.socket : "the given stream", text);
        tui_end(t, why, s);
        return;
    }
    if (t->over == OV_QUESTION)
        overlay_close(t);
    run_lost(t);
    t->away = true;
    if (t->ending)
        tui_status(t, ST_WARN, "the node has ended; `loam` in a shell starts it again; trying again every second");
    else
        tui_status(t, ST_BAD, "%s; trying again every second (its jobs resume with it; `loam` in a shell starts one)", text);
    struct conn *c = t->conn;
    t->conn = NULL;
    conn_close(c, conn_gone, t);
}

/* ---- keys ---------------------------------------------------------------------------------------------------------- */

static void save_layout(struct tui *t) {
    if (!t->data_layout)
        return;
    char s[512];
    int n = snprintf(s, sizeof s, "layout %s\npane %s\nplot %s\n", layout_name(t->mode), panes[t->focus]->name,
                     t->plot == PLOT_BLOCK ? "block" : t->plot == PLOT_BRAILLE ? "braille" : "ascii");
    for (int p = 0; p < PANES && n < (int)sizeof s - 32; p++)
        if (t->tab[p])
            n += snprintf(s + n, sizeof s - (size_t)n, "%s %d\n", panes[p]->name, t->tab[p]);
    struct err e;
    enum loam_status ignored = file_write(t->data_layout, s, (size_t)n, 0600, &e); /* a layout lost is no error worth a word */
    (void)ignored;
}

static void load_layout(struct tui *t) {
    struct buf b = BUF_INIT(STATE_FILE_MAX);
    if (t->data_layout && file_exists(t->data_layout) && !file_read(&b, t->data_layout, NULL)) {
        char k[32], v[32];
        const char *p = (const char *)b.data;
        for (int used; p && *p && sscanf(p, "%31s %31s%n", k, v, &used) == 2; p += used) {
            for (int i = 0; i < LAYOUT_MODES && !strcmp(k, "layout"); i++)
                if (!strcmp(layout_name((enum layout_mode)i), v))
                    t->mode = (enum layout_mode)i;
            for (int i = 0; i < PANES && !strcmp(k, "pane"); i++)
                if (!strcmp(panes[i]->name, v))
                    t->focus = (enum pane_id)i;
            for (int i = 0; i < PANES; i++) /* which of its lists a pane shows */
                if (!strcmp(panes[i]->name, k) && panes[i]->n_lists)
                    t->tab[i] = (int)strtoul(v, NULL, 10) % panes[i]->n_lists;
            if (!strcmp(k, "plot") && !t->o.plot)
                plot_parse(&t->plot, v);
        }
    }
    buf_clear(&b);
}

static void maximise(struct tui *t) {
    if (t->mode == LAYOUT_ONE) {
        t->mode = t->before_one;
    } else {
        t->before_one = t->mode;
        t->mode = LAYOUT_ONE;
    }
    t->dirty = true;
}

static void act(struct tui *t, enum action a) {
    t->status[0] = 0;
    t->dirty = true;
    if (pane_act(t, t->focus, a))
        return;
    switch (a) {
    case ACT_HELP: overlay_open(t, OV_HELP); break;
    case ACT_PROMPT: prompt_open(t, ""); break;
    case ACT_FORMS: form_menu(t); break;
    case ACT_DETACH: tui_end(t, LOAM_OK, ""); break;
    case ACT_NEXT: tui_focus(t, (t->focus + 1) % PANES); break;
    case ACT_PREVIOUS: tui_focus(t, (t->focus + PANES - 1) % PANES); break;
    case ACT_PANE1:
    case ACT_PANE2:
    case ACT_PANE3:
    case ACT_PANE4:
    case ACT_PANE5:
    case ACT_PANE6:
    case ACT_PANE7:
    case ACT_PANE8:
    case ACT_PANE9:
        if (t->focus == (enum pane_id)(a - ACT_PANE1) && t->mode == LAYOUT_OVERVIEW)
            maximise(t);
        tui_focus(t, (enum pane_id)(a - ACT_PANE1));
        break;
    case ACT_OVERVIEW: t->mode = LAYOUT_OVERVIEW; break;
    case ACT_MAXIMISE: maximise(t); break;
    case ACT_LAYOUT:
        t->mode = (t->mode + 1) % LAYOUT_MODES;
        tui_status(t, ST_NORMAL, "layout: %s", layout_name(t->mode));
        break;
    case ACT_OPEN: /* nothing to open in it: look closer */
        if (t->mode == LAYOUT_OVERVIEW)
            maximise(t);
        break;
    case ACT_BACK:
        if (t->mode == LAYOUT_ONE)
            maximise(t);
        break;
    case ACT_FILTER: overlay_open(t, OV_FILTER); break;
    case ACT_EXPORT: {
        char s[64];
        snprintf(s, sizeof s, "export %s.csv", panes[t->focus]->name);
        prompt_open(t, s);
        break;
    }
    case ACT_OUTPUT:
        if (t->output.len)
            overlay_open(t, OV_OUTPUT);
        else
            tui_status(t, ST_NORMAL, "no command has said anything yet");
        break;
    case ACT_JOBS: run_line(t, "job list", false); break;
    case ACT_REDRAW: t->full = true; break;
    case ACT_SUSPEND:
        if (!t->o.inside)
            screen_suspend(t->screen);
        break;
    default: break;
    }
}

static void on_mouse(struct tui *t, const struct key *k) {
    unsigned b = k->button & 0xc3;
    if (k->button & 0x100)
        return;
    for (int p = 0; p < PANES; p++) {
        struct rect r = t->layout.pane[p];
        if (k->y < r.y || k->y >= r.y + r.h || k->x < r.x || k->x >= r.x + r.w)
            continue;
        if (b == 0)
            tui_focus(t, (enum pane_id)p);
        else if (b == 64 || b == 65)
            pane_act(t, (enum pane_id)p, b == 64 ? ACT_UP : ACT_DOWN);
    }
    tui_dirty(t);
}

static void on_key(void *arg, const struct key *k) {
    struct tui *t = arg;
    if (t->closing)
        return;
    t->last_key_us = clock_mono_us();
    if (k->code == TK_MOUSE) {
        if (t->over == OV_NONE)
            on_mouse(t, k);
        return;
    }
    if (overlay_key(t, k))
        return;
    if (k->code == TK_PASTE_BEGIN || k->code == TK_PASTE_END)
        return;
    enum action a = keymap_find(&t->keys, k, (int)t->focus);
    if (a) {
        act(t, a);
    } else {
        char n[32];
        key_text(n, k);
        tui_status(t, ST_NORMAL, "%s does nothing here; ? shows the keys", n);
    }
}

static void on_keys_end(void *arg) {
    draw_now(arg); /* the echo waits for nothing */
}

static void on_resized(void *arg, int rows, int cols) {
    struct tui *t = arg;
    if (frame_resize(&t->frame, rows, cols, NULL))
        return;
    t->frame.ascii = screen_ascii(t->screen);
    t->full = true;
    t->dirty = true;
    /* at once, unless it is a storm: then at the frame rate */
    uint64_t since = (clock_mono_us() - t->last_frame_us) / 1000;
    uv_timer_start(&t->frame_timer, on_frame, since >= FRAME_MS ? 0 : FRAME_MS - since, 0);
}

static void on_drained(void *arg) {
    struct tui *t = arg;
    if (t->dirty)
        draw_now(t);
}

static void on_gone(void *arg, enum loam_status why, const char *text) {
    tui_end(arg, why, text);
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */

void tui_options_init(struct tui_options *o) {
    *o = (struct tui_options){.fd = -1, .in = 0, .out = 1};
}

static void say(int fd, const char *fmt, ...) LOAM_PRINTF(2, 3);
static void say(int fd, const char *fmt, ...) {
    char s[1024], clean[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(s, sizeof s - 1, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    text_clean_cut(clean, sizeof clean - 1, s, strlen(s));
    size_t k = strlen(clean);
    clean[k++] = '\n';
    ssize_t w = write(fd, clean, k);
    (void)w;
}

/* What goes on, and how to end it. */
static void farewell(struct tui *t) {
    int fd = t->o.out;
    if (t->how != LOAM_OK) {
        if (t->how_text[0] && t->own_loop)
            return; /* tui_run's caller says it */
    }
    if (t->o.inside || t->how != LOAM_OK)
        return;
    const json_t *n = t->topic[TOP_NODE], *jobs = jget(t->topic[TOP_JOBS], "list");
    long long pid = (long long)jint(t->hello, "pid", jint(n, "pid", 0));
    if (t->away) {
        say(fd, "No node answers now%s: its jobs go on when it is started again.", t->ending ? ", it was ended" : "");
        say(fd, "Start it: loam");
        return;
    }
    say(fd, "Detached. The node (pid %lld) goes on.", pid);
    int going = 0;
    for (size_t i = 0; i < json_array_size(jobs); i++) {
        const json_t *j = json_array_get(jobs, i);
        const char *s = jstr(j, "state");
        if (strcmp(s, "running") && strcmp(s, "paused") && strcmp(s, "waiting"))
            continue;
        double total = jnum(j, "total", 0);
        char part[32] = "";
        if (total > 0)
            snprintf(part, sizeof part, ", %.0f%%", 100 * jnum(j, "done", 0) / total);
        const char *title = jstr(j, "title");
        int cut = text_columns(title, strlen(title)) > TITLE_MAX ? TITLE_MAX : (int)strlen(title);
        while (cut > 0 && (title[cut] & 0xc0) == 0x80)
            cut--;
        say(fd, "  job %lld %s%s: %.*s%s   (end it: loam job cancel %lld)", (long long)jint(j, "id", 0), s, part, cut, title,
            title[cut] ? "..." : "", (long long)jint(j, "id", 0));
        going++;
    }
    if (!going)
        say(fd, "  no job is under way%s", jbool(n, "started_by_console") ? "; it was started by a console and ends by itself when nothing is left to do" : "");
    say(fd, "Come back: loam    End it: loam stop");
}

static void free_tui(struct tui *t) {
    fmt_names(NULL);
    for (int i = 0; i < TOPICS; i++)
        json_decref(t->topic[i]);
    json_decref(t->hello);
    if (t->over == OV_FORM || t->form.n)
        form_free(t);
    json_decref(t->table);
    if (t->table_text) {
        void (*release)(void *);
        json_get_alloc_funcs(NULL, &release);
        release(t->table_text);
    }
    json_decref(t->heads);
    json_decref(t->methods);
    json_decref(t->options);
    for (int i = 0; i < t->kept_n; i++)
        json_decref(t->kept[i].curve);
    json_decref(t->prompt.found);
    for (int i = 0; i < LOG_KEPT; i++)
        mem_free(t->log[i].text);
    for (int i = 0; i < t->turns; i++) {
        mem_free(t->turn[i].prompt);
        mem_free(t->turn[i].error);
        buf_clear(&t->turn[i].text);
        json_decref(t->turn[i].source);
    }
    run_lost(t);
    line_free(&t->ask);
    line_free(&t->prompt.line);
    line_free(&t->question.line);
    mem_free(t->question.text);
    history_free(&t->prompt.history);
    buf_clear(&t->output);
    buf_clear(&t->script);
    frame_free(&t->frame);
    mem_free(t->data_history);
    mem_free(t->data_layout);
    mem_free(t);
}

static void one_closed(struct tui *t) {
    if (--t->handles)
        return;
    farewell(t);
    void (*ended)(void *, enum loam_status, const char *) = t->ended;
    void *arg = t->ended_arg;
    enum loam_status how = t->how;
    char text[sizeof t->how_text];
    memcpy(text, t->how_text, sizeof text);
    free_tui(t);
    if (ended)
        ended(arg, how, text);
}

static void part_closed(void *arg) {
    one_closed(arg);
}

static void timer_closed(uv_handle_t *h) {
    one_closed(h->data);
}

void tui_end(struct tui *t, enum loam_status how, const char *text) {
    if (t->closing)
        return;
    t->closing = true;
    t->how = how;
    snprintf(t->how_text, sizeof t->how_text, "%s", text ? text : "");
    if (t->first_hello)
        save_layout(t);
    t->handles = 2 + (t->screen != NULL) + (t->conn != NULL) + (t->plain != NULL);
    uv_close((uv_handle_t *)&t->frame_timer, timer_closed);
    uv_close((uv_handle_t *)&t->retry, timer_closed);
    if (t->screen)
        screen_close(t->screen, part_closed, t);
    if (t->plain)
        plain_close(t, part_closed);
    if (t->conn)
        conn_close(t->conn, part_closed, t);
}

void tui_close(struct tui *t) {
    tui_end(t, LOAM_ECANCEL, "ended");
}

enum loam_status tui_open(struct tui **out, struct uv_loop_s *loop, const struct tui_options *o,
                          void (*ended)(void *arg, enum loam_status how, const char *text), void *arg, struct err *err) {
    *out = NULL;
    struct tui *t = mem_zalloc(sizeof *t);
    if (!t)
        return err_set(err, LOAM_ENOMEM, "console");
    t->loop = loop;
    t->o = *o;
    if (o->plain || !screen_usable(o->in, o->out, o->term))
        t->o.plain = true;
    t->span = -1;
    t->prompt.pick = -1;
    buf_init(&t->output, OUTPUT_MAX);
    buf_init(&t->script, 2u << 20);
    line_init(&t->ask);
    line_init(&t->prompt.line);
    line_init(&t->question.line);
    history_init(&t->prompt.history);
    keymap_init(&t->keys);
    t->mode = LAYOUT_OVERVIEW;

    enum loam_status s = o->keys ? keymap_remap(&t->keys, o->keys, err) : LOAM_OK;
    if (!s && o->plot && !plot_parse(&t->plot, o->plot))
        s = err_set(err, LOAM_EINVAL, "no plot \"%s\" (block, braille, ascii)", o->plot);
    if (!s && o->data) {
        t->data_history = mem_printf("%s/console.history", o->data);
        t->data_layout = mem_printf("%s/console.layout", o->data);
        if (!t->data_history || !t->data_layout)
            s = err_set(err, LOAM_ENOMEM, "console");
        struct err e;
        if (!s && history_load(&t->prompt.history, t->data_history, &e))
            log_local(t, "warn", e.text);
        if (!s)
            load_layout(t);
    }
    if (!s && o->pane) {
        int p = 0;
        while (p < PANES && strcmp(panes[p]->name, o->pane))
            p++;
        if (p < PANES) {
            t->focus = (enum pane_id)p;
            t->before_one = t->mode == LAYOUT_ONE ? LAYOUT_OVERVIEW : t->mode;
            t->mode = LAYOUT_ONE;
        } else if (!strcmp(o->pane, "overview")) {
            t->mode = LAYOUT_OVERVIEW;
        } else {
            s = err_set(err, LOAM_EINVAL, "no pane \"%s\" (overview, chain, train, ask, attribution, rewards, validator, datanets, "
                                          "models, log)", o->pane);
        }
    }
    if (s) {
        free_tui(t);
        return s;
    }
    uv_timer_init(loop, &t->frame_timer);
    uv_timer_init(loop, &t->retry);
    t->frame_timer.data = t->retry.data = t;
    if (t->o.plain) {
        s = plain_open(t, err);
    } else {
        struct screen_options so = {.in = o->in, .out = o->out, .name = o->term, .theme = o->theme, .cast = o->cast,
                                    .no_color = o->no_color, .ascii = o->ascii, .mouse = o->mouse, .inside = o->inside};
        struct screen_events ev = {t, on_key, on_keys_end, on_resized, on_drained, on_gone};
        s = screen_open(&t->screen, loop, &so, &ev, err);
        if (s == LOAM_EUNSUPPORTED)
            s = plain_open(t, err);
    }
    if (!s && t->screen) {
        int rows, cols;
        screen_size(t->screen, &rows, &cols);
        s = frame_resize(&t->frame, rows, cols, err);
        t->frame.ascii = screen_ascii(t->screen);
        if (screen_fallback(t->screen))
            tui_status(t, ST_WARN, "%s", screen_fallback(t->screen));
        t->full = t->dirty = true;
    }
    if (!s)
        s = connect_now(t, err);
    if (s) { /* the handles need a turn of the loop before the memory may go */
        tui_end(t, s, err ? err->text : "");
        return s;
    }
    t->ended = ended;
    t->ended_arg = arg;
    if (t->screen)
        draw_now(t); /* the first frame waits for nobody */
    *out = t;
    return LOAM_OK;
}

struct ending {
    enum loam_status how;
    char text[256];
};

static void run_ended(void *arg, enum loam_status how, const char *text) {
    struct ending *e = arg;
    e->how = how;
    snprintf(e->text, sizeof e->text, "%s", text);
}

enum loam_status tui_run(const struct tui_options *o, struct err *err) {
    uv_loop_t loop;
    struct ending e = {LOAM_OK, ""};
    struct tui *t;
    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_IGN);
#ifdef __GLIBC__
    /* Fixed, or glibc raises them with the largest block ever freed and keeps its pages. */
    mallopt(M_MMAP_THRESHOLD, 64 << 10);
    mallopt(M_TRIM_THRESHOLD, 64 << 10);
#endif
    if (uv_loop_init(&loop))
        return err_set(err, LOAM_ENOMEM, "event loop");
    enum loam_status s = tui_open(&t, &loop, o, run_ended, &e, err);
    if (t)
        t->own_loop = true;
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    if (!s && e.how)
        s = err_set(err, e.how, "%s", e.text);
    return s;
}
