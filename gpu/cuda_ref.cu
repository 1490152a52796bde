/* The referee on an NVIDIA device: every operation of gpu/ops.h in arith-1, from the same gpu/arith.h as the CPU. One
 * thread owns each chain, so no sum is ever split; 32-lane sums are a warp's 32 lanes. Built with -fmad=false, so that
 * products are fused only where arith_fma says so, with IEEE division and square root, denormals kept.
 *
 * Memory is CUDA's managed memory: the caller's code reads and writes it between operations as it does on a CPU.
 * What was checked on a device and what only compiled stands in the file's gpu-check results, never here. */
#include <cuda_runtime.h>
#include <stdint.h>
#include <stdio.h>

#define _Noreturn [[noreturn]]
extern "C" {
#include "base/mem.h"
#include "base/status.h"
#include "gpu/cuda.h"
#include "gpu/op.h"
#include "gpu/ops.h"
#include "gpu/pack.h"
}
#include "gpu/arith.h"

#ifndef LAUNCH /* tests/cuda_emu has its own */
#define LAUNCH(kernel, grid, block, ...) kernel<<<grid, block>>>(__VA_ARGS__)
#endif
#define DEQUANT_MAX ((size_t)1 << 28) /* bytes of a weight held in fp32 at a time */
#define FULL 0xffffffffu
#ifndef GEMM_LARGE
#define GEMM_LARGE 132 /* squares of 128: one for each processor of a large device */
#endif

struct dev {
    struct gpu g; /* first: a struct gpu * is a struct dev * */
    int index;
    bool pageable; /* the device can read any memory of the host */
    char *scratch;
    size_t scratch_bytes;
};

/* The message says what to do; the caller's text says where. */
static enum loam_status cu(cudaError_t e, const char *what, struct err *err) {
    enum loam_status s = LOAM_EINTERNAL;
    const char *hint = "";
    switch (e) {
    case cudaErrorMemoryAllocation:
        s = LOAM_ENOMEM;
        hint = "; another program may hold the device's memory (nvidia-smi shows which), or take a smaller batch or shorter rows";
        break;
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice: s = LOAM_ENOTFOUND; break;
    case cudaErrorInsufficientDriver: s = LOAM_EVERSION; break;
    case cudaErrorDevicesUnavailable:
    case cudaErrorDeviceUninitialized:
        s = LOAM_EBUSY;
        hint = "; another program has the device for itself";
        break;
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorInvalidDeviceFunction:
        s = LOAM_EUNSUPPORTED;
        hint = "; this module has no code for the device's compute capability";
        break;
    case cudaErrorECCUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorHardwareStackError:
        s = LOAM_EIO;
        hint = "; the device is lost to this process, what was saved is whole";
        break;
    default: break;
    }
    return err_set(err, s, "CUDA: %s (%s) in %.60s%s", cudaGetErrorString(e), cudaGetErrorName(e), what, hint);
}
/* Before a device is open, and while it computes: then g->lost tells the caller that the device failed, not the arguments. */
#define CU0(call)                                                                                                     \
    do {                                                                                                              \
        cudaError_t e_ = (call);                                                                                      \
        if (e_ != cudaSuccess)                                                                                        \
            return cu(e_, #call, err);                                                                                \
    } while (0)
#define CU(call)                                                                                                      \
    do {                                                                                                              \
        cudaError_t e_ = (call);                                                                                      \
        if (e_ != cudaSuccess) {                                                                                      \
            g->lost = true;                                                                                           \
            return cu(e_, #call, err);                                                                                \
        }                                                                                                             \
    } while (0)
#define TRY(call)                                                                                                     \
    do {                                                                                                              \
        enum loam_status s_ = (call);                                                                                 \
        if (s_)                                                                                                       \
            return s_;                                                                                                \
    } while (0)
/* Every array an operation is given must be within the device's reach. NULL is. */
#define REACH(p) TRY(reach(g, p, #p, err))
#define DONE(g)                                                                                                       \
    do {                                                                                                              \
        CU(cudaGetLastError());                                                                                       \
        CU(cudaDeviceSynchronize());                                                                                  \
        return LOAM_OK;                                                                                               \
    } while (0)

static struct dev *dev_of(struct gpu *g) {
    return (struct dev *)g;
}

static enum loam_status reach(struct gpu *g, const void *p, const char *what, struct err *err) {
    if (!p || dev_of(g)->pageable)
        return LOAM_OK;
    cudaPointerAttributes a;
    CU(cudaPointerGetAttributes(&a, p));
    if (a.type == cudaMemoryTypeUnregistered) {
        g->lost = true; /* for this job: the CPU could do it */
        return err_set(err, LOAM_EUNSUPPORTED, "this device cannot read the host's memory, where %s lies (it needs a driver and kernel with "
                                               "heterogeneous memory management)", what);
    }
    return LOAM_OK;
}

static enum loam_status scratch(struct gpu *g, size_t bytes, void **out, struct err *err) {
    struct dev *d = dev_of(g);
    if (bytes > d->scratch_bytes) {
        if (d->scratch)
            CU(cudaFree(d->scratch));
        d->scratch = NULL;
        d->scratch_bytes = 0;
        CU(cudaMalloc(&d->scratch, bytes));
        d->scratch_bytes = bytes;
    }
    *out = d->scratch;
    return LOAM_OK;
}

static unsigned blocks_for(size_t n, unsigned per) {
    size_t b = (n + per - 1) / per;
    return b > 1u << 20 ? 1u << 20 : b ? (unsigned)b : 1; /* kernels stride over the rest */
}
#define EACH(i, n) for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (size_t)gridDim.x * blockDim.x)
#define WARPS(i, n)                                                                                                   \
    for (size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) / 32; i < (n); i += (size_t)gridDim.x * blockDim.x / 32)

/* The tree of arith-1 over a warp's lanes; the sum is valid in lane 0 and given to all. */
__device__ static float warp_tree(float v) {
    for (int s = 16; s; s >>= 1)
        v = v + __shfl_down_sync(FULL, v, s);
    return __shfl_sync(FULL, v, 0);
}
__device__ static float warp_max(float v) {
    for (int s = 16; s; s >>= 1) {
        float o = __shfl_xor_sync(FULL, v, s);
        v = o > v ? o : v;
    }
    return v;
}

/* ---------------------------------------------------------------- weights */

struct wref { /* a packed weight as kernels take it: by value */
    const uint8_t *p;
    size_t group, codes_at;
    uint32_t n, k, type;
    struct pack_layout l;
};

static struct wref wref_of(const struct gpu_weight *w) {
    struct wref r;
    r.l = *pack_layout(w->type);
    r.p = (const uint8_t *)w->packed;
    r.group = pack_group_bytes(&r.l, w->k);
    r.codes_at = r.l.code == PACK_PLAIN ? 0 : pack_scales_bytes(&r.l, w->k);
    r.n = w->n;
    r.k = w->k;
    r.type = w->type;
    return r;
}

__device__ static float half_at(const uint8_t *p) {
    return arith_half(*(const uint16_t *)p);
}

/* Scales of block b of a row of lane `lane` in group g. */
__device__ static void scales(const struct wref &w, const uint8_t *g, uint32_t lane, uint32_t b, float &d, float &m, int sc[2]) {
    const uint8_t *s = g + (size_t)b * w.l.scale_bytes;
    m = 0.0f;
    sc[0] = sc[1] = 1;
    if (w.l.scale == PACK_F2) {
        d = *(const float *)(s + 4 * lane);
        m = *(const float *)(s + 64 + 4 * lane);
        return;
    }
    d = half_at(s + 2 * lane);
    if (w.l.scale == PACK_H2)
        m = half_at(s + 32 + 2 * lane);
    if (w.l.scale == PACK_HS) {
        sc[0] = (int8_t)s[32 + lane];
        sc[1] = (int8_t)s[48 + lane];
    }
}

__device__ static float value_at(const struct wref &w, uint32_t row, uint32_t k) {
    const uint8_t *g = w.p + row / 16 * w.group;
    uint32_t lane = row % 16;
    if (w.l.code == PACK_PLAIN) {
        const uint8_t *p = g + ((size_t)k * 16 + lane) * w.l.elem;
        return w.type == GPU_F32 ? *(const float *)p : w.type == GPU_F16 ? half_at(p) : arith_bf16(*(const uint16_t *)p);
    }
    uint32_t b = k / 32, i = k % 32;
    const uint8_t *c = g + w.codes_at + (size_t)b * w.l.code_bytes;
    int q = w.l.code == PACK_S8 ? (int)(int8_t)c[i / 4 * 64 + lane * 4 + i % 4]
                                : (c[i / 8 * 64 + lane * 4 + i % 4] >> (i & 4) & 15) - w.l.zero;
    float d, m;
    int sc[2];
    scales(w, g, lane, b, d, m, sc);
    if (w.l.scale == PACK_H1)
        return d * (float)q;
    if (w.l.scale == PACK_HS)
        return d * (float)sc[i / 16] * (float)q;
    return arith_fma(d, (float)q, m);
}

/* out [rows][k] = rows from .. of w. */
__global__ static void k_dequant(float *out, struct wref w, uint32_t from, uint32_t rows) {
    EACH(i, (size_t)rows * w.k) {
        out[i] = value_at(w, from + (uint32_t)(i / w.k), (uint32_t)(i % w.k));
    }
}

__global__ static void k_embed(float *y, size_t ldy, struct wref w, const uint32_t *ids, uint32_t t) {
    EACH(i, (size_t)t * w.k) {
        y[i / w.k * ldy + i % w.k] = value_at(w, ids[i / w.k], (uint32_t)(i % w.k));
    }
}

static enum loam_status cuda_embed(struct gpu *g, float *y, size_t ldy, const struct gpu_weight *w, const uint32_t *ids,
                                   uint32_t t, struct err *err) {
    GPU_BEGIN(g);
    REACH(y);
    REACH(w->packed);
    for (uint32_t i = 0; i < t; i++)
        if (ids[i] >= w->n)
            return err_set(err, LOAM_ERANGE, "token %u is past the vocabulary of %u", ids[i], w->n);
    void *d;
    TRY(scratch(g, t * sizeof *ids + 1, &d, err));
    CU(cudaMemcpy(d, ids, t * sizeof *ids, cudaMemcpyDefault));
    LAUNCH(k_embed, blocks_for((size_t)t * w->k, 256), 256, y, ldy, wref_of(w), (const uint32_t *)d, t);
    DONE(g);
}

/* ---------------------------------------------------------------- fp32 products */

/* 16 N x 16 N of C a block of 16 x 16 threads, N x N a thread (4 or 8), in squares of 4 so that a warp's reads of shared memory fall in
 * different banks. Each element is one thread's chain; k beyond the end is never touched (adding a product of zeros could change the
 * sign of a zero). */
template <int N> __global__ static void __launch_bounds__(256) k_gemm(struct gpu_gemm p) {
    const uint32_t SIDE = 16 * N;
    __shared__ __align__(16) float as[16][SIDE + 4], bs[16][SIDE + 4];
    uint32_t tiles_n = (p.n + SIDE - 1) / SIDE, tiles_m = (p.m + SIDE - 1) / SIDE;
    for (uint64_t tile = blockIdx.x; tile < (uint64_t)tiles_n * tiles_m; tile += gridDim.x) {
        uint32_t i0 = (uint32_t)(tile / tiles_n) * SIDE, j0 = (uint32_t)(tile % tiles_n) * SIDE;
        uint32_t ti = threadIdx.x / 16 * 4, tj = threadIdx.x % 16 * 4;
        float acc[N][N];
#pragma unroll
        for (int r = 0; r < N; r++)
#pragma unroll
            for (int c = 0; c < N; c++) {
                uint32_t i = i0 + r / 4 * 64 + ti + r % 4, j = j0 + c / 4 * 64 + tj + c % 4;
                acc[r][c] = p.epi == GPU_CHAIN && i < p.m && j < p.n ? p.c[i * p.c_i + j] : 0.0f;
            }
        for (uint32_t k0 = 0; k0 < p.k; k0 += 16) {
            uint32_t kn = p.k - k0 < 16 ? p.k - k0 : 16;
            __syncthreads();
            for (uint32_t e = threadIdx.x; e < 16 * SIDE; e += 256) {
                /* neighbours in memory for neighbouring threads, whichever way the operand lies */
                uint32_t kk = p.a_p == 1 ? e % 16 : e / SIDE, i = p.a_p == 1 ? e / 16 : e % SIDE;
                as[kk][i] = kk < kn && i0 + i < p.m ? p.a[(i0 + i) * p.a_i + (k0 + kk) * p.a_p] : 0.0f;
                kk = p.b_p == 1 ? e % 16 : e / SIDE;
                i = p.b_p == 1 ? e / 16 : e % SIDE;
                bs[kk][i] = kk < kn && j0 + i < p.n ? p.b[(k0 + kk) * p.b_p + (j0 + i) * p.b_j] : 0.0f;
            }
            __syncthreads();
            for (uint32_t kk = 0; kk < kn; kk++) {
                float x[N], y[N];
#pragma unroll
                for (int r = 0; r < N; r++) {
                    x[r] = as[kk][r / 4 * 64 + ti + r % 4];
                    y[r] = bs[kk][r / 4 * 64 + tj + r % 4];
                }
#pragma unroll
                for (int r = 0; r < N; r++)
#pragma unroll
                    for (int c = 0; c < N; c++)
                        acc[r][c] = arith_fma(x[r], y[c], acc[r][c]);
            }
        }
#pragma unroll
        for (int r = 0; r < N; r++)
#pragma unroll
            for (int c = 0; c < N; c++) {
                uint32_t i = i0 + r / 4 * 64 + ti + r % 4, j = j0 + c / 4 * 64 + tj + c % 4;
                if (i >= p.m || j >= p.n)
                    continue;
                float *y = p.c + i * p.c_i + j, x = acc[r][c];
                *y = p.epi == GPU_CHAIN ? x : p.epi == GPU_SET ? p.alpha * x : p.epi == GPU_ADD ? *y + p.alpha * x : arith_fma(p.alpha, x, *y);
            }
    }
}

/* Large squares where they fill the device's processors, small ones else. */
static void gemm_launch(const struct gpu_gemm &p) {
    size_t large = (size_t)((p.m + 127) / 128) * ((p.n + 127) / 128), small = (size_t)((p.m + 63) / 64) * ((p.n + 63) / 64);
    if (p.m > 64 && p.n > 64 && large >= GEMM_LARGE)
        LAUNCH(k_gemm<8>, blocks_for(large, 1), 256, p);
    else if (small)
        LAUNCH(k_gemm<4>, blocks_for(small, 1), 256, p);
}

static enum loam_status cuda_gemm(struct gpu *g, const struct gpu_gemm *p, struct err *err) {
    GPU_BEGIN(g);
    TRY(gpu_check_gemm(p, err));
    REACH(p->a);
    REACH(p->b);
    REACH(p->c);
    gemm_launch(*p);
    DONE(g);
}

static uint32_t dequant_rows(const struct gpu_weight *w) {
    size_t rows = DEQUANT_MAX / sizeof(float) / w->k;
    return rows < 64 ? 64 : rows > w->n ? w->n : (uint32_t)rows;
}

static enum loam_status cuda_matmul(struct gpu *g, const struct gpu_out *outs, int n_outs, const float *x, size_t ldx, uint32_t t,
                                    struct err *err) {
    GPU_BEGIN(g);
    TRY(gpu_check_outs(outs, n_outs, 0, false, err));
    REACH(x);
    for (int o = 0; o < n_outs; o++) {
        const struct gpu_weight *w = outs[o].w;
        REACH(outs[o].y);
        REACH(w->packed);
        uint32_t chunk = dequant_rows(w);
        void *f;
        TRY(scratch(g, (size_t)chunk * w->k * sizeof(float), &f, err));
        for (uint32_t n = 0; n < w->n; n += chunk) {
            uint32_t rows = w->n - n < chunk ? w->n - n : chunk;
            LAUNCH(k_dequant, blocks_for((size_t)rows * w->k, 256), 256, (float *)f, wref_of(w), n, rows);
            struct gpu_gemm p = {t, rows, w->k, x, ldx, 1, (const float *)f, 1, w->k, outs[o].y + n, outs[o].ldy, GPU_SET, 1.0f};
            gemm_launch(p);
        }
    }
    DONE(g);
}

static enum loam_status cuda_matmul_dx(struct gpu *g, float *dx, size_t lddx, const float *dy, size_t lddy, uint32_t t,
                                       const struct gpu_weight *w, enum gpu_epi epi, struct err *err) {
    GPU_BEGIN(g);
    if (epi != GPU_SET && epi != GPU_CHAIN)
        return err_set(err, LOAM_EINVAL, "dX is set or continued");
    REACH(dx);
    REACH(dy);
    REACH(w->packed);
    uint32_t chunk = dequant_rows(w);
    void *f;
    TRY(scratch(g, (size_t)chunk * w->k * sizeof(float), &f, err));
    for (uint32_t n = 0; n < w->n; n += chunk) {
        uint32_t rows = w->n - n < chunk ? w->n - n : chunk;
        LAUNCH(k_dequant, blocks_for((size_t)rows * w->k, 256), 256, (float *)f, wref_of(w), n, rows);
        struct gpu_gemm p = {t, w->k, rows, dy + n, lddy, 1, (const float *)f, w->k, 1, dx, lddx, n ? GPU_CHAIN : epi, 1.0f};
        gemm_launch(p);
    }
    DONE(g);
}

/* ---------------------------------------------------------------- act=q8 */

/* A warp a block of 32 elements. */
__global__ static void k_quant(struct gpu_q8 q, const float *x, size_t ldx) {
    uint32_t nb = q.k / 32, lane = threadIdx.x % 32;
    WARPS(i, (size_t)q.t * nb) {
        size_t t = i / nb, b = i % nb;
        float v = x[t * ldx + b * 32 + lane], s = warp_max(fabsf(v)) / 127.0f;
        int c = s == 0.0f ? 0 : arith_q8(v, s), sum = c;
        q.q[t * q.k + b * 32 + lane] = (int8_t)c;
        for (int k = 16; k; k >>= 1)
            sum += __shfl_xor_sync(FULL, sum, k);
        if (!lane) {
            q.d[i] = s;
            q.s[i] = (float)sum;
        }
    }
}

static enum loam_status cuda_quant(struct gpu *g, const struct gpu_q8 *q, const float *x, size_t ldx, struct err *err) {
    GPU_BEGIN(g);
    if (q->k % 32)
        return err_set(err, LOAM_EINVAL, "act=q8 needs a width that is a multiple of 32, not %u", q->k);
    REACH(q->q);
    REACH(q->d);
    REACH(q->s);
    REACH(x);
    LAUNCH(k_quant, blocks_for((size_t)q->t * q->k, 256), 256, *q, x, ldx);
    DONE(g);
}

/* A thread a row of the weight and T tokens, so that codes are read once for them; 16 neighbouring threads are the 16 rows of a
 * group: their loads of codes are one line. */
template <int T> __global__ static void k_matmul_q8(float *y, size_t ldy, struct wref w, struct gpu_q8 x) {
    size_t padded = (size_t)(w.n + 15) / 16 * 16;
    uint32_t nb = x.k / 32;
    EACH(i, padded * ((x.t + T - 1) / T)) {
        uint32_t t0 = (uint32_t)(i / padded) * T, row = (uint32_t)(i % padded), lane = row % 16;
        if (row >= w.n)
            continue;
        const uint8_t *g = w.p + row / 16 * w.group;
        float acc[T];
#pragma unroll
        for (int u = 0; u < T; u++)
            acc[u] = 0.0f;
        for (uint32_t b = 0; b < nb; b++) {
            const uint8_t *c = g + w.codes_at + (size_t)b * w.l.code_bytes + lane * 4;
            int code[8], sc[2];
            float d, m;
            scales(w, g, lane, b, d, m, sc);
            if (w.l.code == PACK_U4)
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    uint32_t v = *(const uint32_t *)(c + 64 * j);
                    code[2 * j] = (int)(v & 0x0f0f0f0fu);
                    code[2 * j + 1] = (int)(v >> 4 & 0x0f0f0f0fu);
                }
            else
#pragma unroll
                for (int j = 0; j < 8; j++)
                    code[j] = *(const int *)(c + 64 * j);
#pragma unroll
            for (int u = 0; u < T; u++) {
                uint32_t t = t0 + u;
                if (t >= x.t)
                    continue;
                const int *q = (const int *)(x.q + (size_t)t * x.k + b * 32);
                int half[2] = {0, 0};
#pragma unroll
                for (int j = 0; j < 8; j++)
                    half[j / 4] = __dp4a(code[j], q[j], half[j / 4]);
                if (w.l.code == PACK_U4 && w.l.zero)
                    half[0] -= w.l.zero * (int)x.s[(size_t)t * nb + b];
                float dx = x.d[(size_t)t * nb + b];
                acc[u] = arith_fma((float)(sc[0] * half[0] + sc[1] * half[1]), d * dx, acc[u]);
                if (w.l.scale == PACK_H2 || w.l.scale == PACK_F2)
                    acc[u] = arith_fma(x.s[(size_t)t * nb + b], m * dx, acc[u]);
            }
        }
#pragma unroll
        for (int u = 0; u < T; u++)
            if (t0 + u < x.t)
                y[(size_t)(t0 + u) * ldy + row] = acc[u];
    }
}

static enum loam_status cuda_matmul_q8(struct gpu *g, const struct gpu_out *outs, int n_outs, const struct gpu_q8 *x,
                                       struct err *err) {
    GPU_BEGIN(g);
    TRY(gpu_check_outs(outs, n_outs, x->k, true, err));
    REACH(x->q);
    REACH(x->d);
    REACH(x->s);
    for (int o = 0; o < n_outs; o++) {
        REACH(outs[o].y);
        REACH(outs[o].w->packed);
        size_t rows = (size_t)(outs[o].w->n + 15) / 16 * 16;
        if (x->t >= 8)
            LAUNCH(k_matmul_q8<8>, blocks_for(rows * ((x->t + 7) / 8), 128), 128, outs[o].y, outs[o].ldy, wref_of(outs[o].w), *x);
        else if (x->t > 1)
            LAUNCH(k_matmul_q8<4>, blocks_for(rows * ((x->t + 3) / 4), 128), 128, outs[o].y, outs[o].ldy, wref_of(outs[o].w), *x);
        else if (x->t)
            LAUNCH(k_matmul_q8<1>, blocks_for(rows, 128), 128, outs[o].y, outs[o].ldy, wref_of(outs[o].w), *x);
    }
    DONE(g);
}

/* ---------------------------------------------------------------- adapters */

struct lora_args {
    float *y;
    size_t ldy;
    const float *x;
    size_t ldx;
    uint32_t t, rp;
    const struct gpu_lora *list;
    const int32_t *map;
    float *h;
};

__global__ static void k_lora_h(struct lora_args a) {
    EACH(i, (size_t)a.t * a.rp) {
        size_t t = i / a.rp, r = i % a.rp;
        int which = a.map ? a.map[t] : 0;
        if (which < 0 || r >= a.list[which].r)
            continue;
        const struct gpu_lora &l = a.list[which];
        size_t rp = (l.r + 15) / 16 * 16;
        float acc = 0.0f;
        for (uint32_t k = 0; k < l.k; k++)
            acc = arith_fma(a.x[t * a.ldx + k], l.at[k * rp + r], acc);
        a.h[i] = acc;
    }
}

__global__ static void k_lora_y(struct lora_args a, uint32_t n) {
    EACH(i, (size_t)a.t * n) {
        size_t t = i / n, j = i % n;
        int which = a.map ? a.map[t] : 0;
        if (which < 0)
            continue;
        const struct gpu_lora &l = a.list[which];
        size_t np = (l.n + 15) / 16 * 16;
        float acc = 0.0f;
        for (uint32_t r = 0; r < l.r; r++)
            acc = arith_fma(a.h[t * a.rp + r], l.bt[r * np + j], acc);
        float *y = a.y + t * a.ldy + j;
        *y = arith_fma(l.scale, acc, *y);
    }
}

static enum loam_status cuda_lora(struct gpu *g, float *y, size_t ldy, const float *x, size_t ldx, uint32_t t,
                                  const struct gpu_lora *list, int n_list, const int32_t *map, struct err *err) {
    bool any;
    TRY(gpu_check_lora(list, n_list, map, t, &any, err));
    if (!any)
        return LOAM_OK;
    GPU_BEGIN(g);
    REACH(x);
    REACH(y);
    uint32_t rp = 0;
    for (int i = 0; i < n_list; i++) {
        REACH(list[i].at);
        REACH(list[i].bt);
        rp = list[i].r > rp ? list[i].r : rp;
    }
    size_t list_bytes = ((size_t)n_list * sizeof *list + 63) & ~(size_t)63, map_bytes = ((size_t)t * sizeof *map + 63) & ~(size_t)63;
    void *d;
    TRY(scratch(g, list_bytes + map_bytes + (size_t)t * rp * sizeof(float), &d, err));
    CU(cudaMemcpy(d, list, (size_t)n_list * sizeof *list, cudaMemcpyDefault));
    if (map)
        CU(cudaMemcpy((char *)d + list_bytes, map, (size_t)t * sizeof *map, cudaMemcpyDefault));
    struct lora_args a = {y, ldy, x, ldx, t, rp, (const struct gpu_lora *)d, map ? (const int32_t *)((char *)d + list_bytes) : NULL,
                          (float *)((char *)d + list_bytes + map_bytes)};
    LAUNCH(k_lora_h, blocks_for((size_t)t * rp, 128), 128, a);
    LAUNCH(k_lora_y, blocks_for((size_t)t * list[0].n, 256), 256, a, list[0].n);
    DONE(g);
}

/* ---------------------------------------------------------------- norms, RoPE, elements */

__global__ static void k_rmsnorm(float *y, float *r, const float *x, const float *w, uint32_t rows, uint32_t c, float eps) {
    uint32_t lane = threadIdx.x % 32;
    WARPS(t, rows) {
        const float *p = x + t * c;
        float v = 0.0f;
        for (uint32_t i = lane; i < c; i += 32)
            v = arith_fma(p[i], p[i], v);
        float rr = arith_rms(warp_tree(v), c, eps);
        for (uint32_t i = lane; i < c; i += 32)
            y[t * c + i] = w ? p[i] * rr * w[i] : p[i] * rr;
        if (r && !lane)
            r[t] = rr;
    }
}

static enum loam_status cuda_rmsnorm(struct gpu *g, float *y, float *r, const float *x, const float *w, uint32_t rows, uint32_t c,
                                     float eps, struct err *err) {
    GPU_BEGIN(g);
    REACH(y);
    REACH(r);
    REACH(x);
    REACH(w);
    LAUNCH(k_rmsnorm, blocks_for((size_t)rows * 32, 128), 128, y, r, x, w, rows, c, eps);
    DONE(g);
}

__global__ static void k_rmsnorm_dx(float *dx, const float *dy, const float *x, const float *r, const float *w, uint32_t rows,
                                    uint32_t c, bool add) {
    uint32_t lane = threadIdx.x % 32;
    WARPS(t, rows) {
        size_t at = t * c;
        float v = 0.0f;
        for (uint32_t i = lane; i < c; i += 32)
            v = arith_fma(w ? dy[at + i] * w[i] : dy[at + i], x[at + i], v);
        float f = arith_rms_dx_factor(warp_tree(v), r[t], c);
        for (uint32_t i = lane; i < c; i += 32) {
            float o = arith_rms_dx(w ? dy[at + i] * w[i] : dy[at + i], x[at + i], r[t], f);
            dx[at + i] = add ? dx[at + i] + o : o;
        }
    }
}

static enum loam_status cuda_rmsnorm_dx(struct gpu *g, float *dx, const float *dy, const float *x, const float *r, const float *w,
                                        uint32_t rows, uint32_t c, bool add, struct err *err) {
    GPU_BEGIN(g);
    REACH(dx);
    REACH(dy);
    REACH(x);
    REACH(r);
    REACH(w);
    LAUNCH(k_rmsnorm_dx, blocks_for((size_t)rows * 32, 128), 128, dx, dy, x, r, w, rows, c, add);
    DONE(g);
}

__global__ static void k_rope(float *x, size_t ldx, uint32_t t, uint32_t heads, uint32_t d, uint32_t half, const float *ct,
                              const float *st, const uint32_t *pos, bool norm, bool inverse) {
    EACH(i, (size_t)t * heads * half) {
        size_t row = i / ((size_t)heads * half);
        uint32_t h = (uint32_t)(i / half % heads), j = (uint32_t)(i % half);
        float *a = x + row * ldx + (size_t)h * d + (norm ? 2 * j : j), *b = norm ? a + 1 : a + half;
        float c = ct[(size_t)pos[row] * half + j], s = st[(size_t)pos[row] * half + j], u = *a, v = *b;
        s = inverse ? -s : s;
        *a = arith_rope_a(u, v, c, s);
        *b = arith_rope_b(u, v, c, s);
    }
}

static enum loam_status cuda_rope(struct gpu *g, float *x, size_t ldx, uint32_t t, uint32_t heads, uint32_t d, uint32_t d_rot,
                                  const float *cos_table, const float *sin_table, const uint32_t *pos, enum gpu_rope_style style,
                                  bool inverse, struct err *err) {
    GPU_BEGIN(g);
    if (d_rot > d || d_rot % 2)
        return err_set(err, LOAM_EINVAL, "RoPE over %u of %u elements", d_rot, d);
    REACH(x);
    REACH(cos_table);
    REACH(sin_table);
    void *p;
    TRY(scratch(g, t * sizeof *pos + 1, &p, err));
    CU(cudaMemcpy(p, pos, t * sizeof *pos, cudaMemcpyDefault));
    LAUNCH(k_rope, blocks_for((size_t)t * heads * d_rot / 2, 256), 256, x, ldx, t, heads, d, d_rot / 2, cos_table, sin_table,
                                                                    (const uint32_t *)p, style == GPU_ROPE_NORM, inverse);
    DONE(g);
}

__global__ static void k_glu(float *y, const float *gate, const float *up, size_t n, bool silu) {
    EACH(i, n) {
        y[i] = (silu ? arith_silu(gate[i]) : arith_gelu(gate[i])) * up[i];
    }
}
static enum loam_status cuda_glu(struct gpu *g, float *y, const float *gate, const float *up, size_t n, enum gpu_act act,
                                 struct err *err) {
    GPU_BEGIN(g);
    REACH(y);
    REACH(gate);
    REACH(up);
    LAUNCH(k_glu, blocks_for(n, 256), 256, y, gate, up, n, act == GPU_SILU);
    DONE(g);
}

__global__ static void k_glu_dx(float *dgate, float *dup, const float *dy, const float *gate, const float *up, size_t n, bool silu) {
    EACH(i, n) {
        float gt = gate[i], y = dy[i], u = up[i];
        dgate[i] = y * u * (silu ? arith_silu_d(gt) : arith_gelu_d(gt));
        dup[i] = y * (silu ? arith_silu(gt) : arith_gelu(gt));
    }
}
static enum loam_status cuda_glu_dx(struct gpu *g, float *dgate, float *dup, const float *dy, const float *gate, const float *up,
                                    size_t n, enum gpu_act act, struct err *err) {
    GPU_BEGIN(g);
    REACH(dgate);
    REACH(dup);
    REACH(dy);
    REACH(gate);
    REACH(up);
    LAUNCH(k_glu_dx, blocks_for(n, 256), 256, dgate, dup, dy, gate, up, n, act == GPU_SILU);
    DONE(g);
}

__global__ static void k_add(float *y, const float *a, const float *b, size_t n) {
    EACH(i, n) {
        y[i] = a[i] + b[i];
    }
}
static enum loam_status cuda_add(struct gpu *g, float *y, const float *a, const float *b, size_t n, struct err *err) {
    GPU_BEGIN(g);
    REACH(y);
    REACH(a);
    REACH(b);
    LAUNCH(k_add, blocks_for(n, 256), 256, y, a, b, n);
    DONE(g);
}

__global__ static void k_add_row(float *y, size_t ldy, const float *b, uint32_t t, uint32_t n) {
    EACH(i, (size_t)t * n) {
        float *p = y + i / n * ldy + i % n;
        *p = *p + b[i % n];
    }
}
static enum loam_status cuda_add_row(struct gpu *g, float *y, size_t ldy, const float *b, uint32_t t, uint32_t n, struct err *err) {
    GPU_BEGIN(g);
    REACH(y);
    REACH(b);
    LAUNCH(k_add_row, blocks_for((size_t)t * n, 256), 256, y, ldy, b, t, n);
    DONE(g);
}

__global__ static void k_scale(float *y, const float *x, float alpha, size_t n) {
    EACH(i, n) {
        y[i] = alpha * x[i];
    }
}
static enum loam_status cuda_scale(struct gpu *g, float *y, const float *x, float alpha, size_t n, struct err *err) {
    GPU_BEGIN(g);
    REACH(y);
    REACH(x);
    LAUNCH(k_scale, blocks_for(n, 256), 256, y, x, alpha, n);
    DONE(g);
}

__global__ static void k_axpy(float *y, float alpha, const float *x, size_t n) {
    EACH(i, n) {
        y[i] = arith_fma(alpha, x[i], y[i]);
    }
}
static enum loam_status cuda_axpy(struct gpu *g, float *y, float alpha, const float *x, size_t n, struct err *err) {
    GPU_BEGIN(g);
    REACH(y);
    REACH(x);
    LAUNCH(k_axpy, blocks_for(n, 256), 256, y, alpha, x, n);
    DONE(g);
}

__global__ static void k_dropout(float *y, const float *x, size_t n, float p, uint32_t k0, uint32_t k1, uint64_t index) {
    float inv = 1.0f / (1.0f - p);
    EACH(b, (n + 3) / 4) {
        uint32_t w[4], key[2] = {k0, k1};
        arith_philox_block(key, index, (uint32_t)b, w);
        for (size_t j = 4 * b; j < n && j < 4 * b + 4; j++)
            y[j] = arith_keep(w[j - 4 * b], p) ? x[j] * inv : 0.0f;
    }
}
static enum loam_status cuda_dropout(struct gpu *g, float *y, const float *x, size_t n, float p, const uint32_t key[2], uint64_t index,
                                     struct err *err) {
    GPU_BEGIN(g);
    if (!(p >= 0.0f && p < 1.0f) || n >> 34)
        return err_set(err, LOAM_EINVAL, "dropout of %g on %zu elements", (double)p, n);
    REACH(y);
    REACH(x);
    LAUNCH(k_dropout, blocks_for((n + 3) / 4, 256), 256, y, x, n, p, key[0], key[1], index);
    DONE(g);
}

__global__ static void k_adamw(float *p, float *m, float *v, const float *grad, size_t n, struct arith_adam a) {
    EACH(i, n) {
        arith_adamw(p + i, m + i, v + i, grad[i], &a);
    }
}
static enum loam_status cuda_adamw(struct gpu *g, float *p, float *m, float *v, const float *grad, size_t n, const struct gpu_adamw *how,
                                   struct err *err) {
    GPU_BEGIN(g);
    REACH(p);
    REACH(m);
    REACH(v);
    REACH(grad);
    struct arith_adam a = {how->lr, how->beta1, how->beta2, how->eps, how->decay, how->correct1, how->correct2, how->g_scale};
    LAUNCH(k_adamw, blocks_for(n, 256), 256, p, m, v, grad, n, a);
    DONE(g);
}

__global__ static void k_quant_pow2(int8_t *q, const float *x, size_t n, float inv) {
    EACH(i, n) {
        q[i] = (int8_t)arith_q_pow2(x[i], inv);
    }
}
static enum loam_status cuda_quant_pow2(struct gpu *g, int8_t *q, const float *x, size_t n, int e, struct err *err) {
    GPU_BEGIN(g);
    if (e < -126 || e > 126)
        return err_set(err, LOAM_ERANGE, "scale 2^%d; -126 to 126", e);
    REACH(q);
    REACH(x);
    LAUNCH(k_quant_pow2, blocks_for(n, 256), 256, q, x, n, arith_float((uint32_t)(127 - e) << 23));
    DONE(g);
}

/* One warp: 32 lanes are the definition of this sum. */
__global__ static void k_sumsq(float *out, const float *x, size_t n) {
    float v = 0.0f;
    for (size_t i = threadIdx.x; i < n; i += 32)
        v = arith_fma(x[i], x[i], v);
    v = warp_tree(v);
    if (!threadIdx.x)
        *out = v;
}
static enum loam_status cuda_sumsq(struct gpu *g, float *out, const float *x, size_t n, struct err *err) {
    GPU_BEGIN(g);
    REACH(x);
    void *d;
    TRY(scratch(g, sizeof(float), &d, err));
    LAUNCH(k_sumsq, 1, 32, (float *)d, x, n);
    CU(cudaGetLastError());
    CU(cudaMemcpy(out, d, sizeof(float), cudaMemcpyDefault));
    DONE(g);
}

/* The bits of |x| order as unsigned integers do. */
__global__ static void k_absmax(uint32_t *out, const float *x, size_t n) {
    uint32_t big = 0;
    EACH(i, n) {
        uint32_t u = arith_bits(x[i]) & 0x7fffffffu;
        big = u > big ? u : big;
    }
    atomicMax(out, big);
}
static enum loam_status cuda_absmax(struct gpu *g, float *out, const float *x, size_t n, struct err *err) {
    GPU_BEGIN(g);
    REACH(x);
    void *d;
    TRY(scratch(g, sizeof(float), &d, err));
    CU(cudaMemset(d, 0, sizeof(float)));
    LAUNCH(k_absmax, blocks_for(n, 1024), 256, (uint32_t *)d, x, n);
    CU(cudaGetLastError());
    CU(cudaMemcpy(out, d, sizeof(float), cudaMemcpyDefault));
    DONE(g);
}

__global__ static void k_finite(unsigned long long *first, const float *x, size_t n) {
    EACH(i, n) {
        if (!arith_finite(x[i]))
            atomicMin(first, (unsigned long long)i);
    }
}
static enum loam_status cuda_finite(struct gpu *g, const float *x, size_t n, const char *what, struct err *err) {
    GPU_BEGIN(g);
    REACH(x);
    void *d;
    unsigned long long first = ~0ull;
    TRY(scratch(g, sizeof first, &d, err));
    CU(cudaMemcpy(d, &first, sizeof first, cudaMemcpyDefault));
    LAUNCH(k_finite, blocks_for(n, 1024), 256, (unsigned long long *)d, x, n);
    CU(cudaGetLastError());
    CU(cudaMemcpy(&first, d, sizeof first, cudaMemcpyDefault));
    if (first != ~0ull)
        return err_set(err, LOAM_ENONFINITE, "%s: element %llu is not finite", what, first);
    return LOAM_OK;
}

/* ---------------------------------------------------------------- loss */

__global__ static void k_xent(float *nll, float *logits, size_t ld, uint32_t rows, uint32_t v, const uint32_t *target, bool grad) {
    uint32_t lane = threadIdx.x % 32;
    WARPS(t, rows) {
        float *x = logits + t * ld, m = x[0], sum = 0.0f, hit = x[target[t]];
        for (uint32_t i = lane; i < v; i += 32)
            m = x[i] > m ? x[i] : m;
        m = warp_max(m);
        __syncwarp();
        for (uint32_t i = lane; i < v; i += 32) {
            float e = arith_exp(x[i] - m);
            sum = sum + e;
            if (grad)
                x[i] = e;
        }
        float s = warp_tree(sum), inv = 1.0f / s;
        if (!lane)
            nll[t] = arith_log(s) - (hit - m);
        if (grad)
            for (uint32_t i = lane; i < v; i += 32) {
                float p = x[i] * inv;
                x[i] = i == target[t] ? p - 1.0f : p;
            }
    }
}

static enum loam_status cuda_xent(struct gpu *g, float *nll, float *logits, size_t ld, uint32_t rows, uint32_t v, const uint32_t *target,
                                  bool grad, struct err *err) {
    GPU_BEGIN(g);
    for (uint32_t t = 0; t < rows; t++)
        if (target[t] >= v)
            return err_set(err, LOAM_ERANGE, "target %u is past the vocabulary of %u", target[t], v);
    REACH(nll);
    REACH(logits);
    void *d;
    TRY(scratch(g, rows * sizeof *target + 1, &d, err));
    CU(cudaMemcpy(d, target, rows * sizeof *target, cudaMemcpyDefault));
    LAUNCH(k_xent, blocks_for((size_t)rows * 32, 128), 128, nll, logits, ld, rows, v, (const uint32_t *)d, grad);
    DONE(g);
}

/* ---------------------------------------------------------------- attention */

/* How a kernel reads keys and values: fp32 arrays, or the fp16 cache through its pages. */
struct kv_plain {
    const float *k, *v; /* this sequence and kv head */
    size_t ld;
    __device__ float key(uint32_t j, uint32_t c) const { return k[j * ld + c]; }
    __device__ float val(uint32_t j, uint32_t c) const { return v[j * ld + c]; }
};
struct kv_paged {
    uint16_t *const *pages;
    size_t off, v_at; /* of this kv head */
    uint32_t d;
    __device__ float key(uint32_t j, uint32_t c) const {
        uint32_t in = j % GPU_KV_PAGE;
        return arith_half(pages[j / GPU_KV_PAGE][off + (size_t)(in / 16) * 16 * d + 16 * c + in % 16]);
    }
    __device__ float val(uint32_t j, uint32_t c) const { return arith_half(pages[j / GPU_KV_PAGE][v_at + (size_t)(j % GPU_KV_PAGE) * d + c]); }
};

template <class KV> __device__ static float score(const struct gpu_attn &a, const float *q, const KV &kv, uint32_t j) {
    float acc = 0.0f;
    for (uint32_t c = 0; c < a.d; c++)
        acc = arith_fma(q[c], kv.key(j, c), acc);
    return a.scale * acc;
}

__device__ static uint32_t first_seen(const struct gpu_attn &a, uint32_t i) {
    return a.window && i + 1 > a.window ? i + 1 - a.window : 0;
}

/* A warp a query and head. Positions go by aligned 32: lane x has the positions that are x mod 32, as the sum wants. */
template <class KV>
__device__ static void attend(const struct gpu_attn &a, float *o, float *m_out, float *l_out, const float *q, const KV &kv, uint32_t i) {
    uint32_t lane = threadIdx.x % 32, from = first_seen(a, i);
    float big = -INFINITY;
    for (uint32_t j = from + lane; j <= i; j += 32) {
        float s = score(a, q, kv, j);
        big = s > big ? s : big;
    }
    big = warp_max(big);
    float sum = 0.0f, acc[8] = {0, 0, 0, 0, 0, 0, 0, 0}; /* d <= 256 */
    for (uint32_t j0 = from / 32 * 32; j0 <= i; j0 += 32) {
        uint32_t j = j0 + lane;
        float p = 0.0f;
        if (j >= from && j <= i) {
            p = arith_exp(score(a, q, kv, j) - big);
            sum = sum + p;
        }
        for (uint32_t x = 0; x < 32; x++) {
            float px = __shfl_sync(FULL, p, x);
            uint32_t jx = j0 + x;
            if (jx >= from && jx <= i)
                for (uint32_t c = lane, n = 0; c < a.d; c += 32, n++)
                    acc[n] = arith_fma(px, kv.val(jx, c), acc[n]);
        }
    }
    sum = warp_tree(sum);
    for (uint32_t c = lane, n = 0; c < a.d; c += 32, n++)
        o[c] = acc[n] / sum + 0.0f;
    if (!lane && m_out) {
        *m_out = big + 0.0f;
        *l_out = sum;
    }
}

/* Row -> its sequence: the last segment that starts at or before it and is not empty. */
__device__ static uint32_t segment_of(const uint32_t *seg, uint32_t n_seg, uint32_t row) {
    uint32_t e = 0;
    while (e + 1 < n_seg && seg[e + 1] <= row)
        e++;
    return e;
}

__global__ static void k_attn(float *o, float *m, float *l, const float *q, const float *k, const float *v, struct gpu_attn a,
                              const uint32_t *seg, uint32_t n_seg) {
    uint32_t total = seg[n_seg];
    WARPS(w, (size_t)total * a.h) {
        uint32_t row = (uint32_t)(w / a.h), h = (uint32_t)(w % a.h), base = seg[segment_of(seg, n_seg, row)];
        size_t ldq = (size_t)a.h * a.d, ldk = (size_t)a.g * a.d, at = base * ldk + (size_t)(h / (a.h / a.g)) * a.d;
        struct kv_plain kv = {k + at, v + at, ldk};
        attend(a, o + row * ldq + h * a.d, m + w, l + w, q + row * ldq + h * a.d, kv, row - base);
    }
}

static enum loam_status seg_up(struct gpu *g, const uint32_t *seg, uint32_t n_seg, size_t more, uint32_t **d, char **rest, struct err *err) {
    size_t bytes = ((n_seg + 1) * sizeof *seg + 63) & ~(size_t)63;
    void *p = NULL;
    TRY(scratch(g, bytes + more, &p, err));
    CU(cudaMemcpy(p, seg, (n_seg + 1) * sizeof *seg, cudaMemcpyDefault));
    *d = (uint32_t *)p;
    *rest = (char *)p + bytes;
    return LOAM_OK;
}

static enum loam_status cuda_attn(struct gpu *g, float *o, float *m, float *l, const float *q, const float *k, const float *v,
                                  const struct gpu_attn *a, const uint32_t *seg, uint32_t n_seg, struct err *err) {
    GPU_BEGIN(g);
    TRY(gpu_check_attn(a, err));
    TRY(gpu_check_seg(seg, n_seg, err));
    REACH(o);
    REACH(m);
    REACH(l);
    REACH(q);
    REACH(k);
    REACH(v);
    uint32_t *ds;
    char *rest;
    TRY(seg_up(g, seg, n_seg, 0, &ds, &rest, err));
    LAUNCH(k_attn, blocks_for((size_t)seg[n_seg] * a->h * 32, 128), 128, o, m, l, q, k, v, *a, ds, n_seg);
    DONE(g);
}

struct dx_args {
    float *dq, *dk, *dv, *dd; /* dd: T x H, the sums D */
    const float *go, *o, *m, *l, *q, *k, *v;
    struct gpu_attn a;
    const uint32_t *seg;
    uint32_t n_seg;
};

__global__ static void k_attn_d(struct dx_args x) {
    uint32_t lane = threadIdx.x % 32;
    WARPS(w, (size_t)x.seg[x.n_seg] * x.a.h) {
        float v = 0.0f;
        for (uint32_t c = lane; c < x.a.d; c += 32)
            v = arith_fma(x.go[w * x.a.d + c], x.o[w * x.a.d + c], v);
        v = warp_tree(v);
        if (!lane)
            x.dd[w] = v;
    }
}

/* w and z of query row `row` (head h, index w in m and l) and key j of its sequence. */
__device__ static void dx_pair(const struct dx_args &x, size_t at, const float *kj, const float *vj, float &w, float &z) {
    float s = 0.0f, gv = 0.0f;
    for (uint32_t c = 0; c < x.a.d; c++) {
        s = arith_fma(x.q[at * x.a.d + c], kj[c], s);
        gv = arith_fma(x.go[at * x.a.d + c], vj[c], gv);
    }
    w = arith_exp(x.a.scale * s - x.m[at]) * (1.0f / x.l[at]);
    z = w * (gv - x.dd[at]) * x.a.scale;
}

__global__ static void k_attn_dq(struct dx_args x) {
    uint32_t lane = threadIdx.x % 32;
    const struct gpu_attn &a = x.a;
    size_t ldk = (size_t)a.g * a.d;
    WARPS(w, (size_t)x.seg[x.n_seg] * a.h) {
        uint32_t row = (uint32_t)(w / a.h), h = (uint32_t)(w % a.h), base = x.seg[segment_of(x.seg, x.n_seg, row)], i = row - base;
        const float *k = x.k + base * ldk + (size_t)(h / (a.h / a.g)) * a.d, *v = x.v + base * ldk + (size_t)(h / (a.h / a.g)) * a.d;
        float acc[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        uint32_t from = first_seen(a, i);
        for (uint32_t j0 = from; j0 <= i; j0 += 32) {
            float wj = 0.0f, zj = 0.0f;
            if (j0 + lane <= i)
                dx_pair(x, w, k + (j0 + lane) * ldk, v + (j0 + lane) * ldk, wj, zj);
            for (uint32_t y = 0; y < 32 && j0 + y <= i; y++) {
                float z = __shfl_sync(FULL, zj, y);
                for (uint32_t c = lane, n = 0; c < a.d; c += 32, n++)
                    acc[n] = arith_fma(z, k[(j0 + y) * ldk + c], acc[n]);
            }
        }
        for (uint32_t c = lane, n = 0; c < a.d; c += 32, n++)
            x.dq[w * a.d + c] = acc[n] + 0.0f;
    }
}

__global__ static void k_attn_dkv(struct dx_args x) {
    uint32_t lane = threadIdx.x % 32;
    const struct gpu_attn &a = x.a;
    size_t ldk = (size_t)a.g * a.d;
    WARPS(w, (size_t)x.seg[x.n_seg] * a.g) {
        uint32_t row = (uint32_t)(w / a.g), kv = (uint32_t)(w % a.g), e = segment_of(x.seg, x.n_seg, row), base = x.seg[e];
        uint32_t j = row - base, n_row = x.seg[e + 1] - base, group = a.h / a.g;
        uint32_t end = a.window && j + a.window < n_row ? j + a.window : n_row; /* queries j .. end - 1 see j */
        const float *kj = x.k + row * ldk + (size_t)kv * a.d, *vj = x.v + row * ldk + (size_t)kv * a.d;
        float dk[8] = {0, 0, 0, 0, 0, 0, 0, 0}, dv[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        for (uint32_t h = kv * group; h < (kv + 1) * group; h++)
            for (uint32_t i0 = j; i0 < end; i0 += 32) {
                float wi = 0.0f, zi = 0.0f;
                if (i0 + lane < end)
                    dx_pair(x, (size_t)(base + i0 + lane) * a.h + h, kj, vj, wi, zi);
                for (uint32_t y = 0; y < 32 && i0 + y < end; y++) {
                    float ww = __shfl_sync(FULL, wi, y), zz = __shfl_sync(FULL, zi, y);
                    size_t at = ((size_t)(base + i0 + y) * a.h + h) * a.d;
                    for (uint32_t c = lane, n = 0; c < a.d; c += 32, n++) {
                        dk[n] = arith_fma(zz, x.q[at + c], dk[n]);
                        dv[n] = arith_fma(ww, x.go[at + c], dv[n]);
                    }
                }
            }
        for (uint32_t c = lane, n = 0; c < a.d; c += 32, n++) {
            x.dk[row * ldk + (size_t)kv * a.d + c] = dk[n] + 0.0f;
            x.dv[row * ldk + (size_t)kv * a.d + c] = dv[n] + 0.0f;
        }
    }
}

static enum loam_status cuda_attn_dx(struct gpu *g, float *dq, float *dk, float *dv, const float *d_o, const float *o, const float *m,
                                     const float *l, const float *q, const float *k, const float *v, const struct gpu_attn *a,
                                     const uint32_t *seg, uint32_t n_seg, struct err *err) {
    GPU_BEGIN(g);
    TRY(gpu_check_attn(a, err));
    TRY(gpu_check_seg(seg, n_seg, err));
    const void *arrays[] = {dq, dk, dv, d_o, o, m, l, q, k, v};
    for (const void *array : arrays)
        REACH(array);
    uint32_t *ds;
    char *rest;
    size_t total = seg[n_seg];
    TRY(seg_up(g, seg, n_seg, total * a->h * sizeof(float) + 1, &ds, &rest, err));
    struct dx_args x = {dq, dk, dv, (float *)rest, d_o, o, m, l, q, k, v, *a, ds, n_seg};
    LAUNCH(k_attn_d, blocks_for(total * a->h * 32, 128), 128, x);
    LAUNCH(k_attn_dq, blocks_for(total * a->h * 32, 128), 128, x);
    LAUNCH(k_attn_dkv, blocks_for(total * a->g * 32, 128), 128, x);
    DONE(g);
}

/* Items and their page tables, copied to the device in one piece. */
static enum loam_status items_up(struct gpu *g, const struct gpu_kv_item *items, uint32_t n, struct gpu_kv_item **out, struct err *err) {
    size_t pages = 0, head = (n * sizeof *items + 63) & ~(size_t)63;
    for (uint32_t i = 0; i < n; i++)
        pages += (items[i].pos + items[i].t + GPU_KV_PAGE - 1) / GPU_KV_PAGE;
    void *d;
    TRY(scratch(g, head + pages * sizeof(void *) + 1, &d, err));
    char *host = (char *)mem_alloc(head + pages * sizeof(void *) + 1);
    if (!host)
        return err_set(err, LOAM_ENOMEM, "no memory for a table of %zu pages", pages);
    struct gpu_kv_item *it = (struct gpu_kv_item *)host;
    size_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        size_t count = (items[i].pos + items[i].t + GPU_KV_PAGE - 1) / GPU_KV_PAGE;
        it[i] = items[i];
        it[i].pages = (uint16_t *const *)((char *)d + head + at * sizeof(void *));
        memcpy(host + head + at * sizeof(void *), items[i].pages, count * sizeof(void *));
        at += count;
    }
    enum loam_status s = LOAM_OK;
    for (uint32_t i = 0; i < n && !s; i++) /* a page that is out of reach is found by its first one */
        if (items[i].pos + items[i].t)
            s = reach(g, items[i].pages[0], "a page of the cache", err);
    cudaError_t e = s ? cudaSuccess : cudaMemcpy(d, host, head + pages * sizeof(void *), cudaMemcpyDefault);
    mem_free(host);
    *out = (struct gpu_kv_item *)d;
    g->lost |= e != cudaSuccess;
    return s ? s : e != cudaSuccess ? cu(e, "cudaMemcpy of the page table", err) : LOAM_OK;
}

__global__ static void k_kv_store(const float *k, const float *v, size_t ld, struct gpu_attn a, const struct gpu_kv_item *items, uint32_t n) {
    size_t per = (size_t)a.g * a.d;
    for (uint32_t i = 0; i < n; i++) {
        struct gpu_kv_item it = items[i];
        EACH(e, it.t * per) {
            uint32_t t = (uint32_t)(e / per), h = (uint32_t)(e % per / a.d), c = (uint32_t)(e % a.d), pos = it.pos + t, in = pos % GPU_KV_PAGE;
            uint16_t *page = it.pages[pos / GPU_KV_PAGE] + it.off;
            size_t at = (it.row + t) * ld + h * a.d + c;
            page[(size_t)h * GPU_KV_PAGE * a.d + (size_t)(in / 16) * 16 * a.d + 16 * c + in % 16] = arith_to_half(k[at]);
            page[(size_t)a.g * GPU_KV_PAGE * a.d + ((size_t)h * GPU_KV_PAGE + in) * a.d + c] = arith_to_half(v[at]);
        }
    }
}

static enum loam_status cuda_kv_store(struct gpu *g, const float *k, const float *v, size_t ldkv, const struct gpu_attn *a,
                                      const struct gpu_kv_item *items, uint32_t n_items, struct err *err) {
    GPU_BEGIN(g);
    REACH(k);
    REACH(v);
    struct gpu_kv_item *d;
    size_t most = 0;
    TRY(items_up(g, items, n_items, &d, err));
    for (uint32_t i = 0; i < n_items; i++)
        most = items[i].t > most ? items[i].t : most;
    LAUNCH(k_kv_store, blocks_for(most * a->g * a->d, 256), 256, k, v, ldkv, *a, d, n_items);
    DONE(g);
}

__global__ static void k_attn_kv(float *o, size_t ldo, const float *q, size_t ldq, struct gpu_attn a, const struct gpu_kv_item *items,
                                 uint32_t n, uint32_t tokens) {
    WARPS(w, (size_t)tokens * a.h) {
        uint32_t t = (uint32_t)(w / a.h), h = (uint32_t)(w % a.h), i = 0;
        while (i + 1 < n && t >= items[i].t)
            t -= items[i++].t;
        const struct gpu_kv_item &it = items[i];
        uint32_t kvh = h / (a.h / a.g);
        struct kv_paged kv = {it.pages, it.off + (size_t)kvh * GPU_KV_PAGE * a.d,
                              it.off + (size_t)a.g * GPU_KV_PAGE * a.d + (size_t)kvh * GPU_KV_PAGE * a.d, a.d};
        attend(a, o + (it.row + t) * ldo + h * a.d, (float *)NULL, (float *)NULL, q + (it.row + t) * ldq + h * a.d, kv, it.pos + t);
    }
}

static enum loam_status cuda_attn_kv(struct gpu *g, float *o, size_t ldo, const float *q, size_t ldq, const struct gpu_attn *a,
                                     const struct gpu_kv_item *items, uint32_t n_items, struct err *err) {
    GPU_BEGIN(g);
    TRY(gpu_check_attn(a, err));
    REACH(o);
    REACH(q);
    struct gpu_kv_item *d;
    uint32_t tokens = 0;
    TRY(items_up(g, items, n_items, &d, err));
    for (uint32_t i = 0; i < n_items; i++)
        tokens += items[i].t;
    if (tokens)
        LAUNCH(k_attn_kv, blocks_for((size_t)tokens * a->h * 32, 128), 128, o, ldo, q, ldq, *a, d, n_items, tokens);
    DONE(g);
}

/* ---------------------------------------------------------------- attribution */

/* A block a row and query; integers add in any order. */
__global__ static void k_dot_i8(int64_t *out, size_t ldo, const int8_t *rows, size_t ldr, uint32_t n_rows, const int8_t *q, size_t ldq,
                                uint32_t n_q, size_t len) {
    __shared__ long long part[8];
    for (size_t b = blockIdx.x; b < (size_t)n_rows * n_q; b += gridDim.x) {
        const int8_t *r = rows + b / n_q * ldr, *x = q + b % n_q * ldq;
        long long sum = 0;
        size_t words = ((uintptr_t)r | (uintptr_t)x) & 3 ? 0 : len / 4;
        for (size_t i = threadIdx.x; i < words; i += blockDim.x)
            sum += __dp4a(((const int *)r)[i], ((const int *)x)[i], 0);
        for (size_t i = words * 4 + threadIdx.x; i < len; i += blockDim.x)
            sum += (int)r[i] * x[i];
        for (int s = 16; s; s >>= 1)
            sum += __shfl_xor_sync(FULL, sum, s);
        __syncthreads();
        if (threadIdx.x % 32 == 0)
            part[threadIdx.x / 32] = sum;
        __syncthreads();
        if (!threadIdx.x) {
            for (uint32_t i = 1; i < blockDim.x / 32; i++)
                sum += part[i];
            out[b / n_q * ldo + b % n_q] += sum;
        }
    }
}

static enum loam_status cuda_dot_i8(struct gpu *g, int64_t *out, size_t ldo, const int8_t *rows, size_t ldr, uint32_t n_rows,
                                    const int8_t *q, size_t ldq, uint32_t n_q, size_t len, struct err *err) {
    GPU_BEGIN(g);
    REACH(out);
    REACH(rows);
    REACH(q);
    if (n_rows && n_q)
        LAUNCH(k_dot_i8, blocks_for((size_t)n_rows * n_q, 1), 256, out, ldo, rows, ldr, n_rows, q, ldq, n_q, len);
    DONE(g);
}

__global__ static void k_gemm_f64i8(double *out, size_t ldo, const double *m, size_t ldm, uint32_t n, uint32_t k, const int8_t *x, size_t ldx,
                                    size_t len) {
    EACH(e, (size_t)n * len) {
        size_t i = e / len, p = e % len;
        double acc = 0.0;
        for (uint32_t j = 0; j < k; j++)
            acc = arith_fma64(m[i * ldm + j], (double)x[j * ldx + p], acc);
        out[i * ldo + p] = acc;
    }
}

static enum loam_status cuda_gemm_f64i8(struct gpu *g, double *out, size_t ldo, const double *m, size_t ldm, uint32_t n, uint32_t k,
                                        const int8_t *x, size_t ldx, size_t len, struct err *err) {
    GPU_BEGIN(g);
    REACH(out);
    REACH(m);
    REACH(x);
    LAUNCH(k_gemm_f64i8, blocks_for((size_t)n * len, 256), 256, out, ldo, m, ldm, n, k, x, ldx, len);
    DONE(g);
}

/* ---------------------------------------------------------------- the device */

static const struct gpu_ops ops = OPS_OF(cuda);

static void *managed_alloc(struct gpu *g, size_t bytes) {
    void *p = NULL;
    if (cudaSetDevice(dev_of(g)->index) != cudaSuccess || cudaMallocManaged(&p, bytes ? bytes : 1, cudaMemAttachGlobal) != cudaSuccess) {
        (void)cudaGetLastError();
        return NULL;
    }
    memset(p, 0, bytes);
    return p;
}
static void managed_free(struct gpu *g, void *p) {
    (void)cudaFree(p);
}
static uint64_t device_room(struct gpu *g) {
    size_t free_bytes = 0, total = 0;
    if (cudaSetDevice(dev_of(g)->index) != cudaSuccess || cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) {
        (void)cudaGetLastError();
        return 0;
    }
    return free_bytes;
}
static void device_close(struct gpu *g) {
    (void)cudaFree(dev_of(g)->scratch);
    mem_free(g);
}

static enum loam_status count(int *n, struct err *err) {
    int driver = 0;
    *n = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || !driver)
        return err_set(err, LOAM_ENOTFOUND, "no NVIDIA driver is installed here (libcuda is missing or not usable)");
    cudaError_t e = cudaGetDeviceCount(n);
    if (e == cudaErrorInsufficientDriver)
        return err_set(err, LOAM_EVERSION, "the NVIDIA driver supports CUDA %d.%d, this module was built for %d.%d: update the driver",
                       driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    if (e == cudaErrorNoDevice || (e == cudaSuccess && !*n))
        return err_set(err, LOAM_ENOTFOUND, "the NVIDIA driver finds no device");
    return e == cudaSuccess ? LOAM_OK : cu(e, "cudaGetDeviceCount", err);
}

static enum loam_status list(struct cuda_device *out, int *n, struct err *err) {
    TRY(count(n, err));
    if (*n > CUDA_DEVICES_MAX)
        *n = CUDA_DEVICES_MAX;
    for (int i = 0; i < *n; i++) {
        cudaDeviceProp p;
        size_t free_bytes = 0, total = 0;
        CU0(cudaGetDeviceProperties(&p, i));
        if (cudaSetDevice(i) == cudaSuccess && cudaMemGetInfo(&free_bytes, &total) != cudaSuccess)
            (void)cudaGetLastError(); /* busy: the list still shows it, with nothing free */
        memset(&out[i], 0, sizeof out[i]);
        memcpy(out[i].name, p.name, sizeof out[i].name - 1); /* cut; memset has ended it */
        out[i].index = i;
        out[i].major = p.major;
        out[i].minor = p.minor;
        out[i].processors = p.multiProcessorCount;
        out[i].memory = p.totalGlobalMem;
        out[i].free = free_bytes;
    }
    return LOAM_OK;
}

__global__ static void k_nothing() {
}

static enum loam_status open_device(struct gpu **out, int device, struct err *err) {
    int n, pageable = 0, managed = 0;
    *out = NULL;
    TRY(count(&n, err));
    if (device < 0 || device >= n)
        return err_set(err, LOAM_ENOTFOUND, "device %d of %d; the first is cuda:0", device, n);
    CU0(cudaSetDevice(device));
    CU0(cudaDeviceGetAttribute(&managed, cudaDevAttrManagedMemory, device));
    if (!managed)
        return err_set(err, LOAM_EUNSUPPORTED, "device %d has no managed memory", device);
    CU0(cudaDeviceGetAttribute(&pageable, cudaDevAttrPageableMemoryAccess, device));
    LAUNCH(k_nothing, 1, 1); /* a module without code for this device shows here and not in the middle of a job */
    CU0(cudaGetLastError());
    CU0(cudaDeviceSynchronize());
    struct dev *d = (struct dev *)mem_zalloc(sizeof *d);
    if (!d)
        return err_set(err, LOAM_ENOMEM, "no memory for the compute device");
    d->g.ops = &ops;
    d->g.name = "cuda";
    d->g.threads = 1;
    d->g.dev_alloc = managed_alloc;
    d->g.dev_free = managed_free;
    d->g.dev_close = device_close;
    d->g.dev_room = device_room;
    d->index = device;
    d->pageable = pageable != 0;
    *out = &d->g;
    return LOAM_OK;
}

extern const struct fast_ops cuda_fast_ops; /* gpu/cuda_fast.cu */
extern "C" __attribute__((visibility("default"))) const struct cuda_module loam_cuda_module = {CUDA_ABI, list, open_device, &cuda_fast_ops};
