"""The exceptions of rbee: one class for each kind of error, below `RbeeError`.

A class is also a builtin where one fits: `JobTimeout` is a `TimeoutError`, `ModelNotFound` a `KeyError`.
"""

from __future__ import annotations

from typing import ClassVar

from . import _rbee

__all__ = [
    "Cancelled",
    "Config",
    "Conflict",
    "ContextExceeded",
    "DeadlineExceeded",
    "DiskInUse",
    "Fenced",
    "HiveUnreachable",
    "HubUnreachable",
    "InsufficientVram",
    "Internal",
    "Interrupted",
    "InvalidRequest",
    "JobTimeout",
    "MethodNotAllowed",
    "ModelIncompatible",
    "ModelNotFound",
    "NotFound",
    "PayloadTooLarge",
    "PermissionDenied",
    "QueenRestarted",
    "QueueTimeout",
    "QuotaExceeded",
    "RateLimited",
    "RbeeError",
    "Rejected",
    "ShuttingDown",
    "SpawnTimeout",
    "Storage",
    "SystemAtCapacity",
    "Unauthorized",
    "Unsupported",
    "UnsupportedMediaType",
    "WorkerBusy",
    "WorkerFault",
    "WorkerLost",
    "WorkerUnreachable",
]


class RbeeError(Exception):
    """The base of all errors of rbee.

    Attributes:
        kind: The code of the kind, as the HTTP API has it: `MODEL_NOT_FOUND`.
        is_retryable: True if rbee tries a job that fails so again by itself, on another worker.
        param: The name of the parameter that is wrong, if there is one.
        retry_after: After how many seconds to try again, if that is known.
    """

    kind: ClassVar[str] = "INTERNAL"
    is_retryable: ClassVar[bool] = False
    param: str | None = None
    retry_after: float | None = None

    def __str__(self) -> str:
        # `KeyError` would quote the message.
        return str(self.args[0]) if len(self.args) == 1 else Exception.__str__(self)


class InvalidRequest(RbeeError, ValueError):
    """A value is malformed or out of range."""

    kind = "INVALID_REQUEST"


class Unsupported(RbeeError, NotImplementedError):
    """A well-formed request that the worker or backend cannot fulfil."""

    kind = "UNSUPPORTED"


class ContextExceeded(RbeeError, ValueError):
    """The prompt does not fit into the context of the model."""

    kind = "CONTEXT_EXCEEDED"


class Unauthorized(RbeeError, PermissionError):
    """No token, or a wrong one."""

    kind = "UNAUTHORIZED"


class PermissionDenied(RbeeError, PermissionError):
    """The token is valid, but does not allow this."""

    kind = "PERMISSION_DENIED"


class NotFound(RbeeError, KeyError):
    """A job, hive or worker of that name does not exist."""

    kind = "NOT_FOUND"


class MethodNotAllowed(RbeeError):
    """The path exists, but does not accept this method."""

    kind = "METHOD_NOT_ALLOWED"


class Conflict(RbeeError):
    """A thing of that name exists already and differs."""

    kind = "CONFLICT"


class PayloadTooLarge(RbeeError, ValueError):
    """The body, or a part of it, is larger than allowed."""

    kind = "PAYLOAD_TOO_LARGE"


class UnsupportedMediaType(RbeeError):
    """The content type of the body is not accepted."""

    kind = "UNSUPPORTED_MEDIA_TYPE"


class ModelNotFound(RbeeError, KeyError):
    """The model is not known, or its files are missing."""

    kind = "MODEL_NOT_FOUND"


class ModelIncompatible(RbeeError):
    """The files exist, but are damaged or of a kind that the worker does not support."""

    kind = "MODEL_INCOMPATIBLE"


class InsufficientVram(RbeeError, MemoryError):
    """No device has enough free memory for the model."""

    kind = "INSUFFICIENT_VRAM"


class QuotaExceeded(RbeeError):
    """The tenant's budget or number of concurrent jobs is used up."""

    kind = "QUOTA_EXCEEDED"


class RateLimited(RbeeError):
    """The tenant sends requests too often."""

    kind = "RATE_LIMITED"


class SystemAtCapacity(RbeeError):
    """The queue is at its limit and no worker is idle."""

    kind = "SYSTEM_AT_CAPACITY"


class Rejected(RbeeError):
    """The scheduling policy refused the job."""

    kind = "REJECTED"


class QueueTimeout(RbeeError, TimeoutError):
    """The job waited in the queue for as long as its priority allows."""

    kind = "QUEUE_TIMEOUT"


class JobTimeout(RbeeError, TimeoutError):
    """The job ran for as long as it is allowed to."""

    kind = "JOB_TIMEOUT"


class DeadlineExceeded(RbeeError, TimeoutError):
    """The deadline that the client set has passed or cannot be met."""

    kind = "DEADLINE_EXCEEDED"


class Cancelled(RbeeError):
    """The client cancelled the job, or disconnected."""

    kind = "CANCELLED"


class WorkerBusy(RbeeError):
    """All slots of the worker were taken in the meantime.

    Does not use up an attempt of the job.
    """

    kind = "WORKER_BUSY"
    is_retryable = True


class WorkerLost(RbeeError):
    """The worker, or the connection to it, is gone."""

    kind = "WORKER_LOST"
    is_retryable = True


class WorkerUnreachable(RbeeError, ConnectionError):
    """An attempt could not begin on the worker, or ended there for a reason that the job cannot have caused: nothing listens, the worker was stopped on purpose, or it was lost with its machine.

    Does not use up an attempt of the job.
    """

    kind = "WORKER_UNREACHABLE"
    is_retryable = True


class WorkerFault(RbeeError):
    """The worker broke its contract: it failed, stalled, panicked or sent invalid data."""

    kind = "WORKER_FAULT"
    is_retryable = True


class SpawnTimeout(RbeeError, TimeoutError):
    """A model was not loaded in time."""

    kind = "SPAWN_TIMEOUT"
    is_retryable = True


class HiveUnreachable(RbeeError, ConnectionError):
    """The machine cannot be reached."""

    kind = "HIVE_UNREACHABLE"
    is_retryable = True


class HubUnreachable(RbeeError, ConnectionError):
    """The model hub did not answer, or its answer was not valid."""

    kind = "HUB_UNREACHABLE"
    is_retryable = True


class QueenRestarted(RbeeError):
    """The queen was restarted while the job ran, and the job must not be run again."""

    kind = "QUEEN_RESTARTED"


class ShuttingDown(RbeeError):
    """The queen is shutting down and accepts no more jobs."""

    kind = "SHUTTING_DOWN"


class Interrupted(RbeeError):
    """The events of a job stopped before its end, because the queen is shutting down or another queen now owns the job.

    The job may go on: request it by its id, or with its idempotency key.
    """

    kind = "JOB_INTERRUPTED"


class Storage(RbeeError):
    """The durable store cannot be written or read; nothing was accepted."""

    kind = "STORAGE"


class DiskInUse(RbeeError):
    """A hive's budget for models is large enough, but models that are in use or being downloaded take too much of it."""

    kind = "DISK_IN_USE"
    is_retryable = True


class Fenced(RbeeError):
    """Another queen owns the row that was to be written."""

    kind = "FENCED"


class Config(RbeeError, ValueError):
    """A setting is unknown or out of range."""

    kind = "CONFIG"


class Internal(RbeeError):
    """A defect in rbee or in code that it was given (for example a policy that panicked)."""

    kind = "INTERNAL"


_CLASSES: dict[str, type[RbeeError]] = {
    found.kind: found
    for found in list(globals().values())
    if isinstance(found, type) and issubclass(found, RbeeError) and found is not RbeeError
}

_rbee.set_error_classes(_CLASSES)
