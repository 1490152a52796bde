/* model quiz */
#include "cmd/flows.h"
#include "flow/quiz.h"

#include <string.h>

#include "base/banned.h"

static enum loam_status run(struct cmd_call *c, struct err *err);
static void print(struct cmd_call *c, const json_t *r);
static const struct cmd_arg args[] = {
    {"file", CMD_PATH, CMD_REQUIRED, NULL, "JSONL: {\"question\", \"expect\", \"kind\", \"sources\"}", NULL},
    {"model", CMD_MODEL, CMD_NAMED | CMD_REQUIRED, NULL, "base, adapter or BASE+ADAPTER", NULL},
    {"attribute", CMD_FLAG, CMD_NAMED, NULL, "score the training rows behind each right answer, by every method", NULL},
    {"limit", CMD_UINT, CMD_NAMED, "0", "questions asked; 0: all", "0..100000"},
    {"act", CMD_CHOICE, CMD_NAMED, "q8", "arithmetic of activations", "f32|q8"},
    {"max-tokens", CMD_UINT, CMD_NAMED, "48", "longest answer", "1..100000"},
    {NULL}};
const struct cmd entry_model_quiz = {
    .noun = "model",
    .verb = "quiz",
    .args = args,
    .flags = CMD_LONG,
    .help = "put a list of questions to a model and count the right answers",
    .text = "The questions are fixed before training; an answer is right if \"expect\" stands in it. With --attribute the rows that taught "
            "each right answer are looked for, and every method is counted: how often one of the question's sources ranks first, and what "
            "share their contributor gets.",
    .example = "model quiz questions.jsonl --model facts --attribute",
    .run = run,
    .print = print};

static enum loam_status run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    struct flow_quiz q = {.file = cmd_str(c, "file"), .model = cmd_str(c, "model"), .act = strcmp(cmd_str(c, "act"), "f32") ? LM_ACT_Q8 : LM_ACT_F32,
                          .max_tokens = (uint32_t)cmd_uint(c, "max-tokens"), .limit = cmd_uint(c, "limit"), .attribute = cmd_flag(c, "attribute")};
    json_t *out = NULL;
    enum loam_status s = flow_quiz(&f, &out, &q, err);
    return flow_result(c, s, out);
}

static long long number(const json_t *o, const char *k) {
    return (long long)json_integer_value(json_object_get(o, k));
}

static void print(struct cmd_call *c, const json_t *r) {
    const json_t *k, *m;
    size_t i, j;
    cmd_out(c, "%s: %lld questions in %.1f s", json_string_value(json_object_get(r, "model")), number(r, "questions"),
            json_real_value(json_object_get(r, "seconds")));
    json_array_foreach(json_object_get(r, "kinds"), i, k) {
        long long asked = number(k, "asked"), right = number(k, "right");
        cmd_out(c, "%-12s %lld of %lld right (%.1f %%)", json_string_value(json_object_get(k, "kind")), right, asked,
                asked ? 100.0 * (double)right / (double)asked : 0.0);
        json_array_foreach(json_object_get(k, "methods"), j, m) {
            long long rows = number(m, "rows"), first = number(m, "first");
            cmd_out(c, "  source row first by %-8s %lld of %lld (%.1f %%)", json_string_value(json_object_get(m, "method")), first, rows,
                    100.0 * (double)first / (double)rows);
        }
        if (json_object_get(k, "share_ppm"))
            cmd_out(c, "  mean share of its contributor  %.1f %%", (double)number(k, "share_ppm") / 1e4);
    }
}
