/* The light client: takes no RPC's word for what can be checked.
 *
 * Headers: fetched as JSON, hash recomputed from the RLP, linked by parent hash to the anchor, rules between parent and child
 * checked. State: by eth_getProof pinned to the hash of a verified header. Receipts: all of a block, rebuilt to the root. Logs of a
 * range are complete, relative to its headers, because every bloom is checked. Gas estimates, eth_call and fee suggestions
 * remain the RPC's word.
 *
 * Threads: chain_start runs a thread of its own that follows the head. All other calls may be made from any thread but the
 * loop's, and wait for the network; those marked (loop) never wait. The callbacks come from the chain's thread. */
#ifndef LOAM_NET_CHAIN_H
#define LOAM_NET_CHAIN_H

#include "net/header.h"
#include "net/l1.h"
#include "net/payload.h"
#include "net/receipt.h"
#include "net/rpc.h"
#include "net/trie.h"
#include "net/tx.h"

#define CHAIN_FETCH_BATCH 32       /* headers asked for at once while catching up */
#define CHAIN_SIGNERS_MAX 4
#define CHAIN_FEEDS_MAX 4
#define CHAIN_EVIDENCE_MAX 64 /* equivocations kept */
#define CHAIN_REORG_MAX (1u << 20) /* blocks walked back before giving up */

/* How a head is known. A linked header says to what: the best word that stands behind it. */
enum known {
    KNOWN_NOT,
    KNOWN_AGREED,   /* k of n RPCs say so */
    KNOWN_LINKED,   /* hash-linked to a known header */
    KNOWN_PROPOSED, /* anchored: output root stands on L1, not resolved */
    KNOWN_RESOLVED, /* anchored: the claim was resolved for it */
    KNOWN_SIGNED,   /* the sequencer signed the payload */
};
const char *known_word(enum known k); /* "agreed", "linked", "anchored (proposed)", … */

/* How a verified number is known: the best word for it, and what it is linked to where that word is linked. */
struct chain;
void chain_known(struct chain *c, uint64_t number, enum known *how, enum known *link_to);

/* Where the verified headers are kept. node/store fills it with LMDB; chain_store_memory for tests. Any thread. */
struct chain_store {
    void *ctx;
    /* In one step: forget every header with number >= first, then append h[0..n) (numbers first, first + 1, …). n may be 0. */
    enum loam_status (*apply)(void *ctx, uint64_t first, const struct header *h, size_t n, struct err *err);
    /* LOAM_ENOTFOUND. by_hash finds canonical headers only. */
    enum loam_status (*by_number)(void *ctx, struct header *out, uint64_t number, struct err *err);
    enum loam_status (*by_hash)(void *ctx, struct header *out, const struct hash32 *hash, struct err *err);
    /* The highest; LOAM_ENOTFOUND when empty. */
    enum loam_status (*tip)(void *ctx, struct header *out, struct err *err);
    /* Small named values (anchor, evidence/…, signer). get appends to out. */
    enum loam_status (*put)(void *ctx, const char *key, const void *p, size_t n, struct err *err);
    enum loam_status (*get)(void *ctx, struct buf *out, const char *key, struct err *err);
};
enum loam_status chain_store_memory(struct chain_store *out, struct err *err) LOAM_MUST_USE;
/* Keeps the newest headers only: at least `most`, at most twice as many. */
enum loam_status chain_store_memory_most(struct chain_store *out, size_t most, struct err *err) LOAM_MUST_USE;
void chain_store_memory_free(struct chain_store *s);

/* A deployed contract whose code must have this hash. */
struct chain_code {
    const char *name;
    struct addr20 addr;
    struct hash32 code_hash;
};

struct chain_config {
    uint64_t chain_id;
    struct header_rules rules;
    bool has_genesis; /* genesis: hash of block 0; taken from the first answer and kept where not given */
    struct hash32 genesis;
    /* Where linking starts: a block known from outside. Default: block 0. */
    bool has_anchor;
    uint64_t anchor_number;
    struct hash32 anchor_hash;
    bool from_head; /* the first agreed head instead: for chains too long to link from genesis */
    unsigned agree_k;         /* how many endpoints must name the same head; 0: 1 */
    uint64_t poll_ms;         /* 0: 1000 */
    uint64_t stale_s;         /* a head older than this is stale (0: never; a development chain stands still) */
    const struct chain_code *codes;
    size_t code_count;
    /* The sequencer's keys whose signature is taken: the current one and, through a rotation, the last. Feeds: base URLs of HTTP
     * bridges (GET feed/latest), each asked every round on a thread of its own: Helios' JSON form, or, as
     * application/octet-stream, the gossip message itself (snappy). Borrowed until chain_free. */
    struct addr20 signers[CHAIN_SIGNERS_MAX];
    size_t signer_count;
    const char *feeds[CHAIN_FEEDS_MAX];
    size_t feed_count;
    /* Asked for proofs of older blocks where the RPCs keep none: archives. Borrowed until chain_free; NULL: none. */
    struct rpc *archive;
};

struct chain_head {
    struct header h;
    enum known how;     /* the best word for this block */
    enum known link_to; /* how == KNOWN_LINKED: what it is linked to */
    unsigned agree_k, agree_n; /* endpoints that named this head, of those asked */
    uint64_t lag_s;     /* age of the head by this machine's clock */
    bool stale;
    bool following;     /* false while catching up */
    uint64_t target;    /* the number the RPCs name */
    uint64_t reorgs;    /* since the start */
    uint64_t anchored;  /* highest number anchored on L1, 0 if none */
    uint64_t signed_to, proposed, resolved; /* highest number with each word, 0 if none */
};
struct chain_reorg {
    uint64_t common;      /* highest block on both */
    uint64_t old_tip, new_tip;
    struct hash32 old_hash, new_hash;
    uint64_t at_unix_ms;
};

/* Any may be NULL. reorg comes before the store forgets the lost headers: undo what rests on numbers > common. */
struct chain_events {
    void *arg;
    void (*head)(void *arg, const struct chain_head *h);
    enum loam_status (*reorg)(void *arg, const struct chain_reorg *r, struct err *err);
    void (*fault)(void *arg, enum loam_status s, const struct err *e); /* a lie or failure met while following */
};

/* s is a lie (not a network fault or an honest "no"): costs score. */
bool chain_is_lie(enum loam_status s);

struct chain;
/* rpc and what store and cfg point to must outlive it; cfg itself is copied, codes too. */
enum loam_status chain_new(struct chain **out, const struct chain_config *cfg, struct rpc *rpc, const struct chain_store *store,
                           const struct chain_events *ev, struct err *err) LOAM_MUST_USE;
void chain_free(struct chain *c); /* stops first */
/* Chain id, genesis and contract code hashes of every endpoint that answers. LOAM_ECHAIN, LOAM_EGENESIS, LOAM_ECODE. */
enum loam_status chain_check(struct chain *c, struct err *err) LOAM_MUST_USE;
/* The thread that follows the head. chain_poke: look now (a newHeads message came; any thread). */
enum loam_status chain_start(struct chain *c, struct err *err) LOAM_MUST_USE;
void chain_poke(struct chain *c);
/* Joins the thread; whoever waits for the network through this chain gets LOAM_ECANCEL, also later, until chain_start. */
void chain_stop(struct chain *c);
/* One round: ask the heads, link up to the agreed one. For tests, and before chain_start. */
enum loam_status chain_sync(struct chain *c, struct err *err) LOAM_MUST_USE;
/* (loop) The verified head; LOAM_ENOTFOUND before the first. */
enum loam_status chain_head(struct chain *c, struct chain_head *out, struct err *err) LOAM_MUST_USE;
/* Waits until the verified head is at least number. LOAM_ETIMEOUT. */
enum loam_status chain_wait(struct chain *c, uint64_t number, uint64_t timeout_ms, const struct http_cancel *cancel,
                            struct err *err) LOAM_MUST_USE;
/* A verified canonical header. LOAM_ENOTFOUND: not (yet) in the chain. */
enum loam_status chain_header(struct chain *c, struct header *out, uint64_t number, struct err *err) LOAM_MUST_USE;
enum loam_status chain_header_by_hash(struct chain *c, struct header *out, const struct hash32 *hash, struct err *err) LOAM_MUST_USE;
uint64_t chain_network(const struct chain *c); /* chain id */
struct rpc *chain_endpoints(struct chain *c);

/* Verified reads, pinned to the header given (`at`; NULL: the verified head). Endpoints that lie are blamed and the next
 * is asked; the last error comes back when none answers truly. LOAM_EUNAVAILABLE: an older block whose state neither the RPCs nor
 * the archive (if one is configured) prove. */
enum loam_status chain_account(struct chain *c, struct account *out, const struct addr20 *addr, const struct header *at,
                               struct err *err) LOAM_MUST_USE;
/* values[i] of slots[i], n <= 256. */
enum loam_status chain_slots(struct chain *c, struct u256 *values, const struct addr20 *addr, const struct hash32 *slots, size_t n,
                               const struct header *at, struct err *err) LOAM_MUST_USE;
/* Appends the code; its hash is the account's proven one. An account without code gives no bytes. */
enum loam_status chain_code(struct chain *c, struct buf *out, const struct addr20 *addr, const struct header *at, struct err *err) LOAM_MUST_USE;
/* Slot of a mapping's element: keccak(key | slot); of a dynamic array's element 0: keccak(slot). */
void chain_slot_map(struct hash32 *out, const uint8_t key[32], const struct hash32 *slot);
void chain_slot_map_u64(struct hash32 *out, uint64_t key, uint64_t slot);
void chain_slot_map_addr(struct hash32 *out, const struct addr20 *key, uint64_t slot);
void chain_slot_array(struct hash32 *out, uint64_t slot, uint64_t index);

/* EIP-2935: the hash of an older block (up to 8191 back), proven at `at` (NULL: the head). And the header behind it, fetched and
 * checked against that hash: a jump without the blocks between. From Isthmus on. */
enum loam_status chain_history_hash(struct chain *c, struct hash32 *out, uint64_t number, const struct header *at, struct err *err) LOAM_MUST_USE;
enum loam_status chain_history_header(struct chain *c, struct header *out, uint64_t number, const struct header *at, struct err *err) LOAM_MUST_USE;

/* Signed heads. A message of the sequencer: verified (payload.h), linked (blocks missing before it are fetched), stored, and
 * the head's word becomes `signed`. version 0: from its form. LOAM_OK also for one that is known already. LOAM_EREPLAY: an old one
 * that is not in the chain. LOAM_EEQUIVOCATION: another block of that height was signed before; both are kept as evidence and the
 * first stays. LOAM_EDISAGREE: the RPCs have another block there. */
enum loam_status chain_signed(struct chain *c, const struct payload_message *m, unsigned version, struct err *err) LOAM_MUST_USE;
/* Asks each configured feed once, whatever its health: LOAM_OK if any gave a good message, else the last error. */
enum loam_status chain_feed_poll(struct chain *c, struct err *err) LOAM_MUST_USE;
/* Health of feed i, as rpc_health has it for RPCs: what it says wrongly costs its score, and it rests. False: there is none. */
bool chain_feed_health(struct rpc_health *out, struct chain *c, size_t i);
/* A new key of the sequencer (proven on L1): taken from now on; the one before stays good, through the rotation. */
void chain_signer_set(struct chain *c, const struct addr20 *signer);
/* How many equivocations are kept; evidence i appended to out: twice (signature 65, u32le length, signed bytes). */
size_t chain_evidence_count(struct chain *c);
enum loam_status chain_evidence(struct chain *c, struct buf *out, size_t i, struct err *err) LOAM_MUST_USE;

/* All receipts of a verified block, checked against its receipts root, with the transactions checked against theirs. */
struct chain_block {
    struct header h;
    struct hash32 *tx_hashes;
    struct addr20 *created; /* of each transaction: the contract it makes, by its sender and nonce; zero where none */
    struct receipt *receipts;
    size_t count;
    bool has_l1; /* begins with an attributes deposit of OP Stack's */
    struct l1_attributes l1;
};
enum loam_status chain_block(struct chain *c, struct chain_block *out, const struct header *h, struct err *err) LOAM_MUST_USE;
void chain_block_clear(struct chain_block *b);
/* One transaction's receipt: LOAM_ENOTFOUND while it is in no block of the verified chain. */
struct chain_receipt {
    struct hash32 tx_hash, block_hash;
    uint64_t block, index;
    bool ok;
    uint64_t gas_used;
    bool has_sender_nonce;   /* a deposit, Canyon on: the nonce its sender had before it, which the receipts root covers */
    uint64_t sender_nonce;
    struct addr20 created; /* contract made, if the transaction was a creation (all zero otherwise) */
    struct log *logs;      /* owned */
    size_t log_count;
    struct buf bytes;
    uint64_t depth; /* verified blocks on top of it */
};
enum loam_status chain_receipt(struct chain *c, struct chain_receipt *out, const struct hash32 *tx, struct err *err) LOAM_MUST_USE;
/* Polls until it is there with at least depth blocks on top. */
enum loam_status chain_receipt_wait(struct chain *c, struct chain_receipt *out, const struct hash32 *tx, uint64_t depth,
                                    uint64_t timeout_ms, const struct http_cancel *cancel, struct err *err) LOAM_MUST_USE;
void chain_receipt_clear(struct chain_receipt *r);

/* Logs of from..to (inclusive, all verified headers), complete: every header's bloom is checked, every block that may
 * hold a match is fetched and rebuilt. fn gets each match in order; non-zero stops. */
struct chain_filter {
    const struct addr20 *addrs; /* any of them; none: every address */
    size_t addr_count;
    const struct hash32 *topics; /* topic 0: any of them; none: every topic */
    size_t topic_count;
};
typedef enum loam_status (*chain_log_fn)(void *arg, const struct log *l, struct err *err);
enum loam_status chain_logs(struct chain *c, uint64_t from, uint64_t to, const struct chain_filter *f, chain_log_fn fn, void *arg,
                            struct err *err) LOAM_MUST_USE;

/* Sending. Nonce and balance are proven; gas and fees are the RPC's word, bounded by the header's base fee. */
/* The RPC's pending count, never under the proven nonce. */
enum loam_status chain_nonce(struct chain *c, uint64_t *out, const struct addr20 *addr, struct err *err) LOAM_MUST_USE;
/* eth_call at the verified head: the RPC's word. A revert is LOAM_EREVERT; its data is appended to out (may be NULL). */
enum loam_status chain_call(struct chain *c, struct buf *out, const struct addr20 *from, const struct addr20 *to, const void *data,
                            size_t n, struct u256 value, struct err *err) LOAM_MUST_USE;
/* Gas for the call and a fifth on top; reverts as chain_call (data to revert, may be NULL). to NULL: creation. */
enum loam_status chain_gas(struct chain *c, uint64_t *out, struct buf *revert, const struct addr20 *from, const struct addr20 *to,
                           const void *data, size_t n, struct u256 value, struct err *err) LOAM_MUST_USE;
/* Max fee (twice the head's base fee and the tip) and tip, per gas. */
enum loam_status chain_fees(struct chain *c, struct u256 *max_fee, struct u256 *tip, struct err *err) LOAM_MUST_USE;
/* The hash is computed here; an RPC that names another one is blamed (LOAM_ETXHASH). "already known" is success. */
enum loam_status chain_send(struct chain *c, struct hash32 *hash, const void *raw, size_t n, struct err *err) LOAM_MUST_USE;

/* The light client's part of chains/ID.json; other keys are the node's and ignored here:
 *   chain_id (integer), profile ("op", "anvil", "l1"; default "op"), genesis (hash), anchor {number, hash}, start ("head"), block_time (s),
 *   elasticity, denominator, denominator_canyon, agree, poll_ms, stale_s (integers),
 *   forks {canyon, ecotone, fjord, granite, holocene, isthmus, jovian: seconds or null; absent object: schedule unknown},
 *   contracts {name: {address, code_hash}} (those with a code_hash are checked),
 *   signers [address…] and feed (URL or [URL…]): signed heads.
 * chain_config_clear frees. */
enum loam_status chain_config_from_json(struct chain_config *out, const json_t *o, struct err *err) LOAM_MUST_USE;
void chain_config_clear(struct chain_config *cfg);

#endif
