"""OpenAI's client asks for vectors: openai_sdk.py GOLDEN. The server is in OPENAI_BASE_URL."""

import base64
import json
import struct
import sys
import time
from pathlib import Path

import openai


def distance(a: list[float], b: list[float]) -> float:
    assert len(a) == len(b) == 384, (len(a), len(b))
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def main() -> None:
    cases = json.loads(Path(sys.argv[1]).read_text())["cases"]
    client = openai.OpenAI(max_retries=0, timeout=60)
    one = client.embeddings.create(model="minilm", input=cases[0]["text"], encoding_format="float")
    assert distance(one.data[0].embedding, cases[0]["vector"]) < 1e-4
    assert one.usage.prompt_tokens == one.usage.total_tokens == 11, one.usage

    # The client requests base64 by default, and converts it to numbers.
    texts = [cases[at % 5]["text"] for at in range(100)]
    begun = time.perf_counter()
    many = client.embeddings.create(model="minilm", input=texts)
    took = time.perf_counter() - begun
    assert [item.index for item in many.data] == list(range(100))
    worst = max(distance(many.data[at].embedding, cases[at % 5]["vector"]) for at in range(100))
    assert worst < 1e-4, worst
    print(f"100 texts in {took * 1000:.0f} ms, off by {worst:.1e}")

    raw = client.embeddings.create(model="minilm", input=[cases[0]["text"]], encoding_format="base64")
    numbers = struct.unpack("<384f", base64.b64decode(raw.data[0].embedding))
    assert distance(list(numbers), cases[0]["vector"]) < 1e-4

    try:
        client.embeddings.create(model="minilm", input=["short", "honey " * 255])
    except openai.BadRequestError as error:
        assert error.param == "input", error
        assert "maximum context length is 256 tokens, however you requested 257 tokens" in error.message, error
    else:
        raise AssertionError("a text that is too long was taken")
    try:
        client.chat.completions.create(model="minilm", messages=[{"role": "user", "content": "Hi"}])
    except openai.BadRequestError as error:
        print(error.message)
    else:
        raise AssertionError("a model for vectors answered a conversation")


if __name__ == "__main__":
    main()
