#include "flow/trace.h"

#include "base/mem.h"
#include "flow/batchdoc.h"
#include "flow/contribute.h"
#include "flow/eigenda.h"
#include "flow/fetch.h"
#include "flow/ledger.h"
#include "net/chain.h"
#include "node/chain.h"
#include "record/claims.h"
#include "record/tree.h"
#include "store/blob.h"

#include "base/banned.h"

#define ROWS_SHOWN 3u /* best rows of the account, a call */
#define EV_CLAIMED "Claimed(uint64 indexed poster, uint64 indexed account, address to, uint256 amount, uint256 cumulative)"

struct walk {
    struct flow *f;
    const char *peer;
    json_t *links, *calls, *contributions;
    uint64_t poster, account;
    struct u256 amount, cumulative, earned;
    uint64_t block;
    json_t *batches; /* of the poster, settled before the claim, in order */
};

/* One verified step: what it leads to, and how it is known. */
static enum loam_status link_add(struct walk *w, const char *name, const char *how, struct err *err, const char *fmt, ...) LOAM_PRINTF(5, 6);
static enum loam_status link_add(struct walk *w, const char *name, const char *how, struct err *err, const char *fmt, ...) {
    char text[FLOW_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    flow_note(w->f, "%s: %s", name, text);
    if (json_array_append_new(w->links, json_pack("{s:s s:s s:s}", "link", name, "how", how, "text", text)))
        return err_set(err, LOAM_ENOMEM, "no memory");
    return LOAM_OK;
}

/* ---- payment ---- */

static enum loam_status payment(struct walk *w, const struct hash32 *tx, struct err *err) {
    struct chain_receipt r;
    struct abi_doc ev = {0};
    struct addr20 rewards, to;
    struct hash32 topic;
    char coin[U256_DEC_MAX + 2], addr[ADDR_HEX_MAX];
    bool found = false;
    enum loam_status s;
    memset(&r, 0, sizeof r);
    TRY(node_chain_contract(w->f->node, "Rewards", &rewards, err));
    TRY(abi_hash(&topic, EV_CLAIMED, err));
    if ((s = chain_receipt(node_chain_light(w->f->node), &r, tx, err))) {
        s = err_prefix(err, s, "the payment's transaction");
        goto out;
    }
    for (size_t i = 0; i < r.log_count && !found; i++)
        if (addr_eq(&r.logs[i].addr, &rewards) && r.logs[i].topic_count && hash_eq(&r.logs[i].topics[0], &topic)) {
            TRY(abi_event(&ev, EV_CLAIMED, r.logs[i].topics, r.logs[i].topic_count, r.logs[i].data, r.logs[i].data_len, err));
            found = true;
        }
    if (!found || !r.ok) {
        s = err_set(err, LOAM_ENOTFOUND, "that transaction is no payment of rewards");
        goto out;
    }
    TRY(abi_get_u64(&w->poster, abi_field(&ev, "poster"), err));
    TRY(abi_get_u64(&w->account, abi_field(&ev, "account"), err));
    TRY(abi_get_addr(&to, abi_field(&ev, "to"), err));
    TRY(abi_get_u256(&w->amount, abi_field(&ev, "amount"), err));
    TRY(abi_get_u256(&w->cumulative, abi_field(&ev, "cumulative"), err));
    w->block = r.block;
    u256_format_coin(coin, w->amount);
    s = link_add(w, "payment", "receipt against the receipts root of a verified block", err, "%s OPEN to %s for account %llu in block %llu", coin,
                 addr_hex(addr, &to), (unsigned long long)w->account, (unsigned long long)r.block);
out:
    abi_clear(&ev);
    chain_receipt_clear(&r);
    return s;
}

/* ---- batches ---- */

static enum loam_status settled_one(void *arg, struct abi_doc *ev, const struct log *l, struct err *err) {
    struct walk *w = arg;
    uint64_t batch, poster;
    enum loam_status s;
    (void)l;
    if ((s = abi_get_u64(&batch, abi_field(ev, "batch"), err)) || (s = abi_get_u64(&poster, abi_field(ev, "poster"), err)))
        return s;
    if (poster == w->poster && json_array_append_new(w->batches, json_integer((json_int_t)batch)))
        return err_set(err, LOAM_ENOMEM, "no memory");
    return LOAM_OK;
}

static const struct payout *line_of(const struct batch_doc *d, uint64_t account) {
    for (size_t i = 0; i < d->payouts.count; i++)
        if (d->payouts.line[i].account == account)
            return &d->payouts.line[i];
    return NULL;
}

/* What a call gives the account, in all its parts. */
static struct u256 given(const struct call *c, uint64_t account, uint32_t *ppm) {
    struct u256 sum = U256_ZERO;
    *ppm = 0;
    if (account == ACCOUNT_PLATFORM)
        (void)u256_add(&sum, sum, c->split.platform);
    if (account == ACCOUNT_STAKERS)
        (void)u256_add(&sum, sum, c->split.stakers);
    if (account == c->manifest->trainer)
        (void)u256_add(&sum, sum, c->split.model);
    if (account == ACCOUNT_BURN)
        (void)u256_add(&sum, sum, c->burnt);
    for (size_t i = 0; i < c->shares.count; i++)
        if (c->shares.account[i].account == account) {
            (void)u256_add(&sum, sum, c->amount[i]);
            *ppm = c->shares.ppm[i];
        }
    return sum;
}

/* ---- rows ---- */

struct seek {
    uint64_t index;
    struct hash32 hash;
    char *text;
    bool found;
    struct tree tree;
    uint64_t account;
};

static enum loam_status seek_row(void *arg, uint64_t index, const struct row *r, struct err *err) {
    struct seek *x = arg;
    uint8_t leaf[ROW_LEAF_BYTES];
    row_leaf(leaf, &r->hash, x->account);
    if (index == x->index) {
        struct buf b = BUF_INIT(ROW_LINE_MAX);
        enum loam_status s = LOAM_OK;
        x->found = hash_eq(&r->hash, &x->hash);
        for (uint32_t i = 0; i < r->count && !s; i++)
            s = buf_printf(&b, err, "%s%s: %.*s", i ? " / " : "", row_role_name(r->messages[i].role), (int)r->messages[i].len, r->messages[i].content);
        x->text = s ? NULL : (char *)buf_take(&b, &(size_t){0});
        buf_clear(&b);
        if (s)
            return s;
    }
    return tree_add(&x->tree, leaf, sizeof leaf, err);
}

static json_t *contribution_of(struct walk *w, uint64_t id) {
    size_t i;
    json_t *v;
    json_array_foreach(w->contributions, i, v)
        if ((uint64_t)json_integer_value(json_object_get(v, "contribution")) == id)
            return v;
    return NULL;
}

/* One row: it stands at `index` of contribution `id`, in its tree, and the contribution is signed by its account's key. *text (NULL where
 * it fails) is the caller's; *of (may be NULL) gets the contribution, borrowed. */
static enum loam_status prove_row(struct walk *w, char **text, const json_t **of, uint64_t id, uint64_t index, const struct hash32 *hash, uint64_t account,
                                  bool told, struct err *err) {
    struct seek x = {.account = account, .hash = *hash, .index = index};
    struct tree_proof proof;
    struct hash32 root, want;
    struct account_info a;
    struct st_contribution st;
    struct sig65 sig;
    uint8_t leaf[ROW_LEAF_BYTES];
    uint64_t count;
    json_t *rec;
    enum loam_status s;
    *text = NULL;
    tree_init(&x.tree);
    if (!(rec = contribution_of(w, id))) {
        s = err_set(err, LOAM_EVERIFY, "a row claims to come from contribution %llu, which is not on the chain", (unsigned long long)id);
        goto out;
    }
    TRY(jget_hash(&want, rec, "row_root", err));
    TRY(jget_u64(&count, rec, "rows", err));
    if ((uint64_t)json_integer_value(json_object_get(rec, "account")) != x.account) {
        s = err_set(err, LOAM_EVERIFY, "a row of contribution %llu is given to another account", (unsigned long long)id);
        goto out;
    }
    struct hash32 data;
    TRY(jget_hash(&data, rec, "data_hash", err));
    TRY(fetch_blob(w->f, w->peer, &data, err));
    TRY(contribution_rows(w->f, rec, seek_row, &x, err));
    if (!x.found) {
        s = err_set(err, LOAM_EVERIFY, "contribution %llu holds another row at %llu", (unsigned long long)id, (unsigned long long)x.index);
        goto out;
    }
    TRY(tree_prove(&proof, &x.tree, x.index, err));
    root = tree_root(&x.tree);
    row_leaf(leaf, &x.hash, x.account);
    TRY(tree_check(&want, count, x.index, leaf, sizeof leaf, proof.sibling, proof.count, err));
    if (!hash_eq(&root, &want)) {
        s = err_set(err, LOAM_EVERIFY, "the rows of contribution %llu do not have its root", (unsigned long long)id);
        goto out;
    }
    if (told) {
        TRY(link_add(w, "row", "proof of its leaf under the root that the contribution signed", err, "row %llu of contribution %llu: %.200s",
                     (unsigned long long)x.index, (unsigned long long)id, x.text));
        TRY(link_add(w, "contribution", "verified log of its reveal", err, "contribution %llu of account %llu to datanet %lld, licence %s, block %lld",
                     (unsigned long long)id, (unsigned long long)x.account, (long long)json_integer_value(json_object_get(rec, "datanet")),
                     json_string_value(json_object_get(rec, "licence")), (long long)json_integer_value(json_object_get(rec, "block"))));
        TRY(account_read(w->f->node, &a, x.account, err));
        if (json_object_get(rec, "statement")) {
            char addr[ADDR_HEX_MAX];
            TRY(st_from_json(&st, ST_Contribution, json_object_get(rec, "statement"), err));
            TRY(jget_sig(&sig, rec, "signature", err));
            if (!hash_eq(&st.row_root, &want) || st.account != x.account) {
                s = err_set(err, LOAM_EVERIFY, "the kept statement of contribution %llu is another one", (unsigned long long)id);
                goto out;
            }
            s = st_check(w->f->node, &a.signing, "Datanets", ST_Contribution, &st, &sig, err);
            if (s)
                goto out;
            TRY(link_add(w, "signature", "recovered from the statement's EIP-712 digest; the key by storage proof", err, "signed by %s, key of account %llu",
                         addr_hex(addr, &a.signing), (unsigned long long)x.account));
        } else {
            char addr[ADDR_HEX_MAX];
            TRY(link_add(w, "signature", "checked by the contract when it took the reveal", err, "account %llu signs with %s", (unsigned long long)x.account,
                         addr_hex(addr, &a.signing)));
        }
    }
    *text = x.text;
    x.text = NULL;
    if (of)
        *of = rec;
out:
    mem_free(x.text);
    tree_clear(&x.tree);
    return s;
}

/* A row of a call: it stands in the manifest at `at`. */
static enum loam_status show_row(struct walk *w, const json_t *line, const struct call *c, uint64_t at, json_t **out, bool told, struct err *err) {
    uint64_t id, index;
    char hex[HASH_HEX_MAX], *text = NULL;
    enum loam_status s;
    TRY(jget_u64(&id, line, "contribution", err));
    TRY(jget_u64(&index, line, "index", err));
    TRY(prove_row(w, &text, NULL, id, index, &c->manifest->hash[at], c->manifest->account[at], told, err));
    *out = json_pack("{s:s s:s s:I s:I s:I}", "row", hash_hex(hex, &c->manifest->hash[at]), "text", text, "score", (json_int_t)c->score[at], "contribution",
                     (json_int_t)id, "index", (json_int_t)index);
    if (!*out)
        s = err_set(err, LOAM_ENOMEM, "no memory");
out:
    mem_free(text);
    return s;
}

enum loam_status flow_row(struct flow *f, json_t **out, const struct hash32 *row, const char *peer, struct err *err) {
    struct walk w = {.f = f, .peer = peer, .links = json_array()};
    char hex[HASH_HEX_MAX], *text = NULL;
    uint64_t id, index, account;
    json_t *at = NULL;
    const json_t *rec = NULL;
    enum loam_status s = LOAM_OK;
    *out = NULL;
    if (!w.links)
        return err_set(err, LOAM_ENOMEM, "no memory");
    TRY(contribution_list(f, &w.contributions, 0, err)); /* keeps where the rows of others stand, too */
    s = record_get(f->node, TABLE_ROW, row->b, 32, &at, err);
    if (s == LOAM_ENOTFOUND)
        s = err_set(err, s, "no contribution that this node knows holds row %s; a row of a private run stands on no chain", hash_hex(hex, row));
    if (s)
        goto out;
    TRY(jget_u64(&id, at, "contribution", err));
    TRY(jget_u64(&index, at, "index", err));
    TRY(jget_u64(&account, at, "account", err));
    TRY(prove_row(&w, &text, &rec, id, index, row, account, true, err));
    *out = json_pack("{s:s s:s s:I s:I s:I s:O* s:O* s:O* s:O* s:O* s:O* s:O* s:O}", "row", hash_hex(hex, row), "text", text, "contribution", (json_int_t)id,
                     "index", (json_int_t)index, "account", (json_int_t)account, "datanet", json_object_get(rec, "datanet"), "licence",
                     json_object_get(rec, "licence"), "tx", json_object_get(rec, "tx"), "block", json_object_get(rec, "block"), "row_root",
                     json_object_get(rec, "row_root"), "statement", json_object_get(rec, "statement"), "signature", json_object_get(rec, "signature"), "links",
                     w.links);
    if (!*out)
        s = err_set(err, LOAM_ENOMEM, "no memory");
out:
    mem_free(text);
    json_decref(at);
    json_decref(w.links);
    json_decref(w.contributions);
    return s;
}

/* The line of the rows blob. */
static enum loam_status manifest_line(struct walk *w, const struct manifest *m, uint64_t at, json_t **out, struct err *err) {
    struct buf b = BUF_INIT(1u << 30);
    enum loam_status s = blob_get(w->f->node->blobs, &m->blob, &b, err);
    const char *p = (const char *)b.data, *end = p + b.len;
    *out = NULL;
    for (uint64_t i = 0; !s && p < end; i++) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((lf ? lf : end) - p);
        if (i == at) {
            *out = json_loadb(p, n, JSON_REJECT_DUPLICATES, NULL);
            break;
        }
        p = lf ? lf + 1 : end;
    }
    if (!s && !*out)
        s = err_set(err, LOAM_EPARSE, "row %llu of the model's rows cannot be read", (unsigned long long)at);
    buf_clear(&b);
    return s;
}

static enum loam_status show_call(struct walk *w, uint64_t batch, const struct call *c, struct u256 amount, uint32_t ppm, bool told, struct err *err) {
    json_t *rows = json_array(), *one, *line = NULL;
    const json_t *last = json_array_get(c->messages, json_array_size(c->messages) - 1);
    const char *prompt = json_string_value(json_object_get(last, "content"));
    char coin[U256_DEC_MAX + 2], fee[U256_DEC_MAX + 2];
    uint64_t shown[ROWS_SHOWN];
    enum loam_status s = LOAM_OK;
    if (!rows)
        return err_set(err, LOAM_ENOMEM, "no memory");
    u256_format_coin(coin, amount);
    u256_format_coin(fee, c->inference.fee);
    if (told)
        TRY(link_add(w, "answer", "request, inference and attribution under the batch's roots; share recomputed from the scores", err,
                     "call %llu (\"%.120s\"), fee %s OPEN: %s OPEN, %u.%04u %% of the contributors' part", (unsigned long long)c->inference.sequence,
                     prompt ? prompt : "", fee, coin, ppm / 10000, ppm % 10000));
    for (unsigned k = 0; k < ROWS_SHOWN; k++) {
        uint64_t best = UINT64_MAX;
        for (uint64_t i = 0; i < c->rows; i++) {
            bool seen = false;
            for (unsigned j = 0; j < k; j++)
                seen |= shown[j] == i;
            if (c->manifest->account[i] == w->account && !seen && (best == UINT64_MAX || c->score[i] > c->score[best]))
                best = i;
        }
        if (best == UINT64_MAX || c->score[best] <= 0)
            break;
        shown[k] = best;
        one = NULL;
        TRY(manifest_line(w, c->manifest, best, &line, err));
        s = show_row(w, line, c, best, &one, told && k == 0, err);
        json_decref(line);
        line = NULL;
        if (s)
            goto out;
        if (json_array_append_new(rows, one)) {
            s = err_set(err, LOAM_ENOMEM, "no memory");
            goto out;
        }
    }
    if (json_array_append_new(w->calls, json_pack("{s:I s:I s:s s:o* s:o* s:I s:O}", "batch", (json_int_t)batch, "sequence", (json_int_t)c->inference.sequence,
                                                  "prompt", prompt ? prompt : "", "fee_wei", json_u256(c->inference.fee), "amount_wei", json_u256(amount),
                                                  "share_ppm", (json_int_t)ppm, "rows", rows)))
        s = err_set(err, LOAM_ENOMEM, "no memory");
out:
    json_decref(rows);
    return s;
}

static enum loam_status walk_batch(struct walk *w, uint64_t batch, bool *done, struct err *err) {
    struct fetcher x = {w->f, w->peer};
    struct entry e;
    struct st_batch b;
    struct batch_doc d = {0};
    struct hash32 tx;
    json_t *bjson = NULL, *doc = NULL;
    enum batch_lie lie;
    uint64_t at;
    const struct payout *l;
    enum loam_status s;
    TRY(entry_read(w->f->node, &e, batch, err));
    TRY(posted_read(w->f, &b, &bjson, &tx, &e, err));
    w->peer = fetch_peer(w->peer, b.data_locator);
    x.peer = w->peer;
    TRY(fetch_located(w->f, w->peer, b.data_locator, &b.data_hash, err));
    TRY(json_blob_get(w->f->node, &doc, &b.data_hash, err));
    s = batch_doc_read(&d, doc, fetch_bytes, &x, err);
    if (!s)
        s = batch_doc_check(&lie, &at, &d, &b, err);
    if (s)
        goto out;
    l = line_of(&d, w->account);
    *done = l && u256_cmp(l->cumulative, w->cumulative) == 0;
    if (*done) {
        struct claims claims = {0};
        struct tree_proof proof;
        struct hash32 root;
        TRY(claims_build(&claims, &d.payouts, err));
        s = claims_prove(&proof, &claims, l->index, err);
        root = claims_root(&claims);
        claims_clear(&claims);
        if (!s)
            s = claims_check(&root, l, proof.sibling, proof.count, err);
        if (!s && !hash_eq(&root, &b.claim_root))
            s = err_set(err, LOAM_EVERIFY, "the claim root of batch %llu is another one", (unsigned long long)batch);
        if (s)
            goto out;
        char coin[U256_DEC_MAX + 2], hex[HASH_HEX_MAX];
        u256_format_coin(coin, w->cumulative);
        TRY(link_add(w, "claim", "Merkle proof of the line under the settled claim root", err, "line %llu of batch %llu's table: account %llu, %s OPEN in all",
                     (unsigned long long)l->index, (unsigned long long)batch, (unsigned long long)w->account, coin));
        TRY(link_add(w, "batch", "posted statement from a verified log, its hash by storage proof; every root, split and sum recomputed", err,
                     "batch %llu of account %llu, %llu calls, posted in %s", (unsigned long long)batch, (unsigned long long)w->poster,
                     (unsigned long long)b.call_count, hash_hex(hex, &tx)));
    }
    bool told = false;
    for (size_t i = 0; i < d.calls; i++) {
        uint32_t ppm;
        struct u256 amount = given(&d.call[i], w->account, &ppm);
        if (u256_is_zero(amount))
            continue;
        if (u256_add(&w->earned, w->earned, amount)) {
            s = err_set(err, LOAM_ERANGE, "amounts do not fit");
            goto out;
        }
        TRY(show_call(w, batch, &d.call[i], amount, ppm, *done && !told, err));
        told = true;
    }
out:
    batch_doc_clear(&d);
    json_decref(bjson);
    return s;
}

enum loam_status flow_trace(struct flow *f, json_t **out, const struct hash32 *tx, const char *peer, struct err *err) {
    struct walk w = {.f = f, .peer = peer, .links = json_array(), .calls = json_array(), .batches = json_array()};
    char hex[HASH_HEX_MAX];
    json_t *v;
    size_t i;
    bool done = false;
    enum loam_status s = LOAM_OK;
    *out = NULL;
    if (!w.links || !w.calls || !w.batches) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    TRY(payment(&w, tx, err));
    TRY(fevents(f, "Ledger", "BatchSettled(uint64 indexed batch, uint64 indexed poster, uint256 fee)", NULL, fdeploy_block(f->node), w.block, settled_one, &w,
                err));
    TRY(contribution_list(f, &w.contributions, 0, err));
    json_array_foreach(w.batches, i, v) {
        TRY(flow_check(f, err));
        TRY(walk_batch(&w, (uint64_t)json_integer_value(v), &done, err));
        if (done)
            break;
    }
    if (!done || u256_cmp(w.earned, w.cumulative) != 0) {
        char a[U256_DEC_MAX], b[U256_DEC_MAX];
        u256_format(a, w.earned);
        u256_format(b, w.cumulative);
        s = err_set(err, LOAM_EVERIFY, "the calls of the settled batches give account %llu %s wei, the claim says %s", (unsigned long long)w.account, a, b);
        goto out;
    }
    *out = json_pack("{s:s s:I s:I s:o* s:o* s:O s:O}", "payment", hash_hex(hex, tx), "poster", (json_int_t)w.poster, "account", (json_int_t)w.account,
                     "amount_wei", json_u256(w.amount), "cumulative_wei", json_u256(w.cumulative), "links", w.links, "calls", w.calls);
    if (!*out)
        s = err_set(err, LOAM_ENOMEM, "no memory");
out:
    json_decref(w.links);
    json_decref(w.calls);
    json_decref(w.batches);
    json_decref(w.contributions);
    return s;
}
