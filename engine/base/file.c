#include "base/file.h"

#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static enum loam_status code_of(int e) {
    return e == ENOENT ? LOAM_ENOTFOUND : e == EACCES || e == EPERM ? LOAM_EPERM : LOAM_EIO;
}

/* O_NONBLOCK: a pipe nobody writes to, or a terminal, must not hold a thread up; regular files do not know it. */
static enum loam_status open_read(int *fd, const char *path, bool pipes, struct err *err) {
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (pipes ? 0 : O_NONBLOCK));
    if (*fd < 0)
        return err_errno(err, code_of(errno), "cannot open %s", path);
    enum loam_status s = LOAM_OK;
    if (fstat(*fd, &st))
        s = err_errno(err, LOAM_EIO, "cannot look at %s", path);
    else if (S_ISDIR(st.st_mode))
        s = err_set(err, LOAM_EINVAL, "%s is a folder, not a file", path);
    else if (!pipes && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)))
        s = err_set(err, LOAM_EINVAL, "%s is a pipe, not a file; write what it gives to a file first", path);
    if (s)
        close(*fd);
    return s;
}

static enum loam_status read_whole(struct buf *out, const char *path, bool pipes, struct err *err) {
    int fd;
    enum loam_status s = open_read(&fd, path, pipes, err);
    if (s)
        return s;
    for (;;) {
        size_t room = out->max - out->len < 65536 ? out->max - out->len : 65536;
        uint8_t probe;
        if (room && (s = buf_reserve(out, room, err)))
            break;
        ssize_t got = room ? read(fd, out->data + out->len, room) : read(fd, &probe, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            s = err_errno(err, LOAM_EIO, "cannot read %s", path);
            break;
        }
        if (!got) {
            s = buf_add(out, "", 0, err); /* the terminating NUL */
            break;
        }
        if (!room) {
            s = err_set(err, LOAM_ELIMIT, "%s is larger than the limit of %zu bytes", path, out->max);
            break;
        }
        out->len += (size_t)got;
    }
    close(fd);
    return s;
}

enum loam_status file_read(struct buf *out, const char *path, struct err *err) {
    return read_whole(out, path, false, err);
}

enum loam_status file_read_pipe(struct buf *out, const char *path, struct err *err) {
    return read_whole(out, path, true, err);
}

static enum loam_status write_all(int fd, const char *path, const uint8_t *p, size_t n, struct err *err) {
    while (n) {
        ssize_t put = write(fd, p, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return err_errno(err, LOAM_EIO, "cannot write %s", path);
        p += put;
        n -= (size_t)put;
    }
    return LOAM_OK;
}

static void sync_parent(const char *path) {
    char dir[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= sizeof dir)
        return;
    memcpy(dir, n ? path : slash ? "/" : ".", n ? n : 1);
    dir[n ? n : 1] = 0;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!fsync(fd);
        close(fd);
    }
}

enum loam_status file_write(const char *path, const void *p, size_t n, unsigned mode, struct err *err) {
    static atomic_uint serial; /* two threads may write one file at once: the last rename wins, none is torn */
    char *tmp = mem_printf("%s.tmp-%ld-%u", path, (long)getpid(), atomic_fetch_add(&serial, 1));
    if (!tmp)
        return err_set(err, LOAM_ENOMEM, "no memory to write %s", path);
    enum loam_status s = LOAM_OK;
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, (mode_t)mode);
    if (fd < 0) {
        s = err_errno(err, code_of(errno), "cannot create %s", tmp);
        mem_free(tmp);
        return s;
    }
    s = write_all(fd, tmp, p, n, err);
    if (!s && fsync(fd))
        s = err_errno(err, LOAM_EIO, "cannot sync %s", tmp);
    if (close(fd) && !s)
        s = err_errno(err, LOAM_EIO, "cannot close %s", tmp);
    if (!s && rename(tmp, path))
        s = err_errno(err, LOAM_EIO, "cannot rename %s to %s", tmp, path);
    if (s)
        unlink(tmp);
    else
        sync_parent(path);
    mem_free(tmp);
    return s;
}

#define PART ((size_t)1 << 20)

enum loam_status file_out_begin(struct file_out *f, const char *path, unsigned mode, struct err *err) {
    *f = (struct file_out){.fd = -1};
    buf_init(&f->part, 2 * PART);
    f->path = mem_strdup(path);
    f->tmp = mem_printf("%s.tmp-%ld", path, (long)getpid());
    enum loam_status s = f->path && f->tmp ? buf_reserve(&f->part, PART, err) : err_set(err, LOAM_ENOMEM, "no memory to write %s", path);
    if (!s && (f->fd = open(f->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, (mode_t)mode)) < 0)
        s = err_errno(err, code_of(errno), "cannot create %s", f->tmp);
    if (s)
        file_out_drop(f);
    return s;
}

enum loam_status file_out_add(struct file_out *f, const void *p, size_t n, struct err *err) {
    enum loam_status s = LOAM_OK;
    if (f->part.len + n > PART) {
        s = write_all(f->fd, f->tmp, f->part.data, f->part.len, err);
        buf_reset(&f->part);
    }
    if (!s)
        s = n > PART ? write_all(f->fd, f->tmp, p, n, err) : buf_add(&f->part, p, n, err);
    return s;
}

enum loam_status file_out_end(struct file_out *f, struct err *err) {
    enum loam_status s = write_all(f->fd, f->tmp, f->part.data, f->part.len, err);
    if (!s && fsync(f->fd))
        s = err_errno(err, LOAM_EIO, "cannot sync %s", f->tmp);
    int closed = close(f->fd);
    f->fd = -1;
    if (closed && !s)
        s = err_errno(err, LOAM_EIO, "cannot close %s", f->tmp);
    if (!s && rename(f->tmp, f->path))
        s = err_errno(err, LOAM_EIO, "cannot rename %s to %s", f->tmp, f->path);
    if (s) {
        unlink(f->tmp);
    } else {
        sync_parent(f->path);
    }
    mem_free(f->tmp);
    f->tmp = NULL;
    file_out_drop(f);
    return s;
}

void file_out_drop(struct file_out *f) {
    if (f->fd >= 0)
        close(f->fd);
    if (f->fd >= 0 && f->tmp)
        unlink(f->tmp);
    mem_free(f->tmp);
    mem_free(f->path);
    buf_clear(&f->part);
    *f = (struct file_out){.fd = -1};
}

enum loam_status file_mkdirs(const char *path, struct err *err) {
    char *p = mem_strdup(path);
    if (!p)
        return err_set(err, LOAM_ENOMEM, "no memory for a path");
    enum loam_status s = LOAM_OK;
    for (char *q = p + (*p == '/');; q++) {
        if (*q != '/' && *q)
            continue;
        char c = *q;
        *q = 0;
        if (*p && mkdir(p, 0700) && errno != EEXIST)
            s = err_errno(err, code_of(errno), "cannot make the folder %s", p);
        *q = c;
        if (s || !c)
            break;
    }
    mem_free(p);
    return s;
}

void file_sweep(const char *dir) {
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        unsigned pid, n;
        int end = 0;
        const char *t = strstr(e->d_name, ".tmp-");
        if (t && sscanf(t, ".tmp-%u-%u%n", &pid, &n, &end) == 2 && !t[end])
            unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d)
        closedir(d);
}

bool file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

bool file_is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

enum loam_status file_map(struct file_map *out, const char *path, struct err *err) {
    *out = (struct file_map){0};
    int fd;
    struct stat st;
    enum loam_status s = open_read(&fd, path, false, err);
    if (s)
        return s;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        s = err_set(err, LOAM_EINVAL, "%s is not a regular file", path);
    else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            s = err_errno(err, LOAM_EIO, "cannot map %s", path);
        else
            *out = (struct file_map){p, (size_t)st.st_size, {0}};
    }
    if (!s)
        out->id = (struct file_id){(uint64_t)st.st_dev, (uint64_t)st.st_ino, (uint64_t)st.st_size,
                                   (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec,
                                   (uint64_t)st.st_ctim.tv_sec * 1000000000u + (uint64_t)st.st_ctim.tv_nsec};
    close(fd);
    return s;
}

void file_unmap(struct file_map *m) {
    if (m->data)
        munmap((void *)m->data, m->len);
    *m = (struct file_map){0};
}

void file_map_release(const struct file_map *m) {
    if (m->data)
        (void)!madvise((void *)m->data, m->len, MADV_DONTNEED);
}

void file_map_populate(const struct file_map *m) {
#ifdef MADV_POPULATE_READ
    if (m->data)
        (void)!madvise((void *)m->data, m->len, MADV_POPULATE_READ);
#else
    (void)m;
#endif
}
