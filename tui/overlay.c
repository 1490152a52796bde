/* What lies over the panes: help, a command's output, a menu, a question of the node, the filter line. */
#include "tui/app.h"

#include "base/mem.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define HELP_MAX (256u << 10)
#define QUESTION_MAX (64u << 10)

void overlay_open(struct tui *t, enum overlay o) {
    if (o == OV_HELP)
        t->help_top = 0;
    if (o == OV_OUTPUT)
        t->output_left = 0;
    if (o == OV_OUTPUT)
        t->status[0] = 0; /* "... under way" is no longer true */
    t->over = o;
    tui_dirty(t);
}

void overlay_close(struct tui *t) {
    if (t->over == OV_FORM)
        form_free(t);
    t->over = OV_NONE;
    json_decref(t->table);
    t->table = NULL;
    tui_dirty(t);
}

/* ---- help ----------------------------------------------------------------------------------------------------------- */

enum loam_status help_text(struct tui *t, struct buf *out, struct err *err) {
    enum loam_status s = LOAM_OK;
    table_need(t);
    int group[] = {t->focus, WHERE_ALL};
    for (int g = 0; g < 2 && !s; g++) {
        bool any = false;
        for (int a = 1; a < ACT_COUNT && !s; a++) {
            char keys[128];
            if (action_table[a].where != group[g])
                continue;
            if (!any)
                s = g ? buf_str(out, "KEYS\n", err) : buf_printf(out, err, "KEYS IN %s\n", panes[t->focus]->title);
            any = true;
            keymap_keys(&t->keys, (enum action)a, keys, sizeof keys);
            if (!s)
                s = buf_printf(out, err, "  %-14s %-15s %s\n", keys, action_table[a].name, action_table[a].help);
        }
        if (any && !s)
            s = buf_str(out, "\n", err);
    }
    if (!s)
        s = buf_str(out, "THE CONSOLE'S OWN WORDS  (after :)\n", err);
    for (size_t i = 0; i < local_word_count && !s; i++)
        s = buf_printf(out, err, "  %-30s %s\n", local_words[i].usage, local_words[i].help);
    if (!s && json_array_size(t->table))
        s = buf_str(out, "\nCOMMANDS  (after :, or `loam WORDS` in a shell; `help NOUN VERB` says more)\n", err);
    for (size_t i = 0; i < json_array_size(t->table) && !s; i++) {
        const json_t *c = json_array_get(t->table, i);
        char name[80];
        snprintf(name, sizeof name, "%s%s%s", jstr(c, "noun"), *jstr(c, "verb") ? " " : "", jstr(c, "verb"));
        s = buf_printf(out, err, "  %-22s %s%s\n", name, jstr(c, "help"), json_is_false(jget(c, "built")) ? " (not built)" : "");
    }
    return s;
}

/* Draws text from line `top`, without its first `left` columns; returns the number of lines it has. */
static int draw_text(const struct view *v, const struct buf *b, int *top, int *left, unsigned (*style)(const char *line, size_t n)) {
    int lines = 0, y, widest = 0;
    for (size_t i = 0; i < b->len; i++)
        lines += b->data[i] == '\n';
    if (b->len && b->data[b->len - 1] != '\n')
        lines++;
    if (*top > lines - v->h)
        *top = lines - v->h;
    if (*top < 0)
        *top = 0;
    const char *p = (const char *)b->data, *end = p + b->len;
    y = -*top;
    while (p < end && y < v->h) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p);
        if (y >= 0) {
            char tab[2048]; /* tabs as columns */
            size_t k = 0;
            for (size_t i = 0; i < n && k + 9 < sizeof tab; i++) {
                if (p[i] == '\t')
                    do
                        tab[k++] = ' ';
                    while (k % 8);
                else
                    tab[k++] = p[i];
            }
            int cols = text_columns(tab, k);
            widest = cols > widest ? cols : widest;
            size_t skip = 0;
            while (skip < k && left && *left && text_columns(tab, skip) < *left)
                skip++;
            while (skip < k && (tab[skip] & 0xc0) == 0x80)
                skip++;
            view_textn(v, y, 0, style ? style(p, n) : ST_NORMAL, tab + skip, k - skip, -1);
            if (cols - (left ? *left : 0) > v->w)
                view_glyph(v, y, v->w - 1, ST_SOFT, G_ELLIPSIS);
        }
        y++;
        p += n + 1;
    }
    if (left && *left > widest - v->w / 2)
        *left = widest > v->w / 2 ? widest - v->w / 2 : 0;
    if (*top > 0)
        view_glyph(v, 0, v->w - 1, ST_SOFT, G_MORE_UP);
    if (*top + v->h < lines)
        view_glyph(v, v->h - 1, v->w - 1, ST_SOFT, G_MORE_DOWN);
    return lines;
}

/* Lines longer than w broken at blanks, their rest set under the second column; tabs as they are. What does not fit the buffer
 * is left out. */
static void wrap_text(struct buf *out, const struct buf *in, int w) {
    const char *p = (const char *)in->data, *end = p + in->len;
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p), hang = strspn(p, " ") < n ? strspn(p, " ") : 0;
        const char *gap = n > hang ? memmem(p + hang, n - hang, "  ", 2) : NULL;
        while (gap && gap < p + n && *gap == ' ')
            gap++;
        if (gap && gap - p < w / 2)
            hang = (size_t)(gap - p);
        else if ((int)hang > w / 2)
            hang = 0;
        for (bool first = true; first || n; first = false) {
            int room = w - (first ? 0 : (int)hang);
            size_t take = 0, blank = 0;
            while (take < n) {
                size_t k = 1;
                while (take + k < n && (p[take + k] & 0xc0) == 0x80)
                    k++;
                if (text_columns(p, take + k) > room)
                    break;
                if (p[take] == ' ' && take > (first ? hang : 0))
                    blank = take;
                take += k;
            }
            if (take < n && p[take] != ' ' && blank)
                take = blank;
            if (!take && n)
                take = 1;
            if (buf_printf(out, NULL, "%*s%.*s\n", first ? 0 : (int)hang, "", (int)take, p))
                return;
            p += take;
            n -= take;
            for (; n && *p == ' '; p++)
                n--;
        }
        p = nl ? nl + 1 : end;
    }
}

static unsigned help_style(const char *line, size_t n) {
    return n && line[0] >= 'A' && line[0] <= 'Z' ? ST_TITLE : ST_NORMAL;
}

static void blank(const struct view *v) {
    for (int y = 0; y < v->h; y++)
        view_fill(v, y, 0, v->w, ST_NORMAL);
}

static void title(const struct view *v, const char *s, const char *keys) {
    view_fill(v, 0, 0, v->w, ST_FOCUS);
    view_text(v, 0, 1, ST_FOCUS, s);
    int w = (int)strlen(keys);
    if (w + 4 < v->w)
        view_text(v, 0, v->w - w - 1, ST_FOCUS, keys);
}

/* ---- menu ----------------------------------------------------------------------------------------------------------- */

void menu_open(struct tui *t, const char *name, void (*pick)(struct tui *t, const char *value)) {
    memset(&t->menu, 0, sizeof t->menu);
    snprintf(t->menu.title, sizeof t->menu.title, "%s", name);
    t->menu.pick = pick;
}

void menu_add(struct tui *t, const char *value, const char *fmt, ...) {
    if (t->menu.n == MENU_MAX)
        return;
    snprintf(t->menu.item[t->menu.n].value, sizeof t->menu.item[0].value, "%s", value);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(t->menu.item[t->menu.n++].text, sizeof t->menu.item[0].text, fmt, ap);
    va_end(ap);
}

/* ---- the node's questions ------------------------------------------------------------------------------------------- */

static void question_answer(struct tui *t, const char *value) {
    json_t *p = json_pack("{s:I, s:s?}", "id", (json_int_t)t->question.id, "value", value);
    conn_call(t->conn, "answer", p, NULL, NULL);
    line_reset(&t->question.line);
    mem_free(t->question.text);
    t->question.text = NULL;
    t->over = t->under;
    t->under = OV_NONE;
}

void question_ask(struct tui *t, const json_t *p) {
    if (t->over == OV_QUESTION) /* one at a time: the earlier one is refused */
        question_answer(t, NULL);
    t->question.call = (uint64_t)jint(p, "call", 0);
    t->question.id = (uint64_t)jint(p, "id", 0);
    snprintf(t->question.kind, sizeof t->question.kind, "%s", jstr(p, "kind"));
    t->question.text = mem_strdup(jstr(p, "text"));
    if (t->plain) {
        plain_question(t);
        return;
    }
    t->under = t->over;
    overlay_open(t, OV_QUESTION);
}

static void question_key(struct tui *t, const struct key *k) {
    bool confirm = !strcmp(t->question.kind, "confirm");
    if (k->code == TK_ESC || (k->code == 'c' && k->mods == TK_CTRL)) {
        question_answer(t, NULL);
        tui_status(t, ST_WARN, "refused");
    } else if (confirm) {
        if (k->code == 'y' || k->code == 'Y')
            question_answer(t, "yes");
        else if (k->code == 'n' || k->code == 'N') {
            question_answer(t, NULL);
            tui_status(t, ST_WARN, "refused");
        }
    } else if (k->code == TK_ENTER && !t->question.line.pasting) {
        char *v = mem_strdup(line_text(&t->question.line));
        question_answer(t, v ? v : "");
        if (v)
            mem_wipe(v, strlen(v));
        mem_free(v);
    } else {
        line_key(&t->question.line, k);
    }
}

static void question_draw(struct tui *t, const struct view *v) {
    const char *s = t->question.text ? t->question.text : "";
    /* whole, whatever its length: nobody agrees to half a question */
    struct buf in = {(uint8_t *)(uintptr_t)s, strlen(s), 0, 0}, b = BUF_INIT(QUESTION_MAX);
    wrap_text(&b, &in, v->w > 4 ? v->w - 2 : v->w);
    int lines = 0;
    for (size_t k = 0; k < b.len; k++)
        lines += b.data[k] == '\n';
    int h = lines + 3;
    if (h > v->h)
        h = v->h;
    struct view q = view_sub(v, v->h - h, 0, h, v->w);
    blank(&q);
    title(&q, !strcmp(t->question.kind, "secret") ? "The node asks (not shown, not kept)" : "The node asks", "Esc refuses");
    struct view text = view_sub(&q, 1, 1, h - 2, v->w - 2);
    int top = 0;
    draw_text(&text, &b, &top, NULL, NULL);
    buf_clear(&b);
    int x = 1, y = h - 1;
    if (!strcmp(t->question.kind, "confirm")) {
        x += view_text(&q, y, x, ST_TITLE, "y yes   n no ");
        view_cursor(&q, y, x, true);
    } else {
        x += view_text(&q, y, x, ST_TITLE, !strcmp(t->question.kind, "secret") ? "secret: " : "> ");
        line_draw(&q, y, x, ST_NORMAL, &t->question.line, !strcmp(t->question.kind, "secret"));
    }
}

/* ---- all of them ---------------------------------------------------------------------------------------------------- */

static bool scroll(int *top, const struct keymap *m, const struct key *k, int page) {
    switch (keymap_find(m, k, -2)) {
    case ACT_UP: --*top; return true;
    case ACT_DOWN: ++*top; return true;
    case ACT_PAGE_UP: *top -= page; return true;
    case ACT_PAGE_DOWN: *top += page; return true;
    case ACT_FIRST: *top = 0; return true;
    case ACT_LAST: *top = 1 << 20; return true;
    default: return k->code == ' ' ? (*top += page, true) : false;
    }
}

bool overlay_key(struct tui *t, const struct key *k) {
    bool close = k->code == TK_ESC || k->code == 'q' || (k->code == 'c' && k->mods == TK_CTRL);
    struct list_state *st = &t->list[t->focus];
    int page = t->frame.rows > 6 ? t->frame.rows - 4 : 1;
    switch (t->over) {
    case OV_NONE: return false;
    case OV_PROMPT: prompt_key(t, k); break;
    case OV_FORM: form_key(t, k); break;
    case OV_QUESTION: question_key(t, k); break;
    case OV_HELP:
        if (scroll(&t->help_top, &t->keys, k, page))
            break;
        if (close || keymap_find(&t->keys, k, -2) == ACT_HELP || k->code == TK_ENTER)
            overlay_close(t);
        break;
    case OV_OUTPUT:
        if (scroll(&t->output_top, &t->keys, k, page))
            break;
        if (k->code == TK_LEFT || k->code == TK_RIGHT) {
            t->output_left += k->code == TK_RIGHT ? 16 : -16;
            t->output_left = t->output_left < 0 ? 0 : t->output_left;
            break;
        }
        if (close || k->code == TK_ENTER || k->code == TK_BACKSPACE) {
            overlay_close(t);
        } else if (keymap_find(&t->keys, k, -2) == ACT_PROMPT) {
            prompt_open(t, "");
        } else if (keymap_find(&t->keys, k, -2) == ACT_FORMS ||
                   (keymap_find(&t->keys, k, -2) >= ACT_PANE1 && keymap_find(&t->keys, k, -2) <= ACT_OVERVIEW)) {
            overlay_close(t);
            return false; /* on to the pane, or the next form */
        }
        break;
    case OV_MENU: {
        enum action a = keymap_find(&t->keys, k, -2);
        if (a == ACT_UP || a == ACT_DOWN) {
            t->menu.sel = (t->menu.sel + (a == ACT_UP ? t->menu.n - 1 : 1)) % (t->menu.n ? t->menu.n : 1);
        } else if (k->code >= '0' && k->code <= '9' && (int)((k->code - '0' + 9) % 10) < t->menu.n) {
            t->menu.sel = (int)((k->code - '0' + 9) % 10);
            overlay_close(t);
            t->menu.pick(t, t->menu.item[t->menu.sel].value);
        } else if (k->code == TK_ENTER && t->menu.n) {
            overlay_close(t);
            t->menu.pick(t, t->menu.item[t->menu.sel].value);
        } else if (close || k->code == TK_BACKSPACE) {
            overlay_close(t);
        }
        break;
    }
    case OV_FILTER: {
        size_t n = strlen(st->filter);
        if (k->code == TK_ENTER) {
            overlay_close(t);
        } else if (k->code == TK_ESC || (k->code == 'c' && k->mods == TK_CTRL)) {
            st->filter[0] = 0;
            overlay_close(t);
        } else if (k->code == TK_BACKSPACE) {
            if (!n)
                overlay_close(t);
            while (n && (st->filter[n - 1] & 0xc0) == 0x80)
                n--;
            st->filter[n ? n - 1 : 0] = 0;
        } else if (k->code == 'u' && k->mods == TK_CTRL) {
            st->filter[0] = 0;
        } else if (k->code < TK_BASE && !(k->mods & (TK_CTRL | TK_ALT)) && n + 4 < FILTER_MAX) {
            n += utf8_encode((uint8_t *)st->filter + n, k->code);
            st->filter[n] = 0;
            st->sel = st->top = 0;
        }
        break;
    }
    case OV_ASK:
        if (k->code == TK_ENTER && !(k->mods & TK_ALT) && !t->ask.pasting) {
            ask_submit(t);
            t->over = OV_NONE;
        } else if (k->code == TK_ESC || (k->code == 'c' && k->mods == TK_CTRL)) {
            t->over = OV_NONE;
        } else if (k->code == TK_PGUP || k->code == TK_PGDN) {
            t->ask_scroll += k->code == TK_PGUP ? page : -page;
        } else {
            line_key(&t->ask, k);
        }
        break;
    }
    tui_dirty(t);
    return true;
}

void overlay_draw(struct tui *t, const struct view *body) {
    struct view inner = view_sub(body, 1, 1, body->h - 1, body->w - 2);
    switch (t->over) {
    case OV_HELP: {
        struct buf b = BUF_INIT(HELP_MAX);
        blank(body);
        title(body, "Help", "arrows scroll, Esc closes");
        if (!help_text(t, &b, NULL))
            draw_text(&inner, &b, &t->help_top, NULL, help_style);
        buf_clear(&b);
        view_cursor(body, 0, 0, true);
        break;
    }
    case OV_OUTPUT: { /* as high as it needs: what it changed may be seen above it */
        struct buf wrapped = BUF_INIT(2 * OUTPUT_MAX);
        if (!t->output_left && body->w > 24)
            wrap_text(&wrapped, &t->output, body->w - 2);
        const struct buf *show = wrapped.len ? &wrapped : &t->output;
        int lines = 1;
        for (size_t i = 0; i + 1 < show->len && lines < body->h; i++)
            lines += show->data[i] == '\n';
        int h = lines + 1 > body->h * 2 / 3 ? body->h : lines + 1;
        struct view panel = view_sub(body, body->h - h, 0, h, body->w);
        blank(&panel);
        title(&panel, t->output_title, "arrows scroll, Esc closes");
        inner = view_sub(&panel, 1, 1, panel.h - 1, panel.w - 2);
        draw_text(&inner, show, &t->output_top, &t->output_left, NULL);
        buf_clear(&wrapped);
        view_cursor(&panel, 0, 0, true);
        break;
    }
    case OV_MENU: {
        int h = t->menu.n + 2 < body->h ? t->menu.n + 2 : body->h;
        struct view m = view_sub(body, (body->h - h) / 2, body->w > 70 ? (body->w - 66) / 2 : 0, h, body->w > 70 ? 66 : body->w);
        blank(&m);
        title(&m, t->menu.title, "Enter takes, Esc closes");
        int shown = h - 1, first = t->menu.sel >= shown ? t->menu.sel - shown + 1 : 0;
        for (int i = 0; i < shown && first + i < t->menu.n; i++) {
            bool on = first + i == t->menu.sel;
            char num[8];
            snprintf(num, sizeof num, first + i < 10 ? "%d" : " ", (first + i + 1) % 10);
            view_printf(&m, 1 + i, 1, on ? ST_TITLE : ST_NORMAL, "%s%s %s", on ? ">" : " ", num, t->menu.item[first + i].text);
            if (on) {
                view_style(&m, 1 + i, 0, m.w, ST_REVERSE);
                view_cursor(&m, 1 + i, 1, true);
            }
        }
        break;
    }
    case OV_FORM: form_draw(t, body); break;
    case OV_QUESTION: question_draw(t, body); break;
    default: break;
    }
}
