"""What a message shows of a user's values: shortened, without secrets, never failing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sized
from typing import Any

_SECRET_NAME = re.compile(r"(?i)(^|_)(pass(word|wd|phrase)?|secret|token|api_?key|credentials?|auth(orization)?)($|_)")
_EACH, _ALL = 60, 300


def redacted(text: str, limit: int = 300) -> str:
    """Return text on one line without what is shaped like a key."""
    from dspex_nb.transport.redaction import redact

    return redact(text, limit=limit)


def inputs_text(values: Mapping[str, Any]) -> str:
    """Return `name=value` of each input, each and all shortened, secrets as `***`."""
    return _shortened((f"{name}={_shown(name, value)}" for name, value in values.items()), _ALL)


def _shown(name: str, value: Any, depth: int = 3) -> str:
    if isinstance(name, str) and _SECRET_NAME.search(name):
        return "***"
    if isinstance(value, str):
        return redacted(repr(value if len(value) <= _EACH else f"{value[:_EACH]}…"), _EACH + 20)
    if value is None or isinstance(value, bool | int | float):
        return f"{value!r:.{_EACH}}"
    if type(value) is dict and depth:
        pairs = (f"{_shown('', key, 0)}: {_shown(key, item, depth - 1)}" for key, item in value.items())
        return f"{{{_shortened(pairs, _EACH)}}}"
    if type(value) in (list, tuple, set, frozenset) and depth:
        return f"{type(value).__name__} of {len(value)} [{_shortened((_shown('', item, depth - 1) for item in value), _EACH)}]"
    return _of_object(value)


def _of_object(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{type(value).__name__} of shape {shape}"
    if isinstance(value, Sized):
        try:
            return f"{type(value).__name__} of {len(value)}"
        except Exception:  # noqa: BLE001 - the user's own class: anything may come
            return type(value).__name__
    return type(value).__name__


def _shortened(parts: Iterable[str], limit: int) -> str:
    found: list[str] = []
    for part in parts:
        if sum(map(len, found)) + len(part) > limit and found:
            found.append("…")
            break
        found.append(part)
    return ", ".join(found)
