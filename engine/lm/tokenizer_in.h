/* Inside of the tokenizer: shared by tokenizer.c (GGUF, encoding) and tokenizer_json.c (tokenizer.json). */
#ifndef LOAM_LM_TOKENIZER_IN_H
#define LOAM_LM_TOKENIZER_IN_H

#include "base/keccak.h"
#include "lm/tokenizer.h"

#define TOK_STAGES_MAX 4

/* White space as Unicode has it. PCRE2's \s under UCP also takes U+180E, which no tokenizer's expression engine does. */
#define TOK_WS "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define TOK_GPT2_SPLIT                                                                                             \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" TOK_WS "\\p{L}\\p{N}]+|[" TOK_WS "]+(?![^" TOK_WS "])|[" TOK_WS "]+"

/* Numbers of GGUF's token_type. */
enum tok_type { TOK_NORMAL = 1, TOK_UNKNOWN, TOK_CONTROL, TOK_USER, TOK_UNUSED, TOK_BYTE };
/* What becomes of a match: a piece of its own, or dropped. */
enum tok_split { TOK_ISOLATED, TOK_REMOVED };

struct tok_piece {
    size_t at; /* in text */
    uint32_t n;
    uint8_t type;
};
struct tok_merge {
    uint32_t left, right, rank, to;
};
struct tok_special {
    uint8_t first; /* its first byte */
    bool control;  /* matched only with LM_ENCODE_SPECIAL */
    uint32_t n, id;
};
struct tok_stage {
    void *re; /* pcre2_code */
    char *expression;
    enum tok_split how;
};

struct lm_tokenizer {
    struct tok_piece *piece; /* [n] */
    char *text;              /* all pieces, one after the other */
    size_t text_len, text_cap;
    uint32_t n, cap, longest;
    uint32_t *find; /* [find_size] open addressing by text; LM_NO_TOKEN: empty */
    uint32_t find_size;
    struct tok_merge *merge; /* [merge_size] open addressing by (left, right) */
    uint32_t merge_size, n_merges;
    float *score;                /* [n]; SentencePiece only */
    struct tok_special *special; /* by first byte, longest first */
    uint32_t n_special;
    uint32_t special_first[257]; /* where each first byte's entries begin */
    uint32_t byte[256];          /* token of each single byte, or LM_NO_TOKEN */
    struct tok_stage stage[TOK_STAGES_MAX];
    int n_stages;
    uint32_t bos, eos, unk;
    uint32_t end[16], n_end;
    bool spm;          /* SentencePiece-like: spaces are U+2581, characters without a piece are bytes */
    bool add_bos;
    bool add_prefix;   /* a space is put before the text, */
    bool prefix_first; /* only at its very start, not behind special tokens */
    bool whole;        /* a word that is a token is taken without merging */
    bool nfc;          /* text is normalised to NFC first */
    bool unk_bytes, fuse_unk, fallback; /* what has no piece becomes unk; several in a row one unk; bytes before unk */
    char kind[32];
    struct keccak hash; /* while building */
    uint8_t digest[32];
};

enum loam_status tok_new(struct lm_tokenizer **out, uint32_t n, size_t text_bytes, struct err *err);
/* The vocabulary was sized by tok_new. */
void tok_add(struct lm_tokenizer *t, const char *s, size_t n, enum tok_type type);
enum loam_status tok_merges(struct lm_tokenizer *t, uint32_t n, struct err *err);
enum loam_status tok_merge_add(struct lm_tokenizer *t, const char *a, size_t an, const char *b, size_t bn, uint32_t rank, struct err *err);
enum loam_status tok_stage(struct lm_tokenizer *t, const char *expression, size_t n, enum tok_split how, struct err *err);
/* The value of tokenizer.ggml.pre whose splitting, normalisation and merging are these; NULL: none has them. */
const char *tok_pre(const struct lm_tokenizer *t);
/* Is it one of those that tok_finish takes for an end of answers by its text? */
bool tok_ends_by_text(const struct lm_tokenizer *t, uint32_t id);
enum loam_status tok_finish(struct lm_tokenizer *t, struct err *err);
uint32_t tok_find(const struct lm_tokenizer *t, const char *s, size_t n);
const struct tok_merge *tok_merge_find(const struct lm_tokenizer *t, uint32_t a, uint32_t b);

#endif
