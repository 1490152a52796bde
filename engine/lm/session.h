/* Running a model: an engine (one model, one activation mode, a thread pool and work memory) and sessions (one sequence
 * each, with its KV cache and adapter). A step takes any mix of sequences, prompts and single tokens, each with its own
 * adapter; results never depend on what else is in the batch, on the split of a prompt over steps, or on threads.
 *
 * An engine is used by one thread at a time. Sessions belong to their engine and are freed before it. */
#ifndef LOAM_LM_SESSION_H
#define LOAM_LM_SESSION_H

#include "gpu/fast.h"
#include "lm/adapter.h"
#include "lm/model.h"
#include "lm/tokenizer.h"

#include <stdatomic.h>

enum lm_act { LM_ACT_F32, LM_ACT_Q8 };
const char *lm_act_name(enum lm_act a); /* "f32", "q8" */

#define LM_ARITHMETIC "arith-1"
#define LM_ARITHMETIC_FAST "fast-bf16" /* near it, not equal: never in a paid batch */
#define LM_BATCH_MAX 64       /* sequences in one step */
#define LM_STEP_TOKENS_MAX (1u << 20) /* tokens in one step */

struct lm_engine;
struct lm_session;

struct lm_engine_opt {
    enum lm_act act;
    unsigned threads;      /* 0: all processors */
    const char *backend;   /* of gpu/ops.h; NULL: the best of this machine */
    uint64_t kv_bytes_max; /* budget of all sessions' caches; 0: 1 GiB */
    bool fast;             /* the fast mode of an NVIDIA device (lm/fast_session.h); act is then not looked at */
    enum fast_type weights; /* fast: how linears are kept there */
    /* Called between layers, from the computing thread: here the scheduler lets more urgent work go first. May be NULL. */
    void (*yield)(void *ctx);
    void *yield_ctx;
};

/* m is borrowed until lm_engine_free. act q8 needs m->quantised: LOAM_EUNSUPPORTED otherwise. */
enum loam_status lm_engine_new(struct lm_engine **out, struct lm_model *m, const struct lm_engine_opt *opt, struct err *err) LOAM_MUST_USE;
void lm_engine_free(struct lm_engine *e);
/* Its device failed (gpu.lost): it computes no more, another engine may. */
bool lm_engine_lost(const struct lm_engine *e);
struct lm_model *lm_engine_model(const struct lm_engine *e);
enum lm_act lm_engine_act(const struct lm_engine *e);
/* Bytes of weights (as the kernels hold them), of work memory, of caches now, and the caches' budget. */
struct lm_engine_memory {
    uint64_t weights, work, kv, kv_max;
};
void lm_engine_memory(struct lm_engine_memory *out, const struct lm_engine *e);

/* context: positions at most (0: the model's). adapter: NULL for the base model; borrowed until the session is freed; its
 * shapes are checked here. The cache grows in pages of GPU_KV_PAGE tokens as positions are used. */
enum loam_status lm_session_new(struct lm_session **out, struct lm_engine *e, const struct lm_adapter *adapter, uint32_t context,
                                struct err *err) LOAM_MUST_USE;
void lm_session_free(struct lm_session *s);
uint32_t lm_session_length(const struct lm_session *s); /* tokens in the cache */
uint32_t lm_session_context(const struct lm_session *s);
const uint32_t *lm_session_tokens(const struct lm_session *s); /* [length]; valid until the next step */
/* Forgets all but the first n tokens (n <= length): what follows is as if they had never been. */
void lm_session_truncate(struct lm_session *s, uint32_t n);

/* Makes s hold the first n tokens of from (n <= its length; same engine and adapter), as if it had computed them: a copy of
 * the pages. LOAM_ELIMIT where the budget is full, LOAM_ENOMEM; then s is empty. */
enum loam_status lm_session_copy(struct lm_session *s, const struct lm_session *from, uint32_t n, struct err *err) LOAM_MUST_USE;
const struct lm_adapter *lm_session_adapter(const struct lm_session *s);
/* New pages that n more tokens take, and how many pages are still within the budget. */
uint64_t lm_session_pages_for(const struct lm_session *s, uint32_t n);
uint64_t lm_engine_pages_left(const struct lm_engine *e);

/* One sequence's part of a step. */
struct lm_item {
    struct lm_session *session; /* each session once a step */
    const uint32_t *tokens;     /* [n], n >= 1 */
    uint32_t n;
    bool all;      /* logits of every token instead of the last */
    float *logits; /* out, [V] or, with all, [n × V]; NULL: none wanted */
};

/* Runs the items as one batch. LOAM_ELIMIT: a context or the caches' budget is full (the session named, nothing changed);
 * LOAM_ERANGE: a token past the vocabulary; LOAM_ENONFINITE; LOAM_ECANCEL where *cancel became non-zero between layers
 * (sessions are as before the step). cancel may be NULL. */
enum loam_status lm_step(struct lm_engine *e, const struct lm_item *items, size_t n, const atomic_int *cancel, struct err *err) LOAM_MUST_USE;

#endif
