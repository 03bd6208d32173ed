"""llama.cpp as a peer of the worker benchmark: reads cases as JSON lines, and answers each with its measurement.

Usage: llama_cpp.py MODEL THREADS SEQUENCES CONTEXT
"""

import json
import os
import sys
import threading
import time
import urllib.request

import xllamacpp


def main() -> None:
    path, threads, sequences, context = sys.argv[1], *map(int, sys.argv[2:5])
    # Its log goes to the standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    begun = time.monotonic()
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_parallel = sequences
    params.n_ctx = context
    params.kv_unified = True
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.warmup = False
    params.verbosity = 0
    server = xllamacpp.Server(params)
    loaded = time.monotonic() - begun
    url = server.listening_address

    def post(body: dict) -> dict:
        data = json.dumps(body).encode()
        request = urllib.request.Request(url + "/completion", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def generate(prompts: list, count: int) -> list:
        out = [None] * len(prompts)

        def one(index: int) -> None:
            out[index] = post(
                {
                    "prompt": prompts[index],
                    "n_predict": count,
                    "temperature": 0,
                    "ignore_eos": True,
                    "cache_prompt": True,
                    "id_slot": index,
                }
            )

        workers = [threading.Thread(target=one, args=(index,)) for index in range(len(prompts))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return out

    def stream(prompt: list, count: int, times: list, slot: int) -> None:
        body = {"prompt": prompt, "n_predict": count, "temperature": 0, "ignore_eos": True}
        body |= {"stream": True, "id_slot": slot}
        data = json.dumps(body).encode()
        request = urllib.request.Request(url + "/completion", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            for line in response:
                if line.startswith(b"data: "):
                    times.append(time.monotonic())

    def arrival(prompts: list, count: int, late: list) -> tuple:
        """The time to the first token of a prompt that comes when the others have 4 tokens, and their longest gap."""
        times = [[] for _ in prompts]
        threads = [
            threading.Thread(target=stream, args=(prompt, count, own, slot))
            for slot, (prompt, own) in enumerate(zip(prompts, times))
        ]
        for thread in threads:
            thread.start()
        while any(len(own) < 4 for own in times):
            time.sleep(0.001)
        at, first = time.monotonic(), []
        stream(late, 1, first, len(prompts))
        for thread in threads:
            thread.join()
        gaps = [b - a for own in times for a, b in zip(own, own[1:]) if b > at and a < first[0]]
        return first[0] - at, max(gaps, default=0.0)

    print(json.dumps({"loaded": loaded, "system": xllamacpp.get_system_info()}), file=answers, flush=True)
    for line in sys.stdin:
        case = json.loads(line)
        # The prompts are computed first, so that only the case itself is measured.
        if case["warm"]:
            generate([prompt[:-1] for prompt in case["prompts"]], 1)
        begun, cpu = time.monotonic(), time.process_time()
        if case["arrival"]:
            first, gap = arrival(case["prompts"], case["count"], case["arrival"])
            answer = {"wall": time.monotonic() - begun, "cpu": time.process_time() - cpu, "prompt_tokens": 0}
            answer |= {"tokens": 0, "seconds": 0.0, "arrival": [first, gap]}
            print(json.dumps(answer), file=answers, flush=True)
            continue
        results = generate(case["prompts"], case["count"])
        wall, cpu = time.monotonic() - begun, time.process_time() - cpu
        timings = [result["timings"] for result in results]
        answer = {
            "wall": wall,
            "cpu": cpu,
            "prompt_tokens": sum(t["prompt_n"] for t in timings),
            "tokens": sum(t["predicted_n"] for t in timings),
            "seconds": max(t["predicted_ms"] for t in timings) / 1e3,
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
