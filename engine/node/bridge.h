/* What goes to the L2 through its L1: deposits by OptimismPortal. Each is one durable transaction on L1 (node/outbox.h), its event read
 * from a verified L1 receipt, the L2 transaction it becomes worked out from that, and that one's receipt verified on the L2. Job
 * threads only. Results are new JSON objects. */
#ifndef LOAM_NODE_BRIDGE_H
#define LOAM_NODE_BRIDGE_H

#include "base/status.h"
#include "base/u256.h"
#include "record/types.h"

#include <jansson.h>
#include <stdbool.h>

struct node;
struct job;

/* Sends the pending transaction of this outbox key (NULL: the oldest) again as a deposit: same sender, target, value and data, which the
 * sequencer must include within its window. What is asked of people stands in front, in plan: {key, what, from, to, value_wei, portal,
 * l1}. */
enum loam_status bridge_force_plan(struct node *n, json_t **plan, const char *key, struct job *j, struct err *err) LOAM_MUST_USE;
/* Two deposits: an empty one that uses up the stuck transaction's nonce, so that the two cannot both count, then the one that does the same; only
 * the first where the sequencer had included the transaction before it. {key, l1_tx, l1_block, l2_tx, l2_block, by, forced, ok}. LOAM_EUNSUPPORTED before
 * Canyon. */
enum loam_status bridge_force(struct node *n, json_t **out, const json_t *plan, struct job *j, struct err *err) LOAM_MUST_USE;

/* wei of the L2's coin from L1 to the address `to` on the L2: L1's own coin, or the ERC-20 that pays for gas there (approve, then
 * deposit). key: outbox prefix, the same after a resume. {l1_tx, l1_block, l2_tx, l2_block, token, ok}. */
struct bridge_in {
    const char *from, *key;
    struct addr20 to;
    struct u256 wei;
};
enum loam_status bridge_in(struct node *n, json_t **out, const struct bridge_in *q, struct job *j, struct err *err) LOAM_MUST_USE;
/* The token that is bridged (zero: L1's coin) and the portal. */
enum loam_status bridge_parts(struct node *n, struct addr20 *token, struct addr20 *portal, uint64_t *l1_id, struct job *j, struct err *err) LOAM_MUST_USE;

/* Coins of a development chain for an address (anvil_setBalance), then proven. LOAM_EPERM elsewhere. {address, balance_wei}. */
enum loam_status bridge_fund_dev(struct node *n, json_t **out, const struct addr20 *to, struct u256 wei, struct job *j, struct err *err) LOAM_MUST_USE;

#endif
