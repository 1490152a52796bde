#include "poa/solve.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/banned.h"

enum { N_FRACTION = 16 }; /* POA_N_FRACTION, without lm's headers */

/* acc[i] = fma(a, x[i], acc[i]): vectorised over elements, so each element's chain keeps its order. */
static void axpy_plain(double *acc, double a, const double *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        acc[i] = fma(a, x[i], acc[i]);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void axpy_avx2(double *acc, double a, const double *x, size_t n) {
    __m256d va = _mm256_set1_pd(a);
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        _mm256_storeu_pd(acc + i, _mm256_fmadd_pd(va, _mm256_loadu_pd(x + i), _mm256_loadu_pd(acc + i)));
    for (; i < n; i++)
        acc[i] = __builtin_fma(a, x[i], acc[i]);
}
#endif

typedef void axpy_fn(double *acc, double a, const double *x, size_t n);

static axpy_fn *axpy(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return axpy_avx2;
#endif
    return axpy_plain;
}

enum loam_status poa_solve(double *m, const int64_t *k, uint64_t rows, int64_t n_fixed, struct err *err) {
    LOAM_ASSERT(n_fixed > 0);
    axpy_fn *add = axpy();
    size_t N = rows;
    double n = (double)n_fixed * (1.0 / (1 << N_FRACTION));
    /* Column j of L at l + j N: a column's elements side by side. */
    double *l = mem_array(N, N * sizeof *l);
    if (!l)
        return err_set(err, LOAM_ENOMEM, "attribution: a %zu x %zu matrix", N, N);
    enum loam_status st = LOAM_OK;
    for (size_t j = 0; !st && j < N; j++) {
        double *col = l + j * N;
        for (size_t i = 0; i < N; i++)
            col[i] = i < j ? 0.0 : (double)k[i * N + j];
        col[j] += n;
        for (size_t c = 0; c < j; c++)
            add(col + j, -l[c * N + j], l + c * N + j, N - j);
        double d = sqrt(col[j]);
        if (!(d > 0.0) || d > 0x1p600) {
            st = err_set(err, LOAM_ENONFINITE, "attribution: the Gram matrix is not positive definite at row %zu", j);
            break;
        }
        col[j] = d;
        for (size_t i = j + 1; i < N; i++)
            col[i] /= d;
    }
    /* Y over M's memory: row i needs rows above it. */
    for (size_t i = 0; !st && i < N; i++) {
        double *row = m + i * N;
        memset(row, 0, N * sizeof *row);
        row[i] = n;
        for (size_t c = 0; c < i; c++)
            add(row, -l[c * N + i], m + c * N, N);
        for (size_t c = 0; c < N; c++)
            row[c] /= l[i * N + i];
    }
    for (size_t i = N; !st && i-- > 0;) {
        double *row = m + i * N;
        for (size_t c = i + 1; c < N; c++)
            add(row, -l[i * N + c], m + c * N, N);
        for (size_t c = 0; c < N; c++)
            row[c] /= l[i * N + i];
    }
    mem_free(l);
    return st;
}
