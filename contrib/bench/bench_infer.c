/* Inference figures of issue "the engine on a CPU": decode, prefill, batches, adapters, a core taken by another process; whole
 * model, KV cache and head included. The model's file is also rewritten as Q4_0, Q8_0 and F16 (the head stays Q8_0, or F16)
 * into a temporary folder, so that every format is measured on the same weights.
 *
 * usage: [BENCH_CPU_TIME=1] bench_infer [--model FILE] [--threads N] [--backend NAME] [--only WORD]
 * Model: --model, else $LOAM_BENCH_MODEL; without one, nothing is measured. One JSON object a line (contrib/bench/run). */
#include "base/clock.h"
#include "base/mem.h"
#include "gpu/ops.h"
#include "lm/gguf.h"
#include "lm/session.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/banned.h"

static struct err e;
static const char *backend, *only;
static unsigned threads;
static bool cpu_time;

static void die(const char *what) {
    fprintf(stderr, "bench_infer: %s: %s\n", what, e.text);
    exit(1);
}
static double now(void) {
    return cpu_time ? (double)clock() / CLOCKS_PER_SEC : (double)clock_mono_us() * 1e-6;
}
static void line(const char *name, double value, const char *unit, const char *better, double goal, const char *peer, double peer_value) {
    printf("{\"suite\":\"infer\",\"name\":\"%s\",\"value\":%.4g,\"unit\":\"%s\",\"better\":\"%s\",", name, value, unit, better);
    if (goal > 0)
        printf("\"goal\":%g,", goal);
    else
        printf("\"goal\":null,");
    if (peer)
        printf("\"peer\":\"%s\",\"peer_value\":%g,", peer, peer_value);
    else
        printf("\"peer\":null,\"peer_value\":null,");
    printf("\"command\":\"bench_infer%s\"}\n", cpu_time ? " (processor time)" : "");
    fflush(stdout);
}

/* A copy of the file with its matrices in another type. */
static void convert(const char *to, const char *from, uint32_t type, uint32_t head) {
    struct gguf g;
    struct gguf_writer *w;
    if (gguf_open(&g, from, &e) || gguf_writer_new(&w, &e))
        die(from);
    void **kept = mem_zarray(g.n_tensors, sizeof *kept);
    if (!kept)
        exit(1);
    for (uint64_t i = 0; i < g.n_pairs; i++)
        if (gguf_put_pair(w, &g.pairs[i], &e))
            die("pair");
    for (uint64_t i = 0; i < g.n_tensors; i++) {
        const struct gguf_tensor *t = &g.tensors[i];
        uint32_t as = t->dims < 2 ? t->type : !strcmp(t->name, "token_embd.weight") || !strcmp(t->name, "output.weight") ? head : type;
        size_t n = (size_t)t->ne[0] * t->ne[1], bytes = gpu_row_bytes(as, t->ne[0]) * t->ne[1];
        const void *data = t->data;
        if (as != t->type) {
            float *f = mem_array(n, sizeof *f);
            kept[i] = mem_alloc(bytes);
            if (!f || !kept[i])
                exit(1);
            gpu_dequant(f, t->type, t->data, n);
            if (gpu_quantise(kept[i], as, f, n, &e))
                die(t->name);
            mem_free(f);
            data = kept[i];
        } else {
            bytes = t->bytes;
        }
        if (gguf_put_tensor(w, t->name, as, t->ne, t->dims, data, bytes, &e))
            die(t->name);
    }
    if (gguf_write(w, to, &e))
        die(to);
    for (uint64_t i = 0; i < g.n_tensors; i++)
        mem_free(kept[i]);
    mem_free(kept);
    gguf_writer_free(w);
    gguf_clear(&g);
}

enum { SEQS = 16 };
static struct lm_engine *engine;
static struct lm_session *sessions[SEQS];
static float *logits;
static uint32_t vocab;

static void step(uint32_t n_seqs, uint32_t n, bool want) {
    static uint32_t tokens[512];
    struct lm_item it[SEQS];
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (i * 7919 + 13) % vocab;
    for (uint32_t i = 0; i < n_seqs; i++)
        it[i] = (struct lm_item){sessions[i], tokens, n, false, want ? logits + (size_t)i * vocab : NULL};
    if (lm_step(engine, it, n_seqs, NULL, &e))
        die("step");
}

/* Tokens a second: n_seqs sequences, `prompt` tokens before, then `new` steps of one token each. */
static double decode(uint32_t n_seqs, uint32_t prompt, uint32_t steps, const struct lm_adapter *const *adapters) {
    double best = 0;
    for (uint32_t i = 0; i < n_seqs; i++)
        if (lm_session_new(&sessions[i], engine, adapters ? adapters[i] : NULL, prompt + steps + 1, &e))
            die("session");
    for (int rep = 0; rep < 3; rep++) {
        for (uint32_t i = 0; i < n_seqs; i++)
            lm_session_truncate(sessions[i], 0);
        step(n_seqs, prompt, true);
        double t = now();
        for (uint32_t i = 0; i < steps; i++)
            step(n_seqs, 1, true);
        t = n_seqs * steps / (now() - t);
        best = t > best ? t : best;
    }
    for (uint32_t i = 0; i < n_seqs; i++)
        lm_session_free(sessions[i]);
    return best;
}

static double prefill(uint32_t n) {
    double best = 0;
    if (lm_session_new(&sessions[0], engine, NULL, n, &e))
        die("session");
    for (int rep = 0; rep < 3; rep++) {
        lm_session_truncate(sessions[0], 0);
        double t = now();
        step(1, n, true);
        t = n / (now() - t);
        best = t > best ? t : best;
    }
    lm_session_free(sessions[0]);
    return best;
}

/* Another process's load, as far as the scheduler can tell: a thread that never rests. */
static volatile int load_on;
static void *load(void *arg) {
    volatile uint64_t x = 0;
    while (load_on)
        x = x * 3 + 1;
    return NULL;
}

struct format {
    const char *name;
    uint32_t type, head;
    enum lm_act act;
    double decode_goal, decode_peer, prefill_goal, prefill_peer, adapters_goal;
};

static void measure(const char *path, const struct format *f) {
    struct lm_model *m;
    char name[96];
    if (only && !strstr(f->name, only))
        return;
    double t0 = now();
    if (lm_model_open(&m, path, &e))
        die(path);
    struct lm_engine_opt opt = {.act = f->act, .threads = threads, .backend = backend, .kv_bytes_max = (uint64_t)1 << 30};
    if (lm_engine_new(&engine, m, &opt, &e))
        die("engine");
    vocab = m->config.V;
    logits = mem_aligned(64, (size_t)SEQS * vocab * sizeof *logits);
    if (!logits)
        exit(1);
    if (lm_session_new(&sessions[0], engine, NULL, 64, &e))
        die("session");
    step(1, 12, true);
    lm_session_free(sessions[0]);
    snprintf(name, sizeof name, "start to first token, %s", f->name);
    line(name, (now() - t0) * 1e3, "ms", "lower", 150, NULL, 0);
    snprintf(name, sizeof name, "decode 128, %s", f->name);
    double alone = decode(1, 8, 128, NULL);
    line(name, alone, "tok/s", "higher", f->decode_goal, "best of llama.cpp, ik_llama.cpp; Zen 3", f->decode_peer);
    snprintf(name, sizeof name, "prefill 512, %s", f->name);
    line(name, prefill(512), "tok/s", "higher", f->prefill_goal, "best of llama.cpp, ik_llama.cpp; Zen 3", f->prefill_peer);
    snprintf(name, sizeof name, "16 sequences, %s", f->name);
    line(name, decode(16, 32, 32, NULL), "tok/s", "higher", f->act == LM_ACT_F32 ? 550 : 0, NULL, 0);
    if (f->adapters_goal > 0) {
        struct lm_adapter *a[8];
        struct lm_shape shape;
        const struct lm_adapter *same[8], *diff[8];
        uint8_t hash[32] = {0};
        lm_model_shape(&shape, m);
        struct lm_hashes hs;
        if (!lm_model_hashes(&hs, m, &e))
            memcpy(hash, hs.base, 32);
        for (int i = 0; i < 8; i++) {
            uint8_t seed[32] = {(uint8_t)i};
            if (lm_adapter_new(&a[i], &shape, hash, 16, 32.0f, false, 1u << LM_Q | 1u << LM_K | 1u << LM_V | 1u << LM_O, &e))
                die("adapter");
            lm_adapter_init(a[i], seed);
            for (size_t k = 0; k < a[i]->size; k++)
                a[i]->data[k] = a[i]->data[k] * 0.1f + 1e-4f;
            same[i] = a[0];
            diff[i] = a[i];
        }
        double none = decode(8, 32, 48, NULL), one = decode(8, 32, 48, same), each = decode(8, 32, 48, diff);
        snprintf(name, sizeof name, "8 requests, no adapter, %s", f->name);
        line(name, none, "tok/s", "higher", 0, NULL, 0);
        snprintf(name, sizeof name, "8 requests, one adapter, %s", f->name);
        line(name, one, "tok/s", "higher", 0, "llama-server F16, Zen 3", 125);
        snprintf(name, sizeof name, "8 requests, 8 adapters r16 q,k,v,o, %s", f->name);
        line(name, each, "tok/s", "higher", f->adapters_goal, "llama-server F16, Zen 3", 49);
        snprintf(name, sizeof name, "8 adapters as share of one, %s", f->name);
        line(name, each / one * 100, "%", "higher", 90, "llama-server F16, Zen 3", 39);
        for (int i = 0; i < 8; i++)
            lm_adapter_free(a[i]);
    }
    if (f->act == LM_ACT_Q8 && !cpu_time) {
        pthread_t p;
        load_on = 1;
        if (!pthread_create(&p, NULL, load, NULL)) {
            double loaded = decode(1, 8, 128, NULL);
            load_on = 0;
            pthread_join(p, NULL);
            snprintf(name, sizeof name, "decode with a core taken, share of alone, %s", f->name);
            line(name, loaded / alone * 100, "%", "higher", 50, "llama.cpp F16, Zen 3", 10);
        }
    }
    mem_free(logits);
    lm_engine_free(engine);
    lm_model_free(m);
}

int main(int argc, char **argv) {
    const char *path = getenv("LOAM_BENCH_MODEL");
    cpu_time = getenv("BENCH_CPU_TIME") != NULL;
    for (int i = 1; i + 1 < argc; i += 2)
        if (!strcmp(argv[i], "--model"))
            path = argv[i + 1];
        else if (!strcmp(argv[i], "--threads"))
            threads = (unsigned)atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--backend"))
            backend = argv[i + 1];
        else if (!strcmp(argv[i], "--only"))
            only = argv[i + 1];
    if (!path) {
        fprintf(stderr, "bench_infer: no model; set LOAM_BENCH_MODEL\n");
        return 0;
    }
    static const struct format formats[] = {
        {"Q4_0", GPU_Q4_0, GPU_Q8_0, LM_ACT_Q8, 330, 181, 1500, 501, 0},
        {"Q8_0", GPU_Q8_0, GPU_Q8_0, LM_ACT_Q8, 220, 122, 1000, 438, 0},
        {"F16", GPU_F16, GPU_F16, LM_ACT_F32, 120, 63, 750, 380, 400},
    };
    static const struct format own = {"the file itself (Q4_1)", 0, 0, LM_ACT_Q8, 320, 157, 1500, 411, 700};
    measure(path, &own);
    char dir[] = "/tmp/loam-bench-XXXXXX", file[64];
    if (!mkdtemp(dir))
        return 1;
    snprintf(file, sizeof file, "%s/model.gguf", dir);
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (only && !strstr(formats[i].name, only))
            continue;
        convert(file, path, formats[i].type, formats[i].head);
        measure(file, &formats[i]);
        unlink(file);
    }
    rmdir(dir);
    return 0;
}
