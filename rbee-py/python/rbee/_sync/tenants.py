"""`Tenants`: tenants for threads. Made by `tools/make_sync.py`."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any, Literal

from .. import _rbee
from .._done import waited as done
from .._read import tenant_status
from ..types import TenantStatus


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
