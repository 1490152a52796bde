/* Signatures on secp256k1 with recovery, as the chain checks them (EIP-2: low s only; v is 27 or 28).
 * Nonces are deterministic (RFC 6979), so the same key and digest give the same signature. Thread-safe. */
#ifndef LOAM_RECORD_SIGN_H
#define LOAM_RECORD_SIGN_H

#include "record/types.h"

/* Is it a number from 1 to the group order - 1? */
bool secret_valid(const uint8_t secret[32]);
/* The address of a secret key; LOAM_EINVAL if the key is not valid. */
enum loam_status secret_address(struct addr20 *out, const uint8_t secret[32], struct err *err) LOAM_MUST_USE;
/* Signs a digest. LOAM_EINVAL for a bad key. The caller keeps and wipes the secret. */
enum loam_status sig_make(struct sig65 *out, const struct hash32 *digest, const uint8_t secret[32], struct err *err) LOAM_MUST_USE;
/* Who signed? LOAM_ESIG for s above half the order, v other than 27 or 28, r or s out of range, or no such point. */
enum loam_status sig_recover(struct addr20 *out, const struct hash32 *digest, const struct sig65 *sig, struct err *err) LOAM_MUST_USE;
/* Recovers and compares; LOAM_ESIG names both addresses. */
enum loam_status sig_check(const struct addr20 *signer, const struct hash32 *digest, const struct sig65 *sig, struct err *err) LOAM_MUST_USE;
/* EIP-191 personal_sign: keccak("\x19Ethereum Signed Message:\n" ‖ decimal length ‖ message). */
struct hash32 personal_digest(const void *message, size_t n);

#endif
