/* account register | show */
#include "cmd/flows.h"
#include "flow/account.h"
#include "flow/chainio.h"
#include "node/keys.h"

#include "base/banned.h"

static enum loam_status register_run(struct cmd_call *c, struct err *err);
static const struct cmd_arg register_args[] = {
    {"key", CMD_KEY, CMD_REQUIRED, NULL, "key that will sign for the account", NULL},
    {"payout", CMD_ADDR, CMD_NAMED, NULL, "where its coins go; the key's own address when absent", NULL},
    {"recovery", CMD_ADDR, CMD_NAMED, NULL, "key that can replace the others, after a delay; the key's own address when absent", NULL},
    {"relay", CMD_KEY, CMD_NAMED, NULL, "key that pays the gas; the same key when absent", NULL},
    {NULL}};
const struct cmd entry_account_register = {
    .noun = "account",
    .verb = "register",
    .args = register_args,
    .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
    .help = "register an account for a key",
    .text = "An account is a number with a signing, a payout and a recovery key. With --relay another key pays, so that a key without "
            "coins can have an account. A key that has one keeps it.",
    .example = "account register alice --relay dev",
    .run = register_run};

static enum loam_status register_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    struct addr20 payout, recovery;
    json_t *out = NULL;
    enum loam_status s;
    if (cmd_str(c, "payout") && (s = addr_parse(&payout, cmd_str(c, "payout"), err)))
        return s;
    if (cmd_str(c, "recovery") && (s = addr_parse(&recovery, cmd_str(c, "recovery"), err)))
        return s;
    s = flow_account_register(&f, &out, cmd_str(c, "key"), cmd_str(c, "payout") ? &payout : NULL,
                              cmd_str(c, "recovery") ? &recovery : NULL, cmd_str(c, "relay"), err);
    return flow_result(c, s, out);
}

static enum loam_status show_run(struct cmd_call *c, struct err *err);
static const struct cmd_arg show_args[] = {{"account", CMD_ACCOUNT, 0, NULL, "number, or a key's name; the default key when absent", NULL}, {NULL}};
const struct cmd entry_account_show = {.noun = "account",
                                       .verb = "show",
                                       .args = show_args,
                                       .help = "an account's keys, balance and escrow, proven",
                                       .example = "account show alice",
                                       .run = show_run};

static enum loam_status show_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    const char *word = cmd_str(c, "account");
    json_t *out = NULL;
    uint64_t id;
    enum loam_status s;
    if (!word) {
        if ((s = key_arg(c, "account", key, err)))
            return s;
        word = key;
    }
    if ((s = account_named(cmd_node(c), &id, word, err)))
        return s;
    s = flow_account_show(&f, &out, id, err);
    return flow_result(c, s, out);
}
