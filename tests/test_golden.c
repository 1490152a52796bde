/* lm against transformers on the real model (contrib/models/golden.py made tests/golden/smollm2.json). Runs where the file
 * is: LOAM_MODEL, or models/ of the default data folder; skips with a line elsewhere. */
#include "tests/test.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "lm/generate.h"
#include "lm/pass.h"
#include "lm/template.h"

#include <math.h>

#define CLEAR 0.25 /* a margin between two logits that no rounding of the fp16 cache bridges */
#define CLOSE 2e-3

static struct err e;
static struct lm_model *model;
static struct js_doc doc;

static int set_up(void **st) {
    (void)st;
    char path[1024], home[1024];
    const char *m = getenv("LOAM_MODEL"), *src = getenv("srcdir"), *data = getenv("LOAM_DATA");
    struct buf b = BUF_INIT(1 << 22);
    snprintf(path, sizeof path, "%s/tests/golden/smollm2.json", src ? src : ".");
    if (file_read(&b, path, &e) || js_parse(&doc, b.data, b.len, &e)) {
        printf("# %s\n", e.text);
        return -1;
    }
    buf_clear(&b);
    if (!m) {
        if (data)
            snprintf(home, sizeof home, "%s/models/%s", data, js_get(doc.root, "file")->s);
        else
            snprintf(home, sizeof home, "%s/.local/share/loam/models/%s", getenv("HOME") ? getenv("HOME") : "", js_get(doc.root, "file")->s);
        m = home;
    }
    struct file_map map;
    if (file_map(&map, m, &e))
        return 0;
    int64_t want;
    if (!js_get_int(&want, doc.root, "bytes", 0, &e) && (uint64_t)want == map.len && lm_model_open(&model, m, &e))
        printf("# %s\n", e.text);
    file_unmap(&map);
    return 0;
}

static int tear_down(void **st) {
    (void)st;
    lm_model_free(model);
    js_free(&doc);
    return 0;
}

#define NEEDS_MODEL()                                                                                              \
    if (!model) {                                                                                                  \
        printf("# skipped: the real model is not there (LOAM_MODEL=FILE)\n");                                     \
        skip();                                                                                                    \
    }

static void same_ids(const struct js_val *want, const uint32_t *got, uint32_t n, const char *what) {
    uint32_t i = 0;
    for (const struct js_val *v = want->first; v; v = v->next, i++)
        if (i >= n || got[i] != v->i)
            fail_msg("%s: token %u is %lld, not %lld", what, i, i < n ? (long long)got[i] : -1, (long long)v->i);
    assert_int_equal(i, n);
}

static void test_texts(void **st) {
    (void)st;
    NEEDS_MODEL();
    for (const struct js_val *t = js_get(doc.root, "texts")->first; t; t = t->next) {
        const struct js_val *text = js_get(t, "text");
        struct lm_ids ids = {0};
        OK(lm_encode(&ids, model->tokenizer, text->s, text->len, 0, &e));
        same_ids(js_get(t, "ids"), ids.ids, ids.n, text->s);
        lm_ids_clear(&ids);
    }
}

static void prompt_ids(struct lm_ids *ids, const struct js_val *p) {
    const struct js_val *text = js_get(p, "prompt");
    struct lm_message msg = {"user", text->s, text->len};
    ids->n = 0;
    OK(lm_template_render(ids, model->tmpl, &msg, 1, true, &e));
    same_ids(js_get(p, "ids"), ids->ids, ids->n, text->s);
}

/* Where transformers' margin is clear the same token is chosen; where it is not, ours may part from here on. */
static void test_greedy(void **st) {
    (void)st;
    NEEDS_MODEL();
    struct lm_engine *en;
    struct lm_session *s;
    struct lm_ids ids = {0};
    unsigned clear = 0, parted = 0;
    double worst = 0;
    OK(lm_engine_new(&en, model, &(struct lm_engine_opt){.act = LM_ACT_F32}, &e));
    OK(lm_session_new(&s, en, NULL, 0, &e));
    float *logits = mem_array(model->config.V, sizeof *logits);
    for (const struct js_val *p = js_get(doc.root, "prompts")->first; p; p = p->next) {
        const struct js_val *want = js_get(p, "greedy")->first, *margin = js_get(p, "margins")->first;
        struct lm_answer a;
        prompt_ids(&ids, p);
        struct lm_generate_opt o = {.sampler = LM_SAMPLER_GREEDY, .max_tokens = (uint32_t)js_get(p, "greedy")->n};
        OK(lm_generate(&a, en, s, ids.ids, ids.n, &o, &e));
        for (uint32_t i = 0; want; want = want->next, margin = margin->next, i++) {
            if (i < a.ids.n && a.ids.ids[i] == want->i) {
                clear++;
                continue;
            }
            if (margin->d > CLEAR)
                fail_msg("%s: token %u is %u, not %lld, at a margin of %g", js_get(p, "prompt")->s, i, i < a.ids.n ? a.ids.ids[i] : 0, (long long)want->i, margin->d);
            parted++;
            break;
        }
        lm_answer_clear(&a);
        lm_session_truncate(s, 0);
        struct lm_item it = {s, ids.ids, ids.n, false, logits};
        OK(lm_step(en, &it, 1, NULL, &e));
        const struct js_val *l = js_get(p, "logits")->first;
        for (const struct js_val *id = js_get(p, "probe")->first; id; id = id->next, l = l->next)
            worst = fmax(worst, fabs((double)logits[id->i] - l->d));
        lm_session_truncate(s, 0);
    }
    printf("# greedy: %u tokens equal, %u of %zu answers part where the margin is below %g; largest |logit difference| with the fp16 cache %.4f\n",
           clear, parted, js_get(doc.root, "prompts")->n, CLEAR, worst);
    assert_true(worst < 0.1);
    mem_free(logits);
    lm_ids_clear(&ids);
    lm_session_free(s);
    lm_engine_free(en);
}

/* The fp32 path (training, losses) within 2e-3 of transformers. */
static void test_logits(void **st) {
    (void)st;
    NEEDS_MODEL();
    struct lm_view *v;
    struct gpu *g;
    struct lm_ids ids = {0};
    double worst = 0;
    OK(lm_view_new(&v, model, 128, &e));
    OK(gpu_open(&g, &(struct gpu_config){0}, &e));
    struct lm_pass *pass;
    OK(lm_pass_new(&pass, g, v, NULL, 128, 128, false, false, &e));
    float *logits = mem_array(model->config.V, sizeof *logits);
    for (const struct js_val *p = js_get(doc.root, "prompts")->first; p; p = p->next) {
        double nll;
        prompt_ids(&ids, p);
        uint8_t *train = mem_zalloc(ids.n);
        train[ids.n - 1] = 1;
        struct lm_example ex = {.tokens = ids.ids, .train = train, .n = ids.n, .targets = 1};
        const struct lm_example *list[1] = {&ex};
        OK(lm_pass_forward(pass, list, 1, false, NULL, &nll, &e));
        OK(lm_pass_logits(pass, 0, ids.n - 1, logits, &e));
        const struct js_val *l = js_get(p, "logits")->first;
        for (const struct js_val *id = js_get(p, "probe")->first; id; id = id->next, l = l->next)
            worst = fmax(worst, fabs((double)logits[id->i] - l->d));
        mem_free(train);
    }
    printf("# largest |logit difference| of the fp32 path: %.6f\n", worst);
    if (!(worst <= CLOSE))
        fail_msg("logits differ from transformers' by %g (at most %g)", worst, CLOSE);
    mem_free(logits);
    lm_ids_clear(&ids);
    lm_pass_free(pass);
    gpu_close(g);
    lm_view_free(v);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts), cmocka_unit_test(test_greedy), cmocka_unit_test(test_logits)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
