/* Train: the live loss, what the run costs, earlier runs to compare with. */
#include "tui/app.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define POINTS_MAX 1024 /* the topic thins to 512 */

static bool is_empty(struct tui *t) {
    const json_t *r = t->topic[TOP_TRAIN];
    return !r || (!jget(r, "run") && !jget(r, "state") && !jcount(r, "runs"));
}

static size_t points(double *x, double *y, const json_t *curve) {
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(curve) && n < POINTS_MAX; i++) {
        const json_t *p = json_array_get(curve, i);
        if (!json_is_number(json_array_get(p, 0)) || !json_is_number(json_array_get(p, 1)))
            continue;
        x[n] = json_number_value(json_array_get(p, 0));
        y[n++] = json_number_value(json_array_get(p, 1));
    }
    return n;
}

static const struct column runs[] = {
    {"run", "run", COL_TEXT, 12, true, 0},    {"state", "state", COL_TEXT, 9, false, 1},
    {"loss", "loss", COL_REAL, 8, false, 2},  {"steps", "steps", COL_COUNT, 6, false, 3},
    {"rows", "rows", COL_COUNT, 6, false, 4}, {"ended", "created_ms", COL_DATE, 11, false, 4},
};
static const struct column checkpoints[] = {
    {"step", "step", COL_COUNT, 8, false, 0},
    {"hash", "hash", COL_TEXT, 20, true, 1},
};
static const struct column jobs[] = {
    {"job", "id", COL_TEXT, 4, false, 0},       {"state", "state", COL_TEXT, 9, false, 1},
    {"done", "done", COL_COUNT, 7, false, 3},   {"of", "total", COL_COUNT, 7, false, 3},
    {"what", "title", COL_TEXT, 20, true, 2},   {"error", "error", COL_TEXT, 12, false, 4},
};
static const struct pane_list lists[] = {
    {"runs", TOP_TRAIN, "runs", {runs, 6, NULL}},
    {"checkpoints", TOP_TRAIN, "checkpoints", {checkpoints, 2, NULL}},
    {"jobs", TOP_JOBS, "list", {jobs, 6, NULL}},
};

static const unsigned kept_style[KEPT_MAX] = {ST_WARN, ST_ACCENT, ST_GOOD};

static unsigned state_style(const char *s) {
    return !strcmp(s, "running") ? ST_GOOD : !strcmp(s, "failed") ? ST_BAD : !strcmp(s, "done") ? ST_TITLE : ST_WARN;
}

/* A run that is held says nothing itself: its job does. */
static const char *state_of(struct tui *t) {
    const json_t *r = t->topic[TOP_TRAIN], *list = jget(t->topic[TOP_JOBS], "list");
    long long job = jint(r, "job", 0);
    if (job && !strcmp(jstr(r, "state"), "running"))
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *j = json_array_get(list, i);
            if (jint(j, "id", 0) == job && (!strcmp(jstr(j, "state"), "paused") || !strcmp(jstr(j, "state"), "waiting")))
                return jstr(j, "state");
        }
    return jstr(r, "state");
}

static void draw(struct tui *t, const struct view *v, bool small, bool focus) {
    const json_t *r = t->topic[TOP_TRAIN];
    char a[64], b[64];
    int y = 0, x = 1;
    const char *state = state_of(t);
    x += view_text(v, y, x, state_style(state), state) + 2;
    if (*jstr(r, "model") && !small)
        x = pane_pair(v, y, x, "model", ST_NORMAL, "%s", jstr(r, "model"));
    x = pane_pair(v, y, x, "step", ST_TITLE, "%lld/%lld", (long long)jint(r, "step", 0), (long long)jint(r, "steps", 0));
    if (jget(r, "epochs"))
        x = pane_pair(v, y, x, "epoch", ST_NORMAL, "%.4g/%.4g", jnum(r, "epoch", 0), jnum(r, "epochs", 0));
    if (jget(r, "rows") && !small)
        pane_pair(v, y, x, "rows", ST_NORMAL, "%lld", (long long)jint(r, "rows", 0));
    y++;
    if (y < v->h) {
        x = 1;
        if (jget(r, "loss"))
            x = pane_pair(v, y, x, "loss", ST_TITLE, "%.4f", jnum(r, "loss", 0));
        if (jget(r, "eval_loss"))
            x = pane_pair(v, y, x, "eval", ST_PLOT2, "%.4f", jnum(r, "eval_loss", 0));
        if (jget(r, "eta_s")) {
            fmt_seconds(a, sizeof a, jnum(r, "eta_s", 0));
            x = pane_pair(v, y, x, "eta", ST_NORMAL, "%s", a);
        }
        if (jget(r, "tokens_per_s"))
            x = pane_pair(v, y, x, "tok/s", ST_NORMAL, "%.0f", jnum(r, "tokens_per_s", 0));
        if (jget(r, "lr"))
            x = pane_pair(v, y, x, "lr", ST_NORMAL, "%.2e", jnum(r, "lr", 0));
        if (jget(r, "memory_bytes")) {
            fmt_bytes(a, sizeof a, jnum(r, "memory_bytes", 0));
            x = pane_pair(v, y, x, "memory", ST_NORMAL, "%s", a);
        }
        if (jget(r, "elapsed_s")) {
            fmt_seconds(b, sizeof b, jnum(r, "elapsed_s", 0));
            pane_pair(v, y, x, "elapsed", ST_NORMAL, "%s", b);
        }
        y++;
    }
    if (*jstr(r, "error") && y < v->h)
        view_text(v, y++, 1, ST_BAD, jstr(r, "error"));
    double steps = jnum(r, "steps", 0);
    if (y < v->h && steps > 0 && (!small || v->h <= 3)) {
        int w = v->w - 9;
        plot_bar(v, y, 1, w > 0 ? w : 0, ST_PLOT, jnum(r, "step", 0) / steps);
        view_printf(v, y, w + 2, ST_NORMAL, "%3.0f%%", 100 * jnum(r, "step", 0) / steps);
        y++;
    }
    const json_t *rows;
    const struct pane_list *l = pane_list(t, PANE_TRAIN, &rows);
    int bottom = !small && v->h >= 16 && json_array_size(rows) ? (int)json_array_size(rows) + 1 : 0;
    bottom = bottom > 6 ? 6 : bottom;
    if (v->h - y - bottom >= 2) {
        double *p = mem_array((4 + 2 * KEPT_MAX) * POINTS_MAX, sizeof *p);
        if (!p)
            return;
        struct series s[2 + KEPT_MAX];
        size_t n = 0;
        s[n++] = (struct series){p, p + POINTS_MAX, points(p, p + POINTS_MAX, jget(r, "loss_curve")), ST_PLOT, "loss"};
        s[n++] = (struct series){p + 2 * POINTS_MAX, p + 3 * POINTS_MAX,
                                 points(p + 2 * POINTS_MAX, p + 3 * POINTS_MAX, jget(r, "eval_curve")), ST_PLOT2, "eval"};
        double far = steps > 0 ? steps : s[0].n ? p[s[0].n - 1] : 1;
        for (int i = 0; i < t->kept_n; i++) {
            double *x1 = p + (4 + 2 * i) * POINTS_MAX;
            s[n++] = (struct series){x1, x1 + POINTS_MAX, points(x1, x1 + POINTS_MAX, t->kept[i].curve), kept_style[i], t->kept[i].name};
            if (s[n - 1].n && x1[s[n - 1].n - 1] > far)
                far = x1[s[n - 1].n - 1]; /* a longer run is shown whole */
        }
        struct view area = view_sub(v, y, 1, v->h - y - bottom, v->w - 2);
        plot_draw(&area, t->plot, s, n, 0, far, "step");
        if (!small && area.h >= 5) { /* which is which, at the right where curves are low */
            int need = 6;
            for (size_t k = 1; k < n; k++)
                need += s[k].n ? 4 + text_columns(s[k].name, strlen(s[k].name)) : 0;
            x = area.w - need - 1;
            x = x > 10 ? x : 10;
            x += view_text(&area, 0, x, ST_PLOT, "loss") + 1;
            for (size_t k = 1; k < n; k++)
                if (s[k].n) {
                    char m[2] = {plot_mark(k), 0};
                    x += view_text(&area, 0, x, s[k].style, m) + 1;
                    x += view_text(&area, 0, x, s[k].style, s[k].name) + 2;
                }
        }
        mem_free(p);
    }
    if (bottom) {
        struct view list = view_sub(v, v->h - bottom, 0, bottom, v->w);
        table_draw(&list, &l->table, rows, &t->list[PANE_TRAIN], focus);
        view_printf(&list, 0, list.w - (int)strlen(l->title) - 3, ST_SOFT, "[%s]", l->title);
    } else if (focus) {
        view_cursor(v, 0, 0, true);
    }
}

/* Keeps a curve, or drops it if it is kept. The topic's arrays are shared: they are never changed. */
static void keep(struct tui *t, const char *name, const json_t *curve) {
    for (int i = 0; i < t->kept_n; i++)
        if (!strcmp(t->kept[i].name, name)) {
            json_decref(t->kept[i].curve);
            memmove(&t->kept[i], &t->kept[i + 1], (size_t)(--t->kept_n - i) * sizeof t->kept[0]);
            tui_status(t, ST_NORMAL, "the curve of %s is no longer beside", name);
            return;
        }
    if (!json_array_size(curve)) {
        tui_status(t, ST_WARN, "no curve of %s is known", *name ? name : "this run");
        return;
    }
    if (t->kept_n == KEPT_MAX) {
        tui_status(t, ST_WARN, "%d curves stand beside already; c on one of them drops it", KEPT_MAX);
        return;
    }
    t->kept[t->kept_n].curve = json_incref((json_t *)(uintptr_t)curve);
    snprintf(t->kept[t->kept_n++].name, sizeof t->kept[0].name, "%s", name);
    tui_status(t, ST_NORMAL, "%s stands beside the run that is shown, now and later", name);
}

static bool act(struct tui *t, enum action a) {
    const json_t *r = t->topic[TOP_TRAIN];
    char cmd[96];
    long long job = jint(r, "job", 0);
    switch (a) {
    case ACT_PAUSE:
    case ACT_CANCEL:
        if (!job) {
            tui_status(t, ST_WARN, "no run is under way");
            return true;
        }
        if (a == ACT_PAUSE) {
            snprintf(cmd, sizeof cmd, "job %s %lld", strcmp(state_of(t), "paused") ? "pause" : "resume", job);
            run_line(t, cmd, false);
        } else { /* never by one key alone */
            snprintf(cmd, sizeof cmd, "job cancel %lld", job);
            prompt_open(t, cmd);
            tui_status(t, ST_WARN, "Enter stops the run; the best checkpoint stays. Esc leaves it running");
        }
        return true;
    case ACT_COMPARE: {
        /* the run chosen in the list; else the one that is shown */
        const json_t *rows;
        const struct pane_list *l = pane_list(t, PANE_TRAIN, &rows);
        const json_t *one = l == &lists[0] ? table_selected(&l->table, rows, &t->list[PANE_TRAIN]) : NULL;
        bool other = one && jcount(one, "curve") && strcmp(jstr(one, "run"), jstr(r, "run")) != 0;
        keep(t, other ? jstr(one, "run") : jstr(r, "run"), jget(other ? one : r, other ? "curve" : "loss_curve"));
        return true;
    }
    default: return false;
    }
}

static bool line(struct tui *t, char *out, size_t cap) {
    const json_t *r = t->topic[TOP_TRAIN];
    char eta[32];
    if (!jget(r, "state"))
        return false;
    fmt_seconds(eta, sizeof eta, jnum(r, "eta_s", 0));
    snprintf(out, cap, "train: %s, step %lld of %lld, loss %.4f, eta %s", state_of(t), (long long)jint(r, "step", 0),
             (long long)jint(r, "steps", 0), jnum(r, "loss", 0), eta);
    return true;
}

const struct pane pane_train = {
    .name = "train", .title = "Train", .topic = TOP_TRAIN,
    .empty = "No training run yet.", .next = "train ",
    .is_empty = is_empty, .lists = lists, .n_lists = 3, .draw = draw, .act = act, .line = line,
};
