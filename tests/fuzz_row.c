/* A row from any bytes, as JSON and as row bytes: no crash, and what is taken comes back the same. */
#include "base/mem.h"
#include "record/row.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    struct row r, again;
    struct err e;
    if (!row_decode(&r, p, n, &e))
        row_clear(&r);
    if (row_parse(&r, (const char *)p, n, &e))
        return 0;
    struct buf b = BUF_INIT(ROW_LINE_MAX);
    LOAM_ASSERT(!row_json(&b, &r, &e));
    LOAM_ASSERT(!row_parse(&again, (const char *)b.data, b.len, &e));
    LOAM_ASSERT(hash_eq(&r.hash, &again.hash));
    row_clear(&again);
    LOAM_ASSERT(!row_decode(&again, r.bytes, r.len, &e));
    row_clear(&again);
    row_clear(&r);
    buf_clear(&b);
    return 0;
}
