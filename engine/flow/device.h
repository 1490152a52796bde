/* Which processor computes: the CPU's backends and NVIDIA devices, chosen by the options compute.backend and compute.fallback.
 * (Opening one is flow_gpu_open, flow/train.h.) */
#ifndef LOAM_FLOW_DEVICE_H
#define LOAM_FLOW_DEVICE_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>

struct node;

/* gpu_open's name for the option: NULL for auto and cpu. Static. */
const char *flow_backend(struct node *n);
bool flow_fallback(struct node *n);
/* {used, fallback, cpu:[names], devices:[{name, device, compute, processors, memory, free}], "no_devices": why}; new reference. */
enum loam_status flow_gpu_list(struct node *n, json_t **out, struct err *err) LOAM_MUST_USE;
/* Opens it once, to see that it works; LOAM_* of gpu_open. what: {backend, compute, free} for the answer. */
enum loam_status flow_gpu_try(const char *backend, json_t **what, struct err *err) LOAM_MUST_USE;

#endif
