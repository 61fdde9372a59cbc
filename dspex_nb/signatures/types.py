"""Types from text and back: read through Python's syntax tree with an allow list of names, never evaluated."""

from __future__ import annotations

import ast
import enum
import importlib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from dspex_nb.errors import did_you_mean

_BUILTINS: dict[str, Any] = {
    kind.__name__: kind for kind in (int, str, float, bool, list, tuple, dict, set, frozenset, complex, bytes, bytearray)
}
_TYPING: dict[str, Any] = {name: getattr(typing, name) for name in typing.__all__} | {"NoneType": type(None)}
_modules: dict[str, Callable[[], Any]] = {}


def register_module(name: str, load: Callable[[], Any] | None = None) -> None:
    """Let types be written as `name.X` without an import by the user; `load` returns the module."""
    _modules[name] = load or (lambda: importlib.import_module(name))


for _name in ("datetime", "decimal", "fractions", "ipaddress", "pathlib", "typing", "uuid"):
    register_module(_name)


class TypeReadError(Exception):
    """A type's text that cannot be read; the grammar turns it into a SignatureSyntaxError with line and caret."""

    def __init__(self, message: str, *, hint: str = "", offset: int = 0) -> None:
        super().__init__(message)
        self.message, self.hint, self.offset = message, hint, offset


def read_type(text: str, names: Mapping[str, Any] | None = None) -> Any:
    """Return the type that `text` names.

    Args:
        text: A Python type expression: `list[str]`, `Literal["a", "b"]`, `Optional[int]`, `datetime.date`, `MyModel`.
        names: What the user's names mean; they win over builtins where they are types.

    Raises:
        TypeReadError: Unknown name, or syntax that is no type; `offset` is the column within `text`.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        raise TypeReadError(f"expected a type, found {text.strip()!r}", hint="write e.g. 'urgency: int' or 'tags: list[str]'",
                            offset=_error_offset(text, error)) from None  # fmt: skip
    return _Reader(names or {}, text).read(tree.body)


def _error_offset(text: str, error: SyntaxError | ValueError) -> int:
    lead = len(text) - len(text.lstrip())
    column = error.offset if isinstance(error, SyntaxError) and error.lineno == 1 else None
    return min(lead + max((column or 1) - 1, 0), max(len(text) - 1, 0))


class _Reader:
    def __init__(self, names: Mapping[str, Any], text: str) -> None:
        self.names, self.text = names, text

    def fail(self, node: ast.expr, message: str, hint: str = "") -> TypeReadError:
        lead = len(self.text) - len(self.text.lstrip())
        lines = self.text.strip().split("\n")
        column = len(lines[node.lineno - 1].encode()[: node.col_offset].decode(errors="ignore"))
        return TypeReadError(message, hint=hint, offset=lead + sum(len(line) + 1 for line in lines[: node.lineno - 1]) + column)

    def read(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return self.constant(node)
        found = self.reference(node) if isinstance(node, ast.Name | ast.Attribute) else self.compound(node)
        if not is_type(found):
            raise self.fail(node, f"{ast.unparse(node)!r} is not a type but a {type(found).__name__}",
                            "a field's type is a class or e.g. list[str], Literal['a', 'b'], int | None")  # fmt: skip
        return found

    def constant(self, node: ast.Constant) -> Any:
        if node.value is None:
            return type(None)
        if isinstance(node.value, str):  # a forward reference: 'list[Item]'
            try:
                return read_type(node.value, self.names)
            except TypeReadError as error:
                raise self.fail(node, error.message, error.hint) from None
        raise self.fail(node, f"expected a type, found the value {node.value!r}", "values belong in Literal[...] or after '='")

    def reference(self, node: ast.expr) -> Any:
        """Return what a plain or dotted name means."""
        if isinstance(node, ast.Name):
            return self.name(node)
        if not isinstance(node, ast.Attribute):
            raise self.fail(
                node, f"expected a type, found {ast.unparse(node)!r}", "call and index expressions are not evaluated here"
            )
        owner = self.reference(node.value)
        public = [name for name in dir(owner) if not name.startswith("_")]
        if node.attr.startswith("_") or not isinstance(owner, types.ModuleType | type) or not hasattr(owner, node.attr):
            raise self.fail(node, f"{ast.unparse(node.value)!r} has no type {node.attr!r}", did_you_mean(node.attr, public))
        return getattr(owner, node.attr)

    def name(self, node: ast.Name) -> Any:
        given = self.names.get(node.id)
        if given is not None and (is_type(given) or isinstance(given, types.ModuleType)):
            return given
        for known in (_BUILTINS, _TYPING):
            if node.id in known:
                return known[node.id]
        if node.id in _modules:
            return _modules[node.id]()
        if given is not None:
            return given  # `read` says that it is a value, not a type
        mine = [name for name, value in self.names.items() if is_type(value) and not name.startswith("_")]
        hint = did_you_mean(node.id, [*_BUILTINS, *_common(), *mine]) or "define or import it in a cell above; "
        raise self.fail(node, f"unknown type {node.id!r}", hint + "builtins, typing's names and your own classes are known")

    def compound(self, node: ast.expr) -> Any:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return Union[self.read(node.left), self.read(node.right)]  # noqa: UP007 - `|` fails on text and generics of old typing
        if isinstance(node, ast.Subscript):
            return self.subscript(node)
        raise self.fail(
            node, f"expected a type, found {ast.unparse(node)!r}", "write e.g. list[str], Literal['a', 'b'], int | None"
        )

    def subscript(self, node: ast.Subscript) -> Any:
        base = self.reference(node.value)
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if base is Literal:
            return Literal[tuple(self.literal(item) for item in items)]
        if base is Annotated:
            raise self.fail(node, "Annotated[...] cannot be written as text", "use a class with InputField(ge=..., le=...)")
        args = tuple(... if isinstance(item, ast.Constant) and item.value is ... else self.read(item) for item in items)
        try:
            return base[args if len(args) > 1 else args[0]]
        except TypeError as error:
            raise self.fail(node, f"{ast.unparse(node)!r} is no type: {error}") from None

    def literal(self, node: ast.expr) -> Any:
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError):
            value = self.reference(node)
        if not isinstance(value, str | int | bytes | bool | enum.Enum | None):
            raise self.fail(
                node, f"Literal[...] takes strings, numbers, booleans and None, not {ast.unparse(node)!r}", "quote the words"
            )
        return value


def _common() -> list[str]:
    return ["Literal", "Optional", "Union", "Any", "List", "Dict", "Tuple", "Set", *_modules]


def is_type(value: Any) -> bool:
    """Whether `value` can annotate a field: a class, a generic alias, a union, `Any`."""
    # typing's aliases share no public base; an origin marks them all.
    return isinstance(value, type | types.UnionType) or get_origin(value) is not None or type(value).__module__ == "typing"


def leaves(annotation: Any) -> Iterator[Any]:
    """Yield the classes inside a type: `dict[str, list[Item]]` gives dict, str, list, Item."""
    origin = get_origin(annotation)
    if origin is Literal:
        return
    if origin is None:
        yield annotation
        return
    if isinstance(origin, type) and origin is not types.UnionType:
        yield origin
    for argument in get_args(annotation):
        if is_type(argument):
            yield from leaves(argument)


def allows_none(annotation: Any) -> bool:
    """Whether None is a value of the type (`str | None`, `Optional[int]`, None)."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return allows_none(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return any(allows_none(argument) for argument in get_args(annotation))
    return annotation is None or annotation is type(None)


def type_text(annotation: Any) -> str:
    """Return a type as it is written in a signature; `read_type` reads it back."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"Literal[{', '.join(_literal_text(value) for value in args)}]"
    if origin in (Union, types.UnionType):
        inner = [type_text(argument) for argument in args]
        if len(inner) == 2 and args[1] is type(None):  # noqa: PLR2004 - one type or None
            return f"Optional[{inner[0]}]"
        return f"Union[{', '.join(inner)}]"
    if origin is not None and args:
        base = getattr(annotation, "_name", None) or getattr(origin, "__name__", str(origin))
        return f"{base}[{', '.join('...' if argument is ... else type_text(argument) for argument in args)}]"
    if annotation is type(None):
        return "None"
    name = getattr(annotation, "__qualname__", None) or getattr(annotation, "_name", None) or str(annotation)
    module = getattr(annotation, "__module__", "")
    return f"{module}.{name}" if module in _modules and module != "typing" else str(name)


def _literal_text(value: Any) -> str:
    return f"{type(value).__qualname__}.{value.name}" if isinstance(value, enum.Enum) else repr(value)
