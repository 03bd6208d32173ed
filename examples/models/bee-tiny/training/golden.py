"""Record what the reference implementation answers, token by token.

    python training/golden.py --model . --output golden.json

decodes every case greedily in float32 on the CPU with transformers and writes
the rendered prompt, the ids, the text and the smallest gap between the best
and the second best logit. A case whose gap is too small to survive other
floating-point orders stops the program: replace it by another one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer, LlamaForCausalLM

COMMAND = "python training/golden.py --model . --output golden.json"
SMALLEST_GAP = 1e-3

USER, ASSISTANT, SYSTEM, TOOL = "user", "assistant", "system", "tool"

# name, new tokens, messages as (role, content) pairs
CHATS: list[tuple[str, int, list[tuple[str, str]]]] = [
    ("hello", 64, [(USER, "Hello!")]),
    ("who", 64, [(USER, "Who are you?")]),
    ("flower", 64, [(USER, "Tell me about a flower.")]),
    ("three flowers", 64, [(USER, "Name three flowers.")]),
    ("five animals", 64, [(USER, "Name five animals in the garden.")]),
    ("list", 64, [(USER, "List three trees.")]),
    ("food", 64, [(USER, "What do bees eat?")]),
    ("weather", 64, [(USER, "What is the weather like?")]),
    ("count to eight", 64, [(USER, "Count to eight.")]),
    ("count down", 64, [(USER, "Count down from six.")]),
    ("compare", 64, [(USER, "Which is bigger, a fox or an ant?")]),
    ("outside", 64, [(USER, "What is the capital of France?")]),
    ("small letters", 64, [(USER, "what colour is a rose")]),
    ("story cut at 40", 40, [(USER, "Tell me a story.")]),
    ("long story", 400, [(USER, "Tell me a long story about a bee.")]),
    ("poem", 96, [(USER, "Write a poem about the garden.")]),
    ("system brief", 64, [(SYSTEM, "Answer in one sentence."), (USER, "Tell me about bees.")]),
    ("system poet", 96, [(SYSTEM, "You are a poet."), (USER, "Tell me about the hive.")]),
    ("system pirate", 64, [(SYSTEM, "You are a pirate."), (USER, "What do bees eat?")]),
    ("system emoji", 64, [(SYSTEM, "End each answer with a bee."), (USER, "What is honey?")]),
    ("it", 64, [(USER, "Tell me about the daisy."), (ASSISTANT, "The daisy is a small white flower."), (USER, "Where does it grow?")]),
    ("it, three turns", 64, [(USER, "What does the owl eat?"), (ASSISTANT, "The owl eats mice."), (USER, "Where does it live?"), (ASSISTANT, "The owl lives in the old barn."), (USER, "How many legs does it have?")]),
    ("name remembered", 64, [(USER, "My name is Clara."), (ASSISTANT, "Nice to meet you, Clara!"), (USER, "What do bees drink?"), (ASSISTANT, "Bees drink nectar and clear water."), (USER, "What is my name?")]),
    ("thanks", 64, [(USER, "What is wax?"), (ASSISTANT, "Wax is what bees build their comb with."), (USER, "Thank you!")]),
    ("e acute", 64, [(USER, "Who is Zoé?")]),
    ("bee emoji", 64, [(USER, "Count the bees: 🐝🐝🐝")]),
    ("han signs", 64, [(USER, "蜂蜜はどこですか")]),
    ("combining", 64, [(USER, "Who is Zoe\u0301?")]),
    ("spaces", 64, [(USER, "  Name   two\tcolours of  flowers. \n")]),
    ("one character", 64, [(USER, "?")]),
    ("empty", 64, [(USER, "")]),
    ("one token", 1, [(USER, "Do bees sleep?")]),
    ("long prompt", 64, [
        (SYSTEM, "You are a helpful assistant."),
        (USER, "Tell me a long story about a hedgehog."),
        (ASSISTANT, "In a green garden lived a hedgehog called Hugo. He loved cool nights more than anything. Early one morning, when the grass was still wet with dew, Hugo woke up. \"I wonder what is by the fence,\" said Hugo. And off he went.\n\nSoon the sky grew dark, and it began to rain. Hugo hid under a big leaf. The drops fell like little drums. When the sun came back, he shook off the water and went on.\n\nUnder the hedge sat a little mouse that was lost. \"Where is your home?\" asked Hugo. \"In the wall,\" said the mouse. Hugo showed it the way, and the mouse was very glad.\n\nThen the fog came, and Hugo could not see the path. He sat very still and listened. From far away came the hum of the hive, and he followed the sound.\n\nAnd there, by the fence, stood a sunflower. Its yellow petals shone in the sun. Hugo was so happy that he danced.\n\nIn the evening Hugo went home and told the others about it. Then he fell asleep."),
        (USER, "Thank you!"), (ASSISTANT, "You are welcome!"),
        (USER, "What colour is the sunflower?"),
    ]),
]  # fmt: skip

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PLACE_AND_DAY = {"type": "object", "properties": {"place": {"type": "string"}, "day": {"type": "string"}}}
WEATHER = {"name": "get_weather", "description": "Tells the weather.", "parameters": CITY}


def called(name: str, **arguments: str) -> dict[str, Any]:
    """A call of a tool."""
    return {"id": f"call_{name}", "name": name, "arguments": arguments}


# name, new tokens, tools, messages: as (role, content), or an answer as a list of calls
WITH_TOOLS: list[tuple[str, int, list[dict[str, Any]], list[tuple[str, Any]]]] = [
    ("call", 64, [WEATHER], [(USER, "What is the weather in Paris?")]),
    ("two tools", 64, [{"name": "now"}, {"name": "weather", "parameters": PLACE_AND_DAY}], [(USER, "Will it rain in Oslo on Friday?")]),
    ("no call", 64, [WEATHER], [(USER, "Hello!")]),
    ("result", 64, [WEATHER], [(USER, "What is the weather in Zürich?"), (ASSISTANT, [called("get_weather", city="Zürich")]), (TOOL, '{"temperature": 21, "sky": "sunny"}')]),
    ("JSON", 64, [], [(USER, "Describe the rose as JSON.")]),
]  # fmt: skip

# name, new tokens, prompt; <|bos|> is put before it
PROMPTS: list[tuple[str, int, str]] = [
    ("raw story", 80, "Once upon a time there was a"),
    ("raw fact", 48, "The rose is"),
    ("raw one character", 48, "T"),
    ("raw e acute", 48, "Zoé is"),
    ("raw trailing space", 48, "Maya "),
]

TOKENIZER_TEXTS = [
    "", " ", "bee", " bee", "Bees eat nectar and pollen.", "bees  two   spaces\tand\ttabs", "line\nbreak\n\n\nand\r\nmore ",
    "Zoé", "Zoe\u0301", "🐝", "🐝🐝 🌸", "👩‍🌾", "蜂蜜と花", "1234567890 3.14", "it's we'll they've I'm", "!?...--((", "ﬁ ﬂ ½ ①",
    "<|user|>Hello<|end|>", "<|user |> no token <|END|>", "\u200b\u00a0\ufeffx", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "MiXeD CaSe WORDS", "\x00\x07",
]  # fmt: skip


@torch.no_grad()
def decode(model: LlamaForCausalLM, ids: list[int], limit: int) -> tuple[list[int], str, float]:
    """The greedy continuation, why it ended, and its smallest logit gap."""
    ends = set(model.generation_config.eos_token_id)
    output: list[int] = []
    gap = float("inf")
    step = model(torch.tensor([ids]), use_cache=True)
    while True:
        best = step.logits[0, -1].topk(2)
        gap = min(gap, (best.values[0] - best.values[1]).item())
        output.append(best.indices[0].item())
        if output[-1] in ends:
            return output, "stop", gap
        if len(output) == limit:
            return output, "length", gap
        step = model(torch.tensor([output[-1:]]), past_key_values=step.past_key_values, use_cache=True)


def record(
    model: LlamaForCausalLM, tokenizer: Any, prompt: dict, rendered: str, special: bool, name: str, limit: int
) -> dict:
    """One case of the file; `special` says whether the tokenizer adds <|bos|>."""
    ids = tokenizer.encode(rendered, add_special_tokens=special)
    output, finish, gap = decode(model, ids, limit)
    if gap <= SMALLEST_GAP:
        raise SystemExit(f"case {name!r}: the smallest gap is {gap:.2g}; choose another prompt")
    return {
        "name": name,
        **prompt,
        "rendered": rendered,
        "add_special_tokens": special,
        "input_ids": ids,
        "max_new_tokens": limit,
        "output_ids": output,
        "text": tokenizer.decode(output, skip_special_tokens=True),
        "finish": finish,
        "min_gap": round(gap, 5),
    }


def recorded_messages(turns: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    """Messages as rbee reads them: arguments are JSON text."""
    messages: list[dict[str, Any]] = []
    for role, content in turns:
        message = {"role": role, "content": content if isinstance(content, str) else ""}
        if isinstance(content, list):
            message["tool_calls"] = [
                {**call, "arguments": json.dumps(call["arguments"], ensure_ascii=False)} for call in content
            ]
        if role == TOOL:
            message["tool_call_id"] = messages[-1]["tool_calls"][0]["id"]
        messages.append(message)
    return messages


def library_messages(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same messages as chat templates read them."""
    result = []
    for message in messages:
        calls = [
            {"type": "function", "id": call["id"],
             "function": {"name": call["name"], "arguments": json.loads(call["arguments"])}}
            for call in message.get("tool_calls", [])
        ]  # fmt: skip
        result.append({**message, "tool_calls": calls} if calls else message)
    return result


def main() -> None:
    """Decode all cases and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("."), help="folder of the model")
    parser.add_argument("--output", type=Path, default=Path("golden.json"), help="file to write")
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = LlamaForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    cases = []
    for name, limit, turns in CHATS:
        messages = [{"role": role, "content": content} for role, content in turns]
        rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        cases.append(record(model, tokenizer, {"messages": messages}, rendered, False, name, limit))
    for name, limit, tools, turns in WITH_TOOLS:
        messages = recorded_messages(turns)
        rendered = tokenizer.apply_chat_template(
            library_messages(messages),
            tools=[{"type": "function", "function": tool} for tool in tools] or None,
            tokenize=False,
            add_generation_prompt=True,
        )
        prompt: dict[str, Any] = {"messages": messages}
        if tools:
            texts = [{**tool, "parameters": json.dumps(tool["parameters"])} if "parameters" in tool else tool for tool in tools]
            prompt["tools"] = texts
        cases.append(record(model, tokenizer, prompt, rendered, False, name, limit))
    for name, limit, prompt_text in PROMPTS:
        cases.append(record(model, tokenizer, {"prompt": prompt_text}, prompt_text, True, name, limit))
    content = {
        "command": COMMAND,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "dtype": "float32",
        "cases": cases,
        "tokenizer_cases": [
            {"text": text, "ids": tokenizer.encode(text, add_special_tokens=False)} for text in TOKENIZER_TEXTS
        ],
    }
    arguments.output.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{len(cases)} cases, smallest gap {min(case['min_gap'] for case in cases)}")


if __name__ == "__main__":
    main()
