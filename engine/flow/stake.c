#include "flow/stake.h"

#include "flow/chainio.h"

#include "base/banned.h"

#define SHARE_SCALE 1000000000000000000ull /* Validators.SCALE */

struct stake {
    struct u256 stake, unbonding, share_at, owed;
    struct u256 total, per; /* of all validators, at the same head */
    uint64_t release, since, slot;
};

static enum loam_status read_stake(struct flow *f, struct stake *v, uint64_t account, struct err *err) {
    struct slotref b = slot_u64(slot_of(SLOT_VALIDATORS_VALIDATORS), account);
    const struct slotref at[] = {slot_plus(b, WORD_VALIDATORS_VALIDATOR_STAKE), slot_plus(b, WORD_VALIDATORS_VALIDATOR_UNBONDING),
                                 slot_plus(b, WORD_VALIDATORS_VALIDATOR_RELEASE_AT), slot_plus(b, WORD_VALIDATORS_VALIDATOR_SHARE_AT),
                                 slot_plus(b, WORD_VALIDATORS_VALIDATOR_OWED), slot_of(SLOT_VALIDATORS_TOTAL_STAKE),
                                 slot_of(SLOT_VALIDATORS_SHARE_PER_STAKE)};
    struct hash32 word[7], w;
    enum loam_status s;
    if ((s = fslots(f->node, word, "Validators", at, 7, err)))
        return s;
    v->stake = u256_from_be(word[0].b);
    v->unbonding = u256_from_be(word[1].b);
    w = word[2];
    v->share_at = u256_from_be(word[3].b);
    v->owed = u256_from_be(word[4].b);
    v->total = u256_from_be(word[5].b);
    v->per = u256_from_be(word[6].b);
    _Static_assert(WORD_VALIDATORS_VALIDATOR_RELEASE_AT == WORD_VALIDATORS_VALIDATOR_SINCE &&
                       WORD_VALIDATORS_VALIDATOR_SINCE == WORD_VALIDATORS_VALIDATOR_SLOT,
                   "one word holds the three");
    v->release = word_u64(&w, AT_VALIDATORS_VALIDATOR_RELEASE_AT, SIZE_VALIDATORS_VALIDATOR_RELEASE_AT);
    v->since = word_u64(&w, AT_VALIDATORS_VALIDATOR_SINCE, SIZE_VALIDATORS_VALIDATOR_SINCE);
    v->slot = word_u64(&w, AT_VALIDATORS_VALIDATOR_SLOT, SIZE_VALIDATORS_VALIDATOR_SLOT);
    return LOAM_OK;
}

enum loam_status flow_stake_status(struct flow *f, json_t **out, uint64_t account, struct err *err) {
    struct stake v;
    struct u256 since, more;
    enum loam_status s;
    *out = NULL;
    if ((s = read_stake(f, &v, account, err)))
        return s;
    (void)u256_sub(&since, v.per, v.share_at);
    if (u256_muldiv(&more, v.stake, since, u256_from(SHARE_SCALE)) || u256_add(&more, more, v.owed))
        return err_set(err, LOAM_ERANGE, "what validator %llu is owed does not fit", (unsigned long long)account);
    *out = json_pack("{s:I s:o s:o s:I s:I s:b s:o s:o}", "account", (json_int_t)account, "stake_wei", json_u256(v.stake), "unbonding_wei",
                     json_u256(v.unbonding), "release_s", (json_int_t)v.release, "since_block", (json_int_t)v.since, "active", v.slot != 0,
                     "owed_wei", json_u256(more), "total_stake_wei", json_u256(v.total));
    return *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
}

enum loam_status flow_stake(struct flow *f, json_t **out, const char *key, struct u256 wei, bool total, struct err *err) {
    struct outbox_result res = {0};
    struct stake v;
    json_t *step = NULL;
    uint64_t account;
    char coin[U256_DEC_MAX + 2];
    enum loam_status s;
    *out = NULL;
    TRY(account_of_key(f->node, &account, key, err));
    /* The amount is fixed once: after a restart the stake may have grown by this very transaction. */
    s = flow_step_get(f, "amount", &step, err);
    if (s == LOAM_ENOTFOUND) {
        TRY(read_stake(f, &v, account, err));
        if (total && u256_sub(&wei, wei, v.stake))
            wei = U256_ZERO;
        if (u256_is_zero(wei)) {
            s = total ? flow_stake_status(f, out, account, err) : err_set(err, LOAM_EINVAL, "a stake of 0 is none");
            goto out;
        }
        if (total) {
            char work[3 * U256_DEC_MAX], a[U256_DEC_MAX], b[U256_DEC_MAX];
            u256_format(a, v.stake);
            u256_format(b, wei);
            snprintf(work, sizeof work, "stake/%llu/%s/%s", (unsigned long long)account, a, b);
            TRY(flow_own(f, work, err));
        }
        u256_format_coin(coin, wei);
        TRY(flow_unlock(f, key, err));
        TRY(flow_confirm(f, err, "Stake %s OPEN of key %s for account %llu? Proven faults burn it.", coin, key, (unsigned long long)account));
        if (!(step = json_pack("{s:o}", "wei", json_u256(wei)))) {
            s = err_set(err, LOAM_ENOMEM, "no memory");
            goto out;
        }
        TRY(flow_step_make(f, "amount", &step, err));
    } else if (s)
        goto out;
    TRY(jget_u256(&wei, step, "wei", err));
    struct fcall c = {.step = "stake", .from = key, .contract = "Validators", .value = wei, .sig = "stake(uint64)", .what = "stake"};
    TRY(fsend(f, &res, &c, ABI(abi_u64(account)), err));
    s = flow_stake_status(f, out, account, err);
out:
    json_decref(step);
    outbox_result_clear(&res);
    return s;
}

enum loam_status flow_unbond(struct flow *f, json_t **out, const char *key, struct u256 wei, struct err *err) {
    struct outbox_result res = {0};
    uint64_t account;
    enum loam_status s;
    *out = NULL;
    TRY(account_of_key(f->node, &account, key, err));
    struct fcall c = {.step = "unbond", .from = key, .contract = "Validators", .sig = "unbond(uint64,uint256)", .what = "unbonding"};
    TRY(fsend(f, &res, &c, ABI(abi_u64(account), abi_u256(wei)), err));
    s = flow_stake_status(f, out, account, err);
out:
    outbox_result_clear(&res);
    return s;
}

static enum loam_status take(struct flow *f, json_t **out, const char *key, uint64_t account, const char *call, const char *event,
                             const char *what, struct err *err) {
    struct outbox_result res = {0};
    struct abi_doc ev = {0};
    struct u256 wei;
    enum loam_status s;
    struct fcall c = {.step = call, .from = key, .contract = "Validators", .sig = call, .what = what};
    TRY(fsend(f, &res, &c, ABI(abi_u64(account)), err));
    TRY(fevent(f->node, &ev, &res, "Validators", event, err));
    TRY(abi_get_u256(&wei, abi_field(&ev, "amount"), err));
    TRY(flow_stake_status(f, out, account, err));
    TRY(jset(*out, "amount_wei", json_u256(wei), err));
out:
    abi_clear(&ev);
    outbox_result_clear(&res);
    return s;
}

enum loam_status flow_stake_withdraw(struct flow *f, json_t **out, const char *key, struct err *err) {
    uint64_t account;
    enum loam_status s;
    *out = NULL;
    if ((s = account_of_key(f->node, &account, key, err)))
        return s;
    return take(f, out, key, account, "withdraw(uint64)", "Withdrawn(uint64 indexed account, address to, uint256 amount)", "withdrawal of a stake", err);
}

enum loam_status flow_stake_collect(struct flow *f, json_t **out, const char *key, uint64_t account, struct err *err) {
    *out = NULL;
    return take(f, out, key, account, "collect(uint64)", "Collected(uint64 indexed account, address to, uint256 amount)", "stakers' share", err);
}
