/* attribute: whose rows an answer came from. Integer scores of every row by the damped Fisher rows of the model's checkpoints
 * (poa/score.h), the other methods beside them, shares by contributor, spans in common. Writes the ATTRIBUTION record of flow.h. */
#ifndef LOAM_FLOW_ATTRIBUTE_H
#define LOAM_FLOW_ATTRIBUTE_H

#include "flow/train.h"

#define ATTRIBUTE_ROWS 32   /* best rows that a record lists in full */
#define ATTRIBUTE_BESIDE 10 /* of each other method */

/* answer: id of a stored answer (0: the newest). method decides rank and shares; all are listed. *out: the record with "text",
 * "prompt" and "model". LOAM_ESTATE: the answer's model has no rows (a base model). */
enum loam_status flow_attribute(struct flow *f, json_t **out, uint64_t answer, enum poa_method method, struct err *err) LOAM_MUST_USE;

/* The record of an answer, made now from an open model: what a validator compares. Needs a compute turn held. call: the answer
 * record or a recorded call with the same fields (prompt_ids, output_ids, text, messages). cancelled may be NULL. */
enum loam_status flow_attribution(json_t **out, struct poa_shares *shares, const struct flow_tuned *t, const json_t *call, enum poa_method method,
                                  unsigned methods, bool (*cancelled)(void *ctx), void *ctx, struct err *err) LOAM_MUST_USE;

/* A record as the console is told it: contributors beside shares; the accounts of a private run called by its files. */
void attribution_told(json_t *v);

#endif
