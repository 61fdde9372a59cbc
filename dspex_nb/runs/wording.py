"""What a message shows of a user's values and errors: shortened, without secrets, never failing."""

from __future__ import annotations

import concurrent.futures
import os
import re
from collections.abc import Iterable, Mapping, Sized
from pathlib import Path
from typing import Any

from dspex_nb.errors import DSPexError

_SECRET_NAME = re.compile(r"(?i)(^|_)(pass(word|wd|phrase)?|secret|token|api_?key|credentials?|auth(orization)?)($|_)")
_EACH, _ALL = 60, 300
_SHORTEST = 5  # of a secret that is taken out of a message
_IN_A_WORKER = "In the worker process:"  # as pools/processes.py notes it
_FRAME = re.compile(r'File "(?P<file>[^"\n]*)", line (?P<line>\d+), in (?P<name>\S+)(?:\n {4}(?P<source>[^\n]*))?')
_FUTURES = str(Path(concurrent.futures.__file__).parent) + os.sep  # on the way from a thread, nowhere to look
_OURS = str(Path(__file__).parents[1]) + os.sep


def redacted(text: str, limit: int = 300) -> str:
    """Return text on one line without what is shaped like a key."""
    from dspex_nb.transport.redaction import redact

    return redact(text, limit=limit)


def is_secret(name: str) -> bool:
    """Return whether a name says that its value is a password or a key."""
    return _SECRET_NAME.search(name) is not None


def secrets_in(values: Mapping[Any, Any]) -> list[str]:
    """Return the passwords and keys among values, as the names in front of them tell, also inside dicts."""
    found, waiting, seen = [], [values], {id(values)}
    for held in waiting:  # grows on the way; a dict may hold itself
        for name, value in held.items():
            if isinstance(value, str):
                if value and isinstance(name, str) and is_secret(name):
                    found.append(value)
            elif type(value) is dict and id(value) not in seen:
                seen.add(id(value))
                waiting.append(value)
    return found


def inputs_text(values: Mapping[str, Any]) -> str:
    """Return `name=value` of each input, each and all shortened, secrets as `***`."""
    return _shortened((f"{name}={_shown(name, value)}" for name, value in values.items()), _ALL)


def _shown(name: str, value: Any, depth: int = 3) -> str:
    if isinstance(name, str) and is_secret(name):
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


def explain(error: BaseException, *, retried: bool = False, secrets: Iterable[str] = ()) -> tuple[str, str]:
    """Return an error's message and next act; for a user's own error, with the line of code it came from.

    `retried` says that the step was tried more than once: trying again is then no advice. `secrets` are not shown.
    """
    message, hint = _explained(error, retried=retried)
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            message = message.replace(secret, "***")
    return message, hint


def _explained(error: BaseException, *, retried: bool) -> tuple[str, str]:
    said_more = [str(note) for note in getattr(error, "__notes__", ())]
    there = next((note for note in said_more if note.startswith(_IN_A_WORKER)), "")
    notes = "".join(f"; {redacted(note)}" for note in said_more if note is not there)
    if isinstance(error, DSPexError):
        return f"{error.message}{notes}", error.hint
    said = redacted(str(error), limit=2000)
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    place = _worker_line(there) if there else _last_line(error)
    again = "" if retried else "retry=1, "
    return f"{text}{place}{notes}", f"mend the step, or give it {again}on_error='skip' or a fallback step"


def _worker_line(note: str) -> str:
    """Return the last line that ran outside this package in a worker process, out of the traceback that came from there."""
    frames = [frame for frame in _FRAME.finditer(note) if not frame["file"].startswith(_OURS)]
    if not frames:
        return ""
    source = redacted((frames[-1]["source"] or "").strip(), limit=200)
    return f" (in {frames[-1]['name']}, line {frames[-1]['line']}{f': {source}' if source else ''}, in a worker process)"


def _last_line(error: BaseException) -> str:
    """Return the last line that ran outside this package: where the user can look."""
    import linecache

    trace, found = error.__traceback__, None
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith((_OURS, _FUTURES)):
            found = trace
        trace = trace.tb_next
    if found is None:
        return ""
    code = found.tb_frame.f_code
    source = redacted(linecache.getline(code.co_filename, found.tb_lineno), limit=200)
    return f" (in {code.co_name}, line {found.tb_lineno}{f': {source}' if source else ''})"
