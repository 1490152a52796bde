/* From a prompt to an answer: prefill, sample, stream, stop. */
#ifndef LOAM_LM_GENERATE_H
#define LOAM_LM_GENERATE_H

#include "lm/sample.h"
#include "lm/session.h"

/* Numbers stand in Inference statements: never renumber. */
enum lm_stop {
    LM_STOP_NONE = 0,
    LM_STOP_END = 1,     /* end-of-turn or eos token (it is the last of the output ids) */
    LM_STOP_LENGTH = 2,  /* max_tokens */
    LM_STOP_STRING = 3,  /* one of the stop strings */
    LM_STOP_CONTEXT = 4, /* the context is full */
    LM_STOP_CANCEL = 5
};
const char *lm_stop_name(enum lm_stop s); /* "end" "length" "string" "context" "cancel" */

/* One token as it comes. text: finished characters only (a character in the making is held back; bytes that are no UTF-8
 * become U+FFFD), borrowed; may be empty.
 * With stop strings, text that may still become one is held back. A non-zero answer ends generation as cancelled. */
struct lm_token_event {
    uint32_t id, index; /* index: 0 for the first generated token */
    const char *text;
    size_t text_len;
    float logprob;                /* with `logprobs` */
    const struct lm_logprob *top; /* [n_top] */
    uint32_t n_top;
};
typedef int (*lm_token_fn)(void *ctx, const struct lm_token_event *t);

struct lm_generate_opt {
    struct lm_sampler sampler;
    uint32_t max_tokens;          /* 0: until the context is full */
    const char *stop[LM_STOP_MAX]; /* NULL-terminated unless full */
    bool ignore_end;              /* benches only */
    bool logprobs;
    uint32_t top_logprobs;        /* 0 to 20 */
    lm_token_fn token;            /* NULL allowed */
    void *ctx;
    const atomic_int *cancel;     /* NULL allowed */
};

struct lm_answer {
    struct lm_ids ids; /* output tokens, the end token included */
    struct buf text;   /* their text, well-formed UTF-8; without a stop string and what follows it */
    enum lm_stop stop;
    uint32_t prompt_tokens, cached_tokens; /* cached: taken from the session as they were */
    uint64_t prefill_us, decode_us;
};
void lm_answer_clear(struct lm_answer *a);

/* Continues s with prompt (the whole sequence from position 0): the longest common prefix with what s holds is kept (same
 * bits either way), the rest is computed. Errors as lm_step and lm_sample; LOAM_ELIMIT also where the prompt alone fills
 * the context. On LOAM_ECANCEL the answer so far stands in *out and the result is LOAM_OK with stop LM_STOP_CANCEL. */
enum loam_status lm_generate(struct lm_answer *out, struct lm_engine *e, struct lm_session *s, const uint32_t *prompt, uint32_t n,
                             const struct lm_generate_opt *opt, struct err *err) LOAM_MUST_USE;

#endif
