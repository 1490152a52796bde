#include "store/keyring.h"

#include "base/entropy.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "record/sign.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/banned.h"

struct key {
    struct keyring_info info;
    uint8_t *secret; /* NULL when locked; sodium_malloc: guarded, locked in memory, not dumped */
};

struct keyring {
    char *dir;
    enum keystore_cost cost;
    pthread_mutex_t lock; /* keys and their contents; never held while scrypt runs */
    struct key *keys[KEYRING_KEYS_MAX];
    size_t count;
};

static bool name_ok(const char *name) {
    size_t n = strlen(name);
    if (!n || n >= KEYRING_NAME_MAX || name[0] == '.')
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'))
            return false;
    }
    return true;
}

static char *path_of(struct keyring *k, const char *name) {
    return mem_printf("%s/%s.json", k->dir, name);
}

static struct key *find(struct keyring *k, const char *name) {
    for (size_t i = 0; i < k->count; i++)
        if (!strcmp(k->keys[i]->info.name, name))
            return k->keys[i];
    return NULL;
}

static struct key *find_address(struct keyring *k, const struct addr20 *a) {
    for (size_t i = 0; i < k->count; i++)
        if (addr_eq(&k->keys[i]->info.address, a))
            return k->keys[i];
    return NULL;
}

static enum loam_status no_key(struct err *err, const char *name) {
    return err_set(err, LOAM_ENOTFOUND, "no key named %.63s", name);
}

static void forget(struct key *key) {
    if (key->secret)
        sodium_free(key->secret); /* wipes */
    key->secret = NULL;
    key->info.unlocked = key->info.limited = false;
    key->info.limit = key->info.spent = U256_ZERO;
}

static enum loam_status remember(struct key *key, const uint8_t secret[32], const struct u256 *limit, struct err *err) {
    if (!key->secret) {
        if (!(key->secret = sodium_malloc(32)))
            return err_set(err, LOAM_ENOMEM, "no guarded memory for a key");
        memcpy(key->secret, secret, 32);
    }
    key->info.unlocked = true;
    key->info.limited = limit != NULL;
    key->info.limit = limit ? *limit : U256_ZERO;
    key->info.spent = U256_ZERO;
    return LOAM_OK;
}

/* A key object that is not in the ring yet. */
static enum loam_status make(struct keyring *k, const char *name, const struct addr20 *a, struct key **out, struct err *err) {
    if (k->count == KEYRING_KEYS_MAX)
        return err_set(err, LOAM_ELIMIT, "more than %d keys in %s", KEYRING_KEYS_MAX, k->dir);
    struct key *key = mem_zalloc(sizeof *key);
    if (!key)
        return err_set(err, LOAM_ENOMEM, "a key");
    memcpy(key->info.name, name, strlen(name) + 1);
    key->info.address = *a;
    *out = key;
    return LOAM_OK;
}

static enum loam_status scan(struct keyring *k, struct err *err) {
    DIR *d = opendir(k->dir);
    if (!d)
        return err_errno(err, LOAM_EIO, "cannot read %s", k->dir);
    enum loam_status st = LOAM_OK;
    for (struct dirent *e; !st && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        char name[KEYRING_NAME_MAX];
        if (n < 6 || n - 5 >= sizeof name || strcmp(e->d_name + n - 5, ".json"))
            continue;
        memcpy(name, e->d_name, n - 5);
        name[n - 5] = 0;
        char *path = path_of(k, name);
        if (!path) {
            st = err_set(err, LOAM_ENOMEM, "a path");
            break;
        }
        struct buf b = BUF_INIT(KEYSTORE_JSON_MAX);
        struct addr20 a;
        struct err why;
        if (!name_ok(name)) {
            log_warn("keys", "%s is left out: its name is none for a key", path);
        } else if (file_read(&b, path, &why) || keystore_address(&a, (char *)b.data, b.len, &why)) {
            log_warn("keys", "%s is left out: %s", path, why.text); /* said, never hidden: it may hold money */
        } else {
            struct key *key;
            if (!(st = make(k, name, &a, &key, err)))
                k->keys[k->count++] = key;
        }
        buf_clear(&b);
        mem_free(path);
    }
    closedir(d);
    return st;
}

enum loam_status keyring_open(struct keyring **out, const char *dir, enum keystore_cost cost, struct err *err) {
    if (sodium_init() < 0)
        return err_set(err, LOAM_EINTERNAL, "libsodium does not start");
    struct keyring *k = mem_zalloc(sizeof *k);
    if (!k)
        return err_set(err, LOAM_ENOMEM, "the keyring");
    pthread_mutex_init(&k->lock, NULL);
    k->cost = cost;
    enum loam_status st = (k->dir = mem_strdup(dir)) ? file_mkdirs(dir, err) : err_set(err, LOAM_ENOMEM, "a path");
    if (!st)
        st = scan(k, err);
    if (st) {
        keyring_free(k);
        return st;
    }
    *out = k;
    return LOAM_OK;
}

void keyring_free(struct keyring *k) {
    if (!k)
        return;
    for (size_t i = 0; i < k->count; i++) {
        forget(k->keys[i]);
        mem_free(k->keys[i]);
    }
    pthread_mutex_destroy(&k->lock);
    mem_free(k->dir);
    mem_free(k);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct keyring_info *)a)->name, ((const struct keyring_info *)b)->name);
}

enum loam_status keyring_list(struct keyring *k, struct keyring_info **out, size_t *count, struct err *err) {
    pthread_mutex_lock(&k->lock);
    struct keyring_info *l = mem_array(k->count + 1, sizeof *l);
    for (size_t i = 0; l && i < k->count; i++)
        l[i] = k->keys[i]->info;
    *count = k->count;
    pthread_mutex_unlock(&k->lock);
    if (!l)
        return err_set(err, LOAM_ENOMEM, "a list of keys");
    qsort(l, *count, sizeof *l, by_name);
    *out = l;
    return LOAM_OK;
}

enum loam_status keyring_find(struct keyring *k, const char *name, struct keyring_info *out, struct err *err) {
    pthread_mutex_lock(&k->lock);
    struct key *key = find(k, name);
    if (key)
        *out = key->info;
    pthread_mutex_unlock(&k->lock);
    return key ? LOAM_OK : no_key(err, name);
}

enum loam_status keyring_find_address(struct keyring *k, const struct addr20 *a, struct keyring_info *out, struct err *err) {
    char hex[ADDR_HEX_MAX];
    pthread_mutex_lock(&k->lock);
    struct key *key = find_address(k, a);
    if (key)
        *out = key->info;
    pthread_mutex_unlock(&k->lock);
    return key ? LOAM_OK : err_set(err, LOAM_ENOTFOUND, "no key with the address %s", addr_hex(hex, a));
}

static enum loam_status check_new(struct keyring *k, const char *name, const struct addr20 *a, struct err *err) {
    struct key *same = find_address(k, a);
    if (find(k, name))
        return err_set(err, LOAM_EEXIST, "a key named %s exists already", name);
    if (same)
        return err_set(err, LOAM_EEXIST, "this key is there already, named %s", same->info.name);
    return LOAM_OK;
}

/* Seals, writes the file, takes the key into the ring. */
static enum loam_status take_in(struct keyring *k, const char *name, const uint8_t secret[32], const char *password,
                                struct addr20 *out, bool unlock, struct err *err) {
    struct buf json = BUF_INIT(KEYSTORE_JSON_MAX);
    struct key *key = NULL;
    struct addr20 a;
    if (!name_ok(name))
        return err_set(err, LOAM_EINVAL, "a key's name is 1 to %d of a-z A-Z 0-9 - _ . and does not start with a dot", KEYRING_NAME_MAX - 1);
    enum loam_status st = secret_address(&a, secret, err);
    if (st)
        return st;
    pthread_mutex_lock(&k->lock);
    st = check_new(k, name, &a, err);
    pthread_mutex_unlock(&k->lock);
    if (st || (st = keystore_seal(&json, secret, password, strlen(password), k->cost, err)))
        return st;
    char *path = path_of(k, name);
    pthread_mutex_lock(&k->lock);
    /* Asked again: another thread may have been faster while scrypt ran. The file is written under the lock for the same
     * reason; it is small. */
    if (!path)
        st = err_set(err, LOAM_ENOMEM, "a path");
    else if (!(st = check_new(k, name, &a, err)) && file_exists(path))
        st = err_set(err, LOAM_EEXIST, "%s exists already", path);
    /* All memory first: once the file is there nothing may fail any more. */
    if (!st && !(st = make(k, name, &a, &key, err)) && !(st = unlock ? remember(key, secret, NULL, err) : LOAM_OK) &&
        !(st = file_write(path, json.data, json.len, 0600, err)))
        k->keys[k->count++] = key;
    if (st && key) {
        forget(key);
        mem_free(key);
    }
    pthread_mutex_unlock(&k->lock);
    if (!st && out)
        *out = a;
    mem_free(path);
    buf_clear(&json);
    return st;
}

enum loam_status keyring_new(struct keyring *k, const char *name, const char *password, struct addr20 *out, struct err *err) {
    uint8_t secret[32];
    enum loam_status st;
    do
        st = entropy_fill(secret, 32, err);
    while (!st && !secret_valid(secret)); /* one in 2^127 is not */
    if (!st)
        st = take_in(k, name, secret, password, out, true, err);
    mem_wipe(secret, 32);
    return st;
}

enum loam_status keyring_import(struct keyring *k, const char *name, const uint8_t secret[32], const char *password, struct addr20 *out, struct err *err) {
    return take_in(k, name, secret, password, out, false, err);
}

enum loam_status keyring_import_file(struct keyring *k, const char *name, const char *json, size_t n, const char *password, struct addr20 *out, struct err *err) {
    uint8_t secret[32];
    enum loam_status st = keystore_open(secret, json, n, password, strlen(password), err);
    if (!st)
        st = take_in(k, name, secret, password, out, false, err);
    mem_wipe(secret, 32);
    return st;
}

enum loam_status keyring_backup(struct keyring *k, const char *name, struct buf *out, struct err *err) {
    struct keyring_info info;
    enum loam_status st = keyring_find(k, name, &info, err);
    char *path = NULL;
    if (!st && !(path = path_of(k, name)))
        st = err_set(err, LOAM_ENOMEM, "a path");
    if (!st)
        st = file_read(out, path, err);
    mem_free(path);
    return st;
}

enum loam_status keyring_export(struct keyring *k, const char *name, const char *password, uint8_t out[32], struct err *err) {
    struct buf json = BUF_INIT(KEYSTORE_JSON_MAX);
    enum loam_status st = keyring_backup(k, name, &json, err);
    if (!st && (st = keystore_open(out, (char *)json.data, json.len, password, strlen(password), err)))
        st = err_prefix(err, st, "key %s", name);
    buf_clear(&json);
    return st;
}

enum loam_status keyring_remove(struct keyring *k, const char *name, const char *password, struct err *err) {
    uint8_t secret[32];
    enum loam_status st = keyring_export(k, name, password, secret, err);
    mem_wipe(secret, 32);
    if (st)
        return st;
    char *path = path_of(k, name);
    if (!path)
        return err_set(err, LOAM_ENOMEM, "a path");
    pthread_mutex_lock(&k->lock);
    if (unlink(path) && errno != ENOENT)
        st = err_errno(err, LOAM_EIO, "cannot remove %s", path);
    for (size_t i = 0; !st && i < k->count; i++)
        if (!strcmp(k->keys[i]->info.name, name)) {
            forget(k->keys[i]);
            mem_free(k->keys[i]);
            k->keys[i] = k->keys[--k->count];
            break;
        }
    pthread_mutex_unlock(&k->lock);
    mem_free(path);
    return st;
}

enum loam_status keyring_unlock(struct keyring *k, const char *name, const char *password, const struct u256 *limit, struct err *err) {
    uint8_t secret[32] = {0};
    /* Also for a key that is unlocked already: this sets the limit anew, which only the password's owner may. */
    enum loam_status st = keyring_export(k, name, password, secret, err);
    if (st)
        return st;
    pthread_mutex_lock(&k->lock);
    struct key *key = find(k, name);
    st = key ? remember(key, secret, limit, err) : no_key(err, name);
    pthread_mutex_unlock(&k->lock);
    mem_wipe(secret, 32);
    return st;
}

void keyring_lock(struct keyring *k, const char *name) {
    pthread_mutex_lock(&k->lock);
    for (size_t i = 0; i < k->count; i++)
        if (!name || !strcmp(k->keys[i]->info.name, name))
            forget(k->keys[i]);
    pthread_mutex_unlock(&k->lock);
}

static enum loam_status unlocked(struct keyring *k, const char *name, struct key **out, struct err *err) {
    *out = find(k, name);
    if (!*out)
        return no_key(err, name);
    if (!(*out)->secret)
        return err_set(err, LOAM_EPERM, "key %s is locked; unlock it first", name);
    return LOAM_OK;
}

enum loam_status keyring_limit(struct keyring *k, const char *name, const struct u256 *limit, struct err *err) {
    struct key *key;
    pthread_mutex_lock(&k->lock);
    enum loam_status st = unlocked(k, name, &key, err);
    if (!st) {
        key->info.limited = limit != NULL;
        key->info.limit = limit ? *limit : U256_ZERO;
    }
    pthread_mutex_unlock(&k->lock);
    return st;
}

enum loam_status keyring_sign(struct keyring *k, const char *name, const struct hash32 *digest, struct sig65 *out, struct err *err) {
    struct key *key;
    pthread_mutex_lock(&k->lock);
    enum loam_status st = unlocked(k, name, &key, err);
    if (!st)
        st = sig_make(out, digest, key->secret, err);
    pthread_mutex_unlock(&k->lock);
    return st;
}

enum loam_status keyring_spend(struct keyring *k, const char *name, struct u256 wei, struct err *err) {
    struct key *key;
    pthread_mutex_lock(&k->lock);
    enum loam_status st = unlocked(k, name, &key, err);
    if (!st) {
        struct u256 sum, left;
        bool over = u256_add(&sum, key->info.spent, wei);
        if (over || (key->info.limited && u256_cmp(sum, key->info.limit) > 0)) {
            char a[U256_DEC_MAX + 2], b[U256_DEC_MAX + 2];
            if (u256_sub(&left, key->info.limit, key->info.spent))
                left = U256_ZERO;
            u256_format_coin(a, wei);
            u256_format_coin(b, left);
            st = err_set(err, LOAM_EPERM, "key %s may spend %s more before it is unlocked again, not %s", name, b, a);
        } else {
            key->info.spent = sum;
        }
    }
    pthread_mutex_unlock(&k->lock);
    return st;
}
