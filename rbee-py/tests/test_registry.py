"""Stores in Python: the suite of the trait, errors, threads and loops."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import runpy
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

import rbee
from rbee import conformance
from rbee.registry import Change, JobEnded, JobFilter, JobQueued, JobRecord, JobTokens, PolicyFilter, PolicyRecord, Snapshot


class Store(Protocol):
    """A store with plain methods."""

    def open(self, queen: str, lease: float, /) -> Snapshot: ...
    def record(self, epoch: int, changes: Sequence[Change], /) -> None: ...
    def renew(self, epoch: int, /) -> Snapshot: ...
    def release(self, epoch: int, /) -> None: ...
    def jobs(self, filter: JobFilter, /) -> list[JobRecord]: ...
    def policies(self, filter: PolicyFilter, /) -> list[PolicyRecord]: ...


EXAMPLE = Path(__file__).parent.parent / "examples" / "registry.py"
SqliteStore: Callable[..., Store] = runpy.run_path(str(EXAMPLE), run_name="examples")["SqliteStore"]


class Echo:
    """A worker that says its prompt."""

    model = "echo"

    def execute(self, run: rbee.Run) -> Iterator[str]:
        yield from (run.messages or [{"content": ""}])[-1]["content"].split()


class Passing:
    """Passes everything on to another store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def open(self, queen: str, lease: float) -> Snapshot:
        return self.store.open(queen, lease)

    def record(self, epoch: int, changes: Sequence[Change]) -> None:
        self.store.record(epoch, changes)

    def renew(self, epoch: int) -> Snapshot:
        return self.store.renew(epoch)

    def release(self, epoch: int) -> None:
        self.store.release(epoch)

    def jobs(self, filter: JobFilter) -> list[JobRecord]:
        return self.store.jobs(filter)

    def policies(self, filter: PolicyFilter) -> list[PolicyRecord]:
        return self.store.policies(filter)


class InLoop:
    """The same with asynchronous methods."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.loops: set[asyncio.AbstractEventLoop] = set()

    async def turn(self) -> None:
        self.loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)

    async def open(self, queen: str, lease: float) -> Snapshot:
        await self.turn()
        return self.store.open(queen, lease)

    async def record(self, epoch: int, changes: Sequence[Change]) -> None:
        await self.turn()
        self.store.record(epoch, changes)

    async def renew(self, epoch: int) -> Snapshot:
        await self.turn()
        return self.store.renew(epoch)

    async def release(self, epoch: int) -> None:
        await self.turn()
        self.store.release(epoch)

    async def jobs(self, filter: JobFilter) -> list[JobRecord]:
        await self.turn()
        return self.store.jobs(filter)

    async def policies(self, filter: PolicyFilter) -> list[PolicyRecord]:
        await self.turn()
        return self.store.policies(filter)


def fresh(directory: Path, clock: conformance.Clock, wrap: Callable[[Any], Any]) -> Callable[[], Callable[[], Any]]:
    numbers = itertools.count()

    def make() -> Callable[[], Any]:
        path = directory / f"{next(numbers)}.db"
        return lambda: wrap(SqliteStore(path, clock))

    return make


@pytest.mark.parametrize("wrap", [Passing, InLoop])
def test_a_store_in_python_keeps_every_rule(tmp_path: Path, wrap: Callable[[Any], rbee.Registry]) -> None:
    clock = conformance.Clock()
    conformance.check_registry(fresh(tmp_path, clock, wrap), clock=clock)


class Keeping(Passing):
    """Keeps ends in a file next to the database."""

    kept = 0

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        _, _, database = store.run("PRAGMA database_list").fetchone()
        self.ends = Path(f"{database}.ends")

    def keep_ends(self, epoch: int, ends: Sequence[JobEnded]) -> None:
        Keeping.kept += len(ends)
        self.ends.write_text(json.dumps([dataclasses.asdict(end) for end in ends]))

    def open(self, queen: str, lease: float) -> Snapshot:
        found = super().open(queen, lease)
        if self.ends.exists():
            ends = [JobEnded(**end) for end in json.loads(self.ends.read_text())]
            self.record(found["epoch"], ends)
            ended = {end.job for end in ends}
            found["jobs"] = [job for job in found["jobs"] if job["id"] not in ended]
        return found


def test_ends_are_kept_by_a_store_that_can(tmp_path: Path) -> None:
    clock = conformance.Clock()
    conformance.check_registry(fresh(tmp_path, clock, Keeping), clock=clock)
    assert Keeping.kept == 1


class Forgetting(Passing):
    """Does not write tokens."""

    def record(self, epoch: int, changes: Sequence[Change]) -> None:
        self.store.record(epoch, [change for change in changes if not isinstance(change, JobTokens)])


class Unfenced(Passing):
    """Lets everybody write."""

    def record(self, epoch: int, changes: Sequence[Change]) -> None:
        try:
            self.store.record(epoch, changes)
        except rbee.Fenced:
            pass


@pytest.mark.parametrize("wrap", [Forgetting, Unfenced])
def test_a_store_that_breaks_a_rule_is_found(tmp_path: Path, wrap: Callable[[Any], rbee.Registry]) -> None:
    clock = conformance.Clock()
    with pytest.raises(AssertionError):
        conformance.check_registry(fresh(tmp_path, clock, wrap), clock=clock)


def test_a_function_that_makes_no_store_is_named() -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        conformance.check_registry(lambda: 1 / 0)  # type: ignore[arg-type, return-value]


def test_jobs_of_a_queen_are_in_its_store(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with rbee.Queen(registry=SqliteStore(path), local_hive=False, workers=[Echo()]) as queen:
        job = queen.submit(model="echo", prompt="one two", detached=True, idempotency_key="a", logit_bias=None)
        assert job.result().text == "onetwo"
    with rbee.Queen(registry=SqliteStore(path), local_hive=False, workers=[Echo()]) as queen:
        [record] = queen.jobs()
        assert (record.id, record.state, record.tokens) == (job.id, "complete", 2)
        assert queen.job(job.id).text == "onetwo"
        again = queen.submit(model="echo", prompt="one two", detached=True, idempotency_key="a")
        assert (again.id, again.result().text) == (job.id, "onetwo")
        with pytest.raises(rbee.Conflict):
            queen.submit(model="echo", prompt="other", detached=True, idempotency_key="a")


def test_a_store_runs_in_the_loop_of_the_application(tmp_path: Path) -> None:
    store = InLoop(SqliteStore(tmp_path / "queue.db"))

    async def main() -> None:
        async with rbee.Queen(registry=store, local_hive=False, workers=[Echo()]) as queen:
            job = await queen.submit(model="echo", prompt="one", detached=True)
            assert (await job.result()).text == "one"
        assert store.loops == {asyncio.get_running_loop()}

    asyncio.run(main())


class Failing(Passing):
    """Fails as long as its flag is set."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.error: Exception | None = None
        self.recorded: list[Change] = []

    def record(self, epoch: int, changes: Sequence[Change]) -> None:
        if self.error is not None:
            raise self.error
        super().record(epoch, changes)
        self.recorded += changes


def test_an_exception_is_the_cause_of_the_error_and_no_job_is_lost(tmp_path: Path) -> None:
    store = Failing(SqliteStore(tmp_path / "queue.db"))
    gate = threading.Event()

    class Gated(Echo):
        def execute(self, run: rbee.Run) -> Iterator[str]:
            gate.wait(60)
            yield from super().execute(run)

    with rbee.Queen(registry=store, local_hive=False, workers=[Gated()]) as queen:
        running = queen.submit(model="echo", prompt="one")
        store.error = ZeroDivisionError("by a bee")
        with pytest.raises(rbee.Storage) as caught:
            queen.submit(model="echo", prompt="two")
        cause = caught.value.__cause__
        assert isinstance(cause, ZeroDivisionError) and cause.__traceback__ is not None
        assert queen.status().store_error == "Failing.record raised ZeroDivisionError: by a bee"
        gate.set()
        store.error = None
        # The queen hands in the end of the job again.
        assert running.result().text == "one"
        while queen.status().store_error is not None:
            time.sleep(0.01)
        assert queen.submit(model="echo", prompt="three").result().text == "three"
    ends = [change.job for change in store.recorded if isinstance(change, JobEnded)]
    queued = [change.job for change in store.recorded if isinstance(change, JobQueued)]
    assert len(queued) == 2 and set(queued) <= set(ends)


def test_an_error_of_rbee_keeps_its_kind_and_when_to_try_again(tmp_path: Path) -> None:
    store = Failing(SqliteStore(tmp_path / "queue.db"))
    with rbee.Queen(registry=store, local_hive=False, workers=[Echo()]) as queen:
        locked = rbee.Storage("the file is locked")
        locked.retry_after = 1.5
        store.error = locked
        with pytest.raises(rbee.Storage) as caught:
            queen.submit(model="echo", prompt="one")
        assert caught.value.retry_after == 1.5
        assert caught.value.__cause__ is locked
        store.error = None
        while queen.status().store_error is not None:
            time.sleep(0.01)
        assert queen.submit(model="echo", prompt="two").result().text == "two"


def test_a_run_that_is_fenced_stops_its_queen(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with rbee.Queen(id="a", registry=SqliteStore(path), local_hive=False, workers=[Echo()], owner_lease=3.0) as queen:
        SqliteStore(path).open("a", 60.0)
        with pytest.raises(rbee.RbeeError) as caught:
            for _ in range(600):
                queen.submit(model="echo", prompt="one").result()
                time.sleep(0.01)
        assert isinstance(caught.value, (rbee.Fenced, rbee.ShuttingDown, rbee.Interrupted))


class Slow(Passing):
    """Does not return from a listing until it may."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.may_return = threading.Event()
        self.calls = 0
        self.most = 0

    def jobs(self, filter: JobFilter) -> list[JobRecord]:
        self.calls += 1
        self.most = max(self.most, self.calls)
        self.may_return.wait(60)
        self.calls -= 1
        return super().jobs(filter)

    def record(self, epoch: int, changes: Sequence[Change]) -> None:
        self.most = max(self.most, self.calls + 1)
        super().record(epoch, changes)


def test_methods_are_called_one_at_a_time(tmp_path: Path) -> None:
    store = Slow(SqliteStore(tmp_path / "queue.db"))
    with rbee.Queen(registry=store, local_hive=False, workers=[Echo()]) as queen:
        threads = [threading.Thread(target=queen.jobs) for _ in range(3)]
        threads += [threading.Thread(target=lambda: queen.submit(model="echo", prompt="one").result())]
        for thread in threads:
            thread.start()
        while not store.calls:
            time.sleep(0.001)
        store.may_return.set()
        for thread in threads:
            thread.join(60)
    assert store.most == 1


def test_a_slow_store_delays_no_other_queen(tmp_path: Path) -> None:
    store = Slow(SqliteStore(tmp_path / "queue.db"))
    with rbee.Queen(registry=store, local_hive=False, workers=[Echo()]) as slow:
        threads = [threading.Thread(target=slow.jobs) for _ in range(100)]
        for thread in threads:
            thread.start()
        while not store.calls:
            time.sleep(0.001)
        try:
            with rbee.Queen(registry=SqliteStore(tmp_path / "other.db"), local_hive=False, workers=[Echo()]) as other:
                start = time.monotonic()
                assert other.submit(model="echo", prompt="one").result().text == "one"
                assert time.monotonic() - start < 10
        finally:
            store.may_return.set()
            for thread in threads:
                thread.join(60)


def test_an_answer_of_a_wrong_form_names_the_method_and_the_field(tmp_path: Path) -> None:
    class Wrong(Passing):
        def jobs(self, filter: JobFilter) -> list[JobRecord]:
            found = super().jobs(filter)
            for job in found:
                job["attempts"] = "many"  # type: ignore[typeddict-item]
            return found

    with rbee.Queen(
        registry=Wrong(SqliteStore(tmp_path / "queue.db")), local_hive=False, workers=[Echo()]
    ) as queen:
        queen.submit(model="echo", prompt="one").result()
        with pytest.raises(rbee.Storage, match=r'the answer of Wrong.jobs .*job .*invalid type: string "many"'):
            queen.jobs()


def test_an_object_that_is_no_store_is_refused_with_what_it_lacks() -> None:
    with pytest.raises(TypeError, match="object has no open"):
        rbee.Queen(registry=object()).open()  # type: ignore[arg-type]


def test_a_file_that_cannot_be_opened_is_an_error_of_the_store(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        SqliteStore(tmp_path / "no" / "directory.db")
