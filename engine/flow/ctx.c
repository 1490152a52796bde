#include "flow/ctx.h"

#include "base/mem.h"
#include "flow/flow.h"
#include "node/job.h"
#include "store/blob.h"

#include <stdio.h>

#include "base/banned.h"

void flow_note(struct flow *f, const char *fmt, ...) {
    char text[FLOW_TEXT_MAX];
    va_list ap;
    if (!f->note)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    f->note(f->ui, text);
}

void flow_progress(struct flow *f, uint64_t done, uint64_t total, const char *fmt, ...) {
    char text[FLOW_TEXT_MAX];
    va_list ap;
    if (!f->progress)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    f->progress(f->ui, done, total, text);
}

enum loam_status flow_confirm(struct flow *f, struct err *err, const char *fmt, ...) {
    char text[FLOW_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!f->confirm)
        return err_set(err, LOAM_EPERM, "nobody is there to agree: %s", text);
    return f->confirm(f->ui, text, err);
}

enum loam_status flow_unlock(struct flow *f, const char *key, struct err *err) {
    if (!f->unlock)
        return LOAM_OK; /* signing says what is missing */
    return f->unlock(f->ui, key, err);
}

enum loam_status flow_check(struct flow *f, struct err *err) { return f->job ? job_check(f->job, err) : LOAM_OK; }

enum loam_status flow_sleep(struct flow *f, uint64_t ms, struct err *err) {
    return f->job ? job_sleep_ms(f->job, ms, err) : err_set(err, LOAM_EINVAL, "a flow without a job cannot wait");
}

static enum loam_status parse(json_t **out, const struct buf *b, const char *what, struct err *err) {
    json_error_t e;
    *out = json_loadb((const char *)b->data, b->len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (!*out)
        return err_set(err, LOAM_EPARSE, "%s: %s (byte %d)", what, e.text, e.position);
    return LOAM_OK;
}

static enum loam_status dump(struct buf *b, const json_t *value, struct err *err) {
    size_t n = json_dumpb(value, NULL, 0, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    enum loam_status s;
    if (!n)
        return err_set(err, LOAM_ENOMEM, "no memory to write a record");
    if ((s = buf_reserve(b, n, err)))
        return s;
    if (json_dumpb(value, (char *)b->data, n, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY) != n)
        return err_set(err, LOAM_ENOMEM, "no memory to write a record");
    b->len = n;
    return LOAM_OK;
}

enum loam_status record_get(struct node *n, enum store_table t, const void *key, size_t klen, json_t **out, struct err *err) {
    struct buf b = BUF_INIT(FLOW_JSON_MAX);
    enum loam_status s;
    *out = NULL;
    if (!(s = store_get(n->store, t, key, klen, &b, err)))
        s = parse(out, &b, store_table_name(t), err);
    buf_clear(&b);
    return s;
}

enum loam_status record_put(struct node *n, enum store_table t, const void *key, size_t klen, const json_t *value, struct err *err) {
    struct buf b = BUF_INIT(FLOW_JSON_MAX);
    enum loam_status s;
    if (!(s = dump(&b, value, err)))
        s = store_put(n->store, t, key, klen, b.data, b.len, err);
    buf_clear(&b);
    return s;
}

enum loam_status record_get_u64(struct node *n, enum store_table t, uint64_t key, json_t **out, struct err *err) {
    uint8_t k[8];
    put_be64(k, key);
    return record_get(n, t, k, sizeof k, out, err);
}

enum loam_status record_put_u64(struct node *n, enum store_table t, uint64_t key, const json_t *value, struct err *err) {
    uint8_t k[8];
    put_be64(k, key);
    return record_put(n, t, k, sizeof k, value, err);
}

struct list_ctx {
    json_t *out;
    enum loam_status s;
};

static bool list_one(void *ctx, const struct store_item *it) {
    struct list_ctx *l = ctx;
    json_error_t e;
    json_t *v;
    if (json_array_size(l->out) >= RECORDS_MAX) {
        l->s = LOAM_ELIMIT;
        return false;
    }
    v = json_loadb((const char *)it->value, it->vlen, JSON_REJECT_DUPLICATES, &e);
    if (!v) {
        l->s = LOAM_EPARSE;
        return false;
    }
    if (json_array_append_new(l->out, v)) {
        l->s = LOAM_ENOMEM;
        return false;
    }
    return true;
}

enum loam_status record_list(struct node *n, enum store_table t, const void *prefix, size_t plen, json_t **out, struct err *err) {
    struct list_ctx l = {json_array(), LOAM_OK};
    struct store_range r = {.prefix = prefix, .plen = plen};
    enum loam_status s;
    *out = NULL;
    if (!l.out)
        return err_set(err, LOAM_ENOMEM, "no memory for a list");
    s = store_each(n->store, t, &r, list_one, &l, err);
    if (!s && l.s)
        s = err_set(err, l.s, "table %s: %s", store_table_name(t), status_text(l.s));
    if (s) {
        json_decref(l.out);
        return s;
    }
    *out = l.out;
    return LOAM_OK;
}

static enum loam_status step_key(char key[FLOW_NAME_MAX + 64], struct flow *f, const char *step, struct err *err) {
    int n = snprintf(key, FLOW_NAME_MAX + 64, "%s/%s", f->name, step);
    if (n < 0 || n >= FLOW_NAME_MAX + 64)
        return err_set(err, LOAM_ELIMIT, "flow name %s is too long", f->name);
    return LOAM_OK;
}

enum loam_status flow_step_get(struct flow *f, const char *step, json_t **out, struct err *err) {
    char key[FLOW_NAME_MAX + 64];
    enum loam_status s;
    *out = NULL;
    if ((s = step_key(key, f, step, err)))
        return s;
    return record_get(f->node, TABLE_FLOW, key, strlen(key), out, err);
}

enum loam_status flow_step_put(struct flow *f, const char *step, const json_t *value, struct err *err) {
    char key[FLOW_NAME_MAX + 64];
    enum loam_status s;
    if ((s = step_key(key, f, step, err)))
        return s;
    return record_put(f->node, TABLE_FLOW, key, strlen(key), value, err);
}

/* Puts a value where none is; LOAM_EEXIST if one is there. */
static enum loam_status put_new(struct flow *f, const char *key, const void *p, size_t n, struct err *err) {
    struct store_batch *b;
    enum loam_status s;
    if ((s = store_batch_new(&b, err)))
        return s;
    if ((s = store_batch_put_new(b, TABLE_FLOW, key, strlen(key), p, n, err))) {
        store_batch_free(b);
        return s;
    }
    return store_commit(f->node->store, b, err);
}

enum loam_status flow_step_make(struct flow *f, const char *step, json_t **value, struct err *err) {
    char key[FLOW_NAME_MAX + 64];
    struct buf b = BUF_INIT(STORE_VALUE_MAX);
    enum loam_status s;
    json_t *there;
    TRY(step_key(key, f, step, err));
    TRY(dump(&b, *value, err));
    s = put_new(f, key, b.data, b.len, err);
    if (s == LOAM_EEXIST && !(s = flow_step_get(f, step, &there, err))) {
        json_decref(*value);
        *value = there;
    }
out:
    buf_clear(&b);
    return s;
}

static enum loam_status own_key(char key[STORE_KEY_MAX], const char *work, struct err *err) {
    int n = snprintf(key, STORE_KEY_MAX, "own/%s", work);
    return n < 0 || n >= STORE_KEY_MAX ? err_set(err, LOAM_ELIMIT, "name of a work is too long") : LOAM_OK;
}

enum loam_status flow_own(struct flow *f, const char *work, struct err *err) {
    char key[STORE_KEY_MAX];
    struct buf b = BUF_INIT(FLOW_NAME_MAX);
    enum loam_status s;
    TRY(own_key(key, work, err));
    s = put_new(f, key, f->name, strlen(f->name), err);
    if (s != LOAM_EEXIST)
        goto out;
    TRY(store_get(f->node->store, TABLE_FLOW, key, strlen(key), &b, err));
    snprintf(f->adopted, sizeof f->adopted, "%.*s", (int)b.len, (const char *)b.data);
    f->name = f->adopted;
out:
    buf_clear(&b);
    return s;
}

void flow_disown(struct flow *f, const char *work) {
    char key[STORE_KEY_MAX];
    /* If it cannot be removed the next try meets the same failure, which says what is wrong. */
    if (!own_key(key, work, NULL) && store_del(f->node->store, TABLE_FLOW, key, strlen(key), NULL))
        return;
}

enum loam_status flow_steps_drop(struct flow *f, struct err *err) {
    char key[FLOW_NAME_MAX + 64];
    struct store_batch *b;
    enum loam_status s;
    if ((s = step_key(key, f, "", err)) || (s = store_batch_new(&b, err)))
        return s;
    if ((s = store_batch_del_prefix(b, TABLE_FLOW, key, strlen(key), err))) {
        store_batch_free(b);
        return s;
    }
    return store_commit(f->node->store, b, err);
}

enum loam_status json_blob_put(struct node *n, struct hash32 *hash, uint64_t *len, const json_t *value, struct err *err) {
    struct buf b = BUF_INIT(FLOW_JSON_MAX);
    enum loam_status s;
    if (!(s = dump(&b, value, err)) && !(s = blob_put(n->blobs, hash, b.data, b.len, err)) && len)
        *len = b.len;
    buf_clear(&b);
    return s;
}

enum loam_status json_blob_get(struct node *n, json_t **out, const struct hash32 *hash, struct err *err) {
    struct buf b = BUF_INIT(FLOW_JSON_MAX);
    enum loam_status s;
    *out = NULL;
    if (!(s = blob_get(n->blobs, hash, &b, err)))
        s = parse(out, &b, "blob", err);
    buf_clear(&b);
    return s;
}

json_t *json_hash(const struct hash32 *h) {
    char t[HASH_HEX_MAX];
    return json_string(hash_hex(t, h));
}

json_t *json_addr(const struct addr20 *a) {
    char t[ADDR_HEX_MAX];
    return json_string(addr_hex(t, a));
}

json_t *json_sig(const struct sig65 *sig) {
    char t[SIG_HEX_MAX];
    return json_string(sig_hex(t, sig));
}

json_t *json_u256(struct u256 v) {
    char t[U256_DEC_MAX];
    u256_format(t, v);
    return json_string(t);
}

static enum loam_status want(const char *field, const char *form, struct err *err) {
    return err_set(err, LOAM_EPARSE, "field %s is missing or no %s", field, form);
}

enum loam_status jget_u64(uint64_t *out, const json_t *o, const char *field, struct err *err) {
    const json_t *v = json_object_get(o, field);
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return want(field, "count", err);
    *out = (uint64_t)json_integer_value(v);
    return LOAM_OK;
}

enum loam_status jget_str(const char **out, const json_t *o, const char *field, struct err *err) {
    const json_t *v = json_object_get(o, field);
    if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v))
        return want(field, "text", err);
    *out = json_string_value(v);
    return LOAM_OK;
}

#define GETTER(name, type, parse_fn, form)                                                                             \
    enum loam_status name(type *out, const json_t *o, const char *field, struct err *err) {                            \
        const char *t;                                                                                                 \
        enum loam_status s;                                                                                            \
        if ((s = jget_str(&t, o, field, err)))                                                                         \
            return s;                                                                                                  \
        if ((s = parse_fn(out, t, err)))                                                                               \
            return err_prefix(err, s, "field %s, which is no " form, field);                                           \
        return LOAM_OK;                                                                                                \
    }
GETTER(jget_hash, struct hash32, hash_parse, "hash")
GETTER(jget_addr, struct addr20, addr_parse, "address")
GETTER(jget_sig, struct sig65, sig_parse, "signature")
GETTER(jget_u256, struct u256, u256_parse, "amount")

enum loam_status jget_array(json_t **out, const json_t *o, const char *field, struct err *err) {
    *out = json_object_get(o, field);
    return json_is_array(*out) ? LOAM_OK : want(field, "list", err);
}

enum loam_status jget_object(json_t **out, const json_t *o, const char *field, struct err *err) {
    *out = json_object_get(o, field);
    return json_is_object(*out) ? LOAM_OK : want(field, "object", err);
}

enum loam_status jset(json_t *o, const char *field, json_t *value, struct err *err) {
    if (!value || json_object_set_new(o, field, value))
        return err_set(err, LOAM_ENOMEM, "no memory for field %s", field);
    return LOAM_OK;
}
