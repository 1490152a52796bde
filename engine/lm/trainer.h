/* LoRA training on the CPU in arith-1 (act=f32): same manifest, same adapter hash, whatever the threads, the micro-batches or
 * how often it was killed on the way.
 *
 * What a run is, exactly. Step s of S takes the next `batch` rows of its epoch's order (philox stream "order", index = epoch;
 * the last step of an epoch may be short). An example's gradient is that of its summed NLL, each element one fp32 chain over
 * its own tokens; the step's gradient g adds examples in manifest order (the order's order). With N the step's trained tokens,
 * inv = fl(1 / N), norm = fl(fl(sqrt(sumsq(g))) * inv): g_scale = inv, or fl(inv * fl(clip / fl(norm + 1e-6f))) where norm >
 * clip. Then AdamW (gpu/ops.h) with learning rate and bias corrections from fp64 on the host, rounded once.
 *
 * With rows to evaluate on (never trained), their mean NLL a trained token is measured after every `eval_every` steps, or after
 * every epoch, and after the last step; the adapter with the lowest is the result (ties: the earlier one), and where `patience`
 * evaluations in a row brought nothing lower the run ends there. Checkpoints after the best are then none of the result's: its
 * list ends with the best, under the number of the epoch in which it fell.
 *
 * Folder of a run (DIR): manifest (text), state (atomic; everything needed to go on), steps (one 64-byte record a step),
 * epoch-N.adapter for N = 1, 2, 4, 8, ... and the last; adapter (the result); best.adapter and evals (one 32-byte record an
 * evaluation) where there are rows to evaluate on. Killing the program at any moment loses
 * at most the work since the last state. One process a folder: the caller locks. */
#ifndef LOAM_LM_TRAINER_H
#define LOAM_LM_TRAINER_H

#include "lm/adapter.h"
#include "lm/data.h"

struct gpu;
struct lm_group;
struct lm_model;

enum lm_schedule { LM_CONSTANT, LM_LINEAR, LM_COSINE };

struct lm_hyper {
    uint32_t rank;        /* 16 */
    float alpha;          /* 32 */
    bool rslora;
    uint32_t targets;     /* bits of enum lm_linear; all */
    float dropout;        /* 0 .. 0.9; of x before A, as PEFT */
    double lr;            /* 1e-3 */
    enum lm_schedule schedule;
    double warmup;        /* share of all steps, 0.06 */
    double beta1, beta2, eps, decay; /* 0.9 0.999 1e-8 0 */
    double clip;          /* 1; 0 = none */
    uint32_t epochs;      /* 12 */
    uint32_t batch;       /* rows a step, 8 */
    uint32_t max_tokens;  /* of a row; longer rows are refused by name */
    double eval;          /* 0 .. 0.5: share of the rows kept back to evaluate on; 0: none. The caller splits (lm_eval_rows) */
    uint32_t eval_every;  /* steps between evaluations; 0: an epoch */
    uint32_t patience;    /* evaluations without improvement that end the run; 0: none does */
};
/* How many of n rows `share` keeps back: rounded, one at least, and one at least left to train on. 0 for share 0 or n < 2. */
size_t lm_eval_rows(size_t n, double share);
/* The defaults in brackets above. */
void lm_hyper_default(struct lm_hyper *h);
enum loam_status lm_hyper_check(const struct lm_hyper *h, struct err *err) LOAM_MUST_USE;
/* Canonical text, one "name value" a line in the order above, fp64 as %a; keccak of it is the recipe's hyperHash. The last three
 * lines stand there only where eval is not 0. */
enum loam_status lm_hyper_text(struct buf *out, const struct lm_hyper *h, struct err *err) LOAM_MUST_USE;
enum loam_status lm_hyper_parse(struct lm_hyper *h, const char *text, size_t len, struct err *err) LOAM_MUST_USE;

struct lm_train_plan { /* bytes; printed before step 1, and allocated then */
    size_t base;       /* mapped weights (shared, can be dropped by the system) */
    size_t packed;     /* the kernels' own copy of weights, if any */
    size_t adapter;    /* parameters */
    size_t optimiser;  /* gradient, m, v */
    size_t activations;/* saved for backward, for micro_tokens */
    size_t scratch;    /* logits chunk, per-layer work */
    uint32_t micro_tokens; /* most tokens in flight; a longer step goes in several passes with the same bits */
    uint32_t recompute; /* computed again in backward: 0 nothing, 1 gate and up, 2 whole layers (LM_KEEP_… of pass.h) */
    uint64_t steps;    /* of the whole run */
    size_t resident;   /* the process's peak: what it holds now, the packed weights with it, and all of the above but base */
};

struct lm_train_metrics {
    uint64_t step, steps;    /* done, of */
    uint32_t epoch, epochs;  /* current (from 1), of */
    double loss;             /* mean NLL a trained token of this step */
    double lr, grad_norm;    /* before the clip */
    double tok_s;            /* tokens (all, trained or not) a second, this run, smoothed */
    double eta_s;            /* to the end */
    uint64_t tokens;         /* seen in all */
    size_t rss;              /* resident bytes of the process */
    uint64_t targets;        /* trained tokens of this step */
    double eval_loss;        /* of the newest evaluation; NaN: none yet */
    double best_loss;        /* the lowest so far; NaN: none yet */
    uint64_t best_step;
};

enum lm_train_ask { LM_GO_ON, LM_PAUSE, LM_CANCEL }; /* PAUSE saves the state and returns LOAM_ECANCEL with paused set */

struct lm_train_hooks {
    void *ctx;
    void (*metrics)(void *ctx, const struct lm_train_metrics *m);        /* after every step; may be NULL */
    void (*checkpoint)(void *ctx, uint32_t epoch, const char *path);     /* after it stands on disk; may be NULL */
    void (*evaluated)(void *ctx, uint64_t step, double loss, bool best); /* after each evaluation; may be NULL */
    enum lm_train_ask (*ask)(void *ctx);  /* often (each layer of each pass): cancel, pause; also where the scheduler yields */
    double save_s;                        /* seconds between states; 0: as often as takes 4 % of the time, 1 to 30 */
};

struct lm_train_result {
    uint8_t adapter_hash[32];
    uint8_t manifest_hash[32];
    uint32_t checkpoints;            /* count */
    uint32_t checkpoint_epoch[32];   /* 1, 2, 4, ... last */
    uint64_t checkpoint_step[32];
    uint8_t checkpoint_hash[32][32]; /* adapter hashes */
    uint64_t steps;
    double loss;                     /* of the last step */
    double tok_s;
    bool paused;
    double seconds;                  /* computed in this life */
    uint32_t evals;                  /* done; 0 where there is nothing to evaluate on */
    double best_loss;                /* of the result; NaN without evaluations */
    uint64_t best_step;
    bool stopped;                    /* patience ended it */
};

/* One 64-byte record a step, little-endian, in DIR/steps: u64 step · f64 loss sum (fp32 chain widened) · u64 targets · f32 norm ·
 * f32 lr · 32 keccak of the gradient's per-tensor sums of squares (fp32, in order). Leaves of the Training statement's step tree. */
#define LM_STEP_BYTES 64
/* One 32-byte record an evaluation: u64 step · f64 sum of NLL · u64 trained tokens · u64 1 if the lowest so far. */
#define LM_EVAL_BYTES 32

struct lm_trainer;
/* Plans and allocates everything; opens DIR (made if missing) and goes on from its state if its manifest is the same
 * (LOAM_ESTATE otherwise, naming the first line that differs). g, model and data are borrowed until lm_trainer_free; the
 * trainer sets g's yield hook while it runs.
 * eval: rows kept back, or NULL (then h->eval must be 0); borrowed too. memory: bytes the run may use, 0 = three quarters of what is free. dir NULL: nothing is read or written (a rank that is not the
 * first; see lm_trainer_group). */
enum loam_status lm_trainer_new(struct lm_trainer **out, struct gpu *g, struct lm_model *m, const struct lm_data *d,
                                const struct lm_data *eval, const struct lm_hyper *h, const uint8_t seed[32], const char *dir, size_t memory,
                                struct err *err) LOAM_MUST_USE;
/* Straight after lm_trainer_new: this process is one rank of several (lm/group.h), all with the same model, rows,
 * hyper-parameters and seed; LOAM_ESTATE where a rank has others. Rank 0 has the folder, takes part in the run's hooks alone
 * (pause and cancel are its to give), and tells the others where the run stands. group is borrowed. */
enum loam_status lm_trainer_group(struct lm_trainer *t, struct lm_group *group, struct err *err) LOAM_MUST_USE;
const struct lm_train_plan *lm_trainer_plan(const struct lm_trainer *t);
uint64_t lm_trainer_step(const struct lm_trainer *t); /* done so far; > 0 straight after _new means it was resumed */
/* Until the end, a cancel, a pause or an error. LOAM_ENONFINITE names step, row and tensor. */
enum loam_status lm_trainer_run(struct lm_trainer *t, const struct lm_train_hooks *hooks, struct lm_train_result *out,
                                struct err *err) LOAM_MUST_USE;
const struct lm_adapter *lm_trainer_adapter(const struct lm_trainer *t); /* current; borrowed */
void lm_trainer_free(struct lm_trainer *t);

#endif
