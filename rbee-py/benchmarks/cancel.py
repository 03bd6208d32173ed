"""How long a cancelled reader takes to reach the worker.

A task that reads a stream with `async for` is cancelled, and the worker, a generator of this process that waits between
its tokens, notes when it is closed. Prints the median and the slowest of the rounds, in milliseconds, for a worker that
is an asynchronous generator and for one that is a plain one, which notices it at its next token (every 10 ms).

Usage: `python cancel.py [ROUNDS]`
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator

import rbee

TOKENS_APART = 0.01


class Awaiting:
    model = "awaiting"
    closed = 0.0
    done = threading.Event()

    async def execute(self, run: rbee.Run) -> AsyncIterator[str]:
        try:
            while True:
                yield "token "
                await asyncio.sleep(TOKENS_APART)
        finally:
            self.closed = time.perf_counter()
            self.done.set()


class Waiting:
    model = "waiting"
    closed = 0.0
    done = threading.Event()

    def execute(self, run: rbee.Run) -> Iterator[str]:
        try:
            while True:
                yield "token "
                time.sleep(TOKENS_APART)
        finally:
            self.closed = time.perf_counter()
            self.done.set()


async def main(rounds: int) -> None:
    workers = (Awaiting(), Waiting())
    async with rbee.Queen(local_hive=False, workers=workers) as queen:
        for worker in workers:
            millis = []
            for _ in range(rounds):
                worker.done.clear()
                begun = asyncio.Event()

                async def read(model: str = worker.model, begun: asyncio.Event = begun) -> None:
                    async for _ in await queen.submit(model=model, prompt="Hi"):
                        begun.set()

                task = asyncio.create_task(read())
                await begun.wait()
                start = time.perf_counter()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await asyncio.to_thread(worker.done.wait, 30)
                millis.append((worker.closed - start) * 1e3)
            print(json.dumps({
                "worker": worker.model,
                "rounds": rounds,
                "median_ms": round(statistics.median(millis), 2),
                "slowest_ms": round(max(millis), 2),
            }))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50))
