"""LangChain's classes for OpenAI."""

import asyncio

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

chat = ChatOpenAI(model="bee-tiny", max_tokens=5, seed=7, max_retries=0)
conversation = [SystemMessage("Be brief."), HumanMessage("Hi"), AIMessage("Hello"), HumanMessage("And?")]
answer = chat.invoke(conversation)
assert len(answer.content.split()) == 5, answer
assert answer.usage_metadata["output_tokens"] == 5
assert answer.response_metadata["finish_reason"] == "length"
print("ok chat", flush=True)

pieces = list(chat.stream("Hi", stream_usage=True))
assert "".join(piece.content for piece in pieces) == answer.content
assert sum(piece.usage_metadata["output_tokens"] for piece in pieces if piece.usage_metadata) == 5
assert len(chat.batch(["a", "b", "c"])) == 3
print("ok stream and batch", flush=True)

bare = OpenAI(model="bee-tiny", max_tokens=3, seed=7, temperature=0.5, max_retries=0)
assert len(bare.invoke("a").split()) == 3

# Otherwise it would send tokens of OpenAI's own vocabulary.
vectors = OpenAIEmbeddings(model="bee-tiny", check_embedding_ctx_length=False, max_retries=0)
assert [len(vector) for vector in vectors.embed_documents(["one", "two"])] == [8, 8]
print("ok completions and embeddings", flush=True)

try:
    ChatOpenAI(model="bee-tiny", temperature=3, max_retries=0).invoke("Hi")
    raise AssertionError("not refused")
except openai.BadRequestError as error:
    assert error.param == "temperature", error
assert asyncio.run(chat.ainvoke(conversation)).content == answer.content
print("ok errors and async", flush=True)
