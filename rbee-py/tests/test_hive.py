"""Hives in Python: the suite of the trait, workers, models and loops."""

from __future__ import annotations

import asyncio
import json
import runpy
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rbee
from hive_doubles import Attic, Echo, until
from rbee import conformance

EXAMPLE = Path(__file__).parent.parent / "examples" / "hive.py"
#: The hive of the example, whose workers are processes.
Machine: Callable[..., Any] = runpy.run_path(str(EXAMPLE), run_name="examples")["Machine"]

GOOD, BAD = rbee.WorkerSpec("bee"), rbee.WorkerSpec("empty")


class InLoop:
    """The hive of the example, with asynchronous methods."""

    def __init__(self, machine: Any) -> None:
        self.id: str = machine.id
        self.machine = machine
        self.loops: set[asyncio.AbstractEventLoop] = set()
        self.watching = 0

    async def turn(self) -> None:
        self.loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)

    async def report(self) -> rbee.HiveReport:
        await self.turn()
        report: rbee.HiveReport = self.machine.report()
        return report

    async def watch(self, owner: int) -> AsyncIterator[rbee.HiveEvent]:
        self.watching += 1
        try:
            for event in self.machine.watch(owner):
                await self.turn()
                yield event
                await asyncio.sleep(0.01)
        finally:
            self.watching -= 1

    async def spawn(self, worker: str, spec: rbee.WorkerSpec, progress: rbee.ReportProgress) -> Any:
        await self.turn()
        return await asyncio.to_thread(self.machine.spawn, worker, spec, progress)

    async def worker(self, worker: str) -> rbee.Worker:
        await self.turn()
        found: rbee.Worker = self.machine.worker(worker)
        return found

    async def stop(self, worker: str, grace: float) -> None:
        await self.turn()
        await asyncio.to_thread(self.machine.stop, worker, grace)

    async def provision(self, model: str, origin: rbee.ModelOrigin, progress: rbee.ReportProgress) -> rbee.ModelOnDisk:
        await self.turn()
        found: rbee.ModelOnDisk = self.machine.provision(model, origin, progress)
        return found

    async def remove_model(self, model: str) -> None:
        await self.turn()
        self.machine.remove_model(model)


def machine(directory: Path) -> Any:
    (directory / "bee").write_text("a bee has six legs")
    (directory / "empty").write_text("")
    return Machine(directory, {"bee": "a bee has six legs"})


def plain(made: Any) -> rbee.HiveBackend:
    found: rbee.HiveBackend = made
    return found


@pytest.mark.parametrize("wrap", [plain, InLoop])
def test_a_hive_of_processes_keeps_every_rule(tmp_path: Path, wrap: Callable[[Any], rbee.HiveBackend]) -> None:
    made = machine(tmp_path)
    conformance.check_hive(wrap(made), GOOD, BAD)
    assert made.engines == {}
    until(lambda: not made.watchers, "the generators are closed")


@pytest.mark.parametrize("wrap", [plain, InLoop])
def test_a_process_that_dies_is_reported(tmp_path: Path, wrap: Callable[[Any], rbee.HiveBackend]) -> None:
    made = machine(tmp_path)
    conformance.check_worker_exit(wrap(made), GOOD, lambda worker: made.engines[worker].process.kill())


class Credulous(Attic):
    """Starts a worker for every order."""


class Shrinking(Attic):
    """Says another size each time."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 1000

    def report(self) -> rbee.HiveReport:
        self.bytes -= 1
        return rbee.HiveReport(models=[rbee.ModelOnDisk("bee", self.bytes)])


@pytest.mark.parametrize(
    ("hive", "rule"),
    [(Credulous("bee"), "empty, which is no model, was spawned"), (Shrinking(), "was provisioned again with")],
)
def test_a_hive_that_breaks_a_rule_is_found(hive: rbee.HiveBackend, rule: str) -> None:
    with pytest.raises(AssertionError, match=rule):
        conformance.check_hive(hive, GOOD, BAD)


def test_workers_of_a_hive_run_jobs_and_are_stopped_with_the_queen() -> None:
    attic = Attic()
    with rbee.Queen(local_hive=False, hives=[attic]) as queen:
        assert queen.submit(model="echo", prompt="one two").result().text == "onetwo"
        [(worker, spec)] = attic.spawned
        assert (spec.model, spec.devices, spec.slots >= 1) == ("echo", [0], True)
        [found] = queen.fleet.workers()
        assert (found.id, found.hive, found.model, found.backend) == (worker, "attic", "echo", "Echo")
        assert (found.devices, found.slots) == (spec.devices, spec.slots)
        [hive] = queen.fleet.list()
        assert (hive.id, hive.status, hive.models) == ("attic", "online", {"echo": 1 << 20})
        assert hive.devices == attic.report().devices
        queen.fleet.unload(worker)
        until(lambda: attic.stopped == [worker], "the worker is stopped")
        assert queen.submit(model="echo", prompt="three").result().text == "three"
    assert attic.stopped == [worker for worker, _ in attic.spawned]


def test_a_hive_is_added_while_the_queen_runs() -> None:
    with rbee.Queen(local_hive=False) as queen:
        assert queen.fleet.add(Attic()) == "attic"
        until(lambda: queen.fleet.list()[0].status == "online", "it has reported")
        assert queen.submit(model="echo", prompt="one").result().text == "one"
        with pytest.raises(rbee.Conflict):
            queen.fleet.add(Attic())
        queen.fleet.remove("attic", grace=1.0)
        assert queen.fleet.list() == []


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    made = machine(tmp_path)
    with rbee.Queen(local_hive=False, hives=[made]) as queen:
        assert queen.submit(model="bee", prompt="Go.").result().text == "a bee has six legs "
        [worker] = queen.fleet.workers()
        # The engine says so, whatever the order says.
        assert worker.slots == 1
        answers = [queen.submit(model="bee", prompt="Go.") for _ in range(8)]
        assert {answer.result().text for answer in answers} == {"a bee has six legs "}
        made.engines[worker.id].process.kill()
        until(lambda: worker.id not in [found.id for found in queen.fleet.workers()], "the exit is known")
        assert queen.submit(model="bee", prompt="Go.", max_tokens=2).result().text == "a bee "
    assert made.engines == {}


def test_models_come_to_the_disk_and_go(tmp_path: Path) -> None:
    made = Machine(tmp_path, {"bee": "a bee has six legs"})
    with rbee.Queen(local_hive=False, hives=[made]) as queen:
        seen: list[rbee.Progress] = []
        pulled = queen.models.pull("bee", hive="attic", progress=seen.append)
        assert (pulled.bytes, pulled.hive) == (18, "attic")
        until(lambda: rbee.Progress(18, 18) in seen, "the progress is reported")
        assert queen.submit(model="bee", prompt="Go.", max_tokens=1).result().text == "a "
        [worker] = queen.fleet.workers()
        queen.fleet.unload(worker.id)
        until(lambda: queen.fleet.workers() == [], "the worker is gone")
        queen.models.remove("bee", hive="attic")
        assert queen.fleet.list()[0].models == {}
        with pytest.raises(rbee.ModelNotFound, match="there is no model wasp here"):
            queen.models.pull("wasp", hive="attic")


def test_methods_run_in_the_loop_of_the_application(tmp_path: Path) -> None:
    hive = InLoop(machine(tmp_path))

    async def main() -> None:
        async with rbee.Queen(local_hive=False, hives=[hive]) as queen:
            answer = await (await queen.submit(model="bee", prompt="Go.", max_tokens=3)).result()
            assert answer.text == "a bee has "
        assert hive.loops == {asyncio.get_running_loop()}
        for _ in range(2000):
            if not hive.watching:
                break
            await asyncio.sleep(0.01)
        assert hive.watching == 0

    asyncio.run(main())


class Returning(Attic):
    """Has a worker from before."""

    WORKER = "67e55044-10b1-426f-9247-bb680e5fe0c8"

    def report(self) -> rbee.HiveReport:
        report = super().report()
        return rbee.HiveReport(report.devices, report.models, [self.WORKER, "67e55044-10b1-426f-9247-bb680e5fe0c9"])

    def worker(self, worker: str) -> rbee.Worker:
        if worker != self.WORKER:
            raise rbee.NotFound(f"worker {worker} has ended since")
        found = Echo()
        found.model = "echo"  # type: ignore[attr-defined]
        return found  # type: ignore[return-value]


def test_a_worker_from_before_is_used_again() -> None:
    hive = Returning()
    with rbee.Queen(local_hive=False, hives=[hive]) as queen:
        answer = queen.submit(model="echo", prompt="one").result()
        assert (answer.text, answer.worker) == ("one", hive.WORKER)
        assert hive.spawned == []


class Growing(Attic):
    """Gets another model while it is watched."""

    def __init__(self) -> None:
        super().__init__()
        self.has_grown = threading.Event()

    def watch(self, owner: int) -> Iterator[rbee.HiveEvent]:
        yield self.report()
        while not self.has_grown.wait(0.01):
            yield None
        self.models = ("echo", "more")
        yield self.report()
        while True:
            yield None
            time.sleep(0.01)


def test_a_report_that_a_hive_gives_by_itself_counts_at_once() -> None:
    hive = Growing()
    with rbee.Queen(local_hive=False, hives=[hive], probe_interval=600.0) as queen:
        until(lambda: queen.fleet.list()[0].models, "it has reported")
        assert set(queen.fleet.list()[0].models) == {"echo"}
        hive.has_grown.set()
        until(lambda: len(queen.fleet.list()[0].models) == 2, "the new model is known")
        assert queen.submit(model="more", prompt="one").result().text == "one"


class Verifying(Attic):
    """Has a damaged model."""

    def __init__(self) -> None:
        super().__init__()
        self.provisioned: list[tuple[str, str]] = []

    def provision(self, model: str, origin: rbee.ModelOrigin, progress: rbee.ReportProgress) -> rbee.ModelOnDisk:
        self.provisioned.append((model, origin))
        return rbee.ModelOnDisk(model, 1 << 20)

    def verify(self, model: str, progress: rbee.ReportProgress) -> list[rbee.Damage]:
        progress(1, None)
        return [rbee.Damage("weights.bin", f"sha256:{'0' * 64}", f"sha256:{'1' * 64}", f"/damaged/{model}")]


def test_damaged_files_of_a_model_are_found_and_fetched_again() -> None:
    hive = Verifying()
    with rbee.Queen(local_hive=False, hives=[hive]) as queen, queen.serve() as server:
        order = json.dumps({"model": "echo", "hive": "attic", "verify": True}).encode()
        request = urllib.request.Request(f"{server.url}/v1/catalog/pull", order)
        request.add_header("Content-Type", "application/json")
        answer = urllib.request.urlopen(request).read().decode()
        assert '"repaired":["weights.bin"]' in answer
        assert hive.provisioned == [("echo", "here")]
