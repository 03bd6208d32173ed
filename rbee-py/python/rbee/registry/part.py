"""What a store has to be: `Registry`."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from .changes import Change, JobFilter, PolicyFilter
from .rows import JobRecord, PolicyRecord, Snapshot

__all__ = ["Registry"]


class Registry(Protocol):
    """A store of the state that survives a restart: jobs, hives, the models on them, tenants and policies.

    Methods can be plain or `async`. A plain one runs in a thread of rbee's, so an `sqlite3` connection needs
    `check_same_thread=False`; an asynchronous one in the event loop in which the queen was opened, or in one of rbee's.
    rbee calls one method at a time and waits up to 60 seconds for it, so a store needs no locks. While a method runs,
    nothing else is recorded.

    The rows are dicts that JSON can hold, and must come back equal. Times are in milliseconds since 1970.

    Every job and hive has an owner: one run of one queen, named by its epoch. A run is alive until it is released, its
    lease has run out and another run has taken over its rows, or its queen opens the store again. So an old run that
    goes on after a pause cannot overwrite the rows of a newer one.

    A store that fails raises `rbee.Storage`; any other exception that is no error of rbee counts as that too. The queen
    then admits no jobs, and hands the same changes in again until the store takes them. Set `retry_after` of the error
    if the cause may pass by itself: then the queen tries again every 5 seconds at least, else every 30. An error of
    rbee of another kind refuses the changes for good.

    A store can also have a method `keep_ends(epoch, ends)`. It keeps ends of jobs (`JobEnded`) that `record` cannot
    write because the store fails, in another place that survives this process; whoever takes over those jobs must find
    them ended. An empty list says that they are recorded. Without it, those jobs run again if the process dies.

    `rbee.conformance.check_registry` checks a store. `examples/registry.py` of rbee's sources is a complete one.

    Example:
        >>> class Logging:
        ...     "Passes everything on to another store."
        ...
        ...     def __init__(self, store: rbee.Registry) -> None:
        ...         self.store = store
        ...
        ...     def open(self, queen, lease):
        ...         print(queen, "opens the store")
        ...         return self.store.open(queen, lease)
        ...
        ...     def record(self, epoch, changes):
        ...         print(*(type(change).__name__ for change in changes))
        ...         return self.store.record(epoch, changes)
        ...
        ...     def __getattr__(self, name):
        ...         return getattr(self.store, name)
    """

    def open(self, queen: str, lease: float, /) -> Snapshot | Awaitable[Snapshot]:
        """Opens the store for a new run of a queen.

        Its epoch is greater than every previous one, by a small step. It takes over the rows of every run that is not
        alive, and of previous runs of the same queen, which end here. Jobs that it takes over get `taken_over`, and one
        that runs gets one more of `restarts`.

        Args:
            queen: The name of the queen.
            lease: How long the run is alive without a `renew`, in seconds.

        Returns:
            The rows that were taken over, and all tenants.
        """
        ...

    def record(self, epoch: int, changes: Sequence[Change], /) -> None | Awaitable[None]:
        """Writes all changes, in order, or none. When it returns, they survive the death of this process.

        Without changes it checks that the run may write, and that the store works.

        Args:
            epoch: The run that writes.
            changes: The changes.

        Raises:
            Fenced: A job or hive belongs to another run, or this run has ended. Nothing is written.
            Storage: The store fails. Nothing is written.
        """
        ...

    def renew(self, epoch: int, /) -> Snapshot | Awaitable[Snapshot]:
        """Renews the lease, and takes over the rows of runs that are not alive any more.

        Returns:
            The rows that were taken over now, and all tenants.

        Raises:
            Fenced: This run has ended.
        """
        ...

    def release(self, epoch: int, /) -> None | Awaitable[None]:
        """Ends this run: another one may take over its rows at once.

        Its running jobs are queued again, and the current attempt does not count. A run that has ended stays so.
        """
        ...

    def jobs(self, filter: JobFilter, /) -> Sequence[JobRecord] | Awaitable[Sequence[JobRecord]]:
        """Lists jobs of every owner, the newest (the highest `order`) first."""
        ...

    def policies(self, filter: PolicyFilter, /) -> Sequence[PolicyRecord] | Awaitable[Sequence[PolicyRecord]]:
        """Lists versions of the policy, the newest last."""
        ...
