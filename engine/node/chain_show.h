/* Parts of the chain as JSON for people and scripts, verified by the light client before they are shown. Job threads only.
 * *out: a new reference. Errors: those of node_chain_ready and of net/chain.h. */
#ifndef LOAM_NODE_CHAIN_SHOW_H
#define LOAM_NODE_CHAIN_SHOW_H

#include "record/types.h"

#include <jansson.h>

struct node;
struct job;

/* block: a number, a hash, or "latest". Header recomputed and linked, transactions and receipts rebuilt to its roots. */
enum loam_status node_chain_show_block(struct node *n, json_t **out, const char *block, struct job *j, struct err *err) LOAM_MUST_USE;
/* A transaction's receipt. LOAM_ENOTFOUND while it is in no block. */
enum loam_status node_chain_show_tx(struct node *n, json_t **out, const struct hash32 *hash, struct job *j, struct err *err) LOAM_MUST_USE;
/* One slot, proven at that block. */
enum loam_status node_chain_show_storage(struct node *n, json_t **out, const struct addr20 *a, const struct hash32 *slot, const char *block,
                                         struct job *j, struct err *err) LOAM_MUST_USE;
/* The chain's file for another node; anchored: it begins at our verified head. */
enum loam_status node_chain_show_file(struct node *n, json_t **out, bool anchored, struct job *j, struct err *err) LOAM_MUST_USE;
/* Balance, nonce, code hash, proven at that block. LOAM_EUNAVAILABLE: nobody keeps its state any more. */
enum loam_status node_chain_show_account(struct node *n, json_t **out, const struct addr20 *a, const char *block, struct job *j,
                                         struct err *err) LOAM_MUST_USE;
/* Logs of one contract (and, unless NULL, one topic 0) of the blocks from to to, complete: every bloom is checked, every block that
 * may hold one is rebuilt. At most limit, the first ones; LOAM_ERANGE: from after to, or a block that is not held. */
enum loam_status node_chain_show_logs(struct node *n, json_t **out, const struct addr20 *a, const struct hash32 *topic, uint64_t from, uint64_t to,
                                      uint64_t limit, struct job *j, struct err *err) LOAM_MUST_USE;

#endif
