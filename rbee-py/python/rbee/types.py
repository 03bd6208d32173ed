"""What the methods of rbee take and give: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Union

from . import _rbee

__all__ = [
    "ApiKey",
    "Assign",
    "Device",
    "End",
    "Event",
    "Explanation",
    "HiveStatus",
    "JobAnswer",
    "JobRecord",
    "Logprobs",
    "Metrics",
    "ModelDescription",
    "Placement",
    "PolicyDryRun",
    "PolicyReplay",
    "PolicyStatus",
    "Progress",
    "Pulled",
    "QueenStatus",
    "Reject",
    "ReplayReport",
    "Spawn",
    "Started",
    "Step",
    "TenantStatus",
    "Token",
    "TokenLogprob",
    "Usage",
    "Vectors",
    "Wait",
    "WorkerStatus",
]


@dataclass(frozen=True)
class Usage:
    """The tokens of a job.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens of the answer.
        cached_tokens: Tokens of the prompt that were in the worker's cache, if it reports them.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None


@dataclass(frozen=True)
class TokenLogprob:
    """A token with its log probability.

    Attributes:
        id: The id of the token.
        text: Its text.
        bytes: Its bytes, which need not be whole characters.
        logprob: The natural logarithm of its probability.
    """

    id: int | None
    text: str
    bytes: bytes
    logprob: float


@dataclass(frozen=True)
class Logprobs:
    """The log probabilities at one token of an answer.

    Attributes:
        chosen: The token of the answer.
        top: The most likely tokens, as many as the request asked for.
    """

    chosen: TokenLogprob
    top: list[TokenLogprob] = field(default_factory=list[TokenLogprob])


@dataclass(frozen=True)
class JobAnswer:
    """A complete answer.

    Attributes:
        text: The text.
        finish: Why it ended: `"stop"`, or `"length"` if it reached `max_tokens` or the end of the context.
        usage: The tokens.
        tokens: The ids of the tokens, if the engine reports them.
        logprobs: The log probabilities of the tokens, if the request asked for them.
        vectors: The vectors of an embedding request, one for each text.
        queue_wait: How long the job waited in the queue, in seconds.
        worker: The id of the worker that started it.
    """

    text: str
    finish: Literal["stop", "length"]
    usage: Usage
    tokens: list[int]
    logprobs: list[Logprobs]
    vectors: list[list[float]]
    queue_wait: float
    worker: str | None


@dataclass(frozen=True)
class Started:
    """An attempt of the job began on a worker.

    Attributes:
        seq: The number of the event, to attach after it; `None` for an event that is not kept.
        worker: The id of the worker.
        queue_wait: How long the job waited in the queue, in seconds.
    """

    seq: int | None
    worker: str | None
    queue_wait: float


@dataclass(frozen=True)
class Token:
    """A piece of the answer.

    Attributes:
        seq: The number of the event, to attach after it.
        text: The text; it can be empty, because a token can be a part of a character.
        id: The id of the token, if the engine reports it.
        logprobs: Its log probabilities, if the request asked for them.
    """

    seq: int | None = None
    text: str = ""
    id: int | None = None
    logprobs: Logprobs | None = None


@dataclass(frozen=True)
class Vectors:
    """The vectors of an embedding request.

    Attributes:
        seq: The number of the event.
        vectors: A vector for each text.
    """

    seq: int | None
    vectors: list[list[float]]


@dataclass(frozen=True)
class Metrics:
    """What the engine reports of a prompt.

    Attributes:
        seq: The number of the event.
        prompt_tokens: Tokens of the prompt.
        prefill: How long the engine read it, in seconds.
        cached_tokens: Tokens that were in its cache, if it reports them.
    """

    seq: int | None
    prompt_tokens: int
    prefill: float
    cached_tokens: int | None = None


@dataclass(frozen=True)
class End:
    """The end of a complete answer.

    Attributes:
        seq: The number of the event.
        finish: Why it ended: `"stop"` or `"length"`.
        usage: The tokens.
    """

    seq: int | None = None
    finish: Literal["stop", "length"] = "stop"
    usage: Usage = field(default_factory=Usage)


Event = Union[Started, Token, Vectors, Metrics, End]
"""What `Job.events` gives. An error is raised instead."""


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


@dataclass(frozen=True)
class PolicyStatus:
    """The active scheduling policy.

    Attributes:
        name: Its name.
        description: What it does, in a sentence.
        version: The number of the version, if it is recorded.
        text: Its text, if it is a script or rules.
        language: `"rhai"` or `"yaml"`.
        is_fixed: True if it cannot be changed while the queen runs.
    """

    name: str
    description: str
    version: int | None
    text: str | None
    language: str | None
    is_fixed: bool


@dataclass(frozen=True)
class Explanation:
    """A decision of a policy, with its reasons.

    Attributes:
        decision: What it decided.
        steps: The steps, a sentence each.
        candidates: Each worker and hive that it considered, with the verdict.
        job: The id of the job, in a dry run.
        model: The model of the job, in a dry run.
        recent: True if the job was really submitted, in a dry run.
    """

    decision: str
    steps: list[str]
    candidates: list[tuple[str, str]]
    job: str | None = None
    model: str | None = None
    recent: bool | None = None


@dataclass(frozen=True)
class PolicyDryRun:
    """What a policy would do now.

    Attributes:
        name: Its name.
        description: What it does, in a sentence.
        decisions: Its decisions about recent jobs, and about a job for each model.
    """

    name: str
    description: str
    decisions: list[Explanation]


@dataclass(frozen=True)
class ReplayReport:
    """What became of the jobs of a replay.

    Attributes:
        jobs: The number of jobs.
        completed: Those that completed.
        rejected: Those that never started, by the code of the error.
        failed: Those that started and failed, by the code of the error.
        spawns: Workers that were started.
        evictions: Workers that were unloaded for another model.
        downloads: Models that were downloaded.
        policy_faults: Decisions that the policy failed to make.
    """

    jobs: int
    completed: int
    rejected: dict[str, int]
    failed: dict[str, int]
    spawns: int
    evictions: int
    downloads: int
    policy_faults: int


@dataclass(frozen=True)
class PolicyReplay:
    """Recent jobs under a policy, next to the active one.

    Attributes:
        from_time: When the first of the jobs arrived, in seconds since 1970.
        is_cut: True if older jobs were left out.
        ignored: Jobs that cannot be replayed.
        current: What became of them under the active policy.
        candidate: The same under the policy that was given.
    """

    from_time: float
    is_cut: bool
    ignored: int
    current: ReplayReport
    candidate: ReplayReport


@dataclass(frozen=True)
class ApiKey:
    """A key of a tenant, without its text.

    Attributes:
        hash: Its SHA-256.
        label: What it is for.
        created_at: When it was issued, in seconds since 1970.
    """

    hash: str
    label: str
    created_at: float


@dataclass(frozen=True)
class TenantStatus:
    """A tenant.

    Attributes:
        id: Its name.
        limits: What it may use, as `put` takes it.
        keys: Its keys.
        used_today: The tokens that it has used today (UTC).
        live_jobs: Its jobs that have not ended.
    """

    id: str
    limits: dict[str, Any]
    keys: list[ApiKey]
    used_today: int
    live_jobs: int


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


_rbee.set_types(
    {
        made.__name__: made
        for made in (End, JobAnswer, Logprobs, Metrics, Progress, Started, Step, Token, TokenLogprob, Usage, Vectors)
    }
)
