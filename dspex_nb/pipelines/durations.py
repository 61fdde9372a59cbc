"""Durations as people write them: seconds, or `"90s"`, `"1.5h"`, `"1h30m"`."""

from __future__ import annotations

import math
import re

_UNITS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", re.IGNORECASE)


def read_duration(value: object) -> float:
    """Return seconds.

    Raises:
        ValueError: Not a positive number of seconds and not a text such as `"1h"`; the message says what was expected.
    """
    seconds = _number(value) if isinstance(value, int | float) else _text(value) if isinstance(value, str) else math.nan
    if not seconds > 0 or math.isinf(seconds):
        raise ValueError(f'expected a duration, found {value!r}; write seconds or e.g. "90s", "10m", "1h", "1d"')
    return seconds


def write_duration(seconds: float) -> str:
    """Return a duration in its largest whole unit: `1h`, `90s`."""
    whole = [(name, seconds / size) for name, size in _UNITS.items() if name in "smhd" and (seconds / size).is_integer()]
    name, count = whole[-1] if whole else ("s", seconds)
    return f"{count:.12g}{name}"


def _number(value: float) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except OverflowError:
        return math.nan


def _text(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        pass
    position, seconds = 0, 0.0
    while position < len(value):
        part = _PART.match(value, position)
        if part is None or part[2].lower() not in _UNITS:
            return math.nan
        seconds += float(part[1]) * _UNITS[part[2].lower()]
        position = part.end()
    return seconds
