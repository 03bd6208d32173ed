"""Cohere's Python client reranks with a queen."""

import asyncio
import json
import os
import sys

import cohere

OPTIONS = {
    "base_url": os.environ["OPENAI_BASE_URL"].removesuffix("/v1"),
    "api_key": os.environ["OPENAI_API_KEY"],
}
with open(sys.argv[1], encoding="utf-8") as file:
    GOLDEN = [case for case in json.load(file)["cases"] if case["query"] == "honey"]
DOCUMENTS = [case["document"] for case in GOLDEN]
SCORES = [case["score"] for case in GOLDEN]
BEST = sorted(range(len(SCORES)), key=lambda index: -SCORES[index])
ASK = {"model": "reranker", "query": "honey", "documents": DOCUMENTS}

for name, client in [("v2", cohere.ClientV2(**OPTIONS)), ("v1", cohere.Client(**OPTIONS))]:
    answer = client.rerank(**ASK)
    assert [result.index for result in answer.results] == BEST, answer
    for result in answer.results:
        assert abs(result.relevance_score - SCORES[result.index]) < 1e-5, result
    assert answer.id and answer.meta.tokens.input_tokens > 0 and answer.meta.api_version.version == "2", answer
    assert [result.index for result in client.rerank(**ASK, top_n=2).results] == BEST[:2]
    for kind, fields in [
        (cohere.BadRequestError, {"query": ""}),
        (cohere.BadRequestError, {"top_n": 0}),
        (cohere.NotFoundError, {"model": "no-such-model"}),
    ]:
        try:
            client.rerank(**{**ASK, **fields}, request_options={"max_retries": 0})
            raise AssertionError(f"not refused: {fields}")
        except kind:
            pass
    print(f"ok {name}", flush=True)

objects = [{"text": text} for text in DOCUMENTS]
answer = cohere.Client(**OPTIONS).rerank(
    model="reranker", query="honey", documents=objects, rank_fields=["text"], return_documents=True
)
assert [result.document.text for result in answer.results] == [DOCUMENTS[index] for index in BEST]
print("ok objects", flush=True)


async def main():
    answer = await cohere.AsyncClientV2(**OPTIONS).rerank(**ASK)
    assert [result.index for result in answer.results] == BEST


asyncio.run(main())
print("ok async", flush=True)
