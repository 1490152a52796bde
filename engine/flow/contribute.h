/* contribute: rows to a datanet. Normalise, drop rows seen before, tree, commit, wait a block, reveal.
 *
 * Table CONTRIBUTION, key = datanet (u64 be) ‖ contribution (u64 be): written here, and by contribution_list for those of
 * others (verified logs; no statement and signature then)
 *   {contribution, datanet, account, order, rows: count, row_root, licence, data_hash, data_length, data_locator, tx, block,
 *    statement:{…}|absent, signature, salt, held: the rows blob is in this node}
 * Data blob (Contribution.dataHash): the rows' canonical JSON lines in tree order, each ended by LF.
 * Table ROW, key = row hash (32): {contribution, datanet, account, index}: the first contribution that this node saw it in. */
#ifndef LOAM_FLOW_CONTRIBUTE_H
#define LOAM_FLOW_CONTRIBUTE_H

#include "flow/ctx.h"
#include "record/row.h"

#define CONTRIBUTE_ROWS_MAX 1000000u
#define CONTRIBUTE_FILE_MAX (1u << 30)
#define CONTRIBUTE_DATA_MAX (1u << 30)

/* files: n paths of JSONL. *out: {contribution, account, datanet, rows, duplicates, row_root, data_hash, block, tx,
 * new:bool}. Rows that stand twice in the files, or in an earlier contribution known here, are left out and counted; if
 * none is left and they are all this account's own earlier contribution, that one is the result ("new": false). */
enum loam_status flow_contribute(struct flow *f, json_t **out, const char *key, uint64_t datanet, const char *licence,
                                 const char *const *files, size_t n, const char *relay, struct err *err) LOAM_MUST_USE;

/* Contributions of a datanet (0: of all), in the chain's order of commitment, brought up to date from verified logs. */
enum loam_status contribution_list(struct flow *f, json_t **out, uint64_t datanet, struct err *err) LOAM_MUST_USE;
/* Rows of one contribution from its data blob, checked against the row root: calls fn for each, in order. LOAM_ENOTFOUND when
 * this node does not hold the blob. */
typedef enum loam_status (*row_fn)(void *arg, uint64_t index, const struct row *r, struct err *err);
enum loam_status contribution_rows(struct flow *f, const json_t *contribution, row_fn fn, void *arg, struct err *err) LOAM_MUST_USE;

#endif
