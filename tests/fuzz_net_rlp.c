/* RLP: what is canonical must be read and written alike; transactions and headers likewise. */
#include "net/header.h"
#include "net/rlp.h"
#include "net/tx.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    struct header h;
    struct tx t;
    struct buf b = BUF_INIT(1 << 24);
    if (!rlp_check(p, n, NULL)) {
        struct rlp it;
        LOAM_ASSERT(!rlp_parse(&it, p, n, NULL));
        LOAM_ASSERT(it.raw_n == n);
    }
    if (!header_from_rlp(&h, p, n, NULL)) {
        LOAM_ASSERT(!header_to_rlp(&b, &h, NULL));
        LOAM_ASSERT(b.len == n && !memcmp(b.data, p, n));
    }
    buf_reset(&b);
    if (!tx_decode(&t, p, n, NULL)) {
        LOAM_ASSERT(!tx_encode(&b, &t, NULL));
        LOAM_ASSERT(b.len == n && !memcmp(b.data, p, n));
    }
    buf_clear(&b);
    return 0;
}
