"""Makes the package `_sync` of `_async`: the same classes for threads.

`python tools/make_sync.py` writes its files, and with `--check` only compares them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "python" / "rbee"

REPLACED = [
    (
        r'\A"""The classes for event loops\. .*?"""',
        '"""The classes for threads. Made of `rbee._async` by `tools/make_sync.py`."""',
    ),
    (r'\A"""`Async(\w+)`: (.*?) for event loops\."""', r'"""`\1`: \2 for threads. Made by `tools/make_sync.py`."""'),
    (r"import awaited as done\b", "import waited as done"),
    (r"import running_loop as loop_of_parts\b", "import no_loop as loop_of_parts"),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"__a(enter|exit|iter|next)__", r"__\1__"),
    (r"\bAsync([A-Z]\w*)", r"\1"),
]


def made() -> dict[str, str]:
    """Returns the files of `_sync` by their names."""
    files: dict[str, str] = {}
    for path in sorted((PACKAGE / "_async").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        for pattern, replacement in REPLACED:
            text = re.sub(pattern, replacement, text, flags=re.DOTALL)
        files[path.name] = text
    return files


def main() -> None:
    directory, wanted = PACKAGE / "_sync", made()
    found = {path.name: path.read_text(encoding="utf-8") for path in directory.glob("*.py")}
    wrong = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if "--check" in sys.argv[1:]:
        if wrong:
            names = ", ".join(wrong)
            sys.exit(f"{names} in {directory} is not what tools/make_sync.py makes of _async; run it")
        return
    directory.mkdir(exist_ok=True)
    for name in wrong:
        if name in wanted:
            (directory / name).write_text(wanted[name], encoding="utf-8")
        else:
            (directory / name).unlink()


if __name__ == "__main__":
    main()
