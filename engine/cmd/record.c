/* record */
#include "base/mem.h"
#include "cmd/flows.h"
#include "flow/record.h"
#include "node/keys.h"

#include <string.h>

#include "base/banned.h"

static enum loam_status run(struct cmd_call *c, struct err *err);
static const struct cmd_arg args[] = {
    {"answers", CMD_UINT, CMD_REQUIRED | CMD_MANY, NULL, "answers to record, by number", NULL},
    {"as", CMD_KEY, CMD_NAMED, NULL, "the server's key: it signs and pays the bond", NULL},
    {"fee", CMD_COIN, CMD_NAMED, "1", "OPEN for a call that nobody paid for: out of the server's own escrow", NULL},
    {"bond", CMD_COIN, CMD_NAMED, "1", "OPEN held until the batch has ended", NULL},
    {"fault", CMD_CHOICE, CMD_NAMED, NULL, "development chain only: post a false batch, to see it caught", "move-wei|bad-sum|bad-end|decrease|missing|missing-end|sequence|fee|link|count|claim"},
    {NULL}};
const struct cmd entry_record = {
    .noun = "record",
    .args = args,
    .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
    .help = "post answers and their attribution as a batch",
    .text = "Signs the inference and attribution statements and the batch with the server's key and posts them with the bond. Answers to paid questions "
            "(`ask --pay`) bring the request and the voucher that their payer signed before they were answered. An answer that nobody asked for so is paid by the server itself, out of its own escrow, which is filled up. What the "
            "answers hold becomes public with the batch. A "
            "poster has one open batch at a time. Answers that are in a batch already are not recorded twice, unless it was voided or "
            "slashed.\n\n"
            "--fault posts a batch that is false on purpose, so that validators can be seen at work; it is refused on every chain but the "
            "development one. move-wei moves one wei between two contributors: only re-execution shows it, and a quorum voids the batch. "
            "Every other fault can be shown to the contract (`dispute`), which slashes the bond: bad-sum and bad-end pay out what nobody paid, "
            "decrease, missing and missing-end take from an account what was settled for it, sequence, fee, link and count are false "
            "statements of calls, claim lets an account claim more than it is given.",
    .example = "record 1 2 3 --as server",
    .run = run};

static enum loam_status run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    const char *fault = cmd_str(c, "fault");
    struct flow_record q = {.count = cmd_count(c, "answers"), .key = key, .fee = cmd_coin(c, "fee"), .bond = cmd_coin(c, "bond")};
    json_t *out = NULL;
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)))
        return s;
    if (fault)
        (void)!fault_find(&q.fault, fault); /* the table's range has named them all */
    uint64_t *ids = mem_array(q.count ? q.count : 1, sizeof *ids);
    if (!ids)
        return err_set(err, LOAM_ENOMEM, "no memory for %zu answers", q.count);
    for (size_t i = 0; i < q.count && !s; i++) {
        struct u256 v;
        if (!(s = u256_parse(&v, cmd_str_at(c, "answers", i), err)) && !u256_fits_u64(v))
            s = err_set(err, LOAM_ERANGE, "%s is no answer's number", cmd_str_at(c, "answers", i));
        ids[i] = v.w[0];
    }
    q.answers = ids;
    if (!s)
        s = flow_record(&f, &out, &q, err);
    mem_free(ids);
    return flow_result(c, s, out);
}
