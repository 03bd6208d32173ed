"""What the methods of rbee take and give: plain data."""

from __future__ import annotations

from .. import _rbee
from .answers import (
    ContentDelta,
    Delta,
    End,
    Event,
    JobAnswer,
    Logprobs,
    Metrics,
    ReasoningDelta,
    Started,
    Token,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
    Vectors,
)
from .fleet import Device, HiveStatus, ModelDescription, Progress, Pulled, Step, WorkerStatus
from .hives import Damage, Exited, HiveEvent, HiveReport, ModelOnDisk, ModelOrigin, WorkerSpec
from .jobs import JobRecord, QueenStatus
from .placement import Assign, Placement, Reject, Spawn, Wait
from .policies import Explanation, PolicyDryRun, PolicyReplay, PolicyStatus, ReplayReport
from .tenants import ApiKey, TenantStatus

__all__ = [
    "ApiKey",
    "Assign",
    "ContentDelta",
    "Damage",
    "Delta",
    "Device",
    "End",
    "Event",
    "Exited",
    "Explanation",
    "HiveEvent",
    "HiveReport",
    "HiveStatus",
    "JobAnswer",
    "JobRecord",
    "Logprobs",
    "Metrics",
    "ModelDescription",
    "ModelOnDisk",
    "ModelOrigin",
    "Placement",
    "PolicyDryRun",
    "PolicyReplay",
    "PolicyStatus",
    "Progress",
    "Pulled",
    "QueenStatus",
    "ReasoningDelta",
    "Reject",
    "ReplayReport",
    "Spawn",
    "Started",
    "Step",
    "TenantStatus",
    "Token",
    "TokenLogprob",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
    "Vectors",
    "Wait",
    "WorkerSpec",
    "WorkerStatus",
]

_rbee.set_types(
    {
        made.__name__: made
        for made in (
            ContentDelta,
            End,
            JobAnswer,
            Logprobs,
            Metrics,
            Progress,
            ReasoningDelta,
            Started,
            Step,
            Token,
            TokenLogprob,
            ToolCall,
            ToolCallDelta,
            Usage,
            Vectors,
            WorkerSpec,
        )
    }
)
