"""What a scheduler in Python answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from .. import _rbee

__all__ = [
    "Assign",
    "Placement",
    "Reject",
    "Spawn",
    "Wait",
]


@dataclass(frozen=True)
class Assign:
    """A scheduler's answer: run the job on this worker.

    Attributes:
        worker: The id of the worker.
    """

    worker: str


@dataclass(frozen=True)
class Spawn:
    """A scheduler's answer: start a worker on this hive; the job waits for whatever is free first.

    Attributes:
        hive: The name of the hive.
        devices: The devices to choose from; `None` for all.
        slots: How many jobs it runs at once; `None` for the usual number.
    """

    hive: str
    devices: list[int] | None = None
    slots: int | None = None


@dataclass(frozen=True)
class Wait:
    """A scheduler's answer: nothing can be done now. The question comes again when something has changed."""


@dataclass(frozen=True)
class Reject:
    """A scheduler's answer: the job ends with the error `Rejected`.

    Attributes:
        message: What its submitter reads.
    """

    message: str


Placement = Union[Assign, Spawn, Wait, Reject, "_rbee.WorkerView", "_rbee.HiveView", None]
"""What a scheduler's `place` returns. A worker of the cluster means `Assign`, a hive `Spawn`, and `None` `Wait`."""
