#include "net/receipt.h"

#include "net/bloom.h"
#include "net/hexjson.h"
#include "net/rlp.h"
#include "base/mem.h"

#include <string.h>

#include "base/banned.h"

void receipt_clear(struct receipt *r) {
    mem_free(r->logs);
    buf_clear(&r->bytes);
    r->logs = NULL;
    r->log_count = 0;
}

enum loam_status receipt_from_json(struct receipt *r, const json_t *o, struct err *err) {
    enum loam_status s;
    uint64_t v = 0;
    uint8_t bloom[256];
    struct buf data = BUF_INIT(LOG_DATA_MAX);
    memset(r, 0, sizeof *r);
    buf_init(&r->bytes, LOG_DATA_MAX);
    if (!o || json_is_null(o))
        return err_set(err, LOAM_ENULL, "receipt: null");
    if (!json_is_object(o))
        return err_set(err, LOAM_EJSON, "receipt: not an object");
    if (hj_has(o, "type") && (s = hj_u64(&v, o, "type", err)))
        return err_prefix(err, s, "receipt");
    if (v > 0x7f)
        return err_set(err, LOAM_EUNSUPPORTED, "receipt of type 0x%llx", (unsigned long long)v);
    r->type = (uint8_t)v;
    if ((s = hj_u64(&v, o, "status", err)) || (s = hj_u64(&r->cumulative_gas, o, "cumulativeGasUsed", err)) ||
        (s = hj_fixed(bloom, 256, o, "logsBloom", err)))
        return err_prefix(err, s, "receipt");
    if (v > 1)
        return err_set(err, LOAM_ERECEIPT, "receipt: status %llu", (unsigned long long)v);
    r->ok = v;
    if (r->type == 0x7e) {
        r->has_deposit_nonce = hj_has(o, "depositNonce");
        r->has_deposit_version = hj_has(o, "depositReceiptVersion");
        if ((r->has_deposit_nonce && (s = hj_u64(&r->deposit_nonce, o, "depositNonce", err))) ||
            (r->has_deposit_version && (s = hj_u64(&r->deposit_version, o, "depositReceiptVersion", err))))
            return err_prefix(err, s, "receipt");
    }
    json_t *logs = json_object_get(o, "logs"), *l, *t;
    size_t i, j;
    if (!json_is_array(logs))
        return err_set(err, logs && !json_is_null(logs) ? LOAM_EJSON : LOAM_ENULL, "receipt: no list of logs");
    if (json_array_size(logs) > RECEIPT_LOGS_MAX)
        return err_set(err, LOAM_ELIMIT, "receipt: %zu logs", json_array_size(logs));
    if (!(r->logs = mem_zarray(json_array_size(logs) + 1, sizeof *r->logs)))
        return err_set(err, LOAM_ENOMEM, "receipt: %zu logs", json_array_size(logs));
    json_array_foreach(logs, i, l) {
        struct log *g = &r->logs[i];
        json_t *topics = json_object_get(l, "topics");
        if ((s = hj_fixed(g->addr.b, 20, l, "address", err)) || (s = hj_bytes(&data, l, "data", err)))
            goto done;
        if (!json_is_array(topics) || json_array_size(topics) > LOG_TOPICS_MAX) {
            s = err_set(err, LOAM_EJSON, "topics: not a list of at most %d", LOG_TOPICS_MAX);
            goto done;
        }
        bloom_add(r->bloom, g->addr.b, 20);
        json_array_foreach(topics, j, t) {
            if ((s = hj_str_fixed(g->topics[j].b, 32, t, "topic", err)))
                goto done;
            bloom_add(r->bloom, g->topics[j].b, 32);
        }
        g->topic_count = (uint8_t)json_array_size(topics);
        g->data_len = data.len;
        if (data.len && (s = buf_add(&r->bytes, data.data, data.len, err)))
            goto done;
    }
    r->log_count = json_array_size(logs);
    /* Only now: r->bytes has stopped moving. */
    size_t at = 0;
    for (i = 0; i < r->log_count; i++) {
        r->logs[i].data = r->bytes.data ? r->bytes.data + at : (const uint8_t *)"";
        at += r->logs[i].data_len;
    }
    if (memcmp(bloom, r->bloom, 256))
        s = err_set(err, LOAM_EBLOOM, "the bloom is not that of its logs");
done:
    buf_clear(&data);
    return s ? err_prefix(err, s, "receipt") : LOAM_OK;
}

enum loam_status receipt_encode(struct buf *out, const struct receipt *r, struct err *err) {
    enum loam_status s;
    if (r->type && (s = buf_byte(out, r->type, err)))
        return s;
    size_t top = out->len;
    if ((s = rlp_put_u64(out, r->ok, err)) || (s = rlp_put_u64(out, r->cumulative_gas, err)) || (s = rlp_put(out, r->bloom, 256, err)))
        return s;
    size_t list = out->len;
    for (size_t i = 0; i < r->log_count; i++) {
        const struct log *l = &r->logs[i];
        size_t log = out->len;
        if ((s = rlp_put(out, l->addr.b, 20, err)))
            return s;
        size_t topics = out->len;
        for (unsigned j = 0; j < l->topic_count; j++)
            if ((s = rlp_put(out, l->topics[j].b, 32, err)))
                return s;
        if ((s = rlp_wrap(out, topics, err)) || (s = rlp_put(out, l->data, l->data_len, err)) || (s = rlp_wrap(out, log, err)))
            return s;
    }
    if ((s = rlp_wrap(out, list, err)))
        return s;
    /* Canyon on. Without a version (Regolith) the nonce that the JSON shows was never put into the trie. */
    if (r->type == 0x7e && r->has_deposit_version &&
        ((s = rlp_put_u64(out, r->deposit_nonce, err)) || (s = rlp_put_u64(out, r->deposit_version, err))))
        return s;
    return rlp_wrap(out, top, err);
}
