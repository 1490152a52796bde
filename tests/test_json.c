/* base/json: the strict reader and the writer. */
#include "tests/test.h"

#include "base/json.h"
#include "base/mem.h"

static struct err e;

static enum loam_status parse(struct js_doc *d, const char *s) {
    return js_parse(d, s, strlen(s), &e);
}

static void test_values(void **st) {
    (void)st;
    struct js_doc d;
    OK(parse(&d, " {\"a\":[1,-2.5e1,true,false,null],\"b\":\"x\\u00e9\\ud83d\\ude00\\n\", \"c\":{}, \"big\":18446744073709551616 } "));
    const struct js_val *a = js_get(d.root, "a");
    assert_int_equal(a->n, 5);
    assert_true(a->first->integral && a->first->i == 1);
    assert_true(!a->first->next->integral && a->first->next->d == -25.0);
    const char *s;
    OK(js_get_str(&s, d.root, "b", NULL, &e));
    assert_string_equal(s, "x\xc3\xa9\xf0\x9f\x98\x80\n");
    int64_t i;
    FAILS(LOAM_EPARSE, js_get_int(&i, d.root, "b", 0, &e));
    FAILS(LOAM_EPARSE, js_get_int(&i, d.root, "big", 0, &e));
    OK(js_get_int(&i, d.root, "absent", 7, &e));
    assert_int_equal(i, 7);
    assert_int_equal(js_get(d.root, "c")->n, 0);
    js_free(&d);
}

static void test_refused(void **st) {
    (void)st;
    static const char *const bad[] = {
        "",          "{",          "[1,]",       "{\"a\":1,}", "01",         "1.",       "+1",        "nul",        "[1 2]",
        "\"\\x\"",   "\"\\ud800\"", "\"a",        "\"\t\"",     "{\"a\":1,\"a\":2}", "1 2", "\xef\xbb\xbf{}", "\"\xff\"", "-",
        "1e",        "1e999",      "[",          "{\"a\"}",    "{a:1}",      "'a'",      "\"\\u12\"",  "\"\\udc00\"", "NaN", "\"\\",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct js_doc d;
        if (parse(&d, bad[i]) != LOAM_EPARSE)
            fail_msg("accepted: %s", bad[i]);
        assert_null(d.root);
    }
    char deep[200];
    memset(deep, '[', sizeof deep);
    struct js_doc d;
    FAILS(LOAM_ELIMIT, js_parse(&d, deep, sizeof deep, &e));
}

static void test_write(void **st) {
    (void)st;
    struct buf b = BUF_INIT(1000);
    OK(js_write_str(&b, "a\"\\\n\x01\xc3\xa9", 7, &e));
    assert_string_equal((char *)b.data, "\"a\\\"\\\\\\n\\u0001\xc3\xa9\"");
    buf_reset(&b);
    OK(js_write_num(&b, 0.1, &e));
    assert_string_equal((char *)b.data, "0.1");
    buf_reset(&b);
    FAILS(LOAM_EPARSE, js_write_str(&b, "\xff", 1, &e));
    buf_clear(&b);
}

static void test_memory(void **st) {
    (void)st;
    for (long n = 1; n < 20; n++) {
        struct js_doc d;
        mem_fail_after(n);
        enum loam_status s = parse(&d, "{\"a\":[1,2,3],\"b\":\"c\"}");
        mem_fail_after(0);
        assert_true(s == LOAM_OK || s == LOAM_ENOMEM);
        js_free(&d);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
