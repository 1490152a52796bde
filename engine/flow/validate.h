/* validate: a second node's verdict on a batch.
 *
 * Ladder, cheapest first: the posted statement against the contract → bytes by hash from the poster's API → roots, counts, sums and
 * split → signatures → re-execution of every inference and attribution, compared bit for bit → commit → reveal. What a contract
 * can be shown (dispute.h) is shown to it at once.
 *
 * Table VALIDATION, key = batch (u64 be): {batch, poster, verdict:"valid"|"invalid", reason, trace_root, salt, lie, at, proven:bool}. */
#ifndef LOAM_FLOW_VALIDATE_H
#define LOAM_FLOW_VALIDATE_H

#include "flow/ctx.h"

/* peer: base URL of a node that holds the poster's bytes, or NULL. *out: {batch, poster, drawn:bool, verdict, reason, state, trace_root,
 * proven:bool, calls, seconds}. Runs until the verdict is revealed (or shown to the contract). Without a seat in the committee the check is
 * made all the same and nothing is committed. */
enum loam_status flow_validate(struct flow *f, json_t **out, uint64_t batch, const char *key, const char *peer, struct err *err) LOAM_MUST_USE;

/* Every batch that is posted from now on (and those still open), each from the moment it is seen, a few at a time in jobs of their own, until it is
 * cancelled; a batch that fails is tried again and then left out with a note. Goes on after a restart where it was. */
enum loam_status flow_validate_watch(struct flow *f, const char *key, const char *peer, struct err *err) LOAM_MUST_USE;

#endif
