/* Anchoring an L2 on L1: what the SystemConfig, L2OutputOracle, DisputeGameFactory and AnchorStateRegistry say, read by storage
 * proofs alone at one verified L1 header; and the word `anchored` it gives to L2 headers. L1 itself is a struct chain with
 * rules.l1 (k of n RPCs). Waiting calls; not for the loop's thread. Layouts: notes of the OP Stack's contracts, storageLayout
 * snapshots of ethereum-optimism/optimism. */
#ifndef LOAM_NET_ANCHOR_H
#define LOAM_NET_ANCHOR_H

#include "net/chain.h"

/* Slots of L1's contracts (their storage layouts in optimism, packages/contracts-bedrock/snapshots/storageLayout). The registry's new layout: the
 * game, the starting anchor (root, then block), the blacklist, the respected type with the retirement time. */
enum {
    SLOT_SYSTEM_BATCHER = 103,
    SLOT_SYSTEM_GAS_LIMIT = 104,
    SLOT_ORACLE_OUTPUTS = 3,
    SLOT_FACTORY_BY_UUID = 103,
    SLOT_FACTORY_LIST = 104,
    SLOT_GAME_STATUS = 0,
    SLOT_REGISTRY_ANCHORS = 1,
    SLOT_REGISTRY_GAME = 2,
    SLOT_REGISTRY_START = 3,
    SLOT_REGISTRY_BLACKLIST = 5,
    SLOT_REGISTRY_RESPECTED = 6
};

struct anchor_parts {
    struct addr20 signer, portal, factory, inbox, batcher;
    struct addr20 gas_token; /* the ERC-20 that pays for gas on the L2 (contracts of October 2024); zero: L1's own coin, or not told */
    uint64_t gas_limit;
};
/* From the SystemConfig proxy's address alone. Parts that this deployment lacks are zero. */
enum loam_status anchor_discover(struct anchor_parts *out, struct chain *l1, const struct addr20 *system_config, const struct header *at,
                                 struct err *err) LOAM_MUST_USE;

struct anchor_output {
    struct hash32 root;
    uint64_t number;    /* L2 block */
    uint64_t timestamp; /* L1 time of the proposal */
    bool resolved;
};
/* Legacy L2OutputOracle: output number index (UINT64_MAX: the last). resolved: final_s have passed at the L1 header's time. */
enum loam_status anchor_oracle(struct anchor_output *out, struct chain *l1, const struct addr20 *oracle, uint64_t index, uint64_t final_s,
                               const struct header *at, struct err *err) LOAM_MUST_USE;
/* A dispute game of this type for exactly this claim: proven in the factory's mapping. LOAM_ENOTFOUND. */
struct anchor_game {
    uint32_t type;
    uint64_t created, resolved_at;
    struct addr20 proxy;
    unsigned status; /* 0 in progress, 1 challenger wins, 2 defender wins */
};
enum loam_status anchor_game(struct anchor_game *out, struct chain *l1, const struct addr20 *factory, uint32_t type, const struct hash32 *root,
                             uint64_t l2_number, const struct header *at, struct err *err) LOAM_MUST_USE;
/* How many games, and game i as the factory lists it (type, created, proxy; status is read too). */
enum loam_status anchor_games(uint64_t *count, struct chain *l1, const struct addr20 *factory, const struct header *at, struct err *err) LOAM_MUST_USE;
enum loam_status anchor_game_at(struct anchor_game *out, struct chain *l1, const struct addr20 *factory, uint64_t index, const struct header *at,
                                struct err *err) LOAM_MUST_USE;
/* AnchorStateRegistry, old layout (mapping of game types) or new (anchor game, else the starting root). new: *game is set
 * where a game is the anchor (out is then not). */
enum loam_status anchor_registry(struct anchor_output *out, struct addr20 *game, struct chain *l1, const struct addr20 *registry, uint32_t type,
                                 bool new_layout, const struct header *at, struct err *err) LOAM_MUST_USE;

/* The output root of one of our L2 headers: from the header alone from Isthmus on, else with a proof of the message passer. */
enum loam_status anchor_output_root(struct hash32 *out, struct chain *l2, const struct header *h, struct err *err) LOAM_MUST_USE;
/* What a game claims, read from its proven code (its immutable arguments stand behind the clone's: creator 20, root 32, L1 head 32,
 * L2 block number 32, then their length). LOAM_EUNSUPPORTED: no such form. */
enum loam_status anchor_claim(struct hash32 *root, uint64_t *l2_number, struct chain *l1, const struct addr20 *proxy, const struct header *at,
                              struct err *err) LOAM_MUST_USE;
/* L2 block `number` of ours against a root that stands on L1: marks it anchored. LOAM_EANCHOR where they differ. */
enum loam_status anchor_mark(struct chain *l2, uint64_t number, const struct hash32 *root, bool resolved, struct err *err) LOAM_MUST_USE;

struct anchor_config {
    bool has_system_config, has_oracle, has_factory, has_registry;
    struct addr20 system_config, oracle, factory, registry;
    uint64_t final_s;     /* of the oracle; of games: after they were resolved */
    uint32_t game_types;  /* bit mask of the types accepted: 1 << 0 cannon, 1 << 1 permissioned; 0: both */
    unsigned look_back;   /* games looked at, newest first; 0: 16 */
};
/* One round: the newest output or game whose L2 block we have. Fills anything known into out (may be NULL). LOAM_ENOTFOUND: nothing
 * on L1 that concerns our blocks yet. Anybody may propose: a game in progress that claims another root than ours is LOAM_EANCHOR only
 * if no other one agrees with us; one that was resolved for its claim always is. Games that the registry has retired or blacklisted
 * do not count; its anchor does. */
enum loam_status anchor_round(struct anchor_output *out, struct chain *l2, struct chain *l1, const struct anchor_config *cfg, struct err *err) LOAM_MUST_USE;

/* The L1 origin that an L2 block names (first deposit) must be L1's block of that number. LOAM_EORIGIN; LOAM_ENOTFOUND: L1 header
 * not held. */
enum loam_status anchor_origin(struct l1_attributes *out, struct chain *l2, const struct header *h, struct chain *l1, struct err *err) LOAM_MUST_USE;
/* L1 data fee values of an L2 block by proof of the L1Block predeploy's slots. */
enum loam_status anchor_l1_block(struct l1_attributes *out, struct chain *l2, enum l1_form form, const struct header *at, struct err *err) LOAM_MUST_USE;

/* What the L2 will take beside its own gas for the signed transaction raw[0..n): L1 data fee and, from Isthmus on, the operator fee for
 * `gas`, at the head, by the rule of its fork, from proven slots. Where fork times are not known they are told from the head's
 * form, and of two possible rules the dearer one counts. Zero on anvil and where there is no L1Block predeploy. */
enum loam_status anchor_data_fee(struct u256 *out, struct chain *l2, const void *raw, size_t n, uint64_t gas, struct err *err) LOAM_MUST_USE;

/* A service: follows L1 by its own RPCs and anchors the L2 every period. From the "l1" object of chains/ID.json:
 *   {urls: [RPC…], chain_id (1), agree (1), system_config | oracle | factory: address, registry: address, final_s, period_s (60),
 *    signer (false): take the sequencer's key from the SystemConfig as well, origins (true): check the L1 origin of every block,
 *    portal: address, where no system_config tells it}
 * It has a thread of its own; L1 headers are kept in memory only: ANCHOR_L1_BACK before the first agreed one, and at least
 * ANCHOR_L1_KEPT while it runs. ev (may be NULL, copied): faults met, and L1's own reorganisations. */
#define ANCHOR_L1_BACK 64
#define ANCHOR_L1_KEPT 1024
#define ANCHOR_ORIGINS_ROUND 64 /* blocks whose origin is checked in one round; a longer backlog is skipped and counted */
struct anchor_service;
enum loam_status anchor_service_new(struct anchor_service **out, struct http *http, struct chain *l2, const json_t *l1, const struct chain_events *ev,
                                    struct err *err) LOAM_MUST_USE;
/* L1's light client, for sending there; lives as long as the service. */
struct chain *anchor_service_l1(struct anchor_service *s);
/* The portal that deposits go to, and the SystemConfig's other parts, at L1's head. LOAM_ENOTFOUND: neither is configured. */
enum loam_status anchor_service_parts(struct anchor_parts *out, struct anchor_service *s, struct err *err) LOAM_MUST_USE;
/* Ends its thread, and every wait for L1 (LOAM_ECANCEL); the service can still be asked. Not on the loop's thread. */
void anchor_service_stop(struct anchor_service *s);
void anchor_service_free(struct anchor_service *s); /* stops first; not on the loop's thread; before chain_free of the l2 */
struct anchor_state {
    uint64_t l1_head, rounds;
    unsigned agree_k, agree_n;
    struct anchor_output last; /* number 0: none yet */
    uint64_t origin_to, origins, origins_skipped; /* L2 blocks: the newest whose L1 origin was checked, how many were, how many not */
    enum loam_status status;   /* of the last round */
    char error[160];
};
void anchor_service_state(struct anchor_state *out, struct anchor_service *s);

#endif
