#define PCRE2_CODE_UNIT_WIDTH 8
#include "lm/tokenizer.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "base/text.h"
#include "lm/gguf.h"
#include "lm/nfc.h"
#include "lm/tokenizer_in.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

/* What each model's pre-tokenizer splits at. A stage's expression cuts every piece of the stage before it into matches and
 * the gaps between them. */
#define LLAMA3_SPLIT(digits)                                                                                       \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits "| ?[^" TOK_WS "\\p{L}\\p{N}]+[\\r\\n]*|[" TOK_WS           \
    "]*[\\r\\n]+|[" TOK_WS "]+(?![^" TOK_WS "])|[" TOK_WS "]+"

struct pre_kind {
    const char *name; /* tokenizer.ggml.pre */
    bool whole;       /* a word that is a token is taken without merging */
    bool nfc;         /* text is normalised to NFC first */
    const char *stage[2];
};
static const struct pre_kind pre_kinds[] = {
    {"gpt-2", false, false, {TOK_GPT2_SPLIT}},
    {"smollm", false, false, {"\\p{N}", TOK_GPT2_SPLIT}},
    {"starcoder", false, false, {"\\p{N}", TOK_GPT2_SPLIT}},
    {"refact", false, false, {"\\p{N}", TOK_GPT2_SPLIT}},
    {"command-r", false, false, {"\\p{N}", TOK_GPT2_SPLIT}},
    {"llama-bpe", true, false, {LLAMA3_SPLIT("{1,3}")}},
    {"llama3", true, false, {LLAMA3_SPLIT("{1,3}")}},
    {"qwen2", false, true, {LLAMA3_SPLIT("")}},
};

void lm_ids_clear(struct lm_ids *l) {
    mem_free(l->ids);
    *l = (struct lm_ids){0};
}

enum loam_status lm_ids_append(struct lm_ids *l, const uint32_t *ids, uint32_t n, struct err *err) {
    if (n > LM_TEXT_MAX - l->n)
        return err_set(err, LOAM_ELIMIT, "more than %u tokens in one list", LM_TEXT_MAX);
    if (l->cap - l->n < n) {
        uint32_t cap = l->cap ? l->cap : 64;
        while (cap - l->n < n)
            cap *= 2;
        uint32_t *p = mem_resize(l->ids, cap, sizeof *p);
        if (!p)
            return err_set(err, LOAM_ENOMEM, "no memory for %u tokens", cap);
        l->ids = p;
        l->cap = cap;
    }
    if (n)
        memcpy(l->ids + l->n, ids, (size_t)n * sizeof *ids);
    l->n += n;
    return LOAM_OK;
}

enum loam_status lm_ids_add(struct lm_ids *l, uint32_t id, struct err *err) {
    return lm_ids_append(l, &id, 1, err);
}

/* ---- the byte-level alphabet of GPT-2: printable Latin-1 stands for itself, the rest for U+0100 upwards ---- */

static bool printable(unsigned b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
}

static uint32_t byte_char(unsigned b) {
    if (printable(b))
        return b;
    uint32_t n = 0;
    for (unsigned i = 0; i < b; i++)
        n += !printable(i);
    return 256 + n;
}

/* ---- building ---- */

static uint64_t text_hash(const char *s, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return h ^ h >> 29;
}

static uint64_t pair_hash(uint32_t a, uint32_t b) {
    uint64_t h = ((uint64_t)a << 32 | b) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

static uint32_t table_size(uint32_t n) {
    uint32_t s = 16;
    while (s < 2 * (uint64_t)n)
        s *= 2;
    return s;
}

uint32_t tok_find(const struct lm_tokenizer *t, const char *s, size_t n) {
    for (uint64_t h = text_hash(s, n);; h++) {
        uint32_t id = t->find[h & (t->find_size - 1)];
        if (id == LM_NO_TOKEN)
            return id;
        if (t->piece[id].n == n && !memcmp(t->text + t->piece[id].at, s, n))
            return id;
    }
}

const struct tok_merge *tok_merge_find(const struct lm_tokenizer *t, uint32_t a, uint32_t b) {
    if (!t->merge_size)
        return NULL;
    for (uint64_t h = pair_hash(a, b);; h++) {
        const struct tok_merge *m = &t->merge[h & (t->merge_size - 1)];
        if (m->left == LM_NO_TOKEN)
            return NULL;
        if (m->left == a && m->right == b)
            return m;
    }
}

enum loam_status tok_new(struct lm_tokenizer **out, uint32_t n, size_t text_bytes, struct err *err) {
    struct lm_tokenizer *t = mem_zalloc(sizeof *t);
    if (!t)
        return err_set(err, LOAM_ENOMEM, "no memory for a tokenizer");
    t->bos = t->eos = t->unk = LM_NO_TOKEN;
    t->find_size = table_size(n);
    t->piece = mem_zarray(n ? n : 1, sizeof *t->piece);
    t->text = mem_alloc(text_bytes ? text_bytes : 1);
    t->find = mem_array(t->find_size, sizeof *t->find);
    t->text_cap = text_bytes;
    if (!t->piece || !t->text || !t->find) {
        lm_tokenizer_free(t);
        return err_set(err, LOAM_ENOMEM, "no memory for a vocabulary of %u tokens", n);
    }
    memset(t->find, 0xff, (size_t)t->find_size * sizeof *t->find);
    t->cap = n;
    *out = t;
    return LOAM_OK;
}

void tok_add(struct lm_tokenizer *t, const char *s, size_t n, enum tok_type type) {
    LOAM_ASSERT(t->n < t->cap && n <= t->text_cap - t->text_len);
    struct tok_piece *p = &t->piece[t->n];
    memcpy(t->text + t->text_len, s, n);
    *p = (struct tok_piece){.at = t->text_len, .n = (uint32_t)n, .type = (uint8_t)type};
    t->text_len += n;
    if (n > t->longest)
        t->longest = (uint32_t)n;
    uint64_t h = text_hash(s, n);
    for (;; h++) {
        uint32_t *slot = &t->find[h & (t->find_size - 1)];
        if (*slot == LM_NO_TOKEN) {
            *slot = t->n;
            break;
        }
        const struct tok_piece *o = &t->piece[*slot];
        if (o->n == n && !memcmp(t->text + o->at, s, n)) {
            /* Padding tokens of some files share a name; a text that stands twice keeps its first id. */
            break;
        }
    }
    t->n++;
}

enum loam_status tok_merges(struct lm_tokenizer *t, uint32_t n, struct err *err) {
    t->merge_size = table_size(n);
    t->merge = mem_array(t->merge_size, sizeof *t->merge);
    if (!t->merge)
        return err_set(err, LOAM_ENOMEM, "no memory for %u merges", n);
    memset(t->merge, 0xff, (size_t)t->merge_size * sizeof *t->merge);
    return LOAM_OK;
}

/* Merge number `rank` of the two pieces a, b, which with their joined text must be in the vocabulary. */
enum loam_status tok_merge_add(struct lm_tokenizer *t, const char *a, size_t an, const char *b, size_t bn, uint32_t rank,
                               struct err *err) {
    char both[1024], shown[128];
    if (an + bn > sizeof both)
        return err_set(err, LOAM_ELIMIT, "tokenizer: merge %u makes a piece of %zu bytes", rank, an + bn);
    memcpy(both, a, an);
    memcpy(both + an, b, bn);
    uint32_t l = tok_find(t, a, an), r = tok_find(t, b, bn), to = tok_find(t, both, an + bn);
    if (l == LM_NO_TOKEN || r == LM_NO_TOKEN || to == LM_NO_TOKEN)
        return err_set(err, LOAM_EPARSE, "tokenizer: merge %u (%s) names a piece that is not in the vocabulary", rank,
                       text_clean_cut(shown, sizeof shown, both, an + bn));
    for (uint64_t h = pair_hash(l, r);; h++) {
        struct tok_merge *m = &t->merge[h & (t->merge_size - 1)];
        if (m->left == LM_NO_TOKEN) {
            *m = (struct tok_merge){l, r, rank, to};
            t->n_merges++;
            return LOAM_OK;
        }
        if (m->left == l && m->right == r) { /* said twice: the later rank counts, as in a map filled in order */
            m->rank = rank;
            return LOAM_OK;
        }
    }
}

enum loam_status tok_stage(struct lm_tokenizer *t, const char *expression, size_t n, enum tok_split how, struct err *err) {
    if (t->n_stages == TOK_STAGES_MAX)
        return err_set(err, LOAM_ELIMIT, "tokenizer: more than %d splitting stages", TOK_STAGES_MAX);
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)expression, n, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
    if (!re) {
        PCRE2_UCHAR msg[128];
        pcre2_get_error_message(code, msg, sizeof msg);
        return err_set(err, LOAM_EPARSE, "tokenizer: its splitting expression does not compile: %s at %zu", (char *)msg,
                       (size_t)at);
    }
    (void)pcre2_jit_compile(re, PCRE2_JIT_COMPLETE); /* without JIT it only runs slower */
    char *text = mem_printf("%.*s", (int)n, expression);
    if (!text) {
        pcre2_code_free(re);
        return err_set(err, LOAM_ENOMEM, "no memory for a splitting expression");
    }
    t->stage[t->n_stages++] = (struct tok_stage){re, text, how};
    keccak_add(&t->hash, "stage", 6);
    keccak_add(&t->hash, expression, n);
    return LOAM_OK;
}

const char *tok_pre(const struct lm_tokenizer *t) {
    for (size_t k = 0; k < sizeof pre_kinds / sizeof *pre_kinds; k++) {
        const struct pre_kind *p = &pre_kinds[k];
        bool same = !t->spm && p->whole == t->whole && p->nfc == t->nfc;
        int n = 0;
        for (; n < 2 && p->stage[n]; n++)
            same = same && n < t->n_stages && t->stage[n].how == TOK_ISOLATED && !strcmp(t->stage[n].expression, p->stage[n]);
        if (same && n == t->n_stages)
            return p->name;
    }
    return NULL;
}

static int longer_first(const void *a, const void *b) {
    const struct tok_special *x = a, *y = b;
    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    return x->n != y->n ? (x->n > y->n ? -1 : 1) : x->id < y->id ? -1 : 1;
}

static void hash_u32(struct keccak *k, uint32_t v) {
    uint8_t b[4];
    put_le32(b, v);
    keccak_add(k, b, 4);
}

static const char *const end_texts[] = {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<end_of_turn>", "<|end|>", "</s>"};

bool tok_ends_by_text(const struct lm_tokenizer *t, uint32_t id) {
    for (size_t i = 0; i < sizeof end_texts / sizeof *end_texts; i++)
        if (tok_find(t, end_texts[i], strlen(end_texts[i])) == id && t->piece[id].type == TOK_CONTROL)
            return true;
    return false;
}

/* After all pieces, merges and stages: the byte table, the list of added tokens, the hash. */
enum loam_status tok_finish(struct lm_tokenizer *t, struct err *err) {
    if (t->n == 0)
        return err_set(err, LOAM_EPARSE, "tokenizer: the vocabulary is empty");
    uint32_t specials = 0;
    for (uint32_t i = 0; i < t->n; i++)
        specials += (t->piece[i].type == TOK_CONTROL || t->piece[i].type == TOK_USER) && t->piece[i].n;
    t->special = mem_zarray(specials ? specials : 1, sizeof *t->special);
    if (!t->special)
        return err_set(err, LOAM_ENOMEM, "no memory for %u added tokens", specials);
    for (uint32_t i = 0; i < t->n; i++) {
        const struct tok_piece *p = &t->piece[i];
        if ((p->type == TOK_CONTROL || p->type == TOK_USER) && p->n)
            t->special[t->n_special++] = (struct tok_special){(uint8_t)t->text[p->at], p->type == TOK_CONTROL, p->n, i};
    }
    qsort(t->special, t->n_special, sizeof *t->special, longer_first);
    for (uint32_t i = 0; i < t->n_special; i++)
        t->special_first[t->special[i].first + 1] = i + 1;
    for (int b = 0; b < 256; b++)
        if (t->special_first[b + 1] < t->special_first[b])
            t->special_first[b + 1] = t->special_first[b];
    for (unsigned b = 0; b < 256; b++) {
        if (t->spm) {
            char name[8];
            snprintf(name, sizeof name, "<0x%02X>", b);
            t->byte[b] = tok_find(t, name, 6);
        } else {
            uint8_t u[4];
            size_t n = utf8_encode(u, byte_char(b));
            t->byte[b] = tok_find(t, (char *)u, n);
        }
    }
    for (size_t i = 0; i < sizeof end_texts / sizeof *end_texts; i++) {
        uint32_t id = tok_find(t, end_texts[i], strlen(end_texts[i]));
        if (id != LM_NO_TOKEN && t->piece[id].type == TOK_CONTROL && t->n_end < sizeof t->end / sizeof *t->end)
            t->end[t->n_end++] = id;
    }
    keccak_add(&t->hash, t->kind, strlen(t->kind) + 1);
    hash_u32(&t->hash, t->n);
    for (uint32_t i = 0; i < t->n; i++) {
        hash_u32(&t->hash, t->piece[i].n);
        keccak_add(&t->hash, t->text + t->piece[i].at, t->piece[i].n);
        keccak_add(&t->hash, &t->piece[i].type, 1);
        if (t->score) {
            uint32_t u;
            memcpy(&u, &t->score[i], 4);
            hash_u32(&t->hash, u);
        }
    }
    /* Merges in table order would depend on the table; hash them by rank. */
    uint32_t *by_rank = mem_array(t->merge_size ? t->merge_size : 1, sizeof *by_rank);
    if (!by_rank)
        return err_set(err, LOAM_ENOMEM, "no memory for %u merges", t->n_merges);
    memset(by_rank, 0xff, (t->merge_size ? t->merge_size : 1) * sizeof *by_rank);
    for (uint32_t i = 0; i < t->merge_size; i++)
        if (t->merge[i].left != LM_NO_TOKEN && t->merge[i].rank < t->merge_size)
            by_rank[t->merge[i].rank] = i;
    for (uint32_t i = 0; i < t->merge_size; i++)
        if (by_rank[i] != UINT32_MAX) {
            const struct tok_merge *m = &t->merge[by_rank[i]];
            hash_u32(&t->hash, m->left);
            hash_u32(&t->hash, m->right);
            hash_u32(&t->hash, m->to);
        }
    mem_free(by_rank);
    const uint32_t tail[] = {t->bos, t->eos, t->unk, t->add_bos, t->whole, t->nfc, t->add_prefix, t->prefix_first, t->unk_bytes, t->fuse_unk, t->fallback};
    for (size_t i = 0; i < sizeof tail / sizeof *tail; i++)
        hash_u32(&t->hash, tail[i]);
    keccak_end(&t->hash, t->digest);
    return LOAM_OK;
}

static enum loam_status special_id(uint32_t *out, const struct gguf *g, const char *key, uint32_t n, struct err *err) {
    enum loam_status s = gguf_u32(out, g, key, LM_NO_TOKEN, err);
    if (!s && *out != LM_NO_TOKEN && *out >= n)
        s = err_set(err, LOAM_EPARSE, "GGUF: %s is %u, past the vocabulary of %u", key, *out, n);
    return s;
}

static enum loam_status from_gguf(struct lm_tokenizer **out, const struct gguf *g, struct err *err) {
    struct gguf_str model, pre;
    enum loam_status s = gguf_string(&model, g, "tokenizer.ggml.model", err);
    if (!s)
        s = gguf_string(&pre, g, "tokenizer.ggml.pre", err);
    if (s)
        return s;
    char shown[64];
    bool spm = gguf_str_is(model, "llama");
    const struct pre_kind *kind = NULL;
    if (!spm && !gguf_str_is(model, "gpt2"))
        return err_set(err, LOAM_EUNSUPPORTED, "GGUF: tokenizer.ggml.model is \"%s\"; gpt2 and llama are known",
                       model.s ? text_clean_cut(shown, sizeof shown, model.s, model.len) : "(missing)");
    for (size_t i = 0; !spm && i < sizeof pre_kinds / sizeof *pre_kinds; i++)
        if (gguf_str_is(pre, pre_kinds[i].name))
            kind = &pre_kinds[i];
    if (!spm && !kind)
        return err_set(err, LOAM_EUNSUPPORTED, "GGUF: tokenizer.ggml.pre is \"%s\", whose splitting expression is not known",
                       pre.s ? text_clean_cut(shown, sizeof shown, pre.s, pre.len) : "(missing)");
    const struct gguf_pair *tokens = gguf_find(g, "tokenizer.ggml.tokens"), *types = gguf_find(g, "tokenizer.ggml.token_type"),
                           *merges = gguf_find(g, "tokenizer.ggml.merges"), *scores = gguf_find(g, "tokenizer.ggml.scores");
    if (!tokens || tokens->kind != GGUF_ARRAY || tokens->of != GGUF_STRING || tokens->n == 0 || tokens->n > LM_VOCAB_MAX)
        return err_set(err, LOAM_EPARSE, "GGUF: tokenizer.ggml.tokens is no list of 1 to %u strings", LM_VOCAB_MAX);
    if (types && (types->kind != GGUF_ARRAY || types->of != GGUF_I32 || types->n != tokens->n))
        return err_set(err, LOAM_EPARSE, "GGUF: tokenizer.ggml.token_type does not go with the tokens");
    if (!spm && (!merges || merges->kind != GGUF_ARRAY || merges->of != GGUF_STRING || merges->n > LM_VOCAB_MAX))
        return err_set(err, LOAM_EPARSE, "GGUF: tokenizer.ggml.merges is no list of strings");
    if (spm && (!scores || scores->kind != GGUF_ARRAY || scores->of != GGUF_F32 || scores->n != tokens->n))
        return err_set(err, LOAM_EPARSE, "GGUF: tokenizer.ggml.scores does not go with the tokens");
    size_t bytes = 0;
    const unsigned char *at = tokens->data;
    for (uint64_t i = 0; i < tokens->n; i++)
        bytes += gguf_next_string(&at).len;
    struct lm_tokenizer *t;
    if ((s = tok_new(&t, (uint32_t)tokens->n, bytes, err)))
        return s;
    *out = t;
    keccak_init(&t->hash);
    keccak_add(&t->hash, "loam.tok.1", 10);
    t->spm = t->fallback = t->unk_bytes = t->fuse_unk = spm;
    snprintf(t->kind, sizeof t->kind, "%s", spm ? "spm" : "gpt2/");
    if (kind)
        snprintf(t->kind + 5, sizeof t->kind - 5, "%s", kind->name);
    at = tokens->data;
    for (uint64_t i = 0; i < tokens->n && !s; i++) {
        struct gguf_str p = gguf_next_string(&at);
        int64_t type = types ? gguf_int_at(types, i) : TOK_NORMAL;
        if (type < TOK_NORMAL || type > TOK_BYTE)
            return err_set(err, LOAM_EPARSE, "GGUF: token %llu has type %lld", (unsigned long long)i, (long long)type);
        if (!utf8_valid((const uint8_t *)p.s, p.len, NULL) || p.len > 65535)
            return err_set(err, LOAM_EPARSE, "GGUF: token %llu is not UTF-8 or too long", (unsigned long long)i);
        tok_add(t, p.s, p.len, (enum tok_type)type);
    }
    if (!s && spm) {
        t->score = mem_array(t->n, sizeof *t->score);
        if (!t->score)
            return err_set(err, LOAM_ENOMEM, "no memory for %u scores", t->n);
        for (uint32_t i = 0; i < t->n; i++)
            t->score[i] = (float)gguf_num_at(scores, i);
    }
    if (!s && !spm) {
        s = tok_merges(t, (uint32_t)merges->n, err);
        at = merges->data;
        for (uint64_t i = 0; i < merges->n && !s; i++) {
            struct gguf_str m = gguf_next_string(&at);
            const char *cut = m.len > 1 ? memchr(m.s + 1, ' ', m.len - 1) : NULL;
            if (!cut)
                return err_set(err, LOAM_EPARSE, "GGUF: merge %llu has no two parts", (unsigned long long)i);
            size_t left = (size_t)(cut - m.s);
            s = tok_merge_add(t, m.s, left, cut + 1, m.len - left - 1, (uint32_t)i, err);
        }
        for (int i = 0; i < 2 && kind->stage[i] && !s; i++)
            s = tok_stage(t, kind->stage[i], strlen(kind->stage[i]), TOK_ISOLATED, err);
        t->whole = kind->whole;
        t->nfc = kind->nfc;
    }
    if (!s)
        s = special_id(&t->bos, g, "tokenizer.ggml.bos_token_id", t->n, err);
    if (!s)
        s = special_id(&t->eos, g, "tokenizer.ggml.eos_token_id", t->n, err);
    if (!s)
        s = special_id(&t->unk, g, "tokenizer.ggml.unknown_token_id", t->n, err);
    static const char *const ends[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends && !s; i++) { /* tok_finish adds those known by their text */
        uint32_t id;
        s = special_id(&id, g, ends[i], t->n, err);
        if (!s && id != LM_NO_TOKEN)
            t->end[t->n_end++] = id;
    }
    if (!s)
        s = gguf_bool(&t->add_bos, g, "tokenizer.ggml.add_bos_token", spm || t->whole, err);
    if (!s)
        s = gguf_bool(&t->add_prefix, g, "tokenizer.ggml.add_space_prefix", spm, err);
    return s ? s : tok_finish(t, err);
}

enum loam_status lm_tokenizer_gguf(struct lm_tokenizer **out, const struct gguf *g, struct err *err) {
    struct lm_tokenizer *t = NULL;
    enum loam_status s = from_gguf(&t, g, err);
    if (s) {
        lm_tokenizer_free(t);
        t = NULL;
    }
    *out = t;
    return s;
}

void lm_tokenizer_free(struct lm_tokenizer *t) {
    if (!t)
        return;
    for (int i = 0; i < t->n_stages; i++) {
        pcre2_code_free(t->stage[i].re);
        mem_free(t->stage[i].expression);
    }
    mem_free(t->piece);
    mem_free(t->text);
    mem_free(t->find);
    mem_free(t->merge);
    mem_free(t->score);
    mem_free(t->special);
    mem_free(t);
}

/* ---- encoding ---- */

/* A symbol of the word being merged. */
struct sym {
    uint32_t id, prev, next; /* NONE at the ends; id NONE: merged away */
};
#define NONE UINT32_MAX

struct encoder {
    const struct lm_tokenizer *t;
    struct lm_ids *out;
    struct err *err;
    pcre2_match_data *match[TOK_STAGES_MAX];
    struct sym *sym;
    uint64_t *heap; /* rank << 32 | position of the left symbol */
    uint32_t cap, n_heap;
};

static void heap_push(struct encoder *e, uint64_t v) {
    uint32_t i = e->n_heap++;
    while (i && e->heap[(i - 1) / 2] > v) {
        e->heap[i] = e->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    e->heap[i] = v;
}

static uint64_t heap_pop(struct encoder *e) {
    uint64_t top = e->heap[0], v = e->heap[--e->n_heap];
    uint32_t i = 0;
    for (;;) {
        uint32_t c = 2 * i + 1;
        if (c >= e->n_heap)
            break;
        if (c + 1 < e->n_heap && e->heap[c + 1] < e->heap[c])
            c++;
        if (e->heap[c] >= v)
            break;
        e->heap[i] = e->heap[c];
        i = c;
    }
    e->heap[i] = v;
    return top;
}

static enum loam_status room(struct encoder *e, size_t n) {
    if (n <= e->cap)
        return LOAM_OK;
    size_t cap = n < 256 ? 256 : n;
    void *s = mem_resize(e->sym, cap, sizeof *e->sym);
    if (s)
        e->sym = s;
    /* A pair is pushed once for each start and twice for each merge: less than 3 n in all. */
    void *h = s ? mem_resize(e->heap, 3 * cap, sizeof *e->heap) : NULL;
    if (!h)
        return err_set(e->err, LOAM_ENOMEM, "no memory to tokenize a word of %zu bytes", n);
    e->heap = h;
    e->cap = (uint32_t)cap;
    return LOAM_OK;
}

/* The order of a merge: lower comes first. BPE: its rank. SentencePiece files with scores: the joined piece's score, higher
 * first (an order-preserving map of the float's bits). */
static bool merge_key(const struct encoder *e, uint32_t a, uint32_t b, uint32_t *key, uint32_t *to) {
    const struct lm_tokenizer *t = e->t;
    if (t->score) {
        char both[1024];
        const struct tok_piece *x = &t->piece[a], *y = &t->piece[b];
        if ((size_t)x->n + y->n > sizeof both || x->n + y->n > t->longest)
            return false;
        memcpy(both, t->text + x->at, x->n);
        memcpy(both + x->n, t->text + y->at, y->n);
        uint32_t id = tok_find(t, both, (size_t)x->n + y->n), u;
        if (id == LM_NO_TOKEN || t->piece[id].type != TOK_NORMAL)
            return false;
        memcpy(&u, &t->score[id], 4);
        u = u >> 31 ? ~u : u | 0x80000000u; /* ascending with the float */
        *key = ~u;
        *to = id;
        return true;
    }
    const struct tok_merge *m = tok_merge_find(t, a, b);
    if (!m)
        return false;
    *key = m->rank;
    *to = m->to;
    return true;
}

static void offer(struct encoder *e, uint32_t left) {
    uint32_t right = e->sym[left].next, key, to;
    if (right != NONE && merge_key(e, e->sym[left].id, e->sym[right].id, &key, &to))
        heap_push(e, (uint64_t)key << 32 | left);
}

/* Merges sym[0..n) and appends what is left. */
static enum loam_status merge_word(struct encoder *e, uint32_t n) {
    struct sym *y = e->sym;
    for (uint32_t i = 0; i < n; i++) {
        y[i].prev = i ? i - 1 : NONE;
        y[i].next = i + 1 < n ? i + 1 : NONE;
    }
    e->n_heap = 0;
    for (uint32_t i = 0; i + 1 < n; i++)
        offer(e, i);
    while (e->n_heap) {
        uint64_t top = heap_pop(e);
        uint32_t l = (uint32_t)top, r = y[l].id == NONE ? NONE : y[l].next, key, to;
        /* An entry is stale where its pair is not there any more; a rank names one pair. */
        if (r == NONE || !merge_key(e, y[l].id, y[r].id, &key, &to) || key != top >> 32)
            continue;
        y[l].id = to;
        y[l].next = y[r].next;
        if (y[r].next != NONE)
            y[y[r].next].prev = l;
        y[r].id = NONE;
        if (y[l].prev != NONE)
            offer(e, y[l].prev);
        offer(e, l);
    }
    for (uint32_t i = 0; n && i != NONE; i = y[i].next) {
        enum loam_status s = lm_ids_add(e->out, y[i].id, e->err);
        if (s)
            return s;
    }
    return LOAM_OK;
}

static enum loam_status word_bytes(struct encoder *e, const char *s, size_t n) {
    const struct lm_tokenizer *t = e->t;
    if (n == 0)
        return LOAM_OK;
    enum loam_status st = room(e, n);
    if (st)
        return st;
    char mapped[1024];
    if (t->whole && 2 * n <= sizeof mapped) {
        size_t m = 0;
        for (size_t i = 0; i < n; i++)
            m += utf8_encode((uint8_t *)mapped + m, byte_char((unsigned char)s[i]));
        uint32_t id = tok_find(t, mapped, m);
        if (id != LM_NO_TOKEN)
            return lm_ids_add(e->out, id, e->err);
    }
    uint32_t k = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t id = t->byte[(unsigned char)s[i]];
        if (id != LM_NO_TOKEN) /* a byte without a token vanishes, as in Hugging Face's BPE without unk_token */
            e->sym[k++].id = id;
        else if (t->unk_bytes)
            e->sym[k++].id = t->unk;
    }
    return merge_word(e, k);
}

static enum loam_status split(struct encoder *e, int stage, const char *s, size_t n) {
    const struct lm_tokenizer *t = e->t;
    if (n == 0)
        return LOAM_OK;
    if (stage == t->n_stages)
        return word_bytes(e, s, n);
    if (!e->match[stage] && !(e->match[stage] = pcre2_match_data_create(1, NULL)))
        return err_set(e->err, LOAM_ENOMEM, "no memory to split text");
    const PCRE2_SIZE *ov = pcre2_get_ovector_pointer(e->match[stage]);
    size_t from = 0, at = 0;
    while (at <= n) {
        int rc = pcre2_match(t->stage[stage].re, (PCRE2_SPTR)s, n, at, PCRE2_NO_UTF_CHECK, e->match[stage], NULL);
        if (rc == PCRE2_ERROR_NOMATCH)
            break;
        if (rc < 0)
            return err_set(e->err, LOAM_ELIMIT, "the tokenizer's expression gave up on this text (PCRE2 error %d)", rc);
        size_t a = ov[0], b = ov[1];
        if (a == b) { /* an empty match cuts nothing; go one character on */
            uint32_t cp;
            at = b < n ? b + utf8_decode(&cp, (const uint8_t *)s + b, n - b) : n + 1;
            continue;
        }
        enum loam_status st = split(e, stage + 1, s + from, a - from);
        if (!st && t->stage[stage].how == TOK_ISOLATED)
            st = split(e, stage + 1, s + a, b - a);
        if (st)
            return st;
        from = at = b;
    }
    return split(e, stage + 1, s + from, n - from);
}

/* SentencePiece: the whole text is one word of characters, spaces as U+2581. */
static enum loam_status word_chars(struct encoder *e, const char *s, size_t n, bool prefix) {
    const struct lm_tokenizer *t = e->t;
    enum loam_status st = room(e, n + 1);
    uint32_t k = 0;
    if (st)
        return st;
    for (size_t i = 0; i < n || prefix;) {
        char space[] = "\xe2\x96\x81";
        const char *c = s + i;
        size_t len = 3;
        if (prefix || s[i] == ' ') {
            c = space;
            i += !prefix;
            prefix = false;
        } else {
            uint32_t cp;
            len = utf8_decode(&cp, (const uint8_t *)s + i, n - i);
            i += len;
        }
        uint32_t id = tok_find(t, c, len);
        if (id != LM_NO_TOKEN && t->piece[id].type == TOK_NORMAL) {
            e->sym[k++].id = id;
            continue;
        }
        bool bytes = t->fallback;
        for (size_t j = 0; j < len; j++)
            bytes = bytes && t->byte[(unsigned char)c[j]] != LM_NO_TOKEN;
        if (bytes) {
            /* a space takes three bytes of room where one was counted */
            if ((st = room(e, k + len + (n - i) + 1)))
                return st;
            for (size_t j = 0; j < len; j++)
                e->sym[k++].id = t->byte[(unsigned char)c[j]];
        } else if (t->unk_bytes && t->unk != LM_NO_TOKEN && !(t->fuse_unk && k && e->sym[k - 1].id == t->unk)) {
            e->sym[k++].id = t->unk;
        }
    }
    return merge_word(e, k);
}

static enum loam_status encode_plain(struct encoder *e, const char *s, size_t n, bool first) {
    const struct lm_tokenizer *t = e->t;
    struct buf changed = BUF_INIT(4 * (size_t)LM_TEXT_MAX);
    enum loam_status st = LOAM_OK;
    if (n == 0)
        return LOAM_OK;
    if (t->nfc && !nfc_quick(s, n)) {
        st = nfc_text(&changed, s, n, e->err);
        s = (const char *)changed.data;
        n = changed.len;
    }
    bool prefix = t->add_prefix && (first || !t->prefix_first);
    if (!st && t->spm) {
        st = word_chars(e, s, n, prefix && !(t->prefix_first && s[0] == ' '));
    } else if (!st && prefix && s[0] != ' ') {
        struct buf b = BUF_INIT(4 * (size_t)LM_TEXT_MAX + 1);
        st = buf_byte(&b, ' ', e->err);
        if (!st)
            st = buf_add(&b, s, n, e->err);
        if (!st)
            st = split(e, 0, (const char *)b.data, b.len);
        buf_clear(&b);
    } else if (!st) {
        st = split(e, 0, s, n);
    }
    buf_clear(&changed);
    return st;
}

/* The added token that starts at s, longest first, or NULL. */
static const struct tok_special *special_at(const struct lm_tokenizer *t, const char *s, size_t n, bool control) {
    uint8_t c = (uint8_t)*s;
    for (uint32_t i = t->special_first[c]; i < t->special_first[c + 1]; i++) {
        const struct tok_special *x = &t->special[i];
        if ((control || !x->control) && x->n <= n && !memcmp(t->text + t->piece[x->id].at, s, x->n))
            return x;
    }
    return NULL;
}

enum loam_status lm_encode(struct lm_ids *out, const struct lm_tokenizer *t, const char *text, size_t n, unsigned flags,
                           struct err *err) {
    size_t bad;
    if (n > LM_TEXT_MAX)
        return err_set(err, LOAM_ELIMIT, "%zu bytes of text; at most %u are tokenized at once", n, LM_TEXT_MAX);
    if (!utf8_valid((const uint8_t *)text, n, &bad))
        return err_set(err, LOAM_EPARSE, "the text is not UTF-8 at byte %zu", bad);
    struct encoder e = {.t = t, .out = out, .err = err};
    uint32_t n0 = out->n;
    enum loam_status s = LOAM_OK;
    if ((flags & LM_ENCODE_BOS) && t->add_bos && t->bos != LM_NO_TOKEN)
        s = lm_ids_add(out, t->bos, err);
    size_t from = 0;
    for (size_t i = 0; i < n && !s;) {
        const struct tok_special *x = special_at(t, text + i, n - i, flags & LM_ENCODE_SPECIAL);
        if (!x) {
            i++;
            continue;
        }
        s = encode_plain(&e, text + from, i - from, from == 0 && !(flags & LM_ENCODE_INNER));
        if (!s)
            s = lm_ids_add(out, x->id, err);
        i += x->n;
        from = i;
    }
    if (!s)
        s = encode_plain(&e, text + from, n - from, from == 0 && !(flags & LM_ENCODE_INNER));
    for (int i = 0; i < TOK_STAGES_MAX; i++)
        pcre2_match_data_free(e.match[i]);
    mem_free(e.sym);
    mem_free(e.heap);
    if (s)
        out->n = n0;
    return s;
}

/* ---- decoding ---- */

/* The byte a character of the byte-level alphabet stands for, or -1. */
static int char_byte(uint32_t cp) {
    if (cp < 256)
        return printable(cp) ? (int)cp : -1;
    uint32_t n = cp - 256;
    for (unsigned b = 0; b < 256; b++)
        if (!printable(b) && n-- == 0)
            return (int)b;
    return -1;
}

enum loam_status lm_decode(struct buf *out, const struct lm_tokenizer *t, const uint32_t *ids, uint32_t n, bool special,
                           struct err *err) {
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] >= t->n)
            return err_set(err, LOAM_ERANGE, "token %u is past the vocabulary of %u", ids[i], t->n);
        const struct tok_piece *p = &t->piece[ids[i]];
        const char *s = t->text + p->at;
        enum loam_status st = LOAM_OK;
        if (p->type == TOK_CONTROL || p->type == TOK_UNKNOWN || p->type == TOK_UNUSED) {
            if (special)
                st = buf_add(out, s, p->n, err);
        } else if (p->type == TOK_USER) {
            st = buf_add(out, s, p->n, err);
        } else if (p->type == TOK_BYTE) {
            uint8_t b;
            if (p->n != 6 || hex_decode(&b, 1, (char[]){s[3], s[4], 0}, NULL))
                return err_set(err, LOAM_EPARSE, "token %u is a byte without a number", ids[i]);
            st = buf_byte(out, b, err);
        } else {
            for (size_t k = 0; k < p->n && !st;) {
                uint32_t cp;
                size_t len = utf8_decode(&cp, (const uint8_t *)s + k, p->n - k);
                int b = t->spm ? -1 : char_byte(cp);
                if (b >= 0)
                    st = buf_byte(out, (uint8_t)b, err);
                else if (t->spm && cp == 0x2581)
                    st = buf_byte(out, ' ', err);
                else
                    st = buf_add(out, s + k, len, err);
                k += len;
            }
        }
        if (st)
            return st;
    }
    return LOAM_OK;
}

size_t lm_utf8_tail(const uint8_t *p, size_t n) {
    for (size_t k = 1; k <= 3 && k <= n; k++) {
        uint8_t b = p[n - k];
        if ((b & 0xc0) == 0x80)
            continue;
        size_t want = b >= 0xf0 && b <= 0xf4 ? 4 : b >= 0xe0 && b < 0xf0 ? 3 : b >= 0xc2 && b < 0xe0 ? 2 : 1;
        return want > k ? k : 0;
    }
    return 0;
}

/* ---- questions ---- */

uint32_t lm_tokenizer_size(const struct lm_tokenizer *t) {
    return t->n;
}

uint32_t lm_token_bos(const struct lm_tokenizer *t) {
    return t->bos;
}

uint32_t lm_token_eos(const struct lm_tokenizer *t) {
    return t->eos;
}

bool lm_token_ends(const struct lm_tokenizer *t, uint32_t id) {
    if (id == t->eos)
        return true;
    for (uint32_t i = 0; i < t->n_end; i++)
        if (t->end[i] == id)
            return true;
    return false;
}

bool lm_token_special(const struct lm_tokenizer *t, uint32_t id) {
    return id < t->n && t->piece[id].type == TOK_CONTROL;
}

uint32_t lm_token_find(const struct lm_tokenizer *t, const char *piece) {
    return tok_find(t, piece, strlen(piece));
}

const char *lm_token_piece(const struct lm_tokenizer *t, uint32_t id, size_t *len) {
    if (id >= t->n) {
        *len = 0;
        return "";
    }
    *len = t->piece[id].n;
    return t->text + t->piece[id].at;
}

const char *lm_tokenizer_kind(const struct lm_tokenizer *t) {
    return t->kind;
}

void lm_tokenizer_hash(uint8_t out[32], const struct lm_tokenizer *t) {
    memcpy(out, t->digest, 32);
}
