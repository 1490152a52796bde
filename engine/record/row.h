/* A row: one training example, and what makes two rows the same.
 *
 * A row comes as one line of JSONL and is normalised to a list of (role, content) messages. Its identity is the keccak of
 * its row bytes, so a row keeps its hash through other key orders, escapes, spacing or spellings of the same messages.
 *
 * JSON forms taken (one object a line, RFC 8259, UTF-8 without BOM; nesting at most ROW_DEPTH_MAX):
 *   {"messages":[{"role":"system|user|assistant|text","content":"…"}, …]}
 *   {"prompt":"…","completion":"…"}                  user, assistant
 *   {"prompt":"…","response":"…"}                    user, assistant
 *   {"question":"…","answer":"…"}                    user, assistant
 *   {"instruction":"…","output":"…"}                 user, assistant; a non-empty "input":"…" is put behind the
 *                                                    instruction after two line feeds
 *   {"text":"…"}                                     one message of role text (trained on every token)
 * In the four pair forms a "system":"…" may stand first. Other keys ("id", "source", …) are skipped but must be
 * well-formed; a key given twice, keys of two forms, and a key of the form that is missing or not a string are errors.
 *
 * Normalisation of each content, in this order:
 *   1. JSON escapes are decoded; \uD800–\uDFFF only as pairs; U+0000 is refused.
 *   2. CR LF becomes LF, then each CR becomes LF.
 *   3. U+0001–U+0008, U+000B, U+000C, U+000E–U+001F and U+007F are refused.
 *   4. spaces, tabs and LFs at the start and the end are removed.
 *   5. an empty content is refused.
 * Nothing else is touched: no Unicode normalisation form is applied (two spellings of é are two rows).
 * Order of roles: an optional system, then user and assistant by turns, ending with assistant; or one text alone.
 *
 * Row bytes:
 *   4  "row1"
 *   4  count of messages, big-endian
 *   then each message:
 *   1  role: 1 system, 2 user, 3 assistant, 4 text
 *   4  length of content in bytes, big-endian
 *   n  content, UTF-8
 * Row hash = keccak-256(row bytes). Leaf of a contribution tree = row hash (32) ‖ account, big-endian (8).
 *
 * The canonical JSON line is {"messages":[{"role":"…","content":"…"},…]} without spaces; \" \\ \n \t are escaped so, other
 * bytes stand as they are. Parsing it gives the same row. */
#ifndef LOAM_RECORD_ROW_H
#define LOAM_RECORD_ROW_H

#include "base/bytes.h"
#include "record/types.h"

#define ROW_BYTES_MAX 65536   /* row bytes: an example longer than any context we train with is a mistake */
#define ROW_LINE_MAX 262144   /* the JSON line: every byte escaped as \u00xx is six, and other keys may stand beside */
#define ROW_MESSAGES_MAX 64
#define ROW_DEPTH_MAX 16
#define ROW_LEAF_BYTES 40

enum row_role { ROW_SYSTEM = 1, ROW_USER = 2, ROW_ASSISTANT = 3, ROW_TEXT = 4 };

struct row_message {
    enum row_role role;
    const char *content; /* not NUL-terminated; points into the row's bytes */
    uint32_t len;
};

/* Owns bytes. messages point into them and are valid until row_clear. */
struct row {
    uint8_t *bytes;
    size_t len;
    struct row_message messages[ROW_MESSAGES_MAX];
    uint32_t count;
    struct hash32 hash;
};

/* From one JSON line (an LF or CR LF at its end is allowed). LOAM_EPARSE says what and at which byte; LOAM_ELIMIT past a
 * limit above. On failure *out is cleared. */
enum loam_status row_parse(struct row *out, const char *line, size_t n, struct err *err) LOAM_MUST_USE;
/* From row bytes; every rule above is checked. */
enum loam_status row_decode(struct row *out, const uint8_t *p, size_t n, struct err *err) LOAM_MUST_USE;
void row_clear(struct row *r);
/* Appends the canonical JSON line, without an LF. */
enum loam_status row_json(struct buf *out, const struct row *r, struct err *err) LOAM_MUST_USE;
const char *row_role_name(enum row_role r); /* "user"; static */
void row_leaf(uint8_t out[ROW_LEAF_BYTES], const struct hash32 *row_hash, uint64_t account);

#endif
