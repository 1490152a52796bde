/* Commands: one table serves the prompt, `loam WORDS…`, `source FILE`, standard input and the socket; help, completion,
 * man page and reference are generated from it.
 *
 * A command is one file engine/cmd/NOUN_VERB.c (small related verbs may share NOUN.c): its entry first, then its handler.
 * To add one: write the file, name its entry in commands.def, add the file to engine/room.am. Example:
 *
 *     static enum loam_status run(struct cmd_call *c, struct err *err);
 *     static const struct cmd_arg args[] = {
 *         {"files", CMD_PATH, CMD_REQUIRED | CMD_MANY, NULL, "JSONL files"},
 *         {"datanet", CMD_DATANET, CMD_NAMED, "1", "datanet that takes the rows"},
 *         {NULL}};
 *     const struct cmd entry_contribute = {
 *         .noun = "contribute", .args = args, .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
 *         .help = "contribute rows to a datanet", .example = "contribute facts.jsonl --datanet 1 --as alice", .run = run};
 *
 * Grammar: words are split like a shell does (' " \ and # for the rest of a line), no expansion. First noun, then verb
 * (if the noun has verbs), then arguments by position; any argument also as --name VALUE or --name=VALUE; flags as --name.
 * "--" ends the named ones. Every command also takes --json, --yes, --no-wait (see cmd_line).
 *
 * A handler runs on a job thread of its own and may block; it is sequential code. It never prints, exits or touches a
 * libuv handle. A handler of a CMD_DURABLE command is started again with the same words and the same flow id after the
 * node died: it must continue after its last finished step (results under the flow id in the store; outbox keys). */
#ifndef LOAM_CMD_CMD_H
#define LOAM_CMD_CMD_H

#include "base/bytes.h"
#include "base/u256.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct node;
struct job;

enum cmd_type {
    CMD_STR,     /* any text */
    CMD_TEXT,    /* by position: all words left, joined by one space */
    CMD_UINT,    /* decimal 0 … 2^63 - 1 (range narrows it) */
    CMD_REAL,    /* finite decimal */
    CMD_COIN,    /* OPEN, up to 18 decimals; cmd_coin gives wei */
    CMD_FLAG,    /* only --name; no value */
    CMD_CHOICE,  /* one of .range = "a|b|c" */
    CMD_PATH,    /* file; relative ones are made absolute with the client's folder */
    CMD_ADDR,    /* 0x and 40 hex digits */
    CMD_HASH,    /* 0x and 64 hex digits */
    CMD_KEY,     /* name of a key in the keystore */
    CMD_ACCOUNT, /* account id, or the name of a key */
    CMD_DATANET, /* datanet id */
    CMD_MODEL,   /* name of a model (topic models) */
    CMD_JOB,     /* job id */
    CMD_OPTION,  /* name of an option */
    CMD_COMMAND, /* a command's words */
};

enum cmd_arg_flags {
    CMD_REQUIRED = 1,
    CMD_MANY = 2,  /* takes every word left (by position), or may be named again */
    CMD_NAMED = 4, /* only as --name */
};

#define CMD_ARGS_MAX 32   /* arguments a command declares */
#define CMD_WORDS_MAX 4096 /* words of one line; a shell's * may name many files */
#define CMD_LINE_MAX (256u << 10)

struct cmd_arg {
    const char *name; /* lower case, a-z and -; NULL ends the list */
    enum cmd_type type;
    unsigned flags;
    const char *def;   /* default as text, or NULL: then cmd_given is false */
    const char *help;  /* a phrase, no full stop */
    const char *range; /* CHOICE: "a|b|c"; UINT, REAL: "min..max"; else NULL */
};

enum cmd_flags {
    CMD_LONG = 1,    /* shown in `job list`; goes on when its client leaves. Others are cancelled with their client */
    CMD_DURABLE = 2, /* recorded, and resumed at the node's start if unfinished; implies CMD_LONG */
    CMD_SPENDS = 4,  /* may spend coins: asks through cmd_confirm; scripts need --yes */
    CMD_REPEATS = 16, /* the same words twice at a time mean two acts (a payment). Without it the second call of a durable
                       * command follows the first and gives its result */
    CMD_LOCAL = 8,   /* front-door words that never reach a node (node, stop, console); listed for help only */
};

struct cmd_call;

struct cmd {
    const char *noun;
    const char *verb; /* NULL: the noun alone is the command */
    const struct cmd_arg *args; /* NULL: none */
    unsigned flags;
    const char *help;    /* one line, lower case, no full stop */
    const char *text;    /* paragraphs for help and the manual, or NULL */
    const char *example; /* one line that parses (a test checks it) */
    enum loam_status (*run)(struct cmd_call *c, struct err *err); /* NULL: answers LOAM_ENOTBUILT */
    /* Prints the result as text with cmd_out. NULL: a general printer ("key: value" lines, tables for lists of objects). */
    void (*print)(struct cmd_call *c, const json_t *result);
};

/* All commands, sorted by noun and verb. */
extern const struct cmd *const cmd_table[];
extern const size_t cmd_table_count;
const struct cmd *cmd_find(const char *noun, const char *verb);
/* Does it only look? What a client may run that attached with --readonly. */
bool cmd_looks(const struct cmd *c);

/* ---- for handlers -------------------------------------------------------------------------------------------------- */

struct node *cmd_node(struct cmd_call *c);
struct job *cmd_job(struct cmd_call *c);
/* Name under which a durable command keeps its steps, e.g. "contribute-5f0c…" (32 hex digits); the same after a resume. */
const char *cmd_flow(struct cmd_call *c);
bool cmd_resumed(struct cmd_call *c); /* started again by the node: nobody is there to answer questions */

/* Arguments, by declared name (an unknown name is an invariant broken). Borrowed until the handler returns. */
bool cmd_given(struct cmd_call *c, const char *name); /* by the user or by default */
const char *cmd_str(struct cmd_call *c, const char *name); /* any type as text; NULL if not given */
uint64_t cmd_uint(struct cmd_call *c, const char *name);   /* 0 if not given; also DATANET, JOB */
double cmd_real(struct cmd_call *c, const char *name);
bool cmd_flag(struct cmd_call *c, const char *name);
struct u256 cmd_coin(struct cmd_call *c, const char *name);
size_t cmd_count(struct cmd_call *c, const char *name); /* CMD_MANY */
const char *cmd_str_at(struct cmd_call *c, const char *name, size_t i);

/* Output. Text is cleaned on its way out. cmd_out is the command's stdout (dropped with --json); cmd_note is chatter on
 * stderr: what it does, what comes next. */
void cmd_out(struct cmd_call *c, const char *fmt, ...) LOAM_PRINTF(2, 3);
void cmd_note(struct cmd_call *c, const char *fmt, ...) LOAM_PRINTF(2, 3);
/* Raw text for streams of tokens (cleaned, no newline added). */
void cmd_write(struct cmd_call *c, const char *text, size_t n);
/* The command's result; steals the reference; the last one wins. NULL (no memory) makes the command fail with LOAM_ENOMEM. */
void cmd_result(struct cmd_call *c, json_t *result);
/* The same for a result that must be shown once and kept nowhere (not listed with the job). */
void cmd_result_secret(struct cmd_call *c, json_t *result);
/* done of total (0 = unknown) in the unit detail names; detail (may be NULL, stolen) is an object for the console, its
 * "text" a phrase for people. Cheap; the newest wins. */
void cmd_progress(struct cmd_call *c, uint64_t done, uint64_t total, json_t *detail);

/* Questions to the client. They block until answered; without a client (or after a resume) they fail with LOAM_EPERM and
 * say how to do it without.
 * cmd_confirm: LOAM_OK if the user agrees, LOAM_ECANCEL if not. What is shown says chain, key and amount. With --yes it
 * agrees at once. */
enum loam_status cmd_confirm(struct cmd_call *c, struct err *err, const char *fmt, ...) LOAM_MUST_USE LOAM_PRINTF(3, 4);
/* A password, not echoed, into out (its max is the limit; wiped by the caller). */
enum loam_status cmd_secret(struct cmd_call *c, struct buf *out, const char *question, struct err *err) LOAM_MUST_USE;
/* Unlocks key `name` in the node if it is not: password from the client, --password-file, the option key.password-file or
 * systemd credentials. What spends, signs. */
enum loam_status cmd_unlock(struct cmd_call *c, const char *name, struct err *err) LOAM_MUST_USE;

bool cmd_cancelled(struct cmd_call *c);
/* LOAM_ECANCEL when cancelled; sleeps here while the job is paused. Call it between steps and inside long loops. */
enum loam_status cmd_check(struct cmd_call *c, struct err *err) LOAM_MUST_USE;

/* ---- for the front ends -------------------------------------------------------------------------------------------- */

/* A parsed line. */
struct cmd_line {
    const struct cmd *cmd;
    struct cmd_value *values; /* one per declared argument */
    bool json, yes, no_wait;  /* the words every command takes */
};
/* Splits text into words. out[i] are owned (cmd_words_free). LOAM_EPARSE on an open quote. */
enum loam_status cmd_split(char ***out, size_t *count, const char *text, size_t len, struct err *err) LOAM_MUST_USE;
void cmd_words_free(char **words, size_t count);
/* cwd (may be NULL) makes paths absolute. LOAM_ENOTFOUND unknown command (the message offers the nearest), LOAM_EINVAL and
 * LOAM_ERANGE bad arguments; *bad_word gets the index of the word at fault (NULL allowed). */
enum loam_status cmd_parse(struct cmd_line *out, char *const *words, size_t count, const char *cwd, size_t *bad_word,
                           struct err *err) LOAM_MUST_USE;
void cmd_line_clear(struct cmd_line *l);

/* Completions of the word at byte `cursor` of line: an array of {"text", "help", "from", "to"} (from and to: bytes of the
 * line it replaces). node may be NULL: then no live values. At most CMD_COMPLETE_MAX. */
#define CMD_COMPLETE_MAX 200
json_t *cmd_complete(struct node *node, const char *line, size_t cursor, const char *cwd);
/* The table as JSON: [{noun, verb, help, text, example, flags:[…], built, args:[{name, type, help, def, range, required,
 * many, named}]}]. */
json_t *cmd_table_json(void);
/* Text of `help`, `help NOUN`, `help NOUN VERB`, appended to out. LOAM_ENOTFOUND. */
enum loam_status cmd_help(struct buf *out, const char *noun, const char *verb, struct err *err) LOAM_MUST_USE;
/* Makes the node run commands that come over its control socket, and resumes unfinished durable ones. */
enum loam_status cmd_attach(struct node *node, struct err *err) LOAM_MUST_USE;

#endif
