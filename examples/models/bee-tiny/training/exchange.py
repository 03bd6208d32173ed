"""One question with its answer, the unit that conversations are built of."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Exchange:
    """A question, one full answer sentence and the sentences that may follow it.

    `topic` names the poem bank that fits. `about` is ("flower", name) or
    ("animal", name) where a later question may say "it", and `aspect` what was
    asked about it. `rest` holds list items that were not named yet, for "Name
    one more.". `fixed` answers are given as they stand (stories, poems, lists).
    """

    question: str
    answer: str
    more: list[str] = field(default_factory=list)
    topic: str = "garden"
    about: tuple[str, str] | None = None
    aspect: str | None = None
    rest: list[str] = field(default_factory=list)
    fixed: bool = False
