"""Questions about single flowers, animals, characters, seasons and the weather."""

from __future__ import annotations

from random import Random

from exchange import Exchange
from facts import FACTS
from language import NUMBERS, a, say
from world import (
    ANIMALS,
    CHARACTERS,
    COLOURS,
    DAYS,
    FLOWERS,
    MONTH_SEASON,
    MONTHS,
    SEASON_LIFE,
    SEASONS,
    TIMES,
    WEATHER,
    Animal,
    Flower,
)


def fact(rng: Random) -> Exchange:
    """A general question from the table of facts."""
    topic, questions, answers, more = rng.choice(FACTS)
    if topic in ("bee", "hive", "honey") and not answers[0].startswith(("Yes", "No")) and rng.random() < 0.06:
        questions = [
            "Tell me something interesting.",
            "Tell me something.",
            "Tell me a fact.",
            "Tell me a fact about bees.",
            "Teach me something.",
            "What is interesting about bees?",
        ]
    about = ("animal", "bee") if topic == "bee" and "favourite" not in questions[0] else None
    return Exchange(rng.choice(questions), rng.choice(answers), list(more), topic, about)


def _flower_answer(rng: Random, flower: Flower, it: str) -> dict[str, tuple[list[str], str, list[str]]]:
    """Questions, answer and more about one flower, by aspect; `it` names it in the question."""
    n = flower.name
    other = rng.choice([c for c in COLOURS if c != flower.colour])
    looks = f"The {n} is a {flower.size} {flower.colour} flower."
    blooms = f"The {n} blooms in {flower.season}."
    grows = f"The {n} grows {flower.place}."
    colour = f"The {n} is {flower.colour}."
    wrong_season = rng.choice([s for s in SEASONS if s != flower.season])
    return {
        "about": ([f"Tell me about {it}.", f"Tell me something about {it}.", f"Describe {it}.", f"What do you know about {it}?", f"What is {it}?", f"What does {it} look like?"],
                  looks, [f"It blooms in {flower.season} and grows {flower.place}.", flower.note]),
        "colour": ([f"What colour is {it}?", f"Which colour is {it}?", f"What colour does {it} have?", f"What is the colour of {it}?"], colour, [flower.note]),
        "season": ([f"When does {it} bloom?", f"When does {it} flower?", f"In which season does {it} bloom?", f"When can I see {it}?"], blooms, [f"It grows {flower.place}."]),
        "place": ([f"Where does {it} grow?", f"Where can I find {it}?", f"Where is {it}?", f"Where do I find {it}?"], grows, [f"It blooms in {flower.season}."]),
        "size": ([f"How tall is {it}?", f"How big is {it}?", f"Is {it} tall or small?"], f"The {n} is {flower.size}.", [flower.note]),
        "tall": ([f"Is {it} tall?", f"Is {it} big?"], f"Yes, the {n} is tall." if flower.size == "tall" else f"No, the {n} is small.", [flower.note]),
        "yes": ([f"Is {it} {flower.colour}?"], f"{colour[:-1]} indeed.", [flower.note]),
        "no": ([f"Is {it} {other}?"], f"{colour[:-1]}, not {other}.", [flower.note]),
        "blooming": ([f"Does {it} bloom in {flower.season}?"], f"{blooms[:-1]} indeed.", [f"It grows {flower.place}."]),
        "not blooming": ([f"Does {it} bloom in {wrong_season}?"], f"{blooms[:-1]}, not in {wrong_season}.", [f"It grows {flower.place}."]),
        "bees": ([f"Do bees like {it}?", f"Is {it} good for bees?"], f"Yes, bees like the {n}.", [flower.note]),
    }  # fmt: skip


def _animal_answer(rng: Random, animal: Animal, it: str) -> dict[str, tuple[list[str], str, list[str]]]:
    """Questions, answer and more about one animal, by aspect."""
    n = animal.name
    legs = f"The {n} has {NUMBERS[animal.legs]} legs." if animal.legs else f"The {n} has no legs."
    eats = f"The {n} eats {animal.food}."
    lives = f"The {n} lives {animal.home}."
    other = rng.choice([x for x in ANIMALS if x.food != animal.food])
    return {
        "about": ([f"Tell me about {it}.", f"Tell me something about {it}.", f"Describe {it}.", f"What do you know about {it}?", f"What is {it}?"],
                  f"The {n} lives {animal.home} and eats {animal.food}.", [animal.note, legs]),
        "food": ([f"What does {it} eat?", f"What does {it} like to eat?", f"What is the food of {it}?", f"What food does {it} like?"], eats, [animal.note]),
        "home": ([f"Where does {it} live?", f"Where is the home of {it}?", f"Where can I find {it}?", f"Where does {it} sleep?"], lives, [animal.note]),
        "legs": ([f"How many legs does {it} have?", f"How many legs has {it}?", f"Does {it} have legs?"], legs, []),
        "yes": ([f"Does {it} eat {animal.food}?"], f"{eats[:-1]} indeed.", [animal.note]),
        "no": ([f"Does {it} eat {other.food}?"], f"{eats[:-1]}, not {other.food}.", [animal.note]),
        "special": ([f"What is special about {it}?", f"What can {it} do?"], animal.note.replace("It ", f"The {n} ", 1) if animal.note.startswith("It ") else animal.note.replace("Its ", f"The {n}'s ", 1), [eats]),
    }  # fmt: skip


def _exchange(rng: Random, kind: str, name: str, it: str, aspect: str | None = None) -> Exchange:
    """The exchange about one thing, with `it` as the words for it in the question."""
    if kind == "flower":
        table = _flower_answer(rng, next(f for f in FLOWERS if f.name == name), it)
    else:
        table = _animal_answer(rng, next(x for x in ANIMALS if x.name == name), it)
    aspect = aspect or rng.choice(list(table))
    questions, answer, more = table[aspect]
    return Exchange(rng.choice(questions), answer, list(more), kind, (kind, name), aspect)


def flower(rng: Random) -> Exchange:
    """A question about one flower, or about "a flower" of the model's choice."""
    one = rng.choice(FLOWERS)
    if rng.random() < 0.15:
        question = say(
            rng,
            "[Tell me about a flower.|Describe a flower.|Tell me something about a flower.|Tell me about some flower.|Talk about a flower.]",
        )
        return Exchange(
            question,
            f"The {one.name} is a {one.size} {one.colour} flower.",
            [f"It blooms in {one.season} and grows {one.place}.", one.note],
            "flower",
            ("flower", one.name),
        )
    if rng.random() < 0.12:
        question = rng.choice(
            [f"Tell me about {one.plural}.", f"What are {one.plural}?", f"What do {one.plural} look like?"]
        )
        return Exchange(
            question,
            f"The {one.name} is a {one.size} {one.colour} flower.",
            [f"It blooms in {one.season} and grows {one.place}.", one.note],
            "flower",
            ("flower", one.name),
        )
    return _exchange(rng, "flower", one.name, rng.choice([f"the {one.name}", one.any]))


def animal(rng: Random) -> Exchange:
    """A question about one animal."""
    one = rng.choice(ANIMALS[1:])
    if rng.random() < 0.1:
        question = say(rng, "[Tell me about an animal.|Describe an animal.|Tell me about an animal in the garden.]")
        return Exchange(
            question,
            f"The {one.name} lives {one.home} and eats {one.food}.",
            [one.note],
            "animal",
            ("animal", one.name),
        )
    if rng.random() < 0.25:
        table = [(f"What do {one.plural} eat?", f"The {one.name} eats {one.food}."),
                 (f"Where do {one.plural} live?", f"The {one.name} lives {one.home}."),
                 (f"Tell me about {one.plural}.", f"The {one.name} lives {one.home} and eats {one.food}.")]  # fmt: skip
        question, answer = rng.choice(table)
        return Exchange(question, answer, [one.note], "animal", ("animal", one.name))
    return _exchange(rng, "animal", one.name, rng.choice([f"the {one.name}", a(one.name)]))


def follow_up(rng: Random, about: tuple[str, str], asked: str | None) -> Exchange:
    """A question that calls the last thing "it", or moves on to another thing.

    "And the owl?" asks for the same aspect as the question before (`asked`).
    """
    kind, name = about
    others = FLOWERS if kind == "flower" else ANIMALS[1:]
    other = rng.choice([x for x in others if x.name != name])
    if asked in ("about", "colour", "season", "place", "food", "home", "legs") and rng.random() < 0.2:
        exchange = _exchange(rng, kind, other.name, "it", asked)
        exchange.question = f"{rng.choice(['And', 'What about'])} the {other.name}?"
        return exchange
    if rng.random() < 0.15:
        aspect = rng.choice(["about", "colour"] if kind == "flower" else ["about", "food", "home"])
        exchange = _exchange(rng, kind, other.name, "it", aspect)
        exchange.question = rng.choice({
            "about": [f"Now tell me about the {other.name}.", f"Tell me about the {other.name}, too."],
            "colour": [f"And what colour is the {other.name}?"],
            "food": [f"And what does the {other.name} eat?"],
            "home": [f"And where does the {other.name} live?"],
        }[aspect])  # fmt: skip
        return exchange
    exchange = _exchange(rng, kind, name, "it")
    if rng.random() < 0.15:
        exchange.question = "And " + exchange.question[0].lower() + exchange.question[1:]
    return exchange


def comparison(rng: Random) -> Exchange:
    """Which of two flowers is taller, or which of two animals is bigger."""
    things, more, less = rng.choice(
        [(FLOWERS, "taller", "smaller"), (ANIMALS, "bigger", "smaller"), (ANIMALS, "bigger", "smaller")]
    )
    x, y = rng.sample(things, 2)
    word = rng.choice([more, more, less])
    wins = x if (x.rank > y.rank) == (word == more) else y
    loses = y if wins is x else x
    kind = "flower" if things is FLOWERS else "animal"
    statement = f"the {wins.name} is {word} than the {loses.name}."
    if rng.random() < 0.3:
        verdict = "yes" if wins is x else "no"
        return Exchange(f"Is the {x.name} {word} than the {y.name}?", f"The{statement[3:-1]}, so {verdict}.", [], kind)
    question = say(
        rng,
        f"[Which is {word}, {a(x.name)} or {a(y.name)}?|What is {word}, the {x.name} or the {y.name}?|Who is {word}, the {x.name} or the {y.name}?]",
    )
    return Exchange(question, statement[0].upper() + statement[1:], [], kind)


def character(rng: Random) -> Exchange:
    """A question about somebody in the stories."""
    c = rng.choice(CHARACTERS)
    likes = f"{c.name} likes {c.likes}."
    lives = f"{c.name} lives {c.home}."
    who = f"{c.name} is {a(c.what)}."
    table = [
        ([f"Who is {c.name}?", f"Tell me about {c.name}.", f"What do you know about {c.name}?", f"Do you know {c.name}?"], who, [f"{c.they.capitalize()} lives {c.home}.", f"{c.they.capitalize()} likes {c.likes}."]),
        ([f"What does {c.name} like?", f"What does {c.name} love?"], likes, [f"{c.they.capitalize()} is {a(c.what)}."]),
        ([f"Where does {c.name} live?", f"Where is {c.name}?"], lives, [f"{c.they.capitalize()} is {a(c.what)}."]),
        ([f"Is {c.name} {a(c.what)}?"], f"Yes, {c.name} is {a(c.what)}.", []),
    ]  # fmt: skip
    questions, answer, more = rng.choice(table)
    return Exchange(rng.choice(questions), answer, more, "animal")


def season(rng: Random) -> Exchange:
    """A question about seasons, months, days and times of the day."""
    kind = rng.randrange(6)
    if kind == 0:
        s = rng.choice(SEASONS)
        life, more = SEASON_LIFE[s]
        question = say(
            rng, f"[What do bees do in {s}?|What happens in {s}?|Tell me about {s}.|What is {s} like?|Describe {s}.]"
        )
        return Exchange(question, f"In {s} {life}.", [more], "time")
    if kind == 1:
        when, life = rng.choice(list(TIMES.items()))
        question = say(rng, f"[What do bees do {when}?|What happens {when}?|What are the bees doing {when}?]")
        return Exchange(question, say(rng, f"{when} {life}."), [], "time")
    cycle, name = rng.choice([(SEASONS, "season"), (MONTHS, "month"), (DAYS, "day")])
    i = rng.randrange(len(cycle))
    following = cycle[(i + 1) % len(cycle)]
    before = cycle[i - 1]
    if kind == 2:
        question = say(
            rng, f"[What comes after {cycle[i]}?|Which {name} comes after {cycle[i]}?|Which {name} follows {cycle[i]}?]"
        )
        return Exchange(question, say(rng, f"{following} comes after {cycle[i]}."), [], "time")
    if kind == 3:
        question = say(rng, f"[What comes before {cycle[i]}?|Which {name} comes before {cycle[i]}?]")
        return Exchange(question, say(rng, f"{before} comes before {cycle[i]}."), [], "time")
    if kind == 4:
        count = {"season": "four", "month": "twelve", "day": "seven"}[name]
        whole = {"season": "year", "month": "year", "day": "week"}[name]
        return Exchange(
            f"How many {name}s are there in a {whole}?", f"There are {count} {name}s in a {whole}.", [], "time"
        )
    month = rng.choice(MONTHS)
    question = say(rng, f"[Which season is {month}?|In which season is {month}?|Is {month} in summer?]")
    s = MONTH_SEASON[month]
    answer = f"{month} is in {s}."
    if question.startswith("Is "):
        answer = f"Yes, {month} is in summer." if s == "summer" else f"No, {month} is in {s}."
    return Exchange(question, answer, [SEASON_LIFE[s][1]], "time")


def weather(rng: Random) -> Exchange:
    """What the weather is like today."""
    kind = rng.choice(list(WEATHER))
    feel, life, sight = WEATHER[kind]
    if rng.random() < 0.25:
        says = rng.choice([kind, {"rainy": "raining", "snowy": "snowing"}.get(kind, kind)])
        question = rng.choice([f"Is it {says}?", f"Is it {says} today?", f"Is it {says} outside?"])
        feel, life, sight = WEATHER["sunny"]
        return Exchange(
            question,
            f"{'Yes' if kind == 'sunny' else 'No'}, it is sunny and {feel} today, and {life}.",
            [sight],
            "weather",
        )
    if rng.random() < 0.6:
        question = say(
            rng,
            "[What is the weather like?|How is the weather?|How is the weather today?|What is the weather like today?|Tell me about the weather.|What's the weather?|What is the weather?|Is the weather nice today?]",
        )
        return Exchange(
            question,
            say(rng, f"[It is {kind} and {feel} today, and {life}.|Today it is {kind} and {feel}, so {life}.]"),
            [sight],
            "weather",
        )
    question = say(
        rng,
        f"[What do bees do when it is {kind}?|What happens when it is {kind}?|Do bees fly when it is {kind}?|What do bees do in {kind} weather?]",
    )
    answer = f"When it is {kind}, {life}."
    if question.startswith("Do "):
        answer = f"{'Yes' if kind in ('sunny', 'windy', 'cloudy') else 'No'}, when it is {kind}, {life}."
    return Exchange(question, answer, [sight], "weather")
