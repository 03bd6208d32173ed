"""The classes for event loops. `rbee._sync` is made of this package by `tools/make_sync.py`."""

from __future__ import annotations

from .fleet import AsyncFleet
from .job import AsyncJob
from .models import AsyncModels
from .policy import AsyncPolicy
from .queen import AsyncQueen
from .server import AsyncServer
from .tenants import AsyncTenants

__all__ = [
    "AsyncFleet",
    "AsyncJob",
    "AsyncModels",
    "AsyncPolicy",
    "AsyncQueen",
    "AsyncServer",
    "AsyncTenants",
]
