/* account register / show. */
#ifndef LOAM_FLOW_ACCOUNT_H
#define LOAM_FLOW_ACCOUNT_H

#include "flow/ctx.h"

/* Registers the address of `key` as a signing key. payout and recovery: NULL for the key's own address. relay: the key that
 * pays the gas (NULL: the same key). *out: {account, key, signing, payout, recovery, new:bool}. A key that has an account
 * keeps it ("new": false). */
enum loam_status flow_account_register(struct flow *f, json_t **out, const char *key, const struct addr20 *payout,
                                       const struct addr20 *recovery, const char *relay, struct err *err) LOAM_MUST_USE;
/* {account, signing, payout, recovery, key|null, balance_wei (of the payout address), escrow_wei, nonce of the signing key}, all by proof. */
enum loam_status flow_account_show(struct flow *f, json_t **out, uint64_t account, struct err *err) LOAM_MUST_USE;

#endif
