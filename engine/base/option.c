#include "base/option.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/u256.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIB 1024.0
#define CONFIG_MAX (256u << 10) /* a config file: a few kilobytes in practice */

/* Alphabetical (a test checks it). */
const struct option_def option_table[] = {
    {"api.hosts", OPTION_STRING, "", 0, 0, NULL, "",
     "names by which others reach the HTTP API, separated by commas; loopback names and the address itself always work", false},
    {"api.listen", OPTION_STRING, "127.0.0.1:8571", 0, 0, NULL, "",
     "address of the HTTP API, host:port; empty for none", true},
    {"attribute.budget", OPTION_BYTES, "1G", 1024 * KIB, 1e15, NULL, "bytes",
     "space for a model's gradient store; the largest projection that fits is taken", false},
    {"chain.id", OPTION_UINT, "0", 0, 9e15, NULL, "",
     "chain of this data folder; 0: the only one in DATA/chains", true},
    {"chain.poll", OPTION_REAL, "1", 0.1, 3600, NULL, "s", "how often the chain's head is asked for", true},
    {"chain.rpc", OPTION_STRING, "", 0, 0, NULL, "",
     "RPC addresses, separated by commas; empty: those of the chain's file", true},
    {"chain.timeout", OPTION_REAL, "10", 0.5, 600, NULL, "s", "how long an RPC may take to answer one call", true},
    {"compute.backend", OPTION_CHOICE, "auto", 0, 0, "auto|ref|cpu|cuda|cuda:1|cuda:2|cuda:3|cuda:4|cuda:5|cuda:6|cuda:7", "",
     "who computes; cuda is the first NVIDIA device (`gpu use` sets it)", true},
    {"compute.fallback", OPTION_BOOL, "no", 0, 0, NULL, "",
     "where the device is not there or is lost, the CPU goes on from the last state (the bits are the same)", true},
    {"compute.mode", OPTION_CHOICE, "referee", 0, 0, "referee|fast", "",
     "how a device answers: referee, with the CPU's bits; fast, on tensor cores, whose answers cannot be recorded "
     "(paid questions and training always take the referee)", false},
    {"compute.threads", OPTION_UINT, "0", 0, 1024, NULL, "", "compute threads; 0: one for each processor",
     true},
    {"compute.weights", OPTION_CHOICE, "bf16", 0, 0, "bf16|fp8|q8|q4|nf4", "",
     "how the fast mode keeps the model on the device", true},
    {"console.ascii", OPTION_BOOL, "no", 0, 0, NULL, "", "draw with ASCII also in a UTF-8 locale", false},
    {"console.keys", OPTION_STRING, "", 0, 0, NULL, "", "key remapping, action=key separated by commas",
     false},
    {"console.mouse", OPTION_BOOL, "no", 0, 0, NULL, "", "use the mouse (breaks select and copy)", false},
    {"console.plot", OPTION_CHOICE, "block", 0, 0, "block|braille|ascii", "", "how curves are drawn", false},
    {"console.theme", OPTION_CHOICE, "auto", 0, 0, "auto|dark|light|mono", "", "colours of the console",
     false},
    {"da.mode", OPTION_CHOICE, "standard", 0, 0, "standard|generic|keccak", "",
     "how EigenDA's proxy is spoken to: standard, or its optimism API with generic or keccak commitments", false},
    {"da.proxy", OPTION_STRING, "", 0, 0, NULL, "",
     "EigenDA proxy that batches are published through and fetched from, http://HOST:PORT; empty: none", false},
    {"job.keep-finished", OPTION_UINT, "100", 1, 1000, NULL, "", "ended jobs that stay listed", true},
    {"key.cost", OPTION_CHOICE, "standard", 0, 0, "standard|light", "",
     "work that a password guess costs in new key files: standard 256 MiB and a second, light 4 MiB (tests)",
     true},
    {"key.default", OPTION_STRING, "", 0, 0, NULL, "", "key used where none is named; empty: the only one",
     false},
    {"key.password-file", OPTION_STRING, "", 0, 0, NULL, "",
     "file whose first line unlocks keys without asking (systemd credentials are also read)", false},
    {"key.spend-limit", OPTION_COIN, "100", 0, 0, NULL, "OPEN",
     "most an unlocked key may spend until it is locked", false},
    {"log.level", OPTION_CHOICE, "info", 0, 0, "error|warn|info|debug", "",
     "most talkative level that is logged", false},
    {"model.act", OPTION_CHOICE, "f32", 0, 0, "f32|q8", "",
     "arithmetic of answers where none is asked for: f32 keeps closest to the model, q8 is several times "
     "faster",
     false},
    {"model.cache", OPTION_BYTES, "1G", 16384 * KIB, 1e15, NULL, "bytes",
     "most memory for one engine's key/value cache", true},
    {"model.default", OPTION_STRING, "", 0, 0, NULL, "",
     "model used where none is named; empty: the newest adapter", false},
    {"model.images", OPTION_BOOL, "yes", 0, 0, NULL, "",
     "whether weights are packed once into a file (DATA/images) that every later start maps; no: packed in memory at every start", false},
    {"node.idle", OPTION_UINT, "10", 0, 86400, NULL, "s",
     "a node that a console started ends after this long with nothing left to do", false},
    {"serve.fee", OPTION_COIN, "1", 0, 0, NULL, "OPEN", "what a paid question costs at this node", false},
    {"serve.key", OPTION_STRING, "", 0, 0, NULL, "", "key whose account answers paid questions over the API; empty: none are answered", false},
    {"tx.expire", OPTION_UINT, "86400", 0, 1e7, NULL, "s",
     "a transaction that no block takes for so long is taken back by an empty one of its nonce; 0: never", false},
    {"tx.gas-price-limit", OPTION_UINT, "100", 1, 1e6, NULL, "gwei", "most that is offered for a unit of gas",
     false},
    {"tx.replace-after", OPTION_UINT, "60", 5, 86400, NULL, "s",
     "a transaction that stays out longer is sent again with a higher fee", false},
    {"tx.retry-depth", OPTION_UINT, "60", 1, 1e6, NULL, "blocks",
     "after a revert the same step is sent anew when its block is this deep (development chain: at once)", false},
};
const size_t option_count = sizeof option_table / sizeof *option_table;

struct value {
    char *text[OPTION_SET + 1]; /* one per source; [0] unused: the default is in the table */
};

struct options {
    pthread_mutex_t lock;
    struct value *v;
};

const struct option_def *option_find(const char *name) {
    for (size_t i = 0; i < option_count; i++)
        if (strcmp(option_table[i].name, name) == 0)
            return &option_table[i];
    return NULL;
}

const char *option_source_name(enum option_source s) {
    static const char *const names[] = {"default", "file", "command line", "set"};
    return (unsigned)s < 4 ? names[s] : "?";
}

enum loam_status options_new(struct options **out, struct err *err) {
    struct options *o = mem_zalloc(sizeof *o);
    if (o)
        o->v = mem_zarray(option_count, sizeof *o->v);
    if (!o || !o->v) {
        mem_free(o);
        return err_set(err, LOAM_ENOMEM, "no memory for options");
    }
    pthread_mutex_init(&o->lock, NULL);
    *out = o;
    return LOAM_OK;
}

void options_free(struct options *o) {
    if (!o)
        return;
    for (size_t i = 0; i < option_count; i++)
        for (int s = 0; s <= OPTION_SET; s++)
            mem_free(o->v[i].text[s]);
    mem_free(o->v);
    pthread_mutex_destroy(&o->lock);
    mem_free(o);
}

static bool parse_bool(const char *s, bool *out) {
    static const char *const yes[] = {"true", "on", "yes", "1"}, *const no[] = {"false", "off", "no", "0"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(s, yes[i]) == 0)
            return *out = true, true;
        if (strcmp(s, no[i]) == 0)
            return *out = false, true;
    }
    return false;
}

static bool parse_uint(const char *s, bool units, double *out) {
    if (!isdigit((unsigned char)*s))
        return false;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(s, &end, 10);
    if (errno)
        return false;
    double f = 1;
    if (units && *end) {
        static const char letters[] = "KMGT";
        const char *at = strchr(letters, toupper((unsigned char)*end));
        if (!at)
            return false;
        for (const char *p = letters; p <= at; p++)
            f *= KIB;
        end++;
    }
    *out = (double)v * f;
    return *end == 0;
}

static bool parse_real(const char *s, double *out) {
    char *end;
    if (!*s || isspace((unsigned char)*s))
        return false;
    *out = strtod(s, &end);
    return *end == 0 && isfinite(*out);
}

static enum loam_status check(const struct option_def *d, const char *s, struct err *err) {
    size_t n = strlen(s);
    if (n >= OPTION_TEXT_MAX)
        return err_set(err, LOAM_ELIMIT, "%s: longer than %d bytes", d->name, OPTION_TEXT_MAX - 1);
    char shown[80];
    text_clean_cut(shown, sizeof shown, s, n);
    double v = 0;
    bool b;
    struct u256 wei;
    switch (d->type) {
    case OPTION_BOOL:
        if (!parse_bool(s, &b))
            return err_set(err, LOAM_EINVAL, "%s: \"%s\" is neither yes nor no", d->name, shown);
        return LOAM_OK;
    case OPTION_UINT:
    case OPTION_BYTES:
        if (!parse_uint(s, d->type == OPTION_BYTES, &v))
            return err_set(err, LOAM_EINVAL, "%s: \"%s\" is no number", d->name, shown);
        break;
    case OPTION_REAL:
        if (!parse_real(s, &v))
            return err_set(err, LOAM_EINVAL, "%s: \"%s\" is no number", d->name, shown);
        break;
    case OPTION_COIN:
        if (u256_parse_coin(&wei, s, NULL))
            return err_set(err, LOAM_EINVAL, "%s: \"%s\" is no amount of OPEN", d->name, shown);
        return LOAM_OK;
    case OPTION_CHOICE:
        if (!text_choice(d->choices, s))
            return err_set(err, LOAM_EINVAL, "%s: \"%s\" is none of %s", d->name, shown, d->choices);
        return LOAM_OK;
    case OPTION_STRING:
        if (!utf8_valid((const uint8_t *)s, n, NULL))
            return err_set(err, LOAM_EINVAL, "%s: not UTF-8", d->name);
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
                return err_set(err, LOAM_EINVAL, "%s: control character in the value", d->name);
        return LOAM_OK;
    }
    if (v < d->min || v > d->max)
        return err_set(err, LOAM_ERANGE, "%s: %s is not in %.15g..%.15g", d->name, shown, d->min, d->max);
    return LOAM_OK;
}

enum loam_status option_put(struct options *o, const char *name, const char *value, enum option_source source,
                            struct err *err) {
    const struct option_def *d = option_find(name);
    char shown[80];
    if (!d)
        return err_set(err, LOAM_ENOTFOUND, "no option \"%s\" (option list shows them)",
                       text_clean_cut(shown, sizeof shown, name, strlen(name)));
    enum loam_status s = check(d, value, err);
    if (s)
        return s;
    char *copy = mem_strdup(value);
    if (!copy)
        return err_set(err, LOAM_ENOMEM, "no memory for option %s", name);
    LOAM_ASSERT(source > OPTION_DEFAULT && source <= OPTION_SET);
    pthread_mutex_lock(&o->lock);
    char **slot = &o->v[d - option_table].text[source];
    mem_free(*slot);
    *slot = copy;
    pthread_mutex_unlock(&o->lock);
    return LOAM_OK;
}

static char *trim(char *s) {
    while (isspace((unsigned char)*s))
        s++;
    size_t n = strlen(s);
    while (n && isspace((unsigned char)s[n - 1]))
        s[--n] = 0;
    return s;
}

enum loam_status options_load(struct options *o, const char *path, struct err *err) {
    if (!file_exists(path))
        return LOAM_OK;
    struct buf b = BUF_INIT(CONFIG_MAX);
    enum loam_status s = file_read(&b, path, err);
    int line = 0;
    for (char *p = (char *)b.data; !s && p && *p;) {
        line++;
        size_t len = strcspn(p, "\n");
        char *next = p + len + (p[len] == '\n');
        p[len] = 0;
        char *text = trim(p), *eq;
        p = next;
        if (!*text || *text == '#')
            continue;
        if (!(eq = strchr(text, '='))) {
            s = err_set(err, LOAM_EPARSE, "%s:%d: not \"name = value\"", path, line);
            break;
        }
        *eq = 0;
        s = option_put(o, trim(text), trim(eq + 1), OPTION_FILE, err);
        if (s)
            s = err_prefix(err, s, "%s:%d", path, line);
    }
    buf_clear(&b);
    return s;
}

enum loam_status options_save(struct options *o, const char *path, struct err *err) {
    struct buf b = BUF_INIT(CONFIG_MAX);
    enum loam_status s =
        buf_str(&b, "# options of this data folder; `loam option list` explains each\n", err);
    pthread_mutex_lock(&o->lock);
    for (size_t i = 0; !s && i < option_count; i++) {
        const char *v = o->v[i].text[OPTION_SET] ? o->v[i].text[OPTION_SET] : o->v[i].text[OPTION_FILE];
        if (v)
            s = buf_printf(&b, err, "%s = %s\n", option_table[i].name, v);
    }
    pthread_mutex_unlock(&o->lock);
    if (!s)
        s = file_write(path, b.data, b.len, 0600, err);
    buf_clear(&b);
    return s;
}

char *option_str(struct options *o, const char *name, char out[OPTION_TEXT_MAX]) {
    const struct option_def *d = option_find(name);
    LOAM_ASSERT(d);
    pthread_mutex_lock(&o->lock);
    const char *v = d->def;
    for (int s = OPTION_FILE; s <= OPTION_SET; s++)
        if (o->v[d - option_table].text[s])
            v = o->v[d - option_table].text[s];
    snprintf(out, OPTION_TEXT_MAX, "%s", v);
    pthread_mutex_unlock(&o->lock);
    return out;
}

enum option_source option_where(struct options *o, const char *name) {
    const struct option_def *d = option_find(name);
    LOAM_ASSERT(d);
    enum option_source w = OPTION_DEFAULT;
    pthread_mutex_lock(&o->lock);
    for (int s = OPTION_FILE; s <= OPTION_SET; s++)
        if (o->v[d - option_table].text[s])
            w = (enum option_source)s;
    pthread_mutex_unlock(&o->lock);
    return w;
}

bool option_bool(struct options *o, const char *name) {
    char t[OPTION_TEXT_MAX];
    bool b = false;
    LOAM_ASSERT(parse_bool(option_str(o, name, t), &b));
    return b;
}

uint64_t option_uint(struct options *o, const char *name) {
    char t[OPTION_TEXT_MAX];
    double v = 0;
    LOAM_ASSERT(parse_uint(option_str(o, name, t), option_find(name)->type == OPTION_BYTES, &v));
    return (uint64_t)v;
}

double option_real(struct options *o, const char *name) {
    char t[OPTION_TEXT_MAX];
    double v = 0;
    LOAM_ASSERT(parse_real(option_str(o, name, t), &v));
    return v;
}
