"""What the tests of hives share: a hive whose workers are objects."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import rbee


class Echo:
    """A worker that says its prompt."""

    def execute(self, run: rbee.Run) -> Iterator[str]:
        yield from (run.messages or [{"content": ""}])[-1]["content"].split()


class Attic:
    """A hive whose workers are objects."""

    id = "attic"

    def __init__(self, *models: str) -> None:
        self.models = models or ("echo",)
        self.spawned: list[tuple[str, rbee.WorkerSpec]] = []
        self.stopped: list[str] = []

    def report(self) -> rbee.HiveReport:
        memory = 8 << 30
        device = rbee.Device(index=0, kind="cpu", name="processor", memory_total=memory, memory_free=memory)
        models = [rbee.ModelOnDisk(model, 1 << 20) for model in self.models]
        return rbee.HiveReport(devices=[device], models=models)

    def spawn(self, worker: str, spec: rbee.WorkerSpec, progress: rbee.ReportProgress) -> Echo:
        self.spawned.append((worker, spec))
        return Echo()

    def worker(self, worker: str) -> rbee.Worker:
        raise rbee.NotFound(f"there is no worker {worker}")

    def stop(self, worker: str, grace: float) -> None:
        self.stopped.append(worker)


def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
