/* For the scripts beside it: what loam's engine makes of models, tokenizers and templates, on standard input and output.
 *
 *   lm_check encode MODEL special|plain   one JSON string a line in; its ids a line out, then " = " where its plain ids decode to the
 *                                         text and " ! " where they do not
 *   lm_check render TOKENIZER TEMPLATE    as below, from a tokenizer.json and a file with the template
 *   lm_check render MODEL                 one JSON list of {role, content} a line in; ids of the prompt out, or "refused CODE TEXT"
 *   lm_check logits MODEL ADAPTER ACT     ids of one sequence a line in; fp32 logits of every position out, raw. ADAPTER: "-", a PEFT
 *                                         folder, a GGUF adapter or an adapter file of loam. ACT: f32, q8, or train (the fp32 path)
 *   lm_check greedy MODEL ADAPTER ACT N   ids of one prompt a line in; N greedy ids out
 *   lm_check dequant TYPE                 raw blocks in, raw fp32 out
 *   lm_check losses MODEL RANK ALPHA LR SCHEDULE CLIP EPOCHS BATCH ROWS.jsonl...
 *                                         a training of all linears from the seed 2a00..00 of contrib/bench/peft_train.py; a step's loss a
 *                                         line out. SCHEDULE: constant, linear or cosine
 *
 * MODEL: a GGUF file, a folder, or (encode) a tokenizer.json. */
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "gpu/ops.h"
#include "lm/export.h"
#include "lm/generate.h"
#include "lm/pass.h"
#include "lm/peft.h"
#include "lm/template.h"
#include "lm/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/banned.h"

static struct err e;

static int fail(void) {
    fprintf(stderr, "lm_check: %s\n", e.text);
    return 1;
}

static bool ends(const char *s, const char *tail) {
    size_t a = strlen(s), b = strlen(tail);
    return a >= b && !strcmp(s + a - b, tail);
}

/* A line of standard input without its end; false at the end of the file. */
static bool line(char **text, size_t *cap, size_t *n) {
    ssize_t got = getline(text, cap, stdin);
    if (got < 0)
        return false;
    *n = (size_t)got - (got && (*text)[got - 1] == '\n');
    (*text)[*n] = 0;
    return true;
}

static void print_ids(const uint32_t *ids, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        printf("%s%u", i ? " " : "", ids[i]);
}

static int encode(const struct lm_tokenizer *t, unsigned flags) {
    char *text = NULL;
    size_t cap = 0, n;
    while (line(&text, &cap, &n)) {
        struct js_doc d;
        struct lm_ids ids = {0};
        struct buf b = BUF_INIT(LM_TEXT_MAX);
        if (js_parse(&d, text, n, &e) || lm_encode(&ids, t, d.root->s, d.root->len, flags, &e))
            return fail();
        print_ids(ids.ids, ids.n);
        ids.n = 0;
        if (lm_encode(&ids, t, d.root->s, d.root->len, 0, &e) || lm_decode(&b, t, ids.ids, ids.n, true, &e))
            return fail();
        /* SentencePiece puts a space in front, which stays in what is decoded */
        size_t skip = b.len == d.root->len + 1 && b.data[0] == ' ';
        bool same = b.len - skip == d.root->len && (!d.root->len || !memcmp(b.data + skip, d.root->s, d.root->len));
        puts(same ? " = " : " ! ");
        buf_clear(&b);
        lm_ids_clear(&ids);
        js_free(&d);
    }
    free(text);
    return 0;
}

static int render(const struct lm_template *tmpl) {
    char *text = NULL;
    size_t cap = 0, n;
    while (line(&text, &cap, &n)) {
        struct js_doc d;
        struct lm_message msg[64];
        struct lm_ids ids = {0};
        size_t k = 0;
        if (js_parse(&d, text, n, &e))
            return fail();
        for (const struct js_val *v = d.root->first; v && k < 64; v = v->next, k++) {
            const struct js_val *c = js_get(v, "content");
            msg[k] = (struct lm_message){js_get(v, "role")->s, c->s, c->len};
        }
        enum loam_status s = tmpl ? lm_template_render(&ids, tmpl, msg, k, true, &e) : err_set(&e, LOAM_EUNSUPPORTED, "no template");
        if (s)
            printf("refused %s %s", status_name(s), e.text);
        else
            print_ids(ids.ids, ids.n);
        puts("");
        lm_ids_clear(&ids);
        js_free(&d);
    }
    free(text);
    return 0;
}

static int render_files(const struct lm_tokenizer *t, const char *path) {
    struct buf b = BUF_INIT(1 << 20);
    struct lm_template *tmpl;
    if (file_read(&b, path, &e) || lm_template_new(&tmpl, (const char *)b.data, b.len, t, &e))
        return fail();
    int rc = render(tmpl);
    lm_template_free(tmpl);
    buf_clear(&b);
    return rc;
}

static enum loam_status adapter(struct lm_adapter **a, struct lm_model *m, const char *path) {
    struct stat st;
    *a = NULL;
    if (!strcmp(path, "-"))
        return LOAM_OK;
    if (ends(path, ".gguf"))
        return lm_gguf_adapter_import(a, m, path, &e);
    return !stat(path, &st) && S_ISDIR(st.st_mode) ? lm_peft_import(a, m, path, &e) : lm_adapter_load(a, path, &e);
}

static void read_ids(struct lm_ids *ids, const char *text) {
    ids->n = 0;
    for (char *end;; text = end) {
        unsigned long v = strtoul(text, &end, 10);
        if (end == text)
            break;
        if (lm_ids_add(ids, (uint32_t)v, &e))
            exit(fail());
    }
}

/* The path of training: fp32 throughout, no cache. */
static int train_logits(struct lm_model *m, const struct lm_adapter *a) {
    char *text = NULL;
    size_t cap = 0, n;
    struct lm_ids ids = {0};
    struct lm_view *v;
    struct gpu *g;
    float *logits = mem_array(m->config.V, sizeof *logits);
    if (!logits || lm_view_new(&v, m, 512, &e) || gpu_open(&g, &(struct gpu_config){0}, &e))
        return fail();
    while (line(&text, &cap, &n)) {
        struct lm_pass *p;
        double nll;
        read_ids(&ids, text);
        uint8_t *train = mem_zalloc(ids.n);
        for (uint32_t i = 1; i < ids.n; i++)
            train[i] = 1;
        struct lm_example ex = {.tokens = ids.ids, .train = train, .n = ids.n, .targets = ids.n - 1};
        const struct lm_example *list[1] = {&ex};
        if (lm_pass_new(&p, g, v, a, ids.n, ids.n, false, LM_KEEP_ALL, &e) || lm_pass_forward(p, list, 1, false, NULL, &nll, &e))
            return fail();
        for (uint32_t t = 0; t < ids.n; t++) {
            if (lm_pass_logits(p, 0, t, logits, &e))
                return fail();
            fwrite(logits, 4, m->config.V, stdout);
        }
        mem_free(train);
        lm_pass_free(p);
    }
    gpu_close(g);
    lm_view_free(v);
    mem_free(logits);
    lm_ids_clear(&ids);
    free(text);
    return 0;
}

static int compute(struct lm_model *m, const struct lm_adapter *a, const char *act, uint32_t greedy) {
    char *text = NULL;
    size_t cap = 0, n;
    struct lm_ids ids = {0};
    struct lm_engine *en;
    struct lm_session *s;
    if (lm_engine_new(&en, m, &(struct lm_engine_opt){.act = !strcmp(act, "q8") ? LM_ACT_Q8 : LM_ACT_F32}, &e) || lm_session_new(&s, en, a, 0, &e))
        return fail();
    while (line(&text, &cap, &n)) {
        read_ids(&ids, text);
        lm_session_truncate(s, 0);
        if (greedy) {
            struct lm_answer out;
            struct lm_generate_opt o = {.sampler = LM_SAMPLER_GREEDY, .max_tokens = greedy};
            if (lm_generate(&out, en, s, ids.ids, ids.n, &o, &e))
                return fail();
            print_ids(out.ids.ids, out.ids.n);
            puts("");
            lm_answer_clear(&out);
            continue;
        }
        float *l = mem_array((size_t)ids.n * m->config.V, sizeof *l);
        if (!l || lm_step(en, &(struct lm_item){s, ids.ids, ids.n, true, l}, 1, NULL, &e))
            return fail();
        fwrite(l, 4, (size_t)ids.n * m->config.V, stdout);
        mem_free(l);
    }
    lm_ids_clear(&ids);
    lm_session_free(s);
    lm_engine_free(en);
    free(text);
    return 0;
}

static int dequant(const char *name) {
    struct buf in = BUF_INIT((size_t)1 << 30);
    uint32_t type = 0;
    while (type < 64 && (!gpu_type_name(type) || strcmp(gpu_type_name(type), name)))
        type++;
    uint8_t part[65536];
    for (size_t got; (got = fread(part, 1, sizeof part, stdin));)
        if (buf_add(&in, part, got, &e))
            return fail();
    size_t n = type < 64 ? in.len / gpu_type_bytes(type) * gpu_type_elems(type) : 0;
    float *out = mem_array(n ? n : 1, sizeof *out);
    if (!out || !n)
        return 1;
    gpu_dequant(out, type, in.data, n);
    fwrite(out, 4, n, stdout);
    mem_free(out);
    buf_clear(&in);
    return 0;
}

static void print_loss(void *ctx, const struct lm_train_metrics *m) {
    (void)ctx;
    printf("%.8f\n", m->loss);
    fflush(stdout);
}

static int losses(struct lm_model *m, char **arg, int files) {
    static const char *const schedules[] = {[LM_CONSTANT] = "constant", [LM_LINEAR] = "linear", [LM_COSINE] = "cosine"};
    static const uint8_t seed[32] = {0x2a};
    const struct lm_train_hooks hooks = {.metrics = print_loss};
    struct lm_train_result r;
    struct lm_trainer *t;
    struct lm_data d;
    struct lm_hyper h;
    struct gpu *g;
    lm_hyper_default(&h);
    h.rank = (uint32_t)strtoul(arg[0], NULL, 10);
    h.alpha = strtof(arg[1], NULL);
    h.lr = strtod(arg[2], NULL);
    for (h.schedule = LM_CONSTANT; strcmp(schedules[h.schedule], arg[3]); h.schedule++)
        if (h.schedule == LM_COSINE)
            return 2;
    h.clip = strtod(arg[4], NULL);
    h.epochs = (uint32_t)strtoul(arg[5], NULL, 10);
    h.batch = (uint32_t)strtoul(arg[6], NULL, 10);
    lm_data_init(&d);
    for (int i = 0; i < files; i++)
        if (lm_data_add_file(&d, m, arg[7 + i], h.max_tokens, false, &e))
            return fail();
    if (gpu_open(&g, &(struct gpu_config){0}, &e) || lm_trainer_new(&t, g, m, &d, NULL, &h, seed, NULL, 0, &e) ||
        lm_trainer_run(t, &hooks, &r, &e))
        return fail();
    lm_trainer_free(t);
    gpu_close(g);
    lm_data_clear(&d);
    return 0;
}

int main(int argc, char **argv) {
    struct lm_model *m = NULL;
    struct lm_tokenizer *t = NULL;
    struct lm_adapter *a = NULL;
    int rc = 2;
    if (argc == 3 && !strcmp(argv[1], "dequant"))
        return dequant(argv[2]);
    if (argc < 3)
        return 2;
    if (ends(argv[2], ".json")) {
        struct buf b = BUF_INIT((size_t)256 << 20);
        if (file_read(&b, argv[2], &e) || lm_tokenizer_json(&t, (const char *)b.data, b.len, &e))
            return fail();
        buf_clear(&b);
    } else if (lm_model_open(&m, argv[2], &e)) {
        return fail();
    }
    if (argc == 4 && !strcmp(argv[1], "encode"))
        rc = encode(t ? t : m->tokenizer, strcmp(argv[3], "special") ? 0 : LM_ENCODE_SPECIAL);
    else if (argc == 3 && m && !strcmp(argv[1], "render"))
        rc = render(m->tmpl);
    else if (argc == 4 && t && !strcmp(argv[1], "render"))
        rc = render_files(t, argv[3]);
    else if (argc == 5 && m && !strcmp(argv[1], "logits"))
        rc = adapter(&a, m, argv[3]) ? fail() : strcmp(argv[4], "train") ? compute(m, a, argv[4], 0) : train_logits(m, a);
    else if (argc > 10 && m && !strcmp(argv[1], "losses"))
        rc = losses(m, argv + 3, argc - 10);
    else if (argc == 6 && m && !strcmp(argv[1], "greedy"))
        rc = adapter(&a, m, argv[3]) ? fail() : compute(m, a, argv[4], (uint32_t)strtoul(argv[5], NULL, 10));
    lm_adapter_free(a);
    lm_model_free(m);
    lm_tokenizer_free(t);
    return rc;
}
