"""`python -m rbee.daemon` is the daemon `queen-rbee`."""

from __future__ import annotations

import sys

from . import _rbee
from ._programs import bundled_model, program


def main() -> None:
    """Runs the daemon with the arguments of this process, until its end."""
    try:
        path = program()
    except FileNotFoundError as error:
        sys.exit(f"queen-rbee: {error}")
    sys.exit(_rbee.daemon(["queen-rbee", *sys.argv[1:]], path, bundled_model()))


if __name__ == "__main__":
    main()
