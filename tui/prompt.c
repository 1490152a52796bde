/* The prompt: a line with history, search, completion, help as one types, and errors under the word at fault. */
#include "tui/app.h"

#include "base/mem.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/banned.h"

bool word_range(const char *s, long index, size_t *from, size_t *to) {
    size_t i = 0;
    for (long w = 0; s[i]; w++) {
        i += strspn(s + i, " \t\n");
        if (!s[i] || s[i] == '#')
            return false;
        size_t start = i;
        char quote = 0;
        for (; s[i] && (quote || !strchr(" \t\n", s[i])); i++) {
            if (s[i] == '\\' && quote != '\'' && s[i + 1])
                i++;
            else if (quote ? s[i] == quote : s[i] == '\'' || s[i] == '"')
                quote = quote ? 0 : s[i];
        }
        if (w == index) {
            *from = start;
            *to = i;
            return true;
        }
    }
    return false;
}

static bool word_is(const char *line, int index, const char *want) {
    size_t a, b;
    return word_range(line, index, &a, &b) && strlen(want) == b - a && !memcmp(line + a, want, b - a);
}

void table_need(struct tui *t) {
    if (!t->table && t->table_text)
        t->table = json_loads(t->table_text, 0, NULL);
}

const json_t *table_command(struct tui *t, const char *line, int *used) {
    const json_t *best = NULL;
    table_need(t);
    *used = 0;
    for (size_t i = 0; i < json_array_size(t->table); i++) {
        const json_t *c = json_array_get(t->table, i);
        if (!word_is(line, 0, jstr(c, "noun")))
            continue;
        const char *verb = jstr(c, "verb");
        if (*verb && word_is(line, 1, verb)) {
            *used = 2;
            return c;
        }
        if (!*verb) {
            best = c;
            *used = 1;
        }
    }
    return best;
}

void line_draw(const struct view *v, int y, int x, unsigned style, const struct line *l, bool secret) {
    const char *s = line_text(l);
    int room = v->w - x;
    if (secret) {
        view_cursor(v, y, x, true);
        return;
    }
    if (room < 1)
        return;
    size_t from = 0;
    while (from < l->cur && text_columns(s + from, l->cur - from) >= room) { /* scroll so that the cursor is seen */
        from++;
        while (from < l->cur && (s[from] & 0xc0) == 0x80)
            from++;
    }
    int at = text_columns(s + from, l->cur - from);
    view_textn(v, y, x, style, s + from, l->text.len - from, room);
    view_cursor(v, y, x + at, true);
}

static void drop_found(struct prompt *p) {
    json_decref(p->found);
    p->found = NULL;
    p->pick = -1;
    p->complete_call = 0;
}

void prompt_open(struct tui *t, const char *text) {
    struct prompt *p = &t->prompt;
    line_set(&p->line, text, strlen(text));
    p->error[0] = 0;
    p->searching = false;
    drop_found(p);
    p->history.at = p->history.n;
    overlay_open(t, OV_PROMPT);
}

static void add_local(struct tui *t, json_t *list, const char *line, size_t cursor) {
    (void)t;
    size_t a = 0, b = 0;
    if (word_range(line, 0, &a, &b) && cursor > b)
        return;
    if (!b)
        a = b = cursor;
    for (size_t i = 0; i < local_word_count; i++)
        if (!strncmp(local_words[i].name, line + a, cursor > a ? cursor - a : 0))
            json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:I}", "text", local_words[i].name, "help", local_words[i].help,
                                                  "from", (json_int_t)a, "to", (json_int_t)b));
}

static void use(struct prompt *p, int i) {
    const json_t *c = json_array_get(p->found, (size_t)i);
    const char *text = jstr(c, "text");
    int64_t from = jint(c, "from", (int64_t)p->line.cur);
    if (from < 0 || (size_t)from > p->line.cur)
        return;
    line_replace(&p->line, (size_t)from, p->line.cur, text, strlen(text));
    p->pick = i;
}

static void on_complete(void *arg, uint64_t id, const json_t *result, const json_t *error) {
    struct tui *t = arg;
    struct prompt *p = &t->prompt;
    if (p->complete_call != id || t->closing || t->over != OV_PROMPT)
        return;
    (void)error;
    p->complete_call = 0;
    json_decref(p->found);
    p->found = json_array();
    for (size_t i = 0; i < json_array_size(result) && i < CANDIDATES_MAX; i++)
        json_array_append(p->found, json_array_get(result, i));
    add_local(t, p->found, line_text(&p->line), p->line.cur);
    size_t n = json_array_size(p->found);
    p->pick = -1;
    if (n == 1) {
        use(p, 0);
        if (!p->line.text.data || p->line.cur == p->line.text.len) {
            const char *text = line_text(&p->line);
            size_t len = p->line.text.len;
            if (len && text[len - 1] != '/' && text[len - 1] != '=')
                line_replace(&p->line, len, len, " ", 1);
        }
        drop_found(p);
    } else if (n > 1) { /* as far as all agree */
        const json_t *first = json_array_get(p->found, 0);
        const char *s = jstr(first, "text");
        size_t same = strlen(s);
        for (size_t i = 1; i < n; i++) {
            const char *o = jstr(json_array_get(p->found, i), "text");
            size_t k = 0;
            while (k < same && s[k] == o[k])
                k++;
            same = jint(json_array_get(p->found, i), "from", 0) == jint(first, "from", 0) ? k : 0;
        }
        while (same && (s[same] & 0xc0) == 0x80)
            same--;
        int64_t from = jint(first, "from", (int64_t)p->line.cur);
        if (from >= 0 && (size_t)from <= p->line.cur && same > p->line.cur - (size_t)from) {
            line_replace(&p->line, (size_t)from, p->line.cur, s, same);
            for (size_t i = 0; i < n; i++)
                json_object_set_new(json_array_get(p->found, i), "to", json_integer((json_int_t)p->line.cur));
        }
    } else {
        tui_status(t, ST_NORMAL, "nothing completes this");
        drop_found(p);
    }
    tui_dirty(t);
}

static void complete(struct tui *t, int dir) {
    struct prompt *p = &t->prompt;
    int n = (int)json_array_size(p->found);
    if (n) { /* again: one after the other */
        use(p, p->pick < 0 ? (dir > 0 ? 0 : n - 1) : (p->pick + dir + n) % n);
        return;
    }
    char cwd[4096];
    json_t *q = json_pack("{s:s, s:I}", "line", line_text(&p->line), "cursor", (json_int_t)p->line.cur);
    if (q && getcwd(cwd, sizeof cwd))
        json_object_set_new(q, "cwd", json_string(cwd));
    p->complete_call = conn_is_up(t->conn) ? conn_call(t->conn, "command.complete", q, on_complete, t) : 0;
    if (!p->complete_call) {
        p->found = json_array();
        add_local(t, p->found, line_text(&p->line), p->line.cur);
    }
}

static void search(struct prompt *p, size_t below) {
    long i = history_search(&p->history, p->needle, below);
    if (i >= 0) {
        p->search_at = (size_t)i;
        line_set(&p->line, p->history.entry[i], strlen(p->history.entry[i]));
    }
}

static bool search_key(struct prompt *p, const struct key *k) {
    size_t n = strlen(p->needle);
    if (k->code == 'r' && k->mods == TK_CTRL) {
        search(p, p->search_at);
        return true;
    }
    if (k->code == TK_BACKSPACE) {
        while (n && (p->needle[n - 1] & 0xc0) == 0x80)
            n--;
        p->needle[n ? n - 1 : 0] = 0;
        search(p, p->history.n);
        return true;
    }
    if (k->code < TK_BASE && !(k->mods & (TK_CTRL | TK_ALT)) && n + 4 < sizeof p->needle) {
        n += utf8_encode((uint8_t *)p->needle + n, k->code);
        p->needle[n] = 0;
        search(p, p->history.n);
        return true;
    }
    p->searching = false; /* any other key takes what was found, and does its own work */
    return k->code == TK_ESC || (k->code == 'g' && k->mods == TK_CTRL);
}

void prompt_key(struct tui *t, const struct key *k) {
    struct prompt *p = &t->prompt;
    p->error[0] = 0;
    if (p->searching && search_key(p, k))
        return;
    if (k->code == 'r' && k->mods == TK_CTRL) {
        p->searching = true;
        p->needle[0] = 0;
        p->search_at = p->history.n;
        drop_found(p);
        return;
    }
    if (k->code == TK_ESC || ((k->code == 'c' || k->code == 'g') && k->mods == TK_CTRL)) {
        if (p->found)
            drop_found(p);
        else
            overlay_close(t);
        return;
    }
    if (k->code == 'd' && k->mods == TK_CTRL && !p->line.text.len) {
        overlay_close(t);
        return;
    }
    if (!p->line.pasting && (k->code == TK_TAB || k->code == TK_BACKTAB)) {
        complete(t, k->code == TK_TAB ? 1 : -1);
        return;
    }
    bool up = k->code == TK_UP || (k->code == 'p' && k->mods == TK_CTRL);
    if (up || k->code == TK_DOWN || (k->code == 'n' && k->mods == TK_CTRL)) {
        drop_found(p);
        history_move(&p->history, &p->line, up ? -1 : 1);
        return;
    }
    if (k->code == TK_ENTER && !(k->mods & TK_ALT) && !p->line.pasting) {
        char *line = mem_strdup(line_text(&p->line));
        drop_found(p);
        overlay_close(t);
        line_reset(&p->line);
        if (line && line[strspn(line, " \t\n")]) {
            struct err e;
            if (!history_add(&p->history, line, &e) && t->data_history && history_save(&p->history, t->data_history, &e))
                log_local(t, "warn", e.text);
            run_line(t, line, false);
        }
        mem_free(line);
        return;
    }
    if (k->code == TK_BACKSPACE && !p->line.text.len) {
        overlay_close(t);
        return;
    }
    if (line_key(&p->line, k))
        drop_found(p);
}

/* "train  MODEL [--epochs N]  train an adapter": usage of the command that is being typed. */
static void usage(struct tui *t, char *out, size_t cap) {
    int used;
    const char *line = line_text(&t->prompt.line);
    const json_t *c = table_command(t, line, &used);
    out[0] = 0;
    if (!c) {
        for (size_t i = 0; i < local_word_count; i++)
            if (word_is(line, 0, local_words[i].name))
                snprintf(out, cap, "%s  %s", local_words[i].usage, local_words[i].help);
        if (!*out && !*line)
            snprintf(out, cap, "a command; Tab completes, Up for earlier ones, Ctrl-R searches them, Esc leaves");
        return;
    }
    size_t n = (size_t)snprintf(out, cap, "%s%s%s", jstr(c, "noun"), *jstr(c, "verb") ? " " : "", jstr(c, "verb"));
    const json_t *args = jget(c, "args");
    size_t a, b;
    const json_t *now = NULL;
    for (size_t i = 0; i < json_array_size(args) && n < cap; i++) {
        const json_t *g = json_array_get(args, i);
        bool must = jbool(g, "required"), named = jbool(g, "named");
        n += (size_t)snprintf(out + n, cap - n, named ? " %s--%s%s" : " %s%s%s", must ? "" : "[", jstr(g, "name"), must ? "" : "]");
        char opt[80];
        snprintf(opt, sizeof opt, "--%s", jstr(g, "name"));
        for (int w = used; word_range(line, w, &a, &b); w++)
            if (strlen(opt) <= b - a && !strncmp(line + a, opt, strlen(opt)))
                now = g;
    }
    if (n < cap && now)
        n += (size_t)snprintf(out + n, cap - n, "   --%s: %s%s%s%s%s", jstr(now, "name"), jstr(now, "help"),
                              *jstr(now, "range") ? " (" : "", jstr(now, "range"), *jstr(now, "range") ? ")" : "",
                              *jstr(now, "def") ? ", else the default" : "");
    else if (n < cap)
        snprintf(out + n, cap - n, "   %s", jstr(c, "help"));
}

void prompt_draw(struct tui *t, const struct view *all, const struct view *row) {
    struct prompt *p = &t->prompt;
    char say[1024];
    int above = row->y - all->y;
    /* several lines: those before the cursor's stand above */
    const char *s = line_text(&p->line);
    size_t n = json_array_size(p->found);
    int y = above;
    if (p->error[0] && y > 0) {
        int col = 1 + text_columns(s, p->err_from), w = text_columns(s + p->err_from, p->err_to - p->err_from);
        view_fill(all, --y, 0, all->w, ST_NORMAL);
        for (int i = 0; i < (w ? w : 1); i++)
            view_text(all, y, col + i, ST_BAD, "^");
        if (y > 0) {
            view_fill(all, --y, 0, all->w, ST_NORMAL);
            view_text(all, y, 1, ST_BAD, p->error);
        }
    } else if (y > 0) {
        usage(t, say, sizeof say);
        view_fill(all, --y, 0, all->w, ST_NORMAL | ST_UNDERLINE);
        view_text(all, y, 1, ST_SOFT | ST_UNDERLINE, say);
    }
    if (n > 1 && y > 0) {
        int room = y < 10 ? y : 10, shown = (int)n < room ? (int)n : room;
        int first = p->pick >= shown ? p->pick - shown + 1 : 0;
        y -= shown;
        for (int i = 0; i < shown; i++) {
            const json_t *c = json_array_get(p->found, (size_t)(first + i));
            bool on = first + i == p->pick;
            unsigned st = on ? ST_FOCUS : ST_NORMAL;
            view_fill(all, y + i, 0, all->w, st);
            if (on)
                view_glyph(all, y + i, 0, st, G_FOCUS);
            int x = 2 + view_text(all, y + i, 2, st, jstr(c, "text"));
            x = x < 26 ? 26 : x + 2;
            view_text(all, y + i, x, on ? st : ST_SOFT, jstr(c, "help"));
            if (i == shown - 1 && first + shown < (int)n)
                view_glyph(all, y + i, all->w - 1, st, G_MORE_DOWN);
        }
    }
    view_fill(row, 0, 0, row->w, ST_NORMAL);
    int x = p->searching ? view_printf(row, 0, 0, ST_ACCENT, "search \"%s\": ", p->needle) : view_text(row, 0, 0, ST_TITLE, ":");
    line_draw(row, 0, x, ST_NORMAL, &p->line, false);
    if (p->error[0])
        view_style(row, 0, x + text_columns(s, p->err_from), text_columns(s + p->err_from, p->err_to - p->err_from), ST_UNDERLINE);
}
