#include "lm/data.h"

#include "base/file.h"
#include "base/json.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "base/text.h"
#include "lm/model.h"
#include "lm/template.h"
#include "lm/tokenizer.h"

#include <string.h>

#include "base/banned.h"

#define BAD_TEXT_MAX (64u << 10)

void lm_data_init(struct lm_data *d) {
    memset(d, 0, sizeof *d);
    buf_init(&d->bad_text, BAD_TEXT_MAX);
}

void lm_data_clear(struct lm_data *d) {
    for (size_t i = 0; i < d->count; i++) {
        mem_free(d->rows[i].tokens);
        mem_free(d->rows[i].train);
    }
    mem_free(d->rows);
    buf_clear(&d->bad_text);
    lm_data_init(d);
}

/* Takes over tokens and train. */
static enum loam_status add_row(struct lm_data *d, uint32_t *tokens, uint8_t *train, uint32_t n, uint64_t id, struct err *err) {
    enum loam_status s = LOAM_OK;
    uint32_t targets = 0;
    for (uint32_t i = 1; i < n; i++)
        targets += train[i] = train[i] != 0;
    if (n)
        train[0] = 0; /* nothing predicts the first token */
    if (!targets)
        s = err_set(err, LOAM_EINVAL, "nothing to train on: no assistant's answer");
    else if (d->count == LM_DATA_ROWS_MAX)
        s = err_set(err, LOAM_ELIMIT, "more than %u rows", LM_DATA_ROWS_MAX);
    else if (d->count == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 64;
        struct lm_example *rows = mem_resize(d->rows, cap, sizeof *rows);
        if (rows) {
            d->rows = rows;
            d->cap = cap;
        } else
            s = err_set(err, LOAM_ENOMEM, "no memory for %zu rows", cap);
    }
    if (s) {
        mem_free(tokens);
        mem_free(train);
        return s;
    }
    d->rows[d->count++] = (struct lm_example){tokens, train, n, targets, id, 0};
    d->tokens += n;
    d->targets += targets;
    if (n > d->longest)
        d->longest = n;
    return LOAM_OK;
}

static enum loam_status add_text(struct lm_ids *ids, uint8_t **mask, const struct lm_tokenizer *t, const char *text, size_t n,
                                 struct err *err) {
    enum loam_status s = lm_encode(ids, t, text, n, LM_ENCODE_BOS, err);
    if (!s && lm_token_eos(t) != LM_NO_TOKEN)
        s = lm_ids_add(ids, lm_token_eos(t), err);
    if (s)
        return s;
    if (!(*mask = mem_alloc(ids->n)))
        return err_set(err, LOAM_ENOMEM, "no memory for a row");
    memset(*mask, 1, ids->n);
    return LOAM_OK;
}

enum loam_status lm_data_add(struct lm_data *d, struct lm_model *m, const struct lm_text_message *msg, size_t n, uint64_t id,
                             uint32_t max_tokens, struct err *err) {
    struct lm_ids ids = {0};
    uint8_t *mask = NULL;
    enum loam_status s = LOAM_OK;
    size_t bytes = 0;
    if (!n || n > LM_ROW_MESSAGES_MAX)
        return err_set(err, LOAM_EINVAL, "%zu messages in a row (1 to %d)", n, LM_ROW_MESSAGES_MAX);
    for (size_t i = 0; i < n; i++)
        bytes += msg[i].content_len;
    if (bytes > LM_ROW_BYTES_MAX)
        return err_set(err, LOAM_ELIMIT, "a row of %zu bytes; at most %u", bytes, LM_ROW_BYTES_MAX);
    if (n == 1 && !strcmp(msg[0].role, "text"))
        s = add_text(&ids, &mask, m->tokenizer, msg[0].content, msg[0].content_len, err);
    else if (!m->tmpl)
        s = err_set(err, LOAM_EUNSUPPORTED, "the model has no chat template; give rows as plain text");
    else {
        struct lm_message list[LM_ROW_MESSAGES_MAX];
        for (size_t i = 0; i < n; i++)
            list[i] = (struct lm_message){msg[i].role, msg[i].content, msg[i].content_len};
        s = lm_template_rows(&ids, &mask, m->tmpl, list, n, err);
    }
    if (!s && ids.n > max_tokens)
        s = err_set(err, LOAM_ELIMIT, "%u tokens; rows may have %u (option max-tokens)", ids.n, max_tokens);
    if (s || !ids.n) {
        mem_free(mask);
        lm_ids_clear(&ids);
        return s ? s : err_set(err, LOAM_EINVAL, "an empty row");
    }
    return add_row(d, ids.ids, mask, ids.n, id, err);
}

enum loam_status lm_data_add_tokens(struct lm_data *d, const uint32_t *tokens, const uint8_t *train, uint32_t n, uint64_t id,
                                    struct err *err) {
    uint32_t *t = mem_dup(tokens, (size_t)n * sizeof *tokens);
    uint8_t *m = mem_dup(train, n);
    if (!t || !m) {
        mem_free(t);
        mem_free(m);
        return err_set(err, LOAM_ENOMEM, "no memory for a row of %u tokens", n);
    }
    return add_row(d, t, m, n, id, err);
}

/* ---------------------------------------------------------------- JSON */

static enum loam_status text_of(const struct js_val *v, const char *key, struct lm_text_message *m, const char *role, struct err *err) {
    if (!v || v->type != JS_STRING)
        return err_set(err, LOAM_EPARSE, "\"%s\" is %s", key, v ? "not text" : "missing");
    if (memchr(v->s, 0, v->len))
        return err_set(err, LOAM_EPARSE, "\"%s\" holds a NUL", key);
    *m = (struct lm_text_message){role, v->s, v->len};
    return LOAM_OK;
}

static const char *role_name(const struct js_val *v) {
    static const struct {
        const char *in, *out;
    } roles[] = {{"system", "system"}, {"user", "user"}, {"assistant", "assistant"}, {"human", "user"}, {"gpt", "assistant"},
                 {"chatgpt", "assistant"}, {"bot", "assistant"}, {"model", "assistant"}, {"text", "text"}};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (js_is_str(v, roles[i].in))
            return roles[i].out;
    return NULL;
}

static enum loam_status conversation(struct lm_data *d, struct lm_model *m, const struct js_val *list, const char *from,
                                     const char *value, uint64_t id, uint32_t max_tokens, struct err *err) {
    struct lm_text_message msg[LM_ROW_MESSAGES_MAX];
    size_t n = 0;
    if (list->type != JS_ARRAY || !list->n)
        return err_set(err, LOAM_EPARSE, "the list of messages is empty or no list");
    if (list->n > LM_ROW_MESSAGES_MAX)
        return err_set(err, LOAM_ELIMIT, "%zu messages in a row; at most %d", list->n, LM_ROW_MESSAGES_MAX);
    for (const struct js_val *v = list->first; v; v = v->next) {
        const struct js_val *r = js_get(v, from);
        const char *role = role_name(r);
        if (!role) {
            char seen[64];
            text_clean_cut(seen, sizeof seen, r && r->type == JS_STRING ? r->s : "none", r && r->type == JS_STRING ? r->len : 4);
            return err_set(err, LOAM_EPARSE, "message %zu: \"%s\" is %s (known: system, user, assistant)", n + 1, from, seen);
        }
        enum loam_status s = text_of(js_get(v, value), value, &msg[n], role, err);
        if (s)
            return err_prefix(err, s, "message %zu", n + 1);
        n++;
    }
    return lm_data_add(d, m, msg, n, id, max_tokens, err);
}

static const struct js_val *first_of(const struct js_val *o, const char *const *keys, const char **key) {
    for (; *keys; keys++) {
        const struct js_val *v = js_get(o, *keys);
        if (v) {
            *key = *keys;
            return v;
        }
    }
    return NULL;
}

static enum loam_status row(struct lm_data *d, struct lm_model *m, const struct js_val *o, uint64_t id, uint32_t max_tokens,
                            struct err *err) {
    static const char *const questions[] = {"prompt", "question", NULL}, *const answers[] = {"completion", "response", "answer", NULL};
    const struct js_val *v;
    const char *kq = "", *ka = "completion";
    if (o->type != JS_OBJECT)
        return err_set(err, LOAM_EPARSE, "not an object");
    if ((v = js_get(o, "messages")))
        return conversation(d, m, v, "role", "content", id, max_tokens, err);
    if ((v = js_get(o, "conversations")))
        return conversation(d, m, v, "from", "value", id, max_tokens, err);
    struct lm_text_message msg[3];
    size_t n = 0;
    struct buf joined = BUF_INIT(LM_ROW_BYTES_MAX);
    enum loam_status s = LOAM_OK;
    if ((v = js_get(o, "system")) && !(v->type == JS_STRING && !v->len))
        s = text_of(v, "system", &msg[n++], "system", err);
    const struct js_val *q = first_of(o, questions, &kq);
    if (!s && q) {
        s = text_of(q, kq, &msg[n++], "user", err);
        const struct js_val *a = first_of(o, answers, &ka);
        if (!s)
            s = text_of(a, ka, &msg[n++], "assistant", err);
    } else if (!s && (q = js_get(o, "instruction"))) {
        const struct js_val *in = js_get(o, "input");
        s = text_of(q, "instruction", &msg[n], "user", err);
        if (!s && in && in->type == JS_STRING && in->len) {
            s = buf_add(&joined, q->s, q->len, err);
            if (!s)
                s = buf_str(&joined, "\n\n", err);
            if (!s)
                s = buf_add(&joined, in->s, in->len, err);
            msg[n].content = (const char *)joined.data;
            msg[n].content_len = joined.len;
        } else if (!s && in && in->type != JS_STRING && in->type != JS_NULL)
            s = err_set(err, LOAM_EPARSE, "\"input\" is not text");
        n++;
        if (!s)
            s = text_of(js_get(o, "output"), "output", &msg[n++], "assistant", err);
    } else if (!s && (v = js_get(o, "text"))) {
        n = 1;
        s = text_of(v, "text", &msg[0], "text", err);
    } else if (!s)
        s = err_set(err, LOAM_EPARSE, "no known form: messages, conversations, prompt and completion, instruction and output, or text");
    for (size_t i = 0; !s && i < n; i++)
        if (!msg[i].content_len)
            s = err_set(err, LOAM_EPARSE, "the %s text is empty", msg[i].role);
    if (!s)
        s = lm_data_add(d, m, msg, n, id, max_tokens, err);
    buf_clear(&joined);
    return s;
}

enum loam_status lm_data_add_json(struct lm_data *d, struct lm_model *m, const char *json, size_t len, uint64_t id,
                                  uint32_t max_tokens, struct err *err) {
    struct js_doc doc;
    enum loam_status s = js_parse(&doc, json, len, err);
    if (s)
        return s;
    s = row(d, m, doc.root, id, max_tokens, err);
    js_free(&doc);
    return s;
}

static bool blank(const char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r')
            return false;
    return true;
}

enum loam_status lm_data_add_file(struct lm_data *d, struct lm_model *m, const char *path, uint32_t max_tokens, bool skip_bad,
                                  struct err *err) {
    struct file_map f;
    enum loam_status s = file_map(&f, path, err);
    if (s)
        return s;
    if (f.len > LM_DATA_BYTES_MAX)
        s = err_set(err, LOAM_ELIMIT, "%s: %zu bytes; at most %zu", path, f.len, LM_DATA_BYTES_MAX);
    const char *p = (const char *)f.data, *end = p + f.len;
    size_t before = d->count;
    p += text_bom(p, f.len);
    for (uint32_t line = 1; !s && p < end; line++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((nl ? nl : end) - p);
        if (!blank(p, n)) {
            struct err why = {0};
            /* Six bytes for each of an escaped character, and room for the keys. */
            enum loam_status r = n > LM_ROW_BYTES_MAX * 6u + 65536u
                                     ? err_set(&why, LOAM_ELIMIT, "a line of %zu bytes", n)
                                     : lm_data_add_json(d, m, p, n, d->count, max_tokens, &why);
            if (r == LOAM_OK)
                d->rows[d->count - 1].line = line;
            else if (r != LOAM_ENOMEM && skip_bad) {
                d->bad++;
                if (buf_printf(&d->bad_text, NULL, "%s:%u: %s\n", path, line, why.text)) {
                    /* full: the count still says how many there were */
                }
            } else
                s = err_set(err, r, "%s:%u: %s", path, line, why.text);
        }
        p = nl ? nl + 1 : end;
    }
    if (!s && d->count == before && !d->bad)
        s = err_set(err, LOAM_EINVAL, "%s: no rows in it", path);
    file_unmap(&f);
    return s;
}

void lm_data_hash(uint8_t out[32], const struct lm_data *d) {
    struct keccak k;
    uint8_t w[4];
    keccak_init(&k);
    keccak_add(&k, "loam rows 1", 11);
    for (size_t i = 0; i < d->count; i++) {
        const struct lm_example *e = &d->rows[i];
        put_le32(w, e->n);
        keccak_add(&k, w, 4);
        keccak_add(&k, e->tokens, (size_t)e->n * 4);
        keccak_add(&k, e->train, e->n);
    }
    keccak_end(&k, out);
}
