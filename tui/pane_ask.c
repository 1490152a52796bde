/* Ask: a streaming chat. After an answer its attribution is asked for, and each span is marked with its strongest source. */
#include "tui/app.h"

#include "base/mem.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define SHOWN_CHARS_MAX 65536 /* of the newest turns: what one can scroll back through */

static struct turn *turn_find(struct tui *t, const char *id, bool make) {
    for (int i = t->turns - 1; i >= 0; i--)
        if (!strcmp(t->turn[i].id, id))
            return &t->turn[i];
    if (!make)
        return NULL;
    if (t->turns == TURNS_KEPT) {
        struct turn *o = &t->turn[0];
        mem_free(o->prompt);
        mem_free(o->error);
        buf_clear(&o->text);
        json_decref(o->source);
        memmove(t->turn, t->turn + 1, (TURNS_KEPT - 1) * sizeof *t->turn);
        t->turns--;
    }
    struct turn *n = &t->turn[t->turns++];
    *n = (struct turn){0};
    snprintf(n->id, sizeof n->id, "%s", id);
    buf_init(&n->text, ANSWER_MAX);
    t->span = -1;
    t->ask_scroll = 0;
    return n;
}

void ask_on_event(struct tui *t, const json_t *e) {
    char id[80];
    const char *ev = jstr(e, "event");
    struct turn *n = turn_find(t, jtext(e, "ask", id, sizeof id), true);
    if (!strcmp(ev, "start") && (n->ended || n->text.len)) { /* a node that was started again counts from one again */
        n->id[0] = 0;
        n = turn_find(t, id, true);
    }
    if (!strcmp(ev, "start")) {
        mem_free(n->prompt);
        n->prompt = mem_strdup(jstr(e, "prompt"));
        snprintf(n->model, sizeof n->model, "%s", *jstr(e, "adapter") ? jstr(e, "adapter") : jstr(e, "model"));
    } else if (!strcmp(ev, "token")) {
        if (buf_str(&n->text, jstr(e, "text"), NULL))
            n->ended = true; /* longer than we keep: shown as far as it goes */
    } else {
        n->ended = true;
        n->tokens_out = jint(e, "tokens_out", 0);
        n->tokens_per_s = jnum(e, "tokens_per_s", 0);
        jtext(e, "answer", n->answer, sizeof n->answer);
        if (!strcmp(ev, "error")) {
            mem_free(n->error);
            n->error = mem_strdup(*jstr(e, "error") ? jstr(e, "error") : jstr(e, "text"));
        }
        ask_on_attribution(t);
    }
}

void ask_on_attribution(struct tui *t) {
    json_t *a = t->topic[TOP_ATTRIBUTION];
    char id[80];
    jtext(a, "answer", id, sizeof id);
    for (int i = 0; *id && i < t->turns; i++)
        if (!strcmp(t->turn[i].answer, id)) {
            json_decref(t->turn[i].source);
            t->turn[i].source = json_incref(a);
        }
}

static struct turn *marked_turn(struct tui *t) {
    for (int i = t->turns - 1; i >= 0; i--)
        if (jcount(t->turn[i].source, "spans"))
            return &t->turn[i];
    return NULL;
}

void ask_submit(struct tui *t) {
    const char *q = line_text(&t->ask);
    if (!q[strspn(q, " \n")])
        return;
    json_t *v = *t->model ? json_pack("[s, s, s, s, s]", "ask", "--model", t->model, "--", q) : json_pack("[s, s, s]", "ask", "--", q);
    t->asked++;
    run_argv(t, v, "ask", true);
    line_reset(&t->ask);
    t->ask_scroll = 0;
}

/* ---- the picture --------------------------------------------------------------------------------------------------- */

struct mark {
    uint32_t cp; /* '\n' ends a line */
    uint16_t style;
};
struct page {
    struct mark *m;
    size_t n, cap;
};

static void add(struct page *p, uint32_t cp, unsigned style) {
    if (p->n < p->cap)
        p->m[p->n++] = (struct mark){cp, (uint16_t)style};
}

static void add_text(struct page *p, const char *s, size_t n, unsigned style) {
    for (size_t i = 0, k; i < n; i += k) {
        uint32_t cp;
        k = utf8_decode(&cp, (const uint8_t *)s + i, n - i);
        if (!k) {
            k = 1;
            cp = 0xfffd;
        }
        add(p, cp, style);
    }
}

static void add_str(struct page *p, const char *s, unsigned style) {
    add_text(p, s, strlen(s), style);
}

/* The place of an account among the contributors: its number and colour. */
static int source_number(const json_t *source, int64_t account) {
    const json_t *c = jget(source, "contributors");
    for (size_t i = 0; i < json_array_size(c); i++)
        if (jint(json_array_get(c, i), "account", -1) == account)
            return (int)i + 1;
    return 0;
}

static const json_t *source_row(const json_t *source, int64_t row) {
    const json_t *r = jget(source, "rows");
    for (size_t i = 0; i < json_array_size(r); i++)
        if (jint(json_array_get(r, i), "row", -1) == row)
            return json_array_get(r, i);
    return NULL;
}

static void add_turn(struct tui *t, struct page *p, const struct turn *n, bool selected) {
    add_str(p, "You: ", ST_TITLE);
    add_str(p, n->prompt ? n->prompt : "(asked earlier)", ST_TITLE);
    add(p, '\n', 0);
    add_str(p, *n->model ? n->model : "Model", ST_ACCENT);
    add_str(p, ": ", ST_ACCENT);
    const char *s = n->text.data ? (const char *)n->text.data : "";
    const json_t *spans = jget(n->source, "spans");
    size_t at = 0, len = n->text.len;
    for (size_t i = 0; i < json_array_size(spans); i++) {
        const json_t *sp = json_array_get(spans, i);
        int64_t from = jint(sp, "from", -1), to = jint(sp, "to", -1);
        if (from < (int64_t)at || to <= from || to > (int64_t)len)
            continue;
        add_text(p, s + at, (size_t)from - at, ST_NORMAL);
        int number = source_number(n->source, jint(sp, "account", -1));
        unsigned style = number ? (unsigned)(ST_SPAN + (number - 1) % 6) : ST_NORMAL;
        if (selected && t->span == (int)i)
            style |= ST_REVERSE;
        add_text(p, s + from, (size_t)(to - from), style);
        if (number) {
            char m[16];
            snprintf(m, sizeof m, "[%d]", number);
            add_str(p, m, style | ST_BOLD);
        }
        at = (size_t)to;
    }
    add_text(p, s + at, len - at, ST_NORMAL);
    if (!n->ended)
        add_str(p, " ...", ST_SOFT);
    add(p, '\n', 0);
    if (n->error) {
        add_str(p, n->error, ST_BAD);
        add(p, '\n', 0);
    }
    const json_t *c = jget(n->source, "contributors");
    bool any = false;
    if (json_array_size(c)) { /* the number is what `record`, `attribute` and `copy` call it by */
        char id[80], m[96];
        snprintf(m, sizeof m, "  answer %s", *n->answer ? n->answer : jtext(n->source, "answer", id, sizeof id));
        add_str(p, m, ST_SOFT);
    }
    for (size_t i = 0; i < json_array_size(c) && i < 6; i++) {
        char m[160], who[96];
        if (jnum(json_array_get(c, i), "share_ppm", 0) <= 0)
            continue;
        snprintf(m, sizeof m, "%s[%zu] %s %.1f%%", any ? "  " : " from ", i + 1, jwho(json_array_get(c, i), who, sizeof who),
                 jnum(json_array_get(c, i), "share_ppm", 0) / 1e4);
        add_str(p, m, ST_SPAN + (unsigned)(i % 6));
        any = true;
    }
    if (json_array_size(c) && !any)
        add_str(p, ": no contributor's rows stand out", ST_SOFT);
    if (json_array_size(c))
        add(p, '\n', 0);
    add(p, '\n', 0);
}

/* Breaks into lines of at most w columns; start gets the index where each line begins. */
static size_t wrap(const struct page *p, int w, uint32_t *start, size_t max) {
    size_t lines = 0, i = 0;
    while (i < p->n && lines < max) {
        start[lines++] = (uint32_t)i;
        int used = 0;
        size_t space = 0, j = i;
        for (; j < p->n && p->m[j].cp != '\n'; j++) {
            int k = text_width(p->m[j].cp);
            k = k < 0 ? 1 : k;
            if (used + k > w)
                break;
            used += k;
            if (p->m[j].cp == ' ')
                space = j + 1;
        }
        if (j < p->n && p->m[j].cp != '\n') {
            if (p->m[j].cp == ' ')
                j++;
            else if (space > i)
                j = space;
            else if (j == i)
                j++;
        } else {
            j++;
        }
        i = j;
    }
    return lines;
}

static void draw_line(const struct view *v, int y, const struct page *p, size_t from, size_t to) {
    int x = 1;
    char s[1024];
    while (from < to && p->m[from].cp != '\n') {
        unsigned style = p->m[from].style;
        size_t n = 0;
        for (; from < to && p->m[from].cp != '\n' && p->m[from].style == style && n + 8 < sizeof s; from++)
            n += utf8_encode((uint8_t *)s + n, p->m[from].cp);
        x += view_textn(v, y, x, style, s, n, -1);
    }
}

static void draw_span(struct tui *t, const struct view *v, const struct turn *n) {
    const json_t *sp = json_array_get(jget(n->source, "spans"), (size_t)t->span);
    const json_t *row = source_row(n->source, jint(sp, "row", -1));
    int64_t account = jint(sp, "account", -1);
    char who[96];
    jwho(row ? row : sp, who, sizeof who);
    view_rule(v, 0, 0, v->w, ST_SOFT, G_HLINE);
    int x = pane_pair(v, 1, 1, "from", ST_TITLE, "%s", who);
    x = pane_pair(v, 1, x, "account", ST_NORMAL, "%lld", (long long)account);
    x = pane_pair(v, 1, x, "row", ST_NORMAL, "%lld", (long long)jint(sp, "row", -1));
    x = pane_pair(v, 1, x, "rank", ST_NORMAL, "%lld", (long long)jint(row, "rank", 0));
    x = pane_pair(v, 1, x, "share", ST_TITLE, "%.1f%%", jnum(row, "share_ppm", 0) / 1e4);
    char score[64];
    static const struct column c = {"", "score", COL_TEXT, 0, false, 0};
    table_cell(score, sizeof score, &c, row);
    pane_pair(v, 1, x, "score", ST_NORMAL, "%s", score);
    view_wrap(v, 2, 1, v->w - 2, 2, ST_NORMAL, jstr(row, "text"));
}

static void draw(struct tui *t, const struct view *v, bool small, bool focus) {
    int compose = v->h >= 2 ? 1 : 0;
    struct turn *marked = marked_turn(t);
    int detail = marked && t->span >= 0 && !small && v->h >= 9 ? 4 : 0;
    struct view body = view_sub(v, 0, 0, v->h - compose - detail, v->w);
    size_t room = 0;
    int first = t->turns;
    while (first > 0) { /* whole turns, the newest ones */
        const struct turn *n = &t->turn[first - 1];
        size_t need = n->text.len + (n->prompt ? strlen(n->prompt) : 0) + (n->error ? strlen(n->error) : 0) + 16 * jcount(n->source, "spans") + 1536;
        if (room + need > SHOWN_CHARS_MAX && first < t->turns)
            break;
        room += need;
        first--;
        if (small && t->turns - first >= 3)
            break;
    }
    room = room > SHOWN_CHARS_MAX ? SHOWN_CHARS_MAX : room;
    uint32_t *start = mem_array(room + 1, sizeof *start);
    struct page p = {mem_array(room + 1, sizeof *p.m), 0, room};
    if (start && p.m && body.h > 0) {
        for (int i = first; i < t->turns; i++)
            add_turn(t, &p, &t->turn[i], &t->turn[i] == marked);
        while (p.n && p.m[p.n - 1].cp == '\n')
            p.n--;
        size_t lines = wrap(&p, body.w > 2 ? body.w - 2 : 1, start, room);
        int most = (int)lines > body.h ? (int)lines - body.h : 0;
        t->ask_scroll = t->ask_scroll > most ? most : t->ask_scroll < 0 ? 0 : t->ask_scroll;
        size_t top = (size_t)(most - t->ask_scroll);
        for (int y = 0; y < body.h && top + (size_t)y < lines; y++) {
            size_t k = top + (size_t)y;
            draw_line(&body, y, &p, start[k], k + 1 < lines ? start[k + 1] : p.n);
        }
        if (t->ask_scroll)
            view_glyph(&body, body.h - 1, body.w - 1, ST_WARN, G_MORE_DOWN);
        if (top)
            view_glyph(&body, 0, body.w - 1, ST_SOFT, G_MORE_UP);
    }
    mem_free(start);
    mem_free(p.m);
    if (!t->turns && body.h > 0) {
        view_text(&body, 0, 1, ST_SOFT, small ? "Ask your model." : "Ask a model a question; its answer shows whose rows it came from.");
        if (!small && body.h > 1)
            view_text(&body, 1, 1, ST_SOFT, "Questions asked here are private, free and not recorded.");
    }
    if (detail) {
        struct view d = view_sub(v, v->h - compose - detail, 0, detail, v->w);
        draw_span(t, &d, marked);
    }
    if (compose) {
        int y = v->h - 1, x = 1;
        if (t->over == OV_ASK) {
            x += view_text(v, y, x, ST_TITLE, "> ");
            line_draw(v, y, x, ST_NORMAL, &t->ask, false);
        } else {
            x += view_text(v, y, x, ST_SOFT, "> ");
            const char *m = *t->model ? t->model : "";
            if (t->ask.text.len)
                view_text(v, y, x, ST_SOFT, line_text(&t->ask));
            else if (!small)
                x += view_printf(v, y, x, ST_SOFT, "Enter: write a question%s%s   m: model   n: spans   y: copy",
                                 *m ? " to " : "", m);
            if (focus)
                view_cursor(v, y, 1, true);
        }
    }
}

static void pick_model(struct tui *t, const char *value) {
    snprintf(t->model, sizeof t->model, "%s", value);
    tui_status(t, ST_NORMAL, "%s answers from now on", *value ? value : "the node's default model");
}

static bool act(struct tui *t, enum action a) {
    struct turn *n = marked_turn(t);
    int spans = n ? (int)jcount(n->source, "spans") : 0;
    int page = pane_page(t, PANE_ASK);
    switch (a) {
    case ACT_OPEN:
        if (t->o.readonly)
            tui_status(t, ST_WARN, "this console only looks (--readonly)");
        else
            overlay_open(t, OV_ASK);
        return true;
    case ACT_NEXT_SPAN:
    case ACT_PREVIOUS_SPAN:
        if (!spans) {
            tui_status(t, ST_NORMAL, "no attributed answer yet: spans are marked once `attribute` is done");
            return true;
        }
        t->span += a == ACT_NEXT_SPAN ? 1 : -1;
        t->span = t->span >= spans ? 0 : t->span < 0 ? spans - 1 : t->span;
        if (t->layout.small >> PANE_ASK & 1) { /* no room for it in the pane */
            const json_t *sp = json_array_get(jget(n->source, "spans"), (size_t)t->span), *row = source_row(n->source, jint(sp, "row", -1));
            char who[96];
            tui_status(t, ST_NORMAL, "span %d of %d: from %s, row %lld (%.1f%%): %s", t->span + 1, spans, jwho(row ? row : sp, who, sizeof who),
                       (long long)jint(sp, "row", -1), jnum(row, "share_ppm", 0) / 1e4, jstr(row, "text"));
        }
        return true;
    case ACT_BACK:
        if (t->span < 0)
            return false;
        t->span = -1;
        return true;
    case ACT_UP: t->ask_scroll++; return true;
    case ACT_DOWN: t->ask_scroll--; return true;
    case ACT_PAGE_UP: t->ask_scroll += page; return true;
    case ACT_PAGE_DOWN: t->ask_scroll -= page; return true;
    case ACT_FIRST: t->ask_scroll = SHOWN_CHARS_MAX; return true;
    case ACT_LAST: t->ask_scroll = 0; return true;
    case ACT_COPY: prompt_open(t, "copy answer.txt"); return true;
    case ACT_MODEL: {
        const json_t *list = jget(t->topic[TOP_MODELS], "list");
        menu_open(t, "Who answers?", pick_model);
        menu_add(t, "", "the node's default");
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *m = json_array_get(list, i);
            menu_add(t, jstr(m, "name"), "%s  (%s%s%s)", jstr(m, "name"), jstr(m, "kind"), *jstr(m, "base") ? " on " : "",
                     jstr(m, "base"));
        }
        overlay_open(t, OV_MENU);
        return true;
    }
    default: return false;
    }
}

static bool line(struct tui *t, char *out, size_t cap) {
    (void)t;
    (void)out;
    (void)cap;
    return false; /* plain mode prints the stream itself */
}

const struct pane pane_ask = {
    .name = "ask", .title = "Ask", .topic = TOPICS, .empty = "", .next = "ask ",
    .draw = draw, .act = act, .line = line,
};
