/* A model as a GGUF file in another format of weights: `model quantize`. */
#ifndef LOAM_LM_QUANTIZE_H
#define LOAM_LM_QUANTIZE_H

#include "base/status.h"

#include <stdint.h>

/* Writes the model of `from`, a GGUF file or a folder of safetensors, to `to` (atomically) with every matrix whose rows are whole
 * blocks in `type` (gpu_quantise's types; head_type for the embedding and the head); vectors stay (a folder's become fp32).
 * Everything else of a file is copied; a folder's configuration, tokenizer and template are written as export.h says. The result
 * is opened as a check. Memory: the size of the result. LOAM_EUNSUPPORTED for other types. */
enum loam_status lm_quantize(const char *from, const char *to, uint32_t type, uint32_t head_type, struct err *err) LOAM_MUST_USE;
/* "Q4_0" and the like to the number, ignoring case; LOAM_EINVAL lists what is known. */
enum loam_status lm_type_parse(uint32_t *type, const char *name, struct err *err) LOAM_MUST_USE;

#endif
