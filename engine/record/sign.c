#include "record/sign.h"

#include "base/entropy.h"
#include "base/keccak.h"
#include "base/mem.h"

#include <pthread.h>
#include <secp256k1.h>
#include <secp256k1_recovery.h>
#include <stdio.h>

#include "base/banned.h"

/* One context for the process: making one builds tables, and after its blinding it is only read. */
static secp256k1_context *ctx;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void start(void) {
    ctx = secp256k1_context_create(SECP256K1_CONTEXT_NONE);
    LOAM_ASSERT(ctx);
    uint8_t seed[32];
    /* Blinding is a defence in depth against side channels; without entropy signatures are right all the same. */
    if (entropy_fill(seed, sizeof seed, NULL) == LOAM_OK)
        (void)!secp256k1_context_randomize(ctx, seed);
    mem_wipe(seed, sizeof seed);
}

static const secp256k1_context *context(void) {
    pthread_once(&once, start);
    return ctx;
}

bool secret_valid(const uint8_t secret[32]) {
    return secp256k1_ec_seckey_verify(context(), secret);
}

static void point_address(struct addr20 *out, const secp256k1_pubkey *pub) {
    uint8_t bytes[65];
    size_t n = sizeof bytes;
    secp256k1_ec_pubkey_serialize(context(), bytes, &n, pub, SECP256K1_EC_UNCOMPRESSED);
    struct hash32 h = hash_of(bytes + 1, 64);
    memcpy(out->b, h.b + 12, 20);
}

enum loam_status secret_address(struct addr20 *out, const uint8_t secret[32], struct err *err) {
    secp256k1_pubkey pub;
    if (!secp256k1_ec_pubkey_create(context(), &pub, secret))
        return err_set(err, LOAM_EINVAL, "secret key: zero, or not below the group order");
    point_address(out, &pub);
    return LOAM_OK;
}

enum loam_status sig_make(struct sig65 *out, const struct hash32 *digest, const uint8_t secret[32], struct err *err) {
    secp256k1_ecdsa_recoverable_signature sig;
    int id = 0;
    /* libsecp256k1 makes low s and RFC 6979 nonces by itself. */
    if (!secp256k1_ecdsa_sign_recoverable(context(), &sig, digest->b, secret, NULL, NULL))
        return err_set(err, LOAM_EINVAL, "secret key: zero, or not below the group order");
    secp256k1_ecdsa_recoverable_signature_serialize_compact(context(), out->b, &id, &sig);
    /* An r past the group order (id 2, 3) has chance 2^-128 and no v on chain. */
    if (id > 1)
        return err_set(err, LOAM_EINTERNAL, "signature: r is past the group order");
    out->b[64] = (uint8_t)(27 + id);
    return LOAM_OK;
}

enum loam_status sig_recover(struct addr20 *out, const struct hash32 *digest, const struct sig65 *sig, struct err *err) {
    secp256k1_ecdsa_recoverable_signature rec;
    secp256k1_ecdsa_signature plain;
    secp256k1_pubkey pub;
    if (sig->b[64] != 27 && sig->b[64] != 28)
        return err_set(err, LOAM_ESIG, "signature: v is %d, not 27 or 28", sig->b[64]);
    if (!secp256k1_ecdsa_recoverable_signature_parse_compact(context(), &rec, sig->b, sig->b[64] - 27))
        return err_set(err, LOAM_ESIG, "signature: r or s is past the group order");
    secp256k1_ecdsa_recoverable_signature_convert(context(), &plain, &rec);
    if (secp256k1_ecdsa_signature_normalize(context(), NULL, &plain))
        return err_set(err, LOAM_ESIG, "signature: s is in the upper half (EIP-2)");
    if (!secp256k1_ecdsa_recover(context(), &pub, &rec, digest->b))
        return err_set(err, LOAM_ESIG, "signature: no key made it");
    point_address(out, &pub);
    return LOAM_OK;
}

enum loam_status sig_check(const struct addr20 *signer, const struct hash32 *digest, const struct sig65 *sig, struct err *err) {
    struct addr20 who;
    enum loam_status st = sig_recover(&who, digest, sig, err);
    if (st)
        return st;
    if (!addr_eq(&who, signer)) {
        char a[ADDR_HEX_MAX], b[ADDR_HEX_MAX];
        return err_set(err, LOAM_ESIG, "signature is by %s, not by %s", addr_hex(a, &who), addr_hex(b, signer));
    }
    return LOAM_OK;
}

struct hash32 personal_digest(const void *message, size_t n) {
    char head[64];
    int len = snprintf(head, sizeof head, "\x19" "Ethereum Signed Message:\n%zu", n);
    struct hash32 h;
    struct keccak k;
    keccak_init(&k);
    keccak_add(&k, head, (size_t)len);
    keccak_add(&k, message, n);
    keccak_end(&k, h.b);
    return h;
}
