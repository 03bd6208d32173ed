"""The rules for parts that are written in Python: each function checks one kind of part.

A rule that is broken is an `AssertionError` that names it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from . import _rbee
from .hive_backend import HiveBackend
from .parts import Scheduler, Worker
from .registry import Registry
from .types import WorkerSpec

__all__ = ["Clock", "check_hive", "check_registry", "check_scheduler", "check_worker", "check_worker_exit"]


class Clock:
    """A clock that a check can move, for a store that takes a clock: a function like `time.time`.

    Example:
        >>> clock = rbee.conformance.Clock()
        >>> before = clock()
        >>> clock.advance(60.0)
        >>> clock() - before
        60.0
    """

    def __init__(self) -> None:
        self._millis = int(time.time() * 1000)

    def __call__(self) -> float:
        """Returns the time in seconds since 1970."""
        return self._millis / 1000

    def millis(self) -> int:
        """Returns the time in milliseconds since 1970."""
        return self._millis

    def advance(self, seconds: float) -> None:
        """Moves the clock forward."""
        self._millis += round(seconds * 1000)


def check_hive(hive: HiveBackend, good: WorkerSpec, bad: WorkerSpec) -> None:
    """Checks a hive: subscriptions, reports, starting and stopping workers, models, and its end.

    The hive must not be in use. It is shut down at the end, and the model of `good` may be removed from its disk.

    Args:
        hive: The hive.
        good: The order for a worker that it can start.
        bad: One that it cannot start, because the model does not exist or is damaged.

    Raises:
        AssertionError: A rule is broken.

    Example:
        >>> class Idle:
        ...     def execute(self, run):
        ...         yield ""
        >>> class Attic:
        ...     id = "attic"
        ...     report = rbee.HiveReport
        ...
        ...     def spawn(self, worker, spec, progress):
        ...         if spec.model != "idle":
        ...             raise rbee.ModelNotFound(f"there is no model {spec.model}")
        ...         return Idle()
        ...
        ...     def worker(self, worker):
        ...         raise rbee.NotFound(worker)
        ...
        ...     def stop(self, worker, grace):
        ...         pass
        >>> rbee.conformance.check_hive(Attic(), rbee.WorkerSpec("idle"), rbee.WorkerSpec("busy"))
    """
    _rbee.check_hive(hive, good, bad).wait()


def check_worker_exit(hive: HiveBackend, good: WorkerSpec, kill: Callable[[str], object]) -> None:
    """Checks that a hive reports the end of a worker that nobody has asked to stop.

    Args:
        hive: The hive, which has the method `watch`. It must not be in use.
        good: The order for a worker that it can start.
        kill: A function that ends the worker with this id, without `stop`.

    Raises:
        AssertionError: The hive does not report it.
    """
    _rbee.check_worker_exit(hive, good, kill).wait()


def check_registry(fresh: Callable[[], Callable[[], Registry]], *, clock: Clock | None = None) -> None:
    """Checks a store: epochs, leases, takeovers, jobs, their ends, other rows, and listings.

    Args:
        fresh: A function that makes an empty store, and returns a function that opens it: each call of that one is
            like another process that opens the store. Objects that it has returned before may still be in use; when
            all of them are gone, the next one is like the first after a restart.
        clock: The clock that the store uses. Without one, the check waits some seconds until leases run out.

    Raises:
        AssertionError: A rule is broken.

    Example:
        >>> class Amnesia:
        ...     "Forgets everything but the number of its runs."
        ...
        ...     epoch = 0
        ...
        ...     def open(self, queen, lease):
        ...         Amnesia.epoch += 1
        ...         return self.renew(self.epoch)
        ...
        ...     def renew(self, epoch):
        ...         return {"epoch": epoch, "jobs": [], "hives": [], "models": [], "workers": [], "tenants": []}
        ...
        ...     def record(self, epoch, changes):
        ...         pass
        ...
        ...     def release(self, epoch):
        ...         pass
        ...
        ...     def jobs(self, filter):
        ...         return []
        ...
        ...     def policies(self, filter):
        ...         return []
        >>> def fresh():
        ...     return Amnesia
        >>> try:
        ...     rbee.conformance.check_registry(fresh)
        ... except AssertionError as broken:
        ...     print("must be handed over" in str(broken))
        True
    """
    _rbee.check_registry(fresh, clock).wait()


def check_scheduler(scheduler: Scheduler) -> None:
    """Checks a scheduler with many clusters and jobs: its answers must be possible, and the same for the same question.

    Raises:
        AssertionError: A rule is broken.

    Example:
        >>> class First:
        ...     def place(self, job, cluster):
        ...         return next(iter(cluster.available(job)), None)
        >>> rbee.conformance.check_scheduler(First())
    """
    _rbee.check_scheduler(scheduler)


def check_worker(worker: Worker, prompt: str, *, seed: int = 11, promptness: float = 5.0) -> None:
    """Checks a worker: answers, slots, cancelling, seeds, stop texts, and what its attributes promise.

    It takes some seconds to minutes, depending on the model. The worker must not be in use.

    Args:
        worker: The worker.
        prompt: A text that it continues with 24 tokens or more.
        seed: The seed of the answers that are compared.
        promptness: How long what needs no computation may take, in seconds: refusing a run, ending a cancelled one.

    Raises:
        AssertionError: A rule is broken.
    """
    _rbee.check_worker(worker, prompt, seed, promptness, None).wait()
