#include "tui/layout.h"

#include <string.h>

#include "base/banned.h"

enum { CELL_H = 4, CELL_W = 24 }; /* the least a pane in the grid needs to say something */

const char *layout_name(enum layout_mode m) {
    static const char *const n[LAYOUT_MODES] = {"overview", "split", "one"};
    return (unsigned)m < LAYOUT_MODES ? n[m] : "?";
}

/* Rows [y, y+h) x columns [x, x+w) for the panes first .. first+n-1 in a grid of `across` columns; leftovers go to the
 * first rows and columns, a column is left between neighbours for the line. */
static void grid(struct layout *l, struct rect r, const int *ids, int n, int across) {
    int down = (n + across - 1) / across, k = 0;
    for (int i = 0, y = r.y; i < down; i++) {
        int h = r.h / down + (i < r.h % down), in_row = n - k < across ? n - k : across;
        for (int j = 0, x = r.x; j < in_row; j++) {
            int room = r.w - (in_row - 1), w = room / in_row + (j < room % in_row);
            l->pane[ids[k++]] = (struct rect){y, x, h, w};
            x += w + 1;
        }
        y += h;
    }
}

static const unsigned char sibling[PANES] = {
    [PANE_CHAIN] = PANE_REWARDS,      [PANE_TRAIN] = PANE_MODELS,      [PANE_ASK] = PANE_ATTRIBUTION,
    [PANE_ATTRIBUTION] = PANE_ASK,    [PANE_REWARDS] = PANE_CHAIN,     [PANE_VALIDATOR] = PANE_CHAIN,
    [PANE_DATANETS] = PANE_MODELS,    [PANE_MODELS] = PANE_DATANETS,   [PANE_LOG] = PANE_TRAIN,
};

void layout_compute(struct layout *l, int rows, int cols, enum layout_mode mode, enum pane_id focus) {
    memset(l, 0, sizeof *l);
    struct rect body = {0, 0, rows, cols};
    if (rows >= 2) {
        l->prompt = (struct rect){rows - 1, 0, 1, cols};
        body.h--;
    }
    if (rows >= 6) {
        l->tabs = (struct rect){0, 0, 1, cols};
        body.y++;
        body.h--;
    }
    if (mode == LAYOUT_OVERVIEW) {
        int across = cols / (CELL_W + 1), down = body.h / CELL_H, all[PANES];
        across = across > 3 ? 3 : across;
        if (across * down > 1) {
            int n = across * down < PANES ? across * down : PANES;
            if (across == 3 && down >= 3)
                n = PANES;
            int first = 0;
            while (first + n <= (int)focus) /* page by page */
                first += n;
            int count = 0;
            for (int i = first; i < PANES && count < n; i++)
                all[count++] = i;
            grid(l, body, all, count, count < across ? count : across);
            for (int i = 0; i < count; i++)
                l->small |= 1 << all[i];
            return;
        }
        mode = LAYOUT_ONE;
    }
    if (mode == LAYOUT_SPLIT) {
        int side = sibling[focus], third = focus == PANE_LOG ? PANE_CHAIN : PANE_LOG;
        if (cols >= 120 && body.h >= 12) {
            int w = cols * 3 / 5;
            l->pane[focus] = (struct rect){body.y, 0, body.h, w};
            int h = body.h / 2;
            l->pane[side] = (struct rect){body.y, w + 1, h, cols - w - 1};
            l->pane[third] = (struct rect){body.y + h, w + 1, body.h - h, cols - w - 1};
            l->small = 1 << side | 1 << third;
            return;
        }
        if (body.h >= 14) {
            int h = body.h * 2 / 3;
            l->pane[focus] = (struct rect){body.y, 0, h, cols};
            l->pane[third] = (struct rect){body.y + h, 0, body.h - h, cols};
            l->small = 1 << third;
            return;
        }
    }
    l->pane[focus] = body;
}
