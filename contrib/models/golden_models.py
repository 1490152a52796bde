#!/usr/bin/env python3
"""Logits of small random models of every family, by transformers, for tests/test_models.c.

    contrib/models/golden_models.py > tests/golden/models.json

Weights are a function of tensor name and position (weight() below, the same in the test), so that only configuration, names and
shapes, and some logits are stored. Each is read by the test as a folder of safetensors and as a GGUF file."""
import json
import sys

import numpy as np
import torch
from transformers import (AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config)

V, T = 320, 40
SMALL = dict(vocab_size=V, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=0)


def old(c, **scaling):
    """Configurations as most published folders have them (rope_theta, rope_scaling), not transformers 5's rope_parameters."""
    j = json.loads(c.to_json_string())
    p = j.pop("rope_parameters", None) or {}
    full, local = p.get("full_attention"), p.get("sliding_attention")
    p = full or p
    j["rope_theta"] = p.get("rope_theta", 10000.0)
    if local:
        j["rope_local_base_freq"] = local["rope_theta"]
    if p.get("rope_type", "default") != "default":
        j["rope_scaling"] = {k: v for k, v in p.items() if k != "rope_theta"}
    return j


def cases():
    rope = lambda **p: dict(rope_parameters={"rope_theta": 10000.0, **p})
    llama3 = rope(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
    yarn = rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)
    yield "llama", LlamaConfig(**SMALL), {}
    yield "llama, tied", LlamaConfig(**SMALL, tie_word_embeddings=True), {"shards": 3}
    yield "llama, linear", LlamaConfig(**SMALL, **rope(rope_type="linear", factor=4.0)), {}
    yield "llama, llama3", LlamaConfig(**SMALL, **llama3), {"dtype": "BF16"}
    yield "llama, yarn", LlamaConfig(**SMALL, **yarn), {"dtype": "F16"}
    yield "llama, new form of rope", LlamaConfig(**SMALL, **llama3), {"new": True}
    yield "mistral, window", MistralConfig(**SMALL, sliding_window=8, head_dim=16), {}
    yield "mistral, heads wider", MistralConfig(**SMALL, sliding_window=None, head_dim=32), {}
    yield "qwen2", Qwen2Config(**SMALL, tie_word_embeddings=True, use_sliding_window=False), {"dtype": "F16"}
    yield "qwen2, yarn", Qwen2Config(**SMALL, use_sliding_window=False, **yarn), {"shards": 2}
    yield "qwen3", Qwen3Config(**{**SMALL, "head_dim": 32}), {"dtype": "BF16"}
    yield "qwen3, yarn", Qwen3Config(**{**SMALL, "head_dim": 16}, tie_word_embeddings=True, **yarn), {}
    gemma = {**SMALL, "num_hidden_layers": 7, "num_key_value_heads": 1, "head_dim": 24, "sliding_window": 8, "tie_word_embeddings": True}
    yield "gemma3", Gemma3TextConfig(**gemma, query_pre_attn_scalar=24), {}
    yield "gemma3, linear", Gemma3TextConfig(**{**gemma, "num_hidden_layers": 6}, query_pre_attn_scalar=24, rope_parameters={
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}), {"dtype": "BF16"}


def weight(name, shape):
    """splitmix64 of FNV-1a(name) + position; the upper 24 bits as a fraction u in [0, 1). Matrices (2 u - 1) / 4; vectors (2 u - 1) / 4, and
    1 more for norms, but Gemma's."""
    h = 0xcbf29ce484222325
    for c in name.encode():
        h = ((h ^ c) * 0x100000001b3) & (1 << 64) - 1
    n = int(np.prod(shape))
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9e3779b97f4a7c15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xbf58476d1ce4e5b9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94d049bb133111eb)
        z = z ^ z >> np.uint64(31)
    u = (z >> np.uint64(40)).astype(np.float32) * np.float32(2.0 ** -24)
    return torch.from_numpy(((2 * u - 1) * np.float32(0.25)).reshape(shape))


def main():
    torch.set_num_threads(1)
    ids = [(i * 37 + i * i * 11) % V for i in range(T)]
    out = {"ids": ids, "models": []}
    for name, config, more in cases():
        config._attn_implementation = "eager"
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        state = model.state_dict()
        tied = config.tie_word_embeddings
        names = [k for k in state if not (tied and k == "lm_head.weight")]
        dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[more.get("dtype", "F32")]
        with torch.no_grad():
            for k in names:
                w = weight(k, tuple(state[k].shape))
                if "norm" in k and "gemma" not in name:
                    w = w + 1
                state[k].copy_(w.to(dtype).float())
            logits = model(torch.tensor([ids])).logits[0]
        inv = getattr(model.model.rotary_emb, "inv_freq", None)
        one = {"name": name, "config": json.loads(config.to_json_string()) if more.get("new") else old(config), "dtype": more.get("dtype", "F32"),
               "shards": more.get("shards", 1), "tensors": [[k, *state[k].shape] for k in names]}
        if config.model_type == "llama" and "llama3" in json.dumps(one["config"]):
            base = torch.tensor([10000.0 ** (-2 * i / 16) for i in range(8)], dtype=torch.float64)
            one["factors"] = [round(float(b / f), 9) for b, f in zip(base, inv.double())]
        probes = [(t, v) for t in (0, 1, 9, 20, 38, 39) for v in range(t % 7, V, 41)]
        one["logits"] = [[t, v, round(float(logits[t, v]), 5)] for t, v in probes]
        one["highest"] = logits.argmax(-1).tolist()
        one["margins"] = [round(float(m[0] - m[1]), 4) for m in logits.topk(2).values]
        for junk in ("transformers_version", "_attn_implementation_autoset", "architectures"):
            one["config"].pop(junk, None)
        out["models"].append(one)
        print(name, float(logits.abs().max()), file=sys.stderr)
    json.dump(out, sys.stdout, separators=(",", ":"))


main()
