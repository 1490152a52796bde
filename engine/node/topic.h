/* Topics: what the node tells its consoles. Thread-safe; values are plain JSON.
 *
 * State topics have a value; a subscriber gets a snapshot, then the newest value only (values in between may be skipped,
 * and changes are sent at most every TOPIC_INTERVAL_MS). Streams are events with a sequence number; a subscriber gets the
 * last TOPIC_BACKLOG of them, then each one; a gap in seq means that it was too slow and some were dropped.
 * Amounts are strings of decimal wei ("…_wei"); times are unix milliseconds ("…_ms"); hashes and addresses are "0x…";
 * a share is an integer in parts per million ("…_ppm"). A field that is not known is absent or null.
 *
 * State topics
 *   node         {version, pid, dir, started_ms, jobs, clients, state:"running"|"stopping", started_by_console, api:URL|null,
 *                 backend:"avx2"|…, threads, memory_bytes, compute:{ask_s, validate_s, train_s}, next:"command to try next"}
 *   chain        {configured:bool, chain_id, name, ok:bool, error, heads:[{name:"latest"|"signed"|"proposed"|"resolved", number, hash,
 *                 time_ms, known:"signed"|"linked"|"anchored"|"agreed", how:"text, e.g. linked to 120, agreed 2 of 2"}],
 *                 sync:{from, at, to}|null, base_fee_wei, peers:[{url, ok:bool, head, latency_ms, error}],
 *                 l1:{head, agree_k, agree_n, output, error} (where the chain's file names an L1),
 *                 pending:[{key, tx, nonce, sent_ms, what}], evidence: count, contracts:{name: address}}
 *   train        {run, job, state:"running"|"paused"|"done"|"failed"|"cancelled", model, base, adapter, step, steps, epoch,
 *                 epochs, loss, eval_loss, best_loss, best_step (of evaluations; absent without), lr, tokens, tokens_per_s, elapsed_s, eta_s, memory_bytes, rows, error,
 *                 loss_curve:[[step, loss]…], eval_curve:[[step, loss]…]  (each thinned to at most 512 points),
 *                 checkpoints:[{step, hash}], runs:[{run, state, loss, steps, adapter, datanet, rows, created_ms,
 *                 curve:[[step, loss]…]}] (ended runs, newest first; the newest eight with their curve)}
 *   attribution  {answer, model, prompt, text, method, floor, rows:[{rank, row, hash, account, name, datanet, text, score,
 *                 share_ppm}], contributors:[{account, name, net, share_ppm, amount_wei}],
 *                 spans:[{from, to, row, account, tokens}] (bytes of text; strongest source of each),
 *                 methods:{NAME:[{row, rank, score}…]}, elapsed_ms, history:[{answer, prompt, time_ms}]}
 *   rewards      {accounts:[{account, key, name, earned_wei, pending_wei, claimable_wei, claimed_wei}],
 *                 payments:[{id, batch, account, amount_wei, time_ms, state}], earned_curve:[[time_ms, "wei"]…],
 *                 datanets:[{datanet, calls, earned_wei, pending_wei}] (of this node's accounts), names:{ACCOUNT: key}}
 *   validator    {account, key, enabled:bool, stake_wei, queue:[{batch, poster, calls, stage:"posted"|"drawn"|"fetching"|
 *                 "executing"|"committed"|"revealed"|"final", deadline_ms, done, total}],
 *                 verdicts:[{batch, poster, verdict:"valid"|"invalid", reason, outcome:"settled"|"voided"|"slashed"|null,
 *                 time_ms}], disputes:[{batch, kind, stage, deadline_ms}],
 *                 batches:[{batch, poster, stage, posted_ms, done, total, deadline_ms, mine:bool}] (the chain's newest),
 *                 unbonding_wei, owed_wei, total_stake_wei, active:bool}
 *   datanets     {list:[{id, name, owner, licence, contributions, rows, by:{ACCOUNT: rows}}]}
 *   models       {list:[{name, kind:"base"|"adapter", file, base, hash, parameters, bytes, quant, served:bool, id, datanet,
 *                 rows, loss}]}
 *   jobs         {list:[as job_list in node/job.h]}
 *   keys         {list:[{name, address, account, unlocked:bool, balance_wei, limit_wei, spent_wei}]}
 *
 * Streams
 *   log          {time_ms, level:"error"|"warn"|"info"|"debug", room, text}
 *   ask          {ask: id, event:"start"|"token"|"end"|"error", text, model, adapter, prompt (start), tokens_in, tokens_out,
 *                 tokens_per_s, stop, answer: id for `attribute` (end), error}
 *   heads        {number, hash, parent, time_ms, txs, base_fee_wei, known, how, reorg: depth (absent when none)} */
#ifndef LOAM_NODE_TOPIC_H
#define LOAM_NODE_TOPIC_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct node;
struct topics;

#define TOPIC_INTERVAL_MS 100
#define TOPIC_BACKLOG 256
#define TOPIC_VALUE_MAX (1u << 20) /* bytes of a value as text; a larger one is refused and logged */

/* Replaces a state topic's value. Any thread; steals value (NULL is ignored: no memory). An unknown name is an invariant
 * broken, as is a stream given here. */
void topic_set(struct node *n, const char *topic, json_t *value);
/* Sets single fields of a state topic (those of fields, an object; stolen), keeping the others. */
void topic_update(struct node *n, const char *topic, json_t *fields);
/* Appends to a stream. Any thread; steals event. */
void topic_emit(struct node *n, const char *topic, json_t *event);
/* The newest value of a state topic, a deep copy; NULL if none was set. */
json_t *topic_get(struct node *n, const char *topic);
/* The newest events of a stream, oldest first, at most `most` and TOPIC_BACKLOG; new reference. */
json_t *topic_recent(struct node *n, const char *topic, size_t most);
bool topic_known(const char *topic);
bool topic_is_stream(const char *topic);

#endif
