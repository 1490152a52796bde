/* Block headers of all forks: 15 fields (before London), 16 (Bedrock), 17 (Canyon), 20 (Ecotone to Holocene), 21
 * (Isthmus on); from RLP and from JSON-RPC; their hash; the rules between a header and its parent. Sources: EIP-1559,
 * 4895, 4844, 4788, 7685; OP Stack specs (exec-engine, holocene, isthmus, jovian). */
#ifndef LOAM_NET_HEADER_H
#define LOAM_NET_HEADER_H

#include "base/bytes.h"
#include "base/u256.h"
#include "record/types.h"

#include <jansson.h>
#include <stdbool.h>

#define HEADER_EXTRA_MAX 32   /* consensus limit */
#define HEADER_RLP_MAX 1024   /* a 21-field header with 32 bytes of extra data takes 673 at most */

struct header {
    struct hash32 parent, uncles, state_root, tx_root, receipts_root, mix_hash;
    struct addr20 miner;
    uint8_t bloom[256];
    struct u256 difficulty, base_fee;
    uint64_t number, gas_limit, gas_used, timestamp, blob_gas_used, excess_blob_gas;
    uint8_t extra[HEADER_EXTRA_MAX];
    uint8_t extra_len;
    uint8_t nonce[8];
    uint8_t fields; /* 15, 16, 17, 20 or 21: which of the following stand in it */
    struct hash32 withdrawals_root, beacon_root, requests_hash;
    struct hash32 hash; /* keccak of the RLP, always recomputed here, never copied from a peer */
};

enum loam_status header_from_rlp(struct header *out, const uint8_t *in, size_t n, struct err *err) LOAM_MUST_USE;
/* A JSON-RPC block or header object. Unknown fields are ignored. Where the object names a hash it must equal the
 * recomputed one (LOAM_EHEADER). */
enum loam_status header_from_json(struct header *out, const json_t *o, struct err *err) LOAM_MUST_USE;
enum loam_status header_to_rlp(struct buf *out, const struct header *h, struct err *err) LOAM_MUST_USE;
/* Sets h->hash. */
enum loam_status header_hash(struct header *h, struct err *err) LOAM_MUST_USE;

/* Fork times of one chain: active when a header's timestamp >= the time; FORK_NEVER where not planned. FORK_UNKNOWN as
 * canyon means: no schedule is known; only what holds in every fork is checked (the base fee then is not). */
#define FORK_NEVER UINT64_MAX
#define FORK_UNKNOWN (UINT64_MAX - 1)
struct fork_times {
    uint64_t canyon, ecotone, fjord, granite, holocene, isthmus, jovian;
};
/* What the rules need of a chain. anvil: the development profile, whose headers have empty extraData, a constant
 * withdrawals root, and a base fee that jumps at reorgs: there only hashes, links and times are checked. */
struct header_rules {
    struct fork_times forks;
    uint64_t elasticity, denominator, denominator_canyon; /* OP: 6, 50, 250 */
    uint64_t block_time;                                  /* seconds; 0: any */
    bool anvil, l1;                                       /* l1: an Ethereum header (no OP rules, base fee 2/8) */
};
/* Fields and constants that the header's own timestamp demands. LOAM_EFORK. */
enum loam_status header_check(const struct header *h, const struct header_rules *r, struct err *err) LOAM_MUST_USE;
/* h after parent: LOAM_ELINK (hash, number), LOAM_ETIMESTAMP, LOAM_EBASEFEE. header_check is not repeated. */
enum loam_status header_follows(const struct header *h, const struct header *parent, const struct header_rules *r,
                                struct err *err) LOAM_MUST_USE;
/* The base fee that the block after parent must have. */
enum loam_status header_next_base_fee(struct u256 *out, const struct header *parent, uint64_t child_time,
                                      const struct header_rules *r, struct err *err) LOAM_MUST_USE;
/* keccak(0^32 | state root | message passer's storage root | block hash): the output root, version 0. From Isthmus on the
 * message passer's root is h->withdrawals_root. */
void header_output_root(struct hash32 *out, const struct header *h, const struct hash32 *passer_root);

extern const struct hash32 header_empty_root;     /* root of the empty trie */
extern const struct hash32 header_empty_uncles;   /* keccak(rlp([])) */
extern const struct hash32 header_empty_requests; /* sha256("") */

#endif
