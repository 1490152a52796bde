#include "lm/generate_in.h"
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
static enum loam_status accept_token(struct gen *g, uint32_t id, bool *end) {
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
    bool last = *end || (g->opt->max_tokens && a->ids.n >= g->opt->max_tokens) || g->seen.n >= g->context;
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
    } else if (g->seen.n >= g->context) {
        a->stop = LM_STOP_CONTEXT;
        *end = true;
    }
    size_t ready = *end ? a->text.len : a->text.len - held(g);
    ev.text = a->text.data ? (const char *)a->text.data + g->sent : "";
    ev.text_len = ready > g->sent ? ready - g->sent : 0;
    if (ready > g->sent)
        g->sent = ready;
    if (g->opt->token && g->opt->token(g->opt->ctx, &ev)) {
        a->stop = *end ? a->stop : LM_STOP_CANCEL;
        *end = true;
    }
    return LOAM_OK;
}

enum loam_status gen_next(struct gen *g, void *work, bool *end) {
    uint32_t id;
    enum loam_status s =
        lm_sample(&id, g->logits, g->V, &g->opt->sampler, g->seen.ids, g->seen.n, g->n_prompt, g->seen.n, work, g->err);
    return s ? s : accept_token(g, id, end);
}

void gen_clear(struct gen *g) {
    buf_clear(&g->raw);
    mem_free(g->logits);
    lm_ids_clear(&g->seen);
}

enum loam_status gen_start(struct gen *g, struct lm_answer *out, struct lm_model *m, uint32_t context, const uint32_t *prompt, uint32_t n,
                           const struct lm_generate_opt *opt, struct err *err) {
    *out = (struct lm_answer){.prompt_tokens = n};
    buf_init(&out->text, ANSWER_MAX);
    *g = (struct gen){.out = out, .opt = opt, .tok = m->tokenizer, .n_prompt = n, .V = m->config.V, .context = context, .err = err};
    buf_init(&g->raw, ANSWER_MAX);
    enum loam_status st = lm_sampler_check(&opt->sampler, err);
    if (st)
        return st;
    if (n == 0)
        return err_set(err, LOAM_EINVAL, "the prompt is empty");
    if (n >= context)
        return err_set(err, LOAM_ELIMIT, "the prompt has %u tokens; the context of %u leaves no room for an answer", n, context);
    for (int i = 0; i < LM_STOP_MAX && opt->stop[i]; i++)
        if (!opt->stop[i][0] || strlen(opt->stop[i]) > LM_STOP_BYTES)
            return err_set(err, LOAM_ERANGE, "stop string %d is empty or longer than %d bytes", i + 1, LM_STOP_BYTES);
    g->logits = mem_array(g->V, sizeof *g->logits);
    st = g->logits ? lm_ids_append(&g->seen, prompt, n, err) : err_set(err, LOAM_ENOMEM, "no memory for %u logits", g->V);
    if (st)
        gen_clear(g);
    return st;
}

/* Prompt, then a token a step. */
static enum loam_status run(struct gen *g, struct lm_engine *e, struct lm_session *s, void *work) {
    struct lm_answer *a = g->out;
    const uint32_t *have = lm_session_tokens(s), *prompt = g->seen.ids;
    uint32_t same = 0, held_n = lm_session_length(s);
    while (same < held_n && same + 1 < g->n_prompt && have[same] == prompt[same])
        same++;
    lm_session_truncate(s, same);
    a->cached_tokens = same;
    uint64_t t0 = clock_mono_us(), t1 = 0;
    bool end = false;
    enum loam_status st = LOAM_OK;
    while (!st && !end) {
        uint32_t at = lm_session_length(s);
        struct lm_item item = {.session = s, .tokens = g->seen.ids + at, .n = g->seen.n - at, .logits = g->logits};
        st = lm_step(e, &item, 1, g->opt->cancel, g->err);
        if (!t1)
            t1 = clock_mono_us();
        if (!st)
            st = gen_next(g, work, &end);
    }
    a->prefill_us = t1 - t0;
    a->decode_us = clock_mono_us() - t1;
    if (st == LOAM_ECANCEL) {
        a->stop = LM_STOP_CANCEL;
        st = LOAM_OK;
    }
    return st;
}

enum loam_status lm_generate(struct lm_answer *out, struct lm_engine *e, struct lm_session *s, const uint32_t *prompt, uint32_t n,
                             const struct lm_generate_opt *opt, struct err *err) {
    struct gen g;
    struct lm_model *m = lm_engine_model(e);
    enum loam_status st = gen_start(&g, out, m, lm_session_context(s), prompt, n, opt, err);
    if (st)
        return st;
    void *work = mem_array(g.V, 8);
    st = work ? run(&g, e, s, work) : err_set(err, LOAM_ENOMEM, "no memory for %u candidates", g.V);
    mem_free(work);
    gen_clear(&g);
    if (st)
        lm_answer_clear(out);
    return st;
}
