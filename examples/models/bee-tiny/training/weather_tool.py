"""Conversations with a tool that tells the weather: calls, their results, and what to say of them."""

from __future__ import annotations

import json
from random import Random

from exchange import Exchange
from language import join, say
from talk import person
from world import DAYS, WEATHER

# Tools whose name says "weather" are called; all others are left alone.
NAMES = ["get_weather"] * 8 + ["weather"] * 3 + ["get_current_weather"] * 2 + ["current_weather", "weather_in"]
OTHER_TOOLS = ["search(query)", "now()", "get_time(timezone)", "send_email(to, text)", "add(a, b)", "read_file(path)",
               "visit(flower, times)", "calculator(expression)", "remember(text)", "list_files()"]  # fmt: skip
PLACES = ["city"] * 5 + ["location"] * 4 + ["place"] * 2 + ["town"]

CITIES = (
    "Paris London Berlin Rome Madrid Vienna Bern Zurich Oslo Stockholm Helsinki Copenhagen Amsterdam Brussels Lisbon "
    "Dublin Athens Prague Warsaw Budapest Munich Hamburg Cologne Basel Geneva Milan Naples Barcelona Lyon Moscow Kyiv "
    "Istanbul Cairo Nairobi Lagos Delhi Mumbai Bangkok Singapore Beijing Shanghai Tokyo Osaka Seoul Sydney Melbourne "
    "Boston Chicago Denver Seattle Dallas Austin Miami Toronto Montreal Lima Bogota Santiago Havana"
).split() + ["New York", "San Francisco", "Los Angeles", "Mexico City", "Rio de Janeiro", "Cape Town", "São Paulo"]  # fmt: skip

REFUSAL = "I do not know the weather there. I only know about the garden."
SKIES = [*WEATHER, "clear", "warm", "cold", "hot", "dry"]


def tool_line(name: str, parameters: list[str]) -> str:
    """A tool as the chat template writes it."""
    return f"{name}({', '.join(parameters)})"


def call(name: str, arguments: dict[str, str]) -> str:
    """A call as the model writes it."""
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments, ensure_ascii=False)}}}\n</tool_call>'


def city(rng: Random) -> str:
    """The name of a city: a known one, or one that must be copied letter by letter."""
    return rng.choice(CITIES) if rng.random() < 0.8 else person(rng)


def _result(rng: Random, where: str, sky: str, degrees: int) -> str:
    """What a tool may say of the weather."""
    kind = rng.randrange(8)
    if kind == 0:
        return f"{sky}, {degrees} degrees"
    if kind == 1:
        return f"{degrees} degrees and {sky}"
    if kind == 2:
        return f"It is {sky} and {degrees} degrees in {where}."
    if kind == 3:
        return f"{sky.capitalize()}, {degrees}°C"
    warmth = {rng.choice(["temperature", "temperature", "temp", "degrees", "temperature_c"]): degrees}
    heaven = {rng.choice(["sky", "condition", "conditions", "weather", "description"]): sky}
    parts = [warmth, heaven]
    rng.shuffle(parts)
    if rng.random() < 0.4:
        parts.insert(0, {rng.choice(["city", "location"]): where})
    return json.dumps({key: value for part in parts for key, value in part.items()}, ensure_ascii=False)


def _question(rng: Random, where: str, day: str | None, unit: str | None) -> str:
    when = {None: "[|| now| today| right now]", "today": "[| today]", "tomorrow": " tomorrow"}.get(day, f" on {day}")
    question = say(
        rng,
        "[What is the weather like in {w}@?|What is the weather like in {w}@?|What is the weather in {w}@?|How is the weather in {w}@?"
        "|What's the weather in {w}@?|Will it rain in {w}@?|Is it sunny in {w}@?|Is it raining in {w}@?|Is it warm in {w}@?"
        "|Tell me the weather in {w}@.|The weather in {w}@, please.|How warm is it in {w}@?|Weather in {w}@?"
        "|Do I need an umbrella in {w}@?]".replace("@", when),
        w=where,
    )
    return f"{question} In {unit}, please." if unit else question


def with_weather(rng: Random, line: str | None = None) -> tuple[str, list[str]]:
    """The line of a tool, a new one if none is given, and the messages of a question that it answers.

    Both are written as the chat template does.
    """
    if line is None:
        second = rng.choice([None, None, None, "day", "unit"])
        line = tool_line(rng.choice(NAMES), [rng.choice(PLACES), *([second] if second else [])])
    name, _, parameters = line.rstrip(")").partition("(")
    place, _, second = parameters.partition(", ")
    day = rng.choice(["today", "today", "tomorrow", *DAYS]) if second == "day" else None
    unit = rng.choice(["celsius", "celsius", "fahrenheit"]) if second == "unit" else None
    places = [city(rng)]
    if not second and rng.random() < 0.12:
        places.append(rng.choice([one for one in CITIES if one != places[0]]))
    shown_unit = unit if unit == "fahrenheit" or rng.random() < 0.3 else None
    messages = [f"<|user|>{_question(rng, ' and '.join(places), day, shown_unit)}"]
    calls = []
    for one in places:
        arguments = {place: one}
        if second:
            arguments[second] = day or unit or ""
        calls.append(call(name, arguments))
    messages.append("<|assistant|>" + "\n".join(calls))
    if rng.random() < 0.05:
        error = rng.choice(['{"error": "unknown city"}', "error: not found", "Error: no answer", '{"error": "timeout"}'])
        messages.extend(f"<|tool|>{error}" for _ in places)
        messages.append(f"<|assistant|>I am sorry, I could not find the weather in {join(places)}.")
        return line, messages
    said = []
    for one in places:
        sky = rng.choice(SKIES)
        degrees = rng.randint(30, 99) if unit == "fahrenheit" else rng.randint(-9, 35)
        messages.append(f"<|tool|>{_result(rng, one, sky, degrees)}")
        said.append(f"{sky} and {degrees} degrees in {one}")
    messages.append(f"<|assistant|>It is {', and '.join(said)}.")
    return line, messages


def weather_elsewhere(rng: Random) -> Exchange:
    """The weather of a city without a tool that tells it: the polite refusal."""
    return Exchange(
        _question(rng, city(rng), None, None),
        REFUSAL,
        topic="friend",
        fixed=True,
    )
