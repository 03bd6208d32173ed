"""Where the programs and the models of this package are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PACKAGE = Path(__file__).parent

#: The small model of the package.
BUNDLED_MODEL = "bee-tiny"


def program() -> Path:
    """Returns the path of the file with all programs of rbee.

    Raises:
        FileNotFoundError: The package was built without it.
    """
    path = _PACKAGE / "_bin" / ("rbee-programs.exe" if sys.platform == "win32" else "rbee-programs")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing, so this installation of rbee can start no workers; install it with "
            "`pip install .` in a checkout, or as a wheel"
        )
    return path


def bundled_model() -> Path | None:
    """Returns the directory of the bundled model, if the package has it."""
    path = _PACKAGE / "_models" / BUNDLED_MODEL
    return path if path.is_dir() else None


def data_dir() -> Path:
    """Returns the data directory of rbee, which its daemon uses too."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "rbee"
