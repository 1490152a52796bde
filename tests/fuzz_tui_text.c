/* Untrusted text into cells: whatever comes, a cell holds what may be drawn, a wide character keeps both its halves, and
 * in ASCII nothing else is left. Words and fields of a form are read from the same bytes. */
#include "base/text.h"
#include "tui/app.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    static struct frame f;
    if (!f.cells && frame_resize(&f, 4, 23, NULL))
        return 0;
    frame_clear(&f);
    f.ascii = n && p[0] & 1;
    struct view v = view_all(&f), sub = view_sub(&v, 1, 3, 2, 7);
    view_textn(&v, 0, 0, ST_BAD, (const char *)p, n, -1);
    view_textn(&v, 1, 20, 0, (const char *)p, n, -1);
    view_textn(&sub, 0, -2, 0, (const char *)p, n, -1);
    view_textn(&sub, 1, 0, 0, (const char *)p, n, 3);
    view_textn(&v, 3, n ? p[0] % 23 : 0, 0, (const char *)p, n, -1);
    view_textn(&v, 3, n > 1 ? p[1] % 23 : 0, 0, (const char *)p, n, -1);
    for (int y = 0; y < f.rows; y++)
        for (int x = 0; x < f.cols; x++) {
            const struct cell *c = &f.cells[y * f.cols + x];
            if (c->width == 0) {
                if (!x || c[-1].width != 2)
                    abort();
                continue;
            }
            if (c->width == 2 && (x + 1 >= f.cols || c[1].width != 0))
                abort();
            if (text_width(c->ch[0]) != (int)c->width || (f.ascii && (c->ch[0] > 0x7e || c->ch[1])))
                abort();
            if (c->ch[1] && text_width(c->ch[1]) != 0)
                abort();
        }
    char *s = malloc(n + 1), why[96];
    if (!s)
        return 0;
    memcpy(s, p, n);
    s[n] = 0;
    size_t a, b, last = 0;
    for (long i = 0; i < 8 && word_range(s, i, &a, &b); i++) {
        if (a < last || b <= a || b > n)
            abort();
        last = b;
    }
    char out[128];
    fmt_wei(out, sizeof out, s);
    fmt_hash(out, sizeof out, s);
    static const char *const type[] = {"number", "datanet", "OPEN", "choice", "flag", "address", "hash", "text"};
    for (size_t i = 0; i < sizeof type / sizeof *type; i++) {
        json_t *arg = json_pack("{s:s, s:s}", "type", type[i], "range", i == 3 ? "a|b||c" : "1..5");
        field_check(arg, s, why, sizeof why);
        json_decref(arg);
    }
    free(s);
    return 0;
}
