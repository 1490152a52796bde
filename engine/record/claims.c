#include "record/claims.h"

#include "base/keccak.h"
#include "base/mem.h"

#include <stdlib.h>

#include "base/banned.h"

struct hash32 claims_leaf(const struct payout *p) {
    uint8_t b[PAYOUT_LEAF_BYTES];
    payout_leaf(b, p);
    struct hash32 h = hash_of(b, sizeof b);
    return hash_of(h.b, 32);
}

static struct hash32 pair(const struct hash32 *a, const struct hash32 *b) {
    bool swap = memcmp(a->b, b->b, 32) > 0;
    struct hash32 w[2] = {swap ? *b : *a, swap ? *a : *b};
    return hash_of(w, sizeof w);
}

struct sorted {
    struct hash32 h;
    uint64_t index;
};

static int by_hash(const void *a, const void *b) {
    const struct sorted *x = a, *y = b;
    int c = memcmp(x->h.b, y->h.b, 32);
    return c ? c : (x->index > y->index) - (x->index < y->index);
}

enum loam_status claims_build(struct claims *out, const struct payouts *p, struct err *err) {
    *out = (struct claims){0};
    size_t n = p->count;
    if (!n)
        return LOAM_OK;
    struct sorted *s = mem_array(n, sizeof *s);
    out->nodes = mem_array(2 * n - 1, sizeof *out->nodes);
    out->place = mem_array(n, sizeof *out->place);
    if (!s || !out->nodes || !out->place) {
        mem_free(s);
        claims_clear(out);
        return err_set(err, LOAM_ENOMEM, "claims: %zu leaves", n);
    }
    out->count = n;
    for (size_t i = 0; i < n; i++)
        s[i] = (struct sorted){claims_leaf(&p->line[i]), i};
    qsort(s, n, sizeof *s, by_hash);
    /* OpenZeppelin's layout: a heap with the root first and the sorted leaves from the end backwards. */
    for (size_t i = 0; i < n; i++) {
        size_t at = 2 * n - 2 - i;
        out->nodes[at] = s[i].h;
        out->place[s[i].index] = at;
    }
    for (size_t i = n - 1; i-- > 0;)
        out->nodes[i] = pair(&out->nodes[2 * i + 1], &out->nodes[2 * i + 2]);
    mem_free(s);
    return LOAM_OK;
}

void claims_clear(struct claims *c) {
    mem_free(c->nodes);
    mem_free(c->place);
    *c = (struct claims){0};
}

struct hash32 claims_root(const struct claims *c) {
    return c->count ? c->nodes[0] : (struct hash32){{0}};
}

enum loam_status claims_prove(struct tree_proof *out, const struct claims *c, uint64_t index, struct err *err) {
    if (index >= c->count)
        return err_set(err, LOAM_ERANGE, "claims: line %llu of %llu", (unsigned long long)index, (unsigned long long)c->count);
    out->count = 0;
    for (uint64_t at = c->place[index]; at; at = (at - 1) / 2)
        out->sibling[out->count++] = c->nodes[at % 2 ? at + 1 : at - 1];
    return LOAM_OK;
}

enum loam_status claims_check(const struct hash32 *root, const struct payout *p, const struct hash32 *sibling, size_t siblings,
                              struct err *err) {
    struct hash32 h = claims_leaf(p);
    for (size_t i = 0; i < siblings; i++)
        h = pair(&h, &sibling[i]);
    if (!hash_eq(&h, root))
        return err_set(err, LOAM_EPROOF, "claim of account %llu does not lead to the root", (unsigned long long)p->account);
    return LOAM_OK;
}
