#include "poa/plan.h"

#include "base/mem.h"
#include "lm/philox.h"

#include <math.h>
#include <string.h>

#include "base/banned.h"

uint32_t poa_plan_k(const struct poa_plan *p, uint32_t tensor) {
    return p->k && p->k < p->out[tensor] ? p->k : p->out[tensor];
}

size_t poa_plan_width(const struct poa_plan *p, uint32_t tensor) {
    return (size_t)poa_plan_k(p, tensor) * p->rank;
}

size_t poa_plan_offset(const struct poa_plan *p, uint32_t tensor) {
    size_t sum = 0;
    for (uint32_t l = 0; l < tensor; l++)
        sum += poa_plan_width(p, l);
    return sum;
}

bool poa_plan_full(const struct poa_plan *p) {
    for (uint32_t l = 0; l < p->tensors; l++)
        if (poa_plan_k(p, l) == p->out[l])
            return true;
    return false;
}

uint64_t poa_plan_bytes(const struct poa_plan *p) {
    /* At most 2^11 tensors · 2^24 outputs · rank 2^8 · 2^16 rows · 2: no overflow. */
    return (uint64_t)poa_plan_offset(p, p->tensors) * p->rows * (p->keep_gradients ? 2 : 1);
}

enum loam_status poa_plan_make(struct poa_plan *out, const struct lm_adapter *a, uint64_t rows, uint32_t checkpoints,
                               uint64_t budget, bool keep_gradients, const uint8_t seed[32], struct err *err) {
    memset(out, 0, sizeof *out);
    if (!rows || rows > POA_ROWS_MAX)
        return err_set(err, LOAM_ELIMIT, "attribution over %llu rows; from 1 to %u", (unsigned long long)rows, POA_ROWS_MAX);
    if (!checkpoints || checkpoints > POA_CHECKPOINTS_MAX)
        return err_set(err, LOAM_ELIMIT, "attribution over %u checkpoints; from 1 to %d", checkpoints, POA_CHECKPOINTS_MAX);
    if (!a->count || a->count > POA_TENSORS_MAX || !a->rank || a->rank > LM_RANK_MAX)
        return err_set(err, LOAM_EINVAL, "attribution: an adapter of %u tensors, rank %u", a->count, a->rank);
    out->rows = rows;
    out->tensors = a->count;
    out->rank = a->rank;
    out->rho_log2 = POA_RHO_LOG2;
    out->keep_gradients = keep_gradients;
    memcpy(out->seed, seed, 32);
    uint64_t widest = 0;
    for (uint32_t l = 0; l < a->count; l++) {
        out->out[l] = a->t[l].out;
        if (!a->t[l].out || a->t[l].out > 1u << 24)
            return err_set(err, LOAM_EINVAL, "attribution: tensor %u has %u outputs", l, a->t[l].out);
        widest = a->t[l].out > widest ? a->t[l].out : widest;
    }
    if (!budget)
        budget = POA_BUDGET_DEFAULT;
    uint32_t k = 0;
    while ((double)poa_plan_bytes(out) * checkpoints > (double)budget) {
        if (k == 1)
            return err_set(err, LOAM_ELIMIT, "the gradient store needs %llu bytes at the least, its budget is %llu: raise the budget",
                           (unsigned long long)(poa_plan_bytes(out) * checkpoints), (unsigned long long)budget);
        if (!k) {
            /* The largest power of two below the widest tensor. */
            for (k = 1; 2ull * k < widest; k *= 2)
                ;
        } else {
            k /= 2;
        }
        out->k = k;
    }
    return LOAM_OK;
}

enum loam_status poa_signs_init(struct poa_signs *s, const struct poa_plan *p, struct err *err) {
    memset(s, 0, sizeof *s);
    if (!p->k)
        return LOAM_OK;
    s->row = mem_aligned(64, p->k * sizeof(float));
    s->v = mem_aligned(64, (size_t)p->k * POA_TILE * sizeof(float));
    if (!s->row || !s->v) {
        poa_signs_clear(s);
        return err_set(err, LOAM_ENOMEM, "attribution: a projection to %u", p->k);
    }
    return LOAM_OK;
}

void poa_signs_clear(struct poa_signs *s) {
    for (uint32_t l = 0; l < POA_TENSORS_MAX; l++)
        mem_free(s->bits[l]);
    mem_free(s->row);
    mem_free(s->v);
    memset(s, 0, sizeof *s);
}

static enum loam_status make_bits(struct poa_signs *s, const struct poa_plan *p, uint32_t tensor, struct err *err) {
    size_t bits = (size_t)p->out[tensor] * p->k, blocks = (bits + 127) / 128;
    if (!(s->bits[tensor] = mem_array(blocks, 16)))
        return err_set(err, LOAM_ENOMEM, "attribution: the signs of tensor %u", tensor);
    struct philox ph;
    philox_init(&ph, p->seed, "poa-sign");
    for (size_t b = 0; b < blocks; b++)
        philox_block(&ph, tensor, (uint32_t)b, s->bits[tensor] + 4 * b);
    return LOAM_OK;
}

/* One tile of tokens: v[t][j] = sum of ±u over outputs, then row j of out gains v[t][j] · h[t]. Written once and compiled
 * twice: s is ±1, so its product is exact whether fused or not, and the vector types work element by element, so both give
 * the same bits. */
typedef float lanes __attribute__((vector_size(32), aligned(4)));

static inline __attribute__((always_inline)) void project(float *out, struct poa_signs *s, const uint32_t *bits, const float *u,
                                                          const float *h, uint32_t n, uint32_t outputs, uint32_t k, uint32_t R) {
    memset(s->v, 0, (size_t)n * k * sizeof *s->v);
    for (uint32_t o = 0; o < outputs; o++) {
        for (uint32_t j = 0; j < k; j++) {
            size_t b = (size_t)o * k + j;
            s->row[j] = bits[b / 32] >> b % 32 & 1 ? -1.0f : 1.0f;
        }
        for (uint32_t t = 0; t < n; t++) {
            float *v = s->v + (size_t)t * k, x = u[(size_t)t * outputs + o];
            uint32_t j = 0;
            for (; j + 8 <= k; j += 8) {
                lanes a, c;
                memcpy(&a, v + j, sizeof a);
                memcpy(&c, s->row + j, sizeof c);
                a += c * x;
                memcpy(v + j, &a, sizeof a);
            }
            for (; j < k; j++)
                v[j] += s->row[j] * x;
        }
    }
    for (uint32_t t = 0; t < n; t++)
        for (uint32_t j = 0; j < k; j++) {
            float v = s->v[(size_t)t * k + j], *row = out + (size_t)j * R;
            for (uint32_t r = 0; r < R; r++)
                row[r] = __builtin_fmaf(v, h[(size_t)t * R + r], row[r]);
        }
}

typedef void project_fn(float *out, struct poa_signs *s, const uint32_t *bits, const float *u, const float *h, uint32_t n,
                        uint32_t outputs, uint32_t k, uint32_t R);

static void project_plain(float *out, struct poa_signs *s, const uint32_t *bits, const float *u, const float *h, uint32_t n,
                          uint32_t outputs, uint32_t k, uint32_t R) {
    project(out, s, bits, u, h, n, outputs, k, R);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void project_avx2(float *out, struct poa_signs *s, const uint32_t *bits, const float *u,
                                                             const float *h, uint32_t n, uint32_t outputs, uint32_t k, uint32_t R) {
    project(out, s, bits, u, h, n, outputs, k, R);
}
#endif

static project_fn *projector(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return project_avx2;
#endif
    return project_plain;
}

enum loam_status poa_gradient(float *out, struct poa_signs *s, const struct poa_plan *p, const struct lm_grad_tensor *g, struct err *err) {
    uint32_t R = p->rank, k = poa_plan_k(p, g->tensor);
    if (g->tensor >= p->tensors || g->rank != R || g->out != p->out[g->tensor])
        return err_set(err, LOAM_EINVAL, "attribution: a gradient of tensor %u, rank %u, %u outputs does not fit the plan", g->tensor,
                       g->rank, g->out);
    if (k == g->out) {
        if (!g->g)
            return err_set(err, LOAM_EINVAL, "attribution: tensor %u is kept whole and came without its gradient", g->tensor);
        memcpy(out, g->g, (size_t)k * R * sizeof *out);
        return LOAM_OK;
    }
    enum loam_status st;
    if (!s->bits[g->tensor] && (st = make_bits(s, p, g->tensor, err)))
        return st;
    const uint32_t *bits = s->bits[g->tensor];
    memset(out, 0, (size_t)k * R * sizeof *out);
    project_fn *fn = projector();
    for (uint32_t from = 0; from < g->tokens; from += POA_TILE) {
        uint32_t n = g->tokens - from < POA_TILE ? g->tokens - from : POA_TILE;
        fn(out, s, bits, g->u + (size_t)from * g->out, g->h + (size_t)from * R, n, g->out, k, R);
    }
    for (size_t i = 0; i < (size_t)k * R; i++)
        out[i] *= g->scale;
    return LOAM_OK;
}

int poa_exponent(double max) {
    int e;
    if (!(max > 0.0))
        return 0;
    double m = frexp(max, &e); /* max = m · 2^e, m in [0.5, 1) */
    return m * 128.0 <= 127.0 ? e - 7 : e - 6;
}

double poa_scale(double x, int e) {
    return ldexp(x, e);
}
