/* Chain: heads with how each is known, blocks as they come, peers, transactions that wait. */
#include "tui/app.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

static bool is_empty(struct tui *t) {
    const json_t *c = t->topic[TOP_CHAIN];
    return !c || !jbool(c, "configured");
}

/* The four words of design section 5, strongest first. */
static unsigned known_style(const char *known) {
    return strstr(known, "anchored") || strstr(known, "signed") ? ST_GOOD : strstr(known, "linked") ? ST_ACCENT : ST_WARN;
}

static int head(struct tui *t, const struct view *v, bool small) {
    const json_t *c = t->topic[TOP_CHAIN];
    int y = 0, x = 1;
    x = pane_pair(v, y, x, "chain", ST_TITLE, "%s", *jstr(c, "name") ? jstr(c, "name") : "?");
    if (!small)
        x = pane_pair(v, y, x, "id", ST_NORMAL, "%lld", (long long)jint(c, "chain_id", 0));
    x += view_text(v, y, x, jbool(c, "ok") ? ST_GOOD : ST_BAD, jbool(c, "ok") ? "ok" : "NOT OK") + 2;
    if (*jstr(c, "base_fee_wei")) {
        x = pane_pair(v, y, x, "base fee", ST_NORMAL, "%.4g gwei", strtod(jstr(c, "base_fee_wei"), NULL) / 1e9);
    }
    if (jint(c, "evidence", 0))
        pane_pair(v, y, x, "evidence", ST_BAD, "%lld", (long long)jint(c, "evidence", 0));
    y++;
    if (*jstr(c, "error"))
        view_text(v, y++, 1, ST_BAD, jstr(c, "error"));
    const json_t *heads = jget(c, "heads");
    for (size_t i = 0; i < json_array_size(heads) && y < v->h; i++) {
        const json_t *h = json_array_get(heads, i);
        char hash[32], when[32];
        x = 1;
        view_textn(v, y, x, ST_SOFT, jstr(h, "name"), strlen(jstr(h, "name")), 9);
        char n[32];
        snprintf(n, sizeof n, "%lld", (long long)jint(h, "number", 0));
        int at = small ? 9 : 11; /* in a third of 80 columns the word still fits */
        view_right(v, y, at, small ? 8 : 9, ST_TITLE, n);
        x = at + (small ? 9 : 10);
        x += view_text(v, y, x, known_style(jstr(h, "known")), jstr(h, "known")) + 1;
        if (!small) {
            x = x < 31 ? 31 : x;
            fmt_clock(when, sizeof when, jint(h, "time_ms", 0));
            x += view_text(v, y, x, ST_SOFT, when) + 1;
            if (v->w >= 100) { /* how it is known says more than its hash */
                fmt_hash(hash, sizeof hash, jstr(h, "hash"));
                x += view_text(v, y, x, ST_NORMAL, hash) + 1;
            }
            view_text(v, y, x, ST_SOFT, jstr(h, "how"));
        }
        y++;
    }
    const json_t *s = jget(c, "sync");
    if (s && y < v->h) {
        double from = jnum(s, "from", 0), at = jnum(s, "at", 0), to = jnum(s, "to", 0);
        x = 1 + view_printf(v, y, 1, ST_SOFT, "syncing %.0f of %.0f ", at, to);
        plot_bar(v, y++, x, v->w - x - 1, ST_PLOT, to > from ? (at - from) / (to - from) : 1);
    }
    return y;
}

static unsigned peer_style(const json_t *r) {
    return jbool(r, "ok") ? ST_NORMAL : ST_BAD;
}
static unsigned block_style(const json_t *r) {
    return jget(r, "reorg") ? ST_WARN : ST_NORMAL;
}

static const struct column blocks[] = {
    {"number", "number", COL_TEXT, 8, false, 0}, {"time", "time_ms", COL_CLOCK, 8, false, 3},
    {"known", "known", COL_TEXT, 9, false, 1},   {"txs", "txs", COL_COUNT, 4, false, 4},
    {"hash", "hash", COL_HASH, 14, false, 5},    {"reorg", "reorg", COL_TEXT, 5, false, 6},
    {"how", "how", COL_TEXT, 10, true, 7},
};
static const struct column peers[] = {
    {"url", "url", COL_TEXT, 16, true, 0},       {"ok", "ok", COL_YES, 3, false, 1},
    {"head", "head", COL_TEXT, 9, false, 2},     {"ms", "latency_ms", COL_COUNT, 6, false, 3},
    {"error", "error", COL_TEXT, 12, false, 4},
};
static const struct column pending[] = {
    {"what", "what", COL_TEXT, 12, true, 0},     {"key", "key", COL_TEXT, 10, false, 2},
    {"nonce", "nonce", COL_COUNT, 6, false, 3},  {"tx", "tx", COL_HASH, 14, false, 1},
    {"sent", "sent_ms", COL_CLOCK, 8, false, 4},
};
static const struct pane_list lists[] = {
    {"blocks", TOPICS, "heads", {blocks, 7, block_style}},
    {"peers", TOP_CHAIN, "peers", {peers, 5, peer_style}},
    {"pending", TOP_CHAIN, "pending", {pending, 5, NULL}},
};

static bool line(struct tui *t, char *out, size_t cap) {
    const json_t *h = json_array_get(jget(t->topic[TOP_CHAIN], "heads"), 0);
    if (!h)
        return false;
    snprintf(out, cap, "chain %s: %s %lld, %s", jstr(t->topic[TOP_CHAIN], "name"), jstr(h, "name"),
             (long long)jint(h, "number", 0), jstr(h, "known"));
    return true;
}

const struct pane pane_chain = {
    .name = "chain", .title = "Chain", .topic = TOP_CHAIN,
    .empty = "No chain yet.", .next = "chain use http://127.0.0.1:8545",
    .is_empty = is_empty, .head = head, .lists = lists, .n_lists = 3, .line = line,
};
