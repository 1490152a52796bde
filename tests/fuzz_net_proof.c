/* Proofs: the input is a key, then nodes (u16be length and bytes each). The first node's hash is taken as root, and the hashes of
 * the following ones are put where a child of the one before stands, so that walks go deep. */
#include "base/keccak.h"
#include "net/trie.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    static uint8_t mem[1 << 16];
    struct bytes_view v[16], value;
    struct account a;
    struct u256 word;
    struct addr20 addr;
    struct hash32 root, slot;
    size_t count = 0;
    bool found;
    if (n < 34 || n > sizeof mem)
        return 0;
    memcpy(mem, p, n);
    memcpy(slot.b, mem, 32);
    memcpy(addr.b, mem, 20);
    for (size_t at = 32; at + 2 <= n && count < 16;) {
        size_t len = (size_t)(mem[at] << 8 | mem[at + 1]);
        at += 2;
        if (len > n - at)
            len = n - at;
        v[count++] = (struct bytes_view){mem + at, len};
        at += len;
    }
    for (size_t i = count; i-- > 1;) {
        uint8_t h[32];
        keccak256(h, v[i].p, v[i].n);
        uint8_t *q = mem + (v[i - 1].p - mem);
        for (size_t k = 0; k + 33 <= v[i - 1].n; k++)
            if (q[k] == 0xa0) {
                memcpy(q + k + 1, h, 32);
                k += 32;
            }
    }
    if (count)
        keccak256(root.b, v[0].p, v[0].n);
    else
        memset(&root, 0, sizeof root);
    if (!trie_verify(&value, &found, &root, slot.b, 32, v, count, NULL))
        LOAM_ASSERT(found == (value.p != NULL) && (!found || value.n));
    if (!trie_account(&a, &root, &addr, v, count, NULL) && !trie_storage(&word, &root, &slot, v, count, NULL))
        return 0;
    return 0;
}
