/* lm/adapter: any bytes as an adapter file. The checksum is made right first, so that the fuzzer reaches what lies behind it; what
 * is taken must hash the same after a copy. */
#include "base/keccak.h"
#include "base/mem.h"
#include "lm/adapter.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct lm_adapter *a, *b;
    struct err e;
    uint8_t h1[32], h2[32];
    if (n < 32 || n > 1 << 20)
        return 0;
    uint8_t *p = mem_dup(data, n);
    keccak256(p + n - 32, p, n - 32);
    if (!lm_adapter_parse(&a, p, n, &e)) {
        if (!lm_adapter_copy(&b, a, &e)) {
            lm_adapter_hash(h1, a);
            lm_adapter_hash(h2, b);
            if (memcmp(h1, h2, 32))
                __builtin_trap();
            lm_adapter_free(b);
        }
        lm_adapter_free(a);
    }
    mem_free(p);
    return 0;
}
