/* Scores: how much each training row lowered the loss of one answer. Integers throughout.
 *
 *   s_i = sum over checkpoints c and tensors l of <H8[c][l][i], q[c][l]> · 2^(shift of (c, l))
 *   shift = e_h + e_q + tensor shift + min(weight_log2, least weight_log2 of all checkpoints + POA_WEIGHT_SPAN), counted from E = max over (c, l) of it - W, where
 *   W = 62 - ceil(log2(127 · 127 · d · L · C · N)) (d the largest d_l), so that neither s_i nor a sum of all rows overflows
 *   int64. A term with a negative shift is floor(<H8, q> / 2^-shift); others are exact. Terms with q = 0 count nothing.
 * The value of a score is s_i · 2^E; within one answer E is the same for all rows. */
#ifndef LOAM_POA_SCORE_H
#define LOAM_POA_SCORE_H

#include "poa/store.h"
#include "record/payout.h"

enum poa_method {
    POA_FISHER,   /* the default: damped Fisher rows over all checkpoints */
    POA_TRACIN,   /* plain dot products over all checkpoints (needs G) */
    POA_GRADDOT,  /* the last checkpoint's dot products (needs G) */
    POA_BM25,     /* words in common (text.h) */
    POA_SPAN,     /* longest common spans (text.h) */
    POA_METHODS,
};
const char *poa_method_name(enum poa_method m); /* "fisher", "tracin", "graddot", "bm25", "span" */
bool poa_method_find(enum poa_method *m, const char *name);

struct poa_signs;
/* An answer's gradients at every checkpoint, int8: made once, scored by several methods. */
struct poa_query {
    const struct poa_plan *plan; /* borrowed */
    uint32_t checkpoints, current;
    struct gpu *gpu;
    int8_t *q;                   /* checkpoint, tensor, d_l; owned */
    int32_t *e;                  /* [C][L] exponents */
    uint8_t *have;               /* [C][L] */
    size_t width;                /* sum of d_l */
    float *scratch;
    struct poa_signs *signs;     /* plan.h */
};
enum loam_status poa_query_init(struct poa_query *q, const struct poa_plan *plan, uint32_t checkpoints, struct gpu *g, struct err *err) LOAM_MUST_USE;
void poa_query_clear(struct poa_query *q);
/* The sink for lm_grad_rows with the adapter of that checkpoint and a data set whose only row is prompt + answer (row 0). */
struct lm_grad_sink poa_query_sink(struct poa_query *q, uint32_t checkpoint);
/* keccak over exponents and numbers: for the trace. */
struct hash32 poa_query_hash(const struct poa_query *q, uint32_t checkpoint);

/* score[N] and *exponent (E). FISHER, TRACIN, GRADDOT. LOAM_ESTATE if a gradient is missing or the stores keep none. */
enum loam_status poa_score(int64_t *score, int *exponent, enum poa_method m, const struct poa_store *const *s,
                           uint32_t checkpoints, const struct poa_query *q, struct err *err) LOAM_MUST_USE;
/* What a score is made of, for disputes: the dot product of (checkpoint, tensor) for one row and the shift it got. */
enum loam_status poa_score_part(int64_t *dot, int *shift, const struct poa_store *const *s, uint32_t checkpoints,
                                const struct poa_query *q, uint32_t checkpoint, uint32_t tensor, uint64_t row, struct err *err) LOAM_MUST_USE;

/* ---- from scores to shares ---- */

struct poa_shares {
    struct influence *account; /* ascending; owned */
    uint32_t *ppm;             /* parts of a million of the contributors' half, largest remainder; owned */
    size_t count;
    uint32_t burnt_ppm;        /* the rest: together a million */
    int64_t floor;             /* 3 · median |s|, of one row */
};
/* account[i] is who contributed row i. LOAM_EINVAL for account 0. */
enum loam_status poa_shares_make(struct poa_shares *out, const int64_t *score, const uint64_t *account, uint64_t rows, struct err *err) LOAM_MUST_USE;
void poa_shares_clear(struct poa_shares *s);

/* Rows best first, ties to the lower row: order[N]. */
enum loam_status poa_rank(uint64_t *order, const int64_t *score, uint64_t rows, struct err *err) LOAM_MUST_USE;

/* The roots that an Attribution statement names; row_hash[N]. */
enum loam_status poa_score_root(struct hash32 *out, const struct hash32 *row_hash, const int64_t *score, uint64_t rows, struct err *err) LOAM_MUST_USE;
struct hash32 poa_net_root(const struct poa_shares *s);
/* amount and burnt as split_influence made them from s->account. */
struct hash32 poa_share_root(const struct poa_shares *s, const struct u256 *amount, struct u256 burnt);
/* keccak of "loam poa 2", the method, the plan, and the damping root: Attribution.parametersHash. */
struct hash32 poa_parameters_hash(enum poa_method m, const struct poa_store *const *s, uint32_t checkpoints);

#endif
