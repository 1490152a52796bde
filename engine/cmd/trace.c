/* trace */
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
