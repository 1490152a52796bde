/* chain use | status | heads | peers | block | tx | account | storage | pending | evidence | send | export. What is shown was
 * verified by the light client unless it says otherwise. */
#include "node/chain.h"
#include "base/file.h"
#include "base/mem.h"
#include "cmd/private.h"
#include "node/chain_show.h"
#include "node/job.h"
#include "node/keys.h"
#include "node/outbox.h"
#include "node/topic.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

static const struct cmd_arg use_args[] = {
    {"url", CMD_STR, 0, NULL, "http:// or https:// address of an RPC", NULL},
    {"file", CMD_PATH, CMD_NAMED, NULL, "a chain's file instead (those known are in contrib/chains, installed in share/loam/chains)", NULL},
    {"name", CMD_STR, CMD_NAMED, NULL, "what to call the chain", NULL},
    {NULL}};

static json_t *status_now(struct node *n) {
    json_t *v = topic_get(n, "chain");
    return v ? v : json_pack("{s:b}", "configured", 0);
}

static enum loam_status use(struct cmd_call *c, struct err *err) {
    const char *url = cmd_str(c, "url"), *file = cmd_str(c, "file");
    if (url && file)
        return err_set(err, LOAM_EINVAL, "chain use: a chain comes from an RPC (%s) or from a file (%s), not from both; the file names its RPCs itself", url, file);
    if (!url && !file)
        return err_set(err, LOAM_EINVAL, "chain use needs an RPC's address or --file; for example: %s",
                       c->line.cmd->example);
    if (url && strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
        return err_set(err, LOAM_EINVAL, "url: an RPC's address begins with http:// or https://");
    enum loam_status s = file ? node_chain_use_file(cmd_node(c), file, cmd_job(c), err)
                              : node_chain_use(cmd_node(c), url, cmd_str(c, "name"), cmd_job(c), err);
    if (!s)
        cmd_result(c, json_pack("{s:I s:b}", "chain_id", (json_int_t)node_chain_id(cmd_node(c)), "dev",
                                node_chain_is_dev(cmd_node(c))));
    return s;
}
const struct cmd entry_chain_use = {
    .noun = "chain",
    .verb = "use",
    .args = use_args,
    .help = "make an RPC's chain the chain of this data folder and follow it",
    .text = "Asks its id and its genesis block, writes DATA/chains/ID.json, and takes no RPC's word from "
            "then on for what "
            "can be checked. One data folder is for one chain; the same chain again adds an address.",
    .example = "chain use http://127.0.0.1:8545",
    .run = use};

static enum loam_status status(struct cmd_call *c, struct err *err) {
    (void)err;
    cmd_result(c, status_now(cmd_node(c)));
    return LOAM_OK;
}
const struct cmd entry_chain_status = {.noun = "chain",
                                       .verb = "status",
                                       .help = "the chain, its head and how it is known, the contracts",
                                       .example = "chain status",
                                       .run = status};

static enum loam_status heads(struct cmd_call *c, struct err *err) {
    struct chain *light;
    enum loam_status s = node_chain_ready(cmd_node(c), &light, cmd_job(c), err);
    if (s)
        return s;
    json_t *v = status_now(cmd_node(c)), *list = json_incref(json_object_get(v, "heads"));
    json_decref(v);
    cmd_result(c, list);
    return LOAM_OK;
}
const struct cmd entry_chain_heads = {
    .noun = "chain",
    .verb = "heads",
    .help = "the heads and how each is known",
    .text = "signed: by the sequencer, over the payload. linked: hash-linked to a known header. anchored: "
            "its output root stands on L1. agreed: k of n "
            "RPCs say so.",
    .example = "chain heads",
    .run = heads};

static enum loam_status peers(struct cmd_call *c, struct err *err) {
    if (!node_chain_configured(cmd_node(c)))
        return err_set(err, LOAM_ESTATE, "no chain is configured; `chain use URL`");
    cmd_result(c, node_chain_peers(cmd_node(c)));
    return LOAM_OK;
}
const struct cmd entry_chain_peers = {.noun = "chain",
                                      .verb = "peers",
                                      .help = "the RPCs and feeds: health, faults, lies",
                                      .example = "chain peers",
                                      .run = peers};

static const struct cmd_arg block_args[] = {{"block", CMD_STR, 0, "latest", "number, hash, or latest", NULL},
                                            {NULL}};

static enum loam_status block(struct cmd_call *c, struct err *err) {
    json_t *o = NULL;
    enum loam_status s = node_chain_show_block(cmd_node(c), &o, cmd_str(c, "block"), cmd_job(c), err);
    if (!s)
        cmd_result(c, o);
    return s;
}
const struct cmd entry_chain_block = {
    .noun = "chain",
    .verb = "block",
    .args = block_args,
    .help = "a block: header recomputed and linked, transactions and receipts checked against its roots",
    .example = "chain block 12",
    .run = block};

static const struct cmd_arg tx_args[] = {
    {"hash", CMD_HASH, CMD_REQUIRED, NULL, "the transaction's hash", NULL}, {NULL}};

static enum loam_status tx(struct cmd_call *c, struct err *err) {
    json_t *o = NULL;
    struct hash32 h;
    enum loam_status s = hash_parse(&h, cmd_str(c, "hash"), err);
    if (!s)
        s = node_chain_show_tx(cmd_node(c), &o, &h, cmd_job(c), err);
    if (!s)
        cmd_result(c, o);
    return s;
}
const struct cmd entry_chain_tx = {
    .noun = "chain",
    .verb = "tx",
    .args = tx_args,
    .help = "a transaction's receipt, checked against the receipts root of a verified block",
    .example = "chain tx 0x0000000000000000000000000000000000000000000000000000000000000001",
    .run = tx};

/* An address, or the name of a key here. */
static enum loam_status address_of(struct cmd_call *c, const char *word, struct addr20 *out,
                                   struct err *err) {
    if (word[0] == '0' && word[1] == 'x')
        return addr_parse(out, word, err);
    return keys_address(cmd_node(c), word, out, err);
}

static const struct cmd_arg account_args[] = {
    {"address", CMD_KEY, CMD_REQUIRED, NULL, "an address, or the name of a key", NULL},
    {"block", CMD_STR, CMD_NAMED, "latest", "as of this block: number, hash, or latest", NULL},
    {NULL}};

static enum loam_status account(struct cmd_call *c, struct err *err) {
    json_t *o = NULL;
    struct addr20 a;
    enum loam_status s = address_of(c, cmd_str(c, "address"), &a, err);
    if (!s)
        s = node_chain_show_account(cmd_node(c), &o, &a, cmd_str(c, "block"), cmd_job(c), err);
    if (!s)
        cmd_result(c, o);
    return s;
}
const struct cmd entry_chain_account = {.noun = "chain",
                                        .verb = "account",
                                        .args = account_args,
                                        .help = "balance, nonce and code hash of an address, proven",
                                        .example = "chain account alice",
                                        .run = account};

static const struct cmd_arg storage_args[] = {
    {"address", CMD_KEY, CMD_REQUIRED, NULL, "an address, or a contract's name (Ledger)", NULL},
    {"slot", CMD_STR, CMD_REQUIRED, NULL, "number or 0x and 64 hex digits", NULL},
    {"block", CMD_STR, CMD_NAMED, "latest", "as of this block: number, hash, or latest", NULL},
    {NULL}};

static enum loam_status storage(struct cmd_call *c, struct err *err) {
    struct addr20 a;
    struct hash32 slot;
    struct u256 v;
    json_t *o = NULL;
    const char *w = cmd_str(c, "address"), *sw = cmd_str(c, "slot");
    struct chain *light; /* waits until reads are possible */
    enum loam_status s = node_chain_ready(cmd_node(c), &light, cmd_job(c), err);
    if (!s)
        s = w[0] == '0' && w[1] == 'x' ? addr_parse(&a, w, err)
                                       : node_chain_contract(cmd_node(c), w, &a, err);
    if (!s && strlen(sw) == 66) {
        s = hash_parse(&slot, sw, err);
    } else if (!s) {
        s = u256_parse(&v, sw, err);
        if (!s)
            u256_to_be(slot.b, v);
    }
    if (!s)
        s = node_chain_show_storage(cmd_node(c), &o, &a, &slot, cmd_str(c, "block"), cmd_job(c), err);
    if (!s)
        cmd_result(c, o);
    return s;
}
const struct cmd entry_chain_storage = {.noun = "chain",
                                        .verb = "storage",
                                        .args = storage_args,
                                        .help = "one storage slot of a contract, proven",
                                        .example = "chain storage Ledger 0",
                                        .run = storage};

static const struct cmd_arg logs_args[] = {{"address", CMD_STR, CMD_REQUIRED, NULL, "an address, or a contract's name (Ledger)", NULL},
                                           {"from", CMD_UINT, CMD_NAMED, NULL, "first block; where the contracts were deployed when absent", NULL},
                                           {"to", CMD_UINT, CMD_NAMED, NULL, "last block; the head when absent", NULL},
                                           {"topic", CMD_HASH, CMD_NAMED, NULL, "only events of this topic 0", NULL},
                                           {"limit", CMD_UINT, CMD_NAMED, "100", "most logs shown", "1..10000"},
                                           {NULL}};

static enum loam_status logs(struct cmd_call *c, struct err *err) {
    struct addr20 a;
    struct hash32 topic;
    struct chain *light;
    const char *w = cmd_str(c, "address");
    json_t *o = NULL;
    enum loam_status s = node_chain_ready(cmd_node(c), &light, cmd_job(c), err);
    if (!s)
        s = w[0] == '0' && w[1] == 'x' ? addr_parse(&a, w, err) : node_chain_contract(cmd_node(c), w, &a, err);
    if (!s && cmd_given(c, "topic"))
        s = hash_parse(&topic, cmd_str(c, "topic"), err);
    if (!s)
        s = node_chain_show_logs(cmd_node(c), &o, &a, cmd_given(c, "topic") ? &topic : NULL,
                                 cmd_given(c, "from") ? cmd_uint(c, "from") : node_chain_deploy_block(cmd_node(c)),
                                 cmd_given(c, "to") ? cmd_uint(c, "to") : UINT64_MAX, cmd_uint(c, "limit"), cmd_job(c), err);
    if (!s)
        cmd_result(c, o);
    return s;
}
const struct cmd entry_chain_logs = {.noun = "chain",
                                     .verb = "logs",
                                     .args = logs_args,
                                     .help = "a contract's logs, complete: blooms checked, receipts rebuilt to their roots",
                                     .example = "chain logs Ledger --from 10 --to 200",
                                     .run = logs};

static const struct cmd_arg watch_args[] = {{"count", CMD_UINT, CMD_NAMED, "0", "heads to show; 0: until it is ended", "0..10000"}, {NULL}};

static enum loam_status watch(struct cmd_call *c, struct err *err) {
    struct chain *light;
    enum loam_status s = node_chain_ready(cmd_node(c), &light, cmd_job(c), err);
    uint64_t shown = 0, count = cmd_uint(c, "count"), last = 0;
    json_t *all = json_array();
    while (!s && (!count || shown < count)) {
        if ((s = node_chain_wait_block(cmd_node(c), last + 1, cmd_job(c), err)))
            break;
        json_t *v = status_now(cmd_node(c)), *h = json_array_get(json_object_get(v, "heads"), 0);
        uint64_t number = (uint64_t)json_integer_value(json_object_get(h, "number"));
        if (number > last) {
            const char *hash = json_string_value(json_object_get(h, "hash")), *how = json_string_value(json_object_get(h, "how"));
            cmd_out(c, "%llu  %s  %s\n", (unsigned long long)number, hash ? hash : "", how ? how : "");
            if (count)
                json_array_append(all, h);
            last = number;
            shown++;
        } else if ((s = job_sleep_ms(cmd_job(c), 100, err))) { /* the head is known, the topic follows in a moment */
            json_decref(v);
            break;
        }
        json_decref(v);
    }
    if (s)
        json_decref(all);
    else
        cmd_result(c, all);
    return s;
}
static void print_nothing(struct cmd_call *c, const json_t *result) {
    (void)c;
    (void)result; /* each head was printed as it came */
}
const struct cmd entry_chain_watch = {.noun = "chain",
                                      .verb = "watch",
                                      .args = watch_args,
                                      .help = "the heads as they come, and how each is known",
                                      .example = "chain watch --count 3",
                                      .run = watch,
                                      .print = print_nothing};

static enum loam_status pending(struct cmd_call *c, struct err *err) {
    (void)err;
    cmd_result(c, outbox_list(cmd_node(c)));
    return LOAM_OK;
}
const struct cmd entry_chain_pending = {.noun = "chain",
                                        .verb = "pending",
                                        .help = "the transactions of this node, the newest first",
                                        .example = "chain pending",
                                        .run = pending};

static enum loam_status evidence(struct cmd_call *c, struct err *err) {
    (void)err;
    cmd_result(c, node_chain_evidence(cmd_node(c)));
    return LOAM_OK;
}
const struct cmd entry_chain_evidence = {.noun = "chain",
                                         .verb = "evidence",
                                         .help = "lies of RPCs and equivocations that were caught",
                                         .example = "chain evidence",
                                         .run = evidence};

static const struct cmd_arg send_args[] = {
    {"to", CMD_STR, CMD_REQUIRED, NULL, "an address, or the name of a key", NULL},
    {"amount", CMD_COIN, CMD_REQUIRED, NULL, "OPEN", NULL},
    {"from", CMD_KEY, CMD_NAMED, NULL, "key that pays; the default key when absent", NULL},
    {NULL}};

static enum loam_status pay(struct cmd_call *c, struct err *err) {
    struct node *n = cmd_node(c);
    char from[KEY_NAME_MAX], hex[ADDR_HEX_MAX], amount[U256_DEC_MAX + 2], key[128], tx_hex[HASH_HEX_MAX],
        fee[U256_DEC_MAX];
    struct addr20 to;
    struct outbox_result r = {0};
    enum loam_status s = LOAM_OK;
    if (cmd_given(c, "from"))
        snprintf(from, sizeof from, "%s", cmd_str(c, "from"));
    else
        s = keys_default(n, from, err);
    if (!s)
        s = address_of(c, cmd_str(c, "to"), &to, err);
    if (s)
        return s;
    u256_format_coin(amount, cmd_coin(c, "amount"));
    s = cmd_confirm(c, err, "Send %s OPEN from key %s to %s on chain %llu?", amount, from, addr_hex(hex, &to),
                    (unsigned long long)node_chain_id(n));
    if (!s)
        s = cmd_unlock(c, from, err);
    snprintf(key, sizeof key, "send/%s", cmd_flow(c));
    struct outbox_tx tx = {.from = from, .to = &to, .value = cmd_coin(c, "amount"), .what = "payment"};
    if (!s)
        s = outbox_send(n, &r, key, &tx, cmd_job(c), err);
    if (!s) {
        u256_format(fee, r.fee);
        cmd_result(c, json_pack("{s:s s:I s:s}", "tx", hash_hex(tx_hex, &r.tx), "block", (json_int_t)r.block,
                                "fee_wei", fee));
    }
    outbox_result_clear(&r);
    return s;
}
const struct cmd entry_chain_send = {.noun = "chain",
                                     .verb = "send",
                                     .args = send_args,
                                     .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS | CMD_REPEATS,
                                     .help = "pay coins to an address",
                                     .example = "chain send bob 0.5 --from alice",
                                     .run = pay};

static const struct cmd_arg export_args[] = {
    {"file", CMD_PATH, 0, NULL, "file to write; the standard output when absent", NULL},
    {"anchor", CMD_FLAG, CMD_NAMED, NULL, "let the other begin at this node's verified head instead of where this one began", NULL},
    {NULL}};

static enum loam_status export_file(struct cmd_call *c, struct err *err) {
    struct node *n = cmd_node(c);
    json_t *f = NULL;
    enum loam_status s = node_chain_show_file(n, &f, cmd_flag(c, "anchor"), cmd_job(c), err);
    char *text = s ? NULL : json_dumps(f, JSON_INDENT(2) | JSON_SORT_KEYS);
    if (!s && !text)
        s = err_set(err, LOAM_ENOMEM, "no memory for the chain's file");
    if (!s && cmd_given(c, "file"))
        s = file_write(cmd_str(c, "file"), text, strlen(text), 0644, err);
    else if (!s)
        cmd_out(c, "%s\n", text);
    mem_free(text);
    if (s)
        json_decref(f);
    else
        cmd_result(c, f);
    return s;
}
static void print_export(struct cmd_call *c, const json_t *result) {
    if (cmd_given(c, "file"))
        cmd_out(c, "%s: chain %lld, %zu contracts\n", cmd_str(c, "file"), (long long)json_integer_value(json_object_get(result, "chain_id")),
                json_object_size(json_object_get(result, "contracts")));
}
const struct cmd entry_chain_export = {.noun = "chain",
                                       .verb = "export",
                                       .args = export_args,
                                       .help = "the chain's file, with its contracts, for another data folder",
                                       .text = "Another node takes it over with `chain use --file FILE`. It holds addresses and code "
                                               "hashes, no keys; its RPC addresses may hold keys of paid RPCs: look before giving it away.",
                                       .example = "chain export loam-chain.json --anchor",
                                       .run = export_file,
                                       .print = print_export};
