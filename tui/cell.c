#include "tui/cell.h"

#include "base/mem.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

static const struct {
    uint32_t uni;
    char ascii;
} glyphs[G_COUNT] = {
    [G_HLINE] = {0x2500, '-'},     [G_VLINE] = {0x2502, '|'},       [G_FOCUS] = {0x25b6, '>'},
    [G_MORE_UP] = {0x2191, '^'},   [G_MORE_DOWN] = {0x2193, 'v'},   [G_DOT] = {0x2022, '*'},
    [G_CHECK] = {0x2713, '+'},     [G_CROSS] = {0x2717, 'x'},       [G_ELLIPSIS] = {0x2026, '~'},
    [G_TEE] = {0x252c, '-'},       [G_BAR] = {0x2588, '#'},         [G_BAR_OFF] = {0x2591, '.'},
    [G_BLOCK0] = {' ', ' '},       [G_BLOCK0 + 1] = {0x2581, '_'},  [G_BLOCK0 + 2] = {0x2582, '_'},
    [G_BLOCK0 + 3] = {0x2583, '.'}, [G_BLOCK0 + 4] = {0x2584, ':'}, [G_BLOCK0 + 5] = {0x2585, ':'},
    [G_BLOCK0 + 6] = {0x2586, '|'}, [G_BLOCK0 + 7] = {0x2587, '|'}, [G_BLOCK8] = {0x2588, '#'},
};

enum loam_status frame_resize(struct frame *f, int rows, int cols, struct err *err) {
    rows = rows < 1 ? 1 : rows > FRAME_ROWS_MAX ? FRAME_ROWS_MAX : rows;
    cols = cols < 1 ? 1 : cols > FRAME_COLS_MAX ? FRAME_COLS_MAX : cols;
    if (rows * cols > FRAME_CELLS_MAX)
        rows = FRAME_CELLS_MAX / cols;
    struct cell *c = mem_zarray((size_t)rows * (size_t)cols, sizeof *c);
    if (!c)
        return err_set(err, LOAM_ENOMEM, "a screen of %d x %d", cols, rows);
    mem_free(f->cells);
    f->cells = c;
    f->rows = rows;
    f->cols = cols;
    frame_clear(f);
    return LOAM_OK;
}

void frame_clear(struct frame *f) {
    for (int i = 0; i < f->rows * f->cols; i++)
        f->cells[i] = (struct cell){.ch = {' '}, .width = 1};
    f->cursor = false;
    f->cur_y = f->cur_x = 0;
}

void frame_free(struct frame *f) {
    mem_free(f->cells);
    *f = (struct frame){0};
}

enum loam_status frame_dump(struct buf *out, const struct frame *f, struct err *err) {
    for (int y = 0; y < f->rows; y++) {
        size_t keep = out->len;
        for (int x = 0; x < f->cols; x++) {
            const struct cell *c = &f->cells[y * f->cols + x];
            for (int i = 0; i < 2 && c->ch[i]; i++) {
                uint8_t u[4];
                enum loam_status s = buf_add(out, u, utf8_encode(u, c->ch[i]), err);
                if (s)
                    return s;
            }
            if (c->ch[0] && c->ch[0] != ' ')
                keep = out->len;
        }
        out->len = keep;
        enum loam_status s = buf_byte(out, '\n', err);
        if (s)
            return s;
    }
    return LOAM_OK;
}

struct view view_all(struct frame *f) {
    return (struct view){f, 0, 0, f->rows, f->cols};
}

struct view view_sub(const struct view *v, int y, int x, int h, int w) {
    if (y < 0)
        h += y, y = 0;
    if (x < 0)
        w += x, x = 0;
    h = h > v->h - y ? v->h - y : h;
    w = w > v->w - x ? v->w - x : w;
    return (struct view){v->f, v->y + y, v->x + x, h < 0 ? 0 : h, w < 0 ? 0 : w};
}

static struct cell *at(const struct view *v, int y, int x) {
    if (y < 0 || x < 0 || y >= v->h || x >= v->w)
        return NULL;
    return &v->f->cells[(v->y + y) * v->f->cols + v->x + x];
}

/* A wide character that loses one half loses both. */
static void unpair(const struct frame *f, struct cell *c) {
    long i = c - f->cells;
    if (c->width == 2 && (i + 1) % f->cols)
        f->cells[i + 1] = (struct cell){.ch = {' '}, .style = c->style, .width = 1};
    if (c->width == 0 && i % f->cols)
        f->cells[i - 1] = (struct cell){.ch = {' '}, .style = c->style, .width = 1};
}

static void put(const struct view *v, int y, int x, unsigned style, uint32_t cp, int width) {
    struct cell *c = at(v, y, x), *r;
    if (!c)
        return;
    if (width == 2 && !(r = at(v, y, x + 1))) {
        cp = ' ';
        width = 1;
    }
    unpair(v->f, c);
    *c = (struct cell){.ch = {cp}, .style = (uint16_t)style, .width = (uint16_t)width};
    if (width == 2) {
        r = c + 1;
        if (r->width == 2)
            unpair(v->f, r);
        *r = (struct cell){.style = (uint16_t)style};
    }
}

#define CLEAN_MAX 4096 /* more text than this never fits one row */

int view_textn(const struct view *v, int y, int x, unsigned style, const char *s, size_t n, int max) {
    if (y < 0 || y >= v->h)
        return 0;
    if (max < 0 || max > v->w - x)
        max = v->w - x;
    char clean[CLEAN_MAX];
    text_clean_cut(clean, sizeof clean, s, n > CLEAN_MAX ? CLEAN_MAX : n);
    const uint8_t *p = (const uint8_t *)clean;
    size_t len = strlen(clean);
    int used = 0;
    struct cell *last = NULL;
    for (size_t i = 0, k; i < len; i += k) {
        uint32_t cp;
        k = utf8_decode(&cp, p + i, len - i);
        if (!k)
            break;
        int w = text_width(cp);
        if (w < 0)
            continue;
        if (!w) {
            if (last && !v->f->ascii)
                last->ch[1] = cp;
            continue;
        }
        if (v->f->ascii && cp > 0x7e)
            cp = '?';
        if (used + w > max)
            break;
        put(v, y, x + used, style, cp, v->f->ascii ? 1 : w);
        last = at(v, y, x + used);
        used += v->f->ascii ? 1 : w;
    }
    return used;
}

int view_text(const struct view *v, int y, int x, unsigned style, const char *s) {
    return view_textn(v, y, x, style, s, strlen(s), -1);
}

int view_printf(const struct view *v, int y, int x, unsigned style, const char *fmt, ...) {
    char t[CLEAN_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t, sizeof t, fmt, ap);
    va_end(ap);
    return n < 0 ? 0 : view_textn(v, y, x, style, t, strlen(t), -1);
}

int text_columns(const char *s, size_t n) {
    char clean[CLEAN_MAX];
    text_clean_cut(clean, sizeof clean, s, n);
    const uint8_t *p = (const uint8_t *)clean;
    size_t len = strlen(clean);
    int used = 0;
    for (size_t i = 0, k; i < len; i += k) {
        uint32_t cp;
        k = utf8_decode(&cp, p + i, len - i);
        if (!k)
            break;
        int w = text_width(cp);
        used += w > 0 ? w : 0;
    }
    return used;
}

int view_wrap(const struct view *v, int y, int x, int w, int lines, unsigned style, const char *s) {
    int used = 0;
    while (*s && used < lines && w > 0) {
        size_t n = 0, space = 0;
        while (s[n] && s[n] != '\n') {
            size_t k = 1;
            while ((s[n + k] & 0xc0) == 0x80)
                k++;
            if (text_columns(s, n + k) > w)
                break;
            if (s[n] == ' ')
                space = n;
            n += k;
        }
        size_t take = s[n] && s[n] != '\n' && s[n] != ' ' && space && used + 1 < lines ? space : n;
        view_textn(v, y + used++, x, style, s, take, w);
        s += take ? take : 1;
        while (*s == ' ')
            s++;
        s += *s == '\n';
    }
    return used;
}

int view_right(const struct view *v, int y, int x, int w, unsigned style, const char *s) {
    int need = text_columns(s, strlen(s));
    int pad = need < w ? w - need : 0;
    return pad + view_textn(v, y, x + pad, style, s, strlen(s), w - pad);
}

void view_fill(const struct view *v, int y, int x, int n, unsigned style) {
    for (int i = 0; i < n; i++)
        put(v, y, x + i, style, ' ', 1);
}

void view_style(const struct view *v, int y, int x, int n, unsigned style) {
    for (int i = 0; i < n; i++) {
        struct cell *c = at(v, y, x + i);
        if (c)
            c->style = (uint16_t)((style & ST_ROLE ? (c->style & ~(unsigned)ST_ROLE) | style : c->style | style));
    }
}

void view_cursor(const struct view *v, int y, int x, bool visible) {
    if (!v->h || !v->w)
        return;
    y = y < 0 ? 0 : y >= v->h ? v->h - 1 : y;
    x = x < 0 ? 0 : x >= v->w ? v->w - 1 : x;
    v->f->cur_y = v->y + y;
    v->f->cur_x = v->x + x;
    v->f->cursor = visible;
}

void view_glyph(const struct view *v, int y, int x, unsigned style, enum glyph g) {
    put(v, y, x, style, v->f->ascii ? (uint32_t)glyphs[g].ascii : glyphs[g].uni, 1);
}

void view_rule(const struct view *v, int y, int x, int n, unsigned style, enum glyph g) {
    for (int i = 0; i < n; i++)
        view_glyph(v, y, x + i, style, g);
}

void view_braille(const struct view *v, int y, int x, unsigned style, unsigned dots) {
    put(v, y, x, style, v->f->ascii ? (dots ? '*' : ' ') : dots ? 0x2800 + dots : ' ', 1);
}
