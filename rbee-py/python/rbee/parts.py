"""Parts of a queen that can be written in Python, as protocols."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Protocol, Union

from ._rbee import ClusterView, HiveView, JobView, Run, WorkerView
from .types import End, Metrics, Placement, Token, Vectors

__all__ = ["ClusterView", "HiveView", "JobView", "Output", "Run", "Scheduler", "Worker", "WorkerView"]

Output = Union[str, Token, Vectors, Metrics, End]
"""What a worker gives. A text is a token without an id; a worker that gives no `End` has stopped by itself."""


class Worker(Protocol):
    """A model that the application runs itself.

    `execute` is a generator or an asynchronous generator. A generator runs in a thread of its own; an asynchronous one
    in the event loop in which the queen was opened, or in one of rbee's. If nobody wants the answer any more, it is
    closed: `GeneratorExit` or `CancelledError` is raised in it. What it raises is the error `WorkerFault` of the
    attempt, with the exception as its cause; an error of rbee stays what it is.

    Besides `model`, a worker can have the attributes `slots` (how many runs it does at once; 1), `backend` (the name
    of the engine), `generate`, `embed`, `rerank`, `resume`, `logprobs`, `logit_bias`, `penalties`, `min_tokens`,
    `grammar` and `infill` (what it can; only `generate` is `True` by default), `context_tokens`, `numerics`, `tools`
    (the syntax in which it writes tool calls: `"hermes"`, `"llama"`, `"mistral"`, `"mistral_args"`, `"pythonic"`, `"qwen_xml"`, `"glm"`,
    `"minimax"` or `"seed"`; without it, it gets no jobs with tools), and `reasoning` (`"think"` if it can begin with
    `<think>…</think>`, `"thinking"` if its prompts end with `<think>`, `"mistral"` if it can begin with
    `[THINK]…[/THINK]`, `"seed"` if with `<seed:think>…</seed:think>`).

    Attributes:
        model: The name of the model.

    Example:
        >>> class Shout:
        ...     model = "shout"
        ...
        ...     def execute(self, run):
        ...         for word in run.messages[-1]["content"].upper().split():
        ...             yield word + "! "
        >>> with rbee.Queen(local_hive=False, workers=[Shout()]) as queen:
        ...     print(queen.submit(model="shout", prompt="hello bee").result().text.strip())
        HELLO! BEE!
    """

    @property
    def model(self) -> str: ...

    def execute(self, run: Run) -> Iterator[Output] | AsyncIterator[Output]:
        """Runs a job, and gives its outputs."""
        ...


class Scheduler(Protocol):
    """Selects the worker of each job.

    Only `place` is needed. It is called in a thread of its own, and has 0.5 seconds, or as many as the attribute
    `limit` says; if it takes longer or raises, the built-in policy decides that job instead. The first line of the
    class's docstring is the description of the policy.

    Example:
        >>> class Eu:
        ...     "Only workers in Europe."
        ...
        ...     def place(self, job, cluster):
        ...         hives = {hive.id for hive in cluster.hives if hive.labels.get("region") == "eu"}
        ...         return next((worker for worker in cluster.available(job) if worker.hive in hives), None)
    """

    def place(self, job: JobView, cluster: ClusterView) -> Placement:
        """Decides where a job runs, by its arguments alone."""
        ...
