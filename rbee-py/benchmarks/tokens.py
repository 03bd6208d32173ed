"""What a token costs in Python: processor time of the process that reads, without the workers, which are others.

Compares, in rounds that alternate:

- `result`: the job is read in Rust, and Python gets the whole answer. The others cost what they take beyond this.
- `for` and `async for`: Python gets each piece.
- `openai`: the official client reads the same jobs from `queen.serve` over loopback, in a process of its own. It needs
  the package `openai`.

Usage: `python tokens.py [ROUNDS]`
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time

import rbee

JOBS = 8
TOKENS = 400
ARGUMENTS = {"max_tokens": TOKENS, "min_tokens": TOKENS, "temperature": 0.0}

CLIENT = """
import sys, time
from openai import OpenAI
client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
jobs, tokens = int(sys.argv[2]), int(sys.argv[3])

def read(number):
    stream = client.chat.completions.create(
        model="bee-tiny", messages=[{"role": "user", "content": f"Bee {number}"}], stream=True,
        max_tokens=tokens, temperature=0.0, extra_body={"min_tokens": tokens},
    )
    return sum(1 for chunk in stream if chunk.choices)

read(0)
start = time.process_time()
for number in range(jobs):
    read(number)
print(time.process_time() - start)
"""


def whole(queen: rbee.Queen) -> int:
    for number in range(JOBS):
        queen.submit(prompt=f"Bee {number}", **ARGUMENTS).result()
    return 0


def pieces(queen: rbee.Queen) -> int:
    return sum(1 for number in range(JOBS) for _ in queen.submit(prompt=f"Bee {number}", **ARGUMENTS))


async def pieces_in_loop(queen: rbee.AsyncQueen) -> int:
    count = 0
    for number in range(JOBS):
        async for _ in await queen.submit(prompt=f"Bee {number}", **ARGUMENTS):
            count += 1
    return count


def main(rounds: int) -> None:
    seconds: dict[str, list[float]] = {}
    counts: dict[str, int] = {}
    with rbee.Queen() as queen, asyncio.Runner() as runner, queen.serve() as server:
        in_loop = rbee.AsyncQueen()
        runner.run(in_loop.open())
        for number in range(rounds + 1):
            for name, read in (("result", whole), ("for", pieces), ("async for", pieces_in_loop)):
                start = time.process_time()
                counts[name] = runner.run(read(in_loop)) if read is pieces_in_loop else read(queen)
                # The first round starts workers and imports modules.
                if number:
                    seconds.setdefault(name, []).append(time.process_time() - start)
        for _ in range(rounds):
            command = [sys.executable, "-c", CLIENT, server.url, str(JOBS), str(TOKENS)]
            client = subprocess.run(command, capture_output=True, text=True, check=False)
            if client.returncode:
                print("the client of openai is not measured:", client.stderr.strip().splitlines()[-1:])
                break
            seconds.setdefault("openai", []).append(float(client.stdout))
        runner.run(in_loop.close())
    per_token = {name: statistics.median(values) / (JOBS * TOKENS) * 1e6 for name, values in seconds.items()}
    for name, micros in per_token.items():
        beyond = micros - (0 if name == "openai" else per_token["result"])
        print(json.dumps({
            "what": name,
            "us_per_token": round(micros, 2),
            "us_beyond_result": round(beyond, 2),
            "pieces": counts.get(name),
        }))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
