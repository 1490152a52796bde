#include "flow/contribute.h"

#include "base/entropy.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "flow/chainio.h"
#include "net/chain.h"
#include "net/receipt.h"
#include "node/api.h"
#include "node/chain.h"
#include "record/tree.h"
#include "store/blob.h"

#include <stdlib.h>

#include "base/banned.h"

#define STATEMENT_LIFE 86400
#define EV_CONTRIBUTED                                                                                                 \
    "Contributed(uint64 indexed contribution, uint64 indexed datanet, uint64 indexed account, uint64 order, bytes32 rowRoot, uint64 rowCount, " \
    "string licence, bytes32 dataHash, uint64 dataLength, string dataLocator)"

/* ---- from files to rows ---- */

struct rows {
    struct hash32 *hash;
    size_t count, cap;
    uint64_t twice;  /* left out: in these files already */
    uint64_t before; /* left out: in an earlier contribution */
    uint64_t earlier, earlier_datanet, earlier_account; /* that contribution, when all of them are in one */
    bool mixed;
    struct buf data; /* canonical lines */
};

static enum loam_status rows_add(struct rows *r, const struct hash32 *h, struct err *err) {
    if (r->count >= CONTRIBUTE_ROWS_MAX)
        return err_set(err, LOAM_ELIMIT, "more than %u rows in one contribution", CONTRIBUTE_ROWS_MAX);
    if (r->count == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 256;
        void *p = mem_resize(r->hash, cap, sizeof *r->hash);
        if (!p)
            return err_set(err, LOAM_ENOMEM, "no memory for %zu rows", cap);
        r->hash = p;
        r->cap = cap;
    }
    r->hash[r->count++] = *h;
    return LOAM_OK;
}

/* Hashes seen so far: open addressing over the (uniform) hashes' own bytes. */
struct seen {
    struct hash32 *slot;
    bool *used;
    size_t cap, count;
};

static bool seen_has(const struct seen *s, const struct hash32 *h, size_t *at) {
    if (!s->cap)
        return false;
    size_t i = (size_t)le64(h->b) & (s->cap - 1);
    while (s->used[i]) {
        if (hash_eq(&s->slot[i], h))
            return true;
        i = (i + 1) & (s->cap - 1);
    }
    *at = i;
    return false;
}

static enum loam_status seen_add(struct seen *s, const struct hash32 *h, struct err *err) {
    size_t at = 0;
    if (2 * (s->count + 1) > s->cap) {
        struct seen n = {.cap = s->cap ? 2 * s->cap : 1024};
        n.slot = mem_array(n.cap, sizeof *n.slot);
        n.used = mem_zarray(n.cap, sizeof *n.used);
        if (!n.slot || !n.used) {
            mem_free(n.slot);
            mem_free(n.used);
            return err_set(err, LOAM_ENOMEM, "no memory to find rows that stand twice");
        }
        for (size_t i = 0; i < s->cap; i++)
            if (s->used[i]) {
                (void)seen_has(&n, &s->slot[i], &at);
                n.slot[at] = s->slot[i];
                n.used[at] = true;
            }
        n.count = s->count;
        mem_free(s->slot);
        mem_free(s->used);
        *s = n;
    }
    (void)seen_has(s, h, &at);
    s->slot[at] = *h;
    s->used[at] = true;
    s->count++;
    return LOAM_OK;
}

static enum loam_status take_line(struct flow *f, struct rows *r, struct seen *seen, const char *line, size_t n, struct err *err) {
    struct row row;
    json_t *known = NULL;
    size_t at;
    enum loam_status s;
    if ((s = row_parse(&row, line, n, err)))
        return s;
    if (seen_has(seen, &row.hash, &at)) {
        r->twice++;
        goto out;
    }
    TRY(seen_add(seen, &row.hash, err));
    s = record_get(f->node, TABLE_ROW, row.hash.b, 32, &known, err);
    if (s == LOAM_OK) {
        uint64_t c, d, a;
        TRY(jget_u64(&c, known, "contribution", err));
        TRY(jget_u64(&d, known, "datanet", err));
        TRY(jget_u64(&a, known, "account", err));
        if (r->before++ && c != r->earlier)
            r->mixed = true;
        r->earlier = c;
        r->earlier_datanet = d;
        r->earlier_account = a;
        goto out;
    }
    if (s != LOAM_ENOTFOUND)
        goto out;
    s = LOAM_OK;
    TRY(rows_add(r, &row.hash, err));
    TRY(row_json(&r->data, &row, err));
    TRY(buf_byte(&r->data, '\n', err));
out:
    json_decref(known);
    row_clear(&row);
    return s;
}

static enum loam_status take_file(struct flow *f, struct rows *r, struct seen *seen, const char *path, struct err *err) {
    struct file_map m;
    enum loam_status s;
    uint64_t line = 0;
    if ((s = file_map(&m, path, err)))
        return s;
    if (m.len > CONTRIBUTE_FILE_MAX) {
        file_unmap(&m);
        return err_set(err, LOAM_ELIMIT, "%s is larger than %u bytes", path, CONTRIBUTE_FILE_MAX);
    }
    const char *p = m.data ? (const char *)m.data : "", *end = p + m.len; /* an empty file maps to NULL */
    p += text_bom(p, m.len);
    while (p < end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((lf ? lf : end) - p);
        size_t blank = 0;
        line++;
        while (blank < n && (p[blank] == ' ' || p[blank] == '\t' || p[blank] == '\r'))
            blank++;
        if (blank < n && (s = take_line(f, r, seen, p, n, err))) {
            s = err_prefix(err, s, "%s, line %llu", path, (unsigned long long)line);
            break;
        }
        if (line % 1024 == 0 && (s = flow_check(f, err)))
            break;
        p = lf ? lf + 1 : end;
    }
    file_unmap(&m);
    if (!s && !line)
        s = err_set(err, LOAM_EINVAL, "%s is empty", path);
    return s;
}

/* ---- the record ---- */

static void record_key(uint8_t key[16], uint64_t datanet, uint64_t contribution) {
    put_be64(key, datanet);
    put_be64(key + 8, contribution);
}

/* The rows' first owners, so that a copy is seen before it costs a transaction. */
struct note_rows {
    struct flow *f;
    struct store_batch *b;
    uint64_t contribution, datanet, account;
};

static enum loam_status note_row(void *arg, uint64_t index, const struct row *r, struct err *err) {
    struct note_rows *x = arg;
    char text[160];
    int n = snprintf(text, sizeof text, "{\"account\":%llu,\"contribution\":%llu,\"datanet\":%llu,\"index\":%llu}",
                     (unsigned long long)x->account, (unsigned long long)x->contribution, (unsigned long long)x->datanet,
                     (unsigned long long)index);
    enum loam_status s = store_has(x->f->node->store, TABLE_ROW, r->hash.b, 32, err);
    if (s != LOAM_ENOTFOUND)
        return s;
    return store_batch_put(x->b, TABLE_ROW, r->hash.b, 32, text, (size_t)n, err);
}

static enum loam_status note_rows(struct flow *f, const json_t *rec, struct err *err) {
    struct note_rows x = {.f = f};
    enum loam_status s;
    if ((s = jget_u64(&x.contribution, rec, "contribution", err)) || (s = jget_u64(&x.datanet, rec, "datanet", err)) ||
        (s = jget_u64(&x.account, rec, "account", err)) || (s = store_batch_new(&x.b, err)))
        return s;
    if ((s = contribution_rows(f, rec, note_row, &x, err))) {
        store_batch_free(x.b);
        return s;
    }
    return store_commit(f->node->store, x.b, err);
}

enum loam_status contribution_rows(struct flow *f, const json_t *rec, row_fn fn, void *arg, struct err *err) {
    struct hash32 data, root, got;
    struct file_map m = {0};
    struct tree_stream t;
    uint64_t account, rows;
    enum loam_status s;
    bool mapped = false;
    TRY(jget_hash(&data, rec, "data_hash", err));
    TRY(jget_hash(&root, rec, "row_root", err));
    TRY(jget_u64(&account, rec, "account", err));
    TRY(jget_u64(&rows, rec, "rows", err));
    TRY(blob_map(f->node->blobs, &data, true, &m, err));
    mapped = true;
    /* Twice over the lines: the root first, so that nothing unproven is handed on. */
    for (int pass = 0; pass < 2; pass++) {
        const char *p = (const char *)m.data, *end = p + m.len;
        uint64_t i = 0;
        tree_stream_init(&t);
        while (p < end) {
            const char *lf = memchr(p, '\n', (size_t)(end - p));
            size_t n = (size_t)((lf ? lf : end) - p);
            struct row row;
            uint8_t leaf[ROW_LEAF_BYTES];
            TRY(row_parse(&row, p, n, err));
            row_leaf(leaf, &row.hash, account);
            if (pass == 0)
                tree_stream_add(&t, leaf, sizeof leaf);
            else
                s = fn(arg, i, &row, err);
            row_clear(&row);
            if (s)
                goto out;
            i++;
            p = lf ? lf + 1 : end;
        }
        if (pass == 0) {
            got = tree_stream_root(&t);
            if (i != rows || !hash_eq(&got, &root)) {
                s = err_set(err, LOAM_EHASH, "the rows of a contribution do not have its root");
                goto out;
            }
        }
    }
out:
    if (mapped)
        file_unmap(&m);
    return s;
}

static json_t *text_of(const struct abi_value *v) {
    const uint8_t *p;
    size_t n;
    json_t *t;
    if (!v || abi_get_bytes(&p, &n, v, NULL))
        return NULL;
    t = json_stringn((const char *)p, n);
    return t ? t : json_string("(not UTF-8)");
}

static enum loam_status from_event(json_t **out, struct abi_doc *ev, const struct hash32 *tx, uint64_t block, struct err *err) {
    uint64_t id, datanet, account, order, rows, len;
    struct hash32 root, data;
    enum loam_status s;
    TRY(abi_get_u64(&id, abi_field(ev, "contribution"), err));
    TRY(abi_get_u64(&datanet, abi_field(ev, "datanet"), err));
    TRY(abi_get_u64(&account, abi_field(ev, "account"), err));
    TRY(abi_get_u64(&order, abi_field(ev, "order"), err));
    TRY(abi_get_u64(&rows, abi_field(ev, "rowCount"), err));
    TRY(abi_get_u64(&len, abi_field(ev, "dataLength"), err));
    TRY(abi_get_b32(&root, abi_field(ev, "rowRoot"), err));
    TRY(abi_get_b32(&data, abi_field(ev, "dataHash"), err));
    *out = json_pack("{s:I s:I s:I s:I s:I s:o s:o s:o s:I s:o s:o s:I}", "contribution", (json_int_t)id, "datanet", (json_int_t)datanet,
                     "account", (json_int_t)account, "order", (json_int_t)order, "rows", (json_int_t)rows, "row_root", json_hash(&root),
                     "licence", text_of(abi_field(ev, "licence")), "data_hash", json_hash(&data), "data_length", (json_int_t)len,
                     "data_locator", text_of(abi_field(ev, "dataLocator")), "tx", json_hash(tx), "block", (json_int_t)block);
    if (!*out)
        s = err_set(err, LOAM_ENOMEM, "no memory");
out:
    return s;
}

struct scan {
    struct flow *f;
    json_t *list;
};

static enum loam_status scan_one(void *arg, const struct log *l, struct err *err) {
    struct scan *x = arg;
    struct abi_doc ev = {0};
    json_t *fresh = NULL, *old = NULL;
    uint8_t key[16];
    struct hash32 data;
    enum loam_status s;
    TRY(abi_event(&ev, EV_CONTRIBUTED, l->topics, l->topic_count, l->data, l->data_len, err));
    TRY(from_event(&fresh, &ev, &l->tx_hash, l->block, err));
    record_key(key, (uint64_t)json_integer_value(json_object_get(fresh, "datanet")),
               (uint64_t)json_integer_value(json_object_get(fresh, "contribution")));
    s = record_get(x->f->node, TABLE_CONTRIBUTION, key, sizeof key, &old, err);
    if (s == LOAM_OK) { /* what only the contributor's own node has: statement, signature, salt */
        if (json_object_update_missing(fresh, old))
            s = err_set(err, LOAM_ENOMEM, "no memory");
    } else if (s == LOAM_ENOTFOUND)
        s = LOAM_OK;
    if (s)
        goto out;
    TRY(jget_hash(&data, fresh, "data_hash", err));
    TRY(jset(fresh, "held", json_boolean(blob_has(x->f->node->blobs, &data)), err));
    if (!old || !json_equal(old, fresh))
        TRY(record_put(x->f->node, TABLE_CONTRIBUTION, key, sizeof key, fresh, err));
    if (json_array_append(x->list, fresh))
        s = err_set(err, LOAM_ENOMEM, "no memory");
out:
    json_decref(old);
    json_decref(fresh);
    abi_clear(&ev);
    return s;
}

static int by_order(const void *a, const void *b) {
    json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, "order"));
    json_int_t y = json_integer_value(json_object_get(*(json_t *const *)b, "order"));
    return (x > y) - (x < y);
}

enum loam_status contribution_list(struct flow *f, json_t **out, uint64_t datanet, struct err *err) {
    struct addr20 a;
    struct hash32 topic;
    uint64_t head;
    struct scan x = {f, json_array()};
    json_t **v = NULL;
    size_t n = 0;
    enum loam_status s;
    *out = NULL;
    if (!x.list)
        return err_set(err, LOAM_ENOMEM, "no memory");
    TRY(node_chain_contract(f->node, "Datanets", &a, err));
    TRY(abi_hash(&topic, EV_CONTRIBUTED, err));
    TRY(fhead(f->node, &head, NULL, err));
    struct chain_filter flt = {&a, 1, &topic, 1};
    TRY(chain_logs(node_chain_light(f->node), fdeploy_block(f->node), head, &flt, scan_one, &x, err));
    v = mem_array(json_array_size(x.list) + 1, sizeof *v);
    *out = json_array();
    if (!v || !*out) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    for (size_t i = 0; i < json_array_size(x.list); i++) {
        json_t *o = json_array_get(x.list, i);
        if (!datanet || (uint64_t)json_integer_value(json_object_get(o, "datanet")) == datanet)
            v[n++] = o;
    }
    qsort(v, n, sizeof *v, by_order);
    for (size_t i = 0; i < n; i++)
        if (json_array_append(*out, v[i])) {
            s = err_set(err, LOAM_ENOMEM, "no memory");
            goto out;
        }
out:
    mem_free(v);
    json_decref(x.list);
    if (s) {
        json_decref(*out);
        *out = NULL;
    }
    return s;
}

/* ---- the flow ---- */

#define WORK_MAX 128

/* Everything that has to be the same after a restart: the statement, its signature, the salt. */
static enum loam_status prepare(struct flow *f, json_t **step, char work[WORK_MAX], const char *key, uint64_t account, uint64_t datanet,
                                const char *licence, struct rows *r, struct err *err) {
    struct st_contribution c;
    struct tree_stream t;
    struct hash32 salt;
    struct sig65 sig;
    char url[128];
    enum loam_status s;
    memset(&c, 0, sizeof c);
    tree_stream_init(&t);
    for (size_t i = 0; i < r->count; i++) {
        uint8_t leaf[ROW_LEAF_BYTES];
        row_leaf(leaf, &r->hash[i], account);
        tree_stream_add(&t, leaf, sizeof leaf);
    }
    c.row_root = tree_stream_root(&t);
    char hex[HASH_HEX_MAX];
    snprintf(work, WORK_MAX, "contribute/%llu/%llu/%s", (unsigned long long)account, (unsigned long long)datanet, hash_hex(hex, &c.row_root));
    TRY(flow_own(f, work, err));
    s = flow_step_get(f, "statement", step, err);
    if (s != LOAM_ENOTFOUND)
        goto out;
    c.account = account;
    c.datanet = datanet;
    c.row_count = r->count;
    c.licence = licence;
    TRY(blob_put(f->node->blobs, &c.data_hash, r->data.data, r->data.len, err));
    c.data_length = r->data.len;
    c.data_locator = api_url(f->node, url, sizeof url) ? url : "";
    TRY(st_nonce(&c.nonce, err));
    TRY(st_expiry(f->node, STATEMENT_LIFE, &c.expiry, err));
    TRY(entropy_fill(salt.b, sizeof salt.b, err));
    TRY(flow_unlock(f, key, err));
    TRY(st_sign(f->node, &sig, NULL, key, "Datanets", ST_Contribution, &c, err));
    *step = json_pack("{s:o* s:o* s:o* s:I s:I}", "statement", st_to_json(ST_Contribution, &c), "signature", json_sig(&sig), "salt",
                      json_hash(&salt), "twice", (json_int_t)r->twice, "before", (json_int_t)r->before);
    if (!*step) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    s = flow_step_make(f, "statement", step, err);
out:
    return s;
}

/* What people and scripts are told: the record without what only proofs need. */
static json_t *told(const json_t *rec) {
    json_t *o = json_copy((json_t *)rec);
    if (o) {
        json_object_del(o, "statement");
        json_object_del(o, "signature");
        json_object_del(o, "salt");
        json_object_del(o, "data_locator");
    }
    return o;
}

static enum loam_status earlier(struct flow *f, json_t **out, const struct rows *r, uint64_t account, uint64_t datanet, struct err *err) {
    uint8_t key[16];
    json_t *rec = NULL;
    enum loam_status s;
    if (!r->before)
        return err_set(err, LOAM_EINVAL, "the files hold no rows");
    if (r->mixed || r->earlier_account != account || r->earlier_datanet != datanet)
        return err_set(err, LOAM_EEXIST, "every row was contributed before (the last one in contribution %llu of account %llu)",
                       (unsigned long long)r->earlier, (unsigned long long)r->earlier_account);
    record_key(key, datanet, r->earlier);
    if ((s = record_get(f->node, TABLE_CONTRIBUTION, key, sizeof key, &rec, err)))
        return s;
    s = jset(rec, "new", json_false(), err);
    if (!s)
        s = jset(rec, "duplicates", json_integer((json_int_t)(r->twice + r->before)), err);
    if (!s && !(*out = told(rec)))
        s = err_set(err, LOAM_ENOMEM, "no memory");
    json_decref(rec);
    return s;
}

enum loam_status flow_contribute(struct flow *f, json_t **out, const char *key, uint64_t datanet, const char *licence,
                                 const char *const *files, size_t n, const char *relay, struct err *err) {
    struct rows r = {.data = BUF_INIT(CONTRIBUTE_DATA_MAX)};
    struct seen seen = {0};
    struct st_contribution c;
    struct sig65 sig;
    struct hash32 salt, commitment;
    struct outbox_result res = {0}, res2 = {0};
    struct abi_doc ev = {0};
    json_t *step = NULL, *rec = NULL;
    uint64_t account, id = 0, count;
    uint8_t rkey[16];
    char work[WORK_MAX] = "";
    enum loam_status s;
    *out = NULL;
    if (!relay)
        relay = key;
    TRY(account_of_key(f->node, &account, key, err));
    TRY(fslot_u64(f->node, &count, "Datanets", slot_of(SLOT_DATANETS_DATANET_COUNT), 0, 8, err));
    if (datanet == 0 || datanet > count) {
        s = err_set(err, LOAM_ENOTFOUND, "no datanet %llu (there are %llu); make one: datanet create NAME", (unsigned long long)datanet,
                    (unsigned long long)count);
        goto out;
    }
    s = flow_step_get(f, "statement", &step, err);
    if (s == LOAM_ENOTFOUND) {
        s = LOAM_OK;
        for (size_t i = 0; i < n; i++) {
            flow_progress(f, i, n, "reading %s", files[i]);
            TRY(take_file(f, &r, &seen, files[i], err));
        }
        if (!r.count) {
            s = earlier(f, out, &r, account, datanet, err);
            goto out;
        }
        flow_note(f, "%zu rows, %llu left out that stand twice, %llu contributed before", r.count, (unsigned long long)r.twice,
                  (unsigned long long)r.before);
        TRY(prepare(f, &step, work, key, account, datanet, licence, &r, err));
    } else if (s)
        goto out;
    TRY(st_from_json(&c, ST_Contribution, json_object_get(step, "statement"), err));
    TRY(jget_sig(&sig, step, "signature", err));
    TRY(jget_hash(&salt, step, "salt", err));
    commitment = commit_contribution(&c, &salt);
    struct fcall commit = {.step = "commit", .from = relay, .contract = "Datanets", .sig = "commit(bytes32)", .what = "commitment of a contribution"};
    TRY(fsend(f, &res, &commit, ABI(abi_b32(&commitment)), err));
    flow_note(f, "committed in block %llu", (unsigned long long)res.block);
    struct abi_value items[ST_FIELDS_MAX];
    struct fcall reveal = {.step = "reveal", .from = relay, .contract = "Datanets", .sig = "reveal(%T,bytes32,bytes)",
                           .ids = {ST_Contribution}, .id_count = 1, .what = "reveal of a contribution"};
    TRY(fwait_block(f, res.block, err));
    TRY(fsend(f, &res2, &reveal, ABI(st_abi(items, ST_Contribution, &c), abi_b32(&salt), abi_bytes(sig.b, 65)), err));
    TRY(fevent(f->node, &ev, &res2, "Datanets", EV_CONTRIBUTED, err));
    TRY(from_event(&rec, &ev, &res2.tx, res2.block, err));
    TRY(abi_get_u64(&id, abi_field(&ev, "contribution"), err));
    TRY(jset(rec, "statement", json_incref(json_object_get(step, "statement")), err));
    TRY(jset(rec, "signature", json_sig(&sig), err));
    TRY(jset(rec, "salt", json_hash(&salt), err));
    TRY(jset(rec, "held", json_true(), err));
    record_key(rkey, datanet, id);
    TRY(record_put(f->node, TABLE_CONTRIBUTION, rkey, sizeof rkey, rec, err));
    TRY(note_rows(f, rec, err));
    TRY(jset(rec, "new", json_true(), err));
    TRY(jset(rec, "duplicates",
             json_integer(json_integer_value(json_object_get(step, "twice")) + json_integer_value(json_object_get(step, "before"))), err));
    if (!(*out = told(rec)))
        s = err_set(err, LOAM_ENOMEM, "no memory");
out:
    if (s == LOAM_EREVERT && *work)
        flow_disown(f, work);
    json_decref(rec);
    json_decref(step);
    abi_clear(&ev);
    outbox_result_clear(&res);
    outbox_result_clear(&res2);
    mem_free(seen.slot);
    mem_free(seen.used);
    mem_free(r.hash);
    buf_clear(&r.data);
    return s;
}
