/* claim and rewards: what was settled for an account, out of the pot that proves it.
 * Table CLAIM, key = poster (u64 be) ‖ account (u64 be) ‖ cumulative (32, be): {poster, account, to, amount_wei, cumulative_wei, tx, block, batch}. */
#ifndef LOAM_FLOW_CLAIM_H
#define LOAM_FLOW_CLAIM_H

#include "flow/ctx.h"

/* Claims for an account out of a poster's pot; relay pays the gas. The payout address's balance is read by proof in the block before and the
 * block of the claim, and must rise by exactly the claimed amount (unless relay's own address is paid, or something else pays it in that block).
 * *out: {poster, account, to, amount_wei, before_wei, after_wei, exact:bool, cumulative_wei, tx, block}; amount_wei "0" where nothing is due. */
enum loam_status flow_claim(struct flow *f, json_t **out, uint64_t poster, uint64_t account, const char *relay, const char *peer,
                            struct err *err) LOAM_MUST_USE;
/* [{poster, settled_wei, claimed_wei, lines:[{account, cumulative_wei, paid_wei, due_wei}]}] of every poster with a pot, by proof; also sets
 * the rewards topic. account 0: all. */
enum loam_status flow_rewards(struct flow *f, json_t **out, uint64_t account, bool all, const char *peer, struct err *err) LOAM_MUST_USE;
/* Accounts that ever settled a batch, ascending; new reference to an array of integers. */
enum loam_status posters_list(struct flow *f, json_t **out, struct err *err) LOAM_MUST_USE;

#endif
