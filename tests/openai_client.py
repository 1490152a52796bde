"""What a program that speaks OpenAI's API expects of a node. Argument: the node's URL. Run by openai.sh."""
import sys
from concurrent.futures import ThreadPoolExecutor

import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0, timeout=60)
user = [{"role": "user", "content": "Who are you?"}]


def chat(**more):
    args = dict(model="tiny", messages=user, max_tokens=24)
    args.update(more)
    return client.chat.completions.create(**args)


names = [m.id for m in client.models.list()]
assert names == ["tiny"], names
assert client.models.retrieve("tiny").id == "tiny"

whole = chat()
choice = whole.choices[0]
assert whole.object == "chat.completion" and choice.message.role == "assistant"
assert choice.finish_reason in ("stop", "length")
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
assert 0 < whole.usage.completion_tokens <= 24

# Streamed, the same text; usage on request in a last chunk without choices.
chunks = list(chat(stream=True, stream_options={"include_usage": True}))
text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
assert text == choice.message.content, (text, choice.message.content)
assert chunks[0].choices[0].delta.role == "assistant"
assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == choice.finish_reason

# A seed fixes a drawn answer; other seeds give others.
drawn = [chat(temperature=1.5, seed=s).choices[0].message.content for s in (1, 1, 2, 3)]
assert drawn[0] == drawn[1] and len(set(drawn)) > 1, drawn

# Log-probabilities.
lp = chat(logprobs=True, top_logprobs=3).choices[0].logprobs.content
assert len(lp) == whole.usage.completion_tokens
for t in lp:
    assert t.logprob <= 0 and len(t.top_logprobs) == 3
    assert abs(t.top_logprobs[0].logprob - t.logprob) < 1e-6  # greedy: the chosen is the likeliest
    assert t.top_logprobs[0].logprob >= t.top_logprobs[1].logprob >= t.top_logprobs[2].logprob

# Stop strings cut before themselves.
if len(choice.message.content) > 4:
    stop = choice.message.content[2:4]
    cut = chat(stop=stop)
    assert cut.choices[0].message.content == choice.message.content.split(stop)[0]
    assert cut.choices[0].finish_reason == "stop"
assert chat(max_tokens=1).choices[0].finish_reason in ("length", "stop")
parts = [{"role": "user", "content": [{"type": "text", "text": "Who are "}, {"type": "text", "text": "you?"}]}]
assert chat(messages=parts).choices[0].message.content == choice.message.content

# Several answers to one request: the first is that of the seed alone, each of the others drawn anew, and the same again.
many = chat(n=3, temperature=1.5, seed=1, logprobs=True)
assert [c.index for c in many.choices] == [0, 1, 2]
texts = [c.message.content for c in many.choices]
assert texts[0] == drawn[0] and len(set(texts)) > 1, texts
assert [c.message.content for c in chat(n=3, temperature=1.5, seed=1).choices] == texts
assert many.usage.completion_tokens == sum(len(c.logprobs.content) for c in many.choices)
got = ["", "", ""]
finished = [None] * 3
for c in chat(n=3, temperature=1.5, seed=1, stream=True):
    for one in c.choices:
        got[one.index] += one.delta.content or ""
        finished[one.index] = one.finish_reason or finished[one.index]
assert got == texts and all(finished), (got, texts)

# Log-probabilities streamed are those of the whole; a stop string that spans tokens is never streamed in part.
streamed = [t for c in chat(stream=True, logprobs=True, top_logprobs=1) for o in c.choices if o.logprobs for t in o.logprobs.content]
assert [(t.token, t.logprob) for t in streamed] == [(t.token, t.logprob) for t in lp]
content = choice.message.content
tokens = [t.token for t in lp]
if len(tokens) > 3 and len(tokens[1]) and len(tokens[2]):
    border = (tokens[1][-1:] + tokens[2][:1])
    seen = "".join(c.choices[0].delta.content or "" for c in chat(stream=True, stop=[border, "never said"]) if c.choices)
    assert seen == content.split(border)[0], (seen, content, border)

# Penalties, min_p, top_k change what is drawn and are the same again.
for more in ({"presence_penalty": 2}, {"frequency_penalty": 2}, {"extra_body": {"repeat_penalty": 1.5}}, {"temperature": 1, "seed": 5, "extra_body": {"top_k": 2}},
             {"temperature": 1, "seed": 5, "extra_body": {"min_p": 0.2}}, {"temperature": 1, "seed": 5, "top_p": 0.3}):
    assert chat(**more).choices[0].message.content == chat(**more).choices[0].message.content, more

# Requests at once answer as alone.
with ThreadPoolExecutor(8) as pool:
    at_once = list(pool.map(lambda i: chat(messages=[{"role": "user", "content": f"Count to {i % 4}."}]).choices[0].message.content, range(8)))
assert at_once[:4] == at_once[4:]


def refused(kind, param, **args):
    try:
        chat(**args)
    except kind as e:
        assert e.body["message"], e.body
        assert param is None or e.body["param"] == param, e.body
        return
    raise AssertionError(f"taken: {args}")


refused(openai.NotFoundError, "model", model="nobody")
refused(openai.BadRequestError, "messages", messages=[])
refused(openai.BadRequestError, "messages", messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])
refused(openai.BadRequestError, None, temperature=-1)
refused(openai.BadRequestError, "n", n=0)
refused(openai.BadRequestError, "n", n=1000)
refused(openai.BadRequestError, "stream", extra_body={"stream": 1})
refused(openai.BadRequestError, "top_logprobs", logprobs=True, top_logprobs=99)
refused(openai.BadRequestError, "top_logprobs", top_logprobs=2)
refused(openai.BadRequestError, "seed", extra_body={"seed": "x"})
refused(openai.BadRequestError, None, top_p=2)
refused(openai.BadRequestError, None, max_tokens=-1)
refused(openai.BadRequestError, None, stop=["x"] * 9)
refused(openai.BadRequestError, None, stop=["x" * 300])
refused(openai.BadRequestError, "tools", tools=[{"type": "function", "function": {"name": "f"}}])
refused(openai.BadRequestError, "response_format", response_format={"type": "json_object"})
refused(openai.BadRequestError, "flavour", extra_body={"flavour": "mint"})
refused(openai.BadRequestError, None, messages=[{"role": "user", "content": "word " * 20000}])
refused(openai.BadRequestError, None, messages=[{"role": "wizard", "content": "x"}])
print(f"openai {openai.__version__}: all as expected")
