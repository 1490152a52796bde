#include "poa/plan.h"

#include "base/keccak.h"
#include "base/mem.h"
#include "record/tree.h"

#include <string.h>

#include "base/banned.h"

enum { HEAD = 16, FIXED = 32 + 8 + 4 * 6 + 32, RECORD = 64 };

static enum loam_status bad(struct err *err, const char *what) {
    return err_set(err, LOAM_EPARSE, "gradient store: %s", what);
}

static enum loam_status read_tensor(struct poa_tensor *t, const struct poa_store *s, uint32_t l, const uint8_t *q, size_t data,
                                    size_t end, struct err *err) {
    const struct poa_plan *p = &s->plan;
    *t = (struct poa_tensor){.out = le32(q), .k = le32(q + 4), .e_g = (int32_t)le32(q + 8), .e_h = (int32_t)le32(q + 12),
                             .x = le32(q + 16), .shift = (int32_t)le32(q + 20), .n = (int64_t)le64(q + 24)};
    uint64_t h = le64(q + 32), g = le64(q + 40), d = le64(q + 48);
    size_t want = poa_plan_width(p, l);
    int32_t shift = 0;
    if (p->k && t->k == t->out)
        for (uint32_t k = p->k; k > 1; k /= 2)
            shift++;
    if (t->k != poa_plan_k(p, l) || d != want || t->shift != shift)
        return bad(err, "a tensor's shape does not fit the head");
    if (t->e_g < -POA_EXPONENT_MAX || t->e_g > POA_EXPONENT_MAX || t->e_h < -1000 || t->e_h > 1000 || t->x > 30 || t->n < 0)
        return bad(err, "a tensor's scale is out of range");
    uint64_t size = p->rows * d; /* at most 2^16 · 2^32 */
    if (h % 64 || h < data || h > end || size > end - h)
        return bad(err, "a tensor lies outside the file");
    if (p->keep_gradients ? g % 64 || g < data || g > end || size > end - g : g != 0)
        return bad(err, "a tensor's gradients lie outside the file");
    t->d = want;
    t->h = (const int8_t *)s->map.data + h;
    t->g = p->keep_gradients ? (const int8_t *)s->map.data + g : NULL;
    return LOAM_OK;
}

static enum loam_status read_all(struct poa_store *s, bool check, struct err *err) {
    const uint8_t *at = s->map.data;
    size_t n = s->map.len;
    if (n < HEAD + FIXED + RECORD + 32 || memcmp(at, "LOAMPOA1", 8))
        return bad(err, "not a gradient store");
    if (le32(at + 8) != 1)
        return err_set(err, LOAM_EVERSION, "gradient store of version %u; this program knows 1", le32(at + 8));
    uint32_t head = le32(at + 12);
    const uint8_t *q = at + HEAD;
    struct poa_plan *p = &s->plan;
    memcpy(p->seed, q, 32);
    p->rows = le64(q + 32);
    p->tensors = le32(q + 40);
    p->rank = le32(q + 44);
    p->k = le32(q + 48);
    p->rho_log2 = (int32_t)le32(q + 52);
    p->keep_gradients = le32(q + 56) & 1;
    s->weight_log2 = (int32_t)le32(q + 60);
    memcpy(s->fine_root.b, q + 64, 32);
    if (!p->rows || p->rows > POA_ROWS_MAX || !p->tensors || p->tensors > POA_TENSORS_MAX || !p->rank || p->rank > LM_RANK_MAX ||
        (p->k & (p->k - 1)) || p->k > 1u << 24 || le32(q + 56) > 1 || p->rho_log2 < -16 || p->rho_log2 > 16 ||
        s->weight_log2 < -1000 || s->weight_log2 > 1000)
        return bad(err, "a number in its head is out of range");
    if (head != FIXED + RECORD * p->tensors || n - 32 < HEAD + (size_t)head)
        return bad(err, "its head has the wrong length");
    q += FIXED;
    for (uint32_t l = 0; l < p->tensors; l++) {
        p->out[l] = le32(q + (size_t)RECORD * l);
        if (!p->out[l] || p->out[l] > 1u << 24)
            return bad(err, "a tensor's size is out of range");
    }
    if (check) {
        uint8_t h[32];
        keccak256(h, at, n - 32);
        if (memcmp(h, at + n - 32, 32))
            return err_set(err, LOAM_EHASH, "gradient store: its bytes changed (checksum)");
    }
    if (!(s->t = mem_zarray(p->tensors, sizeof *s->t)))
        return err_set(err, LOAM_ENOMEM, "gradient store: a table of %u tensors", p->tensors);
    enum loam_status st = LOAM_OK;
    for (uint32_t l = 0; !st && l < p->tensors; l++, q += RECORD)
        st = read_tensor(&s->t[l], s, l, q, HEAD + head, n - 32, err);
    return st;
}

enum loam_status poa_store_open(struct poa_store *out, const char *path, bool check, struct err *err) {
    memset(out, 0, sizeof *out);
    enum loam_status st = file_map(&out->map, path, err);
    if (st)
        return st;
    if ((st = read_all(out, check, err))) {
        st = err_prefix(err, st, "%s", path);
        poa_store_close(out);
    }
    return st;
}

void poa_store_close(struct poa_store *s) {
    if (s->map.data)
        file_unmap(&s->map);
    mem_free(s->t);
    memset(s, 0, sizeof *s);
}

enum loam_status poa_rows_root(struct hash32 *out, const struct poa_store *const *s, uint32_t checkpoints, struct err *err) {
    struct tree_stream tree;
    struct buf leaf = BUF_INIT((size_t)1 << 33);
    enum loam_status st = LOAM_OK;
    tree_stream_init(&tree);
    for (uint32_t c = 0; !st && c < checkpoints; c++)
        for (uint32_t l = 0; !st && l < s[c]->plan.tensors; l++)
            for (uint64_t i = 0; !st && i < s[c]->plan.rows; i++) {
                const struct poa_tensor *t = &s[c]->t[l];
                uint8_t head[16];
                put_be32(head, c);
                put_be32(head + 4, l);
                put_be64(head + 8, i);
                buf_reset(&leaf);
                if (!(st = buf_add(&leaf, head, sizeof head, err)) && !(st = buf_add(&leaf, t->h + i * t->d, t->d, err)))
                    tree_stream_add(&tree, leaf.data, leaf.len);
            }
    buf_clear(&leaf);
    if (!st)
        *out = tree_stream_root(&tree);
    return st;
}

struct hash32 poa_fine_root(const struct poa_store *const *s, uint32_t checkpoints) {
    struct tree_stream tree;
    tree_stream_init(&tree);
    for (uint32_t c = 0; c < checkpoints; c++)
        tree_stream_add(&tree, s[c]->fine_root.b, 32);
    return tree_stream_root(&tree);
}

struct hash32 poa_damping_root(const struct poa_store *const *s, uint32_t checkpoints) {
    struct tree_stream tree;
    tree_stream_init(&tree);
    for (uint32_t c = 0; c < checkpoints; c++)
        for (uint32_t l = 0; l < s[c]->plan.tensors; l++) {
            const struct poa_tensor *t = &s[c]->t[l];
            uint8_t b[36];
            put_be32(b, c);
            put_be32(b + 4, l);
            put_be32(b + 8, (uint32_t)t->e_g);
            put_be32(b + 12, (uint32_t)t->e_h);
            put_be32(b + 16, t->x);
            put_be32(b + 20, (uint32_t)t->shift);
            put_be64(b + 24, (uint64_t)t->n);
            put_be32(b + 32, (uint32_t)s[c]->weight_log2);
            tree_stream_add(&tree, b, sizeof b);
        }
    return tree_stream_root(&tree);
}
