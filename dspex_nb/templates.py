"""Prompt templates: Jinja2 in its sandbox, every variable required, nothing loaded from disk."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from dspex_nb.errors import PipelineError, PipelineSyntaxError, did_you_mean


class Template:
    """A Jinja2 template whose undeclared variables are the fields it reads.

    Args:
        text: The template; `{{ name }}`, `{% if %}`, `{% for %}` and Jinja2's filters work, imports and includes find nothing.

    Raises:
        PipelineSyntaxError: The text is no template; `line` counts within the template.
    """

    __slots__ = ("_compiled", "fields", "text")

    def __init__(self, text: str) -> None:
        import jinja2
        from jinja2 import meta

        environment = _environment()
        self.text = text
        try:
            tree = environment.parse(text)
            found = meta.find_undeclared_variables(tree)
            self.fields: tuple[str, ...] = tuple(sorted(found, key=lambda name: (text.find(name), name)))
            self._compiled = environment.from_string(text)
        except jinja2.TemplateSyntaxError as error:
            raise _located(text, error.lineno, error.message or "not a template") from None
        except (RecursionError, SyntaxError, ValueError, OverflowError) as error:  # Jinja2 compiles to Python, which has limits
            raise _located(text, 1, f"not a template: {error}") from None

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the text with `values` filled in.

        Raises:
            PipelineError: A variable has no value, or the template does what the sandbox forbids.
        """
        import jinja2

        try:
            return str(self._compiled.render(dict(values)))
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
        return isinstance(other, Template) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Template, (self.text,))  # the compiled code does not cross processes; the text does


@functools.cache
def _environment() -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    environment.globals.clear()  # a field may be called `range` or `dict`; a template reads fields and nothing else
    return environment


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
