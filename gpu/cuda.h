/* NVIDIA devices, through a module loaded at run time: the same loam runs on machines with and without one. The module
 * (loam-cuda.so, built by nvcc from gpu/cuda_*.cu) holds the referee, every operation in arith-1, bit-equal to the CPU, and the
 * operations of the faster mode on tensor cores (gpu/fast.h), which engine/lm/fast_session.c uses.
 *
 * The module is looked for at $LOAM_CUDA_MODULE, beside the running program, and in the library folder of the
 * installation. Errors: LOAM_ENOTBUILT no module found; LOAM_EVERSION a module of another build; LOAM_ENOTFOUND no NVIDIA
 * driver, no device or no such device; LOAM_EVERSION the driver is too old; LOAM_EUNSUPPORTED a compute capability the
 * module has no code for; LOAM_EBUSY device in exclusive use; LOAM_ENOMEM; LOAM_EIO the device is lost. While computing, each of
 * the last four sets gpu.lost. */
#ifndef LOAM_GPU_CUDA_H
#define LOAM_GPU_CUDA_H

#include "gpu/fast.h"
#include "gpu/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CUDA_ABI 2 /* changes with gpu/ops.h's structs or this header */
#define CUDA_DEVICES_MAX 64

struct cuda_device {
    char name[128];
    int index, major, minor; /* compute capability major.minor */
    int processors;          /* streaming multiprocessors */
    uint64_t memory, free;   /* bytes */
};

/* out: room for CUDA_DEVICES_MAX. *n 0 with LOAM_OK never happens: no device is LOAM_ENOTFOUND. */
enum loam_status cuda_list(struct cuda_device *out, int *n, struct err *err) LOAM_MUST_USE;
/* What gpu_open calls for "cuda" and "cuda:N". Close with gpu_close. */
enum loam_status cuda_open(struct gpu **out, int device, struct err *err) LOAM_MUST_USE;

/* What the module exports, as "loam_cuda_module". */
struct cuda_module {
    int abi;
    enum loam_status (*list)(struct cuda_device *out, int *n, struct err *err);
    enum loam_status (*open)(struct gpu **out, int device, struct err *err);
    const struct fast_ops *fast; /* NULL: not in this module */
};

#ifdef __cplusplus
}
#endif
#endif
