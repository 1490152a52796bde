/* The fast CPU backend in plain C: any processor. */
#define CPU_TABLE gpu_ops_plain
#include "gpu/cpu_body.h"
