#include "node/chain_show.h"

#include "net/chain.h"
#include "node/chain.h"
#include "node/job.h"

#include <string.h>

#include "base/banned.h"

static enum loam_status header_of(struct chain *light, const char *word, struct header *h, struct err *err) {
    struct chain_head head;
    struct u256 v;
    struct hash32 hash;
    if (strcmp(word, "latest") == 0) {
        enum loam_status s = chain_head(light, &head, err);
        *h = head.h;
        return s;
    }
    if (strlen(word) == 66 && !hash_parse(&hash, word, NULL))
        return chain_header_by_hash(light, h, &hash, err);
    if (u256_parse(&v, word, NULL) || !u256_fits_u64(v))
        return err_set(err, LOAM_EINVAL, "block: a number, a hash, or latest");
    return chain_header(light, h, v.w[0], err);
}

enum loam_status node_chain_show_block(struct node *n, json_t **out, const char *block, struct job *j,
                                       struct err *err) {
    struct chain *light;
    struct header h;
    char hash[HASH_HEX_MAX], parent[HASH_HEX_MAX], state[HASH_HEX_MAX], receipts[HASH_HEX_MAX],
        txs[HASH_HEX_MAX], miner[ADDR_HEX_MAX], fee[U256_DEC_MAX];
    enum loam_status s = node_chain_ready(n, &light, j, err);
    if (!s)
        s = header_of(light, block, &h, err);
    if (s)
        return s;
    u256_format(fee, h.base_fee);
    json_t *list = json_array();
    struct chain_block b = {0};
    s = chain_block(light, &b, &h, err);
    for (size_t i = 0; !s && i < b.count; i++) {
        char t[HASH_HEX_MAX];
        json_array_append_new(list, json_pack("{s:s s:b s:I}", "tx", hash_hex(t, &b.tx_hashes[i]), "ok",
                                              b.receipts[i].ok, "logs", (json_int_t)b.receipts[i].log_count));
    }
    chain_block_clear(&b);
    if (s) {
        json_decref(list);
        return s;
    }
    *out = json_pack("{s:I s:s s:s s:I s:s s:s s:s s:s s:I s:I s:s s:i s:o}", "number", (json_int_t)h.number,
                     "hash", hash_hex(hash, &h.hash), "parent", hash_hex(parent, &h.parent), "time_ms",
                     (json_int_t)(h.timestamp * 1000), "state_root", hash_hex(state, &h.state_root),
                     "transactions_root", hash_hex(txs, &h.tx_root), "receipts_root",
                     hash_hex(receipts, &h.receipts_root), "fee_recipient", addr_hex(miner, &h.miner),
                     "gas_used", (json_int_t)h.gas_used, "gas_limit", (json_int_t)h.gas_limit, "base_fee_wei",
                     fee, "header_fields", h.fields, "transactions", list);
    return *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
}
enum loam_status node_chain_show_tx(struct node *n, json_t **out, const struct hash32 *hash_in, struct job *j,
                                    struct err *err) {
    struct chain *light;
    struct chain_receipt r = {0};
    char hash[HASH_HEX_MAX], bh[HASH_HEX_MAX], created[ADDR_HEX_MAX];
    enum loam_status s = node_chain_ready(n, &light, j, err);
    if (!s)
        s = chain_receipt(light, &r, hash_in, err);
    if (s)
        return s;
    json_t *logs = json_array();
    for (size_t i = 0; i < r.log_count; i++) {
        char a[ADDR_HEX_MAX], t[HASH_HEX_MAX] = "";
        if (r.logs[i].topic_count)
            hash_hex(t, &r.logs[i].topics[0]);
        json_array_append_new(logs, json_pack("{s:s s:s s:I}", "address", addr_hex(a, &r.logs[i].addr),
                                              "topic0", t, "data_bytes", (json_int_t)r.logs[i].data_len));
    }
    json_t *o = json_pack("{s:s s:b s:I s:s s:I s:I s:I s:o}", "tx", hash_hex(hash, &r.tx_hash), "ok", r.ok,
                          "block", (json_int_t)r.block, "block_hash", hash_hex(bh, &r.block_hash), "index",
                          (json_int_t)r.index, "gas_used", (json_int_t)r.gas_used, "blocks_on_top",
                          (json_int_t)r.depth, "logs", logs);
    if (o && !addr_is_zero(&r.created))
        json_object_set_new(o, "created", json_string(addr_hex(created, &r.created)));
    chain_receipt_clear(&r);
    *out = o;
    return o ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
}
enum loam_status node_chain_show_storage(struct node *n, json_t **out, const struct addr20 *a, const struct hash32 *slot, const char *block,
                                         struct job *j, struct err *err) {
    struct chain *light;
    struct header h;
    struct u256 v;
    struct hash32 value;
    char hex[ADDR_HEX_MAX], sh[HASH_HEX_MAX], vh[HASH_HEX_MAX];
    enum loam_status s = node_chain_ready(n, &light, j, err);
    if (!s)
        s = header_of(light, block, &h, err);
    if (!s)
        s = chain_slots(light, &v, a, slot, 1, &h, err);
    if (s)
        return s;
    u256_to_be(value.b, v);
    *out = json_pack("{s:s s:s s:s s:I}", "address", addr_hex(hex, a), "slot", hash_hex(sh, slot), "value", hash_hex(vh, &value), "at_block",
                     (json_int_t)h.number);
    return *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
}

enum loam_status node_chain_show_file(struct node *n, json_t **out, bool anchored, struct job *j, struct err *err) {
    struct chain *light;
    struct chain_head head;
    char hex[HASH_HEX_MAX];
    enum loam_status s = LOAM_OK;
    if (anchored && !(s = node_chain_ready(n, &light, j, err)))
        s = chain_head(light, &head, err);
    if (s)
        return s;
    json_t *f = node_chain_file(n);
    if (!f)
        return err_set(err, LOAM_ESTATE, "no chain is configured; `chain use URL`");
    if (anchored) {
        json_object_del(f, "start");
        json_object_set_new(f, "anchor", json_pack("{s:I s:s}", "number", (json_int_t)head.h.number, "hash", hash_hex(hex, &head.h.hash)));
    }
    *out = f;
    return LOAM_OK;
}

enum loam_status node_chain_show_account(struct node *n, json_t **out, const struct addr20 *a, const char *block, struct job *j,
                                         struct err *err) {
    struct chain *light;
    struct account acc;
    struct header head;
    char hex[ADDR_HEX_MAX], code[HASH_HEX_MAX], wei[U256_DEC_MAX], bh[HASH_HEX_MAX];
    enum loam_status s = node_chain_ready(n, &light, j, err);
    if (!s)
        s = header_of(light, block, &head, err);
    if (!s)
        s = chain_account(light, &acc, a, &head, err);
    if (s)
        return s;
    u256_format(wei, acc.balance);
    *out = json_pack(
        "{s:s s:s s:I s:b s:s s:I s:s s:s}", "address", addr_hex(hex, a), "balance_wei", wei, "nonce",
        (json_int_t)acc.nonce, "contract", !hash_eq(&acc.code_hash, &account_empty_code), "code_hash",
        hash_hex(code, &acc.code_hash), "at_block", (json_int_t)head.number, "at_hash",
        hash_hex(bh, &head.hash), "known", "proven by eth_getProof against the block's state root");
    return *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
}

#define LOG_DATA_SHOWN 1024 /* bytes of a log's data that are shown */

struct log_list {
    json_t *list;
    uint64_t limit;
    struct job *j;
};
static enum loam_status one_log(void *arg, const struct log *l, struct err *err) {
    struct log_list *x = arg;
    char a[ADDR_HEX_MAX], t[HASH_HEX_MAX], tx[HASH_HEX_MAX], data[2 * LOG_DATA_SHOWN + 1];
    if (json_array_size(x->list) >= x->limit)
        return LOAM_ELIMIT; /* enough: not an error, see below */
    enum loam_status s = x->j ? job_check(x->j, err) : LOAM_OK;
    if (s)
        return s;
    json_t *topics = json_array();
    for (unsigned i = 0; i < l->topic_count; i++)
        json_array_append_new(topics, json_string(hash_hex(t, &l->topics[i])));
    size_t shown = l->data_len < LOG_DATA_SHOWN ? l->data_len : LOG_DATA_SHOWN;
    hex_encode(data, l->data, shown);
    json_t *o = json_pack("{s:I s:s s:I s:s s:o s:s+ s:I}", "block", (json_int_t)l->block, "tx", hash_hex(tx, &l->tx_hash), "log", (json_int_t)l->log_index,
                          "address", addr_hex(a, &l->addr), "topics", topics, "data", "0x", data, "data_bytes", (json_int_t)l->data_len);
    if (!o || json_array_append_new(x->list, o))
        return err_set(err, LOAM_ENOMEM, "no memory");
    return LOAM_OK;
}

enum loam_status node_chain_show_logs(struct node *n, json_t **out, const struct addr20 *a, const struct hash32 *topic, uint64_t from, uint64_t to,
                                      uint64_t limit, struct job *j, struct err *err) {
    struct chain *light;
    struct chain_head head;
    enum loam_status s = node_chain_ready(n, &light, j, err);
    if (!s)
        s = chain_head(light, &head, err);
    if (s)
        return s;
    if (to > head.h.number)
        to = head.h.number;
    if (from > to)
        return err_set(err, LOAM_ERANGE, "blocks %llu to %llu: none", (unsigned long long)from, (unsigned long long)to);
    struct chain_filter f = {.addrs = a, .addr_count = 1, .topics = topic, .topic_count = topic != NULL};
    struct log_list x = {json_array(), limit, j};
    if (!x.list)
        return err_set(err, LOAM_ENOMEM, "no memory");
    s = chain_logs(light, from, to, &f, one_log, &x, err);
    if (s == LOAM_ELIMIT && json_array_size(x.list) >= limit)
        s = LOAM_OK;
    if (s) {
        json_decref(x.list);
        return s == LOAM_ENOTFOUND ? err_set(err, LOAM_ERANGE, "not all of the blocks %llu to %llu are held here", (unsigned long long)from, (unsigned long long)to) : s;
    }
    *out = x.list;
    return LOAM_OK;
}
