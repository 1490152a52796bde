/* A line editor and its history: pure, no terminal. Text is UTF-8; the cursor is a byte offset at a character's start. */
#ifndef LOAM_TUI_LINE_H
#define LOAM_TUI_LINE_H

#include "base/bytes.h"
#include "tui/key.h"

#include <stdbool.h>

#define LINE_BYTES_MAX 16384  /* a pasted question; the node's own limit on a command line is larger */
#define HISTORY_MAX 1000      /* entries kept */
#define HISTORY_FILE_MAX (4u << 20)

struct line {
    struct buf text; /* init by line_init */
    size_t cur;
    struct buf cut;  /* what Ctrl-K, Ctrl-U and Ctrl-W removed; Ctrl-Y brings it back */
    bool pasting;
};

void line_init(struct line *l);
void line_free(struct line *l); /* wipes */
void line_reset(struct line *l); /* empties and wipes */
void line_set(struct line *l, const char *s, size_t n); /* cursor at the end; cut to the limit at a character */
void line_replace(struct line *l, size_t from, size_t to, const char *s, size_t n); /* cursor behind the new text */
/* Editing keys; false if the key is not one (Enter, Tab, Up, … belong to the caller). While a paste lasts, Enter and Tab
 * are text. */
bool line_key(struct line *l, const struct key *k);
const char *line_text(const struct line *l); /* never NULL */

/* History: newest last. Entries that begin with a blank are not kept (as in a shell), nor repeats of the newest. */
struct history {
    char **entry;
    size_t n;
    size_t at;          /* while browsing: index shown; n: the fresh line */
    struct line fresh;  /* what stood there before browsing */
};
void history_init(struct history *h);
void history_free(struct history *h);
/* A missing file is an empty history. One entry a line; newlines within stand as \n, backslashes as \\. */
enum loam_status history_load(struct history *h, const char *path, struct err *err) LOAM_MUST_USE;
enum loam_status history_save(const struct history *h, const char *path, struct err *err) LOAM_MUST_USE;
enum loam_status history_add(struct history *h, const char *s, struct err *err) LOAM_MUST_USE;
/* dir -1 older, 1 newer; only entries that begin with what was typed. */
bool history_move(struct history *h, struct line *l, int dir);
/* The newest entry before index `below` that contains s; -1 if none. */
long history_search(const struct history *h, const char *s, size_t below);

#endif
