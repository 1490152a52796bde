#include "node/keys.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/chain.h"
#include "node/job.h"
#include "node/private.h"
#include "node/socket.h"
#include "node/topic.h"
#include "record/sign.h"
#include "store/keyring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

_Static_assert(KEY_NAME_MAX == KEYRING_NAME_MAX, "key names");
_Static_assert(PASSWORD_MAX <= KEYSTORE_PASSWORD_MAX, "passwords");

struct keys {
    struct keyring *ring;
    uv_mutex_t lock;  /* balances */
    json_t *balances; /* name -> decimal wei, proven at block `seen` */
    uint64_t seen;
    atomic_bool looking;
};

/* The accounts that anvil and hardhat fund; their secrets stand in every manual, so whoever uses them
 * elsewhere is robbed. Source: Foundry's book, anvil, the mnemonic "test test test test test test test test
 * test test test junk". */
static const char *const published[] = {
    "f39fd6e51aad88f6f4ce6ab8827279cfffb92266", "70997970c51812dc3a010c7d01b50e0d17dc79c8",
    "3c44cdddb6a900fa2b585dd299e03d12fa4293bc", "90f79bf6eb2c4f870365e785982e1f101e93b906",
    "15d34aaf54267db7d7c367839aaf71a00a2c6a65", "9965507d1a55bcc2695c58ba16fb37d819b0a4dc",
    "976ea74026e726554db657fa54763abd0c3a0aa9", "14dc79964da2c08b23698b3d3cc7ca32193d9955",
    "23618e81e3f5cdf7f54c3d65f7fbc0abf5b21e8f", "a0ee7a142d267c1f36714e4a8f75612f20a79720"};

static bool is_published(const struct addr20 *a) {
    char hex[41];
    hex_encode(hex, a->b, 20);
    for (size_t i = 0; i < sizeof published / sizeof *published; i++)
        if (strcmp(hex, published[i]) == 0)
            return true;
    return false;
}

static enum loam_status refuse_published(struct node *n, const struct addr20 *a, bool unknown_chain_is_fine,
                                         struct err *err) {
    if (!is_published(a) || node_chain_is_dev(n) || (unknown_chain_is_fine && !node_chain_configured(n)))
        return LOAM_OK;
    char hex[ADDR_HEX_MAX];
    return err_set(err, LOAM_EPERM,
                   "%s is one of anvil's published keys: anybody can spend what it holds; it is used on the "
                   "development chain alone",
                   addr_hex(hex, a));
}

static void publish(struct node *n) {
    uv_mutex_lock(&n->p->publish);
    json_t *list = keys_list(n);
    topic_set(n, "keys", list ? json_pack("{s:o}", "list", list) : NULL);
    uv_mutex_unlock(&n->p->publish);
}

enum loam_status keys_open(struct node *n, struct err *err) {
    char *dir = node_path(n, "keys"), t[OPTION_TEXT_MAX];
    n->keys = mem_zalloc(sizeof *n->keys);
    if (n->keys) {
        uv_mutex_init(&n->keys->lock);
        n->keys->balances = json_object();
    }
    if (!n->keys || !n->keys->balances || !dir) {
        mem_free(dir);
        return err_set(err, LOAM_ENOMEM, "no memory for keys");
    }
    bool light = strcmp(option_str(n->opt, "key.cost", t), "light") == 0;
    enum loam_status s = keyring_open(&n->keys->ring, dir, light ? KEYSTORE_LIGHT : KEYSTORE_STANDARD, err);
    mem_free(dir);
    if (!s)
        publish(n);
    return s;
}

void keys_close(struct node *n) {
    if (!n->keys)
        return;
    keyring_free(n->keys->ring);
    json_decref(n->keys->balances);
    uv_mutex_destroy(&n->keys->lock);
    mem_free(n->keys);
    n->keys = NULL;
}

json_t *keys_list(struct node *n) {
    struct keyring_info *k = NULL;
    size_t count = 0;
    json_t *a = json_array();
    if (!a || keyring_list(n->keys->ring, &k, &count, NULL)) {
        json_decref(a);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        char hex[ADDR_HEX_MAX], limit[U256_DEC_MAX], spent[U256_DEC_MAX];
        u256_format(limit, k[i].limit);
        u256_format(spent, k[i].spent);
        json_t *o = json_pack("{s:s s:s s:b}", "name", k[i].name, "address", addr_hex(hex, &k[i].address),
                              "unlocked", k[i].unlocked);
        if (o && k[i].unlocked) {
            if (k[i].limited)
                json_object_set_new(o, "limit_wei", json_string(limit));
            json_object_set_new(o, "spent_wei", json_string(spent));
        }
        uv_mutex_lock(&n->keys->lock);
        const char *wei = json_string_value(json_object_get(n->keys->balances, k[i].name));
        if (o && wei)
            json_object_set_new(o, "balance_wei", json_string(wei));
        uv_mutex_unlock(&n->keys->lock);
        json_array_append_new(a, o);
    }
    mem_free(k);
    return a;
}

/* Proven balances of all keys; a key whose proof cannot be had now keeps what was known. */
enum loam_status keys_refresh(struct node *n, struct job *j, struct err *err) {
    struct keyring_info *k = NULL;
    size_t count = 0;
    enum loam_status s = keyring_list(n->keys->ring, &k, &count, err);
    for (size_t i = 0; !s && i < count && !job_cancelled(j); i++) {
        struct u256 wei;
        char text[U256_DEC_MAX];
        if (node_chain_balance(n, &wei, NULL, &k[i].address, NULL))
            continue;
        u256_format(text, wei);
        uv_mutex_lock(&n->keys->lock);
        json_object_set_new(n->keys->balances, k[i].name, json_string(text));
        uv_mutex_unlock(&n->keys->lock);
    }
    mem_free(k);
    publish(n);
    return s;
}

static enum loam_status look(struct job *j, void *arg, struct err *err) {
    return keys_refresh(arg, j, err);
}

static void looked(struct job *j, void *arg, enum loam_status s, const struct err *err) {
    struct node *n = arg;
    (void)j;
    (void)s;
    (void)err;
    atomic_store(&n->keys->looking, false);
}

void keys_tick(struct node *n) {
    struct keys *k = n->keys;
    uint64_t head = node_chain_head_number(n);
    if (!head || head == k->seen || !control_clients(n) || node_stopping(n) ||
        atomic_exchange(&k->looking, true))
        return;
    k->seen = head;
    struct job_def def = {.title = "balances", .run = look, .end = looked, .arg = n};
    uint64_t id;
    if (job_start(n, &id, &def, NULL))
        atomic_store(&k->looking, false);
}

enum loam_status keys_address(struct node *n, const char *name, struct addr20 *out, struct err *err) {
    struct keyring_info k;
    enum loam_status s = keyring_find(n->keys->ring, name, &k, err);
    if (!s)
        *out = k.address;
    return s;
}

enum loam_status keys_name(struct node *n, const struct addr20 *a, char out[KEY_NAME_MAX], struct err *err) {
    struct keyring_info k;
    enum loam_status s = keyring_find_address(n->keys->ring, a, &k, err);
    if (!s)
        memcpy(out, k.name, KEY_NAME_MAX);
    return s;
}

/* A fresh unlock with the spend limit of the options. */
static enum loam_status unlock(struct node *n, const char *name, const char *password, struct err *err) {
    struct u256 limit;
    char t[OPTION_TEXT_MAX];
    enum loam_status s = u256_parse_coin(&limit, option_str(n->opt, "key.spend-limit", t), err);
    if (!s)
        s = keyring_unlock(n->keys->ring, name, password, &limit, err);
    if (!s)
        publish(n);
    return s;
}

static enum loam_status set_limit(struct node *n, const char *name, struct err *err) {
    struct u256 limit;
    char t[OPTION_TEXT_MAX];
    enum loam_status s = u256_parse_coin(&limit, option_str(n->opt, "key.spend-limit", t), err);
    return s ? s : keyring_limit(n->keys->ring, name, &limit, err);
}

enum loam_status keys_new(struct node *n, const char *name, const char *password, struct addr20 *out,
                          struct err *err) {
    enum loam_status s = keyring_new(n->keys->ring, name, password, out, err);
    if (!s)
        s = set_limit(n, name, err);
    if (!s)
        log_info("keys", "new key %s", name);
    publish(n);
    return s;
}

enum loam_status keys_import(struct node *n, const char *name, const uint8_t secret[32], const char *password,
                             struct addr20 *out, struct err *err) {
    struct addr20 a;
    enum loam_status s = secret_address(&a, secret, err);
    if (!s)
        s = refuse_published(n, &a, true, err);
    if (!s)
        s = keyring_import(n->keys->ring, name, secret, password, out, err);
    if (!s) {
        log_info("keys", "imported key %s", name);
        publish(n);
    }
    return s;
}

enum loam_status keys_import_file(struct node *n, const char *name, const char *json, size_t len,
                                  const char *password, struct addr20 *out, struct err *err) {
    enum loam_status s = keyring_import_file(n->keys->ring, name, json, len, password, out, err);
    if (!s) {
        log_info("keys", "imported key %s", name);
        publish(n);
    }
    return s;
}

enum loam_status keys_export(struct node *n, const char *name, const char *password, uint8_t out[32],
                             struct err *err) {
    enum loam_status s = keyring_export(n->keys->ring, name, password, out, err);
    if (!s)
        log_warn("keys", "the secret of key %s was exported", name);
    return s;
}

enum loam_status keys_backup(struct node *n, const char *name, struct buf *out, struct err *err) {
    return keyring_backup(n->keys->ring, name, out, err);
}

enum loam_status keys_unlock(struct node *n, const char *name, const char *password, struct err *err) {
    return unlock(n, name, password, err);
}

static enum loam_status unlock_by_file(struct node *n, const char *name, const char *path, struct err *err) {
    struct buf b = BUF_INIT(PASSWORD_MAX * 2);
    enum loam_status s = file_read(&b, path, err);
    if (!s) {
        b.data[strcspn((const char *)b.data, "\r\n")] = 0;
        s = unlock(n, name, (const char *)b.data, err);
        if (s == LOAM_EPERM)
            s = err_prefix(err, s, "password of %s", path);
    }
    mem_wipe(b.data, b.len);
    buf_clear(&b);
    return s;
}

enum loam_status keys_unlock_unattended(struct node *n, const char *name, struct err *err) {
    char path[OPTION_TEXT_MAX];
    option_str(n->opt, "key.password-file", path);
    if (*path)
        return unlock_by_file(n, name, path, err);
    const char *cred = getenv("CREDENTIALS_DIRECTORY");
    if (cred && *cred) {
        int r = snprintf(path, sizeof path, "%s/loam-password", cred);
        if (r > 0 && (size_t)r < sizeof path && file_exists(path))
            return unlock_by_file(n, name, path, err);
    }
    return err_set(err, LOAM_EPERM,
                   "key %s is locked; `key unlock %s`, --password-file, or the option key.password-file",
                   name, name);
}

bool keys_unlocked(struct node *n, const char *name) {
    struct keyring_info k;
    return !keyring_find(n->keys->ring, name, &k, NULL) && k.unlocked;
}

void keys_lock(struct node *n, const char *name) {
    keyring_lock(n->keys->ring, name);
    publish(n);
}

enum loam_status keys_sign(struct node *n, const char *name, const struct hash32 *digest, uint8_t sig[65],
                           struct err *err) {
    struct addr20 a;
    struct sig65 out;
    enum loam_status s = keys_address(n, name, &a, err);
    if (!s)
        s = refuse_published(n, &a, false, err);
    if (!s)
        s = keyring_sign(n->keys->ring, name, digest, &out, err);
    if (!s) {
        memcpy(sig, out.b, 65);
        sig[64] = (uint8_t)(out.b[64] - 27);
    }
    return s;
}

enum loam_status keys_spend(struct node *n, const char *name, struct u256 wei, struct err *err) {
    enum loam_status s = keyring_spend(n->keys->ring, name, wei, err);
    if (s == LOAM_EPERM)
        return err_prefix(err, s, "key %s (option key.spend-limit, counted since it was unlocked)", name);
    if (!s)
        publish(n);
    return s;
}

enum loam_status keys_default(struct node *n, char out[KEY_NAME_MAX], struct err *err) {
    char t[OPTION_TEXT_MAX];
    struct keyring_info *k = NULL;
    size_t count = 0;
    option_str(n->opt, "key.default", t);
    if (*t) {
        snprintf(out, KEY_NAME_MAX, "%s", t);
        return LOAM_OK;
    }
    enum loam_status s = keyring_list(n->keys->ring, &k, &count, err);
    if (!s && count == 1)
        memcpy(out, k[0].name, KEY_NAME_MAX);
    else if (!s && count == 0)
        s = err_set(err, LOAM_ENOTFOUND, "there is no key yet; `key new NAME` makes one");
    else if (!s)
        s = err_set(err, LOAM_EINVAL, "there are %zu keys; name one, or `set key.default NAME`", count);
    mem_free(k);
    return s;
}
