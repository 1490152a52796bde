/* The fast CPU backend for arm64: NEON as every arm64 processor has it.
 * tests/test_neon_emulated.sh proves its bits where there is no such processor. */
#if defined(__aarch64__)
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"

#include <arm_neon.h>

#define SIMD_NEON
#define CPU_TABLE gpu_ops_neon
#include "gpu/cpu_body.h"
#else
typedef int cpu_neon_is_empty_here;
#endif
