/* Command lines of any bytes: splitting, parsing, completion; and the same bytes as an option's value. */
#include "base/mem.h"
#include "base/option.h"
#include "cmd/cmd.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char **words;
    size_t count, bad;
    struct cmd_line line;
    struct err e;
    if (size > 4096)
        return 0;
    char *text = mem_strndup((const char *)data, size); /* as from the socket: no NUL inside */
    if (!text)
        return 0;
    size_t len = strlen(text);
    if (!cmd_split(&words, &count, text, len, &e)) {
        if (!cmd_parse(&line, words, count, "/tmp", &bad, &e))
            cmd_line_clear(&line);
        else if (bad > count)
            abort();
        cmd_words_free(words, count);
    }
    json_t *c = cmd_complete(NULL, text, len, "/nonexistent");
    if (json_array_size(c) > CMD_COMPLETE_MAX)
        abort();
    json_decref(c);
    struct options *o;
    if (!options_new(&o, &e)) {
        const struct option_def *d = &option_table[size % option_count];
        char was[OPTION_TEXT_MAX], now[OPTION_TEXT_MAX];
        option_str(o, d->name, was);
        if (option_put(o, d->name, text, OPTION_SET, &e) && strcmp(option_str(o, d->name, now), was) != 0)
            abort(); /* a refused value must change nothing */
        options_free(o);
    }
    mem_free(text);
    return 0;
}
