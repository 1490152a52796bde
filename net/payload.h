/* Blocks as the sequencer signs and gossips them (OP Stack p2p spec): signature over SSZ ExecutionPayload V1 to V4, as snappy
 * messages or in Helios' HTTP form. Nothing of the peer is copied into the header: transactions root and block hash are
 * recomputed.
 *
 *   gossip message  snappy block of r(32) s(32) parity(1) signed bytes
 *   signed bytes    [parentBeaconBlockRoot(32) from V3 on] SSZ(payload)
 *   signing hash    keccak(0^32 | u256be chain id | keccak(signed bytes))
 */
#ifndef LOAM_NET_PAYLOAD_H
#define LOAM_NET_PAYLOAD_H

#include "net/header.h"
#include "net/trie.h"

#define PAYLOAD_MAX (10u << 20) /* of the spec, uncompressed */
#define PAYLOAD_TXS_MAX 65536
#define PAYLOAD_PAST_S 60       /* a timestamp older than this is refused … */
#define PAYLOAD_FUTURE_S 5      /* … and one so far ahead */
#define PAYLOAD_PER_HEIGHT 5    /* most different blocks taken of one height */

struct payload {
    unsigned version;          /* 1 to 4 */
    struct header h;           /* rebuilt; h.hash recomputed and equal to the claimed one after payload_decode */
    struct bytes_view *tx;     /* raw transactions, borrowed from the bytes decoded; the array is owned */
    size_t tx_count;
};
/* bytes: the signed bytes; version 0: found from the first offset (V3 or V4: the forms with a root in front). LOAM_ESSZ,
 * LOAM_EHEADER (the recomputed hash is not the claimed one). payload_clear also after failure. */
enum loam_status payload_decode(struct payload *out, const uint8_t *bytes, size_t n, unsigned version, struct err *err) LOAM_MUST_USE;
void payload_clear(struct payload *p);
/* The signed bytes of a block (tests, simulator). */
enum loam_status payload_encode(struct buf *out, const struct header *h, const struct bytes_view *tx, size_t tx_count, unsigned version,
                                struct err *err) LOAM_MUST_USE;
void payload_signing_hash(struct hash32 *out, uint64_t chain_id, const uint8_t *bytes, size_t n);

/* A message taken apart: sig is r, s, parity. */
struct payload_message {
    uint8_t sig[65];
    struct buf bytes; /* signed bytes, owned */
};
/* data: snappy block. LOAM_ESNAPPY. */
enum loam_status payload_from_snappy(struct payload_message *out, const uint8_t *data, size_t n, struct err *err) LOAM_MUST_USE;
/* Helios' {"data","signature":{r,s,yParity|v}}: r and s are quantities, v may be 0, 1, 27, 28. LOAM_EHEX, LOAM_EJSON, LOAM_ENULL. */
enum loam_status payload_from_helios(struct payload_message *out, const json_t *o, struct err *err) LOAM_MUST_USE;
void payload_message_clear(struct payload_message *m);

/* Everything that one message must satisfy by itself, in the order of the spec: encoding, time (now_s 0: not checked), block
 * hash, rules of its version and fork, signature by one of signers. Fills out (payload_clear). LOAM_ETIMESTAMP, LOAM_EFORK,
 * LOAM_ESIGNER, LOAM_ESIG beside payload_decode's. */
enum loam_status payload_verify(struct payload *out, const struct payload_message *m, unsigned version, uint64_t chain_id,
                                const struct header_rules *rules, uint64_t now_s, const struct addr20 *signers, size_t signer_count,
                                struct err *err) LOAM_MUST_USE;

#endif
