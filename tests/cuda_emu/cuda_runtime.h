/* CUDA on a CPU, as much of it as gpu/cuda_ref.cu uses: so that `make check` runs the referee's kernels, shuffles and
 * barriers included, on machines without a device, and compares their bits with the reference. It says nothing about
 * nvcc's code or a device's speed.
 *
 * A block runs at a time; each of its threads has a stack of its own and gives way at shuffles and barriers. */
#ifndef CUDA_EMU_RUNTIME_H
#define CUDA_EMU_RUNTIME_H

#undef _FORTIFY_SOURCE /* its longjmp refuses to change stacks */
#include <functional>
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <vector>

#define CUDA_EMULATED 1
#define GEMM_LARGE 2 /* large squares of products too, on the small shapes that are affordable here */
#define CUDART_VERSION 13000
#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(n)
#define __align__(n) __attribute__((aligned(n)))

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

/* Faults on demand, so that every message can be seen: LOAM_EMU_FAULT=NAME, and LOAM_EMU_AFTER=N launches or allocations. */
static bool emu_fault(const char *name) {
    const char *f = getenv("LOAM_EMU_FAULT");
    return f && !strcmp(f, name);
}
static long emu_after() {
    const char *n = getenv("LOAM_EMU_AFTER");
    return n ? atol(n) : 0;
}
static long emu_launches, emu_allocations;
static bool emu_lost() {
    return emu_fault("lost") && emu_launches > emu_after();
}

template <class F> static void emu_launch(unsigned grid, unsigned block, F f) {
    emu_launches++;
    if (emu_lost() || emu_fault("no-code"))
        return;
    gridDim.x = grid;
    blockDim.x = block;
    for (unsigned b = 0; b < grid; b++) {
        blockIdx.x = b;
        emu_block(block, [](void *p) { (*(F *)p)(); }, &f);
    }
}
#define LAUNCH(kernel, grid, block, ...) emu_launch(grid, block, [&] { kernel(__VA_ARGS__); })

/* On a stream: at once, or later where a graph is recorded. Arguments are copied, as a launch does. */
typedef int cudaStream_t;
static __align__(16) unsigned char emu_dynamic[128 << 10];
static std::vector<std::function<void()>> *emu_recording;
template <class F> static void emu_enqueue(F f) {
    if (emu_recording)
        emu_recording->push_back(f);
    else
        f();
}
template <class K, class... A> static void emu_stream_launch(K kernel, unsigned grid, unsigned block, A... args) {
    emu_enqueue([=] { emu_launch(grid, block, [&] { kernel(args...); }); });
}
#define LAUNCH_ON(stream, kernel, grid, block, bytes, ...) emu_stream_launch(kernel, grid, block, __VA_ARGS__)

struct uint4 {
    uint32_t x, y, z, w;
};

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
static int __any_sync(unsigned, int v) {
    for (int s = 16; s; s >>= 1)
        v |= __shfl_xor_sync(0, v, s);
    return v;
}
static float rsqrtf(float x) { return 1.0f / sqrtf(x); }

/* Tensor cores by the layouts of the PTX manual: each lane publishes its registers, then computes its own four outputs. */
static uint32_t emu_reg[EMU_THREADS][6];
static const uint16_t *emu_row[EMU_THREADS];
static float emu_bf16(uint32_t v, int high) {
    uint32_t u = high ? v & 0xffff0000u : v << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static void emu_mma(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    unsigned me = emu.current, base = me / 32 * 32, lane = me % 32;
    memcpy(emu_reg[me], a, 16);
    emu_reg[me][4] = b0;
    emu_reg[me][5] = b1;
    emu_wait(&emu.warp[me / 32]);
    for (int i = 0; i < 4; i++) {
        unsigned row = lane / 4 + i / 2 * 8, col = lane % 4 * 2 + i % 2;
        float s = 0;
        for (unsigned k = 0; k < 16; k++) { /* a: row r in register r / 8 + 2 (k / 8), lane (r % 8) 4 + k % 8 / 2 */
            uint32_t av = emu_reg[base + row % 8 * 4 + k % 8 / 2][row / 8 + 2 * (k / 8)], bv = emu_reg[base + col * 4 + k % 8 / 2][4 + k / 8];
            s += emu_bf16(av, k & 1) * emu_bf16(bv, k & 1);
        }
        c[i] += s;
    }
    emu_wait(&emu.warp[me / 32]);
    threadIdx.x = me;
}
static void emu_ldmatrix(uint32_t r[4], const uint16_t *row, bool trans) {
    unsigned me = emu.current, base = me / 32 * 32, lane = me % 32;
    emu_row[me] = row;
    emu_wait(&emu.warp[me / 32]);
    for (unsigned m = 0; m < 4; m++)
        r[m] = trans ? (uint32_t)emu_row[base + m * 8 + lane % 4 * 2][lane / 4] | (uint32_t)emu_row[base + m * 8 + lane % 4 * 2 + 1][lane / 4] << 16
                     : (uint32_t)emu_row[base + m * 8 + lane / 4][lane % 4 * 2] | (uint32_t)emu_row[base + m * 8 + lane / 4][lane % 4 * 2 + 1] << 16;
    emu_wait(&emu.warp[me / 32]);
    threadIdx.x = me;
}
/* Copies in flight: the place is poisoned when one is begun, and filled when its thread waits, so that reading too early or
 * overwriting what is still read shows. */
struct emu_copy {
    uint16_t *to;
    const uint16_t *from;
    bool in;
};
static std::vector<emu_copy> emu_copies[EMU_THREADS];
static void emu_copy16(uint16_t *to, const uint16_t *from, bool in) {
    memset(to, 0xff, 16);
    emu_copies[emu.current].push_back({to, from, in});
}
static void emu_copies_wait() {
    for (const emu_copy &c : emu_copies[emu.current])
        if (c.in)
            memcpy(c.to, c.from, 16);
        else
            memset(c.to, 0, 16);
    emu_copies[emu.current].clear();
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
enum { cudaStreamCaptureModeThreadLocal, cudaFuncAttributeMaxDynamicSharedMemorySize };
enum { cudaMemcpyDefault, cudaMemcpyDeviceToDevice, cudaMemAttachGlobal, cudaDevAttrManagedMemory, cudaDevAttrPageableMemoryAccess };
enum { cudaMemoryTypeUnregistered, cudaMemoryTypeManaged };
struct cudaPointerAttributes {
    int type;
};
struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t totalGlobalMem;
};
static const char *cudaGetErrorString(cudaError_t e) { return e == cudaErrorMemoryAllocation ? "out of memory" : "emulated"; }
static const char *cudaGetErrorName(cudaError_t e) {
    switch (e) {
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorDevicesUnavailable: return "cudaErrorDevicesUnavailable";
    case cudaErrorNoKernelImageForDevice: return "cudaErrorNoKernelImageForDevice";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    default: return "emulated";
    }
}
static cudaError_t cudaGetLastError() { return emu_fault("no-code") ? cudaErrorNoKernelImageForDevice : cudaSuccess; }
static cudaError_t cudaDeviceSynchronize() { return emu_lost() ? cudaErrorLaunchFailure : cudaSuccess; }
static cudaError_t cudaSetDevice(int) { return emu_fault("busy") ? cudaErrorDevicesUnavailable : cudaSuccess; }
static cudaError_t cudaDriverGetVersion(int *v) { *v = emu_fault("no-driver") ? 0 : emu_fault("old-driver") ? 11040 : 13000; return cudaSuccess; }
static cudaError_t cudaGetDeviceCount(int *n) {
    *n = emu_fault("no-device") ? 0 : 1;
    return emu_fault("old-driver") ? cudaErrorInsufficientDriver : emu_fault("no-device") ? cudaErrorNoDevice : cudaSuccess;
}
static cudaError_t cudaMemGetInfo(size_t *f, size_t *t) {
    *t = (size_t)8 << 30;
    *f = emu_fault("little-memory") ? (size_t)1 << 18 : *t;
    return cudaSuccess;
}
static cudaError_t cudaDeviceGetAttribute(int *v, int what, int) {
    *v = what == cudaDevAttrManagedMemory || (what == cudaDevAttrPageableMemoryAccess && getenv("LOAM_EMU_PAGEABLE"));
    return cudaSuccess;
}
static cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, "emulated on the CPU");
    p->major = 8;
    return cudaSuccess;
}
/* Managed memory is remembered, so that the check for unreachable arrays works here too. */
static struct { char *p; size_t n; } emu_mem[65536];
static size_t emu_mem_n;
template <class T> static cudaError_t cudaMalloc(T **p, size_t n) {
    if (emu_fault("full") && ++emu_allocations > emu_after())
        return cudaErrorMemoryAllocation;
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
static cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, int, cudaStream_t) {
    emu_enqueue([=] { memcpy(d, s, n); });
    return cudaSuccess;
}
template <class K> static cudaError_t cudaFuncSetAttribute(K, int, int bytes) {
    return (size_t)bytes <= sizeof emu_dynamic ? cudaSuccess : cudaErrorInvalidDevice;
}
typedef int cudaEvent_t;
static cudaError_t cudaStreamCreate(cudaStream_t *s) { *s = 1; return cudaSuccess; }
static cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
static cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaDeviceSynchronize(); }
static cudaError_t cudaEventCreate(cudaEvent_t *e) { *e = 1; return cudaSuccess; }
static cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
static cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
static cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
static cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t, cudaEvent_t) { *ms = 0; return cudaSuccess; } /* no device: no time */
typedef std::vector<std::function<void()>> *cudaGraph_t, *cudaGraphExec_t;
static cudaError_t cudaStreamBeginCapture(cudaStream_t, int) { emu_recording = new std::vector<std::function<void()>>; return cudaSuccess; }
static cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *g) { *g = emu_recording; emu_recording = NULL; return cudaSuccess; }
static cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, int) { *x = new std::vector<std::function<void()>>(*g); return cudaSuccess; }
static cudaError_t cudaGraphDestroy(cudaGraph_t g) { delete g; return cudaSuccess; }
static cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g) { delete g; return cudaSuccess; }
static cudaError_t cudaGraphLaunch(cudaGraphExec_t g, cudaStream_t) {
    for (auto &f : *g)
        f();
    return cudaSuccess;
}
static cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *a, const void *p) {
    a->type = cudaMemoryTypeUnregistered;
    for (size_t i = 0; i < emu_mem_n; i++)
        if (emu_mem[i].p && (const char *)p >= emu_mem[i].p && (const char *)p < emu_mem[i].p + emu_mem[i].n + 1)
            a->type = cudaMemoryTypeManaged;
    return cudaSuccess;
}

#endif
