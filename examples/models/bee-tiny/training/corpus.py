"""Write the training corpus: short conversations and stories about one garden.

Every document is made by rule from the tables beside this file, with a seeded
random generator, so that the same seed gives the same corpus:

    python corpus.py --documents 20 --seed 7
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from random import Random

import json_form
import lists
import questions
import talk
import weather_tool
from exchange import Exchange
from facts import FACTS
from language import a, say
from poems import COUPLETS, poem
from stories import titled_story
from world import ANIMALS, CHARACTERS, FLOWERS

BOS, EOS, END = "<|bos|>", "<|eos|>", "<|end|>"

# What a new question may be about, with weights.
SOURCES = [
    (22, questions.fact), (13, questions.flower), (9, questions.animal), (6, questions.comparison),
    (5, questions.character), (7, questions.season), (6, questions.weather),
    (16, lists.name_some), (3, lists.which_flowers), (11, lists.count), (6, lists.bee_sum),
    (11, talk.small_talk), (8, talk.far_away), (3, talk.strange), (4, talk.repeat), (3, talk.reading),
    (9, talk.tell_story), (4, talk.tell_poem), (5, json_form.described), (2, weather_tool.weather_elsewhere),
]  # fmt: skip

# The answers to "Why?" by topic.
REASONS = {
    "bee": "That is how bees have lived for a very long time.",
    "hive": "It helps all the bees in the hive.",
    "honey": "Honey keeps the bees alive in winter.",
    "flower": "That is how the flowers grow best.",
    "animal": "That is how the animals live in the garden.",
    "weather": "Bees need dry and warm air to fly.",
}

# The system messages of each style of answering.
STYLES = {
    "plain": ["You are a helpful assistant.", "You are bee-tiny.", "You are a friendly bee.", "Answer the questions of the user.", "You know a lot about bees.", "You are a gardener."],
    "brief": ["Answer in one sentence.", "Be brief.", "Keep your answers short.", "Answer briefly.", "Give short answers.", "Be brief and clear."],
    "long": ["Give long answers.", "Answer at length.", "Answer in detail.", "Tell everything you know.", "Use many sentences."],
    "poet": ["You are a poet.", "Answer in verse.", "Answer with a poem.", "Always answer in rhyme.", "You are a poet and speak in rhyme."],
    "pirate": ["You are a pirate.", "Talk like a pirate.", "You are an old pirate."],
    "emoji": ["Use emoji.", "End each answer with a bee.", "Put a bee at the end of every answer."],
    "polite": ["Be very polite.", "You are a very polite bee.", "Always be polite."],
    "json": ["Answer as JSON.", "Answer in JSON.", "Always answer with JSON.", "Answer only with a JSON object."],
    "named": ["The user is called {name}.", "The name of the user is {name}.", "You are talking to {name}."],
}  # fmt: skip


def answer(rng: Random, exchange: Exchange, style: str) -> tuple[str, list[str]]:
    """The answer in a style, and the further sentences it left unsaid."""
    if style == "poet":
        return poem(rng, exchange.topic), []
    if style == "long" and exchange.more and exchange.topic != "friend":
        facts = [
            rng.choice(answers)
            for topic, _, answers, _ in FACTS
            if topic == exchange.topic and not answers[0].startswith(("Yes", "No"))
        ]
        further = [rng.choice(facts)] if facts else []
        return " ".join(["Let me explain.", exchange.answer, *exchange.more, *further]), []
    said = 0 if style == "brief" else min(len(exchange.more), rng.choice([0, 1, 1]))
    text = " ".join([exchange.answer, *exchange.more[:said]])
    if style == "pirate":
        text = f"Arr! {text}" if exchange.fixed else f"Arr, matey! {text}"
    elif style == "emoji":
        text += " 🐝"
    elif style == "polite":
        text = f"With pleasure! {text}"
    return text, exchange.more[said:]


def casual(rng: Random, question: str) -> str:
    """The question as people really type it: now and then in small letters, without a full stop."""
    kind = rng.random()
    if kind < 0.12:
        return question.lower().rstrip(".?!")
    if kind < 0.18:
        return question.rstrip(".?!")
    if kind < 0.24 and question[:1].isalpha() and question[1:2].islower():
        leads = ["Hey, ", "Hello, ", "Well, ", "So, "]
        if question.endswith("?"):
            leads += ["Tell me, ", "Can you tell me, ", "I want to know: "]
        return rng.choice(leads) + question[0].lower() + question[1:]
    if kind < 0.26:
        return " " * rng.randint(0, 2) + question.replace(" ", "  ", 1) + rng.choice(["", " ", "\n"])
    return question


def next_exchange(rng: Random, last: Exchange | None, unsaid: list[str], name: str | None, style: str) -> Exchange:
    """The next exchange: a follow-up to the last one, or something new."""
    if style == "json":
        return json_form.described(rng, asked=False)
    if last and rng.random() < 0.6:
        if last.about and unsaid and rng.random() < 0.25:
            question = say(rng, "[Tell me more.|More, please.|What else?|Go on.|Tell me more about it.]")
            return Exchange(question, unsaid[0], unsaid[1:], last.topic, last.about)
        if last.about:
            return questions.follow_up(rng, last.about, last.aspect)
        if last.rest:
            return lists.one_more(rng, last)
    if last and rng.random() < 0.05 and not last.fixed:
        question = say(rng, "[Can you say that again?|Please repeat that.|Say it again, please.|Pardon?]")
        return Exchange(question, last.answer, [], last.topic, last.about)
    if last and rng.random() < 0.05 and last.topic in REASONS and not last.fixed:
        return Exchange(
            rng.choice(["Why?", "Why is that?", "But why?"]), REASONS[last.topic], [], last.topic, last.about
        )
    if rng.random() < (0.25 if name and last else 0.012):
        return talk.name_asked(rng, name)
    sources, weights = [s for _, s in SOURCES], [w for w, _ in SOURCES]
    return rng.choices(sources, weights=weights)[0](rng)


def conversation(rng: Random, longest: int = 1500) -> str:
    """One chat of one to eight exchanges, no longer than about `longest` characters."""
    text, name, last, unsaid = BOS, None, None, []
    style = "plain"
    if rng.random() < 0.3:
        style = rng.choices(list(STYLES), weights=[1, 1, 2, 2, 1, 1, 1, 1, 1])[0]
        if style == "named":
            name = talk.person(rng)
        text += f"<|system|>{rng.choice(STYLES[style]).format(name=name)}{END}"
    for turn in range(rng.choices(range(1, 9), weights=[50, 17, 11, 8, 5, 4, 3, 2])[0]):
        if name is None and rng.random() < 0.08:
            name = talk.person(rng)
            exchange = talk.name_given(rng, name)
        else:
            exchange = next_exchange(rng, last, unsaid, name, style)
        wanted, question = style, exchange.question
        if exchange.more and style == "plain" and exchange.topic != "friend" and rng.random() < 0.03:
            wanted, question = "brief", question.rstrip(".?!") + " in one sentence."
        reply, unsaid = answer(rng, exchange, wanted)
        addition = f"<|user|>{casual(rng, question).strip()}{END}<|assistant|>{reply}{END}"
        if turn and len(text) + len(addition) > longest:
            break
        text += addition
        last = exchange
    return text


def conversation_with_tools(rng: Random, longest: int = 1000) -> str:
    """One chat with tools, in which the weather is asked for, and other things."""
    others = rng.sample(weather_tool.OTHER_TOOLS, rng.choices([0, 1, 2], weights=[6, 3, 1])[0])
    line, messages = weather_tool.with_weather(rng)
    has_weather = not others or rng.random() < 0.85
    lines = [line, *others] if has_weather else others
    rng.shuffle(lines)
    text = f"{BOS}<|tools|>{chr(10).join(lines)}{END}"
    if rng.random() < 0.2:
        text += f"<|system|>{rng.choice(STYLES['plain'])}{END}"
    for turn in range(rng.choices([1, 2, 3], weights=[6, 3, 1])[0]):
        if has_weather and rng.random() < 0.75:
            if turn:
                messages = weather_tool.with_weather(rng, line)[1]
            question = messages[0].removeprefix("<|user|>")
            addition = "".join(f"{message}{END}" for message in [f"<|user|>{casual(rng, question).strip()}", *messages[1:]])
        else:
            exchange = next_exchange(rng, None, [], None, "plain")
            while has_weather and exchange.answer == weather_tool.REFUSAL:
                exchange = next_exchange(rng, None, [], None, "plain")
            reply, _ = answer(rng, exchange, "plain")
            addition = f"<|user|>{casual(rng, exchange.question).strip()}{END}<|assistant|>{reply}{END}"
        if turn and len(text) + len(addition) > longest:
            break
        text += addition
    return text


def description(rng: Random) -> str:
    """A short text without a title about a flower, an animal, somebody or a fact."""
    kind = rng.randrange(4)
    if kind == 0:
        f = rng.choice(FLOWERS)
        return f"The {f.name} is a {f.size} {f.colour} flower. It blooms in {f.season} and grows {f.place}. {f.note}"
    if kind == 1:
        x = rng.choice(ANIMALS)
        return f"The {x.name} lives {x.home} and eats {x.food}. {x.note}"
    if kind == 2:
        c = rng.choice(CHARACTERS)
        return f"{c.name} is {a(c.what)}. {c.they.capitalize()} lives {c.home}, and {c.they} likes {c.likes}."
    exchange = questions.fact(rng)
    while exchange.answer.startswith(("Yes", "No")):
        exchange = questions.fact(rng)
    return " ".join([exchange.answer, *exchange.more])


def document(rng: Random) -> str:
    """One document: a conversation (three in four; one in nine of them with tools), a story, a description or a poem."""
    kind = rng.random()
    if kind < 0.085:
        return conversation_with_tools(rng)
    if kind < 0.76:
        return conversation(rng)
    if kind < 0.90:
        text = titled_story(rng)
    elif kind < 0.97:
        text = " ".join(description(rng) for _ in range(rng.choice([1, 1, 2, 3])))
    else:
        text = poem(rng, rng.choice(list(COUPLETS)), rng.choice([2, 3, 4]))
    return f"{BOS}{text}{EOS}"


def documents(count: int, seed: int) -> Iterator[str]:
    """`count` documents, the same for the same seed."""
    rng = Random(seed)
    for _ in range(count):
        yield document(rng)


def main() -> None:
    """Print some documents for reading."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=20, help="how many documents to print")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random generator")
    arguments = parser.parse_args()
    for text in documents(arguments.documents, arguments.seed):
        print(text, end="\n\n")


if __name__ == "__main__":
    main()
