"""Every example of a docstring runs."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import importlib
import inspect
import io
import pkgutil
import types
from collections.abc import Iterator
from typing import Any

import pytest

import rbee
from rbee import _queen, conformance, hive_backend, hives, logs, parts

_FINDER = doctest.DocTestFinder(exclude_empty=True)


def _modules(package: types.ModuleType) -> Iterator[types.ModuleType]:
    for found in pkgutil.iter_modules(package.__path__):
        yield importlib.import_module(f"{package.__name__}.{found.name}")


def examples() -> Iterator[doctest.DocTest]:
    packages = (rbee._async, rbee._sync, rbee.registry)
    modules = [module for package in packages for module in _modules(package)]
    for module in (rbee, *modules, _queen, conformance, hive_backend, hives, logs, parts):
        for test in _FINDER.find(module, module.__name__, module=module, extraglobs={"rbee": rbee}):
            if test.examples:
                yield test


_EXAMPLES = list(examples())


@pytest.mark.parametrize("test", _EXAMPLES, ids=lambda test: test.name)
def test_an_example_runs(test: doctest.DocTest) -> None:
    asyncio.run(_run(test))


def test_the_examples_are_found() -> None:
    names = {test.name for test in _EXAMPLES}
    assert {"rbee", "rbee._async.queen.AsyncQueen", "rbee._sync.queen.Queen.submit", "rbee.hive_backend.HiveBackend"} <= names


async def _run(test: doctest.DocTest) -> None:
    variables: dict[str, Any] = dict(test.globs)
    checker = doctest.OutputChecker()
    for example in test.examples:
        mode = "single" if len(example.source.splitlines()) == 1 else "exec"
        code = compile(example.source, test.name, mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            result = types.FunctionType(code, variables)()
            if inspect.isawaitable(result):
                await result
        if not example.options.get(doctest.SKIP):
            got = output.getvalue()
            assert checker.check_output(example.want, got, doctest.ELLIPSIS), (test.name, example.source, got)

