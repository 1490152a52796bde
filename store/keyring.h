/* The keyring: named keystore files of one folder (DATA/keys/NAME.json), and those that are unlocked. Thread-safe. Secrets
 * leave it only through keyring_export; unlocked ones lie in locked memory that is not dumped or swapped, and are wiped on
 * lock and free. Calls marked slow run scrypt: not on the loop. engine/node/keys.h wraps this with options and topics. */
#ifndef LOAM_STORE_KEYRING_H
#define LOAM_STORE_KEYRING_H

#include "store/keystore.h"

#include <stdbool.h>

#define KEYRING_NAME_MAX 64 /* with the NUL; a-z A-Z 0-9 - _ . , not starting with . */
#define KEYRING_KEYS_MAX 1024

struct keyring;

struct keyring_info {
    char name[KEYRING_NAME_MAX];
    struct addr20 address;
    bool unlocked;
    bool limited;               /* a spend limit is set */
    struct u256 limit, spent;   /* wei since it was unlocked */
};

/* Reads the folder (made 0700). Files that are not keystores are skipped. */
enum loam_status keyring_open(struct keyring **out, const char *dir, enum keystore_cost cost, struct err *err) LOAM_MUST_USE;
void keyring_free(struct keyring *k); /* wipes */

/* By name, ascending; *out is mem_freed. */
enum loam_status keyring_list(struct keyring *k, struct keyring_info **out, size_t *count, struct err *err) LOAM_MUST_USE;
enum loam_status keyring_find(struct keyring *k, const char *name, struct keyring_info *out, struct err *err) LOAM_MUST_USE;
enum loam_status keyring_find_address(struct keyring *k, const struct addr20 *a, struct keyring_info *out, struct err *err) LOAM_MUST_USE;

/* Slow. A fresh key; it is unlocked without limit. LOAM_EEXIST name in use, LOAM_EINVAL bad name or empty password. */
enum loam_status keyring_new(struct keyring *k, const char *name, const char *password, struct addr20 *out, struct err *err) LOAM_MUST_USE;
/* Slow. LOAM_EEXIST also when the address is there under another name (the message names it). Stays locked. */
enum loam_status keyring_import(struct keyring *k, const char *name, const uint8_t secret[32], const char *password, struct addr20 *out, struct err *err) LOAM_MUST_USE;
/* Slow. A keystore file of another program: opened with its password, kept re-encrypted under the same password. */
enum loam_status keyring_import_file(struct keyring *k, const char *name, const char *json, size_t n, const char *password, struct addr20 *out, struct err *err) LOAM_MUST_USE;
/* Slow. LOAM_EPERM wrong password. The caller wipes out. */
enum loam_status keyring_export(struct keyring *k, const char *name, const char *password, uint8_t out[32], struct err *err) LOAM_MUST_USE;
/* The encrypted file's bytes, appended: a backup. */
enum loam_status keyring_backup(struct keyring *k, const char *name, struct buf *out, struct err *err) LOAM_MUST_USE;
/* Removes the file. LOAM_EPERM wrong password. Slow. */
enum loam_status keyring_remove(struct keyring *k, const char *name, const char *password, struct err *err) LOAM_MUST_USE;

/* Slow, also for a key that is unlocked (see keyring_find): the password is asked for each time since this sets the limit
 * anew and counts from zero again. limit NULL: none. LOAM_EPERM wrong password. */
enum loam_status keyring_unlock(struct keyring *k, const char *name, const char *password, const struct u256 *limit, struct err *err) LOAM_MUST_USE;
void keyring_lock(struct keyring *k, const char *name); /* NULL: all */
/* Without password: the caller answers for its user. NULL: no limit. LOAM_EPERM when locked. */
enum loam_status keyring_limit(struct keyring *k, const char *name, const struct u256 *limit, struct err *err) LOAM_MUST_USE;

/* Signs; v is 27 or 28. LOAM_EPERM when locked. */
enum loam_status keyring_sign(struct keyring *k, const char *name, const struct hash32 *digest, struct sig65 *out, struct err *err) LOAM_MUST_USE;
/* Adds to what was spent; LOAM_EPERM when locked or past the limit (nothing is added then; the message says how much is left). */
enum loam_status keyring_spend(struct keyring *k, const char *name, struct u256 wei, struct err *err) LOAM_MUST_USE;

#endif
