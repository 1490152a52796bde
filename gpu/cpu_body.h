/* The fast CPU backend, written once over gpu/simd.h's vectors and compiled three times. The including file defines
 * CPU_TABLE, the table's name. Same bits as gpu/ref_*.c. */
#include "gpu/op.h"
#include "gpu/pool.h"
#include "gpu/ref.h"
#include "gpu/simd.h"

#include "base/banned.h"

#include "gpu/cpu_gemm.h"
#include "gpu/cpu_q8.h"
#include "gpu/cpu_rows.h"
#include "gpu/cpu_attn.h"

const struct gpu_ops CPU_TABLE = OPS_OF(cpu);
