/* Hex fields of JSON-RPC answers, strictly: "0x" and exactly the digits that the type asks for. A missing field or null
 * is LOAM_ENULL, anything else malformed LOAM_EHEX; the message names the field. */
#ifndef LOAM_NET_HEXJSON_H
#define LOAM_NET_HEXJSON_H

#include "base/bytes.h"
#include "base/u256.h"
#include "record/types.h"

#include <jansson.h>
#include <stdbool.h>

bool hj_has(const json_t *o, const char *key); /* present and not null */
enum loam_status hj_u64(uint64_t *out, const json_t *o, const char *key, struct err *err) LOAM_MUST_USE;
enum loam_status hj_u256(struct u256 *out, const json_t *o, const char *key, struct err *err) LOAM_MUST_USE;
enum loam_status hj_fixed(void *out, size_t n, const json_t *o, const char *key, struct err *err) LOAM_MUST_USE;
/* Any even count of digits, into out (reset first). */
enum loam_status hj_bytes(struct buf *out, const json_t *o, const char *key, struct err *err) LOAM_MUST_USE;
/* The same on a JSON string itself; what names it. */
enum loam_status hj_str_u64(uint64_t *out, const json_t *v, const char *what, struct err *err) LOAM_MUST_USE;
enum loam_status hj_str_u256(struct u256 *out, const json_t *v, const char *what, struct err *err) LOAM_MUST_USE;
enum loam_status hj_str_fixed(void *out, size_t n, const json_t *v, const char *what, struct err *err) LOAM_MUST_USE;
enum loam_status hj_str_bytes(struct buf *out, const json_t *v, const char *what, struct err *err) LOAM_MUST_USE;
/* Writers: a new JSON string, NULL when out of memory. */
json_t *hj_new_bytes(const void *p, size_t n); /* "0x…", all digits */
json_t *hj_new_u64(uint64_t v);                /* quantity: "0x1f" */
json_t *hj_new_u256(struct u256 v);

#endif
