/* A batch's calls as data: what the poster publishes so that anybody can recompute every root, split and sum of it.
 *
 * Blob (Batch.dataHash, dataLength), JSON, compact, keys sorted:
 *   {"format":"loam-batch-1",
 *    "models":[{"model": chain id, "bundle":"0x blob", "rows":"0x blob", "trainer": account}],
 *    "calls":[{"request":{…}, "request_signature", "inference":{…}, "attribution":{…}, "messages":[{role, content}],
 *              "prompt_salt", "output_salt", "output_ids":[…], "sampler":{…}, "scores":["decimal"…], "seed_commitment", "nonce_salt" (paid calls)}],
 *    "vouchers":[{"voucher":{…}, "signature"}],
 *    "previous":[{"account","cumulative"}], "payouts":[{"account","prefix","cumulative"}],
 *    "claims":[like payouts]}
 * "previous" is the table of the poster's last settled batch, "payouts" the new one; lines in order of account. "claims" is there only
 * where the claim tree holds other lines than the payout tree, which no honest batch does.
 *
 * Commitments of a call: prompt = keccak(salt ‖ prompt bytes), prompt bytes = "msg1" ‖ u32be count ‖ each message as u32be
 * length of role ‖ role ‖ u32be length ‖ content; output = keccak(salt ‖ u32be of each token id).
 * Leaves of the request, inference and attribution trees: the statements' struct hashes (32 bytes).
 * requestHash and inferenceHash are struct hashes too. Who gets what of a fee: platform (account 1), the model's trainer, stakers
 * (account 2), contributors by poa_shares; what they do not earn goes to account 0. */
#ifndef LOAM_FLOW_BATCHDOC_H
#define LOAM_FLOW_BATCHDOC_H

#include "flow/ctx.h"
#include "poa/score.h"
#include "poa/trace.h"
#include "record/claims.h"
#include "record/payout.h"
#include "record/statements.h"

#define BATCH_CALLS_MAX 4096
#define BATCH_VOUCHERS_MAX 256
#define BATCH_MODELS_MAX 16
#define CALL_TOKENS_MAX (1u << 20)

/* The rows a model was trained on, as an attribution needs them. Owns its arrays. */
struct manifest {
    uint64_t model, trainer;
    struct hash32 bundle, blob; /* of the rows */
    uint64_t rows;
    struct hash32 *hash;
    uint64_t *account;
};
/* From the rows blob (flow.h). root (may be NULL) gets Recipe.dataRoot. */
enum loam_status manifest_read(struct manifest *out, const uint8_t *text, size_t n, struct hash32 *root, struct err *err) LOAM_MUST_USE;
void manifest_clear(struct manifest *m);

struct call {
    struct st_request request;
    struct sig65 request_sig;
    struct st_inference inference;
    struct st_attribution attribution;
    const json_t *messages, *sampler; /* borrowed from the document */
    struct hash32 prompt_salt, output_salt;
    bool paid; /* by another account's request, or by one signed before the answer: the two below are there (pay.h) */
    struct hash32 seed_commitment, nonce_salt;
    uint32_t *ids; /* owned */
    size_t id_count;
    int64_t *score; /* [rows of the model]; owned */
    size_t rows;
    const struct manifest *manifest; /* borrowed */
    /* Derived by call_derive: */
    struct poa_shares shares;
    struct split split;
    struct u256 *amount; /* [shares.count]; owned */
    struct u256 burnt;
};
void call_clear(struct call *c);
/* Shares, split and amounts from scores, manifest and inference.fee; the attribution's score, net and share roots and its
 * scoreCount, noiseFloor and inferenceHash are set. */
enum loam_status call_derive(struct call *c, struct err *err) LOAM_MUST_USE;
/* LOAM_EPARSE for messages that are none. */
enum loam_status call_prompt_commitment(struct hash32 *out, const json_t *messages, const struct hash32 *salt, struct err *err) LOAM_MUST_USE;
enum loam_status call_output_commitment(struct hash32 *out, const uint32_t *ids, size_t n, const struct hash32 *salt, struct err *err) LOAM_MUST_USE;
/* Adds what the call pays to a table. */
enum loam_status call_pay(struct payouts *p, const struct call *c, struct err *err) LOAM_MUST_USE;

struct voucher {
    struct st_voucher v;
    struct sig65 sig;
};

struct batch_doc {
    json_t *json; /* owned; calls borrow from it */
    struct manifest manifest[BATCH_MODELS_MAX];
    size_t models;
    struct call *call;
    size_t calls;
    struct voucher voucher[BATCH_VOUCHERS_MAX];
    size_t vouchers;
    struct payouts previous, payouts, claims; /* claims: empty where they are the payouts */
};
void batch_doc_clear(struct batch_doc *d);
json_t *call_json(const struct call *c); /* as in the document; NULL without memory */
/* What a document needs from elsewhere: blobs by hash (own, or fetched from the poster). out's content is replaced. */
typedef enum loam_status (*blob_fn)(void *arg, const struct hash32 *h, struct buf *out, struct err *err);
/* Reads a document and derives every call. Takes json. */
enum loam_status batch_doc_read(struct batch_doc *out, json_t *json, blob_fn blob, void *arg, struct err *err) LOAM_MUST_USE;
/* payouts = previous + what the calls pay. */
enum loam_status batch_doc_payouts(struct payouts *out, const struct batch_doc *d, struct err *err) LOAM_MUST_USE;
/* Roots, counts and totals of the document into a statement (the other fields stay as they are). */
enum loam_status batch_doc_fill(struct st_batch *b, const struct batch_doc *d, struct err *err) LOAM_MUST_USE;
/* Cheap checks of a document against the posted statement, cheapest first: everything but execution and signatures. LOAM_EVERIFY says
 * what does not hold. *lie tells what a contract can be shown: */
enum batch_lie {
    LIE_NONE,
    LIE_SUM,    /* payout lines *at and *at + 1: Disputes.proveSum */
    LIE_END,    /* payout line *at: Disputes.proveEnd */
    LIE_OTHER,  /* only re-execution by others shows it: the verdict is invalid */
    LIE_DECREASE,    /* payout line *at is lower than the same account's previous one: Disputes.proveDecrease */
    LIE_MISSING,     /* previous line *at has no successor: Disputes.proveMissing, proveMissingEnd */
    LIE_SEQUENCE,    /* call *at: Disputes.proveSequence */
    LIE_FEE,         /* call *at: Disputes.proveFee */
    LIE_LINK,        /* call *at: Disputes.proveLink */
    LIE_COUNT,       /* tree *at (0 requests, 1 inferences, 2 attributions, 3 payouts): Disputes.proveCount */
    LIE_CLAIM,       /* claim line *at: Disputes.proveClaim */
    LIE_KINDS
};
/* Can a contract be shown it? Numbers of kinds stay as they are: they stand in finished steps. */
bool lie_provable(enum batch_lie l);
const char *lie_name(enum batch_lie l); /* "sum": the proof's name in BatchSlashed; "" for LIE_NONE, "execution" for LIE_OTHER */
enum loam_status batch_doc_check(enum batch_lie *lie, uint64_t *at, const struct batch_doc *d, const struct st_batch *b, struct err *err) LOAM_MUST_USE;

/* Entries of one executed call: "call I tokens", "call I gradient C", "call I scores". */
enum loam_status call_trace(struct poa_trace *t, size_t i, const uint32_t *ids, size_t id_count, const struct hash32 *query, size_t queries,
                            const int64_t *score, size_t rows, struct err *err) LOAM_MUST_USE;

#endif
