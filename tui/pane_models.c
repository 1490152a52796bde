/* Models: bases and adapters on this machine, and which are served. */
#include "tui/app.h"

#include <stdio.h>

#include "base/banned.h"

static bool is_empty(struct tui *t) {
    return !jcount(t->topic[TOP_MODELS], "list");
}

static int head(struct tui *t, const struct view *v, bool small) {
    const json_t *n = t->topic[TOP_NODE];
    if (small)
        return 0;
    if (*jstr(n, "api"))
        view_printf(v, 0, 1, ST_NORMAL, "served at %s/v1 (OpenAI's calls; option api.listen)", jstr(n, "api"));
    else
        view_printf(v, 0, 1, ST_WARN, "not served: %s", *jstr(n, "api_error") ? jstr(n, "api_error") : "option api.listen is empty");
    return 1;
}

static unsigned style(const json_t *r) {
    return jbool(r, "served") ? ST_GOOD : ST_NORMAL;
}

static const struct column list[] = {
    {"name", "name", COL_TEXT, 14, true, 0},         {"kind", "kind", COL_TEXT, 7, false, 1},
    {"base", "base", COL_TEXT, 12, false, 4},        {"quant", "quant", COL_TEXT, 6, false, 5},
    {"params", "parameters", COL_COUNT, 8, false, 3}, {"size", "bytes", COL_BYTES, 9, false, 3},
    {"rows", "rows", COL_COUNT, 6, false, 6},        {"loss", "loss", COL_REAL, 7, false, 6},
    {"served", "served", COL_YES, 6, false, 2},      {"id", "id", COL_TEXT, 4, false, 7},
};
static const struct pane_list lists[] = {{"models", TOP_MODELS, "list", {list, 10, style}}};

static bool line(struct tui *t, char *out, size_t cap) {
    snprintf(out, cap, "models: %zu known", jcount(t->topic[TOP_MODELS], "list"));
    return jcount(t->topic[TOP_MODELS], "list") > 0;
}

const struct pane pane_models = {
    .name = "models", .title = "Models", .topic = TOP_MODELS,
    .empty = "No model yet.", .next = "model add ",
    .is_empty = is_empty, .head = head, .lists = lists, .n_lists = 1, .line = line,
};
