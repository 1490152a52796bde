#include "base/keccak.h"

#include <string.h>

static const uint64_t rc[24] = {
    0x0000000000000001u, 0x0000000000008082u, 0x800000000000808au, 0x8000000080008000u, 0x000000000000808bu,
    0x0000000080000001u, 0x8000000080008081u, 0x8000000000008009u, 0x000000000000008au, 0x0000000000000088u,
    0x0000000080008009u, 0x000000008000000au, 0x000000008000808bu, 0x800000000000008bu, 0x8000000000008089u,
    0x8000000000008003u, 0x8000000000008002u, 0x8000000000000080u, 0x000000000000800au, 0x800000008000000au,
    0x8000000080008081u, 0x8000000000008080u, 0x0000000080000001u, 0x8000000080008008u};
/* Rotations and lane order of the combined rho and pi steps, walking the single cycle that starts at lane 1. */
static const unsigned rot[24] = {1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 2, 14, 27, 41, 56, 8, 25, 43, 62, 18, 39, 61, 20, 44};
static const unsigned lane[24] = {10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1};

static inline uint64_t rol(uint64_t x, unsigned n) {
    return x << n | x >> (64 - n);
}

static void permute(uint64_t a[25]) {
    for (int r = 0; r < 24; r++) {
        uint64_t c[5], d[5];
        for (int x = 0; x < 5; x++)
            c[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
        for (int x = 0; x < 5; x++)
            d[x] = c[(x + 4) % 5] ^ rol(c[(x + 1) % 5], 1);
        for (int i = 0; i < 25; i += 5)
            for (int x = 0; x < 5; x++)
                a[i + x] ^= d[x];
        uint64_t t = a[1];
#pragma GCC unroll 24
        for (int i = 0; i < 24; i++) {
            uint64_t u = a[lane[i]];
            a[lane[i]] = rol(t, rot[i]);
            t = u;
        }
        for (int y = 0; y < 25; y += 5) {
            uint64_t b0 = a[y], b1 = a[y + 1], b2 = a[y + 2], b3 = a[y + 3], b4 = a[y + 4];
            a[y] = b0 ^ (~b1 & b2);
            a[y + 1] = b1 ^ (~b2 & b3);
            a[y + 2] = b2 ^ (~b3 & b4);
            a[y + 3] = b3 ^ (~b4 & b0);
            a[y + 4] = b4 ^ (~b0 & b1);
        }
        a[0] ^= rc[r];
    }
}

static void absorb(uint64_t a[25], const uint8_t *p) {
    for (int i = 0; i < KECCAK_RATE / 8; i++) {
        uint64_t v;
        memcpy(&v, p + 8 * i, 8);
        a[i] ^= v;
    }
    permute(a);
}

void keccak_init(struct keccak *k) {
    memset(k, 0, sizeof *k);
}

void keccak_add(struct keccak *k, const void *p, size_t n) {
    const uint8_t *q = p;
    if (k->fill) {
        size_t take = KECCAK_RATE - k->fill < n ? KECCAK_RATE - k->fill : n;
        memcpy(k->block + k->fill, q, take);
        k->fill += take;
        q += take;
        n -= take;
        if (k->fill < KECCAK_RATE)
            return;
        absorb(k->a, k->block);
        k->fill = 0;
    }
    for (; n >= KECCAK_RATE; q += KECCAK_RATE, n -= KECCAK_RATE)
        absorb(k->a, q);
    if (n)
        memcpy(k->block, q, n);
    k->fill = n;
}

void keccak_end(struct keccak *k, uint8_t out[32]) {
    memset(k->block + k->fill, 0, KECCAK_RATE - k->fill);
    k->block[k->fill] ^= 0x01;
    k->block[KECCAK_RATE - 1] ^= 0x80;
    absorb(k->a, k->block);
    memcpy(out, k->a, 32);
}

void keccak256(uint8_t out[32], const void *p, size_t n) {
    struct keccak k;
    keccak_init(&k);
    keccak_add(&k, p, n);
    keccak_end(&k, out);
}
