/* lm/image: the packed image equals fresh packing bit for bit; damaged, foreign and unwritable ones are never believed. */
#include "tests/test.h"

#include "base/clock.h"
#include "gpu/ops.h"
#include "lm/image.h"
#include "lm/model.h"
#include "tests/lm_tiny.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct err e;
static char dir[64], images[96], path[96], image[256];
static struct buf good; /* the image as it was made */

/* Real time: files have the system's, and what was written this second is not remembered. */
static void wait_second(void) {
    usleep(1100000);
}

static void file_bytes(struct buf *b, const char *p) {
    buf_init(b, 1 << 26);
    OK(file_read(b, p, &e));
}

static unsigned count(const char *ending) {
    DIR *d = opendir(images);
    unsigned n = 0;
    for (struct dirent *x; d && (x = readdir(d));) {
        size_t len = strlen(x->d_name), m = strlen(ending);
        n += len >= m && !strcmp(x->d_name + len - m, ending);
    }
    if (d)
        closedir(d);
    return n;
}

static void empty(void) {
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", images);
    assert_int_equal(system(cmd), 0);
}

static void same_vector(const float *a, const float *b, uint32_t n) {
    assert_true(!a == !b);
    if (a)
        assert_memory_equal(a, b, n * sizeof *a);
}

static void same_matrix(const struct gpu_weight *a, const struct gpu_weight *b) {
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->k, b->k);
    assert_int_equal((uintptr_t)a->packed % 64, 0);
    assert_memory_equal(a->packed, b->packed, gpu_pack_bytes(a->type, a->n, a->k));
}

/* The model at p by its image against a packing in memory. Returns whether the image was mapped; the note in e. */
static bool open_and_compare(const char *p) {
    struct lm_model *m, *fresh;
    const struct lm_weights *w, *f;
    struct lm_hashes h, h2;
    OK(lm_model_open_images(&m, p, images, &e));
    OK(lm_model_open(&fresh, p, &e));
    OK(lm_model_weights(&w, m, &e));
    OK(lm_model_weights(&f, fresh, &e));
    const struct lm_config *c = &m->config;
    same_matrix(&w->embed, &f->embed);
    same_matrix(&w->head, &f->head);
    assert_true((w->head.packed == w->embed.packed) == c->tied);
    same_vector(w->out_norm, f->out_norm, c->C);
    assert_int_equal(w->bytes, f->bytes);
    for (uint32_t l = 0; l < c->L; l++) {
        const struct lm_layer_weights *x = &w->layers[l], *y = &f->layers[l];
        for (int i = 0; i < LM_LINEARS; i++) {
            same_matrix(&x->w[i], &y->w[i]);
            same_vector(x->bias[i], y->bias[i], x->w[i].n);
        }
        same_vector(x->attn_norm, y->attn_norm, c->C);
        same_vector(x->ffn_norm, y->ffn_norm, c->C);
        same_vector(x->q_norm, y->q_norm, c->D);
        same_vector(x->k_norm, y->k_norm, c->D);
    }
    OK(lm_model_hashes(&h, m, &e));
    OK(lm_model_hashes(&h2, fresh, &e));
    assert_memory_equal(&h, &h2, sizeof h);
    char *its = image_path(images, h.base);
    snprintf(image, sizeof image, "%s", its);
    mem_free(its);
    bool mapped = lm_model_mapped(m, &e);
    lm_model_free(m);
    lm_model_free(fresh);
    return mapped;
}

static int set_up(void **st) {
    (void)st;
    snprintf(dir, sizeof dir, "/tmp/loam-test-image-%ld", (long)getpid());
    snprintf(images, sizeof images, "%s/images", dir);
    snprintf(path, sizeof path, "%s/tiny.gguf", dir);
    return mkdir(dir, 0700) || tiny_write(path, TINY_Q4_1, &e) ? -1 : 0;
}

static int tear_down(void **st) {
    (void)st;
    char cmd[96];
    buf_clear(&good);
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

static void test_same_bits(void **st) {
    (void)st;
    static const struct tiny kinds[] = {{"llama", GPU_F32, GPU_F32, true, 256},   {"qwen2", GPU_BF16, GPU_F16, false, 256}, {"qwen3", GPU_Q8_0, GPU_Q8_0, true, 256},
                                        {"llama", GPU_Q5_1, GPU_Q4_0, true, 256}, {"llama", GPU_F16, GPU_F16, false, 256}};
    char other[128];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        snprintf(other, sizeof other, "%s/kind%zu.gguf", dir, i);
        OK(tiny_write(other, kinds[i], &e));
        assert_true(open_and_compare(other)); /* made */
        assert_true(open_and_compare(other)); /* found */
        unlink(other);
    }
    assert_int_equal(count(".packed"), 5);
    lm_images_sweep(images); /* their files are gone */
    assert_int_equal(count(".packed"), 0);
    assert_int_equal(count(".known"), 0);
    assert_true(open_and_compare(path));
    assert_int_equal(e.text[0], 0);
    lm_images_sweep(images);
    assert_int_equal(count(".packed"), 1);
    file_bytes(&good, image);
}

static void put(const void *p, size_t n) {
    OK(file_write(image, p, n, 0600, &e));
}

static void is_made_again(const char *why) {
    assert_true(open_and_compare(path));
    if (!strstr(e.text, why))
        fail_msg("\"%s\" does not say %s", e.text, why);
    struct buf b;
    file_bytes(&b, image);
    assert_int_equal(b.len, good.len);
    assert_memory_equal(b.data, good.data, b.len);
    buf_clear(&b);
    assert_int_equal(count(".bad"), 1);
    assert_true(open_and_compare(path));
    assert_int_equal(e.text[0], 0);
}

static void test_damaged(void **st) {
    (void)st;
    put(good.data, good.len - 64);
    is_made_again("length is not right");
    put(good.data, 100);
    is_made_again("shorter than its header");
    put("", 0);
    is_made_again("shorter than its header");
    const struct {
        size_t at;
        const char *why;
    } flips[] = {{0, "not a packed image"}, {16, "another version"}, {20, "byte order"}, {30, "another model's"}, {56, "header"}, {80, "header"}, {100, "header"},
                 {2000, "header"}, {IMAGE_HEADER, "damaged"}, {good.len / 2, "damaged"}, {good.len - 1, "damaged"}};
    for (size_t i = 0; i < sizeof flips / sizeof *flips; i++) {
        uint8_t *p = mem_dup(good.data, good.len);
        p[flips[i].at] ^= 0x10;
        put(p, good.len);
        mem_free(p);
        is_made_again(flips[i].why);
    }
    lm_images_sweep(images);
    assert_int_equal(count(".bad"), 0);
    assert_int_equal(count(".packed"), 1);
}

/* What is remembered of a file holds while the file is the same, and not if it changed in the second it was read. */
static void test_known(void **st) {
    (void)st;
    struct lm_model *m;
    struct lm_hashes h, h2;
    uint8_t ident[32] = {1}, other[32] = {2}, base[32] = {3}, got[32];
    image_remember(images, path, ident, base, 5000);
    assert_true(image_known(got, images, path, ident, 4000));
    assert_memory_equal(got, base, 32);
    assert_false(image_known(got, images, path, ident, 4001)); /* changed less than a second before */
    assert_false(image_known(got, images, path, other, 4000)); /* another file, or the same one changed */
    assert_false(image_known(got, images, dir, ident, 4000));
    wait_second();
    OK(lm_model_open_images(&m, path, images, &e));
    OK(lm_model_hashes(&h, m, &e));
    lm_model_free(m);
    /* same length, one weight's bit changed, mtime set back: ctime tells */
    struct stat before;
    struct buf b;
    assert_int_equal(stat(path, &before), 0);
    file_bytes(&b, path);
    FILE *f = fopen(path, "r+");
    assert_true(f && !fseek(f, (long)b.len - 40, SEEK_SET) && fputc(b.data[b.len - 40] ^ 1, f) != EOF && !fclose(f));
    const struct timespec t[2] = {before.st_atim, before.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
    OK(lm_model_open_images(&m, path, images, &e));
    OK(lm_model_hashes(&h2, m, &e));
    lm_model_free(m);
    assert_memory_not_equal(h.base, h2.base, 32);
    OK(file_write(path, b.data, b.len, 0600, &e));
    buf_clear(&b);
    assert_true(open_and_compare(path));
    lm_images_sweep(images);
    assert_int_equal(count(".packed"), 1);
}

static int in_child(void (*body)(void)) {
    int status = -1;
    pid_t p = fork();
    if (!p) {
        body();
        _exit(0);
    }
    assert_true(p > 0 && waitpid(p, &status, 0) == p);
    return status;
}

static void full_disk(void) {
    const struct rlimit l = {8192, 8192};
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &l) || open_and_compare(path) || !e.text[0])
        _exit(1);
}

/* Where no image can be written the weights are packed in memory, and the note says why. */
static void test_no_room(void **st) {
    (void)st;
    empty();
    assert_int_equal(in_child(full_disk), 0);
    assert_int_equal(count(".packed"), 0);
    empty();
    OK(file_write(images, "a file where the folder should be", 10, 0600, &e));
    assert_false(open_and_compare(path));
    assert_true(e.text[0] != 0);
    unlink(images);
    if (geteuid() == 0)
        return; /* root may write anywhere */
    assert_int_equal(mkdir(images, 0500), 0);
    assert_false(open_and_compare(path));
    assert_true(e.text[0] != 0);
    chmod(images, 0700);
}

static void test_two_at_once(void **st) {
    (void)st;
    for (int round = 0; round < 10; round++) {
        empty();
        pid_t p[3];
        for (int i = 0; i < 3; i++)
            if (!(p[i] = fork()))
                _exit(open_and_compare(path) ? 0 : 1);
        for (int i = 0; i < 3; i++) {
            int status;
            assert_true(waitpid(p[i], &status, 0) == p[i]);
            assert_int_equal(status, 0);
        }
        struct buf b;
        assert_true(open_and_compare(path));
        file_bytes(&b, image);
        assert_int_equal(b.len, good.len);
        assert_memory_equal(b.data, good.data, b.len);
        buf_clear(&b);
        assert_int_equal(count(".packed"), 1);
        assert_int_equal(count(".bad"), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_bits), cmocka_unit_test(test_damaged), cmocka_unit_test(test_known), cmocka_unit_test(test_no_room),
                                       cmocka_unit_test(test_two_at_once)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
