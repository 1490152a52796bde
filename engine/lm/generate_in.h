/* Inside of generation: one answer in the making, driven by lm_generate (one sequence) and by lm/batch.c (many). */
#ifndef LOAM_LM_GENERATE_IN_H
#define LOAM_LM_GENERATE_IN_H

#include "lm/generate.h"

struct gen {
    struct lm_answer *out;
    const struct lm_generate_opt *opt;
    const struct lm_tokenizer *tok;
    struct lm_ids seen; /* prompt and output */
    uint32_t n_prompt, V, context;
    struct buf raw; /* bytes of tokens that are no finished character yet */
    size_t sent;    /* bytes of the text given to the callback */
    float *logits;  /* [V], where a step puts the last token's */
    struct err *err;
};

/* Checks prompt and options, allocates. On failure everything is cleared. out, opt and err are borrowed. */
enum loam_status gen_start(struct gen *g, struct lm_answer *out, struct lm_model *m, uint32_t context, const uint32_t *prompt, uint32_t n,
                           const struct lm_generate_opt *opt, struct err *err);
/* Chooses a token from g->logits, adds it to seen and to the answer, calls the callback. *end: the answer is complete.
 * work: V × 8 bytes, see lm_sample. */
enum loam_status gen_next(struct gen *g, void *work, bool *end);
void gen_clear(struct gen *g); /* all but the answer */

#endif
