#!/usr/bin/env python3
"""Random blocks of every format of weights and what the gguf package makes of them, for tests/test_models.c.

    contrib/models/golden_blocks.py > tests/golden/blocks.json"""
import json
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, quants

r = np.random.default_rng(5)
out = []
for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"):
    t = T[name]
    elems, size = GGML_QUANT_SIZES[t]
    n = 2 if elems == 256 else 4 if elems == 32 else 64
    raw = r.integers(0, 256, (n, size), dtype=np.uint8)
    # scales: finite fp16 of every size, zero and denormal ones too, where each format has them
    halves = {"F16": [0], "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}.get(name, [])
    for at in halves:
        v = r.integers(0, 1 << 16, n, dtype=np.uint16)
        v = np.where(v & 0x7c00 == 0x7c00, v & 0x83ff, v)
        v[0] &= 0x83ff
        raw[:, at:at + 2] = v.reshape(-1, 1).view(np.uint8)
    if name in ("F32", "BF16"):
        raw[:, size - 1] &= 0xbf  # no infinity, no NaN
    got = quants.dequantize(raw.reshape(-1), t) if elems > 1 else quants.dequantize(raw.reshape(-1).view({"F32": np.float32, "F16": np.float16}.get(name, np.uint8)), t)
    got = np.ascontiguousarray(got.reshape(-1).astype(np.float32))
    assert got.size == n * elems and np.isfinite(got).all(), name
    out.append({"type": name, "bytes": raw.tobytes().hex(), "values": got.tobytes().hex()})
json.dump(out, sys.stdout, separators=(",\n", ":"))
