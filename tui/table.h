/* A list of JSON objects as a table on the screen, and the same as CSV or JSON: one description serves both. */
#ifndef LOAM_TUI_TABLE_H
#define LOAM_TUI_TABLE_H

#include "tui/cell.h"

#include <jansson.h>

enum column_kind { COL_TEXT, COL_COUNT, COL_REAL, COL_WEI, COL_DATE, COL_CLOCK, COL_HASH, COL_PPM, COL_BYTES, COL_YES, COL_WHO, COL_ACCOUNT, COL_MINE };

struct column {
    const char *title, *path;
    enum column_kind kind;
    int width;  /* least columns; the column with grow takes what is left */
    bool grow;
    int rank;   /* 0 is shown last to go; the highest rank goes first on a narrow screen */
};

#define TABLE_COLUMNS_MAX 12
#define FILTER_MAX 64

struct list_state {
    int sel, top;           /* index into the rows that pass the filter */
    int shown;              /* rows that passed, at the last draw */
    char filter[FILTER_MAX];
};

struct table {
    const struct column *col;
    int n;
    /* Style of a row, or NULL. */
    unsigned (*style)(const json_t *row);
};

/* Draws title row and rows into v; clamps and scrolls st. focus: mark the selected row. */
void table_draw(const struct view *v, const struct table *t, const json_t *rows, struct list_state *st, bool focus);
/* The selected row (borrowed), after the filter; NULL if none. */
const json_t *table_selected(const struct table *t, const json_t *rows, const struct list_state *st);
/* One cell as text, at most cap - 1 bytes, not cleaned yet. */
void table_cell(char *out, size_t cap, const struct column *c, const json_t *row);
enum loam_status table_csv(struct buf *out, const struct table *t, const json_t *rows, const char *filter,
                           struct err *err) LOAM_MUST_USE;
/* Moves the selection; what: -2 page up, -1 up, 1 down, 2 page down, -3 first, 3 last. */
void list_move(struct list_state *st, int what, int page);

#endif
