/* Receipts and logs: from JSON-RPC, to the bytes of the receipts trie, with the OP Stack's two quirks: a deposit's nonce
 * and version stand in the trie from Canyon on; before (Regolith) the JSON has the nonce but the trie has not. */
#ifndef LOAM_NET_RECEIPT_H
#define LOAM_NET_RECEIPT_H

#include "base/bytes.h"
#include "base/u256.h"
#include "record/types.h"

#include <jansson.h>
#include <stdbool.h>

#define LOG_TOPICS_MAX 4
#define LOG_DATA_MAX (8u << 20)
#define RECEIPT_LOGS_MAX 65536

struct log {
    struct addr20 addr;
    struct hash32 topics[LOG_TOPICS_MAX];
    uint8_t topic_count;
    const uint8_t *data; /* owned by the receipt, or by whoever hands the log out; until it is cleared */
    size_t data_len;
    uint64_t block, tx_index, log_index; /* log_index counts in the block */
    struct hash32 block_hash, tx_hash;
};

struct receipt {
    uint8_t type;
    bool ok; /* status 1 */
    uint64_t cumulative_gas;
    uint8_t bloom[256]; /* recomputed from the logs */
    struct log *logs;
    size_t log_count;
    bool has_deposit_nonce, has_deposit_version;
    uint64_t deposit_nonce, deposit_version;
    struct buf bytes; /* the logs' data */
};

/* Zeroes first. The bloom in the JSON must equal the logs' (LOAM_EBLOOM). receipt_clear also after failure. */
enum loam_status receipt_from_json(struct receipt *out, const json_t *o, struct err *err) LOAM_MUST_USE;
/* The encoding of the trie (type byte, RLP). */
enum loam_status receipt_encode(struct buf *out, const struct receipt *r, struct err *err) LOAM_MUST_USE;
void receipt_clear(struct receipt *r);

#endif
