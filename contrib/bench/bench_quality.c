/* Quality of training and attribution on the demo's facts: share of trained questions and of unseen paraphrases answered
 * right, and, where the answer is right, how often its fact ranks first and what share its contributor gets, by each method.
 * bench_quality [--model FILE] [--dir RUN] [--epochs N] [--lr X] [--act f32|q8] [--ask N] [--budget BYTES]
 * With --dir a run is kept there and gone on with; gradient stores that stand there are taken as they are (remove
 * RUN/epoch-*.poa to make them again with another budget). Prints one JSON object a figure (contrib/bench/run), and each answer on
 * standard error. */
#include "flow/tuning.h"

#include "base/file.h"
#include "base/mem.h"
#include "lm/generate.h"
#include "lm/template.h"
#include "lm/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct err e;

static void die(const char *what) {
    fprintf(stderr, "bench_quality: %s: %s\n", what, e.text);
    exit(1);
}
#define DO(call)                                                                                                       \
    do {                                                                                                               \
        if (call)                                                                                                      \
            die(#call);                                                                                                \
    } while (0)

static const char *const contributors[] = {"alice", "bob", "carol"};
static void load_rows(struct tuning_rows *r, struct lm_model *m, const char *src) {
    for (unsigned c = 0; c < 3; c++) {
        char path[512], line[8192];
        snprintf(path, sizeof path, "%s/contrib/demo/%s.jsonl", src, contributors[c]);
        FILE *f = fopen(path, "r");
        if (!f)
            die(path);
        for (uint64_t i = 0; fgets(line, sizeof line, f); i++) {
            struct row row;
            DO(row_parse(&row, line, strlen(line), &e));
            DO(tuning_rows_add(r, m, &row, ACCOUNT_FIRST_USER + c, 1, c + 1, i, 1024, &e));
            row_clear(&row);
        }
        fclose(f);
    }
}

/* Does this training row hold the question's fact: one of its sources, then the answer? */
static bool is_source(const struct tuning_row *r, const json_t *sources) {
    for (size_t i = 0; i < json_array_size(sources); i++) {
        const char *t = json_string_value(json_array_get(sources, i));
        size_t n = t ? strlen(t) : 0;
        if (n && !strncmp(r->text, t, n) && r->text[n] == '\n')
            return true;
    }
    return false;
}

static void metrics(void *ctx, const struct lm_train_metrics *m) {
    (void)ctx;
    if (m->step % 10 == 0 || m->step == m->steps)
        fprintf(stderr, "step %llu/%llu epoch %u loss %.4f %.0f tok/s, %.0f s left, %zu MiB\n", (unsigned long long)m->step,
                (unsigned long long)m->steps, m->epoch, m->loss, m->tok_s, m->eta_s, m->rss >> 20);
}
static void gradients(void *ctx, uint32_t c, uint32_t n, size_t done, size_t total) {
    (void)ctx;
    if (done == total)
        fprintf(stderr, "gradients of checkpoint %u of %u\n", c + 1, n);
}

static void figure(const char *name, double value, const char *unit, double goal, double peer) {
    printf("{\"suite\": \"quality\", \"name\": \"%s\", \"value\": %.1f, \"unit\": \"%s\", \"better\": \"more\", ", name, value, unit);
    if (goal > 0)
        printf("\"goal\": %.0f, ", goal);
    printf("\"peer\": \"PyTorch, notes of the plan\", \"peer_value\": %.0f, \"command\": \"bench_quality\"}\n", peer);
}

struct tally {
    unsigned asked, right, first[POA_METHODS];
    double share[POA_METHODS];
};

int main(int argc, char **argv) {
    const char *path = getenv("LOAM_BENCH_MODEL"), *src = getenv("srcdir"), *dir = NULL;
    char tiny[512], temp[] = "/tmp/loam-quality-XXXXXX";
    enum lm_act act = LM_ACT_Q8;
    struct tuning_opt opt = {.seed = {42}};
    unsigned long most = 1000;
    src = src ? src : ".";
    lm_hyper_default(&opt.hyper);
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *v = argv[i + 1];
        if (!strcmp(argv[i], "--model"))
            path = v;
        else if (!strcmp(argv[i], "--dir"))
            dir = v;
        else if (!strcmp(argv[i], "--epochs"))
            opt.hyper.epochs = (uint32_t)strtoul(v, NULL, 10);
        else if (!strcmp(argv[i], "--lr"))
            opt.hyper.lr = strtod(v, NULL);
        else if (!strcmp(argv[i], "--budget"))
            opt.poa_budget = strtoull(v, NULL, 10);
        else if (!strcmp(argv[i], "--ask"))
            most = strtoul(v, NULL, 10);
        else if (!strcmp(argv[i], "--act"))
            act = strcmp(v, "f32") ? LM_ACT_Q8 : LM_ACT_F32;
        else {
            fprintf(stderr, "bench_quality: unknown option %s\n", argv[i]);
            return 2;
        }
    }
    snprintf(tiny, sizeof tiny, "%s/contrib/models/tiny.gguf", src);
    if (!dir && !(dir = mkdtemp(temp)))
        die("no folder");
    opt.dir = dir;
    struct lm_model *m;
    struct gpu *g;
    struct tuning_rows rows;
    struct lm_train_result res;
    struct tuned *t;
    DO(lm_model_open(&m, path ? path : tiny, &e));
    if (!m->quantised)
        act = LM_ACT_F32;
    DO(gpu_open(&g, &(struct gpu_config){NULL, 0}, &e));
    tuning_rows_init(&rows);
    load_rows(&rows, m, src);
    const struct tuning_hooks hooks = {{.metrics = metrics}, gradients};
    DO(tuning_run(&res, g, m, &rows, &opt, &hooks, NULL, &e));
    fprintf(stderr, "trained: %llu steps, loss %.4f, %.0f tok/s\n", (unsigned long long)res.steps, res.loss, res.tok_s);
    DO(tuned_open(&t, m, &rows, dir, res.checkpoint_epoch, res.checkpoints, true, &e));

    struct lm_engine *eng;
    struct lm_session *session;
    DO(lm_engine_new(&eng, m, &(struct lm_engine_opt){.act = act}, &e));
    DO(lm_session_new(&session, eng, t->adapter[t->checkpoints - 1], 0, &e));
    struct tally tally[2] = {{0}};
    snprintf(tiny, sizeof tiny, "%s/contrib/demo/questions.jsonl", src);
    FILE *f = fopen(tiny, "r");
    if (!f)
        die(tiny);
    char line[8192];
    unsigned long asked = 0;
    const unsigned methods = (1u << POA_METHODS) - 1;
    while (fgets(line, sizeof line, f) && asked++ < most) {
        json_t *o = json_loads(line, 0, NULL);
        const char *q = json_string_value(json_object_get(o, "question")), *want = json_string_value(json_object_get(o, "expect"));
        const char *who = json_string_value(json_object_get(o, "contributor"));
        struct tally *y = &tally[strcmp(json_string_value(json_object_get(o, "kind")), "trained") != 0];
        unsigned c = 0;
        while (c < 2 && strcmp(who, contributors[c]))
            c++;
        struct lm_ids prompt = {0};
        struct lm_answer a = {0};
        const struct lm_message msg = {"user", q, strlen(q)};
        DO(lm_template_render(&prompt, m->tmpl, &msg, 1, true, &e));
        struct lm_generate_opt go = {.sampler = LM_SAMPLER_GREEDY, .max_tokens = 48};
        DO(lm_generate(&a, eng, session, prompt.ids, prompt.n, &go, &e));
        bool right = a.text.len && strstr((const char *)a.text.data, want);
        y->asked++;
        y->right += right;
        char marks[160] = "";
        if (right) {
            struct tuned_scores sc;
            char *text = mem_printf("%s\n%s", q, (const char *)a.text.data);
            DO(tuned_attribute(&sc, t, g, prompt.ids, prompt.n, a.ids.ids, a.ids.n, text, methods, NULL, NULL, &e));
            mem_free(text);
            for (int k = 0; k < POA_METHODS; k++) {
                struct poa_shares sh;
                bool first;
                first = is_source(&rows.row[sc.order[k][0]], json_object_get(o, "sources"));
                y->first[k] += first;
                DO(tuned_shares(&sh, t, sc.score[k], &e));
                uint32_t ppm = 0;
                for (size_t i = 0; i < sh.count; i++)
                    if (sh.account[i].account == ACCOUNT_FIRST_USER + c)
                        ppm = sh.ppm[i];
                y->share[k] += ppm / 1e6;
                size_t at = strlen(marks);
                snprintf(marks + at, sizeof marks - at, " %s %s %.2f", poa_method_name((enum poa_method)k), first ? "first" : "NOT", ppm / 1e6);
                poa_shares_clear(&sh);
            }
            tuned_scores_clear(&sc);
        }
        fprintf(stderr, "%s %s: %s -> %s%s\n", right ? "right" : "WRONG", json_string_value(json_object_get(o, "id")), q,
                a.text.len ? (const char *)a.text.data : "", marks);
        lm_answer_clear(&a);
        lm_ids_clear(&prompt);
        json_decref(o);
    }
    fclose(f);
    figure("trained questions answered right", 100.0 * tally[0].right / (tally[0].asked ? tally[0].asked : 1), "%", 95, 99);
    figure("unseen paraphrases answered right", 100.0 * tally[1].right / (tally[1].asked ? tally[1].asked : 1), "%", 0, 47);
    unsigned right = tally[0].right + tally[1].right;
    for (int k = 0; right && k < POA_METHODS; k++) {
        static const double first_goal[POA_METHODS] = {97}, share_goal[POA_METHODS] = {85}, first_peer[POA_METHODS] = {100, 98.5, 82},
                            share_peer[POA_METHODS] = {92, 0, 82};
        char name[80];
        snprintf(name, sizeof name, "%s: fact first where right", poa_method_name((enum poa_method)k));
        figure(name, 100.0 * (tally[0].first[k] + tally[1].first[k]) / right, "%", first_goal[k], first_peer[k]);
        snprintf(name, sizeof name, "%s: contributor's share where right", poa_method_name((enum poa_method)k));
        figure(name, 100.0 * (tally[0].share[k] + tally[1].share[k]) / right, "%", share_goal[k], share_peer[k]);
    }
    lm_session_free(session);
    lm_engine_free(eng);
    tuned_free(t);
    tuning_rows_clear(&rows);
    gpu_close(g);
    lm_model_free(m);
    return 0;
}
