/* lm/gguf with the tokenizer on top: any bytes. A file that opens is asked for every pair and tensor, and tokenizes text. */
#include "lm/gguf.h"
#include "lm/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct gguf g;
    struct err e;
    if (gguf_parse(&g, data, n, &e))
        return 0;
    volatile uint64_t sum = 0;
    for (uint64_t i = 0; i < g.n_pairs; i++) {
        const struct gguf_pair *p = &g.pairs[i];
        enum gguf_kind k = p->kind == GGUF_ARRAY ? p->of : p->kind;
        const unsigned char *at = p->data;
        for (uint64_t j = 0; j < p->n; j++)
            sum += k == GGUF_STRING                      ? gguf_next_string(&at).len
                   : k == GGUF_F32 || k == GGUF_F64 ? gguf_num_at(p, j) > 0
                                                    : (uint64_t)gguf_int_at(p, j);
    }
    for (uint64_t i = 0; i < g.n_tensors; i++)
        sum += g.tensors[i].data[0] + g.tensors[i].data[g.tensors[i].bytes - 1];
    struct lm_tokenizer *t;
    if (!lm_tokenizer_gguf(&t, &g, &e)) {
        struct lm_ids ids = {0};
        struct buf b = BUF_INIT(1 << 20);
        if (!lm_encode(&ids, t, "the <|im_end|> rain 12 \xc3\xa9", 24, LM_ENCODE_SPECIAL, &e))
            (void)!lm_decode(&b, t, ids.ids, ids.n, true, &e);
        lm_ids_clear(&ids);
        buf_clear(&b);
        lm_tokenizer_free(t);
    }
    gguf_clear(&g);
    (void)sum;
    return 0;
}
