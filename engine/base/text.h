/* Text from outside: UTF-8 checking and the one cleaning function. Nothing from a model, chain, peer or file reaches a
 * terminal, a log or an error message except through text_clean. */
#ifndef LOAM_BASE_TEXT_H
#define LOAM_BASE_TEXT_H

#include "base/bytes.h"

#include <stdbool.h>

/* Decodes one code point at p (n > 0 bytes left) into *cp; returns the bytes used, 0 if not well-formed UTF-8
 * (overlong, surrogate, past U+10FFFF, truncated). Unicode 15, table 3-7. */
size_t utf8_decode(uint32_t *cp, const uint8_t *p, size_t n);
/* Writes cp as UTF-8 (1 to 4 bytes); returns the count, 0 for surrogates and past U+10FFFF. */
size_t utf8_encode(uint8_t out[4], uint32_t cp);
/* Well-formed throughout? *at gets the offset of the first bad byte (NULL allowed). */
bool utf8_valid(const uint8_t *p, size_t n, size_t *at);
/* Columns of a code point on a terminal: 0, 1 or 2; -1 for what must not be drawn. */
int text_width(uint32_t cp);

enum text_flags {
    TEXT_LINES = 1, /* keep \n (and turn \t into spaces to the next multiple of 8); otherwise both become a space */
};

/* Appends a copy of in that is safe to draw: C0, DEL, C1 (also as UTF-8), bidi controls and isolates, zero-width and
 * other format characters, unassigned noncharacters, line and paragraph separators are dropped or become U+FFFD; bad
 * UTF-8 becomes U+FFFD a byte; at most 4 combining marks follow a base. Never writes a byte below 0x20 (but \n with
 * TEXT_LINES) nor 0x7f. */
enum loam_status text_clean(struct buf *out, const void *in, size_t n, unsigned flags, struct err *err) LOAM_MUST_USE;
/* The same into a fixed buffer, cut at a character boundary, always terminated; for error messages. Returns out. */
char *text_clean_cut(char *out, size_t cap, const void *in, size_t n);

/* Whether s is one of the words of "a|b|c". */
bool text_choice(const char *choices, const char *s);
/* 3 if the bytes begin with a byte order mark in UTF-8, which editors put before the first line of a file; else 0. */
size_t text_bom(const void *p, size_t n);

#endif
