/* Training in arith-1 on the tiny model: gradients against finite differences, the same bits for any threads, backend,
 * micro-batch, recomputation and interruption (also kill -9), and PyTorch's loss curve. */
#include "tests/test.h"

#include "base/file.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "gpu/ops.h"
#include "lm/grad.h"
#include "lm/group.h"
#include "lm/model.h"
#include "lm/tokenizer.h"
#include "lm/pass.h"
#include "lm/philox.h"
#include "lm/trainer.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct lm_model *model;
static struct lm_data data;
static struct err e;

#define ROWS 10u /* of tests/golden/train_tiny.jsonl */

static int setup(void **state) {
    (void)state;
    char path[512];
    const char *src = getenv("srcdir");
    snprintf(path, sizeof path, "%s/contrib/models/tiny.gguf", src ? src : ".");
    if (lm_model_open(&model, path, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return -1;
    }
    lm_data_init(&data);
    snprintf(path, sizeof path, "%s/tests/golden/train_tiny.jsonl", src ? src : ".");
    if (lm_data_add_file(&data, model, path, 512, false, &e) || data.count != ROWS) {
        fprintf(stderr, "%s\n", e.text);
        return -1;
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    lm_data_clear(&data);
    lm_model_free(model);
    return 0;
}

static struct gpu *open_gpu(const char *backend, int threads) {
    struct gpu *g = NULL;
    const struct gpu_config c = {backend, threads};
    if (gpu_open(&g, &c, &e))
        return NULL;
    return g;
}

/* An adapter of rank r with both matrices random. */
static struct lm_adapter *random_adapter(uint32_t r, uint32_t targets) {
    struct lm_shape shape;
    struct lm_adapter *a;
    uint8_t base[32] = {0}, seed[32] = {9};
    struct philox p;
    lm_model_shape(&shape, model);
    OK(lm_adapter_new(&a, &shape, base, r, 2.0f * (float)r, false, targets, &e));
    lm_adapter_init(a, seed);
    philox_init(&p, seed, "test");
    for (uint32_t i = 0; i < a->count; i++)
        for (uint32_t j = 0; j < a->t[i].out * r; j++) {
            uint32_t w[4];
            philox_block(&p, i, j, w);
            a->t[i].b[j] = (philox_unit(w[0]) - 0.5f) * 0.05f;
        }
    return a;
}

struct result {
    float *grad;
    double nll[ROWS];
};

/* Of the first `rows` rows. */
static void run_pass(struct result *out, struct gpu *g, struct lm_adapter *a, uint32_t rows, uint32_t per_pass, enum lm_keep keep, float dropout) {
    struct lm_view *v;
    struct lm_pass *p;
    const struct lm_example *ex[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        ex[i] = &data.rows[i];
    out->grad = mem_zarray(a->size, sizeof(float));
    memset(out->nll, 0, sizeof out->nll);
    OK(lm_view_new(&v, model, data.longest, &e));
    OK(lm_pass_new(&p, g, v, a, (uint32_t)data.tokens, (uint32_t)data.targets, true, keep, &e));
    for (uint32_t at = 0; at < rows; at += per_pass) {
        uint32_t n = rows - at < per_pass ? rows - at : per_pass;
        const struct lm_dropout d = {dropout, {123, 45}, 100 + at};
        OK(lm_pass_forward(p, ex + at, n, true, &d, out->nll + at, &e));
        OK(lm_pass_backward(p, out->grad, NULL, at, &e));
    }
    lm_pass_free(p);
    lm_view_free(v);
}

/* With dropout: the mask of run_pass. */
static double loss(struct gpu *g, struct lm_adapter *a, float dropout) {
    double nll[ROWS], sum = 0;
    if (dropout > 0) {
        struct lm_view *v;
        struct lm_pass *p;
        const struct lm_example *ex[ROWS];
        const struct lm_dropout d = {dropout, {123, 45}, 100};
        for (size_t i = 0; i < ROWS; i++)
            ex[i] = &data.rows[i];
        OK(lm_view_new(&v, model, data.longest, &e));
        OK(lm_pass_new(&p, g, v, a, (uint32_t)data.tokens, (uint32_t)data.targets, false, LM_KEEP_ALL, &e));
        OK(lm_pass_forward(p, ex, ROWS, false, &d, nll, &e));
        lm_pass_free(p);
        lm_view_free(v);
    } else
        OK(lm_nll_rows(g, model, a, &data, 0, ROWS, 0, nll, &e));
    for (size_t i = 0; i < ROWS; i++)
        sum += nll[i];
    return sum;
}

/* Along each tensor's own gradient the loss must rise by its length: a central difference, for every A and B. */
static void differences(float dropout) {
    struct gpu *g = open_gpu(NULL, 2);
    struct lm_adapter *a = random_adapter(4, (1u << LM_LINEARS) - 1);
    struct result r;
    run_pass(&r, g, a, ROWS, ROWS, LM_KEEP_ALL, dropout);
    double worst = 0;
    for (uint32_t i = 0; i < a->count; i++)
        for (int half = 0; half < 2; half++) {
            size_t at = half ? a->t[i].b_at : a->t[i].a_at, n = (size_t)a->rank * (half ? a->t[i].out : a->t[i].in);
            double len = 0;
            for (size_t j = 0; j < n; j++)
                len += (double)r.grad[at + j] * r.grad[at + j];
            len = sqrt(len);
            double h = 0.2 / (len > 1 ? len : 1), side[2]; /* a change of about 0.2 nats each way */
            if (h > 0.05)
                h = 0.05;
            float *keep = mem_dup(a->data + at, n * sizeof(float));
            for (int s = 0; s < 2; s++) {
                for (size_t j = 0; j < n; j++)
                    a->data[at + j] = keep[j] + (float)((s ? -h : h) * r.grad[at + j] / len);
                side[s] = loss(g, a, dropout);
            }
            memcpy(a->data + at, keep, n * sizeof(float));
            mem_free(keep);
            double slope = (side[0] - side[1]) / (2 * h), off = fabs(slope - len) / len;
            if (off > worst)
                worst = off;
            if (off > 0.02)
                fail_msg("layer %u %s %s: slope %g, gradient %g", a->t[i].layer, lm_linear_name(a->t[i].kind), half ? "B" : "A",
                         slope, len);
        }
    print_message("# dropout %g: worst difference of slope and gradient: %.2g of its length\n", (double)dropout, worst);
    mem_free(r.grad);
    lm_adapter_free(a);
    gpu_close(g);
}

static void finite_differences(void **state) {
    (void)state;
    differences(0);
    differences(0.25f);
}

/* Every element is 0 or x / (1 - p), a p-th of them 0 (within five standard deviations), the mean kept; neighbours, rows and seeds
 * draw apart from each other; the same draw gives the same mask. */
static void dropout_draws(void **state) {
    (void)state;
    enum { N = 1 << 18 };
    static const float rates[] = {0.05f, 0.1f, 0.5f, 0.9f};
    struct gpu *g = open_gpu(NULL, 2);
    float *x = mem_array(N, sizeof *x), *y = mem_array(N, sizeof *y), *z = mem_array(N, sizeof *z);
    for (size_t i = 0; i < N; i++)
        x[i] = 1.0f + (float)(i % 7);
    for (size_t k = 0; k < sizeof rates / sizeof *rates; k++) {
        const float p = rates[k], inv = 1.0f / (1.0f - p);
        const uint32_t key[2] = {77, 5}, other_key[2] = {77, 6};
        double five = 5 * sqrt((double)p * (1 - (double)p) * N);
        OK(g->ops->dropout(g, y, x, N, p, key, 3, &e));
        size_t zeros = 0, pairs = 0;
        for (size_t i = 0; i < N; i++) {
            if (y[i] == 0)
                zeros++;
            else
                assert_true(y[i] == x[i] * inv);
            pairs += i && y[i] == 0 && y[i - 1] == 0;
        }
        assert_true(fabs((double)zeros - (double)p * N) < five);
        assert_true(fabs((double)pairs - (double)p * (double)p * N) < 3 * five);
        for (int way = 0; way < 3; way++) { /* again, another row, another seed */
            OK(g->ops->dropout(g, z, x, N, p, way == 2 ? other_key : key, way == 1 ? 4 : 3, &e));
            size_t both = 0;
            for (size_t i = 0; i < N; i++)
                both += y[i] == 0 && z[i] == 0;
            if (!way)
                assert_memory_equal(y, z, N * sizeof *y);
            else
                assert_true(fabs((double)both - (double)p * (double)p * N) < five);
        }
    }
    mem_free(x);
    mem_free(y);
    mem_free(z);
    gpu_close(g);
}

static void same(const struct result *x, const struct result *y, size_t n, const char *what) {
    if (memcmp(x->nll, y->nll, sizeof x->nll))
        fail_msg("%s: losses differ", what);
    for (size_t i = 0; i < n; i++)
        if (memcmp(&x->grad[i], &y->grad[i], 4))
            fail_msg("%s: gradient %zu is %a, not %a", what, i, (double)y->grad[i], (double)x->grad[i]);
}

/* The reference and the plain backend take a second for a pass: with all targets and dropout they are run in every way, with the others
 * in one. */
#define FEW 4u

static void same_bits(void **state) {
    (void)state;
    static const uint32_t targets[] = {(1u << LM_LINEARS) - 1, 1u << LM_Q | 1u << LM_V};
    for (int k = 0; k < 2; k++)
        for (int d = 0; d < 2; d++) {
            struct lm_adapter *a = random_adapter(k ? 3 : 8, targets[k]);
            float p = d ? 0.25f : 0;
            struct result first, other;
            struct gpu *g = open_gpu("ref", 1);
            assert_non_null(g);
            run_pass(&first, g, a, FEW, FEW, LM_KEEP_ALL, p);
            gpu_close(g);
            for (const char *const *b = gpu_backends(); *b; b++)
                for (int threads = 1; threads <= 2; threads++) {
                    bool ref = !strcmp(*b, "ref"), slow = ref || !strcmp(*b, "plain"), every = !slow || (!k && d && threads == 2 && !getenv("LOAM_SANITIZED"));
                    if ((ref && !every) || !(g = open_gpu(*b, threads)))
                        continue; /* done, or this machine has no such unit */
                    for (int w = 0; w < (every ? 5 : 1); w++) {
                        static const uint32_t per[5] = {FEW, 1, 3, FEW, FEW};
                        char what[64];
                        snprintf(what, sizeof what, "%s, %d threads, %u rows a pass%s", *b, threads, per[w], w == 3 ? ", recomputed" : w == 4 ? ", gate and up recomputed" : "");
                        run_pass(&other, g, a, FEW, per[w], w == 3 ? LM_KEEP_INPUTS : w == 4 ? LM_KEEP_MOST : LM_KEEP_ALL, p);
                        same(&first, &other, a->size, what);
                        mem_free(other.grad);
                    }
                    gpu_close(g);
                }
            mem_free(first.grad);
            lm_adapter_free(a);
        }
}

/* The sink's B gradients, added up, are the pass's; its factors give the same. */
struct sum {
    struct lm_adapter *a;
    float *grad;
    size_t tensors, rows;
};

static enum loam_status add_tensor(void *ctx, const struct lm_grad_tensor *g, struct err *err) {
    struct sum *s = ctx;
    (void)err;
    float *to = s->grad + s->a->t[g->tensor].b_at;
    for (uint32_t o = 0; o < g->out; o++)
        for (uint32_t r = 0; r < g->rank; r++) {
            float acc = 0;
            for (uint32_t t = 0; t < g->tokens; t++)
                acc = fmaf(g->u[(size_t)t * g->out + o], g->h[(size_t)t * g->rank + r], acc);
            float f = g->scale * acc;
            assert_memory_equal(&f, &g->g[(size_t)o * g->rank + r], 4);
            to[(size_t)o * g->rank + r] += f;
        }
    s->tensors++;
    return LOAM_OK;
}

static enum loam_status add_nll(void *ctx, size_t row, uint64_t id, double nll, uint32_t targets, struct err *err) {
    struct sum *s = ctx;
    (void)err;
    assert_int_equal(id, row);
    assert_true(nll > 0 && targets == data.rows[row].targets);
    s->rows++;
    return LOAM_OK;
}

static void sink(void **state) {
    (void)state;
    struct gpu *g = open_gpu(NULL, 2);
    struct lm_adapter *a = random_adapter(4, 1u << LM_Q | 1u << LM_DOWN | 1u << LM_V);
    struct result r;
    run_pass(&r, g, a, ROWS, ROWS, LM_KEEP_ALL, 0);
    struct sum s = {a, mem_zarray(a->size, sizeof(float)), 0, 0};
    const struct lm_grad_sink k = {&s, true, add_tensor, add_nll, NULL};
    OK(lm_grad_rows(g, model, a, &data, 0, ROWS, 100, &k, &e));
    assert_int_equal(s.rows, ROWS);
    assert_int_equal(s.tensors, ROWS * a->count);
    for (uint32_t i = 0; i < a->count; i++)
        assert_memory_equal(s.grad + a->t[i].b_at, r.grad + a->t[i].b_at, (size_t)a->rank * a->t[i].out * 4);
    mem_free(s.grad);
    mem_free(r.grad);
    lm_adapter_free(a);
    gpu_close(g);
}

/* ---------------------------------------------------------------- runs */

static void small_run(struct lm_hyper *h) {
    lm_hyper_default(h);
    h->rank = 4;
    h->alpha = 8;
    h->lr = 4e-3;
    h->epochs = 5;
    h->batch = 4;
}

struct stop {
    uint64_t at, seen;
    double first, last;
};
static enum lm_train_ask ask(void *ctx) {
    struct stop *s = ctx;
    return s->at && ++s->seen >= s->at ? LM_PAUSE : LM_GO_ON;
}
static void metrics(void *ctx, const struct lm_train_metrics *m) {
    struct stop *s = ctx;
    if (m->step == 1)
        s->first = m->loss;
    s->last = m->loss;
}

static void remove_dir(const char *dir) {
    char cmd[300];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    if (system(cmd))
        print_message("# could not remove %s\n", dir);
}

static enum loam_status life(const char *dir, const struct lm_hyper *h, const char *backend, int threads, uint64_t stop_at,
                             double save_s, struct lm_train_result *r, struct stop *st) {
    static const uint8_t seed[32] = {42};
    struct gpu *g = open_gpu(backend, threads);
    struct lm_trainer *t;
    if (!g)
        g = open_gpu(NULL, threads);
    assert_non_null(g);
    OK(lm_trainer_new(&t, g, model, &data, NULL, h, seed, dir, 0, &e));
    *st = (struct stop){.at = stop_at};
    const struct lm_train_hooks hooks = {.ctx = st, .metrics = metrics, .ask = ask, .save_s = save_s};
    enum loam_status s = lm_trainer_run(t, &hooks, r, &e);
    lm_trainer_free(t);
    gpu_close(g);
    return s;
}

static void learns_and_resumes(void **state) {
    (void)state;
    struct lm_hyper h;
    struct lm_train_result whole, r;
    struct stop st;
    char a[64], b[64];
    snprintf(a, sizeof a, "train-a-%ld", (long)getpid());
    snprintf(b, sizeof b, "train-b-%ld", (long)getpid());
    for (int d = 0; d < 2; d++) {
        small_run(&h);
        h.dropout = d ? 0.1f : 0;
        h.schedule = d ? LM_COSINE : LM_LINEAR;
        OK(life(a, &h, NULL, 2, 0, 0, &whole, &st));
        print_message("# loss %.4f to %.4f in %llu steps\n", st.first, st.last, (unsigned long long)whole.steps);
        assert_true(st.last < 0.9 * st.first);
        assert_int_equal(whole.steps, 15);
        assert_int_equal(whole.checkpoints, 4); /* 1 2 4 5 */
        assert_int_equal(whole.checkpoint_epoch[3], 5);
        assert_memory_equal(whole.checkpoint_hash[3], whole.adapter_hash, 32);
        /* The same run in pieces: paused in the middle of a step again and again, by one thread now, two then. */
        int lives = 0;
        enum loam_status s;
        do {
            s = life(b, &h, lives == 1 ? "plain" : NULL /* slow, once will do */, 1 + (lives & 1), 900 + 37 * (uint64_t)lives, 0, &r, &st);
            assert_true(s == LOAM_OK || s == LOAM_ECANCEL);
            assert_true(++lives < 100);
        } while (s);
        print_message("# the same hash after %d lives\n", lives);
        assert_true(lives > 2);
        assert_memory_equal(r.adapter_hash, whole.adapter_hash, 32);
        assert_int_equal(r.checkpoints, whole.checkpoints);
        assert_memory_equal(r.checkpoint_hash, whole.checkpoint_hash, sizeof r.checkpoint_hash);
        /* Done already: nothing is computed again. */
        OK(life(b, &h, NULL, 1, 0, 0, &r, &st));
        assert_memory_equal(r.adapter_hash, whole.adapter_hash, 32);
        /* Another recipe does not go on in this folder. */
        h.lr *= 2;
        static const uint8_t seed[32] = {42};
        struct lm_trainer *t;
        struct gpu *g = open_gpu(NULL, 1);
        FAILS(LOAM_ESTATE, lm_trainer_new(&t, g, model, &data, NULL, &h, seed, b, 0, &e));
        gpu_close(g);
        remove_dir(a);
        remove_dir(b);
    }
}

/* kill -9 at random moments, with a state after every step. */
static void survives_kill(void **state) {
    (void)state;
    struct lm_hyper h;
    struct lm_train_result whole, r;
    struct stop st;
    char a[64];
    small_run(&h);
    snprintf(a, sizeof a, "train-k-%ld", (long)getpid());
    OK(life(a, &h, NULL, 2, 0, 0, &whole, &st));
    remove_dir(a);
    int kills = 0;
    uint8_t seed[32] = {5};
    struct philox p;
    philox_init(&p, seed, "kill");
    for (; kills < 60; kills++) {
        uint32_t w[4];
        philox_block(&p, 0, (uint32_t)kills, w);
        pid_t pid = fork();
        if (!pid) {
            _exit(life(a, &h, NULL, 1, 0, 1e-6, &r, &st) ? 1 : 0);
        }
        usleep(2000 + w[0] % 150000);
        kill(pid, SIGKILL);
        int status;
        waitpid(pid, &status, 0);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            break;
        }
    }
    OK(life(a, &h, NULL, 2, 0, 0, &r, &st));
    print_message("# the same hash after %d kills\n", kills);
    assert_memory_equal(r.adapter_hash, whole.adapter_hash, 32);
    assert_memory_equal(r.checkpoint_hash, whole.checkpoint_hash, sizeof r.checkpoint_hash);
    remove_dir(a);
}

/* ---- several ranks: a transport of threads; MPI's own is tests/ranks.sh */

#define RANKS_MAX 5
struct wire {
    pthread_barrier_t all;
    int ranks;
    void *p[RANKS_MAX];
    const size_t *bytes[RANKS_MAX];
};

static size_t before(const size_t *bytes, int r) {
    size_t n = 0;
    while (r--)
        n += bytes[r];
    return n;
}
static void post(struct lm_group *g, const void *p, const size_t *bytes) {
    struct wire *w = g->impl;
    w->p[g->rank] = (void *)(uintptr_t)p;
    w->bytes[g->rank] = bytes;
    pthread_barrier_wait(&w->all);
}
static enum loam_status wire_bcast(struct lm_group *g, void *p, size_t bytes, struct err *err) {
    struct wire *w = g->impl;
    (void)err;
    post(g, p, NULL);
    if (g->rank)
        memcpy(p, w->p[0], bytes);
    pthread_barrier_wait(&w->all);
    return LOAM_OK;
}
static enum loam_status wire_gather(struct lm_group *g, void *p, const size_t *bytes, struct err *err) {
    struct wire *w = g->impl;
    (void)err;
    post(g, p, bytes);
    for (int r = 0; r < g->ranks; r++)
        if (r != g->rank)
            memcpy((char *)p + before(bytes, r), (char *)w->p[r] + before(bytes, r), bytes[r]);
    pthread_barrier_wait(&w->all);
    return LOAM_OK;
}
static enum loam_status wire_exchange(struct lm_group *g, const void *send, const size_t *send_bytes, void *recv, const size_t *recv_bytes,
                                      struct err *err) {
    struct wire *w = g->impl;
    post(g, send, send_bytes);
    enum loam_status s = LOAM_OK;
    for (int r = 0; r < g->ranks; r++) {
        if (w->bytes[r][g->rank] != recv_bytes[r])
            s = err_set(err, LOAM_EINTERNAL, "rank %d sends %zu bytes, %zu are awaited", r, w->bytes[r][g->rank], recv_bytes[r]);
        else
            memcpy((char *)recv + before(recv_bytes, r), (char *)w->p[r] + before(w->bytes[r], g->rank), recv_bytes[r]);
    }
    pthread_barrier_wait(&w->all);
    return s;
}

struct one_rank {
    struct lm_group g;
    const struct lm_hyper *h;
    const char *dir, *backend;
    uint64_t stop_at;
    uint8_t seed;
    struct lm_train_result r;
    enum loam_status status;
    struct err err;
};
static void *a_rank(void *arg) {
    struct one_rank *o = arg;
    uint8_t seed[32] = {o->seed};
    struct gpu *g = NULL;
    struct lm_trainer *t = NULL;
    struct stop st = {.at = o->stop_at};
    const struct lm_train_hooks hooks = {.ctx = &st, .metrics = metrics, .ask = ask};
    o->status = gpu_open(&g, &(struct gpu_config){o->backend, 1}, &o->err);
    if (!o->status)
        o->status = lm_trainer_new(&t, g, model, &data, NULL, o->h, seed, o->g.rank ? NULL : o->dir, 0, &o->err);
    if (!o->status)
        o->status = lm_trainer_group(t, &o->g, &o->err);
    if (!o->status)
        o->status = lm_trainer_run(t, o->g.rank ? NULL : &hooks, &o->r, &o->err);
    lm_trainer_free(t);
    gpu_close(g);
    return NULL;
}
static void ranks_run(struct one_rank *o, int n, const struct lm_hyper *h, const char *dir, uint64_t stop_at, int other_seed) {
    struct wire w = {.ranks = n};
    pthread_t th[RANKS_MAX];
    pthread_barrier_init(&w.all, NULL, (unsigned)n);
    for (int r = 0; r < n; r++) {
        o[r] = (struct one_rank){.g = {r, n, &w, wire_bcast, wire_gather, wire_exchange}, .h = h, .dir = dir, .stop_at = stop_at, .seed = 42};
        o[r].backend = n == 2 && r && stop_at ? "plain" : NULL; /* nor need they be the same machine; slow, once will do */
        o[r].seed += (uint8_t)(r == other_seed);
        assert_int_equal(pthread_create(&th[r], NULL, a_rank, &o[r]), 0);
    }
    for (int r = 0; r < n; r++)
        pthread_join(th[r], NULL);
    pthread_barrier_destroy(&w.all);
}

static void ranks(void **state) {
    (void)state;
    struct lm_hyper h;
    struct lm_train_result whole;
    struct stop st;
    char a[64];
    struct one_rank *o = mem_zarray(RANKS_MAX, sizeof *o);
    small_run(&h);
    h.dropout = 0.1f;
    snprintf(a, sizeof a, "train-r-%ld", (long)getpid());
    OK(life(a, &h, NULL, 2, 0, 0, &whole, &st));
    remove_dir(a);
    for (int n = 1; n <= RANKS_MAX; n++) { /* 5 ranks: more than rows in an epoch's last step */
        /* cancelled on the way by rank 0, in the middle of a step; then to the end, by another number of ranks. Of five ranks and
         * four rows the first has none and is asked once a step. */
        ranks_run(o, n, &h, a, n < 5 ? 100 : 7, -1);
        for (int r = 0; r < n; r++)
            assert_int_equal(o[r].status, LOAM_ECANCEL);
        int m = n % 3 + 1;
        ranks_run(o, m, &h, a, 0, -1);
        for (int r = 0; r < m; r++) {
            OK(o[r].status);
            assert_memory_equal(o[r].r.adapter_hash, whole.adapter_hash, 32);
            assert_memory_equal(o[r].r.checkpoint_hash, whole.checkpoint_hash, sizeof whole.checkpoint_hash);
        }
        remove_dir(a);
    }
    /* One that was given something else is named by everybody. */
    ranks_run(o, 3, &h, a, 0, 2);
    for (int r = 0; r < 3; r++) {
        assert_int_equal(o[r].status, LOAM_ESTATE);
        assert_non_null(strstr(o[r].err.text, "rank 2"));
    }
    remove_dir(a);
    mem_free(o);
}

struct seen {
    struct stop st;
    double loss[64];
    uint64_t step[64];
    bool best[64];
    int n;
};
static void evaluated(void *ctx, uint64_t step, double loss, bool best) {
    struct seen *s = ctx;
    assert_true(s->n < 64);
    s->loss[s->n] = loss;
    s->step[s->n] = step;
    s->best[s->n++] = best;
}
static enum lm_train_ask ask_seen(void *ctx) {
    return ask(&((struct seen *)ctx)->st);
}

static enum loam_status eval_life(const char *dir, const struct lm_data *train, const struct lm_data *eval, const struct lm_hyper *h, int threads,
                                  uint64_t stop_at, struct lm_train_result *r, struct seen *seen) {
    static const uint8_t seed[32] = {42};
    struct gpu *g = open_gpu(NULL, threads);
    struct lm_trainer *t;
    OK(lm_trainer_new(&t, g, model, train, eval, h, seed, dir, 0, &e));
    *seen = (struct seen){.st = {.at = stop_at}};
    const struct lm_train_hooks hooks = {.ctx = seen, .evaluated = evaluated, .ask = ask_seen};
    enum loam_status s = lm_trainer_run(t, &hooks, r, &e);
    uint8_t now[32];
    lm_adapter_hash(now, lm_trainer_adapter(t));
    assert_memory_equal(now, r->adapter_hash, 32);
    lm_trainer_free(t);
    gpu_close(g);
    return s;
}

/* Rows kept back: the lowest loss is the result, early or late, paused or not. */
static void keeps_the_best(void **state) {
    (void)state;
    struct lm_data train, eval;
    struct lm_hyper h;
    struct lm_train_result whole, r;
    struct seen seen, parts;
    char a[64], b[64], path[96];
    lm_data_init(&train);
    lm_data_init(&eval);
    for (size_t i = 0; i < ROWS; i++)
        OK(lm_data_add_tokens(i % 4 == 3 ? &eval : &train, data.rows[i].tokens, data.rows[i].train, data.rows[i].n, i, &e));
    assert_int_equal(lm_eval_rows(10, 0.2), 2);
    assert_int_equal(lm_eval_rows(10, 0.01), 1);
    assert_int_equal(lm_eval_rows(1, 0.5), 0);
    assert_int_equal(lm_eval_rows(10, 0), 0);
    small_run(&h);
    h.lr = 3e-2; /* far too much: the evaluation gets worse soon */
    h.epochs = 12;
    h.schedule = LM_CONSTANT;
    h.eval = 0.2;
    h.eval_every = 3; /* epochs have 2 steps: evaluations fall within and at the end of one */
    snprintf(a, sizeof a, "train-ea-%ld", (long)getpid());
    snprintf(b, sizeof b, "train-eb-%ld", (long)getpid());
    static const uint8_t seed[32] = {42};
    struct lm_trainer *t;
    struct gpu *g = open_gpu(NULL, 1);
    FAILS(LOAM_EINVAL, lm_trainer_new(&t, g, model, &train, NULL, &h, seed, a, 0, &e));
    OK(eval_life(a, &train, &eval, &h, 2, 0, &whole, &seen));
    assert_int_equal(whole.steps, 24);
    assert_int_equal(whole.evals, seen.n);
    assert_int_equal(seen.n, 8);
    int best = 0;
    for (int i = 1; i < seen.n; i++)
        best = seen.loss[i] < seen.loss[best] ? i : best;
    print_message("# evaluation: first %.4f, best %.4f after step %llu, last %.4f\n", seen.loss[0], seen.loss[best], (unsigned long long)seen.step[best],
                  seen.loss[seen.n - 1]);
    assert_true(seen.best[best] && whole.best_step == seen.step[best] && whole.best_loss == seen.loss[best]);
    assert_true(best < seen.n - 1); /* or this test says nothing */
    /* The result is that adapter: its loss on those rows, computed from the file, and the last of the checkpoints. */
    snprintf(path, sizeof path, "%s/adapter", a);
    struct lm_adapter *kept;
    OK(lm_adapter_load(&kept, path, &e));
    double nll[ROWS], sum = 0;
    OK(lm_nll_rows(g, model, kept, &eval, 0, eval.count, 0, nll, &e));
    for (size_t i = 0; i < eval.count; i++)
        sum += nll[i];
    assert_true(sum / (double)eval.targets == whole.best_loss);
    lm_adapter_free(kept);
    assert_memory_equal(whole.checkpoint_hash[whole.checkpoints - 1], whole.adapter_hash, 32);
    assert_int_equal(whole.checkpoint_step[whole.checkpoints - 1], whole.best_step);
    for (uint32_t i = 1; i < whole.checkpoints; i++)
        assert_true(whole.checkpoint_step[i] > whole.checkpoint_step[i - 1] && whole.checkpoint_epoch[i] > whole.checkpoint_epoch[i - 1]);
    /* In pieces: the same, also when stopped within an evaluation. */
    int lives = 0;
    enum loam_status s;
    while ((s = eval_life(b, &train, &eval, &h, 1 + (lives & 1), 700 + 53 * (uint64_t)lives, &r, &parts)) == LOAM_ECANCEL)
        assert_true(++lives < 100);
    OK(s);
    assert_true(lives > 2);
    assert_memory_equal(r.adapter_hash, whole.adapter_hash, 32);
    assert_true(r.best_step == whole.best_step && r.best_loss == whole.best_loss && r.evals == whole.evals && r.checkpoints == whole.checkpoints);
    /* Finished already: nothing is computed, the result is the same. */
    OK(eval_life(b, &train, &eval, &h, 1, 0, &r, &parts));
    assert_int_equal(parts.n, 0);
    assert_memory_equal(r.adapter_hash, whole.adapter_hash, 32);
    remove_dir(b);
    /* Patience ends it, with the same result. */
    h.patience = 2;
    OK(eval_life(b, &train, &eval, &h, 2, 0, &r, &parts));
    assert_true(r.stopped && r.steps < 24);
    assert_int_equal(r.evals, best + 3);
    assert_memory_equal(r.adapter_hash, whole.adapter_hash, 32);
    OK(eval_life(b, &train, &eval, &h, 2, 0, &r, &parts));
    assert_true(r.stopped && parts.n == 0);
    assert_memory_equal(r.adapter_hash, whole.adapter_hash, 32);
    remove_dir(a);
    remove_dir(b);
    gpu_close(g);
    lm_data_clear(&train);
    lm_data_clear(&eval);
}

static void memory_plan(void **state) {
    (void)state;
    static const uint8_t seed[32] = {42};
    struct lm_hyper h;
    struct lm_trainer *t;
    struct lm_train_result r, s;
    char a[64];
    small_run(&h);
    h.epochs = 2;
    snprintf(a, sizeof a, "train-m-%ld", (long)getpid());
    struct gpu *g = open_gpu(NULL, 2);
    OK(lm_trainer_new(&t, g, model, &data, NULL, &h, seed, a, 0, &e));
    const struct lm_train_plan big = *lm_trainer_plan(t);
    OK(lm_trainer_run(t, NULL, &r, &e));
    lm_trainer_free(t);
    remove_dir(a);
    size_t all = big.adapter + big.optimiser + big.activations + big.scratch;
    assert_int_equal(big.recompute, 0);
    /* Less memory: recomputation, then smaller pieces, always the same bits; then an error that says so. */
    bool recomputed = false, some = false, smaller = false;
    enum loam_status st = LOAM_OK;
    for (size_t m = all - 1; !st; m -= all / 12) {
        st = lm_trainer_new(&t, g, model, &data, NULL, &h, seed, a, m, &e);
        if (!st) {
            const struct lm_train_plan *p = lm_trainer_plan(t);
            recomputed |= p->recompute == 2;
            some |= p->recompute == 1;
            smaller |= p->micro_tokens < big.micro_tokens;
            assert_true(p->adapter + p->optimiser + p->activations + p->scratch <= m);
            OK(lm_trainer_run(t, NULL, &s, &e));
            assert_memory_equal(s.adapter_hash, r.adapter_hash, 32);
            lm_trainer_free(t);
            remove_dir(a);
        }
    }
    assert_int_equal(st, LOAM_ENOMEM);
    assert_true(recomputed && some && smaller);
    remove_dir(a);
    gpu_close(g);
}

static void hyper_text(void **state) {
    (void)state;
    struct lm_hyper h, k;
    struct buf b = BUF_INIT(4096);
    lm_hyper_default(&h);
    h.lr = 0.00137;
    h.schedule = LM_COSINE;
    OK(lm_hyper_text(&b, &h, &e));
    OK(lm_hyper_parse(&k, (char *)b.data, b.len, &e));
    assert_true(k.lr == h.lr && k.schedule == h.schedule && k.batch == h.batch && k.max_tokens == h.max_tokens);
    b.data[3] = 'x';
    FAILS(LOAM_EPARSE, lm_hyper_parse(&k, (char *)b.data, b.len, &e));
    buf_clear(&b);
    h.eval = 0.125;
    h.patience = 3;
    OK(lm_hyper_text(&b, &h, &e));
    OK(lm_hyper_parse(&k, (char *)b.data, b.len, &e));
    assert_true(k.eval == h.eval && k.patience == 3 && k.eval_every == 0);
    FAILS(LOAM_EPARSE, lm_hyper_parse(&k, (char *)b.data, b.len - 12, &e));
    h.eval = 0;
    FAILS(LOAM_EINVAL, lm_hyper_check(&h, &e));
    h.patience = 0;
    h.beta1 = 1;
    FAILS(LOAM_ERANGE, lm_hyper_check(&h, &e));
    buf_clear(&b);
}

/* ---------------------------------------------------------------- data */

static void forms(void **state) {
    (void)state;
    static const char *const good[] = {
        "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi?\"},{\"role\":\"assistant\",\"content\":\"Ho.\"}]}",
        "{\"conversations\":[{\"from\":\"human\",\"value\":\"Hi?\"},{\"from\":\"gpt\",\"value\":\"Ho.\"}]}",
        "{\"prompt\":\"Hi?\",\"completion\":\"Ho.\"}",
        "{\"question\":\"Hi?\",\"answer\":\"Ho.\",\"source\":3}",
        "{\"instruction\":\"Hi?\",\"output\":\"Ho.\",\"input\":\"\"}",
    };
    struct lm_data d;
    lm_data_init(&d);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        OK(lm_data_add_json(&d, model, good[i], strlen(good[i]), i, 512, &e));
        assert_int_equal(d.rows[i].n, d.rows[0].n);
        assert_memory_equal(d.rows[i].tokens, d.rows[0].tokens, d.rows[0].n * 4);
        assert_memory_equal(d.rows[i].train, d.rows[0].train, d.rows[0].n);
    }
    /* The token that ends the answer is trained, the question is not. */
    const struct lm_example *x = &d.rows[0];
    uint32_t last = 0;
    for (uint32_t i = 0; i < x->n; i++)
        if (x->train[i])
            last = i;
    assert_true(lm_token_ends(model->tokenizer, x->tokens[last]));
    assert_true(x->targets < x->n / 2);
    const char *text = "{\"text\":\"Once upon a time\"}";
    OK(lm_data_add_json(&d, model, text, strlen(text), 9, 512, &e));
    assert_int_equal(d.rows[d.count - 1].targets, d.rows[d.count - 1].n - 1);

    static const char *const bad[] = {
        "[]", "{}", "{\"prompt\":\"x\"}", "{\"prompt\":\"x\",\"completion\":\"\"}", "{\"prompt\":1,\"completion\":\"y\"}",
        "{\"messages\":[]}", "{\"messages\":[{\"role\":\"king\",\"content\":\"x\"}]}", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
        "{\"prompt\":\"\\ud800\",\"completion\":\"y\"}", "{\"prompt\":\"x\",\"completion\":\"\xff\"}", "{\"prompt\":\"x\\u0000\",\"completion\":\"y\"}",
        "{\"prompt\":\"x\",\"completion\":\"y\"", "{\"text\":\"\"}",
    };
    size_t before = d.count;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!lm_data_add_json(&d, model, bad[i], strlen(bad[i]), 0, 512, &e))
            fail_msg("%s was taken", bad[i]);
    FAILS(LOAM_ELIMIT, lm_data_add_json(&d, model, good[0], strlen(good[0]), 0, 8, &e));
    assert_int_equal(d.count, before);

    /* Files: mixed forms, blank lines, and a bad row named by file and line. */
    char path[64], file[2048];
    snprintf(path, sizeof path, "rows-%ld.jsonl", (long)getpid());
    snprintf(file, sizeof file, "\xef\xbb\xbf%s\r\n\n%s\n%s\n%s", good[0], good[2], bad[3], good[4]);
    OK(file_write(path, file, strlen(file), 0600, &e));
    FAILS(LOAM_EPARSE, lm_data_add_file(&d, model, path, 512, false, &e));
    assert_non_null(strstr(e.text, ".jsonl:4: "));
    lm_data_clear(&d);
    OK(lm_data_add_file(&d, model, path, 512, true, &e));
    assert_int_equal(d.count, 3);
    assert_int_equal(d.bad, 1);
    assert_int_equal(d.rows[2].line, 5);
    assert_non_null(strstr((char *)d.bad_text.data, ":4: "));
    unlink(path);
    lm_data_clear(&d);
}

/* ---------------------------------------------------------------- PyTorch */

/* contrib/bench/peft_train.py wrote the losses of the same runs (same initial adapter, same order) by PEFT, rows padded and masked where
 * ours stand one after the other: every schedule, with and without warm-up's longer kinds, clipping that bites and none, rsLoRA, and
 * ten rows a step where memory is left for one at a time. */
static const struct curve {
    const char *file;
    enum lm_schedule schedule;
    double warmup, clip;
    bool rslora, little;
    uint32_t batch;
} curves[] = {
    {"train_tiny.txt", LM_LINEAR, 0.06, 1, false, false, 4},
    {"train_tiny_cosine.txt", LM_COSINE, 0.2, 1, true, false, 4},
    {"train_tiny_clip.txt", LM_CONSTANT, 0.06, 0.05, false, false, 4},
    {"train_tiny_whole.txt", LM_LINEAR, 0.3, 0, false, true, 10},
};

/* The least memory that trains at all, so that a step goes in as many passes as it can. */
static struct lm_trainer *least(struct gpu *g, const struct lm_hyper *h, const uint8_t seed[32], const char *dir, size_t from) {
    struct lm_trainer *t = NULL, *next;
    while (!lm_trainer_new(&next, g, model, &data, NULL, h, seed, dir, from, &e)) {
        lm_trainer_free(t);
        t = next;
        from -= from / 24;
    }
    return t;
}

static void torch_curve(void **state) {
    (void)state;
    static const uint8_t seed[32] = {42};
    for (size_t c = 0; c < sizeof curves / sizeof *curves; c++) {
        char path[512], line[256], dir[64];
        const char *src = getenv("srcdir");
        snprintf(path, sizeof path, "%s/tests/golden/%s", src ? src : ".", curves[c].file);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        double want[256];
        size_t n = 0;
        while (fgets(line, sizeof line, f))
            if (line[0] != '#' && n < 256)
                want[n++] = strtod(line, NULL);
        fclose(f);
        struct lm_hyper h;
        struct lm_train_result r;
        struct lm_trainer *t;
        small_run(&h);
        h.epochs = 20;
        h.lr = 2e-3;
        h.schedule = curves[c].schedule;
        h.warmup = curves[c].warmup;
        h.clip = curves[c].clip;
        h.rslora = curves[c].rslora;
        h.batch = curves[c].batch;
        snprintf(dir, sizeof dir, "train-t-%ld", (long)getpid());
        struct gpu *g = open_gpu(NULL, 2);
        OK(lm_trainer_new(&t, g, model, &data, NULL, &h, seed, dir, 0, &e));
        if (curves[c].little) {
            const struct lm_train_plan p = *lm_trainer_plan(t);
            lm_trainer_free(t);
            t = least(g, &h, seed, dir, p.adapter + p.optimiser + p.activations + p.scratch);
            assert_non_null(t);
            assert_true(lm_trainer_plan(t)->micro_tokens * 2 <= data.tokens); /* several passes a step */
        }
        OK(lm_trainer_run(t, NULL, &r, &e));
        lm_trainer_free(t);
        gpu_close(g);
        assert_int_equal(r.steps, n);
        struct buf b = BUF_INIT(1 << 20);
        snprintf(path, sizeof path, "%s/steps", dir);
        OK(file_read(&b, path, &e));
        double worst = 0;
        for (size_t i = 0; i < n; i++) {
            double sum;
            memcpy(&sum, b.data + i * LM_STEP_BYTES + 8, 8);
            double off = fabs(sum / (double)le64(b.data + i * LM_STEP_BYTES + 16) - want[i]);
            if (off > worst)
                worst = off;
        }
        print_message("# %s: largest difference from PEFT's loss in %zu steps: %.2g\n", curves[c].file, n, worst);
        assert_true(worst < 1e-3);
        buf_clear(&b);
        remove_dir(dir);
    }
}

int main(int argc, char **argv) {
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),         cmocka_unit_test(hyper_text), cmocka_unit_test(finite_differences),
        cmocka_unit_test(same_bits),     cmocka_unit_test(sink),       cmocka_unit_test(learns_and_resumes),
        cmocka_unit_test(survives_kill), cmocka_unit_test(ranks),      cmocka_unit_test(memory_plan),
        cmocka_unit_test(torch_curve),   cmocka_unit_test(keeps_the_best),
        cmocka_unit_test(dropout_draws),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
