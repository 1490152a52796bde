/* Inference figures of issue "the engine on a CPU": decode, prefill, batches, adapters, a core taken by another process, the
 * first token of a fresh process; whole model, KV cache and head included. The model's file is also rewritten as Q4_0, Q8_0
 * and F16 (the head stays Q8_0, or F16) into a temporary folder, so that every format is measured on the same weights. Peers
 * and limits of the same run: contrib/bench/bench.h. Goals are those of two Zen 3 cores.
 *
 * usage: [BENCH_CPU_TIME=1] bench_infer [--model FILE] [--threads N] [--backend NAME] [--format WORD] [--what WORD]
 *   --what: decode, prefill, many, adapters, core, first
 * Model: --model, else $LOAM_BENCH_MODEL; without one, nothing is measured. One JSON object a line (contrib/bench/run). */
#include "bench.h"
#include "lm/quantize.h"
#include "lm/session.h"

#include <signal.h>
#include <sys/wait.h>

#include "base/banned.h"

static struct err e;
static const char *backend, *format, *what, *self;
static unsigned threads;
static struct bench_machine machine;

static void die(const char *where) {
    fprintf(stderr, "bench_infer: %s: %s\n", where, e.text);
    exit(1);
}
static bool want(const char *w) {
    return !what || strstr(what, w);
}

enum { SEQS = 16 };
static struct lm_engine *engine;
static struct lm_session *sessions[SEQS];
static float *logits;
static uint32_t vocab;

static void step(uint32_t n_seqs, uint32_t n) {
    static uint32_t tokens[512];
    struct lm_item it[SEQS];
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (i * 7919 + 13) % vocab;
    for (uint32_t i = 0; i < n_seqs; i++)
        it[i] = (struct lm_item){sessions[i], tokens, n, false, logits + (size_t)i * vocab};
    if (lm_step(engine, it, n_seqs, NULL, &e))
        die("step");
}

/* Tokens a second: n_seqs sequences, `prompt` tokens before, then `steps` steps of one token each. Most repeats: `most`. */
static struct bench_sample decode(uint32_t n_seqs, uint32_t prompt, uint32_t steps, const struct lm_adapter *const *adapters, int most) {
    struct bench_sample s = {.n = 0};
    for (uint32_t i = 0; i < n_seqs; i++)
        if (lm_session_new(&sessions[i], engine, adapters ? adapters[i] : NULL, prompt + steps + 1, &e))
            die("session");
    while (bench_more(&s, most < 5 ? most : 5, most)) {
        for (uint32_t i = 0; i < n_seqs; i++)
            lm_session_truncate(sessions[i], 0);
        step(n_seqs, prompt);
        step(n_seqs, 1);
        bench_start(&s);
        for (uint32_t i = 0; i < steps; i++)
            step(n_seqs, 1);
        bench_stop(&s, n_seqs * steps);
    }
    for (uint32_t i = 0; i < n_seqs; i++)
        lm_session_free(sessions[i]);
    return s;
}

static struct bench_sample prefill(uint32_t n) {
    struct bench_sample s = {.n = 0};
    if (lm_session_new(&sessions[0], engine, NULL, n, &e))
        die("session");
    while (bench_more(&s, 5, 20)) {
        lm_session_truncate(sessions[0], 0);
        bench_start(&s);
        step(1, n);
        bench_stop(&s, n);
    }
    lm_session_free(sessions[0]);
    return s;
}

struct format {
    const char *name;
    uint32_t type, head;
    enum lm_act act;
    double decode_goal, prefill_goal, many_goal, adapters_goal;
};

static void row(const struct format *f, const char *name, const struct bench_sample *s, double goal, double limit, const char *limit_is,
                const char *peer, double peer_value) {
    char full[128];
    snprintf(full, sizeof full, "%s, %s", name, f->name);
    bench_line(&(struct bench_row){.suite = "infer", .name = full, .unit = "tok/s", .better = "higher", .value = bench_median(s), .goal = goal,
                                   .limit = limit, .limit_is = limit_is, .peer = peer, .peer_value = peer_value, .sample = s});
}

/* Processor time of an engine: bytes of weights a step reads, operations a token needs (2 a multiply and add). */
static double linear_ops(const struct lm_config *c) {
    double qd = (double)c->H * c->D, kd = (double)c->G * c->D;
    return 2.0 * c->L * (c->C * (2 * qd + 2 * kd) + 3.0 * c->C * c->F);
}
/* Scores and values of a token at position pos, fp32. */
static double attn_ops(const struct lm_config *c, double pos) {
    return 4.0 * c->L * c->H * c->D * (pos + 1);
}

/* A step of 8 requests: weights and adapters' fp32 once over read bandwidth, or operations over peak where that is longer. */
static void adapters(const struct lm_model *m, struct lm_model *open, const struct format *f, double weights, double ops_time) {
    struct lm_adapter *a[8];
    struct lm_shape shape;
    const struct lm_adapter *same[8], *diff[8];
    lm_model_shape(&shape, m);
    struct lm_hashes hs;
    if (lm_model_hashes(&hs, open, &e))
        die("hashes");
    for (int i = 0; i < 8; i++) {
        uint8_t seed[32] = {(uint8_t)i};
        if (lm_adapter_new(&a[i], &shape, hs.base, 16, 32.0f, false, 1u << LM_Q | 1u << LM_K | 1u << LM_V | 1u << LM_O, &e))
            die("adapter");
        lm_adapter_init(a[i], seed);
        for (size_t k = 0; k < a[i]->size; k++)
            a[i]->data[k] = a[i]->data[k] * 0.1f + 1e-4f;
        same[i] = a[0];
        diff[i] = a[i];
    }
    /* In turns, so that a change of the machine's mood reaches all alike. */
    struct bench_sample none = {.n = 0}, one = none, each = none, share = none;
    for (int turn = 0; turn < 3; turn++) {
        struct bench_sample *to[] = {&none, &one, &each};
        const struct lm_adapter *const *with[] = {NULL, same, diff};
        double v[3];
        for (int i = 0; i < 3; i++) {
            struct bench_sample s = decode(8, 32, 32, with[i], 2);
            v[i] = bench_median(&s);
            for (int k = 0; k < s.n && to[i]->n < BENCH_REPEATS_MAX; k++) {
                to[i]->calm[to[i]->n] = s.calm[k];
                to[i]->n_calm += s.calm[k];
                to[i]->v[to[i]->n++] = s.v[k];
            }
        }
        share.v[share.n++] = 100 * v[2] / v[1];
    }
    static const char *const names[] = {"8 requests, no adapter", "8 requests, one adapter r16 q,k,v,o", "8 requests, 8 adapters r16 q,k,v,o"};
    const struct bench_sample *of[] = {&none, &one, &each};
    for (int i = 0; i < 3; i++) {
        double read = (weights + (i == 2 ? 8 : i) * (double)a[0]->size * sizeof(float)) / machine.read;
        row(f, names[i], of[i], i == 2 ? f->adapters_goal : 0, ops_time > 0 ? 8 / (read > ops_time ? read : ops_time) : 0,
            read > ops_time ? "weights and adapters over read bandwidth" : "operations over peak", NULL, 0);
    }
    char name[96];
    snprintf(name, sizeof name, "8 adapters as share of one, %s", f->name);
    bench_line(&(struct bench_row){.suite = "infer", .name = name, .unit = "%", .better = "higher", .value = bench_median(&share), .goal = 90, .sample = &share});
    for (int i = 0; i < 8; i++)
        lm_adapter_free(a[i]);
}

/* Another process that never rests. */
static void core_taken(const struct format *f, double alone) {
    pid_t p = fork();
    if (p < 0)
        return;
    if (p == 0) {
        volatile uint64_t x = 0;
        for (;;)
            x = x * 3 + 1;
    }
    struct bench_sample s = decode(1, 8, 64, NULL, 20);
    kill(p, SIGKILL);
    waitpid(p, NULL, 0);
    char name[96];
    for (int i = 0; i < s.n; i++) {
        s.calm[i] = false; /* being disturbed is the point */
        s.v[i] *= 100 / alone;
    }
    s.n_calm = 0;
    snprintf(name, sizeof name, "decode with a core taken, share of alone, %s", f->name);
    bench_line(&(struct bench_row){.suite = "infer", .name = name, .unit = "%", .better = "higher", .value = bench_median(&s), .goal = 50, .sample = &s});
}

/* A process of its own, from exec to the first token's logits; the first start is not counted. */
static int first_child(const char *path, enum lm_act act, const char *images) {
    struct lm_model *m;
    const struct lm_engine_opt opt = {.act = act, .threads = threads, .backend = backend};
    if (lm_model_open_images(&m, path, images, &e) || lm_engine_new(&engine, m, &opt, &e) || lm_session_new(&sessions[0], engine, NULL, 64, &e))
        die(path);
    vocab = m->config.V;
    logits = mem_aligned(64, vocab * sizeof *logits);
    if (!logits)
        return 1;
    step(1, 32);
    return write(STDOUT_FILENO, "t", 1) == 1 ? 0 : 1;
}
static void first_token(const char *path, const struct format *f) {
    struct bench_sample s = {.n = 0};
    char n[16];
    char images[] = "/tmp/loam-bench-images-XXXXXX"; /* packed by the first start, which is not counted */
    snprintf(n, sizeof n, "%u", threads);
    if (!mkdtemp(images))
        return;
    (void)!usleep(1100000); /* a file written this very second is not remembered (lm/image.h) */
    bool cpu = bench_cpu_time;
    bench_cpu_time = false; /* a child's time is the clock's */
    for (int i = 0; i < 8; i++) {
        int fd[2];
        char c;
        bench_start(&s);
        if (pipe(fd))
            return;
        pid_t p = fork();
        if (p == 0) {
            dup2(fd[1], STDOUT_FILENO);
            execl(self, self, "--first", path, "--threads", n, "--act", lm_act_name(f->act), "--images", images, backend ? "--backend" : (char *)NULL, backend, (char *)NULL);
            _exit(127);
        }
        close(fd[1]);
        bool ok = p > 0 && read(fd[0], &c, 1) == 1;
        if (ok && i)
            bench_stop(&s, 1);
        close(fd[0]);
        if (p > 0)
            waitpid(p, NULL, 0);
        if (!ok) {
            fprintf(stderr, "bench_infer: the process for the first token failed\n");
            return;
        }
    }
    for (int i = 0; i < s.n; i++)
        s.v[i] = 1e3 / s.v[i];
    char cmd[64];
    snprintf(cmd, sizeof cmd, "rm -rf %s", images);
    if (system(cmd))
        fprintf(stderr, "bench_infer: %s is left behind\n", images);
    s.n_calm = 0; /* the child's switches are not counted */
    bench_cpu_time = cpu;
    char name[96];
    snprintf(name, sizeof name, "start of a process to first token, prompt of 32, %s", f->name);
    bench_line(&(struct bench_row){.suite = "infer", .name = name, .unit = "ms", .better = "lower", .value = bench_median(&s), .goal = 150, .sample = &s});
}

static void measure(const char *path, const struct format *given) {
    struct lm_model *m;
    struct format own = *given;
    const struct format *f = &own;
    if (lm_model_open(&m, path, &e))
        die(path);
    if (!own.type) { /* the file itself: what it is, and the act it allows */
        own.name = gpu_type_name(m->layers[0].w[LM_Q].type);
        own.act = m->quantised ? LM_ACT_Q8 : LM_ACT_F32;
    }
    struct lm_engine_opt opt = {.act = f->act, .threads = threads, .backend = backend, .kv_bytes_max = (uint64_t)1 << 30};
    if (lm_engine_new(&engine, m, &opt, &e))
        die("engine");
    const struct lm_config *c = &m->config;
    vocab = c->V;
    logits = mem_aligned(64, (size_t)SEQS * vocab * sizeof *logits);
    if (!logits)
        exit(1);
    struct lm_engine_memory mem;
    lm_engine_memory(&mem, engine);
    double weights = (double)mem.weights, head = 2.0 * c->C * vocab, peak = f->act == LM_ACT_Q8 ? machine.int8 : machine.fma;
    bool peak_known = peak > 0;
    struct bench_peer peer = {.decode = 0};
    if (want("decode") || want("prefill"))
        bench_peers(&peer, path, (int)threads);
    double alone = 0;
    if (want("decode") || want("core")) {
        struct bench_sample s = decode(1, 8, 128, NULL, 20);
        alone = bench_median(&s);
        row(f, "decode 128", &s, f->decode_goal, machine.read / weights, "weights over read bandwidth", peer.decode > 0 ? peer.decode_name : NULL, peer.decode);
    }
    if (want("prefill")) {
        struct bench_sample s = prefill(512);
        double t = peak_known ? (linear_ops(c) + head / 512) / peak + attn_ops(c, 255.5) / machine.fma : 0;
        row(f, "prefill 512", &s, f->prefill_goal, peak_known ? 1 / t : 0, "operations over peak", peer.prefill > 0 ? peer.prefill_name : NULL, peer.prefill);
    }
    if (want("many")) {
        struct bench_sample s = decode(16, 32, 32, NULL, 20);
        double t = weights / machine.read, ops = peak_known ? 16 * ((linear_ops(c) + head) / peak + attn_ops(c, 48) / machine.fma) : 0;
        bool read = t > ops;
        row(f, "16 sequences", &s, f->many_goal, peak_known ? 16 / (read ? t : ops) : 0, read ? "weights over read bandwidth" : "operations over peak", NULL, 0);
    }
    if (want("adapters") && f->adapters_goal > 0)
        adapters(m, m, f, weights, peak_known ? 8 * ((linear_ops(c) + head) / peak + attn_ops(c, 48) / machine.fma) : 0);
    if (want("core") && !bench_cpu_time)
        core_taken(f, alone);
    mem_free(logits);
    lm_engine_free(engine);
    lm_model_free(m);
    if (want("first"))
        first_token(path, f);
}

int main(int argc, char **argv) {
    const char *path = getenv("LOAM_BENCH_MODEL"), *first = NULL, *images = NULL, *act = "q8";
    bench_cpu_time = getenv("BENCH_CPU_TIME") != NULL;
    self = argv[0];
    for (int i = 1; i + 1 < argc; i += 2)
        if (!strcmp(argv[i], "--model"))
            path = argv[i + 1];
        else if (!strcmp(argv[i], "--threads"))
            threads = (unsigned)atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--backend"))
            backend = argv[i + 1];
        else if (!strcmp(argv[i], "--format"))
            format = argv[i + 1];
        else if (!strcmp(argv[i], "--what"))
            what = argv[i + 1];
        else if (!strcmp(argv[i], "--first"))
            first = argv[i + 1];
        else if (!strcmp(argv[i], "--images"))
            images = argv[i + 1];
        else if (!strcmp(argv[i], "--act"))
            act = argv[i + 1];
        else {
            fprintf(stderr, "bench_infer: unknown option %s\n", argv[i]);
            return 2;
        }
    if (first)
        return first_child(first, !strcmp(act, "f32") ? LM_ACT_F32 : LM_ACT_Q8, images);
    if (!path) {
        fprintf(stderr, "bench_infer: no model; set LOAM_BENCH_MODEL\n");
        return 0;
    }
    struct gpu *g;
    if (gpu_open(&g, &(struct gpu_config){.backend = backend, .threads = (int)threads}, &e))
        die("backend");
    threads = (unsigned)g->threads;
    snprintf(bench_command, sizeof bench_command, "%sbench_infer --threads %u --backend %s", bench_cpu_time ? "BENCH_CPU_TIME=1 " : "", threads, g->name);
    bench_machine(&machine, g);
    bench_machine_lines("infer", &machine, g);
    gpu_close(g);
    static const struct format formats[] = {
        {"Q4_1", 0, 0, LM_ACT_Q8, 320, 1500, 0, 700},
        {"Q4_0", GPU_Q4_0, GPU_Q8_0, LM_ACT_Q8, 330, 1500, 0, 0},
        {"Q8_0", GPU_Q8_0, GPU_Q8_0, LM_ACT_Q8, 220, 1000, 0, 0},
        {"F16", GPU_F16, GPU_F16, LM_ACT_F32, 120, 750, 550, 400},
    };
    char dir[] = "/tmp/loam-bench-XXXXXX", file[64];
    if (!mkdtemp(dir))
        return 1;
    snprintf(file, sizeof file, "%s/model.gguf", dir);
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        const struct format *f = &formats[i];
        if (format && !strstr(f->name, format))
            continue;
        if (!f->type) { /* the file itself, whatever it is */
            measure(path, f);
            continue;
        }
        if (lm_quantize(path, file, f->type, f->head, &e))
            die("quantize");
        measure(file, f);
        unlink(file);
    }
    rmdir(dir);
    return 0;
}
