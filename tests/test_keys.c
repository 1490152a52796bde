#include "tests/test.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"
#include "record/sign.h"
#include "store/keyring.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

static struct err e;

/* The test vectors of the Web3 Secret Storage page: password "testpassword". */
static const char secret_hex[] = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
static const char pbkdf2_file[] =
    "{\"crypto\":{\"cipher\":\"aes-128-ctr\",\"cipherparams\":{\"iv\":\"6087dab2f9fdbbfaddc31a909735c1e6\"},"
    "\"ciphertext\":\"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46\",\"kdf\":\"pbkdf2\","
    "\"kdfparams\":{\"c\":262144,\"dklen\":32,\"prf\":\"hmac-sha256\",\"salt\":\"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd\"},"
    "\"mac\":\"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2\"},\"id\":\"3198bc9c-6672-5ab3-d995-4942343ae5b6\",\"version\":3}";
static const char scrypt_file[] =
    "{\"crypto\":{\"cipher\":\"aes-128-ctr\",\"cipherparams\":{\"iv\":\"83dbcc02d8ccb40e466191a123791e0e\"},"
    "\"ciphertext\":\"d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c\",\"kdf\":\"scrypt\","
    "\"kdfparams\":{\"dklen\":32,\"n\":262144,\"p\":8,\"r\":1,\"salt\":\"ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19\"},"
    "\"mac\":\"2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097\"},\"id\":\"3198bc9c-6672-5ab3-d995-4942343ae5b6\",\"version\":3}";

static void known_files(void **state) {
    (void)state;
    uint8_t secret[32], good[32];
    struct addr20 a;
    OK(hex_decode(good, 32, secret_hex, &e));
    OK(keystore_open(secret, pbkdf2_file, sizeof pbkdf2_file - 1, "testpassword", 12, &e));
    assert_memory_equal(secret, good, 32);
    memset(secret, 1, 32);
    OK(keystore_open(secret, scrypt_file, sizeof scrypt_file - 1, "testpassword", 12, &e));
    assert_memory_equal(secret, good, 32);
    FAILS(LOAM_EPERM, keystore_open(secret, pbkdf2_file, sizeof pbkdf2_file - 1, "testpasswort", 12, &e));
    FAILS(LOAM_ENOTFOUND, keystore_address(&a, scrypt_file, sizeof scrypt_file - 1, &e));
}

static void seal_and_open(void **state) {
    (void)state;
    struct buf b = BUF_INIT(KEYSTORE_JSON_MAX);
    uint8_t secret[32], back[32];
    struct addr20 a, c;
    OK(hex_decode(secret, 32, secret_hex, &e));
    OK(keystore_seal(&b, secret, "pw", 2, KEYSTORE_LIGHT, &e));
    OK(keystore_open(back, (char *)b.data, b.len, "pw", 2, &e));
    assert_memory_equal(secret, back, 32);
    OK(keystore_address(&a, (char *)b.data, b.len, &e));
    OK(secret_address(&c, secret, &e));
    assert_true(addr_eq(&a, &c));
    FAILS(LOAM_EPERM, keystore_open(back, (char *)b.data, b.len, "pW", 2, &e));
    FAILS(LOAM_EINVAL, keystore_seal(&b, secret, "", 0, KEYSTORE_LIGHT, &e));
    uint8_t zero[32] = {0};
    FAILS(LOAM_EINVAL, keystore_seal(&b, zero, "pw", 2, KEYSTORE_LIGHT, &e));

    /* Every way to break a file has its own code. */
    static const struct {
        const char *from, *to;
        enum loam_status st;
    } edits[] = {
        {"\"version\":3", "\"version\":1", LOAM_EUNSUPPORTED},
        {"\"version\":3", "\"version\":x", LOAM_EPARSE},
        {"aes-128-ctr", "aes-128-cbc", LOAM_EUNSUPPORTED},
        {"\"kdf\":\"scrypt\"", "\"kdf\":\"script\"", LOAM_EUNSUPPORTED},
        {"\"n\":4096", "\"n\":4095", LOAM_EPARSE},
        {"\"n\":4096", "\"n\":-409", LOAM_EPARSE},
        {"\"n\":4096,\"p\":6", "\"n\":2147483648,\"p\":6", LOAM_ELIMIT},
        {"\"r\":8", "\"r\":0", LOAM_ELIMIT},
        {"\"p\":6", "\"p\":4096", LOAM_ELIMIT},
        {"\"dklen\":32", "\"dklen\":64", LOAM_ELIMIT},
        {"\"mac\":\"", "\"mac\":\"g", LOAM_EPARSE},
        {"\"salt\":\"", "\"salt\":\"0", LOAM_EPARSE},
        {"\"address\":\"", "\"address\":\"0", LOAM_EPARSE},
        {"\"address\":\"00", "\"address\":\"01", LOAM_EVERIFY},
        {"\"ciphertext\":\"", "\"ciphertext\":\"00", LOAM_EPARSE},
        {"\"crypto\"", "\"cripto\"", LOAM_EPARSE},
    };
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        char text[2048];
        const char *json = (char *)b.data, *from = edits[i].from, *at = strstr(json, from);
        if (edits[i].st == LOAM_EVERIFY) {
            /* whatever the first address digits are */
            from = "\"address\":\"00";
            at = strstr(json, "\"address\":\"");
        }
        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - json), json, edits[i].to, at + strlen(from));
        enum loam_status st = keystore_open(back, text, strlen(text), "pw", 2, &e);
        if (st != edits[i].st)
            fail_msg("%s: %s, not %s", edits[i].to, status_name(st), status_name(edits[i].st));
    }
    for (size_t n = 0; n + 2 < b.len; n++)
        FAILS(LOAM_EPARSE, keystore_open(back, (char *)b.data, n, "pw", 2, &e));
    buf_clear(&b);
}

static char dir[64];

static int make_dir(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/loam-test-keys-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
    (void)state;
    char cmd[100];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

static void ring(void **state) {
    (void)state;
    struct keyring *k;
    struct keyring_info info, *list;
    struct addr20 a, b;
    struct sig65 s;
    struct hash32 d = hash_of("x", 1);
    uint8_t secret[32], out[32];
    size_t n;
    char path[128];
    OK(keyring_open(&k, dir, KEYSTORE_LIGHT, &e));
    OK(keyring_new(k, "anna", "one", &a, &e));
    OK(keyring_sign(k, "anna", &d, &s, &e));
    OK(sig_check(&a, &d, &s, &e));
    FAILS(LOAM_EEXIST, keyring_new(k, "anna", "two", &b, &e));
    FAILS(LOAM_EINVAL, keyring_new(k, "", "two", &b, &e));
    FAILS(LOAM_EINVAL, keyring_new(k, "../x", "two", &b, &e));
    FAILS(LOAM_EINVAL, keyring_new(k, ".x", "two", &b, &e));
    FAILS(LOAM_EINVAL, keyring_new(k, "bert", "", &b, &e));
    FAILS(LOAM_ENOTFOUND, keyring_sign(k, "bert", &d, &s, &e));
    snprintf(path, sizeof path, "%s/anna.json", dir);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);

    OK(keyring_import_file(k, "old", pbkdf2_file, sizeof pbkdf2_file - 1, "testpassword", &b, &e));
    FAILS(LOAM_EPERM, keyring_import_file(k, "old2", pbkdf2_file, sizeof pbkdf2_file - 1, "nope", &b, &e));
    OK(hex_decode(secret, 32, secret_hex, &e));
    FAILS(LOAM_EEXIST, keyring_import(k, "same", secret, "pw", &b, &e));
    assert_non_null(strstr(e.text, "old"));
    FAILS(LOAM_EPERM, keyring_sign(k, "old", &d, &s, &e));
    FAILS(LOAM_EPERM, keyring_unlock(k, "old", "wrong", NULL, &e));
    struct u256 limit = u256_from(1000);
    OK(keyring_unlock(k, "old", "testpassword", &limit, &e));
    OK(keyring_spend(k, "old", u256_from(600), &e));
    FAILS(LOAM_EPERM, keyring_spend(k, "old", u256_from(401), &e));
    OK(keyring_spend(k, "old", u256_from(400), &e));
    FAILS(LOAM_EPERM, keyring_unlock(k, "old", "wrong", NULL, &e));
    FAILS(LOAM_EPERM, keyring_spend(k, "old", u256_from(1), &e));
    OK(keyring_find(k, "old", &info, &e));
    assert_true(info.unlocked && info.limited && info.spent.w[0] == 1000);
    keyring_lock(k, NULL);
    FAILS(LOAM_EPERM, keyring_sign(k, "anna", &d, &s, &e));
    keyring_free(k);

    /* Another life finds them, locked. */
    OK(keyring_open(&k, dir, KEYSTORE_LIGHT, &e));
    OK(keyring_list(k, &list, &n, &e));
    assert_int_equal(n, 2);
    assert_string_equal(list[0].name, "anna");
    assert_false(list[0].unlocked);
    mem_free(list);
    OK(keyring_find_address(k, &a, &info, &e));
    assert_string_equal(info.name, "anna");
    OK(keyring_export(k, "old", "testpassword", out, &e));
    assert_memory_equal(out, secret, 32);
    FAILS(LOAM_EPERM, keyring_remove(k, "old", "wrong", &e));
    OK(keyring_remove(k, "old", "testpassword", &e));
    FAILS(LOAM_ENOTFOUND, keyring_find(k, "old", &info, &e));
    struct buf json = BUF_INIT(KEYSTORE_JSON_MAX);
    OK(keyring_backup(k, "anna", &json, &e));
    OK(keystore_open(out, (char *)json.data, json.len, "one", 3, &e));
    buf_clear(&json);
    keyring_free(k);
}

struct race {
    struct keyring *k;
    struct addr20 a;
    int bad;
};

static void *racer(void *arg) {
    struct race *r = arg;
    struct hash32 d = hash_of(&r, sizeof r);
    struct sig65 s;
    for (int i = 0; i < 200; i++) {
        d = hash_of(d.b, 32);
        r->bad += keyring_sign(r->k, "anna", &d, &s, NULL) || sig_check(&r->a, &d, &s, NULL) ||
                  keyring_spend(r->k, "anna", u256_from(1), NULL);
    }
    return NULL;
}

static void threads(void **state) {
    (void)state;
    struct race r[4] = {{0}};
    struct keyring_info info;
    pthread_t t[4];
    OK(keyring_open(&r[0].k, dir, KEYSTORE_LIGHT, &e));
    OK(keyring_unlock(r[0].k, "anna", "one", NULL, &e));
    OK(keyring_find(r[0].k, "anna", &info, &e));
    for (int i = 0; i < 4; i++) {
        r[i].k = r[0].k;
        r[i].a = info.address;
        assert_int_equal(pthread_create(&t[i], NULL, racer, &r[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(r[i].bad, 0);
    }
    OK(keyring_find(r[0].k, "anna", &info, &e));
    assert_int_equal(info.spent.w[0], 800);
    keyring_free(r[0].k);
}

static void without_memory(void **state) {
    (void)state;
    struct keyring *k;
    struct keyring_info *list, info;
    struct addr20 a;
    size_t n;
    struct u256 limit = u256_from(1);
    EACH_ALLOCATION(keyring_open(&k, dir, KEYSTORE_LIGHT, &e), (void)0);
    EACH_ALLOCATION(keyring_new(k, "mem", "pw", &a, &e), (void)0);
    EACH_ALLOCATION(keyring_list(k, &list, &n, &e), mem_free(list));
    keyring_lock(k, "mem");
    EACH_ALLOCATION(keyring_unlock(k, "mem", "pw", &limit, &e), (void)0);
    OK(keyring_find(k, "mem", &info, &e));
    assert_true(info.unlocked);
    EACH_ALLOCATION(keyring_remove(k, "mem", "pw", &e), (void)0);
    keyring_free(k);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_files), cmocka_unit_test(seal_and_open), cmocka_unit_test(ring),
                                       cmocka_unit_test(threads), cmocka_unit_test(without_memory)};
    return cmocka_run_group_tests_name("keys", tests, make_dir, remove_dir);
}
