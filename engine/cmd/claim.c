/* claim, rewards show */
#include "cmd/flows.h"
#include "flow/chainio.h"
#include "flow/claim.h"
#include "node/keys.h"

#include "base/banned.h"

static enum loam_status run(struct cmd_call *c, struct err *err);
static const struct cmd_arg args[] = {
    {"accounts", CMD_ACCOUNT, CMD_MANY, NULL, "accounts to claim for: numbers, or names of keys; the default key's when absent", NULL},
    {"poster", CMD_ACCOUNT, CMD_NAMED, NULL, "only out of this poster's pot; all pots when absent", NULL},
    {"relay", CMD_KEY, CMD_NAMED, NULL, "key that pays the gas; the default key when absent", NULL},
    {"peer", CMD_STR, CMD_NAMED, NULL, "API of a node that serves the posters' bytes, where this one has not got them", NULL},
    {NULL}};
const struct cmd entry_claim = {
    .noun = "claim",
    .args = args,
    .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
    .help = "take what was settled for an account",
    .text = "Proves the account's line of the settled table to the contract, which pays its payout address. Accounts 0 (what no row earned: burnt), 1 "
            "(platform) and 2 (stakers) can be claimed for by anybody too. The balance is read by proof before and after.",
    .example = "claim alice --relay dev",
    .run = run};

static enum loam_status run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char relay[KEY_NAME_MAX], key[KEY_NAME_MAX];
    json_t *posters = NULL, *list = json_array(), *v, *one;
    size_t n = cmd_count(c, "accounts"), i;
    uint64_t account, poster;
    enum loam_status s;
    if (!list)
        return err_set(err, LOAM_ENOMEM, "no memory");
    TRY(key_arg(c, "relay", relay, err));
    if (cmd_str(c, "poster")) {
        TRY(account_named(cmd_node(c), &poster, cmd_str(c, "poster"), err));
        posters = json_pack("[I]", (json_int_t)poster);
    } else
        TRY(posters_list(&f, &posters, err));
    if (!json_array_size(posters)) {
        s = err_set(err, LOAM_ENOTFOUND, "no batch was settled on this chain yet");
        goto out;
    }
    for (size_t k = 0; k < (n ? n : 1); k++) {
        if (n)
            TRY(account_named(cmd_node(c), &account, cmd_str_at(c, "accounts", k), err));
        else {
            TRY(keys_default(cmd_node(c), key, err));
            TRY(account_of_key(cmd_node(c), &account, key, err));
        }
        json_array_foreach(posters, i, v) {
            one = NULL;
            TRY(flow_claim(&f, &one, (uint64_t)json_integer_value(v), account, relay, cmd_str(c, "peer"), err));
            if (json_array_append_new(list, one)) {
                s = err_set(err, LOAM_ENOMEM, "no memory");
                goto out;
            }
        }
    }
out:
    json_decref(posters);
    return flow_result(c, s, list);
}

static const struct cmd_arg show_args[] = {
    {"account", CMD_ACCOUNT, 0, NULL, "number, or name of a key; every account when absent", NULL},
    {"peer", CMD_STR, CMD_NAMED, NULL, "API of a node that serves the posters' bytes, where this one has not got them", NULL},
    {NULL}};
static enum loam_status show_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    uint64_t account = 0;
    const char *word = cmd_str(c, "account");
    json_t *out = NULL;
    enum loam_status s;
    if (word && (s = account_named(cmd_node(c), &account, word, err)))
        return s;
    s = flow_rewards(&f, &out, account, word == NULL, cmd_str(c, "peer"), err);
    return flow_result(c, s, out);
}
const struct cmd entry_rewards_show = {.noun = "rewards",
                                       .verb = "show",
                                       .args = show_args,
                                       .help = "what was settled, paid and is due, pot by pot, proven",
                                       .example = "rewards show alice",
                                       .run = show_run};
