"""Tools and structured output with LangChain."""

from typing import Literal

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

chat = ChatOpenAI(model="bee-tiny", seed=7, max_retries=0, max_tokens=200)


class Flower(BaseModel):
    """A flower."""

    color: Literal["red", "blue"]
    petals: int = Field(le=9, ge=1)


for method in ("json_schema", "function_calling"):
    flower = chat.with_structured_output(Flower, method=method).invoke("Describe a flower.")
    assert isinstance(flower, Flower) and 1 <= flower.petals <= 9, flower
    print("ok", method, flush=True)


@tool
def visit(flower: Literal["rose", "clover"]) -> str:
    """Visits a flower."""
    return f"nectar of {flower}"


bound = chat.bind_tools([visit], tool_choice="visit", parallel_tool_calls=False)
question = HumanMessage("Visit a flower.")
answer = bound.invoke([question])
[call] = answer.tool_calls
result = visit.invoke(call)
assert isinstance(result, ToolMessage) and result.content.startswith("nectar of"), result
last = chat.invoke([question, answer, result])
assert last.content and not last.tool_calls, last
print("ok tools", flush=True)

chunks = list(bound.stream([question]))
whole = chunks[0]
for chunk in chunks[1:]:
    whole += chunk
assert whole.tool_calls[0]["name"] == "visit" and whole.tool_calls[0]["args"]["flower"] in ("rose", "clover"), whole
print("ok stream", flush=True)
