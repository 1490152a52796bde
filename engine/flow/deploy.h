/* chain deploy: the seven contracts, from the creation code compiled into loam. Each knows the others' addresses from its
 * constructor, computed from the deployer's nonce; nothing is set afterwards. */
#ifndef LOAM_FLOW_DEPLOY_H
#define LOAM_FLOW_DEPLOY_H

#include "flow/ctx.h"

struct deploy_params {
    uint64_t reveal_window;   /* seconds a contribution may stay committed */
    uint64_t seed_delay;      /* blocks */
    struct u256 min_stake;    /* wei */
    uint64_t unbond_delay, recovery_delay; /* seconds */
    uint64_t draw_delay;      /* blocks */
    uint64_t commit_window, verdict_window, challenge_window, demand_window, escrow_delay; /* seconds */
    struct u256 min_bond, void_penalty, demand_deposit, validator_penalty;
    uint64_t committee_size, void_quorum; /* of 10000 */
};
/* Short windows for the development chain, long ones elsewhere (longer than an OP Stack's sequencing window). */
struct deploy_params deploy_defaults(bool dev);

/* Deploys with `key`, whose address becomes the platform's signing, payout and recovery key unless given (NULL). LOAM_OK with
 * {"deployed":false, …} where the data folder has contracts already. *out: {deployed, deployer, block, contracts:{name:
 * {address, code_hash}}}. LOAM_ESTATE if another transaction of the key came between: start afresh. */
enum loam_status flow_deploy(struct flow *f, json_t **out, const char *key, const struct addr20 *payout, const struct addr20 *recovery,
                             const struct deploy_params *p, struct err *err) LOAM_MUST_USE;

#endif
