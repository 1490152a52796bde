#include "net/tx.h"

#include "base/keccak.h"
#include "base/mem.h"
#include "net/hexjson.h"
#include "net/rlp.h"
#include "record/sign.h"

#include <string.h>

#include "base/banned.h"

#define TX_FIELDS_MAX 14
#define ACCESS_ENTRIES_MAX 65536

/* access list: [[address, [key…]]…]; authorisation list: [[chain, address, nonce, parity, r, s]…] */
static enum loam_status check_access(const struct rlp *list, struct err *err) {
    enum loam_status s;
    if (!list->list)
        return err_set(err, LOAM_ERLP, "transaction: the access list is no list");
    const uint8_t *at = list->p;
    size_t left = list->n;
    while (left) {
        struct rlp e, f[2], k;
        size_t n;
        uint8_t tmp[32];
        if ((s = rlp_next(&e, &at, &left, err)) || (s = rlp_items(f, 2, &n, &e, err)))
            return s;
        if (n != 2 || !f[1].list)
            return err_set(err, LOAM_ERLP, "transaction: an access list entry of %zu items", n);
        if ((s = rlp_fixed(tmp, 20, &f[0], "access list address", err)))
            return s;
        const uint8_t *q = f[1].p;
        size_t l = f[1].n;
        while (l)
            if ((s = rlp_next(&k, &q, &l, err)) || (s = rlp_fixed(tmp, 32, &k, "access list key", err)))
                return s;
    }
    return LOAM_OK;
}

static enum loam_status check_auth(const struct rlp *list, struct err *err) {
    enum loam_status s;
    if (!list->list)
        return err_set(err, LOAM_ERLP, "transaction: the authorisation list is no list");
    const uint8_t *at = list->p;
    size_t left = list->n;
    while (left) {
        struct rlp e, f[6];
        size_t n;
        struct u256 w;
        uint64_t v;
        uint8_t tmp[20];
        if ((s = rlp_next(&e, &at, &left, err)) || (s = rlp_items(f, 6, &n, &e, err)))
            return s;
        if (n != 6)
            return err_set(err, LOAM_ERLP, "transaction: an authorisation of %zu items", n);
        if ((s = rlp_u256(&w, &f[0], "authorisation chain id", err)) || (s = rlp_fixed(tmp, 20, &f[1], "authorisation address", err)) ||
            (s = rlp_u64(&v, &f[2], "authorisation nonce", err)) || (s = rlp_u64(&v, &f[3], "authorisation parity", err)) ||
            (s = rlp_u256(&w, &f[4], "authorisation r", err)) || (s = rlp_u256(&w, &f[5], "authorisation s", err)))
            return s;
    }
    return LOAM_OK;
}

static enum loam_status to_of(struct tx *t, const struct rlp *it, struct err *err) {
    if (!it->list && !it->n) {
        t->create = true;
        return LOAM_OK;
    }
    return rlp_fixed(t->to.b, 20, it, "to", err);
}

static enum loam_status data_of(struct tx *t, const struct rlp *it, struct err *err) {
    if (it->list)
        return err_set(err, LOAM_ERLP, "transaction: a list as data");
    t->data = it->p;
    t->data_len = it->n;
    return LOAM_OK;
}

static enum loam_status sig_of(struct tx *t, const struct rlp f[3], struct err *err) {
    enum loam_status s;
    if ((s = rlp_u64(&t->v, &f[0], "v", err)) || (s = rlp_u256(&t->r, &f[1], "r", err)) || (s = rlp_u256(&t->s, &f[2], "s", err)))
        return s;
    if (t->type == TX_LEGACY) {
        if (t->v == 27 || t->v == 28) {
            t->parity = (uint8_t)(t->v - 27);
        } else if (t->v >= 37) { /* 35 and 36 would be chain 0 */
            t->chain_id = (t->v - 35) / 2;
            t->parity = (uint8_t)((t->v - 35) % 2);
        } else {
            return err_set(err, LOAM_ESIG, "transaction: v is %llu", (unsigned long long)t->v);
        }
    } else {
        if (t->v > 1)
            return err_set(err, LOAM_ESIG, "transaction: parity is %llu", (unsigned long long)t->v);
        t->parity = (uint8_t)t->v;
    }
    return LOAM_OK;
}

static enum loam_status nonce_of(struct tx *t, const struct rlp *it, struct err *err) {
    enum loam_status s = rlp_u64(&t->nonce, it, "nonce", err);
    if (!s && t->nonce == UINT64_MAX)
        return err_set(err, LOAM_ERANGE, "transaction: nonce is 2^64 - 1 (EIP-2681)");
    return s;
}

enum loam_status tx_decode(struct tx *t, const uint8_t *in, size_t n, struct err *err) {
    struct rlp top, f[TX_FIELDS_MAX];
    size_t c;
    enum loam_status s;
    memset(t, 0, sizeof *t);
    if (!n || n > TX_BYTES_MAX)
        return err_set(err, n ? LOAM_ELIMIT : LOAM_ERLP, "transaction of %zu bytes", n);
    size_t skip = in[0] < 0xc0;
    t->type = skip ? in[0] : TX_LEGACY;
    if (skip && t->type != TX_2930 && t->type != TX_1559 && t->type != TX_BLOB && t->type != TX_7702 && t->type != TX_DEPOSIT)
        return err_set(err, LOAM_EUNSUPPORTED, "transaction of type 0x%02x", in[0]);
    if ((s = rlp_parse(&top, in + skip, n - skip, err)) || (s = rlp_items(f, TX_FIELDS_MAX, &c, &top, err)))
        return err_prefix(err, s, "transaction");
    size_t want = t->type == TX_LEGACY    ? 9
                  : t->type == TX_2930    ? 11
                  : t->type == TX_1559    ? 12
                  : t->type == TX_BLOB    ? 14
                  : t->type == TX_7702    ? 13
                                          : 8;
    if (c != want)
        return err_set(err, LOAM_ERLP, "transaction of type %u: %zu fields, not %zu", t->type, c, want);
    switch (t->type) {
    case TX_LEGACY:
        if ((s = nonce_of(t, &f[0], err)) || (s = rlp_u256(&t->gas_price, &f[1], "gasPrice", err)) ||
            (s = rlp_u64(&t->gas, &f[2], "gas", err)) || (s = to_of(t, &f[3], err)) || (s = rlp_u256(&t->value, &f[4], "value", err)) ||
            (s = data_of(t, &f[5], err)) || (s = sig_of(t, &f[6], err)))
            return err_prefix(err, s, "transaction");
        break;
    case TX_DEPOSIT: {
        uint64_t system;
        if ((s = rlp_fixed(t->source_hash.b, 32, &f[0], "sourceHash", err)) || (s = rlp_fixed(t->from.b, 20, &f[1], "from", err)) ||
            (s = to_of(t, &f[2], err)) || (s = rlp_u256(&t->mint, &f[3], "mint", err)) || (s = rlp_u256(&t->value, &f[4], "value", err)) ||
            (s = rlp_u64(&t->gas, &f[5], "gas", err)) || (s = rlp_u64(&system, &f[6], "isSystemTx", err)) || (s = data_of(t, &f[7], err)))
            return err_prefix(err, s, "deposit");
        if (system > 1)
            return err_set(err, LOAM_ERLP, "deposit: isSystemTx is %llu", (unsigned long long)system);
        t->system_tx = system;
        break;
    }
    default: {
        size_t i = 0;
        if ((s = rlp_u64(&t->chain_id, &f[i++], "chainId", err)) || (s = nonce_of(t, &f[i++], err)))
            return err_prefix(err, s, "transaction");
        if (t->type != TX_2930 && (s = rlp_u256(&t->priority, &f[i++], "maxPriorityFeePerGas", err)))
            return err_prefix(err, s, "transaction");
        if ((s = rlp_u256(&t->gas_price, &f[i++], t->type == TX_2930 ? "gasPrice" : "maxFeePerGas", err)) ||
            (s = rlp_u64(&t->gas, &f[i++], "gas", err)) || (s = to_of(t, &f[i++], err)) ||
            (s = rlp_u256(&t->value, &f[i++], "value", err)) || (s = data_of(t, &f[i++], err)) || (s = check_access(&f[i], err)))
            return err_prefix(err, s, "transaction");
        t->access_list = f[i].raw;
        t->access_list_len = f[i++].raw_n;
        if (t->type == TX_BLOB) {
            if ((s = rlp_u256(&t->max_blob_fee, &f[i++], "maxFeePerBlobGas", err)) || !f[i].list)
                return s ? s : err_set(err, LOAM_ERLP, "transaction: no list of blob hashes");
            t->blob_hashes = f[i].raw;
            t->blob_hashes_len = f[i++].raw_n;
        }
        if (t->type == TX_7702) {
            if ((s = check_auth(&f[i], err)))
                return s;
            t->auth_list = f[i].raw;
            t->auth_list_len = f[i++].raw_n;
        }
        if ((t->type == TX_7702 || t->type == TX_BLOB) && t->create)
            return err_set(err, LOAM_ERLP, "transaction of type %u: cannot create", t->type);
        if ((s = sig_of(t, &f[i], err)))
            return err_prefix(err, s, "transaction");
        if (t->type != TX_2930 && u256_cmp(t->priority, t->gas_price) > 0)
            return err_set(err, LOAM_ERANGE, "transaction: the tip is over the maximum fee");
    }
    }
    struct u256 cost;
    if (t->type != TX_DEPOSIT && u256_mul(&cost, t->gas_price, u256_from(t->gas)))
        return err_set(err, LOAM_ERANGE, "transaction: gas times price is over 256 bits");
    keccak256(t->hash.b, in, n);
    return LOAM_OK;
}

static enum loam_status put_to(struct buf *b, const struct tx *t, struct err *err) {
    return t->create ? rlp_put(b, "", 0, err) : rlp_put(b, t->to.b, 20, err);
}
static enum loam_status put_list(struct buf *b, const uint8_t *raw, size_t n, struct err *err) {
    return raw ? buf_add(b, raw, n, err) : buf_byte(b, 0xc0, err);
}

/* Everything but the signature; wrapped and prefixed by the caller. */
static enum loam_status put_body(struct buf *b, const struct tx *t, struct err *err) {
    enum loam_status s;
    if (t->type == TX_DEPOSIT) {
        if ((s = rlp_put(b, t->source_hash.b, 32, err)) || (s = rlp_put(b, t->from.b, 20, err)) || (s = put_to(b, t, err)) ||
            (s = rlp_put_u256(b, t->mint, err)) || (s = rlp_put_u256(b, t->value, err)) || (s = rlp_put_u64(b, t->gas, err)) ||
            (s = rlp_put_u64(b, t->system_tx, err)) || (s = rlp_put(b, t->data_len ? t->data : (const uint8_t *)"", t->data_len, err)))
            return s;
        return LOAM_OK;
    }
    if (t->type != TX_LEGACY && (s = rlp_put_u64(b, t->chain_id, err)))
        return s;
    if ((s = rlp_put_u64(b, t->nonce, err)))
        return s;
    if (t->type > TX_2930 && (s = rlp_put_u256(b, t->priority, err)))
        return s;
    if ((s = rlp_put_u256(b, t->gas_price, err)) || (s = rlp_put_u64(b, t->gas, err)) || (s = put_to(b, t, err)) ||
        (s = rlp_put_u256(b, t->value, err)) || (s = rlp_put(b, t->data_len ? t->data : (const uint8_t *)"", t->data_len, err)))
        return s;
    if (t->type == TX_LEGACY)
        return LOAM_OK;
    if ((s = put_list(b, t->access_list, t->access_list_len, err)))
        return s;
    if (t->type == TX_BLOB && ((s = rlp_put_u256(b, t->max_blob_fee, err)) || (s = put_list(b, t->blob_hashes, t->blob_hashes_len, err))))
        return s;
    if (t->type == TX_7702 && (s = put_list(b, t->auth_list, t->auth_list_len, err)))
        return s;
    return LOAM_OK;
}

enum loam_status tx_encode(struct buf *out, const struct tx *t, struct err *err) {
    enum loam_status s;
    if (t->type != TX_LEGACY && (s = buf_byte(out, t->type, err)))
        return s;
    size_t mark = out->len;
    if ((s = put_body(out, t, err)))
        return s;
    if (t->type != TX_DEPOSIT &&
        ((s = rlp_put_u64(out, t->v, err)) || (s = rlp_put_u256(out, t->r, err)) || (s = rlp_put_u256(out, t->s, err))))
        return s;
    return rlp_wrap(out, mark, err);
}

enum loam_status tx_signing_hash(struct hash32 *out, const struct tx *t, struct err *err) {
    struct buf b = BUF_INIT(TX_BYTES_MAX);
    enum loam_status s = LOAM_OK;
    if (t->type == TX_DEPOSIT)
        return err_set(err, LOAM_EINVAL, "a deposit is not signed");
    if (t->type != TX_LEGACY)
        s = buf_byte(&b, t->type, err);
    size_t mark = b.len;
    if (!s)
        s = put_body(&b, t, err);
    if (!s && t->type == TX_LEGACY && t->chain_id && !(s = rlp_put_u64(&b, t->chain_id, err)) && !(s = rlp_put_u64(&b, 0, err)))
        s = rlp_put_u64(&b, 0, err);
    if (!s)
        s = rlp_wrap(&b, mark, err);
    if (!s)
        keccak256(out->b, b.data, b.len);
    buf_clear(&b);
    return s;
}

enum loam_status tx_recover(struct addr20 *out, const struct hash32 *digest, const uint8_t sig[65], struct err *err) {
    struct sig65 v;
    memcpy(v.b, sig, 65);
    if (v.b[64] < 2)
        v.b[64] = (uint8_t)(v.b[64] + 27);
    return sig_recover(out, digest, &v, err);
}

enum loam_status tx_sender(struct tx *t, struct err *err) {
    struct hash32 digest;
    uint8_t sig[65];
    enum loam_status s;
    if (t->type == TX_DEPOSIT)
        return LOAM_OK;
    if ((s = tx_signing_hash(&digest, t, err)))
        return s;
    u256_to_be(sig, t->r);
    u256_to_be(sig + 32, t->s);
    sig[64] = t->parity;
    return tx_recover(&t->from, &digest, sig, err);
}

enum loam_status tx_sign(struct buf *out, struct hash32 *hash, struct tx *t, const struct tx_signer *signer, struct err *err) {
    struct hash32 digest;
    struct addr20 who;
    uint8_t sig[65];
    enum loam_status s;
    if (t->type != TX_1559 || !t->chain_id)
        return err_set(err, LOAM_EINVAL, "only transactions of type 2 with a chain id are signed");
    if (t->data_len > TX_DATA_MAX)
        return err_set(err, LOAM_ELIMIT, "transaction: %zu bytes of data, nodes take at most %u", t->data_len, TX_DATA_MAX);
    if ((s = tx_signing_hash(&digest, t, err)) || (s = signer->sign(signer->ctx, sig, &digest, err)))
        return s;
    if (sig[64] >= 27)
        sig[64] = (uint8_t)(sig[64] - 27);
    /* A signer that holds another key would burn a nonce of somebody else: check before anything leaves. */
    if ((s = tx_recover(&who, &digest, sig, err)))
        return s;
    if (!addr_eq(&who, &signer->addr)) {
        char a[ADDR_HEX_MAX], b[ADDR_HEX_MAX];
        return err_set(err, LOAM_ESIG, "the signer of %s signed as %s", addr_hex(a, &signer->addr), addr_hex(b, &who));
    }
    t->r = u256_from_be(sig);
    t->s = u256_from_be(sig + 32);
    t->v = t->parity = sig[64];
    t->from = who;
    size_t mark = out->len;
    if ((s = tx_encode(out, t, err)))
        return s;
    keccak256(t->hash.b, out->data + mark, out->len - mark);
    if (hash)
        *hash = t->hash;
    return LOAM_OK;
}

void tx_create_address(struct addr20 *out, const struct addr20 *sender, uint64_t nonce) {
    uint8_t m[32], be[8], h[32];
    size_t n = 0, skip = 0;
    put_be64(be, nonce);
    while (skip < 8 && !be[skip])
        skip++;
    n = 1;
    m[n++] = 0x94;
    memcpy(m + n, sender->b, 20);
    n += 20;
    if (8 - skip == 1 && be[7] < 0x80) {
        m[n++] = be[7];
    } else {
        m[n++] = (uint8_t)(0x80 + 8 - skip);
        memcpy(m + n, be + skip, 8 - skip);
        n += 8 - skip;
    }
    m[0] = (uint8_t)(0xc0 + n - 1);
    keccak256(h, m, n);
    memcpy(out->b, h + 12, 20);
}

static enum loam_status sign_with_key(void *ctx, uint8_t sig[65], const struct hash32 *digest, struct err *err) {
    struct sig65 v;
    enum loam_status s = sig_make(&v, digest, ctx, err);
    if (!s) {
        memcpy(sig, v.b, 65);
        sig[64] = (uint8_t)(sig[64] - 27);
    }
    return s;
}

enum loam_status tx_signer_from_key(struct tx_signer *out, const uint8_t *key, struct err *err) {
    union {
        const uint8_t *in;
        void *out;
    } u = {.in = key};
    out->sign = sign_with_key;
    out->ctx = u.out;
    return secret_address(&out->addr, key, err);
}

/* JSON → RLP of an access list, appended as a list. */
static enum loam_status access_json(struct buf *b, const json_t *list, struct err *err) {
    size_t mark = b->len, i, j;
    enum loam_status s;
    json_t *e, *k;
    if (list && !json_is_null(list) && (!json_is_array(list) || json_array_size(list) > ACCESS_ENTRIES_MAX))
        return err_set(err, LOAM_EJSON, "transaction: accessList");
    json_array_foreach(list, i, e) {
        uint8_t tmp[32];
        size_t em = b->len;
        json_t *keys = json_object_get(e, "storageKeys");
        if ((s = hj_fixed(tmp, 20, e, "address", err)) || (s = rlp_put(b, tmp, 20, err)))
            return s;
        size_t km = b->len;
        json_array_foreach(keys, j, k) {
            if ((s = hj_str_fixed(tmp, 32, k, "storageKeys", err)) || (s = rlp_put(b, tmp, 32, err)))
                return s;
        }
        if ((s = rlp_wrap(b, km, err)) || (s = rlp_wrap(b, em, err)))
            return s;
    }
    return rlp_wrap(b, mark, err);
}

static enum loam_status auth_json(struct buf *b, const json_t *list, struct err *err) {
    size_t mark = b->len, i;
    enum loam_status s;
    json_t *e;
    if (!json_is_array(list) || json_array_size(list) > ACCESS_ENTRIES_MAX)
        return err_set(err, LOAM_EJSON, "transaction: authorizationList");
    json_array_foreach(list, i, e) {
        size_t em = b->len;
        struct u256 chain, r, sv;
        uint64_t nonce, parity;
        uint8_t a[20];
        if ((s = hj_u256(&chain, e, "chainId", err)) || (s = hj_fixed(a, 20, e, "address", err)) || (s = hj_u64(&nonce, e, "nonce", err)) ||
            (s = hj_u64(&parity, e, hj_has(e, "yParity") ? "yParity" : "v", err)) || (s = hj_u256(&r, e, "r", err)) ||
            (s = hj_u256(&sv, e, "s", err)))
            return s;
        if ((s = rlp_put_u256(b, chain, err)) || (s = rlp_put(b, a, 20, err)) || (s = rlp_put_u64(b, nonce, err)) ||
            (s = rlp_put_u64(b, parity, err)) || (s = rlp_put_u256(b, r, err)) || (s = rlp_put_u256(b, sv, err)) || (s = rlp_wrap(b, em, err)))
            return s;
    }
    return rlp_wrap(b, mark, err);
}

static enum loam_status opt_u256(struct u256 *out, const json_t *o, const char *key, struct err *err) {
    *out = U256_ZERO;
    return hj_has(o, key) ? hj_u256(out, o, key, err) : LOAM_OK;
}
static enum loam_status opt_u64(uint64_t *out, const json_t *o, const char *key, struct err *err) {
    *out = 0;
    return hj_has(o, key) ? hj_u64(out, o, key, err) : LOAM_OK;
}

static enum loam_status fill(struct tx *t, struct buf *data, struct buf *lists, const json_t *o, struct err *err) {
    enum loam_status s;
    uint64_t type = 0;
    if ((s = opt_u64(&type, o, "type", err)))
        return s;
    if (type > 0xff || (type > TX_7702 && type != TX_DEPOSIT))
        return err_set(err, LOAM_EUNSUPPORTED, "transaction of type 0x%llx", (unsigned long long)type);
    t->type = (uint8_t)type;
    if ((s = hj_bytes(data, o, "input", err)) || (s = hj_u64(&t->gas, o, "gas", err)) || (s = hj_u256(&t->value, o, "value", err)))
        return s;
    t->data = data->data;
    t->data_len = data->len;
    t->create = !hj_has(o, "to");
    if (!t->create && (s = hj_fixed(t->to.b, 20, o, "to", err)))
        return s;
    if (t->type == TX_DEPOSIT) {
        if ((s = hj_fixed(t->source_hash.b, 32, o, "sourceHash", err)) || (s = hj_fixed(t->from.b, 20, o, "from", err)) ||
            (s = opt_u256(&t->mint, o, "mint", err)))
            return s;
        t->system_tx = json_is_true(json_object_get(o, "isSystemTx"));
        return LOAM_OK;
    }
    if ((s = hj_u64(&t->nonce, o, "nonce", err)) || (s = hj_u256(&t->r, o, "r", err)) || (s = hj_u256(&t->s, o, "s", err)))
        return s;
    if (t->type == TX_LEGACY || t->type == TX_2930)
        s = hj_u256(&t->gas_price, o, "gasPrice", err);
    else if (!(s = hj_u256(&t->gas_price, o, "maxFeePerGas", err)))
        s = hj_u256(&t->priority, o, "maxPriorityFeePerGas", err);
    if (s)
        return s;
    if (t->type == TX_LEGACY) {
        if ((s = hj_u64(&t->v, o, "v", err)))
            return s;
        t->parity = (uint8_t)(t->v >= 35 ? (t->v - 35) % 2 : (t->v - 27) & 1);
        t->chain_id = t->v >= 35 ? (t->v - 35) / 2 : 0;
        return LOAM_OK;
    }
    if ((s = hj_u64(&t->chain_id, o, "chainId", err)) || (s = hj_u64(&t->v, o, hj_has(o, "yParity") ? "yParity" : "v", err)))
        return s;
    t->parity = (uint8_t)(t->v & 1);
    size_t mark[3] = {0, 0, 0};
    if ((s = access_json(lists, json_object_get(o, "accessList"), err)))
        return s;
    mark[0] = lists->len;
    if (t->type == TX_7702 && (s = auth_json(lists, json_object_get(o, "authorizationList"), err)))
        return s;
    mark[1] = lists->len;
    if (t->type == TX_BLOB) {
        json_t *hs = json_object_get(o, "blobVersionedHashes"), *e;
        size_t i;
        if ((s = hj_u256(&t->max_blob_fee, o, "maxFeePerBlobGas", err)))
            return s;
        json_array_foreach(hs, i, e) {
            uint8_t h[32];
            if ((s = hj_str_fixed(h, 32, e, "blobVersionedHashes", err)) || (s = rlp_put(lists, h, 32, err)))
                return s;
        }
        if ((s = rlp_wrap(lists, mark[1], err)))
            return s;
        t->blob_hashes = lists->data + mark[1];
        t->blob_hashes_len = lists->len - mark[1];
    }
    t->access_list = lists->data;
    t->access_list_len = mark[0];
    if (t->type == TX_7702) {
        t->auth_list = lists->data + mark[0];
        t->auth_list_len = mark[1] - mark[0];
    }
    return LOAM_OK;
}

enum loam_status tx_from_json(struct buf *out, const json_t *o, bool check_from, struct err *err) {
    struct tx t;
    struct buf data = BUF_INIT(TX_BYTES_MAX), lists = BUF_INIT(TX_BYTES_MAX);
    struct hash32 named;
    struct addr20 from;
    size_t mark = out->len;
    enum loam_status s;
    memset(&t, 0, sizeof t);
    if (!json_is_object(o))
        return err_set(err, o && !json_is_null(o) ? LOAM_EJSON : LOAM_ENULL, "transaction: not an object");
    if ((s = fill(&t, &data, &lists, o, err)) || (s = tx_encode(out, &t, err)))
        goto done;
    keccak256(t.hash.b, out->data + mark, out->len - mark);
    if ((s = hj_fixed(named.b, 32, o, "hash", err)))
        goto done;
    if (!hash_eq(&named, &t.hash)) {
        char a[HASH_HEX_MAX], b[HASH_HEX_MAX];
        s = err_set(err, LOAM_ETXHASH, "transaction: its fields hash to %s, it says %s", hash_hex(a, &t.hash), hash_hex(b, &named));
        goto done;
    }
    if (check_from && hj_has(o, "from")) {
        if ((s = hj_fixed(from.b, 20, o, "from", err)) || (s = tx_sender(&t, err)))
            goto done;
        if (!addr_eq(&from, &t.from))
            s = err_set(err, LOAM_ESIG, "transaction: from is not who signed it");
    }
done:
    if (s)
        out->len = mark;
    buf_clear(&data);
    buf_clear(&lists);
    return s;
}
