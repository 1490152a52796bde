#include "poa/text.h"

#include "base/bytes.h"

#include "base/keccak.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#ifdef HAVE_DIVSUFSORT
#include <divsufsort.h>
#endif

#include "base/banned.h"

uint32_t poa_log2_q16(uint64_t x) {
    if (!x)
        return 0;
    int top = 63 - __builtin_clzll(x);
    /* x = m · 2^top, m in [1, 2) with 63 bits; squaring m gives one bit of the logarithm a round. */
    unsigned __int128 m = (unsigned __int128)x << (63 - top);
    uint32_t frac = 0;
    for (int i = 0; i < 16; i++) {
        m = m * m >> 63;
        frac <<= 1;
        if (m >> 64) {
            m >>= 1;
            frac |= 1;
        }
    }
    return (uint32_t)top << 16 | frac;
}

/* ---- BM25 ---- */

struct posting {
    uint64_t word; /* hash */
    uint32_t row, count;
};

struct poa_bm25 {
    struct posting *p; /* by (word, row) once sorted */
    size_t count, cap;
    uint32_t *length; /* words of each row */
    size_t rows, rows_cap;
    uint64_t words;
    bool sorted;
};

/* The next word of the text from *at on, as a 64-bit hash of its lower-cased bytes; false at the end. Two words of one corpus
 * share a hash with a chance of 2^-64 a pair, and then only the printed comparison is off. */
static bool next_word(const char *text, size_t n, size_t *at, uint64_t *hash) {
    struct keccak k;
    uint8_t out[32];
    size_t len = 0;
    keccak_init(&k);
    for (; *at < n; ++*at) {
        uint8_t c = (uint8_t)text[*at];
        c = c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c >= 0x80) {
            keccak_add(&k, &c, 1);
            len++;
        } else if (len) {
            break;
        }
    }
    if (!len)
        return false;
    keccak_end(&k, out);
    *hash = le64(out);
    return true;
}

enum loam_status poa_bm25_new(struct poa_bm25 **out, struct err *err) {
    *out = mem_zalloc(sizeof **out);
    return *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "bm25");
}

void poa_bm25_free(struct poa_bm25 *b) {
    if (!b)
        return;
    mem_free(b->p);
    mem_free(b->length);
    mem_free(b);
}

static enum loam_status grow(void **p, size_t *cap, size_t count, size_t size, size_t max, struct err *err) {
    if (count < *cap)
        return LOAM_OK;
    size_t more = *cap ? *cap * 2 : 1024;
    if (count >= max)
        return err_set(err, LOAM_ELIMIT, "attribution by text: more than %zu entries", max);
    void *q = mem_resize(*p, more, size);
    if (!q)
        return err_set(err, LOAM_ENOMEM, "attribution by text: %zu entries", more);
    *p = q;
    *cap = more;
    return LOAM_OK;
}

static int by_word(const void *a, const void *b) {
    const struct posting *x = a, *y = b;
    return x->word != y->word ? (x->word > y->word) - (x->word < y->word) : (x->row > y->row) - (x->row < y->row);
}

enum loam_status poa_bm25_add(struct poa_bm25 *b, const char *text, size_t n, struct err *err) {
    enum loam_status st = grow((void **)&b->length, &b->rows_cap, b->rows, sizeof *b->length, 1u << 24, err);
    uint64_t word;
    uint32_t words = 0;
    for (size_t at = 0; !st && next_word(text, n, &at, &word); words++)
        if (!(st = grow((void **)&b->p, &b->cap, b->count, sizeof *b->p, POA_TERMS_MAX, err)))
            b->p[b->count++] = (struct posting){word, (uint32_t)b->rows, 1};
    if (st)
        return st;
    b->length[b->rows++] = words;
    b->words += words;
    b->sorted = false;
    return LOAM_OK;
}

static void sort_postings(struct poa_bm25 *b) {
    if (b->sorted)
        return;
    if (b->count)
        qsort(b->p, b->count, sizeof *b->p, by_word);
    size_t m = 0;
    for (size_t i = 0; i < b->count; i++)
        if (m && b->p[m - 1].word == b->p[i].word && b->p[m - 1].row == b->p[i].row)
            b->p[m - 1].count += b->p[i].count;
        else
            b->p[m++] = b->p[i];
    b->count = m;
    b->sorted = true;
}

static int by_hash(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* One word's part of every row that has it. */
static void score_word(const struct poa_bm25 *b, int64_t *score, uint64_t word) {
    size_t low = 0, high = b->count, end;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (b->p[mid].word < word)
            low = mid + 1;
        else
            high = mid;
    }
    for (end = low; end < b->count && b->p[end].word == word; end++)
        ;
    if (end == low)
        return;
    uint64_t n = end - low, N = b->rows;
    /* 1 + (N - n + 0.5) / (n + 0.5) = (2 N + 2) / (2 n + 1); ln = log2 · ln 2, ln 2 = 45426 / 65536. */
    int64_t idf = ((int64_t)poa_log2_q16(2 * N + 2) - (int64_t)poa_log2_q16(2 * n + 1)) * 45426 >> 16;
    for (size_t i = low; i < end; i++) {
        /* f (k1 + 1) / (f + k1 (1 - b + b len / mean)), k1 = 6/5, b = 3/4, over the common denominator 20 · words:
         * mean = words / N, so k1 b len / mean = 9 len N / (10 words). */
        __int128 f = b->p[i].count, words = (__int128)b->words;
        __int128 up = f * 44 * words, down = f * 20 * words + 6 * words + (__int128)18 * b->length[b->p[i].row] * N;
        score[b->p[i].row] += (int64_t)(idf * up / down);
    }
}

enum loam_status poa_bm25_score(struct poa_bm25 *b, int64_t *score, const char *query, size_t n, struct err *err) {
    uint64_t *word = NULL;
    size_t count = 0, cap = 0;
    enum loam_status st = LOAM_OK;
    uint64_t h;
    sort_postings(b);
    if (b->rows)
        memset(score, 0, b->rows * sizeof *score);
    for (size_t at = 0; !st && next_word(query, n, &at, &h);)
        if (!(st = grow((void **)&word, &cap, count, sizeof *word, POA_TERMS_MAX, err)))
            word[count++] = h;
    if (!st && count) {
        qsort(word, count, sizeof *word, by_hash);
        for (size_t i = 0; i < count; i++)
            if (!i || word[i] != word[i - 1])
                score_word(b, score, word[i]);
    }
    mem_free(word);
    return st;
}

/* ---- spans ---- */

/* Rows one behind the other, each followed by a separator that no answer can hold. */
#define SEPARATOR 0xffffffffu

struct poa_spans {
    uint32_t *token;
    size_t count, cap;
    uint32_t *start; /* place of each row's first token */
    size_t rows, rows_cap;
    uint32_t *suffix; /* places sorted by what follows them; NULL before poa_spans_index */
    uint64_t *freq;   /* sorted tokens for counting */
};

enum loam_status poa_spans_new(struct poa_spans **out, struct err *err) {
    *out = mem_zalloc(sizeof **out);
    return *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "spans");
}

void poa_spans_free(struct poa_spans *s) {
    if (!s)
        return;
    mem_free(s->token);
    mem_free(s->start);
    mem_free(s->suffix);
    mem_free(s->freq);
    mem_free(s);
}

enum loam_status poa_spans_add(struct poa_spans *s, const uint32_t *token, size_t n, struct err *err) {
    LOAM_ASSERT(!s->suffix);
    enum loam_status st = grow((void **)&s->start, &s->rows_cap, s->rows, sizeof *s->start, 1u << 24, err);
    size_t start = s->count;
    for (size_t i = 0; !st && i <= n; i++)
        if (!(st = grow((void **)&s->token, &s->cap, s->count, sizeof *s->token, POA_TEXT_MAX / 4, err)))
            s->token[s->count++] = i < n ? token[i] : SEPARATOR;
    if (st)
        s->count = start;
    else
        s->start[s->rows++] = (uint32_t)start;
    return st;
}

#ifndef HAVE_DIVSUFSORT
static _Thread_local const struct poa_spans *sorting;

static int by_suffix(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    const uint32_t *t = sorting->token;
    if (x == y)
        return 0;
    for (; x < sorting->count && y < sorting->count; x++, y++) {
        if (t[x] != t[y])
            return t[x] < t[y] ? -1 : 1;
        if (t[x] == SEPARATOR) /* what lies behind a row does not matter */
            break;
    }
    return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1;
}
#endif

static enum loam_status sort_suffixes(struct poa_spans *s, struct err *err) {
#ifdef HAVE_DIVSUFSORT
    /* libdivsufsort sorts bytes: tokens as big-endian words, of whose suffixes the aligned ones are kept. */
    uint8_t *bytes = mem_array(s->count, 4);
    int32_t *sa = mem_array(s->count, 4 * sizeof *sa);
    enum loam_status st = LOAM_OK;
    if (!bytes || !sa) {
        st = err_set(err, LOAM_ENOMEM, "spans: %zu tokens", s->count);
    } else {
        for (size_t i = 0; i < s->count; i++)
            put_be32(bytes + 4 * i, s->token[i]);
        if (divsufsort(bytes, sa, (int32_t)(4 * s->count)))
            st = err_set(err, LOAM_ENOMEM, "spans: libdivsufsort has no memory");
        size_t m = 0;
        for (size_t i = 0; !st && i < 4 * s->count; i++)
            if (sa[i] % 4 == 0)
                s->suffix[m++] = (uint32_t)(sa[i] / 4);
    }
    mem_free(bytes);
    mem_free(sa);
    return st;
#else
    (void)err;
    for (size_t i = 0; i < s->count; i++)
        s->suffix[i] = (uint32_t)i;
    sorting = s;
    if (s->count)
        qsort(s->suffix, s->count, sizeof *s->suffix, by_suffix);
    return LOAM_OK;
#endif
}

enum loam_status poa_spans_index(struct poa_spans *s, struct err *err) {
    LOAM_ASSERT(!s->suffix);
    s->suffix = mem_array(s->count, sizeof *s->suffix);
    s->freq = mem_array(s->count, sizeof *s->freq);
    if (!s->suffix || !s->freq)
        return err_set(err, LOAM_ENOMEM, "spans: %zu tokens", s->count);
    for (size_t i = 0; i < s->count; i++)
        s->freq[i] = s->token[i];
    if (s->count)
        qsort(s->freq, s->count, sizeof *s->freq, by_hash);
    return sort_suffixes(s, err);
}

/* First place in the sorted suffixes whose first `len` tokens are not below (upper: are above) the pattern. */
static size_t bound(const struct poa_spans *s, const uint32_t *pattern, size_t len, bool upper) {
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2, at = s->suffix[mid];
        int c = 0;
        for (size_t i = 0; !c && i < len; i++) {
            if (at + i >= s->count)
                c = -1; /* the text ends: a shorter suffix is below */
            else if (s->token[at + i] != pattern[i])
                c = s->token[at + i] < pattern[i] ? -1 : 1;
        }
        if (c < 0 || (upper && !c))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static size_t common(const struct poa_spans *s, size_t at, const uint32_t *pattern, size_t n) {
    size_t i = 0;
    while (i < n && at + i < s->count && s->token[at + i] == pattern[i])
        i++;
    return i;
}

/* Length of the longest prefix of the pattern that stands in the rows: the suffixes on both sides of where the whole pattern
 * would stand share the most with it. */
static size_t longest(const struct poa_spans *s, const uint32_t *pattern, size_t n) {
    size_t at = bound(s, pattern, n, false), best = 0;
    if (at < s->count)
        best = common(s, s->suffix[at], pattern, n);
    if (at > 0) {
        size_t other = common(s, s->suffix[at - 1], pattern, n);
        best = other > best ? other : best;
    }
    return best;
}

static size_t row_of(const struct poa_spans *s, uint32_t place) {
    size_t low = 0, high = s->rows;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (s->start[mid] <= place)
            low = mid;
        else
            high = mid;
    }
    return low;
}

static uint64_t frequency(const struct poa_spans *s, uint32_t token) {
    size_t edge[2];
    for (int upper = 0; upper < 2; upper++) {
        size_t low = 0, high = s->count;
        while (low < high) {
            size_t mid = low + (high - low) / 2;
            if (s->freq[mid] < token || (upper && s->freq[mid] == token))
                low = mid + 1;
            else
                high = mid;
        }
        edge[upper] = low;
    }
    return edge[1] - edge[0];
}

enum loam_status poa_spans_find(struct poa_spans *s, struct poa_span **out, size_t *count, int64_t *score, const uint32_t *answer,
                                size_t n, uint32_t min_len, uint32_t max_count, struct err *err) {
    LOAM_ASSERT(s->suffix);
    size_t cap = 0, last = 0;
    enum loam_status st = LOAM_OK;
    *out = NULL;
    *count = 0;
    if (score && s->rows)
        memset(score, 0, s->rows * sizeof *score);
    if (n >= UINT32_MAX)
        return err_set(err, LOAM_ELIMIT, "spans: an answer of %zu tokens", n);
    for (size_t from = 0; !st && from < n; from++) {
        size_t len = longest(s, answer + from, n - from), to = from + len;
        /* A separator in the answer would match across rows. */
        for (size_t i = from; i < to; i++)
            if (answer[i] == SEPARATOR)
                to = i;
        len = to - from;
        if (len < min_len || !len || to <= last)
            continue; /* too short, or within the span before */
        size_t first = bound(s, answer + from, len, false), end = bound(s, answer + from, len, true);
        if (end - first > max_count)
            continue;
        if ((st = grow((void **)out, &cap, *count, sizeof **out, 1u << 24, err)))
            break;
        last = to;
        struct poa_span *p = &(*out)[(*count)++];
        *p = (struct poa_span){.from = (uint32_t)from, .to = (uint32_t)to, .count = (uint32_t)(end - first), .row = UINT32_MAX};
        for (size_t i = from; i < to; i++)
            p->bits += poa_log2_q16(s->count) - poa_log2_q16(frequency(s, answer[i]));
        for (size_t i = first; i < end; i++) {
            size_t row = row_of(s, s->suffix[i]);
            if (row < p->row || (row == p->row && s->suffix[i] - s->start[row] < p->row_at)) {
                p->row = (uint32_t)row;
                p->row_at = s->suffix[i] - s->start[row];
            }
            if (score)
                score[row] += (int64_t)(p->bits / p->count);
        }
    }
    if (st) {
        mem_free(*out);
        *out = NULL;
        *count = 0;
    }
    return st;
}
