/* GGUF v2 and v3 containers: key/value metadata and a table of tensors, little-endian, memory-mapped.
 *
 * Layout (all integers little-endian): "GGUF", u32 version, u64 tensor count, u64 pair count; pairs: string key, u32
 * type, value; tensors: string name, u32 dimensions n, u64 ne[n], u32 type, u64 offset; then padding to
 * general.alignment (default 32) and the tensor bytes. A string is u64 length and bytes. An array is u32 type, u64
 * count, values. ne[0] is the fastest dimension.
 *
 * The file is not trusted: every count, length, type, product and offset is checked against the file's size before it is
 * used; a refusal names the field and its byte offset. Nothing is copied but the table of pairs and tensors. */
#ifndef LOAM_LM_GGUF_H
#define LOAM_LM_GGUF_H

#include "base/file.h"

#include <stdint.h>

#define GGUF_PAIRS_MAX 65536u
#define GGUF_TENSORS_MAX 65536u
#define GGUF_NAME_MAX 127u
#define GGUF_DIMS_MAX 4

enum gguf_kind {
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL,
    GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64
};

struct gguf_str {
    const char *s; /* in the map, not terminated */
    uint64_t len;
};

struct gguf_pair {
    struct gguf_str key;
    enum gguf_kind kind;
    enum gguf_kind of;         /* element kind of an array */
    uint64_t n;                /* elements of an array; 1 otherwise */
    const unsigned char *data; /* the value's (first) bytes, unaligned; for GGUF_STRING the u64 length */
};

struct gguf_tensor {
    char name[GGUF_NAME_MAX + 1];
    uint32_t type;                  /* numbering of the format: enum gpu_type of gpu/ops.h */
    uint32_t dims;                  /* 1 to 4 */
    uint64_t ne[GGUF_DIMS_MAX];     /* unused ones are 1 */
    uint64_t offset;                /* from the start of the file */
    uint64_t bytes;
    const unsigned char *data;      /* in the map */
};

struct gguf {
    struct file_map map; /* owned by gguf_open; empty after gguf_parse */
    uint32_t version;
    uint64_t alignment, data_start;
    struct gguf_pair *pairs;
    struct gguf_tensor *tensors;
    uint64_t n_pairs, n_tensors;
};

/* Maps path and parses it. LOAM_EIO, LOAM_EPARSE (malformed, offset named), LOAM_EUNSUPPORTED (version, big-endian file,
 * tensor type), LOAM_ELIMIT, LOAM_ENOMEM. */
enum loam_status gguf_open(struct gguf *g, const char *path, struct err *err) LOAM_MUST_USE;
/* The same on bytes the caller keeps until gguf_clear. */
enum loam_status gguf_parse(struct gguf *g, const void *data, size_t n, struct err *err) LOAM_MUST_USE;
void gguf_clear(struct gguf *g);

const struct gguf_pair *gguf_find(const struct gguf *g, const char *key);
const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name);
/* Typed reads. Absent: *out = def. Wrong kind or out of range of the result: LOAM_EPARSE naming the key. Integers may be
 * stored in any integer kind, floats in F32 or F64. */
enum loam_status gguf_u32(uint32_t *out, const struct gguf *g, const char *key, uint32_t def, struct err *err) LOAM_MUST_USE;
enum loam_status gguf_f64(double *out, const struct gguf *g, const char *key, double def, struct err *err) LOAM_MUST_USE;
enum loam_status gguf_bool(bool *out, const struct gguf *g, const char *key, bool def, struct err *err) LOAM_MUST_USE;
/* {NULL, 0} where absent. */
enum loam_status gguf_string(struct gguf_str *out, const struct gguf *g, const char *key, struct err *err) LOAM_MUST_USE;
bool gguf_str_is(struct gguf_str s, const char *text);
/* Walks an array of strings: *at starts as pair->data and moves on; the count was checked when parsing. */
struct gguf_str gguf_next_string(const unsigned char **at);
/* Element i of an integer or float array as int64 or double; the caller checks i < n and pair->of. */
int64_t gguf_int_at(const struct gguf_pair *p, uint64_t i);
double gguf_num_at(const struct gguf_pair *p, uint64_t i);

/* ---- writing (tests, model export) ---- */
struct gguf_writer;
enum loam_status gguf_writer_new(struct gguf_writer **out, struct err *err) LOAM_MUST_USE;
void gguf_writer_free(struct gguf_writer *w);
enum loam_status gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v, struct err *err) LOAM_MUST_USE;
enum loam_status gguf_put_f32(struct gguf_writer *w, const char *key, float v, struct err *err) LOAM_MUST_USE;
enum loam_status gguf_put_bool(struct gguf_writer *w, const char *key, bool v, struct err *err) LOAM_MUST_USE;
enum loam_status gguf_put_string(struct gguf_writer *w, const char *key, const char *v, struct err *err) LOAM_MUST_USE;
enum loam_status gguf_put_strings(struct gguf_writer *w, const char *key, const struct gguf_str *v, uint64_t n, struct err *err) LOAM_MUST_USE;
enum loam_status gguf_put_i32s(struct gguf_writer *w, const char *key, const int32_t *v, uint64_t n, struct err *err) LOAM_MUST_USE;
enum loam_status gguf_put_f32s(struct gguf_writer *w, const char *key, const float *v, uint64_t n, struct err *err) LOAM_MUST_USE;
/* Copies another file's pair as it is. */
enum loam_status gguf_put_pair(struct gguf_writer *w, const struct gguf_pair *p, struct err *err) LOAM_MUST_USE;
/* data (bytes long) is borrowed until gguf_write. */
enum loam_status gguf_put_tensor(struct gguf_writer *w, const char *name, uint32_t type, const uint64_t *ne, uint32_t dims,
                                 const void *data, uint64_t bytes, struct err *err) LOAM_MUST_USE;
/* Writes version 3 atomically beside and over path. */
enum loam_status gguf_write(struct gguf_writer *w, const char *path, struct err *err) LOAM_MUST_USE;

#endif
