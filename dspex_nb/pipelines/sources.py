"""Python source of the values a pipeline holds: imports where a value can be imported, its source where it cannot."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import dis
import enum
import inspect
import linecache
import reprlib
import sys
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from dspex_nb.errors import PipelineError
from dspex_nb.examples import Example
from dspex_nb.pipelines.calls import Made, Reading
from dspex_nb.signatures import MISSING, Signature
from dspex_nb.signatures.types import leaves, type_text
from dspex_nb.templates import Template

_PLAIN_MODULES = ("builtins", "typing", "datetime", "decimal", "uuid", "pathlib")
_WRITABLE = (bool, int, float, str, bytes)
_MADE = frozenset({"<string>", dataclasses.__file__, reprlib.__file__})
"""Where the methods come from that a dataclass or a named tuple gets, whose source is the class's own."""
_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})


class Sources:
    """Collects what an exported file needs above its pipeline: imports, functions, classes, signatures, in order.

    Attributes:
        imports: Each imported name with its module and the name there (`""`: the module itself).
        definitions: Each defined name with its source, those it needs before it.
        names: What each name means.
    """

    def __init__(self) -> None:
        self.imports: dict[str, tuple[str, str]] = {}
        self.definitions: dict[str, str] = {}
        self.names: dict[str, Any] = {}

    # Values as Python expressions

    def value(self, value: Any, where: str, text: str = "") -> str:  # noqa: PLR0911 - one return a kind of value
        """Return an expression that gives `value`; `text` is how the cell wrote it.

        Raises:
            PipelineError: The value has no source; `where` says whose it is.
        """
        if value is None or (isinstance(value, _WRITABLE) and not isinstance(value, enum.Enum)):
            return repr(value) if repr(value) not in ("inf", "-inf", "nan") else f"float({repr(value)!r})"
        written = self._of_ours(value, where)
        if written is not None:
            return written
        if isinstance(value, enum.Enum):
            return f"{self.named(type(value), where)}.{value.name}"
        if isinstance(value, list | tuple | set | frozenset | Mapping):
            return self._container(value, where)
        if hasattr(value, "model_dump") and not isinstance(value, type):
            return f"{self.named(type(value), where)}.model_validate({self.value(value.model_dump(mode='json'), where)})"
        if isinstance(value, types.FunctionType) and value.__name__ == "<lambda>":
            return f"({self.lambda_text(value, where, text)})"
        if isinstance(value, types.ModuleType) or (callable(value) and hasattr(value, "__name__")):
            return self.named(value, where)
        raise PipelineError(
            f"{where} is a {type(value).__name__} object, whose making is not written in the pipeline", hint=_how_to_write(value)
        )

    def _of_ours(self, value: Any, where: str) -> str | None:  # noqa: PLR0911 - likewise
        if isinstance(value, Reading):
            return f"dx.field({value.text!r})"
        if isinstance(value, Made):
            return self.call(value, where)
        if isinstance(value, Template):
            return repr(value.text)
        if isinstance(value, Signature):
            return self.signature(value, where)
        if isinstance(value, Example):
            keys = "" if value.input_keys is None else f", {sorted(value.input_keys)!r}"
            return f"dx.Example({self.value(dict(value), where)}{keys})"
        if hasattr(value, "toDict") and hasattr(value, "with_inputs"):  # dspy.Example, without importing dspy
            inputs = getattr(value, "_input_keys", None)
            told = "" if inputs is None else f".with_inputs({', '.join(map(repr, sorted(inputs)))})"
            return f"{self.named(type(value), where)}({self._keywords(value.toDict(), where)}){told}"
        return None

    def call(self, made: Made, where: str) -> str:
        """Return a constructor's call."""
        args = [self.value(value, where, made.texts.get("", "")) for value in made.args]
        return f"dx.{made.constructor}({', '.join([*args, *self._arguments(made.keywords, where, made.texts)])})"

    def _arguments(self, keywords: Mapping[str, Any], where: str, texts: Mapping[str, str]) -> Iterator[str]:
        for name, value in keywords.items():
            yield f"{name}={self.argument(name, value, f'{where}, {name}=', texts.get(name, ''))}"

    def argument(self, name: str, value: Any, where: str, text: str) -> str:  # noqa: ARG002 - for those who look at names
        """Return the expression of a keyword's value."""
        return self.value(value, where, text)

    def _keywords(self, keywords: Mapping[str, Any], where: str) -> str:
        return ", ".join(f"{name}={self.value(value, f'{where}, {name}=')}" for name, value in keywords.items())

    def _container(self, value: Any, where: str) -> str:
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{self.value(key, where)}: {self.value(item, where)}" for key, item in value.items()) + "}"
        items = ", ".join(self.value(item, where) for item in value)
        if isinstance(value, list):
            return f"[{items}]"
        if isinstance(value, tuple):
            return f"({items},)" if value else "()"
        if isinstance(value, frozenset):
            return f"frozenset([{items}])"
        return f"{{{items}}}" if value else "set()"

    # Names

    def named(self, value: Any, where: str) -> str:
        """Return the name of a function, class or module, importing or defining it above."""
        if isinstance(value, types.ModuleType):
            root = value.__name__.partition(".")[0]
            self._claim(root, sys.modules[root], where)
            self.imports[value.__name__] = (value.__name__, "")
            return value.__name__
        name, module = getattr(value, "__qualname__", value.__name__), getattr(value, "__module__", None) or "builtins"
        if getattr(value, "__objclass__", None) is not None:  # a method of a builtin class, str.split
            module = value.__objclass__.__module__
        if module == "builtins" and getattr(builtins, name.partition(".")[0], None) is not None:
            return str(name)
        if _importable(value, module, name):
            root = name.partition(".")[0]
            self._claim(root, getattr(sys.modules[module], root), where)
            self.imports[root] = (module, root)
            return str(name)
        self._define(value, where)
        return str(value.__name__)

    def _define(self, value: Any, where: str) -> None:
        if value.__name__ in self.names and self.names[value.__name__] is value:
            return
        self._claim(value.__name__, value, where)
        source = source_of(value)
        if source is None:
            raise PipelineError(
                f"{where}: the source of {value.__name__!r} cannot be read",
                hint="define it in a cell or a module, where its source is kept",
            )
        inside = value if isinstance(value, type) else inspect.unwrap(value)
        if inside is not value and not source.startswith("@"):
            raise PipelineError(
                f"{where}: {value.__name__!r} was wrapped by a call, which its source does not say",
                hint="write what wraps it as a decorator above its def, or define a function that calls it",
            )
        if _is_decorated_away(value):
            raise PipelineError(
                f"{where}: the decorator of {value.__name__!r} puts another function in its place",
                hint="write @functools.wraps(…) above that one, in the decorator",
            )
        self._needed(inside, source, where, value)  # first what it needs, then itself
        self.definitions[value.__name__] = source

    def _needed(self, value: Any, source: str, where: str, named: Any) -> None:
        """Bring along the names of the notebook that a function or a class uses; `named` is what its name means."""
        inside = [value] if isinstance(value, types.FunctionType) else _functions_in(value)
        spaces = {id(one.__globals__): one.__globals__ for one in inside} or {0: vars(sys.modules.get(value.__module__, types))}
        for function in inside:
            for name, held in _around(function):
                if held is not named:
                    self.bring(name, held, where)
        for space in spaces.values():
            for name in _names_at_definition(source):
                if name in space and space[name] is not named:
                    self.bring(name, space[name], where)

    def bring(self, name: str, value: Any, where: str) -> None:
        """Make `name` mean `value` in the exported file."""
        if name in self.names and self.names[name] is value:
            return
        if isinstance(value, types.ModuleType):
            self._claim(name, value, where)
            self.imports[name] = (value.__name__, "")
            return
        text = self.value(value, f"{where} (its {name!r})")
        if text != name:
            self._claim(name, value, where)
            self.definitions[name] = f"{name} = {text}"

    def lambda_text(self, value: types.FunctionType, where: str, text: str) -> str:
        """Return a lambda's source, bringing along what it uses.

        Raises:
            PipelineError: Its source is not kept.
        """
        if not text.startswith("lambda"):
            text = _lambda_of(value)
        if not text:
            raise PipelineError(f"{where} is a lambda, which has no source to write", hint="define it with def in a cell above")
        for name, held in _around(value):
            self.bring(name, held, where)
        return text

    def _claim(self, name: str, value: Any, where: str) -> None:
        if name in self.names and self.names[name] is not value:
            raise PipelineError(f"{where}: two different things are called {name!r}", hint="rename one of them")
        self.names[name] = value

    # Types and signatures

    def type(self, annotation: Any, where: str) -> str:
        """Return a type's text, bringing its classes along."""
        if annotation is Any:
            self.imports["Any"] = ("typing", "Any")
            return "Any"
        text = type_text(annotation)
        words = set(text.replace("[", " ").replace("]", " ").replace(",", " ").split())
        for name in sorted(words & set(typing.__all__)):
            self.imports[name] = ("typing", name)
        for leaf in leaves(annotation):
            if isinstance(leaf, type) and leaf.__module__ not in ("builtins", "typing", "collections.abc"):
                if f"{leaf.__module__}.{leaf.__qualname__}" in text:
                    self.imports[leaf.__module__] = (leaf.__module__, "")
                else:
                    self.named(leaf, where)
        return text

    def signature(self, signature: Signature, where: str) -> str:
        """Return a signature: its one line where that says all, else a class defined above."""
        if is_one_line(signature):
            return repr(signature.spec)
        name = signature.name if signature.name.isidentifier() and signature.name != "StringSignature" else "MySignature"
        first, number = name, 2
        while name in self.names and self.names[name] != signature:
            name, number = f"{first}{number}", number + 1
        if name not in self.names:
            self.names[name] = signature
            self.definitions[name] = self._class(name, signature, where)
        return name

    def _class(self, name: str, signature: Signature, where: str) -> str:
        lines = [f"class {name}(dx.Signature):", f"    {_docstring(signature.instructions)}", ""]
        for one in signature.fields.values():
            options = {"desc": one.desc} if one.desc else {}
            written = {**options, **one.rules, **one.extra, **({} if one.default is MISSING else {"default": one.default})}
            written.pop("description", None)
            if one.factory is not None:
                written["default_factory"] = one.factory
            kind = "InputField" if one.is_input else "OutputField"
            lines.append(f"    {one.name}: {self.type(one.type, where)} = dx.{kind}({self._keywords(written, where)})")
        return "\n".join(lines)

    def text(self) -> str:
        """Return imports and definitions as the top of a file."""
        imports = sorted({"import dspex_nb as dx", *(import_line(name, *origin) for name, origin in self.imports.items())})
        return "\n".join(imports) + "\n" + "".join(f"\n\n{source}\n" for source in self.definitions.values())


def import_line(name: str, module: str, attribute: str) -> str:
    """Return the statement that makes `name` mean `module.attribute`, or the module itself."""
    if attribute:
        return f"from {module} import {attribute}" + ("" if attribute == name else f" as {name}")
    return f"import {module}" + ("" if module == name else f" as {name}")


def is_one_line(signature: Signature) -> bool:
    """Whether DSPy's one line says all of a signature."""
    if not all(_builtin(leaf) for one in signature.fields.values() for leaf in leaves(one.type)):
        return False
    try:
        return Signature(signature.spec, types={}).digest == signature.digest
    except Exception:  # noqa: BLE001 - a form the line cannot say: then the class form is written
        return False


def source_of(value: Any) -> str | None:
    """Return the source of a function or class, None where it is not kept; classes of cells are searched for in the cells."""
    try:
        return textwrap.dedent(inspect.getsource(value)).rstrip()
    except (OSError, TypeError):
        return _class_in_cells(value) if isinstance(value, type) else None


def _is_decorated_away(value: Any) -> bool:
    """Whether a function's own name means one around it: its source, decorator and all, would be applied twice."""
    if not isinstance(value, types.FunctionType):
        return False
    found = value.__globals__.get(value.__name__)
    if not isinstance(found, types.FunctionType) or inspect.unwrap(found) is value:
        return False
    return any(held is value for _, held in _around(found))


def _class_in_cells(cls: type) -> str | None:
    """Return the last cell's definition of a class: Python cannot say where a class of `__main__` was defined."""
    for file, *_ in reversed(list(linecache.cache.items())):
        if "ipykernel_" not in file and not file.startswith("<ipython-input"):
            continue
        text = "".join(linecache.getlines(file))
        for node in _tree(text).body:
            if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
                first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
                return "\n".join([*text.splitlines()[first - 1 : node.lineno - 1], ast.get_source_segment(text, node) or ""])
    return None


def _tree(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _lambda_of(value: types.FunctionType) -> str:
    """Return a lambda's text out of the file that holds it, empty unless exactly one there can be it."""
    code = value.__code__
    tree = _tree("".join(linecache.getlines(code.co_filename)))
    found = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno and _same_code(node, code)
    ]
    return found[0] if len(set(found)) == 1 else ""


def _same_code(node: ast.Lambda, code: types.CodeType) -> bool:
    made = compile(ast.Expression(node), "<lambda>", "eval").co_consts
    inner = next((one for one in made if isinstance(one, types.CodeType)), None)
    return inner is not None and (inner.co_varnames, inner.co_names, inner.co_consts) == (
        code.co_varnames, code.co_names, code.co_consts,
    )  # fmt: skip


def _around(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the names from outside that a function's body uses, each with its value: globals, and what it closed over."""
    for name in _names_in(function.__code__):
        if name in function.__globals__ and name not in vars(builtins):
            yield name, function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        if name != "__class__":
            yield name, cell.cell_contents


def _names_in(code: types.CodeType) -> list[str]:
    """Return the globals that code reads; an attribute's name, which `co_names` holds too, is no global of that name."""
    own = [str(one.argval) for one in dis.get_instructions(code) if one.opname in _READS]
    inner = [name for constant in code.co_consts if isinstance(constant, types.CodeType) for name in _names_in(constant)]
    return list(dict.fromkeys((*own, *inner)))


def _names_at_definition(source: str) -> Iterator[str]:
    """Yield the names that are needed when a definition is run: decorators, defaults, annotations, bases, a class's own lines."""
    for node in ast.walk(_tree(source)):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            parts = [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults, node.returns]
            parts += [one.annotation for one in arguments if one is not None]
        elif isinstance(node, ast.ClassDef):
            lines = [one for one in node.body if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
            parts = [*node.decorator_list, *node.bases, *(one.value for one in node.keywords), *lines]
        for part in parts:
            yield from _read_in(part) if part is not None else ()


def _read_in(part: ast.AST) -> Iterator[str]:
    return (one.id for one in ast.walk(part) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load))


def _functions_in(cls: type) -> list[types.FunctionType]:
    members = (getattr(one, "__func__", getattr(one, "fget", one)) for one in vars(cls).values())
    own = (inspect.unwrap(one) for one in members if isinstance(one, types.FunctionType) and one.__module__ == cls.__module__)
    return [one for one in own if one.__code__.co_filename not in _MADE]


def _docstring(text: str) -> str:
    plain = text.isprintable() and '"' not in text and "\\" not in text
    return f'"""{text}"""' if plain else repr(text)


def _builtin(leaf: Any) -> bool:
    return not isinstance(leaf, type) or leaf.__module__ in _PLAIN_MODULES


def _importable(value: Any, module: str, name: str) -> bool:
    if module == "__main__" or "<" in name or module not in sys.modules or getattr(sys.modules[module], "__spec__", None) is None:
        return False
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def _how_to_write(value: Any) -> str:
    name = type(value).__name__
    if hasattr(value, "named_predictors"):
        return f"write {name}(...) in the cell, as a step of its own, so that it can be made again"
    return "give what makes it instead of the object, make it in a module of yours and name it from there, or leave it out"
