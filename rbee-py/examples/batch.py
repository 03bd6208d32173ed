"""Answers many prompts: `python batch.py 1000`. All are in the queue at once, and workers take them in turn.

With `tqdm` installed it shows a progress bar.
"""

import asyncio
import sys
from collections.abc import Iterable
from typing import TypeVar

import rbee


Answered = TypeVar("Answered")


def shown(tasks: Iterable[Answered], count: int) -> Iterable[Answered]:
    """The same tasks, with a progress bar if there can be one."""
    try:
        from tqdm import tqdm
    except ImportError:
        return tasks
    bar: Iterable[Answered] = tqdm(tasks, total=count)
    return bar


async def main(count: int) -> None:
    # The queue takes all of them, also while no worker is idle.
    async with rbee.Queen(queue_capacity=max(count, 1000)) as queen:

        async def answer(number: int) -> tuple[int, str]:
            prompt = f"Tell me about bee number {number}."
            job = await queen.submit(prompt=prompt, seed=number, max_tokens=12, priority="batch")
            return number, (await job.result()).text

        answers: dict[int, str] = {}
        tasks = asyncio.as_completed([answer(number) for number in range(count)])
        for task in shown(tasks, count):
            number, text = await task
            answers[number] = text
    for number in range(min(count, 3)):
        print(f"{number}: {answers[number]}")
    print(f"{len(answers)} answers")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
