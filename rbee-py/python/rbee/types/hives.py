"""What hives in Python take and give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Union

from .fleet import Device

__all__ = [
    "Damage",
    "Exited",
    "HiveEvent",
    "HiveReport",
    "ModelOnDisk",
    "ModelOrigin",
    "WorkerSpec",
]


@dataclass(frozen=True)
class ModelOnDisk:
    """A model on the disk of a machine.

    Attributes:
        model: Its reference.
        bytes: The size of its files. The memory that a worker needs is estimated with it.
    """

    model: str
    bytes: int


@dataclass(frozen=True)
class HiveReport:
    """What a hive says of its machine.

    Attributes:
        devices: What models can be loaded on. Without devices, no policy starts workers there.
        models: The models on its disk.
        workers: The ids of workers that the hive has from before, which the queen uses again. Those that were started
            since can be left out.
    """

    devices: Sequence[Device] = ()
    models: Sequence[ModelOnDisk] = ()
    workers: Sequence[str] = ()


@dataclass(frozen=True)
class Exited:
    """An event: a worker ended, and nobody had asked it to stop.

    Attributes:
        worker: The id of the worker.
        reason: Why, with the last output of its engine if there is any.
    """

    worker: str
    reason: str


HiveEvent = Union[HiveReport, Exited, None]
"""What `watch` of a hive gives. `None` means that nothing has happened."""


@dataclass(frozen=True)
class WorkerSpec:
    """The order to start a worker.

    Attributes:
        model: The reference of the model to load.
        slots: How many jobs it runs at once, if the engine supports that.
        devices: The numbers of the devices to load it on.
        need_bytes: The expected memory, over all its devices.
    """

    model: str
    slots: int = 1
    devices: list[int] = field(default_factory=list[int])
    need_bytes: int = 0


@dataclass(frozen=True)
class Damage:
    """A damaged file of a model.

    Attributes:
        file: Its path in the model.
        expected: The digest that it should have: `"sha256:"` and 64 digits.
        found: The digest that it has; `None` if it is missing.
        kept: Where it was moved to, if it was.
    """

    file: str
    expected: str
    found: str | None = None
    kept: str | None = None


ModelOrigin = Literal["here", "hub"]
"""Where a model comes from: from the machine itself, or from a model hub."""
