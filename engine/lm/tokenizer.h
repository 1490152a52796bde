/* Text to token ids and back: byte-level BPE (GPT-2 kind) with the model's own pre-tokenizer expression, and
 * SentencePiece BPE with byte fallback. Equal to Hugging Face `tokenizers`. Read-only after opening; thread-safe. */
#ifndef LOAM_LM_TOKENIZER_H
#define LOAM_LM_TOKENIZER_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

#define LM_VOCAB_MAX (1u << 20)
#define LM_TEXT_MAX (16u << 20) /* bytes of text one encode takes */

struct lm_tokenizer;
struct gguf;

/* A growing list of token ids; LM_TEXT_MAX ids at most. ids may be NULL when n is 0. */
struct lm_ids {
    uint32_t *ids;
    uint32_t n, cap;
};
void lm_ids_clear(struct lm_ids *l);
enum loam_status lm_ids_add(struct lm_ids *l, uint32_t id, struct err *err) LOAM_MUST_USE;
enum loam_status lm_ids_append(struct lm_ids *l, const uint32_t *ids, uint32_t n, struct err *err) LOAM_MUST_USE;

enum loam_status lm_tokenizer_gguf(struct lm_tokenizer **out, const struct gguf *g, struct err *err) LOAM_MUST_USE;
/* tokenizer.json of Hugging Face tokenizers (text of n bytes, not kept). Components it does not know are refused by name. */
enum loam_status lm_tokenizer_json(struct lm_tokenizer **out, const char *text, size_t n, struct err *err) LOAM_MUST_USE;
void lm_tokenizer_free(struct lm_tokenizer *t);

enum lm_encode_flags {
    LM_ENCODE_SPECIAL = 1, /* special tokens' texts in the input become their ids (templates only: never user text) */
    LM_ENCODE_BOS = 2,     /* a leading bos where the model wants one */
    LM_ENCODE_INNER = 4,   /* other tokens of the same text stand before: no space is put in front where only the start gets one */
};
/* Appends the ids of text (n bytes; bad UTF-8 is LOAM_EPARSE with the offset). Without LM_ENCODE_SPECIAL a text such as
 * "<|im_end|>" is ordinary text, so that no row and no prompt can forge a turn. */
enum loam_status lm_encode(struct lm_ids *out, const struct lm_tokenizer *t, const char *text, size_t n, unsigned flags,
                           struct err *err) LOAM_MUST_USE;
/* Appends the bytes of one token; special tokens give nothing unless `special`. A byte-level token may be part of a
 * character: see lm_utf8_tail. LOAM_ERANGE for an id past the vocabulary. */
enum loam_status lm_decode(struct buf *out, const struct lm_tokenizer *t, const uint32_t *ids, uint32_t n, bool special,
                           struct err *err) LOAM_MUST_USE;
/* How many bytes at the end of p are the start of an unfinished character (0 to 3): what a stream holds back. */
size_t lm_utf8_tail(const uint8_t *p, size_t n);

#define LM_NO_TOKEN UINT32_MAX
uint32_t lm_tokenizer_size(const struct lm_tokenizer *t);
uint32_t lm_token_bos(const struct lm_tokenizer *t); /* or LM_NO_TOKEN, as all below */
uint32_t lm_token_eos(const struct lm_tokenizer *t);
bool lm_token_ends(const struct lm_tokenizer *t, uint32_t id); /* eos or end of turn: generation stops on it */
bool lm_token_special(const struct lm_tokenizer *t, uint32_t id);
/* Id of a token by its exact piece text, for templates ("<|im_start|>"). */
uint32_t lm_token_find(const struct lm_tokenizer *t, const char *piece);
/* The piece as stored (byte-level alphabet), for display after text_clean. Not terminated. */
const char *lm_token_piece(const struct lm_tokenizer *t, uint32_t id, size_t *len);
const char *lm_tokenizer_kind(const struct lm_tokenizer *t); /* e.g. "gpt2/smollm" */
/* keccak over "loam.tok.1", kind, expression, pieces with types, merges, special ids: see tokenizer.c. */
void lm_tokenizer_hash(uint8_t out[32], const struct lm_tokenizer *t);

#endif
