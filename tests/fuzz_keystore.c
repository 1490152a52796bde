/* A keystore file from any bytes: no crash, whatever it asks for. (keystore_open would only add scrypt's time.) */
#include "store/keystore.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    struct addr20 a;
    struct err e;
    (void)!keystore_address(&a, (const char *)p, n, &e);
    return 0;
}
