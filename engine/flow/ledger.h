/* The Ledger and Rewards contracts as flows read them: by storage proof and from verified logs. */
#ifndef LOAM_FLOW_LEDGER_H
#define LOAM_FLOW_LEDGER_H

#include "flow/chainio.h"
#include "net/receipt.h"

enum batch_state { BATCH_NONE, BATCH_POSTED, BATCH_DRAWN, BATCH_SETTLED, BATCH_VOIDED, BATCH_SLASHED }; /* Ledger.State */
const char *batch_state_name(enum batch_state s); /* "posted" */

struct entry {
    uint64_t id, poster;
    enum batch_state state;
    struct hash32 statement, trace_root;
    uint64_t posted_at, posted_block, draw_block, commit_end, reveal_end;
    uint64_t drawn, committed, revealed;
    bool trace_open;
};
/* LOAM_ENOTFOUND where there is no such batch. */
enum loam_status entry_read(struct node *n, struct entry *out, uint64_t batch, struct err *err) LOAM_MUST_USE;
uint64_t entry_count_max(void); /* most batches listed at once */
enum loam_status batch_count(struct node *n, uint64_t *out, struct err *err) LOAM_MUST_USE;
/* May no verdict be committed any more, by the verified head's clock? */
bool entry_commits_closed(const struct entry *e, uint64_t now);

/* A parameter of the Ledger by the name of its getter ("demandDeposit"). It is compiled into the contract's code, so that a call is the only
 * way to read it; the contract enforces it whatever we believe, so the RPC's word is enough to know what to pay or how long to wait. */
enum loam_status ledger_parameter(struct flow *f, struct u256 *out, const char *name, struct err *err) LOAM_MUST_USE;

struct seat {
    struct u256 weight; /* 0: not drawn */
    struct hash32 commitment, trace_root;
    unsigned verdict;
};
enum loam_status seat_read(struct node *n, struct seat *out, uint64_t batch, uint64_t validator, struct err *err) LOAM_MUST_USE;

struct pot {
    struct u256 settled, claimed;
    struct hash32 payout_root, claim_root;
};
enum loam_status pot_read(struct node *n, struct pot *out, uint64_t poster, struct err *err) LOAM_MUST_USE;
enum loam_status paid_read(struct node *n, struct u256 *out, uint64_t poster, uint64_t account, struct err *err) LOAM_MUST_USE;

/* A statement out of a decoded tuple; strings borrow from *strings, which the caller frees with mem_free after s. */
enum loam_status st_from_abi(void *s, char **strings, enum st_id id, const struct abi_value *v, struct err *err) LOAM_MUST_USE;
/* The posted Batch of an entry, from the verified log of its block; its hash is the entry's. *json owns the strings of *b. */
enum loam_status posted_read(struct flow *f, struct st_batch *b, json_t **json, struct hash32 *tx, const struct entry *e, struct err *err) LOAM_MUST_USE;
/* The published Training of a model and its hash as the contract stores it. */
enum loam_status training_read(struct flow *f, struct st_training *t, json_t **json, struct hash32 *data_root, uint64_t model, struct err *err) LOAM_MUST_USE;

/* Verified logs of one event of one contract whose first indexed word is `key` (0: any), from block `from` to the head. fn gets the
 * decoded event. %T as in fcall. */
typedef enum loam_status (*event_fn)(void *arg, struct abi_doc *ev, const struct log *l, struct err *err);
enum loam_status fevents(struct flow *f, const char *contract, const char *sig, const enum st_id *ids, uint64_t from, uint64_t to, event_fn fn,
                         void *arg, struct err *err) LOAM_MUST_USE;
/* Expands %T; LOAM_ASSERTs that it fits. */
void sig_expand(char out[SIG_TEXT_MAX], const char *sig, const enum st_id *ids, int count);

#endif
