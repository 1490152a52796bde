/* TLS client sessions by mbedTLS over memory: bytes from the net go in, bytes for the net come out; net/stream moves them.
 * System roots (or a given CA file), SNI, hostname check, TLS 1.2 at least, sessions kept for resumption. */
#ifndef LOAM_NET_TLS_H
#define LOAM_NET_TLS_H

#include "base/bytes.h"

#include <stdbool.h>

struct tls_ctx; /* shared: roots, random generator, kept sessions */
struct tls;     /* one connection */

/* ca_file NULL: the system's. insecure: any certificate (tests only). */
enum loam_status tls_ctx_new(struct tls_ctx **out, const char *ca_file, bool insecure, struct err *err) LOAM_MUST_USE;
void tls_ctx_free(struct tls_ctx *c); /* after all its connections */

enum loam_status tls_new(struct tls **out, struct tls_ctx *c, const char *host, struct err *err) LOAM_MUST_USE;
void tls_free(struct tls *t);
/* Takes n received bytes (may be 0: to start), drives the handshake, appends what decrypts to plain and what must be sent
 * to out. *open becomes true once the handshake is over. LOAM_ECERT, LOAM_ETLS. *eof: the peer ended the session. */
enum loam_status tls_feed(struct tls *t, const void *p, size_t n, struct buf *plain, struct buf *out, bool *open, bool *eof,
                          struct err *err) LOAM_MUST_USE;
/* Encrypts into out; only when open. */
enum loam_status tls_write(struct tls *t, const void *p, size_t n, struct buf *out, struct err *err) LOAM_MUST_USE;
bool tls_resumed(const struct tls *t);

#endif
