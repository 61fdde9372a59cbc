"""Types from text and back: read through Python's syntax tree with an allow list of names, never evaluated."""

from __future__ import annotations

import ast
import enum
import importlib
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from dspex_nb.errors import did_you_mean
from dspex_nb.signatures.fields import MISSING, InputField, OutputField
from dspex_nb.signatures.names import Names, Readings

_BUILTINS: dict[str, Any] = {
    kind.__name__: kind for kind in (int, str, float, bool, list, tuple, dict, set, frozenset, complex, bytes, bytearray)
}
_TYPING: dict[str, Any] = {name: getattr(typing, name) for name in typing.__all__} | {"NoneType": type(None)}
_modules: dict[str, Callable[[], Any]] = {}
_bare: dict[str, str] = {}
_readings = Readings()
_DECLARING: dict[str, Callable[..., Any]] = {"InputField": InputField, "OutputField": OutputField}


def register_module(name: str, load: Callable[[], Any] | None = None, *, bare: Iterable[str] = ()) -> None:
    """Let types be written as `name.X` without an import by the user.

    Args:
        name: What stands before the dot.
        load: Returns the module; None imports `name`.
        bare: Types of the module that need no `name.` before them once it is loaded.
    """
    _modules[name] = load or (lambda: importlib.import_module(name))
    _bare.update(dict.fromkeys(bare, name))


for _name in ("datetime", "decimal", "fractions", "ipaddress", "pathlib", "typing", "uuid"):
    register_module(_name)


class TypeReadError(Exception):
    """A type's text that cannot be read; the grammar turns it into a SignatureSyntaxError with line and caret."""

    def __init__(self, message: str, *, hint: str = "", offset: int = 0) -> None:
        super().__init__(message)
        self.message, self.hint, self.offset = message, hint, offset


def read_type(text: str, names: Mapping[str, Any] | Names | None = None) -> Any:
    """Return the type that `text` names.

    Args:
        text: A Python type expression: `list[str]`, `Literal["a", "b"]`, `Optional[int]`, `datetime.date`, `MyModel`.
        names: What the user's names mean; they win over builtins where they are types.

    Raises:
        TypeReadError: Unknown name, or syntax that is no type; `offset` is the column within `text`.
    """
    if not isinstance(names, Names):
        names = Names(names or {})
    kept = _readings.find(text, names)
    if kept is not MISSING:
        return kept
    since = len(names.lookups)
    try:
        # Brackets let the expression go on over lines, as it does between a signature's commas.
        tree = ast.parse(f"({text.strip()}\n)", mode="eval").body
        kind = _plain_alias(_Reader(names, text).read(tree))
    except (SyntaxError, ValueError) as error:
        raise TypeReadError(f"expected a type, found {text.strip()!r}", hint="write e.g. 'urgency: int' or 'tags: list[str]'",
                            offset=_error_offset(text, error)) from None  # fmt: skip
    except (RecursionError, MemoryError):
        raise TypeReadError("the type is nested too deeply to be read", hint="name a part of it as a class") from None
    _readings.keep(text, names, since, kind)
    return kind


def _error_offset(text: str, error: SyntaxError | ValueError) -> int:
    lead = len(text) - len(text.lstrip())
    if not isinstance(error, SyntaxError) or not error.lineno:
        return lead
    lines = text.strip().split("\n")[: error.lineno - 1]
    column = (error.offset or 1) - 1 - (error.lineno == 1)  # the bracket before the text
    return max(0, min(lead + sum(len(line) + 1 for line in lines) + max(column, 0), len(text) - 1))


def _plain_alias(kind: Any) -> Any:
    """Return `list` for a bare `List`, and so on: DSPy takes the class, not the alias."""
    alias = type(kind).__module__ == "typing" and not get_args(kind) and isinstance(get_origin(kind), type)
    return get_origin(kind) if alias else kind


class _Reader:
    def __init__(self, names: Names, text: str) -> None:
        self.names, self.text = names, text

    def fail(self, node: ast.expr, message: str, hint: str = "") -> TypeReadError:
        lead = len(self.text) - len(self.text.lstrip())
        lines = self.text.strip().split("\n")
        line = lines[node.lineno - 1]
        column = len(line.encode()[: node.col_offset - (node.lineno == 1)].decode(errors="ignore"))
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

    def reference(self, node: ast.expr, *, owner: bool = False) -> Any:
        """Return what a plain or dotted name means; `owner` says that a dot follows it, so that it may be a module."""
        if isinstance(node, ast.Name):
            return self.name(node, owner=owner)
        if not isinstance(node, ast.Attribute):
            raise self.fail(
                node, f"expected a type, found {ast.unparse(node)!r}", "call and index expressions are not evaluated here"
            )
        base = self.reference(node.value, owner=True)
        found = MISSING if node.attr.startswith("__") else self.names.attribute(base, node.attr)
        if found is MISSING:
            public = [name for name in dir(base) if not name.startswith("_")]
            raise self.fail(
                node,
                f"{ast.unparse(node.value)!r} has no type {node.attr!r}",
                did_you_mean(node.attr, public) or "check its spelling",
            )
        return found

    def name(self, node: ast.Name, *, owner: bool) -> Any:
        given = self.names.get(node.id) if self.names.given or node.id not in _BUILTINS else MISSING
        if is_type(given) or isinstance(given, types.ModuleType):
            return given
        for known in (_BUILTINS, _TYPING):
            if node.id in known:
                return known[node.id]
        if owner and given is MISSING:
            return self.module(node)
        if node.id in _bare and (found := getattr(sys.modules.get(_bare[node.id]), node.id, None)) is not None:
            return found
        if given is not MISSING:
            return given  # `read` says that it is a value, not a type
        raise self.unknown(node)

    def module(self, node: ast.Name) -> Any:
        """Return a module by its name: a registered one, or as DSPy does, any that can be imported."""
        try:
            return _modules[node.id]() if node.id in _modules else importlib.import_module(node.id)
        except Exception:  # noqa: BLE001 - a module's own code may raise anything; the name then leads nowhere
            raise self.unknown(node) from None

    def unknown(self, node: ast.Name) -> TypeReadError:
        if node.id in _bare:
            return self.fail(node, f"unknown type {node.id!r}", f"write {_bare[node.id]}.{node.id}")
        mine = [name for name, value in self.names.nearest().items() if is_type(value) and not name.startswith("_")]
        hint = did_you_mean(node.id, [*_BUILTINS, *_common(), *mine]) or "define or import it in a cell above; "
        return self.fail(node, f"unknown type {node.id!r}", hint + "builtins, typing's names and your own classes are known")

    def compound(self, node: ast.expr) -> Any:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            sides = (self.read(node.left), self.read(node.right))
            return self.made(node, lambda: Union[sides])  # noqa: UP007 - `|` itself fails on text and generics of old typing
        if isinstance(node, ast.Subscript):
            return self.subscript(node)
        raise self.fail(
            node, f"expected a type, found {ast.unparse(node)!r}", "write e.g. list[str], Literal['a', 'b'], int | None"
        )

    def subscript(self, node: ast.Subscript) -> Any:
        base = self.reference(node.value)
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if base is Literal:
            return self.literals(node, items)
        if base is Annotated:
            notes = [note(item, self) for item in items[1:]]
            return self.made(node, lambda: Annotated[(self.read(items[0]), *notes)])
        args = tuple(self.argument(base, item) for item in items)
        return self.made(node, lambda: base[args[0] if len(args) == 1 else args])

    def made(self, node: ast.expr, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except (TypeError, ValueError, AttributeError) as error:
            raise self.fail(node, f"{ast.unparse(node)!r} is no type: {error}", "check what stands in its brackets") from None

    def argument(self, base: Any, node: ast.expr) -> Any:
        # `list[None]` keeps its None, as in Python; `dspy.Code["python"]` takes a word, where generics take types.
        kept = isinstance(node, ast.Constant) and (
            node.value is None or node.value is ... or (isinstance(node.value, str) and _takes_words(base))
        )
        return node.value if isinstance(node, ast.Constant) and kept else self.read(node)

    def literals(self, node: ast.Subscript, items: list[ast.expr]) -> Any:
        if not items:
            raise self.fail(node, "Literal[...] needs at least one value", "write e.g. Literal['yes', 'no']")
        return Literal[tuple(self.literal(item, items) for item in items)]

    def literal(self, node: ast.expr, items: list[ast.expr]) -> Any:
        if isinstance(node, ast.Subscript):
            value = self.subscript(node)
            if get_origin(value) is Literal:
                return value  # Python flattens one inside another
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError):
            value = self.word(node, items)
        if not isinstance(value, str | int | float | bytes | bool | enum.Enum | None):
            raise self.fail(
                node, f"Literal[...] takes strings, numbers, booleans and None, not {ast.unparse(node)!r}", "quote the words"
            )
        return value

    def word(self, node: ast.expr, items: list[ast.expr]) -> Any:
        """Return what a name inside `Literal[...]` means: an enum's member, or the user's constant."""
        try:
            return self.reference(node)
        except TypeReadError:
            if not isinstance(node, ast.Name):
                raise
            quoted = ", ".join(repr(item.id) if isinstance(item, ast.Name) else ast.unparse(item) for item in items)
            raise self.fail(node, f"unknown name {node.id!r} in Literal[...]", f"quote the words: Literal[{quoted}]") from None


def note(node: ast.expr, reader: _Reader) -> Any:
    """Return one item behind the type in `Annotated[...]`: a literal, `Field(ge=1)`, or what a name means."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        pass
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args):
        return reader.reference(node)
    options = {word.arg: note(word.value, reader) for word in node.keywords if word.arg}
    if node.func.id in _DECLARING:  # what a class body's annotations become under `from __future__ import annotations`
        return _DECLARING[node.func.id](**options)
    if node.func.id != "Field":
        raise reader.fail(node, f"expected a value, found {ast.unparse(node)!r}", "of all calls, Field(...) alone is read here")
    from pydantic import Field

    return reader.made(node, lambda: Field(**options))


def _takes_words(base: Any) -> bool:
    """Whether `base["word"]` means the word: a class with its own `[...]` that is not a generic of Python's."""
    return isinstance(base, type) and "__class_getitem__" in dir(base) and not hasattr(base, "__parameters__") and (
        base.__module__.partition(".")[0] not in ("builtins", "typing", "collections")
    )  # fmt: skip


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
        inner = ["None" if argument is type(None) else type_text(argument) for argument in args]
        if len(inner) == 2 and type(None) in args:  # noqa: PLR2004 - one type or None, which typing's cache may give in either order
            return f"Optional[{inner[args[0] is type(None)]}]"
        return f"Union[{', '.join(inner)}]"
    if origin is Annotated:
        return f"Annotated[{', '.join([type_text(args[0]), *(_note_text(note) for note in args[1:])])}]"
    if origin is not None and (args or isinstance(annotation, types.GenericAlias)):
        inner = ["..." if argument is ... else type_text(argument) for argument in args]
        return f"{_base_text(annotation, origin)}[{', '.join(inner) or '()'}]"
    return _name_text(annotation)


def _base_text(annotation: Any, origin: Any) -> str:
    if isinstance(annotation, types.GenericAlias) and origin.__module__ != "builtins":
        return f"{origin.__module__}.{origin.__qualname__}"
    return str(getattr(annotation, "_name", None) or getattr(origin, "__name__", origin))


def _name_text(annotation: Any) -> str:
    if annotation is None:
        return "None"
    name = getattr(annotation, "__qualname__", None) or getattr(annotation, "_name", None) or str(annotation)
    module = getattr(annotation, "__module__", "")
    return f"{module}.{name}" if module in _modules and module != "typing" else str(name)


def _literal_text(value: Any) -> str:
    return f"{type(value).__qualname__}.{value.name}" if isinstance(value, enum.Enum) else repr(value)


def _note_text(note: Any) -> str:
    """Return an item of `Annotated[...]` as text; pydantic's `Field(ge=1)` with the options it was given."""
    bounds = getattr(note, "metadata", None)
    if type(note).__name__ != "FieldInfo" or bounds is None:
        return repr(note)
    options = [f"{key}={value!r}" for key in ("title", "description", "examples") if (value := getattr(note, key)) is not None]
    options += [part for bound in bounds for part in re.findall(r"\((.*)\)$", repr(bound))]
    return f"Field({', '.join(options)})"
