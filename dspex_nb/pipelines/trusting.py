"""What a saved pipeline may name. Nothing in its file is run or imported unless the user says so.

Without being trusted a file may name: builtins that only compute, classes of DSPy that make modules or types, classes of a
few modules of types. `modules=` adds packages whose import the user allows, `names=` gives objects instead of what the file
says, and `trust=True` allows everything, the source it carries included.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib
import linecache
import pathlib
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dspex_nb.errors import DataError
from dspex_nb.pipelines.sources import import_line
from dspex_nb.signatures import MISSING

_COMPUTING = frozenset(
    """
    abs all any bool bytes complex dict divmod enumerate filter float frozenset hash int len list map max min ord pow range repr
    reversed round set slice sorted str sum tuple zip
    """.split()  # noqa: SIM905 - a list of words reads better so
)
_METHODS = frozenset(
    """
    capitalize casefold count endswith find index isalpha isdigit join lower lstrip partition removeprefix removesuffix replace
    rpartition rsplit rstrip split splitlines startswith strip title upper get keys values items copy union
    """.split()  # noqa: SIM905
)
_MODULE = "dspex_nb_saved"
_TYPE_MODULES = frozenset({"collections", "datetime", "decimal", "enum", "fractions", "ipaddress", "pathlib", "typing", "uuid"})


def mapping(value: Any, what: str, wrong: Callable[[str], DataError]) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        DataError: It is something else.
    """
    if not isinstance(value, Mapping):
        raise wrong(f"expected an object under {what!r}, found {kind_of_value(value)}")
    return dict(value)


class Outside:
    """The names of a file, found where the user allows.

    Args:
        saved: The file's content.
        file: What to call it.
        trust: Whether its source may be run and its imports made.
        modules: Modules and packages that it may import from.
        names: The user's objects, which go before what the file says.

    Raises:
        DataError: It needs what it is not trusted with, or what it must be given.
    """

    def __init__(
        self, saved: Mapping[str, Any], *, file: str, trust: bool, modules: tuple[str, ...], names: dict[str, Any]
    ) -> None:
        self.file, self.trust, self.modules, self.mine = file, trust, modules, names
        self.tables = {key: mapping(saved.get(key, {}), key, self.wrong) for key in ("names", "source", "given")}
        self.space: dict[str, Any] = {}
        self._check_given()
        self._check_source()
        self._import()
        self._define()
        self.types = _Types({**self.space, **names})

    def wrong(self, message: str, hint: str = "give a file that pipeline.save wrote") -> DataError:
        """Return the error of something in the file."""
        return DataError(f"{self.file}: {message}", hint=hint)

    def _check_given(self) -> None:
        missing = {name: kind for name, kind in self.tables["given"].items() if name not in self.mine}
        if missing:
            told = ", ".join(f"{name} ({kind})" for name, kind in missing.items())
            call = ", ".join(f"{name!r}: {name}" for name in missing)
            raise self.wrong(f"it needs {told}, which has no written form", f"give it: dx.load({self.file!r}, names={{{call}}})")

    def _check_source(self) -> None:
        held = [name for name in self.tables["source"] if name not in self.mine]
        if held and not self.trust:
            told = ", ".join(held)
            mine = ", ".join(f"{name!r}: {name}" for name in held[:3])
            raise self.wrong(
                f"it carries the source of {told}, which loading would run",
                f'read it under "source" there, then dx.load({self.file!r}, trust=True); or give your own: names={{{mine}}}',
            )

    def _import(self) -> None:
        needed = {name: origin for name, origin in self.tables["names"].items() if name not in self.mine}
        for name, origin in needed.items():
            if not isinstance(origin, str) or not name.replace(".", "").replace("_", "a").isalnum():
                raise self.wrong(f"the name {name!r} has no origin 'module:name'")
            module, _, attribute = origin.partition(":")
            if not (self.trust or self._allowed(module) or _root(module) in (*_TYPE_MODULES, "dspy")):
                raise self.wrong(
                    f"it takes {attribute or name!r} from the module {module!r}, and importing a module runs it",
                    f"if you know it: dx.load({self.file!r}, modules=[{_root(module)!r}]), or give names={{{name!r}: …}}",
                )
        for name, origin in needed.items():
            module, _, attribute = origin.partition(":")
            self.space[name] = self._imported(name, module, attribute)

    def _allowed(self, module: str) -> bool:
        return any(module == one or module.startswith(f"{one}.") for one in self.modules)

    def _imported(self, name: str, module: str, attribute: str) -> Any:
        try:
            found: Any = importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - a module's own code may raise anything
            raise self.wrong(
                f"{module!r} cannot be imported: {type(error).__name__}: {error}", f"install it, or give names={{{name!r}: …}}"
            ) from None
        if not attribute:
            if self.trust or self._allowed(module):
                return found
            return types.SimpleNamespace(**{key: one for key, one in vars(found).items() if _is_own_class(one, module)})
        found = getattr(found, attribute, MISSING)
        if found is MISSING:
            raise self.wrong(f"the module {module!r} has no {attribute!r}", f"give your own: names={{{name!r}: …}}")
        self._check(found, f"{module}:{attribute}")
        return found

    def _check(self, found: Any, origin: str) -> None:
        """Refuse what an allowed module only imported from elsewhere, and of DSPy and the modules of types all but classes."""
        if self.trust:
            return
        home = str(getattr(found, "__module__", None) or "")
        if self._allowed(home) and isinstance(found, type | types.FunctionType):
            return
        if isinstance(found, type) and (_root(home) in _TYPE_MODULES or (_root(home) == "dspy" and _is_dspys(found))):
            return
        allowed = f"modules=[{home!r}]" if home and not isinstance(found, types.ModuleType) else "trust=True"
        raise self.wrong(
            f"it takes {origin!r}, which is {kind_of_value(found)} of {home or 'no module'}",
            f"if you know it: dx.load({self.file!r}, {allowed})",
        )

    def _define(self) -> None:
        """Run the source of the notebook's functions, each as a file of its own, so that it can be exported again."""
        wanted = {name: lines for name, lines in self.tables["source"].items() if name not in self.mine}
        if not wanted:
            return
        space: dict[str, Any] = {name: getattr(typing, name) for name in typing.__all__}  # no file says where these are from
        space |= {"typing": typing, "__name__": _MODULE, "__builtins__": builtins}
        exec("import dspex_nb as dx", space)  # noqa: S102 - our own line
        for name, origin in self.tables["names"].items():
            exec(import_line(name, *origin.partition(":")[::2]), space)  # noqa: S102 - the user said trust=True
        space |= self.mine
        for name, lines in wanted.items():
            text = "\n".join(map(str, lines)) + "\n"
            place = f"<saved {self.file}: {name}>"
            linecache.cache[place] = (len(text), None, text.splitlines(keepends=True), place)
            try:
                with _as_module(space):
                    exec(compile(text, place, "exec"), space)  # noqa: S102 - the user said trust=True
            except Exception as error:
                raise self.wrong(
                    f"the source of {name!r} raised {type(error).__name__}: {error}", "mend it in the file"
                ) from error
            self.space[name] = space.get(name, MISSING)

    def name(self, text: Any) -> Any:
        """Return what a name of the file means: the user's object, the file's, or a builtin that only computes."""
        if not isinstance(text, str):
            raise self.wrong(f"expected a name, found {kind_of_value(text)}")
        root, *rest = text.split(".")
        if text in self.mine or text in self.space:
            return self.mine.get(text, self.space.get(text))
        if root in self.mine or root in self.space:
            found = self.mine.get(root, self.space.get(root))
        elif self.trust or root in _COMPUTING:
            found = getattr(builtins, root, MISSING)
        else:
            found = MISSING
        for part in rest:
            found = self._member(found, part, given=root in self.mine)
        if found is MISSING:
            raise self.wrong(f"it names {text!r}, which is not in its tables", f"give it: names={{{text!r}: …}}")
        return found

    def _member(self, owner: Any, part: str, *, given: bool) -> Any:
        """Return a member of a class, `MISSING` where the file may not have it.

        A class that a file may name has members that it may not, inherited ones too: `Path.write_text`; of DSPy's modules and
        types `load` and `parse_raw`, which read pickles. So it counts which class the member itself is from.
        """
        if self.trust:
            return getattr(owner, part, MISSING)
        holder = next((cls for cls in owner.__mro__ if part in vars(cls)), None) if isinstance(owner, type) else None
        if holder is None or part.startswith("_"):
            return MISSING
        home = holder.__module__
        if home == "builtins":
            fine = part in _METHODS
        elif _root(home) == "pathlib":
            fine = issubclass(pathlib.PurePath, holder)
        else:
            fine = _root(home) in _TYPE_MODULES or (given and home == owner.__module__)
        return getattr(owner, part, MISSING) if fine or self._allowed(home) else MISSING


@contextlib.contextmanager
def _as_module(space: dict[str, Any]) -> Iterator[None]:
    """Let there be a module of the source's names while it is run: a dataclass looks its own up.

    Afterwards there is none, so that what it defines travels to worker processes by value.
    """
    module = types.ModuleType(_MODULE)
    module.__dict__.update(space)
    sys.modules[_MODULE] = module
    try:
        yield
    finally:
        sys.modules.pop(_MODULE, None)


class _Types(Mapping[str, Any]):
    """The names that a file's types may use. Any other answers with what is no type, so that no module is imported for it."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known = dict(known)

    def __getitem__(self, name: str) -> Any:
        if name in self._known:
            return self._known[name]
        if hasattr(builtins, name) or name in typing.__all__ or name == "NoneType":
            raise KeyError(name)
        return _types_in(name) if name in _TYPE_MODULES else _NOT_A_TYPE

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __bool__(self) -> bool:
        return True  # an empty mapping is taken for none, and then any module's types would be found


class _NotAType:
    def __repr__(self) -> str:
        return "a name that the file does not explain"


_NOT_A_TYPE = _NotAType()


@functools.cache
def _types_in(module: str) -> types.SimpleNamespace:
    """Return the types of a module of types, without what it imported: `typing.sys.exit` could be a default's factory."""
    found = vars(importlib.import_module(module))
    own = {key: one for key, one in found.items() if _is_own_class(one, module) or (module == "typing" and key in typing.__all__)}
    return types.SimpleNamespace(**own, **({"abc": _types_in("collections.abc")} if module == "collections" else {}))


def _is_own_class(value: Any, module: str) -> bool:
    return isinstance(value, type) and _root(value.__module__) == _root(module)


def _is_dspys(cls: type) -> bool:
    """Whether a class of DSPy's is a module or a type of a field, and so does nothing when it is made."""
    return hasattr(cls, "named_predictors") or hasattr(cls, "model_fields")


def _root(module: str) -> str:
    return module.partition(".")[0]


def kind_of_value(value: Any) -> str:
    """Return what a value is, in an error's words."""
    return "nothing" if value is None else f"a {type(value).__name__}"
