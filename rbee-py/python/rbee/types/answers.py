"""What a job gives: its answer and its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Union

__all__ = [
    "ContentDelta",
    "Delta",
    "End",
    "Event",
    "JobAnswer",
    "Logprobs",
    "Metrics",
    "ReasoningDelta",
    "Started",
    "Token",
    "TokenLogprob",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
    "Vectors",
]


@dataclass(frozen=True)
class Usage:
    """The tokens of a job.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens of the answer.
        cached_tokens: Tokens of the prompt that were in the worker's cache, if it reports them.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None


@dataclass(frozen=True)
class TokenLogprob:
    """A token with its log probability.

    Attributes:
        id: The id of the token.
        text: Its text.
        bytes: Its bytes, which need not be whole characters.
        logprob: The natural logarithm of its probability.
    """

    id: int | None
    text: str
    bytes: bytes
    logprob: float


@dataclass(frozen=True)
class Logprobs:
    """The log probabilities at one token of an answer.

    Attributes:
        chosen: The token of the answer.
        top: The most likely tokens, as many as the request asked for.
    """

    chosen: TokenLogprob
    top: list[TokenLogprob] = field(default_factory=list[TokenLogprob])


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool.

    Attributes:
        id: Its id. The message with its result has it as `tool_call_id`.
        name: The name of the tool.
        arguments: The arguments, a JSON object, as text. `json.loads` reads it.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class JobAnswer:
    """A complete answer.

    Attributes:
        text: The text, as the model wrote it. `content`, `reasoning` and `tool_calls` are its parts.
        finish: Why it ended: `"stop"`, or `"length"` if it reached `max_tokens` or the end of the context.
        usage: The tokens.
        tokens: The ids of the tokens, if the engine reports them.
        logprobs: The log probabilities of the tokens, if the request asked for them.
        vectors: The vectors of an embedding request, one for each text; for a rerank, one list of scores.
        queue_wait: How long the job waited in the queue, in seconds.
        worker: The id of the worker that started it.
        content: The text without reasoning and calls.
        reasoning: The reasoning of a model that thinks before it answers.
        tool_calls: The calls of tools. One that was cut off by `max_tokens` is not complete: `finish` is `"length"`.
        stop_text: The stop text that ended it, if one did and the worker reports it. It is no part of `text`.
    """

    text: str
    finish: Literal["stop", "length"]
    usage: Usage
    tokens: list[int]
    logprobs: list[Logprobs]
    vectors: list[list[float]]
    queue_wait: float
    worker: str | None
    content: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list[ToolCall])
    stop_text: str | None = None


@dataclass(frozen=True)
class ContentDelta:
    """The next text of an answer.

    Attributes:
        text: The text.
    """

    text: str


@dataclass(frozen=True)
class ReasoningDelta:
    """The next text of the reasoning.

    Attributes:
        text: The text.
    """

    text: str


@dataclass(frozen=True)
class ToolCallDelta:
    """The beginning of a tool call, or the next part of its arguments.

    Attributes:
        index: The number of the call, from 0.
        id: Its id.
        name: The name of the tool.
        arguments: The next part of the arguments, JSON cut at any character; empty at the beginning of the call.
    """

    index: int
    id: str
    name: str
    arguments: str


Delta = Union[ContentDelta, ReasoningDelta, ToolCallDelta]
"""What `Job.deltas` gives."""


@dataclass(frozen=True)
class Started:
    """An attempt of the job began on a worker.

    Attributes:
        seq: The number of the event, to attach after it; `None` for an event that is not kept.
        worker: The id of the worker.
        queue_wait: How long the job waited in the queue, in seconds.
    """

    seq: int | None
    worker: str | None
    queue_wait: float


@dataclass(frozen=True)
class Token:
    """A piece of the answer.

    Attributes:
        seq: The number of the event, to attach after it.
        text: The text; it can be empty, because a token can be a part of a character.
        id: The id of the token, if the engine reports it.
        logprobs: Its log probabilities, if the request asked for them.
    """

    seq: int | None = None
    text: str = ""
    id: int | None = None
    logprobs: Logprobs | None = None


@dataclass(frozen=True)
class Vectors:
    """The vectors of an embedding request, or the scores of a rerank.

    Attributes:
        seq: The number of the event.
        vectors: A vector for each text; for a rerank, one list with a score for each document.
    """

    seq: int | None
    vectors: list[list[float]]


@dataclass(frozen=True)
class Metrics:
    """What the engine reports of a prompt.

    Attributes:
        seq: The number of the event.
        prompt_tokens: Tokens of the prompt.
        prefill: How long the engine read it, in seconds.
        cached_tokens: Tokens that were in its cache, if it reports them.
    """

    seq: int | None
    prompt_tokens: int
    prefill: float
    cached_tokens: int | None = None


@dataclass(frozen=True)
class End:
    """The end of a complete answer.

    Attributes:
        seq: The number of the event.
        finish: Why it ended: `"stop"` or `"length"`.
        usage: The tokens.
        stop_text: The stop text that ended it, if one did and the worker reports it.
    """

    seq: int | None = None
    finish: Literal["stop", "length"] = "stop"
    usage: Usage = field(default_factory=Usage)
    stop_text: str | None = None


Event = Union[Started, Token, Vectors, Metrics, End]
"""What `Job.events` gives. An error is raised instead."""
