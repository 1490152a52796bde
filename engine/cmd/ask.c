/* ask: a prompt to a model; the answer streams to standard output and is stored. */
#include "base/mem.h"
#include "base/option.h"
#include "cmd/flows.h"
#include "flow/ask.h"
#include "flow/pay.h"
#include "node/keys.h"
#include "node/node.h"

#include <string.h>

#include "base/banned.h"

static const struct cmd_arg args[] = {
    {"prompt", CMD_TEXT, CMD_REQUIRED, NULL, "the question", NULL},
    {"model", CMD_MODEL, CMD_NAMED, NULL, "base, adapter or BASE+ADAPTER; else model.default, else the newest adapter", NULL},
    {"system", CMD_STR, CMD_NAMED, NULL, "system message instead of the template's own", NULL},
    {"act", CMD_CHOICE, CMD_NAMED, NULL, "arithmetic of activations; else model.act", "f32|q8"},
    {"max-tokens", CMD_UINT, CMD_NAMED, "256", "longest answer", "1..1000000"},
    {"temperature", CMD_REAL, CMD_NAMED, "0", "0: the likeliest token always", "0..100"},
    {"top-k", CMD_UINT, CMD_NAMED, "0", "draw from the k likeliest tokens only; 0: all", "0..1000000"},
    {"top-p", CMD_REAL, CMD_NAMED, "1", "draw from the likeliest tokens that make up this share", "0..1"},
    {"min-p", CMD_REAL, CMD_NAMED, "0", "drop tokens below this share of the likeliest", "0..1"},
    {"repeat-penalty", CMD_REAL, CMD_NAMED, "1", "above 1: tokens seen become less likely", "0.01..100"},
    {"presence-penalty", CMD_REAL, CMD_NAMED, "0", "taken from the logit of a token seen", "-100..100"},
    {"frequency-penalty", CMD_REAL, CMD_NAMED, "0", "taken from it for each time seen", "-100..100"},
    {"seed", CMD_HASH, CMD_NAMED, NULL, "32 bytes; else drawn and kept in the answer's record", NULL},
    {"stop", CMD_STR, CMD_NAMED | CMD_MANY, NULL, "end the answer before this text", NULL},
    {"pay", CMD_COIN, CMD_NAMED, NULL, "OPEN at most for a paid, public call that can be recorded", NULL},
    {"as", CMD_KEY, CMD_NAMED, NULL, "the payer's key, with --pay", NULL},
    {"server", CMD_KEY, CMD_NAMED, NULL, "with --pay: key of this node that answers; else serve.key", NULL},
    {"peer", CMD_STR, CMD_NAMED, NULL, "with --pay: API of the node that answers (http://HOST:PORT)", NULL},
    {NULL}};

static int show(void *ctx, const struct lm_token_event *t) {
    struct cmd_call *c = ctx;
    if (t->text_len)
        cmd_write(c, t->text, t->text_len);
    return cmd_cancelled(c);
}

static enum loam_status pay(struct cmd_call *c, json_t **rec, const struct flow_ask *q, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    struct pay p = {.key = key, .server = cmd_str(c, "server"), .peer = cmd_str(c, "peer"), .most = cmd_coin(c, "pay")};
    enum loam_status s = key_arg(c, "as", key, err);
    if (s || (s = flow_pay_ask(&f, rec, q, &p, err)))
        return s;
    const char *text = p.peer ? json_string_value(json_object_get(*rec, "text")) : NULL;
    if (text)
        cmd_write(c, text, strlen(text));
    return LOAM_OK;
}

static enum loam_status run(struct cmd_call *c, struct err *err) {
    struct node *n = cmd_node(c);
    char act[OPTION_TEXT_MAX];
    option_str(n->opt, "model.act", act);
    const char *a = cmd_str(c, "act");
    struct flow_ask q = {
        .model = cmd_str(c, "model"),
        .act = !strcmp(a ? a : act, "q8") ? LM_ACT_Q8 : LM_ACT_F32,
        .sampler = {.temperature = (float)cmd_real(c, "temperature"),
                    .top_k = (uint32_t)cmd_uint(c, "top-k"),
                    .top_p = (float)cmd_real(c, "top-p"),
                    .min_p = (float)cmd_real(c, "min-p"),
                    .repeat = (float)cmd_real(c, "repeat-penalty"),
                    .presence = (float)cmd_real(c, "presence-penalty"),
                    .frequency = (float)cmd_real(c, "frequency-penalty")},
        .max_tokens = (uint32_t)cmd_uint(c, "max-tokens"),
        .token = show,
        .ctx = c,
    };
    if (cmd_given(c, "seed")) {
        enum loam_status s = hex_decode(q.sampler.seed, 32, cmd_str(c, "seed"), err);
        if (s)
            return s;
        q.seeded = true;
    }
    bool paid = cmd_given(c, "pay");
    if (!paid && (cmd_str(c, "peer") || cmd_str(c, "server")))
        return err_set(err, LOAM_EINVAL, "--peer and --server go with --pay");
    if (paid && cmd_given(c, "seed"))
        return err_set(err, LOAM_EINVAL, "the seed of a paid answer follows from the payer's nonce and the server's commitment; --seed cannot choose it");
    size_t stops = cmd_count(c, "stop");
    if (stops > LM_STOP_MAX)
        return err_set(err, LOAM_ERANGE, "%zu stop strings; at most %d", stops, LM_STOP_MAX);
    for (size_t i = 0; i < stops; i++)
        q.stop[i] = cmd_str_at(c, "stop", i);
    const char *system = cmd_str(c, "system");
    json_t *messages = system ? json_pack("[{s:s s:s} {s:s s:s}]", "role", "system", "content", system, "role", "user", "content", cmd_str(c, "prompt"))
                              : json_pack("[{s:s s:s}]", "role", "user", "content", cmd_str(c, "prompt"));
    if (!messages)
        return err_set(err, LOAM_EINVAL, "the prompt is not UTF-8");
    q.messages = messages;
    json_t *rec;
    enum loam_status s = paid ? pay(c, &rec, &q, err) : flow_ask(&rec, n, cmd_job(c), &q, err);
    json_decref(messages);
    if (s)
        return s;
    cmd_write(c, "\n", 1);
    long long id = json_integer_value(json_object_get(rec, "id")), out = json_integer_value(json_object_get(rec, "tokens_out"));
    double sec = (double)json_integer_value(json_object_get(rec, "decode_us")) * 1e-6;
    cmd_note(c, "answer %lld of %s, %lld tokens, %.0f a second, act=%s; `attribute %lld` says whose rows it came from", id,
             json_string_value(json_object_get(rec, "model")), out, sec > 0 && out > 1 ? (double)(out - 1) / sec : 0.0,
             json_string_value(json_object_get(rec, "act")), id);
    cmd_result(c, rec);
    return LOAM_OK;
}

static void print(struct cmd_call *c, const json_t *result) {
    (void)c;
    (void)result; /* the tokens went out as they came */
}

const struct cmd entry_ask = {.noun = "ask",
                              .args = args,
                              .help = "ask a model; stream its answer",
                              .flags = CMD_SPENDS,
                              .text = "The answer is kept with everything that is needed to compute it again: tokens, sampler, seed, arithmetic. "
                                      "With --json the whole record is printed.\n\n"
                                      "--pay asks for pay: the key --as signs, before anything is computed, what is asked of which server and model for how "
                                      "much at most, and a voucher for all that it owes this server, which its escrow must cover (what is missing is put "
                                      "there first). The server is a key of this node, or another node's account by --peer; it answers nothing that is not "
                                      "signed and covered. Such an answer is public: its server may record it.",
                              .example = "ask \"Where does the river Ilm end?\" --max-tokens 60",
                              .run = run,
                              .print = print};
