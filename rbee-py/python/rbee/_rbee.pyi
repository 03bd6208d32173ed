"""The bridge to Rust. The package's classes hold the ones of this module; applications use the package."""

import builtins
from collections.abc import Generator, Sequence
from os import PathLike
from typing import Any, Final, Generic, TypeVar, final

from .hive_backend import HiveBackend
from .hives import SshHive, UrlHive
from .types import Delta, Event, JobAnswer

__all__ = [
    "ClusterView",
    "FleetCore",
    "HiveView",
    "Items",
    "Job",
    "JobView",
    "ModelsCore",
    "Pending",
    "PolicyCore",
    "QueenCore",
    "Run",
    "Serving",
    "TenantsCore",
    "WorkerView",
    "__version__",
    "check_hive",
    "check_registry",
    "check_scheduler",
    "check_worker",
    "check_worker_exit",
    "daemon",
    "default_settings",
    "error_kinds",
    "open",
    "set_error_classes",
    "set_types",
    "use_logging",
]

_T = TypeVar("_T")

__version__: Final[str]

def default_settings() -> dict[str, Any]:
    """Returns the default of each setting of a queen, with times in seconds."""

def error_kinds() -> list[tuple[str, str, bool]]:
    """Returns the code of each kind of error, what it means, and whether rbee tries again by itself."""

def check_hive(hive: Any, good: Any, bad: Any) -> Pending[None]: ...
def check_registry(fresh: Any, clock: Any) -> Pending[None]: ...
def check_scheduler(scheduler: Any) -> None: ...
def check_worker(worker: Any, prompt: str, seed: int, promptness: float, event_loop: Any) -> Pending[None]: ...
def check_worker_exit(hive: Any, good: Any, kill: Any) -> Pending[None]: ...
def daemon(arguments: list[str], program: str | PathLike[str], model: str | PathLike[str] | None) -> int: ...
def open(options: dict[str, Any]) -> Pending[QueenCore]: ...
def set_error_classes(classes: dict[str, type[Any]]) -> None: ...
def set_types(types: dict[str, type[Any]]) -> None: ...
def use_logging(level: str) -> None: ...

@final
class Pending(Generic[_T]):
    """An operation, which begins when it is awaited or waited for."""

    def wait(self, timeout: float | None = None) -> _T:
        """Waits in this thread, for at most `timeout` seconds. Ctrl-C interrupts it."""

    def __await__(self) -> Generator[Any, Any, _T]: ...

@final
class Items(Generic[_T]):
    """Texts or events of a job."""

    def __iter__(self) -> Items[_T]: ...
    def __next__(self) -> _T: ...
    def __aiter__(self) -> Items[_T]: ...
    async def __anext__(self) -> _T: ...

@final
class Job:
    @property
    def id(self) -> str: ...
    def cancel(self) -> None: ...
    def detach(self) -> None: ...
    def result(self) -> Pending[JobAnswer]: ...
    def text(self) -> Items[str]: ...
    def events(self) -> Items[Event]: ...
    def deltas(self) -> Items[Delta]: ...

@final
class QueenCore:
    def submit(self, model: str, arguments: dict[str, Any]) -> Pending[Job]: ...
    def embed(self, model: str, texts: Sequence[str], arguments: dict[str, Any]) -> Pending[list[list[float]]]: ...
    def rerank(
        self, model: str, query: str, documents: Sequence[str], arguments: dict[str, Any]
    ) -> Pending[list[float]]: ...
    def attach(self, job: str, after: int | None = None) -> Pending[Job]: ...
    def cancel(self, job: str) -> None: ...
    def job(self, job: str) -> Pending[dict[str, Any]]: ...
    def jobs(
        self, states: list[str], tenant: str | None, before: int | None, limit: int
    ) -> Pending[list[dict[str, Any]]]: ...
    def position(self, job: str) -> Pending[int | None]: ...
    def status(self) -> Pending[dict[str, Any]]: ...
    def settings(self) -> dict[str, Any]: ...
    def shutdown(self, grace: float) -> Pending[None]: ...
    def serve(
        self,
        host: str,
        port: int,
        token: str | None = None,
        allow_origins: Sequence[str] = ...,
        allow_hosts: Sequence[str] = ...,
        batches: str | PathLike[str] | None = ...,
    ) -> Pending[Serving]: ...
    def metrics(self) -> Pending[str]: ...
    def fleet(self, program: str | PathLike[str] | None) -> FleetCore: ...
    def models(self) -> ModelsCore: ...
    def policy(self) -> PolicyCore: ...
    def tenants(self) -> TenantsCore: ...

@final
class FleetCore:
    def list(self) -> Pending[builtins.list[dict[str, Any]]]: ...
    def workers(self) -> Pending[builtins.list[dict[str, Any]]]: ...
    def add(self, hive: SshHive | UrlHive | HiveBackend, event_loop: Any) -> Pending[str]: ...
    def remove(self, hive: str, grace: float) -> Pending[None]: ...
    def stop(self, hive: str, grace: float) -> Pending[None]: ...
    def start(self, hive: str) -> Pending[None]: ...
    def drain(self, hive: str) -> Pending[None]: ...
    def unload(self, worker: str) -> Pending[None]: ...
    def pin(self, worker: str, pin: bool) -> Pending[None]: ...

@final
class ModelsCore:
    def aliases(self) -> dict[str, str]: ...
    def resolve(self, name: str) -> Pending[str]: ...
    def describe(self, name: str) -> Pending[dict[str, Any]]: ...
    def pull(self, name: str, hive: str | None = None, progress: Any = None) -> Pending[dict[str, Any]]: ...
    def remove(self, name: str, hive: str) -> Pending[None]: ...
    def load(
        self,
        name: str,
        hive: str | None = None,
        devices: Sequence[int] | None = None,
        slots: int | None = None,
        pin: bool = False,
    ) -> Pending[str]: ...

@final
class PolicyCore:
    def status(self) -> dict[str, Any]: ...
    def set(self, text: str, language: str) -> Pending[dict[str, Any]]: ...
    def reset(self) -> Pending[dict[str, Any]]: ...
    def roll_back(self, version: int) -> Pending[dict[str, Any]]: ...
    def check(self, text: str, language: str) -> Pending[dict[str, Any]]: ...
    def replay(self, text: str, language: str, since: float) -> Pending[dict[str, Any]]: ...
    def explain(self, model: str) -> Pending[dict[str, Any]]: ...

@final
class TenantsCore:
    def list(self) -> Pending[builtins.list[dict[str, Any]]]: ...
    def get(self, tenant: str) -> Pending[dict[str, Any]]: ...
    def put(self, tenant: str, limits: dict[str, Any]) -> Pending[None]: ...
    def remove(self, tenant: str) -> Pending[None]: ...
    def issue_key(self, tenant: str, label: str) -> Pending[str]: ...
    def revoke_key(self, tenant: str, hash_prefix: str) -> Pending[None]: ...

@final
class Serving:
    @property
    def url(self) -> str: ...
    def close(self) -> Pending[None]: ...

@final
class JobView:
    """The job to place, as a scheduler sees it."""

    @property
    def id(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def priority(self) -> str: ...
    @property
    def tenant(self) -> str | None: ...
    @property
    def is_embedding(self) -> bool: ...
    @property
    def is_rerank(self) -> bool: ...
    @property
    def max_tokens(self) -> int | None: ...
    @property
    def prefix(self) -> list[int]:
        """Keys of the prefixes of its prompt; a worker that has some of them in `warm` has read them before."""

    @property
    def waited(self) -> float:
        """How long it has waited, in seconds."""

    @property
    def attempts(self) -> int:
        """Attempts made so far."""

    @property
    def avoid(self) -> list[str]:
        """Workers on which it has failed."""

    @property
    def random(self) -> int:
        """64 random bits, the same if the decision is made again."""

@final
class ClusterView:
    """The cluster, as a scheduler sees it."""

    @property
    def workers(self) -> list[WorkerView]: ...
    @property
    def hives(self) -> list[HiveView]: ...
    @property
    def waiting(self) -> int:
        """The number of jobs that wait."""

    def available(self, job: JobView) -> list[WorkerView]:
        """Returns the workers that can run the job now: they have its model and a free slot, and can do its task.

        The least loaded is the first, and those on which the job has failed are the last.
        """

    def with_model(self, model: str) -> list[WorkerView]:
        """Returns the workers that have the model, or load it."""

    def on_hive(self, hive: str) -> list[WorkerView]:
        """Returns the workers of a hive."""

@final
class WorkerView:
    """A worker, as a scheduler sees it."""

    @property
    def id(self) -> str: ...
    @property
    def hive(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def backend(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def devices(self) -> list[int]: ...
    @property
    def slots(self) -> int: ...
    @property
    def leased(self) -> int:
        """Slots in use."""

    @property
    def free_slots(self) -> int: ...
    @property
    def warm(self) -> list[int]:
        """Keys of the prompt prefixes in its cache."""

    @property
    def memory_bytes(self) -> int: ...
    @property
    def pinned(self) -> bool: ...

@final
class HiveView:
    """A hive, as a scheduler sees it."""

    @property
    def id(self) -> str: ...
    @property
    def online(self) -> bool: ...
    @property
    def draining(self) -> bool: ...
    @property
    def labels(self) -> dict[str, str]: ...
    @property
    def models(self) -> dict[str, int]: ...
    @property
    def devices(self) -> list[dict[str, Any]]: ...

@final
class Run:
    """A run, as a worker sees it."""

    @property
    def job(self) -> str:
        """The id of the job."""

    @property
    def model(self) -> str: ...
    @property
    def attempt(self) -> int:
        """1 for the first attempt."""

    @property
    def seed(self) -> int: ...
    @property
    def correlation_id(self) -> str: ...
    @property
    def prompt_text(self) -> str | None:
        """The text to continue; `None` for a chat, for texts to embed and for documents to score."""

    @property
    def suffix(self) -> str | None:
        """The text after the gap that is to be filled; `None` if there is none."""

    @property
    def messages(self) -> list[dict[str, Any]] | None:
        """The turns of a chat, with `role` and `content`, and perhaps `tool_calls` and `tool_call_id`; `None` for others."""

    @property
    def tools(self) -> list[dict[str, Any]] | None:
        """The tools that the model may call: `name`, `description`, and `parameters` as JSON text."""

    @property
    def tool_choice(self) -> str | dict[str, str] | None:
        """`auto`, `none`, `required`, or `{"named": …}`; `None` if this is no chat."""

    @property
    def thinking(self) -> bool | None:
        """Whether the model thinks before it answers; `None` if that is up to the worker."""

    @property
    def texts(self) -> list[str] | None:
        """The texts to embed; `None` for others."""

    @property
    def query(self) -> str | None:
        """The query that documents are scored for; `None` for others."""

    @property
    def documents(self) -> list[str] | None:
        """The documents to score; `None` for others. The worker gives one `rbee.Vectors` with one list of scores."""

    @property
    def dimensions(self) -> int | None:
        """The wanted length of the vectors."""

    @property
    def max_tokens(self) -> int | None: ...
    @property
    def stop(self) -> list[str]:
        """Texts that end the answer and are no part of it."""

    @property
    def sampling_parameters(self) -> dict[str, Any]:
        """All parameters of the sampling, by their names."""

    @property
    def resume_tokens(self) -> list[int]:
        """The ids of the tokens that earlier attempts gave; a worker with `resume` goes on after them."""

    @property
    def resume_text_bytes(self) -> int:
        """The bytes of the text that earlier attempts gave."""

    @property
    def is_cancelled(self) -> bool:
        """True once nobody wants the answer any more."""
