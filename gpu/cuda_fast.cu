/* The fast mode (gpu/fast.h). Products by cuBLASLt with plans kept by shape; attention, norms, RoPE, SwiGLU, loss, adapters, the
 * paged cache and the matrix-vector products of decode are here.
 *
 * Flash attention: one pass over tiles of keys with a running maximum (Dao, FlashAttention-2, 2023), scores and outputs in
 * registers in the layout of mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16"), so that a tile of probabilities is the
 * next product's operand as it stands. The backward computes dQ and dK, dV in two kernels, each sum in one block's registers:
 * two products more than with atomics, the same bits every time, and no repeat of K and V for groups of heads.
 *
 * Nothing here was written for one device; what ran where stands in gpu-check's results, never here. */
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define _Noreturn [[noreturn]]
extern "C" {
#include "base/mem.h"
#include "base/status.h"
#include "gpu/cuda.h"
#include "gpu/fast.h"
}
#include "gpu/arith.h"
#include "gpu/cuda_blaslt.h"

#ifdef CUDA_EMULATED
#include <cublaslt.h> /* tests/cuda_emu */
#define DYNAMIC_SHARED(name) unsigned char *name = emu_dynamic
#else
#define LAUNCH_ON(stream, kernel, grid, block, bytes, ...) kernel<<<grid, block, bytes, stream>>>(__VA_ARGS__)
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#endif
#define FULL 0xffffffffu
#define WORKSPACE ((size_t)32 << 20) /* cuBLASLt's */
#define PLANS_MAX 256                /* shapes kept */
#define LOG2E 1.4426950408889634f

/* ---------------------------------------------------------------- bf16 */

__device__ static __forceinline__ float lo(uint32_t v) {
    return arith_float(v << 16);
}
__device__ static __forceinline__ float hi(uint32_t v) {
    return arith_float(v & 0xffff0000u);
}
__device__ static __forceinline__ uint32_t pack2(float a, float b) { /* a in the low half */
#if defined __CUDA_ARCH__ && __CUDA_ARCH__ >= 800
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(b), "f"(a));
    return r;
#else
    return (uint32_t)arith_to_bf16(a) | (uint32_t)arith_to_bf16(b) << 16;
#endif
}
__device__ static __forceinline__ uint16_t to16(float a) {
    return (uint16_t)pack2(a, 0.0f);
}
__device__ static __forceinline__ float from16(uint16_t v) {
    return arith_float((uint32_t)v << 16);
}
__device__ static __forceinline__ float exp2_fast(float x) {
#ifdef __CUDA_ARCH__
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
#else
    return exp2f(x);
#endif
}
__device__ static __forceinline__ float sum_warp(float v) {
    for (int s = 16; s; s >>= 1)
        v += __shfl_xor_sync(FULL, v, s);
    return v;
}
__device__ static __forceinline__ float max_warp(float v) {
    for (int s = 16; s; s >>= 1)
        v = fmaxf(v, __shfl_xor_sync(FULL, v, s));
    return v;
}
/* Over a block of at most 1024 threads; the result in every thread. */
__device__ static float reduce_block(float v, bool max, float *part) {
    v = max ? max_warp(v) : sum_warp(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = v;
    __syncthreads();
    float r = part[0];
    for (uint32_t i = 1; i < blockDim.x / 32; i++)
        r = max ? fmaxf(r, part[i]) : r + part[i];
    return r;
}

/* ---------------------------------------------------------------- tensor cores */

/* c (16 x 8) += a (16 x 16) b (16 x 8); a, b bf16, fragments as PTX lays them out. */
__device__ static __forceinline__ void mma(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
#ifdef CUDA_EMULATED
    emu_mma(c, a, b0, b1);
#elif __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}
/* Four 8 x 8 matrices of bf16; lane i gives the address of row i % 8 of matrix i / 8. */
__device__ static __forceinline__ void ldmatrix(uint32_t r[4], const uint16_t *row, bool trans) {
#ifdef CUDA_EMULATED
    emu_ldmatrix(r, row, trans);
#elif __CUDA_ARCH__ >= 750
    uint32_t p = (uint32_t)__cvta_generic_to_shared(row);
    if (trans)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(p));
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(p));
#endif
}

#define THREADS 128 /* of an attention block: 4 warps, 16 rows each */
#define ROWS 64     /* rows of a block */
#define PAD 8       /* elements: rows of a tile start in different banks */

/* 16 bytes from global to shared memory, zeros where `in` is false; there after copies_done. */
__device__ static __forceinline__ void copy16(uint16_t *to, const uint16_t *from, bool in) {
#if defined __CUDA_ARCH__ && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(to)), "l"(__cvta_generic_to_global(from)),
                 "r"(in ? 16 : 0)
                 : "memory");
#elif defined CUDA_EMULATED
    emu_copy16(to, from, in); /* lands as late as it may, and spoils its place at once */
#else
    uint4 zero = {0, 0, 0, 0};
    *(uint4 *)to = in ? *(const uint4 *)from : zero;
#endif
}
/* All of this thread's copies; then the barrier makes the other threads' visible, and tells that nobody reads the other buffer. */
__device__ static __forceinline__ void copies_done() {
#if defined __CUDA_ARCH__ && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#elif defined CUDA_EMULATED
    emu_copies_wait();
#endif
    __syncthreads();
}
/* Begins to bring rows x D from global memory (row stride ld) into a tile; rows past `valid` become zero. */
template <int D> __device__ static void load_tile(uint16_t *tile, const uint16_t *src, size_t ld, int rows, int valid) {
    for (int e = (int)threadIdx.x; e < rows * (D / 8); e += THREADS) {
        int r = e / (D / 8), c = e % (D / 8) * 8;
        copy16(tile + r * (D + PAD) + c, src + (r < valid ? (size_t)r * ld + c : 0), r < valid);
    }
}
/* A: the warp's 16 rows from row r0 of a tile, columns k .. k + 15. */
template <int D> __device__ static __forceinline__ void frag_a(uint32_t a[4], const uint16_t *tile, int r0, int k) {
    int lane = (int)threadIdx.x % 32;
    ldmatrix(a, tile + (r0 + lane % 16) * (D + PAD) + k + lane / 16 * 8, false);
}
/* B of two neighbouring n-tiles (16 rows of the tile are n, columns are k): b[0], b[1] the first, b[2], b[3] the second. */
template <int D> __device__ static __forceinline__ void frag_b(uint32_t b[4], const uint16_t *tile, int n0, int k) {
    int lane = (int)threadIdx.x % 32;
    ldmatrix(b, tile + (n0 + lane % 8 + lane / 16 * 8) * (D + PAD) + k + lane / 8 % 2 * 8, false);
}
/* The same where the tile's rows are k and its columns n. */
template <int D> __device__ static __forceinline__ void frag_bt(uint32_t b[4], const uint16_t *tile, int k0, int n0) {
    int lane = (int)threadIdx.x % 32;
    ldmatrix(b, tile + (k0 + lane % 16) * (D + PAD) + n0 + lane / 16 * 8, true);
}
/* s (16 x 8 N) = A rows times tile rows, over D. */
template <int D, int N> __device__ static __forceinline__ void product_regs(float s[N][4], const uint32_t a[D / 16][4], const uint16_t *tile) {
    for (int n = 0; n < N; n++)
        for (int i = 0; i < 4; i++)
            s[n][i] = 0.0f;
#pragma unroll
    for (int k = 0; k < D / 16; k++)
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            uint32_t b[4];
            frag_b<D>(b, tile, n * 8, k * 16);
            mma(s[n], a[k], b[0], b[1]);
            mma(s[n + 1], a[k], b[2], b[3]);
        }
}
template <int D, int N> __device__ static __forceinline__ void product_tiles(float s[N][4], const uint16_t *rows, int r0, const uint16_t *tile) {
    for (int n = 0; n < N; n++)
        for (int i = 0; i < 4; i++)
            s[n][i] = 0.0f;
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        uint32_t a[4];
        frag_a<D>(a, rows, r0, k * 16);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            uint32_t b[4];
            frag_b<D>(b, tile, n * 8, k * 16);
            mma(s[n], a, b[0], b[1]);
            mma(s[n + 1], a, b[2], b[3]);
        }
    }
}
/* o (16 x D) += p (16 x 8 N, in accumulator layout) times the tile's 8 N rows. */
template <int D, int N> __device__ static __forceinline__ void accumulate(float o[D / 8][4], const float p[N][4], const uint16_t *tile) {
#pragma unroll
    for (int k = 0; k < N / 2; k++) {
        const uint32_t a[4] = {pack2(p[2 * k][0], p[2 * k][1]), pack2(p[2 * k][2], p[2 * k][3]), pack2(p[2 * k + 1][0], p[2 * k + 1][1]),
                               pack2(p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
        for (int d = 0; d < D / 8; d += 2) {
            uint32_t b[4];
            frag_bt<D>(b, tile, k * 16, d * 8);
            mma(o[d], a, b[0], b[1]);
            mma(o[d + 1], a, b[2], b[3]);
        }
    }
}
/* Rows g and g + 8 of the warp's 16 to global memory, row stride ld; f0, f1 multiply them. */
template <int D> __device__ static void store_rows(uint16_t *out, size_t ld, int r0, int valid, const float o[D / 8][4], float f0, float f1) {
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    for (int d = 0; d < D / 8; d++) {
        if (r0 + g < valid)
            *(uint32_t *)(out + (size_t)(r0 + g) * ld + d * 8 + t * 2) = pack2(o[d][0] * f0, o[d][1] * f0);
        if (r0 + g + 8 < valid)
            *(uint32_t *)(out + (size_t)(r0 + g + 8) * ld + d * 8 + t * 2) = pack2(o[d][2] * f1, o[d][3] * f1);
    }
}

/* ---------------------------------------------------------------- attention of packed sequences */

struct attn_args {
    struct fast_attn a;
    uint16_t *o, *dq, *dk, *dv;
    float *lse, *dd;
    const uint16_t *q, *k, *v, *d_o;
};

__device__ static __forceinline__ bool seen(const struct fast_attn &a, int i, int j, int n) {
    return j <= i && i < n && (!a.window || i - j < (int)a.window);
}

/* A block: 64 queries of one head. lse in units of log 2, of scores times scale. */
template <int D> __global__ static void __launch_bounds__(THREADS) k_attn(struct attn_args x) {
    DYNAMIC_SHARED(shared);
    const int TILE = ROWS * (D + PAD); /* keys and values, two of each: one is read while the next comes */
    uint16_t *ks = (uint16_t *)shared, *vs = ks + 2 * TILE;
    const struct fast_attn &a = x.a;
    uint32_t tiles = (a.longest + ROWS - 1) / ROWS;
    int q0 = (int)(tiles - 1 - blockIdx.x % tiles) * ROWS; /* long rows first */
    uint32_t h = blockIdx.x / tiles % a.h, s = blockIdx.x / tiles / a.h, base = a.seg[s];
    int n = (int)(a.seg[s + 1] - base), warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, r0 = warp * 16;
    if (q0 >= n)
        return;
    const uint16_t *k = x.k + base * a.ldkv + (size_t)(h / (a.h / a.g)) * D, *v = x.v + base * a.ldkv + (size_t)(h / (a.h / a.g)) * D;
    load_tile<D>(ks, x.q + (base + (size_t)q0) * a.ldq + (size_t)h * D, a.ldq, ROWS, n - q0);
    copies_done();
    uint32_t qf[D / 16][4];
#pragma unroll
    for (int c = 0; c < D / 16; c++)
        frag_a<D>(qf[c], ks, r0, c * 16);
    float o[D / 8][4], m[2] = {-INFINITY, -INFINITY}, l[2] = {0.0f, 0.0f}, scale = a.scale * LOG2E;
    for (int d = 0; d < D / 8; d++)
        for (int i = 0; i < 4; i++)
            o[d][i] = 0.0f;
    int first = a.window && q0 + 1 > (int)a.window ? (q0 + 1 - (int)a.window) / ROWS * ROWS : 0, end = q0 + ROWS < n ? q0 + ROWS : n;
    __syncthreads(); /* the queries are read */
    load_tile<D>(ks, k + (size_t)first * a.ldkv, a.ldkv, ROWS, n - first);
    load_tile<D>(vs, v + (size_t)first * a.ldkv, a.ldkv, ROWS, n - first);
    for (int j0 = first, turn = 0; j0 < end; j0 += ROWS, turn ^= 1) {
        copies_done();
        if (j0 + ROWS < end) {
            load_tile<D>(ks + (turn ^ 1) * TILE, k + (size_t)(j0 + ROWS) * a.ldkv, a.ldkv, ROWS, n - j0 - ROWS);
            load_tile<D>(vs + (turn ^ 1) * TILE, v + (size_t)(j0 + ROWS) * a.ldkv, a.ldkv, ROWS, n - j0 - ROWS);
        }
        float p[8][4];
        product_regs<D, 8>(p, qf, ks + turn * TILE);
        bool whole = j0 + ROWS - 1 <= q0 && q0 + ROWS <= n && !a.window;
        float top[2] = {m[0], m[1]};
        for (int t = 0; t < 8; t++)
            for (int i = 0; i < 4; i++) {
                int qi = q0 + r0 + lane / 4 + i / 2 * 8, kj = j0 + t * 8 + lane % 4 * 2 + i % 2;
                p[t][i] = whole || seen(a, qi, kj, n) ? p[t][i] * scale : -INFINITY;
                top[i / 2] = fmaxf(top[i / 2], p[t][i]);
            }
        for (int r = 0; r < 2; r++) {
            top[r] = fmaxf(top[r], __shfl_xor_sync(FULL, top[r], 1));
            top[r] = fmaxf(top[r], __shfl_xor_sync(FULL, top[r], 2));
            float keep = top[r] == -INFINITY ? 1.0f : exp2_fast(m[r] - top[r]); /* a row that has seen nothing yet */
            m[r] = top[r];
            l[r] *= keep;
            for (int d = 0; d < D / 8; d++) {
                o[d][2 * r] *= keep;
                o[d][2 * r + 1] *= keep;
            }
        }
        for (int t = 0; t < 8; t++)
            for (int i = 0; i < 4; i++) {
                p[t][i] = m[i / 2] == -INFINITY ? 0.0f : exp2_fast(p[t][i] - m[i / 2]);
                l[i / 2] += p[t][i];
            }
        accumulate<D, 8>(o, p, vs + turn * TILE);
    }
    for (int r = 0; r < 2; r++) {
        l[r] += __shfl_xor_sync(FULL, l[r], 1);
        l[r] += __shfl_xor_sync(FULL, l[r], 2);
        int i = q0 + r0 + lane / 4 + 8 * r;
        if (lane % 4 == 0 && i < n)
            x.lse[(base + (size_t)i) * a.h + h] = m[r] + log2f(l[r]);
    }
    store_rows<D>(x.o + (base + (size_t)q0) * a.ldo + (size_t)h * D, a.ldo, r0, n - q0, o, 1.0f / l[0], 1.0f / l[1]);
}

/* dd = sum of dO times O: a warp a row and head. */
__global__ static void k_attn_d(struct attn_args x) {
    size_t w = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (w >= (size_t)x.a.t * x.a.h)
        return;
    size_t at = w / x.a.h * x.a.ldo + w % x.a.h * x.a.d;
    float v = 0.0f;
    for (uint32_t c = threadIdx.x % 32 * 2; c < x.a.d; c += 64) {
        uint32_t g = *(const uint32_t *)(x.d_o + at + c), o = *(const uint32_t *)(x.o + at + c);
        v += lo(g) * lo(o) + hi(g) * hi(o);
    }
    v = sum_warp(v);
    if (threadIdx.x % 32 == 0)
        x.dd[w] = v;
}

#define STEP 32 /* keys, or queries, a turn of the backward: registers */

template <int D> __global__ static void __launch_bounds__(THREADS) k_attn_dq(struct attn_args x) {
    DYNAMIC_SHARED(shared);
    const int TILE = STEP * (D + PAD);
    uint16_t *tile = (uint16_t *)shared, *ks = tile, *vs = tile + 2 * TILE; /* two of each */
    const struct fast_attn &a = x.a;
    uint32_t tiles = (a.longest + ROWS - 1) / ROWS;
    int q0 = (int)(tiles - 1 - blockIdx.x % tiles) * ROWS;
    uint32_t h = blockIdx.x / tiles % a.h, s = blockIdx.x / tiles / a.h, base = a.seg[s];
    int n = (int)(a.seg[s + 1] - base), lane = (int)threadIdx.x % 32, r0 = (int)threadIdx.x / 32 * 16;
    if (q0 >= n)
        return;
    const uint16_t *k = x.k + base * a.ldkv + (size_t)(h / (a.h / a.g)) * D, *v = x.v + base * a.ldkv + (size_t)(h / (a.h / a.g)) * D;
    uint32_t qf[D / 16][4], gf[D / 16][4];
    load_tile<D>(tile, x.q + (base + (size_t)q0) * a.ldq + (size_t)h * D, a.ldq, ROWS, n - q0); /* 64 rows: the room of two tiles */
    load_tile<D>(tile + 2 * TILE, x.d_o + (base + (size_t)q0) * a.ldo + (size_t)h * D, a.ldo, ROWS, n - q0);
    copies_done();
#pragma unroll
    for (int c = 0; c < D / 16; c++) {
        frag_a<D>(qf[c], tile, r0, c * 16);
        frag_a<D>(gf[c], tile + 2 * TILE, r0, c * 16);
    }
    float dq[D / 8][4], lse[2], dd[2], scale = a.scale * LOG2E;
    for (int d = 0; d < D / 8; d++)
        for (int i = 0; i < 4; i++)
            dq[d][i] = 0.0f;
    for (int r = 0; r < 2; r++) {
        int i = q0 + r0 + lane / 4 + 8 * r;
        lse[r] = i < n ? x.lse[(base + (size_t)i) * a.h + h] : 0.0f;
        dd[r] = i < n ? x.dd[(base + (size_t)i) * a.h + h] : 0.0f;
    }
    int first = a.window && q0 + 1 > (int)a.window ? (q0 + 1 - (int)a.window) / STEP * STEP : 0, end = q0 + ROWS < n ? q0 + ROWS : n;
    __syncthreads();
    load_tile<D>(ks, k + (size_t)first * a.ldkv, a.ldkv, STEP, n - first);
    load_tile<D>(vs, v + (size_t)first * a.ldkv, a.ldkv, STEP, n - first);
    for (int j0 = first, turn = 0; j0 < end; j0 += STEP, turn ^= 1) {
        copies_done();
        if (j0 + STEP < end) {
            load_tile<D>(ks + (turn ^ 1) * TILE, k + (size_t)(j0 + STEP) * a.ldkv, a.ldkv, STEP, n - j0 - STEP);
            load_tile<D>(vs + (turn ^ 1) * TILE, v + (size_t)(j0 + STEP) * a.ldkv, a.ldkv, STEP, n - j0 - STEP);
        }
        float p[STEP / 8][4], g[STEP / 8][4];
        product_regs<D, STEP / 8>(p, qf, ks + turn * TILE);
        product_regs<D, STEP / 8>(g, gf, vs + turn * TILE);
        for (int t = 0; t < STEP / 8; t++)
            for (int i = 0; i < 4; i++) {
                int qi = q0 + r0 + lane / 4 + i / 2 * 8, kj = j0 + t * 8 + lane % 4 * 2 + i % 2;
                float w = seen(a, qi, kj, n) ? exp2_fast(p[t][i] * scale - lse[i / 2]) : 0.0f;
                g[t][i] = w * (g[t][i] - dd[i / 2]) * a.scale;
            }
        accumulate<D, STEP / 8>(dq, g, ks + turn * TILE);
    }
    store_rows<D>(x.dq + (base + (size_t)q0) * a.ldq + (size_t)h * D, a.ldq, r0, n - q0, dq, 1.0f, 1.0f);
}

/* A block: 64 keys of one key/value head; all query heads of its group in turn. */
template <int D> __global__ static void __launch_bounds__(THREADS) k_attn_dkv(struct attn_args x) {
    DYNAMIC_SHARED(shared);
    const int TILE = STEP * (D + PAD);
    uint16_t *ks = (uint16_t *)shared, *vs = ks + ROWS * (D + PAD), *qs = vs + ROWS * (D + PAD), *gs = qs + 2 * TILE; /* two of the last two */
    float *ls = (float *)(gs + 2 * TILE), *ds = ls + 2 * STEP;
    const struct fast_attn &a = x.a;
    uint32_t tiles = (a.longest + ROWS - 1) / ROWS;
    int j0 = (int)(blockIdx.x % tiles) * ROWS; /* the first keys are seen by most */
    uint32_t kv = blockIdx.x / tiles % a.g, s = blockIdx.x / tiles / a.g, base = a.seg[s], group = a.h / a.g;
    int n = (int)(a.seg[s + 1] - base), lane = (int)threadIdx.x % 32, r0 = (int)threadIdx.x / 32 * 16;
    if (j0 >= n)
        return;
    load_tile<D>(ks, x.k + (base + (size_t)j0) * a.ldkv + (size_t)kv * D, a.ldkv, ROWS, n - j0);
    load_tile<D>(vs, x.v + (base + (size_t)j0) * a.ldkv + (size_t)kv * D, a.ldkv, ROWS, n - j0);
    float dk[D / 8][4], dv[D / 8][4], scale = a.scale * LOG2E;
    for (int d = 0; d < D / 8; d++)
        for (int i = 0; i < 4; i++)
            dk[d][i] = dv[d][i] = 0.0f;
    int end = a.window && j0 + ROWS - 1 + (int)a.window < n ? j0 + ROWS - 1 + (int)a.window : n;
    int i_first = j0 / STEP * STEP, per = (end - i_first + STEP - 1) / STEP, turns = per * (int)group;
    for (int next = 0; next <= turns; next++) { /* brings turn `next`, computes the one before */
        if (next)
            copies_done();
        if (next < turns) {
            uint32_t h = kv * group + (uint32_t)(next / per);
            int i0 = i_first + next % per * STEP, buf = next % 2;
            load_tile<D>(qs + buf * TILE, x.q + (base + (size_t)i0) * a.ldq + (size_t)h * D, a.ldq, STEP, n - i0);
            load_tile<D>(gs + buf * TILE, x.d_o + (base + (size_t)i0) * a.ldo + (size_t)h * D, a.ldo, STEP, n - i0);
            if (threadIdx.x < STEP) {
                int i = i0 + (int)threadIdx.x;
                ls[buf * STEP + threadIdx.x] = i < n ? x.lse[(base + (size_t)i) * a.h + h] : 0.0f;
                ds[buf * STEP + threadIdx.x] = i < n ? x.dd[(base + (size_t)i) * a.h + h] : 0.0f;
            }
        }
        if (!next)
            continue;
        int i0 = i_first + (next - 1) % per * STEP, buf = (next - 1) % 2;
        float p[STEP / 8][4], g[STEP / 8][4]; /* rows are keys, columns queries */
        product_tiles<D, STEP / 8>(p, ks, r0, qs + buf * TILE);
        product_tiles<D, STEP / 8>(g, vs, r0, gs + buf * TILE);
        for (int t = 0; t < STEP / 8; t++)
            for (int i = 0; i < 4; i++) {
                int kj = j0 + r0 + lane / 4 + i / 2 * 8, c = t * 8 + lane % 4 * 2 + i % 2;
                p[t][i] = kj < n && seen(a, i0 + c, kj, n) ? exp2_fast(p[t][i] * scale - ls[buf * STEP + c]) : 0.0f;
                g[t][i] = p[t][i] * (g[t][i] - ds[buf * STEP + c]) * a.scale;
            }
        accumulate<D, STEP / 8>(dv, p, gs + buf * TILE);
        accumulate<D, STEP / 8>(dk, g, qs + buf * TILE);
    }
    store_rows<D>(x.dk + (base + (size_t)j0) * a.ldkv + (size_t)kv * D, a.ldkv, r0, n - j0, dk, 1.0f, 1.0f);
    store_rows<D>(x.dv + (base + (size_t)j0) * a.ldkv + (size_t)kv * D, a.ldkv, r0, n - j0, dv, 1.0f, 1.0f);
}
/* Bytes of shared memory of the three kernels. */
template <int D> static size_t attn_shared() {
    return 4 * ROWS * (D + PAD) * sizeof(uint16_t);
}
template <int D> static size_t dq_shared() {
    return 4 * STEP * (D + PAD) * sizeof(uint16_t);
}
template <int D> static size_t dkv_shared() {
    return (2 * ROWS + 4 * STEP) * (D + PAD) * sizeof(uint16_t) + 4 * STEP * sizeof(float);
}

/* ---------------------------------------------------------------- decode: the paged cache */

#define SPLIT 256 /* positions a block; fixed, so that a sequence's numbers do not depend on what shares the batch */

__global__ static void k_kv_put(const uint16_t *k, const uint16_t *v, size_t ld, struct fast_kv kv) {
    uint32_t per = kv.g * kv.d;
    for (size_t e = (size_t)blockIdx.x * blockDim.x + threadIdx.x; e < (size_t)kv.n * per; e += (size_t)gridDim.x * blockDim.x) {
        uint32_t i = (uint32_t)(e / per), h = (uint32_t)(e % per) / kv.d, c = (uint32_t)(e % kv.d), pos = kv.len[i] - 1;
        size_t page = (size_t)kv.table[(size_t)i * kv.table_ld + pos / GPU_KV_PAGE];
        size_t at = ((page * kv.g + h) * GPU_KV_PAGE + pos % GPU_KV_PAGE) * kv.d + c;
        kv.k_pages[at] = k[i * ld + h * kv.d + c];
        kv.v_pages[at] = v[i * ld + h * kv.d + c];
    }
}

/* A block of 4 warps: one sequence, key/value head and piece of SPLIT positions, all query heads of the group (at most 8 at a time
 * in registers). A warp takes every fourth position; 16 lanes hold a key, so two positions a turn. part: o (D), m, l. */
template <int D> __global__ static void __launch_bounds__(THREADS) k_attn_kv(float *part, const uint16_t *q, size_t ldq, struct fast_kv kv, uint32_t splits) {
    const int EACH = D / 16; /* elements of a key a lane holds */
    __shared__ float so[4][2][D], sm[4][2], sl[4][2];
    uint32_t split = blockIdx.x % splits, h = blockIdx.x / splits % kv.h, i = blockIdx.x / splits / kv.h, len = kv.len[i], kvh = h / (kv.h / kv.g);
    uint32_t first = kv.window && len > kv.window ? len - kv.window : 0, from = split * SPLIT, to = from + SPLIT < len ? from + SPLIT : len;
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, half = lane / 16, c0 = lane % 16 * EACH;
    from = from > first ? from : first;
    float qv[EACH], o[EACH], m = -INFINITY, l = 0.0f;
    for (int c = 0; c < EACH; c++) {
        qv[c] = from16(q[i * ldq + (size_t)h * D + c0 + c]) * kv.scale * LOG2E;
        o[c] = 0.0f;
    }
    for (uint32_t j = from + warp * 2 + half;; j += 8) {
        bool in = j < to;
        if (!__any_sync(FULL, in))
            break;
        float sum = 0.0f, vv[EACH];
        if (in) {
            size_t page = (size_t)kv.table[(size_t)i * kv.table_ld + j / GPU_KV_PAGE], at = ((page * kv.g + kvh) * GPU_KV_PAGE + j % GPU_KV_PAGE) * D + c0;
            for (int c = 0; c < EACH; c += 2) {
                uint32_t kk = *(const uint32_t *)(kv.k_pages + at + c), vw = *(const uint32_t *)(kv.v_pages + at + c);
                sum += qv[c] * lo(kk) + qv[c + 1] * hi(kk);
                vv[c] = lo(vw);
                vv[c + 1] = hi(vw);
            }
        }
        for (int s = 8; s; s >>= 1)
            sum += __shfl_xor_sync(FULL, sum, s);
        if (!in)
            continue;
        float top = fmaxf(m, sum), keep = exp2_fast(m - top), p = exp2_fast(sum - top);
        m = top;
        l = l * keep + p;
        for (int c = 0; c < EACH; c++)
            o[c] = o[c] * keep + p * vv[c];
    }
    for (int c = 0; c < EACH; c++)
        so[warp][half][c0 + c] = o[c];
    if (lane % 16 == 0) {
        sm[warp][half] = m;
        sl[warp][half] = l;
    }
    __syncthreads();
    float top = -INFINITY, sum = 0.0f;
    for (int w = 0; w < 8; w++)
        top = fmaxf(top, sm[w / 2][w % 2]);
    float *out = part + ((size_t)(i * kv.h + h) * splits + split) * (D + 2);
    for (uint32_t c = threadIdx.x; c < D; c += THREADS) {
        float v = 0.0f;
        for (int w = 0; w < 8 && top > -INFINITY; w++)
            v += so[w / 2][w % 2][c] * exp2_fast(sm[w / 2][w % 2] - top);
        out[c] = v;
    }
    for (int w = 0; w < 8 && top > -INFINITY; w++)
        sum += sl[w / 2][w % 2] * exp2_fast(sm[w / 2][w % 2] - top);
    if (!threadIdx.x) {
        out[D] = top;
        out[D + 1] = sum;
    }
}
__global__ static void k_attn_join(uint16_t *o, size_t ldo, const float *part, uint32_t h, uint32_t d, uint32_t n, uint32_t splits) {
    for (size_t e = (size_t)blockIdx.x * blockDim.x + threadIdx.x; e < (size_t)n * h * d; e += (size_t)gridDim.x * blockDim.x) {
        const float *p = part + e / d * splits * (d + 2);
        float top = -INFINITY, sum = 0.0f, v = 0.0f;
        for (uint32_t s = 0; s < splits; s++)
            top = fmaxf(top, p[s * (d + 2) + d]);
        for (uint32_t s = 0; s < splits; s++) {
            float m = p[s * (d + 2) + d];
            if (m == -INFINITY)
                continue;
            float f = exp2_fast(m - top);
            sum += p[s * (d + 2) + d + 1] * f;
            v += p[s * (d + 2) + e % d] * f;
        }
        o[e / (h * d) * ldo + e % (h * d)] = to16(v / sum);
    }
}

/* ---------------------------------------------------------------- weights of decode */

#define NF4_TABLE                                                                                                                  \
    {-1.0f, -0.6961928f, -0.52507305f, -0.39491749f, -0.28444138f, -0.18477343f, -0.09105004f, 0.0f, 0.0795803f, 0.1609302f,        \
     0.2461123f, 0.33791524f, 0.44070983f, 0.562617f, 0.72295684f, 1.0f} /* Dettmers et al., QLoRA (2023), appendix E */
__device__ static const float nf4_levels[16] = NF4_TABLE;

__device__ static __forceinline__ float f8_value(uint32_t v) { /* e4m3: the exponent's bias is 7; 2^120 makes up for fp32's 127 */
    return arith_float((v & 0x7f) << 20 | (v & 0x80) << 24) * 0x1p120f;
}
template <enum fast_type TYPE> struct unit; /* elements a lane takes at once: 16 bytes of weight */
template <> struct unit<FAST_BF16> { enum { N = 8 }; };
template <> struct unit<FAST_F8> { enum { N = 16 }; };
template <> struct unit<FAST_Q8> { enum { N = 16 }; };
template <> struct unit<FAST_Q4> { enum { N = 32 }; };
template <> struct unit<FAST_NF4> { enum { N = 32 }; };

/* Elements u * N .. + N - 1 of a row. */
template <enum fast_type TYPE> __device__ static __forceinline__ void unpack(float *out, const struct fast_weight &w, size_t row, uint32_t u) {
    const uint32_t N = unit<TYPE>::N;
    uint4 v = *(const uint4 *)((const uint8_t *)w.w + (TYPE == FAST_BF16 ? row * w.k * 2 : TYPE == FAST_F8 || TYPE == FAST_Q8 ? row * w.k : row * w.k / 2) + (size_t)u * 16);
    const uint32_t b[4] = {v.x, v.y, v.z, v.w};
    if (TYPE == FAST_BF16)
        for (int i = 0; i < 4; i++) {
            out[2 * i] = lo(b[i]);
            out[2 * i + 1] = hi(b[i]);
        }
    if (TYPE == FAST_F8)
        for (int i = 0; i < 16; i++)
            out[i] = f8_value(b[i / 4] >> 8 * (i % 4));
    if (TYPE == FAST_Q8) {
        float d = arith_half(((const uint16_t *)w.scale)[row * (w.k / 32) + u / 2]);
        for (int i = 0; i < 16; i++)
            out[i] = d * (float)(int8_t)(b[i / 4] >> 8 * (i % 4));
    }
    if (TYPE == FAST_Q4) {
        uint32_t s = ((const uint32_t *)w.scale)[row * (w.k / 32) + u];
        float d = arith_half((uint16_t)s), m = arith_half((uint16_t)(s >> 16));
        for (int i = 0; i < 32; i++)
            out[i] = d * (float)(b[i % 16 / 4] >> (8 * (i % 4) + i / 16 * 4) & 15) + m;
    }
    if (TYPE == FAST_NF4) {
        float d = arith_half(((const uint16_t *)w.scale)[row * (w.k / 64) + u / 2]);
        for (int i = 0; i < 32; i++)
            out[i] = d * nf4_levels[b[i % 16 / 4] >> (8 * (i % 4) + i / 16 * 4) & 15];
    }
    (void)N;
}

/* A warp two rows of the weight and T tokens. */
template <enum fast_type TYPE, int T>
__global__ static void __launch_bounds__(256) k_gemv(void *y, bool y_f32, size_t ldy, const uint16_t *x, size_t ldx, uint32_t t, struct fast_weight w, bool add) {
    const int N = unit<TYPE>::N;
    uint32_t lane = threadIdx.x % 32;
    size_t row = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) / 32 * 2;
    if (row >= w.n)
        return;
    bool two = row + 1 < w.n;
    float acc[2][T], scale[2] = {1.0f, 1.0f};
#pragma unroll
    for (int i = 0; i < T; i++)
        acc[0][i] = acc[1][i] = 0.0f;
    for (uint32_t u = lane; u < w.k / N; u += 32) {
        float a[2][N];
        unpack<TYPE>(a[0], w, row, u);
        unpack<TYPE>(a[1], w, two ? row + 1 : row, u);
#pragma unroll
        for (int i = 0; i < T; i++) {
            if (i >= (int)t)
                continue;
#pragma unroll
            for (int c = 0; c < N; c += 8) {
                uint4 v = *(const uint4 *)(x + (size_t)i * ldx + (size_t)u * N + c);
                const uint32_t b[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
                for (int e = 0; e < 4; e++)
                    for (int r = 0; r < 2; r++)
                        acc[r][i] += a[r][c + 2 * e] * lo(b[e]) + a[r][c + 2 * e + 1] * hi(b[e]);
            }
        }
    }
    if (TYPE == FAST_F8)
        for (int r = 0; r < 2; r++)
            scale[r] = ((const float *)w.scale)[two ? row + r : row];
#pragma unroll
    for (int i = 0; i < T; i++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float v = sum_warp(acc[r][i]) * scale[r];
            if (lane || i >= (int)t || (r && !two))
                continue;
            size_t at = (size_t)i * ldy + row + r;
            if (y_f32)
                ((float *)y)[at] = add ? ((float *)y)[at] + v : v;
            else
                ((uint16_t *)y)[at] = to16(add ? from16(((uint16_t *)y)[at]) + v : v);
        }
}

template <enum fast_type TYPE> __global__ static void k_unpack(uint16_t *out, struct fast_weight w) {
    const int N = unit<TYPE>::N;
    size_t per = w.k / N;
    for (size_t e = (size_t)blockIdx.x * blockDim.x + threadIdx.x; e < w.n * per; e += (size_t)gridDim.x * blockDim.x) {
        float a[N];
        unpack<TYPE>(a, w, e / per, (uint32_t)(e % per));
        float f = TYPE == FAST_F8 ? ((const float *)w.scale)[e / per] : 1.0f;
        for (int c = 0; c < N; c += 8) {
            uint4 v = {pack2(a[c] * f, a[c + 1] * f), pack2(a[c + 2] * f, a[c + 3] * f), pack2(a[c + 4] * f, a[c + 5] * f), pack2(a[c + 6] * f, a[c + 7] * f)};
            *(uint4 *)(out + e / per * w.k + e % per * N + c) = v;
        }
    }
}

/* ---------------------------------------------------------------- rows */

__global__ static void k_embed(uint16_t *y, const uint16_t *table, const uint32_t *ids, uint32_t t, uint32_t c) {
    for (size_t e = (size_t)blockIdx.x * blockDim.x + threadIdx.x; e < (size_t)t * (c / 8); e += (size_t)gridDim.x * blockDim.x)
        ((uint4 *)y)[e] = ((const uint4 *)table)[(size_t)ids[e / (c / 8)] * (c / 8) + e % (c / 8)];
}

/* A block a row. */
__global__ static void k_norm(uint16_t *y, float *rstd, uint16_t *x, const uint16_t *r, const uint16_t *w, uint32_t c, float eps) {
    __shared__ float part[32];
    size_t at = (size_t)blockIdx.x * c;
    float sum = 0.0f;
    for (uint32_t i = threadIdx.x * 2; i < c; i += blockDim.x * 2) {
        uint32_t v = *(const uint32_t *)(x + at + i);
        if (r) {
            uint32_t u = *(const uint32_t *)(r + at + i);
            v = pack2(lo(v) + lo(u), hi(v) + hi(u));
            *(uint32_t *)(x + at + i) = v;
        }
        sum += lo(v) * lo(v) + hi(v) * hi(v);
    }
    float f = rsqrtf(reduce_block(sum, false, part) / (float)c + eps);
    for (uint32_t i = threadIdx.x * 2; i < c; i += blockDim.x * 2) { /* the same thread wrote what it reads */
        uint32_t v = *(const uint32_t *)(x + at + i), g = *(const uint32_t *)(w + i);
        *(uint32_t *)(y + at + i) = pack2(lo(v) * f * lo(g), hi(v) * f * hi(g));
    }
    if (rstd && !threadIdx.x)
        rstd[blockIdx.x] = f;
}
__global__ static void k_norm_dx(uint16_t *dx, const uint16_t *dy, const uint16_t *x, const float *rstd, const uint16_t *w, uint32_t c, bool add) {
    __shared__ float part[32];
    size_t at = (size_t)blockIdx.x * c;
    float sum = 0.0f, f = rstd[blockIdx.x];
    for (uint32_t i = threadIdx.x * 2; i < c; i += blockDim.x * 2) {
        uint32_t v = *(const uint32_t *)(x + at + i), g = *(const uint32_t *)(w + i), d = *(const uint32_t *)(dy + at + i);
        sum += lo(d) * lo(g) * lo(v) + hi(d) * hi(g) * hi(v);
    }
    float u = reduce_block(sum, false, part) * f * f * f / (float)c;
    for (uint32_t i = threadIdx.x * 2; i < c; i += blockDim.x * 2) {
        uint32_t v = *(const uint32_t *)(x + at + i), g = *(const uint32_t *)(w + i), d = *(const uint32_t *)(dy + at + i);
        float a = lo(d) * lo(g) * f - u * lo(v), b = hi(d) * hi(g) * f - u * hi(v);
        uint32_t *p = (uint32_t *)(dx + at + i);
        *p = add ? pack2(lo(*p) + a, hi(*p) + b) : pack2(a, b);
    }
}

__global__ static void k_rope(uint16_t *x, size_t ldx, uint32_t t, uint32_t heads, uint32_t half, const float *ct, const float *st, const uint32_t *pos,
                              bool norm, bool inverse) {
    for (size_t e = (size_t)blockIdx.x * blockDim.x + threadIdx.x; e < (size_t)t * heads * half; e += (size_t)gridDim.x * blockDim.x) {
        size_t row = e / ((size_t)heads * half);
        uint32_t h = (uint32_t)(e / half % heads), j = (uint32_t)(e % half);
        uint16_t *a = x + row * ldx + (size_t)h * 2 * half + (norm ? 2 * j : j), *b = norm ? a + 1 : a + half;
        float c = ct[(size_t)pos[row] * half + j], s = st[(size_t)pos[row] * half + j], u = from16(*a), v = from16(*b);
        s = inverse ? -s : s;
        *a = to16(u * c - v * s);
        *b = to16(u * s + v * c);
    }
}

__device__ static __forceinline__ float sigmoid_fast(float g) {
    return 1.0f / (1.0f + exp2_fast(-g * LOG2E));
}
__global__ static void k_swiglu(uint16_t *y, const uint16_t *gu, uint32_t t, uint32_t f) {
    for (size_t e = (size_t)blockIdx.x * blockDim.x + threadIdx.x; e < (size_t)t * (f / 2); e += (size_t)gridDim.x * blockDim.x) {
        size_t row = e / (f / 2), c = e % (f / 2) * 2;
        uint32_t g = *(const uint32_t *)(gu + row * 2 * f + c), u = *(const uint32_t *)(gu + row * 2 * f + f + c);
        *(uint32_t *)(y + row * f + c) = pack2(lo(g) * sigmoid_fast(lo(g)) * lo(u), hi(g) * sigmoid_fast(hi(g)) * hi(u));
    }
}
__global__ static void k_swiglu_dx(uint16_t *dgu, const uint16_t *dy, const uint16_t *gu, uint32_t t, uint32_t f) {
    for (size_t e = (size_t)blockIdx.x * blockDim.x + threadIdx.x; e < (size_t)t * (f / 2); e += (size_t)gridDim.x * blockDim.x) {
        size_t row = e / (f / 2), c = e % (f / 2) * 2;
        uint32_t g = *(const uint32_t *)(gu + row * 2 * f + c), u = *(const uint32_t *)(gu + row * 2 * f + f + c), d = *(const uint32_t *)(dy + row * f + c);
        float s0 = sigmoid_fast(lo(g)), s1 = sigmoid_fast(hi(g));
        *(uint32_t *)(dgu + row * 2 * f + c) =
            pack2(lo(d) * lo(u) * s0 * (1.0f + lo(g) * (1.0f - s0)), hi(d) * hi(u) * s1 * (1.0f + hi(g) * (1.0f - s1)));
        *(uint32_t *)(dgu + row * 2 * f + f + c) = pack2(lo(d) * lo(g) * s0, hi(d) * hi(g) * s1);
    }
}

/* A block a row; maximum and sum in one reading. */
__global__ static void k_xent(float *nll, uint16_t *logits, size_t ld, uint32_t v, const uint32_t *target, float scale, bool grad) {
    __shared__ float part[32];
    uint16_t *x = logits + (size_t)blockIdx.x * ld;
    uint32_t want = target[blockIdx.x];
    if (want >= v) { /* not trained */
        if (!threadIdx.x)
            nll[blockIdx.x] = 0.0f;
        for (uint32_t i = threadIdx.x * 2; grad && i < v; i += blockDim.x * 2)
            *(uint32_t *)(x + i) = 0;
        return;
    }
    float m = -INFINITY, s = 0.0f;
    for (uint32_t i = threadIdx.x * 2; i < v; i += blockDim.x * 2) {
        uint32_t u = *(const uint32_t *)(x + i);
        float a = lo(u) * LOG2E, b = hi(u) * LOG2E, top = fmaxf(m, fmaxf(a, b));
        s = s * exp2_fast(m - top) + exp2_fast(a - top) + exp2_fast(b - top);
        m = top;
    }
    float top = reduce_block(m, true, part), hit = from16(x[want]) * LOG2E;
    float sum = reduce_block(m == -INFINITY ? 0.0f : s * exp2_fast(m - top), false, part); /* its barriers: hit is read before it is written */
    if (!threadIdx.x)
        nll[blockIdx.x] = (log2f(sum) - (hit - top)) / LOG2E;
    float inv = scale / sum;
    for (uint32_t i = threadIdx.x * 2; grad && i < v; i += blockDim.x * 2) {
        uint32_t u = *(const uint32_t *)(x + i);
        float a = exp2_fast(lo(u) * LOG2E - top) * inv, b = exp2_fast(hi(u) * LOG2E - top) * inv;
        *(uint32_t *)(x + i) = pack2(i == want ? a - scale : a, i + 1 == want ? b - scale : b);
    }
}

#define LORA_RANK_MAX 64
/* Shrink: a block a token and slice, a warp a few ranks. h: [t][slices][64] fp32. */
__global__ static void k_lora_h(float *h, const uint16_t *x, size_t ldx, struct fast_lora l) {
    uint32_t t = blockIdx.x / l.slices, s = blockIdx.x % l.slices, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (l.map[t] < 0)
        return;
    const struct fast_adapter &ad = l.list[l.map[t]];
    for (uint32_t r = warp; r < ad.r; r += blockDim.x / 32) {
        float sum = 0.0f;
        for (uint32_t k = lane * 8; k < l.k; k += 256) {
            uint4 p = *(const uint4 *)(x + t * ldx + k), q = *(const uint4 *)(ad.a[s] + (size_t)r * l.k + k);
            sum += lo(p.x) * lo(q.x) + hi(p.x) * hi(q.x) + lo(p.y) * lo(q.y) + hi(p.y) * hi(q.y) + lo(p.z) * lo(q.z) + hi(p.z) * hi(q.z) +
                   lo(p.w) * lo(q.w) + hi(p.w) * hi(q.w);
        }
        sum = sum_warp(sum);
        if (!lane)
            h[((size_t)t * l.slices + s) * LORA_RANK_MAX + r] = sum * ad.scale;
    }
}
/* Expand: a thread an output. */
__global__ static void k_lora_y(uint16_t *y, size_t ldy, const float *h, struct fast_lora l, uint32_t t, uint32_t widest) {
    for (size_t e = (size_t)blockIdx.x * blockDim.x + threadIdx.x; e < (size_t)t * l.slices * widest; e += (size_t)gridDim.x * blockDim.x) {
        uint32_t row = (uint32_t)(e / widest / l.slices), s = (uint32_t)(e / widest % l.slices), n = (uint32_t)(e % widest);
        if (l.map[row] < 0 || n >= l.n[s])
            continue;
        const struct fast_adapter &ad = l.list[l.map[row]];
        const float *hr = h + ((size_t)row * l.slices + s) * LORA_RANK_MAX;
        float sum = 0.0f;
        for (uint32_t r = 0; r < ad.r; r += 8) {
            uint4 b = *(const uint4 *)(ad.b[s] + (size_t)n * ad.r + r);
            sum += lo(b.x) * hr[r] + hi(b.x) * hr[r + 1] + lo(b.y) * hr[r + 2] + hi(b.y) * hr[r + 3] + lo(b.z) * hr[r + 4] + hi(b.z) * hr[r + 5] +
                   lo(b.w) * hr[r + 6] + hi(b.w) * hr[r + 7];
        }
        uint16_t *p = y + row * ldy + l.y_at[s] + n;
        *p = to16(from16(*p) + sum);
    }
}

__global__ static void k_adamw(float *p, uint16_t *p16, float *m, float *v, const float *grad, size_t n, struct arith_adam a) {
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        arith_adamw(p + i, m + i, v + i, grad[i], &a);
        if (p16)
            p16[i] = to16(p[i]);
    }
}

/* ---------------------------------------------------------------- the host's side */

struct plan { /* of one shape of product */
    struct fast_gemm key; /* pointers NULL */
    lt_any desc, la, lb, lc;
    struct lt_algo algo;
    size_t workspace;
};
struct memory {
    struct memory *next;
    void *p;
};
struct fast {
    int device;
    cudaStream_t stream;
    cudaEvent_t from, to;
    struct lt_api lt;
    lt_any handle, pref;
    void *workspace, *scratch;
    size_t scratch_bytes;
    struct plan plans[PLANS_MAX];
    uint32_t n_plans, next_plan;
    struct memory *memory;
    bool capturing;
};

static enum loam_status cu(cudaError_t e, const char *what, struct err *err) {
    enum loam_status s = e == cudaErrorMemoryAllocation ? LOAM_ENOMEM : e == cudaErrorNoKernelImageForDevice ? LOAM_EUNSUPPORTED : LOAM_EIO;
    return err_set(err, s, "CUDA: %s (%s) in %.80s", cudaGetErrorString(e), cudaGetErrorName(e), what);
}
#define CU(call)                                                                                                                   \
    do {                                                                                                                           \
        cudaError_t e_ = (call);                                                                                                   \
        if (e_ != cudaSuccess)                                                                                                     \
            return cu(e_, #call, err);                                                                                             \
    } while (0)
#define TRY(call)                                                                                                                  \
    do {                                                                                                                           \
        enum loam_status s_ = (call);                                                                                              \
        if (s_)                                                                                                                    \
            return s_;                                                                                                             \
    } while (0)
#define RUN(kernel, grid, block, bytes, ...)                                                                                       \
    do {                                                                                                                           \
        LAUNCH_ON(f->stream, kernel, grid, block, bytes, __VA_ARGS__);                                                             \
        CU(cudaGetLastError());                                                                                                    \
    } while (0)

static unsigned blocks_for(size_t n, unsigned per) {
    size_t b = (n + per - 1) / per;
    return b > 65536 ? 65536 : b ? (unsigned)b : 1; /* kernels stride over the rest */
}

static enum loam_status scratch(struct fast *f, size_t bytes, struct err *err) {
    if (bytes <= f->scratch_bytes)
        return LOAM_OK;
    if (f->capturing)
        return err_set(err, LOAM_ESTATE, "run the operations once before recording them: scratch memory has to grow");
    CU(cudaStreamSynchronize(f->stream));
    if (f->scratch)
        CU(cudaFree(f->scratch));
    f->scratch = NULL;
    f->scratch_bytes = 0;
    CU(cudaMalloc(&f->scratch, bytes));
    f->scratch_bytes = bytes;
    return LOAM_OK;
}

static void plan_clear(struct fast *f, struct plan *p) {
    if (p->desc)
        f->lt.desc_destroy(p->desc);
    lt_any l[] = {p->la, p->lb, p->lc};
    for (lt_any x : l)
        if (x)
            f->lt.layout_destroy(x);
    memset(p, 0, sizeof *p);
}

static enum loam_status lt(int status, const char *what, struct err *err) {
    return status ? err_set(err, status == 3 ? LOAM_ENOMEM : LOAM_EIO, "cuBLASLt answers %d in %.60s", status, what) : LOAM_OK;
}

/* Row-major C = A B is column-major C^T = B^T A^T: cuBLASLt's first operand is our B. */
static enum loam_status plan_make(struct fast *f, struct plan *p, const struct fast_gemm *g, struct err *err) {
    int ta = g->b_t ? LT_OP_T : LT_OP_N, tb = g->a_t ? LT_OP_T : LT_OP_N, epilogue = LT_EPILOGUE_BIAS, bias_type = LT_R_16BF, found = 0;
    int ctype = g->c_f32 ? LT_R_32F : LT_R_16BF;
    struct lt_found best;
    memset(&best, 0, sizeof best);
    TRY(lt(f->lt.desc_create(&p->desc, LT_COMPUTE_32F, LT_R_32F), "MatmulDescCreate", err));
    TRY(lt(f->lt.desc_set(p->desc, LT_DESC_TRANSA, &ta, sizeof ta), "transa", err));
    TRY(lt(f->lt.desc_set(p->desc, LT_DESC_TRANSB, &tb, sizeof tb), "transb", err));
    if (g->bias) {
        TRY(lt(f->lt.desc_set(p->desc, LT_DESC_EPILOGUE, &epilogue, sizeof epilogue), "epilogue", err));
        TRY(lt(f->lt.desc_set(p->desc, LT_DESC_BIAS_TYPE, &bias_type, sizeof bias_type), "bias type", err));
        TRY(lt(f->lt.desc_set(p->desc, LT_DESC_BIAS_POINTER, &g->bias, sizeof g->bias), "bias", err));
    }
    TRY(lt(f->lt.layout_create(&p->la, LT_R_16BF, g->b_t ? g->k : g->n, g->b_t ? g->n : g->k, (int64_t)g->ldb), "layout", err));
    TRY(lt(f->lt.layout_create(&p->lb, LT_R_16BF, g->a_t ? g->m : g->k, g->a_t ? g->k : g->m, (int64_t)g->lda), "layout", err));
    TRY(lt(f->lt.layout_create(&p->lc, ctype, g->n, g->m, (int64_t)g->ldc), "layout", err));
    TRY(lt(f->lt.heuristic(f->handle, p->desc, p->la, p->lb, p->lc, p->lc, f->pref, 1, &best, &found), "AlgoGetHeuristic", err));
    if (!found)
        return err_set(err, LOAM_EUNSUPPORTED, "cuBLASLt has no kernel for a product of %u x %u x %u", g->m, g->n, g->k);
    p->algo = best.algo;
    p->workspace = best.workspace;
    p->key = *g;
    p->key.a = p->key.b = NULL;
    p->key.c = NULL;
    return LOAM_OK;
}

static bool same_shape(const struct fast_gemm *a, const struct fast_gemm *b) {
    return a->m == b->m && a->n == b->n && a->k == b->k && a->lda == b->lda && a->ldb == b->ldb && a->ldc == b->ldc && a->a_t == b->a_t &&
           a->b_t == b->b_t && a->c_f32 == b->c_f32 && !a->bias == !b->bias;
}

static enum loam_status f_gemm(struct fast *f, const struct fast_gemm *g, struct err *err) {
    if (!g->m || !g->n || !g->k || (g->n | g->k | g->m) > 0x7fffffffu)
        return err_set(err, LOAM_EINVAL, "a product of %u x %u x %u", g->m, g->n, g->k);
    struct plan *p = NULL;
    for (uint32_t i = 0; i < f->n_plans && !p; i++)
        if (same_shape(&f->plans[i].key, g))
            p = &f->plans[i];
    if (!p) {
        struct plan made;
        memset(&made, 0, sizeof made);
        enum loam_status s = plan_make(f, &made, g, err);
        if (s) {
            plan_clear(f, &made);
            return s;
        }
        p = &f->plans[f->next_plan++ % PLANS_MAX]; /* the oldest goes */
        f->n_plans = f->n_plans < PLANS_MAX ? f->n_plans + 1 : PLANS_MAX;
        plan_clear(f, p);
        *p = made;
    }
    if (g->bias)
        TRY(lt(f->lt.desc_set(p->desc, LT_DESC_BIAS_POINTER, &g->bias, sizeof g->bias), "bias", err));
    return lt(f->lt.matmul(f->handle, p->desc, &g->alpha, g->b, p->la, g->a, p->lb, &g->beta, g->c, p->lc, g->c, p->lc, &p->algo, f->workspace,
                           p->workspace, f->stream),
              "Matmul", err);
}

static enum loam_status attn_check(const struct fast_attn *a, struct err *err) {
    if (!a->g || !a->h || a->h % a->g || !a->n_seg || !a->longest || a->ldq % 8 || a->ldkv % 8 || a->ldo % 8)
        return err_set(err, LOAM_EINVAL, "attention of %u heads over %u, %u sequences", a->h, a->g, a->n_seg);
    if (a->d != 64 && a->d != 128)
        return err_set(err, LOAM_EUNSUPPORTED, "heads of %u elements; the fast mode has kernels for 64 and 128", a->d);
    return LOAM_OK;
}
static unsigned attn_blocks(const struct fast_attn *a, uint32_t heads) {
    return (a->longest + ROWS - 1) / ROWS * a->n_seg * heads;
}

static enum loam_status f_attn(struct fast *f, uint16_t *o, float *lse, const uint16_t *q, const uint16_t *k, const uint16_t *v,
                               const struct fast_attn *a, struct err *err) {
    TRY(attn_check(a, err));
    struct attn_args x = {*a, o, NULL, NULL, NULL, lse, NULL, q, k, v, NULL};
    if (a->d == 64)
        RUN(k_attn<64>, attn_blocks(a, a->h), THREADS, attn_shared<64>(), x);
    else
        RUN(k_attn<128>, attn_blocks(a, a->h), THREADS, attn_shared<128>(), x);
    return LOAM_OK;
}

static enum loam_status f_attn_dx(struct fast *f, uint16_t *dq, uint16_t *dk, uint16_t *dv, float *dd, const uint16_t *d_o, const uint16_t *o,
                                  const float *lse, const uint16_t *q, const uint16_t *k, const uint16_t *v, const struct fast_attn *a,
                                  struct err *err) {
    TRY(attn_check(a, err));
    struct attn_args x = {*a, (uint16_t *)o, dq, dk, dv, (float *)lse, dd, q, k, v, d_o};
    RUN(k_attn_d, (unsigned)(((size_t)a->t * a->h * 32 + 255) / 256), 256, 0, x);
    if (a->d == 64) {
        RUN(k_attn_dq<64>, attn_blocks(a, a->h), THREADS, dq_shared<64>(), x);
        RUN(k_attn_dkv<64>, attn_blocks(a, a->g), THREADS, dkv_shared<64>(), x);
    } else {
        RUN(k_attn_dq<128>, attn_blocks(a, a->h), THREADS, dq_shared<128>(), x);
        RUN(k_attn_dkv<128>, attn_blocks(a, a->g), THREADS, dkv_shared<128>(), x);
    }
    return LOAM_OK;
}

static enum loam_status kv_check(const struct fast_kv *kv, struct err *err) {
    if (!kv->g || kv->h % kv->g || !kv->n || !kv->longest)
        return err_set(err, LOAM_EINVAL, "a cache of %u heads over %u, %u sequences", kv->h, kv->g, kv->n);
    return kv->d == 32 || kv->d == 64 || kv->d == 128
               ? LOAM_OK
               : err_set(err, LOAM_EUNSUPPORTED, "heads of %u elements; the fast mode's cache has kernels for 32, 64 and 128", kv->d);
}
static enum loam_status f_kv_put(struct fast *f, const uint16_t *k, const uint16_t *v, size_t ldkv, const struct fast_kv *kv, struct err *err) {
    TRY(kv_check(kv, err));
    RUN(k_kv_put, blocks_for((size_t)kv->n * kv->g * kv->d, 256), 256, 0, k, v, ldkv, *kv);
    return LOAM_OK;
}
static enum loam_status f_attn_kv(struct fast *f, uint16_t *o, size_t ldo, const uint16_t *q, size_t ldq, const struct fast_kv *kv, struct err *err) {
    TRY(kv_check(kv, err));
    uint32_t splits = (kv->longest + SPLIT - 1) / SPLIT;
    TRY(scratch(f, (size_t)kv->n * kv->h * splits * (kv->d + 2) * sizeof(float), err));
    if (kv->d == 32)
        RUN(k_attn_kv<32>, kv->n * kv->h * splits, THREADS, 0, (float *)f->scratch, q, ldq, *kv, splits);
    else if (kv->d == 64)
        RUN(k_attn_kv<64>, kv->n * kv->h * splits, THREADS, 0, (float *)f->scratch, q, ldq, *kv, splits);
    else
        RUN(k_attn_kv<128>, kv->n * kv->h * splits, THREADS, 0, (float *)f->scratch, q, ldq, *kv, splits);
    RUN(k_attn_join, blocks_for((size_t)kv->n * kv->h * kv->d, 256), 256, 0, o, ldo, (const float *)f->scratch, kv->h, kv->d, kv->n, splits);
    return LOAM_OK;
}

template <enum fast_type TYPE>
static enum loam_status gemv(struct fast *f, void *y, bool y_f32, size_t ldy, const uint16_t *x, size_t ldx, uint32_t t, const struct fast_weight *w,
                             bool add, struct err *err) {
    unsigned grid = (w->n + 15) / 16;
    if (t == 1)
        RUN((k_gemv<TYPE, 1>), grid, 256, 0, y, y_f32, ldy, x, ldx, t, *w, add);
    else
        RUN((k_gemv<TYPE, 8>), grid, 256, 0, y, y_f32, ldy, x, ldx, t, *w, add);
    return LOAM_OK;
}
static enum loam_status f_gemv(struct fast *f, void *y, bool y_f32, size_t ldy, const uint16_t *x, size_t ldx, uint32_t t, const struct fast_weight *w,
                               bool add, struct err *err) {
    if (!t || t > 8 || !w->n || !w->k || w->k % 64 || ldx % 8)
        return err_set(err, LOAM_EINVAL, "%u tokens by a weight of %u x %u", t, w->n, w->k);
    switch (w->type) {
    case FAST_BF16: return gemv<FAST_BF16>(f, y, y_f32, ldy, x, ldx, t, w, add, err);
    case FAST_F8: return gemv<FAST_F8>(f, y, y_f32, ldy, x, ldx, t, w, add, err);
    case FAST_Q8: return gemv<FAST_Q8>(f, y, y_f32, ldy, x, ldx, t, w, add, err);
    case FAST_Q4: return gemv<FAST_Q4>(f, y, y_f32, ldy, x, ldx, t, w, add, err);
    case FAST_NF4: return gemv<FAST_NF4>(f, y, y_f32, ldy, x, ldx, t, w, add, err);
    }
    return err_set(err, LOAM_EINVAL, "weight type %d", (int)w->type);
}
static enum loam_status f_dequant(struct fast *f, uint16_t *out, const struct fast_weight *w, struct err *err) {
    if (!w->n || !w->k || w->k % 64)
        return err_set(err, LOAM_EINVAL, "a weight of %u x %u", w->n, w->k);
    unsigned grid = blocks_for((size_t)w->n * w->k / 32, 256);
    switch (w->type) {
    case FAST_BF16: RUN(k_unpack<FAST_BF16>, grid, 256, 0, out, *w); break;
    case FAST_F8: RUN(k_unpack<FAST_F8>, grid, 256, 0, out, *w); break;
    case FAST_Q8: RUN(k_unpack<FAST_Q8>, grid, 256, 0, out, *w); break;
    case FAST_Q4: RUN(k_unpack<FAST_Q4>, grid, 256, 0, out, *w); break;
    case FAST_NF4: RUN(k_unpack<FAST_NF4>, grid, 256, 0, out, *w); break;
    default: return err_set(err, LOAM_EINVAL, "weight type %d", (int)w->type);
    }
    return LOAM_OK;
}

#define WIDTH(c)                                                                                                                   \
    if ((c) % 8 || !(c))                                                                                                           \
    return err_set(err, LOAM_EINVAL, "a width of %u; a multiple of 8", (unsigned)(c))

static enum loam_status f_embed(struct fast *f, uint16_t *y, const uint16_t *table, const uint32_t *ids, uint32_t t, uint32_t c, struct err *err) {
    WIDTH(c);
    RUN(k_embed, blocks_for((size_t)t * c / 8, 256), 256, 0, y, table, ids, t, c);
    return LOAM_OK;
}
static enum loam_status f_norm(struct fast *f, uint16_t *y, float *rstd, uint16_t *x, const uint16_t *r, const uint16_t *w, uint32_t rows, uint32_t c,
                               float eps, struct err *err) {
    WIDTH(c);
    if (rows)
        RUN(k_norm, rows, 256, 0, y, rstd, x, r, w, c, eps);
    return LOAM_OK;
}
static enum loam_status f_norm_dx(struct fast *f, uint16_t *dx, const uint16_t *dy, const uint16_t *x, const float *rstd, const uint16_t *w, uint32_t rows,
                                  uint32_t c, bool add, struct err *err) {
    WIDTH(c);
    if (rows)
        RUN(k_norm_dx, rows, 256, 0, dx, dy, x, rstd, w, c, add);
    return LOAM_OK;
}
static enum loam_status f_rope(struct fast *f, uint16_t *x, size_t ldx, uint32_t t, uint32_t heads, uint32_t d, const float *ct, const float *st,
                               const uint32_t *pos, enum gpu_rope_style style, bool inverse, struct err *err) {
    WIDTH(d);
    RUN(k_rope, blocks_for((size_t)t * heads * d / 2, 256), 256, 0, x, ldx, t, heads, d / 2, ct, st, pos, style == GPU_ROPE_NORM, inverse);
    return LOAM_OK;
}
static enum loam_status f_swiglu(struct fast *f, uint16_t *y, const uint16_t *gu, uint32_t t, uint32_t ffn, struct err *err) {
    WIDTH(ffn);
    RUN(k_swiglu, blocks_for((size_t)t * ffn / 2, 256), 256, 0, y, gu, t, ffn);
    return LOAM_OK;
}
static enum loam_status f_swiglu_dx(struct fast *f, uint16_t *dgu, const uint16_t *dy, const uint16_t *gu, uint32_t t, uint32_t ffn, struct err *err) {
    WIDTH(ffn);
    RUN(k_swiglu_dx, blocks_for((size_t)t * ffn / 2, 256), 256, 0, dgu, dy, gu, t, ffn);
    return LOAM_OK;
}
static enum loam_status f_xent(struct fast *f, float *nll, uint16_t *logits, size_t ld, uint32_t rows, uint32_t v, const uint32_t *target, float scale,
                               bool grad, struct err *err) {
    WIDTH(v);
    if (rows)
        RUN(k_xent, rows, 512, 0, nll, logits, ld, v, target, scale, grad);
    return LOAM_OK;
}
static enum loam_status f_lora(struct fast *f, uint16_t *y, size_t ldy, const uint16_t *x, size_t ldx, uint32_t t, const struct fast_lora *l,
                               struct err *err) {
    uint32_t widest = 0;
    WIDTH(l->k);
    if (!t || !l->slices || l->slices > FAST_SLICES)
        return err_set(err, LOAM_EINVAL, "%u slices of an adapter, %u tokens", l->slices, t);
    for (uint32_t i = 0; i < l->slices; i++)
        widest = l->n[i] > widest ? l->n[i] : widest;
    TRY(scratch(f, (size_t)t * l->slices * LORA_RANK_MAX * sizeof(float), err));
    RUN(k_lora_h, t * l->slices, 256, 0, (float *)f->scratch, x, ldx, *l);
    RUN(k_lora_y, blocks_for((size_t)t * l->slices * widest, 256), 256, 0, y, ldy, (const float *)f->scratch, *l, t, widest);
    return LOAM_OK;
}
static enum loam_status f_adamw(struct fast *f, float *p, uint16_t *p16, float *m, float *v, const float *grad, size_t n, const struct gpu_adamw *how,
                                struct err *err) {
    struct arith_adam a = {how->lr, how->beta1, how->beta2, how->eps, how->decay, how->correct1, how->correct2, how->g_scale};
    RUN(k_adamw, blocks_for(n, 256), 256, 0, p, p16, m, v, grad, n, a);
    return LOAM_OK;
}

/* ---- memory, time, graphs ---- */

static void *f_alloc(struct fast *f, size_t bytes) {
    struct memory *m = (struct memory *)mem_zalloc(sizeof *m);
    if (!m || cudaMalloc(&m->p, bytes ? bytes : 1) != cudaSuccess) {
        (void)cudaGetLastError();
        mem_free(m);
        return NULL;
    }
    m->next = f->memory;
    f->memory = m;
    return m->p;
}
static void f_free(struct fast *f, void *p) {
    for (struct memory **m = &f->memory; *m; m = &(*m)->next)
        if ((*m)->p == p) {
            struct memory *gone = *m;
            *m = gone->next;
            (void)cudaFree(p);
            mem_free(gone);
            return;
        }
}
static enum loam_status f_put(struct fast *f, void *d, const void *h, size_t n, struct err *err) {
    CU(cudaMemcpyAsync(d, h, n, cudaMemcpyDefault, f->stream));
    CU(cudaStreamSynchronize(f->stream)); /* the host may reuse its memory */
    return LOAM_OK;
}
static enum loam_status f_get(struct fast *f, void *h, const void *d, size_t n, struct err *err) {
    CU(cudaMemcpyAsync(h, d, n, cudaMemcpyDefault, f->stream));
    CU(cudaStreamSynchronize(f->stream));
    return LOAM_OK;
}
static enum loam_status f_copy(struct fast *f, void *to, const void *from, size_t n, struct err *err) {
    CU(cudaMemcpyAsync(to, from, n, cudaMemcpyDeviceToDevice, f->stream));
    return LOAM_OK;
}
static enum loam_status f_sync(struct fast *f, struct err *err) {
    CU(cudaStreamSynchronize(f->stream));
    return LOAM_OK;
}
static enum loam_status f_graph_begin(struct fast *f, struct err *err) {
    CU(cudaStreamBeginCapture(f->stream, cudaStreamCaptureModeThreadLocal));
    f->capturing = true;
    return LOAM_OK;
}
static enum loam_status f_graph_end(struct fast *f, void **graph, struct err *err) {
    cudaGraph_t g;
    cudaGraphExec_t x;
    f->capturing = false;
    *graph = NULL;
    CU(cudaStreamEndCapture(f->stream, &g));
    cudaError_t e = cudaGraphInstantiate(&x, g, 0);
    (void)cudaGraphDestroy(g);
    CU(e);
    *graph = x;
    return LOAM_OK;
}
static enum loam_status f_graph_run(struct fast *f, void *graph, struct err *err) {
    CU(cudaGraphLaunch((cudaGraphExec_t)graph, f->stream));
    return LOAM_OK;
}
static void f_graph_free(struct fast *f, void *graph) {
    (void)f;
    if (graph)
        (void)cudaGraphExecDestroy((cudaGraphExec_t)graph);
}
static enum loam_status f_clock_start(struct fast *f, struct err *err) {
    CU(cudaEventRecord(f->from, f->stream));
    return LOAM_OK;
}
static enum loam_status f_clock_stop(struct fast *f, float *ms, struct err *err) {
    CU(cudaEventRecord(f->to, f->stream));
    CU(cudaEventSynchronize(f->to));
    CU(cudaEventElapsedTime(ms, f->from, f->to));
    return LOAM_OK;
}

static void f_close(struct fast *f) {
    if (!f)
        return;
    if (f->stream)
        (void)cudaStreamSynchronize(f->stream);
    for (uint32_t i = 0; i < f->n_plans; i++)
        plan_clear(f, &f->plans[i]);
    if (f->pref)
        f->lt.pref_destroy(f->pref);
    if (f->handle)
        f->lt.destroy(f->handle);
    while (f->memory)
        f_free(f, f->memory->p);
    (void)cudaFree(f->workspace);
    (void)cudaFree(f->scratch);
    if (f->from)
        (void)cudaEventDestroy(f->from);
    if (f->to)
        (void)cudaEventDestroy(f->to);
    if (f->stream)
        (void)cudaStreamDestroy(f->stream);
    mem_free(f);
}

static enum loam_status lt_load(struct lt_api *api, struct err *err) {
#ifdef CUDA_EMULATED
    *api = emu_cublaslt;
    return LOAM_OK;
#else
    const char *named = getenv("LOAM_CUBLASLT");
    const char *names[] = {named, "libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
    void *h = NULL;
    for (int i = 0; i < 4 && !h; i++)
        if (names[i])
            h = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!h)
        return err_set(err, LOAM_ENOTFOUND, "the fast mode needs cuBLASLt (libcublasLt.so of CUDA 12 or 13); LOAM_CUBLASLT names one that lies elsewhere");
    for (size_t i = 0; i < sizeof lt_names / sizeof *lt_names; i++) {
        void *p = dlsym(h, lt_names[i]);
        if (!p)
            return err_set(err, LOAM_EVERSION, "libcublasLt lacks %s", lt_names[i]);
        memcpy((char *)api + i * sizeof p, &p, sizeof p);
    }
    return LOAM_OK;
#endif
}

static enum loam_status setup(struct fast *f, struct err *err) {
    size_t bytes = WORKSPACE;
    CU(cudaSetDevice(f->device));
    CU(cudaStreamCreate(&f->stream));
    CU(cudaEventCreate(&f->from));
    CU(cudaEventCreate(&f->to));
    CU(cudaMalloc(&f->workspace, WORKSPACE));
    CU(cudaFuncSetAttribute(k_attn<64>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)attn_shared<64>()));
    CU(cudaFuncSetAttribute(k_attn<128>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)attn_shared<128>()));
    CU(cudaFuncSetAttribute(k_attn_dq<64>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)dq_shared<64>()));
    CU(cudaFuncSetAttribute(k_attn_dq<128>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)dq_shared<128>()));
    CU(cudaFuncSetAttribute(k_attn_dkv<64>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)dkv_shared<64>()));
    CU(cudaFuncSetAttribute(k_attn_dkv<128>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)dkv_shared<128>()));
    TRY(lt(f->lt.create(&f->handle), "Create", err));
    TRY(lt(f->lt.pref_create(&f->pref), "PreferenceCreate", err));
    return lt(f->lt.pref_set(f->pref, LT_PREF_WORKSPACE, &bytes, sizeof bytes), "workspace", err);
}

static enum loam_status f_open(struct fast **out, int device, struct err *err) {
    cudaDeviceProp p;
    struct lt_api api;
    *out = NULL;
    CU(cudaGetDeviceProperties(&p, device));
    if (p.major < 8)
        return err_set(err, LOAM_EUNSUPPORTED, "the fast mode needs compute capability 8.0, device %d has %d.%d (the referee runs on it)", device, p.major,
                       p.minor);
    TRY(lt_load(&api, err));
    struct fast *f = (struct fast *)mem_zalloc(sizeof *f);
    if (!f)
        return err_set(err, LOAM_ENOMEM, "no memory for the compute device");
    f->device = device;
    f->lt = api;
    enum loam_status s = setup(f, err);
    if (s) {
        f_close(f);
        return s;
    }
    *out = f;
    return LOAM_OK;
}

extern const struct fast_ops cuda_fast_ops;
const struct fast_ops cuda_fast_ops = {f_open,       f_close,       f_alloc,       f_free,       f_put,    f_get,     f_copy,  f_sync,  f_graph_begin,
                                       f_graph_end,  f_graph_run,   f_graph_free,  f_clock_start, f_clock_stop, f_gemm, f_gemv,  f_dequant,
                                       f_embed,      f_norm,        f_norm_dx,     f_rope,       f_swiglu, f_swiglu_dx, f_attn, f_attn_dx,
                                       f_kv_put,     f_attn_kv,     f_xent,        f_lora,       f_adamw};
