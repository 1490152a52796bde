/* A simulated OP Stack chain (and L1), for tests of the light client: real tries, proofs, signatures, receipts; blocks by
 * rules of Isthmus, or of other forks by their times. It answers JSON-RPC as an honest node; lies are put in by the tests. Not thread-safe: lock it. */
#ifndef LOAM_TESTS_SIM_H
#define LOAM_TESTS_SIM_H

#include "net/chain.h"
#include "net/payload.h"

#define SIM_ACCOUNTS 20
#define SIM_SLOTS 24
#define SIM_TXS 6
#define SIM_POOL 4 /* transactions that wait for the next block */

struct sim_account {
    struct addr20 addr;
    uint64_t nonce;
    struct u256 balance;
    uint8_t code[192];
    size_t code_len;
    struct hash32 slot[SIM_SLOTS];
    struct u256 value[SIM_SLOTS];
    size_t slots;
};
struct sim_block {
    struct header h;
    struct buf tx[SIM_TXS];
    size_t txs;
    json_t *receipts; /* array */
    struct sim_account acc[SIM_ACCOUNTS];
    size_t accs;
};
struct sim {
    uint64_t chain_id;
    bool l1;
    struct header_rules rules;
    struct sim_block *b;
    size_t n, cap;
    struct sim_account acc[SIM_ACCOUNTS]; /* state after the newest block, to be edited before sim_mine */
    size_t accs;
    uint8_t salt;         /* changes the blocks mined from now on (reorgs) */
    struct header l1_origin; /* what the attributes deposit names */
    struct hash32 sent;   /* hash of the last transaction sent to it */
    /* Transactions sent to it go into the next block (pools: that block is the next sim_mine); amounts and nonces change. */
    bool pools, censors; /* censors: what is sent is said to be taken, and left out */
    struct buf pool[SIM_POOL];
    size_t pooled;
    struct buf kept; /* the newest that was left out */
    struct addr20 portal; /* L1: a deposit to it makes its event. L2: whose events become deposits */
    struct sim *parent;   /* L2: its L1, whose blocks up to `derived` were taken over */
    size_t derived;
    struct addr20 token;  /* L1: the ERC-20 that pays for gas on the L2; zero: none */
    bool no_old_proofs;   /* proofs of the head's state only */
};

extern const uint8_t sim_user_key[32], sim_sequencer_key[32];
extern const struct addr20 sim_ledger; /* account 1: has code and slots; logs come from it */

void sim_init(struct sim *s, uint64_t chain_id, bool l1, uint64_t genesis_time);
void sim_init_forks(struct sim *s, uint64_t chain_id, bool l1, uint64_t genesis_time, const struct fork_times *forks);
void sim_clear(struct sim *s);
struct sim_account *sim_account(struct sim *s, const struct addr20 *a); /* made if missing */
void sim_set(struct sim *s, const struct addr20 *a, const struct hash32 *slot, struct u256 v);
/* One block; with_tx: a user's transaction whose receipt has a log of sim_ledger (topic 7, data: the block's number). */
void sim_mine(struct sim *s, bool with_tx);
/* L1's contracts as of now, for L2 blocks `resolved` and `proposed`: SystemConfig, factory with two games (claims in their code), the
 * anchor state registry (new layout). */
extern const struct addr20 sim_system_config, sim_factory, sim_registry, sim_portal, sim_token;
void sim_l1_contracts(struct sim *l1, const struct sim *l2, uint64_t resolved, uint64_t proposed, const struct addr20 *signer);
void sim_reorg(struct sim *s, size_t depth, size_t grow); /* drops depth blocks, mines depth + grow others */
json_t *sim_header_json(const struct header *h);
void sim_header_rehash(json_t *o); /* sets "hash" to what the fields hash to */
json_t *sim_answer(struct sim *s, const char *method, const json_t *params);
/* The payload of block n, signed by the sequencer, in Helios' form. */
json_t *sim_feed(struct sim *s, size_t n, const uint8_t key[32], uint64_t chain_id);
/* The same as the gossip message (snappy), appended. */
void sim_gossip(struct buf *out, struct sim *s, size_t n, const uint8_t key[32], uint64_t chain_id);

#endif
