/* Writes what other languages need to know of engine/record/statements.def:
 *   gen_statements sol       contrib/contracts/src/Statements.sol
 *   gen_statements vectors   contrib/contracts/vectors/statements.json
 * `make statements` runs both; `make check` fails where the committed files differ. */
#include "base/mem.h"
#include "record/sign.h"
#include "record/statements.h"

#include <stdio.h>

#include "base/banned.h"

/* abi.encode of many words at once exhausts the EVM's sixteen reachable stack slots; pieces of six do not. */
enum { PIECE = 6 };

static void solidity(void) {
    printf("// SPDX-License-Identifier: Apache-2.0\n"
           "// Written by contrib/contracts/gen_statements from engine/record/statements.def; do not edit (make statements).\n"
           "pragma solidity ^0.8.24;\n");
    for (int i = 0; i < ST_COUNT; i++) {
        const struct st_def *d = st_def((enum st_id)i);
        printf("\nstruct %s {\n", d->name);
        for (size_t k = 0; k < d->count; k++)
            printf("    %s %s;\n", d->fields[k].type, d->fields[k].name);
        printf("}\n");
    }
    printf("\n/// EIP-712 type hashes and struct hashes of every statement. Domain: name \"%s\", version \"%s\".\n"
           "library Statements {\n    string internal constant DOMAIN_NAME = \"%s\";\n"
           "    string internal constant DOMAIN_VERSION = \"%s\";\n",
           ST_DOMAIN_NAME, ST_DOMAIN_VERSION, ST_DOMAIN_NAME, ST_DOMAIN_VERSION);
    for (int i = 0; i < ST_COUNT; i++) {
        const struct st_def *d = st_def((enum st_id)i);
        struct hash32 h = st_type_hash((enum st_id)i);
        char hex[HASH_HEX_MAX], upper[64];
        size_t n = 0;
        for (; d->name[n] && n < sizeof upper - 1; n++)
            upper[n] = (char)(d->name[n] >= 'a' ? d->name[n] - 32 : d->name[n]);
        upper[n] = 0;
        printf("\n    // %s\n    bytes32 internal constant %s_TYPEHASH =\n        %s;\n\n", d->type, upper, hash_hex(hex, &h));
        printf("    function hash(%s memory s) internal pure returns (bytes32) {\n        return keccak256(\n"
               "            bytes.concat(\n",
               d->name);
        for (size_t k = 0; k < d->count;) {
            printf("                abi.encode(%s", k ? "" : upper);
            if (!k)
                printf("_TYPEHASH");
            for (int c = k ? 0 : 1; c < PIECE && k < d->count; c++, k++) {
                const struct st_field *f = &d->fields[k];
                const char *comma = c ? ", " : "";
                if (f->kind == ST_string)
                    printf("%skeccak256(bytes(s.%s))", comma, f->name);
                else
                    printf("%ss.%s", comma, f->name);
            }
            printf(")%s\n", k < d->count ? "," : "");
        }
        printf("            )\n        );\n    }\n");
    }
    printf("}\n");
}

/* Field values that differ from field to field and fill their type's width, from a running keccak. */
static void sample(void *s, const struct st_def *d, struct hash32 *seed) {
    static const char *const words[] = {"CC0-1.0", "", "arith-1", "a text of more than thirty-two bytes, so that it takes two words",
                                        "q8", "eigenda://0x00"};
    memset(s, 0, d->size);
    for (size_t i = 0; i < d->count; i++) {
        void *p = (char *)s + d->fields[i].offset;
        *seed = hash_of(seed->b, 32);
        switch (d->fields[i].kind) {
        case ST_address:
            memcpy(p, seed->b, 20);
            break;
        case ST_bytes32:
            memcpy(p, seed->b, 32);
            break;
        case ST_uint8:
            *(uint8_t *)p = seed->b[0];
            break;
        case ST_uint32:
            *(uint32_t *)p = be32(seed->b);
            break;
        case ST_uint64:
            *(uint64_t *)p = be64(seed->b) >> 11; /* JavaScript reads JSON numbers exactly only below 2^53 */
            break;
        case ST_uint256:
        case ST_int256:
            *(struct u256 *)p = u256_from_be(seed->b);
            break;
        case ST_string:
            *(const char **)p = words[seed->b[0] % (sizeof words / sizeof *words)];
            break;
        }
    }
}

static enum loam_status vectors(struct err *err) {
    const uint64_t chain = 31337;
    struct addr20 contract;
    uint8_t secret[32];
    struct hash32 seed = hash_of("loam statement vectors", 22);
    memcpy(contract.b, seed.b, 20);
    seed = hash_of("loam test key; never use", 24);
    memcpy(secret, seed.b, 32);
    struct addr20 signer;
    enum loam_status st = secret_address(&signer, secret, err);
    if (st)
        return st;
    char hex[SIG_HEX_MAX], hex2[SIG_HEX_MAX];
    struct hash32 domain = st_domain(chain, &contract);
    printf("{\"secret\":\"%s\",\"signer\":\"%s\",", hash_hex(hex, &seed), addr_hex(hex2, &signer));
    printf("\"domainHash\":\"%s\",\"statements\":[", hash_hex(hex, &domain));
    for (int i = 0; i < ST_COUNT; i++) {
        const struct st_def *d = st_def((enum st_id)i);
        struct buf json = BUF_INIT(1 << 16), abi = BUF_INIT(1 << 16);
        _Alignas(16) unsigned char room[2048];
        LOAM_ASSERT(d->size <= sizeof room);
        sample(room, d, &seed);
        if ((st = st_typed_json(&json, (enum st_id)i, room, chain, &contract, err)) ||
            (st = st_encode(&abi, (enum st_id)i, room, err)))
            return st;
        struct hash32 th = st_type_hash((enum st_id)i), sh = st_hash((enum st_id)i, room), dig = st_digest(&domain, &sh);
        struct sig65 sig;
        if ((st = sig_make(&sig, &dig, secret, err)))
            return st;
        printf("%s\n{\"name\":\"%s\",\"typeHash\":\"%s\"", i ? "," : "", d->name, hash_hex(hex, &th));
        printf(",\"structHash\":\"%s\"", hash_hex(hex, &sh));
        printf(",\"digest\":\"%s\"", hash_hex(hex, &dig));
        printf(",\"signature\":\"%s\",\"abi\":\"0x", sig_hex(hex, &sig));
        for (size_t k = 0; k < abi.len; k++)
            printf("%02x", abi.data[k]);
        printf("\",\"typed\":%s}", (char *)json.data);
        buf_clear(&json);
        buf_clear(&abi);
    }
    printf("\n]}\n");
    return LOAM_OK;
}

int main(int argc, char **argv) {
    struct err err = {LOAM_OK, ""};
    if (argc == 2 && !strcmp(argv[1], "sol")) {
        solidity();
    } else if (argc == 2 && !strcmp(argv[1], "vectors")) {
        if (vectors(&err)) {
            fprintf(stderr, "gen_statements: %s\n", err.text);
            return 1;
        }
    } else {
        fprintf(stderr, "usage: gen_statements sol|vectors\n");
        return 2;
    }
    return ferror(stdout) || fflush(stdout) ? 1 : 0;
}
