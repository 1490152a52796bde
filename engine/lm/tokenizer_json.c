/* tokenizer.json of Hugging Face tokenizers: byte-level BPE, and SentencePiece-like BPE with byte fallback. Every component
 * that takes part in encoding is either understood or refused by name. */
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "lm/tokenizer_in.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

#define SPLITS_MAX 8

struct reading {
    struct lm_tokenizer *t;
    bool bytes; /* byte-level alphabet */
    struct err *err;
};

static enum loam_status refuse(struct reading *r, const char *what, const struct js_val *v) {
    char shown[64];
    const struct js_val *type = js_get(v, "type");
    return err_set(r->err, LOAM_EUNSUPPORTED, "tokenizer.json: %s \"%s\" is not known", what,
                   type && type->type == JS_STRING ? text_clean_cut(shown, sizeof shown, type->s, type->len) : "(without a type)");
}

static bool is_type(const struct js_val *v, const char *name) {
    return js_is_str(js_get(v, "type"), name);
}

static bool is_true(const struct js_val *v, const char *key) {
    const struct js_val *b = js_get(v, key);
    return b && b->type == JS_BOOL && b->boolean;
}

/* Oniguruma's expression as PCRE2's: white space is spelled out, since the two disagree on U+180E. */
static enum loam_status translate(struct buf *out, const char *s, size_t n, struct err *err) {
    bool in_class = false;
    enum loam_status st = LOAM_OK;
    for (size_t i = 0; i < n && !st; i++) {
        if (s[i] == '\\' && i + 1 < n) {
            char c = s[++i];
            if (c == 's')
                st = in_class ? buf_str(out, TOK_WS, err) : buf_str(out, "[" TOK_WS "]", err);
            else if (c == 'S' && !in_class)
                st = buf_str(out, "[^" TOK_WS "]", err);
            else if (c == 'S' || c == 'K' || c == 'C' || c == 'G')
                st = err_set(err, LOAM_EUNSUPPORTED, "tokenizer.json: \\%c in a splitting expression", c);
            else
                st = buf_printf(out, err, "\\%c", c);
            continue;
        }
        if (s[i] == '[')
            in_class = true;
        else if (s[i] == ']')
            in_class = false;
        st = buf_byte(out, (uint8_t)s[i], err);
    }
    return st;
}

/* A literal text as an expression. */
static enum loam_status quote(struct buf *out, const char *s, size_t n, struct err *err) {
    enum loam_status st = LOAM_OK;
    for (size_t i = 0; i < n && !st; i++) {
        if ((unsigned char)s[i] < 0x80 && !((s[i] | 32) >= 'a' && (s[i] | 32) <= 'z') && !(s[i] >= '0' && s[i] <= '9'))
            st = buf_byte(out, '\\', err);
        if (!st)
            st = buf_byte(out, (uint8_t)s[i], err);
    }
    return st;
}

static enum loam_status pre_tokenizer(struct reading *r, const struct js_val *v) {
    struct lm_tokenizer *t = r->t;
    if (!v || v->type == JS_NULL)
        return LOAM_OK;
    if (is_type(v, "Sequence")) {
        const struct js_val *list = js_get(v, "pretokenizers");
        enum loam_status s = list && list->type == JS_ARRAY && list->n <= SPLITS_MAX ? LOAM_OK : refuse(r, "pre-tokenizer", v);
        for (const struct js_val *p = s ? NULL : list->first; p && !s; p = p->next)
            s = is_type(p, "Sequence") ? refuse(r, "nested pre-tokenizer", p) : pre_tokenizer(r, p);
        return s;
    }
    if (is_type(v, "ByteLevel")) {
        const struct js_val *regex = js_get(v, "use_regex");
        r->bytes = true;
        t->add_prefix = is_true(v, "add_prefix_space");
        if (regex && regex->type == JS_BOOL && !regex->boolean)
            return LOAM_OK;
        return tok_stage(t, TOK_GPT2_SPLIT, strlen(TOK_GPT2_SPLIT), TOK_ISOLATED, r->err);
    }
    if (is_type(v, "Digits")) {
        const char *e = is_true(v, "individual_digits") ? "\\p{N}" : "\\p{N}+";
        return tok_stage(t, e, strlen(e), TOK_ISOLATED, r->err);
    }
    if (is_type(v, "Split")) {
        const struct js_val *pattern = js_get(v, "pattern"), *regex = js_get(pattern, "Regex"), *text = js_get(pattern, "String");
        const struct js_val *how = js_get(v, "behavior");
        if (is_true(v, "invert") || (!js_is_str(how, "Isolated") && !js_is_str(how, "Removed"))) {
            /* Gemma: spaces were replaced before, so that nothing matches. */
            if (t->spm && text && js_is_str(text, " "))
                return LOAM_OK;
            return refuse(r, "behaviour of pre-tokenizer", v);
        }
        struct buf e = BUF_INIT(1 << 16);
        enum loam_status s = regex && regex->type == JS_STRING  ? translate(&e, regex->s, regex->len, r->err)
                             : text && text->type == JS_STRING ? quote(&e, text->s, text->len, r->err)
                                                               : refuse(r, "pattern of pre-tokenizer", v);
        if (!s)
            s = tok_stage(t, e.data ? (const char *)e.data : "", e.len, js_is_str(how, "Removed") ? TOK_REMOVED : TOK_ISOLATED, r->err);
        buf_clear(&e);
        return s;
    }
    if (is_type(v, "Metaspace")) {
        const struct js_val *scheme = js_get(v, "prepend_scheme"), *rep = js_get(v, "replacement");
        if ((rep && !js_is_str(rep, "\xe2\x96\x81")) || is_true(v, "split"))
            return refuse(r, "replacement or split of pre-tokenizer", v);
        t->spm = true;
        if (scheme ? js_is_str(scheme, "always") : is_true(v, "add_prefix_space"))
            t->add_prefix = true;
        else if (scheme && js_is_str(scheme, "first"))
            t->add_prefix = t->prefix_first = true;
        return LOAM_OK;
    }
    return refuse(r, "pre-tokenizer", v);
}

static enum loam_status normalizer(struct reading *r, const struct js_val *v) {
    struct lm_tokenizer *t = r->t;
    if (!v || v->type == JS_NULL)
        return LOAM_OK;
    if (is_type(v, "Sequence")) {
        const struct js_val *list = js_get(v, "normalizers");
        enum loam_status s = list && list->type == JS_ARRAY && list->n <= SPLITS_MAX ? LOAM_OK : refuse(r, "normalizer", v);
        for (const struct js_val *p = s ? NULL : list->first; p && !s; p = p->next)
            s = is_type(p, "Sequence") ? refuse(r, "nested normalizer", p) : normalizer(r, p);
        return s;
    }
    if (is_type(v, "NFC")) {
        t->nfc = true;
        return LOAM_OK;
    }
    if (is_type(v, "Prepend") && js_is_str(js_get(v, "prepend"), "\xe2\x96\x81")) {
        t->add_prefix = true;
        return LOAM_OK;
    }
    if (is_type(v, "Replace") && js_is_str(js_get(js_get(v, "pattern"), "String"), " ") && js_is_str(js_get(v, "content"), "\xe2\x96\x81")) {
        t->spm = true;
        return LOAM_OK;
    }
    return refuse(r, "normalizer", v);
}

struct entry {
    const char *s;
    size_t n;
    uint8_t type;
};

static enum loam_status put_entry(struct reading *r, struct entry *list, uint32_t size, const struct js_val *id, const char *s, size_t n, uint8_t type) {
    char shown[64];
    if (!id || id->type != JS_NUMBER || !id->integral || id->i < 0 || id->i >= size)
        return err_set(r->err, LOAM_EPARSE, "tokenizer.json: the id of \"%s\" is not in 0 to %u", text_clean_cut(shown, sizeof shown, s, n), size - 1);
    if (n > 65535)
        return err_set(r->err, LOAM_ELIMIT, "tokenizer.json: a token of %zu bytes", n);
    struct entry *e = &list[id->i];
    if (e->s && (e->n != n || memcmp(e->s, s, n)))
        return err_set(r->err, LOAM_EPARSE, "tokenizer.json: two tokens have id %lld", (long long)id->i);
    *e = (struct entry){s, n, type};
    return LOAM_OK;
}

/* The highest id + 1 among vocab and added tokens; bounded. */
static enum loam_status count_ids(struct reading *r, const struct js_val *vocab, const struct js_val *added, uint32_t *size) {
    int64_t top = -1;
    for (const struct js_val *v = vocab->first; v; v = v->next)
        if (v->type == JS_NUMBER && v->integral && v->i > top)
            top = v->i;
    for (const struct js_val *a = added ? added->first : NULL; a; a = a->next) {
        const struct js_val *id = js_get(a, "id");
        if (id && id->type == JS_NUMBER && id->integral && id->i > top)
            top = id->i;
    }
    if (top < 0 || top >= LM_VOCAB_MAX)
        return err_set(r->err, LOAM_ELIMIT, "tokenizer.json: ids up to %lld; at most %u", (long long)top, LM_VOCAB_MAX - 1);
    *size = (uint32_t)top + 1;
    return LOAM_OK;
}

static enum loam_status vocabulary(struct reading *r, struct lm_tokenizer **out, const struct js_val *vocab, const struct js_val *added, bool fallback) {
    uint32_t size = 0;
    enum loam_status s = count_ids(r, vocab, added, &size);
    if (s)
        return s;
    struct entry *list = mem_zarray(size, sizeof *list);
    if (!list)
        return err_set(r->err, LOAM_ENOMEM, "no memory for %u tokens", size);
    for (const struct js_val *v = vocab->first; v && !s; v = v->next) {
        bool byte = fallback && v->key_len == 6 && !memcmp(v->key, "<0x", 3) && v->key[5] == '>';
        s = put_entry(r, list, size, v, v->key, v->key_len, byte ? TOK_BYTE : TOK_NORMAL);
    }
    for (const struct js_val *a = added ? added->first : NULL; a && !s; a = a->next) {
        const struct js_val *c = js_get(a, "content");
        if (!c || c->type != JS_STRING || !c->len)
            s = err_set(r->err, LOAM_EPARSE, "tokenizer.json: an added token has no content");
        else if (is_true(a, "single_word") || is_true(a, "lstrip") || is_true(a, "rstrip"))
            s = err_set(r->err, LOAM_EUNSUPPORTED, "tokenizer.json: an added token with single_word, lstrip or rstrip");
        else
            s = put_entry(r, list, size, js_get(a, "id"), c->s, c->len, is_true(a, "special") ? TOK_CONTROL : TOK_USER);
    }
    size_t bytes = 0;
    for (uint32_t i = 0; i < size; i++)
        bytes += list[i].n;
    if (!s)
        s = tok_new(out, size, bytes, r->err);
    for (uint32_t i = 0; i < size && !s; i++) /* ids that nobody has stay as empty, unused pieces */
        tok_add(*out, list[i].s ? list[i].s : "", list[i].n, list[i].s ? (enum tok_type)list[i].type : TOK_UNUSED);
    mem_free(list);
    return s;
}

static enum loam_status merges_of(struct reading *r, const struct js_val *merges) {
    uint32_t rank = 0;
    if (!merges || merges->type != JS_ARRAY || merges->n > 2 * (size_t)LM_VOCAB_MAX)
        return err_set(r->err, LOAM_EPARSE, "tokenizer.json: model.merges is no list");
    enum loam_status s = tok_merges(r->t, (uint32_t)merges->n, r->err);
    for (const struct js_val *m = merges->first; m && !s; m = m->next, rank++) {
        const struct js_val *a = m->type == JS_ARRAY ? m->first : NULL, *b = a ? a->next : NULL;
        if (m->type == JS_STRING) {
            const char *cut = m->len > 1 ? memchr(m->s + 1, ' ', m->len - 1) : NULL;
            s = cut ? tok_merge_add(r->t, m->s, (size_t)(cut - m->s), cut + 1, m->len - (size_t)(cut - m->s) - 1, rank, r->err)
                    : err_set(r->err, LOAM_EPARSE, "tokenizer.json: merge %u has no two parts", rank);
        } else if (a && b && m->n == 2 && a->type == JS_STRING && b->type == JS_STRING) {
            s = tok_merge_add(r->t, a->s, a->len, b->s, b->len, rank, r->err);
        } else {
            s = err_set(r->err, LOAM_EPARSE, "tokenizer.json: merge %u has no two parts", rank);
        }
    }
    return s;
}

/* Does the post-processor put a token in front? */
static void post_processor(struct reading *r, const struct js_val *v) {
    if (is_type(v, "Sequence"))
        for (const struct js_val *p = js_get(v, "processors") ? js_get(v, "processors")->first : NULL; p; p = p->next)
            post_processor(r, p);
    const struct js_val *single = is_type(v, "TemplateProcessing") ? js_get(v, "single") : NULL;
    const struct js_val *first = single && single->type == JS_ARRAY ? js_get(single->first, "SpecialToken") : NULL;
    const struct js_val *id = js_get(first, "id");
    if (id && id->type == JS_STRING) {
        r->t->bos = tok_find(r->t, id->s, id->len);
        r->t->add_bos = r->t->bos != LM_NO_TOKEN;
    }
}

static enum loam_status read_all(struct reading *r, struct lm_tokenizer **out, const struct js_val *root) {
    const struct js_val *model = js_get(root, "model"), *vocab = js_get(model, "vocab"), *added = js_get(root, "added_tokens");
    if (!model || !is_type(model, "BPE"))
        return refuse(r, "model", model);
    if (!vocab || vocab->type != JS_OBJECT || (added && added->type != JS_ARRAY && added->type != JS_NULL))
        return err_set(r->err, LOAM_EPARSE, "tokenizer.json: model.vocab is no object, or added_tokens no list");
    static const char *const none[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        const struct js_val *v = js_get(model, none[i]);
        if (v && v->type == JS_STRING && v->len)
            return err_set(r->err, LOAM_EUNSUPPORTED, "tokenizer.json: model.%s", none[i]);
    }
    bool fallback = is_true(model, "byte_fallback");
    enum loam_status s = vocabulary(r, out, vocab, added && added->type == JS_ARRAY ? added : NULL, fallback);
    if (s)
        return s;
    struct lm_tokenizer *t = r->t = *out;
    keccak_init(&t->hash);
    keccak_add(&t->hash, "loam.tok.1", 10);
    s = normalizer(r, js_get(root, "normalizer"));
    if (!s)
        s = pre_tokenizer(r, js_get(root, "pre_tokenizer"));
    if (!s && r->bytes == t->spm)
        s = err_set(r->err, LOAM_EUNSUPPORTED, "tokenizer.json: neither byte-level nor SentencePiece-like BPE");
    if (!s)
        s = merges_of(r, js_get(model, "merges"));
    if (s)
        return s;
    t->whole = is_true(model, "ignore_merges");
    t->fuse_unk = is_true(model, "fuse_unk");
    t->fallback = fallback;
    const struct js_val *unk = js_get(model, "unk_token");
    if (unk && unk->type == JS_STRING) {
        t->unk = tok_find(t, unk->s, unk->len);
        t->unk_bytes = t->unk != LM_NO_TOKEN;
    }
    post_processor(r, js_get(root, "post_processor"));
    snprintf(t->kind, sizeof t->kind, t->spm ? "spm/json" : "bpe/json");
    return tok_finish(t, r->err);
}

enum loam_status lm_tokenizer_json(struct lm_tokenizer **out, const char *text, size_t n, struct err *err) {
    struct js_doc doc;
    struct lm_tokenizer *t = NULL;
    *out = NULL;
    enum loam_status s = js_parse(&doc, text, n, err);
    if (s)
        return err_prefix(err, s, "tokenizer.json");
    struct reading r = {.err = err};
    s = read_all(&r, &t, doc.root);
    js_free(&doc);
    if (s)
        lm_tokenizer_free(t);
    else
        *out = t;
    return s;
}
