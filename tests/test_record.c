#include "tests/test.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "record/claims.h"
#include "record/payout.h"
#include "record/row.h"
#include "record/sign.h"
#include "record/statements.h"
#include "record/tree.h"

static struct err e;

static struct hash32 H(const char *s) {
    struct hash32 h;
    OK(hash_parse(&h, s, &e));
    return h;
}

static void assert_hash(const struct hash32 *h, const char *hex) {
    char text[HASH_HEX_MAX];
    assert_string_equal(hash_hex(text, h), hex);
}

static void types(void **state) {
    (void)state;
    /* EIP-55's own examples. */
    static const char *const good[] = {"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
                                       "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB", "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb"};
    struct addr20 a;
    char text[ADDR_HEX_MAX], number[U256_DEC_MAX + 1];
    for (int i = 0; i < 4; i++) {
        OK(addr_parse(&a, good[i], &e));
        assert_string_equal(addr_hex(text, &a), good[i]);
    }
    OK(addr_parse(&a, "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", &e));
    FAILS(LOAM_EPARSE, addr_parse(&a, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Beaed", &e));
    FAILS(LOAM_EPARSE, addr_parse(&a, "0x5aaeb6053f3e94c9b9a09f33669435e7ef1bea", &e));
    assert_string_equal(i256_format(number, i256_from(-12)), "-12");
    struct u256 v;
    OK(i256_parse(&v, "-57896044618658097711785492504343953926634992332820282019728792003956564819968", &e));
    assert_string_equal(i256_format(number, v), "-57896044618658097711785492504343953926634992332820282019728792003956564819968");
    FAILS(LOAM_ERANGE, i256_parse(&v, "57896044618658097711785492504343953926634992332820282019728792003956564819968", &e));
    int64_t n;
    FAILS(LOAM_ERANGE, i256_to_i64(&n, u256_from(1ull << 63), &e));
    OK(i256_to_i64(&n, i256_from(INT64_MIN), &e));
    assert_true(n == INT64_MIN);
}

/* The keys and addresses of the mnemonic "test test … junk", published by every development chain, and the signature of
 * EIP-712's example (its key is keccak("cow")). */
static void signatures(void **state) {
    (void)state;
    struct hash32 k = H("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
    struct addr20 a;
    char text[SIG_HEX_MAX];
    OK(secret_address(&a, k.b, &e));
    assert_string_equal(addr_hex(text, &a), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");

    k = hash_of("cow", 3);
    OK(secret_address(&a, k.b, &e));
    assert_string_equal(addr_hex(text, &a), "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826");
    struct hash32 d = H("0xbe609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2");
    struct sig65 s;
    OK(sig_make(&s, &d, k.b, &e));
    assert_string_equal(sig_hex(text, &s), "0x4355c47d63924e8a72e509b65029052eb6c299d53a04e167c5775fd466751c9d"
                                           "07299936d304c153f6443dfa05f40ff007d72911b6f72307f996231605b915621c");
    struct addr20 who;
    OK(sig_recover(&who, &d, &s, &e));
    assert_true(addr_eq(&who, &a));
    OK(sig_check(&a, &d, &s, &e));

    /* Each bit of the digest and each rule of the signature. */
    struct hash32 d2 = d;
    d2.b[31] ^= 1;
    FAILS(LOAM_ESIG, sig_check(&a, &d2, &s, &e));
    struct sig65 t = s;
    t.b[64] = 0;
    FAILS(LOAM_ESIG, sig_recover(&who, &d, &t, &e));
    t.b[64] = 29;
    FAILS(LOAM_ESIG, sig_recover(&who, &d, &t, &e));
    t = s;
    t.b[64] ^= 27 ^ 28;
    FAILS(LOAM_ESIG, sig_check(&a, &d, &t, &e));
    /* s -> order - s with the other v is the same signature mathematically, and refused. */
    struct u256 order = u256_from_be(H("0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141").b), sv = u256_from_be(s.b + 32);
    t = s;
    assert_false(u256_sub(&sv, order, sv));
    u256_to_be(t.b + 32, sv);
    t.b[64] ^= 27 ^ 28;
    FAILS(LOAM_ESIG, sig_recover(&who, &d, &t, &e));
    memset(t.b, 0, 32);
    FAILS(LOAM_ESIG, sig_recover(&who, &d, &t, &e));
    memset(t.b, 0xff, 32);
    FAILS(LOAM_ESIG, sig_recover(&who, &d, &t, &e));
    uint8_t zero[32] = {0};
    assert_false(secret_valid(zero));
    FAILS(LOAM_EINVAL, secret_address(&a, zero, &e));
    FAILS(LOAM_EINVAL, sig_make(&s, &d, zero, &e));
    FAILS(LOAM_EINVAL, sig_make(&s, &d, H("0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141").b, &e));
    /* web3's example: hashMessage("Hello World") */
    struct hash32 p = personal_digest("Hello World", 11);
    assert_hash(&p, "0xa1de988600a42c4b4ab089b619297c17d53cffae5d5120d82d8a92d0bb3b78f2");
}

static void statements(void **state) {
    (void)state;
    enum st_id id;
    assert_true(st_find(&id, "Voucher"));
    assert_int_equal(id, ST_Voucher);
    assert_false(st_find(&id, "voucher"));
    assert_string_equal(st_def(ST_Contribution)->type,
                        "Contribution(uint64 account,uint64 datanet,bytes32 rowRoot,uint64 rowCount,string licence,bytes32 dataHash,"
                        "uint64 dataLength,string dataLocator,uint256 nonce,uint64 expiry)");
    assert_string_equal(st_def(ST_Attestation)->type,
                        "Attestation(uint64 validator,uint64 batch,uint8 verdict,bytes32 traceRoot,bytes32 salt)");
    /* A form done by hand: domain typehash as every EIP-712 contract has it. */
    struct hash32 th = hash_of("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)", 82);
    assert_hash(&th, "0x8b73c3c69bb8fe3d512ecc4cf759cc79239f7b179b0ffacaa9a75d522b39400f");

    struct st_contribution c = {.account = 7, .datanet = 1, .row_count = 3, .licence = "CC0-1.0", .data_length = 1000,
                                .data_locator = "0123456789abcdef0123456789abcdef", .nonce = u256_from(5), .expiry = 99};
    c.row_root = hash_of("a", 1);
    c.data_hash = hash_of("b", 1);
    uint8_t w[11][32] = {{0}};
    th = st_type_hash(ST_Contribution);
    memcpy(w[0], th.b, 32);
    w[1][31] = 7;
    w[2][31] = 1;
    memcpy(w[3], c.row_root.b, 32);
    w[4][31] = 3;
    struct hash32 x = hash_of("CC0-1.0", 7);
    memcpy(w[5], x.b, 32);
    memcpy(w[6], c.data_hash.b, 32);
    put_be32(w[7] + 28, 1000);
    x = hash_of(c.data_locator, 32);
    memcpy(w[8], x.b, 32);
    w[9][31] = 5;
    w[10][31] = 99;
    struct hash32 by_hand = hash_of(w, sizeof w), ours = st_hash(ST_Contribution, &c);
    assert_true(hash_eq(&by_hand, &ours));

    struct buf b = BUF_INIT(4096);
    OK(st_encode(&b, ST_Contribution, &c, &e));
    assert_int_equal(b.len, 10 * 32 + 64 + 64);
    assert_true(st_is_dynamic(ST_Contribution));
    assert_false(st_is_dynamic(ST_Voucher));
    struct st_contribution back;
    char *strings;
    OK(st_decode(&back, &strings, ST_Contribution, b.data, b.len, &e));
    assert_true(st_equal(ST_Contribution, &c, &back));
    assert_string_equal(back.licence, "CC0-1.0");
    mem_free(strings);
    /* Whatever byte is changed: another statement, or none. */
    for (size_t i = 0; i < b.len; i++) {
        b.data[i] ^= 0x41;
        if (!st_decode(&back, &strings, ST_Contribution, b.data, b.len, &e)) {
            assert_false(st_equal(ST_Contribution, &c, &back));
            mem_free(strings);
        }
        b.data[i] ^= 0x41;
    }
    for (size_t n = 0; n < b.len; n++)
        FAILS(LOAM_EPARSE, st_decode(&back, &strings, ST_Contribution, b.data, n, &e));
    buf_reset(&b);
    OK(st_json(&b, ST_Contribution, &c, &e));
    assert_non_null(strstr((char *)b.data, "\"licence\":\"CC0-1.0\",\"dataHash\":\"0xb5553de315e0edf504d9150af82dafa5c4667fa618ed0a6f19c69b41166c5510\""));
    buf_clear(&b);
    char *longer = mem_zalloc(ST_STRING_MAX + 2);
    memset(longer, 'x', ST_STRING_MAX + 1);
    c.licence = longer;
    b.max = 1 << 16;
    FAILS(LOAM_ELIMIT, st_encode(&b, ST_Contribution, &c, &e));
    mem_free(longer);
    buf_clear(&b);
}

static void row_is(const char *line, const char *json) {
    struct row r;
    struct buf b = BUF_INIT(ROW_LINE_MAX);
    OK(row_parse(&r, line, strlen(line), &e));
    OK(row_json(&b, &r, &e));
    assert_string_equal((char *)b.data, json);
    struct row again;
    OK(row_parse(&again, json, strlen(json), &e));
    assert_true(hash_eq(&r.hash, &again.hash));
    row_clear(&again);
    OK(row_decode(&again, r.bytes, r.len, &e));
    assert_true(hash_eq(&r.hash, &again.hash));
    row_clear(&again);
    row_clear(&r);
    buf_clear(&b);
}

static void rows(void **state) {
    (void)state;
    struct row r;
    /* The bytes of row.h, written out. */
    static const char line[] = "{\"prompt\":\"Hi\",\"completion\":\"Yo\\n\"}";
    static const uint8_t bytes[] = "row1\0\0\0\2\2\0\0\0\2Hi\3\0\0\0\2Yo";
    OK(row_parse(&r, line, sizeof line - 1, &e));
    assert_int_equal(r.len, sizeof bytes - 1);
    assert_memory_equal(r.bytes, bytes, r.len);
    struct hash32 h = hash_of(bytes, sizeof bytes - 1);
    assert_true(hash_eq(&h, &r.hash));
    row_clear(&r);

    static const char same[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"a \\\"b\\\"\"},{\"role\":\"assistant\",\"content\":\"c\\nd é\"}]}";
    row_is(same, same);
    row_is("{\"question\":\" a \\u0022b\\\"\\r\\n\",\"answer\":\"c\\r\\nd \\u00e9 \"}\n", same);
    row_is(" { \"id\" : [1,-2.5e3,{\"x\":null}] , \"answer\":\"\\u0063\\rd \xc3\xa9\", \"question\":\"a \\\"b\\\"\"} \r\n", same);
    row_is("{\"messages\":[{\"name\":\"x\",\"content\":\"a \\\"b\\\"\",\"role\":\"user\"},{\"role\":\"assistant\",\"content\":\"c\\nd é\"}],\"n\":true}", same);
    row_is("{\"instruction\":\"do\",\"input\":\"this\",\"output\":\"done\"}",
           "{\"messages\":[{\"role\":\"user\",\"content\":\"do\\n\\nthis\"},{\"role\":\"assistant\",\"content\":\"done\"}]}");
    row_is("{\"instruction\":\"do\",\"input\":\"\",\"output\":\"done\",\"system\":\"s\"}",
           "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"do\"},{\"role\":\"assistant\",\"content\":\"done\"}]}");
    row_is("{\"text\":\"\\uD83D\\uDE00 plain\\/\"}", "{\"messages\":[{\"role\":\"text\",\"content\":\"😀 plain/\"}]}");

    static const struct {
        const char *line, *why;
    } bad[] = {
        {"", "'{' expected"},
        {"[]", "'{' expected"},
        {"{}", "no keys"},
        {"{\"prompt\":\"a\"}", "its keys are none of"},
        {"{\"prompt\":\"a\",\"answer\":\"b\"}", "its keys are none of"},
        {"{\"prompt\":\"a\",\"completion\":\"b\",\"text\":\"c\"}", "its keys are none of"},
        {"{\"prompt\":\"a\",\"completion\":\"b\",\"input\":\"c\"}", "its keys are none of"},
        {"{\"prompt\":\"a\",\"prompt\":\"a\",\"completion\":\"b\"}", "given twice"},
        {"{\"prompt\":\"a\",\"completion\":7}", "'\"' expected"},
        {"{\"prompt\":\"a\",\"completion\":\" \\n\"}", "empty text"},
        {"{\"prompt\":\"a\",\"completion\":\"b\"", "',' or '}' expected"},
        {"{\"prompt\":\"a\",\"completion\":\"b\",}", "'\"' expected"},
        {"{\"prompt\":\"a\",\"completion\":\"b\"}x", "something behind"},
        {"{\"prompt\":\"a\",\"completion\":\"b", "does not end"},
        {"{\"prompt\":\"a\",\"completion\":\"\\u0000\"}", "U+0000"},
        {"{\"prompt\":\"a\",\"completion\":\"\\ud800\"}", "surrogate"},
        {"{\"prompt\":\"a\",\"completion\":\"\\udc00\"}", "surrogate"},
        {"{\"prompt\":\"a\",\"completion\":\"\\u12g4\"}", "hex digits"},
        {"{\"prompt\":\"a\",\"completion\":\"\\x\"}", "unknown escape"},
        {"{\"prompt\":\"a\",\"completion\":\"\\b\"}", "control character"},
        {"{\"prompt\":\"a\",\"completion\":\"\x01\"}", "raw control"},
        {"{\"prompt\":\"a\",\"completion\":\"\x7f\"}", "control character"},
        {"{\"prompt\":\"a\",\"completion\":\"\xc3\x28\"}", "not UTF-8"},
        {"{\"prompt\":\"a\",\"completion\":\"\xed\xa0\x80\"}", "not UTF-8"},
        {"\xef\xbb\xbf{\"text\":\"x\"}", "'{' expected"},
        {"{\"text\":\"x\",\"n\":01}", "',' or '}' expected"},
        {"{\"text\":\"x\",\"n\":nul}", "value expected"},
        {"{\"messages\":[]}", "'{' expected"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", "out of order"},
        {"{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\"}]}", "out of order"},
        {"{\"messages\":[{\"role\":\"tool\",\"content\":\"a\"}]}", "a role other"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}]}", "out of order"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\"}]}", "needs role and content"},
        {"{\"messages\":[{\"role\":\"user\",\"role\":\"user\",\"content\":\"a\"}]}", "twice"},
        {"{\"messages\":[{\"role\":\"text\",\"content\":\"a\"}],\"text\":\"b\"}", "other texts"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        enum loam_status st = row_parse(&r, bad[i].line, strlen(bad[i].line), &e);
        if (st != LOAM_EPARSE || !strstr(e.text, bad[i].why))
            fail_msg("%s: %s, %s", bad[i].line, status_name(st), e.text);
    }
    FAILS(LOAM_EPARSE, row_parse(&r, "{\"text\":\"a\0b\"}", 14, &e));

    struct buf b = BUF_INIT(1 << 20);
    OK(buf_str(&b, "{\"x\":", &e));
    for (int i = 0; i < 100000; i++)
        OK(buf_byte(&b, '[', &e));
    FAILS(LOAM_EPARSE, row_parse(&r, (char *)b.data, b.len, &e));
    buf_reset(&b);
    OK(buf_str(&b, "{\"text\":\"", &e));
    for (int i = 0; i < ROW_BYTES_MAX - 13; i++)
        OK(buf_byte(&b, 'x', &e));
    OK(buf_str(&b, "\"}", &e));
    OK(row_parse(&r, (char *)b.data, b.len, &e));
    assert_int_equal(r.len, ROW_BYTES_MAX);
    row_clear(&r);
    b.len -= 2;
    OK(buf_str(&b, "x\"}", &e));
    FAILS(LOAM_ELIMIT, row_parse(&r, (char *)b.data, b.len, &e));
    while (b.len <= ROW_LINE_MAX)
        OK(buf_byte(&b, ' ', &e));
    FAILS(LOAM_ELIMIT, row_parse(&r, (char *)b.data, b.len, &e));
    buf_clear(&b);

    /* Every allocation fails once. */
    for (long n = 1;; n++) {
        mem_fail_after(n);
        enum loam_status st = row_parse(&r, same, strlen(same), &e);
        mem_fail_after(0);
        if (!st)
            break;
        assert_int_equal(st, LOAM_ENOMEM);
    }
    row_clear(&r);
}

/* The rule of tree.h, done in the most literal way. */
static struct hash32 plain_root(const struct hash32 *leaf, uint64_t n) {
    struct hash32 level[64] = {{{0}}};
    uint64_t m = n;
    memcpy(level, leaf, n * 32);
    while (m > 1) {
        uint64_t k = 0;
        for (uint64_t i = 0; i < m; i += 2)
            level[k++] = i + 1 < m ? tree_node(&level[i], &level[i + 1]) : level[i];
        m = k;
    }
    uint8_t b[41] = {2};
    b[8] = (uint8_t)n;
    memcpy(b + 9, level[0].b, 32);
    return hash_of(b, sizeof b);
}

static void trees(void **state) {
    (void)state;
    struct hash32 leaf[40];
    for (int n = 0; n <= 40; n++) {
        struct tree t;
        struct tree_stream s;
        tree_init(&t);
        tree_stream_init(&s);
        for (int i = 0; i < n; i++) {
            uint8_t v = (uint8_t)i;
            leaf[i] = tree_leaf(&v, 1);
            OK(tree_add(&t, &v, 1, &e));
            tree_stream_add(&s, &v, 1);
        }
        struct hash32 a = plain_root(leaf, (uint64_t)n), b = tree_root(&t), c = tree_stream_root(&s);
        assert_true(hash_eq(&a, &b) && hash_eq(&a, &c));
        struct tree_proof p;
        for (int i = 0; i < n; i++) {
            OK(tree_prove(&p, &t, (uint64_t)i, &e));
            uint8_t v = (uint8_t)i;
            OK(tree_check(&a, (uint64_t)n, (uint64_t)i, &v, 1, p.sibling, p.count, &e));
            /* Another place, another count, another leaf, one sibling less: refused. */
            for (int j = 0; j < n; j++)
                if (j != i)
                    FAILS(LOAM_EPROOF, tree_check(&a, (uint64_t)n, (uint64_t)j, &v, 1, p.sibling, p.count, &e));
            FAILS(LOAM_EPROOF, tree_check(&a, (uint64_t)n + 1, (uint64_t)i, &v, 1, p.sibling, p.count, &e));
            v ^= 1;
            FAILS(LOAM_EPROOF, tree_check(&a, (uint64_t)n, (uint64_t)i, &v, 1, p.sibling, p.count, &e));
            v ^= 1;
            if (p.count)
                FAILS(LOAM_EPROOF, tree_check(&a, (uint64_t)n, (uint64_t)i, &v, 1, p.sibling, p.count - 1, &e));
        }
        FAILS(LOAM_ERANGE, tree_prove(&p, &t, (uint64_t)n, &e));
        FAILS(LOAM_EPROOF, tree_check(&a, (uint64_t)n, (uint64_t)n, "", 0, NULL, 0, &e));
        tree_clear(&t);
    }
    assert_int_equal(tree_proof_len(4, 5), 1);
    assert_int_equal(tree_proof_len(0, 5), 3);
    assert_int_equal(tree_proof_len(0, 1), 0);
}

/* Written by contrib/contracts/vectors/make_claims.js with @openzeppelin/merkle-tree. */
static void claims(void **state) {
    (void)state;
    static const struct {
        int n;
        const char *root;
    } golden[] = {
#include "tests/vectors/oz_roots.inc"
    };
    for (size_t g = 0; g < sizeof golden / sizeof *golden; g++) {
        struct payouts p;
        payouts_init(&p);
        for (int i = 0; i < golden[g].n; i++) {
            struct u256 wei = u256_from((uint64_t)(i + 1) * 1000000007u);
            assert_false(u256_mul(&wei, wei, wei));
            OK(payouts_add(&p, (uint64_t)i * 3, wei, &e));
        }
        struct claims c;
        OK(claims_build(&c, &p, &e));
        struct hash32 root = claims_root(&c);
        assert_hash(&root, golden[g].root);
        struct tree_proof proof;
        for (size_t i = 0; i < p.count; i++) {
            OK(claims_prove(&proof, &c, i, &e));
            OK(claims_check(&root, &p.line[i], proof.sibling, proof.count, &e));
            struct payout more = p.line[i];
            assert_false(u256_add(&more.cumulative, more.cumulative, u256_from(1)));
            FAILS(LOAM_EPROOF, claims_check(&root, &more, proof.sibling, proof.count, &e));
        }
        FAILS(LOAM_ERANGE, claims_prove(&proof, &c, p.count, &e));
        claims_clear(&c);
        payouts_clear(&p);
    }
    struct payouts none;
    struct claims c;
    payouts_init(&none);
    OK(claims_build(&c, &none, &e));
    struct hash32 root = claims_root(&c);
    assert_true(hash_is_zero(&root));
}

static struct u256 coin(const char *s) {
    struct u256 v;
    OK(u256_parse_coin(&v, s, &e));
    return v;
}

static void splits(void **state) {
    (void)state;
    struct split s;
    char text[U256_DEC_MAX + 2];
    /* The golden case: 1 OPEN, 25 % influence. */
    OK(split_fee(&s, coin("1"), &SPLIT_DEFAULT, &e));
    assert_int_equal(u256_cmp(s.platform, coin("0.1")), 0);
    assert_int_equal(u256_cmp(s.model, coin("0.2")), 0);
    assert_int_equal(u256_cmp(s.stakers, coin("0.2")), 0);
    assert_int_equal(u256_cmp(s.contributors, coin("0.5")), 0);
    struct influence in[4] = {{7, 250, 10, 8}, {5, 600, 10, 8}, {9, 150, 10, 8}, {11, -50, 10, 8}};
    struct u256 a[4], burnt;
    OK(split_influence(a, &burnt, s.contributors, in, 4, &e));
    u256_format_coin(text, a[0]);
    assert_string_equal(text, "0.125");
    assert_true(u256_is_zero(a[3]) && u256_is_zero(burnt));
    /* Within the noise: burnt with its own weight; nobody above: all burnt. */
    in[1].floor = 600;
    OK(split_influence(a, &burnt, s.contributors, in, 4, &e));
    u256_format_coin(text, burnt);
    assert_string_equal(text, "0.3");
    assert_true(u256_is_zero(a[1]));
    for (int i = 0; i < 4; i++)
        in[i].floor = 1000;
    OK(split_influence(a, &burnt, s.contributors, in, 4, &e));
    assert_int_equal(u256_cmp(burnt, s.contributors), 0);
    in[2].account = 7;
    FAILS(LOAM_EINVAL, split_influence(a, &burnt, s.contributors, in, 4, &e));
    in[2].account = 0;
    FAILS(LOAM_EINVAL, split_influence(a, &burnt, s.contributors, in, 4, &e));
    OK(split_influence(a, &burnt, s.contributors, NULL, 0, &e));
    assert_int_equal(u256_cmp(burnt, s.contributors), 0);

    /* Largest remainder, ties to the lower account: 10 in three equal parts; 1 wei of four. */
    uint64_t id[3] = {30, 10, 20};
    struct u256 w[3] = {u256_from(1), u256_from(1), u256_from(1)}, out[3];
    OK(split_weights(out, u256_from(10), id, w, 3, &e));
    assert_int_equal(out[0].w[0], 3);
    assert_int_equal(out[1].w[0], 4);
    assert_int_equal(out[2].w[0], 3);
    w[0] = u256_from(2);
    OK(split_weights(out, u256_from(1), id, w, 3, &e));
    assert_int_equal(out[0].w[0], 1);
    OK(split_fee(&s, u256_from(1), &SPLIT_DEFAULT, &e));
    assert_int_equal(s.contributors.w[0], 1);
    OK(split_fee(&s, u256_from(3), &SPLIT_DEFAULT, &e)); /* 0.3 0.6 0.6 1.5: two left: model, stakers */
    assert_int_equal(s.platform.w[0] * 1000 + s.model.w[0] * 100 + s.stakers.w[0] * 10 + s.contributors.w[0], 111);
    FAILS(LOAM_EINVAL, split_fee(&s, u256_from(3), &(struct split_rule){1, 2, 3, 4}, &e));
    FAILS(LOAM_EINVAL, split_weights(out, u256_from(1), id, w, 0, &e));
    w[0] = w[1] = w[2] = U256_ZERO;
    FAILS(LOAM_EINVAL, split_weights(out, u256_from(1), id, w, 3, &e));

    /* Any numbers: the parts add up, and no part is off by a whole wei. */
    uint64_t x = 88172645463325252ull;
    for (int round = 0; round < 2000; round++) {
        uint64_t acc[9];
        struct u256 weight[9], part[9], sum = U256_ZERO, total;
        size_t n = 1 + (size_t)round % 9;
        for (size_t i = 0; i < n; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            acc[i] = i * 7919 % 9 * 2;
            weight[i] = round % 3 ? u256_from(x >> (x & 63)) : (struct u256){{x, x * 3, x * 5, x >> 5}};
        }
        weight[0].w[0] |= 1;
        total = (struct u256){{x * 11, x * 13, x * 17 >> (round % 64), 0}};
        OK(split_weights(part, total, acc, weight, n, &e));
        for (size_t i = 0; i < n; i++)
            assert_false(u256_add(&sum, sum, part[i]));
        assert_int_equal(u256_cmp(sum, total), 0);
    }
}

static void payout_tables(void **state) {
    (void)state;
    struct payouts p, q;
    payouts_init(&p);
    OK(payouts_add(&p, 9, u256_from(5), &e));
    OK(payouts_add(&p, 3, u256_from(7), &e));
    OK(payouts_add(&p, 6, U256_ZERO, &e));
    OK(payouts_add(&p, 9, u256_from(2), &e));
    OK(payouts_add(&p, 0, u256_from(1), &e));
    assert_int_equal(p.count, 3);
    assert_int_equal(p.total.w[0], 15);
    assert_int_equal(p.line[1].account, 3);
    assert_int_equal(p.line[2].prefix.w[0], 8);
    assert_int_equal(p.line[2].cumulative.w[0], 7);
    assert_int_equal(p.line[2].index, 2);
    assert_ptr_equal(payouts_find(&p, 9), &p.line[2]);
    assert_null(payouts_find(&p, 4));
    uint8_t leaf[PAYOUT_LEAF_BYTES];
    payout_leaf(leaf, &p.line[2]);
    struct payout back;
    OK(payout_leaf_parse(&back, leaf, &e));
    assert_memory_equal(&back, &p.line[2], sizeof back);
    leaf[3] = 1;
    FAILS(LOAM_EPARSE, payout_leaf_parse(&back, leaf, &e));
    struct u256 most = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    FAILS(LOAM_ERANGE, payouts_add(&p, 9, most, &e));
    OK(payouts_copy(&q, &p, &e));
    struct hash32 a = payouts_root(&p), b = payouts_root(&q);
    assert_true(hash_eq(&a, &b));
    payouts_clear(&p);
    payouts_clear(&q);
}

/* Every allocation of the room fails once; nothing leaks (the sanitizers watch) and nothing is half done. */
static void without_memory(void **state) {
    (void)state;
    struct payouts p, q;
    struct claims c;
    struct tree t;
    struct tree_proof proof;
    struct u256 amount[3], burnt, weight[3] = {u256_from(1), u256_from(2), u256_from(3)};
    uint64_t account[3] = {3, 4, 5};
    struct influence in[3] = {{3, 10, 1, 1}, {4, 10, 1, 1}, {5, 1, 1, 1}};
    payouts_init(&p);
    tree_init(&t);
    for (uint64_t i = 0; i < 40; i++) {
        EACH_ALLOCATION(payouts_add(&p, i, u256_from(i + 1), &e), (void)0);
        EACH_ALLOCATION(tree_add(&t, &i, 8, &e), (void)0);
    }
    assert_int_equal(p.count, 40);
    assert_int_equal(p.total.w[0], 820);
    assert_int_equal(t.count, 40);
    EACH_ALLOCATION(payouts_copy(&q, &p, &e), payouts_clear(&q));
    EACH_ALLOCATION(claims_build(&c, &p, &e), claims_clear(&c));
    EACH_ALLOCATION(tree_prove(&proof, &t, 7, &e), (void)0);
    EACH_ALLOCATION(split_weights(amount, u256_from(100), account, weight, 3, &e), (void)0);
    EACH_ALLOCATION(split_influence(amount, &burnt, u256_from(100), in, 3, &e), (void)0);
    struct st_datanet d = {.name = "n", .licence = "CC0-1.0"}, back;
    struct buf b = BUF_INIT(4096);
    char *strings;
    EACH_ALLOCATION((buf_clear(&b), st_encode(&b, ST_Datanet, &d, &e)), (void)0);
    EACH_ALLOCATION(st_decode(&back, &strings, ST_Datanet, b.data, b.len, &e), mem_free(strings));
    buf_clear(&b);
    payouts_clear(&p);
    tree_clear(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types), cmocka_unit_test(signatures), cmocka_unit_test(statements),   cmocka_unit_test(rows),
        cmocka_unit_test(trees), cmocka_unit_test(claims),     cmocka_unit_test(splits),       cmocka_unit_test(payout_tables),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
