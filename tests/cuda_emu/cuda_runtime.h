/* CUDA on a CPU, as much of it as gpu/cuda_ref.cu uses: so that `make check` runs the referee's kernels, shuffles and
 * barriers included, on machines without a device, and compares their bits with the reference. It says nothing about
 * nvcc's code or a device's speed.
 *
 * A block runs at a time; each of its threads has a stack of its own and gives way at shuffles and barriers. */
#ifndef CUDA_EMU_RUNTIME_H
#define CUDA_EMU_RUNTIME_H

#undef _FORTIFY_SOURCE /* its longjmp refuses to change stacks */
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define CUDA_EMULATED 1
#define CUDART_VERSION 0
#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(n)

struct emu_dim {
    unsigned x;
};
static struct emu_dim threadIdx, blockIdx, blockDim, gridDim;

#define EMU_THREADS 1024
#define EMU_STACK (128 << 10)

struct emu_sync {
    unsigned live, arrived, generation;
};
static struct {
    jmp_buf at[EMU_THREADS];
    bool started[EMU_THREADS], done[EMU_THREADS];
    char *stacks;
    unsigned n, current;
    struct emu_sync warp[EMU_THREADS / 32], block;
    uint64_t value[EMU_THREADS];
    jmp_buf home;
    void (*body)(void *);
    void *arg;
} emu;

static void emu_entry() {
    emu.body(emu.arg);
    unsigned me = emu.current;
    emu.done[me] = true;
    struct emu_sync *both[2] = {&emu.warp[me / 32], &emu.block};
    for (struct emu_sync *s : both) {
        s->live--;
        if (s->live && s->arrived == s->live) {
            s->arrived = 0;
            s->generation++;
        }
    }
    _longjmp(emu.home, 1);
}

static void emu_yield() {
    if (!_setjmp(emu.at[emu.current]))
        _longjmp(emu.home, 1);
}

static void emu_wait(struct emu_sync *s) {
    unsigned g = s->generation;
    if (++s->arrived == s->live) {
        s->arrived = 0;
        s->generation++;
        return;
    }
    while (s->generation == g)
        emu_yield();
}

static void emu_block(unsigned n, void (*body)(void *), void *arg) {
    if (!emu.stacks)
        emu.stacks = (char *)malloc((size_t)EMU_THREADS * EMU_STACK);
    emu.n = n;
    emu.body = body;
    emu.arg = arg;
    emu.block = {n, 0, 0};
    for (unsigned i = 0; i < n; i++) {
        emu.started[i] = emu.done[i] = false;
        if (i % 32 == 0)
            emu.warp[i / 32] = {n - i < 32 ? n - i : 32, 0, 0};
    }
    volatile unsigned left = n, i = 0;
    while (left) {
        if (!emu.done[i]) {
            emu.current = i;
            threadIdx.x = i;
            if (!_setjmp(emu.home)) {
                if (emu.started[i])
                    _longjmp(emu.at[i], 1);
                emu.started[i] = true;
                ucontext_t c;
                getcontext(&c);
                c.uc_stack.ss_sp = emu.stacks + (size_t)i * EMU_STACK;
                c.uc_stack.ss_size = EMU_STACK;
                c.uc_link = NULL;
                makecontext(&c, emu_entry, 0);
                setcontext(&c);
            }
            if (emu.done[i])
                left = left - 1;
        }
        i = (i + 1) % n;
    }
}

template <class F> static void emu_launch(unsigned grid, unsigned block, F f) {
    gridDim.x = grid;
    blockDim.x = block;
    for (unsigned b = 0; b < grid; b++) {
        blockIdx.x = b;
        emu_block(block, [](void *p) { (*(F *)p)(); }, &f);
    }
}
#define LAUNCH(kernel, grid, block, ...) emu_launch(grid, block, [&] { kernel(__VA_ARGS__); })

static void __syncthreads() {
    emu_wait(&emu.block);
}
static void __syncwarp() {
    emu_wait(&emu.warp[threadIdx.x / 32]);
}
template <class T> static T emu_shuffle(T v, unsigned from) {
    unsigned me = emu.current;
    memcpy(&emu.value[me], &v, sizeof v);
    emu_wait(&emu.warp[me / 32]);
    T r;
    memcpy(&r, &emu.value[me / 32 * 32 + from % 32], sizeof r);
    emu_wait(&emu.warp[me / 32]);
    threadIdx.x = me;
    return r;
}
template <class T> static T __shfl_sync(unsigned, T v, unsigned lane) {
    return emu_shuffle(v, lane);
}
template <class T> static T __shfl_xor_sync(unsigned, T v, unsigned x) {
    return emu_shuffle(v, emu.current % 32 ^ x);
}
template <class T> static T __shfl_down_sync(unsigned, T v, unsigned x) {
    unsigned lane = emu.current % 32;
    return emu_shuffle(v, lane + x < 32 ? lane + x : lane);
}
static int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 32; i += 8)
        c += (int)(int8_t)(a >> i) * (int8_t)(b >> i);
    return c;
}
static uint32_t atomicMax(uint32_t *p, uint32_t v) {
    uint32_t o = *p;
    *p = v > o ? v : o;
    return o;
}
static unsigned long long atomicMin(unsigned long long *p, unsigned long long v) {
    unsigned long long o = *p;
    *p = v < o ? v : o;
    return o;
}

/* ---------------------------------------------------------------- the host's side */

enum cudaError_t {
    cudaSuccess,
    cudaErrorMemoryAllocation,
    cudaErrorNoDevice,
    cudaErrorInvalidDevice,
    cudaErrorInsufficientDriver,
    cudaErrorDevicesUnavailable,
    cudaErrorDeviceUninitialized,
    cudaErrorNoKernelImageForDevice,
    cudaErrorUnsupportedPtxVersion,
    cudaErrorInvalidDeviceFunction,
    cudaErrorECCUncorrectable,
    cudaErrorIllegalAddress,
    cudaErrorLaunchFailure,
    cudaErrorLaunchTimeout,
    cudaErrorHardwareStackError
};
enum { cudaMemcpyDefault, cudaMemAttachGlobal, cudaDevAttrManagedMemory, cudaDevAttrPageableMemoryAccess };
enum { cudaMemoryTypeUnregistered, cudaMemoryTypeManaged };
struct cudaPointerAttributes {
    int type;
};
struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t totalGlobalMem;
};
static const char *cudaGetErrorString(cudaError_t) { return "emulated"; }
static const char *cudaGetErrorName(cudaError_t) { return "emulated"; }
static cudaError_t cudaGetLastError() { return cudaSuccess; }
static cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
static cudaError_t cudaSetDevice(int) { return cudaSuccess; }
static cudaError_t cudaDriverGetVersion(int *v) { *v = 1; return cudaSuccess; }
static cudaError_t cudaGetDeviceCount(int *n) { *n = 1; return cudaSuccess; }
static cudaError_t cudaMemGetInfo(size_t *f, size_t *t) { *f = *t = 1; return cudaSuccess; }
static cudaError_t cudaDeviceGetAttribute(int *v, int what, int) { *v = what == cudaDevAttrManagedMemory; return cudaSuccess; }
static cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, "emulated on the CPU");
    return cudaSuccess;
}
/* Managed memory is remembered, so that the check for unreachable arrays works here too. */
static struct { char *p; size_t n; } emu_mem[65536];
static size_t emu_mem_n;
template <class T> static cudaError_t cudaMalloc(T **p, size_t n) {
    *p = (T *)aligned_alloc(64, (n + 63) / 64 * 64);
    memset(*p, 0xA5, n); /* fresh device memory is not zero */
    size_t i = 0;
    while (i < emu_mem_n && emu_mem[i].p)
        i++;
    if (i == sizeof emu_mem / sizeof emu_mem[0])
        return cudaErrorMemoryAllocation;
    emu_mem_n = i == emu_mem_n ? i + 1 : emu_mem_n;
    emu_mem[i].p = (char *)*p;
    emu_mem[i].n = n;
    return cudaSuccess;
}
template <class T> static cudaError_t cudaMallocManaged(T **p, size_t n, int) { return cudaMalloc(p, n); }
static cudaError_t cudaFree(void *p) {
    for (size_t i = 0; p && i < emu_mem_n; i++)
        if (emu_mem[i].p == p)
            emu_mem[i].p = NULL;
    free(p);
    return cudaSuccess;
}
static cudaError_t cudaMemcpy(void *d, const void *s, size_t n, int) { memcpy(d, s, n); return cudaSuccess; }
static cudaError_t cudaMemset(void *d, int v, size_t n) { memset(d, v, n); return cudaSuccess; }
static cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *a, const void *p) {
    a->type = cudaMemoryTypeUnregistered;
    for (size_t i = 0; i < emu_mem_n; i++)
        if (emu_mem[i].p && (const char *)p >= emu_mem[i].p && (const char *)p < emu_mem[i].p + emu_mem[i].n + 1)
            a->type = cudaMemoryTypeManaged;
    return cudaSuccess;
}

#endif
