#!/usr/bin/env python3
"""What loam writes for other programs, read by them: base folder by transformers, adapters by PEFT and llama.cpp, merged files by all.

    contrib/models/check_exports.py LOAM LM_CHECK MODEL.gguf [TEXT]

LOAM and LM_CHECK: the programs (make loam contrib/models/lm_check). Needs torch, transformers, peft, gguf, llama_cpp.
TEXT: a file whose first 2048 tokens' perplexity is compared too, in windows of 512."""
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

PROMPTS = ["What is the capital of France?", "Write a haiku about rain.", "Why is the sky blue?", "List two uses of salt."]
NEW = 24
failed = []


def say(ok, text):
    print(("  ok    " if ok else "  WRONG ") + text, flush=True)
    if not ok:
        failed.append(text)


class Node:
    def __init__(self, loam, model):
        self.loam, self.dir = loam, tempfile.mkdtemp()
        self.process = subprocess.Popen([loam, "--data", self.dir, "node", "--set", "api.listen="], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(100):
            if subprocess.run([loam, "--data", self.dir, "model", "add", model, "--name", "base"], capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        raise SystemExit("no node")

    def __call__(self, *words):
        p = subprocess.run([self.loam, "--data", self.dir, *words, "--json"], capture_output=True, text=True)
        if p.returncode:
            raise SystemExit(f"{' '.join(words)}: {p.stderr or p.stdout}")
        return json.loads(p.stdout)

    def close(self):
        self.process.terminate()
        self.process.wait()


def main():
    loam, check, gguf_file = (os.path.abspath(p) for p in sys.argv[1:4])
    torch.set_num_threads(2)
    torch.manual_seed(7)
    from gguf import GGUFReader
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer
    node = Node(loam, gguf_file)
    out = tempfile.mkdtemp()
    here = lambda name: os.path.join(out, name)
    try:
        run(node, check, gguf_file, here, AutoModelForCausalLM, AutoTokenizer, LoraConfig, get_peft_model, PeftModel)
    finally:
        node.close()
    print(f"{len(failed)} wrong")
    sys.exit(bool(failed))


def logits_of(check, model, adapter, act, prompts, V):
    p = subprocess.run([check, "logits", model, adapter, act], input="".join(" ".join(map(str, i)) + "\n" for i in prompts).encode(), capture_output=True)
    if p.returncode:
        raise SystemExit(p.stderr.decode())
    a = np.frombuffer(p.stdout, np.float32).reshape(-1, V)
    ends = np.cumsum([0] + [len(i) for i in prompts])
    return [torch.from_numpy(a[b:e].copy()) for b, e in zip(ends, ends[1:])]


def greedy_of(check, model, adapter, prompts):
    p = subprocess.run([check, "greedy", model, adapter, "f32", str(NEW)], input="".join(" ".join(map(str, i)) + "\n" for i in prompts).encode(), capture_output=True)
    if p.returncode:
        raise SystemExit(p.stderr.decode())
    return [list(map(int, l.split())) for l in p.stdout.decode().splitlines()]


def hf_logits(model, prompts):
    with torch.no_grad():
        return [model(torch.tensor([i])).logits[0].float() for i in prompts]


def worst(a, b):
    return max(float((x - y).abs().max()) for x, y in zip(a, b))


def llama_greedy(path, prompts, end, lora=None):
    import llama_cpp
    m = llama_cpp.Llama(path, n_ctx=512, n_threads=2, lora_path=lora, verbose=False, logits_all=False)
    result = []
    for ids in prompts:
        m.reset()
        got = []
        for t in m.generate(ids, temp=0.0, repeat_penalty=1.0):
            got.append(int(t))
            if t in end or len(got) == NEW:
                break
        result.append(got)
    return result


def same_greedy(name, got, want, margins):
    equal = sum(g == w for g, w in zip(got, want))
    parts = []
    for g, w, m in zip(got, want, margins):
        if g != w:
            k = next(i for i in range(min(len(g), len(w)) + 1) if i >= min(len(g), len(w)) or g[i] != w[i])
            parts.append(m[k] if k < len(m) else 9)
    say(all(p < 0.3 for p in parts), f"{name}: {equal} of {len(want)} greedy answers equal" +
        (f"; the others part where transformers' margin is {', '.join(f'{p:.3f}' for p in parts)}" if parts else ""))


def hf_greedy(model, prompts, end):
    answers, margins = [], []
    for ids in prompts:
        with torch.no_grad():
            o = model.generate(torch.tensor([ids]), max_new_tokens=NEW, do_sample=False, eos_token_id=end, repetition_penalty=1.0, output_logits=True,
                               return_dict_in_generate=True, pad_token_id=end[0])
        answers.append(o.sequences[0, len(ids):].tolist())
        margins.append([float(t[0].topk(2).values[0] - t[0].topk(2).values[1]) for t in o.logits])
    return answers, margins


def run(node, check, gguf_file, here, AutoModelForCausalLM, AutoTokenizer, LoraConfig, get_peft_model, PeftModel):
    print("base folder (safetensors, F32)")
    r = node("model", "export", "base", here("base"))
    say(r["max_logit_difference"] <= 2e-3, f"loam reads it back: max |difference| of logits {r['max_logit_difference']:.2e}, highest the same at {r['same_highest']} of {r['positions']}")
    hf = AutoModelForCausalLM.from_pretrained(here("base"), dtype=torch.float32)
    tok = AutoTokenizer.from_pretrained(here("base"))
    ref = AutoModelForCausalLM.from_pretrained(os.path.dirname(gguf_file), gguf_file=os.path.basename(gguf_file), dtype=torch.float32)
    a, b = hf.state_dict(), ref.state_dict()
    diff = max(float((a[k] - b[k]).abs().max()) for k in b)
    say(set(a) == set(b) and diff == 0, f"transformers: {len(a)} tensors equal to its own reading of the GGUF file, max |difference| {diff:g}")
    V = hf.config.vocab_size
    prompts = [tok.apply_chat_template([{"role": "user", "content": p}], add_generation_prompt=True)["input_ids"] for p in PROMPTS]
    want = hf_logits(hf, prompts)
    say(worst(want, hf_logits(ref, prompts)) < 1e-4, f"transformers: logits of the folder and of the GGUF file differ by {worst(want, hf_logits(ref, prompts)):.2e}")
    ours = subprocess.run([check, "render", gguf_file], input="".join(json.dumps([{"role": "user", "content": p}]) + "\n" for p in PROMPTS).encode(), capture_output=True)
    say(ours.stdout.decode().split("\n")[:-1] == [" ".join(map(str, p)) for p in prompts], "prompts rendered with the exported tokenizer and template: the same ids")
    d = worst(want, logits_of(check, gguf_file, "-", "train", prompts, V))
    say(d <= 2e-3, f"loam's fp32 path against transformers: max |difference| {d:.2e} (all positions)")
    d = worst(want, logits_of(check, gguf_file, "-", "f32", prompts, V))
    print(f"        loam act=f32 with its fp16 cache: {d:.2e}")
    for t in ("BF16", "F16"):
        r = node("model", "export", "base", here("base-" + t), "--type", t)
        m = AutoModelForCausalLM.from_pretrained(here("base-" + t), dtype=torch.float32)
        d = worst(hf_logits(m, prompts[:1]), logits_of(check, here("base-" + t), "-", "train", prompts[:1], V))
        say(d <= 2e-3, f"folder in {t}: loam and transformers differ by {d:.2e}; against the F32 source {r['max_logit_difference']:.3f}")
        del m
    del ref
    if len(sys.argv) > 4:
        r = node("model", "perplexity", sys.argv[4], "--model", "base", "--tokens", "2048")
        ids = tok(open(sys.argv[4], encoding="utf-8").read(), add_special_tokens=False)["input_ids"][:2048]
        nll = n = 0
        for at in range(0, len(ids), 512):
            w = torch.tensor([ids[at:at + 512]])
            with torch.no_grad():
                nll += float(torch.nn.functional.cross_entropy(hf(w).logits[0, :-1], w[0, 1:], reduction="sum"))
            n += w.shape[1] - 1
        theirs = float(np.exp(nll / n))
        say(n == r["tokens"] and abs(r["perplexity"] / theirs - 1) < 1e-3, f"perplexity: loam {r['perplexity']:.4f}, transformers {theirs:.4f} ({abs(r['perplexity'] / theirs - 1):.4%} apart, {n} tokens)")

    print("adapters")
    end = [tok.eos_token_id]
    kinds = {"plain": dict(r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
             "rslora": dict(r=8, lora_alpha=16, use_rslora=True, target_modules="all-linear"),
             "patterns": dict(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], rank_pattern={"v_proj": 4, "layers.3.self_attn.q_proj": 12},
                              alpha_pattern={"down_proj": 4})}
    for kind, cfg in kinds.items():
        pm = get_peft_model(AutoModelForCausalLM.from_pretrained(here("base"), dtype=torch.float32), LoraConfig(task_type="CAUSAL_LM", **cfg))
        for n, p in pm.named_parameters():
            if "lora_B" in n:
                torch.nn.init.normal_(p, std=0.03)
        pm.eval()
        pm.save_pretrained(here("peft-" + kind))
        want = hf_logits(pm, prompts)
        base_far = worst(want, hf_logits(hf, prompts))
        greedy, margins = hf_greedy(pm, prompts, end)
        d = worst(want, logits_of(check, gguf_file, here("peft-" + kind), "train", prompts, V))
        say(d <= 2e-3, f"{kind}: PEFT's folder in loam, act=f32, fp32 path: max |difference| {d:.2e} (the adapter moves logits by up to {base_far:.1f})")
        node("adapter", "import", here("peft-" + kind), kind, "--base", "base")
        node("adapter", "export", kind, here("out-" + kind))
        back = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(here("base"), dtype=torch.float32), here("out-" + kind)).eval()
        d = worst(hf_logits(back, prompts), want)
        say(d <= 2e-3, f"{kind}: loam's export in PEFT: {d:.2e}")
        del back
        node("adapter", "export", kind, here(kind + ".gguf"), "--format", "gguf")
        d = worst(want, logits_of(check, gguf_file, here(kind + ".gguf"), "train", prompts, V))
        say(d <= 2e-3, f"{kind}: the GGUF adapter read by loam: {d:.2e}")
        same_greedy(f"{kind}: loam, GGUF adapter", greedy_of(check, gguf_file, here(kind + ".gguf"), prompts), greedy, margins)
        # llama.cpp computes with 8-bit activations on a quantised base: an F32 base shows the adapter's arithmetic
        if not os.path.exists(here("base-f32.gguf")):
            node("model", "quantize", "base", "F32", "--name", "f32", "--head", "F32")
            os.link(os.path.join(node.dir, "models", "f32.gguf"), here("base-f32.gguf"))
        same_greedy(f"{kind}: llama.cpp, F32 base and GGUF adapter", llama_greedy(here("base-f32.gguf"), prompts, end, here(kind + ".gguf")), greedy, margins)
        for t in ("F32", "F16"):
            r = node("model", "export", "base+" + kind, here(f"merged-{kind}-{t}.gguf"), "--format", "gguf", "--type", t)
            say(r["max_logit_difference"] < (2e-2 if t == "F32" else 0.1), f"{kind}: merged GGUF, {t}: loam says max |difference| {r['max_logit_difference']:.2e}, highest the same at "
                f"{r['same_highest']} of {r['positions']}")
        # the rest of that file is Q4_1 still, on which llama.cpp's activations are 8-bit: merge into the F32 base for its greedy answers
        node("adapter", "import", here("peft-" + kind), kind + "-f32", "--base", "f32")
        r = node("model", "export", "f32+" + kind + "-f32", here(f"merged-{kind}-all.gguf"), "--format", "gguf", "--type", "F32")
        same_greedy(f"{kind}: llama.cpp, merged GGUF (F32)", llama_greedy(here(f"merged-{kind}-all.gguf"), prompts, end), greedy, margins)
        r = node("model", "export", "base+" + kind, here("merged-" + kind))
        m = AutoModelForCausalLM.from_pretrained(here("merged-" + kind), dtype=torch.float32)
        d = worst(hf_logits(m, prompts), want)
        say(d <= 2e-3, f"{kind}: merged safetensors in transformers: {d:.2e}; loam says {r['max_logit_difference']:.2e}")
        del m, pm


main()
