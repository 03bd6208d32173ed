"""Hives that are written in Python: `HiveBackend`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Protocol, Union

from .parts import Output, Run, Worker
from .types import HiveReport, WorkerSpec

__all__ = ["HiveBackend", "ReportProgress", "SpawnedWorker"]


ReportProgress = Callable[[int, Union[int, None]], None]
"""A function that takes the progress: the finished part, and the total if it is known."""


class SpawnedWorker(Protocol):
    """A worker of a hive: like `rbee.Worker`, with the model of the order.

    It has the slots and devices of the order too, unless it has attributes `slots` and `devices`. A worker that does
    one job at a time needs `slots = 1`.
    """

    def execute(self, run: Run) -> Iterator[Output] | AsyncIterator[Output]:
        """Runs a job, and gives its outputs."""
        ...


class HiveBackend(Protocol):
    """A machine that the application has itself: it starts workers and stops them. It decides nothing.

    Methods can be plain or `async`. A plain one runs in a thread of rbee's; an asynchronous one in the event loop in
    which the queen was opened, or in one of rbee's. They are called at the same time, for different workers: at most 32
    loads and downloads, and 16 other calls.

    rbee keeps account of what was started. It calls `spawn` once for a worker, whoever waits for it; it stops a worker
    that nobody needs any more when its load has ended; and only the newest run of a queen may use the hive. So the
    object needs to know its processes, and nothing else.

    What a method raises that is no error of rbee is `WorkerFault` for `spawn` and `HiveUnreachable` for the others, with
    the exception as its cause. Then the queen tries again, or goes elsewhere.

    A hive can have more:

    - `labels`, a dict: its labels for policies.
    - `watch(owner)`, a generator or an asynchronous generator of `HiveEvent`s: what happens on the machine by itself.
      Without it nothing does. The queen calls it first. `owner` grows with each run of a queen, so that a machine that
      several can reach can refuse all but the newest, by `rbee.Fenced`. It gives its first event when the machine is
      ready, `None` for instance, and ends when the connection to the machine does. A plain generator should give `None`
      once in a second if nothing happens, so that it can be closed.
    - `shutdown(grace)`: stops every worker and the machine. By default, its workers are stopped. It can be called again.
    - `provision(model, origin, progress)`: puts a model on the disk unless it is there, and returns a `ModelOnDisk`.
    - `remove_model(model)`: removes a model from the disk, unless it is gone.
    - `verify(model, progress)`: reads the files of a model again, and returns a `Damage` for each that is damaged.

    `rbee.conformance.check_hive` checks a hive. `examples/hive.py` of rbee's sources starts processes.

    Attributes:
        id: The name of the hive.

    Example:
        >>> class Shout:
        ...     def execute(self, run):
        ...         yield run.messages[-1]["content"].upper()
        >>> class Attic:
        ...     id = "attic"
        ...
        ...     def report(self):
        ...         device = rbee.Device(0, "cpu", "a processor", 8 << 30, 8 << 30)
        ...         return rbee.HiveReport(devices=[device], models=[rbee.ModelOnDisk("shout", 1 << 20)])
        ...
        ...     def spawn(self, worker, spec, progress):
        ...         return Shout()
        ...
        ...     def worker(self, worker):
        ...         raise rbee.NotFound(worker)
        ...
        ...     def stop(self, worker, grace):
        ...         pass
        >>> with rbee.Queen(local_hive=False, hives=[Attic()]) as queen:
        ...     print(queen.submit(model="shout", prompt="hello").result().text)
        HELLO
    """

    @property
    def id(self) -> str: ...

    def report(self) -> HiveReport | Awaitable[HiveReport]:
        """Returns what the machine has now."""
        ...

    def spawn(
        self, worker: str, spec: WorkerSpec, progress: ReportProgress, /
    ) -> SpawnedWorker | Awaitable[SpawnedWorker]:
        """Starts a worker, and returns it when it can be used.

        Args:
            worker: The id of the new worker.
            spec: What to start.
            progress: A function for the progress of the load.

        Raises:
            ModelNotFound: The machine does not have the model.
            ModelIncompatible: Its files are damaged, or the engine cannot read them.
            InsufficientVram: There is not enough free memory.
        """
        ...

    def worker(self, worker: str, /) -> Worker | Awaitable[Worker]:
        """Returns a worker that the machine has from before, to use it again. It has the attribute `model`.

        Raises:
            NotFound: There is no such worker.
        """
        ...

    def stop(self, worker: str, grace: float, /) -> None | Awaitable[None]:
        """Stops a worker, by force if it has not ended within the time. It can be called for one that does not exist.

        It can also be called while `spawn` still starts the worker: if that can be ended, `spawn` should raise.

        Args:
            worker: The id of the worker.
            grace: The time, in seconds.
        """
        ...
