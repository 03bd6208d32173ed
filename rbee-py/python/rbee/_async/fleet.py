"""`AsyncFleet`: machines and workers for event loops."""

from __future__ import annotations

import builtins

from .. import _rbee
from .._done import awaited as done
from .._done import running_loop as loop_of_parts
from .._read import hive_status
from ..hive_backend import HiveBackend
from ..hives import SshHive, UrlHive
from ..types import HiveStatus, WorkerStatus


class AsyncFleet:
    """The machines and workers of a queen."""

    def __init__(self, core: _rbee.FleetCore) -> None:
        self._core = core

    async def list(self) -> builtins.list[HiveStatus]:
        """Lists the machines."""
        return [hive_status(hive) for hive in await done(self._core.list())]

    async def workers(self) -> builtins.list[WorkerStatus]:
        """Lists the workers."""
        return [WorkerStatus(**worker) for worker in await done(self._core.workers())]

    async def add(self, hive: SshHive | UrlHive | HiveBackend) -> str:
        """Connects to a machine and adds it.

        Args:
            hive: The machine.

        Returns:
            The name of the hive.

        Raises:
            HiveUnreachable: It does not answer.
            Config: Its host key is not known or has changed, its keys are not accepted, or the programs do not fit it.
            Conflict: The fleet has a hive of that name.
        """
        return await done(self._core.add(hive, loop_of_parts()))

    async def remove(self, hive: str, *, grace: float = 30.0) -> None:
        """Removes a machine and ends its workers. Its jobs go on elsewhere.

        Args:
            hive: Its name.
            grace: How long its workers have to end, in seconds.

        Raises:
            NotFound: There is no such hive.
        """
        await done(self._core.remove(hive, grace))

    async def stop(self, hive: str, *, grace: float = 30.0) -> None:
        """Ends the workers of a machine, which stays in the fleet.

        Raises:
            NotFound: There is no such hive.
        """
        await done(self._core.stop(hive, grace))

    async def start(self, hive: str) -> None:
        """Starts a machine that was stopped, or lets one that was drained take workers again.

        Raises:
            NotFound: There is no such hive.
        """
        await done(self._core.start(hive))

    async def drain(self, hive: str) -> None:
        """Starts no more workers on a machine, and unloads those that are there when their jobs have ended.

        Raises:
            NotFound: There is no such hive.
        """
        await done(self._core.drain(hive))

    async def unload(self, worker: str) -> None:
        """Ends a worker by its id.

        Raises:
            NotFound: There is no such worker.
        """
        await done(self._core.unload(worker))

    async def pin(self, worker: str, pinned: bool = True) -> None:
        """Keeps a worker loaded, whatever else is needed; or not any more.

        Raises:
            NotFound: There is no such worker.
        """
        await done(self._core.pin(worker, pinned))
