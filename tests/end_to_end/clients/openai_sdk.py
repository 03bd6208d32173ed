"""The official Python client, as its users write it."""

import asyncio
import json
import math
import time
import urllib.request

import openai
from openai import AsyncOpenAI, OpenAI

MODEL = "bee-tiny"
HI = [{"role": "user", "content": "Hi"}]
client = OpenAI(max_retries=0)


def step(name):
    print("ok", name, flush=True)


def quiet():
    """No slot is taken any more."""
    root = str(client.base_url).removesuffix("/v1/")
    # Without the token the answer would only say that the server is up.
    headers = {"Authorization": f"Bearer {client.api_key}"}
    health = urllib.request.Request(f"{root}/health", headers=headers)
    until = time.monotonic() + 5
    while True:
        with urllib.request.urlopen(health) as reply:
            said = json.load(reply)
        if said["jobs_running"] == 0 and said["jobs_waiting"] == 0:
            return
        assert time.monotonic() < until, said
        time.sleep(0.02)


def refused(kind, **arguments):
    arguments = {"model": MODEL, "messages": HI, **arguments}
    try:
        client.chat.completions.create(**arguments)
    except kind as error:
        return error
    raise AssertionError(f"not refused: {arguments}")


# Chat.
answer = client.chat.completions.create(model=MODEL, messages=HI, max_tokens=5, seed=7)
assert answer.object == "chat.completion" and answer.model == MODEL
assert answer.choices[0].message.role == "assistant"
assert len(answer.choices[0].message.content.split()) == 5
assert answer.choices[0].finish_reason == "length"
assert answer.usage.completion_tokens == 5
assert answer._request_id
again = client.chat.completions.create(model=MODEL, messages=HI, max_completion_tokens=5, seed=7)
assert again.choices[0].message.content == answer.choices[0].message.content
text = answer.choices[0].message.content
step("chat")

# All parameters of sampling.
full = client.chat.completions.create(
    model=MODEL,
    messages=[
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "And?"},
    ],
    n=2, seed=7, max_tokens=5, temperature=0.5, top_p=0.9, stop=["never"], user="me", store=False,
    frequency_penalty=0, presence_penalty=0, logprobs=False, top_logprobs=0, logit_bias={}, metadata={"a": "b"},
    response_format={"type": "text"}, tools=[], tool_choice="none", service_tier="auto",
    parallel_tool_calls=False, extra_body={"top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1, "priority": "batch"},
)
assert [choice.index for choice in full.choices] == [0, 1]
assert full.choices[0].message.content == text != full.choices[1].message.content
# The answer can be sent again.
history = [*HI, answer.choices[0].message.model_dump(), {"role": "user", "content": "And?"}]
client.chat.completions.create(model=MODEL, messages=history, max_tokens=1)
stopped = client.chat.completions.create(model=MODEL, messages=HI, seed=7, stop=text.split()[1])
assert stopped.choices[0].finish_reason == "stop", stopped
step("options")

# Stream.
with client.chat.completions.create(
    model=MODEL, messages=HI, max_tokens=5, seed=7, stream=True, stream_options={"include_usage": True}
) as stream:
    chunks = list(stream)
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
assert chunks[0].choices[0].delta.role == "assistant"
assert chunks[-2].choices[0].finish_reason == "length"
assert chunks[-1].usage.completion_tokens == 5 and chunks[-1].choices == []
with client.chat.completions.stream(model=MODEL, messages=HI, max_tokens=5, seed=7) as stream:
    for event in stream:
        pass
    assert stream.current_completion_snapshot.choices[0].message.content == text
raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI, max_tokens=1)
assert raw.headers["x-rbee-job-id"] in raw.parse().id
step("stream")

# Log probabilities: every word of this model is equally likely, and there are 1,000.
asked = {"model": MODEL, "messages": HI, "max_tokens": 5, "seed": 7, "logprobs": True, "top_logprobs": 2}
whole = client.chat.completions.create(**asked).choices[0].logprobs.content
assert "".join(token.token for token in whole) == text
for token in whole:
    assert abs(token.logprob + math.log(1000)) < 1e-5 and bytes(token.bytes).decode() == token.token
    assert [top.token for top in token.top_logprobs] == ["w0 ", "w1 "]
chunks = list(client.chat.completions.create(**asked, stream=True))
told = [chunk.choices[0].logprobs.content for chunk in chunks if chunk.choices[0].logprobs]
assert [token for tokens in told for token in tokens] == whole
with client.chat.completions.stream(**asked) as stream:
    for event in stream:
        pass
    # The helper of the client raises an error for an answer of maximum length, with the answer in it.
    try:
        final = stream.get_final_completion()
    except openai.LengthFinishReasonError as error:
        final = error.completion
    assert final.choices[0].logprobs.content == whole
plain = client.chat.completions.create(model=MODEL, messages=HI, max_tokens=1)
assert plain.choices[0].logprobs is None
bare = client.completions.create(model=MODEL, prompt="a", max_tokens=3, seed=7, logprobs=2).choices[0]
assert "".join(bare.logprobs.tokens) == bare.text
assert bare.logprobs.text_offset == [bare.text.index(word) for word in bare.logprobs.tokens]
assert all(token in top for token, top in zip(bare.logprobs.tokens, bare.logprobs.top_logprobs))
assert len(bare.logprobs.token_logprobs) == 3
step("log probabilities")

# Completions.
completion = client.completions.create(model=MODEL, prompt=["a", "b"], max_tokens=3, seed=7, n=2)
assert [choice.index for choice in completion.choices] == [0, 1, 2, 3]
pieces = list(client.completions.create(model=MODEL, prompt="a", max_tokens=3, seed=7, stream=True))
assert "".join(piece.choices[0].text for piece in pieces) == completion.choices[0].text
step("completions")

# Embeddings: base64, which the client requests by default, and floats.
vectors = client.embeddings.create(model=MODEL, input=["one", "two"])
assert [len(vector.embedding) for vector in vectors.data] == [8, 8]
floats = client.embeddings.create(model=MODEL, input="one", encoding_format="float")
tokens = client.embeddings.create(model=MODEL, input=[[1, 2], [3]], dimensions=4)
assert [len(vector.embedding) for vector in tokens.data] == [4, 4]
assert all(abs(a - b) < 1e-6 for a, b in zip(floats.data[0].embedding, vectors.data[0].embedding))
assert vectors.usage.total_tokens == 2
step("embeddings")

# Models, whose names contain slashes and colons.
names = {model.id for model in client.models.list()}
assert {"bee-tiny", "also-bee", "slow"} <= names, names
for name in ["bee-tiny", "hf:bees/tiny@main::file=bee.gguf"]:
    assert client.models.retrieve(name).id == name
step("models")

# What agents send back, and how they find out that they must send less.
kept = {"role": "assistant", "content": None, "reasoning_content": "Well.", "refusal": None, "tool_calls": None}
named = {"role": "user", "content": "Hi", "name": "Zoe"}
taken = client.chat.completions.create(model=MODEL, messages=[named, kept, named], max_tokens=1, top_p=0)
assert taken.usage.completion_tokens == 1
long = refused(openai.BadRequestError, messages=[{"role": "user", "content": "x" * (2 << 20)}])
assert (long.code, long.param) == ("context_length_exceeded", "messages"), long.body
step("agents")

# Errors have their classes, and name the fault.
for field, value in [
    ("temperature", 3), ("top_p", -1), ("n", 0), ("n", 9), ("max_tokens", -1), ("logprobs", 1),
    ("frequency_penalty", 0.5), ("tools", [{"type": "function", "function": {"name": "f"}}]),
    ("response_format", {"type": "json_object"}), ("logit_bias", {"1": 1}), ("modalities", ["audio"]),
    ("reasoning_effort", "lots"), ("service_tier", "flex"), ("store", True), ("stop", ["a"] * 5),
    ("audio", {"voice": "alloy", "format": "wav"}), ("prediction", {"type": "content", "content": "x"}),
    ("web_search_options", {}), ("top_logprobs", 3), ("verbosity", "low"),
]:
    error = refused(openai.BadRequestError, **{field: value})
    assert error.param == field, (field, error)
    assert error.type == "invalid_request_error" and error.request_id, error
image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}
assert refused(openai.BadRequestError, messages=[image]).param == "messages[0].content[0].type"
assert "colour" in refused(openai.BadRequestError, extra_body={"colour": "red"}).message
missing = refused(openai.NotFoundError, model="no-such-model")
assert missing.code == "model_not_found" and missing.param == "model", missing.body
try:
    client.images.generate(model=MODEL, prompt="A bee.")
    raise AssertionError("there is no such API here")
except openai.NotFoundError as error:
    assert error.type == "not_found_error", error.body
try:
    OpenAI(api_key="wrong" * 10, max_retries=0).models.list()
    raise AssertionError("the token is wrong")
except openai.AuthenticationError as error:
    assert error.code == "unauthorized", error.body
step("errors")

# A limit: without retries, an error with the time to wait; with retries, an answer after that time.
limit = refused(openai.RateLimitError, model="limited")
assert limit.response.headers["retry-after"] == "1"
client.chat.completions.create(model="limited", messages=HI, max_tokens=1)
began = time.monotonic()
OpenAI(max_retries=2).chat.completions.create(model="limited", messages=HI, max_tokens=1)
assert time.monotonic() - began >= 1, "it came back too early"
for _ in OpenAI(max_retries=2).chat.completions.create(model="limited", messages=HI, max_tokens=1, stream=True):
    pass
step("rate limit")

# An error in the middle of a stream.
try:
    for chunk in client.chat.completions.create(model="faulty", messages=HI, stream=True):
        pass
    raise AssertionError("the stream broke off")
except openai.APIError as error:
    assert "as scripted" in str(error), error
step("error in a stream")

# A client that gives up frees its slot.
try:
    client.with_options(timeout=0.3).chat.completions.create(model="slow", messages=HI, max_tokens=1000)
    raise AssertionError("it answers too fast")
except openai.APITimeoutError:
    quiet()
with client.chat.completions.create(model="slow", messages=HI, max_tokens=1000, stream=True) as stream:
    next(iter(stream))
quiet()


async def abort():
    async with AsyncOpenAI(max_retries=0) as client:
        ask = client.chat.completions.create(model="slow", messages=HI, max_tokens=1000)
        running, waiting = asyncio.create_task(ask), asyncio.create_task(
            client.chat.completions.create(model="slow", messages=HI, max_tokens=1000)
        )
        await asyncio.sleep(0.3)
        running.cancel(), waiting.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
    quiet()
    async with AsyncOpenAI() as client:
        many = [client.chat.completions.create(model=MODEL, messages=HI, max_tokens=8) for _ in range(32)]
        answers = await asyncio.gather(*many)
        assert len({answer.id for answer in answers}) == 32


asyncio.run(abort())
step("timeout and abort")
