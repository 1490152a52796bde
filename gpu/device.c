/* Which backends there are, and opening one. */
#include "gpu/cuda.h"
#include "gpu/op.h"
#include "gpu/pool.h"

#include <stdlib.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include "base/banned.h"

struct backend {
    const char *name;
    const struct gpu_ops *ops;
    bool (*here)(void);
};

static bool always(void) {
    return true;
}
#ifdef __x86_64__
static bool has_avx2(void) {
    unsigned a, b, c = 0, d;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && c >> 29 & 1; /* clang 14 does not know its name */
    return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}
#endif
#ifdef __aarch64__
static bool has_dotprod(void) {
#if defined(__linux__)
    return getauxval(AT_HWCAP) >> 20 & 1; /* HWCAP_ASIMDDP */
#else
    return false;
#endif
}
#endif

static const struct backend backends[] = {
#ifdef __x86_64__
    {"avx512", &gpu_ops_avx512, has_avx512},
    {"avx2", &gpu_ops_avx2, has_avx2},
#endif
#ifdef __aarch64__
    {"neon-dot", &gpu_ops_neon_dot, has_dotprod},
    {"neon", &gpu_ops_neon, always},
#endif
    {"plain", &gpu_ops_plain, always},
    {"ref", &gpu_ops_ref, always},
};
#define N_BACKENDS (sizeof backends / sizeof backends[0])

const char *const *gpu_backends(void) {
    static const char *names[N_BACKENDS + 1];
    size_t n = 0;
    for (size_t i = 0; i < N_BACKENDS; i++)
        if (backends[i].here())
            names[n++] = backends[i].name;
    names[n] = NULL;
    return names;
}

enum loam_status gpu_open(struct gpu **out, const struct gpu_config *config, struct err *err) {
    *out = NULL;
    const struct backend *b = NULL;
    bool any = !config->backend || !strcmp(config->backend, "auto") || !strcmp(config->backend, "cpu");
    if (!any && !strncmp(config->backend, "cuda", 4) && (!config->backend[4] || config->backend[4] == ':')) {
        char *end = NULL;
        long device = config->backend[4] ? strtol(config->backend + 5, &end, 10) : 0;
        if (end && (*end || end == config->backend + 5 || device < 0 || device >= CUDA_DEVICES_MAX))
            return err_set(err, LOAM_EINVAL, "%.32s names no device; cuda:0 is the first", config->backend);
        return cuda_open(out, (int)device, err);
    }
    for (size_t i = 0; i < N_BACKENDS && !b; i++)
        if (any ? backends[i].here() : !strcmp(config->backend, backends[i].name))
            b = &backends[i];
    if (!b)
        return err_set(err, LOAM_ENOTFOUND, "no compute backend is called %.32s", config->backend);
    if (!b->here())
        return err_set(err, LOAM_EUNSUPPORTED, "this processor lacks the instructions of %s", b->name);
    struct gpu *g = mem_zalloc(sizeof *g);
    if (!g)
        return err_set(err, LOAM_ENOMEM, "no memory for the compute device");
    enum loam_status s = pool_new(&g->pool, config->threads ? config->threads : pool_cores(), config->nice, err);
    if (s) {
        mem_free(g);
        return s;
    }
    pool_give_way(config->nice);
    g->ops = b->ops;
    g->name = b->name;
    g->threads = pool_threads(g->pool);
    *out = g;
    return LOAM_OK;
}

void gpu_close(struct gpu *g) {
    if (!g)
        return;
    if (g->dev_close) {
        g->dev_close(g);
        return;
    }
    pool_free(g->pool);
    mem_free(g);
}

void *gpu_alloc(struct gpu *g, size_t bytes) {
    return g->dev_alloc ? g->dev_alloc(g, bytes) : mem_aligned(64, bytes);
}

void gpu_free(struct gpu *g, void *p) {
    if (g->dev_free)
        g->dev_free(g, p);
    else
        mem_free(p);
}
