#include "node/bridge.h"

#include "base/mem.h"
#include "net/abi.h"
#include "net/anchor.h"
#include "net/chain.h"
#include "net/hexjson.h"
#include "node/chain.h"
#include "node/job.h"
#include "node/outbox.h"
#include "node/private.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define DEPOSIT_GAS 100000   /* of a plain transfer on the L2 */
#define EMPTY_GAS 21000      /* of a deposit that does nothing but use up its sender's nonce: the least that the portal takes */
#define LOOK_MS 500
#define L1_WAIT_STEPS 60     /* half a minute for L1 to come up */
#define DEPOSIT_DATA_MAX (OUTBOX_DATA_MAX)

static const char *text_of(const json_t *o, const char *key) {
    const char *t = json_string_value(json_object_get(o, key));
    return t ? t : "";
}

/* The L1 service, its portal and token. What happens within seconds of the start is waited for. */
static enum loam_status parts_of(struct node *n, struct anchor_service **l1, struct anchor_parts *p, struct job *j, struct err *err) {
    struct chain *light;
    enum loam_status s = node_chain_ready(n, &light, j, err);
    for (int i = 0; !s; i++) {
        s = node_chain_l1(n, l1, err);
        if (!s && (s = anchor_service_parts(p, *l1, err)) != LOAM_ENOTFOUND)
            return s;
        /* named and not up yet, or up and before its first round */
        struct anchor_state st;
        json_t *file = node_chain_file(n);
        bool young = json_is_object(json_object_get(file, "l1"));
        json_decref(file);
        if (s == LOAM_ENOTFOUND) {
            anchor_service_state(&st, *l1);
            young = !st.rounds;
        }
        if (!young || i == L1_WAIT_STEPS)
            return s;
        if ((s = j ? job_sleep_ms(j, LOOK_MS, err) : LOAM_OK))
            return s;
        if (!j)
            uv_sleep(LOOK_MS);
    }
    return s;
}

enum loam_status bridge_parts(struct node *n, struct addr20 *token, struct addr20 *portal, uint64_t *l1_id, struct job *j, struct err *err) {
    struct anchor_service *l1;
    struct anchor_parts p;
    enum loam_status s = parts_of(n, &l1, &p, j, err);
    if (!s) {
        *token = p.gas_token;
        *portal = p.portal;
        *l1_id = chain_network(anchor_service_l1(l1));
    }
    return s;
}

/* Sends the deposit on L1 and works out the L2 transaction it becomes. */
static enum loam_status deposit(struct node *n, struct chain *l1, const struct addr20 *portal, const char *key, const struct outbox_tx *tx,
                                struct outbox_result *r, struct hash32 *l2_tx, struct job *j, struct err *err) {
    struct chain_receipt rec;
    struct tx t;
    enum loam_status s = outbox_send(n, r, key, tx, j, err);
    if (s)
        return s;
    if ((s = chain_receipt(l1, &rec, &r->tx, err)))
        return s;
    s = LOAM_ENOTFOUND;
    for (size_t i = 0; i < rec.log_count && s; i++)
        s = l1_force_tx(&t, &rec.logs[i], portal, err);
    *l2_tx = t.hash;
    chain_receipt_clear(&rec);
    return s ? err_set(err, LOAM_EPARSE, "the L1 transaction made no deposit: is that the portal?") : LOAM_OK;
}

/* Waits for the verified L2 receipt of a deposit. */
static enum loam_status arrived(struct chain *light, struct chain_receipt *rec, const struct hash32 *l2_tx, struct job *j, struct err *err) {
    enum loam_status s;
    while ((s = chain_receipt(light, rec, l2_tx, err)) == LOAM_ENOTFOUND)
        if ((s = j ? job_sleep_ms(j, LOOK_MS, err) : (uv_sleep(LOOK_MS), LOAM_OK)))
            return s;
    return s;
}

/* ---- force ---- */

enum loam_status bridge_force_plan(struct node *n, json_t **plan, const char *key, struct job *j, struct err *err) {
    struct anchor_service *l1;
    struct anchor_parts p;
    json_t *e = NULL;
    char hex[ADDR_HEX_MAX];
    enum loam_status s = outbox_stuck(n, &e, key, err);
    if (!s)
        s = parts_of(n, &l1, &p, j, err);
    if (!s && !json_is_string(json_object_get(e, "to")))
        s = err_set(err, LOAM_EUNSUPPORTED, "%s creates a contract: a deposit would create it at another address", text_of(e, "key"));
    if (!s && !(*plan = json_pack("{s:s s:s s:s s:s s:s s:s s:s s:I s:I s:s s:I}", "key", text_of(e, "key"), "address", text_of(e, "address"), "what", text_of(e, "what"), "from", text_of(e, "from"),
                                  "to", text_of(e, "to"), "value_wei", text_of(e, "value"), "data", text_of(e, "data"), "gas",
                                  json_integer_value(json_object_get(e, "gas")), "nonce", json_integer_value(json_object_get(e, "nonce")), "portal", addr_hex(hex, &p.portal), "l1",
                                  (json_int_t)chain_network(anchor_service_l1(l1)))))
        s = err_set(err, LOAM_ENOMEM, "no memory");
    json_decref(e);
    return s;
}

/* The stuck transaction must not count besides the deposit that does the same. A deposit has no nonce of its own: it takes its sender's next. So
 * an empty one goes first and uses up the stuck transaction's nonce; its receipt says which nonce it found, and that is proof: the same, and the
 * stuck one can never be mined; the next, and the sequencer included it before. *dead: the first. */
static enum loam_status use_up(struct node *n, struct chain *l1, struct chain *light, const struct addr20 *portal, const json_t *plan, bool *dead,
                               struct job *j, struct err *err) {
    struct addr20 own;
    struct hash32 l2_tx;
    struct outbox_result r = {0};
    struct chain_receipt rec;
    struct buf call = BUF_INIT(4096);
    char key[OUTBOX_KEY_MAX + 32];
    uint64_t nonce = (uint64_t)json_integer_value(json_object_get(plan, "nonce"));
    enum loam_status s = addr_parse(&own, text_of(plan, "address"), err);
    if (!s)
        s = l1_force_call(&call, &own, U256_ZERO, EMPTY_GAS, (const uint8_t *)"", 0, err);
    if (!s && snprintf(key, sizeof key, "force/%s/nonce", text_of(plan, "key")) > OUTBOX_KEY_MAX)
        s = err_set(err, LOAM_ELIMIT, "the key is too long");
    struct outbox_tx tx = {.from = text_of(plan, "from"), .to = portal, .data = call.data, .len = call.len, .l1 = true, .what = "an empty deposit that uses up the nonce"};
    if (!s)
        s = deposit(n, l1, portal, key, &tx, &r, &l2_tx, j, err);
    outbox_result_clear(&r);
    buf_clear(&call);
    if (!s)
        s = arrived(light, &rec, &l2_tx, j, err);
    if (s)
        return s;
    if (!rec.has_sender_nonce)
        s = err_set(err, LOAM_EUNSUPPORTED, "receipts of this chain's fork (before Canyon) do not say which nonce a deposit used");
    else if (rec.sender_nonce < nonce)
        s = err_set(err, LOAM_ESTATE, "the deposit used nonce %llu of %s, and this transaction has %llu: others, which this node did not send, come before it",
                    (unsigned long long)rec.sender_nonce, text_of(plan, "address"), (unsigned long long)nonce);
    else
        *dead = rec.sender_nonce == nonce;
    chain_receipt_clear(&rec);
    return s;
}

enum loam_status bridge_force(struct node *n, json_t **out, const json_t *plan, struct job *j, struct err *err) {
    struct anchor_service *l1;
    struct anchor_parts p;
    struct chain *light;
    struct addr20 to, own;
    struct u256 value;
    struct hash32 l2_tx = {{0}};
    struct outbox_result r = {0}, r2 = {0};
    struct chain_receipt rec;
    struct buf data = BUF_INIT(DEPOSIT_DATA_MAX), call = BUF_INIT(DEPOSIT_DATA_MAX + 1024);
    const char *key = text_of(plan, "key"), *hex = text_of(plan, "data");
    char okey[OUTBOX_KEY_MAX + 16], h1[HASH_HEX_MAX], h2[HASH_HEX_MAX];
    bool dead = false;
    enum loam_status s = parts_of(n, &l1, &p, j, err);
    if (!s)
        s = node_chain_ready(n, &light, j, err);
    if (!s)
        s = addr_parse(&to, text_of(plan, "to"), err);
    if (!s)
        s = addr_parse(&own, text_of(plan, "address"), err);
    if (!s)
        s = u256_parse(&value, text_of(plan, "value_wei"), err);
    if (!s)
        s = hex_decode_buf(&data, hex, strlen(hex), err);
    if (!s) {
        uint64_t gas = (uint64_t)json_integer_value(json_object_get(plan, "gas")), least = 21000 + 40 * data.len;
        /* The sender pays value from what it has on the L2: nothing is minted. */
        s = l1_force_call(&call, &to, value, gas > least ? gas : least, data.len ? data.data : (const uint8_t *)"", data.len, err);
    }
    if (!s && snprintf(okey, sizeof okey, "force/%s", key) > OUTBOX_KEY_MAX)
        s = err_set(err, LOAM_ELIMIT, "the key is too long");
    if (!s)
        s = use_up(n, anchor_service_l1(l1), light, &p.portal, plan, &dead, j, err);
    struct outbox_tx tx = {.from = text_of(plan, "from"), .to = &p.portal, .data = call.data, .len = call.len, .l1 = true, .what = "a forced transaction"};
    if (!s && dead) {
        s = deposit(n, anchor_service_l1(l1), &p.portal, okey, &tx, &r, &l2_tx, j, err);
        if (!s)
            s = outbox_forced(n, key, &l2_tx, err);
        if (!s && !(s = arrived(light, &rec, &l2_tx, j, err))) {
            /* It took a nonce as well, perhaps that of another transaction that is out. */
            s = rec.has_sender_nonce ? outbox_used(n, &own, rec.sender_nonce, key, err) : LOAM_OK;
            chain_receipt_clear(&rec);
        }
    }
    if (!s)
        s = outbox_wait(n, &r2, key, j, err);
    if (!s && !(*out = json_pack("{s:s s:s* s:I s:s s:s s:I s:b s:b}", "key", key, "l1_tx", dead ? hash_hex(h1, &r.tx) : NULL, "l1_block", (json_int_t)r.block,
                                 "l2_tx", hash_hex(h2, &r2.tx), "by", hash_eq(&r2.tx, &l2_tx) ? "the deposit" : "the sequencer after all", "l2_block",
                                 (json_int_t)r2.block, "forced", hash_eq(&r2.tx, &l2_tx), "ok", r2.ok)))
        s = err_set(err, LOAM_ENOMEM, "no memory");
    outbox_result_clear(&r);
    outbox_result_clear(&r2);
    buf_clear(&data);
    buf_clear(&call);
    return s;
}

/* ---- bridge ---- */

enum loam_status bridge_in(struct node *n, json_t **out, const struct bridge_in *q, struct job *j, struct err *err) {
    struct anchor_service *l1;
    struct anchor_parts p;
    struct chain *light;
    struct hash32 l2_tx;
    struct outbox_result r = {0};
    struct chain_receipt rec;
    struct account acc;
    struct buf call = BUF_INIT(4096);
    char key[OUTBOX_KEY_MAX + 16], h1[HASH_HEX_MAX], h2[HASH_HEX_MAX], token[ADDR_HEX_MAX], wei[U256_DEC_MAX], to[ADDR_HEX_MAX];
    enum loam_status s = parts_of(n, &l1, &p, j, err);
    if (!s)
        s = node_chain_ready(n, &light, j, err);
    if (s)
        return s;
    bool own = addr_is_zero(&p.gas_token);
    struct outbox_tx tx = {.from = q->from, .l1 = true};
    if (!own) { /* the portal takes the token from the sender */
        struct outbox_result a = {0};
        s = abi_call(&call, "approve(address,uint256)", ABI(abi_addr(&p.portal), abi_u256(q->wei)), err);
        tx.to = &p.gas_token;
        tx.data = call.data;
        tx.len = call.len;
        tx.what = "approval for the portal";
        snprintf(key, sizeof key, "%s/approve", q->key);
        if (!s)
            s = outbox_send(n, &a, key, &tx, j, err);
        outbox_result_clear(&a);
        buf_reset(&call);
    }
    if (!s)
        s = own ? abi_call(&call, "depositTransaction(address,uint256,uint64,bool,bytes)",
                           ABI(abi_addr(&q->to), abi_u256(q->wei), abi_u64(DEPOSIT_GAS), abi_bool(false), abi_bytes("", 0)), err)
                : abi_call(&call, "depositERC20Transaction(address,uint256,uint256,uint64,bool,bytes)",
                           ABI(abi_addr(&q->to), abi_u256(q->wei), abi_u256(q->wei), abi_u64(DEPOSIT_GAS), abi_bool(false), abi_bytes("", 0)), err);
    tx.to = &p.portal;
    tx.value = own ? q->wei : U256_ZERO;
    tx.data = call.data;
    tx.len = call.len;
    tx.what = "deposit to the L2";
    snprintf(key, sizeof key, "%s/deposit", q->key);
    if (!s)
        s = deposit(n, anchor_service_l1(l1), &p.portal, key, &tx, &r, &l2_tx, j, err);
    buf_clear(&call);
    /* No entry of ours on the L2: the deposit's receipt is looked for by its hash. */
    if (!s)
        s = arrived(light, &rec, &l2_tx, j, err);
    if (!s) {
        struct header h;
        bool ok = rec.ok;
        uint64_t block = rec.block;
        s = chain_header_by_hash(light, &h, &rec.block_hash, err);
        chain_receipt_clear(&rec);
        if (!s)
            s = chain_account(light, &acc, &q->to, NULL, err);
        if (!s) {
            u256_format(wei, acc.balance);
            *out = json_pack("{s:s s:I s:s s:I s:b s:s s:s s:s}", "l1_tx", hash_hex(h1, &r.tx), "l1_block", (json_int_t)r.block, "l2_tx",
                             hash_hex(h2, &l2_tx), "l2_block", (json_int_t)block, "ok", ok, "token", own ? "L1's coin" : addr_hex(token, &p.gas_token),
                             "to", addr_hex(to, &q->to), "balance_wei", wei);
            s = !*out ? err_set(err, LOAM_ENOMEM, "no memory") : ok ? LOAM_OK : err_set(err, LOAM_EREVERT, "the deposit reverted on the L2");
        }
    }
    outbox_result_clear(&r);
    return s;
}

/* ---- fund ---- */

enum loam_status bridge_fund_dev(struct node *n, json_t **out, const struct addr20 *to, struct u256 wei, struct job *j, struct err *err) {
    struct chain *light;
    struct account a;
    struct chain_head head;
    struct u256 sum;
    json_t *r = NULL;
    char hex[ADDR_HEX_MAX], text[U256_DEC_MAX];
    if (!node_chain_is_dev(n))
        return err_set(err, LOAM_EPERM, "only a development chain makes coins");
    enum loam_status s = node_chain_ready(n, &light, j, err);
    if (!s)
        s = chain_account(light, &a, to, NULL, err);
    if (!s && u256_add(&sum, a.balance, wei))
        s = err_set(err, LOAM_ERANGE, "the amount does not fit");
    json_t *p = s ? NULL : json_array();
    if (!s) {
        json_array_append_new(p, hj_new_bytes(to->b, 20));
        json_array_append_new(p, hj_new_u256(sum));
        s = rpc_call_wait(chain_endpoints(light), &r, "anvil_setBalance", p, NULL, err);
        json_decref(r);
        r = NULL;
    }
    if (!s) { /* in the state of the next block */
        s = rpc_call_wait(chain_endpoints(light), &r, "evm_mine", NULL, NULL, err);
        json_decref(r);
    }
    if (!s)
        s = chain_head(light, &head, err);
    for (int i = 0; !s && i < 100; i++) {
        if ((s = chain_sync(light, err)) || (s = chain_account(light, &a, to, NULL, err)) || u256_cmp(a.balance, sum) >= 0)
            break;
        uv_sleep(100);
    }
    if (!s && u256_cmp(a.balance, sum) < 0)
        s = err_set(err, LOAM_EVERIFY, "the chain took the coins and does not prove them");
    if (!s) {
        u256_format(text, a.balance);
        *out = json_pack("{s:s s:s s:s}", "address", addr_hex(hex, to), "balance_wei", text, "known", "proven");
    }
    return s;
}
