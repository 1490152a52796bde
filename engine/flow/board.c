#include "flow/board.h"

#include "flow/ask.h"
#include "flow/attribute.h"
#include "flow/batchdoc.h"
#include "flow/claim.h"
#include "flow/datanet.h"
#include "flow/ledger.h"
#include "flow/stake.h"
#include "lm/trainer.h"
#include "node/chain.h"
#include "node/job.h"
#include "node/keys.h"
#include "node/socket.h"
#include "node/topic.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define TURNS_TOLD 16 /* answers of an earlier life that the ask stream begins with */
#define HISTORY_TOLD 32
#define KEYS_NAMED 64
#define DOC_PART_MAX 4096 /* lines of a payout table */

struct flow_board {
    struct node *n;
    atomic_bool looking;
    bool done;            /* a first look succeeded */
    uint64_t jobs, head, batches;
    bool open;            /* a batch is under way */
    uint64_t at_us, slow_us;
};

/* ---- from the store ------------------------------------------------------------------------------------------------- */

static double le_f64(const uint8_t *p) {
    uint64_t v = 0;
    double d;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    memcpy(&d, &v, sizeof d);
    return d;
}

static uint64_t le_u64(const uint8_t *p) {
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

/* Loss by step out of RUN/steps, means of equal stretches; NULL where there is none. */
static json_t *curve_of(const char *dir, size_t points) {
    struct buf b = BUF_INIT((size_t)1 << 29);
    char *path = mem_printf("%s/steps", dir);
    json_t *out = NULL;
    if (path && !file_read(&b, path, NULL)) {
        size_t n = b.len / LM_STEP_BYTES, each = (n + points - 1) / points;
        out = json_array();
        for (size_t i = 0; i < n; i += each) {
            double sum = 0, count = 0;
            size_t k = i;
            for (; k < n && k < i + each; k++) {
                sum += le_f64(b.data + k * LM_STEP_BYTES + 8);
                count += (double)le_u64(b.data + k * LM_STEP_BYTES + 16);
            }
            if (count > 0 && isfinite(sum))
                json_array_append_new(out, json_pack("[I, f]", (json_int_t)le_u64(b.data + (k - 1) * LM_STEP_BYTES), sum / count));
        }
    }
    buf_clear(&b);
    mem_free(path);
    return out;
}

/* The evaluations of RUN/evals: sets eval_curve, eval_loss (the newest), best_loss and best_step of a train topic. Nothing where there
 * are none. */
static void put_evals(json_t *topic, const char *dir) {
    struct buf b = BUF_INIT((size_t)1 << 29);
    char *path = mem_printf("%s/evals", dir);
    if (path && file_exists(path) && !file_read(&b, path, NULL) && b.len >= LM_EVAL_BYTES) {
        size_t n = b.len / LM_EVAL_BYTES, each = (n + BOARD_EVALS - 1) / BOARD_EVALS;
        json_t *curve = json_array();
        for (size_t i = 0; i < n; i++) {
            const uint8_t *r = b.data + i * LM_EVAL_BYTES; /* trainer.h */
            double sum = le_f64(r + 8), count = (double)le_u64(r + 16);
            json_int_t step = (json_int_t)le_u64(r);
            if (!(count > 0) || !isfinite(sum))
                continue;
            if (i % each == 0 || i + 1 == n) {
                json_array_append_new(curve, json_pack("[I, f]", step, sum / count));
                json_object_set_new(topic, "eval_loss", json_real(sum / count));
            }
            if (le_u64(r + 24)) {
                json_object_set_new(topic, "best_loss", json_real(sum / count));
                json_object_set_new(topic, "best_step", json_integer(step));
            }
        }
        json_object_set_new(topic, "eval_curve", curve);
    }
    buf_clear(&b);
    mem_free(path);
}

static json_int_t newest(const json_t *o) { return json_integer_value(json_object_get(o, "created_ms")); }

/* evals (NULL: not asked for) gets those of the newest run. */
static json_t *runs_of(struct node *n, json_t *evals) {
    json_t *all = NULL, *out = json_array();
    if (record_list(n, TABLE_MODEL, NULL, 0, &all, NULL))
        return out;
    for (size_t told = 0; json_array_size(all) && told < 4 * BOARD_RUNS;) {
        size_t best = 0;
        for (size_t i = 1; i < json_array_size(all); i++)
            if (newest(json_array_get(all, i)) > newest(json_array_get(all, best)))
                best = i;
        json_t *r = json_array_get(all, best);
        const char *dir = json_string_value(json_object_get(r, "run_dir")), *name = json_string_value(json_object_get(r, "name"));
        json_t *steps = json_object_get(r, "steps");
        if (dir && name) {
            if (!told && evals)
                put_evals(evals, dir);
            json_t *c = told < BOARD_RUNS ? curve_of(dir, BOARD_POINTS) : NULL;
            json_t *last = c && !json_is_integer(steps) ? json_array_get(json_array_get(c, json_array_size(c) - 1), 0) : NULL;
            json_array_append_new(out, json_pack("{s:s s:s s:s s:O* s:O* s:O* s:O* s:O* s:o*}", "run", name, "state", "done", "adapter", name, "loss",
                                                 json_object_get(r, "loss"), "steps", json_is_integer(steps) ? steps : last, "datanet",
                                                 json_object_get(r, "datanet"), "rows", json_object_get(r, "rows"), "created_ms",
                                                 json_object_get(r, "created_ms"), "curve", c));
            told++;
        }
        json_array_remove(all, best);
    }
    json_decref(all);
    return out;
}

json_t *board_runs(struct node *n) {
    return runs_of(n, NULL);
}

static void restore_train(struct node *n) {
    json_t *evals = json_object(), *runs = runs_of(n, evals), *r = json_array_get(runs, 0);
    if (r) {
        topic_set(n, "train",
                  json_pack("{s:O s:s s:O s:O s:O* s:O* s:O* s:O* s:O* s:O}", "run", json_object_get(r, "run"), "state", "done", "model",
                            json_object_get(r, "run"), "adapter", json_object_get(r, "adapter"), "step", json_object_get(r, "steps"), "steps",
                            json_object_get(r, "steps"), "loss", json_object_get(r, "loss"), "rows", json_object_get(r, "rows"), "loss_curve",
                            json_object_get(r, "curve"), "runs", runs));
        topic_update(n, "train", json_incref(evals));
    }
    json_decref(runs);
    json_decref(evals);
}

static const char *question_of(const json_t *call) {
    const json_t *m = json_object_get(call, "messages");
    const char *s = json_array_size(m) ? json_string_value(json_object_get(json_array_get(m, json_array_size(m) - 1), "content")) : NULL;
    return s ? s : "";
}

struct newest_items {
    json_t *list;
    size_t most;
};

static bool take(void *ctx, const struct store_item *it) {
    struct newest_items *x = ctx;
    json_t *v = json_loadb((const char *)it->value, it->vlen, 0, NULL);
    if (v)
        json_array_append_new(x->list, v);
    return json_array_size(x->list) < x->most;
}

static json_t *newest_of(struct node *n, enum store_table t, const char *prefix, size_t most) {
    struct newest_items x = {json_array(), most};
    struct store_range r = {.prefix = prefix, .plen = prefix ? strlen(prefix) : 0, .backwards = true};
    (void)!store_each(n->store, t, &r, take, &x, NULL);
    return x.list;
}

static void restore_attribution(struct node *n) {
    json_t *list = newest_of(n, TABLE_ATTRIBUTION, NULL, HISTORY_TOLD), *history = json_array(), *first = NULL, *r;
    size_t i;
    json_array_foreach(list, i, r) {
        json_t *call = NULL;
        if (flow_answer_get(&call, n, (uint64_t)json_integer_value(json_object_get(r, "answer")), NULL))
            continue;
        json_array_append_new(history, json_pack("{s:O s:s s:O*}", "answer", json_object_get(r, "answer"), "prompt", question_of(call), "time_ms",
                                                 json_object_get(call, "time_ms")));
        if (!first && (first = json_deep_copy(r))) {
            json_object_del(first, "scores");
            attribution_told(first);
            json_object_set_new(first, "prompt", json_string(question_of(call)));
        }
        json_decref(call);
    }
    if (first) {
        json_object_set(first, "history", history);
        topic_set(n, "attribution", first);
    }
    json_decref(history);
    json_decref(list);
}

/* The chat goes on where it stood: the newest answers once more, as they were streamed. */
static void restore_ask(struct node *n) {
    json_t *list = newest_of(n, TABLE_CALL, "answer/", TURNS_TOLD);
    for (size_t i = json_array_size(list); i-- > 0;) {
        const json_t *c = json_array_get(list, i);
        const char *model = json_string_value(json_object_get(c, "model")), *text = json_string_value(json_object_get(c, "text"));
        char id[32];
        snprintf(id, sizeof id, "answer-%lld", (long long)json_integer_value(json_object_get(c, "id")));
        topic_emit(n, "ask", json_pack("{s:s s:s s:s s:s s:O*}", "ask", id, "event", "start", "model", model ? model : "", "prompt", question_of(c),
                                       "time_ms", json_object_get(c, "time_ms")));
        topic_emit(n, "ask", json_pack("{s:s s:s s:s}", "ask", id, "event", "token", "text", text ? text : ""));
        topic_emit(n, "ask", json_pack("{s:s s:s s:O* s:O* s:O*}", "ask", id, "event", "end", "answer", json_object_get(c, "id"), "tokens_out",
                                       json_object_get(c, "tokens_out"), "stop", json_object_get(c, "stop")));
    }
    json_decref(list);
}

/* [{batch, poster, verdict, reason, outcome, time_ms}], newest first. */
static json_t *verdicts(struct node *n) {
    json_t *list = newest_of(n, TABLE_VALIDATION, NULL, 50), *out = json_array(), *r;
    size_t i;
    json_array_foreach(list, i, r) {
        const char *state = json_string_value(json_object_get(r, "state"));
        bool over = state && (!strcmp(state, "settled") || !strcmp(state, "voided") || !strcmp(state, "slashed"));
        json_array_append_new(out, json_pack("{s:O* s:O* s:O* s:O* s:s? s:O* s:O*}", "batch", json_object_get(r, "batch"), "poster",
                                             json_object_get(r, "poster"), "verdict", json_object_get(r, "verdict"), "reason",
                                             json_object_get(r, "reason"), "outcome", over ? state : NULL, "time_ms", json_object_get(r, "time_ms"),
                                             "proven", json_object_get(r, "proven")));
    }
    json_decref(list);
    return out;
}

/* ---- names ---------------------------------------------------------------------------------------------------------- */

/* {ACCOUNT: name}: the reserved ones, and those whose signing key is here. keys (may be NULL) gets [{key, account}]. */
static json_t *names_of(struct node *n, json_t **keys) {
    json_t *names = json_pack("{s:s s:s s:s}", "0", "(burnt)", "1", "(platform)", "2", "(stakers)"), *list = keys_list(n), *k;
    size_t i;
    if (keys)
        *keys = json_array();
    json_array_foreach(list, i, k) {
        const char *name = json_string_value(json_object_get(k, "name"));
        uint64_t id;
        char text[24];
        if (!name || i >= KEYS_NAMED || account_of_key(n, &id, name, NULL))
            continue;
        snprintf(text, sizeof text, "%llu", (unsigned long long)id);
        if (id > 2)
            json_object_set_new(names, text, json_string(name));
        if (keys)
            json_array_append_new(*keys, json_pack("{s:s s:I}", "key", name, "account", (json_int_t)id));
    }
    json_decref(list);
    return names;
}

static bool is_mine(const json_t *names, uint64_t account) {
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)account);
    return account > 2 && json_object_get(names, text);
}

/* ---- rewards -------------------------------------------------------------------------------------------------------- */

/* A batch's document where this node has it, without asking others; NULL. */
static json_t *document(struct flow *f, const struct entry *e, uint64_t *calls) {
    struct st_batch b;
    json_t *json = NULL, *doc = NULL;
    if (posted_read(f, &b, &json, NULL, e, NULL))
        return NULL;
    *calls = b.call_count;
    if (json_blob_get(f->node, &doc, &b.data_hash, NULL))
        doc = NULL;
    json_decref(json);
    return doc;
}

static struct u256 line_of(const json_t *doc, const char *table, uint64_t account) {
    const json_t *v, *list = json_object_get(doc, table);
    struct u256 c;
    for (size_t i = 0; i < json_array_size(list) && i < DOC_PART_MAX; i++) {
        v = json_array_get(list, i);
        if ((uint64_t)json_integer_value(json_object_get(v, "account")) == account && !jget_u256(&c, v, "cumulative", NULL))
            return c;
    }
    return U256_ZERO;
}

static void add_wei(json_t *o, const char *field, struct u256 more) {
    struct u256 v;
    if (jget_u256(&v, o, field, NULL))
        v = U256_ZERO;
    if (!u256_add(&v, v, more))
        json_object_set_new(o, field, json_u256(v));
}

/* What this batch adds to one account. */
static struct u256 gain(const json_t *doc, uint64_t account) {
    struct u256 a = line_of(doc, "payouts", account), b = line_of(doc, "previous", account);
    return u256_sub(&a, a, b) ? U256_ZERO : a;
}

/* Datanet of the batch's (one) model: a batch whose models were trained on several is told under 0. */
static uint64_t datanet_of(struct node *n, const json_t *doc) {
    const json_t *models = json_object_get(doc, "models");
    json_t *all = NULL;
    uint64_t net = 0;
    size_t i;
    json_t *r;
    if (json_array_size(models) != 1 || record_list(n, TABLE_MODEL, NULL, 0, &all, NULL))
        return 0;
    json_int_t id = json_integer_value(json_object_get(json_array_get(models, 0), "model"));
    json_array_foreach(all, i, r)
        if (id && json_integer_value(json_object_get(r, "model")) == id)
            net = (uint64_t)json_integer_value(json_object_get(r, "datanet"));
    json_decref(all);
    return net;
}

void board_rewards(struct flow *f, json_t *accounts) {
    struct node *n = f->node;
    json_t *names = names_of(n, NULL), *payments = NULL, *paid = json_array(), *curve = json_array(), *nets = json_object(), *netlist = json_array(), *v, *a;
    struct u256 earned = U256_ZERO;
    const char *k;
    size_t i;
    uint64_t count = 0, calls = 0;
    if (batch_count(n, &count, NULL))
        count = 0;
    for (uint64_t id = count > BOARD_BATCHES * 4 ? count - BOARD_BATCHES * 4 : 1; count && id <= count; id++) {
        struct entry e;
        json_t *doc;
        if (entry_read(n, &e, id, NULL) || (e.state != BATCH_POSTED && e.state != BATCH_DRAWN && e.state != BATCH_SETTLED) ||
            !(doc = document(f, &e, &calls)))
            continue;
        bool settled = e.state == BATCH_SETTLED;
        struct u256 here = U256_ZERO;
        char net[24];
        snprintf(net, sizeof net, "%llu", (unsigned long long)datanet_of(n, doc));
        json_t *o = json_object_get(nets, net);
        if (!o && (o = json_pack("{s:s s:I s:s s:s}", "datanet", net, "calls", (json_int_t)0, "earned_wei", "0", "pending_wei", "0")))
            json_object_set_new(nets, net, o);
        if (o)
            json_object_set_new(o, "calls", json_integer(json_integer_value(json_object_get(o, "calls")) + (json_int_t)calls));
        json_array_foreach(accounts, i, a) {
            uint64_t account = (uint64_t)json_integer_value(json_object_get(a, "account"));
            struct u256 g = gain(doc, account);
            if (!settled)
                add_wei(a, "pending_wei", g);
            if (o && is_mine(names, account))
                add_wei(o, settled ? "earned_wei" : "pending_wei", g);
            if (settled && is_mine(names, account))
                (void)u256_add(&here, here, g);
        }
        json_t *lines = json_object_get(doc, "payouts");
        for (i = 0; !settled && i < json_array_size(lines); i++) { /* accounts that earn for the first time */
            uint64_t account = (uint64_t)json_integer_value(json_object_get(json_array_get(lines, i), "account"));
            size_t j;
            bool known = false;
            json_array_foreach(accounts, j, a)
                known |= (uint64_t)json_integer_value(json_object_get(a, "account")) == account;
            if (!known)
                json_array_append_new(accounts, json_pack("{s:I s:s s:o s:s s:s}", "account", (json_int_t)account, "earned_wei", "0", "pending_wei",
                                                          json_u256(gain(doc, account)), "claimable_wei", "0", "claimed_wei", "0"));
        }
        if (settled && !u256_add(&earned, earned, here))
            json_array_append_new(curve, json_pack("[I, o]", (json_int_t)e.posted_at * 1000, json_u256(earned)));
        json_decref(doc);
    }
    json_object_foreach(nets, k, v)
        json_array_append(netlist, v);
    if (!record_list(n, TABLE_CLAIM, NULL, 0, &payments, NULL))
        while (json_array_size(payments)) { /* newest first */
            size_t best = 0;
            json_array_foreach(payments, i, v)
                if (json_integer_value(json_object_get(v, "block")) > json_integer_value(json_object_get(json_array_get(payments, best), "block")))
                    best = i;
            v = json_array_get(payments, best);
            json_object_set(v, "id", json_object_get(v, "tx"));
            json_object_set_new(v, "state", json_string("paid"));
            if (json_array_size(paid) < 200)
                json_array_append(paid, v);
            json_array_remove(payments, best);
        }
    json_decref(payments);
    topic_update(n, "rewards", json_pack("{s:O s:o s:o s:o s:o}", "accounts", accounts, "payments", paid, "earned_curve", curve, "datanets", netlist, "names",
                                         names));
    json_decref(nets);
}

/* ---- validator ------------------------------------------------------------------------------------------------------ */

static const char *stage_of(const struct entry *e, const struct seat *seat, bool have_seat) {
    static const struct hash32 none;
    if (e->state != BATCH_DRAWN || !have_seat)
        return batch_state_name(e->state);
    if (u256_is_zero(seat->weight))
        return e->drawn ? "for others" : "none drawn"; /* nobody had a stake when it was posted */
    return seat->verdict ? "revealed" : hash_eq(&seat->commitment, &none) ? "drawn" : "committed";
}

static bool look_validator(struct flow *f, bool *open, uint64_t *count) {
    struct node *n = f->node;
    json_t *keys = NULL, *names = names_of(n, &keys), *t = json_object(), *queue = json_array(), *batches = json_array(), *said = verdicts(n),
           *disputes = json_array(), *old = topic_get(n, "validator"), *k, *v;
    struct u256 most = U256_ZERO;
    uint64_t me = 0, now = 0;
    size_t i;
    *open = false;
    bool ok = !batch_count(n, count, NULL) && !fhead(n, NULL, &now, NULL);
    json_array_foreach(keys, i, k) {
        uint64_t account = (uint64_t)json_integer_value(json_object_get(k, "account"));
        json_t *st = NULL;
        struct u256 stake;
        if (flow_stake_status(f, &st, account, NULL))
            continue;
        if (!jget_u256(&stake, st, "stake_wei", NULL) && u256_cmp(stake, most) > 0) {
            most = stake;
            me = account;
            json_object_update(t, st);
            json_object_set(t, "key", json_object_get(k, "key"));
        }
        json_decref(st);
    }
    json_object_set_new(t, "enabled", json_boolean(me != 0));
    for (uint64_t id = *count; ok && id && id + BOARD_BATCHES > *count; id--) {
        struct entry e;
        struct seat seat = {0};
        if (entry_read(n, &e, id, NULL))
            continue;
        bool going = e.state == BATCH_POSTED || e.state == BATCH_DRAWN;
        bool have_seat = me && e.state == BATCH_DRAWN && !seat_read(n, &seat, id, me, NULL);
        const char *stage = stage_of(&e, &seat, have_seat);
        json_int_t deadline = e.state == BATCH_DRAWN ? (json_int_t)(now <= e.commit_end ? e.commit_end : e.reveal_end) * 1000 : 0;
        json_t *o = json_pack("{s:I s:I s:s s:I s:I s:I s:I s:b}", "batch", (json_int_t)id, "poster", (json_int_t)e.poster, "stage", stage, "posted_ms",
                              (json_int_t)e.posted_at * 1000, "done", (json_int_t)(now <= e.commit_end ? e.committed : e.revealed), "total",
                              (json_int_t)e.drawn, "deadline_ms", deadline, "mine", is_mine(names, e.poster));
        *open |= going;
        json_array_foreach(json_object_get(old, "queue"), i, v) { /* what a validation under way says goes before */
            const char *s = json_string_value(json_object_get(v, "stage"));
            if (going && (uint64_t)json_integer_value(json_object_get(v, "batch")) == id && s && (!strcmp(s, "fetching") || !strcmp(s, "executing"))) {
                json_object_set(o, "stage", json_object_get(v, "stage"));
                json_object_set(o, "calls", json_object_get(v, "calls"));
            }
        }
        json_array_append(batches, o);
        if (going && me)
            json_array_append(queue, o);
        json_array_foreach(said, i, v)
            if ((uint64_t)json_integer_value(json_object_get(v, "batch")) == id && !going)
                json_object_set_new(v, "outcome", json_string(stage));
        if (e.state == BATCH_SLASHED) {
            const char *why = NULL;
            json_array_foreach(said, i, v)
                if ((uint64_t)json_integer_value(json_object_get(v, "batch")) == id && json_is_true(json_object_get(v, "proven")))
                    why = json_string_value(json_object_get(v, "reason"));
            json_array_append_new(disputes, json_pack("{s:I s:s s:s s:I}", "batch", (json_int_t)id, "kind", why ? why : "shown to the contract by another", "stage",
                                                      "proven, bond slashed", "poster", (json_int_t)e.poster));
        }
        json_decref(o);
    }
    json_object_set_new(t, "queue", queue);
    json_object_set_new(t, "batches", batches);
    json_object_set_new(t, "verdicts", said);
    json_object_set_new(t, "disputes", disputes);
    topic_set(n, "validator", t);
    json_decref(old);
    json_decref(keys);
    json_decref(names);
    return ok;
}

/* ---- looking -------------------------------------------------------------------------------------------------------- */

static enum loam_status look(struct job *j, void *arg, struct err *err) {
    struct flow_board *b = arg;
    struct flow f = {.node = b->n, .job = j, .name = "board"};
    struct addr20 ledger;
    json_t *out = NULL;
    uint64_t jobs = jobs_ended(b->n), now = clock_mono_us(), count = b->batches;
    bool open = false, was_open = b->open, all = !b->done || jobs != b->jobs || now - b->slow_us > BOARD_SLOW_MS * 1000ull;
    (void)err;
    if (node_chain_contract(b->n, "Ledger", &ledger, NULL))
        return LOAM_OK; /* nothing is deployed */
    bool ok = look_validator(&f, &open, &count);
    all |= count != b->batches || was_open != open;
    b->open = open;
    b->batches = count;
    if (ok && all && !job_cancelled(j)) {
        ok = !flow_rewards(&f, &out, 0, true, NULL, NULL);
        json_decref(out);
        if (!job_cancelled(j) && !flow_datanet_list(&f, &out, NULL))
            json_decref(out);
        b->slow_us = now;
        b->jobs = jobs;
        b->done = ok;
    }
    return LOAM_OK;
}

static void looked(struct job *j, void *arg, enum loam_status s, const struct err *err) {
    struct flow_board *b = arg;
    (void)j;
    (void)s;
    (void)err;
    atomic_store(&b->looking, false);
}

/* Loop thread, once a second. */
static void tick(struct node *n) {
    struct flow_board *b = n->board;
    uint64_t head = node_chain_head_number(n), now = clock_mono_us();
    if (!head || atomic_load(&b->looking) || node_stopping(n) || (!control_watchers(n, "rewards") && !control_watchers(n, "validator")))
        return;
    bool job_done = b->jobs != jobs_ended(n);
    if (b->done && !job_done && (head == b->head || now - b->at_us < BOARD_PERIOD_MS * 1000ull))
        return;
    b->head = head;
    b->at_us = now;
    struct job_def def = {.title = "board", .run = look, .end = looked, .arg = b};
    uint64_t id;
    atomic_store(&b->looking, true);
    if (job_start(n, &id, &def, NULL))
        atomic_store(&b->looking, false);
}

static void board_free(void *arg) {
    struct flow_board *b = arg;
    b->n->tick = NULL;
    b->n->board = NULL;
    mem_free(b);
}

enum loam_status board_attach(struct node *n, struct err *err) {
    struct flow_board *b = mem_zalloc(sizeof *b);
    if (!b)
        return err_set(err, LOAM_ENOMEM, "no memory for what consoles show");
    b->n = n;
    enum loam_status s = node_at_close(n, board_free, b, err);
    if (s) {
        mem_free(b);
        return s;
    }
    restore_train(n);
    restore_attribution(n);
    restore_ask(n);
    json_t *said = verdicts(n);
    if (json_array_size(said))
        topic_set(n, "validator", json_pack("{s:O}", "verdicts", said));
    json_decref(said);
    n->board = b;
    n->tick = tick;
    return LOAM_OK;
}
