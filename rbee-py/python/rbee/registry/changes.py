"""The changes of a store, and the filters of its listings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from .rows import HiveRecord, JobRecord, JobState, ModelRecord, Outcome, PolicyRecord, TenantRecord, TokenChunk, WorkerRecord

__all__ = [
    "Change",
    "HiveChange",
    "HiveGone",
    "HivePut",
    "JobChange",
    "JobEnded",
    "JobErased",
    "JobFilter",
    "JobQueued",
    "JobRequeued",
    "JobRunning",
    "JobTokens",
    "JobVectors",
    "ModelGone",
    "ModelPut",
    "PolicyFilter",
    "PolicyPut",
    "TenantGone",
    "TenantPut",
    "WorkerGone",
    "WorkerPut",
]


@dataclass(frozen=True)
class JobChange:
    """A change to a job. Only the run that owns the job may write it.

    A job that the store does not know is ignored, unless the change is `JobQueued`. A job that has ended stays as it is.

    Attributes:
        job: The id of the job.
    """

    job: str


@dataclass(frozen=True)
class JobQueued(JobChange):
    """A job was accepted. The run that records it becomes its owner. A job that is stored already stays as it is.

    Attributes:
        record: The job.
    """

    record: JobRecord


@dataclass(frozen=True)
class JobRunning(JobChange):
    """An attempt begins: the job is running.

    Attributes:
        worker: The id of the worker.
        attempt: 1 for the first; it becomes the `attempts` of the job.
        at: The time. It becomes the `started_at` of a job that has none.
        numerics: The numerics of the worker. They replace the stored ones only while no chunk is stored.
        format: The syntax of the worker's answers, as JSON. It replaces the stored one together with the numerics.
    """

    worker: str
    attempt: int
    at: int
    numerics: str
    format: dict[str, str]


@dataclass(frozen=True)
class JobRequeued(JobChange):
    """The attempt is over: the job is queued again, on no worker.

    Attributes:
        attempts: The begun attempts that count.
    """

    attempts: int


@dataclass(frozen=True)
class JobTokens(JobChange):
    """A part of the answer. It sets `restarts` to 0.

    It counts only if exactly `position` chunks are stored; else it is ignored, so that a late or repeated one does no
    harm.

    Attributes:
        position: The number of chunks before these.
        chunks: The chunks.
    """

    position: int
    chunks: list[TokenChunk]


@dataclass(frozen=True)
class JobVectors(JobChange):
    """The vectors of an answer. They replace the stored ones.

    Attributes:
        vectors: A vector for each input; for a rerank, one list of scores.
    """

    vectors: list[list[float]]


@dataclass(frozen=True)
class JobEnded(JobChange):
    """The job ended. A job that has ended already keeps its first end.

    Attributes:
        outcome: How it has ended; `outcome["kind"]` is its state.
        at: When it ended.
        used_tokens: Tokens that its tenant used for it. They are added to the tenant's usage of that day (UTC).
        keep_request: True if its request stays.
        keep_output: True if its chunks and its vectors stay. Then `output_kept` is set.
    """

    outcome: Outcome
    at: int
    used_tokens: int
    keep_request: bool
    keep_output: bool


@dataclass(frozen=True)
class JobErased(JobChange):
    """The texts of a job that has ended are erased: its request, its chunks and its vectors; `output_kept` is unset.

    Any run may write it, not only the owner of the job. A job that has not ended stays as it is.
    """


@dataclass(frozen=True)
class HiveChange:
    """A change to a hive, or to what is on it. Only the run that owns the hive may write it.

    Attributes:
        hive: The name of the hive.
    """

    hive: str


@dataclass(frozen=True)
class HivePut(HiveChange):
    """A hive was added or has changed. The run that records it becomes its owner.

    Attributes:
        record: The hive.
    """

    record: HiveRecord


@dataclass(frozen=True)
class HiveGone(HiveChange):
    """A hive was removed, with its models and the records of its workers."""


@dataclass(frozen=True)
class ModelPut(HiveChange):
    """A model is on the disk of a hive. If the store does not know the hive, this is ignored.

    Attributes:
        model: The reference of the model.
        record: The model.
    """

    model: str
    record: ModelRecord


@dataclass(frozen=True)
class ModelGone(HiveChange):
    """A model is no longer on the disk of a hive.

    Attributes:
        model: The reference of the model.
    """

    model: str


@dataclass(frozen=True)
class WorkerPut(HiveChange):
    """The record of a worker is new or has changed. If the store does not know the hive, this is ignored.

    Attributes:
        worker: The id of the worker.
        record: The record.
    """

    worker: str
    record: WorkerRecord


@dataclass(frozen=True)
class WorkerGone(HiveChange):
    """The record of a worker is no longer needed.

    Attributes:
        worker: The id of the worker.
    """

    worker: str


@dataclass(frozen=True)
class TenantPut:
    """A tenant was added, or has changed. Its usage stays as the store has counted it.

    Attributes:
        tenant: The name of the tenant.
        record: The tenant.
    """

    tenant: str
    record: TenantRecord


@dataclass(frozen=True)
class TenantGone:
    """A tenant was removed. Its usage of today is kept, in case it is added again.

    Attributes:
        tenant: The name of the tenant.
    """

    tenant: str


@dataclass(frozen=True)
class PolicyPut:
    """A version of the policy became active. The store keeps the newest 100.

    A version that is stored already stays as it is.

    Attributes:
        version: The number of the version.
        record: The version.
    """

    version: int
    record: PolicyRecord


Change = Union[
    JobQueued,
    JobRunning,
    JobRequeued,
    JobTokens,
    JobVectors,
    JobEnded,
    JobErased,
    HivePut,
    HiveGone,
    ModelPut,
    ModelGone,
    WorkerPut,
    WorkerGone,
    TenantPut,
    TenantGone,
    PolicyPut,
]
"""One write. A newer rbee may have more kinds; a store should raise an error for a kind that it does not know."""


@dataclass(frozen=True)
class JobFilter:
    """The filter of a listing of jobs.

    Attributes:
        id: Only this job.
        tenant: Only jobs of this tenant.
        states: Only jobs in one of these states; all if empty.
        before: Only jobs whose `order` is less than this.
        limit: The most jobs to list; 1 to 1,000.
        with_text: Include `request`, `chunks` and `vectors`. Otherwise they are `None`, `[]` and `None`.
    """

    id: str | None
    tenant: str | None
    states: list[JobState]
    before: int | None
    limit: int
    with_text: bool


@dataclass(frozen=True)
class PolicyFilter:
    """The filter of a listing of policies.

    Attributes:
        version: Only this version.
        limit: The most versions to list: the newest.
    """

    version: int | None
    limit: int
