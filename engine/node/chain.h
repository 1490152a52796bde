/* The node's chain: the configured chain of the data folder, its RPCs, the light client over the store, verified reads.
 * One chain per data folder: DATA/chains/ID.json, chosen by the option chain.id. Waiting calls are for job threads. */
/* (Names begin with node_chain_, since chain_ is the light client's own: net/chain.h.) */
#ifndef LOAM_NODE_CHAIN_H
#define LOAM_NODE_CHAIN_H

#include "base/status.h"
#include "base/u256.h"
#include "record/types.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct node;
struct job;
struct http;
struct chain_service;
struct chain; /* net/chain.h: the light client */
struct anchor_service; /* net/anchor.h */
struct rpc;   /* net/rpc.h */

bool node_chain_configured(struct node *n);
uint64_t node_chain_id(struct node *n); /* 0 when unconfigured */
uint64_t node_chain_head_number(struct node *n); /* 0: none known; never waits */
bool node_chain_is_up(struct node *n);  /* a head is known and followed; never waits */
bool node_chain_is_dev(struct node *n); /* anvil's profile: only there are published keys allowed */
/* For flows that talk to net themselves; NULL when unconfigured. */
struct chain *node_chain_light(struct node *n);
struct rpc *node_chain_rpc(struct node *n);
/* Address of a contract by its name in chains/ID.json ("Ledger"); LOAM_ENOTFOUND with the remedy (`chain deploy`). */
enum loam_status node_chain_contract(struct node *n, const char *name, struct addr20 *out, struct err *err) LOAM_MUST_USE;
/* Records addresses (and code hashes) of contracts, e.g. after deploy: {name: {address, code_hash}}; borrowed. LOAM_ECODE where the chain
 * proves another code for an address. */
enum loam_status node_chain_contracts_set(struct node *n, const json_t *contracts, uint64_t deploy_block, struct err *err) LOAM_MUST_USE;
/* Verified reads at the newest known head (eth_getProof against its state root). */
enum loam_status node_chain_balance(struct node *n, struct u256 *wei, uint64_t *nonce, const struct addr20 *a, struct err *err) LOAM_MUST_USE;
/* n slots of one contract, all at the same head: two calls may see two heads, and a record torn between them. n is at most SLOTS_MAX. */
#define SLOTS_MAX 16
enum loam_status node_chain_storage(struct node *n, struct hash32 *values, const struct addr20 *a, const struct hash32 *slots, size_t count,
                                    struct err *err) LOAM_MUST_USE;
/* The light client when it follows the head; else why not: LOAM_ESTATE unconfigured, LOAM_EBUSY being checked, LOAM_ECHAIN,
 * LOAM_EGENESIS, LOAM_ECODE, LOAM_ENET… */
enum loam_status node_chain_need(struct node *n, struct chain **out, struct err *err) LOAM_MUST_USE;
/* The same, waiting a few seconds while it is being checked. */
enum loam_status node_chain_ready(struct node *n, struct chain **out, struct job *j, struct err *err) LOAM_MUST_USE;
/* Makes the chain that the RPC serves this data folder's chain: asks its id and genesis, writes chains/ID.json, follows it.
 * LOAM_ECHAIN when the folder has another one. The same chain again only adds the address, which is asked at once. */
enum loam_status node_chain_use(struct node *n, const char *url, const char *name, struct job *j, struct err *err) LOAM_MUST_USE;
/* The same from a chain's file (contrib/chains). */
enum loam_status node_chain_use_file(struct node *n, const char *path, struct job *j, struct err *err) LOAM_MUST_USE;
uint64_t node_chain_deploy_block(struct node *n);
json_t *node_chain_peers(struct node *n);    /* [{url, kind: "rpc"|"feed"|"l1"|"archive", ok, score, calls, faults, lies, latency_us, error}] */
/* The chain's L1, for sending there; lives until the node ends. LOAM_ESTATE: the chain's file names none, or it is not up yet. */
enum loam_status node_chain_l1(struct node *n, struct anchor_service **out, struct err *err) LOAM_MUST_USE;
json_t *node_chain_file(struct node *n); /* the chain's file; new reference, NULL when unconfigured */
/* Lies caught, newest first: [{time_ms, status, text}], then the sequencer's equivocations: [{status, text, number, blocks: [{hash, signature}]}] */
json_t *node_chain_evidence(struct node *n);
struct http *node_http(struct node *n);      /* for fetching blobs from other nodes (net/http.h) */
/* Waits until the head is at least `number`; the job cancels. */
enum loam_status node_chain_wait_block(struct node *n, uint64_t number, struct job *j, struct err *err) LOAM_MUST_USE;

#endif
