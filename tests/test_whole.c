/* A whole model in one place: logits and answers have the same bits over batch size x thread count x split of the prompt x prefix
 * cache x backend x packed image or not, and the trained adapter the same hash over threads x backends x memory plan. Every way that
 * this machine has is taken against every other, on a small random model; with LOAM_MODEL=FILE on that one too, where the
 * reference and the plain backend go one way each and the others all. */
#include "tests/test.h"

#include "base/keccak.h"
#include "lm/batch.h"
#include "lm/data.h"
#include "lm/model.h"
#include "lm/template.h"
#include "lm/trainer.h"
#include "tests/lm_tiny.h"

#include <unistd.h>

enum { PROMPTS = 4, ANSWER = 6, STEPS_MAX = 400 };

static struct err e;
static char dir[64], tiny_path[96], images[96];

static int set_up(void **st) {
    (void)st;
    snprintf(dir, sizeof dir, "/tmp/loam-test-whole-%ld", (long)getpid());
    snprintf(tiny_path, sizeof tiny_path, "%s/tiny.gguf", dir);
    snprintf(images, sizeof images, "%s/images", dir);
    return file_mkdirs(images, &e) ? -1 : 0;
}

static int tear_down(void **st) {
    (void)st;
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd) ? -1 : 0;
}

/* ---- answers ---- */

struct prompts {
    struct lm_ids ids[PROMPTS];
};

/* Of different lengths; the last two begin alike for longer than a page of the cache, so that one is computed from the other's. */
static void prompts_of(struct prompts *p, const struct lm_model *m) {
    static const char *const text[PROMPTS] = {
        "Hi", "Name two colours.",
        "In the rain on the other bus there is one who is in it again and again, and then there is nobody: who was it? The first answer counts.",
        "In the rain on the other bus there is one who is in it again and again, and then there is nobody: who was it? The second one does not."};
    for (int i = 0; i < PROMPTS; i++) {
        struct lm_message msg = {"user", text[i], strlen(text[i])};
        p->ids[i] = (struct lm_ids){0};
        OK(lm_template_render(&p->ids[i], m->tmpl, &msg, 1, true, &e));
    }
}

/* What is compared: every logit of every position, and the tokens chosen. */
struct trace {
    uint8_t logits[PROMPTS][32];
    uint32_t token[PROMPTS][ANSWER];
    float logprob[PROMPTS][ANSWER];
};

struct way {
    enum lm_act act;
    const char *backend;
    unsigned threads;
    uint32_t batch, split; /* sequences a step; tokens of a prompt a step */
};

static uint32_t highest(const float *l, uint32_t V) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < V; i++)
        best = l[i] > l[best] ? i : best;
    return best;
}

/* False where this machine has no such backend. */
static bool run(struct trace *out, struct lm_model *m, const struct prompts *p, struct way w) {
    struct lm_engine *en;
    const uint32_t V = m->config.V;
    memset(out, 0, sizeof *out);
    if (lm_engine_new(&en, m, &(struct lm_engine_opt){.act = w.act, .threads = w.threads, .backend = w.backend}, &e)) {
        assert_int_equal(e.code, LOAM_EUNSUPPORTED);
        return false;
    }
    for (uint32_t from = 0; from < PROMPTS; from += w.batch) {
        uint32_t n = PROMPTS - from < w.batch ? PROMPTS - from : w.batch, open = n, made[PROMPTS] = {0};
        struct lm_session *s[PROMPTS];
        struct keccak h[PROMPTS];
        float *l[PROMPTS];
        for (uint32_t i = 0; i < n; i++) {
            OK(lm_session_new(&s[i], en, NULL, 0, &e));
            keccak_init(&h[i]);
            l[i] = mem_array((size_t)(w.split > 1 ? w.split : 1) * V, sizeof(float));
            assert_non_null(l[i]);
        }
        while (open) {
            struct lm_item it[PROMPTS];
            uint32_t who[PROMPTS], k = 0;
            for (uint32_t i = 0; i < n; i++) {
                const struct lm_ids *ids = &p->ids[from + i];
                uint32_t at = lm_session_length(s[i]), left = ids->n > at ? ids->n - at : 0;
                if (made[i] == ANSWER)
                    continue;
                who[k] = i;
                it[k++] = left ? (struct lm_item){s[i], ids->ids + at, left < w.split ? left : w.split, true, l[i]}
                               : (struct lm_item){s[i], &out->token[from + i][made[i] - 1], 1, true, l[i]};
            }
            OK(lm_step(en, it, k, NULL, &e));
            for (uint32_t j = 0; j < k; j++) {
                uint32_t i = who[j];
                keccak_add(&h[i], l[i], (size_t)it[j].n * V * sizeof(float));
                if (lm_session_length(s[i]) < p->ids[from + i].n)
                    continue;
                float *last = l[i] + (size_t)(it[j].n - 1) * V;
                uint32_t t = out->token[from + i][made[i]] = highest(last, V);
                lm_logprobs(&out->logprob[from + i][made[i]], NULL, 0, last, V, t);
                open -= ++made[i] == ANSWER;
            }
        }
        for (uint32_t i = 0; i < n; i++) {
            keccak_end(&h[i], out->logits[from + i]);
            lm_session_free(s[i]);
            mem_free(l[i]);
        }
    }
    lm_engine_free(en);
    return true;
}

struct heard {
    uint32_t n, token[ANSWER];
    float logprob[ANSWER];
};

static int hear(void *ctx, const struct lm_token_event *t) {
    struct heard *h = ctx;
    h->token[h->n] = t->id;
    h->logprob[h->n++] = t->logprob;
    return 0;
}

/* The same answers by the batch that serves them, twice: the second time prompts begin from what the first left in the prefix cache. */
static void served(const struct trace *want, struct lm_model *m, const struct prompts *p, struct way w, const char *what) {
    struct lm_engine *en;
    struct lm_batch *b;
    uint32_t cached = 0;
    OK(lm_engine_new(&en, m, &(struct lm_engine_opt){.act = w.act, .threads = w.threads, .backend = w.backend}, &e));
    OK(lm_batch_new(&b, en, &e));
    for (int turn = 0; turn < 2; turn++) {
        struct lm_request r[PROMPTS];
        struct heard h[PROMPTS] = {{0}};
        for (int i = 0; i < PROMPTS; i++) {
            r[i] = (struct lm_request){.prompt = p->ids[i].ids, .n = p->ids[i].n,
                                       .opt = {.sampler = LM_SAMPLER_GREEDY, .max_tokens = ANSWER, .ignore_end = true, .logprobs = true, .token = hear, .ctx = &h[i]}};
            lm_batch_add(b, &r[i]);
        }
        while (lm_batch_step(b, NULL)) {
        }
        for (int i = 0; i < PROMPTS; i++) {
            OK(r[i].status);
            cached += turn ? r[i].answer.cached_tokens : 0;
            if (h[i].n != ANSWER || memcmp(h[i].token, want->token[i], sizeof h[i].token) || memcmp(h[i].logprob, want->logprob[i], sizeof h[i].logprob))
                fail_msg("%s, served, turn %d, prompt %d: another answer", what, turn, i);
            lm_answer_clear(&r[i].answer);
        }
    }
    assert_true(cached >= p->ids[2].n / 2); /* the cache was of use, so what it gave was compared */
    lm_batch_free(b);
    lm_engine_free(en);
}

static unsigned ways;

/* every: the reference and the plain backend in more than one way each. */
static void all_ways(const char *path, enum lm_act act, bool every) {
    static const uint32_t batches[] = {1, 3, PROMPTS}, splits[] = {1, 7, STEPS_MAX};
    struct lm_model *m;
    struct prompts p;
    struct trace want, got;
    OK(lm_model_open(&m, path, &e)); /* packed in memory */
    prompts_of(&p, m);
    assert_true(run(&want, m, &p, (struct way){act, "ref", 2, PROMPTS, STEPS_MAX}));
    for (int image = 0; image < 3; image++) { /* 0: in memory, 1: the image is made, 2: it is there */
        if (image) {
            struct err note;
            const struct lm_weights *weights;
            lm_model_free(m);
            OK(lm_model_open_images(&m, path, images, &e));
            OK(lm_model_weights(&weights, m, &e));
            if (!lm_model_mapped(m, &note))
                fail_msg("no image: %s", note.text);
        }
        for (const char *const *b = gpu_backends(); *b; b++) {
            bool slow = !strcmp(*b, "ref") || !strcmp(*b, "plain"), there = true;
            for (unsigned threads = 1; threads <= 3 && there; threads++)
                for (size_t i = 0; i < 3 && there; i++)
                    for (size_t k = 0; k < 3 && there; k++) {
                        char what[96];
                        struct way w = {act, *b, threads, batches[i], splits[k]};
                        /* these take a hundred times as long: one thing at a time differs, and with a real model nothing */
                        if (slow && (threads != 2 || image == 1 || (every ? i != 1 && k != 1 : image || i != 1 || k != 1 || !strcmp(*b, "ref"))))
                            continue;
                        if (getenv("LOAM_SANITIZED") && (threads == 1 || (i != 1 && k != 1)))
                            continue;
                        if (image == 1 && (i != 1 || k != 1)) /* one way: the next open reads the same file */
                            continue;
                        snprintf(what, sizeof what, "%s, act %s, %u threads, %u a batch, %u a step, image %d", *b, lm_act_name(act), threads, w.batch, w.split, image);
                        there = run(&got, m, &p, w);
                        if (!there) {
                            print_message("# %s: not on this machine\n", *b);
                            break;
                        }
                        ways++;
                        for (int q = 0; q < PROMPTS; q++) {
                            if (memcmp(got.logits[q], want.logits[q], 32))
                                fail_msg("%s: prompt %d has other logits than ref", what, q);
                            assert_memory_equal(got.token[q], want.token[q], sizeof got.token[q]);
                        }
                        if (i == 1 && k == 1)
                            served(&want, m, &p, w, what);
                    }
        }
    }
    for (int i = 0; i < PROMPTS; i++)
        lm_ids_clear(&p.ids[i]);
    lm_model_free(m);
}

static void answers(void **st) {
    (void)st;
    static const struct {
        struct tiny t;
        enum lm_act act;
    } models[] = {{{"llama", GPU_Q4_1, GPU_Q8_0, false, 512}, LM_ACT_Q8}, {{"llama", GPU_Q4_1, GPU_Q8_0, false, 512}, LM_ACT_F32},
                  {{"qwen3", GPU_F16, GPU_F32, true, 512}, LM_ACT_F32}};
    const char *real = getenv("LOAM_MODEL");
    ways = 0;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        OK(tiny_write(tiny_path, models[i].t, &e));
        all_ways(tiny_path, models[i].act, !getenv("LOAM_SANITIZED"));
        unlink(tiny_path);
    }
    print_message("# small models: %u ways, the same bits\n", ways);
    if (!real) {
        print_message("# skipped: the real model is not there (LOAM_MODEL=FILE)\n");
        return;
    }
    ways = 0;
    all_ways(real, LM_ACT_Q8, false);
    all_ways(real, LM_ACT_F32, false);
    print_message("# %s: %u ways, the same bits\n", real, ways);
}

/* ---- training ---- */

struct trained {
    uint8_t adapter[32], steps[32]; /* steps: keccak of the file of steps, losses and gradients' norms in it */
};

static enum loam_status train(struct trained *out, struct lm_train_plan *plan, struct lm_model *m, const struct lm_data *d, struct gpu *g,
                              const struct lm_hyper *h, size_t memory) {
    static const uint8_t seed[32] = {42};
    struct lm_trainer *t;
    struct lm_train_result r;
    struct buf b = BUF_INIT(1 << 20);
    char run_dir[96], file[112], cmd[128];
    snprintf(run_dir, sizeof run_dir, "%s/run", dir);
    snprintf(file, sizeof file, "%s/steps", run_dir);
    snprintf(cmd, sizeof cmd, "rm -rf %s", run_dir);
    enum loam_status s = lm_trainer_new(&t, g, m, d, NULL, h, seed, run_dir, memory, &e);
    if (!s) {
        *plan = *lm_trainer_plan(t);
        OK(lm_trainer_run(t, NULL, &r, &e));
        lm_trainer_free(t);
        OK(file_read(&b, file, &e));
        assert_int_equal(b.len, r.steps * LM_STEP_BYTES);
        memcpy(out->adapter, r.adapter_hash, 32);
        keccak256(out->steps, b.data, b.len);
        buf_clear(&b);
    }
    assert_int_equal(system(cmd), 0);
    return s;
}

/* reference: with ref and plain. */
static void all_plans(struct lm_model *m, const struct lm_data *d, const struct lm_hyper *h, bool reference) {
    struct trained first = {{0}}, got;
    struct lm_train_plan full, plan;
    bool seen[3] = {false}, pieces = false, have = false;
    unsigned runs = 0;
    for (const char *const *b = gpu_backends(); *b; b++) {
        bool slow = !strcmp(*b, "ref") || !strcmp(*b, "plain");
        if (slow && !reference)
            continue;
        for (int threads = 1; threads <= 3; threads++) {
            struct gpu *g;
            if (slow && threads != 2)
                continue;
            if (gpu_open(&g, &(struct gpu_config){.backend = *b, .threads = threads}, &e))
                break; /* not on this machine */
            OK(train(&got, &full, m, d, g, h, 0));
            if (!have)
                first = got;
            have = true;
            size_t all = full.adapter + full.optimiser + full.activations + full.scratch, last = 0;
            for (size_t memory = all - 1;; memory -= all / 10) { /* less and less, until it says that it is too little */
                runs++;
                if (memcmp(&got, &first, sizeof got))
                    fail_msg("%s, %d threads: another adapter or other steps", *b, threads);
                enum loam_status s = slow && memory < all - 1 ? LOAM_ENOMEM : train(&got, &plan, m, d, g, h, memory);
                if (s) {
                    assert_int_equal(s, LOAM_ENOMEM);
                    break;
                }
                seen[plan.recompute] = true;
                pieces |= plan.micro_tokens < full.micro_tokens;
                last = memory;
                if (memory < all / 10)
                    break;
            }
            assert_true(last > 0);
            seen[full.recompute] = true;
            gpu_close(g);
        }
    }
    if (!seen[0] || !seen[1] || !seen[2] || !pieces)
        fail_msg("not every plan was taken: nothing again %d, gate and up again %d, layers again %d, in pieces %d", seen[0], seen[1], seen[2], pieces);
    print_message("# %s: trained in %u ways, the same adapter and the same steps\n", m->name, runs);
}

static void adapters(void **st) {
    (void)st;
    const char *src = getenv("srcdir"), *real = getenv("LOAM_MODEL");
    char path[1024];
    struct lm_model *m;
    struct lm_data d;
    struct lm_hyper h;
    lm_hyper_default(&h);
    h.rank = 4;
    h.batch = 4;
    h.epochs = 1;
    h.dropout = 0.1f;
    OK(tiny_write(tiny_path, (struct tiny){"llama", GPU_Q4_1, GPU_Q8_0, false, 512}, &e));
    OK(lm_model_open(&m, tiny_path, &e));
    lm_data_init(&d);
    snprintf(path, sizeof path, "%s/tests/golden/train_tiny.jsonl", src ? src : ".");
    OK(lm_data_add_file(&d, m, path, 512, false, &e));
    all_plans(m, &d, &h, !getenv("LOAM_SANITIZED"));
    lm_data_clear(&d);
    lm_model_free(m);
    if (!real) {
        print_message("# skipped: the real model is not there (LOAM_MODEL=FILE)\n");
        return;
    }
    OK(lm_model_open(&m, real, &e));
    OK(lm_data_add_file(&d, m, path, 512, false, &e));
    all_plans(m, &d, &h, false);
    lm_data_clear(&d);
    lm_model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(answers), cmocka_unit_test(adapters)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
