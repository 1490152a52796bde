/* A frame: the screen as it should look, in memory. Every text that is drawn passes view_text and with it text_clean;
 * nothing else puts a character of foreign origin into a cell. Marks of our own (lines, blocks) go through view_glyph.
 *
 * Coordinates are rows and columns from 0, relative to the view; what lies outside is clipped. Nothing here fails except
 * frame_resize. */
#ifndef LOAM_TUI_CELL_H
#define LOAM_TUI_CELL_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

#define FRAME_ROWS_MAX 1000 /* larger terminals are drawn up to here: a frame stays under 16 MB */
#define FRAME_COLS_MAX 1000
#define FRAME_CELLS_MAX 200000

/* What a cell means; the theme says how that looks. Low 4 bits a role, then attributes. */
enum {
    ST_NORMAL, ST_TITLE, ST_FOCUS, ST_GOOD, ST_WARN, ST_BAD, ST_ACCENT, ST_SOFT, ST_PLOT, ST_PLOT2,
    ST_SPAN, /* ST_SPAN .. ST_SPAN + 5: six contributors */
    ST_ROLES = 16, ST_ROLE = 15,
    ST_BOLD = 16, ST_REVERSE = 32, ST_UNDERLINE = 64, ST_DIM = 128,
};

struct cell {
    uint32_t ch[2]; /* base and a combining mark; ch[0] 0: the right half of a wide character */
    uint16_t style;
    uint16_t width; /* 1 or 2; 0 for the right half */
};

struct frame {
    int rows, cols;
    struct cell *cells;
    bool ascii;          /* only ASCII may be drawn */
    int cur_y, cur_x;    /* hardware cursor: on the focused row, so that screen readers and magnifiers follow */
    bool cursor;         /* visible? */
};

enum loam_status frame_resize(struct frame *f, int rows, int cols, struct err *err) LOAM_MUST_USE;
void frame_clear(struct frame *f);
void frame_free(struct frame *f);
/* The frame as text, a line a row, blanks at line ends cut. */
enum loam_status frame_dump(struct buf *out, const struct frame *f, struct err *err) LOAM_MUST_USE;

struct view {
    struct frame *f; /* borrowed */
    int y, x, h, w;
};

struct view view_all(struct frame *f);
struct view view_sub(const struct view *v, int y, int x, int h, int w); /* clipped to v */
/* Draws at most `max` columns (< 0: to the edge) of cleaned text; returns the columns used. */
int view_textn(const struct view *v, int y, int x, unsigned style, const char *s, size_t n, int max);
int view_text(const struct view *v, int y, int x, unsigned style, const char *s);
int view_printf(const struct view *v, int y, int x, unsigned style, const char *fmt, ...) LOAM_PRINTF(5, 6);
/* The same over at most `lines` rows, broken at blanks; what is left is cut. Returns the rows used. */
int view_wrap(const struct view *v, int y, int x, int w, int lines, unsigned style, const char *s);
/* Right-aligned in the columns [x, x + w). Text that does not fit is cut at the left of the field. */
int view_right(const struct view *v, int y, int x, int w, unsigned style, const char *s);
void view_fill(const struct view *v, int y, int x, int n, unsigned style);      /* blanks */
void view_style(const struct view *v, int y, int x, int n, unsigned style);     /* restyles what is there (ORs attributes) */
void view_cursor(const struct view *v, int y, int x, bool visible);
/* The columns that cleaned text takes. */
int text_columns(const char *s, size_t n);

enum glyph {
    G_HLINE, G_VLINE, G_FOCUS, G_MORE_UP, G_MORE_DOWN, G_DOT, G_CHECK, G_CROSS, G_ELLIPSIS, G_TEE, G_BAR, G_BAR_OFF,
    G_BLOCK0, /* .. G_BLOCK0 + 8: eighths of a block from the bottom */
    G_BLOCK8 = G_BLOCK0 + 8,
    G_COUNT
};
void view_glyph(const struct view *v, int y, int x, unsigned style, enum glyph g);
void view_rule(const struct view *v, int y, int x, int n, unsigned style, enum glyph g);
void view_braille(const struct view *v, int y, int x, unsigned style, unsigned dots); /* 8 bits as in U+2800 */

#endif
