#include "net/trie.h"

#include "base/keccak.h"
#include "base/mem.h"
#include "net/header.h"
#include "net/rlp.h"

#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

const struct hash32 account_empty_code = {{0xc5, 0xd2, 0x46, 0x01, 0x86, 0xf7, 0x23, 0x3c, 0x92, 0x7e, 0x7d, 0xb2, 0xdc, 0xc7, 0x03, 0xc0,
                                           0xe5, 0x00, 0xb6, 0x53, 0xca, 0x82, 0x27, 0x3b, 0x7b, 0xfa, 0xd8, 0x04, 0x5d, 0x85, 0xa4, 0x70}};

static unsigned nib(const uint8_t *key, size_t i) {
    return i % 2 ? key[i / 2] & 15u : key[i / 2] >> 4;
}

/* Hex prefix of a path: *leaf, and where its nibbles begin (in nibbles of p). */
static enum loam_status path(bool *leaf, size_t *first, size_t *count, const struct rlp *it, struct err *err) {
    if (it->list || !it->n)
        return err_set(err, LOAM_EPROOF, "proof: a node without a path");
    unsigned flag = it->p[0] >> 4;
    if (flag > 3 || (!(flag & 1) && (it->p[0] & 15)))
        return err_set(err, LOAM_EPROOF, "proof: path prefix 0x%02x", it->p[0]);
    *leaf = flag & 2;
    *first = flag & 1 ? 1 : 2;
    *count = 2 * it->n - *first;
    if (!*leaf && !*count)
        return err_set(err, LOAM_EPROOF, "proof: an extension of nothing");
    return LOAM_OK;
}

/* What a child field refers to: nothing, the hash of the next proof node, or a node written in place. */
enum ref { REF_NONE, REF_HASH, REF_INLINE };
static enum loam_status child(enum ref *out, const struct rlp *it, struct err *err) {
    if (it->list) {
        if (it->raw_n >= 32)
            return err_set(err, LOAM_EPROOF, "proof: a node of %zu bytes written in place", it->raw_n);
        *out = REF_INLINE;
    } else if (!it->n) {
        *out = REF_NONE;
    } else if (it->n == 32) {
        *out = REF_HASH;
    } else {
        return err_set(err, LOAM_EPROOF, "proof: a reference of %zu bytes", it->n);
    }
    return LOAM_OK;
}

enum loam_status trie_verify(struct bytes_view *value, bool *found, const struct hash32 *root, const uint8_t *key, size_t key_len,
                             const struct bytes_view *nodes, size_t count, struct err *err) {
    size_t at = 0, total = 2 * key_len, used = 0;
    uint8_t want[32], h[32];
    struct rlp item, f[17];
    enum loam_status s;
    enum ref ref = REF_HASH;
    *value = (struct bytes_view){NULL, 0};
    *found = false;
    if (count > TRIE_PROOF_NODES_MAX)
        return err_set(err, LOAM_EPROOFLONG, "proof: %zu nodes, at most %d", count, TRIE_PROOF_NODES_MAX);
    if (!memcmp(root->b, header_empty_root.b, 32)) {
        /* The empty trie: no node, or (some RPCs) the one node 0x80. */
        if (count == 0 || (count == 1 && nodes[0].n == 1 && nodes[0].p[0] == 0x80))
            return LOAM_OK;
        return err_set(err, LOAM_EPROOFLONG, "proof: %zu nodes of an empty trie", count);
    }
    memcpy(want, root->b, 32);
    memset(&item, 0, sizeof item);
    for (;;) {
        if (ref == REF_HASH) {
            if (used == count)
                return err_set(err, LOAM_EPROOFSHORT, "proof: ends after %zu nodes, on the way", count);
            if (nodes[used].n > TRIE_NODE_MAX)
                return err_set(err, LOAM_EPROOF, "proof: a node of %zu bytes", nodes[used].n);
            keccak256(h, nodes[used].p, nodes[used].n);
            if (memcmp(h, want, 32))
                return err_set(err, LOAM_EPROOF, "proof: node %zu does not hash to what refers to it", used);
            if ((s = rlp_parse(&item, nodes[used].p, nodes[used].n, err)))
                return err_set(err, LOAM_EPROOF, "proof: node %zu is not canonical RLP", used);
            used++;
        }
        size_t n;
        if (rlp_items(f, 17, &n, &item, NULL) || (n != 17 && n != 2))
            return err_set(err, LOAM_EPROOF, "proof: node %zu is neither branch nor path", used);
        struct rlp next;
        if (n == 17) {
            if (at == total) {
                if (f[16].list)
                    return err_set(err, LOAM_EPROOF, "proof: a list as value");
                if (f[16].n) {
                    *value = (struct bytes_view){f[16].p, f[16].n};
                    *found = true;
                }
                break;
            }
            next = f[nib(key, at++)];
        } else {
            bool leaf = false;
            size_t first = 0, len = 0;
            if ((s = path(&leaf, &first, &len, &f[0], err)))
                return s;
            bool same = len <= total - at;
            for (size_t i = 0; same && i < len; i++)
                same = nib(f[0].p, first + i) == nib(key, at + i);
            if (leaf) {
                if (same && len == total - at) {
                    if (f[1].list || !f[1].n)
                        return err_set(err, LOAM_EPROOF, "proof: a leaf without a value");
                    *value = (struct bytes_view){f[1].p, f[1].n};
                    *found = true;
                }
                break; /* another key's leaf: shown absent */
            }
            if (!same)
                break; /* the path parts inside the extension: shown absent */
            at += len;
            next = f[1];
        }
        if ((s = child(&ref, &next, err)))
            return s;
        if (ref == REF_NONE) {
            if (n == 2)
                return err_set(err, LOAM_EPROOF, "proof: an extension to nothing");
            break;
        }
        if (ref == REF_HASH)
            memcpy(want, next.p, 32);
        else
            item = next;
    }
    if (used < count)
        return err_set(err, LOAM_EPROOFLONG, "proof: %zu of %zu nodes do not belong to it", count - used, count);
    return LOAM_OK;
}

/* Building: entries sorted by key; node() writes the node of entries[0..n), which agree in their first `at` nibbles, and
 * ref() what the parent writes for it: the node itself under 32 bytes, else its hash. */

static enum loam_status put_path(struct buf *b, const uint8_t *key, size_t from, size_t to, bool leaf, struct err *err) {
    uint8_t hp[1 + 512];
    size_t len = to - from, n = 0, i = from;
    if (len > 1000)
        return err_set(err, LOAM_ELIMIT, "trie: a key of more than 500 bytes");
    unsigned flag = (leaf ? 2u : 0u) | (len & 1u);
    hp[n++] = (uint8_t)(flag << 4 | (len & 1 ? nib(key, i++) : 0));
    for (; i < to; i += 2)
        hp[n++] = (uint8_t)(nib(key, i) << 4 | nib(key, i + 1));
    return rlp_put(b, hp, n, err);
}

/* Where a proof is wanted: the nodes on the way to key, deepest first. */
struct prover {
    const uint8_t *key;
    size_t nibbles;
    struct buf *out;
    size_t *len, count, max;
};

static enum loam_status note_node(struct prover *p, const struct trie_entry *e, size_t at, const uint8_t *raw, size_t n, struct err *err) {
    if (!p || at > p->nibbles)
        return LOAM_OK;
    for (size_t i = 0; i < at; i++)
        if (nib(e->key.p, i) != nib(p->key, i))
            return LOAM_OK;
    if (p->count == p->max)
        return err_set(err, LOAM_ELIMIT, "trie: a proof of more than %zu nodes", p->max);
    p->len[p->count++] = n;
    return buf_add(p->out, raw, n, err);
}

static enum loam_status node(struct buf *b, const struct trie_entry *e, size_t n, size_t at, struct prover *p, struct err *err);

static enum loam_status ref_of(struct buf *b, const struct trie_entry *e, size_t n, size_t at, struct prover *p, struct err *err) {
    size_t mark = b->len;
    uint8_t h[32];
    enum loam_status s = node(b, e, n, at, p, err);
    if (s || b->len - mark < 32)
        return s;
    if ((s = note_node(p, e, at, b->data + mark, b->len - mark, err)))
        return s;
    keccak256(h, b->data + mark, b->len - mark);
    b->len = mark;
    return rlp_put(b, h, 32, err);
}

static enum loam_status node(struct buf *b, const struct trie_entry *e, size_t n, size_t at, struct prover *p, struct err *err) {
    size_t mark = b->len, common;
    enum loam_status s;
    if (n == 1) {
        if ((s = put_path(b, e->key.p, at, 2 * e->key.n, true, err)) || (s = rlp_put(b, e->value.p, e->value.n, err)))
            return s;
        return rlp_wrap(b, mark, err);
    }
    /* Sorted: what the first and the last share, all share. */
    const struct trie_entry *z = e + n - 1;
    size_t max = 2 * (e->key.n < z->key.n ? e->key.n : z->key.n);
    for (common = at; common < max && nib(e->key.p, common) == nib(z->key.p, common); common++)
        ;
    if (common > at) {
        if ((s = put_path(b, e->key.p, at, common, false, err)) || (s = ref_of(b, e, n, common, p, err)))
            return s;
        return rlp_wrap(b, mark, err);
    }
    const struct trie_entry *here = NULL;
    if (2 * e->key.n == at) {
        here = e++;
        n--;
    }
    for (unsigned d = 0; d < 16; d++) {
        size_t k = 0;
        while (k < n && nib(e[k].key.p, at) == d)
            k++;
        if ((s = k ? ref_of(b, e, k, at + 1, p, err) : rlp_put(b, "", 0, err)))
            return s;
        e += k;
        n -= k;
    }
    if ((s = here ? rlp_put(b, here->value.p, here->value.n, err) : rlp_put(b, "", 0, err)))
        return s;
    return rlp_wrap(b, mark, err);
}

static int by_key(const void *a, const void *b) {
    const struct trie_entry *x = a, *y = b;
    size_t n = x->key.n < y->key.n ? x->key.n : y->key.n;
    int c = n ? memcmp(x->key.p, y->key.p, n) : 0;
    return c ? c : (x->key.n > y->key.n) - (x->key.n < y->key.n);
}

static enum loam_status build(struct hash32 *out, const struct trie_entry *entries, size_t n, struct prover *p, struct err *err) {
    if (!n) {
        *out = header_empty_root;
        return LOAM_OK;
    }
    if (n > TRIE_ITEMS_MAX)
        return err_set(err, LOAM_ELIMIT, "trie: %zu items, at most %u", n, TRIE_ITEMS_MAX);
    struct trie_entry *e = mem_array(n, sizeof *e);
    if (!e)
        return err_set(err, LOAM_ENOMEM, "trie: %zu items", n);
    memcpy(e, entries, n * sizeof *e);
    qsort(e, n, sizeof *e, by_key);
    enum loam_status s = LOAM_OK;
    for (size_t i = 0; i < n && !s; i++) {
        if (!e[i].value.n)
            s = err_set(err, LOAM_EINVAL, "trie: an empty value");
        else if (i && !by_key(&e[i - 1], &e[i]))
            s = err_set(err, LOAM_EINVAL, "trie: the same key twice");
    }
    struct buf b = BUF_INIT(256u << 20);
    if (!s)
        s = node(&b, e, n, 0, p, err);
    if (!s)
        s = note_node(p, e, 0, b.data, b.len, err);
    if (!s)
        keccak256(out->b, b.data, b.len);
    buf_clear(&b);
    mem_free(e);
    return s;
}

enum loam_status trie_root(struct hash32 *out, const struct trie_entry *entries, size_t n, struct err *err) {
    return build(out, entries, n, NULL, err);
}

enum loam_status trie_prove(struct hash32 *root, struct buf *out, size_t lens[TRIE_PROOF_NODES_MAX], size_t *count,
                            const struct trie_entry *entries, size_t n, const uint8_t *key, size_t key_len, struct err *err) {
    struct buf back = BUF_INIT(TRIE_PROOF_NODES_MAX * (size_t)TRIE_NODE_MAX);
    struct prover p = {key, 2 * key_len, &back, lens, 0, TRIE_PROOF_NODES_MAX};
    enum loam_status s = build(root, entries, n, &p, err);
    size_t at = back.len;
    for (size_t i = p.count; i-- && !s;) { /* root first */
        at -= lens[i];
        s = buf_add(out, back.data + at, lens[i], err);
    }
    for (size_t i = 0; i < p.count / 2; i++) {
        size_t t = lens[i];
        lens[i] = lens[p.count - 1 - i];
        lens[p.count - 1 - i] = t;
    }
    *count = p.count;
    buf_clear(&back);
    return s;
}

enum loam_status trie_ordered_root(struct hash32 *out, const struct bytes_view *items, size_t n, struct err *err) {
    if (n > TRIE_ITEMS_MAX)
        return err_set(err, LOAM_ELIMIT, "trie: %zu items, at most %u", n, TRIE_ITEMS_MAX);
    struct trie_entry *e = mem_array(n, sizeof *e);
    uint8_t(*keys)[5] = mem_array(n, sizeof *keys);
    enum loam_status s = LOAM_OK;
    if (!e || !keys)
        s = err_set(err, LOAM_ENOMEM, "trie: %zu items", n);
    for (size_t i = 0; i < n && !s; i++) {
        /* rlp(i): a byte, or a length and the bytes */
        size_t len = 0;
        if (i && i < 128) {
            keys[i][len++] = (uint8_t)i;
        } else {
            unsigned count = i > 0xffff ? 3 : i > 0xff ? 2 : i ? 1 : 0;
            keys[i][len++] = (uint8_t)(0x80 + count);
            while (count--)
                keys[i][len++] = (uint8_t)(i >> 8 * count);
        }
        e[i] = (struct trie_entry){{keys[i], len}, items[i]};
    }
    if (!s)
        s = trie_root(out, e, n, err);
    mem_free(e);
    mem_free(keys);
    return s;
}

enum loam_status trie_account(struct account *out, const struct hash32 *state_root, const struct addr20 *addr,
                              const struct bytes_view *nodes, size_t count, struct err *err) {
    uint8_t key[32];
    struct bytes_view v;
    struct rlp top, f[4];
    size_t n;
    enum loam_status s;
    memset(out, 0, sizeof *out);
    out->storage_root = header_empty_root;
    out->code_hash = account_empty_code;
    keccak256(key, addr->b, 20);
    if ((s = trie_verify(&v, &out->exists, state_root, key, 32, nodes, count, err)) || !out->exists)
        return s;
    if (rlp_parse(&top, v.p, v.n, NULL) || rlp_items(f, 4, &n, &top, NULL) || n != 4 || rlp_u64(&out->nonce, &f[0], "nonce", NULL) ||
        rlp_u256(&out->balance, &f[1], "balance", NULL) || rlp_fixed(out->storage_root.b, 32, &f[2], "storageRoot", NULL) ||
        rlp_fixed(out->code_hash.b, 32, &f[3], "codeHash", NULL))
        return err_set(err, LOAM_EPROOF, "proof: the leaf is not an account");
    return LOAM_OK;
}

enum loam_status trie_storage(struct u256 *out, const struct hash32 *storage_root, const struct hash32 *slot,
                              const struct bytes_view *nodes, size_t count, struct err *err) {
    uint8_t key[32];
    struct bytes_view v;
    struct rlp it;
    bool found;
    enum loam_status s;
    *out = U256_ZERO;
    keccak256(key, slot->b, 32);
    if ((s = trie_verify(&v, &found, storage_root, key, 32, nodes, count, err)) || !found)
        return s;
    /* A leaf that holds 0 stands in no true trie, but anvil keeps slots that were written as 0 and counts them into its roots:
     * under a root it means what an absent one means. */
    if (rlp_parse(&it, v.p, v.n, NULL) || rlp_u256(out, &it, "value", NULL))
        return err_set(err, LOAM_EPROOF, "proof: the leaf is not a storage value");
    return LOAM_OK;
}
