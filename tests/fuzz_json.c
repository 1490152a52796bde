/* base/json: any bytes; what parses must be writable again. */
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void walk(const struct js_val *v, struct buf *b) {
    if (v->type == JS_STRING)
        (void)!js_write_str(b, v->s, v->len, NULL);
    else if (v->type == JS_NUMBER)
        (void)!js_write_num(b, v->d, NULL);
    else if (v->type == JS_ARRAY || v->type == JS_OBJECT)
        for (const struct js_val *c = v->first; c; c = c->next)
            walk(c, b);
    buf_reset(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct js_doc d;
    struct err e;
    if (js_parse(&d, data, n, &e))
        return 0;
    struct buf b = BUF_INIT(1 << 20);
    walk(d.root, &b);
    buf_clear(&b);
    js_free(&d);
    return 0;
}
