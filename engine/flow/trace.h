/* trace: from a payment back to the rows behind it and the key that contributed them, every link verified anew. */
#ifndef LOAM_FLOW_TRACE_H
#define LOAM_FLOW_TRACE_H

#include "flow/ctx.h"

/* payment: hash of the claim's transaction. peer as in validate. *out: {payment, poster, account, amount_wei, batches, links:[{link, how, text}],
 * calls:[{batch, sequence, prompt, fee_wei, amount_wei, share_ppm, rows:[{row, score, contribution, index, text}]}]}. LOAM_EVERIFY (and the
 * like) names the link that does not hold. */
enum loam_status flow_trace(struct flow *f, json_t **out, const struct hash32 *payment, const char *peer, struct err *err) LOAM_MUST_USE;

/* One row by its hash, and the statement that it was contributed under, verified: its leaf under the contribution's signed root, the
 * contribution by a verified log, the signature recovered. *out: {row, text, index, contribution, account, datanet, licence, tx, block,
 * row_root, statement:{…}, signature, links as above}. LOAM_ENOTFOUND where no contribution known here holds it. */
enum loam_status flow_row(struct flow *f, json_t **out, const struct hash32 *row, const char *peer, struct err *err) LOAM_MUST_USE;

#endif
