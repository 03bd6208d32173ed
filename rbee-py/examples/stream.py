"""Streams an answer: `python stream.py "What is a bee?"`."""

import sys

import rbee

prompt = " ".join(sys.argv[1:]) or "What is a bee?"

with rbee.Queen() as queen:
    job = queen.submit(prompt=prompt, max_tokens=60)
    for text in job:
        print(text, end="", flush=True)
    usage = job.result().usage
    print(f"\n\n{usage.prompt_tokens} tokens of the prompt, {usage.completion_tokens} of the answer")
