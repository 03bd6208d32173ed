"""Ollama's official Python client, as its users use it. OLLAMA_HOST names the server."""

import asyncio
import json
import threading
import time

import ollama
from ollama import AsyncClient, Client, ResponseError
from pydantic import BaseModel, Field

MODEL = "bee-tiny"
ASK = [{"role": "user", "content": "Tell me about a flower."}]
SHORT = {"num_predict": 8, "seed": 7}
client = Client()


def step(name):
    print("ok", name, flush=True)


def refused(status, words, call):
    try:
        call()
    except ResponseError as error:
        assert error.status_code == status and words in error.error, error
        return
    raise AssertionError(f"not refused: {words}")


names = [model.model for model in client.list().models]
assert names == ["bee-tiny:latest", "caller:latest", "slow:latest", "vectors:latest"], names
shown = client.show(MODEL)
assert "completion" in shown.capabilities, shown
assert shown.modelinfo["llama.context_length"] >= 256 and shown.modelinfo["general.parameter_count"] > 1_000_000, shown
assert "messages" in shown.template, shown
step("list, show")

loaded = client.generate(model=MODEL)
assert loaded.done and loaded.done_reason == "load", loaded
[process] = [model for model in client.ps().models if model.model == "bee-tiny:latest"]
assert process.size > 0 and process.expires_at.year >= 2026 and process.context_length >= 256, process
[listed] = [model for model in client.list().models if model.model == "bee-tiny:latest"]
assert listed.details.family == "llama" and listed.size > 1_000_000 and len(listed.digest) == 64, listed
step("load, ps")

answer = client.chat(model=MODEL, messages=ASK, options=SHORT)
assert answer.done and answer.done_reason == "length" and answer.message.content, answer
assert answer.eval_count == 8 and answer.prompt_eval_count > 3 and answer.total_duration > 0, answer
parts = list(client.chat(model="bee-tiny:latest", messages=ASK, options=SHORT, stream=True, keep_alive="5m"))
assert "".join(part.message.content for part in parts) == answer.message.content, (parts, answer)
assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True], parts
last = parts[-1]
assert last.eval_count == 8 and last.eval_duration > 0 and last.prompt_eval_count == answer.prompt_eval_count, last
history = [*ASK, answer.message, {"role": "user", "content": "And a bee?"}]
assert client.chat(model=MODEL, messages=history, options=SHORT, think=False).message.content
likely = client.chat(model=MODEL, messages=ASK, options=SHORT, logprobs=True, top_logprobs=2)
assert len(likely.logprobs) == 8 and len(likely.logprobs[0].top_logprobs) == 2, likely
step("chat")


def visit(flower: str, times: int) -> str:
    """Visits a flower.

    Args:
        flower: The name of the flower
        times: How many times
    """
    return "nectar"


for seed in range(5):
    options = {"num_predict": 60, "seed": seed}
    assert client.chat(model=MODEL, messages=ASK, tools=[visit], options=options).done
# The little model calls nothing unless it must; this one always thinks and then calls.
said = client.chat(model="caller", messages=ASK, tools=[visit], think=True)
[call] = said.message.tool_calls
assert call.function.name == "visit" and call.function.arguments == {"flower": "rose", "times": 2}, said
assert said.message.thinking == "Hm." and said.done_reason == "stop" and not said.message.content, said
parts = list(client.chat(model="caller", messages=ASK, tools=[visit], stream=True))
[streamed] = [part.message.tool_calls for part in parts if part.message.tool_calls]
assert streamed == [call] and any(part.message.thinking == "Hm." for part in parts), parts
history = [*ASK, said.message, {"role": "tool", "tool_name": "visit", "content": visit(**call.function.arguments)}]
assert client.chat(model=MODEL, messages=history, tools=[visit], options=SHORT).message.content
step("tools")


class Flower(BaseModel):
    color: str
    petals: int = Field(ge=1, le=40)


schema = Flower.model_json_schema()
schema["properties"]["color"] = {"enum": ["red", "blue"]}
for seed in range(5):
    options = {"num_predict": 60, "seed": seed}
    said = client.chat(model=MODEL, messages=ASK, format=schema, options=options)
    flower = Flower.model_validate_json(said.message.content)
    assert flower.color in ("red", "blue"), said
said = client.generate(model=MODEL, prompt="Describe a flower.", format="json", options={"num_predict": 200, "seed": 3})
if said.done_reason == "stop":
    assert isinstance(json.loads(said.response), dict), said
step("format")

said = client.generate(model=MODEL, prompt="Hi", system="Be brief.", options=SHORT)
parts = list(client.generate(model=MODEL, prompt="Hi", system="Be brief.", options=SHORT, stream=True))
assert said.response and "".join(part.response for part in parts) == said.response, (said, parts)
raw = client.generate(model=MODEL, prompt="Once upon", raw=True, options=SHORT)
assert raw.response and raw.prompt_eval_count < said.prompt_eval_count, raw
step("generate")

vectors = client.embed(model="vectors", input=["one", "two"]).embeddings
assert len(vectors) == 2 and all(abs(sum(x * x for x in vector) - 1) < 1e-3 for vector in vectors), vectors
assert client.embed(model="vectors", input="one").embeddings == [vectors[0]]
assert len(client.embeddings(model="vectors", prompt="one").embedding) == len(vectors[0])
step("embed")

statuses = [part.status for part in client.pull(MODEL, stream=True)]
assert statuses[0] == "pulling manifest" and statuses[-1] == "success", statuses
assert client.pull(MODEL).status == "success"
refused(404, "nobody", lambda: client.pull("nobody"))
refused(404, "nobody", lambda: client.show("nobody"))
refused(404, "nobody", lambda: client.delete("nobody"))
refused(409, "loaded", lambda: client.delete(MODEL))
refused(400, "alias", lambda: client.copy(MODEL, "other"))
refused(400, "alias", lambda: client.create("other", from_=MODEL))
step("pull, delete, copy")

refused(404, "nobody", lambda: client.chat(model="nobody", messages=ASK))
refused(404, "nobody", lambda: list(client.chat(model="nobody", messages=ASK, stream=True)))
refused(400, "temperature", lambda: client.chat(model=MODEL, messages=ASK, options={"temperature": 9}))
refused(400, "images", lambda: client.chat(model=MODEL, messages=[{"role": "user", "content": "x", "images": [b"x"]}]))
step("errors")


# One that waits longer than the head of a stream is held back: its first line has white space before it.
def occupy():
    list(client.generate(model="slow", prompt="Hi", options={"num_predict": 40, "seed": 1}, stream=True))


busy = threading.Thread(target=occupy)
busy.start()
time.sleep(0.5)
began = time.monotonic()
parts = list(client.generate(model="slow", prompt="Hi", options={"num_predict": 2, "seed": 1}, stream=True))
assert len(parts) == 3 and parts[-1].load_duration > 5e9, parts
assert time.monotonic() - began > 5, "it has waited"
busy.join()
step("a stream that waits")


async def concurrently():
    client = AsyncClient()
    asked = (client.chat(model=MODEL, messages=ASK, options={**SHORT, "seed": seed}) for seed in range(4))
    answers = await asyncio.gather(*asked)
    stream = await client.chat(model=MODEL, messages=ASK, options=SHORT, stream=True)
    text = "".join([part.message.content async for part in stream])
    assert all(answer.message.content for answer in answers) and text


asyncio.run(concurrently())
step("async")

assert client.generate(model=MODEL, keep_alive=0).done_reason == "unload"
until = time.monotonic() + 20
while any(model.model == "bee-tiny:latest" for model in client.ps().models):
    assert time.monotonic() < until, "still loaded"
    time.sleep(0.05)
step("unload")
assert ollama.list().models, "the functions of the module use the same server"
