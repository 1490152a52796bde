#include "base/keccak.h"

#include <string.h>

static const uint64_t rc[24] = {
    0x0000000000000001u, 0x0000000000008082u, 0x800000000000808au, 0x8000000080008000u, 0x000000000000808bu,
    0x0000000080000001u, 0x8000000080008081u, 0x8000000000008009u, 0x000000000000008au, 0x0000000000000088u,
    0x0000000080008009u, 0x000000008000000au, 0x000000008000808bu, 0x800000000000008bu, 0x8000000000008089u,
    0x8000000000008003u, 0x8000000000008002u, 0x8000000000000080u, 0x000000000000800au, 0x800000008000000au,
    0x8000000080008081u, 0x8000000000008080u, 0x0000000080000001u, 0x8000000080008008u};
#define ROL(x, n) ((x) << (n) | (x) >> (-(n) & 63))
/* Everything in named variables, so that the compiler keeps lanes in registers: 2.7 times as fast as loops over an array.
 * theta's column parities are c, what they add to each column d. ROW makes one row of the new state: rho and pi bring lane a
 * (of column x, turned by r) to its place, chi mixes the row. Two rounds a turn, from A to E and back. */
#define ROW(A, E, e0, e1, e2, e3, e4, a0, x0, r0, a1, x1, r1, a2, x2, r2, a3, x3, r3, a4, x4, r4)                    \
    b0 = ROL(A##a0 ^ d##x0, r0);                                                                                     \
    b1 = ROL(A##a1 ^ d##x1, r1);                                                                                     \
    b2 = ROL(A##a2 ^ d##x2, r2);                                                                                     \
    b3 = ROL(A##a3 ^ d##x3, r3);                                                                                     \
    b4 = ROL(A##a4 ^ d##x4, r4);                                                                                     \
    E##e0 = b0 ^ (~b1 & b2);                                                                                         \
    E##e1 = b1 ^ (~b2 & b3);                                                                                         \
    E##e2 = b2 ^ (~b3 & b4);                                                                                         \
    E##e3 = b3 ^ (~b4 & b0);                                                                                         \
    E##e4 = b4 ^ (~b0 & b1);
#define ROUND(A, E, constant)                                                                                        \
    c0 = A##0 ^ A##5 ^ A##10 ^ A##15 ^ A##20;                                                                        \
    c1 = A##1 ^ A##6 ^ A##11 ^ A##16 ^ A##21;                                                                        \
    c2 = A##2 ^ A##7 ^ A##12 ^ A##17 ^ A##22;                                                                        \
    c3 = A##3 ^ A##8 ^ A##13 ^ A##18 ^ A##23;                                                                        \
    c4 = A##4 ^ A##9 ^ A##14 ^ A##19 ^ A##24;                                                                        \
    d0 = c4 ^ ROL(c1, 1);                                                                                            \
    d1 = c0 ^ ROL(c2, 1);                                                                                            \
    d2 = c1 ^ ROL(c3, 1);                                                                                            \
    d3 = c2 ^ ROL(c4, 1);                                                                                            \
    d4 = c3 ^ ROL(c0, 1);                                                                                            \
    ROW(A, E, 0, 1, 2, 3, 4, 0, 0, 0, 6, 1, 44, 12, 2, 43, 18, 3, 21, 24, 4, 14)                                     \
    ROW(A, E, 5, 6, 7, 8, 9, 3, 3, 28, 9, 4, 20, 10, 0, 3, 16, 1, 45, 22, 2, 61)                                     \
    ROW(A, E, 10, 11, 12, 13, 14, 1, 1, 1, 7, 2, 6, 13, 3, 25, 19, 4, 8, 20, 0, 18)                                  \
    ROW(A, E, 15, 16, 17, 18, 19, 4, 4, 27, 5, 0, 36, 11, 1, 10, 17, 2, 15, 23, 3, 56)                               \
    ROW(A, E, 20, 21, 22, 23, 24, 2, 2, 62, 8, 3, 55, 14, 4, 39, 15, 0, 41, 21, 1, 2)                                \
    E##0 ^= constant;

static void permute(uint64_t a[25]) {
    uint64_t b0, b1, b2, b3, b4, c0, c1, c2, c3, c4, d0, d1, d2, d3, d4;
    uint64_t A0 = a[0], A1 = a[1], A2 = a[2], A3 = a[3], A4 = a[4], A5 = a[5], A6 = a[6], A7 = a[7], A8 = a[8];
    uint64_t A9 = a[9], A10 = a[10], A11 = a[11], A12 = a[12], A13 = a[13], A14 = a[14], A15 = a[15], A16 = a[16];
    uint64_t A17 = a[17], A18 = a[18], A19 = a[19], A20 = a[20], A21 = a[21], A22 = a[22], A23 = a[23], A24 = a[24];
    uint64_t E0, E1, E2, E3, E4, E5, E6, E7, E8, E9, E10, E11, E12, E13, E14, E15, E16, E17, E18, E19, E20, E21, E22;
    uint64_t E23, E24;
    for (int r = 0; r < 24; r += 2) {
        ROUND(A, E, rc[r])
        ROUND(E, A, rc[r + 1])
    }
    const uint64_t end[25] = {A0, A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11, A12, A13, A14, A15, A16, A17, A18,
                              A19, A20, A21, A22, A23, A24};
    memcpy(a, end, sizeof end);
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
    if (!n)
        return; /* p may be NULL then, which memcpy must not see */
    const uint8_t *q = p;
    if (!n) /* p may be NULL then */
        return;
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
