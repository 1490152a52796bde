/* Choosing the next token: a function of logits, preceding tokens, parameters, seed and position only. Ties go to the
 * lower token id. Random numbers: Philox keyed by (seed, purpose 1, position). */
#ifndef LOAM_LM_SAMPLE_H
#define LOAM_LM_SAMPLE_H

#include "base/status.h"

#include <stdint.h>

#define LM_STOP_MAX 8     /* stop strings */
#define LM_STOP_BYTES 256 /* bytes of one */

/* All zero but `repeat` 1 is greedy. Order of work: penalties, temperature, top_k, top_p, min_p, draw. */
struct lm_sampler {
    float temperature; /* 0: greedy (the highest logit after penalties) */
    uint32_t top_k;    /* 0: all */
    float top_p;       /* 0 or 1: off; otherwise the smallest set of the likeliest tokens whose sum reaches it */
    float min_p;       /* 0: off; tokens below min_p × the highest probability are dropped */
    float repeat;      /* 1: off; logits of tokens seen are divided (positive) or multiplied (negative) by it */
    float presence, frequency; /* 0: off; subtracted once, and a time seen (generated tokens only) */
    uint32_t last;     /* tokens that penalties look back; 0: 64 */
    uint8_t seed[32];
};
#define LM_SAMPLER_GREEDY ((struct lm_sampler){.repeat = 1})

/* Refuses NaN and values out of range, by name: LOAM_ERANGE. */
enum loam_status lm_sampler_check(const struct lm_sampler *s, struct err *err) LOAM_MUST_USE;
/* keccak("loam.sampler.1" ‖ the fields but seed, in order, little-endian): the Request's samplerHash. */
void lm_sampler_hash(uint8_t out[32], const struct lm_sampler *s);

/* One choice. logits[V] may be changed. seen: all tokens before (prompt, then output), n_prompt of them prompt.
 * position: index of the new token in the sequence. work: V × 8 bytes. LOAM_ENONFINITE names the first bad logit. */
enum loam_status lm_sample(uint32_t *token, float *logits, uint32_t V, const struct lm_sampler *s, const uint32_t *seen,
                           uint32_t n_seen, uint32_t n_prompt, uint32_t position, void *work, struct err *err) LOAM_MUST_USE;

/* Natural-log probability of `token` under softmax(logits); and the k highest with theirs (ids descending in logit, ties
 * to the lower id). */
struct lm_logprob {
    uint32_t id;
    float logprob;
};
void lm_logprobs(float *chosen, struct lm_logprob *top, uint32_t k, const float *logits, uint32_t V, uint32_t token);

#endif
