/* Random numbers of arith-1: Philox4x32-10, keyed by (seed, purpose), counted by (index, block). Counter based: number k of
 * a stream is a pure function of its place, so that no state has to be saved and threads need not agree on an order.
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; known answers of Random123. */
#ifndef LOAM_LM_PHILOX_H
#define LOAM_LM_PHILOX_H

#include <stdint.h>

struct philox {
    uint32_t key[2];
};

/* key = first 8 bytes (two little-endian words) of keccak256(seed ‖ purpose without its NUL). purpose: "init", "order",
 * "dropout", "sample", ... */
void philox_init(struct philox *p, const uint8_t seed[32], const char *purpose);
/* Four words at counter (index low, index high, block, 0). */
void philox_block(const struct philox *p, uint64_t index, uint32_t block, uint32_t out[4]);
/* The raw function, for its known answers. */
void philox_raw(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
/* A uniform fp32 in [0, 1): the word's upper 24 bits times 2^-24, exact. */
static inline float philox_unit(uint32_t word) {
    return (float)(word >> 8) * 0x1p-24f;
}
/* A permutation of 0..n-1 in out[n]: Fisher-Yates from the end, element i swapped with j = floor(u * (i + 1) / 2^64), u the
 * block's first two words (low, high) at (index, i). Its bias is below n / 2^64. */
void philox_shuffle(const struct philox *p, uint64_t index, uint32_t n, uint32_t *out);

#endif
