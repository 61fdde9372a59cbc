"""How a type is written into a prompt and read back; a registry, so that other rooms can add types of their own."""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from dspex_nb.signatures.types import leaves


@dataclass(frozen=True, slots=True)
class Codec:
    """What a registered type does differently; None keeps the general way.

    Attributes:
        write: Value → what JSON can hold.
        read: Text or JSON value → the typed value; raises ValueError where it cannot.
        name: How prompts name the type.
        note: What a prompt says about the value to produce, or an empty string for nothing.
    """

    write: Callable[[Any], Any] | None = None
    read: Callable[[Any], Any] | None = None
    name: str | None = None
    note: str | None = None


_codecs: dict[type, Codec] = {}


def register_codec(kind: type, codec: Codec) -> None:
    """Set how values of `kind` (and its subclasses) cross a prompt; replaces an earlier one."""
    _codecs[kind] = codec


def codec_for(annotation: Any) -> Codec | None:
    """Return the codec registered for the annotation's own class, or None."""
    if not _codecs or not inspect.isclass(annotation):
        return None
    return next((_codecs[base] for base in inspect.getmro(annotation) if base in _codecs), None)


def foreign_types(annotation: Any) -> list[type]:
    """Return the classes inside a type that belong to DSPy and have no codec here, pydantic models' fields included."""
    found: list[type] = []
    seen: set[int] = set()
    waiting = list(leaves(annotation))
    while waiting:
        leaf = waiting.pop()
        if not inspect.isclass(leaf) or id(leaf) in seen or codec_for(leaf):
            continue
        seen.add(id(leaf))
        if any(base.__module__.split(".")[0] == "dspy" for base in inspect.getmro(leaf)):
            found.append(leaf)
        else:
            for inner in getattr(leaf, "model_fields", {}).values():
                waiting.extend(leaves(inner.annotation))
    return found


@functools.lru_cache(maxsize=1024)
def _class_adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


_adapters: dict[int, tuple[Any, Any]] = {}


def type_adapter(annotation: Any) -> Any:
    """Return pydantic's adapter of a type, made once.

    Keyed on identity, since `Union[int, str] == Union[str, int]` though they read "1" differently.
    """
    entry = _adapters.get(id(annotation))
    if entry is None:
        from pydantic import TypeAdapter

        if len(_adapters) > 1024:  # noqa: PLR2004 - a bound on memory, reached by nobody
            _adapters.clear()
        entry = _adapters[id(annotation)] = (annotation, TypeAdapter(annotation))
    return entry[1]


def validate(value: Any, annotation: Any) -> Any:
    """Return `value` as the type has it, or raise pydantic's ValidationError (a ValueError)."""
    return type_adapter(annotation).validate_python(value)


def jsonable(value: Any) -> Any:
    """Return what JSON can hold: models as objects, enums as values, dates as text, the unknown as their string."""
    kind: Any = type(value)
    if kind in (str, int, bool, type(None)):
        return value
    codec = codec_for(kind)
    if codec and codec.write:
        return codec.write(value)
    try:
        return _class_adapter(kind).dump_python(value, mode="json", fallback=str)
    except Exception:  # noqa: BLE001 - whatever a foreign object's serializer raises, its string form remains
        return str(value)


def type_name(annotation: Any) -> str:
    """Return how DSPy's prompts name a type: `list[str]`, `Literal['a', 'b']`, `Union[int, NoneType]`, `Triage`."""
    codec = codec_for(annotation)
    if codec and codec.name is not None:
        return codec.name
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is None:
        return str(getattr(annotation, "__name__", annotation))
    if origin is types.UnionType:
        origin = Union
    quoted = origin is Literal
    inner = ", ".join(_quoted(arg) if quoted and isinstance(arg, str) else type_name(arg) for arg in args)
    return f"{type_name(origin)}[{inner}]"


def _quoted(text: str) -> str:
    if "'" not in text:
        return f"'{text}'"
    if '"' not in text:
        return f'"{text}"'
    return "'" + text.replace("'", "\\'") + "'"


def read_value(value: Any, annotation: Any) -> Any:
    """Return a model's answer for one field as its type, by DSPy's rules.

    Args:
        value: Text (chat) or a JSON value (json, compact).
        annotation: The field's type.

    Raises:
        ValueError: The value is not of the type.
    """
    codec = codec_for(annotation)
    if codec and codec.read:
        return codec.read(value)
    if annotation is str:
        return str(value)
    if isinstance(annotation, enum.EnumMeta):
        return _member(annotation, value)
    if get_origin(annotation) is Literal:
        allowed = get_args(annotation)
        if value in allowed:
            return value
        if isinstance(value, str):
            value = _unwrapped(value)
            if value in allowed:
                return value
    return _coerced(value, annotation)


def _coerced(value: Any, annotation: Any) -> Any:
    if not isinstance(value, str):
        return validate(value, annotation)
    if get_origin(annotation) in (Union, types.UnionType) and {str, type(None)} <= set(get_args(annotation)):
        return validate(value, annotation)
    import json_repair

    candidate = json_repair.loads(value)  # "" where nothing could be read
    if candidate == "" and value:
        try:
            candidate = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            candidate = value
    return validate(candidate, annotation)


def _unwrapped(text: str) -> str:
    """Return the word inside what models write around a literal: blanks, `Literal[…]`, quotes."""
    text = text.strip()
    if text.startswith(("Literal[", "str[")) and text.endswith("]"):
        text = text[text.find("[") + 1 : -1]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return text


def _member(kind: enum.EnumMeta, value: Any) -> Any:
    """Return the enum's member with this value, else with this name."""
    for member in kind:  # type: ignore[var-annotated]
        if member.value == value:
            return member
    if isinstance(value, str) and value in kind.__members__:
        return kind[value]
    raise ValueError(f"{value} is not a valid name or value for the enum {kind.__name__}")
