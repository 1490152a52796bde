#include "tui/table.h"

#include "base/text.h"
#include "tui/fmt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/banned.h"

void table_cell(char *out, size_t cap, const struct column *c, const json_t *row) {
    const json_t *v = *c->path ? jget(row, c->path) : row;
    out[0] = 0;
    if (!v && c->kind != COL_WHO)
        return;
    double n = json_is_number(v) ? json_number_value(v) : 0;
    const char *s = json_string_value(v);
    switch (c->kind) {
    case COL_TEXT:
        if (json_is_integer(v))
            snprintf(out, cap, "%lld", (long long)json_integer_value(v));
        else if (json_is_real(v))
            snprintf(out, cap, "%.6g", n);
        else if (json_is_boolean(v))
            snprintf(out, cap, "%s", json_is_true(v) ? "yes" : "no");
        else if (json_is_array(v))
            snprintf(out, cap, "%zu", json_array_size(v));
        else if (json_is_object(v))
            snprintf(out, cap, "%zu", json_object_size(v));
        else
            snprintf(out, cap, "%s", s ? s : "");
        break;
    case COL_COUNT:
        if (json_is_number(v))
            fmt_count(out, cap, n);
        else
            snprintf(out, cap, "%s", s ? s : "");
        break;
    case COL_REAL: snprintf(out, cap, "%.4g", n); break;
    case COL_WEI: fmt_wei(out, cap, s ? s : ""); break;
    case COL_DATE: fmt_date(out, cap, (int64_t)n); break;
    case COL_CLOCK: fmt_clock(out, cap, (int64_t)n); break;
    case COL_HASH: fmt_hash(out, cap, s ? s : ""); break;
    case COL_PPM: snprintf(out, cap, "%.1f%%", n / 1e4); break;
    case COL_BYTES: fmt_bytes(out, cap, n); break;
    case COL_WHO: jwho(row, out, cap); break;
    case COL_MINE: { /* {ACCOUNT: rows}: those of this node's keys */
        const char *account;
        json_t *rows;
        double sum = 0;
        json_object_foreach((json_t *)(uintptr_t)v, account, rows)
            if (fmt_is_mine(strtoll(account, NULL, 10)))
                sum += json_number_value(rows);
        fmt_count(out, cap, sum);
        break;
    }
    case COL_ACCOUNT: fmt_account(out, cap, (int64_t)n); break;
    case COL_YES: snprintf(out, cap, "%s", json_is_true(v) ? "yes" : ""); break;
    }
}

static bool passes(const struct table *t, const json_t *row, const char *filter) {
    char s[FMT_MAX];
    if (!*filter)
        return true;
    for (int i = 0; i < t->n; i++) {
        table_cell(s, sizeof s, &t->col[i], row);
        if (strcasestr(s, filter))
            return true;
    }
    return false;
}

const json_t *table_selected(const struct table *t, const json_t *rows, const struct list_state *st) {
    int k = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *r = json_array_get(rows, i);
        if (passes(t, r, st->filter) && k++ == st->sel)
            return r;
    }
    return NULL;
}

void list_move(struct list_state *st, int what, int page) {
    page = page > 1 ? page - 1 : 1;
    st->sel += what == -1 ? -1 : what == 1 ? 1 : what == -2 ? -page : what == 2 ? page : 0;
    if (what == -3 || st->sel < 0)
        st->sel = 0;
    if (what == 3 || st->sel >= st->shown)
        st->sel = st->shown ? st->shown - 1 : 0;
}

#define MARK_WIDTH 28 /* of a selected row: enough to be seen, and a key stays under 150 bytes */

static bool numeric(enum column_kind k) {
    return k == COL_COUNT || k == COL_MINE || k == COL_REAL || k == COL_WEI || k == COL_PPM || k == COL_BYTES;
}

/* Columns that the rows about to be drawn take in column i, at least `least`. */
static int need_of(const struct table *t, int i, const json_t *rows, const struct list_state *st, int body, int least) {
    char s[FMT_MAX];
    int k = 0, title = (int)strlen(t->col[i].title);
    least = title > least ? title : least;
    for (size_t r = 0; r < json_array_size(rows) && k < st->top + body; r++) {
        const json_t *row = json_array_get(rows, r);
        if (!passes(t, row, st->filter) || k++ < st->top)
            continue;
        table_cell(s, sizeof s, &t->col[i], row);
        int w = text_columns(s, strlen(s));
        least = w > least ? w : least;
    }
    return least;
}

void table_draw(const struct view *v, const struct table *t, const json_t *rows, struct list_state *st, bool focus) {
    int width[TABLE_COLUMNS_MAX], shown = 0, n = t->n;
    bool on[TABLE_COLUMNS_MAX];
    LOAM_ASSERT(n <= TABLE_COLUMNS_MAX);
    st->shown = 0;
    for (size_t i = 0; i < json_array_size(rows); i++)
        st->shown += passes(t, json_array_get(rows, i), st->filter);
    if (st->sel >= st->shown)
        st->sel = st->shown ? st->shown - 1 : 0;
    int body = v->h - 1;
    if (body < 1 || v->w < 2)
        return;
    if (st->sel < st->top)
        st->top = st->sel;
    if (st->sel >= st->top + body)
        st->top = st->sel - body + 1;
    if (st->top > st->shown - body)
        st->top = st->shown > body ? st->shown - body : 0;

    int total = 2; /* the mark of the selected row */
    for (int i = 0; i < n; i++) {
        on[i] = true;
        width[i] = t->col[i].width;
        total += width[i] + 1;
    }
    while (total - 1 > v->w) { /* too narrow: the least needed column goes */
        int worst = -1;
        for (int i = 0; i < n; i++)
            if (on[i] && (worst < 0 || t->col[i].rank >= t->col[worst].rank))
                worst = i;
        for (int i = shown = 0; i < n; i++)
            shown += on[i];
        if (shown <= 1)
            break;
        on[worst] = false;
        total -= width[worst] + 1;
    }
    for (int i = 0; i < n && total - 1 < v->w; i++) /* what is left goes to the growing column, as far as its rows need it */
        if (on[i] && t->col[i].grow) {
            int want = need_of(t, i, rows, st, body, width[i]), more = v->w - (total - 1);
            more = want - width[i] < more ? want - width[i] : more;
            width[i] += more;
            total += more;
        }
    for (int i = 0; i < n && total - 1 < v->w; i++) /* then to columns that cut something */
        if (on[i] && !t->col[i].grow) {
            int want = need_of(t, i, rows, st, body, width[i]), more = v->w - (total - 1);
            more = want - width[i] < more ? want - width[i] : more;
            width[i] += more;
            total += more;
        }
    int x = 2;
    for (int i = 0; i < n; i++) {
        if (!on[i])
            continue;
        if (numeric(t->col[i].kind))
            view_right(v, 0, x, width[i], ST_SOFT | ST_UNDERLINE, t->col[i].title);
        else
            view_textn(v, 0, x, ST_SOFT | ST_UNDERLINE, t->col[i].title, strlen(t->col[i].title), width[i]);
        x += width[i] + 1;
    }
    int k = 0;
    char s[FMT_MAX];
    for (size_t r = 0; r < json_array_size(rows); r++) {
        const json_t *row = json_array_get(rows, r);
        if (!passes(t, row, st->filter) || k++ < st->top)
            continue;
        int y = k - st->top;
        if (y > body)
            break;
        bool sel = k - 1 == st->sel;
        unsigned style = t->style ? t->style(row) : ST_NORMAL;
        x = 2;
        for (int i = 0; i < n; i++) {
            if (!on[i])
                continue;
            table_cell(s, sizeof s, &t->col[i], row);
            if (numeric(t->col[i].kind))
                view_right(v, y, x, width[i], style, s);
            else if (view_textn(v, y, x, style, s, strlen(s), width[i]) == width[i] && text_columns(s, strlen(s)) > width[i])
                view_glyph(v, y, x + width[i] - 1, style, G_ELLIPSIS);
            x += width[i] + 1;
        }
        if (sel && focus) {
            view_glyph(v, y, 0, ST_TITLE, G_FOCUS);
            view_style(v, y, 0, v->w < MARK_WIDTH ? v->w : MARK_WIDTH, ST_REVERSE);
            view_cursor(v, y, 0, true);
        }
    }
    if (st->top > 0)
        view_glyph(v, 0, v->w - 1, ST_SOFT, G_MORE_UP);
    if (st->top + body < st->shown)
        view_glyph(v, v->h - 1, v->w - 1, ST_SOFT, G_MORE_DOWN);
}

enum loam_status table_csv(struct buf *out, const struct table *t, const json_t *rows, const char *filter, struct err *err) {
    enum loam_status s = LOAM_OK;
    struct buf cell = BUF_INIT(1u << 20);
    for (int i = 0; i < t->n && !s; i++)
        s = buf_printf(out, err, "%s%s", i ? "," : "", t->col[i].path);
    if (!s)
        s = buf_str(out, "\r\n", err);
    for (size_t r = 0; r < json_array_size(rows) && !s; r++) {
        const json_t *row = json_array_get(rows, r);
        if (!passes(t, row, filter))
            continue;
        for (int i = 0; i < t->n && !s; i++) {
            const json_t *v = jget(row, t->col[i].path);
            char num[64];
            const char *text = json_string_value(v);
            num[0] = 0;
            if (json_is_integer(v)) /* raw values: a program reads this */
                snprintf(num, sizeof num, "%lld", (long long)json_integer_value(v));
            else if (json_is_real(v))
                snprintf(num, sizeof num, "%.17g", json_real_value(v));
            else if (json_is_boolean(v))
                snprintf(num, sizeof num, "%s", json_is_true(v) ? "true" : "false");
            text = text ? text : num;
            buf_reset(&cell);
            s = text_clean(&cell, text, strlen(text), TEXT_LINES, err);
            /* a spreadsheet runs what begins like a formula */
            bool formula = !s && !*num && cell.len && strchr("=+-@", cell.data[0]);
            bool quote = !s && cell.len && (formula || strpbrk((char *)cell.data, ",\"\n"));
            if (!s)
                s = buf_printf(out, err, "%s%s%s", i ? "," : "", quote ? "\"" : "", formula ? "'" : "");
            for (size_t k = 0; k < cell.len && !s; k++)
                s = cell.data[k] == '"' ? buf_str(out, "\"\"", err) : buf_byte(out, cell.data[k], err);
            if (!s && quote)
                s = buf_byte(out, '"', err);
        }
        if (!s)
            s = buf_str(out, "\r\n", err);
    }
    buf_clear(&cell);
    return s;
}
