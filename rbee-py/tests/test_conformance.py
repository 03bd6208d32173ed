"""The suites of the traits, with parts in Python: good ones pass, and bad ones are found."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator

import pytest

import rbee
from rbee import conformance


class Good:
    """A worker that keeps the rules: it draws words by the seed, and can go on where another stopped."""

    model = "good"
    slots = 3
    resume = True
    min_tokens = True
    context_tokens = 4096
    numerics = "words"

    WORDS = ["a ", "bee ", "builds ", "its ", "hive ", "of ", "wax "]

    def outputs(self, run: rbee.Run) -> Iterator[rbee.Token | rbee.End]:
        if run.messages is not None and not run.messages:
            raise rbee.InvalidRequest("a chat needs a message")
        prompt = run.prompt_text or " ".join(message["content"] for message in run.messages or [])
        prompt_tokens = len(prompt.split())
        if prompt_tokens > self.context_tokens:
            raise rbee.ContextExceeded(f"{prompt_tokens} tokens; allowed are {self.context_tokens}")
        most = 64 if run.max_tokens is None else run.max_tokens
        # The words are ASCII, so that a byte is a character. Readers have so many of them.
        text, given, finish, count = "", run.resume_text_bytes, "length", 0
        for position in range(most):
            number = random.Random(f"{run.seed} {position}").randrange(len(self.WORDS))
            text += self.WORDS[number]
            count += 1
            if position < len(run.resume_tokens):
                continue
            stop = min((text.find(end) for end in run.stop if end in text), default=-1)
            if stop >= 0:
                yield rbee.Token(text=text[given:stop], id=number)
                text, given, finish = text[:stop], stop, "stop"
                break
            # What may be the beginning of a stop text is not given yet.
            parts = (part for end in run.stop for part in range(len(end)) if text.endswith(end[:part]))
            kept = 0 if count == most else max(parts, default=0)
            yield rbee.Token(text=text[given : len(text) - kept], id=number)
            given = max(given, len(text) - kept)
        usage = rbee.Usage(prompt_tokens=prompt_tokens, completion_tokens=count)
        yield rbee.End(finish="stop" if finish == "stop" else "length", usage=usage)

    def execute(self, run: rbee.Run) -> Iterator[rbee.Token | rbee.End]:
        yield from self.outputs(run)


class GoodInLoop(Good):
    """The same as an asynchronous generator."""

    async def execute(self, run: rbee.Run) -> AsyncIterator[rbee.Token | rbee.End]:  # type: ignore[override]
        for output in self.outputs(run):
            yield output


class Forgetful(Good):
    """Gives other words each time."""

    def execute(self, run: rbee.Run) -> Iterator[rbee.Token | rbee.End]:
        for number in range(30):
            yield rbee.Token(text=random.choice(self.WORDS), id=number)
        yield rbee.End()


class Unlimited(Good):
    """Ignores max_tokens."""

    def execute(self, run: rbee.Run) -> Iterator[rbee.Token | rbee.End]:
        for number in range(500):
            yield rbee.Token(text="bee ", id=number)
        yield rbee.End()


@pytest.mark.parametrize("worker", [Good(), GoodInLoop()])
def test_a_good_worker_passes(worker: rbee.Worker) -> None:
    conformance.check_worker(worker, "Once upon a time")


@pytest.mark.parametrize("worker", [Forgetful(), Unlimited()])
def test_a_bad_worker_is_found(worker: rbee.Worker) -> None:
    with pytest.raises(AssertionError):
        conformance.check_worker(worker, "Once upon a time")


class FirstFree:
    """The first worker that has the model and a free slot."""

    limit = 5.0

    def place(self, job: rbee.JobView, cluster: rbee.ClusterView) -> rbee.Placement:
        return next(iter(cluster.available(job)), None)


class Drawing:
    """Decides at random: the same question can get another answer."""

    limit = 5.0

    def place(self, job: rbee.JobView, cluster: rbee.ClusterView) -> rbee.Placement:
        free = cluster.available(job)
        return random.choice([None, *free])


def test_a_good_scheduler_passes() -> None:
    conformance.check_scheduler(FirstFree())


def test_a_bad_scheduler_is_found() -> None:
    with pytest.raises(AssertionError):
        conformance.check_scheduler(Drawing())
