/* lm: any bytes as tokenizer.json; what opens tokenizes and decodes. */
#include "lm/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct lm_tokenizer *t;
    struct err e;
    if (lm_tokenizer_json(&t, (const char *)data, n, &e))
        return 0;
    struct lm_ids ids = {0};
    struct buf b = BUF_INIT(1 << 20);
    if (!lm_encode(&ids, t, " the <s> rain 12 e\xcc\x81", 20, LM_ENCODE_SPECIAL, &e))
        (void)!lm_decode(&b, t, ids.ids, ids.n, true, &e);
    lm_ids_clear(&ids);
    buf_clear(&b);
    lm_tokenizer_free(t);
    return 0;
}
