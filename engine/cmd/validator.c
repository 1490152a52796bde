/* validator stake | unbond | withdraw | collect | status */
#include "cmd/flows.h"
#include "flow/chainio.h"
#include "flow/dispute.h"
#include "flow/stake.h"
#include "flow/validate.h"
#include "node/keys.h"

#include "base/banned.h"

static const struct cmd_arg stake_args[] = {{"amount", CMD_COIN, CMD_REQUIRED, NULL, "OPEN", NULL},
                                            {"total", CMD_FLAG, CMD_NAMED, NULL, "add only what is missing to this total", NULL},
                                            {"as", CMD_KEY, CMD_NAMED, NULL, "the validator's key", NULL},
                                            {NULL}};
static enum loam_status stake_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    json_t *out = NULL;
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)))
        return s;
    s = flow_stake(&f, &out, key, cmd_coin(c, "amount"), cmd_flag(c, "total"), err);
    return flow_result(c, s, out);
}
const struct cmd entry_validator_stake = {
    .noun = "validator",
    .verb = "stake",
    .args = stake_args,
    .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS | CMD_REPEATS,
    .help = "stake coins, so that batches are given to this account to validate",
    .text = "Stake decides how often an account is drawn and what its verdict weighs, and earns its part of the stakers' fifth. Two verdicts "
            "on one batch, or calling valid what a contract can see to be false, burn part of it.",
    .example = "validator stake 2 --as val",
    .run = stake_run};

static const struct cmd_arg unbond_args[] = {{"amount", CMD_COIN, CMD_REQUIRED, NULL, "OPEN", NULL},
                                             {"as", CMD_KEY, CMD_NAMED, NULL, "the validator's key", NULL},
                                             {NULL}};
static enum loam_status unbond_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    json_t *out = NULL;
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)))
        return s;
    s = flow_unbond(&f, &out, key, cmd_coin(c, "amount"), err);
    return flow_result(c, s, out);
}
const struct cmd entry_validator_unbond = {.noun = "validator",
                                           .verb = "unbond",
                                           .args = unbond_args,
                                           .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS | CMD_REPEATS,
                                           .help = "begin to take stake back; it stays slashable for the delay",
                                           .example = "validator unbond 1 --as val",
                                           .run = unbond_run};

static const struct cmd_arg run_args[] = {{"as", CMD_KEY, CMD_NAMED, NULL, "the validator's key", NULL},
                                          {"peer", CMD_STR, CMD_NAMED, NULL, "API that serves the bytes; the batch's own locator when absent", NULL},
                                          {NULL}};
static enum loam_status run_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)))
        return s;
    return flow_validate_watch(&f, key, cmd_str(c, "peer"), err);
}
const struct cmd entry_validator_run = {.noun = "validator",
                                        .verb = "run",
                                        .args = run_args,
                                        .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
                                        .help = "validate every batch as it is posted, until the job is cancelled",
                                        .text = "Goes on after a restart of the node where it was. Bytes come from --peer, or from the address that "
                                                "the batch names; they are believed by their hash alone.",
                                        .example = "validator run --as val --no-wait",
                                        .run = run_run};

static const struct cmd_arg accuse_args[] = {{"file", CMD_PATH, CMD_REQUIRED, NULL, "JSON with two attestations and their signatures", NULL},
                                             {"as", CMD_KEY, CMD_NAMED, NULL, "key that pays the gas", NULL},
                                             {NULL}};
static enum loam_status accuse_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    json_t *out = NULL;
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)))
        return s;
    s = flow_accuse(&f, &out, cmd_str(c, "file"), key, err);
    return flow_result(c, s, out);
}
const struct cmd entry_validator_accuse = {
    .noun = "validator",
    .verb = "accuse",
    .args = accuse_args,
    .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
    .help = "show the contract that a validator attested one batch twice",
    .text = "The file holds {\"attestations\": [{\"attestation\": {...}, \"signature\": \"0x...\"}, {...}]}: two different ones of one validator for one batch, both signed "
            "by it. It costs the validator part of its stake, whatever became of the batch.",
    .example = "validator accuse two.json --as dev",
    .run = accuse_run};

static const struct cmd_arg as_args[] = {{"as", CMD_KEY, CMD_NAMED, NULL, "the validator's key", NULL}, {NULL}};
static enum loam_status withdraw_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    json_t *out = NULL;
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)))
        return s;
    s = flow_stake_withdraw(&f, &out, key, err);
    return flow_result(c, s, out);
}
const struct cmd entry_validator_withdraw = {.noun = "validator",
                                             .verb = "withdraw",
                                             .args = as_args,
                                             .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
                                             .help = "pay unbonded stake to the payout address, once its delay is over",
                                             .example = "validator withdraw --as val",
                                             .run = withdraw_run};

static enum loam_status collect_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    uint64_t id;
    json_t *out = NULL;
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)) || (s = account_of_key(cmd_node(c), &id, key, err)))
        return s;
    s = flow_stake_collect(&f, &out, key, id, err);
    return flow_result(c, s, out);
}
const struct cmd entry_validator_collect = {.noun = "validator",
                                            .verb = "collect",
                                            .args = as_args,
                                            .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
                                            .help = "pay the stakers' share that has come in to the payout address",
                                            .example = "validator collect --as val",
                                            .run = collect_run};

static const struct cmd_arg status_args[] = {{"account", CMD_ACCOUNT, 0, NULL, "number, or a key's name; the default key when absent", NULL}, {NULL}};
static enum loam_status status_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    const char *word = cmd_str(c, "account");
    uint64_t id;
    json_t *out = NULL;
    enum loam_status s;
    if (!word) {
        if ((s = key_arg(c, "account", key, err)))
            return s;
        word = key;
    }
    if ((s = account_named(cmd_node(c), &id, word, err)))
        return s;
    s = flow_stake_status(&f, &out, id, err);
    return flow_result(c, s, out);
}
const struct cmd entry_validator_status = {.noun = "validator",
                                           .verb = "status",
                                           .args = status_args,
                                           .help = "stake, what is unbonding, and what is owed, proven",
                                           .example = "validator status val",
                                           .run = status_run};
