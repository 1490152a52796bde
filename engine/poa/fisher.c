#include "poa/fisher.h"

#include "base/mem.h"
#include "poa/check.h"
#include "poa/plan.h"
#include "poa/solve.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

enum loam_status poa_fisher_init(struct poa_fisher *f, uint64_t rows, size_t widest, struct err *err) {
    *f = (struct poa_fisher){mem_array(rows, rows * sizeof(int64_t)), mem_array(rows, rows * sizeof(double)),
                             mem_array(rows, widest * sizeof(double))};
    if (f->k && f->m && f->h)
        return LOAM_OK;
    poa_fisher_clear(f);
    return err_set(err, LOAM_ENOMEM, "attribution: matrices for %llu rows", (unsigned long long)rows);
}

void poa_fisher_clear(struct poa_fisher *f) {
    mem_free(f->k);
    mem_free(f->m);
    mem_free(f->h);
    *f = (struct poa_fisher){0};
}

/* Nearest integer, ties to even, |x| < 2^51, without libm: the sum leaves no bits below 1. */
static double nearest(double x) {
    double t = x + 0x1.8p52;
    return t - 0x1.8p52;
}

enum loam_status poa_fisher_tensor(int32_t *h32, int *e_f, int64_t *n, struct poa_fisher *f, struct gpu *g, const int8_t *g8,
                                   uint64_t rows, size_t d, int rho_log2, struct err *err) {
    uint64_t N = rows;
    enum loam_status st;
    memset(f->k, 0, N * N * sizeof *f->k);
    if ((st = g->ops->dot_i8(g, f->k, N, g8, d, (uint32_t)N, g8, d, (uint32_t)N, d, err)))
        return st;
    /* trace / N <= d · 127^2 < 2^46: n < 2^62. */
    __int128 trace = 0;
    for (uint64_t i = 0; i < N; i++)
        trace += f->k[i * N + i];
    *n = (int64_t)((trace << (POA_N_FRACTION + rho_log2)) / (int64_t)N);
    *e_f = 0;
    if (!*n) {
        memset(h32, 0, N * d * sizeof *h32);
        return LOAM_OK;
    }
    if ((st = poa_solve(f->m, f->k, N, *n, err)) ||
        (st = g->ops->gemm_f64i8(g, f->h, d, f->m, N, (uint32_t)N, (uint32_t)N, g8, d, d, err)))
        return st;
    double max = 0.0;
    for (size_t i = 0; i < N * d; i++)
        max = fabs(f->h[i]) > max ? fabs(f->h[i]) : max;
    if (max > 0.0) {
        (void)frexp(max, e_f); /* max < 2^e */
        *e_f -= 30;
    }
    double up = poa_scale(1.0, -*e_f);
    for (size_t i = 0; i < N * d; i++)
        h32[i] = (int32_t)nearest(f->h[i] * up);
    return LOAM_OK;
}

static int8_t shrink(int32_t v, uint32_t x) {
    if (!x)
        return (int8_t)v;
    int64_t q = (int64_t)v >> x, rest = (int64_t)v - q * (1ll << x), half = 1ll << (x - 1);
    q += rest > half || (rest == half && (q & 1));
    return (int8_t)q;
}

uint32_t poa_shrink(int8_t *h8, const int32_t *h32, size_t count) {
    int64_t biggest = 0;
    uint32_t x = 0;
    for (size_t i = 0; i < count; i++)
        biggest = llabs((long long)h32[i]) > biggest ? llabs((long long)h32[i]) : biggest;
    while (biggest > 127ll << x)
        x++;
    for (size_t i = 0; i < count; i++)
        h8[i] = shrink(h32[i], x);
    return x;
}

bool poa_rounds_to(int32_t h32, uint32_t x, int8_t h8) {
    return x < 32 && llabs((long long)h32) <= 127ll << x && shrink(h32, x) == h8;
}
