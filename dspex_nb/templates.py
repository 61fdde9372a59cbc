"""Prompt templates: Jinja2 in its sandbox, every variable required, nothing loaded from disk."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from dspex_nb.errors import PipelineError, PipelineSyntaxError, did_you_mean

_LARGEST = 10_000_000  # characters or items that `*` and `**` may make in a template
_DOT = "·"  # Jinja2 compiles a variable to a Python name, which takes this one and no full stop


class Template:
    """A Jinja2 template whose undeclared variables are the fields it reads.

    Args:
        text: The template; `{{ name }}`, `{% if %}`, `{% for %}` and Jinja2's filters work, imports and includes find nothing.
        reached: Parts that are values of their own: with `"gist.reasoning"`, `{{ gist.reasoning }}` is what `render` is given
            under that key, whatever `gist` may be.

    Attributes:
        fields: The variables it needs, those of `reached` left out.
        parts: For each variable the names that follow it after a dot.

    Raises:
        PipelineSyntaxError: The text is no template; `line` counts within the template.
    """

    __slots__ = ("_compiled", "fields", "parts", "reached", "text")

    def __init__(self, text: str, reached: Iterable[str] = ()) -> None:
        import jinja2
        from jinja2 import meta

        environment = _environment()
        self.text, self.reached = text, tuple(reached)
        try:
            tree = environment.parse(text)
            found = meta.find_undeclared_variables(tree)
            self.parts: dict[str, tuple[str, ...]] = _parts(tree, found)
            if self.reached:
                tree = _reached(tree, self.reached)
                found = {name for name in meta.find_undeclared_variables(tree) if _DOT not in name}
            self.fields: tuple[str, ...] = tuple(sorted(found, key=lambda name: (text.find(name), name)))
            self._compiled = environment.from_string(tree)
        except jinja2.TemplateSyntaxError as error:
            raise _located(text, error.lineno, error.message or "not a template") from None
        except (RecursionError, SyntaxError, ValueError, OverflowError) as error:  # Jinja2 compiles to Python, which has limits
            raise _located(text, 1, f"not a template: {error}") from None

    def reaching(self, reached: Iterable[str]) -> Template:
        """Return the template with these parts as values of their own."""
        return Template(self.text, reached)

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the text with `values` filled in.

        Raises:
            PipelineError: A variable has no value, or the template does what the sandbox forbids.
        """
        import jinja2

        try:
            return str(self._compiled.render({name.replace(".", _DOT): value for name, value in values.items()}))
        except jinja2.UndefinedError as error:
            missing = [name for name in self.fields if name not in values]
            hint = (
                f"give {missing[0]!r} a value; {did_you_mean(missing[0], values)}" if missing else "check the names after the dot"
            )
            raise PipelineError(f"the template could not be filled: {error.message}", hint=hint) from None
        except jinja2.TemplateError as error:  # SecurityError among them; a missing include too
            hint = "templates run in Jinja2's sandbox"
            raise PipelineError(f"the template could not be filled: {error.message}", hint=hint) from None
        except Exception as error:  # a value's own code, or arithmetic on it
            reason = f"{type(error).__name__}: {error}"
            raise PipelineError(f"the template could not be filled: {reason}", hint="check what its fields hold") from error

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and (self.text, self.reached) == (other.text, other.reached)

    def __hash__(self) -> int:
        return hash(self.text)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Template, (self.text, self.reached))  # the compiled code does not cross processes; the text does


def _parts(tree: Any, names: set[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for node in _dotted(tree):
        if node.node.name in names:
            found.setdefault(node.node.name, {})[_part(node)] = None
    return {name: tuple(parts) for name, parts in found.items()}


def _reached(tree: Any, reached: tuple[str, ...]) -> Any:
    """Return the tree with `gist.reasoning` as one variable."""
    from jinja2 import nodes
    from jinja2.visitor import NodeTransformer

    wanted = {id(node) for node in _dotted(tree) if f"{node.node.name}.{_part(node)}" in reached}

    class Reaching(NodeTransformer):
        def generic_visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
            if id(node) in wanted:
                return nodes.Name(f"{node.node.name}{_DOT}{_part(node)}", "load", lineno=node.lineno)
            return super().generic_visit(node, *args, **kwargs)

    return Reaching().visit(tree)


def _dotted(tree: Any) -> list[Any]:
    """Return the nodes `name.part` and `name["part"]`."""
    from jinja2 import nodes

    return [
        node
        for node in tree.find_all((nodes.Getattr, nodes.Getitem))
        if isinstance(node.node, nodes.Name) and isinstance(_part(node), str)
    ]


def _part(node: Any) -> Any:
    return node.attr if hasattr(node, "attr") else getattr(node.arg, "value", None)


@functools.cache
def _environment() -> Any:
    from jinja2 import StrictUndefined
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import SandboxedEnvironment

    class Bounded(SandboxedEnvironment):
        # Jinja2's sandbox bounds `range`, not arithmetic.
        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if _grows(operator, left, right):
                raise SecurityError(f"{operator} would make more than {_LARGEST:,} characters")
            return super().call_binop(context, operator, left, right)

    environment = Bounded(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    environment.globals.clear()  # a field may be called `range` or `dict`; a template reads fields and nothing else
    return environment


def _grows(operator: str, left: Any, right: Any) -> bool:
    """Say whether an operation makes so long a value that it would hold up the notebook."""
    if operator == "**":
        return isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > 4 * _LARGEST
    for sequence, times in ((left, right), (right, left)):
        if isinstance(sequence, str | bytes | list | tuple) and isinstance(times, int):
            return len(sequence) * times > _LARGEST
    return False


def _located(text: str, line: int, reason: str) -> PipelineSyntaxError:
    lines = text.splitlines() or [""]
    found = lines[min(max(line, 1), len(lines)) - 1]
    column = max(found.find("{"), 0)
    return PipelineSyntaxError(
        f"template: {reason}",
        hint="write {{ name }} for a field, {% if name %}…{% endif %} for a choice",
        line=line,
        column=column,
        text=found,
    )
