"""Naming a number of things, counting and small sums with bees."""

from __future__ import annotations

from random import Random

from exchange import Exchange
from language import NUMBERS, a, join, pick_in_order, say
from world import (
    ANIMALS,
    BEES,
    COLOURS,
    DAYS,
    FLOWERS,
    FRUITS,
    HIVE_THINGS,
    JOBS,
    MONTHS,
    SEASONS,
    TOOLS,
    TREES,
)


def _flowers(**having: str) -> list[str]:
    """The flowers with the given attributes, as "the rose"."""
    return [f"the {f.name}" for f in FLOWERS if all(getattr(f, k) == v for k, v in having.items())]


def _animals(names: str = "") -> list[str]:
    """The animals of the given names, or all, as "the fox"."""
    return [f"the {x.name}" for x in ANIMALS if not names or x.name in names.split()]


# (weight, singular, plural, items, topic)
KINDS = [
    (8, "flower", "flowers", _flowers(), "flower"),
    (2, "flower in the garden", "flowers in the garden", _flowers(), "flower"),
    (4, "animal", "animals", _animals(), "animal"),
    (4, "animal in the garden", "animals in the garden", _animals(), "animal"),
    (3, "insect", "insects", _animals("bee butterfly ladybird ant cricket"), "animal"),
    (2, "bird", "birds", _animals("robin owl duck"), "animal"),
    (4, "colour", "colours", COLOURS, "flower"),
    (3, "colour of flowers", "colours of flowers", COLOURS, "flower"),
    (2, "tree", "trees", [f"the {t}" for t in TREES], "garden"),
    (2, "fruit", "fruits", FRUITS, "garden"),
    (2, "garden tool", "garden tools", [f"the {t}" for t in TOOLS], "garden"),
    (2, "job in the hive", "jobs in the hive", [f"the {j}" for j in JOBS], "hive"),
    (2, "thing in the hive", "things in the hive", HIVE_THINGS, "hive"),
    (2, "kind of bee", "kinds of bees", ["the queen", "the worker", "the drone"], "hive"),
    (2, "bee by name", "bees by name", [b.name for b in BEES], "bee"),
    (2, "season", "seasons", SEASONS, "time"),
    (2, "day", "days", DAYS, "time"),
    (2, "month", "months", MONTHS, "time"),
    (1, "flower that bees like", "flowers that bees like", ["lavender", "clover", "the foxglove", "the sunflower"], "flower"),
    *[(1, f"{c} flower", f"{c} flowers", _flowers(colour=c), "flower") for c in ("red", "white", "purple", "pink", "yellow")],
    *[(1, f"{s} flower", f"{s} flowers", _flowers(season=s), "flower") for s in ("spring", "summer", "autumn")],
]  # fmt: skip


def name_some(rng: Random) -> Exchange:
    """A request for a number of different things of one kind."""
    _, singular, plural, items, topic = rng.choices(KINDS, weights=[k[0] for k in KINDS])[0]
    wanted = rng.choices(range(1, 11), weights=[3, 5, 7, 5, 4, 2, 2, 1, 1, 1])[0]
    count = min(wanted, len(items))
    number = NUMBERS[wanted] if rng.random() < 0.75 else str(wanted)
    ask = rng.choice(
        [
            "Name",
            "Name",
            "Name",
            "List",
            "List",
            "Tell me",
            "Give me",
            "Can you name",
            "What are",
            "Do you know",
            "Give me a list of",
        ]
    )
    end = "?" if ask in ("Can you name", "What are", "Do you know") else "."
    if wanted == 1:
        thing = rng.choice([f"one {singular}", a(singular)])
        ask, end = rng.choice([("Name", "."), ("Tell me", "."), ("Give me", "."), ("Can you name", "?")])
    elif rng.random() < 0.12:
        thing, count = f"some {plural}", min(3, len(items))
    else:
        thing = f"{number} {rng.choice(['', '', '', '', '', 'different '])}{plural}"
    chosen = pick_in_order(rng, items, count)
    rest = items[items.index(chosen[-1]) + 1 :]
    question = f"{ask} {thing}{end}" if rng.random() < 0.95 else f"{thing[0].upper()}{thing[1:]}, please."
    if count < wanted and not thing.startswith("some"):
        noun = singular if count == 1 else plural
        return Exchange(question, f"I know only {NUMBERS[count]} {noun}: {join(chosen)}.", [], topic)
    if question.startswith(("List", "Give me a list")) and count > 1:
        lines = f"{NUMBERS[count].capitalize()} {plural}:\n" + "\n".join(
            f"{n}. {item.removeprefix('the ')}" for n, item in enumerate(chosen, 1)
        )
        return Exchange(question, lines, [], topic, rest=rest, fixed=True)
    if count == 1:
        return Exchange(question, f"One {singular} is {chosen[0]}.", [], topic, rest=rest)
    return Exchange(question, f"{NUMBERS[count].capitalize()} {plural} are {join(chosen)}.", [], topic, rest=rest)


def which_flowers(rng: Random) -> Exchange:
    """Which flowers have a colour, or bloom in a season."""
    if rng.random() < 0.5:
        colour = rng.choice(COLOURS)
        names = _flowers(colour=colour)
        verb = "is" if len(names) == 1 else "are"
        question = say(
            rng,
            f"[Which flowers are {colour}?|What flowers are {colour}?|Are there {colour} flowers?|Do you know {a(colour)} flower?]",
        )
        statement = f"{join(names)} {verb} {colour}."
    else:
        season = rng.choice(SEASONS)
        names = _flowers(season=season)
        verb = "blooms" if len(names) == 1 else "bloom"
        question = say(
            rng,
            f"[Which flowers bloom in {season}?|What flowers bloom in {season}?|Which flowers can I see in {season}?|What blooms in {season}?]",
        )
        statement = f"{join(names)} {verb} in {season}."
    about = ("flower", names[0].removeprefix("the ")) if len(names) == 1 else None
    return Exchange(question, statement[0].upper() + statement[1:], [], "flower", about)


def one_more(rng: Random, before: Exchange) -> Exchange:
    """A request for one more thing of the list just given."""
    item = rng.choice(before.rest[:3])
    rest = before.rest[before.rest.index(item) + 1 :]
    question = say(
        rng, "[Name one more.|One more, please.|Another one, please.|Can you name another one?|And one more?]"
    )
    return Exchange(question, f"Another one is {item}.", [], before.topic, rest=rest)


def _counted(numbers: list[int]) -> str:
    """Numbers as words in a row."""
    return ", ".join(NUMBERS[n] for n in numbers).capitalize() + "."


def count(rng: Random) -> Exchange:
    """Counting up, counting down, what comes next, and counting bees."""
    kind = rng.randrange(6)
    word = (lambda n: NUMBERS[n]) if rng.random() < 0.6 else str
    if kind in (0, 1):
        n = rng.randint(2, 20) if rng.random() < 0.6 else rng.randint(2, 12)
        question = say(
            rng,
            f"[Count to {word(n)}.|Count from one to {word(n)}.|Can you count to {word(n)}?|Count up to {word(n)}.]",
        )
        return Exchange(question, _counted(list(range(1, n + 1))), topic="bee", fixed=True)
    if kind == 2:
        low = rng.randint(2, 12)
        high = rng.randint(low + 1, min(20, low + 8))
        return Exchange(
            f"Count from {word(low)} to {word(high)}.", _counted(list(range(low, high + 1))), topic="bee", fixed=True
        )
    if kind == 3:
        n = rng.randint(3, 12)
        question = say(
            rng, f"[Count down from {word(n)}.|Count backwards from {word(n)}.|Count down from {word(n)} to one.]"
        )
        return Exchange(question, _counted(list(range(n, 0, -1))), topic="bee", fixed=True)
    if kind == 4:
        n = rng.randint(1, 19)
        if rng.random() < 0.5:
            return Exchange(
                f"Which number comes after {word(n)}?",
                say(rng, f"{NUMBERS[n + 1]} comes after {NUMBERS[n]}."),
                topic="bee",
            )
        return Exchange(
            f"Which number comes before {word(n)}?",
            say(rng, f"{NUMBERS[n - 1]} comes before {NUMBERS[n]}."),
            topic="bee",
        )
    n = rng.randint(1, 7)
    bees = "🐝" * n
    question = say(rng, f"[How many bees are here? {bees}|Count the bees: {bees}|{bees} How many bees do you see?]")
    return Exchange(question, f"I see {NUMBERS[n]} {'bee' if n == 1 else 'bees'}.", topic="bee")


def bee_sum(rng: Random) -> Exchange:
    """Bees that come or fly away, with small numbers."""
    place = rng.choice(FLOWERS)
    x = rng.randint(2, 6)
    if rng.random() < 0.5:
        y = rng.randint(1, 5)
        come = "One more bee comes" if y == 1 else f"{NUMBERS[y].capitalize()} more bees come"
        question = say(rng, f"{NUMBERS[x]} bees sit on {place.any}. {come}. How many bees are there[| now]?")
        return Exchange(question, f"There are {NUMBERS[x + y]} bees now.", topic="bee")
    y = rng.randint(1, x - 1)
    go = "One bee flies" if y == 1 else f"{NUMBERS[y].capitalize()} bees fly"
    question = say(rng, f"{NUMBERS[x]} bees sit on {place.any}. {go} away. How many bees are left?")
    left = x - y
    return Exchange(
        question, f"{NUMBERS[left].capitalize()} {'bee is' if left == 1 else 'bees are'} left.", topic="bee"
    )
