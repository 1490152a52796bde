/* settle: a batch through its windows to its end. Draws where nobody has, opens the poster's trace when no verdict can be
 * committed any more, finalizes when the contract allows it, and keeps the settled payout table. Anybody may run it; only the poster's
 * node can open the trace. */
#ifndef LOAM_FLOW_SETTLE_H
#define LOAM_FLOW_SETTLE_H

#include "flow/ctx.h"
#include "record/payout.h"

/* *out: {batch, poster, state:"settled"|"voided"|"slashed", reason, fee_wei, weight_valid_wei, weight_invalid_wei, payouts:[{account, cumulative}]}. A batch
 * that has ended is told as it ended. */
enum loam_status flow_settle(struct flow *f, json_t **out, uint64_t batch, const char *key, const char *peer, struct err *err) LOAM_MUST_USE;

/* The settled table of a poster, wherever it has to come from (this node's records, else the last settled batch's bytes from peer),
 * checked against the contract's root. *batch (may be NULL) gets the batch it came with. LOAM_ENOTFOUND: nothing settled yet. */
enum loam_status poster_table(struct flow *f, struct payouts *out, uint64_t poster, const char *peer, uint64_t *batch, struct err *err) LOAM_MUST_USE;

#endif
