#include "flow/account.h"

#include "flow/chainio.h"
#include "node/chain.h"
#include "node/keys.h"

#include "base/banned.h"

#define STATEMENT_LIFE 86400 /* seconds: long enough for a slow chain, short enough that a lost statement dies */

static enum loam_status show(struct flow *f, json_t **out, const struct account_info *a, bool fresh, struct err *err) {
    char name[KEY_NAME_MAX] = "";
    enum loam_status s = keys_name(f->node, &a->signing, name, NULL);
    *out = json_pack("{s:I s:o? s:o s:o s:o s:b}", "account", (json_int_t)a->id, "key", s ? NULL : json_string(name), "signing",
                     json_addr(&a->signing), "payout", json_addr(&a->payout), "recovery", json_addr(&a->recovery), "new", fresh);
    return *out ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
}

enum loam_status flow_account_register(struct flow *f, json_t **out, const char *key, const struct addr20 *payout,
                                       const struct addr20 *recovery, const char *relay, struct err *err) {
    struct addr20 self;
    struct st_register r;
    struct sig65 sig;
    struct account_info info;
    struct outbox_result res = {0};
    struct abi_doc ev = {0};
    json_t *step = NULL;
    uint64_t id;
    char hex[ADDR_HEX_MAX], work[64] = "";
    enum loam_status s;
    *out = NULL;
    TRY(keys_address(f->node, key, &self, err));
    s = account_of_addr(f->node, &id, &self, err);
    if (s == LOAM_OK) {
        TRY(account_read(f->node, &info, id, err));
        s = show(f, out, &info, false, err);
        goto out;
    }
    if (s != LOAM_ENOTFOUND)
        goto out;
    TRY(flow_unlock(f, key, err));
    snprintf(work, sizeof work, "account/%s", addr_hex(hex, &self));
    TRY(flow_own(f, work, err));
    s = flow_step_get(f, "statement", &step, err);
    if (s == LOAM_ENOTFOUND) {
        memset(&r, 0, sizeof r);
        r.signing = self;
        r.payout = payout ? *payout : self;
        r.recovery = recovery ? *recovery : self;
        TRY(st_nonce(&r.nonce, err));
        TRY(st_expiry(f->node, STATEMENT_LIFE, &r.expiry, err));
        TRY(st_sign(f->node, &sig, NULL, key, "Accounts", ST_Register, &r, err));
        if (!(step = json_pack("{s:o* s:o*}", "statement", st_to_json(ST_Register, &r), "signature", json_sig(&sig)))) {
            s = err_set(err, LOAM_ENOMEM, "no memory");
            goto out;
        }
        TRY(flow_step_make(f, "statement", &step, err));
    } else if (s)
        goto out;
    TRY(st_from_json(&r, ST_Register, json_object_get(step, "statement"), err));
    TRY(jget_sig(&sig, step, "signature", err));
    struct abi_value items[ST_FIELDS_MAX];
    struct fcall c = {.step = "send", .from = relay ? relay : key, .contract = "Accounts", .sig = "register(%T,bytes)",
                      .ids = {ST_Register}, .id_count = 1, .what = "registration of an account"};
    TRY(fsend(f, &res, &c, ABI(st_abi(items, ST_Register, &r), abi_bytes(sig.b, 65)), err));
    TRY(fevent(f->node, &ev, &res, "Accounts", "Registered(uint64 indexed account, address indexed signing, address payout, address recovery)", err));
    TRY(abi_get_u64(&id, abi_field(&ev, "account"), err));
    info = (struct account_info){id, r.signing, r.payout, r.recovery};
    flow_note(f, "account %llu signs with key %s", (unsigned long long)id, key);
    s = show(f, out, &info, true, err);
out:
    if (s == LOAM_EREVERT && *work)
        flow_disown(f, work);
    abi_clear(&ev);
    outbox_result_clear(&res);
    json_decref(step);
    return s;
}

enum loam_status flow_account_show(struct flow *f, json_t **out, uint64_t account, struct err *err) {
    struct account_info a;
    struct u256 wei, escrow;
    uint64_t nonce;
    enum loam_status s;
    *out = NULL;
    TRY(account_read(f->node, &a, account, err));
    TRY(node_chain_balance(f->node, &wei, &nonce, &a.payout, err));
    TRY(fslot_u256(f->node, &escrow, "Ledger", slot_u64(slot_of(SLOT_LEDGER_ESCROW), account), err));
    TRY(show(f, out, &a, false, err));
    json_object_del(*out, "new");
    TRY(jset(*out, "balance_wei", json_u256(wei), err));
    TRY(jset(*out, "escrow_wei", json_u256(escrow), err));
out:
    if (s) {
        json_decref(*out);
        *out = NULL;
    }
    return s;
}
