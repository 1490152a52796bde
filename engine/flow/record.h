/* record: answers and their attribution as one batch on the chain.
 *
 * Table BATCH, key = batch (u64 be): {batch, poster, key, statement:{…}, statement_hash, signature, data_hash, trace_root, trace_salt,
 *   answers:[ids], vouchers:[…], fault|absent, tx, block}; trace_root and trace_salt stay in the poster's node until openTrace.
 * Table PAYOUT, key = poster (u64 be): {batch, root, lines:[{account, cumulative}]}: the last settled table (settle writes it). */
#ifndef LOAM_FLOW_RECORD_H
#define LOAM_FLOW_RECORD_H

#include "base/u256.h"
#include "flow/batchdoc.h"

enum record_fault {
    FAULT_NONE,
    FAULT_MOVE_WEI, /* one wei moved between two contributors: only re-execution shows it */
    FAULT_BAD_SUM,  /* a payout line too large: two neighbours show it to the contract */
    FAULT_BAD_END,  /* a contributor is given 1000 OPEN and the sums follow: the last line shows it */
    FAULT_DECREASE, /* an account has one wei less than before */
    FAULT_MISSING,  /* an account of the last settled table is left out, in the middle */
    FAULT_MISSING_END, /* the same, the last one */
    FAULT_SEQUENCE, /* the first call has a number that is not due */
    FAULT_FEE,      /* the first call takes more than its request allows */
    FAULT_LINK,     /* the first attribution speaks of another call */
    FAULT_COUNT,    /* one call more is stated than there is */
    FAULT_CLAIM,    /* the claim tree gives one wei more than the payout tree */
    FAULT_KINDS
};
/* "move-wei"; "" for FAULT_NONE. */
const char *fault_name(enum record_fault f);
bool fault_find(enum record_fault *out, const char *name);

struct flow_record {
    const uint64_t *answers; /* ids of ask */
    size_t count;
    const char *key;   /* server and poster */
    struct u256 fee;   /* wei a call that nobody's request pays: out of the server's own escrow */
    struct u256 bond;  /* at least the contract's minimum */
    enum record_fault fault; /* development chain only: LOAM_EPERM elsewhere */
};
/* Signs Inferences, Attributions and the Batch; answers that were paid for (pay.h) bring their payer's Request and Voucher, which are taken as they
 * are; others are paid by the server itself, out of its own escrow, which is filled up. Posts with the bond. A payer's calls in one batch
 * must make an amount for which it signed a voucher (LOAM_ESTATE): with one price any of them do.
 * *out: {batch, poster, calls, fee_wei, bond_wei, payouts:[{account, wei}], tx, block, new:bool}. Answers that are in a batch which
 * was not voided or slashed are not recorded twice: that batch is the result ("new": false). */
enum loam_status flow_record(struct flow *f, json_t **out, const struct flow_record *q, struct err *err) LOAM_MUST_USE;

/* Request.samplerHash of the sampler object as stored in answers: keccak(lm_sampler_hash ‖ u32be most tokens ‖ each stop string as u32be length ‖
 * bytes): all that decides when an answer ends is in what the payer signs. */
enum loam_status sampler_hash(struct hash32 *out, const json_t *sampler, struct err *err) LOAM_MUST_USE;
/* "end" to its number in Inference (lm/generate.h); 0 where unknown. */
unsigned stop_number(const char *name);
/* The last settled table of a poster, as this node knows it; checked against the contract's root. LOAM_ESTATE if it is not known. */
enum loam_status settled_table(struct flow *f, struct payouts *out, uint64_t poster, struct err *err) LOAM_MUST_USE;
json_t *payout_lines(const struct payouts *p, bool prefix); /* [{account, cumulative(, prefix)}] */

#endif
