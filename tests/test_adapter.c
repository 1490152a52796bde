#include "tests/test.h"

#include "base/file.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "lm/adapter.h"
#include "lm/philox.h"

#include <unistd.h>

/* Known answers of Random123 (kat_vectors: philox4x32 10). */
static void philox_known(void **state) {
    (void)state;
    uint32_t o[4], z4[4] = {0}, z2[2] = {0};
    philox_raw(z4, z2, o);
    assert_int_equal(o[0], 0x6627e8d5);
    assert_int_equal(o[1], 0xe169c58d);
    assert_int_equal(o[2], 0xbc57ac4c);
    assert_int_equal(o[3], 0x9b00dbd8);
    uint32_t f4[4] = {~0u, ~0u, ~0u, ~0u}, f2[2] = {~0u, ~0u};
    philox_raw(f4, f2, o);
    assert_int_equal(o[0], 0x408f276d);
    assert_int_equal(o[1], 0x41c83b0e);
    assert_int_equal(o[2], 0xa20bc7c6);
    assert_int_equal(o[3], 0x6d5451fd);
}

static void shuffle_is_a_permutation(void **state) {
    (void)state;
    uint8_t seed[32] = {7};
    struct philox p;
    uint32_t a[101], b[101], seen[101] = {0};
    philox_init(&p, seed, "order");
    philox_shuffle(&p, 3, 101, a);
    philox_shuffle(&p, 3, 101, b);
    assert_memory_equal(a, b, sizeof a);
    for (int i = 0; i < 101; i++)
        seen[a[i]]++;
    for (int i = 0; i < 101; i++)
        assert_int_equal(seen[i], 1);
    philox_shuffle(&p, 4, 101, b);
    assert_memory_not_equal(a, b, sizeof a);
}

static const struct lm_shape shape = {2, {8, 8, 8, 8, 8, 8, 24}, {8, 4, 4, 8, 24, 24, 8}};

static void round_trip(void **state) {
    (void)state;
    struct err e;
    struct lm_adapter *a, *b;
    uint8_t base[32] = {1}, seed[32] = {2}, h1[32], h2[32];
    uint32_t targets;
    FAILS(LOAM_EINVAL, lm_targets_parse(&targets, "q,zz", &e));
    OK(lm_targets_parse(&targets, "q,v_proj,ffn_down", &e));
    assert_int_equal(targets, 1 << LM_Q | 1 << LM_V | 1 << LM_DOWN);
    FAILS(LOAM_EINVAL, lm_adapter_new(&a, &shape, base, 0, 32, false, targets, &e));
    OK(lm_adapter_new(&a, &shape, base, 4, 8, false, targets, &e));
    assert_int_equal(a->count, 6);
    lm_adapter_init(a, seed);
    assert_true(a->scale == 2.0f);
    const struct lm_lora *t = lm_adapter_find(a, 1, LM_DOWN);
    assert_ptr_equal(t, &a->t[5]);
    assert_null(lm_adapter_find(a, 1, LM_K));
    for (uint32_t i = 0; i < a->rank * t->in; i++)
        assert_true(t->a[i] >= -0.2042f && t->a[i] <= 0.2042f); /* 1 / sqrt(24) */
    t->b[5] = 0.25f;
    char path[256];
    snprintf(path, sizeof path, "adapter-test-%ld", (long)getpid());
    OK(lm_adapter_save(a, path, &e));
    OK(lm_adapter_load(&b, path, &e));
    lm_adapter_hash(h1, a);
    lm_adapter_hash(h2, b);
    assert_memory_equal(h1, h2, 32);
    assert_memory_equal(a->data, b->data, a->size * sizeof(float));
    OK(lm_adapter_fits(b, &shape, &e));
    struct lm_shape other = shape;
    other.out[LM_V] = 5;
    FAILS(LOAM_EINVAL, lm_adapter_fits(b, &other, &e));
    lm_adapter_free(b);

    /* Cut anywhere, or with any byte changed, it is refused and nothing leaks. */
    struct buf f = BUF_INIT(1 << 20);
    OK(file_read(&f, path, &e));
    unlink(path);
    for (size_t n = 0; n < f.len; n += 7)
        assert_int_not_equal(lm_adapter_parse(&b, f.data, n, &e), LOAM_OK);
    for (size_t i = 0; i < f.len; i += 3) {
        f.data[i] ^= 0x40;
        assert_int_not_equal(lm_adapter_parse(&b, f.data, f.len, &e), LOAM_OK);
        f.data[i] ^= 0x40;
    }
    /* Every allocation failing in turn. */
    for (long n = 1; n < 8; n++) {
        mem_fail_after(n);
        enum loam_status s = lm_adapter_parse(&b, f.data, f.len, &e);
        mem_fail_after(0);
        if (!s) {
            lm_adapter_free(b);
            break;
        }
        assert_int_equal(s, LOAM_ENOMEM);
    }
    buf_clear(&f);
    lm_adapter_free(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known),
        cmocka_unit_test(shuffle_is_a_permutation),
        cmocka_unit_test(round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
