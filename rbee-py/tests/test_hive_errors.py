"""Hives in Python that fail, or that are slow or wrong: the error names what happened, and nothing else stops."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import rbee
from hive_doubles import Attic, Echo, until


class Failing(Attic):
    """Cannot start all workers."""

    def spawn(self, worker: str, spec: rbee.WorkerSpec, progress: rbee.ReportProgress) -> Echo:
        if spec.model == "typed":
            raise rbee.ModelIncompatible("the file is damaged")
        if spec.model == "broken":
            raise ZeroDivisionError("by a bee")
        return super().spawn(worker, spec, progress)


def test_an_exception_is_the_cause_of_the_error_and_stops_nothing_else() -> None:
    with rbee.Queen(local_hive=False, hives=[Failing("broken", "typed", "echo")], retries=0) as queen:
        with pytest.raises(rbee.WorkerFault, match="Failing.spawn raised ZeroDivisionError: by a bee") as caught:
            queen.submit(model="broken", prompt="one").result()
        cause = caught.value.__cause__
        assert isinstance(cause, ZeroDivisionError) and cause.__traceback__ is not None
        with pytest.raises(rbee.ModelIncompatible, match="the file is damaged"):
            queen.submit(model="typed", prompt="one").result()
        assert queen.submit(model="echo", prompt="one").result().text == "one"


class Unreachable(Attic):
    """Its machine is away at first."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = True
        self.owners: list[int] = []

    def watch(self, owner: int) -> Iterator[rbee.HiveEvent]:
        self.owners.append(owner)
        if self.is_away:
            raise OSError("no route to the attic")
        while True:
            yield None
            time.sleep(0.01)


def test_a_hive_that_is_away_is_offline_with_its_reason_until_it_is_back() -> None:
    hive = Unreachable()
    with rbee.Queen(local_hive=False, probe_interval=0.05) as queen:
        queen.fleet.add(hive)
        until(lambda: queen.fleet.list()[0].error, "the reason is known")
        [found] = queen.fleet.list()
        assert found.status != "online"
        assert "Unreachable.watch raised OSError: no route to the attic" in (found.error or "")
        hive.is_away = False
        until(lambda: queen.fleet.list()[0].status == "online", "it is back")
        assert queen.submit(model="echo", prompt="one").result().text == "one"
        assert len(set(hive.owners)) == 1


class Slow(Attic):
    """Does not start workers until it may."""

    def __init__(self, *models: str) -> None:
        super().__init__(*models)
        self.id = "cellar"
        self.begun = threading.Event()
        self.may_return = threading.Event()

    def spawn(self, worker: str, spec: rbee.WorkerSpec, progress: rbee.ReportProgress) -> Echo:
        self.begun.set()
        self.may_return.wait(60)
        return super().spawn(worker, spec, progress)


def test_a_slow_hive_delays_its_own_jobs_alone() -> None:
    slow, attic = Slow("late"), Attic()
    with rbee.Queen(local_hive=False, hives=[slow, attic]) as queen:
        late = queen.submit(model="late", prompt="one")
        assert slow.begun.wait(60)
        start = time.monotonic()
        assert queen.submit(model="echo", prompt="two").result().text == "two"
        assert time.monotonic() - start < 10
        slow.may_return.set()
        assert late.result().text == "one"


def test_a_worker_that_nobody_needs_any_more_is_stopped_when_it_has_started() -> None:
    slow = Slow("late")
    with rbee.Queen(local_hive=False, hives=[slow], abort_grace=0.05) as queen:
        queen.models.load("late")
        assert slow.begun.wait(60)
        [worker] = queen.fleet.workers()
        queen.fleet.unload(worker.id)
        # `stop` was called while it was loading; the load could not be ended.
        until(lambda: worker.id in slow.stopped, "stop is called during the load")
        until(lambda: queen.fleet.workers() == [], "the worker is gone")
        before = slow.stopped.count(worker.id)
        slow.may_return.set()
        until(lambda: slow.spawned and slow.stopped.count(worker.id) > before, "it is stopped again")
        assert queen.fleet.workers() == []


def wrong_event(owner: int) -> Iterator[Any]:
    yield 7


def no_event(owner: int) -> Iterator[Any]:
    yield from ()


WRONG: list[tuple[str, Any, str]] = [
    ("report", None, "raised TypeError: .NoneType. object is not callable"),
    ("report", lambda: rbee.HiveReport(models=[rbee.ModelOnDisk("echo", -1)]), "bytes is -1"),
    ("report", lambda: rbee.HiveReport(workers=["seven"]), "seven"),
    ("report", lambda: rbee.HiveReport([rbee.Device(0, "tpu", "x", 1, 1)]), 'kind of a device is "tpu"'),
    ("report", lambda: 7, "the answer of Attic.report raised AttributeError"),
    ("watch", wrong_event, r"7 \(int\); allowed are rbee.HiveReport"),
    ("watch", no_event, "ended at once"),
]


@pytest.mark.parametrize(("method", "wrong", "message"), WRONG)
def test_wrong_data_is_an_error_that_names_it(method: str, wrong: Any, message: str) -> None:
    hive = Attic()
    setattr(hive, method, wrong)
    with rbee.Queen(local_hive=False) as queen:
        queen.fleet.add(hive)
        until(lambda: queen.fleet.list()[0].error, "the reason is known")
        error = queen.fleet.list()[0].error or ""
        assert re.search(message, error), error


def test_an_object_that_is_no_hive_is_refused_with_what_it_lacks() -> None:
    with pytest.raises(TypeError, match="object has no id"):
        rbee.Queen(local_hive=False, hives=[object()]).open()  # type: ignore[list-item]
    wrong = Attic()
    wrong.id = "no such name!"
    with pytest.raises(rbee.InvalidRequest, match="no such name!"):
        rbee.Queen(local_hive=False, hives=[wrong]).open()
