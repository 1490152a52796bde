/* A false libcuda.so.1 for tests/cuda_driver.sh: NVIDIA's own runtime, linked into loam-cuda.so, loads it and asks. It answers to
 * cuInit with FAKE_CUDA_INIT and names FAKE_CUDA_VERSION as its version; it has no device and no other function that works. */
#include <stdlib.h>
#include <string.h>

static int number(const char *name, int otherwise) {
    const char *v = getenv(name);
    return v ? atoi(v) : otherwise;
}
int cuDriverGetVersion(int *v) {
    *v = number("FAKE_CUDA_VERSION", 13000);
    return 0;
}
int cuInit(unsigned flags) {
    (void)flags;
    return number("FAKE_CUDA_INIT", 100);
}
int cuDeviceGetCount(int *n) {
    *n = 0;
    return 0;
}
int cuGetExportTable(const void **table, const void *id) {
    (void)id;
    *table = NULL;
    return 1;
}
static int refuses(void) {
    return 1;
}
int cuGetProcAddress_v2(const char *name, void **p, int version, unsigned long long flags, int *status) {
    static const struct {
        const char *name;
        void (*f)(void);
    } known[] = {{"cuDriverGetVersion", (void (*)(void))cuDriverGetVersion},
                 {"cuInit", (void (*)(void))cuInit},
                 {"cuDeviceGetCount", (void (*)(void))cuDeviceGetCount},
                 {"cuGetExportTable", (void (*)(void))cuGetExportTable},
                 {"cuGetProcAddress", (void (*)(void))cuGetProcAddress_v2},
                 {"cuGetProcAddress_v2", (void (*)(void))cuGetProcAddress_v2}};
    void (*f)(void) = (void (*)(void))refuses;
    (void)version, (void)flags;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i].name))
            f = known[i].f;
    memcpy(p, &f, sizeof f);
    if (status)
        *status = 0;
    return 0;
}
int cuGetProcAddress(const char *name, void **p, int version, unsigned long long flags) {
    return cuGetProcAddress_v2(name, p, version, flags, NULL);
}
