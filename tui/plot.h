/* Curves in characters: a pure function from points to cells. The x axis spans the whole run, so that a live plot grows
 * at its head instead of scrolling (a scrolling plot is most of a console's bytes). */
#ifndef LOAM_TUI_PLOT_H
#define LOAM_TUI_PLOT_H

#include "tui/cell.h"

enum plot_kind { PLOT_BLOCK, PLOT_BRAILLE, PLOT_ASCII };
bool plot_parse(enum plot_kind *k, const char *name);

struct series {
    const double *x, *y; /* borrowed; n each, x not falling; points that are not finite are left out */
    size_t n;
    unsigned style;
    const char *name;
};

/* Draws up to a few series into v with labels: largest and least y at the left, x0 and x1 below. The first series is
 * filled (PLOT_BLOCK) or a line; the others are lines of marks. Needs at least 2 rows and 8 columns, else only a
 * sparkline or nothing. unit: of x ("step"). */
void plot_draw(const struct view *v, enum plot_kind kind, const struct series *s, size_t n, double x0, double x1,
               const char *unit);
/* The mark of the k-th series where it is drawn with marks. */
char plot_mark(size_t k);
/* One row of eighth blocks, scaled from the least to the largest value. */
void plot_spark(const struct view *v, int y, int x, int w, unsigned style, const double *val, size_t n);
/* A bar of w columns, part 0..1 of it full. */
void plot_bar(const struct view *v, int y, int x, int w, unsigned style, double part);

#endif
