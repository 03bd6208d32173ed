"""Machines, workers and models, and the progress of work on them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "Device",
    "HiveStatus",
    "ModelDescription",
    "Progress",
    "Pulled",
    "Step",
    "WorkerStatus",
]


@dataclass(frozen=True)
class Progress:
    """The progress of a long operation.

    Attributes:
        done: The finished part, in bytes or in steps.
        total: The total, if it is known.
    """

    done: int
    total: int | None = None


@dataclass(frozen=True)
class Step:
    """A step on the way to a machine by SSH.

    Attributes:
        host: The machine; jump hosts have steps of their own.
        step: Its name: `"host_key"`, `"upload"`.
        state: `"started"`, `"sent"` or `"finished"`. A step that fails is raised instead.
        duration: How long it took, in seconds.
        detail: The result in a few words.
    """

    host: str
    step: str
    state: str
    duration: float | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Device:
    """What a machine computes with.

    Attributes:
        index: Its number on the machine; 0 is the processor.
        kind: `"cpu"`, `"cuda"` or `"metal"`.
        name: The name that its vendor gives it.
        memory_total: Its memory, in bytes.
        memory_free: Its free memory, in bytes.
    """

    index: int
    kind: str
    name: str
    memory_total: int
    memory_free: int


@dataclass(frozen=True)
class HiveStatus:
    """A machine of the fleet.

    Attributes:
        id: Its name.
        status: `"online"`, `"offline"` or `"error"`.
        address: How it is reached.
        error: Why it is not reachable.
        labels: Its labels.
        devices: What it computes with; `None` until it has reported.
        models: The models on its disk, with their sizes in bytes.
        workers: The number of its workers.
        draining: True if it gets no new workers.
    """

    id: str
    status: str
    address: str
    error: str | None
    labels: dict[str, str]
    devices: list[Device] | None
    models: dict[str, int]
    workers: int
    draining: bool


@dataclass(frozen=True)
class WorkerStatus:
    """A worker of the fleet.

    Attributes:
        id: Its id.
        hive: Its machine.
        model: The reference of its model.
        state: `"loading"`, `"ready"`, `"draining"` or `"failed"`.
        backend: The engine.
        devices: The numbers of its devices on the machine.
        slots: How many jobs it runs at once.
        free_slots: How many more it can take now.
        memory_bytes: The memory that it takes.
        pinned: True if it is never unloaded for another model.
        reachable: True if its machine answers.
    """

    id: str
    hive: str
    model: str
    state: str
    backend: str
    devices: list[int]
    slots: int
    free_slots: int
    memory_bytes: int
    pinned: bool
    reachable: bool


@dataclass(frozen=True)
class ModelDescription:
    """What is known of a model.

    Attributes:
        model: Its reference.
        bytes: The size of its files.
        context_tokens: The longest prompt and answer together.
    """

    model: str
    bytes: int | None
    context_tokens: int | None


@dataclass(frozen=True)
class Pulled:
    """A model on a machine's disk.

    Attributes:
        model: Its reference.
        bytes: The size of its files.
        hive: The machine.
    """

    model: str
    bytes: int
    hive: str
