#include "tests/test.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"
#include "store/blob.h"
#include "store/store.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static struct err e;
static char dir[64], path[128];

static int make_dir(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/loam-test-store-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
    (void)state;
    char cmd[100];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

static const char *in(const char *name) {
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static bool collect(void *ctx, const struct store_item *item) {
    struct buf *b = ctx;
    if (buf_add(b, item->key, item->klen, NULL) || buf_byte(b, ' ', NULL))
        return false;
    return b->len < 60;
}

static void assert_range(struct store *s, const struct store_range *r, const char *keys) {
    struct buf b = BUF_INIT(100);
    OK(store_each(s, TABLE_FLOW, r, collect, &b, &e));
    assert_string_equal(b.data ? (char *)b.data : "", keys);
    buf_clear(&b);
}

static void tables(void **state) {
    (void)state;
    struct store *s, *twice;
    struct store_batch *b;
    struct buf v = BUF_INIT(1 << 20), k = BUF_INIT(1000);
    OK(store_open(&s, in("a/b/store"), &e));
    FAILS(LOAM_EBUSY, store_open(&twice, path, &e));
    static const char *const keys[] = {"a/1", "a/2", "b/1", "b/10", "b/2", "c"};
    for (int i = 0; i < 6; i++)
        OK(store_put(s, TABLE_FLOW, keys[i], strlen(keys[i]), &i, sizeof i, &e));
    OK(store_get(s, TABLE_FLOW, "b/2", 3, &v, &e));
    assert_int_equal(v.data[0], 4);
    FAILS(LOAM_ENOTFOUND, store_get(s, TABLE_FLOW, "b/3", 3, &v, &e));
    FAILS(LOAM_ENOTFOUND, store_has(s, TABLE_JOB, "b/2", 3, &e));
    FAILS(LOAM_EINVAL, store_has(s, TABLE_FLOW, "", 0, &e));
    char longer[STORE_KEY_MAX + 1] = "x";
    FAILS(LOAM_EINVAL, store_put(s, TABLE_FLOW, longer, sizeof longer, "", 0, &e));
    OK(store_put(s, TABLE_JOB, longer, STORE_KEY_MAX, "", 0, &e));

    assert_range(s, NULL, "a/1 a/2 b/1 b/10 b/2 c ");
    assert_range(s, &(struct store_range){.prefix = "b/", .plen = 2}, "b/1 b/10 b/2 ");
    assert_range(s, &(struct store_range){.prefix = "b/", .plen = 2, .after = "b/1", .alen = 3}, "b/10 b/2 ");
    assert_range(s, &(struct store_range){.prefix = "b/", .plen = 2, .backwards = true}, "b/2 b/10 b/1 ");
    assert_range(s, &(struct store_range){.prefix = "b/", .plen = 2, .after = "b/2", .alen = 3, .backwards = true}, "b/10 b/1 ");
    assert_range(s, &(struct store_range){.after = "b/3", .alen = 3}, "c ");
    assert_range(s, &(struct store_range){.prefix = "d", .plen = 1}, "");
    assert_range(s, &(struct store_range){.prefix = "d", .plen = 1, .backwards = true}, "");
    assert_range(s, &(struct store_range){.backwards = true}, "c b/2 b/10 b/1 a/2 a/1 ");
    OK(store_last(s, TABLE_FLOW, "b/", 2, &k, &v, &e));
    assert_string_equal((char *)k.data, "b/2");
    OK(store_put(s, TABLE_ROW, "\xff\xff", 2, "x", 1, &e));
    OK(store_last(s, TABLE_ROW, "\xff", 1, &k, NULL, &e));
    FAILS(LOAM_ENOTFOUND, store_last(s, TABLE_ROW, "\xfe", 1, &k, NULL, &e));

    /* A batch is all or nothing. */
    OK(store_batch_new(&b, &e));
    OK(store_batch_put(b, TABLE_FLOW, "d", 1, "1", 1, &e));
    OK(store_batch_put_new(b, TABLE_FLOW, "c", 1, "2", 1, &e));
    FAILS(LOAM_EEXIST, store_commit(s, b, &e));
    FAILS(LOAM_ENOTFOUND, store_has(s, TABLE_FLOW, "d", 1, &e));
    OK(store_batch_new(&b, &e));
    OK(store_batch_expect(b, TABLE_FLOW, "d", 1, NULL, 0, &e));
    OK(store_batch_put_new(b, TABLE_FLOW, "d", 1, "1", 1, &e));
    OK(store_batch_expect(b, TABLE_FLOW, "d", 1, "1", 1, &e));
    OK(store_batch_del_prefix(b, TABLE_FLOW, "b/", 2, &e));
    OK(store_batch_del(b, TABLE_FLOW, "zzz", 3, &e));
    OK(store_commit(s, b, &e));
    assert_range(s, NULL, "a/1 a/2 c d ");
    OK(store_batch_new(&b, &e));
    OK(store_batch_expect(b, TABLE_FLOW, "d", 1, "2", 1, &e));
    FAILS(LOAM_ESTATE, store_commit(s, b, &e));

    /* The disk is full: nothing of it, and the store goes on. */
    store_test_fail_commit(s, 1);
    FAILS(LOAM_ENOSPACE, store_put(s, TABLE_FLOW, "e", 1, "1", 1, &e));
    FAILS(LOAM_ENOTFOUND, store_has(s, TABLE_FLOW, "e", 1, &e));
    OK(store_put(s, TABLE_FLOW, "e", 1, "1", 1, &e));
    struct store_use use;
    OK(store_usage(s, &use, &e));
    assert_int_equal(use.entries[TABLE_FLOW], 5);
    store_close(s);

    OK(store_open(&s, path, &e));
    OK(store_has(s, TABLE_FLOW, "e", 1, &e));
    /* A newer format is refused. */
    OK(store_put(s, TABLE_META, "format", 6, "\0\0\0\2", 4, &e));
    store_close(s);
    FAILS(LOAM_EVERSION, store_open(&s, path, &e));
    buf_clear(&v);
    buf_clear(&k);
}

static void del_many(void **state) {
    (void)state;
    struct store *s;
    struct store_batch *b;
    OK(store_open(&s, in("many"), &e));
    OK(store_batch_new(&b, &e));
    for (uint32_t i = 0; i < 3000; i++) {
        uint8_t key[5] = {(uint8_t)(i % 3)};
        put_be32(key + 1, i);
        OK(store_batch_put(b, TABLE_ROW, key, 5, path, 100, &e));
    }
    OK(store_commit(s, b, &e));
    OK(store_batch_new(&b, &e));
    OK(store_batch_del_prefix(b, TABLE_ROW, "\1", 1, &e));
    OK(store_commit(s, b, &e));
    struct store_use use;
    OK(store_usage(s, &use, &e));
    assert_int_equal(use.entries[TABLE_ROW], 2000);
    FAILS(LOAM_ENOTFOUND, store_last(s, TABLE_ROW, "\1", 1, &(struct buf)BUF_INIT(10), NULL, &e));
    OK(store_batch_new(&b, &e));
    OK(store_batch_del_prefix(b, TABLE_ROW, "", 0, &e));
    OK(store_commit(s, b, &e));
    OK(store_usage(s, &use, &e));
    assert_int_equal(use.entries[TABLE_ROW], 0);
    store_close(s);
}

/* Many writers and readers while the map grows sixfold. */
struct worker {
    struct store *s;
    int id, bad;
};

static void *work(void *arg) {
    struct worker *w = arg;
    struct buf v = BUF_INIT(1 << 20);
    uint8_t *big = mem_zalloc(60000);
    for (uint32_t i = 0; i < 25; i++) {
        uint8_t key[8];
        put_be32(key, (uint32_t)w->id);
        put_be32(key + 4, i);
        memset(big, (int)(i + 1), 60000);
        w->bad += store_put(w->s, TABLE_CALL, key, 8, big, 60000, NULL) != LOAM_OK;
        for (uint32_t j = 0; j <= i; j++) {
            put_be32(key + 4, j);
            w->bad += store_get(w->s, TABLE_CALL, key, 8, &v, NULL) || v.len != 60000 || v.data[59999] != j + 1;
        }
    }
    mem_free(big);
    buf_clear(&v);
    return NULL;
}

static void counted(void *ctx, enum loam_status st, const struct err *err) {
    (void)err;
    *(int *)ctx += st == LOAM_OK;
}

static void threads(void **state) {
    (void)state;
    struct store *s;
    struct worker w[4];
    pthread_t t[4];
    int later = 0;
    store_test_first_map(1 << 20);
    OK(store_open(&s, in("threads"), &e));
    store_test_first_map(0);
    for (int i = 0; i < 4; i++) {
        w[i] = (struct worker){s, i, 0};
        assert_int_equal(pthread_create(&t[i], NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < 50; i++) {
        struct store_batch *b;
        OK(store_batch_new(&b, &e));
        OK(store_batch_put_new(b, TABLE_JOB, &i, sizeof i, "", 0, &e));
        OK(store_commit_later(s, b, counted, &later, &e));
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(w[i].bad, 0);
    }
    struct store_use use;
    OK(store_usage(s, &use, &e));
    assert_int_equal(use.entries[TABLE_CALL], 100);
    assert_true(use.map_bytes >= 6 << 20);
    store_close(s); /* waits for what was handed over */
    assert_int_equal(later, 50);
}

/* A process that is killed at any moment loses nothing that store_commit said is durable, and keeps pairs whole. */
static void killed(void **state) {
    (void)state;
    in("killed");
    for (int round = 0; round < 8; round++) {
        int pipes[2];
        assert_int_equal(pipe(pipes), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (!pid) {
            struct store *s;
            if (store_open(&s, path, NULL))
                _exit(1);
            for (uint32_t i = 0;; i++) {
                struct store_batch *b;
                uint8_t key[4];
                put_be32(key, i);
                if (store_batch_new(&b, NULL) || store_batch_put(b, TABLE_FLOW, key, 4, &i, 4, NULL) ||
                    store_batch_put(b, TABLE_JOB, key, 4, &i, 4, NULL) || store_commit(s, b, NULL) || write(pipes[1], &i, 4) != 4)
                    _exit(1);
            }
        }
        close(pipes[1]);
        uint32_t last = 0, got = 0;
        for (int n = 0; n < 3 + round * 5; n++)
            if (read(pipes[0], &last, 4) == 4)
                got = last;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        while (read(pipes[0], &last, 4) == 4)
            got = last;
        close(pipes[0]);
        struct store *s;
        OK(store_open(&s, path, &e));
        struct buf a = BUF_INIT(100), b = BUF_INIT(100);
        OK(store_last(s, TABLE_FLOW, NULL, 0, &a, NULL, &e));
        OK(store_last(s, TABLE_JOB, NULL, 0, &b, NULL, &e));
        assert_memory_equal(a.data, b.data, 4);
        assert_true(be32(a.data) >= got);
        buf_clear(&a);
        buf_clear(&b);
        store_close(s);
    }
}

static bool count_blobs(void *ctx, const struct hash32 *h, uint64_t size) {
    (void)h;
    *(uint64_t *)ctx += size;
    return true;
}

static void blobs(void **state) {
    (void)state;
    struct blobs *b;
    struct blob_writer w;
    struct hash32 h, g, wrong = hash_of("x", 1);
    struct buf out = BUF_INIT(1 << 20);
    uint64_t size, sum = 0;
    size_t got;
    char piece[8];
    OK(blobs_open(&b, in("blobs"), &e));
    OK(blob_put(b, &h, "hello world", 11, &e));
    struct hash32 is = hash_of("hello world", 11);
    assert_true(hash_eq(&h, &is));
    OK(blob_begin(&w, b, &e));
    OK(blob_write(&w, "hello ", 6, &e));
    OK(blob_write(&w, "world", 5, &e));
    OK(blob_finish(&w, &g, &is, &e)); /* there already */
    OK(blob_begin(&w, b, &e));
    OK(blob_write(&w, "hello", 5, &e));
    FAILS(LOAM_EHASH, blob_finish(&w, &g, &is, &e));
    assert_false(blob_has(b, &wrong));
    assert_true(blob_has(b, &h));
    OK(blob_size(b, &h, &size, &e));
    assert_int_equal(size, 11);
    OK(blob_get(b, &h, &out, &e));
    assert_string_equal((char *)out.data, "hello world");
    out.max = 5;
    FAILS(LOAM_ELIMIT, blob_get(b, &h, &out, &e));
    out.max = 100;
    OK(blob_range(b, &h, 6, piece, 8, &got, &e));
    assert_int_equal(got, 5);
    assert_memory_equal(piece, "world", 5);
    OK(blob_range(b, &h, 11, piece, 8, &got, &e));
    assert_int_equal(got, 0);
    FAILS(LOAM_ENOTFOUND, blob_get(b, &wrong, &out, &e));
    OK(blob_put(b, &g, "", 0, &e));
    OK(blob_get(b, &g, &out, &e));
    assert_int_equal(out.len, 0);
    OK(blob_each(b, count_blobs, &sum, &e));
    assert_int_equal(sum, 11);
    struct file_map m;
    OK(blob_map(b, &h, true, &m, &e));
    assert_int_equal(m.len, 11);
    file_unmap(&m);

    /* Bytes that rotted on the disk are noticed and set aside, and the right ones can be put again. */
    char *p = blob_path(b, &h);
    FILE *f = fopen(p, "r+");
    fputc('H', f);
    fclose(f);
    FAILS(LOAM_EHASH, blob_get(b, &h, &out, &e));
    assert_false(blob_has(b, &h));
    OK(blob_put(b, &h, "hello world", 11, &e));
    OK(blob_get(b, &h, &out, &e));
    mem_free(p);

    /* No room: the write fails, nothing is left over. */
    struct rlimit old, small = {4096, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    char *big = mem_zalloc(10000);
    FAILS(LOAM_ENOSPACE, blob_put(b, &g, big, 10000, &e)); /* EFBIG: no room for it, whoever says so */
    setrlimit(RLIMIT_FSIZE, &old);
    is = hash_of(big, 10000);
    assert_false(blob_has(b, &is));
    OK(blob_put(b, &g, big, 10000, &e));
    mem_free(big);
    OK(blob_del(b, &g, &e));
    OK(blob_del(b, &g, &e));
    /* An unfinished write is swept at the next start. */
    OK(blob_begin(&w, b, &e));
    char *tmp = mem_strdup(w.path);
    blobs_close(b);
    OK(blobs_open(&b, in("blobs"), &e));
    assert_false(file_exists(tmp));
    blob_abandon(&w);
    mem_free(tmp);
    blobs_close(b);
    buf_clear(&out);
}

static enum loam_status one_batch(struct store *s) {
    struct store_batch *b;
    enum loam_status st = store_batch_new(&b, &e);
    if (st)
        return st;
    if ((st = store_batch_put(b, TABLE_FLOW, "k", 1, path, 100, &e))) {
        store_batch_free(b);
        return st;
    }
    return store_commit(s, b, &e);
}

static void without_memory(void **state) {
    (void)state;
    struct store *s;
    struct blobs *b;
    struct hash32 h;
    struct buf v = BUF_INIT(1 << 20);
    char file[128];
    EACH_ALLOCATION(store_open(&s, in("memory"), &e), (void)0);
    EACH_ALLOCATION(one_batch(s), (void)0);
    EACH_ALLOCATION(store_put(s, TABLE_FLOW, "k2", 2, path, 100, &e), (void)0);
    EACH_ALLOCATION((buf_clear(&v), store_get(s, TABLE_FLOW, "k", 1, &v, &e)), (void)0);
    int done = 0;
    struct store_batch *later;
    OK(store_batch_new(&later, &e));
    mem_fail_after(1);
    FAILS(LOAM_ENOMEM, store_commit_later(s, later, counted, &done, &e));
    mem_fail_after(0);
    store_close(s);
    assert_int_equal(done, 0);
    EACH_ALLOCATION(blobs_open(&b, in("memory-blobs"), &e), (void)0);
    EACH_ALLOCATION(blob_put(b, &h, "abc", 3, &e), (void)0);
    EACH_ALLOCATION((buf_clear(&v), blob_get(b, &h, &v, &e)), (void)0);
    char *p = blob_path(b, &h);
    snprintf(file, sizeof file, "%s", p);
    mem_free(p);
    EACH_ALLOCATION(blob_put_file(b, &h, file, &e), (void)0);
    blobs_close(b);
    buf_clear(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tables), cmocka_unit_test(del_many), cmocka_unit_test(threads),
                                       cmocka_unit_test(killed), cmocka_unit_test(blobs), cmocka_unit_test(without_memory)};
    return cmocka_run_group_tests_name("store", tests, make_dir, remove_dir);
}
