/* Validator: batches to check, verdicts given, disputes, stake. */
#include "tui/app.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

static bool is_empty(struct tui *t) {
    const json_t *r = t->topic[TOP_VALIDATOR];
    return !r || (!jbool(r, "enabled") && !jcount(r, "verdicts") && !jcount(r, "queue") && !jcount(r, "batches"));
}

static int head(struct tui *t, const struct view *v, bool small) {
    const json_t *r = t->topic[TOP_VALIDATOR];
    char w[104];
    int x = 1;
    fmt_wei_short(w, sizeof w, jstr(r, "stake_wei"));
    x += view_text(v, 0, x, jbool(r, "enabled") ? ST_GOOD : ST_SOFT, jbool(r, "enabled") ? "on" : "no stake here") + 2;
    if (*w)
        x = pane_pair(v, 0, x, "stake", ST_TITLE, "%s OPEN", w);
    x = pane_pair(v, 0, x, "queue", ST_NORMAL, "%zu", jcount(r, "queue"));
    x = pane_pair(v, 0, x, "disputes", jcount(r, "disputes") ? ST_BAD : ST_NORMAL, "%zu", jcount(r, "disputes"));
    if (!small) {
        if (*jstr(r, "key"))
            x = pane_pair(v, 0, x, "key", ST_NORMAL, "%s", jstr(r, "key"));
        if (jint(r, "account", 0))
            x = pane_pair(v, 0, x, "account", ST_NORMAL, "%lld", (long long)jint(r, "account", 0));
        fmt_wei_short(w, sizeof w, jstr(r, "owed_wei"));
        if (*w && strcmp(w, "0"))
            pane_pair(v, 0, x, "owed", ST_GOOD, "%s OPEN", w);
        return 1;
    }
    if (!jcount(r, "queue")) { /* small, nothing waits: what was said last */
        const json_t *list = jget(r, jcount(r, "verdicts") ? "verdicts" : "batches");
        int y = 1;
        for (size_t i = 0; i < json_array_size(list) && y < v->h; i++, y++) {
            const json_t *d = json_array_get(list, i);
            const char *said = *jstr(d, "verdict") ? jstr(d, "verdict") : jstr(d, "stage");
            view_printf(v, y, 1, !strcmp(said, "invalid") || !strcmp(said, "slashed") ? ST_BAD : ST_NORMAL, "batch %-4lld %s  %s",
                        (long long)jint(d, "batch", 0), said, jstr(d, "outcome"));
        }
        return v->h;
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
    {"batch", "batch", COL_TEXT, 6, false, 0},    {"poster", "poster", COL_ACCOUNT, 8, true, 3},
    {"calls", "calls", COL_COUNT, 5, false, 4},   {"stage", "stage", COL_TEXT, 10, false, 1},
    {"done", "done", COL_COUNT, 5, false, 2},     {"of", "total", COL_COUNT, 5, false, 2},
    {"deadline", "deadline_ms", COL_CLOCK, 8, false, 2},
};
static const struct column verdicts[] = {
    {"batch", "batch", COL_TEXT, 6, false, 0},       {"verdict", "verdict", COL_TEXT, 8, false, 1},
    {"outcome", "outcome", COL_TEXT, 8, false, 2},   {"poster", "poster", COL_ACCOUNT, 10, false, 4},
    {"reason", "reason", COL_TEXT, 12, true, 3},     {"time", "time_ms", COL_DATE, 11, false, 5},
};
static const struct column disputes[] = {
    {"batch", "batch", COL_TEXT, 6, false, 0},   {"kind", "kind", COL_TEXT, 12, true, 1},
    {"stage", "stage", COL_TEXT, 12, false, 2},  {"deadline", "deadline_ms", COL_CLOCK, 8, false, 3},
};
static unsigned batch_style(const json_t *r) {
    const char *s = jstr(r, "stage");
    return !strcmp(s, "slashed") || !strcmp(s, "voided") ? ST_BAD : !strcmp(s, "settled") ? ST_GOOD : ST_NORMAL;
}
static const struct column batches[] = {
    {"batch", "batch", COL_TEXT, 6, false, 0},   {"poster", "poster", COL_ACCOUNT, 10, true, 2},
    {"stage", "stage", COL_TEXT, 10, false, 1},  {"mine", "mine", COL_YES, 4, false, 5},
    {"said", "done", COL_COUNT, 5, false, 3},    {"of", "total", COL_COUNT, 5, false, 3},
    {"posted", "posted_ms", COL_DATE, 11, false, 4},
};
static const struct pane_list lists[] = {
    {"queue", TOP_VALIDATOR, "queue", {queue, 7, NULL}},
    {"verdicts", TOP_VALIDATOR, "verdicts", {verdicts, 6, verdict_style}},
    {"disputes", TOP_VALIDATOR, "disputes", {disputes, 4, dispute_style}},
    {"batches", TOP_VALIDATOR, "batches", {batches, 7, batch_style}},
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
    .is_empty = is_empty, .head = head, .lists = lists, .n_lists = 4, .line = line,
};
