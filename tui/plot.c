#include "tui/plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

bool plot_parse(enum plot_kind *k, const char *name) {
    static const char *const n[] = {"block", "braille", "ascii"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(n[i], name)) {
            *k = (enum plot_kind)i;
            return true;
        }
    return false;
}

#define COLUMNS_MAX FRAME_COLS_MAX

/* Mean of the points in each of w columns; NAN where there is none. A gap between two columns with points is filled by
 * a straight line, so that a short run is a line too. */
static void columns(float *out, int w, const struct series *s, double x0, double x1) {
    int count[COLUMNS_MAX * 2];
    for (int i = 0; i < w; i++) {
        out[i] = 0;
        count[i] = 0;
    }
    for (size_t i = 0; i < s->n; i++) {
        if (!isfinite(s->x[i]) || !isfinite(s->y[i]) || s->x[i] < x0 || s->x[i] > x1)
            continue;
        int c = x1 > x0 ? (int)((s->x[i] - x0) / (x1 - x0) * (w - 1) + 0.5) : 0;
        out[c] += (float)s->y[i];
        count[c]++;
    }
    int last = -1;
    for (int i = 0; i < w; i++) {
        if (!count[i])
            continue;
        out[i] /= (float)count[i];
        for (int j = last + 1; last >= 0 && j < i; j++)
            out[j] = out[last] + (out[i] - out[last]) * (float)(j - last) / (float)(i - last);
        last = i;
    }
    int first = 0;
    while (first < w && !count[first])
        out[first++] = NAN;
    for (int i = last + 1; i < w; i++)
        out[i] = NAN;
}

static void number(char out[16], double v) {
    double a = fabs(v);
    snprintf(out, 16, a >= 1e5 || (a < 1e-3 && a > 0) ? "%.1e" : a >= 100 ? "%.0f" : a >= 10 ? "%.1f" : "%.3f", v);
}

char plot_mark(size_t k) { return "*o+x#%"[k < 6 ? k : 5]; }

void plot_draw(const struct view *v, enum plot_kind kind, const struct series *s, size_t n, double x0, double x1,
               const char *unit) {
    double lo = INFINITY, hi = -INFINITY;
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < s[k].n; i++)
            if (isfinite(s[k].y[i])) {
                lo = s[k].y[i] < lo ? s[k].y[i] : lo;
                hi = s[k].y[i] > hi ? s[k].y[i] : hi;
            }
    if (!(lo <= hi) || v->w < 4 || v->h < 1)
        return;
    if (lo > 0 && lo < hi / 2)
        lo = 0; /* a loss that falls far: show it against zero */
    if (hi <= lo)
        hi = lo + 1;
    int left = v->w >= 24 ? 8 : 0, bottom = v->h >= 5 ? 1 : 0, w = v->w - left, h = v->h - bottom;
    w = w > COLUMNS_MAX ? COLUMNS_MAX : w;
    if (kind == PLOT_BRAILLE && v->f->ascii)
        kind = PLOT_ASCII;
    char t[16];
    if (left) {
        number(t, hi);
        view_right(v, 0, 0, left - 1, ST_SOFT, t);
        if (h > 1) {
            number(t, lo);
            view_right(v, h - 1, 0, left - 1, ST_SOFT, t);
        }
        if (h >= 7) {
            number(t, (hi + lo) / 2);
            view_right(v, (h - 1) / 2, 0, left - 1, ST_SOFT, t);
        }
    }
    if (bottom) {
        char u[48];
        view_printf(v, v->h - 1, left, ST_SOFT, "%.0f", x0);
        snprintf(u, sizeof u, "%s %.0f", unit, x1);
        view_right(v, v->h - 1, left, w, ST_SOFT, u);
    }
    float val[COLUMNS_MAX * 2];
    if (kind == PLOT_BRAILLE) {
        static const uint8_t bit[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
        int cols = w * 2 > COLUMNS_MAX * 2 ? COLUMNS_MAX * 2 : w * 2, rows = h * 4;
        for (size_t k = n; k-- > 0;) { /* the first series last, so that it lies on top */
            columns(val, cols, &s[k], x0, x1);
            int before = -1;
            for (int x = 0; x < w; x++) {
                /* the cells of this column pair that the line passes */
                uint8_t cell[FRAME_ROWS_MAX];
                memset(cell, 0, (size_t)h);
                for (int half = 0; half < 2; half++) {
                    float y = val[2 * x + half];
                    if (isnan(y)) {
                        before = -1;
                        continue;
                    }
                    int r = (int)((hi - (double)y) / (hi - lo) * (rows - 1) + 0.5);
                    int a = before < 0 ? r : before < r ? before + 1 : before > r ? before - 1 : r, step = a <= r ? 1 : -1;
                    for (int q = a;; q += step) {
                        cell[q / 4] |= bit[q % 4][half];
                        if (q == r)
                            break;
                    }
                    before = r;
                }
                for (int y = 0; y < h; y++)
                    if (cell[y])
                        view_braille(v, y, left + x, s[k].style, cell[y]);
            }
        }
        return;
    }
    for (size_t k = 0; k < n; k++) {
        columns(val, w, &s[k], x0, x1);
        for (int x = 0; x < w; x++) {
            if (isnan(val[x]))
                continue;
            double part = ((double)val[x] - lo) / (hi - lo);
            if (kind == PLOT_BLOCK && k == 0) {
                int e = (int)(part * (h * 8 - 1) + 0.5) + 1; /* at least one eighth, so that zero is seen */
                for (int y = 0; y < h; y++) {
                    int b = e - (h - 1 - y) * 8;
                    if (b > 0)
                        view_glyph(v, y, left + x, s[k].style, (enum glyph)(G_BLOCK0 + (b > 8 ? 8 : b)));
                }
            } else {
                int y = h - 1 - (int)(part * (h - 1) + 0.5);
                char m[2] = {plot_mark(k), 0};
                view_text(v, y, left + x, s[k].style, m);
            }
        }
    }
}

void plot_spark(const struct view *v, int y, int x, int w, unsigned style, const double *val, size_t n) {
    double lo = INFINITY, hi = -INFINITY;
    for (size_t i = 0; i < n; i++)
        if (isfinite(val[i])) {
            lo = val[i] < lo ? val[i] : lo;
            hi = val[i] > hi ? val[i] : hi;
        }
    if (!(lo <= hi) || w < 1)
        return;
    for (int c = 0; c < w && (size_t)c < n; c++) {
        size_t i = n <= (size_t)w ? (size_t)c : (size_t)((double)c / (w - 1 > 0 ? w - 1 : 1) * (double)(n - 1) + 0.5);
        int b = !isfinite(val[i]) ? 0 : hi > lo ? 1 + (int)((val[i] - lo) / (hi - lo) * 7 + 0.5) : 4;
        view_glyph(v, y, x + c, style, (enum glyph)(G_BLOCK0 + b));
    }
}

void plot_bar(const struct view *v, int y, int x, int w, unsigned style, double part) {
    part = !(part > 0) ? 0 : part > 1 ? 1 : part;
    int full = (int)(part * w + 0.5);
    view_rule(v, y, x, full, style, G_BAR);
    view_rule(v, y, x + full, w - full, ST_SOFT, G_BAR_OFF);
}
