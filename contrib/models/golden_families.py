#!/usr/bin/env python3
"""PyTorch's losses and LoRA gradients of the small models of tests/test_families.c. The test leaves the models there:
  LOAM_FAMILIES=/tmp/families tests/test_families; golden_families.py /tmp/families > tests/golden/families.txt
Needs torch, transformers, peft."""
import json
import os
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

KINDS = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def numbers(g):
    g = g.double().flatten()
    n = g.numel()
    return g.norm().item(), [g[j * (n - 1) // 2].item() for j in range(3)]


print("# losses and gradients by contrib/models/golden_families.py, torch %s" % torch.__version__)
for name in ("mistral", "qwen2", "qwen3", "gemma3"):
    folder = os.path.join(sys.argv[1], name)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model = PeftModel.from_pretrained(base, os.path.join(folder, "peft"), is_trainable=True)
    model.eval()
    print("family", name)
    total = 0
    for row in json.load(open(os.path.join(folder, "rows.json"))):
        ids = torch.tensor([row["ids"]])
        logits = model(input_ids=ids, use_cache=False).logits[0, row["from"] - 1:-1]
        nll = torch.nn.functional.cross_entropy(logits, ids[0, row["from"]:], reduction="sum")
        print("%.9g" % nll.item())
        total = total + nll
    total.backward()
    modules = dict(model.named_modules())
    for layer in range(base.config.num_hidden_layers):
        for kind, path in KINDS.items():
            m = next(v for k, v in modules.items() if k.endswith(f"model.layers.{layer}.{path}"))
            a, sa = numbers(m.lora_A["default"].weight.grad)
            b, sb = numbers(m.lora_B["default"].weight.grad)
            print(layer, kind, *("%.9g" % x for x in [a, b] + sa + sb))
