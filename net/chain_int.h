/* What the files of the light client share (chain.c, chain_read.c, chain_config.c). Nobody else includes this. */
#ifndef LOAM_NET_CHAIN_INT_H
#define LOAM_NET_CHAIN_INT_H

#include "net/chain.h"

#include <stdatomic.h>

#define CHAIN_SEEN 6
#define BLOCK_CACHE 8 /* verified blocks kept: a flow asks for several receipts of one block */

struct chain {
    struct chain_config cfg;
    struct chain_code *codes; /* owned; names too */
    struct rpc *rpc;
    struct chain_store store;
    struct chain_events ev;

    uv_mutex_t sync; /* one round at a time */
    uv_mutex_t lock; /* guards all below */
    uv_cond_t cond;  /* head changed, or poked */
    bool has_head, poked, running;
    atomic_bool stop; /* also cancels what waits for the network */
    struct http_cancel cancel;
    struct chain_head head;
    uint64_t signed_to, proposed_to, resolved_to; /* highest numbers with these words; 0: none */
    unsigned missing;                             /* rounds in a row in which the tip was not known any more */
    uv_thread_t thread;
    struct feed {
        struct chain *c;
        uv_thread_t thread;
        bool running;
        struct rpc_health h; /* under `lock`, but for rest_ms: see rest_until_us */
        uint64_t rest_until_us;
        unsigned run;
    } feed[CHAIN_FEEDS_MAX];
    struct {
        struct hash32 hash;
        struct chain_block *b; /* shared under lock by copying out */
        uint64_t used;
    } cache[BLOCK_CACHE];
    uint64_t cache_clock;
    /* The last signed messages, for evidence; under `sync`. */
    struct seen {
        uint64_t number;
        struct hash32 hash;
        struct payload_message m;
    } seen[CHAIN_SEEN];
    size_t seen_next;
};

/* Brings the store to this header, known to be the chain's: fills what is missing before it. Under `sync`. */
enum loam_status chain_adopt(struct chain *c, const struct header *h, struct err *err);
void chain_publish_tip(struct chain *c);
void chain_keep_known(struct chain *c); /* writes the words to the store */

/* A JSON-RPC call on one endpoint (RPC_ANY for any); *used gets which. */
enum loam_status chain_ask(struct chain *c, json_t **out, const char *method, json_t *params, int endpoint, int *used, struct err *err);
/* Fetches a header by number ("latest" for UINT64_MAX) from one endpoint and checks it by itself. LOAM_ENULL: it has none. */
enum loam_status chain_fetch_header(struct chain *c, struct header *out, uint64_t number, int endpoint, int *used, struct err *err);
/* The header given, or the verified head into tmp. */
enum loam_status chain_at(struct chain *c, const struct header **out, struct header *tmp, const struct header *at, struct err *err);
void chain_cache_clear(struct chain *c);
/* Threads that ask the feeds; started and joined with the light client's own. */
enum loam_status chain_feeds_start(struct chain *c, struct err *err);
void chain_feeds_join(struct chain *c);

#endif
