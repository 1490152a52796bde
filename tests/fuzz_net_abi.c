/* ABI: decoding of hostile data under several types; what decodes must encode and decode again. Reverts and DA commitments. */
#include "net/abi.h"
#include "net/da.h"
#include "net/l1.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    static const char *const types[] = {"(uint64,bytes32[])", "((uint64,string,(uint64,string)[]),int256,bytes[])", "(bytes,string,bool,address)",
                                        "(uint8[3][],(bytes4,int8)[2])", "(string[][])"};
    static const char *const errors[] = {"BondTooSmall(uint256 have, uint256 need)", "Why(string,bytes)", NULL};
    char text[256];
    struct l1_attributes a;
    struct da_commitment c;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct abi_doc d, e;
        if (abi_decode(&d, types[i], p, n, NULL))
            continue;
        struct buf b = BUF_INIT(ABI_DATA_MAX * 64ul);
        if (!abi_encode(&b, d.item, d.n, NULL) && b.len <= ABI_DATA_MAX) {
            LOAM_ASSERT(!abi_decode(&e, types[i], b.data, b.len, NULL));
            abi_clear(&e);
        }
        buf_clear(&b);
        abi_clear(&d);
    }
    abi_revert(text, sizeof text, p, n, errors);
    if (!l1_attributes_decode(&a, p, n, NULL))
        LOAM_ASSERT(n >= 164);
    l1_fastlz_size(p, n);
    for (int standard = 0; standard < 2; standard++)
        if (!da_commitment_parse(&c, p, n, standard, NULL))
            LOAM_ASSERT(n);
    struct buf out = BUF_INIT(1 << 24);
    if (!da_decode(&out, p, n, NULL))
        LOAM_ASSERT(out.len < n);
    buf_clear(&out);
    return 0;
}
