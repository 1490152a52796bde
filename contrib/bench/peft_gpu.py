#!/usr/bin/env python3
"""Peers of contrib/bench/bench_cuda.c on the same device: PyTorch's copy, products and SGEMM; LoRA by transformers and PEFT with
SDPA (or flash_attention_2 where it is installed) on random weights of the same shapes. One JSON object a line.

usage: peft_gpu.py [1B|3B|8B ...]"""
import json
import statistics
import sys

import torch

SHAPES = {  # hidden, layers, heads, key/value heads, head size, ffn
    "1B": (2048, 16, 32, 8, 64, 8192),
    "3B": (3072, 28, 24, 8, 128, 8192),
    "8B": (4096, 32, 32, 8, 128, 14336),
}
VOCAB = 128256


def out(name, value, unit):
    print(json.dumps({"suite": "gpu", "name": name, "value": round(value, 3), "unit": unit, "peer": "PyTorch " + torch.__version__}), flush=True)


def median(fn, n=9):
    fn(), fn()
    ms = []
    for _ in range(n):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        fn()
        b.record()
        b.synchronize()
        ms.append(a.elapsed_time(b))
    return statistics.median(ms)


def limits():
    a = torch.empty(1 << 30, dtype=torch.bfloat16, device="cuda")
    b = torch.empty_like(a)
    out("peer: device-to-device copy, read and write", 4 * a.numel() / median(lambda: b.copy_(a), 21) / 1e6, "GB/s")
    del a, b
    x, y = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    out("peer: bf16 product 8192^3", 2 * 8192**3 / median(lambda: x @ y.T, 21) / 1e9, "TFLOP/s")
    torch.backends.cuda.matmul.allow_tf32 = False
    x, y = (torch.randn(4096, 4096, device="cuda") for _ in range(2))
    out("peer: SGEMM 4096^3 without TF32", 2 * 4096**3 / median(lambda: x @ y) / 1e9, "TFLOP/s")


def lora(name):
    import peft
    import transformers

    c, layers, heads, kv, d, ffn = SHAPES[name]
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=c, intermediate_size=ffn, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv,
        head_dim=d, max_position_embeddings=8192, tie_word_embeddings=False, use_cache=False)
    try:
        import flash_attn  # noqa: F401
        attention = "flash_attention_2"
    except ImportError:
        attention = "sdpa"
    torch.manual_seed(1)
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        torch.set_default_dtype(torch.float32)
    model = peft.get_peft_model(model, peft.LoraConfig(r=16, lora_alpha=32, target_modules=[
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], task_type="CAUSAL_LM"))
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=2e-4, fused=True)
    ids = torch.randint(0, VOCAB, (2, 4096), device="cuda")
    torch.cuda.reset_peak_memory_stats()

    def step():
        model(input_ids=ids, labels=ids).loss.backward()
        opt.step()
        opt.zero_grad()

    ms = median(step, 5)
    out(f"peer: {name} LoRA r16 all linears, 2 x 4096, PEFT {peft.__version__}, {attention}", ids.numel() / ms * 1e3, "tok/s")
    out(f"peer: {name} LoRA memory, PEFT", torch.cuda.max_memory_allocated() / 2**20, "MiB")


if __name__ == "__main__":
    limits()
    for shape in sys.argv[1:] or SHAPES:
        try:
            lora(shape)
        except (ImportError, torch.cuda.OutOfMemoryError) as why:
            print(f"peft_gpu: {shape}: {why}", file=sys.stderr)
        torch.cuda.empty_cache()
