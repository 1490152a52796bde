#include "tests/test.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"
#include "lm/philox.h"
#include "poa/check.h"
#include "poa/plan.h"
#include "poa/score.h"
#include "poa/solve.h"
#include "poa/text.h"
#include "poa/trace.h"

#include <math.h>
#include <unistd.h>

static struct err e;
static char dir[64], path[128];

static int make_dir(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/loam-test-poa-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
    (void)state;
    char cmd[100];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

static const char *in(const char *name) {
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

/* file_write syncs, which is slow a thousand times over. */
static void put_file(const uint8_t *p, size_t n) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    fclose(f);
}

static uint64_t seed_state = 88172645463325252ull;
static double noise(void) { /* about normal, fixed sequence */
    double s = 0;
    for (int i = 0; i < 6; i++) {
        seed_state ^= seed_state << 13, seed_state ^= seed_state >> 7, seed_state ^= seed_state << 17;
        s += (double)(seed_state >> 11) * 0x1p-53 - 0.5;
    }
    return s * 1.4142;
}

/* Factors of a row's gradient of one tensor, and g = scale · u'h the way lm makes it. */
enum { L = 3, R = 10, T = 37, N = 24 };
static const uint32_t outs[L] = {5, 40, 17};
static float u[T * 40], h[T * R], g[40 * R];

static struct lm_grad_tensor gradient_of(size_t row, uint32_t tensor, uint64_t salt) {
    uint32_t out = outs[tensor];
    seed_state = 88172645463325252ull ^ (row * 1000003 + tensor * 7919 + salt);
    for (int i = 0; i < 5; i++)
        noise();
    for (uint32_t i = 0; i < T * out; i++)
        u[i] = (float)(noise() * (tensor == 1 ? 0.001 : 3));
    for (int i = 0; i < T * R; i++)
        h[i] = (float)noise();
    for (uint32_t o = 0; o < out; o++)
        for (int r = 0; r < R; r++) {
            float acc = 0;
            for (int t = 0; t < T; t++)
                acc = fmaf(u[(size_t)t * out + o], h[t * R + r], acc);
            g[o * R + r] = acc * 0.5f;
        }
    return (struct lm_grad_tensor){.row = row, .id = row, .tensor = tensor, .rank = R, .out = out, .tokens = T, .scale = 0.5f,
                                   .u = u, .h = h, .g = g};
}

static struct lm_adapter fake_adapter(struct lm_lora *t) {
    struct lm_adapter a = {.rank = R, .count = L, .t = t};
    for (uint32_t l = 0; l < L; l++)
        t[l] = (struct lm_lora){.out = outs[l], .in = 8};
    return a;
}

static const uint8_t zeros[32];

static void plans(void **state) {
    (void)state;
    struct lm_lora t[L];
    struct lm_adapter a = fake_adapter(t);
    struct poa_plan p;
    OK(poa_plan_make(&p, &a, N, 2, 0, true, zeros, &e));
    assert_int_equal(p.k, 0);
    assert_int_equal(poa_plan_bytes(&p), 2 * N * R * (5 + 40 + 17));
    OK(poa_plan_make(&p, &a, N, 2, 2 * 2 * N * R * (5 + 32 + 17), true, zeros, &e));
    assert_int_equal(p.k, 32);
    OK(poa_plan_make(&p, &a, N, 2, 2 * 2 * N * R * (5 + 8 + 8), true, zeros, &e));
    assert_int_equal(p.k, 8);
    assert_int_equal(poa_plan_k(&p, 0), 5);
    assert_int_equal(poa_plan_k(&p, 1), 8);
    OK(poa_plan_make(&p, &a, N, 2, 2 * 2 * N * R * 3, true, zeros, &e));
    assert_int_equal(p.k, 1);
    FAILS(LOAM_ELIMIT, poa_plan_make(&p, &a, N, 2, 2 * 2 * N * R * 3 - 1, true, zeros, &e));
    FAILS(LOAM_ELIMIT, poa_plan_make(&p, &a, 0, 2, 0, true, zeros, &e));
    FAILS(LOAM_ELIMIT, poa_plan_make(&p, &a, POA_ROWS_MAX + 1, 2, 0, true, zeros, &e));
    FAILS(LOAM_ELIMIT, poa_plan_make(&p, &a, N, POA_CHECKPOINTS_MAX + 1, 0, true, zeros, &e));
}

/* The projection from factors is P g, with the stated signs, up to fp32 rounding; and exactly the stated chains, for every
 * k, in plain C and with the processor's vectors, for any number of threads. */
static void projection(void **state) {
    (void)state;
    struct lm_lora t[L];
    struct lm_adapter a = fake_adapter(t);
    struct poa_plan p;
    OK(poa_plan_make(&p, &a, N, 1, 0, true, zeros, &e));
    for (int variant = 0; variant < 4; variant++)
        for (uint32_t k = 1; k <= 32; k *= 2) {
            struct poa_signs s;
            struct gpu *gpu;
            float out[40 * R];
            OK(gpu_open(&gpu, &(struct gpu_config){NULL, 1 + 2 * (variant / 2)}, &e));
            p.k = k;
            OK(poa_signs_init(&s, &p, gpu, &e));
            s.plain = variant % 2;
            for (uint32_t l = 0; l < L; l++) {
                struct lm_grad_tensor gt = gradient_of(3, l, 0);
                OK(poa_gradient(out, &s, &p, &gt, &e));
                if (outs[l] <= k) {
                    assert_memory_equal(out, g, outs[l] * R * sizeof *out);
                    continue;
                }
                struct philox ph;
                philox_init(&ph, zeros, "poa-sign");
                for (uint32_t j = 0; j < k; j++) {
                    float sign[40], v[T];
                    for (uint32_t o = 0; o < outs[l]; o++) {
                        uint32_t b = o * k + j, w[4];
                        philox_block(&ph, l, b / 128, w);
                        sign[o] = w[b / 32 % 4] >> b % 32 & 1 ? -1.0f : 1.0f;
                    }
                    for (int n = 0; n < T; n++) {
                        v[n] = 0;
                        for (uint32_t o = 0; o < outs[l]; o++)
                            v[n] += sign[o] * u[(size_t)n * outs[l] + o];
                    }
                    for (int r = 0; r < R; r++) {
                        float acc = 0;
                        double whole = 0, size = 0;
                        for (int n = 0; n < T; n++)
                            acc = fmaf(v[n], h[n * R + r], acc);
                        acc *= 0.5f;
                        assert_memory_equal(&acc, &out[j * R + r], 4);
                        for (uint32_t o = 0; o < outs[l]; o++) {
                            whole += (double)sign[o] * g[o * R + r];
                            size += fabs((double)g[o * R + r]);
                        }
                        assert_true(fabs(whole - (double)acc) < 1e-4 * size);
                    }
                }
            }
            poa_signs_clear(&s);
            gpu_close(gpu);
        }
}

static void exponents(void **state) {
    (void)state;
    assert_int_equal(poa_exponent(0), 0);
    assert_int_equal(poa_exponent(127), 0);
    assert_int_equal(poa_exponent(127.5), 1);
    assert_int_equal(poa_exponent(63.5), -1);
    assert_int_equal(poa_exponent(1), -6);
    assert_int_equal(poa_exponent(0.9921875), -7);
}

static void build(struct poa_plan *p, struct gpu *gpu, const char *file, const char *scratch, uint64_t salt) {
    struct poa_build *b;
    OK(poa_build_new(&b, p, gpu, scratch, &e));
    struct lm_grad_sink sink = poa_build_sink(b);
    FAILS(LOAM_ESTATE, poa_build_write(b, file, true, NULL, NULL, &e));
    /* Rows interleaved and layers from the last to the first, as they come in training. */
    for (uint32_t l = L; l-- > 0;)
        for (size_t i = 0; i < N; i++) {
            struct lm_grad_tensor gt = gradient_of(i * 7 % N, l, salt);
            OK(sink.tensor(sink.ctx, &gt, &e));
        }
    OK(poa_build_write(b, file, true, NULL, NULL, &e));
    poa_build_free(b);
}

/* H by plain Gauss-Jordan in fp64 on the stored G; every stored entry is within its rounding. */
static void check_h(const struct poa_store *s) {
    for (uint32_t l = 0; l < L; l++) {
        const struct poa_tensor *t = &s->t[l];
        static double a[N][2 * N];
        double n = (double)t->n / 65536.0, trace = 0;
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                double k = 0;
                for (size_t x = 0; x < t->d; x++)
                    k += (double)t->g[i * t->d + x] * t->g[j * t->d + x];
                a[i][j] = k + (i == j ? n : 0);
                a[i][N + j] = i == j;
                trace += i == j ? k : 0;
            }
        assert_true(fabs(n - trace / 4 / N) < 1e-4);
        for (int i = 0; i < N; i++) {
            double d = a[i][i];
            for (int j = 0; j < 2 * N; j++)
                a[i][j] /= d;
            for (int r = 0; r < N; r++)
                if (r != i) {
                    double f = a[r][i];
                    for (int j = 0; j < 2 * N; j++)
                        a[r][j] -= f * a[i][j];
                }
        }
        double unit = ldexp(1.0, t->e_h - t->e_g), biggest = 0;
        for (int i = 0; i < N; i++)
            for (size_t x = 0; x < t->d; x++) {
                double ref = 0;
                for (int j = 0; j < N; j++)
                    ref += n * a[i][N + j] * t->g[j * t->d + x];
                biggest = fabs(ref) > biggest ? fabs(ref) : biggest;
                if (fabs(ref - t->h[i * t->d + x] * unit) > 0.5 * unit * (1 + 1e-6))
                    fail_msg("tensor %u row %d element %zu: %g, not %g", l, i, x, t->h[i * t->d + x] * unit, ref);
            }
        /* The least scale: the largest entry uses at least half of the range. */
        assert_true(biggest > 63 * unit && biggest <= 127.01 * unit);
    }
}

static void stores(void **state) {
    (void)state;
    struct lm_lora t[L];
    struct lm_adapter a = fake_adapter(t);
    struct poa_plan p;
    struct gpu *gpu;
    struct poa_store s;
    struct hash32 first = {{0}};
    OK(poa_plan_make(&p, &a, N, 1, 0, true, zeros, &e));
    p.k = 8;
    /* Every backend, one and three threads, scratch in memory and in a file: the same file. */
    for (const char *const *name = gpu_backends(); *name; name++)
        for (int threads = 1; threads <= 3; threads += 2) {
            OK(gpu_open(&gpu, &(struct gpu_config){*name, threads}, &e));
            build(&p, gpu, in("c0"), threads == 1 ? NULL : dir, 0);
            gpu_close(gpu);
            struct buf b = BUF_INIT(1 << 20);
            OK(file_read(&b, path, &e));
            struct hash32 now = hash_of(b.data, b.len);
            if (hash_is_zero(&first))
                first = now;
            assert_true(hash_eq(&first, &now));
            buf_clear(&b);
        }
    OK(poa_store_open(&s, path, true, &e));
    assert_int_equal(s.plan.rows, N);
    assert_int_equal(s.t[0].shift, 3); /* kept whole beside k = 8 */
    assert_int_equal(s.t[1].shift, 0);
    assert_false(hash_is_zero(&s.fine_root));
    check_h(&s);
    poa_store_close(&s);

    /* Bad files: each its own code, none a crash. */
    struct buf b = BUF_INIT(1 << 20);
    OK(file_read(&b, path, &e));
    in("bad");
    for (size_t n = 0; n < b.len; n += n < 700 ? 1 : 1997) {
        put_file(b.data, n);
        assert_int_not_equal(poa_store_open(&s, path, true, &e), LOAM_OK);
        if (n < 700) {
            b.data[n] ^= 0x55;
            put_file(b.data, b.len);
            enum loam_status st = poa_store_open(&s, path, true, &e);
            assert_true(st == LOAM_EPARSE || st == LOAM_EHASH || st == LOAM_EVERSION);
            if (!poa_store_open(&s, path, false, &e))
                poa_store_close(&s);
            b.data[n] ^= 0x55;
        }
    }
    buf_clear(&b);

    /* Without kept gradients: the same H, and TracIn says why it cannot. */
    OK(gpu_open(&gpu, &(struct gpu_config){NULL, 1}, &e));
    build(&p, gpu, in("c1"), NULL, 0);
    struct poa_store with, without;
    OK(poa_store_open(&with, path, true, &e));
    p.keep_gradients = false;
    build(&p, gpu, in("c2"), NULL, 0);
    OK(poa_store_open(&without, path, true, &e));
    for (uint32_t l = 0; l < L; l++)
        assert_memory_equal(with.t[l].h, without.t[l].h, N * with.t[l].d);
    const struct poa_store *one = &with, *other = &without;
    struct hash32 x, y;
    OK(poa_rows_root(&x, &one, 1, &e));
    OK(poa_rows_root(&y, &other, 1, &e));
    assert_true(hash_eq(&x, &y));
    x = poa_damping_root(&one, 1);
    y = poa_damping_root(&other, 1);
    assert_true(hash_eq(&x, &y));

    /* A zero tensor is no division by zero. */
    struct poa_build *pb;
    OK(poa_build_new(&pb, &p, gpu, NULL, &e));
    struct lm_grad_sink sink = poa_build_sink(pb);
    for (size_t i = 0; i < N; i++)
        for (uint32_t l = 0; l < L; l++) {
            struct lm_grad_tensor gt = gradient_of(i, l, 0);
            if (l == 1)
                memset(u, 0, sizeof u);
            OK(sink.tensor(sink.ctx, &gt, &e));
        }
    OK(poa_build_write(pb, in("zero"), false, NULL, NULL, &e));
    struct lm_grad_tensor gt = gradient_of(0, 0, 0);
    g[3] = NAN;
    FAILS(LOAM_ENONFINITE, sink.tensor(sink.ctx, &gt, &e));
    gt.row = N;
    FAILS(LOAM_EINVAL, sink.tensor(sink.ctx, &gt, &e));
    poa_build_free(pb);
    struct poa_store zero;
    OK(poa_store_open(&zero, path, true, &e));
    assert_int_equal(zero.t[1].n, 0);
    poa_store_close(&zero);
    poa_store_close(&with);
    poa_store_close(&without);
    gpu_close(gpu);
}

/* The ladder: rows again, the solve again, single entries; each finds what was changed and names it. */
static void checks(void **state) {
    (void)state;
    struct lm_lora t[L];
    struct lm_adapter a = fake_adapter(t);
    struct poa_plan p;
    struct gpu *gpu;
    struct poa_store s;
    struct poa_check c;
    OK(poa_plan_make(&p, &a, N, 1, 0, true, zeros, &e));
    p.k = 16;
    OK(gpu_open(&gpu, &(struct gpu_config){NULL, 2}, &e));
    build(&p, gpu, in("checked"), NULL, 0);
    OK(poa_store_open(&s, path, true, &e));
    uint64_t some[2] = {20, 3};
    OK(poa_check_init(&c, &s, gpu, some, 2, &e));
    struct lm_grad_sink sink = poa_check_sink(&c);
    for (uint32_t l = 0; l < L; l++)
        for (size_t i = 0; i < 2; i++) {
            struct lm_grad_tensor gt = gradient_of(some[i], l, 0);
            gt.row = i;
            OK(sink.tensor(sink.ctx, &gt, &e));
        }
    assert_int_equal(c.compared, 2 * L);
    struct lm_grad_tensor gt = gradient_of(4, 1, 0);
    gt.row = 1;
    FAILS(LOAM_EVERIFY, sink.tensor(sink.ctx, &gt, &e));
    assert_non_null(strstr(e.text, "gradient of row 3, tensor 1[0]: "));
    gt.row = 2;
    FAILS(LOAM_EINVAL, sink.tensor(sink.ctx, &gt, &e));
    poa_check_clear(&c);

    struct tree_stream fine;
    tree_stream_init(&fine);
    for (uint32_t l = 0; l < L; l++) {
        OK(poa_check_tensor(&s, l, gpu, &e));
        size_t d = s.t[l].d;
        int32_t *h32 = mem_array(N * d, 4);
        int8_t *forged = mem_dup(s.t[l].h, N * d);
        uint8_t *leaf = mem_array(12 + 4 * d, 1);
        int64_t n, k[N];
        int e_f;
        OK(poa_fine_tensor(h32, &e_f, &n, &s, l, gpu, &e));
        for (int i = 0; i < N; i++) {
            for (int j = 0; j < N; j++) {
                k[j] = 0;
                for (size_t x = 0; x < d; x++)
                    k[j] += (int64_t)s.t[l].g[(size_t)i * d + x] * s.t[l].g[(size_t)j * d + x];
            }
            for (size_t x = 0; x < d; x += 7) {
                int32_t column[N];
                for (int j = 0; j < N; j++)
                    column[j] = h32[(size_t)j * d + x];
                assert_true(poa_rounds_to(column[i], s.t[l].x, s.t[l].h[(size_t)i * d + x]));
                assert_false(poa_rounds_to(column[i], s.t[l].x, (int8_t)(s.t[l].h[(size_t)i * d + x] + 1)));
                OK(poa_check_residual(column, k, N, (uint64_t)i, s.t[l].g[(size_t)i * d + x], n, e_f, &e));
                /* A forgery of a hundredth of the range is far outside what rounding can do. */
                column[i] += 1 << 23;
                FAILS(LOAM_EVERIFY, poa_check_residual(column, k, N, (uint64_t)i, s.t[l].g[(size_t)i * d + x], n, e_f, &e));
            }
            put_be32(leaf, l);
            put_be64(leaf + 4, (uint64_t)i);
            for (size_t x = 0; x < d; x++)
                put_be32(leaf + 12 + 4 * x, (uint32_t)h32[(size_t)i * d + x]);
            tree_stream_add(&fine, leaf, 12 + 4 * d);
        }
        forged[d + 3] ^= 1;
        const int8_t *honest = s.t[l].h;
        s.t[l].h = forged;
        FAILS(LOAM_EVERIFY, poa_check_tensor(&s, l, gpu, &e));
        char where[16];
        snprintf(where, sizeof where, "[%zu]: ", d + 3);
        assert_non_null(strstr(e.text, where));
        s.t[l].h = honest;
        s.t[l].n++;
        FAILS(LOAM_EVERIFY, poa_check_tensor(&s, l, gpu, &e));
        s.t[l].n--;
        mem_free(h32);
        mem_free(forged);
        mem_free(leaf);
    }
    struct hash32 root = tree_stream_root(&fine);
    assert_true(hash_eq(&root, &s.fine_root));
    poa_store_close(&s);
    gpu_close(gpu);
}

static void scores(void **state) {
    (void)state;
    struct lm_lora t[L];
    struct lm_adapter a = fake_adapter(t);
    struct poa_plan p;
    struct gpu *gpu;
    struct poa_store s[2];
    const struct poa_store *both[2] = {&s[0], &s[1]};
    struct poa_query q;
    int64_t score[N], dot;
    int base, shift;
    OK(gpu_open(&gpu, &(struct gpu_config){NULL, 1}, &e));
    OK(poa_plan_make(&p, &a, N, 2, 0, true, zeros, &e));
    build(&p, gpu, in("s0"), NULL, 0);
    OK(poa_store_open(&s[0], path, true, &e));
    build(&p, gpu, in("s1"), NULL, 77);
    OK(poa_store_open(&s[1], path, true, &e));

    /* The answer is row 5 itself: it must come out first by every method. */
    OK(poa_query_init(&q, &p, 2, gpu, &e));
    FAILS(LOAM_ESTATE, poa_score(score, &base, POA_FISHER, both, 2, &q, &e));
    for (uint32_t c = 0; c < 2; c++) {
        struct lm_grad_sink sink = poa_query_sink(&q, c);
        for (uint32_t l = 0; l < L; l++) {
            struct lm_grad_tensor gt = gradient_of(5, l, c ? 77 : 0);
            gt.row = 0;
            OK(sink.tensor(sink.ctx, &gt, &e));
        }
    }
    for (int m = POA_FISHER; m <= POA_GRADDOT; m++) {
        uint64_t order[N];
        OK(poa_score(score, &base, (enum poa_method)m, both, 2, &q, &e));
        OK(poa_rank(order, score, N, &e));
        assert_int_equal(order[0], 5);
    }
    FAILS(LOAM_EINVAL, poa_score(score, &base, POA_BM25, both, 2, &q, &e));
    FAILS(LOAM_EINVAL, poa_score(score, &base, POA_FISHER, both, 1, &q, &e));

    /* By the definition, in 128 bits and in fp64. */
    OK(poa_score(score, &base, POA_FISHER, both, 2, &q, &e));
    for (uint64_t i = 0; i < N; i++) {
        __int128 sum = 0;
        double real = 0;
        for (uint32_t c = 0; c < 2; c++)
            for (uint32_t l = 0; l < L; l++) {
                OK(poa_score_part(&dot, &shift, both, 2, &q, c, l, i, &e));
                sum += shift >= 0 ? (__int128)dot * ((__int128)1 << shift) : (__int128)dot >> -shift;
                real += ldexp((double)dot, q.e[c * L + l] + s[c].t[l].e_h + s[c].weight_log2); /* these two are within POA_WEIGHT_SPAN */
            }
        assert_true(sum == score[i]);
        assert_true(fabs(real - ldexp((double)score[i], base)) <= 1e-6 * fabs(real));
    }
    /* A checkpoint that has nothing left to learn counts by what it has: weights are at most 4 times the least. */
    int64_t capped[N];
    int32_t own = s[1].weight_log2;
    s[1].weight_log2 = s[0].weight_log2 + POA_WEIGHT_SPAN;
    OK(poa_score(score, &base, POA_FISHER, both, 2, &q, &e));
    s[1].weight_log2 += 9;
    OK(poa_score(capped, &base, POA_FISHER, both, 2, &q, &e));
    assert_memory_equal(capped, score, sizeof score);
    s[1].weight_log2 = s[0].weight_log2 + POA_WEIGHT_SPAN - 1;
    OK(poa_score(capped, &base, POA_FISHER, both, 2, &q, &e));
    assert_memory_not_equal(capped, score, sizeof score);
    s[1].weight_log2 = own;
    struct hash32 x = poa_parameters_hash(POA_FISHER, both, 2), y = poa_parameters_hash(POA_TRACIN, both, 2);
    assert_false(hash_eq(&x, &y));
    x = poa_query_hash(&q, 0);
    y = poa_query_hash(&q, 1);
    assert_false(hash_eq(&x, &y));
    poa_query_clear(&q);
    poa_store_close(&s[0]);
    poa_store_close(&s[1]);
    gpu_close(gpu);
    enum poa_method m;
    assert_true(poa_method_find(&m, "graddot"));
    assert_int_equal(m, POA_GRADDOT);
    assert_false(poa_method_find(&m, "x"));
}

static enum loam_status whole_build(const struct poa_plan *p, struct gpu *gpu, const char *file) {
    struct poa_build *b;
    enum loam_status st = poa_build_new(&b, p, gpu, NULL, &e);
    if (st)
        return st;
    struct lm_grad_sink sink = poa_build_sink(b);
    for (size_t i = 0; !st && i < N; i++)
        for (uint32_t l = 0; !st && l < L; l++) {
            struct lm_grad_tensor gt = gradient_of(i, l, 0);
            st = sink.tensor(sink.ctx, &gt, &e);
        }
    if (!st)
        st = poa_build_write(b, file, true, NULL, NULL, &e);
    poa_build_free(b);
    return st;
}

static enum loam_status whole_query(const struct poa_plan *p, struct gpu *gpu, const struct poa_store *s) {
    struct poa_query q;
    int64_t score[N];
    uint64_t account[N];
    int base;
    struct poa_shares sh;
    enum loam_status st = poa_query_init(&q, p, 1, gpu, &e);
    if (st)
        return st;
    struct lm_grad_sink sink = poa_query_sink(&q, 0);
    for (uint32_t l = 0; !st && l < L; l++) {
        struct lm_grad_tensor gt = gradient_of(0, l, 0);
        st = sink.tensor(sink.ctx, &gt, &e);
    }
    if (!st)
        st = poa_score(score, &base, POA_FISHER, &s, 1, &q, &e);
    poa_query_clear(&q);
    for (int i = 0; i < N; i++)
        account[i] = 3 + (uint64_t)i % 3;
    if (!st && !(st = poa_shares_make(&sh, score, account, N, &e)))
        poa_shares_clear(&sh);
    return st;
}

static enum loam_status whole_text(void) {
    struct poa_bm25 *b;
    struct poa_spans *s;
    struct poa_span *found = NULL;
    int64_t score[2];
    size_t n;
    uint32_t token[3] = {1, 2, 3};
    enum loam_status st = poa_bm25_new(&b, &e);
    if (st)
        return st;
    for (int i = 0; !st && i < 2; i++)
        st = poa_bm25_add(b, "one two three", 13, &e);
    if (!st)
        st = poa_bm25_score(b, score, "two", 3, &e);
    poa_bm25_free(b);
    if (st || (st = poa_spans_new(&s, &e)))
        return st;
    for (int i = 0; !st && i < 2; i++)
        st = poa_spans_add(s, token, 3, &e);
    if (!st && !(st = poa_spans_index(s, &e)) && !(st = poa_spans_find(s, &found, &n, score, token, 3, 2, 9, &e)))
        mem_free(found);
    poa_spans_free(s);
    return st;
}

static void without_memory(void **state) {
    (void)state;
    struct lm_lora t[L];
    struct lm_adapter a = fake_adapter(t);
    struct poa_plan p;
    struct gpu *gpu;
    struct poa_store s;
    struct poa_check c;
    OK(poa_plan_make(&p, &a, N, 1, 0, true, zeros, &e));
    p.k = 8;
    OK(gpu_open(&gpu, &(struct gpu_config){NULL, 1}, &e));
    EACH_ALLOCATION(whole_build(&p, gpu, in("memory")), (void)0);
    EACH_ALLOCATION(poa_store_open(&s, path, true, &e), (void)0);
    EACH_ALLOCATION(whole_query(&p, gpu, &s), (void)0);
    EACH_ALLOCATION(poa_check_tensor(&s, 1, gpu, &e), (void)0);
    EACH_ALLOCATION(poa_check_init(&c, &s, gpu, NULL, 0, &e), poa_check_clear(&c));
    EACH_ALLOCATION(whole_text(), (void)0);
    poa_store_close(&s);
    gpu_close(gpu);
}

static void shares(void **state) {
    (void)state;
    struct poa_shares s;
    /* median |s| of 9 rows is 2, so one row's floor is 6; accounts of 4, 4 and 1 rows. */
    int64_t score[9] = {100, 2, -1, 2, 50, 2, 1, -2, 5};
    uint64_t account[9] = {8, 8, 8, 8, 4, 4, 4, 4, 6};
    OK(poa_shares_make(&s, score, account, 9, &e));
    assert_int_equal(s.floor, 6);
    assert_int_equal(s.count, 3);
    assert_int_equal(s.account[0].account, 4);
    assert_int_equal(s.account[0].net, 51);
    assert_int_equal(s.account[0].floor, 12);
    assert_int_equal(s.account[1].net, 5); /* account 6: within its floor of 6: burnt */
    assert_int_equal(s.ppm[1], 0);
    assert_int_equal(s.ppm[0] + s.ppm[2] + s.burnt_ppm, 1000000);
    assert_int_equal(s.burnt_ppm, 31446); /* 5 / 159, the smallest remainder */
    struct hash32 a = poa_net_root(&s);
    assert_false(hash_is_zero(&a));
    poa_shares_clear(&s);
    /* Noise only: all burnt. */
    for (int i = 0; i < 9; i++)
        score[i] = i % 2 ? 3 : -3;
    OK(poa_shares_make(&s, score, account, 9, &e));
    assert_int_equal(s.burnt_ppm, 1000000);
    poa_shares_clear(&s);
    account[0] = 0;
    FAILS(LOAM_EINVAL, poa_shares_make(&s, score, account, 9, &e));
    account[0] = 8;
    score[0] = INT64_MIN;
    OK(poa_shares_make(&s, score, account, 9, &e));
    poa_shares_clear(&s);
    for (int i = 0; i < 9; i++)
        score[i] = INT64_MIN;
    FAILS(LOAM_ERANGE, poa_shares_make(&s, score, account, 9, &e));
}

static void bm25(void **state) {
    (void)state;
    static const char *const rows[] = {"The river Orla flows past Tamsin.", "Tamsin is a town of nine bridges, nine gates.",
                                       "A bridge over the Orla was built.", "", "nine nine nine"};
    struct poa_bm25 *b;
    int64_t score[5];
    OK(poa_bm25_new(&b, &e));
    for (int i = 0; i < 5; i++)
        OK(poa_bm25_add(b, rows[i], strlen(rows[i]), &e));
    OK(poa_bm25_score(b, score, "ORLA? nine; Orla! zebra", 23, &e));
    double mean = (6 + 9 + 7 + 0 + 3) / 5.0, idf2 = log(1 + (5 - 2 + 0.5) / 2.5);
    int len[5] = {6, 9, 7, 0, 3}, orla[5] = {1, 0, 1, 0, 0}, nine[5] = {0, 2, 0, 0, 3};
    for (int i = 0; i < 5; i++) {
        double norm = 1.2 * (0.25 + 0.75 * len[i] / mean), ref = 0;
        ref += orla[i] ? idf2 * orla[i] * 2.2 / (orla[i] + norm) : 0;
        ref += nine[i] ? idf2 * nine[i] * 2.2 / (nine[i] + norm) : 0;
        assert_true(fabs(ref - (double)score[i] / 65536) < 1e-3);
    }
    poa_bm25_free(b);
    assert_int_equal(poa_log2_q16(1), 0);
    assert_int_equal(poa_log2_q16(8), 3 << 16);
    for (uint64_t x = 1; x < 1ull << 60; x = x * 3 + 1)
        assert_true(fabs((double)poa_log2_q16(x) / 65536 - log2((double)x)) < 2.0 / 65536);
}

static void spans(void **state) {
    (void)state;
    enum { ROWS = 12, LEN = 15, ANSWER = 25, ROUNDS = 200 };
    for (int round = 0; round < ROUNDS; round++) {
        struct poa_spans *s;
        uint32_t row[ROWS][LEN], answer[ANSWER];
        int64_t score[ROWS], ref_score[ROWS] = {0};
        seed_state = 1234567 + (uint64_t)round * 977;
        OK(poa_spans_new(&s, &e));
        for (int i = 0; i < ROWS; i++) {
            for (int j = 0; j < LEN; j++) {
                noise();
                row[i][j] = (uint32_t)(seed_state >> 20) % 4 + (j % 3 == 0 ? 1000 : 0);
            }
            OK(poa_spans_add(s, row[i], LEN, &e));
        }
        for (int j = 0; j < ANSWER; j++)
            answer[j] = j < 10 ? row[round % ROWS][j] : row[(round + 5) % ROWS][j - 10];
        OK(poa_spans_index(s, &e));
        struct poa_span *got;
        size_t count, at = 0;
        OK(poa_spans_find(s, &got, &count, score, answer, ANSWER, 3, 5, &e));
        /* By looking everywhere. */
        int last = 0;
        for (int from = 0; from < ANSWER; from++) {
            int best = 0, times = 0;
            for (int len = 1; from + len <= ANSWER; len++) {
                int n = 0;
                for (int i = 0; i < ROWS; i++)
                    for (int j = 0; j + len <= LEN; j++)
                        n += !memcmp(&row[i][j], &answer[from], (size_t)len * 4);
                if (!n)
                    break;
                best = len;
                times = n;
            }
            if (best < 3 || from + best <= last || times > 5)
                continue;
            last = from + best;
            assert_true(at < count);
            assert_int_equal(got[at].from, from);
            assert_int_equal(got[at].to, from + best);
            assert_int_equal(got[at].count, times);
            assert_memory_equal(&row[got[at].row][got[at].row_at], &answer[from], (size_t)best * 4);
            for (int i = 0; i < ROWS; i++)
                for (int j = 0; j + best <= LEN; j++)
                    if (!memcmp(&row[i][j], &answer[from], (size_t)best * 4)) {
                        assert_true(got[at].row <= (uint32_t)i);
                        ref_score[i] += (int64_t)(got[at].bits / (uint64_t)times);
                    }
            at++;
        }
        assert_int_equal(at, count);
        assert_memory_equal(score, ref_score, sizeof score);
        mem_free(got);
        poa_spans_free(s);
    }
    struct poa_spans *s;
    struct poa_span *got;
    size_t count;
    uint32_t strange[4] = {1, UINT32_MAX, 2, 3};
    OK(poa_spans_new(&s, &e));
    OK(poa_spans_index(s, &e));
    OK(poa_spans_find(s, &got, &count, NULL, strange, 4, 1, 5, &e));
    assert_int_equal(count, 0);
    mem_free(got);
    poa_spans_free(s);
}

static void traces(void **state) {
    (void)state;
    struct poa_trace a, b, c;
    int64_t x[600], y[600];
    size_t at;
    for (int i = 0; i < 600; i++)
        x[i] = y[i] = i * 31;
    poa_trace_init(&a);
    poa_trace_init(&b);
    OK(poa_trace_add(&a, x, 600, 8, &e, "scores"));
    OK(poa_trace_add(&a, x, 5, 8, &e, "gradient %d/%d", 2, 17));
    OK(poa_trace_add(&b, x, 600, 8, &e, "scores"));
    y[4]++;
    OK(poa_trace_add(&b, y, 5, 8, &e, "gradient 2/17"));
    FAILS(LOAM_EVERIFY, poa_trace_compare(&a, &b, &at, &e));
    assert_int_equal(at, 1);
    assert_non_null(strstr(e.text, "gradient 2/17"));
    struct hash32 r = poa_trace_root(&a), q = poa_trace_root(&b);
    assert_false(hash_eq(&r, &q));
    struct buf text = BUF_INIT(1 << 16);
    OK(poa_trace_write(&text, &a, &e));
    OK(poa_trace_read(&c, (char *)text.data, text.len, &e));
    OK(poa_trace_compare(&a, &c, NULL, &e));
    poa_trace_clear(&c);
    for (size_t n = 1; n < text.len; n++)
        if (text.data[n - 1] != '\n')
            FAILS(LOAM_EPARSE, poa_trace_read(&c, (char *)text.data, n, &e));
    buf_clear(&text);
    FAILS(LOAM_EINVAL, poa_trace_add(&a, x, 1, 8, &e, "a\tb"));
    OK(poa_trace_add(&a, x, 1, 8, &e, "more"));
    b.entry[1] = a.entry[1];
    FAILS(LOAM_EVERIFY, poa_trace_compare(&b, &a, &at, &e));
    assert_int_equal(at, 2);
    poa_trace_clear(&a);
    poa_trace_clear(&b);

    y[4]--;
    OK(poa_compare("scores", POA_I64, x, 600, y, 600, &e));
    y[555] = -7;
    FAILS(LOAM_EVERIFY, poa_compare("scores", POA_I64, x, 600, y, 600, &e));
    assert_string_equal(e.text, "scores[555]: 17205 here, -7 there");
    FAILS(LOAM_EVERIFY, poa_compare("scores", POA_I64, x, 3, y, 4, &e));
    float f = 1.5f, h2 = 1.25f;
    FAILS(LOAM_EVERIFY, poa_compare("logits", POA_F32, &f, 1, &h2, 1, &e));
}

/* ---- is the number any good? A model small enough to retrain: y = B h, squared loss, B trained by gradient descent from
 * zero on half-subsets; the scores must predict which halves leave a question's loss lower (rank correlation, LDS). */
enum { O = 6, RR = 4, ROWS2 = 40, ASKED = 20, SUBSETS = 30, STEPS = 16, CKPT = 4 };
struct toy {
    float h[ROWS2 + ASKED][RR], y[ROWS2 + ASKED][O];
};

static void residual(float *out, const struct toy *m, const float *b, int i) {
    for (int o = 0; o < O; o++) {
        double p = 0;
        for (int r = 0; r < RR; r++)
            p += (double)b[o * RR + r] * m->h[i][r];
        out[o] = (float)(p - m->y[i][o]);
    }
}

static void train(float *b, const struct toy *m, const uint8_t *use, int steps) {
    double grad[O * RR];
    float d[O];
    int n = 0;
    for (int i = 0; i < ROWS2; i++)
        n += use[i];
    for (int s = 0; s < steps; s++) {
        memset(grad, 0, sizeof grad);
        for (int i = 0; i < ROWS2; i++) {
            if (!use[i])
                continue;
            residual(d, m, b, i);
            for (int o = 0; o < O; o++)
                for (int r = 0; r < RR; r++)
                    grad[o * RR + r] += (double)d[o] * m->h[i][r];
        }
        for (int x = 0; x < O * RR; x++)
            b[x] -= (float)(0.25 * grad[x] / n);
    }
}

static double rank_correlation(const double *x, const double *y, int n) {
    double mx = (n - 1) / 2.0, xy = 0, xx = 0;
    for (int i = 0; i < n; i++) {
        int rx = 0, ry = 0;
        for (int j = 0; j < n; j++) {
            rx += x[j] < x[i];
            ry += y[j] < y[i];
        }
        xy += (rx - mx) * (ry - mx);
        xx += (rx - mx) * (rx - mx);
    }
    return xy / xx;
}

static void lds(void **state) {
    (void)state;
    static struct toy m;
    struct lm_lora t[1] = {{.out = O, .in = 4}};
    struct lm_adapter a = {.rank = RR, .count = 1, .t = t};
    struct poa_plan p;
    struct gpu *gpu;
    struct poa_store s[CKPT];
    const struct poa_store *all[CKPT];
    static const int steps[CKPT] = {1, 2, 4, 8};
    static float b[CKPT][O * RR];
    uint8_t use[ROWS2];
    seed_state = 4242;
    /* Directions of unlike size: where curvature matters. Each question resembles two rows. */
    for (int i = 0; i < ROWS2 + ASKED; i++) {
        for (int r = 0; r < RR; r++)
            m.h[i][r] = i < ROWS2 ? (float)(noise() * (r == 0 ? 1.6 : r == 1 ? 0.8 : 0.4))
                                  : 0.8f * m.h[(i - ROWS2) * 2][r] + 0.3f * m.h[(i - ROWS2) * 2 + 1][r];
        for (int o = 0; o < O; o++)
            m.y[i][o] = i < ROWS2 ? (float)noise() : 0.8f * m.y[(i - ROWS2) * 2][o] + 0.3f * m.y[(i - ROWS2) * 2 + 1][o];
    }
    OK(gpu_open(&gpu, &(struct gpu_config){NULL, 1}, &e));
    OK(poa_plan_make(&p, &a, ROWS2, CKPT, 0, true, zeros, &e));
    memset(use, 1, sizeof use);
    for (int c = 0; c < CKPT; c++) {
        char name[16];
        struct poa_build *pb;
        float d[O], gr[O * RR];
        memset(b[c], 0, sizeof b[c]);
        train(b[c], &m, use, steps[c]);
        OK(poa_build_new(&pb, &p, gpu, NULL, &e));
        struct lm_grad_sink sink = poa_build_sink(pb);
        for (int i = 0; i < ROWS2; i++) {
            residual(d, &m, b[c], i);
            for (int x = 0; x < O * RR; x++)
                gr[x] = d[x / RR] * m.h[i][x % RR];
            struct lm_grad_tensor gt = {.row = (size_t)i, .rank = RR, .out = O, .tokens = 1, .scale = 1, .u = d, .h = m.h[i], .g = gr};
            OK(sink.tensor(sink.ctx, &gt, &e));
        }
        snprintf(name, sizeof name, "lds%d", c);
        OK(poa_build_write(pb, in(name), false, NULL, NULL, &e));
        poa_build_free(pb);
        OK(poa_store_open(&s[c], path, true, &e));
        all[c] = &s[c];
    }
    static double loss[ASKED][SUBSETS];
    static uint8_t half[SUBSETS][ROWS2];
    for (int k = 0; k < SUBSETS; k++) {
        uint32_t order[ROWS2];
        struct philox ph;
        float bk[O * RR] = {0}, d[O];
        philox_init(&ph, zeros, "test");
        philox_shuffle(&ph, (uint64_t)k, ROWS2, order);
        for (int i = 0; i < ROWS2; i++)
            half[k][order[i]] = i < ROWS2 / 2;
        train(bk, &m, half[k], STEPS);
        for (int j = 0; j < ASKED; j++) {
            residual(d, &m, bk, ROWS2 + j);
            for (int o = 0; o < O; o++)
                loss[j][k] += 0.5 * (double)d[o] * d[o];
        }
    }
    double mean[3] = {0};
    for (int j = 0; j < ASKED; j++) {
        struct poa_query q;
        OK(poa_query_init(&q, &p, CKPT, gpu, &e));
        for (uint32_t c = 0; c < CKPT; c++) {
            float d[O], gr[O * RR];
            struct lm_grad_sink sink = poa_query_sink(&q, c);
            residual(d, &m, b[c], ROWS2 + j);
            for (int x = 0; x < O * RR; x++)
                gr[x] = d[x / RR] * m.h[ROWS2 + j][x % RR];
            struct lm_grad_tensor gt = {.rank = RR, .out = O, .tokens = 1, .scale = 1, .u = d, .h = m.h[ROWS2 + j], .g = gr};
            OK(sink.tensor(sink.ctx, &gt, &e));
        }
        for (int method = POA_FISHER; method <= POA_GRADDOT; method++) {
            int64_t score[ROWS2];
            int base;
            double predicted[SUBSETS], lower[SUBSETS];
            OK(poa_score(score, &base, (enum poa_method)method, all, CKPT, &q, &e));
            for (int k = 0; k < SUBSETS; k++) {
                predicted[k] = 0;
                lower[k] = -loss[j][k];
                for (int i = 0; i < ROWS2; i++)
                    predicted[k] += half[k][i] ? (double)score[i] : 0;
            }
            mean[method] += rank_correlation(predicted, lower, SUBSETS) / ASKED;
        }
        poa_query_clear(&q);
    }
    printf("# LDS: fisher %.3f, tracin %.3f, graddot %.3f\n", mean[POA_FISHER], mean[POA_TRACIN], mean[POA_GRADDOT]);
    assert_true(mean[POA_FISHER] > 0.5);
    assert_true(mean[POA_FISHER] > mean[POA_GRADDOT]);
    for (int c = 0; c < CKPT; c++)
        poa_store_close(&s[c]);
    gpu_close(gpu);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans),  cmocka_unit_test(projection), cmocka_unit_test(exponents), cmocka_unit_test(stores),
        cmocka_unit_test(checks), cmocka_unit_test(scores), cmocka_unit_test(shares),     cmocka_unit_test(bm25),      cmocka_unit_test(spans),
        cmocka_unit_test(traces), cmocka_unit_test(lds),    cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests_name("poa", tests, make_dir, remove_dir);
}
