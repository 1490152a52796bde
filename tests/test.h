/* What every cmocka suite of loam includes first. */
#ifndef LOAM_TESTS_TEST_H
#define LOAM_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"

/* A call that must succeed; prints the message when it does not. Needs `struct err e` in scope. */
#define OK(call)                                                                                                    \
    do {                                                                                                            \
        e.text[0] = 0;                                                                                              \
        enum loam_status ok_s_ = (call);                                                                            \
        if (ok_s_)                                                                                                  \
            fail_msg("%s: %s (%s)", #call, e.text, status_name(ok_s_));                                             \
    } while (0)
/* A call that must fail with exactly this code. */
#define FAILS(code, call)                                                                                           \
    do {                                                                                                            \
        enum loam_status f_s_ = (call);                                                                             \
        if (f_s_ != (code))                                                                                         \
            fail_msg("%s: got %s, not %s", #call, status_name(f_s_), #code);                                        \
    } while (0)

/* Runs `call` with each of its allocations failing in turn, until it gets through: every failure must be LOAM_ENOMEM. `undo`
 * runs after success. Needs base/mem.h. */
#define EACH_ALLOCATION(call, undo)                                                                                 \
    do {                                                                                                            \
        for (long n_ = 1;; n_++) {                                                                                  \
            mem_fail_after(n_);                                                                                     \
            enum loam_status a_s_ = (call);                                                                         \
            mem_fail_after(0);                                                                                      \
            if (!a_s_)                                                                                              \
                break;                                                                                              \
            if (a_s_ != LOAM_ENOMEM || n_ > 100000)                                                                 \
                fail_msg("%s, allocation %ld: %s", #call, n_, status_name(a_s_));                                   \
        }                                                                                                           \
        undo;                                                                                                       \
    } while (0)

/* The folder of shared vectors, or NULL: then the test calls skip() after saying so. LOAM_VECTORS names another. */
static inline const char *vectors_dir(char *out, size_t cap, const char *sub) {
    const char *base = getenv("LOAM_VECTORS"), *src = getenv("srcdir");
    if (base)
        snprintf(out, cap, "%s/%s", base, sub);
    else
        snprintf(out, cap, "%s/../shared/vectors/%s", src ? src : ".", sub);
    FILE *f = fopen(out, "r");
    if (!f) {
        printf("# skipped: %s is not there\n", sub);
        return NULL;
    }
    fclose(f);
    return out;
}

#endif
