#include "store/blob.h"

#include "base/entropy.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/banned.h"

struct blobs {
    char *dir;
};

static enum loam_status no_memory(struct err *err) {
    return err_set(err, LOAM_ENOMEM, "blobs: a path");
}

char *blob_path(struct blobs *b, const struct hash32 *h) {
    char hex[65];
    hex_encode(hex, h->b, 32);
    return mem_printf("%s/%.2s/%s", b->dir, hex, hex + 2);
}

enum loam_status blobs_open(struct blobs **out, const char *dir, struct err *err) {
    struct blobs *b = mem_zalloc(sizeof *b);
    char *tmp = mem_printf("%s/tmp", dir);
    enum loam_status st = LOAM_OK;
    if (!b || !tmp || !(b->dir = mem_strdup(dir))) {
        st = no_memory(err);
    } else if (!(st = file_mkdirs(tmp, err))) {
        /* Unfinished writes of an earlier life: nobody knows them any more. */
        DIR *d = opendir(tmp);
        if (!d) {
            st = err_errno(err, LOAM_EIO, "blobs: cannot read %s", tmp);
        } else {
            for (struct dirent *e; (e = readdir(d));)
                if (e->d_name[0] != '.')
                    (void)!unlinkat(dirfd(d), e->d_name, 0);
            closedir(d);
        }
    }
    mem_free(tmp);
    if (st) {
        blobs_close(b);
        return st;
    }
    *out = b;
    return LOAM_OK;
}

void blobs_close(struct blobs *b) {
    if (!b)
        return;
    mem_free(b->dir);
    mem_free(b);
}

enum loam_status blob_begin(struct blob_writer *w, struct blobs *b, struct err *err) {
    uint8_t name[16];
    char hex[33];
    *w = (struct blob_writer){.blobs = b, .fd = -1};
    enum loam_status st = entropy_fill(name, sizeof name, err);
    if (st)
        return st;
    hex_encode(hex, name, sizeof name);
    if (!(w->path = mem_printf("%s/tmp/%s", b->dir, hex)))
        return no_memory(err);
    w->fd = open(w->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (w->fd < 0) {
        st = err_errno(err, LOAM_EIO, "blobs: cannot make %s", w->path);
        mem_free(w->path);
        w->path = NULL;
        return st;
    }
    keccak_init(&w->hash);
    return LOAM_OK;
}

enum loam_status blob_write(struct blob_writer *w, const void *p, size_t n, struct err *err) {
    if (n > BLOB_MAX - w->len)
        return err_set(err, LOAM_ELIMIT, "blob: more than %llu bytes", (unsigned long long)BLOB_MAX);
    keccak_add(&w->hash, p, n);
    w->len += n;
    for (const uint8_t *q = p; n;) {
        ssize_t put = write(w->fd, q, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return err_errno(err, LOAM_EIO, "blobs: cannot write %s", w->path);
        q += put;
        n -= (size_t)put;
    }
    return LOAM_OK;
}

void blob_abandon(struct blob_writer *w) {
    if (w->fd >= 0)
        close(w->fd);
    if (w->path)
        (void)!unlink(w->path);
    mem_free(w->path);
    *w = (struct blob_writer){.fd = -1};
}

/* So that the name survives a power cut too. */
static enum loam_status sync_dir(const char *dir, struct err *err) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum loam_status st = fd < 0 || fsync(fd) ? err_errno(err, LOAM_EIO, "blobs: cannot sync %s", dir) : LOAM_OK;
    if (fd >= 0)
        close(fd);
    return st;
}

static enum loam_status name_it(struct blob_writer *w, const struct hash32 *h, struct err *err) {
    char *path = blob_path(w->blobs, h), hex[65];
    hex_encode(hex, h->b, 32);
    char *dir = mem_printf("%s/%.2s", w->blobs->dir, hex);
    enum loam_status st = LOAM_OK;
    if (!path || !dir)
        st = no_memory(err);
    else if (access(path, F_OK) == 0)
        blob_abandon(w); /* there already, and equal by its name */
    else if (fsync(w->fd))
        st = err_errno(err, LOAM_EIO, "blobs: cannot sync %s", w->path);
    else if (mkdir(dir, 0700) && errno != EEXIST)
        st = err_errno(err, LOAM_EIO, "blobs: cannot make %s", dir);
    else if (rename(w->path, path))
        st = err_errno(err, LOAM_EIO, "blobs: cannot rename to %s", path);
    else if (!(st = sync_dir(dir, err)))
        st = sync_dir(w->blobs->dir, err);
    mem_free(path);
    mem_free(dir);
    return st;
}

enum loam_status blob_finish(struct blob_writer *w, struct hash32 *out, const struct hash32 *expected, struct err *err) {
    struct hash32 h;
    enum loam_status st;
    keccak_end(&w->hash, h.b);
    if (expected && !hash_eq(&h, expected)) {
        char a[HASH_HEX_MAX], b[HASH_HEX_MAX];
        st = err_set(err, LOAM_EHASH, "the bytes have the hash %s, not %s", hash_hex(a, &h), hash_hex(b, expected));
    } else if (!(st = name_it(w, &h, err)) && out) {
        *out = h;
    }
    blob_abandon(w); /* after a rename its path is no longer there */
    return st;
}

enum loam_status blob_put(struct blobs *b, struct hash32 *out, const void *p, size_t n, struct err *err) {
    struct blob_writer w;
    enum loam_status st = blob_begin(&w, b, err);
    if (st)
        return st;
    if ((st = blob_write(&w, p, n, err))) {
        blob_abandon(&w);
        return st;
    }
    return blob_finish(&w, out, NULL, err);
}

enum loam_status blob_put_file(struct blobs *b, struct hash32 *out, const char *path, struct err *err) {
    struct blob_writer w;
    struct buf piece = BUF_INIT(1 << 20);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno == ENOENT ? LOAM_ENOTFOUND : LOAM_EIO, "cannot open %s", path);
    enum loam_status st = buf_reserve(&piece, piece.max, err);
    if (!st && !(st = blob_begin(&w, b, err))) {
        for (ssize_t got; !st;) {
            got = read(fd, piece.data, piece.max);
            if (got < 0 && errno == EINTR)
                continue;
            if (got < 0)
                st = err_errno(err, LOAM_EIO, "cannot read %s", path);
            else if (!got)
                break;
            else
                st = blob_write(&w, piece.data, (size_t)got, err);
        }
        if (st)
            blob_abandon(&w);
        else
            st = blob_finish(&w, out, NULL, err);
    }
    buf_clear(&piece);
    close(fd);
    return st;
}

static enum loam_status open_blob(struct blobs *b, const struct hash32 *h, int *fd, uint64_t *size, struct err *err) {
    char *path = blob_path(b, h), hex[HASH_HEX_MAX];
    if (!path)
        return no_memory(err);
    enum loam_status st = LOAM_OK;
    struct stat s;
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0)
        st = errno == ENOENT ? err_set(err, LOAM_ENOTFOUND, "no blob %s here", hash_hex(hex, h)) : err_errno(err, LOAM_EIO, "cannot open %s", path);
    else if (fstat(*fd, &s))
        st = err_errno(err, LOAM_EIO, "cannot look at %s", path);
    else
        *size = (uint64_t)s.st_size;
    mem_free(path);
    if (st && *fd >= 0)
        close(*fd);
    return st;
}

bool blob_has(struct blobs *b, const struct hash32 *h) {
    int fd;
    uint64_t size;
    if (open_blob(b, h, &fd, &size, NULL))
        return false;
    close(fd);
    return true;
}

enum loam_status blob_size(struct blobs *b, const struct hash32 *h, uint64_t *out, struct err *err) {
    int fd;
    enum loam_status st = open_blob(b, h, &fd, out, err);
    if (!st)
        close(fd);
    return st;
}

static enum loam_status read_at(int fd, uint64_t offset, uint8_t *out, size_t n, size_t *got, struct err *err) {
    *got = 0;
    while (*got < n) {
        ssize_t r = pread(fd, out + *got, n - *got, (off_t)(offset + *got));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_errno(err, LOAM_EIO, "cannot read a blob");
        if (!r)
            break;
        *got += (size_t)r;
    }
    return LOAM_OK;
}

enum loam_status blob_range(struct blobs *b, const struct hash32 *h, uint64_t offset, void *out, size_t n, size_t *got,
                            struct err *err) {
    int fd;
    uint64_t size;
    enum loam_status st = open_blob(b, h, &fd, &size, err);
    *got = 0;
    if (st)
        return st;
    if (offset < size)
        st = read_at(fd, offset, out, n < size - offset ? n : (size_t)(size - offset), got, err);
    close(fd);
    return st;
}

/* A blob whose bytes went bad on the disk: out of the way, so that the right ones can be put. */
static enum loam_status set_aside(struct blobs *b, const struct hash32 *h, struct err *err) {
    char hex[65], *path = blob_path(b, h);
    hex_encode(hex, h->b, 32);
    char *aside = mem_printf("%s/tmp/bad-%s", b->dir, hex);
    if (path && aside)
        (void)!rename(path, aside);
    mem_free(path);
    mem_free(aside);
    return err_set(err, LOAM_EHASH, "blob 0x%s: its bytes on the disk changed; it was set aside", hex);
}

enum loam_status blob_get(struct blobs *b, const struct hash32 *h, struct buf *out, struct err *err) {
    int fd;
    uint64_t size;
    size_t got = 0;
    enum loam_status st = open_blob(b, h, &fd, &size, err);
    if (st)
        return st;
    buf_reset(out);
    if (size > out->max)
        st = err_set(err, LOAM_ELIMIT, "blob of %llu bytes, at most %zu wanted", (unsigned long long)size, out->max);
    else if (!(st = buf_reserve(out, (size_t)size, err)) && !(st = read_at(fd, 0, out->data, (size_t)size, &got, err))) {
        out->len = got;
        struct hash32 is = hash_of(out->data, got);
        if (!hash_eq(&is, h)) {
            buf_reset(out);
            st = set_aside(b, h, err);
        } else {
            st = buf_add(out, "", 0, err); /* the NUL behind the bytes */
        }
    }
    close(fd);
    return st;
}

enum loam_status blob_map(struct blobs *b, const struct hash32 *h, bool check, struct file_map *out, struct err *err) {
    char *path = blob_path(b, h), hex[HASH_HEX_MAX];
    if (!path)
        return no_memory(err);
    enum loam_status st = file_map(out, path, err);
    mem_free(path);
    if (st == LOAM_ENOTFOUND)
        return err_set(err, st, "no blob %s here", hash_hex(hex, h));
    if (st || !check)
        return st;
    struct hash32 is = hash_of(out->data, out->len);
    if (!hash_eq(&is, h)) {
        file_unmap(out);
        st = set_aside(b, h, err);
    }
    return st;
}

enum loam_status blob_del(struct blobs *b, const struct hash32 *h, struct err *err) {
    char *path = blob_path(b, h);
    if (!path)
        return no_memory(err);
    enum loam_status st = unlink(path) && errno != ENOENT ? err_errno(err, LOAM_EIO, "cannot remove %s", path) : LOAM_OK;
    mem_free(path);
    return st;
}

enum loam_status blob_each(struct blobs *b, blob_each_fn *fn, void *ctx, struct err *err) {
    bool more = true;
    enum loam_status st = LOAM_OK;
    for (int i = 0; more && !st && i < 256; i++) {
        char *dir = mem_printf("%s/%02x", b->dir, i);
        if (!dir)
            return no_memory(err);
        DIR *d = opendir(dir);
        if (!d && errno != ENOENT)
            st = err_errno(err, LOAM_EIO, "blobs: cannot read %s", dir);
        for (struct dirent *e; d && more && (e = readdir(d));) {
            char hex[65];
            struct hash32 h;
            struct stat s;
            if (strlen(e->d_name) != 62)
                continue;
            snprintf(hex, sizeof hex, "%02x%s", i, e->d_name);
            if (!hash_parse(&h, hex, NULL) && !fstatat(dirfd(d), e->d_name, &s, 0))
                more = fn(ctx, &h, (uint64_t)s.st_size);
        }
        if (d)
            closedir(d);
        mem_free(dir);
    }
    return st;
}
