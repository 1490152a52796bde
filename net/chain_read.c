/* Verified reads of the light client, and sending. */
#include "net/chain_int.h"

#include "base/clock.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "net/bloom.h"
#include "net/hexjson.h"

#include <string.h>

#include "base/banned.h"

#define SLOTS_MAX 256
#define CODE_MAX (128u << 10) /* EIP-170 allows 24 KiB, some chains more */
#define BLOCK_TXS_MAX 65536
#define BLOCK_BYTES_MAX (64u << 20)

/* ---- state ---- */

/* The nodes of a proof in JSON, decoded into bytes; views point into it. */
struct proof {
    struct buf bytes;
    struct bytes_view node[TRIE_PROOF_NODES_MAX + 1];
    size_t n;
};

static enum loam_status proof_from_json(struct proof *p, const json_t *list, const char *what, struct err *err) {
    struct buf one = BUF_INIT(TRIE_NODE_MAX);
    size_t i, at[TRIE_PROOF_NODES_MAX + 2];
    json_t *v;
    enum loam_status s = LOAM_OK;
    buf_reset(&p->bytes);
    p->n = 0;
    if (!list || json_is_null(list))
        return err_set(err, LOAM_ENULL, "%s: null or missing", what);
    if (!json_is_array(list))
        return err_set(err, LOAM_EJSON, "%s: not a list", what);
    if (json_array_size(list) > TRIE_PROOF_NODES_MAX)
        return err_set(err, LOAM_EPROOFLONG, "%s: %zu nodes", what, json_array_size(list));
    json_array_foreach(list, i, v) {
        at[i] = p->bytes.len;
        if ((s = hj_str_bytes(&one, v, what, err)) || (one.len && (s = buf_add(&p->bytes, one.data, one.len, err))))
            break;
        p->n = i + 1;
        at[i + 1] = p->bytes.len;
    }
    buf_clear(&one);
    for (i = 0; !s && i < p->n; i++)
        p->node[i] = (struct bytes_view){p->bytes.data ? p->bytes.data + at[i] : (const uint8_t *)"", at[i + 1] - at[i]};
    return s;
}

/* EIP-1898: the state of exactly this block. */
static json_t *block_ref(const struct header *h) {
    return json_pack("{s:o}", "blockHash", hj_new_bytes(h->hash.b, 32));
}

static bool zero32(const struct hash32 *h) {
    return hash_is_zero(h);
}

/* Key of a storage proof: RPCs write it as 32 bytes or as a quantity. */
static enum loam_status slot_key(struct hash32 *out, const json_t *v, struct err *err) {
    struct u256 w;
    enum loam_status s;
    if (json_is_string(v) && json_string_length(v) == 66)
        return hj_str_fixed(out->b, 32, v, "key", err);
    if ((s = hj_str_u256(&w, v, "key", err)))
        return s;
    u256_to_be(out->b, w);
    return LOAM_OK;
}

static enum loam_status check_proof(struct account *a, struct u256 *values, const json_t *r, const struct header *h, const struct addr20 *addr,
                                    const struct hash32 *slots, size_t n, struct err *err) {
    struct proof p = {.bytes = BUF_INIT(TRIE_PROOF_NODES_MAX * (size_t)TRIE_NODE_MAX)};
    struct addr20 named;
    struct u256 balance;
    uint64_t nonce;
    struct hash32 code, root;
    enum loam_status s;
    if (json_is_null(r))
        return err_set(err, LOAM_ENULL, "eth_getProof: null");
    if (!json_is_object(r))
        return err_set(err, LOAM_EJSON, "eth_getProof: not an object");
    if ((s = hj_fixed(named.b, 20, r, "address", err)) || (s = hj_u256(&balance, r, "balance", err)) || (s = hj_u64(&nonce, r, "nonce", err)) ||
        (s = hj_fixed(code.b, 32, r, "codeHash", err)) || (s = hj_fixed(root.b, 32, r, "storageHash", err)))
        return err_prefix(err, s, "eth_getProof");
    if (!addr_eq(&named, addr))
        return err_set(err, LOAM_EWRONGADDR, "eth_getProof: answer about another address");
    if ((s = proof_from_json(&p, json_object_get(r, "accountProof"), "accountProof", err)) ||
        (s = trie_account(a, &h->state_root, addr, p.node, p.n, err)))
        goto done;
    /* What it claims beside the proof must be what is proven. For absent accounts some RPCs write zero hashes. */
    bool code_ok = hash_eq(&code, &a->code_hash) || (zero32(&code) && hash_eq(&a->code_hash, &account_empty_code));
    bool root_ok = hash_eq(&root, &a->storage_root) || (zero32(&root) && hash_eq(&a->storage_root, &header_empty_root));
    if (!code_ok || !root_ok || nonce != a->nonce || u256_cmp(balance, a->balance)) {
        s = err_set(err, LOAM_EVALUE, "eth_getProof: %s differs from what its proof proves",
                    !code_ok ? "codeHash" : !root_ok ? "storageHash" : nonce != a->nonce ? "nonce" : "balance");
        goto done;
    }
    json_t *list = json_object_get(r, "storageProof"), *e;
    if (n && !json_is_array(list)) {
        s = err_set(err, LOAM_EWRONGSLOT, "eth_getProof: no storage proofs");
        goto done;
    }
    if (json_array_size(list) != n) {
        s = err_set(err, LOAM_EWRONGSLOT, "eth_getProof: %zu slots asked, %zu answered", n, json_array_size(list));
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        struct hash32 key;
        struct u256 claimed;
        e = json_array_get(list, i);
        if ((s = slot_key(&key, json_object_get(e, "key"), err)))
            goto done;
        if (!hash_eq(&key, &slots[i])) {
            s = err_set(err, LOAM_EWRONGSLOT, "eth_getProof: answer %zu is about another slot", i);
            goto done;
        }
        if ((s = hj_u256(&claimed, e, "value", err)) || (s = proof_from_json(&p, json_object_get(e, "proof"), "proof", err)) ||
            (s = trie_storage(&values[i], &a->storage_root, &slots[i], p.node, p.n, err)))
            goto done;
        if (u256_cmp(claimed, values[i])) {
            s = err_set(err, LOAM_EVALUE, "eth_getProof: slot %zu: value differs from what its proof proves", i);
            goto done;
        }
    }
done:
    buf_clear(&p.bytes);
    return s;
}

#define ANVIL_AGAIN 3
#define ANVIL_AGAIN_MS 150
#define NEWER_HEADS 3 /* how often a read of the newest head follows it */
#define NEWER_HEADS_ANVIL 12 /* after its kill it has lost a second of blocks, and makes one a second */
#define NEWER_HEADS_MS 250

/* Not the head: an honest RPC may have dropped its state. */
static bool older(struct chain *c, const struct header *h) {
    struct chain_head head;
    return !chain_head(c, &head, NULL) && h->number < head.h.number;
}

/* Runs `check` on an endpoint's answer; liars are blamed and the next is asked, each at most once. */
static enum loam_status proven(struct chain *c, struct account *a, struct u256 *values, const struct addr20 *addr, const struct hash32 *slots,
                               size_t n, const struct header *at, struct err *err) {
    struct header tmp;
    const struct header *h;
    enum loam_status s = chain_at(c, &h, &tmp, at, err);
    struct rpc *ask = c->rpc;
    size_t follow = at ? 0 : c->cfg.rules.anvil ? NEWER_HEADS_ANVIL : NEWER_HEADS;
    if (s)
        return s;
    if (n > SLOTS_MAX)
        return err_set(err, LOAM_ELIMIT, "%zu slots at once, at most %d", n, SLOTS_MAX);
    /* anvil, asked while it makes a block, now and then proves the state of the next one: it is asked again. */
    size_t again = c->cfg.rules.anvil ? ANVIL_AGAIN : 0;
    for (size_t attempt = 0; attempt < rpc_count(ask) + again; attempt++) {
        json_t *r, *p = json_array(), *list = json_array();
        int used = RPC_ANY;
        struct rpc_opts o = {.endpoint = RPC_ANY, .used = &used, .cancel = &c->cancel};
        if (attempt && again)
            uv_sleep(ANVIL_AGAIN_MS);
        for (size_t i = 0; i < n; i++)
            json_array_append_new(list, hj_new_bytes(slots[i].b, 32));
        json_array_append_new(p, hj_new_bytes(addr->b, 20));
        json_array_append_new(p, list);
        json_array_append_new(p, block_ref(h));
        s = rpc_call_wait(ask, &r, "eth_getProof", p, &o, err);
        if (s == LOAM_ERPC && follow) {
            /* Our head may be one that the RPC has left behind, as after its restart: whoever asked for the newest gets the newest.
             * Or the RPC is behind it (another one of a farm, or anvil that lost its last blocks): it gets a moment to come up. */
            struct chain_head head;
            struct hash32 before = h->hash;
            enum loam_status synced = chain_sync(c, NULL);
            bool moved = (!synced || synced == LOAM_ESTALE) && !chain_head(c, &head, NULL) && !hash_eq(&head.h.hash, &before);
            if (moved) {
                tmp = head.h;
                h = &tmp;
            }
            if (--follow || moved) {
                if (!moved)
                    uv_sleep(NEWER_HEADS_MS);
                attempt = SIZE_MAX;
                continue;
            }
        }
        if (s == LOAM_ERPC && older(c, h)) {
            /* Full nodes keep the state of some hundred blocks only. */
            if (ask == c->rpc && c->cfg.archive) {
                ask = c->cfg.archive;
                attempt = SIZE_MAX;
                continue;
            }
            char why[160];
            snprintf(why, sizeof why, "%s", err ? err->text : "");
            return err_set(err, LOAM_EUNAVAILABLE, "unavailable: the state of block %llu is not proven by %s: %s", (unsigned long long)h->number,
                           c->cfg.archive ? "the RPCs nor the archive" : "the RPCs, and no archive (proof_urls) is configured", why);
        }
        if (s)
            return s;
        s = check_proof(a, values, r, h, addr, slots, n, err);
        json_decref(r);
        if (!chain_is_lie(s))
            break;
        if (attempt >= again)
            rpc_blame(ask, used, s, err);
    }
    return s;
}

enum loam_status chain_account(struct chain *c, struct account *out, const struct addr20 *addr, const struct header *at, struct err *err) {
    return proven(c, out, NULL, addr, NULL, 0, at, err);
}

enum loam_status chain_slots(struct chain *c, struct u256 *values, const struct addr20 *addr, const struct hash32 *slots, size_t n,
                             const struct header *at, struct err *err) {
    struct account a;
    return proven(c, &a, values, addr, slots, n, at, err);
}

enum loam_status chain_code(struct chain *c, struct buf *out, const struct addr20 *addr, const struct header *at, struct err *err) {
    struct account a;
    struct header tmp;
    const struct header *h;
    struct buf b = BUF_INIT(CODE_MAX);
    enum loam_status s;
    if ((s = chain_at(c, &h, &tmp, at, err)) || (s = chain_account(c, &a, addr, h, err)))
        return s;
    if (hash_eq(&a.code_hash, &account_empty_code))
        return LOAM_OK;
    for (size_t attempt = 0; attempt < rpc_count(c->rpc); attempt++) {
        json_t *r, *p = json_array();
        int used = RPC_ANY;
        uint8_t hash[32];
        json_array_append_new(p, hj_new_bytes(addr->b, 20));
        json_array_append_new(p, block_ref(h));
        if ((s = chain_ask(c, &r, "eth_getCode", p, RPC_ANY, &used, err)))
            break;
        s = hj_str_bytes(&b, r, "code", err);
        json_decref(r);
        if (!s) {
            keccak256(hash, b.len ? b.data : (const uint8_t *)"", b.len);
            if (memcmp(hash, a.code_hash.b, 32))
                s = err_set(err, LOAM_ECODE, "eth_getCode: the code does not hash to the account's code hash");
        }
        if (!chain_is_lie(s))
            break;
        rpc_blame(c->rpc, used, s, err);
    }
    if (!s)
        s = buf_add(out, b.data, b.len, err);
    buf_clear(&b);
    return s;
}

void chain_slot_map(struct hash32 *out, const uint8_t key[32], const struct hash32 *slot) {
    uint8_t m[64];
    memcpy(m, key, 32);
    memcpy(m + 32, slot->b, 32);
    keccak256(out->b, m, 64);
}
static struct hash32 slot_of(uint64_t slot) {
    struct hash32 h = {{0}};
    put_be64(h.b + 24, slot);
    return h;
}
void chain_slot_map_u64(struct hash32 *out, uint64_t key, uint64_t slot) {
    struct hash32 k = slot_of(key), s = slot_of(slot);
    chain_slot_map(out, k.b, &s);
}
void chain_slot_map_addr(struct hash32 *out, const struct addr20 *key, uint64_t slot) {
    struct hash32 k = {{0}}, s = slot_of(slot);
    memcpy(k.b + 12, key->b, 20);
    chain_slot_map(out, k.b, &s);
}
void chain_slot_array(struct hash32 *out, uint64_t slot, uint64_t index) {
    struct hash32 s = slot_of(slot);
    struct u256 v;
    keccak256(out->b, s.b, 32);
    u256_add(&v, u256_from_be(out->b), u256_from(index));
    u256_to_be(out->b, v);
}

/* EIP-2935: slot n % 8191 of the history contract holds the hash of block n, for the last 8191 blocks. */
#define HISTORY_WINDOW 8191

enum loam_status chain_history_hash(struct chain *c, struct hash32 *out, uint64_t number, const struct header *at, struct err *err) {
    static const struct addr20 history = {
        {0x00, 0x00, 0xf9, 0x08, 0x27, 0xf1, 0xc5, 0x3a, 0x10, 0xcb, 0x7a, 0x02, 0x33, 0x5b, 0x17, 0x53, 0x20, 0x00, 0x29, 0x35}};
    struct header tmp;
    const struct header *h;
    struct u256 v;
    struct hash32 slot = slot_of(number % HISTORY_WINDOW);
    enum loam_status s = chain_at(c, &h, &tmp, at, err);
    if (s)
        return s;
    if (number >= h->number || h->number - number > HISTORY_WINDOW)
        return err_set(err, LOAM_ERANGE, "block %llu is not among the %d before %llu", (unsigned long long)number, HISTORY_WINDOW,
                       (unsigned long long)h->number);
    if ((s = chain_slots(c, &v, &history, &slot, 1, h, err)))
        return s;
    if (u256_is_zero(v))
        return err_set(err, LOAM_ENOTFOUND, "the chain keeps no block hashes (EIP-2935, from Isthmus on)");
    u256_to_be(out->b, v);
    return LOAM_OK;
}

enum loam_status chain_history_header(struct chain *c, struct header *out, uint64_t number, const struct header *at, struct err *err) {
    struct hash32 want;
    enum loam_status s = chain_history_hash(c, &want, number, at, err);
    if (s)
        return s;
    for (size_t attempt = 0; attempt < rpc_count(c->rpc); attempt++) {
        int used = RPC_ANY;
        s = chain_fetch_header(c, out, number, RPC_ANY, &used, err);
        if (!s && !hash_eq(&out->hash, &want))
            s = err_set(err, LOAM_EWRONGBLOCK, "block %llu is not the one whose hash the chain keeps", (unsigned long long)number);
        if (!chain_is_lie(s))
            break;
        rpc_blame(c->rpc, used, s, err);
    }
    return s;
}

/* ---- blocks ---- */

void chain_block_clear(struct chain_block *b) {
    for (size_t i = 0; i < b->count && b->receipts; i++)
        receipt_clear(&b->receipts[i]);
    mem_free(b->receipts);
    mem_free(b->tx_hashes);
    mem_free(b->created);
    memset(b, 0, sizeof *b);
}

void chain_cache_clear(struct chain *c) {
    uv_mutex_lock(&c->lock);
    for (size_t i = 0; i < BLOCK_CACHE; i++)
        if (c->cache[i].b) {
            chain_block_clear(c->cache[i].b);
            mem_free(c->cache[i].b);
            c->cache[i].b = NULL;
        }
    uv_mutex_unlock(&c->lock);
}

/* The transactions of a block: hashes out, root checked. */
static enum loam_status check_txs(struct chain *c, struct chain_block *b, const json_t *list, struct err *err) {
    size_t n = json_array_size(list), i;
    struct buf bytes = BUF_INIT(BLOCK_BYTES_MAX);
    struct bytes_view *v = mem_zarray(n + 1, sizeof *v);
    size_t *at = mem_zarray(n + 1, sizeof *at);
    enum loam_status s = LOAM_OK;
    json_t *t;
    struct hash32 root;
    b->tx_hashes = mem_zarray(n + 1, sizeof *b->tx_hashes);
    b->created = mem_zarray(n + 1, sizeof *b->created);
    if (!v || !at || !b->tx_hashes || !b->created)
        s = err_set(err, LOAM_ENOMEM, "block of %zu transactions", n);
    json_array_foreach(list, i, t) {
        if (s)
            break;
        at[i] = bytes.len;
        if (!(s = tx_from_json(&bytes, t, !c->cfg.rules.anvil, err))) {
            at[i + 1] = bytes.len;
            keccak256(b->tx_hashes[i].b, bytes.data + at[i], at[i + 1] - at[i]);
            struct tx x;
            /* The receipt's contractAddress is not committed by any root: worked out here. A deposit's uses the nonce of its
             * receipt: see check_receipts. */
            if (!tx_decode(&x, bytes.data + at[i], at[i + 1] - at[i], NULL) && x.create) {
                if (x.type == TX_DEPOSIT)
                    b->created[i] = x.from;
                else if (!tx_sender(&x, NULL))
                    tx_create_address(&b->created[i], &x.from, x.nonce);
            }
        }
    }
    for (i = 0; i < n && !s; i++)
        v[i] = (struct bytes_view){bytes.data + at[i], at[i + 1] - at[i]};
    struct tx first;
    if (!s && n && !tx_decode(&first, v[0].p, v[0].n, NULL) && first.type == TX_DEPOSIT && !first.create && addr_eq(&first.to, &l1_block_predeploy))
        b->has_l1 = !l1_attributes_decode(&b->l1, first.data, first.data_len, NULL);
    if (!s && !(s = trie_ordered_root(&root, v, n, err)) && !hash_eq(&root, &b->h.tx_root))
        s = err_set(err, LOAM_ETXROOT, "block %llu: its transactions do not give its transactions root", (unsigned long long)b->h.number);
    buf_clear(&bytes);
    mem_free(v);
    mem_free(at);
    if (!s)
        b->count = n;
    return s;
}

static enum loam_status check_receipts(struct chain_block *b, const json_t *list, struct err *err) {
    size_t n = b->count, i, logs = 0;
    struct buf bytes = BUF_INIT(BLOCK_BYTES_MAX);
    struct bytes_view *v;
    size_t *at;
    enum loam_status s = LOAM_OK;
    json_t *o;
    struct hash32 root;
    uint8_t bloom[256] = {0};
    if (!json_is_array(list))
        return err_set(err, !list || json_is_null(list) ? LOAM_ENULL : LOAM_EJSON, "block %llu: no list of receipts", (unsigned long long)b->h.number);
    if (json_array_size(list) != n)
        return err_set(err, LOAM_ERECEIPT, "block %llu: %zu transactions and %zu receipts", (unsigned long long)b->h.number, n, json_array_size(list));
    v = mem_zarray(n + 1, sizeof *v);
    at = mem_zarray(n + 1, sizeof *at);
    b->receipts = mem_zarray(n + 1, sizeof *b->receipts);
    if (!v || !at || !b->receipts)
        s = err_set(err, LOAM_ENOMEM, "block of %zu receipts", n);
    json_array_foreach(list, i, o) {
        if (s)
            break;
        struct receipt *r = &b->receipts[i];
        at[i] = bytes.len;
        if ((s = receipt_from_json(r, o, err)) || (s = receipt_encode(&bytes, r, err)))
            break;
        at[i + 1] = bytes.len;
        for (size_t j = 0; j < 256; j++)
            bloom[j] |= r->bloom[j];
        if (r->type == TX_DEPOSIT && !addr_is_zero(&b->created[i]))
            tx_create_address(&b->created[i], &b->created[i], r->deposit_nonce);
        for (size_t j = 0; j < r->log_count; j++) {
            struct log *l = &r->logs[j];
            l->block = b->h.number;
            l->block_hash = b->h.hash;
            l->tx_index = i;
            l->tx_hash = b->tx_hashes[i];
            l->log_index = logs++;
        }
    }
    for (i = 0; i < n && !s; i++)
        v[i] = (struct bytes_view){bytes.data + at[i], at[i + 1] - at[i]};
    if (!s && !(s = trie_ordered_root(&root, v, n, err)) && !hash_eq(&root, &b->h.receipts_root))
        s = err_set(err, LOAM_ERECEIPT, "block %llu: its receipts do not give its receipts root", (unsigned long long)b->h.number);
    if (!s && memcmp(bloom, b->h.bloom, 256))
        s = err_set(err, LOAM_EBLOOM, "block %llu: its bloom is not that of its receipts", (unsigned long long)b->h.number);
    if (!s && n && b->receipts[n - 1].cumulative_gas != b->h.gas_used)
        s = err_set(err, LOAM_ERECEIPT, "block %llu: its receipts used other gas than it says", (unsigned long long)b->h.number);
    buf_clear(&bytes);
    mem_free(v);
    mem_free(at);
    return s;
}

static enum loam_status fetch_block(struct chain *c, struct chain_block *b, const struct header *h, int *used, struct err *err) {
    json_t *blk = NULL, *rec = NULL, *p = json_array();
    struct header got;
    enum loam_status s;
    json_array_append_new(p, hj_new_bytes(h->hash.b, 32));
    json_array_append_new(p, json_true());
    memset(b, 0, sizeof *b);
    b->h = *h;
    if ((s = chain_ask(c, &blk, "eth_getBlockByHash", p, RPC_ANY, used, err)))
        return s;
    if (json_is_null(blk))
        s = err_set(err, LOAM_ENULL, "block %llu: the RPC does not have it any more", (unsigned long long)h->number);
    else if (!(s = header_from_json(&got, blk, err)) && !hash_eq(&got.hash, &h->hash))
        s = err_set(err, LOAM_EWRONGBLOCK, "asked for one block by hash, got another");
    if (!s) {
        json_t *txs = json_object_get(blk, "transactions");
        if (!json_is_array(txs) || json_array_size(txs) > BLOCK_TXS_MAX)
            s = err_set(err, LOAM_EJSON, "block %llu: no list of transactions", (unsigned long long)h->number);
        else
            s = check_txs(c, b, txs, err);
    }
    json_decref(blk);
    if (!s) {
        p = json_array();
        json_array_append_new(p, hj_new_bytes(h->hash.b, 32));
        if (!(s = chain_ask(c, &rec, "eth_getBlockReceipts", p, *used, used, err)))
            s = check_receipts(b, rec, err);
        json_decref(rec);
    }
    return s;
}

static enum loam_status copy_receipt(struct receipt *out, const struct receipt *in, struct err *err) {
    *out = *in;
    buf_init(&out->bytes, LOG_DATA_MAX);
    out->logs = mem_dup(in->logs, (in->log_count + 1) * sizeof *in->logs);
    if (!out->logs)
        return err_set(err, LOAM_ENOMEM, "receipt");
    enum loam_status s = in->bytes.len ? buf_add(&out->bytes, in->bytes.data, in->bytes.len, err) : LOAM_OK;
    for (size_t i = 0; i < out->log_count && !s; i++)
        out->logs[i].data = out->bytes.data ? out->bytes.data + (in->logs[i].data - in->bytes.data) : (const uint8_t *)"";
    return s;
}

static enum loam_status copy_block(struct chain_block *out, const struct chain_block *in, struct err *err) {
    enum loam_status s = LOAM_OK;
    out->h = in->h;
    out->has_l1 = in->has_l1;
    out->l1 = in->l1;
    out->count = 0;
    out->tx_hashes = mem_dup(in->tx_hashes, (in->count + 1) * sizeof *in->tx_hashes);
    out->created = mem_dup(in->created, (in->count + 1) * sizeof *in->created);
    out->receipts = mem_zarray(in->count + 1, sizeof *in->receipts);
    if (!out->tx_hashes || !out->created || !out->receipts)
        s = err_set(err, LOAM_ENOMEM, "block");
    for (size_t i = 0; i < in->count && !s; i++) {
        s = copy_receipt(&out->receipts[i], &in->receipts[i], err);
        out->count = i + 1;
    }
    if (s)
        chain_block_clear(out);
    return s;
}

enum loam_status chain_block(struct chain *c, struct chain_block *out, const struct header *h, struct err *err) {
    enum loam_status s = LOAM_OK;
    memset(out, 0, sizeof *out);
    uv_mutex_lock(&c->lock);
    for (size_t i = 0; i < BLOCK_CACHE; i++)
        if (c->cache[i].b && hash_eq(&c->cache[i].hash, &h->hash)) {
            c->cache[i].used = ++c->cache_clock;
            s = copy_block(out, c->cache[i].b, err);
            uv_mutex_unlock(&c->lock);
            return s;
        }
    uv_mutex_unlock(&c->lock);
    for (size_t attempt = 0; attempt < rpc_count(c->rpc); attempt++) {
        int used = RPC_ANY;
        chain_block_clear(out);
        s = fetch_block(c, out, h, &used, err);
        if (!chain_is_lie(s))
            break;
        rpc_blame(c->rpc, used, s, err);
    }
    if (s) {
        chain_block_clear(out);
        return s;
    }
    struct chain_block *keep = mem_zalloc(sizeof *keep);
    if (!keep || copy_block(keep, out, NULL)) {
        mem_free(keep);
        return LOAM_OK; /* a cache that cannot grow costs time only */
    }
    uv_mutex_lock(&c->lock);
    size_t oldest = 0;
    for (size_t i = 1; i < BLOCK_CACHE; i++)
        if (!c->cache[i].b || (c->cache[oldest].b && c->cache[i].used < c->cache[oldest].used))
            oldest = i;
    if (c->cache[oldest].b) {
        chain_block_clear(c->cache[oldest].b);
        mem_free(c->cache[oldest].b);
    }
    c->cache[oldest].b = keep;
    c->cache[oldest].hash = h->hash;
    c->cache[oldest].used = ++c->cache_clock;
    uv_mutex_unlock(&c->lock);
    return LOAM_OK;
}

/* ---- receipts ---- */

void chain_receipt_clear(struct chain_receipt *r) {
    mem_free(r->logs);
    buf_clear(&r->bytes);
    memset(r, 0, sizeof *r);
}

/* Where one endpoint says that the transaction is. LOAM_ENOTFOUND: in no block. */
static enum loam_status locate(struct chain *c, struct hash32 *at, const struct hash32 *tx, int *used, struct err *err) {
    json_t *r, *p = json_array();
    json_array_append_new(p, hj_new_bytes(tx->b, 32));
    enum loam_status s = chain_ask(c, &r, "eth_getTransactionReceipt", p, RPC_ANY, used, err);
    if (s)
        return s;
    if (json_is_null(r))
        s = err_set(err, LOAM_ENOTFOUND, "the transaction is in no block yet");
    else
        s = hj_fixed(at->b, 32, r, "blockHash", err);
    json_decref(r);
    return s;
}

static enum loam_status fill_receipt(struct chain *c, struct chain_receipt *out, const struct chain_block *b, size_t i, struct err *err) {
    struct receipt mine;
    struct chain_head head;
    const struct receipt *in = &b->receipts[i];
    enum loam_status s = copy_receipt(&mine, in, err);
    if (s) {
        receipt_clear(&mine);
        return s;
    }
    out->tx_hash = b->tx_hashes[i];
    out->block_hash = b->h.hash;
    out->block = b->h.number;
    out->index = i;
    out->ok = in->ok;
    if (in->ok)
        out->created = b->created[i];
    out->gas_used = in->cumulative_gas - (i ? b->receipts[i - 1].cumulative_gas : 0);
    out->has_sender_nonce = in->type == TX_DEPOSIT && in->has_deposit_nonce && in->has_deposit_version;
    out->sender_nonce = in->deposit_nonce;
    out->logs = mine.logs;
    out->log_count = mine.log_count;
    out->bytes = mine.bytes;
    if (!chain_head(c, &head, NULL) && head.h.number > b->h.number)
        out->depth = head.h.number - b->h.number;
    return LOAM_OK;
}

enum loam_status chain_receipt(struct chain *c, struct chain_receipt *out, const struct hash32 *tx, struct err *err) {
    enum loam_status s = LOAM_ENET;
    memset(out, 0, sizeof *out);
    for (size_t attempt = 0; attempt < rpc_count(c->rpc); attempt++) {
        struct hash32 at;
        struct header h;
        struct chain_block b;
        int used = RPC_ANY;
        s = locate(c, &at, tx, &used, err);
        if (chain_is_lie(s)) {
            rpc_blame(c->rpc, used, s, err);
            continue;
        }
        if (s)
            return s;
        if ((s = c->store.by_hash(c->store.ctx, &h, &at, err)) == LOAM_ENOTFOUND) {
            /* Newer than what we have linked: one round, then it is there or not in the chain. */
            if ((s = chain_sync(c, err)) && s != LOAM_ESTALE)
                return s;
            s = c->store.by_hash(c->store.ctx, &h, &at, err);
        }
        if (s == LOAM_ENOTFOUND)
            return err_set(err, LOAM_ENOTFOUND, "the transaction's block is not in the verified chain (yet)");
        if (s || (s = chain_block(c, &b, &h, err)))
            return s;
        size_t i = 0;
        while (i < b.count && !hash_eq(&b.tx_hashes[i], tx))
            i++;
        if (i < b.count)
            s = fill_receipt(c, out, &b, i, err);
        else
            s = err_set(err, LOAM_EWRONGBLOCK, "the RPC places the transaction in block %llu, which does not hold it", (unsigned long long)h.number);
        chain_block_clear(&b);
        if (s != LOAM_EWRONGBLOCK)
            return s;
        rpc_blame(c->rpc, used, s, err);
    }
    return s;
}

enum loam_status chain_receipt_wait(struct chain *c, struct chain_receipt *out, const struct hash32 *tx, uint64_t depth, uint64_t timeout_ms,
                                    const struct http_cancel *cancel, struct err *err) {
    uint64_t until = clock_mono_us() + 1000 * timeout_ms, pause = 50;
    for (;;) {
        enum loam_status s = chain_receipt(c, out, tx, err);
        if (!s && out->depth >= depth)
            return LOAM_OK;
        if (!s)
            chain_receipt_clear(out);
        else if (s != LOAM_ENOTFOUND && s != LOAM_ENET && s != LOAM_ETIMEOUT && s != LOAM_ENULL)
            return s;
        if (clock_mono_us() >= until)
            return err_set(err, LOAM_ETIMEOUT, "the transaction is not confirmed after %llu ms", (unsigned long long)timeout_ms);
        if (cancel && cancel->cancelled(cancel->arg))
            return err_set(err, LOAM_ECANCEL, "cancelled while waiting for a transaction");
        uint64_t wake = clock_mono_us() + 1000 * pause;
        uv_mutex_lock(&c->lock);
        while (clock_mono_us() < wake && !c->stop)
            uv_cond_timedwait(&c->cond, &c->lock, pause * 1000000u);
        uv_mutex_unlock(&c->lock);
        if (pause < 1000)
            pause = pause * 3 / 2;
    }
}

/* ---- logs ---- */

static bool any_in_bloom(const uint8_t bloom[256], const void *list, size_t n, size_t size) {
    for (size_t i = 0; i < n; i++)
        if (bloom_may(bloom, (const uint8_t *)list + i * size, size))
            return true;
    return !n;
}

static bool matches(const struct log *l, const struct chain_filter *f) {
    bool a = !f->addr_count, t = !f->topic_count;
    for (size_t i = 0; i < f->addr_count && !a; i++)
        a = addr_eq(&l->addr, &f->addrs[i]);
    for (size_t i = 0; i < f->topic_count && !t; i++)
        t = l->topic_count && hash_eq(&l->topics[0], &f->topics[i]);
    return a && t;
}

enum loam_status chain_logs(struct chain *c, uint64_t from, uint64_t to, const struct chain_filter *f, chain_log_fn fn, void *arg,
                            struct err *err) {
    enum loam_status s = LOAM_OK;
    for (uint64_t n = from; n <= to && !s; n++) {
        struct header h;
        struct chain_block b;
        if ((s = chain_header(c, &h, n, err)))
            return s;
        if (!any_in_bloom(h.bloom, f->addrs, f->addr_count, 20) || !any_in_bloom(h.bloom, f->topics, f->topic_count, 32))
            continue;
        if ((s = chain_block(c, &b, &h, err)))
            return s;
        for (size_t i = 0; i < b.count && !s; i++)
            for (size_t j = 0; j < b.receipts[i].log_count && !s; j++)
                if (matches(&b.receipts[i].logs[j], f))
                    s = fn(arg, &b.receipts[i].logs[j], err);
        chain_block_clear(&b);
        if (n == UINT64_MAX)
            break;
    }
    return s;
}

/* ---- sending ---- */

enum loam_status chain_nonce(struct chain *c, uint64_t *out, const struct addr20 *addr, struct err *err) {
    struct account a;
    uint64_t pending;
    json_t *r, *p = json_array();
    enum loam_status s;
    json_array_append_new(p, hj_new_bytes(addr->b, 20));
    json_array_append_new(p, json_string("pending"));
    if ((s = chain_ask(c, &r, "eth_getTransactionCount", p, RPC_ANY, NULL, err)))
        return s;
    s = hj_str_u64(&pending, r, "nonce", err);
    json_decref(r);
    if (s || (s = chain_account(c, &a, addr, NULL, err)))
        return s;
    *out = pending > a.nonce ? pending : a.nonce;
    return LOAM_OK;
}

static json_t *call_object(const struct addr20 *from, const struct addr20 *to, const void *data, size_t n, struct u256 value) {
    json_t *o = json_object();
    if (from)
        json_object_set_new(o, "from", hj_new_bytes(from->b, 20));
    if (to)
        json_object_set_new(o, "to", hj_new_bytes(to->b, 20));
    json_object_set_new(o, "input", hj_new_bytes(data, n));
    if (!u256_is_zero(value))
        json_object_set_new(o, "value", hj_new_u256(value));
    return o;
}

enum loam_status chain_call(struct chain *c, struct buf *out, const struct addr20 *from, const struct addr20 *to, const void *data, size_t n,
                            struct u256 value, struct err *err) {
    struct header tmp;
    const struct header *h;
    struct buf b = BUF_INIT(HTTP_BODY_DEFAULT);
    json_t *r, *p;
    enum loam_status s = chain_at(c, &h, &tmp, NULL, err);
    if (s)
        return s;
    p = json_array();
    json_array_append_new(p, call_object(from, to, data, n, value));
    json_array_append_new(p, block_ref(h));
    struct rpc_opts o = {.endpoint = RPC_ANY, .error_data = &b, .cancel = &c->cancel};
    s = rpc_call_wait(c->rpc, &r, "eth_call", p, &o, err);
    if (!s) {
        s = hj_str_bytes(&b, r, "result", err);
        json_decref(r);
    } else if (s == LOAM_ERPC && b.len) {
        s = LOAM_EREVERT;
    }
    if ((!s || s == LOAM_EREVERT) && out && b.len) {
        enum loam_status t = buf_add(out, b.data, b.len, err);
        s = t ? t : s;
    }
    buf_clear(&b);
    return s;
}

enum loam_status chain_gas(struct chain *c, uint64_t *out, struct buf *revert, const struct addr20 *from, const struct addr20 *to,
                           const void *data, size_t n, struct u256 value, struct err *err) {
    struct buf b = BUF_INIT(HTTP_BODY_DEFAULT);
    json_t *r, *p = json_array();
    json_array_append_new(p, call_object(from, to, data, n, value));
    struct rpc_opts o = {.endpoint = RPC_ANY, .error_data = &b, .cancel = &c->cancel};
    enum loam_status s = rpc_call_wait(c->rpc, &r, "eth_estimateGas", p, &o, err);
    if (!s) {
        s = hj_str_u64(out, r, "gas", err);
        json_decref(r);
        if (!s && *out > 1000000000)
            s = err_set(err, LOAM_ERANGE, "eth_estimateGas: %llu gas", (unsigned long long)*out);
        if (!s)
            *out += *out / 5;
    } else if (s == LOAM_ERPC && b.len) {
        s = LOAM_EREVERT;
    }
    if (s == LOAM_EREVERT && revert && b.len && buf_add(revert, b.data, b.len, NULL))
        buf_reset(revert);
    buf_clear(&b);
    return s;
}

enum loam_status chain_fees(struct chain *c, struct u256 *max_fee, struct u256 *tip, struct err *err) {
    struct chain_head h;
    json_t *r;
    struct u256 two;
    enum loam_status s = chain_head(c, &h, err);
    if (s)
        return s;
    *tip = u256_from(1000000); /* 0.001 gwei: what OP Stack sequencers ask for at most */
    struct err quiet;
    if (!chain_ask(c, &r, "eth_maxPriorityFeePerGas", NULL, RPC_ANY, NULL, &quiet)) {
        struct u256 t;
        /* The RPC's word, but never more than the base fee or one gwei. */
        struct u256 cap = u256_cmp(h.h.base_fee, u256_from(1000000000)) > 0 ? h.h.base_fee : u256_from(1000000000);
        if (!hj_str_u256(&t, r, "tip", NULL) && u256_cmp(t, cap) <= 0)
            *tip = t;
        json_decref(r);
    }
    if (u256_add(&two, h.h.base_fee, h.h.base_fee) || u256_add(max_fee, two, *tip))
        return err_set(err, LOAM_ERANGE, "the base fee overflows");
    return LOAM_OK;
}

enum loam_status chain_send(struct chain *c, struct hash32 *hash, const void *raw, size_t n, struct err *err) {
    json_t *r, *p = json_array();
    struct hash32 named;
    int used = RPC_ANY;
    struct err e;
    keccak256(hash->b, raw, n);
    json_array_append_new(p, hj_new_bytes(raw, n));
    enum loam_status s = chain_ask(c, &r, "eth_sendRawTransaction", p, RPC_ANY, &used, &e);
    if (s) {
        if (err)
            *err = e;
        if (s != LOAM_ERPC && s != LOAM_EREVERT)
            return s;
        if (strstr(e.text, "already known") || strstr(e.text, "already imported") || strstr(e.text, "known transaction") || strstr(e.text, "AlreadyKnown"))
            return LOAM_OK;
        if (strstr(e.text, "nonce too low") || strstr(e.text, "Nonce too low"))
            return err_prefix(err, LOAM_ENONCE, "sending");
        if (strstr(e.text, "nsufficient funds"))
            return err_prefix(err, LOAM_EFUNDS, "sending");
        return s;
    }
    s = hj_str_fixed(named.b, 32, r, "hash", err);
    json_decref(r);
    if (!s && !hash_eq(&named, hash)) {
        s = err_set(err, LOAM_ETXHASH, "the RPC took the transaction under another hash");
        rpc_blame(c->rpc, used, s, err);
    }
    return s;
}
