#include "flow/datanet.h"

#include "flow/chainio.h"
#include "flow/contribute.h"
#include "net/chain.h"
#include "net/receipt.h"
#include "node/chain.h"
#include "node/topic.h"

#include <stdio.h>

#include "base/banned.h"

#define STATEMENT_LIFE 86400
#define CONTRIBUTORS_TOLD 64 /* accounts of a datanet that the console is told of */
#define EV_CREATED "DatanetCreated(uint64 indexed datanet, uint64 indexed owner, string name, string licence, bytes32 termsHash)"

static json_t *text_of(const struct abi_value *v) {
    const uint8_t *p;
    size_t n;
    if (!v || abi_get_bytes(&p, &n, v, NULL))
        return NULL;
    return json_stringn((const char *)p, n); /* NULL where it is no UTF-8: the chain does not check */
}

static enum loam_status created(void *arg, const struct log *l, struct err *err) {
    json_t *list = arg;
    struct abi_doc ev = {0};
    struct hash32 terms;
    uint64_t id, owner;
    enum loam_status s;
    TRY(abi_event(&ev, EV_CREATED, l->topics, l->topic_count, l->data, l->data_len, err));
    TRY(abi_get_u64(&id, abi_field(&ev, "datanet"), err));
    TRY(abi_get_u64(&owner, abi_field(&ev, "owner"), err));
    TRY(abi_get_b32(&terms, abi_field(&ev, "termsHash"), err));
    json_t *name = text_of(abi_field(&ev, "name")), *licence = text_of(abi_field(&ev, "licence"));
    json_t *o = json_pack("{s:I s:I s:o s:o s:o s:I s:I}", "datanet", (json_int_t)id, "owner", (json_int_t)owner, "name",
                          name ? name : json_string("(not UTF-8)"), "licence", licence ? licence : json_string("(not UTF-8)"), "terms_hash",
                          json_hash(&terms), "contributions", (json_int_t)0, "rows", (json_int_t)0);
    if (!o || json_array_append_new(list, o))
        s = err_set(err, LOAM_ENOMEM, "no memory");
out:
    abi_clear(&ev);
    return s;
}

enum loam_status flow_datanet_list(struct flow *f, json_t **out, struct err *err) {
    struct addr20 a;
    struct hash32 topic;
    uint64_t head;
    json_t *list = json_array(), *contributions = NULL, *v, *c, *topics = NULL;
    size_t i, k;
    enum loam_status s = LOAM_OK;
    *out = NULL;
    if (!list)
        return err_set(err, LOAM_ENOMEM, "no memory");
    TRY(node_chain_contract(f->node, "Datanets", &a, err));
    TRY(abi_hash(&topic, EV_CREATED, err));
    TRY(fhead(f->node, &head, NULL, err));
    struct chain_filter flt = {&a, 1, &topic, 1};
    TRY(chain_logs(node_chain_light(f->node), fdeploy_block(f->node), head, &flt, created, list, err));
    TRY(contribution_list(f, &contributions, 0, err));
    if (!(topics = json_array())) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    json_array_foreach(list, i, v) {
        json_int_t rows = 0, count = 0, id = json_integer_value(json_object_get(v, "datanet"));
        json_t *by = json_object();
        json_array_foreach(contributions, k, c) {
            if (json_integer_value(json_object_get(c, "datanet")) != id)
                continue;
            count++;
            rows += json_integer_value(json_object_get(c, "rows"));
            char account[24];
            snprintf(account, sizeof account, "%lld", (long long)json_integer_value(json_object_get(c, "account")));
            if (json_object_size(by) < CONTRIBUTORS_TOLD || json_object_get(by, account))
                json_object_set_new(by, account,
                                    json_integer(json_integer_value(json_object_get(by, account)) + json_integer_value(json_object_get(c, "rows"))));
        }
        if ((s = jset(v, "contributions", json_integer(count), err)) || (s = jset(v, "rows", json_integer(rows), err)) ||
            (s = record_put_u64(f->node, TABLE_DATANET, (uint64_t)id, v, err))) {
            json_decref(by);
            goto out;
        }
        json_t *t = json_copy(v);
        if (t && !json_object_set(t, "id", json_object_get(v, "datanet"))) {
            json_object_del(t, "datanet");
            json_object_set(t, "by", by);
        }
        json_decref(by);
        if (!t || json_array_append_new(topics, t)) {
            s = err_set(err, LOAM_ENOMEM, "no memory");
            goto out;
        }
    }
    topic_set(f->node, "datanets", json_pack("{s:O}", "list", topics));
    *out = json_incref(list);
out:
    json_decref(topics);
    json_decref(contributions);
    json_decref(list);
    return s;
}

static json_t *find(json_t *list, uint64_t id) {
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v)
        if ((uint64_t)json_integer_value(json_object_get(v, "datanet")) == id)
            return v;
    return NULL;
}

enum loam_status flow_datanet_show(struct flow *f, json_t **out, uint64_t datanet, struct err *err) {
    json_t *list = NULL, *mine = NULL, *v;
    enum loam_status s;
    *out = NULL;
    TRY(flow_datanet_list(f, &list, err));
    if (!(v = find(list, datanet))) {
        s = err_set(err, LOAM_ENOTFOUND, "no datanet %llu on this chain", (unsigned long long)datanet);
        goto out;
    }
    TRY(contribution_list(f, &mine, datanet, err));
    for (size_t i = 0; i < json_array_size(mine); i++) { /* what only proofs need is left out */
        static const char *const drop[] = {"statement", "signature", "salt", "data_locator", "datanet", "tx"};
        for (size_t k = 0; k < sizeof drop / sizeof *drop; k++)
            json_object_del(json_array_get(mine, i), drop[k]);
    }
    TRY(jset(v, "list", json_incref(mine), err));
    *out = json_incref(v);
out:
    json_decref(mine);
    json_decref(list);
    return s;
}

enum loam_status flow_datanet_create(struct flow *f, json_t **out, const char *key, const char *name, const char *licence,
                                     const char *terms, const char *relay, struct err *err) {
    struct st_datanet d;
    struct sig65 sig;
    struct outbox_result res = {0};
    struct abi_doc ev = {0};
    json_t *list = NULL, *step = NULL, *v;
    uint64_t owner, id;
    struct hash32 h;
    char hex[HASH_HEX_MAX], work[128] = "";
    size_t i;
    enum loam_status s;
    *out = NULL;
    TRY(account_of_key(f->node, &owner, key, err));
    if (!*name || strlen(name) > 64 || strlen(licence) > 64) {
        s = err_set(err, LOAM_EINVAL, "a datanet's name takes 1 to 64 bytes, its licence at most 64");
        goto out;
    }
    TRY(flow_datanet_list(f, &list, err));
    json_array_foreach(list, i, v) {
        const char *have = json_string_value(json_object_get(v, "name"));
        if ((uint64_t)json_integer_value(json_object_get(v, "owner")) == owner && have && !strcmp(have, name)) {
            TRY(jset(v, "new", json_false(), err));
            *out = json_incref(v);
            goto out;
        }
    }
    TRY(flow_unlock(f, key, err));
    h = hash_of(name, strlen(name));
    snprintf(work, sizeof work, "datanet/%llu/%s", (unsigned long long)owner, hash_hex(hex, &h));
    TRY(flow_own(f, work, err));
    s = flow_step_get(f, "statement", &step, err);
    if (s == LOAM_ENOTFOUND) {
        memset(&d, 0, sizeof d);
        d.owner = owner;
        d.name = name;
        d.licence = licence;
        if (terms)
            d.terms_hash = hash_of(terms, strlen(terms));
        TRY(st_nonce(&d.nonce, err));
        TRY(st_expiry(f->node, STATEMENT_LIFE, &d.expiry, err));
        TRY(st_sign(f->node, &sig, NULL, key, "Datanets", ST_Datanet, &d, err));
        if (!(step = json_pack("{s:o* s:o*}", "statement", st_to_json(ST_Datanet, &d), "signature", json_sig(&sig)))) {
            s = err_set(err, LOAM_ENOMEM, "no memory");
            goto out;
        }
        TRY(flow_step_make(f, "statement", &step, err));
    } else if (s)
        goto out;
    TRY(st_from_json(&d, ST_Datanet, json_object_get(step, "statement"), err));
    TRY(jget_sig(&sig, step, "signature", err));
    struct abi_value items[ST_FIELDS_MAX];
    struct fcall c = {.step = "send", .from = relay ? relay : key, .contract = "Datanets", .sig = "create(%T,bytes)",
                      .ids = {ST_Datanet}, .id_count = 1, .what = "creation of a datanet"};
    TRY(fsend(f, &res, &c, ABI(st_abi(items, ST_Datanet, &d), abi_bytes(sig.b, 65)), err));
    TRY(fevent(f->node, &ev, &res, "Datanets", EV_CREATED, err));
    TRY(abi_get_u64(&id, abi_field(&ev, "datanet"), err));
    *out = json_pack("{s:I s:I s:s s:s s:o s:b}", "datanet", (json_int_t)id, "owner", (json_int_t)owner, "name", d.name, "licence",
                     d.licence, "terms_hash", json_hash(&d.terms_hash), "new", 1);
    if (!*out)
        s = err_set(err, LOAM_ENOMEM, "no memory");
    if (!s) {
        json_t *again = NULL;
        if (!flow_datanet_list(f, &again, NULL)) /* only to refresh what consoles show */
            json_decref(again);
    }
out:
    if (s == LOAM_EREVERT && *work)
        flow_disown(f, work);
    abi_clear(&ev);
    outbox_result_clear(&res);
    json_decref(step);
    json_decref(list);
    return s;
}
