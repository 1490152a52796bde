#include "lm/sample.h"
#include "base/bytes.h"
#include "base/keccak.h"
#include "gpu/arith.h"
#include "lm/philox.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

/* One candidate while sampling; the caller's work memory holds V of them. */
struct cand {
    float p; /* logit, later exp(logit - max) */
    uint32_t id;
};
_Static_assert(sizeof(struct cand) == 8, "lm_sample's work memory is V x 8 bytes");

#define LAST_DEFAULT 64u

/* Where the processor has fma, arith_exp is worth compiling for it: else each of its fma is a call, and a draw from a vocabulary
 * of 49152 takes a millisecond. Eight at a time: blocks of a fixed length become vectors. Both versions give the same bits. */
#define BLOCK 8u
#define EXP_ALL(name, attribute)                                                                                     \
    attribute static void name(float *out, const float *x, uint32_t n, float by, float less) {                        \
        uint32_t i = 0;                                                                                               \
        for (; i + BLOCK <= n; i += BLOCK)                                                                            \
            for (uint32_t k = 0; k < BLOCK; k++)                                                                      \
                out[i + k] = arith_exp(x[i + k] / by - less);                                                         \
        for (; i < n; i++)                                                                                            \
            out[i] = arith_exp(x[i] / by - less);                                                                     \
    }
EXP_ALL(exp_any, )
#if defined(__x86_64__)
EXP_ALL(exp_fma, __attribute__((target("avx2,fma"))))
#endif

/* out_i = exp(x_i / by - less); in place allowed. */
static void exp_all(float *out, const float *x, uint32_t n, float by, float less) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        exp_fma(out, x, n, by, less);
        return;
    }
#endif
    exp_any(out, x, n, by, less);
}

/* The first index of the largest of n >= 1 finite numbers. */
static uint32_t largest(const float *x, uint32_t n) {
    float lane[BLOCK], m = x[0];
    for (uint32_t k = 0; k < BLOCK; k++)
        lane[k] = m;
    uint32_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK)
        for (uint32_t k = 0; k < BLOCK; k++)
            lane[k] = x[i + k] > lane[k] ? x[i + k] : lane[k];
    for (uint32_t k = 0; k < BLOCK; k++)
        m = lane[k] > m ? lane[k] : m;
    for (; i < n; i++)
        m = x[i] > m ? x[i] : m;
    for (i = 0; x[i] != m; i++) {
    }
    return i;
}

enum loam_status lm_sampler_check(const struct lm_sampler *s, struct err *err) {
    const struct {
        const char *name;
        float v, lo, hi;
    } r[] = {
        {"temperature", s->temperature, 0, 100}, {"top_p", s->top_p, 0, 1},       {"min_p", s->min_p, 0, 1},
        {"repeat penalty", s->repeat, 0.01f, 100}, {"presence penalty", s->presence, -100, 100}, {"frequency penalty", s->frequency, -100, 100},
    };
    for (size_t i = 0; i < sizeof r / sizeof *r; i++)
        if (!(r[i].v >= r[i].lo && r[i].v <= r[i].hi))
            return err_set(err, LOAM_ERANGE, "%s %g is not in %g to %g", r[i].name, (double)r[i].v, (double)r[i].lo, (double)r[i].hi);
    return LOAM_OK;
}

static void add_u32(struct keccak *k, uint32_t v) {
    uint8_t b[4];
    put_le32(b, v);
    keccak_add(k, b, 4);
}

void lm_sampler_hash(uint8_t out[32], const struct lm_sampler *s) {
    struct keccak k;
    keccak_init(&k);
    keccak_add(&k, "loam.sampler.1", 14);
    add_u32(&k, arith_bits(s->temperature));
    add_u32(&k, s->top_k);
    add_u32(&k, arith_bits(s->top_p));
    add_u32(&k, arith_bits(s->min_p));
    add_u32(&k, arith_bits(s->repeat));
    add_u32(&k, arith_bits(s->presence));
    add_u32(&k, arith_bits(s->frequency));
    add_u32(&k, s->last);
    keccak_end(&k, out);
}

/* Each token seen is penalised once (repeat, presence) and by its count (frequency). In order: repeat, then
 * l = l - presence, l = l - fl(frequency * count), for generated tokens. */
static void penalties(float *logits, uint32_t V, const struct lm_sampler *s, const uint32_t *seen, uint32_t n, uint32_t n_prompt) {
    if (s->repeat == 1.0f && s->presence == 0.0f && s->frequency == 0.0f)
        return;
    uint32_t last = s->last ? s->last : LAST_DEFAULT, from = n > last ? n - last : 0;
    for (uint32_t i = from; i < n; i++) {
        uint32_t id = seen[i], count = 0;
        bool first = true, made = false;
        for (uint32_t j = from; j < n; j++) {
            if (seen[j] != id)
                continue;
            first &= j >= i;
            if (j >= n_prompt) {
                made = true;
                count++;
            }
        }
        if (!first || id >= V)
            continue;
        float l = logits[id];
        if (s->repeat != 1.0f)
            l = l > 0 ? l / s->repeat : l * s->repeat;
        if (made) {
            l = l - s->presence;
            l = l - s->frequency * (float)count;
        }
        logits[id] = l;
    }
}

static bool before(const struct cand *a, const struct cand *b) {
    return a->p > b->p || (a->p == b->p && a->id < b->id);
}

static int by_order(const void *a, const void *b) {
    return before(a, b) ? -1 : before(b, a) ? 1 : 0;
}

#define BUCKETS 4096u

/* The upper 12 bits of a number's place in the order of floats; -0 and 0, which are equal, have one. */
static uint32_t bucket(float x) {
    uint32_t u = arith_bits(x + 0.0f);
    return (u >> 31 ? ~u : u | 0x80000000u) >> 20;
}

/* Brings all that may be among the k first of the order before the rest, counted by buckets; how many they are, k at least. */
static uint32_t gather(struct cand *c, uint32_t n, uint32_t k) {
    uint32_t count[BUCKETS] = {0}, low = BUCKETS, m = 0;
    for (uint32_t i = 0; i < n; i++)
        count[bucket(c[i].p)]++;
    for (uint32_t have = 0; have < k;)
        have += count[--low];
    for (uint32_t i = 0; i < n; i++)
        if (bucket(c[i].p) >= low) {
            struct cand t = c[m];
            c[m++] = c[i];
            c[i] = t;
        }
    return m;
}

/* Brings the k first of the order to the front, sorted. The order is total, so the result is one. */
static void front(struct cand *c, uint32_t n, uint32_t k) {
    if (n > BUCKETS && k < n / 4)
        n = gather(c, n, k);
    uint32_t lo = 0, hi = n;
    while (k < n && hi - lo > 32) {
        struct cand p = c[lo + (hi - lo) / 2];
        uint32_t i = lo, j = hi - 1;
        for (;;) {
            while (before(&c[i], &p))
                i++;
            while (before(&p, &c[j]))
                j--;
            if (i >= j)
                break;
            struct cand t = c[i];
            c[i++] = c[j];
            c[j--] = t;
        }
        /* all of [lo, i) come before or at the pivot, all of (j, hi) at or after it */
        if (k <= i && i < hi)
            hi = i;
        else if (k > j + 1)
            lo = j + 1;
        else
            break;
        if (lo >= k)
            break;
    }
    /* What stands before lo is settled; sort the whole front, with the open part around k. */
    uint32_t end = hi > k ? hi : k;
    qsort(c, end > n ? n : end, sizeof *c, by_order);
}

enum loam_status lm_sample(uint32_t *token, float *logits, uint32_t V, const struct lm_sampler *s, const uint32_t *seen,
                           uint32_t n_seen, uint32_t n_prompt, uint32_t position, void *work, struct err *err) {
    for (uint32_t from = 0; from < V; from += 1024) {
        uint32_t to = from + 1024 < V ? from + 1024 : V;
        bool good = true;
        for (uint32_t i = from; i < to; i++)
            good &= arith_finite(logits[i]);
        for (uint32_t i = from; i < to && !good; i++)
            if (!arith_finite(logits[i]))
                return err_set(err, LOAM_ENONFINITE, "the logit of token %u at position %u is not finite", i, position);
    }
    penalties(logits, V, s, seen, n_seen, n_prompt);
    uint32_t best = largest(logits, V);
    if (s->temperature == 0.0f || s->top_k == 1) {
        *token = best;
        return LOAM_OK;
    }
    struct cand *c = work;
    float m = logits[best] / s->temperature;
    for (uint32_t i = 0; i < V; i++)
        c[i] = (struct cand){logits[i], i};
    uint32_t n = V;
    bool sorted = false;
    if (s->top_k && s->top_k < n) {
        n = s->top_k;
        front(c, V, n);
        sorted = true;
    }
    double sum = 0;
    for (uint32_t at = 0; at < n; at += 256) {
        float p[256];
        uint32_t some = n - at < 256 ? n - at : 256;
        for (uint32_t i = 0; i < some; i++)
            p[i] = c[at + i].p;
        exp_all(p, p, some, s->temperature, m);
        for (uint32_t i = 0; i < some; i++) {
            c[at + i].p = p[i];
            sum += (double)p[i];
        }
    }
    if (s->top_p > 0.0f && s->top_p < 1.0f) {
        /* Few tokens carry most of the sum: sort a growing front only. Probabilities order as logits do, up to equal ones,
         * where the id decides. */
        double want = sum * (double)s->top_p, have = 0;
        uint32_t k = 0, ready = sorted ? n : 0;
        if (sorted)
            qsort(c, n, sizeof *c, by_order);
        while (k < n) {
            if (k == ready) {
                ready = ready ? 8 * ready : 128;
                ready = ready > n ? n : ready;
                front(c, n, ready);
            }
            have += (double)c[k++].p;
            if (have >= want)
                break;
        }
        n = k;
        sum = have;
        sorted = true;
    }
    if (s->min_p > 0.0f) {
        uint32_t k = 0;
        sum = 0;
        for (uint32_t i = 0; i < n; i++)
            if (c[i].p >= s->min_p || c[i].id == best) {
                c[k] = c[i];
                sum += (double)c[k++].p;
            }
        n = k;
    }
    struct philox ph;
    uint32_t word[4];
    philox_init(&ph, s->seed, "sample");
    philox_block(&ph, position, 0, word);
    double u = ((double)(word[0] >> 5) * 67108864.0 + (double)(word[1] >> 6)) * 0x1p-53, at = 0, target = u * sum;
    for (uint32_t i = 0; i < n; i++) {
        at += (double)c[i].p;
        if (at > target) {
            *token = c[i].id;
            return LOAM_OK;
        }
    }
    *token = best;
    return LOAM_OK;
}

void lm_logprobs(float *chosen, struct lm_logprob *top, uint32_t k, const float *logits, uint32_t V, uint32_t token) {
    float m = logits[largest(logits, V)];
    double sum = 0;
    for (uint32_t at = 0; at < V; at += 256) {
        float p[256];
        uint32_t some = V - at < 256 ? V - at : 256;
        exp_all(p, logits + at, some, 1.0f, m); /* x / 1 is x */
        for (uint32_t i = 0; i < some; i++)
            sum += (double)p[i];
    }
    double lse = arith_log64(sum);
    *chosen = (float)((double)(logits[token] - m) - lse);
    uint32_t n = 0;
    for (uint32_t i = 0; i < V && k; i++) {
        if (n == k && !(logits[i] > top[n - 1].logprob))
            continue;
        uint32_t j = n < k ? n++ : n - 1;
        for (; j && top[j - 1].logprob < logits[i]; j--)
            top[j] = top[j - 1];
        top[j] = (struct lm_logprob){i, logits[i]};
    }
    for (uint32_t i = 0; i < n; i++)
        top[i].logprob = (float)((double)(top[i].logprob - m) - lse);
}
