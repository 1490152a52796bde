/* Claims: OpenZeppelin's StandardMerkleTree over ["uint64","uint64","uint256","uint256"], so that its JavaScript library
 * and MerkleProof.sol check ours (https://github.com/OpenZeppelin/merkle-tree).
 * leaf = keccak(keccak(abi.encode(index, account, prefix, cumulative))), leaves sorted by hash, node = keccak of the two
 * children in ascending order. The values are those of the payout leaf at the same index (payout.h). */
#ifndef LOAM_RECORD_CLAIMS_H
#define LOAM_RECORD_CLAIMS_H

#include "record/payout.h"
#include "record/tree.h"

struct claims {
    struct hash32 *nodes; /* 2 n - 1, root first; owned */
    uint64_t *place;      /* leaf of payout i stands at nodes[place[i]]; owned */
    uint64_t count;
};
/* From a payout table. count 0 has no OpenZeppelin tree: its root is 32 zero bytes, which no proof reaches. */
enum loam_status claims_build(struct claims *out, const struct payouts *p, struct err *err) LOAM_MUST_USE;
void claims_clear(struct claims *c);
struct hash32 claims_root(const struct claims *c);
/* LOAM_ERANGE if index is not below count. */
enum loam_status claims_prove(struct tree_proof *out, const struct claims *c, uint64_t index, struct err *err) LOAM_MUST_USE;
struct hash32 claims_leaf(const struct payout *p);
/* LOAM_EPROOF. What MerkleProof.verify computes. */
enum loam_status claims_check(const struct hash32 *root, const struct payout *p, const struct hash32 *sibling, size_t siblings,
                              struct err *err) LOAM_MUST_USE;

#endif
