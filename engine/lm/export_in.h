/* Inside of export: the JSON files of a Hugging Face folder. */
#ifndef LOAM_LM_EXPORT_IN_H
#define LOAM_LM_EXPORT_IN_H

#include "base/bytes.h"
#include "lm/model.h"
#include "lm/tokenizer.h"

#define EXPORT_TEXT_MAX ((size_t)256 << 20)

/* config.json. LOAM_EUNSUPPORTED names what it cannot say. */
enum loam_status export_config(struct buf *b, const struct lm_model *m, uint32_t type, struct err *err);
/* tokenizer.json of a tokenizer that came from a GGUF file. */
enum loam_status export_tokenizer(struct buf *b, const struct lm_tokenizer *t, struct err *err);
/* tokenizer_config.json; the chat template is taken from the GGUF file `from`. */
enum loam_status export_tokenizer_config(struct buf *b, const struct lm_model *m, const char *from, struct err *err);
enum loam_status export_generation_config(struct buf *b, const struct lm_tokenizer *t, struct err *err);

#endif
