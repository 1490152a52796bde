/* Disputes and demands: what anybody can do against a false or a silent batch while it is open.
 *
 * A lie that batch_doc_check calls provable is shown to the contract Disputes by leaves of the poster's own trees; the bond is slashed
 * in the same transaction, half of it paid to who proved it. A leaf that nobody can get is demanded: the poster shows it within the
 * demand window or loses the bond by silence. */
#ifndef LOAM_FLOW_DISPUTE_H
#define LOAM_FLOW_DISPUTE_H

#include "flow/batchdoc.h"
#include "flow/ledger.h"

/* The published document of a posted batch, from here or from peer. LOAM_EVERIFY: the bytes are those that the poster signed for, and they
 * are no batch. Other failures: they cannot be had. */
enum loam_status batch_fetch(struct flow *f, struct batch_doc *d, const struct st_batch *b, const char *peer, struct err *err) LOAM_MUST_USE;

/* Sends the proof of a provable lie (as batch_doc_check tells it) under the flow's step "prove". tx (may be NULL) gets its hash. */
enum loam_status dispute_prove(struct flow *f, enum batch_lie lie, uint64_t at, uint64_t batch, const struct st_batch *b, const struct batch_doc *d,
                               const char *key, struct hash32 *tx, struct err *err) LOAM_MUST_USE;

/* Checks an open batch as a contract could and proves what is false. *out: {batch, poster, lie:""|"sum"…, at, reason, provable:bool, proven:bool,
 * state, tx, reward_wei}. look: only says what is false. LOAM_ESTATE where nothing provable is false, or the batch has ended otherwise. */
enum loam_status flow_dispute(struct flow *f, json_t **out, uint64_t batch, const char *key, const char *peer, bool look, struct err *err) LOAM_MUST_USE;

/* Two different attestations of one validator for one batch cost it stake, whatever became of the batch. path: {"attestations":[{"attestation":{…},
 * "signature"}, {…}]}, as a validator gave them to people. *out: as flow_stake_status, with tx. LOAM_EINVAL where they are no such two,
 * LOAM_ESIG where the validator did not sign both. */
enum loam_status flow_accuse(struct flow *f, json_t **out, const char *path, const char *key, struct err *err) LOAM_MUST_USE;

/* Trees whose leaves can be demanded, in the contract's numbers. */
enum batch_tree { TREE_REQUESTS, TREE_INFERENCES, TREE_ATTRIBUTIONS, TREE_PAYOUTS, BATCH_TREES };
const char *batch_tree_name(enum batch_tree t); /* "requests" */
bool batch_tree_find(enum batch_tree *out, const char *name);

struct demand {
    struct addr20 by;
    uint64_t until; /* second of the chain's clock; 0: none is open */
    uint64_t index;
    unsigned tree;
};
enum loam_status demand_read(struct node *n, struct demand *out, uint64_t batch, struct err *err) LOAM_MUST_USE;

/* *out of all four: {batch, poster, open:bool, tree, index, until, by, state} (the last three where one is open), with tx where one was sent. */
enum loam_status flow_demand_show(struct flow *f, json_t **out, uint64_t batch, struct err *err) LOAM_MUST_USE;
/* Pays the contract's deposit, which the poster keeps if he answers. LOAM_ERANGE where the tree has no such leaf. */
enum loam_status flow_demand_leaf(struct flow *f, json_t **out, uint64_t batch, enum batch_tree tree, uint64_t index, const char *key, struct err *err) LOAM_MUST_USE;
/* Shows the demanded leaf, from the document; anybody who has it may. settle does it by itself on the poster's node. */
enum loam_status flow_demand_answer(struct flow *f, json_t **out, uint64_t batch, const char *key, const char *peer, struct err *err) LOAM_MUST_USE;
/* Slashes a poster who let the demand's time pass. LOAM_ESTATE with the seconds left while it has not. */
enum loam_status flow_demand_silence(struct flow *f, json_t **out, uint64_t batch, const char *key, struct err *err) LOAM_MUST_USE;

#endif
