"""`AsyncJob`: a job for event loops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING

from .. import _rbee
from .._done import awaited as done
from ..types import Delta, Event, JobAnswer

if TYPE_CHECKING:
    from typing_extensions import Self


class AsyncJob:
    """A job: `async for` gives its text as it comes.

    Pieces that arrived together are given together. Dropping a job that was submitted cancels it, unless it was
    detached; so does leaving `async with`.

    Example:
        >>> async with rbee.AsyncQueen() as queen:
        ...     async with await queen.submit(prompt="Hi", max_tokens=100) as job:
        ...         async for text in job:
        ...             break
    """

    def __init__(self, core: _rbee.Job) -> None:
        self._core = core

    @property
    def id(self) -> str:
        """The id of the job."""
        return self._core.id

    def __aiter__(self) -> AsyncIterator[str]:
        return self._core.text()

    def events(self) -> AsyncIterator[Event]:
        """Gives the events instead of the text. Both read the same stream: what one gives, the other does not."""
        return self._core.events()

    def deltas(self) -> AsyncIterator[Delta]:
        """Gives the parts of the answer instead of its text: content, reasoning and tool calls.

        Example:
            >>> async with rbee.AsyncQueen() as queen:
            ...     job = await queen.submit(prompt="Hi", temperature=0, max_tokens=4)
            ...     async for delta in job.deltas():
            ...         if isinstance(delta, rbee.types.ContentDelta):
            ...             print(delta.text, end="")  # doctest: +SKIP
        """
        return self._core.deltas()

    async def result(self) -> JobAnswer:
        """Waits for the end.

        Returns:
            The whole answer, with what was read before.

        Raises:
            RbeeError: The error of the job.
        """
        return await done(self._core.result())

    def cancel(self) -> None:
        """Cancels the job. Its reader gets the error `Cancelled`, unless it had ended already."""
        self._core.cancel()

    def detach(self) -> None:
        """Lets the job go on when this object is dropped."""
        self._core.detach()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
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
