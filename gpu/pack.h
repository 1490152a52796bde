/* The packed layout of weights (GPU_PACK_VERSION), for the kernels only.
 *
 * Rows stand in groups of 16 (the last one filled up with zeros); groups follow each other, each a multiple of 64 bytes.
 *   F32, F16, BF16   [k][16 rows]
 *   quantised        scales of all blocks of the group, filled up to 64 bytes, then codes of all blocks.
 *     codes, 4 bit   256 bytes a block: [j 0..3][16 rows][b 0..3], low nibble k = 8 j + b, high nibble k = 8 j + 4 + b
 *     codes, 8 bit   512 bytes a block: [g 0..7][16 rows][b 0..3] signed, k = 4 g + b
 *     scales         H1 d fp16[16] | H2 d, m fp16[16] each | F2 d, m fp32[16] each | HS d fp16[16], two int8[16]
 * So one 64-byte load brings 4 consecutive k of 16 rows: lanes are rows, and a row's chain is never split.
 * A block is 32 k. Value of a code q (4-bit codes of Q4_0 are stored unsigned, q = code - 8; those of Q6_K signed):
 *   H1: fl(d q)    H2, F2: fma(d, q, m)    HS: fl(fl(d sc) q), sc[0] for the block's first 16 k, sc[1] for the others.
 * Q4_K and Q5_K: d = fl(d' sc) (exact), m = -fl(dmin mn) (exact). */
#ifndef LOAM_GPU_PACK_H
#define LOAM_GPU_PACK_H

#include "gpu/ops.h"

enum pack_code { PACK_PLAIN, PACK_U4, PACK_S8 };
enum pack_scale { PACK_H1, PACK_H2, PACK_F2, PACK_HS };

struct pack_layout {
    enum pack_code code;
    enum pack_scale scale;
    uint32_t scale_bytes; /* a block of 16 rows */
    uint32_t code_bytes;
    uint32_t elem; /* bytes of an element of PLAIN */
    int zero;      /* subtracted from unsigned codes: 8 for Q4_0 */
};

/* NULL for unknown types. */
const struct pack_layout *pack_layout(uint32_t type);

static inline size_t pack_round64(size_t n) {
    return (n + 63) & ~(size_t)63;
}
static inline size_t pack_scales_bytes(const struct pack_layout *l, size_t k) {
    return pack_round64(k / 32 * l->scale_bytes);
}
static inline size_t pack_group_bytes(const struct pack_layout *l, size_t k) {
    if (l->code == PACK_PLAIN)
        return pack_round64(k * 16 * l->elem);
    return pack_scales_bytes(l, k) + k / 32 * l->code_bytes;
}

/* One block of one row, from the packed form. */
struct pack_block {
    int q[32]; /* zero already subtracted */
    float d, m;
    int sc[2]; /* HS only, else 1 */
    int has_m;
};
void pack_block(struct pack_block *b, const struct gpu_weight *w, size_t row, size_t block);
/* k floats: row of w, dequantised. */
void pack_row(float *out, const struct gpu_weight *w, size_t row);

#endif
