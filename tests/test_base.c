#include "tests/test.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/entropy.h"
#include "base/file.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/u256.h"

#include <unistd.h>

static struct err e;

static void status_table(void **state) {
    (void)state;
    assert_string_equal(status_name(LOAM_EPROOF), "LOAM_EPROOF");
    assert_int_equal(status_exit(LOAM_OK), 0);
    for (int i = 1; i < 32; i++) {
        assert_int_not_equal(status_exit((enum loam_status)i), 0);
        assert_int_equal(status_from_rpc(status_rpc((enum loam_status)i)), i);
        assert_true(status_remedy((enum loam_status)i)[0] != 0);
    }
    struct err x;
    err_set(&x, LOAM_EIO, "inner %d", 7);
    assert_int_equal(err_prefix(&x, x.code, "outer"), LOAM_EIO);
    assert_string_equal(x.text, "outer: inner 7");
}

static void buffers(void **state) {
    (void)state;
    struct buf b = BUF_INIT(10);
    OK(buf_str(&b, "hello", &e));
    OK(buf_printf(&b, &e, "%03d", 7));
    assert_string_equal((char *)b.data, "hello007");
    FAILS(LOAM_ELIMIT, buf_str(&b, "abc", &e));
    assert_int_equal(b.len, 8);
    buf_consume(&b, 5);
    assert_string_equal((char *)b.data, "007");
    buf_clear(&b);
    mem_fail_after(1);
    FAILS(LOAM_ENOMEM, buf_str(&b, "x", &e));
    mem_fail_after(0);
    uint8_t h[3];
    OK(hex_decode(h, 3, "0x00ffA1", &e));
    assert_int_equal(h[2], 0xa1);
    FAILS(LOAM_EPARSE, hex_decode(h, 3, "00ffa", &e));
    FAILS(LOAM_EPARSE, hex_decode(h, 3, "00ffag", &e));
    assert_null(mem_array((size_t)-1, 2));
}

static void keccak(void **state) {
    (void)state;
    uint8_t h[32];
    char x[65];
    keccak256(h, "", 0);
    hex_encode(x, h, 32);
    assert_string_equal(x, "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470");
    keccak256(h, "abc", 3);
    hex_encode(x, h, 32);
    assert_string_equal(x, "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45");
    /* Every split of every length around the rate gives the same digest as one piece. */
    uint8_t msg[300], one[32];
    for (size_t i = 0; i < sizeof msg; i++)
        msg[i] = (uint8_t)(i * 7);
    for (size_t n = 130; n < 280; n += 3) {
        keccak256(one, msg, n);
        for (size_t cut = 0; cut <= n; cut += 17) {
            struct keccak k;
            keccak_init(&k);
            keccak_add(&k, msg, cut);
            keccak_add(&k, msg + cut, n - cut);
            keccak_end(&k, h);
            assert_memory_equal(h, one, 32);
        }
    }
}

static void numbers(void **state) {
    (void)state;
    struct u256 a, b, q, r;
    char d[U256_DEC_MAX + 2];
    OK(u256_parse(&a, "115792089237316195423570985008687907853269984665640564039457584007913129639935", &e));
    u256_format(d, a);
    assert_string_equal(d, "115792089237316195423570985008687907853269984665640564039457584007913129639935");
    FAILS(LOAM_ERANGE, u256_parse(&b, "115792089237316195423570985008687907853269984665640564039457584007913129639936", &e));
    FAILS(LOAM_EPARSE, u256_parse(&b, "12a", &e));
    FAILS(LOAM_EPARSE, u256_parse(&b, "", &e));
    assert_true(u256_add(&b, a, u256_from(1)));
    assert_true(u256_is_zero(b));
    OK(u256_parse(&b, "340282366920938463463374607431768211507", &e));
    u256_divmod(&q, &r, a, b);
    struct u256 back;
    assert_false(u256_mul(&back, q, b));
    assert_false(u256_add(&back, back, r));
    assert_int_equal(u256_cmp(back, a), 0);
    assert_true(u256_cmp(r, b) < 0);
    assert_false(u256_muldiv(&q, a, b, b));
    assert_int_equal(u256_cmp(q, a), 0);
    assert_true(u256_muldiv(&q, a, b, u256_from(1)));
    OK(u256_parse_coin(&a, "0.125", &e));
    assert_int_equal(a.w[0], 125000000000000000u);
    u256_format_coin(d, a);
    assert_string_equal(d, "0.125");
    u256_format_coin(d, u256_from(1));
    assert_string_equal(d, "0.000000000000000001");
    FAILS(LOAM_EPARSE, u256_parse_coin(&a, "1.", &e));
    FAILS(LOAM_EPARSE, u256_parse_coin(&a, "0.1234567890123456789", &e));
    OK(u256_parse_quantity(&a, "0x1f", &e));
    assert_int_equal(a.w[0], 31);
    FAILS(LOAM_EPARSE, u256_parse_quantity(&a, "0x01", &e));
    FAILS(LOAM_EPARSE, u256_parse_quantity(&a, "0x", &e));
}

static void cleaning(void **state) {
    (void)state;
    struct {
        const char *in, *out;
        unsigned flags;
    } cases[] = {
        {"plain", "plain", 0},
        {"a\x1b[31mb", "a\xef\xbf\xbd[31mb", 0},
        {"a\xc2\x9b" "b", "a\xef\xbf\xbd" "b", 0},
        {"a\xe2\x80\xae" "b", "ab", 0},
        {"x\ny\tz", "x y z", 0},
        {"x\ny\tz", "x\ny       z", TEXT_LINES},
        {"\xff\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", 0},
        {"e\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81", "e\xcc\x81\xcc\x81\xcc\x81\xcc\x81", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = BUF_INIT(1000);
        OK(text_clean(&b, cases[i].in, strlen(cases[i].in), cases[i].flags, &e));
        assert_string_equal((char *)b.data, cases[i].out);
        buf_clear(&b);
    }
    /* No input byte pair lets a control byte through. */
    for (int i = 0; i < 65536; i++) {
        uint8_t in[3] = {(uint8_t)(i >> 8), (uint8_t)i, 'z'};
        char out[64];
        text_clean_cut(out, sizeof out, in, 3);
        for (char *p = out; *p; p++)
            assert_true((uint8_t)*p >= 0x20 && *p != 0x7f && !((uint8_t)p[0] == 0xc2 && (uint8_t)p[1] < 0xa0));
    }
}

static void files(void **state) {
    (void)state;
    char path[] = "test_base.tmp.d/a/b", name[64];
    OK(file_mkdirs(path, &e));
    snprintf(name, sizeof name, "%s/f", path);
    OK(file_write(name, "12345", 5, 0600, &e));
    struct buf b = BUF_INIT(5), small = BUF_INIT(4);
    OK(file_read(&b, name, &e));
    assert_string_equal((char *)b.data, "12345");
    FAILS(LOAM_ELIMIT, file_read(&small, name, &e));
    FAILS(LOAM_ENOTFOUND, file_read(&b, "test_base.tmp.d/none", &e));
    struct file_map m;
    OK(file_map(&m, name, &e));
    assert_int_equal(m.len, 5);
    file_unmap(&m);
    buf_clear(&b);
    buf_clear(&small);
    unlink(name);
    rmdir("test_base.tmp.d/a/b");
    rmdir("test_base.tmp.d/a");
    rmdir("test_base.tmp.d");
}

static void time_and_entropy(void **state) {
    (void)state;
    clock_set(5, 1000);
    assert_int_equal(clock_mono_us(), 5);
    char t[24];
    clock_format(t, clock_unix_ms());
    assert_string_equal(t, "1970-01-01T00:00:01Z");
    clock_set(0, 0);
    assert_true(clock_mono_us() > 5);
    uint8_t a[32] = {0}, z[32] = {0};
    OK(entropy_fill(a, sizeof a, &e));
    assert_memory_not_equal(a, z, 32);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_table), cmocka_unit_test(buffers),  cmocka_unit_test(keccak),
        cmocka_unit_test(numbers),      cmocka_unit_test(cleaning), cmocka_unit_test(files),
        cmocka_unit_test(time_and_entropy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
