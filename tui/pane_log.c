/* Log: what the node says about its work, newest at the bottom. */
#include "tui/app.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/banned.h"

static void add(struct tui *t, int64_t ms, const char *level, const char *room, const char *text) {
    struct log_line *l = &t->log[(t->log_at + t->log_n) % LOG_KEPT];
    if (t->log_n == LOG_KEPT) {
        t->log_at = (t->log_at + 1) % LOG_KEPT;
        mem_free(l->text);
    } else {
        t->log_n++;
    }
    l->time_ms = ms;
    snprintf(l->level, sizeof l->level, "%s", level);
    snprintf(l->room, sizeof l->room, "%s", room);
    l->text = mem_strndup(text, LOG_LINE_MAX);
}

void log_add(struct tui *t, const json_t *e) {
    add(t, jint(e, "time_ms", 0), jstr(e, "level"), jstr(e, "room"), jstr(e, "text"));
}

void log_local(struct tui *t, const char *level, const char *text) {
    add(t, (int64_t)clock_unix_ms(), level, "console", text);
}

void log_text(struct tui *t, int i, char *out, size_t cap) {
    const struct log_line *l = &t->log[(t->log_at + i) % LOG_KEPT];
    char c[16];
    fmt_clock(c, sizeof c, l->time_ms);
    snprintf(out, cap, "%s %-5s %-6s %s", c, l->level, l->room, l->text ? l->text : "");
}

static bool passes(struct tui *t, int i) {
    const struct log_line *l = &t->log[(t->log_at + i) % LOG_KEPT];
    const char *f = t->list[PANE_LOG].filter;
    return !*f || (l->text && strcasestr(l->text, f)) || strcasestr(l->room, f) || strcasestr(l->level, f);
}

static bool is_empty(struct tui *t) {
    return !t->log_n;
}

/* list[PANE_LOG].top counts lines scrolled up from the newest. */
static void draw(struct tui *t, const struct view *v, bool small, bool focus) {
    struct list_state *st = &t->list[PANE_LOG];
    int body = v->h, y, left = st->top, hidden = 0;
    if (st->filter[0] && !small && body > 2) {
        view_printf(v, 0, 1, ST_WARN, "filter: %s", st->filter);
        body--;
    }
    y = v->h - 1;
    int i = t->log_n - 1;
    for (; i >= 0 && left > 0; i--)
        if (passes(t, i))
            left--, hidden++;
    if (left) { /* fewer lines than that */
        st->top -= left;
    }
    for (; i >= 0 && y >= v->h - body; i--) {
        if (!passes(t, i))
            continue;
        const struct log_line *l = &t->log[(t->log_at + i) % LOG_KEPT];
        unsigned style = !strcmp(l->level, "error") ? ST_BAD : !strcmp(l->level, "warn") ? ST_WARN : ST_NORMAL;
        const char *text = l->text ? l->text : "";
        /* the columns before the text, then the text over as many rows as it needs where the pane is large */
        int x = 1 + (v->w >= 40 ? 9 : 0) + (style != ST_NORMAL ? (int)strlen(l->level) + 1 : 0) + (v->w >= 60 ? 7 : 0);
        struct view none = view_sub(v, 0, 0, 0, v->w);
        int most = small ? 1 : 6, rows = view_wrap(&none, 0, 0, v->w - x, most, style, text);
        rows = rows < 1 ? 1 : rows;
        y -= rows - 1;
        struct view at = view_sub(v, y < v->h - body ? v->h - body : y, 0, v->h, v->w);
        int row = y < v->h - body ? y - (v->h - body) : 0; /* its first rows may be above the pane */
        char c[16];
        fmt_clock(c, sizeof c, l->time_ms);
        x = 1;
        if (v->w >= 40)
            x += view_text(&at, row, x, ST_SOFT, c) + 1;
        if (style != ST_NORMAL) /* a word besides the colour */
            x += view_text(&at, row, x, style, l->level) + 1;
        if (v->w >= 60)
            x += view_printf(&at, row, x, ST_SOFT, "%-6s", l->room) + 1;
        view_wrap(&at, row, x, v->w - x, most, style, text);
        y--;
    }
    if (hidden)
        view_glyph(v, v->h - 1, v->w - 1, ST_WARN, G_MORE_DOWN);
    if (focus)
        view_cursor(v, v->h - 1, 0, true);
}

static bool act(struct tui *t, enum action a) {
    struct list_state *st = &t->list[PANE_LOG];
    int page = pane_page(t, PANE_LOG);
    switch (a) {
    case ACT_UP: st->top++; break;
    case ACT_DOWN: st->top--; break;
    case ACT_PAGE_UP: st->top += page; break;
    case ACT_PAGE_DOWN: st->top -= page; break;
    case ACT_FIRST: st->top = t->log_n; break;
    case ACT_LAST: st->top = 0; break;
    case ACT_BACK:
        if (!st->filter[0])
            return false;
        st->filter[0] = 0;
        break;
    default: return false;
    }
    st->top = st->top < 0 ? 0 : st->top >= t->log_n ? t->log_n - 1 : st->top;
    return true;
}

const struct pane pane_log = {
    .name = "log", .title = "Log", .topic = TOPICS, .empty = "Nothing logged yet.", .next = "doctor",
    .is_empty = is_empty, .draw = draw, .act = act,
};
