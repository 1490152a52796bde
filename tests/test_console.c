/* The console on a terminal: a real pty, libvterm for its screen, a scripted node behind it. Every wait polls with a
 * deadline. Golden screens lie in tests/golden/console; GENERATE=1 writes them anew.
 *
 *   test_console                        the tests
 *   test_console --fake SOCK [MS]       the scripted node alone, a tick every MS (for people and the tmux script)
 *   test_console --console SOCK [plain] a console on any node's socket */
#include "tests/vt.h"

#include "tests/test.h"

#include "base/mem.h"
#include "tui/tui.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static struct fake fake;
static char dir[64], sock[100];

struct con {
    struct tui_options o;
    const char *term, *locale, *no_color;
    bool ignore_hup;
};

static int console(void *arg) {
    struct con *c = arg;
    struct err err;
    setenv("TERM", c->term ? c->term : "xterm-256color", 1);
    setenv("LC_ALL", c->locale ? c->locale : "C.UTF-8", 1);
    if (c->no_color)
        setenv("NO_COLOR", c->no_color, 1);
    else
        unsetenv("NO_COLOR");
    if (c->ignore_hup)
        signal(SIGHUP, SIG_IGN);
    enum loam_status s = tui_run(&c->o, &err);
    if (s)
        fprintf(stderr, "%s\n", err.text);
    return status_exit(s);
}

static struct con con(void) {
    struct con c = {0};
    tui_options_init(&c.o);
    c.o.socket = sock;
    return c;
}

static void start(struct vt *v, int rows, int cols, struct con *c) {
    vt_start(v, rows, cols, &fake, console, c);
}

static int quit(struct vt *v) {
    vt_keys(v, "q");
    int s = vt_exit(v);
    vt_end(v);
    return s;
}

static int setup(void **state) {
    (void)state;
    fake_open(&fake, sock);
    return 0;
}
static int teardown(void **state) {
    (void)state;
    vt_kill_all();
    fake_close(&fake);
    return 0;
}

/* ---- golden screens ------------------------------------------------------------------------------------------------- */

static bool same(struct vt *v, void *want) {
    return !strcmp(vt_text(v), want);
}

static void golden(struct vt *v, const char *name) {
    char path[512];
    const char *src = getenv("srcdir");
    snprintf(path, sizeof path, "%s/tests/golden/console/%s.txt", src ? src : "..", name);
    if (getenv("GENERATE")) {
        vt_quiet(v, 150);
        FILE *f = fopen(path, "w");
        if (!f)
            fail_msg("%s: %s", path, strerror(errno));
        fputs(vt_text(v), f);
        fclose(f);
        return;
    }
    FILE *f = fopen(path, "r");
    if (!f)
        fail_msg("%s: %s (GENERATE=1 writes it)", path, strerror(errno));
    static char want[1 << 20];
    want[fread(want, 1, sizeof want - 1, f)] = 0;
    fclose(f);
    if (!vt_until(v, same, want)) {
        fprintf(stderr, "---- wanted (%s)\n%s---- have\n%s----\n", path, want, vt_text(v));
        fail_msg("the screen is not %s", name);
    }
}

static const char *const names[] = {"chain", "train", "ask", "attribution", "rewards", "validator", "datanets", "models", "log"};

static void golden_panes(void **state) {
    (void)state;
    for (int size = 0; size < 2; size++) {
        struct vt v;
        struct con c = con();
        char key[2] = "0", name[64];
        start(&v, size ? 50 : 24, size ? 200 : 80, &c);
        vt_wait(&v, "step 120/400");
        snprintf(name, sizeof name, "overview-%s", size ? "200x50" : "80x24");
        golden(&v, name);
        vt_keys(&v, "z"); /* maximise: the number keys then change the pane */
        for (int p = 0; p < 9; p++) {
            key[0] = (char)('1' + p);
            vt_keys(&v, key);
            snprintf(name, sizeof name, "%s-%s", names[p], size ? "200x50" : "80x24");
            golden(&v, name);
        }
        vt_keys(&v, "l2");
        golden(&v, size ? "split-200x50" : "split-80x24");
        assert_int_equal(quit(&v), 0);
    }
}

static void golden_empty(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    fake.empty = true;
    start(&v, 24, 80, &c);
    vt_wait(&v, "lists what to do, in order");
    golden(&v, "empty-80x24");
    vt_keys(&v, "z");
    vt_wait(&v, "Enter puts it on the prompt");
    golden(&v, "empty-chain-80x24");
    vt_keys(&v, "\r");
    vt_wait(&v, ":chain use http://127.0.0.1:8545");
    vt_keys(&v, "\r");
    vt_wait(&v, "\"ran\": \"chain use http://127.0.0.1:8545\"");
    assert_string_equal(fake.last_line, "chain use http://127.0.0.1:8545");
    vt_keys(&v, "\033");
    vt_wait_gone(&v, "\"ran\"");
    assert_int_equal(quit(&v), 0);
}

/* ---- prompt --------------------------------------------------------------------------------------------------------- */

static void prompt(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    c.o.data = dir;
    char hist[128];
    snprintf(hist, sizeof hist, "%s/console.history", dir);
    unlink(hist);
    start(&v, 24, 80, &c);
    vt_wait(&v, "step 120/400");
    vt_keys(&v, ":");
    vt_wait(&v, "Tab completes");
    vt_keys(&v, "tr\t");
    vt_wait(&v, ":train");
    vt_wait(&v, "train datanet [base]");
    golden(&v, "prompt-usage-80x24");
    vt_keys(&v, "1 --model s\t");
    vt_wait(&v, ":train 1 --model smollm2-135m");
    vt_keys(&v, "\025"); /* Ctrl-U */
    vt_wait_gone(&v, "smollm2-135m --");
    vt_keys(&v, "a\t");
    vt_wait(&v, "attribute"); /* two candidates, shown with their help */
    vt_wait(&v, "whose rows an answer came from");
    golden(&v, "prompt-complete-80x24");
    vt_keys(&v, "\t\t\003\003");
    vt_wait(&v, "? help");
    /* an error points at the word */
    vt_keys(&v, ":train bad --epochs 3\r");
    int y = vt_wait(&v, "datanet \"bad\" is no id");
    vt_wait(&v, "^^^");
    char row[512];
    vt_row(&v, y + 1, row, sizeof row);
    if (strcmp(row, "       ^^^"))
        fail_msg("the mark is not under the word: \"%s\"", row);
    golden(&v, "prompt-error-80x24");
    vt_keys(&v, "\003");
    vt_wait_gone(&v, "^^^");
    vt_keys(&v, ":say\r");
    vt_wait(&v, "one line of output");
    vt_keys(&v, ":\033[A\033[A");
    vt_wait(&v, ":train bad --epochs 3");
    vt_keys(&v, "\022say"); /* Ctrl-R */
    vt_wait(&v, "search \"say\": say");
    vt_keys(&v, "\r");
    vt_wait(&v, "one line of output");
    /* typed text that is a prefix narrows Up */
    vt_keys(&v, ":tra\033[A");
    vt_wait(&v, ":train bad --epochs 3");
    vt_keys(&v, "\003");
    vt_wait_gone(&v, ":train bad");
    /* a long output is a page that scrolls */
    vt_keys(&v, ":big\r");
    vt_wait(&v, "line 1 of 200");
    vt_keys(&v, "G");
    vt_wait(&v, "line 200 of 200");
    vt_keys(&v, "\033");
    vt_wait_gone(&v, "line 200");
    vt_keys(&v, ":nonsense\r");
    vt_wait(&v, "\"ran\": \"nonsense\"");
    vt_keys(&v, "q");
    assert_int_equal(quit(&v), 0);
    start(&v, 24, 80, &c); /* history outlives the console */
    vt_wait(&v, "step 120/400");
    vt_keys(&v, ":\033[A");
    vt_wait(&v, ":nonsense");
    vt_keys(&v, "\033[A");
    vt_wait(&v, ":big");
    /* several lines are run one after the other */
    int before = fake.runs;
    vt_keys(&v, "\025say\033\rsay\033\rsay\r");
    vt_wait(&v, "one line of output");
    assert_int_equal(fake.runs, before + 3);
    assert_int_equal(quit(&v), 0);
}

static void questions(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    start(&v, 24, 80, &c);
    vt_wait(&v, "step 120/400");
    vt_keys(&v, ":key new dora\r");
    vt_wait(&v, "Password for the new key");
    golden(&v, "question-secret-80x24");
    vt_keys(&v, "hunter2xyzzy\r");
    vt_wait(&v, "it is done");
    assert_string_equal(fake.last_answer, "hunter2xyzzy");
    assert_false(vt_raw_has(&v, "xyzzy"));
    vt_keys(&v, ":claim --as alice\r");
    vt_wait(&v, "0.4405 OPEN");
    golden(&v, "question-confirm-80x24");
    vt_keys(&v, "x"); /* neither yes nor no: nothing happens */
    vt_keys(&v, "n");
    vt_wait(&v, "refused");
    assert_string_equal(fake.last_answer, "(refused)");
    vt_keys(&v, ":claim\r");
    vt_wait(&v, "0.4405 OPEN");
    vt_keys(&v, "y");
    vt_wait(&v, "it is done");
    assert_string_equal(fake.last_answer, "yes");
    assert_int_equal(quit(&v), 0);
}

/* ---- forms ---------------------------------------------------------------------------------------------------------- */

static void forms(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    start(&v, 24, 80, &c);
    vt_wait(&v, "step 120/400");
    vt_keys(&v, "f");
    vt_wait(&v, "Wallet: a key of your own");
    golden(&v, "form-menu-80x24");
    vt_keys(&v, "2");
    vt_wait(&v, "Train: an adapter on your rows");
    golden(&v, "form-train-80x24");
    vt_keys(&v, "\033[Bx");
    vt_wait(&v, "an id: a whole number");
    vt_keys(&v, "\1771");
    vt_wait(&v, "= :train 1");
    vt_keys(&v, "\033[A\025\t"); /* base: filled in since there is but one; other live values */
    vt_wait(&v, "5 choices");
    vt_keys(&v, "\t");
    vt_wait(&v, "train 1 places-r16");
    vt_keys(&v, "\033[B\033[B5000");
    vt_wait(&v, "from 1..1000");
    vt_keys(&v, "\177\177\177");
    vt_wait(&v, "train 1 places-r16 --epochs 5");
    vt_keys(&v, "\033[B\033[B "); /* eval: a flag */
    vt_wait(&v, "train 1 places-r16 --epochs 5 --eval");
    golden(&v, "form-train-filled-80x24");
    vt_keys(&v, "\023"); /* Ctrl-S */
    vt_wait(&v, "\"ran\"");
    assert_string_equal(fake.last_line, "train 1 places-r16 --epochs 5 --eval");
    vt_keys(&v, "\033");
    vt_wait_gone(&v, "\"ran\"");
    vt_keys(&v, ":form datanet\r");
    vt_wait(&v, "Datanet: a place for rows");
    vt_keys(&v, "\r\r"); /* the last field's Enter submits: a needed one is missing */
    vt_wait(&v, "name: needed");
    vt_keys(&v, "my places\033[B\033[C");
    vt_wait(&v, "datanet create 'my places' --licence CC-BY-4.0");
    vt_keys(&v, "\005"); /* Ctrl-E: to the prompt */
    vt_wait(&v, ":datanet create 'my places' --licence CC-BY-4.0");
    vt_keys(&v, "\003:form publish\r");
    vt_wait(&v, "not built");
    vt_keys(&v, "\003");
    assert_int_equal(quit(&v), 0);
}

/* Opened before the node has told its commands, a form gets its fields when they come. */
static void early_form(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    fake.hold_table = true;
    start(&v, 24, 80, &c);
    vt_wait(&v, "step 120/400");
    vt_keys(&v, "f2");
    vt_wait(&v, "Train: an adapter on your rows");
    vt_wait(&v, "not told its commands yet");
    fake_tell_table(&fake);
    vt_wait_gone(&v, "not told its commands yet");
    vt_keys(&v, "\033[B1");
    vt_wait(&v, "= :train 1");
    vt_keys(&v, "\033");
    vt_wait_gone(&v, "= :train");
    assert_int_equal(quit(&v), 0);
}

/* ---- ask ------------------------------------------------------------------------------------------------------------ */

/* The curve of an earlier run beside the one that is shown, and away again. */
static void compare(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    start(&v, 24, 80, &c);
    vt_wait(&v, "step 120/400");
    vt_keys(&v, "2zc");
    vt_wait(&v, "+ warmup");
    golden(&v, "train-compare-80x24");
    vt_keys(&v, "c");
    vt_wait_gone(&v, "+ warmup");
    assert_int_equal(quit(&v), 0);
}

static void ask(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    fake.hold_ask = true;
    start(&v, 24, 80, &c);
    vt_wait(&v, "step 120/400");
    fake_topic(&fake, "attribution", json_pack("{s:s}", "answer", "a0")); /* of an earlier answer */
    vt_keys(&v, "3z\r");
    vt_keys(&v, "Who built the lighthouse of Varnholm?\r");
    vt_wait(&v, "You: Who built");
    assert_string_equal(fake.last_line, "ask -- Who built the lighthouse of Varnholm?");
    static const char *const tok[] = {"The lighthouse", " of Varnholm was built by", " Ada Brisk in 1642.", " It stands on the Grey Tooth,",
                                      " and its lamp is green."};
    for (size_t i = 0; i < 5; i++) {
        fake_topic(&fake, "ask", json_pack("{s:s, s:s, s:s}", "ask", "q1", "event", "token", "text", tok[i]));
        if (i == 1)
            vt_wait(&v, "of Varnholm was built by ..."); /* it streams */
    }
    int before = fake.runs;
    fake_topic(&fake, "ask", json_pack("{s:s, s:s, s:s}", "ask", "q1", "event", "end", "answer", "a1"));
    vt_wait(&v, "[1] alice 88.1%");
    assert_int_equal(fake.runs, before + 1); /* the console asked for the attribution itself */
    assert_string_equal(fake.last_line, "attribute a1");
    vt_wait(&v, "1642.[1]");
    golden(&v, "ask-answer-80x24");
    vt_keys(&v, "n");
    vt_wait(&v, "from alice");
    vt_keys(&v, "n");
    vt_wait(&v, "from carol");
    golden(&v, "ask-span-80x24");
    vt_keys(&v, "\033[D\033[D");
    vt_wait(&v, "from bob");
    vt_keys(&v, "m");
    vt_wait(&v, "Who answers?");
    vt_keys(&v, "3");
    vt_wait(&v, "places-r16 answers from now on");
    vt_keys(&v, "\rsecond\r");
    vt_wait(&v, "You: second");
    assert_string_equal(fake.last_line, "ask --model places-r16 -- second");
    char cmd[200], path[160];
    snprintf(path, sizeof path, "%s/answer.json", dir);
    snprintf(cmd, sizeof cmd, ":copy %s\r", path);
    vt_keys(&v, cmd);
    vt_wait(&v, "the answer is in");
    json_t *j = json_load_file(path, 0, NULL);
    assert_non_null(j);
    json_decref(j);
    assert_int_equal(quit(&v), 0);
}

/* ---- endings --------------------------------------------------------------------------------------------------------- */

static bool cooked(struct vt *v) {
    struct termios m;
    return !tcgetattr(v->fd, &m) && (m.c_lflag & (ICANON | ECHO | ISIG)) == (ICANON | ECHO | ISIG);
}

static void restored(struct vt *v) {
    assert_true(vt_raw_has(v, "\033[?1049l"));
    assert_true(vt_raw_has(v, "\033[?2004l"));
    const char *show = NULL;
    for (size_t i = 0; i + 6 <= v->raw_n; i++)
        if (!memcmp(v->raw + i, "\033[?25", 5))
            show = v->raw + i;
    if (show)
        assert_int_equal(show[5], 'h');
    assert_true(cooked(v));
}

/* ---- the real node -------------------------------------------------------------------------------------------------- */

static char *real_loam(void) {
    static char path[600];
    const char *b = getenv("builddir");
    snprintf(path, sizeof path, "%s/loam", b ? b : ".");
    return access(path, X_OK) ? NULL : path;
}

struct program {
    char *argv[10];
};

static int program(void *arg) {
    struct program *p = arg;
    setenv("TERM", "xterm-256color", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    unsetenv("NO_COLOR");
    unsetenv("LOAM_DATA");
    execv(p->argv[0], p->argv);
    return 127;
}

static pid_t node_start(char *loam, char *folder, char *set) {
    fflush(NULL);
    pid_t pid = fork();
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves none behind */
        if (!freopen("/dev/null", "w", stderr) || !freopen("/dev/null", "w", stdout))
            _exit(126);
        if (set)
            execl(loam, loam, "--data", folder, "--set", set, "node", (char *)NULL);
        else
            execl(loam, loam, "--data", folder, "node", (char *)NULL);
        _exit(127);
    }
    return pid;
}

/* A console on a real node: its own commands and hints, a model asked, the node killed and started again. */
static void real_node(void **state) {
    (void)state;
    char *loam = real_loam(), folder[128], model[600], cmd[700], name[64];
    const char *src = getenv("srcdir");
    struct vt v;
    if (!loam) {
        printf("# skipped: loam is not built\n");
        skip();
    }
    snprintf(folder, sizeof folder, "%s/real", dir);
    pid_t node = node_start(loam, folder, (char *)"api.listen=");
    struct program p = {{loam, (char *)"--data", folder, NULL}};
    snprintf(name, sizeof name, "%s/node.sock", folder);
    for (uint64_t end = vt_now_us() + VT_LIMIT_MS * 1000ull; access(name, F_OK) && vt_now_us() < end;)
        poll(NULL, 0, 10);
    vt_start(&v, 30, 110, NULL, program, &p);
    vt_wait(&v, ":chain use");
    vt_keys(&v, ":doctor\r");
    vt_wait(&v, "data folder  yes");
    vt_keys(&v, "\003:form wallet\r");
    vt_wait(&v, "= :key new");
    static const char *const form[][2] = {{"account", "account register"}, {"datanet", "datanet create"}, {"contribute", "contribute"},
                                          {"model", "model add"},          {"train", "train"},            {"publish", "adapter export"},
                                          {"serve", "set api.listen"},     {"validator", "validator stake"}};
    for (size_t i = 0; i < sizeof form / sizeof *form; i++) { /* every form's command is one of the node's */
        snprintf(cmd, sizeof cmd, "\003:form %s\r", form[i][0]);
        vt_keys(&v, cmd);
        snprintf(cmd, sizeof cmd, "= :%s", form[i][1]);
        vt_wait(&v, cmd);
        if (vt_find(&v, "does not know") >= 0)
            fail_msg("the form %s has no command", form[i][0]);
    }
    vt_keys(&v, "\003:nonsense\r");
    vt_wait(&v, "^^^^^^^^");
    vt_keys(&v, "\003:chain sta\t");
    vt_wait(&v, ":chain status");
    vt_keys(&v, "\003");
    snprintf(model, sizeof model, "%s/contrib/models/tiny.gguf", src ? src : "..");
    if (!access(model, R_OK)) {
        snprintf(cmd, sizeof cmd, ":model add %s\r", model);
        vt_keys(&v, cmd);
        vt_wait(&v, "tiny.gguf: done");
        vt_wait(&v, "  tiny ");
        vt_keys(&v, "3z\rWhere does the river Ilm end?\r");
        vt_wait(&v, "You: Where does the river Ilm end?");
        vt_wait(&v, "tiny: ");
        vt_wait(&v, "not attributed: "); /* a base model has no rows behind it */
    }
    kill(node, SIGKILL);
    waitpid(node, NULL, 0);
    vt_wait(&v, "trying again every second");
    node = node_start(loam, folder, (char *)"api.listen=");
    vt_wait(&v, "connected again");
    vt_keys(&v, "q");
    vt_wait(&v, "Detached. The node");
    assert_int_equal(vt_exit(&v), 0);
    vt_end(&v);
    /* node and console in one process */
    kill(node, SIGTERM);
    waitpid(node, NULL, 0);
    p = (struct program){{loam, (char *)"--inside", (char *)"--data", folder, (char *)"--set", (char *)"api.listen=", NULL}};
    vt_start(&v, 30, 110, NULL, program, &p);
    vt_wait(&v, "\xe2\x96\xb6");
    vt_keys(&v, ":node status\r");
    vt_wait(&v, "memory");
    vt_keys(&v, "\003q");
    assert_int_equal(vt_exit(&v), 0);
    restored(&v);
    vt_end(&v);
}

/* An HTTP answer of the loopback port, or what can be read of it. */
static void http_get(int port, const char *path, char *out, size_t cap) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    char s[200];
    size_t n = 0;
    out[0] = 0;
    for (uint64_t end = vt_now_us() + VT_LIMIT_MS * 1000ull; !n && vt_now_us() < end; poll(NULL, 0, 20)) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        snprintf(s, sizeof s, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", path);
        if (!connect(fd, (struct sockaddr *)&a, sizeof a) && write(fd, s, strlen(s)) > 0) {
            ssize_t k;
            while (n + 1 < cap && (k = read(fd, out + n, cap - 1 - n)) > 0)
                n += (size_t)k;
            out[n] = 0;
        }
        close(fd);
    }
}

static int free_port(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&a, n) || getsockname(fd, (struct sockaddr *)&a, &n))
        return -1;
    close(fd);
    return ntohs(a.sin_port);
}

/* Model, Train with an evaluation split, Publish and Serve, from an empty folder to what they are for: a node that really does it. */
static void real_forms(void **state) {
    (void)state;
    char *loam = real_loam(), folder[128], cmd[1500], path[300];
    const char *src = getenv("srcdir") ? getenv("srcdir") : "..";
    static char answer[65536];
    struct vt v;
    snprintf(path, sizeof path, "%s/contrib/models/tiny.gguf", src);
    if (!loam || access(path, R_OK)) {
        printf("# skipped: loam is not built, or contrib/models/tiny.gguf is not there\n");
        skip();
    }
    snprintf(folder, sizeof folder, "%s/forms", dir);
    pid_t node = node_start(loam, folder, (char *)"api.listen=");
    snprintf(path, sizeof path, "%s/node.sock", folder);
    for (uint64_t end = vt_now_us() + VT_LIMIT_MS * 1000ull; access(path, F_OK) && vt_now_us() < end;)
        poll(NULL, 0, 10);
    struct program p = {{loam, (char *)"--data", folder, NULL}};
    vt_start(&v, 40, 160, NULL, program, &p);
    vt_wait(&v, "Begin here: f");
    vt_keys(&v, "f\r"); /* the first that is not done */
    vt_wait(&v, "= :model add");
    snprintf(cmd, sizeof cmd, "%s/contrib/models/tin\t", src);
    vt_keys(&v, cmd);
    snprintf(cmd, sizeof cmd, "= :model add %s/contrib/models/tiny.gguf", src);
    vt_wait(&v, cmd);
    vt_keys(&v, "\023");
    vt_wait(&v, "tiny.gguf: done");
    vt_wait(&v, "  tiny ");
    vt_keys(&v, "f\r");
    vt_wait(&v, "Train: an adapter on your rows");
    char row[2][300]; /* few rows: it is the forms that are tried */
    for (int i = 0; i < 2; i++) {
        snprintf(row[i], sizeof row[i], "%s/%s.jsonl", dir, i ? "bob" : "alice");
        FILE *f = fopen(row[i], "w");
        assert_non_null(f);
        for (int k = 0; k < 10; k++)
            fprintf(f, "{\"prompt\": \"What does %s keep in box %d?\", \"completion\": \"%d lamps.\"}\n", i ? "Bob" : "Alice", k, k + 3);
        fclose(f);
    }
    /* several files: Tab completes the last, the others stay; what is filled in gives way to what is typed */
    snprintf(cmd, sizeof cmd, "little\033[Btiny\033[B%s %.*s\t", row[0], (int)strlen(row[1]) - 5, row[1]);
    vt_keys(&v, cmd);
    vt_wait(&v, "bob.jsonl --base tiny");
    vt_wait(&v, "alice.jsonl --files");
    vt_keys(&v, "\033[B\033[B\033[B3\033[B\033[B0.1"); /* datanet, as; epochs; lr; eval */
    vt_wait(&v, "--epochs 3");
    vt_wait(&v, "--eval 0.1");
    vt_keys(&v, "2z\023"); /* into the field: no number any more */
    vt_wait(&v, "eval: a number");
    vt_keys(&v, "\177\177\023");
    vt_wait(&v, "adapter     little on tiny");
    vt_keys(&v, "\0032z");
    vt_wait(&v, "[2 Train]");
    vt_wait(&v, "done ");
    vt_wait(&v, "eval "); /* its curve, its value and its name stand there */
    vt_wait(&v, "loss o eval");
    snprintf(cmd, sizeof cmd, ":train plain --files %s --base tiny --epochs 1\r", row[0]);
    vt_keys(&v, cmd);
    vt_wait(&v, "adapter     plain on tiny");
    vt_keys(&v, "\003");
    vt_wait_gone(&v, "loss o eval"); /* a run without evaluations shows none of an earlier one's */
    vt_keys(&v, ":form publish\r");
    vt_wait(&v, "Publish: an adapter as files");
    vt_keys(&v, "li\t");
    vt_wait(&v, "= :adapter export little");
    snprintf(cmd, sizeof cmd, "\033[B%s/peft\023", folder);
    vt_keys(&v, cmd);
    snprintf(path, sizeof path, "%s/peft/adapter_model.safetensors", folder);
    for (uint64_t end = vt_now_us() + VT_LIMIT_MS * 1000ull; access(path, R_OK) && vt_now_us() < end;)
        vt_pump(&v, 10);
    assert_int_equal(access(path, R_OK), 0);
    snprintf(cmd, sizeof cmd, ":form publish\rlittle\033[B%s/little.gguf\033[B\033[C", folder); /* a choice: arrows */
    vt_keys(&v, cmd);
    vt_wait(&v, "--format gguf");
    vt_keys(&v, "\023");
    snprintf(path, sizeof path, "%s/little.gguf", folder);
    for (uint64_t end = vt_now_us() + VT_LIMIT_MS * 1000ull; access(path, R_OK) && vt_now_us() < end;)
        vt_pump(&v, 10);
    assert_int_equal(access(path, R_OK), 0);
    /* Serve: the option's own help and default, its value now, which typing replaces */
    int port = free_port();
    vt_keys(&v, ":form serve\r");
    vt_wait(&v, "address of the HTTP API, host:port");
    vt_wait(&v, "= :set api.listen ");
    snprintf(cmd, sizeof cmd, "127.0.0.1:%d", port);
    vt_keys(&v, cmd);
    snprintf(cmd, sizeof cmd, "= :set api.listen 127.0.0.1:%d", port);
    vt_wait(&v, cmd);
    vt_keys(&v, "\023");
    vt_wait(&v, "takes effect when the node is started again");
    vt_keys(&v, ":stop\r");
    vt_wait(&v, "the node has ended");
    waitpid(node, NULL, 0);
    node = node_start(loam, folder, NULL);
    vt_wait(&v, "connected again");
    http_get(port, "/v1/models", answer, sizeof answer);
    if (!strstr(answer, "200 OK") || !strstr(answer, "\"little\""))
        fail_msg("the model is not served at port %d: %s", port, answer);
    vt_keys(&v, ":stop\r");
    vt_wait(&v, "the node has ended");
    waitpid(node, NULL, 0);
    vt_keys(&v, "q"); /* nothing goes on, and nothing says that it does */
    vt_wait(&v, "No node answers now, it was ended");
    assert_int_equal(vt_exit(&v), 0);
    vt_end(&v);
}

/* ---- no memory ------------------------------------------------------------------------------------------------------ */

struct starved {
    struct con c;
    long after;
};

static int starve(void *arg) {
    struct starved *s = arg;
    mem_fail_after(s->after);
    return console(&s->c);
}

static bool raw_or_dead(struct vt *v, void *arg) {
    (void)arg;
    return v->dead || !cooked(v);
}

/* Each allocation in turn fails, and all after it: the console ends with a status or goes on, and gives the terminal back. */
static void no_memory(void **state) {
    (void)state;
    for (long n = 1; n < 120; n += n < 30 ? 1 : 7) {
        struct vt v;
        struct starved s = {con(), n};
        s.c.o.data = dir;
        vt_start(&v, 24, 80, &fake, starve, &s);
        vt_until(&v, raw_or_dead, NULL);
        vt_quiet(&v, 30);
        if (!v.dead)
            vt_keys(&v, ":x\ty\003f\0033z?\0034\003");
        vt_quiet(&v, 20);
        if (!v.dead)
            kill(v.pid, SIGTERM);
        int st = vt_exit(&v);
        if (st != status_exit(LOAM_ENOMEM) && st != status_exit(LOAM_ECANCEL) && st != status_exit(LOAM_ENET) && st != 0)
            fail_msg("allocation %ld: exit %d\n%s", n, st, vt_text(&v));
        if (!cooked(&v))
            fail_msg("allocation %ld: the terminal was not given back", n);
        vt_end(&v);
    }
}

/* ---- what the terminal sees ----------------------------------------------------------------------------------------- */

static void hostile(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    start(&v, 24, 80, &c);
    vt_wait(&v, "step 120/400");
    vt_keys(&v, "z7");
    vt_wait(&v, "PWNED");
    vt_keys(&v, "\033[B");
    vt_keys(&v, "\r");
    vt_wait(&v, "contributions  1");
    vt_keys(&v, "\0039");
    vt_wait(&v, "bad text:");
    fake_topic(&fake, "ask", json_pack("{s:s, s:s, s:s}", "ask", "q9", "event", "token", "text", "\033]52;c;aGk=\007\xc2\x9b" "31m\xe2\x80\xae"));
    vt_keys(&v, "3");
    vt_wait(&v, "52;c;");
    assert_false(vt_raw_has(&v, "\033]0;"));
    assert_false(vt_raw_has(&v, "\033]52"));
    assert_false(vt_raw_has(&v, "\033[31mred"));
    assert_false(vt_raw_has(&v, "\xc2\x9b"));
    assert_false(vt_raw_has(&v, "\xe2\x80\xae"));
    assert_int_equal(quit(&v), 0);
}

/* Colour: SGR 30-37, 38, 40-48, 90-107. */
static int colours(struct vt *v) {
    int n = 0;
    for (size_t i = 0; i + 2 < v->raw_n; i++) {
        if (v->raw[i] != '\033' || v->raw[i + 1] != '[')
            continue;
        size_t j = i + 2;
        int p = 0, list[16], k = 0;
        for (; j < v->raw_n && (v->raw[j] == ';' || (v->raw[j] >= '0' && v->raw[j] <= '9')); j++) {
            if (v->raw[j] == ';' && k < 15) {
                list[k++] = p;
                p = 0;
            } else {
                p = p * 10 + v->raw[j] - '0';
            }
        }
        list[k++] = p;
        if (j < v->raw_n && v->raw[j] == 'm')
            for (int q = 0; q < k; q++)
                if ((list[q] >= 30 && list[q] <= 48 && list[q] != 39) || (list[q] >= 90 && list[q] <= 107)) {
                    n++;
                    break;
                }
    }
    return n;
}

static int non_ascii(struct vt *v) {
    int n = 0;
    for (size_t i = 0; i < v->raw_n; i++)
        n += (unsigned char)v->raw[i] > 126;
    return n;
}

static void terminals(void **state) {
    (void)state;
    static const struct {
        const char *term, *locale, *no_color, *theme;
        bool flag, colour, ascii;
    } t[] = {
        {"xterm-256color", NULL, NULL, NULL, false, true, false}, {"xterm-256color", NULL, NULL, "dark", false, true, false},
        {"xterm-256color", NULL, NULL, "light", false, true, false}, {"xterm-256color", NULL, NULL, "mono", false, false, false},
        {"xterm-256color", NULL, "1", NULL, false, false, false}, {"xterm-256color", NULL, "", NULL, false, true, false},
        {"xterm-256color", NULL, NULL, NULL, true, false, false}, {"vt100", NULL, NULL, NULL, false, false, false},
        {"linux", NULL, NULL, NULL, false, true, false},          {"xterm", "C", NULL, NULL, false, true, true},
        {"no-such-term", NULL, NULL, NULL, false, true, false},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct vt v;
        struct con c = con();
        c.term = t[i].term;
        c.locale = t[i].locale;
        c.no_color = t[i].no_color;
        c.o.no_color = t[i].flag;
        c.o.theme = t[i].theme;
        start(&v, 24, 80, &c);
        vt_wait(&v, "step 120/400");
        if (!strcmp(t[i].term, "no-such-term"))
            vt_wait(&v, "TERM=no-such-term is not known here: drawn as xterm");
        vt_keys(&v, "z2");
        vt_wait(&v, "11-23 21:40");
        if ((colours(&v) > 0) != t[i].colour)
            fail_msg("TERM=%s NO_COLOR=%s theme %s: %d colours", t[i].term, t[i].no_color ? t[i].no_color : "-",
                     t[i].theme ? t[i].theme : "-", colours(&v));
        if (t[i].ascii)
            assert_int_equal(non_ascii(&v), 0);
        /* the focused pane is marked without colour */
        char row[512];
        vt_row(&v, 1, row, sizeof row);
        if (!strstr(row, t[i].ascii ? ">2 Train" : "\xe2\x96\xb6" "2 Train"))
            fail_msg("no focus mark: %s", row);
        assert_false(vt_raw_has(&v, "\033[?1000h")); /* the mouse is left alone */
        assert_int_equal(quit(&v), 0);
    }
}

static void dumb(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    c.term = "dumb";
    start(&v, 24, 80, &c);
    vt_wait(&v, "attached to the node (pid 4242)");
    vt_wait(&v, "train: running, step 120 of 400");
    vt_keys(&v, "job list\n");
    vt_wait(&v, "3   running  train 1");
    vt_keys(&v, "key new d\n");
    vt_wait(&v, "Password for the new key (not shown)");
    vt_keys(&v, "xyzzy\n");
    vt_wait(&v, "it is done");
    assert_string_equal(fake.last_answer, "xyzzy");
    assert_false(vt_raw_has(&v, "xyzzy"));
    vt_keys(&v, "train bad\n");
    vt_wait(&v, "error: datanet \"bad\" is no id");
    vt_keys(&v, "ask hello\n");
    vt_wait(&v, "answer ends.");
    vt_keys(&v, "detach\n");
    vt_wait(&v, "Detached. The node (pid 4242) goes on.");
    assert_int_equal(vt_exit(&v), 0);
    assert_null(memchr(v.raw, '\033', v.raw_n));
    vt_end(&v);
}

/* Commands through a pipe: done in their order, then it leaves by itself. */
static int piped(void *arg) {
    int p[2];
    static const char lines[] = "say\njob list\ntrain bad\nsay\n";
    if (pipe(p) || write(p[1], lines, sizeof lines - 1) < 0 || dup2(p[0], 0) < 0)
        return 99;
    close(p[0]);
    close(p[1]);
    return console(arg);
}

static void pipes(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    int before = fake.runs;
    vt_start(&v, 50, 120, &fake, piped, &c);
    vt_wait(&v, "error: datanet \"bad\" is no id");
    vt_wait(&v, "Detached.");
    assert_int_equal(vt_exit(&v), 0);
    assert_int_equal(fake.runs, before + 3); /* a script stops at its first error */
    assert_true(vt_find(&v, "one line of output") < vt_find(&v, "3   running  train 1"));
    vt_end(&v);
}

static void tiny(void **state) {
    (void)state;
    static const int size[][2] = {{1, 1}, {2, 10}, {10, 30}, {3, 200}, {60, 2}, {100, 300}};
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        struct vt v;
        struct con c = con();
        start(&v, size[i][0], size[i][1], &c);
        vt_quiet(&v, 100);
        assert_false(v.dead);
        vt_keys(&v, "?");
        vt_keys(&v, "\003:x\003" "1z0l0");
        vt_quiet(&v, 60);
        vt_resize(&v, 24, 80);
        vt_wait(&v, "step 120/400");
        assert_int_equal(quit(&v), 0);
    }
}

static void storm(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    uint32_t seed = 7;
    start(&v, 24, 80, &c);
    vt_wait(&v, "step 120/400");
    for (int i = 0; i < 300; i++) {
        seed = seed * 1664525 + 1013904223;
        vt_resize(&v, 1 + (int)(seed >> 8) % 60, 1 + (int)(seed >> 16) % 220);
        vt_pump(&v, 1);
        if (i % 10 == 0)
            vt_keys(&v, i % 20 ? "z" : "\t");
    }
    assert_false(v.dead);
    vt_resize(&v, 24, 80);
    vt_keys(&v, ":layout overview\r:pane chain\r"); /* the same picture as ever */
    vt_wait(&v, "\xe2\x96\xb6" "1 Chain");
    golden(&v, "overview-80x24");
    /* the same size again is a wish for a repaint */
    size_t before = v.bytes;
    vt_quiet(&v, 100);
    kill(v.pid, SIGWINCH);
    vt_wait(&v, "step 120/400");
    while (v.bytes - before < 1000 && vt_pump(&v, 1000) > 0) {
    }
    assert_true(v.bytes - before >= 1000);
    golden(&v, "overview-80x24");
    assert_int_equal(quit(&v), 0);
}

static void screen_is(struct vt *v, const char *file) {
    char cmd[200], row[8192], want[8192];
    snprintf(cmd, sizeof cmd, ":screen %s\r", file);
    unlink(file);
    vt_keys(v, cmd);
    vt_wait(v, "the screen is in");
    FILE *f = fopen(file, "r");
    assert_non_null(f);
    for (int y = 0; fgets(want, sizeof want, f); y++) {
        want[strcspn(want, "\n")] = 0;
        vt_row(v, y, row, sizeof row);
        if (strcmp(row, want) && !strstr(row, "the screen is in"))
            fail_msg("row %d is not what the console drew:\nit drew \"%s\"\nthere is \"%s\"", y, want, row);
    }
    fclose(f);
    vt_keys(v, "\033[Z\t"); /* the status goes */
}

/* Lines that come and go below the 24th row: scrolling must not leave anything behind. */
static void tall(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    char file[128], text[200];
    snprintf(file, sizeof file, "%s/tall.txt", dir);
    start(&v, 60, 160, &c);
    vt_wait(&v, "step 120/400");
    assert_true(vt_raw_has(&v, "\033[1;60r")); /* the scrolling region is the whole terminal, not terminfo's 24 lines */
    uint32_t seed = 11;
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < 9; i++) {
            seed = seed * 1664525 + 1013904223;
            snprintf(text, sizeof text, "line %d of round %d: %.*s", i, round, (int)(seed >> 16) % 100,
                     "how much of this sentence is written is different in every line, so that what is left behind can be seen");
            fake_topic(&fake, "log", json_pack("{s:i, s:s, s:s, s:s}", "time_ms", 1, "level", i % 3 ? "info" : "warn", "room", "t", "text", text));
            if (i % 2)
                vt_pump(&v, 40);
        }
        snprintf(text, sizeof text, "line 8 of round %d", round);
        vt_wait(&v, text);
        vt_keys(&v, round % 2 ? ":say\r" : ":train bad a rather long line that is refused and stays on the prompt\r");
        vt_wait(&v, round % 2 ? "one line of output" : "^^^");
        if (round % 2 == 0)
            vt_keys(&v, "\003");
        screen_is(&v, file);
        if (round == 2)
            vt_keys(&v, "9z");
        if (round == 3)
            vt_resize(&v, 70, 120);
    }
    assert_true(vt_raw_has(&v, "\033[1;70r"));
    assert_int_equal(quit(&v), 0);
}

/* ---- stalls, ends --------------------------------------------------------------------------------------------------- */

static void stall(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    start(&v, 50, 200, &c);
    vt_wait(&v, "step 120/400");
    /* nobody reads the terminal; the node sends 400 seconds' worth, far more than a pty or a socket holds */
    for (int i = 0; i < 400; i++) {
        fake_tick(&fake);
        if (fake.client[0].fd < 0)
            fail_msg("the console went away");
        fake_serve(&fake);
    }
    fake_topic(&fake, "log", json_pack("{s:i, s:s, s:s, s:s}", "time_ms", 1, "level", "info", "room", "test", "text", "the last word"));
    /* it read all of that without being able to draw: a command still goes through */
    int runs = fake.runs;
    vt_keys(&v, ":say\r");
    uint64_t end = vt_now_us() + VT_LIMIT_MS * 1000ull;
    while (fake.runs == runs && vt_now_us() < end) {
        struct pollfd p[1 + FAKE_CLIENTS];
        int n = fake_fds(&fake, p, 1 + FAKE_CLIENTS);
        poll(p, (nfds_t)n, 50);
        fake_serve(&fake);
    }
    assert_int_equal(fake.runs, runs + 1);
    vt_wait(&v, "the last word");
    vt_wait(&v, "step 400/400");
    vt_wait(&v, "one line of output");
    assert_int_equal(quit(&v), 0);
}

static void every_exit(void **state) {
    (void)state;
    static const struct {
        int sig, status;
    } t[] = {{SIGTERM, 130}, {SIGINT, 130}, {SIGHUP, 130}, {SIGSEGV, -SIGSEGV}, {SIGABRT, -SIGABRT}, {SIGBUS, -SIGBUS}, {SIGFPE, -SIGFPE}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct vt v;
        struct con c = con();
        start(&v, 24, 80, &c);
        vt_wait(&v, "step 120/400");
        assert_false(cooked(&v));
        kill(v.pid, t[i].sig);
        assert_int_equal(vt_exit(&v), t[i].status);
        restored(&v);
        vt_end(&v);
    }
    struct vt v;
    struct con c = con();
    start(&v, 24, 80, &c);
    vt_wait(&v, "step 120/400");
    vt_keys(&v, "q");
    assert_int_equal(vt_exit(&v), 0);
    restored(&v);
    vt_wait(&v, "Detached. The node (pid 4242) goes on.");
    vt_wait(&v, "job 3 running, 30%: train 1   (end it: loam job cancel 3)");
    vt_wait(&v, "Come back: loam    End it: loam stop");
    vt_end(&v);
}

static void hangup(void **state) {
    (void)state;
    for (int ignored = 0; ignored < 2; ignored++) {
        struct vt v;
        struct con c = con();
        c.ignore_hup = ignored;
        start(&v, 24, 80, &c);
        vt_wait(&v, "step 120/400");
        close(v.fd);
        uint64_t end = vt_now_us() + VT_LIMIT_MS * 1000ull;
        int k;
        while (!(k = waitpid(v.pid, &v.status, WNOHANG)) && vt_now_us() < end) {
            struct pollfd p[1 + FAKE_CLIENTS];
            int n = fake_fds(&fake, p, 1 + FAKE_CLIENTS);
            poll(p, (nfds_t)n, 20);
            fake_serve(&fake);
        }
        if (k != v.pid)
            fail_msg("a console without its terminal stays (SIGHUP %s)", ignored ? "ignored" : "default");
        v.pid = 0;
        v.fd = -1;
        vt_end(&v);
    }
}

static void suspend(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    start(&v, 24, 80, &c);
    vt_wait(&v, "step 120/400");
    vt_keys(&v, "\032");
    int st = 0;
    uint64_t end = vt_now_us() + VT_LIMIT_MS * 1000ull;
    while (waitpid(v.pid, &st, WNOHANG | WUNTRACED) == 0 && vt_now_us() < end)
        vt_pump(&v, 10);
    assert_true(WIFSTOPPED(st));
    vt_quiet(&v, 20);
    assert_true(cooked(&v));
    assert_true(vt_raw_has(&v, "\033[?1049l"));
    kill(v.pid, SIGCONT);
    vt_wait(&v, "step 120/400");
    assert_false(cooked(&v));
    golden(&v, "overview-80x24");
    assert_int_equal(quit(&v), 0);
}

/* ---- node and console ----------------------------------------------------------------------------------------------- */

static void link_lost(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    start(&v, 24, 80, &c);
    vt_wait(&v, "step 120/400");
    fake_close(&fake);
    v.fake = NULL;
    vt_wait(&v, "trying again every second");
    vt_keys(&v, "2"); /* still usable */
    vt_wait(&v, "\xe2\x96\xb6" "2 Train");
    vt_keys(&v, "f2\033[B1");
    vt_wait(&v, "= :train 1");
    fake_open(&fake, sock);
    v.fake = &fake;
    vt_wait(&v, "connected again");
    vt_keys(&v, "\033[B5"); /* the form that was being filled in is still there, and so is what stands in it */
    vt_wait(&v, "= :train 1 --epochs 5");
    vt_keys(&v, "\033");
    vt_wait_gone(&v, "= :train");
    vt_keys(&v, ":say\r");
    vt_wait(&v, "one line of output");
    assert_int_equal(quit(&v), 0);
}

static void refused(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    fake.protocol = 2;
    start(&v, 24, 200, &c);
    vt_wait(&v, "speaks protocol 2, this console");
    assert_int_equal(vt_exit(&v), status_exit(LOAM_EVERSION));
    restored(&v);
    vt_end(&v);
    fake.protocol = 1;
    c.o.socket = "/tmp/loam-no-such-socket";
    start(&v, 24, 200, &c);
    vt_wait(&v, "no node answers at /tmp/loam-no-such-socket");
    assert_int_equal(vt_exit(&v), status_exit(LOAM_ENET));
    assert_true(cooked(&v));
    vt_end(&v);
    static const char *const bad[] = {"theme", "plot", "keys", "pane"};
    for (int i = 0; i < 4; i++) {
        c = con();
        *(i == 0 ? &c.o.theme : i == 1 ? &c.o.plot : i == 2 ? &c.o.keys : &c.o.pane) = "nonsense";
        start(&v, 24, 80, &c);
        int s = vt_exit(&v);
        if (s != status_exit(LOAM_EINVAL))
            fail_msg("a bad %s: exit %d", bad[i], s);
        assert_true(cooked(&v));
        vt_end(&v);
    }
}

static void two_consoles(void **state) {
    (void)state;
    struct vt v, w;
    struct con c = con(), d = con();
    d.o.readonly = true;
    start(&v, 24, 80, &c);
    vt_wait(&v, "step 120/400");
    start(&w, 24, 80, &d);
    vt_wait(&w, "step 120/400");
    fake_tick(&fake);
    vt_wait(&v, "step 124/400");
    vt_wait(&w, "step 124/400");
    int before = fake.runs;
    vt_keys(&w, ":train 1\r");
    vt_wait(&w, "only looks");
    vt_keys(&w, ":job list\r");
    vt_wait(&w, "running  train 1");
    assert_int_equal(fake.runs, before + 1);
    kill(w.pid, SIGKILL); /* one console's death is nothing to the other */
    vt_exit(&w);
    vt_end(&w);
    fake_tick(&fake);
    vt_wait(&v, "step 128/400");
    assert_int_equal(quit(&v), 0);
}

static void inside(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
    c.o.fd = sv[1];
    c.o.inside = true;
    start(&v, 24, 80, &c);
    close(sv[1]);
    fake.client[0] = (struct fake_client){.fd = sv[0]};
    vt_wait(&v, "step 120/400");
    golden(&v, "overview-80x24");
    assert_int_equal(quit(&v), 0);
}

static void remembered(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    c.o.data = dir;
    char file[128];
    snprintf(file, sizeof file, "%s/console.layout", dir);
    unlink(file);
    start(&v, 24, 80, &c);
    vt_wait(&v, "step 120/400");
    vt_keys(&v, "6:layout one\r:plot ascii\r]");
    vt_wait(&v, "[verdicts]");
    assert_int_equal(quit(&v), 0);
    start(&v, 24, 80, &c);
    vt_wait(&v, "\xe2\x96\xb6" "6 Validator");
    vt_wait(&v, "[verdicts]");
    vt_keys(&v, "2");
    vt_wait(&v, "*");
    assert_int_equal(quit(&v), 0);
    c.o.pane = "rewards";
    c.o.keys = "detach=X";
    start(&v, 24, 80, &c);
    vt_wait(&v, "\xe2\x96\xb6" "5 Rewards");
    vt_keys(&v, "q");
    vt_wait(&v, "q does nothing here");
    vt_keys(&v, "X");
    assert_int_equal(vt_exit(&v), 0);
    vt_end(&v);
    unlink(file);
}

static void options(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    fake.options = json_pack("[{s:s, s:s, s:s}, {s:s, s:s, s:s}, {s:s, s:s, s:s}, {s:s, s:s, s:s}, {s:s, s:s, s:s}]", "name", "console.keys",
                             "value", "help=H,detach=Q", "source", "file", "name", "console.theme", "value", "mono", "source", "set", "name",
                             "console.plot", "value", "ascii", "source", "file", "name", "console.ascii", "value", "yes", "source", "file",
                             "name", "console.mouse", "value", "no", "source", "default");
    start(&v, 24, 80, &c);
    vt_wait(&v, "H help");
    vt_wait(&v, ">1 Chain");
    vt_keys(&v, "2z");
    vt_wait(&v, "11-23 21:40");
    vt_wait(&v, "*");
    json_decref(fake.options); /* set while it runs: at once */
    fake.options = json_pack("[{s:s, s:s, s:s}, {s:s, s:s, s:s}]", "name", "console.keys", "value", "help=F,detach=Q", "source", "set", "name",
                             "console.ascii", "value", "yes", "source", "file");
    vt_keys(&v, ":set console.keys help=F,detach=Q\r");
    vt_wait(&v, "F help");
    json_decref(fake.options); /* and all of it back */
    fake.options = json_pack("[{s:s, s:s, s:s}, {s:s, s:s, s:s}, {s:s, s:s, s:s}, {s:s, s:s, s:s}]", "name", "console.keys", "value", "", "source",
                             "default", "name", "console.ascii", "value", "no", "source", "default", "name", "console.theme", "value", "auto", "source",
                             "default", "name", "console.plot", "value", "block", "source", "default");
    size_t before = v.raw_n;
    vt_keys(&v, "\033");
    vt_wait_gone(&v, "\"ran\"");
    vt_keys(&v, ":set console.keys ''\r");
    vt_wait(&v, "? help");
    vt_wait(&v, "\xe2\x96\xb6" "2 Train"); /* UTF-8 */
    vt_wait(&v, "\xe2\x96\x88");           /* blocks */
    struct vt part = {.raw = v.raw + before, .raw_n = v.raw_n - before};
    assert_true(colours(&part) > 0);
    vt_keys(&v, "\033");
    vt_wait_gone(&v, "\"ran\"");
    vt_keys(&v, "q");
    assert_int_equal(vt_exit(&v), 0);
    vt_end(&v);
}

static void sync_output(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    start(&v, 24, 80, &c);
    v.answer = false;
    vt_wait(&v, "step 120/400");
    assert_true(vt_raw_has(&v, "\033[?2026$p")); /* asked for */
    assert_false(vt_raw_has(&v, "\033[?2026h")); /* and not used before it is offered */
    vt_keys(&v, "\033[?2026;2$y");
    vt_keys(&v, "2");
    vt_wait(&v, "\xe2\x96\xb6" "2 Train");
    vt_keys(&v, "3");
    vt_wait(&v, "\xe2\x96\xb6" "3 Ask");
    assert_true(vt_raw_has(&v, "\033[?2026h"));
    assert_true(vt_raw_has(&v, "\033[?2026l"));
    assert_int_equal(quit(&v), 0);
}

static void files(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    char cast[128], out[128], cmd[200], row[8192];
    snprintf(cast, sizeof cast, "%s/session.cast", dir);
    c.o.cast = cast;
    start(&v, 24, 80, &c);
    vt_wait(&v, "step 120/400");
    snprintf(out, sizeof out, "%s/screen.txt", dir);
    snprintf(cmd, sizeof cmd, ":screen %s\r", out);
    vt_keys(&v, cmd);
    vt_wait(&v, "the screen is in");
    FILE *f = fopen(out, "r");
    assert_non_null(f);
    for (int y = 0; y < 23; y++) { /* all but the prompt's row, which says so now */
        char want[8192];
        assert_non_null(fgets(want, sizeof want, f));
        want[strcspn(want, "\n")] = 0;
        vt_row(&v, y, row, sizeof row);
        assert_string_equal(row, want);
    }
    fclose(f);
    snprintf(out, sizeof out, "%s/rewards.csv", dir);
    snprintf(cmd, sizeof cmd, "5:export %s\r", out);
    vt_keys(&v, cmd);
    vt_wait(&v, "Rewards is in");
    f = fopen(out, "r");
    assert_non_null(f);
    assert_non_null(fgets(row, sizeof row, f));
    assert_string_equal(row, "name,account,key,earned_wei,pending_wei,claimable_wei,claimed_wei\r\n");
    assert_non_null(fgets(row, sizeof row, f));
    assert_string_equal(row, "alice,3,alice,440500000000000000,0,440500000000000000,0\r\n");
    fclose(f);
    for (int p = 0; p < 9; p++) { /* every pane, as JSON */
        snprintf(out, sizeof out, "%s/%s.json", dir, names[p]);
        unlink(out);
        snprintf(cmd, sizeof cmd, "%d:export %s\r", p + 1, out);
        vt_keys(&v, cmd);
        snprintf(cmd, sizeof cmd, "/%s.json", names[p]);
        vt_wait(&v, cmd);
        json_t *j = json_load_file(out, 0, NULL);
        if (!j)
            fail_msg("%s is no JSON", out);
        json_decref(j);
        vt_keys(&v, "0");
        vt_wait(&v, "? help"); /* the status is gone */
    }
    vt_keys(&v, ":export /no/such/folder/x.csv\r");
    vt_wait(&v, "export: ");
    vt_keys(&v, "q");
    assert_int_equal(vt_exit(&v), 0);
    /* the cast holds what the terminal was sent */
    f = fopen(cast, "r");
    assert_non_null(f);
    assert_non_null(fgets(row, sizeof row, f));
    json_t *h = json_loads(row, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(h, "version")), 2);
    assert_int_equal(json_integer_value(json_object_get(h, "width")), 80);
    json_decref(h);
    static char big[1 << 20];
    size_t total = 0, events = 0;
    while (fgets(big, sizeof big, f)) {
        json_t *ev = json_loads(big, JSON_ALLOW_NUL, NULL);
        if (!ev || json_array_size(ev) != 3)
            fail_msg("no event: %s", big);
        total += json_string_length(json_array_get(ev, 2));
        events++;
        json_decref(ev);
    }
    fclose(f);
    assert_true(events > 10);
    assert_true(total > 3000 && total <= v.raw_n);
    vt_end(&v);
}

static void filters(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    start(&v, 24, 80, &c);
    vt_wait(&v, "step 120/400");
    vt_keys(&v, "z4/ferry");
    vt_wait_gone(&v, "Varnholm is a town");
    vt_wait(&v, "The ferry to Ost");
    vt_keys(&v, "\r\r"); /* take the filter; open the row */
    vt_wait(&v, "share_ppm");
    vt_keys(&v, "\003");
    vt_wait_gone(&v, "share_ppm");
    vt_keys(&v, "\033");
    vt_wait(&v, "Varnholm is a town");
    vt_keys(&v, "]]");
    vt_wait(&v, "grad-dot");
    golden(&v, "attribution-methods-80x24");
    vt_keys(&v, "6]");
    vt_wait(&v, "one wei moved");
    vt_keys(&v, "5]");
    vt_wait(&v, "b1-3");
    vt_keys(&v, "\033[Bt");
    vt_wait(&v, "trace b1-4");
    assert_string_equal(fake.last_line, "trace b1-4");
    vt_keys(&v, "\0032p");
    vt_wait(&v, "job pause 3");
    assert_string_equal(fake.last_line, "job pause 3");
    vt_keys(&v, "\003");
    vt_wait_gone(&v, "\"ran\"");
    json_t *jobs = fake_value(&fake, "jobs"), *job; /* held: what held it lets it go */
    size_t at;
    json_array_foreach(json_object_get(jobs, "list"), at, job)
        if (json_integer_value(json_object_get(job, "id")) == 3)
            json_object_set_new(job, "state", json_string("paused"));
    fake_topic(&fake, "jobs", jobs);
    vt_wait(&v, "paused");
    vt_keys(&v, "p");
    vt_wait(&v, "job resume 3");
    assert_string_equal(fake.last_line, "job resume 3");
    vt_keys(&v, "\003");
    vt_wait_gone(&v, "\"ran\"");
    vt_keys(&v, "\033x"); /* Alt-x, as a terminal sends it: no key here */
    vt_wait(&v, "alt-x does nothing here");
    vt_keys(&v, "x");
    vt_wait(&v, ":job cancel 3"); /* asked, not done */
    assert_string_equal(fake.last_line, "job resume 3");
    vt_keys(&v, "\003:slow\r");
    vt_wait(&v, "slow step 43 43%");
    fake_finish(&fake, "slow is over\n");
    vt_wait(&v, "slow is over");
    vt_keys(&v, "?");
    vt_wait(&v, "KEYS IN Train");
    golden(&v, "help-80x24");
    vt_keys(&v, "G");
    vt_wait(&v, "stake coins to validate (not built)");
    vt_keys(&v, "?");
    vt_wait_gone(&v, "stake coins");
    assert_int_equal(quit(&v), 0);
}

static void still(void **state) {
    (void)state;
    struct vt v;
    struct con c = con();
    start(&v, 50, 200, &c);
    vt_wait(&v, "step 120/400");
    vt_quiet(&v, 200);
    size_t before = v.bytes;
    /* the same values again: nothing on the screen changes, so nothing is sent */
    fake_topic(&fake, "chain", fake_value(&fake, "chain"));
    fake_topic(&fake, "train", fake_value(&fake, "train"));
    vt_quiet(&v, 300);
    assert_int_equal(v.bytes, before);
    assert_int_equal(quit(&v), 0);
}

int main(int argc, char **argv) {
    if (argc >= 3 && !strcmp(argv[1], "--fake")) {
        fake_run(argv[2], argc > 3 ? atoi(argv[3]) : 0);
        return 0;
    }
    snprintf(dir, sizeof dir, "/tmp/loam-console-XXXXXX");
    if (argc >= 3 && !strcmp(argv[1], "--console")) {
        struct tui_options o;
        struct err err;
        tui_options_init(&o);
        o.socket = argv[2];
        o.plain = argc > 3 && !strcmp(argv[3], "plain");
        enum loam_status s = tui_run(&o, &err);
        if (s)
            fprintf(stderr, "%s\n", err.text);
        return status_exit(s);
    }
    if (!mkdtemp(dir))
        return 1;
    snprintf(sock, sizeof sock, "%s/node.sock", dir);
    signal(SIGPIPE, SIG_IGN);
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest t[] = {
        T(golden_panes), T(golden_empty), T(prompt), T(questions), T(forms), T(early_form), T(compare), T(ask), T(hostile), T(terminals),
        T(dumb), T(pipes), T(tiny), T(storm), T(tall), T(stall), T(every_exit), T(hangup), T(suspend), T(link_lost), T(refused),
        T(two_consoles), T(inside), T(remembered), T(options), T(sync_output), T(files), T(filters), T(still), T(no_memory), T(real_node),
        T(real_forms),
    };
    if (argc == 2)
        cmocka_set_test_filter(argv[1]);
    int r = cmocka_run_group_tests_name("console", t, NULL, NULL);
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd) || r;
}
