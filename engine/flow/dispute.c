#include "flow/dispute.h"

#include "base/file.h"
#include "flow/eigenda.h"
#include "flow/fetch.h"
#include "flow/stake.h"
#include "record/claims.h"
#include "record/tree.h"

#include "base/banned.h"

/* ---- the document ---- */

enum loam_status batch_fetch(struct flow *f, struct batch_doc *d, const struct st_batch *b, const char *peer, struct err *err) {
    struct fetcher from = {f, peer};
    struct err e = {0};
    json_t *json = NULL;
    enum loam_status s;
    memset(d, 0, sizeof *d);
    if ((s = fetch_located(f, peer, b->data_locator, &b->data_hash, err)))
        return s;
    s = json_blob_get(f->node, &json, &b->data_hash, &e);
    if (!s)
        s = batch_doc_read(d, json, fetch_bytes, &from, &e);
    if (s == LOAM_EPARSE || s == LOAM_EVERSION || s == LOAM_ELIMIT || s == LOAM_ERANGE || s == LOAM_EINVAL || s == LOAM_EVERIFY)
        return err_set(err, LOAM_EVERIFY, "the published bytes are no batch: %s", e.text);
    if (s && err)
        *err = e;
    return s;
}

/* ---- leaves ---- */

static const char *const tree_names[BATCH_TREES] = {"requests", "inferences", "attributions", "payouts"};
const char *batch_tree_name(enum batch_tree t) { return (unsigned)t < BATCH_TREES ? tree_names[t] : "?"; }

bool batch_tree_find(enum batch_tree *out, const char *name) {
    for (int i = 0; i < BATCH_TREES; i++)
        if (!strcmp(name, tree_names[i])) {
            *out = (enum batch_tree)i;
            return true;
        }
    return false;
}

static size_t leaf_bytes(uint8_t out[PAYOUT_LEAF_BYTES], const struct batch_doc *d, enum batch_tree t, size_t i) {
    struct hash32 h;
    if (t == TREE_PAYOUTS) {
        payout_leaf(out, &d->payouts.line[i]);
        return PAYOUT_LEAF_BYTES;
    }
    const struct call *c = &d->call[i];
    h = t == TREE_REQUESTS ? st_hash(ST_Request, &c->request) : t == TREE_INFERENCES ? st_hash(ST_Inference, &c->inference) : st_hash(ST_Attribution, &c->attribution);
    memcpy(out, h.b, 32);
    return 32;
}

static enum loam_status tree_of(struct tree *t, const struct batch_doc *d, enum batch_tree which, struct err *err) {
    size_t n = which == TREE_PAYOUTS ? d->payouts.count : d->calls;
    enum loam_status s = LOAM_OK;
    tree_init(t);
    for (size_t i = 0; i < n && !s; i++) {
        uint8_t leaf[PAYOUT_LEAF_BYTES];
        size_t len = leaf_bytes(leaf, d, which, i);
        s = tree_add(t, leaf, len, err);
    }
    return s;
}

struct proof {
    struct tree_proof p;
    struct abi_value it[TREE_PROOF_MAX], list;
};

static void listed(struct proof *p) {
    for (uint32_t i = 0; i < p->p.count; i++)
        p->it[i] = abi_b32(&p->p.sibling[i]);
    p->list = abi_array(p->it, p->p.count);
}

static enum loam_status prove_in(struct proof *p, const struct batch_doc *d, enum batch_tree which, uint64_t at, struct err *err) {
    struct tree t;
    enum loam_status s = tree_of(&t, d, which, err);
    if (!s)
        s = tree_prove(&p->p, &t, at, err);
    if (!s)
        listed(p);
    tree_clear(&t);
    return s;
}

static enum loam_status prove_line(struct proof *p, const struct payouts *table, uint64_t at, struct err *err) {
    struct tree t;
    enum loam_status s = LOAM_OK;
    tree_init(&t);
    for (size_t i = 0; i < table->count && !s; i++) {
        uint8_t leaf[PAYOUT_LEAF_BYTES];
        payout_leaf(leaf, &table->line[i]);
        s = tree_add(&t, leaf, sizeof leaf, err);
    }
    if (!s)
        s = tree_prove(&p->p, &t, at, err);
    if (!s)
        listed(p);
    tree_clear(&t);
    return s;
}

struct line {
    struct abi_value it[4], v;
};
static struct abi_value line_abi(struct line *l, const struct payout *p) {
    l->it[0] = abi_u64(p->index);
    l->it[1] = abi_u64(p->account);
    l->it[2] = abi_u256(p->prefix);
    l->it[3] = abi_u256(p->cumulative);
    return l->v = abi_tuple(l->it, 4);
}

/* ---- proofs ---- */

#define LEAF "(uint64,uint64,uint256,uint256)"
#define LEAFP LEAF ",bytes32[]"

struct prover {
    struct flow *f;
    uint64_t batch, at;
    const struct batch_doc *d;
    const char *key;
    struct abi_value batch_item[ST_FIELDS_MAX], b;
    struct outbox_result *res;
};

static enum loam_status prove_send(struct prover *x, const char *sig, enum st_id second, enum st_id third, const struct abi_value *items, size_t n, struct err *err) {
    struct fcall c = {.step = "prove", .from = x->key, .contract = "Disputes", .sig = sig, .ids = {ST_Batch, second, third},
                      .id_count = third != ST_COUNT ? 3 : second != ST_COUNT ? 2 : 1, .what = "proof of a false batch"};
    return fsend(x->f, x->res, &c, items, n, err);
}

static enum loam_status prove_lines(struct prover *x, bool end, struct err *err) {
    const struct payouts *p = &x->d->payouts;
    struct proof a, b;
    struct line l, r;
    enum loam_status s = prove_line(&a, p, x->at, err);
    if (s)
        return s;
    line_abi(&l, &p->line[x->at]);
    if (end)
        return prove_send(x, "proveEnd(uint64,%T,uint64," LEAFP ")", ST_COUNT, ST_COUNT, ABI(abi_u64(x->batch), x->b, abi_u64(x->at), l.v, a.list), err);
    if ((s = prove_line(&b, p, x->at + 1, err)))
        return s;
    line_abi(&r, &p->line[x->at + 1]);
    return prove_send(x, "proveSum(uint64,%T,uint64," LEAFP "," LEAFP ")", ST_COUNT, ST_COUNT,
                ABI(abi_u64(x->batch), x->b, abi_u64(x->at), l.v, a.list, r.v, b.list), err);
}

static enum loam_status prove_decrease(struct prover *x, struct err *err) {
    const struct payouts *is = &x->d->payouts, *was = &x->d->previous;
    const struct payout *old = payouts_find(was, is->line[x->at].account);
    struct proof a, b;
    struct line o, n;
    enum loam_status s;
    if (!old)
        return err_set(err, LOAM_ESTATE, "account %llu has no previous line", (unsigned long long)is->line[x->at].account);
    if ((s = prove_line(&a, was, old->index, err)) || (s = prove_line(&b, is, x->at, err)))
        return s;
    line_abi(&o, old);
    line_abi(&n, &is->line[x->at]);
    return prove_send(x, "proveDecrease(uint64,%T,uint64,uint64," LEAFP ",uint64," LEAFP ")", ST_COUNT, ST_COUNT,
                ABI(abi_u64(x->batch), x->b, abi_u64(was->count), abi_u64(old->index), o.v, a.list, abi_u64(x->at), n.v, b.list), err);
}

static enum loam_status prove_missing(struct prover *x, struct err *err) {
    const struct payouts *is = &x->d->payouts, *was = &x->d->previous;
    const struct payout *old = &was->line[x->at];
    size_t k = 0; /* where it would stand */
    struct proof a, b, c;
    struct line o, l, r;
    enum loam_status s;
    while (k < is->count && is->line[k].account < old->account)
        k++;
    if ((s = prove_line(&a, was, old->index, err)))
        return s;
    line_abi(&o, old);
    if (k == 0 || k == is->count) {
        uint64_t end = k ? is->count - 1 : 0;
        if ((s = prove_line(&b, is, end, err)))
            return s;
        line_abi(&l, &is->line[end]);
        return prove_send(x, "proveMissingEnd(uint64,%T,uint64,uint64," LEAFP ",uint64," LEAFP ")", ST_COUNT, ST_COUNT,
                    ABI(abi_u64(x->batch), x->b, abi_u64(was->count), abi_u64(old->index), o.v, a.list, abi_u64(end), l.v, b.list), err);
    }
    if ((s = prove_line(&b, is, k - 1, err)) || (s = prove_line(&c, is, k, err)))
        return s;
    line_abi(&l, &is->line[k - 1]);
    line_abi(&r, &is->line[k]);
    return prove_send(x, "proveMissing(uint64,%T,uint64,uint64," LEAFP ",uint64," LEAFP "," LEAFP ")", ST_COUNT, ST_COUNT,
                ABI(abi_u64(x->batch), x->b, abi_u64(was->count), abi_u64(old->index), o.v, a.list, abi_u64(k - 1), l.v, b.list, r.v, c.list), err);
}

static enum loam_status prove_call(struct prover *x, enum batch_lie lie, struct err *err) {
    const struct call *c = &x->d->call[x->at];
    struct abi_value ri[ST_FIELDS_MAX], ii[ST_FIELDS_MAX], ai[ST_FIELDS_MAX];
    struct abi_value i = st_abi(ii, ST_Inference, &c->inference);
    struct hash32 h = st_hash(ST_Inference, &c->inference);
    struct proof p, q;
    enum loam_status s = prove_in(&p, x->d, TREE_INFERENCES, x->at, err);
    if (s)
        return s;
    if (lie == LIE_SEQUENCE)
        return prove_send(x, "proveSequence(uint64,%T,uint64,%T,bytes32[])", ST_Inference, ST_COUNT,
                    ABI(abi_u64(x->batch), x->b, abi_u64(x->at), i, p.list), err);
    if (lie == LIE_FEE) {
        if ((s = prove_in(&q, x->d, TREE_REQUESTS, x->at, err)))
            return s;
        return prove_send(x, "proveFee(uint64,%T,uint64,%T,bytes32[],%T,bytes32[])", ST_Request, ST_Inference,
                    ABI(abi_u64(x->batch), x->b, abi_u64(x->at), st_abi(ri, ST_Request, &c->request), q.list, i, p.list), err);
    }
    if ((s = prove_in(&q, x->d, TREE_ATTRIBUTIONS, x->at, err)))
        return s;
    return prove_send(x, "proveLink(uint64,%T,uint64,bytes32,bytes32[],%T,bytes32[])", ST_Attribution, ST_COUNT,
                ABI(abi_u64(x->batch), x->b, abi_u64(x->at), abi_b32(&h), p.list, st_abi(ai, ST_Attribution, &c->attribution), q.list), err);
}

static enum loam_status prove_count(struct prover *x, struct err *err) {
    struct tree t;
    enum loam_status s = x->at < BATCH_TREES ? tree_of(&t, x->d, (enum batch_tree)x->at, err) : err_set(err, LOAM_ERANGE, "there is no tree %llu", (unsigned long long)x->at);
    if (s)
        return s;
    struct hash32 top = tree_top(&t);
    s = prove_send(x, "proveCount(uint64,%T,uint8,uint64,bytes32)", ST_COUNT, ST_COUNT,
             ABI(abi_u64(x->batch), x->b, abi_u64(x->at), abi_u64(t.count), abi_b32(&top)), err);
    tree_clear(&t);
    return s;
}

static enum loam_status prove_claim(struct prover *x, struct err *err) {
    const struct payouts *is = &x->d->payouts, *said = &x->d->claims;
    struct claims claims = {0};
    struct proof a, b;
    struct line c, p;
    enum loam_status s;
    uint64_t line = x->at < is->count ? x->at : 0; /* a claim past the table is false by itself */
    if ((s = claims_build(&claims, said, err)))
        return s;
    s = claims_prove(&a.p, &claims, x->at, err);
    claims_clear(&claims);
    if (s || (s = prove_line(&b, is, line, err)))
        return s;
    listed(&a);
    line_abi(&c, &said->line[x->at]);
    line_abi(&p, &is->line[line]);
    return prove_send(x, "proveClaim(uint64,%T," LEAFP "," LEAFP ")", ST_COUNT, ST_COUNT, ABI(abi_u64(x->batch), x->b, c.v, a.list, p.v, b.list), err);
}

enum loam_status dispute_prove(struct flow *f, enum batch_lie lie, uint64_t at, uint64_t batch, const struct st_batch *b, const struct batch_doc *d,
                               const char *key, struct hash32 *tx, struct err *err) {
    struct outbox_result res = {0};
    struct prover x = {.f = f, .batch = batch, .at = at, .d = d, .key = key, .res = &res};
    enum loam_status s;
    x.b = st_abi(x.batch_item, ST_Batch, b);
    switch (lie) {
    case LIE_SUM: s = prove_lines(&x, false, err); break;
    case LIE_END: s = prove_lines(&x, true, err); break;
    case LIE_DECREASE: s = prove_decrease(&x, err); break;
    case LIE_MISSING: s = prove_missing(&x, err); break;
    case LIE_SEQUENCE:
    case LIE_FEE:
    case LIE_LINK: s = prove_call(&x, lie, err); break;
    case LIE_COUNT: s = prove_count(&x, err); break;
    case LIE_CLAIM: s = prove_claim(&x, err); break;
    default: s = err_set(err, LOAM_ESTATE, "nothing that a contract can be shown");
    }
    if (!s && tx)
        *tx = res.tx;
    outbox_result_clear(&res);
    return s;
}

/* ---- dispute ---- */

struct slashed {
    uint64_t batch;
    struct u256 bond;
    struct addr20 by;
    char proof[32];
};

static enum loam_status on_slashed(void *arg, struct abi_doc *ev, const struct log *l, struct err *err) {
    struct slashed *x = arg;
    uint64_t batch;
    const uint8_t *t;
    size_t n;
    enum loam_status s;
    (void)l;
    if ((s = abi_get_u64(&batch, abi_field(ev, "batch"), err)) || batch != x->batch)
        return s;
    if ((s = abi_get_addr(&x->by, abi_field(ev, "by"), err)) || (s = abi_get_u256(&x->bond, abi_field(ev, "bond"), err)) ||
        (s = abi_get_bytes(&t, &n, abi_field(ev, "proof"), err)))
        return s;
    snprintf(x->proof, sizeof x->proof, "%.*s", (int)(n < 31 ? n : 31), (const char *)t);
    return LOAM_OK;
}

enum loam_status flow_dispute(struct flow *f, json_t **out, uint64_t batch, const char *key, const char *peer, bool look, struct err *err) {
    struct entry e;
    struct st_batch b;
    struct batch_doc d = {0};
    struct err why = {0};
    struct hash32 tx = {{0}};
    struct slashed end = {.batch = batch};
    struct u256 reward = U256_ZERO;
    json_t *bjson = NULL;
    enum batch_lie lie = LIE_NONE;
    uint64_t at = 0;
    bool proven = false;
    char work[64];
    enum loam_status s;
    *out = NULL;
    TRY(entry_read(f->node, &e, batch, err));
    TRY(posted_read(f, &b, &bjson, NULL, &e, err));
    if (e.state == BATCH_SETTLED || e.state == BATCH_VOIDED) {
        s = err_set(err, LOAM_ESTATE, "batch %llu is %s; only an open batch can be disputed", (unsigned long long)batch, batch_state_name(e.state));
        goto out;
    }
    s = batch_fetch(f, &d, &b, fetch_peer(peer, b.data_locator), &why);
    if (!s)
        s = batch_doc_check(&lie, &at, &d, &b, &why);
    if (s == LOAM_EVERIFY && lie == LIE_NONE)
        lie = LIE_OTHER; /* bytes that are no batch */
    if (s && s != LOAM_EVERIFY) {
        if (err)
            *err = why;
        goto out;
    }
    s = LOAM_OK;
    if (!look && !lie_provable(lie)) {
        s = lie ? err_set(err, LOAM_ESTATE, "batch %llu is false, but not so that a contract can be shown it: %s; validators void it", (unsigned long long)batch, why.text)
                : err_set(err, LOAM_ESTATE, "nothing in the statements and tables of batch %llu is false; `validate` re-executes its calls", (unsigned long long)batch);
        goto out;
    }
    if (!look) {
        TRY(flow_unlock(f, key, err));
        TRY(flow_confirm(f, err, "Prove the %s of batch %llu false with key %s (gas only)?", lie_name(lie), (unsigned long long)batch, key));
        snprintf(work, sizeof work, "dispute/%llu/%s", (unsigned long long)batch, key);
        TRY(flow_own(f, work, err));
        s = e.state == BATCH_SLASHED ? LOAM_OK : dispute_prove(f, lie, at, batch, &b, &d, key, &tx, err);
        if (s == LOAM_EREVERT)
            flow_disown(f, work);
        enum loam_status r = entry_read(f->node, &e, batch, s ? NULL : err);
        if (s && e.state != BATCH_SLASHED) /* somebody else's proof is as good */
            goto out;
        TRY(r);
        TRY(fevents(f, "Ledger", "BatchSlashed(uint64 indexed batch, uint64 indexed poster, address indexed by, string proof, uint256 bond)", NULL, e.posted_block,
                    UINT64_MAX, on_slashed, &end, err));
        proven = true;
        u256_divmod(&reward, NULL, end.bond, u256_from(2));
        flow_note(f, "batch %llu is slashed by the proof \"%s\"", (unsigned long long)batch, end.proof);
    }
    *out = json_pack("{s:I s:I s:s s:I s:s s:b s:b s:s s:s s:o* s:o*}", "batch", (json_int_t)batch, "poster", (json_int_t)e.poster, "lie", lie_name(lie), "at",
                     (json_int_t)at, "reason", why.text, "provable", lie_provable(lie), "proven", proven, "proof", end.proof, "state", batch_state_name(e.state),
                     "reward_wei", json_u256(reward), "tx", hash_is_zero(&tx) ? NULL : json_hash(&tx));
    if (!*out)
        s = err_set(err, LOAM_ENOMEM, "no memory");
out:
    batch_doc_clear(&d);
    json_decref(bjson);
    return s;
}

/* ---- two attestations ---- */

#define ACCUSE_MAX 65536u /* bytes of a file with two attestations */

enum loam_status flow_accuse(struct flow *f, json_t **out, const char *path, const char *key, struct err *err) {
    struct st_attestation a[2];
    struct sig65 sig[2];
    struct hash32 h[2];
    struct abi_value items[2][ST_FIELDS_MAX];
    struct account_info who;
    struct outbox_result res = {0};
    struct buf b = BUF_INIT(ACCUSE_MAX);
    json_t *o = NULL, *list;
    json_error_t je;
    char work[96], hex[HASH_HEX_MAX];
    enum loam_status s;
    *out = NULL;
    TRY(file_read(&b, path, err));
    if (!(o = json_loadb((const char *)b.data, b.len, JSON_REJECT_DUPLICATES, &je))) {
        s = err_set(err, LOAM_EPARSE, "%s:%d: %s", path, je.line, je.text);
        goto out;
    }
    TRY(jget_array(&list, o, "attestations", err));
    if (json_array_size(list) != 2) {
        s = err_set(err, LOAM_EINVAL, "%s: two attestations are needed, not %zu", path, json_array_size(list));
        goto out;
    }
    for (size_t i = 0; i < 2; i++) {
        json_t *one = json_array_get(list, i);
        TRY(st_from_json(&a[i], ST_Attestation, json_object_get(one, "attestation"), err));
        TRY(jget_sig(&sig[i], one, "signature", err));
        h[i] = st_hash(ST_Attestation, &a[i]);
    }
    if (a[0].validator != a[1].validator || a[0].batch != a[1].batch || hash_eq(&h[0], &h[1])) {
        s = err_set(err, LOAM_EINVAL, "%s: these are not two different attestations of one validator for one batch", path);
        goto out;
    }
    TRY(account_read(f->node, &who, a[0].validator, err));
    for (size_t i = 0; i < 2; i++)
        TRY(st_check(f->node, &who.signing, "Ledger", ST_Attestation, &a[i], &sig[i], err));
    TRY(flow_unlock(f, key, err));
    TRY(flow_confirm(f, err, "Show that validator %llu attested batch %llu twice, with key %s (gas only)?", (unsigned long long)a[0].validator,
                     (unsigned long long)a[0].batch, key));
    snprintf(work, sizeof work, "accuse/%llu/%llu/%.20s", (unsigned long long)a[0].validator, (unsigned long long)a[0].batch, hash_hex(hex, &h[0]));
    TRY(flow_own(f, work, err));
    struct fcall c = {.step = "accuse", .from = key, .contract = "Ledger", .sig = "proveEquivocation(%T,bytes,%T,bytes)", .ids = {ST_Attestation, ST_Attestation},
                      .id_count = 2, .what = "proof of two attestations"};
    s = fsend(f, &res, &c,
              ABI(st_abi(items[0], ST_Attestation, &a[0]), abi_bytes(sig[0].b, 65), st_abi(items[1], ST_Attestation, &a[1]), abi_bytes(sig[1].b, 65)), err);
    if (s == LOAM_EREVERT)
        flow_disown(f, work);
    if (!s && !(s = flow_stake_status(f, out, a[0].validator, err)))
        s = jset(*out, "tx", json_hash(&res.tx), err);
out:
    outbox_result_clear(&res);
    json_decref(o);
    buf_clear(&b);
    return s;
}

/* ---- demands ---- */

enum loam_status demand_read(struct node *n, struct demand *out, uint64_t batch, struct err *err) {
    struct slotref b = slot_u64(slot_of(SLOT_LEDGER_DEMANDS), batch);
    const struct slotref at[] = {slot_plus(b, WORD_LEDGER_DEMAND_BY), slot_plus(b, WORD_LEDGER_DEMAND_INDEX)};
    struct hash32 w[2];
    enum loam_status s;
    if ((s = fslots(n, w, "Ledger", at, 2, err)))
        return s;
    _Static_assert(WORD_LEDGER_DEMAND_BY == WORD_LEDGER_DEMAND_UNTIL && WORD_LEDGER_DEMAND_INDEX == WORD_LEDGER_DEMAND_TREE, "two words hold a demand");
    out->by = word_addr(&w[0], AT_LEDGER_DEMAND_BY);
    out->until = word_u64(&w[0], AT_LEDGER_DEMAND_UNTIL, SIZE_LEDGER_DEMAND_UNTIL);
    out->index = word_u64(&w[1], AT_LEDGER_DEMAND_INDEX, SIZE_LEDGER_DEMAND_INDEX);
    out->tree = (unsigned)word_u64(&w[1], AT_LEDGER_DEMAND_TREE, SIZE_LEDGER_DEMAND_TREE);
    return LOAM_OK;
}

static enum loam_status told(struct flow *f, json_t **out, uint64_t batch, const struct hash32 *tx, struct err *err) {
    struct entry e;
    struct demand d;
    enum loam_status s;
    if ((s = entry_read(f->node, &e, batch, err)) || (s = demand_read(f->node, &d, batch, err)))
        return s;
    *out = json_pack("{s:I s:I s:s s:b s:o*}", "batch", (json_int_t)batch, "poster", (json_int_t)e.poster, "state", batch_state_name(e.state), "open", d.until != 0, "tx",
                     tx ? json_hash(tx) : NULL);
    if (*out && d.until &&
        (json_object_set_new(*out, "tree", json_string(batch_tree_name((enum batch_tree)d.tree))) || json_object_set_new(*out, "index", json_integer((json_int_t)d.index)) ||
         json_object_set_new(*out, "until", json_integer((json_int_t)d.until)) || json_object_set_new(*out, "by", json_addr(&d.by)))) {
        json_decref(*out);
        *out = NULL;
    }
    return *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
}

enum loam_status flow_demand_show(struct flow *f, json_t **out, uint64_t batch, struct err *err) {
    *out = NULL;
    return told(f, out, batch, NULL, err);
}

/* One transaction about the demand of an open batch. A revert ends the flow's name, so that the next try begins anew. */
static enum loam_status demand_send(struct flow *f, json_t **out, const char *work, uint64_t batch, const struct fcall *c, const struct abi_value *items, size_t n, struct err *err) {
    struct outbox_result res = {0};
    struct hash32 tx;
    enum loam_status s = fsend(f, &res, c, items, n, err);
    tx = res.tx;
    outbox_result_clear(&res);
    if (s == LOAM_EREVERT)
        flow_disown(f, work);
    return s ? s : told(f, out, batch, &tx, err);
}

enum loam_status flow_demand_leaf(struct flow *f, json_t **out, uint64_t batch, enum batch_tree tree, uint64_t index, const char *key, struct err *err) {
    struct entry e;
    struct st_batch b;
    struct demand d;
    struct u256 deposit;
    struct abi_value bi[ST_FIELDS_MAX];
    json_t *bjson = NULL;
    char coin[U256_DEC_MAX + 2], work[96];
    enum loam_status s;
    *out = NULL;
    TRY(entry_read(f->node, &e, batch, err));
    TRY(posted_read(f, &b, &bjson, NULL, &e, err));
    snprintf(work, sizeof work, "demand/%llu/%u/%llu/%s", (unsigned long long)batch, (unsigned)tree, (unsigned long long)index, key);
    uint64_t count = tree == TREE_PAYOUTS ? b.payout_count : b.call_count;
    if (index >= count) {
        s = err_set(err, LOAM_ERANGE, "the %s of batch %llu are %llu, counted from 0", batch_tree_name(tree), (unsigned long long)batch, (unsigned long long)count);
        goto out;
    }
    TRY(demand_read(f->node, &d, batch, err));
    if (d.until && (d.tree != (unsigned)tree || d.index != index)) {
        s = err_set(err, LOAM_EBUSY, "another leaf of batch %llu is demanded until second %llu; one at a time", (unsigned long long)batch, (unsigned long long)d.until);
        goto out;
    }
    if (d.until) { /* demanded already, by an earlier life of this command or by somebody else */
        s = told(f, out, batch, NULL, err);
        goto out;
    }
    TRY(ledger_parameter(f, &deposit, "demandDeposit", err));
    u256_format_coin(coin, deposit);
    TRY(flow_unlock(f, key, err));
    TRY(flow_confirm(f, err, "Demand leaf %llu of the %s of batch %llu for %s OPEN from key %s?", (unsigned long long)index, batch_tree_name(tree),
                     (unsigned long long)batch, coin, key));
    struct fcall c = {.step = "demand", .from = key, .contract = "Ledger", .value = deposit, .sig = "demandLeaf(uint64,%T,uint8,uint64)", .ids = {ST_Batch}, .id_count = 1,
                      .what = "demand of a leaf"};
    s = demand_send(f, out, work, batch, &c, ABI(abi_u64(batch), st_abi(bi, ST_Batch, &b), abi_u64((uint64_t)tree), abi_u64(index)), err);
out:
    json_decref(bjson);
    return s;
}

enum loam_status flow_demand_answer(struct flow *f, json_t **out, uint64_t batch, const char *key, const char *peer, struct err *err) {
    struct entry e;
    struct st_batch b;
    struct batch_doc doc = {0};
    struct demand d;
    struct proof p;
    struct abi_value bi[ST_FIELDS_MAX];
    uint8_t leaf[PAYOUT_LEAF_BYTES];
    json_t *bjson = NULL;
    char work[96];
    enum loam_status s;
    *out = NULL;
    TRY(entry_read(f->node, &e, batch, err));
    TRY(posted_read(f, &b, &bjson, NULL, &e, err));
    TRY(demand_read(f->node, &d, batch, err));
    if (!d.until) {
        s = err_set(err, LOAM_ESTATE, "no leaf of batch %llu is demanded", (unsigned long long)batch);
        goto out;
    }
    TRY(batch_fetch(f, &doc, &b, fetch_peer(peer, b.data_locator), err));
    if (d.tree >= BATCH_TREES || d.index >= (d.tree == TREE_PAYOUTS ? doc.payouts.count : doc.calls)) {
        s = err_set(err, LOAM_ERANGE, "the document of batch %llu has no leaf %llu in tree %u", (unsigned long long)batch, (unsigned long long)d.index, d.tree);
        goto out;
    }
    size_t n = leaf_bytes(leaf, &doc, (enum batch_tree)d.tree, d.index);
    TRY(prove_in(&p, &doc, (enum batch_tree)d.tree, d.index, err));
    TRY(flow_unlock(f, key, err));
    /* Demands have no number. What tells them apart is what is asked for until when; the same leaf asked for again in the same second is told by
     * the demand's still being there after the answer. */
    snprintf(work, sizeof work, "answer/%llu/%llu/%u/%llu", (unsigned long long)batch, (unsigned long long)d.until, d.tree, (unsigned long long)d.index);
    struct flow own = *f;
    TRY(flow_own(&own, work, err));
    char step[64];
    snprintf(step, sizeof step, "answer-%llu-%u-%llu", (unsigned long long)d.until, d.tree, (unsigned long long)d.index);
    struct fcall c = {.step = step, .from = key, .contract = "Ledger", .sig = "showLeaf(uint64,%T,bytes,bytes32[])", .ids = {ST_Batch}, .id_count = 1,
                      .what = "showing of a demanded leaf"};
    TRY(demand_send(&own, out, work, batch, &c, ABI(abi_u64(batch), st_abi(bi, ST_Batch, &b), abi_bytes(leaf, n), p.list), err));
    struct demand now;
    TRY(demand_read(f->node, &now, batch, err));
    if (now.until == d.until && now.tree == d.tree && now.index == d.index) {
        uint64_t head;
        TRY(fhead(f->node, &head, NULL, err));
        json_decref(*out);
        *out = NULL;
        snprintf(step, sizeof step, "answer-again-%llu", (unsigned long long)head);
        s = demand_send(&own, out, work, batch, &c, ABI(abi_u64(batch), st_abi(bi, ST_Batch, &b), abi_bytes(leaf, n), p.list), err);
    }
out:
    batch_doc_clear(&doc);
    json_decref(bjson);
    return s;
}

enum loam_status flow_demand_silence(struct flow *f, json_t **out, uint64_t batch, const char *key, struct err *err) {
    struct entry e;
    struct demand d;
    uint64_t now;
    char work[96];
    enum loam_status s;
    *out = NULL;
    TRY(entry_read(f->node, &e, batch, err));
    snprintf(work, sizeof work, "silence/%llu/%s", (unsigned long long)batch, key);
    TRY(flow_own(f, work, err));
    if (e.state == BATCH_SLASHED) { /* by an earlier life of this command, or by somebody else */
        s = told(f, out, batch, NULL, err);
        goto out;
    }
    TRY(demand_read(f->node, &d, batch, err));
    TRY(fhead(f->node, NULL, &now, err));
    if (!d.until)
        s = err_set(err, LOAM_ESTATE, "no leaf of batch %llu is demanded, or it was shown", (unsigned long long)batch);
    else if (now <= d.until)
        s = err_set(err, LOAM_ESTATE, "the poster of batch %llu may still answer for %llu s", (unsigned long long)batch, (unsigned long long)(d.until + 1 - now));
    if (s)
        goto out;
    TRY(flow_unlock(f, key, err));
    struct fcall c = {.step = "silence", .from = key, .contract = "Ledger", .sig = "silence(uint64)", .what = "slashing of a silent poster"};
    s = demand_send(f, out, work, batch, &c, ABI(abi_u64(batch)), err);
out:
    return s;
}
