/* What the bench programs share: the clock, medians, the machine's own limits measured in the same run, the output line, and
 * the peers' programs. Header only; each bench program is one file.
 *
 * A line: {suite, name, value, unit, better, goal, limit, share, limit_is, peer, peer_value, ratio, repeats, calm, command}.
 *   limit, limit_is   what this machine allows by a measured limit (bytes over bandwidth, operations over peak); share = value
 *                     over it in percent
 *   peer, peer_value  a peer's program that ran in this same run; ratio = how many times better we are. Without one: null
 *   repeats, calm     the value is the median of so many repeats; calm ones had few involuntary switches of thread (nobody
 *                     else wanted the cores). With three calm ones or more the others do not count. */
#ifndef LOAM_BENCH_H
#define LOAM_BENCH_H

#include "base/clock.h"
#include "base/mem.h"
#include "gpu/ops.h"
#include "gpu/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* BENCH_CPU_TIME: the process's processor time instead of the clock, for one thread on a machine that is busy. */
static bool bench_cpu_time;
static char bench_command[256]; /* how to get the figure again */

static inline double bench_now(void) {
    return bench_cpu_time ? (double)clock() / CLOCKS_PER_SEC : (double)clock_mono_us() * 1e-6;
}
static inline long bench_switches(void) {
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) ? 0 : u.ru_nivcsw;
}

/* ---- medians ---- */

enum { BENCH_REPEATS_MAX = 256 };
struct bench_sample {
    double v[BENCH_REPEATS_MAX];
    bool calm[BENCH_REPEATS_MAX];
    int n, n_calm;
    long switches;
    double t, began;
};
static inline void bench_start(struct bench_sample *s) {
    s->switches = bench_switches();
    s->t = bench_now();
    if (!s->n)
        s->began = s->t;
}
/* Ends a repeat that did `work` units: keeps work per second. */
static inline void bench_stop(struct bench_sample *s, double work) {
    double t = bench_now() - s->t;
    if (s->n == BENCH_REPEATS_MAX || t <= 0)
        return;
    s->calm[s->n] = (double)(bench_switches() - s->switches) <= 2 + 20 * t; /* the kernel's own threads want some */
    s->n_calm += s->calm[s->n];
    s->v[s->n++] = work / t;
}
/* Whether another repeat is worth it: at least `least`, and up to `most` until five were calm or BENCH_PATIENCE seconds are over:
 * on some machines no repeat is ever calm. */
#define BENCH_PATIENCE 4
static inline bool bench_more(const struct bench_sample *s, int least, int most) {
    return s->n < least || (s->n < most && s->n_calm < 5 && !bench_cpu_time && bench_now() - s->began < BENCH_PATIENCE);
}
static int bench_by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}
static inline double bench_median(const struct bench_sample *s) {
    double v[BENCH_REPEATS_MAX];
    int n = 0;
    for (int i = 0; i < s->n; i++)
        if (s->calm[i] || s->n_calm < 3)
            v[n++] = s->v[i];
    if (!n)
        return 0;
    qsort(v, (size_t)n, sizeof *v, bench_by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* ---- the line ---- */

struct bench_row {
    const char *suite, *name, *unit, *better; /* better: "higher" or "lower" */
    double value, goal, limit;                /* 0: none */
    const char *limit_is;                     /* "weights over read bandwidth" */
    const char *peer;                         /* NULL: none ran */
    double peer_value;
    const struct bench_sample *sample; /* NULL allowed */
};
static inline void bench_number(const char *key, double v) {
    if (v > 0)
        printf("\"%s\":%.4g,", key, v);
    else
        printf("\"%s\":null,", key);
}
static inline void bench_line(const struct bench_row *r) {
    bool lower = !strcmp(r->better, "lower");
    printf("{\"suite\":\"%s\",\"name\":\"%s\",\"value\":%.5g,\"unit\":\"%s\",\"better\":\"%s\",", r->suite, r->name, r->value, r->unit,
           r->better);
    bench_number("goal", r->goal);
    bench_number("limit", r->limit);
    bench_number("share", r->limit > 0 ? 100 * (lower ? r->limit / r->value : r->value / r->limit) : 0);
    if (r->limit > 0)
        printf("\"limit_is\":\"%s\",", r->limit_is);
    else
        printf("\"limit_is\":null,");
    if (r->peer && r->peer_value > 0)
        printf("\"peer\":\"%s\",", r->peer);
    else
        printf("\"peer\":null,");
    bench_number("peer_value", r->peer ? r->peer_value : 0);
    bench_number("ratio", r->peer && r->peer_value > 0 ? (lower ? r->peer_value / r->value : r->value / r->peer_value) : 0);
    if (r->sample)
        printf("\"repeats\":%d,\"calm\":%d,", r->sample->n, r->sample->n_calm);
    printf("\"command\":\"%s\"}\n", bench_command);
    fflush(stdout);
}

/* ---- the machine ---- */

struct bench_machine {
    double read; /* bytes a second by all threads */
    double fma;  /* fp32 operations a second, 2 an fma; 0: not measured here */
    double int8; /* int8 operations a second, 2 a product */
};

static volatile uint64_t bench_sink;
enum { BENCH_READ = 256 << 20 };

/* Reading and nothing else, in several ways: which one is fastest is the machine's secret, so the best of them is the limit. */
struct bench_read {
    const char *memory; /* BENCH_READ bytes */
    size_t streams, ahead; /* of a task; bytes that are asked for ahead, 0: the processor's own guess */
};
static void bench_read_task(void *arg, uint32_t task, int thread) {
    const struct bench_read *r = arg;
    size_t n = BENCH_READ / 64, each = n / r->streams;
    const char *p = r->memory + n * task;
    uint64_t a[8] = {0};
    for (size_t i = 0; i < each; i += 256)
        for (size_t s = 0; s < r->streams; s++) {
            const uint64_t *line = (const uint64_t *)(const void *)(p + s * each + i);
            for (size_t k = 0; k < 32; k += 8) {
                if (r->ahead)
                    __builtin_prefetch((const char *)(line + k) + r->ahead);
                for (size_t x = 0; x < 8; x++)
                    a[x] ^= line[k + x];
            }
        }
    for (int i = 1; i < 8; i++)
        a[0] ^= a[i];
    bench_sink ^= a[0];
}

#if defined(__x86_64__)
#define BENCH_LOOP 2000000
__attribute__((target("avx512f"))) static void bench_fma512(void) {
    __m512 a[12], x = _mm512_set1_ps(1e-9f);
    for (int i = 0; i < 12; i++)
        a[i] = _mm512_set1_ps((float)i);
    for (int j = 0; j < BENCH_LOOP; j++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            a[i] = _mm512_fmadd_ps(x, x, a[i]);
        __asm__ volatile("" : "+v"(x));
    }
    for (int i = 1; i < 12; i++)
        a[0] = _mm512_add_ps(a[0], a[i]);
    bench_sink ^= (uint64_t)_mm512_reduce_add_ps(a[0]);
}
__attribute__((target("avx2,fma"))) static void bench_fma256(void) {
    __m256 a[12], x = _mm256_set1_ps(1e-9f);
    for (int i = 0; i < 12; i++)
        a[i] = _mm256_set1_ps((float)i);
    for (int j = 0; j < BENCH_LOOP; j++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            a[i] = _mm256_fmadd_ps(x, x, a[i]);
        __asm__ volatile("" : "+x"(x));
    }
    for (int i = 1; i < 12; i++)
        a[0] = _mm256_add_ps(a[0], a[i]);
    float f[8];
    _mm256_storeu_ps(f, a[0]);
    bench_sink ^= (uint64_t)f[0];
}
__attribute__((target("avx512f,avx512vnni"))) static void bench_vnni512(void) {
    __m512i a[12], x = _mm512_set1_epi8(3);
    for (int i = 0; i < 12; i++)
        a[i] = _mm512_set1_epi32(i);
    for (int j = 0; j < BENCH_LOOP; j++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            a[i] = _mm512_dpbusd_epi32(a[i], x, x);
        __asm__ volatile("" : "+v"(x));
    }
    for (int i = 1; i < 12; i++)
        a[0] = _mm512_add_epi32(a[0], a[i]);
    bench_sink ^= (uint64_t)_mm512_reduce_add_epi32(a[0]);
}
/* Without VNNI: products into 16 bits, added there (the eight of a block fit), which is what the 4-bit kernel does. */
__attribute__((target("avx2"))) static void bench_maddubs256(void) {
    __m256i a[6], x = _mm256_set1_epi8(3), s = _mm256_setzero_si256(), one = _mm256_set1_epi16(1);
    for (int i = 0; i < 6; i++)
        a[i] = _mm256_set1_epi16((short)i);
    for (int j = 0; j < BENCH_LOOP; j++) {
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
            a[i] = _mm256_add_epi16(a[i], _mm256_maddubs_epi16(x, x));
        __asm__ volatile("" : "+x"(x));
        if (j % 8 == 7)
            s = _mm256_add_epi32(s, _mm256_madd_epi16(a[0], one));
    }
    for (int i = 1; i < 6; i++)
        s = _mm256_add_epi32(s, a[i]);
    int32_t f[8];
    _mm256_storeu_si256((__m256i *)(void *)f, s);
    bench_sink ^= (uint64_t)f[0];
}
static void bench_peak_task(void *arg, uint32_t task, int thread) {
    switch (*(const int *)arg) {
    case 0: bench_fma256(); break;
    case 1: bench_fma512(); break;
    case 2: bench_vnni512(); break;
    default: bench_maddubs256(); break;
    }
}
static inline double bench_peak(struct gpu *g, int kind, double ops_each) {
    struct bench_sample s = {.n = 0};
    while (bench_more(&s, 7, 40)) {
        bench_start(&s);
        pool_run(g->pool, (uint32_t)g->threads, bench_peak_task, &kind);
        bench_stop(&s, g->threads * (double)BENCH_LOOP * ops_each);
    }
    return bench_median(&s);
}
#endif

/* Measures for the backend that g runs. */
static inline void bench_machine(struct bench_machine *m, struct gpu *g) {
    *m = (struct bench_machine){0};
    char *big = gpu_alloc(g, BENCH_READ);
    if (!big)
        exit(1);
    memset(big, 1, BENCH_READ);
    static const size_t ways[][2] = {{1, 0}, {1, 4096}, {2, 0}, {2, 512}, {4, 2048}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct bench_sample s = {.n = 0};
        struct bench_read r = {big, ways[i][0], ways[i][1]};
        while (bench_more(&s, 7, 30)) {
            bench_start(&s);
            pool_run(g->pool, 64, bench_read_task, &r);
            bench_stop(&s, BENCH_READ);
        }
        double v = bench_median(&s);
        m->read = v > m->read ? v : m->read;
    }
    gpu_free(g, big);
#if defined(__x86_64__)
    bool wide = !strcmp(g->name, "avx512");
    if (wide || !strcmp(g->name, "avx2")) {
        m->fma = bench_peak(g, wide, 12 * (wide ? 16 : 8) * 2);
        m->int8 = wide ? bench_peak(g, 2, 12 * 64 * 2) : bench_peak(g, 3, 6 * 32 * 2);
    }
#endif
}

static inline void bench_machine_lines(const char *suite, const struct bench_machine *m, const struct gpu *g) {
    char name[96];
    snprintf(name, sizeof name, "limit: read bandwidth, %d threads", g->threads);
    bench_line(&(struct bench_row){.suite = suite, .name = name, .unit = "GB/s", .better = "higher", .value = m->read * 1e-9});
    if (m->fma > 0) {
        snprintf(name, sizeof name, "limit: fp32 fma, %s", g->name);
        bench_line(&(struct bench_row){.suite = suite, .name = name, .unit = "GFLOP/s", .better = "higher", .value = m->fma * 1e-9});
        snprintf(name, sizeof name, "limit: int8 products, %s", g->name);
        bench_line(&(struct bench_row){.suite = suite, .name = name, .unit = "Gop/s", .better = "higher", .value = m->int8 * 1e-9});
    }
}

/* ---- peers ---- */

/* Decode 128 and prefill 512 of a GGUF file by the peers of the environment, tokens a second; the better one of each.
 *   LLAMA_BENCH=PROGRAM   llama.cpp's or ik_llama.cpp's llama-bench (several, separated by spaces)
 *   PEER_PYTHON=PYTHON    with llama-cpp-python: contrib/bench/peer_llama.py, found beside $BENCH_DIR or $srcdir */
struct bench_peer {
    char decode_name[64], prefill_name[64];
    double decode, prefill;
};
static inline void bench_peer_take(struct bench_peer *p, const char *name, double decode, double prefill) {
    if (decode > p->decode) {
        p->decode = decode;
        snprintf(p->decode_name, sizeof p->decode_name, "%s", name);
    }
    if (prefill > p->prefill) {
        p->prefill = prefill;
        snprintf(p->prefill_name, sizeof p->prefill_name, "%s", name);
    }
}
static inline void bench_peers(struct bench_peer *p, const char *file, int threads) {
    char cmd[1024], line[512], program[512], name[64];
    *p = (struct bench_peer){.decode = 0};
    const char *list = getenv("LLAMA_BENCH");
    int used = 0;
    while (list && sscanf(list, "%511s%n", program, &used) == 1) {
        list += used;
        snprintf(cmd, sizeof cmd, "'%s' -m '%s' -p 512 -n 128 -t %d -r 5 -o json 2>/dev/null", program, file, threads);
        FILE *f = popen(cmd, "r");
        double ts = 0, decode = 0, prefill = 0;
        int n_gen = 0;
        while (f && fgets(line, sizeof line, f)) {
            const char *at;
            if ((at = strstr(line, "\"n_gen\":")))
                n_gen = atoi(at + 8);
            if ((at = strstr(line, "\"avg_ts\":"))) {
                ts = strtod(at + 9, NULL);
                *(n_gen ? &decode : &prefill) = ts;
            }
        }
        if (f && pclose(f))
            fprintf(stderr, "bench: %s failed on %s\n", program, file);
        const char *base = strrchr(program, '/');
        snprintf(name, sizeof name, "%.60s", base ? base + 1 : program);
        bench_peer_take(p, name, decode, prefill);
    }
    const char *python = getenv("PEER_PYTHON"), *dir = getenv("BENCH_DIR"), *src = getenv("srcdir");
    if (!python)
        return;
    snprintf(program, sizeof program, "%s%s", dir ? dir : src ? src : ".", dir ? "" : "/contrib/bench");
    snprintf(cmd, sizeof cmd, "'%s' '%s/peer_llama.py' '%s' %d 2>/dev/null", python, program, file, threads);
    FILE *f = popen(cmd, "r");
    double decode = 0, prefill = 0;
    snprintf(name, sizeof name, "llama-cpp-python");
    while (f && fgets(line, sizeof line, f)) {
        sscanf(line, "decode %lf", &decode);
        sscanf(line, "prefill %lf", &prefill);
        if (!strncmp(line, "name ", 5))
            snprintf(name, sizeof name, "%.60s", strtok(line + 5, "\n"));
    }
    if (f && pclose(f))
        fprintf(stderr, "bench: peer_llama.py failed on %s\n", file);
    bench_peer_take(p, name, decode, prefill);
}

#endif
