/* lm: tokenizer.json, safetensors and folders as models: equal to Hugging Face's tokenizers on hard texts; what is broken
 * or not understood is refused with its own code. */
#include "tests/test.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "lm/generate.h"
#include "lm/nfc.h"
#include "lm/philox.h"
#include "lm/safetensors.h"
#include "lm/template.h"

#include <unistd.h>

static struct err e;
static struct js_doc doc;
static char dir[64];

static int set_up(void **st) {
    (void)st;
    char path[1024];
    const char *src = getenv("srcdir");
    struct buf b = BUF_INIT(1 << 24);
    snprintf(path, sizeof path, "%s/tests/golden/tokenizers.json", src ? src : ".");
    snprintf(dir, sizeof dir, "/tmp/loam-test-folder-%ld", (long)getpid());
    if (file_read(&b, path, &e) || js_parse(&doc, b.data, b.len, &e) || file_mkdirs(dir, &e))
        return -1;
    buf_clear(&b);
    return 0;
}

static void in_dir(char out[128], const char *name) {
    snprintf(out, 128, "%s/%s", dir, name);
}

static int tear_down(void **st) {
    (void)st;
    static const char *const names[] = {"config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"};
    char p[128];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        in_dir(p, names[i]);
        unlink(p);
    }
    rmdir(dir);
    js_free(&doc);
    return 0;
}

static void test_tokenizers(void **st) {
    (void)st;
    unsigned n = 0;
    for (const struct js_val *v = doc.root->first; v; v = v->next) {
        const struct js_val *text = js_get(v, "tokenizer");
        struct lm_tokenizer *t;
        OK(lm_tokenizer_json(&t, text->s, text->len, &e));
        for (const struct js_val *c = js_get(v, "texts")->first; c; c = c->next, n++) {
            const struct js_val *s = js_get(c, "text"), *want = js_get(c, "ids")->first;
            struct lm_ids ids = {0};
            OK(lm_encode(&ids, t, s->s, s->len, LM_ENCODE_SPECIAL, &e));
            for (uint32_t i = 0; i < ids.n || want; i++, want = want->next)
                if (i >= ids.n || !want || ids.ids[i] != want->i)
                    fail_msg("%s, \"%s\": token %u is %lld, not %lld", js_get(v, "name")->s, s->s, i, i < ids.n ? (long long)ids.ids[i] : -1,
                             want ? (long long)want->i : -1);
            lm_ids_clear(&ids);
        }
        lm_tokenizer_free(t);
    }
    assert_true(n > 400);
}

/* The tokenizer's text with the first `from` replaced. */
static enum loam_status changed(const struct js_val *text, const char *from, const char *to) {
    const char *at = strstr(text->s, from);
    struct lm_tokenizer *t;
    if (!at)
        fail_msg("%s is not there", from);
    char *s = mem_printf("%.*s%s%s", (int)(at - text->s), text->s, to, at + strlen(from));
    enum loam_status st = lm_tokenizer_json(&t, s, strlen(s), &e);
    lm_tokenizer_free(t);
    mem_free(s);
    return st;
}

static void test_refused(void **st) {
    (void)st;
    const struct js_val *text = js_get(doc.root->first, "tokenizer");
    struct lm_tokenizer *t;
    FAILS(LOAM_EUNSUPPORTED, changed(text, "\"type\":\"BPE\"", "\"type\":\"WordPiece\""));
    FAILS(LOAM_EUNSUPPORTED, changed(text, "\"type\":\"ByteLevel\"", "\"type\":\"Whitespace\""));
    FAILS(LOAM_EUNSUPPORTED, changed(text, "\"normalizer\":null", "\"normalizer\":{\"type\":\"Lowercase\"}"));
    FAILS(LOAM_EUNSUPPORTED, changed(text, "\"Isolated\"", "\"MergedWithNext\""));
    FAILS(LOAM_EUNSUPPORTED, changed(text, "\"lstrip\":false", "\"lstrip\":true"));
    FAILS(LOAM_EPARSE, changed(text, "\"Regex\":\"", "\"Regex\":\"("));
    FAILS(LOAM_EPARSE, changed(text, "\"merges\":[", "\"merges\":[[\"q\",\"nope\"],"));
    FAILS(LOAM_EPARSE, changed(text, "\"<unk>\":0", "\"<unk>\":1"));
    FAILS(LOAM_ELIMIT, changed(text, "\"<unk>\":0", "\"<unk>\":99999999"));
    FAILS(LOAM_EPARSE, lm_tokenizer_json(&t, "{", 1, &e));
    FAILS(LOAM_EUNSUPPORTED, lm_tokenizer_json(&t, "{}", 2, &e));
    bool done = false;
    for (long n = 1; n < 200 && !done; n++) {
        mem_fail_after(n);
        enum loam_status s = lm_tokenizer_json(&t, text->s, text->len, &e);
        mem_fail_after(0);
        lm_tokenizer_free(t);
        done = !s;
        assert_true(s == LOAM_OK || s == LOAM_ENOMEM || s == LOAM_EPARSE); /* PCRE2 allocates for itself */
    }
    assert_true(done);
}

static void test_nfc(void **st) {
    (void)st;
    static const char *const pairs[][2] = {
        {"e\xcc\x81", "\xc3\xa9"},                                                     /* e, acute */
        {"\xe2\x84\xab", "\xc3\x85"},                                                 /* the Angstrom sign */
        {"\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x81"},                     /* Hangul */
        {"o\xcc\x82\xcc\xa3", "\xe1\xbb\x99"},                                        /* marks in the other order */
        {"plain", "plain"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct buf b = BUF_INIT(100);
        OK(nfc_text(&b, pairs[i][0], strlen(pairs[i][0]), &e));
        assert_string_equal((char *)b.data, pairs[i][1]);
        buf_clear(&b);
    }
    assert_true(nfc_quick("abc", 3) && !nfc_quick("e\xcc\x81", 3));
}

/* The first tokenizer with a family's special tokens added behind its own: enough for a template. */
static struct lm_tokenizer *with_specials(const char *const names[4]) {
    static const char key[] = "\"added_tokens\":[";
    const char *text = js_get(doc.root->first, "tokenizer")->s, *list = strstr(text, key);
    struct lm_tokenizer *t;
    struct buf add = BUF_INIT(4096);
    LOAM_ASSERT(list);
    for (int i = 0; i < 4; i++)
        OK(buf_printf(&add, &e, "{\"id\":%d,\"content\":\"%s\",\"special\":true},", 600 + i, names[i]));
    char *s = mem_printf("%.*s%s%s%s", (int)(list - text), text, key, (char *)add.data, list + strlen(key));
    OK(lm_tokenizer_json(&t, s, strlen(s), &e));
    buf_clear(&add);
    mem_free(s);
    return t;
}

#define LLAMA2_TEMPLATE                                                                                            \
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% endif %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + "   \
    "message['content'] %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{{ ' ' + content.strip() + ' ' + eos_token }}"
#define NEMO_TEMPLATE                                                                                              \
    "{%- if messages[0][\"role\"] == \"system\" %}{%- if loop.last and system_message is defined %}{{- \"[INST]\" + system_message + \"\\n\\n\" + message[\"content\"] + "        \
    "\"[/INST]\" }}{%- else %}{{- \"[INST]\" + message[\"content\"] + \"[/INST]\" }}{{- message[\"content\"] + eos_token}}"

/* Written out by hand from the families' rules; the bos of this tokenizer is none. */
static void test_families(void **st) {
    (void)st;
    static const char *const im[4] = {"<|im_start|>", "<|im_end|>", "<q>", "<w>"}, *const llama[4] = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<w>"},
                            *const gemma[4] = {"<start_of_turn>", "<end_of_turn>", "<q>", "<w>"}, *const inst[4] = {"</s>", "[INST]", "[/INST]", "<w>"}, *const plain[4] = {"</s>", "<q>", "<e>", "<w>"};
    static const struct {
        const char *const *names;
        const char *source, *name, *want;
    } f[] = {
        {im, "{# <|im_start|> <|im_end|> add_generation_prompt enable_thinking reasoning_content last_query_index #}", "qwen3",
         "<|im_start|>user\n hi \n<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n<|im_start|>user\nso?<|im_end|>\n<|im_start|>assistant\n"},
        {im, "{# <|im_start|> <|im_end|> add_generation_prompt tool_call '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' #}", "chatml",
         "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n<|im_start|>user\n hi \n<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
         "<|im_start|>user\nso?<|im_end|>\n<|im_start|>assistant\n"},
        {llama, "{# <|start_header_id|> <|eot_id|> add_generation_prompt trim #}", "llama3",
         "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nyes<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nso?<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\n"},
        {gemma, "{# <start_of_turn> <end_of_turn> add_generation_prompt trim model first_user_prefix #}", "gemma",
         "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\nyes<end_of_turn>\n<start_of_turn>user\nso?<end_of_turn>\n<start_of_turn>model\n"},
        {plain, LLAMA2_TEMPLATE, "inst", "[INST] hi [/INST] yes </s>[INST] so? [/INST]"},
        {plain, "{% if m.role == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token + ' ' }}{% endif %}", "inst",
         "[INST]  hi \n [/INST]yes</s> [INST] so? [/INST]"},
        {inst, NEMO_TEMPLATE, "inst", "[INST] hi \n[/INST]yes</s>[INST]so?[/INST]"},
    };
    const struct lm_message m[3] = {{"user", " hi \n", 5}, {"assistant", "yes", 3}, {"user", "so?", 3}};
    for (size_t i = 0; i < sizeof f / sizeof *f; i++) {
        struct lm_tokenizer *t = with_specials(f[i].names);
        struct lm_template *p;
        struct lm_ids ids = {0};
        struct buf b = BUF_INIT(1 << 16);
        OK(lm_template_new(&p, f[i].source, strlen(f[i].source), t, &e));
        assert_string_equal(lm_template_name(p), f[i].name);
        OK(lm_template_render(&ids, p, m, 3, true, &e));
        OK(lm_decode(&b, t, ids.ids, ids.n, true, &e));
        assert_string_equal((char *)b.data, f[i].want);
        uint8_t *mask = NULL;
        ids.n = 0;
        buf_reset(&b);
        OK(lm_template_rows(&ids, &mask, p, m, 2, &e));
        for (uint32_t k = 0; k < ids.n; k++)
            if (mask[k])
                OK(lm_decode(&b, t, &ids.ids[k], 1, true, &e));
        assert_non_null(strstr((char *)b.data, "yes")); /* the answer, then its end */
        assert_non_null(strchr((char *)b.data, '<'));
        mem_free(mask);
        lm_ids_clear(&ids);
        buf_clear(&b);
        lm_template_free(p);
        static const char dated[] = "{# <|start_header_id|> <|eot_id|> add_generation_prompt trim Cutting Knowledge Date: December 2023 strftime_now #}";
        FAILS(LOAM_EUNSUPPORTED, lm_template_new(&p, dated, sizeof dated - 1, t, &e));
        lm_tokenizer_free(t);
    }
}

/* Where [INST] templates put a system message, and what they refuse. */
static void test_inst(void **st) {
    (void)st;
    static const char *const plain[4] = {"</s>", "<q>", "<e>", "<w>"};
    struct lm_tokenizer *t = with_specials(plain);
    struct lm_template *p;
    struct lm_ids ids = {0};
    struct buf b = BUF_INIT(1 << 16);
    const struct lm_message m[4] = {{"system", " be brief ", 10}, {"user", " hi ", 4}, {"assistant", "yes", 3}, {"user", "so?", 3}}, two[2] = {m[1], m[1]};
    const struct {
        const char *source, *want;
    } f[] = {{LLAMA2_TEMPLATE, "[INST] <<SYS>>\n be brief \n<</SYS>>\n\n hi [/INST] yes </s>[INST] so? [/INST]"},
             {NEMO_TEMPLATE, "[INST] hi [/INST]yes</s>[INST] be brief \n\nso?[/INST]"}};
    for (size_t i = 0; i < 2; i++) {
        OK(lm_template_new(&p, f[i].source, strlen(f[i].source), t, &e));
        ids.n = 0;
        buf_reset(&b);
        OK(lm_template_render(&ids, p, m, 4, true, &e));
        OK(lm_decode(&b, t, ids.ids, ids.n, true, &e));
        assert_string_equal((char *)b.data, f[i].want);
        FAILS(LOAM_EINVAL, lm_template_render(&ids, p, two, 2, true, &e));
        FAILS(LOAM_EINVAL, lm_template_render(&ids, p, m, 1, true, &e));
        FAILS(LOAM_EINVAL, lm_template_render(&ids, p, m + 2, 1, true, &e));
        lm_template_free(p);
    }
    static const char v1[] = "{{ '[INST] ' + message['content'] + ' [/INST]' }}{{ message['content'] + eos_token }}",
                      unknown[] = "{{ '[INST]_' + message['content'] + ' [/INST]' }}{{ message['content'] + eos_token }}",
                      system[] = "{% if 'system' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{{ message['content'] + eos_token }}";
    OK(lm_template_new(&p, v1, sizeof v1 - 1, t, &e));
    FAILS(LOAM_EINVAL, lm_template_render(&ids, p, m, 4, true, &e)); /* it takes no system message */
    lm_template_free(p);
    FAILS(LOAM_EUNSUPPORTED, lm_template_new(&p, unknown, sizeof unknown - 1, t, &e));
    assert_non_null(strstr(e.text, "use a model whose file has a known template"));
    FAILS(LOAM_EUNSUPPORTED, lm_template_new(&p, system, sizeof system - 1, t, &e));
    /* the same with text outside of the tags is another template; what Jinja takes away is none */
    static const struct {
        const char *before, *after;
        bool taken;
    } around[] = {{"", "\n", true}, {"", "\n\n", false}, {"", " ", false}, {"\n", "", false}, {"{% if x %}\n    {% endif %}\n", "", true},
                  {"{% if x %} {% endif %}", "", false}, {"{{ x }}\n{%- if x %}  {%- endif %}", "", true}, {"{{ x }}\n", "", false}, {"{# a #}\n", "{# b", false},
                  {"{{ '%}' -}} \n\t ", "", true}, {"  {% if '}}' %}", "", true}, {"a", "", false}};
    for (size_t i = 0; i < sizeof around / sizeof *around; i++) {
        char *s = mem_printf("%s%s%s", around[i].before, v1, around[i].after);
        if ((lm_template_new(&p, s, strlen(s), t, &e) == LOAM_OK) != around[i].taken)
            fail_msg("text %zu around a template: %s", i, around[i].taken ? "refused" : "taken");
        lm_template_free(p);
        mem_free(s);
    }
    lm_ids_clear(&ids);
    buf_clear(&b);
    lm_tokenizer_free(t);
}

enum { L = 2, C = 32, H = 2, F = 64, V = 700 };

struct model_file {
    struct buf head, data;
};

static void add(struct model_file *f, const char *name, uint32_t rows, uint32_t cols) {
    struct philox ph;
    uint8_t seed[32] = {1};
    philox_init(&ph, seed, name);
    size_t from = f->data.len;
    for (uint32_t i = 0; i < rows * cols; i++) {
        uint32_t w[4];
        philox_block(&ph, i, 0, w);
        float x = (2 * philox_unit(w[0]) - 1) * 0.4f + (rows == 1);
        OK(buf_add(&f->data, &x, 4, &e));
    }
    char shape[40];
    if (rows == 1)
        snprintf(shape, sizeof shape, "[%u]", cols);
    else
        snprintf(shape, sizeof shape, "[%u,%u]", rows, cols);
    OK(buf_printf(&f->head, &e, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", f->head.len > 1 ? "," : "", name, shape, from, f->data.len));
}

static const char *const config_text =
    "{\"model_type\":\"qwen3\",\"hidden_size\":32,\"intermediate_size\":64,\"num_hidden_layers\":2,\"num_attention_heads\":2,\"num_key_value_heads\":1,"
    "\"head_dim\":16,\"vocab_size\":700,\"max_position_embeddings\":128,\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,\"tie_word_embeddings\":true,"
    "\"hidden_act\":\"silu\",\"eos_token_id\":2}";

static void write_in(const char *name, const void *p, size_t n) {
    char path[128];
    in_dir(path, name);
    OK(file_write(path, p, n, 0600, &e));
}

static void weights(struct buf *out) {
    struct model_file f = {BUF_INIT(1 << 20), BUF_INIT(1 << 22)};
    OK(buf_str(&f.head, "{", &e));
    add(&f, "model.embed_tokens.weight", V, C);
    add(&f, "model.norm.weight", 1, C);
    for (int l = 0; l < L; l++) {
        char n[80];
        const struct {
            const char *name;
            uint32_t rows, cols;
        } t[] = {{"self_attn.q_proj", 32, C}, {"self_attn.k_proj", 16, C}, {"self_attn.v_proj", 16, C}, {"self_attn.o_proj", C, 32},
                 {"mlp.gate_proj", F, C}, {"mlp.up_proj", F, C}, {"mlp.down_proj", C, F}, {"input_layernorm", 1, C},
                 {"post_attention_layernorm", 1, C}, {"self_attn.q_norm", 1, 16}, {"self_attn.k_norm", 1, 16}};
        for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
            snprintf(n, sizeof n, "model.layers.%d.%s.weight", l, t[i].name);
            add(&f, n, t[i].rows, t[i].cols);
        }
    }
    OK(buf_str(&f.head, "}", &e));
    uint8_t len[8];
    put_le64(len, f.head.len);
    OK(buf_add(out, len, 8, &e));
    OK(buf_add(out, f.head.data, f.head.len, &e));
    OK(buf_add(out, f.data.data, f.data.len, &e));
    buf_clear(&f.head);
    buf_clear(&f.data);
}

static enum loam_status open_dir(void) {
    struct lm_model *m;
    enum loam_status s = lm_model_open(&m, dir, &e);
    lm_model_free(m);
    return s;
}

static enum loam_status with_config(const char *from, const char *to) {
    const char *at = strstr(config_text, from);
    LOAM_ASSERT(at);
    char *s = mem_printf("%.*s%s%s", (int)(at - config_text), config_text, to, at + strlen(from));
    write_in("config.json", s, strlen(s));
    mem_free(s);
    enum loam_status st = open_dir();
    write_in("config.json", config_text, strlen(config_text));
    return st;
}

static enum loam_status with_weights(struct buf *w, const char *from, const char *to) {
    size_t n = strlen(from);
    uint8_t *at = NULL;
    LOAM_ASSERT(n == strlen(to));
    for (size_t i = 0; i + n <= w->len && !at; i++)
        if (!memcmp(w->data + i, from, n))
            at = w->data + i;
    LOAM_ASSERT(at);
    memcpy(at, to, n);
    write_in("model.safetensors", w->data, w->len);
    enum loam_status st = open_dir();
    memcpy(at, from, n);
    return st;
}

static void test_folder(void **st) {
    (void)st;
    const struct js_val *text = js_get(doc.root->first, "tokenizer");
    struct buf w = BUF_INIT(1 << 23);
    weights(&w);
    FAILS(LOAM_ENOTFOUND, open_dir());
    write_in("config.json", config_text, strlen(config_text));
    FAILS(LOAM_ENOTFOUND, open_dir());
    write_in("model.safetensors", w.data, w.len);
    FAILS(LOAM_ENOTFOUND, open_dir());
    write_in("tokenizer.json", text->s, text->len);
    OK(open_dir());
    /* it computes, to the same bits in one step and in many */
    struct lm_model *m;
    struct lm_engine *en;
    struct lm_session *s;
    OK(lm_model_open(&m, dir, &e));
    OK(lm_engine_new(&en, m, &(struct lm_engine_opt){.act = LM_ACT_F32, .threads = 1}, &e));
    OK(lm_session_new(&s, en, NULL, 0, &e));
    uint32_t ids[20];
    for (uint32_t i = 0; i < 20; i++)
        ids[i] = i * 31 % V;
    float *a = mem_array(V, 4), *b = mem_array(V, 4);
    OK(lm_step(en, &(struct lm_item){s, ids, 20, false, a}, 1, NULL, &e));
    lm_session_truncate(s, 0);
    for (uint32_t i = 0; i < 20; i++)
        OK(lm_step(en, &(struct lm_item){s, ids + i, 1, false, b}, 1, NULL, &e));
    assert_memory_equal(a, b, V * 4);
    mem_free(a);
    mem_free(b);
    lm_session_free(s);
    lm_engine_free(en);
    lm_model_free(m);
    /* refusals */
    FAILS(LOAM_EUNSUPPORTED, with_config("\"qwen3\"", "\"mamba2\""));
    FAILS(LOAM_EUNSUPPORTED, with_config("\"silu\"", "\"relu\""));
    FAILS(LOAM_EPARSE, with_config("\"hidden_size\":32", "\"hidden_size\":64"));
    FAILS(LOAM_EPARSE, with_config("\"hidden_size\":32", "\"hidden_size\":-1"));
    FAILS(LOAM_EPARSE, with_config("\"hidden_size\":32", "\"hidden_size\":\"x\""));
    FAILS(LOAM_EPARSE, with_config("\"num_hidden_layers\":2", "\"num_hidden_layers\":3"));
    FAILS(LOAM_EUNSUPPORTED, with_config("\"num_hidden_layers\":2", "\"num_hidden_layers\":1"));
    FAILS(LOAM_EPARSE, with_config("\"num_key_value_heads\":1", "\"num_key_value_heads\":0"));
    FAILS(LOAM_EUNSUPPORTED, with_config("\"rope_theta\":10000.0", "\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":2}"));
    FAILS(LOAM_EPARSE, with_config("}", ""));
    FAILS(LOAM_EUNSUPPORTED, with_weights(&w, "\"F32\"", "\"I32\""));
    FAILS(LOAM_EPARSE, with_weights(&w, "[700,32]", "[700,33]"));
    FAILS(LOAM_EUNSUPPORTED, with_weights(&w, "[700,32]", "[70,2,3]"));
    FAILS(LOAM_EPARSE, with_weights(&w, "[0,89600]", "[9,89609]")); /* overlaps its neighbour, but holds its bytes */
    FAILS(LOAM_EPARSE, with_weights(&w, "[0,89600]", "[1,89600]"));
    FAILS(LOAM_EPARSE, with_weights(&w, "[700,32]", "[700, 0]"));
    FAILS(LOAM_EPARSE, with_weights(&w, "model.norm.weight", "model.nerm.weight"));
    for (size_t n = 0; n < w.len; n += n < 400 ? 7 : 9973) {
        struct st_tensor *list = NULL;
        size_t count = 0;
        uint8_t *cut = mem_dup(w.data, n ? n : 1);
        FAILS(LOAM_EPARSE, st_parse(&list, &count, cut, n, &e));
        mem_free(cut);
        mem_free(list);
    }
    uint8_t big[8] = {255, 255, 255, 255, 255};
    struct st_tensor *list = NULL;
    size_t count = 0;
    FAILS(LOAM_ELIMIT, st_parse(&list, &count, big, 8, &e));
    write_in("model.safetensors", w.data, w.len);
    OK(open_dir()); /* unaltered, it passes */
    buf_clear(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tokenizers), cmocka_unit_test(test_refused), cmocka_unit_test(test_nfc), cmocka_unit_test(test_families), cmocka_unit_test(test_inst),
                                       cmocka_unit_test(test_folder)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
