"""Logs of rbee in Python's `logging`."""

from __future__ import annotations

from . import _rbee

__all__ = ["use_logging"]


def use_logging(level: str | int = "info") -> None:
    """Gives rbee's logs to Python's `logging`, in loggers below `rbee`, such as `rbee.core.queen`.

    Without this call rbee logs nothing, and it never sets up handlers. A further call changes the level. Messages end
    with their fields, such as `job` and `correlation_id`. They are delivered by one thread, so a slow handler does not
    slow rbee down; if more than 4,096 wait, further ones are dropped, and a warning says how many.

    Args:
        level: The lowest level that is delivered: a number of `logging`, or `off`, `error`, `warn`, `info`, `debug` or
            `trace` (5 in `logging`). What is below it costs nothing.

    Raises:
        ValueError: The level does not exist.
        RuntimeError: Rust's logs go elsewhere already, as in a daemon.

    Example:
        >>> import logging
        >>> logging.basicConfig()
        >>> rbee.use_logging(logging.WARNING)
    """
    _rbee.use_logging(_name(level) if isinstance(level, int) else level)


def _name(level: int) -> str:
    names = ((5, "trace"), (10, "debug"), (20, "info"), (30, "warn"), (40, "error"))
    return next((name for number, name in names if level <= number), "off")
