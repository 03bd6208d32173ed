"""LiteLLM's SDK, pointed at a queen as at any server with OpenAI's API."""

import asyncio
import os

import litellm

BASE = {"api_base": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"], "num_retries": 0}
HI = [{"role": "user", "content": "Hi"}]
MODEL = "openai/bee-tiny"

answer = litellm.completion(model=MODEL, messages=HI, max_tokens=5, seed=7, **BASE)
text = answer.choices[0].message.content
assert len(text.split()) == 5 and answer.usage.completion_tokens == 5
print("ok chat", flush=True)

options = {"include_usage": True}
chunks = list(litellm.completion(model=MODEL, messages=HI, max_tokens=5, seed=7, stream=True, stream_options=options, **BASE))
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices).split() == text.split()
assert chunks[-1].usage.completion_tokens == 5
print("ok stream", flush=True)

bare = litellm.text_completion(model="text-completion-openai/bee-tiny", prompt="a", max_tokens=3, seed=7, **BASE)
assert len(bare.choices[0].text.split()) == 3
vectors = litellm.embedding(model=MODEL, input=["one", "two"], **BASE)
assert [len(vector["embedding"]) for vector in vectors.data] == [8, 8]
print("ok completions and embeddings", flush=True)

for kind, fields in [
    (litellm.BadRequestError, {"model": MODEL, "temperature": 3}),
    (litellm.NotFoundError, {"model": "openai/no-such-model"}),
    (litellm.AuthenticationError, {"model": MODEL, "api_key": "wrong" * 10}),
    (litellm.RateLimitError, {"model": "openai/limited"}),
]:
    try:
        litellm.completion(**{"messages": HI, **BASE, **fields})
        raise AssertionError(f"not refused: {fields}")
    except kind:
        pass
print("ok errors", flush=True)


async def main():
    answer = await litellm.acompletion(model=MODEL, messages=HI, max_tokens=5, seed=7, **BASE)
    assert answer.choices[0].message.content == text


asyncio.run(main())
print("ok async", flush=True)
