"""Data of the bridge as the classes of `rbee.types`."""

from __future__ import annotations

from typing import Any

from .types import ApiKey, Device, Explanation, HiveStatus, PolicyDryRun, PolicyReplay, ReplayReport, TenantStatus


def hive_status(found: dict[str, Any]) -> HiveStatus:
    """A machine."""
    rest = dict(found)
    devices = rest.pop("devices")
    return HiveStatus(devices=None if devices is None else [Device(**device) for device in devices], **rest)


def tenant_status(found: dict[str, Any]) -> TenantStatus:
    """A tenant."""
    rest = dict(found)
    return TenantStatus(keys=[ApiKey(**key) for key in rest.pop("keys")], **rest)


def dry_run(found: dict[str, Any]) -> PolicyDryRun:
    """A dry run."""
    rest = dict(found)
    return PolicyDryRun(decisions=[Explanation(**decision) for decision in rest.pop("decisions")], **rest)


def replay(found: dict[str, Any]) -> PolicyReplay:
    """A replay."""
    rest = dict(found)
    current, candidate = (ReplayReport(**rest.pop(name)) for name in ("current", "candidate"))
    return PolicyReplay(current=current, candidate=candidate, **rest)
