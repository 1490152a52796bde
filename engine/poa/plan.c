#include "poa/plan.h"

#include "base/mem.h"
#include "gpu/pool.h"
#include "lm/philox.h"

#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

enum loam_status poa_signs_init(struct poa_signs *s, const struct poa_plan *p, struct gpu *g, struct err *err) {
    memset(s, 0, sizeof *s);
    s->gpu = g;
    size_t widest = 0;
    for (uint32_t l = 0; l < p->tensors; l++)
        if (poa_plan_k(p, l) != p->out[l] && p->out[l] > widest)
            widest = p->out[l];
    s->panel_size = widest * POA_LANES;
    int threads = g->pool ? pool_threads(g->pool) : 1;
    if (widest && !(s->panel = mem_aligned(64, s->panel_size * (size_t)threads * sizeof *s->panel)))
        return err_set(err, LOAM_ENOMEM, "attribution: a projection to %u", p->k);
    return LOAM_OK;
}

void poa_signs_clear(struct poa_signs *s) {
    for (uint32_t l = 0; l < POA_TENSORS_MAX; l++)
        mem_free(s->bits[l]);
    mem_free(s->panel);
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

/* Sixteen projected outputs, from `first` on, of one tensor: rows first .. first + n - 1 of out [k][R]. The signs are spread
 * out as floats once (panel [outputs][16]) and then meet all tokens. s is ±1, so fma(s, u, v) is the sum of store.h: the
 * product is exact. A chain per element, outputs ascending for v and tokens ascending for out, in both versions below. */
struct project {
    float *out, *panel;
    const uint32_t *bits;
    const float *u, *h;
    uint32_t tokens, outputs, k, R, first, n;
};

static void spread_plain(const struct project *a) {
    for (uint32_t o = 0; o < a->outputs; o++)
        for (uint32_t j = 0; j < POA_LANES; j++) {
            size_t b = (size_t)o * a->k + a->first + j;
            a->panel[(size_t)o * POA_LANES + j] = j < a->n && (a->bits[b / 32] >> b % 32 & 1) ? -1.0f : 1.0f;
        }
}

static void project_plain(const struct project *a) {
    spread_plain(a);
    for (uint32_t t = 0; t < a->tokens; t++) {
        float v[POA_LANES] = {0};
        for (uint32_t o = 0; o < a->outputs; o++)
            for (uint32_t j = 0; j < POA_LANES; j++)
                v[j] += a->panel[(size_t)o * POA_LANES + j] * a->u[(size_t)t * a->outputs + o];
        for (uint32_t j = 0; j < a->n; j++)
            for (uint32_t r = 0; r < a->R; r++) {
                float *x = a->out + (size_t)(a->first + j) * a->R + r;
                *x = fmaf(v[j], a->h[(size_t)t * a->R + r], *x);
            }
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void spread_avx2(const struct project *a) {
    if (a->k % POA_LANES) {
        spread_plain(a);
        return;
    }
    /* Sixteen bits never straddle a word here. A lane's bit set: its sign bit set in 1.0. */
    const __m256i low = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128), high = _mm256_slli_epi32(low, 8);
    const __m256i one = _mm256_castps_si256(_mm256_set1_ps(1.0f)), minus = _mm256_set1_epi32((int)0x80000000u);
    for (uint32_t o = 0; o < a->outputs; o++) {
        size_t b = (size_t)o * a->k + a->first;
        __m256i w = _mm256_set1_epi32((int)(a->bits[b / 32] >> b % 32));
        __m256i x = _mm256_cmpeq_epi32(_mm256_and_si256(w, low), low), y = _mm256_cmpeq_epi32(_mm256_and_si256(w, high), high);
        _mm256_store_si256((__m256i *)(a->panel + (size_t)o * POA_LANES), _mm256_or_si256(one, _mm256_and_si256(x, minus)));
        _mm256_store_si256((__m256i *)(a->panel + (size_t)o * POA_LANES + 8), _mm256_or_si256(one, _mm256_and_si256(y, minus)));
    }
}

/* out rows += v[t][j] · h[t] for m tokens; v: [6][16]. */
__attribute__((target("avx2,fma"))) static void outer_avx2(const struct project *a, const float *v, uint32_t from, uint32_t m) {
    for (uint32_t j = 0; j < a->n; j++) {
        float *x = a->out + (size_t)(a->first + j) * a->R;
        uint32_t r = 0;
        for (; r + 8 <= a->R; r += 8) {
            __m256 acc = _mm256_loadu_ps(x + r);
            for (uint32_t t = 0; t < m; t++)
                acc = _mm256_fmadd_ps(_mm256_broadcast_ss(v + t * POA_LANES + j), _mm256_loadu_ps(a->h + (size_t)(from + t) * a->R + r), acc);
            _mm256_storeu_ps(x + r, acc);
        }
        for (; r < a->R; r++)
            for (uint32_t t = 0; t < m; t++)
                x[r] = __builtin_fmaf(v[t * POA_LANES + j], a->h[(size_t)(from + t) * a->R + r], x[r]);
    }
}

__attribute__((target("avx2,fma"))) static void project_avx2(const struct project *a) {
    enum { M = 6 }; /* tokens at once: 12 accumulators, 2 vectors of signs, 1 broadcast */
    float v[M * POA_LANES] __attribute__((aligned(32)));
    spread_avx2(a);
    for (uint32_t from = 0; from < a->tokens; from += M) {
        uint32_t m = a->tokens - from < M ? a->tokens - from : M;
        const float *u[M];
        for (uint32_t t = 0; t < M; t++) /* past the end: the last token again, thrown away */
            u[t] = a->u + (size_t)(from + (t < m ? t : m - 1)) * a->outputs;
        __m256 x[M], y[M];
        for (int t = 0; t < M; t++)
            x[t] = y[t] = _mm256_setzero_ps();
        for (uint32_t o = 0; o < a->outputs; o++) {
            __m256 s0 = _mm256_load_ps(a->panel + (size_t)o * POA_LANES), s1 = _mm256_load_ps(a->panel + (size_t)o * POA_LANES + 8);
#define TOKEN(t)                                                                                                      \
    do {                                                                                                              \
        __m256 b = _mm256_broadcast_ss(u[t] + o);                                                                     \
        x[t] = _mm256_fmadd_ps(s0, b, x[t]);                                                                          \
        y[t] = _mm256_fmadd_ps(s1, b, y[t]);                                                                          \
    } while (0)
            TOKEN(0);
            TOKEN(1);
            TOKEN(2);
            TOKEN(3);
            TOKEN(4);
            TOKEN(5);
#undef TOKEN
        }
        for (int t = 0; t < M; t++) {
            _mm256_store_ps(v + t * POA_LANES, x[t]);
            _mm256_store_ps(v + t * POA_LANES + 8, y[t]);
        }
        outer_avx2(a, v, from, m);
    }
}
#endif

typedef void project_fn(const struct project *a);

static project_fn *projector(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return project_avx2;
#endif
    return project_plain;
}

struct project_all {
    struct project a;
    project_fn *fn;
    float *panels;
    size_t panel_size;
};

static void project_task(void *arg, uint32_t task, int thread) {
    const struct project_all *all = arg;
    struct project a = all->a;
    a.first = task * POA_LANES;
    a.n = a.k - a.first < POA_LANES ? a.k - a.first : POA_LANES;
    a.panel = all->panels + all->panel_size * (size_t)thread;
    all->fn(&a);
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
    struct project_all all = {.a = {.out = out, .bits = bits, .u = g->u, .h = g->h, .tokens = g->tokens, .outputs = g->out, .k = k, .R = R},
                              .fn = s->plain ? project_plain : projector(), .panels = s->panel, .panel_size = s->panel_size};
    uint32_t tasks = (k + POA_LANES - 1) / POA_LANES;
    if (s->gpu->pool)
        pool_run(s->gpu->pool, tasks, project_task, &all);
    else
        for (uint32_t i = 0; i < tasks; i++)
            project_task(&all, i, 0);
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
