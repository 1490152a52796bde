/* Training by several processes: mpirun with loam-rank (engine/lm/rank.c), watched from here. */
#ifndef LOAM_FLOW_RANKS_H
#define LOAM_FLOW_RANKS_H

#include "lm/trainer.h"

#define RANKS_MAX 512
#define RANKS_SAID_MAX 8192 /* of their standard error, the last of it */

struct ranks_opt {
    const char *dir;     /* of the run, with its file "ranks" (lm/ranks.h) */
    unsigned ranks;
    const char *hosts;   /* mpirun's --hostfile; NULL: this machine, more ranks than cores allowed */
    const char *backend; /* of each rank; NULL: the best of its CPU */
};

/* Runs them to the end of the training, or until hooks->ask wants it to stop (the state is then saved: LOAM_ECANCEL). A rank that
 * is lost ends all: LOAM_EIO with what was said; the folder keeps the last state. LOAM_ENOTBUILT: no loam-rank or no mpirun here.
 * *tok_s, *seconds: of this life, by rank 0. Blocks; for a job's thread. */
enum loam_status ranks_train(const struct ranks_opt *o, const struct lm_train_hooks *hooks, double *tok_s, double *seconds,
                             struct err *err) LOAM_MUST_USE;

#endif
