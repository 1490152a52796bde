/* Options: one table of name, type, range, default and text. The config file, the command line, `set`, completion and the
 * manual all read it. Precedence: default < file (DATA/config) < command line (--set name=value) < `set` while running.
 *
 * Values are kept as checked text plus their parsed form. Reading and setting are thread-safe; a string returned by
 * option_str is a copy. */
#ifndef LOAM_BASE_OPTION_H
#define LOAM_BASE_OPTION_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum option_type {
    OPTION_BOOL,   /* true false on off yes no 1 0 */
    OPTION_UINT,   /* decimal, min..max inclusive */
    OPTION_BYTES,  /* decimal with K M G T (powers of 1024); min..max */
    OPTION_REAL,   /* finite decimal; min..max */
    OPTION_COIN,   /* OPEN with up to 18 decimals */
    OPTION_CHOICE, /* one of choices, "a|b|c" */
    OPTION_STRING, /* at most OPTION_TEXT_MAX - 1 bytes of clean UTF-8 */
};

enum option_source { OPTION_DEFAULT, OPTION_FILE, OPTION_ARGUMENT, OPTION_SET };

#define OPTION_TEXT_MAX 1024 /* a list of RPC addresses fits */

struct option_def {
    const char *name; /* "room.word" */
    enum option_type type;
    const char *def;
    double min, max;     /* UINT, BYTES, REAL */
    const char *choices; /* CHOICE */
    const char *unit;    /* "", "s", "bytes", … for the manual */
    const char *text;    /* one sentence */
    bool restart;        /* takes effect at the next start of the node */
};

/* The table, in alphabetical order of names. Static. */
extern const struct option_def option_table[];
extern const size_t option_count;
/* NULL if unknown. */
const struct option_def *option_find(const char *name);

struct options;
enum loam_status options_new(struct options **out, struct err *err) LOAM_MUST_USE;
void options_free(struct options *o);
/* Lines "name = value", "# comment". A missing file is no error. Unknown names and bad values are errors that name the
 * line. Called before options from the command line. */
enum loam_status options_load(struct options *o, const char *path, struct err *err) LOAM_MUST_USE;
/* LOAM_ENOTFOUND unknown name, LOAM_ERANGE / LOAM_EINVAL a bad value (the message says the range). A lower source never
 * overrides a higher one: it is kept beneath it. */
enum loam_status option_put(struct options *o, const char *name, const char *value, enum option_source source,
                            struct err *err) LOAM_MUST_USE;
/* Writes every value that a file or `set` gave to path (atomically, 0600), so that `set` lasts. */
enum loam_status options_save(struct options *o, const char *path, struct err *err) LOAM_MUST_USE;

/* Reading. The name must be in the table with that type (an invariant). */
bool option_bool(struct options *o, const char *name);
uint64_t option_uint(struct options *o, const char *name); /* also BYTES */
double option_real(struct options *o, const char *name);
/* Copies the text (any type) into out; returns out. */
char *option_str(struct options *o, const char *name, char out[OPTION_TEXT_MAX]);
enum option_source option_where(struct options *o, const char *name);
const char *option_source_name(enum option_source s);

#endif
