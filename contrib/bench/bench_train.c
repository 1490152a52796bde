/* LoRA training figures: tokens a second and resident memory, one JSON object a line (see contrib/bench/run).
 * bench_train [--model FILE] [--threads N] [--steps N] [--backend NAME] [--only rows|random|q8|f32] [--memory MiB] [ROWS.jsonl ...]
 * Model: --model, else $LOAM_BENCH_MODEL, else contrib/models/tiny.gguf. Peers: contrib/bench/peft_train.py on the same files. */
#include "base/mem.h"
#include "gpu/ops.h"
#include "lm/model.h"
#include "lm/philox.h"
#include "lm/quantize.h"
#include "lm/tokenizer.h"
#include "lm/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct err e;
static size_t memory_limit; /* lm_trainer_new; 0: most of what is free */

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

/* Peak of resident memory since the process began, MiB. */
static size_t peak(void) {
    char line[128];
    size_t kb = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %zu", &kb) == 1)
            break;
    if (f)
        fclose(f);
    return kb >> 10;
}

static void one(struct gpu *g, struct lm_model *m, const struct lm_data *d, const struct lm_hyper *h, uint64_t steps, const char *name,
                double goal, const char *peer, double peer_value, unsigned mib) {
    static const uint8_t seed[32] = {42};
    char dir[] = "/tmp/loam-bench-XXXXXX", cmd[64];
    struct lm_trainer *t;
    struct lm_train_result res;
    struct run r = {.stop = steps};
    if (!mkdtemp(dir))
        die("no folder");
    if (lm_trainer_new(&t, g, m, d, NULL, h, seed, dir, memory_limit, &e))
        die(name);
    const struct lm_train_plan *p = lm_trainer_plan(t);
    fprintf(stderr, "%s: %zu rows, %llu tokens, longest %u; plan: base %zu packed %zu adapter %zu optimiser %zu activations %zu scratch %zu MiB, "
            "%zu in all, %u tokens at once%s\n", name, d->count, (unsigned long long)d->tokens, d->longest, p->base >> 20, p->packed >> 20,
            p->adapter >> 20, p->optimiser >> 20, p->activations >> 20, p->scratch >> 20, p->resident >> 20, p->micro_tokens,
            p->recompute == 2 ? ", layers recomputed" : p->recompute ? ", gate and up recomputed" : "");
    const struct lm_train_hooks hooks = {.ctx = &r, .metrics = metrics, .ask = ask, .save_s = 1e9};
    size_t planned = p->resident >> 20;
    enum loam_status s = lm_trainer_run(t, &hooks, &res, &e);
    if (s && s != LOAM_ECANCEL)
        die(name);
    lm_trainer_free(t);
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    if (system(cmd))
        fprintf(stderr, "bench_train: %s stays\n", dir);
    printf("{\"suite\": \"train\", \"name\": \"%s\", \"value\": %.1f, \"unit\": \"tok/s\", \"better\": \"more\", \"goal\": %.0f, \"peer\": \"%s\", "
           "\"peer_value\": %.0f, \"command\": \"bench_train\"}\n", name, res.tok_s, goal, peer, peer_value);
    printf("{\"suite\": \"train\", \"name\": \"%s, resident\", \"value\": %zu, \"unit\": \"MiB\", \"better\": \"less\", \"goal\": %u, \"peer\": "
           "\"PEFT, PyTorch 2.13\", \"peer_value\": 4096, \"command\": \"bench_train\"}\n", name, peak(), mib);
    printf("{\"suite\": \"train\", \"name\": \"%s, plan over resident\", \"value\": %.3f, \"unit\": \"ratio\", \"better\": \"more\", \"goal\": 0.95, "
           "\"peer\": \"measured\", \"peer_value\": 1, \"command\": \"bench_train\"}\n", name, (double)planned / (double)peak());
    fflush(stdout);
}

/* Rows of 256 random tokens, all trained. */
static void random_rows(struct lm_data *x, const struct lm_model *m) {
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
        if (lm_data_add_tokens(x, ids, train, 256, r, &e))
            die("rows");
    }
}

static const struct bench_case {
    const char *word, *name;
    uint32_t type; /* base rewritten to this; UINT32_MAX: the file as it is */
    bool rows;     /* the demo's; else random ones */
    double goal, peer;
    unsigned mib;
} cases[] = {
    {"rows", "LoRA r16 all linears, demo rows, loss on answers", UINT32_MAX, true, 340, 213, 900},
    {"random", "LoRA r16 q,k,v,o, 4x256 random tokens", UINT32_MAX, false, 300, 202, 512},
    {"q8", "LoRA r16 q,k,v,o, 4x256 random tokens, base Q8_0", GPU_Q8_0, false, 300, 202, 512},
    {"f32", "LoRA r16 q,k,v,o, 4x256 random tokens, base F32", GPU_F32, false, 300, 202, 900},
};

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
        else if (!strcmp(argv[i], "--memory"))
            memory_limit = strtoull(argv[i + 1], NULL, 10) << 20;
        else if (!strcmp(argv[i], "--only"))
            only = argv[i + 1];
        else {
            fprintf(stderr, "bench_train: unknown option %s\n", argv[i]);
            return 2;
        }
    int status = 0;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        if (only && strcmp(only, cases[k].word))
            continue;
        /* Each in a process of its own: resident memory is a process's. */
        pid_t pid = fork();
        if (pid > 0) {
            waitpid(pid, &status, 0);
            continue;
        }
        if (pid < 0)
            die("fork");
        const struct bench_case *q = &cases[k];
        struct lm_model *m;
        struct gpu *g;
        const struct gpu_config c = {backend, threads};
        char other[64] = "";
        const char *file = path ? path : tiny;
        if (q->type != UINT32_MAX) { /* rewritten by a child, so that its memory does not count here */
            snprintf(other, sizeof other, "/tmp/loam-bench-%ld.gguf", (long)getpid());
            pid_t child = fork();
            if (!child)
                _exit(lm_quantize(file, other, q->type, q->type, &e) ? 1 : 0);
            if (child < 0 || waitpid(child, &status, 0) < 0 || status)
                die("the base in another format");
            file = other;
        }
        if (lm_model_open(&m, file, &e))
            die("model");
        if (other[0])
            unlink(other); /* mapped */
        if (gpu_open(&g, &c, &e))
            die("backend");
        struct lm_hyper h;
        lm_hyper_default(&h);
        h.epochs = 64; /* enough to stop in the middle */
        fprintf(stderr, "backend %s, %d threads, %s\n", g->name, g->threads, m->name);
        if (q->rows) {
            static const char *const demo[] = {"alice", "bob", "carol"};
            for (int n = i; n < argc; n++)
                if (lm_data_add_file(&d, m, argv[n], 1024, false, &e))
                    die(argv[n]);
            for (int n = 0; n < 3 && i >= argc; n++) {
                char name[512];
                snprintf(name, sizeof name, "%s/contrib/demo/%s.jsonl", src ? src : ".", demo[n]);
                if (lm_data_add_file(&d, m, name, 1024, false, &e))
                    die(name);
            }
        } else {
            random_rows(&d, m);
            h.batch = 4;
            h.targets = 1u << LM_Q | 1u << LM_K | 1u << LM_V | 1u << LM_O;
        }
        one(g, m, &d, &h, q->rows ? steps : steps / 2 + 1, q->name, q->goal, "PEFT, PyTorch 2.13", q->peer, q->mib);
        lm_data_clear(&d);
        gpu_close(g);
        lm_model_free(m);
        return 0;
    }
    return status ? 1 : 0;
}
