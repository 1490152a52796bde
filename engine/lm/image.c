#include "lm/image.h"

#include "base/clock.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "base/text.h"
#include "gpu/ops.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/banned.h"

static const char image_magic[16] = "loam.packed.1\n", known_magic[16] = "loam.known.1\n";

#define ROOM_LEFT ((uint64_t)64 << 20) /* a cache does not take the disk's last bytes */
#define KNOWN_PATH_MAX 4096u
#define KNOWN_HEAD 92u /* magic, ident, base, time, length of the path */
#define SWEEP_MAX 1024u /* files of a folder of images that are looked at */
#define YOUNG_S 3600

/* Fields of the header. */
enum { AT_VERSION = 16, AT_ORDER = 20, AT_BASE = 24, AT_MATRICES = 56, AT_FLOATS = 64, AT_LENGTH = 72, AT_SUM = 80, AT_CHECK = 88, AT_END = 120 };

static const uint32_t order = 0x01020304; /* stored as the machine has it */

/* Eight chains over the body's words: each step is a bijection of the chain, so that one changed word is always seen; at the memory's
 * speed, which the first token needs to read the weights anyway. n is a multiple of 64. */
static void sum_add(uint64_t h[8], const void *p, uint64_t n) {
    const unsigned char *b = p;
    for (uint64_t at = 0; at < n; at += 64)
        for (int i = 0; i < 8; i++) {
            uint64_t x;
            memcpy(&x, b + at + 8 * i, 8);
            h[i] = (h[i] ^ x) * 0x9e3779b97f4a7c15u;
            h[i] ^= h[i] >> 32;
        }
}

static uint64_t sum_of(const void *matrices, uint64_t n, const void *floats, uint64_t n_floats) {
    uint64_t h[8] = {1, 2, 3, 4, 5, 6, 7, 8}, s = 0;
    sum_add(h, matrices, n);
    sum_add(h, floats, n_floats);
    for (int i = 0; i < 8; i++)
        s = (s ^ h[i]) * 0x9e3779b97f4a7c15u;
    return s;
}

static void head(uint8_t out[IMAGE_HEADER], const struct image_want *w, uint64_t sum) {
    memset(out, 0, IMAGE_HEADER);
    memcpy(out, image_magic, sizeof image_magic);
    put_le32(out + AT_VERSION, GPU_PACK_VERSION);
    memcpy(out + AT_ORDER, &order, sizeof order);
    memcpy(out + AT_BASE, w->base, 32);
    put_le64(out + AT_MATRICES, w->matrices);
    put_le64(out + AT_FLOATS, w->floats);
    put_le64(out + AT_LENGTH, IMAGE_HEADER + w->matrices + w->floats);
    put_le64(out + AT_SUM, sum);
    keccak256(out + AT_CHECK, out, AT_CHECK);
}

char *image_path(const char *dir, const uint8_t base[32]) {
    char hex[65];
    hex_encode(hex, base, 32);
    return mem_printf("%s/%s.%u.packed", dir, hex, GPU_PACK_VERSION);
}

/* What is wrong with the image, or NULL. */
static const char *fault(const struct file_map *m, const struct image_want *w) {
    uint8_t want[IMAGE_HEADER];
    if (m->len < IMAGE_HEADER)
        return "shorter than its header";
    head(want, w, le64(m->data + AT_SUM));
    if (memcmp(m->data, want, AT_VERSION))
        return "not a packed image";
    if (memcmp(m->data + AT_VERSION, want + AT_VERSION, AT_BASE - AT_VERSION))
        return "another version of the layout, or another byte order";
    if (memcmp(m->data + AT_BASE, want + AT_BASE, 32))
        return "another model's";
    if (memcmp(m->data, want, IMAGE_HEADER) || m->len != IMAGE_HEADER + w->matrices + w->floats)
        return "its header or its length is not right";
    const unsigned char *body = m->data + IMAGE_HEADER;
    return sum_of(body, w->matrices, body + w->matrices, w->floats) == le64(m->data + AT_SUM) ? NULL : "its content is damaged";
}

enum loam_status image_open(struct file_map *out, const struct image_want *w, struct err *err) {
    char *path = image_path(w->dir, w->base);
    enum loam_status s = path ? file_map(out, path, err) : err_set(err, LOAM_ENOMEM, "no memory for a path");
    if (!s) {
        file_map_populate(out);
        const char *what = fault(out, w);
        if (what) {
            char *bad = mem_strdup(path);
            size_t n = bad ? strlen(bad) : 0;
            if (bad) /* BASE.VERSION.packed -> BASE.VERSION.bad */
                memcpy(bad + n - strlen("packed"), "bad", sizeof "bad");
            if (!bad || rename(path, bad))
                (void)!unlink(path);
            mem_free(bad);
            file_unmap(out);
            s = err_set(err, LOAM_EHASH, "the packed image %s was set aside: %s", path, what);
        }
    }
    mem_free(path);
    return s;
}

enum loam_status image_make(const struct image_want *w, const void *matrices, const void *floats, struct err *err) {
    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER; /* the temporary name is the process's */
    uint8_t header[IMAGE_HEADER];
    struct file_out f = {.fd = -1};
    struct statvfs v;
    char *path = image_path(w->dir, w->base);
    pthread_mutex_lock(&one);
    enum loam_status s = path ? file_mkdirs(w->dir, err) : err_set(err, LOAM_ENOMEM, "no memory for a path");
    uint64_t need = IMAGE_HEADER + w->matrices + w->floats;
    if (!s && !statvfs(w->dir, &v) && (uint64_t)v.f_bavail * v.f_frsize < need + ROOM_LEFT)
        s = err_set(err, LOAM_ENOSPACE, "%s: no room for a packed image of %llu MB", w->dir, (unsigned long long)(need >> 20));
    if (!s)
        s = file_out_begin(&f, path, 0600, err);
    if (!s) {
        head(header, w, sum_of(matrices, w->matrices, floats, w->floats));
        s = file_out_add(&f, header, sizeof header, err);
        if (!s)
            s = file_out_add(&f, matrices, w->matrices, err);
        if (!s)
            s = file_out_add(&f, floats, w->floats, err);
        if (!s)
            s = file_out_end(&f, err);
        else
            file_out_drop(&f);
    }
    pthread_mutex_unlock(&one);
    mem_free(path);
    return s;
}

/* ---- remembered hashes ---- */

/* The path without links, so that one model is remembered once. */
static bool real(char out[KNOWN_PATH_MAX], const char *path) {
    char *r = realpath(path, NULL);
    bool ok = r && strlen(r) < KNOWN_PATH_MAX;
    if (ok)
        memcpy(out, r, strlen(r) + 1);
    free(r); /* the C library's */
    return ok;
}

static char *known_path(const char *dir, const char *path) {
    uint8_t h[32];
    char hex[33];
    keccak256(h, path, strlen(path));
    hex_encode(hex, h, 16);
    return mem_printf("%s/%s.known", dir, hex);
}

struct known {
    uint8_t ident[32], base[32];
    uint64_t read_ms;
    char path[KNOWN_PATH_MAX];
};

static bool known_read(struct known *k, const char *file) {
    struct buf b = BUF_INIT(KNOWN_HEAD + KNOWN_PATH_MAX + 32);
    struct err e;
    uint8_t check[32];
    bool ok = !file_read(&b, file, &e) && b.len > KNOWN_HEAD + 32 && !memcmp(b.data, known_magic, sizeof known_magic);
    uint32_t n = ok ? le32(b.data + 88) : 0;
    ok = ok && n < KNOWN_PATH_MAX && b.len == KNOWN_HEAD + n + 32;
    if (ok) {
        keccak256(check, b.data, b.len - 32);
        ok = !memcmp(check, b.data + b.len - 32, 32);
    }
    if (ok) {
        memcpy(k->ident, b.data + 16, 32);
        memcpy(k->base, b.data + 48, 32);
        k->read_ms = le64(b.data + 80);
        memcpy(k->path, b.data + KNOWN_HEAD, n);
        k->path[n] = 0;
    }
    buf_clear(&b);
    return ok;
}

bool image_known(uint8_t base[32], const char *dir, const char *path, const uint8_t ident[32], uint64_t changed_ms) {
    struct known k;
    char where[KNOWN_PATH_MAX];
    char *file = real(where, path) ? known_path(dir, where) : NULL;
    bool ok = file && known_read(&k, file) && !strcmp(k.path, where) && !memcmp(k.ident, ident, 32) && k.read_ms >= changed_ms + 1000;
    if (ok)
        memcpy(base, k.base, 32);
    mem_free(file);
    return ok;
}

void image_remember(const char *dir, const char *path, const uint8_t ident[32], const uint8_t base[32], uint64_t read_ms) {
    char where[KNOWN_PATH_MAX];
    uint8_t b[KNOWN_HEAD + KNOWN_PATH_MAX + 32];
    struct err e;
    if (!real(where, path) || file_mkdirs(dir, &e))
        return;
    uint32_t n = (uint32_t)strlen(where);
    memcpy(b, known_magic, 16);
    memcpy(b + 16, ident, 32);
    memcpy(b + 48, base, 32);
    put_le64(b + 80, read_ms);
    put_le32(b + 88, n);
    memcpy(b + KNOWN_HEAD, where, n);
    keccak256(b + KNOWN_HEAD + n, b, KNOWN_HEAD + n);
    char *file = known_path(dir, where);
    if (file)
        (void)!file_write(file, b, KNOWN_HEAD + n + 32, 0600, &e);
    mem_free(file);
}

/* ---- sweeping ---- */

static bool ends(const char *name, const char *with) {
    size_t n = strlen(name), m = strlen(with);
    return n >= m && !strcmp(name + n - m, with);
}

void lm_images_sweep(const char *dir) {
    uint8_t(*live)[32] = mem_array(SWEEP_MAX, 32);
    size_t n_live = 0;
    for (int round = 0; live && round < 2; round++) { /* first what is known, then images */
        DIR *d = opendir(dir);
        size_t seen = 0;
        for (struct dirent *e; d && (e = readdir(d)) && seen < SWEEP_MAX; seen++) {
            char *path = mem_printf("%s/%s", dir, e->d_name);
            struct stat st;
            bool gone = false;
            if (path && !lstat(path, &st) && S_ISREG(st.st_mode)) {
                bool young = (uint64_t)st.st_mtime + YOUNG_S > clock_unix_ms() / 1000;
                if (!round && ends(e->d_name, ".known")) {
                    struct known k;
                    gone = !known_read(&k, path) || !file_exists(k.path);
                    if (!gone)
                        memcpy(live[n_live++], k.base, 32);
                } else if (round && ends(e->d_name, ".packed")) {
                    gone = true;
                    for (size_t i = 0; gone && i < n_live; i++) {
                        char *its = image_path(dir, live[i]);
                        gone = its && strcmp(its, path) != 0;
                        mem_free(its);
                    }
                } else if (round) {
                    gone = ends(e->d_name, ".bad") || (strstr(e->d_name, ".tmp-") && !young);
                }
                if (gone)
                    (void)!unlink(path);
            }
            mem_free(path);
        }
        if (d)
            closedir(d);
    }
    mem_free(live);
}
