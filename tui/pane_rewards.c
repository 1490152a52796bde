/* Rewards: earned, pending, claimable, claimed; every payment, and the way back from it to its rows. */
#include "tui/app.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

static bool is_empty(struct tui *t) {
    const json_t *r = t->topic[TOP_REWARDS];
    return !jcount(r, "accounts") && !jcount(r, "payments") && !jcount(t->topic[TOP_KEYS], "list");
}

#define CURVE_MAX 512

static int head(struct tui *t, const struct view *v, bool small) {
    const json_t *r = t->topic[TOP_REWARDS], *acc = jget(r, "accounts"), *curve = jget(r, "earned_curve");
    int y = 0;
    if (!small) {
        /* what this node's own accounts have, together */
        static const char *const field[] = {"earned_wei", "pending_wei", "claimable_wei", "claimed_wei"};
        static const char *const label[] = {"earned", "pending", "claimable", "claimed"};
        double sum[4] = {0};
        int x0 = 1;
        for (size_t i = 0; i < json_array_size(acc); i++)
            for (int k = 0; k < 4; k++)
                if (fmt_is_mine(jint(json_array_get(acc, i), "account", 0)))
                    sum[k] += strtod(jstr(json_array_get(acc, i), field[k]), NULL) / 1e18;
        for (int k = 0; k < 4; k++)
            x0 = pane_pair(v, y, x0, label[k], k == 2 && sum[k] > 0 ? ST_GOOD | ST_BOLD : ST_TITLE, "%.6g", sum[k]);
        if (x0 + 30 < v->w)
            view_text(v, y, x0, ST_SOFT, sum[2] > 0 ? "OPEN, your keys (c claims)" : "OPEN, your keys together");
        y++;
        size_t n = json_array_size(curve), skip = n > CURVE_MAX ? n - CURVE_MAX : 0;
        double val[CURVE_MAX];
        for (size_t i = skip; i < n; i++) {
            const char *s = json_string_value(json_array_get(json_array_get(curve, i), 1));
            val[i - skip] = s ? strtod(s, NULL) : 0;
        }
        if (n > 1 && v->h >= 8) {
            char from[32], to[32];
            fmt_date(from, sizeof from, (int64_t)json_number_value(json_array_get(json_array_get(curve, skip), 0)));
            fmt_date(to, sizeof to, (int64_t)json_number_value(json_array_get(json_array_get(curve, n - 1), 0)));
            int x = 1 + view_printf(v, y, 1, ST_SOFT, "earned %s ", from);
            int w = v->w - x - 14 < 60 ? v->w - x - 14 : 60;
            plot_spark(v, y, x, w, ST_GOOD, val, n - skip);
            view_text(v, y++, x + ((int)(n - skip) < w ? (int)(n - skip) : w) + 1, ST_SOFT, to);
        }
        return y;
    }
    if (!json_array_size(acc)) { /* nothing earned yet: what the keys hold */
        const json_t *list = jget(t->topic[TOP_KEYS], "list");
        for (size_t i = 0; i < json_array_size(list) && y < v->h; i++, y++) {
            char w[104];
            fmt_wei_short(w, sizeof w, jstr(json_array_get(list, i), "balance_wei"));
            int x = 1 + view_textn(v, y, 1, ST_NORMAL, jstr(json_array_get(list, i), "name"), strlen(jstr(json_array_get(list, i), "name")), 12) + 1;
            view_printf(v, y, x, ST_SOFT, *w ? "%s OPEN" : "balance not known%s", w);
        }
        return v->h;
    }
    for (size_t k = 0; k < 2 * json_array_size(acc) && y < v->h; k++) { /* this node's keys first */
        size_t i = k % json_array_size(acc);
        const json_t *a = json_array_get(acc, i);
        char name[96];
        if (fmt_is_mine(jint(a, "account", 0)) != (k < json_array_size(acc)))
            continue;
        snprintf(name, sizeof name, "%s", jstr(a, "key"));
        if (!*name || *jstr(a, "name"))
            jwho(a, name, sizeof name);
        view_textn(v, y, 1, ST_NORMAL, name, strlen(name), 8);
        double due = strtod(jstr(a, "claimable_wei"), NULL), waits = strtod(jstr(a, "pending_wei"), NULL);
        view_printf(v, y++, 10, due > 0 ? ST_GOOD : ST_NORMAL, "%.4g %s",
                    (due > 0 ? due : waits > 0 ? waits : strtod(jstr(a, "claimed_wei"), NULL)) / 1e18,
                    due > 0 ? "claimable" : waits > 0 ? "pending" : "claimed");
    }
    return v->h;
}

static unsigned account_style(const json_t *r) {
    const char *c = jstr(r, "claimable_wei");
    return *c && strcmp(c, "0") ? ST_GOOD : ST_NORMAL;
}

static const struct column accounts[] = {
    {"name", "name", COL_WHO, 8, true, 0},              {"account", "account", COL_TEXT, 7, false, 5},
    {"key", "key", COL_TEXT, 8, false, 6},               {"earned", "earned_wei", COL_WEI, 11, false, 3},
    {"pending", "pending_wei", COL_WEI, 11, false, 4},   {"claimable", "claimable_wei", COL_WEI, 11, false, 1},
    {"claimed", "claimed_wei", COL_WEI, 11, false, 2},
};
static const struct column payments[] = {
    {"time", "time_ms", COL_DATE, 11, false, 3},  {"payment", "id", COL_TEXT, 12, true, 0},
    {"batch", "batch", COL_TEXT, 6, false, 4},    {"to", "account", COL_ACCOUNT, 10, false, 2},
    {"OPEN", "amount_wei", COL_WEI, 14, false, 1}, {"state", "state", COL_TEXT, 9, false, 2},
};
static const struct column keys[] = {
    {"key", "name", COL_TEXT, 10, true, 0},             {"account", "account", COL_TEXT, 7, false, 2},
    {"unlocked", "unlocked", COL_YES, 8, false, 3},     {"balance", "balance_wei", COL_WEI, 14, false, 1},
    {"limit", "limit_wei", COL_WEI, 11, false, 5},      {"spent", "spent_wei", COL_WEI, 11, false, 5},
    {"address", "address", COL_HASH, 14, false, 4},
};
static const struct column nets[] = {
    {"datanet", "datanet", COL_TEXT, 8, true, 0},       {"calls", "calls", COL_COUNT, 6, false, 2},
    {"earned", "earned_wei", COL_WEI, 14, false, 1},    {"pending", "pending_wei", COL_WEI, 14, false, 3},
};
static const struct pane_list lists[] = {
    {"accounts", TOP_REWARDS, "accounts", {accounts, 7, account_style}},
    {"payments", TOP_REWARDS, "payments", {payments, 6, NULL}},
    {"keys", TOP_KEYS, "list", {keys, 7, NULL}},
    {"datanets", TOP_REWARDS, "datanets", {nets, 4, NULL}},
};

static bool act(struct tui *t, enum action a) {
    const json_t *rows;
    const struct pane_list *l = pane_list(t, PANE_REWARDS, &rows);
    const json_t *r = table_selected(&l->table, rows, &t->list[PANE_REWARDS]);
    char cmd[256];
    if (a == ACT_CLAIM) {
        const char *key = l == &lists[0] ? jstr(r, "key") : "";
        snprintf(cmd, sizeof cmd, *key ? "claim %s" : "claim", key);
        prompt_open(t, cmd);
        return true;
    }
    if (a == ACT_TRACE) {
        if (l != &lists[1]) {
            t->tab[PANE_REWARDS] = 1;
            tui_status(t, ST_NORMAL, "choose the payment to trace, then press the key again");
        } else if (r) {
            char id[128];
            table_cell(id, sizeof id, &payments[1], r);
            run_argv(t, json_pack("[s, s]", "trace", id), "trace", false);
        }
        return true;
    }
    return false;
}

static bool line(struct tui *t, char *out, size_t cap) {
    const json_t *p = json_array_get(jget(t->topic[TOP_REWARDS], "payments"), 0);
    char w[104];
    if (!p)
        return false;
    fmt_wei(w, sizeof w, jstr(p, "amount_wei"));
    char who[96];
    snprintf(out, cap, "rewards: newest payment %s OPEN to %s, %s", w, fmt_account(who, sizeof who, jint(p, "account", 0)), jstr(p, "state"));
    return true;
}

const struct pane pane_rewards = {
    .name = "rewards", .title = "Rewards", .topic = TOP_REWARDS,
    .empty = "No key and no rewards yet.", .next = "key new ",
    .is_empty = is_empty, .head = head, .lists = lists, .n_lists = 4, .act = act, .line = line,
};
