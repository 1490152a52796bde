#include "base/entropy.h"

#include <errno.h>
#include <sys/random.h>

static enum loam_status (*injected)(void *, size_t, struct err *);

void entropy_set(enum loam_status (*fill)(void *, size_t, struct err *)) {
    injected = fill;
}

enum loam_status entropy_fill(void *out, size_t n, struct err *err) {
    if (injected)
        return injected(out, n, err);
    uint8_t *p = out;
    while (n) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(err, LOAM_EIO, "getrandom");
        p += got;
        n -= (size_t)got;
    }
    return LOAM_OK;
}
