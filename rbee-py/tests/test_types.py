"""The types: what type checkers and editors see is what is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import rbee

_PACKAGE = Path(rbee.__file__).parent
_TESTS = Path(__file__).parent


def _run(module: str, *arguments: str) -> None:
    pytest.importorskip(module.partition(".")[0])
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_stub_of_the_bridge_is_what_the_bridge_is() -> None:
    _run("mypy.stubtest", "rbee._rbee", "--ignore-disjoint-bases")


def test_the_package_and_its_tests_are_typed() -> None:
    _run("mypy", "--strict", "--package", "rbee")
    _run("mypy", "--strict", str(_TESTS))
    _run("mypy", "--strict", *map(str, sorted((_TESTS.parent / "examples").glob("*.py"))))
    _run("pyright", "--project", str(_TESTS.parent.parent))


def test_the_classes_for_threads_are_those_for_event_loops() -> None:
    script = _TESTS.parent / "tools" / "make_sync.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_public_name_has_complete_types() -> None:
    _run("pyright", "--verifytypes", "rbee", "--ignoreexternal", "--pythonpath", sys.executable)


def test_the_package_says_that_it_is_typed() -> None:
    assert (_PACKAGE / "py.typed").is_file()
