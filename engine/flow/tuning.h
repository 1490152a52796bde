/* Tuning: from rows to an adapter with its checkpoints and gradient stores, and from an answer to its rows. The part of
 * `train` and `attribute` that needs no node, chain or store: validators run the same code, and so do the quality figures.
 *
 * Folder of a run: what lm/trainer.h says, and epoch-N.poa beside each epoch-N.adapter. */
#ifndef LOAM_FLOW_TUNING_H
#define LOAM_FLOW_TUNING_H

#include "lm/data.h"
#include "lm/model.h"
#include "lm/trainer.h"
#include "poa/score.h"
#include "poa/store.h"
#include "poa/text.h"
#include "record/row.h"

#include <jansson.h>

/* ---- rows: those trained on, in manifest order ---- */

struct tuning_row {
    struct hash32 hash;       /* of the row's bytes (record/row.h) */
    uint64_t account;         /* who contributed it */
    uint64_t datanet, contribution, index;
    char *text;               /* contents joined by a line feed; owned */
};

struct tuning_rows {
    struct tuning_row *row;   /* [data.count] */
    size_t cap;
    struct lm_data data;      /* the same rows as tokens */
};
void tuning_rows_init(struct tuning_rows *r);
void tuning_rows_clear(struct tuning_rows *r);
/* One row. A hash that is there already: LOAM_EEXIST (the first contributor keeps it). */
enum loam_status tuning_rows_add(struct tuning_rows *r, struct lm_model *m, const struct row *row, uint64_t account, uint64_t datanet,
                                 uint64_t contribution, uint64_t index, uint32_t max_tokens, struct err *err) LOAM_MUST_USE;
/* Appends the row's line of the rows blob (flow.h); and back. Every line is checked (LOAM_EPARSE, LOAM_EHASH name it). */
enum loam_status tuning_row_write(struct buf *out, const struct tuning_row *r, const struct row *source, struct err *err) LOAM_MUST_USE;
enum loam_status tuning_rows_read(struct tuning_rows *out, struct lm_model *m, const char *text, size_t n, uint32_t max_tokens,
                                  struct err *err) LOAM_MUST_USE;
/* Root over row leaves (hash ‖ account) in order: Recipe.dataRoot. */
struct hash32 tuning_rows_root(const struct tuning_rows *r);

/* ---- training ---- */

struct tuning_hooks {
    struct lm_train_hooks train;
    /* Gradient stores: checkpoint i of n, rows or tensors done. May be NULL. */
    void (*gradients)(void *ctx, uint32_t checkpoint, uint32_t checkpoints, size_t done, size_t total);
    /* A checkpoint's store stands: seconds of its pass over the rows, of them in keeping the gradients as they came (projected, int8, into
     * the build's file), and seconds of making the store of what was kept (Fisher's rows, roots, writing). May be NULL. */
    void (*store)(void *ctx, uint32_t checkpoint, uint32_t checkpoints, double pass, double keeping, double making);
};

struct tuning_opt {
    struct lm_hyper hyper;
    uint8_t seed[32];
    const struct lm_data *eval; /* rows kept back (hyper.eval), or NULL */
    const char *dir;
    size_t memory;       /* lm_trainer_new; 0: most of what is free */
    uint64_t poa_budget; /* bytes of all stores; 0: the default */
    bool fine;           /* also the roots over int32 rows */
    unsigned ranks;      /* more than 1: by so many processes (flow/ranks.h), with the same result */
    const char *hosts;   /* of ranks; NULL: this machine */
    const char *base;    /* of ranks: the base model's file or folder */
    const char *backend; /* of ranks; NULL: the best of the CPU */
};

/* Trains (or goes on), then makes the gradient stores that are not there yet. *plan (may be NULL) gets the memory plan before
 * the first step through hooks' first metrics at the latest. */
enum loam_status tuning_run(struct lm_train_result *out, struct gpu *g, struct lm_model *m, const struct tuning_rows *rows,
                            const struct tuning_opt *opt, const struct tuning_hooks *hooks, struct lm_train_plan *plan,
                            struct err *err) LOAM_MUST_USE;

/* ---- a tuned model ---- */

struct tuned {
    struct lm_model *model;           /* borrowed */
    const struct tuning_rows *rows;   /* borrowed */
    uint32_t checkpoints;
    struct lm_adapter *adapter[POA_CHECKPOINTS_MAX];
    struct poa_store store[POA_CHECKPOINTS_MAX];
    const struct poa_store *stores[POA_CHECKPOINTS_MAX];
    struct poa_bm25 *bm25;
    struct poa_spans *spans;
};
/* dir: of the run; epochs[n] its checkpoints. check: hash the stores. */
enum loam_status tuned_open(struct tuned **out, struct lm_model *m, const struct tuning_rows *rows, const char *dir,
                            const uint32_t *epochs, uint32_t n, bool check, struct err *err) LOAM_MUST_USE;
void tuned_free(struct tuned *t); /* NULL is fine */

/* What the rows did to one answer, by every method. */
struct tuned_scores {
    size_t rows;
    int64_t *score[POA_METHODS];   /* [rows] each, or NULL where the method cannot be had */
    uint64_t *order[POA_METHODS];  /* best row first */
    int exponent;                  /* of POA_FISHER's scores */
    struct hash32 query[POA_CHECKPOINTS_MAX]; /* of the answer's int8 gradients */
    double nll;                    /* of the answer at the last checkpoint */
    struct poa_span *span;         /* of the output's tokens */
    size_t spans;
};
/* text: question and answer, for BM25. methods: bits of 1 << enum poa_method. cancelled may be NULL. */
enum loam_status tuned_attribute(struct tuned_scores *out, const struct tuned *t, struct gpu *g, const uint32_t *prompt, uint32_t n_prompt,
                                 const uint32_t *output, uint32_t n_output, const char *text, unsigned methods,
                                 bool (*cancelled)(void *ctx), void *ctx, struct err *err) LOAM_MUST_USE;
void tuned_scores_clear(struct tuned_scores *s);
/* Shares by one method's scores. */
enum loam_status tuned_shares(struct poa_shares *out, const struct tuned *t, const int64_t *score, struct err *err) LOAM_MUST_USE;

#endif
