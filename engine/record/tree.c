#include "record/tree.h"

#include "base/bytes.h"
#include "base/keccak.h"
#include "base/mem.h"

#include "base/banned.h"

struct hash32 tree_leaf(const void *p, size_t n) {
    struct hash32 h;
    struct keccak k;
    keccak_init(&k);
    keccak_add(&k, "\0", 1);
    keccak_add(&k, p, n);
    keccak_end(&k, h.b);
    return h;
}

struct hash32 tree_node(const struct hash32 *left, const struct hash32 *right) {
    uint8_t b[65] = {1};
    memcpy(b + 1, left->b, 32);
    memcpy(b + 33, right->b, 32);
    return hash_of(b, sizeof b);
}

static struct hash32 seal(uint64_t count, const struct hash32 *top) {
    uint8_t b[41] = {2};
    put_be64(b + 1, count);
    memcpy(b + 9, top->b, 32);
    return hash_of(b, sizeof b);
}

void tree_stream_init(struct tree_stream *t) {
    memset(t, 0, sizeof *t);
}

void tree_stream_add_hash(struct tree_stream *t, const struct hash32 *leaf_hash) {
    /* Like adding one to a binary number: each carry joins two full subtrees. */
    struct hash32 h = *leaf_hash;
    int i = 0;
    for (; t->count >> i & 1; i++)
        h = tree_node(&t->level[i], &h);
    t->level[i] = h;
    t->count++;
}

void tree_stream_add(struct tree_stream *t, const void *leaf, size_t n) {
    struct hash32 h = tree_leaf(leaf, n);
    tree_stream_add_hash(t, &h);
}

static struct hash32 stream_top(const struct tree_stream *t) {
    struct hash32 top = {{0}};
    bool have = false;
    /* The lowest subtree is the odd last node that moved up until it met the next higher one. */
    for (int i = 0; i < 64; i++)
        if (t->count >> i & 1) {
            top = have ? tree_node(&t->level[i], &top) : t->level[i];
            have = true;
        }
    return top;
}

struct hash32 tree_stream_root(const struct tree_stream *t) {
    struct hash32 top = stream_top(t);
    return seal(t->count, &top);
}

void tree_init(struct tree *t) {
    memset(t, 0, sizeof *t);
}

void tree_clear(struct tree *t) {
    mem_free(t->leaves);
    tree_init(t);
}

enum loam_status tree_add_hash(struct tree *t, const struct hash32 *leaf_hash, struct err *err) {
    if (t->count == TREE_LEAVES_MAX)
        return err_set(err, LOAM_ELIMIT, "tree: more than %u leaves", TREE_LEAVES_MAX);
    if (t->count == t->cap) {
        uint64_t cap = t->cap ? t->cap * 2 : 64;
        struct hash32 *p = mem_resize(t->leaves, cap, sizeof *p);
        if (!p)
            return err_set(err, LOAM_ENOMEM, "tree: %llu leaves", (unsigned long long)cap);
        t->leaves = p;
        t->cap = cap;
    }
    t->leaves[t->count++] = *leaf_hash;
    return LOAM_OK;
}

enum loam_status tree_add(struct tree *t, const void *leaf, size_t n, struct err *err) {
    struct hash32 h = tree_leaf(leaf, n);
    return tree_add_hash(t, &h, err);
}

static struct tree_stream streamed(const struct tree *t) {
    struct tree_stream s;
    tree_stream_init(&s);
    for (uint64_t i = 0; i < t->count; i++)
        tree_stream_add_hash(&s, &t->leaves[i]);
    return s;
}

struct hash32 tree_root(const struct tree *t) {
    struct tree_stream s = streamed(t);
    return tree_stream_root(&s);
}

struct hash32 tree_top(const struct tree *t) {
    struct tree_stream s = streamed(t);
    return stream_top(&s);
}

uint32_t tree_proof_len(uint64_t index, uint64_t count) {
    uint32_t n = 0;
    for (; count > 1; index /= 2, count = count / 2 + count % 2)
        n += (index ^ 1) < count;
    return n;
}

enum loam_status tree_prove(struct tree_proof *out, const struct tree *t, uint64_t index, struct err *err) {
    if (index >= t->count)
        return err_set(err, LOAM_ERANGE, "tree: leaf %llu of %llu", (unsigned long long)index, (unsigned long long)t->count);
    struct hash32 *level = mem_array(t->count, sizeof *level);
    if (!level)
        return err_set(err, LOAM_ENOMEM, "tree: a level of %llu nodes", (unsigned long long)t->count);
    memcpy(level, t->leaves, t->count * sizeof *level);
    out->count = 0;
    for (uint64_t n = t->count; n > 1; n = n / 2 + n % 2, index /= 2) {
        if ((index ^ 1) < n)
            out->sibling[out->count++] = level[index ^ 1];
        for (uint64_t i = 0; i + 1 < n; i += 2)
            level[i / 2] = tree_node(&level[i], &level[i + 1]);
        if (n % 2)
            level[n / 2] = level[n - 1];
    }
    mem_free(level);
    return LOAM_OK;
}

enum loam_status tree_check(const struct hash32 *root, uint64_t count, uint64_t index, const void *leaf, size_t n,
                            const struct hash32 *sibling, size_t siblings, struct err *err) {
    if (index >= count)
        return err_set(err, LOAM_EPROOF, "tree: leaf %llu of %llu", (unsigned long long)index, (unsigned long long)count);
    if (siblings != tree_proof_len(index, count))
        return err_set(err, LOAM_EPROOF, "tree: the proof of leaf %llu of %llu has %u siblings, not %zu",
                       (unsigned long long)index, (unsigned long long)count, tree_proof_len(index, count), siblings);
    struct hash32 h = tree_leaf(leaf, n);
    uint64_t i = index;
    for (uint64_t c = count; c > 1; c = c / 2 + c % 2, i /= 2)
        if ((i ^ 1) < c) {
            h = i % 2 ? tree_node(sibling, &h) : tree_node(&h, sibling);
            sibling++;
        }
    h = seal(count, &h);
    if (!hash_eq(&h, root))
        return err_set(err, LOAM_EPROOF, "tree: leaf %llu does not lead to the root", (unsigned long long)index);
    return LOAM_OK;
}
