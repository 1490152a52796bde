/* Chat templates: messages to token ids, as transformers' apply_chat_template renders them. The Jinja source is not
 * interpreted: it is recognised by what it holds, and an unknown one is refused with advice. */
#ifndef LOAM_LM_TEMPLATE_H
#define LOAM_LM_TEMPLATE_H

#include "lm/tokenizer.h"

struct lm_template;

/* role: "system", "user" or "assistant"; text is content of n bytes. Borrowed. */
struct lm_message {
    const char *role;
    const char *text;
    size_t n;
};

/* source: the chat template as the model's file gives it. LOAM_EUNSUPPORTED where it is not known. */
enum loam_status lm_template_new(struct lm_template **out, const char *source, size_t n, const struct lm_tokenizer *t,
                                 struct err *err) LOAM_MUST_USE;
void lm_template_free(struct lm_template *t);
const char *lm_template_name(const struct lm_template *t); /* "chatml", ... */
void lm_template_hash(uint8_t out[32], const struct lm_template *t);

/* Appends the prompt's ids; with `open` the assistant's turn is opened at the end (generation). Contents are encoded
 * without special tokens. LOAM_EINVAL for roles the template does not take in that place. */
enum loam_status lm_template_render(struct lm_ids *out, const struct lm_template *t, const struct lm_message *m, size_t n,
                                    bool open, struct err *err) LOAM_MUST_USE;
/* For training: the same, and mask[i] = 1 for every id of an assistant's answer including its end-of-turn token (0
 * elsewhere). *mask is grown with mem_resize and has out->n entries from the first id appended; mem_free it. */
enum loam_status lm_template_rows(struct lm_ids *out, uint8_t **mask, const struct lm_template *t, const struct lm_message *m,
                                  size_t n, struct err *err) LOAM_MUST_USE;

#endif
