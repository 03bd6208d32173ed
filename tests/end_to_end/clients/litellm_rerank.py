"""LiteLLM's SDK reranks with a queen, as with the services of Jina and Cohere and with servers of vLLM and Infinity."""

import asyncio
import json
import os
import sys

import litellm

# A rerank of vLLM or Infinity has no version in its path.
ROOT = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")
ASK = {"api_base": ROOT, "api_key": os.environ["OPENAI_API_KEY"], "num_retries": 0}
with open(sys.argv[1], encoding="utf-8") as file:
    GOLDEN = [case for case in json.load(file)["cases"] if case["query"] == "honey"]
DOCUMENTS = [case["document"] for case in GOLDEN]
SCORES = [case["score"] for case in GOLDEN]
BEST = sorted(range(len(SCORES)), key=lambda index: -SCORES[index])

for provider in ["jina_ai", "cohere", "hosted_vllm", "infinity"]:
    # Infinity sends documents back as bare texts, and its clients read no other form.
    has_texts = provider != "infinity"
    ask = {"model": f"{provider}/reranker", "query": "honey", "documents": DOCUMENTS, **ASK}
    ask["return_documents"] = has_texts
    answer = litellm.rerank(**ask)
    assert [result["index"] for result in answer.results] == BEST, (provider, answer)
    for result in answer.results:
        assert abs(result["relevance_score"] - SCORES[result["index"]]) < 1e-5, (provider, result)
        if has_texts and DOCUMENTS[result["index"]]:
            assert result["document"]["text"] == DOCUMENTS[result["index"]], (provider, result)
    answer = litellm.rerank(**ask, top_n=2)
    assert [result["index"] for result in answer.results] == BEST[:2], (provider, answer)
    print(f"ok {provider}", flush=True)

bare = litellm.rerank(
    model="cohere/reranker", query="honey", documents=DOCUMENTS[:2], return_documents=False, rank_fields=["text"], **ASK
)
assert all("document" not in result for result in bare.results), bare
assert bare.meta["tokens"]["input_tokens"] > 0 and bare.id, bare
print("ok options", flush=True)

for fields in [{"query": ""}, {"model": "cohere/no-such-model"}, {"documents": []}, {"max_chunks_per_doc": 3}]:
    try:
        litellm.rerank(**{"model": "cohere/reranker", "query": "a", "documents": ["b"], **ASK, **fields})
    except Exception as error:
        assert not isinstance(error, AssertionError)
    else:
        raise AssertionError(f"not refused: {fields}")
print("ok errors", flush=True)


async def main():
    answer = await litellm.arerank(model="jina_ai/reranker", query="honey", documents=DOCUMENTS, **ASK)
    assert [result["index"] for result in answer.results] == BEST


asyncio.run(main())
print("ok async", flush=True)
