"""The Responses API with the official Python client, as its users write it."""

import json
import time
from typing import Literal

import openai
from openai import OpenAI
from pydantic import BaseModel, Field

MODEL = "bee-tiny"
client = OpenAI(max_retries=0)
VISIT = {
    "type": "function",
    "name": "visit",
    "description": "Visits a flower.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"flower": {"enum": ["rose", "clover"]}, "times": {"type": "integer", "maximum": 9}},
        "required": ["flower", "times"],
        "additionalProperties": False,
    },
}


def step(name):
    print("ok", name, flush=True)


def create(**fields):
    return client.responses.create(**{"model": MODEL, "input": "Visit a flower.", "max_output_tokens": 120, **fields})


def refused(kind, param=None, **fields):
    try:
        create(**fields)
    except kind as error:
        assert param is None or error.param == param, error
        return error
    raise AssertionError(f"not refused: {fields}")


answer = create(max_output_tokens=4, instructions="Be brief.", metadata={"a": "b"}, temperature=0)
assert answer.id.startswith("resp_") and answer.object == "response" and answer.model == MODEL, answer
assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens", answer
assert answer.output_text and answer.output[0].role == "assistant", answer
assert answer.usage.output_tokens == 4 and answer.usage.total_tokens == answer.usage.input_tokens + 4, answer
assert answer.instructions == "Be brief." and answer.metadata == {"a": "b"} and answer.store, answer
step("create")

INCLUDED = ["message.output_text.logprobs"]
likely = create(max_output_tokens=4, temperature=0, include=INCLUDED, top_logprobs=2)
part = likely.output[0].content[0]
assert "".join(one.token for one in part.logprobs).strip() == part.text.strip(), part
assert all(one.logprob <= 0 and len(one.top_logprobs) == 2 for one in part.logprobs), part
with client.responses.stream(
    model=MODEL, input="Visit a flower.", max_output_tokens=4, temperature=0, include=INCLUDED, top_logprobs=2
) as stream:
    events = list(stream)
deltas = [event for event in events if event.type == "response.output_text.delta"]
final = events[-1].response
assert sum(len(event.logprobs) for event in deltas) == len(part.logprobs), deltas
assert [one.token for one in final.output[0].content[0].logprobs] == [one.token for one in part.logprobs], final
step("logprobs")

again = client.responses.retrieve(answer.id)
assert again.output_text == answer.output_text and again.usage == answer.usage, again
[item] = client.responses.input_items.list(answer.id)
assert item.role == "user" and item.content[0].text == "Visit a flower.", item
step("retrieve")

with client.responses.stream(
    model=MODEL, input="Visit a flower.", max_output_tokens=4, temperature=0, instructions="Be brief."
) as stream:
    events = list(stream)
    final = stream.get_final_response() if events[-1].type == "response.completed" else events[-1].response
assert [event.sequence_number for event in events] == list(range(len(events))), events
kinds = [event.type for event in events]
assert kinds[:4] == [
    "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
], kinds
text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
assert text == answer.output_text == final.output_text, (text, answer.output_text)
snapshots = [event.snapshot for event in events if event.type == "response.output_text.delta"]
assert snapshots[-1] == text, snapshots
step("stream")

for stream in (True, False):
    if stream:
        with client.responses.stream(
            model=MODEL, input="Visit.", tools=[VISIT], tool_choice="required", parallel_tool_calls=False
        ) as events:
            kinds = [event.type for event in events]
            called = events.get_final_response()
        assert "response.function_call_arguments.delta" in kinds, kinds
    else:
        called = client.responses.parse(
            model=MODEL, input="Visit.", tools=[VISIT], tool_choice={"type": "function", "name": "visit"},
            parallel_tool_calls=False,
        )
    [call] = [item for item in called.output if item.type == "function_call"]
    assert call.name == "visit" and call.parsed_arguments["flower"] in ("rose", "clover"), call
    assert json.loads(call.arguments) == call.parsed_arguments and call.status == "completed", call
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "nectar"}
    # The conversation is kept by the queen, or by the client.
    by_id = create(previous_response_id=called.id, input=[result], max_output_tokens=12, temperature=0)
    whole = [{"role": "user", "content": "Visit."}, *called.output, result]
    by_hand = create(input=whole, max_output_tokens=12, temperature=0)
    assert by_id.output_text == by_hand.output_text, (by_id, by_hand)
    assert by_id.usage.input_tokens == by_hand.usage.input_tokens, (by_id, by_hand)
    items = list(client.responses.input_items.list(by_id.id, order="asc", limit=2))
    assert [item.type for item in items] == ["message", "function_call", "function_call_output"], items
step("function tools")

write = {"type": "custom", "name": "write", "description": "Writes a file."}
answer = create(tools=[write], tool_choice={"type": "custom", "name": "write"}, max_output_tokens=60)
assert answer.output[0].type == "custom_tool_call" and answer.output[0].name == "write", answer
step("custom tools")


class Flower(BaseModel):
    name: str = Field(max_length=12)
    color: Literal["red", "blue"]
    petals: int = Field(ge=1, le=40)


for _ in range(5):
    answer = client.responses.parse(
        model=MODEL, input="Describe a flower.", text_format=Flower, max_output_tokens=120
    )
    assert isinstance(answer.output_parsed, Flower), answer
step("parse")

queued = create(background=True, max_output_tokens=4, temperature=0)
assert queued.status == "queued" and queued.background, queued
stream = client.responses.retrieve(queued.id, stream=True)
events = list(stream)
assert [event.sequence_number for event in events] == list(range(len(events))), events
assert events[1].type == "response.queued" and events[-1].response.status == "incomplete", events
rest = list(client.responses.retrieve(queued.id, stream=True, starting_after=5))
assert [event.model_dump() for event in rest[:-1]] == [event.model_dump() for event in events[6:-1]], rest
with client.responses.stream(response_id=queued.id, starting_after=3) as resumed:
    assert [event.sequence_number for event in resumed] == list(range(4, len(events)))
ended = client.responses.retrieve(queued.id)
assert ended.status == "incomplete" and ended.output_text == events[-1].response.output_text, ended
step("background")

long = create(background=True, max_output_tokens=4000)
cancelled = client.responses.cancel(long.id)
assert cancelled.status in ("cancelled", "completed"), cancelled
until = time.monotonic() + 10
while client.responses.retrieve(long.id).status in ("queued", "in_progress"):
    assert time.monotonic() < until
    time.sleep(0.05)
client.responses.delete(long.id)
try:
    client.responses.retrieve(long.id)
    raise AssertionError("it was deleted")
except openai.NotFoundError:
    pass
step("cancel and delete")

refused(openai.BadRequestError, "previous_response_id", previous_response_id=long.id)
refused(openai.BadRequestError, "tools[0].type", tools=[{"type": "code_interpreter", "container": {"type": "auto"}}])
refused(openai.BadRequestError, "text.format", text={"format": {"type": "json_schema", "name": "x", "schema": {"not": {}}}})
refused(openai.BadRequestError, "input[0].content[0].type", input=[
    {"role": "user", "content": [{"type": "input_image", "image_url": "data:", "detail": "auto"}]},
])
refused(openai.NotFoundError, model="nothing")
step("errors")
