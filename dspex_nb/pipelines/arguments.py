"""`Argument` and `Call`: what a constructor is called with, before anything of the user's is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dspex_nb.pipelines.places import NOWHERE, Place
from dspex_nb.pipelines.targets import Parameters
from dspex_nb.signatures import MISSING


@dataclass(frozen=True, slots=True)
class BareName:
    """A name alone in an argument: a field if one has that name, else the user's variable (`value`, `MISSING` if none)."""

    name: str
    value: Any = MISSING


@dataclass(frozen=True, slots=True, eq=False)
class Deferred:
    """An expression of the cell, compiled, evaluated only after the whole cell was checked.

    Attributes:
        text: Its source.
        names: The names it needs from outside itself, each with whether the user has it.
        evaluate: Evaluates it in the user's namespace.
        parameters: A lambda's parameters, required or not; None for every other expression.
        predicate: Makes the expression a function of the given fields, for `when=`.
    """

    text: str
    names: Mapping[str, bool]
    evaluate: Callable[[], Any]
    parameters: Mapping[str, bool] | None
    predicate: Callable[[Sequence[str]], Deferred]


@dataclass(frozen=True, slots=True)
class Construct:
    """A module class, or what makes a retriever, to be called with `options` once the whole cell was checked."""

    cls: Callable[..., Any]
    options: Mapping[str, Argument]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The children of `parallel` where they are written as a list or as a dict; the labels of a list are None."""

    items: tuple[tuple[str | None, Argument], ...]


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument's value (plain, `FieldRef`, `BareName`, `Deferred`, `StepDraft`) and where it stands."""

    value: Any
    place: Place = NOWHERE

    @property
    def user(self) -> Any:
        """The value where no field is meant: a bare name is the user's variable."""
        return self.value.value if isinstance(self.value, BareName) else self.value

    @property
    def described(self) -> str:
        """The value in an error's words: `the expression 'f(x)'`, `a list`."""
        value = self.user
        return f"the expression {value.text!r}" if isinstance(value, Deferred) else f"a {type(value).__name__}"


@dataclass(frozen=True, slots=True)
class Call:
    """A constructor or a target as called: its arguments by position and by keyword, and where."""

    name: str
    args: tuple[Argument, ...]
    keywords: Mapping[str, Argument]
    place: Place = NOWHERE

    def refuse_more_than(self, count: int, expected: str) -> None:
        """Refuse further positional arguments."""
        if len(self.args) > count:
            raise self.args[count].place.syntax_error(
                f"{self.name}(...) takes {expected}, found a further argument",
                "give the others by name: field=value or option=value",
            )

    def first(self, expected: str) -> Argument:
        """Return the first positional argument, which must be there and, if it is a name, be known."""
        if not self.args:
            raise self.place.syntax_error(f"{self.name}(...) needs {expected}", f"write it first: {self.name}(..., ...)")
        argument = self.args[0]
        if isinstance(argument.value, BareName) and argument.user is MISSING:
            raise argument.place.syntax_error(
                f"{argument.value.name!r} is not defined", f"{self.name}(...) needs {expected}; define it in a cell above"
            )
        return argument

    def take_signature(self, position: int) -> tuple[Argument | None, Call]:
        """Return the signature given at `position` or by name, None if there is none, and the call without any of both."""
        written = self.args[position] if len(self.args) > position else self.keywords.get("signature")
        rest = {name: value for name, value in self.keywords.items() if name != "signature"}
        return written, replace(self, args=(), keywords=rest)

    def by_name(self, parameters: Parameters, described: str) -> Call:
        """Return the call with its positional arguments under their parameters' names."""
        if len(self.args) > len(parameters.items):
            expected = f"{len(parameters.items)} arguments ({', '.join(parameters.names) or 'none'})"
            raise self.args[len(parameters.items)].place.syntax_error(
                f"{described}() takes {expected}, found {len(self.args)}", "check the parameters"
            )
        keywords = dict(self.keywords)
        for item, argument in zip(parameters.items, self.args, strict=False):
            if item.name in keywords:
                raise argument.place.syntax_error(
                    f"{described}() is given {item.name!r} twice", "give it by position or by name, not both"
                )
            keywords[item.name] = argument
        return replace(self, args=(), keywords=keywords)
