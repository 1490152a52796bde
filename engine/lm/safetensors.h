/* safetensors files: u64 little-endian length n of the header, n bytes of JSON {"name": {"dtype", "shape", "data_offsets":
 * [from, to)}, …, "__metadata__"?}, then the data. Memory-mapped; the file is not trusted: lengths, products and offsets are
 * checked against the file, data may not overlap the header, and every tensor's bytes are exactly its shape's. */
#ifndef LOAM_LM_SAFETENSORS_H
#define LOAM_LM_SAFETENSORS_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define ST_HEADER_MAX (64u << 20)
#define ST_NAME_MAX 200
#define ST_DIMS_MAX 2 /* matrices and vectors are all that the models here have */

struct st_tensor {
    char name[ST_NAME_MAX + 1];
    uint32_t type;       /* GPU_F32, GPU_F16, GPU_BF16 */
    uint32_t rows, cols; /* a vector has rows 1 */
    const unsigned char *data;
    uint64_t bytes;
};

/* Appends the tensors of one file's bytes (kept by the caller) to *list (mem_resize; [*n]). LOAM_EPARSE, LOAM_EUNSUPPORTED
 * (dtype, dimensions), LOAM_ELIMIT, LOAM_ENOMEM. */
enum loam_status st_parse(struct st_tensor **list, size_t *n, const void *data, size_t len, struct err *err) LOAM_MUST_USE;

#endif
