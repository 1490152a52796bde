#include "lm/adapter.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "lm/philox.h"

#include <math.h>
#include <string.h>

#include "base/banned.h"

#define MAGIC "LOAMADP1"
#define FILE_VERSION 1u
#define PREFIX 16 /* magic, version, header length */
#define FIXED 60  /* header before its tensors */
#define PER_TENSOR 16

static const char *const names[LM_LINEARS] = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
static const char *const shorts[LM_LINEARS] = {"q", "k", "v", "o", "gate", "up", "down"};
static const char *const peft[LM_LINEARS] = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};

const char *lm_linear_name(uint32_t kind) {
    return kind < LM_LINEARS ? names[kind] : "?";
}

enum loam_status lm_targets_parse(uint32_t *targets, const char *text, struct err *err) {
    uint32_t set = 0;
    if (!strcmp(text, "all") || !strcmp(text, "all-linear")) {
        *targets = (1u << LM_LINEARS) - 1;
        return LOAM_OK;
    }
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, ",");
        uint32_t kind = 0;
        for (; kind < LM_LINEARS; kind++)
            if ((strlen(shorts[kind]) == n && !memcmp(p, shorts[kind], n)) ||
                (strlen(names[kind]) == n && !memcmp(p, names[kind], n)) ||
                (strlen(peft[kind]) == n && !memcmp(p, peft[kind], n)))
                break;
        if (kind == LM_LINEARS)
            return err_set(err, LOAM_EINVAL, "no linear layer called \"%.*s\" (known: q k v o gate up down, or all)",
                           (int)(n > 40 ? 40 : n), p);
        set |= 1u << kind;
        p += n;
        if (*p == ',')
            p++;
    }
    if (!set)
        return err_set(err, LOAM_EINVAL, "no linear layer named to adapt");
    *targets = set;
    return LOAM_OK;
}

static float scale_of(float alpha, uint32_t rank, bool rslora) {
    return (float)(rslora ? (double)alpha / sqrt((double)rank) : (double)alpha / (double)rank);
}

/* Offsets and pointers from the shapes; data must be there. */
static void lay_out(struct lm_adapter *a) {
    size_t at = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        struct lm_lora *t = &a->t[i];
        t->a_at = at;
        at += (size_t)a->rank * t->in;
        t->b_at = at;
        at += (size_t)a->rank * t->out;
        if (a->data) {
            t->a = a->data + t->a_at;
            t->b = a->data + t->b_at;
        }
    }
    a->size = at;
}

static enum loam_status allocate(struct lm_adapter *a, struct err *err) {
    lay_out(a);
    if (a->size > LM_ADAPTER_BYTES_MAX / sizeof(float))
        return err_set(err, LOAM_ELIMIT, "an adapter of %zu numbers is larger than %zu bytes", a->size, LM_ADAPTER_BYTES_MAX);
    a->data = mem_aligned(64, a->size * sizeof(float));
    if (!a->data)
        return err_set(err, LOAM_ENOMEM, "no memory for an adapter of %zu numbers", a->size);
    lay_out(a);
    return LOAM_OK;
}

enum loam_status lm_adapter_new(struct lm_adapter **out, const struct lm_shape *shape, const uint8_t base_hash[32],
                                uint32_t rank, float alpha, bool rslora, uint32_t targets, struct err *err) {
    *out = NULL;
    if (!rank || rank > LM_RANK_MAX)
        return err_set(err, LOAM_EINVAL, "rank %u is not in 1 .. %d", rank, LM_RANK_MAX);
    if (!(alpha > 0) || !isfinite(alpha))
        return err_set(err, LOAM_EINVAL, "alpha must be a positive number");
    if (shape->layers > LM_ADAPTER_TENSORS_MAX / LM_LINEARS)
        return err_set(err, LOAM_ELIMIT, "%u layers are more than an adapter can have", shape->layers);
    struct lm_adapter *a = mem_zalloc(sizeof *a);
    if (!a || !(a->t = mem_zarray((size_t)shape->layers * LM_LINEARS + 1, sizeof *a->t))) {
        lm_adapter_free(a);
        return err_set(err, LOAM_ENOMEM, "no memory for an adapter");
    }
    memcpy(a->base_hash, base_hash, 32);
    a->rank = rank;
    a->alpha = alpha;
    a->rslora = rslora;
    a->scale = scale_of(alpha, rank, rslora);
    a->eot = UINT32_MAX;
    for (uint32_t l = 0; l < shape->layers; l++)
        for (uint32_t k = 0; k < LM_LINEARS; k++)
            if ((targets >> k & 1) && shape->in[k] && shape->out[k]) {
                struct lm_lora *t = &a->t[a->count++];
                t->layer = l;
                t->kind = k;
                t->in = shape->in[k];
                t->out = shape->out[k];
            }
    enum loam_status s = a->count ? allocate(a, err) : err_set(err, LOAM_EINVAL, "the model has none of the linear layers named");
    if (s) {
        lm_adapter_free(a);
        return s;
    }
    *out = a;
    return LOAM_OK;
}

enum loam_status lm_adapter_copy(struct lm_adapter **out, const struct lm_adapter *from, struct err *err) {
    *out = NULL;
    struct lm_adapter *a = mem_dup(from, sizeof *from);
    if (a) {
        a->data = NULL;
        a->t = mem_dup(from->t, from->count * sizeof *from->t);
    }
    if (!a || !a->t) {
        mem_free(a);
        return err_set(err, LOAM_ENOMEM, "no memory for a copy of an adapter");
    }
    enum loam_status s = allocate(a, err);
    if (s) {
        lm_adapter_free(a);
        return s;
    }
    memcpy(a->data, from->data, from->size * sizeof(float));
    *out = a;
    return LOAM_OK;
}

void lm_adapter_free(struct lm_adapter *a) {
    if (!a)
        return;
    mem_free(a->t);
    mem_free(a->data);
    mem_free(a);
}

void lm_adapter_init(struct lm_adapter *a, const uint8_t seed[32]) {
    struct philox p;
    philox_init(&p, seed, "init");
    for (uint32_t i = 0; i < a->count; i++) {
        struct lm_lora *t = &a->t[i];
        float bound = (float)(1.0 / sqrt((double)t->in));
        size_t n = (size_t)a->rank * t->in;
        for (size_t j = 0; j < n; j += 4) {
            uint32_t w[4];
            philox_block(&p, i, (uint32_t)(j / 4), w);
            for (size_t k = 0; k < 4 && j + k < n; k++)
                t->a[j + k] = (2.0f * philox_unit(w[k]) - 1.0f) * bound;
        }
        memset(t->b, 0, (size_t)a->rank * t->out * sizeof(float));
    }
}

static void put_f32(uint8_t *p, float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    put_le32(p, u);
}

static float get_f32(const uint8_t *p) {
    uint32_t u = le32(p);
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static size_t header_len(const struct lm_adapter *a) {
    return FIXED + (size_t)a->count * PER_TENSOR;
}

static void header_write(uint8_t *h, const struct lm_adapter *a) {
    memcpy(h, a->base_hash, 32);
    put_le32(h + 32, a->rank);
    put_le32(h + 36, a->rslora ? 1 : 0);
    put_f32(h + 40, a->alpha);
    put_f32(h + 44, a->scale);
    put_le32(h + 48, a->count);
    put_le32(h + 52, a->eot);
    put_le32(h + 56, 0);
    for (uint32_t i = 0; i < a->count; i++) {
        uint8_t *p = h + FIXED + (size_t)i * PER_TENSOR;
        put_le32(p, a->t[i].layer);
        put_le32(p + 4, a->t[i].kind);
        put_le32(p + 8, a->t[i].in);
        put_le32(p + 12, a->t[i].out);
    }
}

void lm_adapter_hash(uint8_t out[32], const struct lm_adapter *a) {
    struct keccak k;
    uint8_t fixed[FIXED + PER_TENSOR];
    struct lm_adapter one = *a; /* the header piece by piece: no allocation, so nothing can fail */
    keccak_init(&k);
    keccak_add(&k, "loam adapter 1", 14);
    one.count = 0;
    header_write(fixed, &one);
    put_le32(fixed + 48, a->count);
    keccak_add(&k, fixed, FIXED);
    for (uint32_t i = 0; i < a->count; i++) {
        one.count = 1;
        one.t = &a->t[i];
        header_write(fixed, &one);
        keccak_add(&k, fixed + FIXED, PER_TENSOR);
    }
    keccak_add(&k, a->data, a->size * sizeof(float)); /* little-endian machines only: configure refuses others */
    keccak_end(&k, out);
}

enum loam_status lm_adapter_save(const struct lm_adapter *a, const char *path, struct err *err) {
    size_t head = header_len(a), data_at = (PREFIX + head + 63) / 64 * 64, total = data_at + a->size * sizeof(float) + 32;
    uint8_t *p = mem_zalloc(total);
    if (!p)
        return err_set(err, LOAM_ENOMEM, "no memory to write the adapter %s", path);
    memcpy(p, MAGIC, 8);
    put_le32(p + 8, FILE_VERSION);
    put_le32(p + 12, (uint32_t)head);
    header_write(p + PREFIX, a);
    memcpy(p + data_at, a->data, a->size * sizeof(float));
    keccak256(p + total - 32, p, total - 32);
    enum loam_status s = file_write(path, p, total, 0600, err);
    mem_free(p);
    return s;
}

static enum loam_status parse_into(struct lm_adapter *a, const uint8_t *p, size_t n, struct err *err) {
    if (n < PREFIX + FIXED + 32 || memcmp(p, MAGIC, 8))
        return err_set(err, LOAM_EPARSE, "not a loam adapter file");
    if (le32(p + 8) != FILE_VERSION)
        return err_set(err, LOAM_EVERSION, "adapter file version %u (this program reads %u)", le32(p + 8), FILE_VERSION);
    size_t head = le32(p + 12);
    const uint8_t *h = p + PREFIX;
    if (head < FIXED || head > n - PREFIX - 32)
        return err_set(err, LOAM_EPARSE, "adapter header of %zu bytes does not fit the file", head);
    memcpy(a->base_hash, h, 32);
    a->rank = le32(h + 32);
    a->rslora = le32(h + 36) & 1;
    a->alpha = get_f32(h + 40);
    a->scale = get_f32(h + 44);
    a->count = le32(h + 48);
    a->eot = le32(h + 52);
    if (!a->rank || a->rank > LM_RANK_MAX || !a->count || a->count > LM_ADAPTER_TENSORS_MAX || le32(h + 36) > 1 ||
        le32(h + 56) || head != header_len(a))
        return err_set(err, LOAM_EPARSE, "adapter header: rank %u, %u tensors, %zu bytes do not fit together", a->rank,
                       a->count, head);
    if (!isfinite(a->alpha) || !(a->alpha > 0) || a->scale != scale_of(a->alpha, a->rank, a->rslora))
        return err_set(err, LOAM_EPARSE, "adapter header: scale does not follow from alpha and rank");
    if (!(a->t = mem_zarray(a->count, sizeof *a->t)))
        return err_set(err, LOAM_ENOMEM, "no memory for %u adapter tensors", a->count);
    for (uint32_t i = 0; i < a->count; i++) {
        const uint8_t *q = h + FIXED + (size_t)i * PER_TENSOR;
        struct lm_lora *t = &a->t[i], *before = i ? t - 1 : NULL;
        t->layer = le32(q);
        t->kind = le32(q + 4);
        t->in = le32(q + 8);
        t->out = le32(q + 12);
        if (t->kind >= LM_LINEARS || !t->in || !t->out || t->in > 1u << 20 || t->out > 1u << 20)
            return err_set(err, LOAM_EPARSE, "adapter tensor %u is malformed", i);
        if (before && (before->layer > t->layer || (before->layer == t->layer && before->kind >= t->kind)))
            return err_set(err, LOAM_EPARSE, "adapter tensor %u is out of order", i);
    }
    size_t data_at = (PREFIX + head + 63) / 64 * 64;
    lay_out(a);
    if (a->size > LM_ADAPTER_BYTES_MAX / sizeof(float) || n != data_at + a->size * sizeof(float) + 32)
        return err_set(err, LOAM_EPARSE, "adapter file of %zu bytes; its header calls for %zu", n,
                       data_at + a->size * sizeof(float) + 32);
    uint8_t sum[32];
    keccak256(sum, p, n - 32);
    if (memcmp(sum, p + n - 32, 32))
        return err_set(err, LOAM_EHASH, "adapter file is damaged: its checksum differs");
    enum loam_status s = allocate(a, err);
    if (s)
        return s;
    memcpy(a->data, p + data_at, a->size * sizeof(float));
    for (size_t i = 0; i < a->size; i++)
        if (!isfinite(a->data[i]))
            return err_set(err, LOAM_ENONFINITE, "adapter number %zu is not finite", i);
    return LOAM_OK;
}

enum loam_status lm_adapter_parse(struct lm_adapter **out, const uint8_t *p, size_t n, struct err *err) {
    *out = NULL;
    struct lm_adapter *a = mem_zalloc(sizeof *a);
    if (!a)
        return err_set(err, LOAM_ENOMEM, "no memory for an adapter");
    enum loam_status s = parse_into(a, p, n, err);
    if (s) {
        lm_adapter_free(a);
        return s;
    }
    *out = a;
    return LOAM_OK;
}

enum loam_status lm_adapter_load(struct lm_adapter **out, const char *path, struct err *err) {
    struct file_map m;
    *out = NULL;
    enum loam_status s = file_map(&m, path, err);
    if (s)
        return s;
    s = lm_adapter_parse(out, m.data, m.len, err);
    file_unmap(&m);
    return s ? err_prefix(err, s, "%s", path) : LOAM_OK;
}

enum loam_status lm_adapter_fits(const struct lm_adapter *a, const struct lm_shape *shape, struct err *err) {
    for (uint32_t i = 0; i < a->count; i++) {
        const struct lm_lora *t = &a->t[i];
        if (t->layer >= shape->layers || t->in != shape->in[t->kind] || t->out != shape->out[t->kind])
            return err_set(err, LOAM_EINVAL, "the adapter's layer %u %s (%u to %u) does not fit this model", t->layer,
                           lm_linear_name(t->kind), t->in, t->out);
    }
    return LOAM_OK;
}

const struct lm_lora *lm_adapter_find(const struct lm_adapter *a, uint32_t layer, uint32_t kind) {
    uint32_t lo = 0, hi = a->count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct lm_lora *t = &a->t[mid];
        if (t->layer < layer || (t->layer == layer && t->kind < kind))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < a->count && a->t[lo].layer == layer && a->t[lo].kind == kind ? &a->t[lo] : NULL;
}
