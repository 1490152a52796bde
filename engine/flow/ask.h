/* ask: a prompt in, an answer out, both stored (flow.h, CALL "answer" records). */
#ifndef LOAM_FLOW_ASK_H
#define LOAM_FLOW_ASK_H

#include "flow/models.h"
#include "lm/generate.h"
#include "record/types.h"

struct job;
struct store_batch;

#define ASK_TOKENS_DEFAULT 256u

struct flow_ask {
    const char *model;       /* as flow_model_get */
    const json_t *messages;  /* [{role, content}]; borrowed */
    enum lm_act act;
    struct lm_sampler sampler; /* with `seeded` false the seed is drawn here */
    bool seeded;
    uint32_t max_tokens;     /* 0: until the context is full */
    const char *stop[LM_STOP_MAX];
    bool logprobs;
    uint32_t top_logprobs;
    const char *privacy;     /* "own" where NULL */
    const char *key;         /* of the asker, or NULL */
    bool forget;             /* do not store the answer (its id is 0 then) */
    const struct hash32 *prompt_salt; /* of the payer; NULL: drawn */
    /* Paid calls: adds to the record, which has its id, and to the batch that stores it, so that both are durable together. Such an answer is
     * kept whole or not at all. May be called again with another id. */
    enum loam_status (*also)(void *ctx, struct store_batch *b, json_t *rec, struct err *err);
    void *also_ctx;
    lm_token_fn token;       /* as in generate.h; NULL allowed; runs on the job's thread */
    void *ctx;
    bool *fast;              /* out, before the first token: computed in a device's fast mode (paid calls never are); NULL allowed */
};

/* The record as stored; new reference. Job threads only; waits for a compute turn. LOAM_ECANCEL when the job was cancelled
 * before the first token; later the part that came is stored with stop "cancel". */
enum loam_status flow_ask(json_t **out, struct node *n, struct job *j, const struct flow_ask *q, struct err *err) LOAM_MUST_USE;
/* The same computation without a record: bits of a validator. out as lm_generate; prompt gets the rendered ids. The caller
 * holds a compute turn; yield is called between layers. */
enum loam_status flow_ask_run(struct lm_answer *out, struct lm_ids *prompt, struct node *n, struct flow_model *m, const struct flow_ask *q,
                              const atomic_int *cancel, void (*yield)(void *ctx), void *yield_ctx, struct err *err) LOAM_MUST_USE;
/* A stored answer by id; new reference. LOAM_ENOTFOUND. */
enum loam_status flow_answer_get(json_t **out, struct node *n, uint64_t id, struct err *err) LOAM_MUST_USE;

/* The sampler's members of an answer record, and back. */
json_t *flow_sampler_json(const struct lm_sampler *s, uint32_t max_tokens, const char *const *stop);
enum loam_status flow_sampler_read(struct flow_ask *q, const json_t *sampler, struct err *err) LOAM_MUST_USE;

/* serve.c: routes /v1/models and /v1/chat/completions. */
enum loam_status flow_serve(struct node *n, struct err *err) LOAM_MUST_USE;

#endif
