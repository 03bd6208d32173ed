"""What the tests share: one queen with the bundled model for each kind of use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import rbee


@pytest.fixture(scope="session")
def queen() -> Iterator[rbee.Queen]:
    with rbee.Queen(id="tests") as opened:
        yield opened
