#include "lm/philox.h"

#include "base/keccak.h"
#include "base/bytes.h"

#include <string.h>

#include "base/banned.h"

void philox_raw(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u; /* golden ratio and sqrt(3) - 1: Random123's Weyl constants */
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void philox_init(struct philox *p, const uint8_t seed[32], const char *purpose) {
    struct keccak k;
    uint8_t h[32];
    keccak_init(&k);
    keccak_add(&k, seed, 32);
    keccak_add(&k, purpose, strlen(purpose));
    keccak_end(&k, h);
    p->key[0] = le32(h);
    p->key[1] = le32(h + 4);
}

void philox_block(const struct philox *p, uint64_t index, uint32_t block, uint32_t out[4]) {
    const uint32_t c[4] = {(uint32_t)index, (uint32_t)(index >> 32), block, 0};
    philox_raw(c, p->key, out);
}

void philox_shuffle(const struct philox *p, uint64_t index, uint32_t n, uint32_t *out) {
    for (uint32_t i = 0; i < n; i++)
        out[i] = i;
    for (uint32_t i = n; i-- > 1;) {
        uint32_t w[4];
        philox_block(p, index, i, w);
        uint64_t u = w[0] | (uint64_t)w[1] << 32;
        uint32_t j = (uint32_t)(((unsigned __int128)u * (i + 1)) >> 64), t = out[i];
        out[i] = out[j];
        out[j] = t;
    }
}
