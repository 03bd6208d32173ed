"""Workers in Python: generators and asynchronous generators."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest

import rbee


class Counting:
    """Gives numbers, as many as are wanted."""

    model = "counting"
    slots = 2

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.runs: list[rbee.Run] = []

    def execute(self, run: rbee.Run) -> Iterator[str]:
        self.runs.append(run)
        try:
            for number in range(run.max_tokens or 10):
                yield f"{number} "
        finally:
            self.closed.set()


class Endless:
    """Gives dots until it is closed."""

    model = "endless"

    def __init__(self) -> None:
        self.closed = threading.Event()

    def execute(self, run: rbee.Run) -> Iterator[str]:
        try:
            while True:
                time.sleep(0.002)
                yield "."
        finally:
            assert run.is_cancelled
            self.closed.set()


class Asynchronous:
    """Gives dots in an event loop until it is closed."""

    model = "asynchronous"

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.loops: list[asyncio.AbstractEventLoop] = []

    async def execute(self, run: rbee.Run) -> AsyncIterator[rbee.Token | rbee.End]:
        self.loops.append(asyncio.get_running_loop())
        count = 0
        try:
            while run.max_tokens is None or count < run.max_tokens:
                await asyncio.sleep(0.001)
                yield rbee.Token(text=".", id=count)
                count += 1
            yield rbee.End(finish="length", usage=rbee.Usage(prompt_tokens=3, completion_tokens=count))
        finally:
            self.closed.set()


class Failing:
    """Fails after some tokens."""

    model = "failing"

    def execute(self, run: rbee.Run) -> Iterator[str]:
        yield "one "
        raise ZeroDivisionError("by a bee")


class Refusing:
    """Knows that a request is wrong."""

    model = "refusing"

    async def execute(self, run: rbee.Run) -> AsyncIterator[str]:
        raise rbee.ContextExceeded("the prompt has too many bees")
        yield ""


class Vectors:
    """Makes vectors."""

    model = "vectors"
    generate = False
    embed = True

    def execute(self, run: rbee.Run) -> Iterator[rbee.Vectors]:
        assert run.texts is not None
        yield rbee.Vectors(None, [[float(len(text)), 1.0] for text in run.texts])


class Scores:
    """Scores documents by their length."""

    model = "scores"
    generate = False
    rerank = True

    def execute(self, run: rbee.Run) -> Iterator[rbee.Vectors]:
        assert run.documents is not None and run.texts is None and run.prompt_text is None
        yield rbee.Vectors(None, [[len(text) / 8 if run.query == "long" else 0.0 for text in run.documents]])


class Wrong:
    """Gives what is no output."""

    model = "wrong"

    def execute(self, run: rbee.Run) -> Iterator[object]:
        yield 7


def test_a_generator_answers() -> None:
    worker = Counting()
    with rbee.Queen(local_hive=False, workers=[worker]) as queen:
        answer = queen.submit(model="counting", prompt="Count.", max_tokens=5, seed=9).result()
        assert (answer.text, answer.finish, answer.usage.completion_tokens) == ("0 1 2 3 4 ", "stop", 5)
        [found] = queen.fleet.workers()
        assert (found.backend, found.slots, found.hive) == ("Counting", 2, "python")
        raw = queen.submit(model="counting", prompt="Count.", raw=True, max_tokens=1, temperature=0.5)
        raw.result()
    first, second = worker.runs
    assert (first.messages, first.prompt_text) == ([{"role": "user", "content": "Count."}], None)
    assert (first.seed, first.attempt, first.model) == (9, 1, "counting")
    assert (second.prompt_text, second.messages, second.job) == ("Count.", None, raw.id)
    assert second.sampling_parameters["temperature"] == 0.5


def test_a_generator_is_closed_when_its_job_is_cancelled() -> None:
    worker = Endless()
    with rbee.Queen(local_hive=False, workers=[worker]) as queen:
        job = queen.submit(model="endless", prompt="Go.")
        next(iter(job))
        start = time.monotonic()
        job.cancel()
        assert worker.closed.wait(20)
        assert time.monotonic() - start < 5
        with pytest.raises(rbee.Cancelled):
            job.result()
        while queen.fleet.workers()[0].free_slots == 0:
            time.sleep(0.01)


def test_an_asynchronous_generator_runs_in_the_loop_of_the_application() -> None:
    worker = Asynchronous()

    async def main() -> None:
        async with rbee.Queen(local_hive=False, workers=[worker]) as queen:
            answer = await (await queen.submit(model="asynchronous", prompt="Go.", max_tokens=20)).result()
            assert (answer.text, answer.finish, answer.tokens) == ("." * 20, "length", list(range(20)))
            assert answer.usage == rbee.Usage(prompt_tokens=3, completion_tokens=20)
            assert worker.loops == [asyncio.get_running_loop()]
            worker.closed.clear()
            job = await queen.submit(model="asynchronous", prompt="Go.")
            async for _ in job:
                break
            job.cancel()
            for _ in range(2000):
                if worker.closed.is_set():
                    break
                await asyncio.sleep(0.01)
            assert worker.closed.is_set()

    asyncio.run(main())


def test_an_asynchronous_generator_has_a_loop_without_an_application_loop() -> None:
    worker = Asynchronous()
    with rbee.Queen(local_hive=False, workers=[worker]) as queen:
        assert queen.submit(model="asynchronous", prompt="Go.", max_tokens=3).result().text == "..."


def test_an_exception_is_the_cause_of_the_error_and_stops_nothing_else() -> None:
    with rbee.Queen(local_hive=False, workers=[Failing(), Counting()], retries=0) as queen:
        job = queen.submit(model="failing", prompt="Go.")
        with pytest.raises(rbee.WorkerFault, match="ZeroDivisionError: by a bee") as caught:
            job.result()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert caught.value.__cause__.__traceback__ is not None
        assert queen.submit(model="counting", prompt="Go.", max_tokens=1).result().text == "0 "


def test_an_error_of_rbee_keeps_its_kind() -> None:
    with rbee.Queen(local_hive=False, workers=[Refusing()]) as queen:
        with pytest.raises(rbee.ContextExceeded, match="too many bees"):
            queen.submit(model="refusing", prompt="Go.").result()


def test_vectors_come_in_the_order_of_their_texts() -> None:
    with rbee.Queen(local_hive=False, workers=[Vectors()]) as queen:
        assert queen.embed(["a", "bee"], model="vectors") == [[1.0, 1.0], [3.0, 1.0]]
        assert queen.embed("bees", model="vectors") == [[4.0, 1.0]]
        with pytest.raises(rbee.Unsupported):
            queen.submit(model="vectors", prompt="Go.").result()


def test_scores_come_in_the_order_of_their_documents() -> None:
    with rbee.Queen(local_hive=False, workers=[Scores()]) as queen:
        assert queen.rerank("long", ["bee", "a", "hive"], model="scores") == [0.375, 0.125, 0.5]
        assert queen.rerank("short", ("bee",), model="scores") == [0.0]
        with pytest.raises(rbee.InvalidRequest, match="documents has 0 documents"):
            queen.rerank("long", [], model="scores")
        with pytest.raises(rbee.Unsupported):
            queen.embed("bee", model="scores")
        with pytest.raises(rbee.Unsupported):
            queen.submit(model="scores", prompt="Go.").result()


def test_a_wrong_output_is_a_fault_that_names_it() -> None:
    wrong: list[rbee.Worker] = [Wrong()]  # type: ignore[list-item]
    with rbee.Queen(local_hive=False, workers=wrong, retries=0) as queen:
        with pytest.raises(rbee.WorkerFault, match=r"7 \(int\); allowed are str"):
            queen.submit(model="wrong", prompt="Go.").result()


def test_a_worker_without_a_model_is_refused() -> None:
    with pytest.raises(TypeError, match="has no execute"):
        rbee.Queen(local_hive=False, workers=[object()]).open()  # type: ignore[list-item]
