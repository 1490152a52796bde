/* Compute turns. One piece of work computes at a time and has every core; a turn goes to the highest class that waits:
 * ask, then a validator's deadline, then training. Long work yields at layers, so that an answer need not wait for a
 * training step to end. Thread-safe; fair (first come) within a class. */
#ifndef LOAM_NODE_SCHED_H
#define LOAM_NODE_SCHED_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct job;
struct sched;

enum sched_class { SCHED_ASK, SCHED_VALIDATE, SCHED_TRAIN, SCHED_CLASSES };

enum loam_status sched_new(struct sched **out, struct err *err) LOAM_MUST_USE;
void sched_free(struct sched *s);
/* Waits for a turn. LOAM_ECANCEL if the job (may be NULL) is cancelled while it waits; then no turn is held. */
enum loam_status sched_enter(struct sched *s, enum sched_class c, struct job *j, struct err *err) LOAM_MUST_USE;
void sched_leave(struct sched *s);
/* Holder only: true if a higher class waits (one relaxed atomic load: call it at every layer). */
bool sched_wanted(struct sched *s);
/* Holder only: if a higher class waits, gives it the turn and waits to get it back. As sched_enter; after LOAM_ECANCEL no
 * turn is held. */
enum loam_status sched_yield_turn(struct sched *s, struct job *j, struct err *err) LOAM_MUST_USE;
/* Seconds computed per class so far, and how many wait: for node status. */
void sched_stats(struct sched *s, double seconds[SCHED_CLASSES], unsigned waiting[SCHED_CLASSES]);

#endif
