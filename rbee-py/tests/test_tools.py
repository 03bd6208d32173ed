"""Tool calls, reasoning and formats of answers, with the bundled model and with workers in Python."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import rbee
from rbee.types import ContentDelta, ReasoningDelta, ToolCall, ToolCallDelta

SCHEMA = {
    "type": "object",
    "properties": {"flower": {"enum": ["rose", "lily"]}},
    "required": ["flower"],
    "additionalProperties": False,
}
PICK: dict[str, Any] = {
    "type": "function",
    "function": {"name": "pick", "description": "Picks a flower.", "parameters": SCHEMA},
}


class Caller:
    """Thinks, says something, and calls a tool; after the result it says what it read."""

    model = "caller"
    tools = "hermes"
    reasoning = "think"
    grammar = True

    def __init__(self) -> None:
        self.runs: list[rbee.Run] = []

    def execute(self, run: rbee.Run) -> Iterator[str]:
        self.runs.append(run)
        last = (run.messages or [])[-1]
        if last["role"] == "tool":
            yield f"It is {last['content']}."
            return
        text = '<think>Hm.</think>Let me see. <tool_call>\n{"name": "pick", "arguments": {"flower": "rose"}}\n</tool_call>'
        yield from (text[at : at + 3] for at in range(0, len(text), 3))


@pytest.fixture
def caller() -> Iterator[tuple[rbee.Queen, Caller]]:
    worker = Caller()
    with rbee.Queen(local_hive=False, workers=[worker]) as queen:
        yield queen, worker


def ask(queen: rbee.Queen, **more: Any) -> rbee.Job:
    messages = more.pop("messages", [{"role": "user", "content": "Pick one."}])
    return queen.submit(model="caller", messages=messages, tools=[PICK], **more)


def test_an_answer_has_its_parts(caller: tuple[rbee.Queen, Caller]) -> None:
    queen, worker = caller
    answer = ask(queen).result()
    assert (answer.reasoning, answer.content, answer.finish) == ("Hm.", "Let me see.", "stop")
    (call,) = answer.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("pick", {"flower": "rose"})
    assert answer.text.startswith("<think>"), "the text is as the model wrote it"
    (run,) = worker.runs
    assert run.tools is not None
    assert json.loads(run.tools[0]["parameters"]) == SCHEMA
    assert (run.tool_choice, run.thinking) == ("auto", None)


def test_deltas_put_together_are_the_parts(caller: tuple[rbee.Queen, Caller]) -> None:
    queen, _ = caller
    deltas = list(ask(queen).deltas())
    assert "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta)) == "Hm."
    assert "".join(delta.text for delta in deltas if isinstance(delta, ContentDelta)) == "Let me see."
    calls = [delta for delta in deltas if isinstance(delta, ToolCallDelta)]
    assert {(call.index, call.name) for call in calls} == {(0, "pick")}
    assert len({call.id for call in calls}) == 1
    assert json.loads("".join(call.arguments for call in calls)) == {"flower": "rose"}
    assert (calls[0].arguments, calls[1].arguments != "") == ("", True), "a call begins without arguments"


def test_a_call_and_its_result_go_back(caller: tuple[rbee.Queen, Caller]) -> None:
    queen, worker = caller
    answer = ask(queen).result()
    (call,) = answer.tool_calls
    begin = [{"role": "user", "content": "Pick one."}]
    for calls in ([call], [{"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}]):
        turns = [
            *begin,
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": call.id, "content": "red"},
        ]
        assert ask(queen, messages=turns).result().content == "It is red."
    sent = worker.runs[-1].messages
    assert sent is not None
    assert sent[1]["tool_calls"] == [{"id": call.id, "name": "pick", "arguments": call.arguments}]


def test_a_job_that_is_attached_to_has_its_parts_too(caller: tuple[rbee.Queen, Caller]) -> None:
    queen, _ = caller
    job = ask(queen, detached=True)
    names = {type(delta).__name__ for delta in job.deltas()}
    assert names == {"ContentDelta", "ReasoningDelta", "ToolCallDelta"}
    again = queen.attach(job.id).result()
    assert (again.reasoning, again.content) != ("", ""), "the reasoning is found without the request"


def test_tool_choice_and_thinking_reach_the_worker(caller: tuple[rbee.Queen, Caller]) -> None:
    queen, worker = caller
    cases: list[tuple[Any, Any]] = [
        ("none", "none"),
        ("required", "required"),
        ({"name": "pick"}, {"named": "pick"}),
        ({"type": "function", "function": {"name": "pick"}}, {"named": "pick"}),
    ]
    for given, expected in cases:
        ask(queen, tool_choice=given, thinking=False).result()
        assert (worker.runs[-1].tool_choice, worker.runs[-1].thinking) == (expected, False)


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"tools": [3]}, TypeError, "tools[0]"),
    ({"tools": [{"name": 3}]}, TypeError, "tools[0].name"),
    ({"tools": [{"type": "code", "function": {}}]}, ValueError, 'tools[0]["type"]'),
    ({"tools": [{"name": "f", "parameters": {"a": object()}}]}, TypeError, "tools[0].parameters"),
    ({"tool_choice": "always"}, ValueError, "tool_choice"),
    ({"tool_choice": {"name": "other"}}, rbee.errors.InvalidRequest, "tool_choice"),
    ({"response_format": {"type": "xml"}}, ValueError, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, TypeError, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, TypeError, "json_schema.schema"),
    ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "y"}]}, rbee.errors.InvalidRequest, "tool_call_id"),
]


@pytest.mark.parametrize(("arguments", "error", "place"), WRONG)
def test_what_is_wrong_is_named(
    caller: tuple[rbee.Queen, Caller], arguments: dict[str, Any], error: type[Exception], place: str
) -> None:
    queen, _ = caller
    wrong: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "tools": [PICK], **arguments}
    with pytest.raises(error) as raised:
        queen.submit(model="caller", **wrong).result()
    assert place in str(raised.value)


def test_the_bundled_model_calls_a_tool_and_follows_a_schema() -> None:
    with rbee.Queen() as queen:
        answer = queen.submit(prompt="Pick a flower.", tools=[PICK], tool_choice="required", temperature=0).result()
        (call,) = answer.tool_calls
        assert isinstance(call, ToolCall)
        assert json.loads(call.arguments)["flower"] in ("rose", "lily")
        schema = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
        answer = queen.submit(prompt="Name a flower.", response_format=schema, max_tokens=60).result()
        assert json.loads(answer.content)["flower"] in ("rose", "lily")
        answer = queen.submit(prompt="Say a.", response_format={"type": "regex", "regex": "a{3}"}).result()
        assert answer.content == "aaa"


def test_a_worker_with_an_unknown_syntax_is_refused() -> None:
    worker = Caller()
    worker.tools = "xml"  # pyright: ignore[reportAttributeAccessIssue]
    allowed = "hermes, llama, mistral, mistral_args, pythonic, qwen_xml, glm, minimax, seed"
    with pytest.raises(ValueError, match=f'tools of a worker is "xml"; allowed are {allowed}$'):
        rbee.Queen(local_hive=False, workers=[worker]).open()
