#include "flow/settle.h"

#include "flow/batchdoc.h"
#include "flow/dispute.h"
#include "flow/eigenda.h"
#include "flow/fetch.h"
#include "flow/flow.h"
#include "flow/ledger.h"
#include "flow/record.h"
#include "node/chain.h"
#include "store/blob.h"

#include "base/mem.h"

#include "base/banned.h"

/* ---- tables ---- */

static enum loam_status lines_of(struct payouts *out, const json_t *doc, struct err *err) {
    json_t *list, *v;
    size_t i;
    enum loam_status s;
    payouts_init(out);
    if ((s = jget_array(&list, doc, "payouts", err)))
        return s;
    json_array_foreach(list, i, v) {
        uint64_t account;
        struct u256 c;
        if ((s = jget_u64(&account, v, "account", err)) || (s = jget_u256(&c, v, "cumulative", err)) || (s = payouts_add(out, account, c, err)))
            return s;
    }
    return LOAM_OK;
}

static enum loam_status keep_table(struct flow *f, uint64_t poster, uint64_t batch, const struct payouts *p, struct err *err) {
    struct hash32 root = payouts_root(p);
    json_t *o = json_pack("{s:I s:o* s:o*}", "batch", (json_int_t)batch, "root", json_hash(&root), "lines", payout_lines(p, false));
    enum loam_status s = o ? record_put_u64(f->node, TABLE_PAYOUT, poster, o, err) : err_set(err, LOAM_ENOMEM, "no memory");
    json_decref(o);
    return s;
}

struct last {
    uint64_t poster, batch;
};

static enum loam_status last_settled(void *arg, struct abi_doc *ev, const struct log *l, struct err *err) {
    struct last *x = arg;
    uint64_t batch, poster;
    enum loam_status s;
    (void)l;
    if ((s = abi_get_u64(&batch, abi_field(ev, "batch"), err)) || (s = abi_get_u64(&poster, abi_field(ev, "poster"), err)))
        return s;
    if (poster == x->poster)
        x->batch = batch;
    return LOAM_OK;
}

enum loam_status poster_table(struct flow *f, struct payouts *out, uint64_t poster, const char *peer, uint64_t *batch, struct err *err) {
    struct last x = {poster, 0};
    struct pot pot;
    struct entry e;
    struct st_batch b;
    struct hash32 root;
    json_t *bjson = NULL, *doc = NULL, *rec = NULL;
    enum loam_status s;
    payouts_init(out);
    TRY(pot_read(f->node, &pot, poster, err));
    if (hash_is_zero(&pot.payout_root)) {
        s = err_set(err, LOAM_ENOTFOUND, "nothing was settled for batches of account %llu yet", (unsigned long long)poster);
        goto out;
    }
    if (!settled_table(f, out, poster, NULL)) {
        if (batch && !record_get_u64(f->node, TABLE_PAYOUT, poster, &rec, NULL))
            *batch = (uint64_t)json_integer_value(json_object_get(rec, "batch"));
        goto out;
    }
    TRY(fevents(f, "Ledger", "BatchSettled(uint64 indexed batch, uint64 indexed poster, uint256 fee)", NULL, fdeploy_block(f->node), UINT64_MAX,
                last_settled, &x, err));
    TRY(entry_read(f->node, &e, x.batch, err));
    TRY(posted_read(f, &b, &bjson, NULL, &e, err));
    TRY(fetch_located(f, fetch_peer(peer, b.data_locator), b.data_locator, &b.data_hash, err));
    TRY(json_blob_get(f->node, &doc, &b.data_hash, err));
    TRY(lines_of(out, doc, err));
    root = payouts_root(out);
    if (!hash_eq(&root, &pot.payout_root)) {
        s = err_set(err, LOAM_EVERIFY, "the payouts of batch %llu do not have the settled root", (unsigned long long)x.batch);
        goto out;
    }
    TRY(keep_table(f, poster, x.batch, out, err));
    if (batch)
        *batch = x.batch;
out:
    json_decref(rec);
    json_decref(bjson);
    json_decref(doc);
    if (s)
        payouts_clear(out);
    return s;
}

/* ---- how it ended ---- */

struct ended {
    uint64_t batch;
    char reason[128];
};

static enum loam_status void_reason(void *arg, struct abi_doc *ev, const struct log *l, struct err *err) {
    struct ended *x = arg;
    const uint8_t *t;
    size_t n;
    uint64_t batch;
    enum loam_status s;
    (void)l;
    if ((s = abi_get_u64(&batch, abi_field(ev, "batch"), err)))
        return s;
    if (batch == x->batch && !abi_get_bytes(&t, &n, abi_field(ev, "why"), NULL))
        snprintf(x->reason, sizeof x->reason, "%.*s", (int)(n < 100 ? n : 100), (const char *)t);
    return LOAM_OK;
}

struct said {
    uint64_t batch;
    json_t *list;
};

static enum loam_status verdict_said(void *arg, struct abi_doc *ev, const struct log *l, struct err *err) {
    struct said *x = arg;
    uint64_t batch, validator, verdict;
    const uint8_t *t;
    size_t n;
    enum loam_status s;
    (void)l;
    if ((s = abi_get_u64(&batch, abi_field(ev, "batch"), err)))
        return s;
    if (batch != x->batch)
        return LOAM_OK;
    if ((s = abi_get_u64(&validator, abi_field(ev, "validator"), err)) || (s = abi_get_u64(&verdict, abi_field(ev, "verdict"), err)) ||
        (s = abi_get_bytes(&t, &n, abi_field(ev, "reason"), err)))
        return s;
    json_t *reason = json_stringn((const char *)t, n);
    json_t *o = json_pack("{s:I s:s s:o}", "validator", (json_int_t)validator, "verdict", verdict == VERDICT_VALID ? "valid" : "invalid", "reason",
                          reason ? reason : json_string("(not UTF-8)"));
    return !o || json_array_append_new(x->list, o) ? err_set(err, LOAM_ENOMEM, "no memory") : LOAM_OK;
}

static enum loam_status tell(struct flow *f, json_t **out, const struct entry *e, const struct st_batch *b, const char *peer, struct err *err) {
    struct ended x = {.batch = e->id};
    struct said said = {e->id, json_array()};
    struct payouts p;
    enum loam_status s = LOAM_OK;
    payouts_init(&p);
    if (e->state == BATCH_VOIDED)
        TRY(fevents(f, "Ledger", "BatchVoided(uint64 indexed batch, uint64 indexed poster, string why, bool mayPostAgain)", NULL, e->posted_block,
                    UINT64_MAX, void_reason, &x, err));
    if (e->state == BATCH_SLASHED)
        TRY(fevents(f, "Ledger", "BatchSlashed(uint64 indexed batch, uint64 indexed poster, address indexed by, string why, uint256 bond)", NULL,
                    e->posted_block, UINT64_MAX, void_reason, &x, err));
    TRY(fevents(f, "Ledger", "VerdictRevealed(uint64 indexed batch, uint64 indexed validator, uint8 verdict, bytes32 traceRoot, string reason)", NULL,
                e->posted_block, UINT64_MAX, verdict_said, &said, err));
    if (e->state == BATCH_SETTLED) {
        uint64_t batch;
        s = poster_table(f, &p, e->poster, peer, &batch, err);
        if (s == LOAM_ENOTFOUND) { /* the bytes are elsewhere: the batch is settled all the same */
            s = LOAM_OK;
            payouts_init(&p);
        }
        if (s)
            goto out;
    }
    *out = json_pack("{s:I s:I s:s s:s s:o s:O s:o*}", "batch", (json_int_t)e->id, "poster", (json_int_t)e->poster, "state", batch_state_name(e->state),
                     "reason", x.reason, "fee_wei", json_u256(b->fee_total), "verdicts", said.list, "payouts", payout_lines(&p, false));
    if (!*out)
        s = err_set(err, LOAM_ENOMEM, "no memory");
out:
    json_decref(said.list);
    payouts_clear(&p);
    return s;
}

/* ---- the flow ---- */

static enum loam_status push(struct flow *f, struct entry *e, const struct fcall *c, const struct abi_value *items, size_t n, struct err *err) {
    struct outbox_result res = {0};
    enum batch_state was = e->state;
    bool open = e->trace_open;
    enum loam_status s = fsend(f, &res, c, items, n, err), r;
    outbox_result_clear(&res);
    if (s && s != LOAM_EREVERT)
        return s;
    /* A revert because somebody else did the same first is none; the block that shows it may still be on its way here. */
    for (int i = 0;; i++) {
        if ((r = entry_read(f->node, e, e->id, s ? NULL : err)))
            return s ? s : r;
        if (!s || e->state != was || e->trace_open != open)
            return LOAM_OK;
        if (i == 8 || flow_sleep(f, 500, NULL))
            return s;
    }
}

enum loam_status flow_settle(struct flow *f, json_t **out, uint64_t batch, const char *key, const char *peer, struct err *err) {
    struct entry e;
    struct st_batch b;
    json_t *bjson = NULL, *mine = NULL;
    struct abi_value bi[ST_FIELDS_MAX];
    struct demand asked = {0};
    uint64_t now, window = 0;
    enum loam_status s;
    *out = NULL;
    TRY(entry_read(f->node, &e, batch, err));
    TRY(posted_read(f, &b, &bjson, NULL, &e, err));
    if (e.state == BATCH_POSTED || e.state == BATCH_DRAWN) {
        struct u256 v;
        TRY(ledger_parameter(f, &v, "challengeWindow", err));
        window = u256_fits_u64(v) ? v.w[0] : UINT64_MAX;
        TRY(flow_unlock(f, key, err));
        s = record_get_u64(f->node, TABLE_BATCH, batch, &mine, err);
        if (s && s != LOAM_ENOTFOUND)
            goto out;
    }
    while (e.state == BATCH_POSTED || e.state == BATCH_DRAWN) {
        TRY(flow_check(f, err));
        TRY(fhead(f->node, NULL, &now, err));
        TRY(demand_read(f->node, &asked, batch, err));
        if (asked.until && (mine || blob_has(f->node->blobs, &b.data_hash)) && now <= asked.until) {
            json_t *shown = NULL;
            s = flow_demand_answer(f, &shown, batch, key, NULL, err);
            json_decref(shown);
            if (s && s != LOAM_EREVERT && s != LOAM_ESTATE) /* somebody else showed it first */
                goto out;
            if (!s)
                flow_note(f, "leaf %llu of the %s was demanded and is shown", (unsigned long long)asked.index, batch_tree_name((enum batch_tree)asked.tree));
            TRY(entry_read(f->node, &e, batch, err));
        }
        if (e.state == BATCH_POSTED) {
            char step[32];
            TRY(fwait_block(f, e.draw_block, err));
            TRY(entry_read(f->node, &e, batch, err));
            if (e.state != BATCH_POSTED)
                continue;
            snprintf(step, sizeof step, "draw-%llu", (unsigned long long)e.draw_block);
            struct fcall c = {.step = step, .from = key, .contract = "Ledger", .sig = "draw(uint64)", .what = "draw of a committee"};
            TRY(push(f, &e, &c, ABI(abi_u64(batch)), err));
            if (e.state == BATCH_DRAWN)
                flow_note(f, "%llu validators drawn", (unsigned long long)e.drawn);
            continue;
        }
        if (!entry_commits_closed(&e, now)) {
            flow_progress(f, e.committed, e.drawn, "waiting for verdicts (%llu of %llu committed)", (unsigned long long)e.committed,
                          (unsigned long long)e.drawn);
        } else if (e.committed && !e.trace_open && mine && now <= e.reveal_end) {
            struct hash32 root, salt;
            struct fcall c = {.step = "open", .from = key, .contract = "Ledger", .sig = "openTrace(uint64,bytes32,bytes32)", .what = "opening of the trace"};
            TRY(jget_hash(&root, mine, "trace_root", err));
            TRY(jget_hash(&salt, mine, "trace_salt", err));
            TRY(push(f, &e, &c, ABI(abi_u64(batch), abi_b32(&root), abi_b32(&salt)), err));
            continue;
        } else if (asked.until && now > asked.until) {
            s = err_set(err, LOAM_ESTATE, "batch %llu: a demanded leaf was not shown in time, so it can only be slashed: demand silence %llu", (unsigned long long)batch,
                        (unsigned long long)batch);
            goto out;
        } else if (!asked.until && ((e.revealed == e.committed && (e.trace_open || !e.committed)) || now > e.reveal_end) && now >= e.posted_at + window) {
            struct fcall c = {.step = "finalize", .from = key, .contract = "Ledger", .sig = "finalize(uint64,%T)", .ids = {ST_Batch}, .id_count = 1,
                              .what = "finalizing of a batch"};
            TRY(push(f, &e, &c, ABI(abi_u64(batch), st_abi(bi, ST_Batch, &b)), err));
            continue;
        } else {
            flow_progress(f, e.revealed, e.committed, "waiting for the windows to close (%llu of %llu revealed)", (unsigned long long)e.revealed,
                          (unsigned long long)e.committed);
        }
        TRY(flow_sleep(f, 500, err));
        TRY(entry_read(f->node, &e, batch, err));
    }
    if (e.state == BATCH_SETTLED) {
        /* Kept before it is told, so that the poster's next batch can be chained to it. */
        struct payouts p;
        json_t *doc = NULL;
        struct hash32 root;
        struct pot pot;
        TRY(pot_read(f->node, &pot, e.poster, err));
        if (hash_eq(&pot.payout_root, &b.payout_root) && !fetch_located(f, fetch_peer(peer, b.data_locator), b.data_locator, &b.data_hash, NULL)) {
            TRY(json_blob_get(f->node, &doc, &b.data_hash, err));
            s = lines_of(&p, doc, err);
            json_decref(doc);
            if (!s) {
                root = payouts_root(&p);
                s = hash_eq(&root, &b.payout_root) ? keep_table(f, e.poster, batch, &p, err)
                                                   : err_set(err, LOAM_EVERIFY, "the payouts kept here are not the posted ones");
            }
            payouts_clear(&p);
            if (s)
                goto out;
        }
    }
    flow_note(f, "batch %llu is %s", (unsigned long long)batch, batch_state_name(e.state));
    s = tell(f, out, &e, &b, peer, err);
out:
    json_decref(mine);
    json_decref(bjson);
    return s;
}
