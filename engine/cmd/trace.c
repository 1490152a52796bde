/* trace, row show */
#include "cmd/flows.h"
#include "flow/trace.h"

#include "base/banned.h"

static enum loam_status run(struct cmd_call *c, struct err *err);
static void print(struct cmd_call *c, const json_t *result);
static const struct cmd_arg args[] = {
    {"payment", CMD_HASH, CMD_REQUIRED, NULL, "transaction of a claim", NULL},
    {"peer", CMD_STR, CMD_NAMED, NULL, "API of a node that serves the bytes, where this one has not got them", NULL},
    {NULL}};
const struct cmd entry_trace = {
    .noun = "trace",
    .args = args,
    .flags = CMD_LONG,
    .help = "walk a payment back to the row behind it",
    .text = "From the coin to the claim, the batch, the answer, the row and the key that signed its contribution. Every link is verified anew: "
            "receipts and logs against verified headers, hashes by storage proof, roots, shares and sums recomputed, signatures recovered. It "
            "fails where a link does not hold.",
    .example = "trace 0x2336b304162da31471f83bd0b927fd8de1fa2f3d8f8e1f4a10bb587ce896a2e4",
    .run = run,
    .print = print};

static enum loam_status run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    struct hash32 tx;
    json_t *out = NULL;
    enum loam_status s;
    f.note = NULL; /* the links are the result */
    if ((s = hash_parse(&tx, cmd_str(c, "payment"), err)))
        return s;
    s = flow_trace(&f, &out, &tx, cmd_str(c, "peer"), err);
    return flow_result(c, s, out);
}

static void print(struct cmd_call *c, const json_t *result) {
    const json_t *links = json_object_get(result, "links"), *calls = json_object_get(result, "calls"), *v, *r;
    size_t i, k;
    json_array_foreach((json_t *)links, i, v) {
        cmd_out(c, "%-13s %s", json_string_value(json_object_get(v, "link")), json_string_value(json_object_get(v, "text")));
        cmd_out(c, "%-13s   known by: %s", "", json_string_value(json_object_get(v, "how")));
    }
    cmd_out(c, "%s", "");
    cmd_out(c, "every call behind it:");
    json_array_foreach((json_t *)calls, i, v) {
        char coin[U256_DEC_MAX + 2] = "?";
        struct u256 wei;
        const char *a = json_string_value(json_object_get(v, "amount_wei"));
        if (a && !u256_parse(&wei, a, NULL))
            u256_format_coin(coin, wei);
        cmd_out(c, "  batch %lld, call %lld: %s OPEN for \"%s\"", (long long)json_integer_value(json_object_get(v, "batch")),
                (long long)json_integer_value(json_object_get(v, "sequence")), coin, json_string_value(json_object_get(v, "prompt")));
        json_array_foreach(json_object_get(v, "rows"), k, r)
            cmd_out(c, "    row %lld of contribution %lld: %s", (long long)json_integer_value(json_object_get(r, "index")),
                    (long long)json_integer_value(json_object_get(r, "contribution")), json_string_value(json_object_get(r, "text")));
    }
}

static enum loam_status row_run(struct cmd_call *c, struct err *err);
static void row_print(struct cmd_call *c, const json_t *result);
static const struct cmd_arg row_args[] = {{"row", CMD_HASH, CMD_REQUIRED, NULL, "the row's hash", NULL},
                                          {"peer", CMD_STR, CMD_NAMED, NULL, "API of a node that serves the bytes, where this one has not got them", NULL},
                                          {NULL}};
const struct cmd entry_row_show = {
    .noun = "row",
    .verb = "show",
    .args = row_args,
    .flags = CMD_LONG,
    .help = "a contributed row and the signed statement it stands under",
    .text = "The row's text, its place in its contribution, who signed that and under which licence. Every link is verified anew: the leaf under "
            "the signed root, the contribution by a log of a verified block, the signature recovered from the statement.",
    .example = "row show 0x9a7e1d5c0b1f4e8890d2c3b4a5968778695a4b3c2d1e0f001122334455667788",
    .run = row_run,
    .print = row_print};

static enum loam_status row_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    struct hash32 row;
    json_t *out = NULL;
    enum loam_status s;
    f.note = NULL;
    if ((s = hash_parse(&row, cmd_str(c, "row"), err)))
        return s;
    s = flow_row(&f, &out, &row, cmd_str(c, "peer"), err);
    return flow_result(c, s, out);
}

static void row_print(struct cmd_call *c, const json_t *result) {
    const json_t *links = json_object_get(result, "links"), *v;
    const char *k;
    json_t *o;
    size_t i;
    cmd_out(c, "%s", json_string_value(json_object_get(result, "text")));
    cmd_out(c, "%s", "");
    json_array_foreach((json_t *)links, i, v) {
        cmd_out(c, "%-13s %s", json_string_value(json_object_get(v, "link")), json_string_value(json_object_get(v, "text")));
        cmd_out(c, "%-13s   known by: %s", "", json_string_value(json_object_get(v, "how")));
    }
    if (json_object_size(json_object_get(result, "statement")))
        cmd_out(c, "%s", "statement, as it was signed:");
    json_object_foreach(json_object_get(result, "statement"), k, o) {
        if (json_is_integer(o))
            cmd_out(c, "  %-13s %lld", k, (long long)json_integer_value(o));
        else
            cmd_out(c, "  %-13s %s", k, json_is_string(o) ? json_string_value(o) : "-");
    }
    if (json_is_string(json_object_get(result, "signature")))
        cmd_out(c, "  %-13s %s", "signature", json_string_value(json_object_get(result, "signature")));
}
