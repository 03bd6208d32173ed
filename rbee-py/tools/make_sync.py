"""Makes `_sync.py` of `_async.py`: the same classes for threads.

`python tools/make_sync.py` writes it, and with `--check` only compares it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "python" / "rbee"

REPLACED = [
    (r'"""The classes for event loops\. .*?"""', '"""The classes for threads. Made of `_async.py` by `tools/make_sync.py`."""'),
    (r"import awaited as done\b", "import waited as done"),
    (r"import running_loop as loop_of_workers\b", "import no_loop as loop_of_workers"),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"__a(enter|exit|iter|next)__", r"__\1__"),
    (r"\bAsync([A-Z]\w*)", r"\1"),
]


def made() -> str:
    text = (PACKAGE / "_async.py").read_text(encoding="utf-8")
    for pattern, replacement in REPLACED:
        text = re.sub(pattern, replacement, text, flags=re.DOTALL)
    return text


def main() -> None:
    path = PACKAGE / "_sync.py"
    if "--check" not in sys.argv[1:]:
        path.write_text(made(), encoding="utf-8")
    elif path.read_text(encoding="utf-8") != made():
        sys.exit(f"{path} is not what tools/make_sync.py makes of _async.py; run it")


if __name__ == "__main__":
    main()
