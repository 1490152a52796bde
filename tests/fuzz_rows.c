/* lm/data: any line as a training row of the tiny model. What is taken has targets, and no first token among them. */
#include "lm/data.h"
#include "lm/model.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static struct lm_model *m;
    struct err e;
    struct lm_data d;
    if (!m) {
        char path[1024];
        const char *src = getenv("srcdir");
        snprintf(path, sizeof path, "%s/contrib/models/tiny.gguf", src ? src : FUZZ_SRCDIR);
        if (lm_model_open(&m, path, &e)) {
            fprintf(stderr, "%s\n", e.text);
            abort();
        }
    }
    lm_data_init(&d);
    if (!lm_data_add_json(&d, m, (const char *)data, n, 0, 4096, &e)) {
        uint32_t targets = 0;
        for (uint32_t i = 0; i < d.rows[0].n; i++)
            targets += d.rows[0].train[i];
        if (!targets || targets != d.rows[0].targets || d.rows[0].train[0])
            __builtin_trap();
    }
    lm_data_clear(&d);
    return 0;
}
