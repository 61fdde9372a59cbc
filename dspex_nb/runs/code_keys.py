"""Keys of functions: their code, the values and functions they read, their defaults; the same in every kernel.

A function's code is its syntax tree without docstrings, comments and line numbers. It is taken from the source only if that
source, compiled again, gives the very code that runs (a file may have been edited since it was imported); otherwise, and for
lambdas, the bytecode stands for it.
"""

from __future__ import annotations

import ast
import builtins
import dis
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import site
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dspex_nb.runs.contents import Parts, Unkeyable, parts_of

_DEFS = ast.FunctionDef | ast.AsyncFunctionDef
_FUTURES = 0x1FF0000  # co_flags of `from __future__` imports, which compile() takes back
_READS = {"LOAD_GLOBAL", "LOAD_NAME"}
_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD"}
_CODE_OR_CONSTANT = (
    types.FunctionType, type, types.ModuleType, functools.partial, types.MethodType, str, int, float, bool, type(None),
)  # fmt: skip
_MADE_BY_PYTHON = frozenset({
    "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__",
    "__abstractmethods__", "_abc_impl", "__annotations_cache__", "__annotate_func__", "__match_args__", "__slots__",
})  # fmt: skip


def key_of(*values: Any, data: bool = True) -> str:
    """Return the key of values and functions: 64 hex digits.

    Args:
        values: What the key is of.
        data: Whether all values that functions read count; without, only code and constants do, and nothing is refused.

    Raises:
        Unkeyable: Something has no key; the message says what.
    """
    keyer = _Keyer(data)
    try:
        for value in values:
            keyer.feed(value)
    except RecursionError:
        raise Unkeyable("a value that holds itself, or is nested too deep") from None
    except Unkeyable:
        raise
    except Exception as error:  # the user's own objects: reading one may raise anything
        raise Unkeyable(f"a value that cannot be read: {type(error).__name__}: {error}") from error
    return keyer.hash.hexdigest()


class _Read(NamedTuple):
    """A value that a function reads by name."""

    owner: str
    name: str
    value: Any


class _Keyer:
    """Feeds a hash with the parts of values."""

    def __init__(self, data: bool) -> None:  # noqa: FBT001 - handed on from the keyword of `key_of`
        self.hash = hashlib.sha256()
        self.data = data
        self.seen: dict[int, int] = {}
        self.alive: list[Any] = []  # a freed object's id would be given to another

    def feed(self, value: Any) -> None:
        if type(value) in (str, bytes):
            raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
            self.hash.update(b"%c%d:" % (98 if isinstance(value, bytes) else 115, len(raw)))
            self.hash.update(raw)
            return
        if type(value) in (set, frozenset):
            self._head(type(value).__name__, len(value))
            for digest in sorted(key_of(item, data=self.data) for item in value):
                self.feed(digest)
            return
        if type(value) is _Read:
            self.feed(value.name)
            try:
                self.feed(value.value if self.data or isinstance(value.value, _CODE_OR_CONSTANT) else _kind(value.value))
            except Unkeyable as why:
                raise Unkeyable(f"{value.owner}() reads {value.name!r}: {why}") from None
            return
        if isinstance(value, types.FunctionType | type | types.ModuleType | types.CodeType):
            if id(value) in self.seen:  # met before, or a function that calls itself
                self._head("again", self.seen[id(value)])
                return
            self.seen[id(value)] = len(self.seen)
            self.alive.append(value)
        tag, parts = self._parts(value)
        self._head(tag, len(parts))
        for part in parts:
            self.feed(part)

    def _head(self, tag: str, count: int) -> None:
        self.hash.update(b"(%s %d)" % (tag.encode(), count))

    def _parts(self, value: Any) -> Parts:
        if (found := _of_code(value, self.data)) is not None:
            return found
        if not self.data and not isinstance(value, tuple | list | dict):
            try:
                return parts_of(value) or _kind(value)
            except Unkeyable:
                return _kind(value)
        found = parts_of(value)
        if found is None:
            found = _own_key(value)
        if found is None:
            raise Unkeyable(f"a {type(value).__module__}.{type(value).__qualname__}, whose content cannot be told")
        return found


def _kind(value: Any) -> Parts:
    return "kind", (type(value).__module__, type(value).__qualname__)


def _own_key(value: Any) -> Parts | None:
    """Return the key of a retriever: its index's version."""
    version = getattr(value, "version", None) if callable(getattr(type(value), "search", None)) else None
    return ("index", (type(value).__module__, type(value).__qualname__, version)) if isinstance(version, str) else None


def _of_code(value: Any, data: bool) -> Parts | None:  # noqa: C901, FBT001, PLR0911 - one return a kind of callable
    if isinstance(value, types.FunctionType):
        return _of_function(value, data)
    if isinstance(value, types.ModuleType):
        return "module", (value.__name__, _version(value.__name__))
    if isinstance(value, types.CodeType):
        return "bytecode", _bytecode(value)
    if isinstance(value, functools.partial):
        return "partial", (value.func, value.args, value.keywords)
    if isinstance(value, types.MethodType):
        return "method", (value.__func__, value.__self__)
    if isinstance(value, type):
        return _of_class(value)
    if isinstance(value, staticmethod | classmethod):
        return type(value).__name__, (value.__func__,)
    if isinstance(value, property):
        return "property", (value.fget, value.fset)
    if isinstance(value, types.BuiltinFunctionType | types.MethodDescriptorType | types.WrapperDescriptorType):
        return _of_builtin(value)
    if isinstance(value, types.GenericAlias | types.UnionType) or type(value).__module__ == "typing":
        return "annotation", (repr(value),)
    if hasattr(value, "__wrapped__") and callable(value):  # functools.cache and its kin
        return "wrapped", (type(value).__qualname__, value.__wrapped__)
    if type(value).__module__ == "numpy" and type(value).__qualname__ == "ufunc":
        return "ufunc", (value.__name__, _version("numpy"))
    return None


def _of_builtin(value: Any) -> Parts:
    owner = getattr(value, "__self__", None)
    if owner is None or isinstance(owner, types.ModuleType | type):
        return "builtin", (value.__qualname__, _version(getattr(value, "__module__", None) or "builtins"))
    return "bound", (value.__name__, owner)


def _of_function(function: types.FunctionType, data: bool) -> Parts:  # noqa: FBT001
    if (version := library(function.__module__)) is not None and _findable(function):
        return "library", (function.__module__, function.__qualname__, version)
    cells: list[tuple[str, Any]] = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            cells.append((name, cell.cell_contents))
        except ValueError:  # not assigned yet
            cells.append((name, "unassigned"))
    read = [_Read(function.__name__, name, value) for name, value in (*cells, *_reads(function, data))]
    return "function", (code_digest(function.__code__), function.__defaults__, function.__kwdefaults__, *read)


def _findable(function: Any) -> bool:
    """Whether module and name lead to this very function: one made inside another is known by its code only."""
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function or getattr(found, "__wrapped__", None) is function or getattr(found, "__func__", None) is function


def _of_class(value: type) -> Parts:
    version = library(value.__module__)
    if version is not None:
        return "class", (value.__module__, value.__qualname__, version)
    own = {name: item for name, item in vars(value).items() if name not in _MADE_BY_PYTHON}
    if hasattr(value, "model_json_schema"):  # a pydantic model: its schema says its fields, its functions the rest
        functions = (types.FunctionType, classmethod, staticmethod, property)
        own = {name: item for name, item in own.items() if isinstance(item, functions) and not name.startswith("__pydantic")}
        return "model class", (value.__qualname__, value.model_json_schema(), own, *value.__bases__)
    own = {name: item for name, item in own.items() if not isinstance(item, types.MemberDescriptorType)}
    return "own class", (value.__qualname__, {name: _annotation(item) for name, item in own.items()}, *value.__bases__)


def _annotation(item: Any) -> Any:
    return repr(item) if isinstance(item, types.GetSetDescriptorType) or type(item).__module__ == "dataclasses" else item


def _reads(function: types.FunctionType, data: bool) -> Iterator[tuple[str, Any]]:  # noqa: FBT001
    """Yield what a function reads from its globals, by name; of its own modules, the parts it names."""
    scope = function.__globals__
    for names in _global_names(function.__code__):
        name, *attributes = names
        if name.startswith("import "):
            yield name, _imported(name.removeprefix("import "), data)
            continue
        if name not in scope:
            yield name, "builtin" if hasattr(builtins, name) else "missing"
            continue
        value = scope[name]
        while isinstance(value, types.ModuleType) and library(value.__name__) is None:
            if not attributes:
                if not data:
                    break
                raise Unkeyable(f"{function.__name__}() hands on the module {value.__name__!r}, which may change")
            name, value = f"{name}.{attributes[0]}", getattr(value, attributes.pop(0), "missing")
        yield name, value


def _imported(module: str, data: bool) -> str:  # noqa: FBT001
    version = library(module)
    if version is None and not data:
        return "own"
    if version is None:
        raise Unkeyable(f"it imports {module!r}, code of your own, inside the function: import it above")
    return version


@functools.lru_cache(maxsize=4096)
def _global_names(code: types.CodeType) -> tuple[tuple[str, ...], ...]:
    """Return the global names that code reads, each with the attributes taken from it right away."""
    found: dict[tuple[str, ...], None] = {}
    instructions = list(dis.get_instructions(code))
    for at, one in enumerate(instructions):
        if one.opname in _READS:
            chain = [str(one.argval)]
            for after in instructions[at + 1 :]:
                if after.opname not in _ATTRIBUTES:
                    break
                chain.append(str(after.argval))
            found[tuple(chain)] = None
        elif one.opname == "IMPORT_NAME":
            found[(f"import {one.argval}",)] = None
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            found.update(dict.fromkeys(_global_names(inner)))
    return tuple(found)


@functools.lru_cache(maxsize=4096)
def code_digest(code: types.CodeType) -> str:
    """Return the digest of a function's code: of its syntax tree where its source is known for certain, else of its bytecode."""
    tree = _tree(code)
    text = ast.dump(tree) if tree is not None else key_of(*_bytecode(code))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _tree(code: types.CodeType) -> ast.AST | None:
    if code.co_name == "<lambda>":  # two may share a line
        return None
    try:
        lines, _ = inspect.findsource(code)
        source = "".join(lines)
        whole, codes = _compiled(source, code.co_flags & _FUTURES)
        if code not in codes:
            return None
        node = next(
            node
            for node in ast.walk(whole)
            if isinstance(node, _DEFS)
            and node.name == code.co_name
            and min([node.lineno, *(one.lineno for one in node.decorator_list)]) == code.co_firstlineno
        )
    except (OSError, TypeError, SyntaxError, ValueError, StopIteration, RecursionError, IndexError):
        return None
    node = ast.parse(ast.unparse(node)).body[0]  # type: ignore[assignment]  # a copy that may be changed; the whole tree is kept
    assert isinstance(node, _DEFS)  # noqa: S101 - it was one
    node.decorator_list = []  # what a decorator did is seen in the function it gave
    return _without_docstrings(node)


@functools.lru_cache(maxsize=64)
def _compiled(source: str, flags: int) -> tuple[ast.Module, frozenset[types.CodeType]]:
    whole = ast.parse(source)
    top = compile(source, "<again>", "exec", flags=flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return whole, frozenset(_inner(top))


def _inner(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _inner(constant)


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, _DEFS | ast.ClassDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _bytecode(code: types.CodeType) -> tuple[Any, ...]:
    return (
        sys.version_info[:2], code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars,
        code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags,
    )  # fmt: skip


# Libraries


def _version(module: str) -> str:
    return library(module) or "own"


@functools.lru_cache(maxsize=4096)
def library(module: str | None) -> str | None:
    """Return the version of the installed library that a module belongs to; None for the user's own code."""
    top = (module or "__main__").partition(".")[0]
    if top == "__main__":
        return None
    if top in sys.stdlib_module_names:
        return "python {}.{}".format(*sys.version_info[:2])
    if top == "dspex_nb" or _is_installed(top):
        return _distribution_version(top)
    return None


def _is_installed(top: str) -> bool:
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return False
    origin = None if spec is None else spec.origin or next(iter(spec.submodule_search_locations or ()), None)
    if origin is None:
        return False
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages(), *site.getsitepackages()}
    return any(Path(origin).is_relative_to(folder) for folder in folders if folder)


def _distribution_version(top: str) -> str:
    try:
        return f"{top} {importlib.metadata.version(top)}"
    except importlib.metadata.PackageNotFoundError:
        pass
    said = getattr(sys.modules.get(top), "__version__", None)
    if isinstance(said, str):
        return f"{top} {said}"
    names = importlib.metadata.packages_distributions().get(top, [])
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(set(names))) or top
