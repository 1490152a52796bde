/* lm: any bytes as a safetensors file; every tensor's first and last byte is read. */
#include "base/mem.h"
#include "lm/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct st_tensor *list = NULL;
    size_t count = 0;
    struct err e;
    volatile unsigned sum = 0;
    if (!st_parse(&list, &count, data, n, &e))
        for (size_t i = 0; i < count; i++)
            sum += list[i].data[0] + list[i].data[list[i].bytes - 1];
    mem_free(list);
    (void)sum;
    return 0;
}
