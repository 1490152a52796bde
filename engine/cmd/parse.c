/* Words, the grammar, and finding the nearest command. */
#include "base/mem.h"
#include "base/option.h"
#include "base/text.h"
#include "cmd/private.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

const char *cmd_type_name(enum cmd_type t) {
    static const char *const names[] = {"text",    "text",  "number",  "number", "OPEN",   "flag",
                                        "choice",  "file",  "address", "hash",   "key",    "account",
                                        "datanet", "model", "job",     "option", "command"};
    return (unsigned)t < sizeof names / sizeof *names ? names[t] : "?";
}

/* ---- words
 * ---------------------------------------------------------------------------------------------------------
 */

void cmd_words_free(char **words, size_t count) {
    for (size_t i = 0; words && i < count; i++)
        mem_free(words[i]);
    mem_free(words);
}

static enum loam_status add_word(char ***words, size_t *count, const struct buf *w, struct err *err) {
    if (*count >= CMD_WORDS_MAX)
        return err_set(err, LOAM_ELIMIT, "more than %d words", CMD_WORDS_MAX);
    char **more = mem_resize(*words, *count + 1, sizeof *more);
    if (!more)
        return err_set(err, LOAM_ENOMEM, "no memory for words");
    *words = more;
    more[*count] = mem_strndup(w->data ? (const char *)w->data : "", w->len);
    if (!more[*count])
        return err_set(err, LOAM_ENOMEM, "no memory for words");
    (*count)++;
    return LOAM_OK;
}

enum loam_status cmd_split(char ***out, size_t *count, const char *text, size_t len, struct err *err) {
    *out = NULL;
    *count = 0;
    if (len > CMD_LINE_MAX)
        return err_set(err, LOAM_ELIMIT, "a line of %zu bytes; the most is %u", len, CMD_LINE_MAX);
    struct buf w = BUF_INIT(CMD_LINE_MAX);
    enum loam_status s = LOAM_OK;
    bool in_word = false;
    char quote = 0;
    for (size_t i = 0; !s && i < len; i++) {
        char c = text[i];
        if (quote) {
            if (c == quote)
                quote = 0;
            else if (c == '\\' && quote == '"' && i + 1 < len && (text[i + 1] == '"' || text[i + 1] == '\\'))
                s = buf_byte(&w, (uint8_t)text[++i], err);
            else
                s = buf_byte(&w, (uint8_t)c, err);
        } else if (c == '\'' || c == '"') {
            quote = c;
            in_word = true;
        } else if (c == '\\' && i + 1 < len) {
            if (text[++i] == '\n') /* a line goes on */
                continue;
            s = buf_byte(&w, (uint8_t)text[i], err);
            in_word = true;
        } else if (isspace((unsigned char)c)) {
            if (in_word)
                s = add_word(out, count, &w, err);
            buf_reset(&w);
            in_word = false;
        } else if (c == '#' && !in_word) {
            while (i < len && text[i] != '\n')
                i++;
        } else {
            s = buf_byte(&w, (uint8_t)c, err);
            in_word = true;
        }
    }
    if (!s && quote)
        s = err_set(err, LOAM_EPARSE, "a quote (%c) is not closed", quote);
    if (!s && in_word)
        s = add_word(out, count, &w, err);
    mem_wipe(w.data, w.len);
    buf_clear(&w);
    if (s) {
        cmd_words_free(*out, *count);
        *out = NULL;
        *count = 0;
    }
    return s;
}

/* ---- finding ---- */

/* Edit distance (insert, delete, change, swap of neighbours all cost 1), for words short enough; 99
 * otherwise. */
static int distance(const char *a, const char *b) {
    enum { N = 32 };
    int d[N + 1][N + 1];
    int la = (int)strlen(a), lb = (int)strlen(b);
    if (la > N || lb > N)
        return 99;
    for (int i = 0; i <= la; i++)
        for (int j = 0; j <= lb; j++) {
            if (!i || !j) {
                d[i][j] = i + j;
                continue;
            }
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[la][lb];
}

static enum loam_status unknown(const char *noun, const char *verb, struct err *err) {
    char typed[80], shown[80];
    snprintf(typed, sizeof typed, "%.38s%s%.38s", noun, verb ? " " : "", verb ? verb : "");
    text_clean_cut(shown, sizeof shown, typed, strlen(typed));
    const struct cmd *near = NULL;
    int best = 4; /* further away is no help */
    bool noun_known = false;
    for (size_t i = 0; i < cmd_table_count; i++) {
        const struct cmd *c = cmd_table[i];
        char words[80];
        snprintf(words, sizeof words, "%s%s%s", c->noun, c->verb && verb ? " " : "",
                 c->verb && verb ? c->verb : "");
        int d = distance(typed, words);
        if (d < best) {
            best = d;
            near = c;
        }
        noun_known = noun_known || strcmp(c->noun, noun) == 0;
    }
    if (near && (verb || !noun_known))
        return err_set(err, LOAM_ENOTFOUND, "no command \"%s\"; do you mean \"%s%s%s\"?", shown, near->noun,
                       near->verb ? " " : "", near->verb ? near->verb : "");
    if (noun_known)
        return err_set(err, LOAM_ENOTFOUND, "no command \"%s\"; `help %s` shows what %s can do", shown, noun,
                       noun);
    return err_set(err, LOAM_ENOTFOUND, "no command \"%s\"; `help` lists all", shown);
}

/* ---- values ---- */

static bool is_hex(const char *s, size_t digits) {
    if (s[0] != '0' || s[1] != 'x' || strlen(s) != digits + 2)
        return false;
    for (s += 2; *s; s++)
        if (!isxdigit((unsigned char)*s))
            return false;
    return true;
}

static enum loam_status check_range(const struct cmd_arg *a, double v, const char *shown, struct err *err) {
    if (!a->range || a->type == CMD_CHOICE)
        return LOAM_OK;
    const char *dots = strstr(a->range, ".."); /* strtod would take "1." of "1..256" */
    double min = strtod(a->range, NULL), max = dots && dots[2] ? strtod(dots + 2, NULL) : INFINITY;
    if (v < min || v > max)
        return err_set(err, LOAM_ERANGE, "%s: %s is not in %s", a->name, shown, a->range);
    return LOAM_OK;
}

static enum loam_status add_value(struct cmd_value *v, const struct cmd_arg *a, const char *text,
                                  const char *cwd, struct err *err) {
    char shown[80];
    size_t len = strlen(text);
    text_clean_cut(shown, sizeof shown, text, len);
    if (!utf8_valid((const uint8_t *)text, len, NULL) && a->type != CMD_PATH)
        return err_set(err, LOAM_EINVAL, "%s: \"%s\" is not UTF-8", a->name, shown);
    char *end, *made = NULL;
    enum loam_status s = LOAM_OK;
    switch (a->type) {
    case CMD_UINT:
    case CMD_DATANET:
    case CMD_JOB:
        errno = 0;
        v->u = strtoull(text, &end, 10);
        if (!isdigit((unsigned char)*text) || *end || errno || v->u > INT64_MAX)
            return err_set(err, LOAM_EINVAL, "%s: \"%s\" is no whole number", a->name, shown);
        s = check_range(a, (double)v->u, shown, err);
        break;
    case CMD_REAL:
        v->d = strtod(text, &end);
        if (!*text || *end || !isfinite(v->d) || isspace((unsigned char)*text))
            return err_set(err, LOAM_EINVAL, "%s: \"%s\" is no number", a->name, shown);
        s = check_range(a, v->d, shown, err);
        break;
    case CMD_COIN:
        if (u256_parse_coin(&v->coin, text, NULL))
            return err_set(err, LOAM_EINVAL, "%s: \"%s\" is no amount of OPEN", a->name, shown);
        break;
    case CMD_CHOICE:
        if (!text_choice(a->range, text))
            return err_set(err, LOAM_EINVAL, "%s: \"%s\" is none of %s", a->name, shown, a->range);
        break;
    case CMD_ADDR:
        if (!is_hex(text, 40))
            return err_set(err, LOAM_EINVAL, "%s: \"%s\" is no address (0x and 40 hex digits)", a->name,
                           shown);
        break;
    case CMD_HASH:
        if (!is_hex(text, 64))
            return err_set(err, LOAM_EINVAL, "%s: \"%s\" is no hash (0x and 64 hex digits)", a->name, shown);
        break;
    case CMD_PATH:
        if (!*text)
            return err_set(err, LOAM_EINVAL, "%s: an empty file name", a->name);
        if (*text != '/' && cwd && !(made = mem_printf("%s/%s", cwd, text)))
            return err_set(err, LOAM_ENOMEM, "no memory for a path");
        break;
    case CMD_OPTION:
        if (!option_find(text))
            return err_set(err, LOAM_ENOTFOUND, "%s: no option \"%s\"; `option list` shows them", a->name,
                           shown);
        break;
    case CMD_KEY:
    case CMD_MODEL:
    case CMD_ACCOUNT:
        if (!*text)
            return err_set(err, LOAM_EINVAL, "%s: empty", a->name);
        break;
    case CMD_STR:
    case CMD_TEXT:
    case CMD_FLAG:
    case CMD_COMMAND:
        break;
    }
    if (s)
        return s;
    char **more = mem_resize(v->text, v->count + 1, sizeof *more);
    if (more)
        v->text = more;
    char *copy = made ? made : mem_strdup(text);
    if (!more || !copy) {
        mem_free(copy);
        return err_set(err, LOAM_ENOMEM, "no memory for arguments");
    }
    v->text[v->count++] = copy;
    return LOAM_OK;
}

void cmd_line_clear(struct cmd_line *l) {
    if (l->values)
        for (const struct cmd_arg *a = l->cmd->args; a && a->name; a++) {
            struct cmd_value *v = &l->values[a - l->cmd->args];
            cmd_words_free(v->text, v->count);
        }
    mem_free(l->values);
    *l = (struct cmd_line){0};
}

/* "do-it" of "--do-it=x": the argument it names, or NULL. *value: text after '='. */
static const struct cmd_arg *named(const struct cmd *c, const char *word, const char **value) {
    size_t n = strcspn(word, "=");
    *value = word[n] ? word + n + 1 : NULL;
    for (const struct cmd_arg *a = c->args; a && a->name; a++)
        if (strlen(a->name) == n && memcmp(a->name, word, n) == 0)
            return a;
    return NULL;
}

static enum loam_status place(struct cmd_line *l, char *const *words, size_t from, size_t count,
                              const char *cwd, size_t *bad, struct err *err) {
    const struct cmd *c = l->cmd;
    const struct cmd_arg *next = c->args;
    bool only_places = false;
    enum loam_status s = LOAM_OK;
    for (size_t i = from; !s && i < count; i++) {
        const char *w = words[i], *value = NULL;
        *bad = i;
        if (!only_places && strcmp(w, "--") == 0) {
            only_places = true;
            continue;
        }
        if (!only_places && w[0] == '-' && w[1] == '-') {
            if (strcmp(w, "--json") == 0 || strcmp(w, "--yes") == 0 || strcmp(w, "--no-wait") == 0) {
                bool *b = w[2] == 'j' ? &l->json : w[2] == 'y' ? &l->yes : &l->no_wait;
                *b = true;
                continue;
            }
            const struct cmd_arg *a = named(c, w + 2, &value);
            char shown[64];
            text_clean_cut(shown, sizeof shown, w, strlen(w));
            if (!a)
                return err_set(err, LOAM_EINVAL, "%s%s%s has no %s; see `help %s%s%s`", c->noun,
                               c->verb ? " " : "", c->verb ? c->verb : "", shown, c->noun, c->verb ? " " : "",
                               c->verb ? c->verb : "");
            struct cmd_value *v = &l->values[a - c->args];
            if (a->type == CMD_FLAG) {
                if (value)
                    return err_set(err, LOAM_EINVAL, "--%s takes no value", a->name);
                value = "yes";
            } else if (!value) {
                if (i + 1 >= count)
                    return err_set(err, LOAM_EINVAL, "--%s needs a value (%s)", a->name,
                                   cmd_type_name(a->type));
                value = words[++i];
                *bad = i;
            }
            if (v->count && !(a->flags & CMD_MANY))
                return err_set(err, LOAM_EINVAL, "%s is given twice", a->name);
            s = add_value(v, a, value, cwd, err);
            continue;
        }
        /* by position: the next argument that takes one and has none yet */
        while (next && next->name &&
               ((next->flags & CMD_NAMED) || next->type == CMD_FLAG ||
                (l->values[next - c->args].count && !(next->flags & CMD_MANY))))
            next++;
        if (!next || !next->name) {
            char shown[64];
            return err_set(err, LOAM_EINVAL, "one word too many: \"%s\"; see `help %s%s%s`",
                           text_clean_cut(shown, sizeof shown, w, strlen(w)), c->noun, c->verb ? " " : "",
                           c->verb ? c->verb : "");
        }
        struct cmd_value *v = &l->values[next - c->args];
        if (next->type == CMD_TEXT) {
            /* A line typed without quotes: words up to the first --name belong together. */
            struct buf t = BUF_INIT(CMD_LINE_MAX);
            size_t k = i;
            for (; !s && k < count && (only_places || strncmp(words[k], "--", 2) != 0); k++) {
                if (k > i)
                    s = buf_byte(&t, ' ', err);
                if (!s)
                    s = buf_str(&t, words[k], err);
            }
            if (!s)
                s = add_value(v, next, t.data ? (const char *)t.data : "", cwd, err);
            buf_clear(&t);
            i = k - 1;
        } else {
            s = add_value(v, next, w, cwd, err);
        }
    }
    return s;
}

enum loam_status cmd_parse(struct cmd_line *out, char *const *words, size_t count, const char *cwd,
                           size_t *bad_word, struct err *err) {
    size_t bad = 0;
    *out = (struct cmd_line){0};
    if (bad_word)
        *bad_word = 0;
    if (!count)
        return err_set(err, LOAM_EINVAL, "no command; `help` lists all");
    bool dashed = count > 1 && strncmp(words[1], "--", 2) == 0;
    const struct cmd *c = count > 1 && !dashed ? cmd_find(words[0], words[1]) : NULL;
    size_t from = 2;
    if (!c) {
        c = cmd_find(words[0], NULL);
        from = 1;
    }
    if (!c || (from == 1 && count > 1 && !dashed && !c->args)) {
        if (bad_word)
            *bad_word = count > 1 ? 1 : 0;
        return unknown(words[0], count > 1 && !dashed ? words[1] : NULL, err);
    }
    out->cmd = c;
    size_t n = 0;
    while (c->args && c->args[n].name)
        n++;
    out->values = mem_zarray(n ? n : 1, sizeof *out->values);
    if (!out->values)
        return err_set(err, LOAM_ENOMEM, "no memory for arguments");
    enum loam_status s = place(out, words, from, count, cwd, &bad, err);
    for (size_t i = 0; !s && i < n; i++) {
        const struct cmd_arg *a = &c->args[i];
        if (out->values[i].count)
            continue;
        if (a->def) {
            s = add_value(&out->values[i], a, a->def, NULL, err);
        } else if (a->flags & CMD_REQUIRED) {
            bad = count;
            s = err_set(err, LOAM_EINVAL, "%s%s%s needs %s (%s)%s%s", c->noun, c->verb ? " " : "",
                        c->verb ? c->verb : "", a->name, a->help, c->example ? "; for example: " : "",
                        c->example ? c->example : "");
        }
    }
    if (s) {
        if (bad_word)
            *bad_word = bad;
        cmd_line_clear(out);
    }
    return s;
}
