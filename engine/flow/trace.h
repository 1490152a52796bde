/* trace: from a payment back to the rows behind it and the key that contributed them, every link verified anew. */
#ifndef LOAM_FLOW_TRACE_H
#define LOAM_FLOW_TRACE_H

#include "flow/ctx.h"

/* payment: hash of the claim's transaction. peer as in validate. *out: {payment, poster, account, amount_wei, batches, links:[{link, how, text}],
 * calls:[{batch, sequence, prompt, fee_wei, amount_wei, share_ppm, rows:[{row, score, contribution, index, text}]}]}. LOAM_EVERIFY (and the
 * like) names the link that does not hold. */
enum loam_status flow_trace(struct flow *f, json_t **out, const struct hash32 *payment, const char *peer, struct err *err) LOAM_MUST_USE;

#endif
