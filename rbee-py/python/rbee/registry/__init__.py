"""The data of a store that is written in Python: see `rbee.Registry`.

Rows are dicts, changes and filters are objects. Times are in milliseconds since 1970.
"""

from __future__ import annotations

from . import changes, part, rows
from .changes import *  # noqa: F403
from .part import *  # noqa: F403
from .rows import *  # noqa: F403

__all__ = ["changes", "part", "rows"]
__all__ += changes.__all__
__all__ += part.__all__
__all__ += rows.__all__
