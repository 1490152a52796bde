/* The part of cuBLASLt's C interface that gpu/cuda_fast.cu calls, so that a machine without its header can build the module and
 * one without the library can load it. Names and numbers are NVIDIA's public interface (cuBLAS documentation, "cuBLASLt API");
 * where the toolkit's own header is at hand the compiler compares the numbers. */
#ifndef LOAM_GPU_CUDA_BLASLT_H
#define LOAM_GPU_CUDA_BLASLT_H

#include <stddef.h>
#include <stdint.h>

struct lt_algo {
    uint64_t data[8];
};
struct lt_found { /* cublasLtMatmulHeuristicResult_t */
    struct lt_algo algo;
    size_t workspace;
    int status;
    float waves;
    int reserved[4];
};
enum {
    LT_R_32F = 0,
    LT_R_16BF = 14,
    LT_COMPUTE_32F = 68,
    LT_OP_N = 0,
    LT_OP_T = 1,
    LT_DESC_TRANSA = 3,
    LT_DESC_TRANSB = 4,
    LT_DESC_EPILOGUE = 7,
    LT_DESC_BIAS_POINTER = 8,
    LT_DESC_BIAS_TYPE = 26,
    LT_EPILOGUE_BIAS = 4,
    LT_PREF_WORKSPACE = 1
};
typedef void *lt_any; /* handles and descriptors are pointers */

struct lt_api {
    int (*create)(lt_any *handle);
    int (*destroy)(lt_any handle);
    int (*desc_create)(lt_any *desc, int compute, int scale_type);
    int (*desc_destroy)(lt_any desc);
    int (*desc_set)(lt_any desc, int attribute, const void *p, size_t bytes);
    int (*layout_create)(lt_any *layout, int type, uint64_t rows, uint64_t cols, int64_t ld);
    int (*layout_destroy)(lt_any layout);
    int (*pref_create)(lt_any *pref);
    int (*pref_destroy)(lt_any pref);
    int (*pref_set)(lt_any pref, int attribute, const void *p, size_t bytes);
    int (*heuristic)(lt_any handle, lt_any desc, lt_any a, lt_any b, lt_any c, lt_any d, lt_any pref, int want, struct lt_found *out, int *found);
    int (*matmul)(lt_any handle, lt_any desc, const void *alpha, const void *a, lt_any la, const void *b, lt_any lb, const void *beta,
                  const void *c, lt_any lc, void *d, lt_any ld, const struct lt_algo *algo, void *workspace, size_t bytes, cudaStream_t stream);
};
static const char *const lt_names[] = {"cublasLtCreate",
                                       "cublasLtDestroy",
                                       "cublasLtMatmulDescCreate",
                                       "cublasLtMatmulDescDestroy",
                                       "cublasLtMatmulDescSetAttribute",
                                       "cublasLtMatrixLayoutCreate",
                                       "cublasLtMatrixLayoutDestroy",
                                       "cublasLtMatmulPreferenceCreate",
                                       "cublasLtMatmulPreferenceDestroy",
                                       "cublasLtMatmulPreferenceSetAttribute",
                                       "cublasLtMatmulAlgoGetHeuristic",
                                       "cublasLtMatmul"};

#if defined __has_include && !defined CUDA_EMULATED
#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
static_assert(sizeof(struct lt_found) == sizeof(cublasLtMatmulHeuristicResult_t) && sizeof(struct lt_algo) == sizeof(cublasLtMatmulAlgo_t), "cuBLASLt");
static_assert(LT_R_32F == (int)CUDA_R_32F && LT_R_16BF == (int)CUDA_R_16BF && LT_COMPUTE_32F == (int)CUBLAS_COMPUTE_32F, "cuBLASLt");
static_assert(LT_DESC_TRANSA == (int)CUBLASLT_MATMUL_DESC_TRANSA && LT_DESC_TRANSB == (int)CUBLASLT_MATMUL_DESC_TRANSB, "cuBLASLt");
static_assert(LT_DESC_EPILOGUE == (int)CUBLASLT_MATMUL_DESC_EPILOGUE && LT_DESC_BIAS_POINTER == (int)CUBLASLT_MATMUL_DESC_BIAS_POINTER, "cuBLASLt");
static_assert(LT_DESC_BIAS_TYPE == (int)CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE && LT_EPILOGUE_BIAS == (int)CUBLASLT_EPILOGUE_BIAS, "cuBLASLt");
static_assert(LT_PREF_WORKSPACE == (int)CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && LT_OP_T == (int)CUBLAS_OP_T, "cuBLASLt");
#endif
#endif
#endif
