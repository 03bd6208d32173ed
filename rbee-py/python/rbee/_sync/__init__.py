"""The classes for threads. Made of `rbee._async` by `tools/make_sync.py`."""

from __future__ import annotations

from .fleet import Fleet
from .job import Job
from .models import Models
from .policy import Policy
from .queen import Queen
from .server import Server
from .tenants import Tenants

__all__ = [
    "Fleet",
    "Job",
    "Models",
    "Policy",
    "Queen",
    "Server",
    "Tenants",
]
