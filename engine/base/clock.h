/* Time, injected: everything outside base asks here, so that tests can set the time. */
#ifndef LOAM_BASE_CLOCK_H
#define LOAM_BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_mono_us(void); /* microseconds since some fixed moment, never back */
uint64_t clock_unix_ms(void); /* milliseconds since 1970-01-01 UTC */
/* Tests: fixed times instead of the system's; 0, 0 gives the system's back. */
void clock_set(uint64_t mono_us, uint64_t unix_ms);
/* "2026-11-23T22:44:00Z" */
void clock_format(char out[24], uint64_t unix_ms);

#endif
