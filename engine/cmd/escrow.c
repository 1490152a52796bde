/* escrow show | deposit | request | withdraw */
#include "cmd/flows.h"
#include "flow/chainio.h"
#include "flow/pay.h"
#include "node/keys.h"

#include "base/banned.h"

static enum loam_status account_arg(struct cmd_call *c, uint64_t *id, struct err *err) {
    char key[KEY_NAME_MAX];
    const char *word = cmd_str(c, "account");
    enum loam_status s;
    if (word)
        return account_named(cmd_node(c), id, word, err);
    s = keys_default(cmd_node(c), key, err);
    return s ? s : account_of_key(cmd_node(c), id, key, err);
}

static const struct cmd_arg show_args[] = {{"account", CMD_ACCOUNT, 0, NULL, "number, or a key's name; the default key when absent", NULL}, {NULL}};
static enum loam_status show_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    uint64_t id;
    json_t *out = NULL;
    enum loam_status s;
    if ((s = account_arg(c, &id, err)))
        return s;
    s = flow_escrow_show(&f, &out, id, err);
    return flow_result(c, s, out);
}
const struct cmd entry_escrow_show = {.noun = "escrow",
                                      .verb = "show",
                                      .args = show_args,
                                      .help = "what an account has in escrow, proven",
                                      .text = "Vouchers are paid out of the escrow, bonds return to it.",
                                      .example = "escrow show payer",
                                      .run = show_run};

static const struct cmd_arg deposit_args[] = {{"amount", CMD_COIN, CMD_REQUIRED, NULL, "OPEN", NULL},
                                              {"account", CMD_ACCOUNT, CMD_NAMED, NULL, "whose escrow; that of --as when absent", NULL},
                                              {"as", CMD_KEY, CMD_NAMED, NULL, "key that pays", NULL},
                                              {NULL}};
static enum loam_status deposit_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    uint64_t id;
    json_t *out = NULL;
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)) ||
        (s = cmd_str(c, "account") ? account_named(cmd_node(c), &id, cmd_str(c, "account"), err) : account_of_key(cmd_node(c), &id, key, err)))
        return s;
    s = flow_escrow_deposit(&f, &out, key, id, cmd_coin(c, "amount"), err);
    return flow_result(c, s, out);
}
const struct cmd entry_escrow_deposit = {.noun = "escrow",
                                         .verb = "deposit",
                                         .args = deposit_args,
                                         .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
                                         .help = "put coins into escrow, for vouchers",
                                         .example = "escrow deposit 5 --as payer",
                                         .run = deposit_run};

static const struct cmd_arg request_args[] = {{"amount", CMD_COIN, CMD_REQUIRED, NULL, "OPEN", NULL},
                                              {"as", CMD_KEY, CMD_NAMED, NULL, "the account's key", NULL},
                                              {NULL}};
static enum loam_status request_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    json_t *out = NULL;
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)))
        return s;
    s = flow_escrow_request(&f, &out, key, cmd_coin(c, "amount"), err);
    return flow_result(c, s, out);
}
const struct cmd entry_escrow_request = {.noun = "escrow",
                                         .verb = "request",
                                         .args = request_args,
                                         .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
                                         .help = "announce a withdrawal; vouchers reach the money until its delay is over",
                                         .example = "escrow request 2 --as payer",
                                         .run = request_run};

static const struct cmd_arg withdraw_args[] = {{"as", CMD_KEY, CMD_NAMED, NULL, "the account's key", NULL}, {NULL}};
static enum loam_status withdraw_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    json_t *out = NULL;
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)))
        return s;
    s = flow_escrow_withdraw(&f, &out, key, err);
    return flow_result(c, s, out);
}
const struct cmd entry_escrow_withdraw = {.noun = "escrow",
                                          .verb = "withdraw",
                                          .args = withdraw_args,
                                          .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
                                          .help = "pay an announced withdrawal to the payout address, once its delay is over",
                                          .example = "escrow withdraw --as payer",
                                          .run = withdraw_run};
