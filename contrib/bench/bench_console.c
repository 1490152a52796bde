/* The console's figures (issue "The console"): first frame, idle, keys, resize, memory, stalls; beside htop, btop and tig where
 * they are installed, in one run. One JSON object a line. Usage: bench_console [PATH-OF-LOAM]; BENCH_SECONDS is the length
 * of the idle measurements (10). BENCH_PARTS: see part().
 *
 * The program is the real one; behind it stands the tests' scripted node, which changes chain and training once a second
 * (what a node that trains sends), so that the figures do not depend on what the machine trains. Times are taken at the
 * pty's other end; CPU is /proc/PID/task/.../schedstat, which hardly feels other load. */
#include "tests/fakenode.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdint.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *loam = "./loam";
static char data[64];
static int seconds = 10;

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int less(const void *a, const void *b) {
    double d = *(const double *)a - *(const double *)b;
    return d < 0 ? -1 : d > 0;
}

static double quantile(double *v, int n, double q) {
    if (!n)
        return -1;
    qsort(v, (size_t)n, sizeof *v, less);
    int i = (int)(q * n);
    return v[i < n ? i : n - 1];
}

/* ---- a program on a pty --------------------------------------------------------------------------------------------- */

struct peer {
    pid_t pid;
    int fd;
    double start;
    char seen[1 << 20]; /* the first bytes it wrote */
    size_t n;
    long total, reads;
};

static void answer(struct peer *p, const char *b, size_t n) { /* as a terminal would */
    if (memmem(b, n, "\033[c", 3) && write(p->fd, "\033[?62;22c", 9) < 0)
        return;
    if (memmem(b, n, "\033[?2026$p", 9) && write(p->fd, "\033[?2026;2$y", 11) < 0)
        return;
}

static int pump(struct peer *p, int ms) {
    struct pollfd f = {p->fd, POLLIN, 0};
    char b[65536];
    if (poll(&f, 1, ms) <= 0)
        return 0;
    ssize_t k = read(p->fd, b, sizeof b);
    if (k <= 0)
        return -1;
    size_t room = sizeof p->seen - p->n, m = (size_t)k < room ? (size_t)k : room;
    memcpy(p->seen + p->n, b, m);
    p->n += m;
    p->total += k;
    p->reads++;
    answer(p, b, (size_t)k);
    return (int)k;
}

static void launch(struct peer *p, char *const *argv, int rows, int cols, const char *cwd) {
    struct winsize ws = {(unsigned short)rows, (unsigned short)cols, 0, 0};
    memset(p, 0, sizeof *p);
    p->start = now_ms();
    p->pid = forkpty(&p->fd, NULL, NULL, &ws);
    if (!p->pid) {
        setenv("TERM", "xterm-256color", 1);
        setenv("LC_ALL", "C.UTF-8", 1);
        unsetenv("NO_COLOR");
        if (cwd && chdir(cwd))
            _exit(126);
        execvp(argv[0], argv);
        _exit(127);
    }
    fcntl(p->fd, F_SETFL, O_NONBLOCK);
}

/* Milliseconds from exec until the marker's bytes came; -1 after 5 s. */
static double until(struct peer *p, const char *marker) {
    double end = now_ms() + 5000;
    size_t n = strlen(marker);
    while (now_ms() < end) {
        int k = pump(p, 5);
        if (k < 0)
            break;
        if (k > 0 && memmem(p->seen, p->n, marker, n))
            return now_ms() - p->start;
    }
    return -1;
}

static long drain(struct peer *p, int gap) {
    long total = 0;
    for (int k; (k = pump(p, gap)) > 0;)
        total += k;
    return total;
}

static void collect(struct peer *p, double ms) {
    double end = now_ms() + ms;
    for (double left; (left = end - now_ms()) > 0;)
        if (pump(p, (int)left + 1) < 0)
            return;
}

static void stop(struct peer *p) {
    kill(p->pid, SIGTERM);
    for (int i = 0; i < 100; i++) {
        if (waitpid(p->pid, NULL, WNOHANG) == p->pid) {
            p->pid = 0;
            break;
        }
        if (pump(p, 10) < 0)
            usleep(5000);
    }
    if (p->pid) {
        kill(p->pid, SIGKILL);
        waitpid(p->pid, NULL, 0);
    }
    close(p->fd);
}

static double cpu_ns(pid_t pid) {
    char path[300];
    double sum = 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
        double ns = 0;
        if (f && fscanf(f, "%lf", &ns) == 1)
            sum += ns;
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return sum;
}

static double proc_field(pid_t pid, const char *file, const char *field) {
    char path[64], line[256];
    double sum = 0, v;
    size_t n = strlen(field);
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, field, n) && sscanf(line + n, "%*[^0-9]%lf", &v) == 1)
            sum += v;
    if (f)
        fclose(f);
    return sum;
}

/* ---- the rows ------------------------------------------------------------------------------------------------------- */

struct figures {
    double first, idle_cpu, bytes, wakeups, key50, key95, key_bytes, resize, memory;
    bool ok;
};

static void measure(struct figures *f, char *const *argv, const char *marker, const char *const keys[2], const char *cwd, int rows, int cols,
                    int starts) {
    struct peer *p = malloc(sizeof *p);
    double v[64];
    memset(f, 0, sizeof *f);
    int n = 0;
    for (int i = 0; p && i < starts; i++) {
        launch(p, argv, rows, cols, cwd);
        double t = until(p, marker);
        if (t < 0) {
            stop(p);
            free(p);
            return;
        }
        v[n++] = t;
        if (i < starts - 1)
            stop(p);
    }
    f->first = quantile(v, n, 0.5);
    drain(p, 50);
    collect(p, 3000);
    double c0 = cpu_ns(p->pid), w0 = proc_field(p->pid, "status", "voluntary_ctxt_switches"), t0 = now_ms();
    p->total = 0;
    collect(p, seconds * 1000.0);
    double dt = now_ms() - t0;
    f->idle_cpu = (cpu_ns(p->pid) - c0) / (dt * 1e6) * 100;
    f->bytes = (double)p->total / dt * 1000;
    f->wakeups = (proc_field(p->pid, "status", "voluntary_ctxt_switches") - w0) / dt * 1000;
    f->memory = proc_field(p->pid, "smaps_rollup", "Private_Clean") + proc_field(p->pid, "smaps_rollup", "Private_Dirty");
    double lat[40], bytes[40];
    n = 0;
    for (int i = 0; i < 40; i++) {
        drain(p, 20);
        double t = now_ms();
        if (write(p->fd, keys[i % 2], strlen(keys[i % 2])) < 0)
            break;
        int k = 0;
        while (k == 0 && now_ms() - t < 1000)
            k = pump(p, 100);
        if (k <= 0)
            continue;
        lat[n] = now_ms() - t;
        bytes[n++] = (double)(k + drain(p, 30));
    }
    f->key50 = quantile(lat, n, 0.5);
    f->key95 = quantile(lat, n, 0.95);
    f->key_bytes = quantile(bytes, n, 0.5);
    n = 0;
    for (int i = 0; i < 9; i++) {
        struct winsize ws = {(unsigned short)(rows + (i % 2 ? 0 : 6)), (unsigned short)(cols + (i % 2 ? 0 : 20)), 0, 0};
        drain(p, 60);
        double t = now_ms();
        ioctl(p->fd, TIOCSWINSZ, &ws);
        int k = 0;
        while (k == 0 && now_ms() - t < 2000)
            k = pump(p, 100);
        if (k <= 0)
            continue;
        double last = now_ms();
        while ((k = pump(p, 4)) > 0) /* the whole of it */
            last = now_ms();
        v[n++] = last - t;
    }
    f->resize = quantile(v, n, 0.5);
    stop(p);
    free(p);
    f->ok = true;
}

static void row(const char *name, const char *size, double value, const char *unit, double goal, const char *peer, double peer_value) {
    printf("{\"suite\": \"console\", \"name\": \"%s%s%s\", \"value\": %.3f, \"unit\": \"%s\", \"better\": \"lower\", \"goal\": %g, ", name,
           *size ? " " : "", size, value, unit, goal);
    if (peer)
        printf("\"peer\": \"%s\", \"peer_value\": %.3f, ", peer, peer_value);
    else
        printf("\"peer\": null, \"peer_value\": null, ");
    printf("\"command\": \"make bench SUITE=console\"}\n");
    fflush(stdout);
}

static bool installed(const char *name) {
    char path[300];
    for (const char *p = getenv("PATH"); p && *p;) {
        size_t n = strcspn(p, ":");
        snprintf(path, sizeof path, "%.*s/%s", (int)n, p, name);
        if (!access(path, X_OK))
            return true;
        p += n + (p[n] == ':');
    }
    return false;
}

static pid_t start_fake(int interval) {
    char sock[100];
    snprintf(sock, sizeof sock, "%s/node.sock", data);
    unlink(sock);
    pid_t pid = fork();
    if (!pid) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 1);
        fake_run(sock, interval);
        _exit(0);
    }
    for (int i = 0; i < 500 && access(sock, F_OK); i++)
        usleep(10000);
    return pid;
}

static void end(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static const char *const arrows[2] = {"\033OB", "\033OA"}, *const csi[2] = {"\033[B", "\033[A"}, *const jk[2] = {"j", "k"};

/* Nothing changes on the node: not a byte, not a wakeup. */
static void still(void) {
    struct peer *p = malloc(sizeof *p);
    char *argv[] = {(char *)loam, "--data", data, NULL};
    pid_t fake = start_fake(0);
    launch(p, argv, 50, 200, NULL);
    if (until(p, "120/400") >= 0) {
        drain(p, 300);
        collect(p, 1000);
        p->total = 0;
        double c0 = cpu_ns(p->pid), w0 = proc_field(p->pid, "status", "voluntary_ctxt_switches"), s = seconds / 2.0;
        collect(p, s * 1000);
        row("nothing changes: bytes", "", (double)p->total, "bytes", 0, NULL, 0);
        row("nothing changes: wakeups", "", proc_field(p->pid, "status", "voluntary_ctxt_switches") - w0, "in all", 0, NULL, 0);
        row("nothing changes: CPU", "", (cpu_ns(p->pid) - c0) / (s * 1e9) * 100, "%", 0, NULL, 0);
    }
    stop(p);
    end(fake);
    free(p);
}

static int run_loam(char *const argv[]) {
    pid_t pid = fork();
    int status;
    if (!pid) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        execv(loam, argv);
        _exit(127);
    }
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Keys while a node trains on every core: the real thing, the tiny model on demo rows. */
static void busy(const char *folder, const char *src) {
    char gguf[512], rows[512];
    snprintf(gguf, sizeof gguf, "%s/contrib/models/tiny.gguf", src);
    snprintf(rows, sizeof rows, "%s/contrib/demo/alice.jsonl", src);
    char *add[] = {(char *)loam, "--data", (char *)folder, "--no-start", "--yes", "model", "add", gguf, NULL};
    char *train[] = {(char *)loam,  "--data", (char *)folder, "--no-start", "--yes",   "--no-wait", "train",
                     "bench",       "--files", rows,          "--epochs",   "20000", NULL};
    char sock[200];
    snprintf(sock, sizeof sock, "%s/node.sock", folder); /* the node may have been started just now */
    for (int i = 0; i < 500 && access(sock, F_OK); i++)
        usleep(10000);
    if (run_loam(add) || run_loam(train)) {
        fprintf(stderr, "bench_console: training does not start with %s and %s, keys in training not measured\n", gguf, rows);
        return;
    }
    usleep(2000000); /* rows are read, threads are up */
    struct peer *p = malloc(sizeof *p);
    char *argv[] = {(char *)loam, "--data", data, NULL};
    pid_t fake = start_fake(1000);
    launch(p, argv, 24, 80, NULL);
    if (until(p, "/400") >= 0) {
        drain(p, 100);
        double lat[100];
        int n = 0;
        for (int i = 0; i < 100; i++) {
            drain(p, 5);
            double t = now_ms();
            if (write(p->fd, arrows[i % 2], 3) < 0)
                break;
            int k = 0;
            while (k == 0 && now_ms() - t < 1000)
                k = pump(p, 100);
            if (k > 0)
                lat[n++] = now_ms() - t;
        }
        row("key to echo p95, training on all cores", "", quantile(lat, n, 0.95), "ms", 20, NULL, 0);
    }
    stop(p);
    end(fake);
    free(p);
}

static int connect_to(const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* A question to the node; milliseconds until its answer, -1 after a second. */
static double question(int fd, int id, const char *method, const char *params) {
    char s[300], b[65536], want[32];
    static char in[1 << 20];
    size_t n = 0;
    snprintf(s, sizeof s, "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"%s\",\"params\":%s}\n", id, method, params);
    snprintf(want, sizeof want, "\"id\":%d", id);
    double t = now_ms();
    if (write(fd, s, strlen(s)) < 0)
        return -1;
    while (now_ms() - t < 1000) {
        struct pollfd f = {fd, POLLIN, 0};
        if (poll(&f, 1, 50) <= 0)
            continue;
        ssize_t k = read(fd, b, sizeof b);
        if (k <= 0)
            return -1;
        if (n + (size_t)k > sizeof in)
            n = 0;
        memcpy(in + n, b, (size_t)k);
        n += (size_t)k;
        if (memmem(in, n, want, strlen(want)))
            return now_ms() - t;
    }
    return -1;
}

/* Node and console in one process, and nobody reads the terminal: does the node still answer? */
static void stalled(void) {
    struct peer *p = malloc(sizeof *p);
    char path[100], folder[80];
    snprintf(folder, sizeof folder, "%s/inside", data);
    mkdir(folder, 0700);
    snprintf(path, sizeof path, "%s/node.sock", folder);
    char *argv[] = {(char *)loam, "--inside", "--data", folder, "--set", "api.listen=", NULL};
    launch(p, argv, 50, 200, NULL);
    int fd = -1;
    if (until(p, "Chain") >= 0) {
        drain(p, 300);
        for (int i = 0; i < 200 && (fd = connect_to(path)) < 0; i++)
            usleep(10000);
    }
    if (fd >= 0 && question(fd, 1, "hello", "{\"protocol\":1,\"version\":\"bench\",\"client\":\"bench\"}") >= 0) {
        int lost = 0;
        double lat[400];
        int n = 0;
        for (int i = 0; i < 400; i++) { /* keys make it draw: some 400 whole frames that nobody takes */
            if (write(p->fd, i % 2 ? "0" : "z", 1) < 0 && errno != EAGAIN)
                break;
            double t = question(fd, 10 + i, "node.status", "{}");
            if (t < 0 || t > 100)
                lost++;
            else
                lat[n++] = t;
            usleep(5000);
        }
        row("stalled terminal, node in the same process: answers later than 100 ms of 400", "", lost, "in all", 0, NULL, 0);
        row("stalled terminal, node in the same process: answer p95", "", quantile(lat, n, 0.95), "ms", 20, NULL, 0);
    } else {
        fprintf(stderr, "bench_console: no node inside (%.200s)\n", p->seen);
    }
    if (fd >= 0)
        close(fd);
    stop(p);
    free(p);
}

/* From exec to the first frame when no node runs yet. */
static void cold(void) {
    struct peer *p = malloc(sizeof *p);
    double v[5];
    int n = 0;
    for (int i = 0; i < 5; i++) {
        char folder[80], cmd[400];
        snprintf(folder, sizeof folder, "%s/cold%d", data, i);
        char *argv[] = {(char *)loam, "--data", folder, NULL};
        launch(p, argv, 24, 80, NULL);
        double t = until(p, "Chain");
        if (t >= 0)
            v[n++] = t;
        stop(p);
        snprintf(cmd, sizeof cmd, "%s --data %s stop >/dev/null 2>&1", loam, folder);
        if (system(cmd))
            fprintf(stderr, "bench_console: the node in %s did not stop\n", folder);
    }
    if (n)
        row("first frame, starting a node", "80x24", quantile(v, n, 0.5), "ms", 60, NULL, 0);
    free(p);
}

/* BENCH_PARTS="80x24 200x50 still busy stalled cold": those named, all without it. The whole takes some minutes; a part fits a quiet minute
 * or two of a shared machine. */
static bool part(const char *name) {
    const char *p = getenv("BENCH_PARTS"), *at = p && *p ? strstr(p, name) : name;
    return at != NULL;
}

int main(int argc, char **argv) {
    static const int size[2][2] = {{24, 80}, {50, 200}};
    static const char *const label[2] = {"80x24", "200x50"};
    if (argc > 1)
        loam = argv[1];
    if (getenv("BENCH_SECONDS"))
        seconds = atoi(getenv("BENCH_SECONDS"));
    if (access(loam, X_OK)) {
        fprintf(stderr, "bench_console: no %s\n", loam);
        return 1;
    }
    snprintf(data, sizeof data, "/tmp/loam-bench-XXXXXX");
    if (!mkdtemp(data))
        return 1;
    signal(SIGPIPE, SIG_IGN);
    static const struct {
        const char *name, *marker;
        char *argv[4];
        const char *const *keys;
        int starts;
    } peers[] = {{"htop -d 10", "F10", {(char *)"htop", (char *)"-d", (char *)"10", NULL}, arrows, 5},
                 {"btop", "proc", {(char *)"btop", NULL}, csi, 5},
                 {"tig", "[main]", {(char *)"tig", NULL}, jk, 3}};
    enum { PEERS = sizeof peers / sizeof *peers };
    for (int k = 0; k < PEERS; k++)
        if (!installed(peers[k].argv[0]))
            fprintf(stderr, "bench_console: %s is not installed, not compared\n", peers[k].argv[0]);
    /* A node of the same program runs meanwhile, as it does for a user: their code pages are shared. */
    char folder[80];
    snprintf(folder, sizeof folder, "%s/node", data);
    pid_t node = fork();
    if (!node) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 1);
        dup2(null, 2);
        execl(loam, loam, "--data", folder, "--set", "api.listen=", "node", (char *)NULL);
        _exit(127);
    }
    const char *src = getenv("srcdir") ? getenv("srcdir") : ".";
    for (int i = 0; i < 2; i++) {
        struct figures us, other[PEERS] = {0};
        char *a[] = {(char *)loam, "--data", data, NULL};
        if (!part(label[i]))
            continue;
        pid_t fake = start_fake(1000);
        measure(&us, a, "/400", arrows, NULL, size[i][0], size[i][1], 11);
        end(fake);
        for (int k = 0; k < PEERS; k++)
            if (installed(peers[k].argv[0]))
                measure(&other[k], peers[k].argv, peers[k].marker, peers[k].keys, src, size[i][0], size[i][1], peers[k].starts);
        if (!us.ok) {
            fprintf(stderr, "bench_console: no frame with data at %s\n", label[i]);
            continue;
        }
        static const struct {
            const char *name, *unit;
            size_t at;
            double goal[2], scale;
        } f[] = {{"first frame with data", "ms", offsetof(struct figures, first), {15, 15}, 1},
                 {"idle CPU, 1 Hz data", "%", offsetof(struct figures, idle_cpu), {0.10, 0.15}, 1},
                 {"bytes to the terminal, 1 Hz data", "B/s", offsetof(struct figures, bytes), {320, 1150}, 1},
                 {"wakeups, 1 Hz data", "/s", offsetof(struct figures, wakeups), {4, 4}, 1},
                 {"key to echo p50", "ms", offsetof(struct figures, key50), {1.5, 1.5}, 1},
                 {"key to echo p95", "ms", offsetof(struct figures, key95), {5, 5}, 1},
                 {"bytes a key", "B", offsetof(struct figures, key_bytes), {150, 150}, 1},
                 {"resize to whole frame", "ms", offsetof(struct figures, resize), {5, 5}, 1},
                 {"private memory", "MiB", offsetof(struct figures, memory), {2, 2}, 1.0 / 1024}};
        for (size_t q = 0; q < sizeof f / sizeof *f; q++) { /* a row beside each peer */
            bool any = false;
            double v = *(double *)((char *)&us + f[q].at) * f[q].scale;
            for (int k = 0; k < PEERS; k++)
                if (other[k].ok) {
                    row(f[q].name, label[i], v, f[q].unit, f[q].goal[i], peers[k].name, *(double *)((char *)&other[k] + f[q].at) * f[q].scale);
                    any = true;
                }
            if (!any)
                row(f[q].name, label[i], v, f[q].unit, f[q].goal[i], NULL, 0);
        }
    }
    if (part("still"))
        still();
    if (part("busy"))
        busy(folder, src);
    kill(node, SIGTERM);
    waitpid(node, NULL, 0);
    if (part("stalled"))
        stalled();
    if (part("cold"))
        cold();
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", data);
    return system(cmd);
}
