/* The 2048-bit bloom of logs (Yellow Paper 4.3.1). "May contain": never misses, sometimes says yes for nothing. */
#ifndef LOAM_NET_BLOOM_H
#define LOAM_NET_BLOOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void bloom_add(uint8_t bloom[256], const void *p, size_t n); /* an address (20 bytes) or a topic (32) */
bool bloom_may(const uint8_t bloom[256], const void *p, size_t n);

#endif
