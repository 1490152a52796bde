/* The node's keys: keystore v3 files in DATA/keys, and those that are unlocked, with a spend limit. Secrets never leave this
 * file but through keys_export. Thread-safe; calls marked slow run scrypt (about a second): job threads only. */
#ifndef LOAM_NODE_KEYS_H
#define LOAM_NODE_KEYS_H

#include "base/bytes.h"
#include "base/status.h"
#include "base/u256.h"
#include "record/types.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct node;
struct keys;

#define KEY_NAME_MAX 64 /* a-z 0-9 - _ . , not starting with . */
#define PASSWORD_MAX 1024

/* Names and addresses; as the keys topic. New reference. */
json_t *keys_list(struct node *n);
/* Asks for the proven balance of every key (shown by keys_list). Job threads only; nothing without a chain. */
struct job;
enum loam_status keys_refresh(struct node *n, struct job *j, struct err *err) LOAM_MUST_USE;
enum loam_status keys_address(struct node *n, const char *name, struct addr20 *out, struct err *err) LOAM_MUST_USE;
/* The name of the key with this address, into out; LOAM_ENOTFOUND. */
enum loam_status keys_name(struct node *n, const struct addr20 *a, char out[KEY_NAME_MAX], struct err *err) LOAM_MUST_USE;

/* Slow. LOAM_EEXIST; LOAM_EINVAL bad name or empty password. A new key is unlocked. */
enum loam_status keys_new(struct node *n, const char *name, const char *password, struct addr20 *out, struct err *err) LOAM_MUST_USE;
/* Slow. secret: 32 bytes. Anvil's published keys are refused (LOAM_EPERM) on any chain but the development one. */
enum loam_status keys_import(struct node *n, const char *name, const uint8_t secret[32], const char *password, struct addr20 *out, struct err *err) LOAM_MUST_USE;
/* Slow. Another program's keystore v3 file; password opens it and seals the copy. */
enum loam_status keys_import_file(struct node *n, const char *name, const char *json, size_t len, const char *password, struct addr20 *out, struct err *err) LOAM_MUST_USE;
/* The encrypted file's bytes, appended. */
enum loam_status keys_backup(struct node *n, const char *name, struct buf *out, struct err *err) LOAM_MUST_USE;
/* The key to use where none is named: option key.default, or the only one. */
enum loam_status keys_default(struct node *n, char out[KEY_NAME_MAX], struct err *err) LOAM_MUST_USE;
/* Slow. LOAM_EPERM wrong password. The caller wipes out. */
enum loam_status keys_export(struct node *n, const char *name, const char *password, uint8_t out[32], struct err *err) LOAM_MUST_USE;
/* Slow unless unlocked already. LOAM_EPERM wrong password. */
enum loam_status keys_unlock(struct node *n, const char *name, const char *password, struct err *err) LOAM_MUST_USE;
/* Tries key.password-file and systemd's $CREDENTIALS_DIRECTORY/loam-password; LOAM_EPERM when there is none. Slow. */
enum loam_status keys_unlock_unattended(struct node *n, const char *name, struct err *err) LOAM_MUST_USE;
bool keys_unlocked(struct node *n, const char *name);
void keys_lock(struct node *n, const char *name); /* wipes it; NULL: all */

/* Signs a 32-byte digest: r, s, v (0 or 1). LOAM_EPERM when locked (the message names the remedy). */
enum loam_status keys_sign(struct node *n, const char *name, const struct hash32 *digest, uint8_t sig[65], struct err *err) LOAM_MUST_USE;
/* Spending: adds to what this key spent since it was unlocked; LOAM_EPERM when it would pass key.spend-limit. */
enum loam_status keys_spend(struct node *n, const char *name, struct u256 wei, struct err *err) LOAM_MUST_USE;

#endif
