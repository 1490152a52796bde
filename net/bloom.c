#include "net/bloom.h"

#include "base/keccak.h"

#include "base/banned.h"

/* Three bits: the low 11 bits of each of the first three 16-bit words of the keccak. Bit 0 is the last byte's lowest. */
static void bits(unsigned out[3], const void *p, size_t n) {
    uint8_t h[32];
    keccak256(h, p, n);
    for (int i = 0; i < 3; i++)
        out[i] = (unsigned)(h[2 * i] << 8 | h[2 * i + 1]) & 2047;
}

void bloom_add(uint8_t bloom[256], const void *p, size_t n) {
    unsigned b[3];
    bits(b, p, n);
    for (int i = 0; i < 3; i++)
        bloom[255 - b[i] / 8] |= (uint8_t)(1u << b[i] % 8);
}

bool bloom_may(const uint8_t bloom[256], const void *p, size_t n) {
    unsigned b[3];
    bits(b, p, n);
    for (int i = 0; i < 3; i++)
        if (!(bloom[255 - b[i] / 8] >> b[i] % 8 & 1))
            return false;
    return true;
}
