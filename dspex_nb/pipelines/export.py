"""`to_python`: a pipeline as plain Python of the dspex_nb library, no magics and no notebook."""

from __future__ import annotations

import ast
from typing import Any

from dspex_nb.errors import PipelineError
from dspex_nb.pipelines.calls import ModuleRecipe, call_of
from dspex_nb.pipelines.records import InputSpec, PipelineSpec, Step
from dspex_nb.pipelines.secrecy import HOW_WITHOUT, holds_secret, refuse_secrets
from dspex_nb.pipelines.sources import Sources

_WIDTH = 110
_INDENT = "    "
_BRACKETS: dict[type[ast.expr], tuple[str, str]] = {ast.List: ("[", "]"), ast.Tuple: ("(", ")"), ast.Set: ("{", "}")}


def to_python(spec: PipelineSpec, recipe: ModuleRecipe = lambda _: None) -> str:
    """Return a Python file that makes the same pipeline; functions of the notebook are included as source.

    Args:
        spec: The pipeline.
        recipe: Says how a `dspy.Module` object that no cell wrote is made, where it can.

    Raises:
        PipelineError: Something in the pipeline has no source, such as a module object made in another cell, or is a secret.
    """
    sources = _PythonSources(recipe)
    body = sources.pipeline(spec)
    refuse_secrets(sources.definitions)
    variable = spec.name if spec.name.isidentifier() and spec.name not in ("dx", "dspex_nb") else "pipeline"
    if variable in sources.names:
        variable = f"{variable}_pipeline"
    assigned = f"{variable} = {_laid_out(ast.parse(body, mode='eval').body, '', len(variable) + 3)}"
    return f'"""The pipeline {spec.name!r}, exported by dspex_nb."""\n\n{sources.text()}\n\n{assigned}\n'


class _PythonSources(Sources):
    def __init__(self, recipe: ModuleRecipe) -> None:
        super().__init__()
        self.recipe = recipe

    def value(self, value: Any, where: str, text: str = "") -> str:
        return self.pipeline(value) if isinstance(value, PipelineSpec) else super().value(value, where, text)

    def argument(self, name: str, value: Any, where: str, text: str) -> str:
        if holds_secret(name, value):
            raise PipelineError(f"{where} holds a secret, which a file must not", hint=HOW_WITHOUT)
        return super().argument(name, value, where, text)

    def pipeline(self, spec: PipelineSpec) -> str:
        """Return the call of `dx.Pipeline` that makes it."""
        parts = [repr(spec.name)]
        for step in spec.steps:
            if step.name in ("inputs", "name", "self"):
                raise PipelineError(f"a step called {step.name!r} cannot be a keyword of dx.Pipeline", hint="rename the step")
            parts.append(f"{step.name}={self._step(step, spec)}")
        declared = [one for one in spec.inputs if one.declared]
        if declared:
            inside = ", ".join(f"{one.name!r}: {self._input(one)}" for one in declared)
            parts.append(f"inputs={{{inside}}}")
        return f"dx.Pipeline({', '.join(parts)})"

    def _step(self, step: Step, spec: PipelineSpec) -> str:
        made = call_of(step, spec, self.recipe)
        if step.kind == "pipeline" and not made.keywords:
            return self.pipeline(step.callable)
        return self.call(made, f"step {step.name!r}")

    def _input(self, one: InputSpec) -> str:
        written = self.type(one.type, f"input {one.name!r}")
        return written if one.required else f"({written}, {self.value(one.default, f'input {one.name!r}')})"


def _laid_out(node: ast.expr, indent: str, used: int) -> str:
    """Return an expression on one line if it fits, else with one part a line."""
    line = ast.unparse(node)
    if len(indent) + used + len(line) <= _WIDTH:
        return line
    deeper = indent + _INDENT
    if isinstance(node, ast.Call):
        parts = [_laid_out(one, deeper, 0) for one in node.args]
        parts += [f"{one.arg}={_laid_out(one.value, deeper, len(str(one.arg)) + 1)}" for one in node.keywords]
        opened, closed = f"{ast.unparse(node.func)}(", ")"
    elif isinstance(node, ast.Dict):
        pairs = [(ast.unparse(key), value) for key, value in zip(node.keys, node.values, strict=True) if key is not None]
        parts = [f"{key}: {_laid_out(value, deeper, len(key) + 2)}" for key, value in pairs]
        opened, closed = "{", "}"
    elif isinstance(node, ast.List | ast.Tuple | ast.Set):
        parts = [_laid_out(one, deeper, 0) for one in node.elts]
        opened, closed = _BRACKETS[type(node)]
    else:
        return line
    if not parts:
        return line
    inside = "".join(f"{deeper}{part},\n" for part in parts)
    return f"{opened}\n{inside}{indent}{closed}"
