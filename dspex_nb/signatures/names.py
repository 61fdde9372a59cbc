"""What the names in a signature's text mean, and readings of texts kept for as long as their names mean the same."""

from __future__ import annotations

import builtins
import sys
import typing
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any

from dspex_nb.signatures.fields import MISSING

_DEPTH = 100  # frames searched, as in DSPy
_SCOPE = object()
_TYPING = frozenset(typing.__all__)
_PACKAGE = __name__.partition(".")[0]


class Names:
    """Looks names up, in what the user gave or else in the frames of the caller, and remembers each answer.

    Args:
        given: The user's names; None means those of the code that called into this package, innermost first.
    """

    __slots__ = ("_frame", "_given", "lookups")

    def __init__(self, given: Mapping[str, Any] | None) -> None:
        self._given = given
        self._frame = _outside(sys._getframe(1)) if given is None else None  # noqa: SLF001 - the way Python offers
        self.lookups: list[tuple[Any, str, Any]] = []

    @property
    def given(self) -> bool:
        """Whether the user named the names; only then do they win over builtins, as in DSPy."""
        return self._given is not None

    def get(self, name: str) -> Any:
        """Return what `name` means, or `MISSING`."""
        value = self._find(name)
        self.lookups.append((_SCOPE, name, value))
        return value

    def attribute(self, owner: Any, name: str) -> Any:
        """Return `owner.name`, or `MISSING`."""
        value = getattr(owner, name, MISSING)
        self.lookups.append((owner, name, value))
        return value

    def still(self, lookups: Iterable[tuple[Any, str, Any]]) -> bool:
        """Whether every name means the same object as when `lookups` were made."""
        return all(
            (self._find(name) if owner is _SCOPE else getattr(owner, name, MISSING)) is value for owner, name, value in lookups
        )

    def nearest(self) -> Mapping[str, Any]:
        """Return the user's own names, to suggest one from."""
        if self._given is not None:
            return self._given
        return {**self._frame.f_globals, **self._frame.f_locals} if self._frame else {}

    def _find(self, name: str) -> Any:
        if self._given is not None:
            return self._given.get(name, MISSING)
        if name in _TYPING or hasattr(builtins, name):
            return MISSING
        frame, depth = self._frame, 0
        while frame is not None and depth < _DEPTH:
            for space in (frame.f_locals, frame.f_globals):
                if name in space:
                    return space[name]
            if frame.f_locals is frame.f_globals:
                break  # a cell's or a module's own level: what runs it (IPython, an import) knows none of its types
            frame, depth = frame.f_back, depth + 1
        return MISSING


def _outside(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame that is not this package's own."""
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE:
        frame = frame.f_back
    return frame


class Readings:
    """What texts were read as, each with the look-ups it rests on; answers only while they all hold.

    A class defined anew in a notebook is another object, so a text that names it is read again.
    """

    def __init__(self, limit: int = 1024) -> None:
        self._kept: dict[tuple[bool, str], tuple[Any, tuple[tuple[Any, str, Any], ...]]] = {}
        self._limit = limit

    def find(self, text: str, names: Names) -> Any:
        """Return the reading of `text` under `names`, or `MISSING`."""
        entry = self._kept.get((names.given, text))
        if entry is None or not names.still(entry[1]):
            return MISSING
        names.lookups.extend(entry[1])
        return entry[0]

    def keep(self, text: str, names: Names, since: int, value: Any) -> None:
        """Remember `value`, which rests on the look-ups made after the first `since`."""
        if len(self._kept) >= self._limit:
            self._kept.clear()
        self._kept[names.given, text] = (value, tuple(names.lookups[since:]))
