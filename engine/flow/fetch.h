/* Bytes from another node, by their hash, and models made of them. */
#ifndef LOAM_FLOW_FETCH_H
#define LOAM_FLOW_FETCH_H

#include "flow/batchdoc.h"
#include "flow/ctx.h"

#define FETCH_MAX (4ull << 30) /* bytes of one blob: gradient stores of a large model */
#define FETCH_TIMEOUT_MS 600000

/* Makes sure that this node holds the blob: from peer ("http://host:port"; NULL: only what is here). What comes is hashed while
 * it is written: LOAM_EHASH keeps nothing. LOAM_ENOTFOUND names what is missing and how to get it. */
enum loam_status fetch_blob(struct flow *f, const char *peer, const struct hash32 *h, struct err *err) LOAM_MUST_USE;
/* The address to ask: the one named by the user, else the statement's locator if it is an http(s) address of no more than a host (what
 * comes from there is believed by its hash alone), else NULL. */
const char *fetch_peer(const char *named, const char *locator);
/* A blob_fn (batchdoc.h): arg is a struct fetcher. */
struct fetcher {
    struct flow *f;
    const char *peer;
};
enum loam_status fetch_bytes(void *arg, const struct hash32 *h, struct buf *out, struct err *err) LOAM_MUST_USE;

/* The model of a batch as a MODEL record of this node: the one that was trained here, or one made of the poster's bundle, every part
 * checked against the Training statement on the chain. name: FLOW_MODEL_NAME_MAX bytes. LOAM_ENOTFOUND where the base model is not here. */
enum loam_status fetch_model(struct flow *f, char *name, const char *peer, const struct manifest *m, struct err *err) LOAM_MUST_USE;

#endif
