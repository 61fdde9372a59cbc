"""What each engine can do, by operation: the table that routes are decided by and that `dx.routes()` shows."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from dspex_nb.adapters import DSPY_ADAPTERS
from dspex_nb.pipelines.options import ADVANCED
from dspex_nb.pipelines.records import Step

NATIVE_ADAPTERS = ("chat", "json", "compact")
_ALL_ADAPTERS = (*NATIVE_ADAPTERS, *DSPY_ADAPTERS)


@dataclass(frozen=True, slots=True)
class Capability:
    """What one engine can do in one operation.

    Attributes:
        types: The field types it serves: `"all"`, `"exact"` (those that its adapter serves byte for byte as DSPy), or `""`.
        tools: Takes tools: fields of tools and tool calls, or `tools=` of an agent.
        demos: Takes few-shot examples.
        streaming: Gives its output field by field while it comes.
        structured_output: Asks for JSON by a schema where the server takes one.
        reasoning_extraction: Takes a reasoning model's own reasoning.
        adapters: The names it serves.
        n: Gives several candidates.
        multimodal: Takes images, audio and files.
    """

    operation: str
    engine: str
    types: str = ""
    tools: bool = False
    demos: bool = False
    streaming: bool = False
    structured_output: bool = False
    reasoning_extraction: bool = False
    adapters: tuple[str, ...] = ()
    n: bool = False
    multimodal: bool = False


def _native(operation: str, **more: Any) -> Capability:
    given: dict[str, Any] = {
        "types": "exact", "demos": True, "structured_output": True, "adapters": NATIVE_ADAPTERS, "multimodal": True, **more,
    }  # fmt: skip
    return Capability(operation, "native", **given)


def _dspy(operation: str, **more: Any) -> Capability:
    given: dict[str, Any] = {"types": "all", "structured_output": True, "adapters": _ALL_ADAPTERS, "multimodal": True, **more}
    return Capability(operation, "dspy", **given)


_ROWS = (
    _native("predict", tools=True, streaming=True, n=True, reasoning_extraction=True),
    _dspy("predict", tools=True, demos=True, n=True, reasoning_extraction=True),
    _native("chain_of_thought", tools=True, streaming=True, n=True),
    _dspy("chain_of_thought", tools=True, demos=True, n=True, reasoning_extraction=True),
    _native("multi_chain_comparison by votes"),
    _dspy("multi_chain_comparison by votes", demos=True),
    _dspy("multi_chain_comparison"),
    _dspy("react", tools=True),
    _dspy("react_v2", tools=True),
    _dspy("program_of_thought"),
    _dspy("code_act", tools=True),
    _dspy("rlm", tools=True),
    _dspy("best_of_n", demos=True),
    _dspy("refine", demos=True),
    _dspy("knn", demos=True),
    _dspy("module", tools=True, demos=True, n=True),
    Capability("template that calls", "native"),
    Capability("template", "python"),
    Capability("function", "python", types="all"),
    Capability("reduce", "python", types="all"),
    Capability("parallel", "python", types="all"),
    Capability("pipeline", "python", types="all"),
    Capability("retriever", "python"),
    Capability("colbertv2", "python"),
    Capability("rerank", "python"),
    Capability("respond", "python"),
)
TABLE: Mapping[tuple[str, str], Capability] = {(row.operation, row.engine): row for row in _ROWS}
"""Each operation and engine, and what it can do; a pair that is not there cannot be."""


class Routes:
    """The table of capabilities, one row an operation and engine; prints as a table."""

    def __iter__(self) -> Iterator[Capability]:
        return iter(TABLE.values())

    def __getitem__(self, key: tuple[str, str]) -> Capability:
        return TABLE[key]

    def _cells(self) -> list[list[str]]:
        names = [one.name for one in fields(Capability)]
        return [[name.replace("_", " ") for name in names], *([_cell(getattr(row, name)) for name in names] for row in self)]

    def __str__(self) -> str:
        rows = self._cells()
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, *rows = ([html.escape(cell) for cell in row] for row in self._cells())
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        return f"<table><thead><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr></thead><tbody>{body}</tbody></table>"


def routes() -> Routes:
    """Return what each engine can do, by operation: the table that routes are decided by."""
    return Routes()


def operation_of(step: Step) -> str:
    """Return the row of the table that a step is served by."""
    if step.kind == "multi_chain_comparison" and votes(step):
        return "multi_chain_comparison by votes"
    return "template that calls" if step.kind == "template" and step.options.get("call") else step.kind


def votes(step: Step) -> bool:
    """Return whether a `multi_chain_comparison` step counts votes, instead of letting the model compare the chains."""
    return step.options.get("aggregation") in ("majority", "weighted_vote")


def advanced(step: Step) -> bool:
    """Return whether a chain of thought asks for what only DSPy's module has."""
    return any(step.options.get(name) for name in ADVANCED)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "-"
    return (", ".join(value) if isinstance(value, tuple) else str(value)) or "-"
