/* Paid questions: who pays signs before anything is computed.
 *
 * The payer asks the server for its terms, signs a Request (what is asked, at most for how much) and a Voucher (everything it owes this
 * server so far, this call included), and sends both with the question. The server answers nothing before it has checked both; the
 * accepted voucher, the request and the answer become durable together. `record` takes them as they are and signs nothing for a payer.
 *
 * Seed: the server names a commitment c in its terms; the payer draws r and signs nonce = keccak(r ‖ c); the answer's seed is keccak(nonce ‖ c).
 * So the server fixed c before it knew the nonce, and nobody can choose the seed afterwards; c and r are published with the call.
 *
 * HTTP: GET /loam/v1/terms?payer=N gives {chain_id, ledger, server, fee_wei, commitment, cumulative_wei, voucher?, signature?, models:[{name, model}]}.
 * POST /loam/v1/ask takes {head (the payer's newest block, waited for), model, messages, sampler, act, prompt_salt, nonce_salt, commitment, request, request_signature, voucher,
 * voucher_signature} and gives the answer's record. Refusals: 402 with the reason. The same request again gets the same answer.
 *
 * Table VOUCHER: 's' ‖ payer ‖ server (u64 be each): newest accepted voucher {voucher, signature}; 'v' ‖ payer ‖ server ‖ cumulative (32, be): each
 * accepted one; 'p' ‖ payer ‖ server: newest one signed here {cumulative}. Table CALL: "request/" ‖ request hash: {answer}; "terms": {commitment}. */
#ifndef LOAM_FLOW_PAY_H
#define LOAM_FLOW_PAY_H

#include "flow/ask.h"
#include "flow/batchdoc.h"
#include "flow/ctx.h"

#define PAY_REPLY_MAX (16u << 20) /* bytes of a server's reply */
#define PAY_VOUCHER_DAYS 30       /* life of a signed voucher; the server takes none that ends within PAY_VOUCHER_LEFT */
#define PAY_VOUCHER_LEFT (2 * 86400)

struct pay {
    const char *key;    /* payer's */
    const char *server; /* key of this node, where this node answers (NULL: the option serve.key); unused with peer */
    const char *peer;   /* the server's API, or NULL */
    struct u256 most;   /* wei for this call */
};
/* Asks and pays; *out is the answer's record as its server keeps it (new reference). q->privacy, sampler.seed and prompt_salt are set by this.
 * LOAM_ERANGE: the server's fee is above `most`; LOAM_EVERIFY: the server lies about a voucher, its own terms or the seed; LOAM_EPERM: the server refuses
 * (its words); LOAM_EFUNDS. */
enum loam_status flow_pay_ask(struct flow *f, json_t **out, const struct flow_ask *q, const struct pay *p, struct err *err) LOAM_MUST_USE;

/* The server's side: the paid question o (as POSTed) to its answer's record. LOAM_EPERM for whatever is not signed, not covered, or not
 * what was signed; LOAM_EBUSY while another paid question of the same payer is answered. job may be NULL. token as in flow_ask. */
enum loam_status flow_pay_serve(struct flow *f, json_t **out, const json_t *o, lm_token_fn token, void *ctx, const char *key, struct u256 fee, struct err *err) LOAM_MUST_USE;
enum loam_status flow_pay_terms(struct flow *f, json_t **out, uint64_t payer, const char *key, struct u256 fee, struct err *err) LOAM_MUST_USE;

/* The accepted voucher {voucher, signature} of exactly this cumulative amount; LOAM_ENOTFOUND. */
enum loam_status voucher_find(struct node *n, json_t **out, uint64_t payer, uint64_t server, struct u256 cumulative, struct err *err) LOAM_MUST_USE;

/* Is the seed of a paid call the one that payer and server fixed? LOAM_EVERIFY. For validators. */
enum loam_status pay_seed_check(const struct st_request *r, const struct st_inference *i, const struct hash32 *commitment, const struct hash32 *nonce_salt,
                                struct err *err) LOAM_MUST_USE;

/* The escrow: {account, escrow_wei, withdrawal_wei, ready_at}. */
enum loam_status flow_escrow_show(struct flow *f, json_t **out, uint64_t account, struct err *err) LOAM_MUST_USE;
enum loam_status flow_escrow_deposit(struct flow *f, json_t **out, const char *key, uint64_t account, struct u256 wei, struct err *err) LOAM_MUST_USE;
/* Announces a withdrawal (vouchers still reach the money until the delay is over), and takes it when it is. */
enum loam_status flow_escrow_request(struct flow *f, json_t **out, const char *key, struct u256 wei, struct err *err) LOAM_MUST_USE;
enum loam_status flow_escrow_withdraw(struct flow *f, json_t **out, const char *key, struct err *err) LOAM_MUST_USE;

/* Registers the routes; called by flow_serve. */
enum loam_status flow_pay_routes(struct node *n, struct err *err) LOAM_MUST_USE;

#endif
