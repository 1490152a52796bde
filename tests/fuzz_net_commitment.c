/* EigenDA: commitments of both modes and of calldata, recency of their certificates, and the encoded payload, which must come back. */
#include "net/da.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    struct da_commitment c, d;
    for (int standard = 0; standard < 2; standard++) {
        if (da_commitment_parse(&c, p, n, standard, NULL))
            continue;
        LOAM_ASSERT(n && *da_word(&c));
        if (c.kind == DA_KECCAK) {
            LOAM_ASSERT(!standard && n == 33 && !memcmp(c.keccak.b, p + 1, 32));
        } else {
            LOAM_ASSERT(c.cert_version >= 1 && c.cert_version <= 4 && c.cert >= p && c.cert + c.cert_len == p + n);
            LOAM_ASSERT(!c.has_reference || c.cert_version > 1);
            /* what is included before its reference block is refused, what is included long after it is stale */
            if (c.has_reference && c.reference_block > 1)
                LOAM_ASSERT(da_recency(&c, c.reference_block - 1, DA_RECENCY_WINDOW, NULL) == LOAM_ECOMMITMENT);
            if (c.has_reference && c.reference_block < UINT64_MAX - DA_RECENCY_WINDOW) {
                LOAM_ASSERT(!da_recency(&c, c.reference_block + DA_RECENCY_WINDOW, DA_RECENCY_WINDOW, NULL) || !c.reference_block);
                LOAM_ASSERT(da_recency(&c, c.reference_block + DA_RECENCY_WINDOW + 1, DA_RECENCY_WINDOW, NULL) == LOAM_ESTALE);
            }
        }
    }
    if (!da_from_calldata(&d, p, n, NULL))
        LOAM_ASSERT(n > 1 && p[0] == 1 && !da_commitment_parse(&c, p + 1, n - 1, false, NULL));
    struct buf out = BUF_INIT(DA_PAYLOAD_MAX), again = BUF_INIT(4 * DA_PAYLOAD_MAX);
    if (!da_decode(&out, p, n, NULL)) {
        LOAM_ASSERT(out.len < n);
        LOAM_ASSERT(!da_encode(&again, out.len ? out.data : p, out.len, NULL));
        LOAM_ASSERT(again.len <= n && !memcmp(again.data, p, again.len)); /* padding may be longer than needed */
    }
    buf_reset(&out);
    buf_reset(&again);
    if (!da_encode(&again, p, n, NULL)) {
        LOAM_ASSERT(!da_decode(&out, again.data, again.len, NULL));
        LOAM_ASSERT(out.len == n && (!n || !memcmp(out.data, p, n)));
    }
    buf_clear(&out);
    buf_clear(&again);
    return 0;
}
