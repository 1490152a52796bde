#!/usr/bin/env python3
"""loam's chat templates against transformers' apply_chat_template, token for token, over random conversations.

    contrib/models/check_templates.py LM_CHECK FILE.jinja …

Each file holds a model's template. Two tokenizers are tried with it, byte-level and SentencePiece-like (with Llama 2's and with Mistral's rule for
the leading space), whose added tokens are those that the template names; and the [INST] templates also with [INST] as tokens."""
import json
import os
import random
import subprocess
import sys
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

MARKS = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>"]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level(extra):
    chars = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(chars)}
    merges = [("Ġ", "t"), ("h", "e"), ("Ċ", "Ċ"), ("i", "n"), ("Ġt", "he"), ("Ġ", "Ġ"), ("Ġ", "["), ("I", "N"), ("e", "r"), (">", "Ċ"), ("]", "Ġ")]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    return special(t, extra)


def sentencepiece(extra, first):
    vocab = {"<unk>": 0}
    for b in range(256):
        vocab[f"<0x{b:02X}>"] = len(vocab)
    for c in "\u2581abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789[]<>/|.,:?!'é":
        vocab.setdefault(c, len(vocab))
    merges = [("\u2581", "t"), ("h", "e"), ("i", "n"), ("\u2581t", "he"), ("\u2581", "\u2581"), ("\u2581", "["), ("I", "N"), ("S", "T"), ("IN", "ST"), ("e", "r")]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if first:
        t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="first", split=False)
    else:
        t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return special(t, extra)


def special(t, extra):
    t.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in ["<s>", "</s>"] + extra])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", t.token_to_id("<s>"))])
    return t


def conversations(n):
    r = random.Random(3)
    words = ["the", "in", "then", "Hello", "don't", "é", "日本", "12345", "[INST]x", "<b>", "\n", "\n\n", "  ", " ", "\t", "?", "."]
    text = lambda: "".join(r.choice(words) + r.choice(["", " ", " "]) for _ in range(r.randrange(0, 12)))
    for i in range(n):
        m = [{"role": "system", "content": text()}] if r.random() < 0.4 else []
        turns = r.randrange(1, 6)
        for k in range(turns):
            m.append({"role": "assistant" if k % 2 else "user", "content": text()})
        if r.random() < 0.1:
            m.append({"role": r.choice(["user", "assistant"]), "content": text()})
        yield m


def check(lm_check, path, name, tok, many):
    source = open(path, encoding="utf-8").read()
    hf = PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>", chat_template=source)
    with tempfile.TemporaryDirectory() as d:
        tok.save(os.path.join(d, "tokenizer.json"))
        got = subprocess.run([lm_check, "render", os.path.join(d, "tokenizer.json"), path], input="".join(json.dumps(m) + "\n" for m in many).encode(), capture_output=True)
    if got.returncode:
        print(f"{os.path.basename(path)}, {name}: {got.stderr.decode().strip()}")
        return 1
    equal = refused = over = wrong = 0
    for m, line in zip(many, got.stdout.decode().split("\n")):
        try:
            want = hf.apply_chat_template(m, add_generation_prompt=True, tokenize=True, return_dict=False)
            want = " ".join(map(str, want))
        except Exception:
            want = None
        # loam encodes contents without special tokens by design: those are compared where the texts hold none
        if line.startswith("refused"):
            refused += want is None
            over += want is not None
            if want is not None and over <= 1:
                print(f"  refused here only: {line}")
        elif want == line:
            equal += 1
        else:
            wrong += 1
            if wrong <= 2:
                print(f"  differs: {m}\n    loam {line}\n    want {want}")
    print(f"{os.path.basename(path)}, {name}: {equal} equal, {wrong} differ; refused by both {refused}, only here {over}")
    return wrong


def main():
    many = list(conversations(300))
    status = 0
    for path in sys.argv[2:]:
        source = open(path, encoding="utf-8").read()
        marks = [m for m in MARKS if m in source]
        inst = "[INST]" in source
        toks = [("byte-level", byte_level(marks)), ("SentencePiece", sentencepiece(marks, False)), ("SentencePiece, first", sentencepiece(marks, True))]
        if inst:
            toks += [("byte-level, marks are tokens", byte_level(["[INST]", "[/INST]"])), ("SentencePiece, first, marks are tokens", sentencepiece(["[INST]", "[/INST]"], True))]
        for name, tok in toks:
            plain = [m for m in many if not ("tokens" in name and any("[INST]" in x["content"] for x in m))]
            status += check(sys.argv[1], path, name, tok, plain)
    sys.exit(status != 0)


main()
