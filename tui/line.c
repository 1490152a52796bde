#include "tui/line.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"

#include <string.h>

#include "base/banned.h"

void line_init(struct line *l) {
    *l = (struct line){0};
    buf_init(&l->text, LINE_BYTES_MAX);
    buf_init(&l->cut, LINE_BYTES_MAX);
}

void line_reset(struct line *l) {
    mem_wipe(l->text.data, l->text.len);
    buf_reset(&l->text);
    l->cur = 0;
    l->pasting = false;
}

void line_free(struct line *l) {
    mem_wipe(l->text.data, l->text.len);
    mem_wipe(l->cut.data, l->cut.len);
    buf_clear(&l->text);
    buf_clear(&l->cut);
    l->cur = 0;
}

const char *line_text(const struct line *l) {
    return l->text.data ? (const char *)l->text.data : "";
}

static size_t before(const struct line *l, size_t i) {
    while (i && (l->text.data[--i] & 0xc0) == 0x80) {
    }
    return i;
}

static size_t after(const struct line *l, size_t i) {
    if (i < l->text.len)
        i++;
    while (i < l->text.len && (l->text.data[i] & 0xc0) == 0x80)
        i++;
    return i;
}

static void erase(struct line *l, size_t from, size_t to, bool keep) {
    if (from >= to)
        return;
    if (keep) {
        buf_reset(&l->cut);
        if (buf_add(&l->cut, l->text.data + from, to - from, NULL))
            buf_reset(&l->cut);
    }
    memmove(l->text.data + from, l->text.data + to, l->text.len - to + 1);
    l->text.len -= to - from;
    l->cur = from;
}

static void insert(struct line *l, const char *s, size_t n) {
    if (!n || buf_reserve(&l->text, n, NULL))
        return; /* full: the key does nothing */
    size_t tail = l->text.len - l->cur;
    if (buf_add(&l->text, s, n, NULL))
        return;
    memmove(l->text.data + l->cur + n, l->text.data + l->cur, tail);
    memcpy(l->text.data + l->cur, s, n);
    l->cur += n;
}

void line_replace(struct line *l, size_t from, size_t to, const char *s, size_t n) {
    to = to > l->text.len ? l->text.len : to;
    if (from > to)
        return;
    erase(l, from, to, false);
    l->cur = from;
    insert(l, s, n);
}

void line_set(struct line *l, const char *s, size_t n) {
    line_reset(l);
    if (n > LINE_BYTES_MAX - 1)
        for (n = LINE_BYTES_MAX - 1; n && (s[n] & 0xc0) == 0x80;)
            n--;
    insert(l, s, n);
}

static bool blank(const struct line *l, size_t i) {
    return l->text.data[i] == ' ' || l->text.data[i] == '\n';
}

static size_t word_left(const struct line *l) {
    size_t i = l->cur;
    while (i && blank(l, i - 1))
        i--;
    while (i && !blank(l, i - 1))
        i--;
    return i;
}

static size_t word_right(const struct line *l) {
    size_t i = l->cur;
    while (i < l->text.len && blank(l, i))
        i++;
    while (i < l->text.len && !blank(l, i))
        i++;
    return i;
}

bool line_key(struct line *l, const struct key *k) {
    if (k->code == TK_PASTE_BEGIN || k->code == TK_PASTE_END) {
        l->pasting = k->code == TK_PASTE_BEGIN;
        return true;
    }
    if (l->pasting && (k->code == TK_ENTER || k->code == TK_TAB)) {
        insert(l, k->code == TK_TAB ? " " : "\n", 1);
        return true;
    }
    if (k->code == TK_ENTER && k->mods & TK_ALT) {
        insert(l, "\n", 1);
        return true;
    }
    if (k->code < TK_BASE && !(k->mods & (TK_CTRL | TK_ALT))) {
        uint8_t u[4];
        insert(l, (char *)u, utf8_encode(u, k->code));
        return true;
    }
    bool word = k->mods & (TK_CTRL | TK_ALT);
    switch (k->code) {
    case TK_LEFT: l->cur = word ? word_left(l) : before(l, l->cur); return true;
    case TK_RIGHT: l->cur = word ? word_right(l) : after(l, l->cur); return true;
    case TK_HOME: l->cur = 0; return true;
    case TK_END: l->cur = l->text.len; return true;
    case TK_BACKSPACE: erase(l, k->mods & TK_ALT ? word_left(l) : before(l, l->cur), l->cur, k->mods & TK_ALT); return true;
    case TK_DELETE: erase(l, l->cur, after(l, l->cur), false); return true;
    default: break;
    }
    if (k->mods == TK_CTRL)
        switch (k->code) {
        case 'a': l->cur = 0; return true;
        case 'e': l->cur = l->text.len; return true;
        case 'b': l->cur = before(l, l->cur); return true;
        case 'f': l->cur = after(l, l->cur); return true;
        case 'd': erase(l, l->cur, after(l, l->cur), false); return true;
        case 'h': erase(l, before(l, l->cur), l->cur, false); return true;
        case 'k': erase(l, l->cur, l->text.len, true); return true;
        case 'u': erase(l, 0, l->cur, true); return true;
        case 'w': erase(l, word_left(l), l->cur, true); return true;
        case 'y': insert(l, l->cut.data ? (char *)l->cut.data : "", l->cut.len); return true;
        default: break;
        }
    if (k->mods == TK_ALT)
        switch (k->code) {
        case 'b': l->cur = word_left(l); return true;
        case 'f': l->cur = word_right(l); return true;
        case 'd': {
            size_t from = l->cur;
            erase(l, from, word_right(l), true);
            return true;
        }
        default: break;
        }
    return false;
}

void history_init(struct history *h) {
    *h = (struct history){0};
    line_init(&h->fresh);
}

void history_free(struct history *h) {
    for (size_t i = 0; i < h->n; i++)
        mem_free(h->entry[i]);
    mem_free(h->entry);
    line_free(&h->fresh);
    *h = (struct history){0};
}

enum loam_status history_add(struct history *h, const char *s, struct err *err) {
    h->at = h->n;
    if (!*s || *s == ' ' || (h->n && !strcmp(h->entry[h->n - 1], s)))
        return LOAM_OK;
    if (!h->entry && !(h->entry = mem_array(HISTORY_MAX, sizeof *h->entry)))
        return err_set(err, LOAM_ENOMEM, "history");
    char *c = mem_strdup(s);
    if (!c)
        return err_set(err, LOAM_ENOMEM, "history");
    if (h->n == HISTORY_MAX) {
        mem_free(h->entry[0]);
        memmove(h->entry, h->entry + 1, --h->n * sizeof *h->entry);
    }
    h->entry[h->n++] = c;
    h->at = h->n;
    return LOAM_OK;
}

enum loam_status history_load(struct history *h, const char *path, struct err *err) {
    if (!file_exists(path))
        return LOAM_OK;
    struct buf b = BUF_INIT(HISTORY_FILE_MAX), one = BUF_INIT(LINE_BYTES_MAX);
    enum loam_status s = file_read(&b, path, err);
    for (size_t i = 0; !s && i < b.len; i++) {
        uint8_t c = b.data[i];
        if (c == '\n') {
            if (one.len && utf8_valid(one.data, one.len, NULL))
                s = history_add(h, (char *)one.data, err);
            buf_reset(&one);
            continue;
        }
        if (c == '\\' && i + 1 < b.len)
            c = b.data[++i] == 'n' ? '\n' : b.data[i];
        if (c >= 0x20 || c == '\n')
            if (buf_byte(&one, c, NULL)) /* an overlong line is not ours: what fits is kept */
                continue;
    }
    buf_clear(&b);
    buf_clear(&one);
    return s;
}

enum loam_status history_save(const struct history *h, const char *path, struct err *err) {
    struct buf b = BUF_INIT(HISTORY_FILE_MAX);
    enum loam_status s = LOAM_OK;
    for (size_t i = 0; i < h->n && !s; i++) {
        for (const char *p = h->entry[i]; *p && !s; p++)
            s = *p == '\n' ? buf_str(&b, "\\n", err) : *p == '\\' ? buf_str(&b, "\\\\", err) : buf_byte(&b, (uint8_t)*p, err);
        if (!s)
            s = buf_byte(&b, '\n', err);
    }
    if (!s || s == LOAM_ELIMIT)
        s = file_write(path, b.data ? b.data : (uint8_t *)"", b.len, 0600, err);
    buf_clear(&b);
    return s;
}

bool history_move(struct history *h, struct line *l, int dir) {
    if (h->at >= h->n) {
        if (dir > 0)
            return false;
        line_set(&h->fresh, line_text(l), l->text.len);
    }
    const char *want = line_text(&h->fresh);
    size_t wn = h->fresh.text.len;
    for (size_t i = h->at;;) {
        if (dir < 0 ? i == 0 : i >= h->n)
            return false;
        i = dir < 0 ? i - 1 : i + 1;
        if (i == h->n) {
            h->at = i;
            line_set(l, want, wn);
            return true;
        }
        if (!strncmp(h->entry[i], want, wn)) {
            h->at = i;
            line_set(l, h->entry[i], strlen(h->entry[i]));
            return true;
        }
    }
}

long history_search(const struct history *h, const char *s, size_t below) {
    for (size_t i = below < h->n ? below : h->n; i-- > 0;)
        if (strstr(h->entry[i], s))
            return (long)i;
    return -1;
}
