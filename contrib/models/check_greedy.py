#!/usr/bin/env python3
"""Twenty prompts: loam's greedy answers and logits against transformers on the same dequantised weights, act=f32.

    contrib/models/check_greedy.py LM_CHECK MODEL.gguf tests/golden/smollm2.json

The golden file (golden.py) holds transformers' ids, answers, margins; its first logits are compared whole when torch is there."""
import json
import os
import subprocess
import sys

import numpy as np


def ask(check, words, prompts):
    p = subprocess.run([check, *words], input="".join(" ".join(map(str, i)) + "\n" for i in prompts).encode(), capture_output=True)
    if p.returncode:
        raise SystemExit(p.stderr.decode())
    return p.stdout


def main():
    check, model, golden = sys.argv[1:4]
    j = json.load(open(golden))["prompts"]
    prompts = [p["ids"] for p in j]
    new = max(len(p["greedy"]) for p in j)
    ours = [list(map(int, l.split())) for l in ask(check, ["greedy", model, "-", "f32", str(new)], prompts).decode().splitlines()]
    equal = 0
    for p, o in zip(j, ours):
        o = o[:len(p["greedy"])]
        if o == p["greedy"]:
            equal += 1
            continue
        k = next(i for i, t in enumerate(p["greedy"]) if i >= len(o) or o[i] != t)
        print(f"  parts at token {k}, where transformers' margin is {p['margins'][k]:.4f}: {p['prompt']}")
    print(f"greedy, at most {new} tokens: {equal} of {len(j)} answers equal")
    import torch
    from transformers import AutoModelForCausalLM
    torch.set_num_threads(2)
    hf = AutoModelForCausalLM.from_pretrained(os.path.dirname(os.path.abspath(model)), gguf_file=os.path.basename(model), dtype=torch.float32)
    for act, name in (("train", "fp32 path (training, losses)"), ("f32", "answers (fp16 cache)")):
        raw = np.frombuffer(ask(check, ["logits", model, "-", act], prompts), np.float32).reshape(-1, hf.config.vocab_size)
        at = worst = last = 0
        for ids in prompts:
            with torch.no_grad():
                want = hf(torch.tensor([ids])).logits[0].numpy()
            d = np.abs(raw[at:at + len(ids)] - want)
            worst, last, at = max(worst, d.max()), max(last, d[-1].max()), at + len(ids)
        print(f"{name}: max |difference| of logits {worst:.2e} over all positions of {len(j)} prompts, {last:.2e} at their last")


main()
