/* Datanets: who collects which rows under which licence. */
#include "tui/app.h"

#include <stdio.h>

#include "base/banned.h"

static bool is_empty(struct tui *t) {
    return !jcount(t->topic[TOP_DATANETS], "list");
}

static const struct column list[] = {
    {"id", "id", COL_TEXT, 4, false, 0},            {"name", "name", COL_TEXT, 12, true, 1},
    {"rows", "rows", COL_COUNT, 7, false, 2},       {"mine", "by", COL_MINE, 6, false, 3},
    {"licence", "licence", COL_TEXT, 10, false, 4}, {"owner", "owner", COL_ACCOUNT, 10, false, 6},
    {"contributions", "contributions", COL_COUNT, 13, false, 5}, {"from", "by", COL_TEXT, 4, false, 7},
};
static const struct pane_list lists[] = {{"datanets", TOP_DATANETS, "list", {list, 8, NULL}}};

static bool line(struct tui *t, char *out, size_t cap) {
    snprintf(out, cap, "datanets: %zu known", jcount(t->topic[TOP_DATANETS], "list"));
    return jcount(t->topic[TOP_DATANETS], "list") > 0;
}

const struct pane pane_datanets = {
    .name = "datanets", .title = "Datanets", .topic = TOP_DATANETS,
    .empty = "No datanet known.", .next = "datanet create ",
    .is_empty = is_empty, .lists = lists, .n_lists = 1, .line = line,
};
