/* What an OP Stack block says of L1: the attributes deposit, the L1Block predeploy, and the L1 data fee computed from them
 * (OP Stack specs: deposits, ecotone, fjord, isthmus, jovian). Pure. */
#ifndef LOAM_NET_L1_H
#define LOAM_NET_L1_H

#include "base/bytes.h"
#include "base/u256.h"
#include "net/receipt.h"
#include "net/tx.h"

#include <stdbool.h>

enum l1_form { L1_BEDROCK, L1_ECOTONE, L1_ISTHMUS, L1_JOVIAN };

struct l1_attributes {
    enum l1_form form;
    uint64_t number, timestamp, sequence;
    struct u256 base_fee, blob_base_fee;
    struct hash32 hash, batcher;
    uint32_t base_fee_scalar, blob_base_fee_scalar;  /* Ecotone on */
    struct u256 overhead, scalar;                     /* Bedrock */
    uint32_t operator_fee_scalar;                     /* Isthmus on */
    uint64_t operator_fee_constant;
    uint16_t da_footprint_scalar;                     /* Jovian */
};
/* Calldata of the first transaction of a block. LOAM_EORIGIN: neither of the forms. */
enum loam_status l1_attributes_decode(struct l1_attributes *out, const uint8_t *data, size_t n, struct err *err) LOAM_MUST_USE;

extern const struct addr20 l1_block_predeploy, l1_passer_predeploy;
#define L1_BLOCK_SLOTS 9 /* 0 to 8, in this order */
/* From proven slots of the predeploy (v[i] of slot i). The form says which meaning they have. */
void l1_attributes_from_slots(struct l1_attributes *out, const struct u256 v[L1_BLOCK_SLOTS], enum l1_form form);

enum l1_fee_rule { L1_FEE_BEDROCK, L1_FEE_REGOLITH, L1_FEE_ECOTONE, L1_FEE_FJORD };
/* Wei for publishing the signed transaction raw[0..n). LOAM_ERANGE on overflow. */
enum loam_status l1_fee(struct u256 *out, const struct l1_attributes *a, enum l1_fee_rule rule, const void *raw, size_t n, struct err *err) LOAM_MUST_USE;
/* Wei for gas used, from Isthmus on; Jovian multiplies by 100 instead of dividing by 10^6. */
enum loam_status l1_operator_fee(struct u256 *out, const struct l1_attributes *a, uint64_t gas, struct err *err) LOAM_MUST_USE;
/* Length that FastLZ (level 1) would compress to; the size estimate of Fjord rests on it. */
uint32_t l1_fastlz_size(const uint8_t *p, size_t n);

/* Where deposits come from (specs, deposits): sourceHash of a user's deposit (L1 block, index of its log in the block) and of an
 * attributes deposit (L1 block, sequence number). */
void l1_source_user(struct hash32 *out, const struct hash32 *l1_block, uint64_t log_index);
void l1_source_attributes(struct hash32 *out, const struct hash32 *l1_block, uint64_t sequence);
/* The L2 alias of a contract on L1: + 0x1111000000000000000000000000000000001111. */
void l1_alias(struct addr20 *out, const struct addr20 *a);

/* Forcing a transaction in through L1, when the sequencer leaves it out: calldata for OptimismPortal's
 * depositTransaction(to, value, gas, creation, data), appended to out. to NULL: creation. */
enum loam_status l1_force_call(struct buf *out, const struct addr20 *to, struct u256 value, uint64_t gas, const void *data, size_t n,
                               struct err *err) LOAM_MUST_USE;
/* The L2 transaction that a TransactionDeposited event of the portal becomes (a verified L1 log): t and its hash on L2, so that its
 * receipt can be looked for. t->data borrows from the log. LOAM_EPARSE. */
enum loam_status l1_force_tx(struct tx *t, const struct log *event, const struct addr20 *portal, struct err *err) LOAM_MUST_USE;

#endif
