"""How a type is written into a prompt and read back; a registry, so that other rooms can add types of their own."""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import json
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin
from weakref import WeakKeyDictionary

from dspex_nb.signatures.types import leaves


@dataclass(frozen=True, slots=True)
class Codec:
    """What a registered type does differently; what is left out keeps the general way.

    Attributes:
        write: Value → what JSON can hold.
        read: Text or JSON value → the typed value; raises ValueError where it cannot.
        name: How prompts name the type.
        note: What a prompt says about the value to produce, or an empty string for nothing.
        about: Gives what the list of fields says about the class, or an empty string.
        reminder: What the closing request says behind a field's name.
        as_written: Text that is not of the type once it is read as JSON is tried again as it stands.
        role: What the adapters do with a field of the type: `"history"`, `"tool"`, `"tool_calls"` or `"reasoning"`.
        give: Value → what the adapters send for its role: a history's turns, a tool's declaration.
        take: What a provider returned for the role → the value: tool calls in OpenAI's form, reasoning as text.
        accept: Type, what is given for an input, whether a text may name a file → the value.
    """

    write: Callable[[Any], Any] | None = None
    read: Callable[[Any], Any] | None = None
    name: str | None = None
    note: str | None = None
    about: Callable[[type], str] | None = None
    reminder: str | None = None
    as_written: bool = False
    role: str = ""
    give: Callable[[Any], Any] | None = None
    take: Callable[[Any], Any] | None = None
    accept: Callable[[Any, Any, bool], Any] | None = None


_codecs: dict[type, Codec] = {}
_packages: dict[str, Callable[[type], Codec | None]] = {}
_found: WeakKeyDictionary[type, Codec | None] = WeakKeyDictionary()


def register_codec(kind: type, codec: Codec) -> None:
    """Set how values of `kind` (and its subclasses) cross a prompt; replaces an earlier one."""
    _codecs[kind] = codec
    _found.clear()


def register_package(name: str, find: Callable[[type], Codec | None]) -> None:
    """Set who is asked for the codec of a class that stems from package `name`; it is first asked when such a class is met."""
    _packages[name] = find
    _found.clear()


def codec_for(annotation: Any) -> Codec | None:
    """Return the codec of the annotation's own class, or None."""
    if not isinstance(annotation, type):
        return None
    try:
        return _found[annotation]
    except KeyError:
        found = _found[annotation] = _look_up(annotation)
        return found


def registered(kind: type) -> Codec | None:
    """Return the codec that `register_codec` was given for the class or a base of it, or None."""
    return next((_codecs[base] for base in inspect.getmro(kind) if base in _codecs), None)


def _look_up(kind: type) -> Codec | None:
    finders = (_packages.get(base.__module__.partition(".")[0]) for base in inspect.getmro(kind))
    find = next((one for one in finders if one is not None), None)
    return registered(kind) or (find(kind) if find is not None else None)


def foreign_types(annotation: Any, known: Callable[[type], Codec | None] = registered) -> list[type]:
    """Return the classes inside a type that belong to DSPy and are not `known`, pydantic models' fields included."""
    found: list[type] = []
    seen: set[int] = set()
    waiting = list(leaves(annotation))
    while waiting:
        leaf = waiting.pop()
        if not inspect.isclass(leaf) or id(leaf) in seen or known(leaf) is not None:
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
    return reader_for(annotation)(value)


def reader_for(annotation: Any) -> Callable[[Any], Any]:
    """Return what `read_value` does for one type, so that the rules are looked up once."""
    codec = codec_for(annotation)
    if codec and codec.read:
        return codec.read
    if annotation is str:
        return str
    if isinstance(annotation, enum.EnumMeta):
        return functools.partial(_member, annotation)
    if get_origin(annotation) is Literal:
        return functools.partial(_literal, annotation)
    if get_origin(annotation) in (Union, types.UnionType) and {str, type(None)} <= set(get_args(annotation)):
        return functools.partial(validate, annotation=annotation)
    return functools.partial(_as_written if codec and codec.as_written else _coerced, annotation)


def _literal(annotation: Any, value: Any) -> Any:
    allowed = get_args(annotation)
    if value in allowed:
        return value
    if isinstance(value, str):
        value = _unwrapped(value)
        if value in allowed:
            return value
    return _coerced(annotation, value)


def _coerced(annotation: Any, value: Any) -> Any:
    return validate(_read_text(value) if isinstance(value, str) else value, annotation)


def _as_written(annotation: Any, value: Any) -> Any:
    if not isinstance(value, str):
        return validate(value, annotation)
    from pydantic import ValidationError

    try:
        return validate(_read_text(value), annotation)
    except ValidationError:
        return validate(value, annotation)


def _read_text(text: str) -> Any:
    """Return what a model's text holds: JSON, damaged or not, else a Python literal, else the text."""
    candidate = repaired(text)
    if candidate != "" or not text:
        return candidate
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def repaired(text: str) -> Any:
    """Return the JSON value in a text, small faults mended; an empty string where nothing could be read."""
    try:
        return json.loads(text)  # what json_repair tries first; without it, sound JSON costs microseconds
    except ValueError:
        import json_repair

        return json_repair.loads(text, skip_json_loads=True)


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
