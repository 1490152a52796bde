#include "base/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct row {
    enum loam_status code;
    const char *name, *text, *remedy;
    int exit, rpc;
} table[] = {
#define S(name, number, text, remedy, exit, rpc) {name, #name, text, remedy, exit, rpc},
#include "base/status.def"
#undef S
};
#define NROWS (sizeof table / sizeof *table)

static const struct row *find(enum loam_status s) {
    for (size_t i = 0; i < NROWS; i++)
        if (table[i].code == s)
            return &table[i];
    return find(LOAM_EINTERNAL);
}

const char *status_name(enum loam_status s) {
    return find(s)->name;
}
const char *status_text(enum loam_status s) {
    return find(s)->text;
}
const char *status_remedy(enum loam_status s) {
    return find(s)->remedy;
}
int status_exit(enum loam_status s) {
    return find(s)->exit;
}
int status_rpc(enum loam_status s) {
    return find(s)->rpc;
}
enum loam_status status_from_rpc(int rpc) {
    for (size_t i = 0; i < NROWS; i++)
        if (table[i].rpc == rpc)
            return table[i].code;
    return LOAM_EINTERNAL;
}

enum loam_status err_set(struct err *err, enum loam_status code, const char *fmt, ...) {
    if (err) {
        /* Format apart first: callers may pass err->text itself as an argument. */
        char tmp[ERR_TEXT_MAX];
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(tmp, sizeof tmp, fmt, ap);
        va_end(ap);
        err->code = code;
        memcpy(err->text, tmp, sizeof tmp);
    }
    return code;
}

enum loam_status err_errno(struct err *err, enum loam_status code, const char *fmt, ...) {
    int e = errno;
    if (e == ENOSPC || e == EDQUOT || e == EFBIG)
        code = LOAM_ENOSPACE;
    else if (e == ENOMEM)
        code = LOAM_ENOMEM;
    if (err) {
        char tmp[ERR_TEXT_MAX];
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(tmp, sizeof tmp, fmt, ap);
        va_end(ap);
        if (n > 0 && (size_t)n < sizeof tmp)
            snprintf(tmp + n, sizeof tmp - (size_t)n, ": %s", strerror(e));
        err->code = code;
        memcpy(err->text, tmp, sizeof tmp);
    }
    return code;
}

enum loam_status err_prefix(struct err *err, enum loam_status code, const char *fmt, ...) {
    if (err) {
        char tmp[ERR_TEXT_MAX];
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(tmp, sizeof tmp, fmt, ap);
        va_end(ap);
        err->code = code;
        if (strchr(tmp, '/') && strstr(err->text, tmp)) /* a file that the message names already */
            return code;
        if (n >= 0 && (size_t)n < sizeof tmp)
            snprintf(tmp + n, sizeof tmp - (size_t)n, ": %s", err->text);
        memcpy(err->text, tmp, sizeof tmp);
    }
    return code;
}

void err_clear(struct err *err) {
    if (err) {
        err->code = LOAM_OK;
        err->text[0] = 0;
    }
}

void (*loam_abort_hook)(void);

_Noreturn void loam_abort(const char *file, int line, const char *what) {
    if (loam_abort_hook)
        loam_abort_hook();
    fprintf(stderr, "loam: broken invariant at %s:%d: %s\n", file, line, what);
    abort();
}
