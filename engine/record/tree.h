/* Position-ordered keccak trees: everything that is committed except claims.
 *
 *   leaf  = keccak(0x00 ‖ leaf bytes)
 *   node  = keccak(0x01 ‖ left ‖ right); an odd last node of a level moves up unchanged
 *   root  = keccak(0x02 ‖ count, 8 bytes big-endian ‖ top); top is 32 zero bytes where count is 0
 * The root commits the count, and a leaf's place is part of its proof, so that a tree can show that something is absent
 * or stands there once. A proof is the siblings from the bottom up; which levels have one follows from (index, count). */
#ifndef LOAM_RECORD_TREE_H
#define LOAM_RECORD_TREE_H

#include "record/types.h"

#define TREE_PROOF_MAX 64          /* levels of 2^64 leaves */
#define TREE_LEAVES_MAX (1u << 26) /* of struct tree, which keeps all nodes: 4 GiB; the stream has no limit */

struct hash32 tree_leaf(const void *p, size_t n);
struct hash32 tree_node(const struct hash32 *left, const struct hash32 *right);

/* Root of any number of leaves in constant memory. Owns nothing. */
struct tree_stream {
    uint64_t count;
    struct hash32 level[64]; /* level[i]: a full subtree of 2^i leaves, if bit i of count is set */
};
void tree_stream_init(struct tree_stream *t);
void tree_stream_add(struct tree_stream *t, const void *leaf, size_t n);
void tree_stream_add_hash(struct tree_stream *t, const struct hash32 *leaf_hash);
struct hash32 tree_stream_root(const struct tree_stream *t); /* can go on adding */

/* All leaves kept, for proofs. */
struct tree {
    struct hash32 *leaves; /* leaf hashes; owned */
    uint64_t count, cap;
};
void tree_init(struct tree *t);
void tree_clear(struct tree *t);
enum loam_status tree_add(struct tree *t, const void *leaf, size_t n, struct err *err) LOAM_MUST_USE;
enum loam_status tree_add_hash(struct tree *t, const struct hash32 *leaf_hash, struct err *err) LOAM_MUST_USE;
struct hash32 tree_root(const struct tree *t);
struct hash32 tree_top(const struct tree *t); /* what the root seals together with the count; 32 zero bytes for no leaves */

struct tree_proof {
    struct hash32 sibling[TREE_PROOF_MAX]; /* bottom up */
    uint32_t count;
};
/* LOAM_ERANGE if index is not below count. Takes O(count) hashes. */
enum loam_status tree_prove(struct tree_proof *out, const struct tree *t, uint64_t index, struct err *err) LOAM_MUST_USE;
/* LOAM_EPROOF if leaf bytes do not stand at index of the tree of count leaves with this root. */
enum loam_status tree_check(const struct hash32 *root, uint64_t count, uint64_t index, const void *leaf, size_t n,
                            const struct hash32 *sibling, size_t siblings, struct err *err) LOAM_MUST_USE;
/* Siblings that a proof of (index, count) has. */
uint32_t tree_proof_len(uint64_t index, uint64_t count);

#endif
