"""How numbers and values are written in every view: short, with units, the same everywhere."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from dspex_nb.views.media_info import media_info

NOTHING = "\u2013"
_MINUTE_S = 60
_HOUR_S = 3600
_KIB = 1024
_CENT = 0.01


def seconds_text(seconds: float | None) -> str:
    """Return a duration as a person says it: `340 ms`, `3.2 s`, `2 min 05 s`, `1 h 04 min`; a dash for None."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < _MINUTE_S - 0.05:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02d} s"
    return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S:02d} min"


def cost_text(cost: float | None) -> str:
    """Return US dollars: `free` for 0, `unknown` for None, two significant digits below a cent."""
    if cost is None or not math.isfinite(cost):
        return "unknown"
    if cost == 0:
        return "free"
    if cost < _CENT:
        digits = min(2 - math.floor(math.log10(cost)) - 1, 10)
        return f"${cost:.{digits}f}"
    return f"${cost:,.2f}"


def score_text(score: float | None) -> str:
    """Return a metric's value with three decimals, a dash for None."""
    return NOTHING if score is None or not math.isfinite(score) else f"{score:.3f}"


def interval_text(interval: tuple[float, float] | None) -> str:
    """Return a 95% confidence interval, or an empty text."""
    return f"95% CI {interval[0]:.3f} to {interval[1]:.3f}" if interval else ""


def count_text(count: float) -> str:
    """Return a count with thousands separated."""
    return f"{count:,.0f}"


def plural(count: int, noun: str) -> str:
    """Return `1 call`, `2 calls`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def bytes_text(size_bytes: float) -> str:
    """Return a size in binary units."""
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB"):
        if abs(size) < _KIB:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= _KIB
    return f"{size:.1f} GiB"


def cut(text: str, limit: int) -> str:
    """Return `text` in at most `limit` characters, an ellipsis where it was cut."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)].rstrip() + "…"


def one_line(text: str, limit: int = 80) -> str:
    """Return `text` with its whitespace folded, cut to `limit`."""
    return cut(" ".join(text.split()), limit)


def value_text(value: Any) -> str:
    """Return a field's value as text: strings as they are, floats short, the rest as JSON where it is JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bool | int):
        return str(value)
    return _json_text(value)


def _json_text(value: Any) -> str:
    if (medium := media_info(value)) is not None:
        return medium.label
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError, RecursionError):
        return _shown(value)


def _plain(value: Any) -> Any:
    """Turn what JSON does not know into what it knows: records into dicts, the rest into their repr."""
    if (medium := media_info(value)) is not None:
        return medium.label
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return getattr(value, "value", None) or _shown(value)


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a user's broken __repr__ must not break the view of a paid result
        return f"<{type(value).__name__}>"
