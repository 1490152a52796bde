/* What consoles show between commands: state topics filled from the store when a node starts, and kept true from proven chain
 * state while somebody looks. Commands set topics too, while they run; this is what stands when none does.
 *
 * A look at the chain is made by an unlisted job, at most once in BOARD_PERIOD_MS, and only while a client is subscribed to
 * the topics `rewards` or `validator`; it reads logs again only after a listed job has ended, a batch was posted or moved, or
 * BOARD_SLOW_MS went by. Nobody looking costs nothing. */
#ifndef LOAM_FLOW_BOARD_H
#define LOAM_FLOW_BOARD_H

#include "flow/ctx.h"

#define BOARD_PERIOD_MS 4000
#define BOARD_SLOW_MS 60000
#define BOARD_BATCHES 16 /* newest batches looked at */
#define BOARD_RUNS 8     /* newest runs whose curves are told */
#define BOARD_POINTS 96  /* of such a curve */
#define BOARD_EVALS 255  /* evaluations of the newest run that are told, and the last */

/* Fills models, train, attribution, validator and ask from the store, and begins to watch. Once, from flow_attach. */
enum loam_status board_attach(struct node *n, struct err *err) LOAM_MUST_USE;
/* Earlier runs for the train topic: [{run, state, loss, steps, adapter, datanet, rows, created_ms, curve:[[step, loss]…]}], newest
 * first; new reference. */
json_t *board_runs(struct node *n);
/* Sets the rewards topic: accounts as flow_rewards adds them up (borrowed), with what is not settled yet, the curve and the
 * datanets that earned it, payments and names. Job threads. */
void board_rewards(struct flow *f, json_t *accounts);

#endif
