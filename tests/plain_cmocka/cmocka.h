/* As much of cmocka's interface as the suites use, for machines that only have a C compiler (contrib/gpu-check): each
 * test runs in order, a failed assertion ends its test. Not installed; where cmocka is, cmocka is used. */
#ifndef PLAIN_CMOCKA_H
#define PLAIN_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*f)(void **state);
    int (*before)(void **state);
    int (*after)(void **state);
};
#define cmocka_unit_test(f) {#f, f, NULL, NULL}
#define cmocka_unit_test_setup_teardown(f, a, b) {#f, f, a, b}

static jmp_buf plain_out;
__attribute__((format(printf, 1, 2), noreturn, unused)) static void fail_msg(const char *fmt, ...) {
    va_list a;
    va_start(a, fmt);
    vfprintf(stderr, fmt, a);
    va_end(a);
    fputc('\n', stderr);
    longjmp(plain_out, 1);
}
__attribute__((noreturn, unused)) static void skip(void) {
    longjmp(plain_out, 2);
}
#define PLAIN_ASSERT(c, text) ((c) ? (void)0 : fail_msg("%s:%d: %s", __FILE__, __LINE__, text))
#define fail() fail_msg("%s:%d: failed", __FILE__, __LINE__)
#define assert_true(c) PLAIN_ASSERT(c, #c)
#define assert_false(c) PLAIN_ASSERT(!(c), "not " #c)
#define assert_null(p) PLAIN_ASSERT(!(p), #p " is not NULL")
#define assert_non_null(p) PLAIN_ASSERT(p, #p " is NULL")
#define assert_int_equal(a, b) PLAIN_ASSERT((a) == (b), #a " != " #b)
#define assert_int_not_equal(a, b) PLAIN_ASSERT((a) != (b), #a " == " #b)
#define assert_ptr_equal(a, b) PLAIN_ASSERT((a) == (b), #a " != " #b)
#define assert_string_equal(a, b) PLAIN_ASSERT(!strcmp(a, b), #a " != " #b)
#define assert_memory_equal(a, b, n) PLAIN_ASSERT(!memcmp(a, b, n), #a " != " #b)
#define assert_in_range(v, lo, hi) PLAIN_ASSERT((v) >= (lo) && (v) <= (hi), #v " out of range")

static int plain_run(const struct CMUnitTest *t, size_t n, int (*setup)(void **), int (*teardown)(void **)) {
    void *state = NULL;
    volatile int bad = 0;
    volatile size_t i;
    if (setjmp(plain_out) || (setup && setup(&state))) {
        fprintf(stderr, "setup failed\n");
        return 1;
    }
    for (i = 0; i < n; i++) {
        int how = setjmp(plain_out);
        if (!how) {
            if (!t[i].before || !t[i].before(&state))
                t[i].f(&state);
            if (t[i].after)
                t[i].after(&state);
        }
        bad += how == 1;
        printf("%-8s %s\n", how == 1 ? "FAILED" : how ? "skipped" : "ok", t[i].name);
        fflush(stdout);
    }
    if (setjmp(plain_out) || (teardown && teardown(&state)))
        bad++;
    return bad;
}
#define cmocka_run_group_tests(t, setup, teardown) plain_run(t, sizeof(t) / sizeof((t)[0]), setup, teardown)

#endif
