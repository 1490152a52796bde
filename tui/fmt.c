#include "tui/fmt.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/banned.h"

const json_t *jget(const json_t *o, const char *path) {
    char key[64];
    while (o && *path) {
        size_t n = strcspn(path, ".");
        if (n >= sizeof key)
            return NULL;
        memcpy(key, path, n);
        key[n] = 0;
        o = json_object_get(o, key);
        path += n + (path[n] == '.');
    }
    return json_is_null(o) ? NULL : o;
}

const char *jstr(const json_t *o, const char *path) {
    const char *s = json_string_value(jget(o, path));
    return s ? s : "";
}

const char *jtext(const json_t *o, const char *path, char *out, size_t cap) {
    const json_t *v = jget(o, path);
    if (json_is_integer(v))
        snprintf(out, cap, "%lld", (long long)json_integer_value(v));
    else
        snprintf(out, cap, "%s", json_is_string(v) ? json_string_value(v) : "");
    return out;
}

static const json_t *names; /* borrowed: {ACCOUNT: name}; the console is one a process */

void fmt_names(const json_t *of) { names = of; }

const char *fmt_account(char *out, size_t cap, int64_t account) {
    char id[24];
    snprintf(id, sizeof id, "%lld", (long long)account);
    const char *name = json_string_value(json_object_get(names, id));
    if (name)
        snprintf(out, cap, "%s", name);
    else
        snprintf(out, cap, "account %s", id);
    return out;
}

bool fmt_is_mine(int64_t account) {
    char id[24];
    snprintf(id, sizeof id, "%lld", (long long)account);
    return account > 2 && json_object_get(names, id);
}

const char *jwho(const json_t *o, char *out, size_t cap) {
    if (*jstr(o, "name"))
        snprintf(out, cap, "%s", jstr(o, "name"));
    else if (jget(o, "account"))
        fmt_account(out, cap, jint(o, "account", 0));
    else
        snprintf(out, cap, "?");
    return out;
}

double jnum(const json_t *o, const char *path, double none) {
    const json_t *v = jget(o, path);
    return json_is_number(v) ? json_number_value(v) : none;
}

int64_t jint(const json_t *o, const char *path, int64_t none) {
    const json_t *v = jget(o, path);
    double d = json_is_real(v) ? json_real_value(v) : 0;
    return json_is_integer(v) ? (int64_t)json_integer_value(v) : json_is_real(v) && fabs(d) < 9e18 ? (int64_t)d : none;
}

bool jbool(const json_t *o, const char *path) {
    return json_is_true(jget(o, path));
}

size_t jcount(const json_t *o, const char *path) {
    return json_array_size(jget(o, path));
}

void fmt_wei(char *out, size_t cap, const char *w) {
    size_t n = strlen(w);
    bool neg = n && *w == '-';
    w += neg;
    n -= neg;
    if (!n || n > 100 || strspn(w, "0123456789") != n) {
        snprintf(out, cap, "%s", n ? "?" : "");
        return;
    }
    while (n > 1 && *w == '0')
        w++, n--;
    char frac[19], whole[104];
    memset(frac, '0', 18);
    frac[18] = 0;
    size_t f = n < 18 ? n : 18;
    memcpy(frac + 18 - f, w + n - f, f);
    memcpy(whole, w, n - f);
    whole[n - f] = 0;
    int keep = 18;
    while (keep && frac[keep - 1] == '0')
        keep--;
    snprintf(out, cap, "%s%s%s%.*s", neg ? "-" : "", n > 18 ? whole : "0", keep ? "." : "", keep, frac);
}

void fmt_wei_short(char *out, size_t cap, const char *w) {
    fmt_wei(out, cap, w);
    char *dot = strchr(out, '.');
    if (!dot || strlen(dot) <= 7)
        return;
    dot[7] = 0;
    size_t n = strlen(out);
    while (out[n - 1] == '0')
        out[--n] = 0;
    if (out[n - 1] == '.')
        snprintf(out, cap, "%s", strspn(out, "-0.") == n ? "<0.000001" : out);
    n = strlen(out);
    if (out[n - 1] == '.')
        out[n - 1] = 0;
}

void fmt_bytes(char *out, size_t cap, double b) {
    static const char *const u[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int i = 0;
    while (b >= 1024 && i < 4)
        b /= 1024, i++;
    snprintf(out, cap, i && b < 100 ? "%.1f %s" : "%.0f %s", b, u[i]);
}

void fmt_count(char *out, size_t cap, double n) {
    if (fabs(n) >= 1e9)
        snprintf(out, cap, "%.1f G", n / 1e9);
    else if (fabs(n) >= 1e6)
        snprintf(out, cap, "%.1f M", n / 1e6);
    else if (fabs(n) >= 1e4)
        snprintf(out, cap, "%d %03d", (int)n / 1000, (int)fabs(n) % 1000);
    else
        snprintf(out, cap, "%.0f", n);
}

void fmt_seconds(char *out, size_t cap, double s) {
    if (!(s >= 0) || s > 1e9)
        snprintf(out, cap, "?");
    else if (s < 10)
        snprintf(out, cap, "%.1fs", s);
    else if (s < 60)
        snprintf(out, cap, "%.0fs", s);
    else if (s < 3600)
        snprintf(out, cap, "%dm%02ds", (int)s / 60, (int)s % 60);
    else
        snprintf(out, cap, "%dh%02dm", (int)s / 3600, (int)s % 3600 / 60);
}

static void when(char *out, size_t cap, int64_t ms, bool date) {
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    if (ms <= 0 || !localtime_r(&t, &tm))
        snprintf(out, cap, "-");
    else if (date)
        snprintf(out, cap, "%02d-%02d %02d:%02d", tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min);
    else
        snprintf(out, cap, "%02d:%02d:%02d", tm.tm_hour, tm.tm_min, tm.tm_sec);
}

void fmt_clock(char *out, size_t cap, int64_t ms) {
    when(out, cap, ms, false);
}
void fmt_date(char *out, size_t cap, int64_t ms) {
    when(out, cap, ms, true);
}

void fmt_hash(char *out, size_t cap, const char *h) {
    size_t n = strlen(h);
    if (n <= 14)
        snprintf(out, cap, "%s", h);
    else
        snprintf(out, cap, "%.8s..%s", h, h + n - 4);
}
