/* Checking a gradient store without trusting who made it: the ladder of contrib/doc/protocol.md from spot checks up to what a
 * contract decides by itself. Every LOAM_EVERIFY names the first element that differs. */
#ifndef LOAM_POA_CHECK_H
#define LOAM_POA_CHECK_H

#include "poa/store.h"

struct poa_signs;

/* ---- spot checks: gradients of some rows, computed again, against the stored int8 ---- */
struct poa_check {
    const struct poa_store *store; /* borrowed; must keep gradients */
    struct gpu *gpu;
    const uint64_t *rows;          /* the store's row behind each row of the data set given to lm_grad_rows; NULL: the same */
    uint64_t count;                /* of rows; ignored with NULL */
    uint64_t compared;             /* (row, tensor) pairs so far */
    struct poa_signs *signs;
    float *scratch;
    int8_t *q;
};
/* LOAM_ESTATE where the store keeps no gradients. */
enum loam_status poa_check_init(struct poa_check *c, const struct poa_store *s, struct gpu *g, const uint64_t *rows, uint64_t count, struct err *err) LOAM_MUST_USE;
void poa_check_clear(struct poa_check *c);
/* For lm_grad_rows with the checkpoint's adapter; its calls answer LOAM_EVERIFY at the first difference. */
struct lm_grad_sink poa_check_sink(struct poa_check *c);

/* ---- the solve again: n, H32 and H8 of a tensor from its stored G ---- */
/* h32 [N][d] gets H32 (value = H32 · 2^*e_f in G's integer units), n its fixed-point n; checked against nothing. */
enum loam_status poa_fine_tensor(int32_t *h32, int *e_f, int64_t *n, const struct poa_store *s, uint32_t tensor, struct gpu *g, struct err *err) LOAM_MUST_USE;
/* Computes a tensor again and compares n, both scales and every entry of H8. */
enum loam_status poa_check_tensor(const struct poa_store *s, uint32_t tensor, struct gpu *g, struct err *err) LOAM_MUST_USE;

/* ---- what a contract can decide: two integer conditions on single entries ---- */
/* Is H8 the rounding of H32? */
bool poa_rounds_to(int32_t h32, uint32_t x, int8_t h8);
/* The residual of (n I + K) H = n G at row i, column p, in units of 2^(e_f - POA_N_FRACTION):
 *     r = n · H32[i] + 2^POA_N_FRACTION · sum over j of K[i][j] · H32[j] - n · G[i] · 2^-e_f
 * column: H32[0 .. N-1][p]; k_row: K[i][0 .. N-1]; g: G[i][p]. Rounding H32 to integers moves r by at most
 *     bound = n / 2 + 2^POA_N_FRACTION · sum over j of |K[i][j]| / 2, here doubled for what fp64 adds to it
 * An honest column is within it; LOAM_EVERIFY otherwise. All integers; e_f is at most 0 for any store that a sane model
 * makes, and LOAM_ERANGE refuses what would overflow 126 bits. */
enum loam_status poa_check_residual(const int32_t *column, const int64_t *k_row, uint64_t rows, uint64_t i, int8_t g, int64_t n, int e_f, struct err *err) LOAM_MUST_USE;

#endif
