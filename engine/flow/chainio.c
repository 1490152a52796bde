#include "flow/chainio.h"

#include "base/entropy.h"
#include "base/mem.h"
#include "flow/ledger.h"
#include "net/chain.h"
#include "node/chain.h"
#include "node/job.h"
#include "node/keys.h"
#include "record/sign.h"

#include <stdio.h>

#include "base/banned.h"

/* ---- statements ---- */

struct abi_value st_abi(struct abi_value items[ST_FIELDS_MAX], enum st_id id, const void *s) {
    const struct st_def *d = st_def(id);
    for (size_t i = 0; i < d->count; i++) {
        const void *p = (const char *)s + d->fields[i].offset;
        switch (d->fields[i].kind) {
        case ST_address: items[i] = abi_addr(p); break;
        case ST_bytes32: items[i] = abi_b32(p); break;
        case ST_uint8: items[i] = abi_u64(*(const uint8_t *)p); break;
        case ST_uint32: items[i] = abi_u64(*(const uint32_t *)p); break;
        case ST_uint64: items[i] = abi_u64(*(const uint64_t *)p); break;
        case ST_uint256:
        case ST_int256: items[i] = abi_u256(*(const struct u256 *)p); break;
        case ST_string: {
            const char *t = *(const char *const *)p;
            items[i] = abi_str(t ? t : "");
            break;
        }
        }
    }
    return abi_tuple(items, d->count);
}

void st_types(char *out, size_t cap, enum st_id id) {
    const struct st_def *d = st_def(id);
    size_t at = 0;
    for (size_t i = 0; i < d->count; i++) {
        int n = snprintf(out + at, cap - at, "%c%s", i ? ',' : '(', d->fields[i].type);
        LOAM_ASSERT(n > 0 && (size_t)n < cap - at);
        at += (size_t)n;
    }
    LOAM_ASSERT(at + 2 <= cap);
    out[at] = ')';
    out[at + 1] = 0;
}

json_t *st_to_json(enum st_id id, const void *s) {
    struct buf b = BUF_INIT(1u << 20);
    json_t *o = NULL;
    if (!st_json(&b, id, s, NULL))
        o = json_loadb((const char *)b.data, b.len, 0, NULL);
    buf_clear(&b);
    return o;
}

enum loam_status st_from_json(void *out, enum st_id id, const json_t *o, struct err *err) {
    const struct st_def *d = st_def(id);
    enum loam_status s = LOAM_OK;
    memset(out, 0, d->size);
    if (!json_is_object(o))
        return err_set(err, LOAM_EPARSE, "a %s is an object", d->name);
    if (json_object_size(o) != d->count)
        return err_set(err, LOAM_EPARSE, "a %s has %zu fields, not %zu", d->name, d->count, json_object_size(o));
    for (size_t i = 0; i < d->count && !s; i++) {
        const struct st_field *f = &d->fields[i];
        void *p = (char *)out + f->offset;
        uint64_t v = 0;
        const char *t;
        switch (f->kind) {
        case ST_address: s = jget_addr(p, o, f->name, err); break;
        case ST_bytes32: s = jget_hash(p, o, f->name, err); break;
        case ST_uint8:
        case ST_uint32:
        case ST_uint64:
            if ((s = jget_u64(&v, o, f->name, err)))
                break;
            if ((f->kind == ST_uint8 && v > UINT8_MAX) || (f->kind == ST_uint32 && v > UINT32_MAX))
                s = err_set(err, LOAM_ERANGE, "%s.%s is too large", d->name, f->name);
            else if (f->kind == ST_uint8)
                *(uint8_t *)p = (uint8_t)v;
            else if (f->kind == ST_uint32)
                *(uint32_t *)p = (uint32_t)v;
            else
                *(uint64_t *)p = v;
            break;
        case ST_uint256: s = jget_u256(p, o, f->name, err); break;
        case ST_int256:
            if (!(s = jget_str(&t, o, f->name, err)))
                s = i256_parse(p, t, err);
            break;
        case ST_string:
            if (!(s = jget_str(&t, o, f->name, err)))
                *(const char **)p = t;
            break;
        }
    }
    return s ? err_prefix(err, s, "%s", d->name) : LOAM_OK;
}

static enum loam_status digest(struct node *n, struct hash32 *out, struct hash32 *hash, const char *contract, enum st_id id,
                               const void *s, struct err *err) {
    struct addr20 a;
    struct hash32 domain, h;
    enum loam_status r;
    if ((r = node_chain_contract(n, contract, &a, err)))
        return r;
    domain = st_domain(node_chain_id(n), &a);
    h = st_hash(id, s);
    *out = st_digest(&domain, &h);
    if (hash)
        *hash = h;
    return LOAM_OK;
}

enum loam_status st_sign(struct node *n, struct sig65 *sig, struct hash32 *hash, const char *key, const char *contract, enum st_id id,
                         const void *s, struct err *err) {
    struct hash32 d;
    enum loam_status r;
    if ((r = digest(n, &d, hash, contract, id, s, err)) || (r = keys_sign(n, key, &d, sig->b, err)))
        return r;
    if (sig->b[64] < 27)
        sig->b[64] = (uint8_t)(sig->b[64] + 27); /* the contracts and OpenZeppelin want 27 or 28 */
    return LOAM_OK;
}

enum loam_status st_check(struct node *n, const struct addr20 *signer, const char *contract, enum st_id id, const void *s,
                          const struct sig65 *sig, struct err *err) {
    struct hash32 d;
    enum loam_status r;
    if ((r = digest(n, &d, NULL, contract, id, s, err)))
        return r;
    if ((r = sig_check(signer, &d, sig, err)))
        return err_prefix(err, r, "%s", st_def(id)->name);
    return LOAM_OK;
}

enum loam_status st_nonce(struct u256 *out, struct err *err) {
    uint8_t b[32] = {0};
    enum loam_status s;
    if ((s = entropy_fill(b + 16, 16, err)))
        return s;
    *out = u256_from_be(b);
    return LOAM_OK;
}

enum loam_status st_expiry(struct node *n, uint64_t seconds, uint64_t *out, struct err *err) {
    uint64_t now;
    enum loam_status s;
    if ((s = fhead(n, NULL, &now, err)))
        return s;
    *out = now + seconds;
    return LOAM_OK;
}

/* ---- calls ---- */

enum loam_status fsend(struct flow *f, struct outbox_result *out, const struct fcall *c, const struct abi_value *items, size_t n,
                       struct err *err) {
    char sig[SIG_TEXT_MAX], key[OUTBOX_KEY_MAX];
    struct addr20 to;
    struct buf data = BUF_INIT(OUTBOX_DATA_MAX);
    enum loam_status s;
    memset(out, 0, sizeof *out);
    sig_expand(sig, c->sig, c->ids, c->id_count);
    int k = snprintf(key, sizeof key, "%s/%s", f->name, c->step);
    if (k < 0 || (size_t)k >= sizeof key)
        return err_set(err, LOAM_ELIMIT, "flow name %s is too long", f->name);
    TRY(flow_check(f, err));
    TRY(node_chain_contract(f->node, c->contract, &to, err));
    TRY(abi_call(&data, sig, items, n, err));
    TRY(flow_unlock(f, c->from, err));
    struct outbox_tx tx = {.from = c->from, .to = &to, .value = c->value, .data = data.data, .len = data.len, .what = c->what};
    flow_progress(f, 0, 0, "%s: waiting for its receipt", c->what);
    TRY(outbox_send(f->node, out, key, &tx, f->job, err));
out:
    buf_clear(&data);
    if (s && s != LOAM_ECANCEL)
        (void)err_prefix(err, s, "%s", c->what);
    return s;
}

enum loam_status fevent(struct node *n, struct abi_doc *out, const struct outbox_result *r, const char *contract, const char *sig,
                        struct err *err) {
    struct addr20 a;
    struct hash32 topic;
    enum loam_status s;
    if ((s = node_chain_contract(n, contract, &a, err)) || (s = abi_hash(&topic, sig, err)))
        return s;
    for (size_t i = 0; i < r->log_count; i++) {
        const struct outbox_log *l = &r->logs[i];
        if (addr_eq(&l->address, &a) && l->topic_count && hash_eq(&l->topics[0], &topic))
            return abi_event(out, sig, l->topics, l->topic_count, l->data, l->len, err);
    }
    return err_set(err, LOAM_ENOTFOUND, "%s did not emit %.*s", contract, (int)strcspn(sig, "("), sig);
}

/* ---- slots ---- */

static void add_words(struct hash32 *h, uint64_t words) {
    struct u256 v = u256_from_be(h->b);
    (void)u256_add(&v, v, u256_from(words)); /* slots wrap round as in the EVM */
    u256_to_be(h->b, v);
}

struct slotref slot_of(uint64_t slot) {
    struct slotref r = {{{0}}};
    put_be64(r.slot.b + 24, slot);
    return r;
}

struct slotref slot_hash(struct slotref mapping, const struct hash32 *key) {
    uint8_t b[64];
    memcpy(b, key->b, 32);
    memcpy(b + 32, mapping.slot.b, 32);
    return (struct slotref){hash_of(b, sizeof b)};
}

struct slotref slot_u64(struct slotref mapping, uint64_t key) {
    struct hash32 k = {{0}};
    put_be64(k.b + 24, key);
    return slot_hash(mapping, &k);
}

struct slotref slot_addr(struct slotref mapping, const struct addr20 *key) {
    struct hash32 k = {{0}};
    memcpy(k.b + 12, key->b, 20);
    return slot_hash(mapping, &k);
}

struct slotref slot_plus(struct slotref s, uint64_t words) {
    add_words(&s.slot, words);
    return s;
}

struct slotref slot_item(struct slotref array, uint64_t index, unsigned bytes) {
    struct slotref r = {hash_of(array.slot.b, 32)};
    add_words(&r.slot, index / (32 / bytes));
    return r;
}

enum loam_status fslots(struct node *n, struct hash32 *out, const char *contract, const struct slotref *refs, size_t count, struct err *err) {
    struct addr20 a;
    struct hash32 slots[SLOTS_MAX];
    enum loam_status s;
    LOAM_ASSERT(count <= SLOTS_MAX);
    for (size_t i = 0; i < count; i++)
        slots[i] = refs[i].slot;
    if ((s = node_chain_contract(n, contract, &a, err)))
        return s;
    return node_chain_storage(n, out, &a, slots, count, err);
}

enum loam_status fslot(struct node *n, struct hash32 *out, const char *contract, struct slotref ref, struct err *err) {
    return fslots(n, out, contract, &ref, 1, err);
}

enum loam_status fslot_u256(struct node *n, struct u256 *out, const char *contract, struct slotref ref, struct err *err) {
    struct hash32 w;
    enum loam_status s;
    if ((s = fslot(n, &w, contract, ref, err)))
        return s;
    *out = u256_from_be(w.b);
    return LOAM_OK;
}

uint64_t word_u64(const struct hash32 *w, unsigned at, unsigned size) {
    uint64_t v = 0;
    LOAM_ASSERT(size <= 8 && at + size <= 32);
    for (unsigned i = 0; i < size; i++)
        v = v << 8 | w->b[32 - at - size + i];
    return v;
}

struct addr20 word_addr(const struct hash32 *w, unsigned at) {
    struct addr20 a;
    LOAM_ASSERT(at + 20 <= 32);
    memcpy(a.b, w->b + 12 - at, 20);
    return a;
}

enum loam_status fslot_u64(struct node *n, uint64_t *out, const char *contract, struct slotref ref, unsigned at, unsigned size,
                           struct err *err) {
    struct hash32 w;
    enum loam_status s;
    if ((s = fslot(n, &w, contract, ref, err)))
        return s;
    *out = word_u64(&w, at, size);
    return LOAM_OK;
}

/* ---- accounts ---- */

enum loam_status account_read(struct node *n, struct account_info *out, uint64_t id, struct err *err) {
    struct slotref base = slot_u64(slot_of(SLOT_ACCOUNTS_ACCOUNTS), id);
    const struct slotref at[] = {slot_plus(base, WORD_ACCOUNTS_ACCOUNT_SIGNING), slot_plus(base, WORD_ACCOUNTS_ACCOUNT_PAYOUT),
                                 slot_plus(base, WORD_ACCOUNTS_ACCOUNT_RECOVERY)};
    struct hash32 w[3];
    enum loam_status s;
    if ((s = fslots(n, w, "Accounts", at, 3, err)))
        return s;
    out->id = id;
    out->signing = word_addr(&w[0], AT_ACCOUNTS_ACCOUNT_SIGNING);
    out->payout = word_addr(&w[1], AT_ACCOUNTS_ACCOUNT_PAYOUT);
    out->recovery = word_addr(&w[2], AT_ACCOUNTS_ACCOUNT_RECOVERY);
    if (addr_is_zero(&out->payout))
        return err_set(err, LOAM_ENOTFOUND, "no account %llu is registered", (unsigned long long)id);
    return LOAM_OK;
}

enum loam_status account_of_addr(struct node *n, uint64_t *out, const struct addr20 *a, struct err *err) {
    char hex[ADDR_HEX_MAX];
    enum loam_status s;
    if ((s = fslot_u64(n, out, "Accounts", slot_addr(slot_of(SLOT_ACCOUNTS_ID_OF), a), 0, 8, err)))
        return s;
    if (*out == 0)
        return err_set(err, LOAM_ENOTFOUND, "%s signs for no account; register one: account register KEY", addr_hex(hex, a));
    return LOAM_OK;
}

enum loam_status account_of_key(struct node *n, uint64_t *out, const char *key, struct err *err) {
    struct addr20 a;
    enum loam_status s;
    if ((s = keys_address(n, key, &a, err)))
        return s;
    if ((s = account_of_addr(n, out, &a, err)))
        return err_prefix(err, s, "key %s", key);
    return LOAM_OK;
}

enum loam_status account_named(struct node *n, uint64_t *out, const char *word, struct err *err) {
    struct u256 v;
    if (word[0] >= '0' && word[0] <= '9' && !u256_parse(&v, word, NULL) && u256_fits_u64(v)) {
        *out = v.w[0];
        return LOAM_OK;
    }
    return account_of_key(n, out, word, err);
}

/* ---- head ---- */

enum loam_status fhead(struct node *n, uint64_t *number, uint64_t *time, struct err *err) {
    struct chain *c = node_chain_light(n);
    struct chain_head h;
    enum loam_status s;
    if (!c)
        return err_set(err, LOAM_ESTATE, "no chain is configured");
    if ((s = chain_head(c, &h, err)))
        return s;
    if (number)
        *number = h.h.number;
    if (time)
        *time = h.h.timestamp;
    return LOAM_OK;
}

#define WAIT_STEP_MS 250

enum loam_status fwait_block(struct flow *f, uint64_t number, struct err *err) {
    uint64_t at;
    enum loam_status s;
    for (;;) {
        if ((s = fhead(f->node, &at, NULL, err)))
            return s;
        if (at > number)
            return LOAM_OK;
        flow_progress(f, at, number + 1, "waiting for block %llu", (unsigned long long)number + 1);
        if ((s = flow_sleep(f, WAIT_STEP_MS, err)))
            return s;
    }
}

enum loam_status fwait_time(struct flow *f, uint64_t second, struct err *err) {
    uint64_t now;
    enum loam_status s;
    for (;;) {
        if ((s = fhead(f->node, NULL, &now, err)))
            return s;
        if (now > second)
            return LOAM_OK;
        flow_progress(f, 0, second + 1 - now, "waiting %llu s of the chain's time", (unsigned long long)(second + 1 - now));
        if ((s = flow_sleep(f, WAIT_STEP_MS, err)))
            return s;
    }
}

uint64_t fdeploy_block(struct node *n) {
    json_t *o;
    uint64_t v = 0;
    if (!record_get(n, TABLE_CACHE, "deploy-block", 12, &o, NULL)) {
        v = (uint64_t)json_integer_value(json_object_get(o, "block"));
        json_decref(o);
    }
    return v;
}
