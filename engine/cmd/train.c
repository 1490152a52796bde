/* train */
#include "base/mem.h"
#include "cmd/flows.h"
#include "flow/train.h"
#include "node/keys.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

static enum loam_status run(struct cmd_call *c, struct err *err);
static void print(struct cmd_call *c, const json_t *r);
static const struct cmd_arg args[] = {
    {"name", CMD_STR, CMD_REQUIRED, NULL, "name of the adapter", NULL},
    {"datanet", CMD_DATANET, CMD_NAMED, "1", "datanet whose rows are taken", NULL},
    {"files", CMD_PATH, CMD_NAMED | CMD_MANY, NULL, "private run on JSONL files instead: no chain, no statements", NULL},
    {"seed", CMD_HASH, CMD_NAMED, NULL, "seed of a private run; drawn when absent (recorded runs get theirs from the chain)", NULL},
    {"base", CMD_MODEL, CMD_NAMED, NULL, "base model; the only one when absent", NULL},
    {"as", CMD_KEY, CMD_NAMED, NULL, "the trainer's key", NULL},
    {"relay", CMD_KEY, CMD_NAMED, NULL, "key that pays the gas; the trainer's when absent", NULL},
    {"rank", CMD_UINT, CMD_NAMED, "16", "rank of the LoRA matrices", "1..256"},
    {"alpha", CMD_REAL, CMD_NAMED, "32", "LoRA alpha: scale is alpha / rank", NULL},
    {"rslora", CMD_FLAG, CMD_NAMED, NULL, "scale is alpha / sqrt(rank)", NULL},
    {"targets", CMD_STR, CMD_NAMED, "all", "linear layers: all, or a list of q,k,v,o,gate,up,down", NULL},
    {"dropout", CMD_REAL, CMD_NAMED, "0", "share of inputs dropped before A", NULL},
    {"lr", CMD_REAL, CMD_NAMED, "0.001", "highest learning rate", NULL},
    {"schedule", CMD_CHOICE, CMD_NAMED, "linear", "how the rate falls", "constant|linear|cosine"},
    {"warmup", CMD_REAL, CMD_NAMED, "0.06", "share of the steps in which it rises", NULL},
    {"decay", CMD_REAL, CMD_NAMED, "0", "weight decay", NULL},
    {"clip", CMD_REAL, CMD_NAMED, "1", "longest gradient; 0: none", NULL},
    {"epochs", CMD_UINT, CMD_NAMED, "12", "times every row is seen", "1..1000000"},
    {"batch", CMD_UINT, CMD_NAMED, "8", "rows a step", "1..65536"},
    {"max-tokens", CMD_UINT, CMD_NAMED, "1024", "longest row; longer ones are refused by name", "2..1048576"},
    {"eval", CMD_REAL, CMD_NAMED, "0", "share of the rows kept back to evaluate on, never trained (rows with the same answer stay together); the adapter with the lowest loss there is kept", NULL},
    {"eval-every", CMD_UINT, CMD_NAMED, "0", "steps between evaluations; 0: an epoch", "0..4194304"},
    {"patience", CMD_UINT, CMD_NAMED, "0", "evaluations without a lower loss that end the training; 0: none does", "0..1000000"},
    {"ranks", CMD_UINT, CMD_NAMED, "1", "processes that share the work, started by mpirun; the adapter is the same for any number", "1..512"},
    {"hosts", CMD_PATH, CMD_NAMED, NULL, "mpirun's file of machines for --ranks; this machine when absent", NULL},
    {NULL}};
const struct cmd entry_train = {
    .noun = "train",
    .args = args,
    .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
    .help = "train an adapter on contributed rows",
    .text = "LoRA in arith-1: the recipe is signed and recorded first, the seed comes from a later block, and the same recipe "
            "always gives the same adapter hash. It may be interrupted at any moment, also by kill -9: it goes on where it was. After it the "
            "gradients of all rows at the checkpoints (after epochs 1, 2, 4, 8 and so on, and the last) are kept for `attribute`. With --files "
            "nothing is recorded on a chain.",
    .example = "train facts --datanet 1 --as trainer --epochs 12",
    .run = run,
    .print = print};

static enum loam_status run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    json_t *out = NULL;
    struct flow_train q = {.name = cmd_str(c, "name"),
                           .base = cmd_str(c, "base"),
                           .datanet = cmd_uint(c, "datanet"),
                           .relay = cmd_str(c, "relay"),
                           .seed = cmd_str(c, "seed"),
                           .n_files = cmd_count(c, "files"),
                           .ranks = (unsigned)cmd_uint(c, "ranks"),
                           .hosts = cmd_str(c, "hosts")};
    struct lm_hyper *h = &q.hyper;
    const char *schedule = cmd_str(c, "schedule");
    lm_hyper_default(h);
    h->rank = (uint32_t)cmd_uint(c, "rank");
    h->alpha = (float)cmd_real(c, "alpha");
    h->rslora = cmd_flag(c, "rslora");
    h->dropout = (float)cmd_real(c, "dropout");
    h->lr = cmd_real(c, "lr");
    h->schedule = !strcmp(schedule, "constant") ? LM_CONSTANT : !strcmp(schedule, "linear") ? LM_LINEAR : LM_COSINE;
    h->warmup = cmd_real(c, "warmup");
    h->decay = cmd_real(c, "decay");
    h->clip = cmd_real(c, "clip");
    h->epochs = (uint32_t)cmd_uint(c, "epochs");
    h->batch = (uint32_t)cmd_uint(c, "batch");
    h->max_tokens = (uint32_t)cmd_uint(c, "max-tokens");
    h->eval = cmd_real(c, "eval");
    h->eval_every = (uint32_t)cmd_uint(c, "eval-every");
    h->patience = (uint32_t)cmd_uint(c, "patience");
    enum loam_status s = lm_targets_parse(&h->targets, cmd_str(c, "targets"), err);
    if (s || (s = lm_hyper_check(h, err)))
        return s;
    const char **files = mem_array(q.n_files + 1, sizeof *files);
    if (!files)
        return err_set(err, LOAM_ENOMEM, "no memory for %zu names", q.n_files);
    for (size_t i = 0; i < q.n_files; i++)
        files[i] = cmd_str_at(c, "files", i);
    q.files = files;
    if (!q.n_files) {
        if (!(s = key_arg(c, "as", key, err)))
            q.key = key;
    }
    if (!s)
        s = flow_train(&f, &out, &q, err);
    mem_free(files);
    return flow_result(c, s, out);
}

static const char *text(const json_t *o, const char *k) {
    const char *s = json_string_value(json_object_get(o, k));
    return s ? s : "-";
}

static void print(struct cmd_call *c, const json_t *r) {
    const json_t *f = json_object_get(r, "figures"), *v = json_object_get(r, "evaluation"), *p;
    size_t i;
    cmd_out(c, "adapter     %s on %s%s", text(r, "name"), text(r, "base"), json_is_true(json_object_get(r, "new")) ? "" : " (was there already)");
    cmd_out(c, "hash        %s", text(r, "adapter_hash"));
    cmd_out(c, "rows        %lld, root %s", (long long)json_integer_value(json_object_get(r, "rows")), text(r, "data_root"));
    cmd_out(c, "seed        %s", text(r, "seed"));
    json_array_foreach(json_object_get(r, "checkpoints"), i, p) {
        cmd_out(c, "checkpoint  epoch %lld, %s", (long long)json_integer_value(json_object_get(p, "epoch")), text(p, "adapter_hash"));
    }
    if (json_integer_value(json_object_get(r, "model")))
        cmd_out(c, "recorded    model %lld, training %s", (long long)json_integer_value(json_object_get(r, "model")), text(r, "training_hash"));
    else
        cmd_out(c, "recorded    no (private run)");
    if (v)
        cmd_out(c, "evaluation  loss %.4f on %lld rows after step %lld, the lowest of %lld%s", json_real_value(json_object_get(v, "loss")),
                (long long)json_integer_value(json_object_get(v, "rows")), (long long)json_integer_value(json_object_get(v, "step")),
                (long long)json_integer_value(json_object_get(v, "evaluations")),
                json_is_true(json_object_get(v, "stopped_early")) ? "; ended there for want of a lower one" : "");
    if (f)
        cmd_out(c, "figures     loss %.4f after %lld steps, %.0f tok/s, %.0f s, %lld MiB", json_real_value(json_object_get(f, "loss")),
                (long long)json_integer_value(json_object_get(f, "steps")), json_real_value(json_object_get(f, "tokens_per_s")),
                json_real_value(json_object_get(f, "seconds")), (long long)(json_integer_value(json_object_get(f, "memory_bytes")) >> 20));
}
