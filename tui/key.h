/* Keys: bytes from a terminal become key presses. A pure machine: it reads nothing, owns nothing, never fails.
 *
 * It knows UTF-8, the CSI and SS3 forms that xterm, VT220, Linux and their descendants send (with modifiers), bracketed
 * paste, SGR mouse reports and the answer to a mode query (DECRPM). Anything else it eats whole, so that an unknown
 * sequence never turns into typed text. */
#ifndef LOAM_TUI_KEY_H
#define LOAM_TUI_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TK_BASE = 0x110000, /* above Unicode: a key's code is a code point or one of these */
    TK_UP, TK_DOWN, TK_RIGHT, TK_LEFT, TK_HOME, TK_END, TK_PGUP, TK_PGDN, TK_INSERT, TK_DELETE, TK_BACKSPACE,
    TK_ENTER, TK_TAB, TK_BACKTAB, TK_ESC, TK_F1, TK_F2, TK_F3, TK_F4, TK_F5, TK_F6, TK_F7, TK_F8, TK_F9,
    TK_F10, TK_F11, TK_F12, TK_PASTE_BEGIN, TK_PASTE_END, TK_FOCUS_IN, TK_FOCUS_OUT,
    TK_MOUSE, /* x, y: column and row from 0; code2: button as SGR reports it, bit 8 set on release */
    TK_MODE,  /* answer to CSI ? x $ p: x the mode, y the state (0 unknown, 1 set, 2 reset) */
    TK_LAST
};
enum { TK_SHIFT = 1, TK_ALT = 2, TK_CTRL = 4 };

struct key {
    uint32_t code; /* Ctrl-A comes as 'a' with TK_CTRL */
    uint8_t mods;
    uint16_t x, y, button; /* TK_MOUSE and TK_MODE only */
};

#define TK_SEQUENCE_MAX 48 /* the longest sequence kept; a longer one is eaten to its end */

struct keydec {
    uint8_t buf[TK_SEQUENCE_MAX];
    uint8_t n;
    bool skip; /* inside an overlong sequence */
};

/* Takes one byte; returns true and fills *k when it completes a key. */
bool key_feed(struct keydec *d, struct key *k, uint8_t byte);
/* Something is held that could be a lone Escape: wait TK_ESC_MS for more, then call key_flush. */
#define TK_ESC_MS 25
bool key_pending(const struct keydec *d);
bool key_flush(struct keydec *d, struct key *k);

/* Names as in the help overlay and the key options: "a", "ctrl-l", "alt-x", "f1", "up", "space", "backtab". */
bool key_parse(struct key *k, const char *name, size_t n);
void key_text(char out[32], const struct key *k);

#endif
