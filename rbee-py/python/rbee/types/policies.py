"""Scheduling policies, and what they decide."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "Explanation",
    "PolicyDryRun",
    "PolicyReplay",
    "PolicyStatus",
    "ReplayReport",
]


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
