/* settle */
#include "cmd/flows.h"
#include "flow/settle.h"
#include "node/keys.h"

#include "base/banned.h"

static enum loam_status run(struct cmd_call *c, struct err *err);
static const struct cmd_arg args[] = {
    {"batch", CMD_UINT, CMD_REQUIRED, NULL, "the batch", NULL},
    {"as", CMD_KEY, CMD_NAMED, NULL, "key that pays the gas", NULL},
    {"peer", CMD_STR, CMD_NAMED, NULL, "API of a node that serves the poster's bytes, where this one has not got them", NULL},
    {NULL}};
const struct cmd entry_settle = {
    .noun = "settle",
    .args = args,
    .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
    .help = "take a batch through its windows to its end",
    .text = "Draws the committee where nobody has, opens the poster's trace when no verdict can be committed any more, and finalizes the batch when "
            "its windows have closed. Anybody may run it; only the poster's node can open the trace. A batch that has ended is told as it ended.",
    .example = "settle 1 --as server",
    .run = run};

static enum loam_status run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    json_t *out = NULL;
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)))
        return s;
    s = flow_settle(&f, &out, cmd_uint(c, "batch"), key, cmd_str(c, "peer"), err);
    return flow_result(c, s, out);
}
