#!/usr/bin/env python3
"""The same LoRA run as `loam train`, by PEFT on PyTorch: same initial adapter (Philox), same order of rows, same schedule.
Prints a loss a step (--losses FILE), tokens a second and the largest resident memory, so that the two can be laid side by side.
The oracle of tests/golden/train_tiny*.txt, one after the other (tests/test_train):
  tiny="peft_train.py contrib/models/tiny.gguf tests/golden/train_tiny.jsonl --rank 4 --alpha 8 --lr 2e-3 --seed 2a"
  $tiny --epochs 20 --batch 4 --losses tests/golden/train_tiny.txt
  $tiny --epochs 20 --batch 4 --schedule cosine --warmup 0.2 --rslora --losses tests/golden/train_tiny_cosine.txt
  $tiny --epochs 20 --batch 4 --schedule constant --clip 0.05 --losses tests/golden/train_tiny_clip.txt
  $tiny --epochs 20 --batch 10 --warmup 0.3 --clip 0 --losses tests/golden/train_tiny_whole.txt
Needs torch, transformers, peft, gguf, numpy."""
import argparse
import json
import math
import os
import resource
import time

import numpy as np

LINEARS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
M64 = (1 << 64) - 1


def keccak256(data):
    rc, r = [], 1
    for _ in range(24):
        v = 0
        for j in range(7):
            if r & 1:
                v |= 1 << ((1 << j) - 1)
            r = (r << 1) ^ (0x171 if r & 0x80 else 0)
        rc.append(v)
    rol = lambda x, n: ((x << n) | (x >> (64 - n))) & M64 if n else x
    a = [[0] * 5 for _ in range(5)]
    data = bytearray(data) + b"\x01"
    data += b"\0" * (-len(data) % 136)
    data[-1] |= 0x80
    for at in range(0, len(data), 136):
        for i in range(17):
            a[i % 5][i // 5] ^= int.from_bytes(data[at + 8 * i:at + 8 * i + 8], "little")
        for k in range(24):
            c = [a[x][0] ^ a[x][1] ^ a[x][2] ^ a[x][3] ^ a[x][4] for x in range(5)]
            d = [c[(x - 1) % 5] ^ rol(c[(x + 1) % 5], 1) for x in range(5)]
            a = [[a[x][y] ^ d[x] for y in range(5)] for x in range(5)]
            x, y, cur = 1, 0, a[1][0]
            for t in range(24):
                x, y = y, (2 * x + 3 * y) % 5
                cur, a[x][y] = a[x][y], rol(cur, (t + 1) * (t + 2) // 2 % 64)
            a = [[a[x][y] ^ (~a[(x + 1) % 5][y] & M64 & a[(x + 2) % 5][y]) for y in range(5)] for x in range(5)]
            a[0][0] ^= rc[k]
    return b"".join(a[i % 5][i // 5].to_bytes(8, "little") for i in range(4))


def philox(key, index, block):
    """Arrays of blocks: four arrays of words."""
    block = np.asarray(block, dtype=np.uint64)
    m = np.uint64(0xFFFFFFFF)
    c = [np.full_like(block, index & 0xFFFFFFFF), np.full_like(block, index >> 32), block, np.zeros_like(block)]
    k0, k1 = key
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), p1 & m, (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p0 & m]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def key_of(seed, purpose):
    h = keccak256(seed + purpose)
    return int.from_bytes(h[:4], "little"), int.from_bytes(h[4:8], "little")


def shuffle(key, index, n):
    w = philox(key, index, np.arange(n))
    out = list(range(n))
    for i in range(n - 1, 0, -1):
        j = ((int(w[0][i]) | int(w[1][i]) << 32) * (i + 1)) >> 64
        out[i], out[j] = out[j], out[i]
    return out


def init_a(key, tensor, rank, width):
    n = rank * width
    w = philox(key, tensor, np.arange((n + 3) // 4))
    u = (np.stack(w, 1).reshape(-1)[:n] >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)
    return ((np.float32(2) * u - np.float32(1)) * np.float32(1 / math.sqrt(width))).reshape(rank, width)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("model")
    ap.add_argument("rows", nargs="+")
    ap.add_argument("--rank", type=int, default=16)
    ap.add_argument("--alpha", type=float, default=32)
    ap.add_argument("--rslora", action="store_true", help="scale alpha / sqrt(rank)")
    ap.add_argument("--targets", default="q,k,v,o,gate,up,down")
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--warmup", type=float, default=0.06)
    ap.add_argument("--schedule", default="linear", choices=["linear", "constant", "cosine"])
    ap.add_argument("--clip", type=float, default=1)
    ap.add_argument("--epochs", type=int, default=12)
    ap.add_argument("--batch", type=int, default=8)
    ap.add_argument("--steps", type=int, default=0, help="stop after so many (the schedule stays that of the whole run)")
    ap.add_argument("--random", type=int, default=0, help="rows of so many random tokens, all trained, instead of the file's")
    ap.add_argument("--seed", default="2a", help="hex, padded with zeros to 32 bytes")
    ap.add_argument("--losses")
    ap.add_argument("--state", help="with --steps: go on from what this file holds, and keep there what the next run goes on from")
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer
    torch.set_num_threads(args.threads)
    folder, name = os.path.split(os.path.abspath(args.model))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    tok = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    short = {"q": 0, "k": 1, "v": 2, "o": 3, "gate": 4, "up": 5, "down": 6}
    kinds = sorted(short[t] for t in args.targets.split(","))
    model = get_peft_model(model, LoraConfig(r=args.rank, lora_alpha=args.alpha, lora_dropout=0, use_rslora=args.rslora, task_type="CAUSAL_LM",
                                             target_modules=[LINEARS[k].split(".")[1] for k in kinds]))
    seed = bytes.fromhex(args.seed).ljust(32, b"\0")
    tensors = dict(model.named_modules())
    init, at = key_of(seed, b"init"), 0
    for layer in range(model.config.num_hidden_layers):
        for k in kinds:
            m = tensors[f"base_model.model.model.layers.{layer}.{LINEARS[k]}"]
            w = m.lora_A["default"].weight
            with torch.no_grad():
                w.copy_(torch.from_numpy(init_a(init, at, args.rank, w.shape[1])))
            at += 1
    rows = []
    for path in args.rows:
        for line in open(path, encoding="utf-8"):
            if not line.strip():
                continue
            r = json.loads(line)
            ask = r.get("prompt", r.get("question"))
            answer = r.get("completion", r.get("answer", r.get("response")))
            user = [{"role": "user", "content": ask}]
            ids = lambda m, g: tok(tok.apply_chat_template(m, tokenize=False, add_generation_prompt=g), add_special_tokens=False)["input_ids"]
            head, whole = ids(user, True), ids(user + [{"role": "assistant", "content": answer}], False)
            assert whole[:len(head)] == head
            end = len(whole) - 1 - whole[::-1].index(tok.convert_tokens_to_ids("<|im_end|>"))
            rows.append((whole, len(head), end + 1))
    if args.random:
        g = np.random.default_rng(1)
        rows = [(g.integers(0, model.config.vocab_size, args.random).tolist(), 1, args.random) for _ in rows]
    per_epoch = (len(rows) + args.batch - 1) // args.batch
    total = per_epoch * args.epochs
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=args.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0)
    warm, order_key, losses, tokens, step = math.ceil(args.warmup * total), key_of(seed, b"order"), [], 0, 0
    done = 0
    if args.state and os.path.exists(args.state):
        kept = torch.load(args.state, weights_only=True)
        with torch.no_grad():
            for p, w in zip(params, kept["params"], strict=True):
                p.copy_(w)
        opt.load_state_dict(kept["opt"])
        losses = kept["losses"]
        done = len(losses)

    def keep_state():
        torch.save({"params": [p.detach() for p in params], "opt": opt.state_dict(), "losses": losses}, args.state + ".new")
        os.replace(args.state + ".new", args.state)

    model.train()
    start = time.time()
    for epoch in range(args.epochs):
        order = shuffle(order_key, epoch, len(rows))
        for b in range(per_epoch):
            if args.steps and step == args.steps:
                break
            if step < done:
                step += 1
                continue
            part = [rows[i] for i in order[b * args.batch:(b + 1) * args.batch]]
            width = max(len(r[0]) for r in part)
            ids = torch.zeros(len(part), width, dtype=torch.long)
            mask = torch.zeros(len(part), width, dtype=torch.long)
            labels = torch.full((len(part), width), -100)
            for i, (t, a, z) in enumerate(part):
                ids[i, :len(t)] = torch.tensor(t)
                mask[i, :len(t)] = 1
                labels[i, a:z] = torch.tensor(t[a:z])
                tokens += len(t)
            lr = args.lr * ((step + 1) / warm if step < warm else
                            (total - step) / (total - warm) if args.schedule == "linear" else
                            0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm))) if args.schedule == "cosine" else 1)
            for group in opt.param_groups:
                group["lr"] = lr
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
            opt.zero_grad()
            loss.backward()
            if args.clip:
                torch.nn.utils.clip_grad_norm_(params, args.clip)
            opt.step()
            losses.append(loss.item())
            step += 1
            if args.state and step % 5 == 0:
                keep_state()
    seconds = time.time() - start
    if args.state:
        keep_state()
    if args.losses:
        with open(args.losses, "w") as f:
            f.write("# losses of contrib/bench/peft_train.py, torch %s\n" % torch.__version__)
            f.writelines("%.8f\n" % x for x in losses)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"steps": step, "tokens": tokens, "seconds": round(seconds, 2), "tokens_per_s": round(tokens / seconds, 1),
                      "max_rss_mib": round(rss), "first_loss": losses[0], "last_loss": losses[-1]}))


if __name__ == "__main__":
    main()
