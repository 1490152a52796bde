/* validate */
#include "cmd/flows.h"
#include "flow/validate.h"
#include "node/keys.h"

#include "base/banned.h"

static enum loam_status run(struct cmd_call *c, struct err *err);
static const struct cmd_arg args[] = {
    {"batch", CMD_UINT, CMD_REQUIRED, NULL, "the batch", NULL},
    {"peer", CMD_STR, CMD_NAMED, NULL, "API of a node that serves the poster's bytes (http://HOST:PORT)", NULL},
    {"as", CMD_KEY, CMD_NAMED, NULL, "the validator's key", NULL},
    {NULL}};
const struct cmd entry_validate = {
    .noun = "validate",
    .args = args,
    .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
    .help = "re-run a batch and give a verdict",
    .text = "Fetches the batch, its model's rows, checkpoints and gradient stores by their hashes, recomputes every root, sum and share, runs "
            "every inference and attribution again and compares bit for bit. A validator who was drawn commits the verdict and reveals it "
            "when nobody can commit any more; who was not drawn is told what was found. What the contract can see to be false (`dispute`) is proven to it at once.",
    .example = "validate 1 --peer http://127.0.0.1:8571 --as val",
    .run = run};

static enum loam_status run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    json_t *out = NULL;
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)))
        return s;
    s = flow_validate(&f, &out, cmd_uint(c, "batch"), key, cmd_str(c, "peer"), err);
    return flow_result(c, s, out);
}
