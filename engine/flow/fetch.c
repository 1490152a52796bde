#include "flow/fetch.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "flow/flow.h"
#include "flow/ledger.h"
#include "flow/models.h"
#include "flow/train.h"
#include "net/http.h"
#include "node/chain.h"
#include "node/job.h"
#include "store/blob.h"

#include <stdio.h>
#include <unistd.h>

#include "base/banned.h"

static enum loam_status on_body(void *arg, const void *p, size_t n) { return blob_write(arg, p, n, NULL); }
static bool cancelled(void *arg) { return job_cancelled(arg); }

const char *fetch_peer(const char *named, const char *locator) {
    struct url u;
    const char *behind = locator ? strrchr(locator, ' ') : NULL; /* an EigenDA commitment stands before it: flow/eigenda.h */
    if (behind)
        locator = behind + 1;
    if (named || !locator || url_parse(&u, locator, NULL) || *u.path)
        return named;
    return locator;
}

enum loam_status fetch_blob(struct flow *f, const char *peer, const struct hash32 *h, struct err *err) {
    char hex[HASH_HEX_MAX];
    struct blob_writer w;
    struct http_response r = {0};
    struct http *http = node_http(f->node);
    enum loam_status s;
    if (blob_has(f->node->blobs, h))
        return LOAM_OK;
    hash_hex(hex, h);
    if (!peer)
        return err_set(err, LOAM_ENOTFOUND, "blob %s is not in this node; name the node that has it: --peer http://HOST:PORT", hex);
    if (!http)
        return err_set(err, LOAM_ESTATE, "no chain is configured; run: chain use URL");
    char *url = mem_printf("%s/loam/v1/blob/%s", peer, hex + 2);
    if (!url)
        return err_set(err, LOAM_ENOMEM, "no memory");
    if ((s = blob_begin(&w, f->node->blobs, err))) {
        mem_free(url);
        return s;
    }
    struct http_cancel cancel = {cancelled, f->job};
    struct http_request q = {.url = url, .timeout_ms = FETCH_TIMEOUT_MS, .max_body = FETCH_MAX, .on_body = on_body, .body_arg = &w,
                             .cancel = f->job ? &cancel : NULL};
    s = http_fetch_wait(http, &r, &q, err);
    if (!s)
        s = http_check(&r, err);
    if (s)
        blob_abandon(&w);
    else
        s = blob_finish(&w, NULL, h, err);
    http_response_clear(&r);
    mem_free(url);
    return s ? err_prefix(err, s, "blob %s from %s", hex, peer) : LOAM_OK;
}

enum loam_status fetch_bytes(void *arg, const struct hash32 *h, struct buf *out, struct err *err) {
    struct fetcher *x = arg;
    enum loam_status s = fetch_blob(x->f, x->peer, h, err);
    return s ? s : blob_get(x->f->node->blobs, h, out, err);
}

/* A checked blob under a name in the run's folder: a link to it where the file system can, else a copy. */
static enum loam_status to_file(struct flow *f, const char *dir, const char *name, const struct hash32 *blob, struct err *err) {
    struct file_map m;
    char *path = mem_printf("%s/%s", dir, name);
    enum loam_status s;
    if (!path)
        return err_set(err, LOAM_ENOMEM, "no memory");
    if (!(s = blob_map(f->node->blobs, blob, true, &m, err))) {
        char *from = blob_path(f->node->blobs, blob), *tmp = mem_printf("%s.link", path);
        if (tmp)
            (void)!unlink(tmp); /* of a node that was killed here */
        bool linked = from && tmp && !link(from, tmp) && !rename(tmp, path);
        if (!linked)
            s = file_write(path, m.data, m.len, 0600, err);
        mem_free(from);
        mem_free(tmp);
        file_unmap(&m);
    }
    mem_free(path);
    return s;
}

static enum loam_status same_base(struct flow *f, const char *name, const struct hash32 *want, bool *same, struct err *err) {
    struct flow_model *m = NULL;
    struct lm_hashes h;
    enum loam_status s = flow_model_get(&m, f->node, name, err);
    *same = false;
    if (s)
        return s;
    if (!(s = lm_model_hashes(&h, m->base, err)))
        *same = !memcmp(h.base, want->b, 32);
    flow_model_put(m);
    return s;
}

/* The base by its hash, whatever it is called here. */
static enum loam_status find_base(struct flow *f, char *out, const char *hint, const struct hash32 *want, struct err *err) {
    json_t *list, *v;
    size_t i;
    bool same = false;
    if (!same_base(f, hint, want, &same, NULL) && same) {
        snprintf(out, FLOW_MODEL_NAME_MAX, "%s", hint);
        return LOAM_OK;
    }
    list = flow_model_list(f->node);
    json_array_foreach(list, i, v) {
        const char *name = json_string_value(json_object_get(v, "name")), *kind = json_string_value(json_object_get(v, "kind"));
        if (name && kind && !strcmp(kind, "base") && !same_base(f, name, want, &same, NULL) && same) {
            snprintf(out, FLOW_MODEL_NAME_MAX, "%s", name);
            json_decref(list);
            return LOAM_OK;
        }
    }
    json_decref(list);
    return err_set(err, LOAM_ENOTFOUND, "the base model %.64s is not in this node (or another version of it); get it and run: model add FILE", hint);
}

static enum loam_status trained_here(struct flow *f, char *name, uint64_t model, const struct hash32 *bundle, struct err *err) {
    json_t *list = NULL, *v;
    size_t i;
    enum loam_status s = flow_trained_list(f->node, &list, err);
    if (s)
        return s;
    s = LOAM_ENOTFOUND;
    json_array_foreach(list, i, v) {
        struct hash32 h;
        const char *n;
        if ((uint64_t)json_integer_value(json_object_get(v, "model")) == model && !jget_hash(&h, v, "bundle_blob", NULL) && hash_eq(&h, bundle) &&
            !jget_str(&n, v, "name", NULL) && strlen(n) < FLOW_MODEL_NAME_MAX) {
            snprintf(name, FLOW_MODEL_NAME_MAX, "%s", n);
            s = LOAM_OK;
        }
    }
    json_decref(list);
    return s;
}

enum loam_status fetch_model(struct flow *f, char *name, const char *peer, const struct manifest *m, struct err *err) {
    struct st_training t;
    struct hash32 data_root, root, h, rows, base_hash, adapter, final = {{0}}, sd;
    struct buf b = BUF_INIT(1u << 30);
    json_t *tjson = NULL, *bundle = NULL, *base, *list, *stores, *poa, *v, *rec = NULL;
    struct manifest mine = {0};
    char base_name[FLOW_MODEL_NAME_MAX], file[64];
    const char *hint, *hyper;
    char *rel = NULL, *dir = NULL, *adapter_path = NULL;
    size_t i;
    enum loam_status s;
    TRY(training_read(f, &t, &tjson, &data_root, m->model, err));
    if (!hash_eq(&t.data_hash, &m->bundle) || t.trainer != m->trainer) {
        s = err_set(err, LOAM_EVERIFY, "the batch names another bundle or trainer for model %llu than its Training statement", (unsigned long long)m->model);
        goto out;
    }
    s = trained_here(f, name, m->model, &m->bundle, err);
    if (s != LOAM_ENOTFOUND)
        goto out;
    flow_note(f, "fetching model %llu from %s", (unsigned long long)m->model, peer ? peer : "this node");
    TRY(fetch_blob(f, peer, &m->bundle, err));
    TRY(json_blob_get(f->node, &bundle, &m->bundle, err));
    TRY(jget_object(&base, bundle, "base", err));
    TRY(jget_str(&hint, base, "name", err));
    TRY(jget_hash(&base_hash, base, "hash", err));
    TRY(jget_str(&hyper, bundle, "hyper", err));
    TRY(jget_hash(&rows, bundle, "rows", err));
    TRY(jget_hash(&sd, bundle, "seed", err));
    if (!hash_eq(&rows, &m->blob) || memcmp(sd.b, t.seed.b, 32) != 0) {
        s = err_set(err, LOAM_EVERIFY, "the bundle of model %llu has other rows or another seed than the chain", (unsigned long long)m->model);
        goto out;
    }
    TRY(find_base(f, base_name, hint, &base_hash, err));
    TRY(fetch_blob(f, peer, &rows, err));
    TRY(blob_get(f->node->blobs, &rows, &b, err));
    TRY(manifest_read(&mine, b.data, b.len, &root, err));
    if (!hash_eq(&root, &data_root)) {
        s = err_set(err, LOAM_EVERIFY, "the rows of model %llu do not have the recipe's data root", (unsigned long long)m->model);
        goto out;
    }
    snprintf(name, FLOW_MODEL_NAME_MAX, "chain-%llu", (unsigned long long)m->model);
    rel = mem_printf("runs/%s", name);
    dir = rel ? node_path(f->node, rel) : NULL;
    adapter_path = dir ? mem_printf("%s/adapter", dir) : NULL;
    if (!adapter_path) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    TRY(file_mkdirs(dir, err));
    TRY(jget_array(&list, bundle, "checkpoints", err));
    TRY(jget_object(&poa, bundle, "poa", err));
    TRY(jget_array(&stores, poa, "stores", err));
    if (json_array_size(list) != t.checkpoint_count || json_array_size(stores) != json_array_size(list) || !json_array_size(list) ||
        json_array_size(list) > POA_CHECKPOINTS_MAX) {
        s = err_set(err, LOAM_EVERIFY, "the bundle of model %llu has other checkpoints than the chain", (unsigned long long)m->model);
        goto out;
    }
    json_array_foreach(list, i, v) {
        uint64_t epoch;
        TRY(flow_check(f, err));
        TRY(jget_u64(&epoch, v, "epoch", err));
        TRY(jget_hash(&final, v, "adapter_hash", err));
        TRY(jget_hash(&adapter, v, "adapter_blob", err));
        flow_progress(f, i, json_array_size(list), "fetching checkpoint %zu", i);
        TRY(fetch_blob(f, peer, &adapter, err));
        snprintf(file, sizeof file, "epoch-%llu.adapter", (unsigned long long)epoch);
        TRY(to_file(f, dir, file, &adapter, err));
        TRY(jget_hash(&h, json_array_get(stores, i), "blob", err));
        TRY(fetch_blob(f, peer, &h, err));
        snprintf(file, sizeof file, "epoch-%llu.poa", (unsigned long long)epoch);
        TRY(to_file(f, dir, file, &h, err));
    }
    if (!hash_eq(&final, &t.adapter_hash)) {
        s = err_set(err, LOAM_EVERIFY, "the last checkpoint of model %llu is not the published adapter", (unsigned long long)m->model);
        goto out;
    }
    TRY(to_file(f, dir, "adapter", &adapter, err));
    rec = json_pack("{s:s s:s s:o s:o s:s s:s s:I s:I s:o s:o s:o s:o s:I s:O s:s s:O s:o s:I s:b}", "name", name, "base", base_name, "base_hash",
                    json_hash(&base_hash), "adapter_hash", json_hash(&final), "adapter_path", adapter_path, "run_dir", dir, "model",
                    (json_int_t)m->model, "trainer", (json_int_t)t.trainer, "seed", json_hash(&sd), "data_root", json_hash(&data_root), "rows_blob",
                    json_hash(&rows), "bundle_blob", json_hash(&m->bundle), "rows", (json_int_t)mine.rows, "checkpoints", list, "hyper", hyper,
                    "training", tjson, "poa", json_deep_copy(poa), "created_ms", (json_int_t)clock_unix_ms(), "fetched", 1);
    if (!rec) {
        s = err_set(err, LOAM_ENOMEM, "no memory");
        goto out;
    }
    s = record_put(f->node, TABLE_MODEL, name, strlen(name), rec, err);
out:
    json_decref(rec);
    json_decref(bundle);
    json_decref(tjson);
    manifest_clear(&mine);
    mem_free(rel);
    mem_free(dir);
    mem_free(adapter_path);
    buf_clear(&b);
    return s;
}
