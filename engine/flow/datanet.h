/* datanet create / list / show. */
#ifndef LOAM_FLOW_DATANET_H
#define LOAM_FLOW_DATANET_H

#include "flow/ctx.h"

/* terms: text whose hash is signed (NULL: none). relay as in account.h. The same owner and name again give the datanet that is
 * there. *out: {datanet, owner, name, licence, terms_hash, new:bool}. */
enum loam_status flow_datanet_create(struct flow *f, json_t **out, const char *key, const char *name, const char *licence,
                                     const char *terms, const char *relay, struct err *err) LOAM_MUST_USE;
/* Every datanet of the chain, from verified logs, kept in table DATANET: [{datanet, owner, name, licence, terms_hash,
 * contributions, rows}]. */
enum loam_status flow_datanet_list(struct flow *f, json_t **out, struct err *err) LOAM_MUST_USE;
/* One, with its contributions: {…, list:[{contribution, account, order, rows, voided, row_root, licence, data_hash, held:bool}]}. */
enum loam_status flow_datanet_show(struct flow *f, json_t **out, uint64_t datanet, struct err *err) LOAM_MUST_USE;

#endif
