/* The fast CPU backend for arm64 with the dot product instruction (ARMv8.2 and later); gpu/device.c asks the processor before
 * it is used. */
#if defined(__aarch64__)
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
#include <arm_neon.h>

#define SIMD_NEON
#define SIMD_DOTPROD
#define CPU_TABLE gpu_ops_neon_dot
#include "gpu/cpu_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int cpu_neon_dot_is_empty_here;
#endif
