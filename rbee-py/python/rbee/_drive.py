"""Runs the asynchronous generators and methods of parts in their event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Awaitable
from concurrent.futures import Future
from typing import Any

_lock = threading.Lock()
_own: asyncio.AbstractEventLoop | None = None


def start(outputs: AsyncGenerator[Any, None], sink: Any, loop: asyncio.AbstractEventLoop | None) -> Future[None]:
    """Starts to read a generator in this loop, or in one of rbee's own. Returns a future that can be cancelled."""
    if loop is None or loop.is_closed():
        loop = _own_loop()
    return asyncio.run_coroutine_threadsafe(_drive(outputs, sink), loop)


def answer(awaitable: Awaitable[Any], sink: Any, loop: asyncio.AbstractEventLoop | None) -> None:
    """Awaits what a method has returned, in this loop or in one of rbee's own, and hands the result over."""
    if loop is None or loop.is_closed():
        loop = _own_loop()
    asyncio.run_coroutine_threadsafe(_answer(awaitable, sink), loop)


async def _answer(awaitable: Awaitable[Any], sink: Any) -> None:
    try:
        value = await awaitable
    except Exception as error:
        sink.fail(error)
    else:
        sink.set(value)


async def _drive(outputs: AsyncGenerator[Any, None], sink: Any) -> None:
    raised: Exception | None = None
    try:
        async with contextlib.aclosing(outputs):
            try:
                async for output in outputs:
                    slow = sink.send(output)
                    if slow is not None:
                        await slow
            except Exception as error:
                raised = error
        slow = sink.end(raised)
        if slow is not None:
            await slow
    finally:
        sink.close()


def _own_loop() -> asyncio.AbstractEventLoop:
    """The loop for parts of an application that has none."""
    global _own
    with _lock:
        if _own is None:
            _own = asyncio.new_event_loop()
            threading.Thread(target=_own.run_forever, name="rbee-loop", daemon=True).start()
        return _own
