#include "flow/claim.h"

#include "flow/board.h"
#include "flow/ledger.h"
#include "flow/settle.h"
#include "net/chain.h"
#include "node/chain.h"
#include "node/keys.h"
#include "record/claims.h"

#include "base/banned.h"

#define EV_CLAIMED "Claimed(uint64 indexed poster, uint64 indexed account, address to, uint256 amount, uint256 cumulative)"

static enum loam_status balance_at(struct flow *f, struct u256 *out, const struct addr20 *a, uint64_t block, struct err *err) {
    struct chain *c = node_chain_light(f->node);
    struct header h;
    struct account acc;
    enum loam_status s;
    if ((s = chain_header(c, &h, block, err)) || (s = chain_account(c, &acc, a, &h, err)))
        return s;
    *out = acc.balance;
    return LOAM_OK;
}

static void claim_key(uint8_t key[48], uint64_t poster, uint64_t account, struct u256 cumulative) {
    put_be64(key, poster);
    put_be64(key + 8, account);
    u256_to_be(key + 16, cumulative);
}

static enum loam_status finish(struct flow *f, json_t **out, const struct outbox_result *res, const struct addr20 *relay, uint64_t batch, struct err *err) {
    struct abi_doc ev = {0};
    struct addr20 to;
    struct u256 amount, cumulative, before, after, risen;
    uint64_t poster, account;
    uint8_t key[48];
    char coin[U256_DEC_MAX + 2];
    enum loam_status s;
    TRY(fevent(f->node, &ev, res, "Rewards", EV_CLAIMED, err));
    TRY(abi_get_u64(&poster, abi_field(&ev, "poster"), err));
    TRY(abi_get_u64(&account, abi_field(&ev, "account"), err));
    TRY(abi_get_addr(&to, abi_field(&ev, "to"), err));
    TRY(abi_get_u256(&amount, abi_field(&ev, "amount"), err));
    TRY(abi_get_u256(&cumulative, abi_field(&ev, "cumulative"), err));
    TRY(balance_at(f, &before, &to, res->block - 1, err));
    TRY(balance_at(f, &after, &to, res->block, err));
    bool fell = u256_sub(&risen, after, before);
    bool exact = !fell && u256_cmp(risen, amount) == 0;
    if (!exact && !addr_eq(&to, relay))
        flow_note(f, "the balance did not change by the claimed amount alone: something else moved coins in block %llu", (unsigned long long)res->block);
    *out = json_pack("{s:I s:I s:o* s:o* s:o* s:o* s:o* s:b s:o* s:I s:I}", "poster", (json_int_t)poster, "account", (json_int_t)account, "to",
                     json_addr(&to), "amount_wei", json_u256(amount), "before_wei", json_u256(before), "after_wei", json_u256(after), "cumulative_wei",
                     json_u256(cumulative), "exact", exact, "tx", json_hash(&res->tx), "block", (json_int_t)res->block, "batch", (json_int_t)batch);
    if (!*out) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    struct header h;
    TRY(chain_header(node_chain_light(f->node), &h, res->block, err));
    TRY(jset(*out, "time_ms", json_integer((json_int_t)h.timestamp * 1000), err));
    claim_key(key, poster, account, cumulative);
    TRY(record_put(f->node, TABLE_CLAIM, key, sizeof key, *out, err));
    u256_format_coin(coin, amount);
    flow_note(f, "account %llu was paid %s OPEN in block %llu", (unsigned long long)account, coin, (unsigned long long)res->block);
out:
    abi_clear(&ev);
    return s;
}

enum loam_status flow_claim(struct flow *f, json_t **out, uint64_t poster, uint64_t account, const char *relay, const char *peer, struct err *err) {
    struct payouts p;
    struct claims claims = {0};
    struct tree_proof proof;
    struct abi_value it[TREE_PROOF_MAX];
    struct outbox_result res = {0};
    struct u256 paid, due;
    struct addr20 relay_addr;
    struct flow own;
    char step[128], work[64 + U256_DEC_MAX] = "";
    uint64_t batch = 0;
    const struct payout *l;
    json_t *sent = NULL;
    enum loam_status s;
    *out = NULL;
    payouts_init(&p);
    snprintf(step, sizeof step, "claim-%llu-%llu", (unsigned long long)poster, (unsigned long long)account);
    TRY(keys_address(f->node, relay, &relay_addr, err));
    TRY(poster_table(f, &p, poster, peer, &batch, err));
    l = payouts_find(&p, account);
    TRY(paid_read(f->node, &paid, poster, account, err));
    due = l ? l->cumulative : U256_ZERO;
    if (u256_sub(&due, due, paid))
        due = U256_ZERO;
    if (!u256_is_zero(due)) {
        char c[U256_DEC_MAX];
        u256_format(c, l->cumulative);
        snprintf(work, sizeof work, "claim/%llu/%llu/%s", (unsigned long long)poster, (unsigned long long)account, c);
        own = *f; /* of this claim alone: one command makes several */
        TRY(flow_own(&own, work, err));
        f = &own;
    }
    s = flow_step_get(f, step, &sent, err); /* sent before a restart: the result is fetched, not computed anew */
    if (s && s != LOAM_ENOTFOUND)
        goto out;
    if (s == LOAM_ENOTFOUND && u256_is_zero(due)) {
        *out = json_pack("{s:I s:I s:s s:o*}", "poster", (json_int_t)poster, "account", (json_int_t)account, "amount_wei", "0", "cumulative_wei", json_u256(paid));
        s = *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    if (s == LOAM_ENOTFOUND) {
        if (!(sent = json_pack("{s:o* s:I}", "cumulative", json_u256(l->cumulative), "batch", (json_int_t)batch))) {
            s = err_set(err, LOAM_ENOMEM, "no memory");
            goto out;
        }
        TRY(flow_unlock(f, relay, err));
        TRY(flow_step_make(f, step, &sent, err));
    } else {
        struct u256 cumulative;
        TRY(jget_u256(&cumulative, sent, "cumulative", err));
        if (!l || u256_cmp(cumulative, l->cumulative) != 0) {
            /* A newer batch was settled meanwhile: what was sent is found by its transaction alone. */
            char key[OUTBOX_KEY_MAX];
            snprintf(key, sizeof key, "%s/%s-send", f->name, step);
            TRY(outbox_find(f->node, &res, key, err));
            s = finish(f, out, &res, &relay_addr, batch, err);
            goto out;
        }
    }
    TRY(claims_build(&claims, &p, err));
    TRY(claims_prove(&proof, &claims, l->index, err));
    for (uint32_t i = 0; i < proof.count; i++)
        it[i] = abi_b32(&proof.sibling[i]);
    char send[160];
    snprintf(send, sizeof send, "%s-send", step);
    struct fcall c = {.step = send, .from = relay, .contract = "Rewards", .sig = "claim(uint64,uint64,uint64,uint256,uint256,bytes32[])", .what = "claim"};
    s = fsend(f, &res, &c,
              ABI(abi_u64(poster), abi_u64(l->index), abi_u64(account), abi_u256(l->prefix), abi_u256(l->cumulative), abi_array(it, proof.count)), err);
    /* Anybody may claim for anybody: where somebody did in the same moment, nothing is due any more. The block that shows it may be on its way here. */
    for (int i = 0; s == LOAM_EREVERT && i < 8; i++) {
        if (!paid_read(f->node, &paid, poster, account, NULL) && u256_cmp(paid, l->cumulative) >= 0) {
            flow_note(f, "account %llu was paid by a claim of somebody else", (unsigned long long)account);
            *out = json_pack("{s:I s:I s:s s:o*}", "poster", (json_int_t)poster, "account", (json_int_t)account, "amount_wei", "0", "cumulative_wei", json_u256(paid));
            s = *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
            goto out;
        }
        if (flow_sleep(f, 250, NULL))
            break;
    }
    if (s)
        goto out;
    s = finish(f, out, &res, &relay_addr, batch, err);
out:
    if (s == LOAM_EREVERT && *work)
        flow_disown(f, work);
    json_decref(sent);
    outbox_result_clear(&res);
    claims_clear(&claims);
    payouts_clear(&p);
    return s;
}

/* ---- rewards ---- */

static enum loam_status add_poster(void *arg, struct abi_doc *ev, const struct log *l, struct err *err) {
    json_t *list = arg, *v;
    size_t i;
    uint64_t poster;
    enum loam_status s;
    (void)l;
    if ((s = abi_get_u64(&poster, abi_field(ev, "poster"), err)))
        return s;
    json_array_foreach(list, i, v) {
        if ((uint64_t)json_integer_value(v) == poster)
            return LOAM_OK;
        if ((uint64_t)json_integer_value(v) > poster)
            break;
    }
    return json_array_insert_new(list, i, json_integer((json_int_t)poster)) ? err_set(err, LOAM_ENOMEM, "no memory") : LOAM_OK;
}

enum loam_status posters_list(struct flow *f, json_t **out, struct err *err) {
    enum loam_status s;
    if (!(*out = json_array()))
        return err_set(err, LOAM_ENOMEM, "no memory");
    s = fevents(f, "Ledger", "BatchSettled(uint64 indexed batch, uint64 indexed poster, uint256 fee)", NULL, fdeploy_block(f->node), UINT64_MAX, add_poster,
                *out, err);
    if (s) {
        json_decref(*out);
        *out = NULL;
    }
    return s;
}

static enum loam_status add_line(struct flow *f, json_t *lines, json_t *totals, uint64_t poster, const struct payout *l, struct err *err) {
    struct u256 paid, due;
    char id[24];
    json_t *o, *t;
    enum loam_status s;
    if ((s = paid_read(f->node, &paid, poster, l->account, err)))
        return s;
    if (u256_sub(&due, l->cumulative, paid))
        due = U256_ZERO;
    o = json_pack("{s:I s:o* s:o* s:o*}", "account", (json_int_t)l->account, "cumulative_wei", json_u256(l->cumulative), "paid_wei", json_u256(paid),
                  "due_wei", json_u256(due));
    if (!o || json_array_append_new(lines, o))
        return err_set(err, LOAM_ENOMEM, "no memory");
    /* Over all posters, for the console. */
    snprintf(id, sizeof id, "%llu", (unsigned long long)l->account);
    t = json_object_get(totals, id);
    if (!t) {
        struct account_info a;
        char name[KEY_NAME_MAX] = "";
        bool mine = !account_read(f->node, &a, l->account, NULL) && !keys_name(f->node, &a.signing, name, NULL);
        t = json_pack("{s:I s:s? s:s s:s s:s s:s}", "account", (json_int_t)l->account, "key", mine ? name : NULL, "earned_wei", "0", "pending_wei", "0",
                      "claimable_wei", "0", "claimed_wei", "0");
        if (!t || json_object_set_new(totals, id, t))
            return err_set(err, LOAM_ENOMEM, "no memory");
    }
    struct {
        const char *field;
        struct u256 add;
    } const add[] = {{"earned_wei", l->cumulative}, {"claimable_wei", due}, {"claimed_wei", paid}};
    for (size_t i = 0; i < sizeof add / sizeof *add; i++) {
        struct u256 v;
        if ((s = jget_u256(&v, t, add[i].field, err)))
            return s;
        if (u256_add(&v, v, add[i].add))
            return err_set(err, LOAM_ERANGE, "amounts do not fit");
        if ((s = jset(t, add[i].field, json_u256(v), err)))
            return s;
    }
    return LOAM_OK;
}

enum loam_status flow_rewards(struct flow *f, json_t **out, uint64_t account, bool all, const char *peer, struct err *err) {
    json_t *posters = NULL, *v, *list = json_array(), *totals = json_object(), *accounts;
    const char *k;
    size_t i;
    enum loam_status s = LOAM_OK;
    *out = NULL;
    if (!list || !totals) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    TRY(posters_list(f, &posters, err));
    json_array_foreach(posters, i, v) {
        uint64_t poster = (uint64_t)json_integer_value(v);
        struct payouts p;
        struct pot pot;
        json_t *lines = json_array();
        if (!(s = pot_read(f->node, &pot, poster, err)))
            s = poster_table(f, &p, poster, peer, NULL, err);
        if (s == LOAM_ENOTFOUND && !peer) { /* the bytes are elsewhere: the totals are proven all the same */
            flow_note(f, "the payouts of account %llu are not in this node; --peer names one that has them", (unsigned long long)poster);
            payouts_init(&p);
            s = LOAM_OK;
        }
        for (size_t l = 0; !s && l < p.count; l++)
            if (all || p.line[l].account == account)
                s = add_line(f, lines, totals, poster, &p.line[l], err);
        if (!s) {
            payouts_clear(&p);
            json_t *o = json_pack("{s:I s:o* s:o* s:O}", "poster", (json_int_t)poster, "settled_wei", json_u256(pot.settled), "claimed_wei",
                                  json_u256(pot.claimed), "lines", lines);
            if (!o || json_array_append_new(list, o))
                s = err_set(err, LOAM_ENOMEM, "no memory");
        }
        json_decref(lines);
        if (s)
            goto out;
    }
    if (all && (accounts = json_array())) {
        json_object_foreach(totals, k, v)
            json_array_append(accounts, v);
        board_rewards(f, accounts);
        json_decref(accounts);
    }
    *out = json_incref(list);
out:
    json_decref(totals);
    json_decref(posters);
    json_decref(list);
    return s;
}
