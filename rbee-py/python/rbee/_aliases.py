"""The short names of models."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path


def references(aliases: Mapping[str, str | PathLike[str]]) -> dict[str, str]:
    """Returns the reference of each model: one that was given, or that of a path."""

    def reference(model: str | PathLike[str]) -> str:
        path = fspath(model)
        is_path = not isinstance(model, str) or path.startswith((".", "/", "~"))
        return f"file:{Path(path).expanduser().absolute()}" if is_path else path

    return {name: reference(model) for name, model in aliases.items()}
