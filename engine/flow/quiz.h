/* quiz: a fixed list of questions put to a model, and where the answer is right, whether the rows that taught it are found.
 * The honest figure of a training run: questions are written before it, and paraphrases are never trained. */
#ifndef LOAM_FLOW_QUIZ_H
#define LOAM_FLOW_QUIZ_H

#include "flow/attribute.h"
#include "lm/session.h"

#define QUIZ_FILE_MAX (16u << 20)
#define QUIZ_QUESTIONS_MAX 100000u

struct flow_quiz {
    const char *file;    /* JSONL: {"question", "expect", "kind" (default "all"), "sources":["first user message of a row", …]} */
    const char *model;   /* as flow_ask */
    enum lm_act act;
    uint32_t max_tokens;
    uint64_t limit;      /* questions asked, 0: all */
    bool attribute;      /* score the rows behind each right answer; the model must have been trained here */
};

/* An answer is right if "expect" stands in it, letter for letter. Nothing is stored. *out: {model, questions, seconds, kinds:[{kind,
 * asked, right, methods:[{method, first, rows}], share_ppm}], wrong:[{question, expect, text}]}: first counts right answers whose
 * best row is one of the sources, rows the right answers that were scored; share_ppm is the mean share of the sources'
 * contributor by the default method. wrong lists at most 20. LOAM_EPARSE names the line. */
enum loam_status flow_quiz(struct flow *f, json_t **out, const struct flow_quiz *q, struct err *err) LOAM_MUST_USE;

#endif
