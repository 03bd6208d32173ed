"""LangChain's package for Ollama, as its users use it. OLLAMA_HOST names the server."""

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings
from pydantic import BaseModel, Field

ASK = [HumanMessage("Tell me about a flower.")]


def step(name):
    print("ok", name, flush=True)


model = ChatOllama(model="bee-tiny", num_predict=8, seed=7, validate_model_on_init=True)
answer = model.invoke(ASK)
assert answer.content and answer.usage_metadata["output_tokens"] == 8, answer
assert "".join(part.content for part in model.stream(ASK)) == answer.content
step("chat")


@tool
def visit(flower: str, times: int) -> str:
    """Visits a flower."""
    return "nectar"


# LangChain's ids of calls do not reach the server: Ollama's client leaves them out.
history = [
    *ASK,
    AIMessage("", tool_calls=[{"name": "visit", "args": {"flower": "rose", "times": 2}, "id": "a"}]),
    ToolMessage("nectar", tool_call_id="a"),
]
assert model.bind_tools([visit]).invoke(history).response_metadata["done_reason"]
called = ChatOllama(model="caller", reasoning=True).bind_tools([visit]).invoke(ASK)
[call] = called.tool_calls
assert (call["name"], call["args"]) == ("visit", {"flower": "rose", "times": 2}), called
assert called.additional_kwargs["reasoning_content"] == "Hm.", called
step("tools")


class Flower(BaseModel):
    petals: int = Field(ge=1, le=40)


long = ChatOllama(model="bee-tiny", num_predict=100, seed=3, reasoning=False)
flower = long.with_structured_output(Flower, method="json_schema").invoke(ASK)
assert isinstance(flower, Flower), flower
step("structured output")

vectors = OllamaEmbeddings(model="vectors").embed_documents(["one", "two"])
assert len(vectors) == 2 and len(vectors[0]) == 8, vectors
step("embeddings")
