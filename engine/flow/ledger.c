#include "flow/ledger.h"

#include "base/mem.h"
#include "net/chain.h"
#include "node/chain.h"

#include "base/banned.h"

static const char *const state_names[] = {"none", "posted", "drawn", "settled", "voided", "slashed"};
const char *batch_state_name(enum batch_state s) { return (unsigned)s < sizeof state_names / sizeof *state_names ? state_names[s] : "?"; }

uint64_t entry_count_max(void) { return RECORDS_MAX; }

enum loam_status batch_count(struct node *n, uint64_t *out, struct err *err) {
    return fslot_u64(n, out, "Ledger", slot_of(SLOT_LEDGER_BATCH_COUNT), 0, 8, err);
}

#define FIELD(w, M) word_u64(&(w), AT_LEDGER_ENTRY_##M, SIZE_LEDGER_ENTRY_##M)

enum loam_status entry_read(struct node *n, struct entry *e, uint64_t batch, struct err *err) {
    struct slotref b = slot_u64(slot_of(SLOT_LEDGER_ENTRIES), batch);
    const struct slotref at[] = {slot_plus(b, WORD_LEDGER_ENTRY_STATEMENT), slot_plus(b, WORD_LEDGER_ENTRY_POSTER),
                                 slot_plus(b, WORD_LEDGER_ENTRY_DRAW_BLOCK), slot_plus(b, WORD_LEDGER_ENTRY_TRACE_ROOT)};
    struct hash32 w[4], one, two;
    enum loam_status s;
    memset(e, 0, sizeof *e);
    if ((s = fslots(n, w, "Ledger", at, 4, err)))
        return s;
    e->statement = w[0];
    one = w[1];
    two = w[2];
    e->trace_root = w[3];
    e->id = batch;
    e->poster = FIELD(one, POSTER);
    e->state = (enum batch_state)FIELD(one, STATE);
    e->posted_at = FIELD(one, POSTED_AT);
    e->posted_block = word_u64(&one, AT_LEDGER_ENTRY_POSTED_BLOCK, SIZE_LEDGER_ENTRY_POSTED_BLOCK);
    e->draw_block = FIELD(two, DRAW_BLOCK);
    e->commit_end = FIELD(two, COMMIT_END);
    e->reveal_end = FIELD(two, REVEAL_END);
    e->drawn = FIELD(two, DRAWN);
    e->committed = FIELD(two, COMMITTED);
    e->revealed = FIELD(two, REVEALED);
    e->trace_open = FIELD(two, TRACE_OPEN) != 0;
    if (e->state == BATCH_NONE)
        return err_set(err, LOAM_ENOTFOUND, "no batch %llu on this chain", (unsigned long long)batch);
    return LOAM_OK;
}

enum loam_status ledger_parameter(struct flow *f, struct u256 *out, const char *name, struct err *err) {
    char sig[64];
    struct buf data = BUF_INIT(64);
    struct addr20 a;
    uint8_t *ret = NULL;
    size_t n = 0;
    struct abi_doc d = {0};
    enum loam_status s;
    snprintf(sig, sizeof sig, "%s()", name);
    TRY(node_chain_contract(f->node, "Ledger", &a, err));
    TRY(abi_call(&data, sig, ABI_NONE, err));
    TRY(outbox_call(f->node, &ret, &n, &a, data.data, data.len, err));
    TRY(abi_decode(&d, "(uint256)", ret, n, err));
    s = abi_get_u256(out, &d.item[0], err);
out:
    abi_clear(&d);
    buf_clear(&data);
    mem_free(ret);
    return s;
}

bool entry_commits_closed(const struct entry *e, uint64_t now) {
    return e->state == BATCH_DRAWN && (e->committed == e->drawn || now > e->commit_end);
}

enum loam_status seat_read(struct node *n, struct seat *out, uint64_t batch, uint64_t validator, struct err *err) {
    struct slotref b = slot_u64(slot_u64(slot_of(SLOT_LEDGER_SEATS), batch), validator);
    const struct slotref at[] = {slot_plus(b, WORD_LEDGER_SEAT_WEIGHT), slot_plus(b, WORD_LEDGER_SEAT_COMMITMENT),
                                 slot_plus(b, WORD_LEDGER_SEAT_TRACE_ROOT), slot_plus(b, WORD_LEDGER_SEAT_VERDICT)};
    struct hash32 w[4];
    enum loam_status s;
    if ((s = fslots(n, w, "Ledger", at, 4, err)))
        return s;
    out->weight = u256_from_be(w[0].b);
    out->commitment = w[1];
    out->trace_root = w[2];
    out->verdict = (unsigned)word_u64(&w[3], AT_LEDGER_SEAT_VERDICT, SIZE_LEDGER_SEAT_VERDICT);
    return LOAM_OK;
}

enum loam_status pot_read(struct node *n, struct pot *out, uint64_t poster, struct err *err) {
    struct slotref b = slot_u64(slot_of(SLOT_REWARDS_POTS), poster);
    const struct slotref at[] = {slot_plus(b, WORD_REWARDS_POT_SETTLED), slot_plus(b, WORD_REWARDS_POT_CLAIMED),
                                 slot_plus(b, WORD_REWARDS_POT_PAYOUT_ROOT), slot_plus(b, WORD_REWARDS_POT_CLAIM_ROOT)};
    struct hash32 w[4];
    enum loam_status s;
    if ((s = fslots(n, w, "Rewards", at, 4, err)))
        return s;
    out->settled = u256_from_be(w[0].b);
    out->claimed = u256_from_be(w[1].b);
    out->payout_root = w[2];
    out->claim_root = w[3];
    return LOAM_OK;
}

enum loam_status paid_read(struct node *n, struct u256 *out, uint64_t poster, uint64_t account, struct err *err) {
    return fslot_u256(n, out, "Rewards", slot_u64(slot_u64(slot_of(SLOT_REWARDS_PAID), poster), account), err);
}

enum loam_status st_from_abi(void *out, char **strings, enum st_id id, const struct abi_value *v, struct err *err) {
    const struct st_def *d = st_def(id);
    struct buf b = BUF_INIT(1u << 20);
    size_t at[ST_FIELDS_MAX] = {0};
    enum loam_status s = LOAM_OK;
    memset(out, 0, d->size);
    *strings = NULL;
    if (!v || v->kind != ABI_TUPLE || v->n != d->count)
        return err_set(err, LOAM_EPARSE, "no %s where one should be", d->name);
    for (size_t i = 0; i < d->count; i++) {
        const struct abi_value *x = &v->item[i];
        void *p = (char *)out + d->fields[i].offset;
        uint64_t n = 0;
        struct u256 u;
        const uint8_t *t;
        size_t len;
        switch (d->fields[i].kind) {
        case ST_address: TRY(abi_get_addr(p, x, err)); break;
        case ST_bytes32: TRY(abi_get_b32(p, x, err)); break;
        case ST_uint8:
            TRY(abi_get_u64(&n, x, err));
            *(uint8_t *)p = (uint8_t)n;
            break;
        case ST_uint32:
            TRY(abi_get_u64(&n, x, err));
            *(uint32_t *)p = (uint32_t)n;
            break;
        case ST_uint64: TRY(abi_get_u64(p, x, err)); break;
        case ST_uint256:
        case ST_int256:
            TRY(abi_get_u256(&u, x, err));
            *(struct u256 *)p = u;
            break;
        case ST_string:
            TRY(abi_get_bytes(&t, &len, x, err));
            if (len > ST_STRING_MAX || memchr(t, 0, len)) {
                s = err_set(err, LOAM_EPARSE, "%s.%s is no text", d->name, d->fields[i].name);
                goto out;
            }
            at[i] = b.len;
            TRY(buf_add(&b, t, len, err));
            TRY(buf_byte(&b, 0, err));
            break;
        }
    }
    *strings = (char *)buf_take(&b, &(size_t){0});
    for (size_t i = 0; i < d->count; i++)
        if (d->fields[i].kind == ST_string)
            *(const char **)((char *)out + d->fields[i].offset) = *strings + at[i];
out:
    buf_clear(&b);
    return s;
}

void sig_expand(char out[SIG_TEXT_MAX], const char *sig, const enum st_id *ids, int count) {
    size_t at = 0;
    int next = 0;
    for (const char *p = sig; *p;) {
        if (p[0] == '%' && p[1] == 'T') {
            LOAM_ASSERT(next < count);
            st_types(out + at, SIG_TEXT_MAX - at, ids[next++]);
            at += strlen(out + at);
            p += 2;
        } else {
            LOAM_ASSERT(at + 1 < SIG_TEXT_MAX);
            out[at++] = *p++;
        }
    }
    out[at] = 0;
}

struct events {
    const char *sig;
    event_fn fn;
    void *arg;
};

static enum loam_status one_event(void *arg, const struct log *l, struct err *err) {
    struct events *x = arg;
    struct abi_doc ev = {0};
    enum loam_status s = abi_event(&ev, x->sig, l->topics, l->topic_count, l->data, l->data_len, err);
    if (!s)
        s = x->fn(x->arg, &ev, l, err);
    abi_clear(&ev);
    return s;
}

enum loam_status fevents(struct flow *f, const char *contract, const char *sig, const enum st_id *ids, uint64_t from, uint64_t to, event_fn fn,
                         void *arg, struct err *err) {
    char full[SIG_TEXT_MAX];
    struct addr20 a;
    struct hash32 topic;
    struct events x = {full, fn, arg};
    enum loam_status s;
    int count = 0;
    for (const char *p = sig; (p = strstr(p, "%T")); p += 2)
        count++;
    sig_expand(full, sig, ids, count);
    if ((s = node_chain_contract(f->node, contract, &a, err)) || (s = abi_hash(&topic, full, err)) ||
        (to == UINT64_MAX && (s = fhead(f->node, &to, NULL, err))))
        return s;
    struct chain_filter flt = {&a, 1, &topic, 1};
    return chain_logs(node_chain_light(f->node), from, to, &flt, one_event, &x, err);
}

struct find {
    uint64_t id;
    enum st_id st;
    const char *field;
    void *out;
    json_t *json;
    struct hash32 tx, hash;
    bool found;
};

static enum loam_status find_one(void *arg, struct abi_doc *ev, const struct log *l, struct err *err) {
    struct find *x = arg;
    char *strings = NULL;
    uint64_t id;
    enum loam_status s;
    if ((s = abi_get_u64(&id, &ev->item[0], err)))
        return s;
    if (id != x->id)
        return LOAM_OK;
    if ((s = st_from_abi(x->out, &strings, x->st, abi_field(ev, x->field), err)))
        return s;
    x->hash = st_hash(x->st, x->out);
    json_decref(x->json);
    x->json = st_to_json(x->st, x->out);
    mem_free(strings);
    if (!x->json)
        return err_set(err, LOAM_ENOMEM, "no memory");
    x->tx = l->tx_hash;
    x->found = true;
    return st_from_json(x->out, x->st, x->json, err);
}

enum loam_status posted_read(struct flow *f, struct st_batch *b, json_t **json, struct hash32 *tx, const struct entry *e, struct err *err) {
    struct find x = {.id = e->id, .st = ST_Batch, .field = "b", .out = b};
    enum st_id ids[] = {ST_Batch};
    enum loam_status s = fevents(f, "Ledger", "BatchPosted(uint64 indexed batch, uint64 indexed poster, bytes32 statement, uint256 bond, %T b)",
                                 ids, e->posted_block, e->posted_block, find_one, &x, err);
    *json = x.json;
    if (!s && (!x.found || !hash_eq(&x.hash, &e->statement)))
        s = err_set(err, LOAM_EVERIFY, "the posted statement of batch %llu is not the one the contract keeps", (unsigned long long)e->id);
    if (s) {
        json_decref(x.json);
        *json = NULL;
    } else if (tx)
        *tx = x.tx;
    return s;
}

enum loam_status training_read(struct flow *f, struct st_training *t, json_t **json, struct hash32 *data_root, uint64_t model, struct err *err) {
    struct find x = {.id = model, .st = ST_Training, .field = "statement", .out = t};
    enum st_id ids[] = {ST_Training};
    struct slotref m = slot_u64(slot_of(SLOT_MODELS_MODELS), model);
    const struct slotref at[] = {slot_plus(m, WORD_MODELS_MODEL_TRAINING), slot_plus(m, WORD_MODELS_MODEL_DATA_ROOT)};
    struct hash32 w[2], want;
    enum loam_status s;
    *json = NULL;
    if ((s = fslots(f->node, w, "Models", at, 2, err)))
        return s;
    want = w[0];
    if (hash_is_zero(&want))
        return err_set(err, LOAM_ENOTFOUND, "model %llu is not published on this chain", (unsigned long long)model);
    if (data_root)
        *data_root = w[1];
    s = fevents(f, "Models", "Published(uint64 indexed model, uint64 indexed trainer, bytes32 training, %T statement)", ids, fdeploy_block(f->node),
                UINT64_MAX, find_one, &x, err);
    *json = x.json;
    if (!s && (!x.found || !hash_eq(&x.hash, &want)))
        s = err_set(err, LOAM_EVERIFY, "the published training of model %llu is not the one the contract keeps", (unsigned long long)model);
    if (s) {
        json_decref(x.json);
        *json = NULL;
    }
    return s;
}
