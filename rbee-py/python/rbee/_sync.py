"""The classes for threads. Made of `_async.py` by `tools/make_sync.py`."""

from __future__ import annotations

import builtins
import tempfile
from collections.abc import Iterator, Callable, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from . import _rbee
from ._done import waited as done
from ._done import no_loop as loop_of_workers
from ._metrics import parsed as parsed_metrics
from ._programs import BUNDLED_MODEL, bundled_model, data_dir, program
from ._read import dry_run, hive_status, replay, tenant_status
from .hives import SshHive, UrlHive
from .types import (
    Event,
    Explanation,
    HiveStatus,
    JobAnswer,
    JobRecord,
    ModelDescription,
    PolicyDryRun,
    PolicyReplay,
    PolicyStatus,
    Progress,
    Pulled,
    QueenStatus,
    TenantStatus,
    WorkerStatus,
)

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ._settings import Settings
    from .parts import Scheduler, Worker

__all__ = [
    "Fleet",
    "Job",
    "Models",
    "Policy",
    "Queen",
    "Server",
    "Tenants",
]


class Queen:
    """An orchestrator for language models, inside this process.

    It accepts requests, keeps them in a queue, selects the worker that runs each one, and streams the tokens back.
    Models run in worker processes of this machine, and of other machines that are in its fleet. `bee-tiny`, the small
    model of the package, is there at once.

    Nothing happens before `open`, which `with` calls.

    Args:
        id: The name of the queen. A queen that is opened again on the same registry should have the same name.
        registry: The file of the durable queue, which is made if it does not exist. Without it, jobs are in memory.
        data_dir: The directory for the files of this machine's workers; by default a temporary one.
        models_dir: The directory of downloaded models; by default the one that the daemon has too.
        models_budget: The disk that downloaded models may take, in bytes.
        offline: Download nothing.
        aliases: Short names of models: `{"llama": "hf:org/repo"}` or `{"mine": "/models/mine.gguf"}`.
        context: The longest prompt and answer together of this machine's workers, in tokens; the model's own limit if
            it is less.
        local_hive: Run models on this machine.
        hives: Other machines.
        workers: Objects of the application that are workers: models that it runs itself.
        scheduler: An object with a method `place(job, cluster)` that selects the worker of each job.
        seed: The seed of what is random in the queen, for tests.
        **settings: All other settings; see `Settings`.

    Example:
        >>> with rbee.Queen() as queen:
        ...     job = queen.submit(prompt="What is a bee?", seed=1, max_tokens=8)
        ...     answer = job.result()
        >>> answer.usage.completion_tokens
        8
    """

    def __init__(
        self,
        *,
        id: str | None = None,
        registry: str | PathLike[str] | None = None,
        data_dir: str | PathLike[str] | None = None,
        models_dir: str | PathLike[str] | None = None,
        models_budget: int | None = None,
        offline: bool = False,
        aliases: Mapping[str, str | PathLike[str]] | None = None,
        context: int | None = None,
        local_hive: bool = True,
        hives: Sequence[SshHive | UrlHive] = (),
        workers: Sequence[Worker] = (),
        scheduler: Scheduler | None = None,
        seed: int | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        self._given: dict[str, Any] = {
            "id": id,
            "registry": registry,
            "models_dir": models_dir,
            "models_budget": models_budget,
            "offline": offline,
            "aliases": _references(aliases or {}),
            "context": context,
            "hives": list(hives),
            "workers": list(workers),
            "scheduler": scheduler,
            "seed": seed,
            "settings": dict(settings),
        }
        self._local_hive = local_hive
        self._data_dir = data_dir
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._core: _rbee.QueenCore | None = None

    def open(self) -> Self:
        """Opens the queen, unless it is open.

        Returns:
            The queen itself.

        Raises:
            Config: A setting is not allowed, or a file cannot be used.
            Storage: The registry cannot be opened.
        """
        if self._core is not None:
            return self
        options = dict(self._given)
        options["event_loop"] = loop_of_workers()
        if options["models_dir"] is None:
            options["models_dir"] = data_dir() / "models-fetched"
        if self._local_hive:
            options["program"] = program()
            if self._data_dir is None:
                # It is removed at the exit too, after the workers have ended.
                self._temporary = tempfile.TemporaryDirectory(prefix="rbee-", ignore_cleanup_errors=True)
            directory = self._temporary.name if self._temporary else self._data_dir
            options["local_hive"] = Path(fspath(directory or "")) / "hive"
            bundled = bundled_model()
            if bundled is not None:
                options["aliases"] = {BUNDLED_MODEL: f"file:{bundled}", **options["aliases"]}
        try:
            self._core = done(_rbee.open(options))
        except BaseException:
            self._remove_files()
            raise
        return self

    def close(self, grace: float = 30.0) -> None:
        """Closes the queen: it accepts no more jobs, gives the existing ones time to end, and ends its workers.

        Jobs that have not ended by then stay in the registry for the next run, if there is one.

        Args:
            grace: How long jobs have to end, in seconds.
        """
        core, self._core = self._core, None
        try:
            if core is not None:
                done(core.shutdown(grace))
        finally:
            self._remove_files()

    def _remove_files(self) -> None:
        directory, self._temporary = self._temporary, None
        if directory is not None:
            directory.cleanup()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A program that fails does not wait for its jobs.
        self.close(30.0 if kind is None else 0.0)

    def __repr__(self) -> str:
        state = "closed" if self._core is None else "open"
        return f"<rbee.{type(self).__name__} {self._given['id'] or ''}({state})>"

    def __reduce__(self) -> str:
        raise TypeError(f"{type(self).__name__} cannot be pickled: its threads and workers are in this process")

    @property
    def _open(self) -> _rbee.QueenCore:
        if self._core is None:
            raise RuntimeError("this queen is not open; use it inside `with`, or call open() first")
        return self._core

    def submit(
        self,
        *,
        model: str = BUNDLED_MODEL,
        messages: Sequence[Mapping[str, Any]] | None = None,
        prompt: str | None = None,
        raw: bool = False,
        max_tokens: int | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logit_bias: Mapping[int, float] | None = None,
        logprobs: int | None = None,
        min_tokens: int = 0,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
        priority: Literal["interactive", "batch"] = "interactive",
        tenant: str | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        detached: bool = False,
        correlation_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Submits a request. The job is in the queue when this returns, and in the registry if there is one.

        Args:
            model: An alias or a reference of a model.
            messages: The turns of a chat: mappings with `role` and `content`.
            prompt: One turn of a user, instead of messages.
            raw: Take the prompt as it is, without the model's template.
            max_tokens: The longest answer, in tokens.
            temperature: 0 for the most likely token each time, up to 2.
            top_p: Only the most likely tokens that have this probability together.
            top_k: Only this many most likely tokens; 0 for all.
            min_p: Only tokens that are this fraction as likely as the most likely one.
            repetition_penalty: Makes tokens that are there already less likely, if above 1.
            presence_penalty: The same by a fixed amount, -2 to 2.
            frequency_penalty: The same for each time that they are there, -2 to 2.
            logit_bias: What to add to the logits of single tokens, by their ids.
            logprobs: Report log probabilities, and those of this many other tokens.
            min_tokens: The shortest answer, in tokens.
            stop: Texts that end the answer, at most 4; they are no part of it.
            seed: The seed of the sampling. With the same one, the same worker gives the same answer.
            priority: `"batch"` for a job that nobody waits for.
            tenant: The tenant whose job it is.
            timeout: How long it may run, in seconds.
            deadline: By when it must have ended, in seconds from now.
            detached: Let it run to its end if nobody reads it, also in the next run of the queen.
            correlation_id: The mark of its lines in the log.
            idempotency_key: A second request with the same key is the same job.

        Returns:
            The job.

        Raises:
            InvalidRequest: A value is not allowed.
            ModelNotFound: The model is not known.
            SystemAtCapacity: The queue is full.

        Example:
            >>> with rbee.Queen() as queen:
            ...     job = queen.submit(prompt="Hi", temperature=0, max_tokens=4)
            ...     for text in job:
            ...         print(text, end="")  # doctest: +SKIP
        """
        arguments: dict[str, Any] = {
            "messages": messages,
            "prompt": prompt,
            "raw": raw,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "min_p": min_p,
            "repetition_penalty": repetition_penalty,
            "presence_penalty": presence_penalty,
            "frequency_penalty": frequency_penalty,
            "logit_bias": logit_bias,
            "logprobs": logprobs,
            "min_tokens": min_tokens,
            "stop": stop,
            "seed": seed,
            "priority": priority,
            "tenant": tenant,
            "timeout": timeout,
            "deadline": deadline,
            "detached": detached,
            "correlation_id": correlation_id,
            "idempotency_key": idempotency_key,
        }
        return Job(done(self._open.submit(model, arguments)))

    def embed(
        self,
        texts: str | Sequence[str],
        *,
        model: str,
        dimensions: int | None = None,
        priority: Literal["interactive", "batch"] = "interactive",
        tenant: str | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> list[list[float]]:
        """Makes vectors of texts.

        Args:
            texts: The texts, or one.
            model: An alias or a reference of a model that makes vectors.
            dimensions: The length of the vectors, if the model allows a choice.
            priority: `"batch"` if nobody waits for it.
            tenant: The tenant whose job it is.
            timeout: How long it may run, in seconds.
            deadline: By when it must have ended, in seconds from now.

        Returns:
            A vector for each text, in their order.

        Raises:
            Unsupported: The model makes no vectors.
        """
        all_texts = [texts] if isinstance(texts, str) else list(texts)
        arguments: dict[str, Any] = {
            "dimensions": dimensions,
            "priority": priority,
            "tenant": tenant,
            "timeout": timeout,
            "deadline": deadline,
        }
        return done(self._open.embed(model, all_texts, arguments))

    def attach(self, job: str, *, after: int | None = None) -> Job:
        """Reads a job that was submitted elsewhere, or before.

        Args:
            job: Its id.
            after: The number of the last event that is known already; by default, all events come again.

        Returns:
            The job. Dropping it does not cancel it.

        Raises:
            NotFound: There is no such job, or its events are not kept any more.
        """
        return Job(done(self._open.attach(job, after)))

    def cancel(self, job: str) -> None:
        """Cancels a job by its id. One that has ended stays as it is."""
        self._open.cancel(job)

    def job(self, job: str) -> JobRecord:
        """Returns the record of a job, with its answer as far as it is stored.

        Raises:
            NotFound: There is no such job.
        """
        return JobRecord(**done(self._open.job(job)))

    def jobs(
        self,
        *,
        states: Sequence[str] = (),
        tenant: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[JobRecord]:
        """Lists jobs, the newest first, without their texts.

        Args:
            states: Only jobs in these states: `"queued"`, `"running"`, `"complete"`, `"failed"`, `"cancelled"`.
            tenant: Only jobs of this tenant.
            before: Only jobs older than the one of this `order`: the last of the previous page.
            limit: The most jobs to list, 1 to 1,000.
        """
        found = done(self._open.jobs(list(states), tenant, before, limit))
        return [JobRecord(**record) for record in found]

    def position(self, job: str) -> int | None:
        """Returns how many jobs are before this one in its queue; `None` if it does not wait."""
        return done(self._open.position(job))

    def status(self) -> QueenStatus:
        """Returns the state of the queen."""
        return QueenStatus(**done(self._open.status()))

    def metrics(self) -> dict[str, float]:
        """Returns the metrics of this process, by their names in Prometheus: `rbee_jobs_total{outcome="complete"}`."""
        return parsed_metrics(done(self._open.metrics()))

    def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        token: str | None = None,
        allow_origins: Sequence[str] = (),
        allow_hosts: Sequence[str] = (),
    ) -> Server:
        """Serves the HTTP API of this queen, with the paths that OpenAI's clients know.

        Args:
            host: The address to listen on. An address that others can reach needs a token.
            port: The port; 0 for one that is free.
            token: What clients must send, at least 32 characters.
            allow_origins: Web pages that may use it: `"https://chat.example"`.
            allow_hosts: Names under which it is reached, besides its address.

        Returns:
            The server, which runs until it is closed or dropped.

        Raises:
            Conflict: The port is taken.
            ValueError: Others can reach the address, and there is no token.
        """
        serving = self._open.serve(host, port, token, list(allow_origins), list(allow_hosts))
        return Server(done(serving))

    @property
    def fleet(self) -> Fleet:
        """The machines and workers."""
        found = program() if self._local_hive else None
        return Fleet(self._open.fleet(found))

    @property
    def models(self) -> Models:
        """The models."""
        return Models(self._open.models())

    @property
    def policy(self) -> Policy:
        """The scheduling policy."""
        return Policy(self._open.policy())

    @property
    def tenants(self) -> Tenants:
        """The tenants."""
        return Tenants(self._open.tenants())


class Job:
    """A job: `for` gives its text as it comes.

    Pieces that arrived together are given together. Dropping a job that was submitted cancels it, unless it was
    detached; so does leaving `with`.

    Example:
        >>> with rbee.Queen() as queen:
        ...     with queen.submit(prompt="Hi", max_tokens=100) as job:
        ...         for text in job:
        ...             break
    """

    def __init__(self, core: _rbee.Job) -> None:
        self._core = core

    @property
    def id(self) -> str:
        """The id of the job."""
        return self._core.id

    def __iter__(self) -> Iterator[str]:
        return self._core.text()

    def events(self) -> Iterator[Event]:
        """Gives the events instead of the text. Both read the same stream: what one gives, the other does not."""
        return self._core.events()

    def result(self) -> JobAnswer:
        """Waits for the end.

        Returns:
            The whole answer, with what was read before.

        Raises:
            RbeeError: The error of the job.
        """
        return done(self._core.result())

    def cancel(self) -> None:
        """Cancels the job. Its reader gets the error `Cancelled`, unless it had ended already."""
        self._core.cancel()

    def detach(self) -> None:
        """Lets the job go on when this object is dropped."""
        self._core.detach()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._core.cancel()

    def __repr__(self) -> str:
        return f"<rbee.{type(self).__name__} {self.id}>"

    def __reduce__(self) -> str:
        raise TypeError("a job cannot be pickled; pass its id, and attach to it")


class Fleet:
    """The machines and workers of a queen."""

    def __init__(self, core: _rbee.FleetCore) -> None:
        self._core = core

    def list(self) -> builtins.list[HiveStatus]:
        """Lists the machines."""
        return [hive_status(hive) for hive in done(self._core.list())]

    def workers(self) -> builtins.list[WorkerStatus]:
        """Lists the workers."""
        return [WorkerStatus(**worker) for worker in done(self._core.workers())]

    def add(self, hive: SshHive | UrlHive) -> str:
        """Connects to a machine and adds it.

        Args:
            hive: The machine.

        Returns:
            The name of the hive.

        Raises:
            HiveUnreachable: It does not answer.
            Config: Its host key is not known or has changed, its keys are not accepted, or the programs do not fit it.
            Conflict: The fleet has a hive of that name.
        """
        return done(self._core.add(hive))

    def remove(self, hive: str, *, grace: float = 30.0) -> None:
        """Removes a machine and ends its workers. Its jobs go on elsewhere.

        Args:
            hive: Its name.
            grace: How long its workers have to end, in seconds.

        Raises:
            NotFound: There is no such hive.
        """
        done(self._core.remove(hive, grace))

    def stop(self, hive: str, *, grace: float = 30.0) -> None:
        """Ends the workers of a machine, which stays in the fleet.

        Raises:
            NotFound: There is no such hive.
        """
        done(self._core.stop(hive, grace))

    def start(self, hive: str) -> None:
        """Starts a machine that was stopped, or lets one that was drained take workers again.

        Raises:
            NotFound: There is no such hive.
        """
        done(self._core.start(hive))

    def drain(self, hive: str) -> None:
        """Starts no more workers on a machine, and unloads those that are there when their jobs have ended.

        Raises:
            NotFound: There is no such hive.
        """
        done(self._core.drain(hive))

    def unload(self, worker: str) -> None:
        """Ends a worker by its id.

        Raises:
            NotFound: There is no such worker.
        """
        done(self._core.unload(worker))

    def pin(self, worker: str, pinned: bool = True) -> None:
        """Keeps a worker loaded, whatever else is needed; or not any more.

        Raises:
            NotFound: There is no such worker.
        """
        done(self._core.pin(worker, pinned))


class Models:
    """The models of a queen: their names, and the orders to download and load them."""

    def __init__(self, core: _rbee.ModelsCore) -> None:
        self._core = core

    @property
    def aliases(self) -> dict[str, str]:
        """The short names, each with its reference."""
        return self._core.aliases()

    def resolve(self, name: str) -> str:
        """Returns the reference that a name stands for.

        Raises:
            ModelNotFound: The name is not known.
        """
        return done(self._core.resolve(name))

    def describe(self, name: str) -> ModelDescription:
        """Returns what is known of a model.

        Raises:
            ModelNotFound: The model is not known.
        """
        return ModelDescription(**done(self._core.describe(name)))

    def pull(
        self,
        name: str,
        *,
        hive: str | None = None,
        progress: Callable[[Progress], object] | None = None,
    ) -> Pulled:
        """Puts a model on the disk of a machine, unless it is there.

        Args:
            name: An alias or a reference.
            hive: The machine; by default this one.
            progress: A function that is called with the progress, in a thread of its own.

        Raises:
            ModelNotFound: No source has the model.
            HubUnreachable: The hub does not answer.
        """
        return Pulled(**done(self._core.pull(name, hive, progress)))

    def remove(self, name: str, *, hive: str = "local") -> None:
        """Removes a model from the disk of a machine.

        Raises:
            Conflict: A worker there uses it.
            NotFound: There is no such hive.
        """
        done(self._core.remove(name, hive))

    def load(
        self,
        name: str,
        *,
        hive: str | None = None,
        devices: Sequence[int] | None = None,
        slots: int | None = None,
        pin: bool = False,
    ) -> str:
        """Starts a worker for a model, or finds the one that runs. It takes jobs when its state is `"ready"`.

        Args:
            name: An alias or a reference.
            hive: On this machine; by default where it fits best.
            devices: On one of these devices.
            slots: How many jobs it runs at once.
            pin: Never unload it for another model.

        Returns:
            The id of the worker.

        Raises:
            InsufficientVram: It fits nowhere.
            ModelNotFound: No source has the model.
        """
        numbers = None if devices is None else list(devices)
        return done(self._core.load(name, hive, numbers, slots, pin))


class Policy:
    """The scheduling policy of a queen, as a script or as rules.

    A policy is given by its file, whose name ends in `.rhai`, `.yaml` or `.yml`, or by its text and its language.
    """

    def __init__(self, core: _rbee.PolicyCore) -> None:
        self._core = core

    def get(self) -> PolicyStatus:
        """Returns the active policy."""
        return PolicyStatus(**self._core.status())

    def set(self, policy: str | Path, *, language: Literal["rhai", "yaml"] = "rhai") -> PolicyStatus:
        """Activates a policy, after a check.

        Args:
            policy: The text, or the path of a file as `pathlib.Path`.
            language: The language of a text.

        Raises:
            InvalidRequest: The policy has an error; the message names its place.
            PermissionDenied: The policy is fixed.

        Example:
            >>> with rbee.Queen() as queen:
            ...     queen.policy.set("// Waits.\\nfn schedule(job, workers, hives) { wait() }")
            ...     print(queen.policy.get().description)
            Waits.
        """
        text, read_as = _policy(policy, language)
        return PolicyStatus(**done(self._core.set(text, read_as)))

    def reset(self) -> PolicyStatus:
        """Activates the scheduler of the application again, or the built-in policy."""
        return PolicyStatus(**done(self._core.reset()))

    def roll_back(self, version: int) -> PolicyStatus:
        """Activates an earlier version again.

        Raises:
            NotFound: It is not kept.
        """
        return PolicyStatus(**done(self._core.roll_back(version)))

    def check(self, policy: str | Path, *, language: Literal["rhai", "yaml"] = "rhai") -> PolicyDryRun:
        """Checks a policy, and shows what it would decide now. Nothing changes.

        Raises:
            InvalidRequest: The policy has an error; the message names its place.
        """
        text, read_as = _policy(policy, language)
        return dry_run(done(self._core.check(text, read_as)))

    def replay(
        self,
        policy: str | Path,
        *,
        since: float = 3600.0,
        language: Literal["rhai", "yaml"] = "rhai",
    ) -> PolicyReplay:
        """Runs recent jobs through a policy and through the active one, in virtual time. Nothing changes.

        Args:
            policy: The text, or the path of a file as `pathlib.Path`.
            since: The period, in seconds.
            language: The language of a text.

        Raises:
            NotFound: No job of the period can be replayed.
        """
        text, read_as = _policy(policy, language)
        return replay(done(self._core.replay(text, read_as, since)))

    def explain(self, model: str) -> Explanation:
        """Returns what the active policy would decide about a job for this model."""
        return Explanation(**done(self._core.explain(model)))


class Tenants:
    """The tenants of a queen: who else may use it, and how much."""

    def __init__(self, core: _rbee.TenantsCore) -> None:
        self._core = core

    def list(self) -> builtins.list[TenantStatus]:
        """Lists the tenants, in the order of their names."""
        return [tenant_status(tenant) for tenant in done(self._core.list())]

    def get(self, tenant: str) -> TenantStatus:
        """Returns a tenant.

        Raises:
            NotFound: There is none of this name.
        """
        return tenant_status(done(self._core.get(tenant)))

    def put(
        self,
        tenant: str,
        *,
        daily_tokens: int | None = None,
        concurrent_jobs: int | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        priorities: Sequence[Literal["interactive", "batch"]] | None = None,
        models: Sequence[str] | None = None,
        weight: int | None = None,
    ) -> None:
        """Adds a tenant, or changes its limits. A limit that is left out is the default one.

        Args:
            tenant: Its name.
            daily_tokens: Tokens in a day (UTC).
            concurrent_jobs: Jobs at once.
            requests_per_minute: Requests in a minute.
            tokens_per_minute: Tokens in a minute.
            priorities: The priorities that it may use.
            models: The models that it may use.
            weight: Its share of the queue, relative to the others.

        Raises:
            InvalidRequest: A limit is not allowed.
        """
        limits: dict[str, Any] = {
            "daily_tokens": daily_tokens,
            "concurrent_jobs": concurrent_jobs,
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "priorities": None if priorities is None else list(priorities),
            "models": None if models is None else list(models),
            "weight": weight,
        }
        done(self._core.put(tenant, limits))

    def remove(self, tenant: str) -> None:
        """Removes a tenant and its keys.

        Raises:
            NotFound: There is none of this name.
        """
        done(self._core.remove(tenant))

    def issue_key(self, tenant: str, label: str = "") -> str:
        """Makes a key for a tenant. Its text is returned here and never again.

        Raises:
            NotFound: There is no such tenant.
        """
        return done(self._core.issue_key(tenant, label))

    def revoke_key(self, tenant: str, hash_prefix: str) -> None:
        """Revokes a key, which is named by the first digits of its hash.

        Raises:
            NotFound: There is no such key.
        """
        done(self._core.revoke_key(tenant, hash_prefix))


class Server:
    """The HTTP API of a queen, served from this process."""

    def __init__(self, core: _rbee.Serving) -> None:
        self._core = core

    @property
    def url(self) -> str:
        """Its URL: `http://127.0.0.1:41234`. OpenAI's clients take it with `/v1` as their `base_url`."""
        return self._core.url

    def close(self) -> None:
        """Ends it. Answers that are under way have some seconds."""
        done(self._core.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<rbee.{type(self).__name__} {self.url}>"


def _references(aliases: Mapping[str, str | PathLike[str]]) -> dict[str, str]:
    def reference(model: str | PathLike[str]) -> str:
        path = fspath(model)
        is_path = not isinstance(model, str) or path.startswith((".", "/", "~"))
        return f"file:{Path(path).expanduser().absolute()}" if is_path else path

    return {name: reference(model) for name, model in aliases.items()}


def _policy(policy: str | Path, language: str) -> tuple[str, str]:
    if isinstance(policy, Path):
        return policy.read_text(encoding="utf-8"), policy.suffix.lstrip(".")
    return policy, language
