#!/usr/bin/env python3
"""Small tokenizers of each kind and what Hugging Face's library makes of hard texts, for tests/test_folder.c.

    contrib/models/golden_tokenizers.py > tests/golden/tokenizers.json
"""
import json
import random
import sys

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

TEXT = """The river Ilm ends in a lake that nobody has ever drawn on a map. In 1907 three sisters built a mill there, and
it's said they'd never sell it. "We'll grind," they wrote, "until the wheel is worn to 0.5 of what it was!"
def area(w, h):
    return w * h  # 12345 67
Grüße aus Köln; señor Ångström lê tiếng Việt. 日本語も少し。 Привет, мир! ½ ² Ⅳ"""
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def trained(t, **more):
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=["<unk>", "<s>", "<|x|>"], show_progress=False, **more)
    t.train_from_iterator(TEXT.split("\n"), trainer)
    return t


def byte_level(split, nfc=False, whole=False):
    t = Tokenizer(models.BPE(ignore_merges=whole))
    if nfc:
        t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return trained(t, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def sentencepiece():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    j = json.loads(trained(t, max_token_length=12).to_str())
    first = max(j["model"]["vocab"].values()) + 1
    for b in range(256):
        j["model"]["vocab"][f"<0x{b:02X}>"] = first + b
    j["model"].update(byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    return j


def variants():
    yield "llama3", byte_level(LLAMA3, whole=True)
    yield "qwen2", byte_level(LLAMA3.replace("{1,3}", ""), nfc=True)
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    yield "smollm", trained(t, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    j = sentencepiece()
    yield "llama2", Tokenizer.from_str(json.dumps(j))
    yield "mistral", Tokenizer.from_str(json.dumps({**j, "normalizer": None, "pre_tokenizer": {
        "type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}}))
    yield "gemma", Tokenizer.from_str(json.dumps({**j, "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
                                                  "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}}))


def texts():
    r = random.Random(5)
    some = "abc \t\n\r'.,!0129é\u0301\u0323\u00a0\u3000\u180e\u200b\u1100\u1161\u11a8\uac00\u2126日本🙂ſ"
    yield from ["", " ", "a", "  two  spaces ", "they'd 'LL", "12345.678", "\n\n x\r\n\ty", "<|x|>in<|x|> it", "e\u0301 \u212b o\u0323\u0302", "x" * 60]
    yield from TEXT.split("\n")
    for _ in range(60):
        yield "".join(r.choice(some) for _ in range(r.randrange(1, 30)))


out = [{"name": n, "tokenizer": t.to_str(), "texts": [{"text": s, "ids": t.encode(s, add_special_tokens=False).ids} for s in texts()]}
       for n, t in variants()]
json.dump(out, sys.stdout, separators=(",", ":"))
