#include "lm/generate.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"

#include <string.h>

#include "base/banned.h"

#define ANSWER_MAX (LM_TEXT_MAX + 4096)
#define TOP_MAX 20

const char *lm_stop_name(enum lm_stop s) {
    static const char *const names[] = {"none", "end", "length", "string", "context", "cancel"};
    return (size_t)s < sizeof names / sizeof *names ? names[s] : "?";
}

void lm_answer_clear(struct lm_answer *a) {
    lm_ids_clear(&a->ids);
    buf_clear(&a->text);
}

struct gen {
    struct lm_answer *out;
    struct lm_engine *e;
    struct lm_session *s;
    const struct lm_generate_opt *opt;
    const struct lm_tokenizer *tok;
    struct lm_ids seen; /* prompt and output */
    uint32_t n_prompt, V;
    struct buf raw; /* bytes of tokens that are no finished character yet */
    size_t sent;    /* bytes of the text given to the callback */
    float *logits;
    void *work;
    struct err *err;
};

/* Where a stop string begins in the text (searching from `from`), or SIZE_MAX. */
static size_t stop_at(const struct gen *g, size_t from) {
    size_t best = SIZE_MAX;
    const struct buf *t = &g->out->text;
    for (int i = 0; i < LM_STOP_MAX && g->opt->stop[i]; i++) {
        size_t n = strlen(g->opt->stop[i]);
        for (size_t at = from; n && at + n <= t->len && at < best; at++)
            if (!memcmp(t->data + at, g->opt->stop[i], n))
                best = at;
    }
    return best;
}

/* Bytes at the end of the text that may still become a stop string. */
static size_t held(const struct gen *g) {
    const struct buf *t = &g->out->text;
    size_t hold = 0;
    for (int i = 0; i < LM_STOP_MAX && g->opt->stop[i]; i++) {
        size_t n = strlen(g->opt->stop[i]);
        for (size_t k = n ? n - 1 : 0; k > hold; k--)
            if (k <= t->len && !memcmp(t->data + t->len - k, g->opt->stop[i], k)) {
                hold = k;
                break;
            }
    }
    return hold;
}

/* Finished characters of the raw bytes go to the text, what is no UTF-8 as U+FFFD (one for each cut-off sequence, as
 * Hugging Face's decoders do); an unfinished character stays in raw unless `all`. */
static enum loam_status finish_text(struct gen *g, bool all) {
    struct buf *raw = &g->raw;
    enum loam_status s = LOAM_OK;
    size_t at = 0;
    while (at < raw->len && !s) {
        uint32_t cp;
        const uint8_t *p = raw->data + at;
        size_t left = raw->len - at, n = utf8_decode(&cp, p, left);
        if (n) {
            s = buf_add(&g->out->text, p, n, g->err);
            at += n;
            continue;
        }
        if (!all && left < 4 && lm_utf8_tail(p, left) == left)
            break;
        n = 1;
        for (size_t k = left < 3 ? left : 3; k > 1; k--)
            if (lm_utf8_tail(p, k) == k) {
                n = k;
                break;
            }
        s = buf_add(&g->out->text, "\xef\xbf\xbd", 3, g->err);
        at += n;
    }
    buf_consume(raw, at);
    return s;
}

/* One token into the answer; *end says that generation stops. */
static enum loam_status accept(struct gen *g, uint32_t id, bool *end) {
    struct lm_answer *a = g->out;
    struct lm_token_event ev = {.id = id, .index = a->ids.n};
    struct lm_logprob top[TOP_MAX];
    if (g->opt->logprobs) {
        ev.n_top = g->opt->top_logprobs < TOP_MAX ? g->opt->top_logprobs : TOP_MAX;
        lm_logprobs(&ev.logprob, top, ev.n_top, g->logits, g->V, id);
        ev.top = top;
    }
    enum loam_status s = lm_ids_add(&a->ids, id, g->err);
    if (!s)
        s = lm_ids_add(&g->seen, id, g->err);
    *end = !g->opt->ignore_end && lm_token_ends(g->tok, id);
    size_t before = a->text.len, longest = 0;
    if (!s && !*end && id < lm_tokenizer_size(g->tok)) /* an embedding may have more rows than the vocabulary has tokens */
        s = lm_decode(&g->raw, g->tok, &id, 1, false, g->err);
    bool last = *end || (g->opt->max_tokens && a->ids.n >= g->opt->max_tokens) || g->seen.n >= lm_session_context(g->s);
    if (!s)
        s = finish_text(g, last);
    if (s)
        return s;
    for (int i = 0; i < LM_STOP_MAX && g->opt->stop[i]; i++)
        longest = strlen(g->opt->stop[i]) > longest ? strlen(g->opt->stop[i]) : longest;
    size_t cut = stop_at(g, before > longest ? before - longest : 0);
    if (*end) {
        a->stop = LM_STOP_END;
    } else if (cut != SIZE_MAX) {
        a->stop = LM_STOP_STRING;
        a->text.len = cut;
        a->text.data[cut] = 0;
        *end = true;
    } else if (g->opt->max_tokens && a->ids.n >= g->opt->max_tokens) {
        a->stop = LM_STOP_LENGTH;
        *end = true;
    } else if (g->seen.n >= lm_session_context(g->s)) {
        a->stop = LM_STOP_CONTEXT;
        *end = true;
    }
    size_t ready = *end ? a->text.len : a->text.len - held(g);
    ev.text = (const char *)a->text.data + g->sent;
    ev.text_len = ready > g->sent ? ready - g->sent : 0;
    if (!a->text.data)
        ev.text = "";
    if (ready > g->sent)
        g->sent = ready;
    if (g->opt->token && g->opt->token(g->opt->ctx, &ev)) {
        a->stop = *end ? a->stop : LM_STOP_CANCEL;
        *end = true;
    }
    return LOAM_OK;
}

/* Prompt, then a token a step. */
static enum loam_status run(struct gen *g, const uint32_t *prompt, uint32_t n) {
    struct lm_answer *a = g->out;
    const uint32_t *have = lm_session_tokens(g->s);
    uint32_t same = 0, held_n = lm_session_length(g->s);
    while (same < held_n && same + 1 < n && have[same] == prompt[same])
        same++;
    lm_session_truncate(g->s, same);
    a->prompt_tokens = n;
    a->cached_tokens = same;
    uint64_t t0 = clock_mono_us();
    struct lm_item item = {.session = g->s, .tokens = prompt + same, .n = n - same, .logits = g->logits};
    enum loam_status s = lm_step(g->e, &item, 1, g->opt->cancel, g->err);
    uint64_t t1 = clock_mono_us();
    a->prefill_us = t1 - t0;
    bool end = false;
    while (!s) {
        uint32_t id;
        s = lm_sample(&id, g->logits, g->V, &g->opt->sampler, g->seen.ids, g->seen.n, g->n_prompt, g->seen.n, g->work, g->err);
        if (!s)
            s = accept(g, id, &end);
        if (s || end)
            break;
        item = (struct lm_item){.session = g->s, .tokens = &id, .n = 1, .logits = g->logits};
        s = lm_step(g->e, &item, 1, g->opt->cancel, g->err);
    }
    a->decode_us = clock_mono_us() - t1;
    if (s == LOAM_ECANCEL) {
        a->stop = LM_STOP_CANCEL;
        s = LOAM_OK;
    }
    return s;
}

enum loam_status lm_generate(struct lm_answer *out, struct lm_engine *e, struct lm_session *s, const uint32_t *prompt, uint32_t n,
                             const struct lm_generate_opt *opt, struct err *err) {
    *out = (struct lm_answer){0};
    buf_init(&out->text, ANSWER_MAX);
    enum loam_status st = lm_sampler_check(&opt->sampler, err);
    if (st)
        return st;
    if (n == 0)
        return err_set(err, LOAM_EINVAL, "the prompt is empty");
    if (n >= lm_session_context(s))
        return err_set(err, LOAM_ELIMIT, "the prompt has %u tokens; the context of %u leaves no room for an answer", n, lm_session_context(s));
    for (int i = 0; i < LM_STOP_MAX && opt->stop[i]; i++)
        if (!opt->stop[i][0] || strlen(opt->stop[i]) > LM_STOP_BYTES)
            return err_set(err, LOAM_ERANGE, "stop string %d is empty or longer than %d bytes", i + 1, LM_STOP_BYTES);
    struct gen g = {.out = out, .e = e, .s = s, .opt = opt, .err = err, .n_prompt = n};
    buf_init(&g.raw, ANSWER_MAX);
    g.tok = lm_engine_model(e)->tokenizer;
    g.V = lm_engine_model(e)->config.V;
    g.logits = mem_array(g.V, sizeof *g.logits);
    g.work = mem_array(g.V, 8);
    st = g.logits && g.work ? lm_ids_append(&g.seen, prompt, n, err) : err_set(err, LOAM_ENOMEM, "no memory for %u logits", g.V);
    if (!st)
        st = run(&g, prompt, n);
    buf_clear(&g.raw);
    mem_free(g.logits);
    mem_free(g.work);
    lm_ids_clear(&g.seen);
    if (st)
        lm_answer_clear(out);
    return st;
}
