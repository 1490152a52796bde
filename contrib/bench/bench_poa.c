/* Attribution at the size of SmolLM2-135M, r16 on all linears: what one row, one checkpoint and one answer cost beside the
 * model's own forward and backward. Gradients are noise; their cost does not depend on the numbers.
 * usage: bench_poa [rows [budget MiB [threads]]]. One JSON object a figure (contrib/bench/run). */
#include "base/clock.h"
#include "base/mem.h"
#include "poa/score.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/banned.h"

enum { LAYERS = 30, LINEARS = 7, R = 16, T = 40, CHECKPOINTS = 5, WIDEST = 1536 };
static const uint32_t outs[LINEARS] = {576, 192, 192, 576, 1536, 1536, 576};

static void must(enum loam_status st, const struct err *e) {
    if (!st)
        return;
    fprintf(stderr, "bench_poa: %s\n", e->text);
    exit(status_exit(st));
}

static void figure(const char *name, double value, const char *unit, const char *better) {
    printf("{\"suite\": \"poa\", \"name\": \"%s\", \"value\": %.4g, \"unit\": \"%s\", \"better\": \"%s\", \"goal\": null, \"peer\": null, "
           "\"peer_value\": null, \"command\": \"bench_poa\"}\n",
           name, value, unit, better);
    fflush(stdout);
}

static double seconds(uint64_t from) {
    return (double)(clock_mono_us() - from) / 1e6;
}

static void noise(float *x, size_t n, uint64_t *s) {
    for (size_t i = 0; i < n; i++) {
        *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
        x[i] = (float)((double)(*s >> 11) * 0x1p-53 - 0.5);
    }
}

int main(int argc, char **argv) {
    uint64_t rows = argc > 1 ? strtoull(argv[1], NULL, 10) : 96, budget = argc > 2 ? strtoull(argv[2], NULL, 10) << 20 : 0;
    int threads = argc > 3 ? atoi(argv[3]) : 0;
    struct err e = {LOAM_OK, ""};
    struct lm_lora *t = mem_zarray(LAYERS * LINEARS, sizeof *t);
    struct lm_adapter a = {.rank = R, .count = LAYERS * LINEARS, .t = t};
    struct poa_plan *plan = mem_zalloc(sizeof *plan);
    uint8_t seed[32] = {1};
    struct gpu *gpu;
    if (!t || !plan)
        return 12;
    for (uint32_t l = 0; l < a.count; l++)
        t[l] = (struct lm_lora){.out = outs[l % LINEARS], .in = 576};
    must(gpu_open(&gpu, &(struct gpu_config){NULL, threads}, &e), &e);
    must(poa_plan_make(plan, &a, rows, CHECKPOINTS, budget, true, seed, &e), &e);
    float *u = mem_array(T * WIDEST, sizeof *u), *h = mem_array(T * R, sizeof *h), *g = mem_array(WIDEST * R, sizeof *g);
    if (!u || !h || !g)
        return 12;
    uint64_t s = 88172645463325252ull;
    noise(u, T * WIDEST, &s);
    noise(h, T * R, &s);
    noise(g, WIDEST * R, &s);

    struct poa_build *b;
    must(poa_build_new(&b, plan, gpu, "/tmp", &e), &e);
    struct lm_grad_sink sink = poa_build_sink(b);
    uint64_t start = clock_mono_us();
    for (uint64_t i = 0; i < rows; i++)
        for (uint32_t l = a.count; l-- > 0;) {
            u[(i * 7 + l) % (T * WIDEST)] += 1.0f;
            struct lm_grad_tensor gt = {.row = i, .tensor = l, .rank = R, .out = plan->out[l], .tokens = T, .scale = 2.0f,
                                        .u = u, .h = h, .g = g};
            must(sink.tensor(sink.ctx, &gt, &e), &e);
        }
    figure("keep a row's gradient", seconds(start) / (double)rows * 1e3, "ms", "lower");
    char path[64];
    snprintf(path, sizeof path, "/tmp/bench-poa-%d", (int)getpid());
    start = clock_mono_us();
    must(poa_build_write(b, path, false, NULL, NULL, &e), &e);
    figure("Fisher rows of a checkpoint", seconds(start), "s", "lower");
    start = clock_mono_us();
    must(poa_build_write(b, path, true, NULL, NULL, &e), &e);
    figure("the same with the int32 root", seconds(start), "s", "lower");
    poa_build_free(b);

    struct poa_store store;
    const struct poa_store *all[CHECKPOINTS];
    must(poa_store_open(&store, path, false, &e), &e);
    for (int c = 0; c < CHECKPOINTS; c++)
        all[c] = &store;
    struct poa_query q;
    must(poa_query_init(&q, plan, CHECKPOINTS, gpu, &e), &e);
    start = clock_mono_us();
    for (uint32_t c = 0; c < CHECKPOINTS; c++) {
        sink = poa_query_sink(&q, c);
        for (uint32_t l = 0; l < a.count; l++) {
            struct lm_grad_tensor gt = {.tensor = l, .rank = R, .out = plan->out[l], .tokens = T, .scale = 2.0f, .u = u, .h = h, .g = g};
            must(sink.tensor(sink.ctx, &gt, &e), &e);
        }
    }
    figure("an answer's gradients to int8, 5 checkpoints", seconds(start) * 1e3, "ms", "lower");
    int64_t *score = mem_array(rows, sizeof *score);
    int base;
    if (!score)
        return 12;
    must(poa_score(score, &base, POA_FISHER, all, CHECKPOINTS, &q, &e), &e); /* pages in */
    start = clock_mono_us();
    must(poa_score(score, &base, POA_FISHER, all, CHECKPOINTS, &q, &e), &e);
    double took = seconds(start);
    figure("score an answer against all rows, 5 checkpoints", took * 1e3, "ms", "lower");
    figure("read of the store while scoring", (double)poa_plan_bytes(plan) / 2 * CHECKPOINTS / took / 1e9, "GB/s", "higher");
    figure("bytes a row and checkpoint (H)", (double)poa_plan_bytes(plan) / 2 / (double)rows, "B", "lower");
    figure("k (0: whole gradients)", plan->k, "numbers", "higher");
    poa_query_clear(&q);
    poa_store_close(&store);
    (void)!unlink(path);
    gpu_close(gpu);
    mem_free(score);
    mem_free(u);
    mem_free(h);
    mem_free(g);
    mem_free(t);
    mem_free(plan);
    return 0;
}
