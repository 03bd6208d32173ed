"""rbee: an orchestrator for language models that lives inside your application.

A `Queen` accepts requests, keeps them in a durable queue, selects the worker that runs each one, streams the tokens
back, and tries again what fails. It has every machine that you can log in to as a worker.

Example:
    >>> import rbee
    >>> with rbee.Queen() as queen:
    ...     for text in queen.submit(prompt="What is a bee?", seed=1, max_tokens=8):
    ...         print(text, end="")  # doctest: +SKIP
"""

from __future__ import annotations

from . import conformance, errors, hive_backend, parts, registry, types
from ._async import AsyncFleet, AsyncJob, AsyncModels, AsyncPolicy, AsyncQueen, AsyncServer, AsyncTenants
from ._queen import Queen
from ._rbee import ClusterView, HiveView, JobView, Run, WorkerView, __version__, default_settings
from ._settings import Settings
from ._sync import Fleet, Job, Models, Policy, Server, Tenants
from .errors import *  # noqa: F403
from .hive_backend import *  # noqa: F403
from .hives import SshHive, UrlHive
from .logs import use_logging
from .parts import Scheduler, Worker
from .registry import Registry
from .types import *  # noqa: F403

__all__ = [
    "AsyncFleet",
    "AsyncJob",
    "AsyncModels",
    "AsyncPolicy",
    "AsyncQueen",
    "AsyncServer",
    "AsyncTenants",
    "ClusterView",
    "Fleet",
    "HiveView",
    "Job",
    "JobView",
    "Models",
    "Policy",
    "Queen",
    "Registry",
    "Run",
    "Scheduler",
    "Server",
    "Settings",
    "SshHive",
    "Tenants",
    "UrlHive",
    "Worker",
    "WorkerView",
    "__version__",
    "conformance",
    "default_settings",
    "errors",
    "hive_backend",
    "parts",
    "registry",
    "types",
    "use_logging",
]
__all__ += errors.__all__
__all__ += hive_backend.__all__
__all__ += types.__all__
