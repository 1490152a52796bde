#include "record/statements.h"

#include "base/keccak.h"
#include "base/mem.h"
#include "base/text.h"

#include "base/banned.h"

/* First walk through the list: the type strings. */
#define STATEMENT(Name, c) static const char type_##c[] = #Name "("
#define FIRST(t, n, c) #t " " #n
#define FIELD(t, n, c) "," #t " " #n
#define END(Name, c) ")";
#include "record/statements.def"
#undef STATEMENT
#undef FIRST
#undef FIELD
#undef END

/* Second walk: the field tables, each in a function of its own, since FIELD does not know the struct it stands in and
 * only a function has a scope for the name `self`. */
#define STATEMENT(Name, c)                                                                                            \
    static const struct st_def *def_##c(void) {                                                                       \
        typedef struct st_##c self;                                                                                   \
        static const struct st_field fields[] = {
#define FIRST(t, n, c) {#n, #t, ST_##t, offsetof(self, c)},
#define FIELD(t, n, c) {#n, #t, ST_##t, offsetof(self, c)},
#define END(Name, c)                                                                                                  \
    }                                                                                                                 \
    ;                                                                                                                 \
    _Static_assert(sizeof fields / sizeof *fields <= ST_FIELDS_MAX, "raise ST_FIELDS_MAX");                           \
    static const struct st_def def = {#Name, type_##c, sizeof(self), fields, sizeof fields / sizeof *fields};         \
    return &def;                                                                                                      \
    }
#include "record/statements.def"
#undef STATEMENT
#undef FIRST
#undef FIELD
#undef END

const struct st_def *st_def(enum st_id id) {
    switch (id) {
#define STATEMENT(Name, c)                                                                                            \
    case ST_##Name:                                                                                                  \
        return def_##c();
#define FIRST(t, n, c)
#define FIELD(t, n, c)
#define END(Name, c)
#include "record/statements.def"
#undef STATEMENT
#undef FIRST
#undef FIELD
#undef END
    case ST_COUNT:
        break;
    }
    LOAM_ASSERT(!"a statement id");
    return NULL;
}

bool st_find(enum st_id *id, const char *name) {
    for (int i = 0; i < ST_COUNT; i++)
        if (!strcmp(st_def((enum st_id)i)->name, name)) {
            *id = (enum st_id)i;
            return true;
        }
    return false;
}

static const char *string_of(const void *field) {
    const char *const *p = field;
    return *p ? *p : "";
}

/* One field as an EIP-712 word: what abi.encode gives for the static types, the hash for strings. */
static void word_of(uint8_t out[32], const struct st_field *f, const void *s) {
    const void *p = (const char *)s + f->offset;
    memset(out, 0, 32);
    switch (f->kind) {
    case ST_address:
        memcpy(out + 12, p, 20);
        break;
    case ST_bytes32:
        memcpy(out, p, 32);
        break;
    case ST_uint8:
        out[31] = *(const uint8_t *)p;
        break;
    case ST_uint32:
        put_be32(out + 28, *(const uint32_t *)p);
        break;
    case ST_uint64:
        put_be64(out + 24, *(const uint64_t *)p);
        break;
    case ST_uint256:
    case ST_int256:
        u256_to_be(out, *(const struct u256 *)p);
        break;
    case ST_string:
        keccak256(out, string_of(p), strlen(string_of(p)));
        break;
    }
}

struct hash32 st_type_hash(enum st_id id) {
    const char *t = st_def(id)->type;
    return hash_of(t, strlen(t));
}

struct hash32 st_hash(enum st_id id, const void *s) {
    const struct st_def *d = st_def(id);
    struct hash32 h = st_type_hash(id);
    struct keccak k;
    uint8_t word[32];
    keccak_init(&k);
    keccak_add(&k, h.b, 32);
    for (size_t i = 0; i < d->count; i++) {
        word_of(word, &d->fields[i], s);
        keccak_add(&k, word, 32);
    }
    keccak_end(&k, h.b);
    return h;
}

struct hash32 st_domain(uint64_t chain_id, const struct addr20 *verifying_contract) {
    static const char type[] = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
    uint8_t w[5][32] = {{0}};
    keccak256(w[0], type, sizeof type - 1);
    keccak256(w[1], ST_DOMAIN_NAME, sizeof ST_DOMAIN_NAME - 1);
    keccak256(w[2], ST_DOMAIN_VERSION, sizeof ST_DOMAIN_VERSION - 1);
    put_be64(w[3] + 24, chain_id);
    memcpy(w[4] + 12, verifying_contract->b, 20);
    return hash_of(w, sizeof w);
}

struct hash32 st_digest(const struct hash32 *domain, const struct hash32 *struct_hash) {
    uint8_t b[66] = {0x19, 0x01};
    memcpy(b + 2, domain->b, 32);
    memcpy(b + 34, struct_hash->b, 32);
    return hash_of(b, sizeof b);
}

bool st_is_dynamic(enum st_id id) {
    const struct st_def *d = st_def(id);
    for (size_t i = 0; i < d->count; i++)
        if (d->fields[i].kind == ST_string)
            return true;
    return false;
}

static size_t padded(size_t n) {
    return (n + 31) / 32 * 32;
}

enum loam_status st_encode(struct buf *out, enum st_id id, const void *s, struct err *err) {
    const struct st_def *d = st_def(id);
    size_t tail = d->count * 32;
    enum loam_status st;
    for (size_t i = 0; i < d->count; i++) {
        const struct st_field *f = &d->fields[i];
        uint8_t word[32];
        if (f->kind == ST_string) {
            size_t n = strlen(string_of((const char *)s + f->offset));
            if (n > ST_STRING_MAX)
                return err_set(err, LOAM_ELIMIT, "%s.%s: %zu bytes, at most %d", d->name, f->name, n, ST_STRING_MAX);
            memset(word, 0, 32);
            put_be64(word + 24, tail);
            tail += 32 + padded(n);
        } else {
            word_of(word, f, s);
        }
        if ((st = buf_add(out, word, 32, err)))
            return st;
    }
    for (size_t i = 0; i < d->count; i++) {
        const struct st_field *f = &d->fields[i];
        if (f->kind != ST_string)
            continue;
        static const uint8_t zero[32];
        const char *text = string_of((const char *)s + f->offset);
        size_t n = strlen(text);
        uint8_t word[32] = {0};
        put_be64(word + 24, n);
        if ((st = buf_add(out, word, 32, err)) || (st = buf_add(out, text, n, err)) ||
            (st = buf_add(out, zero, padded(n) - n, err)))
            return st;
    }
    return LOAM_OK;
}

static bool zeros(const uint8_t *p, size_t n) {
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= p[i];
    return !any;
}

enum loam_status st_decode(void *s, char **strings, enum st_id id, const uint8_t *p, size_t n, struct err *err) {
    const struct st_def *d = st_def(id);
    size_t head = d->count * 32, tail = head, chars = 0;
    *strings = NULL;
    memset(s, 0, d->size);
    if (n < head)
        return err_set(err, LOAM_EPARSE, "%s: %zu bytes, at least %zu expected", d->name, n, head);
    /* First pass: every string's place and length, so that one block can hold them all. */
    for (size_t i = 0; i < d->count; i++) {
        if (d->fields[i].kind != ST_string)
            continue;
        const uint8_t *w = p + i * 32;
        if (!zeros(w, 24) || be64(w + 24) != tail || n - tail < 32)
            return err_set(err, LOAM_EPARSE, "%s.%s: bad offset", d->name, d->fields[i].name);
        uint64_t len = be64(p + tail + 24);
        if (!zeros(p + tail, 24) || len > ST_STRING_MAX || padded(len) > n - tail - 32)
            return err_set(err, LOAM_EPARSE, "%s.%s: bad length", d->name, d->fields[i].name);
        const uint8_t *text = p + tail + 32;
        if (memchr(text, 0, len) || !zeros(text + len, padded(len) - len) || !utf8_valid(text, len, NULL))
            return err_set(err, LOAM_EPARSE, "%s.%s: not clean text", d->name, d->fields[i].name);
        tail += 32 + padded(len);
        chars += len + 1;
    }
    if (tail != n)
        return err_set(err, LOAM_EPARSE, "%s: %zu bytes left over", d->name, n - tail);
    char *room = NULL;
    if (chars && !(room = mem_alloc(chars)))
        return err_set(err, LOAM_ENOMEM, "%s: its strings", d->name);
    *strings = room;
    for (size_t i = 0; i < d->count; i++) {
        const struct st_field *f = &d->fields[i];
        const uint8_t *w = p + i * 32;
        void *to = (char *)s + f->offset;
        bool clean = true;
        switch (f->kind) {
        case ST_address:
            clean = zeros(w, 12);
            memcpy(to, w + 12, 20);
            break;
        case ST_bytes32:
            memcpy(to, w, 32);
            break;
        case ST_uint8:
            clean = zeros(w, 31);
            *(uint8_t *)to = w[31];
            break;
        case ST_uint32:
            clean = zeros(w, 28);
            *(uint32_t *)to = be32(w + 28);
            break;
        case ST_uint64:
            clean = zeros(w, 24);
            *(uint64_t *)to = be64(w + 24);
            break;
        case ST_uint256:
        case ST_int256:
            *(struct u256 *)to = u256_from_be(w);
            break;
        case ST_string: {
            const uint8_t *t = p + be64(w + 24);
            size_t len = be64(t + 24);
            memcpy(room, t + 32, len);
            room[len] = 0;
            *(const char **)to = room;
            room += len + 1;
            break;
        }
        }
        if (!clean) {
            mem_free(*strings);
            *strings = NULL;
            memset(s, 0, d->size);
            return err_set(err, LOAM_EPARSE, "%s.%s: not a %s", d->name, f->name, f->type);
        }
    }
    return LOAM_OK;
}

bool st_equal(enum st_id id, const void *a, const void *b) {
    struct hash32 x = st_hash(id, a), y = st_hash(id, b);
    return hash_eq(&x, &y);
}

static enum loam_status json_string(struct buf *out, const char *s, struct err *err) {
    enum loam_status st = buf_byte(out, '"', err);
    for (; !st && *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            st = buf_printf(out, err, "\\%c", c);
        else if (c < 0x20)
            st = buf_printf(out, err, "\\u%04x", c);
        else
            st = buf_byte(out, c, err);
    }
    return st ? st : buf_byte(out, '"', err);
}

enum loam_status st_json(struct buf *out, enum st_id id, const void *s, struct err *err) {
    const struct st_def *d = st_def(id);
    enum loam_status st = buf_byte(out, '{', err);
    for (size_t i = 0; !st && i < d->count; i++) {
        const struct st_field *f = &d->fields[i];
        const void *p = (const char *)s + f->offset;
        char text[HASH_HEX_MAX + U256_DEC_MAX];
        if ((st = buf_printf(out, err, "%s\"%s\":", i ? "," : "", f->name)))
            break;
        switch (f->kind) {
        case ST_address:
            st = buf_printf(out, err, "\"%s\"", addr_hex(text, p));
            break;
        case ST_bytes32:
            st = buf_printf(out, err, "\"%s\"", hash_hex(text, p));
            break;
        case ST_uint8:
            st = buf_printf(out, err, "%u", *(const uint8_t *)p);
            break;
        case ST_uint32:
            st = buf_printf(out, err, "%u", *(const uint32_t *)p);
            break;
        case ST_uint64:
            st = buf_printf(out, err, "%llu", (unsigned long long)*(const uint64_t *)p);
            break;
        case ST_uint256:
            u256_format(text, *(const struct u256 *)p);
            st = buf_printf(out, err, "\"%s\"", text);
            break;
        case ST_int256:
            st = buf_printf(out, err, "\"%s\"", i256_format(text, *(const struct u256 *)p));
            break;
        case ST_string:
            st = json_string(out, string_of(p), err);
            break;
        }
    }
    return st ? st : buf_byte(out, '}', err);
}

enum loam_status st_typed_json(struct buf *out, enum st_id id, const void *s, uint64_t chain_id,
                               const struct addr20 *verifying_contract, struct err *err) {
    const struct st_def *d = st_def(id);
    char addr[ADDR_HEX_MAX];
    enum loam_status st = buf_printf(
        out, err,
        "{\"types\":{\"EIP712Domain\":[{\"name\":\"name\",\"type\":\"string\"},{\"name\":\"version\",\"type\":\"string\"},"
        "{\"name\":\"chainId\",\"type\":\"uint256\"},{\"name\":\"verifyingContract\",\"type\":\"address\"}],\"%s\":[",
        d->name);
    for (size_t i = 0; !st && i < d->count; i++)
        st = buf_printf(out, err, "%s{\"name\":\"%s\",\"type\":\"%s\"}", i ? "," : "", d->fields[i].name, d->fields[i].type);
    if (!st)
        st = buf_printf(out, err,
                        "]},\"primaryType\":\"%s\",\"domain\":{\"name\":\"%s\",\"version\":\"%s\",\"chainId\":%llu,"
                        "\"verifyingContract\":\"%s\"},\"message\":",
                        d->name, ST_DOMAIN_NAME, ST_DOMAIN_VERSION, (unsigned long long)chain_id,
                        addr_hex(addr, verifying_contract));
    if (!st)
        st = st_json(out, id, s, err);
    return st ? st : buf_byte(out, '}', err);
}

struct hash32 commit_contribution(const struct st_contribution *c, const struct hash32 *salt) {
    struct hash32 w[2] = {st_hash(ST_Contribution, c), *salt};
    return hash_of(w, sizeof w);
}

struct hash32 commit_trace(const struct hash32 *trace_root, const struct hash32 *salt) {
    struct hash32 w[2] = {*trace_root, *salt};
    return hash_of(w, sizeof w);
}

struct hash32 commit_verdict(uint64_t chain_id, const struct addr20 *ledger, const struct st_attestation *a) {
    uint8_t w[7][32] = {{0}};
    put_be64(w[0] + 24, chain_id);
    memcpy(w[1] + 12, ledger->b, 20);
    put_be64(w[2] + 24, a->batch);
    put_be64(w[3] + 24, a->validator);
    w[4][31] = a->verdict;
    memcpy(w[5], a->trace_root.b, 32);
    memcpy(w[6], a->salt.b, 32);
    return hash_of(w, sizeof w);
}

struct hash32 commit_text(const struct hash32 *salt, const void *text, size_t n) {
    struct hash32 h;
    struct keccak k;
    keccak_init(&k);
    keccak_add(&k, salt->b, 32);
    keccak_add(&k, text, n);
    keccak_end(&k, h.b);
    return h;
}
