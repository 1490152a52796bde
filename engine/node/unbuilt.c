/* Seats of the chain, the outbox and the API until net is there. */
#include "base/mem.h"
#include "node/api.h"
#include "node/chain.h"
#include "node/outbox.h"
#include "node/private.h"

#include "base/banned.h"

bool node_chain_configured(struct node *n) { (void)n; return false; }
uint64_t node_chain_id(struct node *n) { (void)n; return 0; }
bool node_chain_is_dev(struct node *n) { (void)n; return false; }
enum loam_status node_chain_open(struct node *n, struct err *err) { (void)n; (void)err; return LOAM_OK; }
void node_chain_start(struct node *n) { (void)n; }
void node_chain_stop(struct node *n) { (void)n; }
void node_chain_close(struct node *n) { (void)n; }
enum loam_status outbox_open(struct node *n, struct err *err) { (void)n; (void)err; return LOAM_OK; }
void outbox_close(struct node *n) { (void)n; }
void outbox_tick(struct node *n) { (void)n; }
size_t outbox_pending(struct node *n) { (void)n; return 0; }
json_t *outbox_list(struct node *n) { (void)n; return json_array(); }
enum loam_status api_open(struct node *n, struct err *err) { (void)n; (void)err; return LOAM_OK; }
const char *api_url(struct node *n, char *out, size_t cap) { (void)n; (void)out; (void)cap; return NULL; }
void api_close(struct node *n) { (void)n; }
void api_free(struct node *n) { (void)n; }
