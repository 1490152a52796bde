/* What all panes share: their order, heads and lists, the empty pane that shows the next command, details of a row. */
#include "tui/app.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

const struct pane *const panes[PANES] = {
    [PANE_CHAIN] = &pane_chain,         [PANE_TRAIN] = &pane_train,         [PANE_ASK] = &pane_ask,
    [PANE_ATTRIBUTION] = &pane_attribution, [PANE_REWARDS] = &pane_rewards, [PANE_VALIDATOR] = &pane_validator,
    [PANE_DATANETS] = &pane_datanets,   [PANE_MODELS] = &pane_models,       [PANE_LOG] = &pane_log,
};

int pane_pair(const struct view *v, int y, int x, const char *label, unsigned style, const char *fmt, ...) {
    char s[FMT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s, sizeof s, fmt, ap);
    va_end(ap);
    int need = (int)strlen(label) + 1 + text_columns(s, strlen(s));
    if (x > 0 && x + need > v->w)
        return x; /* whole or not at all */
    x += view_text(v, y, x, ST_SOFT, label) + 1;
    return x + view_text(v, y, x, style, s) + 2;
}

const struct pane_list *pane_list(struct tui *t, enum pane_id p, const json_t **rows) {
    const struct pane *d = panes[p];
    *rows = NULL;
    if (!d->n_lists)
        return NULL;
    const struct pane_list *l = &d->lists[t->tab[p] % d->n_lists];
    *rows = l->topic == TOPICS ? (strcmp(l->path, "methods") ? t->heads : t->methods) : jget(t->topic[l->topic], l->path);
    return l;
}

int pane_page(struct tui *t, enum pane_id p) {
    int h = t->layout.pane[p].h - 4;
    return h > 1 ? h : 1;
}

static void draw_empty(struct tui *t, const struct pane *d, const struct view *v, bool small) {
    const char *next = d->next;
    int y = small || v->h < 6 ? 0 : 1;
    if (!t->topic[TOP_NODE] && !conn_is_up(t->conn)) {
        view_text(v, y, 1, ST_SOFT, "connecting ...");
        return;
    }
    y += view_wrap(v, y, 1, v->w - 1, v->h > y + 2 ? 2 : 1, ST_SOFT, d->empty) - 1;
    int x = 1 + view_text(v, y + 1, 1, ST_SOFT, small ? "" : "Next: ");
    x += view_text(v, y + 1, x, ST_ACCENT | ST_BOLD, ":");
    view_text(v, y + 1, x, ST_ACCENT | ST_BOLD, next);
    if (!small && v->h > y + 2)
        view_text(v, y + 2, 1, ST_SOFT, "(Enter puts it on the prompt; f shows forms)");
}

void pane_draw(struct tui *t, enum pane_id p, const struct view *v, bool small, bool focus) {
    const struct pane *d = panes[p];
    if (v->h < 1 || v->w < 1)
        return;
    if (d->is_empty && d->is_empty(t)) {
        draw_empty(t, d, v, small);
        return;
    }
    if (d->draw) {
        d->draw(t, v, small, focus);
        return;
    }
    int y = d->head ? d->head(t, v, small) : 0;
    const json_t *rows;
    const struct pane_list *l = pane_list(t, p, &rows);
    if (!l || v->h - y < 2)
        return;
    if (!small && v->h - y >= 5 && d->n_lists > 1) {
        int x = 1;
        for (int i = 0; i < d->n_lists; i++) {
            bool on = l == &d->lists[i];
            x += view_printf(v, y, x, on ? ST_TITLE | ST_UNDERLINE : ST_SOFT, on ? "[%s]" : " %s ", d->lists[i].title) + 1;
        }
        if (t->list[p].filter[0])
            view_printf(v, y, x + 1, ST_WARN, "filter: %s", t->list[p].filter);
        y++;
    }
    struct view body = view_sub(v, y, 0, v->h - y, v->w);
    if (!json_array_size(rows)) {
        if (!small)
            view_printf(&body, 0, 2, ST_SOFT, d->n_lists > 1 ? "no %s; ] shows %s" : "no %s yet", l->title,
                        d->lists[(t->tab[p] + 1) % d->n_lists].title);
        return;
    }
    table_draw(&body, &l->table, rows, &t->list[p], focus);
}

void pane_detail(struct tui *t, const char *title, const json_t *row) {
    buf_reset(&t->output);
    const char *key;
    json_t *val;
    enum loam_status s = LOAM_OK;
    json_object_foreach((json_t *)(uintptr_t)row, key, val) {
        char n[64];
        const char *text = json_string_value(val);
        char *dump = NULL;
        size_t len = strlen(key);
        if (json_is_integer(val) && len > 3 && !strcmp(key + len - 3, "_ms"))
            fmt_date(n, sizeof n, json_integer_value(val));
        else if (json_is_integer(val))
            snprintf(n, sizeof n, "%lld", (long long)json_integer_value(val));
        else if (json_is_real(val))
            snprintf(n, sizeof n, "%.9g", json_real_value(val));
        else
            snprintf(n, sizeof n, "%s", json_is_true(val) ? "yes" : json_is_false(val) ? "no" : "-");
        char wei[128];
        if (text && len > 4 && !strcmp(key + len - 4, "_wei")) {
            fmt_wei(wei, sizeof wei - 6, text);
            snprintf(wei + strlen(wei), 6, " OPEN");
            text = wei;
        }
        if (json_is_object(val) || json_is_array(val))
            dump = json_dumps(val, JSON_COMPACT);
        if (!s)
            s = buf_printf(&t->output, NULL, "%-14s %s\n", key, text ? text : dump ? dump : n);
        if (dump) {
            void (*release)(void *);
            json_get_alloc_funcs(NULL, &release);
            release(dump);
        }
    }
    snprintf(t->output_title, sizeof t->output_title, "%s", title);
    t->output_top = 0;
    overlay_open(t, OV_OUTPUT);
}

bool pane_act(struct tui *t, enum pane_id p, enum action a) {
    const struct pane *d = panes[p];
    if (a == ACT_OPEN && d->is_empty && d->is_empty(t) && p != PANE_ASK) {
        prompt_open(t, d->next);
        return true;
    }
    if (d->act && d->act(t, a))
        return true;
    const json_t *rows;
    const struct pane_list *l = pane_list(t, p, &rows);
    if (!l)
        return false;
    struct list_state *st = &t->list[p];
    int page = pane_page(t, p);
    switch (a) {
    case ACT_UP: list_move(st, -1, page); return true;
    case ACT_DOWN: list_move(st, 1, page); return true;
    case ACT_PAGE_UP: list_move(st, -2, page); return true;
    case ACT_PAGE_DOWN: list_move(st, 2, page); return true;
    case ACT_FIRST: list_move(st, -3, page); return true;
    case ACT_LAST: list_move(st, 3, page); return true;
    case ACT_NEXT_LIST:
    case ACT_PREVIOUS_LIST:
        t->tab[p] = (t->tab[p] + (a == ACT_NEXT_LIST ? 1 : d->n_lists - 1)) % d->n_lists;
        st->sel = st->top = 0;
        return true;
    case ACT_OPEN: {
        const json_t *row = table_selected(&l->table, rows, st);
        if (row)
            pane_detail(t, l->title, row);
        return row != NULL;
    }
    case ACT_BACK:
        if (!st->filter[0])
            return false;
        st->filter[0] = 0;
        return true;
    default: return false;
    }
}
