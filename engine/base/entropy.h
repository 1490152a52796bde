/* Random bytes from the kernel, injected for tests. */
#ifndef LOAM_BASE_ENTROPY_H
#define LOAM_BASE_ENTROPY_H

#include "base/status.h"

#include <stdint.h>

enum loam_status entropy_fill(void *out, size_t n, struct err *err) LOAM_MUST_USE;
/* Tests: a function that fills instead of the kernel; NULL gives the kernel back. */
void entropy_set(enum loam_status (*fill)(void *out, size_t n, struct err *err));

#endif
