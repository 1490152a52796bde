/* A gradient store and a trace from any bytes: no crash, and what opens can be read to its last number. */
#include "base/mem.h"
#include "poa/store.h"
#include "poa/trace.h"

#include <stdio.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    static char path[64];
    static volatile int sum;
    struct poa_store s;
    struct poa_trace t;
    struct err e;
    if (!path[0])
        snprintf(path, sizeof path, "/tmp/fuzz-poa-%d", (int)getpid());
    FILE *f = fopen(path, "w");
    if (!f || fwrite(p, 1, n, f) != n)
        return 0;
    fclose(f);
    if (!poa_store_open(&s, path, false, &e)) {
        for (uint32_t l = 0; l < s.plan.tensors; l++) {
            size_t last = s.plan.rows * s.t[l].d - 1;
            sum += s.t[l].h[0] + s.t[l].h[last] + (s.t[l].g ? s.t[l].g[last] : 0);
        }
        poa_store_close(&s);
    }
    if (!poa_trace_read(&t, (const char *)p, n, &e)) {
        struct buf b = BUF_INIT(1 << 24);
        LOAM_ASSERT(!poa_trace_write(&b, &t, &e));
        buf_clear(&b);
        poa_trace_clear(&t);
    }
    (void)sum;
    return 0;
}
