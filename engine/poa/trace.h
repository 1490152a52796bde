/* Traces: what two executions of the same call must have in common, step by step, so that a difference is named by the first
 * element in which they differ, and a root commits to all of it (record/tree.h).
 *
 * An entry is a name ("tokens", "gradient 2/17", "scores", …), a count of elements, and keccak of the elements' bytes.
 * Leaf bytes: u32be length of name ‖ name ‖ u64be elements ‖ 32 hash. */
#ifndef LOAM_POA_TRACE_H
#define LOAM_POA_TRACE_H

#include "base/bytes.h"
#include "record/tree.h"

#include <stdio.h>

#define POA_TRACE_NAME_MAX 64
#define POA_TRACE_MAX (1u << 20)

struct poa_trace_entry {
    char name[POA_TRACE_NAME_MAX];
    uint64_t elements;
    struct hash32 hash;
};
struct poa_trace {
    struct poa_trace_entry *entry;
    size_t count, cap;
};
void poa_trace_init(struct poa_trace *t);
void poa_trace_clear(struct poa_trace *t);
/* bytes: elements of `size` bytes each, hashed as they stand in memory (all our formats are little-endian). */
enum loam_status poa_trace_add(struct poa_trace *t, const void *bytes, uint64_t elements, size_t size, struct err *err,
                               const char *name, ...) LOAM_MUST_USE LOAM_PRINTF(6, 7);
enum loam_status poa_trace_add_hash(struct poa_trace *t, const struct hash32 *h, uint64_t elements, struct err *err,
                                    const char *name, ...) LOAM_MUST_USE LOAM_PRINTF(5, 6);
struct hash32 poa_trace_root(const struct poa_trace *t);
/* One line an entry: name, tab, elements, tab, 0x hash. And back. */
enum loam_status poa_trace_write(struct buf *out, const struct poa_trace *t, struct err *err) LOAM_MUST_USE;
enum loam_status poa_trace_read(struct poa_trace *out, const char *text, size_t n, struct err *err) LOAM_MUST_USE;

/* LOAM_OK where equal; LOAM_EVERIFY says which entry is the first to differ, and how (missing, count, content). *at gets
 * its position (NULL allowed). */
enum loam_status poa_trace_compare(const struct poa_trace *a, const struct poa_trace *b, size_t *at, struct err *err) LOAM_MUST_USE;

/* The first element in which two arrays of the same length differ; n if none. The message of poa_compare names it with both
 * values: "scores[17]: 4711 here, 4712 there". */
size_t poa_first_difference(const void *a, const void *b, size_t n, size_t size);
enum poa_kind { POA_I8, POA_I32, POA_I64, POA_F32, POA_U32 };
enum loam_status poa_compare(const char *what, enum poa_kind kind, const void *mine, size_t n, const void *theirs, size_t m, struct err *err) LOAM_MUST_USE;

#endif
