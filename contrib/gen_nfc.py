#!/usr/bin/env python3
"""Writes engine/lm/nfc.def from Python's Unicode tables: canonical classes, decompositions (full), compositions.

    contrib/gen_nfc.py > engine/lm/nfc.def
"""
import sys
import unicodedata as u

print(f"/* Unicode {u.unidata_version}; written by contrib/gen_nfc.py, do not edit. */")
ccc, start = [], None
for c in range(0x110000):
    k = u.combining(chr(c)) if not 0xD800 <= c < 0xE000 else 0
    if start and start[1] == k and start[0] + start[2] == c:
        start[2] += 1
        continue
    if start and start[1]:
        ccc.append(start)
    start = [c, k, 1]
for c, k, n in ccc:
    print(f"CCC(0x{c:x}, {n}, {k})")
pairs = []
for c in range(0x110000):
    if 0xD800 <= c < 0xE000 or 0xAC00 <= c < 0xD7A4:
        continue
    d = u.decomposition(chr(c))
    if d and not d.startswith("<"):
        parts = [int(x, 16) for x in d.split()]
        print(f"DECOMP(0x{c:x}, 0x{parts[0]:x}, 0x{(parts[1] if len(parts) > 1 else 0):x})")
        if len(parts) == 2 and u.normalize("NFC", chr(c)) == chr(c):
            pairs.append((parts[0], parts[1], c))
for a, b, c in sorted(pairs):
    print(f"COMP(0x{a:x}, 0x{b:x}, 0x{c:x})")
