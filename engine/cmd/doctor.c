/* doctor: what is missing or wrong, with the remedy. */
#include "base/mem.h"
#include "cmd/private.h"
#include "node/chain.h"
#include "node/keys.h"
#include "node/topic.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/banned.h"

#define FREE_WANTED (2ull << 30) /* a small model's gradient store and its run */

struct report {
    json_t *list;
    unsigned bad;
};

static void say(struct report *r, const char *what, bool ok, const char *found, const char *remedy) {
    r->bad += !ok;
    json_array_append_new(r->list, json_pack("{s:s s:b s:s s:s}", "check", what, "ok", ok, "found", found,
                                             "remedy", ok ? "" : remedy));
}

static void check_folder(struct report *r, struct node *n) {
    struct stat st;
    struct statvfs v;
    char text[128];
    bool ok = stat(n->dir, &st) == 0 && !(st.st_mode & 077);
    say(r, "data folder", ok, ok ? n->dir : "others may read it", "chmod 700 on the data folder");
    if (statvfs(n->dir, &v) == 0) {
        uint64_t left = (uint64_t)v.f_bavail * v.f_frsize;
        snprintf(text, sizeof text, "%.1f GB free", (double)left / 1e9);
        say(r, "disk space", left >= FREE_WANTED, text,
            "free 2 GB on the disk of the data folder, or use another --data");
    }
    double gb = (double)mem_available() / 1e9;
    snprintf(text, sizeof text, "%.1f GB can be had", gb);
    say(r, "memory", gb > 1, text, "close other programs: training the small model takes about 1 GB");
}

static void check_cpu(struct report *r) {
#ifdef __x86_64__
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    say(r, "processor", avx2,
        avx2 ? (__builtin_cpu_supports("avx512f") ? "AVX-512" : "AVX2")
             : "no AVX2: everything runs in plain C, slowly",
        "use a processor with AVX2 for speed");
#else
    say(r, "processor", true, "plain C", "");
#endif
}

static void check_keys(struct report *r, struct node *n) {
    json_t *keys = keys_list(n);
    char text[64];
    size_t count = json_array_size(keys);
    snprintf(text, sizeof text, "%zu", count);
    say(r, "keys", count > 0, text, "`key new NAME`");
    json_decref(keys);
}

static void check_chain(struct report *r, struct node *n) {
    char text[128];
    if (!node_chain_configured(n)) {
        say(r, "chain", false, "none is configured",
            "`chain use URL`, or start the development chain (contrib/quickstart)");
        return;
    }
    snprintf(text, sizeof text, "%llu", (unsigned long long)node_chain_id(n));
    say(r, "chain", true, text, "");
    json_t *v = topic_get(n, "chain");
    const char *e = json_string_value(json_object_get(v, "error"));
    bool ok = json_is_true(json_object_get(v, "ok"));
    say(r, "chain's head", ok,
        ok  ? "followed"
        : e ? e
            : "not known yet",
        "check that the RPC runs: `chain peers`");
    size_t contracts = json_object_size(json_object_get(v, "contracts"));
    snprintf(text, sizeof text, "%zu known", contracts);
    say(r, "contracts", contracts > 0, text,
        "`chain deploy`, or `chain use --file FILE` with the file of somebody who did");
    json_decref(v);
}

/* A port in use does not keep the node from its work, so it has to be said here. */
static void check_api(struct report *r, struct node *n) {
    json_t *v = topic_get(n, "node");
    const char *url = json_string_value(json_object_get(v, "api")), *e = json_string_value(json_object_get(v, "api_error"));
    say(r, "API", !e, e ? e : url ? url : "switched off (option api.listen)", "`set api.listen HOST:PORT` with a free port, then start the node again");
    json_decref(v);
}

static enum loam_status run(struct cmd_call *c, struct err *err) {
    struct report r = {json_array(), 0};
    if (!r.list)
        return err_set(err, LOAM_ENOMEM, "no memory");
    struct node *n = cmd_node(c);
    check_folder(&r, n);
    check_cpu(&r);
    check_keys(&r, n);
    check_chain(&r, n);
    check_api(&r, n);
    json_t *models = topic_get(n, "models");
    size_t count = json_array_size(json_object_get(models, "list"));
    char text[32];
    snprintf(text, sizeof text, "%zu", count);
    say(&r, "models", count > 0, text, "`model add FILE.gguf`, or run contrib/quickstart");
    json_decref(models);
    cmd_result(c, r.list);
    if (!c->json)
        cmd_note(c, r.bad ? "%u of the checks ask for something" : "all is well", r.bad);
    return LOAM_OK;
}

const struct cmd entry_doctor = {
    .noun = "doctor", .help = "what is missing or wrong, and the remedy", .example = "doctor", .run = run};
