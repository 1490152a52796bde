/* The outbox: signed transactions with stored nonces, so that a crash sends nothing twice and loses nothing.
 *
 * Each transaction has a key, chosen by the flow ("contribute/<flow id>/commit"). The first outbox_send with a key takes a
 * nonce, signs, stores the bytes durably, and only then broadcasts. Any later send with that key (also after a crash)
 * broadcasts the same bytes again if needed and returns the same result; another target, value or data under the same key
 * is LOAM_ESTATE. A key whose transaction reverted may be sent again, in the same words or others: as a new transaction, once the
 * revert is deep enough, and only if it would not revert again; the reverted ones stay listed with it. Unconfirmed ones are rebroadcast, and replaced with higher fees (same nonce, so one of them at most
 * executes) when they stay out too long. A result is a receipt verified against the receipts root of a header that the
 * light client knows. */
#ifndef LOAM_NODE_OUTBOX_H
#define LOAM_NODE_OUTBOX_H

#include "base/status.h"
#include "base/u256.h"
#include "record/types.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct node;
struct job;
struct outbox;

#define OUTBOX_KEY_MAX 200
#define OUTBOX_DATA_MAX (128u << 10) /* nodes refuse larger transactions */

struct outbox_tx {
    const char *from;        /* name of an unlocked key */
    const struct addr20 *to; /* NULL: creates a contract */
    struct u256 value;       /* wei */
    const uint8_t *data;     /* borrowed during the call */
    size_t len;
    uint64_t gas;     /* 0: estimated (the RPC's word) and a quarter more */
    bool l1;          /* on the chain's L1 (its file's "l1"), with nonces and receipts of there */
    const char *what; /* for people: "commit of a contribution" */
};

struct outbox_log {
    struct addr20 address;
    struct hash32 topics[4];
    size_t topic_count;
    uint8_t *data;
    size_t len;
};

/* A verified receipt. outbox_result_clear frees it. */
struct outbox_result {
    struct hash32 tx, block_hash;
    uint64_t block, index, gas_used;
    bool ok;              /* false: reverted; outbox_send answers LOAM_EREVERT with the reason and still fills this */
    struct u256 fee;      /* wei paid for gas (without an L1 part where the chain has none) */
    struct addr20 created; /* contract made, zeros otherwise */
    struct outbox_log *logs;
    size_t log_count;
};

/* Sends (once) and waits for the verified receipt. Job threads only; j (may be NULL) cancels the waiting, not the
 * transaction. LOAM_EPERM key locked or over its limit, LOAM_EFUNDS (address, need, have), LOAM_EREVERT (reason), LOAM_ENET,
 * LOAM_ECHAIN, LOAM_ECANCEL. */
enum loam_status outbox_send(struct node *n, struct outbox_result *out, const char *key, const struct outbox_tx *tx,
                             struct job *j, struct err *err) LOAM_MUST_USE;
void outbox_result_clear(struct outbox_result *r);
/* The result of an earlier send; LOAM_ENOTFOUND if the key was never sent, LOAM_ESTATE if not confirmed yet. */
enum loam_status outbox_find(struct node *n, struct outbox_result *out, const char *key, struct err *err) LOAM_MUST_USE;
/* For a transaction that the sequencer leaves out. The entry under the key as JSON (new reference; fields: outbox.c); LOAM_ENOTFOUND,
 * LOAM_ESTATE when it is confirmed, or when another of the same address is out that comes before it (its nonce). key NULL: the first of the
 * address whose transaction is out the longest. */
enum loam_status outbox_stuck(struct node *n, json_t **entry, const char *key, struct err *err) LOAM_MUST_USE;
/* From now on the receipt of this L2 transaction (the deposit that does the same) is looked for too: it confirms the entry. */
enum loam_status outbox_forced(struct node *n, const char *key, const struct hash32 *tx, struct err *err) LOAM_MUST_USE;
/* This nonce of the address is used up by a transaction outside the outbox (a deposit): an entry that is out with it, other than `except`, is
 * signed and sent anew under the next one. The caller has verified the receipt that shows it. */
enum loam_status outbox_used(struct node *n, const struct addr20 *address, uint64_t nonce, const char *except, struct err *err) LOAM_MUST_USE;
/* Waits for the verified receipt of an entry that is out already. As outbox_send. */
enum loam_status outbox_wait(struct node *n, struct outbox_result *out, const char *key, struct job *j, struct err *err) LOAM_MUST_USE;
/* [{key, from, nonce, tx, state:"signed"|"sent"|"confirmed"|"failed", block, what, sent_ms}], newest first; new reference. */
json_t *outbox_list(struct node *n);
size_t outbox_pending(struct node *n);

/* Signatures of the contracts' custom errors ("BondTooSmall(uint256 have, uint256 need)", NULL-terminated, static), so that
 * a revert names its reason. Before the node runs. */
void outbox_errors(struct node *n, const char *const *signatures);

/* eth_call on the state of a block, the RPC's word: for reads that cannot be proven cheaply; the caller checks what
 * matters with proofs (node/chain.h). out: returned bytes, mem_free. LOAM_EREVERT with the reason. Job threads only. */
enum loam_status outbox_call(struct node *n, uint8_t **out, size_t *len, const struct addr20 *to, const uint8_t *data,
                             size_t data_len, struct err *err) LOAM_MUST_USE;

#endif
