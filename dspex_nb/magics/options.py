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

    The body is the user's own Python. Lines `name = value` whose names are the magic's options set those, and a body of such
    lines alone leaves no variable behind; a body that defines a function runs as a cell does.

    Raises:
        MagicUsageError: An empty or unreadable body, or one that sets and defines nothing.
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
    nodes = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)]
    written = [node.targets[0].id for node in nodes]  # type: ignore[attr-defined]
    only_options = len(nodes) == len(tree.body)
    for name in written if only_options and not usage.extra else ():
        if name not in names and name != "metric":
            raise unknown_option(f"%{usage.magic}", name, sorted(names))
    assigned = _run(cell, dict(shell.user_ns) if only_options else shell.user_ns)
    values = {name: assigned[name] for name in written if name in names}
    more = {name: assigned[name] for name in written if name not in names and name != "metric"} if only_options else {}
    metric = assigned["metric"] if "metric" in written else _function_in(assigned, tree)
    if metric is None and not values and not more:
        raise MagicUsageError(
            f"the body of %{usage.magic} defines no function", hint="write def metric(example, prediction, trace=None): return …"
        )
    return replace(given, values={**values, **given.values}, extra={**more, **given.extra}), metric


def _function_in(assigned: Mapping[str, Any], tree: ast.Module) -> Any:
    """Return the function the body defines: `metric`, else the last one, else None."""
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return assigned["metric" if "metric" in functions else functions[-1]] if functions else None


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
