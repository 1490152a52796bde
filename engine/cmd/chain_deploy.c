/* chain deploy */
#include "cmd/flows.h"
#include "flow/deploy.h"
#include "node/chain.h"
#include "node/keys.h"

#include "base/banned.h"

static enum loam_status run(struct cmd_call *c, struct err *err);
static const struct cmd_arg args[] = {
    {"as", CMD_KEY, CMD_NAMED, NULL, "key that deploys and pays the gas", NULL},
    {"payout", CMD_ADDR, CMD_NAMED, NULL, "where the platform's tenth goes; the key's address when absent", NULL},
    {"recovery", CMD_ADDR, CMD_NAMED, NULL, "the platform's recovery key; the key's address when absent", NULL},
    {"challenge-window", CMD_UINT, CMD_NAMED, NULL, "seconds from posting before a batch can settle", "1..31536000"},
    {"verdict-window", CMD_UINT, CMD_NAMED, NULL, "seconds to commit a verdict, and again to reveal it", "1..31536000"},
    {"demand-window", CMD_UINT, CMD_NAMED, NULL, "seconds to show a demanded leaf", "1..31536000"},
    {"unbond-delay", CMD_UINT, CMD_NAMED, NULL, "seconds a stake stays slashable after unbonding", "1..31536000"},
    {NULL}};
const struct cmd entry_chain_deploy = {
    .noun = "chain",
    .verb = "deploy",
    .args = args,
    .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
    .help = "deploy the contracts on this chain",
    .text = "Seven contracts, from the code compiled into this program; no proxies, and no parameter can change later. Their addresses "
            "and code hashes are kept with the chain. A data folder that has contracts keeps them. Windows are short on the development "
            "chain and longer than the sequencing window elsewhere.",
    .example = "chain deploy --as dev",
    .run = run};

static enum loam_status run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    struct deploy_params p = deploy_defaults(node_chain_is_dev(cmd_node(c)));
    struct addr20 payout, recovery;
    char key[KEY_NAME_MAX];
    json_t *out = NULL;
    enum loam_status s = LOAM_OK;
    if ((s = key_arg(c, "as", key, err)))
        return s;
    if (cmd_given(c, "challenge-window"))
        p.challenge_window = cmd_uint(c, "challenge-window");
    if (cmd_given(c, "verdict-window"))
        p.commit_window = p.verdict_window = cmd_uint(c, "verdict-window");
    if (cmd_given(c, "demand-window"))
        p.demand_window = cmd_uint(c, "demand-window");
    if (cmd_given(c, "unbond-delay"))
        p.unbond_delay = cmd_uint(c, "unbond-delay");
    if (p.unbond_delay <= p.commit_window + p.verdict_window + p.challenge_window)
        return err_set(err, LOAM_ERANGE, "unbonding (%llu s) must outlast the windows (%llu s)", (unsigned long long)p.unbond_delay,
                       (unsigned long long)(p.commit_window + p.verdict_window + p.challenge_window));
    if (cmd_str(c, "payout") && (s = addr_parse(&payout, cmd_str(c, "payout"), err)))
        return s;
    if (cmd_str(c, "recovery") && (s = addr_parse(&recovery, cmd_str(c, "recovery"), err)))
        return s;
    s = flow_deploy(&f, &out, key, cmd_str(c, "payout") ? &payout : NULL, cmd_str(c, "recovery") ? &recovery : NULL, &p, err);
    return flow_result(c, s, out);
}
