#include "poa/fisher.h"
#include "poa/plan.h"

#include "base/keccak.h"
#include "base/mem.h"
#include "gpu/pool.h"
#include "record/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/banned.h"

/* Rows against which each row's mean |score| is measured for the checkpoint's weight: a sample, spread evenly. */
enum { WEIGHT_SAMPLE = 32 };

struct poa_build {
    const struct poa_plan *plan;
    struct gpu *gpu;
    struct poa_signs signs;
    float *scratch; /* tensor l at N · offset(l): [N][d_l] */
    size_t scratch_bytes;
    bool mapped;
    uint8_t *have; /* [N][L] */
};

enum loam_status poa_build_new(struct poa_build **out, const struct poa_plan *plan, struct gpu *g, const char *scratch_dir,
                               struct err *err) {
    struct poa_build *b = mem_zalloc(sizeof *b);
    if (!b)
        return err_set(err, LOAM_ENOMEM, "attribution: a builder");
    b->plan = plan;
    b->gpu = g;
    enum loam_status st = poa_signs_init(&b->signs, plan, g, err);
    b->scratch_bytes = plan->rows * poa_plan_offset(plan, plan->tensors) * sizeof(float);
    if (!st && !(b->have = mem_zarray(plan->rows, plan->tensors)))
        st = err_set(err, LOAM_ENOMEM, "attribution: a table of %llu rows", (unsigned long long)plan->rows);
    if (!st && !scratch_dir) {
        if (!(b->scratch = mem_aligned(64, b->scratch_bytes)))
            st = err_set(err, LOAM_ENOMEM, "attribution: %zu MiB for gradients", b->scratch_bytes >> 20);
    } else if (!st) {
        char *path = mem_printf("%s/gradients-XXXXXX", scratch_dir);
        int fd = path ? mkostemp(path, O_CLOEXEC) : -1, rc = 0;
        if (fd >= 0)
            (void)!unlink(path);
        /* Its blocks are asked for now: a full disk must be an error here, not a signal in the middle of a write. */
        if (fd < 0) {
            st = path ? err_errno(err, LOAM_EIO, "cannot make %s", path) : err_set(err, LOAM_ENOMEM, "a path");
        } else if ((rc = posix_fallocate(fd, 0, (off_t)b->scratch_bytes))) {
            errno = rc;
            st = err_errno(err, LOAM_EIO, "attribution: %zu MiB of scratch in %s", b->scratch_bytes >> 20, scratch_dir);
        } else {
            void *p = mmap(NULL, b->scratch_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (p == MAP_FAILED)
                st = err_errno(err, LOAM_ENOMEM, "attribution: cannot map scratch");
            else
                b->scratch = p, b->mapped = true;
        }
        if (fd >= 0)
            close(fd);
        mem_free(path);
    }
    if (st) {
        poa_build_free(b);
        return st;
    }
    *out = b;
    return LOAM_OK;
}

void poa_build_free(struct poa_build *b) {
    if (!b)
        return;
    if (b->mapped)
        munmap(b->scratch, b->scratch_bytes);
    else
        mem_free(b->scratch);
    poa_signs_clear(&b->signs);
    mem_free(b->have);
    mem_free(b);
}

static enum loam_status take(void *ctx, const struct lm_grad_tensor *g, struct err *err) {
    struct poa_build *b = ctx;
    const struct poa_plan *p = b->plan;
    if (g->row >= p->rows || g->tensor >= p->tensors)
        return err_set(err, LOAM_EINVAL, "attribution: row %zu, tensor %u is outside the plan", g->row, g->tensor);
    size_t d = poa_plan_width(p, g->tensor);
    float *to = b->scratch + p->rows * poa_plan_offset(p, g->tensor) + g->row * d;
    enum loam_status st = poa_gradient(to, &b->signs, p, g, err);
    if (!st && (st = b->gpu->ops->finite(b->gpu, to, d, "a gradient", err)))
        st = err_prefix(err, st, "row %zu, tensor %u", g->row, g->tensor);
    b->have[g->row * p->tensors + g->tensor] = 1;
    return st;
}

struct lm_grad_sink poa_build_sink(struct poa_build *b) {
    return (struct lm_grad_sink){.ctx = b, .full = poa_plan_full(b->plan), .tensor = take};
}

/* One tensor's matrices while it is worked on. */
struct work {
    struct poa_fisher f;
    int32_t *h32;   /* [N][d] */
    int8_t *sample; /* [S][d]: G of the sampled rows */
    int64_t *dot;   /* [N][S] */
    double *sum;    /* [N][S]: scores of pairs of rows, for the weight; grows over the tensors */
    struct hash32 *leaf; /* [N]: fine leaves' hashes */
};

static void work_clear(struct work *w) {
    poa_fisher_clear(&w->f);
    mem_free(w->h32);
    mem_free(w->sample);
    mem_free(w->sum);
    mem_free(w->dot);
    mem_free(w->leaf);
}

static uint64_t samples(const struct poa_plan *p) {
    return p->rows < WEIGHT_SAMPLE ? p->rows : WEIGHT_SAMPLE;
}

static uint64_t sample_row(const struct poa_plan *p, uint64_t j) {
    return j * p->rows / samples(p);
}

struct fine {
    const struct work *w;
    struct hash32 *leaf; /* [N] leaf hashes */
    uint32_t tensor;
    size_t d;
};

/* The hash of one row's leaf, in pieces: the leaf itself is never whole in memory. */
static void fine_leaf(void *arg, uint32_t row, int thread) {
    const struct fine *f = arg;
    const int32_t *h = f->w->h32 + (size_t)row * f->d;
    uint8_t piece[4096], head[13] = {0}; /* 0: a leaf (record/tree.h) */
    struct keccak k;
    (void)thread;
    put_be32(head + 1, f->tensor);
    put_be64(head + 5, row);
    keccak_init(&k);
    keccak_add(&k, head, sizeof head);
    for (size_t j = 0; j < f->d;) {
        size_t n = 0;
        for (; n < sizeof piece / 4 && j < f->d; n++, j++)
            put_be32(piece + 4 * n, (uint32_t)h[j]);
        keccak_add(&k, piece, 4 * n);
    }
    keccak_end(&k, f->leaf[row].b);
}

static void fine_leaves(struct tree_stream *tree, const struct work *w, struct gpu *g, uint32_t tensor, uint64_t rows, size_t d) {
    struct fine f = {w, w->leaf, tensor, d};
    if (g->pool)
        pool_run(g->pool, (uint32_t)rows, fine_leaf, &f);
    else
        for (uint32_t i = 0; i < rows; i++)
            fine_leaf(&f, i, 0);
    for (uint64_t i = 0; i < rows; i++)
        tree_stream_add_hash(tree, &w->leaf[i]);
}

static enum loam_status do_tensor(struct poa_build *b, struct poa_tensor *t, int8_t *g, int8_t *h, struct work *w, uint32_t l,
                                  struct tree_stream *fine, struct err *err) {
    const struct poa_plan *p = b->plan;
    const struct gpu_ops *ops = b->gpu->ops;
    uint64_t N = p->rows;
    size_t d = t->d;
    const float *x = b->scratch + N * poa_plan_offset(p, l);
    float max;
    int e_f = 0;
    enum loam_status st;
    if ((st = ops->absmax(b->gpu, &max, x, N * d, err)))
        return st;
    t->e_g = poa_exponent((double)max);
    if (abs(t->e_g) > POA_EXPONENT_MAX)
        return err_set(err, LOAM_ERANGE, "attribution: gradients of tensor %u reach %g", l, (double)max);
    if ((st = ops->quant_pow2(b->gpu, g, x, N * d, t->e_g, err)) ||
        (st = poa_fisher_tensor(w->h32, &e_f, &t->n, &w->f, b->gpu, g, N, d, p->rho_log2, err)))
        return st;
    t->x = poa_shrink(h, w->h32, N * d);
    t->e_h = t->e_g + e_f + (int32_t)t->x;
    t->shift = 0;
    if (p->k && t->k == t->out)
        for (uint32_t k = p->k; k > 1; k /= 2)
            t->shift++;
    if (fine)
        fine_leaves(fine, w, b->gpu, l, N, d);
    uint64_t S = samples(p);
    for (uint64_t j = 0; j < S; j++)
        memcpy(w->sample + j * d, g + sample_row(p, j) * d, d);
    memset(w->dot, 0, N * S * sizeof *w->dot);
    if ((st = ops->dot_i8(b->gpu, w->dot, S, h, d, (uint32_t)N, w->sample, d, (uint32_t)S, d, err)))
        return st;
    double unit = poa_scale(1.0, t->e_h + t->e_g + t->shift);
    for (uint64_t i = 0; i < N * S; i++)
        w->sum[i] += (double)w->dot[i] * unit;
    return LOAM_OK;
}

/* 2^weight · mean |s| is in (1/2, 1]: fp64 sums in a stated order (rows ascending, then samples), pairs of different rows. */
static int32_t weight_of(const struct poa_plan *p, const struct work *w) {
    double sum = 0.0;
    uint64_t pairs = 0;
    int e = 0;
    for (uint64_t i = 0; i < p->rows; i++)
        for (uint64_t j = 0; j < samples(p); j++)
            if (sample_row(p, j) != i) {
                sum += fabs(w->sum[i * samples(p) + j]);
                pairs++;
            }
    if (!(sum > 0.0))
        return 0;
    double m = frexp(sum / (double)pairs, &e); /* mean = m · 2^e, m in [1/2, 1) */
    return m == 0.5 ? 1 - e : -e;
}

enum { HEAD = 16, FIXED = 32 + 8 + 4 * 6 + 32, RECORD = 64 };

static size_t align64(size_t n) {
    return (n + 63) / 64 * 64;
}

static void write_head(uint8_t *at, const struct poa_plan *p, const struct poa_tensor *t, int32_t weight, const struct hash32 *fine,
                       const size_t *h_at, const size_t *g_at) {
    memcpy(at, "LOAMPOA1", 8);
    put_le32(at + 8, 1);
    put_le32(at + 12, FIXED + RECORD * p->tensors);
    uint8_t *q = at + HEAD;
    memcpy(q, p->seed, 32);
    put_le64(q + 32, p->rows);
    put_le32(q + 40, p->tensors);
    put_le32(q + 44, p->rank);
    put_le32(q + 48, p->k);
    put_le32(q + 52, (uint32_t)p->rho_log2);
    put_le32(q + 56, p->keep_gradients);
    put_le32(q + 60, (uint32_t)weight);
    memcpy(q + 64, fine->b, 32);
    q += FIXED;
    for (uint32_t l = 0; l < p->tensors; l++, q += RECORD) {
        put_le32(q, t[l].out);
        put_le32(q + 4, t[l].k);
        put_le32(q + 8, (uint32_t)t[l].e_g);
        put_le32(q + 12, (uint32_t)t[l].e_h);
        put_le32(q + 16, t[l].x);
        put_le32(q + 20, (uint32_t)t[l].shift);
        put_le64(q + 24, (uint64_t)t[l].n);
        put_le64(q + 32, h_at[l]);
        put_le64(q + 40, p->keep_gradients ? g_at[l] : 0);
        put_le64(q + 48, t[l].d);
        put_le64(q + 56, 0);
    }
}

/* A file of exactly `bytes`, its blocks reserved, mapped for writing. */
static enum loam_status make_file(const char *path, size_t bytes, uint8_t **map, struct err *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), rc;
    if (fd < 0)
        return err_errno(err, LOAM_EIO, "cannot make %s", path);
    enum loam_status st = LOAM_OK;
    if ((rc = posix_fallocate(fd, 0, (off_t)bytes))) {
        errno = rc;
        st = err_errno(err, LOAM_EIO, "%s: %zu MiB", path, bytes >> 20);
    } else {
        void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
            st = err_errno(err, LOAM_ENOMEM, "cannot map %s", path);
        else
            *map = p;
    }
    close(fd);
    if (st)
        (void)!unlink(path);
    return st;
}

static enum loam_status work_init(struct work *w, const struct poa_plan *p, struct err *err) {
    uint64_t N = p->rows;
    size_t widest = 0;
    for (uint32_t l = 0; l < p->tensors; l++)
        widest = poa_plan_width(p, l) > widest ? poa_plan_width(p, l) : widest;
    *w = (struct work){.h32 = mem_array(N, widest * sizeof(int32_t)), .sample = mem_array(samples(p), widest),
                       .sum = mem_zarray(N, samples(p) * sizeof(double)), .dot = mem_array(N, samples(p) * sizeof(int64_t)),
                       .leaf = mem_array(N, sizeof(struct hash32))};
    if (w->h32 && w->sample && w->sum && w->dot && w->leaf && !poa_fisher_init(&w->f, N, widest, err))
        return LOAM_OK;
    work_clear(w);
    return err_set(err, LOAM_ENOMEM, "attribution: matrices for %llu rows", (unsigned long long)N);
}

static enum loam_status fill(struct poa_build *b, uint8_t *map, struct poa_tensor *t, const size_t *h_at, const size_t *g_at,
                             size_t bytes, bool fine, bool (*progress)(void *, uint32_t, uint32_t), void *ctx, struct err *err) {
    const struct poa_plan *p = b->plan;
    struct work w;
    struct tree_stream tree;
    struct hash32 fine_root = {{0}};
    int8_t *spare = NULL; /* G of one tensor where it is not kept */
    enum loam_status st = work_init(&w, p, err);
    if (st)
        return st;
    tree_stream_init(&tree);
    for (uint32_t l = 0; !st && l < p->tensors; l++) {
        int8_t *g = (int8_t *)map + g_at[l];
        if (!p->keep_gradients) {
            mem_free(spare);
            if (!(g = spare = mem_array(p->rows, t[l].d)))
                st = err_set(err, LOAM_ENOMEM, "attribution: gradients of tensor %u", l);
        }
        if (!st)
            st = do_tensor(b, &t[l], g, (int8_t *)map + h_at[l], &w, l, fine ? &tree : NULL, err);
        if (!st && progress && progress(ctx, l + 1, p->tensors))
            st = err_set(err, LOAM_ECANCEL, "attribution: cancelled");
    }
    if (!st) {
        if (fine)
            fine_root = tree_stream_root(&tree);
        write_head(map, p, t, weight_of(p, &w), &fine_root, h_at, g_at);
        keccak256(map + bytes - 32, map, bytes - 32);
        if (msync(map, bytes, MS_SYNC))
            st = err_errno(err, LOAM_EIO, "cannot sync the gradient store");
    }
    mem_free(spare);
    work_clear(&w);
    return st;
}

enum loam_status poa_build_write(struct poa_build *b, const char *path, bool fine,
                                 bool (*progress)(void *ctx, uint32_t tensor, uint32_t tensors), void *ctx, struct err *err) {
    const struct poa_plan *p = b->plan;
    for (uint64_t i = 0; i < p->rows; i++)
        for (uint32_t l = 0; l < p->tensors; l++)
            if (!b->have[i * p->tensors + l])
                return err_set(err, LOAM_ESTATE, "attribution: row %llu has no gradient of tensor %u", (unsigned long long)i, l);
    struct poa_tensor *t = mem_zarray(p->tensors, sizeof *t);
    size_t *h_at = mem_zarray(p->tensors, sizeof *h_at), *g_at = mem_zarray(p->tensors, sizeof *g_at);
    char *tmp = mem_printf("%s.tmp", path);
    uint8_t *map = NULL;
    enum loam_status st = LOAM_OK;
    size_t at = align64(HEAD + FIXED + (size_t)RECORD * p->tensors);
    if (!t || !h_at || !g_at || !tmp)
        st = err_set(err, LOAM_ENOMEM, "attribution: a table of tensors");
    for (uint32_t l = 0; !st && l < p->tensors; l++) {
        t[l].out = p->out[l];
        t[l].k = poa_plan_k(p, l);
        t[l].d = poa_plan_width(p, l);
        h_at[l] = at;
        at = align64(at + p->rows * t[l].d);
        if (p->keep_gradients) {
            g_at[l] = at;
            at = align64(at + p->rows * t[l].d);
        }
    }
    size_t bytes = at + 32;
    if (!st && !(st = make_file(tmp, bytes, &map, err))) {
        st = fill(b, map, t, h_at, g_at, bytes, fine, progress, ctx, err);
        munmap(map, bytes);
        if (!st && rename(tmp, path))
            st = err_errno(err, LOAM_EIO, "cannot rename to %s", path);
        if (st)
            (void)!unlink(tmp);
    }
    mem_free(t);
    mem_free(h_at);
    mem_free(g_at);
    mem_free(tmp);
    return st;
}
