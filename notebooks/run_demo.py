"""Execute the quickstart in a real kernel, say how it goes, and end with a table. `make demo` calls this."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent
FIGURES = """
import json
from dspex_nb import session
ledger = session().ledger
print(json.dumps({
    "examples": before.interval.n,
    "before": [before.score, before.interval.low, before.interval.high],
    "after": [after.score, after.interval.low, after.interval.high],
    "trials": result.trials,
    "status": result.status,
    "improved": (result.best_score or 0) > (result.start_score or 0),
    "calls": ledger.calls,
    "hits": ledger.cache_hits,
    "tokens": ledger.prompt_tokens + ledger.completion_tokens,
}))
"""


def title_of(cell: Any) -> str:
    """Return a code cell's first telling line."""
    lines = [line for line in cell.source.splitlines() if line.strip() and not line.startswith(("import ", "from ", "%load_ext"))]
    return (lines or [cell.source])[0][:86]


class Demo(NotebookClient):  # type: ignore[misc]
    """Executes a notebook and prints a line a cell."""

    began = 0.0
    number = 0

    async def async_execute_cell(self, cell: Any, cell_index: int, **options: Any) -> Any:
        """Execute one cell, with a line before and its seconds after."""
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            print(f"\n{cell.source.splitlines()[0].lstrip('# ')}", flush=True)
        if cell.cell_type != "code":
            return await super().async_execute_cell(cell, cell_index, **options)
        started = time.perf_counter()
        print(f"  {title_of(cell):<88}", end="", flush=True)
        try:
            return await super().async_execute_cell(cell, cell_index, **options)
        finally:
            print(f"{time.perf_counter() - started:6.1f} s", flush=True)


def figures_of(notebook: Any) -> dict[str, Any]:
    """Return what the appended cell printed, and take that cell away again."""
    cell = notebook.cells.pop()
    text = "".join(output.get("text", "") for output in cell.outputs if output.output_type == "stream")
    return dict(json.loads(text.strip().splitlines()[-1]))


def table(found: dict[str, Any], seconds: float) -> str:
    """Return the closing table."""
    score = lambda name: "{:.3f}  (95% CI {:.3f} to {:.3f})".format(*found[name])
    better = "a better" if found["improved"] else "no better"
    rows = [
        ("held-out examples", str(found["examples"])),
        ("accuracy before", score("before")),
        ("accuracy after", score("after")),
        ("study", f"{found['status']}, {found['trials']} trials; {better} program found"),
        ("LM calls", f"{found['calls']:,}"),
        ("cache hits", f"{found['hits']:,}"),
        ("tokens", f"{found['tokens']:,}"),
        ("seconds", f"{seconds:.0f}"),
    ]
    return "\n".join(f"  {name:<20}{value}" for name, value in rows)


def main() -> int:
    """Run the demo; returns the exit code."""
    home = Path(os.environ.get("DSPEX_HOME") or Path.home() / ".dspex_nb")
    home.mkdir(parents=True, exist_ok=True)
    target = home / "01_quickstart.executed.ipynb"
    notebook = nbformat.read(HERE / "01_quickstart.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(FIGURES))
    started = time.perf_counter()
    print("The quickstart on the embedded model; the first run asks it some hundred times, later ones use the cache.")
    failed = None
    try:
        # Widget state would make viewers ask the network for widgets; without it they show the HTML.
        Demo(
            notebook, timeout=900, kernel_name="python3", store_widget_state=False, resources={"metadata": {"path": str(home)}}
        ).execute()
    except CellExecutionError as error:
        failed = str(error)
    found = figures_of(notebook) if failed is None else None
    nbformat.write(notebook, target)
    if found is None:
        print(f"\n{failed}\nThe notebook as far as it came: {target}", file=sys.stderr)
        return 1
    print(f"\n{table(found, time.perf_counter() - started)}\n\n  executed notebook   {os.path.relpath(target)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
