#include "flow/quiz.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "flow/ask.h"
#include "node/job.h"
#include "node/sched.h"

#include <string.h>

#include "base/banned.h"

#define KINDS_MAX 16
#define WRONG_MAX 20

struct tally {
    char kind[32];
    uint64_t asked, right, scored, first[POA_METHODS], share_ppm;
};

struct quiz {
    struct flow *f;
    const struct flow_quiz *q;
    struct flow_tuned tuned;
    struct tally kind[KINDS_MAX];
    size_t kinds;
    json_t *wrong;
};

static struct tally *tally_of(struct quiz *z, const char *kind) {
    for (size_t i = 0; i < z->kinds; i++)
        if (!strcmp(z->kind[i].kind, kind))
            return &z->kind[i];
    if (z->kinds == KINDS_MAX || strlen(kind) >= sizeof z->kind->kind)
        return NULL;
    memcpy(z->kind[z->kinds].kind, kind, strlen(kind) + 1);
    return &z->kind[z->kinds++];
}

/* Is this training row one of the question's sources: a source followed by the row's answer? */
static bool is_source(const struct tuning_row *r, const json_t *sources) {
    const json_t *s;
    size_t i;
    json_array_foreach((json_t *)sources, i, s) {
        const char *t = json_string_value(s);
        size_t n = t ? strlen(t) : 0;
        if (n && !strncmp(r->text, t, n) && r->text[n] == '\n')
            return true;
    }
    return false;
}

static bool over(void *ctx) {
    struct flow *f = ctx;
    return f->job && job_cancelled(f->job);
}

static enum loam_status score(struct quiz *z, struct tally *t, const json_t *call, const json_t *sources, struct err *err) {
    const struct tuning_rows *rows = &z->tuned.rows;
    json_t *a = NULL;
    uint64_t account = 0;
    bool known = false;
    for (size_t i = 0; i < rows->data.count && !known; i++)
        if (is_source(&rows->row[i], sources)) {
            account = rows->row[i].account;
            known = true;
        }
    if (!known)
        return LOAM_OK; /* its rows were not trained on: nothing to find */
    enum loam_status s = sched_enter(z->f->node->sched, SCHED_ASK, z->f->job, err);
    if (s)
        return s;
    s = flow_attribution(&a, NULL, &z->tuned, call, POA_FISHER, (1u << POA_METHODS) - 1, over, z->f, err);
    sched_leave(z->f->node->sched);
    if (s)
        return s;
    t->scored++;
    for (unsigned m = 0; m < POA_METHODS; m++) {
        const json_t *list = json_object_get(json_object_get(a, "methods"), poa_method_name((enum poa_method)m));
        json_int_t row = json_integer_value(json_object_get(json_array_get(list, 0), "row"));
        if (json_array_size(list) && row >= 0 && (size_t)row < rows->data.count && is_source(&rows->row[row], sources))
            t->first[m]++;
    }
    const json_t *share;
    size_t i;
    json_array_foreach(json_object_get(a, "shares"), i, share) {
        if ((uint64_t)json_integer_value(json_object_get(share, "account")) == account)
            t->share_ppm += (uint64_t)json_integer_value(json_object_get(share, "share_ppm"));
    }
    json_decref(a);
    return LOAM_OK;
}

static enum loam_status question(struct quiz *z, const json_t *o, struct err *err) {
    const char *text, *expect, *kind = json_string_value(json_object_get(o, "kind"));
    enum loam_status s = jget_str(&text, o, "question", err);
    if (!s)
        s = jget_str(&expect, o, "expect", err);
    if (s)
        return s;
    struct tally *t = tally_of(z, kind ? kind : "all");
    if (!t)
        return err_set(err, LOAM_ELIMIT, "more than %d kinds of questions, or a kind longer than 31 bytes", KINDS_MAX);
    json_t *messages = json_pack("[{s:s s:s}]", "role", "user", "content", text), *call = NULL;
    if (!messages)
        return err_set(err, LOAM_ENOMEM, "no memory for a question");
    struct flow_ask ask = {.model = z->q->model, .messages = messages, .act = z->q->act, .max_tokens = z->q->max_tokens, .forget = true};
    ask.sampler = LM_SAMPLER_GREEDY;
    s = flow_ask(&call, z->f->node, z->f->job, &ask, err);
    json_decref(messages);
    if (s)
        return s;
    const char *answer = json_string_value(json_object_get(call, "text"));
    t->asked++;
    if (answer && strstr(answer, expect)) {
        t->right++;
        if (z->q->attribute)
            s = score(z, t, call, json_object_get(o, "sources"), err);
    } else if (json_array_size(z->wrong) < WRONG_MAX) {
        json_array_append_new(z->wrong, json_pack("{s:s s:s s:s}", "question", text, "expect", expect, "text", answer ? answer : ""));
    }
    json_decref(call);
    return s;
}

static json_t *report(const struct quiz *z) {
    json_t *kinds = json_array();
    for (size_t i = 0; i < z->kinds; i++) {
        const struct tally *t = &z->kind[i];
        json_t *k = json_pack("{s:s s:I s:I}", "kind", t->kind, "asked", (json_int_t)t->asked, "right", (json_int_t)t->right);
        if (t->scored) {
            json_t *methods = json_array();
            for (unsigned m = 0; m < POA_METHODS; m++)
                json_array_append_new(methods, json_pack("{s:s s:I s:I}", "method", poa_method_name((enum poa_method)m), "first",
                                                         (json_int_t)t->first[m], "rows", (json_int_t)t->scored));
            json_object_set_new(k, "methods", methods);
            json_object_set_new(k, "share_ppm", json_integer((json_int_t)(t->share_ppm / t->scored)));
        }
        json_array_append_new(kinds, k);
    }
    return kinds;
}

enum loam_status flow_quiz(struct flow *f, json_t **out, const struct flow_quiz *q, struct err *err) {
    struct quiz z = {.f = f, .q = q, .wrong = json_array()};
    struct buf b = BUF_INIT(QUIZ_FILE_MAX);
    uint64_t start = clock_mono_us(), asked = 0, lines = 0, total = 0;
    enum loam_status s;
    *out = NULL;
    TRY(file_read(&b, q->file, err));
    for (size_t i = 0; i < b.len; i++)
        total += b.data[i] == '\n';
    if (q->limit && q->limit < total)
        total = q->limit;
    if (q->attribute)
        TRY(flow_tuned_open(&z.tuned, f->node, q->model, false, err));
    for (char *p = (char *)b.data + text_bom(b.data, b.len); p && *p && (!q->limit || asked < q->limit);) {
        char *end = strchr(p, '\n');
        size_t n = end ? (size_t)(end - p) : strlen(p);
        lines++;
        if (n) {
            json_error_t je;
            json_t *o = json_loadb(p, n, JSON_REJECT_DUPLICATES, &je);
            if (!o || !json_is_object(o) || asked == QUIZ_QUESTIONS_MAX) {
                json_decref(o);
                s = err_set(err, LOAM_EPARSE, "%s, line %llu: not a JSON object, or more than %u questions", q->file, (unsigned long long)lines,
                            QUIZ_QUESTIONS_MAX);
                goto out;
            }
            s = question(&z, o, err);
            json_decref(o);
            if (s) {
                s = err_prefix(err, s, "%s, line %llu", q->file, (unsigned long long)lines);
                goto out;
            }
            asked++;
            flow_progress(f, asked, total, "%llu questions asked", (unsigned long long)asked);
            TRY(flow_check(f, err));
        }
        p = end ? end + 1 : NULL;
    }
    *out = json_pack("{s:s s:I s:f s:o s:O}", "model", q->model ? q->model : "", "questions", (json_int_t)asked, "seconds",
                     (double)(clock_mono_us() - start) / 1e6, "kinds", report(&z), "wrong", z.wrong);
    s = *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for the quiz");
out:
    flow_tuned_close(&z.tuned);
    json_decref(z.wrong);
    buf_clear(&b);
    return s;
}
