"""Metrics in Prometheus' text format as a dict."""

from __future__ import annotations


def parsed(text: str) -> dict[str, float]:
    """Returns the value of each series, by its name and labels as they are in the text."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    series = (line.rpartition(" ") for line in lines)
    return {name: float(value) for name, _, value in series}
