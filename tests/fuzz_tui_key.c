/* Keys and lines from arbitrary bytes: the decoder gives only code points that may be drawn or named keys, and the line
 * editor stays valid UTF-8 within its limit. */
#include "base/text.h"
#include "tui/key.h"
#include "tui/line.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    struct keydec d = {0};
    struct line l;
    struct history h;
    line_init(&l);
    history_init(&h);
    for (size_t i = 0; i <= n; i++) {
        struct key k = {0};
        bool got = i < n ? key_feed(&d, &k, p[i]) : key_flush(&d, &k);
        if (!got)
            continue;
        if (k.code < TK_BASE ? text_width(k.code) < 0 : k.code >= TK_LAST)
            abort();
        char name[32];
        struct key again;
        key_text(name, &k);
        if (k.code != TK_MOUSE && k.code != TK_MODE && k.code < TK_PASTE_BEGIN && k.code != ' ' &&
            (k.code > TK_BASE || text_width(k.code) > 0) &&
            (!key_parse(&again, name, strlen(name)) || again.code != k.code || again.mods != k.mods))
            abort();
        if (k.code == TK_UP)
            history_move(&h, &l, -1);
        else if (k.code == TK_DOWN)
            history_move(&h, &l, 1);
        else if (k.code == TK_ENTER && !(k.mods & TK_ALT) && !l.pasting) {
            if (history_add(&h, line_text(&l), NULL))
                abort();
        } else
            line_key(&l, &k);
        if (l.cur > l.text.len || l.text.len > LINE_BYTES_MAX || (l.text.len && !utf8_valid(l.text.data, l.text.len, NULL)))
            abort();
        if (l.cur < l.text.len && (l.text.data[l.cur] & 0xc0) == 0x80)
            abort();
    }
    line_free(&l);
    history_free(&h);
    return 0;
}
