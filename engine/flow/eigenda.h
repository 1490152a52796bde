/* Batches through EigenDA, where a proxy is configured (options da.proxy and da.mode). The commitment stands in the statement's
 * dataLocator, before the poster's own address: "eigenda:MODE:0xHEX http://HOST:PORT" (either part may be missing). What is checked: the
 * bytes' keccak against the statement (always), and keccak commitments; KZG and the quorum's signatures are not, and it is said. */
#ifndef LOAM_FLOW_EIGENDA_H
#define LOAM_FLOW_EIGENDA_H

#include "flow/ctx.h"

#include <stdbool.h>

#define LOCATOR_MAX 4096 /* ST_STRING_MAX */

/* Publishes the blob and reads it back; writes its locator and a space into `locator`. "" , and LOAM_OK, where no proxy is configured, or EigenDA cannot take it now (503, 429 or 5xx after
 * tries, too large): the poster's own node serves it then, which is said. A proxy that refuses us (400, 403) is an error: the
 * configuration is wrong. */
enum loam_status eigenda_publish(struct flow *f, char locator[LOCATOR_MAX], const struct hash32 *blob, struct err *err) LOAM_MUST_USE;
/* Fetches the blob by a locator into this node's blobs. LOAM_ENOTFOUND: the locator names no EigenDA commitment, or no proxy is
 * configured here. LOAM_EHASH: other bytes than the statement's. */
enum loam_status eigenda_fetch(struct flow *f, const char *locator, const struct hash32 *blob, struct err *err) LOAM_MUST_USE;
/* The blob of a statement from wherever: here, EigenDA, the peer. Every failure but the last is a note. */
enum loam_status fetch_located(struct flow *f, const char *peer, const char *locator, const struct hash32 *blob, struct err *err) LOAM_MUST_USE;

#endif
