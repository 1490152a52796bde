/* Writes what is generated from the command table, the option table and the console's key table: the manual
 * page, bash completion, the reference.
 *
 *   gen man > loam.1    gen bash > loam.bash    gen reference > commands.md
 *   gen names           every command, argument, option and key, one a line, for tests/generated.sh */
#include "base/bytes.h"
#include "base/option.h"
#include "cmd/cmd.h"
#include "cmd/private.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

/* The console's actions, from the table that it reads itself. */
static const struct {
    const char *name, *keys, *where, *help;
} console_keys[] = {
#define K(id, name, keys, where, help) {name, keys, #where, help},
#include "tui/keymap.def"
#undef K
};
#define CONSOLE_KEYS (sizeof console_keys / sizeof *console_keys)

static const char *verb_of(const struct cmd *c) {
    return c->verb ? c->verb : "";
}
static const char *gap(const struct cmd *c) {
    return c->verb ? " " : "";
}

/* roff: a backslash and a leading dot or quote mean something. */
static void roff(const char *s) {
    if (*s == '.' || *s == '\'')
        fputs("\\&", stdout);
    for (; *s; s++) {
        if (*s == '\\')
            fputs("\\e", stdout);
        else if (*s == '-')
            fputs("\\-", stdout);
        else
            putchar(*s);
    }
}

static void man_usage(const struct cmd *c) {
    printf(".B %s%s%s\n", c->noun, gap(c), verb_of(c));
    for (const struct cmd_arg *a = c->args; a && a->name; a++) {
        bool need = a->flags & CMD_REQUIRED, named = (a->flags & CMD_NAMED) || a->type == CMD_FLAG;
        fputs(need ? "" : "[", stdout);
        if (named) {
            fputs("\\fB\\-\\-", stdout);
            roff(a->name);
            fputs("\\fR", stdout);
            if (a->type != CMD_FLAG)
                fputs(" ", stdout);
        }
        if (a->type != CMD_FLAG) {
            fputs("\\fI", stdout);
            roff(named ? cmd_type_name(a->type) : a->name);
            fputs("\\fR", stdout);
        }
        printf("%s%s\n", a->flags & CMD_MANY ? " ..." : "", need ? "" : "]");
    }
}

static void man(void) {
    printf(".\\\" Written by contrib/gen.c from the command table; do not edit.\n.TH LOAM 1 \"\" \"loam %s\" "
           "\"User Commands\"\n",
           PACKAGE_VERSION);
    fputs(".SH NAME\nloam \\- train, ask, attribute, record and reward on the OpenLedger network\n"
          ".SH SYNOPSIS\n.B loam\n[\\fB\\-\\-data\\fR \\fIDIR\\fR] [\\fIWORDS\\fR ...]\n.br\n.B loam "
          "node\n.br\n.B loam stop\n.br\n.B loam \\-\n.br\n.B loam \\-\\-inside\n"
          ".SH DESCRIPTION\nWithout words, the console of the data folder's node; a node is started when "
          "none runs. With words, one command, run by the "
          "node. With \\-, the commands of standard input, one a line. Results go to standard output, "
          "chatter to standard error; the exit status is 0 only on "
          "success.\n.PP\nA command waits for its job. Ctrl\\-C leaves a long one running and says how to "
          "cancel it.\n"
          ".SH OPTIONS\n",
          stdout);
    static const char *const flags[][2] = {
        {"--data DIR", "data folder; default $LOAM_DATA, else $XDG_DATA_HOME/loam, else ~/.local/share/loam"},
        {"--json", "print the result as JSON"},
        {"--yes", "agree to what spends, without asking"},
        {"--no-wait", "print the job's number instead of waiting for its end"},
        {"--no-start", "fail when no node runs, instead of starting one"},
        {"--password-file FILE",
         "answers questions for a password with the file's first line; - is standard input"},
        {"--set NAME=VALUE", "an option, for this run of the node"},
        {"--plain", "console as append-only lines"},
        {"--readonly", "console that changes nothing"},
        {"--no-color", "console without colours; also NO_COLOR"},
        {"--ascii", "console drawn with ASCII"},
        {"--cast FILE", "record the console as an asciicast"},
        {"--pane NAME", "the console's first pane"},
        {"--theme NAME", "the console's colours: auto, dark, light, mono"},
        {"--plot KIND", "how the console draws curves: block, braille, ascii"},
        {"--mouse", "the console uses the mouse (breaks select and copy)"}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        fputs(".TP\n.B ", stdout);
        roff(flags[i][0]);
        putchar('\n');
        roff(flags[i][1]);
        putchar('\n');
    }
    fputs(".SH COMMANDS\n", stdout);
    for (size_t i = 0; i < cmd_table_count; i++) {
        const struct cmd *c = cmd_table[i];
        printf(".SS \"%s%s%s\"\n", c->noun, gap(c), verb_of(c));
        man_usage(c);
        fputs(".PP\n", stdout);
        roff(c->help);
        puts(c->run || (c->flags & CMD_LOCAL) ? "." : " (not built).");
        if (c->text) {
            fputs(".PP\n", stdout);
            roff(c->text);
            putchar('\n');
        }
        for (const struct cmd_arg *a = c->args; a && a->name; a++) {
            printf(".TP\n.B ");
            roff((a->flags & CMD_NAMED) || a->type == CMD_FLAG ? "--" : "");
            roff(a->name);
            putchar('\n');
            roff(a->help);
            if (a->range) {
                fputs(" (", stdout);
                roff(a->range);
                putchar(')');
            }
            if (a->def) {
                fputs("; default ", stdout);
                roff(a->def);
            }
            putchar('\n');
        }
        if (c->example) {
            fputs(".PP\nExample:\n.RS\n.B loam ", stdout);
            roff(c->example);
            fputs("\n.RE\n", stdout);
        }
    }
    fputs(".SH CONFIGURATION\nOptions are read from DATA/config (name = value), overridden by \\-\\-set and "
          "by the command \\fBset\\fR.\n",
          stdout);
    for (size_t i = 0; i < option_count; i++) {
        const struct option_def *o = &option_table[i];
        fputs(".TP\n.B ", stdout);
        roff(o->name);
        putchar('\n');
        roff(o->text);
        if (o->choices) {
            fputs(" (", stdout);
            roff(o->choices);
            putchar(')');
        }
        if (o->type == OPTION_UINT || o->type == OPTION_REAL || o->type == OPTION_BYTES)
            printf(" (%.15g to %.15g%s%s)", o->min, o->max, *o->unit ? " " : "", o->unit);
        fputs("; default ", stdout);
        roff(*o->def ? o->def : "none");
        puts(o->restart ? "; takes effect at the next start." : ".");
    }
    fputs(".SH CONSOLE KEYS\nThe name is what the option \\fBconsole.keys\\fR remaps: \\fBset console.keys "
          "detach=ctrl\\-q,help=f12\\fR.\n",
          stdout);
    for (size_t i = 0; i < CONSOLE_KEYS; i++) {
        fputs(".TP\n.B ", stdout);
        roff(console_keys[i].name);
        fputs("\n\\fI", stdout);
        roff(console_keys[i].keys);
        fputs("\\fR: ", stdout);
        roff(console_keys[i].help);
        if (strcmp(console_keys[i].where, "ALL") != 0)
            printf(" (%s pane)", console_keys[i].where);
        puts(".");
    }
    fputs(".SH EXIT STATUS\n", stdout);
    static const enum loam_status shown[] = {LOAM_OK,    LOAM_EINVAL,    LOAM_EPARSE, LOAM_ENOTFOUND,
                                             LOAM_ENET,  LOAM_EINTERNAL, LOAM_EEXIST, LOAM_EIO,
                                             LOAM_EBUSY, LOAM_EPROTO,    LOAM_EPERM,  LOAM_ECANCEL};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        printf(".TP\n.B %d\n%s\n", status_exit(shown[i]), status_text(shown[i]));
    fputs(".SH FILES\nDATA/config, DATA/keys (keystore v3), DATA/chains, DATA/models, DATA/store, "
          "DATA/blobs, DATA/log, DATA/node.sock, DATA/lock\n",
          stdout);
}

static void bash(void) {
    fputs("# bash completion for loam; written by contrib/gen.c from the command table; do not edit.\n"
          "_loam() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} w words=()\n"
          "    local i=1\n"
          "    while [ $i -lt $COMP_CWORD ]; do\n"
          "        w=${COMP_WORDS[i]}\n"
          "        case $w in --data|--password-file|--set|--cast|--pane|--theme|--plot) i=$((i+1)) ;; -*) ;; *) "
          "words+=(\"$w\") ;; esac\n"
          "        i=$((i+1))\n"
          "    done\n"
          "    case $prev in --data) COMPREPLY=($(compgen -d -- \"$cur\")); return ;; "
          "--password-file|--cast) COMPREPLY=($(compgen -f -- \"$cur\")); return ;; esac\n"
          "    case \"${words[0]} ${words[1]}\" in\n",
          stdout);
    for (size_t i = 0; i < cmd_table_count; i++) {
        const struct cmd *c = cmd_table[i];
        bool files = false;
        if (!c->verb)
            printf("    \"%s \"*) COMPREPLY=($(compgen -W \"", c->noun);
        else
            printf("    \"%s %s\") COMPREPLY=($(compgen -W \"", c->noun, c->verb);
        const char *sep = "";
        for (const struct cmd_arg *a = c->args; a && a->name; a++) {
            printf("%s--%s", sep, a->name);
            sep = " ";
            files = files || a->type == CMD_PATH;
            if (a->type == CMD_CHOICE)
                for (const char *p = a->range; *p;) {
                    size_t n = strcspn(p, "|");
                    printf(" %.*s", (int)n, p);
                    p += n + (p[n] == '|');
                }
        }
        printf("%s--json --yes --no-wait\" -- \"$cur\")", sep);
        if (files)
            printf(" $(compgen -f -- \"$cur\")");
        /* a noun that also has verbs offers them */
        if (!c->verb) {
            bool more = false;
            for (size_t k = 0; k < cmd_table_count; k++)
                if (cmd_table[k]->verb && strcmp(cmd_table[k]->noun, c->noun) == 0) {
                    printf(more ? " %s" : " $(compgen -W \"%s", cmd_table[k]->verb);
                    more = true;
                }
            if (more)
                printf("\" -- \"$cur\")");
        }
        puts("); return ;;");
    }
    fputs("    esac\n    case ${words[0]} in\n", stdout);
    for (size_t i = 0; i < cmd_table_count; i++) {
        const struct cmd *c = cmd_table[i];
        if (!c->verb || (i && strcmp(cmd_table[i - 1]->noun, c->noun) == 0))
            continue; /* its first entry lists them all; a noun alone was answered above */
        printf("    %s) COMPREPLY=($(compgen -W \"", c->noun);
        for (size_t k = i; k < cmd_table_count && strcmp(cmd_table[k]->noun, c->noun) == 0; k++)
            printf("%s%s", k > i ? " " : "", verb_of(cmd_table[k]));
        puts("\" -- \"$cur\")) ;;");
    }
    fputs("    '') COMPREPLY=($(compgen -W \"", stdout);
    for (size_t i = 0; i < cmd_table_count; i++)
        if (!i || strcmp(cmd_table[i - 1]->noun, cmd_table[i]->noun) != 0)
            printf("%s ", cmd_table[i]->noun);
    fputs("--data --json --yes --no-wait --no-start --password-file --set --inside --plain --readonly "
          "--no-color --ascii --cast --pane --theme --plot --mouse\" -- \"$cur\")) ;;\n"
          "    esac\n}\ncomplete -F _loam loam\n",
          stdout);
}

/* Markdown: what a shell's placeholder brackets would do. */
static void md(const char *s) {
    for (; *s; s++) {
        if (strchr("<>|", *s))
            putchar('\\');
        putchar(*s);
    }
}

static void reference(void) {
    puts("# Commands and options\n\n<!-- Written by contrib/gen.c from the command table and the option "
         "table; do not edit. -->\n\n"
         "Every command also takes `--json`, `--yes` and `--no-wait`.\n\n## Commands\n");
    for (size_t i = 0; i < cmd_table_count; i++) {
        const struct cmd *c = cmd_table[i];
        printf("### %s%s%s\n\n", c->noun, gap(c), verb_of(c));
        md(c->help);
        printf("%s\n", c->run || (c->flags & CMD_LOCAL) ? "." : " (not built).");
        if (c->text) {
            putchar('\n');
            md(c->text);
            putchar('\n');
        }
        if (c->flags & (CMD_LONG | CMD_DURABLE | CMD_SPENDS))
            printf("\n%s%s%s\n",
                   c->flags & (CMD_LONG | CMD_DURABLE) ? "A job: it goes on when its client leaves. " : "",
                   c->flags & CMD_DURABLE ? "Resumed after a crash. " : "",
                   c->flags & CMD_SPENDS ? "May spend coins: asks, or needs `--yes`." : "");
        if (c->args && c->args[0].name) {
            puts("\n| argument | type | default | |\n|---|---|---|---|");
            for (const struct cmd_arg *a = c->args; a->name; a++) {
                printf("| `%s%s`%s | %s", (a->flags & CMD_NAMED) || a->type == CMD_FLAG ? "--" : "", a->name,
                       a->flags & CMD_MANY ? " …" : "", cmd_type_name(a->type));
                if (a->range) {
                    putchar(' ');
                    md(a->range);
                }
                printf(" | %s | ", a->def ? a->def : a->flags & CMD_REQUIRED ? "required" : "");
                md(a->help);
                puts(" |");
            }
        }
        if (c->example)
            printf("\n    loam %s\n", c->example);
        putchar('\n');
    }
    puts("## Options\n\n| option | default | range | |\n|---|---|---|---|");
    for (size_t i = 0; i < option_count; i++) {
        const struct option_def *o = &option_table[i];
        printf("| `%s` | %s | ", o->name, o->def);
        if (o->choices)
            md(o->choices);
        else if (o->type == OPTION_UINT || o->type == OPTION_REAL || o->type == OPTION_BYTES)
            printf("%.15g to %.15g %s", o->min, o->max, o->unit);
        fputs(" | ", stdout);
        md(o->text);
        puts(o->restart ? " (at the next start) |" : " |");
    }
    puts("\n## Keys of the console\n\n| action | keys | pane | |\n|---|---|---|---|");
    for (size_t i = 0; i < CONSOLE_KEYS; i++) {
        printf("| `%s` | ", console_keys[i].name);
        md(console_keys[i].keys);
        printf(" | %s | ", strcmp(console_keys[i].where, "ALL") ? console_keys[i].where : "");
        md(console_keys[i].help);
        puts(" |");
    }
}

static void names(void) {
    for (size_t i = 0; i < cmd_table_count; i++) {
        const struct cmd *c = cmd_table[i];
        printf("command\t%s%s%s\n", c->noun, gap(c), verb_of(c));
        for (const struct cmd_arg *a = c->args; a && a->name; a++)
            printf("argument\t%s%s%s\t%s\n", c->noun, gap(c), verb_of(c), a->name);
    }
    for (size_t i = 0; i < option_count; i++)
        printf("option\t%s\n", option_table[i].name);
    for (size_t i = 0; i < CONSOLE_KEYS; i++)
        printf("key\t%s\n", console_keys[i].name);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "man") == 0)
        man();
    else if (argc == 2 && strcmp(argv[1], "bash") == 0)
        bash();
    else if (argc == 2 && strcmp(argv[1], "reference") == 0)
        reference();
    else if (argc == 2 && strcmp(argv[1], "names") == 0)
        names();
    else
        return fputs("usage: gen man | bash | reference\n", stderr), 2;
    return fflush(stdout) != 0;
}
