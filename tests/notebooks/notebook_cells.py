"""Run a notebook of this repository in a real kernel, and look at what its cells show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def execute(name: str, folder: Path, last_cell: str = "") -> Any:
    """Return the executed notebook; `last_cell` is run behind its own cells and prints what a test wants to know."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    if last_cell:
        notebook.cells.append(nbformat.v4.new_code_cell(last_cell))
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def code_cells(notebook: Any) -> list[Any]:
    """Return its code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def cell_with(notebook: Any, text: str) -> Any:
    """Return the one code cell that is `text`, or else holds it."""
    cells = code_cells(notebook)
    found = [cell for cell in cells if cell.source == text] or [cell for cell in cells if text in cell.source]
    assert len(found) == 1, f"{len(found)} cells hold {text!r}"
    return found[0]


def shown(cell: Any, mime: str = "text/plain") -> str:
    """Return all that a cell shows of one mime type; what it printed counts as plain text."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream" and mime == "text/plain":
            parts.append(output.text)
        elif mime in output.get("data", {}):
            parts.append(str(output.data[mime]))
    return "\n".join(parts)


RUNS = """
import json
import dspex_nb as dx
_store = dx.session().store
_store.flush()
print(json.dumps({
    row.name: dx.load_run(row.run_id).metrics.reset_index().to_dict("records")
    for row in sorted(_store.runs("pipeline"), key=lambda row: row.started)
}))
"""
"""A cell that prints the metrics of the latest run of each pipeline, as the run store kept them."""


def steps_by_run(notebook: Any) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what the cell `RUNS` at the end of a notebook printed: run name, step name, the step's metrics."""
    told = json.loads(code_cells(notebook)[-1].outputs[-1].text)
    return {run: {row["step"]: row for row in rows} for run, rows in told.items()}


def assert_ran(notebook: Any) -> None:
    """Every code cell has run, and none ended with an error."""
    assert all(cell.execution_count for cell in code_cells(notebook))
    assert [one for cell in code_cells(notebook) for one in cell.outputs if one.output_type == "error"] == []
