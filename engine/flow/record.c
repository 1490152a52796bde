#include "flow/record.h"

#include "base/entropy.h"
#include "base/mem.h"
#include "flow/ask.h"
#include "flow/eigenda.h"
#include "flow/flow.h"
#include "flow/ledger.h"
#include "flow/pay.h"
#include "flow/train.h"
#include "lm/generate.h"
#include "node/api.h"
#include "node/chain.h"
#include "node/keys.h"
#include "record/tree.h"
#include "store/blob.h"

#include "base/banned.h"

#define STATEMENT_LIFE 86400
#define RECORD_LIFE 604800 /* seconds within which a call must be recorded */

unsigned stop_number(const char *name) {
    for (unsigned i = LM_STOP_END; i <= LM_STOP_CANCEL; i++)
        if (!strcmp(lm_stop_name((enum lm_stop)i), name))
            return i;
    return 0;
}

enum loam_status sampler_hash(struct hash32 *out, const json_t *sampler, struct err *err) {
    struct flow_ask q;
    enum loam_status s;
    memset(&q, 0, sizeof q);
    struct buf b = BUF_INIT(1u << 20);
    uint8_t w[4];
    TRY(flow_sampler_read(&q, sampler, err));
    lm_sampler_hash(out->b, &q.sampler);
    TRY(buf_add(&b, out->b, 32, err));
    put_be32(w, q.max_tokens);
    TRY(buf_add(&b, w, 4, err));
    for (int i = 0; i < LM_STOP_MAX && q.stop[i]; i++) {
        put_be32(w, (uint32_t)strlen(q.stop[i]));
        TRY(buf_add(&b, w, 4, err));
        TRY(buf_str(&b, q.stop[i], err));
    }
    *out = hash_of(b.data, b.len);
out:
    buf_clear(&b);
    return s;
}

json_t *payout_lines(const struct payouts *p, bool prefix) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < p->count; i++) {
        json_t *o = json_pack("{s:I s:o*}", "account", (json_int_t)p->line[i].account, "cumulative", json_u256(p->line[i].cumulative));
        if (!o || (prefix && jset(o, "prefix", json_u256(p->line[i].prefix), NULL)) || json_array_append_new(list, o)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

enum loam_status settled_table(struct flow *f, struct payouts *out, uint64_t poster, struct err *err) {
    struct pot pot;
    struct hash32 root;
    json_t *rec = NULL, *lines, *v;
    size_t i;
    enum loam_status s;
    payouts_init(out);
    TRY(pot_read(f->node, &pot, poster, err));
    if (hash_is_zero(&pot.payout_root))
        goto out; /* nothing settled yet: an empty table */
    s = record_get_u64(f->node, TABLE_PAYOUT, poster, &rec, err);
    if (s == LOAM_ENOTFOUND)
        s = err_set(err, LOAM_ESTATE, "the settled payouts of account %llu are not in this node; run: settle, or claim with --peer",
                    (unsigned long long)poster);
    if (s)
        goto out;
    TRY(jget_array(&lines, rec, "lines", err));
    json_array_foreach(lines, i, v) {
        uint64_t account;
        struct u256 c;
        TRY(jget_u64(&account, v, "account", err));
        TRY(jget_u256(&c, v, "cumulative", err));
        TRY(payouts_add(out, account, c, err));
    }
    root = payouts_root(out);
    if (!hash_eq(&root, &pot.payout_root))
        s = err_set(err, LOAM_ESTATE, "the payouts kept here are not the settled ones of account %llu; run settle for its last batch",
                    (unsigned long long)poster);
out:
    json_decref(rec);
    if (s)
        payouts_clear(out);
    return s;
}

/* ---- one call ---- */

static void answer_key(uint8_t key[15], uint64_t id) {
    memcpy(key, "answer/", 7);
    put_be64(key + 7, id);
}

static enum loam_status load_ids(struct call *c, const json_t *answer, struct err *err) {
    json_t *ids, *v;
    size_t i;
    enum loam_status s;
    if ((s = jget_array(&ids, answer, "output_ids", err)))
        return s;
    c->id_count = json_array_size(ids);
    if (!(c->ids = mem_array(c->id_count ? c->id_count : 1, sizeof *c->ids)))
        return err_set(err, LOAM_ENOMEM, "no memory for %zu tokens", c->id_count);
    json_array_foreach(ids, i, v)
        c->ids[i] = (uint32_t)json_integer_value(v);
    return LOAM_OK;
}

static enum loam_status load_scores(struct call *c, const json_t *att, struct err *err) {
    json_t *list, *v;
    size_t i;
    enum loam_status s;
    if ((s = jget_array(&list, att, "scores", err)))
        return s;
    c->rows = json_array_size(list);
    if (!(c->score = mem_array(c->rows ? c->rows : 1, sizeof *c->score)))
        return err_set(err, LOAM_ENOMEM, "no memory for %zu scores", c->rows);
    json_array_foreach(list, i, v) {
        struct u256 x;
        const char *t = json_string_value(v);
        if (!t)
            return err_set(err, LOAM_EPARSE, "score %zu is no decimal text", i);
        if ((s = i256_parse(&x, t, err)) || (s = i256_to_i64(&c->score[i], x, err)))
            return s;
    }
    return LOAM_OK;
}

/* The manifest of the answer's model, read once a batch. */
static enum loam_status find_manifest(struct flow *f, struct batch_doc *d, const struct manifest **out, const json_t *answer, struct err *err) {
    const char *name;
    json_t *rec = NULL;
    struct buf b = BUF_INIT(1u << 30);
    struct hash32 root, want;
    uint64_t model;
    enum loam_status s;
    TRY(jget_str(&name, answer, "model", err));
    TRY(flow_trained_get(f->node, &rec, name, err));
    TRY(jget_u64(&model, rec, "model", err));
    if (!model) {
        s = err_set(err, LOAM_ESTATE, "model %s was trained privately; only a model that is on the chain can be recorded", name);
        goto out;
    }
    for (size_t i = 0; i < d->models; i++)
        if (d->manifest[i].model == model) {
            *out = &d->manifest[i];
            goto out;
        }
    if (d->models == BATCH_MODELS_MAX) {
        s = err_set(err, LOAM_ELIMIT, "more than %d models in one batch", BATCH_MODELS_MAX);
        goto out;
    }
    struct manifest *m = &d->manifest[d->models];
    m->model = model;
    TRY(jget_u64(&m->trainer, rec, "trainer", err));
    TRY(jget_hash(&m->bundle, rec, "bundle_blob", err));
    TRY(jget_hash(&m->blob, rec, "rows_blob", err));
    TRY(jget_hash(&want, rec, "data_root", err));
    TRY(blob_get(f->node->blobs, &m->blob, &b, err));
    d->models++;
    TRY(manifest_read(m, b.data, b.len, &root, err));
    if (!hash_eq(&root, &want)) {
        s = err_set(err, LOAM_EHASH, "the rows of model %s do not have its data root", name);
        goto out;
    }
    *out = m;
out:
    buf_clear(&b);
    json_decref(rec);
    return s;
}

/* The payer's own Request, as it was signed; checked again, since the contracts may be others by now. */
static enum loam_status paid_call(struct flow *f, struct call *c, const json_t *answer, uint64_t server, struct err *err) {
    struct st_request *r = &c->request;
    struct account_info payer;
    enum loam_status s;
    if ((s = st_from_json(r, ST_Request, json_object_get(answer, "request"), err)) || (s = jget_sig(&c->request_sig, answer, "request_signature", err)) ||
        (s = jget_hash(&c->seed_commitment, answer, "seed_commitment", err)) || (s = jget_hash(&c->nonce_salt, answer, "nonce_salt", err)) ||
        (s = account_read(f->node, &payer, r->payer, err)))
        return s;
    c->paid = true;
    if (r->server != server)
        return err_set(err, LOAM_ESTATE, "it was asked of account %llu, not of %llu", (unsigned long long)r->server, (unsigned long long)server);
    if (r->model != c->manifest->model)
        return err_set(err, LOAM_ESTATE, "it was asked of model %llu", (unsigned long long)r->model);
    return st_check(f->node, &payer.signing, "Ledger", ST_Request, r, &c->request_sig, err);
}

/* The vouchers that cover the calls, one a payer: of all that a payer signed for this server the one that makes exactly what was used and
 * these calls. The server's own is signed here. */
static enum loam_status make_vouchers(struct flow *f, const struct batch_doc *d, const struct flow_record *q, uint64_t server, json_t **out, struct err *err) {
    json_t *list = json_array();
    enum loam_status s = list ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
    for (size_t i = 0; i < d->calls && !s; i++) {
        uint64_t payer = d->call[i].request.payer;
        struct u256 sum;
        json_t *o = NULL;
        char x[U256_DEC_MAX + 2];
        size_t k;
        for (k = 0; k < i && d->call[k].request.payer != payer; k++)
            ;
        if (k < i)
            continue; /* seen */
        if (json_array_size(list) == BATCH_VOUCHERS_MAX) {
            s = err_set(err, LOAM_ELIMIT, "more than %d payers in one batch", BATCH_VOUCHERS_MAX);
            break;
        }
        if ((s = fslot_u256(f->node, &sum, "Ledger", slot_u64(slot_u64(slot_of(SLOT_LEDGER_VOUCHED), payer), server), err)))
            break;
        for (k = i; k < d->calls && !s; k++)
            if (d->call[k].request.payer == payer && u256_add(&sum, sum, d->call[k].inference.fee))
                s = err_set(err, LOAM_ERANGE, "the voucher's amount does not fit");
        if (s)
            break;
        s = voucher_find(f->node, &o, payer, server, sum, NULL);
        if (s == LOAM_ENOTFOUND && payer == server) {
            struct st_voucher v;
            struct sig65 sig;
            memset(&v, 0, sizeof v);
            v.payer = v.server = server;
            v.cumulative = sum;
            if ((s = st_expiry(f->node, STATEMENT_LIFE, &v.expiry, err)) || (s = st_sign(f->node, &sig, NULL, q->key, "Ledger", ST_Voucher, &v, err)))
                break;
            o = json_pack("{s:o* s:o*}", "voucher", st_to_json(ST_Voucher, &v), "signature", json_sig(&sig));
        } else if (s == LOAM_ENOTFOUND) {
            u256_format_coin(x, sum);
            s = err_set(err, LOAM_ESTATE, "account %llu signed no voucher that makes exactly %s OPEN in all; record its paid answers in the order in which they were asked",
                        (unsigned long long)payer, x);
        } else if (s)
            s = err_set(err, s, "the vouchers of account %llu cannot be read", (unsigned long long)payer);
        if (!s && (!o || json_array_append_new(list, o)))
            s = err_set(err, LOAM_ENOMEM, "no memory");
    }
    if (s)
        json_decref(list);
    else
        *out = list;
    return s;
}

static enum loam_status make_call(struct flow *f, struct batch_doc *d, struct call *c, struct poa_trace *trace, size_t i, const struct flow_record *q,
                                  uint64_t server, uint64_t sequence, json_t *keep, struct err *err) {
    json_t *answer = NULL, *att = NULL, *v, *queries;
    uint8_t key[15];
    const char *text, *method;
    struct hash32 query[POA_CHECKPOINTS_MAX];
    uint64_t n, expiry;
    size_t k;
    enum loam_status s;
    answer_key(key, q->answers[i]);
    TRY(record_get(f->node, TABLE_CALL, key, sizeof key, &answer, err));
    if (json_array_append(keep, answer)) { /* messages and sampler are borrowed from it */
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    s = record_get_u64(f->node, TABLE_ATTRIBUTION, q->answers[i], &att, err);
    if (s == LOAM_ENOTFOUND)
        s = err_set(err, LOAM_ESTATE, "answer %llu has no attribution yet: attribute %llu", (unsigned long long)q->answers[i],
                    (unsigned long long)q->answers[i]);
    if (s)
        goto out;
    TRY(find_manifest(f, d, &c->manifest, answer, err));
    TRY(jget_array(&v, answer, "messages", err));
    c->messages = v;
    TRY(jget_object(&v, answer, "sampler", err));
    c->sampler = v;
    TRY(jget_hash(&c->prompt_salt, answer, "prompt_salt", err));
    TRY(jget_hash(&c->output_salt, answer, "output_salt", err));
    TRY(load_ids(c, answer, err));
    TRY(load_scores(c, att, err));

    struct st_request *r = &c->request;
    struct u256 fee = q->fee;
    uint64_t now;
    TRY(fhead(f->node, NULL, &now, err));
    if (json_object_get(answer, "request")) { /* the payer signed before it was answered */
        TRY(paid_call(f, c, answer, server, err));
        TRY(jget_u256(&fee, answer, "fee_wei", err));
        goto signed_request;
    }
    /* Nobody's request: the server pays for it itself, and says so by asking itself. */
    r->payer = server;
    r->server = server;
    r->model = c->manifest->model;
    TRY(call_prompt_commitment(&r->prompt_commitment, c->messages, &c->prompt_salt, err));
    r->privacy = PRIVACY_PUBLIC;
    TRY(sampler_hash(&r->sampler_hash, c->sampler, err));
    r->max_fee = fee;
    if (q->fault == FAULT_FEE && !i)
        (void)u256_sub(&r->max_fee, r->max_fee, u256_from(1));
    TRY(st_nonce(&r->nonce, err));
    TRY(st_expiry(f->node, STATEMENT_LIFE, &expiry, err));
    r->expiry = expiry;
    TRY(st_sign(f->node, &c->request_sig, NULL, q->key, "Ledger", ST_Request, r, err));

signed_request:;
    struct st_inference *x = &c->inference;
    x->request_hash = st_hash(ST_Request, r);
    x->server = server;
    x->sequence = sequence + (q->fault == FAULT_SEQUENCE && !i ? 5 : 0);
    x->model = r->model;
    TRY(jget_str(&x->act, answer, "act", err));
    TRY(jget_str(&x->arithmetic, answer, "arithmetic", err));
    if (strcmp(x->arithmetic, LM_ARITHMETIC) != 0)
        return err_set(err, LOAM_EUNSUPPORTED, "the answer was computed in %.32s, which nobody can compute again; ask it again with compute.mode referee", x->arithmetic);
    x->prompt_commitment = r->prompt_commitment;
    TRY(call_output_commitment(&x->output_commitment, c->ids, c->id_count, &c->output_salt, err));
    TRY(jget_u64(&n, answer, "tokens_in", err));
    x->tokens_in = (uint32_t)n;
    x->tokens_out = (uint32_t)c->id_count;
    TRY(jget_hash(&x->seed, answer, "seed", err));
    TRY(jget_str(&text, answer, "stop", err));
    x->stop_reason = (uint8_t)stop_number(text);
    x->fee = fee;
    x->record_by = now + RECORD_LIFE;

    TRY(jget_str(&method, att, "method", err));
    c->attribution.method = method;
    if (json_array_append(keep, att)) { /* the method's name is borrowed from it */
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    TRY(jget_hash(&c->attribution.parameters_hash, att, "parameters_hash", err));
    TRY(call_derive(c, err));
    if (q->fault == FAULT_LINK && !i)
        c->attribution.inference_hash.b[0] ^= 1;

    TRY(jget_array(&queries, att, "gradients", err));
    if (json_array_size(queries) > POA_CHECKPOINTS_MAX) {
        s = err_set(err, LOAM_EPARSE, "an attribution with %zu checkpoints", json_array_size(queries));
        goto out;
    }
    json_array_foreach(queries, k, v)
        TRY(hash_parse(&query[k], json_is_string(v) ? json_string_value(v) : "", err));
    s = call_trace(trace, i, c->ids, c->id_count, query, json_array_size(queries), c->score, c->rows, err);
out:
    json_decref(answer);
    json_decref(att);
    return s ? err_prefix(err, s, "answer %llu", (unsigned long long)q->answers[i]) : LOAM_OK;
}

/* ---- the table, honest or not ---- */

static const char *const fault_names[FAULT_KINDS] = {"", "move-wei", "bad-sum", "bad-end", "decrease", "missing", "missing-end",
                                                     "sequence", "fee", "link", "count", "claim"};
const char *fault_name(enum record_fault f) { return (unsigned)f < FAULT_KINDS ? fault_names[f] : "?"; }

bool fault_find(enum record_fault *out, const char *name) {
    for (int i = 1; i < FAULT_KINDS; i++)
        if (!strcmp(name, fault_names[i])) {
            *out = (enum record_fault)i;
            return true;
        }
    return false;
}

static void rebuild(struct payouts *p) {
    struct u256 sum = U256_ZERO;
    for (size_t i = 0; i < p->count; i++) {
        p->line[i].index = i;
        p->line[i].prefix = sum;
        (void)u256_add(&sum, sum, p->line[i].cumulative);
    }
    p->total = sum;
}

/* Does the line's account earn by rows in this batch? */
static bool earns(const struct batch_doc *d, uint64_t account) {
    for (size_t c = 0; c < d->calls; c++)
        for (size_t k = 0; k < d->call[c].shares.count; k++)
            if (d->call[c].shares.account[k].account == account && !u256_is_zero(d->call[c].amount[k]))
                return true;
    return false;
}

/* A line of the last settled table that is neither the first nor the last of the new one, or the last. */
static enum loam_status leave_out(struct flow *f, struct batch_doc *d, bool last, struct err *err) {
    struct payouts *p = &d->payouts;
    for (size_t i = last ? p->count - 1 : 1; i > 0 && i + (last ? 0 : 1) < p->count; i++) {
        if (!payouts_find(&d->previous, p->line[i].account))
            continue;
        flow_note(f, "deliberate fault: account %llu is left out of the payouts", (unsigned long long)p->line[i].account);
        (void)u256_add(&p->line[i - 1].cumulative, p->line[i - 1].cumulative, p->line[i].cumulative);
        memmove(&p->line[i], &p->line[i + 1], (p->count - i - 1) * sizeof *p->line);
        p->count--;
        rebuild(p);
        return LOAM_OK;
    }
    return err_set(err, LOAM_ESTATE, "no account of the last settled payouts stands where this fault needs one");
}

/* Faults in the tables. Those of the statements are made where these are. */
static enum loam_status spoil(struct flow *f, struct batch_doc *d, enum record_fault fault, struct err *err) {
    struct payouts *p = &d->payouts;
    size_t who[2], n = 0;
    enum loam_status s;
    if (fault == FAULT_NONE)
        return LOAM_OK;
    if (fault == FAULT_MISSING || fault == FAULT_MISSING_END)
        return leave_out(f, d, fault == FAULT_MISSING_END, err);
    if (fault == FAULT_DECREASE) {
        for (size_t i = 0; i + 1 < p->count; i++) {
            const struct payout *old = payouts_find(&d->previous, p->line[i].account);
            struct u256 more;
            if (!old || u256_is_zero(old->cumulative))
                continue;
            (void)u256_sub(&more, p->line[i].cumulative, old->cumulative);
            (void)u256_add(&more, more, u256_from(1));
            (void)u256_sub(&p->line[i].cumulative, p->line[i].cumulative, more);
            (void)u256_add(&p->line[i + 1].cumulative, p->line[i + 1].cumulative, more);
            rebuild(p);
            flow_note(f, "deliberate fault: account %llu has one wei less than before", (unsigned long long)p->line[i].account);
            return LOAM_OK;
        }
        return err_set(err, LOAM_ESTATE, "nothing was settled for this poster yet, so that nothing can fall");
    }
    if (fault == FAULT_CLAIM) {
        if ((s = payouts_copy(&d->claims, p, err)))
            return s;
        (void)u256_add(&d->claims.line[p->count - 1].cumulative, d->claims.line[p->count - 1].cumulative, u256_from(1));
        flow_note(f, "deliberate fault: account %llu can claim one wei more than it is given", (unsigned long long)p->line[p->count - 1].account);
        return LOAM_OK;
    }
    if (fault != FAULT_MOVE_WEI && fault != FAULT_BAD_SUM && fault != FAULT_BAD_END)
        return LOAM_OK;
    /* Two contributors who earn; where fewer do, the platform's or the stakers' line stands in. */
    for (int pass = 0; pass < 2 && n < 2; pass++)
        for (size_t i = 0; i < p->count && n < 2; i++)
            if (earns(d, p->line[i].account) == (pass == 0) && !u256_is_zero(p->line[i].cumulative))
                who[n++] = i;
    if (n < 2)
        return err_set(err, LOAM_ESTATE, "too few accounts earn in this batch for such a fault");
    if (fault == FAULT_BAD_END) {
        struct u256 much = u256_from(1000000000000000000ull);
        (void)u256_mul(&much, much, u256_from(1000));
        (void)u256_add(&p->line[who[0]].cumulative, p->line[who[0]].cumulative, much);
        rebuild(p);
        flow_note(f, "deliberate fault: account %llu is given 1000 OPEN that nobody paid", (unsigned long long)p->line[who[0]].account);
    } else if (fault == FAULT_MOVE_WEI) {
        (void)u256_sub(&p->line[who[0]].cumulative, p->line[who[0]].cumulative, u256_from(1));
        (void)u256_add(&p->line[who[1]].cumulative, p->line[who[1]].cumulative, u256_from(1));
        rebuild(p);
        flow_note(f, "deliberate fault: one wei moved from account %llu to account %llu", (unsigned long long)p->line[who[0]].account,
                  (unsigned long long)p->line[who[1]].account);
    } else {
        (void)u256_add(&p->line[who[0]].cumulative, p->line[who[0]].cumulative, u256_from(1000));
        flow_note(f, "deliberate fault: account %llu is given 1000 wei that nobody paid", (unsigned long long)p->line[who[0]].account);
    }
    return LOAM_OK;
}

/* ---- the flow ---- */

static json_t *models_json(const struct batch_doc *d) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < d->models; i++)
        if (json_array_append_new(list, json_pack("{s:I s:I s:o* s:o*}", "model", (json_int_t)d->manifest[i].model, "trainer",
                                                  (json_int_t)d->manifest[i].trainer, "bundle", json_hash(&d->manifest[i].bundle), "rows",
                                                  json_hash(&d->manifest[i].blob)))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static enum loam_status document(struct batch_doc *d, const json_t *vouchers, json_t **out, struct err *err) {
    json_t *calls = json_array();
    for (size_t i = 0; calls && i < d->calls; i++)
        if (json_array_append_new(calls, call_json(&d->call[i]))) {
            json_decref(calls);
            calls = NULL;
        }
    *out = calls ? json_pack("{s:s s:o* s:o s:O s:o* s:o*}", "format", FLOW_BATCH_FORMAT, "models", models_json(d), "calls", calls, "vouchers",
                             vouchers, "previous", payout_lines(&d->previous, false), "payouts", payout_lines(&d->payouts, true))
                 : NULL;
    if (*out && d->claims.count && json_object_set_new(*out, "claims", payout_lines(&d->claims, true))) {
        json_decref(*out);
        *out = NULL;
    }
    return *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for a batch of %zu calls", d->calls);
}

/* Builds and signs everything; what has to be the same after a restart goes into the step. */
#define WORK_MAX 160
static enum loam_status prepare(struct flow *f, json_t **step, char work[WORK_MAX], const struct flow_record *q, uint64_t server, struct err *err) {
    struct batch_doc d = {0};
    struct poa_trace trace;
    struct st_batch b;
    struct sig65 sig;
    struct hash32 trace_root, salt, data;
    uint64_t number, attempts, sequence, len, expiry, open;
    char url[128], locator[LOCATOR_MAX];
    struct buf ids = BUF_INIT(8u * BATCH_CALLS_MAX);
    json_t *doc = NULL, *keep = json_array(), *vouchers = NULL, *answers = NULL;
    enum loam_status s = LOAM_OK;
    memset(&b, 0, sizeof b);
    poa_trace_init(&trace);
    payouts_init(&d.previous);
    payouts_init(&d.payouts);
    payouts_init(&d.claims);
    /* What the contract keeps of this poster, at one head: half of one block and half of the next would be a batch that it refuses. */
    const struct slotref at[] = {slot_u64(slot_of(SLOT_LEDGER_NEXT_NUMBER), server), slot_u64(slot_of(SLOT_LEDGER_ATTEMPTS), server),
                                 slot_u64(slot_of(SLOT_LEDGER_OPEN_BATCH), server), slot_u64(slot_of(SLOT_LEDGER_NEXT_SEQUENCE), server)};
    struct hash32 word[4];
    TRY(fslots(f->node, word, "Ledger", at, 4, err));
    number = word_u64(&word[0], 0, 8);
    attempts = word_u64(&word[1], 0, 1);
    open = word_u64(&word[2], 0, 8);
    sequence = word_u64(&word[3], 0, 8);
    for (size_t i = 0; i < q->count; i++) {
        uint8_t b8[8];
        put_be64(b8, q->answers[i]);
        TRY(buf_add(&ids, b8, 8, err));
    }
    struct hash32 h = hash_of(ids.data, ids.len);
    char hex[HASH_HEX_MAX];
    snprintf(work, WORK_MAX, "record/%llu/%llu/%llu/%s", (unsigned long long)server, (unsigned long long)number, (unsigned long long)attempts,
             hash_hex(hex, &h));
    TRY(flow_own(f, work, err));
    s = flow_step_get(f, "batch", step, err);
    if (s != LOAM_ENOTFOUND)
        goto out;
    s = LOAM_OK;
    if (!keep || !(d.call = mem_zarray(q->count, sizeof *d.call))) {
        s = err_set(err, LOAM_ENOMEM, "no memory for %zu calls", q->count);
        goto out;
    }
    if (open) {
        s = err_set(err, LOAM_ESTATE, "batch %llu of this poster is still open; a poster has one at a time: settle %llu", (unsigned long long)open,
                    (unsigned long long)open);
        goto out;
    }
    TRY(settled_table(f, &d.previous, server, err));
    TRY(flow_unlock(f, q->key, err));
    for (size_t i = 0; i < q->count; i++) {
        flow_progress(f, i, q->count, "statements of call %zu", i);
        TRY(flow_check(f, err));
        d.calls++;
        TRY(make_call(f, &d, &d.call[i], &trace, i, q, server, sequence + i, keep, err));
    }
    TRY(batch_doc_payouts(&d.payouts, &d, err));
    if (q->fault != FAULT_NONE && !node_chain_is_dev(f->node)) {
        s = err_set(err, LOAM_EPERM, "deliberate faults are for the development chain only");
        goto out;
    }
    TRY(spoil(f, &d, q->fault, err));
    TRY(batch_doc_fill(&b, &d, err));
    if (q->fault == FAULT_COUNT)
        b.call_count++;

    TRY(st_expiry(f->node, STATEMENT_LIFE, &expiry, err));
    TRY(make_vouchers(f, &d, q, server, &vouchers, err));
    TRY(document(&d, vouchers, &doc, err));
    TRY(json_blob_put(f->node, &data, &len, doc, err));

    trace_root = poa_trace_root(&trace);
    TRY(entropy_fill(salt.b, sizeof salt.b, err));
    b.poster = server;
    b.number = number;
    b.first_sequence = sequence;
    b.trace_commitment = commit_trace(&trace_root, &salt);
    b.data_hash = data;
    b.data_length = len;
    /* Where validators find the bytes; loopback addresses help only those on this machine. */
    TRY(eigenda_publish(f, locator, &data, err));
    if (api_url(f->node, url, sizeof url))
        snprintf(locator + strlen(locator), sizeof locator - strlen(locator), "%s", url);
    else if (*locator)
        locator[strlen(locator) - 1] = 0;
    b.data_locator = locator;
    TRY(st_nonce(&b.nonce, err));
    b.expiry = expiry;
    TRY(st_sign(f->node, &sig, NULL, q->key, "Ledger", ST_Batch, &b, err));
    if (!(answers = json_array())) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    for (size_t i = 0; i < q->count; i++)
        if (json_array_append_new(answers, json_integer((json_int_t)q->answers[i]))) {
            s = err_set(err, LOAM_ENOMEM, "no memory");
            goto out;
        }
    struct hash32 bh = st_hash(ST_Batch, &b);
    *step = json_pack("{s:I s:s s:o* s:o* s:o* s:o* s:o* s:o* s:O s:O s:o* s:s*}", "poster", (json_int_t)server, "key", q->key, "statement",
                      st_to_json(ST_Batch, &b), "statement_hash", json_hash(&bh), "signature", json_sig(&sig), "data_hash", json_hash(&data),
                      "trace_root", json_hash(&trace_root), "trace_salt", json_hash(&salt), "answers", answers, "vouchers", vouchers, "payouts",
                      payout_lines(&d.payouts, false), "fault",
                      q->fault ? fault_name(q->fault) : NULL);
    if (!*step) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    s = flow_step_make(f, "batch", step, err);
out:
    buf_clear(&ids);
    poa_trace_clear(&trace);
    json_decref(doc);
    json_decref(vouchers);
    json_decref(answers);
    d.json = NULL;
    batch_doc_clear(&d);
    json_decref(keep);
    return s;
}

static enum loam_status told(json_t **out, const json_t *rec, bool fresh, struct err *err) {
    json_t *o = json_copy((json_t *)rec);
    static const char *const drop[] = {"statement", "signature", "trace_root", "trace_salt", "vouchers", "key"};
    const json_t *st = json_object_get(rec, "statement");
    if (!o)
        return err_set(err, LOAM_ENOMEM, "no memory");
    for (size_t i = 0; i < sizeof drop / sizeof *drop; i++)
        json_object_del(o, drop[i]);
    json_object_set(o, "fee_wei", json_object_get(st, "feeTotal"));
    json_object_set(o, "calls", json_object_get(st, "callCount"));
    json_object_set_new(o, "new", json_boolean(fresh));
    *out = o;
    return LOAM_OK;
}

/* The batch that these answers are in already, unless it was voided or slashed. LOAM_ENOTFOUND if there is none. */
static enum loam_status there_already(struct flow *f, json_t **out, const struct flow_record *q, struct err *err) {
    uint64_t batch = 0;
    enum loam_status s = LOAM_OK;
    json_t *rec = NULL;
    struct entry e;
    for (size_t i = 0; i < q->count; i++) {
        json_t *answer;
        uint8_t key[15];
        uint64_t in = 0;
        answer_key(key, q->answers[i]);
        s = record_get(f->node, TABLE_CALL, key, sizeof key, &answer, err);
        if (s == LOAM_ENOTFOUND)
            return err_set(err, LOAM_EINVAL, "there is no answer %llu", (unsigned long long)q->answers[i]);
        if (s)
            return s;
        if (json_is_integer(json_object_get(answer, "batch")))
            in = (uint64_t)json_integer_value(json_object_get(answer, "batch"));
        json_decref(answer);
        if (in) {
            if ((s = entry_read(f->node, &e, in, err)))
                return s;
            if (e.state == BATCH_VOIDED || e.state == BATCH_SLASHED)
                in = 0;
        }
        if (i && in != batch)
            return err_set(err, LOAM_EINVAL, "some of these answers are in batch %llu already, others are not", (unsigned long long)(in ? in : batch));
        batch = in;
    }
    if (!batch)
        return LOAM_ENOTFOUND;
    if ((s = record_get_u64(f->node, TABLE_BATCH, batch, &rec, err)))
        return s;
    s = told(out, rec, false, err);
    json_decref(rec);
    return s;
}

static enum loam_status mark_answers(struct flow *f, const json_t *rec, uint64_t batch, struct err *err) {
    json_t *list, *v;
    struct st_batch b;
    size_t i;
    enum loam_status s;
    if ((s = jget_array(&list, rec, "answers", err)) || (s = st_from_json(&b, ST_Batch, json_object_get(rec, "statement"), err)))
        return s;
    json_array_foreach(list, i, v) {
        json_t *answer = NULL;
        uint8_t key[15];
        answer_key(key, (uint64_t)json_integer_value(v));
        if ((s = record_get(f->node, TABLE_CALL, key, sizeof key, &answer, err)))
            return s;
        if (!(s = jset(answer, "batch", json_integer((json_int_t)batch), err)) &&
            !(s = jset(answer, "sequence", json_integer((json_int_t)(b.first_sequence + i)), err)))
            s = record_put(f->node, TABLE_CALL, key, sizeof key, answer, err);
        json_decref(answer);
        if (s)
            return s;
    }
    return LOAM_OK;
}

/* What the server's own escrow lacks: the amount of its own voucher, if there is one, over what it holds. Both at one head: a batch that is posted
 * takes the one from the other. */
static enum loam_status own_lack(struct flow *f, struct u256 *out, const json_t *vouchers, uint64_t server, struct err *err) {
    const struct slotref at[] = {slot_u64(slot_u64(slot_of(SLOT_LEDGER_VOUCHED), server), server), slot_u64(slot_of(SLOT_LEDGER_ESCROW), server)};
    struct hash32 word[2];
    size_t i;
    const json_t *o;
    *out = U256_ZERO;
    json_array_foreach((json_t *)(uintptr_t)vouchers, i, o) {
        struct st_voucher v;
        enum loam_status s;
        if ((s = st_from_json(&v, ST_Voucher, json_object_get(o, "voucher"), err)))
            return s;
        if (v.payer != server)
            continue;
        if ((s = fslots(f->node, word, "Ledger", at, 2, err)))
            return s;
        /* the first falls below zero where it was posted before a restart */
        if (u256_sub(out, v.cumulative, u256_from_be(word[0].b)) || u256_sub(out, *out, u256_from_be(word[1].b)))
            *out = U256_ZERO;
    }
    return LOAM_OK;
}

enum loam_status flow_record(struct flow *f, json_t **out, const struct flow_record *q, struct err *err) {
    struct outbox_result res = {0};
    struct abi_doc ev = {0};
    struct st_batch b;
    struct sig65 sig;
    struct u256 lack;
    json_t *step = NULL, *o, *vouchers;
    uint64_t server, id;
    char coin[U256_DEC_MAX + 2], fee[U256_DEC_MAX + 2], work[WORK_MAX] = "";
    struct {
        struct st_voucher v;
        struct sig65 sig;
        struct abi_value item[ST_FIELDS_MAX];
    } *vs = NULL;
    struct abi_value *lists = NULL;
    enum loam_status s;
    *out = NULL;
    if (!q->count || q->count > BATCH_CALLS_MAX)
        return err_set(err, LOAM_EINVAL, "a batch takes 1 to %d answers", BATCH_CALLS_MAX);
    for (size_t i = 0; i < q->count; i++)
        for (size_t k = 0; k < i; k++)
            if (q->answers[i] == q->answers[k])
                return err_set(err, LOAM_EINVAL, "answer %llu is named twice", (unsigned long long)q->answers[i]);
    TRY(account_of_key(f->node, &server, q->key, err));
    s = flow_step_get(f, "batch", &step, err);
    if (s == LOAM_ENOTFOUND) {
        s = there_already(f, out, q, err);
        if (s != LOAM_ENOTFOUND)
            goto out;
        TRY(prepare(f, &step, work, q, server, err));
    } else if (s)
        goto out;
    TRY(st_from_json(&b, ST_Batch, json_object_get(step, "statement"), err));
    TRY(jget_sig(&sig, step, "signature", err));
    TRY(jget_array(&vouchers, step, "vouchers", err));
    size_t count = json_array_size(vouchers);
    if (!count || !(vs = mem_zarray(count, sizeof *vs)) || !(lists = mem_zarray(2 * count, sizeof *lists))) {
        s = err_set(err, LOAM_ENOMEM, "no memory for %zu vouchers", count);
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        o = json_array_get(vouchers, i);
        TRY(st_from_json(&vs[i].v, ST_Voucher, json_object_get(o, "voucher"), err));
        TRY(jget_sig(&vs[i].sig, o, "signature", err));
        lists[i] = st_abi(vs[i].item, ST_Voucher, &vs[i].v);
        lists[count + i] = abi_bytes(vs[i].sig.b, 65);
    }

    /* The server's own escrow: the missing amount is fixed once, like everything that is sent. */
    s = flow_step_get(f, "deposit", &o, err);
    if (s == LOAM_ENOTFOUND) {
        TRY(own_lack(f, &lack, vouchers, server, err));
        u256_format_coin(coin, q->bond);
        u256_format_coin(fee, lack);
        TRY(flow_confirm(f, err, "Post a batch of %zu calls on chain %llu: %s OPEN into escrow and a bond of %s OPEN from key %s?", q->count,
                         (unsigned long long)node_chain_id(f->node), fee, coin, q->key));
        if (!(o = json_pack("{s:o*}", "wei", json_u256(lack)))) {
            s = err_set(err, LOAM_ENOMEM, "no memory");
            goto out;
        }
        s = flow_step_make(f, "deposit", &o, err);
    }
    if (!s)
        s = jget_u256(&lack, o, "wei", err);
    json_decref(o);
    if (s)
        goto out;
    if (!u256_is_zero(lack)) {
        struct fcall c = {.step = "escrow", .from = q->key, .contract = "Ledger", .value = lack, .sig = "deposit(uint64)", .what = "deposit into escrow"};
        TRY(fsend(f, &res, &c, ABI(abi_u64(server)), err));
        outbox_result_clear(&res);
        memset(&res, 0, sizeof res);
    }
    struct abi_value bi[ST_FIELDS_MAX];
    struct fcall c = {.step = "post", .from = q->key, .contract = "Ledger", .value = q->bond, .sig = "postBatch(%T,bytes,%T[],bytes[])",
                      .ids = {ST_Batch, ST_Voucher}, .id_count = 2, .what = "posting of a batch"};
    TRY(fsend(f, &res, &c, ABI(st_abi(bi, ST_Batch, &b), abi_bytes(sig.b, 65), abi_array(lists, count), abi_array(lists + count, count)), err));
    char evsig[SIG_TEXT_MAX];
    enum st_id ids[] = {ST_Batch};
    sig_expand(evsig, "BatchPosted(uint64 indexed batch, uint64 indexed poster, bytes32 statement, uint256 bond, %T b)", ids, 1);
    TRY(fevent(f->node, &ev, &res, "Ledger", evsig, err));
    TRY(abi_get_u64(&id, abi_field(&ev, "batch"), err));
    TRY(jset(step, "batch", json_integer((json_int_t)id), err));
    TRY(jset(step, "tx", json_hash(&res.tx), err));
    TRY(jset(step, "block", json_integer((json_int_t)res.block), err));
    TRY(jset(step, "bond_wei", json_u256(q->bond), err));
    TRY(record_put_u64(f->node, TABLE_BATCH, id, step, err));
    TRY(mark_answers(f, step, id, err));
    flow_note(f, "batch %llu posted in block %llu", (unsigned long long)id, (unsigned long long)res.block);
    s = told(out, step, true, err);
out:
    if (s == LOAM_EREVERT && *work)
        flow_disown(f, work);
    abi_clear(&ev);
    outbox_result_clear(&res);
    mem_free(vs);
    mem_free(lists);
    json_decref(step);
    return s;
}
