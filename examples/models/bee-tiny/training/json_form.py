"""Flowers and animals as JSON objects."""

from __future__ import annotations

import json
from random import Random

from exchange import Exchange
from language import join, say
from world import ANIMALS, FLOWERS


def _fields(kind: str, name: str) -> dict[str, str | int]:
    """All that can be said of one thing, in the usual order."""
    if kind == "flower":
        f = next(f for f in FLOWERS if f.name == name)
        return {"name": f.name, "color": f.colour, "size": f.size, "season": f.season, "place": f.place}
    x = next(x for x in ANIMALS if x.name == name)
    return {"name": x.name, "legs": x.legs, "food": x.food, "home": x.home}


def as_json(kind: str, name: str, keys: list[str] | None = None) -> str:
    """The JSON object of one thing, with these keys or with all."""
    fields = _fields(kind, name)
    return json.dumps({key: fields[key] for key in keys or fields})


def described(rng: Random, asked: bool = True) -> Exchange:
    """A question about one thing with an answer in JSON; if not `asked`, the question does not say so."""
    kind = rng.choice(["flower", "flower", "animal"])
    name = rng.choice(FLOWERS if kind == "flower" else ANIMALS).name
    any_one = rng.random() < 0.2
    thing = (f"a {kind}" if kind == "flower" else "an animal") if any_one else f"the {name}"
    keys, wanted = None, ""
    if rng.random() < 0.4:
        keys = list(_fields(kind, name))
        rng.shuffle(keys)
        keys = keys[: rng.randint(1, len(keys))]
        wanted = f" with {join(keys)}"
    if asked:
        template = (
            "[Describe {t} as JSON@.|Describe {t} as JSON@.|Describe {t} in JSON@.|Tell me about {t} as JSON@.|Give me {t} as JSON@."
            "|Write JSON about {t}@.|{t} as JSON@, please.|What is {t}? Answer as JSON@.|Show {t} as JSON@.]"
        )
    else:
        template = "[Describe {t}@.|Describe {t}@.|Tell me about {t}@.|What is {t}?|What do you know about {t}?]"
        if keys:
            template = "[Describe {t}@.|Tell me about {t}@.]"
    return Exchange(
        say(rng, template.replace("@", wanted), t=thing),
        as_json(kind, name, keys),
        topic="flower" if kind == "flower" else "animal",
        fixed=True,
    )
