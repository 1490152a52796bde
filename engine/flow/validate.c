#include "flow/validate.h"

#include "base/clock.h"
#include "base/entropy.h"
#include "base/log.h"
#include "base/mem.h"
#include "flow/ask.h"
#include "flow/batchdoc.h"
#include "flow/dispute.h"
#include "flow/fetch.h"
#include "flow/ledger.h"
#include "flow/pay.h"
#include "flow/record.h"
#include "flow/train.h"
#include "node/chain.h"
#include "node/job.h"
#include "node/sched.h"
#include "node/topic.h"
#include "record/tree.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define BATCH_WAIT_MS 500
#define BATCH_WAIT_STEPS 20 /* ten seconds: some blocks */

/* What was found. A message in reason and LOAM_EVERIFY mean "invalid"; every other failure is this node's own and gives no verdict. */
struct finding {
    unsigned verdict;
    char reason[ERR_TEXT_MAX];
    enum batch_lie lie;
    uint64_t at;
    struct hash32 trace_root;
};

/* ---- signatures ---- */

static enum loam_status check_signatures(struct flow *f, const struct batch_doc *d, struct err *err) {
    struct account_info a;
    enum loam_status s;
    for (size_t i = 0; i < d->calls; i++) {
        const struct call *c = &d->call[i];
        struct hash32 h;
        if ((s = account_read(f->node, &a, c->request.payer, err)))
            return s;
        if ((s = st_check(f->node, &a.signing, "Ledger", ST_Request, &c->request, &c->request_sig, err)))
            return err_set(err, LOAM_EVERIFY, "call %zu: the request is not signed by account %llu", i, (unsigned long long)c->request.payer);
        if (!c->paid && c->request.payer != c->request.server)
            return err_set(err, LOAM_EVERIFY, "call %zu: account %llu pays, and nothing shows that it asked before the answer", i, (unsigned long long)c->request.payer);
        if (c->paid && (s = pay_seed_check(&c->request, &c->inference, &c->seed_commitment, &c->nonce_salt, err)))
            return err_prefix(err, s, "call %zu", i);
        if ((s = sampler_hash(&h, c->sampler, err)) || !hash_eq(&h, &c->request.sampler_hash))
            return err_set(err, LOAM_EVERIFY, "call %zu: the sampler is not the one that was asked for", i);
    }
    return LOAM_OK;
}

/* ---- execution ---- */

static void yield_turn(void *ctx) { /* an answer for a user may go first */
    struct flow *f = ctx;
    /* Without a job to cancel it the turn always comes back. */
    if (sched_wanted(f->node->sched) && sched_yield_turn(f->node->sched, NULL, NULL))
        loam_abort(__FILE__, __LINE__, "a compute turn was lost");
}

static bool stop_asked(void *ctx) {
    struct flow *f = ctx;
    return f->job && job_cancelled(f->job);
}

static enum loam_status run_inference(struct flow *f, const struct call *c, const char *model, size_t i, struct lm_ids *prompt, struct err *err) {
    struct flow_model *m = NULL;
    struct lm_answer a = {0};
    struct flow_ask q;
    enum loam_status s;
    memset(&q, 0, sizeof q);
    q.model = model;
    q.messages = c->messages;
    q.act = strcmp(c->inference.act, lm_act_name(LM_ACT_F32)) ? LM_ACT_Q8 : LM_ACT_F32;
    if (strcmp(c->inference.act, lm_act_name(q.act)) != 0 || strcmp(c->inference.arithmetic, LM_ARITHMETIC) != 0)
        return err_set(err, LOAM_EVERIFY, "call %zu: arithmetic %.32s, activations %.32s are not known", i, c->inference.arithmetic, c->inference.act);
    TRY(flow_sampler_read(&q, c->sampler, err));
    q.seeded = true;
    memcpy(q.sampler.seed, c->inference.seed.b, 32);
    TRY(flow_model_get(&m, f->node, model, err));
    TRY(flow_ask_run(&a, prompt, f->node, m, &q, NULL, yield_turn, f, err));
    if (c->inference.tokens_in != prompt->n) {
        s = err_set(err, LOAM_EVERIFY, "call %zu: the prompt has %zu tokens, not %u", i, (size_t)prompt->n, c->inference.tokens_in);
        goto out;
    }
    if ((s = poa_compare("tokens", POA_U32, a.ids.ids, a.ids.n, c->ids, c->id_count, err))) {
        s = err_prefix(err, s == LOAM_ENOMEM ? s : LOAM_EVERIFY, "call %zu", i);
        goto out;
    }
    if (a.stop != (enum lm_stop)c->inference.stop_reason)
        s = err_set(err, LOAM_EVERIFY, "call %zu: it stops by \"%s\", which is not what was posted", i, lm_stop_name(a.stop));
out:
    lm_answer_clear(&a);
    flow_model_put(m);
    return s;
}

static enum loam_status run_attribution(struct flow *f, const struct call *c, const struct flow_tuned *t, size_t i, const struct lm_ids *prompt,
                                        struct poa_trace *trace, struct err *err) {
    struct tuned_scores sc = {0};
    struct hash32 h = poa_parameters_hash(POA_FISHER, t->t->stores, t->t->checkpoints);
    enum loam_status s;
    if (strcmp(c->attribution.method, poa_method_name(POA_FISHER)) != 0 || !hash_eq(&h, &c->attribution.parameters_hash))
        return err_set(err, LOAM_EVERIFY, "call %zu: attributed by another method or with other parameters than the model's", i);
    TRY(tuned_attribute(&sc, t->t, t->gpu, prompt->ids, (uint32_t)prompt->n, c->ids, (uint32_t)c->id_count, "", 1u << POA_FISHER, stop_asked, f, err));
    if ((s = poa_compare("scores", POA_I64, sc.score[POA_FISHER], sc.rows, c->score, c->rows, err))) {
        s = err_prefix(err, s == LOAM_ENOMEM ? s : LOAM_EVERIFY, "call %zu", i);
        goto out;
    }
    s = call_trace(trace, i, c->ids, c->id_count, sc.query, t->t->checkpoints, sc.score[POA_FISHER], sc.rows, err);
out:
    tuned_scores_clear(&sc);
    return s;
}

/* The gradient stores are those that the Training statement committed to. */
static enum loam_status check_stores(struct flow *f, const struct flow_tuned *t, uint64_t model, struct err *err) {
    struct st_training st;
    struct hash32 rows, damping;
    json_t *json = NULL;
    enum loam_status s;
    TRY(training_read(f, &st, &json, NULL, model, err));
    TRY(poa_rows_root(&rows, t->t->stores, t->t->checkpoints, err));
    damping = poa_damping_root(t->t->stores, t->t->checkpoints);
    if (!hash_eq(&rows, &st.rows_root) || !hash_eq(&damping, &st.damping_root))
        s = err_set(err, LOAM_EVERIFY, "the gradient stores of model %llu are not those of its Training statement", (unsigned long long)model);
out:
    json_decref(json);
    return s;
}

/* Says once, as soon as it can be known, that this machine will be too late for the window in which verdicts are committed. */
static void pace(struct flow *f, uint64_t batch, uint64_t window, uint64_t began_us, size_t done, size_t total, bool *said) {
    struct entry e;
    uint64_t now, spent = (clock_mono_us() - began_us) / 1000000, left;
    if (*said || !done || (done & (done - 1)) || entry_read(f->node, &e, batch, NULL) || fhead(f->node, NULL, &now, NULL))
        return;
    left = (uint64_t)((double)spent / (double)done * (double)(total - done)) + 1;
    if (e.state == BATCH_DRAWN && now + left > e.commit_end) {
        flow_note(f, "too slow for this batch: about %llu s of execution are left, verdicts are taken for %llu s more (windows are set by chain deploy --verdict-window)",
                  (unsigned long long)left, (unsigned long long)(e.commit_end > now ? e.commit_end - now : 0));
        *said = true;
    } else if (e.state == BATCH_POSTED && left > window) {
        flow_note(f, "this batch takes about %llu s more to execute, and verdicts are taken for %llu s after the draw, which anybody may make at any time", (unsigned long long)left,
                  (unsigned long long)window);
        *said = true;
    }
}

static enum loam_status execute(struct flow *f, uint64_t batch, const struct batch_doc *d, const char *peer, struct hash32 *root, struct err *err) {
    struct poa_trace trace;
    struct u256 w;
    uint64_t window = UINT64_MAX, began = clock_mono_us();
    size_t done = 0;
    bool turn = false, said = false;
    enum loam_status s = LOAM_OK;
    poa_trace_init(&trace);
    if (!ledger_parameter(f, &w, "commitWindow", NULL) && u256_fits_u64(w))
        window = w.w[0];
    /* Model by model, so that each is opened once; the trace stands in order of calls all the same. */
    struct poa_trace *part = mem_zarray(d->calls, sizeof *part);
    if (!part)
        return err_set(err, LOAM_ENOMEM, "no memory for %zu calls", d->calls);
    for (size_t m = 0; m < d->models && !s; m++) {
        struct flow_tuned t = {0};
        char name[FLOW_MODEL_NAME_MAX] = "";
        if ((s = fetch_model(f, name, peer, &d->manifest[m], err)) || (s = flow_tuned_open(&t, f->node, name, true, err)))
            break;
        s = check_stores(f, &t, d->manifest[m].model, err);
        for (size_t i = 0; i < d->calls && !s; i++) {
            struct lm_ids prompt = {0};
            if (d->call[i].manifest != &d->manifest[m])
                continue;
            flow_progress(f, i, d->calls, "executing call %zu of %zu again", i + 1, d->calls);
            if ((s = flow_check(f, err)) || (s = sched_enter(f->node->sched, SCHED_VALIDATE, f->job, err)))
                break;
            turn = true;
            s = run_inference(f, &d->call[i], name, i, &prompt, err);
            if (!s)
                s = run_attribution(f, &d->call[i], &t, i, &prompt, &part[i], err);
            sched_leave(f->node->sched);
            turn = false;
            lm_ids_clear(&prompt);
            pace(f, batch, window, began, ++done, d->calls, &said);
        }
        flow_tuned_close(&t);
    }
    for (size_t i = 0; i < d->calls && !s; i++)
        for (size_t k = 0; k < part[i].count && !s; k++)
            s = poa_trace_add_hash(&trace, &part[i].entry[k].hash, part[i].entry[k].elements, err, "%s", part[i].entry[k].name);
    if (!s)
        *root = poa_trace_root(&trace);
    if (turn)
        sched_leave(f->node->sched);
    for (size_t i = 0; i < d->calls; i++)
        poa_trace_clear(&part[i]);
    mem_free(part);
    poa_trace_clear(&trace);
    return s;
}

/* ---- finding ---- */

static json_t *finding_json(const struct finding *x, const struct hash32 *salt) {
    return json_pack("{s:I s:s s:i s:I s:o* s:o*}", "verdict", (json_int_t)x->verdict, "reason", x->reason, "lie", (int)x->lie, "at", (json_int_t)x->at,
                     "trace_root", json_hash(&x->trace_root), "salt", json_hash(salt));
}

static enum loam_status examine(struct flow *f, uint64_t batch, struct finding *x, struct batch_doc *d, const struct st_batch *b, const char *peer, struct err *err) {
    struct err e = {0};
    enum loam_status s;
    memset(x, 0, sizeof *x);
    x->verdict = VERDICT_VALID;
    s = batch_doc_check(&x->lie, &x->at, d, b, &e);
    if (!s)
        s = check_signatures(f, d, &e);
    if (!s)
        s = execute(f, batch, d, peer, &x->trace_root, &e);
    if (s == LOAM_EVERIFY) {
        x->verdict = VERDICT_INVALID;
        snprintf(x->reason, sizeof x->reason, "%s", e.text);
        return LOAM_OK;
    }
    if (s && err)
        *err = e;
    return s;
}

/* Bytes that cannot be had give no verdict (a leaf can be demanded on the chain); bytes that are no batch are a false one. */
static enum loam_status get_document(struct flow *f, struct batch_doc *d, const struct st_batch *b, const char *peer, struct finding *x,
                                     struct err *err) {
    struct err e = {0};
    enum loam_status s = batch_fetch(f, d, b, peer, &e);
    if (s == LOAM_EVERIFY) {
        x->verdict = VERDICT_INVALID;
        snprintf(x->reason, sizeof x->reason, "%s", e.text);
        return LOAM_OK;
    }
    if (s && err)
        *err = e;
    return s;
}

/* ---- the flow ---- */

static void tell(struct flow *f, uint64_t batch, uint64_t poster, const char *stage, size_t calls) {
    json_t *t = topic_get(f->node, "validator"), *q, *v;
    size_t i;
    if (!t)
        t = json_object();
    q = json_object_get(t, "queue");
    if (!json_is_array(q)) {
        q = json_array();
        json_object_set_new(t, "queue", q);
    }
    json_array_foreach(q, i, v)
        if ((uint64_t)json_integer_value(json_object_get(v, "batch")) == batch) {
            json_array_remove(q, i);
            break;
        }
    if (strcmp(stage, "final") != 0)
        json_array_append_new(q, json_pack("{s:I s:I s:s s:I}", "batch", (json_int_t)batch, "poster", (json_int_t)poster, "stage", stage, "calls", (json_int_t)calls));
    topic_set(f->node, "validator", t);
}

static void tell_verdict(struct flow *f, uint64_t batch, uint64_t poster, const struct finding *x, const char *outcome) {
    json_t *t = topic_get(f->node, "validator"), *list;
    if (!t)
        t = json_object();
    list = json_object_get(t, "verdicts");
    if (!json_is_array(list)) {
        list = json_array();
        json_object_set_new(t, "verdicts", list);
    }
    json_array_insert_new(list, 0,
                          json_pack("{s:I s:I s:s s:s s:s? s:I}", "batch", (json_int_t)batch, "poster", (json_int_t)poster, "verdict",
                                    x->verdict == VERDICT_VALID ? "valid" : "invalid", "reason", x->reason, "outcome", outcome, "time_ms",
                                    (json_int_t)clock_unix_ms()));
    while (json_array_size(list) > 50)
        json_array_remove(list, json_array_size(list) - 1);
    topic_set(f->node, "validator", t);
}

#define DRAW_SEEN_STEPS 8
#define DRAW_SEEN_MS 500

/* Draws where nobody has. Somebody else's draw in the same moment is as good; the block that shows it may still be on its way here. */
static enum loam_status ensure_drawn(struct flow *f, struct entry *e, const char *key, struct err *err) {
    struct outbox_result res = {0};
    enum loam_status s;
    for (int i = 0; e->state == BATCH_POSTED && i < 8; i++) {
        char step[32];
        if ((s = fwait_block(f, e->draw_block, err)) || (s = entry_read(f->node, e, e->id, err)) || e->state != BATCH_POSTED)
            return s;
        snprintf(step, sizeof step, "draw-%llu", (unsigned long long)e->draw_block); /* a missed block gives another one */
        struct fcall c = {.step = step, .from = key, .contract = "Ledger", .sig = "draw(uint64)", .what = "draw of a committee"};
        s = fsend(f, &res, &c, ABI(abi_u64(e->id)), err);
        outbox_result_clear(&res);
        if (s && s != LOAM_EREVERT)
            return s;
        for (int seen = 0;; seen++) {
            enum loam_status r = entry_read(f->node, e, e->id, s ? NULL : err);
            if (r)
                return s ? s : r;
            if (!s || e->state != BATCH_POSTED)
                break;
            if (seen == DRAW_SEEN_STEPS || flow_sleep(f, DRAW_SEEN_MS, NULL))
                return s;
        }
    }
    return LOAM_OK;
}

enum loam_status flow_validate(struct flow *f, json_t **out, uint64_t batch, const char *key, const char *peer, struct err *err) {
    struct entry e;
    struct seat seat = {0};
    struct st_batch b;
    struct batch_doc d = {0};
    struct finding x = {0};
    struct hash32 salt, commitment;
    struct outbox_result res = {0};
    json_t *bjson = NULL, *step = NULL, *rec = NULL;
    uint64_t account, now, began = clock_mono_us(), n;
    bool proven = false;
    char work[64];
    enum loam_status s;
    *out = NULL;
    TRY(account_of_key(f->node, &account, key, err));
    /* The poster's node may be a block ahead of ours. */
    for (int i = 0; (s = entry_read(f->node, &e, batch, err)) == LOAM_ENOTFOUND && i < BATCH_WAIT_STEPS; i++)
        TRY(flow_sleep(f, BATCH_WAIT_MS, err));
    if (s)
        goto out;
    TRY(posted_read(f, &b, &bjson, NULL, &e, err));
    snprintf(work, sizeof work, "validate/%llu/%llu", (unsigned long long)account, (unsigned long long)batch);
    TRY(flow_own(f, work, err)); /* never let go: a verdict is committed with its salt once */
    s = flow_step_get(f, "finding", &step, err);
    if (s && s != LOAM_ENOTFOUND)
        goto out;
    if (s == LOAM_ENOTFOUND && e.state != BATCH_POSTED && e.state != BATCH_DRAWN) {
        s = err_set(err, LOAM_ESTATE, "batch %llu is %s already", (unsigned long long)batch, batch_state_name(e.state));
        goto out;
    }
    TRY(flow_unlock(f, key, err));
    peer = fetch_peer(peer, b.data_locator);
    tell(f, batch, e.poster, "fetching", b.call_count);
    TRY(get_document(f, &d, &b, peer, &x, err));
    if (!step) {
        tell(f, batch, e.poster, "executing", d.calls);
        if (!x.verdict)
            TRY(examine(f, batch, &x, &d, &b, peer, err));
        TRY(entropy_fill(salt.b, sizeof salt.b, err));
        if (!(step = finding_json(&x, &salt))) {
            s = err_set(err, LOAM_ENOMEM, "no memory");
            goto out;
        }
        TRY(flow_step_make(f, "finding", &step, err));
    } else {
        const char *reason;
        TRY(jget_u64(&n, step, "verdict", err));
        x.verdict = (unsigned)n;
        TRY(jget_str(&reason, step, "reason", err));
        snprintf(x.reason, sizeof x.reason, "%s", reason);
        TRY(jget_u64(&n, step, "lie", err));
        x.lie = (enum batch_lie)n;
        TRY(jget_u64(&x.at, step, "at", err));
        TRY(jget_hash(&x.trace_root, step, "trace_root", err));
        TRY(jget_hash(&salt, step, "salt", err));
    }
    flow_note(f, "batch %llu of account %llu: %s%s%s", (unsigned long long)batch, (unsigned long long)e.poster,
              x.verdict == VERDICT_VALID ? "valid" : "invalid", *x.reason ? ": " : "", x.reason);
    if (lie_provable(x.lie)) {
        TRY(entry_read(f->node, &e, batch, err));
        if (e.state == BATCH_POSTED || e.state == BATCH_DRAWN || e.state == BATCH_SLASHED) {
            s = dispute_prove(f, x.lie, x.at, batch, &b, &d, key, NULL, err);
            enum loam_status r = entry_read(f->node, &e, batch, s ? NULL : err);
            if (s && e.state != BATCH_SLASHED)
                goto out;
            TRY(r);
            proven = true;
        }
    } else {
        TRY(ensure_drawn(f, &e, key, err));
        TRY(seat_read(f->node, &seat, batch, account, err));
        if (!u256_is_zero(seat.weight) && e.state == BATCH_DRAWN) {
            struct addr20 ledger;
            struct sig65 sig;
            struct abi_value ai[ST_FIELDS_MAX];
            struct st_attestation a = {.validator = account, .batch = batch, .verdict = (uint8_t)x.verdict, .trace_root = x.trace_root, .salt = salt};
            TRY(node_chain_contract(f->node, "Ledger", &ledger, err));
            commitment = commit_verdict(node_chain_id(f->node), &ledger, &a);
            TRY(fhead(f->node, NULL, &now, err));
            if (hash_is_zero(&seat.commitment) && now > e.commit_end) {
                s = err_set(err, LOAM_ESTATE, "batch %llu: the verdict is %s, but verdicts were taken until %llu s ago; fetching and executing took %llu s here. Windows are set by "
                                              "chain deploy --verdict-window", (unsigned long long)batch, x.verdict == VERDICT_VALID ? "valid" : "invalid",
                            (unsigned long long)(now - e.commit_end), (unsigned long long)((clock_mono_us() - began) / 1000000));
                goto out;
            }
            struct fcall commit = {.step = "commit", .from = key, .contract = "Ledger", .sig = "commitVerdict(uint64,uint64,bytes32)",
                                   .what = "commitment of a verdict"};
            TRY(fsend(f, &res, &commit, ABI(abi_u64(batch), abi_u64(account), abi_b32(&commitment)), err));
            outbox_result_clear(&res);
            memset(&res, 0, sizeof res);
            tell(f, batch, e.poster, "committed", d.calls);
            for (;;) { /* until nobody can commit any more: only then is it safe to show it */
                TRY(entry_read(f->node, &e, batch, err));
                TRY(fhead(f->node, NULL, &now, err));
                if (e.state != BATCH_DRAWN || entry_commits_closed(&e, now))
                    break;
                flow_progress(f, e.committed, e.drawn, "waiting for the other validators' commitments");
                TRY(flow_sleep(f, 500, err));
            }
            if (e.state != BATCH_DRAWN) { /* slashed by a proof meanwhile: nothing is left to say */
                flow_note(f, "batch %llu is %s", (unsigned long long)batch, batch_state_name(e.state));
                goto seen;
            }
            TRY(st_sign(f->node, &sig, NULL, key, "Ledger", ST_Attestation, &a, err));
            struct fcall reveal = {.step = "reveal", .from = key, .contract = "Ledger", .sig = "reveal(%T,bytes,string)", .ids = {ST_Attestation},
                                   .id_count = 1, .what = "reveal of a verdict"};
            TRY(fsend(f, &res, &reveal, ABI(st_abi(ai, ST_Attestation, &a), abi_bytes(sig.b, 65), abi_str(x.reason)), err));
            tell(f, batch, e.poster, "revealed", d.calls);
        }
    seen:
        TRY(entry_read(f->node, &e, batch, err));
    }
    rec = json_pack("{s:I s:I s:I s:b s:s s:s s:s s:o* s:b s:I s:f}", "time_ms", (json_int_t)clock_unix_ms(), "batch", (json_int_t)batch, "poster", (json_int_t)e.poster, "drawn",
                    !u256_is_zero(seat.weight), "verdict", x.verdict == VERDICT_VALID ? "valid" : "invalid", "reason", x.reason, "state",
                    batch_state_name(e.state), "trace_root", json_hash(&x.trace_root), "proven", proven, "calls", (json_int_t)d.calls, "seconds",
                    (double)(clock_mono_us() - began) * 1e-6);
    if (!rec) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    TRY(record_put_u64(f->node, TABLE_VALIDATION, batch, rec, err));
    tell_verdict(f, batch, e.poster, &x, proven ? "slashed" : NULL);
    *out = json_incref(rec);
out:
    tell(f, batch, 0, "final", 0); /* nobody works on it now */
    outbox_result_clear(&res);
    batch_doc_clear(&d);
    json_decref(bjson);
    json_decref(step);
    json_decref(rec);
    return s;
}

/* ---- watching ---- */

#define WATCH_MS 1000
#define WATCH_AGAIN_MAX_MS 30000 /* a batch whose bytes cannot be had, or that fails otherwise, is tried again ever later while it is open */
#define WATCH_TRIES 3   /* after so many it gives way where room is needed: a poster that serves nothing stops nobody */
#define WATCH_AT_ONCE 4 /* batches looked at together: one may wait for its windows while the next is executed */

enum { WATCH_FREE, WATCH_RUNS, WATCH_ENDED };
struct watched {
    atomic_int state; /* ENDED: the job has let go of this */
    struct node *n;
    const char *key, *peer; /* of the watch, which outlives its jobs */
    char name[FLOW_NAME_MAX];
    uint64_t batch, job, again_us; /* again_us: of ENDED ones that failed, when the next try is due; 0: not settled yet */
    unsigned tries;
    enum loam_status s;
    struct err why;
};

static void watched_note(void *ui, const char *text) {
    (void)ui;
    log_info("validator", "%s", text);
}

static enum loam_status watched_run(struct job *j, void *arg, struct err *err) {
    struct watched *w = arg;
    struct flow f = {.node = w->n, .job = j, .name = w->name, .note = watched_note};
    json_t *out = NULL;
    enum loam_status s = flow_validate(&f, &out, w->batch, w->key, w->peer, err);
    if (!s)
        job_result(j, out);
    else
        json_decref(out);
    return s;
}

static void watched_end(struct job *j, void *arg, enum loam_status s, const struct err *err) {
    struct watched *w = arg;
    (void)j;
    w->s = s;
    w->why = s && err ? *err : (struct err){0};
    atomic_store(&w->state, WATCH_ENDED);
}

static enum loam_status watched_start(struct flow *f, struct watched *w, struct err *err) {
    char title[64];
    snprintf(title, sizeof title, "validate %llu", (unsigned long long)w->batch);
    snprintf(w->name, sizeof w->name, "%s-%llu", f->name, (unsigned long long)w->batch);
    struct job_def def = {.title = title, .listed = true, .run = watched_run, .end = watched_end, .arg = w};
    w->again_us = 0;
    atomic_store(&w->state, WATCH_RUNS);
    enum loam_status s = job_start(f->node, &w->job, &def, err);
    if (s)
        atomic_store(&w->state, WATCH_FREE);
    return s;
}

/* Whether a verdict on a batch could still be taken, or one that was committed be shown. Where the chain cannot be read now, it may. */
static bool still_open(struct flow *f, uint64_t batch) {
    struct entry e;
    uint64_t now;
    if (entry_read(f->node, &e, batch, NULL) || fhead(f->node, NULL, &now, NULL))
        return true;
    return e.state == BATCH_POSTED || (e.state == BATCH_DRAWN && now <= e.reveal_end);
}

static void give_up(struct flow *f, struct watched *w) {
    flow_note(f, "batch %llu gets no verdict: %s", (unsigned long long)w->batch, w->why.text);
    atomic_store(&w->state, WATCH_FREE);
}

/* One slot's turn. */
static void watched_turn(struct flow *f, struct watched *w) {
    struct err why;
    uint64_t now = clock_mono_us(), wait;
    if (atomic_load(&w->state) != WATCH_ENDED)
        return;
    if (!w->s) {
        flow_note(f, "batch %llu is done", (unsigned long long)w->batch);
        atomic_store(&w->state, WATCH_FREE);
        return;
    }
    if (w->s == LOAM_ECANCEL) {
        give_up(f, w);
        return;
    }
    if (!w->again_us) {
        if (!still_open(f, w->batch)) {
            give_up(f, w);
            return;
        }
        wait = w->tries < 6 ? (uint64_t)WATCH_MS << w->tries : WATCH_AGAIN_MAX_MS;
        w->tries++;
        w->again_us = now + 1000 * (wait < WATCH_AGAIN_MAX_MS ? wait : WATCH_AGAIN_MAX_MS);
        flow_note(f, "batch %llu: %s; again in %llu s", (unsigned long long)w->batch, w->why.text, (unsigned long long)((w->again_us - now) / 1000000));
    }
    if (now >= w->again_us && watched_start(f, w, &why)) {
        w->again_us = now + 1000 * WATCH_MS; /* no room for a job now */
        atomic_store(&w->state, WATCH_ENDED);
    }
}

/* A slot for another batch: a free one, else the one that has failed most often, WATCH_TRIES times at least. */
static struct watched *watched_slot(struct flow *f, struct watched *slot) {
    struct watched *most = NULL;
    for (int i = 0; i < WATCH_AT_ONCE; i++) {
        if (atomic_load(&slot[i].state) == WATCH_FREE)
            return &slot[i];
        if (atomic_load(&slot[i].state) == WATCH_ENDED && slot[i].s && slot[i].tries >= WATCH_TRIES && (!most || slot[i].tries > most->tries))
            most = &slot[i];
    }
    if (most)
        give_up(f, most);
    return most;
}

enum loam_status flow_validate_watch(struct flow *f, const char *key, const char *peer, struct err *err) {
    struct watched slot[WATCH_AT_ONCE];
    uint64_t next = 1, seen, count, account; /* next: the lowest batch that is not finished; seen: the highest looked at */
    json_t *step = NULL;
    enum loam_status s;
    memset(slot, 0, sizeof slot);
    TRY(account_of_key(f->node, &account, key, err));
    TRY(flow_unlock(f, key, err));
    if (!flow_step_get(f, "next", &step, NULL)) {
        TRY(jget_u64(&next, step, "batch", err));
        json_decref(step);
        step = NULL;
    }
    seen = next - 1;
    for (;;) {
        struct err why = {0};
        uint64_t low;
        TRY(flow_check(f, err));
        for (int i = 0; i < WATCH_AT_ONCE; i++)
            watched_turn(f, &slot[i]);
        if (batch_count(f->node, &count, &why)) /* an RPC that is away comes back */
            count = seen;
        while (seen < count) {
            struct watched *w;
            struct entry e;
            while (seen < count && !(s = entry_read(f->node, &e, seen + 1, &why)) &&
                   ((e.state != BATCH_POSTED && e.state != BATCH_DRAWN) || e.poster == account))
                seen++;
            if (s || seen == count || !(w = watched_slot(f, slot)))
                break;
            w->n = f->node;
            w->key = key;
            w->peer = peer;
            w->batch = seen + 1;
            w->tries = 0;
            if (watched_start(f, w, &why))
                break;
            seen++;
        }
        low = seen + 1;
        for (int i = 0; i < WATCH_AT_ONCE; i++)
            if (atomic_load(&slot[i].state) != WATCH_FREE && slot[i].batch < low)
                low = slot[i].batch;
        if (low != next) {
            next = low;
            if (!(step = json_pack("{s:I}", "batch", (json_int_t)next))) {
                s = err_set(err, LOAM_ENOMEM, "no memory");
                goto out;
            }
            TRY(flow_step_put(f, "next", step, err));
            json_decref(step);
            step = NULL;
        }
        TRY(flow_sleep(f, WATCH_MS, err));
    }
out:
    for (int i = 0; i < WATCH_AT_ONCE; i++) /* they borrow from here */
        if (atomic_load(&slot[i].state) == WATCH_RUNS && job_cancel(f->node, slot[i].job, NULL) != LOAM_OK)
            continue;
    for (int i = 0; i < WATCH_AT_ONCE; i++)
        while (atomic_load(&slot[i].state) == WATCH_RUNS)
            uv_sleep(20);
    json_decref(step);
    return s;
}
