/* Training data: JSONL rows, rendered through the model's own template into tokens with a mask of what is trained.
 *
 * A row is a JSON object of one of these shapes, mixed freely in a file:
 *   {"messages": [{"role": "...", "content": "..."}]}           OpenAI
 *   {"conversations": [{"from": "human", "value": "..."}]}      ShareGPT (human, gpt, system)
 *   {"prompt": "...", "completion": "..."}                      also "question" for the first, "response", "answer" for the other
 *   {"instruction": "...", "input": "...", "output": "..."}     alpaca (input may be missing or empty; joined by a blank line)
 *   {"text": "..."}                                             plain text: every token after the first is trained, and the
 *                                                               model's end token behind them
 * A "system": "..." may stand beside the pair forms.
 * Loss falls on assistant messages and the token that ends each of them, nothing else. Every bad row is named with file and
 * line; one bad row refuses the file (unless `skip_bad` collects them). */
#ifndef LOAM_LM_DATA_H
#define LOAM_LM_DATA_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

struct lm_model;

#define LM_ROW_BYTES_MAX (64u << 10)   /* the same limit as a contributed row */
#define LM_ROW_MESSAGES_MAX 256
#define LM_DATA_BYTES_MAX ((size_t)1 << 30)
#define LM_DATA_ROWS_MAX (1u << 24)

struct lm_text_message {  /* borrowed text, UTF-8, not terminated */
    const char *role;     /* "system", "user", "assistant"; "text" alone */
    const char *content;
    size_t content_len;
};

struct lm_example {
    uint32_t *tokens;   /* [n] */
    uint8_t *train;     /* [n]: 1 where tokens[i] is a target, predicted at position i - 1; train[0] is 0 */
    uint32_t n;         /* tokens */
    uint32_t targets;   /* count of ones in train */
    uint64_t id;        /* the caller's name for the row (position in the manifest by default) */
    uint32_t line;      /* in its file, from 1; 0 when added by hand */
};

struct lm_data {
    struct lm_example *rows; /* [count]; owned */
    size_t count, cap;
    uint64_t tokens, targets; /* sums */
    uint32_t longest;         /* tokens of the longest row */
    size_t bad;               /* rows left out (skip_bad) */
    struct buf bad_text;      /* "FILE:LINE: what" a line, at most 64 KiB */
};

void lm_data_init(struct lm_data *d);
void lm_data_clear(struct lm_data *d);

/* Renders one conversation; the last assistant message (and all earlier ones) are trained. LOAM_EINVAL where there is no
 * assistant text, LOAM_ELIMIT where it is longer than max_tokens. */
enum loam_status lm_data_add(struct lm_data *d, struct lm_model *m, const struct lm_text_message *msg, size_t n,
                             uint64_t id, uint32_t max_tokens, struct err *err) LOAM_MUST_USE;
/* One JSON row of any shape above. */
enum loam_status lm_data_add_json(struct lm_data *d, struct lm_model *m, const char *json, size_t len, uint64_t id,
                                  uint32_t max_tokens, struct err *err) LOAM_MUST_USE;
/* A whole file. Blank lines are passed over. */
enum loam_status lm_data_add_file(struct lm_data *d, struct lm_model *m, const char *path, uint32_t max_tokens,
                                  bool skip_bad, struct err *err) LOAM_MUST_USE;
/* Tokens already at hand (a query: prompt then answer; train marks the answer). Copies both arrays. */
enum loam_status lm_data_add_tokens(struct lm_data *d, const uint32_t *tokens, const uint8_t *train, uint32_t n, uint64_t id,
                                    struct err *err) LOAM_MUST_USE;
/* keccak("loam rows 1" and every row in order: u32le n, tokens as u32le, train bytes): what training really saw. */
void lm_data_hash(uint8_t out[32], const struct lm_data *d);

#endif
