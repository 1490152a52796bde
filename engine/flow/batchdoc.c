#include "flow/batchdoc.h"

#include "base/mem.h"
#include "flow/chainio.h"
#include "flow/flow.h"
#include "record/row.h"
#include "record/tree.h"

#include "base/banned.h"

/* ---- manifests ---- */

void manifest_clear(struct manifest *m) {
    mem_free(m->hash);
    mem_free(m->account);
    memset(m, 0, sizeof *m);
}

enum loam_status manifest_read(struct manifest *out, const uint8_t *text, size_t n, struct hash32 *root, struct err *err) {
    struct tree_stream t;
    const char *p = (const char *)text, *end = p + n;
    size_t cap = 0;
    enum loam_status s = LOAM_OK;
    tree_stream_init(&t);
    out->rows = 0;
    while (p < end && !s) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((lf ? lf : end) - p);
        uint8_t leaf[ROW_LEAF_BYTES];
        json_error_t e;
        json_t *o = json_loadb(p, len, JSON_REJECT_DUPLICATES, &e);
        if (!o)
            return err_set(err, LOAM_EPARSE, "rows, line %llu: %s", (unsigned long long)out->rows + 1, e.text);
        if (out->rows == cap) {
            size_t more = cap ? 2 * cap : 256;
            void *h = mem_resize(out->hash, more, sizeof *out->hash);
            if (h)
                out->hash = h;
            void *a = h ? mem_resize(out->account, more, sizeof *out->account) : NULL;
            if (a)
                out->account = a;
            else
                s = err_set(err, LOAM_ENOMEM, "no memory for %zu rows", more);
            cap = more;
        }
        if (!s && !(s = jget_hash(&out->hash[out->rows], o, "row", err)) && !(s = jget_u64(&out->account[out->rows], o, "account", err))) {
            row_leaf(leaf, &out->hash[out->rows], out->account[out->rows]);
            tree_stream_add(&t, leaf, sizeof leaf);
            out->rows++;
        }
        json_decref(o);
        p = lf ? lf + 1 : end;
    }
    if (!s && !out->rows)
        s = err_set(err, LOAM_EPARSE, "a model without rows");
    if (!s && root)
        *root = tree_stream_root(&t);
    return s;
}

/* ---- calls ---- */

void call_clear(struct call *c) {
    mem_free(c->ids);
    mem_free(c->score);
    mem_free(c->amount);
    poa_shares_clear(&c->shares);
    memset(c, 0, sizeof *c);
}

static enum loam_status add_u32(struct buf *b, size_t v, struct err *err) {
    uint8_t w[4];
    put_be32(w, (uint32_t)v);
    return buf_add(b, w, 4, err);
}

enum loam_status call_prompt_commitment(struct hash32 *out, const json_t *messages, const struct hash32 *salt, struct err *err) {
    struct buf b = BUF_INIT(FLOW_JSON_MAX);
    size_t i;
    const json_t *m;
    enum loam_status s;
    if (!json_is_array(messages) || !json_array_size(messages))
        return err_set(err, LOAM_EPARSE, "a prompt is a list of messages");
    TRY(buf_str(&b, "msg1", err));
    TRY(add_u32(&b, json_array_size(messages), err));
    json_array_foreach((json_t *)messages, i, m) {
        const json_t *role = json_object_get(m, "role"), *content = json_object_get(m, "content");
        if (!json_is_string(role) || !json_is_string(content)) {
            s = err_set(err, LOAM_EPARSE, "message %zu has no role or no content", i);
            goto out;
        }
        TRY(add_u32(&b, json_string_length(role), err));
        TRY(buf_add(&b, json_string_value(role), json_string_length(role), err));
        TRY(add_u32(&b, json_string_length(content), err));
        TRY(buf_add(&b, json_string_value(content), json_string_length(content), err));
    }
    *out = commit_text(salt, b.data, b.len);
out:
    buf_clear(&b);
    return s;
}

enum loam_status call_output_commitment(struct hash32 *out, const uint32_t *ids, size_t n, const struct hash32 *salt, struct err *err) {
    struct buf b = BUF_INIT(4u * CALL_TOKENS_MAX);
    enum loam_status s = LOAM_OK;
    for (size_t i = 0; i < n && !s; i++)
        s = add_u32(&b, ids[i], err);
    if (!s)
        *out = commit_text(salt, b.data, b.len);
    buf_clear(&b);
    return s;
}

enum loam_status call_derive(struct call *c, struct err *err) {
    struct st_attribution *a = &c->attribution;
    struct split_rule rule = SPLIT_DEFAULT;
    enum loam_status s;
    if (c->rows != c->manifest->rows)
        return err_set(err, LOAM_EVERIFY, "%zu scores for a model of %llu rows", c->rows, (unsigned long long)c->manifest->rows);
    poa_shares_clear(&c->shares);
    mem_free(c->amount);
    c->amount = NULL;
    if ((s = poa_shares_make(&c->shares, c->score, c->manifest->account, c->rows, err)) || (s = split_fee(&c->split, c->inference.fee, &rule, err)))
        return s;
    if (!(c->amount = mem_zarray(c->shares.count, sizeof *c->amount)))
        return err_set(err, LOAM_ENOMEM, "no memory for %zu shares", c->shares.count);
    if ((s = split_influence(c->amount, &c->burnt, c->split.contributors, c->shares.account, c->shares.count, err)) ||
        (s = poa_score_root(&a->score_root, c->manifest->hash, c->score, c->rows, err)))
        return s;
    a->score_count = c->rows;
    a->net_root = poa_net_root(&c->shares);
    a->noise_floor = i256_from(c->shares.floor);
    a->share_root = poa_share_root(&c->shares, c->amount, c->burnt);
    a->inference_hash = st_hash(ST_Inference, &c->inference);
    return LOAM_OK;
}

enum loam_status call_pay(struct payouts *p, const struct call *c, struct err *err) {
    enum loam_status s;
    if ((s = payouts_add(p, ACCOUNT_PLATFORM, c->split.platform, err)) || (s = payouts_add(p, c->manifest->trainer, c->split.model, err)) ||
        (s = payouts_add(p, ACCOUNT_STAKERS, c->split.stakers, err)) || (s = payouts_add(p, ACCOUNT_BURN, c->burnt, err)))
        return s;
    for (size_t i = 0; i < c->shares.count; i++)
        if ((s = payouts_add(p, c->shares.account[i].account, c->amount[i], err)))
            return s;
    return LOAM_OK;
}

json_t *call_json(const struct call *c) {
    json_t *ids = json_array(), *scores = json_array(), *o = NULL;
    char t[32];
    if (!ids || !scores)
        goto fail;
    for (size_t i = 0; i < c->id_count; i++)
        if (json_array_append_new(ids, json_integer(c->ids[i])))
            goto fail;
    for (size_t i = 0; i < c->rows; i++) {
        snprintf(t, sizeof t, "%lld", (long long)c->score[i]);
        if (json_array_append_new(scores, json_string(t)))
            goto fail;
    }
    o = json_pack("{s:o* s:o* s:o* s:o* s:O s:o* s:o* s:O s:O s:O}", "request", st_to_json(ST_Request, &c->request), "request_signature",
                  json_sig(&c->request_sig), "inference", st_to_json(ST_Inference, &c->inference), "attribution",
                  st_to_json(ST_Attribution, &c->attribution), "messages", c->messages, "prompt_salt", json_hash(&c->prompt_salt),
                  "output_salt", json_hash(&c->output_salt), "output_ids", ids, "sampler", c->sampler, "scores", scores);
    if (o && c->paid && (json_object_set_new(o, "seed_commitment", json_hash(&c->seed_commitment)) || json_object_set_new(o, "nonce_salt", json_hash(&c->nonce_salt)))) {
        json_decref(o);
        o = NULL;
    }
fail:
    json_decref(ids);
    json_decref(scores);
    return o;
}

static enum loam_status read_i64(int64_t *out, const json_t *v, struct err *err) {
    struct u256 x;
    enum loam_status s;
    if (!json_is_string(v))
        return err_set(err, LOAM_EPARSE, "a score is a decimal text");
    if ((s = i256_parse(&x, json_string_value(v), err)))
        return s;
    return i256_to_i64(out, x, err);
}

static enum loam_status call_read(struct call *c, const json_t *o, const struct batch_doc *d, struct err *err) {
    json_t *ids, *scores, *v;
    size_t i;
    enum loam_status s;
    TRY(st_from_json(&c->request, ST_Request, json_object_get(o, "request"), err));
    TRY(jget_sig(&c->request_sig, o, "request_signature", err));
    TRY(st_from_json(&c->inference, ST_Inference, json_object_get(o, "inference"), err));
    TRY(st_from_json(&c->attribution, ST_Attribution, json_object_get(o, "attribution"), err));
    TRY(jget_hash(&c->prompt_salt, o, "prompt_salt", err));
    TRY(jget_hash(&c->output_salt, o, "output_salt", err));
    if ((c->paid = json_object_get(o, "seed_commitment") != NULL)) {
        TRY(jget_hash(&c->seed_commitment, o, "seed_commitment", err));
        TRY(jget_hash(&c->nonce_salt, o, "nonce_salt", err));
    }
    TRY(jget_array(&v, o, "messages", err));
    c->messages = v;
    TRY(jget_object(&v, o, "sampler", err));
    c->sampler = v;
    TRY(jget_array(&ids, o, "output_ids", err));
    TRY(jget_array(&scores, o, "scores", err));
    if (json_array_size(ids) > CALL_TOKENS_MAX || json_array_size(scores) > POA_ROWS_MAX) {
        s = err_set(err, LOAM_ELIMIT, "a call with %zu tokens and %zu scores", json_array_size(ids), json_array_size(scores));
        goto out;
    }
    for (size_t m = 0; m < d->models; m++)
        if (d->manifest[m].model == c->inference.model)
            c->manifest = &d->manifest[m];
    if (!c->manifest) {
        s = err_set(err, LOAM_EPARSE, "a call of model %llu, which the batch does not list", (unsigned long long)c->inference.model);
        goto out;
    }
    c->id_count = json_array_size(ids);
    c->rows = json_array_size(scores);
    c->ids = mem_array(c->id_count ? c->id_count : 1, sizeof *c->ids);
    c->score = mem_array(c->rows ? c->rows : 1, sizeof *c->score);
    if (!c->ids || !c->score) {
        s = err_set(err, LOAM_ENOMEM, "no memory for a call");
        goto out;
    }
    json_array_foreach(ids, i, v) {
        json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id > UINT32_MAX) {
            s = err_set(err, LOAM_EPARSE, "a token id is a small number");
            goto out;
        }
        c->ids[i] = (uint32_t)id;
    }
    json_array_foreach(scores, i, v)
        TRY(read_i64(&c->score[i], v, err));
    /* The posted attribution stays: whether it follows from the scores is for batch_doc_check. */
    struct st_attribution posted = c->attribution;
    s = call_derive(c, err);
    c->attribution = posted;
out:
    return s;
}

/* ---- documents ---- */

void batch_doc_clear(struct batch_doc *d) {
    for (size_t i = 0; i < d->calls; i++)
        call_clear(&d->call[i]);
    mem_free(d->call);
    for (size_t i = 0; i < d->models; i++)
        manifest_clear(&d->manifest[i]);
    payouts_clear(&d->previous);
    payouts_clear(&d->payouts);
    payouts_clear(&d->claims);
    json_decref(d->json);
    memset(d, 0, sizeof *d);
}

/* Lines as published: false ones too, so that a lie can be shown where it stands. */
static enum loam_status read_lines(struct payouts *p, const json_t *list, bool prefix, struct err *err) {
    size_t i;
    const json_t *v;
    enum loam_status s;
    payouts_init(p);
    if (json_array_size(list) > PAYOUTS_MAX)
        return err_set(err, LOAM_ELIMIT, "more than %u payout lines", PAYOUTS_MAX);
    json_array_foreach((json_t *)list, i, v) {
        uint64_t account;
        struct u256 amount;
        if ((s = jget_u64(&account, v, "account", err)) || (s = jget_u256(&amount, v, "cumulative", err)))
            return s;
        if (!prefix) {
            if ((s = payouts_add(p, account, amount, err)))
                return s;
            if (p->count != i + 1 || p->line[i].account != account)
                return err_set(err, LOAM_EPARSE, "payout lines are not in order of account");
            continue;
        }
        if (p->count == p->cap) {
            size_t cap = p->cap ? 2 * p->cap : 16;
            void *q = mem_resize(p->line, cap, sizeof *p->line);
            if (!q)
                return err_set(err, LOAM_ENOMEM, "no memory for %zu payout lines", cap);
            p->line = q;
            p->cap = cap;
        }
        struct payout *l = &p->line[p->count];
        memset(l, 0, sizeof *l);
        l->index = p->count;
        l->account = account;
        l->cumulative = amount;
        if ((s = jget_u256(&l->prefix, v, "prefix", err)))
            return s;
        if (u256_add(&p->total, p->total, amount))
            p->total = U256_ZERO; /* what wraps is shown false by its neighbours */
        p->count++;
    }
    return LOAM_OK;
}

static enum loam_status read_model(struct batch_doc *d, const json_t *o, blob_fn blob, void *arg, struct err *err) {
    struct manifest *m = &d->manifest[d->models];
    struct buf b = BUF_INIT(1u << 30);
    enum loam_status s;
    TRY(jget_u64(&m->model, o, "model", err));
    TRY(jget_u64(&m->trainer, o, "trainer", err));
    TRY(jget_hash(&m->bundle, o, "bundle", err));
    TRY(jget_hash(&m->blob, o, "rows", err));
    TRY(blob(arg, &m->blob, &b, err));
    s = manifest_read(m, b.data, b.len, NULL, err);
    d->models++; /* also after a failure: clear frees it */
out:
    buf_clear(&b);
    return s;
}

enum loam_status batch_doc_read(struct batch_doc *d, json_t *json, blob_fn blob, void *arg, struct err *err) {
    json_t *list, *v;
    const char *format;
    size_t i;
    enum loam_status s;
    memset(d, 0, sizeof *d);
    payouts_init(&d->previous);
    payouts_init(&d->payouts);
    payouts_init(&d->claims);
    d->json = json;
    TRY(jget_str(&format, json, "format", err));
    if (strcmp(format, FLOW_BATCH_FORMAT) != 0) {
        s = err_set(err, LOAM_EVERSION, "a batch of format %.32s, not " FLOW_BATCH_FORMAT, format);
        goto out;
    }
    TRY(jget_array(&list, json, "models", err));
    if (!json_array_size(list) || json_array_size(list) > BATCH_MODELS_MAX) {
        s = err_set(err, LOAM_ELIMIT, "a batch has 1 to %d models", BATCH_MODELS_MAX);
        goto out;
    }
    json_array_foreach(list, i, v)
        TRY(read_model(d, v, blob, arg, err));
    TRY(jget_array(&list, json, "calls", err));
    if (!json_array_size(list) || json_array_size(list) > BATCH_CALLS_MAX) {
        s = err_set(err, LOAM_ELIMIT, "a batch has 1 to %d calls", BATCH_CALLS_MAX);
        goto out;
    }
    if (!(d->call = mem_zarray(json_array_size(list), sizeof *d->call))) {
        s = err_set(err, LOAM_ENOMEM, "no memory for %zu calls", json_array_size(list));
        goto out;
    }
    json_array_foreach(list, i, v) {
        d->calls++;
        if ((s = call_read(&d->call[i], v, d, err))) {
            s = err_prefix(err, s, "call %zu", i);
            goto out;
        }
    }
    TRY(jget_array(&list, json, "vouchers", err));
    if (json_array_size(list) > BATCH_VOUCHERS_MAX) {
        s = err_set(err, LOAM_ELIMIT, "more than %d vouchers", BATCH_VOUCHERS_MAX);
        goto out;
    }
    json_array_foreach(list, i, v) {
        TRY(st_from_json(&d->voucher[i].v, ST_Voucher, json_object_get(v, "voucher"), err));
        TRY(jget_sig(&d->voucher[i].sig, v, "signature", err));
        d->vouchers++;
    }
    TRY(jget_array(&list, json, "previous", err));
    TRY(read_lines(&d->previous, list, false, err));
    TRY(jget_array(&list, json, "payouts", err));
    TRY(read_lines(&d->payouts, list, true, err));
    if ((list = json_object_get(json, "claims")))
        s = json_is_array(list) ? read_lines(&d->claims, list, true, err) : err_set(err, LOAM_EPARSE, "claims: a list is needed");
out:
    return s;
}

enum loam_status batch_doc_payouts(struct payouts *out, const struct batch_doc *d, struct err *err) {
    enum loam_status s;
    if ((s = payouts_copy(out, &d->previous, err)))
        return s;
    for (size_t i = 0; i < d->calls; i++)
        if ((s = call_pay(out, &d->call[i], err)))
            return s;
    return LOAM_OK;
}

enum loam_status batch_doc_fill(struct st_batch *b, const struct batch_doc *d, struct err *err) {
    struct tree_stream r, i, a;
    struct claims claims = {0};
    struct u256 fee = U256_ZERO;
    enum loam_status s;
    tree_stream_init(&r);
    tree_stream_init(&i);
    tree_stream_init(&a);
    for (size_t k = 0; k < d->calls; k++) {
        const struct call *c = &d->call[k];
        struct hash32 h = st_hash(ST_Request, &c->request);
        tree_stream_add(&r, h.b, 32);
        h = st_hash(ST_Inference, &c->inference);
        tree_stream_add(&i, h.b, 32);
        h = st_hash(ST_Attribution, &c->attribution);
        tree_stream_add(&a, h.b, 32);
        if (u256_add(&fee, fee, c->inference.fee))
            return err_set(err, LOAM_ERANGE, "the fees of a batch do not fit");
    }
    b->request_root = tree_stream_root(&r);
    b->inference_root = tree_stream_root(&i);
    b->attribution_root = tree_stream_root(&a);
    b->call_count = d->calls;
    b->fee_total = fee;
    b->previous_payout_root = d->previous.count ? payouts_root(&d->previous) : (struct hash32){{0}};
    b->payout_root = payouts_root(&d->payouts);
    b->payout_count = d->payouts.count;
    if (u256_add(&b->payout_total, d->previous.total, fee))
        return err_set(err, LOAM_ERANGE, "the payouts of a batch do not fit");
    if ((s = claims_build(&claims, d->claims.count ? &d->claims : &d->payouts, err)))
        return s;
    b->claim_root = claims_root(&claims);
    claims_clear(&claims);
    return LOAM_OK;
}

static const char *const lie_names[LIE_KINDS] = {"", "sum", "end", "execution", "decrease", "missing", "sequence", "fee", "link", "count", "claim"};
const char *lie_name(enum batch_lie l) { return (unsigned)l < LIE_KINDS ? lie_names[l] : "?"; }
bool lie_provable(enum batch_lie l) { return l != LIE_NONE && l != LIE_OTHER && (unsigned)l < LIE_KINDS; }

static enum loam_status lie(enum batch_lie *out, enum batch_lie what, struct err *err, const char *fmt, ...) LOAM_PRINTF(4, 5);
static enum loam_status lie(enum batch_lie *out, enum batch_lie what, struct err *err, const char *fmt, ...) {
    char text[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    *out = what;
    return err_set(err, LOAM_EVERIFY, "%s", text);
}

/* The payout table as a contract can see it. */
static enum loam_status check_lines(enum batch_lie *out, uint64_t *at, const struct payouts *p, struct u256 total, struct err *err) {
    char a[U256_DEC_MAX], b[U256_DEC_MAX];
    for (size_t i = 0; i < p->count; i++) {
        struct u256 end;
        bool wraps = u256_add(&end, p->line[i].prefix, p->line[i].cumulative);
        *at = i;
        if (i == 0 && !u256_is_zero(p->line[0].prefix))
            return lie(out, LIE_END, err, "the first payout line begins at a sum that is not 0");
        if (i + 1 < p->count) {
            if (p->line[i].account >= p->line[i + 1].account)
                return lie(out, LIE_SUM, err, "payout lines %zu and %zu are not in order of account", i, i + 1);
            if (wraps || u256_cmp(end, p->line[i + 1].prefix) != 0) {
                u256_format(a, end);
                u256_format(b, p->line[i + 1].prefix);
                return lie(out, LIE_SUM, err, "payout lines %zu and %zu do not add up: %s and %s wei", i, i + 1, a, b);
            }
        } else if (wraps || u256_cmp(end, total) != 0) {
            u256_format(a, end);
            u256_format(b, total);
            return lie(out, LIE_END, err, "the payouts add up to %s wei, not to the stated %s", a, b);
        }
    }
    return LOAM_OK;
}

/* Every line of the last settled table must stand in the new one, and none may fall. */
static enum loam_status check_previous(enum batch_lie *out, uint64_t *at, const struct payouts *was, const struct payouts *is, struct err *err) {
    char a[U256_DEC_MAX], b[U256_DEC_MAX];
    for (size_t i = 0; i < was->count; i++) {
        size_t k = 0;
        while (k < is->count && is->line[k].account != was->line[i].account)
            k++;
        *at = i;
        if (k == is->count)
            return lie(out, LIE_MISSING, err, "account %llu stands in the last settled payouts and is missing now", (unsigned long long)was->line[i].account);
        *at = k;
        if (u256_cmp(is->line[k].cumulative, was->line[i].cumulative) < 0) {
            u256_format(a, is->line[k].cumulative);
            u256_format(b, was->line[i].cumulative);
            return lie(out, LIE_DECREASE, err, "account %llu has %s wei now and had %s", (unsigned long long)is->line[k].account, a, b);
        }
    }
    return LOAM_OK;
}

static bool same_line(const struct payout *x, const struct payout *y) {
    return x->index == y->index && x->account == y->account && !u256_cmp(x->prefix, y->prefix) && !u256_cmp(x->cumulative, y->cumulative);
}

/* What the contract can see in one call's three statements. */
static enum loam_status check_statements(enum batch_lie *out, const struct call *c, size_t i, const struct st_batch *b, struct err *err) {
    struct hash32 h = st_hash(ST_Request, &c->request), x = st_hash(ST_Inference, &c->inference);
    char p[U256_DEC_MAX], q[U256_DEC_MAX];
    if (c->inference.sequence != b->first_sequence + i || c->inference.server != b->poster)
        return lie(out, LIE_SEQUENCE, err, "call %zu has sequence number %llu of account %llu where %llu of account %llu is due", i,
                   (unsigned long long)c->inference.sequence, (unsigned long long)c->inference.server, (unsigned long long)(b->first_sequence + i),
                   (unsigned long long)b->poster);
    if (u256_cmp(c->inference.fee, c->request.max_fee) > 0) {
        u256_format(p, c->inference.fee);
        u256_format(q, c->request.max_fee);
        return lie(out, LIE_FEE, err, "call %zu takes %s wei where its request allows %s", i, p, q);
    }
    if (!hash_eq(&h, &c->inference.request_hash) || c->request.server != b->poster || c->inference.model != c->request.model ||
        !hash_eq(&c->inference.prompt_commitment, &c->request.prompt_commitment))
        return lie(out, LIE_FEE, err, "call %zu does not answer the request at its place", i);
    if (!hash_eq(&x, &c->attribution.inference_hash))
        return lie(out, LIE_LINK, err, "call %zu: its attribution speaks of another call", i);
    return LOAM_OK;
}

#define SAME(what, x, y)                                                                                               \
    do {                                                                                                               \
        if (!hash_eq(&(x), &(y))) {                                                                                    \
            s = lie(out, LIE_OTHER, err, "the %s differs from the posted one", what);                                  \
            goto out;                                                                                                  \
        }                                                                                                              \
    } while (0)

enum loam_status batch_doc_check(enum batch_lie *out, uint64_t *at, const struct batch_doc *d, const struct st_batch *b, struct err *err) {
    struct st_batch mine = *b;
    struct payouts want = {0};
    enum loam_status s;
    *out = LIE_NONE;
    *at = 0;
    TRY(batch_doc_fill(&mine, d, err));
    SAME("root of the payouts", mine.payout_root, b->payout_root);
    if (mine.payout_count != b->payout_count) {
        *at = 3;
        s = lie(out, LIE_COUNT, err, "the root of the payouts holds %llu lines, %llu are stated", (unsigned long long)mine.payout_count,
                (unsigned long long)b->payout_count);
        goto out;
    }
    SAME("root of the requests", mine.request_root, b->request_root);
    SAME("root of the inferences", mine.inference_root, b->inference_root);
    SAME("root of the attributions", mine.attribution_root, b->attribution_root);
    if (mine.call_count != b->call_count) {
        *at = 1;
        s = lie(out, LIE_COUNT, err, "the root of the calls holds %llu, %llu are stated", (unsigned long long)mine.call_count,
                (unsigned long long)b->call_count);
        goto out;
    }
    TRY(check_lines(out, at, &d->payouts, b->payout_total, err));
    SAME("root of the last payouts", mine.previous_payout_root, b->previous_payout_root);
    TRY(check_previous(out, at, &d->previous, &d->payouts, err));
    SAME("claim root", mine.claim_root, b->claim_root);
    for (size_t i = 0; d->claims.count && (i < d->claims.count || i < d->payouts.count); i++)
        if (i >= d->claims.count || i >= d->payouts.count || !same_line(&d->claims.line[i], &d->payouts.line[i])) {
            *at = i;
            /* A line left out of the claims is nothing that a contract can be shown: it is not there. */
            s = lie(out, i < d->claims.count ? LIE_CLAIM : LIE_OTHER, err, "claim line %zu is not the payout line %zu", i, i);
            goto out;
        }
    if (u256_cmp(mine.fee_total, b->fee_total) != 0 || u256_cmp(mine.payout_total, b->payout_total) != 0) {
        s = lie(out, LIE_OTHER, err, "totals differ from the posted ones");
        goto out;
    }
    for (size_t i = 0; i < d->calls; i++) {
        const struct call *c = &d->call[i];
        struct call again = *c;
        struct hash32 h;
        again.shares = (struct poa_shares){0};
        again.amount = NULL;
        *at = i;
        TRY(check_statements(out, c, i, b, err));
        TRY(call_prompt_commitment(&h, c->messages, &c->prompt_salt, err));
        if (!hash_eq(&h, &c->request.prompt_commitment)) {
            s = lie(out, LIE_OTHER, err, "call %zu: the prompt is not the one committed to", i);
            goto out;
        }
        TRY(call_output_commitment(&h, c->ids, c->id_count, &c->output_salt, err));
        if (!hash_eq(&h, &c->inference.output_commitment) || c->inference.tokens_out != c->id_count) {
            s = lie(out, LIE_OTHER, err, "call %zu: the output is not the one committed to", i);
            goto out;
        }
        s = call_derive(&again, err);
        bool same = !s && st_equal(ST_Attribution, &again.attribution, &c->attribution);
        poa_shares_clear(&again.shares);
        mem_free(again.amount);
        if (s)
            goto out;
        if (!same) {
            s = lie(out, LIE_OTHER, err, "call %zu: its attribution does not follow from its scores", i);
            goto out;
        }
    }
    TRY(batch_doc_payouts(&want, d, err));
    for (size_t i = 0; i < want.count || i < d->payouts.count; i++) {
        const struct payout *x = i < want.count ? &want.line[i] : NULL, *y = i < d->payouts.count ? &d->payouts.line[i] : NULL;
        if (!x || !y || x->account != y->account) {
            s = lie(out, LIE_OTHER, err, "payout line %zu is for account %llu, not %llu", i, (unsigned long long)(y ? y->account : 0),
                    (unsigned long long)(x ? x->account : 0));
            goto out;
        }
        if (u256_cmp(x->cumulative, y->cumulative) != 0) {
            char p[U256_DEC_MAX], q[U256_DEC_MAX];
            u256_format(p, y->cumulative);
            u256_format(q, x->cumulative);
            s = lie(out, LIE_OTHER, err, "account %llu is given %s wei where its shares make %s", (unsigned long long)x->account, p, q);
            goto out;
        }
    }
out:
    payouts_clear(&want);
    return s;
}

enum loam_status call_trace(struct poa_trace *t, size_t i, const uint32_t *ids, size_t id_count, const struct hash32 *query, size_t queries,
                            const int64_t *score, size_t rows, struct err *err) {
    enum loam_status s;
    if ((s = poa_trace_add(t, ids, id_count, sizeof *ids, err, "call %zu tokens", i)))
        return s;
    for (size_t c = 0; c < queries; c++)
        if ((s = poa_trace_add_hash(t, &query[c], 1, err, "call %zu gradient %zu", i, c)))
            return s;
    return poa_trace_add(t, score, rows, sizeof *score, err, "call %zu scores", i);
}
