#!/usr/bin/env python3
"""llama.cpp through llama-cpp-python on one GGUF file: prefill of 512 and decode of 128 tokens, medians, one sequence.
Usage: peer_llama.py FILE THREADS. The logits of the last token only, as in llama-bench; the time is that of llama_decode."""
import statistics
import sys
import time

import llama_cpp
from llama_cpp import Llama

path, threads = sys.argv[1], int(sys.argv[2])
m = Llama(path, n_ctx=1024, n_batch=512, n_ubatch=512, n_threads=threads, n_threads_batch=threads, verbose=False, logits_all=False)
n = m.n_vocab()
tokens = [(i * 7919 + 13) % n for i in range(512)]


def prefill():
    m.reset()
    t = time.perf_counter()
    m.eval(tokens)
    return 512 / (time.perf_counter() - t)


def decode():
    m.reset()
    m.eval(tokens[:8])
    t = time.perf_counter()
    for i in range(128):
        m.eval(tokens[i:i + 1])
    return 128 / (time.perf_counter() - t)


prefill(), decode()
print("prefill %.2f" % statistics.median(prefill() for _ in range(5)))
print("decode %.2f" % statistics.median(decode() for _ in range(5)))
print("name llama-cpp-python %s" % llama_cpp.__version__)
