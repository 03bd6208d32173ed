"""`Queen`, for threads and for event loops."""

from __future__ import annotations

from types import TracebackType

from . import _sync
from ._async import AsyncQueen


class Queen(_sync.Queen):
    __doc__ = _sync.Queen.__doc__

    _in_loop: AsyncQueen | None = None

    async def __aenter__(self) -> AsyncQueen:
        queen = AsyncQueen.__new__(AsyncQueen)
        queen.__dict__.update(self.__dict__)
        self._in_loop = queen
        return await queen.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        queen, self._in_loop = self._in_loop, None
        if queen is not None:
            await queen.__aexit__(kind, error, traceback)
