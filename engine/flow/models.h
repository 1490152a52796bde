/* The models of a node: files in DATA/models and adapters recorded by train, opened once and shared by whoever computes.
 *
 * A name is "BASE" (DATA/models/BASE.gguf, or a folder DATA/models/BASE with config.json, tokenizer.json and safetensors), "ADAPTER" (a MODEL record, see flow.h) or "BASE+ADAPTER". Thread-safe; calls
 * that open files are for job threads. */
#ifndef LOAM_FLOW_MODELS_H
#define LOAM_FLOW_MODELS_H

#include "lm/batch.h"

#include <jansson.h>

struct node;
struct job;

#define FLOW_MODEL_NAME_MAX 128
#define FLOW_MODELS_OPEN_MAX 4     /* base models kept open; the one unused for longest goes first */
#define FLOW_ADAPTERS_OPEN_MAX 64  /* adapters kept in memory */
#define FLOW_ENGINES_IDLE_MAX 2    /* engines kept for a model with their caches */

/* A base and its adapter in use; borrowed pointers stay valid until flow_model_put. */
struct flow_model {
    char name[FLOW_MODEL_NAME_MAX]; /* as answers, records and /v1/models name it */
    char base_name[FLOW_MODEL_NAME_MAX];
    char adapter_name[FLOW_MODEL_NAME_MAX]; /* "" for the base alone */
    struct lm_model *base;
    const struct lm_adapter *adapter; /* NULL for the base alone */
    uint8_t adapter_hash[32];         /* zeros for the base alone */
    uint64_t model_id;                /* Models' id on the chain, 0: none */
    struct flow_models *owner;        /* inside */
    struct flow_base *in_base;
    struct flow_adapter *in_adapter;
};

/* name NULL or "": option model.default, else the newest adapter, else the only base. LOAM_ENOTFOUND lists what there is;
 * LOAM_EHASH where an adapter file is not what its record says. */
enum loam_status flow_model_get(struct flow_model **out, struct node *n, const char *name, struct err *err) LOAM_MUST_USE;
void flow_model_put(struct flow_model *m); /* NULL is fine */
/* A base by the path of its file (validate: fetched models). */
enum loam_status flow_model_get_path(struct flow_model **out, struct node *n, const char *path, struct err *err) LOAM_MUST_USE;

/* An engine for this model that nobody else uses, and with it one session for its adapter; both keep what they computed, so
 * that a following prompt with the same beginning is fast. kv bytes and backend come from the options. */
struct flow_engine {
    struct lm_engine *engine;
    struct lm_session *session;
    enum lm_act act;
    const struct lm_adapter *adapter;
    struct flow_engine *next; /* inside */
    void (*yield)(void *ctx); /* set by the user before computing, NULL otherwise */
    void *yield_ctx;
};
enum loam_status flow_engine_take(struct flow_engine **out, struct node *n, struct flow_model *m, enum lm_act act, struct err *err) LOAM_MUST_USE;
void flow_engine_give(struct flow_model *m, struct flow_engine *e);

/* Answers r (lm/batch.h) together with whatever else is asked of this base and act at the same time, in a compute turn of
 * class ask; returns when it is done. The jobs that wait lead the batch by turns. r->opt.cancel must be NULL: j's cancel
 * (NULL: none) is what ends it. The result is r->status. *fast: in the fast mode of a device (act then has no meaning); false
 * after it where the CPU took over, as option compute.fallback allows when the device cannot be had or fails before the first
 * token; from then on this base is answered by the CPU until it is opened again. */
enum loam_status flow_batch(struct node *n, struct flow_model *m, enum lm_act act, bool *fast, struct lm_request *r, struct job *j, struct err *err) LOAM_MUST_USE;

/* [{name, kind:"base"|"adapter", file, base, parameters, bytes, quant, …}], new reference; also sets the models topic. */
json_t *flow_model_list(struct node *n);
/* Whether a base model has that name: an adapter must not take it, since `--model NAME` means one of the two. */
bool flow_model_is_base(struct node *n, const char *name);
/* All about one model, with the hashes that name it (the first call reads all its weights); new reference. */
enum loam_status flow_model_info(json_t **out, struct node *n, const char *name, struct err *err) LOAM_MUST_USE;
/* Puts a GGUF file into DATA/models as name (NULL: the file's own name): linked where possible, else copied; checked by
 * opening it first. LOAM_EEXIST. */
enum loam_status flow_model_add(struct node *n, const char *path, const char *name, struct err *err) LOAM_MUST_USE;

/* Removes a base: its file or folder in DATA/models, then its packed image. LOAM_ESTATE where it is in use, or where adapters or
 * model.default need it, all named; LOAM_ENOTFOUND. */
enum loam_status flow_model_remove(struct node *n, const char *name, struct err *err) LOAM_MUST_USE;

/* Writes a base in another format (names as gpu_type_name's) as a new base; name (NULL: BASE-TYPE) comes back in out. LOAM_EEXIST. */
enum loam_status flow_model_quantize(char out[FLOW_MODEL_NAME_MAX], struct node *n, const char *base, const char *type, const char *head,
                                     const char *name, struct err *err) LOAM_MUST_USE;
/* lm/export.h: format "safetensors" (a folder; type NULL: F32) or "gguf" (a file; type NULL: F16), and the comparison of what was written
 * with its source: {model, format, to, type, merged, positions, same_highest, max_logit_difference, mean_logit_difference}; new
 * reference. In a compute turn of class train. LOAM_EEXIST, LOAM_ENOTBUILT. */
enum loam_status flow_model_export(json_t **out, struct node *n, struct job *j, const char *model, const char *to, const char *format,
                                   const char *type, struct err *err) LOAM_MUST_USE;
/* {model, act, tokens, windows, window, nll, perplexity, tokens_per_s}; new reference. In compute turns of class train; at most
 * FLOW_PERPLEXITY_MAX bytes of text. */
#define FLOW_PERPLEXITY_MAX (16u << 20)
enum loam_status flow_perplexity(json_t **out, struct node *n, struct job *j, const char *model, const char *path, const char *act, uint32_t window,
                                 uint32_t tokens, struct err *err) LOAM_MUST_USE;

/* Makes the models service, the ask routes of the API; called once after node_open. */
enum loam_status flow_attach(struct node *n, struct err *err) LOAM_MUST_USE;

#endif
