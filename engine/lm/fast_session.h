/* The fast mode's model (gpu/fast.h) behind sessions: an engine made with lm_engine_opt.fast keeps weights, cache and adapters on
 * the device in the formats of that mode, and lm_step's rounds go through lm_fast_step instead of the table of operations.
 * Inside lm only; session.c drives it. Its numbers are near arith-1's, not equal: LM_ARITHMETIC_FAST names them in records.
 *
 * The residual stream is bf16. A round whose sequences all begin goes through flash attention; one that goes on from a cache
 * reads the cache a token at a time. Rounds of one token a sequence are recorded as a CUDA graph the second time they come. */
#ifndef LOAM_LM_FAST_SESSION_H
#define LOAM_LM_FAST_SESSION_H

#include "gpu/fast.h"
#include "lm/session.h"

struct lm_fast;

struct lm_fast_opt {
    const char *backend;    /* "cuda", "cuda:N": LOAM_EINVAL for another */
    enum fast_type weights; /* of the linears and the head; embeddings and norms are bf16 */
    uint32_t rows;          /* tokens of a round at most */
    uint64_t pages;         /* of the cache, all allocated now */
};

/* LOAM_EUNSUPPORTED: what the fast mode has no kernels for, named (norms of heads or after halves, GELU, widths that are no
 * multiple of 64, heads other than 32, 64 and 128 wide); LOAM_ENOMEM: before anything is allocated, with the sizes and what to
 * lower, where the device has too little free; the rest as fast_ops and its open. m is borrowed. */
enum loam_status lm_fast_new(struct lm_fast **out, struct lm_model *m, const struct lm_fast_opt *opt, struct err *err) LOAM_MUST_USE;
void lm_fast_free(struct lm_fast *f); /* NULL is fine */
/* The device failed in it (lost, full): what is computed can be had elsewhere. */
bool lm_fast_lost(const struct lm_fast *f);
/* Bytes on the device. */
void lm_fast_memory(const struct lm_fast *f, uint64_t *weights, uint64_t *work);

/* Page i of the cache (all layers of GPU_KV_PAGE positions), a place on the device; i below opt.pages. */
uint16_t *lm_fast_page(struct lm_fast *f, uint64_t i);
enum loam_status lm_fast_page_copy(struct lm_fast *f, uint16_t *to, const uint16_t *from, struct err *err) LOAM_MUST_USE;

/* *slot names it in rounds. LOAM_EUNSUPPORTED: a rank above 64; LOAM_ELIMIT: more than LM_BATCH_MAX at once. */
enum loam_status lm_fast_adapter_new(int32_t *slot, struct lm_fast *f, const struct lm_adapter *a, struct err *err) LOAM_MUST_USE;
void lm_fast_adapter_free(struct lm_fast *f, int32_t slot);

/* A round: pieces of items (`from`: an item's first token here), one after the other; kv[i].off is not used. */
struct lm_fast_round {
    const struct gpu_kv_item *kv;
    const struct lm_item *const *item;
    const uint32_t *from;
    const int32_t *slot; /* [n], -1: the base */
    uint32_t n, t;       /* n at most LM_BATCH_MAX, t at most opt.rows */
    const atomic_int *cancel;
    void (*yield)(void *ctx);
    void *yield_ctx;
};
/* LOAM_ECANCEL between layers; LOAM_ENONFINITE; LOAM_EIO, LOAM_ENOMEM: the device (then lm_fast_lost). */
enum loam_status lm_fast_step(struct lm_fast *f, const struct lm_fast_round *r, struct err *err) LOAM_MUST_USE;

#endif
