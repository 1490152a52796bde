/* Packed images: a model's weights in the kernels' layout, as files that are made once and mapped by every process after.
 *
 * A folder of images holds
 *   BASE.VERSION.packed   BASE: the base hash (model.h) in hexadecimal, VERSION: GPU_PACK_VERSION. A header of 4096 bytes, the
 *                         matrices, then the vectors as fp32, each aligned to 64 bytes.
 *   PATH.known            PATH: 32 digits of keccak(path of the model). Which base hash the model at that path had when it was read last.
 *   BASE.VERSION.bad      an image that was refused; at most one a model, until the next sweep.
 * All integers are little-endian; the values of an image have the machine's byte order, which the header states.
 *
 * Trust: an image is used when its header (magic, version, base, sizes, keccak) and the sum over its whole body are right. The sum finds
 * damage, not malice: who may write into the folder may also replace the model. Likewise a base hash is remembered for a file whose
 * device, inode, length, mtime and ctime are the same, and only when it was last changed at least a second before it was read. */
#ifndef LOAM_LM_IMAGE_H
#define LOAM_LM_IMAGE_H

#include "base/file.h"

#include <stdbool.h>
#include <stdint.h>

#define IMAGE_HEADER 4096u /* bytes before the matrices */

/* What an image must be. Sizes are multiples of 64. */
struct image_want {
    const char *dir;
    uint8_t base[32];
    uint64_t matrices, floats; /* bytes */
};

/* Maps the image. LOAM_ENOTFOUND: there is none. LOAM_EHASH: there was a bad one, which has been set aside; err says what was wrong. */
enum loam_status image_open(struct file_map *out, const struct image_want *w, struct err *err) LOAM_MUST_USE;
/* Makes the image under a temporary name, syncs it and puts it in place; makes the folder. LOAM_EIO, LOAM_EPERM, LOAM_ENOSPACE. */
enum loam_status image_make(const struct image_want *w, const void *matrices, const void *floats, struct err *err) LOAM_MUST_USE;
/* Where it lies; a fresh string or NULL. */
char *image_path(const char *dir, const uint8_t base[32]);

/* The base hash that was remembered for the model at path; false: none that can be believed. ident names the files as they are now,
 * changed_ms is the newest ctime among them. */
bool image_known(uint8_t base[32], const char *dir, const char *path, const uint8_t ident[32], uint64_t changed_ms);
/* Remembers it; read_ms: when reading began. A failure is no error: the next start reads again. */
void image_remember(const char *dir, const char *path, const uint8_t ident[32], const uint8_t base[32], uint64_t read_ms);

/* Removes images that no model there belongs to, refused ones, and what a killed process left. Young files stay: somebody may be writing. */
void lm_images_sweep(const char *dir);

#endif
