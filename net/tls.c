#include "net/tls.h"

#include "base/clock.h"
#include "base/entropy.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"

#include <mbedtls/error.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define SESSION_US 3600000000ull /* a certificate is looked at again after an hour at the latest */
#define SESSIONS 8
#define PENDING_MAX (1u << 20) /* bytes received and not yet taken by mbedTLS: a record holds 16 KiB */

struct tls_ctx {
    mbedtls_ssl_config conf;
    mbedtls_x509_crt roots;
    struct kept {
        char host[256];
        mbedtls_ssl_session s;
        uint64_t since_us; /* of the full handshake behind it */
        bool set;
    } kept[SESSIONS];
    unsigned next;
};

struct tls {
    struct tls_ctx *ctx;
    mbedtls_ssl_context ssl;
    char host[256];
    struct buf in; /* received, not yet taken */
    struct buf *out;
    bool open, resumed, offered;
    unsigned char id[32];
    size_t id_len;
};

static int random_bytes(void *arg, unsigned char *out, size_t n) {
    return entropy_fill(out, n, NULL) ? MBEDTLS_ERR_SSL_INTERNAL_ERROR : 0;
}

static enum loam_status fail(struct err *err, enum loam_status s, const char *what, int rc) {
    char text[128];
    mbedtls_strerror(rc, text, sizeof text);
    return err_set(err, s, "%s: %s", what, text);
}

enum loam_status tls_ctx_new(struct tls_ctx **out, const char *ca_file, bool insecure, struct err *err) {
    static const char *const places[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
                                         "/etc/ssl/ca-bundle.pem", NULL};
    struct tls_ctx *c = mem_zalloc(sizeof *c);
    int rc;
    if (!c)
        return err_set(err, LOAM_ENOMEM, "TLS");
    mbedtls_ssl_config_init(&c->conf);
    mbedtls_x509_crt_init(&c->roots);
    if ((rc = mbedtls_ssl_config_defaults(&c->conf, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT))) {
        tls_ctx_free(c);
        return fail(err, LOAM_ETLS, "TLS", rc);
    }
    mbedtls_ssl_conf_min_version(&c->conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_rng(&c->conf, random_bytes, NULL);
    if (!insecure) {
        for (size_t i = 0; !ca_file && places[i]; i++)
            if (file_exists(places[i]))
                ca_file = places[i];
        if (!ca_file) {
            tls_ctx_free(c);
            return err_set(err, LOAM_ECERT, "no trusted certificates on this system (Debian: ca-certificates)");
        }
        rc = mbedtls_x509_crt_parse_file(&c->roots, ca_file);
        if (rc < 0) { /* a positive count only says that some were not understood */
            tls_ctx_free(c);
            return fail(err, LOAM_ECERT, ca_file, rc);
        }
        mbedtls_ssl_conf_ca_chain(&c->conf, &c->roots, NULL);
    }
    mbedtls_ssl_conf_authmode(&c->conf, insecure ? MBEDTLS_SSL_VERIFY_NONE : MBEDTLS_SSL_VERIFY_REQUIRED);
    *out = c;
    return LOAM_OK;
}

void tls_ctx_free(struct tls_ctx *c) {
    if (!c)
        return;
    for (size_t i = 0; i < SESSIONS; i++)
        if (c->kept[i].set)
            mbedtls_ssl_session_free(&c->kept[i].s);
    mbedtls_ssl_config_free(&c->conf);
    mbedtls_x509_crt_free(&c->roots);
    mem_free(c);
}

static int bio_send(void *arg, const unsigned char *p, size_t n) {
    struct tls *t = arg;
    if (!t->out || buf_add(t->out, p, n, NULL))
        return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
    return (int)n;
}
static int bio_recv(void *arg, unsigned char *p, size_t n) {
    struct tls *t = arg;
    if (!t->in.len)
        return MBEDTLS_ERR_SSL_WANT_READ;
    if (n > t->in.len)
        n = t->in.len;
    memcpy(p, t->in.data, n);
    buf_consume(&t->in, n);
    return (int)n;
}

enum loam_status tls_new(struct tls **out, struct tls_ctx *c, const char *host, struct err *err) {
    struct tls *t = mem_zalloc(sizeof *t);
    int rc;
    if (!t)
        return err_set(err, LOAM_ENOMEM, "TLS");
    t->ctx = c;
    buf_init(&t->in, PENDING_MAX);
    snprintf(t->host, sizeof t->host, "%s", host);
    mbedtls_ssl_init(&t->ssl);
    if ((rc = mbedtls_ssl_setup(&t->ssl, &c->conf)) || (rc = mbedtls_ssl_set_hostname(&t->ssl, host))) {
        tls_free(t);
        return fail(err, LOAM_ETLS, host, rc);
    }
    for (size_t i = 0; i < SESSIONS; i++)
        if (c->kept[i].set && !strcmp(c->kept[i].host, t->host) && clock_mono_us() - c->kept[i].since_us < SESSION_US && !mbedtls_ssl_set_session(&t->ssl, &c->kept[i].s)) {
            t->offered = true;
            t->id_len = c->kept[i].s.id_len;
            memcpy(t->id, c->kept[i].s.id, 32);
        }
    mbedtls_ssl_set_bio(&t->ssl, t, bio_send, bio_recv, NULL);
    *out = t;
    return LOAM_OK;
}

void tls_free(struct tls *t) {
    if (!t)
        return;
    mbedtls_ssl_free(&t->ssl);
    buf_clear(&t->in);
    mem_free(t);
}

static void keep_session(struct tls *t) {
    struct tls_ctx *c = t->ctx;
    size_t i;
    for (i = 0; i < SESSIONS; i++)
        if (c->kept[i].set && !strcmp(c->kept[i].host, t->host))
            break;
    if (i == SESSIONS)
        i = c->next++ % SESSIONS;
    if (c->kept[i].set)
        mbedtls_ssl_session_free(&c->kept[i].s);
    mbedtls_ssl_session_init(&c->kept[i].s);
    c->kept[i].set = !mbedtls_ssl_get_session(&t->ssl, &c->kept[i].s);
    memcpy(c->kept[i].host, t->host, sizeof t->host);
    t->resumed = t->offered && t->id_len && c->kept[i].set && c->kept[i].s.id_len == t->id_len && !memcmp(c->kept[i].s.id, t->id, t->id_len);
    if (!t->resumed)
        c->kept[i].since_us = clock_mono_us();
}

enum loam_status tls_feed(struct tls *t, const void *p, size_t n, struct buf *plain, struct buf *out, bool *open, bool *eof,
                          struct err *err) {
    enum loam_status s;
    int rc;
    *eof = false;
    t->out = out;
    if (n && (s = buf_add(&t->in, p, n, err)))
        return s;
    if (!t->open) {
        rc = mbedtls_ssl_handshake(&t->ssl);
        if (rc == MBEDTLS_ERR_SSL_WANT_READ || rc == MBEDTLS_ERR_SSL_WANT_WRITE) {
            *open = false;
            return LOAM_OK;
        }
        if (rc) {
            uint32_t flags = mbedtls_ssl_get_verify_result(&t->ssl);
            if (rc == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED && flags && flags != UINT32_MAX) {
                char why[256], clean[256];
                mbedtls_x509_crt_verify_info(why, sizeof why, "", flags);
                return err_set(err, LOAM_ECERT, "%s: %s", t->host, text_clean_cut(clean, sizeof clean, why, strlen(why)));
            }
            return fail(err, LOAM_ETLS, t->host, rc);
        }
        t->open = true;
        keep_session(t);
    }
    *open = true;
    for (;;) {
        if ((s = buf_reserve(plain, 16384, err)))
            return s;
        rc = mbedtls_ssl_read(&t->ssl, plain->data + plain->len, 16384);
        if (rc > 0) {
            plain->len += (size_t)rc;
            continue;
        }
        if (rc == MBEDTLS_ERR_SSL_WANT_READ || rc == MBEDTLS_ERR_SSL_WANT_WRITE)
            return LOAM_OK;
        if (rc == 0 || rc == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) {
            *eof = true;
            return LOAM_OK;
        }
        return fail(err, LOAM_ETLS, t->host, rc);
    }
}

enum loam_status tls_write(struct tls *t, const void *p, size_t n, struct buf *out, struct err *err) {
    t->out = out;
    for (size_t done = 0; done < n;) {
        int rc = mbedtls_ssl_write(&t->ssl, (const unsigned char *)p + done, n - done);
        if (rc <= 0)
            return fail(err, LOAM_ETLS, t->host, rc);
        done += (size_t)rc;
    }
    return LOAM_OK;
}

bool tls_resumed(const struct tls *t) {
    return t->resumed;
}
