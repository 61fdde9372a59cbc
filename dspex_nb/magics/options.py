"""Options in a cell's body: `name = value` lines, or Python that defines the metric."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dspex_nb.errors import MagicUsageError
from dspex_nb.magics.arguments import Arguments, Usage, unknown_option


def merged(usage: Usage, given: Arguments, cell: str | None, shell: Any) -> tuple[Arguments, Any]:
    """Return the line's options with the body's below them, and the metric that the body defines (or None).

    The body is the user's own Python. Lines `name = value` whose names are the magic's options set those.

    Raises:
        MagicUsageError: An empty or unreadable body.
    """
    if cell is None:
        return given, None
    if not cell.strip():
        raise MagicUsageError(
            f"the body of %{usage.magic} is empty",
            hint=f"define metric(example, prediction, trace=None), or use {usage.magic} on one line",
        )
    tree = _parsed(usage, cell)
    names = {option.name.replace("-", "_") for option in usage.options}
    values: dict[str, Any] = {}
    extra: dict[str, Any] = dict(given.extra)
    if all(isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) for node in tree.body):
        assigned = _run(cell, shell.user_ns)
        for name in (node.targets[0].id for node in tree.body):  # type: ignore[attr-defined]
            if name in names:
                values[name] = assigned[name]
            elif usage.extra:
                extra.setdefault(name, assigned[name])
            elif name != "metric":
                raise unknown_option(f"%{usage.magic}", name, sorted(names))
        metric = assigned.get("metric") if callable(assigned.get("metric")) else None
    else:
        metric = metric_in(_run(cell, shell.user_ns), tree, usage)
    return replace(given, values={**values, **given.values}, extra=extra), metric


def metric_in(assigned: Mapping[str, Any], tree: ast.Module, usage: Usage) -> Any:
    """Return the function the body defines: `metric`, else the last one.

    Raises:
        MagicUsageError: It defines none.
    """
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    if not functions:
        raise MagicUsageError(
            f"the body of %{usage.magic} defines no function", hint="write def metric(example, prediction, trace=None): return …"
        )
    return assigned["metric" if "metric" in functions else functions[-1]]


def _parsed(usage: Usage, cell: str) -> ast.Module:
    try:
        return ast.parse(cell)
    except SyntaxError as error:
        line = (error.text or "").rstrip()
        raise MagicUsageError(
            f"line {error.lineno} of the body: {error.msg}\n    {line}", hint=f"the body of %{usage.magic} is Python"
        ) from None


def _run(cell: str, namespace: dict[str, Any]) -> dict[str, Any]:
    """Run the user's own cell body in their namespace, as a cell would."""
    exec(compile(cell, "<cell body>", "exec"), namespace)  # noqa: S102 - the user's own code, typed into this cell
    return namespace
