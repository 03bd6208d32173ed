"""The rows of a store."""

from __future__ import annotations

from typing import Any, Literal, TypedDict, Union

__all__ = [
    "ApiKeyRecord",
    "Cancelled",
    "Complete",
    "Failed",
    "HiveRecord",
    "JobRecord",
    "JobState",
    "ModelRecord",
    "Outcome",
    "PolicyRecord",
    "Snapshot",
    "TenantRecord",
    "TokenChunk",
    "WorkerRecord",
]

JobState = Literal["queued", "running", "complete", "failed", "cancelled"]
"""The state of a job. The first two are live: the job has not ended."""

TokenChunk = dict[str, Any]
"""One stored token of an answer, as JSON that the store keeps as it is."""


class Complete(TypedDict):
    """The job ended normally.

    Attributes:
        kind: The state of the job.
        finish: The reason: `"stop"` or `"length"`.
        usage: The tokens; `usage["completion_tokens"]` are those of the answer.
        stop_text: The stop text that ended the answer, if one did. Rows of earlier versions do not have it.
    """

    kind: Literal["complete"]
    finish: Literal["stop", "length"]
    usage: dict[str, int]
    stop_text: str | None


class Failed(TypedDict):
    """The job ended with an error.

    Attributes:
        kind: The state of the job.
        error: The error, as JSON that the store keeps as it is.
    """

    kind: Literal["failed"]
    error: dict[str, Any]


class Cancelled(TypedDict):
    """The job was cancelled.

    Attributes:
        kind: The state of the job.
    """

    kind: Literal["cancelled"]


Outcome = Union[Complete, Failed, Cancelled]
"""How a job has ended. Its `kind` is the state of the job."""


class JobRecord(TypedDict):
    """A stored job. (`rbee.JobRecord` is what `Queen.jobs` shows of it.)

    Attributes:
        id: The id of the job.
        tenant: Its tenant, if it has one.
        model: The reference of its model.
        priority: Its priority.
        state: Its state.
        worker: The worker that runs it, or ran it last if it has ended; `None` if it waits.
        started_at: The time of its first start; retries do not change it.
        completed_at: When it ended.
        outcome: How it has ended; `None` while it is live.
        order: Its position in the queue: lower goes first.
        submitted_at: When it was submitted.
        attempts: Begun attempts that count, including the current one.
        restarts: How often in a row it was taken over while it ran, without more of its answer recorded in between.
        correlation_id: The mark of its lines in the log.
        idempotency: Its idempotency key, as JSON, if it was submitted with one.
        owner: The epoch of the run that owns it.
        request: Everything needed to run it, as JSON; `None` if it is not kept, or was erased.
        outline: The part of the request that is always kept, as JSON; it has no text.
        numerics: What the numbers of the worker depend on that generated the first chunks.
        format: The syntax of the answer, as JSON.
        chunks: The recorded part of its answer.
        vectors: The vectors of its answer, if it has vectors and they are kept.
        output_kept: True if the job has ended and its whole answer is stored.
        taken_over: True if a run took it over from another while it was live.
        tokens_generated: Tokens of the answer: the recorded ones while it is live, those of its usage afterwards.
    """

    id: str
    tenant: str | None
    model: str
    priority: Literal["interactive", "batch"]
    state: JobState
    worker: str | None
    started_at: int | None
    completed_at: int | None
    outcome: Outcome | None
    order: int
    submitted_at: int
    attempts: int
    restarts: int
    correlation_id: str
    idempotency: dict[str, Any] | None
    owner: int
    request: dict[str, Any] | None
    outline: dict[str, Any] | None
    numerics: str | None
    format: dict[str, str]
    chunks: list[TokenChunk]
    vectors: list[list[float]] | None
    output_kept: bool
    taken_over: bool
    tokens_generated: int


class HiveRecord(TypedDict):
    """A stored hive.

    Attributes:
        id: Its name.
        hostname: The host name of the machine.
        port: The port of its HTTP API; 0 if it has none.
        address: How it is reached, as JSON.
        capabilities: Devices, backends and models, as JSON.
        last_seen: The time of its last answer.
        status: Its reachability.
        labels: Its labels.
    """

    id: str
    hostname: str
    port: int
    address: dict[str, Any]
    capabilities: Any
    last_seen: int
    status: Literal["online", "offline", "error"]
    labels: dict[str, str]


class ModelRecord(TypedDict):
    """A model on the disk of a hive.

    Attributes:
        hive: The hive.
        model: The reference of the model.
        bytes: Its size, in bytes.
        checksum: The SHA-256 of its files, if it is known.
        last_used: The time at which a worker last loaded it.
    """

    hive: str
    model: str
    bytes: int
    checksum: str | None
    last_used: int


class WorkerRecord(TypedDict):
    """Flags of a worker that survive a restart.

    Attributes:
        worker: The id of the worker.
        hive: Its hive.
        pinned: True if an operator has pinned it.
        replica: True if it was started in addition to others of its model.
    """

    worker: str
    hive: str
    pinned: bool
    replica: bool


class ApiKeyRecord(TypedDict):
    """A key of a tenant, without its text.

    Attributes:
        hash: Its SHA-256.
        label: What it is for.
        created_at: When it was issued.
    """

    hash: str
    label: str
    created_at: int


class TenantRecord(TypedDict):
    """A stored tenant.

    Attributes:
        id: Its name.
        limits: Its limits, as JSON.
        keys: Its keys.
        used_tokens: Tokens used on the day (UTC) of the snapshot. The store counts them itself, with the ends of jobs;
            what a `TenantPut` says of them does not count.
    """

    id: str
    limits: dict[str, Any]
    keys: list[ApiKeyRecord]
    used_tokens: int


class PolicyRecord(TypedDict):
    """A stored version of the scheduling policy.

    Attributes:
        version: Its number.
        at: When it became active.
        hash: The SHA-256 of its text.
        origin: Who activated it.
        language: The language of its text.
        text: The text.
    """

    version: int
    at: int
    hash: str
    origin: Literal["application", "operator", "rollback", "reset"]
    language: Literal["rhai", "yaml"]
    text: str


class Snapshot(TypedDict):
    """What a run of a queen gets of the store.

    Attributes:
        epoch: The epoch of the run.
        jobs: Live jobs that the run owns now, in the order of the queue, with their requests and chunks.
        hives: Hives that it owns now.
        models: The models on those hives.
        workers: The records of workers on those hives.
        tenants: All tenants.
    """

    epoch: int
    jobs: list[JobRecord]
    hives: list[HiveRecord]
    models: list[ModelRecord]
    workers: list[WorkerRecord]
    tenants: list[TenantRecord]
