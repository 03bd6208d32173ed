"""`Fleet`: machines and workers for threads. Made by `tools/make_sync.py`."""

from __future__ import annotations

import builtins

from .. import _rbee
from .._done import waited as done
from .._done import no_loop as loop_of_parts
from .._read import hive_status
from ..hive_backend import HiveBackend
from ..hives import SshHive, UrlHive
from ..types import HiveStatus, WorkerStatus


class Fleet:
    """The machines and workers of a queen."""

    def __init__(self, core: _rbee.FleetCore) -> None:
        self._core = core

    def list(self) -> builtins.list[HiveStatus]:
        """Lists the machines."""
        return [hive_status(hive) for hive in done(self._core.list())]

    def workers(self) -> builtins.list[WorkerStatus]:
        """Lists the workers."""
        return [WorkerStatus(**worker) for worker in done(self._core.workers())]

    def add(self, hive: SshHive | UrlHive | HiveBackend) -> str:
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
        return done(self._core.add(hive, loop_of_parts()))

    def remove(self, hive: str, *, grace: float = 30.0) -> None:
        """Removes a machine and ends its workers. Its jobs go on elsewhere.

        Args:
            hive: Its name.
            grace: How long its workers have to end, in seconds.

        Raises:
            NotFound: There is no such hive.
        """
        done(self._core.remove(hive, grace))

    def stop(self, hive: str, *, grace: float = 30.0) -> None:
        """Ends the workers of a machine, which stays in the fleet.

        Raises:
            NotFound: There is no such hive.
        """
        done(self._core.stop(hive, grace))

    def start(self, hive: str) -> None:
        """Starts a machine that was stopped, or lets one that was drained take workers again.

        Raises:
            NotFound: There is no such hive.
        """
        done(self._core.start(hive))

    def drain(self, hive: str) -> None:
        """Starts no more workers on a machine, and unloads those that are there when their jobs have ended.

        Raises:
            NotFound: There is no such hive.
        """
        done(self._core.drain(hive))

    def unload(self, worker: str) -> None:
        """Ends a worker by its id.

        Raises:
            NotFound: There is no such worker.
        """
        done(self._core.unload(worker))

    def pin(self, worker: str, pinned: bool = True) -> None:
        """Keeps a worker loaded, whatever else is needed; or not any more.

        Raises:
            NotFound: There is no such worker.
        """
        done(self._core.pin(worker, pinned))
