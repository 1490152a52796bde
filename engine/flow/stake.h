/* validator stake / unbond / withdraw / collect / status. */
#ifndef LOAM_FLOW_STAKE_H
#define LOAM_FLOW_STAKE_H

#include "base/u256.h"
#include "flow/ctx.h"

/* Adds `wei` to the stake of the key's account; with `total`, only what is missing to that total (nothing if it is there).
 * *out: as status. */
enum loam_status flow_stake(struct flow *f, json_t **out, const char *key, struct u256 wei, bool total, struct err *err) LOAM_MUST_USE;
enum loam_status flow_unbond(struct flow *f, json_t **out, const char *key, struct u256 wei, struct err *err) LOAM_MUST_USE;
/* Pays what was unbonded long enough ago (withdraw) or the stakers' share (collect) to the account's payout address. *out has
 * amount_wei. */
enum loam_status flow_stake_withdraw(struct flow *f, json_t **out, const char *key, struct err *err) LOAM_MUST_USE;
enum loam_status flow_stake_collect(struct flow *f, json_t **out, const char *key, uint64_t account, struct err *err) LOAM_MUST_USE;
/* {account, stake_wei, unbonding_wei, release_s, since_block, active:bool, owed_wei, total_stake_wei}, by proof. */
enum loam_status flow_stake_status(struct flow *f, json_t **out, uint64_t account, struct err *err) LOAM_MUST_USE;

#endif
