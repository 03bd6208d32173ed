"""The settings of a queen, for type checkers and editors."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

__all__ = ["Settings"]


class Settings(TypedDict, total=False):
    """The settings of a queen: keyword arguments of `Queen`, with the same names and defaults as in Rust.

    Times are in seconds. `rbee.default_settings()` returns the defaults.

    Attributes:
        mode: `"home"`, or `"platform"` for strangers as tenants.
        default_limits: The limits of tenants that set none of their own.
        tenant_references: Which models tenants may name by reference: `"off"`, `"public"` or `"with_hub_token"`.
        tenant_models_budget: The disk that models may take that tenants named, in bytes.
        queue_capacity: From so many waiting jobs on, a new one is taken only if a worker is idle or its tenant
            waits for less than others; twice as many are the most.
        interactive_wait: How long an interactive job may wait in the queue.
        batch_wait: The same for a batch job.
        interactive_per_batch: How many interactive jobs start for each batch job, if both wait.
        job_timeout: How long a job may run, unless it says otherwise.
        max_job_timeout: The most that a job may say.
        retries: How often a job is tried again on another worker.
        retry_delay: The pause before the first of them.
        max_retry_delay: The longest pause.
        worker_faults: Faults in a row until a worker gets no more jobs, before a probe succeeds.
        stall_timeout: How long a worker may give no token.
        suspect_after: How long a worker may be silent until it gets no new jobs.
        restarts: How often in a row a queen may end uncleanly while a job runs, before the job fails.
        spawn_timeout: How long a model may take to load.
        provision_silence: How long a download may make no progress.
        abort_grace: How long a cancelled job, or a worker that is stopped, has to end.
        autoscale_interval: How often waiting jobs are matched with workers although nothing changed.
        scale_up_after: How long jobs wait until a model gets another worker.
        scale_back_after: How long such a further worker may be idle.
        keep_alive: How long an idle model stays loaded; `None` for as long as there is room.
        model_keep_alive: The same for single models.
        min_loaded: How long a model stays loaded at least.
        hive_memory: The memory that workers of a hive may take together, in bytes.
        probe_interval: How often hives and workers are asked for their state.
        probe_timeout: How long they may take to answer.
        hive_lost_after: How long a hive may be offline until its jobs go elsewhere.
        owner_lease: How long another queen waits until it takes over the jobs of one that is silent.
        events_kept: How long the events of a job are kept after its end.
        events_bytes: The memory for the events of ended jobs, in bytes.
        max_answer_bytes: The longest answer.
        max_prompt_bytes: The longest prompt.
        max_embed_inputs: The most texts of an embedding request, and the most documents of a rerank.
        decisions_kept: The number of decisions that can be explained.
        replay_jobs: The most jobs of a replay.
        replay_limit: How long a replay may take.
        keep_requests: Whether the registry keeps requests: `"until_done"`, `"never"` or `"always"`.
        continue_across_numerics: Continue answers on workers whose arithmetic differs.
    """

    mode: Literal["home", "platform"]
    default_limits: dict[str, Any]
    tenant_references: Literal["off", "public", "with_hub_token"]
    tenant_models_budget: int | None
    queue_capacity: int
    interactive_wait: float
    batch_wait: float
    interactive_per_batch: int
    job_timeout: float
    max_job_timeout: float
    retries: int
    retry_delay: float
    max_retry_delay: float
    worker_faults: int
    stall_timeout: float
    suspect_after: float
    restarts: int
    spawn_timeout: float
    provision_silence: float
    abort_grace: float
    autoscale_interval: float
    scale_up_after: float
    scale_back_after: float
    keep_alive: float | None
    model_keep_alive: dict[str, float]
    min_loaded: float
    hive_memory: dict[str, int]
    probe_interval: float
    probe_timeout: float
    hive_lost_after: float
    owner_lease: float
    events_kept: float
    events_bytes: int
    max_answer_bytes: int
    max_prompt_bytes: int
    max_embed_inputs: int
    decisions_kept: int
    replay_jobs: int
    replay_limit: float
    keep_requests: Literal["until_done", "never", "always"]
    continue_across_numerics: bool
