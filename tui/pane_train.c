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
    {"adapter", "adapter", COL_TEXT, 14, false, 4},
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
    {"runs", TOP_TRAIN, "runs", {runs, 5, NULL}},
    {"checkpoints", TOP_TRAIN, "checkpoints", {checkpoints, 2, NULL}},
    {"jobs", TOP_JOBS, "list", {jobs, 6, NULL}},
};

static unsigned state_style(const char *s) {
    return !strcmp(s, "running") ? ST_GOOD : !strcmp(s, "failed") ? ST_BAD : !strcmp(s, "done") ? ST_TITLE : ST_WARN;
}

static void draw(struct tui *t, const struct view *v, bool small, bool focus) {
    const json_t *r = t->topic[TOP_TRAIN];
    char a[64], b[64];
    int y = 0, x = 1;
    const char *state = jstr(r, "state");
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
        double *p = mem_array(6 * POINTS_MAX, sizeof *p);
        if (!p)
            return;
        struct series s[3];
        size_t n = 0;
        s[n++] = (struct series){p, p + POINTS_MAX, points(p, p + POINTS_MAX, jget(r, "loss_curve")), ST_PLOT, "loss"};
        s[n++] = (struct series){p + 2 * POINTS_MAX, p + 3 * POINTS_MAX,
                                 points(p + 2 * POINTS_MAX, p + 3 * POINTS_MAX, jget(r, "eval_curve")), ST_PLOT2, "eval"};
        if (t->kept_curve)
            s[n++] = (struct series){p + 4 * POINTS_MAX, p + 5 * POINTS_MAX,
                                     points(p + 4 * POINTS_MAX, p + 5 * POINTS_MAX, t->kept_curve), ST_WARN, t->kept_name};
        struct view area = view_sub(v, y, 1, v->h - y - bottom, v->w - 2);
        plot_draw(&area, t->plot, s, n, 0, steps > 0 ? steps : s[0].n ? p[s[0].n - 1] : 1, "step");
        if (!small && area.h >= 5) {
            x = area.w - 22 - (t->kept_curve ? 20 : 0);
            x = x > 10 ? x : 10;
            x += view_text(&area, 0, x, ST_PLOT, "loss") + 1;
            if (s[1].n)
                x += view_text(&area, 0, x, ST_PLOT2, "eval") + 1;
            if (t->kept_curve)
                view_printf(&area, 0, x, ST_WARN, "kept: %s", t->kept_name);
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
            snprintf(cmd, sizeof cmd, "job %s %lld", strcmp(jstr(r, "state"), "paused") ? "pause" : "resume", job);
            run_line(t, cmd, false);
        } else { /* never by one key alone */
            snprintf(cmd, sizeof cmd, "job cancel %lld", job);
            prompt_open(t, cmd);
            tui_status(t, ST_WARN, "Enter stops the run; the best checkpoint stays. Esc leaves it running");
        }
        return true;
    case ACT_COMPARE:
        if (t->kept_curve) {
            json_decref(t->kept_curve);
            t->kept_curve = NULL;
            tui_status(t, ST_NORMAL, "the kept curve is dropped");
        } else if (jcount(r, "loss_curve")) {
            t->kept_curve = json_deep_copy(jget(r, "loss_curve"));
            snprintf(t->kept_name, sizeof t->kept_name, "%s", *jstr(r, "run") ? jstr(r, "run") : "earlier");
            tui_status(t, ST_NORMAL, "this run's curve is kept to compare the next one with");
        }
        return true;
    default: return false;
    }
}

static bool line(struct tui *t, char *out, size_t cap) {
    const json_t *r = t->topic[TOP_TRAIN];
    char eta[32];
    if (!jget(r, "state"))
        return false;
    fmt_seconds(eta, sizeof eta, jnum(r, "eta_s", 0));
    snprintf(out, cap, "train: %s, step %lld of %lld, loss %.4f, eta %s", jstr(r, "state"), (long long)jint(r, "step", 0),
             (long long)jint(r, "steps", 0), jnum(r, "loss", 0), eta);
    return true;
}

const struct pane pane_train = {
    .name = "train", .title = "Train", .topic = TOP_TRAIN,
    .empty = "No training run yet.", .next = "train ",
    .is_empty = is_empty, .lists = lists, .n_lists = 3, .draw = draw, .act = act, .line = line,
};
