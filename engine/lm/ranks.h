/* A training run written down for ranks: DIR/ranks holds all that loam-rank needs beside the base model (engine/lm/rank.c).
 *
 *   "loam ranks 1\n" · "base PATH\n" · "seed HEX\n" · "hyper N\n" · "rows N\n" · "\n" · hyper (lm_hyper_text, N bytes) ·
 *   rows, each u64le id, u32le n, n tokens as u32le, n train bytes · keccak of all before it (32 bytes) */
#ifndef LOAM_LM_RANKS_H
#define LOAM_LM_RANKS_H

#include "lm/trainer.h"

#define LM_RANKS_FILE "ranks"
#define LM_RANKS_BYTES_MAX ((size_t)1 << 31) /* of the file */
#define LM_RANKS_PATH_MAX 4096

enum loam_status lm_ranks_write(const char *dir, const char *base, const struct lm_data *d, const struct lm_hyper *h,
                                const uint8_t seed[32], struct err *err) LOAM_MUST_USE;
/* d: initialised and empty. base: LM_RANKS_PATH_MAX bytes. */
enum loam_status lm_ranks_read(const uint8_t *p, size_t n, char *base, struct lm_data *d, struct lm_hyper *h, uint8_t seed[32],
                               struct err *err) LOAM_MUST_USE;

/* What loam-rank --report says of a step, one line on its standard output; and back (LOAM_EPARSE). */
enum loam_status lm_ranks_step_write(struct buf *out, const struct lm_train_metrics *m, struct err *err) LOAM_MUST_USE;
enum loam_status lm_ranks_step_read(struct lm_train_metrics *m, const char *line, struct err *err) LOAM_MUST_USE;

#endif
