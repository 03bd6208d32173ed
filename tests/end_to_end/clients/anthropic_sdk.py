"""Anthropic's official Python client, as its users write it."""

from typing import Literal

import anthropic
from anthropic import Anthropic, beta_tool
from pydantic import BaseModel

MODEL = "bee-tiny"
client = Anthropic(max_retries=0)
# The client has no argument for it.
GREEDY = {"temperature": 0}
ASK = [{"role": "user", "content": "Tell me about a flower."}]
VISIT = {
    "name": "visit",
    "description": "Visits a flower.",
    "input_schema": {
        "type": "object",
        "properties": {"flower": {"enum": ["rose", "clover"]}, "times": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["flower", "times"],
        "additionalProperties": False,
    },
}


def step(name):
    print("ok", name, flush=True)


def check(block):
    assert block.type == "tool_use" and block.id.startswith("toolu_") and block.name == "visit", block
    assert block.input["flower"] in ("rose", "clover") and 1 <= block.input["times"] <= 9, block


answer = client.messages.create(model=MODEL, max_tokens=12, messages=ASK, system="Be brief.", extra_body=GREEDY)
assert answer.role == "assistant" and answer.stop_reason in ("end_turn", "max_tokens"), answer
[block] = answer.content
assert block.type == "text" and block.text and answer._request_id, answer
step("create")

count = client.messages.count_tokens(model=MODEL, messages=ASK, system="Be brief.").input_tokens
usage = answer.usage
assert count == usage.input_tokens + usage.cache_read_input_tokens, (count, usage)
assert 1 <= usage.output_tokens <= 12, usage
step("count_tokens")

stopped = client.messages.create(
    model=MODEL, max_tokens=60, messages=ASK, stop_sequences=["\u0001", " "], extra_body=GREEDY
)
assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", " "), stopped
with client.messages.stream(
    model=MODEL, max_tokens=60, messages=ASK, stop_sequences=[" "], extra_body=GREEDY
) as stream:
    final = stream.get_final_message()
assert (final.stop_reason, final.stop_sequence) == ("stop_sequence", " "), final
assert final.content[0].text == stopped.content[0].text, (final, stopped)
step("stop sequence")


with client.messages.stream(model=MODEL, max_tokens=12, messages=ASK, system="Be brief.", extra_body=GREEDY) as stream:
    text = "".join(stream.text_stream)
    final = stream.get_final_message()
assert text == block.text == final.content[0].text, (text, block, final)
total = final.usage.input_tokens + final.usage.cache_read_input_tokens
assert (final.stop_reason, total) == (answer.stop_reason, count), final
step("stream")

for _ in range(20):
    answer = client.messages.create(
        model=MODEL, max_tokens=120, messages=ASK, tools=[VISIT],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )
    assert answer.stop_reason == "tool_use", answer
    [block] = answer.content
    check(block)
history = [
    *ASK,
    {"role": "assistant", "content": answer.content},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "nectar"}]},
]
answer = client.messages.create(
    model=MODEL, max_tokens=12, messages=history, tools=[VISIT], tool_choice={"type": "none"}
)
assert [block.type for block in answer.content] == ["text"], answer
step("tools")

with client.messages.stream(
    model=MODEL, max_tokens=120, messages=ASK, tools=[VISIT],
    tool_choice={"type": "tool", "name": "visit", "disable_parallel_tool_use": True},
) as stream:
    kinds = [event.type for event in stream]
    final = stream.get_final_message()
assert "input_json" in kinds and final.stop_reason == "tool_use", (kinds, final)
check(final.content[0])
step("stream of a call")

visits = []


@beta_tool
def visit(flower: Literal["rose", "clover"]) -> str:
    """Visits a flower.

    Args:
        flower: The flower to visit.
    """
    visits.append(flower)
    return "nectar"


runner = client.beta.messages.tool_runner(
    model=MODEL, max_tokens=120, messages=ASK, tools=[visit], max_iterations=2,
    tool_choice={"type": "tool", "name": "visit", "disable_parallel_tool_use": True},
)
answers = list(runner)
assert len(answers) == 2 and len(visits) >= 1 and set(visits) <= {"rose", "clover"}, (answers, visits)
step("tool runner")


class Flower(BaseModel):
    name: Literal["rose", "clover"]
    color: Literal["red", "blue"]


answer = client.messages.parse(model=MODEL, max_tokens=120, messages=ASK, output_format=Flower)
assert isinstance(answer.parsed_output, Flower), answer
step("parse")

for arguments, kind, place in (
    ({"messages": []}, anthropic.BadRequestError, "messages"),
    ({"extra_body": {"temperature": 3}}, anthropic.BadRequestError, "temperature"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, anthropic.BadRequestError, "tools[0].type"),
    ({"model": "no-such-model"}, anthropic.NotFoundError, "model"),
):
    try:
        client.messages.create(**{"model": MODEL, "max_tokens": 5, "messages": ASK, **arguments})
        raise AssertionError(f"not refused: {arguments}")
    except kind as error:
        assert error.body["type"] == "error" and place in error.body["error"]["message"], error
        assert error.request_id, error
step("errors")
