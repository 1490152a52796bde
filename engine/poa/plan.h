/* Inside engine/poa: a row's gradient in the plan's form, and integer scales. */
#ifndef LOAM_POA_PLAN_H
#define LOAM_POA_PLAN_H

#include "poa/store.h"

/* The sign bits of projected tensors, made when first needed, and room to work. Owned by a builder or query. */
struct poa_signs {
    struct gpu *gpu;  /* its threads share the work; borrowed */
    uint32_t *bits[POA_TENSORS_MAX];
    float *panel;     /* a thread: [largest projected out][POA_LANES] */
    size_t panel_size; /* floats a thread */
    bool plain;       /* tests: the plain C version, whatever the processor has */
};
enum { POA_LANES = 16 }; /* outputs of the projection worked on together: two vectors of AVX2, all that registers hold */

enum loam_status poa_signs_init(struct poa_signs *s, const struct poa_plan *p, struct gpu *g, struct err *err) LOAM_MUST_USE;
void poa_signs_clear(struct poa_signs *s);
/* out[d_l]: the gradient as the plan keeps it (store.h, g). */
enum loam_status poa_gradient(float *out, struct poa_signs *s, const struct poa_plan *p, const struct lm_grad_tensor *g, struct err *err) LOAM_MUST_USE;

/* Least e with max · 2^-e <= 127; 0 for max 0. */
int poa_exponent(double max);
/* Offsets of the tensors in a vector of all of them: sum of d_l below. */
size_t poa_plan_offset(const struct poa_plan *p, uint32_t tensor);
/* x · 2^e, exact unless it leaves fp64. */
double poa_scale(double x, int e);

#endif
