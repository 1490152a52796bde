/* dispute; demand leaf | answer | silence | show */
#include "cmd/flows.h"
#include "flow/dispute.h"
#include "node/keys.h"

#include "base/banned.h"

#define PEER {"peer", CMD_STR, CMD_NAMED, NULL, "API of a node that serves the poster's bytes; the batch's own locator when absent", NULL}
#define AS {"as", CMD_KEY, CMD_NAMED, NULL, "key that pays the gas", NULL}
#define BATCH {"batch", CMD_UINT, CMD_REQUIRED, NULL, "the batch", NULL}

static const struct cmd_arg dispute_args[] = {BATCH, {"look", CMD_FLAG, CMD_NAMED, NULL, "only say what is false", NULL}, AS, PEER, {NULL}};
static enum loam_status dispute_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX] = "";
    json_t *out = NULL;
    enum loam_status s;
    if (!cmd_flag(c, "look") && (s = key_arg(c, "as", key, err)))
        return s;
    s = flow_dispute(&f, &out, cmd_uint(c, "batch"), key, cmd_str(c, "peer"), cmd_flag(c, "look"), err);
    return flow_result(c, s, out);
}
const struct cmd entry_dispute = {
    .noun = "dispute",
    .args = dispute_args,
    .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
    .help = "prove a false batch to the contract, which slashes its bond",
    .text = "Fetches the batch's bytes by their hash, recomputes its trees, tables and statements, and sends the contract the leaves that show what is "
            "false: sum, end, decrease, missing, sequence, fee, link, count or claim. Half of the bond goes to who proves it, half is burnt. What "
            "only re-execution shows is told, and is for validators. Works while the batch is open; validators do the same by themselves.",
    .example = "dispute 4 --as val",
    .run = dispute_run};

static const struct cmd_arg leaf_args[] = {BATCH,
                                           {"tree", CMD_CHOICE, CMD_NAMED, "inferences", "which tree", "requests|inferences|attributions|payouts"},
                                           {"index", CMD_UINT, CMD_NAMED, "0", "place of the leaf, from 0", NULL},
                                           AS,
                                           {NULL}};
static enum loam_status leaf_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    enum batch_tree tree = TREE_INFERENCES;
    json_t *out = NULL;
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)))
        return s;
    (void)!batch_tree_find(&tree, cmd_str(c, "tree"));
    s = flow_demand_leaf(&f, &out, cmd_uint(c, "batch"), tree, cmd_uint(c, "index"), key, err);
    return flow_result(c, s, out);
}
const struct cmd entry_demand_leaf = {
    .noun = "demand",
    .verb = "leaf",
    .args = leaf_args,
    .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
    .help = "demand a leaf of a batch on the chain; silence costs the poster's bond",
    .text = "For bytes that the poster does not serve. The deposit is the poster's if he shows the leaf in time; the batch cannot settle before. One "
            "leaf of a batch can be demanded at a time, within its challenge window.",
    .example = "demand leaf 1 --tree inferences --index 0 --as val",
    .run = leaf_run};

static const struct cmd_arg answer_args[] = {BATCH, AS, PEER, {NULL}};
static enum loam_status answer_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    json_t *out = NULL;
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)))
        return s;
    s = flow_demand_answer(&f, &out, cmd_uint(c, "batch"), key, cmd_str(c, "peer"), err);
    return flow_result(c, s, out);
}
const struct cmd entry_demand_answer = {.noun = "demand",
                                        .verb = "answer",
                                        .args = answer_args,
                                        .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
                                        .help = "show a demanded leaf; settle does it by itself on the poster's node",
                                        .example = "demand answer 1 --as server",
                                        .run = answer_run};

static const struct cmd_arg silence_args[] = {BATCH, AS, {NULL}};
static enum loam_status silence_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    json_t *out = NULL;
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)))
        return s;
    s = flow_demand_silence(&f, &out, cmd_uint(c, "batch"), key, err);
    return flow_result(c, s, out);
}
const struct cmd entry_demand_silence = {.noun = "demand",
                                         .verb = "silence",
                                         .args = silence_args,
                                         .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
                                         .help = "slash a poster who did not show a demanded leaf in time",
                                         .example = "demand silence 1 --as val",
                                         .run = silence_run};

static const struct cmd_arg show_args[] = {BATCH, {NULL}};
static enum loam_status show_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    json_t *out = NULL;
    enum loam_status s = flow_demand_show(&f, &out, cmd_uint(c, "batch"), err);
    return flow_result(c, s, out);
}
const struct cmd entry_demand_show = {.noun = "demand", .verb = "show", .args = show_args, .help = "the demand that is open for a batch, proven",
                                      .example = "demand show 1", .run = show_run};
