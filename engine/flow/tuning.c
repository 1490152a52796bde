#include "flow/tuning.h"

#include "base/clock.h"
#include "base/mem.h"
#include "flow/ranks.h"
#include "lm/ranks.h"
#include "record/tree.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define SPAN_TOKENS_MIN 3u  /* shorter ones are in every row */
#define SPAN_COUNT_MAX 10u  /* more often: the template's words, nobody's */

/* ---------------------------------------------------------------- rows */

void tuning_rows_init(struct tuning_rows *r) {
    memset(r, 0, sizeof *r);
    lm_data_init(&r->data);
}

void tuning_rows_clear(struct tuning_rows *r) {
    for (size_t i = 0; i < r->data.count; i++)
        mem_free(r->row[i].text);
    mem_free(r->row);
    lm_data_clear(&r->data);
    tuning_rows_init(r);
}

enum loam_status tuning_rows_add(struct tuning_rows *r, struct lm_model *m, const struct row *row, uint64_t account, uint64_t datanet,
                                 uint64_t contribution, uint64_t index, uint32_t max_tokens, struct err *err) {
    struct lm_text_message msg[ROW_MESSAGES_MAX];
    size_t at = r->data.count;
    for (size_t i = 0; i < at; i++)
        if (hash_eq(&r->row[i].hash, &row->hash))
            return err_set(err, LOAM_EEXIST, "the row stands there already, as number %zu", i);
    if (at == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 64;
        struct tuning_row *p = mem_resize(r->row, cap, sizeof *p);
        if (!p)
            return err_set(err, LOAM_ENOMEM, "no memory for %zu rows", cap);
        r->row = p;
        r->cap = cap;
    }
    struct buf text = BUF_INIT(ROW_BYTES_MAX + ROW_MESSAGES_MAX);
    enum loam_status s = LOAM_OK;
    for (uint32_t i = 0; !s && i < row->count; i++) {
        msg[i] = (struct lm_text_message){row_role_name(row->messages[i].role), row->messages[i].content, row->messages[i].len};
        if (i)
            s = buf_byte(&text, '\n', err);
        if (!s)
            s = buf_add(&text, row->messages[i].content, row->messages[i].len, err);
    }
    if (!s)
        s = lm_data_add(&r->data, m, msg, row->count, at, max_tokens, err);
    if (s) {
        buf_clear(&text);
        return s;
    }
    r->row[at] = (struct tuning_row){row->hash, account, datanet, contribution, index, (char *)buf_take(&text, NULL)};
    return LOAM_OK;
}

enum loam_status tuning_row_write(struct buf *out, const struct tuning_row *w, const struct row *source, struct err *err) {
    char hex[HASH_HEX_MAX];
    struct buf line = BUF_INIT(ROW_LINE_MAX);
    enum loam_status s = row_json(&line, source, err);
    if (!s)
        s = buf_printf(out, err, "{\"row\":\"%s\",\"account\":%llu,\"datanet\":%llu,\"contribution\":%llu,\"index\":%llu,",
                       hash_hex(hex, &w->hash), (unsigned long long)w->account, (unsigned long long)w->datanet,
                       (unsigned long long)w->contribution, (unsigned long long)w->index);
    if (!s) /* {"messages":...} without its first brace */
        s = buf_add(out, line.data + 1, line.len - 1, err);
    if (!s)
        s = buf_byte(out, '\n', err);
    buf_clear(&line);
    return s;
}

static enum loam_status number(uint64_t *out, const json_t *o, const char *key, struct err *err) {
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return err_set(err, LOAM_EPARSE, "\"%s\" is missing or no count", key);
    *out = (uint64_t)json_integer_value(v);
    return LOAM_OK;
}

static enum loam_status read_line(struct tuning_rows *out, struct lm_model *m, const char *line, size_t n, uint32_t max_tokens, struct err *err) {
    uint64_t account, datanet, contribution, index;
    struct hash32 hash;
    struct row row;
    enum loam_status s = row_parse(&row, line, n, err); /* passes over the keys that are not a row's */
    if (s)
        return s;
    json_t *o = json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL);
    const char *hex = json_string_value(json_object_get(o, "row"));
    if (!hex)
        s = err_set(err, LOAM_EPARSE, "\"row\" is missing");
    if (!s)
        s = hash_parse(&hash, hex, err);
    if (!s && !hash_eq(&hash, &row.hash))
        s = err_set(err, LOAM_EHASH, "the row's hash is not that of its text");
    if (!s)
        s = number(&account, o, "account", err);
    if (!s)
        s = number(&datanet, o, "datanet", err);
    if (!s)
        s = number(&contribution, o, "contribution", err);
    if (!s)
        s = number(&index, o, "index", err);
    if (!s)
        s = tuning_rows_add(out, m, &row, account, datanet, contribution, index, max_tokens, err);
    json_decref(o);
    row_clear(&row);
    return s;
}

enum loam_status tuning_rows_read(struct tuning_rows *out, struct lm_model *m, const char *text, size_t n, uint32_t max_tokens, struct err *err) {
    const char *p = text, *end = text + n;
    for (size_t line = 1; p < end; line++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((nl ? nl : end) - p);
        enum loam_status s = read_line(out, m, p, len, max_tokens, err);
        if (s)
            return err_prefix(err, s, "row %zu", line);
        p += len + 1;
    }
    return out->data.count ? LOAM_OK : err_set(err, LOAM_EPARSE, "no rows");
}

struct hash32 tuning_rows_root(const struct tuning_rows *r) {
    struct tree_stream t;
    uint8_t leaf[ROW_LEAF_BYTES];
    tree_stream_init(&t);
    for (size_t i = 0; i < r->data.count; i++) {
        row_leaf(leaf, &r->row[i].hash, r->row[i].account);
        tree_stream_add(&t, leaf, sizeof leaf);
    }
    return tree_stream_root(&t);
}

/* ---------------------------------------------------------------- training */

/* Passes a build's sink on and counts rows. */
struct counting {
    struct lm_grad_sink inner;
    const struct tuning_hooks *hooks;
    uint32_t checkpoint, checkpoints;
    size_t done, total;
    uint64_t keeping_us; /* in the inner sink */
    bool stop;
};

static enum loam_status count_tensor(void *ctx, const struct lm_grad_tensor *g, struct err *err) {
    struct counting *c = ctx;
    uint64_t from = clock_mono_us();
    enum loam_status s = c->inner.tensor(c->inner.ctx, g, err);
    c->keeping_us += clock_mono_us() - from;
    return s;
}

static enum loam_status count_row(void *ctx, size_t row, uint64_t id, double nll, uint32_t targets, struct err *err) {
    struct counting *c = ctx;
    c->done++;
    if (c->hooks && c->hooks->gradients)
        c->hooks->gradients(c->hooks->train.ctx, c->checkpoint, c->checkpoints, c->done, c->total);
    return c->inner.row ? c->inner.row(c->inner.ctx, row, id, nll, targets, err) : LOAM_OK;
}

static bool count_stop(void *ctx) {
    struct counting *c = ctx;
    if (!c->stop && c->hooks && c->hooks->train.ask)
        c->stop = c->hooks->train.ask(c->hooks->train.ctx) != LM_GO_ON;
    return c->stop;
}

static bool tensor_stop(void *ctx, uint32_t tensor, uint32_t tensors) {
    (void)tensor;
    (void)tensors;
    return count_stop(ctx);
}

static enum loam_status one_store(struct gpu *g, struct lm_model *m, const struct tuning_rows *rows, const struct tuning_opt *opt,
                                  const struct poa_plan *plan, const char *adapter, const char *path, struct counting *c, struct err *err) {
    struct lm_adapter *a;
    struct poa_build *b;
    enum loam_status s = lm_adapter_load(&a, adapter, err);
    if (s)
        return s;
    s = poa_build_new(&b, plan, g, opt->dir, err);
    if (!s) {
        c->inner = poa_build_sink(b);
        const struct lm_grad_sink sink = {c, c->inner.full, count_tensor, count_row, count_stop};
        /* Between layers too, so that a more urgent job need not wait for a pass. */
        bool (*yield)(void *) = g->yield;
        void *arg = g->yield_arg;
        g->yield = count_stop;
        g->yield_arg = c;
        uint64_t start = clock_mono_us(), passed;
        s = lm_grad_rows(g, m, a, &rows->data, 0, rows->data.count, 0, &sink, err);
        passed = clock_mono_us();
        if (!s)
            s = poa_build_write(b, path, opt->fine, tensor_stop, c, err);
        if (!s && c->hooks && c->hooks->store)
            c->hooks->store(c->hooks->train.ctx, c->checkpoint, c->checkpoints, (double)(passed - start) * 1e-6, (double)c->keeping_us * 1e-6,
                            (double)(clock_mono_us() - passed) * 1e-6);
        g->yield = yield;
        g->yield_arg = arg;
        poa_build_free(b);
    }
    lm_adapter_free(a);
    return s;
}

enum loam_status tuning_run(struct lm_train_result *out, struct gpu *g, struct lm_model *m, const struct tuning_rows *rows,
                            const struct tuning_opt *opt, const struct tuning_hooks *hooks, struct lm_train_plan *plan, struct err *err) {
    struct lm_trainer *t;
    enum loam_status s = LOAM_OK;
    double tok_s = 0, seconds = 0;
    if (opt->ranks > 1 && opt->eval)
        return err_set(err, LOAM_ENOTBUILT, "evaluation in training by several processes");
    if (opt->ranks > 1) { /* they leave a finished state, which the trainer below only opens */
        const struct ranks_opt ro = {opt->dir, opt->ranks, opt->hosts, opt->backend};
        s = lm_ranks_write(opt->dir, opt->base, &rows->data, &opt->hyper, opt->seed, err);
        if (!s)
            s = ranks_train(&ro, hooks ? &hooks->train : NULL, &tok_s, &seconds, err);
    }
    if (!s)
        s = lm_trainer_new(&t, g, m, &rows->data, opt->eval, &opt->hyper, opt->seed, opt->dir, opt->memory, err);
    if (s)
        return s;
    if (plan)
        *plan = *lm_trainer_plan(t);
    s = lm_trainer_run(t, hooks ? &hooks->train : NULL, out, err);
    if (opt->ranks > 1) {
        out->tok_s = tok_s;
        out->seconds += seconds;
    }
    struct poa_plan *p = s ? NULL : mem_zalloc(sizeof *p);
    if (!s && !p)
        s = err_set(err, LOAM_ENOMEM, "no memory for the gradient store's plan");
    if (!s)
        s = poa_plan_make(p, lm_trainer_adapter(t), rows->data.count, out->checkpoints, opt->poa_budget, true, opt->seed, err);
    lm_trainer_free(t);
    for (uint32_t i = 0; !s && i < out->checkpoints; i++) {
        char *adapter = mem_printf("%s/epoch-%u.adapter", opt->dir, out->checkpoint_epoch[i]);
        char *path = mem_printf("%s/epoch-%u.poa", opt->dir, out->checkpoint_epoch[i]);
        struct counting c = {.hooks = hooks, .checkpoint = i, .checkpoints = out->checkpoints, .total = rows->data.count};
        if (!adapter || !path)
            s = err_set(err, LOAM_ENOMEM, "no memory");
        else if (!file_exists(path)) /* written atomically: there means whole */
            s = one_store(g, m, rows, opt, p, adapter, path, &c, err);
        mem_free(adapter);
        mem_free(path);
    }
    mem_free(p);
    return s;
}

/* ---------------------------------------------------------------- a tuned model */

void tuned_free(struct tuned *t) {
    if (!t)
        return;
    for (uint32_t i = 0; i < t->checkpoints; i++) {
        lm_adapter_free(t->adapter[i]);
        poa_store_close(&t->store[i]);
    }
    poa_bm25_free(t->bm25);
    poa_spans_free(t->spans);
    mem_free(t);
}

static enum loam_status open_checkpoint(struct tuned *t, const char *dir, uint32_t epoch, bool check, struct err *err) {
    char *adapter = mem_printf("%s/epoch-%u.adapter", dir, epoch), *store = mem_printf("%s/epoch-%u.poa", dir, epoch);
    uint32_t i = t->checkpoints;
    enum loam_status s = adapter && store ? lm_adapter_load(&t->adapter[i], adapter, err) : err_set(err, LOAM_ENOMEM, "no memory");
    if (!s) {
        s = poa_store_open(&t->store[i], store, check, err);
        if (s)
            lm_adapter_free(t->adapter[i]);
        else {
            t->stores[i] = &t->store[i];
            t->checkpoints++;
            if (t->store[i].plan.rows != t->rows->data.count)
                s = err_set(err, LOAM_ESTATE, "%s holds %llu rows; the model has %zu", store, (unsigned long long)t->store[i].plan.rows,
                            t->rows->data.count);
        }
    }
    mem_free(adapter);
    mem_free(store);
    return s;
}

enum loam_status tuned_open(struct tuned **out, struct lm_model *m, const struct tuning_rows *rows, const char *dir, const uint32_t *epochs,
                            uint32_t n, bool check, struct err *err) {
    *out = NULL;
    if (!n || n > POA_CHECKPOINTS_MAX)
        return err_set(err, LOAM_EINVAL, "a model of %u checkpoints", n);
    struct tuned *t = mem_zalloc(sizeof *t);
    if (!t)
        return err_set(err, LOAM_ENOMEM, "no memory for a tuned model");
    t->model = m;
    t->rows = rows;
    enum loam_status s = poa_bm25_new(&t->bm25, err);
    if (!s)
        s = poa_spans_new(&t->spans, err);
    for (uint32_t i = 0; !s && i < n; i++)
        s = open_checkpoint(t, dir, epochs[i], check, err);
    for (size_t i = 0; !s && i < rows->data.count; i++) {
        s = poa_bm25_add(t->bm25, rows->row[i].text, strlen(rows->row[i].text), err);
        if (!s)
            s = poa_spans_add(t->spans, rows->data.rows[i].tokens, rows->data.rows[i].n, err);
    }
    if (!s)
        s = poa_spans_index(t->spans, err);
    if (s) {
        tuned_free(t);
        return s;
    }
    *out = t;
    return LOAM_OK;
}

void tuned_scores_clear(struct tuned_scores *s) {
    for (int m = 0; m < POA_METHODS; m++) {
        mem_free(s->score[m]);
        mem_free(s->order[m]);
    }
    mem_free(s->span);
    memset(s, 0, sizeof *s);
}

/* The answer's int8 gradients at every checkpoint. */
static enum loam_status query(struct poa_query *q, struct tuned_scores *out, const struct tuned *t, struct gpu *g, const struct lm_data *d,
                              bool (*cancelled)(void *), void *ctx, struct err *err) {
    enum loam_status s = LOAM_OK;
    for (uint32_t c = 0; !s && c < t->checkpoints; c++) {
        struct lm_grad_sink sink = poa_query_sink(q, c);
        if (cancelled && cancelled(ctx))
            return err_set(err, LOAM_ECANCEL, "cancelled at checkpoint %u of %u", c, t->checkpoints);
        s = lm_grad_rows(g, t->model, t->adapter[c], d, 0, 1, 0, &sink, err);
        if (!s)
            out->query[c] = poa_query_hash(q, c);
    }
    if (!s)
        s = lm_nll_rows(g, t->model, t->adapter[t->checkpoints - 1], d, 0, 1, 0, &out->nll, err);
    return s;
}

static enum loam_status by_method(struct tuned_scores *out, const struct tuned *t, enum poa_method m, const struct poa_query *q,
                                  const uint32_t *output, uint32_t n_output, const char *text, struct err *err) {
    int e = 0;
    out->score[m] = mem_zarray(out->rows, sizeof(int64_t));
    out->order[m] = mem_zarray(out->rows, sizeof(uint64_t));
    if (!out->score[m] || !out->order[m])
        return err_set(err, LOAM_ENOMEM, "no memory for %zu scores", out->rows);
    enum loam_status s;
    if (m == POA_BM25)
        s = poa_bm25_score(t->bm25, out->score[m], text, strlen(text), err);
    else if (m == POA_SPAN) {
        mem_free(out->span);
        out->span = NULL;
        s = poa_spans_find(t->spans, &out->span, &out->spans, out->score[m], output, n_output, SPAN_TOKENS_MIN, SPAN_COUNT_MAX, err);
    } else
        s = poa_score(out->score[m], &e, m, t->stores, t->checkpoints, q, err);
    if (m == POA_FISHER)
        out->exponent = e;
    return s ? s : poa_rank(out->order[m], out->score[m], out->rows, err);
}

enum loam_status tuned_attribute(struct tuned_scores *out, const struct tuned *t, struct gpu *g, const uint32_t *prompt, uint32_t n_prompt,
                                 const uint32_t *output, uint32_t n_output, const char *text, unsigned methods,
                                 bool (*cancelled)(void *ctx), void *ctx, struct err *err) {
    memset(out, 0, sizeof *out);
    out->rows = t->rows->data.count;
    size_t n = (size_t)n_prompt + n_output;
    struct lm_data d;
    struct poa_query q = {0};
    lm_data_init(&d);
    uint32_t *ids = mem_array(n, sizeof *ids);
    uint8_t *train = mem_zalloc(n);
    enum loam_status s = LOAM_OK;
    if (!ids || !train)
        s = err_set(err, LOAM_ENOMEM, "no memory for an answer of %zu tokens", n);
    else if (!n_output || !n_prompt)
        s = err_set(err, LOAM_EINVAL, "an answer without %s", n_output ? "prompt" : "tokens");
    else {
        memcpy(ids, prompt, (size_t)n_prompt * sizeof *ids);
        memcpy(ids + n_prompt, output, (size_t)n_output * sizeof *ids);
        memset(train + n_prompt, 1, n_output);
        s = lm_data_add_tokens(&d, ids, train, (uint32_t)n, 0, err);
    }
    const unsigned gradient = 1u << POA_FISHER | 1u << POA_TRACIN | 1u << POA_GRADDOT;
    if (!s && (methods & gradient)) {
        s = poa_query_init(&q, &t->store[0].plan, t->checkpoints, g, err);
        if (!s)
            s = query(&q, out, t, g, &d, cancelled, ctx, err);
    }
    for (int m = 0; !s && m < POA_METHODS; m++)
        if (methods >> m & 1)
            s = by_method(out, t, (enum poa_method)m, &q, output, n_output, text, err);
    poa_query_clear(&q);
    lm_data_clear(&d);
    mem_free(ids);
    mem_free(train);
    if (s)
        tuned_scores_clear(out);
    return s;
}

enum loam_status tuned_shares(struct poa_shares *out, const struct tuned *t, const int64_t *score, struct err *err) {
    size_t n = t->rows->data.count;
    uint64_t *account = mem_array(n, sizeof *account);
    if (!account)
        return err_set(err, LOAM_ENOMEM, "no memory for %zu accounts", n);
    for (size_t i = 0; i < n; i++)
        account[i] = t->rows->row[i].account;
    enum loam_status s = poa_shares_make(out, score, account, n, err);
    mem_free(account);
    return s;
}
