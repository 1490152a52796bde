/* lm: a small random model through sessions and generation: the same bits for any threads, batch, split and backend. */
#include "tests/test.h"

#include "gpu/arith.h"
#include "lm/batch.h"
#include "lm/generate.h"
#include "lm/philox.h"
#include "lm/template.h"
#include "tests/lm_tiny.h"

#include <unistd.h>

static struct err e;
static char path[64];

static struct lm_model *open_tiny(struct tiny t) {
    struct lm_model *m;
    OK(tiny_write(path, t, &e));
    OK(lm_model_open(&m, path, &e));
    return m;
}

static void prompt(struct lm_ids *ids, const struct lm_model *m, const char *text) {
    struct lm_message msg = {"user", text, strlen(text)};
    ids->n = 0;
    OK(lm_template_render(ids, m->tmpl, &msg, 1, true, &e));
}

/* Logits of every token of ids, fed `step` tokens at a time. */
static float *all_logits(struct lm_model *m, struct lm_engine_opt opt, const struct lm_adapter *a, const struct lm_ids *ids, uint32_t step) {
    struct lm_engine *en;
    struct lm_session *s;
    uint32_t V = m->config.V;
    float *l = mem_array((size_t)ids->n * V, sizeof *l);
    OK(lm_engine_new(&en, m, &opt, &e));
    OK(lm_session_new(&s, en, a, 0, &e));
    for (uint32_t at = 0; at < ids->n; at += step) {
        uint32_t n = ids->n - at < step ? ids->n - at : step;
        struct lm_item it = {s, ids->ids + at, n, true, l + (size_t)at * V};
        OK(lm_step(en, &it, 1, NULL, &e));
    }
    assert_int_equal(lm_session_length(s), ids->n);
    lm_session_free(s);
    lm_engine_free(en);
    return l;
}

static struct lm_adapter *adapter(struct lm_model *m, uint32_t rank, uint32_t targets, uint8_t tag) {
    struct lm_shape shape;
    struct lm_adapter *a;
    uint8_t seed[32] = {tag}, base[32] = {0};
    lm_model_shape(&shape, m);
    OK(lm_adapter_new(&a, &shape, base, rank, 8, false, targets, &e));
    lm_adapter_init(a, seed);
    for (uint32_t i = 0; i < a->count; i++) /* B starts as 0: make it matter */
        for (size_t j = 0; j < (size_t)a->t[i].out * rank; j++)
            a->t[i].b[j] = a->t[i].a[j % ((size_t)a->t[i].in * rank)] * 0.5f;
    return a;
}

static void same_bits(enum lm_act act, struct tiny t) {
    struct lm_model *m = open_tiny(t);
    struct lm_adapter *a = adapter(m, 5, 0x7f, 3);
    struct lm_ids ids = {0};
    prompt(&ids, m, "the rain in spain is on the other bus, 123 times over; and what then? Grüße, 世界.");
    for (int lora = 0; lora < 2; lora++) {
        float *want = all_logits(m, (struct lm_engine_opt){.act = act, .threads = 1, .backend = "ref"}, lora ? a : NULL, &ids, 1000);
        size_t bytes = (size_t)ids.n * m->config.V * sizeof *want;
        for (const char *const *b = gpu_backends(); *b; b++)
            for (unsigned threads = 1; threads <= 2; threads++)
                for (uint32_t step = 1; step <= 40; step = step * 3 + 4) {
                    float *got = all_logits(m, (struct lm_engine_opt){.act = act, .threads = threads, .backend = *b}, lora ? a : NULL, &ids, step);
                    if (memcmp(want, got, bytes))
                        fail_msg("%s, act %s, %u threads, %u tokens a step: other bits than ref in one step", *b, lm_act_name(act), threads, step);
                    mem_free(got);
                }
        mem_free(want);
    }
    lm_ids_clear(&ids);
    lm_adapter_free(a);
    lm_model_free(m);
}

static void test_bits_q8(void **st) {
    (void)st;
    same_bits(LM_ACT_Q8, TINY_Q4_1);
    same_bits(LM_ACT_Q8, (struct tiny){"llama", GPU_Q8_0, GPU_Q8_0, true, 256});
    same_bits(LM_ACT_Q8, (struct tiny){"qwen2", GPU_Q4_0, GPU_Q8_0, false, 256});
}

static void test_bits_f32(void **st) {
    (void)st;
    same_bits(LM_ACT_F32, TINY_Q4_1);
    same_bits(LM_ACT_F32, (struct tiny){"qwen3", GPU_F16, GPU_F32, true, 256});
}

/* Eight sequences of different lengths, three of them with different adapters, in one batch and each alone. */
static void test_batch(void **st) {
    (void)st;
    struct lm_model *m = open_tiny(TINY_Q4_1);
    struct lm_adapter *ad[3] = {adapter(m, 4, 0x7f, 1), adapter(m, 16, 0x0f, 2), adapter(m, 1, 0x10, 3)};
    static const char *const text[8] = {"a", "the one", "in the rain", "", "who is it?", "other words, longer than the rest of them", "7", "so"};
    const uint32_t V = m->config.V;
    struct lm_ids ids[8] = {{0}};
    float *alone[8], *batch[8];
    struct lm_engine *en;
    struct lm_session *s[8];
    struct lm_item it[8];
    for (int i = 0; i < 8; i++) {
        prompt(&ids[i], m, text[i]);
        alone[i] = all_logits(m, (struct lm_engine_opt){.act = LM_ACT_Q8, .threads = 1}, i % 4 ? ad[i % 4 - 1] : NULL, &ids[i], 1000);
        batch[i] = mem_array((size_t)ids[i].n * V, sizeof(float));
    }
    OK(lm_engine_new(&en, m, &(struct lm_engine_opt){.act = LM_ACT_Q8, .threads = 2}, &e));
    for (int i = 0; i < 8; i++) {
        OK(lm_session_new(&s[i], en, i % 4 ? ad[i % 4 - 1] : NULL, 0, &e));
        it[i] = (struct lm_item){s[i], ids[i].ids, ids[i].n, true, batch[i]};
    }
    OK(lm_step(en, it, 8, NULL, &e));
    for (int i = 0; i < 8; i++) {
        assert_memory_equal(alone[i], batch[i], (size_t)ids[i].n * V * sizeof(float));
        if (i % 4)
            assert_memory_not_equal(alone[i], alone[0], V * sizeof(float));
        lm_session_free(s[i]);
        mem_free(alone[i]);
        mem_free(batch[i]);
        lm_ids_clear(&ids[i]);
    }
    lm_engine_free(en);
    for (int i = 0; i < 3; i++)
        lm_adapter_free(ad[i]);
    lm_model_free(m);
}

struct heard {
    struct buf text;
    uint32_t n, stop_after;
};

static int hear(void *ctx, const struct lm_token_event *t) {
    struct heard *h = ctx;
    assert_int_equal(t->index, h->n++);
    OK(buf_add(&h->text, t->text, t->text_len, &e));
    assert_true(utf8_valid((const uint8_t *)t->text, t->text_len, NULL));
    return h->stop_after && h->n >= h->stop_after;
}

static void test_generate(void **st) {
    (void)st;
    struct lm_model *m = open_tiny(TINY_Q4_1);
    struct lm_engine *en;
    struct lm_session *s;
    struct lm_ids ids = {0};
    struct lm_answer a, b;
    prompt(&ids, m, "say something");
    OK(lm_engine_new(&en, m, &(struct lm_engine_opt){.act = LM_ACT_Q8, .threads = 1}, &e));
    OK(lm_session_new(&s, en, NULL, 0, &e));
    struct heard h = {.text = BUF_INIT(1 << 20)};
    struct lm_generate_opt o = {.sampler = {.temperature = 6, .top_p = 0.98f, .top_k = 200, .repeat = 1.1f, .seed = {1}}, .max_tokens = 60, .token = hear, .ctx = &h};
    OK(lm_generate(&a, en, s, ids.ids, ids.n, &o, &e));
    assert_int_equal(a.cached_tokens, 0);
    assert_int_equal(a.prompt_tokens, ids.n);
    assert_int_equal(h.n, a.ids.n);
    assert_memory_equal(h.text.data, a.text.data, h.text.len);
    /* again on the same session: the prompt is cached, the answer the same; another seed gives another one */
    o.token = NULL;
    OK(lm_generate(&b, en, s, ids.ids, ids.n, &o, &e));
    assert_int_equal(b.cached_tokens, ids.n - 1);
    assert_int_equal(a.ids.n, b.ids.n);
    assert_memory_equal(a.ids.ids, b.ids.ids, a.ids.n * sizeof *a.ids.ids);
    lm_answer_clear(&b);
    o.sampler.seed[0] = 2;
    OK(lm_generate(&b, en, s, ids.ids, ids.n, &o, &e));
    assert_true(a.ids.n != b.ids.n || memcmp(a.ids.ids, b.ids.ids, a.ids.n * sizeof *a.ids.ids));
    lm_answer_clear(&b);
    /* a stop string: the text ends before it, and what was streamed is that text */
    o.sampler.seed[0] = 1;
    char stop[8] = {0};
    size_t at = a.text.len / 2;
    while (at && (a.text.data[at] & 0xc0) == 0x80)
        at--;
    memcpy(stop, a.text.data + at, 2 + (a.text.data[at] >= 0x80 ? 2 : 0));
    o.stop[0] = stop;
    o.token = hear;
    buf_reset(&h.text);
    h.n = 0;
    OK(lm_generate(&b, en, s, ids.ids, ids.n, &o, &e));
    assert_int_equal(b.stop, LM_STOP_STRING);
    assert_true(b.text.len <= at);
    assert_memory_equal(b.text.data, a.text.data, b.text.len);
    assert_int_equal(h.text.len, b.text.len);
    lm_answer_clear(&b);
    /* the callback stops it */
    o.stop[0] = NULL;
    buf_reset(&h.text);
    h.n = 0;
    h.stop_after = 3;
    OK(lm_generate(&b, en, s, ids.ids, ids.n, &o, &e));
    assert_int_equal(b.stop, LM_STOP_CANCEL);
    assert_int_equal(b.ids.n, 3);
    lm_answer_clear(&b);
    /* the flag does */
    atomic_int cancel = 1;
    o.token = NULL;
    o.cancel = &cancel;
    OK(lm_generate(&b, en, s, ids.ids, ids.n, &o, &e));
    assert_int_equal(b.stop, LM_STOP_CANCEL);
    assert_int_equal(b.ids.n, 0);
    lm_answer_clear(&b);
    o.cancel = NULL;
    lm_session_free(s);
    /* the context fills up */
    OK(lm_session_new(&s, en, NULL, ids.n + 5, &e));
    o = (struct lm_generate_opt){.sampler = LM_SAMPLER_GREEDY, .ignore_end = true};
    OK(lm_generate(&b, en, s, ids.ids, ids.n, &o, &e));
    assert_int_equal(b.stop, LM_STOP_CONTEXT);
    assert_int_equal(b.ids.n, 5);
    lm_answer_clear(&b);
    lm_session_free(s);
    OK(lm_session_new(&s, en, NULL, ids.n, &e));
    FAILS(LOAM_ELIMIT, lm_generate(&b, en, s, ids.ids, ids.n, &o, &e));
    lm_session_free(s);
    o.sampler.top_p = 2;
    OK(lm_session_new(&s, en, NULL, 0, &e));
    FAILS(LOAM_ERANGE, lm_generate(&b, en, s, ids.ids, ids.n, &o, &e));
    struct lm_session *none;
    FAILS(LOAM_ERANGE, lm_session_new(&none, en, NULL, 100000, &e));
    lm_session_free(s);
    lm_answer_clear(&a);
    buf_clear(&h.text);
    lm_ids_clear(&ids);
    lm_engine_free(en);
    lm_model_free(m);
}

static void test_limits(void **st) {
    (void)st;
    struct lm_model *m = open_tiny(TINY_F16);
    struct lm_engine *en;
    struct lm_session *s, *s2;
    FAILS(LOAM_EUNSUPPORTED, lm_engine_new(&en, m, &(struct lm_engine_opt){.act = LM_ACT_Q8}, &e));
    OK(lm_engine_new(&en, m, &(struct lm_engine_opt){.act = LM_ACT_F32, .threads = 1, .kv_bytes_max = 1}, &e));
    OK(lm_session_new(&s, en, NULL, 0, &e));
    OK(lm_session_new(&s2, en, NULL, 0, &e));
    uint32_t ids[80] = {0}, bad = TINY_V;
    struct lm_item it[2] = {{s, ids, 60, false, NULL}, {s2, ids, 5, false, NULL}};
    OK(lm_step(en, it, 1, NULL, &e)); /* one page is the least */
    FAILS(LOAM_ELIMIT, lm_step(en, it + 1, 1, NULL, &e));
    FAILS(LOAM_ELIMIT, lm_step(en, it, 1, NULL, &e));
    assert_int_equal(lm_session_length(s), 60);
    lm_session_truncate(s, 0);
    OK(lm_step(en, it + 1, 1, NULL, &e));
    it[0] = (struct lm_item){s2, &bad, 1, false, NULL};
    FAILS(LOAM_ERANGE, lm_step(en, it, 1, NULL, &e));
    FAILS(LOAM_EINVAL, lm_step(en, it, 0, NULL, &e));
    it[0].tokens = ids;
    it[1] = it[0];
    FAILS(LOAM_EINVAL, lm_step(en, it, 2, NULL, &e));
    struct lm_engine_memory mem;
    lm_engine_memory(&mem, en);
    assert_int_equal(mem.kv, mem.kv_max);
    lm_session_free(s);
    lm_session_free(s2);
    lm_engine_free(en);
    lm_model_free(m);
}

static void test_sample(void **st) {
    (void)st;
    float l[6] = {1, 3, 3, -1, 2, 0};
    struct lm_sampler g = LM_SAMPLER_GREEDY;
    struct {
        float p;
        uint32_t id;
    } work[6];
    uint32_t t;
    OK(lm_sample(&t, l, 6, &g, NULL, 0, 0, 0, work, &e));
    assert_int_equal(t, 1); /* a tie goes to the lower id */
    struct lm_sampler k = {.temperature = 1, .repeat = 1, .top_k = 2};
    int seen[6] = {0};
    for (uint32_t i = 0; i < 200; i++) {
        OK(lm_sample(&t, l, 6, &k, NULL, 0, 0, i, work, &e));
        seen[t]++;
    }
    assert_true(seen[1] > 60 && seen[2] > 60 && seen[1] + seen[2] == 200);
    struct lm_sampler p = {.temperature = 1, .repeat = 1, .top_p = 0.99f, .min_p = 0.3f};
    for (uint32_t i = 0; i < 200; i++) {
        OK(lm_sample(&t, l, 6, &p, NULL, 0, 0, i, work, &e));
        assert_true(t == 1 || t == 2 || t == 4);
    }
    struct lm_sampler r = {.repeat = 4};
    OK(lm_sample(&t, l, 6, &r, (uint32_t[]){1, 2}, 2, 1, 2, work, &e));
    assert_int_equal(t, 4);
    float bad[2] = {0, 1.0f / 0.0f};
    FAILS(LOAM_ENONFINITE, lm_sample(&t, bad, 2, &g, NULL, 0, 0, 0, work, &e));
    struct lm_logprob top[2];
    float c, q[3] = {0, 1, 1};
    lm_logprobs(&c, top, 2, q, 3, 0);
    assert_true(top[0].id == 1 && top[1].id == 2 && c < -1.86f && c > -1.87f);
}

/* A whole vocabulary, drawn from as the specification says it, one number after the other. */
static void test_sample_whole(void **st) {
    (void)st;
    enum { N = 5003 };
    static float l[N], again[N];
    static uint64_t work[N];
    struct philox ph;
    for (uint32_t turn = 0; turn < 40; turn++) {
        struct lm_sampler s = {.temperature = 0.7f + 0.01f * (float)turn, .repeat = 1, .seed = {(uint8_t)turn}};
        uint32_t word[4], t, best = 0, want;
        philox_init(&ph, s.seed, "test");
        for (uint32_t i = 0; i < N; i++) {
            philox_block(&ph, i, 0, word);
            l[i] = again[i] = (float)(int32_t)word[0] * 0x1p-28f;
            best = l[i] > l[best] ? i : best;
        }
        double sum = 0, at = 0;
        for (uint32_t i = 0; i < N; i++)
            sum += (double)arith_exp(l[i] / s.temperature - l[best] / s.temperature);
        philox_init(&ph, s.seed, "sample");
        philox_block(&ph, 9, 0, word);
        double target = ((double)(word[0] >> 5) * 67108864.0 + (double)(word[1] >> 6)) * 0x1p-53 * sum;
        for (want = 0; want < N; want++) {
            at += (double)arith_exp(l[want] / s.temperature - l[best] / s.temperature);
            if (at > target)
                break;
        }
        OK(lm_sample(&t, again, N, &s, NULL, 0, 0, 9, work, &e));
        assert_int_equal(t, want);
        float p;
        sum = 0;
        for (uint32_t i = 0; i < N; i++)
            sum += (double)arith_exp(l[i] - l[best]);
        lm_logprobs(&p, NULL, 0, l, N, want);
        assert_true(p == (float)((double)(l[want] - l[best]) - arith_log64(sum)));
    }
}

struct ranked {
    float p;
    uint32_t id;
};

static int likeliest(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    return x->p != y->p ? (x->p > y->p ? -1 : 1) : x->id < y->id ? -1 : x->id > y->id;
}

/* top_k, top_p and min_p of a whole vocabulary against everything sorted: few tokens, many, flat ones, ties, zeros of both signs. */
static void test_sample_cut(void **st) {
    (void)st;
    enum { N = 20011 };
    static const struct {
        uint32_t k;
        float p, min;
    } cut[] = {{40, 0, 0}, {0, 0.9f, 0}, {0, 0.999f, 0}, {40, 0.8f, 0}, {4500, 0, 0}, {4500, 0.95f, 0.001f}, {0, 0.7f, 0.01f}, {2, 0.5f, 0}};
    static float l[N], again[N];
    static uint64_t work[N];
    static struct ranked c[N];
    struct philox ph;
    for (uint32_t turn = 0; turn < 6 * sizeof cut / sizeof *cut; turn++) {
        uint32_t form = turn % 6, w = turn / 6, word[4], t, n = N, want, best = 0;
        struct lm_sampler s = {.temperature = 0.8f, .repeat = 1, .seed = {(uint8_t)turn}, .top_k = cut[w].k, .top_p = cut[w].p, .min_p = cut[w].min};
        philox_init(&ph, s.seed, "test");
        for (uint32_t i = 0; i < N; i++) {
            philox_block(&ph, i, 0, word);
            float x = (float)(int32_t)word[0] * 0x1p-31f; /* in -1 to 1 */
            l[i] = form == 0   ? 20 * x * x * x
                   : form == 1 ? 0.001f * x
                   : form == 2 ? -3
                   : form == 3 ? (float)(int)(8 * x)                          /* ties, and 0 */
                   : form == 4 ? (i % 3 ? 0.0f : -0.0f) * (float)(word[0] & 1) /* zeros of both signs */
                               : -30 - 40 * x;
            again[i] = l[i];
            best = l[i] > l[best] ? i : best;
        }
        for (uint32_t i = 0; i < N; i++)
            c[i] = (struct ranked){l[i], i};
        if (s.top_k) {
            qsort(c, N, sizeof *c, likeliest);
            n = s.top_k;
        }
        double sum = 0, at = 0;
        for (uint32_t i = 0; i < n; i++)
            sum += (double)(c[i].p = arith_exp(c[i].p / s.temperature - l[best] / s.temperature));
        if (s.top_p > 0) {
            double have = 0, all = sum * (double)s.top_p;
            uint32_t k = 0;
            qsort(c, n, sizeof *c, likeliest);
            while (k < n && (have += (double)c[k++].p) < all) {
            }
            n = k;
            sum = have;
        }
        if (s.min_p > 0) {
            uint32_t k = 0;
            sum = 0;
            for (uint32_t i = 0; i < n; i++)
                if (c[i].p >= s.min_p || c[i].id == best)
                    sum += (double)(c[k++] = c[i]).p;
            n = k;
        }
        philox_init(&ph, s.seed, "sample");
        philox_block(&ph, turn, 0, word);
        double target = ((double)(word[0] >> 5) * 67108864.0 + (double)(word[1] >> 6)) * 0x1p-53 * sum;
        for (want = 0; want < n; want++) {
            at += (double)c[want].p;
            if (at > target)
                break;
        }
        OK(lm_sample(&t, again, N, &s, NULL, 0, 0, turn, work, &e));
        if (t != c[want].id)
            fail_msg("top_k %u, top_p %g, min_p %g, form %u: token %u, not %u", s.top_k, (double)s.top_p, (double)s.min_p, form, t, c[want].id);
    }
}

/* Twelve answers of three adapters through a batch whose cache has room for only a few: each as alone, whatever the order,
 * also where some had to give way; then again, mostly from the prefix cache. */
static void test_continuous(void **st) {
    (void)st;
    struct lm_model *m = open_tiny(TINY_Q4_1);
    struct lm_adapter *ad[3] = {NULL, adapter(m, 4, 0x7f, 1), adapter(m, 16, 0x0f, 2)};
    struct lm_engine *en, *one;
    struct lm_batch *b;
    enum { N = 12 };
    struct lm_ids ids[N] = {{0}};
    struct lm_request r[N];
    struct lm_answer alone[N];
    OK(lm_engine_new(&one, m, &(struct lm_engine_opt){.act = LM_ACT_Q8, .threads = 1}, &e));
    struct gpu_attn at = {.h = TINY_H, .g = TINY_G, .d = TINY_D};
    uint64_t page = gpu_kv_page_elems(&at) * 2 * TINY_L;
    OK(lm_engine_new(&en, m, &(struct lm_engine_opt){.act = LM_ACT_Q8, .threads = 2, .kv_bytes_max = 8 * page}, &e));
    OK(lm_batch_new(&b, en, &e));
    for (int i = 0; i < N; i++) {
        char text[200];
        struct lm_session *s;
        snprintf(text, sizeof text, "question %d of the other %.*s", i % 5, i * 9, "the rain in spain is on the bus and then some more of it, and on and on and on and so forth until the end");
        prompt(&ids[i], m, text);
        r[i] = (struct lm_request){.prompt = ids[i].ids, .n = ids[i].n, .adapter = ad[i % 3],
                                   .opt = {.sampler = {.temperature = 3, .top_p = 0.95f, .repeat = 1, .seed = {(uint8_t)i}}, .max_tokens = 10 + 7 * (uint32_t)i}};
        OK(lm_session_new(&s, one, ad[i % 3], 0, &e));
        OK(lm_generate(&alone[i], one, s, ids[i].ids, ids[i].n, &r[i].opt, &e));
        lm_session_free(s);
    }
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < N; i++)
            lm_batch_add(b, &r[i]);
        int steps = 0;
        while (lm_batch_step(b, NULL))
            assert_true(++steps < 5000);
        unsigned cached = 0;
        for (int i = 0; i < N; i++) {
            assert_true(r[i].done);
            if (r[i].status)
                fail_msg("request %d: %s", i, r[i].err.text);
            assert_int_equal(r[i].answer.ids.n, alone[i].ids.n);
            assert_memory_equal(r[i].answer.ids.ids, alone[i].ids.ids, alone[i].ids.n * sizeof(uint32_t));
            assert_int_equal(r[i].answer.stop, alone[i].stop);
            cached += r[i].answer.cached_tokens;
            lm_answer_clear(&r[i].answer);
        }
        assert_true(round == 0 || cached > 0);
    }
    /* what is wrong with one request is said there and harms no other */
    atomic_int cancel = 1;
    r[0].n = 0;
    r[1].opt.sampler.top_p = 7;
    r[2].opt.cancel = &cancel;
    for (int i = 0; i < 4; i++)
        lm_batch_add(b, &r[i]);
    while (lm_batch_step(b, NULL)) {
    }
    assert_int_equal(r[0].status, LOAM_EINVAL);
    assert_int_equal(r[1].status, LOAM_ERANGE);
    assert_int_equal(r[2].status, LOAM_OK);
    assert_int_equal(r[2].answer.stop, LM_STOP_CANCEL);
    assert_int_equal(r[3].answer.ids.n, alone[3].ids.n);
    lm_answer_clear(&r[2].answer);
    lm_answer_clear(&r[3].answer);
    r[3].done = false;
    lm_batch_add(b, &r[3]);
    lm_batch_step(b, NULL);
    lm_batch_free(b);
    assert_int_equal(r[3].status, LOAM_ECANCEL);
    for (int i = 0; i < N; i++) {
        lm_answer_clear(&alone[i]);
        lm_ids_clear(&ids[i]);
    }
    lm_engine_free(en);
    lm_engine_free(one);
    for (int i = 1; i < 3; i++)
        lm_adapter_free(ad[i]);
    lm_model_free(m);
}

static int clean(void **st) {
    (void)st;
    unlink(path);
    return 0;
}

int main(void) {
    snprintf(path, sizeof path, "/tmp/loam-test-generate-%ld.gguf", (long)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits_q8),  cmocka_unit_test(test_bits_f32), cmocka_unit_test(test_batch),
        cmocka_unit_test(test_generate), cmocka_unit_test(test_continuous), cmocka_unit_test(test_limits),   cmocka_unit_test(test_sample),
        cmocka_unit_test(test_sample_whole), cmocka_unit_test(test_sample_cut),
    };
    return cmocka_run_group_tests(tests, NULL, clean);
}
