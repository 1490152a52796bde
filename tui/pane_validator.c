/* Validator: batches to check, verdicts given, disputes, stake. */
#include "tui/app.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

static bool is_empty(struct tui *t) {
    const json_t *r = t->topic[TOP_VALIDATOR];
    return !r || (!jbool(r, "enabled") && !jcount(r, "verdicts") && !jcount(r, "queue"));
}

static int head(struct tui *t, const struct view *v, bool small) {
    const json_t *r = t->topic[TOP_VALIDATOR];
    char w[104];
    int x = 1;
    fmt_wei(w, sizeof w, jstr(r, "stake_wei"));
    x += view_text(v, 0, x, jbool(r, "enabled") ? ST_GOOD : ST_WARN, jbool(r, "enabled") ? "on" : "off") + 2;
    x = pane_pair(v, 0, x, "stake", ST_TITLE, "%s OPEN", *w ? w : "0");
    x = pane_pair(v, 0, x, "queue", ST_NORMAL, "%zu", jcount(r, "queue"));
    x = pane_pair(v, 0, x, "disputes", jcount(r, "disputes") ? ST_BAD : ST_NORMAL, "%zu", jcount(r, "disputes"));
    if (!small) {
        x = pane_pair(v, 0, x, "key", ST_NORMAL, "%s", jstr(r, "key"));
        pane_pair(v, 0, x, "account", ST_NORMAL, "%lld", (long long)jint(r, "account", 0));
    }
    return 1;
}

static unsigned verdict_style(const json_t *r) {
    return !strcmp(jstr(r, "verdict"), "invalid") ? ST_BAD : ST_NORMAL;
}
static unsigned dispute_style(const json_t *r) {
    (void)r;
    return ST_WARN;
}

static const struct column queue[] = {
    {"batch", "batch", COL_TEXT, 6, false, 0},    {"poster", "poster", COL_TEXT, 8, true, 3},
    {"calls", "calls", COL_COUNT, 5, false, 4},   {"stage", "stage", COL_TEXT, 10, false, 1},
    {"done", "done", COL_COUNT, 5, false, 2},     {"of", "total", COL_COUNT, 5, false, 2},
    {"deadline", "deadline_ms", COL_CLOCK, 8, false, 2},
};
static const struct column verdicts[] = {
    {"batch", "batch", COL_TEXT, 6, false, 0},       {"verdict", "verdict", COL_TEXT, 8, false, 1},
    {"outcome", "outcome", COL_TEXT, 8, false, 2},   {"poster", "poster", COL_TEXT, 6, false, 4},
    {"reason", "reason", COL_TEXT, 12, true, 3},     {"time", "time_ms", COL_DATE, 11, false, 5},
};
static const struct column disputes[] = {
    {"batch", "batch", COL_TEXT, 6, false, 0},   {"kind", "kind", COL_TEXT, 12, true, 1},
    {"stage", "stage", COL_TEXT, 12, false, 2},  {"deadline", "deadline_ms", COL_CLOCK, 8, false, 3},
};
static const struct pane_list lists[] = {
    {"queue", TOP_VALIDATOR, "queue", {queue, 7, NULL}},
    {"verdicts", TOP_VALIDATOR, "verdicts", {verdicts, 6, verdict_style}},
    {"disputes", TOP_VALIDATOR, "disputes", {disputes, 4, dispute_style}},
};

static bool line(struct tui *t, char *out, size_t cap) {
    const json_t *q = json_array_get(jget(t->topic[TOP_VALIDATOR], "queue"), 0);
    const json_t *d = json_array_get(jget(t->topic[TOP_VALIDATOR], "verdicts"), 0);
    if (q)
        snprintf(out, cap, "validator: batch %lld is %s", (long long)jint(q, "batch", 0), jstr(q, "stage"));
    else if (d)
        snprintf(out, cap, "validator: batch %lld %s %s", (long long)jint(d, "batch", 0), jstr(d, "verdict"), jstr(d, "reason"));
    return q || d;
}

const struct pane pane_validator = {
    .name = "validator", .title = "Validator", .topic = TOP_VALIDATOR,
    .empty = "This node does not validate.", .next = "validator stake ",
    .is_empty = is_empty, .head = head, .lists = lists, .n_lists = 3, .line = line,
};
