/* lm/peft: any bytes as a PEFT folder of the tiny model: u16le length of the configuration, the configuration, the tensors' file. */
#include "base/bytes.h"
#include "base/file.h"
#include "lm/model.h"
#include "lm/peft.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void put(const char *path, const uint8_t *p, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, n, f) != n)
        abort();
    fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static struct lm_model *m;
    static char dir[] = "/tmp/loam-fuzz-peft-XXXXXX", config[128], tensors[128];
    struct err e;
    struct lm_adapter *a;
    if (!m) {
        char path[1024];
        const char *src = getenv("srcdir");
        snprintf(path, sizeof path, "%s/contrib/models/tiny.gguf", src ? src : FUZZ_SRCDIR);
        if (!mkdtemp(dir) || lm_model_open(&m, path, &e))
            abort();
        snprintf(config, sizeof config, "%s/adapter_config.json", dir);
        snprintf(tensors, sizeof tensors, "%s/adapter_model.safetensors", dir);
    }
    if (n < 2)
        return 0;
    size_t len = le16(data);
    if (len > n - 2)
        len = n - 2;
    put(config, data + 2, len);
    put(tensors, data + 2 + len, n - 2 - len);
    if (!lm_peft_import(&a, m, dir, &e))
        lm_adapter_free(a);
    unlink(config);
    unlink(tensors);
    return 0;
}
