#include "lm/template.h"
#include "base/keccak.h"
#include "base/mem.h"

#include <string.h>

#include "base/banned.h"

/* A template is recognised, not interpreted: by pieces of text its source must hold, and the differences within a family
 * (a default system message) are read out of the source. Rendering then gives runs of text between special tokens: each
 * run is tokenized as one text, as transformers does with the whole rendered string. */

enum family { CHATML };

struct lm_template {
    const struct lm_tokenizer *tok;
    enum family family;
    char *system; /* default system message, put first where the messages have none; NULL: none */
    uint32_t start, end;
    uint8_t hash[32];
};

struct render {
    const struct lm_template *t;
    struct lm_ids *out;
    struct buf run; /* text since the last special token */
    uint8_t **mask; /* NULL: not wanted */
    uint32_t first, mask_cap, mask_n;
    bool train; /* what is written now is trained */
    struct err *err;
};

/* Marks the ids added since the last call. */
static enum loam_status mark(struct render *r) {
    if (!r->mask)
        return LOAM_OK;
    uint32_t n = r->out->n - r->first;
    if (n > r->mask_cap) {
        uint32_t cap = n < 256 ? 256 : 2 * n;
        uint8_t *p = mem_resize(*r->mask, cap, 1);
        if (!p)
            return err_set(r->err, LOAM_ENOMEM, "no memory for a mask of %u tokens", cap);
        *r->mask = p;
        r->mask_cap = cap;
    }
    if (n > r->mask_n)
        memset(*r->mask + r->mask_n, r->train, n - r->mask_n);
    r->mask_n = n;
    return LOAM_OK;
}

static enum loam_status flush(struct render *r) {
    enum loam_status s = LOAM_OK;
    if (r->run.len)
        s = lm_encode(r->out, r->t->tok, (const char *)r->run.data, r->run.len, 0, r->err);
    buf_reset(&r->run);
    return s ? s : mark(r);
}

static enum loam_status put(struct render *r, const char *text, size_t n) {
    return buf_add(&r->run, text, n, r->err);
}

static enum loam_status special(struct render *r, uint32_t id) {
    enum loam_status s = flush(r);
    if (!s)
        s = lm_ids_add(r->out, id, r->err);
    return s ? s : mark(r);
}

static enum loam_status chatml_open(struct render *r, const char *role) {
    enum loam_status s = special(r, r->t->start);
    if (!s)
        s = put(r, role, strlen(role));
    return s ? s : put(r, "\n", 1);
}

static enum loam_status chatml_turn(struct render *r, const char *role, const char *text, size_t n) {
    bool answer = !strcmp(role, "assistant");
    enum loam_status s = chatml_open(r, role);
    /* Training: the role's line must be cut from the answer, so that the mask has a clear edge. Where a tokenizer would join
     * the line's end with the answer's first bytes ("\n\n"), the answer is still rendered as transformers does and the token
     * over the edge is not trained. */
    if (!s && answer && r->mask) {
        size_t head_bytes = r->run.len;
        s = put(r, text, n);
        uint32_t before = r->out->n;
        if (!s)
            s = flush(r);
        struct buf seen = BUF_INIT(LM_TEXT_MAX);
        for (uint32_t i = before; i < r->out->n && !s; i++) {
            (*r->mask)[i - r->first] = seen.len >= head_bytes;
            s = lm_decode(&seen, r->t->tok, &r->out->ids[i], 1, true, r->err);
        }
        buf_clear(&seen);
        r->train = true;
        if (!s)
            s = special(r, r->t->end);
        r->train = false;
    } else {
        if (!s)
            s = put(r, text, n);
        if (!s)
            s = special(r, r->t->end);
    }
    return s ? s : put(r, "\n", 1);
}

static enum loam_status chatml(struct render *r, const struct lm_message *m, size_t n, bool open) {
    enum loam_status s = LOAM_OK;
    if (r->t->system && n && strcmp(m[0].role, "system"))
        s = chatml_turn(r, "system", r->t->system, strlen(r->t->system));
    for (size_t i = 0; i < n && !s; i++)
        s = chatml_turn(r, m[i].role, m[i].text, m[i].n);
    if (!s && open)
        s = chatml_open(r, "assistant");
    return s ? s : flush(r);
}

static enum loam_status render(struct lm_ids *out, uint8_t **mask, const struct lm_template *t, const struct lm_message *m,
                               size_t n, bool open, struct err *err) {
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(m[i].role, "system") && strcmp(m[i].role, "user") && strcmp(m[i].role, "assistant"))
            return err_set(err, LOAM_EINVAL, "message %zu: the role is none of system, user, assistant", i + 1);
        if (m[i].n > LM_TEXT_MAX || (bytes += m[i].n) > LM_TEXT_MAX)
            return err_set(err, LOAM_ELIMIT, "messages of more than %u bytes", LM_TEXT_MAX);
    }
    if (!n)
        return err_set(err, LOAM_EINVAL, "no messages");
    struct render r = {.t = t, .out = out, .mask = mask, .first = out->n, .err = err};
    buf_init(&r.run, LM_TEXT_MAX + 4096);
    enum loam_status s = chatml(&r, m, n, open);
    buf_clear(&r.run);
    if (s)
        out->n = r.first;
    return s;
}

enum loam_status lm_template_render(struct lm_ids *out, const struct lm_template *t, const struct lm_message *m, size_t n,
                                    bool open, struct err *err) {
    return render(out, NULL, t, m, n, open, err);
}

enum loam_status lm_template_rows(struct lm_ids *out, uint8_t **mask, const struct lm_template *t, const struct lm_message *m,
                                  size_t n, struct err *err) {
    return render(out, mask, t, m, n, false, err);
}

static const char *find(const char *s, size_t n, const char *what) {
    size_t w = strlen(what);
    for (size_t i = 0; i + w <= n; i++)
        if (!memcmp(s + i, what, w))
            return s + i;
    return NULL;
}

/* The default system message of a ChatML source: the text between "<|im_start|>system\n" and "<|im_end|>" inside the branch
 * for a first message that is no system message. "\n" may be written as the two characters of a Jinja escape. */
static enum loam_status chatml_system(char **out, const char *s, size_t n, struct err *err) {
    *out = NULL;
    const char *branch = find(s, n, "!= 'system'");
    if (!branch)
        return LOAM_OK;
    size_t left = n - (size_t)(branch - s);
    const char *at = find(branch, left, "<|im_start|>system");
    if (!at)
        return LOAM_OK;
    at += strlen("<|im_start|>system");
    left = n - (size_t)(at - s);
    if (left && *at == '\n')
        at++;
    else if (left > 1 && at[0] == '\\' && at[1] == 'n')
        at += 2;
    else
        return LOAM_OK;
    const char *end = find(at, n - (size_t)(at - s), "<|im_end|>");
    if (!end)
        return LOAM_OK;
    for (const char *p = at; p < end; p++)
        if (*p == '\\' || *p == '{' || *p == '\'')
            return err_set(err, LOAM_EUNSUPPORTED, "the chat template's default system message is put together by code that is "
                                                   "not known; give a model file with a plain ChatML template");
    *out = mem_strndup(at, (size_t)(end - at));
    return *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for a template");
}

enum loam_status lm_template_new(struct lm_template **out, const char *source, size_t n, const struct lm_tokenizer *tok,
                                 struct err *err) {
    *out = NULL;
    bool known = find(source, n, "<|im_start|>") && find(source, n, "<|im_end|>") && find(source, n, "add_generation_prompt") &&
                 find(source, n, "message['content']") && find(source, n, "message['role']");
    if (!known || find(source, n, "tools") || find(source, n, "strftime"))
        return err_set(err, LOAM_EUNSUPPORTED, "the chat template is not known (ChatML is); use a model whose file has a known "
                                               "template, or plain prompts");
    struct lm_template *t = mem_zalloc(sizeof *t);
    if (!t)
        return err_set(err, LOAM_ENOMEM, "no memory for a template");
    t->tok = tok;
    t->family = CHATML;
    t->start = lm_token_find(tok, "<|im_start|>");
    t->end = lm_token_find(tok, "<|im_end|>");
    enum loam_status s = LOAM_OK;
    if (t->start == LM_NO_TOKEN || t->end == LM_NO_TOKEN)
        s = err_set(err, LOAM_EUNSUPPORTED, "the chat template is ChatML but the vocabulary has no <|im_start|> and <|im_end|>");
    if (!s)
        s = chatml_system(&t->system, source, n, err);
    if (s) {
        lm_template_free(t);
        return s;
    }
    keccak256(t->hash, source, n);
    *out = t;
    return LOAM_OK;
}

void lm_template_free(struct lm_template *t) {
    if (!t)
        return;
    mem_free(t->system);
    mem_free(t);
}

const char *lm_template_name(const struct lm_template *t) {
    (void)t;
    return "chatml";
}

void lm_template_hash(uint8_t out[32], const struct lm_template *t) {
    memcpy(out, t->hash, 32);
}
