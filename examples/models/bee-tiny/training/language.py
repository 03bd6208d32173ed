"""Small helpers for writing English: choices, articles, lists, numbers."""

from __future__ import annotations

import re
from random import Random

NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve "
    "thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"
).split()

_CHOICE = re.compile(r"\[([^\[\]]*)\]")


def say(rng: Random, template: str, **slots: str) -> str:
    """Write one sentence from `template`.

    `[a|b|c]` is replaced by one of its alternatives at random (brackets may
    nest), `{slot}` by the slot's value, and the first letter is made a capital.
    """
    while match := _CHOICE.search(template):
        choice = rng.choice(match.group(1).split("|"))
        template = template[: match.start()] + choice + template[match.end() :]
    text = template.format(**slots) if slots else template
    return text[:1].upper() + text[1:]


def a(noun: str) -> str:
    """The noun with its indefinite article: `a rose`, `an owl`."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def join(items: list[str], last: str = "and") -> str:
    """An enumeration: `x`, `x and y`, `x, y and z`."""
    if len(items) == 1:
        return items[0]
    return ", ".join(items[:-1]) + f" {last} " + items[-1]


def pick_in_order(rng: Random, items: list[str], count: int) -> list[str]:
    """`count` distinct items in their own order.

    Keeping the order makes "never say an item twice" easy to learn: the next
    item is always one that stands later in the list.
    """
    return [items[i] for i in sorted(rng.sample(range(len(items)), count))]
