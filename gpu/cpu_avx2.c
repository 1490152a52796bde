/* The fast CPU backend for AVX2 with FMA and F16C; gpu/device.c asks the processor before it is used. */
#if defined(__x86_64__)
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"

/* The target is set here and not on the command line, so that one library builds with any plain C compiler call. */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#include <immintrin.h>

#define SIMD_AVX2
#define CPU_TABLE gpu_ops_avx2
#include "gpu/cpu_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int cpu_avx2_is_empty_here;
#endif
