/* A GGUF file in another format of weights: `model quantize`. */
#ifndef LOAM_LM_QUANTIZE_H
#define LOAM_LM_QUANTIZE_H

#include "base/status.h"

#include <stdint.h>

/* Writes from's model to `to` (atomically) with every matrix whose rows are whole blocks in `type` (gpu_quantise's types;
 * head_type for the embedding and the head); vectors stay. Everything else of the file is copied. The result is opened as a
 * check. Memory: the size of the result. LOAM_EUNSUPPORTED for other types. */
enum loam_status lm_quantize(const char *from, const char *to, uint32_t type, uint32_t head_type, struct err *err) LOAM_MUST_USE;
/* "Q4_0" and the like to the number, ignoring case; LOAM_EINVAL lists what is known. */
enum loam_status lm_type_parse(uint32_t *type, const char *name, struct err *err) LOAM_MUST_USE;

#endif
