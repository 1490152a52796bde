/* LoRA training figures: tokens a second and resident memory, one JSON object a line (see contrib/bench/run).
 * bench_train [--model FILE] [--threads N] [--steps N] [--backend NAME] [ROWS.jsonl ...]
 * Model: --model, else $LOAM_BENCH_MODEL, else contrib/models/tiny.gguf. Peers: contrib/bench/peft_train.py on the same files. */
#include "base/mem.h"
#include "gpu/ops.h"
#include "lm/model.h"
#include "lm/philox.h"
#include "lm/tokenizer.h"
#include "lm/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct err e;

static void die(const char *what) {
    fprintf(stderr, "bench_train: %s: %s\n", what, e.text);
    exit(1);
}

struct run {
    uint64_t stop, steps, tokens_first, tokens_last;
    size_t rss;
    double loss;
};
static void metrics(void *ctx, const struct lm_train_metrics *m) {
    struct run *r = ctx;
    r->steps++;
    r->rss = m->rss > r->rss ? m->rss : r->rss;
    r->loss = m->loss;
    fprintf(stderr, "step %llu/%llu loss %.4f lr %.2e norm %.3f %.0f tok/s\n", (unsigned long long)m->step, (unsigned long long)m->steps,
            m->loss, m->lr, m->grad_norm, m->tok_s);
}
static enum lm_train_ask ask(void *ctx) {
    struct run *r = ctx;
    return r->stop && r->steps >= r->stop ? LM_CANCEL : LM_GO_ON;
}

static void one(struct gpu *g, struct lm_model *m, const struct lm_data *d, const struct lm_hyper *h, uint64_t steps, const char *name,
                double goal, const char *peer, double peer_value) {
    static const uint8_t seed[32] = {42};
    char dir[] = "/tmp/loam-bench-XXXXXX", cmd[64];
    struct lm_trainer *t;
    struct lm_train_result res;
    struct run r = {.stop = steps};
    if (!mkdtemp(dir))
        die("no folder");
    if (lm_trainer_new(&t, g, m, d, h, seed, dir, 0, &e))
        die(name);
    const struct lm_train_plan *p = lm_trainer_plan(t);
    fprintf(stderr, "%s: %zu rows, %llu tokens, longest %u; plan: base %zu packed %zu adapter %zu optimiser %zu activations %zu scratch %zu MiB, "
            "%u tokens at once%s\n", name, d->count, (unsigned long long)d->tokens, d->longest, p->base >> 20, p->packed >> 20,
            p->adapter >> 20, p->optimiser >> 20, p->activations >> 20, p->scratch >> 20, p->micro_tokens, p->recompute == 2 ? ", layers recomputed" : p->recompute ? ", gate and up recomputed" : "");
    const struct lm_train_hooks hooks = {&r, metrics, NULL, ask, 1e9};
    enum loam_status s = lm_trainer_run(t, &hooks, &res, &e);
    if (s && s != LOAM_ECANCEL)
        die(name);
    lm_trainer_free(t);
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    if (system(cmd))
        fprintf(stderr, "bench_train: %s stays\n", dir);
    printf("{\"suite\": \"train\", \"name\": \"%s\", \"value\": %.1f, \"unit\": \"tok/s\", \"better\": \"more\", \"goal\": %.0f, \"peer\": \"%s\", "
           "\"peer_value\": %.0f, \"command\": \"bench_train\"}\n", name, res.tok_s, goal, peer, peer_value);
    printf("{\"suite\": \"train\", \"name\": \"%s, resident\", \"value\": %zu, \"unit\": \"MiB\", \"better\": \"less\", \"goal\": 900, \"peer\": "
           "\"PEFT, PyTorch 2.13\", \"peer_value\": 4096, \"command\": \"bench_train\"}\n", name, r.rss >> 20);
    fflush(stdout);
}

int main(int argc, char **argv) {
    const char *path = getenv("LOAM_BENCH_MODEL"), *backend = NULL, *only = NULL;
    const char *src = getenv("srcdir");
    char tiny[512];
    int threads = 0;
    uint64_t steps = 6;
    struct lm_data d;
    lm_data_init(&d);
    snprintf(tiny, sizeof tiny, "%s/contrib/models/tiny.gguf", src ? src : ".");
    int i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2)
        if (!strcmp(argv[i], "--model"))
            path = argv[i + 1];
        else if (!strcmp(argv[i], "--threads"))
            threads = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--steps"))
            steps = strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--backend"))
            backend = argv[i + 1];
        else if (!strcmp(argv[i], "--only"))
            only = argv[i + 1];
        else {
            fprintf(stderr, "bench_train: unknown option %s\n", argv[i]);
            return 2;
        }
    struct lm_model *m;
    struct gpu *g;
    const struct gpu_config c = {backend, threads};
    if (lm_model_open(&m, path ? path : tiny, &e))
        die("model");
    if (gpu_open(&g, &c, &e))
        die("backend");
    static const char *const demo[] = {"alice", "bob", "carol"};
    for (; i < argc; i++)
        if (lm_data_add_file(&d, m, argv[i], 1024, false, &e))
            die(argv[i]);
    for (int k = 0; !d.count || (k && k < 3); k++) {
        char file[512];
        snprintf(file, sizeof file, "%s/contrib/demo/%s.jsonl", src ? src : ".", demo[k]);
        if (lm_data_add_file(&d, m, file, 1024, false, &e))
            die(file);
        if (k == 2)
            break;
    }
    struct lm_hyper h;
    lm_hyper_default(&h);
    h.epochs = 64; /* enough to stop in the middle */
    fprintf(stderr, "backend %s, %d threads, %s\n", g->name, g->threads, m->name);
    if (!only || !strcmp(only, "rows"))
        one(g, m, &d, &h, steps, "LoRA r16 all linears, demo rows, loss on answers", 340, "PEFT, PyTorch 2.13", 213);
    if (!only || !strcmp(only, "random")) {
        struct lm_data x;
        lm_data_init(&x);
        static uint32_t ids[256];
        static uint8_t train[256];
        struct philox p;
        uint8_t seed[32] = {1};
        philox_init(&p, seed, "bench");
        memset(train, 1, sizeof train);
        for (uint32_t r = 0; r < 16; r++) {
            for (uint32_t k = 0; k < 256; k++) {
                uint32_t w[4];
                philox_block(&p, r, k, w);
                ids[k] = w[0] % m->config.V;
            }
            if (lm_data_add_tokens(&x, ids, train, 256, r, &e))
                die("rows");
        }
        h.batch = 4;
        h.targets = 1u << LM_Q | 1u << LM_K | 1u << LM_V | 1u << LM_O;
        one(g, m, &x, &h, steps / 2 + 1, "LoRA r16 q,k,v,o, 4x256 random tokens", 300, "PEFT, PyTorch 2.13", 202);
        lm_data_clear(&x);
    }
    lm_data_clear(&d);
    gpu_close(g);
    lm_model_free(m);
    return 0;
}
