/* chains/ID.json, as far as the light client reads it. */
#include "net/chain.h"

#include "base/mem.h"
#include "net/hexjson.h"

#include <string.h>

#include "base/banned.h"

static enum loam_status number(uint64_t *out, const json_t *o, const char *key, uint64_t fallback, struct err *err) {
    const json_t *v = json_object_get(o, key);
    *out = fallback;
    if (!v || json_is_null(v))
        return LOAM_OK;
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return err_set(err, LOAM_EPARSE, "chain config: %s must be a number, 0 or more", key);
    *out = (uint64_t)json_integer_value(v);
    return LOAM_OK;
}

enum loam_status chain_config_from_json(struct chain_config *c, const json_t *o, struct err *err) {
    enum loam_status s;
    uint64_t v;
    memset(c, 0, sizeof *c);
    if (!json_is_object(o))
        return err_set(err, LOAM_EPARSE, "chain config: not an object");
    const char *profile = "op";
    if (json_object_get(o, "profile") && !(profile = json_string_value(json_object_get(o, "profile"))))
        return err_set(err, LOAM_EPARSE, "chain config: profile must be a string");
    if (strcmp(profile, "op") && strcmp(profile, "anvil") && strcmp(profile, "l1"))
        return err_set(err, LOAM_EPARSE, "chain config: profile must be op, anvil or l1");
    struct header_rules *r = &c->rules;
    r->anvil = !strcmp(profile, "anvil");
    r->l1 = !strcmp(profile, "l1");
    if ((s = number(&c->chain_id, o, "chain_id", 0, err)) || (s = number(&r->elasticity, o, "elasticity", 6, err)) ||
        (s = number(&r->denominator, o, "denominator", 50, err)) || (s = number(&r->denominator_canyon, o, "denominator_canyon", 250, err)) ||
        (s = number(&r->block_time, o, "block_time", 0, err)) || (s = number(&c->poll_ms, o, "poll_ms", 0, err)) ||
        (s = number(&c->stale_s, o, "stale_s", 0, err)) || (s = number(&v, o, "agree", 1, err)))
        return s;
    if (!c->chain_id)
        return err_set(err, LOAM_EPARSE, "chain config: chain_id is missing");
    if (v > RPC_ENDPOINTS_MAX)
        return err_set(err, LOAM_ERANGE, "chain config: agree is at most %d", RPC_ENDPOINTS_MAX);
    c->agree_k = (unsigned)v;
    if (hj_has(o, "genesis")) {
        if ((s = hj_fixed(c->genesis.b, 32, o, "genesis", err)))
            return err_prefix(err, s, "chain config");
        c->has_genesis = true;
    }
    const json_t *a = json_object_get(o, "anchor");
    if (json_is_object(a)) {
        if ((s = number(&c->anchor_number, a, "number", 0, err)) || (s = hj_fixed(c->anchor_hash.b, 32, a, "hash", err)))
            return err_prefix(err, s, "chain config: anchor");
        c->has_anchor = true;
    }
    const char *start = json_string_value(json_object_get(o, "start"));
    if (start && strcmp(start, "head") && strcmp(start, "genesis"))
        return err_set(err, LOAM_EPARSE, "chain config: start must be head or genesis");
    c->from_head = start && !strcmp(start, "head");
    const json_t *f = json_object_get(o, "forks");
    r->forks = (struct fork_times){FORK_NEVER, FORK_NEVER, FORK_NEVER, FORK_NEVER, FORK_NEVER, FORK_NEVER, FORK_NEVER};
    if (!json_is_object(f)) {
        r->forks.canyon = FORK_UNKNOWN;
    } else if ((s = number(&r->forks.canyon, f, "canyon", FORK_NEVER, err)) || (s = number(&r->forks.ecotone, f, "ecotone", FORK_NEVER, err)) ||
               (s = number(&r->forks.fjord, f, "fjord", FORK_NEVER, err)) || (s = number(&r->forks.granite, f, "granite", FORK_NEVER, err)) ||
               (s = number(&r->forks.holocene, f, "holocene", FORK_NEVER, err)) ||
               (s = number(&r->forks.isthmus, f, "isthmus", FORK_NEVER, err)) || (s = number(&r->forks.jovian, f, "jovian", FORK_NEVER, err))) {
        return err_prefix(err, s, "chain config: forks");
    }
    const json_t *sg = json_object_get(o, "signers");
    for (size_t i = 0; i < json_array_size(sg) && i < CHAIN_SIGNERS_MAX; i++) {
        if ((s = hj_str_fixed(c->signers[i].b, 20, json_array_get(sg, i), "signers", err)))
            return err_prefix(err, s, "chain config");
        c->signer_count = i + 1;
    }
    const json_t *fd = json_object_get(o, "feed");
    for (size_t i = 0; i < (json_is_array(fd) ? json_array_size(fd) : json_is_string(fd)); i++) {
        const char *feed = json_string_value(json_is_array(fd) ? json_array_get(fd, i) : fd);
        struct url u;
        if (!feed || i == CHAIN_FEEDS_MAX)
            s = err_set(err, LOAM_EPARSE, "chain config: feed is an address, or a list of at most %d", CHAIN_FEEDS_MAX);
        else if ((s = url_parse(&u, feed, err)))
            s = err_prefix(err, s, "chain config: feed");
        else if (!(c->feeds[i] = mem_strdup(feed)))
            s = err_set(err, LOAM_ENOMEM, "chain config");
        else
            c->feed_count = i + 1;
        if (s) {
            chain_config_clear(c);
            return s;
        }
    }
    const json_t *list = json_object_get(o, "contracts"), *k;
    const char *name;
    struct chain_code *codes = mem_zarray(json_object_size(list) + 1, sizeof *codes);
    if (!codes) {
        chain_config_clear(c);
        return err_set(err, LOAM_ENOMEM, "chain config");
    }
    c->codes = codes;
    void *it = json_object_iter((json_t *)(uintptr_t)list);
    for (; it && !s; it = json_object_iter_next((json_t *)(uintptr_t)list, it)) {
        name = json_object_iter_key(it);
        k = json_object_iter_value(it);
        if (!hj_has(k, "code_hash"))
            continue;
        struct chain_code *d = &codes[c->code_count];
        if ((s = hj_fixed(d->addr.b, 20, k, "address", err)) || (s = hj_fixed(d->code_hash.b, 32, k, "code_hash", err)))
            s = err_prefix(err, s, "chain config: contract %s", name);
        else if (!(d->name = mem_strdup(name)))
            s = err_set(err, LOAM_ENOMEM, "chain config");
        else
            c->code_count++;
    }
    if (s)
        chain_config_clear(c);
    return s;
}

void chain_config_clear(struct chain_config *c) {
    for (size_t i = 0; i < c->code_count; i++) {
        union {
            const char *in;
            void *out;
        } u = {.in = c->codes[i].name};
        mem_free(u.out);
    }
    union {
        const struct chain_code *in;
        void *out;
    } u = {.in = c->codes};
    mem_free(u.out);
    for (size_t i = 0; i < c->feed_count; i++) {
        union {
            const char *in;
            void *out;
        } f = {.in = c->feeds[i]};
        mem_free(f.out);
        c->feeds[i] = NULL;
    }
    c->feed_count = 0;
    c->codes = NULL;
    c->code_count = 0;
}
