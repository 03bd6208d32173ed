"""`AsyncQueen`: a queen for event loops."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from .. import _rbee
from .. import _request as read
from .._aliases import references
from .._done import awaited as done
from .._done import running_loop as loop_of_parts
from .._metrics import parsed as parsed_metrics
from .._programs import BUNDLED_MODEL, bundled_model, data_dir, program
from ..hives import SshHive, UrlHive
from ..types import JobRecord, QueenStatus
from .fleet import AsyncFleet
from .job import AsyncJob
from .models import AsyncModels
from .policy import AsyncPolicy
from .server import AsyncServer
from .tenants import AsyncTenants

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from .._request import Tool, ToolChoice
    from .._settings import Settings
    from ..hive_backend import HiveBackend
    from ..parts import Scheduler, Worker
    from ..registry import Registry


class AsyncQueen:
    """An orchestrator for language models, inside this process.

    It accepts requests, keeps them in a queue, selects the worker that runs each one, and streams the tokens back.
    Models run in worker processes of this machine, and of other machines that are in its fleet. `bee-tiny`, the small
    model of the package, is there at once.

    Nothing happens before `open`, which `async with` calls.

    Args:
        id: The name of the queen. A queen that is opened again on the same registry should have the same name.
        registry: The file of the durable queue, which is made if it does not exist; or an object that is a store. Without
            it, jobs are in memory.
        data_dir: The directory for the files of this machine's workers; by default a temporary one.
        models_dir: The directory of downloaded models; by default the one that the daemon has too.
        models_budget: The disk that downloaded models may take, in bytes.
        offline: Download nothing.
        aliases: Short names of models: `{"llama": "hf:org/repo"}` or `{"mine": "/models/mine.gguf"}`.
        context: The longest prompt and answer together of this machine's workers, in tokens; the model's own limit if
            it is less.
        local_hive: Run models on this machine.
        hives: Other machines, or objects that are hives.
        workers: Objects of the application that are workers: models that it runs itself.
        scheduler: An object with a method `place(job, cluster)` that selects the worker of each job.
        seed: The seed of what is random in the queen, for tests.
        **settings: All other settings; see `Settings`.

    Example:
        >>> async with rbee.AsyncQueen() as queen:
        ...     job = await queen.submit(prompt="What is a bee?", seed=1, max_tokens=8)
        ...     answer = await job.result()
        >>> answer.usage.completion_tokens
        8
    """

    def __init__(
        self,
        *,
        id: str | None = None,
        registry: str | PathLike[str] | Registry | None = None,
        data_dir: str | PathLike[str] | None = None,
        models_dir: str | PathLike[str] | None = None,
        models_budget: int | None = None,
        offline: bool = False,
        aliases: Mapping[str, str | PathLike[str]] | None = None,
        context: int | None = None,
        local_hive: bool = True,
        hives: Sequence[SshHive | UrlHive | HiveBackend] = (),
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
            "aliases": references(aliases or {}),
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

    async def open(self) -> Self:
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
        options["event_loop"] = loop_of_parts()
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
            self._core = await done(_rbee.open(options))
        except BaseException:
            self._remove_files()
            raise
        return self

    async def close(self, grace: float = 30.0) -> None:
        """Closes the queen: it accepts no more jobs, gives the existing ones time to end, and ends its workers.

        Jobs that have not ended by then stay in the registry for the next run, if there is one.

        Args:
            grace: How long jobs have to end, in seconds.
        """
        core, self._core = self._core, None
        try:
            if core is not None:
                await done(core.shutdown(grace))
        finally:
            self._remove_files()

    def _remove_files(self) -> None:
        directory, self._temporary = self._temporary, None
        if directory is not None:
            directory.cleanup()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A program that fails does not wait for its jobs.
        await self.close(30.0 if kind is None else 0.0)

    def __repr__(self) -> str:
        state = "closed" if self._core is None else "open"
        return f"<rbee.{type(self).__name__} {self._given['id'] or ''}({state})>"

    def __reduce__(self) -> str:
        raise TypeError(f"{type(self).__name__} cannot be pickled: its threads and workers are in this process")

    @property
    def _open(self) -> _rbee.QueenCore:
        if self._core is None:
            raise RuntimeError("this queen is not open; use it inside `async with`, or call open() first")
        return self._core

    async def submit(
        self,
        *,
        model: str = BUNDLED_MODEL,
        messages: Sequence[Mapping[str, Any]] | None = None,
        prompt: str | None = None,
        suffix: str | None = None,
        raw: bool = False,
        tools: Sequence[Tool] = (),
        tool_choice: ToolChoice = None,
        parallel_tool_calls: bool = True,
        response_format: Mapping[str, Any] | None = None,
        thinking: bool | None = None,
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
    ) -> AsyncJob:
        """Submits a request. The job is in the queue when this returns, and in the registry if there is one.

        Args:
            model: An alias or a reference of a model.
            messages: The turns of a chat: mappings with `role` and `content`, as OpenAI's API has them. The calls of an
                answer (`JobAnswer.tool_calls`) can be given back as they are, as `tool_calls` of a message.
            prompt: One turn of a user, instead of messages.
            suffix: The text after a gap: the model writes what goes between the prompt and this text. Only for models
                with control tokens for it.
            raw: Take the prompt as it is, without the model's template.
            tools: The functions that the model may call, as OpenAI's API has them: mappings with `name`, `description`
                and `parameters` (a JSON schema), alone or under `"function"`.
            tool_choice: `"auto"`, `"none"`, `"required"`, or `{"name": …}` for one tool.
            parallel_tool_calls: Whether an answer may have several calls.
            response_format: What the answer must look like, as OpenAI's API has it: `{"type": "json_object"}`,
                `{"type": "json_schema", "json_schema": {"schema": …}}`, and also `{"type": "regex", "regex": …}` and
                `{"type": "lark", "lark": …}`. With tools, the answer is either calls or this, and this is JSON.
            thinking: Turns the thinking of a model on or off that has a switch for it.
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
            >>> async with rbee.AsyncQueen() as queen:
            ...     job = await queen.submit(prompt="Hi", temperature=0, max_tokens=4)
            ...     async for text in job:
            ...         print(text, end="")  # doctest: +SKIP
        """
        arguments: dict[str, Any] = {
            "messages": read.messages(messages),
            "prompt": prompt,
            "suffix": suffix,
            "raw": raw,
            "tools": read.tools(tools),
            "tool_choice": read.tool_choice(tool_choice),
            "parallel_tool_calls": parallel_tool_calls,
            "response_format": read.response_format(response_format),
            "thinking": thinking,
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
        return AsyncJob(await done(self._open.submit(model, arguments)))

    async def embed(
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
        return await done(self._open.embed(model, all_texts, arguments))

    async def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        model: str,
        priority: Literal["interactive", "batch"] = "interactive",
        tenant: str | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> list[float]:
        """Scores documents by their relevance to a query.

        Args:
            query: The query.
            documents: The documents.
            model: An alias or a reference of a reranker.
            priority: `"batch"` if nobody waits for it.
            tenant: The tenant whose job it is.
            timeout: How long it may run, in seconds.
            deadline: By when it must have ended, in seconds from now.

        Returns:
            A score for each document, in their order; a higher score is a more relevant document.

        Raises:
            Unsupported: The model is no reranker.
        """
        arguments: dict[str, Any] = {
            "priority": priority,
            "tenant": tenant,
            "timeout": timeout,
            "deadline": deadline,
        }
        return await done(self._open.rerank(model, query, list(documents), arguments))

    async def attach(self, job: str, *, after: int | None = None) -> AsyncJob:
        """Reads a job that was submitted elsewhere, or before.

        Args:
            job: Its id.
            after: The number of the last event that is known already; by default, all events come again.

        Returns:
            The job. Dropping it does not cancel it.

        Raises:
            NotFound: There is no such job, or its events are not kept any more.
        """
        return AsyncJob(await done(self._open.attach(job, after)))

    def cancel(self, job: str) -> None:
        """Cancels a job by its id. One that has ended stays as it is."""
        self._open.cancel(job)

    async def job(self, job: str) -> JobRecord:
        """Returns the record of a job, with its answer as far as it is stored.

        Raises:
            NotFound: There is no such job.
        """
        return JobRecord(**await done(self._open.job(job)))

    async def jobs(
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
        found = await done(self._open.jobs(list(states), tenant, before, limit))
        return [JobRecord(**record) for record in found]

    async def position(self, job: str) -> int | None:
        """Returns how many jobs are before this one in its queue; `None` if it does not wait."""
        return await done(self._open.position(job))

    async def status(self) -> QueenStatus:
        """Returns the state of the queen."""
        return QueenStatus(**await done(self._open.status()))

    async def metrics(self) -> dict[str, float]:
        """Returns the metrics of this process, by their names in Prometheus: `rbee_jobs_total{outcome="complete"}`."""
        return parsed_metrics(await done(self._open.metrics()))

    async def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        token: str | None = None,
        allow_origins: Sequence[str] = (),
        allow_hosts: Sequence[str] = (),
        batches: str | PathLike[str] | None = None,
    ) -> AsyncServer:
        """Serves the HTTP API of this queen, with the paths that OpenAI's clients know.

        Args:
            host: The address to listen on. An address that others can reach needs a token.
            port: The port; 0 for one that is free.
            token: What clients must send, at least 32 characters.
            allow_origins: Web pages that may use it: `"https://chat.example"`.
            allow_hosts: Names under which it is reached, besides its address.
            batches: A directory for files and batches of requests (OpenAI's Batch API), which is created if it is
                missing. One server at a time can use it. Batches that have not ended go on with the next server on the
                same directory and store. Without it, the routes of files and batches are refused.

        Returns:
            The server, which runs until it is closed or dropped.

        Raises:
            Config: `batches` cannot be used.
            Conflict: The port is taken, or another server uses `batches`.
            ValueError: Others can reach the address, and there is no token.
        """
        serving = self._open.serve(
            host, port, token, list(allow_origins), list(allow_hosts), None if batches is None else fspath(batches)
        )
        return AsyncServer(await done(serving))

    @property
    def fleet(self) -> AsyncFleet:
        """The machines and workers."""
        found = program() if self._local_hive else None
        return AsyncFleet(self._open.fleet(found))

    @property
    def models(self) -> AsyncModels:
        """The models."""
        return AsyncModels(self._open.models())

    @property
    def policy(self) -> AsyncPolicy:
        """The scheduling policy."""
        return AsyncPolicy(self._open.policy())

    @property
    def tenants(self) -> AsyncTenants:
        """The tenants."""
        return AsyncTenants(self._open.tenants())
