/* contribute */
#include "base/mem.h"
#include "cmd/flows.h"
#include "flow/contribute.h"
#include "node/keys.h"

#include "base/banned.h"

static enum loam_status run(struct cmd_call *c, struct err *err);
static const struct cmd_arg args[] = {
    {"files", CMD_PATH, CMD_REQUIRED | CMD_MANY, NULL, "JSONL files", NULL},
    {"datanet", CMD_DATANET, CMD_NAMED, "1", "datanet that takes the rows", NULL},
    {"as", CMD_KEY, CMD_NAMED, NULL, "the contributor's key", NULL},
    {"licence", CMD_STR, CMD_NAMED, "CC0-1.0", "SPDX licence of the rows", NULL},
    {"relay", CMD_KEY, CMD_NAMED, NULL, "key that pays the gas; the contributor's when absent", NULL},
    {NULL}};
const struct cmd entry_contribute = {
    .noun = "contribute",
    .args = args,
    .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
    .help = "contribute rows to a datanet",
    .text = "Rows are normalised; those that stand twice or were contributed before are left out. A salted commitment goes to the chain "
            "first and the statement a block later, so that nobody can copy it from the pool and be first. Forms of a row: "
            "{\"messages\": [...]}, {\"prompt\", \"completion\"}, {\"question\", \"answer\"}, {\"instruction\", \"input\", \"output\"}, {\"text\"}. "
            "The same files again give the contribution that is there.",
    .example = "contribute facts.jsonl --datanet 1 --as alice",
    .run = run};

static enum loam_status run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    size_t n = cmd_count(c, "files");
    json_t *out = NULL;
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)))
        return s;
    const char **files = mem_array(n, sizeof *files);
    if (!files)
        return err_set(err, LOAM_ENOMEM, "no memory for %zu names", n);
    for (size_t i = 0; i < n; i++)
        files[i] = cmd_str_at(c, "files", i);
    s = flow_contribute(&f, &out, key, cmd_uint(c, "datanet"), cmd_str(c, "licence"), files, n, cmd_str(c, "relay"), err);
    mem_free(files);
    return flow_result(c, s, out);
}
