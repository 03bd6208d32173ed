"""`python -m rbee` is the command `rbee`."""

from __future__ import annotations

import os
import sys

from rbee._programs import program


def main() -> None:
    """Becomes the program `rbee`, with the arguments of this process."""
    try:
        path = str(program())
    except FileNotFoundError as error:
        sys.exit(f"rbee: {error}")
    # `rbee serve` starts the daemon, which runs in this interpreter: see `_bin/queen-rbee`.
    os.environ["PYTHON_OF_RBEE"] = sys.executable
    os.execv(path, ["rbee", *sys.argv[1:]])


if __name__ == "__main__":
    main()
