"""Whether what one step writes can be what another reads; only clear mismatches are refused."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, Literal, Union, get_args, get_origin

_NUMBERS = (bool, int, float, complex)
"""Each widens to those after it."""


def mismatch(written: Any, read: Any) -> bool:
    """Return whether a value of type `written` clearly cannot serve where `read` is asked for.

    An int serves as a float, a narrower Literal as a wider one, a list or dict if its elements do, an Optional if what it
    holds does.
    Classes of the user, of pydantic or of DSPy are never refused, nor is anything untyped: a prompt can show them.
    """
    written, read = _plain(written), _plain(read)
    writers, readers = _members(written), _members(read)
    if len(writers) > 1 or len(readers) > 1:
        return all(mismatch(one, other) for one in writers for other in readers)
    if get_origin(written) is Literal and get_origin(read) is Literal:
        return not set(map(repr, get_args(written))) <= set(map(repr, get_args(read)))
    families = _family(written), _family(read)
    if None in families or families[0] != families[1]:
        return None not in families
    if families[0] == "number":
        return _NUMBERS.index(_base(written)) > _NUMBERS.index(_base(read))
    return families[0] in ("list", "map") and _items_mismatch(written, read)


def reads_text(annotation: Any) -> bool:
    """Return whether a text or a list of texts is read there."""
    return any(
        _family(member) == "text" or (_family(member) == "list" and _family(element_of(member)) == "text")
        for member in map(_plain, _members(_plain(annotation)))
    )


def element_of(listed: Any) -> Any:
    """Return the type of a list's elements, `Any` where unknown."""
    args = get_args(_plain(listed))
    return args[0] if args and _family(_plain(listed)) == "list" else Any


def is_listable(annotation: Any) -> bool:
    """Return whether `over=` can go through a value of this type."""
    return any(_family(_plain(member)) in (None, "list") for member in _members(_plain(annotation)))


def _items_mismatch(written: Any, read: Any) -> bool:
    if _family(written) == "map":  # its keys and its values
        return any(mismatch(one, other) for one, other in zip(get_args(written), get_args(read), strict=False))
    one, other = get_args(written), get_args(read)
    return bool(one and other) and mismatch(one[0], other[0])


def _plain(annotation: Any) -> Any:
    return _plain(get_args(annotation)[0]) if get_origin(annotation) is Annotated else annotation


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _base(annotation: Any) -> Any:
    return type(get_args(annotation)[0]) if get_origin(annotation) is Literal else annotation


def _family(annotation: Any) -> str | None:
    """Return "text", "number", "list", "map" or "bytes"; None for everything this module does not judge."""
    origin = get_origin(annotation)
    if origin is Literal:
        kinds = {_family(type(value)) for value in get_args(annotation)}
        return kinds.pop() if len(kinds) == 1 else None
    base = origin or annotation
    if base is str:
        return "text"
    if base in (bytes, bytearray):
        return "bytes"
    if base in _NUMBERS:
        return "number"
    if base in (list, tuple, set, frozenset, Sequence, Iterable, AbstractSet):
        return "list"
    return "map" if base in (dict, Mapping) else None
