"""Tenants and their keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = [
    "ApiKey",
    "TenantStatus",
]


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
