/* What a sequencer's feed may bring: gossip messages as they come (snappy), the same bytes as the inside of one, and Helios' JSON; each as far
 * as it gets: taken apart, decoded, and its signature asked for. */
#include "net/payload.h"

#include <jansson.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <string.h>

static void look(const struct payload_message *m) {
    static const struct addr20 signer = {{0x57, 0xca}};
    static const struct header_rules rules = {.forks = {0, 0, 0, 0, 0, 0, FORK_NEVER}, .elasticity = 6, .denominator = 50, .denominator_canyon = 250, .block_time = 2};
    LOAM_ASSERT(m->bytes.len <= PAYLOAD_MAX);
    for (unsigned v = 0; v <= 4; v++) {
        struct payload pl;
        enum loam_status s = payload_verify(&pl, m, v, 10, &rules, 0, &signer, 1, NULL);
        LOAM_ASSERT(s); /* nobody signs for that key */
        payload_clear(&pl);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    struct payload_message m;
    if (!payload_from_snappy(&m, p, n, NULL))
        look(&m);
    payload_message_clear(&m);
    size_t len = snappy_max_compressed_length(n);
    char *packed = malloc(len);
    LOAM_ASSERT(packed && snappy_compress((const char *)p, n, packed, &len) == SNAPPY_OK);
    if (!payload_from_snappy(&m, (const uint8_t *)packed, len, NULL)) {
        LOAM_ASSERT(m.bytes.len + 65 == n && !memcmp(m.bytes.data, p + 65, n - 65));
        look(&m);
    }
    payload_message_clear(&m);
    free(packed);
    json_t *o = json_loadb((const char *)p, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    if (o) {
        if (!payload_from_helios(&m, o, NULL))
            look(&m);
        payload_message_clear(&m);
    }
    json_decref(o);
    return 0;
}
