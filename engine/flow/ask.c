#include "flow/ask.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/entropy.h"
#include "base/mem.h"
#include "base/option.h"
#include "flow/flow.h"
#include "lm/template.h"
#include "node/job.h"
#include "node/node.h"
#include "node/topic.h"
#include "store/store.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define ASK_MESSAGES_MAX 256
#define ANSWER_KEY_BYTES (7 + 8) /* "answer/" and the number, big-endian */

static void answer_key(uint8_t out[ANSWER_KEY_BYTES], uint64_t id) {
    memcpy(out, "answer/", 7);
    put_be64(out + 7, id);
}

static json_t *hex_json(const uint8_t *p, size_t n) {
    char t[2 + 64 + 1] = "0x";
    hex_encode(t + 2, p, n);
    return json_string(t);
}

static json_t *ids_json(const uint32_t *ids, uint32_t n) {
    json_t *a = json_array();
    for (uint32_t i = 0; a && i < n; i++)
        if (json_array_append_new(a, json_integer(ids[i]))) {
            json_decref(a);
            return NULL;
        }
    return a;
}

json_t *flow_sampler_json(const struct lm_sampler *s, uint32_t max_tokens, const char *const *stop) {
    json_t *list = json_array();
    for (int i = 0; list && i < LM_STOP_MAX && stop[i]; i++)
        json_array_append_new(list, json_string(stop[i]));
    return json_pack("{s:f s:i s:f s:f s:f s:f s:f s:i s:i s:o}", "temperature", (double)s->temperature, "top_k", (int)s->top_k, "top_p",
                     (double)s->top_p, "min_p", (double)s->min_p, "repeat_penalty", (double)s->repeat, "presence_penalty",
                     (double)s->presence, "frequency_penalty", (double)s->frequency, "penalty_last", (int)s->last, "max_tokens",
                     (int)max_tokens, "stop", list);
}

enum loam_status flow_sampler_read(struct flow_ask *q, const json_t *o, struct err *err) {
    if (!json_is_object(o))
        return err_set(err, LOAM_EPARSE, "a sampler is no object");
    const struct {
        const char *key;
        float *f;
        uint32_t *u;
    } fields[] = {
        {"temperature", &q->sampler.temperature, NULL}, {"top_k", NULL, &q->sampler.top_k},
        {"top_p", &q->sampler.top_p, NULL},             {"min_p", &q->sampler.min_p, NULL},
        {"repeat_penalty", &q->sampler.repeat, NULL},   {"presence_penalty", &q->sampler.presence, NULL},
        {"frequency_penalty", &q->sampler.frequency, NULL}, {"penalty_last", NULL, &q->sampler.last},
        {"max_tokens", NULL, &q->max_tokens},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const json_t *v = json_object_get(o, fields[i].key);
        if (!v)
            continue;
        if (fields[i].f && json_is_number(v))
            *fields[i].f = (float)json_number_value(v);
        else if (fields[i].u && json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= UINT32_MAX)
            *fields[i].u = (uint32_t)json_integer_value(v);
        else
            return err_set(err, LOAM_EPARSE, "the sampler's %s is no number that fits", fields[i].key);
    }
    const json_t *stop = json_object_get(o, "stop"), *v;
    size_t i;
    if (stop && (!json_is_array(stop) || json_array_size(stop) > LM_STOP_MAX))
        return err_set(err, LOAM_EPARSE, "the sampler's stop is no list of at most %d strings", LM_STOP_MAX);
    json_array_foreach((json_t *)stop, i, v) {
        if (!json_is_string(v))
            return err_set(err, LOAM_EPARSE, "a stop string is no string");
        q->stop[i] = json_string_value(v);
    }
    return lm_sampler_check(&q->sampler, err);
}

/* Messages as the template takes them; text is borrowed from the JSON. */
static enum loam_status messages_of(struct lm_message *out, size_t *n, const json_t *messages, struct err *err) {
    size_t i;
    json_t *m;
    if (!json_is_array(messages) || !json_array_size(messages) || json_array_size(messages) > ASK_MESSAGES_MAX)
        return err_set(err, LOAM_EINVAL, "messages: a list of 1 to %d objects is needed", ASK_MESSAGES_MAX);
    json_array_foreach((json_t *)messages, i, m) {
        const json_t *role = json_object_get(m, "role"), *content = json_object_get(m, "content");
        if (!json_is_string(role) || !json_is_string(content))
            return err_set(err, LOAM_EINVAL, "message %zu has no role or no content", i + 1);
        out[i] = (struct lm_message){json_string_value(role), json_string_value(content), json_string_length(content)};
    }
    *n = json_array_size(messages);
    return LOAM_OK;
}

static enum loam_status render(struct lm_ids *prompt, const struct flow_model *m, const struct flow_ask *q, struct err *err) {
    struct lm_message msg[ASK_MESSAGES_MAX];
    size_t count = 0;
    enum loam_status s = messages_of(msg, &count, q->messages, err);
    if (!s && !m->base->tmpl)
        s = err_set(err, LOAM_EUNSUPPORTED, "model %s has no chat template that is known", m->base_name);
    return s ? s : lm_template_render(prompt, m->base->tmpl, msg, count, true, err);
}

static struct lm_generate_opt generate_opt(const struct flow_ask *q) {
    struct lm_generate_opt o = {.sampler = q->sampler,
                                .max_tokens = q->max_tokens,
                                .logprobs = q->logprobs,
                                .top_logprobs = q->top_logprobs,
                                .token = q->token,
                                .ctx = q->ctx};
    memcpy(o.stop, q->stop, sizeof o.stop);
    return o;
}

enum loam_status flow_ask_run(struct lm_answer *out, struct lm_ids *prompt, struct node *n, struct flow_model *m, const struct flow_ask *q,
                              const atomic_int *cancel, void (*yield)(void *ctx), void *yield_ctx, struct err *err) {
    *out = (struct lm_answer){0};
    enum loam_status s = render(prompt, m, q, err);
    struct flow_engine *e = NULL;
    if (!s)
        s = flow_engine_take(&e, n, m, q->act, err);
    if (s)
        return s;
    e->yield = yield;
    e->yield_ctx = yield_ctx;
    struct lm_generate_opt o = generate_opt(q);
    o.cancel = cancel;
    s = lm_generate(out, e->engine, e->session, prompt->ids, prompt->n, &o, err);
    flow_engine_give(m, e);
    return s;
}

/* ---- an answer of this node ---- */

struct asking {
    struct node *n;
    struct job *j;
    const struct flow_ask *q;
    uint64_t ask;
};

static int on_token(void *ctx, const struct lm_token_event *t) {
    struct asking *a = ctx;
    if (t->text_len)
        topic_emit(a->n, "ask", json_pack("{s:I s:s s:s%}", "ask", (json_int_t)a->ask, "event", "token", "text", t->text, t->text_len));
    if (a->j && job_cancelled(a->j))
        return 1;
    return a->q->token ? a->q->token(a->q->ctx, t) : 0;
}

static enum loam_status next_id(struct node *n, uint64_t *id, struct err *err) {
    struct buf key = BUF_INIT(STORE_KEY_MAX);
    enum loam_status s = store_last(n->store, TABLE_CALL, "answer/", 7, &key, NULL, err);
    *id = 1;
    if (!s && key.len == ANSWER_KEY_BYTES)
        *id = be64(key.data + 7) + 1;
    buf_clear(&key);
    return s == LOAM_ENOTFOUND ? LOAM_OK : s;
}

/* Stores the record under the next number; another answer may take that number meanwhile, then the next one. */
static enum loam_status keep(struct node *n, json_t *rec, const struct flow_ask *q, struct err *err) {
    for (int tries = 0; tries < 100; tries++) {
        uint64_t id;
        uint8_t key[ANSWER_KEY_BYTES];
        struct store_batch *b;
        enum loam_status s = next_id(n, &id, err);
        if (s)
            return s;
        answer_key(key, id);
        if (json_object_set_new(rec, "id", json_integer((json_int_t)id)))
            return err_set(err, LOAM_ENOMEM, "no memory for an answer");
        if ((s = store_batch_new(&b, err)))
            return s;
        s = q->also ? q->also(q->also_ctx, b, rec, err) : LOAM_OK;
        char *text = s ? NULL : json_dumps(rec, JSON_COMPACT | JSON_SORT_KEYS);
        if (!s)
            s = text ? store_batch_put_new(b, TABLE_CALL, key, sizeof key, text, strlen(text), err) : err_set(err, LOAM_ENOMEM, "no memory for an answer");
        if (s)
            store_batch_free(b);
        else
            s = store_commit(n->store, b, err);
        free(text);
        if (s != LOAM_EEXIST)
            return s;
    }
    return err_set(err, LOAM_EBUSY, "answers come too fast to number them");
}

static json_t *record(const struct flow_model *m, const struct flow_ask *q, const struct lm_sampler *sampler, const struct lm_ids *prompt,
                      const struct lm_answer *a, bool fast, const uint8_t salt[64]) {
    json_t *r = json_object();
    uint32_t cut = 0;
    if (!r)
        return NULL;
    const struct {
        const char *key;
        json_t *v;
    } f[] = {
        {"time_ms", json_integer((json_int_t)clock_unix_ms())},
        {"model", json_string(m->name)},
        {"base", json_string(m->base_name)},
        {"adapter", m->adapter ? json_string(m->adapter_name) : json_null()},
        {"adapter_hash", hex_json(m->adapter_hash, 32)},
        {"key", q->key ? json_string(q->key) : json_null()},
        {"messages", json_deep_copy(q->messages)},
        {"prompt_ids", ids_json(prompt->ids, prompt->n)},
        {"output_ids", ids_json(a->ids.ids, a->ids.n)},
        {"text", json_stringn(a->text.data ? (const char *)a->text.data : "", a->text.len)},
        {"stop", json_string(lm_stop_name(a->stop))},
        {"stop_reason", json_integer(a->stop)},
        {"tokens_in", json_integer(prompt->n)},
        {"tokens_cached", json_integer(a->cached_tokens)},
        {"tokens_out", json_integer(a->ids.n)},
        {"act", json_string(lm_act_name(q->act))},
        {"arithmetic", json_string(fast ? LM_ARITHMETIC_FAST : LM_ARITHMETIC)},
        {"sampler", flow_sampler_json(sampler, q->max_tokens, q->stop)},
        {"seed", hex_json(sampler->seed, 32)},
        {"prompt_salt", hex_json(salt, 32)},
        {"output_salt", hex_json(salt + 32, 32)},
        {"trace_root", json_null()},
        {"privacy", json_string(q->privacy ? q->privacy : "own")},
        {"sequence", json_null()},
        {"fee_wei", json_null()},
        {"prefill_us", json_integer((json_int_t)a->prefill_us)},
        {"decode_us", json_integer((json_int_t)a->decode_us)},
    };
    for (size_t i = 0; i < sizeof f / sizeof *f; i++)
        cut |= json_object_set_new(r, f[i].key, f[i].v) != 0;
    if (cut) {
        json_decref(r);
        return NULL;
    }
    return r;
}

static const char *last_content(const json_t *messages) {
    size_t n = json_array_size(messages);
    const char *s = n ? json_string_value(json_object_get(json_array_get(messages, n - 1), "content")) : NULL;
    return s ? s : "";
}

enum loam_status flow_ask(json_t **out, struct node *n, struct job *j, const struct flow_ask *q, struct err *err) {
    struct flow_model *m;
    struct lm_answer a = {0};
    struct lm_ids prompt = {0};
    uint8_t salt[64];
    char mode[OPTION_TEXT_MAX];
    bool own, *fast = q->fast ? q->fast : &own;
    *fast = !q->also && !strcmp(option_str(n->opt, "compute.mode", mode), "fast"); /* what is paid for is computed by the referee */
    struct err local = {LOAM_OK, ""};
    struct err *e = err ? err : &local; /* the text goes to the topic too */
    *out = NULL;
    enum loam_status s = flow_model_get(&m, n, q->model, e);
    if (s)
        return s;
    struct asking k = {.n = n, .j = j, .q = q, .ask = j ? job_id(j) : 0};
    struct flow_ask run = *q;
    run.token = on_token;
    run.ctx = &k;
    s = entropy_fill(salt, sizeof salt, e);
    if (q->prompt_salt)
        memcpy(salt, q->prompt_salt->b, 32);
    if (!s && !q->seeded)
        s = entropy_fill(run.sampler.seed, sizeof run.sampler.seed, e);
    topic_emit(n, "ask", json_pack("{s:I s:s s:s s:s s:s}", "ask", (json_int_t)k.ask, "event", "start", "model", m->name, "adapter", m->adapter_name,
                                   "prompt", last_content(q->messages)));
    if (!s)
        s = render(&prompt, m, q, e);
    if (!s) {
        struct lm_request r = {.prompt = prompt.ids, .n = prompt.n, .opt = generate_opt(&run)};
        s = flow_batch(n, m, q->act, fast, &r, j, e);
        a = r.answer;
    }
    if (!s && a.stop == LM_STOP_CANCEL && !a.ids.n)
        s = err_set(e, LOAM_ECANCEL, "cancelled before the first token");
    if (!s && a.stop == LM_STOP_CANCEL && q->also)
        s = err_set(e, LOAM_ECANCEL, "cancelled; a paid answer is kept whole or not at all, and nothing is owed for it");
    json_t *rec = s ? NULL : record(m, q, &run.sampler, &prompt, &a, *fast, salt);
    if (!s && !rec)
        s = err_set(e, LOAM_ENOMEM, "no memory for an answer");
    if (!s && !q->forget)
        s = keep(n, rec, q, e);
    if (s) {
        json_decref(rec);
        topic_emit(n, "ask", json_pack("{s:I s:s s:s}", "ask", (json_int_t)k.ask, "event", "error", "error", e->text));
    } else {
        double sec = (double)a.decode_us * 1e-6;
        topic_emit(n, "ask", json_pack("{s:I s:s s:s s:s s:i s:i s:f s:s s:I}", "ask", (json_int_t)k.ask, "event", "end", "model", m->name, "adapter",
                                       m->adapter_name, "tokens_in", (int)prompt.n, "tokens_out", (int)a.ids.n, "tokens_per_s",
                                       sec > 0 && a.ids.n > 1 ? (a.ids.n - 1) / sec : 0.0, "stop", lm_stop_name(a.stop), "answer",
                                       json_integer_value(json_object_get(rec, "id"))));
        *out = rec;
    }
    lm_answer_clear(&a);
    lm_ids_clear(&prompt);
    flow_model_put(m);
    return s;
}

enum loam_status flow_answer_get(json_t **out, struct node *n, uint64_t id, struct err *err) {
    uint8_t key[ANSWER_KEY_BYTES];
    struct buf b = BUF_INIT(FLOW_JSON_MAX);
    answer_key(key, id);
    *out = NULL;
    enum loam_status s = store_get(n->store, TABLE_CALL, key, sizeof key, &b, err);
    if (s == LOAM_ENOTFOUND)
        s = err_set(err, s, "there is no answer %llu", (unsigned long long)id);
    if (!s) {
        *out = json_loadb((const char *)b.data, b.len, 0, NULL);
        if (!*out)
            s = err_set(err, LOAM_EPARSE, "the record of answer %llu is broken", (unsigned long long)id);
    }
    buf_clear(&b);
    return s;
}
