"""What is known of jobs and of their queen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "JobRecord",
    "QueenStatus",
]


@dataclass(frozen=True)
class JobRecord:
    """What the registry has of a job.

    Attributes:
        id: Its id.
        tenant: Its tenant, if it has one.
        model: The reference of its model.
        priority: `"interactive"` or `"batch"`.
        state: `"queued"`, `"running"`, `"complete"`, `"failed"` or `"cancelled"`.
        order: Its place in the order of submission, for `before` of `jobs`.
        submitted_at: When it was submitted, in seconds since 1970.
        completed_at: When it ended.
        attempts: Attempts that began.
        correlation_id: The mark of its lines in the log.
        tokens: Tokens of the answer so far.
        text: The answer, if it is stored: that of a detached job, as far as it is there.
        error: The message of its error.
    """

    id: str
    tenant: str | None
    model: str
    priority: Literal["interactive", "batch"]
    state: Literal["queued", "running", "complete", "failed", "cancelled"]
    order: int
    submitted_at: float
    completed_at: float | None
    attempts: int
    correlation_id: str
    tokens: int
    text: str | None
    error: str | None


@dataclass(frozen=True)
class QueenStatus:
    """The state of a queen.

    Attributes:
        id: Its name.
        jobs: Jobs that have not ended.
        waiting: Jobs in the queue.
        running: Attempts that run.
        loading: Workers that are being started.
        store_error: Why the registry cannot be written, or `None`.
        restored: The ids of unfinished jobs of an earlier run, which this one took over.
    """

    id: str
    jobs: int
    waiting: int
    running: int
    loading: int
    store_error: str | None
    restored: list[str]
