/* Values of topics as text for people, and access to JSON that never fails: a missing or wrong field reads as nothing. */
#ifndef LOAM_TUI_FMT_H
#define LOAM_TUI_FMT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FMT_MAX 512

/* A dotted path into objects ("sync.at"); NULL if absent or null. */
const json_t *jget(const json_t *o, const char *path);
const char *jstr(const json_t *o, const char *path);           /* "" if no string */
/* The same for strings and whole numbers (ids are one or the other). Returns out. */
const char *jtext(const json_t *o, const char *path, char *out, size_t cap);
/* "name", else "account 7". Returns out. */
const char *jwho(const json_t *o, char *out, size_t cap);
/* The names that jwho and fmt_account know accounts by: {ACCOUNT: name}, borrowed until the next call; NULL: none. */
void fmt_names(const json_t *names);
const char *fmt_account(char *out, size_t cap, int64_t account); /* its name, else "account 7"; returns out */
bool fmt_is_mine(int64_t account);                               /* a key of this node signs for it */
double jnum(const json_t *o, const char *path, double none);   /* integer or real */
int64_t jint(const json_t *o, const char *path, int64_t none);
bool jbool(const json_t *o, const char *path);
size_t jcount(const json_t *o, const char *path);              /* elements of an array */

/* Decimal wei as OPEN: "125000000000000000" is "0.125". What is no decimal comes back as "?". */
void fmt_wei(char *out, size_t cap, const char *wei);
void fmt_wei_short(char *out, size_t cap, const char *wei);     /* the same, cut to six decimals */
void fmt_bytes(char *out, size_t cap, double bytes);           /* "1.4 GiB" */
void fmt_count(char *out, size_t cap, double n);               /* "12 345" up to a million, "1.2 M" above */
void fmt_seconds(char *out, size_t cap, double s);             /* "1h02m", "3m07s", "12s", "0.4s" */
void fmt_clock(char *out, size_t cap, int64_t unix_ms);        /* local "22:44:01" */
void fmt_date(char *out, size_t cap, int64_t unix_ms);         /* local "11-23 22:44" */
void fmt_hash(char *out, size_t cap, const char *hex);         /* "0x1234…cdef" in ASCII: "0x1234..cdef" */

#endif
