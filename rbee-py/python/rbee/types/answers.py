"""What a job gives: its answer and its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Union

__all__ = [
    "End",
    "Event",
    "JobAnswer",
    "Logprobs",
    "Metrics",
    "Started",
    "Token",
    "TokenLogprob",
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
class JobAnswer:
    """A complete answer.

    Attributes:
        text: The text.
        finish: Why it ended: `"stop"`, or `"length"` if it reached `max_tokens` or the end of the context.
        usage: The tokens.
        tokens: The ids of the tokens, if the engine reports them.
        logprobs: The log probabilities of the tokens, if the request asked for them.
        vectors: The vectors of an embedding request, one for each text.
        queue_wait: How long the job waited in the queue, in seconds.
        worker: The id of the worker that started it.
    """

    text: str
    finish: Literal["stop", "length"]
    usage: Usage
    tokens: list[int]
    logprobs: list[Logprobs]
    vectors: list[list[float]]
    queue_wait: float
    worker: str | None


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
    """The vectors of an embedding request.

    Attributes:
        seq: The number of the event.
        vectors: A vector for each text.
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
    """

    seq: int | None = None
    finish: Literal["stop", "length"] = "stop"
    usage: Usage = field(default_factory=Usage)


Event = Union[Started, Token, Vectors, Metrics, End]
"""What `Job.events` gives. An error is raised instead."""
