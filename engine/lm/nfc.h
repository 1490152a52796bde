/* Unicode normalization form C (UAX 15), for tokenizers that ask for it (Qwen). Source of the tables: contrib/gen_nfc.py. */
#ifndef LOAM_LM_NFC_H
#define LOAM_LM_NFC_H

#include "base/bytes.h"

#include <stdbool.h>

/* True where well-formed UTF-8 text surely is in NFC: no code point from U+0300 upwards but those of common scripts that
 * neither combine nor decompose. False says nothing. */
bool nfc_quick(const char *s, size_t n);
/* Appends the NFC of well-formed UTF-8. */
enum loam_status nfc_text(struct buf *out, const char *s, size_t n, struct err *err) LOAM_MUST_USE;

#endif
