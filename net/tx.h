/* Transactions: legacy (with and without EIP-155), 1 (2930), 2 (1559), 4 (7702) and the OP Stack's deposit 0x7E; their
 * hash, signing hash and sender; signing of EIP-1559 ones. */
#ifndef LOAM_NET_TX_H
#define LOAM_NET_TX_H

#include "base/bytes.h"
#include "base/u256.h"
#include "record/types.h"

#include <jansson.h>
#include <stdbool.h>

#define TX_BYTES_MAX (16u << 20) /* most bytes of one transaction that is read at all */
#define TX_DATA_MAX (120u << 10) /* most calldata tx_sign sends: nodes refuse transactions over 128 KiB */

enum tx_type { TX_LEGACY = 0, TX_2930 = 1, TX_1559 = 2, TX_BLOB = 3, TX_7702 = 4, TX_DEPOSIT = 0x7e };

/* A decoded transaction. data, access_list and auth_list borrow from the bytes given to tx_decode. */
struct tx {
    uint8_t type;
    uint64_t chain_id; /* 0: a legacy transaction without EIP-155, or a deposit */
    uint64_t nonce, gas;
    struct u256 gas_price;             /* types 0, 1; else max fee per gas */
    struct u256 priority;              /* type 2, 4: max priority fee per gas */
    bool create;                       /* no `to` */
    struct addr20 to;
    struct u256 value;
    const uint8_t *data;
    size_t data_len;
    const uint8_t *access_list, *auth_list; /* encoded RLP lists; NULL where the type has none */
    size_t access_list_len, auth_list_len;
    struct u256 r, s;
    uint64_t v;      /* as encoded */
    uint8_t parity;  /* 0 or 1 */
    /* deposits */
    struct hash32 source_hash;
    struct u256 mint;
    bool system_tx;
    struct addr20 from; /* given in a deposit; otherwise set by tx_sender */
    struct hash32 hash;
    /* type 3 (never on OP Stack chains; decoded for L1 blocks) */
    struct u256 max_blob_fee;
    const uint8_t *blob_hashes;
    size_t blob_hashes_len;
};

/* in: type byte and RLP, or a legacy list; canonical. Sets hash. LOAM_ERLP, LOAM_EUNSUPPORTED (unknown type). */
enum loam_status tx_decode(struct tx *out, const uint8_t *in, size_t n, struct err *err) LOAM_MUST_USE;
enum loam_status tx_encode(struct buf *out, const struct tx *t, struct err *err) LOAM_MUST_USE;
enum loam_status tx_signing_hash(struct hash32 *out, const struct tx *t, struct err *err) LOAM_MUST_USE;
/* Recovers the sender into t->from (deposits: it stands in them already). LOAM_ESIG: bad values, or high s (EIP-2). */
enum loam_status tx_sender(struct tx *t, struct err *err) LOAM_MUST_USE;
/* A JSON-RPC transaction object, encoded as in its block; the `hash` in it must be the bytes' (LOAM_ETXHASH), with
 * check_from, `from` the recovered sender (LOAM_ESIG; anvil makes transactions of impersonated accounts, unsigned). */
enum loam_status tx_from_json(struct buf *out, const json_t *o, bool check_from, struct err *err) LOAM_MUST_USE;

/* Whoever can sign a 32-byte digest: keys stay outside net. sig: r, s, parity (0 or 1); s low. */
struct tx_signer {
    struct addr20 addr;
    enum loam_status (*sign)(void *ctx, uint8_t sig[65], const struct hash32 *digest, struct err *err);
    void *ctx;
};
/* Signs t (type TX_1559: chain_id, nonce, gas, gas_price, priority, to or create, value, data are set) and appends the raw
 * transaction to out, ready for eth_sendRawTransaction. *hash (may be NULL) gets its hash. */
enum loam_status tx_sign(struct buf *out, struct hash32 *hash, struct tx *t, const struct tx_signer *signer,
                         struct err *err) LOAM_MUST_USE;

/* Address of a contract made by create: keccak(rlp(sender, nonce))[12..]. */
void tx_create_address(struct addr20 *out, const struct addr20 *sender, uint64_t nonce);
/* Recovers the address that signed digest. sig: r | s | parity (0, 1, 27 or 28); low s demanded. */
enum loam_status tx_recover(struct addr20 *out, const struct hash32 *digest, const uint8_t sig[65], struct err *err) LOAM_MUST_USE;
/* A plain private key as signer (tests, development chain). key: 32 bytes, borrowed until the signer's last use. */
enum loam_status tx_signer_from_key(struct tx_signer *out, const uint8_t *key, struct err *err) LOAM_MUST_USE;

#endif
