#include "tui/key.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

static const struct {
    uint32_t code;
    const char *name;
} names[] = {
    {TK_UP, "up"},         {TK_DOWN, "down"},   {TK_RIGHT, "right"},   {TK_LEFT, "left"},
    {TK_HOME, "home"},     {TK_END, "end"},     {TK_PGUP, "pgup"},     {TK_PGDN, "pgdn"},
    {TK_INSERT, "insert"}, {TK_DELETE, "del"},  {TK_BACKSPACE, "bs"},  {TK_ENTER, "enter"},
    {TK_TAB, "tab"},       {TK_BACKTAB, "backtab"}, {TK_ESC, "esc"},   {TK_F1, "f1"},
    {TK_F2, "f2"},         {TK_F3, "f3"},       {TK_F4, "f4"},         {TK_F5, "f5"},
    {TK_F6, "f6"},         {TK_F7, "f7"},       {TK_F8, "f8"},         {TK_F9, "f9"},
    {TK_F10, "f10"},       {TK_F11, "f11"},     {TK_F12, "f12"},       {' ', "space"},
    {',', "comma"},         {'=', "equals"},
};

static bool done(struct keydec *d, struct key *k, uint32_t code, unsigned mods) {
    d->n = 0;
    d->skip = false;
    *k = (struct key){.code = code, .mods = (uint8_t)mods};
    return code != 0;
}

static bool plain(struct keydec *d, struct key *k, uint8_t b, unsigned mods) {
    switch (b) {
    case '\r':
    case '\n':
        return done(d, k, TK_ENTER, mods);
    case '\t':
        return done(d, k, TK_TAB, mods);
    case 0x7f:
    case 0x08:
        return done(d, k, TK_BACKSPACE, mods);
    case 0:
        return done(d, k, ' ', mods | TK_CTRL);
    default:
        if (b < 0x1b)
            return done(d, k, (uint32_t)(b + 'a' - 1), mods | TK_CTRL);
        if (b < 0x20)
            return done(d, k, (uint32_t)(b + '@'), mods | TK_CTRL);
        return done(d, k, b, mods);
    }
}

static uint32_t letter(uint8_t c) {
    switch (c) {
    case 'A': return TK_UP;
    case 'B': return TK_DOWN;
    case 'C': return TK_RIGHT;
    case 'D': return TK_LEFT;
    case 'H': return TK_HOME;
    case 'F': return TK_END;
    case 'M': return TK_ENTER;
    case 'P': return TK_F1;
    case 'Q': return TK_F2;
    case 'R': return TK_F3;
    case 'S': return TK_F4;
    case 'Z': return TK_BACKTAB;
    case 'I': return TK_FOCUS_IN;
    case 'O': return TK_FOCUS_OUT;
    default: return 0;
    }
}

static uint32_t tilde(unsigned v) {
    static const uint16_t t[35] = {
        [1] = 5, [2] = 9, [3] = 10, [4] = 6, [5] = 7, [6] = 8, [7] = 5, [8] = 6,
    };
    if (v >= 11 && v <= 15)
        return TK_F1 + (v - 11);
    if (v >= 17 && v <= 21)
        return TK_F6 + (v - 17);
    if (v == 23 || v == 24)
        return TK_F11 + (v - 23);
    if (v == 200)
        return TK_PASTE_BEGIN;
    if (v == 201)
        return TK_PASTE_END;
    return v < 9 && t[v] ? TK_BASE + t[v] : 0;
}

/* A whole CSI sequence stands in buf[2 .. n-1], the last byte being its final. */
static bool csi(struct keydec *d, struct key *k) {
    unsigned p[4] = {0}, np = 0, n = d->n;
    uint8_t fin = d->buf[n - 1], lead = d->buf[2], inter = 0;
    bool priv = lead >= '<' && lead <= '?';
    for (unsigned i = priv ? 3 : 2; i + 1 < n; i++) {
        uint8_t c = d->buf[i];
        if (c >= '0' && c <= '9') {
            if (p[np] < 60000)
                p[np] = p[np] * 10 + (c - '0');
        } else if (c == ';' && np < 3) {
            np++;
        } else if (c >= 0x20 && c <= 0x2f) {
            inter = c;
        }
    }
    if (priv && lead == '<' && (fin == 'M' || fin == 'm')) {
        if (!p[1] || !p[2])
            return done(d, k, 0, 0);
        done(d, k, TK_MOUSE, 0);
        k->x = (uint16_t)(p[1] - 1);
        k->y = (uint16_t)(p[2] - 1);
        k->button = (uint16_t)((p[0] & 0xff) | (fin == 'm' ? 0x100 : 0));
        return true;
    }
    if (priv && lead == '?' && inter == '$' && fin == 'y') {
        done(d, k, TK_MODE, 0);
        k->x = (uint16_t)p[0];
        k->y = (uint16_t)p[1];
        return true;
    }
    if (priv || inter)
        return done(d, k, 0, 0);
    unsigned m = p[1] ? p[1] - 1 : 0, mods = (m & 1 ? TK_SHIFT : 0) | (m & 2 ? TK_ALT : 0) | (m & 4 ? TK_CTRL : 0);
    if (fin == '~')
        return done(d, k, tilde(p[0]), mods);
    if (fin == 'u') { /* CSI code ; mods u */
        if (p[0] < 0x20 || p[0] == 0x7f)
            return plain(d, k, (uint8_t)p[0], mods);
        return done(d, k, text_width(p[0]) >= 0 ? p[0] : 0, mods);
    }
    return done(d, k, fin == 'M' ? 0 : letter(fin), mods);
}

bool key_feed(struct keydec *d, struct key *k, uint8_t b) {
    if (d->skip) { /* an overlong CSI: to its final byte */
        if (b == 0x1b) {
            d->skip = false;
            d->buf[0] = b;
            d->n = 1;
        } else if (b >= 0x40 && b <= 0x7e) {
            done(d, k, 0, 0);
        }
        return false;
    }
    if (d->n == TK_SEQUENCE_MAX) {
        d->skip = true;
        return false;
    }
    d->buf[d->n++] = b;
    if (d->buf[0] == 0x1b) {
        if (d->n == 1)
            return false;
        uint8_t second = d->buf[1];
        if (b == 0x1b) { /* the first Escape stood alone, or the sequence was broken off */
            bool lone = d->n == 2;
            done(d, k, lone ? TK_ESC : 0, 0);
            d->buf[0] = 0x1b;
            d->n = 1;
            return lone;
        }
        if (d->n == 2) {
            if (second == '[' || second == 'O')
                return false;
            if (second == ']' || second == 'P' || second == '_' || second == '^' || second == 'X')
                return false;
            if (second >= 0x80)
                return done(d, k, 0, 0);
            return plain(d, k, second, TK_ALT);
        }
        if (second == 'O')
            return done(d, k, b >= '0' && b <= '9' ? 0 : letter(b), 0);
        if (second == '[') {
            if (b == '[' && d->n == 3)
                return false; /* Linux console: CSI [ A..E are F1..F5 */
            if (d->n == 4 && d->buf[2] == '[')
                return done(d, k, b >= 'A' && b <= 'E' ? TK_F1 + (uint32_t)(b - 'A') : 0, 0);
            if (b < 0x20)
                return plain(d, k, b, 0);
            if (b >= 0x40)
                return b <= 0x7e ? csi(d, k) : done(d, k, 0, 0);
            return false;
        }
        /* OSC, DCS and their kin: an answer of the terminal; eaten to BEL (or to ESC, above) */
        if (b == 0x07)
            return done(d, k, 0, 0);
        d->n = 2;
        return false;
    }
    if (b < 0x80) {
        d->n = 0;
        return plain(d, k, b, 0); /* also after a character that was broken off */
    }
    uint32_t cp;
    size_t used = utf8_decode(&cp, d->buf, d->n);
    if (used)
        return done(d, k, text_width(cp) >= 0 ? cp : 0, 0);
    if (d->n >= 4 || (d->buf[0] & 0xc0) != 0xc0)
        return done(d, k, 0, 0);
    if (d->n > 1 && (b & 0xc0) != 0x80) { /* broken off: what breaks it off is a key of its own */
        d->n = 0;
        return key_feed(d, k, b);
    }
    return false;
}

bool key_pending(const struct keydec *d) {
    return d->n && d->buf[0] == 0x1b && !d->skip;
}

bool key_flush(struct keydec *d, struct key *k) {
    if (d->n == 1 && d->buf[0] == 0x1b)
        return done(d, k, TK_ESC, 0);
    if (d->n == 2 && d->buf[0] == 0x1b && d->buf[1] < 0x80) /* Alt-[ and Alt-O */
        return done(d, k, d->buf[1], TK_ALT);
    d->n = 0;
    d->skip = false;
    return false;
}

bool key_parse(struct key *k, const char *s, size_t n) {
    *k = (struct key){0};
    for (;;) {
        if (n > 5 && !memcmp(s, "ctrl-", 5)) {
            k->mods |= TK_CTRL;
            s += 5;
            n -= 5;
        } else if (n > 4 && !memcmp(s, "alt-", 4)) {
            k->mods |= TK_ALT;
            s += 4;
            n -= 4;
        } else if (n > 6 && !memcmp(s, "shift-", 6)) {
            k->mods |= TK_SHIFT;
            s += 6;
            n -= 6;
        } else {
            break;
        }
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i].name) == n && !memcmp(names[i].name, s, n)) {
            k->code = names[i].code;
            return true;
        }
    uint32_t cp;
    if (!n || utf8_decode(&cp, (const uint8_t *)s, n) != n || text_width(cp) < 1)
        return false;
    k->code = cp;
    return true;
}

void key_text(char out[32], const struct key *k) {
    char c[8] = "?";
    const char *name = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].code == k->code)
            name = names[i].name;
    if (!name && k->code < TK_BASE)
        c[utf8_encode((uint8_t *)c, k->code)] = 0;
    snprintf(out, 32, "%s%s%s%s", k->mods & TK_CTRL ? "ctrl-" : "", k->mods & TK_ALT ? "alt-" : "",
             k->mods & TK_SHIFT ? "shift-" : "", name ? name : c);
}
