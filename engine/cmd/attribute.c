/* attribute */
#include "cmd/flows.h"
#include "flow/attribute.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

static enum loam_status run(struct cmd_call *c, struct err *err);
static void print(struct cmd_call *c, const json_t *r);
static const struct cmd_arg args[] = {
    {"answer", CMD_UINT, 0, "0", "number of the answer; 0: the newest", NULL},
    {"method", CMD_CHOICE, CMD_NAMED, "fisher", "method that decides rank and shares", "fisher|tracin|graddot|bm25|span"},
    {NULL}};
const struct cmd entry_attribute = {
    .noun = "attribute",
    .args = args,
    .flags = CMD_LONG,
    .help = "whose rows an answer came from",
    .text = "Scores every training row of the answer's model: the damped Fisher form over all checkpoints, in integers, so that every machine "
            "gets the same to the last digit. Shares go to contributors whose rows' sum is above the noise; the rest is burnt when the answer "
            "is paid for. The other methods stand beside it.",
    .example = "attribute 1",
    .run = run,
    .print = print};

static enum loam_status run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    enum poa_method m;
    json_t *out = NULL;
    if (!poa_method_find(&m, cmd_str(c, "method")))
        return err_set(err, LOAM_EINVAL, "unknown method");
    enum loam_status s = flow_attribute(&f, &out, cmd_uint(c, "answer"), m, err);
    return flow_result(c, s, out);
}

static const char *text(const json_t *o, const char *k) {
    const char *s = json_string_value(json_object_get(o, k));
    return s ? s : "-";
}

static void print(struct cmd_call *c, const json_t *r) {
    const json_t *list, *o;
    const char *name;
    size_t i;
    cmd_out(c, "answer %lld of %s: %s", (long long)json_integer_value(json_object_get(r, "answer")), text(r, "model"), text(r, "text"));
    cmd_out(c, "method %s, floor %s a row, %lld ms", text(r, "method"), text(r, "floor"), (long long)json_integer_value(json_object_get(r, "elapsed_ms")));
    cmd_out(c, "contributors:");
    json_array_foreach(json_object_get(r, "shares"), i, o) {
        cmd_out(c, "  account %-6lld %6.2f %%  net %s", (long long)json_integer_value(json_object_get(o, "account")),
                (double)json_integer_value(json_object_get(o, "share_ppm")) / 1e4, text(o, "net"));
    }
    cmd_out(c, "  burnt          %6.2f %%", (double)json_integer_value(json_object_get(r, "burnt_ppm")) / 1e4);
    cmd_out(c, "rows:");
    json_array_foreach(json_object_get(r, "rows"), i, o) {
        if (i == 8)
            break;
        const char *t = text(o, "text");
        cmd_out(c, "  %2lld. row %-5lld account %-4lld %6.2f %%  %.*s", (long long)json_integer_value(json_object_get(o, "rank")),
                (long long)json_integer_value(json_object_get(o, "row")), (long long)json_integer_value(json_object_get(o, "account")),
                (double)json_integer_value(json_object_get(o, "share_ppm")) / 1e4, (int)strcspn(t, "\n"), t);
    }
    cmd_out(c, "first rows by other methods:");
    json_object_foreach((json_t *)json_object_get(r, "methods"), name, list) {
        char line[160] = "";
        size_t at = 0;
        json_array_foreach(list, i, o) {
            if (i < 5 && at < sizeof line - 16)
                at += (size_t)snprintf(line + at, sizeof line - at, " %lld", (long long)json_integer_value(json_object_get(o, "row")));
        }
        cmd_out(c, "  %-8s%s", name, line);
    }
}
