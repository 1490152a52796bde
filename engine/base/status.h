/* Status codes and the error message that goes with them.
 *
 * Every function that can fail returns enum loam_status; 0 is good and the result must be used. Its last argument is
 * `struct err *err`, which may be NULL. The message says what, where, the value and, where it helps, a hint.
 * Argument order everywhere: context, outputs, inputs (a length after its array), err. */
#ifndef LOAM_BASE_STATUS_H
#define LOAM_BASE_STATUS_H

#include <stdarg.h>
#include <stddef.h>

#define LOAM_MUST_USE __attribute__((warn_unused_result))
#define LOAM_PRINTF(a, b) __attribute__((format(printf, a, b)))

enum loam_status {
#define S(name, number, text, remedy, exit, rpc) name = number,
#include "base/status.def"
#undef S
};

#define ERR_TEXT_MAX 512

/* A fixed buffer: reporting an error never allocates. */
struct err {
    enum loam_status code;
    char text[ERR_TEXT_MAX];
};

/* Fills *err (unless NULL) and returns code, so that `return err_set(err, LOAM_EINVAL, "...")` reads in one line.
 * Text longer than the buffer is cut. */
enum loam_status err_set(struct err *err, enum loam_status code, const char *fmt, ...) LOAM_PRINTF(3, 4);
/* The same, with ": strerror(errno)" appended. ENOSPC, EDQUOT and EFBIG become LOAM_ENOSPACE,
 * ENOMEM LOAM_ENOMEM, whatever code says. */
enum loam_status err_errno(struct err *err, enum loam_status code, const char *fmt, ...) LOAM_PRINTF(3, 4);
/* Puts "what: " before the message, for context as an error travels up; a file that the message names already is not named twice. Returns err's code (LOAM_EINTERNAL if err is NULL). */
enum loam_status err_prefix(struct err *err, enum loam_status code, const char *fmt, ...) LOAM_PRINTF(3, 4);
void err_clear(struct err *err);

/* The table. Unknown numbers answer as LOAM_EINTERNAL. Returned strings are static. */
const char *status_name(enum loam_status s);
const char *status_text(enum loam_status s);
const char *status_remedy(enum loam_status s);
int status_exit(enum loam_status s);
int status_rpc(enum loam_status s);
/* From a JSON-RPC number back to the code; LOAM_EINTERNAL where unknown. */
enum loam_status status_from_rpc(int rpc);

/* Programming mistakes abort through one hook (the console sets it to restore the terminal first). */
extern void (*loam_abort_hook)(void);
_Noreturn void loam_abort(const char *file, int line, const char *what);
#define LOAM_ASSERT(c) ((c) ? (void)0 : loam_abort(__FILE__, __LINE__, #c))

#endif
