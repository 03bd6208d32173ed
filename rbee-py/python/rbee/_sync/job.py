"""`Job`: a job for threads. Made by `tools/make_sync.py`."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from .. import _rbee
from .._done import waited as done
from ..types import Delta, Event, JobAnswer

if TYPE_CHECKING:
    from typing_extensions import Self


class Job:
    """A job: `for` gives its text as it comes.

    Pieces that arrived together are given together. Dropping a job that was submitted cancels it, unless it was
    detached; so does leaving `with`.

    Example:
        >>> with rbee.Queen() as queen:
        ...     with queen.submit(prompt="Hi", max_tokens=100) as job:
        ...         for text in job:
        ...             break
    """

    def __init__(self, core: _rbee.Job) -> None:
        self._core = core

    @property
    def id(self) -> str:
        """The id of the job."""
        return self._core.id

    def __iter__(self) -> Iterator[str]:
        return self._core.text()

    def events(self) -> Iterator[Event]:
        """Gives the events instead of the text. Both read the same stream: what one gives, the other does not."""
        return self._core.events()

    def deltas(self) -> Iterator[Delta]:
        """Gives the parts of the answer instead of its text: content, reasoning and tool calls.

        Example:
            >>> with rbee.Queen() as queen:
            ...     job = queen.submit(prompt="Hi", temperature=0, max_tokens=4)
            ...     for delta in job.deltas():
            ...         if isinstance(delta, rbee.types.ContentDelta):
            ...             print(delta.text, end="")  # doctest: +SKIP
        """
        return self._core.deltas()

    def result(self) -> JobAnswer:
        """Waits for the end.

        Returns:
            The whole answer, with what was read before.

        Raises:
            RbeeError: The error of the job.
        """
        return done(self._core.result())

    def cancel(self) -> None:
        """Cancels the job. Its reader gets the error `Cancelled`, unless it had ended already."""
        self._core.cancel()

    def detach(self) -> None:
        """Lets the job go on when this object is dropped."""
        self._core.detach()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._core.cancel()

    def __repr__(self) -> str:
        return f"<rbee.{type(self).__name__} {self.id}>"

    def __reduce__(self) -> str:
        raise TypeError("a job cannot be pickled; pass its id, and attach to it")
