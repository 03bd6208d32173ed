"""The rules for parts that are written in Python: each function checks one kind of part.

A rule that is broken is an `AssertionError` that names it.
"""

from __future__ import annotations

from . import _rbee
from .parts import Scheduler, Worker

__all__ = ["check_scheduler", "check_worker"]


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
