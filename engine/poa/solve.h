/* The damped Fisher solve, bit for bit the same everywhere: M = n (n I + K)^-1 by fp64 Cholesky.
 *
 *   A = K + n I in fp64 (K int64 converted, n as 2^-POA_N_FRACTION · n_fixed; one addition)
 *   L[i][j] = (A[i][j] - sum over k < j) / L[j][j], L[j][j] = sqrt(…); each sum one fma chain that starts at A[i][j], k ascending
 *   Y = L^-1 (n I): Y[i][c] = (n [i == c] - sum over k < i of L[i][k] Y[k][c]) / L[i][i], one chain, k ascending
 *   M = L^-T Y:    M[i][c] = (Y[i][c] - sum over k > i of L[k][i] M[k][c]) / L[i][i], one chain, k ascending
 * fma, division and square root are correctly rounded by the processor (fma() of libm where it has none). */
#ifndef LOAM_POA_SOLVE_H
#define LOAM_POA_SOLVE_H

#include "base/status.h"

#include <stdint.h>

/* m [N][N] gets M. n_fixed > 0. LOAM_ENOMEM; LOAM_ENONFINITE if A is not positive definite in fp64 (cannot be for a Gram
 * matrix and n > 0 short of overflow). */
enum loam_status poa_solve(double *m, const int64_t *k, uint64_t rows, int64_t n_fixed, struct err *err) LOAM_MUST_USE;

#endif
