#include "base/clock.h"

#include <stdatomic.h>
#include <time.h>

static _Atomic uint64_t fixed_mono, fixed_unix;

uint64_t clock_mono_us(void) {
    uint64_t f = atomic_load(&fixed_mono);
    if (f)
        return f;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}
uint64_t clock_unix_ms(void) {
    uint64_t f = atomic_load(&fixed_unix);
    if (f)
        return f;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}
void clock_set(uint64_t mono_us, uint64_t unix_ms) {
    atomic_store(&fixed_mono, mono_us);
    atomic_store(&fixed_unix, unix_ms);
}
void clock_format(char out[24], uint64_t unix_ms) {
    time_t s = (time_t)(unix_ms / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    strftime(out, 24, "%Y-%m-%dT%H:%M:%SZ", &tm);
}
