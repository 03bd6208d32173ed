"""The arguments of a request, as the bridge takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Union

from .types import ToolCall

Tool = Mapping[str, Any]
"""A tool as OpenAI's API has it, or the part of it under `"function"`."""

ToolChoice = Union[str, Mapping[str, Any], None]
"""`"auto"`, `"none"`, `"required"`, or an object like a tool with the name of one."""


def _object(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{place} is {value!r}; it must be a mapping")
    return value  # pyright: ignore[reportUnknownVariableType]


def _text(fields: Mapping[str, Any], name: str, place: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise TypeError(f"{place}.{name} is {value!r}; it must be a str")
    return value


def _json(value: object, place: str) -> str:
    """A schema or arguments: JSON text, or what becomes JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{place} cannot be written as JSON: {error}") from error


def _function(value: object, place: str) -> tuple[Mapping[str, Any], str]:
    fields = _object(value, place)
    if "function" not in fields:
        return fields, place
    kind = fields.get("type", "function")
    if kind != "function":
        raise ValueError(f'{place}["type"] is {kind!r}; allowed is "function"')
    return _object(fields["function"], f"{place}.function"), f"{place}.function"


def tools(given: Sequence[Tool]) -> list[tuple[str, str | None, str | None]]:
    """Each tool as its name, its description, and its schema as JSON text."""
    found: list[tuple[str, str | None, str | None]] = []
    for at, tool in enumerate(given):
        fields, place = _function(tool, f"tools[{at}]")
        description = fields.get("description")
        if description is not None:
            description = _text(fields, "description", place)
        parameters = fields.get("parameters")
        schema = None if parameters is None else _json(parameters, f"{place}.parameters")
        found.append((_text(fields, "name", place), description, schema))
    return found


def tool_choice(given: ToolChoice) -> tuple[str, str | None] | None:
    """The word, or `"named"` and the name of the tool."""
    if given is None:
        return None
    if isinstance(given, str):
        if given in ("auto", "none", "required"):
            return given, None
        raise ValueError(
            f"tool_choice is {given!r}; allowed are 'auto', 'none', 'required', or a mapping with the name of a tool"
        )
    fields, place = _function(given, "tool_choice")
    return "named", _text(fields, "name", place)


def _call(given: object, place: str) -> tuple[str, str, str]:
    if isinstance(given, ToolCall):
        return given.id, given.name, given.arguments
    fields, inner = _function(given, place)
    arguments = _json(fields.get("arguments", {}), f"{inner}.arguments")
    return _text(_object(given, place), "id", place), _text(fields, "name", inner), arguments or "{}"


def messages(given: Sequence[Mapping[str, Any]] | None) -> list[Mapping[str, Any]] | None:
    """The turns, with calls as tuples of id, name and arguments as JSON text."""
    if given is None:
        return None
    turns: list[Mapping[str, Any]] = []
    for at, turn in enumerate(given):
        calls: Sequence[object] | None = turn.get("tool_calls") if isinstance(turn, Mapping) else None  # pyright: ignore[reportUnnecessaryIsInstance]
        if not calls:
            turns.append(turn)
            continue
        place = f"messages[{at}].tool_calls"
        read = [_call(call, f"{place}[{index}]") for index, call in enumerate(calls)]
        turns.append({**turn, "content": turn.get("content") or "", "tool_calls": read})
    return turns


def response_format(given: Mapping[str, Any] | None) -> tuple[str, str | None] | None:
    """The type, with the text of a schema, of a regular expression or of a grammar."""
    if given is None:
        return None
    fields = _object(given, "response_format")
    kind = fields.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return "json_object", None
    if kind == "json_schema":
        inner = _object(fields.get("json_schema"), "response_format.json_schema")
        place = "response_format.json_schema.schema"
        if inner.get("schema") is None:
            raise TypeError(f"{place} is missing; it must be a JSON schema")
        return "json_schema", _json(inner["schema"], place)
    if kind in ("regex", "lark"):
        return kind, _text(fields, kind, "response_format")
    raise ValueError(
        f"response_format.type is {kind!r}; allowed are 'text', 'json_object', 'json_schema', 'regex' and 'lark'"
    )
