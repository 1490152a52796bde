/* Keccak-256 as Ethereum uses it (padding 0x01, not SHA-3's 0x06). The one primitive that is our own: no packaged
 * library has it. Source: the Keccak reference, https://keccak.team/keccak_specs_summary.html; rate 136, capacity 64 bytes. */
#ifndef LOAM_BASE_KECCAK_H
#define LOAM_BASE_KECCAK_H

#include <stddef.h>
#include <stdint.h>

#define KECCAK_RATE 136

struct keccak {
    uint64_t a[25];
    uint8_t block[KECCAK_RATE];
    size_t fill;
};

void keccak_init(struct keccak *k);
void keccak_add(struct keccak *k, const void *p, size_t n);
void keccak_end(struct keccak *k, uint8_t out[32]);
void keccak256(uint8_t out[32], const void *p, size_t n);

#endif
