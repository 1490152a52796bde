#include "flow/train.h"

#include "base/clock.h"
#include "base/entropy.h"
#include "base/file.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "base/text.h"
#include "flow/board.h"
#include "flow/chainio.h"
#include "flow/contribute.h"
#include "flow/device.h"
#include "flow/flow.h"
#include "gpu/ops.h"
#include "lm/export.h"
#include "lm/peft.h"
#include "node/chain.h"
#include "node/job.h"
#include "node/sched.h"
#include "node/topic.h"
#include "record/tree.h"
#include "store/blob.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/banned.h"

#define STATEMENT_LIFE 86400
#define CURVE_MAX 512        /* points of a loss curve in a topic; every second one goes when it is full */
#define LOOK_US 20000        /* how often a cancel is looked for */
#define SEED_TRIES 16        /* a seed's block may be missed when the node slept: another is drawn, and counted on the chain */
#define EV_RECIPE "RecipeRecorded(uint64 indexed model, uint64 indexed trainer, bytes32 recipe, bytes32 dataRoot, uint64 dataCount, uint64 seedBlock)"
#define EV_SEED "SeedFixedFor(uint64 indexed model, bytes32 seed, uint64 seedBlock)"
#define EV_MISSED "SeedMissed(uint64 indexed model, uint64 missedBlock, uint64 seedBlock)"

/* ---------------------------------------------------------------- records */

enum loam_status flow_trained_list(struct node *n, json_t **out, struct err *err) {
    return record_list(n, TABLE_MODEL, NULL, 0, out, err);
}

enum loam_status flow_trained_get(struct node *n, json_t **out, const char *name, struct err *err) {
    const char *plus = strrchr(name, '+');
    name = plus ? plus + 1 : name;
    enum loam_status s = record_get(n, TABLE_MODEL, name, strlen(name), out, err);
    return s == LOAM_ENOTFOUND ? err_set(err, s, "no adapter called \"%s\"; `adapter list` shows what there is", name) : s;
}

static bool name_ok(const char *s) {
    size_t n = strlen(s);
    if (!n || n > TRAIN_NAME_MAX || s[0] == '.' || s[0] == '-')
        return false;
    return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == n;
}

enum loam_status flow_adapter_import(struct node *n, json_t **out, const char *folder, const char *name, const char *base, struct err *err) {
    struct flow_model *m = NULL;
    struct lm_adapter *a = NULL;
    struct lm_hashes hash;
    struct hash32 h, bh;
    char *rel = mem_printf("adapters/%s.adapter", name), *dir = node_path(n, "adapters"), *path = rel ? node_path(n, rel) : NULL;
    json_t *o = NULL;
    enum loam_status s = LOAM_OK;
    *out = NULL;
    if (!rel || !dir || !path)
        s = err_set(err, LOAM_ENOMEM, "no memory");
    else if (!name_ok(name))
        s = err_set(err, LOAM_EINVAL, "\"%.80s\" is no name for an adapter: letters, digits, - _ . and at most %d", name, TRAIN_NAME_MAX);
    else if (store_has(n->store, TABLE_MODEL, name, strlen(name), NULL) == LOAM_OK)
        s = err_set(err, LOAM_EEXIST, "there is an adapter called \"%s\"", name);
    else if (flow_model_is_base(n, name))
        s = err_set(err, LOAM_EEXIST, "there is a base model called \"%s\"", name);
    if (s)
        goto out;
    TRY(flow_model_get(&m, n, base, err));
    size_t len = strlen(folder);
    if (len > 5 && !strcmp(folder + len - 5, ".gguf"))
        TRY(lm_gguf_adapter_import(&a, m->base, folder, err));
    else
        TRY(lm_peft_import(&a, m->base, folder, err));
    TRY(lm_model_hashes(&hash, m->base, err));
    TRY(file_mkdirs(dir, err));
    TRY(lm_adapter_save(a, path, err));
    lm_adapter_hash(h.b, a);
    memcpy(bh.b, hash.base, 32);
    o = json_pack("{s:s s:s s:o s:o s:s s:s s:I s:I s:I}", "name", name, "base", m->base_name, "base_hash", json_hash(&bh), "adapter_hash", json_hash(&h),
                  "adapter_path", path, "imported", folder, "model", (json_int_t)0, "rows", (json_int_t)0, "created_ms", (json_int_t)clock_unix_ms());
    if (!o) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    TRY(record_put(n, TABLE_MODEL, name, strlen(name), o, err));
    json_decref(flow_model_list(n)); /* the models topic */
out:
    lm_adapter_free(a);
    flow_model_put(m);
    mem_free(rel);
    mem_free(dir);
    mem_free(path);
    if (s)
        json_decref(o);
    else
        *out = o;
    return s;
}

enum loam_status flow_adapter_info(struct node *n, json_t **out, const char *name, struct err *err) {
    struct lm_adapter *a;
    struct hash32 now;
    const char *path, *recorded;
    char hex[HASH_HEX_MAX], targets[96] = "";
    uint32_t set = 0;
    json_t *o = NULL;
    enum loam_status s;
    *out = NULL;
    TRY(flow_trained_get(n, &o, name, err));
    TRY(jget_str(&path, o, "adapter_path", err));
    TRY(jget_str(&recorded, o, "adapter_hash", err));
    TRY(lm_adapter_load(&a, path, err));
    lm_adapter_hash(now.b, a);
    for (uint32_t i = 0; i < a->count; i++)
        set |= 1u << a->t[i].kind;
    for (uint32_t k = 0; k < LM_LINEARS; k++)
        if (set >> k & 1) {
            size_t at = strlen(targets);
            snprintf(targets + at, sizeof targets - at, "%s%s", at ? "," : "", lm_linear_name(k));
        }
    hash_hex(hex, &now);
    s = jset(o, "file",
             json_pack("{s:I s:f s:f s:b s:s s:I s:I s:s s:b}", "rank", (json_int_t)a->rank, "alpha", (double)a->alpha, "scale", (double)a->scale,
                       "rslora", a->rslora, "targets", targets, "tensors", (json_int_t)a->count, "parameters", (json_int_t)a->size, "hash",
                       hex, "as_recorded", !strcmp(hex, recorded)), err);
    lm_adapter_free(a);
out:
    if (s)
        json_decref(o);
    else
        *out = o;
    return s;
}

enum loam_status flow_adapter_export(struct node *n, json_t **out, const char *name, const char *to, const char *format, struct err *err) {
    bool gguf = !strcmp(format, "gguf");
    struct flow_model *m = NULL;
    struct lm_adapter *a = NULL;
    const char *path, *base, *hash;
    json_t *o = NULL;
    enum loam_status s;
    *out = NULL;
    TRY(flow_trained_get(n, &o, name, err));
    TRY(jget_str(&path, o, "adapter_path", err));
    TRY(jget_str(&base, o, "base", err));
    TRY(jget_str(&hash, o, "adapter_hash", err));
    TRY(flow_model_get(&m, n, base, err));
    TRY(lm_adapter_load(&a, path, err));
    if (gguf)
        TRY(lm_gguf_adapter_export(a, m->base, to, err));
    else
        TRY(lm_peft_export(a, m->base, to, m->base->name, err));
    *out = json_pack("{s:s s:s s:s}", "format", format, gguf ? "file" : "folder", to, "hash", hash);
    if (!*out)
        s = err_set(err, LOAM_ENOMEM, "no memory");
out:
    lm_adapter_free(a);
    flow_model_put(m);
    json_decref(o);
    return s;
}

void flow_tuned_close(struct flow_tuned *t) {
    tuned_free(t->t);
    tuning_rows_clear(&t->rows);
    gpu_close(t->gpu);
    flow_model_put(t->m);
    json_decref(t->record);
    memset(t, 0, sizeof *t);
}

static enum loam_status read_rows(struct tuning_rows *rows, struct node *n, struct lm_model *m, const json_t *record, uint32_t max_tokens,
                                  struct err *err) {
    struct hash32 blob, root, got;
    struct file_map map = {0};
    enum loam_status s;
    TRY(jget_hash(&blob, record, "rows_blob", err));
    TRY(jget_hash(&root, record, "data_root", err));
    TRY(blob_map(n->blobs, &blob, true, &map, err));
    s = tuning_rows_read(rows, m, (const char *)map.data, map.len, max_tokens, err);
    file_unmap(&map);
    if (s)
        goto out;
    got = tuning_rows_root(rows);
    if (!hash_eq(&got, &root))
        s = err_set(err, LOAM_EHASH, "the rows do not have the model's data root");
out:
    return s;
}

enum loam_status flow_tuned_open(struct flow_tuned *out, struct node *n, const char *name, bool check, struct err *err) {
    enum loam_status s;
    const char *base, *dir, *hyper;
    json_t *list, *c;
    uint32_t epochs[POA_CHECKPOINTS_MAX], count = 0;
    struct lm_hyper h;
    size_t i;
    memset(out, 0, sizeof *out);
    tuning_rows_init(&out->rows);
    TRY(flow_trained_get(n, &out->record, name, err));
    if (json_object_get(out->record, "imported")) {
        s = err_set(err, LOAM_ESTATE, "the adapter %s was imported: its rows are not known", name);
        goto out;
    }
    TRY(jget_str(&base, out->record, "base", err));
    TRY(jget_str(&dir, out->record, "run_dir", err));
    TRY(jget_str(&hyper, out->record, "hyper", err));
    TRY(jget_array(&list, out->record, "checkpoints", err));
    TRY(lm_hyper_parse(&h, hyper, strlen(hyper), err));
    json_array_foreach(list, i, c) {
        uint64_t epoch;
        TRY(jget_u64(&epoch, c, "epoch", err));
        if (count == POA_CHECKPOINTS_MAX || epoch > UINT32_MAX) {
            s = err_set(err, LOAM_EPARSE, "the model's list of checkpoints is malformed");
            goto out;
        }
        epochs[count++] = (uint32_t)epoch;
    }
    TRY(flow_model_get(&out->m, n, base, err));
    TRY(read_rows(&out->rows, n, out->m->base, out->record, h.max_tokens, err));
    TRY(tuned_open(&out->t, out->m->base, &out->rows, dir, epochs, count, check, err));
    TRY(flow_gpu_open(&out->gpu, n, err));
out:
    if (s)
        flow_tuned_close(out);
    return s;
}

/* ---------------------------------------------------------------- rows */

struct gather {
    struct flow *f;
    struct tuning_rows *rows;
    struct lm_model *m;
    struct buf *blob;
    uint64_t account, datanet, contribution;
    uint32_t max_tokens;
    uint64_t twice;
};

static enum loam_status gather_row(void *arg, uint64_t index, const struct row *row, struct err *err) {
    struct gather *g = arg;
    size_t at = g->rows->data.count;
    enum loam_status s = tuning_rows_add(g->rows, g->m, row, g->account, g->datanet, g->contribution, index, g->max_tokens, err);
    if (s == LOAM_EEXIST) { /* the first contributor keeps the row */
        g->twice++;
        return LOAM_OK;
    }
    if (s)
        return err_prefix(err, s, "row %llu of contribution %llu", (unsigned long long)index, (unsigned long long)g->contribution);
    return tuning_row_write(g->blob, &g->rows->row[at], row, err);
}

static enum loam_status rows_of_datanet(struct gather *g, uint64_t datanet, struct err *err) {
    json_t *list = NULL, *c;
    size_t i;
    enum loam_status s;
    g->datanet = datanet;
    TRY(contribution_list(g->f, &list, datanet, err));
    json_array_foreach(list, i, c) {
        TRY(jget_u64(&g->account, c, "account", err));
        TRY(jget_u64(&g->contribution, c, "contribution", err));
        s = contribution_rows(g->f, c, gather_row, g, err);
        if (s == LOAM_ENOTFOUND) {
            flow_note(g->f, "contribution %llu is left out: its rows are not in this node", (unsigned long long)g->contribution);
            s = LOAM_OK;
        }
        if (s)
            goto out;
    }
out:
    json_decref(list);
    return s;
}

static enum loam_status rows_of_file(struct gather *g, const char *path, struct err *err) {
    struct file_map m;
    enum loam_status s = file_map(&m, path, err);
    if (s)
        return s;
    const char *p = m.data ? (const char *)m.data : "", *end = p + m.len; /* an empty file maps to NULL */
    p += text_bom(p, m.len);
    uint64_t line = 1;
    for (uint64_t index = 0; !s && p < end; line++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((nl ? nl : end) - p), blank = 0;
        while (blank < len && (p[blank] == ' ' || p[blank] == '\t' || p[blank] == '\r'))
            blank++;
        if (blank < len) {
            struct row row;
            s = row_parse(&row, p, len, err);
            if (!s) {
                s = gather_row(g, index++, &row, err);
                row_clear(&row);
            }
            if (s)
                s = err_prefix(err, s, "%s:%llu", path, (unsigned long long)line);
        }
        p += len + 1;
    }
    file_unmap(&m);
    return s;
}

struct by_hash {
    struct hash32 trained, hash;
    size_t row;
};

/* By what is trained, then by the row. */
static int by_hash(const void *a, const void *b) {
    const struct by_hash *x = a, *y = b;
    int c = memcmp(x->trained.b, y->trained.b, 32);
    return c ? c : memcmp(x->hash.b, y->hash.b, 32);
}

/* keccak of the tokens that are trained: equal for two questions with the same answer. */
static struct hash32 trained_hash(const struct lm_example *x) {
    struct keccak k;
    struct hash32 h;
    uint8_t w[4];
    keccak_init(&k);
    for (uint32_t i = 0; i < x->n; i++)
        if (x->train[i]) {
            put_le32(w, x->tokens[i]);
            keccak_add(&k, w, 4);
        }
    keccak_end(&k, h.b);
    return h;
}

/* How many of the ordered rows to keep back for `share` k: to the end of the k-th's answer, or where nothing were left to train, to its
 * beginning; k where all rows have one answer. */
static size_t whole_answers(const struct by_hash *order, size_t n, size_t k) {
    size_t from = k - 1, to = k;
    while (to < n && hash_eq(&order[to].trained, &order[k - 1].trained))
        to++;
    while (from && hash_eq(&order[from - 1].trained, &order[k - 1].trained))
        from--;
    return to < n ? to : from ? from : k;
}

/* The rows whose answers have the lowest hashes are kept back to evaluate on: the same ones whatever the order, rows with the same
 * answer (a fact asked in two ways) on one side, and none of them is trained, recorded in the data root, or paid. They leave `rows` and
 * the text of the blob. */
static enum loam_status keep_back(const struct flow_train *q, struct lm_model *m, struct tuning_rows *rows, struct lm_data *eval, struct buf *text,
                                  struct err *err) {
    size_t n = rows->data.count, k = lm_eval_rows(n, q->hyper.eval), line = 0;
    struct buf left = BUF_INIT(LM_DATA_BYTES_MAX);
    enum loam_status s = LOAM_OK;
    if (!k)
        return err_set(err, LOAM_EINVAL, "a part to evaluate on needs two rows at least");
    struct by_hash *order = mem_array(n, sizeof *order);
    uint8_t *kept = mem_zalloc(n);
    if (!order || !kept) {
        s = err_set(err, LOAM_ENOMEM, "no memory for %zu rows", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        order[i] = (struct by_hash){trained_hash(&rows->data.rows[i]), rows->row[i].hash, i};
    qsort(order, n, sizeof *order, by_hash);
    k = whole_answers(order, n, k);
    for (size_t i = 0; i < k; i++)
        kept[order[i].row] = 1;
    const char *p = (const char *)text->data, *end = p + text->len;
    for (; p < end; line++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((nl ? nl + 1 : end) - p);
        const struct lm_example *x = &rows->data.rows[line];
        LOAM_ASSERT(line < n);
        if (kept[line])
            TRY(lm_data_add_tokens(eval, x->tokens, x->train, x->n, x->id, err));
        else
            TRY(buf_add(&left, p, len, err));
        p += len;
    }
    tuning_rows_clear(rows);
    TRY(tuning_rows_read(rows, m, (const char *)left.data, left.len, q->hyper.max_tokens, err));
    buf_clear(text);
    TRY(buf_add(text, left.data, left.len, err));
out:
    buf_clear(&left);
    mem_free(order);
    mem_free(kept);
    return s;
}

/* Rows as tokens and as a blob; the blob's hash. */
static enum loam_status gather(struct flow *f, const struct flow_train *q, struct lm_model *m, struct tuning_rows *rows, struct lm_data *eval,
                               struct hash32 *blob, struct err *err) {
    struct buf text = BUF_INIT(LM_DATA_BYTES_MAX);
    struct gather g = {.f = f, .rows = rows, .m = m, .blob = &text, .max_tokens = q->hyper.max_tokens};
    enum loam_status s = LOAM_OK;
    if (!q->n_files)
        s = rows_of_datanet(&g, q->datanet, err);
    for (size_t i = 0; !s && i < q->n_files; i++) {
        g.account = ACCOUNT_FIRST_USER + i;
        g.contribution = i + 1;
        s = rows_of_file(&g, q->files[i], err);
    }
    if (!s && !rows->data.count)
        s = q->n_files ? err_set(err, LOAM_EINVAL, "%s%s: no rows in it", q->files[0], q->n_files > 1 ? " and the others" : "")
                       : err_set(err, LOAM_ESTATE, "datanet %llu has no rows that this node holds; `contribute` some first",
                                 (unsigned long long)q->datanet);
    if (!s && g.twice)
        flow_note(f, "%llu rows that stand twice were taken once", (unsigned long long)g.twice);
    if (!s && q->hyper.eval > 0)
        s = keep_back(q, m, rows, eval, &text, err);
    if (!s)
        s = blob_put(f->node->blobs, blob, text.data, text.len, err);
    buf_clear(&text);
    return s;
}

/* ---------------------------------------------------------------- the run, as the console sees it */

#define TRAIN_NICE 5

struct watch {
    struct flow *f;
    const struct flow_train *q;
    bool held;              /* a compute turn */
    enum loam_status over;  /* not 0: stop */
    uint64_t looked_us, started_us;
    json_t *curve;          /* [[step, loss]] */
    uint64_t stride, next;  /* a point every `stride` steps */
    json_t *evals;          /* [[step, loss]] */
    double best_loss;
    uint64_t best_step;
    json_t *checkpoints;
    struct lm_train_metrics last;
    const char *base;
    size_t rows;
    struct err err;
};

static void watch_topic(struct watch *w, const char *state) {
    const struct lm_train_metrics *m = &w->last;
    json_t *v = json_pack("{s:s s:I s:s s:s s:s s:s s:I s:I s:I s:I s:f s:f s:I s:f s:f s:f s:I s:I s:n s:O s:O}", "run", w->q->name, "job",
                          (json_int_t)(w->f->job ? job_id(w->f->job) : 0), "state", state, "model", w->q->name, "base", w->base,
                          "adapter", w->q->name, "step", (json_int_t)m->step, "steps", (json_int_t)m->steps, "epoch",
                          (json_int_t)m->epoch, "epochs", (json_int_t)m->epochs, "loss", m->loss, "lr", m->lr, "tokens",
                          (json_int_t)m->tokens, "tokens_per_s", m->tok_s, "elapsed_s",
                          (double)(clock_mono_us() - w->started_us) / 1e6, "eta_s", m->eta_s, "memory_bytes", (json_int_t)m->rss, "rows",
                          (json_int_t)w->rows, "error", "loss_curve", w->curve, "checkpoints", w->checkpoints);
    size_t n = json_array_size(w->evals);
    json_t *e = n ? json_pack("{s:O s:f s:f s:I}", "eval_curve", w->evals, "eval_loss", json_real_value(json_array_get(json_array_get(w->evals, n - 1), 1)),
                              "best_loss", w->best_loss, "best_step", (json_int_t)w->best_step)
                  : json_pack("{s:n s:n s:n s:n}", "eval_curve", "eval_loss", "best_loss", "best_step"); /* nothing of an earlier run's */
    if (v)
        json_object_update(v, e);
    json_decref(e);
    topic_update(w->f->node, "train", v);
}

static void watch_point(struct watch *w, uint64_t step, double loss) {
    if (step < w->next)
        return;
    if (json_array_size(w->curve) >= CURVE_MAX) { /* every second one stays */
        for (size_t i = json_array_size(w->curve); i-- > 0;)
            if (i % 2)
                json_array_remove(w->curve, i);
        w->stride *= 2;
    }
    json_array_append_new(w->curve, json_pack("[I, f]", (json_int_t)step, loss));
    w->next = step + w->stride;
}

/* Between steps: pause, cancel, a turn for others. */
static void watch_rest(struct watch *w) {
    if (w->over)
        return;
    if (w->held)
        sched_leave(w->f->node->sched);
    w->held = false;
    w->over = flow_check(w->f, &w->err);
    if (!w->over)
        w->over = sched_enter(w->f->node->sched, SCHED_TRAIN, w->f->job, &w->err);
    w->held = !w->over;
}

static void on_metrics(void *ctx, const struct lm_train_metrics *m) {
    struct watch *w = ctx;
    w->last = *m;
    watch_point(w, m->step, m->loss);
    watch_topic(w, "running");
    flow_progress(w->f, m->step, m->steps, "step %llu of %llu, loss %.4f, %.0f tok/s, %.0f s left", (unsigned long long)m->step,
                  (unsigned long long)m->steps, m->loss, m->tok_s, m->eta_s);
    watch_rest(w);
}

static void on_evaluated(void *ctx, uint64_t step, double loss, bool best) {
    struct watch *w = ctx;
    if (json_array_size(w->evals) >= CURVE_MAX) /* every second one stays */
        for (size_t i = json_array_size(w->evals); i-- > 0;)
            if (i % 2)
                json_array_remove(w->evals, i);
    json_array_append_new(w->evals, json_pack("[I, f]", (json_int_t)step, loss));
    if (best) {
        w->best_loss = loss;
        w->best_step = step;
    }
    flow_note(w->f, "evaluation after step %llu: loss %.4f%s", (unsigned long long)step, loss, best ? ", the lowest so far" : "");
    watch_topic(w, "running");
}

static void on_checkpoint(void *ctx, uint32_t epoch, const char *path) {
    struct watch *w = ctx;
    (void)path;
    json_array_append_new(w->checkpoints, json_pack("{s:I s:I}", "step", (json_int_t)w->last.step, "epoch", (json_int_t)epoch));
}

/* Asked before every operation: must be cheap. */
static enum lm_train_ask on_ask(void *ctx) {
    struct watch *w = ctx;
    if (w->over)
        return LM_CANCEL;
    if (sched_wanted(w->f->node->sched)) {
        w->over = sched_yield_turn(w->f->node->sched, w->f->job, &w->err);
        w->held = !w->over;
    } else {
        uint64_t now = clock_mono_us();
        if (now - w->looked_us > LOOK_US) {
            w->looked_us = now;
            if (w->f->job && job_cancelled(w->f->job))
                w->over = err_set(&w->err, LOAM_ECANCEL, "cancelled");
        }
    }
    return w->over ? LM_CANCEL : LM_GO_ON;
}

static void on_gradients(void *ctx, uint32_t c, uint32_t n, size_t done, size_t total) {
    struct watch *w = ctx;
    flow_progress(w->f, (uint64_t)c * total + done, (uint64_t)n * total, "gradients of %zu rows at checkpoint %u of %u", total, c + 1, n);
    if (done % 8 == 0 || done == total)
        watch_rest(w);
}

static void on_store(void *ctx, uint32_t c, uint32_t n, double pass, double keeping, double making) {
    struct watch *w = ctx;
    flow_note(w->f, "gradients at checkpoint %u of %u: %.2f s, of them %.1f %% in keeping them; %.2f s to make the store", c + 1, n, pass,
              pass > 0 ? 100 * keeping / pass : 0, making);
}

static enum loam_status run(struct flow *f, const struct flow_train *q, struct flow_model *m, const struct tuning_rows *rows,
                            const struct lm_data *eval, const uint8_t seed[32], const char *dir, struct lm_train_result *res, struct lm_train_metrics *last,
                            struct err *err) {
    struct gpu *g;
    struct lm_train_plan plan;
    struct watch w = {.f = f, .q = q, .stride = 1, .base = m->base_name, .rows = rows->data.count, .started_us = clock_mono_us()};
    struct tuning_opt opt = {.hyper = q->hyper, .eval = eval->count ? eval : NULL, .dir = dir, .fine = true, .poa_budget = option_uint(f->node->opt, "attribute.budget"),
                             .ranks = q->ranks, .hosts = q->hosts};
    char *base = NULL, *rel = NULL;
    opt.backend = flow_backend(f->node);
    if (q->ranks > 1) { /* models.h: a file, or a folder of that name */
        rel = mem_printf("models/%s.gguf", m->base_name);
        base = rel ? node_path(f->node, rel) : NULL;
        if (base && !file_exists(base))
            base[strlen(base) - strlen(".gguf")] = 0;
        mem_free(rel);
        if (!base)
            return err_set(err, LOAM_ENOMEM, "no memory");
        opt.base = base;
    }
    memcpy(opt.seed, seed, 32);
    const struct tuning_hooks hooks = {{.ctx = &w, .metrics = on_metrics, .checkpoint = on_checkpoint, .evaluated = on_evaluated, .ask = on_ask}, on_gradients, on_store};
    /* This thread, and with it those that it starts, yields to whoever answers somebody: consoles, the node's loop, `ask`. It costs
     * a training nothing where nobody else wants the cores. */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), TRAIN_NICE);
    enum loam_status s = flow_gpu_open(&g, f->node, err);
    if (s) {
        mem_free(base);
        return s;
    }
    w.curve = json_array();
    w.checkpoints = json_array();
    w.evals = json_array();
    w.last.epochs = q->hyper.epochs;
    if (!w.curve || !w.checkpoints || !w.evals)
        s = err_set(err, LOAM_ENOMEM, "no memory for a curve");
    if (!s)
        s = sched_enter(f->node->sched, SCHED_TRAIN, f->job, err);
    if (!s) {
        w.held = true;
        watch_topic(&w, "running");
        s = tuning_run(res, g, m->base, rows, &opt, &hooks, &plan, err);
        if (s && s != LOAM_ECANCEL && g->lost && flow_fallback(f->node)) { /* the same bits, from the last state */
            flow_note(f, "%s; the CPU goes on", err ? err->text : "the device failed");
            gpu_close(g);
            g = NULL;
            s = gpu_open(&g, &(struct gpu_config){NULL, (int)option_uint(f->node->opt, "compute.threads")}, err);
            if (!s)
                s = tuning_run(res, g, m->base, rows, &opt, &hooks, &plan, err);
        }
        if (s == LOAM_ECANCEL && w.over)
            s = w.over;
        if (w.held)
            sched_leave(f->node->sched);
    }
    if (s && err && w.over == s && w.err.text[0])
        *err = w.err;
    *last = w.last;
    watch_topic(&w, !s ? "done" : s == LOAM_ECANCEL ? (f->job && !job_cancelled(f->job) ? "paused" : "cancelled") : "failed");
    if (s && err)
        topic_update(f->node, "train", json_pack("{s:s}", "error", err->text));
    json_decref(w.curve);
    json_decref(w.checkpoints);
    mem_free(base);
    json_decref(w.evals);
    gpu_close(g);
    return s;
}

/* ---------------------------------------------------------------- what the run left, as blobs and roots */

struct product {
    struct hash32 adapter, checkpoint_root, step_root, damping_root, rows_root, rows_fine_root, steps_blob, bundle, rows_blob, data_root;
    uint64_t step_count, bundle_len;
    json_t *checkpoints, *stores, *damping;
    uint32_t k;
    int rho_log2;
};

/* A file of the run becomes a blob, and stands in the run's folder as a link to it where the file system can. */
static enum loam_status to_blob(struct node *n, struct hash32 *out, const char *path, struct err *err) {
    enum loam_status s = blob_put_file(n->blobs, out, path, err);
    char *blob = s ? NULL : blob_path(n->blobs, out), *tmp = mem_printf("%s.link", path);
    if (blob && tmp && !link(blob, tmp) && rename(tmp, path))
        unlink(tmp); /* the copy stays: only space is lost */
    mem_free(blob);
    mem_free(tmp);
    return s;
}

static enum loam_status checkpoints_of(struct flow *f, struct product *p, const struct lm_train_result *r, const char *dir, struct err *err) {
    struct tree_stream t;
    enum loam_status s = LOAM_OK;
    tree_stream_init(&t);
    p->checkpoints = json_array();
    p->stores = json_array();
    for (uint32_t i = 0; !s && i < r->checkpoints; i++) {
        uint8_t leaf[48];
        struct hash32 blob, store, h;
        uint64_t bytes = 0;
        char *a = mem_printf("%s/epoch-%u.adapter", dir, r->checkpoint_epoch[i]), *g = mem_printf("%s/epoch-%u.poa", dir, r->checkpoint_epoch[i]);
        memcpy(h.b, r->checkpoint_hash[i], 32);
        put_be64(leaf, r->checkpoint_epoch[i]);
        put_be64(leaf + 8, r->checkpoint_step[i]);
        memcpy(leaf + 16, h.b, 32);
        tree_stream_add(&t, leaf, sizeof leaf);
        s = a && g ? to_blob(f->node, &blob, a, err) : err_set(err, LOAM_ENOMEM, "no memory");
        flow_progress(f, i, r->checkpoints, "hashing the gradients of checkpoint %u of %u", i + 1, r->checkpoints);
        if (!s)
            s = to_blob(f->node, &store, g, err);
        if (!s)
            s = blob_size(f->node->blobs, &store, &bytes, err);
        if (!s) {
            json_array_append_new(p->checkpoints,
                                  json_pack("{s:I s:I s:o s:o}", "epoch", (json_int_t)r->checkpoint_epoch[i], "step",
                                            (json_int_t)r->checkpoint_step[i], "adapter_hash", json_hash(&h), "adapter_blob", json_hash(&blob)));
            json_array_append_new(p->stores, json_pack("{s:I s:o s:I}", "checkpoint", (json_int_t)i, "blob", json_hash(&store), "bytes", (json_int_t)bytes));
        }
        mem_free(a);
        mem_free(g);
    }
    p->checkpoint_root = tree_stream_root(&t);
    return s;
}

static enum loam_status steps_of(struct flow *f, struct product *p, const char *dir, struct err *err) {
    struct tree_stream t;
    struct buf b = BUF_INIT((size_t)1 << 29);
    char *path = mem_printf("%s/steps", dir);
    enum loam_status s = path ? file_read(&b, path, err) : err_set(err, LOAM_ENOMEM, "no memory");
    tree_stream_init(&t);
    for (size_t at = 0; !s && at + LM_STEP_BYTES <= b.len; at += LM_STEP_BYTES)
        tree_stream_add(&t, b.data + at, LM_STEP_BYTES);
    p->step_root = tree_stream_root(&t);
    p->step_count = b.len / LM_STEP_BYTES;
    if (!s)
        s = blob_put(f->node->blobs, &p->steps_blob, b.data, b.len, err);
    buf_clear(&b);
    mem_free(path);
    return s;
}

static enum loam_status stores_of(struct flow *f, struct product *p, const struct lm_train_result *r, struct lm_model *m,
                                  const struct tuning_rows *rows, const char *dir, struct err *err) {
    struct tuned *t;
    enum loam_status s = tuned_open(&t, m, rows, dir, r->checkpoint_epoch, r->checkpoints, false, err);
    if (s)
        return s;
    flow_progress(f, 0, 0, "root of the gradient rows");
    s = poa_rows_root(&p->rows_root, t->stores, t->checkpoints, err);
    p->rows_fine_root = poa_fine_root(t->stores, t->checkpoints);
    p->damping_root = poa_damping_root(t->stores, t->checkpoints);
    p->k = t->store[0].plan.k;
    p->rho_log2 = t->store[0].plan.rho_log2;
    p->damping = json_array();
    for (uint32_t c = 0; !s && c < t->checkpoints; c++) {
        json_t *n = json_array();
        for (uint32_t l = 0; l < t->store[c].plan.tensors; l++)
            json_array_append_new(n, json_integer((json_int_t)t->store[c].t[l].n));
        json_array_append_new(p->damping, n);
        json_object_set_new(json_array_get(p->checkpoints, c), "weight_log2", json_integer(t->store[c].weight_log2));
    }
    tuned_free(t);
    return s;
}

static void product_clear(struct product *p) {
    json_decref(p->checkpoints);
    json_decref(p->stores);
    json_decref(p->damping);
}

/* ---------------------------------------------------------------- statements */

static enum loam_status hyper_string(char **out, const struct lm_hyper *h, struct hash32 *hash, struct err *err) {
    struct buf b = BUF_INIT(4096);
    enum loam_status s = lm_hyper_text(&b, h, err);
    if (!s && hash)
        *hash = hash_of(b.data, b.len);
    *out = s ? NULL : (char *)buf_take(&b, NULL);
    buf_clear(&b);
    return s;
}

/* The recipe on the chain and the seed that follows from it; each step once. */
static enum loam_status record_recipe(struct flow *f, const struct flow_train *q, const struct lm_hashes *hash, const struct hash32 *data_root,
                                      uint64_t rows, const struct hash32 *hyper, json_t **step, uint64_t *model, uint8_t seed[32], struct err *err) {
    struct st_recipe r;
    struct sig65 sig;
    struct outbox_result res = {0};
    struct abi_doc ev = {0};
    struct abi_value fields[ST_FIELDS_MAX], args[2];
    struct hash32 recipe_hash, h;
    uint64_t trainer, seed_block;
    json_t *done = NULL;
    char sig_text[SIG_HEX_MAX];
    enum loam_status s;
    memset(&r, 0, sizeof r);
    const char *relay = q->relay ? q->relay : q->key;
    s = flow_step_get(f, "recipe", step, err);
    if (s == LOAM_ENOTFOUND) {
        TRY(account_of_key(f->node, &trainer, q->key, err));
        r.trainer = trainer;
        memcpy(r.base_hash.b, hash->base, 32);
        memcpy(r.tokenizer_hash.b, hash->tokenizer, 32);
        memcpy(r.template_hash.b, hash->tmpl, 32);
        r.data_root = *data_root;
        r.data_count = rows;
        r.hyper_hash = *hyper;
        r.arithmetic = LM_ARITHMETIC;
        TRY(st_nonce(&r.nonce, err));
        TRY(st_expiry(f->node, STATEMENT_LIFE, &r.expiry, err));
        TRY(flow_unlock(f, q->key, err));
        TRY(st_sign(f->node, &sig, &recipe_hash, q->key, "Models", ST_Recipe, &r, err));
        *step = json_pack("{s:o s:o s:o}", "recipe", st_to_json(ST_Recipe, &r), "recipe_hash", json_hash(&recipe_hash), "recipe_signature", json_sig(&sig));
        if (!*step) {
            s = err_set(err, LOAM_ENOMEM, "no memory");
            goto out;
        }
        TRY(flow_step_put(f, "recipe", *step, err));
    } else if (s)
        goto out;
    json_t *fields_of;
    TRY(jget_object(&fields_of, *step, "recipe", err));
    TRY(st_from_json(&r, ST_Recipe, fields_of, err));
    TRY(jget_sig(&sig, *step, "recipe_signature", err));
    (void)sig_text;
    TRY(flow_unlock(f, relay, err));
    args[0] = st_abi(fields, ST_Recipe, &r);
    args[1] = abi_bytes(sig.b, sizeof sig.b);
    TRY(fsend(f, &res, &(struct fcall){.step = "recipe-tx", .from = relay, .contract = "Models", .sig = "recipe(%T,bytes)", .ids = {ST_Recipe}, .id_count = 1, .what = "recipe of a training"}, args, 2, err));
    TRY(fevent(f->node, &ev, &res, "Models", EV_RECIPE, err));
    TRY(abi_get_u64(model, abi_field(&ev, "model"), err));
    TRY(abi_get_u64(&seed_block, abi_field(&ev, "seedBlock"), err));
    s = flow_step_get(f, "seed", &done, err);
    if (s == LOAM_OK) {
        TRY(jget_hash(&h, done, "seed", err));
        memcpy(seed, h.b, 32);
        goto out;
    }
    if (s != LOAM_ENOTFOUND)
        goto out;
    for (int i = 0; i < SEED_TRIES; i++) {
        char name[32];
        snprintf(name, sizeof name, "seed-tx-%d", i);
        flow_progress(f, 0, 0, "waiting for block %llu, whose hash gives the seed", (unsigned long long)seed_block + 1);
        TRY(fwait_block(f, seed_block, err));
        outbox_result_clear(&res);
        abi_clear(&ev);
        args[0] = abi_u64(*model);
        TRY(fsend(f, &res, &(struct fcall){.step = name, .from = relay, .contract = "Models", .sig = "fixSeed(uint64)", .what = "seed of a training"}, args, 1, err));
        s = fevent(f->node, &ev, &res, "Models", EV_SEED, err);
        if (s == LOAM_OK) {
            TRY(abi_get_b32(&h, abi_field(&ev, "seed"), err));
            memcpy(seed, h.b, 32);
            json_t *o = json_pack("{s:o}", "seed", json_hash(&h));
            s = o ? flow_step_put(f, "seed", o, err) : err_set(err, LOAM_ENOMEM, "no memory");
            json_decref(o);
            goto out;
        }
        TRY(fevent(f->node, &ev, &res, "Models", EV_MISSED, err));
        TRY(abi_get_u64(&seed_block, abi_field(&ev, "seedBlock"), err));
    }
    s = err_set(err, LOAM_ETIMEOUT, "the seed's block was missed %d times", SEED_TRIES);
out:
    outbox_result_clear(&res);
    abi_clear(&ev);
    json_decref(done);
    return s;
}

static enum loam_status bundle(struct flow *f, struct product *p, const struct flow_train *q, struct flow_model *m, const struct lm_hashes *hash,
                               const json_t *recipe, const char *hyper, const uint8_t seed[32], const struct lm_train_result *r, struct err *err) {
    struct hash32 base, tok, tmpl, sd;
    memcpy(base.b, hash->base, 32);
    memcpy(tok.b, hash->tokenizer, 32);
    memcpy(tmpl.b, hash->tmpl, 32);
    memcpy(sd.b, seed, 32);
    json_t *last = json_array_get(p->checkpoints, r->checkpoints - 1);
    json_t *b = json_pack("{s:s s:s s:{s:s s:o s:o s:o} s:s s:o s:o s:O s:O s:o s:I}", "format", FLOW_BUNDLE_FORMAT, "name", q->name, "base", "name",
                          m->base_name, "hash", json_hash(&base), "tokenizer", json_hash(&tok), "template", json_hash(&tmpl), "hyper", hyper,
                          "seed", json_hash(&sd), "rows", json_hash(&p->rows_blob), "adapter", json_object_get(last, "adapter_blob"),
                          "checkpoints", p->checkpoints, "steps", json_hash(&p->steps_blob), "step_count", (json_int_t)p->step_count);
    json_t *poa = json_pack("{s:s s:I s:i s:O s:O s:o s:o s:o}", "method", "fisher", "k", (json_int_t)p->k, "rho_log2", p->rho_log2, "stores", p->stores,
                            "damping", p->damping, "rows_root", json_hash(&p->rows_root), "rows_fine_root", json_hash(&p->rows_fine_root),
                            "damping_root", json_hash(&p->damping_root));
    enum loam_status s;
    TRY(jset(b, "poa", poa, err));
    if (recipe) {
        TRY(jset(b, "recipe", json_incref(json_object_get(recipe, "recipe")), err));
        TRY(jset(b, "recipe_signature", json_incref(json_object_get(recipe, "recipe_signature")), err));
    }
    TRY(json_blob_put(f->node, &p->bundle, &p->bundle_len, b, err));
out:
    json_decref(b);
    return s;
}

static enum loam_status publish(struct flow *f, const struct flow_train *q, const struct product *p, const json_t *recipe, uint64_t model,
                                const uint8_t seed[32], uint32_t checkpoints, json_t **step, struct err *err) {
    struct st_training t;
    struct sig65 sig;
    struct outbox_result res = {0};
    struct abi_value fields[ST_FIELDS_MAX], args[2];
    struct hash32 hash;
    json_t *o;
    enum loam_status s = flow_step_get(f, "training", step, err);
    memset(&t, 0, sizeof t);
    if (s == LOAM_ENOTFOUND) {
        TRY(account_of_key(f->node, &t.trainer, q->key, err));
        t.model = model;
        TRY(jget_hash(&t.recipe_hash, recipe, "recipe_hash", err));
        memcpy(t.seed.b, seed, 32);
        t.adapter_hash = p->adapter;
        t.checkpoint_root = p->checkpoint_root;
        t.checkpoint_count = checkpoints;
        t.step_root = p->step_root;
        t.step_count = p->step_count;
        t.damping_root = p->damping_root;
        t.rows_root = p->rows_root;
        t.rows_fine_root = p->rows_fine_root;
        t.data_hash = p->bundle;
        t.data_length = p->bundle_len;
        t.data_locator = "";
        TRY(st_nonce(&t.nonce, err));
        TRY(st_expiry(f->node, STATEMENT_LIFE, &t.expiry, err));
        TRY(flow_unlock(f, q->key, err));
        TRY(st_sign(f->node, &sig, &hash, q->key, "Models", ST_Training, &t, err));
        *step = json_pack("{s:o s:o s:o}", "training", st_to_json(ST_Training, &t), "training_hash", json_hash(&hash), "training_signature", json_sig(&sig));
        if (!*step) {
            s = err_set(err, LOAM_ENOMEM, "no memory");
            goto out;
        }
        TRY(flow_step_put(f, "training", *step, err));
    } else if (s)
        goto out;
    TRY(jget_object(&o, *step, "training", err));
    TRY(st_from_json(&t, ST_Training, o, err));
    TRY(jget_sig(&sig, *step, "training_signature", err));
    const char *relay = q->relay ? q->relay : q->key;
    TRY(flow_unlock(f, relay, err));
    args[0] = st_abi(fields, ST_Training, &t);
    args[1] = abi_bytes(sig.b, sizeof sig.b);
    TRY(fsend(f, &res, &(struct fcall){.step = "publish-tx", .from = relay, .contract = "Models", .sig = "publish(%T,bytes)", .ids = {ST_Training}, .id_count = 1, .what = "training of a model"}, args, 2, err));
out:
    outbox_result_clear(&res);
    return s;
}

/* ---------------------------------------------------------------- the flow */

/* The model of that name, if it came from the same base, rows and hyper-parameters. */
static enum loam_status there_already(struct flow *f, json_t **out, const struct flow_train *q, const struct lm_hashes *hash,
                                      const struct hash32 *root, const char *hyper, struct err *err) {
    struct hash32 base, data;
    const char *h;
    json_t *r;
    enum loam_status s = record_get(f->node, TABLE_MODEL, q->name, strlen(q->name), &r, err);
    if (s)
        return s;
    TRY(jget_hash(&base, r, "base_hash", err));
    TRY(jget_hash(&data, r, "data_root", err));
    TRY(jget_str(&h, r, "hyper", err));
    if (memcmp(base.b, hash->base, 32) || !hash_eq(&data, root) || strcmp(h, hyper))
        s = err_set(err, LOAM_EEXIST, "there is another model called \"%s\" (other rows, base or hyper-parameters); choose another name", q->name);
    else
        TRY(jset(r, "new", json_false(), err));
out:
    if (s)
        json_decref(r);
    else
        *out = r;
    return s;
}

static enum loam_status make_record(struct flow *f, json_t **out, const struct flow_train *q, struct flow_model *m, const struct lm_hashes *hash,
                                    const struct product *p, const struct tuning_rows *rows, const char *hyper, const char *dir,
                                    uint64_t model, const uint8_t seed[32], const json_t *recipe, const json_t *training,
                                    const struct lm_train_result *r, struct err *err) {
    struct hash32 base, tok, tmpl, sd;
    uint64_t trainer = 0;
    enum loam_status s = LOAM_OK;
    memcpy(base.b, hash->base, 32);
    memcpy(tok.b, hash->tokenizer, 32);
    memcpy(tmpl.b, hash->tmpl, 32);
    memcpy(sd.b, seed, 32);
    char *adapter = mem_printf("%s/adapter", dir);
    json_t *o = adapter ? json_pack("{s:s s:s s:o s:o s:o s:o s:s s:s s:I s:o s:I s:o s:o s:o s:I s:O s:s s:f s:I s:I}", "name", q->name, "base", m->base_name,
                                    "base_hash", json_hash(&base), "tokenizer_hash", json_hash(&tok), "template_hash", json_hash(&tmpl),
                                    "adapter_hash", json_hash(&p->adapter), "adapter_path", adapter, "run_dir", dir, "model", (json_int_t)model,
                                    "seed", json_hash(&sd), "datanet", (json_int_t)q->datanet, "data_root", json_hash(&p->data_root), "rows_blob",
                                    json_hash(&p->rows_blob), "bundle_blob", json_hash(&p->bundle), "rows", (json_int_t)rows->data.count,
                                    "checkpoints", p->checkpoints, "hyper", hyper, "loss", r->loss, "steps", (json_int_t)r->steps, "created_ms",
                                    (json_int_t)clock_unix_ms())
                        : NULL;
    TRY(jset(o, "poa", json_pack("{s:s s:I s:i s:s s:o s:o s:o}", "method", "fisher", "k", (json_int_t)p->k, "rho_log2", p->rho_log2, "dir", dir,
                                 "rows_root", json_hash(&p->rows_root), "rows_fine_root", json_hash(&p->rows_fine_root), "damping_root",
                                 json_hash(&p->damping_root)), err));
    if (recipe && json_object_update(o, (json_t *)recipe))
        s = err_set(err, LOAM_ENOMEM, "no memory");
    if (!s && training && json_object_update(o, (json_t *)training))
        s = err_set(err, LOAM_ENOMEM, "no memory");
    if (s)
        goto out;
    if (q->key && model)
        TRY(account_of_key(f->node, &trainer, q->key, err));
    TRY(jset(o, "trainer", json_integer((json_int_t)trainer), err));
    TRY(record_put(f->node, TABLE_MODEL, q->name, strlen(q->name), o, err));
out:
    mem_free(adapter);
    if (s)
        json_decref(o);
    else
        *out = o;
    return s;
}

enum loam_status flow_train(struct flow *f, json_t **out, const struct flow_train *q, struct err *err) {
    struct flow_model *m = NULL;
    struct tuning_rows rows;
    struct lm_data eval; /* rows kept back */
    struct lm_hashes hash;
    struct hash32 hyper_hash;
    struct product p = {0};
    struct lm_train_result res = {0};
    struct lm_train_metrics last = {0};
    char *hyper = NULL, *dir = NULL, *rel = NULL;
    json_t *recipe = NULL, *training = NULL, *step = NULL;
    uint64_t model = 0;
    uint8_t seed[32];
    enum loam_status s;
    *out = NULL;
    tuning_rows_init(&rows);
    lm_data_init(&eval);
    if (!name_ok(q->name))
        return err_set(err, LOAM_EINVAL, "\"%.80s\" is no name for an adapter: letters, digits, - _ . and at most %d", q->name, TRAIN_NAME_MAX);
    if (flow_model_is_base(f->node, q->name))
        return err_set(err, LOAM_EEXIST, "there is a base model called \"%s\"; give the adapter another name", q->name);
    TRY(lm_hyper_check(&q->hyper, err));
    TRY(flow_model_get(&m, f->node, q->base, err));
    if (m->adapter && q->base) {
        s = err_set(err, LOAM_ENOTBUILT, "training on top of an adapter; name a base model");
        goto out;
    }
    if (q->seed && !q->n_files) {
        s = err_set(err, LOAM_EINVAL, "the seed of a recorded run comes from the chain; --seed is for private runs (--files)");
        goto out;
    }
    flow_note(f, "reading rows");
    TRY(gather(f, q, m->base, &rows, &eval, &p.rows_blob, err));
    p.data_root = tuning_rows_root(&rows);
    TRY(lm_model_hashes(&hash, m->base, err));
    TRY(hyper_string(&hyper, &q->hyper, &hyper_hash, err));
    s = there_already(f, out, q, &hash, &p.data_root, hyper, err);
    if (s != LOAM_ENOTFOUND)
        goto out;
    rel = mem_printf("runs/%s", q->name);
    dir = rel ? node_path(f->node, rel) : NULL;
    if (!dir) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    flow_note(f, "%zu rows, %llu tokens (%llu trained), longest %u", rows.data.count, (unsigned long long)rows.data.tokens,
              (unsigned long long)rows.data.targets, rows.data.longest);
    if (eval.count)
        flow_note(f, "%zu rows are kept back to evaluate on (%llu trained tokens)", eval.count, (unsigned long long)eval.targets);
    if (!q->n_files)
        TRY(record_recipe(f, q, &hash, &p.data_root, rows.data.count, &hyper_hash, &recipe, &model, seed, err));
    else {
        /* A private run draws its own seed, once. */
        struct hash32 h;
        s = flow_step_get(f, "seed", &step, err);
        if (q->seed)
            TRY(hash_parse(&h, q->seed, err));
        else if (s == LOAM_OK)
            TRY(jget_hash(&h, step, "seed", err));
        else if (s == LOAM_ENOTFOUND) {
            TRY(entropy_fill(h.b, sizeof h.b, err));
            step = json_pack("{s:o}", "seed", json_hash(&h));
            TRY(flow_step_put(f, "seed", step, err));
        } else
            goto out;
        memcpy(seed, h.b, 32);
    }
    TRY(run(f, q, m, &rows, &eval, seed, dir, &res, &last, err));
    memcpy(p.adapter.b, res.adapter_hash, 32);
    TRY(checkpoints_of(f, &p, &res, dir, err));
    TRY(steps_of(f, &p, dir, err));
    TRY(stores_of(f, &p, &res, m->base, &rows, dir, err));
    TRY(bundle(f, &p, q, m, &hash, recipe, hyper, seed, &res, err));
    if (!q->n_files)
        TRY(publish(f, q, &p, recipe, model, seed, res.checkpoints, &training, err));
    TRY(make_record(f, out, q, m, &hash, &p, &rows, hyper, dir, model, seed, recipe, training, &res, err));
    TRY(flow_steps_drop(f, err));
    TRY(jset(*out, "new", json_true(), err));
    TRY(jset(*out, "figures",
             json_pack("{s:I s:f s:f s:f s:I}", "steps", (json_int_t)res.steps, "loss", res.loss, "tokens_per_s", res.tok_s, "seconds", res.seconds,
                       "memory_bytes", (json_int_t)last.rss), err));
    if (res.evals)
        TRY(jset(*out, "evaluation",
                 json_pack("{s:I s:I s:f s:I s:b}", "rows", (json_int_t)eval.count, "evaluations", (json_int_t)res.evals, "loss", res.best_loss, "step",
                           (json_int_t)res.best_step, "stopped_early", res.stopped), err));
    json_decref(flow_model_list(f->node)); /* the models topic */
    topic_update(f->node, "train", json_pack("{s:o}", "runs", board_runs(f->node)));
out:
    if (s) {
        json_decref(*out);
        *out = NULL;
    }
    json_decref(recipe);
    json_decref(training);
    json_decref(step);
    product_clear(&p);
    tuning_rows_clear(&rows);
    lm_data_clear(&eval);
    mem_free(hyper);
    mem_free(dir);
    mem_free(rel);
    flow_model_put(m);
    return s;
}
