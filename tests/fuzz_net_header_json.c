/* JSON objects as header, transaction, receipt and feed message. */
#include "net/header.h"
#include "net/payload.h"
#include "net/receipt.h"
#include "net/tx.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    struct header h;
    struct receipt r;
    struct payload_message m;
    struct buf b = BUF_INIT(1 << 24);
    json_t *o = json_loadb((const char *)p, n, JSON_DECODE_ANY, NULL);
    if (!header_from_json(&h, o, NULL)) {
        struct header again;
        LOAM_ASSERT(!header_to_rlp(&b, &h, NULL));
        LOAM_ASSERT(!header_from_rlp(&again, b.data, b.len, NULL));
        LOAM_ASSERT(hash_eq(&again.hash, &h.hash));
    }
    buf_reset(&b);
    if (!tx_from_json(&b, o, true, NULL))
        LOAM_ASSERT(b.len);
    if (!receipt_from_json(&r, o, NULL))
        LOAM_ASSERT(!receipt_encode(&b, &r, NULL));
    receipt_clear(&r);
    if (!payload_from_helios(&m, o, NULL))
        LOAM_ASSERT(m.sig[64] < 2);
    payload_message_clear(&m);
    buf_clear(&b);
    json_decref(o);
    return 0;
}
