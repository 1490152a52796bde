/* Where each pane stands: a pure function of the screen's size, the mode and the focus.
 *
 * Invariants (tests/test_tui.c checks them for all sizes from 1x1 to 300x120): rectangles lie inside the screen and do
 * not overlap each other nor the two bars; the focused pane is visible as soon as there is a row for it; bars vanish
 * before panes do. */
#ifndef LOAM_TUI_LAYOUT_H
#define LOAM_TUI_LAYOUT_H

#include <stdbool.h>

enum pane_id {
    PANE_CHAIN, PANE_TRAIN, PANE_ASK, PANE_ATTRIBUTION, PANE_REWARDS, PANE_VALIDATOR, PANE_DATANETS, PANE_MODELS,
    PANE_LOG, PANES
};

enum layout_mode {
    LAYOUT_OVERVIEW, /* all panes small, in a grid; on a screen too small for all, the focused one's neighbours */
    LAYOUT_SPLIT,    /* the focused pane large, the log and its sibling beside or below it */
    LAYOUT_ONE,      /* the focused pane alone */
    LAYOUT_MODES
};

struct rect {
    int y, x, h, w; /* h or w 0: not shown */
};

struct layout {
    struct rect pane[PANES]; /* title row included */
    struct rect tabs, prompt; /* first and last row */
    int small;               /* bit per pane: drawn in its small form */
};

void layout_compute(struct layout *l, int rows, int cols, enum layout_mode mode, enum pane_id focus);
const char *layout_name(enum layout_mode m);

#endif
