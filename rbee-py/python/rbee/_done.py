"""How operations are waited for: `_async` awaits them, and `_sync` waits in the thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ._rbee import Pending

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

_T = TypeVar("_T")


def awaited(pending: Pending[_T]) -> Pending[_T]:
    """Returns the operation, to be awaited."""
    return pending


def waited(pending: Pending[_T]) -> _T:
    """Waits for the operation, and returns its result."""
    return pending.wait()


def running_loop() -> AbstractEventLoop | None:
    """Returns the event loop in which parts of the application run."""
    import asyncio

    return asyncio.get_running_loop()


def no_loop() -> AbstractEventLoop | None:
    """Returns `None`: parts run in a loop of rbee's own."""
    return None
