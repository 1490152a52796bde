#include "record/row.h"

#include "base/mem.h"
#include "base/text.h"

#include <stdio.h>

#include "base/banned.h"

/* ---- a strict JSON reader, as much of it as rows need: row.h says which forms are taken ---- */

struct reader {
    const uint8_t *p;
    size_t at, n;
    struct err *err;
};

static enum loam_status bad(struct reader *r, const char *what) {
    return err_set(r->err, LOAM_EPARSE, "row: %s at byte %zu", what, r->at);
}

static int peek(const struct reader *r) {
    return r->at < r->n ? r->p[r->at] : -1;
}

static void blanks(struct reader *r) {
    while (r->at < r->n && (r->p[r->at] == ' ' || r->p[r->at] == '\t' || r->p[r->at] == '\n' || r->p[r->at] == '\r'))
        r->at++;
}

static enum loam_status expect(struct reader *r, char c) {
    static const char *const what[] = {"':' expected", "'{' expected", "'[' expected", "'\"' expected"};
    blanks(r);
    if (peek(r) != c)
        return bad(r, what[c == ':' ? 0 : c == '{' ? 1 : c == '[' ? 2 : 3]);
    r->at++;
    return LOAM_OK;
}

static enum loam_status hex4(struct reader *r, uint32_t *out) {
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        int c = peek(r);
        int d = hex_digit(c);
        if (d < 0)
            return bad(r, "\\u needs four hex digits");
        v = v << 4 | (uint32_t)d;
        r->at++;
    }
    *out = v;
    return LOAM_OK;
}

/* A string behind its opening quote, decoded onto out (NULL: only checked). */
static enum loam_status string_rest(struct reader *r, struct buf *out) {
    for (;;) {
        int c = peek(r);
        uint8_t one[4];
        size_t len = 1;
        if (c < 0)
            return bad(r, "the string does not end");
        if (c == '"') {
            r->at++;
            return LOAM_OK;
        }
        if (c < 0x20)
            return bad(r, "a raw control character in a string");
        if (c == '\\') {
            r->at++;
            c = peek(r);
            r->at++;
            uint32_t cp = 0, low = 0;
            enum loam_status st;
            switch (c) {
            case '"':
            case '\\':
            case '/':
                one[0] = (uint8_t)c;
                break;
            case 'b':
                one[0] = '\b';
                break;
            case 'f':
                one[0] = '\f';
                break;
            case 'n':
                one[0] = '\n';
                break;
            case 'r':
                one[0] = '\r';
                break;
            case 't':
                one[0] = '\t';
                break;
            case 'u':
                if ((st = hex4(r, &cp)))
                    return st;
                if (cp >= 0xdc00 && cp <= 0xdfff)
                    return bad(r, "half of a surrogate pair");
                if (cp >= 0xd800 && cp <= 0xdbff) {
                    if (r->n - r->at < 2 || r->p[r->at] != '\\' || r->p[r->at + 1] != 'u')
                        return bad(r, "half of a surrogate pair");
                    r->at += 2;
                    if ((st = hex4(r, &low)))
                        return st;
                    if (low < 0xdc00 || low > 0xdfff)
                        return bad(r, "half of a surrogate pair");
                    cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
                }
                if (!cp)
                    return bad(r, "U+0000 in a string");
                len = utf8_encode(one, cp);
                break;
            default:
                r->at -= 1;
                return bad(r, "an unknown escape");
            }
        } else {
            uint32_t cp;
            len = utf8_decode(&cp, r->p + r->at, r->n - r->at);
            if (!len)
                return bad(r, "not UTF-8");
            memcpy(one, r->p + r->at, len);
            r->at += len;
        }
        if (out) {
            enum loam_status st = buf_add(out, one, len, r->err);
            if (st)
                return st == LOAM_ELIMIT ? err_set(r->err, LOAM_ELIMIT, "row: a text is longer than %d bytes", ROW_BYTES_MAX) : st;
        }
    }
}

static enum loam_status string(struct reader *r, struct buf *out) {
    enum loam_status st = expect(r, '"');
    return st ? st : string_rest(r, out);
}

static bool digit(int c) {
    return c >= '0' && c <= '9';
}

static enum loam_status number(struct reader *r) {
    if (peek(r) == '-')
        r->at++;
    if (!digit(peek(r)))
        return bad(r, "a value expected");
    if (peek(r) == '0')
        r->at++;
    else
        while (digit(peek(r)))
            r->at++;
    if (peek(r) == '.') {
        r->at++;
        if (!digit(peek(r)))
            return bad(r, "a digit expected");
        while (digit(peek(r)))
            r->at++;
    }
    if (peek(r) == 'e' || peek(r) == 'E') {
        r->at++;
        if (peek(r) == '+' || peek(r) == '-')
            r->at++;
        if (!digit(peek(r)))
            return bad(r, "a digit expected");
        while (digit(peek(r)))
            r->at++;
    }
    return LOAM_OK;
}

static enum loam_status word(struct reader *r, const char *w) {
    size_t n = strlen(w);
    if (r->n - r->at < n || memcmp(r->p + r->at, w, n))
        return bad(r, "a value expected");
    r->at += n;
    return LOAM_OK;
}

/* Between the members of an object or array: ',' goes on, close ends. */
static enum loam_status next(struct reader *r, char close, bool *more) {
    blanks(r);
    int c = peek(r);
    if (c != ',' && c != close)
        return bad(r, close == '}' ? "',' or '}' expected" : "',' or ']' expected");
    r->at++;
    *more = c == ',';
    return LOAM_OK;
}

/* Any value, checked and left behind. Keys of skipped objects are not checked for being there twice. */
static enum loam_status skip(struct reader *r, int depth) {
    enum loam_status st = LOAM_OK;
    bool more = true;
    blanks(r);
    int c = peek(r);
    if (depth > ROW_DEPTH_MAX)
        return bad(r, "nested too deep");
    switch (c) {
    case '"':
        r->at++;
        return string_rest(r, NULL);
    case 't':
        return word(r, "true");
    case 'f':
        return word(r, "false");
    case 'n':
        return word(r, "null");
    case '{':
    case '[':
        r->at++;
        blanks(r);
        if (peek(r) == c + 2) { /* '{' + 2 is '}', '[' + 2 is ']' */
            r->at++;
            return LOAM_OK;
        }
        while (!st && more) {
            if (c == '{' && ((st = string(r, NULL)) || (st = expect(r, ':'))))
                return st;
            if (!(st = skip(r, depth + 1)))
                st = next(r, (char)(c + 2), &more);
        }
        return st;
    default:
        return number(r);
    }
}

/* ---- building a row ---- */

static const char *const role_names[] = {"", "system", "user", "assistant", "text"};

const char *row_role_name(enum row_role r) {
    return r >= ROW_SYSTEM && r <= ROW_TEXT ? role_names[r] : "?";
}

/* Rules 2 to 5 of row.h on the bytes of b from `from` on, in place. */
static enum loam_status normalise(struct buf *b, size_t from, struct err *err) {
    uint8_t *p = b->data + from;
    size_t n = b->len - from, m = 0, start = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = p[i];
        if (c == '\r') {
            c = '\n';
            i += i + 1 < n && p[i + 1] == '\n';
        }
        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
            return err_set(err, LOAM_EPARSE, "row: control character U+%04X in a text", c);
        p[m++] = c;
    }
    while (m && (p[m - 1] == ' ' || p[m - 1] == '\t' || p[m - 1] == '\n'))
        m--;
    while (start < m && (p[start] == ' ' || p[start] == '\t' || p[start] == '\n'))
        start++;
    if (start == m)
        return err_set(err, LOAM_EPARSE, "row: an empty text");
    memmove(p, p + start, m - start);
    b->len = from + m - start;
    return LOAM_OK;
}

struct builder {
    struct buf bytes; /* row bytes */
    uint32_t count;
    struct err *err;
};

static enum loam_status too_long(struct builder *b) {
    return err_set(b->err, LOAM_ELIMIT, "row: more than %d bytes; split the text", ROW_BYTES_MAX);
}

/* text is normalised behind the message's head. */
static enum loam_status add(struct builder *b, enum row_role role, const struct buf *text) {
    uint8_t head[5] = {(uint8_t)role};
    size_t at = b->bytes.len;
    enum loam_status st;
    if (b->count == ROW_MESSAGES_MAX)
        return err_set(b->err, LOAM_ELIMIT, "row: more than %d messages", ROW_MESSAGES_MAX);
    if ((st = buf_add(&b->bytes, head, 5, b->err)) || (st = buf_add(&b->bytes, text->data, text->len, b->err)))
        return st == LOAM_ELIMIT ? too_long(b) : st;
    if ((st = normalise(&b->bytes, at + 5, b->err)))
        return st;
    put_be32(b->bytes.data + at + 1, (uint32_t)(b->bytes.len - at - 5));
    b->count++;
    return LOAM_OK;
}

enum loam_status row_decode(struct row *out, const uint8_t *p, size_t n, struct err *err) {
    memset(out, 0, sizeof *out);
    if (n > ROW_BYTES_MAX)
        return err_set(err, LOAM_ELIMIT, "row: %zu bytes, at most %d", n, ROW_BYTES_MAX);
    if (n < 8 || memcmp(p, "row1", 4))
        return err_set(err, LOAM_EPARSE, "row: does not begin with \"row1\" and a count");
    uint32_t count = be32(p + 4);
    if (!count || count > ROW_MESSAGES_MAX)
        return err_set(err, LOAM_EPARSE, "row: %u messages", count);
    uint8_t *copy = mem_dup(p, n);
    if (!copy)
        return err_set(err, LOAM_ENOMEM, "row: %zu bytes", n);
    enum loam_status st = LOAM_OK;
    size_t at = 8;
    enum row_role last = 0;
    for (uint32_t i = 0; !st && i < count; i++) {
        if (n - at < 5 || be32(copy + at + 1) > n - at - 5) {
            st = err_set(err, LOAM_EPARSE, "row: cut off in message %u", i);
            break;
        }
        enum row_role role = copy[at];
        uint32_t len = be32(copy + at + 1);
        const uint8_t *text = copy + at + 5;
        bool fits = role == ROW_TEXT        ? count == 1
                    : role == ROW_SYSTEM    ? i == 0 && count > 1
                    : role == ROW_USER      ? last != ROW_USER && i + 1 < count
                    : role == ROW_ASSISTANT ? last == ROW_USER
                                            : false;
        if (!fits)
            st = err_set(err, LOAM_EPARSE, "row: message %u (%s) is out of order: an optional system, then user and assistant by turns, ending with assistant",
                         i, row_role_name(role));
        else if (!utf8_valid(text, len, NULL))
            st = err_set(err, LOAM_EPARSE, "row: message %u is not UTF-8", i);
        else {
            struct buf same = BUF_INIT(ROW_BYTES_MAX);
            if (!(st = buf_add(&same, text, len, err)) && !(st = normalise(&same, 0, err)) && same.len != len)
                st = err_set(err, LOAM_EPARSE, "row: message %u is not normalised", i);
            else if (!st && memcmp(same.data, text, len))
                st = err_set(err, LOAM_EPARSE, "row: message %u is not normalised", i);
            buf_clear(&same);
        }
        out->messages[i] = (struct row_message){role, (const char *)text, len};
        last = role;
        at += 5 + len;
    }
    if (!st && at != n)
        st = err_set(err, LOAM_EPARSE, "row: %zu bytes left over", n - at);
    if (!st && last == ROW_USER)
        st = err_set(err, LOAM_EPARSE, "row: ends with a user message");
    if (st) {
        mem_free(copy);
        memset(out, 0, sizeof *out);
        return st;
    }
    out->bytes = copy;
    out->len = n;
    out->count = count;
    out->hash = hash_of(copy, n);
    return LOAM_OK;
}

/* Keys of the forms without "messages". Each pair form is user + assistant. */
enum { K_SYSTEM, K_PROMPT, K_COMPLETION, K_RESPONSE, K_QUESTION, K_ANSWER, K_INSTRUCTION, K_INPUT, K_OUTPUT, K_TEXT, K_MESSAGES, K_COUNT };
static const char *const key_names[K_COUNT] = {"system", "prompt", "completion", "response", "question", "answer",
                                               "instruction", "input", "output", "text", "messages"};

static enum loam_status read_message(struct reader *r, struct builder *b, struct buf *key, struct buf *role, struct buf *content) {
    enum loam_status st;
    bool more = true, has_role = false, has_content = false;
    buf_reset(role);
    buf_reset(content);
    if ((st = expect(r, '{')))
        return st;
    blanks(r);
    if (peek(r) == '}')
        return bad(r, "a message without role");
    while (more) {
        buf_reset(key);
        if ((st = string(r, key)) || (st = expect(r, ':')))
            return st;
        bool *seen = key->len == 4 && !memcmp(key->data, "role", 4) ? &has_role
                     : key->len == 7 && !memcmp(key->data, "content", 7) ? &has_content : NULL;
        if (seen && *seen)
            return bad(r, "a key given twice");
        if (seen) {
            *seen = true;
            st = string(r, seen == &has_role ? role : content);
        } else {
            st = skip(r, 3);
        }
        if (st || (st = next(r, '}', &more)))
            return st;
    }
    if (!has_role || !has_content)
        return bad(r, "a message needs role and content");
    for (int i = ROW_SYSTEM; i <= ROW_TEXT; i++)
        if (role->len == strlen(role_names[i]) && !memcmp(role->data, role_names[i], role->len))
            return add(b, (enum row_role)i, content);
    return bad(r, "a role other than system, user, assistant, text");
}

/* The pair form that the keys seen make up, as (user key, assistant key); false if they make none. */
static bool pair_form(unsigned seen, int *user, int *assistant) {
    static const int forms[][2] = {{K_PROMPT, K_COMPLETION}, {K_PROMPT, K_RESPONSE}, {K_QUESTION, K_ANSWER}, {K_INSTRUCTION, K_OUTPUT}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        unsigned needs = 1u << forms[i][0] | 1u << forms[i][1];
        unsigned may = needs | 1u << K_SYSTEM | (forms[i][0] == K_INSTRUCTION ? 1u << K_INPUT : 0);
        if ((seen & needs) == needs && !(seen & ~may)) {
            *user = forms[i][0];
            *assistant = forms[i][1];
            return true;
        }
    }
    return false;
}

static enum loam_status read_row(struct reader *r, struct builder *b, struct buf *key, struct buf *value) {
    enum loam_status st;
    unsigned seen = 0;
    bool more = true;
    if ((st = expect(r, '{')))
        return st;
    blanks(r);
    if (peek(r) == '}')
        return bad(r, "no keys");
    while (more) {
        buf_reset(key);
        if ((st = string(r, key)) || (st = expect(r, ':')))
            return st;
        int k = 0;
        while (k < K_COUNT && (key->len != strlen(key_names[k]) || memcmp(key->data, key_names[k], key->len)))
            k++;
        if (k == K_COUNT) {
            st = skip(r, 1);
        } else if (seen >> k & 1) {
            return err_set(r->err, LOAM_EPARSE, "row: \"%s\" is given twice", key_names[k]);
        } else if (k == K_MESSAGES) {
            bool again = true;
            if ((st = expect(r, '[')))
                return st;
            while (!st && again)
                if (!(st = read_message(r, b, key, &value[K_SYSTEM], &value[K_TEXT])))
                    st = next(r, ']', &again);
            seen |= 1u << k;
        } else {
            /* The messages' buffers are shared with two keys that cannot stand beside them anyway. */
            buf_reset(&value[k]);
            st = string(r, &value[k]);
            seen |= 1u << k;
        }
        if (st || (st = next(r, '}', &more)))
            return st;
    }
    int user, assistant;
    if (seen == 1u << K_MESSAGES)
        return LOAM_OK;
    if (seen >> K_MESSAGES & 1)
        return err_set(r->err, LOAM_EPARSE, "row: other texts beside \"messages\"");
    if (seen == 1u << K_TEXT)
        return add(b, ROW_TEXT, &value[K_TEXT]);
    if (!pair_form(seen, &user, &assistant))
        return err_set(r->err, LOAM_EPARSE, "row: its keys are none of messages; prompt+completion; prompt+response; question+answer; instruction+output; text");
    if (seen >> K_SYSTEM & 1 && (st = add(b, ROW_SYSTEM, &value[K_SYSTEM])))
        return st;
    if (user == K_INSTRUCTION && value[K_INPUT].len &&
        ((st = buf_add(&value[user], "\n\n", 2, r->err)) || (st = buf_add(&value[user], value[K_INPUT].data, value[K_INPUT].len, r->err))))
        return st == LOAM_ELIMIT ? too_long(b) : st;
    if ((st = add(b, ROW_USER, &value[user])))
        return st;
    return add(b, ROW_ASSISTANT, &value[assistant]);
}

enum loam_status row_parse(struct row *out, const char *line, size_t n, struct err *err) {
    memset(out, 0, sizeof *out);
    if (n > ROW_LINE_MAX)
        return err_set(err, LOAM_ELIMIT, "row: a line of %zu bytes, at most %d", n, ROW_LINE_MAX);
    struct reader r = {(const uint8_t *)line, 0, n, err};
    struct builder b = {BUF_INIT(ROW_BYTES_MAX), 0, err};
    struct buf key = BUF_INIT(ROW_BYTES_MAX), value[K_COUNT];
    for (int i = 0; i < K_COUNT; i++)
        buf_init(&value[i], ROW_BYTES_MAX);
    enum loam_status st = buf_add(&b.bytes, "row1\0\0\0\0", 8, err);
    if (!st && !(st = read_row(&r, &b, &key, value))) {
        blanks(&r);
        if (r.at != n)
            st = bad(&r, "something behind the object");
    }
    if (!st) {
        put_be32(b.bytes.data + 4, b.count);
        st = row_decode(out, b.bytes.data, b.bytes.len, err);
    }
    buf_clear(&b.bytes);
    buf_clear(&key);
    for (int i = 0; i < K_COUNT; i++)
        buf_clear(&value[i]);
    return st;
}

void row_clear(struct row *r) {
    mem_free(r->bytes);
    memset(r, 0, sizeof *r);
}

enum loam_status row_json(struct buf *out, const struct row *r, struct err *err) {
    enum loam_status st = buf_str(out, "{\"messages\":[", err);
    for (uint32_t i = 0; !st && i < r->count; i++) {
        const struct row_message *m = &r->messages[i];
        st = buf_printf(out, err, "%s{\"role\":\"%s\",\"content\":\"", i ? "," : "", row_role_name(m->role));
        for (uint32_t k = 0; !st && k < m->len; k++) {
            char c = m->content[k];
            if (c == '"' || c == '\\')
                st = buf_printf(out, err, "\\%c", c);
            else if (c == '\n' || c == '\t')
                st = buf_str(out, c == '\n' ? "\\n" : "\\t", err);
            else
                st = buf_byte(out, (uint8_t)c, err);
        }
        if (!st)
            st = buf_str(out, "\"}", err);
    }
    return st ? st : buf_str(out, "]}", err);
}

void row_leaf(uint8_t out[ROW_LEAF_BYTES], const struct hash32 *row_hash, uint64_t account) {
    memcpy(out, row_hash->b, 32);
    put_be64(out + 32, account);
}
