#include "store/keystore.h"

#include "base/entropy.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "record/sign.h"

#include <jansson.h>
#include <mbedtls/aes.h>
#include <mbedtls/md.h>
#include <mbedtls/pkcs5.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

/* Everything a file says, checked but for password and mac. */
struct parsed {
    bool has_address, scrypt;
    struct addr20 address;
    uint8_t cipher[32], iv[16], mac[32];
    uint8_t salt[256];
    size_t salt_len;
    uint64_t n;
    uint32_t r, p, rounds;
};

static enum loam_status malformed(struct err *err, const char *what) {
    return err_set(err, LOAM_EPARSE, "keystore: %s is missing or malformed", what);
}

/* Some programs write the keys of the format with capitals ("Crypto"). */
static json_t *member(json_t *o, const char *name) {
    json_t *v = json_object_get(o, name);
    if (!v) {
        char upper[32];
        snprintf(upper, sizeof upper, "%s", name);
        upper[0] = (char)(upper[0] - 32);
        v = json_object_get(o, upper);
    }
    return v;
}

static enum loam_status hex_member(json_t *o, const char *name, uint8_t *out, size_t n, struct err *err) {
    const char *s = json_string_value(json_object_get(o, name));
    if (!s || hex_decode(out, n, s, NULL))
        return malformed(err, name);
    return LOAM_OK;
}

static enum loam_status whole(json_t *o, const char *name, uint64_t least, uint64_t most, uint64_t *out, struct err *err) {
    json_t *v = json_object_get(o, name);
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return malformed(err, name);
    *out = (uint64_t)json_integer_value(v);
    if (*out < least || *out > most)
        return err_set(err, LOAM_ELIMIT, "keystore: %s is %llu, allowed are %llu to %llu", name, (unsigned long long)*out,
                       (unsigned long long)least, (unsigned long long)most);
    return LOAM_OK;
}

static enum loam_status read_scrypt(struct parsed *k, json_t *params, struct err *err) {
    enum loam_status st;
    uint64_t n, r, p;
    if ((st = whole(params, "n", 2, KEYSTORE_WORK_MAX, &n, err)) || (st = whole(params, "r", 1, 1024, &r, err)) ||
        (st = whole(params, "p", 1, 1024, &p, err)))
        return st;
    if (n & (n - 1))
        return err_set(err, LOAM_EPARSE, "keystore: n is %llu, not a power of two", (unsigned long long)n);
    if (n * r > KEYSTORE_MEMORY_MAX / 128 || n * r * p > KEYSTORE_WORK_MAX)
        return err_set(err, LOAM_ELIMIT, "keystore: scrypt with n %llu, r %llu, p %llu asks for more memory or time than is allowed",
                       (unsigned long long)n, (unsigned long long)r, (unsigned long long)p);
    k->scrypt = true;
    k->n = n;
    k->r = (uint32_t)r;
    k->p = (uint32_t)p;
    return LOAM_OK;
}

static enum loam_status read_pbkdf2(struct parsed *k, json_t *params, struct err *err) {
    const char *prf = json_string_value(json_object_get(params, "prf"));
    uint64_t c;
    enum loam_status st = whole(params, "c", 1, KEYSTORE_ROUNDS_MAX, &c, err);
    if (st)
        return st;
    if (!prf || strcmp(prf, "hmac-sha256"))
        return err_set(err, LOAM_EUNSUPPORTED, "keystore: pbkdf2 with another prf than hmac-sha256");
    k->rounds = (uint32_t)c;
    return LOAM_OK;
}

static enum loam_status read_crypto(struct parsed *k, json_t *crypto, struct err *err) {
    const char *cipher = json_string_value(json_object_get(crypto, "cipher"));
    const char *kdf = json_string_value(json_object_get(crypto, "kdf"));
    json_t *params = json_object_get(crypto, "kdfparams");
    enum loam_status st;
    uint64_t dklen;
    if (!cipher || !kdf || !json_is_object(params))
        return malformed(err, "crypto");
    if (strcmp(cipher, "aes-128-ctr"))
        return err_set(err, LOAM_EUNSUPPORTED, "keystore: another cipher than aes-128-ctr");
    if ((st = hex_member(crypto, "ciphertext", k->cipher, 32, err)) ||
        (st = hex_member(json_object_get(crypto, "cipherparams"), "iv", k->iv, 16, err)) ||
        (st = hex_member(crypto, "mac", k->mac, 32, err)) || (st = whole(params, "dklen", 32, 32, &dklen, err)))
        return st;
    const char *salt = json_string_value(json_object_get(params, "salt"));
    size_t len = salt ? strlen(salt) : 0;
    if (len % 2 || len > 2 * sizeof k->salt || !salt || hex_decode(k->salt, len / 2, salt, NULL))
        return malformed(err, "salt");
    k->salt_len = len / 2;
    if (!strcmp(kdf, "scrypt"))
        return read_scrypt(k, params, err);
    if (!strcmp(kdf, "pbkdf2"))
        return read_pbkdf2(k, params, err);
    return err_set(err, LOAM_EUNSUPPORTED, "keystore: another kdf than scrypt and pbkdf2");
}

static enum loam_status parse(struct parsed *k, const char *json, size_t n, struct err *err) {
    memset(k, 0, sizeof *k);
    if (n > KEYSTORE_JSON_MAX)
        return err_set(err, LOAM_ELIMIT, "keystore: %zu bytes, at most %d", n, KEYSTORE_JSON_MAX);
    json_error_t je;
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &je);
    if (!json_is_object(root)) {
        json_decref(root);
        return err_set(err, LOAM_EPARSE, "keystore: not a JSON object (line %d)", je.line);
    }
    enum loam_status st = LOAM_OK;
    json_t *version = json_object_get(root, "version"), *crypto = member(root, "crypto");
    const char *address = json_string_value(json_object_get(root, "address"));
    if (!json_is_integer(version) || !json_is_object(crypto))
        st = malformed(err, json_is_object(crypto) ? "version" : "crypto");
    else if (json_integer_value(version) != 3)
        st = err_set(err, LOAM_EUNSUPPORTED, "keystore: version %lld; only version 3 is known", (long long)json_integer_value(version));
    else if (address && *address) {
        k->has_address = true;
        if (hex_decode(k->address.b, 20, address, NULL))
            st = malformed(err, "address");
    }
    if (!st)
        st = read_crypto(k, crypto, err);
    json_decref(root);
    return st;
}

static enum loam_status derive(uint8_t key[32], const struct parsed *k, const void *password, size_t plen, struct err *err) {
    if (k->scrypt) {
        /* libsodium's low-level call takes salts of any length and p as it is. */
        if (sodium_init() < 0 || crypto_pwhash_scryptsalsa208sha256_ll(password, plen, k->salt, k->salt_len, k->n, k->r, k->p, key, 32))
            return err_set(err, LOAM_ENOMEM, "keystore: no memory for scrypt (%llu MiB)", (unsigned long long)(k->n * k->r * 128 >> 20));
        return LOAM_OK;
    }
    mbedtls_md_context_t md;
    mbedtls_md_init(&md);
    int rc = mbedtls_md_setup(&md, mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), 1);
    if (!rc)
        rc = mbedtls_pkcs5_pbkdf2_hmac(&md, password, plen, k->salt, k->salt_len, k->rounds, 32, key);
    mbedtls_md_free(&md);
    return rc ? err_set(err, LOAM_ENOMEM, "keystore: pbkdf2 failed (%d)", rc) : LOAM_OK;
}

static enum loam_status crypt(uint8_t out[32], const uint8_t in[32], const uint8_t key[16], const uint8_t iv[16], struct err *err) {
    mbedtls_aes_context aes;
    uint8_t counter[16], stream[16];
    size_t at = 0;
    memcpy(counter, iv, 16);
    mbedtls_aes_init(&aes);
    int rc = mbedtls_aes_setkey_enc(&aes, key, 128);
    if (!rc)
        rc = mbedtls_aes_crypt_ctr(&aes, 32, &at, counter, stream, in, out);
    mbedtls_aes_free(&aes);
    mem_wipe(stream, sizeof stream);
    return rc ? err_set(err, LOAM_EINTERNAL, "keystore: AES failed (%d)", rc) : LOAM_OK;
}

static void mac_of(uint8_t out[32], const uint8_t key[32], const uint8_t cipher[32]) {
    struct keccak k;
    keccak_init(&k);
    keccak_add(&k, key + 16, 16);
    keccak_add(&k, cipher, 32);
    keccak_end(&k, out);
    mem_wipe(&k, sizeof k);
}

static bool same_bytes(const uint8_t *a, const uint8_t *b, size_t n) {
    uint8_t d = 0;
    for (size_t i = 0; i < n; i++)
        d |= a[i] ^ b[i];
    return !d;
}

enum loam_status keystore_seal(struct buf *out, const uint8_t secret[32], const void *password, size_t plen,
                               enum keystore_cost cost, struct err *err) {
    struct parsed k = {.scrypt = true, .n = cost == KEYSTORE_STANDARD ? 1 << 18 : 1 << 12, .r = 8,
                       .p = cost == KEYSTORE_STANDARD ? 1 : 6, .salt_len = 32};
    uint8_t key[32], id[16];
    enum loam_status st;
    if (!plen || plen > KEYSTORE_PASSWORD_MAX)
        return err_set(err, LOAM_EINVAL, "a password of 1 to %d bytes is needed", KEYSTORE_PASSWORD_MAX);
    if ((st = secret_address(&k.address, secret, err)) || (st = entropy_fill(k.salt, 32, err)) ||
        (st = entropy_fill(k.iv, 16, err)) || (st = entropy_fill(id, 16, err)) || (st = derive(key, &k, password, plen, err)))
        return st;
    if (!(st = crypt(k.cipher, secret, key, k.iv, err))) {
        mac_of(k.mac, key, k.cipher);
        id[6] = (uint8_t)((id[6] & 0x0f) | 0x40); /* RFC 4122, version 4 */
        id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
        char address[41], cipher[65], iv[33], salt[65], mac[65], uuid[33];
        hex_encode(address, k.address.b, 20);
        hex_encode(cipher, k.cipher, 32);
        hex_encode(iv, k.iv, 16);
        hex_encode(salt, k.salt, 32);
        hex_encode(mac, k.mac, 32);
        hex_encode(uuid, id, 16);
        st = buf_printf(out, err,
                        "{\"address\":\"%s\",\"crypto\":{\"cipher\":\"aes-128-ctr\",\"ciphertext\":\"%s\",\"cipherparams\":{\"iv\":\"%s\"},"
                        "\"kdf\":\"scrypt\",\"kdfparams\":{\"dklen\":32,\"n\":%llu,\"p\":%u,\"r\":%u,\"salt\":\"%s\"},\"mac\":\"%s\"},"
                        "\"id\":\"%.8s-%.4s-%.4s-%.4s-%.12s\",\"version\":3}\n",
                        address, cipher, iv, (unsigned long long)k.n, k.p, k.r, salt, mac, uuid, uuid + 8, uuid + 12, uuid + 16,
                        uuid + 20);
    }
    mem_wipe(key, sizeof key);
    return st;
}

enum loam_status keystore_open(uint8_t secret[32], const char *json, size_t n, const void *password, size_t plen, struct err *err) {
    struct parsed k;
    uint8_t key[32], mac[32];
    struct addr20 is;
    enum loam_status st = parse(&k, json, n, err);
    if (st || (st = derive(key, &k, password, plen, err)))
        return st;
    mac_of(mac, key, k.cipher);
    if (!same_bytes(mac, k.mac, 32))
        st = err_set(err, LOAM_EPERM, "wrong password");
    else if (!(st = crypt(secret, k.cipher, key, k.iv, err)) && !(st = secret_address(&is, secret, err)) && k.has_address &&
             !addr_eq(&is, &k.address))
        st = err_set(err, LOAM_EVERIFY, "keystore: it names another address than its key has");
    mem_wipe(key, sizeof key);
    if (st)
        mem_wipe(secret, 32);
    return st;
}

enum loam_status keystore_address(struct addr20 *out, const char *json, size_t n, struct err *err) {
    struct parsed k;
    enum loam_status st = parse(&k, json, n, err);
    if (st)
        return st;
    if (!k.has_address)
        return err_set(err, LOAM_ENOTFOUND, "keystore: it names no address");
    *out = k.address;
    return LOAM_OK;
}
