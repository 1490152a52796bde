#include "flow/pay.h"

#include "base/entropy.h"
#include "base/mem.h"
#include "base/option.h"
#include "flow/flow.h"
#include "flow/ledger.h"
#include "flow/record.h"
#include "flow/train.h"
#include "net/http.h"
#include "node/api.h"
#include "node/chain.h"
#include "node/job.h"
#include "node/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

#define DAY 86400u
#define ASK_TIMEOUT_MS 1800000 /* an answer of a large model on a slow machine */
#define CATCH_UP_MS 250
#define CATCH_UP_STEPS 60 /* 15 s */
#define CATCH_UP_BLOCKS 32
#define PAYERS_MAX 64          /* paid questions answered at once, one a payer */

/* ---- small parts ---- */

static struct hash32 hash_two(const uint8_t a[32], const uint8_t b[32]) {
    uint8_t t[64];
    memcpy(t, a, 32);
    memcpy(t + 32, b, 32);
    return hash_of(t, sizeof t);
}

static struct u256 nonce_of(const struct hash32 *salt, const struct hash32 *commitment) {
    struct hash32 h = hash_two(salt->b, commitment->b);
    return u256_from_be(h.b);
}

static struct hash32 seed_of(struct u256 nonce, const struct hash32 *commitment) {
    uint8_t n[32];
    u256_to_be(n, nonce);
    return hash_two(n, commitment->b);
}

enum loam_status pay_seed_check(const struct st_request *r, const struct st_inference *i, const struct hash32 *commitment, const struct hash32 *nonce_salt,
                                struct err *err) {
    struct hash32 seed = seed_of(r->nonce, commitment);
    if (u256_cmp(r->nonce, nonce_of(nonce_salt, commitment)) != 0)
        return err_set(err, LOAM_EVERIFY, "the request's nonce does not hold the server's commitment");
    if (!hash_eq(&seed, &i->seed))
        return err_set(err, LOAM_EVERIFY, "the seed is not the one that payer and server fixed");
    return LOAM_OK;
}

static void pair_key(uint8_t key[17], char who, uint64_t payer, uint64_t server) {
    key[0] = (uint8_t)who;
    put_be64(key + 1, payer);
    put_be64(key + 9, server);
}

#define VOUCHER_KEY 49
static void voucher_key(uint8_t key[VOUCHER_KEY], uint64_t payer, uint64_t server, struct u256 cumulative) {
    pair_key(key, 'v', payer, server);
    u256_to_be(key + 17, cumulative);
}

enum loam_status voucher_find(struct node *n, json_t **out, uint64_t payer, uint64_t server, struct u256 cumulative, struct err *err) {
    uint8_t key[VOUCHER_KEY];
    voucher_key(key, payer, server, cumulative);
    return record_get(n, TABLE_VOUCHER, key, sizeof key, out, err);
}

static enum loam_status vouched(struct node *n, struct u256 *out, uint64_t payer, uint64_t server, struct err *err) {
    return fslot_u256(n, out, "Ledger", slot_u64(slot_u64(slot_of(SLOT_LEDGER_VOUCHED), payer), server), err);
}

struct held {
    struct u256 escrow, leaving; /* leaving: what a withdrawal was requested for */
    struct u256 used;            /* of its vouchers to the server asked about: a posted batch takes from escrow what it adds here */
    uint64_t ready_at;
};
/* All at one head. server 0: of none. */
static enum loam_status held_read(struct node *n, struct held *h, uint64_t account, uint64_t server, struct err *err) {
    struct slotref w = slot_u64(slot_of(SLOT_LEDGER_WITHDRAWALS), account);
    const struct slotref at[] = {slot_u64(slot_of(SLOT_LEDGER_ESCROW), account), slot_plus(w, WORD_LEDGER_WITHDRAWAL_AMOUNT),
                                 slot_plus(w, WORD_LEDGER_WITHDRAWAL_READY_AT), slot_u64(slot_u64(slot_of(SLOT_LEDGER_VOUCHED), account), server)};
    struct hash32 word[4];
    enum loam_status s;
    if ((s = fslots(n, word, "Ledger", at, 4, err)))
        return s;
    h->escrow = u256_from_be(word[0].b);
    h->leaving = u256_from_be(word[1].b);
    h->used = u256_from_be(word[3].b);
    h->ready_at = word_u64(&word[2], AT_LEDGER_WITHDRAWAL_READY_AT, SIZE_LEDGER_WITHDRAWAL_READY_AT);
    return LOAM_OK;
}

/* What an account may still promise: escrow without what is leaving. */
static struct u256 promised(const struct held *h) {
    struct u256 free;
    if (u256_sub(&free, h->escrow, h->leaving))
        free = U256_ZERO;
    return free;
}

/* ---- the server's terms ---- */

/* Fixed before any request is known; one for all payers of this node. */
static enum loam_status commitment_get(struct node *n, struct hash32 *out, struct err *err) {
    json_t *o = NULL;
    enum loam_status s = record_get(n, TABLE_CALL, "terms", 5, &o, err);
    if (s == LOAM_ENOTFOUND) {
        struct store_batch *b = NULL;
        char text[128], hex[HASH_HEX_MAX];
        TRY(entropy_fill(out->b, sizeof out->b, err));
        snprintf(text, sizeof text, "{\"commitment\":\"%s\"}", hash_hex(hex, out));
        TRY(store_batch_new(&b, err));
        s = store_batch_put_new(b, TABLE_CALL, "terms", 5, text, strlen(text), err);
        if (s)
            store_batch_free(b);
        else
            s = store_commit(n->store, b, err);
        if (s != LOAM_EEXIST)
            goto out;
        TRY(record_get(n, TABLE_CALL, "terms", 5, &o, err)); /* another job made it */
    }
    if (!s)
        s = jget_hash(out, o, "commitment", err);
out:
    json_decref(o);
    return s;
}

/* Everything a payer owes this server by what it accepted and by the chain. rec (may be NULL) gets the accepted voucher's record. */
static enum loam_status owed(struct node *n, struct u256 *out, json_t **rec, uint64_t payer, uint64_t server, struct err *err) {
    uint8_t key[17];
    json_t *o = NULL;
    struct st_voucher v;
    enum loam_status s;
    TRY(vouched(n, out, payer, server, err));
    pair_key(key, 's', payer, server);
    s = record_get(n, TABLE_VOUCHER, key, sizeof key, &o, err);
    if (s == LOAM_ENOTFOUND)
        s = LOAM_OK;
    if (s || !o)
        goto out;
    TRY(st_from_json(&v, ST_Voucher, json_object_get(o, "voucher"), err));
    if (u256_cmp(v.cumulative, *out) > 0)
        *out = v.cumulative;
    if (rec)
        *rec = json_incref(o);
out:
    json_decref(o);
    return s;
}

static json_t *models_on_chain(struct node *n) {
    json_t *all = NULL, *list = json_array(), *v;
    size_t i;
    if (!list || flow_trained_list(n, &all, NULL))
        return list;
    json_array_foreach(all, i, v)
        if (json_integer_value(json_object_get(v, "model")))
            json_array_append_new(list, json_pack("{s:O s:O}", "name", json_object_get(v, "name"), "model", json_object_get(v, "model")));
    json_decref(all);
    return list;
}

enum loam_status flow_pay_terms(struct flow *f, json_t **out, uint64_t payer, const char *key, struct u256 fee, struct err *err) {
    uint64_t server;
    struct addr20 ledger;
    struct hash32 commitment;
    struct u256 sum;
    json_t *rec = NULL;
    enum loam_status s;
    *out = NULL;
    TRY(account_of_key(f->node, &server, key, err));
    TRY(node_chain_contract(f->node, "Ledger", &ledger, err));
    TRY(commitment_get(f->node, &commitment, err));
    TRY(owed(f->node, &sum, &rec, payer, server, err));
    *out = json_pack("{s:I s:o* s:I s:o* s:o* s:o* s:o s:O* s:O*}", "chain_id", (json_int_t)node_chain_id(f->node), "ledger", json_addr(&ledger), "server",
                     (json_int_t)server, "fee_wei", json_u256(fee), "commitment", json_hash(&commitment), "cumulative_wei", json_u256(sum), "models",
                     models_on_chain(f->node), "voucher", json_object_get(rec, "voucher"), "signature", json_object_get(rec, "signature"));
    if (!*out)
        s = err_set(err, LOAM_ENOMEM, "no memory");
out:
    json_decref(rec);
    return s;
}

/* ---- the server's checks ---- */

struct asked { /* a paid question, taken apart; borrows from its JSON */
    const char *model_name;
    struct st_request request;
    struct st_voucher voucher;
    struct sig65 request_sig, voucher_sig;
    struct hash32 prompt_salt, nonce_salt, commitment, hash;
    json_t *messages, *sampler;
    enum lm_act act;
};

static enum loam_status asked_read(struct asked *a, const json_t *o, struct err *err) {
    const char *act;
    enum loam_status s;
    memset(a, 0, sizeof *a);
    TRY(jget_str(&a->model_name, o, "model", err));
    TRY(jget_array(&a->messages, o, "messages", err));
    TRY(jget_object(&a->sampler, o, "sampler", err));
    TRY(jget_str(&act, o, "act", err));
    TRY(jget_hash(&a->prompt_salt, o, "prompt_salt", err));
    TRY(jget_hash(&a->nonce_salt, o, "nonce_salt", err));
    TRY(jget_hash(&a->commitment, o, "commitment", err));
    TRY(st_from_json(&a->request, ST_Request, json_object_get(o, "request"), err));
    TRY(jget_sig(&a->request_sig, o, "request_signature", err));
    TRY(st_from_json(&a->voucher, ST_Voucher, json_object_get(o, "voucher"), err));
    TRY(jget_sig(&a->voucher_sig, o, "voucher_signature", err));
    if (strcmp(act, lm_act_name(LM_ACT_F32)) != 0 && strcmp(act, lm_act_name(LM_ACT_Q8)) != 0) {
        s = err_set(err, LOAM_EPARSE, "act is neither f32 nor q8");
        goto out;
    }
    a->act = strcmp(act, lm_act_name(LM_ACT_Q8)) ? LM_ACT_F32 : LM_ACT_Q8;
    a->hash = st_hash(ST_Request, &a->request);
out:
    return s;
}

static enum loam_status refuse(struct err *err, const char *fmt, ...) LOAM_PRINTF(2, 3);
static enum loam_status refuse(struct err *err, const char *fmt, ...) {
    char t[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(t, sizeof t, fmt, ap);
    va_end(ap);
    return err_set(err, LOAM_EPERM, "%s", t);
}

/* All that can be checked before anything is computed. */
static enum loam_status asked_check(struct flow *f, const struct asked *a, uint64_t server, struct u256 fee, struct err *err) {
    struct node *n = f->node;
    const struct st_request *r = &a->request;
    const struct st_voucher *v = &a->voucher;
    struct account_info payer;
    struct hash32 h, mine;
    struct u256 sum, need;
    struct held held;
    uint64_t now, model;
    json_t *rec = NULL;
    char x[U256_DEC_MAX + 2], y[U256_DEC_MAX + 2];
    enum loam_status s;
    TRY(fhead(n, NULL, &now, err));
    TRY(commitment_get(n, &mine, err));
    if (r->server != server || v->server != server) {
        s = refuse(err, "request and voucher name account %llu and %llu; this server is account %llu", (unsigned long long)r->server, (unsigned long long)v->server,
                   (unsigned long long)server);
        goto out;
    }
    if (r->payer != v->payer) {
        s = refuse(err, "the voucher is account %llu's, the request account %llu's", (unsigned long long)v->payer, (unsigned long long)r->payer);
        goto out;
    }
    if (r->privacy != PRIVACY_PUBLIC) {
        s = err_set(err, LOAM_ENOTBUILT, "privacy class %u is not built; only public calls (0) are answered for pay", r->privacy);
        goto out;
    }
    s = account_read(n, &payer, r->payer, err);
    if (s == LOAM_ENOTFOUND)
        s = refuse(err, "no account %llu is registered", (unsigned long long)r->payer);
    if (s)
        goto out;
    if (st_check(n, &payer.signing, "Ledger", ST_Request, r, &a->request_sig, NULL)) {
        s = refuse(err, "the request is not signed by account %llu for this chain's ledger", (unsigned long long)r->payer);
        goto out;
    }
    if (st_check(n, &payer.signing, "Ledger", ST_Voucher, v, &a->voucher_sig, NULL)) {
        s = refuse(err, "the voucher is not signed by account %llu for this chain's ledger", (unsigned long long)r->payer);
        goto out;
    }
    if (r->expiry <= now) {
        s = refuse(err, "the request has expired (second %llu, it is %llu)", (unsigned long long)r->expiry, (unsigned long long)now);
        goto out;
    }
    if (v->expiry <= now + PAY_VOUCHER_LEFT) {
        s = refuse(err, "the voucher ends at second %llu; it must outlast the recording (%llu)", (unsigned long long)v->expiry,
                   (unsigned long long)(now + PAY_VOUCHER_LEFT));
        goto out;
    }
    TRY(flow_trained_get(n, &rec, a->model_name, err));
    TRY(jget_u64(&model, rec, "model", err));
    if (!model || r->model != model) {
        s = refuse(err, "the request is for model %llu; %s is model %llu on this chain", (unsigned long long)r->model, a->model_name, (unsigned long long)model);
        goto out;
    }
    TRY(call_prompt_commitment(&h, a->messages, &a->prompt_salt, err));
    if (!hash_eq(&h, &r->prompt_commitment)) {
        s = refuse(err, "the messages are not those that the request commits to");
        goto out;
    }
    TRY(sampler_hash(&h, a->sampler, err));
    if (!hash_eq(&h, &r->sampler_hash)) {
        s = refuse(err, "the sampler is not the one that the request commits to");
        goto out;
    }
    if (!hash_eq(&a->commitment, &mine) || u256_cmp(r->nonce, nonce_of(&a->nonce_salt, &mine)) != 0) {
        s = refuse(err, "the request's nonce does not hold this server's commitment; ask for its terms again");
        goto out;
    }
    if (u256_cmp(fee, r->max_fee) > 0) {
        u256_format_coin(x, fee);
        u256_format_coin(y, r->max_fee);
        s = refuse(err, "a call costs %s OPEN; the request allows %s", x, y);
        goto out;
    }
    TRY(owed(n, &sum, NULL, r->payer, server, err));
    if (u256_add(&sum, sum, fee)) {
        s = refuse(err, "amounts do not fit");
        goto out;
    }
    if (u256_cmp(v->cumulative, sum) != 0) {
        u256_format_coin(x, v->cumulative);
        u256_format_coin(y, sum);
        s = refuse(err, "the voucher is for %s OPEN in all, with this call it is %s", x, y);
        goto out;
    }
    TRY(held_read(n, &held, r->payer, server, err));
    (void)u256_sub(&need, sum, held.used);
    if (u256_cmp(promised(&held), need) < 0) {
        u256_format_coin(x, promised(&held));
        u256_format_coin(y, need);
        s = refuse(err, "account %llu has %s OPEN in escrow that is not leaving; its vouchers to this server need %s", (unsigned long long)r->payer, x, y);
    }
out:
    json_decref(rec);
    return s;
}

/* ---- one paid question a payer at a time, since each voucher counts on from the last ---- */

static struct {
    uv_once_t once;
    uv_mutex_t lock;
    uint64_t payer[PAYERS_MAX]; /* 0: free */
} busy = {.once = UV_ONCE_INIT};
static void busy_init(void) {
    uv_mutex_init(&busy.lock);
}
static enum loam_status busy_take(uint64_t payer, struct err *err) {
    size_t at = PAYERS_MAX;
    bool twice = false;
    uv_once(&busy.once, busy_init);
    uv_mutex_lock(&busy.lock);
    for (size_t i = 0; i < PAYERS_MAX; i++) {
        if (busy.payer[i] == payer)
            twice = true;
        else if (!busy.payer[i])
            at = i;
    }
    if (!twice && at < PAYERS_MAX)
        busy.payer[at] = payer;
    uv_mutex_unlock(&busy.lock);
    if (twice)
        return err_set(err, LOAM_EBUSY, "another paid question of account %llu is being answered; one after the other", (unsigned long long)payer);
    return at < PAYERS_MAX ? LOAM_OK : err_set(err, LOAM_EBUSY, "%d paid questions are being answered; try again", PAYERS_MAX);
}
static void busy_give(uint64_t payer) {
    uv_mutex_lock(&busy.lock);
    for (size_t i = 0; i < PAYERS_MAX; i++)
        if (busy.payer[i] == payer)
            busy.payer[i] = 0;
    uv_mutex_unlock(&busy.lock);
}

static void request_key(uint8_t key[40], const struct hash32 *h) {
    memcpy(key, "request/", 8);
    memcpy(key + 8, h->b, 32);
}

/* The answer that this request got before. LOAM_ENOTFOUND. */
static enum loam_status answered(struct node *n, json_t **out, const struct hash32 *h, struct err *err) {
    uint8_t key[40];
    json_t *o = NULL;
    uint64_t id;
    enum loam_status s;
    request_key(key, h);
    TRY(record_get(n, TABLE_CALL, key, sizeof key, &o, NULL));
    TRY(jget_u64(&id, o, "answer", err));
    s = flow_answer_get(out, n, id, err);
out:
    json_decref(o);
    return s;
}

struct paid { /* what becomes durable with the answer */
    const struct asked *a;
    const json_t *o;
    struct u256 fee;
};

static enum loam_status put_json(struct store_batch *b, enum store_table t, const void *key, size_t klen, json_t *o, struct err *err) {
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    enum loam_status s = text ? store_batch_put(b, t, key, klen, text, strlen(text), err) : err_set(err, LOAM_ENOMEM, "no memory");
    free(text);
    json_decref(o);
    return s;
}

static enum loam_status keep_paid(void *ctx, struct store_batch *b, json_t *rec, struct err *err) {
    static const char *const fields[] = {"request", "request_signature", "voucher", "voucher_signature", "nonce_salt"};
    const struct paid *p = ctx;
    uint8_t key[40], pair[17];
    enum loam_status s = LOAM_OK;
    for (size_t i = 0; i < sizeof fields / sizeof *fields && !s; i++)
        s = jset(rec, fields[i], json_incref(json_object_get(p->o, fields[i])), err);
    if (!s)
        s = jset(rec, "seed_commitment", json_hash(&p->a->commitment), err);
    if (!s)
        s = jset(rec, "fee_wei", json_u256(p->fee), err);
    request_key(key, &p->a->hash);
    if (!s)
        s = put_json(b, TABLE_CALL, key, sizeof key, json_pack("{s:O}", "answer", json_object_get(rec, "id")), err);
    if (!s) { /* every voucher, by what it makes in all: record takes the one that fits its calls */
        uint8_t all[VOUCHER_KEY];
        voucher_key(all, p->a->request.payer, p->a->request.server, p->a->voucher.cumulative);
        s = put_json(b, TABLE_VOUCHER, all, sizeof all,
                     json_pack("{s:O s:O}", "voucher", json_object_get(p->o, "voucher"), "signature", json_object_get(p->o, "voucher_signature")), err);
    }
    pair_key(pair, 's', p->a->request.payer, p->a->request.server);
    if (!s)
        s = put_json(b, TABLE_VOUCHER, pair, sizeof pair,
                     json_pack("{s:O s:O}", "voucher", json_object_get(p->o, "voucher"), "signature", json_object_get(p->o, "voucher_signature")), err);
    return s;
}

/* The payer's node may be some blocks ahead: what it has just put into escrow has to be seen here too. */
static enum loam_status catch_up(struct flow *f, const json_t *o, struct err *err) {
    uint64_t want = 0, have;
    enum loam_status s;
    if (jget_u64(&want, o, "head", NULL))
        return LOAM_OK;
    for (int i = 0; i < CATCH_UP_STEPS; i++) {
        if ((s = fhead(f->node, &have, NULL, err)))
            return s;
        if (have >= want || want - have > CATCH_UP_BLOCKS)
            return LOAM_OK; /* there, or so far away that waiting is no help: the checks say what is missing */
        if ((s = flow_sleep(f, CATCH_UP_MS, err)))
            return s;
    }
    return LOAM_OK;
}

enum loam_status flow_pay_serve(struct flow *f, json_t **out, const json_t *o, lm_token_fn token, void *ctx, const char *key, struct u256 fee, struct err *err) {
    struct asked a;
    struct flow_ask q;
    struct paid paid = {&a, o, fee};
    uint64_t server;
    bool taken = false;
    enum loam_status s;
    *out = NULL;
    TRY(asked_read(&a, o, err));
    TRY(account_of_key(f->node, &server, key, err));
    /* The same question again is not a second one; whoever has its signatures may have its answer. */
    struct account_info payer;
    if (!account_read(f->node, &payer, a.request.payer, NULL) && !st_check(f->node, &payer.signing, "Ledger", ST_Request, &a.request, &a.request_sig, NULL) &&
        (s = answered(f->node, out, &a.hash, err)) != LOAM_ENOTFOUND)
        goto out;
    TRY(busy_take(a.request.payer, err));
    taken = true;
    TRY(catch_up(f, o, err));
    TRY(asked_check(f, &a, server, fee, err));
    memset(&q, 0, sizeof q);
    q.model = a.model_name;
    q.messages = a.messages;
    q.act = a.act;
    TRY(flow_sampler_read(&q, a.sampler, err));
    struct hash32 seed = seed_of(a.request.nonce, &a.commitment);
    memcpy(q.sampler.seed, seed.b, 32);
    q.seeded = true;
    q.privacy = "public";
    q.prompt_salt = &a.prompt_salt;
    q.also = keep_paid;
    q.also_ctx = &paid;
    q.token = token;
    q.ctx = ctx;
    s = flow_ask(out, f->node, f->job, &q, err);
out:
    if (taken)
        busy_give(a.request.payer);
    return s;
}

/* ---- the payer's side ---- */

static bool cancelled(void *arg) { return job_cancelled(arg); }

static enum loam_status talk(struct flow *f, json_t **out, const char *peer, const char *path, const json_t *body, struct err *err) {
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    struct http *http = node_http(f->node);
    struct http_response r = {0};
    struct http_cancel cancel = {cancelled, f->job};
    char *url = mem_printf("%s%s", peer, path), *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_error_t je;
    enum loam_status s = LOAM_OK;
    *out = NULL;
    if (!url || (body && !text))
        s = err_set(err, LOAM_ENOMEM, "no memory");
    else if (!http)
        s = err_set(err, LOAM_ESTATE, "no chain is configured; run: chain use URL");
    struct http_request q = {.url = url, .headers = headers, .body = text, .body_len = text ? strlen(text) : 0, .timeout_ms = body ? ASK_TIMEOUT_MS : 0,
                             .max_body = PAY_REPLY_MAX, .cancel = f->job ? &cancel : NULL};
    if (!s)
        s = http_fetch_wait(http, &r, &q, err);
    if (!s && !(*out = json_loadb((const char *)r.body.data, r.body.len, JSON_REJECT_DUPLICATES, &je)) && r.status / 100 == 2)
        s = err_set(err, LOAM_EJSON, "the reply is no JSON: %s", je.text);
    if (!s && r.status / 100 != 2) {
        const char *why = json_string_value(json_object_get(json_object_get(*out, "error"), "message"));
        if (why)
            s = err_set(err, r.status == 402 ? LOAM_EPERM : r.status == 404 ? LOAM_ENOTFOUND : r.status == 503 ? LOAM_EBUSY : LOAM_ESTATUS, "refused: %.300s", why);
        else
            s = http_check(&r, err);
        json_decref(*out);
        *out = NULL;
    }
    http_response_clear(&r);
    mem_free(url);
    free(text);
    return s ? err_prefix(err, s, "%s", peer) : LOAM_OK;
}

/* How much the voucher must be: what is owed by both sides' books, and this call. A server that claims more than this payer ever signed must
 * show its signature. */
static enum loam_status reconcile(struct flow *f, struct u256 *sum, const json_t *terms, uint64_t payer, uint64_t server, const struct addr20 *signing, struct err *err) {
    uint8_t key[17];
    json_t *own = NULL;
    struct u256 known, mine;
    enum loam_status s;
    TRY(jget_u256(sum, terms, "cumulative_wei", err));
    TRY(vouched(f->node, &known, payer, server, err));
    pair_key(key, 'p', payer, server);
    s = record_get(f->node, TABLE_VOUCHER, key, sizeof key, &own, err);
    if (!s) {
        TRY(jget_u256(&mine, own, "cumulative", err));
        if (u256_cmp(mine, known) > 0)
            known = mine;
    } else if (s != LOAM_ENOTFOUND)
        goto out;
    s = LOAM_OK;
    if (u256_cmp(*sum, known) > 0) {
        struct st_voucher v;
        struct sig65 sig;
        if (st_from_json(&v, ST_Voucher, json_object_get(terms, "voucher"), NULL) || jget_sig(&sig, terms, "signature", NULL) || v.payer != payer || v.server != server ||
            u256_cmp(v.cumulative, *sum) != 0 || st_check(f->node, signing, "Ledger", ST_Voucher, &v, &sig, NULL)) {
            char x[U256_DEC_MAX + 2], y[U256_DEC_MAX + 2];
            u256_format_coin(x, *sum);
            u256_format_coin(y, known);
            s = err_set(err, LOAM_EVERIFY, "server %llu claims %s OPEN, and shows no voucher for more than %s", (unsigned long long)server, x, y);
        }
    }
out:
    json_decref(own);
    return s;
}

/* Puts into escrow what the voucher is not covered by. */
static enum loam_status cover(struct flow *f, const char *key, uint64_t payer, uint64_t server, struct u256 sum, struct err *err) {
    struct held held;
    struct u256 need, lack;
    struct outbox_result res = {0};
    struct flow own = *f;
    char name[FLOW_NAME_MAX], coin[U256_DEC_MAX + 2], dec[U256_DEC_MAX];
    json_t *step = NULL;
    enum loam_status s;
    TRY(held_read(f->node, &held, payer, server, err));
    (void)u256_sub(&need, sum, held.used);
    if (u256_sub(&lack, need, promised(&held)) || u256_is_zero(lack))
        goto out;
    /* One deposit for one voucher, however often the question is asked again. */
    u256_format(dec, sum);
    snprintf(name, sizeof name, "cover-%llu-%llu-%s", (unsigned long long)payer, (unsigned long long)server, dec);
    own.name = name;
    s = flow_step_get(&own, "deposit", &step, err);
    if (s == LOAM_ENOTFOUND) {
        u256_format_coin(coin, lack);
        TRY(flow_confirm(f, err, "Put %s OPEN into escrow on chain %llu from key %s, to pay account %llu?", coin, (unsigned long long)node_chain_id(f->node), key,
                         (unsigned long long)server));
        if (!(step = json_pack("{s:o*}", "wei", json_u256(lack)))) {
            s = err_set(err, LOAM_ENOMEM, "no memory");
            goto out;
        }
        s = flow_step_make(&own, "deposit", &step, err);
    }
    if (s)
        goto out;
    TRY(jget_u256(&lack, step, "wei", err));
    struct fcall c = {.step = "escrow", .from = key, .contract = "Ledger", .value = lack, .sig = "deposit(uint64)", .what = "deposit into escrow"};
    s = fsend(&own, &res, &c, ABI(abi_u64(payer)), err);
out:
    outbox_result_clear(&res);
    json_decref(step);
    return s;
}

static enum loam_status check_reply(const json_t *rec, const struct st_request *r, const struct hash32 *commitment, struct err *err) {
    struct hash32 seed, want = seed_of(r->nonce, commitment);
    json_t *ids;
    const char *text;
    enum loam_status s;
    if ((s = jget_hash(&seed, rec, "seed", err)) || (s = jget_array(&ids, rec, "output_ids", err)) || (s = jget_str(&text, rec, "text", err)))
        return s;
    return hash_eq(&seed, &want) ? LOAM_OK : err_set(err, LOAM_EVERIFY, "the server answered with a seed of its own");
}

enum loam_status flow_pay_ask(struct flow *f, json_t **out, const struct flow_ask *q, const struct pay *p, struct err *err) {
    struct st_request r;
    struct st_voucher v;
    struct sig65 rsig, vsig;
    struct account_info who;
    struct hash32 salt, nonce_salt, commitment;
    struct u256 fee, sum;
    struct addr20 ledger, theirs;
    uint64_t payer, server, chain, now, head, model = 0;
    char path[64], server_key[OPTION_TEXT_MAX] = "", x[U256_DEC_MAX + 2], y[U256_DEC_MAX + 2];
    uint8_t key[17];
    json_t *terms = NULL, *body = NULL, *sampler = NULL, *own = NULL, *m;
    const char *name;
    size_t i;
    enum loam_status s;
    *out = NULL;
    memset(&r, 0, sizeof r);
    memset(&v, 0, sizeof v);
    TRY(account_of_key(f->node, &payer, p->key, err));
    TRY(account_read(f->node, &who, payer, err));
    if (p->peer) {
        snprintf(path, sizeof path, "/loam/v1/terms?payer=%llu", (unsigned long long)payer);
        TRY(talk(f, &terms, p->peer, path, NULL, err));
    } else {
        if (p->server)
            snprintf(server_key, sizeof server_key, "%s", p->server);
        else
            option_str(f->node->opt, "serve.key", server_key);
        if (!*server_key) {
            s = err_set(err, LOAM_EINVAL, "who answers? --peer URL, --server KEY, or set serve.key KEY");
            goto out;
        }
        TRY(flow_pay_terms(f, &terms, payer, server_key, p->most, err));
    }
    TRY(jget_u64(&chain, terms, "chain_id", err));
    TRY(jget_u64(&server, terms, "server", err));
    TRY(jget_addr(&theirs, terms, "ledger", err));
    TRY(jget_u256(&fee, terms, "fee_wei", err));
    TRY(jget_hash(&commitment, terms, "commitment", err));
    TRY(node_chain_contract(f->node, "Ledger", &ledger, err));
    if (chain != node_chain_id(f->node) || !addr_eq(&ledger, &theirs)) {
        s = err_set(err, LOAM_ECHAIN, "the server is paid on chain %llu; this node's contracts are others", (unsigned long long)chain);
        goto out;
    }
    if (u256_cmp(fee, p->most) > 0) {
        u256_format_coin(x, fee);
        u256_format_coin(y, p->most);
        s = err_set(err, LOAM_ERANGE, "a call costs %s OPEN at account %llu; --pay allows %s", x, (unsigned long long)server, y);
        goto out;
    }
    if (!q->model) {
        s = err_set(err, LOAM_EINVAL, "a paid question names its model: --model");
        goto out;
    }
    const char *plus = strrchr(q->model, '+');
    name = plus ? plus + 1 : q->model;
    json_array_foreach(json_object_get(terms, "models"), i, m)
        if (json_is_string(json_object_get(m, "name")) && !strcmp(json_string_value(json_object_get(m, "name")), name))
            model = (uint64_t)json_integer_value(json_object_get(m, "model"));
    if (!model) {
        s = err_set(err, LOAM_ENOTFOUND, "account %llu has no model %.64s that is on the chain; only such are paid for", (unsigned long long)server, name);
        goto out;
    }
    TRY(reconcile(f, &sum, terms, payer, server, &who.signing, err));
    if (u256_add(&sum, sum, fee)) {
        s = err_set(err, LOAM_ERANGE, "amounts do not fit");
        goto out;
    }
    TRY(flow_unlock(f, p->key, err));
    TRY(cover(f, p->key, payer, server, sum, err));

    TRY(entropy_fill(salt.b, sizeof salt.b, err));
    TRY(entropy_fill(nonce_salt.b, sizeof nonce_salt.b, err));
    TRY(fhead(f->node, &head, &now, err));
    if (!(sampler = flow_sampler_json(&q->sampler, q->max_tokens, q->stop))) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    r.payer = payer;
    r.server = server;
    r.model = model;
    TRY(call_prompt_commitment(&r.prompt_commitment, q->messages, &salt, err));
    r.privacy = PRIVACY_PUBLIC;
    TRY(sampler_hash(&r.sampler_hash, sampler, err));
    r.max_fee = fee;
    r.nonce = nonce_of(&nonce_salt, &commitment);
    r.expiry = now + DAY;
    v.payer = payer;
    v.server = server;
    v.cumulative = sum;
    v.expiry = now + PAY_VOUCHER_DAYS * DAY;
    TRY(st_sign(f->node, &rsig, NULL, p->key, "Ledger", ST_Request, &r, err));
    TRY(st_sign(f->node, &vsig, NULL, p->key, "Ledger", ST_Voucher, &v, err));
    /* Before it goes out: what was signed once can be used against this account. */
    pair_key(key, 'p', payer, server);
    if (!(own = json_pack("{s:o*}", "cumulative", json_u256(sum)))) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    TRY(record_put(f->node, TABLE_VOUCHER, key, sizeof key, own, err));
    body = json_pack("{s:I s:s s:O s:O s:s s:o* s:o* s:o* s:o* s:o* s:o* s:o*}", "head", (json_int_t)head, "model", q->model, "messages", q->messages, "sampler", sampler, "act", lm_act_name(q->act),
                     "prompt_salt", json_hash(&salt), "nonce_salt", json_hash(&nonce_salt), "commitment", json_hash(&commitment), "request",
                     st_to_json(ST_Request, &r), "request_signature", json_sig(&rsig), "voucher", st_to_json(ST_Voucher, &v), "voucher_signature",
                     json_sig(&vsig));
    if (!body) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    if (!p->peer) {
        s = flow_pay_serve(f, out, body, q->token, q->ctx, server_key, fee, err);
        goto out;
    }
    TRY(talk(f, out, p->peer, "/loam/v1/ask", body, err));
    s = check_reply(*out, &r, &commitment, err);
    if (s) {
        json_decref(*out);
        *out = NULL;
    }
out:
    json_decref(own);
    json_decref(terms);
    json_decref(sampler);
    json_decref(body);
    return s;
}

/* ---- the API ---- */

struct api_ask {
    struct node *n;
    struct server_reply *r;
    json_t *body; /* NULL: terms */
    uint64_t payer;
};

static int http_of(enum loam_status s) {
    switch (s) {
    case LOAM_EPERM: return 402;
    case LOAM_ENOTFOUND: return 404;
    case LOAM_EBUSY:
    case LOAM_ENOMEM: return 503;
    case LOAM_EPARSE:
    case LOAM_EINVAL:
    case LOAM_ERANGE:
    case LOAM_ELIMIT:
    case LOAM_EUNSUPPORTED: return 400;
    case LOAM_ENOTBUILT: return 501;
    default: return 500;
    }
}

/* What the payer may see of an answer's record: all that concerns the call, nothing of the node. */
static json_t *shown(const json_t *rec) {
    static const char *const fields[] = {"id", "model", "adapter_hash", "text", "output_ids", "stop", "stop_reason", "tokens_in", "tokens_out", "act", "arithmetic",
                                         "seed", "seed_commitment", "output_salt", "prompt_salt", "fee_wei", "decode_us", "privacy", "request", "voucher"};
    json_t *o = json_object();
    for (size_t i = 0; o && i < sizeof fields / sizeof *fields; i++)
        if (json_object_get(rec, fields[i]))
            json_object_set(o, fields[i], json_object_get(rec, fields[i]));
    return o;
}

static enum loam_status api_run(struct job *j, void *arg, struct err *err) {
    struct api_ask *a = arg;
    struct flow f = {.node = a->n, .job = j, .name = job_flow(j)};
    struct err local = {LOAM_OK, ""}, *e = err ? err : &local;
    char key[OPTION_TEXT_MAX], coin[OPTION_TEXT_MAX];
    struct u256 fee;
    json_t *rec = NULL, *o = NULL;
    enum loam_status s;
    option_str(a->n->opt, "serve.key", key);
    s = *key ? u256_parse_coin(&fee, option_str(a->n->opt, "serve.fee", coin), e)
             : err_set(e, LOAM_ENOTFOUND, "this node answers no paid questions (its owner: set serve.key KEY)");
    if (!s && a->body) {
        if (!(s = flow_pay_serve(&f, &rec, a->body, NULL, NULL, key, fee, e)))
            o = shown(rec);
    } else if (!s)
        s = flow_pay_terms(&f, &o, a->payer, key, fee, e);
    char *text = s ? NULL : o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (s)
        api_error(a->r, http_of(s), s, e->text);
    else if (text)
        server_send(a->r, 200, "application/json", text, strlen(text));
    else
        api_error(a->r, 500, LOAM_ENOMEM, "no memory");
    free(text);
    json_decref(o);
    json_decref(rec);
    return s;
}

static void api_end(struct job *j, void *arg, enum loam_status s, const struct err *err) {
    struct api_ask *a = arg;
    (void)j;
    (void)s;
    (void)err;
    json_decref(a->body);
    mem_free(a);
}

static void api_start(struct node *n, struct server_reply *r, json_t *body, uint64_t payer, const char *title) {
    struct api_ask *a = mem_zalloc(sizeof *a);
    struct err e;
    uint64_t id;
    if (!a) {
        json_decref(body);
        api_error(r, 503, LOAM_ENOMEM, "no memory");
        return;
    }
    *a = (struct api_ask){n, r, body, payer};
    struct job_def def = {.title = title, .run = api_run, .end = api_end, .arg = a};
    if (job_start(n, &id, &def, &e)) {
        json_decref(body);
        mem_free(a);
        api_error(r, 503, LOAM_EBUSY, e.text);
    }
}

static void terms_route(const struct server_request *q, struct server_reply *r) {
    char t[32];
    struct u256 v;
    if (!server_query(t, sizeof t, q, "payer") || u256_parse(&v, t, NULL) || !u256_fits_u64(v)) {
        api_error(r, 400, LOAM_EINVAL, "terms?payer=ACCOUNT: the payer's account number is missing");
        return;
    }
    api_start(q->arg, r, NULL, v.w[0], "api terms");
}

static void ask_route(const struct server_request *q, struct server_reply *r) {
    json_error_t je;
    json_t *o = q->body_len <= PAY_REPLY_MAX ? json_loadb((const char *)q->body, q->body_len, JSON_REJECT_DUPLICATES, &je) : NULL;
    if (!json_is_object(o)) {
        json_decref(o);
        api_error(r, 400, LOAM_EPARSE, "the question is no JSON object of at most 16 MiB");
        return;
    }
    api_start(q->arg, r, o, 0, "api paid ask");
}

enum loam_status flow_pay_routes(struct node *n, struct err *err) {
    enum loam_status s = api_route(n, "GET", "/loam/v1/terms", terms_route, n, err);
    return s ? s : api_route(n, "POST", "/loam/v1/ask", ask_route, n, err);
}

/* ---- escrow ---- */

enum loam_status flow_escrow_show(struct flow *f, json_t **out, uint64_t account, struct err *err) {
    struct held h;
    enum loam_status s;
    *out = NULL;
    if ((s = held_read(f->node, &h, account, 0, err)))
        return s;
    *out = json_pack("{s:I s:o* s:o* s:I}", "account", (json_int_t)account, "escrow_wei", json_u256(h.escrow), "withdrawal_wei", json_u256(h.leaving), "ready_at",
                     (json_int_t)h.ready_at);
    return *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
}

static enum loam_status escrow_send(struct flow *f, json_t **out, uint64_t account, const struct fcall *c, const struct abi_value *items, size_t n, struct err *err) {
    struct outbox_result res = {0};
    struct hash32 tx;
    enum loam_status s = fsend(f, &res, c, items, n, err);
    tx = res.tx;
    outbox_result_clear(&res);
    if (!s && !(s = flow_escrow_show(f, out, account, err)))
        s = jset(*out, "tx", json_hash(&tx), err);
    return s;
}

enum loam_status flow_escrow_deposit(struct flow *f, json_t **out, const char *key, uint64_t account, struct u256 wei, struct err *err) {
    struct account_info a;
    char coin[U256_DEC_MAX + 2];
    enum loam_status s;
    *out = NULL;
    if (u256_is_zero(wei))
        return err_set(err, LOAM_EINVAL, "nothing to deposit");
    u256_format_coin(coin, wei);
    if ((s = account_read(f->node, &a, account, err)) || (s = flow_unlock(f, key, err)) ||
        (s = flow_confirm(f, err, "Put %s OPEN into the escrow of account %llu on chain %llu from key %s?", coin, (unsigned long long)account,
                          (unsigned long long)node_chain_id(f->node), key)))
        return s;
    struct fcall c = {.step = "escrow", .from = key, .contract = "Ledger", .value = wei, .sig = "deposit(uint64)", .what = "deposit into escrow"};
    return escrow_send(f, out, account, &c, ABI(abi_u64(account)), err);
}

enum loam_status flow_escrow_request(struct flow *f, json_t **out, const char *key, struct u256 wei, struct err *err) {
    uint64_t account;
    struct held h;
    char coin[U256_DEC_MAX + 2], have[U256_DEC_MAX + 2];
    enum loam_status s;
    *out = NULL;
    u256_format_coin(coin, wei);
    if ((s = account_of_key(f->node, &account, key, err)) || (s = held_read(f->node, &h, account, 0, err)))
        return s;
    if (u256_cmp(wei, h.escrow) > 0) {
        u256_format_coin(have, h.escrow);
        return err_set(err, LOAM_EFUNDS, "account %llu has %s OPEN in escrow, not %s", (unsigned long long)account, have, coin);
    }
    if ((s = flow_unlock(f, key, err)) || (s = flow_confirm(f, err, "Announce that %s OPEN leave the escrow of account %llu, with key %s (gas only)?", coin,
                                                             (unsigned long long)account, key)))
        return s;
    struct fcall c = {.step = "request", .from = key, .contract = "Ledger", .sig = "requestWithdrawal(uint64,uint256)", .what = "request of a withdrawal"};
    return escrow_send(f, out, account, &c, ABI(abi_u64(account), abi_u256(wei)), err);
}

enum loam_status flow_escrow_withdraw(struct flow *f, json_t **out, const char *key, struct err *err) {
    uint64_t account, now;
    struct held h;
    enum loam_status s;
    *out = NULL;
    if ((s = account_of_key(f->node, &account, key, err)) || (s = held_read(f->node, &h, account, 0, err)) || (s = fhead(f->node, NULL, &now, err)))
        return s;
    if (u256_is_zero(h.leaving))
        return err_set(err, LOAM_ESTATE, "no withdrawal was requested; escrow request AMOUNT");
    if (now < h.ready_at)
        return err_set(err, LOAM_ESTATE, "the withdrawal is ready in %llu s", (unsigned long long)(h.ready_at - now));
    if ((s = flow_unlock(f, key, err)) || (s = flow_confirm(f, err, "Pay the requested withdrawal to the payout address of account %llu (gas from key %s)?",
                                                             (unsigned long long)account, key)))
        return s;
    struct fcall c = {.step = "withdraw", .from = key, .contract = "Ledger", .sig = "withdraw(uint64)", .what = "withdrawal from escrow"};
    return escrow_send(f, out, account, &c, ABI(abi_u64(account)), err);
}
