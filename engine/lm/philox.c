#include "lm/philox.h"

#include "base/bytes.h"
#include "base/keccak.h"
#include "gpu/arith.h"

#include <string.h>

#include "base/banned.h"

void philox_raw(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    arith_philox(counter, key, out);
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
