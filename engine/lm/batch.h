/* Many answers at once: continuous batching. Each step takes one token of every answer in the making and, beside them, a part
 * of the prompts that wait, so that a long prompt delays nobody much. Answers come and go at any step; each is bit for bit
 * what lm_generate gives alone, whatever shares the steps.
 *
 * Prefix cache: sequences that ended stay, as long as the budget lasts; a new prompt starts from the longest beginning that
 * any sequence of its adapter holds. When the budget is full, idle ones go first; then the youngest answer in the making
 * gives its pages back and is computed again later.
 *
 * Used by one thread at a time, as the engine is. */
#ifndef LOAM_LM_BATCH_H
#define LOAM_LM_BATCH_H

#include "lm/generate.h"

#define LM_BATCH_PREFILL 256 /* prompt tokens of one step beside the answers' own */
#define LM_BATCH_IDLE 16     /* ended sequences kept for their beginnings */

struct lm_batch;

/* One answer. The caller keeps it, the prompt and the adapter until done is set. */
struct lm_request {
    const uint32_t *prompt; /* [n] */
    uint32_t n;
    const struct lm_adapter *adapter; /* NULL: the base */
    struct lm_generate_opt opt;       /* token is called from the thread that steps */
    /* results */
    bool done;
    bool begun; /* tokens were given before it ended */
    enum loam_status status;
    struct err err;
    struct lm_answer answer; /* valid where status is LOAM_OK; the caller clears it */
    /* inside */
    struct lm_request *next;
    struct lm_sequence *sequence;
};

/* The engine is borrowed; all its sessions should be the batch's, whose budget it is. */
enum loam_status lm_batch_new(struct lm_batch **out, struct lm_engine *e, struct err *err) LOAM_MUST_USE;
/* Open requests end with LOAM_ECANCEL. */
void lm_batch_free(struct lm_batch *b);
/* Queues r. Never fails: what is wrong with it is said in r->status. */
void lm_batch_add(struct lm_batch *b, struct lm_request *r);
/* One step of everything; requests that end have done set. Returns how many are still open. cancel: gives up the step
 * between layers (NULL allowed); the requests stay open. */
size_t lm_batch_step(struct lm_batch *b, const atomic_int *cancel);
size_t lm_batch_open(const struct lm_batch *b);
/* Forgets ended sequences of an adapter (NULL with all: every one), before the adapter is freed. */
void lm_batch_forget(struct lm_batch *b, const struct lm_adapter *a, bool all);

#endif
