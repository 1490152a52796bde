#include "flow/deploy.h"

#include "flow/chainio.h"
#include "net/chain.h"
#include "net/tx.h"
#include "node/chain.h"
#include "node/keys.h"

#include <stdio.h>

#include "engine/flow/bytecode.h"

#include "base/banned.h"

enum { C_ACCOUNTS, C_DATANETS, C_MODELS, C_VALIDATORS, C_LEDGER, C_DISPUTES, C_REWARDS, C_COUNT };
static const char *const names[C_COUNT] = {"Accounts", "Datanets", "Models", "Validators", "Ledger", "Disputes", "Rewards"};

#define COIN 1000000000000000000ull
#define HOUR 3600ull
#define DAY 86400ull

struct deploy_params deploy_defaults(bool dev) {
    struct deploy_params p = {
        .reveal_window = DAY,
        .seed_delay = 2,
        .min_stake = u256_from(COIN),
        .unbond_delay = dev ? HOUR : 30 * DAY,
        .recovery_delay = dev ? HOUR : 30 * DAY,
        .draw_delay = dev ? 2 : 10,
        .commit_window = dev ? 900 : 2 * DAY, /* it ends when all have committed; a slow machine has to execute a batch in it */
        .verdict_window = dev ? 300 : 2 * DAY,
        .challenge_window = dev ? 5 : 7 * DAY,
        .demand_window = dev ? 60 : 2 * DAY,
        .escrow_delay = dev ? HOUR : 21 * DAY,
        .min_bond = u256_from(COIN),
        .void_penalty = u256_from(COIN / 10),
        .demand_deposit = u256_from(COIN / 100),
        .validator_penalty = u256_from(COIN / 2),
        .committee_size = 3,
        .void_quorum = 5000,
    };
    return p;
}

static const char *code_of(const char *name) {
    for (size_t i = 0; i < sizeof bytecode_hex / sizeof *bytecode_hex; i++)
        if (!strcmp(bytecode_hex[i][0], name))
            return bytecode_hex[i][1];
    loam_abort(__FILE__, __LINE__, "no creation code of a contract");
}

static enum loam_status creation(struct buf *out, int which, const struct addr20 *at, const struct addr20 *platform,
                                 const struct addr20 *payout, const struct addr20 *recovery, const struct deploy_params *p,
                                 struct err *err) {
    const char *hex = code_of(names[which]);
    enum loam_status s;
    if ((s = hex_decode_buf(out, hex, strlen(hex), err)))
        return s;
    switch (which) {
    case C_ACCOUNTS:
        return abi_encode(out, ABI(abi_addr(platform), abi_addr(payout), abi_addr(recovery), abi_addr(&at[C_VALIDATORS]), abi_u64(p->recovery_delay)), err);
    case C_DATANETS: return abi_encode(out, ABI(abi_addr(&at[C_ACCOUNTS]), abi_u64(p->reveal_window)), err);
    case C_MODELS: return abi_encode(out, ABI(abi_addr(&at[C_ACCOUNTS]), abi_u64(p->seed_delay)), err);
    case C_VALIDATORS:
        return abi_encode(out, ABI(abi_addr(&at[C_ACCOUNTS]), abi_addr(&at[C_LEDGER]), abi_u256(p->min_stake), abi_u64(p->unbond_delay)), err);
    case C_LEDGER: /* the parameters are a static tuple: their words stand inline */
        return abi_encode(out,
                          ABI(abi_addr(&at[C_ACCOUNTS]), abi_addr(&at[C_VALIDATORS]), abi_addr(&at[C_REWARDS]), abi_addr(&at[C_DISPUTES]),
                              abi_u64(p->draw_delay), abi_u64(p->commit_window), abi_u64(p->verdict_window), abi_u64(p->challenge_window),
                              abi_u64(p->demand_window), abi_u64(p->escrow_delay), abi_u256(p->min_bond), abi_u256(p->void_penalty),
                              abi_u256(p->demand_deposit), abi_u256(p->validator_penalty), abi_u64(p->committee_size), abi_u64(p->void_quorum)),
                          err);
    case C_DISPUTES: return abi_encode(out, ABI(abi_addr(&at[C_LEDGER])), err);
    default: return abi_encode(out, ABI(abi_addr(&at[C_ACCOUNTS]), abi_addr(&at[C_LEDGER])), err);
    }
}

/* The nonce that the first creation takes, fixed durably before anything is sent. LOAM_EFUNDS (without a text): no coins at all. */
static enum loam_status first_nonce(struct flow *f, uint64_t *nonce, const struct addr20 *from, struct err *err) {
    json_t *o = NULL;
    struct u256 have;
    enum loam_status s = flow_step_get(f, "nonce", &o, err);
    if (s == LOAM_OK) {
        s = jget_u64(nonce, o, "nonce", err);
        json_decref(o);
        return s;
    }
    if (s != LOAM_ENOTFOUND || (s = node_chain_balance(f->node, &have, nonce, from, err)))
        return s;
    if (u256_is_zero(have))
        return LOAM_EFUNDS; /* the caller knows how much */
    if (!(o = json_pack("{s:I}", "nonce", (json_int_t)*nonce)))
        return err_set(err, LOAM_ENOMEM, "no memory");
    if (!(s = flow_step_make(f, "nonce", &o, err)))
        s = jget_u64(nonce, o, "nonce", err);
    json_decref(o);
    return s;
}

#define GAS_OF_CREATION 53000 /* before its bytes */
#define GAS_OF_BYTE 216       /* kept: 200; sent: 16 */

/* Nothing is there: what all of it will cost about, at twice the head's base fee as the outbox offers it. */
static enum loam_status no_funds(struct flow *f, const char *key, const struct addr20 *from, const struct deploy_params *p, struct err *err) {
    struct addr20 at[C_COUNT] = {0};
    struct buf data = BUF_INIT(OUTBOX_DATA_MAX);
    struct chain_head h;
    struct u256 cost;
    uint64_t gas = 0;
    char hex[ADDR_HEX_MAX], coin[U256_DEC_MAX + 2];
    enum loam_status s = LOAM_OK;
    for (int i = 0; i < C_COUNT; i++) {
        buf_reset(&data);
        TRY(creation(&data, i, at, from, from, from, p, err));
        gas += GAS_OF_CREATION + GAS_OF_BYTE * (uint64_t)data.len;
    }
    TRY(chain_head(node_chain_light(f->node), &h, err));
    if (u256_mul(&cost, h.h.base_fee, u256_from(2 * gas))) {
        s = err_set(err, LOAM_ERANGE, "the cost does not fit");
        goto out;
    }
    u256_format_coin(coin, cost);
    s = err_set(err, LOAM_EFUNDS, "%s (key %s) has 0 OPEN, about %s are needed for the gas of a deployment", addr_hex(hex, from), key, coin);
out:
    buf_clear(&data);
    return s;
}

enum loam_status flow_deploy(struct flow *f, json_t **out, const char *key, const struct addr20 *payout, const struct addr20 *recovery,
                             const struct deploy_params *p, struct err *err) {
    struct addr20 from, at[C_COUNT];
    struct buf data = BUF_INIT(OUTBOX_DATA_MAX);
    struct buf code = BUF_INIT(OUTBOX_DATA_MAX);
    json_t *contracts = json_object(), *o = NULL;
    uint64_t nonce, block = 0;
    char work[64];
    enum loam_status s = LOAM_OK;
    *out = NULL;
    if (!contracts)
        return err_set(err, LOAM_ENOMEM, "no memory");
    if (!node_chain_contract(f->node, "Ledger", &at[0], NULL)) {
        for (int i = 0; i < C_COUNT; i++) {
            TRY(node_chain_contract(f->node, names[i], &at[i], err));
            TRY(jset(contracts, names[i], json_addr(&at[i]), err));
        }
        *out = json_pack("{s:b s:O}", "deployed", 0, "contracts", contracts);
        goto out;
    }
    TRY(keys_address(f->node, key, &from, err));
    TRY(flow_unlock(f, key, err));
    TRY(flow_confirm(f, err, "Deploy the contracts on chain %llu with key %s (gas only)?", (unsigned long long)node_chain_id(f->node), key));
    snprintf(work, sizeof work, "deploy/%llu", (unsigned long long)node_chain_id(f->node));
    TRY(flow_own(f, work, err));
    s = first_nonce(f, &nonce, &from, err);
    if (s == LOAM_EFUNDS)
        s = no_funds(f, key, &from, p, err);
    if (s)
        goto out;
    for (int i = 0; i < C_COUNT; i++)
        tx_create_address(&at[i], &from, nonce + (uint64_t)i);
    for (int i = 0; i < C_COUNT; i++) {
        char step[FLOW_NAME_MAX + 32], what[64];
        struct outbox_result r = {0};
        struct hash32 h;
        flow_progress(f, (uint64_t)i, C_COUNT, "deploying %s", names[i]);
        buf_reset(&data);
        TRY(creation(&data, i, at, &from, payout ? payout : &from, recovery ? recovery : &from, p, err));
        snprintf(step, sizeof step, "%s/%s", f->name, names[i]);
        snprintf(what, sizeof what, "deployment of %s", names[i]);
        struct outbox_tx tx = {.from = key, .data = data.data, .len = data.len, .what = what};
        s = outbox_send(f->node, &r, step, &tx, f->job, err);
        bool placed = !s && addr_eq(&r.created, &at[i]);
        if (!s && i == 0)
            block = r.block;
        outbox_result_clear(&r);
        if (s)
            goto out;
        if (!placed) {
            flow_disown(f, work);
            s = err_set(err, LOAM_ESTATE, "another transaction of key %s came between; run chain deploy again", key);
            goto out;
        }
        buf_reset(&code);
        TRY(chain_code(node_chain_light(f->node), &code, &at[i], NULL, err));
        h = hash_of(code.data, code.len);
        if (!(o = json_pack("{s:o* s:o*}", "address", json_addr(&at[i]), "code_hash", json_hash(&h)))) {
            s = err_set(err, LOAM_ENOMEM, "no memory");
            goto out;
        }
        TRY(jset(contracts, names[i], o, err));
        flow_note(f, "%s deployed", names[i]);
    }
    TRY(node_chain_contracts_set(f->node, contracts, block, err));
    if (!(o = json_pack("{s:I}", "block", (json_int_t)block))) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    s = record_put(f->node, TABLE_CACHE, "deploy-block", 12, o, err);
    json_decref(o);
    if (!s)
        *out = json_pack("{s:b s:s s:I s:O}", "deployed", 1, "deployer", key, "block", (json_int_t)block, "contracts", contracts);
out:
    if (!s && !*out)
        s = err_set(err, LOAM_ENOMEM, "no memory");
    json_decref(contracts);
    buf_clear(&data);
    buf_clear(&code);
    return s;
}
