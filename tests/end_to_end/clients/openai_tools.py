"""Tools and structured output with the official Python client, as its users write it."""

import json
from typing import Literal

import openai
from openai import OpenAI
from pydantic import BaseModel, Field

MODEL = "bee-tiny"
client = OpenAI(max_retries=0)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "visit",
            "description": "Visits a flower.",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"flower": {"enum": ["rose", "clover"]}, "times": {"type": "integer", "maximum": 9}},
                "required": ["flower", "times"],
                "additionalProperties": False,
            },
        },
    }
]
ASK = [{"role": "user", "content": "Visit a flower."}]


def step(name):
    print("ok", name, flush=True)


def check(call):
    assert call.function.name == "visit", call
    arguments = json.loads(call.function.arguments)
    assert arguments["flower"] in ("rose", "clover") and arguments["times"] <= 9, arguments


for seed in range(200):
    answer = client.chat.completions.create(
        model=MODEL, messages=ASK, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, seed=seed,
        max_tokens=120,
    )
    [choice] = answer.choices
    assert choice.finish_reason == "tool_calls" and choice.message.content is None, choice
    [call] = choice.message.tool_calls
    check(call)
step("200 calls, all valid")

# The calls and their results go back, and the model answers.
history = [*ASK, choice.message, {"role": "tool", "tool_call_id": call.id, "content": "nectar"}]
answer = client.chat.completions.create(model=MODEL, messages=history, tools=TOOLS, tool_choice="none", max_tokens=20)
assert answer.choices[0].message.content and not answer.choices[0].message.tool_calls, answer
step("results")

with client.chat.completions.stream(
    model=MODEL, messages=ASK, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "visit"}},
    parallel_tool_calls=False, seed=7, max_tokens=120,
) as stream:
    kinds = [event.type for event in stream]
    final = stream.get_final_completion()
assert "tool_calls.function.arguments.delta" in kinds and "tool_calls.function.arguments.done" in kinds, kinds
check(final.choices[0].message.tool_calls[0])
assert final.choices[0].message.tool_calls[0].function.parsed_arguments["flower"] in ("rose", "clover")
step("stream of a call")


class Flower(BaseModel):
    name: str = Field(max_length=12)
    color: Literal["red", "blue"]
    petals: int = Field(ge=1, le=40)


for seed in range(10):
    answer = client.chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": "Describe a flower."}], response_format=Flower, seed=seed,
        max_tokens=120,
    )
    flower = answer.choices[0].message.parsed
    assert isinstance(flower, Flower) and len(flower.name) <= 12, answer
step("parse")


class Plant(BaseModel):
    kind: Literal["rose", "clover"]


# An agent with structured output: each answer is either calls or an object of the type.
for seed in range(10):
    answer = client.chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": "Describe a flower."}], response_format=Flower, seed=seed,
        tools=[openai.pydantic_function_tool(Plant)], parallel_tool_calls=False, max_tokens=120,
    )
    message = answer.choices[0].message
    if message.tool_calls:
        assert message.parsed is None and answer.choices[0].finish_reason == "tool_calls", answer
        assert isinstance(message.tool_calls[0].function.parsed_arguments, Plant), answer
    else:
        assert isinstance(message.parsed, Flower), answer
step("parse with tools")

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
        },
    },
}
weather = {"model": MODEL, "tools": [WEATHER], "temperature": 0}

# The bundled model decides itself: it calls this tool if the question is about the weather, and says what it answered.
history = [{"role": "user", "content": "What is the weather in Paris?"}]
[choice] = client.chat.completions.create(**weather, messages=history).choices
[call] = choice.message.tool_calls
assert choice.finish_reason == "tool_calls" and json.loads(call.function.arguments) == {"city": "Paris"}, choice
result = json.dumps({"temperature": 21, "sky": "sunny"})
history += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": result}]
[choice] = client.chat.completions.create(**weather, messages=history).choices
assert choice.message.content == "It is sunny and 21 degrees in Paris.", choice
[choice] = client.chat.completions.create(**weather, messages=[{"role": "user", "content": "Hello!"}]).choices
assert choice.finish_reason == "stop" and choice.message.tool_calls is None, choice
step("a tool of the model's choice")

answer = client.chat.completions.create(
    model=MODEL, messages=[{"role": "user", "content": "Describe the rose as JSON."}],
    response_format={"type": "json_object"}, temperature=0,
)
rose = json.loads(answer.choices[0].message.content)
assert (rose["name"], rose["color"], rose["season"]) == ("rose", "red", "summer"), rose
step("JSON")

for arguments, param in (
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "fly"}}}, "tool_choice"),
    ({"tools": TOOLS, "response_format": {"type": "regex", "regex": "a"}}, "response_format"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}},
        "response_format",
    ),
    ({"messages": [*ASK, {"role": "tool", "tool_call_id": "x", "content": "y"}]}, "messages[1].tool_call_id"),
):
    try:
        client.chat.completions.create(**{"model": MODEL, "messages": ASK, **arguments})
        raise AssertionError(f"not refused: {arguments}")
    except openai.BadRequestError as error:
        assert error.param == param, error
step("errors")
