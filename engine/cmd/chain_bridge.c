/* chain force | bridge | fund: what reaches the L2 by other ways than its sequencer. */
#include "node/bridge.h"

#include "cmd/private.h"
#include "node/chain.h"
#include "node/job.h"
#include "node/keys.h"
#include "node/outbox.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

static enum loam_status address_of(struct cmd_call *c, const char *word, struct addr20 *out, struct err *err) {
    if (word[0] == '0' && word[1] == 'x')
        return addr_parse(out, word, err);
    return keys_address(cmd_node(c), word, out, err);
}

static const struct cmd_arg force_args[] = {{"key", CMD_STR, 0, NULL, "which one, as `chain pending` names it; the oldest when absent", NULL}, {NULL}};

static enum loam_status force(struct cmd_call *c, struct err *err) {
    json_t *plan = NULL, *out = NULL;
    char coin[U256_DEC_MAX + 2];
    struct u256 v;
    enum loam_status s = bridge_force_plan(cmd_node(c), &plan, cmd_str(c, "key"), cmd_job(c), err);
    if (s)
        return s;
    const char *from = json_string_value(json_object_get(plan, "from"));
    if (!(s = u256_parse(&v, json_string_value(json_object_get(plan, "value_wei")), err))) {
        u256_format_coin(coin, v);
        s = cmd_confirm(c, err, "Send \"%s\" (%s, %s OPEN to %s) from key %s by a deposit on L1, chain %lld? Gas is paid there.",
                        json_string_value(json_object_get(plan, "what")), json_string_value(json_object_get(plan, "key")), coin,
                        json_string_value(json_object_get(plan, "to")), from, (long long)json_integer_value(json_object_get(plan, "l1")));
    }
    if (!s)
        s = cmd_unlock(c, from, err);
    if (!s)
        cmd_note(c, "deposit on L1; then the sequencer must include it within its window");
    if (!s)
        s = bridge_force(cmd_node(c), &out, plan, cmd_job(c), err);
    json_decref(plan);
    if (!s)
        cmd_result(c, out);
    return s;
}
const struct cmd entry_chain_force = {
    .noun = "chain",
    .verb = "force",
    .args = force_args,
    .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
    .help = "send what the sequencer leaves out by a deposit on L1",
    .text = "Takes a transaction of `chain pending` and does the same (sender, target, amount, data) through OptimismPortal: the "
            "sequencer must include the deposit within its window, or the chain stops following it. It is paid once: an empty deposit "
            "goes first and uses up the first transaction's nonce, and its verified receipt shows whether the sequencer had included "
            "that after all; only when it had not, the second deposit follows. Other transactions of the same key that are out are "
            "signed anew where their nonce was used.\n"
            "The chain's file must name its L1: l1 {urls, chain_id, system_config or portal}.",
    .example = "chain force",
    .run = force};

static const struct cmd_arg bridge_args[] = {{"amount", CMD_COIN, CMD_REQUIRED, NULL, "coins of the L2 that are brought there", NULL},
                                             {"to", CMD_STR, CMD_NAMED, NULL, "an address or the name of a key; the paying key when absent", NULL},
                                             {"from", CMD_KEY, CMD_NAMED, NULL, "key that pays on L1; the default key when absent", NULL},
                                             {NULL}};

static enum loam_status bridge(struct cmd_call *c, struct err *err) {
    struct node *n = cmd_node(c);
    char from[KEY_NAME_MAX], amount[U256_DEC_MAX + 2], hex[ADDR_HEX_MAX], portal[ADDR_HEX_MAX], key[128];
    struct addr20 token, at;
    struct bridge_in q = {.from = from, .key = key, .wei = cmd_coin(c, "amount")};
    uint64_t l1 = 0;
    json_t *out = NULL;
    enum loam_status s = LOAM_OK;
    if (cmd_given(c, "from"))
        snprintf(from, sizeof from, "%s", cmd_str(c, "from"));
    else
        s = keys_default(n, from, err);
    if (!s)
        s = address_of(c, cmd_given(c, "to") ? cmd_str(c, "to") : from, &q.to, err);
    if (!s)
        s = bridge_parts(n, &token, &at, &l1, cmd_job(c), err);
    u256_format_coin(amount, q.wei);
    if (!s)
        s = cmd_confirm(c, err, "Bring %s %s from key %s on L1 (chain %llu) through the portal %s to %s on chain %llu?", amount,
                        addr_is_zero(&token) ? "of L1's coin" : "OPEN (an ERC-20 there)", from, (unsigned long long)l1, addr_hex(portal, &at),
                        addr_hex(hex, &q.to), (unsigned long long)node_chain_id(n));
    if (!s)
        s = cmd_unlock(c, from, err);
    snprintf(key, sizeof key, "bridge/%s", cmd_flow(c));
    if (!s)
        s = bridge_in(n, &out, &q, cmd_job(c), err);
    if (!s)
        cmd_result(c, out);
    return s;
}
const struct cmd entry_chain_bridge = {
    .noun = "chain",
    .verb = "bridge",
    .args = bridge_args,
    .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
    .help = "bring coins from L1 to the chain, through its portal",
    .text = "Deposits L1's coin, or, where the SystemConfig names a token that pays for gas (OPEN), approves and deposits that. The "
            "portal's address and the token come from the SystemConfig by storage proofs; the deposit's receipt is verified on both "
            "chains. The way back (a withdrawal: prove, wait, finalise) is not built.",
    .example = "chain bridge 2.5 --from alice",
    .run = bridge};

static const struct cmd_arg fund_args[] = {{"key", CMD_STR, 0, NULL, "an address or the name of a key; the default key when absent", NULL},
                                           {"amount", CMD_COIN, CMD_NAMED, "100", "coins that a development chain makes", NULL},
                                           {NULL}};

static enum loam_status fund(struct cmd_call *c, struct err *err) {
    struct node *n = cmd_node(c);
    char name[KEY_NAME_MAX], hex[ADDR_HEX_MAX], wei[U256_DEC_MAX];
    struct addr20 a;
    struct chain *light;
    struct u256 have;
    json_t *out = NULL;
    enum loam_status s = node_chain_ready(n, &light, cmd_job(c), err);
    if (!s && !cmd_given(c, "key"))
        s = keys_default(n, name, err);
    if (!s)
        s = address_of(c, cmd_given(c, "key") ? cmd_str(c, "key") : name, &a, err);
    if (!s && node_chain_is_dev(n)) {
        s = bridge_fund_dev(n, &out, &a, cmd_coin(c, "amount"), cmd_job(c), err);
    } else if (!s && !(s = node_chain_balance(n, &have, NULL, &a, err))) {
        json_t *file = node_chain_file(n), *faucet = json_object_get(file, "faucet"), *site = json_object_get(file, "bridge");
        u256_format(wei, have);
        out = json_pack("{s:s s:s s:s}", "address", addr_hex(hex, &a), "balance_wei", wei, "known", "proven");
        if (out && json_is_string(faucet))
            json_object_set(out, "faucet", faucet);
        if (out && json_is_string(site))
            json_object_set(out, "bridge", site);
        if (json_is_object(json_object_get(file, "l1")))
            cmd_note(c, "coins on L1 come over with: chain bridge AMOUNT");
        else if (!faucet && !site)
            cmd_note(c, "the chain's file names no faucet, bridge or L1; ask somebody to pay to this address");
        json_decref(file);
    }
    if (!s)
        cmd_result(c, out);
    return s;
}
const struct cmd entry_chain_fund = {
    .noun = "chain",
    .verb = "fund",
    .args = fund_args,
    .help = "coins for a key: made on a development chain, else where to get them",
    .text = "On a development chain the coins are made (anvil_setBalance) and then proven. Elsewhere it shows the proven balance, the "
            "address, and the faucet and bridge of the chain's file.",
    .example = "chain fund alice --amount 50",
    .run = fund};
