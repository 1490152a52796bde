/* Attribution by text alone: printed beside the gradient methods, and the spans that an answer shares with rows.
 *
 * Words are runs of letters and digits (ASCII lower-cased, bytes from 0x80 on as they are). All numbers are fixed point with
 * 16 bits, logarithms by own integer arithmetic, so that the same texts give the same scores everywhere. */
#ifndef LOAM_POA_TEXT_H
#define LOAM_POA_TEXT_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

#define POA_TEXT_MAX (1ull << 30)  /* bytes of all rows: what a suffix array of 32-bit places can hold four times over */
#define POA_TERMS_MAX (1u << 24)

/* ---- BM25: k1 = 1.2, b = 0.75, idf = ln(1 + (N - n + 0.5) / (n + 0.5)); each distinct word of the query counts once ---- */
struct poa_bm25;
enum loam_status poa_bm25_new(struct poa_bm25 **out, struct err *err) LOAM_MUST_USE;
void poa_bm25_free(struct poa_bm25 *b);
/* Rows in order. Copies nothing but the words' hashes. */
enum loam_status poa_bm25_add(struct poa_bm25 *b, const char *text, size_t n, struct err *err) LOAM_MUST_USE;
/* score[rows added]; 16 bits of fraction. */
enum loam_status poa_bm25_score(struct poa_bm25 *b, int64_t *score, const char *query, size_t n, struct err *err) LOAM_MUST_USE;

/* ---- spans of tokens that an answer shares with rows ---- */
struct poa_spans;
enum loam_status poa_spans_new(struct poa_spans **out, struct err *err) LOAM_MUST_USE;
void poa_spans_free(struct poa_spans *s);
/* Rows in order; tokens are copied. */
enum loam_status poa_spans_add(struct poa_spans *s, const uint32_t *token, size_t n, struct err *err) LOAM_MUST_USE;
/* Sorts; after it no row can be added. */
enum loam_status poa_spans_index(struct poa_spans *s, struct err *err) LOAM_MUST_USE;

struct poa_span {
    uint32_t from, to;    /* tokens [from, to) of the answer */
    uint32_t count;       /* times it stands in the rows */
    uint32_t row;         /* the first row (lowest) where it stands */
    uint32_t row_at;      /* token in that row where it starts */
    uint64_t bits;        /* surprise: - sum of log2 of its tokens' frequency in the rows; 16 bits of fraction */
};
/* Maximal spans (none lies in another) of at least min_len tokens that stand at most max_count times, by place.
 * *out is mem_freed. If score is not NULL (score[rows]): every row gets bits / count for each occurrence. */
enum loam_status poa_spans_find(struct poa_spans *s, struct poa_span **out, size_t *count, int64_t *score, const uint32_t *answer,
                                size_t n, uint32_t min_len, uint32_t max_count, struct err *err) LOAM_MUST_USE;

/* log2 of x >= 1, 16 bits of fraction, exact to the last bit downwards. */
uint32_t poa_log2_q16(uint64_t x);

#endif
