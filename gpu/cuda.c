#include "gpu/cuda.h"

#include "base/mem.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/banned.h"

#ifndef PKGLIBDIR
#define PKGLIBDIR "/usr/local/lib/loam"
#endif
#define MODULE_NAME "loam-cuda.so"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const struct cuda_module *module; /* never unloaded: CUDA's state lives in it */

/* Beside the running program. NULL: not known. */
static char *beside(void) {
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0)
        return NULL;
    path[n] = 0;
    char *slash = strrchr(path, '/');
    if (!slash)
        return NULL;
    return mem_printf("%.*s/%s", (int)(slash - path), path, MODULE_NAME);
}

static enum loam_status load(struct err *err) {
    const char *named = getenv("LOAM_CUDA_MODULE");
    char *near = beside();
    const char *paths[] = {named ? named : near, named ? NULL : PKGLIBDIR "/" MODULE_NAME};
    void *h = NULL;
    const char *why = NULL;
    for (int i = 0; i < 2 && !h; i++)
        if (paths[i] && (named || !access(paths[i], F_OK))) {
            h = dlopen(paths[i], RTLD_NOW | RTLD_LOCAL);
            why = h ? NULL : dlerror();
        }
    enum loam_status s = LOAM_OK;
    if (!h && why)
        s = err_set(err, LOAM_ENOTBUILT, "the CUDA module does not load: %s", why);
    else if (!h)
        s = err_set(err, LOAM_ENOTBUILT, "%s is not installed; it is built where configure finds nvcc", MODULE_NAME);
    mem_free(near);
    if (s)
        return s;
    const struct cuda_module *m = dlsym(h, "loam_cuda_module");
    if (!m || m->abi != CUDA_ABI) {
        s = err_set(err, LOAM_EVERSION, "%s belongs to another build of loam (%d, this one needs %d)", MODULE_NAME, m ? m->abi : 0,
                    CUDA_ABI);
        dlclose(h);
        return s;
    }
    module = m;
    return LOAM_OK;
}

static enum loam_status need(struct err *err) {
    pthread_mutex_lock(&lock);
    enum loam_status s = module ? LOAM_OK : load(err);
    pthread_mutex_unlock(&lock);
    return s;
}

enum loam_status cuda_list(struct cuda_device *out, int *n, struct err *err) {
    *n = 0;
    enum loam_status s = need(err);
    return s ? s : module->list(out, n, err);
}

enum loam_status cuda_open(struct gpu **out, int device, struct err *err) {
    *out = NULL;
    enum loam_status s = need(err);
    return s ? s : module->open(out, device, err);
}

enum loam_status fast_ops(const struct fast_ops **out, struct err *err) {
    *out = NULL;
    enum loam_status s = need(err);
    if (!s && !module->fast)
        s = err_set(err, LOAM_ENOTBUILT, "this CUDA module has no fast mode");
    if (!s)
        *out = module->fast;
    return s;
}
