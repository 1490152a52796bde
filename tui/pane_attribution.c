/* Attribution: whose rows an answer came from, by every method side by side. */
#include "tui/app.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

static bool is_empty(struct tui *t) {
    const json_t *a = t->topic[TOP_ATTRIBUTION];
    return !a || (!jget(a, "answer") && !jcount(a, "history"));
}

#define METHODS_MAX 6
static char method_name[METHODS_MAX][24]; /* titles and paths of the columns; the console is one a process */
static struct column methods[1 + METHODS_MAX] = {{"rank", "rank", COL_COUNT, 5, false, 0}};

static struct pane_list lists[4];

/* Turns {NAME: [{row, rank, score}]} into a row a rank, so that the methods stand side by side. */
void attribution_changed(struct tui *t) {
    const char *name;
    json_t *list, *m = (json_t *)(uintptr_t)jget(t->topic[TOP_ATTRIBUTION], "methods");
    json_t *out = json_array();
    int n = 0;
    json_object_foreach(m, name, list) {
        if (n == METHODS_MAX)
            break;
        snprintf(method_name[n], sizeof method_name[n], "%s", name);
        for (char *p = method_name[n]; *p; p++)
            if (*p == '.')
                *p = '-'; /* a dot would be a path */
        methods[1 + n] = (struct column){method_name[n], method_name[n], COL_TEXT, 16, n == 0, n + 1};
        for (size_t i = 0; i < json_array_size(list) && i < 256; i++) {
            const json_t *e = json_array_get(list, i);
            char s[64], score[40];
            if (json_is_real(jget(e, "score")))
                snprintf(score, sizeof score, "%.4g", jnum(e, "score", 0));
            else
                jtext(e, "score", score, sizeof score);
            snprintf(s, sizeof s, "%lld: %s", (long long)jint(e, "row", -1), score);
            while (json_array_size(out) <= i)
                if (json_array_append_new(out, json_pack("{s:I}", "rank", (json_int_t)json_array_size(out) + 1)))
                    break;
            json_object_set_new(json_array_get(out, i), method_name[n], json_string(s));
        }
        n++;
    }
    lists[2].table.n = 1 + n;
    json_decref(t->methods);
    t->methods = out;
}

static int head(struct tui *t, const struct view *v, bool small) {
    const json_t *a = t->topic[TOP_ATTRIBUTION];
    int y = 0, x = 1;
    if (small) {
        const json_t *c = jget(a, "contributors");
        view_text(v, y++, 1, ST_SOFT, jstr(a, "prompt"));
        for (size_t i = 0; i < json_array_size(c) && y < v->h; i++) {
            const json_t *r = json_array_get(c, i);
            char name[96];
            jwho(r, name, sizeof name);
            double share = jnum(r, "share_ppm", 0) / 1e6;
            x = 1 + view_textn(v, y, 1, ST_NORMAL, name, strlen(name), 10);
            plot_bar(v, y, 12, v->w - 20, ST_SPAN + (unsigned)(i % 6), share);
            view_printf(v, y++, v->w - 7, ST_NORMAL, "%5.1f%%", share * 100);
        }
        return v->h;
    }
    char id[80];
    x = pane_pair(v, y, x, "answer", ST_TITLE, "%s", jtext(a, "answer", id, sizeof id));
    x = pane_pair(v, y, x, "model", ST_NORMAL, "%s", jstr(a, "model"));
    x = pane_pair(v, y, x, "method", ST_NORMAL, "%s", jstr(a, "method"));
    pane_pair(v, y++, x, "in", ST_NORMAL, "%lld ms", (long long)jint(a, "elapsed_ms", 0));
    view_text(v, y, 1, ST_SOFT, "Q");
    view_text(v, y++, 3, ST_NORMAL, jstr(a, "prompt"));
    view_text(v, y, 1, ST_SOFT, "A");
    view_text(v, y++, 3, ST_NORMAL, jstr(a, "text"));
    return y;
}

static unsigned row_style(const json_t *r) {
    return jnum(r, "share_ppm", 0) > 0 ? ST_NORMAL : ST_SOFT;
}

static const struct column rows[] = {
    {"#", "rank", COL_COUNT, 3, false, 0},          {"share", "share_ppm", COL_PPM, 6, false, 1},
    {"from", "name", COL_WHO, 10, false, 1},       {"row", "row", COL_COUNT, 5, false, 4},
    {"score", "score", COL_TEXT, 15, false, 3},     {"text", "text", COL_TEXT, 30, true, 2},
    {"datanet", "datanet", COL_TEXT, 8, false, 6},  {"hash", "hash", COL_HASH, 14, false, 7},
};
static const struct column people[] = {
    {"contributor", "name", COL_WHO, 12, true, 0}, {"account", "account", COL_TEXT, 7, false, 3},
    {"share", "share_ppm", COL_PPM, 7, false, 1},   {"net", "net", COL_TEXT, 14, false, 4},
    {"OPEN", "amount_wei", COL_WEI, 12, false, 2},
};
static const struct column answers[] = {
    {"time", "time_ms", COL_DATE, 11, false, 1},
    {"answer", "answer", COL_TEXT, 14, false, 2},
    {"question", "prompt", COL_TEXT, 12, true, 0},
};
static struct pane_list lists[4] = {
    {"rows", TOP_ATTRIBUTION, "rows", {rows, 8, row_style}},
    {"contributors", TOP_ATTRIBUTION, "contributors", {people, 5, NULL}},
    {"methods", TOPICS, "methods", {methods, 1, NULL}},
    {"answers", TOP_ATTRIBUTION, "history", {answers, 3, NULL}},
};

static bool act(struct tui *t, enum action a) {
    if (a == ACT_OPEN && t->tab[PANE_ATTRIBUTION] == 0) { /* the row, and the statement that it was contributed under */
        const json_t *row = table_selected(&lists[0].table, jget(t->topic[TOP_ATTRIBUTION], "rows"), &t->list[PANE_ATTRIBUTION]);
        if (!*jstr(row, "hash") || t->o.readonly)
            return false;
        if (!jint(row, "datanet", 0)) { /* of a file of this machine */
            pane_detail(t, "row of a private run: it stands on no chain", row);
            return true;
        }
        run_argv(t, json_pack("[s, s, s]", "row", "show", jstr(row, "hash")), "row show", false);
        return true;
    }
    if (a != ACT_OPEN || t->tab[PANE_ATTRIBUTION] != 3)
        return false;
    const json_t *r = table_selected(&lists[3].table, jget(t->topic[TOP_ATTRIBUTION], "history"), &t->list[PANE_ATTRIBUTION]);
    char id[80];
    if (r)
        run_argv(t, json_pack("[s, s]", "attribute", jtext(r, "answer", id, sizeof id)), "attribute", false);
    t->tab[PANE_ATTRIBUTION] = 0;
    return true;
}

static bool line(struct tui *t, char *out, size_t cap) {
    const json_t *c = json_array_get(jget(t->topic[TOP_ATTRIBUTION], "contributors"), 0);
    if (!c)
        return false;
    char id[80], who[96];
    snprintf(out, cap, "attribution of answer %s: %s has %.1f%% of the contributors' share",
             jtext(t->topic[TOP_ATTRIBUTION], "answer", id, sizeof id), jwho(c, who, sizeof who), jnum(c, "share_ppm", 0) / 1e4);
    return true;
}

const struct pane pane_attribution = {
    .name = "attribution", .title = "Attribution", .topic = TOP_ATTRIBUTION,
    .empty = "No answer attributed yet.", .next = "attribute ",
    .is_empty = is_empty, .head = head, .lists = lists, .n_lists = 4, .act = act, .line = line,
};
