#include "flow/attribute.h"

#include "base/clock.h"
#include "base/mem.h"
#include "flow/ask.h"
#include "gpu/ops.h"
#include "lm/tokenizer.h"
#include "node/job.h"
#include "node/sched.h"
#include "node/topic.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define HISTORY_MAX 20

static enum loam_status ids_of(uint32_t **out, uint32_t *n, const json_t *o, const char *field, struct err *err) {
    json_t *a, *v;
    size_t i;
    enum loam_status s = jget_array(&a, o, field, err);
    if (s)
        return s;
    if (json_array_size(a) > 1u << 20)
        return err_set(err, LOAM_ELIMIT, "%s: %zu tokens", field, json_array_size(a));
    uint32_t *p = mem_array(json_array_size(a) + 1, sizeof *p);
    if (!p)
        return err_set(err, LOAM_ENOMEM, "no memory for %zu tokens", json_array_size(a));
    json_array_foreach(a, i, v) {
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > UINT32_MAX) {
            mem_free(p);
            return err_set(err, LOAM_EPARSE, "%s: item %zu is no token", field, i);
        }
        p[i] = (uint32_t)json_integer_value(v);
    }
    *out = p;
    *n = (uint32_t)json_array_size(a);
    return LOAM_OK;
}

static const char *last_question(const json_t *call) {
    const json_t *list = json_object_get(call, "messages");
    for (size_t i = json_array_size(list); i-- > 0;) {
        const json_t *m = json_array_get(list, i);
        const char *role = json_string_value(json_object_get(m, "role"));
        if (role && !strcmp(role, "user"))
            return json_string_value(json_object_get(m, "content"));
    }
    return NULL;
}

static json_t *big(int64_t v) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)v);
    return json_string(text);
}

/* ---------------------------------------------------------------- parts of the record */

static enum loam_status add_scores(json_t *o, const struct flow_tuned *t, const struct tuned_scores *sc, enum poa_method m, struct err *err) {
    json_t *list = json_array();
    struct hash32 root, *hash = mem_array(sc->rows, sizeof *hash);
    enum loam_status s = hash && list ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for %zu scores", sc->rows);
    for (size_t i = 0; !s && i < sc->rows; i++) {
        hash[i] = t->rows.row[i].hash;
        if (json_array_append_new(list, big(sc->score[m][i])))
            s = err_set(err, LOAM_ENOMEM, "no memory");
    }
    if (!s)
        s = poa_score_root(&root, hash, sc->score[m], sc->rows, err);
    if (!s)
        s = jset(o, "scores", json_incref(list), err);
    if (!s)
        s = jset(o, "score_root", json_hash(&root), err);
    json_decref(list);
    mem_free(hash);
    return s;
}

static enum loam_status add_rows(json_t *o, const struct flow_tuned *t, const struct tuned_scores *sc, enum poa_method m, struct err *err) {
    json_t *list = json_array();
    enum loam_status s = list ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
    unsigned __int128 positive = 0;
    for (size_t i = 0; i < sc->rows; i++)
        if (sc->score[m][i] > 0)
            positive += (uint64_t)sc->score[m][i];
    for (size_t i = 0; !s && i < sc->rows && i < ATTRIBUTE_ROWS; i++) {
        uint64_t r = sc->order[m][i];
        const struct tuning_row *w = &t->rows.row[r];
        int64_t v = sc->score[m][r];
        json_int_t ppm = v > 0 ? (json_int_t)((unsigned __int128)(uint64_t)v * 1000000 / positive) : 0;
        s = json_array_append_new(list, json_pack("{s:I s:I s:o s:I s:I s:s s:o s:I}", "rank", (json_int_t)i + 1, "row", (json_int_t)r, "hash",
                                                  json_hash(&w->hash), "account", (json_int_t)w->account, "datanet", (json_int_t)w->datanet,
                                                  "text", w->text, "score", big(v), "share_ppm", ppm))
                ? err_set(err, LOAM_ENOMEM, "no memory")
                : LOAM_OK;
    }
    if (!s)
        s = jset(o, "rows", json_incref(list), err);
    json_decref(list);
    return s;
}

static enum loam_status add_methods(json_t *o, const struct tuned_scores *sc, struct err *err) {
    json_t *all = json_object();
    enum loam_status s = all ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
    for (int m = 0; !s && m < POA_METHODS; m++) {
        json_t *list;
        if (!sc->score[m])
            continue;
        list = json_array();
        for (size_t i = 0; i < sc->rows && i < ATTRIBUTE_BESIDE; i++)
            json_array_append_new(list, json_pack("{s:I s:I s:o}", "row", (json_int_t)sc->order[m][i], "rank", (json_int_t)i + 1, "score",
                                                  big(sc->score[m][sc->order[m][i]])));
        s = jset(all, poa_method_name((enum poa_method)m), list, err);
    }
    if (!s)
        s = jset(o, "methods", json_incref(all), err);
    json_decref(all);
    return s;
}

static enum loam_status add_shares(json_t *o, const struct poa_shares *sh, struct err *err) {
    json_t *nets = json_array();
    struct hash32 root = poa_net_root(sh);
    enum loam_status s = nets ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
    for (size_t i = 0; !s && i < sh->count; i++)
        if (json_array_append_new(nets, json_pack("{s:I s:o s:o s:I s:I}", "account", (json_int_t)sh->account[i].account, "net", big(sh->account[i].net),
                                                  "floor", big((int64_t)sh->account[i].floor), "rows", (json_int_t)sh->account[i].rows,
                                                  "share_ppm", (json_int_t)sh->ppm[i])))
            s = err_set(err, LOAM_ENOMEM, "no memory");
    if (!s)
        s = jset(o, "shares", json_deep_copy(nets), err);
    if (!s)
        s = jset(o, "nets", json_incref(nets), err);
    if (!s)
        s = jset(o, "net_root", json_hash(&root), err);
    if (!s)
        s = jset(o, "floor", big(sh->floor), err);
    if (!s)
        s = jset(o, "burnt_ppm", json_integer((json_int_t)sh->burnt_ppm), err);
    json_decref(nets);
    return s;
}

/* Bytes of text that the first n output tokens make. */
static enum loam_status text_bytes(size_t *out, const struct flow_tuned *t, const uint32_t *ids, uint32_t n, struct err *err) {
    struct buf b = BUF_INIT(LM_TEXT_MAX);
    enum loam_status s = lm_decode(&b, t->m->base->tokenizer, ids, n, false, err);
    *out = b.len;
    buf_clear(&b);
    return s;
}

static enum loam_status add_spans(json_t *o, const struct flow_tuned *t, const struct tuned_scores *sc, const uint32_t *output, struct err *err) {
    json_t *list = json_array();
    enum loam_status s = list ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
    for (size_t i = 0; !s && i < sc->spans; i++) {
        const struct poa_span *p = &sc->span[i];
        size_t from, to;
        s = text_bytes(&from, t, output, p->from, err);
        if (!s)
            s = text_bytes(&to, t, output, p->to, err);
        if (!s && json_array_append_new(list, json_pack("{s:I s:I s:I s:I s:I}", "from", (json_int_t)from, "to", (json_int_t)to, "row", (json_int_t)p->row,
                                                        "account", (json_int_t)t->rows.row[p->row].account, "tokens", (json_int_t)(p->to - p->from))))
            s = err_set(err, LOAM_ENOMEM, "no memory");
    }
    if (!s)
        s = jset(o, "spans", json_incref(list), err);
    json_decref(list);
    return s;
}

enum loam_status flow_attribution(json_t **out, struct poa_shares *shares, const struct flow_tuned *t, const json_t *call, enum poa_method method,
                                  unsigned methods, bool (*cancelled)(void *ctx), void *ctx, struct err *err) {
    uint32_t *prompt = NULL, *output = NULL, np = 0, no = 0;
    struct tuned_scores sc = {0};
    struct poa_shares own = {0}, *sh = shares ? shares : &own;
    const char *text, *question = last_question(call);
    char *query = NULL;
    json_t *o = NULL, *grads = NULL;
    uint64_t start = clock_mono_us();
    enum loam_status s;
    *out = NULL;
    memset(sh, 0, sizeof *sh);
    TRY(ids_of(&prompt, &np, call, "prompt_ids", err));
    TRY(ids_of(&output, &no, call, "output_ids", err));
    TRY(jget_str(&text, call, "text", err));
    if (!(query = mem_printf("%s\n%s", question ? question : "", text))) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    TRY(tuned_attribute(&sc, t->t, t->gpu, prompt, np, output, no, query, methods | 1u << method, cancelled, ctx, err));
    TRY(tuned_shares(sh, t->t, sc.score[method], err));
    struct hash32 parameters = poa_parameters_hash(method, t->t->stores, t->t->checkpoints);
    grads = json_array();
    for (uint32_t c = 0; c < t->t->checkpoints; c++)
        json_array_append_new(grads, json_hash(&sc.query[c]));
    o = json_pack("{s:s s:o s:i s:O s:f}", "method", poa_method_name(method), "parameters_hash", json_hash(&parameters), "exponent", sc.exponent,
                  "gradients", grads, "nll", sc.nll);
    if (!o) {
        s = err_set(err, LOAM_ENOMEM, "no memory for an attribution");
        goto out;
    }
    TRY(add_scores(o, t, &sc, method, err));
    TRY(add_shares(o, sh, err));
    TRY(add_rows(o, t, &sc, method, err));
    TRY(add_methods(o, &sc, err));
    TRY(add_spans(o, t, &sc, output, err));
    TRY(jset(o, "elapsed_ms", json_integer((json_int_t)((clock_mono_us() - start) / 1000)), err));
out:
    json_decref(grads);
    mem_free(prompt);
    mem_free(output);
    mem_free(query);
    tuned_scores_clear(&sc);
    if (s || !shares)
        poa_shares_clear(sh);
    if (s)
        json_decref(o);
    else
        *out = o;
    return s;
}

/* ---------------------------------------------------------------- the flow */

static bool job_is_over(void *ctx) {
    struct flow *f = ctx;
    return f->job && job_cancelled(f->job);
}

void attribution_told(json_t *v) {
    static const char *const part[] = {"rows", "contributors", "spans"};
    const json_t *first = json_array_get(json_object_get(v, "rows"), 0);
    json_object_set_new(v, "contributors", json_deep_copy(json_object_get(v, "shares")));
    if (!first || json_integer_value(json_object_get(first, "datanet")))
        return;
    for (int k = 0; k < 3; k++) { /* a private run's accounts number its files, and are none of the chain's */
        json_t *o, *list = json_object_get(v, part[k]);
        size_t i;
        json_array_foreach(list, i, o) {
            char name[32];
            snprintf(name, sizeof name, "file %lld", (long long)json_integer_value(json_object_get(o, "account")) - (ACCOUNT_FIRST_USER - 1));
            json_object_set_new(o, "name", json_string(name));
        }
    }
}

static void tell(struct flow *f, const json_t *record, const json_t *call) {
    json_t *old = topic_get(f->node, "attribution"), *history = json_array(), *v = json_deep_copy(record), *h;
    const char *question = last_question(call);
    size_t i;
    json_array_append_new(history, json_pack("{s:O s:s s:I}", "answer", json_object_get(record, "answer"), "prompt", question ? question : "", "time_ms",
                                             (json_int_t)clock_unix_ms()));
    json_array_foreach(json_object_get(old, "history"), i, h) {
        if (i + 1 < HISTORY_MAX)
            json_array_append(history, h);
    }
    json_object_del(v, "scores");
    json_object_set_new(v, "prompt", json_string(question ? question : ""));
    attribution_told(v);
    json_object_set_new(v, "history", history);
    topic_set(f->node, "attribution", v);
    json_decref(old);
}

static enum loam_status newest_answer(struct node *n, uint64_t *id, struct err *err) {
    struct buf key = BUF_INIT(STORE_KEY_MAX);
    enum loam_status s = store_last(n->store, TABLE_CALL, "answer/", 7, &key, NULL, err);
    if (s == LOAM_ENOTFOUND || (!s && key.len != 15))
        s = err_set(err, LOAM_ENOTFOUND, "there is no answer yet; `ask` something first");
    else if (!s)
        *id = be64(key.data + 7);
    buf_clear(&key);
    return s;
}

enum loam_status flow_attribute(struct flow *f, json_t **out, uint64_t answer, enum poa_method method, struct err *err) {
    struct flow_tuned t = {0};
    json_t *call = NULL, *o = NULL;
    const char *model, *text;
    bool held = false;
    enum loam_status s = LOAM_OK;
    *out = NULL;
    if (!answer)
        TRY(newest_answer(f->node, &answer, err));
    TRY(flow_answer_get(&call, f->node, answer, err));
    TRY(jget_str(&model, call, "model", err));
    TRY(jget_str(&text, call, "text", err));
    s = flow_tuned_open(&t, f->node, model, false, err);
    if (s == LOAM_ENOTFOUND) {
        s = err_set(err, LOAM_ESTATE, "answer %llu came from %s, which was not trained here: there are no rows to attribute it to",
                    (unsigned long long)answer, model);
        goto out;
    }
    if (s)
        goto out;
    flow_progress(f, 0, 0, "gradients of the answer at %u checkpoints", t.t->checkpoints);
    TRY(sched_enter(f->node->sched, SCHED_ASK, f->job, err));
    held = true;
    s = flow_attribution(&o, NULL, &t, call, method, (1u << POA_METHODS) - 1, job_is_over, f, err);
    sched_leave(f->node->sched);
    held = false;
    if (s)
        goto out;
    TRY(jset(o, "answer", json_integer((json_int_t)answer), err));
    TRY(jset(o, "model", json_string(model), err));
    TRY(jset(o, "text", json_string(text), err));
    TRY(record_put_u64(f->node, TABLE_ATTRIBUTION, answer, o, err));
    tell(f, o, call);
    TRY(jset(o, "prompt", json_string(last_question(call) ? last_question(call) : ""), err));
out:
    if (held)
        sched_leave(f->node->sched);
    flow_tuned_close(&t);
    json_decref(call);
    if (s)
        json_decref(o);
    else
        *out = o;
    return s;
}
