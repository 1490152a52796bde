/* What every flow stands on: the node, the job that it runs on, the name under which it keeps its finished steps, and the
 * few words it may say to whoever started it. flow never includes cmd; commands fill this in (cmd/flows.h).
 *
 * A flow is sequential code on a job thread. It is durable by writing the result of each step under its name before it
 * goes on: started again with the same name it takes those results and continues. Transactions are sent through the
 * outbox under keys made of the name, so none is sent twice. */
#ifndef LOAM_FLOW_CTX_H
#define LOAM_FLOW_CTX_H

#include "base/bytes.h"
#include "node/node.h"
#include "record/types.h"
#include "store/store.h"

#include <jansson.h>

struct job;

#define FLOW_NAME_MAX 160
#define FLOW_TEXT_MAX 512 /* one line said to people */

struct flow {
    struct node *node;
    struct job *job;  /* may be NULL in tests */
    const char *name; /* e.g. "contribute-5f0c…"; at most FLOW_NAME_MAX bytes */
    void *ui;         /* given to the functions below; each may be NULL: then nothing is said, and consent is refused */
    void (*note)(void *ui, const char *text);
    void (*progress)(void *ui, uint64_t done, uint64_t total, const char *text);
    /* Consent to spend; LOAM_ECANCEL when refused. text says chain, key and amount. */
    enum loam_status (*confirm)(void *ui, const char *text, struct err *err);
    /* Makes the node able to sign with this key. */
    enum loam_status (*unlock)(void *ui, const char *key, struct err *err);
    char adopted[FLOW_NAME_MAX]; /* inside: storage for a name taken over */
};

void flow_note(struct flow *f, const char *fmt, ...) LOAM_PRINTF(2, 3);
void flow_progress(struct flow *f, uint64_t done, uint64_t total, const char *fmt, ...) LOAM_PRINTF(4, 5);
enum loam_status flow_confirm(struct flow *f, struct err *err, const char *fmt, ...) LOAM_MUST_USE LOAM_PRINTF(3, 4);
enum loam_status flow_unlock(struct flow *f, const char *key, struct err *err) LOAM_MUST_USE;
/* LOAM_ECANCEL when the job was cancelled. */
enum loam_status flow_check(struct flow *f, struct err *err) LOAM_MUST_USE;
enum loam_status flow_sleep(struct flow *f, uint64_t ms, struct err *err) LOAM_MUST_USE;

/* Steps. get: LOAM_ENOTFOUND while the step is not done; *out is the caller's. put: durable when it returns; value is
 * borrowed. */
enum loam_status flow_step_get(struct flow *f, const char *step, json_t **out, struct err *err) LOAM_MUST_USE;
enum loam_status flow_step_put(struct flow *f, const char *step, const json_t *value, struct err *err) LOAM_MUST_USE;
/* put for two that run at once: the first value stays. *value is replaced (its reference let go) where another was there. */
enum loam_status flow_step_make(struct flow *f, const char *step, json_t **value, struct err *err) LOAM_MUST_USE;
/* The same work is done by one name. A command that was cut off goes on when its node starts again; its user, who does not know
 * that, gives it once more. `work` says what is done by its content ("contribute/…hash"): the first flow to come keeps it under its
 * own name, later ones take that name over and go on with the same steps and transactions. Kept after the end too. */
enum loam_status flow_own(struct flow *f, const char *work, struct err *err) LOAM_MUST_USE;
/* After a failure that will not go away by itself (LOAM_EREVERT): the next try begins anew. */
void flow_disown(struct flow *f, const char *work);
/* Removes every step of the flow: its end result stands elsewhere. */
enum loam_status flow_steps_drop(struct flow *f, struct err *err) LOAM_MUST_USE;

/* Records: JSON, compact, keys sorted. get gives LOAM_ENOTFOUND and the caller's reference. */
enum loam_status record_get(struct node *n, enum store_table t, const void *key, size_t klen, json_t **out, struct err *err) LOAM_MUST_USE;
enum loam_status record_put(struct node *n, enum store_table t, const void *key, size_t klen, const json_t *value, struct err *err) LOAM_MUST_USE;
/* Under the 8 big-endian bytes of a number, as most tables have it. */
enum loam_status record_get_u64(struct node *n, enum store_table t, uint64_t key, json_t **out, struct err *err) LOAM_MUST_USE;
enum loam_status record_put_u64(struct node *n, enum store_table t, uint64_t key, const json_t *value, struct err *err) LOAM_MUST_USE;
/* Every record under the prefix, in key order, as a JSON array; at most RECORDS_MAX (LOAM_ELIMIT). */
#define RECORDS_MAX 100000
enum loam_status record_list(struct node *n, enum store_table t, const void *prefix, size_t plen, json_t **out, struct err *err) LOAM_MUST_USE;
/* JSON blobs. get parses at most FLOW_JSON_MAX bytes. */
enum loam_status json_blob_put(struct node *n, struct hash32 *hash, uint64_t *len, const json_t *value, struct err *err) LOAM_MUST_USE;
enum loam_status json_blob_get(struct node *n, json_t **out, const struct hash32 *hash, struct err *err) LOAM_MUST_USE;

/* Fields. The getters answer LOAM_EPARSE naming the field that is missing or not of that form. */
json_t *json_hash(const struct hash32 *h);
json_t *json_addr(const struct addr20 *a);
json_t *json_sig(const struct sig65 *s);
json_t *json_u256(struct u256 v); /* decimal string */
enum loam_status jget_u64(uint64_t *out, const json_t *o, const char *field, struct err *err) LOAM_MUST_USE;
enum loam_status jget_str(const char **out, const json_t *o, const char *field, struct err *err) LOAM_MUST_USE; /* borrowed */
enum loam_status jget_hash(struct hash32 *out, const json_t *o, const char *field, struct err *err) LOAM_MUST_USE;
enum loam_status jget_addr(struct addr20 *out, const json_t *o, const char *field, struct err *err) LOAM_MUST_USE;
enum loam_status jget_sig(struct sig65 *out, const json_t *o, const char *field, struct err *err) LOAM_MUST_USE;
enum loam_status jget_u256(struct u256 *out, const json_t *o, const char *field, struct err *err) LOAM_MUST_USE;
enum loam_status jget_array(json_t **out, const json_t *o, const char *field, struct err *err) LOAM_MUST_USE;  /* borrowed */
enum loam_status jget_object(json_t **out, const json_t *o, const char *field, struct err *err) LOAM_MUST_USE; /* borrowed */
/* json_object_set_new that reports lack of memory; steals value (NULL: LOAM_ENOMEM). */
enum loam_status jset(json_t *o, const char *field, json_t *value, struct err *err) LOAM_MUST_USE;

/* `if ((s = …)) goto out;` in one word: flows are long rows of steps. */
#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        if ((s = (call)) != LOAM_OK)                                                                                   \
            goto out;                                                                                                  \
    } while (0)

#endif
