/* Several processes that train one adapter together. The rows of a step are shared out; every row's gradient is kept by itself
 * and the rows are added up in manifest order, element by element, as one process would: the adapter hash does not depend on
 * how many ranks there are. (A sum over ranks in whatever order the network brings it, an all-reduce, would give other bits.)
 *
 * How a step goes: ranks take blocks of neighbouring rows, in order. Then, piece by piece of the adapter, every rank sends its
 * rows' slices to the slices' owners; an owner adds them to what stands there, first row first; the sums go back to everybody.
 * So a float of gradient crosses the network once for each row, and once a step for each rank.
 *
 * Rank 0 owns the run's folder; the others write nothing. The transport is the caller's: engine/lm/rank.c brings MPI,
 * tests/test_train.c threads. */
#ifndef LOAM_LM_GROUP_H
#define LOAM_LM_GROUP_H

#include "base/status.h"

#include <stdint.h>

#define LM_GROUP_MAX 512        /* ranks */
#define LM_GROUP_ROWS 8u        /* rows whose gradients a rank keeps at a time */
#define LM_GROUP_SLICE 65536u   /* floats a rank owns of a piece */

/* All three are collective: every rank calls them with sizes that agree, in the same order. A part is at most
 * LM_GROUP_SLICE * LM_GROUP_ROWS floats, or what lm_trainer_group sends (the optimiser's state). */
struct lm_group {
    int rank, ranks;
    void *impl;
    enum loam_status (*bcast)(struct lm_group *g, void *p, size_t bytes, struct err *err); /* rank 0's bytes to all */
    /* p: all parts one after the other, part r of bytes[r]; a rank's own stands there already. */
    enum loam_status (*gather)(struct lm_group *g, void *p, const size_t *bytes, struct err *err);
    /* send: part r goes to rank r; recv: part r came from rank r; each one after the other. */
    enum loam_status (*exchange)(struct lm_group *g, const void *send, const size_t *send_bytes, void *recv,
                                 const size_t *recv_bytes, struct err *err);
};

/* Every rank's status becomes that of the lowest rank that has one, with its text ("rank 2: ..."). */
enum loam_status lm_group_agree(struct lm_group *g, enum loam_status mine, struct err *err) LOAM_MUST_USE;
/* Rows from .. of rank r when n rows are shared out; *count of them. */
uint32_t lm_group_share(const struct lm_group *g, uint32_t n, int r, uint32_t *count);

/* Buffers of lm_group_add. */
struct lm_group_work {
    float *send, *recv;
    size_t *out, *in; /* [ranks] */
};
enum loam_status lm_group_work_new(struct lm_group_work *w, const struct lm_group *g, struct err *err) LOAM_MUST_USE;
void lm_group_work_clear(struct lm_group_work *w);
size_t lm_group_work_bytes(const struct lm_group *g);
/* sum (`size` floats, equal on all ranks before and after) += all ranks' rows in order: rank 0's first row first.
 * n rows in all (at most ranks * LM_GROUP_ROWS), shared out by lm_group_share; mine: this rank's, `size` floats each. */
enum loam_status lm_group_add(struct lm_group *g, struct lm_group_work *w, float *sum, size_t size, const float *mine, uint32_t n,
                              struct err *err) LOAM_MUST_USE;

#endif
