#include "net/anchor.h"

#include "base/clock.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/abi.h"
#include "net/chain_int.h"
#include "net/hexjson.h"

#include <string.h>

#include "base/banned.h"

static struct hash32 slot_n(uint64_t n) {
    struct hash32 h = {{0}};
    put_be64(h.b + 24, n);
    return h;
}
/* keccak(name) - minus: how the contracts name their unstructured slots. */
static struct hash32 named(const char *name, uint64_t minus) {
    struct hash32 h;
    struct u256 v;
    keccak256(h.b, name, strlen(name));
    u256_sub(&v, u256_from_be(h.b), u256_from(minus));
    u256_to_be(h.b, v);
    return h;
}
static struct hash32 plus(struct hash32 h, uint64_t n) {
    struct u256 v;
    u256_add(&v, u256_from_be(h.b), u256_from(n));
    u256_to_be(h.b, v);
    return h;
}
static void addr_of(struct addr20 *out, struct u256 v) {
    uint8_t b[32];
    u256_to_be(b, v);
    memcpy(out->b, b + 12, 20);
}

enum loam_status anchor_discover(struct anchor_parts *out, struct chain *l1, const struct addr20 *sc, const struct header *at, struct err *err) {
    struct hash32 slots[7] = {named("systemconfig.unsafeblocksigner", 0),
                              named("systemconfig.optimismportal", 1),
                              named("systemconfig.disputegamefactory", 1),
                              named("systemconfig.batchinbox", 1),
                              slot_n(SLOT_SYSTEM_BATCHER),
                              slot_n(SLOT_SYSTEM_GAS_LIMIT),
                              named("opstack.gaspayingtoken", 1)};
    struct u256 v[7];
    memset(out, 0, sizeof *out);
    enum loam_status s = chain_slots(l1, v, sc, slots, 7, at, err);
    if (s)
        return s;
    if (u256_is_zero(v[0]))
        return err_set(err, LOAM_ENOTFOUND, "there is no SystemConfig at this address");
    addr_of(&out->signer, v[0]);
    addr_of(&out->portal, v[1]);
    addr_of(&out->factory, v[2]);
    addr_of(&out->inbox, v[3]);
    addr_of(&out->batcher, v[4]);
    out->gas_limit = v[5].w[0];
    addr_of(&out->gas_token, v[6]); /* decimals | token */
    static const struct addr20 ether = {{0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee}};
    if (addr_eq(&out->gas_token, &ether)) /* how the contracts write "L1's coin" */
        memset(&out->gas_token, 0, sizeof out->gas_token);
    return LOAM_OK;
}

enum loam_status anchor_oracle(struct anchor_output *out, struct chain *l1, const struct addr20 *oracle, uint64_t index, uint64_t final_s,
                               const struct header *at, struct err *err) {
    struct header tmp;
    const struct header *h;
    struct hash32 len = slot_n(SLOT_ORACLE_OUTPUTS), el[2];
    struct u256 n, v[2];
    uint8_t w[32];
    enum loam_status s;
    memset(out, 0, sizeof *out);
    if ((s = chain_at(l1, &h, &tmp, at, err)) || (s = chain_slots(l1, &n, oracle, &len, 1, h, err)))
        return s;
    if (u256_is_zero(n) || !u256_fits_u64(n))
        return err_set(err, LOAM_ENOTFOUND, "the oracle has no outputs");
    if (index == UINT64_MAX)
        index = n.w[0] - 1;
    if (index >= n.w[0])
        return err_set(err, LOAM_ENOTFOUND, "the oracle has %llu outputs", (unsigned long long)n.w[0]);
    chain_slot_array(&el[0], SLOT_ORACLE_OUTPUTS, 2 * index);
    el[1] = plus(el[0], 1);
    if ((s = chain_slots(l1, v, oracle, el, 2, h, err)))
        return s;
    u256_to_be(out->root.b, v[0]);
    u256_to_be(w, v[1]); /* l2BlockNumber (u128) | timestamp (u128) */
    out->number = be64(w + 8);
    out->timestamp = be64(w + 24);
    out->resolved = h->timestamp > out->timestamp + final_s;
    return LOAM_OK;
}

static void game_id(struct anchor_game *out, struct u256 v) {
    uint8_t w[32];
    u256_to_be(w, v);
    out->type = be32(w);
    out->created = be64(w + 4);
    memcpy(out->proxy.b, w + 12, 20);
}

static enum loam_status game_status(struct anchor_game *out, struct chain *l1, const struct header *h, struct err *err) {
    struct hash32 slot = slot_n(SLOT_GAME_STATUS);
    struct u256 v;
    uint8_t w[32];
    enum loam_status s = chain_slots(l1, &v, &out->proxy, &slot, 1, h, err);
    if (s)
        return s;
    u256_to_be(w, v);
    out->resolved_at = be64(w + 16);
    out->status = w[15];
    if (out->status > 2)
        return err_set(err, LOAM_EUNSUPPORTED, "dispute game: status %u", out->status);
    return LOAM_OK;
}

enum loam_status anchor_game(struct anchor_game *out, struct chain *l1, const struct addr20 *factory, uint32_t type, const struct hash32 *root,
                             uint64_t l2_number, const struct header *at, struct err *err) {
    struct header tmp;
    const struct header *h;
    struct buf b = BUF_INIT(512);
    struct hash32 uuid, slot, base = slot_n(SLOT_FACTORY_BY_UUID);
    uint8_t extra[32] = {0};
    struct u256 v;
    enum loam_status s;
    memset(out, 0, sizeof *out);
    put_be64(extra + 24, l2_number);
    if ((s = chain_at(l1, &h, &tmp, at, err)))
        return s;
    if (!(s = abi_encode(&b, ABI(abi_u64(type), abi_b32(root), abi_bytes(extra, 32)), err)))
        keccak256(uuid.b, b.data, b.len);
    buf_clear(&b);
    if (s)
        return s;
    chain_slot_map(&slot, uuid.b, &base);
    if ((s = chain_slots(l1, &v, factory, &slot, 1, h, err)))
        return s;
    if (u256_is_zero(v))
        return err_set(err, LOAM_ENOTFOUND, "no dispute game makes this claim for block %llu", (unsigned long long)l2_number);
    game_id(out, v);
    if (out->type != type)
        return err_set(err, LOAM_EANCHOR, "the factory's entry is of game type %u", out->type);
    return game_status(out, l1, h, err);
}

enum loam_status anchor_games(uint64_t *count, struct chain *l1, const struct addr20 *factory, const struct header *at, struct err *err) {
    struct hash32 slot = slot_n(SLOT_FACTORY_LIST);
    struct u256 v;
    enum loam_status s = chain_slots(l1, &v, factory, &slot, 1, at, err);
    if (!s && !u256_fits_u64(v))
        s = err_set(err, LOAM_EUNSUPPORTED, "the factory's layout is unknown");
    if (!s)
        *count = v.w[0];
    return s;
}

enum loam_status anchor_game_at(struct anchor_game *out, struct chain *l1, const struct addr20 *factory, uint64_t index, const struct header *at,
                                struct err *err) {
    struct header tmp;
    const struct header *h;
    struct hash32 slot;
    struct u256 v;
    enum loam_status s;
    memset(out, 0, sizeof *out);
    chain_slot_array(&slot, SLOT_FACTORY_LIST, index);
    if ((s = chain_at(l1, &h, &tmp, at, err)) || (s = chain_slots(l1, &v, factory, &slot, 1, h, err)))
        return s;
    if (u256_is_zero(v))
        return err_set(err, LOAM_ENOTFOUND, "there is no game %llu", (unsigned long long)index);
    game_id(out, v);
    return game_status(out, l1, h, err);
}

enum loam_status anchor_registry(struct anchor_output *out, struct addr20 *game, struct chain *l1, const struct addr20 *registry, uint32_t type,
                                 bool new_layout, const struct header *at, struct err *err) {
    struct hash32 slots[3];
    struct u256 v[3];
    enum loam_status s;
    memset(out, 0, sizeof *out);
    memset(game, 0, sizeof *game);
    if (new_layout) {
        slots[0] = slot_n(SLOT_REGISTRY_GAME);
        slots[1] = slot_n(SLOT_REGISTRY_START);
        slots[2] = slot_n(SLOT_REGISTRY_START + 1);
    } else {
        chain_slot_map_u64(&slots[1], type, SLOT_REGISTRY_ANCHORS);
        slots[2] = plus(slots[1], 1);
        slots[0] = slots[1];
    }
    if ((s = chain_slots(l1, v, registry, slots, 3, at, err)))
        return s;
    if (new_layout && !u256_is_zero(v[0])) {
        addr_of(game, v[0]);
        return LOAM_OK;
    }
    if (u256_is_zero(v[1]))
        return err_set(err, LOAM_ENOTFOUND, "the registry has no anchor");
    u256_to_be(out->root.b, v[1]);
    out->number = v[2].w[0];
    out->resolved = true;
    return LOAM_OK;
}

/* ---- L2 ---- */

enum loam_status anchor_output_root(struct hash32 *out, struct chain *l2, const struct header *h, struct err *err) {
    struct account a;
    if (h->fields >= 21 && !l2->cfg.rules.anvil) {
        header_output_root(out, h, &h->withdrawals_root);
        return LOAM_OK;
    }
    enum loam_status s = chain_account(l2, &a, &l1_passer_predeploy, h, err);
    if (!s)
        header_output_root(out, h, &a.storage_root);
    return s;
}

enum loam_status anchor_mark(struct chain *l2, uint64_t number, const struct hash32 *root, bool resolved, struct err *err) {
    struct header h;
    struct hash32 ours;
    enum loam_status s;
    if ((s = chain_header(l2, &h, number, err)) || (s = anchor_output_root(&ours, l2, &h, err)))
        return s;
    if (!hash_eq(&ours, root)) {
        char a[HASH_HEX_MAX], b[HASH_HEX_MAX];
        return err_set(err, LOAM_EANCHOR, "block %llu: its output root is %s, on L1 stands %s", (unsigned long long)number, hash_hex(a, &ours),
                       hash_hex(b, root));
    }
    uv_mutex_lock(&l2->lock);
    uint64_t *to = resolved ? &l2->resolved_to : &l2->proposed_to;
    bool news = number > *to;
    if (news)
        *to = number;
    uv_mutex_unlock(&l2->lock);
    if (news) {
        chain_keep_known(l2);
        chain_publish_tip(l2);
    }
    return LOAM_OK;
}

/* l2BlockNumber() of a game: the RPC's word, used only to know which claim to prove. */
static enum loam_status game_number(uint64_t *out, struct chain *l1, const struct addr20 *proxy, struct err *err) {
    static const uint8_t sel[4] = {0x8b, 0x85, 0x90, 0x2b};
    struct buf b = BUF_INIT(1024);
    struct abi_doc d;
    enum loam_status s = chain_call(l1, &b, NULL, proxy, sel, 4, U256_ZERO, err);
    if (!s && !(s = abi_decode(&d, "(uint256)", b.data ? b.data : (const uint8_t *)"", b.len, err))) {
        s = abi_get_u64(out, &d.item[0], err);
        abi_clear(&d);
    }
    buf_clear(&b);
    return s;
}

enum loam_status anchor_claim(struct hash32 *root, uint64_t *number, struct chain *l1, const struct addr20 *proxy, const struct header *at,
                              struct err *err) {
    struct buf b = BUF_INIT(128u << 10);
    enum loam_status s = chain_code(l1, &b, proxy, at, err);
    size_t n = b.len, args = !s && n > 2 ? (size_t)b.data[n - 2] << 8 | b.data[n - 1] : 0;
    if (!s && (args < 2 + 20 + 32 + 32 + 32 || args > n))
        s = err_set(err, LOAM_EUNSUPPORTED, "the game's code holds no claim in the known form");
    if (!s) {
        const uint8_t *p = b.data + n - args;
        struct u256 v = u256_from_be(p + 84);
        memcpy(root->b, p + 20, 32);
        if (u256_fits_u64(v))
            *number = v.w[0];
        else
            s = err_set(err, LOAM_EUNSUPPORTED, "the game's claim is not about one block");
    }
    buf_clear(&b);
    return s;
}

/* What the registry says of games: those of another type, created too early, or blacklisted, do not count. */
struct registry {
    bool there, is_new;
    uint32_t respected;
    uint64_t retired;
    struct anchor_output anchor; /* number 0: none */
    struct addr20 game;          /* the anchor game, where it is one */
};

static enum loam_status registry_read(struct registry *out, struct chain *l1, const struct anchor_config *cfg, uint32_t type, const struct header *at,
                                      struct err *err) {
    struct hash32 slots[2];
    struct u256 v[2];
    uint8_t w[32];
    memset(out, 0, sizeof *out);
    if (!cfg->has_registry)
        return LOAM_OK;
    out->there = true;
    /* Old layout: slot 1 maps game types to anchors. New: slot 6 holds the respected type and the retirement time. */
    chain_slot_map_u64(&slots[0], type, SLOT_REGISTRY_ANCHORS);
    slots[1] = slot_n(SLOT_REGISTRY_RESPECTED);
    enum loam_status s = chain_slots(l1, v, &cfg->registry, slots, 2, at, err);
    if (s)
        return s;
    out->is_new = u256_is_zero(v[0]);
    if (out->is_new) {
        u256_to_be(w, v[1]);
        out->respected = be32(w + 28);
        out->retired = be64(w + 20);
    }
    s = anchor_registry(&out->anchor, &out->game, l1, &cfg->registry, type, out->is_new, at, err);
    return s == LOAM_ENOTFOUND ? LOAM_OK : s;
}

static enum loam_status game_counts(bool *yes, const struct registry *r, struct chain *l1, const struct anchor_config *cfg, const struct anchor_game *g,
                                    const struct header *at, struct err *err) {
    struct hash32 slot;
    struct u256 v;
    *yes = true;
    if (!r->there || !r->is_new)
        return LOAM_OK;
    chain_slot_map_addr(&slot, &g->proxy, SLOT_REGISTRY_BLACKLIST);
    enum loam_status s = chain_slots(l1, &v, &cfg->registry, &slot, 1, at, err);
    *yes = !s && u256_is_zero(v) && g->created > r->retired;
    return s;
}

/* The registry's anchor against our block of that number: as good as a resolved game. */
static enum loam_status registry_mark(struct anchor_output *o, struct registry *r, struct chain *l2, struct chain *l1, const struct header *at, struct err *err) {
    struct header h;
    enum loam_status s = LOAM_OK;
    if (!addr_is_zero(&r->game)) {
        if ((s = anchor_claim(&r->anchor.root, &r->anchor.number, l1, &r->game, at, err)))
            return s == LOAM_EUNSUPPORTED ? LOAM_OK : s;
        r->anchor.resolved = true;
    }
    if (!r->anchor.number || chain_header(l2, &h, r->anchor.number, NULL))
        return LOAM_OK;
    if (!(s = anchor_mark(l2, r->anchor.number, &r->anchor.root, true, err)) && r->anchor.number > o->number)
        *o = r->anchor;
    return s;
}

enum loam_status anchor_round(struct anchor_output *out, struct chain *l2, struct chain *l1, const struct anchor_config *cfg, struct err *err) {
    struct anchor_output o;
    struct anchor_parts parts;
    struct addr20 factory = cfg->factory;
    struct header tmp, h;
    const struct header *at;
    enum loam_status s = chain_at(l1, &at, &tmp, NULL, err);
    if (s)
        return s;
    memset(&o, 0, sizeof o);
    if (cfg->has_oracle) {
        if ((s = anchor_oracle(&o, l1, &cfg->oracle, UINT64_MAX, cfg->final_s, at, err)) || (s = anchor_mark(l2, o.number, &o.root, o.resolved, err)))
            return s;
        if (out)
            *out = o;
        return LOAM_OK;
    }
    bool has_factory = cfg->has_factory;
    if (!has_factory && cfg->has_system_config) {
        if ((s = anchor_discover(&parts, l1, &cfg->system_config, at, err)))
            return s;
        factory = parts.factory;
        has_factory = !addr_is_zero(&factory);
    }
    if (!has_factory)
        return err_set(err, LOAM_EINVAL, "neither oracle nor dispute game factory is configured or found");
    uint64_t count, types = cfg->game_types ? cfg->game_types : 3, disputed = 0;
    struct registry reg;
    if ((s = anchor_games(&count, l1, &factory, at, err)) || (s = registry_read(&reg, l1, cfg, types & 1 ? 0 : 1, at, err)))
        return s;
    for (unsigned back = 0; back < (cfg->look_back ? cfg->look_back : 16) && back < count; back++) {
        struct anchor_game listed, proven;
        uint64_t number;
        struct hash32 root, claim;
        bool counts, told;
        if ((s = anchor_game_at(&listed, l1, &factory, count - 1 - back, at, err)))
            return s;
        if (listed.type > 31 || !(types >> listed.type & 1) || listed.status == 1)
            continue;
        if ((s = game_counts(&counts, &reg, l1, cfg, &listed, at, err)))
            return s;
        if (!counts)
            continue;
        s = anchor_claim(&claim, &number, l1, &listed.proxy, at, err);
        told = !s;
        if (s == LOAM_EUNSUPPORTED) /* another build of the contracts: its number by call, its root by the factory's mapping */
            s = game_number(&number, l1, &listed.proxy, err);
        if (s)
            return s;
        if (chain_header(l2, &h, number, NULL))
            continue; /* not a block of ours (yet) */
        if ((s = anchor_output_root(&root, l2, &h, err)))
            return s;
        bool resolved = listed.status == 2 && (!cfg->final_s || at->timestamp >= listed.resolved_at + cfg->final_s);
        s = told && !hash_eq(&claim, &root) ? LOAM_ENOTFOUND : anchor_game(&proven, l1, &factory, listed.type, &root, number, at, err);
        if (s == LOAM_ENOTFOUND || (!s && !addr_eq(&proven.proxy, &listed.proxy))) {
            if (resolved)
                return err_set(err, LOAM_EANCHOR, "block %llu: the game that L1 resolved claims another output root than ours", (unsigned long long)number);
            disputed = number;
            continue;
        }
        if (s || (s = anchor_mark(l2, number, &root, resolved, err)))
            return s;
        if (!o.number)
            o = (struct anchor_output){root, number, proven.created, resolved};
        if (resolved)
            break; /* older ones add nothing */
    }
    if (reg.there && (s = registry_mark(&o, &reg, l2, l1, at, err)))
        return s;
    if (!o.number && disputed)
        return err_set(err, LOAM_EANCHOR, "block %llu: the game on L1 claims another output root than ours", (unsigned long long)disputed);
    if (!o.number)
        return err_set(err, LOAM_ENOTFOUND, "no proposal on L1 concerns a block we hold");
    if (out)
        *out = o;
    return LOAM_OK;
}

enum loam_status anchor_origin(struct l1_attributes *out, struct chain *l2, const struct header *h, struct chain *l1, struct err *err) {
    struct chain_block b;
    struct header x;
    enum loam_status s = chain_block(l2, &b, h, err);
    if (s)
        return s;
    bool has = b.has_l1;
    *out = b.l1;
    chain_block_clear(&b);
    if (!has)
        return err_set(err, LOAM_EORIGIN, "block %llu does not begin with an attributes deposit", (unsigned long long)h->number);
    if ((s = chain_header(l1, &x, out->number, err)))
        return s;
    if (!hash_eq(&x.hash, &out->hash) || x.timestamp != out->timestamp)
        return err_set(err, LOAM_EORIGIN, "block %llu names an L1 block %llu that is not L1's", (unsigned long long)h->number,
                       (unsigned long long)out->number);
    if (x.timestamp > h->timestamp)
        return err_set(err, LOAM_EORIGIN, "block %llu is older than its L1 origin", (unsigned long long)h->number);
    return LOAM_OK;
}

enum loam_status anchor_l1_block(struct l1_attributes *out, struct chain *l2, enum l1_form form, const struct header *at, struct err *err) {
    struct hash32 slots[L1_BLOCK_SLOTS];
    struct u256 v[L1_BLOCK_SLOTS];
    for (uint64_t i = 0; i < L1_BLOCK_SLOTS; i++)
        slots[i] = slot_n(i);
    enum loam_status s = chain_slots(l2, v, &l1_block_predeploy, slots, L1_BLOCK_SLOTS, at, err);
    if (!s)
        l1_attributes_from_slots(out, v, form);
    return s;
}

enum loam_status anchor_data_fee(struct u256 *out, struct chain *l2, const void *raw, size_t n, uint64_t gas, struct err *err) {
    const struct fork_times *f = &l2->cfg.rules.forks;
    struct l1_attributes a;
    struct account acc;
    struct header tmp;
    const struct header *h;
    struct u256 fee, other, operator_fee;
    enum loam_status s;
    *out = U256_ZERO;
    if (l2->cfg.rules.anvil || l2->cfg.rules.l1)
        return LOAM_OK;
    if ((s = chain_at(l2, &h, &tmp, NULL, err)) || (s = chain_account(l2, &acc, &l1_block_predeploy, h, err)))
        return s;
    if (!acc.exists)
        return LOAM_OK;
    uint64_t t = h->timestamp;
    enum l1_form form;
    enum l1_fee_rule rule;
    bool unsure = false;
    if (f->canyon != FORK_UNKNOWN) {
        form = t >= f->jovian ? L1_JOVIAN : t >= f->isthmus ? L1_ISTHMUS : t >= f->ecotone ? L1_ECOTONE : L1_BEDROCK;
        rule = t >= f->fjord ? L1_FEE_FJORD : t >= f->ecotone ? L1_FEE_ECOTONE : L1_FEE_REGOLITH;
    } else {
        form = h->fields >= 21 ? (h->extra_len == 17 ? L1_JOVIAN : L1_ISTHMUS) : h->fields == 20 ? L1_ECOTONE : L1_BEDROCK;
        rule = h->fields >= 20 ? L1_FEE_FJORD : L1_FEE_REGOLITH;
        unsure = h->fields == 20 && h->extra_len == 0; /* Ecotone, or Fjord or Granite */
    }
    if ((s = anchor_l1_block(&a, l2, form, h, err)) || (s = l1_fee(&fee, &a, rule, raw, n, err)) || (s = l1_operator_fee(&operator_fee, &a, gas, err)))
        return s;
    if (unsure) {
        if ((s = l1_fee(&other, &a, L1_FEE_ECOTONE, raw, n, err)))
            return s;
        if (u256_cmp(other, fee) > 0)
            fee = other;
    }
    if (u256_add(out, fee, operator_fee))
        return err_set(err, LOAM_ERANGE, "L1 fee: overflow");
    return LOAM_OK;
}

/* ---- service ---- */

#define PERIOD_S 60

struct anchor_service {
    struct chain *l2, *l1;
    struct rpc *rpc;
    struct chain_store store;
    struct anchor_config cfg;
    struct chain_events ev;
    bool has_portal, origins;
    struct addr20 portal;
    uint64_t period_us, origin_next; /* L2 block whose origin is looked at next; 0: the head of the first round */
    bool take_signer, begun;
    uv_thread_t thread;
    uv_mutex_t lock; /* stop, state */
    uv_cond_t cond;
    bool running, stop;
    struct anchor_state st;
};

/* The blocks before the first agreed one, each the parent of the next: L2 origins lie there. */
static enum loam_status look_back(struct anchor_service *s, struct err *err) {
    struct header *h, tip;
    enum loam_status st = s->store.tip(s->store.ctx, &tip, err);
    uint64_t n = tip.number < ANCHOR_L1_BACK ? tip.number : ANCHOR_L1_BACK;
    if (st)
        return st;
    if (!(h = mem_array(n + 1, sizeof *h)))
        return err_set(err, LOAM_ENOMEM, "L1");
    h[n] = tip;
    for (uint64_t i = n; i-- && !st;)
        if (!(st = chain_fetch_header(s->l1, &h[i], tip.number - (n - i), RPC_ANY, NULL, err)))
            st = header_follows(&h[i + 1], &h[i], &s->l1->cfg.rules, err);
    if (!st)
        st = s->store.apply(s->store.ctx, h[0].number, h, n + 1, err);
    mem_free(h);
    return st;
}

static enum loam_status check_origins(struct anchor_service *s, struct err *err) {
    struct chain_head head;
    enum loam_status st = chain_head(s->l2, &head, err);
    uint64_t skipped = 0, done = 0;
    if (st)
        return st;
    if (!s->origin_next || s->origin_next > head.h.number + 1)
        s->origin_next = head.h.number;
    if (head.h.number - s->origin_next + 1 > ANCHOR_ORIGINS_ROUND && head.h.number >= s->origin_next) {
        skipped = head.h.number - s->origin_next + 1 - ANCHOR_ORIGINS_ROUND;
        s->origin_next += skipped;
    }
    for (; s->origin_next <= head.h.number && !st; s->origin_next++) {
        struct l1_attributes a;
        struct header h;
        if ((st = chain_header(s->l2, &h, s->origin_next, err)))
            break;
        if (!h.number)
            continue; /* genesis has no deposit */
        st = anchor_origin(&a, s->l2, &h, s->l1, err);
        if (st == LOAM_ENOTFOUND && a.number) { /* its L1 block is newer than our L1 head, or older than what is held */
            struct header tip;
            if (s->store.tip(s->store.ctx, &tip, NULL) || a.number > tip.number)
                return LOAM_OK; /* the next round has it */
            skipped++;
            st = LOAM_OK;
        } else if (!st) {
            done = h.number;
            uv_mutex_lock(&s->lock);
            s->st.origins++;
            uv_mutex_unlock(&s->lock);
        }
        if (s->l1->stop || st)
            break;
    }
    uv_mutex_lock(&s->lock);
    s->st.origins_skipped += skipped;
    if (done)
        s->st.origin_to = done;
    uv_mutex_unlock(&s->lock);
    if (st == LOAM_EORIGIN) {
        s->origin_next++; /* told once */
        if (s->ev.fault)
            s->ev.fault(s->ev.arg, st, err);
    }
    return st;
}

static enum loam_status one_round(struct anchor_service *s, struct anchor_output *o, struct err *err) {
    enum loam_status st = chain_sync(s->l1, err), other;
    if (st && st != LOAM_ESTALE)
        return st;
    if (!s->begun) {
        if ((st = look_back(s, err)))
            return st;
        s->begun = true;
    }
    if (s->take_signer && s->cfg.has_system_config) {
        struct anchor_parts p;
        if ((st = anchor_discover(&p, s->l1, &s->cfg.system_config, NULL, err)))
            return st;
        chain_signer_set(s->l2, &p.signer);
    }
    other = s->origins ? check_origins(s, err) : LOAM_OK;
    if (!s->cfg.has_system_config && !s->cfg.has_oracle && !s->cfg.has_factory)
        return other;
    struct err e;
    st = anchor_round(o, s->l2, s->l1, &s->cfg, other ? &e : err);
    return other ? other : st;
}

static void anchor_run(void *arg) {
    struct anchor_service *s = arg;
    uv_mutex_lock(&s->lock);
    while (!s->stop) {
        struct anchor_output o;
        struct chain_head h;
        struct err e;
        memset(&o, 0, sizeof o);
        err_clear(&e);
        uv_mutex_unlock(&s->lock);
        enum loam_status st = one_round(s, &o, &e);
        if (st == LOAM_EANCHOR && s->ev.fault)
            s->ev.fault(s->ev.arg, st, &e);
        bool head = !chain_head(s->l1, &h, NULL);
        uv_mutex_lock(&s->lock);
        s->st.rounds++;
        s->st.status = st;
        if (head) {
            s->st.l1_head = h.h.number;
            s->st.agree_k = h.agree_k;
            s->st.agree_n = h.agree_n;
        }
        if (o.number)
            s->st.last = o;
        text_clean_cut(s->st.error, sizeof s->st.error, st ? e.text : "", st ? strlen(e.text) : 0);
        uint64_t until = clock_mono_us() + s->period_us;
        while (!s->stop && clock_mono_us() < until)
            uv_cond_timedwait(&s->cond, &s->lock, 1000 * (until - clock_mono_us() + 1));
    }
    uv_mutex_unlock(&s->lock);
}

static enum loam_status opt_addr(struct addr20 *out, bool *has, const json_t *o, const char *key, struct err *err) {
    *has = hj_has(o, key);
    return *has ? hj_fixed(out->b, 20, o, key, err) : LOAM_OK;
}

enum loam_status anchor_service_new(struct anchor_service **out, struct http *http, struct chain *l2, const json_t *o, const struct chain_events *ev,
                                    struct err *err) {
    const char *urls[RPC_ENDPOINTS_MAX + 1] = {NULL};
    size_t n = 0, i;
    json_t *v;
    struct anchor_service *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(err, LOAM_ENOMEM, "L1");
    if (uv_mutex_init(&s->lock) || uv_cond_init(&s->cond))
        loam_abort(__FILE__, __LINE__, "mutex");
    s->l2 = l2;
    if (ev)
        s->ev = *ev;
    json_array_foreach(json_object_get(o, "urls"), i, v) {
        if (json_is_string(v) && n < RPC_ENDPOINTS_MAX)
            urls[n++] = json_string_value(v);
    }
    json_int_t id = json_integer_value(json_object_get(o, "chain_id")), agree_k = json_integer_value(json_object_get(o, "agree")),
               period = json_integer_value(json_object_get(o, "period_s")), final_s = json_integer_value(json_object_get(o, "final_s"));
    s->period_us = 1000000ull * (period > 0 && period < 86400 ? (uint64_t)period : PERIOD_S);
    s->cfg.final_s = final_s > 0 ? (uint64_t)final_s : 0;
    s->take_signer = json_is_true(json_object_get(o, "signer"));
    s->origins = !json_is_false(json_object_get(o, "origins"));
    struct chain_config cc = {.chain_id = id > 0 ? (uint64_t)id : 1,
                              .rules = {.l1 = true},
                              .from_head = true,
                              .agree_k = agree_k > 0 && agree_k <= RPC_ENDPOINTS_MAX ? (unsigned)agree_k : 1};
    enum loam_status st;
    if (!(st = opt_addr(&s->cfg.system_config, &s->cfg.has_system_config, o, "system_config", err)) &&
        !(st = opt_addr(&s->cfg.oracle, &s->cfg.has_oracle, o, "oracle", err)) &&
        !(st = opt_addr(&s->cfg.factory, &s->cfg.has_factory, o, "factory", err)) &&
        !(st = opt_addr(&s->cfg.registry, &s->cfg.has_registry, o, "registry", err)) && !(st = opt_addr(&s->portal, &s->has_portal, o, "portal", err)) &&
        !(st = chain_store_memory_most(&s->store, ANCHOR_L1_KEPT, err)) && !(st = rpc_new(&s->rpc, http, &(struct rpc_config){.urls = urls}, err)) &&
        !(st = chain_new(&s->l1, &cc, s->rpc, &s->store, &s->ev, err))) {
        if (!s->cfg.has_system_config && !s->cfg.has_oracle && !s->cfg.has_factory && !s->has_portal)
            st = err_set(err, LOAM_EPARSE, "needs system_config, oracle, factory or portal");
        else if (uv_thread_create(&s->thread, anchor_run, s))
            st = err_set(err, LOAM_ENOMEM, "thread");
        else
            s->running = true;
    }
    if (st) {
        anchor_service_free(s);
        return err_prefix(err, st, "l1");
    }
    *out = s;
    return LOAM_OK;
}

void anchor_service_stop(struct anchor_service *s) {
    if (!s || !s->running)
        return;
    uv_mutex_lock(&s->lock);
    s->stop = true;
    uv_cond_broadcast(&s->cond);
    uv_mutex_unlock(&s->lock);
    atomic_store(&s->l1->stop, true); /* ends a wait for the network */
    uv_thread_join(&s->thread);
    s->running = false;
}

void anchor_service_free(struct anchor_service *s) {
    if (!s)
        return;
    anchor_service_stop(s);
    chain_free(s->l1);
    rpc_free(s->rpc);
    chain_store_memory_free(&s->store);
    uv_mutex_destroy(&s->lock);
    uv_cond_destroy(&s->cond);
    mem_free(s);
}

void anchor_service_state(struct anchor_state *out, struct anchor_service *s) {
    uv_mutex_lock(&s->lock);
    *out = s->st;
    uv_mutex_unlock(&s->lock);
}

struct chain *anchor_service_l1(struct anchor_service *s) {
    return s->l1;
}

enum loam_status anchor_service_parts(struct anchor_parts *out, struct anchor_service *s, struct err *err) {
    memset(out, 0, sizeof *out);
    enum loam_status st = s->cfg.has_system_config ? anchor_discover(out, s->l1, &s->cfg.system_config, NULL, err)
                                                   : s->has_portal ? LOAM_OK : LOAM_ENOTFOUND;
    if (!st && s->has_portal)
        out->portal = s->portal;
    if (st == LOAM_ENOTFOUND || (!st && addr_is_zero(&out->portal)))
        st = err_set(err, LOAM_ENOTFOUND, "the portal on L1 is not known: l1.system_config or l1.portal in the chain's file");
    return st;
}
