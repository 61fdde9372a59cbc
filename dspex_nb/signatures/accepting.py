"""`accepted`: inputs as they were given become values of their fields' types, where a type says how: a path becomes an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin

from dspex_nb.errors import DSPexError
from dspex_nb.signatures.codecs import codec_for
from dspex_nb.signatures.signature import Signature

Accept = Callable[[Any, bool], Any]


def accepting(signature: Signature) -> dict[str, Accept]:
    """Return how the inputs are taken whose types say how; usually none do."""
    found = {name: accept_of(field.type) for name, field in signature.inputs.items()}
    return {name: accept for name, accept in found.items() if accept is not None}


def accept_of(annotation: Any) -> Accept | None:
    """Return how a value is taken for a type: its own way, or for a list, a dict or an optional one that of what is inside."""
    codec = codec_for(annotation)
    if codec is not None and codec.accept is not None:
        take, kind = codec.accept, annotation
        return lambda value, paths: take(kind, value, paths)
    origin = get_origin(annotation)
    inner = next((accept for part in get_args(annotation) if (accept := accept_of(part)) is not None), None)
    if inner is None:
        return None
    if origin in (list, tuple, set):
        return lambda value, paths: _several(inner, value, paths)
    if origin is dict:
        return lambda value, paths: (
            {key: inner(one, paths) for key, one in value.items()} if isinstance(value, Mapping) else value
        )
    return lambda value, paths: None if value is None else inner(value, paths)


def _several(inner: Accept, value: Any, paths: bool) -> Any:  # noqa: FBT001 - the codecs' form
    """Return what was given for a list: each of several, those of an upload widget, or the one that was given alone."""
    if hasattr(value, "comm") and isinstance(getattr(value, "value", None), list | tuple):
        value = value.value
    if isinstance(value, list | tuple | set):
        return [inner(one, paths) for one in value]
    made = inner(value, paths)
    return value if made is value else [made]


def taken(makers: Mapping[str, Accept], values: Mapping[str, Any], *, paths: bool) -> dict[str, Any]:
    """Return the values with those changed that `makers` change.

    Raises:
        DSPexError: A value that its field's type cannot be made of; the message begins with the field's name.
    """
    found = dict(values)
    for name, accept in makers.items():
        if name in found:
            try:
                found[name] = accept(found[name], paths)
            except DSPexError as error:
                raise type(error)(f"{name}: {error.message}", hint=error.hint) from None
    return found
