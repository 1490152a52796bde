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
refused(openai.BadRequestError, "n", n=2)
refused(openai.BadRequestError, "tools", tools=[{"type": "function", "function": {"name": "f"}}])
refused(openai.BadRequestError, "response_format", response_format={"type": "json_object"})
refused(openai.BadRequestError, "flavour", extra_body={"flavour": "mint"})
refused(openai.BadRequestError, None, messages=[{"role": "user", "content": "word " * 20000}])
refused(openai.BadRequestError, None, messages=[{"role": "wizard", "content": "x"}])
print(f"openai {openai.__version__}: all as expected")
