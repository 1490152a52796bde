/* Commands: a line from the prompt is one of the console's own words or goes to the node; what comes back. */
#include "tui/app.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/banned.h"

const struct local_word local_words[] = {
    {"copy", "copy FILE [json]", "write the newest answer to a file"},
    {"detach", "detach", "leave the console; the node goes on"},
    {"export", "export FILE [csv|json]", "write the focused pane's list to a file"},
    {"form", "form [NAME]", "open a form"},
    {"layout", "layout overview|split|one", "arrange the panes"},
    {"pane", "pane NAME", "focus a pane"},
    {"plot", "plot block|braille|ascii", "how curves are drawn"},
    {"quit", "quit", "the same as detach"},
    {"screen", "screen FILE", "write the screen to a file, as text"},
    {"stop", "stop", "end the node too; its jobs go on when it is started again"},
};
const size_t local_word_count = sizeof local_words / sizeof *local_words;

/* ---- the console's own words ---------------------------------------------------------------------------------------- */

bool run_screen(struct tui *t, const char *file, struct err *err) {
    struct buf b = BUF_INIT(FRAME_CELLS_MAX * 16u);
    enum overlay over = t->over;
    t->over = OV_NONE; /* what was there before the prompt covered it */
    tui_compose(t);
    t->over = over;
    enum loam_status s = frame_dump(&b, &t->frame, err);
    if (!s)
        s = file_write(file, b.data, b.len, 0600, err);
    buf_clear(&b);
    return !s;
}

static bool write_json(const char *file, const json_t *v, struct err *err) {
    char *text = json_dumps(v, JSON_INDENT(2) | JSON_ENCODE_ANY);
    if (!text) {
        err_set(err, LOAM_ENOMEM, "JSON");
        return false;
    }
    enum loam_status s = file_write(file, text, strlen(text), 0600, err);
    void (*release)(void *);
    json_get_alloc_funcs(NULL, &release);
    release(text);
    return !s;
}

bool run_export(struct tui *t, const char *file, enum pane_id p, struct err *err) {
    size_t n = strlen(file);
    bool json = n > 5 && !strcmp(file + n - 5, ".json");
    const json_t *rows;
    const struct pane_list *l = pane_list(t, p, &rows);
    if (json && panes[p]->topic != TOPICS)
        return write_json(file, t->topic[panes[p]->topic] ? t->topic[panes[p]->topic] : json_null(), err);
    struct buf b = BUF_INIT(TUI_EXPORT_MAX);
    enum loam_status s = LOAM_OK;
    json_t *made = NULL;
    if (p == PANE_LOG || p == PANE_ASK) {
        made = json_array();
        for (int i = 0; p == PANE_LOG && i < t->log_n; i++) {
            const struct log_line *g = &t->log[(t->log_at + i) % LOG_KEPT];
            json_array_append_new(made, json_pack("{s:I, s:s, s:s, s:s}", "time_ms", (json_int_t)g->time_ms, "level", g->level,
                                                  "room", g->room, "text", g->text ? g->text : ""));
        }
        for (int i = 0; p == PANE_ASK && i < t->turns; i++) {
            const struct turn *g = &t->turn[i];
            json_array_append_new(made, json_pack("{s:s, s:s, s:s, s:s, s:O?}", "answer", g->answer, "model", g->model, "prompt",
                                                  g->prompt ? g->prompt : "", "text", g->text.data ? (char *)g->text.data : "",
                                                  "attribution", g->source));
        }
        if (json) {
            bool ok = write_json(file, made, err);
            json_decref(made);
            return ok;
        }
        static const struct column log_col[] = {{"", "time_ms", COL_TEXT, 0, false, 0}, {"", "level", COL_TEXT, 0, false, 0},
                                                {"", "room", COL_TEXT, 0, false, 0}, {"", "text", COL_TEXT, 0, false, 0}};
        static const struct column ask_col[] = {{"", "answer", COL_TEXT, 0, false, 0}, {"", "model", COL_TEXT, 0, false, 0},
                                                {"", "prompt", COL_TEXT, 0, false, 0}, {"", "text", COL_TEXT, 0, false, 0}};
        struct table tab = {p == PANE_LOG ? log_col : ask_col, 4, NULL};
        s = table_csv(&b, &tab, made, p == PANE_LOG ? t->list[p].filter : "", err);
    } else if (l) {
        s = table_csv(&b, &l->table, rows, t->list[p].filter, err);
    }
    if (!s)
        s = file_write(file, b.data ? b.data : (uint8_t *)"", b.len, 0600, err);
    json_decref(made);
    buf_clear(&b);
    return !s;
}

static bool copy_answer(struct tui *t, const char *file, bool json, struct err *err) {
    if (!t->turns) {
        err_set(err, LOAM_ENOTFOUND, "no answer yet");
        return false;
    }
    const struct turn *n = &t->turn[t->turns - 1];
    size_t fl = strlen(file);
    if (json || (fl > 5 && !strcmp(file + fl - 5, ".json"))) {
        json_t *v = json_pack("{s:s, s:s, s:s, s:s, s:O?}", "answer", n->answer, "model", n->model, "prompt",
                              n->prompt ? n->prompt : "", "text", n->text.data ? (char *)n->text.data : "", "attribution",
                              n->source);
        bool ok = v && write_json(file, v, err);
        json_decref(v);
        return ok;
    }
    struct buf b = BUF_INIT(2 * ANSWER_MAX);
    char who[96];
    enum loam_status s = buf_printf(&b, err, "Q: %s\n\nA: %s\n", n->prompt ? n->prompt : "", n->text.data ? (char *)n->text.data : "");
    const json_t *c = jget(n->source, "contributors");
    for (size_t i = 0; i < json_array_size(c) && !s; i++)
        s = buf_printf(&b, err, "%s[%zu] %s %.1f%%\n", i ? "" : "\n", i + 1, jwho(json_array_get(c, i), who, sizeof who),
                       jnum(json_array_get(c, i), "share_ppm", 0) / 1e4);
    if (!s)
        s = file_write(file, b.data, b.len, 0600, err);
    buf_clear(&b);
    return !s;
}

static void on_stop(void *arg, uint64_t id, const json_t *result, const json_t *error) {
    struct tui *t = arg;
    (void)id;
    if (!t->closing && error) {
        t->ending = false;
        tui_status(t, ST_BAD, "stop: %s", jstr(error, "message"));
    } else if (!t->closing && result)
        tui_status(t, ST_NORMAL, "the node ends; `loam` starts it again, %s leaves this console", t->plain ? "`detach`" : "q");
}

/* True if the line was one of the console's own words. */
static bool local(struct tui *t, const char *line) {
    char w[3][512];
    int n = 0;
    size_t from, to;
    for (; n < 3 && word_range(line, n, &from, &to); n++)
        snprintf(w[n], sizeof w[n], "%.*s", (int)(to - from), line + from);
    if (!n)
        return true;
    struct err e;
    err_clear(&e);
    if (!strcmp(w[0], "quit") || !strcmp(w[0], "detach") || !strcmp(w[0], "q")) {
        tui_end(t, LOAM_OK, "");
        return true;
    }
    if (!strcmp(w[0], "help") && n == 1) {
        overlay_open(t, OV_HELP);
        return true;
    }
    bool known = false;
    for (size_t i = 0; i < local_word_count; i++)
        known |= !strcmp(local_words[i].name, w[0]);
    if (!known)
        return false;
    if (!strcmp(w[0], "form")) {
        if (n == 1)
            form_menu(t);
        else if (!form_open(t, w[1]))
            tui_status(t, ST_BAD, "no form \"%s\"", w[1]);
        return true;
    }
    if (!strcmp(w[0], "stop") && n == 1) {
        t->ending = conn_is_up(t->conn) && conn_call(t->conn, "node.stop", NULL, on_stop, t);
        if (!t->ending)
            tui_status(t, ST_BAD, "not connected to a node");
        return true;
    }
    if (n < 2 || !strcmp(w[0], "stop")) {
        for (size_t i = 0; i < local_word_count; i++)
            if (!strcmp(local_words[i].name, w[0]))
                tui_status(t, ST_BAD, "usage: %s", local_words[i].usage);
        return true;
    }
    if (!strcmp(w[0], "screen")) {
        if (run_screen(t, w[1], &e))
            tui_status(t, ST_GOOD, "the screen is in %s", w[1]);
    } else if (!strcmp(w[0], "export")) {
        if (n == 3 && !strcmp(w[2], "json") && !strstr(w[1], ".json"))
            snprintf(w[1] + strlen(w[1]), sizeof w[1] - strlen(w[1]), ".json");
        if (run_export(t, w[1], t->focus, &e))
            tui_status(t, ST_GOOD, "%s is in %s", panes[t->focus]->title, w[1]);
    } else if (!strcmp(w[0], "copy")) {
        if (copy_answer(t, w[1], n == 3 && !strcmp(w[2], "json"), &e))
            tui_status(t, ST_GOOD, "the answer is in %s", w[1]);
    } else if (!strcmp(w[0], "plot")) {
        if (!plot_parse(&t->plot, w[1]))
            err_set(&e, LOAM_EINVAL, "no plot \"%s\" (block, braille, ascii)", w[1]);
    } else if (!strcmp(w[0], "layout")) {
        int m = 0;
        while (m < LAYOUT_MODES && strcmp(layout_name((enum layout_mode)m), w[1]))
            m++;
        if (m == LAYOUT_MODES)
            err_set(&e, LOAM_EINVAL, "no layout \"%s\" (overview, split, one)", w[1]);
        else
            t->mode = (enum layout_mode)m;
    } else if (!strcmp(w[0], "pane")) {
        int p = 0;
        while (p < PANES && strcmp(panes[p]->name, w[1]))
            p++;
        if (p == PANES)
            err_set(&e, LOAM_EINVAL, "no pane \"%s\"", w[1]);
        else
            tui_focus(t, (enum pane_id)p);
    }
    if (e.code)
        tui_status(t, ST_BAD, "%s: %s", w[0], e.text);
    return true;
}

/* ---- the node's commands --------------------------------------------------------------------------------------------- */

static struct run *find(struct tui *t, uint64_t call) {
    for (int i = 0; call && i < RUNS_MAX; i++)
        if (t->run[i].call == call)
            return &t->run[i];
    return NULL;
}

struct run *run_last(struct tui *t) {
    struct run *best = NULL;
    for (int i = 0; i < RUNS_MAX; i++)
        if (t->run[i].call && !t->run[i].quiet && (!best || t->run[i].call > best->call))
            best = &t->run[i];
    return best;
}

static size_t lines_in(const struct buf *b) {
    size_t n = 0;
    for (size_t i = 0; i < b->len; i++)
        n += b->data[i] == '\n';
    return n + (b->len && b->data[b->len - 1] != '\n');
}

static void on_answer(void *arg, uint64_t id, const json_t *result, const json_t *error) {
    struct tui *t = arg;
    struct run *r = find(t, id);
    if (!r)
        return;
    bool quiet = r->quiet, ask = r->from_ask, mine = t->output_call == id;
    /* What was waited for may cover the panes; what took long, and met other keys, may not. */
    bool waited = clock_mono_us() - r->began_us < 2000000 || t->last_key_us < r->began_us + 300000;
    char *line = r->line;
    *r = (struct run){0};
    if (t->closing) {
        mem_free(line);
        return;
    }
    if (error && ask && line && !strcmp(line, "attribute")) { /* asked for by the console: an answer may have no rows behind it */
        tui_status(t, ST_NORMAL, "not attributed: %s", jstr(error, "message"));
    } else if (error) {
        const char *m = jstr(error, "message"), *remedy = jstr(error, "data.remedy");
        long word = (long)jint(error, "data.word", -1);
        char both[800];
        snprintf(both, sizeof both, "%s%s%s", m, *remedy ? "; " : "", remedy);
        tui_status(t, ST_BAD, "%s", both);
        log_local(t, "error", both);
        buf_reset(&t->script); /* a script stops at its first error */
        size_t from, to;
        if (!quiet && !ask && word >= 0 && line && word_range(line, word, &from, &to) && t->over == OV_NONE) {
            prompt_open(t, line);
            snprintf(t->prompt.error, sizeof t->prompt.error, "%s", both);
            t->prompt.err_from = from;
            t->prompt.err_to = to;
            t->prompt.line.cur = to;
        } else if (mine && lines_in(&t->output) > 1 && t->over == OV_NONE && waited) {
            if (!buf_printf(&t->output, NULL, "\n%s\n", both))
                overlay_open(t, OV_OUTPUT);
        }
    } else if (result && !quiet) {
        if (line && (!strncmp(line, "set ", 4) || !strncmp(line, "option set ", 11)))
            conn_call(t->conn, "option.list", NULL, tui_options_told, t); /* the console's own apply at once */
        long long job = (long long)jint(result, "job", 0);
        size_t n = mine ? lines_in(&t->output) : 0;
        if (mine && !n && jget(result, "result") && !jbool(result, "text_shown")) {
            char *text = json_dumps(jget(result, "result"), JSON_INDENT(2) | JSON_ENCODE_ANY);
            if (text && strlen(text) > 4 && !buf_str(&t->output, text, NULL))
                n = lines_in(&t->output);
            void (*release)(void *);
            json_get_alloc_funcs(NULL, &release);
            release(text);
        }
        if (t->plain) {
            for (size_t i = 0; i < t->output.len;) { /* plain_say takes a line at a time */
                size_t k = strcspn((char *)t->output.data + i, "\n");
                plain_say(t, "%.*s\n", (int)k, (char *)t->output.data + i);
                i += k + 1;
            }
            buf_reset(&t->output);
            if (!ask)
                plain_say(t, "%s: done\n", line ? line : "");
        } else if (ask)
            tui_status(t, ST_NORMAL, line && !strcmp(line, "attribute") ? "attributed: n and N walk through the spans, 4 shows the rows" : "answered");
        else if (n == 1)
            tui_status(t, ST_GOOD, "%s", (char *)t->output.data);
        else if (n > 1 && t->over == OV_NONE && !t->script.len && waited)
            overlay_open(t, OV_OUTPUT);
        else if (n > 1)
            tui_status(t, ST_GOOD, "%s: done; o shows what it said", line ? line : "");
        else if (job)
            tui_status(t, ST_GOOD, "%s: done (job %lld)", line ? line : "", job);
        else
            tui_status(t, ST_GOOD, "%s: done", line ? line : "");
    } else if (!result && !quiet) {
        tui_status(t, ST_WARN, "the link to the node was lost; its jobs go on");
    }
    mem_free(line);
    run_next(t);
    if (t->plain)
        plain_idle(t);
    tui_dirty(t);
}

static void send_run(struct tui *t, json_t *params, const char *title, bool quiet, bool from_ask) {
    struct run *r = NULL;
    for (int i = 0; i < RUNS_MAX && !r; i++)
        if (!t->run[i].call)
            r = &t->run[i];
    if (!r || !conn_is_up(t->conn)) {
        json_decref(params);
        tui_status(t, ST_BAD, r ? "not connected to a node" : "too many commands under way");
        return;
    }
    char cwd[4096];
    if (getcwd(cwd, sizeof cwd))
        json_object_set_new(params, "cwd", json_string(cwd));
    json_object_set_new(params, "tty", json_true());
    json_object_set_new(params, "wait", json_true());
    uint64_t id = conn_call(t->conn, "command.run", params, on_answer, t);
    if (!id) {
        tui_status(t, ST_BAD, "the node does not take more for now");
        return;
    }
    *r = (struct run){.began_us = clock_mono_us(), .call = id, .line = mem_strdup(title), .quiet = quiet, .from_ask = from_ask};
    if (!quiet && !from_ask) {
        buf_reset(&t->output);
        t->output_call = id;
        t->output_top = 0;
        text_clean_cut(t->output_title, sizeof t->output_title, title, strlen(title));
        tui_status(t, ST_NORMAL, "%s ...", title);
    }
    tui_dirty(t);
}

void run_argv(struct tui *t, json_t *argv, const char *title, bool from_ask) {
    send_run(t, json_pack("{s:o}", "argv", argv), title, false, from_ask);
}

void run_line(struct tui *t, const char *line, bool quiet) {
    if (strchr(line, '\n')) { /* several lines, one after the other */
        if (!buf_str(&t->script, line, NULL) && !buf_byte(&t->script, '\n', NULL))
            run_next(t);
        return;
    }
    if (local(t, line))
        return;
    if (t->o.readonly) {
        int used;
        const json_t *c = table_command(t, line, &used);
        const char *v = jstr(c, "verb");
        if (strcmp(v, "list") && strcmp(v, "show") && strcmp(jstr(c, "noun"), "help") && strcmp(jstr(c, "noun"), "trace")) {
            tui_status(t, ST_WARN, "this console only looks (--readonly)");
            return;
        }
    }
    send_run(t, json_pack("{s:s}", "line", line), line, quiet, false);
}

void run_next(struct tui *t) {
    while (t->script.len && !t->closing && t->first_hello) { /* before that, lines wait */
        for (int i = 0; i < RUNS_MAX; i++)
            if (t->run[i].call && !t->run[i].quiet && !t->run[i].from_ask)
                return; /* its answer brings us here again */
        uint8_t *nl = memchr(t->script.data, '\n', t->script.len);
        size_t n = nl ? (size_t)(nl - t->script.data) : t->script.len;
        char *line = mem_strndup((char *)t->script.data, n);
        buf_consume(&t->script, n + (nl != NULL));
        if (line && line[strspn(line, " \t\r")] && line[strspn(line, " \t")] != '#')
            run_line(t, line, false);
        mem_free(line);
    }
}

void run_out(struct tui *t, const json_t *p) {
    uint64_t call = (uint64_t)jint(p, "call", 0);
    struct run *r = find(t, call);
    const char *text = jstr(p, "text");
    if (!r || r->quiet || r->from_ask)
        return;
    if (t->plain) {
        plain_say(t, "%s", text);
        return;
    }
    if (call != t->output_call)
        return;
    if (buf_str(&t->output, text, NULL)) /* full: the oldest half goes */
        buf_consume(&t->output, t->output.len / 2);
    if (t->over == OV_NONE && *text) {
        char one[200];
        size_t n = strcspn(text, "\n");
        text_clean_cut(one, sizeof one, text, n);
        if (*one)
            tui_status(t, ST_NORMAL, "%s", one);
    }
    tui_dirty(t);
}

void run_progress(struct tui *t, const json_t *p) {
    struct run *r = find(t, (uint64_t)jint(p, "call", 0));
    if (!r)
        return;
    r->done = (uint64_t)jint(p, "done", 0);
    r->total = (uint64_t)jint(p, "total", 0);
    const char *d = jstr(p, "detail.text");
    text_clean_cut(r->detail, sizeof r->detail, d, strlen(d));
    tui_dirty(t);
}

/* A long command: say how to do without waiting for it. */
void run_started(struct tui *t, const json_t *p) {
    struct run *r = find(t, (uint64_t)jint(p, "call", 0));
    if (!r)
        return;
    r->job = (uint64_t)jint(p, "job", 0);
    if (jbool(p, "long") && !r->from_ask && !r->quiet)
        tui_status(t, ST_NORMAL, "job %llu goes on when you detach; `job cancel %llu` ends it: %s", (unsigned long long)r->job,
                   (unsigned long long)r->job, r->line ? r->line : ""); /* the line last: it may be cut */
}

void run_lost(struct tui *t) {
    for (int i = 0; i < RUNS_MAX; i++) {
        mem_free(t->run[i].line);
        t->run[i] = (struct run){0};
    }
    buf_reset(&t->script);
}
