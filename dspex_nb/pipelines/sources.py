"""Python source of the values a pipeline holds: imports where a value can be imported, its source where it cannot."""

from __future__ import annotations

import builtins
import enum
import inspect
import sys
import textwrap
import types
from collections.abc import Mapping
from typing import Any

from dspex_nb.errors import PipelineError
from dspex_nb.signatures import Signature
from dspex_nb.signatures.types import leaves, type_text
from dspex_nb.templates import Template


class Sources:
    """Collects what an exported file needs above its pipeline: imports, functions, classes, signatures, in order."""

    def __init__(self) -> None:
        self.imports: dict[str, None] = {}
        self.definitions: dict[str, str] = {}
        self.names: dict[str, Any] = {}

    def value(self, value: Any, where: str, text: str = "") -> str:  # noqa: PLR0911 - one return a kind of value
        """Return an expression that gives `value`; `text` is how the cell wrote it.

        Raises:
            PipelineError: The value has no source; `where` says whose it is.
        """
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return repr(value)
        if isinstance(value, Template):
            return repr(value.text)
        if isinstance(value, Signature):
            return self.signature(value, where)
        if isinstance(value, enum.Enum):
            return f"{self.named(type(value), where)}.{value.name}"
        if isinstance(value, list | tuple | set | Mapping):
            return self._container(value, where)
        if isinstance(value, types.ModuleType):
            self.imports[f"import {value.__name__}"] = None
            return value.__name__
        if isinstance(value, types.FunctionType) and value.__name__ == "<lambda>":
            return self._lambda(value, where, text)
        if callable(value) and hasattr(value, "__name__"):
            return self.named(value, where)
        raise PipelineError(
            f"{where} is a {type(value).__name__}, which has no source to write",
            hint="give it a name in a module of yours, or leave it out of the pipeline",
        )

    def _container(self, value: Any, where: str) -> str:
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{self.value(key, where)}: {self.value(item, where)}" for key, item in value.items()) + "}"
        items = ", ".join(self.value(item, where) for item in value)
        if isinstance(value, list):
            return f"[{items}]"
        if isinstance(value, set):
            return f"{{{items}}}" if value else "set()"
        return f"({items},)" if value else "()"

    def named(self, value: Any, where: str) -> str:
        """Return the name of a function or class, importing or defining it above."""
        name, module = getattr(value, "__qualname__", value.__name__), getattr(value, "__module__", None) or "builtins"
        if module == "builtins" and getattr(builtins, name, None) is value:
            return str(name)
        if _importable(value, module, name):
            root = name.partition(".")[0]
            self._claim(root, getattr(sys.modules[module], root), where)
            self.imports[f"from {module} import {root}"] = None
            return str(name)
        self._define(value, where)
        return str(value.__name__)

    def _define(self, value: Any, where: str) -> None:
        if value.__name__ in self.names and self.names[value.__name__] is value:
            return
        self._claim(value.__name__, value, where)
        try:
            source = textwrap.dedent(inspect.getsource(value))
        except (OSError, TypeError):
            raise PipelineError(
                f"{where}: the source of {value.__name__!r} cannot be read",
                hint="define it in a cell or a module, where its source is kept",
            ) from None
        self._needed(value, where)  # first what it needs, then itself
        self.definitions[value.__name__] = source.rstrip()

    def _needed(self, value: Any, where: str) -> None:
        """Bring along the globals that a function of the notebook uses."""
        functions = (
            [value]
            if isinstance(value, types.FunctionType)
            else [one for one in vars(value).values() if isinstance(one, types.FunctionType)]
        )
        for function in functions:
            annotated = [one for one in getattr(function, "__annotations__", {}).values() if not isinstance(one, str)]
            for one in annotated:
                self.type(one, where)
            for name in _names_in(function.__code__):
                if name in function.__globals__ and function.__globals__[name] is not value:
                    self.bring(name, function.__globals__[name], where)

    def bring(self, name: str, value: Any, where: str) -> None:
        """Make `name` mean `value` in the exported file."""
        if name in self.names and self.names[name] is value:
            return
        if isinstance(value, types.ModuleType):
            self.names[name] = value
            self.imports[f"import {value.__name__}" + ("" if value.__name__ == name else f" as {name}")] = None
            return
        text = self.value(value, f"{where} (its {name!r})")
        if text != name:
            self._claim(name, value, where)
            self.definitions[name] = f"{name} = {text}"

    def _lambda(self, value: types.FunctionType, where: str, text: str) -> str:
        if not text.startswith("lambda"):
            raise PipelineError(f"{where} is a lambda, which has no source to write", hint="define it with def in a cell above")
        for name in _names_in(value.__code__):
            if name in value.__globals__ and name not in vars(builtins):
                self.bring(name, value.__globals__[name], where)
        return f"({text})"

    def type(self, annotation: Any, where: str) -> str:
        """Return a type's text, bringing its classes along."""
        import typing

        if annotation is Any:
            self.imports["from typing import Any"] = None
            return "Any"
        text = type_text(annotation)
        for name in ("Literal", "Optional", "Union", *typing.__all__):
            if f"{name}" in text.replace("[", " ").replace("]", " ").replace(",", " ").split():
                self.imports[f"from typing import {name}"] = None
        for leaf in leaves(annotation):
            if isinstance(leaf, type) and leaf.__module__ not in ("builtins", "typing", "collections.abc"):
                if f"{leaf.__module__}.{leaf.__qualname__}" in text:
                    self.imports[f"import {leaf.__module__}"] = None
                else:
                    self.named(leaf, where)
        return text

    def signature(self, signature: Signature, where: str) -> str:
        """Return a signature: its one line where that says all, else a class defined above."""
        plain = all(_builtin(leaf) for one in signature.fields.values() for leaf in leaves(one.type))
        if plain and _reads_back(signature):
            return repr(signature.spec)
        name = signature.name if signature.name.isidentifier() else "MySignature"
        number = 2
        while name in self.names and self.names[name] != signature:
            name, number = f"{signature.name}{number}", number + 1
        if name not in self.names:
            self.names[name] = signature
            self.definitions[name] = self._class(name, signature, where)
        return name

    def _class(self, name: str, signature: Signature, where: str) -> str:
        lines = [f"class {name}(dx.Signature):", f"    {signature.instructions!r}", ""]
        for one in signature.fields.values():
            options = {"desc": one.desc} if one.desc else {}
            written = {**options, **one.rules, **one.extra, **({} if one.default is _missing() else {"default": one.default})}
            written.pop("description", None)
            if one.factory is not None:
                written["default_factory"] = one.factory
            inside = ", ".join(f"{key}={self.value(item, where)}" for key, item in written.items())
            kind = "InputField" if one.is_input else "OutputField"
            lines.append(f"    {one.name}: {self.type(one.type, where)} = dx.{kind}({inside})")
        return "\n".join(lines)

    def _claim(self, name: str, value: Any, where: str) -> None:
        if name in self.names and self.names[name] is not value:
            raise PipelineError(f"{where}: two different things are called {name!r}", hint="rename one of them")
        self.names[name] = value

    def text(self) -> str:
        """Return imports and definitions as the top of a file."""
        imports = sorted({"import dspex_nb as dx", *self.imports})
        return "\n".join(imports) + "\n" + "".join(f"\n\n{source}\n" for source in self.definitions.values())


def _missing() -> Any:
    from dspex_nb.signatures import MISSING

    return MISSING


def _builtin(leaf: Any) -> bool:
    return not isinstance(leaf, type) or leaf.__module__ in ("builtins", "typing", "datetime", "decimal", "uuid", "pathlib")


def _reads_back(signature: Signature) -> bool:
    try:
        return Signature(signature.spec).digest == signature.digest
    except Exception:  # noqa: BLE001 - a form the line cannot say: then the class form is written
        return False


def _importable(value: Any, module: str, name: str) -> bool:
    if module == "__main__" or "<" in name or module not in sys.modules or getattr(sys.modules[module], "__spec__", None) is None:
        return False
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def _names_in(code: types.CodeType) -> list[str]:
    inner = [name for constant in code.co_consts if isinstance(constant, types.CodeType) for name in _names_in(constant)]
    return list(dict.fromkeys((*code.co_names, *inner)))
