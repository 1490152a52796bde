/* What flows do with the contracts: send a call through the outbox, read slots by proof, find an event in a verified receipt,
 * sign a statement for the contract that checks it. */
#ifndef LOAM_FLOW_CHAINIO_H
#define LOAM_FLOW_CHAINIO_H

#include "flow/ctx.h"
#include "flow/slots.h"
#include "net/abi.h"
#include "node/outbox.h"
#include "record/statements.h"

#define SIG_TEXT_MAX 1536 /* a call's signature with its tuples written out */

/* Statements. */
/* A value for every field, borrowed from s; returns the tuple (its items lie in items). */
struct abi_value st_abi(struct abi_value items[ST_FIELDS_MAX], enum st_id id, const void *s);
/* "(uint64,bytes32,string)", appended to out of cap bytes (invariant: it fits SIG_TEXT_MAX). */
void st_types(char *out, size_t cap, enum st_id id);
json_t *st_to_json(enum st_id id, const void *s); /* object of fields, as st_json; NULL without memory */
/* Strings borrow from o. LOAM_EPARSE names the field. */
enum loam_status st_from_json(void *s, enum st_id id, const json_t *o, struct err *err) LOAM_MUST_USE;
/* Signs with a key of the node under the domain of a contract ("Ledger"). *hash (may be NULL) gets the struct hash. */
enum loam_status st_sign(struct node *n, struct sig65 *sig, struct hash32 *hash, const char *key, const char *contract,
                         enum st_id id, const void *s, struct err *err) LOAM_MUST_USE;
/* LOAM_ESIG unless `signer` signed it under that contract's domain. */
enum loam_status st_check(struct node *n, const struct addr20 *signer, const char *contract, enum st_id id, const void *s,
                          const struct sig65 *sig, struct err *err) LOAM_MUST_USE;
/* A nonce nobody used: the contracts take any unused number. */
enum loam_status st_nonce(struct u256 *out, struct err *err) LOAM_MUST_USE;
/* Expiry for a statement made now, by the chain's clock. */
enum loam_status st_expiry(struct node *n, uint64_t seconds, uint64_t *out, struct err *err) LOAM_MUST_USE;

/* Calls. sig may hold "%T" for each statement's tuple types, taken from ids in order (ST_COUNT ends them):
 * "postBatch(%T,bytes,%T[],bytes[])". The outbox key is the flow's name and step. LOAM_EREVERT has the contract's reason. */
struct fcall {
    const char *step;     /* unique in the flow */
    const char *from;     /* key that pays the gas */
    const char *contract; /* name in chains/ID.json */
    struct u256 value;
    const char *sig;
    enum st_id ids[4]; /* for %T */
    int id_count;
    const char *what; /* for people */
};
enum loam_status fsend(struct flow *f, struct outbox_result *out, const struct fcall *c, const struct abi_value *items, size_t n,
                       struct err *err) LOAM_MUST_USE;
/* The first log of this contract with this event, decoded; LOAM_ENOTFOUND. */
enum loam_status fevent(struct node *n, struct abi_doc *out, const struct outbox_result *r, const char *contract, const char *sig,
                        struct err *err) LOAM_MUST_USE;

/* Slots, read by proof at the newest verified head. */
struct slotref {
    struct hash32 slot;
};
struct slotref slot_of(uint64_t slot);
struct slotref slot_u64(struct slotref mapping, uint64_t key);           /* element of a mapping */
struct slotref slot_addr(struct slotref mapping, const struct addr20 *key);
struct slotref slot_hash(struct slotref mapping, const struct hash32 *key);
struct slotref slot_plus(struct slotref s, uint64_t words);              /* a later word of a struct */
struct slotref slot_item(struct slotref array, uint64_t index, unsigned bytes); /* word that holds item `index` of a dynamic array whose items take `bytes` */
/* All at one head: what belongs together is read together. count is at most SLOTS_MAX. */
enum loam_status fslots(struct node *n, struct hash32 *out, const char *contract, const struct slotref *s, size_t count, struct err *err) LOAM_MUST_USE;
enum loam_status fslot(struct node *n, struct hash32 *out, const char *contract, struct slotref s, struct err *err) LOAM_MUST_USE;
enum loam_status fslot_u256(struct node *n, struct u256 *out, const char *contract, struct slotref s, struct err *err) LOAM_MUST_USE;
/* `size` bytes at `at` from the word's low end, at most 8. */
enum loam_status fslot_u64(struct node *n, uint64_t *out, const char *contract, struct slotref s, unsigned at, unsigned size,
                           struct err *err) LOAM_MUST_USE;
uint64_t word_u64(const struct hash32 *w, unsigned at, unsigned size);
struct addr20 word_addr(const struct hash32 *w, unsigned at);

/* Accounts. */
struct account_info {
    uint64_t id;
    struct addr20 signing, payout, recovery;
};
/* LOAM_ENOTFOUND where nothing is registered under that number. */
enum loam_status account_read(struct node *n, struct account_info *out, uint64_t id, struct err *err) LOAM_MUST_USE;
/* Number of the account whose present signing key this is; LOAM_ENOTFOUND names the remedy. */
enum loam_status account_of_addr(struct node *n, uint64_t *out, const struct addr20 *a, struct err *err) LOAM_MUST_USE;
enum loam_status account_of_key(struct node *n, uint64_t *out, const char *key, struct err *err) LOAM_MUST_USE;
/* A number, or the name of a key. */
enum loam_status account_named(struct node *n, uint64_t *out, const char *word, struct err *err) LOAM_MUST_USE;

/* The verified head's number and time. */
enum loam_status fhead(struct node *n, uint64_t *number, uint64_t *time, struct err *err) LOAM_MUST_USE;
/* Waits until the verified head is past that block / that second of the chain's clock. */
enum loam_status fwait_block(struct flow *f, uint64_t number, struct err *err) LOAM_MUST_USE;
enum loam_status fwait_time(struct flow *f, uint64_t second, struct err *err) LOAM_MUST_USE;
uint64_t fdeploy_block(struct node *n); /* where looking for events begins; 0 if not known */

#endif
