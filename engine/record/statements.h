/* Statements: what is signed. One struct st_x for each entry of statements.def, and one set of functions for all of them.
 *
 * EIP-712 (https://eips.ethereum.org/EIPS/eip-712): domain = {name "loam", version "1", chainId, verifyingContract};
 * digest = keccak(0x19 0x01 ‖ domain hash ‖ struct hash). The contract that checks a statement is its verifying contract.
 *
 * Strings are UTF-8, NUL-terminated and borrowed for as long as the struct is used; NULL counts as "". int256 is two's
 * complement in a struct u256 (types.h). A struct is zeroed before it is filled: fields left out are then zero. */
#ifndef LOAM_RECORD_STATEMENTS_H
#define LOAM_RECORD_STATEMENTS_H

#include "base/bytes.h"
#include "record/types.h"

#define ST_DOMAIN_NAME "loam"
#define ST_DOMAIN_VERSION "1"
#define ST_STRING_MAX 4096 /* bytes of one string; a locator is the longest there is */
#define ST_FIELDS_MAX 24

typedef struct addr20 st_ctype_address;
typedef struct hash32 st_ctype_bytes32;
typedef uint8_t st_ctype_uint8;
typedef uint32_t st_ctype_uint32;
typedef uint64_t st_ctype_uint64;
typedef struct u256 st_ctype_uint256;
typedef struct u256 st_ctype_int256;
typedef const char *st_ctype_string;

#define STATEMENT(Name, c) struct st_##c {
#define FIRST(type, name, c) st_ctype_##type c;
#define FIELD(type, name, c) st_ctype_##type c;
#define END(Name, c) };
#include "record/statements.def"
#undef STATEMENT
#undef FIRST
#undef FIELD
#undef END

/* ST_Register, ST_Rotate, … ST_COUNT. */
enum st_id {
#define STATEMENT(Name, c) ST_##Name,
#define FIRST(type, name, c)
#define FIELD(type, name, c)
#define END(Name, c)
#include "record/statements.def"
#undef STATEMENT
#undef FIRST
#undef FIELD
#undef END
    ST_COUNT,
};

enum st_kind { ST_address, ST_bytes32, ST_uint8, ST_uint32, ST_uint64, ST_uint256, ST_int256, ST_string };

struct st_field {
    const char *name; /* as signed: "rowCount" */
    const char *type; /* "uint64" */
    enum st_kind kind;
    size_t offset; /* in the C struct */
};

struct st_def {
    const char *name; /* "Contribution" */
    const char *type; /* "Contribution(uint64 account,…)" */
    size_t size;      /* of the C struct */
    const struct st_field *fields;
    size_t count;
};

/* The description of a statement; static. id must be below ST_COUNT (invariant). */
const struct st_def *st_def(enum st_id id);
/* By name ("Contribution"); false if there is none. */
bool st_find(enum st_id *id, const char *name);

/* keccak of the type string. */
struct hash32 st_type_hash(enum st_id id);
/* EIP-712 hashStruct. s points to the struct st_x of that id. */
struct hash32 st_hash(enum st_id id, const void *s);
struct hash32 st_domain(uint64_t chain_id, const struct addr20 *verifying_contract);
/* What a key signs. */
struct hash32 st_digest(const struct hash32 *domain, const struct hash32 *struct_hash);

/* Appends the statement as a Solidity ABI tuple: heads, then tails, offsets counted from the tuple's start. This is the
 * stored form, and what a contract call takes for a struct argument (a static tuple inline; a dynamic one behind its
 * offset). LOAM_ELIMIT for a string over ST_STRING_MAX. */
enum loam_status st_encode(struct buf *out, enum st_id id, const void *s, struct err *err) LOAM_MUST_USE;
/* Does the tuple hold a string, so that calls put it behind an offset? */
bool st_is_dynamic(enum st_id id);
/* The reverse; strict (canonical offsets, zero padding, nothing left over, no NUL in strings), so that equal statements
 * have equal bytes. *strings gets one block that holds the strings of *s (NULL if none); mem_free it after *s. LOAM_EPARSE. */
enum loam_status st_decode(void *s, char **strings, enum st_id id, const uint8_t *p, size_t n, struct err *err) LOAM_MUST_USE;
/* Field by field; equal bytes when encoded. */
bool st_equal(enum st_id id, const void *a, const void *b);

/* Appends the message as a JSON object: hashes and addresses as "0x…", uint256 and int256 as decimal strings, other
 * integers as numbers, strings escaped. */
enum loam_status st_json(struct buf *out, enum st_id id, const void *s, struct err *err) LOAM_MUST_USE;
/* Appends the whole eth_signTypedData_v4 object {types, primaryType, domain, message}, as `cast wallet sign --data` and
 * wallets take it. */
enum loam_status st_typed_json(struct buf *out, enum st_id id, const void *s, uint64_t chain_id,
                               const struct addr20 *verifying_contract, struct err *err) LOAM_MUST_USE;

/* Commitments (contrib/doc/protocol.md). */
/* keccak(abi.encode(bytes32 structHash, bytes32 salt)): a contribution before it is revealed. */
struct hash32 commit_contribution(const struct st_contribution *c, const struct hash32 *salt);
/* keccak(abi.encode(bytes32 traceRoot, bytes32 salt)): the poster's trace before the draw. */
struct hash32 commit_trace(const struct hash32 *trace_root, const struct hash32 *salt);
/* keccak(abi.encode(uint256 chainId, address ledger, uint64 batch, uint64 validator, uint8 verdict, bytes32 traceRoot,
 * bytes32 salt)): a validator's verdict before the reveal. */
struct hash32 commit_verdict(uint64_t chain_id, const struct addr20 *ledger, const struct st_attestation *a);
/* keccak(salt ‖ text): prompt and output commitments; the salt keeps short texts from being guessed. */
struct hash32 commit_text(const struct hash32 *salt, const void *text, size_t n);

enum { VERDICT_VALID = 1, VERDICT_INVALID = 2 };
enum { PRIVACY_PUBLIC = 0, PRIVACY_COMMITTEE = 1, PRIVACY_PRIVATE = 2 };
enum { STOP_EOS = 0, STOP_LENGTH = 1, STOP_WORD = 2 };

#endif
