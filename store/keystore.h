/* Keystore v3 files (Web3 Secret Storage: https://ethereum.org/developers/docs/data-structures-and-encoding/web3-secret-storage):
 * one secp256k1 key, encrypted with a password. What we write `cast wallet` and geth open; theirs we open.
 *   cipher aes-128-ctr; kdf scrypt (dklen 32) or, read only, pbkdf2 with hmac-sha256;
 *   mac = keccak(derived[16..31] ‖ ciphertext), checked in constant time before anything is decrypted. */
#ifndef LOAM_STORE_KEYSTORE_H
#define LOAM_STORE_KEYSTORE_H

#include "base/bytes.h"
#include "record/types.h"

#define KEYSTORE_JSON_MAX 65536
#define KEYSTORE_PASSWORD_MAX 1024
/* Hostile files could ask for any cost: limits on n·r·128 bytes of memory and on time. geth's standard is n 2^18, r 8, p 1. */
#define KEYSTORE_MEMORY_MAX (1u << 30)
#define KEYSTORE_WORK_MAX (1u << 24)   /* n · r · p */
#define KEYSTORE_ROUNDS_MAX 10000000u  /* pbkdf2 */

enum keystore_cost {
    KEYSTORE_STANDARD, /* n 2^18, r 8, p 1: 256 MiB, about a second */
    KEYSTORE_LIGHT,    /* n 2^12, r 8, p 6: 4 MiB; tests, small machines */
};

/* Appends the file's JSON. Slow. LOAM_EINVAL for a bad secret or an empty or too long password. */
enum loam_status keystore_seal(struct buf *out, const uint8_t secret[32], const void *password, size_t plen,
                               enum keystore_cost cost, struct err *err) LOAM_MUST_USE;
/* Slow. LOAM_EPERM wrong password; LOAM_EPARSE malformed; LOAM_EUNSUPPORTED other version, cipher or kdf; LOAM_ELIMIT costs
 * past the limits; LOAM_EVERIFY if the file names another address than its key has. The caller wipes secret. */
enum loam_status keystore_open(uint8_t secret[32], const char *json, size_t n, const void *password, size_t plen, struct err *err) LOAM_MUST_USE;
/* The address a file names, without password; LOAM_ENOTFOUND if it names none. Everything but password and mac is checked. */
enum loam_status keystore_address(struct addr20 *out, const char *json, size_t n, struct err *err) LOAM_MUST_USE;

#endif
