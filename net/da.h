/* EigenDA: commitments as they stand in L1 transactions and proxy answers, the encoded payload, and a client of the EigenDA
 * proxy (Layr-Labs/eigenda, api/proxy). Keccak commitments are verified wholly; for EigenDA's own the KZG commitment and the
 * quorum signatures are not checked here, which da_word says. */
#ifndef LOAM_NET_DA_H
#define LOAM_NET_DA_H

#include "net/http.h"
#include "record/types.h"

#define DA_PAYLOAD_MAX (16u << 20)
#define DA_COMMITMENT_MAX (64u << 10)
#define DA_RECENCY_WINDOW 14400 /* L1 blocks, of certificate version 4 with derivation version 0 */

enum da_kind { DA_KECCAK, DA_GENERIC };
enum da_mode { DA_OP_GENERIC, DA_OP_KECCAK, DA_STANDARD };

struct da_commitment {
    enum da_kind kind;
    struct hash32 keccak;      /* DA_KECCAK */
    uint8_t layer;             /* DA_GENERIC: 0 EigenDA, 0x0a Avail, 0x0c Celestia */
    unsigned cert_version;     /* EigenDA: 1 to 4 */
    const uint8_t *cert;       /* RLP, borrowed */
    size_t cert_len;
    bool has_reference;        /* versions 3 and 4: read from the certificate */
    struct hash32 batch_root;
    uint64_t reference_block;  /* L1 block of the operator state */
};
/* op: begins with the commitment type (0x00 keccak, 0x01 generic); standard: with the version byte. LOAM_ECOMMITMENT. */
enum loam_status da_commitment_parse(struct da_commitment *out, const uint8_t *p, size_t n, bool standard, struct err *err) LOAM_MUST_USE;
/* Calldata of a batcher transaction: 0x01, then the commitment as above. */
enum loam_status da_from_calldata(struct da_commitment *out, const uint8_t *p, size_t n, struct err *err) LOAM_MUST_USE;
/* reference <= inclusion, and not older than the window (0: not checked). LOAM_ESTALE, LOAM_ECOMMITMENT. */
enum loam_status da_recency(const struct da_commitment *c, uint64_t l1_inclusion, uint64_t window, struct err *err) LOAM_MUST_USE;

/* Encoded payload: 32-byte header (0, version 0, u32be length, zeros), then 31-byte pieces each behind a zero byte, padded
 * with zeros to a power-of-two count of 32-byte words. */
enum loam_status da_encode(struct buf *out, const void *p, size_t n, struct err *err) LOAM_MUST_USE;
enum loam_status da_decode(struct buf *out, const void *p, size_t n, struct err *err) LOAM_MUST_USE;

/* url: of the proxy, e.g. "http://127.0.0.1:3100". Waiting; not for the loop's thread. commitment: raw bytes, appended. */
enum loam_status da_put(struct http *h, struct buf *commitment, const char *url, enum da_mode mode, const void *p, size_t n,
                        const struct http_cancel *cancel, struct err *err) LOAM_MUST_USE;
/* out: the payload, appended. l1_inclusion 0: the proxy skips its recency check. LOAM_EDADROP (418), LOAM_EDAFAIL (503), LOAM_ERATE
 * (429), LOAM_EDISABLED (403), LOAM_ECOMMITMENT (400), LOAM_ENOTFOUND (404), LOAM_ESTATUS, LOAM_EEMPTY, LOAM_EHASH (keccak mode). */
enum loam_status da_get(struct http *h, struct buf *out, const char *url, enum da_mode mode, const uint8_t *commitment, size_t n,
                        uint64_t l1_inclusion, const struct http_cancel *cancel, struct err *err) LOAM_MUST_USE;
/* What a get proved: "keccak verified" or "retrieved; KZG and quorum not checked". */
const char *da_word(const struct da_commitment *c);

#endif
