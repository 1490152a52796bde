#!/usr/bin/env python3
"""Golden values of the real model from transformers, for tests/test_golden.c.

    contrib/models/golden.py SmolLM2-135M-Instruct.Q4_1.gguf > tests/golden/smollm2.json

transformers dequantises the same file to fp32. For each prompt: the ids that its tokenizer and chat template give, the
greedy continuation, at each of its tokens the margin between the two highest logits, and some logits of the last prompt
position. For the tokenizer: ids of strings chosen to be hard.
"""
import json
import os
import sys

import torch
from gguf import GGUFReader
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM

PROMPTS = [
    "What is the capital of France?", "Who wrote Hamlet?", "Name three primary colors.", "What is 12 + 30?",
    "Explain gravity in one sentence.", "Translate 'good morning' into Spanish.", "What do bees make?",
    "List two uses of salt.", "What is the opposite of hot?", "Write a haiku about rain.",
    "How many days are in a week?", "What is the largest ocean?", "Why is the sky blue?", "Give a synonym for happy.",
    "What language is spoken in Brazil?", "Who painted the Mona Lisa?", "What is H2O?", "Finish: The early bird",
    "What is the boiling point of water in Celsius?", "Tell me a short joke.",
]
TEXTS = [
    "", " ", "  ", "\n\n\n", "a", " a", "Hello, world!", "don't I'LL we've", "1234567890 3.14 ½ ²", "\t\ttabs\t",
    "Grüße aus Köln, señor Ångström", "日本語のテキスト。", "مرحبا بالعالم", "🙂👨‍👩‍👧‍👦 emoji", "x" * 200, " " * 77 + "y",
    "<|im_start|>user", "a\u00a0b\u2003c\u3000d\u180ee\u0085f", "\u0301combining", "mixed\r\nline\rends\n", "\x04\x06\x13\x7f", "ſ's 'ſ",
]
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
NEW = 16


def main():
    path = os.path.abspath(sys.argv[1])
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    reader = GGUFReader(path)
    field = lambda k: reader.fields[k].contents()
    pieces = field("tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ")) for m in field("tokenizer.ggml.merges")]
    tok = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tok.decoder = decoders.ByteLevel()
    ids_of = lambda s: tok.encode(s, add_special_tokens=False).ids
    start, end = pieces.index("<|im_start|>"), pieces.index("<|im_end|>")

    import jinja2
    template = jinja2.Environment().from_string(field("tokenizer.chat_template"))

    def prompt_ids(text):
        rendered = template.render(messages=[{"role": "user", "content": text}], add_generation_prompt=True)
        out, rest = [], rendered
        while rest:
            at = [(rest.find(m), m, i) for m, i in (("<|im_start|>", start), ("<|im_end|>", end)) if m in rest]
            if not at:
                out += ids_of(rest)
                break
            pos, mark, i = min(at)
            out += ids_of(rest[:pos]) + [i]
            rest = rest[pos + len(mark):]
        return out

    model = AutoModelForCausalLM.from_pretrained(os.path.dirname(path), gguf_file=os.path.basename(path), dtype=torch.float32)
    result = {"file": os.path.basename(path), "bytes": os.path.getsize(path), "texts": [], "prompts": []}
    for t in TEXTS:
        result["texts"].append({"text": t, "ids": ids_of(t)})
    for p in PROMPTS:
        ids = prompt_ids(p)
        with torch.no_grad():
            out = model.generate(torch.tensor([ids]), max_new_tokens=NEW, do_sample=False, eos_token_id=end, repetition_penalty=1.0,
                                 output_logits=True, return_dict_in_generate=True)
        logits = out.logits[0][0]
        new = out.sequences[0, len(ids):].tolist()
        margins = []
        for step in out.logits:
            top = step[0].topk(2).values
            margins.append(round(float(top[0] - top[1]), 4))
        probe = sorted(set(logits.topk(16).indices.tolist() + list(range(0, len(pieces), 3001))))
        result["prompts"].append({"prompt": p, "ids": ids, "greedy": new, "margins": margins, "probe": probe,
                                  "logits": [round(float(logits[i]), 6) for i in probe]})
        print(p, file=sys.stderr)
    json.dump(result, sys.stdout, ensure_ascii=True, separators=(",", ":"))


main()
