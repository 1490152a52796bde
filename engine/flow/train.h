/* train: rows of a datanet become an adapter with its checkpoints, gradient stores and statements.
 *
 * Recipe signed and recorded → seed from a later block → training (lm/trainer.h: any kill resumes to the same bits) → gradient
 * stores → Training signed and published → MODEL record (flow.h). Run again with the same name, base, rows and
 * hyper-parameters it gives the model that is there.
 *
 * Trees of the Training statement (record/tree.h): checkpoints: u64be epoch ‖ u64be step ‖ adapter hash; steps: the trainer's
 * 64-byte records; damping, rows and fine roots: poa/store.h. */
#ifndef LOAM_FLOW_TRAIN_H
#define LOAM_FLOW_TRAIN_H

#include "flow/ctx.h"
#include "flow/models.h"
#include "flow/tuning.h"

#define TRAIN_NAME_MAX 64

struct flow_train {
    const char *name;            /* of the adapter: a-z A-Z 0-9 - _ . */
    const char *base;            /* as flow_model_get; NULL: the default base */
    uint64_t datanet;            /* with files NULL */
    const char *const *files;    /* JSONL of one's own: a private run, without chain and statements; accounts count from 3 by file */
    size_t n_files;
    const char *key;             /* the trainer's; NULL with files */
    const char *relay;           /* pays the gas; NULL: key */
    const char *seed;            /* private runs: 64 hex digits; NULL: drawn */
    struct lm_hyper hyper;
    unsigned ranks;              /* processes that share the work (flow/ranks.h); 0, 1: this one alone */
    const char *hosts;           /* mpirun's file of machines; NULL: this one */
};

/* *out: the MODEL record with "new": bool, and figures {steps, loss, tokens_per_s, seconds, memory_bytes} of this life;
 * with rows to evaluate on (hyper.eval) evaluation {rows, evaluations, loss, step, stopped_early}: of the adapter that was kept. */
enum loam_status flow_train(struct flow *f, json_t **out, const struct flow_train *q, struct err *err) LOAM_MUST_USE;

/* MODEL records, by name. */
enum loam_status flow_trained_list(struct node *n, json_t **out, struct err *err) LOAM_MUST_USE;
enum loam_status flow_trained_get(struct node *n, json_t **out, const char *name, struct err *err) LOAM_MUST_USE;

/* The record with "file": what the adapter file holds, and whether it is as recorded. */
enum loam_status flow_adapter_info(struct node *n, json_t **out, const char *name, struct err *err) LOAM_MUST_USE;
/* format "peft": a folder as PEFT has it (lm/peft.h); "gguf": a file as llama.cpp has it (lm/export.h). {format, folder or file, hash}. */
enum loam_status flow_adapter_export(struct node *n, json_t **out, const char *name, const char *to, const char *format, struct err *err) LOAM_MUST_USE;
/* Takes a PEFT folder, or a file whose name ends with .gguf, in under that name: a MODEL record without rows. */
enum loam_status flow_adapter_import(struct node *n, json_t **out, const char *folder, const char *name, const char *base, struct err *err) LOAM_MUST_USE;

/* A trained model opened for attribution: by `attribute`, `record` and `validate`. name: the adapter's, or BASE+ADAPTER. */
struct flow_tuned {
    json_t *record;
    struct flow_model *m;
    struct tuning_rows rows;
    struct tuned *t;
    struct gpu *gpu;
};
enum loam_status flow_tuned_open(struct flow_tuned *out, struct node *n, const char *name, bool check, struct err *err) LOAM_MUST_USE;
void flow_tuned_close(struct flow_tuned *t); /* a zeroed one is fine */

/* The compute device by the node's options. */
enum loam_status flow_gpu_open(struct gpu **out, struct node *n, struct err *err) LOAM_MUST_USE;

#endif
