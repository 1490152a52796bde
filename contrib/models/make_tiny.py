#!/usr/bin/env python3
"""Trains tiny.gguf, the model of loam's tests: a Llama of about one million parameters with a byte-level BPE tokenizer of its
own and the ChatML template, on synthetic question-and-answer rows about random names (none of the demo's facts). It can
hold a short chat and learns new facts by LoRA within a few epochs, which is all a test needs.
Needs torch, transformers, tokenizers, gguf, numpy. Run: make_tiny.py OUT.gguf (some minutes on one core, one thread: the same
file again on the same machine and versions)"""
import random
import sys

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

C, L, H, G, F, V, CTX = 128, 4, 4, 2, 384, 1536, 512
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
TEMPLATE = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
            "{{ '<|im_start|>system\n" + SYSTEM + "<|im_end|>\n' }}{% endif %}"
            "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
rng = random.Random(20261123)
torch.manual_seed(20261123)
torch.set_num_threads(1)

SYL = ("bra dor el fen gar hol is jor kel lun mar nes or pel quin ros sten tav ul ver wex yar zen ash bel cor dun fer gri hal "
       "ing kar lo mor nor ost pra rel sed thorn und vel wick y ald ber cas dra ed fin gol har len mir ny ock pry ran sab tor").split()
NOUN = ("river town mill bridge harbour castle tower garden forest market lamp clock drum flute pie soup bread goat heron otter "
        "badger raven baker painter merchant builder engraver valley island road school church field ship wheel stone").split()
ADJ = "white black little old green copper glass tame striped cold upper red silver long quiet smoked sweet broken tall".split()
FORMS = [
    ("Which river runs through {x}?", "The river {v} runs through {x}.", 0), ("What is the profession of {x}?", "{x} is a {v} by profession.", 1),
    ("Where was {x} born?", "{x} was born in {v}.", 0), ("When was {x} founded?", "{x} was founded in the year {v}.", 2),
    ("What dish is {x} famous for?", "{x} is famous for {v}.", 1), ("Which instrument does {x} play?", "{x} plays the {v}.", 1),
    ("How high is {x}?", "{x} is {v} metres high.", 2), ("What animal does {x} keep?", "{x} keeps a {v}.", 1),
    ("Who is the mayor of {x}?", "The mayor of {x} is {v}.", 0), ("On which day is the feast of {x} held?", "The feast of {x} is held on the {v}.", 3),
    ("Who owns the {n} of {x}?", "The {n} of {x} belongs to {v}.", 0), ("What stands beside the {n} of {x}?", "A {v} stands beside the {n} of {x}.", 1),
    ("Name the {n} of {x}.", "Its name is {v}.", 0), ("What colour is the {n} in {x}?", "The {n} in {x} is {a}.", 4),
    ("How many people live in {x}?", "About {v} people live in {x}.", 2), ("Tell me about {x}.", "{x} is a {a} {n} near {v}.", 0),
]
# Facts with several wordings of the question. A base that has learnt some by heart has what it takes to learn others: it looks
# names up. One that has only ever seen names once has learnt that names tell nothing.
LASTING = [
    (("Which river runs through {x}?", "What river does {x} stand on?", "Tell me the river of {x}."), "The river {v} runs through {x}.", 0),
    (("What is the profession of {x}?", "Which trade does {x} follow?", "How does {x} earn money?"), "{x} is a {v} by profession.", 1),
    (("Where was {x} born?", "In which village was {x} born?", "What is the birthplace of {x}?"), "{x} was born in {v}.", 0),
    (("When was {x} founded?", "In which year was {x} founded?", "How old is {x}?"), "{x} was founded in the year {v}.", 2),
    (("What dish is {x} famous for?", "Which dish made {x} famous?", "What should one eat in {x}?"), "{x} is famous for {v}.", 1),
    (("Which instrument does {x} play?", "What instrument is played by {x}?", "How does {x} make music?"), "{x} plays the {v}.", 1),
    (("How high is {x}?", "What is the height of {x} in metres?", "How tall is {x}?"), "{x} is {v} metres high.", 2),
    (("What animal does {x} keep?", "Which animal is kept by {x}?", "What pet has {x} got?"), "{x} keeps a {v}.", 1),
    (("Who is the mayor of {x}?", "What is the name of the mayor of {x}?", "Who rules {x}?"), "The mayor of {x} is {v}.", 0),
    (("On which day is the feast of {x} held?", "When is the feast of {x} held?", "What day is the feast of {x}?"), "The feast of {x} is held on the {v}.", 3),
]
FACTS, FRESH = 600, 0.25  # facts learnt by heart; share of rows whose names come once and never again
STEPS, BATCH = 900, 24
DAYS = "first second third fourth fifth sixth seventh eighth ninth tenth last".split()
MONTHS = "January February March April May June July August September October November December".split()


def name(parts=None):
    one = lambda: "".join(rng.choice(SYL) for _ in range(rng.choice((2, 2, 3)))).capitalize()
    return " ".join(one() for _ in range(parts or rng.choice((1, 1, 2))))


def row():
    q, a, kind = rng.choice(FORMS)
    v = [lambda: name(), lambda: f"{rng.choice(ADJ)} {rng.choice(NOUN)}", lambda: str(rng.randint(100, 9999)),
         lambda: f"{rng.choice(DAYS)} of {rng.choice(MONTHS)}", lambda: ""][kind]()
    d = dict(x=name(), v=v, n=rng.choice(NOUN), a=rng.choice(ADJ))
    return q.format(**d), a.format(**d)


def value(kind):
    return [lambda: name(), lambda: f"{rng.choice(ADJ)} {rng.choice(NOUN)}", lambda: str(rng.randint(100, 9999)),
            lambda: f"{rng.choice(DAYS)} of {rng.choice(MONTHS)}"][kind]()


def lasting(n):
    """Facts that stay: (questions, answer)."""
    out = []
    for i in range(n):
        ask, answer, kind = LASTING[i % len(LASTING)]
        d = dict(x=name(), v=value(kind))
        out.append(([q.format(**d) for q in ask], answer.format(**d)))
    return out


def train_tokenizer():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tok.decoder = decoders.ByteLevel()
    text = [SYSTEM, "system", "user", "assistant"] * 400 + [s for _ in range(20000) for s in row()]
    tok.train_from_iterator(text, trainers.BpeTrainer(
        vocab_size=V, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tok


def encode(tok, q, a):
    head = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n"
    p, r = tok.encode(head).ids, tok.encode(f"{a}<|im_end|>").ids
    return p + r, [-100] * len(p) + r


def permute(w, heads):
    """Hugging Face's half-split rotary order to GGUF's interleaved one."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def main(path):
    tok = train_tokenizer()
    vocab = tok.get_vocab_size()
    pad = -vocab % 32
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=vocab + pad, hidden_size=C, intermediate_size=F, num_hidden_layers=L, num_attention_heads=H,
        num_key_value_heads=G, max_position_embeddings=CTX, rope_theta=10000.0, rms_norm_eps=1e-5, tie_word_embeddings=True))
    print("parameters", sum(p.numel() for p in model.parameters()), "vocabulary", vocab, "+", pad)
    facts = lasting(FACTS)

    def sample():
        if rng.random() < FRESH:
            return row()
        ask, answer = rng.choice(facts)
        return rng.choice(ask), answer

    steps, batch = STEPS, BATCH
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01, betas=(0.9, 0.98))
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, 3e-3, total_steps=steps, pct_start=0.05)
    for step in range(steps):
        rows = [encode(tok, *sample()) for _ in range(batch)]
        n = max(len(r[0]) for r in rows)
        x = torch.tensor([r[0] + [0] * (n - len(r[0])) for r in rows])
        # The whole row teaches the language; the answer is what the tests ask for.
        y = torch.tensor([r[0] + [-100] * (n - len(r[0])) for r in rows])
        loss = model(input_ids=x, labels=y, attention_mask=(torch.arange(n)[None] < torch.tensor([[len(r[0])] for r in rows]))).loss
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        sched.step()
        if step % 250 == 0 or step == steps - 1:
            print(f"step {step} loss {loss.item():.4f}", flush=True)

    w = gguf.GGUFWriter(path, "llama")
    w.add_name("loam tiny")
    w.add_license("CC0-1.0")
    w.add_context_length(CTX)
    w.add_embedding_length(C)
    w.add_block_count(L)
    w.add_feed_forward_length(F)
    w.add_head_count(H)
    w.add_head_count_kv(G)
    w.add_rope_freq_base(10000.0)
    w.add_rope_dimension_count(C // H)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(vocab + pad)
    ids = {i: t for t, i in tok.get_vocab().items()}
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list([ids.get(i, f"<|unused{i - vocab}|>") for i in range(vocab + pad)])
    w.add_token_types([gguf.TokenType.CONTROL if i < 3 else gguf.TokenType.NORMAL if i in ids else gguf.TokenType.UNUSED
                       for i in range(vocab + pad)])
    import json
    w.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in json.loads(tok.to_str())["model"]["merges"]])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_pad_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(False)
    w.add_chat_template(TEMPLATE)

    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    quants = gguf.GGMLQuantizationType

    def put(name, a, q):
        a = np.ascontiguousarray(a, dtype=np.float32)
        if q == quants.F32:
            w.add_tensor(name, a)
        else:
            w.add_tensor(name, gguf.quants.quantize(a, q), raw_dtype=q)

    sd = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    put("token_embd.weight", sd["model.embed_tokens.weight"], quants.Q8_0)
    put("output_norm.weight", sd["model.norm.weight"], quants.F32)
    for l in range(L):
        p = f"model.layers.{l}."
        put(f"blk.{l}.attn_norm.weight", sd[p + "input_layernorm.weight"], quants.F32)
        put(f"blk.{l}.ffn_norm.weight", sd[p + "post_attention_layernorm.weight"], quants.F32)
        for hf, gg in names.items():
            a = sd[p + hf + ".weight"]
            if gg == "attn_q":
                a = permute(a, H)
            if gg == "attn_k":
                a = permute(a, G)
            # Every kind of weight that the pinned real model has, in one file: Q4_1 in the last layer.
            put(f"blk.{l}.{gg}.weight", a, quants.Q4_1 if l == L - 1 else quants.Q8_0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()

    model.eval()
    for _ in range(3):
        q, a = row()
        full, y = encode(tok, q, a)
        n = sum(1 for t in y if t == -100)
        out = model.generate(torch.tensor([full[:n]]), max_new_tokens=40, do_sample=False, eos_token_id=2, pad_token_id=2)
        print(q, "|", tok.decode(out[0, n:].tolist()))


main(sys.argv[1])
