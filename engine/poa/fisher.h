/* Inside engine/poa: one tensor's H from its G (store.h says each step), for building and for checking. */
#ifndef LOAM_POA_FISHER_H
#define LOAM_POA_FISHER_H

#include "poa/store.h"

/* Room for one tensor. Owns all. */
struct poa_fisher {
    int64_t *k; /* [N][N]: K = G G' */
    double *m;  /* [N][N]: n (n I + K)^-1 */
    double *h;  /* [N][d] */
};
enum loam_status poa_fisher_init(struct poa_fisher *f, uint64_t rows, size_t widest, struct err *err) LOAM_MUST_USE;
void poa_fisher_clear(struct poa_fisher *f);

/* h32 [N][d], *e_f, *n from g [N][d]. f's matrices hold K, M and H afterwards (M and H only where n > 0). */
enum loam_status poa_fisher_tensor(int32_t *h32, int *e_f, int64_t *n, struct poa_fisher *f, struct gpu *g, const int8_t *g8,
                                   uint64_t rows, size_t d, int rho_log2, struct err *err) LOAM_MUST_USE;
/* H8 from H32; returns x. */
uint32_t poa_shrink(int8_t *h8, const int32_t *h32, size_t count);

#endif
