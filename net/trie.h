/* Merkle Patricia tries (Yellow Paper, appendix D): proofs checked, roots built. Hex prefix, branch, extension, inlined
 * nodes under 32 bytes. */
#ifndef LOAM_NET_TRIE_H
#define LOAM_NET_TRIE_H

#include "base/bytes.h"
#include "base/u256.h"
#include "record/types.h"

#include <stdbool.h>

struct bytes_view {
    const uint8_t *p;
    size_t n;
};

#define TRIE_PROOF_NODES_MAX 65 /* 64 nibbles and the leaf */
#define TRIE_NODE_MAX 65536     /* a branch takes 532 + its value */
#define TRIE_ITEMS_MAX (1u << 20)

/* Walks nodes[0..count) from root along key (as it stands in the trie: hashed already for state tries). *value borrows
 * from the nodes: the item there (n > 0), or NULL, 0 with *found false when the proof shows that nothing is there.
 * LOAM_EPROOF (hash or shape wrong), LOAM_EPROOFSHORT (cut), LOAM_EPROOFLONG (nodes left over). */
enum loam_status trie_verify(struct bytes_view *value, bool *found, const struct hash32 *root, const uint8_t *key, size_t key_len,
                             const struct bytes_view *nodes, size_t count, struct err *err) LOAM_MUST_USE;

/* Root of the trie with these entries. Keys distinct, any order; at most TRIE_ITEMS_MAX; empty values are refused. */
struct trie_entry {
    struct bytes_view key, value;
};
enum loam_status trie_root(struct hash32 *out, const struct trie_entry *entries, size_t n, struct err *err) LOAM_MUST_USE;
/* The root, and the proof for key: its nodes from the root down, appended to out; lens[0..*count) their lengths. For simulators
 * and tests: it builds the whole trie. */
enum loam_status trie_prove(struct hash32 *root, struct buf *out, size_t lens[TRIE_PROOF_NODES_MAX], size_t *count,
                            const struct trie_entry *entries, size_t n, const uint8_t *key, size_t key_len, struct err *err) LOAM_MUST_USE;
/* Ordered trie of transactions or receipts: key of item i is rlp(i). */
enum loam_status trie_ordered_root(struct hash32 *out, const struct bytes_view *items, size_t n, struct err *err) LOAM_MUST_USE;

/* An account's leaf: rlp[nonce, balance, storage root, code hash]. */
struct account {
    bool exists;
    uint64_t nonce;
    struct u256 balance;
    struct hash32 storage_root, code_hash; /* of an absent account: empty root, keccak of nothing */
};
/* Account and storage values by proof. Absent: exists false / value 0. */
enum loam_status trie_account(struct account *out, const struct hash32 *state_root, const struct addr20 *addr,
                              const struct bytes_view *nodes, size_t count, struct err *err) LOAM_MUST_USE;
enum loam_status trie_storage(struct u256 *out, const struct hash32 *storage_root, const struct hash32 *slot,
                              const struct bytes_view *nodes, size_t count, struct err *err) LOAM_MUST_USE;
extern const struct hash32 account_empty_code; /* keccak("") */

#endif
