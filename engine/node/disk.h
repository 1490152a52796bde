/* What the data folder uses. */
#ifndef LOAM_NODE_DISK_H
#define LOAM_NODE_DISK_H

#include "base/status.h"

#include <jansson.h>
#include <stdint.h>

struct node;

/* *parts: [{part, files, bytes, what}] (new reference), *total: bytes. Walks the folder: job threads only. */
enum loam_status node_disk_use(struct node *n, json_t **parts, uint64_t *total, struct err *err) LOAM_MUST_USE;

#endif
