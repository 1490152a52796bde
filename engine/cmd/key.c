/* key new | import | export | list | backup | unlock | lock */
#include "base/file.h"
#include "base/mem.h"
#include "cmd/private.h"
#include "node/chain.h"
#include "node/keys.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define KEY_FILE_MAX 65536

static const struct cmd_arg name_args[] = {{"name", CMD_KEY, CMD_REQUIRED, NULL, "the key's name", NULL},
                                           {NULL}};

static void secret_clear(struct buf *b) {
    if (b->data)
        mem_wipe(b->data, b->cap);
    buf_clear(b);
}

/* Asks for a new password, twice where somebody types it. */
static enum loam_status new_password(struct cmd_call *c, struct buf *out, const char *name, struct err *err) {
    char q[KEY_NAME_MAX + 64];
    struct buf again = BUF_INIT(PASSWORD_MAX);
    snprintf(q, sizeof q, "New password for key %s: ", name);
    enum loam_status s = cmd_secret(c, out, q, err);
    if (!s && !out->len)
        s = err_set(err, LOAM_EINVAL, "an empty password protects nothing");
    if (!s)
        s = cmd_secret(c, &again, "The same again: ", err);
    if (!s && (again.len != out->len || memcmp(again.data, out->data, out->len) != 0))
        s = err_set(err, LOAM_EINVAL, "the two passwords differ; nothing was made");
    secret_clear(&again);
    return s;
}

static enum loam_status old_password(struct cmd_call *c, struct buf *out, const char *name, struct err *err) {
    char q[KEY_NAME_MAX + 64];
    snprintf(q, sizeof q, "Password of key %s: ", name);
    enum loam_status s = cmd_secret(c, out, q, err);
    return s ? s : buf_reserve(out, 1, err); /* data is there also when it is empty */
}

static void made(struct cmd_call *c, const char *name, const struct addr20 *a) {
    char hex[ADDR_HEX_MAX];
    cmd_result(c, json_pack("{s:s s:s}", "name", name, "address", addr_hex(hex, a)));
}

static enum loam_status key_new(struct cmd_call *c, struct err *err) {
    const char *name = cmd_str(c, "name");
    struct buf p = BUF_INIT(PASSWORD_MAX);
    struct addr20 a;
    enum loam_status s = LOAM_OK;
    if (!keys_address(cmd_node(c), name, &a, NULL))
        s = err_set(err, LOAM_EEXIST, "there is a key %s already", name);
    if (!s)
        s = new_password(c, &p, name, err);
    if (!s)
        s = keys_new(cmd_node(c), name, (const char *)p.data, &a, err);
    secret_clear(&p);
    if (!s)
        made(c, name, &a);
    if (!s)
        cmd_note(c,
                 "The key is in DATA/keys/%s.json. Without that file and its password what it owns is lost: "
                 "`key backup %s FILE`.",
                 name, name);
    return s;
}
const struct cmd entry_key_new = {.noun = "key",
                                  .verb = "new",
                                  .args = name_args,
                                  .help = "make a key, kept encrypted",
                                  .text = "The password comes from a prompt that does not echo, or from "
                                          "--password-file. The new key is unlocked until "
                                          "the node ends, within key.spend-limit.",
                                  .example = "key new alice",
                                  .run = key_new};

static const struct cmd_arg import_args[] = {
    {"name", CMD_STR, CMD_REQUIRED, NULL, "name for it here", NULL},
    {"file", CMD_PATH, 0, NULL, "keystore v3 file, or a file with 64 hex digits; asked for when absent",
     NULL},
    {NULL}};

static enum loam_status key_import(struct cmd_call *c, struct err *err) {
    struct node *n = cmd_node(c);
    const char *name = cmd_str(c, "name"), *file = cmd_str(c, "file");
    struct buf text = BUF_INIT(KEY_FILE_MAX), p = BUF_INIT(PASSWORD_MAX);
    struct addr20 a;
    uint8_t secret[32];
    enum loam_status s =
        file ? file_read(&text, file, err) : cmd_secret(c, &text, "Secret key (64 hex digits): ", err);
    const char *t = text.data ? (const char *)text.data : "";
    t += strspn(t, " \t\r\n");
    if (!s && *t == '{') {
        s = old_password(c, &p, name, err);
        if (!s)
            s = keys_import_file(n, name, (const char *)text.data, text.len, (const char *)p.data, &a, err);
    } else if (!s) {
        size_t len = strcspn(t, " \t\r\n");
        char *word = mem_strndup(t, len);
        s = word ? hex_decode(secret, 32, word, NULL) : LOAM_ENOMEM;
        if (word)
            mem_wipe(word, len);
        mem_free(word);
        if (s) /* the secret must not appear in the message */
            s = err_set(err, s, "%s: neither a keystore file nor 64 hex digits",
                        file ? file : "what was typed");
        if (!s)
            s = new_password(c, &p, name, err);
        if (!s)
            s = keys_import(n, name, secret, (const char *)p.data, &a, err);
    }
    mem_wipe(secret, sizeof secret);
    secret_clear(&text);
    secret_clear(&p);
    if (!s)
        made(c, name, &a);
    return s;
}
const struct cmd entry_key_import = {.noun = "key",
                                     .verb = "import",
                                     .args = import_args,
                                     .help = "take in a key made elsewhere",
                                     .text = "Keystore v3 files of geth, cast and others keep their "
                                             "password. Anvil's published keys are refused on any "
                                             "chain but the development one.",
                                     .example = "key import alice key.json",
                                     .run = key_import};

static enum loam_status key_export(struct cmd_call *c, struct err *err) {
    const char *name = cmd_str(c, "name");
    struct buf p = BUF_INIT(PASSWORD_MAX);
    uint8_t secret[32];
    char hex[65];
    enum loam_status s =
        cmd_confirm(c, err, "Show the secret of key %s? Whoever sees it owns what it owns.", name);
    if (!s)
        s = old_password(c, &p, name, err);
    if (!s)
        s = keys_export(cmd_node(c), name, (const char *)p.data, secret, err);
    if (!s) {
        hex_encode(hex, secret, 32);
        cmd_result_secret(c, json_pack("{s:s s:s}", "name", name, "secret", hex));
        mem_wipe(hex, sizeof hex);
    }
    mem_wipe(secret, sizeof secret);
    secret_clear(&p);
    return s;
}
const struct cmd entry_key_export = {.noun = "key",
                                     .verb = "export",
                                     .args = name_args,
                                     .help = "show a key's secret",
                                     .example = "key export alice",
                                     .run = key_export};

static const struct cmd_arg backup_args[] = {
    {"name", CMD_KEY, CMD_REQUIRED, NULL, "the key", NULL},
    {"file", CMD_PATH, CMD_REQUIRED, NULL, "file to write; must not exist", NULL},
    {NULL}};

static enum loam_status key_backup(struct cmd_call *c, struct err *err) {
    const char *file = cmd_str(c, "file");
    struct buf b = BUF_INIT(KEY_FILE_MAX);
    enum loam_status s = file_exists(file) ? err_set(err, LOAM_EEXIST, "%s exists already", file)
                                           : keys_backup(cmd_node(c), cmd_str(c, "name"), &b, err);
    if (!s)
        s = file_write(file, b.data, b.len, 0600, err);
    buf_clear(&b);
    if (!s)
        cmd_result(c, json_pack("{s:s s:s}", "name", cmd_str(c, "name"), "file", file));
    return s;
}
const struct cmd entry_key_backup = {.noun = "key",
                                     .verb = "backup",
                                     .args = backup_args,
                                     .help = "copy a key's encrypted file",
                                     .example = "key backup alice alice-backup.json",
                                     .run = key_backup};

static enum loam_status key_list(struct cmd_call *c, struct err *err) {
    if (node_chain_is_up(cmd_node(c))) {
        enum loam_status s = keys_refresh(cmd_node(c), cmd_job(c), err);
        if (s)
            return s;
    }
    cmd_result(c, keys_list(cmd_node(c)));
    return LOAM_OK;
}
const struct cmd entry_key_list = {.noun = "key",
                                   .verb = "list",
                                   .help = "the keys of the data folder",
                                   .example = "key list",
                                   .run = key_list};

static enum loam_status key_unlock(struct cmd_call *c, struct err *err) {
    return cmd_unlock(c, cmd_str(c, "name"), err);
}
const struct cmd entry_key_unlock = {.noun = "key",
                                     .verb = "unlock",
                                     .args = name_args,
                                     .help =
                                         "let the node sign with a key until it ends, within key.spend-limit",
                                     .example = "key unlock alice",
                                     .run = key_unlock};

static const struct cmd_arg lock_args[] = {{"name", CMD_KEY, 0, NULL, "the key; all when absent", NULL},
                                           {NULL}};
static enum loam_status key_lock(struct cmd_call *c, struct err *err) {
    struct addr20 a;
    const char *name = cmd_str(c, "name");
    enum loam_status s = name ? keys_address(cmd_node(c), name, &a, err) : LOAM_OK;
    if (!s)
        keys_lock(cmd_node(c), name);
    return s;
}
const struct cmd entry_key_lock = {.noun = "key",
                                   .verb = "lock",
                                   .args = lock_args,
                                   .help = "forget a key's secret until it is unlocked again",
                                   .example = "key lock alice",
                                   .run = key_lock};
