#include "lm/template.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "base/text.h"

#include <string.h>

#include "base/banned.h"

/* A template is recognised, not interpreted: by pieces of text its source must hold, and the differences within a family
 * (a default system message) are read out of the source. Rendering then gives runs of text between special tokens: each
 * run is tokenized as one text, as transformers does with the whole rendered string. */

enum family { CHATML, QWEN3, LLAMA3, GEMMA, INST };

static const struct family_text {
    const char *name;
    const char *start, *end;  /* special tokens around a turn */
    const char *head;         /* special token behind the role, or NULL */
    const char *gap, *tail;   /* text between header and content, and behind the end token */
    const char *assistant;    /* what the template calls it */
    bool trim;                /* contents are stripped of white space at both ends */
    bool bos;                 /* the sequence begins with bos */
    bool turns;               /* user and assistant must alternate, user first */
} families[] = {
    [CHATML] = {"chatml", "<|im_start|>", "<|im_end|>", NULL, "\n", "\n", "assistant", false, false, false},
    [QWEN3] = {"qwen3", "<|im_start|>", "<|im_end|>", NULL, "\n", "\n", "assistant", false, false, false},
    [LLAMA3] = {"llama3", "<|start_header_id|>", "<|eot_id|>", "<|end_header_id|>", "\n\n", "", "assistant", true, true, false},
    [GEMMA] = {"gemma", "<start_of_turn>", "<end_of_turn>", NULL, "\n", "\n", "model", true, true, true},
    [INST] = {"inst", "[INST]", "</s>", NULL, "", "", "assistant", false, true, true},
};

/* Llama 2 and Mistral: "[INST] question [/INST] answer</s>", with differences in every space. */
struct inst {
    bool bos_each;       /* bos before every question, not only the first */
    bool trim, trim_answer; /* contents are stripped */
    const char *before, *after;               /* between the marks and the question */
    const char *answer, *before_end, *after_end; /* around the answer and its end token */
    enum { SYSTEM_REFUSED, SYSTEM_MARKED, SYSTEM_MARKED_TRIM, SYSTEM_FIRST, SYSTEM_LAST } system; /* <<SYS>> … in the first question; or text in front of the first or last */
    uint32_t open, close; /* the marks where they are tokens of their own, else LM_NO_TOKEN */
};

struct lm_template {
    const struct lm_tokenizer *tok;
    enum family family;
    char *system;     /* default system message, put first where the messages have none; NULL: none */
    bool dated;       /* Llama 3.1: a system turn always stands first and begins with the two date lines */
    bool no_system;   /* Gemma 2: refuses a system message */
    struct inst inst;
    uint32_t start, end, head;
    uint8_t hash[32];
};

#define DATES "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"

struct render {
    const struct lm_template *t;
    struct lm_ids *out;
    struct buf run; /* text since the last special token */
    uint8_t **mask; /* NULL: not wanted */
    uint32_t first, mask_cap, mask_n;
    bool train; /* what is written now is trained */
    struct err *err;
};

/* Marks the ids added since the last call. */
static enum loam_status mark(struct render *r) {
    if (!r->mask)
        return LOAM_OK;
    uint32_t n = r->out->n - r->first;
    if (n > r->mask_cap) {
        uint32_t cap = n < 256 ? 256 : 2 * n;
        uint8_t *p = mem_resize(*r->mask, cap, 1);
        if (!p)
            return err_set(r->err, LOAM_ENOMEM, "no memory for a mask of %u tokens", cap);
        *r->mask = p;
        r->mask_cap = cap;
    }
    if (n > r->mask_n)
        memset(*r->mask + r->mask_n, r->train, n - r->mask_n);
    r->mask_n = n;
    return LOAM_OK;
}

static enum loam_status flush(struct render *r) {
    enum loam_status s = LOAM_OK;
    if (r->run.len)
        s = lm_encode(r->out, r->t->tok, (const char *)r->run.data, r->run.len, r->out->n > r->first ? LM_ENCODE_INNER : 0, r->err);
    buf_reset(&r->run);
    return s ? s : mark(r);
}

static enum loam_status put(struct render *r, const char *text, size_t n) {
    return buf_add(&r->run, text, n, r->err);
}

static enum loam_status special(struct render *r, uint32_t id) {
    enum loam_status s = flush(r);
    if (!s)
        s = lm_ids_add(r->out, id, r->err);
    return s ? s : mark(r);
}

static enum loam_status open_turn(struct render *r, const char *role) {
    const struct family_text *f = &families[r->t->family];
    enum loam_status s = special(r, r->t->start);
    if (!s)
        s = put(r, role, strlen(role));
    if (!s && f->head)
        s = special(r, r->t->head);
    return s ? s : put(r, f->gap, strlen(f->gap));
}

/* What Python's str.strip() takes. */
static bool is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static void strip(const char **text, size_t *n) {
    uint32_t cp;
    for (size_t len; *n && (len = utf8_decode(&cp, (const uint8_t *)*text, *n)) && is_space(cp);) {
        *text += len;
        *n -= len;
    }
    while (*n) {
        size_t k = 1;
        while (k < 4 && k < *n && ((*text)[*n - k] & 0xc0) == 0x80)
            k++;
        if (!utf8_decode(&cp, (const uint8_t *)*text + *n - k, k) || !is_space(cp))
            break;
        *n -= k;
    }
}

/* A content and the end token behind it; `after` is text of the template between the two. */
static enum loam_status content(struct render *r, const char *text, size_t n, const char *after, bool answer) {
    enum loam_status s = LOAM_OK;
    /* Training: the role's line must be cut from the answer, so that the mask has a clear edge. Where a tokenizer would join
     * the line's end with the answer's first bytes ("\n\n"), the answer is still rendered as transformers does and the token
     * over the edge is not trained. */
    if (answer && r->mask) {
        size_t head_bytes = r->run.len;
        s = put(r, text, n);
        if (!s)
            s = put(r, after, strlen(after));
        uint32_t from = r->out->n;
        if (!s)
            s = flush(r);
        struct buf seen = BUF_INIT(LM_TEXT_MAX);
        for (uint32_t i = from; i < r->out->n && !s; i++) {
            (*r->mask)[i - r->first] = seen.len >= head_bytes;
            s = lm_decode(&seen, r->t->tok, &r->out->ids[i], 1, true, r->err);
        }
        buf_clear(&seen);
        r->train = true;
        if (!s)
            s = special(r, r->t->end);
        r->train = false;
        return s;
    }
    s = put(r, text, n);
    if (!s)
        s = put(r, after, strlen(after));
    return s ? s : special(r, r->t->end);
}

/* One turn; `before` is text of the template in front of the content (never trained). */
static enum loam_status turn(struct render *r, const char *role, const char *before, const char *text, size_t n, bool answer) {
    const struct family_text *f = &families[r->t->family];
    enum loam_status s = open_turn(r, role);
    if (!s)
        s = put(r, before, strlen(before));
    if (f->trim)
        strip(&text, &n);
    if (!s)
        s = content(r, text, n, "", answer);
    return s ? s : put(r, f->tail, strlen(f->tail));
}

static bool has(const char *s, size_t n, const char *what);

static enum loam_status mark_of(struct render *r, uint32_t id, const char *text) {
    return id != LM_NO_TOKEN ? special(r, id) : put(r, text, strlen(text));
}

static enum loam_status inst_body(struct render *r, const struct lm_message *m, size_t n) {
    const struct lm_template *t = r->t;
    const struct inst *c = &t->inst;
    bool system = !strcmp(m[0].role, "system");
    size_t i = system, last_user = 0;
    enum loam_status s = LOAM_OK;
    if (system && c->system == SYSTEM_REFUSED)
        return err_set(r->err, LOAM_EINVAL, "this model's template takes no system message");
    if (n == i)
        return err_set(r->err, LOAM_EINVAL, "this model's template wants a question behind the system message");
    for (size_t k = 0; k < n; k++)
        if (!strcmp(m[k].role, "user"))
            last_user = k;
    if (!c->bos_each && lm_token_bos(t->tok) != LM_NO_TOKEN)
        s = special(r, lm_token_bos(t->tok));
    for (size_t k = 0; i < n && !s; i++, k++) {
        bool answer = !strcmp(m[i].role, "assistant");
        const char *text = m[i].text, *sys = m[0].text;
        size_t len = m[i].n, sys_len = m[0].n;
        if (answer != (k % 2 == 1) || !strcmp(m[i].role, "system"))
            return err_set(r->err, LOAM_EINVAL, "message %zu: this model's template wants user and assistant by turns", i + 1);
        if (answer) {
            if (c->trim_answer)
                strip(&text, &len);
            s = put(r, c->answer, strlen(c->answer));
            if (!s)
                s = content(r, text, len, c->before_end, true);
            if (!s)
                s = put(r, c->after_end, strlen(c->after_end));
            continue;
        }
        if (c->bos_each && lm_token_bos(t->tok) != LM_NO_TOKEN)
            s = special(r, lm_token_bos(t->tok));
        if (!s)
            s = mark_of(r, c->open, "[INST]");
        if (!s)
            s = put(r, c->before, strlen(c->before));
        bool marked = c->system == SYSTEM_MARKED || c->system == SYSTEM_MARKED_TRIM;
        bool here = system && (c->system == SYSTEM_LAST ? i == last_user && i + 1 == n : k == 0);
        struct buf whole = BUF_INIT(2 * (size_t)LM_TEXT_MAX + 64); /* system message and question: stripped as one */
        if (here && c->system == SYSTEM_MARKED_TRIM)
            strip(&sys, &sys_len);
        if (!s && here && marked)
            s = buf_str(&whole, "<<SYS>>\n", r->err);
        if (!s && here)
            s = buf_add(&whole, sys, sys_len, r->err);
        if (!s && here)
            s = buf_str(&whole, marked ? "\n<</SYS>>\n\n" : "\n\n", r->err);
        if (!s)
            s = buf_add(&whole, text, len, r->err);
        if (!s) {
            text = (const char *)whole.data;
            len = whole.len;
            if (c->trim)
                strip(&text, &len);
            s = put(r, text, len);
        }
        buf_clear(&whole);
        if (!s)
            s = put(r, c->after, strlen(c->after));
        if (!s)
            s = mark_of(r, c->close, "[/INST]");
    }
    return s ? s : flush(r);
}

static enum loam_status body(struct render *r, const struct lm_message *m, size_t n, bool open) {
    const struct lm_template *t = r->t;
    const struct family_text *f = &families[t->family];
    bool system = !strcmp(m[0].role, "system");
    size_t i = 0, last_user = 0;
    enum loam_status s = LOAM_OK;
    struct buf first = BUF_INIT(LM_TEXT_MAX + 4096); /* what stands in front of the first user's text */
    if (f->bos && lm_token_bos(t->tok) != LM_NO_TOKEN)
        s = special(r, lm_token_bos(t->tok));
    for (size_t k = 0; k < n; k++)
        if (!strcmp(m[k].role, "user"))
            last_user = k;
    if (t->family == GEMMA && system) {
        if (t->no_system)
            s = err_set(r->err, LOAM_EINVAL, "this model's template takes no system message");
        if (!s)
            s = buf_add(&first, m[0].text, m[0].n, r->err);
        if (!s)
            s = buf_str(&first, "\n\n", r->err);
        i = 1;
    } else if (t->dated) {
        s = turn(r, "system", DATES, system ? m[0].text : "", system ? m[0].n : 0, false);
        i = system;
    } else if (!s && t->system && !system) {
        s = turn(r, "system", "", t->system, strlen(t->system), false);
    }
    for (size_t k = 0; i < n && !s; i++, k++) {
        bool answer = !strcmp(m[i].role, "assistant");
        const char *text = m[i].text, *before = "";
        size_t len = m[i].n;
        if (f->turns && (answer != (k % 2 == 1) || !strcmp(m[i].role, "system"))) {
            s = err_set(r->err, LOAM_EINVAL, "message %zu: this model's template wants user and assistant by turns", i + 1);
            break;
        }
        if (t->family == QWEN3 && answer && has(text, len, "</think>"))
            s = err_set(r->err, LOAM_EUNSUPPORTED, "message %zu: an answer with its reasoning inside is not rendered here; give the answer alone", i + 1);
        /* Qwen 3: the answer that ends the conversation carries an empty thought. */
        if (!s && t->family == QWEN3 && answer && i > last_user && i + 1 == n) {
            before = "<think>\n\n</think>\n\n";
            while (len && *text == '\n') {
                text++;
                len--;
            }
        }
        if (!s && k == 0 && first.len)
            before = (const char *)first.data;
        if (!s)
            s = turn(r, answer ? f->assistant : m[i].role, before, text, len, answer);
    }
    buf_clear(&first);
    if (!s && open)
        s = open_turn(r, f->assistant);
    return s ? s : flush(r);
}

static enum loam_status render(struct lm_ids *out, uint8_t **mask, const struct lm_template *t, const struct lm_message *m,
                               size_t n, bool open, struct err *err) {
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(m[i].role, "system") && strcmp(m[i].role, "user") && strcmp(m[i].role, "assistant"))
            return err_set(err, LOAM_EINVAL, "message %zu: the role is none of system, user, assistant", i + 1);
        if (m[i].n > LM_TEXT_MAX || (bytes += m[i].n) > LM_TEXT_MAX)
            return err_set(err, LOAM_ELIMIT, "messages of more than %u bytes", LM_TEXT_MAX);
    }
    if (!n)
        return err_set(err, LOAM_EINVAL, "no messages");
    struct render r = {.t = t, .out = out, .mask = mask, .first = out->n, .err = err};
    buf_init(&r.run, LM_TEXT_MAX + 4096);
    enum loam_status s = t->family == INST ? inst_body(&r, m, n) : body(&r, m, n, open);
    buf_clear(&r.run);
    if (s)
        out->n = r.first;
    return s;
}

enum loam_status lm_template_render(struct lm_ids *out, const struct lm_template *t, const struct lm_message *m, size_t n,
                                    bool open, struct err *err) {
    return render(out, NULL, t, m, n, open, err);
}

enum loam_status lm_template_rows(struct lm_ids *out, uint8_t **mask, const struct lm_template *t, const struct lm_message *m,
                                  size_t n, struct err *err) {
    return render(out, mask, t, m, n, false, err);
}

static const char *find(const char *s, size_t n, const char *what) {
    size_t w = strlen(what);
    for (size_t i = 0; i + w <= n; i++)
        if (!memcmp(s + i, what, w))
            return s + i;
    return NULL;
}

static bool has(const char *s, size_t n, const char *what) {
    return find(s, n, what) != NULL;
}

/* The default system message of a ChatML source: the text between "<|im_start|>system\n" and "<|im_end|>" inside the branch
 * for a first message that is no system message. "\n" may be written as the two characters of a Jinja escape. */
static enum loam_status chatml_system(char **out, const char *s, size_t n, struct err *err) {
    *out = NULL;
    const char *branch = find(s, n, "!= 'system'");
    if (!branch)
        return LOAM_OK;
    size_t left = n - (size_t)(branch - s);
    const char *at = find(branch, left, "<|im_start|>system");
    if (!at)
        return LOAM_OK;
    at += strlen("<|im_start|>system");
    left = n - (size_t)(at - s);
    if (left && *at == '\n')
        at++;
    else if (left > 1 && at[0] == '\\' && at[1] == 'n')
        at += 2;
    else
        return LOAM_OK;
    const char *end = find(at, n - (size_t)(at - s), "<|im_end|>");
    if (!end)
        return LOAM_OK;
    for (const char *p = at; p < end; p++)
        if (*p == '\\' || *p == '{' || *p == '\'')
            return err_set(err, LOAM_EUNSUPPORTED, "the chat template's default system message is put together by code that is "
                                                   "not known; give a model file with a plain ChatML template");
    *out = mem_strndup(at, (size_t)(end - at));
    return *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for a template");
}

/* The source with " as ' and without white space outside of quotes: variants of a template differ in both. */
static char *compact(const char *s, size_t n) {
    char *out = mem_alloc(n + 1);
    size_t k = 0;
    char quote = 0;
    for (size_t i = 0; out && i < n; i++) {
        char c = s[i];
        if (quote) {
            if (c == '\\' && i + 1 < n) {
                out[k++] = c;
                c = s[++i];
            } else if (c == quote) {
                quote = 0;
                c = '\'';
            }
        } else if (c == '\'' || c == '"') {
            quote = c;
            c = '\'';
        } else if (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
            continue;
        }
        out[k++] = c;
    }
    if (out)
        out[k] = 0;
    return out;
}

static bool space(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Does the template write text that stands outside of its tags? As Jinja renders it for transformers: a line end behind a block and
 * the white space in front of one at a line's start go (trim_blocks, lstrip_blocks), and what a tag with a - takes away. None of
 * the known templates has any; one that is laid out for reading may, and would be rendered wrong by the rules here. */
static bool loose_text(const char *s, size_t n) {
    bool block = false, minus = false; /* the tag before */
    for (size_t i = 0; i <= n;) {
        size_t at = i;
        while (at + 1 < n && !(s[at] == '{' && (s[at + 1] == '{' || s[at + 1] == '%' || s[at + 1] == '#')))
            at++;
        bool last = at + 1 >= n;
        size_t from = i, to = last ? n : at;
        if (minus)
            while (from < to && space(s[from]))
                from++;
        else if (block && from < to && s[from] == '\n')
            from++;
        if (last) {
            if (from < to && s[to - 1] == '\n')
                to--;
            return from < to;
        }
        bool next_block = s[at + 1] != '{';
        if (at + 2 < n && s[at + 2] == '-') {
            while (from < to && space(s[to - 1]))
                to--;
        } else if (next_block) {
            size_t k = to;
            while (k > i && (s[k - 1] == ' ' || s[k - 1] == '\t'))
                k--;
            if (k == 0 || s[k - 1] == '\n') /* the line's start */
                to = k > from ? k : from;
        }
        if (from < to)
            return true;
        char close = s[at + 1] == '{' ? '}' : s[at + 1], quote = 0;
        for (i = at + 2; i + 1 < n; i++) {
            if (quote) {
                if (s[i] == '\\')
                    i++;
                else if (s[i] == quote)
                    quote = 0;
            } else if (close != '#' && (s[i] == '\'' || s[i] == '"')) {
                quote = s[i];
            } else if (s[i] == close && s[i + 1] == '}') {
                break;
            }
        }
        if (i + 1 >= n)
            return true; /* a tag without an end */
        block = next_block;
        minus = s[i - 1] == '-';
        i += 2;
    }
    return false;
}

/* The expressions that write a question and an answer; one of each must stand in the source. */
static enum loam_status inst_parts(struct inst *c, const char *source, size_t n, struct err *err) {
    static const struct {
        const char *expression;
        bool bos_each, trim;
        const char *before, *after;
    } users[] = {
        {"{{bos_token+'[INST] '+content.strip()+' [/INST]'}}", true, true, " ", " "},
        {"{{bos_token+'[INST] '+content|trim+' [/INST]'}}", true, true, " ", " "},
        {"'[INST] '+message['content']+' [/INST]'}}", false, false, " ", " "},
        {"'[INST] '+message['content']|trim+' [/INST]'}}", false, true, " ", " "},
        {"'[INST] '+message['content']+'[/INST]'}}", false, false, " ", ""},
        {"'[INST]'+message['content']+'[/INST]'}}", false, false, "", ""},
    };
    static const struct {
        const char *expression;
        bool trim;
        const char *before, *before_end, *after_end;
    } answers[] = {
        {"' '+content.strip()+' '+eos_token}}", true, " ", " ", ""},  {"' '+content|trim+' '+eos_token}}", true, " ", " ", ""},
        {"' '+message['content']|trim+eos_token}}", true, " ", "", ""}, {"' '+message['content']+eos_token}}", false, " ", "", ""},
        {"{{message['content']+eos_token+' '}}", false, "", "", " "},  {"{{message['content']+eos_token}}", false, "", "", ""},
        {"{{-message['content']+eos_token}}", false, "", "", ""},
    };
    char *s = compact(source, n);
    if (!s)
        return err_set(err, LOAM_ENOMEM, "no memory for a template");
    size_t u = 0, a = 0, len = strlen(s);
    while (u < sizeof users / sizeof *users && !has(s, len, users[u].expression))
        u++;
    while (a < sizeof answers / sizeof *answers && !has(s, len, answers[a].expression))
        a++;
    bool known = u < sizeof users / sizeof *users && a < sizeof answers / sizeof *answers;
    if (known) {
        *c = (struct inst){.bos_each = users[u].bos_each, .trim = users[u].trim, .before = users[u].before, .after = users[u].after, .trim_answer = answers[a].trim,
                           .answer = answers[a].before, .before_end = answers[a].before_end, .after_end = answers[a].after_end, .open = LM_NO_TOKEN, .close = LM_NO_TOKEN};
        if (has(s, len, "'<<SYS>>\\n'+system_message+'\\n<</SYS>>\\n\\n'+message['content']"))
            c->system = SYSTEM_MARKED;
        else if (has(s, len, "'<<SYS>>\\n'+messages[0]['content']|trim+'\\n<</SYS>>\\n\\n'"))
            c->system = SYSTEM_MARKED_TRIM;
        else if (has(s, len, "+system_message+'\\n\\n'+message['content']+") && has(s, len, "loop.lastandsystem_messageisdefined"))
            c->system = SYSTEM_LAST;
        else if (has(s, len, "+system_message+'\\n\\n'+message['content']+") && has(s, len, "loop.firstandsystem_messageisdefined"))
            c->system = SYSTEM_FIRST;
        else
            known = !has(s, len, "'system'");
    }
    mem_free(s);
    return known ? LOAM_OK : err_set(err, LOAM_EUNSUPPORTED, "a chat template with [INST] that is none of Llama 2's and Mistral's known ones; use a model whose file has a "
                                                             "known template, or plain prompts");
}

#define QWEN25_SYSTEM "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

/* Which family the source is of; what differs inside it goes into t. */
static enum loam_status recognise(struct lm_template *t, const char *s, size_t n, struct err *err) {
    if (loose_text(s, n))
        return err_set(err, LOAM_EUNSUPPORTED, "the chat template has text outside of its tags (white space, perhaps), which no known one has; use the model's own "
                                               "template file, or plain prompts");
    bool chatml = has(s, n, "<|im_start|>") && has(s, n, "<|im_end|>") && has(s, n, "add_generation_prompt");
    if (chatml && has(s, n, "enable_thinking") && has(s, n, "reasoning_content") && has(s, n, "last_query_index")) {
        t->family = QWEN3;
        return LOAM_OK;
    }
    if (chatml && has(s, n, "tool_call") && (has(s, n, "'<|im_start|>system\\n" QWEN25_SYSTEM "<|im_end|>\\n'") || has(s, n, "'<|im_start|>system\n" QWEN25_SYSTEM "<|im_end|>\n'"))) {
        t->family = CHATML;
        t->system = mem_strdup(QWEN25_SYSTEM);
        return t->system ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for a template");
    }
    if (chatml && has(s, n, "message['content']") && has(s, n, "message['role']") && !has(s, n, "tools") && !has(s, n, "strftime")) {
        t->family = CHATML;
        return chatml_system(&t->system, s, n, err);
    }
    if (has(s, n, "<|start_header_id|>") && has(s, n, "<|eot_id|>") && has(s, n, "add_generation_prompt") && has(s, n, "trim")) {
        t->family = LLAMA3;
        t->dated = has(s, n, "Cutting Knowledge Date: December 2023");
        if (has(s, n, "strftime_now"))
            return err_set(err, LOAM_EUNSUPPORTED, "the chat template writes today's date into the prompt, so that an answer could not be computed again; "
                                                   "give the model a template with a fixed date");
        if (!t->dated || has(s, n, "26 Jul 2024"))
            return LOAM_OK;
    }
    if (has(s, n, "<start_of_turn>") && has(s, n, "<end_of_turn>") && has(s, n, "add_generation_prompt") && has(s, n, "trim") && has(s, n, "model")) {
        t->family = GEMMA;
        t->no_system = has(s, n, "System role not supported");
        if (t->no_system || has(s, n, "first_user_prefix"))
            return LOAM_OK;
    }
    if (has(s, n, "[INST]") && has(s, n, "[/INST]") && has(s, n, "eos_token")) {
        t->family = INST;
        return inst_parts(&t->inst, s, n, err);
    }
    return err_set(err, LOAM_EUNSUPPORTED, "the chat template is not known (ChatML, Qwen 2.5 and 3, Llama 2, 3 and 3.1, Mistral, Gemma 2 and 3 are); use a model whose "
                                           "file has a known template, or plain prompts");
}

enum loam_status lm_template_new(struct lm_template **out, const char *source, size_t n, const struct lm_tokenizer *tok,
                                 struct err *err) {
    *out = NULL;
    struct lm_template *t = mem_zalloc(sizeof *t);
    if (!t)
        return err_set(err, LOAM_ENOMEM, "no memory for a template");
    t->tok = tok;
    enum loam_status s = recognise(t, source, n, err);
    if (!s) {
        const struct family_text *f = &families[t->family];
        if (t->family == INST) {
            uint32_t open = lm_token_find(tok, "[INST]"), close = lm_token_find(tok, "[/INST]");
            if (open != LM_NO_TOKEN && close != LM_NO_TOKEN && lm_token_special(tok, open) && lm_token_special(tok, close)) {
                t->inst.open = open;
                t->inst.close = close;
            }
            t->start = t->head = t->end = lm_token_eos(tok) != LM_NO_TOKEN ? lm_token_eos(tok) : lm_token_find(tok, f->end);
        } else {
            t->start = lm_token_find(tok, f->start);
            t->end = lm_token_find(tok, f->end);
            t->head = f->head ? lm_token_find(tok, f->head) : t->start;
        }
        if (t->start == LM_NO_TOKEN || t->end == LM_NO_TOKEN || t->head == LM_NO_TOKEN)
            s = err_set(err, LOAM_EUNSUPPORTED, "the chat template is %s but the vocabulary has no %s and %s", f->name, f->start, f->end);
    }
    if (s) {
        lm_template_free(t);
        return s;
    }
    keccak256(t->hash, source, n);
    *out = t;
    return LOAM_OK;
}

void lm_template_free(struct lm_template *t) {
    if (!t)
        return;
    mem_free(t->system);
    mem_free(t);
}

const char *lm_template_name(const struct lm_template *t) {
    return families[t->family].name;
}

void lm_template_hash(uint8_t out[32], const struct lm_template *t) {
    memcpy(out, t->hash, 32);
}
