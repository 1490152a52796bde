#include "base/text.h"

#include <string.h>
#include <wchar.h>

size_t utf8_decode(uint32_t *cp, const uint8_t *p, size_t n) {
    uint8_t b = p[0];
    if (b < 0x80) {
        *cp = b;
        return 1;
    }
    size_t len = b >= 0xc2 && b <= 0xdf ? 2 : (b & 0xf0) == 0xe0 ? 3 : b >= 0xf0 && b <= 0xf4 ? 4 : 0;
    if (!len || n < len)
        return 0;
    uint32_t v = b & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        v = v << 6 | (p[i] & 0x3f);
    }
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (v < least[len] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
        return 0;
    *cp = v;
    return len;
}

size_t utf8_encode(uint8_t out[4], uint32_t cp) {
    if (cp < 0x80) {
        out[0] = (uint8_t)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (uint8_t)(0xc0 | cp >> 6);
        out[1] = (uint8_t)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp >= 0xd800 && cp <= 0xdfff)
        return 0;
    if (cp < 0x10000) {
        out[0] = (uint8_t)(0xe0 | cp >> 12);
        out[1] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (cp & 0x3f));
        return 3;
    }
    if (cp > 0x10ffff)
        return 0;
    out[0] = (uint8_t)(0xf0 | cp >> 18);
    out[1] = (uint8_t)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (cp & 0x3f));
    return 4;
}

bool utf8_valid(const uint8_t *p, size_t n, size_t *at) {
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t k = utf8_decode(&cp, p + i, n - i);
        if (!k) {
            if (at)
                *at = i;
            return false;
        }
        i += k;
    }
    return true;
}

static bool in(uint32_t cp, uint32_t a, uint32_t b) {
    return cp >= a && cp <= b;
}

/* Format and control characters that change how other text is shown. */
static bool hostile(uint32_t cp) {
    return cp < 0x20 || in(cp, 0x7f, 0x9f) || cp == 0xad || cp == 0x61c || in(cp, 0x180b, 0x180f) ||
           in(cp, 0x200b, 0x200f) || in(cp, 0x2028, 0x202e) || in(cp, 0x2060, 0x206f) || cp == 0xfeff ||
           in(cp, 0xfe00, 0xfe0f) || in(cp, 0xfff0, 0xfffb) || (cp & 0xfffe) == 0xfffe || in(cp, 0xfdd0, 0xfdef) ||
           in(cp, 0xe000, 0xf8ff) || cp >= 0xe0000;
}

static bool combining(uint32_t cp) {
    return in(cp, 0x300, 0x36f) || in(cp, 0x483, 0x489) || in(cp, 0x591, 0x5bd) || in(cp, 0x610, 0x61a) ||
           in(cp, 0x64b, 0x65f) || in(cp, 0x6d6, 0x6dc) || in(cp, 0x900, 0x902) || in(cp, 0x93a, 0x93c) ||
           in(cp, 0x941, 0x948) || cp == 0x94d || in(cp, 0xe31, 0xe31) || in(cp, 0xe34, 0xe3a) ||
           in(cp, 0xe47, 0xe4e) || in(cp, 0x1ab0, 0x1aff) || in(cp, 0x1dc0, 0x1dff) || in(cp, 0x20d0, 0x20f0) ||
           in(cp, 0x302a, 0x302d) || in(cp, 0x3099, 0x309a) || in(cp, 0xfe20, 0xfe2f);
}

static bool wide(uint32_t cp) {
    return in(cp, 0x1100, 0x115f) || in(cp, 0x231a, 0x231b) || in(cp, 0x23e9, 0x23ec) || in(cp, 0x25fd, 0x25fe) ||
           in(cp, 0x2614, 0x2615) || in(cp, 0x2648, 0x2653) || cp == 0x267f || cp == 0x2693 || cp == 0x26a1 ||
           in(cp, 0x2e80, 0x303e) || in(cp, 0x3041, 0x33ff) || in(cp, 0x3400, 0x4dbf) || in(cp, 0x4e00, 0xa4cf) ||
           in(cp, 0xa960, 0xa97f) || in(cp, 0xac00, 0xd7a3) || in(cp, 0xf900, 0xfaff) || in(cp, 0xfe10, 0xfe19) ||
           in(cp, 0xfe30, 0xfe6f) || in(cp, 0xff01, 0xff60) || in(cp, 0xffe0, 0xffe6) || in(cp, 0x1f300, 0x1f64f) ||
           in(cp, 0x1f680, 0x1f6ff) || in(cp, 0x1f900, 0x1f9ff) || in(cp, 0x1fa70, 0x1faff) || in(cp, 0x20000, 0x3fffd);
}

int text_width(uint32_t cp) {
    return hostile(cp) || in(cp, 0xd800, 0xdfff) ? -1 : combining(cp) ? 0 : wide(cp) ? 2 : 1;
}

#define MARKS_MAX 4 /* more combining marks than this on one base are an attack on the line above, not a language */

struct cleaner {
    unsigned flags, column, marks;
    bool base;
};

/* The safe form of one step of the input: writes up to 8 bytes to out, returns how many; *used gets the bytes eaten. */
static size_t step(struct cleaner *c, uint8_t out[8], const uint8_t *p, size_t n, size_t *used) {
    uint32_t cp;
    size_t k = utf8_decode(&cp, p, n);
    *used = k ? k : 1;
    if (!k)
        cp = 0xfffd;
    if (cp == '\n' || cp == '\t' || cp == '\r') {
        c->marks = 0;
        c->base = false;
        if (cp == '\n' && c->flags & TEXT_LINES) {
            c->column = 0;
            out[0] = '\n';
            return 1;
        }
        if (cp == '\r')
            return 0;
        size_t spaces = cp == '\t' && c->flags & TEXT_LINES ? 8 - c->column % 8 : 1;
        memset(out, ' ', spaces);
        c->column += (unsigned)spaces;
        return spaces;
    }
    if (cp != 0xfffd && hostile(cp))
        cp = cp < 0x20 || in(cp, 0x7f, 0x9f) ? 0xfffd : 0;
    if (!cp)
        return 0;
    if (combining(cp)) {
        if (!c->base || c->marks >= MARKS_MAX)
            return 0;
        c->marks++;
    } else {
        c->marks = 0;
        c->base = true;
        c->column += wide(cp) ? 2 : 1;
    }
    return utf8_encode(out, cp);
}

enum loam_status text_clean(struct buf *out, const void *in_, size_t n, unsigned flags, struct err *err) {
    struct cleaner c = {.flags = flags};
    const uint8_t *p = in_;
    enum loam_status s = buf_add(out, "", 0, err);
    for (size_t i = 0, used; i < n && !s; i += used) {
        uint8_t t[8];
        size_t k = step(&c, t, p + i, n - i, &used);
        s = buf_add(out, t, k, err);
    }
    return s;
}

char *text_clean_cut(char *out, size_t cap, const void *in_, size_t n) {
    struct cleaner c = {0};
    const uint8_t *p = in_;
    size_t at = 0;
    if (!cap)
        return out;
    for (size_t i = 0, used; i < n; i += used) {
        uint8_t t[8];
        size_t k = step(&c, t, p + i, n - i, &used);
        if (at + k >= cap)
            break;
        memcpy(out + at, t, k);
        at += k;
    }
    out[at] = 0;
    return out;
}

size_t text_bom(const void *p, size_t n) {
    return n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

bool text_choice(const char *choices, const char *s) {
    size_t n = strlen(s);
    for (const char *p = choices; n && *p;) {
        size_t len = strcspn(p, "|");
        if (len == n && memcmp(p, s, n) == 0)
            return true;
        p += len + (p[len] == '|');
    }
    return false;
}
