/* Bytes: a growing buffer with a named maximum, hex, and big- and little-endian integers. */
#ifndef LOAM_BASE_BYTES_H
#define LOAM_BASE_BYTES_H

#include "base/status.h"

#include <stdint.h>

/* Owned bytes. `max` is the most it may ever hold: growing past it gives LOAM_ELIMIT. data is NUL-terminated after
 * every buf_ call (the NUL is not counted), so that text can be used as a C string. */
struct buf {
    uint8_t *data;
    size_t len, cap, max;
};

#define BUF_INIT(limit) {NULL, 0, 0, (limit)}
void buf_init(struct buf *b, size_t max);
void buf_clear(struct buf *b);  /* frees; the buffer can be used again */
void buf_reset(struct buf *b);  /* len = 0, keeps the memory */
enum loam_status buf_reserve(struct buf *b, size_t more, struct err *err) LOAM_MUST_USE;
enum loam_status buf_add(struct buf *b, const void *p, size_t n, struct err *err) LOAM_MUST_USE;
enum loam_status buf_byte(struct buf *b, uint8_t v, struct err *err) LOAM_MUST_USE;
enum loam_status buf_str(struct buf *b, const char *s, struct err *err) LOAM_MUST_USE;
enum loam_status buf_printf(struct buf *b, struct err *err, const char *fmt, ...) LOAM_MUST_USE LOAM_PRINTF(3, 4);
void buf_consume(struct buf *b, size_t n); /* drops n bytes from the front */
/* Hands the bytes to the caller (mem_free); the buffer is empty afterwards. NULL only if nothing was ever added. */
uint8_t *buf_take(struct buf *b, size_t *len);

/* Hex. "0x" is optional on input and never written by hex_encode. out of hex_encode: 2 n + 1 bytes. */
void hex_encode(char *out, const uint8_t *in, size_t n);
int hex_digit(int c); /* 0 to 15; -1: none */
/* Exactly n bytes, upper or lower case; LOAM_EPARSE otherwise. */
enum loam_status hex_decode(uint8_t *out, size_t n, const char *s, struct err *err) LOAM_MUST_USE;
/* Any even count of digits, into b. */
enum loam_status hex_decode_buf(struct buf *b, const char *s, size_t slen, struct err *err) LOAM_MUST_USE;

static inline uint16_t le16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t le32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t le64(const uint8_t *p) { return le32(p) | (uint64_t)le32(p + 4) << 32; }
static inline uint32_t be32(const uint8_t *p) {
    return (uint32_t)p[3] | (uint32_t)p[2] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[0] << 24;
}
static inline uint64_t be64(const uint8_t *p) { return be32(p + 4) | (uint64_t)be32(p) << 32; }
static inline void put_le32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}
static inline void put_le64(uint8_t *p, uint64_t v) {
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}
static inline void put_be32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}
static inline void put_be64(uint8_t *p, uint64_t v) {
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (56 - 8 * i));
}

#endif
