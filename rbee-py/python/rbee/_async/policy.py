"""`AsyncPolicy`: the scheduling policy for event loops."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .. import _rbee
from .._done import awaited as done
from .._read import dry_run, replay
from ..types import Explanation, PolicyDryRun, PolicyReplay, PolicyStatus


class AsyncPolicy:
    """The scheduling policy of a queen, as a script or as rules.

    A policy is given by its file, whose name ends in `.rhai`, `.yaml` or `.yml`, or by its text and its language.
    """

    def __init__(self, core: _rbee.PolicyCore) -> None:
        self._core = core

    def get(self) -> PolicyStatus:
        """Returns the active policy."""
        return PolicyStatus(**self._core.status())

    async def set(self, policy: str | Path, *, language: Literal["rhai", "yaml"] = "rhai") -> PolicyStatus:
        """Activates a policy, after a check.

        Args:
            policy: The text, or the path of a file as `pathlib.Path`.
            language: The language of a text.

        Raises:
            InvalidRequest: The policy has an error; the message names its place.
            PermissionDenied: The policy is fixed.

        Example:
            >>> async with rbee.AsyncQueen() as queen:
            ...     await queen.policy.set("// Waits.\\nfn schedule(job, workers, hives) { wait() }")
            ...     print(queen.policy.get().description)
            Waits.
        """
        text, read_as = _policy(policy, language)
        return PolicyStatus(**await done(self._core.set(text, read_as)))

    async def reset(self) -> PolicyStatus:
        """Activates the scheduler of the application again, or the built-in policy."""
        return PolicyStatus(**await done(self._core.reset()))

    async def roll_back(self, version: int) -> PolicyStatus:
        """Activates an earlier version again.

        Raises:
            NotFound: It is not kept.
        """
        return PolicyStatus(**await done(self._core.roll_back(version)))

    async def check(self, policy: str | Path, *, language: Literal["rhai", "yaml"] = "rhai") -> PolicyDryRun:
        """Checks a policy, and shows what it would decide now. Nothing changes.

        Raises:
            InvalidRequest: The policy has an error; the message names its place.
        """
        text, read_as = _policy(policy, language)
        return dry_run(await done(self._core.check(text, read_as)))

    async def replay(
        self,
        policy: str | Path,
        *,
        since: float = 3600.0,
        language: Literal["rhai", "yaml"] = "rhai",
    ) -> PolicyReplay:
        """Runs recent jobs through a policy and through the active one, in virtual time. Nothing changes.

        Args:
            policy: The text, or the path of a file as `pathlib.Path`.
            since: The period, in seconds.
            language: The language of a text.

        Raises:
            NotFound: No job of the period can be replayed.
        """
        text, read_as = _policy(policy, language)
        return replay(await done(self._core.replay(text, read_as, since)))

    async def explain(self, model: str) -> Explanation:
        """Returns what the active policy would decide about a job for this model."""
        return Explanation(**await done(self._core.explain(model)))


def _policy(policy: str | Path, language: str) -> tuple[str, str]:
    if isinstance(policy, Path):
        return policy.read_text(encoding="utf-8"), policy.suffix.lstrip(".")
    return policy, language
