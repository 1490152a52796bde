/* WebSocket client (RFC 6455; frames by wslay) and, on it, the newHeads watch: the node need not poll where an RPC pushes. What is
 * pushed is only a hint to look (chain_poke): nothing in it is believed. Loop thread only. */
#ifndef LOAM_NET_WS_H
#define LOAM_NET_WS_H

#include "net/chain.h"
#include "net/http.h"

#define WS_MESSAGE_MAX (4u << 20)
#define WS_PING_MS 20000   /* quiet for so long: a ping */
#define WS_SILENCE_MS 60000 /* quiet for so long: given up (LOAM_ETIMEOUT) */
#define WS_OPEN_MS 15000   /* connection and handshake within this */

struct ws;
struct ws_events {
    void (*open)(void *arg);
    void (*text)(void *arg, const char *p, size_t n); /* one whole message; may call ws_close */
    /* Once, when it ended by itself: LOAM_OK after an orderly close. The ws is gone afterwards. LOAM_EUPGRADE, LOAM_EFRAME,
     * LOAM_ETIMEOUT, LOAM_ENET, LOAM_ECERT, … */
    void (*end)(void *arg, enum loam_status s, const struct err *e);
};
/* url: ws:// or wss:// (http and https are taken too). http gives loop, roots and proxies; every ws must be closed before it. */
enum loam_status ws_open(struct ws **out, struct http *http, const char *url, const struct ws_events *ev, void *arg, struct err *err) LOAM_MUST_USE;
enum loam_status ws_send(struct ws *w, const char *text, size_t n, struct err *err) LOAM_MUST_USE;
void ws_close(struct ws *w); /* no callback comes any more; frees itself later */

/* Subscribes to newHeads and pokes the chain at each; connects again by itself, with back-off and jitter. */
struct ws_watch;
enum loam_status ws_watch_new(struct ws_watch **out, struct http *http, const char *url, struct chain *c, struct err *err) LOAM_MUST_USE;
void ws_watch_close(struct ws_watch *w); /* before chain_free and http_close */
struct ws_watch_state {
    bool connected, subscribed;
    uint64_t heads, reconnects;
    char last_error[160];
};
void ws_watch_state(struct ws_watch_state *out, const struct ws_watch *w);

#endif
