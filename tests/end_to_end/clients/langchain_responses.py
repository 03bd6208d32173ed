"""The Responses API with LangChain."""

from typing import Literal

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

chat = ChatOpenAI(model="bee-tiny", use_responses_api=True, max_retries=0, max_tokens=120)
first = chat.bind(max_tokens=8).invoke("Hi")
assert first.text and first.response_metadata["id"].startswith("resp_"), first
print("ok text", flush=True)


class Flower(BaseModel):
    """A flower."""

    color: Literal["red", "blue"]
    petals: int = Field(le=9, ge=1)


flower = chat.with_structured_output(Flower, method="json_schema").invoke("Describe a flower.")
assert isinstance(flower, Flower), flower
print("ok structured output", flush=True)


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
assert last.text and not last.tool_calls, last
# The same with the conversation that the queen keeps.
kept = ChatOpenAI(
    model="bee-tiny", use_responses_api=True, max_retries=0, max_tokens=40, use_previous_response_id=True
)
assert kept.invoke([question, answer, result]).text
print("ok tools", flush=True)

chunks = list(bound.stream([question]))
whole = chunks[0]
for chunk in chunks[1:]:
    whole += chunk
assert whole.tool_calls[0]["name"] == "visit" and whole.tool_calls[0]["args"]["flower"] in ("rose", "clover"), whole
print("ok stream", flush=True)
