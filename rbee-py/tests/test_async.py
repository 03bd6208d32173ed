"""The same in event loops."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import rbee


def run(work: Callable[[rbee.AsyncQueen], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        async with rbee.Queen(**options) as queen:
            return await work(queen)

    return asyncio.run(main())


def task_in_python(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
    tasks: Any = asyncio.tasks
    return tasks._PyTask(work, loop=loop, **options)


def test_async_for_gives_the_answer() -> None:
    async def work(queen: rbee.AsyncQueen) -> None:
        job = await queen.submit(prompt="What is a bee?", seed=1, max_tokens=12)
        pieces = [text async for text in job]
        answer = await job.result()
        assert "".join(pieces) == answer.text
        assert answer.usage.completion_tokens == 12
        events = [event async for event in (await queen.attach(job.id)).events()]
        assert isinstance(events[-1], rbee.End)

    run(work)


def test_many_jobs_share_one_loop() -> None:
    async def work(queen: rbee.AsyncQueen) -> None:
        async def one(seed: int) -> str:
            job = await queen.submit(prompt="Name a bee.", seed=seed, max_tokens=8)
            return "".join([text async for text in job])

        answers = await asyncio.gather(*(one(seed % 5) for seed in range(50)))
        assert all(answers[seed] == answers[seed + 5] for seed in range(45))

    run(work)


def test_a_timeout_loses_nothing_of_the_stream() -> None:
    async def work(queen: rbee.AsyncQueen) -> None:
        whole = await (await queen.submit(prompt="What is a bee?", seed=1, max_tokens=60)).result()
        job = await queen.submit(prompt="What is a bee?", seed=1, max_tokens=60)
        reader = job.__aiter__()
        text = ""
        while True:
            try:
                text += await asyncio.wait_for(reader.__anext__(), 0.0005)
            except asyncio.TimeoutError:
                continue
            except StopAsyncIteration:
                break
        assert text == whole.text

    run(work)


def test_a_cancelled_task_ends_its_job_soon() -> None:
    async def work(queen: rbee.AsyncQueen) -> None:
        begun: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def read() -> None:
            job = await queen.submit(prompt="Tell me everything.", max_tokens=450, min_tokens=450)
            async for _ in job:
                if not begun.done():
                    begun.set_result(job.id)

        task = asyncio.create_task(read())
        job = await begun
        task.cancel()
        start = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        with pytest.raises(rbee.Cancelled):
            await (await queen.attach(job)).result()
        assert time.monotonic() - start < 5

    run(work)


def test_a_cancelled_task_takes_its_job_out_of_the_queue() -> None:
    async def work(queen: rbee.AsyncQueen) -> None:
        await queen.policy.set("// Waits.\nfn schedule(job, workers, hives) { wait() }")
        job_id = ""

        async def read() -> None:
            nonlocal job_id
            job = await queen.submit(prompt="Hi")
            job_id = job.id
            async for _ in job:
                pass

        task = asyncio.create_task(read())
        while not job_id or await queen.position(job_id) is None:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        while await queen.position(job_id) is not None:
            await asyncio.sleep(0.01)
        assert (await queen.job(job_id)).state == "cancelled"

    run(work)


def test_an_application_that_raises_inside_async_for_ends_its_job() -> None:
    async def work(queen: rbee.AsyncQueen) -> None:
        job_id = ""

        async def read() -> None:
            nonlocal job_id
            async with await queen.submit(prompt="Tell me everything.", max_tokens=450, min_tokens=450) as job:
                job_id = job.id
                async for _ in job:
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await read()
        with pytest.raises(rbee.Cancelled):
            await (await queen.attach(job_id)).result()

    run(work)


def test_a_storm_of_cancellations_leaves_no_slot_taken() -> None:
    async def work(queen: rbee.AsyncQueen) -> None:
        async def read(seed: int) -> None:
            job = await queen.submit(prompt="Tell me everything.", seed=seed, max_tokens=100, min_tokens=100)
            async for _ in job:
                pass

        for turn in range(5):
            tasks = [asyncio.create_task(read(seed)) for seed in range(20)]
            await asyncio.sleep(0.01 * turn)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        answer = await (await queen.submit(prompt="Hi", max_tokens=4, min_tokens=4)).result()
        assert answer.usage.completion_tokens == 4
        while (await queen.status()).jobs:
            await asyncio.sleep(0.01)
        assert all(worker.free_slots == worker.slots for worker in await queen.fleet.workers())

    run(work)


def test_another_task_cannot_wait_for_the_same_item() -> None:
    async def work(queen: rbee.AsyncQueen) -> None:
        job = await queen.submit(prompt="Hi", max_tokens=200, min_tokens=200)
        events = job.events()

        async def read() -> None:
            async for _ in events:
                pass

        first = asyncio.create_task(read())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            while True:
                await events.__anext__()
        await first

    run(work)


def test_other_tasks_run_while_a_stream_is_always_ready() -> None:
    async def work(queen: rbee.AsyncQueen) -> None:
        job = await queen.submit(prompt="Hi", seed=1, max_tokens=200, min_tokens=200)
        await job.result()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        events = [event async for event in (await queen.attach(job.id)).events()]
        task.cancel()
        assert len(events) > 200
        assert turns > 3

    run(work)


@pytest.mark.parametrize("name", ["uvloop", "anyio"])
def test_other_loops_and_frameworks_work(name: str) -> None:
    module = pytest.importorskip(name)

    async def main() -> str:
        async with rbee.Queen() as queen:
            job = await queen.submit(prompt="What is a bee?", seed=1, max_tokens=8)
            return "".join([text async for text in job])

    text = module.run(main) if name == "anyio" else module.run(main())
    assert text.startswith("Bees")


@pytest.mark.parametrize("kind", ["tasks written in Python", "eager tasks", "debug mode"])
def test_every_kind_of_task_reads_streams_in_its_own_context(kind: str) -> None:
    number: contextvars.ContextVar[int] = contextvars.ContextVar("number")

    async def one(queen: rbee.AsyncQueen, seed: int) -> str:
        number.set(seed)
        pieces: list[str] = []
        async for text in await queen.submit(prompt="Name a bee.", seed=seed % 2, max_tokens=8):
            assert number.get() == seed
            pieces.append(text)
        return "".join(pieces)

    async def work(queen: rbee.AsyncQueen) -> None:
        loop = asyncio.get_running_loop()
        if kind == "tasks written in Python":
            loop.set_task_factory(task_in_python)
        elif kind == "eager tasks":
            if sys.version_info < (3, 12):
                pytest.skip("there are none before 3.12")
            loop.set_task_factory(asyncio.eager_task_factory)
        else:
            loop.set_debug(True)
        answers = await asyncio.gather(*(one(queen, seed) for seed in range(8)))
        assert set(answers[::2]) == {answers[0]}
        task = asyncio.ensure_future(one(queen, 9))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work)


def test_a_task_that_exits_does_not_take_the_pieces_of_others_with_it() -> None:
    texts = [""] * 8
    waiting, exited = False, -1

    async def one(queen: rbee.AsyncQueen, number: int) -> None:
        nonlocal waiting, exited
        async for text in await queen.submit(prompt="Hi", seed=1, max_tokens=20, min_tokens=20):
            texts[number] += text
            if number == 0 and not waiting:
                # Pieces of all others come in the meantime, and are handed over in one turn of the loop.
                time.sleep(0.3)
                waiting = True
            elif waiting and exited < 0:
                exited = number
                raise SystemExit(3)

    loop = asyncio.new_event_loop()
    queen = loop.run_until_complete(rbee.AsyncQueen().open())
    tasks = [loop.create_task(one(queen, number)) for number in range(8)]
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert isinstance(tasks.pop(exited).exception(), SystemExit)
    loop.run_until_complete(asyncio.wait_for(asyncio.gather(*tasks), 30))
    assert {text for number, text in enumerate(texts) if number != exited} == {texts[0]}
    loop.run_until_complete(queen.close())
    loop.close()


def test_a_queen_can_be_used_from_a_loop_and_from_threads() -> None:
    def in_thread(queen: rbee.Queen, seed: int) -> str:
        return "".join(queen.submit(prompt="Hi", seed=seed, max_tokens=8))

    async def main() -> None:
        with rbee.Queen() as queen:
            texts = await asyncio.gather(*(asyncio.to_thread(in_thread, queen, 1) for _ in range(8)))
            assert len(set(texts)) == 1

    asyncio.run(main())
