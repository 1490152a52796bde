/* Jobs: work on threads of its own, with cancel, pause, progress, a listing and a durable record.
 *
 * A job's function is sequential code. It gets an immutable input, looks at its cancel flag (job_check) and reports
 * progress. Durable jobs are recorded in DATA/jobs/ID.json until they end, so that a node that died starts them again.
 * States: running, paused, waiting (needs the user, e.g. a password; `job resume` goes on), done, failed, cancelled.
 * The newest ended jobs stay listed (option job.keep-finished). */
#ifndef LOAM_NODE_JOB_H
#define LOAM_NODE_JOB_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct node;
struct job;
struct jobs;

#define JOBS_RUNNING_MAX 64 /* threads; more start as LOAM_EBUSY */

enum job_state { JOB_RUNNING, JOB_PAUSED, JOB_WAITING, JOB_DONE, JOB_FAILED, JOB_CANCELLED };
const char *job_state_name(enum job_state s);

struct job_def {
    uint64_t id;       /* 0: a fresh number; else that of an ended or unfinished job whose record is continued */
    const char *title; /* shown; the command line without secrets */
    const char *flow;  /* flow id, or NULL: a fresh one "title's first word-<32 hex>" */
    bool listed;       /* in job list and the jobs topic */
    bool durable;
    json_t *record;    /* what a resume needs (borrowed, copied), or NULL */
    /* The work; on its own thread. */
    enum loam_status (*run)(struct job *j, void *arg, struct err *err);
    /* After run, on the job's thread; the job's end is already listed. Frees arg. May be NULL. */
    void (*end)(struct job *j, void *arg, enum loam_status s, const struct err *err);
    void *arg;
};

/* Any thread; never waits for the disk: a durable job's record is written by its own thread, before run is called (if it
 * cannot be written the job fails without running). *id gets the job's number (unique in the data folder). If it fails, end is not called and arg stays the
 * caller's. */
enum loam_status job_start(struct node *n, uint64_t *id, const struct job_def *def, struct err *err) LOAM_MUST_USE;

/* For the job's own thread. */
uint64_t job_id(struct job *j);
const char *job_flow(struct job *j);
bool job_cancelled(struct job *j); /* cancelled, or the node stops */
/* LOAM_ECANCEL if cancelled (or the node stops: a durable job then stays recorded); sleeps while paused. */
enum loam_status job_check(struct job *j, struct err *err) LOAM_MUST_USE;
/* Sleeps, ended early by cancel. */
enum loam_status job_sleep_ms(struct job *j, uint64_t ms, struct err *err) LOAM_MUST_USE;
/* detail stolen, may be NULL: an object; "text" is a phrase for people. */
void job_progress(struct job *j, uint64_t done, uint64_t total, json_t *detail);
/* Sets a field of the job's own durable record (value stolen), on disk when it returns; nothing for jobs that are not durable. */
enum loam_status job_note(struct job *j, const char *field, json_t *value, struct err *err) LOAM_MUST_USE;
void job_result(struct job *j, json_t *result); /* stolen; listed with the job */

/* Any thread. LOAM_ENOTFOUND; LOAM_ESTATE when it has ended. */
enum loam_status job_cancel(struct node *n, uint64_t id, struct err *err) LOAM_MUST_USE;
enum loam_status job_pause(struct node *n, uint64_t id, struct err *err) LOAM_MUST_USE;
/* Paused: goes on. Waiting or failed durable: LOAM_ESTATE here; engine/cmd starts it again from its record. */
enum loam_status job_resume(struct node *n, uint64_t id, struct err *err) LOAM_MUST_USE;
/* Waits for the end. Job threads only. *s gets how it ended. */
enum loam_status job_wait(struct node *n, uint64_t id, enum loam_status *s, struct err *err) LOAM_MUST_USE;
/* The same for at most ms: LOAM_ETIMEOUT. */
enum loam_status job_wait_ms(struct node *n, uint64_t id, uint64_t ms, enum loam_status *s, struct err *err) LOAM_MUST_USE;
/* [{id, title, flow, state, done, total, detail, started_ms, ended_ms, status, error, durable}], newest first; new reference. */
json_t *job_list(struct node *n);
json_t *job_show(struct node *n, uint64_t id); /* NULL if unknown; also "record" and "result" */
size_t job_running(struct node *n); /* listed jobs not ended */
uint64_t jobs_ended(struct node *n); /* listed jobs that ended in this life */
/* The record of a durable job that is unfinished, waiting, failed or cancelled: {id, flow, title, state, record}; NULL if none. */
json_t *job_record(struct node *n, uint64_t id);
/* The oldest job below the number `before` that runs or is paused and whose record has the same argv and cwd; 0: none. */
uint64_t job_same(struct node *n, uint64_t before, const json_t *record);
/* Records of durable jobs that an earlier life left unfinished, the oldest first: [{id, flow, title, record}]; new reference. */
json_t *job_unfinished(struct node *n);

#endif
